"""Heat maps: accuracy of models over settings, and by the needle's row and column."""

from collections.abc import Sequence
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmneedle.reports.figures import layout, measures, style
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.subjects import Source, Subject, comparable, settings_of
from mmneedle.reports.panels import named
from mmneedle.reports.words import percent
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

_SCALE = Normalize(0, 100)
_LEVEL = 6
"""Rows from which on the colour scale is long enough for its words."""


# --------------------------------------------------------------------------- models x settings


def accuracy_map(
    runs: Source | Sequence[Source],
    *,
    metric: Literal["existence", "index", "exact"] = "exact",
    published: bool = False,
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
    ax: Axes | None = None,
) -> Figure:
    """Accuracy on positives: a row for each subject, a column for each setting, per cent inside.

    Blank: not asked, or nothing answered. Hatched: fewer than `few` answered samples. Bold: the
    best run of a column, where all runs were asked about one data set.

    Args:
        runs: folders, opened runs or subjects.
        metric: of the positives.
        published: whether the paper's rows stand below.
        scorer: of runs; published rows have the paper's.
        width: of the figure, in inches.
        few: see above.
        ax: draw here instead of into a figure of our own.

    Raises:
        UserError: nothing to draw.
    """
    chosen = layout.opened(runs, published)
    settings = settings_of(chosen)
    rows = measures.scores(chosen, settings, metric, scorer)
    if not rows:
        raise layout.nothing("no run has positives")
    settings = [one for one in settings if one in layout.drawable(rows)]
    found = {(row.label, row.setting): row.share for row in rows}
    labels = [subject.label for subject in chosen]
    high = any(style.text_width(style.shown(label)) > 0.38 * width for label in labels)
    names = style.fitted(labels, (0.32 if high else 0.38) * width, 2 if high else 1)
    with layout.look(ax):
        if ax is None:
            figure = style.new_figure(width, map_height(len(chosen), high=high))
            panel = figure.subplots()
        else:
            made = layout.canvas(ax, width, 1, panel=width, aspect=1)
            figure, panel = made.figure, ax
        values = [[_value(found.get((s.label, one))) for one in settings] for s in chosen]
        mesh = heat_mesh(panel, np.array(values, float))
        gutter = max(style.text_width(line) for n in names.values() for line in n.split("\n"))
        beside = 0.6 if ax is not None or len(chosen) >= _LEVEL else 0.9  # the colour scale
        room = ((width if ax is None else figure.get_figwidth()) - gutter - beside) / len(settings)
        _numbers(panel, chosen, settings, found, few, room)
        _row_names(panel, [names[s.label] for s in chosen])
        _column_names(panel, settings, room)
        _rule(panel, sum(not s.published for s in chosen), len(chosen), len(settings))
        if ax is None:
            _bar(figure, mesh, panel, metric.capitalize(), len(chosen))
    return figure


def map_height(rows: int, *, high: bool = True) -> float:
    """Inches of an accuracy map of so many rows, high ones if their names need two lines."""
    return max(0.8, 0.42 + (0.29 if high else 0.21) * rows)


def _value(share: Estimate | None) -> float:
    return np.nan if share is None or share.value is None else 100 * share.value


def heat_mesh(panel: Axes, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> QuadMesh:
    """Cells of a heat map as vectors, the first row on top; NaN stays paper."""
    mesh = panel.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=style.MAP,
        norm=_SCALE,
        edgecolors="white",
        linewidth=0.5,
    )
    panel.set_ylim(values.shape[0], 0)
    for side in panel.spines.values():
        side.set_visible(False)
    panel.tick_params(length=0)
    return mesh


