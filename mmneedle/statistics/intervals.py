"""Intervals of proportions: of independent trials, and of trials that come in clusters."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RESAMPLES = 2_000
_SEED = 0x6D6D
_AT_ONCE = 1 << 20
"""Cells of a matrix of draws: 8 MB."""
_KEPT = 2_000
"""Clusters up to which draws are kept: 32 MB."""


def wilson(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, without continuity correction.

    Source: E. B. Wilson, JASA 22 (1927) 209-212. With n = 0 nothing is known: (0.0, 1.0).
    The trials are taken as independent; an effective number of trials may be a fraction. Raises
    ValueError unless 0 <= hits <= n and 0 < level < 1.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"hits must lie in 0..n, not {hits} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if n == 0:
        return 0.0, 1.0
    # 1 - (1 - level) / 2 would lose the tail's digits as level nears 1.
    z = -NormalDist().inv_cdf((1 - level) / 2)
    p = hits / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # The ends are exact where the proportion is, whatever rounding says.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return low, high


def clustered(
    hits: Sequence[int], trials: Sequence[int], level: float = 0.95
) -> tuple[float, float]:
    """Interval of a proportion whose trials come in clusters, such as questions on one haystack.

    Trials of a cluster may be alike to any degree, clusters are taken as independent. A bootstrap
    that resamples whole clusters (Davison and Hinkley, "Bootstrap Methods", 1997, section 3.8)
    tells the variance of the proportion, hence how many independent trials would tell as much;
    Wilson's interval is that of so many, as if no more than the given ones, and fewer where the
    variance is known from few clusters (Korn and Graubard, Survey Methodology 24, 1998). Unlike
    the bootstrap's own percentiles it holds its level for few clusters and for proportions near 0
    and 1. Where all trials hit, or none does, each cluster counts as one trial.

    Args:
        hits: of each cluster.
        trials: of each cluster; one without trials tells nothing.
        level: of confidence.

    Returns:
        The same interval every time: the bootstrap is seeded. (0.0, 1.0) without clusters.

    Raises:
        ValueError: unless there are as many hits as trials, each 0 <= hits <= trials, and
            0 < level < 1.
    """
    pairs = [(h, n) for h, n in zip(hits, trials, strict=True) if n or h]
    if any(not 0 <= h <= n for h, n in pairs):
        raise ValueError("hits of each cluster must lie in 0..trials")
    right, total, clusters = sum(h for h, _ in pairs), sum(n for _, n in pairs), len(pairs)
    if right in (0, total) or clusters < 2:
        return wilson(clusters * right / total if total else 0, clusters, level)
    p = right / total
    variance = _resampled_variance(pairs) * clusters / (clusters - 1)
    equal = p * (1 - p) / variance if variance else math.inf
    normal = -NormalDist().inv_cdf((1 - level) / 2)
    equal = min(equal, total) * (normal / student(normal, clusters - 1)) ** 2
    return wilson(p * equal, equal, level)


def _resampled_variance(pairs: Sequence[tuple[int, int]]) -> float:
    """Of the proportion, over resamples that draw as many clusters, each with replacement."""
    import numpy as np  # not for runs whose trials are independent

    # Hits above, trials below the 32nd bit: one look-up and one sum serve both.
    table = np.array([(hits << 32) + trials for hits, trials in pairs], np.int64)
    count = len(table)
    rates = []
    for drawn in _kept_draws(count) if count <= _KEPT else _draws(count):
        sums = table[drawn].sum(axis=1)
        rates.append((sums >> 32) / (sums & 0xFFFFFFFF))
    return float(np.concatenate(rates).var())


def _draws(count: int) -> "Iterator[NDArray[np.intp]]":
    """Which clusters each resample draws, shape (resamples, count), in parts."""
    import numpy as np

    words = np.random.Philox(key=_SEED)  # raw words: the same in every version of NumPy
    rows = max(1, _AT_ONCE // count)
    for start in range(0, _RESAMPLES, rows):
        size = min(rows, _RESAMPLES - start)
        drawn = (words.random_raw(size * count) >> np.uint64(32)) * np.uint64(count)
        yield (drawn >> np.uint64(32)).astype(np.intp).reshape(size, count)


@lru_cache(maxsize=2)
def _kept_draws(count: int) -> "tuple[NDArray[np.intp], ...]":
    """The same for the next interval of as many clusters: a report makes many of them."""
    return tuple(_draws(count))


def student(z: float, freedom: int) -> float:
    """The quantile of Student's t where z is the normal one's (to 1 % from 3 degrees on).

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; 1 and 2 degrees of
    freedom have closed forms.
    """
    tail = NormalDist().cdf(-z)
    if freedom == 1:
        return 1 / math.tan(math.pi * tail)
    if freedom == 2:
        return (1 - 2 * tail) / math.sqrt(2 * tail * (1 - tail))
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
