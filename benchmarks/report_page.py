"""What a large report takes: bytes, seconds to make it, and how it opens in Chromium.

    python benchmarks/report_page.py [--photos 4000] [--samples 2000] [--json FILE]

One run of the paper's seven settings with half of the answers wrong, over photos of noise, coarse
and fine, that compress about as real ones do. Seconds to make the page stand beside those of
reading and scoring the run once; seconds to open it, until an error is shown with its haystack
drawn, beside those of a page with one word, the median of several rounds taken in turn.

Needs Playwright and Chromium (`make .venv/ready-browser`, Debian: chromium).
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from mmneedle.reports.html import write_report
from mmneedle.runlog import Record, Run, RunHeader
from mmneedle.scoring import score_run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Location, Photo, Response, Sample, Setting

SHAPES = [Setting(n, s, s) for n, s in ((1, 2), (1, 4), (1, 8), (10, 1), (10, 2), (10, 4), (10, 8))]
ROUNDS = 5
OPENED = """() => {
    const drawn = [...document.querySelectorAll('#case canvas')];
    return drawn.length > 0 && drawn.every(canvas => canvas.dataset.drawn);
}"""


class Noise:
    """Photos of noise of every grain, so that they compress as real ones do."""

    def __init__(self, count: int) -> None:
        self.count = count

    def photos(self) -> list[Photo]:
        """Each with one caption of a usual length."""
        return [Photo(i, (f"a picture of noise with the number {i} on it",)) for i in self._ids()]

    def _ids(self) -> range:
        return range(self.count)

    def identity(self) -> dict[str, Any]:
        """The same noise every time."""
        return {"source": "noise", "count": self.count}

    def recipe(self) -> dict[str, Any]:
        """For the data set's manifest."""
        return self.identity()

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """Octaves of noise, each half as strong as the coarser one before."""
        rng = np.random.default_rng(photo)
        pixels = np.full((height, width, 3), 128.0)
        for octave in range(1, 6):
            coarse = rng.normal(0, 60 / 1.6**octave, (2**octave, 2**octave, 3)).astype(np.float32)
            for channel in range(3):
                layer = Image.fromarray(coarse[..., channel])
                pixels[..., channel] += np.asarray(layer.resize((width, height), Image.BICUBIC))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def half_wrong(sample: Sample) -> str:
    """Right for two samples of four, then some cell or none."""
    number = int(sample.id.rpartition("-")[2])
    truth, shape = sample.truth[0], sample.setting
    if number // 2 % 2:
        return "-1" if truth is None else str(truth)
    rng = np.random.default_rng(number)
    place = Location(*(int(rng.integers(1, n + 1)) for n in (shape.images, shape.rows, shape.cols)))
    return str(place) if truth is None or rng.random() < 0.7 else "-1"


def records(dataset: DataSet) -> Iterator[Record]:
    """An answer to every sample."""
    for setting in dataset.settings:
        for sample in dataset.samples(setting):
            yield Record(
                sample=sample.id,
                truth=sample.truth,
                ambiguity=sample.ambiguity,
                attempt=1,
                at="2026-11-22T12:00:01.000Z",
                request_sha256=None,
                response=Response(status="ok", text=half_wrong(sample), latency=1.0),
            )


def make_run(folder: Path, dataset: DataSet) -> Run:
    """The run's folder."""
    folder.mkdir()
    header = RunHeader(
        model="simulated/half-wrong",
        task="grid",
        dataset_path=str(dataset.folder),
        dataset_fingerprint=dataset.fingerprint,
        adapter={"provider": "simulated"},
        plan={setting.name: (0, dataset.count(setting)) for setting in dataset.settings},
        created="2026-11-22T12:00:00.000Z",
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(header))
    with (folder / "responses.jsonl").open("wb") as file:
        for record in records(dataset):
            file.write(msgspec.json.encode(record) + b"\n")
    return Run.open(folder)


def opening(browser: Browser, path: Path, ready: str) -> float:
    """Seconds from asking for a page until `ready` holds in it."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    began = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_function(ready)
    took = time.perf_counter() - began
    page.close()
    return took


def measure(folder: Path, photos: int, samples: int) -> dict[str, float]:
    print(f"building: {len(SHAPES)} settings, {samples:,} samples each, {photos:,} photos")
    counts = dict.fromkeys(SHAPES, samples)
    dataset = build(folder / "data", Noise(photos), counts, tiles=TileFormat(96, 96), workers=1)
    run = make_run(folder / "run", dataset)
    began = time.perf_counter()
    score_run(run, ("robust", "paper"))
    scored = time.perf_counter() - began
    began = time.perf_counter()
    path = write_report([run], folder / "report.html")
    made = time.perf_counter() - began
    trivial = folder / "trivial.html"
    trivial.write_text("<!doctype html><title>one</title><p>one")
    opened, bare = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(ROUNDS + 1):
            bare.append(opening(browser, trivial, "() => true"))
            opened.append(opening(browser, path, OPENED))
        browser.close()
    open_s, bare_s = statistics.median(opened[1:]), statistics.median(bare[1:])
    return {
        "megabytes": path.stat().st_size / 1e6,
        "make_s": made,
        "make_over_score": made / scored,
        "open_s": open_s,
        "open_over_trivial": open_s / bare_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.photos, args.samples)
    print(f"page: {found['megabytes']:.2f} MB")
    print(f"made in {found['make_s']:.1f} s, {found['make_over_score']:.1f} times scoring the run")
    print(
        f"open, an error drawn, in {found['open_s']:.2f} s, {found['open_over_trivial']:.1f} times "
        "a page of one word"
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
