"""Whether the probability that a model gives to "-1" can be trusted.

Engines that tell log-probabilities give one number a sample: how likely the answer was to begin
with "-1". Here it is taken as the model's probability that the needle is not there.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from mmneedle.outcomes import Outcomes
from mmneedle.reports.hallucination.evidence import Finding, Levels, p_text
from mmneedle.reports.hallucination.inference import (
    DRAWS,
    Auroc,
    Bools,
    Floats,
    Ints,
    association,
    auroc,
)
from mmneedle.reports.words import many, percent, signed
from mmneedle.scoring import Scorer
from mmneedle.statistics.shares import Share, by_cluster, share
from mmneedle.types import Setting

FEWEST = 20
"""Samples with a log-probability from which anything is said."""
_A_BIN = 20
_MOST_BINS = 10
_SEED = 0x6D6D


class Bin(msgspec.Struct, frozen=True):
    """Samples of about one probability."""

    low: float
    high: float
    """Range of the probabilities in it."""
    mean: float
    """Of the probabilities."""
    absent: Share
    """How many of them are negatives."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A run's log-probabilities against the truth."""

    n: int
    bins: list[Bin]
    """Equally many samples each, by rising probability."""
    ece: float
    """Expected calibration error: mean |probability - share of negatives| over bins."""
    ece_expected: float
    """What it would be on average were the probabilities right: the bins' own noise."""
    brier: float
    """Mean squared error of the probability; 0.25 is always one half."""
    base: float
    """Share of negatives."""
    mean: float
    """Mean probability."""
    sure: float
    """Mean probability of the likelier of the two."""
    sure_right: float
    """How often that one is right."""
    auroc: Auroc | None
    own_youden: float
    """Of the answers given; samples here only."""
    best_threshold: float
    """Saying "not there" from this probability on gives the highest J."""
    best_youden: float
    """By thresholds chosen on other samples than those they are judged on."""
    tests: dict[str, float | None]


def calibration(
    tables: Mapping[Setting, Outcomes], scorer: Scorer, draws: int = DRAWS
) -> Calibration | None:
    """Count and test; None where no more than FEWEST samples have a log-probability."""
    probability, absent, right, clusters, strata, shared = _columns(tables, scorer)
    if len(probability) < FEWEST or absent.all() or not absent.any():
        return None
    groups = clusters if shared else None
    order = np.argsort(probability, kind="stable")
    edges = np.linspace(0, len(order), _bins(len(order)) + 1).round().astype(np.int64)
    rows = [order[a:b] for a, b in pairwise(edges.tolist())]
    ece, expected, p = _ece(probability, absent, edges, order, groups, draws)
    own = float(right[absent].mean() + right[~absent].mean() - 1)
    threshold, best, gain = _threshold(probability, absent, right, clusters)
    return Calibration(
        n=len(probability),
        bins=[
            Bin(
                low=float(probability[row].min()),
                high=float(probability[row].max()),
                mean=float(probability[row].mean()),
                absent=share(absent[row], None if groups is None else groups[row]),
            )
            for row in rows
        ],
        ece=ece,
        ece_expected=expected,
        brier=float(((probability - absent) ** 2).mean()),
        base=float(absent.mean()),
        mean=float(probability.mean()),
        sure=float(np.maximum(probability, 1 - probability).mean()),
        sure_right=float(((probability > 0.5) == absent).mean()),
        auroc=auroc(probability, absent, groups),
        own_youden=own,
        best_threshold=threshold,
        best_youden=best,
        tests={
            "calibration.ece": p,
            "calibration.auroc": association(
                absent, _ordered(probability), strata, groups, greater=True, draws=draws
            ),
            "calibration.threshold": gain,
        },
    )


