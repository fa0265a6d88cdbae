"""Drawing haystacks against the official code's way, and reading them back in flat memory.

    python benchmarks/sampling.py [--quick] [--json FILE]

The plain approach is the loop that the published code runs for each sample: draw a list of
photos, then, for a sample without a match, filter the whole photo list for those not drawn and
choose one. It is timed on fewer samples and compared a sample; a second plain loop filters
against a set instead of a list. Memory is the peak of a fresh process that streams the samples.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mmneedle.stitching import haystacks
from mmneedle.stitching.dataset import write_samples
from mmneedle.stitching.samples import Rules, SampleMaker
from mmneedle.types import Photo, Setting

PHOTOS = 40_504
SETTING = Setting(10, 8, 8)
WORDS = 3000


def plain(ids: list[str], samples: int, *, as_set: bool = False) -> list[tuple[list[str], str]]:
    """The official loop: half the samples have a match, half filter the whole list."""
    made = []
    for i in range(samples):
        drawn = random.sample(ids, SETTING.cells)
        if i % 2 == 0:
            made.append((drawn, random.choice(drawn)))
        else:
            taken = set(drawn) if as_set else drawn
            made.append((drawn, random.choice([photo for photo in ids if photo not in taken])))
    return made


def ours(samples: int) -> int:
    """The same information: a haystack of ids, and a needle in it or not in it."""
    made = 0
    places = haystacks.positions(0, SETTING, 0, (samples + 1) // 2)
    for draw in haystacks.draw(0, SETTING, PHOTOS, 0, samples):
        for row in draw.haystacks[::2]:
            row[next(places)[0]]
        made += len(draw.haystacks)
    return made


def captioned_photos() -> list[Photo]:
    """As many photos as COCO 2014 val has, five captions of about ten words each."""
    rng = random.Random(0)
    words = [f"w{int(rng.paretovariate(0.9))}" for _ in range(WORDS)]
    return [
        Photo(i, tuple(" ".join(rng.choices(words, k=10)) for _ in range(5))) for i in range(PHOTOS)
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_peak(folder: Path, stop: int) -> int:
    """Peak memory (KiB) of a fresh process that streams the first `stop` samples."""
    code = (
        "import re, sys; from pathlib import Path\n"
        "from mmneedle.stitching.dataset import stream_samples\n"
        "from mmneedle.types import Setting\n"
        f"path, stop = Path(sys.argv[1]), int(sys.argv[2])\n"
        f"n = sum(1 for _ in stream_samples(path, Setting.parse({SETTING.name!r}), 0, stop))\n"
        "assert n == stop\n"
        # Not ru_maxrss: that remembers the parent's size from before exec.
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    command = [sys.executable, "-c", code, str(folder / "samples.parquet"), str(stop)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    samples = 2_000 if options.quick else 10_000
    ids = [f"val2014/COCO_val2014_{i:012d}.jpg" for i in range(PHOTOS)]
    figures: dict[str, float] = {"samples": samples}
    rounds = 2 if options.quick else 5
    ratios: dict[str, list[float]] = {"list": [], "set": []}
    for _ in range(rounds):  # side by side, so that a noisy machine is noisy for all
        own = seconds(lambda: ours(samples // rounds)) / (samples // rounds)
        ratios["list"].append(seconds(lambda: plain(ids, 10)) / 10 / own)
        ratios["set"].append(seconds(lambda: plain(ids, 200, as_set=True)) / 200 / own)
    for name, values in ratios.items():
        figures[f"draw_vs_plain_{name}"] = sorted(values)[len(values) // 2]
    figures["own_us_a_sample"] = own * 1e6
    maker = SampleMaker(captioned_photos(), Rules())
    next(maker.samples(SETTING, 0, 1))  # the caption index is made once a source
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "samples.parquet"
        whole = seconds(lambda: write_samples(path, maker, SETTING, samples, lambda *a: None))
        list_rate = seconds(lambda: plain(ids, 10)) / 10
        figures["build_vs_plain_list"] = list_rate / (whole / samples)
        figures["read_peak_1000_mib"] = read_peak(folder, 1000) / 1024
        figures[f"read_peak_{samples}_mib"] = read_peak(folder, samples) / 1024
    for name, value in figures.items():
        print(f"{name:28} {value:12,.1f}")
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
