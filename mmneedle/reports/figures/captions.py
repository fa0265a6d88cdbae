"""Captions and text alternatives: sentences computed from the marks that a figure shows."""

from collections.abc import Callable, Sequence

from mmneedle.reports.figures import measures
from mmneedle.reports.figures.existence import pair
from mmneedle.reports.figures.maps import pooled
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.sentences import (
    About,
    Caption,
    at,
    bold,
    caption,
    common,
    interval,
    name,
    number,
    number_of,
    pairs,
    pale,
)
from mmneedle.reports.figures.subjects import Subject
from mmneedle.reports.panels import KINDS, named
from mmneedle.reports.words import many, percent, points, signed, visible
from mmneedle.types import Setting

# --------------------------------------------------------------------------- one for each figure


def accuracy(about: About) -> Caption:
    """Of `accuracy_map`."""
    metric = about.rows[0].metric.capitalize()
    values = _by_subject(about, at)
    text = [
        f"{metric} accuracy (%) on positive samples of {_subjects(about)} at "
        f"{many(len(about.settings), 'setting')} (images, grid).",
        _extremes(about.rows),
        _reach(about.rows),
        bold(about, "column"),
        pale(about, "Hatched"),
        *common(about),
    ]
    return caption(text, f"Heat map of {metric} accuracy in per cent", values, about)


def positions(about: About) -> Caption:
    """Of `position_map`."""
    what = _what(about)
    text = [
        f"{what} found (%) by the row and column of the needle's cell, over all images of the "
        "haystack; below each panel the share over all cells.",
    ]
    values = []
    for label, setting in pairs(about.rows):
        rows = about.of(label, setting)
        right, n = pooled(rows)
        if n:
            values.append(f"{visible(label)} at {named(setting)}: {percent(right / n)} % (n = {n})")
    spread = _widest(about)
    if spread:
        low, high = spread
        text.append(
            f"The widest spread between cells of at least {about.few} needles: {name(low)} at "
            f"{at(low)}, from {number(low.share)} % in row {low.at['row']}, column "
            f"{low.at['column']} (n = {low.share.n}) to {number(high.share)} % in row "
            f"{high.at['row']}, column {high.at['column']} (n = {high.share.n})."
        )
    text += [bold(about, "setting"), pale(about, "Hatched"), *common(about)]
    return caption(text, f"Heat maps of {what.lower()} found, by row and column", values, about)


def lengths(about: About, by: str) -> Caption:
    """Of `context_curve` and `false_alarms`."""
    alarms = about.rows[0].metric == "false_alarms"
    what = "False alarms" if alarms else f"{about.rows[0].metric.capitalize()} accuracy"
    joined = "equal grids" if by == "images" else "equally many images"
    unit = {"cells": "cells", "images": "images", "tokens": "input tokens"}[by]
    text = [
        f"{what} (%) {'on negatives' if alarms else 'on positives'} against the haystack's length "
        f"in {unit}, with 95 % intervals; lines join settings with {joined}.",
        *(_ends(about.of(s.label), by, unit) for s in about.chosen),
    ]
    if by == "tokens":
        text.append("Tokens are the mean a setting, as the provider counted them.")
    text += [pale(about), *common(about)]
    values = _by_subject(about, lambda row: at(row) + _negatives(row))
    return caption(text, f"Line chart of {what.lower()} against {unit}", values, about)


def depth(about: About, by: str) -> Caption:
    """Of `depth_curve`."""
    what = _what(about)
    text = [
        f"{what} found (%) by "
        + (
            "the image that holds them"
            if by == "image"
            else "their cell in reading order (0 the haystack's first cell, 100 its last)"
        )
        + ", with 95 % intervals.",
    ]
    for subject in about.chosen:
        best = _spread(about, subject)
        if best:
            low, high = best
            text.append(
                f"{visible(subject.label)} at {at(low)}: lowest {number(low.share)} % "
                f"{interval(low.share)} {_where(low, by)}, highest {number(high.share)} % "
                f"{interval(high.share)} {_where(high, by)}{_overlap(low, high)}."
            )
    if by == "cell":
        groups = sorted({_size(row) for row in about.rows})
        if groups[-1] > 1:
            text.append(f"Points pool up to {groups[-1]} neighbouring cells.")
    text += [pale(about), *common(about)]
    values = [
        f"{visible(label)} at {named(setting)}, from first to last: "
        + ", ".join(number(row.share) for row in about.of(label, setting))
        for label, setting in pairs(about.rows)
    ]
    return caption(text, f"Line charts of {what.lower()} found by depth", values, about)


