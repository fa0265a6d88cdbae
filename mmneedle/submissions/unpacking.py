"""Members of a zip file, unpacked piece by piece: no piece is larger than was asked for.

zipfile's own reader unpacks bzip2 without a bound: forty bytes may become as many megabytes, and
four kilobytes fill any memory. Here both methods stop where a piece is full.
"""

import bz2
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

_PACKED, _PIECE = 1 << 16, 1 << 20
_LOCAL = struct.Struct("<4s5H3I2H")
"""A member's own header (PKWARE, APPNOTE 6.3.10, section 4.3.7): mark, version, flags, method,
time, date, CRC, packed and unpacked size, lengths of name and extra data."""
_ENTRY = 46
"""Bytes of its entry in the directory (4.3.12) beside the name."""
_END = struct.Struct("<4s4H2IH")
"""The directory's end (4.3.16): mark, two disks, entries twice, size, place, comment's length."""


class DamagedError(Exception):
    """A member that cannot be unpacked."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool:
        """Whether nothing follows."""
        ...

    def unpack(self, packed: bytes) -> bytes:
        """The next piece; what is left of `packed` is kept."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether it needs more packed bytes."""
        ...

    @property
    def unused(self) -> bytes:
        """What it was given beyond its end."""
        ...


class _Bzip2:
    def __init__(self) -> None:
        self._inner = bz2.BZ2Decompressor()

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    def unpack(self, packed: bytes) -> bytes:
        return self._inner.decompress(packed, _PIECE)


class _Deflate:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        self.hungry = True

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def unpack(self, packed: bytes) -> bytes:
        piece = self._inner.decompress(self._inner.unconsumed_tail + packed, _PIECE)
        self.hungry = not self._inner.unconsumed_tail and len(piece) < _PIECE
        return piece


class _Stored:
    eof, hungry, unused = False, True, b""

    def unpack(self, packed: bytes) -> bytes:
        return packed


METHODS: dict[int, Callable[[], _Unpacker]] = {
    zipfile.ZIP_STORED: _Stored,
    zipfile.ZIP_DEFLATED: _Deflate,
    zipfile.ZIP_BZIP2: _Bzip2,
}
"""How members may be packed."""


def pieces(archive: zipfile.ZipFile, name: str, most: int) -> Iterator[bytes]:
    """A member's first bytes, at most so many, in pieces of a megabyte.

    Nothing in the member's headers is trusted but its place. Raises DamagedError.
    """
    info = archive.getinfo(name)
    if archive.fp is None:
        raise DamagedError("the file is closed")
    try:
        for piece in _unpacked(archive.fp, info):
            yield piece[:most]
            most -= len(piece)
            if most <= 0:
                return
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise DamagedError(str(error)) from None


def _unpacked(file: IO[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    file.seek(info.header_offset)
    mark, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    if mark != b"PK\x03\x04":
        raise ValueError(f"no member begins at byte {info.header_offset}")
    if file.read(name_length) != info.orig_filename.encode():
        raise ValueError(f"it has another name at byte {info.header_offset}")
    at, left = file.tell() + extra_length, info.compress_size
    unpacker = METHODS[info.compress_type]()
    while not unpacker.eof:
        packed = b""
        if unpacker.hungry:
            file.seek(at)  # others may read of the same file
            packed = file.read(min(_PACKED, left))
            at, left = at + len(packed), left - len(packed)
            if not packed:
                break
        if piece := unpacker.unpack(packed):
            yield piece
    if left > 0 or not (unpacker.eof or isinstance(unpacker, _Stored)):
        raise ValueError("it ends too early")
    if unpacker.unused:
        raise ValueError("bytes follow its end")


def check_layout(archive: zipfile.ZipFile) -> None:
    """See that a zip file is its members and their directory, one after the other, and no more.

    A reader of zip files passes over what lies before, between and after them, and over comments
    and extra fields; a file could get any number of other hashes with it. Raises DamagedError.
    """
    file = archive.fp
    if file is None:
        raise DamagedError("the file is closed")
    try:
        _check_layout(file, sorted(archive.infolist(), key=lambda info: info.header_offset))
    except (OSError, ValueError, struct.error) as error:
        raise DamagedError(str(error)) from None


def _check_layout(file: IO[bytes], infos: list[zipfile.ZipInfo]) -> None:
    at = directory = 0
    for info in infos:
        name = len(info.orig_filename.encode())
        if info.header_offset != at:
            raise ValueError(f"bytes that belong to no member lie before {info.filename}")
        file.seek(at)
        if file.read(_LOCAL.size) != _LOCAL.pack(*_local(info, name)):
            raise ValueError(f"{info.filename} has other headers at its place, or extra data")
        if info.extra or info.comment:
            raise ValueError(f"{info.filename} has extra data or a comment")
        at += _LOCAL.size + name + info.compress_size
        directory += _ENTRY + name
    count = len(infos)
    file.seek(at + directory)
    if file.read() != _END.pack(b"PK\x05\x06", 0, 0, count, count, directory, at, 0):
        raise ValueError("bytes that belong to no member lie at its end, or a comment")


def _local(info: zipfile.ZipInfo, name: int) -> tuple[bytes | int, ...]:
    """A member's own header, as the directory has it, without extra data."""
    year, month, day, hour, minute, second = info.date_time
    return (
        b"PK\x03\x04",
        info.extract_version,
        info.flag_bits,
        info.compress_type,
        hour << 11 | minute << 5 | second // 2,
        (year - 1980) << 9 | month << 5 | day,
        info.CRC,
        info.compress_size,
        info.file_size,
        name,
        0,
    )
