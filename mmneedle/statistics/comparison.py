"""Two models on the same samples: how far apart they are, and whether the data can tell.

A sample is right or wrong for each of two models, so a pair of answers is one of four: both
right, only the first, only the second, neither. All that is known of the difference stands in the
discordant ones, "only the first" and "only the second" (McNemar 1947). Where samples share
haystacks, the haystacks are the independent trials.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.statistics.intervals import student

Test = Literal["mcnemar_exact", "sign_flip"]

_LATTICE = 1 << 14
"""Sums of whole numbers that `sign_flip` tells apart at most."""
_LISTED = 1 << 12
"""Sums of any numbers that it lists at most."""
_BLUR = 1e-3
"""Standard deviation of the noise that makes all other sums' law smooth, over their own."""
_MARGIN = 5
"""As many deviations of the noise the sum that was seen is drawn to zero: ties stay in the tail."""
_PERIOD = 16
"""Period of the Fourier series, in the sum's standard deviations."""
_FAR = 7.6
"""Beyond so many standard deviations no tail is above `_SMALLEST` (Hoeffding 1963, theorem 2)."""
_SMALLEST = 1e-12
"""Smaller p-values are rounding errors of a Fourier transform."""
_ROUNDING = 1e-11
"""Numbers this close are the same; relative to the greatest."""
_BISECTIONS = 50


class Counts(msgspec.Struct, frozen=True):
    """Pairs of answers to the same samples, by who was right."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0

    @property
    def n(self) -> int:
        """Samples that both models answered."""
        return self.both + self.only_a + self.only_b + self.neither

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.both + other.both,
            self.only_a + other.only_a,
            self.only_b + other.only_b,
            self.neither + other.neither,
        )


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How far model a is ahead of model b on the same samples."""

    counts: Counts
    clusters: int | None
    """Haystacks that the samples share; None: each sample has its own."""
    rate_a: float | None
    """The share of right answers, 0..1; None where there is no common sample."""
    rate_b: float | None
    difference: float | None
    """rate_a - rate_b, -1..1; positive: a is ahead."""
    interval: tuple[float, float]
    """95 % interval of the difference; (-1, 1) where nothing is known."""
    p: float
    """Two-sided p-value of "they are equally good"; 1 where nothing is known."""
    test: Test
    effect: float | None = None
    """By how much shared haystacks multiply the difference's variance (the design effect); None:
    not shared, or not known."""


class Stratum(msgspec.Struct, frozen=True):
    """Two models' answers to the n common samples of one setting."""

    a: NDArray[np.bool_]
    """Whether the first model was right; shape (n,), as are the next two."""
    b: NDArray[np.bool_]
    clusters: NDArray[np.int64] | None = None
    """Samples with equal numbers share a haystack; None: each has its own."""


def difference(stratum: Stratum) -> Difference:
    """Compare two models on one setting.

    Independent samples: Tango's score interval and McNemar's exact test. Shared haystacks: the
    same interval for as many independent samples as would tell as much (`clustered_difference`),
    and the sign-flip test over haystacks.
    """
    counts = _counts(stratum)
    if not counts.n:
        return _nothing(counts, stratum)
    a, b = stratum.a.mean(), stratum.b.mean()
    if stratum.clusters is None:
        clusters = None
        effect = None
        interval = paired_interval(counts.only_a, counts.only_b, counts.n)
        p = mcnemar_exact(counts.only_a, counts.only_b)
    else:
        totals, sizes = _by_cluster(stratum)
        clusters = len(totals)
        effect = design_effect(counts, totals, sizes)
        interval = clustered_difference(counts, totals, sizes)
        p = sign_flip(totals.astype(np.float64))
    return Difference(
        counts=counts,
        clusters=clusters,
        rate_a=float(a),
        rate_b=float(b),
        difference=(counts.only_a - counts.only_b) / counts.n,
        interval=interval,
        p=p,
        test=_test(clusters),
        effect=effect,
    )


