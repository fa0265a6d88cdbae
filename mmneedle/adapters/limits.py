"""What a model's provider does to images and what it refuses, looked up in dated data.

The data is limits.toml beside this file; a user's own file (`--limits FILE`) goes before it. A
model of which nothing is documented is unknown, never guessed.
"""

import datetime
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mmneedle.adapters.sight import UNKNOWN, Rule, Sight
from mmneedle.errors import UserError
from mmneedle.types import Needs, Setting

_OPENAI_HOST = "api.openai.com"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a fact stands."""

    title: str
    read: datetime.date


class SideOfMany(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stricter limit for requests with many images."""

    images: int
    """It holds for requests with more images than this."""
    side: int
    """Pixels a side at most."""


class ImagePatches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit on patches an image, beyond which it is refused."""

    patch: int
    most: int
    details: tuple[str, ...] = ()
    """It holds for these levels of detail."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is documented of a model; None: nothing is."""

    images: int | None = None
    """Images a request at most."""
    image_side: int | None = None
    """Pixels a side of an image at most."""
    image_side_of_many: SideOfMany | None = None
    image_patches: ImagePatches | None = None
    request_bytes: int | None = None
    """Bytes a request at most, images in base64."""
    context: int | None = None
    """Tokens of input and output at most."""
    characters_per_token: float | None = None
    """Of English text, about."""
    batch: float | None = None
    """Price of a batch, as a share of the ordinary one."""
    image: Rule | None = None
    """What becomes of an image, where there are no levels of detail."""
    details: dict[str, Rule] | None = None
    """The same by level of detail."""
    auto: str | None = None
    """The level that is used when none is asked for, where it is documented."""
    note: str | None = None
    """A doubt about the rule."""

    def see(self, width: int, height: int, detail: str | None = None) -> Sight:
        """An image as the model gets it.

        Where the level of detail is left to the provider and it does not say which it takes, the
        figure is known if all levels but `low` agree.

        Args:
            width, height: of the image that is sent, in pixels.
            detail: the level asked for, if any.
        """
        sights = {rule.see(width, height) for rule in self._rules(detail)}
        return sights.pop() if len(sights) == 1 else UNKNOWN

    def undecided(self, detail: str | None = None) -> tuple[str, ...]:
        """Levels of detail to choose from, where the provider does not say which it takes."""
        if detail in (None, "auto") and self.details and self.auto is None:
            levels = tuple(name for name in self.details if name != "low")
            return levels if len(levels) > 1 else ()
        return ()

    def _rules(self, detail: str | None) -> list[Rule]:
        details = self.details or {}
        if detail not in (None, "auto"):
            return [details[detail]] if detail in details else []
        if not details:
            return [] if self.image is None else [self.image]
        if self.auto:
            return [details[self.auto]] if self.auto in details else []
        return [rule for name, rule in details.items() if name != "low"]


