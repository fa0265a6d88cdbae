"""The tile store's one file, and reading it.

    tiles    one after another in the order of their ids, each a MessagePack array of its segments
    table    ids int64[n], ends int64[n] (offsets of the tiles' ends), payloads uint32[n] (bytes of
             a tile's segments); little-endian
    meta     JSON, see Meta
    footer   bytes of meta (uint32), CRC-32 of meta (uint32), eight bytes of magic

It is written elsewhere and renamed into place, so that it is there whole or not at all; the same
tiles give the same bytes whatever way they were made. MessagePack, because one call in C makes a
tile's list of segments: faster than slicing views, and nothing to hold in memory for a tile but
where it lies.
"""

import mmap
import os
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mmneedle.errors import UserError
from mmneedle.files import Closing, sync_folder, unwritable
from mmneedle.stitching.grid import Plan
from mmneedle.stitching.jpeg import TileFormat, check_header

NAME = "tiles.bin"
_LAYOUT = 1
_FOOTER = struct.Struct("<II8s")
_MAGIC = b"MMTILES\n"
_BLOCK = 1 << 20
_TABLE_ROW = 8 + 8 + 4

Ids = npt.NDArray[np.int64]


class Key(msgspec.Struct, frozen=True):
    """What decides a tile's bytes, besides its id."""

    source: dict[str, Any]
    """The source's identity."""
    format: TileFormat
    encoder: dict[str, str]
    """Versions of Pillow and libjpeg: others may give other pixels."""


class Meta(msgspec.Struct, frozen=True):
    """What a store's file says of itself."""

    layout: int
    key: Key
    header: bytes
    """A tile's JPEG header, the same for all."""
    tiles: int
    size: int
    """Bytes of all tiles."""
    tiles_crc: int
    table_crc: int


class Tile(NamedTuple):
    """One tile as it is stored."""

    id: int
    packed: bytes
    """A MessagePack array of its segments."""
    payload: int
    """Bytes of its segments."""


def pack(photo: int, segments: Sequence[bytes]) -> Tile:
    """A tile to be stored."""
    return Tile(photo, msgspec.msgpack.encode(segments), sum(map(len, segments)))


class StoreFile:
    """A store's file without its tiles: meta and table, read and checked."""

    def __init__(self, path: Path, meta: Meta, table: bytes) -> None:
        n = meta.tiles
        self.path, self.meta = path, meta
        self.ids: Ids = np.frombuffer(table, "<i8", n)
        self.ends: Ids = np.frombuffer(table, "<i8", n, offset=8 * n)
        self.payloads = np.frombuffer(table, "<u4", n, offset=16 * n)

    @classmethod
    def read(cls, file: BinaryIO, path: Path) -> "StoreFile":
        """Read meta and table from an open file.

        Raises:
            UserError: the file is not whole.
        """
        try:
            total = os.fstat(file.fileno()).st_size
            length, crc, magic = _FOOTER.unpack(_read(file, total - _FOOTER.size, _FOOTER.size))
            if magic != _MAGIC:
                raise ValueError("its end is missing")
            end = total - _FOOTER.size - length
            text = _read(file, end, length)
            if zlib.crc32(text) != crc:
                raise ValueError("its description is damaged")
            meta = msgspec.json.decode(text, type=Meta)
            if meta.layout != _LAYOUT:
                raise ValueError(f"layout {meta.layout}, and this mmneedle reads {_LAYOUT}")
            table = _read(file, meta.size, end - meta.size)
            if len(table) != _TABLE_ROW * meta.tiles or zlib.crc32(table) != meta.table_crc:
                raise ValueError("its table is damaged")
            check_header(meta.header, meta.key.format)
        except (OSError, ValueError, msgspec.DecodeError, UserError) as error:
            raise _damaged(path, error) from None
        return cls(path, meta, table)

    def intact(self) -> bool:
        """Whether the tiles have their checksum: reads the whole file."""
        crc, left = 0, self.meta.size
        with self.path.open("rb") as file:
            while left and (block := file.read(min(left, _BLOCK))):
                crc, left = zlib.crc32(block, crc), left - len(block)
        return not left and crc == self.meta.tiles_crc

    def tiles(self, places: Iterable[int]) -> Iterator[Tile]:
        """The tiles at these places of the table."""
        with self.path.open("rb") as file:
            for place in places:
                begin = int(self.ends[place - 1]) if place else 0
                packed = _read(file, begin, int(self.ends[place]) - begin)
                yield Tile(int(self.ids[place]), packed, int(self.payloads[place]))


