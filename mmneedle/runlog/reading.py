"""Runs open for reading; several shards of one read as one."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mmneedle.errors import UserError
from mmneedle.runlog.header import Plan, RunHeader, read_header, union
from mmneedle.runlog.records import RECORDS, Record, code_of, lines, record_of, replaces
from mmneedle.types import split_sample_id


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
        header = read_header(folder / "run.json")
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
            for number, _, line in lines(path):
                yield record_of(path, number, line, self.header)

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
                return RECORDS.decode(file.readline())
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
        plan = union(run.folder, plan, run.header.plan)
    cells: dict[str, tuple[int, int] | None] = {}
    for run in runs:
        cells |= run.header.effective_cell
    header = msgspec.structs.replace(runs[0].header, plan=plan, shard=(1, 1), effective_cell=cells)
    return Run(header, [run.folder for run in runs])


def _outcomes(path: Path, header: RunHeader) -> Iterator[tuple[int, Record]]:
    """Pass one notes where each sample's record lies (8 bytes a sample), pass two reads them."""
    places = {name: array("q", bytes(8 * stop)) for name, (_, stop) in header.plan.items()}
    codes = {name: bytearray(stop) for name, (_, stop) in header.plan.items()}
    for number, offset, line in lines(path):
        record = record_of(path, number, line, header)
        setting, index = split_sample_id(record.sample)
        if replaces(codes[setting.name][index], record.response.status):
            codes[setting.name][index] = code_of(record.response.status)
            places[setting.name][index] = offset
    if not any(map(any, codes.values())):
        return
    with path.open("rb") as file:
        for name, table in codes.items():
            for index, code in enumerate(table):
                if code:
                    file.seek(places[name][index])
                    yield places[name][index], RECORDS.decode(file.readline())


def _no_run(path: Path) -> str:
    """What is at a place where no run is."""
    if path.is_file():
        import zipfile  # for this alone

        if zipfile.is_zipfile(path):
            return "is a submission; leaderboard, figures and submit check read it"
        return "is a file; name a run's folder"
    return "no run here (no run.json); make one with mmneedle run"


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