class _Entry(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the file."""

    match: tuple[str, ...]
    source: str | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sources: dict[str, Source] = {}
    models: tuple[_Entry, ...] = ()


class Book:
    """Limits of all models."""

    def __init__(self, parts: Sequence[_File]) -> None:
        """Of several files, a later one goes before an earlier one."""
        self.parts = parts

    @classmethod
    def open(cls, own: Path | None = None) -> "Book":
        """The packaged data, and a file of the user's own before it.

        Raises:
            UserError: the file cannot be read, or does not have the form of limits.toml.
        """
        return cls([_packaged()] if own is None else [_packaged(), _read(own)])

    def of(self, key: str) -> Limits:
        """What is documented of a model, looked up by `key_of`."""
        found: dict[str, Any] = {}
        for part in self.parts:
            for entry in _matching(part.models, key):
                if entry.image or entry.details:  # a rule takes the place of all of another's
                    found |= {"image": None, "details": None, "auto": None, "note": None}
                found |= {
                    field: value
                    for field in Limits.__struct_fields__
                    if (value := getattr(entry, field)) is not None
                }
        return Limits(**found)

    def sources(self, key: str) -> list[str]:
        """Where all of that stands: "title (read date)"."""
        return list(dict.fromkeys(text for text, _ in self._cited(key)))

    def rule_source(self, key: str) -> str | None:
        """Where the rule for images stands; None where none is documented."""
        return next((text for text, rules in reversed(self._cited(key)) if rules), None)

    def _cited(self, key: str) -> list[tuple[str, bool]]:
        """(source, whether it gives the rule for images) of each entry that fits and has one."""
        return [
            (f"{source.title} (read {source.read})", bool(entry.image or entry.details))
            for part in self.parts
            for entry in _matching(part.models, key)
            if entry.source and (source := part.sources.get(entry.source))
        ]


def key_of(model: str, fingerprint: Mapping[str, Any] | None = None) -> str:
    """What a model is looked up as: provider/name, or server/name behind a compatible server.

    Args:
        model: the model string.
        fingerprint: the adapter's, which holds the server's address.
    """
    path = model.partition("?")[0]
    provider, _, name = path.partition("/")
    url = (fingerprint or {}).get("base_url")
    if provider == "openai" and url and urlsplit(str(url)).hostname != _OPENAI_HOST:
        return f"server/{name}"
    return path


def effective_cell(setting: Setting, sight: Sight) -> tuple[int, int] | None:
    """Width and height of a cell as the model gets it, in whole pixels; None: not documented."""
    if sight.width is None or sight.height is None:
        return None
    return sight.width // setting.cols, sight.height // setting.rows


def violations(limits: Limits, needs: Needs, sight: Sight, room: int, detail: str | None) -> str:
    """What a provider would refuse in a setting's requests; empty where nothing is known to fail.

    Args:
        limits: the model's.
        needs: the setting's.
        sight: an image of that setting as the model gets it.
        room: output tokens a request asks for.
        detail: the level of detail asked for.
    """
    found = [
        _too_many(limits, needs),
        _too_large(limits, needs),
        _too_fine(limits, needs, detail),
        _too_heavy(limits, needs),
        _too_long(limits, needs, sight, room),
    ]
    return "; ".join(filter(None, found))


def text_tokens(limits: Limits, characters: float) -> int | None:
    """About how many tokens an English text has; None where nothing is documented."""
    if limits.characters_per_token is None:
        return None
    return round(characters / limits.characters_per_token)


def _too_many(limits: Limits, needs: Needs) -> str | None:
    if limits.images is None or needs.images <= limits.images:
        return None
    return f"{needs.images} images a request, and it takes at most {limits.images}"


def _too_large(limits: Limits, needs: Needs) -> str | None:
    side, most = max(needs.width, needs.height), limits.image_side
    why = ""
    many = limits.image_side_of_many
    if many and needs.images > many.images and (most is None or many.side < most):
        most, why = many.side, f" in a request with more than {many.images} images"
    if most is None or side <= most:
        return None
    return f"images of {needs.width}x{needs.height} px, and it takes at most {most} px a side{why}"


def _too_fine(limits: Limits, needs: Needs, detail: str | None) -> str | None:
    rule = limits.image_patches
    asked = limits.auto if detail in (None, "auto") else detail
    if rule is None or (rule.details and asked not in rule.details):
        return None
    patches = -(-needs.width // rule.patch) * -(-needs.height // rule.patch)
    if patches <= rule.most:
        return None
    return (
        f"images of {patches:,} patches of {rule.patch} px, and it takes at most {rule.most:,} "
        f"at detail {asked}"
    )


def _too_heavy(limits: Limits, needs: Needs) -> str | None:
    size = encoded_bytes(needs)
    if limits.request_bytes is None or size <= limits.request_bytes:
        return None
    return f"requests of {size / 1e6:.1f} MB, and it takes at most {limits.request_bytes / 1e6:g}"


def _too_long(limits: Limits, needs: Needs, sight: Sight, room: int) -> str | None:
    text = text_tokens(limits, len(needs.prompt))
    if limits.context is None or sight.tokens is None:
        return None
    total = sight.tokens * needs.images + (text or 0) + room
    if total <= limits.context:
        return None
    return f"about {total:,} tokens a request, and its context has {limits.context:,}"


def surely_too_long(limits: Limits, needs: Needs) -> bool:
    """Whether a text cannot fit, even if its tokens are a tenth fewer than estimated."""
    if limits.request_bytes is not None and encoded_bytes(needs) > limits.request_bytes:
        return True
    tokens = text_tokens(limits, len(needs.prompt))
    return limits.context is not None and tokens is not None and tokens > 1.1 * limits.context


def encoded_bytes(needs: Needs) -> int:
    """About how long a setting's longest request is: images in base64 (RFC 4648) and the text."""
    return needs.image_bytes * 4 // 3 + len(needs.prompt.encode())


# --------------------------------------------------------------------------- reading


def matches(pattern: str, key: str) -> bool:
    """Whether a pattern of limits.toml (or of a price file) fits a model's key."""
    return fnmatchcase(key.lower(), pattern.lower())


def specificity(pattern: str) -> int:
    """The letters of a pattern that are no wildcard: the pattern with the most wins."""
    return sum(char not in "*?" for char in pattern)


def _matching(entries: Sequence[_Entry], key: str) -> list[_Entry]:
    """The entries that fit, the most specific last; of equal ones the later one."""
    fitting = []
    for entry in entries:
        weights = [specificity(pattern) for pattern in entry.match if matches(pattern, key)]
        if weights:
            fitting.append((max(weights), entry))
    return [entry for _, entry in sorted(fitting, key=lambda pair: pair[0])]


@cache
def _packaged() -> _File:
    return _decode(files("mmneedle.adapters").joinpath("limits.toml").read_bytes())


def _read(path: Path) -> _File:
    try:
        return _decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise UserError(f"{path}: is not a file of limits ({error}); see docs/limits.md") from None


def _decode(content: bytes) -> _File:
    file = msgspec.toml.decode(content, type=_File)
    _check_numbers(msgspec.toml.decode(content))
    for entry in file.models:
        if entry.source is not None and entry.source not in file.sources:
            raise ValueError(f"no source {entry.source!r} for {', '.join(entry.match)}")
        if entry.auto is not None and entry.auto not in (entry.details or {}):
            raise ValueError(f"auto is {entry.auto!r}, which is no detail, for {entry.match[0]}")
    return file


_NOT_ZERO = {"patch", "tile", "factor", "multiplier", "characters_per_token", "fit"}


def _check_numbers(value: Any, key: str = "") -> None:
    """Raise ValueError at a number that no rule can count with."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < 1e15 or (key in _NOT_ZERO and not value):
            raise ValueError(f"{key} is {value}, not a number above 0")
        if key == "batch" and value > 1:
            raise ValueError(f"batch is {value}, not a share from 0 to 1")
