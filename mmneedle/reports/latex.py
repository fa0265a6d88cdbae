"""Standings as LaTeX tables (booktabs), for a paper or by themselves.

The file compiles as it is, and it can be taken into a paper by \\input: what makes it a document
of its own is skipped there. Beside booktabs it needs nothing that LaTeX lacks.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmneedle import __version__
from mmneedle.reports.blocks import FEWER, PARTIAL, Block, Shown, any_partial, blocks, marks
from mmneedle.reports.standings import Line, Table, chance_note
from mmneedle.reports.tex import escape
from mmneedle.reports.words import label, many, percent, short

if TYPE_CHECKING:
    from mmneedle.reports.leaderboard import Leaderboard

_HEAD = r"""% Made by mmneedle %VERSION%. Compiles as it is;
% in a paper: \usepackage{booktabs}, then \input this file.
\makeatletter
\ifx\@nodocument\relax
  \let\mmneedleend\@gobble
\else
  \documentclass{article}
  \usepackage[utf8]{inputenc}
  \usepackage{booktabs}
  \usepackage[margin=15mm,landscape]{geometry}
  \let\mmneedleend\end
  \begin{document}
\fi
\makeatother
"""
_TAIL = "\n\\mmneedleend{document}\n"


def latex(board: "Leaderboard") -> str:
    """All tables of a leaderboard, each as a float with a caption and a note."""
    by_youden = board.sort == "youden"
    shown, same = board.told()
    parts = [
        _float(table, block, number)
        for number, table in enumerate(shown, 1)
        for block in blocks(table, by_youden=by_youden)
    ]
    notes = [_paragraph(text) for text in (*same, *board.notes())]
    head = _HEAD.replace("%VERSION%", __version__)
    return head + "\n" + "\n\n".join([*parts, *notes]) + "\n" + _TAIL


def _paragraph(text: str) -> str:
    return rf"\noindent{{\footnotesize {escape(text)}\par}}"


def _float(table: Table, block: Block, number: int) -> str:
    columns = len(table.settings) + 1 + len(_counts(table, block))
    names = "rl" if block.ranked else "l"
    lines = [
        r"\begin{table*}[tbp]",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_caption(table, block)}}}",
        rf"\label{{tab:mmneedle-{number}-{block.key.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{@{{}}{names}{'r' * columns}@{{}}}}",
        r"\toprule",
        _row(_head(table, block)),
        r"\midrule",
        *_body(table, block),
        r"\midrule",
        _row(_chance(table, block)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        " ".join(_notes(table, block)),
        r"\end{minipage}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


_CAPTIONS = {
    "exact": "Exact accuracy on positives, in per cent",
    "existence": "Existence: Youden's J, and below it sensitivity / specificity in per cent",
    "index": "Index accuracy on positives, in per cent",
    "first_exact": "Exact accuracy of the first needle, in per cent of positives",
    "first_index": "Index accuracy of the first needle, in per cent of positives",
    "all_exact": "Exact accuracy needle by needle, in per cent",
    "all_index": "Index accuracy needle by needle, in per cent",
}


def _caption(table: Table, block: Block) -> str:
    where = (
        "as published in arXiv:2406.11230v2"
        if table.published
        else f"data set {short(table.dataset or '')}"
    )
    text = (
        f"{_CAPTIONS[block.key]}: task {table.task}, {many(table.needles, 'needle')}, {where}, "
        f"{table.scorer} scorer. A column (N,s) has N images of s × s cells."
    )
    return escape(text)


def _head(table: Table, block: Block) -> list[str]:
    head = ["Model", *(f"({at[1:-1]})" for at in map(label, table.settings))]
    head.append("Mean J" if block.key == "existence" else "Mean")
    head += _counts(table, block)
    return ["Rank", *head] if block.ranked else head


def _counts(table: Table, block: Block) -> list[str]:
    """The columns that count samples; answers only where some are missing."""
    if block.key != "exact":
        return []
    whole = all(line.coverage in (None, 1) for line in table.lines)
    return ["$n$"] if whole else ["$n$", "Answered"]


def _body(table: Table, block: Block) -> Iterator[str]:
    """Two rows a model: figures, and below them intervals or what they are made of."""
    for at, (line, cells, mean) in enumerate(
        zip(table.lines, block.rows, block.means, strict=True)
    ):
        if at:
            yield r"\addlinespace"
        first = [_name(line, table), *map(_figure, cells), _figure(mean)]
        below = ["", *map(_below, cells), ""]
        if block.key == "exact":
            counts = [line.asked, "–" if line.coverage is None else percent(line.coverage)]
            more = counts[: len(_counts(table, block))]
            first, below = [*first, *map(escape, more)], [*below, *("" for _ in more)]
        if block.ranked:
            first, below = [escape(str(line.rank or "–")), *first], ["", *below]
        yield _row(first)
        if any(below):
            yield _row(below)
        yield from _further(table, block, cells)


def _further(table: Table, block: Block, cells: Sequence[Shown]) -> Iterator[str]:
    """A third row, where there is more to tell: pixels a cell, or the interval of J."""
    pad = [""] if block.ranked else []
    if block.key == "existence":
        more = [*pad, "", *(_tiny(cell.interval) for cell in cells), ""]
    else:
        counts = ("" for _ in _counts(table, block))
        more = [*pad, "", *(_tiny(cell.sight) for cell in cells), "", *counts]
    if any(more):
        yield _row(more)


def _name(line: Line, table: Table) -> str:
    found = marks(line, table)
    return escape(line.label) + (f"\\,{escape(found)}" if found else "")


def _figure(cell: Shown) -> str:
    text = escape(cell.text)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    text += r"\,\P{}" if cell.partial else ""
    return text + (r"\rlap{*}" if cell.incomplete else "")


def _below(cell: Shown) -> str:
    return _tiny(" / ".join(cell.sides) if cell.sides else cell.interval)


def _tiny(text: str) -> str:
    return rf"{{\tiny {escape(text)}}}" if text else ""


def _chance(table: Table, block: Block) -> list[str]:
    cells = [r"\emph{chance}", *map(escape, (*block.chance, block.mean_chance))]
    cells += ["" for _ in _counts(table, block)]
    return ["", *cells] if block.ranked else cells


def _notes(table: Table, block: Block) -> Iterator[str]:
    """What stands under a table: data set, intervals, chance, marks, and what is bold."""
    if any(cell.best for row in block.rows for cell in row):
        bold = ""
        if block.ranked:
            bold = " and what the data cannot tell from it (rank 1 at the setting)"
        yield escape(f"Bold: the best of a column{bold}.")
    if any(cell.interval for row in block.rows for cell in row):
        yield escape("Small: 95 % intervals.")
    if any_partial([block]):
        yield escape(PARTIAL)
    if block.key == "exact":
        yield escape(chance_note(several=table.needles > 1))
        yield from (escape(note.replace("px beside Exact:", "px:")) for note in table.notes)
        if any("‡" in marks(line, table) for line in table.lines):
            yield escape(FEWER)
        if not table.published:
            yield escape(f"Fingerprint of the data set: {table.dataset}.")
