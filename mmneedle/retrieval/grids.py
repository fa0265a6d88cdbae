"""Haystacks of photos: a retriever chooses cells, which are stitched into one small image.

The question is the official one of the small haystack. What an answer names there is taken back
to the cell of the whole haystack when it is scored (`Reading.place`); the answer itself is kept
as it was given.
"""

from collections.abc import Callable
from functools import cache
from math import isqrt
from statistics import fmean

import msgspec

from mmneedle.errors import UserError
from mmneedle.prompts import one_line, prompt
from mmneedle.retrieval.ranking import Scores, TextRanker, best
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.samples import cell_of, locate
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import Grade, TwinTask
from mmneedle.types import Location, Needle, Needs, Reader, Reading, Request, Sample, Setting

SLIM = 3
"""The longer side of a small grid is at most so many times the shorter one, in cells."""
FEW = 8
"""Samples of a setting that are looked at to know what requests are like."""

CellRanker = Callable[[Sample, str], Scores]
"""(sample, caption) -> how well each cell of its haystack fits."""


def by_captions(dataset: DataSet, grade: Grade, ranker: TextRanker) -> CellRanker:
    """Rank cells by captions of their photos, as the text twin of this grade shows them.

    Raises UserError where a photo has no second caption for a paraphrase.
    """
    twin = TwinTask(dataset, grade)
    return lambda sample, caption: ranker.scores(one_line(caption), twin.cells(sample))


class ReadGrid(GridTask):
    """Requests of a small image for a data set's samples."""

    def __init__(
        self,
        dataset: DataSet,
        reader: Reader,
        ranker: CellRanker | None,
        resize: tuple[int, int] | None = None,
    ) -> None:
        """Make requests of a data set's samples.

        Args:
            dataset: whose samples.
            reader: how many cells are read.
            ranker: chooses them; None: only what was read before is read again (`reread`).
            resize: as `GridTask` has it.

        Raises:
            UserError: K cells fill no grid that is nearly square, or cells cannot be joined so.
        """
        super().__init__(dataset, resize)
        self.slow = True
        self.reader: Reader | None = reader
        self._k, self._ranker = reader.k, ranker
        for cells in sorted({setting.cells for setting in dataset.settings}):
            dataset.manifest.tiles.check(*small_grid(reader.k, cells))

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time."""
        assert self._ranker is not None
        scores = [self._ranker(sample, needle.caption) for needle in sample.needles]
        return self.reread(sample, best(scores, self._k), with_images=with_images)

    def reread(
        self, sample: Sample, units: tuple[int, ...], *, with_images: bool = True
    ) -> Request:
        """The request that shows these cells."""
        setting = sample.setting
        rows, cols = small_grid(self._k, setting.cells)
        if len(units) != rows * cols:
            raise UserError(f"{sample.id}: {len(units)} cells were read, not {rows * cols}")
        cells = [None if at is None else cell_of(setting, at) for at in sample.truth]
        reading = Reading(
            units=units,
            of=setting.cells,
            share=len(units) / setting.cells,
            holds=tuple(() if cell is None else (cell,) for cell in cells),
            found=tuple(cell in units for cell in cells),
            grid=(rows, cols),
        )
        small = Sample(
            id=sample.id,
            setting=reading.setting(setting),
            haystack=tuple(sample.haystack[unit] for unit in units),
            needles=tuple(
                Needle(needle.caption, needle.photo, _moved(reading, cell))
                for needle, cell in zip(sample.needles, cells, strict=True)
            ),
            ambiguity=sample.ambiguity,
            hard=sample.hard,
        )
        request = super().request(small, with_images=with_images)
        return msgspec.structs.replace(request, reading=reading)

    def _small(self, setting: Setting) -> Setting:
        return Setting(1, *small_grid(self._k, setting.cells), setting.needles)

    def characters(self, setting: Setting, start: int, stop: int) -> float:
        """The mean length of the texts of samples start … stop-1."""
        small = self._small(setting)
        texts = self.dataset.captions(setting, start, stop)
        return fmean(len(prompt(small, captions)) for captions in texts)

    def needs(self, setting: Setting, start: int, stop: int) -> Needs:
        """What requests for samples start … stop-1 ask of a model, by the first few."""
        small = self._small(setting)
        samples = self.dataset.samples(setting, start, min(stop, start + 2))
        size = max(sum(map(len, self.request(sample).images)) for sample in samples)
        texts = self.dataset.captions(setting, start, stop)
        longest = max((prompt(small, captions) for captions in texts), key=len)
        width, height = self.cell
        return Needs(setting, width * small.cols, height * small.rows, longest, size, small)


def _moved(reading: Reading, cell: int | None) -> Location | None:
    """Where a cell of the whole haystack stands in the small one."""
    if cell not in reading.units:
        return None
    return locate(reading.setting(Setting(1, 1, 1)), reading.units.index(cell))


@cache
def small_grid(k: int, cells: int) -> tuple[int, int]:
    """Rows and columns of the squarest grid of K cells, or of all where there are no more.

    Raises UserError where K cells fill none whose longer side is at most SLIM times the other.
    """
    if k >= cells:
        return _squarest(cells)
    rows, cols = _squarest(k)
    if cols > SLIM * rows:
        near = [n for n in (*range(k - 1, 0, -1), *range(k + 1, 2 * k)) if _fits(n)]
        below = max(n for n in near if n < k)
        above = min(n for n in near if n > k)
        raise UserError(
            f"--reader retrieve:{k}: {k} cells fill no grid that is nearly square; take {below} "
            f"or {above}"
        )
    return rows, cols


def _fits(n: int) -> bool:
    rows, cols = _squarest(n)
    return cols <= SLIM * rows


def _squarest(n: int) -> tuple[int, int]:
    """Of all rows * cols = n with rows <= cols, those nearest to each other."""
    rows = next(rows for rows in range(isqrt(n), 0, -1) if n % rows == 0)
    return rows, n // rows
