"""Runs against each other: which may be compared, on which samples, and what comes of it.

Two runs are compared on the samples that both answered: the same data set, task and setting, the
same sample numbers. A data set's images and its text twins are the same samples in other forms, and
are compared too. Settings have equal weight, as in the leaderboard's mean.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.runlog import Run, RunHeader, pixels
from mmneedle.scoring import Scorer
from mmneedle.statistics.comparison import Difference, Stratum, difference, holm, pooled
from mmneedle.statistics.ranking import Rank, ranks
from mmneedle.types import Setting

Measure = Literal["exact", "index", "existence", "sensitivity", "specificity"]
"""exact, index: on positives. existence: on all samples, half of them positive, so that a
difference in it is half a difference in Youden's J. sensitivity, specificity: existence on
positives, on negatives."""
MEASURES: tuple[Measure, ...] = get_args(Measure)
ALPHA = 0.05
TWINS = ("grid", "twin-literal", "twin-paraphrase")
"""Tasks that ask the same samples of a data set, in one form each."""

Columns = Mapping[Setting, Outcomes]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on one setting, or on the mean over settings."""

    setting: Setting | None
    """None: the mean over settings, each with equal weight."""
    result: Difference
    """On the samples that both answered; positive: the first model is ahead."""
    unanswered: int
    """Samples that both were asked and that one of them, or both, did not answer."""
    bounds: tuple[float, float]
    """The difference if all of these had gone against the first model, and all for it."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on all settings that both were asked."""

    measure: Measure
    scorer: Scorer
    settings: tuple[Compared, ...]
    """In the first run's order; those without a common sample too, with nothing known."""
    overall: Compared
    """Over the settings that have common samples."""


def verdicts(table: Outcomes, measure: Measure, scorer: Scorer = "robust") -> NDArray[np.int8]:
    """1 right, 0 wrong; UNDEFINED where unanswered or not of this measure's split; shape (n,)."""
    marks = table.marks[scorer]
    if measure not in MEASURES:
        raise ValueError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
    if measure in ("exact", "index", "existence"):
        return marks.metric(measure)
    asked = table.positive == (measure == "sensitivity")
    return np.where(asked, marks.existence, np.int8(UNDEFINED))


def in_split(table: Outcomes, measure: Measure) -> NDArray[np.bool_]:
    """Which samples a measure is about, answered or not; shape (n,)."""
    if measure == "existence":
        return np.ones(len(table), np.bool_)
    return np.equal(table.positive, measure != "specificity")


def compare(
    one: Columns, other: Columns, measure: Measure = "exact", scorer: Scorer = "robust"
) -> Comparison:
    """Compare two models on the samples that both answered, setting by setting and overall.

    Args:
        one, other: `outcomes` of two runs that `why_not` lets be compared.
        measure: what is right.
        scorer: who says so.
    """
    parts = [
        _compared(setting, one[setting], other[setting], measure, scorer)
        for setting in one
        if setting in other
    ]
    known = [part for part, stratum in parts if len(stratum.a)]
    weight = 1 / max(1, len(known))
    result = pooled([stratum for _, stratum in parts])
    overall = Compared(
        setting=None,
        result=result,
        unanswered=sum(part.unanswered for part, _ in parts),
        bounds=(
            weight * sum(part.bounds[0] for part in known) if known else -1.0,
            weight * sum(part.bounds[1] for part in known) if known else 1.0,
        ),
    )
    return Comparison(
        measure=measure,
        scorer=scorer,
        settings=tuple(part for part, _ in parts),
        overall=overall,
    )


def _compared(
    setting: Setting, one: Outcomes, other: Outcomes, measure: Measure, scorer: Scorer
) -> tuple[Compared, Stratum]:
    _, rows, others = np.intersect1d(
        one.number, other.number, assume_unique=True, return_indices=True
    )
    asked = in_split(one, measure)[rows]
    rows, others = rows[asked], others[asked]
    a, b = verdicts(one, measure, scorer)[rows], verdicts(other, measure, scorer)[others]
    known = np.not_equal(a, UNDEFINED) & np.not_equal(b, UNDEFINED)
    shared = one.haystack[rows][known] if one.shared else None
    stratum = Stratum(a[known] == 1, b[known] == 1, shared)
    # The worst for the first model: what it did not answer is wrong, what the other did not, right.
    low = (a == 1).mean() - (b != 0).mean() if len(rows) else -1.0
    high = (a != 0).mean() - (b == 1).mean() if len(rows) else 1.0
    part = Compared(
        setting=setting,
        result=difference(stratum),
        unanswered=int(np.count_nonzero(~known)),
        bounds=(float(low), float(high)),
    )
    return part, stratum


