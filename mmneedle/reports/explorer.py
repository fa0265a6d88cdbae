"""Every error of a report, packed so that a script in the page can show any of them.

A page has so many bytes. They go, in this order, to what was asked and answered (long answers are
cut), to which photos make up each haystack (whole ones where they find room, else the images that
hold a true or a given cell), and to the photos themselves, as large as the rest allows. What had
to be left out is said in words.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.outcomes import METRICS
from mmneedle.reports.atlas import Atlas, Shelf, atlases
from mmneedle.reports.cases import CATEGORIES, Case, Group, Reply
from mmneedle.reports.findings import TEXT_LIMIT
from mmneedle.reports.panels import KINDS as NAMES
from mmneedle.reports.panels import in_order, named, shaped
from mmneedle.runlog import STATUSES
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Location, Setting

TEXT_SHARE, STACK_SHARE = 0.4, 0.45
"""Of the bytes, at most: for words and for haystacks. Photos have the rest."""
TEXT_LIMITS = (TEXT_LIMIT, 1_000, 600, 400, 250, 150, 80, 40)
"""Characters of an answer, as many as find room."""
NONE, MARKED, WHOLE = "none", "marked", "whole"
"""How much of a haystack is in the page."""


class Explorer(msgspec.Struct):
    """What the page's script needs, and what the page says about it."""

    blocks: Markup
    """Data blocks for the page."""
    errors: int
    left_out: list[str]
    """Sentences on what found no room."""
    pictures: bool
    """Whether haystacks can be drawn."""


