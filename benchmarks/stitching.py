"""How fast grids are joined and stores are built, each beside plain Pillow in the same run.

    python benchmarks/stitching.py [--photos FOLDER] [--json FILE]

Plain Pillow opens, converts and resizes every photo; for a grid it pastes them and saves the
canvas, for a tile it saves the tile, into memory. All of a round's runs come one after another and
a round gives one ratio, so a machine whose speed drifts moves the rates and hardly the ratios;
medians over the rounds are printed. One process is timed in CPU seconds (its rate a core), two
workers by the clock, so the machine must be idle for those: beside them stand two plain processes
at once, which says what the machine had to give just then.

Photos: FOLDER, or those that MMNEEDLE_COCO_MINI names, or those beside the checkout, or else
generated ones of 640x480 pixels. Nothing is left on the disk.
"""

import argparse
import io
import json
import os
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmneedle.stitching.tiles import TileFormat, TileStore, build_store

FMT = TileFormat(256, 256)
GRIDS = (2, 4, 8)
GOALS = {"join": 700, "build 1": 0.9, "build 2": 1.8}


class Photos:
    """The files of a folder, over and over: photo i is file i modulo their number."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def identity(self) -> dict[str, str]:
        """What the photos are."""
        return {"source": "benchmark"}

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """The photo, resized as the official code does it."""
        with Image.open(self.files[photo % len(self.files)]) as image:
            return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


class Resized(Photos):
    """The same with all tiles held in memory: a large store of real tiles in little time."""

    def __init__(self, files: list[Path]) -> None:
        super().__init__(files)
        self.held = [super(Resized, self).tile(k, 256, 256) for k in range(len(files))]

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """The photo, as it was resized before."""
        return self.held[photo % len(self.held)]


class Taken(NamedTuple):
    """What a call took: seconds of this process's CPU time, and of the clock."""

    cpu: float
    clock: float


def time_call(function: Callable[[], object]) -> Taken:
    cpu, clock = time.process_time(), time.perf_counter()
    function()
    return Taken(time.process_time() - cpu, time.perf_counter() - clock)


def plain_tiles(photos: Photos, count: int) -> None:
    for photo in range(count):
        photos.tile(photo, 256, 256).save(io.BytesIO(), "JPEG", quality=75)


