"""A run's figures and the counts beside them, ready for the page's template."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mmneedle.reports import svg
from mmneedle.reports.entries import Entry
from mmneedle.reports.findings import NO_ANSWER, Findings, Tally
from mmneedle.reports.standings import Cell, Table, chance
from mmneedle.reports.words import label, many, percent, points, visible
from mmneedle.types import Setting

SCORERS = ("robust", "paper")
"""What the page shows: the first one leads, the second stands beside it."""
KINDS = {
    "right": "right",
    "wrong_cell": "wrong cell",
    "wrong_image": "wrong image",
    "out_of_range": "no such cell",
    "missed": "missed",
    "hallucinated": "hallucinated",
    "unparsed": "unreadable",
    "refused": "refused",
    "no_answer": "no answer",
}
"""What a needle's outcome is called, in the order of bars and tables."""
FEW = 5
"""Fewer needles a cell say little about the cell."""


# --------------------------------------------------------------------------- names


def named(setting: Setting) -> str:
    """(10,8), and the number of needles where it is not one."""
    needles = f" K={setting.needles}" if setting.needles > 1 else ""
    return label(setting) + needles


def shaped(setting: Setting) -> str:
    """A setting in words: "10 images of 8 × 8 photos"."""
    cells = setting.rows * setting.cols
    text = many(setting.images, "image")
    if cells > 1:
        text += f" of {setting.rows} × {setting.cols} photos"
    if setting.needles > 1:
        text += f", {setting.needles} needles"
    return text


def in_order(setting: Setting) -> tuple[int, Setting]:
    """Sections go by the number of needles, then by the haystack's shape."""
    return setting.needles, setting


# --------------------------------------------------------------------------- comparison


def comparison(table: Table, setting: Setting) -> dict[str, Any]:
    """The models of a table on one setting, best first."""
    lines = [line for line in table.lines if setting in line.cells]
    rows = [
        svg.Row(
            visible(line.label), (_point(line.cells[setting].positive, "exact"),), chance(setting)
        )
        for line in lines
    ]
    described = "; ".join(f"{row.name} {percent(row.points[0].value)} %" for row in rows)
    return {
        "caption": f"{named(setting)}: {shaped(setting)}",
        "figure": svg.dots(
            rows, title=f"Exact accuracy at {named(setting)}", description=described, stacked=True
        ),
    }


def _point(entry: Entry | None, metric: str) -> svg.Point:
    if entry is None or entry.value(metric) is None:
        return svg.Point(None)
    return svg.Point(entry.value(metric), entry.interval.get(metric))


# --------------------------------------------------------------------------- scores


def scores(robust: Mapping[Setting, Cell], official: Mapping[Setting, Cell]) -> dict[str, Any]:
    """Exact accuracy by both scorers, and existence as hits against false alarms."""
    exact = [
        svg.Row(
            named(setting),
            (
                _point(cell.positive, "exact"),
                svg.Point(official[setting].exact if setting in official else None),
            ),
            chance(setting),
        )
        for setting, cell in robust.items()
    ]
    existence = [
        svg.Row(named(setting), (_point(cell.positive, "existence"), _alarms(cell.negative)))
        for setting, cell in robust.items()
    ]
    return {
        "exact_figure": svg.dots(
            exact,
            title="Exact accuracy on positives",
            description="; ".join(
                f"{row.name}: robust {percent(row.points[0].value)} %, paper "
                f"{percent(row.points[1].value)} %"
                + ("" if row.chance is None else f", chance {percent(row.chance)} %")
                for row in exact
            ),
        ),
        "existence_figure": svg.dumbbells(
            existence,
            title="How often the model says that the photo is there",
            description="; ".join(
                f"{row.name}: {percent(row.points[0].value)} % when it is, "
                f"{percent(row.points[1].value)} % when it is not"
                for row in existence
            ),
        ),
    }


def _alarms(negative: Entry | None) -> svg.Point:
    """False alarms: one minus the existence score of negatives."""
    point = _point(negative, "existence")
    if point.value is None:
        return point
    interval = point.interval and (1 - point.interval[1], 1 - point.interval[0])
    return svg.Point(1 - point.value, interval)


# --------------------------------------------------------------------------- outcomes


