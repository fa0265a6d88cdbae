"""A run's folder on disk: what was asked, every finished attempt, and who is writing it.

RUN/run.json          what is asked of whom (`RunHeader`), written whole or not at all
RUN/responses.jsonl   one `Record` a line, only ever appended to; a line is synced before it counts
RUN/lock              held by flock(2) for the writing process's life; says who that is

Killing the writer at any moment loses no counted line: at most a half line is left at the end,
which the next writer cuts off and readers pass over. Reading needs memory for a few bytes a
sample, however long the answers are.
"""

import asyncio
import datetime
import fcntl
import hashlib
import os
import platform
import socket
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args
from urllib.parse import urlsplit

import msgspec

from mmneedle import __version__
from mmneedle.costs import Prices
from mmneedle.errors import UserError
from mmneedle.files import Closing, sync_folder, write_whole
from mmneedle.types import (
    MOST_NEEDLES,
    MOST_SAMPLES,
    RETRYABLE,
    AnySetting,
    Location,
    Reader,
    Reading,
    Request,
    Response,
    Setting,
    Status,
    TextSetting,
    read_setting,
    split_sample_id,
)

Plan = dict[str, tuple[int, int]]
"""Setting name -> [start, stop) of sample indices."""

STATUSES: tuple[Status, ...] = get_args(Status)
FINAL: frozenset[str] = frozenset(STATUSES) - RETRYABLE - {"auth"}
"""A sample with such a response is finished."""

_MOST_TOKENS = 1 << 40
_ROUNDING = 1e-3  # log-probabilities of a sure token, as half-precision engines sum them up
FORMAT = 1
"""Of run folders."""


# --------------------------------------------------------------------------- what is stored


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that a rule stopped before its plan's end (`run --until-halfwidth`)."""

    end: int
    """Samples with this index and beyond it are not asked; they are not missing answers."""
    halfwidth: float
    """What the half-widths of the confidence sequences had to reach."""
    level: float
    """Of confidence."""
    rule: str
    """Which confidence sequence (`statistics.sequential.RULE`)."""
    at: str
    """ISO 8601, UTC."""


