"""Existence as a detector: does the answer tell whether the photo is there?"""

import math
from collections.abc import Sequence
from itertools import groupby

import msgspec
import numpy as np

from mmneedle.reports import published as paper
from mmneedle.reports.hallucination.inference import (
    DRAWS,
    Floats,
    Standardised,
    association,
    newcombe,
    standardised,
)
from mmneedle.reports.hallucination.needles import (
    Needles,
    clusters_of,
    joined,
    strata_of,
)
from mmneedle.statistics import wilson
from mmneedle.statistics.shares import Share, share
from mmneedle.types import Setting

_DRAWN = 20_000
_SEED = 0x6D6D

Range = tuple[float, float]


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """Existence told by a model: of one setting, or of all."""

    setting: Setting | None
    sensitivity: Share
    specificity: Share
    alarms: Share
    """Negatives for which a cell is named; the rest of 1 - specificity is unreadable."""
    youden: float | None
    youden_interval: Range | None
    precision: float | None
    """Of needles for which a cell is named, those that are there, were half of all there."""
    precision_interval: Range | None
    mcc: float | None
    """Matthews' correlation of answer and truth, were half of all there."""
    mcc_interval: Range | None

    @property
    def key(self) -> str:
        """Of the test against chance."""
        return f"existence.{'all' if self.setting is None else self.setting.name}"


class Landmark(msgspec.Struct, frozen=True):
    """A published model's J at one setting, from the paper's printed figures."""

    model: str
    setting: Setting
    youden: float
    interval: Range
    source: str


class Existence(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run's answers tell about existence."""

    whole: Detection
    settings: list[Detection]
    tests: dict[str, float | None]
    landmarks: list[Landmark]
    random: Share
    """False alarms about negatives drawn at random, in settings that have hard ones too."""
    hard: Share
    hard_gap: Standardised | None
    """False alarms about hard ones less those about random ones, within settings; None where no
    setting has both."""
    sizes: list[tuple[int, Share]]
    """Haystack's cells, false alarms; by size."""


def existence(parts: Sequence[Needles], draws: int = DRAWS) -> Existence:
    """Count and test existence over all settings, and in each."""
    settings = [_detection([of], of.setting) for of in parts]
    tests: dict[str, float | None] = {"existence.all": _beats_chance(parts, draws)}
    if len(settings) > 1:
        for of, row in zip(parts, settings, strict=True):
            tests[row.key] = _beats_chance([of], draws)
    tests["existence.inverse"] = _beats_chance(parts, draws, inverse=True)
    readable = [of.chosen(of.named | of.absent) for of in parts]
    tests["existence.lean"] = association(
        joined(readable, "positive"),
        ~joined(readable, "right").astype(np.bool_),
        strata_of(readable),
        clusters_of(readable),
        draws=draws,
    )
    negatives = [of.chosen(~of.positive) for of in parts if (~of.positive).any()]
    sizes, tests["existence.size"] = _by_size(negatives, draws)
    random, hard, gap, tests["existence.hard"] = _by_likeness(negatives, draws)
    return Existence(
        whole=_detection(parts, None),
        settings=settings,
        tests=tests,
        landmarks=landmarks([of.setting for of in parts]),
        random=random,
        hard=hard,
        hard_gap=gap,
        sizes=sizes,
    )


# --------------------------------------------------------------------------- counts


def _detection(parts: Sequence[Needles], setting: Setting | None) -> Detection:
    there = [of.chosen(of.positive) for of in parts]
    absent = [of.chosen(~of.positive) for of in parts]
    hit, clear = _share(there, "right"), _share(absent, "right")
    j, ends = None, None
    if hit.n and clear.n:
        p, q = hit.hits / hit.n, clear.hits / clear.n
        j = p + q - 1
        ends = newcombe((p, hit.interval), (1 - q, (1 - clear.interval[1], 1 - clear.interval[0])))
    precision, mcc = _derived(hit, clear)
    drawn = _drawn(hit, clear)
    return Detection(
        setting=setting,
        sensitivity=hit,
        specificity=clear,
        alarms=_share(absent, "named"),
        youden=j,
        youden_interval=ends,
        precision=precision,
        precision_interval=_around(precision, drawn[0]),
        mcc=mcc,
        mcc_interval=_around(mcc, drawn[1]),
    )


def _around(value: float | None, ends: Range) -> Range | None:
    """An interval that holds the figure itself: one that is perfect in the sample may be so."""
    return None if value is None else (min(ends[0], value), max(ends[1], value))


def _share(parts: Sequence[Needles], column: str) -> Share:
    return share(joined(parts, column), clusters_of(parts)) if parts else share([])


def precision_of(sensitivity: Floats, alarms: Floats) -> Floats:
    """Of those called there, the share that is, were half of all there; NaN: none is called."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sensitivity / (sensitivity + alarms))


def mcc_of(sensitivity: Floats, alarms: Floats) -> Floats:
    """Matthews' correlation (B. W. Matthews, BBA 405, 1975), were half of all there; NaN where
    one answer is given to all, when it is not defined."""
    yes = (sensitivity + alarms) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sensitivity - alarms) / 2 / np.sqrt(yes * (1 - yes)))


def _derived(hit: Share, clear: Share) -> tuple[float | None, float | None]:
    if not hit.n or not clear.n:
        return None, None
    p, f = np.array(hit.hits / hit.n), np.array(1 - clear.hits / clear.n)
    values = [float(precision_of(p, f)), float(mcc_of(p, f))]
    return tuple(None if math.isnan(value) else value for value in values)  # type: ignore[return-value]


def _drawn(hit: Share, clear: Share) -> tuple[Range, Range]:
    """Intervals of precision and MCC.

    Both rates are drawn from their posteriors under Jeffreys' prior (Brown, Cai and DasGupta,
    Statistical Science 16, 2001), of as many independent trials as have the rate's own interval
    where samples share haystacks. A bootstrap of the samples would have no width where all
    answers are right.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    drawn = []
    for one in (hit, clear):
        p, n = (one.hits / one.n, _worth(one)) if one.n else (0.5, 0.0)
        drawn.append(rng.beta(n * p + 0.5, n * (1 - p) + 0.5, _DRAWN))
    ends = []
    for values in (precision_of(drawn[0], 1 - drawn[1]), mcc_of(drawn[0], 1 - drawn[1])):
        low, high = np.quantile(values, (0.025, 0.975))
        ends.append((float(low), float(high)))
    return ends[0], ends[1]


