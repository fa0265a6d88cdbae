"""Ranks of a leaderboard's rows: ranges that say what the data can tell, and by which test."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from mmneedle.comparing import ALPHA, Board, Columns, Measure, board
from mmneedle.outcomes import Outcomes, outcomes
from mmneedle.reports.choice import Choice, Shape
from mmneedle.reports.entries import Entry
from mmneedle.reports.words import label
from mmneedle.runlog import Run
from mmneedle.statistics.ranking import Rank, ranks
from mmneedle.types import Setting


class Ranked(msgspec.Struct, frozen=True):
    """Rows with their ranks."""

    entries: list[Entry]
    note: str | None
    """What ranks mean, and by which test; None where no row has one."""


def with_ranks(
    entries: Iterable[Entry], runs: Sequence[Run], names: Sequence[str], choice: Choice
) -> Ranked:
    """Rank rows among those that they can be compared with.

    Args:
        entries: what `choice` keeps.
        runs: of which they come; each log is read once more.
        names: what the runs are called.
        choice: which settings count, and whether ranks are by exact accuracy or by existence.
    """
    entries = list(entries)
    shown = {entry.run for entry in entries}
    columns = {
        number: {
            at: table for at, table in outcomes(runs[number]).items() if choice.keeps_setting(at)
        }
        for number, name in enumerate(names)
        if name in shown
    }
    scorers = dict.fromkeys(entry.scorer for entry in entries if entry.run is not None)
    found: dict[tuple[str | None, Setting, str], tuple[Rank, Rank | None]] = {}
    tests: dict[bool, set[str]] = {True: set(), False: set()}
    for members, models in _groups(columns, runs):
        for scorer in scorers:
            made = board(models, measure(choice), "paper" if scorer == "paper" else "robust")
            single = _by_setting(made, models)
            _note_tests(made, tests)
            for place, number in enumerate(members):
                for setting in models[place]:
                    key = names[number], setting, scorer
                    found[key] = made.ranks[place], single.get((place, setting))
                    if isinstance(choice.sort, tuple) and (
                        chosen := _at(choice.sort, models[place])
                    ):
                        found[key] = single.get((place, chosen), made.ranks[place]), found[key][1]
    ranked = []
    for entry in entries:
        rank, at = found.get((entry.run, entry.setting, entry.scorer), (None, None))
        ranked.append(msgspec.structs.replace(entry, rank=rank, setting_rank=at))
    return Ranked(ranked, _note(choice, tests) if found else None)


def _at(shape: Shape, model: Columns) -> Setting | None:
    """The setting of this shape that a model was asked."""
    return next((at for at in model if (at.images, at.rows, at.cols) == shape), None)


def _groups(
    columns: Mapping[int, Columns], runs: Sequence[Run]
) -> Iterator[tuple[list[int], list[Columns]]]:
    """Runs that can be compared, two or more: one data set, one task, one number of needles."""
    groups: dict[tuple[str, str, int], dict[int, dict[Setting, Outcomes]]] = {}
    for number, tables in columns.items():
        header = runs[number].header
        for setting, table in tables.items():
            key = header.dataset_fingerprint, header.task, setting.needles
            groups.setdefault(key, {}).setdefault(number, {})[setting] = table
    for members in groups.values():
        if len(members) > 1:
            yield list(members), list(members.values())


def measure(choice: Choice) -> Measure:
    """What ranks are by: existence where rows are sorted by Youden's J, else exact."""
    return "existence" if choice.sort == "youden" else "exact"


def _by_setting(made: Board, models: Sequence[Columns]) -> dict[tuple[int, Setting], Rank]:
    """Ranks on each setting, corrected for all pairs at all settings."""
    result: dict[tuple[int, Setting], Rank] = {}
    for setting in dict.fromkeys(setting for model in models for setting in model):
        members = [place for place, model in enumerate(models) if setting in model]
        if len(members) < 2:
            continue
        better: dict[tuple[int, int], bool] = {}
        for pair in made.pairs:
            for part, p in zip(pair.comparison.settings, pair.setting_holm, strict=True):
                if part.setting == setting:
                    gap = part.result.difference or 0.0
                    a, b = members.index(pair.a), members.index(pair.b)
                    better[a, b] = p < ALPHA and gap > 0
                    better[b, a] = p < ALPHA and gap < 0
        places = ranks(len(members), better)
        result |= {(place, setting): rank for place, rank in zip(members, places, strict=True)}
    return result


_TESTS = {
    ("mcnemar_exact", False): "McNemar's exact test",
    ("sign_flip", False): "a sign-flip test",
    ("sign_flip", True): "a sign-flip test over haystacks",
}


def _note_tests(made: Board, tests: dict[bool, set[str]]) -> None:
    """Note which tests told rows apart: over several settings (True), and on single ones."""
    for pair in made.pairs:
        several = len(pair.comparison.settings) > 1
        for part in (pair.comparison.overall, *pair.comparison.settings):
            if part.result.counts.n:
                name = _TESTS[part.result.test, part.result.clusters is not None]
                tests[several and part.setting is None].add(name)


def _note(choice: Choice, tests: Mapping[bool, Iterable[str]]) -> str:
    what = "existence, on all samples" if choice.sort == "youden" else "Exact"
    over = "over a table's settings, each with equal weight"
    if isinstance(choice.sort, tuple):
        images, rows, cols = choice.sort
        over = f"at {label(Setting(images, rows, cols))}"
    return (
        f"Ranks are by {what}, {over}. A range such as 2–4 says what the data cannot tell: rows "
        f"share ranks unless they differ on the samples that both answered{_by(tests)}, corrected "
        f"after Holm for all pairs of a table, at the level of {ALPHA:.0%}."
    )


def _by(tests: Mapping[bool, Iterable[str]]) -> str:
    several, single = (" or ".join(sorted(tests[which])) for which in (True, False))
    if several and single:
        return f" (over several settings by {several}, on one by {single})"
    return f" by {several or single}" if several or single else ""