def write(path: Path, key: Key, header: bytes, tiles: Iterable[Tile], *, sync: bool) -> None:
    """Write a store's file: afterwards it is there whole, or what was there before still is.

    Args:
        path: the file; its folder exists.
        key, header: what its meta says.
        tiles: in the order of their ids, at least one; never held all at once.
        sync: whether it must outlast a power cut too.

    Raises:
        UserError: the disk is full, the folder cannot be written to.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with unfinished.open("wb", buffering=_BLOCK) as file:
            _write(file, key, header, tiles)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _write(file: BinaryIO, key: Key, header: bytes, tiles: Iterable[Tile]) -> None:
    ids, ends, payloads = array("q"), array("q"), array("I")
    crc = size = 0
    for tile in tiles:
        file.write(tile.packed)
        crc, size = zlib.crc32(tile.packed, crc), size + len(tile.packed)
        ids.append(tile.id)
        ends.append(size)
        payloads.append(tile.payload)
    table = b"".join(
        np.asarray(column, kind).tobytes()
        for column, kind in ((ids, "<i8"), (ends, "<i8"), (payloads, "<u4"))
    )
    meta = Meta(_LAYOUT, key, header, len(ids), size, crc, zlib.crc32(table))
    text = msgspec.json.encode(meta, order="deterministic")
    file.write(table)
    file.write(text)
    file.write(_FOOTER.pack(len(text), zlib.crc32(text), _MAGIC))


class TileStore(Closing):
    """Tiles of many photos, open for reading; `join` makes grids of them.

    Threads may share one. A store that is built again while this one is open does not disturb it.
    """

    def __init__(self, file: StoreFile, data: mmap.mmap) -> None:
        meta = file.meta
        self.ids: Ids = file.ids
        """The photos it holds, sorted; int64."""
        self.format: TileFormat = meta.key.format
        self._path, self._data, self._payloads = file.path, data, file.payloads
        self._size, self._crc = meta.size, meta.tiles_crc
        ends = file.ends.tolist()
        bounds = map(slice, [0, *ends[:-1]], ends)
        self._where: dict[int, slice] = dict(zip(self.ids.tolist(), bounds, strict=True))
        self._plan = lru_cache(maxsize=64)(partial(Plan, meta.header, self.format))
        self._decode = msgspec.msgpack.Decoder(list[bytes]).decode

    @classmethod
    def open(cls, folder: Path | str) -> "TileStore":
        """Open the store in a folder.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = Path(folder) / NAME
        try:
            with path.open("rb") as file:
                return cls(
                    StoreFile.read(file, path), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                )
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder}: no tile store here (no {NAME}); build it again") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None

    def join(self, photo_ids: Sequence[int], rows: int, cols: int) -> bytes:
        """A JPEG file of rows x cols tiles.

        No pixel is decoded or encoded: the file is the one that encoding the pasted tiles with
        the same parameters would give, plus restart markers.

        Args:
            photo_ids: rows * cols ids, row by row; an id may come more than once.
            rows, cols: the grid.

        Raises:
            ValueError: not rows * cols ids.
            UserError: a photo that the store does not hold, tiles that cannot be joined into this
                grid, a damaged store.
        """
        plan = self._fitting(photo_ids, rows, cols)
        try:
            return plan.join(
                map(
                    self._decode,
                    map(self._data.__getitem__, map(self._where.__getitem__, photo_ids)),
                )
            )
        except KeyError as error:
            raise self._absent(error.args[0]) from None
        except (msgspec.DecodeError, ValueError) as error:
            if self._data.closed:
                raise
            raise _damaged(self._path, error) from None

    def check(self) -> None:
        """See that all tiles are as they were written.

        A join copies what it finds: a bit that has flipped on the disk would go out unseen.

        Raises:
            UserError: the tiles do not have their checksum (CRC-32).
        """
        crc = 0
        with memoryview(self._data) as whole:
            for begin in range(0, self._size, _BLOCK):
                with whole[begin : min(begin + _BLOCK, self._size)] as block:
                    crc = zlib.crc32(block, crc)
        if crc != self._crc:
            raise _damaged(self._path, ValueError("its tiles do not have their checksum"))

    def size(self, photo_ids: Sequence[int], rows: int, cols: int) -> int:
        """The exact bytes of that file, without making it. Raises as `join` does."""
        plan = self._fitting(photo_ids, rows, cols)
        wanted = np.asarray(photo_ids, np.int64)
        places = np.searchsorted(self.ids, wanted)
        found = self.ids[np.minimum(places, len(self.ids) - 1)] == wanted
        if not found.all():
            raise self._absent(int(wanted[~found][0]))
        return plan.overhead + int(self._payloads[places].sum(dtype=np.int64))

    def tile(self, photo_id: int) -> bytes:
        """One photo's tile as a JPEG file. Raises UserError when the store does not hold it."""
        return self.join((photo_id,), 1, 1)

    def __contains__(self, photo_id: object) -> bool:
        return photo_id in self._where

    def __len__(self) -> int:
        return len(self._where)

    def close(self) -> None:
        """Let go of the file. The store cannot be used afterwards."""
        self._data.close()

    def _fitting(self, photo_ids: Sequence[int], rows: int, cols: int) -> Plan:
        if len(photo_ids) != rows * cols:
            raise ValueError(f"{len(photo_ids)} photo ids for a grid of {rows}x{cols}")
        return self._plan(rows, cols)

    def _absent(self, photo: int) -> UserError:
        return UserError(
            f"{self._path}: no tile of photo {photo}; build the store again with that photo"
        )


def _damaged(path: Path, why: Exception) -> UserError:
    return UserError(f"{path}: not a whole tile store ({why}); build it again")


def _read(file: BinaryIO, begin: int, length: int) -> bytes:
    """Exactly these bytes of a file."""
    if begin < 0 or length < 0:
        raise ValueError("it is too short")
    file.seek(begin)
    content = file.read(length)
    if len(content) != length:
        raise ValueError("it is too short")
    return content