class RunHeader(msgspec.Struct, kw_only=True):
    """run.json: what is asked of whom."""

    version: int = FORMAT
    """Of this folder's format."""
    model: str
    task: str
    dataset_path: str
    """Where the data set was; its fingerprint is what counts."""
    dataset_fingerprint: str
    adapter: dict[str, Any]
    """The adapter's fingerprint: all that shapes the answers, no secrets."""
    plan: Plan
    """Which samples the run asks, over all its shards."""
    stopped: dict[str, Stop] = {}
    """Setting name -> where a rule stopped it. Not part of the run's identity."""
    shard: tuple[int, int] = (1, 1)
    """Part k of n: the haystacks with number % n == k - 1, so that every part is balanced. Where
    samples have haystacks of their own, two neighbours, a positive and a negative, count as one."""
    questions: int = 1
    """Questions a haystack: samples gQ … gQ+Q-1 of a setting share haystack g."""
    resize: tuple[int, int] | None = None
    """Width and height in pixels that cells are shrunk to before sending; None: sent as built."""
    reader: Reader | None = None
    """How much of a haystack the model reads; None: all of it."""
    cell: tuple[int, int] | None = None
    """Width and height of a cell as it is sent; None: the model looks at no images."""
    effective_cell: dict[str, tuple[int, int] | None] = {}
    """Setting name -> width and height of a cell as the model gets it, after its provider's
    shrinking; None: not documented. Not part of the run's identity."""
    prices: Prices | None = None
    """The model's, where they are known. Not part of the run's identity."""
    created: str = ""
    """ISO 8601, UTC."""
    environment: dict[str, str] = {}
    """Versions, for people; not part of the run's identity."""

    def __post_init__(self) -> None:
        """Raise ValueError, which names the file where one is read, on what cannot be."""
        for name in (*self.plan, *self.effective_cell):
            setting = read_setting(name)
            if setting.name != name:
                raise ValueError(f"not the name of a setting: {name!r}")
            if not 1 <= setting.needles <= MOST_NEEDLES:
                raise ValueError(f"{setting.needles} needles of {name}")
        for name, (start, stop) in self.plan.items():
            if not 0 <= start <= stop <= MOST_SAMPLES:
                raise ValueError(f"samples {start} to {stop} of {name}")
        for name, found in self.stopped.items():
            if name not in self.plan or not 0 <= found.end <= MOST_SAMPLES:
                raise ValueError(f"{name} stopped at sample {found.end}")
            if not (0 < found.halfwidth < 0.5 and 0 < found.level < 1):
                raise ValueError(f"{name} stopped at a half-width of {found.halfwidth}")
        self.stopped = {
            name: found for name, found in self.stopped.items() if found.end < self.plan[name][1]
        }  # where all was asked, nothing was stopped
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]} of {self.shard[1]}")
        if not 1 <= self.questions <= MOST_SAMPLES:
            raise ValueError(f"{self.questions} questions a haystack")

    @property
    def called(self) -> str:
        """The model, and how it reads where that is not everything: what tables call the run."""
        return self.model if self.reader is None else f"{self.model}, {self.reader.label}"

    @property
    def textual(self) -> bool:
        """Whether the samples are of a text task, without a place in a grid to be named."""
        return any(isinstance(read_setting(name), TextSetting) for name in self.plan)

    def includes(self, setting: AnySetting | str, index: int) -> bool:
        """Whether the run asks this sample."""
        start, stop = self.span(setting)
        part, parts = self.shard
        return start <= index < stop and index // max(2, self.questions) % parts == part - 1

    def span(self, setting: AnySetting | str) -> tuple[int, int]:
        """[start, stop) of the sample indices that the run asks, up to where a rule stopped it."""
        name = _name(setting)
        start, stop = self.plan.get(name, (0, 0))
        found = self.stopped.get(name)
        return start, stop if found is None else max(start, min(stop, found.end))

    def haystack(self, index: int) -> int | None:
        """The number of the haystack that sample `index` of a setting shares; None: its own."""
        return index // self.questions if self.questions > 1 else None

    def cell_text(self, setting: AnySetting | str) -> str | None:
        """A cell's pixels as the model gets it: "96", "160x96", "unknown"; None: not recorded."""
        name = _name(setting)
        return pixels(self.effective_cell[name]) if name in self.effective_cell else None

    def asked(self, setting: AnySetting | str, positive: bool) -> int:
        """How many samples of a setting's positives or negatives the run asks."""
        start, stop = self.span(setting)
        first = start + (start % 2 == positive)  # positives have even indices
        return sum(self.includes(setting, index) for index in range(first, stop, 2))


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of responses.jsonl: a finished attempt."""

    sample: str
    truth: tuple[Location | None, ...]
    """The right location of each needle, so that a run can be scored without its data set."""
    expected: tuple[tuple[str, ...], ...] | msgspec.UnsetType = msgspec.UNSET
    """The same of a text task: see `TextSample`; no other task's line has it."""
    ambiguity: float | None = None
    """The sample's; so that scores can be read with and without doubtful samples."""
    hard: bool = False
    """Whether the sample is a hard negative."""
    reading: Reading | msgspec.UnsetType = msgspec.UNSET
    """What of the haystack was sent, where it was not all of it."""
    attempt: int
    """From 1; a later command that goes on with the run begins anew."""
    at: str
    """When it ended: ISO 8601, UTC."""
    request_sha256: str | None
    """SHA-256 of the prompt's UTF-8 and the image files in order; None without images."""
    response: Response


def pixels(cell: tuple[int, int] | None) -> str:
    """A cell's size as tables show it: "96" for 96 x 96, "160x96", "unknown"."""
    if cell is None:
        return "unknown"
    return str(cell[0]) if cell[0] == cell[1] else f"{cell[0]}x{cell[1]}"


