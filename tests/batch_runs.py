"""Runs by batches against a server of `batch_server`, quick to look and to give up."""

import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes import FakeDataSet, header
from PIL import Image

from mmneedle import batching
from mmneedle.adapters import create
from mmneedle.batching import batch_api
from mmneedle.batching.intake import BatchSummary
from mmneedle.pacing import Backoff
from mmneedle.runlog import Record, Run, RunLog
from mmneedle.types import Request, Sample, Setting, sample_id

if TYPE_CHECKING:  # which brings all SDKs
    from batch_server import BatchServer

FAST: dict[str, Any] = {
    "poll": (0.005, 0.01),
    "settle": 0.0,
    "patience": 20.0,
    "backoff": Backoff(0.005, 0.01),
}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    return file.getvalue()


class PictureTask:
    """The prompt is the sample's id, and every image a real, small one."""

    name = "fake"
    picture = jpeg()

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        images = (self.picture,) * sample.setting.images if with_images else ()
        return Request(sample, sample.id, images)


def run(
    server: "BatchServer",
    folder: Path,
    data: FakeDataSet,
    *,
    plan: Any = None,
    limits: Any = None,
    shard: tuple[int, int] = (1, 1),
    **options: Any,
) -> BatchSummary:
    """One command."""
    adapter = create(f"{server.provider}/m", base_url=server.url)
    api = batch_api(adapter)
    if limits:
        api.limits = limits
    with RunLog.open(folder, header(data, adapter, plan=plan, shard=shard)) as log:
        return batching.run(PictureTask(), data, adapter, api, log, **FAST | options)


def records(folder: Path) -> list[Record]:
    return list(Run.open(folder).records())


def statuses(folder: Path, setting: Setting, index: int) -> list[str]:
    """How the attempts of a sample ended."""
    name = sample_id(setting, index)
    return [r.response.status for r in records(folder) if r.sample == name]


def finished(folder: Path) -> Counter[str]:
    """How many answers each sample has on disk."""
    return Counter(r.sample for r in records(folder) if r.response.status == "ok")
