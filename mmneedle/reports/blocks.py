"""A table of a leaderboard as blocks of cells, one block a score, ready for any format.

Every figure that a leaderboard shows is made here, once: markdown, LaTeX and HTML only dress it.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from mmneedle.reports.entries import Entry
from mmneedle.reports.standings import (
    Cell,
    Line,
    Table,
    chance,
    mean_chance,
    youden_chance,
)
from mmneedle.reports.words import percent, points, signed
from mmneedle.statistics.ranking import Rank
from mmneedle.types import Setting

TITLES = {
    "exact": "Exact, % of positives",
    "existence": "Existence: J (sensitivity / specificity, %)",
    "index": "Index, % of positives",
    "first_exact": "First needle: Exact, % of positives",
    "first_index": "First needle: Index, % of positives",
    "all_exact": "Each needle: Exact, % of needles",
    "all_index": "Each needle: Index, % of needles",
}
"""Blocks in their order."""


class Shown(msgspec.Struct, frozen=True):
    """One figure of one row."""

    text: str
    """Without a unit; – where there is none."""
    value: float | None = None
    """What it is sorted by."""
    interval: str = ""
    """95 %, such as "80.1–89.0"."""
    sides: tuple[str, ...] = ()
    """Existence: sensitivity and specificity."""
    sight: str = ""
    """Pixels a cell as the model gets it, such as "96 px"."""
    best: bool = False
    """The best of its column, or not to be told from it."""
    incomplete: bool = False
    """Some answers are missing."""
    partial: bool = False
    """A mean over fewer settings than another row's."""
    rank: str = ""
    """On this setting."""
    both: tuple[Entry | None, ...] = ()
    """The entries that `sides` are of."""


NOTHING = Shown("–")


class Block(msgspec.Struct, frozen=True):
    """One score of all rows of a table."""

    key: str
    title: str
    rows: tuple[tuple[Shown, ...], ...]
    """By line and setting of the table."""
    means: tuple[Shown, ...]
    """By line."""
    chance: tuple[str, ...]
    """By setting."""
    mean_chance: str
    ranked: bool
    """Whether the table's ranks are by this score."""


def blocks(table: Table, *, by_youden: bool = False) -> list[Block]:
    """The blocks that a table has a figure for, that of its ranks first.

    Args:
        table: rows that can be compared.
        by_youden: its ranks are by existence, not by exact accuracy.
    """
    order = sorted(TITLES, key=lambda key: by_youden and key != "existence")
    made = [_block(table, key, by_youden) for key in order]
    return [
        block for block in made if any(cell.value is not None for row in block.rows for cell in row)
    ]


def _block(table: Table, key: str, by_youden: bool) -> Block:
    ranked = table.ranked and key == ("existence" if by_youden else "exact")
    cell_of: Callable[[Cell, str], Shown] = _existence if key == "existence" else _figure
    rows = [
        [
            cell_of(cell, key) if (cell := line.cells.get(setting)) is not None else NOTHING
            for setting in table.settings
        ]
        for line in table.lines
    ]
    means = [_mean(line, key) for line in table.lines]
    most = sum(any(row[at].value is not None for row in rows) for at in range(len(table.settings)))
    means = [
        msgspec.structs.replace(mean, partial=0 < sum(one.value is not None for one in row) < most)
        for mean, row in zip(means, rows, strict=True)
    ]
    if len(table.lines) > 1:
        for at, setting in enumerate(table.settings):
            ranks = [_rank(line.cells.get(setting)) if ranked else None for line in table.lines]
            for row, best in zip(rows, _best([row[at] for row in rows], ranks), strict=True):
                row[at] = msgspec.structs.replace(row[at], best=best)
        places = [line.rank if ranked else None for line in table.lines]
        full = [line.scored == len(table.settings) for line in table.lines]
        candidates = [mean if whole else NOTHING for mean, whole in zip(means, full, strict=True)]
        means = [
            msgspec.structs.replace(mean, best=best)
            for mean, best in zip(means, _best(candidates, places), strict=True)
        ]
    chances, whole = _chances(table, key)
    return Block(key, TITLES[key], tuple(map(tuple, rows)), tuple(means), chances, whole, ranked)


