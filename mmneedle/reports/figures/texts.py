"""Figures of text tasks for papers: one axis of tokens, score by length and by depth, heat maps.

They show what the page on texts shows (`reports.textual`), from the same numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmneedle.errors import UserError
from mmneedle.files import together
from mmneedle.reports.figures import caption_files, layout, style
from mmneedle.reports.figures.caption_files import Shown
from mmneedle.reports.figures.layout import Pen
from mmneedle.reports.figures.maps import heat_mesh
from mmneedle.reports.figures.measures import Estimate
from mmneedle.reports.figures.sentences import Caption
from mmneedle.reports.figures.write import check, write_text
from mmneedle.reports.linechart import tokens_scale
from mmneedle.reports.rows_csv import csv_text
from mmneedle.reports.textual import depth as depths
from mmneedle.reports.textual import maps
from mmneedle.reports.textual.maps import Cell, depth_name
from mmneedle.reports.textual.series import Read, Series, read
from mmneedle.reports.words import percent, points
from mmneedle.runlog import Run

Rows = list[dict[str, Any]]
_TICKS = 9
"""Places on the x axis that are named each; where there are more, round numbers are."""
_SHOWN = 2.6
"""Inches of a heat map at least, one beside the other where there is room."""


class Mark(msgspec.Struct, frozen=True):
    """One point of a line."""

    x: float
    share: Estimate


class Made(msgspec.Struct, frozen=True):
    """A figure with its name, its data and its caption."""

    name: str
    figure: Figure
    rows: Rows
    caption: Caption


def write_text_figures(
    runs: Sequence[Run],
    out: Path | str,
    *,
    threshold: float | None = None,
    columns: int = 2,
    width: float | None = None,
    formats: Sequence[str] = ("pdf", "png"),
) -> list[Path]:
    """Write figures of text tasks, and of images and twins beside them, into a folder.

    Args:
        runs: as `write_text_report` takes them.
        out: the folder, made if need be; other files in it are left alone.
        threshold: of effective lengths, 0..1; None: as published.
        columns: 1 or 2: the width of the figures (3.25 or 6.75 in).
        width: in inches, instead.
        formats: of FORMATS.

    Returns:
        The files in the order they were written; captions last.

    Raises:
        UserError: a format or width that is none; nothing to draw; the folder cannot be written.
    """
    inches, out = check(columns, width, formats), Path(out)
    found = read(runs, threshold)
    files, shown = [], []
    with together(out) as folder:
        for made in _figures(found, inches):
            for form in formats:
                files.append(
                    style.save(made.figure, folder / f"{made.name}.{form}", title=made.name)
                )
            files.append(write_text(folder / f"{made.name}.csv", csv_text(made.rows)))
            form = formats[0] if "pdf" not in formats else "pdf"
            wide = inches > (style.COLUMNS[1] + style.COLUMNS[2]) / 2
            shown.append(Shown(made.name, form, wide, made.caption))
        if not shown:
            raise UserError("there is nothing to draw: no sample was answered")
        files.append(write_text(folder / "captions.md", caption_files.markdown(shown, [])))
        files.append(write_text(folder / "captions.tex", caption_files.latex(shown, [])))
    return [out / file.name for file in files]


def _figures(found: Read, width: float) -> Iterator[Made]:
    bends = depths.bends(found.series)
    for subject, name in enumerate(found.subjects):
        mine = [one for one in found.series if one.subject == subject]
        if any(one.answers is None and not one.cells for one in mine):  # ruler's tasks have a mean
            mine = [one for one in mine if not one.task.startswith("ruler.")]
        lines = {one.key: _by_tokens(one) for one in mine}
        suffix = f"-{subject + 1}" if len(found.subjects) > 1 else ""
        yield from _lines(
            f"text-tokens{suffix}",
            {key: marks for key, marks in lines.items() if marks},
            width,
            "Input tokens a request",
            f"{name}: scores against mean input tokens, all depths together",
        )
    for key in found.keys:
        yield from _task(found, key, bends, width)


def _task(
    found: Read, key: str, bends: Sequence[depths.Bend | None], width: float
) -> Iterator[Made]:
    mine = [(one, bend) for one, bend in zip(found.series, bends, strict=True) if one.key == key]
    slug = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    unit = mine[0][0].unit
    yield from _lines(
        f"text-length-{slug}",
        {found.subjects[one.subject]: _by_length(one) for one, _ in mine},
        width,
        f"Length ({unit})",
        f"{key}: score by length, all depths together",
        level=mine[0][0].effective.threshold,
    )
    yield from _lines(
        f"text-depth-{slug}",
        {found.subjects[one.subject]: _by_depth(bend) for one, bend in mine if bend},
        width,
        "Depth of the needle (%)",
        f"{key}: score by depth, all lengths together",
        log=False,
        more=" ".join(
            f"{found.subjects[one.subject]}: {depths.sentence(bend)}" for one, bend in mine if bend
        ),
    )
    cells = {found.subjects[one.subject]: maps.cells(one) for one, _ in mine}
    cells = {name: some for name, some in cells.items() if any(one.depth >= 0 for one in some)}
    if cells:
        yield _maps(f"text-map-{slug}", cells, width, key, unit)


# --------------------------------------------------------------------------- lines


def _by_tokens(of: Series) -> list[Mark]:
    return sorted(
        (Mark(level.x, _share(level)) for level in of.levels if level.x and _scored(level)),
        key=lambda mark: mark.x,
    )


def _by_length(of: Series) -> list[Mark]:
    return [
        Mark(level.point.length, _share(level))
        for level in of.levels
        if level.point.length and _scored(level)  # a closed book has none
    ]


def _scored(level: Any) -> bool:
    return level.point.score is not None


def _share(level: Any) -> Estimate:
    point = level.point
    return Estimate(None, point.answered, point.score, *point.interval)


def _by_depth(bend: depths.Bend) -> list[Mark]:
    return [
        Mark(100 * spot.depth, Estimate(spot.share.hits, spot.share.n, value, *spot.share.interval))
        for spot in bend.spots
        if (value := spot.share.value) is not None
    ]


def _lines(
    name: str,
    lines: Mapping[str, list[Mark]],
    width: float,
    axis: str,
    what: str,
    *,
    log: bool = True,
    level: float | None = None,
    more: str = "",
) -> Iterator[Made]:
    """One panel of lines; as many figures as it takes for all to look different."""
    known = {label: marks for label, marks in lines.items() if marks}
    labels = list(known)
    for start in range(0, len(labels), style.MOST_LINES):
        part = {label: known[label] for label in labels[start : start + style.MOST_LINES]}
        number = start // style.MOST_LINES + 1
        figure = _drawn(part, width, axis, log, level)
        rows = [
            {
                "line": label,
                "x": mark.x,
                "n": mark.share.n,
                "score": mark.share.value,
                "low": mark.share.low,
                "high": mark.share.high,
            }
            for label, marks in part.items()
            for mark in marks
        ]
        bars = " Bars: 95 % intervals."
        line = "" if level is None else f" Dotted: the threshold, {percent(level)} %."
        alt = "; ".join(
            f"{label} from {percent(marks[0].share.value)} % at {marks[0].x:,.0f} to "
            f"{percent(marks[-1].share.value)} % at {marks[-1].x:,.0f}"
            for label, marks in part.items()
        )
        caption = Caption(f"{what}.{bars}{line} {more}".strip(), f"{what}: {alt}.")
        yield Made(name if number == 1 else f"{name}-{number}", figure, rows, caption)


def _drawn(
    part: Mapping[str, list[Mark]], width: float, axis: str, log: bool, level: float | None
) -> Figure:
    pens = {
        label: Pen(
            style.COLOURS[i % len(style.COLOURS)],
            style.MARKERS[i % len(style.MARKERS)],
            style.DASHES[i % len(style.DASHES)],
            0.0 if len(part) == 1 else 2 * i / (len(part) - 1) - 1,
        )
        for i, label in enumerate(part)
    }
    with layout.look(None):
        names = style.fitted(list(part), max(0.6, width - 0.6))
        legend = layout.Legend.of([layout.handle(pens[k], names[k]) for k in part], width)
        height = min(2.6, 0.62 * width) + legend.height + 0.4
        figure = style.new_figure(width, height)
        panel = figure.subplots()
        layout.per_cent(panel)
        for label, marks in part.items():
            pen = pens[label]
            xs = [m.x * 2 ** (0.05 * pen.shift) if log else m.x + pen.shift for m in marks]
            layout.series(panel, xs, [m.share for m in marks], pen, label, few=0)
        if level is not None:
            panel.axhline(100 * level, linestyle=":", color=style.QUIET, lw=1)
        _x_axis(panel, sorted({m.x for marks in part.values() for m in marks}), log, width)
        panel.set_xlabel(axis)
        panel.set_ylabel("Score (%)")
        legend.draw(layout.Canvas(figure, [panel], True, width))
    return figure


def _x_axis(panel: Axes, xs: Sequence[float], log: bool, width: float) -> None:
    if not log:
        panel.set_xticks([0, 25, 50, 75, 100])
        panel.set_xlim(-4, 104)
        return
    panel.set_xscale("log", base=2)
    room = max(1.15, (xs[-1] / xs[0]) ** 0.05)
    panel.set_xlim(xs[0] / room, xs[-1] * room)
    if len(xs) <= _TICKS:
        layout.sparse_ticks(panel, xs, width, log=True)
        return
    ticks = [tick for tick in tokens_scale(xs, "").ticks if xs[0] / room < tick[0] < xs[-1] * room]
    panel.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    panel.set_xticks([], minor=True)


# --------------------------------------------------------------------------- maps


def _maps(name: str, cells: Mapping[str, list[Cell]], width: float, key: str, unit: str) -> Made:
    """Length by depth, a panel a model."""
    most = max(len({one.depth for one in some}) for some in cells.values())
    across = max(1, min(len(cells), int((width - 0.2) // _SHOWN)))
    down = -(-len(cells) // across)
    with layout.look(None):
        figure = style.new_figure(width, down * (0.19 * most + 0.35) + 0.45)
        panels = figure.subplots(down, across, squeeze=False)
        flat = list(panels.flat)
        for extra in flat[len(cells) :]:
            extra.remove()
        for panel, (label, some) in zip(flat, cells.items(), strict=False):
            _map(panel, some)
            if len(cells) > 1:
                layout.title(panel, style.fit(style.shown(label), width / across - 0.4))
        figure.supxlabel(f"Length ({unit})", fontsize=style.SIZE + 0.5)
        figure.supylabel("Depth of the needle", fontsize=style.SIZE + 0.5)
    rows = [
        {
            "model": label,
            "length": one.length,
            "depth": one.depth / 1000,
            "n": one.n,
            "answered": one.answered,
            "skipped": one.skipped,
            "score": one.score,
            "low": one.interval[0] if one.interval else None,
            "high": one.interval[1] if one.interval else None,
            "tokens": one.tokens,
        }
        for label, some in cells.items()
        for one in some
    ]
    counts = [one.n for some in cells.values() for one in some]
    few, many = min(counts), max(counts)
    a_cell = f"{few}" if few == many else f"{few} to {many}"
    hatched = any(one.state == "skipped" for some in cells.values() for one in some)
    text = (
        f"{key}: score in per cent by length and by depth of the needle; {a_cell} samples a cell."
        + (" Hatched: past the model's window, skipped." if hatched else "")
    )
    worst = {
        label: min((one for one in some if one.score is not None), key=lambda one: one.score or 0)
        for label, some in cells.items()
        if any(one.score is not None for one in some)
    }
    alt = "; ".join(
        f"{label} lowest at length {one.length:,}, depth {depth_name(one.depth)}: "
        f"{percent(one.score)} %"
        for label, one in worst.items()
    )
    return Made(name, figure, rows, Caption(text, f"{text} {alt}."))


def _map(panel: Axes, cells: Sequence[Cell]) -> None:
    lengths = sorted({one.length for one in cells})
    down = sorted({one.depth for one in cells})
    values = np.full((len(down), len(lengths)), np.nan)
    for one in cells:
        if one.score is not None:
            values[down.index(one.depth), lengths.index(one.length)] = 100 * one.score
    heat_mesh(panel, values)
    for one in cells:
        x, y = lengths.index(one.length), down.index(one.depth)
        if one.score is None:
            if one.state == "skipped":
                box = Rectangle(
                    (x, y), 1, 1, fill=False, hatch="////", edgecolor=style.OTHERS, lw=0
                )
                panel.add_patch(box)
            continue
        colour = style.ink(mpl.colormaps[style.MAP](one.score))
        text = f"{points(one.score, 0)}{'' if one.answered == one.n else '*'}"
        panel.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=colour, size=style.SIZE)
    step = -(-len(lengths) // 8)
    at = [i for i in range(len(lengths)) if (len(lengths) - 1 - i) % step == 0]
    panel.set_xticks([i + 0.5 for i in at], [_short(lengths[i]) for i in at])
    panel.set_yticks([i + 0.5 for i in range(len(down))], [depth_name(one) for one in down])


def _short(length: int) -> str:
    """4k for 4,096 and 4,000; other numbers as they are."""
    for size in (1024, 1000):
        if length % size == 0:
            return f"{length // size}k"
    return f"{length:,}"
