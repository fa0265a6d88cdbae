"""The report page: one HTML file that holds everything it shows.

No network, nothing outside the file: style, figures, pictures and one script are inside, and a
content security policy holds the browser to it. What models wrote is untrusted: jinja2 escapes
all of it, the script makes text nodes of it, characters that act on their neighbours are spelled
out, long answers are cut. Without the script the page shows all but the list of every error.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from mmneedle import __version__
from mmneedle.costs import Spending
from mmneedle.errors import UserError
from mmneedle.reports import page, panels
from mmneedle.reports.cases import gather
from mmneedle.reports.entries import Entry, run_names
from mmneedle.reports.explorer import Explorer, explorer, sentence
from mmneedle.reports.findings import findings
from mmneedle.reports.gallery import Album, first_open, printed, wall
from mmneedle.reports.glance import Glanced, glance, shades
from mmneedle.reports.hallucination.section import sections as hallucinations
from mmneedle.reports.leaderboard import Leaderboard, leaderboard
from mmneedle.reports.panels import KINDS, SCORERS, in_order, named, shaped
from mmneedle.reports.standings import (
    Cell,
    Line,
    Table,
    chance,
    chance_note,
    labels,
    mean_chance,
    youden_chance,
)
from mmneedle.reports.twin_section import sections as twin_sections
from mmneedle.reports.words import label, many, percent, short
from mmneedle.runlog import Run, pixels
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks.grid import GridTask
from mmneedle.types import ANSWERED, Setting

PAGE_BYTES = 4_900_000
"""Of the whole file; what figures, tables and the selection leave is for every error."""
LEAST = 1_000_000
"""Bytes for every error however long the rest is, so that very many runs make a larger page."""
PICTURE_BYTES = 320_000
"""Thumbnails of the selection; base64 makes them a third larger."""
EXAMPLES = 48
"""Samples selected for a page without scripts, shared out over runs and settings; more where a
setting's errors have more kinds."""
PRINTED = 6
"""Of these, as many of each run are printed at most: one of a kind."""

ERROR_SHOWN = 200
"""Characters of an error message that a page shows among a run's facts."""
ERROR_READ = 2_000
ERRORS_TOLD_APART = 1_000
"""Messages counted for the commonest; bounds the memory when each one is different."""

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
    shelf = _Shelf(datasets, runs)
    return shelf.missing(runs)


def render_report(runs: Sequence[Run], *, datasets: Sequence[Path | str] = ()) -> str:
    """The page as text. Made of the runs alone: the same runs give the same page."""
    shelf = _Shelf(datasets, runs, written=_folder)
    content = _content(runs, shelf)
    template = page.environment().get_template("report.html.j2")
    alone = template.render(**content, explored=Explorer(Markup(""), 0, [], False), left_out="")
    budget = max(LEAST, PAGE_BYTES - len(alone.encode("utf-8", "replace")))
    explored = explorer(gather(runs, shelf.found), content["told"], budget)
    return template.render(**content, explored=explored, left_out=sentence(explored))


def _content(runs: Sequence[Run], shelf: "_Shelf") -> dict[str, Any]:
    """All that the page shows but the errors to open."""
    board = leaderboard(runs, ranked=len(runs) > 1)
    tables = [table for table in board.tables() if table.scorer == SCORERS[0]]
    sections, album = _sections(runs, board, shelf)
    looks = ("theme.css", "report.css", "hallucination.css", "twins.css")
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
        "notes": board.notes(),
        "several": (several := any(entry.setting.needles > 1 for entry in board.entries)),
        "chance_note": chance_note(several),
        "sees": any(entry.effective_cell for entry in board.entries),
        "shared": any(run.header.questions > 1 for run in runs),
        "kinds": KINDS,
        "kind_texts": KIND_TEXTS,
        "definitions": album.definitions(),
    }


def _told(run: Run, section: Mapping[str, Any], shelf: "_Shelf") -> dict[str, Any]:
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
        "show": f"mmneedle show {_folder(dataset.folder if dataset else header.dataset_path)}",
        "cells": cells,
    }


def _folder(path: Path | str) -> str:
    """A folder's name: pages are mailed, and where it lay on this machine is nobody's business."""
    return Path(path).name or str(path)


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


# --------------------------------------------------------------------------- data sets


