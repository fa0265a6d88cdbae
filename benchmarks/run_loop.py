"""What the run loop costs: beside a bare loop, against a real server, and in memory.

    python benchmarks/run_loop.py [--quick] [--json FILE]

1. An instant in-process adapter at (10, 1), images joined and hashed, against a bare asyncio loop
   with as many workers that writes and syncs the very same lines, each by itself. Ratio of times,
   the median of several rounds taken side by side.
2. The OpenAI adapter at (10, 2) against tests/chat_server.py in a process of its own, which reads
   each request (about 0.7 MB) to its end and answers 100 ms later: 64 connections can do 640
   requests a second at best. Also with the SDK's own HTTP transport instead of ours.
3. Peak memory of a fresh process over 1,000 and over 20,000 samples at (10, 1).

Needs Linux (/proc) and two idle cores, of which the server takes a fifth of one.

The data set is made of generated photos that compress as real ones do: 52 KB an image at (10, 2).
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmneedle import runner
from mmneedle.adapters.openai import OpenAIAdapter
from mmneedle.runlog import RunHeader, RunLog
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Adapter, Photo, Request, Response, Setting, Usage

ROOT = Path(__file__).resolve().parent.parent
ONES = Setting(10, 1, 1)
TWOS = Setting(10, 2, 2)
PHOTOS = 400
LATENCY = 0.1
CONNECTIONS = 64
TICKS = os.sysconf("SC_CLK_TCK")


class Noise:
    """Photos of noise, coarse and fine, so that a cell of 256 pixels takes 13 KB."""

    def photos(self) -> list[Photo]:
        """Each with one caption."""
        return [Photo(i, (f"noise number {i}",)) for i in range(PHOTOS)]

    def identity(self) -> dict[str, Any]:
        """The same noise every time."""
        return {"source": "noise"}

    def recipe(self) -> dict[str, Any]:
        """Not to be opened again."""
        return {"source": "noise"}

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """Made from the photo's number."""
        rng = np.random.default_rng(photo)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        canvas = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        fine = rng.normal(0, 8, canvas.shape[:2])[..., None]
        return Image.fromarray(np.clip(canvas + fine, 0, 255).astype(np.uint8))


class Instant:
    """Answers at once what the server of part 2 answers."""

    model = "benchmark/instant"
    wants_images = True
    response = Response(
        "ok",
        "1, 2, 1",
        stop_reason="stop",
        model="fake-model-2026-11-22",
        usage=Usage(100, 5, 64),
        latency=0.1,
    )

    async def generate(self, request: Request) -> Response:
        """Answer."""
        return self.response

    def fingerprint(self) -> dict[str, Any]:
        """Nothing shapes the answers."""
        return {"adapter": "instant"}

    async def aclose(self) -> None:
        """Nothing to close."""


def evaluate(
    dataset: DataSet, setting: Setting, samples: int, adapter: Adapter, log: Path, **options: Any
) -> runner.RunSummary:
    header = RunHeader(
        model=adapter.model,
        task=GridTask.name,
        dataset_path=str(dataset.folder),
        dataset_fingerprint=dataset.fingerprint,
        adapter=adapter.fingerprint(),
        plan={setting.name: (0, samples)},
    )
    with RunLog.open(log, header) as opened:
        summary = runner.run(GridTask(dataset), dataset, adapter, opened, **options)
    assert summary.answered == samples, summary
    return summary


# --------------------------------------------------------------------------- 1. the loop itself


