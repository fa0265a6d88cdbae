"""Wrong answers of text tasks, spread over lengths and depths, with the needle and what was
expected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmneedle.errors import UserError
from mmneedle.reports.textual.maps import depth_name
from mmneedle.reports.textual.series import Read, Series
from mmneedle.reports.words import folder_name, short
from mmneedle.runlog import Run
from mmneedle.texts.dataset import TextDataSet
from mmneedle.types import sample_id

MOST = 48
"""Examples of a page, shared out over its tasks and models."""
_EACH = 6
CUT = 700
"""Characters of an answer, of a needle and of what was expected that the page shows."""
_NEEDLES = 8
"""Needles shown of a sample."""
_NEAR = 160
"""Characters on either side of what was asked for."""


class Shelf:
    """Text data sets of runs, opened once each."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        """Raises UserError for a folder that holds none."""
        self._found: dict[str, TextDataSet | None] = {}
        for folder in folders:
            dataset = TextDataSet.open(folder)
            self._found[dataset.fingerprint] = dataset

    def of(self, run: Run) -> TextDataSet | None:
        """A run's data set; None where it is not at hand."""
        mark = run.header.dataset_fingerprint
        if mark not in self._found:
            try:
                dataset = TextDataSet.open(run.header.dataset_path)
            except (UserError, OSError):
                self._found[mark] = None
            else:
                self._found[mark] = dataset if dataset.fingerprint == mark else None
        return self._found[mark]

    def missing(self, runs: Sequence[Run]) -> list[str]:
        """Data sets that the page has to do without: fingerprint and place."""
        lines = [
            f"{short(run.header.dataset_fingerprint)} ({folder_name(run.header.dataset_path)})"
            for run in runs
            if run.header.textual and self.of(run) is None
        ]
        return list(dict.fromkeys(lines))


def examples(read: Read, shelf: Shelf) -> list[dict[str, Any]]:
    """Groups of examples, one a task and model that erred."""
    wrong = [(one, rows) for one in read.series if len(rows := _wrong(one))]
    each = max(1, min(_EACH, MOST // max(1, len(wrong))))
    return [
        {
            "key": one.key,
            "subject": read.subjects[one.subject],
            "wrong": len(rows),
            "answered": int(one.answers.answered.sum()) if one.answers else 0,
            "items": [_item(read, one, row, shelf) for row in _spread(rows, each)],
        }
        for one, rows in wrong
    ]


def _wrong(of: Series) -> list[int]:
    """Rows of answers that lack a needle, by length and depth."""
    table = of.answers
    if table is None:
        return []
    rows = np.flatnonzero(table.answered & (table.hits < table.of))
    order = np.lexsort((table.number[rows], table.depth[rows], table.length[rows]))
    return [int(row) for row in rows[order]]


def _spread(rows: Sequence[int], most: int) -> list[int]:
    """As many, evenly from the first to the last."""
    count = min(most, len(rows))
    return [rows[i * (len(rows) - 1) // max(1, count - 1)] for i in range(count)]


def _item(read: Read, of: Series, row: int, shelf: Shelf) -> dict[str, Any]:
    table = of.answers
    assert table is not None
    run = read.runs[int(table.run[row])]
    record = run.read(int(table.part[row]), int(table.place[row]))
    setting = table.setting[row]
    name = sample_id(setting, int(table.number[row]))
    expected = ["; ".join(words[:3]) for words in (record.expected or ())]
    dataset, seen = shelf.of(run), run.header.dataset_path
    return {
        "sample": name,
        "length": f"{setting.length:,} {of.unit}",
        "depth": depth_name(setting.depth) if setting.depth >= 0 else "",
        "given": f"{int(table.hits[row])} of {int(table.of[row])}" if table.of[row] > 1 else "",
        "needles": _needles(dataset, name),
        "expected": cut(", ".join(expected)),
        "status": record.response.status,
        "answer": cut(record.response.text or ""),
        "show": f"mmneedle show {folder_name(dataset.folder if dataset else seen)} {name}",
    }


def _needles(dataset: TextDataSet | None, name: str) -> list[str]:
    """The sentences that hold what was asked for: the task's own, else where it stands."""
    if dataset is None:
        return []
    try:
        sample = dataset.sample(name)
    except UserError:
        return []
    told = sample.details.get("needles")
    if isinstance(told, list) and told:
        return [cut(str(one)) for one in told[: max(1, sample.setting.needles)][:_NEEDLES]]
    found = [_around(sample.prompt, words) for words in sample.expected[:_NEEDLES]]
    return [text for text in found if text]


def _around(prompt: str, words: Sequence[str]) -> str:
    """The line of a prompt in which one of some words first stands, as far as it is near."""
    at = min((place for word in words if (place := prompt.find(word)) >= 0), default=-1)
    if at < 0:
        return ""
    start = max(prompt.rfind("\n", 0, at) + 1, at - _NEAR)
    end = prompt.find("\n", at)
    end = min(len(prompt) if end < 0 else end, at + _NEAR)
    return prompt[start:end].strip()


def cut(text: str) -> str:
    """Somebody's words, no longer than a page bears."""
    return text if len(text) <= CUT else f"{text[:CUT]}… ({len(text):,} characters)"
