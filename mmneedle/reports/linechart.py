"""Lines with intervals as inline SVG: a score against length, tokens or depth.

Lines differ by colour, marker and dashes, so that no two depend on colour alone.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
from markupsafe import Markup, escape

from mmneedle.reports import svg
from mmneedle.reports.words import percent

STYLES = 8
"""Lines that look different; the next ones look like the first again."""
_LEFT, _TOP = 36, 10
_APART = 3.2
"""Units between the markers of two lines at one place, so that intervals do not hide each other."""
_PATHS = (
    "M{x:g} {y:g}m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",  # circle
    "M{x:g} {y:g}m0 -6l6 6l-6 6l-6 -6z",  # diamond
    "M{x:g} {y:g}m-4.5 -4.5h9v9h-9z",  # square
    "M{x:g} {y:g}m0 -6l6 10.5h-12z",  # triangle
    "M{x:g} {y:g}m0 6l6 -10.5h-12z",  # triangle, upside down
    "M{x:g} {y:g}m-5.5 -2h3.5v-3.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5z",  # plus
    "M{x:g} {y:g}m-3.5 -6h7v12h-7z",  # tall box
    "M{x:g} {y:g}m-6 -3h12v6h-12z",  # wide box
)


class Spot(msgspec.Struct, frozen=True):
    """One point of a line."""

    x: float
    value: float
    """0..1."""
    interval: tuple[float, float] | None = None
    hint: str = ""
    """What it is, for whoever points at it."""


class Line(msgspec.Struct, frozen=True):
    """One line of a chart, its spots from left to right."""

    name: str
    spots: tuple[Spot, ...]
    style: int = 0
    """Colour, marker and dashes; of STYLES."""


class Frame(msgspec.Struct, frozen=True):
    """A figure's size in units; text is 12 of them high."""

    width: float = svg.WIDTH
    height: float = 226

    @property
    def right(self) -> float:
        """Where the axis of x ends."""
        return self.width - 12

    @property
    def bottom(self) -> float:
        """Where 0 % is."""
        return self.height - 40

    def x(self, scale: "Scale", value: float) -> float:
        """Where a value of x stands."""
        return round(_LEFT + (self.right - _LEFT) * scale.place(value), 2)

    def y(self, value: float) -> float:
        """Where a score 0..1 stands."""
        return round(self.bottom - (self.bottom - _TOP) * value, 2)


NARROW = Frame()
WIDE = Frame(660, 330)


class Scale(msgspec.Struct, frozen=True):
    """Where values of x stand, and what is written along the axis."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str
    log: bool = False

    def place(self, x: float) -> float:
        """0..1 along the axis."""
        f: Callable[[float], float] = math.log if self.log else float
        return (f(x) - f(self.low)) / (f(self.high) - f(self.low))


_TICKS = 8
"""On a logarithmic axis beyond which it shows powers of ten alone."""


def tokens_scale(values: Sequence[float], title: str) -> Scale:
    """A logarithmic axis over token counts, which are positive; there is at least one."""
    low, high = min(values), max(values)
    room = max(1.12, (high / low) ** 0.04, (2.5 / (high / low)) ** 0.5)
    low, high = low / room, high * room
    every = [
        (step * 10.0**power)
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for step in (1, 2, 5)
    ]
    ticks = [value for value in every if low <= value <= high]
    if len(ticks) > _TICKS:
        ticks = [value for value in ticks if str(value)[0] == "1"]
    return Scale(low, high, tuple((value, short_count(value)) for value in ticks), title, log=True)


def depth_scale() -> Scale:
    """Depths 0..1 as per cent."""
    ticks = tuple((at / 4, f"{25 * at}{'%' if at == 4 else ''}") for at in range(5))
    return Scale(-0.03, 1.03, ticks, "depth of the needle")


def short_count(value: float) -> str:
    """A number of tokens as an axis shows it: 500, 1k, 128k, 1.5M."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{sign}"
    return f"{value:.3g}"


def lines(
    series: Sequence[Line],
    scale: Scale,
    *,
    title: str,
    description: str = "",
    level: float | None = None,
    frame: Frame = NARROW,
) -> Markup:
    """Lines on a 0-100 % axis; `level`: a threshold drawn across."""
    body = [*_grid(frame), *_ticks(scale, frame)]
    if level is not None:
        y = frame.y(level)
        body.append(f'<path class="chance" d="M{_LEFT} {y:g}H{frame.right:g}"/>')
    for number, line in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * min(_APART, 14 / max(1, len(series)))
        body += _line(line, scale, shift, frame)
    return svg.figure(
        frame.width, frame.height, title, description or described(series), body, "lines"
    )


def described(series: Sequence[Line]) -> str:
    """The text alternative: every line with its ends."""
    parts = []
    for line in series:
        if line.spots:
            told = ", ".join(spot.hint or f"{percent(spot.value)} %" for spot in line.spots)
            parts.append(f"{line.name}: {told}")
    return "; ".join(parts)


def mark(style: int) -> Markup:
    """A line's marker for a legend."""
    style %= STYLES
    path = _PATHS[style].format(x=16, y=8)
    return Markup(
        f'<svg class="mark-line" viewBox="0 0 32 16" aria-hidden="true">'
        f'<path class="line l{style}" d="M2 8H30"/><path class="spot l{style}" d="{path}"/></svg>'
    )


def _grid(frame: Frame) -> list[str]:
    body = []
    for tick in (0, 25, 50, 75, 100):
        y = frame.y(tick / 100)
        body.append(f'<path class="grid" d="M{_LEFT} {y:g}H{frame.right:g}"/>')
        sign = "%" if tick == 100 else ""
        body.append(f'<text class="axis end" x="{_LEFT - 6}" y="{y + 4:g}">{tick}{sign}</text>')
    return body


def _ticks(scale: Scale, frame: Frame) -> list[str]:
    body = []
    bottom = frame.bottom
    for value, text in scale.ticks:
        x = frame.x(scale, value)
        body.append(f'<path class="grid" d="M{x:g} {_TOP}V{bottom + 4:g}"/>')
        body.append(f'<text class="axis" x="{x:g}" y="{bottom + 17:g}">{escape(text)}</text>')
    middle = (_LEFT + frame.right) / 2
    body.append(
        f'<text class="axis" x="{middle:g}" y="{bottom + 34:g}">{escape(scale.title)}</text>'
    )
    return body


def _line(line: Line, scale: Scale, shift: float, frame: Frame) -> list[str]:
    name = f"l{line.style % STYLES}"
    at = [(frame.x(scale, spot.x) + shift, frame.y(spot.value), spot) for spot in line.spots]
    body = []
    if len(at) > 1:
        path = "L".join(f"{x:g} {y:g}" for x, y, _ in at)
        body.append(f'<path class="line {name}" d="M{path}"/>')
    for x, y, spot in at:
        body.append(f"<g><title>{escape(line.name)}: {escape(spot.hint)}</title>")
        if spot.interval:
            low, high = map(frame.y, spot.interval)
            body.append(f'<path class="bar {name}" d="M{x:g} {low:g}V{high:g}"/>')
        path = _PATHS[line.style % STYLES].format(x=x, y=y)
        body.append(f'<path class="spot {name}" d="{path}"/></g>')
    return body
