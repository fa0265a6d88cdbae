"""The leaderboard as one HTML page: all rows without a script, sorted and filtered with ours.

Nothing is loaded; a policy lets nothing run but this script, by its hash. What a reader sees is
what `blocks` makes, as in every other format.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmneedle import __version__
from mmneedle.reports import page as pages
from mmneedle.reports import published as paper
from mmneedle.reports.blocks import (
    FEWER,
    PARTIAL,
    Block,
    Shown,
    any_fewer,
    any_partial,
    blocks,
    marks,
)
from mmneedle.reports.standings import Line, Sort, Table, chance_note
from mmneedle.reports.words import label, many, short, typed
from mmneedle.types import Setting

if TYPE_CHECKING:
    from mmneedle.reports.leaderboard import Leaderboard

PAPER_LINK = "https://arxiv.org/abs/2406.11230v2"
_HEADINGS = {
    "exact": "Exact accuracy, % of positives",
    "existence": "Existence: Youden’s J, sensitivity and specificity",
    "index": "Index accuracy, % of positives",
    "first_exact": "The first needle’s cell, % of positives",
    "first_index": "The first needle’s image, % of positives",
    "all_exact": "Each needle’s cell, % of needles",
    "all_index": "Each needle’s image, % of needles",
}


def page(board: "Leaderboard") -> str:
    """The page as text. Made of the leaderboard alone: the same one gives the same page."""
    tables, same = board.told()
    sources = _Sources()
    groups = [_group(table, board.sort, sources, number) for number, table in enumerate(tables, 1)]
    settings = sorted({at for table in tables for at in table.settings})
    style = pages.source("theme.css", "leaderboard.css")
    script = pages.source("leaderboard.js")
    return (
        pages.environment()
        .get_template("leaderboard.html.j2")
        .render(
            title=_title(tables),
            lead=_lead(tables, settings),
            policy=pages.policy(style, script),
            style=style,
            script=script,
            version=__version__,
            groups=groups,
            shapes=list({typed(at): label(at) for at in settings}.items()),
            needles=sorted({table.needles for table in tables}),
            scorers=list(dict.fromkeys(table.scorer for table in tables if not table.published)),
            published=any(table.published for table in tables),
            runs=any(not table.published for table in tables),
            apart=[*board.apart, *_tables_apart(tables)],
            notes=[(text, _when(board, text)) for text in (*same, *_notes(board, tables))],
            sources=sources.found,
        )
    )


def _title(tables: Sequence[Table]) -> str:
    rows = {(line.label, line.origin) for table in tables for line in table.lines}
    return f"Leaderboard of {many(len(rows), 'row')}" if rows else "An empty leaderboard"


def _lead(tables: Sequence[Table], settings: Sequence[Setting]) -> str:
    rows = {(line.label, line.origin) for table in tables for line in table.lines}
    kinds = {
        "run": "run",
        "submitted": "submission",
        "published": "published model",
    }
    counts = {origin: len({name for name, kind in rows if kind == origin}) for origin in kinds}
    words = [many(count, kinds[origin]) for origin, count in counts.items() if count]
    shapes = len({typed(at) for at in settings})
    return (
        f"{', '.join(words)}; {many(shapes, 'setting')}. A setting (N,s) hides one photo, or "
        "several, among N images of s × s cells. Rows of one table were asked about one data set, "
        "and only they can be compared."
    )


def _tables_apart(tables: Sequence[Table]) -> Iterator[str]:
    """What every reader should know before two tables are compared."""
    scorers = {table.scorer for table in tables if not table.published}
    if len(scorers) > 1:
        yield (
            "The scorers robust and paper read the same answers differently: robust reads what the "
            "model meant, paper wants the published script’s very string. Compare rows of one "
            "scorer."
        )
    if any(table.published for table in tables) and not all(table.published for table in tables):
        yield (
            "Published figures (†) were asked other samples than any run here: a landmark, not a "
            "test."
        )


def _notes(board: "Leaderboard", tables: Sequence[Table]) -> Iterator[str]:
    """How to read the page, beside what keeps rows apart."""
    yield from (note for note in board.notes() if note not in board.apart)
    if board.single_rank_note:
        yield board.single_rank_note
    if any_fewer(tables):
        yield FEWER
    if any(any_partial(blocks(table, by_youden=board.sort == "youden")) for table in tables):
        yield PARTIAL
    if any(line.coverage not in (None, 1) for table in tables for line in table.lines):
        yield "* Some answers are missing; a note below the table says how far they could move it."
    yield (
        "Bold: the best of a column, and where there are ranks every row that the data cannot tell "
        "from it."
    )
    yield (
        "Small figures below a score are its 95 % interval; px is the side of a cell as the model "
        "gets it."
    )
    yield chance_note(several=any(table.needles > 1 for table in tables))


def _when(board: "Leaderboard", text: str) -> str:
    """While which settings of a table are shown a note holds: whole, single; empty: always."""
    return {board.rank_note: "whole", board.single_rank_note: "single"}.get(text, "")


_BELOW = "Rows that lack a setting stand below the others."


class _Sources:
    """Where rows that are not ours come from; each row's mark links to its place in this list."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, line: Line, table: Table) -> str | None:
        """The id of a row's source; None for a run of ours."""
        if line.origin == "run":
            return None
        if line.origin == "published":
            places = sorted({place for cell in line.cells.values() for place in cell.sources})
            text, link = paper.describe(places), PAPER_LINK
        else:
            text, link = line.by or "not told by whom", None
        key = (line.label, table.needles, text)
        for source in self.found:
            if source["key"] == key:
                return str(source["id"])
        name = f"source-{len(self.found) + 1}"
        self.found.append(
            {
                "key": key,
                "id": name,
                "mark": "†" if line.origin == "published" else "§",
                "label": line.label,
                "needles": many(table.needles, "needle"),
                "text": text,
                "link": link,
            }
        )
        return name


