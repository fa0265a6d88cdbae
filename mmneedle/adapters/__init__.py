"""Models behind one interface: `create("provider/name")` makes an adapter.

Each provider is a module, imported only when asked for, so that its SDK may be missing. Another
package adds a provider by an entry point of the group `mmneedle.adapters`, named as the provider
and leading to a function `create(name, options) -> Adapter`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from mmneedle.errors import UserError
from mmneedle.types import Adapter

Create = Callable[[str, Mapping[str, Any]], Adapter]
"""(name, options) -> adapter. Raises UserError for a wrong name, option or key."""

GROUP = "mmneedle.adapters"
"""Entry points of this group are providers."""


class Provider(NamedTuple):
    """A provider of our own."""

    module: str
    """Has a function `create`."""
    extra: str | None = None
    """What `pip install "mmneedle[extra]"` brings for it; None if it needs nothing."""
    connections: int = 16
    """Requests at once, where nobody says how many: as its adapters have it."""


_PACKAGES = {"google": "google-genai", "google.genai": "google-genai"}
"""What pip calls a module's package, where it has another name."""
_MAKERS = {"gpt": "openai", "chatgpt": "openai", "claude": "anthropic", "gemini": "google"}
"""Families of models, and the provider that was meant where one stands in its place."""
_ADAPTER = ("model", "wants_images", "generate", "fingerprint", "aclose")
PROVIDERS: dict[str, Provider] = {
    "baseline": Provider("mmneedle.adapters.baselines"),
    "onnx": Provider("mmneedle.adapters.onnx", "onnx", 2),
    "vllm": Provider("mmneedle.adapters.vllm", "vllm", 256),
    "openai": Provider("mmneedle.adapters.openai", "openai"),
    "azure": Provider("mmneedle.adapters.azure", "openai"),
    "anthropic": Provider("mmneedle.adapters.anthropic", "anthropic"),
    "google": Provider("mmneedle.adapters.google", "google"),
    "hf": Provider("mmneedle.adapters.hf", "hf", 24),
}


def create(model: str, **options: Any) -> Adapter:
    """Make the adapter for a model string.

    Args:
        model: "provider/name", with options after a question mark if need be, such as
            baseline/noisy?p=0.8 or openai/gpt-4o?temperature=0.
        options: more of them; None stands for the default.

    Raises:
        UserError: an unknown provider, name or option, a missing package or key.
    """
    path, merged = read_model(model, options)
    provider, _, name = path.partition("/")
    load = _find(provider)
    assert load is not None  # read_model has found it
    return load(path)(name, merged)


def read_model(model: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A model string's "provider/name" and all options, its own and those given beside it.

    Raises:
        UserError: an unknown provider, no name, an option given twice.
    """
    path, _, query = model.partition("?")
    provider, _, name = path.partition("/")
    if not name or _find(provider) is None:
        raise UserError(_unknown(path, {*PROVIDERS, *_others()}))
    for text in (model, *map(str, options.values())):
        if not is_text(text):
            raise UserError(f"{text!r}: holds characters that are no text (half of a surrogate)")
    merged = _query(path, query)
    if "base_url" in merged:  # names stand in logs and folders, and an address may hold a password
        raise UserError(f"{path}: give the server's address as --base-url, not in the model's name")
    for key, value in options.items():
        if value is not None:
            if key in merged:
                raise UserError(f"{key} is given twice, in the model's name and as an option")
            merged[key] = value
    return path, merged


def connections(model: str) -> int:
    """Requests at once that a run of this model string takes by itself; loads no package."""
    provider = PROVIDERS.get(model.partition("/")[0])
    return Provider("").connections if provider is None else provider.connections


def _query(path: str, query: str) -> dict[str, Any]:
    """The options after a model string's question mark."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise UserError(f"{path!r}: options look like ?p=0.8&seed=1") from None
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key in merged:
            raise UserError(f"{path}: {key} is given twice in the model's name")
        merged[key] = value
    return merged


def is_text(text: str) -> bool:
    """Whether a text has an encoding: bytes of the command line that are none do not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unknown(path: str, known: Iterable[str]) -> str:
    """What to say of a model string whose provider nobody knows."""
    provider, slash, name = path.partition("/")
    names = sorted(known)
    makers = [maker for family, maker in _MAKERS.items() if provider.lower().startswith(family)]
    near = get_close_matches(provider.lower(), names, 1) or makers
    model = name if slash else provider if makers else "NAME"
    hint = f" (did you mean {near[0]}/{model or 'NAME'}?)" if near else ""
    return f"no model {path!r}{hint}; known are {', '.join(f'{one}/NAME' for one in names)}"


def _find(provider: str) -> Callable[[str], Create] | None:
    """What loads a provider for a model string, ours first: others' take a look at all packages."""
    if provider in PROVIDERS:
        return _own(PROVIDERS[provider])
    points = _others().get(provider)
    return _plugin(points) if points else None


def _others() -> dict[str, list[EntryPoint]]:
    """The providers that packages add."""
    others: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        others.setdefault(point.name, []).append(point)
    return others


def _own(provider: Provider) -> Callable[[str], Create]:
    def load(model: str) -> Create:
        try:
            create: Create = import_module(provider.module).create
        except ModuleNotFoundError as error:
            if provider.extra is None or (error.name or "").startswith("mmneedle"):
                raise
            package = _PACKAGES.get(error.name or "", error.name)
            raise UserError(
                f'{model} needs the package {package}: pip install "mmneedle[{provider.extra}]"'
            ) from None
        return create

    return load


def _plugin(points: list[EntryPoint]) -> Callable[[str], Create]:
    """A provider of another package. What is wrong with it is told as the package's fault."""
    names = sorted({point.dist.name if point.dist else point.value for point in points})

    def load(model: str) -> Create:
        if len(names) > 1:
            raise UserError(f"{model}: the packages {' and '.join(names)} both add this provider")
        made = _Blame(f"{model}: the package {names[0]} adds this provider, but it cannot be")
        with made.when("loaded"):
            make: Create = points[0].load()

        def create(name: str, given: Mapping[str, Any]) -> Adapter:
            with made.when("made"):
                adapter = make(name, given)
                missing = [part for part in _ADAPTER if not hasattr(adapter, part)]
                if missing:
                    raise TypeError(f"{type(adapter).__name__} has no {', '.join(missing)}")
            return adapter

        return create

    return load


class _Blame(NamedTuple):
    """Turns what a package's code raises into one line that names the package."""

    whom: str

    @contextmanager
    def when(self, what: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(f"{self.whom} {what} ({reason})") from None