# --------------------------------------------------------------------------- many models


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two of several models, by their place in the list that was given."""

    a: int
    b: int
    comparison: Comparison
    holm: float
    """The overall p-value, corrected for all pairs after Holm."""
    setting_holm: tuple[float, ...]
    """Likewise of each setting: corrected for all pairs at all settings."""


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """Several models on the same samples."""

    pairs: tuple[Pair, ...]
    ranks: tuple[Rank, ...]
    """Of each model, by the overall comparisons."""

    def pair(self, a: int, b: int) -> Pair:
        """The comparison of two different models, in the order in which they were given."""
        return next(pair for pair in self.pairs if {pair.a, pair.b} == {a, b})


def board(
    models: Sequence[Columns], measure: Measure = "exact", scorer: Scorer = "robust"
) -> Board:
    """Compare each model with each other one, and rank them with ties.

    Two models share ranks where the data cannot tell them apart after Holm's correction over all
    pairs. Each pair is compared on the samples that these two answered; models without a common
    sample cannot be told apart.
    """
    numbers = list(combinations(range(len(models)), 2))
    found = [compare(models[i], models[j], measure, scorer) for i, j in numbers]
    overall = holm([one.overall.result.p for one in found])
    single = iter(holm([part.result.p for one in found for part in one.settings]))
    pairs = tuple(
        Pair(
            a=i,
            b=j,
            comparison=one,
            holm=p,
            setting_holm=tuple(next(single) for _ in one.settings),
        )
        for (i, j), one, p in zip(numbers, found, overall, strict=True)
    )
    return Board(pairs=pairs, ranks=tuple(ranks(len(models), _better(pairs))))


def _better(pairs: Sequence[Pair]) -> dict[tuple[int, int], bool]:
    better = {}
    for pair in pairs:
        gap = pair.comparison.overall.result.difference or 0.0
        better[pair.a, pair.b] = pair.holm < ALPHA and gap > 0
        better[pair.b, pair.a] = pair.holm < ALPHA and gap < 0
    return better


def compare_runs(
    runs: Sequence[Run], measure: Measure = "exact", scorer: Scorer = "robust"
) -> Board:
    """Compare runs. Raises UserError where two of them cannot be compared."""
    for one, other in combinations(runs, 2):
        reason = why_not(one.header, other.header)
        if reason:
            raise UserError(f"{one.folder} and {other.folder} cannot be compared: {reason}")
    return board([outcomes(run) for run in runs], measure, scorer)


def why_not(one: RunHeader, other: RunHeader) -> str | None:
    """Why two runs cannot be compared, in one line; None where they can."""
    if one.dataset_fingerprint != other.dataset_fingerprint:
        return (
            "they were asked about different data sets (fingerprints "
            f"{one.dataset_fingerprint[:12]} and {other.dataset_fingerprint[:12]})"
        )
    if one.task != other.task and not {one.task, other.task} <= set(TWINS):
        return f"they were asked in different tasks ({one.task} and {other.task})"
    common = one.plan.keys() & other.plan.keys()
    if not any(_overlap(one.span(name), other.span(name)) for name in common):
        return (
            f"no sample was asked of both (asked: {_asked(one)}; and {_asked(other)}); "
            "run the same settings and --limit"
        )
    return None


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _asked(header: RunHeader) -> str:
    spans = ((name, *header.span(name)) for name in header.plan)
    return ", ".join(f"{name} {start}-{stop}" for name, start, stop in spans)


def differences(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """What else differs between runs that may be compared, a plain sentence each."""
    found = []
    tasks = [run.header.task for run in runs]
    if len(set(tasks)) > 1:
        told = "; ".join(f"{name} {task}" for name, task in zip(names, tasks, strict=True))
        found.append(
            f"The same samples in other forms: {told}. A difference is that of the form, where "
            "models are the same; mmneedle twins splits it."
        )
    seen = [(name, _sent(run.header)) for name, run in zip(names, runs, strict=True)]
    seen = [one for one, task in zip(seen, tasks, strict=True) if task == TWINS[0]]
    if len({cell for _, cell in seen}) > 1:
        told = "; ".join(f"{name} {cell}" for name, cell in seen)
        found.append(f"Cells were not sent at the same size: {told}.")
    if len({run.header.reader for run in runs}) > 1:
        found.append(
            "Rows that say retrieve:K read what a retriever chose of each haystack, others all of "
            "it (mmneedle reader compares them)."
        )
    plans = [{name: run.header.span(name) for name in run.header.plan} for run in runs]
    if any(plan != plans[0] for plan in plans):
        found.append(
            "The runs were not asked all the same samples: each pair is compared on those that "
            "both were asked."
        )
    ruled = [name for name, run in zip(names, runs, strict=True) if run.header.stopped]
    if ruled:
        found.append(
            f"{', '.join(ruled)}: stopped by rule; intervals and p-values of differences take the "
            "number of samples as fixed beforehand."
        )
    return found


def _sent(header: RunHeader) -> str:
    if header.resize is not None:
        return f"shrunk to {pixels(header.resize)} px"
    return "as built"
