"""The samples that a report lets one open: every error of its runs, and what each model said.

Runs of one data set are put together: a case is a sample that one of them got wrong, with the
answers of all, so that a reader sees who else failed there. Memory holds the cut texts of cases,
never the whole answers.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.outcomes import KINDS, METRICS, Marks, Outcomes, outcomes, places
from mmneedle.reports.atlas import unplaced
from mmneedle.reports.findings import NO_ANSWER, RIGHT, TEXT_LIMIT
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Location, Response, Sample, Setting

CATEGORIES = (RIGHT, *KINDS, NO_ANSWER)
"""What an answer comes to: nothing wrong, the first needle's kind of error, no answer."""
NO_ANSWER_CODE = len(CATEGORIES) - 1
NEVER_TRIED = 0


class Reply(msgspec.Struct):
    """What one run answered to one case."""

    category: int
    """Of CATEGORIES."""
    kinds: tuple[int, ...]
    """What is wrong with each needle's answer: 0 nothing, k KINDS[k-1]; empty: no answer."""
    said: tuple[Location | None, ...]
    """The cell read from the answer, a needle each; it may lie outside the haystack."""
    response: Response
    """Its text, reasoning and error cut to TEXT_LIMIT characters."""
    text_length: int
    reasoning_length: int
    paper: dict[str, bool]
    """The paper scorer's verdicts by METRICS name; empty where it drops the answer."""


class Case(msgspec.Struct):
    """One sample with the answers of the runs that asked it."""

    number: int
    """Of its setting."""
    truth: tuple[Location | None, ...]
    ambiguity: float | None
    hard: bool
    replies: dict[int, Reply]
    """By the run's place in the report."""
    captions: tuple[str, ...] = ()
    """One a needle, as are the next; empty without the data set."""
    photos: tuple[int, ...] = ()
    """The photos that the captions belong to."""
    haystack: NDArray[np.int64] | None = None
    """Photo ids, image by image, row by row."""
    stack: int = -1
    """Cases of a group with equal numbers share a haystack."""


class Group(msgspec.Struct):
    """The cases of one data set and setting, by sample number."""

    fingerprint: str
    setting: Setting
    cases: list[Case]
    runs: list[int]
    """Which runs were asked this setting."""
    dataset: DataSet | None = None
    trouble: str | None = None
    """Why captions and photos are missing although there is a data set."""


def gather(runs: Sequence[Run], datasets: Mapping[str, DataSet], rights: int = 1) -> list[Group]:
    """Every error of every run, and the first `rights` right answers of each setting and split.

    Args:
        runs: in the report's order.
        datasets: those at hand, by fingerprint.
        rights: right answers to show beside the errors.
    """
    tables = [outcomes(run) for run in runs]
    wanted: dict[tuple[str, Setting], list[NDArray[np.int64]]] = {}
    for run, by_setting in zip(runs, tables, strict=True):
        for setting, table in by_setting.items():
            key = run.header.dataset_fingerprint, setting
            wanted.setdefault(key, []).append(_chosen(table, rights))
    groups = []
    for (fingerprint, setting), found in wanted.items():
        group = Group(fingerprint, setting, [], [], datasets.get(fingerprint))
        cases: dict[int, Case] = {}
        numbers = np.unique(np.concatenate(found))
        for place, (run, by_setting) in enumerate(zip(runs, tables, strict=True)):
            if run.header.dataset_fingerprint == fingerprint and setting in by_setting:
                group.runs.append(place)
                _collect(run, place, by_setting[setting], numbers, cases)
        group.cases = [cases[number] for number in sorted(cases)]
        _look_up(group)
        groups.append(group)
    return groups


def _chosen(table: Outcomes, rights: int) -> NDArray[np.int64]:
    """The numbers of the samples that went wrong or have no answer, and of some that did not."""
    tried = table.status != NEVER_TRIED
    marks = table.marks["robust"]
    good = tried & marks.answered & (marks.kind == 0).all(axis=1)
    firsts = [np.flatnonzero(good & split)[:rights] for split in (table.positive, ~table.positive)]
    return table.number[np.union1d(np.flatnonzero(tried & ~good), np.concatenate(firsts))]


def _collect(
    run: Run,
    place: int,
    table: Outcomes,
    numbers: NDArray[np.int64],
    cases: dict[int, Case],
) -> None:
    """Add a run's answers to the cases with these numbers."""
    for row in np.flatnonzero(np.isin(table.number, numbers)).tolist():
        record = table.record(run, row)
        if record is None:
            continue
        number = int(table.number[row])
        case = cases.get(number)
        if case is None:
            case = cases[number] = Case(
                number, tuple(record.truth), record.ambiguity, record.hard, {}
            )
        case.replies[place] = _reply(table, row, record.response)


def _reply(table: Outcomes, row: int, response: Response) -> Reply:
    robust = table.marks["robust"]
    answered = bool(robust.answered[row])
    kinds = tuple(robust.kind[row].tolist()) if answered else ()
    text, reasoning = response.text or "", response.reasoning or ""
    return Reply(
        category=next(filter(None, kinds), 0) if answered else NO_ANSWER_CODE,
        kinds=kinds,
        said=tuple(places(robust.said[row])),
        response=msgspec.structs.replace(
            response,
            text=text[:TEXT_LIMIT],
            reasoning=reasoning[:TEXT_LIMIT],
            error=(response.error or "")[:TEXT_LIMIT],
        ),
        text_length=len(text),
        reasoning_length=len(reasoning),
        paper=_verdicts(table.marks["paper"], row),
    )


def _verdicts(marks: Marks, row: int) -> dict[str, bool]:
    values = {name: int(marks.metric(name)[row]) for name in METRICS}
    return {name: bool(value) for name, value in values.items() if value >= 0}


def _look_up(group: Group) -> None:
    """Give cases their captions and haystacks, as far as the data set has them."""
    if group.dataset is None or not group.cases:
        return
    cases = {case.number: case for case in group.cases}
    first, last = group.cases[0].number, group.cases[-1].number
    try:
        for sample in _samples(group.dataset, group.setting, first, last + 1):
            case = cases.get(int(sample.id.rpartition("-")[2]))
            if case is not None:
                case.captions = tuple(needle.caption for needle in sample.needles)
                case.photos = tuple(needle.photo for needle in sample.needles)
                case.haystack = np.array(sample.haystack, np.int64)
                shared = sample.haystack_number
                case.stack = case.number if shared is None else shared
    except (UserError, OSError) as error:
        group.trouble = unplaced(error, group.dataset)


def _samples(dataset: DataSet, setting: Setting, start: int, stop: int) -> Iterator[Sample]:
    if dataset.count(setting) < stop:
        raise UserError(f"the data set has only {dataset.count(setting)} samples of {setting.name}")
    yield from dataset.samples(setting, start, stop)