def convergence(about: About) -> Caption:
    """Of `convergence_curve`."""
    metric = about.rows[0].metric
    last = [about.of(label, setting)[-1] for label, setting in pairs(about.rows)]
    text = [
        f"Mean {metric} accuracy (%) over the first n answered positive samples; bands are one "
        "standard error to either side."
    ]
    known = [row for row in last if row.at["stderr"] is not None]
    if known:
        widest = max(known, key=lambda row: number_of(row.at["stderr"]))
        text.append(
            f"At the end the largest standard error is that of {name(widest)} at {at(widest)}: "
            f"{number(widest.share)} ± {points(number_of(widest.at['stderr']))} % "
            f"(n = {widest.share.n})."
        )
    if any(row.at["stderr"] == 0 for row in known):
        text.append(
            "A band of no width means that all answers so far were right or all were wrong, not "
            "that the rate is known."
        )
    text += common(about)
    values = [f"{name(r)} at {at(r)}: {number(r.share)} after {r.share.n}" for r in last]
    return caption(text, f"Line charts of the running mean of {metric}", values, about)


def plane(about: About) -> Caption:
    """Of `existence_plane`."""
    found = [
        (label, setting, *got)
        for label, setting in pairs(about.rows)
        if (got := pair(about.rows, label, setting)) is not None
    ]
    text = [
        "Existence as a detector: sensitivity (a cell is named where the needle is there) against "
        "false alarms (a cell is named where it is not), with 95 % intervals. Grey lines join "
        "points of equal Youden's J (0.25, 0.5, 0.75); on the dotted line, J = 0, "
        "lie models that answer without looking."
    ]
    js = [(label, s, (h.value or 0) - (a.value or 0)) for label, s, a, h in found]
    if js:
        best, worst = max(js, key=lambda j: j[2]), min(js, key=lambda j: j[2])
        text.append(
            f"J is largest for {visible(best[0])} at {named(best[1])} ({signed(best[2])})"
            + (
                f" and smallest for {visible(worst[0])} at {named(worst[1])} ({signed(worst[2])})."
                if worst != best
                else "."
            )
        )
    text.append(_chance(found))
    if any(setting.needles > 1 for setting in about.settings):
        text.append(
            "With several needles the two axes are no complements (all named, all absent), so "
            "the dotted line is no chance level there."
        )
    text += [pale(about), *common(about)]
    values = [
        f"{visible(label)} at {named(s)}: sensitivity {number(h)}, false alarms {number(a)}"
        for label, s, a, h in found
    ]
    return caption(text, "Scatter plots of sensitivity against false alarms", values, about)


def errors(about: About) -> Caption:
    """Of `error_bars`."""
    text = ["How questions about needles end, in per cent of those asked, by kind."]
    values = []
    for subject in about.chosen:
        for split in ("positive", "negative"):
            counts: dict[str, int] = {}
            for row in about.of(subject.label):
                if row.at["split"] == split:
                    kind = str(row.at["kind"])
                    counts[kind] = counts.get(kind, 0) + int(row.share.hits or 0)
            total = sum(counts.values())
            wrong = {k: c for k, c in counts.items() if c and k not in ("right", "no_answer")}
            values.append(
                f"{visible(subject.label)}, {split}s: "
                + ", ".join(f"{KINDS[k]} {c}" for k, c in counts.items() if c)
            )
            if wrong:
                most = max(wrong, key=lambda k: wrong[k])
                text.append(
                    f"{visible(subject.label)}: {sum(wrong.values())} of {total} {split}s wrong, "
                    f"most often {KINDS[most]} ({wrong[most]})."
                )
    text += common(about)
    return caption(text, "Stacked bars of how questions end", values, about)


def reliability(about: About) -> Caption:
    """Of `calibration`."""
    text = [
        "Reliability of existence: how often the needle is absent, by the probability that the "
        "model gave to an answer that begins with “-1”, in bins of equally many samples, with "
        "95 % intervals; a calibrated model lies on the dotted line."
    ]
    values = []
    for subject in about.chosen:
        parts = [
            f"{named(setting)} ECE {found.ece:.3f} (right probabilities would show "
            f"{found.ece_expected:.3f}), AUROC "
            f"{'undefined' if found.auroc is None else f'{found.auroc.value:.3f}'}, n = {found.n}"
            for setting in about.settings
            if (found := measures.calibrated(subject, setting, about.scorer)) is not None
        ]
        if parts:
            text.append(f"{visible(subject.label)}: {'; '.join(parts)}.")
            values.append(f"{visible(subject.label)}: {'; '.join(parts)}")
    text.append(
        "ECE: expected calibration error; AUROC: how often an absent needle got the higher "
        "probability than a present one."
    )
    text += [pale(about), *common(about, counted=False)]
    return caption(text, "Reliability diagrams of existence", values, about)


# --------------------------------------------------------------------------- what stands out


def _extremes(rows: Sequence[Datum]) -> str:
    known = [row for row in rows if row.share.value is not None]
    if len(known) < 2:
        return ""
    top = max(known, key=lambda row: row.share.value or 0)
    low = min(known, key=lambda row: row.share.value or 0)
    if top.share.value == low.share.value:
        return f"All are {number(top.share)} %."
    return (
        f"Highest: {name(top)} at {at(top)}, {number(top.share)} % {interval(top.share)}; lowest: "
        f"{name(low)} at {at(low)}, {number(low.share)} % {interval(low.share)}."
    )


