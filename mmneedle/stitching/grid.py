"""The join: tiles that are already encoded become one JPEG file, at the speed of memcpy.

A file of rows x cols tiles is a header, then for every row, for every MCU row of a tile, for every
column one segment and one restart marker; the last marker is the end of the file. Headers and
markers depend on the grid alone, so a plan holds them once, in a list with a hole for each segment:

    header  .  RST0  .  RST1  .  RST2  …  .  EOI

A tile's segments stand at regular distances in that list: one slice assignment puts them in.
"""

from collections.abc import Iterable

from mmneedle.stitching.jpeg import EOI, TileFormat, grid_header, restart_marker


class Plan:
    """What all joined files of one grid have in common. Never changed: threads may share it.

    Raises:
        UserError: tiles of this format cannot be joined into this grid.
    """

    def __init__(self, header: bytes, fmt: TileFormat, rows: int, cols: int) -> None:
        fmt.check(rows, cols)
        segments = rows * cols * fmt.segments
        self._parts = [b""] * (2 * segments + 1)
        self._parts[0] = grid_header(header, fmt, rows, cols)
        self._parts[2::2] = [*map(restart_marker, range(segments - 1)), EOI]
        stride = 2 * cols  # from one of a tile's segments to its next
        block = stride * fmt.segments  # from one row of tiles to the next
        self._holes = [
            slice(1 + row * block + 2 * col, 1 + (row + 1) * block, stride)
            for row in range(rows)
            for col in range(cols)
        ]
        self.overhead = len(self._parts[0]) + 2 * segments
        """Bytes of a joined file that are not segments."""

    def join(self, tiles: Iterable[list[bytes]]) -> bytes:
        """The joined file.

        Args:
            tiles: rows * cols tiles, row by row, each the list of its segments.

        Raises:
            ValueError: a tile with another number of segments, or another number of tiles.
        """
        parts = self._parts.copy()
        for hole, segments in zip(self._holes, tiles, strict=True):
            parts[hole] = segments
        return b"".join(parts)
