"""Several runs examined: each by itself, and runs of one model with cells of other sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mmneedle.outcomes import Outcomes, outcomes
from mmneedle.reports.entries import run_names
from mmneedle.reports.hallucination.pixels import Resized, resized
from mmneedle.reports.hallucination.study import Study, study
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.statistics.comparison import holm
from mmneedle.types import Setting


class Examined(msgspec.Struct, frozen=True):
    """Runs with their studies, and what runs of one model say together."""

    runs: list[tuple[str, Run, Study]]
    """Name, run, study."""
    resized: list[tuple[str, Resized]]
    """Model, two runs of it whose cells differ; their p values are a family of their own."""


def examine_runs(runs: Sequence[Run], scorer: Scorer) -> Examined:
    """Study each run; compare runs of one model on one data set whose cells differ."""
    found = []
    groups: dict[tuple[str, str], list[tuple[Any, Any]]] = {}
    for name, run in zip(run_names(runs), runs, strict=True):
        tables = outcomes(run)
        found.append((name, run, study(run, scorer, tables=tables)))
        key = run.header.called, run.header.dataset_fingerprint
        groups.setdefault(key, []).append((tables, _cells(run, tables)))
    pairs = [
        (model, pair)
        for (model, _), several in groups.items()
        if len(several) > 1
        for pair in resized(several, scorer)
    ]
    corrected = holm([pair.p for _, pair in pairs])
    return Examined(
        found,
        [
            (model, msgspec.structs.replace(pair, adjusted=p))
            for (model, pair), p in zip(pairs, corrected, strict=True)
        ],
    )


def _cells(run: Run, tables: Mapping[Setting, Outcomes]) -> dict[Setting, str | None]:
    return {setting: run.header.cell_text(setting) for setting in tables}
