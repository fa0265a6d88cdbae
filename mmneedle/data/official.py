"""Response files of the official code.

Layout: response/COCO_val2014_{begin}_{end}/{Provider}_{model}_{N}_{s}_{s}[_needles_K].json, each a
list of {id, response, ground_truth, target_path, caption}. ground_truth is "index, row, column",
one-based, needles joined by "; ". The official `needle.py` adds one to the annotations' -1, so a
negative stands there as "0, 0, 0"; "-1" and "-1, -1, -1" are read as negatives too.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.errors import UserError
from mmneedle.scoring import Row, Tally
from mmneedle.types import Location, Response, Setting

TASK = "official"
_FOLDER = re.compile(r"COCO_val2014_[0-9]+_[0-9]+")
_FILE = re.compile(
    r"(?P<model>[^_]+_.+)_(?P<images>[1-9][0-9]{0,5})_(?P<rows>[1-9][0-9]{0,5})"
    r"_(?P<cols>[1-9][0-9]{0,5})(?:_needles_(?P<needles>[1-9][0-9]{0,5}))?\.json"
)
_LAYOUT = "COCO_val2014_{begin}_{end}/{Provider}_{model}_{N}_{s}_{s}[_needles_K].json"


class OfficialResponse(msgspec.Struct, frozen=True):
    """One entry of a response file."""

    model: str
    """{Provider}_{model} as in the file's name."""
    setting: Setting
    id: int | str
    truth: tuple[Location | None, ...]
    response: Response
    """Status ok, or empty for an empty text. A null response is a server_error: the official code
    writes null when a request failed, and keeps no reason."""
    file: Path


def read_official(folder: Path | str) -> Iterator[OfficialResponse]:
    """All responses of a folder, file by file.

    Args:
        folder: a response folder, one COCO_val2014_* folder, or any folder above.

    Raises:
        UserError: no response file there; a file that is none by its name or its content.
    """
    folder = Path(folder)
    files = list(_files(folder))
    if not files:
        raise UserError(f"{folder}: no response files of the official code ({_LAYOUT})")
    for file in files:
        yield from _read(file)


def score_official(folder: Path | str) -> list[Row]:
    """Score all response files of a folder with both scorers.

    Files of one model and setting (positives and negatives lie in different COCO_val2014_*
    folders) are pooled by split. `paper` rows are what the official script prints for them.

    Raises:
        UserError: as `read_official`; a sample of a model and setting in two files.
    """
    tallies: dict[str, Tally] = {}
    files: dict[tuple[str, Setting, bool, int | str], Path] = {}
    for entry in read_official(folder):
        key = (entry.model, entry.setting, entry.truth[0] is not None, entry.id)
        other = files.setdefault(key, entry.file)
        if other != entry.file:
            raise UserError(
                f"{entry.file}: sample {entry.id} is in {other} too; give a folder that holds "
                "one of them"
            )
        tally = tallies.setdefault(entry.model, Tally())
        tally.add(entry.setting, entry.truth, entry.response)
    return [row for model in sorted(tallies) for row in tallies[model].rows(model, TASK)]


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        if _FOLDER.fullmatch(Path(place).resolve().name):
            folders.clear()
            yield from (
                Path(place, name)
                for name in sorted(names)
                if name.endswith(".json") and not name.startswith(".")
            )


def _read(file: Path) -> Iterator[OfficialResponse]:
    match = _FILE.fullmatch(file.name)
    if not match:
        raise UserError(f"{file}: not the name of a response file ({_LAYOUT})")
    shape = (match["images"], match["rows"], match["cols"], match["needles"] or "1")
    setting = Setting(*map(int, shape))
    try:
        entries = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not JSON ({error})") from None
    if not isinstance(entries, list):
        raise UserError(f"{file}: is not a list of responses")
    for number, entry in enumerate(entries, 1):
        try:
            yield _entry(entry, match["model"], setting, file)
        except _WrongShapeError as error:
            raise UserError(f"{file}: entry {number}: {error}") from None


class _WrongShapeError(Exception):
    """What is wrong with an entry."""


def _entry(entry: Any, model: str, setting: Setting, file: Path) -> OfficialResponse:
    if not isinstance(entry, dict):
        raise _WrongShapeError("is not an object")
    for key in ("id", "response", "ground_truth"):
        if key not in entry:
            raise _WrongShapeError(f"has no {key}")
    if type(entry["id"]) not in (int, str):
        raise _WrongShapeError("its id is neither a number nor a text")
    text = entry["response"]
    if text is None:
        response = Response("server_error", error="null in the official response file")
    elif isinstance(text, str):
        response = Response("ok" if text.strip() else "empty", text)
    else:
        raise _WrongShapeError("its response is neither a text nor null")
    truth = _truth(entry["ground_truth"], setting)
    return OfficialResponse(model, setting, entry["id"], truth, response, file)


def _truth(value: Any, setting: Setting) -> tuple[Location | None, ...]:
    """The truth of an entry: "1, 2, 3; 2, 1, 1", or a list of such, or of lists of numbers."""
    if isinstance(value, str):
        value = value.split(";")
    elif not isinstance(value, list) or not value:
        raise _WrongShapeError(f"ground_truth is {value!r}")
    elif all(type(one) is int for one in value):
        value = [value]
    places = [_place(one, setting) for one in value]
    if places == [None]:
        places *= setting.needles
    if len(places) != setting.needles:
        raise _WrongShapeError(f"ground_truth has {len(places)} needles, not {setting.needles}")
    if None in places and any(places):
        raise _WrongShapeError("ground_truth is both positive and negative")
    return tuple(places)


def _place(value: Any, setting: Setting) -> Location | None:
    fields = value.split(",") if isinstance(value, str) else value
    try:
        if not all(type(field) in (int, str) for field in fields):
            raise ValueError
        numbers = [int(field) for field in fields]
    except (TypeError, ValueError):
        raise _WrongShapeError(f"ground_truth holds {value!r}") from None
    if set(numbers) == {-1} or numbers == [0, 0, 0]:
        return None
    sizes = (setting.images, setting.rows, setting.cols)
    if len(numbers) != 3 or not all(
        1 <= number <= size for number, size in zip(numbers, sizes, strict=True)
    ):
        raise _WrongShapeError(f"ground_truth {value!r} is no cell of {setting.name}")
    return Location(*numbers)