def pooled(strata: Sequence[Stratum]) -> Difference:
    """Compare two models on the mean over settings, each with equal weight.

    The difference is the mean of the settings' differences. Its interval puts theirs together
    (MOVER: Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702, after Newcombe 1998):
    low = d - sqrt(sum w^2 (d_s - low_s)^2), likewise high. Settings are taken as independent:
    their haystacks are drawn anew. The p-value is `sign_flip`'s over all settings' samples, or
    haystacks, each with its setting's weight over its setting's samples. Settings without a
    common sample are left out.
    """
    strata = [stratum for stratum in strata if len(stratum.a)]
    parts = [difference(stratum) for stratum in strata]
    if len(parts) == 1:
        return parts[0]
    counts = sum((part.counts for part in parts), Counts())
    if not parts:
        return _nothing(counts, None)
    weight = 1 / len(parts)
    gaps = [(part.difference or 0.0, *part.interval) for part in parts]
    centre = weight * math.fsum(gap for gap, _, _ in gaps)
    below = weight * math.hypot(*(gap - low for gap, low, _ in gaps))
    above = weight * math.hypot(*(high - gap for gap, _, high in gaps))
    units = [_by_cluster(stratum)[0] for stratum in strata]
    weights = np.repeat([1 / len(stratum.a) for stratum in strata], list(map(len, units)))
    shared = [part.clusters for part in parts if part.clusters is not None]
    return Difference(
        counts=counts,
        clusters=sum(shared) if shared else None,
        rate_a=math.fsum(part.rate_a or 0.0 for part in parts) * weight,
        rate_b=math.fsum(part.rate_b or 0.0 for part in parts) * weight,
        difference=centre,
        interval=(max(-1.0, centre - below), min(1.0, centre + above)),
        p=sign_flip(np.concatenate(units).astype(np.float64), weights),
        test="sign_flip",
    )


def _counts(stratum: Stratum) -> Counts:
    a, b = stratum.a, stratum.b
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} answers are not to the same samples")
    cells = (a & b, a & ~b, ~a & b, ~a & ~b)
    return Counts(*(int(np.count_nonzero(cell)) for cell in cells))


def _by_cluster(stratum: Stratum) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each independent unit: right answers of a less those of b, and samples."""
    gaps = stratum.a.astype(np.int64) - stratum.b
    if stratum.clusters is None:
        return gaps, np.ones_like(gaps)
    _, place = np.unique(stratum.clusters, return_inverse=True)
    sizes = np.bincount(place)
    totals = np.bincount(place, gaps, len(sizes)).astype(np.int64)  # sums of small integers
    return totals, sizes.astype(np.int64)


def _nothing(counts: Counts, stratum: Stratum | None) -> Difference:
    shared = stratum is not None and stratum.clusters is not None
    return Difference(
        counts=counts,
        clusters=0 if shared else None,
        rate_a=None,
        rate_b=None,
        difference=None,
        interval=(-1.0, 1.0),
        p=1.0,
        test=_test(0 if shared else None),
    )


def _test(clusters: int | None) -> Test:
    return "mcnemar_exact" if clusters is None else "sign_flip"


# --------------------------------------------------------------------------- tests


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """McNemar's exact test: the two-sided p-value of as uneven a split of the discordant pairs.

    Of only_a + only_b discordant pairs as many go either way where both models are equally good:
    twice the lower tail of Binomial(only_a + only_b, 1/2), at most 1.

    Source: McNemar, Psychometrika 12 (1947) 153-157; exact: Agresti, Categorical Data Analysis
    (2013), section 11.1.4. Raises ValueError on negative counts.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"counts must not be negative: {only_a}, {only_b}")
    n, low = only_a + only_b, min(only_a, only_b)
    if only_a == only_b:
        return 1.0
    top = math.exp(
        math.lgamma(n + 1) - math.lgamma(low + 1) - math.lgamma(n - low + 1) - n * math.log(2)
    )
    # Terms below the greatest: each is j / (n - j + 1) times the one above it.
    steps = np.arange(low, 0, -1)
    tail = top * (1 + float(np.cumprod(steps / (n - steps + 1)).sum()))
    return min(1.0, 2 * tail)


