"""Standings as GitHub's markdown."""

from collections.abc import Sequence

from mmneedle.reports.entries import Entry
from mmneedle.reports.standings import Cell, Line, Table, chance, mean_chance, youden_chance
from mmneedle.reports.words import escape, label, percent, short, signed


def markdown_table(table: Table) -> str:
    """A heading, Exact, existence, and the notes."""
    parts = [f"### {_heading(table)}", _exact_table(table), _existence_table(table)]
    if table.notes:
        parts.append("\n".join(f"- {escape(note)}" for note in table.notes))
    return "\n\n".join(parts)


def _heading(table: Table) -> str:
    if table.published:
        return "Published † (arXiv:2406.11230v2), `paper` scorer"
    return f"`{table.scorer}` scorer, data set `{short(table.dataset or '')}`"


def _exact_table(table: Table) -> str:
    columns = [label(setting) for setting in table.settings]
    rows = [["Exact, % of positives", *columns, "mean", "n", "answered"]]
    for line in table.lines:
        cells = [_exact(line.cells.get(setting)) for setting in table.settings]
        rows.append([_name(line), *cells, percent(line.mean("exact")), line.asked, _coverage(line)])
    guesses = [*map(chance, table.settings), mean_chance(table.settings)]
    rows.append(["*chance*", *(f"*{_small(guess)}*" for guess in guesses), "", ""])
    return _markdown(rows)


def _existence_table(table: Table) -> str:
    columns = [label(setting) for setting in table.settings]
    rows = [["Existence: J (sensitivity / specificity, %)", *columns, "mean J"]]
    for line in table.lines:
        cells = [_existence(line.cells.get(setting)) for setting in table.settings]
        rows.append([_name(line), *cells, signed(line.mean("youden"))])
    blind = signed(youden_chance(table.needles))
    rows.append(["*chance*", *(f"*{blind}*" for _ in columns), f"*{blind}*"])
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table with the first row as its head; the first column is text, the rest are figures."""
    head, *body = rows
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _name(line: Line) -> str:
    return escape(line.label) + (" †" if line.origin == "published" else "")


def _exact(cell: Cell | None) -> str:
    if cell is None or cell.positive is None:
        return "–"
    text = cell.positive.shown("exact")
    if cell.positive.effective_cell:
        text += f" ({cell.positive.effective_cell} px)"
    return text if cell.complete else f"{text} \\*"


def _existence(cell: Cell | None) -> str:
    if cell is None or not cell.entries:
        return "–"
    sides = f"({_existing(cell.positive)} / {_existing(cell.negative)})"
    text = f"{signed(cell.youden)} {sides}"
    return text if cell.complete else f"{text} \\*"


def _existing(entry: Entry | None) -> str:
    return "–" if entry is None else entry.shown("existence")


def _coverage(line: Line) -> str:
    return "–" if line.coverage is None else f"{percent(line.coverage)} %"


def _small(value: float | None) -> str:
    """A chance level as per cent: digits enough to see it."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if value >= 0.01 else f"{100 * value:.2g}"
