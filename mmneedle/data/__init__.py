"""Where photos and captions come from; `open_source` opens any source from its recipe."""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import msgspec

from mmneedle.errors import UserError

if TYPE_CHECKING:
    from mmneedle.types import Photo, Source

# What a recipe of each source may hold besides "source": key, type, whether it must be there.
_KEYS: dict[str, dict[str, tuple[type, bool]]] = {
    "shapes": {"scenes": (int, False), "seed": (int, False), "split": (str, False)},
    "coco": {"photos": (str, True), "captions": (str, True)},
}


def open_source(recipe: dict[str, Any]) -> "Source":
    """Open the source that `Source.recipe()` described.

    Raises UserError when the recipe names no known source, when a key is missing, unknown or of
    the wrong type, and whatever opening that source raises (files gone, damaged).
    """
    name = recipe.get("source")
    if not isinstance(name, str) or name not in _KEYS:
        raise UserError(f"unknown source {name!r}: choose one of {', '.join(sorted(_KEYS))}")
    options = {key: value for key, value in recipe.items() if key != "source"}
    _check_options(name, options)
    if name == "shapes":
        from mmneedle.data.shapes import ShapesSource

        return ShapesSource(**options)
    from mmneedle.data.coco import CocoSource

    return CocoSource(Path(options["photos"]), Path(options["captions"]))


def _check_options(name: str, options: dict[str, Any]) -> None:
    """UserError unless `options` are what the source `name` takes."""
    known = _KEYS[name]
    unknown = sorted(set(options) - set(known), key=str)
    if unknown:
        raise UserError(
            f"recipe of source {name}: unknown key {unknown[0]!r} (it takes {', '.join(known)})"
        )
    for key, (kind, required) in known.items():
        if key not in options:
            if required:
                raise UserError(f"recipe of source {name}: the key {key!r} is missing")
        elif type(options[key]) is not kind:  # not isinstance: True is no number of scenes
            raise UserError(
                f"recipe of source {name}: {key!r} must be {kind.__name__}, not {options[key]!r}"
            )


def digest(photos: Sequence["Photo"]) -> str:
    """SHA-256 (hex) over the photos' ids and captions, in order; no path takes part in it."""
    sha = hashlib.sha256()
    for photo in photos:
        sha.update(msgspec.json.encode((photo.id, photo.captions)))
        sha.update(b"\n")
    return sha.hexdigest()


def stays_inside(name: str) -> bool:
    """Whether a relative file name with "/" stays in its folder, on any system.

    False for absolute names, drive letters, backslashes, NUL, and empty, "." or ".." parts.
    """
    plain = "\\" not in name and "\0" not in name and not PureWindowsPath(name).drive
    return plain and all(part not in ("", ".", "..") for part in name.split("/"))
