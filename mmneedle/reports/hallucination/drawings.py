"""Figures of the hallucination section, in the manner of `reports/svg.py`."""

import math
from collections.abc import Mapping, Sequence

import msgspec
from markupsafe import Markup, escape

from mmneedle.reports import svg
from mmneedle.reports.hallucination.calibration import Calibration
from mmneedle.reports.hallucination.detection import Detection, Landmark
from mmneedle.reports.hallucination.inference import Ints
from mmneedle.reports.hallucination.suspects import Measured
from mmneedle.reports.panels import named
from mmneedle.reports.words import many, percent, points, signed
from mmneedle.statistics.shares import Share
from mmneedle.types import Setting

_LEFT, _RIGHT, _PITCH, _TOP = 74, svg.WIDTH - 16, 32, 6


class _Scale(msgspec.Struct, frozen=True):
    """Values low..high along an axis from `start` to `end`."""

    low: float
    high: float
    start: float = _LEFT
    end: float = _RIGHT

    def at(self, value: float) -> float:
        part = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * part, 2)


def youden(rows: Sequence[Detection], marks: Sequence[Landmark]) -> Markup:
    """J by setting with its interval, the line of chance, and the paper's models as ticks."""
    known = [row for row in rows if row.youden is not None and row.youden_interval]
    reach = [0.0, *(row.youden_interval[0] for row in known if row.youden_interval)]
    reach += [one.youden for one in marks]
    scale = _Scale(max(-1.0, math.floor(4 * (min(reach) - 0.05)) / 4), 1.0)
    bottom = _TOP + _PITCH * len(known)
    body = []
    for tick in (-1.0, -0.5, 0.0, 0.5, 1.0):
        if tick < scale.low:
            continue
        x, kind = scale.at(tick), "chance" if tick == 0 else "grid"
        body.append(f'<path class="{kind}" d="M{x:g} {_TOP}V{bottom}"/>')
        word = "chance" if tick == 0 else f"{tick:g}".replace("-", "−")
        body.append(f'<text class="axis" x="{x:g}" y="{bottom + 16}">{word}</text>')
    for i, row in enumerate(known):
        body += _youden_row(row, _TOP + _PITCH * i + _PITCH / 2, scale, marks)
    return svg.figure(
        svg.WIDTH,
        bottom + 26,
        "Youden’s J by setting, 0 is chance",
        "; ".join(_youden_text(row) for row in known),
        body,
        "dots",
    )


def _youden_row(row: Detection, y: float, scale: _Scale, marks: Sequence[Landmark]) -> list[str]:
    assert row.youden is not None and row.youden_interval is not None
    name = "all" if row.setting is None else named(row.setting)
    body = [f'<text class="name end" x="{_LEFT - 10}" y="{y + 4:g}">{escape(name)}</text>']
    body.append(f'<path class="rail" d="M{_LEFT} {y:g}H{_RIGHT}"/>')
    for one in marks:
        if one.setting == row.setting:
            x, hint = scale.at(one.youden), f"{one.model}, as published: J {signed(one.youden)}"
            body.append(
                f'<g><title>{escape(hint)}</title><path class="published" '
                f'd="M{x:g} {y + 5:g}l4 8h-8z"/></g>'
            )
    low, high = (scale.at(end) for end in row.youden_interval)
    body.append(f'<path class="whisker s0" d="M{low:g} {y:g}H{high:g}"/>')
    body.append(
        f"<g><title>{escape(_youden_text(row))}</title>"
        f'<circle class="dot s0" cx="{scale.at(row.youden):g}" cy="{y:g}" r="5.5"/></g>'
    )
    return body


def _youden_text(row: Detection) -> str:
    name = "all settings" if row.setting is None else named(row.setting)
    low, high = row.youden_interval or (-1.0, 1.0)
    return f"{name}: J {signed(row.youden)} ({signed(low)} to {signed(high)})"


def alarms(sizes: Sequence[tuple[int, Share]]) -> Markup:
    """False alarms by the haystack's cells."""
    rows = [svg.Row(many(cells, "cell"), (_point(part),)) for cells, part in sizes]
    return svg.dots(
        rows,
        title="False alarms by the size of the haystack",
        description="; ".join(f"{row.name}: {percent(row.points[0].value)} %" for row in rows),
    )


def suspects(measured: Sequence[Measured], title: str, words: Mapping[str, str]) -> Markup:
    """Each suspect's share with its interval, chance as a tick; what is claimed is marked."""
    rows = [
        svg.Row(
            f"{'▸ ' if one.claimed else ''}{words.get(one.key, one.label)}",
            (_point(one.seen),),
            one.expected,
        )
        for one in measured
    ]
    described = "; ".join(
        f"{words.get(one.key, one.label)}: {percent(one.seen.value)} % of {one.seen.n}, chance "
        f"{percent(one.expected)} %{', beyond chance' if one.claimed else ''}"
        for one in measured
    )
    return svg.dots(rows, title=title, description=described, stacked=True)


