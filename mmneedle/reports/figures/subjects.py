"""What figures are about: runs read once, and the paper's rows beside them."""

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from mmneedle.errors import UserError
from mmneedle.outcomes import Outcomes, outcomes
from mmneedle.reports import published as paper
from mmneedle.reports.entries import run_names
from mmneedle.reports.standings import labels
from mmneedle.runlog import Run, Stop, open_runs
from mmneedle.types import Setting

MARK = "†"
"""Stands behind the names of published rows."""


class Subject(msgspec.Struct, frozen=True):
    """One line of a figure: a run's outcomes, or a model of the paper."""

    label: str
    """What readers see: unique among the subjects of a figure."""
    model: str
    run: str | None = None
    """The run folder's name; None for published rows."""
    task: str = "grid"
    dataset: str | None = None
    """The data set's fingerprint; None for published rows."""
    tables: dict[Setting, Outcomes] = {}
    """Empty for published rows."""
    stopped: dict[str, Stop] = {}
    """Where a rule stopped asking, by the setting's name."""
    printed: dict[Setting, dict[tuple[str, str], paper.Figure]] = {}
    """The paper's figures by (split, metric); empty for runs."""

    @property
    def published(self) -> bool:
        """Whether it is the paper's."""
        return self.run is None

    @property
    def settings(self) -> list[Setting]:
        """Those that it has."""
        return list(self.tables or self.printed)


Source = Run | Subject | Path | str
"""A run's folder, an opened run, or what `subjects` made of one."""


def subjects(runs: Source | Iterable[Source], *, published: bool = False) -> list[Subject]:
    """Read runs, each once: what every figure function takes in place of the runs themselves.

    Args:
        runs: folders or opened runs; parts (shards) of one run count as one where all are given
            as folders. Subjects pass through.
        published: add the paper's rows on the settings that the runs have.

    Raises:
        UserError: a folder is no run, or is one of a text task.
    """
    given = [runs] if isinstance(runs, (Run, Subject, str, os.PathLike)) else list(runs)
    done = [item for item in given if isinstance(item, Subject)]
    opened = open_runs([Path(item) for item in given if isinstance(item, (str, os.PathLike))])
    opened += [item for item in given if isinstance(item, Run)]
    for run in opened:
        if run.header.textual:
            raise UserError(
                f"{run.folder}: is a run of the task {run.header.task}, whose answers name no "
                "cells; figures are about cells"
            )
    names = run_names(opened)
    shown = labels(zip((run.header.called for run in opened), names, strict=True))
    tasks = {run.header.task for run in opened}
    done += [
        Subject(
            label=shown[run.header.called, name]
            + (f" [{run.header.task}]" if len(tasks) > 1 else ""),
            model=run.header.called,
            run=name,
            task=run.header.task,
            dataset=run.header.dataset_fingerprint,
            tables=outcomes(run),
            stopped=run.header.stopped,
        )
        for run, name in zip(opened, names, strict=True)
    ]
    if published:
        wanted = {setting for subject in done for setting in subject.settings}
        done += [found for one in _paper() if (found := _only(one, wanted)) is not None]
    return _told_apart(done)


def _told_apart(chosen: Sequence[Subject]) -> list[Subject]:
    """Subjects with labels that all differ."""
    seen: dict[str, int] = {}
    kept = []
    for subject in chosen:
        seen[subject.label] = number = seen.get(subject.label, 0) + 1
        label = subject.label if number == 1 else f"{subject.label} #{number}"
        kept.append(msgspec.structs.replace(subject, label=label))
    return kept


def comparable(chosen: Sequence[Subject]) -> bool:
    """Whether there are several runs, and all were asked the same questions the same way."""
    runs = [subject for subject in chosen if not subject.published]
    return len(runs) > 1 and len({(subject.dataset, subject.task) for subject in runs}) == 1


def settings_of(chosen: Sequence[Subject]) -> list[Setting]:
    """All settings of some subjects, by needles, images and grid."""
    found = {setting for subject in chosen for setting in subject.settings}
    return sorted(found, key=lambda s: (s.needles, s.images, s.rows * s.cols, s.rows))


def _only(subject: Subject, wanted: set[Setting]) -> Subject | None:
    """A published row on the settings that are wanted."""
    kept = {name: row for name, row in subject.printed.items() if name in wanted}
    return msgspec.structs.replace(subject, printed=kept) if kept else None


@cache
def _paper() -> tuple[Subject, ...]:
    rows: dict[str, dict[Setting, dict[tuple[str, str], paper.Figure]]] = {}
    for record in paper.published():
        of_setting = rows.setdefault(record.model, {}).setdefault(record.setting, {})
        of_setting |= {(record.split, name): figure for name, figure in record.figures.items()}
    return tuple(
        Subject(label=f"{model} {MARK}", model=model, printed=printed)
        for model, printed in rows.items()
    )
