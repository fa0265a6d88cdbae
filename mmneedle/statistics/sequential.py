"""Confidence sequences: intervals that hold at every moment, however often one looks.

A 95 % interval of a fixed number of samples errs in one of twenty runs. Whoever looks at it after
every answer and stops when it pleases errs far more often. A confidence sequence errs, over all
the moments at which one may look, in at most one of twenty runs.

Each value x of a unit lies in 0..1: one sample right or wrong, or the share of right answers of
a haystack that samples share. If its mean is m, a gambler who stakes on "more than m" has the
capital

    prod over units of (1 + x theta) / (1 + m theta),    theta > 0

which in a fair game grows to 2 / alpha with odds of at most alpha / 2 (Ville 1939). All m at
which a mixture of such gamblers has grown that far are ruled out from below; gamblers on 1 - x
rule out from above. The mixture has gamblers for any variance, so that haystacks whose questions
are little alike need fewer samples, without anybody knowing beforehand how much alike they are.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
Journal of the Royal Statistical Society B 86 (2024) 1-27; mixtures: Robbins, Annals of
Mathematical Statistics 41 (1970) 1397-1409; Howard, Ramdas, McAuliffe and Sekhon, Annals of
Statistics 49 (2021) 1055-1080.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_BETS = 19
"""Gamblers a side, three an octave; from 2 to 128 half-widths."""
_BISECTIONS = 40
RULE = "bets_1"
"""This rule's name in run.json; another way to bet is another rule."""


class LowerBound:
    """What the mean lies above, at every moment with the given odds; memory holds no values."""

    def __init__(self, halfwidth: float, alpha: float) -> None:
        """Begin.

        Args:
            halfwidth: where the bets are at their best; any value is valid.
            alpha: odds of ever being wrong.
        """
        stakes = np.minimum(halfwidth * 2.0 ** (1 + np.arange(_BETS) / 3), 12.0)
        self.theta: NDArray[np.float64] = np.expm1(stakes)
        self.gains = np.zeros(_BETS)
        """Sum of log(1 + x theta) of each gambler."""
        self.n = 0.0
        self.goal = math.log(_BETS / alpha)

    def add(self, value: float, times: float = 1) -> None:
        """Take in a unit's value, 0..1; `times` units with the same one."""
        if not 0 <= value <= 1:
            raise ValueError(f"a unit's value must lie in 0..1, not {value}")
        self.gains += times * np.log1p(value * self.theta)
        self.n += times

    def excludes(self, mean: float) -> bool:
        """Whether the capital against this mean has grown enough; so for all smaller means too."""
        logs = self.gains - self.n * np.log1p(mean * self.theta)
        top = float(logs.max())
        return top + math.log(float(np.exp(logs - top).sum())) >= self.goal

    def value(self) -> float:
        """The greatest mean that is ruled out; 0 where none is."""
        if not self.excludes(0.0):
            return 0.0
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self.excludes(middle):
                low = middle
            else:
                high = middle
        return low


class ConfidenceSequence:
    """Both ends. What nobody answered is taken as wrong by the lower, as right by the upper."""

    def __init__(self, halfwidth: float, level: float = 0.95) -> None:
        """Begin; raises ValueError unless 0 < halfwidth < 0.5 and 0 < level < 1."""
        if not 0 < halfwidth < 0.5:
            raise ValueError(f"a half-width lies between 0 and 0.5, not {halfwidth}")
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {level}")
        self.target = halfwidth
        self.above = LowerBound(halfwidth, (1 - level) / 2)
        self.below = LowerBound(halfwidth, (1 - level) / 2)

    def add(self, worst: float, best: float | None = None, times: float = 1) -> None:
        """Take in a unit: its value, or the least and the greatest that it can have had."""
        self.above.add(worst, times)
        self.below.add(1 - (worst if best is None else best), times)

    @property
    def n(self) -> float:
        """Units so far."""
        return self.above.n

    def interval(self) -> tuple[float, float]:
        """The interval of the mean at this moment; (0, 1) at first."""
        return self.above.value(), 1 - self.below.value()

    def halfwidth(self) -> float:
        """Half of the interval's width."""
        low, high = self.interval()
        return (high - low) / 2


def anytime_interval(
    values: Iterable[tuple[float, float]], halfwidth: float, level: float = 0.95
) -> tuple[float, float]:
    """The confidence sequence's interval after these units, in whatever order they came.

    Args:
        values: a unit's value, 0..1, and how many units had it.
        halfwidth: what the rule was to reach.
        level: of confidence.
    """
    sequence = ConfidenceSequence(halfwidth, level)
    for value, times in values:
        if times:
            sequence.add(value, times=times)
    return sequence.interval()
