"""Text twins of which only the best cells are read; each keeps its place, and the question its
words, so that answers are those to the whole haystack."""

from statistics import fmean

import msgspec

from mmneedle.prompts import one_line, prompt
from mmneedle.retrieval.grids import FEW
from mmneedle.retrieval.ranking import TextRanker, best
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.samples import cell_of
from mmneedle.tasks.twins import Grade, TwinTask
from mmneedle.types import Needs, Reader, Reading, Request, Sample, Setting


class ReadTwin(TwinTask):
    """Requests for the text twins of a data set's samples, with the best cells alone."""

    slow = True

    def __init__(
        self, dataset: DataSet, grade: Grade, reader: Reader, ranker: TextRanker | None
    ) -> None:
        """Make requests of a data set's samples; without a ranker only what was read before.

        Raises UserError as `TwinTask` does.
        """
        super().__init__(dataset, grade)
        self.reader: Reader | None = reader
        self._k, self._ranker = reader.k, ranker

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time; it has no images."""
        assert self._ranker is not None
        cells = self.cells(sample)
        asked = [one_line(needle.caption) for needle in sample.needles]
        scores = [self._ranker.scores(caption, cells) for caption in asked]
        return self.reread(sample, best(scores, self._k))

    def reread(
        self, sample: Sample, units: tuple[int, ...], *, with_images: bool = True
    ) -> Request:
        """The request that shows these cells."""
        setting = sample.setting
        cells = [None if at is None else cell_of(setting, at) for at in sample.truth]
        found = tuple(cell in units for cell in cells)
        text = self.text(sample, units)
        question = prompt(setting, [needle.caption for needle in sample.needles])
        reading = Reading(
            units=units,
            of=setting.cells,
            share=len(text) / len(self.text(sample)),
            holds=tuple(() if cell is None else (cell,) for cell in cells),
            found=found,
        )
        left = tuple(
            needle if there else msgspec.structs.replace(needle, location=None)
            for needle, there in zip(sample.needles, found, strict=True)
        )
        shown = msgspec.structs.replace(sample, needles=left)
        return Request(shown, f"{text}\n\n{question}", (), reading)

    def characters(self, setting: Setting, start: int, stop: int) -> float:
        """The mean length of the first few samples' texts."""
        samples = self.dataset.samples(setting, start, min(stop, start + FEW))
        return fmean(len(self.request(sample).prompt) for sample in samples)

    def needs(self, setting: Setting, start: int, stop: int) -> Needs:
        """What requests ask of a model, by the longest of the first few samples."""
        samples = self.dataset.samples(setting, start, min(stop, start + FEW))
        return Needs(setting, 0, 0, max((self.request(s).prompt for s in samples), key=len), 0)
