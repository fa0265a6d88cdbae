"""What two ways of reading the same samples answered, level by level, as columns.

A unit is a sample, or a needle of a text. Only samples that both answered are there; how many are
not is told.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import Measure, verdicts
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.runlog import Record, Run
from mmneedle.statistics.comparison import Stratum
from mmneedle.texts.scoring import rule_of, score_text
from mmneedle.types import TextSetting, split_sample_id


class Units(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered at one level."""

    task: str
    level: str
    length: int
    needles: int
    measure: str
    long: NDArray[np.bool_]
    """Right by reading everything; shape (units,), as are the next four."""
    retrieve: NDArray[np.bool_]
    group: NDArray[np.int64]
    """Units with equal numbers belong together."""
    shared: bool
    """Whether units may have a group in common."""
    read: NDArray[np.int8]
    """1: what the unit asks for was read, 0: not all of it; UNDEFINED: it is nowhere."""
    found: NDArray[np.bool_]
    """Of each needle that a unit of the haystack holds: whether it was read; shape (needles,)."""
    found_group: NDArray[np.int64]
    unanswered: int
    shares: NDArray[np.float32]
    """Of the haystacks; shape (samples,), as are the next two."""
    long_tokens: NDArray[np.float64]
    retrieve_tokens: NDArray[np.float64]

    @property
    def stratum(self) -> Stratum:
        """For the comparison."""
        return Stratum(self.long, self.retrieve, self.group if self.shared else None)


def units(long: Run, retrieve: Run) -> Iterator[Units]:
    """Level by level, in the order in which they are shown; cells on positives first."""
    yield from _text_units(long, retrieve) if long.header.textual else _cell_units(long, retrieve)


def distinct(groups: NDArray[np.int64]) -> bool:
    """Whether each unit has a group of its own."""
    return len(np.unique(groups)) == len(groups)


# --------------------------------------------------------------------------- cells


def _cell_units(long: Run, retrieve: Run) -> Iterator[Units]:
    one, other = outcomes(long), outcomes(retrieve)
    measures: tuple[Measure, ...] = ("exact", "specificity")
    for measure in measures:
        for setting in sorted(one, key=lambda at: (at.needles, at.cells, at)):
            if setting in other:
                yield _cells(long.header.task, one[setting], other[setting], measure)


def _cells(task: str, one: Outcomes, other: Outcomes, measure: Measure) -> Units:
    _, rows, others = np.intersect1d(one.number, other.number, True, return_indices=True)
    asked = one.positive[rows] == (measure == "exact")
    rows, others = rows[asked], others[asked]
    a, b = verdicts(one, measure)[rows], verdicts(other, measure)[others]
    known = np.not_equal(a, UNDEFINED) & np.not_equal(b, UNDEFINED)
    rows, others = rows[known], others[known]
    found = other.found[others]  # (n, K)
    there = np.not_equal(found, UNDEFINED)
    whole = there.any(1)
    read = np.where(there, found == 1, True).all(1)
    group = one.haystack[rows]
    return Units(
        task=task,
        level=one.setting.name,
        length=one.setting.cells,
        needles=one.setting.needles,
        measure=measure,
        long=a[known] == 1,
        retrieve=b[known] == 1,
        group=group,
        shared=one.shared,
        read=np.where(whole, read, UNDEFINED).astype(np.int8),
        found=(found == 1)[there],
        found_group=np.repeat(group, there.sum(1)),
        unanswered=int(np.count_nonzero(~known)),
        shares=other.share[others],
        long_tokens=one.input_tokens[rows],
        retrieve_tokens=other.input_tokens[others],
    )


# --------------------------------------------------------------------------- texts

_Place = tuple[str, int, int]
"""Task with its variant, needles, length."""


class _Pair(msgspec.Struct, frozen=True):
    """A sample's answer in both ways, needle by needle."""

    index: int
    long: tuple[bool, ...]
    retrieve: tuple[bool, ...]
    found: tuple[int, ...]
    """1 read, 0 not, UNDEFINED: nobody can tell, as where words are counted over all the text."""
    share: float
    tokens: tuple[float, float]


def _text_units(long: Run, retrieve: Run) -> Iterator[Units]:
    records = {record.sample: record for record in long.outcomes()}
    pairs: dict[_Place, list[_Pair]] = {}
    for record in retrieve.outcomes():
        setting, index = split_sample_id(record.sample)
        assert isinstance(setting, TextSetting)
        other = records.get(record.sample)
        made = None if other is None else _pair(setting, index, other, record)
        if made is not None:
            place = setting.task, setting.needles, setting.length
            pairs.setdefault(place, []).append(made)
    asked = _both_asked(long, retrieve)
    for place in sorted(asked):
        yield _texts(place, asked[place], pairs.get(place, []))


def _both_asked(long: Run, retrieve: Run) -> dict[_Place, int]:
    """How many samples of each level both runs ask."""
    found: dict[_Place, int] = {}
    for name in long.header.plan.keys() & retrieve.header.plan.keys():
        setting = TextSetting.parse(name)
        start, stop = long.header.span(name)
        both = sum(
            long.header.includes(name, at) and retrieve.header.includes(name, at)
            for at in range(start, stop)
        )
        place = setting.task, setting.needles, setting.length
        if both:
            found[place] = found.get(place, 0) + both
    return found


def _pair(setting: TextSetting, index: int, long: Record, retrieve: Record) -> _Pair | None:
    """None where one of them was not answered."""
    one = _given(setting, long)
    other = _given(setting, retrieve)
    if one is None or other is None:
        return None
    reading = retrieve.reading or None
    found: tuple[int, ...] = ()
    if reading is not None:
        found = tuple(map(int, reading.found))  # a text always holds it, if cut between units
    return _Pair(
        index=index,
        long=one,
        retrieve=other,
        found=found or (UNDEFINED,) * len(other),
        share=reading.share if reading is not None else 1.0,
        tokens=(_input(long), _input(retrieve)),
    )


def _given(setting: TextSetting, record: Record) -> tuple[bool, ...] | None:
    score = score_text(setting, record.expected or (), record.response)
    if score is None:
        return None
    return (score.value > 0,) if rule_of(setting) == "any" else score.given


def _input(record: Record) -> float:
    usage = record.response.usage
    return float("nan") if usage is None or usage.input_tokens is None else usage.input_tokens


def _texts(place: _Place, asked: int, pairs: Sequence[_Pair]) -> Units:
    task, needles, length = place
    group = np.array([pair.index for pair in pairs for _ in pair.long], np.int64)
    read = np.array([one for pair in pairs for one in pair.found], np.int8)
    held = np.not_equal(read, UNDEFINED)
    return Units(
        task=task,
        level=f"{length:,}",
        length=length,
        needles=needles,
        measure="answers",
        long=np.array([right for pair in pairs for right in pair.long], np.bool_),
        retrieve=np.array([right for pair in pairs for right in pair.retrieve], np.bool_),
        group=group,
        shared=not distinct(group),
        read=read,
        found=read[held] == 1,
        found_group=group[held],
        unanswered=asked - len(pairs),
        shares=np.array([pair.share for pair in pairs], np.float32),
        long_tokens=np.array([pair.tokens[0] for pair in pairs], np.float64),
        retrieve_tokens=np.array([pair.tokens[1] for pair in pairs], np.float64),
    )
