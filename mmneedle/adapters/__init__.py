"""Models behind one interface: `create("provider/name")` makes an adapter.

Each provider is a module, imported only when asked for, so that its SDK may be missing.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from mmneedle.errors import UserError
from mmneedle.types import Adapter


def create(model: str, **options: Any) -> Adapter:
    """Make the adapter for a model string.

    Args:
        model: "provider/name", with options after a question mark if need be, such as
            baseline/noisy?p=0.8 or openai/gpt-4o?temperature=0.
        options: more of them; None stands for the default.

    Raises:
        UserError: an unknown provider, name or option, a missing package or key.
    """
    path, _, query = model.partition("?")
    provider, _, name = path.partition("/")
    if provider not in PROVIDERS or not name:
        known = ", ".join(f"{provider}/NAME" for provider in PROVIDERS)
        raise UserError(f"no model {path!r}; known are {known}")
    try:
        merged: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        if query:
            raise UserError(f"{path!r}: options look like ?p=0.8&seed=1") from None
        merged = {}
    if "base_url" in merged:  # names stand in logs and folders, and an address may hold a password
        raise UserError(f"{path}: give the server's address as --base-url, not in the model's name")
    for key, value in options.items():
        if value is not None:
            if key in merged:
                raise UserError(f"{key} is given twice, in the model's name and as an option")
            merged[key] = value
    return PROVIDERS[provider](name, merged)


def _baseline(name: str, options: dict[str, Any]) -> Adapter:
    from mmneedle.adapters.baselines import create

    return create(name, options)


def _openai(name: str, options: dict[str, Any]) -> Adapter:
    try:
        from mmneedle.adapters.openai import create
    except ModuleNotFoundError as error:
        raise UserError(
            f'openai/{name} needs the package {error.name}: pip install "mmneedle[openai]"'
        ) from None
    return create(name, options)


PROVIDERS: dict[str, Callable[[str, dict[str, Any]], Adapter]] = {
    "baseline": _baseline,
    "openai": _openai,
}