def _columns(
    tables: Mapping[Setting, Outcomes], scorer: Scorer
) -> tuple[Floats, Bools, Bools, Ints, Ints, bool]:
    """Of samples with one needle and a log-probability: it, negative?, existence right?, haystack,
    setting; and whether haystacks are shared. With several needles "-1" is about the first."""
    parts = []
    for number, table in enumerate(tables.values()):
        marks = table.marks[scorer]
        rows = np.flatnonzero(~np.isnan(table.absent_logprob) & marks.answered)
        if table.setting.needles > 1 or not len(rows):
            continue
        parts.append(
            (
                np.exp(table.absent_logprob[rows].astype(np.float64)).clip(0, 1),
                ~table.positive[rows],
                marks.existence[rows] == 1,
                table.haystack[rows] + (number << 40),
                np.full(len(rows), number),
            )
        )
    if not parts:
        none = np.zeros(0, np.bool_)
        return np.zeros(0), none, none, np.zeros(0, np.int64), np.zeros(0, np.int64), False
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return (*columns, any(table.shared for table in tables.values()))  # type: ignore[return-value]


def _ordered(values: Floats) -> Floats:
    order = np.sort(values)
    return np.asarray(
        np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right"), np.float64
    )


def _bins(n: int) -> int:
    return max(2, min(_MOST_BINS, n // _A_BIN))


def _ece(
    probability: Floats, absent: Bools, edges: Ints, order: Ints, groups: Ints | None, draws: int
) -> tuple[float, float, float]:
    """ECE with bins of equal mass, its mean were the probabilities right, and p of its being so.

    Whether a sample is a negative is drawn from its probability again and again ("consistency
    resampling": Broecker and Smith, Weather and Forecasting 22, 2007); finite bins make an error
    even then. Negatives are half of a data set by design, which the draws do not know: they vary
    more than the truth does, so p errs on the safe side. Samples that share a haystack share
    a draw's uniform number where that is what makes them alike at most.
    """
    p = probability[order]
    truth = absent[order].astype(np.float64)
    ece = float(abs(np.add.reduceat(p - truth, edges[:-1])).sum() / len(p))
    rng = np.random.Generator(np.random.PCG64(_SEED))
    drawn = np.zeros(draws)
    rows = max(1, (1 << 21) // len(p))
    at = None if groups is None else np.unique(groups[order], return_inverse=True)[1]
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        if at is None:
            uniform = rng.random((count, len(p)))
        else:
            uniform = rng.random((count, int(at.max()) + 1))[:, at]
        apart = p - (uniform < p)
        drawn[start : start + count] = abs(np.add.reduceat(apart, edges[:-1], axis=1)).sum(axis=1)
    drawn /= len(p)
    return ece, float(drawn.mean()), float((1 + (drawn >= ece - 1e-12).sum()) / (draws + 1))


def _threshold(
    probability: Floats, absent: Bools, right: Bools, clusters: Ints
) -> tuple[float, float, float | None]:
    """The best threshold, J by thresholds chosen on the other half, and p that it beats the
    model's own answers (one-sided; haystacks are the units)."""
    best, _ = _best(probability, absent)
    fold = (np.unique(clusters // 2, return_inverse=True)[1]) % 2
    says_absent = np.zeros(len(probability), np.bool_)
    for half in (0, 1):
        other = fold != half
        if absent[other].all() or not absent[other].any() or not (fold == half).any():
            return best, float("nan"), None
        at, _ = _best(probability[other], absent[other])
        says_absent[fold == half] = probability[fold == half] >= at
    ours = says_absent == absent
    youden = float(ours[absent].mean() + ours[~absent].mean() - 1)
    weight = np.where(absent, 1 / absent.sum(), 1 / (~absent).sum())
    apart = (ours.astype(np.float64) - right) * weight
    if not apart.any():
        return best, youden, None
    sums = by_cluster(apart, clusters)
    moving = sums[sums != 0]
    # The sign of each haystack's difference is a coin's, were both as good: Wilcoxon's idea.
    rng = np.random.Generator(np.random.PCG64(_SEED))
    signs = rng.integers(0, 2, (1_999, len(moving))) * 2 - 1
    beyond = (signs @ moving >= moving.sum() - 1e-12).sum()
    return best, youden, float((1 + beyond) / 2_000)


def _best(probability: Floats, absent: Bools) -> tuple[float, float]:
    """Threshold with the highest J, and that J; the middle between two probabilities."""
    values, at = np.unique(probability, return_inverse=True)
    no = np.bincount(at, absent) / absent.sum()
    yes = np.bincount(at, ~absent) / (~absent).sum()
    # Saying "not there" from values[k] on: J = negatives at or above less positives at or above.
    gain = np.append(np.cumsum((no - yes)[::-1])[::-1], 0.0)
    k = int(np.argmax(gain))
    if k == len(values):
        return float(np.nextafter(values[-1], 2)), 0.0
    low = values[k - 1] if k else 0.0
    return float((low + values[k]) / 2), float(gain[k])


# --------------------------------------------------------------------------- sentences


def findings(of: Calibration | None, levels: Levels) -> Iterator[Finding]:
    """What may be said about log-probabilities."""
    if of is None:
        return
    yield _ece_finding(of, levels)
    if of.auroc is not None:
        yield _auroc_finding(of, levels)
    if levels.significant("calibration.threshold"):
        yield Finding(
            key="calibration.threshold",
            family="calibration",
            verdict="notable",
            text=(
                f"Its probabilities know more than its answers: saying “not there” from "
                f"P(−1) ≥ {of.best_threshold:.2g} on gives J {signed(of.best_youden)} (chosen on "
                f"other samples) instead of {signed(of.own_youden)} "
                f"({p_text(levels.adjusted.get('calibration.threshold'))})."
            ),
            weight=max(0.0, of.best_youden - of.own_youden) / 2,
            **levels.values("calibration.threshold"),
            figures={
                "threshold": of.best_threshold,
                "youden": of.best_youden,
                "own_youden": of.own_youden,
            },
        )


def _ece_finding(of: Calibration, levels: Levels) -> Finding:
    off = levels.significant("calibration.ece")
    figures = (
        f"expected calibration error {percent(of.ece)} points over {len(of.bins)} bins, where "
        f"right probabilities would show {percent(of.ece_expected)} by noise alone; "
        f"{p_text(levels.adjusted.get('calibration.ece'))}"
    )
    sure = (
        f"it is {percent(of.sure)} % sure on average whether the photo is there, and right in "
        f"{percent(of.sure_right)} %"
    )
    text = (
        f"Its probabilities are not to be trusted: {sure} ({figures})."
        if off
        else f"No evidence that its probabilities are off: {sure} ({figures})."
    )
    return Finding(
        key="calibration.ece",
        family="calibration",
        verdict="notable" if off else "no evidence" if of.n >= 100 else "cannot tell: too few",
        text=text,
        weight=max(0.0, of.ece - of.ece_expected) / 2 if off else 0.0,
        **levels.values("calibration.ece"),
        figures={
            "n": of.n,
            "ece": of.ece,
            "ece_expected": of.ece_expected,
            "brier": of.brier,
            "mean": of.mean,
            "base": of.base,
        },
    )


def _auroc_finding(of: Calibration, levels: Levels) -> Finding:
    assert of.auroc is not None
    low, high = of.auroc.interval
    above = levels.significant("calibration.auroc")
    figure = (
        f"AUROC {of.auroc.value:.2f} ({low:.2f}–{high:.2f}, {many(of.n, 'sample')}, "
        f"{p_text(levels.adjusted.get('calibration.auroc'))})"
    )
    return Finding(
        key="calibration.auroc",
        family="calibration",
        verdict="notable"
        if above
        else "cannot tell: too few"
        if high - low > 0.3
        else "no evidence",
        text=(
            f"The probability of “−1” tells what is there from what is not: {figure}."
            if above
            else f"No evidence that the probability of “−1” tells what is there: {figure}."
        ),
        weight=0.05 if above else 0.0,
        **levels.values("calibration.auroc"),
        figures={"auroc": of.auroc.value, "interval": list(of.auroc.interval)},
    )


def as_json(of: Calibration | None) -> dict[str, Any] | None:
    """For programs."""
    if of is None:
        return None
    return {
        "n": of.n,
        "ece": of.ece,
        "ece_expected": of.ece_expected,
        "brier": of.brier,
        "auroc": None if of.auroc is None else of.auroc.value,
        "auroc_interval": None if of.auroc is None else list(of.auroc.interval),
        "threshold": of.best_threshold,
        "youden_at_threshold": of.best_youden,
        "youden_of_answers": of.own_youden,
        "bins": [
            {"low": b.low, "high": b.high, "mean": b.mean, **b.absent.json()} for b in of.bins
        ],
    }