def outcomes(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """How answers end, for each split: a figure and the table under it."""
    groups = []
    for split, heading in (("positive", "When it is there"), ("negative", "When it is not")):
        chosen = [e for e in entries if e.scorer == SCORERS[0] and e.split == split]
        counts = {
            entry.setting: _outcomes(entry)
            for entry in sorted(chosen, key=lambda e: in_order(e.setting))
        }
        names = [name for name in KINDS if any(of.get(name) for of in counts.values())]
        bars = [
            svg.Bar(named(setting), tuple((f"k-{n}", KINDS[n], of.get(n, 0)) for n in names))
            for setting, of in counts.items()
        ]
        described = "; ".join(
            f"{bar.name}: " + ", ".join(f"{what} {count}" for _, what, count in bar.parts)
            for bar in bars
        )
        if bars:
            groups.append(
                {
                    "heading": heading,
                    "names": names,
                    "figure": svg.stacks(bars, title=heading, description=described),
                    "rows": [
                        (named(setting), [of.get(name, 0) for name in names])
                        for setting, of in counts.items()
                    ],
                }
            )
    return groups


def _outcomes(entry: Entry) -> dict[str, int]:
    """Needles by outcome, right ones and those without an answer included."""
    needles = entry.setting.needles
    answered = entry.answered or 0
    wrong = {kind: count for kind, count in entry.kinds.items() if count}
    return {
        "right": answered * needles - sum(wrong.values()),
        **wrong,
        NO_ANSWER: (entry.n - answered) * needles,
    }


# --------------------------------------------------------------------------- where


def places(found: Sequence[Findings]) -> list[dict[str, Any]]:
    """Figures of where needles are found and where the model points, kind by kind."""
    wide = [of for of in found if of.setting.rows * of.setting.cols > 1]
    cells = [of for of in wide if _asked(of)]
    images = [of for of in found if of.setting.images > 1 and _asked(of)]
    pointed = [of for of in wide if of.false_alarms]
    groups: list[dict[str, Any]] = [
        {
            "heading": "By the cell that holds the needle",
            "text": "Exact accuracy in per cent, by row and column, over all images.",
            "figures": [
                {**_placed(of, _cell_figure(of), _range(of.cells)), "few": _few(of)} for of in cells
            ],
            "ramp": ("0 %", svg.ramp(svg.CIVIDIS), "100 %"),
        },
        {
            "heading": "By the image that holds the needle",
            "text": "Accuracy in per cent, by the place of the true image among all images.",
            "figures": [
                {**_placed(of, _image_figure(of), _range([of.images])), "size": "size8"}
                for of in images
            ],
            "ramp": None,
        },
        {
            "heading": "Named although it is not there",
            "text": "False alarms by the cell that was named, in per cent of all, over all images.",
            "figures": [
                _placed(of, _pointed_figure(of), many(of.false_alarms, "false alarm"))
                for of in pointed
            ],
            "ramp": ("none", svg.ramp(svg.PURPLES), "the most"),
        },
    ]
    return [group for group in groups if group["figures"]]


def _asked(found: Findings) -> int:
    """Needles that were there and asked for in an answered question."""
    return sum(tally.total for tally in found.images)


def _few(found: Findings) -> bool:
    """Whether some cell's accuracy stands on fewer than FEW needles."""
    return min(tally.total for row in found.cells for tally in row) < FEW


def _placed(found: Findings, figure: Markup, note: str) -> dict[str, Any]:
    side = max(found.setting.rows, found.setting.cols)
    return {
        "label": named(found.setting),
        "note": note,
        "figure": figure,
        "size": f"size{side}",
        "few": False,
    }


def _range(tallies: Sequence[Sequence[Tally]]) -> str:
    """How many needles each figure of a group stands on."""
    sizes = sorted({tally.total for row in tallies for tally in row})
    span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"
    return f"{span} needle{'s' if sizes[-1] != 1 else ''} each"


def _cell_figure(found: Findings) -> Markup:
    rates = [[tally.exact_rate for tally in row] for row in found.cells]
    known = [rate for row in rates for rate in row if rate is not None]
    hints = [
        [
            f"row {r}, column {c}: {tally.exact} of {tally.total} found"
            for c, tally in enumerate(row, 1)
        ]
        for r, row in enumerate(found.cells, 1)
    ]
    return svg.cell_map(
        rates,
        [["" if rate is None else points(rate, 0) for rate in row] for row in rates],
        hints,
        title=f"Exact accuracy by true cell at {named(found.setting)}",
        description=(
            f"From {percent(min(known))} % to {percent(max(known))} % a cell."
            if known
            else "No answers."
        ),
    )


def _pointed_figure(found: Findings) -> Markup:
    total = found.false_alarms
    shares = [[count / total for count in row] for row in found.pointed]
    top = max(max(row) for row in shares)
    hints = [
        [f"row {r}, column {c}: named {many(count, 'time')}" for c, count in enumerate(row, 1)]
        for r, row in enumerate(found.pointed, 1)
    ]
    return svg.cell_map(
        shares,
        [[points(share, 0) if share else "" for share in row] for row in shares],
        hints,
        title=f"Cells named although the photo is not there, at {named(found.setting)}",
        description=f"{many(total, 'false alarm')}; the most for one cell is {percent(top)} %.",
        colours=svg.PURPLES,
        top=top,
    )


def _image_figure(found: Findings) -> Markup:
    rows = [
        svg.Row(
            str(i),
            (svg.Point(tally.exact_rate, tally.exact_interval), svg.Point(tally.index_rate)),
        )
        for i, tally in enumerate(found.images, 1)
    ]
    described = "; ".join(
        f"image {i}: cell {percent(tally.exact_rate)} %, image {percent(tally.index_rate)} % of "
        f"{tally.total}"
        for i, tally in enumerate(found.images, 1)
    )
    return svg.columns(
        rows,
        title=f"Accuracy by the image that holds the needle at {named(found.setting)}",
        description=described,
        axis="image that holds the needle",
        texts=[
            "" if tally.exact_rate is None else points(tally.exact_rate, 0)
            for tally in found.images
        ],
    )
