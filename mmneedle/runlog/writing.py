"""The one writer of a run's folder."""

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from mmneedle.errors import UserError
from mmneedle.files import Closing, sync_folder
from mmneedle.runlog.header import (
    Plan,
    RunHeader,
    Stop,
    name_of,
    now,
    pixels,
    read_header,
    union,
    write_header,
)
from mmneedle.runlog.records import STATUSES, Record, code_of, lines, record_of, replaces
from mmneedle.types import AnySetting, Status, split_sample_id


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
            for number, offset, line in lines(self.path):
                self._note(record_of(self.path, number, line, self.header))
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
                write_header(self.folder, header)
            except OSError as error:
                raise UserError(
                    f"{self.folder / 'run.json'}: cannot be written ({error.strerror}); finished "
                    "answers are safe, the same command goes on from there"
                ) from error
            self.header = header

    def status(self, setting: AnySetting | str, index: int) -> Status | None:
        """How a sample stands: its final status, else that of its last attempt, else None."""
        code = self._statuses[name_of(setting)][index]
        return STATUSES[code - 1] if code else None

    def _note(self, record: Record) -> None:
        setting, index = split_sample_id(record.sample)
        table = self._statuses[setting.name]
        if replaces(table[index], record.response.status):
            table[index] = code_of(record.response.status)

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
    old = read_header(path)
    if old is None:
        merged = msgspec.structs.replace(new, created=new.created or now())
    else:
        for there, wanted in _differences(old, new):
            raise UserError(
                f"{folder}: holds another run: {there}, now {wanted}; name another --log"
            )
        merged = msgspec.structs.replace(
            old,
            plan=union(folder, old.plan, new.plan),
            dataset_path=new.dataset_path,
            cell=new.cell,
            effective_cell=old.effective_cell | new.effective_cell,
            prices=new.prices or old.prices,
        )
    if merged != old:
        write_header(folder, merged)
    return merged


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