def sign_flip(totals: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> float:
    """The two-sided p-value of the weighted sum of differences, over all ways to flip their signs.

    Where the models are equally good, a unit's difference is as likely as its opposite, whatever
    happens within the unit: questions of a haystack may be alike to any degree. Of one sample a
    unit this is McNemar's exact test. Not simulated but counted, with the weights as they are:

    - few different sums: all of them are listed, with their odds;
    - weights in simple ratios, up to 2^14 sums: exactly, from the characteristic function, the
      product of the units' cosines, by a Fourier transform;
    - else the same function, of the sum with a little normal noise (a thousandth of the sum's
      standard deviation), turned back at one place; the place is that of the sum that was seen,
      less five deviations of the noise. So p errs to the safe side, but for a millionth of it,
      and by less than moving the sum by a hundredth of its standard deviation would.

    Smallest value: 1e-12.

    Where units differ in what they favour (one setting a, another b) though the weighted mean is
    zero, it is valid for many units only, and then errs to the safe side.

    Source: Fisher, The Design of Experiments (1935), section 21; clusters: Canay, Romano and
    Shaikh, Econometrica 85 (2017) 1013-1030; the function turned back: Gil-Pelaez, Biometrika 38
    (1951) 481-482.

    Args:
        totals: of each unit, whole numbers: right answers of a less those of b; shape (units,).
        weights: of each unit, positive; None: equal.
    """
    moved = totals != 0
    totals = totals[moved]
    if not len(totals):
        return 1.0
    shares = np.ones_like(totals) if weights is None else weights[moved] / weights[moved].max()
    values, counts = np.unique(np.abs(totals) * shares, return_counts=True)
    if len(values) == 1:
        ahead = int(np.count_nonzero(totals > 0))
        return mcnemar_exact(ahead, len(totals) - ahead)
    seen = abs(math.fsum(totals * shares))
    if math.prod((counts + 1).tolist()) <= _LISTED:
        return _listed_tail(values, counts, seen)
    scale = _common(np.unique(shares))
    if scale and scale * float(values @ counts) < _LATTICE:
        return _lattice_tail(np.rint(values * scale).astype(np.int64), counts, round(seen * scale))
    return _smooth_tail(values, counts, seen)


def _common(shares: NDArray[np.float64]) -> int:
    """The least number that makes all shares whole ones; 0: none below the lattice's size."""
    common = 1
    for share in shares.tolist():
        ratio = Fraction(share).limit_denominator(_LATTICE)
        common = math.lcm(common, ratio.denominator)
        if abs(float(ratio) - share) > _ROUNDING or common >= _LATTICE:
            return 0
    return common


def _listed_tail(values: NDArray[np.float64], counts: NDArray[np.int64], seen: float) -> float:
    """P(|sum of +-values| >= seen), each value `counts` times: sum by sum."""
    sums, odds = np.zeros(1), np.ones(1)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))  # of k!
        ways = np.exp(logs[-1] - logs - logs[::-1] - count * math.log(2))
        places = value * (2 * np.arange(count + 1) - count)
        sums = np.add.outer(sums, places).ravel()
        odds = np.multiply.outer(odds, ways).ravel()
    tail = odds[np.abs(sums) >= seen - _ROUNDING * float(values @ counts)]
    return min(1.0, max(_SMALLEST, math.fsum(tail)))


