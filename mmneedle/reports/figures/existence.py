"""Existence: the plane of hits and false alarms, kinds of error, and calibration."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmneedle.reports.figures import layout, measures, style
from mmneedle.reports.figures.layout import Legend, Pen
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.subjects import Source, Subject, settings_of
from mmneedle.reports.panels import KINDS, named
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

_MANY = 8
"""Subjects whose names may take a line each in the legend."""
_RANGE = 108
"""Per cent that an axis spans."""
ISO_J = (0.25, 0.5, 0.75)
"""Youden's J at which a line is drawn."""

_NAMES = 0.3
"""Share of the width of error bars that names may take."""

# Colour and hatch of each ending: told apart by either alone.
_LOOKS = {
    "right": ("#D9D9D9", ""),
    "wrong_cell": ("#56B4E9", ""),
    "wrong_image": ("#0072B2", "////"),
    "out_of_range": ("#CC79A7", "xxxx"),
    "missed": ("#F0E442", "...."),
    "hallucinated": ("#D55E00", "\\\\\\\\"),
    "unparsed": ("#8C8C8C", "||||"),
    "refused": ("#1A1A1A", ""),
    "no_answer": ("#FFFFFF", "----"),
}


# --------------------------------------------------------------------------- the plane


def existence_plane(
    runs: Source | Sequence[Source],
    *,
    setting: Setting | str | None = None,
    published: bool = False,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """Sensitivity against false alarms (1 - specificity), with lines of equal Youden's J.

    A panel for each setting, a point for each subject (the paper's hollow), with the 95 % interval
    of either. Lines of J are named where no point lies. A model
    that answers without looking lies on the dotted diagonal (with one needle).

    Args:
        runs: folders, opened runs or subjects.
        setting: only this one.
        published: whether the paper's rows stand beside.
        scorer: of runs; published rows have the paper's.
        width: of the figure, in inches.
        few: points of fewer samples on either axis are pale.
        ax: draw here instead of into a figure of our own; then one setting only.

    Raises:
        UserError: no run has both positives and negatives.
    """
    chosen = layout.opened(runs, published)
    settings = layout.one_setting(chosen, setting, ax)
    rows = measures.existence(chosen, settings, scorer)
    settings = [one for one in settings if any(pair(rows, s.label, one) for s in chosen)]
    if not settings:
        raise layout.nothing("no run has answers to both positives and negatives")
    room = width if len(chosen) <= _MANY else width / 2 + 0.2  # then in two columns at least
    pens, names = layout.pens(chosen), layout.legend_names(chosen, room)
    with layout.look(ax):
        handles = [layout.handle(pens[s.label], names[s.label]) for s in chosen]
        for entry, subject in zip(handles, chosen, strict=True):
            entry.set_linestyle("none")
            if subject.published:
                entry.set_markerfacecolor("white")
        handles.append(layout.chance_handle("without looking"))
        legend = Legend.of(handles, width)
        made = layout.canvas(
            ax, width, len(settings), panel=1.45, aspect=0.94, legend=legend.height
        )
        for panel, one in zip(made.axes, settings, strict=True):
            if made.own:
                layout.title(panel, named(one))
            found = [(s, got) for s in chosen if (got := pair(rows, s.label, one)) is not None]
            points = [(100 * (a.value or 0), 100 * (h.value or 0)) for _, (a, h) in found]
            _plane(panel, points, _RANGE / max(0.4, made.width - layout.AXIS))
            for subject, shares in found:
                _cross(panel, *shares, pens[subject.label], subject, few)
        layout.axis_labels(made, "False alarms: 1 − specificity (%)", "Sensitivity (%)")
        legend.draw(made)
    return made.figure


def pair(rows: Sequence[Datum], label: str, setting: Setting) -> tuple[Estimate, Estimate] | None:
    """(false alarms, sensitivity) of a subject on a setting; None where one is not defined."""
    found = {row.metric: row.share for row in layout.select(rows, label, setting)}
    alarms, hits = found.get("false_alarms"), found.get("sensitivity")
    if alarms is None or hits is None or alarms.value is None or hits.value is None:
        return None
    return alarms, hits


def _plane(panel: Axes, points: Sequence[tuple[float, float]], inch: float) -> None:
    """Chance and the lines of equal J, called by it where no point lies.

    Args:
        panel: the axes.
        points: what will be drawn, in per cent.
        inch: per cent of an inch.
    """
    layout.per_cent(panel, x=True)
    panel.grid(False)
    panel.set_aspect("equal")
    panel.plot([0, 100], [0, 100], ":", color=style.QUIET, linewidth=1.0, label="chance")
    for level in ISO_J:
        at = 100 * level
        panel.plot([0, 100 - at], [at, 100], color="#cfcfcf", linewidth=0.6, label=f"J = {level}")
        if level > 0.5:
            continue  # its words would lie where good models do
        text = f"J = {level:g}".replace("0.", ".")
        start = _free(at, style.text_width(text) * inch / 2**0.5, points, inch)
        if start is None:
            continue
        panel.annotate(
            text,
            (start, at + start),
            xytext=(1, -1),
            textcoords="offset points",
            ha="left",
            va="top",
            rotation=45,
            rotation_mode="anchor",
            color="#767676",
            fontsize=style.SIZE,
            zorder=0.9,
        )


def _free(
    level: float, reach: float, points: Sequence[tuple[float, float]], inch: float
) -> float | None:
    """Where on the line y = x + level words begin that no marker covers; None: nowhere.

    Args:
        level: of the line, per cent.
        reach: of the words along x, per cent.
        points: markers' middles, per cent.
        inch: per cent of an inch.
    """
    apart = 0.1 * inch  # half a line of text below the line, and half a marker
    start = 2.0
    while start + reach <= 98 - level:
        middles = [start + reach * k / 4 for k in range(5)]
        below = 0.05 * inch / 2**0.5  # words hang below the line
        if all(
            math.hypot(x + below - px, x + level - below - py) > apart
            for x in middles
            for px, py in points
        ):
            return start
        start += 4
    return None


def _cross(
    panel: Axes, alarms: Estimate, hits: Estimate, pen: Pen, subject: Subject, few: int
) -> None:
    """A point with its intervals."""
    assert alarms.value is not None and hits.value is not None
    x, y = 100 * alarms.value, 100 * hits.value
    alpha = 0.35 if min(alarms.n, hits.n) < few else 1.0
    if alarms.low is not None and alarms.high is not None:
        panel.hlines(y, 100 * alarms.low, 100 * alarms.high, color=pen.colour, lw=0.7, alpha=alpha)
    if hits.low is not None and hits.high is not None:
        panel.vlines(x, 100 * hits.low, 100 * hits.high, color=pen.colour, lw=0.7, alpha=alpha)
    panel.plot(
        [x],
        [y],
        linestyle="none",
        marker=pen.marker,
        color=pen.colour,
        markerfacecolor="white" if subject.published else pen.colour,
        markeredgecolor=pen.colour if subject.published else "white",
        markeredgewidth=0.8 if subject.published else 0.4,
        markersize=4.2 if subject.published else 4.6,
        alpha=alpha,
        label=subject.label,
        zorder=4,
        clip_on=False,
    )


# --------------------------------------------------------------------------- kinds of error


def error_bars(
    runs: Source | Sequence[Source],
    *,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
) -> Figure:
    """How questions end, as bars of 100 % cut by kind: positives left, negatives right.

    A block for each setting, a bar for each run; with several needles each needle counts.
    Unanswered ones have a segment of their own.

    Args:
        runs: folders, opened runs or subjects.
        scorer: "robust" or "paper".
        width: of the figure, in inches.

    Raises:
        UserError: no run has a sample.
    """
    chosen = [subject for subject in layout.opened(runs) if not subject.published]
    rows = measures.endings(chosen, settings_of(chosen), scorer)
    if not rows:
        raise layout.nothing("no run has a sample")
    kinds = [
        kind
        for kind in _LOOKS
        if any(row.at["kind"] == kind and row.share.n and row.share.hits for row in rows)
    ]
    alone = len(chosen) == 1  # then a bar is called by its setting
    lines = [line for line in bar_lines(chosen, rows) if not alone or line[0] is not None]
    high = high_names(chosen, width)
    names = style.fitted([subject.label for subject in chosen], _NAMES * width, 2 if high else 1)
    with style.styled():
        legend = Legend.of([_patch(kind) for kind in kinds], width)
        height = bars_height(len(lines), high=high) + legend.height
        figure = style.new_figure(width, height)
        panels = figure.subplots(1, 2, sharey=True)
        for panel, split in zip(panels, ("positive", "negative"), strict=True):
            for y, (label, setting) in enumerate(lines):
                if label is not None:
                    _bar(panel, y, _of_split(rows, label, setting, split), kinds)
            layout.title(panel, f"{split.capitalize()}s")
            panel.set_xlim(0, 100)
            panel.set_xticks([0, 50, 100], ["0", "50", "100"])
            panel.spines["left"].set_visible(False)
            panel.tick_params(axis="y", length=0)
        panels[0].set_yticks(
            range(len(lines)),
            [named(s) if a is None or alone else names[a] for a, s in lines],
        )
        panels[0].set_ylim(len(lines) - 0.4, -0.6)
        for (label, _), text in zip(lines, panels[0].get_yticklabels(), strict=True):
            style.plain(text)
            text.set_fontweight("bold" if label is None else "normal")
        figure.supxlabel("Share of needles asked (%)", fontsize=style.SIZE + 0.5)
        legend.draw(layout.Canvas(figure, list(panels), True, width / 2))
    return figure


def high_names(chosen: Sequence[Subject], width: float) -> bool:
    """Whether the names of a figure of error bars of that width need two lines."""
    return any(style.text_width(style.shown(s.label)) > _NAMES * width for s in chosen)


def bars_height(lines: int, *, high: bool = False) -> float:
    """Inches of a figure of error bars, its legend left out; high ones if names need two lines."""
    return 0.62 + (0.25 if high else 0.155) * lines


def bar_lines(chosen: Sequence[Subject], rows: Sequence[Datum]) -> list[tuple[str | None, Setting]]:
    """What stands on each line: (label, setting) of a bar, or (None, setting): a heading."""
    lines: list[tuple[str | None, Setting]] = []
    for setting in sorted(layout.drawable(rows), key=lambda s: (s.needles, s.images, s.cells)):
        lines.append((None, setting))
        lines += [(s.label, setting) for s in chosen if layout.select(rows, s.label, setting)]
    return lines


def _of_split(rows: Sequence[Datum], label: str, setting: Setting, split: str) -> dict[str, float]:
    """Per cent by kind."""
    return {
        str(row.at["kind"]): 100 * row.share.value
        for row in layout.select(rows, label, setting)
        if row.at["split"] == split and row.share.value is not None
    }


def _bar(panel: Axes, y: int, parts: dict[str, float], kinds: Sequence[str]) -> None:
    start = 0.0
    for kind in kinds:
        size = parts.get(kind, 0.0)
        if size:
            colour, hatch = _LOOKS[kind]
            bars = panel.barh(
                y,
                size,
                left=start,
                height=0.78,
                color=colour,
                hatch=hatch,
                edgecolor="black",
                linewidth=0.3,
            )
            for one in bars:
                one.set_label(kind)
        start += size


def _patch(kind: str) -> Patch:
    colour, hatch = _LOOKS[kind]
    return Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.3, label=KINDS[kind])


