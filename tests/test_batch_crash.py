"""Runs by batches that are killed at every moment: nothing is orphaned, nothing is paid twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import KEY
from batch_runs import finished, records
from batch_server import HANG_UP, SERVERS, BatchServer, Call
from chat_server import Reply
from fakes import SMALL
from test_run_crash import wait_until

from mmneedle.batching.log import open_batches
from mmneedle.types import sample_id

SAMPLES = 30
ALL = {sample_id(SMALL, index) for index in range(SAMPLES)}

NURSERY = """
import json, os, sys, time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from batch_runs import run
from fakes import FakeDataSet
from mmneedle.batching import intake
from mmneedle.adapters.batches import Limits
from mmneedle.errors import UserError

write = intake.Intake.write

def child(folder, provider, url, samples, writes):
    async def counted(self, records):
        nonlocal writes
        await write(self, records)
        writes -= 1
        if not writes:
            print("stays", flush=True)
            time.sleep(3600)

    intake._TOGETHER, intake.Intake.write = 4, counted
    server = SimpleNamespace(provider=provider, url=url)
    data, limits = FakeDataSet(small=samples), Limits(12, 10**9)
    try:
        summary = run(server, Path(folder), data, limits=limits, settle=0.1)
    except UserError as error:
        sys.exit(f"UserError {error}")
    print(summary)
    sys.exit(bool(summary.missing))

with suppress(SystemExit):
    child(sys.argv[1] + "/warm-up", *sys.argv[2:], 2, 0)  # SDKs make much when first used
for line in sys.stdin:
    out, *arguments = json.loads(line)
    pid = os.fork()
    if not pid:
        for number in (1, 2):
            os.dup2(os.open(out + str(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        child(*arguments)
    print(pid, flush=True)
    sys.stdin.readline()  # until then the number is nobody else's
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """A process that has done a run and forks others, one at a time: importing an SDK and using it
    for the first time takes longer than all of them."""

    def __init__(self, server: BatchServer, folder: Path) -> None:
        self.server, self.out = server, folder / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(folder), server.provider, server.url],
            cwd=Path(__file__).parent,
            env=os.environ | {server.variable: KEY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self.orders, self.reports = self.process.stdin, self.process.stdout
        self.pid = 0
        assert self.reports.readline().startswith("2 of 2 samples answered")
        forget(server)

    def start(self, folder: Path, writes: int = 0) -> None:
        """Fork a run, which stays where it is after so many writes; 0: it does not."""
        Path(f"{self.out}1").write_text("")
        order = (str(self.out), str(folder), self.server.provider, self.server.url, SAMPLES, writes)
        self.orders.write(json.dumps(order) + "\n")
        self.orders.flush()
        self.pid = int(self.reports.readline())

    def stays(self) -> bool:
        """Whether it does so now."""
        return Path(f"{self.out}1").read_text() == "stays\n"

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of the run."""
        self.orders.write("\n")
        self.orders.flush()
        status = int(self.reports.readline())
        return status, *(Path(f"{self.out}{n}").read_text() for n in (1, 2))

    def close(self) -> None:
        self.orders.close()
        self.process.kill()
        self.process.wait()
        self.reports.close()


def forget(server: BatchServer) -> None:
    server.asked.clear()
    server.made.clear()
    server.files.clear()


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.provider)
def nursery(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nursery]:
    with request.param() as server:
        nursery = Nursery(server, tmp_path_factory.mktemp("nursery"))
        yield nursery
        nursery.close()


@pytest.fixture
def server(nursery: Nursery) -> Iterator[BatchServer]:
    server = nursery.server
    forget(server)
    server.held, server.fault, server.after = False, lambda call: None, lambda call: None
    yield server
    assert not server.wrongs


def check(folder: Path, server: BatchServer) -> None:
    """Every sample was asked, paid and written once."""
    assert server.asked == Counter(ALL)
    assert finished(folder) == Counter(ALL)
    assert len(records(folder)) == SAMPLES
    assert len(server.made) == 3
    assert not open_batches(folder)
    assert not list((folder / "batches").iterdir())


def test_killed_at_every_exchange_with_the_provider(
    server: BatchServer, nursery: Nursery, tmp_path: Path
) -> None:
    """Before the provider has heard of it, and when it has done it but nobody knows."""
    moments: list[tuple[str, str]] = []

    def kill(call: Call, when: str) -> Reply | None:
        if (call.kind, when) in moments:
            return None
        moments.append((call.kind, when))
        nursery.send(signal.SIGKILL)
        return HANG_UP

    server.fault = lambda call: kill(call, "before")
    server.after = lambda call: kill(call, "after")
    runs, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        nursery.start(tmp_path / "run")
        status, out, err = nursery.wait()
        runs += 1
    assert (status, err) == (0, ""), out
    assert runs == len(moments) + 1 >= 9
    check(tmp_path / "run", server)
    assert len([name for name in server.files if "pending" not in name]) in (0, 3)


def test_killed_while_it_takes_results_in(
    server: BatchServer, nursery: Nursery, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    before = 0
    for writes in (2, 1, 2, 1):
        nursery.start(folder, writes)
        wait_until(nursery.stays)
        nursery.send(signal.SIGKILL)
        assert nursery.wait()[0] == -signal.SIGKILL
        assert before < lines(folder) < SAMPLES
        before = lines(folder)
    nursery.start(folder)
    assert nursery.wait()[0] == 0
    check(folder, server)


def lines(folder: Path) -> int:
    try:
        return (folder / "responses.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def test_killed_at_any_time(server: BatchServer, nursery: Nursery, tmp_path: Path) -> None:
    began = time.monotonic()
    nursery.start(tmp_path / "whole")
    assert nursery.wait()[0] == 0
    whole = time.monotonic() - began
    forget(server)
    for part in range(1, 8):
        nursery.start(tmp_path / "run")
        time.sleep(whole * part / 10)
        nursery.send(signal.SIGKILL)  # to nobody where the parts before did all of it
        nursery.wait()
    nursery.start(tmp_path / "run")
    assert nursery.wait()[0] == 0
    check(tmp_path / "run", server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_what_goes_on(
    server: BatchServer, nursery: Nursery, tmp_path: Path, number: signal.Signals
) -> None:
    server.held = True
    nursery.start(tmp_path / "run")
    wait_until(lambda: len(server.made) == 3 and server.made[2].looked > 1)
    nursery.send(number)
    status, out, err = nursery.wait()
    assert (status, err) == (1, "")
    ids = ", ".join(f"{'batches/' * (server.provider == 'google')}batch_{n}" for n in (1, 2, 3))
    assert out.endswith(
        f"stopped by hand; 3 batches go on at the provider ({ids}); the same command collects "
        "them\n"
    )
    server.held = False
    nursery.start(tmp_path / "run")
    assert nursery.wait()[0] == 0
    check(tmp_path / "run", server)