def bare_loop(lines: list[bytes], path: Path, workers: int) -> float:
    """Seconds to write and sync each line by itself from concurrent workers."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    waiting = iter(lines)

    async def work() -> None:
        for line in waiting:
            os.write(file, line)
            os.fsync(file)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(workers)))

    start = time.perf_counter()
    asyncio.run(main())
    spent = time.perf_counter() - start
    os.close(file)
    return spent


def loop_overhead(dataset: DataSet, folder: Path, samples: int, rounds: int) -> dict[str, float]:
    ratios, ours, bare = [], [], []
    for turn in range(rounds):
        log = folder / f"instant-{turn}"
        summary = evaluate(dataset, ONES, samples, Instant(), log)
        with (log / "responses.jsonl").open("rb") as file:
            lines = file.readlines()
        ours.append(summary.seconds / samples)
        bare.append(bare_loop(lines, folder / f"bare-{turn}", 16) / samples)
        ratios.append(ours[-1] / bare[-1])
    return {
        "loop_us_a_sample": statistics.median(ours) * 1e6,
        "bare_us_a_sample": statistics.median(bare) * 1e6,
        "loop_vs_bare": statistics.median(ratios),
    }


# --------------------------------------------------------------------------- 2. a real server


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """A chat server in a process of its own; gives its base URL and process id."""
    command = [sys.executable, str(ROOT / "tests" / "chat_server.py"), "--latency", str(LATENCY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), str(process.pid)
        finally:
            process.terminate()


def server_rate(
    dataset: DataSet, folder: Path, samples: int, rounds: int, *, direct: bool
) -> dict[str, float]:
    name = "direct" if direct else "sdk_transport"
    shares, cpu, others = [], [], []
    for turn in range(rounds):
        with server() as (url, pid):
            adapter = OpenAIAdapter("fake", base_url=url, direct=direct)
            used, served, busy = cpu_seconds("self"), cpu_seconds(pid), busy_seconds()
            summary = evaluate(
                dataset,
                TWOS,
                samples,
                adapter,
                folder / f"{name}-{turn}",
                max_connections=CONNECTIONS,
            )
            used, served = cpu_seconds("self") - used, cpu_seconds(pid) - served
            others.append((busy_seconds() - busy - used - served) / summary.seconds)
            cpu.append(used / samples)
            shares.append(samples / summary.seconds / (CONNECTIONS / LATENCY))
    return {
        f"server_share_{name}": statistics.median(shares),
        f"server_best_share_{name}": max(shares),
        f"server_requests_s_{name}": statistics.median(shares) * CONNECTIONS / LATENCY,
        f"server_client_cpu_ms_{name}": statistics.median(cpu) * 1e3,
        # Cores that other processes kept busy meanwhile: the rates mean something near 0 only.
        f"server_other_cores_{name}": statistics.median(others),
    }


def cpu_seconds(process: str) -> float:
    """CPU time that a process has used, children not included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_seconds() -> float:
    """CPU time that all processes of the machine have used."""
    user, nice, system, _idle, _iowait, irq, softirq = map(
        int, Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + irq + softirq) / TICKS


# --------------------------------------------------------------------------- 3. memory


def peak_mib(dataset: DataSet, folder: Path, samples: int) -> float:
    """Peak memory of a fresh process. Not ru_maxrss: that remembers its parent's size."""
    log = folder / f"memory-{samples}"
    command = [sys.executable, __file__, "--child", str(dataset.folder), str(log), str(samples)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def child(folder: str, log: str, samples: str) -> None:
    evaluate(DataSet.open(folder), ONES, int(samples), Instant(), Path(log))
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples and rounds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    rounds = 1 if options.quick else 5
    sizes = (1_000, 4_000) if options.quick else (1_000, 20_000)
    requests = 64 * (20 if options.quick else 100)
    figures: dict[str, float] = {}
    # Beside this file, not in /tmp: that may be held in memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="run-loop-", suffix=".partial") as temporary:
        folder = Path(temporary)
        dataset = build(folder / "data", Noise(), {ONES: sizes[1], TWOS: requests})
        sample = next(dataset.samples(TWOS))
        images = dataset.images(sample)
        figures["image_kb"] = sum(map(len, images)) / len(images) / 1000
        figures |= loop_overhead(dataset, folder, 500 if options.quick else 2_000, rounds)
        figures |= server_rate(dataset, folder, requests, rounds, direct=True)
        figures |= server_rate(dataset, folder, requests, min(rounds, 3), direct=False)
        for size in sizes:
            figures[f"peak_mib_{size}"] = peak_mib(dataset, folder, size)
        few, many = (figures[f"peak_mib_{size}"] for size in sizes)
        figures["peak_many_vs_few"] = many / few
    for name, value in figures.items():
        print(f"{name:36} {value:12,.3f}")
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