def _best(cells: Sequence[Shown], ranks: Sequence[Rank | None]) -> list[bool]:
    """Which cells of a column are the best: as shown, or because the data cannot tell."""
    known = [cell for cell in cells if cell.value is not None]
    if not known:
        return [False] * len(cells)
    top = max(known, key=lambda cell: cell.value or 0.0).text
    return [
        cell.value is not None and (cell.text == top or (rank is not None and rank.best == 1))
        for cell, rank in zip(cells, ranks, strict=True)
    ]


def _rank(cell: Cell | None) -> Rank | None:
    return cell.rank if cell is not None else None


def _figure(cell: Cell, key: str) -> Shown:
    entry = cell.positive
    if entry is None or entry.value(key) is None:
        return NOTHING
    interval = entry.interval.get(key)
    return Shown(
        text=entry.shown(key),
        value=entry.value(key),
        interval=span(interval, percent) if interval else "",
        sight=f"{entry.effective_cell} px" if entry.effective_cell and key == "exact" else "",
        incomplete=not cell.complete,
        rank=str(cell.rank or ""),
    )


def _existence(cell: Cell, key: str) -> Shown:
    if not cell.entries:
        return NOTHING
    interval = cell.youden_interval
    return Shown(
        text=signed(cell.youden),
        value=cell.youden,
        interval=span(interval, signed) if interval else "",
        sides=tuple(
            "–" if entry is None else entry.shown(key) for entry in (cell.positive, cell.negative)
        ),
        incomplete=not cell.complete,
        rank=str(cell.rank or ""),
        both=(cell.positive, cell.negative),
    )


def span(interval: tuple[float, float], write: Callable[[float], str]) -> str:
    """An interval as text."""
    low, high = map(write, interval)
    return f"{low} to {high}" if "−" in low + high else f"{low}–{high}"


def _mean(line: Line, key: str) -> Shown:
    if key == "existence":
        value = line.mean("youden")
        return Shown(signed(value), value)
    values = [cell.positive.value(key) for cell in line.cells.values() if cell.positive]
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    return Shown(percent(mean), mean)


def _chances(table: Table, key: str) -> tuple[tuple[str, ...], str]:
    """The chance level of each setting, and of their mean."""
    if key == "existence":
        text = signed(youden_chance(table.needles))
        return (text,) * len(table.settings), text
    if key == "exact":
        mean = mean_chance(table.settings)
        return tuple(small(chance(at)) for at in table.settings), small(mean)
    values = [_marginal(at, key) for at in table.settings]
    known = [value for value in values if value is not None]
    return tuple(map(small, values)), small(sum(known) / len(known) if known else None)


def _marginal(setting: Setting, key: str) -> float | None:
    """Chance of one needle's image or cell; None for all images at once: it has no short form."""
    if setting.needles > setting.cells or (key == "index" and setting.needles > 1):
        return None
    return 1 / setting.images if key.endswith("index") else 1 / setting.cells


def small(value: float | None) -> str:
    """A chance level as per cent: digits enough to see it."""
    if value is None:
        return "–"
    return points(value) if value >= 0.01 else f"{100 * value:.2g}"


def marks(line: Line, table: Table) -> str:
    """What stands after a row's name: † published, § submitted, ‡ fewer samples."""
    return "".join(
        mark
        for mark, holds in (
            ("†", line.origin == "published"),
            ("§", line.origin == "submitted"),
            ("‡", table.fewer(line) and line.origin != "published"),
        )
        if holds
    )


def any_fewer(tables: Iterable[Table]) -> bool:
    """Whether a row of these tables has the mark for fewer samples."""
    return any("‡" in marks(line, table) for table in tables for line in table.lines)


def any_partial(made: Iterable[Block]) -> bool:
    """Whether a mean of these blocks is over fewer settings than another one."""
    return any(mean.partial for block in made for mean in block.means)


PARTIAL = "¶ A mean over fewer settings than other rows have: not to be compared with theirs."
FEWER = (
    "‡ Fewer samples than another row of the table: its figures are less certain, and of other "
    "samples in part."
)
