"""What recall depends on: the needle's place, the caption's clearness, the pixels of a cell."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from mmneedle.reports.hallucination.evidence import Finding, Levels, p_text, told
from mmneedle.reports.hallucination.inference import (
    DRAWS,
    Bools,
    Floats,
    Ints,
    Standardised,
    association,
    detectable,
    excess,
    standardised,
)
from mmneedle.reports.hallucination.needles import Needles, clusters_of, joined, strata_of
from mmneedle.reports.words import percent, points, signed
from mmneedle.statistics.shares import Share, share

PLACES = {
    "recall.image_trend": ("early images", "late images"),
    "recall.image_middle": ("images in the middle", "the first and last images"),
    "recall.cell_trend": ("the upper cells of an image", "its lower cells"),
    "recall.cell_rim": ("the inner cells of an image", "its outer cells"),
}
"""Test -> where values are small, where they are large."""


class Contrast(msgspec.Struct, frozen=True):
    """A share at small and at large values of something: thirds (the middle left out) or halves.

    Settings differ in difficulty and in how many needles lie where, so what is compared is
    standardised over them.
    """

    low: Share
    """All settings' needles together, as `high`."""
    high: Share
    settings: tuple[tuple[Share, Share], ...]
    """(low, high) of each setting."""

    @property
    def even(self) -> Standardised | None:
        """Both shares as if each setting had as many needles at small as at large values."""
        return standardised(self.settings)

    @property
    def gap(self) -> float | None:
        """High less low, standardised; None where no setting has both."""
        return None if self.even is None else self.even.gap

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the gap; None likewise."""
        return None if self.even is None else self.even.interval

    @property
    def beside(self) -> str:
        """How the figures were weighed, where there is something to weigh."""
        return ", weighted alike over settings" if len(self.settings) > 1 else ""


class Recall(msgspec.Struct, frozen=True):
    """A run's exact accuracy by the needle's place."""

    exact: Share
    luck: float
    """What its habits of naming cells would hit by luck."""
    tests: dict[str, float | None]
    places: dict[str, Contrast]
    images: dict[int, list[Share]]
    """Number of images -> exact accuracy by the needle's image, over settings with so many."""


def recall(parts: Sequence[Needles], draws: int = DRAWS) -> Recall:
    """Count and test exact accuracy by place.

    Outcomes are taken less what the model's habit would give at the place: a model that always
    names one cell "finds" every needle there and no other, and sees nothing. Few answers show a
    habit only in part, so luck at all is taken to be no less than that of naming any cell alike.
    """
    there = [of.chosen(of.positive) for of in parts if of.positive.any()]
    if not there:
        return Recall(share([]), 0.0, {}, {}, {})
    some = [of for of in parts if of.positive.any()]
    luck = [habit_luck(of, asked) for of, asked in zip(some, there, strict=True)]
    least = [
        np.full(len(of), _named(all_of) / of.setting.cells)
        for of, all_of in zip(there, some, strict=True)
    ]
    exact, clusters = joined(there, "exact").astype(np.bool_), clusters_of(there)
    tests: dict[str, float | None] = {
        "recall.luck": excess(
            exact, np.maximum(np.concatenate(luck), np.concatenate(least)), clusters
        )
    }
    places = {}
    for key in PLACES:
        values = [_value(of, key) for of in there]
        chosen = [k for k, value in enumerate(values) if value is not None]
        if not chosen:
            continue
        some = [there[k] for k in chosen]
        value = np.concatenate([v for v in values if v is not None])
        hits = joined(some, "exact").astype(np.float64)
        rest = hits - np.concatenate([luck[k] for k in chosen])
        tests[key] = (
            association(value, rest, strata_of(some), clusters_of(some), draws=draws)
            if 0 < hits.mean() < 1
            else None
        )
        places[key] = _contrast(some, value, "exact")
    return Recall(
        share(exact, clusters), float(np.concatenate(luck).mean()), tests, places, _images(there)
    )


def _named(of: Needles) -> float:
    """How often a cell of the haystack is named."""
    return float(of.inside.mean())


def habit_luck(of: Needles, asked: Needles) -> Floats:
    """Of each needle that is there: how often its cell is named when something else is right."""
    within = of.setting.images, of.setting.rows, of.setting.cols

    def counts(cells: Ints) -> Ints:
        at = np.ravel_multi_index(tuple((cells - 1).T), within)
        return np.bincount(at, minlength=of.setting.cells)

    wrongly = of.inside & ~of.exact
    elsewhere = len(of) - counts(asked.truth)
    rate = counts(of.said[wrongly]) / np.maximum(1, elsewhere)
    return np.asarray(rate[np.ravel_multi_index(tuple((asked.truth - 1).T), within)])


