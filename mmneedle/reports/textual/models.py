"""Models against each other in one text task, on the same samples."""

from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import ALPHA
from mmneedle.reports.textual.series import Answers, Read, Series
from mmneedle.reports.versus import probability
from mmneedle.reports.words import many, points
from mmneedle.retrieval.contrast import matched
from mmneedle.statistics.comparison import Difference, Stratum, holm, pooled


class Pair(msgspec.Struct, frozen=True):
    """Two models on the samples of one data set that both answered."""

    key: str
    a: int
    b: int
    """Subjects."""
    result: Difference
    """Of the samples whose needles were all given; lengths have equal weight, samples that share
    their text are one unit."""
    holm: float = 1.0
    """The p-value, corrected for all pairs of the page."""


def pairs(read: Read) -> list[Pair]:
    """All pairs of models that were asked the same samples of a text task.

    A model that retrieves beside itself reading everything has a section of its own
    (`reports/reader_section.py`), needle by needle.
    """
    elsewhere = _read_two_ways(read)
    found = []
    for key in read.keys:
        for one, other in combinations(read.of(key), 2):
            told = elsewhere.get(frozenset((one.subject, other.subject)), set())
            if {*one.dataset} & {*other.dataset} <= told:
                continue
            strata = _strata(read, one, other)
            if strata:
                found.append(Pair(key, one.subject, other.subject, pooled(strata)))
    corrected = holm([pair.result.p for pair in found])
    return [msgspec.structs.replace(pair, holm=p) for pair, p in zip(found, corrected, strict=True)]


def _read_two_ways(read: Read) -> dict[frozenset[int], set[str]]:
    """Subjects that differ in their reader alone -> the data sets on which both were run."""
    subject = {id(run): at for run, at in zip(read.runs, read.of_subject, strict=True)}
    found: dict[frozenset[int], set[str]] = {}
    for long, retrieve in matched(read.runs).pairs:
        both = frozenset((subject[id(long)], subject[id(retrieve)]))
        found.setdefault(both, set()).add(long.header.dataset_fingerprint)
    return found


def _strata(read: Read, one: Series, other: Series) -> list[Stratum]:
    """By length: who gave all needles of the samples that both answered."""
    if one.answers is None or other.answers is None:
        return []
    theirs = {key: row for row, key in enumerate(_keys(read, other.answers)) if key is not None}
    rows = [
        (row, theirs[key])
        for row, key in enumerate(_keys(read, one.answers))
        if key is not None and key in theirs
    ]
    if not rows:
        return []
    mine, their = np.array(rows).T
    a, b = one.answers.chosen(mine), other.answers.chosen(their)
    return [
        Stratum(_whole(a)[at], _whole(b)[at], a.text[at])
        for length in np.unique(a.length)
        if (at := a.length == length).any()
    ]


def _keys(read: Read, table: Answers) -> list[tuple[str, str, int] | None]:
    """What each answered sample is, whoever was asked; None: not answered."""
    marks = [run.header.dataset_fingerprint for run in read.runs]
    return [
        (marks[run], setting.name, number) if of else None
        for run, setting, number, of in zip(
            table.run.tolist(),
            table.setting.tolist(),
            table.number.tolist(),
            table.of.tolist(),
            strict=True,
        )
    ]


def _whole(table: Answers) -> NDArray[np.bool_]:
    return np.asarray(table.hits == table.of)


def sentences(read: Read, found: Sequence[Pair], key: str) -> list[str]:
    """What a task's comparisons say, a plain sentence each."""
    return [_sentence(read, pair) for pair in found if pair.key == key]


def _sentence(read: Read, pair: Pair) -> str:
    one, other = read.subjects[pair.a], read.subjects[pair.b]
    gap, (low, high) = pair.result.difference or 0.0, pair.result.interval
    n = many(pair.result.counts.n, "common sample")
    if pair.holm >= ALPHA:
        return (
            f"The data cannot tell {one} and {other} apart: {points(gap)} points ({points(low)} to "
            f"{points(high)}) on {n}, p {probability(pair.holm)}."
        )
    if gap < 0:
        one, other, gap, low, high = other, one, -gap, -high, -low
    return (
        f"{one} is better than {other} by {points(gap)} points ({points(low)} to {points(high)}) "
        f"on {n}, p {probability(pair.holm)}."
    )
