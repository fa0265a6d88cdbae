"""The benchmark's own task: find the captioned photo in stitched images (paper, section 3)."""

from mmneedle.prompts import prompt
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Request, Sample


class GridTask:
    """Requests for a data set's samples: the stitched images in order, then the question."""

    name = "grid"

    def __init__(self, dataset: DataSet) -> None:
        self.dataset = dataset

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time."""
        return Request(
            sample=sample,
            prompt=prompt(sample.setting, [needle.caption for needle in sample.needles]),
            images=self.dataset.images(sample) if with_images else (),
        )