def _value(of: Needles, key: str) -> Floats | None:
    """What a test is about, of each needle; None where the setting has no such thing."""
    image, row, column = of.truth.T.astype(np.float64)
    images, rows, cols = of.setting.images, of.setting.rows, of.setting.cols
    if key == "recall.image_trend":
        return image if images > 1 else None
    if key == "recall.image_middle":
        return abs(image - (images + 1) / 2) if images > 2 else None
    if key == "recall.cell_trend":
        return (row - 1) * cols + column if rows * cols > 1 else None
    if min(rows, cols) < 3:
        return None
    rim = np.maximum(abs(row - (rows + 1) / 2) / rows, abs(column - (cols + 1) / 2) / cols)
    return np.asarray(rim)


def _contrast(parts: Sequence[Needles], value: Floats, column: str) -> Contrast:
    """The lowest and the highest third of values, setting by setting."""
    strata, clusters = strata_of(parts), clusters_of(parts)
    low, high = np.zeros(len(value), np.bool_), np.zeros(len(value), np.bool_)
    for number in np.unique(strata):
        mine = strata == number
        a, b = np.quantile(value[mine], (1 / 3, 2 / 3))
        a, b = (value[mine].min(), value[mine].max()) if a == b else (a, b)
        low |= mine & (value <= a)
        high |= mine & (value >= b)
    hits = joined(parts, column).astype(np.bool_)
    return _contrasted(hits, low, high, strata, clusters)


def _contrasted(
    hits: Bools, low: Bools, high: Bools, strata: Ints, clusters: Ints | None
) -> Contrast:
    return Contrast(
        _at(hits, low, clusters),
        _at(hits, high, clusters),
        tuple(
            (_at(hits, low & mine, clusters), _at(hits, high & mine, clusters))
            for number in np.unique(strata)
            for mine in (strata == number,)
        ),
    )


def _at(hits: Bools, which: Bools, clusters: Ints | None) -> Share:
    return share(hits[which], None if clusters is None else clusters[which])


def _images(there: Sequence[Needles]) -> dict[int, list[Share]]:
    found = {}
    for images in sorted({of.setting.images for of in there} - {1}):
        some = [of for of in there if of.setting.images == images]
        at, hits, clusters = joined(some, "truth")[:, 0], joined(some, "exact"), clusters_of(some)
        found[images] = [
            _at(hits.astype(np.bool_), at == image, clusters) for image in range(1, images + 1)
        ]
    return found


# --------------------------------------------------------------------------- ambiguity


class Clearness(msgspec.Struct, frozen=True):
    """How answers depend on how close another photo's captions come."""

    tests: dict[str, float | None]
    thirds: dict[str, list[Share]]
    """exact, alarms -> of the clearest, the middle and the most ambiguous third."""
    halves: dict[str, Contrast]
    """exact, alarms -> of the clearer and of the more ambiguous half."""
    known: int
    """Needles whose ambiguity is known."""


def clearness(parts: Sequence[Needles], draws: int = DRAWS) -> Clearness:
    """Count and test answers by the sample's ambiguity, within settings."""
    tests: dict[str, float | None] = {}
    thirds: dict[str, list[Share]] = {}
    halves: dict[str, Contrast] = {}
    known = [of.chosen(~np.isnan(of.ambiguity)) for of in parts]
    for name, column in (("exact", "exact"), ("alarms", "named")):
        some = [of.chosen(of.positive == (name == "exact")) for of in known]
        some = [of for of in some if len(of)]
        if not some:
            continue
        strata, clusters = strata_of(some), clusters_of(some)
        rank = _ranks(joined(some, "ambiguity").astype(np.float64), strata)
        hits = joined(some, column).astype(np.bool_)
        tests[f"ambiguity.{name}"] = association(rank > 0.5, hits, strata, clusters, draws=draws)
        cut = np.minimum(2, (rank * 3).astype(np.int64))
        thirds[name] = [_at(hits, cut == third, clusters) for third in range(3)]
        halves[name] = _contrasted(hits, rank <= 0.5, rank > 0.5, strata, clusters)
    return Clearness(tests, thirds, halves, sum(map(len, known)))


def _ranks(values: Floats, strata: Ints) -> Floats:
    """Where each value stands in its stratum, 0 … 1; equal values stand together."""
    ranks = np.zeros(len(values))
    for number in np.unique(strata):
        mine = np.flatnonzero(strata == number)
        order = np.sort(values[mine])
        low = np.searchsorted(order, values[mine], "left")
        high = np.searchsorted(order, values[mine], "right")
        ranks[mine] = (low + high) / 2 / len(mine)
    return ranks


# --------------------------------------------------------------------------- sentences


