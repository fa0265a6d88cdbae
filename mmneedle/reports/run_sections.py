"""The report page's sections on single runs: facts, scores, outcomes, selected samples."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mmneedle.costs import Spending
from mmneedle.reports import panels
from mmneedle.reports.entries import Entry, run_names
from mmneedle.reports.findings import findings
from mmneedle.reports.gallery import Album, wall
from mmneedle.reports.hallucination.section import sections as hallucinations
from mmneedle.reports.leaderboard import Leaderboard
from mmneedle.reports.panels import SCORERS, in_order, named, shaped
from mmneedle.reports.shelf import Shelf
from mmneedle.reports.standings import Cell, Line, chance, labels
from mmneedle.reports.words import folder_name, label, many, percent, short
from mmneedle.runlog import Run, pixels
from mmneedle.types import ANSWERED, Setting

PICTURE_BYTES = 320_000
"""Thumbnails of the selection; base64 makes them a third larger."""
EXAMPLES = 48
"""Samples selected for a page without scripts, shared out over runs and settings; more where a
setting's errors have more kinds."""

ERROR_SHOWN = 200
"""Characters of an error message that a page shows among a run's facts."""
ERROR_READ = 2_000
ERRORS_TOLD_APART = 1_000
"""Messages counted for the commonest; bounds the memory when each one is different."""


def run_sections(
    runs: Sequence[Run], board: Leaderboard, shelf: Shelf
) -> tuple[list[dict[str, Any]], Album]:
    """What the page shows of each run, and the pictures of the samples selected."""
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
                "data_path": folder_name(dataset.folder if dataset else run.header.dataset_path),
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
    yield "Data set", folder_name(header.dataset_path)
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
