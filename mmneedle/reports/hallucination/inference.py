"""The tests behind the findings: counts against a known chance, outcomes against a value, AUROC.

Every random draw is seeded, so the same answers give the same figures. Where samples share
haystacks (or needles share a sample) these are the units: a test then never trusts the answers
to be independent of each other within one.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmneedle.statistics.shares import Share, by_cluster

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LEVEL = 0.05
"""Of all tests of a report together."""
DRAWS = 4_999
"""Of a Monte Carlo test: its smallest p is 1 / (DRAWS + 1)."""
_SEED = 0x6D6D
_AT_ONCE = 1 << 21
"""Numbers drawn in one go: 16 MB."""
_MANY = 100
"""Trials from which, with _RARE of either outcome, the normal approximation serves."""
_RARE = 30


def newcombe(
    a: tuple[float, tuple[float, float]], b: tuple[float, tuple[float, float]]
) -> tuple[float, float]:
    """Interval of a - b from two independent shares with their intervals.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890, method 10.
    """
    (p, (p_low, p_high)), (q, (q_low, q_high)) = a, b
    low = p - q - math.hypot(p - p_low, q_high - q)
    high = p - q + math.hypot(p_high - p, q - q_low)
    return max(-1.0, low), min(1.0, high)


class Standardised(msgspec.Struct, frozen=True):
    """Two shares compared within strata, and these weighted alike on both sides."""

    low: float
    high: float
    gap: float
    """high - low"""
    interval: tuple[float, float]
    """Of the gap, 95 %."""


def standardised(parts: Sequence[tuple[Share, Share]]) -> Standardised | None:
    """Shares of two groups, (low, high) in each stratum, as if both had the same strata.

    A stratum weighs as in Mantel and Haenszel's test, n m / (n + m), so that what is shown is
    what is tested: pooled counts would mix the groups' difference with that of the strata. The
    interval recovers variances from the shares' own intervals (G. Y. Zou, W. Huang and X. Zhang,
    Computational Statistics & Data Analysis 53, 2009, 1080-1085); for one stratum it is
    `newcombe`'s. None where no stratum has both groups.
    """
    both = [(a, b) for a, b in parts if a.n and b.n]
    if not both:
        return None
    sizes = [a.n * b.n / (a.n + b.n) for a, b in both]
    low = high = below = above = 0.0
    for size, (a, b) in zip(sizes, both, strict=True):
        weight, p, q = size / math.fsum(sizes), a.hits / a.n, b.hits / b.n
        low, high = low + weight * p, high + weight * q
        below += weight**2 * ((q - b.interval[0]) ** 2 + (a.interval[1] - p) ** 2)
        above += weight**2 * ((b.interval[1] - q) ** 2 + (p - a.interval[0]) ** 2)
    gap = high - low
    interval = max(-1.0, gap - math.sqrt(below)), min(1.0, gap + math.sqrt(above))
    return Standardised(low, high, gap, interval)


# --------------------------------------------------------------------------- against chance


def chance_tail(hits: int, chances: Floats) -> float:
    """P(at least `hits` of independent trials hit), trial i with probability chances[i].

    The exact distribution (Poisson's binomial): trials of equal chance are binomial, and the
    groups are convolved. Chances that differ by less than 1e-9 count as equal.
    """
    groups, counts = np.unique(np.round(chances, 9), return_counts=True)
    pmf = np.ones(1)
    for p, n in zip(groups.tolist(), counts.tolist(), strict=True):
        pmf = np.convolve(pmf, _binomial(n, p))
    return float(min(1.0, pmf[hits:].sum())) if hits > 0 else 1.0


def _binomial(n: int, p: float) -> Floats:
    """Probabilities of 0 … n hits."""
    if p <= 0 or p >= 1:
        pmf = np.zeros(n + 1)
        pmf[n if p >= 1 else 0] = 1
        return pmf
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    choose = logs[n] - logs - logs[::-1]
    return np.asarray(np.exp(choose + k * math.log(p) + (n - k) * math.log1p(-p)))


def excess(hits: Bools, chances: Floats, clusters: Ints | None = None) -> float:
    """One-sided p that hits are more than chance gives; 1 where there are no more.

    Independent trials: exact. In clusters: the larger of the exact p and that of a t test on the
    clusters' sums of hit less chance, which takes clusters as independent and nothing else.
    """
    p = chance_tail(int(hits.sum()), chances)
    if clusters is None or not len(hits):
        return p
    return max(p, _cluster_p(hits - chances, clusters, two_sided=False))


def _cluster_p(parts: Floats, clusters: Ints, *, two_sided: bool) -> float:
    """P that the sum of `parts`, zero on average, is as large, clusters being independent."""
    sums = by_cluster(parts, clusters)
    count, spread = len(sums), float((sums**2).sum())
    if count < 2 or spread == 0:
        return 1.0
    t = float(sums.sum()) / math.sqrt(spread * count / (count - 1))
    # Student's t to the normal's scale: Abramowitz and Stegun 26.7.8.
    nu = count - 1
    z = t * (1 - 1 / (4 * nu)) / math.sqrt(1 + t * t / (2 * nu))
    tail = NormalDist().cdf(-abs(z) if two_sided else -z)
    return min(1.0, 2 * tail) if two_sided else tail


def detectable(n: int, chance: float, tests: int) -> bool:
    """Whether a habit in half of n answers would show, among so many tests.

    In half the answers the habit, in the others chance: would that count be significant?
    """
    seen = math.floor(n * (0.5 + 0.5 * chance))
    return n > 0 and chance_tail(seen, np.full(n, chance)) * max(1, tests) <= LEVEL


# --------------------------------------------------------------------------- uniform


def uneven(
    tables: Sequence[tuple[Ints, int]], clusters: Sequence[Ints | None], draws: int = DRAWS
) -> float:
    """P that answers spread as unevenly over categories, were all categories alike.

    The statistic is G = 2 sum O ln(O/E), summed over tables, against its own distribution by
    Monte Carlo (valid for small counts; Hope, JRSS B 30, 1968). With clusters, all answers of
    one are turned round the categories together by a random step: photos stand at random places,
    so nothing that a model makes of a haystack depends on where in it they stand.

    Args:
        tables: of each setting, the answers' categories (n,) from 0, and how many there are.
        clusters: of each setting, the answers' clusters; None: independent.
        draws: how many times to draw.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    seen = 0.0
    drawn = np.zeros(draws)
    for (at, size), groups in zip(tables, clusters, strict=True):
        if size < 2 or not len(at):
            continue
        seen += float(_g(np.bincount(at, minlength=size)[None])[0])
        rows = max(1, _AT_ONCE // max(size, len(at)))
        for start in range(0, draws, rows):
            count = min(rows, draws - start)
            drawn[start : start + count] += _g(_turned(rng, at, size, groups, count))
    return float((1 + (drawn >= seen - 1e-9).sum()) / (draws + 1))


def _turned(
    rng: np.random.Generator, at: Ints, size: int, clusters: Ints | None, count: int
) -> Ints:
    """Counts by category, shape (count, size), of answers that spread evenly."""
    if clusters is None:
        return rng.multinomial(len(at), np.full(size, 1 / size), count)
    _, group = np.unique(clusters, return_inverse=True)
    steps = rng.integers(0, size, (count, int(group.max()) + 1))
    placed = (at + steps[:, group]) % size + size * np.arange(count)[:, None]
    return np.bincount(placed.ravel(), minlength=count * size).reshape(count, size)


def _g(counts: Ints) -> Floats:
    """2 sum O ln(O/E) of each row."""
    even = counts.sum(axis=1, keepdims=True) / counts.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(counts > 0, counts * np.log(counts / even), 0.0)
    return np.asarray(2 * parts.sum(axis=1))


# --------------------------------------------------------------------------- association


def association(
    values: ArrayLike,
    outcomes: ArrayLike,
    strata: ArrayLike | None = None,
    clusters: Ints | None = None,
    *,
    greater: bool = False,
    draws: int = DRAWS,
) -> float | None:
    """P that outcomes go with values as strongly within strata, were they exchangeable there.

    The statistic is the sum of (value - its stratum's mean) x outcome: for two values Fisher's
    and Mantel and Haenszel's, for several Cochran and Armitage's trend. Its distribution is that
    of all permutations within strata: by Monte Carlo, or where there are enough of either
    outcome by the normal with the permutations' exact variance (Mantel, JASA 58, 1963). With
    clusters, the larger of that and of a t test on the clusters' own sums.

    Args:
        values: of each trial; shape (n,).
        outcomes: of each trial, any numbers.
        strata: of each trial; trials are compared within their stratum only.
        clusters: of each trial; None: independent.
        greater: one-sided, for larger outcomes at larger values.
        draws: of the Monte Carlo.

    Returns:
        None where values or outcomes do not vary within any stratum: nothing can be told.
    """
    x, y = np.asarray(values, np.float64), np.asarray(outcomes, np.float64)
    _, group = np.unique(
        np.zeros(len(x)) if strata is None else np.asarray(strata), return_inverse=True
    )
    if not len(x):
        return None
    x, y = _centred(x, group), _centred(y, group)
    sizes = np.bincount(group)
    variance = np.bincount(group, x * x) * np.bincount(group, y * y)
    total = float((variance[sizes > 1] / (sizes[sizes > 1] - 1)).sum())
    if total <= 1e-12:
        return None
    seen = float(x @ y)
    apart = np.minimum((y > 0).sum(), (y < 0).sum())
    if len(x) >= _MANY and apart >= _RARE:
        z = seen / math.sqrt(total)
        p = NormalDist().cdf(-z if greater else -abs(z)) * (1 if greater else 2)
    else:
        p = _permuted(x, y, group, seen, greater, draws)
    if clusters is not None:
        p = max(p, _cluster_p(x * y, clusters, two_sided=not greater))
    return min(1.0, p)


def _centred(values: Floats, group: Ints) -> Floats:
    sizes = np.maximum(1, np.bincount(group))
    return np.asarray(values - (np.bincount(group, values) / sizes)[group])


def _permuted(x: Floats, y: Floats, group: Ints, seen: float, greater: bool, draws: int) -> float:
    order = np.argsort(group, kind="stable")
    x, y, group = x[order], y[order], group[order]
    rng = np.random.Generator(np.random.PCG64(_SEED))
    rows = max(1, _AT_ONCE // len(x))
    beyond = 0
    for start in range(0, draws, rows):
        keys = group + rng.random((min(rows, draws - start), len(x)))
        drawn = y[np.argsort(keys, axis=1)] @ x
        edge = 1e-9 * (1 + abs(seen))
        beyond += int(
            (drawn >= seen - edge).sum() if greater else (abs(drawn) >= abs(seen) - edge).sum()
        )
    return (1 + beyond) / (draws + 1)


# --------------------------------------------------------------------------- AUROC


class Auroc(msgspec.Struct, frozen=True):
    """Area under the ROC curve, with its 95 % interval."""

    value: float
    interval: tuple[float, float]


def auroc(scores: Floats, positive: Bools, clusters: Ints | None = None) -> Auroc | None:
    """P that a positive's score is above a negative's, ties counting half; None without both.

    Variance: Obuchowski's for clusters (Biometrics 53, 1997, 567-578), which for independent
    trials is DeLong, DeLong and Clarke-Pearson's (Biometrics 44, 1988); the interval is made on
    the logit scale. At 0 and 1, where that variance vanishes, the interval is Newcombe's method
    5 (Statistics in Medicine 25, 2006, 559-573), of as many trials as there are clusters.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return None
    up, down = scores[positive], scores[~positive]
    above = _placed(up, down)  # of each positive: share of negatives below it
    below = 1 - _placed(down, up)
    area = float(above.mean())
    where = np.arange(len(scores)) if clusters is None else np.asarray(clusters)
    parts = np.zeros(len(scores))
    parts[positive] = (above - area) / m
    parts[~positive] = (below - area) / n
    sums = by_cluster(parts, where)
    variance = float((sums**2).sum()) * len(sums) / max(1, len(sums) - 1)
    if variance <= 0 or area in (0.0, 1.0):
        units = [len(np.unique(where[of])) for of in (positive, ~positive)]
        return Auroc(area, _extreme(area, *units))
    z = 1.959964
    logit, half = math.log(area / (1 - area)), z * math.sqrt(variance) / (area * (1 - area))
    ends = [1 / (1 + math.exp(-max(-700.0, min(700.0, at)))) for at in (logit - half, logit + half)]
    return Auroc(area, (ends[0], ends[1]))


def _placed(ours: Floats, theirs: Floats) -> Floats:
    """Of each of ours, the share of theirs below it, ties counting half."""
    order = np.sort(theirs)
    low, high = np.searchsorted(order, ours, "left"), np.searchsorted(order, ours, "right")
    return np.asarray((low + high) / (2 * len(order)))


def _extreme(area: float, m: int, n: int) -> tuple[float, float]:
    """Newcombe's method 5 where all positives lie above all negatives, or below."""
    if area not in (0.0, 1.0):  # all scores are tied: nothing is known of their order
        return 0.0, 1.0
    low, high = 0.5, 1.0  # where |1 - theta| = z sqrt(V(theta)), by bisection
    for _ in range(60):
        theta = (low + high) / 2
        mean = (m + n) / 2 - 1
        inner = 1 + mean * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        gap = 1 - theta - 1.959964 * math.sqrt(theta * (1 - theta) * inner / (m * n))
        low, high = (theta, high) if gap > 0 else (low, theta)
    return (low, 1.0) if area == 1.0 else (0.0, 1 - low)
