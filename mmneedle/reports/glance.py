"""The first look: how good, where, and when it makes things up, a row a run.

Two tables, settings as columns: Exact on positives, and the share of absent photos for which the
model names a place all the same. A sentence above each says what stands out.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mmneedle.reports import svg
from mmneedle.reports.entries import Entry
from mmneedle.reports.panels import in_order, named, shaped
from mmneedle.reports.standings import Cell, chance, mean_chance
from mmneedle.reports.words import many
from mmneedle.reports.words import percent as plain
from mmneedle.types import Setting

Cells = Mapping[Setting, Cell]


def percent(value: float) -> str:
    """A share with its sign, on one line."""
    return f"{plain(value)}\u00a0%"


class Row(msgspec.Struct, frozen=True):
    """One run's shares by setting; None where nothing was answered."""

    label: str
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over the settings that have one."""
        known = [value for value in self.values if value is not None]
        return statistics.fmean(known) if known else None


def made_up(negative: Entry | None) -> float | None:
    """Absent photos for which a place is named, of all absent photos asked for and answered."""
    if negative is None or not negative.answered:
        return None
    named_cells = negative.kinds.get("hallucinated", 0)
    return named_cells / (negative.answered * negative.setting.needles)


def glance(runs: Sequence[tuple[str, Cells]]) -> list[dict[str, Any]]:
    """Both tables, for each number of needles that the runs have.

    Args:
        runs: each run's label and its scores by the leading scorer.
    """
    settings = sorted({setting for _, cells in runs for setting in cells}, key=in_order)
    groups = []
    for needles in sorted({setting.needles for setting in settings}):
        columns = [setting for setting in settings if setting.needles == needles]
        found = [
            Row(label, tuple(_exact(cells.get(at)) for at in columns)) for label, cells in runs
        ]
        alarms = [
            Row(
                label,
                tuple(
                    made_up(cell.negative) if (cell := cells.get(at)) else None for at in columns
                ),
            )
            for label, cells in runs
        ]
        blind = Row("chance", tuple(map(chance, columns)))
        groups.append(
            {
                "needles": needles,
                "columns": [(named(at), shaped(at)) for at in columns],
                "tables": [
                    _table(
                        "How good, and where",
                        _found(found, columns),
                        found,
                        svg.CIVIDIS,
                        "f",
                        blind,
                    ),
                    _table(
                        "When it makes things up",
                        _alarms(alarms, columns),
                        alarms,
                        svg.PURPLES,
                        "a",
                    ),
                ],
            }
        )
    return groups


def _exact(cell: Cell | None) -> float | None:
    return cell.exact if cell else None


def _table(
    heading: str,
    sentence: str,
    rows: Sequence[Row],
    colours: Sequence[str],
    name: str,
    blind: Row | None = None,
) -> dict[str, Any]:
    return {
        "heading": heading,
        "sentence": sentence,
        "rows": [
            {
                "label": row.label,
                "cells": [_shaded(value, colours, name) for value in row.values],
                "mean": row.mean,
            }
            for row in rows
        ],
        "chance": blind,
    }


def _shaded(value: float | None, colours: Sequence[str], name: str) -> tuple[float | None, str]:
    """A value and the class of its colour; the style sheet has both."""
    if value is None:
        return value, "none"
    return value, f"{name}{min(len(colours) - 1, int(len(colours) * value))}"


def _known(rows: Sequence[Row]) -> list[tuple[float, Row]]:
    return [(row.mean, row) for row in rows if row.mean is not None]


def _extremes(row: Row, columns: Sequence[Setting]) -> list[tuple[float, str]]:
    """The lowest and the highest value of a row and where; empty where they are the same."""
    known = [
        (value, named(at))
        for value, at in zip(row.values, columns, strict=True)
        if value is not None
    ]
    low, high = min(known, key=lambda one: one[0]), max(known, key=lambda one: one[0])
    return [low, high] if low[0] < high[0] else []


def _over(row: Row) -> str:
    settings = sum(value is not None for value in row.values)
    return f", on average over {many(settings, 'setting')}" if settings > 1 else ""


def _found(rows: Sequence[Row], columns: Sequence[Setting]) -> str:
    """What stands out among Exact accuracies."""
    known = _known(rows)
    if not known:
        return "No question whose photo is there was answered."
    blind = mean_chance(columns)
    guess = f" Naming cells at random finds {percent(blind)}." if blind is not None else ""
    best, first = max(known, key=lambda one: one[0])
    if len(rows) == 1:
        text = f"Finds {percent(best)} of what is there{_over(first)}"
        ends = _extremes(first, columns)
        if ends:
            (low, worst), (high, easiest) = ends
            text += f": most at {easiest}, {percent(high)}, least at {worst}, {percent(low)}"
        return f"{text}.{guess}"
    worst_mean, last = min(known, key=lambda one: one[0])
    if best == worst_mean:
        return f"All find {percent(best)} of what is there{_over(first)}.{guess}"
    return (
        f"{first.label} finds most, {percent(best)} of what is there{_over(first)}; "
        f"{last.label} least, {percent(worst_mean)}.{guess}"
    )


def _alarms(rows: Sequence[Row], columns: Sequence[Setting]) -> str:
    """What stands out among places named for what is not there."""
    known = _known(rows)
    if not known:
        return "No question whose photo is not there was answered."
    most, worst = max(known, key=lambda one: one[0])
    if len(rows) == 1:
        text = f"Names a place for {percent(most)} of what is not there{_over(worst)}"
        ends = _extremes(worst, columns)
        if ends:
            (low, best), (high, hardest) = ends
            text += f": least at {best}, {percent(low)}, most at {hardest}, {percent(high)}"
        return f"{text}."
    least, first = min(known, key=lambda one: one[0])
    if most == least:
        return f"All name a place for {percent(most)} of what is not there{_over(first)}."
    return (
        f"{worst.label} makes most up: it names a place for {percent(most)} of what is not "
        f"there{_over(worst)}; {first.label} least, {percent(least)}."
    )


def shades() -> str:
    """The style sheet's lines for the cells of both tables."""
    lines = []
    for name, colours in (("f", svg.CIVIDIS), ("a", svg.PURPLES)):
        for step, colour in enumerate(colours):
            ink = {"dark": "#000", "light": "#fff"}[svg.ink(colour)]
            lines.append(f"td.{name}{step} {{ background: {colour}; color: {ink}; }}")
    return "\n".join(lines)
