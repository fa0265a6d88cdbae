"""Runs in processes of their own: killed, their engine killed, gone on with."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_loop import ARGS, MODEL

from mmneedle.adapters.warden import engines
from mmneedle.data.shapes import ShapesSource
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.jpeg import TileFormat
from mmneedle.stitching.samples import Rules

MANY = 240


@pytest.fixture
def many(scenes: DataSet, tmp_path: Path) -> DataSet:
    """So many samples that a run is never done before something is done to it."""
    source = ShapesSource(200, 7, "held-out")
    tiles = TileFormat(56, 56, subsampling="4:4:4")
    counts = dict.fromkeys(scenes.settings, MANY // len(scenes.settings))
    return build(tmp_path / "many", source, counts, Rules(questions=8), tiles, workers=1)


def start(scenes: DataSet, log: Path, connections: int = 1) -> "subprocess.Popen[str]":
    """One connection: there is time to do something to it before it is done."""
    words = [f"--engine-arg={name}={value}" for name, value in ARGS.items()]
    command = ["run", str(scenes.folder), "--model", MODEL, "--log", str(log)]
    return subprocess.Popen(
        [sys.executable, "-m", "mmneedle", *command, "--max-connections", str(connections), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as in a terminal
        env=os.environ | {"COLUMNS": "200", "TMPDIR": str(log.parent)},  # for its own log
    )


def until(what: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that the process brings about."""
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def lines(log: Path) -> int:
    file = log / "responses.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def alive(known: dict[int, str]) -> bool:
    """Whether any of these processes still runs (a zombie does not)."""
    for pid in known:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            return True
    return False


def test_a_run_outlives_its_engine_and_its_own_end(many: DataSet, tmp_path: Path) -> None:
    log = tmp_path / "run"

    # 1. The engine is killed: one line, status 2, finished answers are safe.
    process = start(many, log)
    until(lambda: lines(log) >= 3, process)
    workers = engines(process.pid)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate()
    last = err.strip().splitlines()[-1]
    assert process.returncode == 2, (out, err)
    assert "the engine died" in last and "the same command goes on" in last
    assert "Traceback" not in err
    Path(last.rpartition("log: ")[2].rstrip(")")).unlink()
    first = lines(log)
    assert first >= 3

    # 2. The run is killed: its engine ends too, or it would hold the GPU for good.
    process = start(many, log)
    until(lambda: lines(log) >= first + 3, process)
    workers = engines(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    [left] = tmp_path.glob("mmneedle-vllm-*")  # nobody was there to remove it
    left.unlink()
    while alive(workers):
        assert time.monotonic() < deadline, "the engine outlived the run that started it"
        time.sleep(0.1)
    second = lines(log)
    assert second >= first + 3

    # 3. Ctrl-C goes to the whole group, as a terminal sends it: what is in flight is waited for.
    process = start(many, log)
    until(lambda: lines(log) >= second + 3, process)
    workers = engines(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 1, (out, err)
    assert "stopped by hand" in out
    assert "vllm" not in err.replace(MODEL, "").lower()  # it keeps what it logs to itself
    assert len(out.splitlines()) == 1
    assert not alive(workers)
    assert not list(tmp_path.glob("mmneedle-vllm-*"))

    # 4. The same command finishes it, and asks nothing twice.
    process = start(many, log, 32)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"{MANY} of {MANY} samples answered" in out
    run = Run.open(log)
    answered = Counter(record.sample for record in run.outcomes())
    assert len(answered) == MANY and set(answered.values()) == {1}
    assert lines(log) <= MANY + 2  # those in flight when it was killed were not on disk
    positives = [row for row in score_run(run, ("robust",)) if row.split == "positive"]
    assert len(positives) == len(many.settings)
    assert all((row.exact or 0) > 0.9 for row in positives)
