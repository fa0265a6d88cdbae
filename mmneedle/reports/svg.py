"""Figures as inline SVG, drawn by plain functions: no script, no font, no network.

Every figure is 360 units wide or close to it, so that its text is readable at a phone's width, and
carries a text alternative. Colours of lines and text come from the page's style sheet (classes), so
they follow light and dark; colours that carry a value are fixed, and the value stands beside them.
"""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

WIDTH = 360

# Cividis (Nuñez, Anderton, Renslow 2018) in eleven even steps: reads the same with and without
# red-green vision, and in grey.
CIVIDIS = (
    "#002051",
    "#0a326a",
    "#2b446e",
    "#4d566d",
    "#696970",
    "#7f7c75",
    "#948f78",
    "#ada476",
    "#caba6a",
    "#ead156",
    "#fdea45",
)
# White to deep purple for shares of a whole: paper where there is nothing.
PURPLES = (
    "#f7f5fa",
    "#e8e4f0",
    "#d4cde5",
    "#bcb2d6",
    "#a194c6",
    "#8675b4",
    "#6d549f",
    "#563587",
    "#3f1070",
)


class Point(msgspec.Struct, frozen=True):
    """A value 0..1 with its interval, as charts draw it."""

    value: float | None
    interval: tuple[float, float] | None = None


class Row(msgspec.Struct, frozen=True):
    """One line of a chart: its name and a point for each series."""

    name: str
    points: tuple[Point, ...]
    chance: float | None = None


class Bar(msgspec.Struct, frozen=True):
    """One stacked bar: its name and (class, label, count) for each segment."""

    name: str
    parts: tuple[tuple[str, str, int], ...]


def figure(
    width: float, height: float, title: str, description: str, body: Sequence[str], kind: str
) -> Markup:
    """An SVG element with its text alternative."""
    return Markup(
        '<svg class="figure {kind}" viewBox="0 0 {w:g} {h:g}" role="img" aria-label="{title}. '
        '{description}"><title>{title}</title><desc>{description}</desc>{body}</svg>'
    ).format(
        kind=kind,
        w=width,
        h=height,
        title=title,
        description=description,
        body=Markup("").join(Markup(part) for part in body),
    )


