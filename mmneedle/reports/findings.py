"""One pass over a run's answers: where it finds, where it looks, and which samples to show.

Memory holds counts and a few samples a setting, however many answers there are.
"""

from bisect import insort
from typing import get_args

import msgspec

from mmneedle import scoring
from mmneedle.runlog import Record, Run
from mmneedle.statistics import clustered, wilson
from mmneedle.types import ErrorKind, Location, Response, Setting, parse_sample_id

TEXT_LIMIT = 2_000
"""Characters of an answer that a page shows."""
RIGHT, NO_ANSWER = "right", "no_answer"
ERRORS = (*get_args(ErrorKind), NO_ANSWER)
"""Categories that are shown first, in their order."""
PER_CATEGORY = 4
"""Samples kept of each category: the first ones of the data set, whatever order they came in."""


class Tally(msgspec.Struct):
    """Needles asked for at one place, and how many answers were right about them."""

    total: int = 0
    index: int = 0
    exact: int = 0
    parts: dict[int, tuple[int, int]] = {}
    """Needles, and right answers, by the number of a haystack that questions share."""

    def add(self, truth: Location, said: Location | None, haystack: int | None = None) -> None:
        """Count one answered needle."""
        self.total += 1
        self.index += said is not None and said.image == truth.image
        self.exact += said == truth
        if haystack is not None:
            total, exact = self.parts.get(haystack, (0, 0))
            self.parts[haystack] = total + 1, exact + (said == truth)

    @property
    def index_rate(self) -> float | None:
        """The share that named the right image; None where nothing was asked."""
        return self.index / self.total if self.total else None

    @property
    def exact_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `exact_rate`."""
        if self.parts:
            parts = [self.parts[haystack] for haystack in sorted(self.parts)]
            return clustered([exact for _, exact in parts], [total for total, _ in parts])
        return wilson(self.exact, self.total) if self.total else None

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

    @classmethod
    def empty(cls, setting: Setting) -> "Findings":
        """Before anything is counted."""
        rows, cols = range(setting.rows), range(setting.cols)
        return cls(
            setting=setting,
            cells=[[Tally() for _ in cols] for _ in rows],
            images=[Tally() for _ in range(setting.images)],
            pointed=[[0 for _ in cols] for _ in rows],
            pointed_images=[0] * setting.images,
            examples={},
        )

    def count(
        self, truth: tuple[Location | None, ...], score: scoring.Score, haystack: int | None = None
    ) -> None:
        """Count one answered sample, needle by needle."""
        for true, answer in zip(truth, score.answers, strict=True):
            said = answer.location
            if true is not None:
                self.cells[true.row - 1][true.column - 1].add(true, said)
                self.images[true.image - 1].add(true, said, haystack)
            elif said is not None and self.holds(said):
                self.pointed[said.row - 1][said.column - 1] += 1
                self.pointed_images[said.image - 1] += 1

    def holds(self, place: Location) -> bool:
        """Whether the haystack has this cell."""
        shape = self.setting
        return (
            1 <= place.image <= shape.images
            and 1 <= place.row <= shape.rows
            and 1 <= place.column <= shape.cols
        )

    def keep(self, example: Example) -> None:
        """Remember a sample if it is among the first of its category."""
        kept = self.examples.setdefault(example.category, [])
        insort(kept, example, key=lambda e: e.index)
        del kept[PER_CATEGORY:]

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
    """Read all answers of a run once."""
    found: dict[Setting, Findings] = {}
    for record in run.outcomes():
        setting, index = parse_sample_id(record.sample)
        of_setting = found.get(setting)
        if of_setting is None:
            of_setting = found[setting] = Findings.empty(setting)
        truth = tuple(record.truth)
        scores = _scores(setting, truth, record)
        if "robust" in scores:
            of_setting.count(truth, scores["robust"], run.header.haystack(index))
        of_setting.keep(_example(index, record, truth, scores))
    return dict(sorted(found.items()))


def _scores(
    setting: Setting, truth: tuple[Location | None, ...], record: Record
) -> dict[str, scoring.Score]:
    response, reading = record.response, record.reading or None
    scores = {
        name: scoring.score(setting, truth, response, name, reading) for name in ("robust", "paper")
    }
    return {name: score for name, score in scores.items() if score is not None}


def _example(
    index: int,
    record: Record,
    truth: tuple[Location | None, ...],
    scores: dict[str, scoring.Score],
) -> Example:
    text, reasoning = record.response.text, record.response.reasoning
    return Example(
        index=index,
        sample=record.sample,
        category=_category(truth, scores.get("robust")),
        truth=truth,
        response=msgspec.structs.replace(
            record.response,
            text=text and text[:TEXT_LIMIT],
            reasoning=reasoning and reasoning[:TEXT_LIMIT],
        ),
        text_length=len(text or ""),
        reasoning_length=len(reasoning or ""),
        scores=scores,
    )


def _category(truth: tuple[Location | None, ...], score: scoring.Score | None) -> str:
    if score is None:
        return NO_ANSWER
    for kind in score.kinds:
        if kind:
            return kind
    return f"{RIGHT} {'found' if truth[0] is not None else 'absent'}"