def thirds(parts: Mapping[str, Sequence[Share]]) -> Markup:
    """Exact accuracy and false alarms by thirds of ambiguity."""
    names = ("clearest third", "middle third", "most ambiguous")
    rows = [
        svg.Row(
            name,
            tuple(
                _point(parts[column][k]) if column in parts else svg.Point(None)
                for column in ("exact", "alarms")
            ),
        )
        for k, name in enumerate(names)
    ]
    return svg.dots(
        rows,
        title="Exact accuracy and false alarms by the caption’s ambiguity",
        description="; ".join(
            f"{row.name}: exact {percent(row.points[0].value)} %, false alarms "
            f"{percent(row.points[1].value)} %"
            for row in rows
        ),
    )


def _point(part: Share) -> svg.Point:
    return svg.Point(part.value, part.interval if part.n else None)


def by_image(setting_images: int, counts: Sequence[Share]) -> Markup:
    """Which image is named when nothing is there."""
    rows = [svg.Row(str(i), (_point(part),)) for i, part in enumerate(counts, 1)]
    return svg.columns(
        rows,
        title=f"Image that is named though nothing is there, of {setting_images}",
        description="; ".join(
            f"image {row.name}: {part.hits} of {part.n}"
            for row, part in zip(rows, counts, strict=True)
        ),
        axis=f"image named (chance: {percent(1 / setting_images, 0)} % each)",
        texts=["" if part.value is None else points(part.value, 0) for part in counts],
    )


def offsets(counts: Ints) -> Markup:
    """Where the given cell lies from the true one, in the right image."""
    side, total = len(counts), int(counts.sum())
    reach = side // 2
    steps = [f"{step:+d}".replace("-", "−") if step else "0" for step in range(-reach, reach + 1)]
    shares = [
        [None if r == c == reach else counts[r][c] / total for c in range(side)]
        for r in range(side)
    ]
    top = max(value for row in shares for value in row if value is not None)
    (most,) = [
        (r, c)
        for r in range(side)
        for c in range(side)
        if shares[r][c] is not None and shares[r][c] == top
    ][:1]
    return svg.cell_map(
        shares,
        [[_whole(value) for value in row] for row in shares],
        [
            [
                "the true cell"
                if r == c == reach
                else f"{steps[r]} rows, {steps[c]} columns: {many(int(counts[r][c]), 'answer')}"
                for c in range(side)
            ]
            for r in range(side)
        ],
        title="Where wrong cells lie from the true one, rows down and columns along",
        description=(
            f"{many(total, 'answer')} within {reach} steps; the most, {percent(top)} %, at "
            f"{steps[most[0]]} rows and {steps[most[1]]} columns."
        ),
        colours=svg.PURPLES,
        top=top,
        axes=(steps, steps),
    )


def _whole(value: float | None) -> str:
    """Whole per cent, nothing for none."""
    return "" if not value else "<1" if value < 0.005 else points(value, 0)


def reliability(of: Calibration) -> Markup:
    """Probability of "-1" against how often nothing is there; the diagonal is right."""
    across = _Scale(0, 1, 44, 344)
    up = _Scale(0, 1, 246, 16)
    body = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y, word = across.at(tick), up.at(tick), f"{100 * tick:g}"
        body.append(f'<path class="grid" d="M{across.start:g} {y:g}H{across.end:g}"/>')
        body.append(f'<path class="grid" d="M{x:g} {up.start:g}V{up.end:g}"/>')
        body.append(f'<text class="axis" x="{x:g}" y="{up.start + 16:g}">{word}</text>')
        body.append(f'<text class="axis end" x="{across.start - 6:g}" y="{y + 4:g}">{word}</text>')
    body.append(
        f'<path class="chance" d="M{across.start:g} {up.start:g}L{across.end:g} {up.end:g}"/>'
    )
    line = " ".join(f"{across.at(b.mean):g},{up.at(b.absent.value or 0):g}" for b in of.bins)
    body.append(f'<polyline class="trace" points="{line}"/>')
    for one in of.bins:
        x, y = across.at(one.mean), up.at(one.absent.value or 0)
        low, high = (up.at(end) for end in one.absent.interval)
        hint = (
            f"P(−1) {percent(one.low)}–{percent(one.high)} %, {percent(one.mean)} % on average: "
            f"nothing is there in {one.absent.hits} of {one.absent.n}"
        )
        body.append(f'<path class="whisker s0" d="M{x:g} {low:g}V{high:g}"/>')
        body.append(
            f'<g><title>{escape(hint)}</title><circle class="dot s0" cx="{x:g}" cy="{y:g}" '
            'r="5"/></g>'
        )
    body.append(
        '<text class="axis" x="194" y="282">probability of “−1”, %</text>'
        '<text class="axis" transform="translate(12 131) rotate(-90)">nothing is there, %</text>'
    )
    return svg.figure(
        svg.WIDTH,
        290,
        "Reliability: probability of −1 against how often nothing is there",
        "; ".join(f"{percent(b.mean)} % said, {percent(b.absent.value)} % true" for b in of.bins),
        body,
        "reliability",
    )


def images_of(counts: Mapping[Setting, Ints]) -> dict[int, Ints]:
    """Cells named by image, over settings with as many images."""
    found: dict[int, Ints] = {}
    for setting, table in counts.items():
        if setting.images > 1 and table.sum():
            here = table.sum(axis=(1, 2))
            found[setting.images] = found.get(setting.images, 0 * here) + here
    return found