def cell_map(
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    hints: Sequence[Sequence[str]],
    *,
    title: str,
    description: str,
    colours: Sequence[str] = CIVIDIS,
    top: float = 1.0,
    axes: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Markup:
    """A grid of cells, one colour a value 0..top, the number in each; None is an empty cell.

    axes: what rows and columns are called; their numbers from 1 by default.
    """
    rows, cols = len(values), len(values[0])
    size, edge = 44, 20
    down, along = axes or [[str(k + 1) for k in range(count)] for count in (rows, cols)]
    body = [
        f'<text class="axis" x="{edge + size * c + size / 2:g}" y="14">{escape(along[c])}</text>'
        for c in range(cols)
    ]
    for r in range(rows):
        y, name = edge + size * r, escape(down[r])
        body.append(f'<text class="axis" x="{edge / 2:g}" y="{y + size / 2 + 4:g}">{name}</text>')
        for c in range(cols):
            body.append(
                _cell(
                    edge + size * c, y, size, values[r][c], texts[r][c], hints[r][c], colours, top
                )
            )
    return figure(
        edge + size * cols + 2, edge + size * rows + 2, title, description, body, f"map map{cols}"
    )


def _cell(
    x: float,
    y: float,
    size: float,
    value: float | None,
    text: str,
    hint: str,
    colours: Sequence[str],
    top: float,
) -> str:
    if value is None:
        fill, tone = 'class="none"', "axis"
    else:
        step = min(len(colours) - 1, int(len(colours) * value / top)) if top else 0
        fill = f'fill="{colours[step]}"'
        tone = ink(colours[step])
    return (
        f"<g><title>{escape(hint)}</title>"
        f'<rect {fill} x="{x + 1:g}" y="{y + 1:g}" width="{size - 2:g}" height="{size - 2:g}" '
        f'rx="3"/><text class="value {tone}" x="{x + size / 2:g}" y="{y + size / 2 + 5:g}">'
        f"{escape(text)}</text></g>"
    )


def ink(colour: str) -> str:
    """Whether "dark" (black) or "light" (white) text is read better on "#rrggbb".

    The better one has a contrast of 4.5 at least on any colour (WCAG 2, 1.4.3).
    """
    return "dark" if luminance(colour) > 0.179 else "light"


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb", 0..1 (WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ramp(colours: Sequence[str]) -> Markup:
    """The legend of a cell map: its colour steps in order."""
    width = 16
    steps = [
        f'<rect x="{width * i}" y="0" width="{width}" height="10" fill="{colour}"/>'
        for i, colour in enumerate(colours)
    ]
    return Markup(
        f'<svg class="ramp" viewBox="0 0 {width * len(colours)} 10" aria-hidden="true">'
        f"{''.join(steps)}</svg>"
    )


def dots(rows: Sequence[Row], *, title: str, description: str, stacked: bool = False) -> Markup:
    """Points with intervals on a 0-100 % axis, a line each; series 0 filled, series 1 hollow.

    stacked: names stand above their lines (for long names) instead of to their left.
    """
    left = 14 if stacked else _gutter(rows)
    right, pitch = WIDTH - 20, 42 if stacked else 32
    top, bottom = 6, 6 + pitch * len(rows)
    body = _axis(left, right, top, bottom)
    for i, row in enumerate(rows):
        y = top + pitch * i + (29 if stacked else pitch / 2)
        where = (
            f'class="name" x="{left}" y="{y - 15:g}"'
            if stacked
            else f'class="name end" x="{left - 10}" y="{y + 4:g}"'
        )
        body.append(f"<text {where}>{escape(_cut(row.name))}</text>")
        body.append(f'<path class="rail" d="M{left} {y:g}H{right}"/>')
        if row.chance is not None:
            x = _x(row.chance, left, right)
            body.append(f'<path class="chance" d="M{x:g} {y - 8:g}V{y + 8:g}"/>')
        for series, point in reversed(list(enumerate(row.points))):
            body += _dot(series, point, y, left, right, 9)  # seen around series 0 where they meet
    return figure(WIDTH, bottom + 26, title, description, body, "dots")


def dumbbells(rows: Sequence[Row], *, title: str, description: str) -> Markup:
    """Two points a line and the bar between them: series 0 filled, series 1 hollow."""
    left, right, pitch = _gutter(rows), WIDTH - 20, 32
    top, bottom = 6, 6 + pitch * len(rows)
    body = _axis(left, right, top, bottom)
    for i, row in enumerate(rows):
        y = top + pitch * i + pitch / 2
        body.append(
            f'<text class="name end" x="{left - 10}" y="{y + 4:g}">{escape(row.name)}</text>'
        )
        body.append(f'<path class="rail" d="M{left} {y:g}H{right}"/>')
        if all(point.value is not None for point in row.points):
            a, b = (_x(point.value or 0, left, right) for point in row.points)
            way = "gain" if a >= b else "loss"
            body.append(f'<path class="gap {way}" d="M{a:g} {y:g}H{b:g}"/>')
        for series, point in reversed(list(enumerate(row.points))):
            body += _dot(series, point, y, left, right)
    return figure(WIDTH, bottom + 26, title, description, body, "dots")


def _cut(name: str) -> str:
    """A name that fits into the figure's width."""
    return name if len(name) <= 50 else name[:49] + "…"


def _gutter(rows: Sequence[Row] | Sequence[Bar]) -> int:
    """Where lines begin, so that the longest name fits to their left."""
    return max(58, 7 * max(len(row.name) for row in rows) + 14)


def _x(value: float, left: float, right: float) -> float:
    return round(left + (right - left) * value, 2)


def _axis(left: float, right: float, top: float, bottom: float) -> list[str]:
    body = []
    for tick in (0, 25, 50, 75, 100):
        x = _x(tick / 100, left, right)
        body.append(f'<path class="grid" d="M{x:g} {top:g}V{bottom:g}"/>')
        body.append(
            f'<text class="axis" x="{x:g}" y="{bottom + 16:g}">{tick}{"%" if tick == 100 else ""}'
            "</text>"
        )
    return body


def _dot(
    series: int, point: Point, y: float, left: float, right: float, half: int = 6
) -> list[str]:
    if point.value is None:
        return []
    x, name = _x(point.value, left, right), f"s{series}"
    body = []
    if point.interval:
        a, b = (_x(end, left, right) for end in point.interval)
        body.append(f'<path class="whisker {name}" d="M{a:g} {y:g}H{b:g}"/>')
    if series == 0:
        body.append(f'<circle class="dot s0" cx="{x:g}" cy="{y:g}" r="5.5"/>')
    else:
        body.append(
            f'<path class="dot {name}" d="M{x:g} {y - half:g}l{half} {half}l-{half} {half}'
            f'l-{half} -{half}z"/>'
        )
    return body


def columns(
    rows: Sequence[Row], *, title: str, description: str, axis: str, texts: Sequence[str]
) -> Markup:
    """Upright bars, one a row: series 1 as a pale bar behind series 0, `texts` above."""
    left, right, top, bottom = 30, WIDTH - 6, 22, 172
    pitch = min(72.0, (right - left) / len(rows))
    wide = pitch * 0.7
    body = []
    for tick in (0, 50, 100):
        y = bottom - (bottom - top) * tick / 100
        body.append(f'<path class="grid" d="M{left} {y:g}H{right}"/>')
        body.append(f'<text class="axis end" x="{left - 6}" y="{y + 4:g}">{tick}</text>')
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        x = left + pitch * (i + 0.5)
        tallest = float(bottom)
        for series, point in reversed(list(enumerate(row.points))):
            if point.value is None:
                continue
            y = round(bottom - (bottom - top) * point.value, 2)
            tallest = min(tallest, y)
            body.append(
                f'<rect class="column s{series}" x="{x - wide / 2:g}" y="{y:g}" '
                f'width="{wide:g}" height="{bottom - y:g}"/>'
            )
            if series == 0 and point.interval:
                a, b = (round(bottom - (bottom - top) * end, 2) for end in point.interval)
                body += [
                    f'<path class="whisker {of}" d="M{x:g} {a:g}V{b:g}"/>' for of in ("halo", "up")
                ]
                tallest = min(tallest, b)
        body.append(f'<text class="value" x="{x:g}" y="{tallest - 5:g}">{escape(text)}</text>')
        body.append(f'<text class="axis" x="{x:g}" y="{bottom + 16:g}">{escape(row.name)}</text>')
    middle = left + pitch * len(rows) / 2
    body.append(f'<text class="axis" x="{middle:g}" y="{bottom + 33:g}">{escape(axis)}</text>')
    return figure(WIDTH, bottom + 40, title, description, body, "columns")


def stacks(bars: Sequence[Bar], *, title: str, description: str) -> Markup:
    """Bars of equal length cut by shares; counts stand in the segments that have the room."""
    left, right, pitch, height = _gutter(bars), WIDTH - 4, 30, 20
    body = []
    for i, bar in enumerate(bars):
        y = 4 + pitch * i
        total = sum(count for _, _, count in bar.parts)
        body.append(
            f'<text class="name end" x="{left - 10}" y="{y + 14:g}">{escape(bar.name)}</text>'
        )
        start = float(left)
        for name, label, count in bar.parts:
            width = (right - left) * count / total if total else 0
            if not width:
                continue
            body.append(
                f"<g><title>{escape(label)}: {count} of {total}</title>"
                f'<rect class="kind {escape(name)}" x="{start:.2f}" y="{y}" '
                f'width="{max(0.6, width - 1):.2f}" height="{height}"/>'
            )
            if width > 9 * len(str(count)) + 4:
                body.append(
                    f'<text class="count" x="{start + width / 2:.2f}" y="{y + 14}">{count}</text>'
                )
            body.append("</g>")
            start += width
    return figure(WIDTH, 8 + pitch * len(bars), title, description, body, "stacks")
