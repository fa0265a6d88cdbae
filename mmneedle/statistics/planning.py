"""How many samples a question needs: before they are paid for.

Two models that are asked the same samples are compared by McNemar's exact test, whose power is
counted out; models that are asked different ones by the test of two proportions. What one model's
interval needs is there too. Haystacks that samples share multiply each of these numbers by the
design effect.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mmneedle.statistics.intervals import wilson
from mmneedle.statistics.sequential import anytime_interval

MOST = 10**7
"""Samples; more than anybody asks."""
_FAR = 9.0
"""Standard deviations beyond which a binomial has nothing."""
_TERMS = 200
"""Numbers of discordant pairs that power is counted for; between them it hardly changes."""


def discordant_share(one: float, other: float) -> float:
    """The share of samples that one of two models alone gets right, if they err independently.

    Models that find the same samples hard disagree less often, and need fewer samples.
    """
    return one * (1 - other) + other * (1 - one)


def mcnemar_power(n: int, only_a: float, only_b: float, alpha: float = 0.05) -> float:
    """The power of McNemar's exact test: how often it finds this difference.

    The number of discordant pairs is binomial, and so is their split; the test rejects where the
    split is uneven enough for their number. Summed over both (Duffy, Biometrics 40, 1984,
    1005-1015), the second one in full, the first one at 200 points at most.

    Args:
        n: samples.
        only_a, only_b: the shares that only the one, and only the other model gets right.
        alpha: of the two-sided test.

    Raises:
        ValueError: unless these are shares that add up to at most 1, and 0 < alpha < 1.
    """
    share = only_a + only_b
    if min(only_a, only_b) < 0 or share > 1 + 1e-12 or not 0 < alpha < 1 or n < 0:
        raise ValueError(f"no power of {n} samples with {only_a} and {only_b} at {alpha}")
    if share == 0:
        return 0.0
    odds, first = _binomial(n, min(1.0, share))
    groups = np.array_split(np.arange(len(odds)), min(_TERMS, len(odds)))
    weights = [float(odds[group].sum()) for group in groups]
    middles = [int(first + group[len(group) // 2]) for group in groups]
    terms = (
        weight * _rejection(m, only_a / share, alpha)
        for weight, m in zip(weights, middles, strict=True)
    )
    return min(1.0, math.fsum(terms))


def _binomial(n: int, p: float) -> tuple[NDArray[np.float64], int]:
    """The odds of a binomial's values from the second result on, as far as they matter."""
    if p in (0.0, 1.0):
        return np.ones(1), round(n * p)
    reach = _FAR * math.sqrt(n * p * (1 - p)) + _FAR
    first, last = max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach))
    ks = np.arange(first, last)  # each term is the one before it times a ratio
    ratios = np.log((n - ks) / (ks + 1)) + math.log(p / (1 - p))
    start = (
        math.lgamma(n + 1)
        - math.lgamma(first + 1)
        - math.lgamma(n - first + 1)
        + first * math.log(p)
        + (n - first) * math.log1p(-p)
    )
    return np.exp(start + np.concatenate([[0.0], np.cumsum(ratios)])), first


def _rejection(pairs: int, share: float, alpha: float) -> float:
    """How often the test rejects with this many discordant pairs, a share of them the one's."""
    even, first = _binomial(pairs, 0.5)
    tails = np.cumsum(even)
    most = first + int(np.searchsorted(tails, alpha / 2 * (1 + 1e-12), side="right")) - 1
    if most < first or 2 * most >= pairs:
        return 0.0
    odds, start = _binomial(pairs, share)
    ks = start + np.arange(len(odds))
    return float(odds[(ks <= most) | (ks >= pairs - most)].sum())


def paired_samples(
    difference: float, discordant: float, power: float = 0.8, alpha: float = 0.05
) -> int:
    """How many samples both models must be asked to find a difference between them.

    Args:
        difference: of their accuracies, 0..1.
        discordant: the share of samples that one of them alone gets right; at least `difference`.
        power: how often the difference shall be found.
        alpha: of the two-sided McNemar's exact test.

    Raises:
        ValueError: on shares that cannot be.
    """
    if not 0 < difference <= discordant <= 1 or not 0 < power < 1:
        raise ValueError(f"a difference of {difference} with {discordant} discordant answers")
    only_a, only_b = (discordant + difference) / 2, (discordant - difference) / 2
    return _smallest(lambda n: mcnemar_power(n, only_a, only_b, alpha) >= power)


def unpaired_samples(one: float, other: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many samples each model must be asked, where they are asked different ones.

    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions (2003), section
    4.2, without continuity correction. Raises ValueError on accuracies that are equal or no shares.
    """
    if one == other or not (0 <= one <= 1 and 0 <= other <= 1) or not 0 < power < 1:
        raise ValueError(f"accuracies of {one} and {other}")
    first, second = _quantiles(power, alpha)
    mean = (one + other) / 2
    spread = first * math.sqrt(2 * mean * (1 - mean))
    spread += second * math.sqrt(one * (1 - one) + other * (1 - other))
    return math.ceil((spread / (one - other)) ** 2)


def interval_samples(halfwidth: float, accuracy: float) -> int:
    """How many samples make Wilson's 95 % interval that narrow, at this accuracy."""
    return _smallest(lambda n: _half(wilson(n * accuracy, n)) <= halfwidth)


def sequential_samples(halfwidth: float, accuracy: float) -> int:
    """About how many samples `run --until-halfwidth` asks, at this accuracy."""

    def enough(n: int) -> bool:
        units = [(1.0, n * accuracy), (0.0, n * (1 - accuracy))]
        return _half(anytime_interval(units, halfwidth)) <= halfwidth

    return _smallest(enough)


def design_effect(size: float, alike: float) -> float:
    """By how much shared haystacks multiply the samples that are needed.

    1 + (size - 1) alike (Kish, Survey Sampling, 1965, section 5.4).

    Args:
        size: samples a haystack.
        alike: the correlation of two samples of a haystack, 0..1.
    """
    return 1 + (size - 1) * alike


def _half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def _quantiles(power: float, alpha: float) -> tuple[float, float]:
    return -NormalDist().inv_cdf(alpha / 2), NormalDist().inv_cdf(power)


def _smallest(enough: Callable[[int], bool]) -> int:
    """The smallest number that is enough, where all larger ones are. ValueError beyond MOST."""
    low, high = 0, 16
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"more than {MOST:,} samples")
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high
