"""Length by depth: the heat map of a series, and every number behind it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from mmneedle.reports import svg
from mmneedle.reports.textual.series import TOO_LONG, Answers, Series
from mmneedle.reports.words import percent, points
from mmneedle.runlog import STATUSES
from mmneedle.statistics import clustered, wilson


class Cell(msgspec.Struct, frozen=True):
    """A series at one length and depth."""

    length: int
    depth: int
    """In tenths of a per cent; -1: no single place."""
    n: int
    answered: int
    skipped: int
    """Samples past the model's window."""
    score: float | None
    interval: tuple[float, float] | None
    bounds: tuple[float, float]
    tokens: float | None
    statuses: dict[str, int]

    @property
    def state(self) -> str:
        """scored, skipped (all are past the window) or unanswered."""
        if self.score is not None:
            return "scored"
        return "skipped" if self.skipped == self.n else "unanswered"


def cells(of: Series) -> list[Cell]:
    """By length, then depth."""
    table = of.answers
    if table is None:
        return []
    keys = np.unique(np.column_stack([table.length, table.depth]), axis=0)
    return [
        _cell(table.chosen((table.length == length) & (table.depth == depth)), length, depth)
        for length, depth in keys.tolist()
    ]


def _cell(table: Answers, length: int, depth: int) -> Cell:
    known = table.answered
    hits, of = table.hits[known], table.of[known]
    total = float((hits / of).sum())
    n, answered = len(table), int(known.sum())
    interval = None
    if answered and (of == 1).all():
        interval = wilson(int(hits.sum()), answered)
    elif answered:
        interval = clustered(hits.tolist(), of.tolist())
    tokens = table.tokens[~np.isnan(table.tokens)]
    names = ["missing" if k == 0 else STATUSES[k - 1] for k in table.status.tolist()]
    return Cell(
        length=length,
        depth=depth,
        n=n,
        answered=answered,
        skipped=int((table.status == TOO_LONG).sum()),
        score=total / answered if answered else None,
        interval=interval,
        bounds=(total / n, (total + n - answered) / n),
        tokens=float(tokens.mean()) if len(tokens) else None,
        statuses=dict(sorted(Counter(names).items())),
    )


def heat(of: Series, found: list[Cell]) -> dict[str, Any] | None:
    """The map as a table: depths down, lengths along; None where the needle has no single place."""
    if not found or all(cell.depth < 0 for cell in found):
        return None
    lengths = sorted({cell.length for cell in found})
    depths = sorted({cell.depth for cell in found})
    at = {(cell.length, cell.depth): cell for cell in found}
    return {
        "lengths": [f"{length:,}" for length in lengths],
        "wide": len(lengths) > 9,
        "unit": of.unit,
        "rows": [
            (depth_name(depth), [_shown(at.get((length, depth))) for length in lengths])
            for depth in depths
        ],
        "skipped": any(cell.state == "skipped" for cell in found),
        "lacking": any(cell.state != "skipped" and cell.answered < cell.n for cell in found),
        "few": min(cell.n for cell in found),
        "most": max(cell.n for cell in found),
    }


def depth_name(depth: int) -> str:
    """A depth as tables show it."""
    return "any" if depth < 0 else f"{depth / 10:g} %"


def _shown(cell: Cell | None) -> dict[str, str]:
    if cell is None:
        return {"class": "none", "text": "", "hint": "not asked"}
    if cell.score is None:
        if cell.state == "skipped":
            return {"class": "skipped", "text": "–", "hint": "past the model's window: skipped"}
        return {"class": "none", "text": "?", "hint": f"none of {cell.n} answered"}
    step = min(len(svg.CIVIDIS) - 1, int(len(svg.CIVIDIS) * cell.score))
    low, high = cell.interval or (0.0, 1.0)
    star = "*" if cell.answered < cell.n else ""
    return {
        "class": f"f{step}",
        "text": f"{points(cell.score, 0)}{star}",
        "hint": (
            f"{percent(cell.score)} %, 95 % interval {percent(low)} to {percent(high)}, "
            f"{cell.answered} of {cell.n} answered"
        ),
    }


def numbers(found: list[Cell]) -> Iterator[tuple[str, ...]]:
    """A row for each length and depth: length, depth, score, interval, answered, tokens, status."""
    for cell in found:
        interval, score = "–", "–"
        if cell.score is not None and cell.interval is not None:
            score = percent(cell.score)
            interval = f"{percent(cell.interval[0])} to {percent(cell.interval[1])}"
        bounds = ""
        if cell.answered < cell.n and cell.state != "skipped":
            bounds = f"{percent(cell.bounds[0])} to {percent(cell.bounds[1])}"
        yield (
            f"{cell.length:,}",
            depth_name(cell.depth),
            score,
            interval,
            bounds or "–",
            f"{cell.answered} of {cell.n}",
            "–" if cell.tokens is None else f"{cell.tokens:,.0f}",
            ", ".join(f"{count} {status}" for status, count in cell.statuses.items()),
        )
