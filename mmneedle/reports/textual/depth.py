"""Does the needle's place matter? The ends of a haystack against its middle.

A U-shape ("lost in the middle", N. F. Liu et al., arXiv:2307.03172) is two claims: more is found
at the start than in the middle, and more at the end than in the middle. Each is tested by itself,
by permutations within samples that share their text (text tasks) or within settings (images); a
U-shape is claimed where both hold after Holm's correction over all such tests of the page
(an intersection-union test: R. L. Berger, Technometrics 24, 1982, 295-300; two parts instead of a
parabola: U. Simonsohn, AMPPS 1, 2018, 538-555).
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import ALPHA
from mmneedle.reports.hallucination.inference import Bools, Floats, Ints, association, newcombe
from mmneedle.reports.hallucination.needles import Needles
from mmneedle.reports.hallucination.recall import habit_luck
from mmneedle.reports.textual.series import Series
from mmneedle.reports.versus import probability
from mmneedle.reports.words import percent, points
from mmneedle.statistics.comparison import holm
from mmneedle.statistics.shares import Share, share

START, END = 0.25, 0.75
"""Depths below START are the start, above END the end, between them the middle."""
_BINS = 10
"""Parts that depths are put into, at most, where there are many."""
_MOST = 21
"""Depths of a text task that stand as they are."""


class Placed(msgspec.Struct, frozen=True):
    """A series' needles with their places; m of them."""

    depth: Floats
    """0..1 of the haystack before it; shape (m,), as are all."""
    right: Bools
    rest: Floats
    """Right or not, less what the model's habit of naming cells hits by luck there."""
    strata: Ints
    """Needles are compared with those of equal numbers only."""
    level: Ints
    """Which of the series' lengths, or settings."""
    bins: int
    """Parts that depths are put into; 0: they stand as they are."""
    cluster: Ints
    """Needles of equal numbers may be alike."""
    clustered: bool

    @property
    def groups(self) -> Ints | None:
        """For intervals; None where all are independent."""
        return self.cluster if self.clustered else None


class Part(msgspec.Struct, frozen=True):
    """What is right in a part of the haystack, lengths mixed alike in all parts."""

    hits: int
    n: int
    value: float | None
    """The mean of the lengths' shares, each with the weight that it has in the whole; None where
    no length has needles in all parts."""
    interval: tuple[float, float]
    """95 %: the lengths' own put together (MOVER: G. Y. Zou and A. Donner, Statistics in Medicine
    27, 2008, 1693-1702)."""


class Spot(msgspec.Struct, frozen=True):
    """What is right at one depth, or in a part of the depths."""

    depth: float
    share: Part


class Bend(msgspec.Struct, frozen=True, kw_only=True):
    """A series by depth."""

    start: Part
    middle: Part
    end: Part
    spots: tuple[Spot, ...]
    p_start: float | None
    """Two-sided: start and middle alike; None where nothing can be told."""
    p_end: float | None
    adjusted: tuple[float, float] = (1.0, 1.0)
    """Both, corrected over all tests of the page (Holm)."""

    def gap(self, end: Part) -> tuple[float, tuple[float, float]] | None:
        """How much more is right at an end than in the middle, with its 95 % interval."""
        if end.value is None or self.middle.value is None:
            return None
        interval = newcombe((end.value, end.interval), (self.middle.value, self.middle.interval))
        return end.value - self.middle.value, interval

    @property
    def u_shaped(self) -> bool:
        """Whether both ends are better than the middle, beyond chance."""
        return self._sign(0) > 0 and self._sign(1) > 0

    def _sign(self, which: int) -> int:
        """1: that end is better than the middle, -1: worse, 0: cannot be told."""
        gap = self.gap((self.start, self.end)[which])
        if gap is None or self.adjusted[which] >= ALPHA:
            return 0
        return 1 if gap[0] > 0 else -1

    @property
    def shape(self) -> str:
        """What may be claimed, in a few words."""
        return _SHAPES[self._sign(0), self._sign(1)]


_SHAPES = {
    (1, 1): "U-shape: lost in the middle",
    (-1, -1): "the middle is better than both ends",
    (1, -1): "the earlier the needle, the more is found",
    (-1, 1): "the later the needle, the more is found",
    (1, 0): "the start is better than the middle",
    (0, 1): "the end is better than the middle",
    (-1, 0): "the start is worse than the middle",
    (0, -1): "the end is worse than the middle",
    (0, 0): "no U-shape can be told",
}


def placed(series: Series) -> Placed | None:
    """A series' answered needles with their places; None where they have no single place."""
    if series.answers is not None:
        return _of_text(series)
    return _of_cells(series.cells) if series.cells else None


def _of_text(series: Series) -> Placed | None:
    table = series.answers
    assert table is not None
    table = table.chosen(table.answered & (table.depth >= 0))
    if series.needles != 1 or not len(table) or (table.of != 1).any():
        return None
    right = table.hits == 1
    schedules = {
        tuple(np.unique(table.depth[table.length == length]).tolist())
        for length in np.unique(table.length)
    }
    fewest = min(map(len, schedules))
    as_they_are = len(schedules) == 1 and fewest <= _MOST
    return Placed(
        depth=table.depth / 1000,
        right=right,
        rest=right.astype(np.float64),
        strata=table.text,
        level=table.length,
        bins=0 if as_they_are else min(_BINS, fewest),
        cluster=table.text,
        clustered=True,
    )


