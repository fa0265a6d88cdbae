"""A run whose log may grow while it is looked at: every line is read once.

`Following` keeps a run's columns (`outcomes.py`) and where each attempt stands, and takes in what
was appended since. A half line at the end waits for its other half. A log that was replaced, cut
or edited, and a plan that grew, are noticed: then all is read anew. A damaged line is left out and
named; here that is no reason to show nothing.
"""

import datetime
import os
import socket
import threading
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from mmneedle.costs import Spending
from mmneedle.outcomes import Outcomes, blank
from mmneedle.runlog import FINAL, STATUSES, Record, Run, open_runs, read_line, replaces
from mmneedle.types import ANSWERED, Setting, parse_sample_id

_BLOCK = 1 << 20
_TAIL = 256  # bytes before the place we got to, by which a log is known again
_REMEMBERED = 2_000  # times of the last answers, for the rate
_FAILURES = 50
_MESSAGE = 500  # characters of an error that are kept
_FRESH = 120.0  # seconds without a line after which a writer we cannot see counts as gone


class Failure(msgspec.Struct, frozen=True):
    """An attempt that brought no answer."""

    sample: str
    status: str
    error: str
    at: str


class Damage(msgspec.Struct, frozen=True):
    """A line of a log that could not be read."""

    path: Path
    line: int
    """From 1."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: line {self.line} is damaged ({self.reason}) and left out here"


class Following:
    """A run, or the shards of one, read as far as it has come. Threads may share one.

    Use it inside `with following.read():`, which takes in what is new and keeps others out.
    """

    def __init__(self, run: Run) -> None:
        """Follow an opened run. Nothing is read yet."""
        self._folders = run.folders
        self._mutex = threading.RLock()
        self.epoch = 0
        """Raised when all is read anew."""
        self._begin(run)

    def _begin(self, run: Run) -> None:
        self.run = run
        self._headers = [_signature(folder / "run.json") for folder in self._folders]
        self._logs = [_Log(folder / "responses.jsonl") for folder in self._folders]
        self._columns = blank(run)
        self.tables: dict[Setting, Outcomes] = {
            columns.setting: columns.done() for columns in self._columns.values()
        }
        """The run's columns so far, by the plan's settings."""
        self._attempts = {name: _Attempts() for name in self._columns}
        self.lines = 0
        """Attempts taken in."""
        self.finished: deque[float] = deque(maxlen=_REMEMBERED)
        """When the last answers came: seconds since 1970 by the writer's clock."""
        self.failures: deque[Failure] = deque(maxlen=_FAILURES)
        """The last attempts that brought no answer, the newest last."""
        self.failed = 0
        """How many there were."""
        self.damage: list[Damage] = []
        self.first_at = self.last_at = ""
        """When the first and the last attempt ended, as the log has it."""
        self.spent = Spending(usd=None if run.header.prices is None else 0.0)
        self.known = False
        """Whether the logs were read to their ends once; before that, figures are of a part."""
        self.epoch += 1

    @property
    def mark(self) -> str:
        """Changes whenever what is known of the run does."""
        return f"{self.epoch}-{self.lines}-{len(self.damage)}"

    @property
    def unread(self) -> int:
        """Bytes of the logs that were there and not read yet when `read` last looked."""
        return sum(max(0, log.whole - log.offset) for log in self._logs)

    @property
    def size(self) -> int:
        """Bytes of the logs."""
        return sum(log.seen for log in self._logs)

    @contextmanager
    def read(self, seconds: float | None = None) -> Iterator[None]:
        """Take in what is new, for so many seconds at most, and hold the run still for a block.

        Raises:
            UserError: the run is there no more, or is another one now.
        """
        with self._mutex:
            self._refresh(None if seconds is None else time.monotonic() + seconds)
            yield

    def _refresh(self, deadline: float | None) -> None:
        if [_signature(folder / "run.json") for folder in self._folders] != self._headers or any(
            log.replaced() for log in self._logs
        ):
            self._begin(_reopened(self._folders))
        for part, log in enumerate(self._logs):
            for place, line in log.lines():
                self._take(part, place, log, line)
                if deadline is not None and self.lines % 64 == 0 and time.monotonic() > deadline:
                    return
        self.known = True

    def _take(self, part: int, place: int, log: "_Log", line: bytes) -> None:
        try:
            record = read_line(line, self.run.header)
        except ValueError as error:
            self.damage.append(Damage(log.path, log.number, str(error)[:_MESSAGE]))
            return
        setting, number = parse_sample_id(record.sample)
        columns = self._columns[setting.name]
        row = columns.rows[number]
        self.lines += 1
        self._attempts[setting.name].add(row, part, place)
        if replaces(int(columns.columns["status"][row]), record.response.status):
            columns.fill(number, part, place, record)
        self._note(record)

    def _note(self, record: Record) -> None:
        response = record.response
        self.first_at = self.first_at or record.at
        self.last_at = max(self.last_at, record.at)
        self.spent.add(response, self.run.header.prices)
        if response.status in FINAL:
            self.finished.append(_seconds(record.at))
        if response.status not in ANSWERED:
            self.failed += 1
            words = (response.error or "")[:_MESSAGE]
            self.failures.append(Failure(record.sample, response.status, words, record.at))

    def attempts(self, setting: Setting, row: int) -> list[Record]:
        """All attempts at the sample in a row of its table, in the order in which they ended.

        Raises UserError where the log is being edited.
        """
        return [self.run.read(part, place) for part, place in self._attempts[setting.name].of(row)]

    def statuses(self) -> dict[str, int]:
        """How many samples stand at each status, in STATUSES' order; "missing": never tried."""
        codes = [table.status for table in self.tables.values()]
        counts = np.bincount(np.concatenate([*codes, np.zeros(0, np.int8)]), minlength=1)
        named = dict(zip(("missing", *STATUSES), counts.tolist(), strict=False))
        missing = named.pop("missing")
        return {name: count for name, count in (*named.items(), ("missing", missing)) if count}

    def pace(self, now: float) -> float | None:
        """Finished samples a second over the last two minutes at most; None: too few to tell."""
        window = [at for at in self.finished if at > now - _FRESH]
        if len(window) < 3:
            return None
        return (len(window) - 1) / max(now - min(window), 0.001)

    def writers(self) -> list[str]:
        """Who writes the run now, one line each; empty: nobody, it stands still."""
        return [
            holder
            for folder, log in zip(self._folders, self._logs, strict=True)
            if (holder := _writer(folder, log.path)) is not None
        ]


