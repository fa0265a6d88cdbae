"""Where a run finds, where it looks when nothing is there, and which samples to show.

All is counted from the run's columns (`outcomes`); the log is read for the samples shown alone.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle import scoring
from mmneedle.outcomes import KINDS, NOWHERE, Outcomes, outcomes
from mmneedle.runlog import Run
from mmneedle.statistics.shares import share
from mmneedle.types import Location, Response, Setting

Cells = NDArray[np.int16]
"""Image, row, column; (m, 3)."""
Flags = NDArray[np.bool_]

TEXT_LIMIT = 2_000
"""Characters of an answer that a page shows."""
RIGHT, NO_ANSWER = "right", "no_answer"
ERRORS = (*KINDS, NO_ANSWER)
"""Categories that are shown first, in their order."""
PER_CATEGORY = 4
"""Samples kept of each category: the first ones of the data set, whatever order they came in."""


class Tally(msgspec.Struct, frozen=True):
    """Needles asked for at one place, and how many answers were right about them."""

    total: int
    index: int
    """Answers that named the right image."""
    exact: int
    """Answers that named the right cell."""
    exact_interval: tuple[float, float] | None = None
    """The 95 % interval of `exact_rate`; None where nothing was asked, and of single cells."""

    @property
    def index_rate(self) -> float | None:
        """The share that named the right image; None where nothing was asked."""
        return self.index / self.total if self.total else None

    @property
    def exact_rate(self) -> float | None:
        """The share that named the right cell; None where nothing was asked."""
        return self.exact / self.total if self.total else None


class Example(msgspec.Struct, order=True):
    """A sample to show: what was asked, what came back and how it was read."""

    index: int
    """The sample's number in its setting."""
    sample: str
    category: str
    """right, no_answer, or the first needle's kind of error"""
    truth: tuple[Location | None, ...]
    response: Response
    """Text and reasoning cut to TEXT_LIMIT."""
    text_length: int
    reasoning_length: int
    scores: dict[str, scoring.Score]
    """By scorer."""

    @property
    def positive(self) -> bool:
        """Whether the needles are in the haystack."""
        return self.truth[0] is not None


class Findings(msgspec.Struct):
    """What a run did on one setting, by the robust reading."""

    setting: Setting
    cells: list[list[Tally]]
    """By row and column of the true cell, over all images."""
    images: list[Tally]
    """By the true image."""
    pointed: list[list[int]]
    """By row and column: cells named although the needle is not there."""
    pointed_images: list[int]
    """The same by image."""
    examples: dict[str, list[Example]]
    """By category."""

    @property
    def false_alarms(self) -> int:
        """Cells of the haystack named although the needle is not there."""
        return sum(map(sum, self.pointed))

    def choose(self, wanted: int) -> list[Example]:
        """A selection to show: errors first, then one found and one rightly absent.

        One of each kind of error at least, whatever `wanted` says; then kinds take turns, so that
        a common error does not crowd out a rare one.
        """
        right = [found[0] for kind, found in sorted(self.examples.items()) if _is_right(kind)]
        errors = [self.examples[kind] for kind in ERRORS if kind in self.examples]
        turns = [group[i] for i in range(PER_CATEGORY) for group in errors if i < len(group)]
        return turns[: max(len(errors), wanted - len(right))] + right


def _is_right(category: str) -> bool:
    return category.startswith(RIGHT)


def findings(run: Run) -> dict[Setting, Findings]:
    """What a run did, setting by setting; those of which no sample was tried are left out."""
    return {
        setting: _of(run, table)
        for setting, table in sorted(outcomes(run).items())
        if table.status.any()
    }


