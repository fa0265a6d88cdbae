"""A submission unpacked as a run, so that scores and leaderboards read it like any other."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from mmneedle.errors import UserError
from mmneedle.reports.words import short, visible
from mmneedle.runlog import FORMAT as RUN_FORMAT
from mmneedle.runlog import Record, Run, RunHeader, read_line
from mmneedle.stitching.dataset import Manifest, fingerprint
from mmneedle.submissions.archive import MEBI, About, Archive, Member
from mmneedle.types import ANSWERED, Setting, parse_sample_id, sample_id

T = TypeVar("T")

MOST_ASKED = 2_000_000
"""Samples of a submission's plan: twenty times the paper's."""
_MOST_CELLS, _MOST_NEEDLES = 1_000_000, 1_000
_LONGEST_LINE = 64 * MEBI


class Submission:
    """A submission's members in a temporary folder; a context manager, which removes them.

    `found` has every member's real size and hash; nothing has been compared with anything yet.
    """

    def __init__(self, path: Path | str) -> None:
        """Unpack. Raises UserError where the file is no submission."""
        self.path = Path(path)
        self._base = tempfile.TemporaryDirectory(prefix="mmneedle-")
        self.folder = Path(self._base.name)
        try:
            with Archive.open(path) as archive:
                self.about: About = archive.about
                self.found: dict[str, Member] = archive.unpack(self.folder)
        except BaseException:
            self._base.cleanup()
            raise

    def altered(self) -> list[str]:
        """The members that are not what the manifest says."""
        return [name for name, one in self.found.items() if one != self.about.members[name]]

    def header(self) -> RunHeader:
        """run.json. Raises ValueError, whose text says why, where it is none or claims too much."""
        header = decode(self.folder / "run.json", RunHeader)
        if header.version != RUN_FORMAT:
            raise ValueError(f"format {header.version} of run folders")
        total = 0
        for name, (start, stop) in header.plan.items():
            setting = Setting.parse(name)
            if setting.cells > _MOST_CELLS or not 1 <= setting.needles <= _MOST_NEEDLES:
                raise ValueError(f"setting {name}")
            if min(setting.images, setting.rows, setting.cols) < 1:
                raise ValueError(f"setting {name}")
            total += stop - start
        if not 0 < total <= MOST_ASKED:
            raise ValueError(f"{total:,} samples")
        return header

    def manifest(self, header: RunHeader) -> Manifest:
        """The data set's recipe. Raises ValueError where it is not that of the run's data set."""
        manifest = decode(self.folder / "dataset.json", Manifest)
        mark = fingerprint(manifest.identity, manifest.rules, manifest.tiles)
        if not mark == manifest.fingerprint == header.dataset_fingerprint:
            raise ValueError(
                f"the recipe's fingerprint is {short(mark)}, the run was asked "
                f"{short(header.dataset_fingerprint)}"
            )
        if manifest.rules.questions != header.questions:
            raise ValueError("the recipe has another number of questions a haystack than the run")
        return manifest

    def answers(self, header: RunHeader) -> Iterator[Record]:
        """Every line of answers.jsonl. Raises ValueError naming a wrong one."""
        last: tuple[Setting, int] | None = None
        order = {name: place for place, name in enumerate(header.plan)}
        with (self.folder / "answers.jsonl").open("rb") as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    raise ValueError(f"line {number} of the answers is cut off or too long")
                try:
                    record = read_line(line, header)
                    setting, index = parse_sample_id(record.sample)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"line {number} of the answers: {error}") from None
                if sample_id(setting, index) != record.sample or not header.includes(
                    setting, index
                ):
                    raise ValueError(f"line {number}: {record.sample} is not in the plan")
                here = order[setting.name], index
                if last is not None and here <= (order[last[0].name], last[1]):
                    raise ValueError(f"line {number}: {record.sample} is there twice or misplaced")
                last = setting, index
                yield record

    def run(self, header: RunHeader) -> "SubmittedRun":
        """The answers as a run, to be scored as any other; valid while this is open."""
        target = self.folder / "responses.jsonl"
        if not target.exists():
            target.hardlink_to(self.folder / "answers.jsonl")
        return SubmittedRun(header, self)

    def close(self) -> None:
        """Remove the temporary folder."""
        self._base.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SubmittedRun(Run):
    """A submission's answers, read as a run."""

    def __init__(self, header: RunHeader, submission: Submission) -> None:
        super().__init__(
            header,
            [submission.folder],
            origin="submitted",
            path=submission.path,
            by=submission.about.by.text() or None,
        )
        self.submission = submission
        """Its temporary folder lasts as long as this."""
        self.recipe: Manifest | None = None
        """The data set's."""


def open_submission(path: Path | str) -> SubmittedRun:
    """Open a submission as a run. It has not been altered and could be a run's; no more is known.

    Raises:
        UserError: it is no submission, or was altered.
    """
    submission = Submission(path)
    try:
        if altered := submission.altered():
            raise ValueError(f"{', '.join(altered)} was altered")
        header = submission.header()
        recipe = submission.manifest(header)
        for record in submission.answers(header):
            plausible(record, header)
    except ValueError as error:
        submission.close()
        line = visible(" ".join(str(error).split()))[:300]
        raise UserError(
            f"{path}: cannot be trusted: {line} (mmneedle submit check tells all)"
        ) from None
    run = submission.run(header)
    run.recipe = recipe
    return run


def plausible(record: Record, header: RunHeader) -> None:
    """Raise ValueError on a record that no run writes."""
    setting, index = parse_sample_id(record.sample)
    places = record.truth
    there = [place for place in places if place is not None]
    if len(places) != setting.needles or len(there) != (0 if index % 2 else setting.needles):
        raise ValueError(f"{record.sample}: its truth has too many needles, or too few")
    shape = (setting.images, setting.rows, setting.cols)
    for place in there:
        if not all(1 <= at <= most for at, most in zip(place, shape, strict=True)):
            raise ValueError(f"{record.sample}: its truth {place} lies outside the haystack")
    if len(set(there)) < len(there):
        raise ValueError(f"{record.sample}: two needles in one cell")
    digest = record.request_sha256
    if digest is None and hashed(header) and record.response.status in ANSWERED:
        raise ValueError(
            f"{record.sample}: no hash of its request, which every run of a model but a baseline "
            "records"
        )
    if digest is not None and not hashed(header):
        raise ValueError(f"{record.sample}: has the hash of a request; a baseline is sent none")
    if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(f"{record.sample}: the hash of its request is none")


def hashed(header: RunHeader) -> bool:
    """Whether the run's records have hashes of requests: of every model but a baseline.

    What the header says of images alone would not do: leaving it out is a forger's first step.
    """
    named = header.model.startswith("baseline/") and header.adapter.get("adapter") == "baseline"
    return header.cell is not None or not named


def decode(path: Path, kind: type[T]) -> T:
    """A JSON file's value. Raises ValueError saying what is wrong."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from None
