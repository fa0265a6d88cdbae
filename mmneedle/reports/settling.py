"""Convergence curves as text, JSON and CSV (docs/statistics.md)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmneedle.comparing import Measure
from mmneedle.curves import Settling, curves
from mmneedle.outcomes import outcomes
from mmneedle.reports.entries import run_names
from mmneedle.reports.rows_csv import csv_text
from mmneedle.reports.words import label, many, named, percent
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer

Found = Sequence[tuple[str, str, Settling]]
"""Run's name, its model, and a setting's curve."""
NAMES = ("run", "model", "setting", "sample", "n", "mean", "stderr")


def of_runs(runs: Sequence[Run], measure: Measure, scorer: Scorer) -> Found:
    """The curves of all settings of these runs."""
    return [
        (name, run.header.called, one)
        for name, run in zip(run_names(runs), runs, strict=True)
        for one in curves(outcomes(run), measure, scorer)
    ]


def rows(found: Found) -> Iterator[dict[str, Any]]:
    """Every point of every curve as plain values, under NAMES."""
    for name, model, one in found:
        for place, number in enumerate(one.number.tolist()):
            stderr = float(one.curve.stderr[place])
            mean = float(one.curve.mean[place])
            values = (name, model, one.setting.name, number, place + 1, mean)
            yield dict(zip(NAMES, (*values, None if math.isnan(stderr) else stderr), strict=True))


def csv(found: Found) -> str:
    """The same as CSV."""
    return csv_text(list(rows(found)), NAMES)


def steps(count: int) -> list[int]:
    """Where to look at a curve of so many samples: 1, 2, 5, 10, 20, ... and its end."""
    found = [m * 10**k for k in range(len(str(count))) for m in (1, 2, 5) if m * 10**k < count]
    return [*found, count] if count else []


def text(found: Found, measure: Measure, scorer: Scorer) -> str:
    """A line a curve: mean ± standard error at some numbers of samples."""
    lines = [
        f"{measure.capitalize()} ({scorer}) in per cent ± standard error, over the first n samples "
        "that were answered."
    ]
    for name, model, one in found:
        lines += ["", f"{named(model)} ({named(name)}), {label(one.setting)}:"]
        if not len(one.curve):
            lines.append("  no answers")
        lines += [f"  {line}" for line in _points(one)]
        if one.unanswered:
            lines.append(f"  {many(one.unanswered, 'sample')} without an answer left out")
    return "\n".join(lines)


def _points(one: Settling) -> Iterable[str]:
    ends = steps(len(one.curve))
    width = len(f"{ends[-1]:,}") if ends else 0
    for n in ends:
        stderr = float(one.curve.stderr[n - 1])
        told = "-" if math.isnan(stderr) else percent(stderr)
        yield f"{n:>{width},}  {percent(float(one.curve.mean[n - 1])):>5} ± {told}"