def _reach(rows: Sequence[Datum]) -> str:
    """How far intervals reach."""
    reaches = [
        max(share.high - share.value, share.value - share.low)
        for share in (row.share for row in rows if not row.published)
        if share.value is not None and share.low is not None and share.high is not None
    ]
    if not reaches:
        return ""
    return f"95 % intervals reach at most {points(max(reaches))} points from the score."


def _ends(rows: Sequence[Datum], by: str, unit: str) -> str:
    """A subject at its shortest and its longest haystack."""
    known = [row for row in rows if row.share.value is not None]
    if not known:
        return ""
    first, last = (pick(known, key=lambda r: number_of(r.at[by])) for pick in (min, max))
    text = f"{name(first)}: {number(first.share)} % {interval(first.share)} at " + _long(
        first, by, unit
    )
    if last.at[by] == first.at[by]:
        return f"{text}."
    return (
        f"{text}, {number(last.share)} % {interval(last.share)} at {_long(last, by, unit)}."
    ).replace("  ", " ")


def _long(row: Datum, by: str, unit: str) -> str:
    size = number_of(row.at[by])
    return f"{size:,.0f} {unit if size != 1 else unit.removesuffix('s')}"


def _negatives(row: Datum) -> str:
    kind = row.at.get("negatives")
    return f" ({kind} negatives)" if kind == "hard" else ""


def _overlap(low: Datum, high: Datum) -> str:
    """A warning where two points may well be one and the same."""
    below, above = low.share.high, high.share.low
    if below is None or above is None or below < above:
        return ""
    return " (their intervals overlap)"


def _spread(about: About, subject: Subject) -> tuple[Datum, Datum] | None:
    """A subject's lowest and highest point where they differ most; of points that are not pale."""
    best: tuple[float, Datum, Datum] | None = None
    for setting in about.settings:
        known = [
            row
            for row in about.of(subject.label, setting)
            if row.share.value is not None and row.share.n >= about.few
        ]
        if len(known) < 2:
            continue
        low = min(known, key=lambda row: row.share.value or 0)
        high = max(known, key=lambda row: row.share.value or 0)
        gap = (high.share.value or 0) - (low.share.value or 0)
        if gap and (best is None or gap > best[0]):
            best = gap, low, high
    return best and (best[1], best[2])


def _widest(about: About) -> tuple[Datum, Datum] | None:
    found = [pair for s in about.chosen if (pair := _spread(about, s)) is not None]
    return max(found, key=lambda p: (p[1].share.value or 0) - (p[0].share.value or 0), default=None)


def _chance(found: Sequence[tuple[str, Setting, Estimate, Estimate]]) -> str:
    """Who cannot be told from answering without looking: the interval of J holds 0.

    The interval is made of the two shares' own (Newcombe, Stat Med 17, 1998, method 10).
    """
    named_ones: dict[str, list[str]] = {}
    for label, setting, alarms, hits in found:
        if setting.needles > 1 or None in (alarms.low, alarms.high, hits.low, hits.high):
            continue
        j = number_of(hits.value) - number_of(alarms.value)
        below = (number_of(hits.value) - number_of(hits.low)) ** 2
        below += (number_of(alarms.high) - number_of(alarms.value)) ** 2
        above = (number_of(hits.high) - number_of(hits.value)) ** 2
        above += (number_of(alarms.value) - number_of(alarms.low)) ** 2
        if j - below**0.5 <= 0 <= j + above**0.5:
            named_ones.setdefault(label, []).append(named(setting))
    if not named_ones:
        return ""
    told = "; ".join(f"{visible(label)} at {', '.join(at)}" for label, at in named_ones.items())
    return f"Not told from chance (the 95 % interval of J holds 0): {told}."


def _what(about: About) -> str:
    return "Needles" if about.rows[0].metric == "exact" else "Needles' images"


def _by_subject(about: About, what: Callable[[Datum], str]) -> list[str]:
    """Each subject with all its values, and what each belongs to."""
    return [
        f"{visible(subject.label)}: " + ", ".join(f"{what(r)} {number(r.share)}" for r in rows)
        for subject in about.chosen
        if (rows := about.of(subject.label))
    ]


def _where(row: Datum, by: str) -> str:
    first, last = row.at[f"first_{by}"], row.at[f"last_{by}"]
    return f"at {by} {first}" if first == last else f"at {by}s {first}–{last}"


def _size(row: Datum) -> int:
    first, last = row.at["first_cell"], row.at["last_cell"]
    return int(last or 0) - int(first or 0) + 1


def _subjects(about: About) -> str:
    runs = len({s.label for s in about.chosen if not s.published})
    others = len({s.label for s in about.chosen if s.published})
    parts = [many(runs, "run")] if runs else []
    parts += [f"{others} published models" if others > 1 else "1 published model"] if others else []
    return " and ".join(parts)
