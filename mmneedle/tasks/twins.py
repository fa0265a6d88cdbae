"""The same haystack as text: every cell holds a caption of the photo that stands there.

The question, the answer's format, the truth and the sample ids are the image task's own, so that
an answer to the text pairs up with the answer to the images: what is lost there and kept here was
lost by sight. Two grades:

    literal      the needle's cell holds the very caption that is asked for
    paraphrase   it holds another human caption of the same photo: no literal match to lean on

Nothing is stored: a twin is a function of the data set, sample by sample, the same text every
time. Questions that share a haystack share its text, which comes first, so that a prefix cache
pays for it once.
"""

import hashlib
from collections.abc import Collection
from functools import cached_property
from statistics import fmean
from typing import Literal, get_args

from mmneedle.errors import UserError
from mmneedle.prompts import one_line, prompt
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.samples import cell_of
from mmneedle.types import Needs, Reader, Request, Sample, Setting

Grade = Literal["literal", "paraphrase"]
GRADES: tuple[Grade, ...] = get_args(Grade)

INTRODUCTION = "The images are given in words: each line holds the caption of one subimage."


class TwinTask:
    """Requests for the text twins of a data set's samples."""

    has_images = False
    reader: Reader | None = None

    def __init__(self, dataset: DataSet, grade: Grade) -> None:
        """Make requests of a data set's samples.

        Raises:
            UserError: a photo has no second caption that a paraphrase could show.
        """
        self.dataset, self.grade = dataset, grade
        self.name = f"twin-{grade}"
        self._last = dataset.manifest.rules.captions == "last"
        if grade == "paraphrase":
            lonely = [photo for photo, texts in self._captions.items() if len(set(texts)) < 2]
            if lonely:
                raise UserError(
                    f"{dataset.folder}: {len(lonely)} photos (such as {lonely[0]}) have only one "
                    "caption, so their cells cannot hold another: ask --task twin-literal"
                )

    @cached_property
    def _captions(self) -> dict[int, list[str]]:
        """Each photo's captions in the source's order, each on one line."""
        return {photo.id: list(map(one_line, photo.captions)) for photo in self.dataset.photos()}

    @cached_property
    def _shown(self) -> dict[int, str]:
        """What a photo's cell holds where the question does not say otherwise.

        Where questions ask for last captions by rule, cells are chosen so that no question says
        otherwise: those that share a haystack then share its text to the last character.
        """
        if not self._last:
            return {photo: self._other(photo, None) for photo in self._captions}
        if self.grade == "literal":
            return {photo: texts[-1] for photo, texts in self._captions.items()}
        return {photo: self._other(photo, texts[-1]) for photo, texts in self._captions.items()}

    def _other(self, photo: int, asked: str | None) -> str:
        """One of a photo's captions that is not `asked`, by the photo alone."""
        texts = [text for text in dict.fromkeys(self._captions[photo]) if text != asked]
        return texts[_draw(photo, len(texts))]

    def cells(self, sample: Sample) -> list[str]:
        """The text of each cell, image by image, row by row; length sample.setting.cells."""
        shown = [self._shown[photo] for photo in sample.haystack]
        for needle in sample.needles:
            if needle.location is None:
                continue
            at, asked = cell_of(sample.setting, needle.location), one_line(needle.caption)
            if self.grade == "literal":
                shown[at] = asked
            elif shown[at] == asked:
                shown[at] = self._other(needle.photo, asked)
        return shown

    def text(self, sample: Sample, only: Collection[int] | None = None) -> str:
        """The haystack in words; with `only`, these of its cells alone, each at its place."""
        shape = sample.setting
        cells = self.cells(sample)
        lines = [INTRODUCTION]
        for image in range(shape.images):
            first = image * shape.grid_cells
            shown = [
                cell
                for cell in range(first, first + shape.grid_cells)
                if only is None or cell in only
            ]
            if shown:
                lines += ["", f"Image {image + 1}"]
            for cell in shown:
                row, column = divmod(cell - first, shape.cols)
                lines.append(f"row {row + 1}, column {column + 1}: {cells[cell]}")
        return "\n".join(lines)

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time; it has no images."""
        question = prompt(sample.setting, [needle.caption for needle in sample.needles])
        return Request(sample=sample, prompt=f"{self.text(sample)}\n\n{question}", images=())

    def characters(self, setting: Setting, start: int, stop: int) -> float:
        """The mean length of the texts of samples start … stop-1."""
        samples = self.dataset.samples(setting, start, stop)
        return fmean(len(self.request(sample).prompt) for sample in samples)

    def needs(self, setting: Setting, start: int, stop: int) -> Needs:
        """What requests for samples start … stop-1 ask of a model: the longest text."""
        prompts = (self.request(s).prompt for s in self.dataset.samples(setting, start, stop))
        return Needs(setting, 0, 0, max(prompts, key=len), 0)


def _draw(photo: int, n: int) -> int:
    """One of n, by the photo alone: the same in every process and Python version."""
    digest = hashlib.sha256(f"caption of photo {photo}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % n
