"""Tiles as baseline JPEG files whose scan is a list of independent segments.

A restart marker resets the DC predictors, so with a restart interval of exactly one MCU row every
segment between two markers decodes on its own (ITU-T T.81, B.2.4.4 and F.1.2.1), and segments of
many tiles can be put in another order under a new frame header: that is all a join does.
"""

import io
import re
import struct
from functools import lru_cache
from typing import Literal

import msgspec
from PIL import Image

from mmneedle.errors import UserError

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]

LARGEST_SIDE = 65_500
"""Pixels: where libjpeg stops (JPEG_MAX_DIMENSION), a little short of JPEG's own 65,535."""

EOI = b"\xff\xd9"
_MCU = {"4:2:0": (16, 16), "4:2:2": (16, 8), "4:4:4": (8, 8)}
_SOI = b"\xff\xd8"
_NAMES = {0xC0: "SOF0", 0xC4: "DHT", 0xDA: "SOS", 0xDB: "DQT", 0xDD: "DRI", 0xE0: "APP0"}
_MARKER = re.compile(rb"\xff[^\x00]")  # in a scan: a data byte FF is always stuffed, FF 00


class TileFormat(msgspec.Struct, frozen=True):
    """Size and JPEG parameters that all tiles of a store share."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    quality: int = 75
    """libjpeg's scale, 1..100."""
    subsampling: Subsampling = "4:2:0"

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels of a minimum coded unit (T.81, A.2)."""
        return _MCU[self.subsampling]

    @property
    def segments(self) -> int:
        """Segments in a tile: its MCU rows."""
        return -(-self.height // self.mcu[1])

    def check(self, rows: int, cols: int) -> None:
        """See that rows x cols such tiles can be joined.

        Raises:
            UserError: they cannot; names the nearest sizes that can.
        """
        if self.subsampling not in _MCU:
            raise UserError(f"no subsampling {self.subsampling!r}: take one of {', '.join(_MCU)}")
        if self.width < 1 or self.height < 1:
            raise UserError(f"tiles of {self.width}x{self.height} px: both sides must be 1 or more")
        if not 1 <= self.quality <= 100:
            raise UserError(f"JPEG quality {self.quality}: must be from 1 to 100")
        if rows < 1 or cols < 1:
            raise UserError(f"a grid of {rows}x{cols} cells: rows and columns must be 1 or more")
        self._check_side("wide", self.width, cols, "columns")
        self._check_side("high", self.height, rows, "rows")
        across, down = self.mcu
        faults = []
        if cols > 1 and self.width % across:
            faults.append(self._misfit("side by side", "wide", self.width, 0))
        if rows > 1 and self.height % down:
            faults.append(self._misfit("one above the other", "high", self.height, 1))
        if faults:
            raise UserError("; ".join(faults))

    def _check_side(self, way: str, side: int, count: int, what: str) -> None:
        if side * count > LARGEST_SIDE:
            fits = f"tiles at most {LARGEST_SIDE // count} px {way}"
            if side <= LARGEST_SIDE:
                fits += f" or at most {LARGEST_SIDE // side} {what}"
            raise UserError(
                f"{count} {what} of tiles {side} px {way} make {side * count} px; a JPEG file "
                f"holds {LARGEST_SIDE}: take {fits}"
            )

    def _misfit(self, how: str, way: str, side: int, axis: int) -> str:
        step, fine = self.mcu[axis], _MCU["4:4:4"][axis]
        text = (
            f"tiles {side} px {way} cannot be joined {how} at {self.subsampling}: take "
            f"{_nearest(side, step)} px (a multiple of {step})"
        )
        if step == fine:
            return text
        return f"{text}, or 4:4:4 with {_nearest(side, fine)} px (a multiple of {fine})"


def _nearest(side: int, step: int) -> str:
    """The multiples of step on both sides of a number of pixels, or that number itself."""
    below = side // step * step
    if below == side:
        return str(side)
    return f"{below} or {below + step}" if below else str(step)


def encode_tile(image: Image.Image, fmt: TileFormat) -> bytes:
    """A tile as a JPEG file: baseline, standard Huffman tables, a restart marker per MCU row.

    Args:
        image: mode RGB, exactly fmt.width x fmt.height pixels.
        fmt: quality and subsampling.

    Raises:
        ValueError: another mode or size.
    """
    if image.mode != "RGB" or image.size != (fmt.width, fmt.height):
        size = "{}x{}".format(*image.size)
        raise ValueError(
            f"a tile must be RGB and {fmt.width}x{fmt.height} px, not {image.mode} and {size}"
        )
    out = io.BytesIO()
    image.save(
        out,
        "JPEG",
        quality=fmt.quality,
        subsampling=fmt.subsampling,
        restart_marker_rows=1,
        comment=b"",  # else Pillow copies the photo's
    )
    return out.getvalue()


@lru_cache(maxsize=16)
def tile_header(fmt: TileFormat) -> bytes:
    """All bytes of a tile before its scan: the same for every tile of a format.

    Raises:
        UserError: this Pillow's encoder writes something that cannot be joined.
    """
    blank = encode_tile(Image.new("RGB", (fmt.width, fmt.height)), fmt)
    header = b"".join(part for _, part in _parts(blank))
    check_header(header, fmt)
    return header


def check_header(header: bytes, fmt: TileFormat) -> None:
    """See that a header is that of a tile of this format which can be joined.

    Raises:
        UserError: it is not; says in which part.
    """
    parts = _parts(header)
    names = [name for name, _ in parts]
    if strangers := [name for name in names if name not in _NAMES.values()]:
        raise _unjoinable(f"it has a part {strangers[0]}")
    if names[0] != "APP0" or names[-1] != "SOS":
        raise _unjoinable("it does not begin with APP0 and end with SOS")
    for name, right in (("SOF0", _frame(fmt, 1, 1)), ("DRI", _restart_interval(fmt))):
        if [part for other, part in parts if other == name] != [right]:
            raise _unjoinable(f"{name} is not a tile's")


def grid_header(header: bytes, fmt: TileFormat, rows: int, cols: int) -> bytes:
    """A tile's header made that of rows x cols joined tiles: only the frame's size differs."""
    return header.replace(_frame(fmt, 1, 1), _frame(fmt, rows, cols), 1)


def restart_marker(k: int) -> bytes:
    """The marker after segment k, counted from zero: RST0 to RST7 in turn (T.81, B.2.1)."""
    return bytes((0xFF, 0xD0 + k % 8))


def split_tile(jpeg: bytes, fmt: TileFormat) -> list[bytes]:
    """The segments of a tile's scan, one per MCU row, without the markers between them.

    Raises:
        UserError: not a tile of this format as `encode_tile` makes them: it differs in a table,
            in its frame, in its restart interval, or in the number or order of its markers.
    """
    header = tile_header(fmt)
    if not jpeg.startswith(header):
        raise _unjoinable(_difference(jpeg, header))
    markers = list(_MARKER.finditer(jpeg, len(header)))
    expected = [*map(restart_marker, range(fmt.segments - 1)), EOI]
    if [marker.group() for marker in markers] != expected or markers[-1].end() != len(jpeg):
        raise _unjoinable(f"its scan is not {fmt.segments} segments with markers in order")
    starts = [len(header), *(marker.end() for marker in markers)]
    return [jpeg[a : marker.start()] for a, marker in zip(starts, markers, strict=False)]


def _frame(fmt: TileFormat, rows: int, cols: int) -> bytes:
    """SOF0 of rows x cols tiles: 8 bits, YCbCr, luma sampled finer (T.81, B.2.2)."""
    across, down = fmt.mcu
    size = struct.pack(">HH", rows * fmt.height, cols * fmt.width)
    luma = across // 8 << 4 | down // 8
    return b"\xff\xc0\x00\x11\x08" + size + bytes((3, 1, luma, 0, 2, 0x11, 1, 3, 0x11, 1))


def _restart_interval(fmt: TileFormat) -> bytes:
    """DRI: one MCU row of a tile (T.81, B.2.4.4)."""
    return b"\xff\xdd\x00\x04" + struct.pack(">H", -(-fmt.width // fmt.mcu[0]))


def _parts(jpeg: bytes) -> list[tuple[str, bytes]]:
    """The parts of a file up to its scan, by name; SOI counts to the first, SOS is the last."""
    parts: list[tuple[str, bytes]] = []
    begin, at = 0, len(_SOI)
    while jpeg.startswith(_SOI) and at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        name = _NAMES.get(jpeg[at + 1], f"FF{jpeg[at + 1]:02X}")
        parts.append((name, jpeg[begin:end]))
        begin = at = end
        if name == "SOS":
            return parts
    raise _unjoinable("it is not a whole JPEG file")


def _difference(jpeg: bytes, header: bytes) -> str:
    """The first part in which a file differs from a header."""
    for (name, part), (_, right) in zip(_parts(jpeg), _parts(header), strict=False):
        if part != right:
            return f"{name} differs"
    return "its parts differ in number"


def _unjoinable(why: str) -> UserError:
    return UserError(
        f"a tile's JPEG file cannot be joined: {why}; the JPEG encoder of this Pillow is not the "
        "usual libjpeg: install Pillow from its own wheels"
    )