def findings(of: Recall, levels: Levels) -> Iterator[Finding]:
    """What may be said about recall by place."""
    if not of.exact.n:
        return
    if not levels.significant("recall.luck"):
        few = not detectable(of.exact.n, min(1.0, of.luck), levels.count)
        yield Finding(
            key="recall.luck",
            family="recall",
            verdict="cannot tell: too few" if few else "no evidence",
            text=(
                f"It finds no more than luck would: the right cell in {told(of.exact)} of the "
                f"needles that are there, where the cells that it likes to name would hit "
                f"{percent(of.luck)} % ({p_text(levels.adjusted.get('recall.luck'))})."
            ),
            weight=0.2,
            **levels.values("recall.luck"),
            figures={**of.exact.json(), "luck": of.luck},
        )
        return
    claimed = [key for key in of.places if levels.significant(key)]
    for key in claimed:
        yield _place(of, key, levels)
    if not claimed and any(key in levels.raw for key in of.places):
        yield _even(of, levels)


def _place(of: Recall, key: str, levels: Levels) -> Finding:
    contrast, (small, large) = of.places[key], PLACES[key]
    even = contrast.even or Standardised(0.0, 0.0, 0.0, (-1.0, 1.0))
    gap, (low, high) = even.gap, even.interval
    more, less = (large, small) if gap > 0 else (small, large)
    first, second = (even.high, even.low) if gap > 0 else (even.low, even.high)
    low, high = (low, high) if gap > 0 else (-high, -low)
    lost = ", lost in the middle" if key == "recall.image_middle" and gap > 0 else ""
    return Finding(
        key=key,
        family="recall",
        verdict="notable",
        text=(
            f"It finds more in {more} than in {less}{lost}: {percent(first)} % against "
            f"{percent(second)} %, {points(abs(gap))} points more ({points(low)} to "
            f"{points(high)}){contrast.beside}; {p_text(levels.adjusted.get(key))}."
        ),
        weight=abs(gap) / 4,
        **levels.values(key),
        figures={
            "low": contrast.low.json(),
            "high": contrast.high.json(),
            "gap": gap,
            "interval": even.interval,
        },
    )


def _even(of: Recall, levels: Levels) -> Finding:
    """No place is better: or too few needles to see it."""
    widths = [c.interval[1] - c.interval[0] for c in of.places.values() if c.interval]
    few = not widths or min(widths) > 0.5
    best = max(of.places, key=lambda key: abs(of.places[key].gap or 0.0))
    contrast, (small, large) = of.places[best], PLACES[best]
    text = (
        "Too few needles to tell whether the place matters"
        if few
        else "No evidence that the place matters"
    )
    if even := contrast.even:
        low, high = even.interval
        text += (
            f": {'' if few else 'the widest gap is '}{percent(even.low)} % in {small} and "
            f"{percent(even.high)} % in {large}, difference {signed(even.gap)} ({signed(low)} to "
            f"{signed(high)}){contrast.beside}; {p_text(levels.adjusted.get(best))}"
        )
    text += "."
    return Finding(
        key="recall.even",
        family="recall",
        verdict="cannot tell: too few" if few else "no evidence",
        text=text,
        figures={key: {"gap": c.gap, "interval": c.interval} for key, c in of.places.items()},
    )


_CLEAR = {
    "exact": ("finds the right cell", "of needles that are there"),
    "alarms": ("names a cell", "of needles that are not there"),
}


def clearness_findings(of: Clearness, levels: Levels) -> Iterator[Finding]:
    """What may be said about ambiguity."""
    quiet = []
    for name, contrast in of.halves.items():
        key = f"ambiguity.{name}"
        if contrast.gap is None or contrast.interval is None or key not in levels.raw:
            continue
        what, whom = _CLEAR[name]
        text = (
            f"it {what} in {told(contrast.high)} {whom} in the more ambiguous half of samples, in "
            f"{told(contrast.low)} in the clearer one; difference {signed(contrast.gap)} "
            f"({signed(contrast.interval[0])} to {signed(contrast.interval[1])})"
            f"{contrast.beside}, {p_text(levels.adjusted.get(key))}"
        )
        if not levels.significant(key):
            quiet.append((contrast.interval[1] - contrast.interval[0], text))
            continue
        yield Finding(
            key=key,
            family="ambiguity",
            verdict="notable",
            text=f"Ambiguous captions matter: {text}.",
            weight=abs(contrast.gap) / 4,
            **levels.values(key),
            figures=_halves(contrast),
        )
    if quiet and len(quiet) == len(of.halves):
        width, text = min(quiet)
        few = width > 0.5
        yield Finding(
            key="ambiguity.none",
            family="ambiguity",
            verdict="cannot tell: too few" if few else "no evidence",
            text=f"{'Too few answers to tell' if few else 'No evidence'} that ambiguous captions "
            f"matter: {text}.",
            figures={name: _halves(contrast) for name, contrast in of.halves.items()},
        )


def _halves(contrast: Contrast) -> dict[str, object]:
    return {"clearer": contrast.low.json(), "ambiguous": contrast.high.json()}


def as_json(thirds: Mapping[str, Sequence[Share]]) -> dict[str, list[dict[str, object]]]:
    """Thirds for programs."""
    return {name: [part.json() for part in parts] for name, parts in thirds.items()}