def now() -> str:
    """The time as run folders write it: ISO 8601, UTC, milliseconds."""
    utc = datetime.datetime.now(datetime.UTC)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def environment() -> dict[str, str]:
    """What a run ran on, for its header."""
    return {
        "mmneedle": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def request_digest(request: Request) -> str:
    """SHA-256 (hex) of the prompt's UTF-8 followed by the image files in order."""
    digest = hashlib.sha256(request.prompt.encode())
    for image in request.images:
        digest.update(image)
    return digest.hexdigest()


# --------------------------------------------------------------------------- writing


class RunLog(Closing):
    """The one writer of a run's folder; a context manager.

    `append` returns when its line is on disk. Lines that come in while a sync is under way are
    written and synced together with the next one (group commit), in a thread of their own.
    """

    def __init__(self, folder: Path, header: RunHeader, plan: Plan, lock: int) -> None:
        self.folder = folder
        self.header = header
        """As run.json holds it; its plan is the union of all that was ever asked for."""
        self.plan = plan
        """What this time is asked for."""
        self.path = folder / "responses.jsonl"
        self._lock = lock
        self._statuses = {name: bytearray(stop) for name, (_, stop) in header.plan.items()}
        self._file = -1
        self._mutex = threading.Lock()
        self._batch: list[_Entry] | None = None
        """Gathers until the writer gets to it; None when none is gathering."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="run-log")
        self._broken: UserError | None = None

    @classmethod
    def open(cls, folder: Path | str, header: RunHeader) -> Self:
        """Begin a run in a new or empty folder, or go on with the one that is there.

        Raises:
            UserError: another process writes this run; the folder holds another run or other
                files; its log is damaged; the file system refuses.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _check_ours(folder)
            lock = _take_lock(folder)
            try:
                log = cls(folder, _merge_header(folder, header), dict(header.plan), lock)
                log._open_file()
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            where = error.filename or folder
            raise UserError(f"{where}: cannot write the run here ({error.strerror})") from error
        return log

    def _open_file(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            whole = 0
            for number, offset, line in _lines(self.path):
                self._note(_record(self.path, number, line, self.header))
                whole = offset + len(line)
            if os.fstat(self._file).st_size > whole:  # a half line: its writer was killed
                os.ftruncate(self._file, whole)
                os.fsync(self._file)
            sync_folder(self.folder)
        except BaseException:
            os.close(self._file)
            raise

    def set_stops(self, stopped: dict[str, Stop]) -> None:
        """Write down which settings a rule has stopped, whole or not at all.

        Raises UserError if that cannot be written.
        """
        if stopped != self.header.stopped:
            header = msgspec.structs.replace(self.header, stopped=stopped)
            try:
                _write_header(self.folder, header)
            except OSError as error:
                raise UserError(
                    f"{self.folder / 'run.json'}: cannot be written ({error.strerror}); finished "
                    "answers are safe, the same command goes on from there"
                ) from error
            self.header = header

    def status(self, setting: AnySetting | str, index: int) -> Status | None:
        """How a sample stands: its final status, else that of its last attempt, else None."""
        code = self._statuses[_name(setting)][index]
        return STATUSES[code - 1] if code else None

    def _note(self, record: Record) -> None:
        setting, index = split_sample_id(record.sample)
        table = self._statuses[setting.name]
        if replaces(table[index], record.response.status):
            table[index] = _code(record.response.status)

    async def append(self, record: Record) -> None:
        """Write a line; return when it is on disk. Raises UserError if it cannot be written."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._mutex:
            if self._batch is None:
                self._batch = []
                self._writer.submit(self._commit, self._batch)  # begins when the one before ends
            self._batch.append(_Entry(record, durable))
        await durable
        self._note(record)

    def _commit(self, batch: "list[_Entry]") -> None:
        """Close a batch, write and sync it, and tell who waits. In the writer's thread."""
        with self._mutex:
            self._batch = None
        try:
            self._write(batch)
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                batch[0].durable.get_loop().call_soon_threadsafe(_settle, batch, self._broken)

    def _write(self, batch: "list[_Entry]") -> None:
        if self._broken:
            return
        content = b"".join(msgspec.json.encode(entry.record) + b"\n" for entry in batch)
        written = 0
        try:
            view = memoryview(content)
            while written < len(content):
                written += os.write(self._file, view[written:])
            os.fsync(self._file)
        except OSError as error:
            self._take_back(written - (content.rfind(b"\n", 0, written) + 1))
            self._broken = UserError(
                f"{self.path}: cannot be written ({error.strerror}); finished answers are safe, "
                "the same command goes on from there"
            )

    def _take_back(self, count: int) -> None:
        """Cut off a half line if the file system lets us; else the next writer does."""
        with suppress(OSError):
            os.ftruncate(self._file, os.fstat(self._file).st_size - count)

    def close(self) -> None:
        """Write what still waits, let go of the run. Raises UserError if a write failed."""
        if self._file < 0:
            return
        self._writer.shutdown()
        os.close(self._file)
        self._file = -1
        os.close(self._lock)  # lets go of the lock
        if self._broken:
            raise self._broken


class _Entry(NamedTuple):
    """A line to be written, and who is told when it is on disk."""

    record: Record
    durable: asyncio.Future[None]


def _settle(batch: list[_Entry], error: UserError | None) -> None:
    for entry in batch:
        if not entry.durable.done():  # else whoever waited was cancelled
            if error:
                entry.durable.set_exception(error)
            else:
                entry.durable.set_result(None)


def _take_lock(folder: Path) -> int:
    """Take the run's lock and write down who holds it. Raises UserError if another does."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 1000, 0).decode(errors="replace").strip() or "another process"
            raise UserError(f"{folder}: is being written by {holder}") from None
        os.ftruncate(lock, 0)
        holder = f"process {os.getpid()} on {socket.gethostname()} since {now()}\n"
        os.pwrite(lock, holder.encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_ours(folder: Path) -> None:
    """See that the folder holds a run or nothing, before anything is written there."""
    names = {item.name for item in folder.iterdir()}
    strangers = names - {"lock", "run.json.partial"}
    if "run.json" not in names and strangers:
        raise UserError(
            f"{folder}: holds other files ({min(strangers)}) and no run; name another --log"
        )


def _merge_header(folder: Path, new: RunHeader) -> RunHeader:
    """The header of the run that goes on, with the new plan taken in; run.json is written."""
    path = folder / "run.json"
    old = _read_header(path)
    if old is None:
        merged = msgspec.structs.replace(new, created=new.created or now())
    else:
        for there, wanted in _differences(old, new):
            raise UserError(
                f"{folder}: holds another run: {there}, now {wanted}; name another --log"
            )
        merged = msgspec.structs.replace(
            old,
            plan=_union(folder, old.plan, new.plan),
            dataset_path=new.dataset_path,
            cell=new.cell,
            effective_cell=old.effective_cell | new.effective_cell,
            prices=new.prices or old.prices,
        )
    if merged != old:
        _write_header(folder, merged)
    return merged


def _write_header(folder: Path, header: RunHeader) -> None:
    """Write run.json. Raises OSError."""
    content = msgspec.json.format(msgspec.json.encode(header), indent=2) + b"\n"
    write_whole(folder / "run.json", content)


def _differences(old: RunHeader, new: RunHeader) -> Iterator[tuple[str, str]]:
    """What makes two headers different runs: (how it was, how it is now), as a user says it."""
    ways: dict[str, Callable[[Any], str]] = {
        "version": lambda value: f"format {value}",
        "model": lambda value: f"--model {value}",
        "task": lambda value: f"the task {value}",
        "dataset_fingerprint": lambda value: f"a data set with the fingerprint {value[:16]}",
        "resize": lambda value: f"--resize {pixels(value)}" if value else "not resized",
        "reader": lambda value: f"--reader {value.label}" if value else "--reader long",
        "shard": lambda value: "whole" if value == (1, 1) else "--shard {}/{}".format(*value),
    }
    for field, say in ways.items():
        one, other = getattr(old, field), getattr(new, field)
        if one != other:
            yield say(one), say(other)
    # The room for an answer follows from how hard the model thinks: told last.
    for key in sorted({*old.adapter, *new.adapter}, key=lambda key: (key == "max_tokens", key)):
        one, other = old.adapter.get(key), new.adapter.get(key)
        if one != other and not (key == "base_url" and _host(one) == _host(other)):
            yield _setting_of_model(key, one), _setting_of_model(key, other)


_OPTIONS = {"base_url", "max_tokens", "temperature", "reasoning", "detail", "logprobs"}
"""Of an adapter's fingerprint: options of the command line."""


def _setting_of_model(key: str, value: Any) -> str:
    """A part of an adapter's fingerprint in words."""
    name = f"--{key.replace('_', '-')}" if key in _OPTIONS else f"the model's {key}"
    if value is None or value is False:
        return f"no {name}" if key in _OPTIONS else f"{name} not set"
    if value is True:
        return name
    return f"{name} {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"


def _host(url: str | None) -> str | None:
    """A server that was started again may have another port."""
    return urlsplit(url or "").hostname


def _union(folder: Path, old: Plan, new: Plan) -> Plan:
    """Both plans in one. Raises UserError where samples would lie unasked between them."""
    union = dict(old)
    for name, (start, stop) in new.items():
        first, last = union.get(name, (start, stop))
        if start > last or stop < first:
            raise UserError(
                f"{folder}: this run asks --limit {first}-{last} of {name}; with {start}-{stop} "
                f"the samples between {min(last, stop)} and {max(first, start)} would stay "
                f"unasked: take --limit {min(start, first)}-{max(stop, last)}, or another --log"
            )
        union[name] = min(start, first), max(stop, last)
    return union


# --------------------------------------------------------------------------- reading


class Run:
    """A finished or unfinished run, open for reading; several shards of one read as one."""

    def __init__(
        self,
        header: RunHeader,
        folders: Sequence[Path],
        *,
        origin: str = "run",
        path: Path | None = None,
        by: str | None = None,
    ) -> None:
        self.header = header
        self.folders = tuple(folders)
        """One a shard."""
        self.folder = self.folders[0]
        self.origin = origin
        """run: a folder of ours. submitted: from somebody's submission."""
        self.path = path or self.folder
        """What was named: its folder, or a submission's file."""
        self.by = by
        """Who submitted it, in their own words."""

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """Open a run's folder. Raises UserError where there is none."""
        folder = Path(folder)
        header = _read_header(folder / "run.json")
        if header is None:
            raise UserError(f"{folder}: {_no_run(folder)}")
        return cls(header, [folder])

    def state(self) -> tuple[tuple[int, ...] | None, ...]:
        """Equal as long as no log has changed: identity, size and time of each; None: no log."""
        return tuple(_state(folder / "responses.jsonl") for folder in self.folders)

    def records(self) -> Iterator[Record]:
        """Every finished attempt, in the order in which they finished (shard by shard)."""
        for folder in self.folders:
            path = folder / "responses.jsonl"
            for number, _, line in _lines(path):
                yield _record(path, number, line, self.header)

    def outcomes(self) -> Iterator[Record]:
        """One record a sample that was tried, by setting and index.

        It is the sample's last final one, or, where there is none, its last failed attempt.
        """
        for _, _, record in self.located():
            yield record

    def located(self) -> Iterator[tuple[int, int, Record]]:
        """`outcomes`, each with where it stands: which of `folders`, and its line's offset."""
        for part, folder in enumerate(self.folders):
            for place, record in _outcomes(folder / "responses.jsonl", self.header):
                yield part, place, record

    def read(self, part: int, place: int) -> Record:
        """The record at a place that `located` named. Raises UserError where it is there no more.

        A log only grows, so that a place holds as long as nobody edits the file.
        """
        path = self.folders[part] / "responses.jsonl"
        try:
            with path.open("rb") as file:
                file.seek(place)
                return _RECORDS.decode(file.readline())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: has changed while it was read ({error})") from None


def open_runs(paths: Sequence[Path | str], *, textual: bool | None = False) -> list[Run]:
    """Open run folders; shards of one run become one Run, in the place of its first shard.

    A run that was given in part counts its missing shards as unasked, hence as missing answers.

    Args:
        paths: run folders.
        textual: whether runs must be of text tasks (True) or of tasks whose answers are cells
            (False); None: either.

    Raises:
        UserError: no run in a folder, or the same shard of one run twice; a run of the other kind.
    """
    groups: dict[bytes, list[Run]] = {}
    for path in paths:
        run = Run.open(path)
        if textual is not None and run.header.textual != textual:
            raise UserError(
                f"{path}: is a run of the task {run.header.task}, "
                + (
                    "whose answers are cells; this verb is about text tasks"
                    if textual
                    else "whose answers name no cells; see mmneedle score and mmneedle text-report"
                )
            )
        groups.setdefault(_family(run), []).append(run)
    return [_merge_shards(group) for group in groups.values()]


def _family(run: Run) -> bytes:
    """Equal for the shards of one run, and for nothing else."""
    header = run.header
    if header.shard[1] == 1:
        return str(run.folder.resolve()).encode()
    # Every shard may have a server of its own.
    adapter = {key: value for key, value in header.adapter.items() if key != "base_url"}
    identity = (
        header.model,
        header.task,
        header.dataset_fingerprint,
        header.resize,
        header.reader,
        adapter,
    )
    return msgspec.json.encode((*identity, header.shard[1]), order="deterministic")


def _merge_shards(runs: list[Run]) -> Run:
    runs = sorted(runs, key=lambda run: run.header.shard)
    plan: Plan = {}
    for run, following in zip(runs, [*runs[1:], None], strict=True):
        if following is None:
            pass
        elif run.folder.resolve() == following.folder.resolve():
            raise UserError(f"{run.folder}: given twice")
        elif run.header.shard == following.header.shard:
            part, parts = run.header.shard
            raise UserError(
                f"{run.folder} and {following.folder} are both part {part} of {parts} of one run; "
                "give one of them"
            )
        plan = _union(run.folder, plan, run.header.plan)
    cells: dict[str, tuple[int, int] | None] = {}
    for run in runs:
        cells |= run.header.effective_cell
    header = msgspec.structs.replace(runs[0].header, plan=plan, shard=(1, 1), effective_cell=cells)
    return Run(header, [run.folder for run in runs])


def _outcomes(path: Path, header: RunHeader) -> Iterator[tuple[int, Record]]:
    """Pass one notes where each sample's record lies (8 bytes a sample), pass two reads them."""
    places = {name: array("q", bytes(8 * stop)) for name, (_, stop) in header.plan.items()}
    codes = {name: bytearray(stop) for name, (_, stop) in header.plan.items()}
    for number, offset, line in _lines(path):
        record = _record(path, number, line, header)
        setting, index = split_sample_id(record.sample)
        if replaces(codes[setting.name][index], record.response.status):
            codes[setting.name][index] = _code(record.response.status)
            places[setting.name][index] = offset
    if not any(map(any, codes.values())):
        return
    with path.open("rb") as file:
        for name, table in codes.items():
            for index, code in enumerate(table):
                if code:
                    file.seek(places[name][index])
                    yield places[name][index], _RECORDS.decode(file.readline())


def replaces(code: int, status: Status) -> bool:
    """Whether a later attempt's status takes the place of the code noted for its sample."""
    return status in FINAL or not code or STATUSES[code - 1] not in FINAL


def _no_run(path: Path) -> str:
    """What is at a place where no run is."""
    if path.is_file():
        import zipfile  # for this alone

        if zipfile.is_zipfile(path):
            return "is a submission; leaderboard, figures and submit check read it"
        return "is a file; name a run's folder"
    return "no run here (no run.json); make one with mmneedle run"


def _read_header(path: Path) -> RunHeader | None:
    try:
        header = msgspec.json.decode(path.read_bytes(), type=RunHeader)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a run's header ({error})") from None
    if header.version != FORMAT:
        raise UserError(f"{path}: has format {header.version}, this mmneedle reads format {FORMAT}")
    return header


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, offset, line) of every whole line; a half line at the end is no line."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        offset = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield number, offset, line
            offset += len(line)


def read_line(line: bytes, header: RunHeader) -> Record:
    """A line of responses.jsonl. Raises ValueError saying why it is none of this run."""
    try:
        record = _RECORDS.decode(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    setting, index = split_sample_id(record.sample)
    if not header.includes(setting, index):
        raise ValueError(f"sample {record.sample} is not in the plan of run.json")
    if isinstance(setting, Setting):
        _check_truth(setting, index, record.truth)
    elif record.truth or not record.expected:
        raise ValueError("what its answer should hold is not there")
    _check_response(record.response)
    return record


def _check_truth(setting: Setting, index: int, truth: Sequence[Location | None]) -> None:
    """See that a truth can be one: scores would be counted from it. Raises ValueError."""
    if len(truth) != setting.needles:
        raise ValueError(f"{len(truth)} places of {setting.needles} needles")
    size = (setting.images, setting.rows, setting.cols)
    for place in truth:
        if (place is not None) != (index % 2 == 0):
            raise ValueError("even samples have their needles in the haystack, odd ones have not")
        if place is not None and not all(
            1 <= at <= most for at, most in zip(place, size, strict=True)
        ):
            raise ValueError(f"the haystack has no cell {place}")


def _check_response(response: Response) -> None:
    """See that numbers are such as engines and providers give. Raises ValueError."""
    usage = response.usage
    for name in () if usage is None else usage.__struct_fields__:
        count = getattr(usage, name)
        if count is not None and not 0 <= count <= _MOST_TOKENS:
            raise ValueError(f"{count:.3g} {name}" if abs(count) < 1e300 else f"{name} without end")
    if response.absent_logprob is not None and response.absent_logprob > _ROUNDING:
        raise ValueError(f"a log-probability of {response.absent_logprob:g}, above 0")


def _record(path: Path, number: int, line: bytes, header: RunHeader) -> Record:
    """Read a line. Raises UserError naming a damaged one."""
    try:
        return read_line(line, header)
    except ValueError as error:  # of the JSON, its types, its UTF-8 or the sample's id
        raise UserError(
            f"{path}: line {number} is damaged ({error}); mend it, or remove it and its sample is "
            "asked again"
        ) from None


def _code(status: Status) -> int:
    """A status in a byte; 0 stands for none."""
    return STATUSES.index(status) + 1


def _name(setting: AnySetting | str) -> str:
    return setting if isinstance(setting, str) else setting.name


_RECORDS = msgspec.json.Decoder(Record)
