"""What a run has at a provider's batch API, on disk beside its answers.

RUN/batches.jsonl             an `Event` a line, only ever appended to, synced before what follows
RUN/batches/TOKEN.requests    the file that goes to the provider; gone once the batch's id is here
RUN/batches/TOKEN.records     a `Record` a request in the same order, as it will be should the batch
                              bring no result; gone once the batch is collected

The run's lock (`runlog`) guards these too. A submission is written down before the provider hears
of it, so whoever comes after a crash knows which batches to look for; one that has no event yet
was never sent, and its files are removed.
"""

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, Self

import msgspec

from mmneedle.adapters.batches import Submission
from mmneedle.errors import UserError
from mmneedle.files import Closing, sync_folder
from mmneedle.runlog import Record, RunHeader, now
from mmneedle.types import split_sample_id

_TOKEN_BYTES = 8


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of batches.jsonl."""

    event: Literal[
        "prepared",  # its files are whole; from here on the provider may know it
        "submitted",  # the provider's id is known
        "collected",  # every request of it has a line in responses.jsonl, or is free again
        "dropped",  # the provider has no such batch, and nothing in it was asked
    ]
    token: str
    at: str
    """ISO 8601, UTC."""
    requests: int = 0
    bytes: int = 0
    time: float = 0.0
    """Of "prepared": seconds since 1970."""
    batch: str | None = None
    note: str | None = None
    """Of "dropped": why."""


class BatchLog(Closing):
    """The one writer of a run's batches; a context manager."""

    def __init__(self, folder: Path, header: RunHeader) -> None:
        """Read what is there; half a line at the end, whose writer was killed, is cut off.

        Args:
            folder: of a run whose lock is held.
            header: the run's, with all that was ever asked for.

        Raises:
            UserError: the file is damaged, or cannot be written.
        """
        self.header = header
        self.folder = folder / "batches"
        self.path = folder / "batches.jsonl"
        self.open: dict[str, Submission] = {}
        """Submissions whose requests have no answers on disk yet, by token, oldest first."""
        self.known: set[str] = set()
        """Every batch this run ever had."""
        self._file = -1
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            whole = 0
            for event, end in _events(self.path):
                _apply(event, self.open)
                self.known.add(event.batch or "")
                whole = end
            if os.fstat(self._file).st_size > whole:
                os.ftruncate(self._file, whole)
                os.fsync(self._file)
            self.folder.mkdir(exist_ok=True)
            sync_folder(folder)
            self._clean()
        except OSError as error:
            self.close()
            _unwritable(error, self.path)
        except BaseException:
            self.close()
            raise

    def _clean(self) -> None:
        """Remove files that no open submission needs."""
        for path in self.folder.iterdir():
            submission = self.open.get(path.stem)
            if not submission or (path.suffix == ".requests" and submission.batch):
                path.unlink()

    # ---------------------------------------------------------------- writing

    def draft(self) -> "Draft":
        """Begin a submission."""
        return Draft(self)

    def submitted(self, submission: Submission, batch: str) -> None:
        """Write down a batch's id; its requests' file has done its work."""
        self._append(Event(event="submitted", token=submission.token, at=now(), batch=batch))
        self.requests_of(submission).unlink(missing_ok=True)

    def collected(self, submission: Submission) -> None:
        """Every request has a line in responses.jsonl, or is free to be asked again."""
        self._append(Event(event="collected", token=submission.token, at=now()))
        self._remove(submission)

    def dropped(self, submission: Submission, why: str) -> None:
        """There is no such batch; its requests are free to be asked."""
        self._append(Event(event="dropped", token=submission.token, at=now(), note=why))
        self._remove(submission)

    def _remove(self, submission: Submission) -> None:
        for path in (self.requests_of(submission), self._records_of(submission)):
            path.unlink(missing_ok=True)

    def _append(self, event: Event) -> None:
        line = msgspec.json.encode(event) + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as error:
            _unwritable(error, self.path)
        _apply(event, self.open)
        self.known.add(event.batch or "")

    # ---------------------------------------------------------------- reading

    def requests_of(self, submission: Submission) -> Path:
        """The file that goes to the provider."""
        return self.folder / f"{submission.token}.requests"

    def _records_of(self, submission: Submission) -> Path:
        return self.folder / f"{submission.token}.records"

    def records(self, submission: Submission) -> "Records":
        """What the answers of a submission are put into. Raises UserError if that is damaged."""
        return Records(self._records_of(submission), submission.requests, self.header)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Draft:
    """A submission that is being put together; the provider knows nothing of it."""

    def __init__(self, log: BatchLog) -> None:
        self.log = log
        self.submission = Submission(
            token=secrets.token_hex(_TOKEN_BYTES), at=time.time(), requests=0, bytes=0
        )
        try:
            self._requests: BinaryIO = log.requests_of(self.submission).open("wb")
            self._records: BinaryIO = log._records_of(self.submission).open("wb")
        except OSError as error:
            _unwritable(error, log.folder)

    def custom_id(self, sample: str) -> str:
        """The id of a sample's request in this submission."""
        return f"{self.submission.token}_{sample}"

    def add(self, line: bytes, record: Record) -> None:
        """Take a request in."""
        try:
            self._requests.write(line + b"\n")
            self._records.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            self._fail(error)
        self.submission.requests += 1
        self.submission.bytes += len(line) + 1

    def commit(self) -> Submission:
        """Make it durable and write it down: from here on it may be sent."""
        try:
            for file in (self._requests, self._records):
                file.flush()
                os.fsync(file.fileno())
                file.close()
            sync_folder(self.log.folder)
        except OSError as error:
            self._fail(error)
        submission = self.submission
        submission.at = time.time()
        event = Event(
            event="prepared",
            token=submission.token,
            at=now(),
            requests=submission.requests,
            bytes=submission.bytes,
            time=submission.at,
        )
        self.log._append(event)
        return self.log.open[submission.token]

    def discard(self) -> None:
        """Leave nothing of it."""
        for file in (self._requests, self._records):
            with suppress(OSError):  # what could not be written is not wanted any more
                file.close()
        self.log._remove(self.submission)

    def _fail(self, error: OSError) -> NoReturn:
        self.discard()
        _unwritable(error, self.log.folder)