def _worth(one: Share) -> float:
    """Independent trials whose Wilson interval is as wide: n itself where trials are."""
    low, high = one.interval
    p, wanted, least, most = one.hits / one.n, high - low, 0.1, float(one.n)
    if wanted <= (ends := wilson(p * most, most))[1] - ends[0] + 1e-12:
        return most
    for _ in range(60):
        middle = (least + most) / 2
        ends = wilson(p * middle, middle)
        least, most = (middle, most) if ends[1] - ends[0] > wanted else (least, middle)
    return least


# --------------------------------------------------------------------------- tests


def _beats_chance(parts: Sequence[Needles], draws: int, *, inverse: bool = False) -> float | None:
    """One-sided p that cells are named more often for what is there (inverse: is not there).

    An answer that cannot be read stands in the middle. None where all answers are alike.
    """
    said = [np.where(of.named, 1.0, np.where(of.absent, 0.0, 0.5)) for of in parts]
    there = np.concatenate([of.positive for of in parts])
    if inverse:
        there = ~there
    strata, clusters = strata_of(parts), clusters_of(parts)
    return association(there, np.concatenate(said), strata, clusters, greater=True, draws=draws)


def _by_size(
    negatives: Sequence[Needles], draws: int
) -> tuple[list[tuple[int, Share]], float | None]:
    ordered = sorted(negatives, key=lambda of: of.setting.cells)
    sizes = [
        (cells, _share(list(group), "named"))
        for cells, group in groupby(ordered, key=lambda of: of.setting.cells)
    ]
    if len(sizes) < 2:
        return sizes, None
    cells = np.concatenate([np.full(len(of), math.log2(of.setting.cells)) for of in negatives])
    named, clusters = joined(negatives, "named"), clusters_of(negatives)
    return sizes, association(cells, named, None, clusters, draws=draws)


def _by_likeness(
    negatives: Sequence[Needles], draws: int
) -> tuple[Share, Share, Standardised | None, float | None]:
    mixed = [of for of in negatives if of.hard.any() and not of.hard.all()]
    if not mixed:
        every = [of for of in negatives if of.hard.all()]
        plain = [of for of in negatives if not of.hard.any()]
        return _share(plain, "named"), _share(every, "named"), None, None
    hard, clusters = joined(mixed, "hard"), clusters_of(mixed)
    p = association(hard, joined(mixed, "named"), strata_of(mixed), clusters, draws=draws)
    others, alike = [of.chosen(~of.hard) for of in mixed], [of.chosen(of.hard) for of in mixed]
    gap = standardised(
        [(_share([a], "named"), _share([b], "named")) for a, b in zip(others, alike, strict=True)]
    )
    return _share(others, "named"), _share(alike, "named"), gap, p


def landmarks(settings: Sequence[Setting]) -> list[Landmark]:
    """The paper's models at these settings, where both splits were printed; by rising J."""
    rows: dict[tuple[str, Setting], dict[str, paper.Figure]] = {}
    samples: dict[tuple[str, Setting], int] = {}
    for row in paper.published():
        if row.setting in settings and "existence" in row.figures:
            rows.setdefault((row.model, row.setting), {})[row.split] = row.figures["existence"]
            samples[row.model, row.setting] = row.samples
    found = []
    for (model, setting), splits in rows.items():
        if len(splits) < 2:
            continue
        n = samples[model, setting]
        hit, clear = splits["positive"].value, splits["negative"].value
        low, high = wilson((1 - clear) * n, n)
        ends = newcombe((hit, wilson(hit * n, n)), (1 - clear, (low, high)))
        source = paper.describe(figure.source for figure in splits.values())
        found.append(Landmark(model, setting, hit + clear - 1, ends, source))
    return sorted(found, key=lambda one: (one.setting, one.youden))
