"""Existence as a detector: does the answer tell whether the photo is there?"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np

from mmneedle.reports import published as paper
from mmneedle.reports.hallucination.evidence import Finding, Levels, p_text, shares, span, told
from mmneedle.reports.hallucination.inference import (
    DRAWS,
    Floats,
    Share,
    association,
    newcombe,
    share,
)
from mmneedle.reports.hallucination.needles import (
    Needles,
    clusters_of,
    joined,
    strata_of,
)
from mmneedle.reports.words import label, many, percent, signed
from mmneedle.statistics import wilson
from mmneedle.types import Setting

_DRAWN = 20_000
_SEED = 0x6D6D
ALMOST_ALL = 0.8
"""Where the interval's near end is beyond it, a model at chance says one thing only."""
WIDE = 0.5
"""J's interval is too wide to call a model at chance."""

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
    hard_gap: Range
    """Interval of the difference, hard less random."""
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
    random, hard, tests["existence.hard"] = _by_likeness(negatives, draws)
    gap = (-1.0, 1.0)
    if random.n and hard.n:
        gap = newcombe(*((one.hits / one.n, one.interval) for one in (hard, random)))
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
        precision_interval=drawn[0] if precision is not None else None,
        mcc=mcc,
        mcc_interval=drawn[1] if mcc is not None else None,
    )


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


def _by_likeness(negatives: Sequence[Needles], draws: int) -> tuple[Share, Share, float | None]:
    mixed = [of for of in negatives if of.hard.any() and not of.hard.all()]
    if not mixed:
        every = [of for of in negatives if of.hard.all()]
        plain = [of for of in negatives if not of.hard.any()]
        return _share(plain, "named"), _share(every, "named"), None
    hard, clusters = joined(mixed, "hard"), clusters_of(mixed)
    p = association(hard, joined(mixed, "named"), strata_of(mixed), clusters, draws=draws)
    random = _share([of.chosen(~of.hard) for of in mixed], "named")
    return random, _share([of.chosen(of.hard) for of in mixed], "named"), p


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


# --------------------------------------------------------------------------- sentences


def findings(of: Existence, levels: Levels) -> Iterator[Finding]:
    """What may be said about existence; the first one is what kind of model this is."""
    yield _character(of, levels)
    yield from _lean(of, levels)
    yield from _at_chance(of, levels)
    yield from _size(of, levels)
    yield from _hard(of, levels)


def _character(of: Existence, levels: Levels) -> Finding:
    whole = of.whole
    hit, alarms = whole.sensitivity, whole.alarms
    if whole.youden is None or whole.youden_interval is None:
        key, verdict = "existence.untold", "cannot tell: too few"
        text = "It cannot tell what is there from what is not as long as one of both is not asked."
    else:
        key, verdict, text = _kind(of, levels, whole.youden, whole.youden_interval)
    return Finding(
        key=key,
        family="existence",
        verdict=verdict,  # type: ignore[arg-type]
        text=text,
        weight=1.0,
        **levels.values("existence.all"),
        figures={
            "sensitivity": shares(hit),
            "specificity": shares(whole.specificity),
            "false_alarms": shares(alarms),
            "youden": whole.youden,
            "youden_interval": whole.youden_interval,
        },
    )


def _kind(of: Existence, levels: Levels, j: float, ends: Range) -> tuple[str, str, str]:
    """Key, verdict and sentence for the whole run."""
    whole = of.whole
    hit, alarms, clear = whole.sensitivity, whole.alarms, whole.specificity
    rates = (
        f"it names a cell for {percent(hit.value)} % of the photos that are there and for "
        f"{percent(alarms.value)} % of those that are not"
    )
    figure = f"Youden’s J {signed(j)}, {signed(ends[0])} to {signed(ends[1])}"
    if hit.hits == hit.n and clear.hits == clear.n and levels.significant("existence.all"):
        return (
            "existence.perfect",
            "no evidence",
            f"No hallucination seen: it names a cell for all {hit.n:,} photos that are there and "
            f"for none of {clear.n:,} that are not; the true rate of false alarms may be up to "
            f"{percent(alarms.interval[1])} %.",
        )
    if levels.significant("existence.all"):
        return (
            "existence.informed",
            "notable",
            f"It makes things up for {percent(alarms.value)} % of the photos that are not there "
            f"({span(alarms.interval)}), and knows more than chance: it names a cell for "
            f"{percent(hit.value)} % of those that are ({figure}).",
        )
    if levels.significant("existence.inverse"):
        return (
            "existence.inverse",
            "notable",
            f"Its answers are the wrong way round: {rates} ({figure}).",
        )
    if alarms.interval[0] > ALMOST_ALL:
        return (
            "existence.yes_sayer",
            "notable",
            f"A yes-sayer: {rates}; no better than without looking ({figure}).",
        )
    if hit.interval[1] < 1 - ALMOST_ALL and alarms.interval[1] < 1 - ALMOST_ALL:
        return (
            "existence.no_sayer",
            "notable",
            f"A no-sayer: {rates}; no better than without looking ({figure}).",
        )
    if ends[1] - ends[0] > WIDE:
        return (
            "existence.chance",
            "cannot tell: too few",
            f"Too few answers to tell it from chance: {rates} ({figure}).",
        )
    return (
        "existence.chance",
        "no evidence",
        f"It cannot be told from chance at saying what is there: {rates} ({figure}).",
    )