def _of_cells(parts: Sequence[Needles]) -> Placed | None:
    """Positives of settings with several cells, which are counted image by image, row by row."""
    some = [of for of in parts if of.setting.cells > 1 and of.positive.any()]
    if not some:
        return None
    there = [of.chosen(of.positive) for of in some]
    depth = [
        np.ravel_multi_index(
            tuple((of.truth - 1).T), (of.setting.images, of.setting.rows, of.setting.cols)
        )
        / (of.setting.cells - 1)
        for of in there
    ]
    right = np.concatenate([of.exact for of in there])
    luck = np.concatenate([habit_luck(of, asked) for of, asked in zip(some, there, strict=True)])
    return Placed(
        depth=np.concatenate(depth),
        right=right,
        rest=right - luck,
        strata=(setting := np.concatenate([np.full(len(of), k) for k, of in enumerate(there)])),
        level=setting,
        bins=min(_BINS, *(of.setting.cells for of in there)),
        cluster=np.concatenate([of.cluster for of in there]),
        clustered=any(of.clustered for of in there),
    )


def bend(of: Placed) -> Bend:
    """Count and test by depth."""
    start, end = of.depth < START, of.depth > END
    zone = np.where(start, 0, np.where(end, 2, 1))
    parts = _parts(of, zone, 3)
    return Bend(
        start=parts[0],
        middle=parts[1],
        end=parts[2],
        spots=tuple(_spots(of)),
        p_start=_test(of, start, zone == 1),
        p_end=_test(of, end, zone == 1),
    )


def _parts(of: Placed, zone: Ints, count: int) -> list[Part]:
    """Shares in each zone, over the lengths that have needles in all of them."""
    levels, at = np.unique(of.level, return_inverse=True)
    counts = np.zeros((len(levels), count), np.int64)
    np.add.at(counts, (at, zone), 1)
    whole = np.flatnonzero((counts > 0).all(axis=1))
    weights = counts[whole].sum(axis=1) / max(1, counts[whole].sum())
    return [
        _mixed(
            [_share(of, (at == level) & (zone == part)) for level in whole.tolist()],
            weights.tolist(),
        )
        for part in range(count)
    ]


def _mixed(shares: Sequence[Share], weights: Sequence[float]) -> Part:
    if not shares:
        return Part(0, 0, None, (0.0, 1.0))
    known = [(one.value or 0.0, one.interval, w) for one, w in zip(shares, weights, strict=True)]
    value = round(math.fsum(w * v for v, _, w in known), 12)
    below = math.hypot(*(w * (v - low) for v, (low, _), w in known))
    above = math.hypot(*(w * (high - v) for v, (_, high), w in known))
    interval = max(0.0, value - below), min(1.0, value + above)
    return Part(sum(one.hits for one in shares), sum(one.n for one in shares), value, interval)


def bends(series: Sequence[Series]) -> list[Bend | None]:
    """Of each series, with Holm's correction over all tests."""
    found = [bend(at) if (at := placed(one)) is not None else None for one in series]
    every = [p for one in found if one for p in (one.p_start, one.p_end)]
    corrected = iter(holm([p for p in every if p is not None]))
    return [
        one
        and msgspec.structs.replace(
            one,
            adjusted=tuple(1.0 if p is None else next(corrected) for p in (one.p_start, one.p_end)),
        )
        for one in found
    ]


def _share(of: Placed, which: NDArray[np.bool_]) -> Share:
    groups = of.groups
    return share(of.right[which], None if groups is None else groups[which])


def _test(of: Placed, end: Bools, middle: Bools) -> float | None:
    which = end | middle
    if not 0 < np.count_nonzero(of.right[which]) < np.count_nonzero(which):
        return None  # habits vary, answers do not
    cluster = of.cluster[which] if of.clustered and not _within(of) else None
    return association(end[which], of.rest[which], of.strata[which], cluster)


def _within(of: Placed) -> bool:
    """Whether strata are the clusters: permutations within them need no more."""
    return bool((of.strata == of.cluster).all())


def _spots(of: Placed) -> list[Spot]:
    """By depth, or where depths are many by equal parts of the haystack."""
    if of.bins:
        zone = np.minimum(of.bins - 1, np.floor(of.depth * of.bins)).astype(np.int64)
        depths = (np.arange(of.bins) + 0.5) / of.bins
    else:
        depths, zone = np.unique(of.depth, return_inverse=True)
    parts = _parts(of, zone, len(depths))
    return [Spot(float(depth), part) for depth, part in zip(depths, parts, strict=True)]


def sentence(of: Bend) -> str:
    """What can be said of the middle, in one plain sentence with its figures."""
    parts = [
        f"{name} {percent(part.value)} %"
        for name, part in (("start", of.start), ("middle", of.middle), ("end", of.end))
        if part.n
    ]
    where = ", ".join(parts)
    if not parts:
        return "Nothing can be told about the middle: no length has needles in all parts."
    if of.p_start is None and of.p_end is None:
        return f"Nothing can be told about the middle: {where}."
    tests = []
    for name, part, p in (
        ("start", of.start, of.adjusted[0]),
        ("end", of.end, of.adjusted[1]),
    ):
        gap = of.gap(part)
        if gap is not None:
            low, high = gap[1]
            tests.append(
                f"{name} less middle {points(gap[0])} points ({points(low)} to {points(high)}, "
                f"p {probability(p)})"
            )
    shape = of.shape
    return f"{shape[:1].upper()}{shape[1:]}: {where}; {'; '.join(tests)}."
