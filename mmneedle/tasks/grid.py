"""The benchmark's own task: find the captioned photo in stitched images (paper, section 3)."""

from statistics import fmean

from mmneedle.prompts import prompt
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Needs, Reader, Request, Sample, Setting


class GridTask:
    """Requests for a data set's samples: the stitched images in order, then the question."""

    name = "grid"
    has_images = True
    reader: Reader | None = None

    def __init__(self, dataset: DataSet, resize: tuple[int, int] | None = None) -> None:
        """Make requests of a data set's samples.

        Args:
            dataset: whose samples.
            resize: width and height in pixels that cells are shrunk to; None: sent as they are.

        Raises:
            UserError: cells cannot be shrunk to this.
        """
        self.dataset = dataset
        self.images = dataset.images
        tiles = dataset.manifest.tiles
        self.cell = resize or (tiles.width, tiles.height)
        """Width and height of a cell as it is sent, in pixels."""
        self.slow = resize is not None
        if resize is not None:
            from mmneedle.stitching.resize import Resizer  # loads Pillow, which others do without

            self.images = Resizer(dataset, resize).images

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time."""
        return Request(
            sample=sample,
            prompt=prompt(sample.setting, [needle.caption for needle in sample.needles]),
            images=self.images(sample) if with_images else (),
        )

    def characters(self, setting: Setting, start: int, stop: int) -> float:
        """The mean length of the texts of samples start … stop-1."""
        texts = self.dataset.captions(setting, start, stop)
        return fmean(len(prompt(setting, captions)) for captions in texts)

    def needs(self, setting: Setting, start: int, stop: int) -> Needs:
        """What requests for samples start … stop-1 ask of a model.

        `image_bytes` is that of the largest of the first few samples.
        """
        longest = max(
            (prompt(setting, captions) for captions in self.dataset.captions(setting, start, stop)),
            key=len,
        )
        few = 2 if self.slow else 8
        size = max(
            sum(map(len, self.images(sample)))
            for sample in self.dataset.samples(setting, start, min(stop, start + few))
        )
        width, height = self.cell
        return Needs(setting, width * setting.cols, height * setting.rows, longest, size)
