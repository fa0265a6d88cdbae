"""The first look: how good, where, and when it makes things up, a row a run.

Two tables, settings as columns: Exact on positives, and the share of absent photos for which the
model names a place all the same. A sentence above each says what stands out.
"""

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from mmneedle.comparing import TWINS, Columns, board
from mmneedle.outcomes import KINDS, UNDEFINED, Outcomes, outcomes
from mmneedle.reports import svg
from mmneedle.reports.entries import Entry
from mmneedle.reports.panels import in_order, named, shaped
from mmneedle.reports.standings import Cell, chance, mean_chance
from mmneedle.reports.words import many, short
from mmneedle.reports.words import percent as plain
from mmneedle.runlog import Run
from mmneedle.statistics.ranking import Rank
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


class Glanced(msgspec.Struct, frozen=True):
    """A run at a glance."""

    label: str
    cells: Cells
    """Its scores by the leading scorer."""
    run: Run

    @property
    def about(self) -> tuple[str, str]:
        """What has to be the same for runs to be compared: data set and task, twins being one."""
        task = self.run.header.task
        return self.run.header.dataset_fingerprint, TWINS[0] if task in TWINS else task


def glance(runs: Sequence[Glanced]) -> list[dict[str, Any]]:
    """Both tables, for each data set and task and each number of needles that the runs have.

    Runs of different data sets were asked different questions: nothing is said across them.
    """
    tables = [outcomes(of.run) if len(runs) > 1 else {} for of in runs]
    abouts = list(dict.fromkeys(of.about for of in runs))
    return [
        _group(of, columns, len(abouts) > 1)
        for about in abouts
        for columns in _columns([of.cells for of in runs if of.about == about])
        if (of := [(one, t) for one, t in zip(runs, tables, strict=True) if one.about == about])
    ]


def _columns(runs: Sequence[Cells]) -> list[list[Setting]]:
    """The settings of runs, a list for each number of needles."""
    settings = sorted({setting for cells in runs for setting in cells}, key=in_order)
    return [list(some) for _, some in groupby(settings, key=lambda at: at.needles)]


def _group(
    runs: Sequence[tuple[Glanced, Columns]], columns: Sequence[Setting], several: bool
) -> dict[str, Any]:
    found = [Row(of.label, tuple(_exact(of.cells.get(at)) for at in columns)) for of, _ in runs]
    alarms = [
        Row(
            of.label,
            tuple(made_up(cell.negative) if (cell := of.cells.get(at)) else None for at in columns),
        )
        for of, _ in runs
    ]
    kept = [{at: table for at, table in of.items() if at in columns} for _, of in runs]
    spared = [{at: _spared(table) for at, table in of.items()} for of in kept]
    lone = len(runs) == 1
    blind = Row("chance", tuple(map(chance, columns)))
    fingerprint, task = runs[0][0].about
    return {
        "needles": columns[0].needles,
        "about": f"task {task}, data set {short(fingerprint)}" if several else "",
        "columns": [(named(at), shaped(at)) for at in columns],
        "tables": [
            _table(
                "How good, and where",
                _found(found, columns, [] if lone else board(kept).ranks),
                found,
                svg.CIVIDIS,
                "f",
                blind,
            ),
            _table(
                "When it makes things up",
                _alarms(alarms, columns, [] if lone else board(spared, "specificity").ranks),
                alarms,
                svg.PURPLES,
                "a",
            ),
        ],
    }


def _spared(table: Outcomes) -> Outcomes:
    """The same with a negative counted right where no place is named, readable or not."""
    marks = table.marks["robust"]
    alarm = (marks.kind == KINDS.index("hallucinated") + 1).reshape(len(table), -1).any(axis=1)
    existence = np.where(marks.existence == UNDEFINED, marks.existence, ~alarm).astype(np.int8)
    changed = msgspec.structs.replace(marks, existence=existence)
    return msgspec.structs.replace(table, marks={**table.marks, "robust": changed})


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
        "known": bool(_known(rows)),
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


def _found(rows: Sequence[Row], columns: Sequence[Setting], ranks: Sequence[Rank]) -> str:
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
    return f"{_compared(rows, ranks, _FOUND)}{guess}"


def _alarms(rows: Sequence[Row], columns: Sequence[Setting], ranks: Sequence[Rank]) -> str:
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
    return _compared(rows, ranks, _MADE_UP)


class _Words(msgspec.Struct, frozen=True):
    """How several models are told apart: verbs for one and for several, and what is counted."""

    best: tuple[str, str]
    last: str
    each: tuple[str, str]
    whole: str


_FOUND = _Words(("finds most", "find most"), "least", ("finds", "find"), "of what is there")
_MADE_UP = _Words(
    ("makes least up", "make least up"),
    "most",
    ("names a place for", "name a place for"),
    "of what is not there",
)


def _compared(rows: Sequence[Row], ranks: Sequence[Rank], words: _Words) -> str:
    """One sentence that names as best and last only what the ranks tell apart."""
    known = [(row, rank) for row, rank in zip(rows, ranks, strict=True) if row.mean is not None]
    first = [row for row, rank in known if rank.best == 1]
    last = [row for row, rank in known if rank.best > 1 and rank.worst == len(rows)]
    unlike = len({tuple(value is None for value in row.values) for row, _ in known}) > 1
    note = " Their means cover different settings; ranks compare common samples." if unlike else ""
    over = "" if unlike else _over(known[0][0])
    if len(known) == 1:
        what = f"{words.each[0]} {_span(first)} {words.whole}{over}"
        return f"Only {first[0].label} has answers: it {what}."
    if len(first) == len(known):
        if len({plain(row.mean) for row in first}) == 1:
            text = f"{_names(first)} {words.each[1]} {_span(first)} {words.whole}{over}"
            return f"{text}, all alike.{note}" if len(first) > 2 else f"{text}, both alike.{note}"
        return (
            f"The data cannot tell {_names(first)} apart: they {words.each[1]} {_span(first)} "
            f"{words.whole}{over}.{note}"
        )
    text = f"{_names(first)} {words.best[len(first) > 1]}, {_span(first)} {words.whole}{over}"
    if len(first) > 1:
        text += " (the data cannot tell them apart)"
    if last:
        text += f"; {_names(last)} {words.last}, {_span(last)}"
    return f"{text}.{note}"


def _names(rows: Sequence[Row]) -> str:
    """Up to three names, else how many."""
    labels = [row.label for row in rows]
    if len(labels) > 3:
        return f"{len(labels)} models"
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def _span(rows: Sequence[Row]) -> str:
    """The rows' means: one figure, two, or the range."""
    means = [row.mean for row in rows if row.mean is not None]
    shown = list(dict.fromkeys(map(plain, means)))
    if len(shown) > 2:
        shown = [plain(min(means)), plain(max(means))]
        return f"{shown[0]} to {shown[1]}\u00a0%"
    return f"{' and '.join(shown)}\u00a0%"


def shades() -> str:
    """The style sheet's lines for the cells of both tables."""
    lines = []
    for name, colours in (("f", svg.CIVIDIS), ("a", svg.PURPLES)):
        for step, colour in enumerate(colours):
            ink = {"dark": "#000", "light": "#fff"}[svg.ink(colour)]
            lines.append(f"td.{name}{step} {{ background: {colour}; color: {ink}; }}")
    return "\n".join(lines)
