"""Panels, legends and lines: what figures are put together from."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmneedle.errors import UserError
from mmneedle.reports.figures import style
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.subjects import Source, Subject, settings_of, subjects
from mmneedle.types import Setting

LINE_HEIGHT = 0.15
"""Inches of a line of the legend."""
_HIGHEST = 2.6
"""Inches of a panel's height, at most."""
AXIS = 0.42
"""Inches at a panel's left that numbers and words take."""


class Canvas(msgspec.Struct, frozen=True):
    """A figure in the making, or axes that somebody else owns."""

    figure: Figure
    axes: list[Axes]
    own: bool
    """Whether the figure is ours to lay out."""
    width: float
    """Inches of one panel."""
    height: float = math.inf
    """Inches of all panels of a figure of ours, one above the other."""


@contextmanager
def look(ax: Axes | None) -> Iterator[None]:
    """Our style for a figure of ours; in somebody's axes theirs holds."""
    with style.styled() if ax is None else nullcontext():
        yield


def one_setting(
    chosen: Sequence[Subject], setting: Setting | str | None, ax: Axes | None
) -> list[Setting]:
    """The settings of a figure: the one that is named, or all; one only for a given `ax`."""
    known = settings_of(chosen)
    if setting is not None:
        wanted = Setting.parse(setting) if isinstance(setting, str) else setting
        if wanted not in known:
            raise UserError(
                f"no run has the setting {wanted.name}; there are "
                f"{', '.join(one.name for one in known) or 'none'}"
            )
        return [wanted]
    if ax is not None and len(known) > 1:
        raise UserError(
            f"one ax holds one setting: name it (setting={known[0].name!r}); there are "
            f"{', '.join(one.name for one in known)}"
        )
    return known