class _Attempts:
    """Where each attempt at one setting's samples stands, in the order in which they ended."""

    def __init__(self) -> None:
        self.rows, self.parts, self.places = array("q"), array("h"), array("q")

    def add(self, row: int, part: int, place: int) -> None:
        self.rows.append(row)
        self.parts.append(part)
        self.places.append(place)

    def of(self, row: int) -> list[tuple[int, int]]:
        # A copy: an array that numpy looks at cannot grow.
        found = np.flatnonzero(np.array(self.rows, np.int64) == row)
        return [(self.parts[at], self.places[at]) for at in found.tolist()]


class _Log:
    """How far one file has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = self.number = 0
        """Where the next line begins, and the number from 1 of the last one."""
        self.seen = 0
        """Bytes of the file when we last looked."""
        self.whole = 0
        """Bytes of it up to the end of its last whole line, as far as that is known."""
        self._stat: tuple[int, int, int] | None = None
        """Device, inode and time of change when we last looked."""
        self._tail = b""

    def replaced(self) -> bool:
        """Whether what we have read is there no more."""
        if self._stat is None:
            return False
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if (stat.st_dev, stat.st_ino) != self._stat[:2] or stat.st_size < self.offset:
                    return True
                file.seek(self.offset - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    return True
                # The same length at another time: edited, not appended to. The time of change is
                # there a moment before the bytes are, so the length is looked at once more.
                still = stat.st_size == self.seen == os.fstat(file.fileno()).st_size
                return still and stat.st_mtime_ns != self._stat[2]
        except OSError:
            return True

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line) of every whole line that was not given yet."""
        try:
            file = self.path.open("rb", buffering=_BLOCK)
        except FileNotFoundError:
            return
        with file:
            stat = os.fstat(file.fileno())
            self.seen = self.whole = stat.st_size
            self._stat = stat.st_dev, stat.st_ino, stat.st_mtime_ns
            file.seek(self.offset)
            for line in file:
                # What comes in while we read is for the next time: `_stat` is of these bytes.
                if not line.endswith(b"\n") or self.offset + len(line) > self.seen:
                    self.whole = self.offset
                    return
                place = self.offset
                self.offset += len(line)
                self.number += 1
                self._tail = line[-_TAIL:]
                yield place, line


def _reopened(folders: Sequence[Path]) -> Run:
    """The same folders as one run again. Raises UserError where they are none."""
    runs = open_runs(folders)
    return runs[0]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _seconds(at: str) -> float:
    try:
        return datetime.datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


# --------------------------------------------------------------------------- who is writing


def _writer(folder: Path, log: Path) -> str | None:
    """Who holds the run's lock, as the lock says; None: nobody.

    The lock is never tried: to take it for an instant would turn a writer away. Linux lists who
    holds one in /proc/locks (proc(5)); elsewhere, and for another host's writer, a log that has
    just grown tells.
    """
    lock = folder / "lock"
    try:
        words = lock.read_text(errors="replace")[:200].strip()
        inode = lock.stat().st_ino
    except OSError:
        return None
    part = words.split()
    if len(part) < 4 or part[0] != "process" or not part[1].isdecimal():
        return None
    if part[3] == socket.gethostname():
        held = _held(int(part[1]), inode)
        if held is not None:
            return words if held else None
    return words if _fresh(log) else None


def _held(process: int, inode: int) -> bool | None:
    """Whether a process of this machine holds a flock(2) on a file; None: cannot be told."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
    fields = (line.split() for line in lines if " FLOCK " in line and "->" not in line)
    return any(
        len(one) > 5 and one[4] == str(process) and one[5].rpartition(":")[2] == str(inode)
        for one in fields
    )


def _fresh(log: Path) -> bool:
    try:
        return time.time() - log.stat().st_mtime < _FRESH
    except OSError:
        return False
