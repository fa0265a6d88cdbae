"""Reading everything against retrieving: one model, the same samples, level by level.

A level is a setting of a haystack of cells, or a length of a text task with all its depths. The
two are compared on the samples that both answered: needle by needle where a text asks for
several. What belongs together counts as one independent unit: questions that share a haystack,
needles of a sample, and samples of a text task with the same number at all depths, which share
their text and their question.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import ALPHA, Measure, verdicts
from mmneedle.errors import UserError
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.runlog import Record, Run
from mmneedle.statistics.comparison import Difference, Stratum, difference, holm, pooled
from mmneedle.statistics.shares import Share, share
from mmneedle.texts.scoring import rule_of, score_text
from mmneedle.types import TextSetting, split_sample_id

Verdict = Literal["long", "retrieve", "unclear", "unknown"]
"""Who wins; unclear: the data cannot tell; unknown: no sample that both answered."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One level of one task, read in two ways."""

    task: str
    """With its variant, such as ruler.vt."""
    level: str | None
    """The setting's name, or the length; None: all of them. Settings have equal weight; of texts,
    whose lengths may share questions, samples of one number are one unit whatever their length."""
    length: int
    """Cells, tokens, pairs or documents: what levels are ordered by; 0 for all of them."""
    needles: int
    measure: str
    """exact, on positives; specificity, on negatives; answers, of texts."""
    result: Difference
    """Long less retrieving, on what both answered."""
    unanswered: int
    """Samples that both were asked and one of them at least did not answer."""
    recall: Share
    """Needles that were among what was read, of those that any unit holds."""
    right_read: Share
    """Right when retrieving, where the needle was read."""
    right_missed: Share
    """Right when retrieving, where it was not."""
    share: float | None
    """Of the haystack that was read, mean."""
    tokens: tuple[float, float] | None
    """Mean input tokens of a request, long and retrieving; None where a model did not say."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A level with its test."""

    level: Level
    p: float
    """Corrected after Holm for all levels that are shown together; of a mean, for all means."""

    @property
    def verdict(self) -> Verdict:
        """Who wins."""
        gap = self.level.result.difference
        if gap is None:
            return "unknown"
        if self.p >= ALPHA:
            return "unclear"
        return "long" if gap > 0 else "retrieve"


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """A run that read everything and one that retrieved."""

    long: Run
    retrieve: Run
    levels: tuple[Judged, ...]


def contrast(runs: Sequence[Run]) -> list[Contrast]:
    """Compare each run that retrieved with the one that read everything.

    Args:
        runs: of one or more models and data sets, in any order.

    Raises:
        UserError: a run that retrieved without one that read everything, two that did, no run
            that retrieved.
    """
    pairs = list(_pairs(runs))
    found = [list(_levels(long, retrieve)) for long, retrieve in pairs]
    every = [one for levels in found for one in levels]
    corrected = {
        mean: iter(holm([one.result.p for one in every if (one.level is None) == mean]))
        for mean in (False, True)
    }
    return [
        Contrast(
            long=long,
            retrieve=retrieve,
            levels=tuple(Judged(level=one, p=next(corrected[one.level is None])) for one in levels),
        )
        for (long, retrieve), levels in zip(pairs, found, strict=True)
    ]


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    whole: dict[bytes, Run] = {}
    for run in runs:
        if run.header.reader is None:
            other = whole.setdefault(_asked(run), run)
            if other is not run:
                raise UserError(
                    f"{other.folder} and {run.folder} both read everything: give one of them"
                )
    parts = [run for run in runs if run.header.reader is not None]
    if not parts:
        raise UserError(
            "reader compares a run that reads everything with runs of --reader retrieve:K: none of "
            "these retrieved"
        )
    for run in parts:
        long = whole.get(_asked(run))
        if long is None:
            raise UserError(
                f"{run.folder}: no run given reads everything for it: the same model with the same "
                "options, data set and task, without --reader"
            )
        yield long, run


def _asked(run: Run) -> bytes:
    """Equal for runs that differ in their reader alone."""
    header = run.header
    adapter = {name: part for name, part in header.adapter.items() if name != "base_url"}
    identity = (header.model, header.task, header.dataset_fingerprint, header.resize, adapter)
    return msgspec.json.encode(identity, order="deterministic")