class Records:
    """A submission's records; in memory are only their places. A context manager."""

    def __init__(self, path: Path, count: int, header: RunHeader) -> None:
        """Read a file.

        Args:
            path: of the file.
            count: so many it must hold.
            header: of the run that they belong to.

        Raises:
            UserError: the file is not there, or damaged.
        """
        self.path, self.header = path, header
        self.places: dict[str, int] = {}
        """Sample id -> offset, in the order of the requests."""
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self._lost(f"cannot be read ({error.strerror})") from None
        offset = 0
        try:
            for line in self._file:
                self.places[self._checked(line).sample] = offset
                offset += len(line)
            if len(self.places) != count:
                raise self._lost(f"holds {len(self.places)} records of {count}")
        except BaseException:
            self._file.close()
            raise

    def _lost(self, how: str) -> UserError:
        return UserError(
            f"{self.path}: {how}; without it the batch's answers cannot be taken in: bring it back "
            "whole, or remove the run's batches.jsonl to ask anew"
        )

    def record(self, sample: str) -> Record:
        """The record of one sample."""
        self._file.seek(self.places[sample])
        return self._decode(self._file.readline())

    def __iter__(self) -> Iterator[Record]:
        return (self.record(sample) for sample in self.places)

    def _checked(self, line: bytes) -> Record:
        record = self._decode(line)
        try:
            if self.header.includes(*split_sample_id(record.sample)):
                return record
        except ValueError:
            pass
        raise self._lost(f"is damaged (sample {record.sample!r} is not in the plan of run.json)")

    def _decode(self, line: bytes) -> Record:
        try:
            return _RECORDS.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: is damaged ({error})") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def open_batches(folder: Path) -> list[Submission]:
    """Submissions of a run that are not collected, oldest first; reads only.

    Raises:
        UserError: the file is damaged.
    """
    found: dict[str, Submission] = {}
    try:
        for event, _ in _events(folder / "batches.jsonl"):
            _apply(event, found)
    except FileNotFoundError:
        return []
    return list(found.values())


def _apply(event: Event, submissions: dict[str, Submission]) -> None:
    """Take an event into the open submissions."""
    if event.event == "prepared":
        submissions[event.token] = Submission(
            token=event.token, at=event.time, requests=event.requests, bytes=event.bytes
        )
    elif event.event == "submitted":
        submissions[event.token].batch = event.batch
    else:
        del submissions[event.token]


def _events(path: Path) -> Iterable[tuple[Event, int]]:
    """Every whole line, and where it ends. Raises UserError naming a damaged one."""
    prepared: set[str] = set()
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                event = _EVENTS.decode(line)
                if (event.event == "prepared") == (event.token in prepared):
                    raise ValueError("it does not fit the lines before")
                if event.event in ("prepared", "collected", "dropped"):
                    prepared ^= {event.token}
            except ValueError as error:
                raise UserError(
                    f"{path}: line {number} is damaged ({error}); mend it, or remove the file: "
                    "then answers of batches that are still at the provider are lost"
                ) from None
            yield event, end


def _unwritable(error: OSError, path: Path) -> NoReturn:
    raise UserError(
        f"{error.filename or path}: cannot be written ({error.strerror}); finished answers are "
        "safe, the same command goes on from there"
    ) from None


_EVENTS = msgspec.json.Decoder(Event)
_RECORDS = msgspec.json.Decoder(Record)