def _numbers(
    panel: Axes,
    chosen: Sequence[Subject],
    settings: Sequence[Setting],
    found: dict[tuple[str, Setting], Estimate],
    few: int,
    room: float,
) -> None:
    """The value in each cell; hatched where it stands on few samples."""
    digits = 1 if room > style.text_width(">99.9") + 0.04 else 0
    alike = comparable(chosen)
    runs = [s for s in chosen if not s.published]
    for column, setting in enumerate(settings):
        texts = {
            s.label: percent(share.value, digits)
            for s in chosen
            if (share := found.get((s.label, setting))) is not None and share.value is not None
        }
        of_runs = [found[s.label, setting].value or 0 for s in runs if s.label in texts]
        best = percent(max(of_runs), digits) if alike and len(of_runs) > 1 else None
        for row, subject in enumerate(chosen):
            share = found.get((subject.label, setting))
            if share is None or share.value is None:
                continue
            colour = mpl.colormaps[style.MAP](share.value)
            panel.text(
                column + 0.5,
                row + 0.5,
                texts[subject.label],
                ha="center",
                va="center_baseline",
                color=style.ink(colour),
                weight="bold"
                if texts[subject.label] == best and not subject.published
                else "normal",
                fontsize=style.SIZE,
            )
            if share.n < few:
                _hatch(panel, column, row, style.ink(colour))


def _hatch(panel: Axes, column: float, row: float, colour: str) -> None:
    panel.add_patch(
        Rectangle(
            (column, row),
            1,
            1,
            fill=False,
            hatch="//////",
            edgecolor=colour,
            linewidth=0,
            alpha=0.45,
            zorder=2,
        )
    )


def _row_names(panel: Axes, names: Sequence[str]) -> None:
    panel.set_yticks(np.arange(len(names)) + 0.5, names)
    for text in panel.get_yticklabels():
        style.plain(text)


def _column_names(panel: Axes, settings: Sequence[Setting], room: float) -> None:
    """Settings above; turned where they would touch."""
    texts = [named(setting) for setting in settings]
    panel.xaxis.tick_top()
    tight = max(map(style.text_width, texts)) > room - 0.06
    if tight:
        panel.set_xticks(
            np.arange(len(texts)) + 0.5, texts, rotation=90 if room < 0.3 else 45, ha="left"
        )
        for text in panel.get_xticklabels():
            text.set_rotation_mode("anchor")
            text.set_verticalalignment("center" if room < 0.3 else "baseline")
    else:
        panel.set_xticks(np.arange(len(texts)) + 0.5, texts)
    for text in panel.get_xticklabels():
        style.plain(text)


def _rule(panel: Axes, runs: int, rows: int, columns: int) -> None:
    """Between runs and published rows."""
    if 0 < runs < rows:
        panel.plot([0, columns], [runs, runs], color="black", linewidth=0.8, label="_rule")


def _bar(figure: Figure, mesh: QuadMesh, panel: Axes, metric: str, rows: int) -> None:
    """The colour scale, beside the map."""
    bar = figure.colorbar(mesh, ax=panel, fraction=0.03, pad=0.015, aspect=max(6, 2.2 * rows))
    bar.set_ticks([0, 50, 100] if rows < 8 else [0, 25, 50, 75, 100])
    bar.outline.set_visible(False)
    bar.solids.set(edgecolor="face", rasterized=False)  # type: ignore[union-attr]
    if rows >= _LEVEL:
        bar.set_label(f"{metric} accuracy (%)")
    else:  # too low for words along it
        bar.set_label(f"{metric}\n(%)", rotation=0, ha="left", va="center")


# --------------------------------------------------------------------------- by position

_SIDE = {"least": 0.58, "most": 1.15}
"""Inches of a panel."""
_GAP = 0.12
_BELOW = 0.2
"""Inches of the number below a panel."""
_LEGEND = 0.42


def position_map(
    runs: Source | Sequence[Source],
    *,
    metric: Literal["index", "exact"] = "exact",
    scorer: Scorer = "robust",
    width: float = style.COLUMNS[2],
    few: int = style.FEW,
) -> Figure:
    """Needles found by the row and column they lie in, over all images (the paper's figure 1).

    More subjects than settings stand side by side, as in the paper, fewer stand below each other.
    Below each panel: the share over all positions, bold
    where it is the best of its setting. White: no needle there, or none answered. Hatched: fewer
    than `few`.

    Args:
        runs: folders, opened runs or subjects.
        metric: "exact": the cell was named; "index": its image.
        scorer: "robust" or "paper".
        width: of the figure, in inches.
        few: see above.

    Raises:
        UserError: nothing to draw.
    """
    chosen = [subject for subject in layout.opened(runs) if not subject.published]
    settings = settings_of(chosen)
    rows = measures.positions(chosen, settings, metric, scorer)
    if not rows:
        raise layout.nothing("no run has positives")
    by_panel = {
        (s.label, one): layout.select(rows, s.label, one) for s in chosen for one in settings
    }
    with style.styled():
        figure, panels = _arranged(width, chosen, settings)
        for (label, setting), panel in panels.items():
            _position_panel(panel, by_panel[label, setting], setting, few)
        _totals(panels, by_panel, chosen, settings)
        _scale_below(figure, f"{'Needles' if metric == 'exact' else 'Images'} found (%)")
    return figure


