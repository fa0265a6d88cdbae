"""The report page: one HTML file that holds everything it shows.

No network, nothing outside the file: style, figures, pictures and one script are inside, and a
content security policy holds the browser to it. What models wrote is untrusted: jinja2 escapes
all of it, the script makes text nodes of it, characters that act on their neighbours are spelled
out, long answers are cut. Without the script the page shows all but the list of every error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.reports import page, panels
from mmneedle.reports.cases import gather
from mmneedle.reports.entries import run_names
from mmneedle.reports.explorer import Explorer, explorer, sentence
from mmneedle.reports.gallery import first_open, printed
from mmneedle.reports.glance import Glanced, glance, shades
from mmneedle.reports.leaderboard import Leaderboard, leaderboard
from mmneedle.reports.panels import KINDS, SCORERS
from mmneedle.reports.reader_section import section as reader_section
from mmneedle.reports.run_sections import run_sections
from mmneedle.reports.shelf import Shelf
from mmneedle.reports.standings import (
    Line,
    Table,
    chance,
    chance_note,
    mean_chance,
    youden_chance,
)
from mmneedle.reports.twin_section import sections as twin_sections
from mmneedle.reports.words import folder_name, label, many, percent, short
from mmneedle.runlog import Run, pixels
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Setting

PAGE_BYTES = 4_900_000
"""Of the whole file; what figures, tables and the selection leave is for every error."""
LEAST = 1_000_000
"""Bytes for every error however long the rest is, so that very many runs make a larger page."""
PRINTED = 6
"""Of the samples selected, as many of each run are printed at most: one of a kind."""

KIND_TEXTS = {
    "right": "the right cell, or rightly said not to be there",
    "wrong_cell": "the right image, another cell of it",
    "wrong_image": "another image",
    "out_of_range": "a cell that the haystack does not have",
    "missed": "there, but the model says it is not",
    "hallucinated": "not there, but the model names a cell",
    "unparsed": "no answer could be read from the text",
    "refused": "the model or its provider declined",
    "no_answer": "the request failed; not counted in any score",
}


def write_report(runs: Sequence[Run], out: Path, *, datasets: Sequence[Path | str] = ()) -> Path:
    """Write the report of one run or several as one HTML file.

    Args:
        runs: run folders, opened; each gets a section.
        out: the file to write, whole or not at all.
        datasets: folders of data sets that are not where their runs saw them.

    Raises:
        UserError: no runs; a folder in `datasets` that holds no data set, or one of none of the
            runs; `out` cannot be written.
    """
    if not runs:
        raise UserError("a report needs at least one run")
    out = Path(out)
    text = render_report(runs, datasets=datasets)
    return page.write(out, text)


def missing_datasets(runs: Sequence[Run], datasets: Sequence[Path | str] = ()) -> list[str]:
    """A line on each data set that a report of these runs would have to do without."""
    shelf = Shelf(datasets, runs)
    return shelf.missing(runs)


def render_report(runs: Sequence[Run], *, datasets: Sequence[Path | str] = ()) -> str:
    """The page as text. Made of the runs alone: the same runs give the same page."""
    shelf = Shelf(datasets, runs, written=folder_name)
    content = _content(runs, shelf)
    template = page.environment().get_template("report.html.j2")
    alone = template.render(**content, explored=Explorer(Markup(""), 0, [], False), left_out="")
    budget = max(LEAST, PAGE_BYTES - len(alone.encode("utf-8", "replace")))
    explored = explorer(gather(runs, shelf.found), content["told"], budget)
    return template.render(**content, explored=explored, left_out=sentence(explored))


def _content(runs: Sequence[Run], shelf: Shelf) -> dict[str, Any]:
    """All that the page shows but the errors to open."""
    board = leaderboard(runs, ranked=len(runs) > 1)
    tables = [table for table in board.tables() if table.scorer == SCORERS[0]]
    sections, album = run_sections(runs, board, shelf)
    looks = ("theme.css", "report.css", "hallucination.css", "twins.css", "readers.css")
    style = page.source(*looks) + Markup(shades())
    script = page.source("haystack.js", "explorer.js", "case.js")
    selected = [
        [item for group in section["gallery"] for item in group["items"]] for section in sections
    ]
    chosen = {key for items in selected for key in printed(items, PRINTED)}
    for section in sections:
        for group in section["gallery"]:
            group["chosen"] = any(item["key"] in chosen for item in group["items"])
    return {
        "title": _title(runs),
        "lead": _lead(runs, board),
        "policy": page.policy(style, script),
        "style": style,
        "script": script,
        "version": __version__,
        "runs": sections,
        "told": [_told(run, section, shelf) for run, section in zip(runs, sections, strict=True)],
        "opened": first_open(item for items in selected for item in items),
        "chosen": chosen,
        "missing_datasets": shelf.missing(runs),
        "glance": glance(
            [
                Glanced(section["label"], section["by_setting"], run)
                for section, run in zip(sections, runs, strict=True)
            ]
        ),
        "comparison": [_comparison(table) for table in tables] if len(runs) > 1 else [],
        "twinned": twin_sections(runs),
        "readers": reader_section(runs),
        "notes": board.notes(),
        "several": (several := any(entry.setting.needles > 1 for entry in board.entries)),
        "chance_note": chance_note(several),
        "sees": any(entry.effective_cell for entry in board.entries),
        "shared": any(run.header.questions > 1 for run in runs),
        "kinds": KINDS,
        "kind_texts": KIND_TEXTS,
        "definitions": album.definitions(),
    }


def _told(run: Run, section: Mapping[str, Any], shelf: Shelf) -> dict[str, Any]:
    """What the list of errors says of a run."""
    header = run.header
    sent = f"sent at {pixels(header.cell)} px" if header.cell else ""
    cells = {}
    for setting in map(Setting.parse, header.plan):
        seen = header.cell_text(setting)
        parts = [sent, f"the model gets {seen} px" if seen and seen != "unknown" else ""]
        cells[setting.name] = ", ".join(filter(None, parts))
    dataset, _ = shelf.dataset(run)
    return {
        "name": section["name"],
        "label": section["label"],
        "task": header.task,
        "show": f"mmneedle show {folder_name(dataset.folder if dataset else header.dataset_path)}",
        "cells": cells,
    }


def _title(runs: Sequence[Run]) -> str:
    models = list(dict.fromkeys(run.header.model for run in runs))
    if len(models) > 1:
        many_runs = f"{len(runs)} runs of " if len(runs) > len(models) else ""
        return f"{many_runs}{len(models)} models compared"
    return runs[0].header.called if len(runs) == 1 else f"{len(runs)} runs of {models[0]}"


def _lead(runs: Sequence[Run], board: Leaderboard) -> str:
    settings = len({entry.setting for entry in board.entries})
    asked = dict.fromkeys(run_names(runs), 0)
    for entry in board.entries:
        if entry.run is not None and entry.scorer == SCORERS[0]:
            asked[entry.run] += entry.n
    least, most = min(asked.values()), max(asked.values())
    questions = many(most, "question") if least == most else f"{least:,}–{most:,} questions"
    if len(runs) > 1:
        models = len({run.header.model for run in runs})
        whom = (
            f"to each of {models} models" if models == len(runs) else f"in each of {len(runs)} runs"
        )
        questions = f"{questions} {whom}"
    tasks = {run.header.task for run in runs}
    shown = (
        "Each shows one or more images, every image a grid of photos,"
        if GridTask.name in tasks
        else "Each tells of one or more images in words, every image a grid of captions,"
    )
    twins = (
        " Text twins ask the same with a caption in each cell instead of a photo."
        if GridTask.name in tasks and len(tasks) > 1
        else ""
    )
    return (
        f"{many(settings, 'setting')}, {questions}. {shown} and asks where the photo with a given "
        f"caption is. Half the captions belong to no photo there; then the right answer is −1."
        f"{twins}"
    )


def _comparison(table: Table) -> dict[str, Any]:
    """What the section that compares models shows of one table."""
    most = max(line.most_asked for line in table.lines)
    return {
        "table": table,
        "ranked": table.ranked,
        "task": table.task,
        "needles": many(table.needles, "needle"),
        "dataset": short(table.dataset or ""),
        "settings": [label(setting) for setting in table.settings],
        "chances": [chance(setting) for setting in table.settings],
        "mean_chance": mean_chance(table.settings),
        "youden_chance": youden_chance(table.needles),
        "lines": [
            {
                "label": line.label,
                "cells": [line.cells.get(setting) for setting in table.settings],
                "exact": line.mean("exact"),
                "rank": line.rank,
                "best": _is_best(line, table),
                "youden": line.mean("youden"),
                "asked": line.asked,
                "fewer": line.fewest_asked < most,
                "coverage": line.coverage,
            }
            for line in table.lines
        ],
        "fewer": any(line.fewest_asked < most for line in table.lines),
        "notes": table.notes,
        "panels": [panels.comparison(table, setting) for setting in table.settings],
    }


def _is_best(line: Line, table: Table) -> bool:
    """Whether a mean is the highest as shown, or cannot be told from it; never a lone row's."""
    shown = [percent(one.mean("exact")) for one in table.lines]
    if len(shown) < 2 or line.mean("exact") is None:
        return False
    top = percent(max(one.mean("exact") or 0.0 for one in table.lines))
    return percent(line.mean("exact")) == top or (line.rank is not None and line.rank.best == 1)
