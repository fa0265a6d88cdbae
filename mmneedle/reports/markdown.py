"""Standings as GitHub's markdown."""

from collections.abc import Sequence

from mmneedle.reports.blocks import PARTIAL, Block, Shown, any_partial, blocks, marks
from mmneedle.reports.standings import Line, Table
from mmneedle.reports.words import escape, label, percent, short


def markdown_table(table: Table, *, by_youden: bool = False) -> str:
    """A heading, a table for each score, and the notes."""
    made = blocks(table, by_youden=by_youden)
    parts = [f"### {_heading(table)}", *(_block(table, block) for block in made)]
    notes = [*table.notes, *([PARTIAL] if any_partial(made) else [])]
    if notes:
        parts.append("\n".join(f"- {escape(note)}" for note in notes))
    return "\n\n".join(parts)


def _heading(table: Table) -> str:
    if table.published:
        return "Published † (arXiv:2406.11230v2), `paper` scorer"
    return f"`{table.scorer}` scorer, data set `{short(table.dataset or '')}`"


def _block(table: Table, block: Block) -> str:
    """A table of one score; that of Exact has the numbers of samples."""
    first = block.key == "exact"
    head = [block.title, *map(label, table.settings), _mean_head(block)]
    if first:
        head += ["n", "answered"]
    ranks = block.ranked
    rows = [["rank", *head] if ranks else head]
    for line, cells, mean in zip(table.lines, block.rows, block.means, strict=True):
        row = [_name(line, table), *map(_cell, cells), _mean(mean)]
        if first:
            row += [line.asked, _coverage(line)]
        rows.append([str(line.rank or "–"), *row] if ranks else row)
    chance = ["*chance*", *(f"*{text}*" for text in (*block.chance, block.mean_chance))]
    if first:
        chance += ["", ""]
    rows.append(["", *chance] if ranks else chance)
    return _markdown(rows, text=2 if ranks else 1)


def _mean_head(block: Block) -> str:
    return "mean J" if block.key == "existence" else "mean"


def _markdown(rows: Sequence[Sequence[str]], text: int) -> str:
    """A table with the first row as its head; the first columns are text, the rest figures."""
    head, *body = rows
    rule = [":--" if i < text else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def _name(line: Line, table: Table) -> str:
    found = marks(line, table)
    return escape(line.label) + (f" {found}" if found else "")


def _cell(cell: Shown) -> str:
    text = cell.text
    if cell.sides:
        text += f" ({' / '.join(cell.sides)})"
    if cell.sight:
        text += f" ({cell.sight})"
    return f"{text} \\*" if cell.incomplete else text


def _mean(mean: Shown) -> str:
    return f"{mean.text} ¶" if mean.partial else mean.text


def _coverage(line: Line) -> str:
    return "–" if line.coverage is None else f"{percent(line.coverage)} %"