def _lattice_tail(steps: NDArray[np.int64], counts: NDArray[np.int64], seen: int) -> float:
    """P(|sum of +-steps| >= seen), each step `counts` times: exact for whole numbers."""
    if not seen:
        return 1.0
    steps //= (common := np.gcd.reduce(steps))
    seen //= int(common)
    reach = int(steps @ counts)
    # The sum has the parity of `reach`; sums repeat after `length`, which none is far enough for.
    length = 1 << (2 * reach + 1).bit_length()
    angles = np.arange(length // 2 + 1, dtype=np.float64) * (2 * math.pi / length)
    spectrum = _characteristic(angles, steps, counts)
    odds = np.fft.irfft(spectrum, length)  # of sums 0, 1, ..., and below 0 from the end
    return float(min(1.0, max(_SMALLEST, 2 * odds[seen : reach + 1].sum())))


def _smooth_tail(values: NDArray[np.float64], counts: NDArray[np.int64], seen: float) -> float:
    """P(|sum of +-values| >= seen), or a little more (`_BLUR`), for any values."""
    spread = math.sqrt(float(values**2 @ counts))
    place = seen / spread - _MARGIN * _BLUR
    if place <= 0:
        return 1.0
    if place >= _FAR:
        return _SMALLEST
    # The noise ends the series: exp(-32) of its last term is left.
    terms = math.ceil(8 / _BLUR * _PERIOD / (2 * math.pi))
    angles = np.arange(1, terms, dtype=np.float64) * (2 * math.pi / _PERIOD)
    law = _characteristic(angles, values / spread, counts) * np.exp(-((_BLUR * angles) ** 2) / 2)
    inside = 2 / _PERIOD * (place + 2 * float((law * np.sin(angles * place) / angles).sum()))
    return min(1.0, max(_SMALLEST, 1 - inside))


def _characteristic(
    angles: NDArray[np.float64],
    values: NDArray[np.float64] | NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The mean of cos(angle * sum of +-values), each value `counts` times; as `angles`."""
    product = np.ones_like(angles)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        product *= np.cos(angles * value) ** count
    return product


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: below 0.05, no more than 5 % of families hold any false one.

    The k-th smallest of m is multiplied by m - k + 1; none becomes smaller than one before it.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70. Raises ValueError on what is
    no probability.
    """
    if any(not 0 <= p <= 1 for p in ps):
        raise ValueError("p-values must lie in 0..1")
    adjusted = [0.0] * len(ps)
    reached = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        reached = max(reached, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = reached
    return adjusted


# --------------------------------------------------------------------------- intervals


def paired_interval(
    only_a: float, only_b: float, n: float, level: float = 0.95
) -> tuple[float, float]:
    """Tango's score interval of the difference of two paired proportions.

    All differences D whose score statistic, with the variance that D itself implies, lies within
    the normal quantile: it holds its level near 0 and 1 and with few discordant pairs, where
    d +- 1.96 s.e. fails; without any it is Wilson's upper end both ways.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908.

    Args:
        only_a, only_b: discordant pairs; may be fractions (effective numbers).
        n: pairs; 0: nothing is known, (-1, 1).
        level: of confidence.

    Raises:
        ValueError: unless the counts fit into n and 0 < level < 1.
    """
    if min(only_a, only_b) < 0 or only_a + only_b > n * (1 + 1e-12):
        raise ValueError(f"{only_a} and {only_b} discordant pairs of {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if n == 0:
        return -1.0, 1.0
    quantile = -NormalDist().inv_cdf((1 - level) / 2)
    # Turned round, the low end is the high one: it is found the same way, to the last digit.
    return -_upper(only_b, only_a, n, quantile), _upper(only_a, only_b, n, quantile)


@lru_cache(maxsize=1 << 14)
def _upper(b: float, c: float, n: float, quantile: float) -> float:
    """The greatest difference whose score statistic is no more than `quantile`."""
    inner, outer = (b - c) / n, 1.0
    for _ in range(_BISECTIONS):
        middle = (inner + outer) / 2
        if _excess(b, c, n, middle) <= quantile:
            inner = middle
        else:
            outer = middle
    return (inner + outer) / 2


def _excess(b: float, c: float, n: float, gap: float) -> float:
    """By how many standard errors a difference `gap` lies above what was seen (Tango 1998)."""
    # The share of "only b" that is likeliest if the difference is `gap`: a quadratic's root.
    linear = 2 * n * gap - b - c - (b - c) * gap
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * gap * (1 - gap)))
    variance = (root - linear) / 2 + n * gap * (1 - gap)
    distance = n * gap - (b - c)
    if distance <= 0:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.inf


def clustered_difference(
    counts: Counts,
    totals: NDArray[np.int64],
    sizes: NDArray[np.int64],
    level: float = 0.95,
) -> tuple[float, float]:
    """Interval of a paired difference whose samples come in clusters.

    As `clustered` has it for one proportion: the variance of the difference over clusters (the
    ratio estimator's: Obuchowski, Statistics in Medicine 17, 1998, 1495-1507) tells how many
    independent samples would tell as much; Tango's interval is that of so many, never of more
    than there are, and of fewer where there are few clusters (Student's t for the normal
    quantile; Korn and Graubard, Survey Methodology 24, 1998). Where no pair is discordant, or all
    are the same way, each cluster counts as one sample.

    Args:
        counts: of all pairs.
        totals: of each cluster, right answers of a less those of b; shape (clusters,).
        sizes: samples of each cluster; shape (clusters,).
        level: of confidence.
    """
    n, clusters = counts.n, len(totals)
    if not n:
        return -1.0, 1.0
    equal, effect = float(clusters), design_effect(counts, totals, sizes)
    if effect is not None:
        normal = -NormalDist().inv_cdf((1 - level) / 2)
        equal = n / max(1.0, effect) * (normal / student(normal, clusters - 1)) ** 2
    share = equal / n
    return paired_interval(counts.only_a * share, counts.only_b * share, equal, level)


def design_effect(
    counts: Counts, totals: NDArray[np.int64], sizes: NDArray[np.int64]
) -> float | None:
    """The variance of a paired difference over clusters, over that of independent samples.

    Arguments as `clustered_difference` has them. None where it is not known: with one cluster,
    or where all pairs are the same.
    """
    n, clusters = counts.n, len(totals)
    if not n or clusters < 2:
        return None
    gap = (counts.only_a - counts.only_b) / n
    alone = (counts.only_a + counts.only_b) / n - gap**2
    if alone <= 0:
        return None
    spread = float(((totals - gap * sizes) ** 2).sum()) / n**2
    return spread * clusters / (clusters - 1) / (alone / n)