class _Shelf:
    """The data sets of runs, opened once each; a word on those that are not to be had."""

    def __init__(
        self,
        folders: Sequence[Path | str],
        runs: Sequence[Run],
        written: Callable[[Path | str], str] = str,
    ) -> None:
        """Raises UserError for a folder whose data set is of none of the runs.

        `written` tells how lines on missing data sets name a folder.
        """
        self.written = written
        self.found: dict[str, DataSet] = {}
        self.folders = tuple(folders)
        wanted = sorted({run.header.dataset_fingerprint for run in runs})
        for folder in folders:
            dataset = DataSet.open(folder)
            if dataset.fingerprint not in wanted:
                raise UserError(
                    f"{folder}: its data set (fingerprint {short(dataset.fingerprint)}) is not "
                    f"that of a run here ({', '.join(map(short, wanted))})"
                )
            self.found[dataset.fingerprint] = dataset

    def missing(self, runs: Sequence[Run]) -> list[str]:
        """A line on each data set that is not to be had."""
        lines = [self.dataset(run)[1] for run in runs]
        return list(dict.fromkeys(line for line in lines if line))

    def dataset(self, run: Run) -> tuple[DataSet | None, str | None]:
        """The run's data set, or why it cannot be shown."""
        mark, path = run.header.dataset_fingerprint, str(run.header.dataset_path)
        if mark not in self.found:
            try:
                dataset = DataSet.open(path)
            except (UserError, OSError):
                return None, (
                    f"There is no data set at {self.written(path)} now, so captions and pictures "
                    "are missing."
                )
            if dataset.fingerprint != mark:
                return None, (
                    f"The data set at {self.written(path)} is another one now (its fingerprint is "
                    f"{short(dataset.fingerprint)}), so captions and pictures are missing."
                )
            self.found[mark] = dataset
        return self.found[mark], None


# --------------------------------------------------------------------------- comparison


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


# --------------------------------------------------------------------------- one run


def _sections(
    runs: Sequence[Run], board: Leaderboard, shelf: _Shelf
) -> tuple[list[dict[str, Any]], Album]:
    found = [sorted(findings(run).values(), key=lambda of: in_order(of.setting)) for run in runs]
    blocks = sum(map(len, found)) or 1
    most = EXAMPLES // blocks
    album = Album(PICTURE_BYTES, blocks)
    sections = []
    names = run_names(runs)
    shown = labels((run.header.called, name) for run, name in zip(runs, names, strict=True))
    named = zip(runs, names, found, hallucinations(runs), strict=True)
    for number, (run, name, settings, habits) in enumerate(named, 1):
        entries = [entry for entry in board.entries if entry.run == name]
        dataset, missing = shelf.dataset(run)
        sections.append(
            {
                "id": f"run-{number}",
                "name": name,
                "label": shown[run.header.called, name],
                "facts": list(_facts(run, name, entries)),
                "adapter": _pretty(run.header.adapter),
                "missing_dataset": missing,
                "shared": run.header.questions > 1,
                "answered": any(entry.answered for entry in entries),
                "by_setting": _cells(entries, SCORERS[0]),
                **_scores(entries),
                **panels.scores(_cells(entries, SCORERS[0]), _cells(entries, SCORERS[1])),
                "hallucination": habits,
                "outcomes": panels.outcomes(entries),
                "data_path": _folder(dataset.folder if dataset else run.header.dataset_path),
                "places": panels.places(settings),
                "gallery": [wall(name, of, dataset, album, most) for of in settings],
            }
        )
    return sections, album


def _pretty(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), indent=1, ensure_ascii=False, sort_keys=True)