def _of(run: Run, table: Outcomes) -> Findings:
    setting, marks = table.setting, table.marks["robust"]
    each = setting.needles
    answered, haystack = np.repeat(marks.answered, each), np.repeat(table.haystack, each)
    truth, said = table.truth.reshape(-1, 3), marks.said.reshape(-1, 3)
    there = truth[:, 0] != NOWHERE
    asked, absent = there & answered, said[~there & answered]
    pointed = absent[_inside(absent, setting)]
    return Findings(
        setting=setting,
        cells=_by_cell(setting, truth[asked], said[asked]),
        images=_by_image(
            setting, truth[asked], said[asked], haystack[asked] if table.shared else None
        ),
        pointed=_grid(setting, pointed).tolist(),
        pointed_images=_count(pointed[:, 0], setting.images).tolist(),
        examples=_examples(run, table),
    )


def _inside(cells: Cells, setting: Setting) -> Flags:
    """Which cells the haystack has."""
    most = (setting.images, setting.rows, setting.cols)
    return np.asarray(((cells >= 1) & (cells <= most)).all(axis=1))


def _count(numbers: NDArray[np.int16], most: int) -> NDArray[np.int64]:
    """How often each number from 1 to `most` is there."""
    return np.bincount(numbers.astype(np.int64) - 1, minlength=most)


def _grid(setting: Setting, cells: Cells) -> NDArray[np.int64]:
    """How many cells lie in each row and column, over all images; (rows, cols)."""
    flat = (cells[:, 1].astype(np.int64) - 1) * setting.cols + cells[:, 2] - 1
    counts = np.bincount(flat, minlength=setting.rows * setting.cols)
    return counts.reshape(setting.rows, setting.cols)


def _by_cell(setting: Setting, truth: Cells, said: Cells) -> list[list[Tally]]:
    image, exact = said[:, 0] == truth[:, 0], (said == truth).all(axis=1)
    parts = [_grid(setting, truth[hit]).tolist() for hit in (image | True, image, exact)]
    return [
        [Tally(*counts) for counts in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)
    ]


def _by_image(
    setting: Setting, truth: Cells, said: Cells, haystack: NDArray[np.int64] | None
) -> list[Tally]:
    image, exact = said[:, 0] == truth[:, 0], (said == truth).all(axis=1)
    found = []
    for number in range(1, setting.images + 1):
        here = truth[:, 0] == number
        right = share(exact[here], None if haystack is None else haystack[here])
        interval = right.interval if right.n else None
        found.append(Tally(right.n, int(image[here].sum()), right.hits, interval))
    return found


def _examples(run: Run, table: Outcomes) -> dict[str, list[Example]]:
    """The first samples of each category."""
    category = _categories(table)
    found: dict[str, list[Example]] = {}
    for name in dict.fromkeys(category.tolist()):
        if name:
            rows = np.flatnonzero(category == name)[:PER_CATEGORY]
            found[name] = [_example(run, table, int(row), name) for row in rows]
    return found


def _categories(table: Outcomes) -> NDArray[np.str_]:
    """What each sample comes to; "" where it was never tried. Shape (n,)."""
    marks = table.marks["robust"]
    wrong = marks.kind > 0
    first = np.take_along_axis(marks.kind, wrong.argmax(axis=1)[:, None], axis=1)[:, 0]
    names = np.array([NO_ANSWER, f"{RIGHT} absent", f"{RIGHT} found", "", *KINDS])
    right = np.where(table.positive, 2, 1)
    code = np.where(wrong.any(axis=1), 3 + first, np.where(marks.answered, right, 0))
    return names[np.where(table.status > 0, code, 3)]


def _example(run: Run, table: Outcomes, row: int, category: str) -> Example:
    record = table.record(run, row)
    assert record is not None  # it was tried
    truth, reading = tuple(record.truth), record.reading or None
    scores = {
        name: scoring.score(table.setting, truth, record.response, name, reading)
        for name in scoring.SCORERS
    }
    text, reasoning = record.response.text, record.response.reasoning
    return Example(
        index=int(table.number[row]),
        sample=record.sample,
        category=category,
        truth=truth,
        response=msgspec.structs.replace(
            record.response,
            text=text and text[:TEXT_LIMIT],
            reasoning=reasoning and reasoning[:TEXT_LIMIT],
        ),
        text_length=len(text or ""),
        reasoning_length=len(reasoning or ""),
        scores={name: score for name, score in scores.items() if score is not None},
    )