def _levels(long: Run, retrieve: Run) -> Iterator[Level]:
    """Level by level, and after those of one task their mean."""
    read = _text_counts if long.header.textual else _cell_counts
    groups: dict[tuple[str, int, str], list[_Counts]] = {}
    for one in read(long, retrieve):
        groups.setdefault((one.task, one.needles, one.measure), []).append(one)
    for counts in groups.values():
        yield from (_level([one]) for one in counts)
        if len(counts) > 1:
            yield _level(counts)


class _Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered at one level; a unit is a sample, or a needle of a text."""

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


def _level(counts: Sequence[_Counts]) -> Level:
    """One level, or the mean of several."""
    first, several = counts[0], len(counts) > 1
    right = np.concatenate([one.retrieve for one in counts])
    read = np.concatenate([one.read for one in counts])
    found = np.concatenate([one.found for one in counts])
    groups = _apart([one.group for one in counts])
    shares = np.concatenate([one.shares for one in counts])
    if first.measure != "answers":
        result = pooled([one.stratum for one in counts])
    else:
        long = np.concatenate([one.long for one in counts])
        numbers = np.concatenate([one.group for one in counts])
        result = difference(Stratum(long, right, None if _distinct(numbers) else numbers))
    return Level(
        task=first.task,
        level=None if several else first.level,
        length=0 if several else first.length,
        needles=first.needles,
        measure=first.measure,
        result=result,
        unanswered=sum(one.unanswered for one in counts),
        recall=_counted(found, _apart([one.found_group for one in counts])),
        right_read=_counted(right[read == 1], groups[read == 1]),
        right_missed=_counted(right[read == 0], groups[read == 0]),
        share=float(shares.mean()) if len(shares) else None,
        tokens=_tokens(
            np.concatenate([one.long_tokens for one in counts]),
            np.concatenate([one.retrieve_tokens for one in counts]),
        ),
    )


def _distinct(groups: NDArray[np.int64]) -> bool:
    return len(np.unique(groups)) == len(groups)


def _apart(groups: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Group numbers of several levels, which have none in common."""
    moved, above = [], 0
    for group in groups:
        moved.append(group + above)
        above += int(group.max()) + 1 if len(group) else 0
    return np.concatenate(moved)


def _counted(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Share:
    """By groups of what belongs together, where there are such."""
    return share(right, None if _distinct(groups) else groups)


def _tokens(long: NDArray[np.float64], retrieve: NDArray[np.float64]) -> tuple[float, float] | None:
    """Means over the requests of which both are known."""
    known = ~np.isnan(long) & ~np.isnan(retrieve)
    if not known.any():
        return None
    return float(long[known].mean()), float(retrieve[known].mean())


# --------------------------------------------------------------------------- cells


def _cell_counts(long: Run, retrieve: Run) -> Iterator[_Counts]:
    one, other = outcomes(long), outcomes(retrieve)
    measures: tuple[Measure, ...] = ("exact", "specificity")
    for measure in measures:
        for setting in sorted(one, key=lambda at: (at.needles, at.cells, at)):
            if setting in other:
                yield _cells(long.header.task, one[setting], other[setting], measure)


def _cells(task: str, one: Outcomes, other: Outcomes, measure: Measure) -> _Counts:
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
    return _Counts(
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
    """1 read, 0 not, UNDEFINED: no unit holds it."""
    share: float
    tokens: tuple[float, float]


def _text_counts(long: Run, retrieve: Run) -> Iterator[_Counts]:
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
        found = tuple(
            int(there) if holds else UNDEFINED
            for there, holds in zip(reading.found, reading.holds, strict=True)
        )
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


def _texts(place: _Place, asked: int, pairs: Sequence[_Pair]) -> _Counts:
    task, needles, length = place
    group = np.array([pair.index for pair in pairs for _ in pair.long], np.int64)
    read = np.array([one for pair in pairs for one in pair.found], np.int8)
    held = np.not_equal(read, UNDEFINED)
    return _Counts(
        task=task,
        level=f"{length:,}",
        length=length,
        needles=needles,
        measure="answers",
        long=np.array([right for pair in pairs for right in pair.long], np.bool_),
        retrieve=np.array([right for pair in pairs for right in pair.retrieve], np.bool_),
        group=group,
        shared=not _distinct(group),
        read=read,
        found=read[held] == 1,
        found_group=group[held],
        unanswered=asked - len(pairs),
        shares=np.array([pair.share for pair in pairs], np.float32),
        long_tokens=np.array([pair.tokens[0] for pair in pairs], np.float64),
        retrieve_tokens=np.array([pair.tokens[1] for pair in pairs], np.float64),
    )