def plain_tiles_twice(photos: Photos, count: int) -> float:
    """Seconds by the clock of two processes that share the work, from when both have started."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        wait([pool.submit(plain_tiles, photos, 32) for _ in range(2)])
        halves = [count // 2, count - count // 2]
        begun = time.perf_counter()
        wait([pool.submit(plain_tiles, photos, half) for half in halves])
        return time.perf_counter() - begun


def plain_grid(photos: Photos, ids: list[int], side: int) -> bytes:
    canvas = Image.new("RGB", (side * 256, side * 256))
    for k, photo in enumerate(ids):
        canvas.paste(photos.tile(photo, 256, 256), (k % side * 256, k // side * 256))
    out = io.BytesIO()
    canvas.save(out, "JPEG", quality=75)
    return out.getvalue()


def time_joins(store: TileStore, photos: Photos, side: int, rounds: int) -> list[dict[str, float]]:
    """Grids a second, joined and plain, for each round."""
    cells = side * side
    grids = [random.choices(store.ids.tolist(), k=cells) for _ in range(max(1, 40_000 // cells))]
    few = grids[: max(2, 256 // cells)]
    result = []
    for _ in range(rounds):
        plain = time_call(lambda: [plain_grid(photos, ids, side) for ids in few])
        joins = time_call(lambda: [len(store.join(ids, side, side)) for ids in grids])
        rates = {"plain": len(few) / plain.cpu, "joined": len(grids) / joins.cpu}
        result.append(rates | {"ratio": rates["joined"] / rates["plain"]})
    return result


def time_builds(photos: Photos, folder: Path, tiles: int, rounds: int) -> list[dict[str, float]]:
    """Tiles a second, plain and stored, for each round."""
    result = []
    for number in range(rounds):
        one, two = folder / f"{number}-1", folder / f"{number}-2"
        before = time_call(lambda: plain_tiles(photos, tiles // 2))
        single = time_call(partial(build_store, one, photos, range(tiles), FMT, workers=1))
        double = time_call(partial(build_store, two, photos, range(tiles), FMT, workers=2))
        pair = plain_tiles_twice(photos, tiles)
        after = time_call(lambda: plain_tiles(photos, tiles - tiles // 2))
        plain = Taken(before.cpu + after.cpu, before.clock + after.clock)
        result.append(
            {
                "plain": tiles / plain.cpu,
                "plain by the clock": tiles / plain.clock,
                "1 rate": tiles / single.cpu,
                "1 ratio": plain.cpu / single.cpu,
                "2 rate": tiles / double.clock,
                "2 ratio": plain.clock / double.clock,
                "2 rate, plain": tiles / pair,
                "2 ratio, both": pair / double.clock,
            }
        )
    return result


def find_photos(folder: Path | None, temporary: Path) -> list[Path]:
    beside = Path(__file__).resolve().parents[2] / "shared" / "coco-mini"
    mini = Path(os.environ.get("MMNEEDLE_COCO_MINI", beside)) / "val2017"
    files = sorted((folder or mini).glob("*.jpg"))
    if files or folder:
        return files
    for k in range(40):
        rng = np.random.default_rng(k)
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        files.append(temporary / f"{k}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def report(name: str, rate: float, plain: float, ratio: float, goal: float) -> None:
    verdict = "reached" if ratio >= goal else "MISSED"
    print(f"{name:<22}{rate:>12,.1f}{plain:>12,.2f}{ratio:>10,.2f}   goal {goal:g}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--tiles", type=int, default=6000, help="tiles of a timed build")
    parser.add_argument("--joined", type=int, default=40_504, help="tiles of the store joined from")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all rounds' figures to this file")
    arguments = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = find_photos(arguments.photos, folder)
        if not files:
            parser.error(f"{arguments.photos}: no *.jpg files")
        photos = Photos(files)
        load = os.getloadavg()[0]
        print(f"{len(files)} photos, {os.cpu_count()} cores, load {load:.2f}, medians", end="")
        print(f" of {arguments.rounds} rounds\n{'':<22}{'a second':>12}{'plain':>12}{'ratio':>10}")
        figures: dict[str, object] = {"load": load}

        built = folder / "joined"
        build_store(built, Resized(files), range(arguments.joined), FMT, workers=1).close()
        tracemalloc.start()
        store = TileStore.open(built)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for photo in store.ids.tolist():
            store.tile(photo)  # warm
        for side in GRIDS:
            rows = figures[f"join {side}x{side}"] = time_joins(
                store, photos, side, arguments.rounds
            )
            middle = median(rows)
            report(
                f"join {side}x{side}",
                middle["joined"],
                middle["plain"],
                middle["ratio"],
                GOALS["join"],
            )
        store.close()

        rows = figures["build"] = time_builds(photos, folder, arguments.tiles, arguments.rounds)
        middle = median(rows)
        for workers, plain in ((1, "plain"), (2, "plain by the clock")):
            rate, ratio = middle[f"{workers} rate"], middle[f"{workers} ratio"]
            goal = GOALS[f"build {workers}"]
            report(f"build, workers={workers}", rate, middle[plain], ratio, goal)
        rate, both = middle["2 rate, plain"], middle["2 ratio, both"]
        print(
            f"{'  by 2 plain processes':<22}{middle['2 rate']:>12,.1f}{rate:>12,.2f}{both:>10,.2f}"
        )
        size = (built / "tiles.bin").stat().st_size
        print(f"\nstore of {arguments.joined:,} tiles: {size / 1e6:,.0f} MB on disk, ", end="")
        print(f"{held / 1e6:.1f} MB in memory when open")
        figures |= {"store bytes": size, "open store memory bytes": held}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
