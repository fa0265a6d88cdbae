"""Many small photos in a few picture files: what a page draws haystacks from.

Photos that some question or answer is about are kept larger (`close`), those around them smaller
(`field`), and where even these find no room, as one colour. Sides are chosen so that all together
keep to a number of bytes: a few tiles are encoded at each side to learn what a tile takes.
"""

import io
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.store import TileStore

Ids = NDArray[np.int64]

SIDES = (
    (128, 128), (112, 112), (96, 96), (80, 80), (64, 64), (64, 48), (64, 32), (56, 56), (48, 48),
    (48, 32), (48, 24), (40, 40), (40, 32), (40, 24), (40, 16), (32, 32), (32, 24), (32, 16),
    (32, 12), (32, 8), (24, 24), (24, 16), (24, 12), (24, 8), (24, 0), (16, 16), (16, 8), (16, 0),
    (0, 0),
)  # fmt: skip
"""(close, field) pixels of a tile's longer side, best first; 0: its mean colour, for close ones
nothing at all."""
SHEET = 2048
"""Pixels of a sheet's side at most: far below what formats (WebP: 16,383) and phones allow."""
PROBES = 100
"""Tiles encoded to learn what a tile takes."""
SLACK = 1.04
"""The probe's error, and what files have beside their tiles."""


class Sheets(msgspec.Struct):
    """Tiles of one size as picture files, row by row, file by file."""

    width: int
    """Of a tile, in pixels."""
    height: int
    across: int
    """Tiles in a row."""
    each: int
    """Tiles in a file; the last one may hold fewer."""
    count: int
    files: list[bytes]


class Atlas(msgspec.Struct):
    """The photos of one data set that a page shows, by their place in `ids`."""

    ids: Ids
    """Those that questions and answers are about first."""
    close: int
    """How many these are."""
    sheets: list[Sheets]
    """Of the close photos; then of the others, where they have tiles."""
    colours: bytes
    """Red, green and blue of each other photo, where they have none."""
    kind: str
    """The files' media type."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        files = sum(len(file) for sheet in self.sheets for file in sheet.files)
        return files + len(self.colours)


class Shelf(msgspec.Struct):
    """A data set's tiles, and which of them a page would show."""

    store: TileStore
    close: Ids
    field: Ids


def atlases(shelves: Sequence[Shelf], budget: int) -> list[Atlas]:
    """Atlases of all shelves at the best sides that keep to `budget` bytes together.

    Raises what the tile stores raise where they are damaged.
    """
    guesses: dict[tuple[int, int], float] = {}
    for close, field in SIDES[:-1]:
        guess = sum(
            len(ids) * _bytes_each(shelf.store, number, ids, side, guesses)
            for number, shelf in enumerate(shelves)
            for ids, side in ((shelf.close, close), (shelf.field, field))
        )
        if guess * SLACK > budget:
            continue
        made = [_atlas(shelf, close, field) for shelf in shelves]
        if sum(atlas.size for atlas in made) <= budget:
            return made
    return [_atlas(shelf, 0, 0) for shelf in shelves]


def _bytes_each(
    store: TileStore, number: int, ids: Ids, side: int, known: dict[tuple[int, int], float]
) -> float:
    """What a tile of this side takes, about."""
    if side == 0:
        return 3.0
    key = number, min(side, _longest(store))
    if key not in known and len(ids):
        probe = ids[np.linspace(0, len(ids) - 1, min(PROBES, len(ids))).astype(int)]
        known[key] = sum(map(len, _sheets(store, probe, side).files)) / len(probe)
    return known.get(key, 0.0)


def _longest(store: TileStore) -> int:
    return max(store.format.width, store.format.height)


def _atlas(shelf: Shelf, close: int, field: int) -> Atlas:
    """The atlas at these sides; (0, 0) has no photos."""
    if not close:
        none = np.empty(0, np.int64)
        return Atlas(none, 0, [], b"", picture_format()[1])
    sheets, colours = [], b""
    if close == field:
        whole = np.concatenate([shelf.close, shelf.field])
        sheets = [_sheets(shelf.store, whole, close)]
        return Atlas(whole, len(whole), sheets, b"", picture_format()[1])
    sheets = [_sheets(shelf.store, shelf.close, close)]
    if field:
        sheets.append(_sheets(shelf.store, shelf.field, field))
    else:
        dots = (tile.resize((1, 1), Image.Resampling.BOX) for tile in _dots(shelf))
        colours = b"".join(dot.tobytes() for dot in dots)
    ids = np.concatenate([shelf.close, shelf.field])
    return Atlas(ids, len(shelf.close), sheets, colours, picture_format()[1])


def _dots(shelf: Shelf) -> Iterator[Image.Image]:
    return tiles(shelf.store, shelf.field, (8, 8))


def picture_format() -> tuple[str, str]:
    """Pillow's name of the format for sheets, and its media type: AVIF where Pillow has it.

    Small photos take a third less in it than in WebP, as sharp to the eye.
    """
    return ("AVIF", "image/avif") if features.check("avif") else ("WEBP", "image/webp")


def _sheets(store: TileStore, ids: Ids, side: int) -> Sheets:
    fmt = store.format
    scale = min(1.0, side / _longest(store))
    width, height = (max(1, round(scale * of)) for of in (fmt.width, fmt.height))
    across, down = SHEET // width, SHEET // height
    sheets = Sheets(width, height, min(across, max(1, len(ids))), 0, len(ids), [])
    sheets.each = sheets.across * down
    for start in range(0, len(ids), sheets.each):
        some = ids[start : start + sheets.each]
        rows = -(-len(some) // sheets.across)
        sheet = Image.new("RGB", (sheets.across * width, rows * height))
        for place, tile in enumerate(tiles(store, some, (width, height))):
            row, column = divmod(place, sheets.across)
            sheet.paste(tile, (column * width, row * height))
        sheets.files.append(_encoded(sheet))
    return sheets


def _encoded(sheet: Image.Image) -> bytes:
    out = io.BytesIO()
    name, _ = picture_format()
    if name == "AVIF":
        # one tile, one thread: the same bytes on every machine with this encoder
        sheet.save(out, name, quality=50, speed=9, autotiling=False, max_threads=1)
    else:
        sheet.save(out, name, quality=45, method=4)
    return out.getvalue()


def tiles(store: TileStore, ids: Ids, size: tuple[int, int]) -> Iterator[Image.Image]:
    """The photos with these ids at this width and height in pixels, one after the other."""
    for photo in ids.tolist():
        image = Image.open(io.BytesIO(store.join([photo], 1, 1)))
        image.draft("RGB", size)  # the decoder halves it while it reads; the rest is Pillow's
        yield image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def unplaced(error: Exception, dataset: DataSet) -> str:
    """An error's words with the data set's name for its folder: pages are mailed."""
    return str(error).replace(str(dataset.folder), dataset.folder.name)
