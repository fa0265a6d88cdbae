"""Intervals of proportions."""

import math
from statistics import NormalDist


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, without continuity correction.

    Source: E. B. Wilson, JASA 22 (1927) 209-212. With n = 0 nothing is known: (0.0, 1.0).
    The trials are taken as independent. Raises ValueError unless 0 <= hits <= n and
    0 < level < 1.
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