def _group(table: Table, sort: Sort, sources: _Sources, number: int) -> dict[str, Any]:
    """What the page shows of one table."""
    made = blocks(table, by_youden=sort == "youden")
    if isinstance(sort, tuple):
        order = f"Best at {label(Setting(*sort))} first."
    else:
        order = f"Best mean {'J' if sort == 'youden' else 'Exact'} first."
    if _BELOW in table.notes:  # beside the order, which filters change
        order = f"{order} {_BELOW}"
    ids = [sources.add(line, table) for line in table.lines]
    return {
        "id": f"table-{number}",
        "published": table.published,
        "scorer": table.scorer,
        "needles": table.needles,
        "task": table.task,
        "dataset": short(table.dataset or ""),
        "heading": _heading(table),
        "settings": [(typed(at), at.name, label(at)) for at in table.settings],
        "blocks": [_dress(table, block, ids) for block in made],
        "fingerprint": table.dataset,
        "order": order,
        "sort": sort if isinstance(sort, str) else typed(Setting(*sort)),
        "notes": [
            note.replace("px beside Exact:", "px below a score:")
            for note in table.notes
            if note != _BELOW
        ],
    }


def _heading(table: Table) -> str:
    needles = many(table.needles, "needle")
    if table.published:
        return f"Published figures, {needles}"
    return f"Data set {short(table.dataset or '')}, {needles}, {table.scorer} scorer"


def _dress(table: Table, block: Block, ids: Sequence[str | None]) -> dict[str, Any]:
    return {
        "key": block.key,
        "heading": _HEADINGS[block.key],
        "ranked": block.ranked,
        "counts": block.key == "exact",
        "mean_head": "Mean J" if block.key == "existence" else "Mean",
        "rows": [
            {
                "line": line,
                "source": source,
                "marks": marks(line, table).replace("†", "").replace("§", ""),
                "mark": {"published": "†", "submitted": "§"}.get(line.origin, ""),
                "cells": [_cell(cell, block.key) for cell in cells],
                "mean": mean,
                "rank": line.rank,
            }
            for line, cells, mean, source in zip(
                table.lines, block.rows, block.means, ids, strict=True
            )
        ],
        "chance": block.chance,
        "mean_chance": block.mean_chance,
    }


def _cell(cell: Shown, key: str) -> dict[str, Any]:
    """One cell; of existence both its sides with their values."""
    sides = [
        (split, text, entry.value("existence") if entry is not None else None)
        for split, text, entry in zip(_SPLITS, cell.sides, cell.both, strict=False)
    ]
    return {"shown": cell, "key": key, "sides": sides}


_SPLITS = ("positive", "negative")