def canvas(
    ax: Axes | None,
    width: float,
    count: int,
    *,
    panel: float,
    aspect: float,
    legend: float = 0.0,
    titles: float = 0.16,
    share_x: bool = False,
) -> Canvas:
    """Panels in rows, or the given axes as the one panel.

    Args:
        ax: somebody's axes, or None for a figure of ours.
        width: of the figure, in inches.
        count: how many panels.
        panel: the least width of a panel, in inches: as many stand side by side as have room.
        aspect: a panel's height over its width.
        legend: height of the legend above, in inches.
        titles: height of a panel's title.
        share_x: whether panels have the same x axis, told below the lowest only.
    """
    if ax is not None:
        figure = ax.get_figure(root=True)
        if figure is None:
            raise UserError("the ax that was given belongs to no figure")
        return Canvas(figure, [ax], False, figure.get_figwidth())
    style.check_width(width)
    across = max(1, min(count, int((width - 0.2) // panel)))
    if count > across:  # 5 + 2 look worse than 4 + 3
        across = -(-count // -(-count // across))
    down = -(-count // across)
    inches = (width - 0.25) / across
    height = down * (min(inches * aspect, _HIGHEST) + titles + 0.05) + legend + 0.42
    figure = style.new_figure(width, height)
    grid = figure.subplots(down, across, squeeze=False, sharey=True, sharex=share_x)
    axes = list(grid.flat)
    for extra in axes[count:]:
        extra.remove()
    if share_x:
        for above in axes[max(0, count - across) : across * (down - 1)]:
            above.xaxis.set_tick_params(labelbottom=True)
    return Canvas(figure, axes[:count], True, inches, height - legend - 0.42)


def panel_width(width: float, lines: int) -> float:
    """The least width of a panel with so many lines, in inches: wide pages give many more room."""
    return 2.0 if width > 4.5 and lines > 2 else 1.45


# --------------------------------------------------------------------------- axes


def per_cent(ax: Axes, *, x: bool = False) -> None:
    """A scale from 0 to 100 % with room for marks at its ends."""
    for axis, chosen in ((ax.yaxis, True), (ax.xaxis, x)):
        if chosen:
            axis.set_ticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100"])
    ax.set_ylim(-4, 104)
    if x:
        ax.set_xlim(-4, 104)
    ax.grid(True, axis="both" if x else "y", color="#e3e3e3", linewidth=0.5)
    ax.set_axisbelow(True)


def title(ax: Axes, text: str) -> None:
    """What a panel is about, at its top."""
    style.plain(ax.set_title(text, loc="left"))


def axis_labels(made: Canvas, x: str, y: str) -> None:
    """What the axes show: once for all panels of a figure, in lines no longer than the panels."""
    if made.own and math.isfinite(made.height):
        y = style.wrapped(y, made.height * style.SIZE / (style.SIZE + 0.5), 3)
    if made.own and len(made.axes) > 1:
        size = style.SIZE + 0.5
        made.figure.supxlabel(x, fontsize=size)
        made.figure.supylabel(y, fontsize=size)
    else:
        for ax in made.axes:
            ax.set_xlabel(x)
            ax.set_ylabel(y)


def sparse_ticks(ax: Axes, places: Sequence[float], width: float, *, log: bool) -> None:
    """Ticks at all places of the x axis; numbers that would touch go into a second line below.

    Args:
        ax: with its x limits set.
        places: ascending, at least one.
        width: of the panel in inches.
        log: whether the axis is logarithmic.
    """
    at = np.log2(places) if log else np.asarray(places, float)
    low, high = (np.log2(ax.get_xlim()) if log else np.asarray(ax.get_xlim())).tolist()
    inches = (at - low) / (high - low) * max(0.3, width - AXIS)
    texts = [f"{place:,.0f}" for place in places]
    half = [style.text_width(text) / 2 + 0.04 for text in texts]
    shown = [""] * len(texts)
    left = list(range(len(at)))
    for line in ("", "\n"):
        kept: list[int] = []
        for i in [*left[-1:], *left[:-1]]:  # the longest haystack first, then from the shortest on
            if all(abs(inches[i] - inches[j]) >= half[i] + half[j] for j in kept):
                kept.append(i)
                shown[i] = line + texts[i]
        left = [i for i in left if i not in kept]
    ax.set_xticks(list(places), shown)
    ax.set_xticks([], minor=True)


# --------------------------------------------------------------------------- lines


class Pen(msgspec.Struct, frozen=True):
    """How one subject is drawn."""

    colour: str
    marker: str
    dash: Any
    shift: float
    """-1..1: how far beside its true x, so that intervals do not cover each other."""


def pens(chosen: Sequence[Subject]) -> dict[str, Pen]:
    """A pen for each subject by its label; no two have both colour and marker in common."""
    most = min(len(chosen), style.MOST_LINES)
    return {
        subject.label: Pen(
            style.COLOURS[(i + i // len(style.MARKERS)) % style.MOST_LINES],
            style.MARKERS[i % len(style.MARKERS)],
            style.DASHES[i % style.MOST_LINES],
            0.0 if most == 1 else 2 * (i % most) / (most - 1) - 1,
        )
        for i, subject in enumerate(chosen)
    }


def series(
    ax: Axes,
    xs: Sequence[float],
    shares: Sequence[Estimate],
    pen: Pen,
    label: str,
    *,
    few: int,
    fill: Any = "full",
    dash: Any = None,
    join: bool = True,
) -> None:
    """One line with its points and 95 % intervals, in per cent; pale where there are few trials.

    The line carries `label` and all points, NaN where a value is not defined; its markers stand
    in two lines of their own.
    """
    x = np.asarray(xs, float)
    y = 100 * np.array([np.nan if s.value is None else s.value for s in shares], float)
    pale = np.array([s.n < few for s in shares], bool)
    line = pen.dash if dash is None else dash
    ax.plot(x, y, linestyle=line if join else "none", color=pen.colour, label=label, zorder=3)
    for which, alpha in ((~pale, 1.0), (pale, 0.35)):
        if not which.any():
            continue
        ends = [(s.low, s.high) for s, chosen in zip(shares, which, strict=True) if chosen]
        low, high = np.array(
            [(np.nan, np.nan) if a is None or b is None else (100 * a, 100 * b) for a, b in ends]
        ).T
        ax.vlines(x[which], low, high, color=pen.colour, linewidth=0.7, alpha=0.6 * alpha, zorder=2)
        ax.plot(
            x[which],
            y[which],
            linestyle="none",
            marker=pen.marker,
            fillstyle="full" if fill == "none" else fill,
            color=pen.colour,
            markerfacecolor="white" if fill == "none" else pen.colour,
            markerfacecoloralt="white",
            markeredgewidth=0.8,
            alpha=alpha,
            label="_few" if alpha < 1 else "_enough",
            zorder=4,
        )


def background(ax: Axes, lines: Sequence[tuple[Sequence[float], Sequence[Estimate]]]) -> None:
    """Other subjects' lines, grey and behind."""
    for xs, shares in lines:
        y = [np.nan if s.value is None else 100 * s.value for s in shares]
        ax.plot(xs, y, color=style.OTHERS, linewidth=0.6, zorder=1, label="_others")


def handle(pen: Pen, text: str) -> Line2D:
    """A subject's entry in a legend."""
    return Line2D(
        [], [], color=pen.colour, marker=pen.marker, linestyle=pen.dash, label=text, linewidth=1.1
    )


def chance_handle(text: str = "chance") -> Line2D:
    """The legend's entry of the chance line."""
    return Line2D([], [], color=style.QUIET, linestyle=":", linewidth=1.0, label=text)


class Legend(msgspec.Struct, frozen=True):
    """A legend before it is drawn: how many columns fit, and how high it is."""

    handles: list[Any]
    columns: int
    height: float

    @classmethod
    def of(cls, handles: Sequence[Any], width: float) -> "Legend":
        """Handles in as many columns as `width` inches hold; longer texts are cut."""
        room = width - 0.5
        for entry in handles:
            entry.set_label(style.fit(str(entry.get_label()), room))
        if not handles:
            return cls([], 1, 0.0)
        widest = max(style.text_width(str(entry.get_label())) for entry in handles) + 0.28
        columns = max(1, min(len(handles), int((width - 0.1 + 0.12) // (widest + 0.12))))
        rows = -(-len(handles) // columns)
        columns = -(-len(handles) // rows)
        return cls(list(handles), columns, rows * LINE_HEIGHT + 0.06)

    def draw(self, made: Canvas) -> None:
        """Above the panels of a figure of ours; within somebody's axes."""
        if not self.handles:
            return
        if made.own:
            legend = made.figure.legend(
                handles=self.handles, loc="outside upper center", ncols=self.columns
            )
        else:
            legend = made.axes[0].legend(handles=self.handles)
        for text in legend.get_texts():
            style.plain(text)


def legend_names(chosen: Sequence[Subject], width: float) -> dict[str, str]:
    """Subjects' names as a legend of that width shows them, all different."""
    return style.fitted([subject.label for subject in chosen], max(0.6, width - 0.6))


# --------------------------------------------------------------------------- data


def opened(runs: "Source | Sequence[Source]", published: bool = False) -> list[Subject]:
    """What a figure is about. Raises UserError where that is nothing."""
    chosen = subjects(runs, published=published)
    if not chosen:
        raise UserError("there is nothing to draw: give at least one run")
    return chosen


def select(rows: Sequence[Datum], label: str, setting: Setting | None = None) -> list[Datum]:
    """One subject's marks, on one setting."""
    return [
        row for row in rows if row.label == label and (setting is None or row.setting == setting)
    ]


def drawable(rows: Sequence[Datum]) -> list[Setting]:
    """Settings that have a mark, in order of first appearance."""
    return list(dict.fromkeys(row.setting for row in rows))


def nothing(what: str) -> UserError:
    """What to say where a figure would be empty."""
    return UserError(f"there is nothing to draw: {what}")
