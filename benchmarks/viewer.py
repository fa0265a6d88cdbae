"""What the viewer costs, each time beside the plain way to do the same.

    python benchmarks/viewer.py [--quick] [--json FILE]

1. Start: `mmneedle view` of a data set of seven settings, until its first page has come, beside a
   process that only reads all samples (what an eager viewer would do before it shows anything).
2. A page of 50 samples at (10, 8), over HTTP, once the run's log has been read: beside reading the
   run anew for each page (`outcomes`) and reading its 50 samples from the data set.
3. The small pictures of that page, two a sample, over HTTP on six connections (as browsers have):
   those of the ten samples that a window shows, then all (a browser asks for the others as they
   come near). Beside decoding the whole images and cutting the places out.
4. News of a run under way: ten more answers in a log of thousands, beside reading the log anew.

Times are of the fastest of several rounds, both ways in turn. Needs two idle cores.
"""

import argparse
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image
from run_loop import Noise

from mmneedle.outcomes import outcomes
from mmneedle.runlog import Record, Run, RunHeader
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.types import Location, Photo, Response, Sample, Setting, parse_sample_id

SHAPES = ((1, 2), (1, 4), (1, 8), (10, 1), (10, 2), (10, 4), (10, 8))
SETTINGS = tuple(Setting(images, side, side) for images, side in SHAPES)
LAST = Setting(10, 8, 8)


class Photos(Noise):
    """Enough of them for 640 cells and a caption that is not there."""

    def photos(self) -> list[Any]:
        """More photos of noise."""
        return [Photo(i, (f"noise number {i}",)) for i in range(900)]


