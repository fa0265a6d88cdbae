"""Convergence curves of a run: how its figures settle with the number of samples (section 4.4)."""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import Measure, in_split, verdicts
from mmneedle.outcomes import UNDEFINED, Outcomes
from mmneedle.scoring import Scorer
from mmneedle.statistics.convergence import Curve, convergence
from mmneedle.types import Setting


class Settling(msgspec.Struct, frozen=True):
    """One setting's curve: n answered samples in the order of their numbers."""

    setting: Setting
    number: NDArray[np.int64]
    """The sample's number in its setting; shape (n,). Samples without an answer are left out."""
    curve: Curve
    unanswered: int
    """Samples of the measure's split that have no answer."""


def curves(
    tables: Mapping[Setting, Outcomes], measure: Measure = "exact", scorer: Scorer = "robust"
) -> list[Settling]:
    """A curve for each setting of `outcomes`, in their order."""
    return [_curve(table, measure, scorer) for table in tables.values()]


def _curve(table: Outcomes, measure: Measure, scorer: Scorer) -> Settling:
    marks = verdicts(table, measure, scorer)
    known = np.not_equal(marks, UNDEFINED)
    clusters = table.haystack[known] if table.shared else None
    return Settling(
        table.setting,
        table.number[known],
        convergence(marks[known] == 1, clusters),
        int(np.count_nonzero(in_split(table, measure) & ~known)),
    )
