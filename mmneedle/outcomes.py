"""A run's outcomes as columns: one pass over the log, then any question about them is arithmetic.

Statistics, reports and the viewer all begin here, so that they count the same samples the same
way. A sample that was never tried has a row too: nothing vanishes from a denominator unseen.
Memory holds some 100 bytes a sample, never a text; `Outcomes.record` reads one back from disk.
"""

from collections.abc import Iterator
from typing import Any, get_args
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.runlog import STATUSES, Record, Run
from mmneedle.scoring import SCORERS, Score, Scorer, score
from mmneedle.types import ErrorKind, Location, Setting, parse_sample_id, sample_id

KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
METRICS = ("existence", "index", "exact")
UNDEFINED = -1
"""A score that the sample does not have: index of a negative, or no answer."""
NOWHERE = -1
"""Stands for no cell (a model may well name row 0)."""
_FARTHEST = 2**15 - 1  # a named row beyond it is kept as this: no haystack reaches it


class Marks(msgspec.Struct, frozen=True):
    """One scorer's verdicts on a setting's n samples of K needles."""

    existence: NDArray[np.int8]
    """1 right, 0 wrong, UNDEFINED; shape (n,), as are the next two."""
    index: NDArray[np.int8]
    exact: NDArray[np.int8]
    kind: NDArray[np.int8]
    """What is wrong with each needle's answer: 0 nothing, k KINDS[k-1], UNDEFINED; (n, K)."""
    said: NDArray[np.int16]
    """The cell named: image, row, column as said; NOWHERE thrice where none was; (n, K, 3)."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which samples this scorer counts; shape (n,)."""
        return np.not_equal(self.existence, UNDEFINED)

    def metric(self, name: str) -> NDArray[np.int8]:
        """The verdicts by METRICS name."""
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}")
        found: NDArray[np.int8] = getattr(self, name)
        return found


class Outcomes(msgspec.Struct, frozen=True):
    """All samples that a run asks of one setting, by ascending sample number; n of them."""

    setting: Setting
    number: NDArray[np.int64]
    """The sample's number in its setting: positives are even; shape (n,), as are the next."""
    haystack: NDArray[np.int64]
    """Samples with equal numbers share a haystack; where each has its own, the sample's number."""
    status: NDArray[np.int8]
    """k: STATUSES[k-1]; 0: never tried."""
    hard: NDArray[np.bool_]
    """Whether it is a hard negative."""
    ambiguity: NDArray[np.float32]
    """How close another photo comes to the caption, 0..1; NaN where not known."""
    absent_logprob: NDArray[np.float32]
    """ln P(the answer begins with "-1"); NaN where the engine did not tell."""
    latency: NDArray[np.float32]
    """Seconds; NaN where not known."""
    input_tokens: NDArray[np.float64]
    """Of the attempt that counts, as the provider counted them; NaN where it did not say."""
    length: NDArray[np.int64]
    """Characters of the answer."""
    truth: NDArray[np.int16]
    """Image, row, column from 1 of each needle; NOWHERE thrice: not there; (n, K, 3)."""
    marks: dict[Scorer, Marks]
    share: NDArray[np.float32]
    """Of the haystack that was sent, 0..1."""
    found: NDArray[np.int8]
    """Of each needle: 1 it was among what a retriever chose, 0 not; UNDEFINED: nothing was chosen;
    (n, K)."""
    place: NDArray[np.int64]
    """Offset of the sample's line in its file; -1: never tried."""
    part: NDArray[np.int16]
    """Which of the run's folders (shards) that file is in."""
    shared: bool
    """Whether samples share haystacks, so that intervals must take haystacks as the units."""

    def __len__(self) -> int:
        return len(self.number)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which samples have their needles in the haystack."""
        return np.equal(self.number % 2, 0)

    def sample(self, row: int) -> str:
        """A row's sample id."""
        return sample_id(self.setting, int(self.number[row]))

    def row(self, number: int) -> int | None:
        """The row of a sample number; None where the run does not ask it."""
        at = int(np.searchsorted(self.number, number))
        return at if at < len(self) and self.number[at] == number else None

    def record(self, run: Run, row: int) -> Record | None:
        """A row's line of the log, texts and all; None where it was never tried."""
        if self.place[row] < 0:
            return None
        return run.read(int(self.part[row]), int(self.place[row]))


def outcomes(run: Run) -> dict[Setting, Outcomes]:
    """A run's columns. Settings in the plan's order; those without any sample are left out.

    The log is read again only where it has changed since: ranks, figures, findings and cases of
    one report all ask for the same columns.
    """
    state = run.state()
    known = _KNOWN.get(run)
    if known is None or known[0] != state:
        known = _KNOWN[run] = state, _read(run)
    return dict(known[1])


_KNOWN: "WeakKeyDictionary[Run, tuple[object, dict[Setting, Outcomes]]]" = WeakKeyDictionary()


