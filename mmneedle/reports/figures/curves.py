"""Curves: accuracy against context length, depth and number of samples; false alarms."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmneedle.reports.figures import layout, measures, style
from mmneedle.reports.figures.layout import Legend, Pen
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.subjects import Source, Subject, settings_of
from mmneedle.reports.panels import named
from mmneedle.reports.standings import chance
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

Metric = Literal["existence", "index", "exact"]
Length = Literal["cells", "images", "tokens"]
LENGTHS: dict[Length, str] = {
    "cells": "cells in the haystack",
    "images": "images in the haystack",
    "tokens": "input tokens",
}
SMALL, SMALL_ASPECT, SMALL_TITLE = 1.45, 0.72, 0.28
"""Least width in inches, shape and title of a panel where each subject has its own."""
_SHIFT = 0.045
"""Octaves that a subject's marks stand beside their true place, at most."""
_EDGE = 1.3
"""Times the longest haystack, where the axis ends."""
_FILLS = ("full", "none", "left", "top", "right", "bottom")
Curve = tuple[list[float], list[Estimate]]


# --------------------------------------------------------------------------- context


def context_curve(
    runs: Source | Sequence[Source],
    *,
    by: Length = "cells",
    metric: Metric = "exact",
    published: bool = False,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """Accuracy on positives against the haystack's length, with 95 % intervals.

    Lines join settings with equally many images (by cells and tokens) or equal grids (by images).
    More than six subjects get a panel each, the others grey behind.

    Args:
        runs: folders, opened runs or subjects.
        by: the length: "cells", "images", or "tokens" as the provider counted them.
        metric: of the positives.
        published: whether the paper's rows stand beside.
        scorer: of runs; published rows have the paper's.
        width: of the figure, in inches.
        few: points of fewer samples are pale.
        ax: draw here instead of into a figure of our own.

    Raises:
        UserError: nothing to draw, such as tokens where no provider counted them.
    """
    chosen = layout.opened(runs, published)
    settings = settings_of(chosen)
    rows = [r for r in measures.scores(chosen, settings, metric, scorer) if r.at[by] is not None]
    if not rows:
        raise layout.nothing(f"no run tells its {LENGTHS[by]}")
    dotted = _chance(rows, by) if metric == "exact" else None
    return _lengths(chosen, rows, by, f"{metric.capitalize()} accuracy (%)", dotted, width, few, ax)


def false_alarms(
    runs: Source | Sequence[Source],
    *,
    by: Length = "cells",
    published: bool = False,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """How often a model names a cell although nothing is there, against the haystack's length.

    Hard negatives, where there are any, have dotted lines. Arguments as for `context_curve`.
    """
    chosen = layout.opened(runs, published)
    rows = measures.alarms(chosen, settings_of(chosen), scorer)
    rows = [row for row in rows if row.at[by] is not None]
    if not rows:
        raise layout.nothing("no run has negatives" if by == "cells" else f"no {LENGTHS[by]}")
    return _lengths(chosen, rows, by, "False alarms (%)", None, width, few, ax)


def _chance(rows: Sequence[Datum], by: Length) -> Curve | None:
    """Exact by chance, where it depends on the length alone."""
    levels = {(row.at[by], chance(row.setting)) for row in rows}
    known = sorted((float(x), y) for x, y in levels if isinstance(x, (int, float)) and y)
    if len({x for x, _ in known}) < len(known) or not known or by == "tokens":
        return None
    return [x for x, _ in known], [Estimate(None, 1, y) for _, y in known]


def _lengths(
    chosen: Sequence[Subject],
    rows: Sequence[Datum],
    by: Length,
    what: str,
    dotted: Curve | None,
    width: float,
    few: int,
    ax: Axes | None,
) -> Figure:
    if len({row.at[by] for row in rows}) == 1:
        raise layout.nothing(f"all haystacks have equally many {LENGTHS[by].split(' in ')[0]}")
    shown = [subject for subject in chosen if layout.select(rows, subject.label)]
    groups = sorted({_group(row, by) for row in rows})
    alone = ax is None and len(shown) > style.MOST_LINES
    pens = layout.pens(shown)
    names = style.fitted(
        [subject.label for subject in shown],
        1.3 if alone else max(0.8, width - 0.6),
        2 if alone else 1,
    )
    with layout.look(ax):
        handles = [] if alone else [layout.handle(pens[s.label], names[s.label]) for s in shown]
        if len(groups) > 1:
            handles += [_group_handle(i, group, by) for i, group in enumerate(groups)]
        if any(row.at.get("negatives") == "hard" for row in rows):
            handles.append(Line2D([], [], color=style.QUIET, linestyle=":", label="hard negatives"))
        if dotted is not None:
            handles.append(layout.chance_handle())
        legend = Legend.of(handles, width)
        made = layout.canvas(
            ax,
            width,
            len(shown) if alone else 1,
            panel=SMALL if alone else width,
            aspect=SMALL_ASPECT if alone else 0.66,
            legend=legend.height,
            titles=SMALL_TITLE if alone else 0,
        )
        everyone = [
            curve
            for s in shown
            for _, _, curve in _curves(layout.select(rows, s.label), by, groups)
        ]
        beside = _beside(rows, by, groups, made.width, alone) if by == "images" else 0.0
        for i, panel in enumerate(made.axes):
            if alone:
                layout.background(panel, everyone)
                layout.title(panel, names[shown[i].label])
            if dotted is not None:
                y = [100 * (share.value or 0) for share in dotted[1]]
                panel.plot(dotted[0], y, ":", color=style.QUIET, linewidth=1.0, label="chance")
            for subject in [shown[i]] if alone else shown:
                mine = layout.select(rows, subject.label)
                _draw(panel, mine, by, groups, pens[subject.label], subject, few, alone, beside)
            _length_axis(panel, rows, by, made.width)
        layout.axis_labels(made, _capital(LENGTHS[by]), what)
        legend.draw(made)
    return made.figure


def _draw(
    panel: Axes,
    rows: Sequence[Datum],
    by: Length,
    groups: Sequence[tuple[int, ...]],
    pen: Pen,
    subject: Subject,
    few: int,
    alone: bool,
    beside: float,
) -> None:
    """One subject's lines, one for each group and kind of negative; groups stand `beside` octaves
    from each other."""
    for group, negatives, (xs, shares) in _curves(rows, by, groups):
        shift = (group - (len(groups) - 1) / 2) * beside
        shift += (0.0 if alone else pen.shift * _SHIFT) + (0.07 if negatives == "hard" else 0.0)
        layout.series(
            panel,
            [x * 2**shift for x in xs],
            shares,
            pen,
            subject.label,
            few=few,
            fill=_FILLS[group % len(_FILLS)],
            dash=":" if negatives == "hard" else ("-" if alone else None),
        )


def _beside(
    rows: Sequence[Datum], by: Length, groups: Sequence[tuple[int, ...]], width: float, alone: bool
) -> float:
    """Octaves between equally long haystacks of different grids, so that markers do not cover."""
    values = [float(x) for row in rows if isinstance(x := row.at[by], (int, float))]
    octaves = np.log2(max(values) / min(values) * _EDGE**2)
    marker = 0.08 * octaves / max(0.3, width - layout.AXIS)
    wanted = marker + (0.0 if alone else 2 * _SHIFT)
    return float(min(wanted, 2 * 0.33 / max(1, len(groups) - 1)))


def _curves(
    rows: Sequence[Datum], by: Length, groups: Sequence[tuple[int, ...]]
) -> list[tuple[int, str | None, Curve]]:
    """(number of the group, kind of negative, curve) of one subject's marks."""
    found: dict[tuple[int, str | None], list[tuple[float, Estimate]]] = {}
    for row in rows:
        kind = row.at.get("negatives")
        x = row.at[by]
        assert isinstance(x, (int, float))  # others were left out
        key = groups.index(_group(row, by)), None if kind is None else str(kind)
        found.setdefault(key, []).append((float(x), row.share))
    curves = []
    for (group, kind), points in sorted(found.items(), key=lambda item: (item[0][0], str(item[0]))):
        points.sort(key=lambda point: point[0])
        curves.append((group, kind, ([x for x, _ in points], [share for _, share in points])))
    return curves


def _group(row: Datum, by: Length) -> tuple[int, ...]:
    """What a line's settings have in common."""
    setting = row.setting
    return (setting.rows, setting.cols) if by == "images" else (setting.images,)


def _group_handle(number: int, group: tuple[int, ...], by: Length) -> Line2D:
    if by == "images":
        text = f"{group[0]} × {group[1]} cells"
    else:
        text = f"{group[0]} image{'' if group[0] == 1 else 's'}"
    return Line2D(
        [],
        [],
        color=style.QUIET,
        linestyle="none",
        marker="o",
        fillstyle=_FILLS[number % len(_FILLS)],  # type: ignore[arg-type]
        markerfacecoloralt="white",
        label=text,
    )


def _length_axis(panel: Axes, rows: Sequence[Datum], by: Length, width: float) -> None:
    """A logarithmic axis with ticks at the lengths that there are (tokens: round numbers)."""
    values = sorted({float(x) for row in rows if isinstance(x := row.at[by], (int, float))})
    panel.set_xscale("log", base=2)
    panel.set_xlim(values[0] / _EDGE, values[-1] * _EDGE)
    if by == "tokens":
        low, high = np.log10(values[0] / 1.3), np.log10(values[-1] * 1.3)
        round_ones = [m * 10.0**e for e in range(int(low) - 1, int(high) + 2) for m in (1, 2, 5)]
        values = [v for v in round_ones if values[0] / 1.3 <= v <= values[-1] * 1.3] or values
    layout.sparse_ticks(panel, values, width, log=True)
    layout.per_cent(panel)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


# --------------------------------------------------------------------------- depth


def depth_curve(
    runs: Source | Sequence[Source],
    *,
    by: Literal["image", "cell"] = "image",
    metric: Literal["index", "exact"] = "exact",
    setting: Setting | str | None = None,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """Needles found against where they lie in the haystack, with 95 % intervals.

    A panel for each setting. With several needles each counts at its own depth, and intervals
    take the needles of a sample as alike.

    Args:
        runs: folders, opened runs or subjects.
        by: "image": the number of the needle's image; "cell": its cell in reading order, as a
            share of the whole haystack.
        metric: "exact": the cell was named; "index": its image.
        setting: only this one, such as "n10-g8x8-k1".
        scorer: "robust" or "paper".
        width: of the figure, in inches.
        few: points of fewer needles are pale.
        ax: draw here instead of into a figure of our own; then one setting only.

    Raises:
        UserError: nothing to draw, such as depth by image where all haystacks are one image.
    """
    chosen = [subject for subject in layout.opened(runs) if not subject.published]
    settings = [
        one
        for one in layout.one_setting(chosen, setting, ax)
        if (one.images if by == "image" else one.cells) > 1
    ]
    rows = measures.depths(chosen, settings, by, metric, scorer)
    if not rows:
        raise layout.nothing(f"every haystack is one {by}")
    settings = layout.drawable(rows)
    pens, names = layout.pens(chosen), layout.legend_names(chosen, width)
    with layout.look(ax):
        handles = [layout.handle(pens[s.label], names[s.label]) for s in chosen]
        if metric == "exact":
            handles.append(layout.chance_handle())
        legend = Legend.of(handles, width)
        made = layout.canvas(
            ax,
            width,
            len(settings),
            panel=layout.panel_width(width, len(chosen)),
            aspect=0.72,
            legend=legend.height,
        )
        for panel, one in zip(made.axes, settings, strict=True):
            if made.own:
                layout.title(panel, named(one))
            _depth_panel(panel, chosen, rows, one, by, pens, few, metric == "exact")
        where = "Image of the needle" if by == "image" else "Depth of the needle (%)"
        layout.axis_labels(made, where, _found(metric))
        legend.draw(made)
    return made.figure


def _found(metric: str) -> str:
    return "Needles found (%)" if metric == "exact" else "Images found (%)"


def _depth_panel(
    panel: Axes,
    chosen: Sequence[Subject],
    rows: Sequence[Datum],
    setting: Setting,
    by: str,
    pens: dict[str, Pen],
    few: int,
    with_chance: bool,
) -> None:
    for subject in chosen:
        mine = layout.select(rows, subject.label, setting)
        if not mine:
            continue
        xs = [_depth_x(row, by) for row in mine]
        gap = min((b - a for a, b in pairwise(xs)), default=100.0)
        reach = 0.16 * min(gap, 1.0 if by == "image" else 8.0)
        pen = pens[subject.label]
        xs = [x + pen.shift * reach for x in xs]
        layout.series(panel, xs, [row.share for row in mine], pen, subject.label, few=few)
    if with_chance:
        # One needle drawn at random, whatever the others' are.
        panel.axhline(100 / setting.cells, linestyle=":", color=style.QUIET, label="chance", lw=1)
    layout.per_cent(panel)
    if by == "image":
        step = -(-setting.images // 10)
        panel.set_xticks(range(1, setting.images + 1, step))
        panel.set_xlim(0.5, setting.images + 0.5)
    else:
        panel.set_xticks([0, 50, 100], ["0", "50", "100"])
        panel.set_xlim(-5, 105)


def _depth_x(row: Datum, by: str) -> float:
    """Where a mark of a depth curve stands: its image, or its depth in per cent."""
    first, last, depth = row.at[f"first_{by}"], row.at[f"last_{by}"], row.at["depth"]
    assert isinstance(first, int) and isinstance(last, int) and isinstance(depth, float)
    return (first + last) / 2 if by == "image" else 100 * depth


# --------------------------------------------------------------------------- convergence


def convergence_curve(
    runs: Source | Sequence[Source],
    *,
    metric: Metric = "exact",
    setting: Setting | str | None = None,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    ax: Axes | None = None,
) -> Figure:
    """Mean accuracy with its standard error over the first n samples (the paper's section 4.4).

    Arguments as for `depth_curve`; n counts answered positives in the data set's order.
    """
    chosen = [subject for subject in layout.opened(runs) if not subject.published]
    settings = layout.one_setting(chosen, setting, ax)
    rows = measures.convergence(chosen, settings, metric, scorer)
    if not rows:
        raise layout.nothing("no setting has two answered positives")
    settings = layout.drawable(rows)
    pens, names = layout.pens(chosen), layout.legend_names(chosen, width)
    with layout.look(ax):
        legend = Legend.of([layout.handle(pens[s.label], names[s.label]) for s in chosen], width)
        made = layout.canvas(
            ax, width, len(settings), panel=1.45, aspect=0.75, legend=legend.height
        )
        for panel, one in zip(made.axes, settings, strict=True):
            if made.own:
                layout.title(panel, named(one))
            for subject in chosen:
                _converge(panel, layout.select(rows, subject.label, one), pens[subject.label])
            layout.per_cent(panel)
            panel.set_xlim(left=0)
        layout.axis_labels(made, "Samples", f"Mean {metric} ± standard error (%)")
        legend.draw(made)
    return made.figure


def _converge(panel: Axes, rows: Sequence[Datum], pen: Pen) -> None:
    if not rows:
        return
    xs = [row.share.n for row in rows]
    mean, low, high = (
        [np.nan if (v := getattr(row.share, end)) is None else 100 * v for row in rows]
        for end in ("value", "low", "high")
    )
    panel.fill_between(xs, low, high, color=pen.colour, alpha=0.2, linewidth=0)
    panel.plot(
        xs,
        mean,
        color=pen.colour,
        linestyle=pen.dash,
        marker=pen.marker,
        markevery=[len(xs) - 1],
        label=rows[0].label,
        clip_on=False,
    )
