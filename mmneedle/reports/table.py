"""Scores as an aligned text table for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmneedle.reports.words import named, points

if TYPE_CHECKING:
    from mmneedle.scoring import Row

_SCORES = ("existence", "index", "exact")
_SEVERAL = ("first_index", "first_exact", "all_index", "all_exact")


_HEADS = {"effective_cell": "px a cell"}


def score_table(rows: Sequence["Row"]) -> str:
    """One line a row; the figures of several needles only where there are any, in percent.

    "px a cell" is the side of a cell as the model gets it, after its provider's shrinking.
    """
    several = any(row.needles > 1 for row in rows)
    scores = _SCORES + _SEVERAL if several else _SCORES
    head = ["model", "images", "grid", "needles", "split", "scorer", "n", "answered"]
    if len({row.run for row in rows}) > len({row.model for row in rows}):
        head.insert(1, "run")  # two runs of one model
    if any(row.effective_cell for row in rows):
        head.insert(head.index("needles") + 1, "effective_cell")
    lines = [[_HEADS.get(name, name.replace("_", " ")) for name in (*head, *scores)]]
    lines += [
        ["-" if (value := getattr(row, name)) is None else named(str(value)) for name in head]
        + [_percent(getattr(row, name)) for name in scores]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [i for i, name in enumerate(head) if name in ("model", "run", "split", "scorer")]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else points(share, 2)