Panels = dict[tuple[str, Setting], Axes]


def columns_that_fit(width: float) -> int:
    """Panels that stand side by side in a position map of that width, with names to the left."""
    return max(1, int((width - _gutter(width) - 0.06 + _GAP) // (_SIDE["least"] + _GAP)))


def _gutter(width: float) -> float:
    """Inches for the names of rows."""
    return min(1.1, 0.22 * width)


def _arranged(
    width: float, chosen: Sequence[Subject], settings: Sequence[Setting]
) -> tuple[Figure, Panels]:
    """The longer of subjects and settings goes across where it fits; see `position_map`."""
    fits = columns_that_fit(width)
    if len(chosen) <= len(settings) <= fits and len(chosen) > 1:
        return _matrix(width, chosen, settings, subjects_across=False)
    if len(chosen) > 1:
        return _matrix(width, chosen, settings, subjects_across=True)
    return _in_rows(width, chosen, settings)


def _matrix(
    width: float,
    chosen: Sequence[Subject],
    settings: Sequence[Setting],
    *,
    subjects_across: bool,
) -> tuple[Figure, Panels]:
    """Subjects against settings; columns that do not fit go on below."""
    labels = [subject.label for subject in chosen]
    places = {one: named(one) for one in settings}
    across = min(columns_that_fit(width), len(labels) if subjects_across else len(settings))
    left = (
        max(map(style.text_width, places.values())) if subjects_across else _gutter(width)
    ) + 0.1
    columns: Sequence[str | Setting] = labels if subjects_across else settings
    rows: Sequence[str | Setting] = settings if subjects_across else labels
    step = min((width - left - 0.06) / across, 1.5)
    side = min(_SIDE["most"], step - _GAP, (style.TALLEST - _LEGEND - 0.6) / len(rows) - _BELOW)
    if not subjects_across:
        step = side + _GAP
    names = style.fitted(labels, step - 0.06 if subjects_across else left - 0.14, 4)
    texts: dict[str | Setting, str] = {key: names[key] for key in labels}
    texts.update(places.items())
    left += (width - left - across * step) / 2
    head = 0.06 + 0.125 * max(texts[column].count("\n") + 1 for column in columns)
    deep = head + (side + _BELOW) * len(rows)
    blocks = [columns[i : i + across] for i in range(0, len(columns), across)]
    height = len(blocks) * deep + _LEGEND
    figure = _blank(width, height)
    panels: Panels = {}
    for number, block in enumerate(blocks):
        top = height - number * deep - head
        for j, column in enumerate(block):
            middle = left + (j + 0.5) * step
            _words(figure, middle, top + 0.04, texts[column], ha="center", va="bottom")
        for i, row in enumerate(rows):
            y = top - i * (side + _BELOW) - side
            edge = left + (step - side) / 2 - 0.08
            _words(figure, edge, y + side / 2, texts[row], ha="right", va="center")
            for j, column in enumerate(block):
                panel = _panel(figure, left + (j + 0.5) * step - side / 2, y, side)
                label, setting = (column, row) if subjects_across else (row, column)
                assert isinstance(label, str) and isinstance(setting, Setting)
                panels[label, setting] = panel
    return figure, panels


def _in_rows(
    width: float, chosen: Sequence[Subject], settings: Sequence[Setting]
) -> tuple[Figure, Panels]:
    """Settings in rows of as many as fit, one subject below the other."""
    across = min(len(settings), int((width + _GAP - 0.1) // (0.68 + _GAP)))
    across = -(-len(settings) // -(-len(settings) // across))
    side = min(_SIDE["most"], (width - 0.1) / across - _GAP)
    down = -(-len(settings) // across)
    head = 0.2 if len(chosen) > 1 else 0.0
    pitch = side + _BELOW + 0.17
    height = len(chosen) * (head + down * pitch) + _LEGEND
    figure = _blank(width, height)
    names = style.fitted([s.label for s in chosen], width - 0.2)
    panels: Panels = {}
    for number, subject in enumerate(chosen):
        top = height - number * (head + down * pitch)
        if head:
            _words(figure, 0.06, top - 0.03, names[subject.label], ha="left", va="top")
        for i, setting in enumerate(settings):
            row, column = divmod(i, across)
            x = 0.06 + column * (side + _GAP)
            y = top - head - row * pitch - 0.17 - side
            _words(figure, x + side / 2, y + side + 0.03, named(setting), ha="center", va="bottom")
            panels[subject.label, setting] = _panel(figure, x, y, side)
    return figure, panels


def _blank(width: float, height: float) -> Figure:
    return Figure(figsize=(style.check_width(width), height))


def _panel(figure: Figure, x: float, y: float, side: float) -> Axes:
    """Axes at a place in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((x / width, y / height, side / width, side / height))


def _words(figure: Figure, x: float, y: float, text: str, *, ha: str, va: str) -> None:
    """Text at a place in inches."""
    width, height = figure.get_size_inches()
    words = figure.text(x / width, y / height, text, ha=ha, va=va, fontsize=style.SIZE)
    words.set_linespacing(1.05)
    style.plain(words)


def _position_panel(panel: Axes, rows: Sequence[Datum], setting: Setting, few: int) -> None:
    panel.set_label(named(setting))
    if not rows:
        panel.set_axis_off()
        return
    values = np.full((setting.rows, setting.cols), np.nan)
    for datum in rows:
        row, column = int(datum.at["row"] or 0) - 1, int(datum.at["column"] or 0) - 1
        values[row, column] = _value(datum.share)
        if 0 < datum.share.n < few:
            colour = mpl.colormaps[style.MAP](datum.share.value or 0.0)
            _hatch(panel, column, row, style.ink(colour))
    heat_mesh(panel, values)
    panel.set_xlim(0, setting.cols)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.add_patch(
        Rectangle(
            (0, 0),
            setting.cols,
            setting.rows,
            fill=False,
            edgecolor="#8c8c8c",
            linewidth=0.5,
            clip_on=False,
        )
    )


def pooled(rows: Sequence[Datum]) -> tuple[int, int]:
    """Needles found, of how many answered, over all positions."""
    return sum(int(row.share.hits or 0) for row in rows), sum(row.share.n for row in rows)


def _totals(
    panels: Panels,
    by_panel: dict[tuple[str, Setting], list[Datum]],
    chosen: Sequence[Subject],
    settings: Sequence[Setting],
) -> None:
    """The share over all positions below each panel; the best of a setting is bold."""
    alike = comparable(chosen)
    for setting in settings:
        totals = {s.label: pooled(by_panel[s.label, setting]) for s in chosen}
        texts = {label: percent(right / n) for label, (right, n) in totals.items() if n}
        top = max((right / n for right, n in totals.values() if n), default=None)
        best = percent(top) if top is not None and len(texts) > 1 and alike else None
        for label, text in texts.items():
            panel = panels[label, setting]
            panel.annotate(
                text,
                (0.5, 0),
                xycoords="axes fraction",
                xytext=(0, -2.5),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=style.SIZE,
                weight="bold" if text == best else "normal",
                annotation_clip=False,
            )


def _scale_below(figure: Figure, text: str) -> None:
    """The colour scale at the foot of the figure."""
    width, height = figure.get_size_inches()
    long = min(2.0, 0.42 * width)
    words = style.text_width(text, style.SIZE) + 0.1
    x = (width - long - words) / 2 + words
    place = (x / width, 0.2 / height, long / width, 0.09 / height)
    bar = figure.colorbar(
        ScalarMappable(_SCALE, style.MAP),
        cax=figure.add_axes(place, label="scale"),
        orientation="horizontal",
    )
    bar.set_ticks([0, 25, 50, 75, 100])
    bar.outline.set_visible(False)
    bar.solids.set(edgecolor="face", rasterized=False)  # type: ignore[union-attr]
    bar.ax.tick_params(length=2, pad=1.5)
    _words(figure, x - 0.08, 0.245, text, ha="right", va="center")
