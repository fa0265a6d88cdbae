"""Stitched images with smaller cells: what `--resize` sends instead of the joined files.

The joined file is decoded, shrunk as a whole by Lanczos' filter and encoded at the data set's
quality without chroma subsampling. The same Pillow gives the same bytes every time.
"""

import io
import threading
from collections import OrderedDict
from concurrent.futures import Future

from PIL import Image

from mmneedle.errors import UserError
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Sample

_KEPT = 16
"""Haystacks that are kept for samples that share them: a few megabytes each."""

Images = tuple[bytes, ...]


class Resizer:
    """Makes a data set's images with smaller cells. Threads may share one."""

    def __init__(self, dataset: DataSet, cell: tuple[int, int]) -> None:
        """Prepare for cells of this width and height in pixels.

        Raises:
            UserError: the cells would grow, keep their size, or change their shape.
        """
        tiles = dataset.manifest.tiles
        width, height = cell
        if width >= tiles.width or height >= tiles.height:
            raise UserError(
                f"{dataset.folder}: its cells are {tiles.width}x{tiles.height} px, and --resize "
                f"only makes them smaller; {width}x{height} px are not"
            )
        fitting = max(1, round(tiles.height * width / tiles.width))
        if height != fitting:
            raise UserError(
                f"{dataset.folder}: its cells are {tiles.width}x{tiles.height} px, which "
                f"{width}x{height} px would distort: take --resize {width}x{fitting}"
            )
        self.dataset, self.cell, self.quality = dataset, cell, tiles.quality
        self._mutex = threading.Lock()
        self._made: OrderedDict[tuple[int, ...], Future[Images]] = OrderedDict()

    def images(self, sample: Sample) -> Images:
        """The sample's images as JPEG files, in order; made once for samples that share them."""
        if sample.haystack_number is None:
            return self._make(sample)
        with self._mutex:
            future = self._made.get(sample.haystack)
            mine = future is None
            if future is None:
                future = self._made[sample.haystack] = Future()
            self._made.move_to_end(sample.haystack)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        if mine:
            try:
                future.set_result(self._make(sample))
            except BaseException as error:
                with self._mutex:
                    self._made.pop(sample.haystack, None)
                future.set_exception(error)
        return future.result()

    def _make(self, sample: Sample) -> Images:
        setting = sample.setting
        size = self.cell[0] * setting.cols, self.cell[1] * setting.rows
        return tuple(self._shrunk(image, size) for image in self.dataset.images(sample))

    def _shrunk(self, jpeg: bytes, size: tuple[int, int]) -> bytes:
        with Image.open(io.BytesIO(jpeg)) as image:
            small = image.resize(size, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=self.quality, subsampling="4:4:4")
        return out.getvalue()