def _read(run: Run) -> dict[Setting, Outcomes]:
    tables = blank(run)
    for part, place, record in run.located():
        setting, number = parse_sample_id(record.sample)
        tables[setting.name].fill(number, part, place, record)
    return {table.setting: table.done() for table in tables.values()}


def blank(run: Run) -> "dict[str, Columns]":
    """Columns to fill for each setting of which a run asks a sample, by its name."""
    return {
        setting.name: Columns(run, setting)
        for setting in map(Setting.parse, run.header.plan)
        if run.header.asked(setting, True) + run.header.asked(setting, False)
    }


class Columns:
    """Outcomes in the making: one setting's columns, filled record by record in any order."""

    def __init__(self, run: Run, setting: Setting) -> None:
        """Columns of samples that were never tried."""
        self.numbers = np.fromiter(run.header.indices(setting), np.int64)
        self.rows = dict(zip(self.numbers.tolist(), range(len(self.numbers)), strict=True))
        n, k = len(self.numbers), setting.needles
        questions = run.header.questions
        self.setting = setting
        self.columns: dict[str, NDArray[Any]] = {
            "status": np.zeros(n, np.int8),
            "hard": np.zeros(n, np.bool_),
            "ambiguity": np.full(n, np.nan, np.float32),
            "absent_logprob": np.full(n, np.nan, np.float32),
            "latency": np.full(n, np.nan, np.float32),
            "input_tokens": np.full(n, np.nan, np.float64),
            "length": np.zeros(n, np.int64),
            "truth": np.full((n, k, 3), NOWHERE, np.int16),
            "share": np.ones(n, np.float32),
            "found": np.full((n, k), UNDEFINED, np.int8),
            "place": np.full(n, -1, np.int64),
            "part": np.zeros(n, np.int16),
        }
        self.haystack = self.numbers // questions if questions > 1 else self.numbers
        self.shared = questions > 1
        self.marks = {
            scorer: Marks(
                existence=np.full(n, UNDEFINED, np.int8),
                index=np.full(n, UNDEFINED, np.int8),
                exact=np.full(n, UNDEFINED, np.int8),
                kind=np.full((n, k), UNDEFINED, np.int8),
                said=np.full((n, k, 3), NOWHERE, np.int16),
            )
            for scorer in SCORERS
        }

    def fill(self, number: int, part: int, place: int, record: Record) -> None:
        """Take in what stands for a sample from now on; where it stood is Run.read's."""
        row = self.rows[number]
        if self.columns["status"][row]:
            self._clear(row)
        response = record.response
        for name, value in (
            ("status", STATUSES.index(response.status) + 1),
            ("hard", record.hard),
            ("ambiguity", record.ambiguity),
            ("absent_logprob", response.absent_logprob),
            ("latency", response.latency),
            ("input_tokens", response.usage and response.usage.input_tokens),
            ("length", len(response.text or "")),
            ("place", place),
            ("part", part),
        ):
            if value is not None:
                self.columns[name][row] = value
        self.columns["truth"][row] = list(map(_cell, record.truth))
        reading = record.reading or None
        if reading is not None:
            self.columns["share"][row] = reading.share
            self.columns["found"][row] = [
                UNDEFINED if at is None else found
                for at, found in zip(record.truth, reading.found, strict=True)
            ]
        for scorer, marks in self.marks.items():
            verdict = score(self.setting, record.truth, response, scorer, reading)
            if verdict is not None:
                _mark(marks, row, verdict)

    def _clear(self, row: int) -> None:
        """Forget an earlier attempt, of which nothing may shine through."""
        for name in ("absent_logprob", "latency", "input_tokens"):
            self.columns[name][row] = np.nan
        for marks in self.marks.values():
            for column in (marks.existence, marks.index, marks.exact, marks.kind):
                column[row] = UNDEFINED
            marks.said[row] = NOWHERE

    def done(self) -> Outcomes:
        """The columns, which change with what is filled in later."""
        return Outcomes(
            setting=self.setting,
            number=self.numbers,
            haystack=self.haystack,
            marks=self.marks,
            shared=self.shared,
            **self.columns,
        )


def _mark(marks: Marks, row: int, verdict: Score) -> None:
    for name in METRICS:
        value = getattr(verdict, name)
        if value is not None:
            marks.metric(name)[row] = value
    for needle, (answer, kind) in enumerate(zip(verdict.answers, verdict.kinds, strict=True)):
        marks.kind[row, needle] = 0 if kind is None else KINDS.index(kind) + 1
        marks.said[row, needle] = _cell(answer.location)


def _cell(location: Location | None) -> tuple[int, ...]:
    if location is None:
        return (NOWHERE,) * 3
    return tuple(max(-_FARTHEST, min(at, _FARTHEST)) for at in location)


def places(cells: NDArray[np.int16]) -> Iterator[Location | None]:
    """Rows of `truth` or `said`, shape (K, 3), as locations."""
    for cell in cells.tolist():
        yield None if cell[0] == NOWHERE else Location(*cell)
