"""What may be said about existence."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from mmneedle.reports.hallucination.detection import Detection, Existence, Landmark
from mmneedle.reports.hallucination.evidence import (
    Finding,
    Levels,
    Verdict,
    p_text,
    span,
    told,
)
from mmneedle.reports.words import label, many, percent, signed
from mmneedle.statistics.shares import Share
from mmneedle.types import Setting

ALMOST_ALL = 0.8
"""A model at chance with an interval beyond it says one thing only."""
SELDOM = 0.1
"""A model with an interval below it seldom makes things up."""
WIDE = 0.5
"""J's interval is too wide to call a model at chance."""


def findings(of: Existence, levels: Levels) -> Iterator[Finding]:
    """What may be said about existence; the first one is what kind of model this is."""
    yield _character(of, levels)
    yield from _lean(of, levels)
    yield from _at_chance(of, levels)
    yield from _size(of, levels)
    yield from _hard(of, levels)


def _character(of: Existence, levels: Levels) -> Finding:
    whole = of.whole
    key, verdict, text = _kind(of.whole, levels)
    return Finding(
        key=key,
        family="existence",
        verdict=verdict,
        text=text,
        weight=1.0,
        **levels.values("existence.all"),
        figures={
            "sensitivity": whole.sensitivity.json(),
            "specificity": whole.specificity.json(),
            "false_alarms": whole.alarms.json(),
            "youden": whole.youden,
            "youden_interval": whole.youden_interval,
        },
    )


def _kind(whole: Detection, levels: Levels) -> tuple[str, Verdict, str]:
    """Key, verdict and sentence for the whole run."""
    hit, alarms, clear = whole.sensitivity, whole.alarms, whole.specificity
    if whole.youden is None:
        asked = "there" if hit.n else "absent"
        text = f"Only needles that are {asked} have answers: what it knows of existence is open."
        return "existence.untold", "cannot tell: too few", text
    if not levels.significant("existence.all"):
        return _blind(whole, levels)
    if hit.hits == hit.n and clear.hits == clear.n:
        text = (
            f"No hallucination seen: it names a cell for all {hit.n:,} photos that are there and "
            f"for none of {clear.n:,} that are not; the true rate of false alarms may be up to "
            f"{percent(alarms.interval[1])} %."
        )
        return "existence.perfect", "no evidence", text
    text = (
        f"It {_often(alarms)} for {percent(alarms.value)} % of the photos that "
        f"are not there ({span(alarms.interval)}), and knows more than chance: it names a cell "
        f"for {percent(hit.value)} % of those that are ({_youden(whole)})."
    )
    return "existence.informed", "notable", text


def _blind(whole: Detection, levels: Levels) -> tuple[str, Verdict, str]:
    """The same for a model that is not told from chance."""
    hit, alarms = whole.sensitivity, whole.alarms
    rates = (
        f"it names a cell for {percent(hit.value)} % of the photos that are there and for "
        f"{percent(alarms.value)} % of those that are not"
    )
    no_better = f"{rates}; no better than without looking ({_youden(whole)})."
    if levels.significant("existence.inverse"):
        text = f"Its answers are the wrong way round: {rates} ({_youden(whole)})."
        return "existence.inverse", "notable", text
    if alarms.interval[0] > ALMOST_ALL:
        return "existence.yes_sayer", "notable", f"A yes-sayer: {no_better}"
    if max(hit.interval[1], alarms.interval[1]) < 1 - ALMOST_ALL:
        return "existence.no_sayer", "notable", f"A no-sayer: {no_better}"
    low, high = whole.youden_interval or (-1.0, 1.0)
    if high - low > WIDE:
        text = f"Too few answers to tell it from chance: {rates} ({_youden(whole)})."
        return "existence.chance", "cannot tell: too few", text
    text = f"It cannot be told from chance at saying what is there: {rates} ({_youden(whole)})."
    return "existence.chance", "no evidence", text


def _youden(of: Detection) -> str:
    low, high = of.youden_interval or (-1.0, 1.0)
    return f"Youden’s J {signed(of.youden)}, {signed(low)} to {signed(high)}"


def _often(alarms: Share) -> str:
    """Where the interval allows an adverb."""
    low, high = alarms.interval
    if high < SELDOM:
        return "seldom makes things up,"
    return "makes things up nearly always," if low > ALMOST_ALL else "makes things up"


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
            f"({p_text(levels.adjusted.get('existence.lean'))})."
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
    p = p_text(levels.adjusted.get("existence.size"))
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
        figures={"sizes": [{"cells": cells, **part.json()} for cells, part in of.sizes]},
    )


def _slope(sizes: Sequence[tuple[int, Share]]) -> float:
    """Sign of the trend that the test is about."""
    x = np.array([math.log2(cells) for cells, _ in sizes])
    n, hits = (np.array([getattr(part, name) for _, part in sizes]) for name in ("n", "hits"))
    return float(((x - (x * n).sum() / n.sum()) * hits).sum())


def _hard(of: Existence, levels: Levels) -> Iterator[Finding]:
    if levels.raw.get("existence.hard") is None or of.hard_gap is None:
        return
    gap, (low, high) = of.hard_gap.gap, of.hard_gap.interval
    weighed = ", weighted alike over settings" if len(of.settings) > 1 else ""
    notable = levels.significant("existence.hard")
    both = (
        f"{told(of.hard)} of captions that resemble a photo there, {told(of.random)} of others; "
        f"difference {signed(gap)} ({signed(low)} to {signed(high)}){weighed}, "
        f"{p_text(levels.adjusted.get('existence.hard'))}"
    )
    if notable:
        word = "more" if gap > 0 else "less"
        text = f"Look-alikes deceive it {word} than others: false alarms in {both}."
    else:
        text = f"No evidence that look-alikes deceive it more than others: false alarms in {both}."
    wide = high - low > WIDE
    yield Finding(
        key="existence.hard",
        family="existence",
        verdict="notable" if notable else "cannot tell: too few" if wide else "no evidence",
        text=text,
        weight=abs(gap) / 4 if notable else 0.0,
        **levels.values("existence.hard"),
        figures={"hard": of.hard.json(), "random": of.random.json(), "gap": gap},
    )
