"""Reading everything against retrieving: one model, the same samples, level by level.

A level is a setting of a haystack of cells, or a length of a text task with all its depths. The
two are compared on the samples that both answered: needle by needle where a text asks for
several. What belongs together counts as one independent unit: questions that share a haystack,
needles of a sample, and samples of a text task with the same number at all depths, which share
their text and their question.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import ALPHA
from mmneedle.errors import UserError
from mmneedle.outcomes import UNDEFINED
from mmneedle.retrieval.units import Units, distinct, units
from mmneedle.runlog import Run
from mmneedle.statistics.comparison import Difference, Stratum, difference, holm, pooled
from mmneedle.statistics.shares import Share, share

Verdict = Literal["long", "retrieve", "unclear", "unknown"]
"""Who wins; unclear: the data cannot tell; unknown: no sample that both answered."""


class Lost(msgspec.Struct, frozen=True):
    """Of what only reading everything got right: where retrieving lost it."""

    retriever: int
    """What is asked for, or a part of it, was not retrieved."""
    model: int
    """It was retrieved, and missed."""
    unknown: int
    """Which units hold it is not defined."""


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
    intervals: tuple[tuple[float, float], tuple[float, float]]
    """95 % intervals of the two scores, long and retrieving; (0, 1) where nothing is known."""
    lost: Lost
    unanswered: int
    """Samples that both were asked and one of them at least did not answer."""
    recall: Share
    """Needles that were among what was read, of those that are in the haystack."""
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

    @property
    def lost(self) -> Lost:
        """Of all levels."""
        each = [one.level.lost for one in self.levels if one.level.level is not None]
        return Lost(
            sum(one.retriever for one in each),
            sum(one.model for one in each),
            sum(one.unknown for one in each),
        )


class Matched(NamedTuple):
    """Runs that retrieved, with those that read everything and differ in nothing else."""

    pairs: list[tuple[Run, Run]]
    """(read everything, retrieved)."""
    alone: list[Run]
    """Retrieved, and no run reads everything for them."""
    doubtful: list[Run]
    """Retrieved, and several runs read everything for them."""


def contrast(runs: Sequence[Run]) -> list[Contrast]:
    """Compare each run that retrieved with the one that read everything.

    Args:
        runs: of one or more models and data sets, in any order.

    Raises:
        UserError: a run that retrieved without one that read everything, two that did, no run
            that retrieved.
    """
    whole = _whole(runs)
    for several in whole.values():
        if len(several) > 1:
            first, second = (run.folder for run in several[:2])
            raise UserError(f"{first} and {second} both read everything: give one of them")
    parts = [run for run in runs if run.header.reader is not None]
    if not parts:
        raise UserError(
            "reader compares a run that reads everything with runs of --reader retrieve:K: none of "
            "these retrieved"
        )
    for run in parts:
        if _asked(run) not in whole:
            raise UserError(
                f"{run.folder}: no run given reads everything for it: the same model with the same "
                "options, data set and task, without --reader"
            )
    return contrasts(matched(runs).pairs)


def matched(runs: Sequence[Run]) -> Matched:
    """Which of some runs can be compared so."""
    whole = _whole(runs)
    found = Matched([], [], [])
    for run in runs:
        if run.header.reader is None:
            continue
        other = whole.get(_asked(run), [])
        if len(other) == 1:
            found.pairs.append((other[0], run))
        else:
            (found.doubtful if other else found.alone).append(run)
    return found


def contrasts(pairs: Sequence[tuple[Run, Run]]) -> list[Contrast]:
    """Compare pairs of (read everything, retrieved), which are shown together."""
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


def _whole(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs that read everything, by what `_asked` says of them."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.header.reader is None:
            found.setdefault(_asked(run), []).append(run)
    return found


def _asked(run: Run) -> str:
    """Equal for runs that differ in their reader alone."""
    header = run.header
    adapter = {name: part for name, part in header.adapter.items() if name != "base_url"}
    identity = (header.model, header.task, header.dataset_fingerprint, header.resize, adapter)
    return json.dumps(msgspec.to_builtins(identity), sort_keys=True)


def _levels(long: Run, retrieve: Run) -> Iterator[Level]:
    """Level by level, and after those of one task their mean."""
    groups: dict[tuple[str, int, str], list[Units]] = {}
    for one in units(long, retrieve):
        groups.setdefault((one.task, one.needles, one.measure), []).append(one)
    for counts in groups.values():
        yield from (_level([one]) for one in counts)
        if len(counts) > 1:
            yield _level(counts)


def _level(counts: Sequence[Units]) -> Level:
    """One level, or the mean of several."""
    first, several = counts[0], len(counts) > 1
    right = np.concatenate([one.retrieve for one in counts])
    read = np.concatenate([one.read for one in counts])
    found = np.concatenate([one.found for one in counts])
    only = np.concatenate([one.long for one in counts]) & ~right
    groups = _apart([one.group for one in counts])
    shares = np.concatenate([one.shares for one in counts])
    if first.measure != "answers":
        result = pooled([one.stratum for one in counts])
    else:
        long = np.concatenate([one.long for one in counts])
        numbers = np.concatenate([one.group for one in counts])
        result = difference(Stratum(long, right, None if distinct(numbers) else numbers))
    return Level(
        task=first.task,
        level=None if several else first.level,
        length=0 if several else first.length,
        needles=first.needles,
        measure=first.measure,
        result=result,
        intervals=(
            _interval(counts, [one.long for one in counts]),
            _interval(counts, [one.retrieve for one in counts]),
        ),
        lost=Lost(
            *(
                0 if first.measure == "specificity" else int(only[read == at].sum())
                for at in (0, 1, UNDEFINED)
            )
        ),
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


def _interval(counts: Sequence[Units], right: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
    """Of one way of reading; of several settings, which have equal weight, theirs put together.

    Settings are independent (their haystacks are drawn anew), so that distances from their values
    add up as standard errors do (MOVER: Zou and Donner, Statistics in Medicine 27, 2008).
    """
    if counts[0].measure == "answers":
        numbers = np.concatenate([one.group for one in counts])
        return _counted(np.concatenate(right), numbers).interval
    parts = [
        _counted(values, one.group)
        for one, values in zip(counts, right, strict=True)
        if len(values) or len(counts) == 1
    ]
    centre = math.fsum(part.value or 0.0 for part in parts) / max(1, len(parts))
    if not parts or parts[0].value is None:
        return 0.0, 1.0
    below = math.hypot(*((part.value or 0.0) - part.interval[0] for part in parts)) / len(parts)
    above = math.hypot(*(part.interval[1] - (part.value or 0.0) for part in parts)) / len(parts)
    return max(0.0, centre - below), min(1.0, centre + above)


def _apart(groups: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Group numbers of several levels, which have none in common."""
    moved, above = [], 0
    for group in groups:
        moved.append(group + above)
        above += int(group.max()) + 1 if len(group) else 0
    return np.concatenate(moved)


def _counted(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> Share:
    """By groups of what belongs together, where there are such."""
    return share(right, None if distinct(groups) else groups)


def _tokens(long: NDArray[np.float64], retrieve: NDArray[np.float64]) -> tuple[float, float] | None:
    """Means over the requests of which both are known."""
    known = ~np.isnan(long) & ~np.isnan(retrieve)
    if not known.any():
        return None
    return float(long[known].mean()), float(retrieve[known].mean())