def _lean(of: Existence, levels: Levels) -> Iterator[Finding]:
    whole = of.whole
    if not levels.significant("existence.lean") or not levels.significant("existence.all"):
        return  # what says one thing only leans all the way: its first sentence says so
    missed, alarms = 1 - (whole.sensitivity.value or 0), 1 - (whole.specificity.value or 0)
    way = "yes" if alarms > missed else "no"
    yield Finding(
        key=f"existence.lean_{way}",
        family="existence",
        verdict="notable",
        text=(
            f"In doubt it says {way}: it is wrong about {percent(alarms)} % of what is not there "
            f"but about {percent(missed)} % of what is "
            f"({p_text(levels.adjusted['existence.lean'])})."
        ),
        weight=abs(alarms - missed) / 2,
        **levels.values("existence.lean"),
        figures={"wrong_when_absent": alarms, "wrong_when_there": missed},
    )


def _at_chance(of: Existence, levels: Levels) -> Iterator[Finding]:
    """Settings where a model that elsewhere knows something does not show it."""
    if not levels.significant("existence.all") or len(of.settings) < 2:
        return
    for row in of.settings:
        if row.youden is None or row.youden_interval is None or levels.significant(row.key):
            continue
        assert row.setting is not None
        low, high = row.youden_interval
        few = high - low > WIDE
        text = (
            f"At {label(row.setting)} it cannot be told from chance: J {signed(row.youden)} "
            f"({signed(low)} to {signed(high)}, {many(row.sensitivity.n, 'needle')} there and "
            f"{row.specificity.n:,} not){_beside(of.landmarks, row.setting)}."
        )
        yield Finding(
            key=row.key,
            family="existence",
            verdict="cannot tell: too few" if few else "no evidence",
            text=text,
            weight=0.0 if few else 0.25 / len(of.settings),
            **levels.values(row.key),
            figures={"youden": row.youden, "youden_interval": row.youden_interval},
        )


def _beside(marks: Sequence[Landmark], setting: Setting) -> str:
    """What the paper's models did there."""
    there = [one for one in marks if one.setting == setting]
    if not there:
        return ""
    low, high = there[0].youden, there[-1].youden
    blind = sum(one.interval[0] <= 0 for one in there)
    return (
        f"; the paper’s {many(len(there), 'model')} reach J {signed(low)} to {signed(high)} there, "
        f"{blind} of them not above chance by their printed figures"
    )


def _size(of: Existence, levels: Levels) -> Iterator[Finding]:
    if levels.raw.get("existence.size") is None:
        return
    (least, first), (most, last) = of.sizes[0], of.sizes[-1]
    ends = f"{percent(first.value)} % at {many(least, 'cell')}, {percent(last.value)} % at {most:,}"
    p = p_text(levels.adjusted["existence.size"])
    if levels.significant("existence.size"):
        mean = _slope(of.sizes)
        way = "more" if mean > 0 else "fewer"
        text = f"Larger haystacks bring {way} false alarms: {ends} (trend over all sizes, {p})."
    else:
        text = f"No trend of false alarms with the haystack’s size: {ends} ({p})."
    yield Finding(
        key="existence.size",
        family="existence",
        verdict="notable" if levels.significant("existence.size") else "no evidence",
        text=text,
        weight=abs((last.value or 0) - (first.value or 0)) / 4
        if levels.significant("existence.size")
        else 0.0,
        **levels.values("existence.size"),
        figures={"sizes": [{"cells": cells, **shares(part)} for cells, part in of.sizes]},
    )


def _slope(sizes: Sequence[tuple[int, Share]]) -> float:
    """Sign of the trend that the test is about."""
    x = np.array([math.log2(cells) for cells, _ in sizes])
    n, hits = (np.array([getattr(part, name) for _, part in sizes]) for name in ("n", "hits"))
    return float(((x - (x * n).sum() / n.sum()) * hits).sum())


def _hard(of: Existence, levels: Levels) -> Iterator[Finding]:
    if levels.raw.get("existence.hard") is None:
        return
    gap = (of.hard.value or 0) - (of.random.value or 0)
    notable = levels.significant("existence.hard")
    both = (
        f"{told(of.hard)} of captions that resemble a photo there, {told(of.random)} of others; "
        f"difference {signed(gap)} ({signed(of.hard_gap[0])} to {signed(of.hard_gap[1])}), "
        f"{p_text(levels.adjusted['existence.hard'])}"
    )
    if notable:
        word = "more" if gap > 0 else "less"
        text = f"Look-alikes deceive it {word} than others: false alarms in {both}."
    else:
        text = f"No evidence that look-alikes deceive it more than others: false alarms in {both}."
    wide = of.hard_gap[1] - of.hard_gap[0] > WIDE
    yield Finding(
        key="existence.hard",
        family="existence",
        verdict="notable" if notable else "cannot tell: too few" if wide else "no evidence",
        text=text,
        weight=abs(gap) / 4 if notable else 0.0,
        **levels.values("existence.hard"),
        figures={"hard": shares(of.hard), "random": shares(of.random), "gap": gap},
    )