def _facts(run: Run, name: str, entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    header = run.header
    counted = [entry for entry in entries if entry.scorer == SCORERS[0]]
    asked = sum(entry.n for entry in counted)
    answered = sum(entry.answered or 0 for entry in counted)
    yield "Model", header.called
    yield "Task", header.task
    yield "Run", name
    yield "Begun", str(header.created)
    yield "Data set", _folder(header.dataset_path)
    yield "Fingerprint", short(header.dataset_fingerprint)
    share = f" ({percent(answered / asked)} %)" if asked else ""
    yield "Answered", f"{answered:,} of {asked:,}{share}"
    if header.questions > 1:
        yield "Haystacks", f"{header.questions} questions ask about each"
    statuses: dict[str, int] = {}
    for entry in counted:
        for status, count in entry.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    ended = ", ".join(f"{count:,} {status}" for status, count in statuses.items() if count)
    yield "How requests ended", f"{ended}{commonest_error(run)}"
    yield from _sight(run)
    yield from _spent(entries)
    if header.prices is not None:
        yield "Prices", header.prices.source
    shard, shards = header.shard
    if shards > 1:
        yield "Shard", f"{shard} of {shards}"


def _sight(run: Run) -> Iterator[tuple[str, str]]:
    """How large cells were sent, and how large the model got them."""
    header = run.header
    if header.cell is not None:
        how = "shrunk before sending" if header.resize else "as built"
        yield "Cells as sent", f"{pixels(header.cell)} px, {how}"
    if header.effective_cell:
        shown = {
            label(Setting.parse(name)): pixels(cell)
            for name, cell in sorted(header.effective_cell.items())
        }
        sizes = set(shown.values())
        text = ", ".join(f"{cell} px at {name}" for name, cell in shown.items())
        if len(sizes) == 1:
            (size,) = sizes
            text = "unknown: not documented" if size == "unknown" else f"{size} px"
        yield "Cells as the model gets them", text


def _spent(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Tokens and money of a run."""
    total = Spending()
    for entry in entries:
        if entry.scorer == SCORERS[0] and entry.spending is not None:
            total.merge(entry.spending)
    if total.responses:
        yield "Spent", str(total)


def commonest_error(run: Run) -> str:
    """What failed attempts say most often, on one line; empty where none failed."""
    messages: Counter[str] = Counter()
    for record in run.records():
        if record.response.status in ANSWERED or not record.response.error:
            continue
        message = " ".join(record.response.error[:ERROR_READ].split())
        if message in messages or len(messages) < ERRORS_TOLD_APART:
            messages[message] += 1
    if not messages:
        return ""
    ((message, count),) = messages.most_common(1)
    cut = message if len(message) <= ERROR_SHOWN else message[: ERROR_SHOWN - 1] + "…"
    return f". The commonest error ({many(count, 'attempt')}): {cut}"


def _cells(entries: Sequence[Entry], scorer: str) -> dict[Setting, Cell]:
    splits: dict[Setting, dict[str, Entry]] = {}
    for entry in entries:
        if entry.scorer == scorer:
            splits.setdefault(entry.setting, {})[entry.split] = entry
    return {
        setting: Cell(split.get("positive"), split.get("negative"))
        for setting, split in sorted(splits.items(), key=lambda pair: in_order(pair[0]))
    }


def _scores(entries: Sequence[Entry]) -> dict[str, Any]:
    """The cards and the table of scores."""
    by_scorer = {scorer: _cells(entries, scorer) for scorer in SCORERS}
    cells = by_scorer[SCORERS[0]]
    counts = sorted({setting.needles for setting in cells})
    return {
        "means": [
            (
                count,
                Line("", "run", {at: cell for at, cell in cells.items() if at.needles == count}),
            )
            for count in counts
        ],
        "several": counts[-1:] > [1],
        "gaps": _gaps(cells),
        "scores": [
            {
                "setting": setting,
                "label": named(setting),
                "shape": shaped(setting),
                "chance": chance(setting),
                "sight": next((entry.effective_cell for entry in cells[setting].entries), None),
                "cells": {scorer: by_scorer[scorer].get(setting) for scorer in SCORERS},
            }
            for setting in cells
        ],
    }


def _gaps(cells: Mapping[Setting, Cell]) -> list[str]:
    """What to say about questions without an answer."""
    entries = [(setting, entry) for setting, cell in cells.items() for entry in cell.entries]
    if not any(entry.answered for _, entry in entries):
        asked = sum(entry.n for _, entry in entries)
        return [f"None of the {many(asked, 'question')} was answered, so there are no scores."]
    lines = []
    for setting, entry in entries:
        if entry.coverage in (None, 1):
            continue
        text = f"{named(setting)}, {entry.split}s: {entry.answered} of {entry.n} answered"
        metric = "exact" if entry.split == "positive" else "existence"
        if entry.answered and metric in entry.bounds:
            low, high = map(percent, entry.bounds[metric])
            text += (
                "; whatever the others would have been, "
                f"{metric.capitalize()} lies between {low} and {high} %"
            )
        lines.append(f"{text}.")
    return lines