class Viewer:
    """`mmneedle view` in a process of its own."""

    def __init__(self, *folders: Path) -> None:
        command = [sys.executable, "-m", "mmneedle", "view", "--no-open", *map(str, folders)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/", self.process.stdout.readline())
        assert found
        self.port = int(found[1])
        self._links: list[http.client.HTTPConnection] = []

    def get(self, path: str) -> bytes:
        """One reply, over a connection that is kept."""
        link = self._links.pop() if self._links else self._connect()
        try:
            link.request("GET", path)
            reply = link.getresponse()
        except http.client.RemoteDisconnected:  # it has waited too long and was closed
            link = self._connect()
            link.request("GET", path)
            reply = link.getresponse()
        content = reply.read()
        assert reply.status == 200, (path, content[-500:])
        self._links.append(link)
        return content

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def cpu(self) -> float:
        """Milliseconds of processor time so far (proc(5))."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def record(sample: Sample, number: int) -> bytes:
    """A right answer, or one that is a cell off."""
    location = sample.truth[0]
    words = "-1" if location is None else str(location)
    if number % 3 == 0:
        words = "3, 4, 5"
    one = Record(
        sample=sample.id,
        truth=sample.truth,
        attempt=1,
        at="2026-11-22T12:00:00.000Z",
        request_sha256="0" * 64,
        response=Response("ok", words, latency=1.5),
    )
    return msgspec.json.encode(one) + b"\n"


def write_run(dataset: DataSet, folder: Path, lines: int) -> None:
    """A run over all settings, with so many answers at the last one."""
    header = RunHeader(
        model="benchmark/model",
        task="grid",
        dataset_path=str(dataset.folder),
        dataset_fingerprint=dataset.fingerprint,
        adapter={"provider": "benchmark"},
        plan={setting.name: (0, dataset.count(setting)) for setting in dataset.settings},
    )
    folder.mkdir()
    (folder / "run.json").write_bytes(msgspec.json.encode(header))
    with (folder / "responses.jsonl").open("wb") as file:
        for setting in dataset.settings:
            count = min(lines, dataset.count(setting))
            for number, sample in enumerate(dataset.samples(setting, 0, count)):
                file.write(record(sample, number))


def seconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def beside(
    name: str, ours: Callable[[], object], plain: Callable[[], object], rounds: int
) -> dict[str, Any]:
    """Both ways in turn, the fastest round of each."""
    times = [(seconds(ours), seconds(plain)) for _ in range(rounds)]
    mine, other = (1000 * min(column) for column in zip(*times, strict=True))
    print(f"{name:<44} {mine:8.1f} ms   plainly {other:9.1f} ms   {other / mine:6.1f} times")
    return {"ms": mine, "plain_ms": other, "ratio": other / mine}


def starting(dataset: DataSet, rounds: int) -> dict[str, Any]:
    spent: list[float] = []

    def ours() -> None:
        viewer = Viewer(dataset.folder)
        viewer.get("/")
        spent.append(viewer.cpu())
        viewer.close()

    code = (
        "from mmneedle.stitching.dataset import DataSet\n"
        f"data = DataSet.open({str(dataset.folder)!r})\n"
        "for setting in data.settings:\n    for sample in data.samples(setting): pass\n"
    )

    def plain() -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    found = beside("start, until the first page has come", ours, plain, rounds)
    print(f"  of which processor time {min(spent):.0f} ms")
    return found | {"cpu_ms": min(spent)}


def listing(viewer: Viewer, run: Run, dataset: DataSet, rounds: int) -> dict[str, Any]:
    path = f"/samples?in=r1&setting={LAST.name}"
    pages = iter(range(1, 1000))
    viewer.get(path)

    def plain() -> None:
        table = outcomes(run)[LAST]
        for row in range(50):
            table.record(run, row)
        list(dataset.samples(LAST, 0, 50))

    last = dataset.count(LAST) // 50

    def ours() -> None:  # another page each time
        viewer.get(f"{path}&page={next(pages) % last + 1}")

    return beside("a page of 50 samples at (10,8)", ours, plain, rounds)


def pictures(
    viewer: Viewer, dataset: DataSet, rounds: int, name: str, first: int, rows: int
) -> dict[str, Any]:
    starts = iter(range(first, 100_000, 50))
    count = dataset.count(LAST)
    pool = ThreadPoolExecutor(6)

    def wanted() -> list[tuple[str, Location]]:
        first = next(starts) % (count - 49)
        samples = list(dataset.samples(LAST, first, first + rows))
        return [
            (sample.id, location)
            for sample in samples
            for location in (sample.truth[0] or Location(1, 1, 1), Location(3, 4, 5))
        ]

    def ours() -> None:
        paths = [f"/near/r1/{name}/{at.image}/{at.row}/{at.column}" for name, at in wanted()]
        list(pool.map(viewer.get, paths))

    def cut(one: tuple[str, Location]) -> None:
        name, location = one
        setting, number = parse_sample_id(name)
        [sample] = dataset.samples(setting, number, number + 1)
        image = Image.open(io.BytesIO(dataset.images(sample)[location.image - 1])).convert("RGB")
        side = image.width // setting.cols
        left, top = ((at - 1) * side for at in (location.column, location.row))
        box = (max(0, left - side), max(0, top - side), left + 2 * side, top + 2 * side)
        image.crop(box).resize((192, 192)).save(io.BytesIO(), "JPEG")

    return beside(name, ours, lambda: list(pool.map(cut, wanted())), rounds)


def news(viewer: Viewer, run: Run, dataset: DataSet, rounds: int) -> dict[str, Any]:
    log = run.folder / "responses.jsonl"
    samples = list(dataset.samples(LAST, 0, 10))
    viewer.get("/live?in=r1")

    def ours() -> None:
        with log.open("ab") as file:
            for number, sample in enumerate(samples):
                file.write(record(sample, number))
        viewer.get("/live?in=r1")

    return beside("ten more answers, and the page of the run", ours, lambda: outcomes(run), rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    count, rounds = (300, 2) if given.quick else (10_000, 5)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        dataset = build(base / "data", Photos(), dict.fromkeys(SETTINGS, count))
        write_run(dataset, base / "run", min(count, 2000))
        results = {"samples": count, "start": starting(dataset, min(rounds, 3))}
        run, viewer = Run.open(base / "run"), Viewer(base / "run")
        try:
            results["page"] = listing(viewer, run, dataset, rounds)
            few = min(rounds, 3)
            for name, rows in (("the pictures of its first screen", 10), ("all its pictures", 50)):
                # not those of another round: the viewer keeps pictures for a while
                first = 50 * few * (rows > 10)
                results[name] = pictures(viewer, dataset, few, name, first, rows)
            results["news"] = news(viewer, run, dataset, rounds)
        finally:
            viewer.close()
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
