"""Real processes that ask a real server through the real SDK, and are stopped in every way."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import disks
import pytest
from chat_server import Ask, ChatServer, Reply, completion
from disks import disk
from fakes import SMALL

from mmneedle.runlog import Run
from mmneedle.types import sample_id

SAMPLES = 200
CONNECTIONS = 8
ALL = {sample_id(SMALL, index) for index in range(SAMPLES)}
KEY = "sk-crash-0123456789"

CHILD = """
import sys
from fakes import FakeDataSet, FakeTask, open_log
from mmneedle import runner
from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.pacing import Backoff
from mmneedle.runner import run

folder, url, samples, connections, grace = sys.argv[1:]
runner._GRACE = float(grace)
data = FakeDataSet(small=int(samples))
try:
    adapter = create("openai/m", base_url=url)
    with open_log(folder, data, adapter) as log:
        print("running", flush=True)
        summary = run(
            FakeTask(), data, adapter, log, max_connections=int(connections), backoff=Backoff(0.01)
        )
except UserError as error:
    sys.exit(f"UserError {error}")
print(summary)
sys.exit(bool(summary.missing))
"""


def start(folder: Path, server: ChatServer, grace: float = 30.0) -> "subprocess.Popen[str]":
    """A process that runs all samples; returns when it is about to ask."""
    arguments = (folder, server.url, SAMPLES, CONNECTIONS, grace)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=Path(__file__).parent,
        env=os.environ | {"OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    return process


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.002)


class Slow:
    """Answers that take a little, more for some than for others; then half a second longer.

    However late this machine lets us look, a run is still under way.
    """

    def __init__(self, quick: int = 1_000_000) -> None:
        self.quick = quick
        """So many more before they take longer."""

    def __call__(self, ask: Ask) -> Reply:
        self.quick -= 1
        delay = 0.01 + len(ask.prompt + KEY) % 5 / 500 + 0.5 * (self.quick < 0)
        return Reply(body=completion(ask.prompt).body, delay=delay)


def finished(folder: Path) -> Counter[str]:
    """How many answers each sample has on disk."""
    records = Run.open(folder).records()
    return Counter(record.sample for record in records if record.response.status == "ok")


def test_killed_again_and_again_every_sample_is_answered_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kills = 6
    with ChatServer() as server:
        for kill in range(1, kills + 1):
            server.script = Slow(25 + CONNECTIONS // 2)
            process = start(folder, server)
            wait_until(lambda: len(finished(folder)) >= kill * 25)  # noqa: B023
            process.kill()
            assert process.wait() == -signal.SIGKILL
            safe, asked = finished(folder), Counter(server.asked)
            time.sleep(0.05)  # what was in flight arrives at a client that is gone
        server.script = Slow()
        again = start(folder, server)
        assert again.wait(60) == 0, again.stderr and again.stderr.read()
        for sample in safe:  # what was on disk at the last kill was not asked after it
            assert server.asked[sample] == asked[sample]
    assert finished(folder) == Counter(ALL)
    assert set(server.asked) == ALL
    assert max(server.asked.values()) <= 1 + kills
    assert server.asked.total() <= SAMPLES + kills * CONNECTIONS
    assert {r.response.text for r in Run.open(folder).outcomes()} == ALL
    assert process.stderr and process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_run_that_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    with ChatServer(Slow(20 + CONNECTIONS)) as server:
        process = start(folder, server)
        wait_until(lambda: len(finished(folder)) >= 20)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "not asked" in out
        assert out.endswith("stopped by hand; the same command goes on from here\n")
        assert err == ""
        assert server.asked == finished(folder)  # those in flight were given time
        server.script = Slow()
        assert start(folder, server).wait(60) == 0
    assert server.asked == finished(folder) == Counter(ALL)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with ChatServer(lambda ask: Reply(body=completion().body, delay=3600)) as server:
        process = start(folder, server, grace=3600)
        wait_until(lambda: server.at_once == CONNECTIONS)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (1, "")
        assert out.startswith(f"0 of {SAMPLES} samples answered")
        server.script = Slow()
        assert start(folder, server).wait(60) == 0
    assert finished(folder) == Counter(ALL)


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with ChatServer(lambda ask: Reply(body=completion().body, delay=3600)) as server:
        first = start(folder, server)
        wait_until(lambda: server.at_once == CONNECTIONS)
        second = start(folder, server)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"run: is being written by process {first.pid} on " in err
        assert err.count("\n") == 1
        assert server.asked.total() == CONNECTIONS
        first.kill()
        first.wait()
        server.script = Slow()
        assert start(folder, server).wait(60) == 0
    assert finished(folder) == Counter(ALL)


def test_a_full_disk_in_the_middle_and_room_again(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", disks.SMALL) as small, ChatServer(Slow()) as server:
        folder = small / "run"
        (small / "filler").write_bytes(b"x" * 30_000)
        process = start(folder, server)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "responses.jsonl: cannot be written (No space left on device)" in err
        assert err.count("\n") == 1
        kept = finished(folder)
        assert 0 < len(kept) < SAMPLES
        (small / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
        assert start(folder, server).wait(60) == 0
        assert finished(folder) == Counter(ALL)
        assert all(server.asked[sample] == 1 for sample in kept)


def test_the_key_is_in_no_file_and_no_message(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with ChatServer(lambda ask: completion(ask.headers["authorization"])) as server:
        process = start(folder, server)
        said = process.communicate(timeout=60)
    assert server.asks[0].headers["authorization"] == f"Bearer {KEY}"
    files = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"Bearer [key]" in files
    assert KEY not in files.decode() + "".join(said)