# --------------------------------------------------------------------------- calibration


def calibration(
    runs: Source | Sequence[Source],
    *,
    setting: Setting | str | None = None,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """Reliability: how often the needle is absent, by the probability that the model gave to "-1".

    Needs runs whose engine told it (`--logprobs`) and one needle. A calibrated model lies on the
    dotted diagonal. Arguments as for `existence_plane`.

    Raises:
        UserError: no run has log-probabilities.
    """
    chosen = [subject for subject in layout.opened(runs) if not subject.published]
    settings = layout.one_setting(chosen, setting, ax)
    rows = measures.reliability(chosen, settings, scorer)
    if not rows:
        raise layout.nothing(
            "no run with one needle has enough log-probabilities (run with --logprobs, where the "
            "model has them)"
        )
    settings = layout.drawable(rows)
    chosen = [subject for subject in chosen if layout.select(rows, subject.label)]
    pens, names = layout.pens(chosen), layout.legend_names(chosen, width)
    with layout.look(ax):
        handles = [layout.handle(pens[s.label], names[s.label]) for s in chosen]
        handles.append(layout.chance_handle("calibrated"))
        legend = Legend.of(handles, width)
        made = layout.canvas(
            ax, width, len(settings), panel=1.45, aspect=0.94, legend=legend.height
        )
        for panel, one in zip(made.axes, settings, strict=True):
            if made.own:
                layout.title(panel, named(one))
            layout.per_cent(panel, x=True)
            panel.set_aspect("equal")
            panel.plot([0, 100], [0, 100], ":", color=style.QUIET, lw=1.0, label="calibrated")
            for subject in chosen:
                mine = layout.select(rows, subject.label, one)
                if mine:
                    xs = [100 * float(row.at["mean_probability"] or 0) for row in mine]
                    shares = [row.share for row in mine]
                    pen = pens[subject.label]
                    layout.series(panel, xs, shares, pen, subject.label, few=few)
        layout.axis_labels(made, "Probability given to “−1” (%)", "Needle absent (%)")
        legend.draw(made)
    return made.figure