def explorer(groups: Sequence[Group], runs: Sequence[Mapping[str, Any]], budget: int) -> Explorer:
    """Pack the cases of all runs into about `budget` bytes of page.

    Args:
        groups: as `cases.gather` found them.
        runs: what the page says of each run: name, label, model, and how to show a sample.
        budget: characters of the page.
    """
    groups = sorted(groups, key=lambda group: (group.fingerprint, in_order(group.setting)))
    albums = _albums(groups, int(STACK_SHARE * budget))
    page, limit = _words(groups, runs, albums, int(TEXT_SHARE * budget))
    left_out = []
    if limit < TEXT_LIMIT:
        left_out.append(f"answers are cut at {limit} characters")
    spent = len(page) + sum(_length(len(album.stacks)) for album in albums)
    trouble = _draw(albums, (budget - spent) * 3 // 4)
    pictures = any(album.atlas.sheets for album in albums if album.atlas)
    left_out += _unshown(groups, albums)
    blocks = [_block("errors-data", page)]
    for number, album in enumerate(albums):
        blocks += _album_blocks(number, album)
    return Explorer(
        blocks=Markup("\n").join(blocks),
        errors=sum(
            reply.category > 0
            for group in groups
            for case in group.cases
            for reply in case.replies.values()
        ),
        left_out=[*left_out, *trouble],
        pictures=pictures,
    )


# --------------------------------------------------------------------------- haystacks


class _Album:
    """One data set's haystacks and photos in the page."""

    def __init__(self, dataset: DataSet, groups: list[Group]) -> None:
        self.dataset, self.groups = dataset, groups
        self.levels: dict[Setting, str] = {}
        self.images: dict[Setting, dict[int, list[int]]] = {}
        """By setting and stack: which of its images are here, from 0."""
        self.shelf: Shelf
        self.places: dict[int, int] = {}
        """Photo id -> its place in the atlas."""
        self.bits = 1
        self.stacks = b""
        self.atlas: Atlas | None = None

    def close_up(self) -> None:
        """Decide which photos are here, and pack the haystacks that are."""
        close, around = _photos(self)
        close = close[np.isin(close, self.dataset.store.ids)]
        self.shelf = Shelf(self.dataset.store, close, np.setdiff1d(around, close))
        ids = np.concatenate([self.shelf.close, self.shelf.field])
        self.places = dict(zip(ids.tolist(), range(len(ids)), strict=True))
        self.bits = max(1, (max(1, len(ids)) - 1).bit_length())
        order = np.argsort(ids)
        parts = [order[np.searchsorted(ids[order], part)] for part in _stacks(self)]
        self.stacks = pack(np.concatenate([np.empty(0, np.int64), *parts]), self.bits)


def _albums(groups: Sequence[Group], budget: int) -> list[_Album]:
    """Albums of the data sets at hand, with as much of their haystacks as `budget` allows."""
    by_mark: dict[str, list[Group]] = {}
    for group in groups:
        if group.dataset is not None and group.trouble is None:
            by_mark.setdefault(group.fingerprint, []).append(group)
    albums = []
    for mine in by_mark.values():
        dataset = mine[0].dataset
        assert dataset is not None
        try:
            len(dataset.store.ids)
        except UserError as error:
            for group in mine:
                group.trouble = str(error)
            continue
        albums.append(_Album(dataset, mine))
    _choose_levels(albums, budget)
    for album in albums:
        album.close_up()
    return albums


def _choose_levels(albums: Sequence[_Album], budget: int) -> None:
    """Marked images of every setting, cheapest first; then whole haystacks, likewise."""
    costs: dict[str, list[tuple[int, int, Group]]] = {MARKED: [], WHOLE: []}
    for place, album in enumerate(albums):
        bits = max(1, len(album.dataset.store.ids) - 1).bit_length()
        for group in album.groups:
            shape, marked = group.setting, _marked(group)
            album.levels[shape], album.images[shape] = NONE, {}
            grid = shape.rows * shape.cols
            some = sum(map(len, marked.values())) * grid
            whole = len(marked) * shape.cells
            costs[MARKED].append((_length(some * bits // 8), place, group))
            costs[WHOLE].append((_length((whole - some) * bits // 8), place, group))
    for level in (MARKED, WHOLE):
        for cost, place, group in sorted(costs[level], key=lambda one: (one[0], one[1])):
            album, shape = albums[place], group.setting
            if cost > budget or (level == WHOLE and album.levels[shape] == NONE):
                continue
            budget -= cost
            marked = _marked(group)
            album.levels[shape] = level
            album.images[shape] = (
                marked if level == MARKED else {s: list(range(shape.images)) for s in marked}
            )


def _marked(group: Group) -> dict[int, list[int]]:
    """The images that hold a true or a given cell, by stack; from 0."""
    found: dict[int, set[int]] = {}
    for case in group.cases:
        images = found.setdefault(case.stack, set())
        images.update(cell // _grid(group.setting) for cell in _cells(group.setting, case))
    return {stack: sorted(images) for stack, images in found.items()}


def _grid(setting: Setting) -> int:
    return setting.rows * setting.cols


def _cells(setting: Setting, case: Case) -> Iterator[int]:
    """Numbers of the cells that a case is about: true ones, and those that replies name."""
    for said in (case.truth, *(reply.said for reply in case.replies.values())):
        yield from (cell for cell in (cell_number(setting, at) for at in said) if cell >= 0)


def cell_number(setting: Setting, at: Location | None) -> int:
    """A cell's number from 0, image by image, row by row; -1 for none, or none of the haystack."""
    if at is None:
        return -1
    image, row, column = at.image - 1, at.row - 1, at.column - 1
    inside = 0 <= image < setting.images and 0 <= row < setting.rows and 0 <= column < setting.cols
    return (image * setting.rows + row) * setting.cols + column if inside else -1


def _photos(album: _Album) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Photos that questions and answers are about, and all in the haystacks that are here."""
    close: list[int] = []
    for group in album.groups:
        for case in group.cases:
            close += case.photos
            if case.haystack is not None:
                close += case.haystack[sorted(set(_cells(group.setting, case)))].tolist()
    return np.unique(np.array(close, np.int64)), np.unique(
        np.concatenate([np.empty(0, np.int64), *_stacks(album)])
    )


def _stacks(album: _Album) -> Iterator[NDArray[np.int64]]:
    """Photo ids of the images that are here, in the order in which the page counts them."""
    for group in album.groups:
        grid = _grid(group.setting)
        haystacks = {case.stack: case.haystack for case in group.cases}
        for stack, images in album.images[group.setting].items():
            haystack = haystacks[stack]
            assert haystack is not None
            for image in images:
                yield haystack[image * grid : (image + 1) * grid]


def pack(numbers: NDArray[np.int64], bits: int) -> bytes:
    """Numbers of `bits` bits each, one after the other, the highest bit first."""
    shifts = np.arange(bits - 1, -1, -1)
    table = (numbers[:, None] >> shifts & 1).astype(np.uint8)
    return np.packbits(table).tobytes()


# --------------------------------------------------------------------------- words


def _words(
    groups: Sequence[Group], runs: Sequence[Mapping[str, Any]], albums: Sequence[_Album], most: int
) -> tuple[str, int]:
    """All that is no picture, as text for a data block; how long answers may be in it."""
    text, limit = "", TEXT_LIMITS[0]
    for limit in TEXT_LIMITS:
        value = {
            "runs": list(runs),
            "categories": list(CATEGORIES),
            "names": [NAMES[name] for name in CATEGORIES],
            "statuses": list(STATUSES),
            "albums": [{"bits": album.bits, "photos": len(album.places)} for album in albums],
            "groups": [_group(group, albums, limit) for group in groups],
        }
        # ASCII: half of a surrogate pair is no UTF-8, and a model may well send one
        text = encode(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9))
        if len(text) <= most:
            break
    return text, limit


def _group(group: Group, albums: Sequence[_Album], limit: int) -> dict[str, Any]:
    """One setting's cases as columns: lists with an item a case, or K items for K needles."""
    shape, cases = group.setting, group.cases
    which = next((i for i, album in enumerate(albums) if group in album.groups), -1)
    places = albums[which].places if which >= 0 else {}
    images = albums[which].images[shape] if which >= 0 else {}
    order = {stack: place for place, stack in enumerate(images)}
    here = albums[which].levels[shape] if which >= 0 else NONE
    return {
        "album": which,
        "setting": shape.name,
        "label": named(shape),
        "shape": shaped(shape),
        "size": [shape.images, shape.rows, shape.cols, shape.needles],
        "level": here,
        "trouble": group.trouble,
        "numbers": [case.number for case in cases],
        "truth": [cell_number(shape, at) for case in cases for at in case.truth],
        "captions": [text for case in cases for text in case.captions],
        "photos": [places.get(photo, -1) for case in cases for photo in case.photos],
        "ambiguity": [
            -1 if case.ambiguity is None else round(1e4 * case.ambiguity) for case in cases
        ],
        "hard": [int(case.hard) for case in cases],
        "stack": [order.get(case.stack, -1) for case in cases],
        "images": list(images.values()) if here == MARKED else len(images),
        "replies": [_replies(group, run, places, limit) for run in group.runs],
    }


def _replies(group: Group, run: int, places: Mapping[int, int], limit: int) -> dict[str, Any]:
    """One run's answers as columns."""
    shape = group.setting
    found = [
        (at, case, case.replies[run]) for at, case in enumerate(group.cases) if run in case.replies
    ]
    replies = [reply for _, _, reply in found]
    several = shape.needles > 1
    return {
        "run": run,
        "case": [at for at, _, _ in found],
        "category": [reply.category for reply in replies],
        "kinds": [kind for reply in replies for kind in _padded(reply, shape)] if several else None,
        "said": [
            number for reply in replies for at in reply.said for number in (at or (-1, -1, -1))
        ],
        "named": [
            places.get(_photo(shape, case, at), -1) for _, case, reply in found for at in reply.said
        ],
        "status": [STATUSES.index(reply.response.status) for reply in replies],
        "paper": [_verdict(reply) for reply in replies],
        "text": [(reply.response.text or "")[:limit] for reply in replies],
        "length": _rare(
            reply.text_length if reply.text_length > limit else None for reply in replies
        ),
        "reasoning": _rare((reply.response.reasoning or "")[:limit] or None for reply in replies),
        "thought": _rare(reply.reasoning_length or None for reply in replies),
        "error": _rare((reply.response.error or "")[:limit] or None for reply in replies),
        "stop": _rare(
            reply.response.stop_reason if reply.response.stop_reason != "stop" else None
            for reply in replies
        ),
    }


def _padded(reply: Reply, setting: Setting) -> Sequence[int]:
    return reply.kinds or (-1,) * setting.needles


def _photo(setting: Setting, case: Case, at: Location | None) -> int:
    """The photo in a cell; -1 where that is not known."""
    cell = cell_number(setting, at)
    return int(case.haystack[cell]) if case.haystack is not None and cell >= 0 else -1


def _verdict(reply: Reply) -> int:
    """The paper scorer's verdicts in base 3: 0 not defined, 1 wrong, 2 right; existence first."""
    digits = [reply.paper.get(name) for name in METRICS]
    return sum(3**i * (0 if digit is None else 1 + digit) for i, digit in enumerate(digits))


def _rare(values: Iterator[Any] | Any) -> dict[str, Any]:
    """Values that few have, by their place."""
    return {str(at): value for at, value in enumerate(values) if value is not None}


# --------------------------------------------------------------------------- photos


def _draw(albums: Sequence[_Album], budget: int) -> list[str]:
    """Make the photos; returns what to say where they cannot be made."""
    try:
        made = atlases([album.shelf for album in albums], budget)
    except (UserError, OSError, ValueError) as error:
        return [f"photos cannot be made: {error}"]
    for album, atlas in zip(albums, made, strict=True):
        album.atlas = atlas
    return []


def _unshown(groups: Sequence[Group], albums: Sequence[_Album]) -> Iterator[str]:
    """Sentences on haystacks and photos that found no room."""
    for level, text in (
        (MARKED, "only the images that hold the true or the given cell are here"),
        (NONE, "haystacks are not here, only the photos in question"),
    ):
        names = [
            named(shape)
            for album in albums
            for shape, here in album.levels.items()
            if here == level and album.images.get(shape) is not None
        ]
        if names:
            yield f"at {', '.join(dict.fromkeys(names))} {text}"
    for album in albums:
        atlas, fmt = album.atlas, album.dataset.store.format
        if atlas is None:
            continue
        if not atlas.sheets:
            yield "there is no room for photos"
        elif atlas.sheets[0].width < fmt.width:
            text = f"photos are {atlas.sheets[0].width} px wide instead of {fmt.width}"
            if len(atlas.sheets) > 1:
                text += f", those that no question or answer is about {atlas.sheets[1].width} px"
            elif atlas.colours:
                text += ", those that no question or answer is about only a colour"
            yield text


def _album_blocks(number: int, album: _Album) -> Iterator[Markup]:
    atlas = album.atlas
    if atlas is None or not atlas.sheets:
        return
    about = {
        "kind": atlas.kind,
        "close": atlas.close,
        "sheets": [
            [sheet.width, sheet.height, sheet.across, sheet.each, len(sheet.files)]
            for sheet in atlas.sheets
        ],
    }
    yield _block(f"album-{number}", encode(json.dumps(about).encode()))
    yield _block(f"stacks-{number}", encode(album.stacks))
    if atlas.colours:
        yield _block(f"colours-{number}", encode(atlas.colours))
    files = (file for sheet in atlas.sheets for file in sheet.files)
    for place, file in enumerate(files):
        yield _block(f"sheet-{number}-{place}", encode(file))


def encode(data: bytes) -> str:
    """Base64 (RFC 4648)."""
    return base64.b64encode(data).decode("ascii")


def _length(size: int) -> int:
    """Characters that so many bytes take in base64."""
    return -(-size // 3) * 4


def _block(name: str, text: str) -> Markup:
    """Base64 in a data block, which the browser does not run (HTML, section 4.12.1)."""
    return Markup('<script type="text/plain" id="{}">{}</script>').format(name, text)


def sentence(explored: Explorer) -> str:
    """What is left out, in one line; empty where nothing is."""
    if not explored.left_out:
        return ""
    text = "; ".join(explored.left_out)
    return f"To stay under 5 MB: {text}."
