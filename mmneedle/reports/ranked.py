"""Ranks of a leaderboard's rows: ranges that say what the data can tell, and by which test."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np

from mmneedle.comparing import ALPHA, Board, Columns, Measure, board, verdicts
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.reports.choice import Choice, Shape
from mmneedle.reports.entries import Entry
from mmneedle.reports.words import label
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.statistics.ranking import Rank, ranks
from mmneedle.types import Setting


class Ranked(msgspec.Struct, frozen=True):
    """Rows with their ranks."""

    entries: list[Entry]
    note: str | None
    """What ranks mean, and by which test; None where no row has one."""
    single_note: str | None = None
    """Likewise of the ranks on single settings."""


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
    found: dict[tuple[str | None, Setting, str], tuple[Rank | None, Rank | None]] = {}
    tests: dict[bool, set[str]] = {True: set(), False: set()}
    for name in scorers:
        scorer: Scorer = "paper" if name == "paper" else "robust"
        for members, asked in _groups(columns, runs, measure(choice), scorer):
            models = [_answered(one, measure(choice), scorer) for one in asked]
            made = board(models, measure(choice), scorer)
            single = _by_setting(made, models)
            _note_tests(made, tests, isinstance(choice.sort, tuple))
            for place, number in enumerate(members):
                rank: Rank | None = made.ranks[place]
                if isinstance(choice.sort, tuple):
                    chosen = _at(choice.sort, models[place])
                    rank = single.get((place, chosen)) if chosen else None
                for setting in asked[place]:
                    key = names[number], setting, name
                    found[key] = rank, single.get((place, setting))
    known = any(rank for rank, _ in found.values())
    ranked = []
    for entry in entries:
        rank, at = found.get((entry.run, entry.setting, entry.scorer), (None, None))
        ranked.append(msgspec.structs.replace(entry, rank=rank, setting_rank=at))
    if not known:
        return Ranked(ranked, None)
    return Ranked(ranked, _note(choice, tests), _single_note(choice, tests))


def _at(shape: Shape, model: Columns) -> Setting | None:
    """The setting of this shape that a model was asked."""
    return next((at for at in model if (at.images, at.rows, at.cols) == shape), None)


def _answered(model: Columns, what: Measure, scorer: Scorer) -> Columns:
    """The settings on which a model has what ranks are by: an answer; for existence, of each split.

    A model is compared on these alone. Settings without an answer would tell nothing, and yet be
    corrected for at every other row's expense.
    """
    needed: tuple[Measure, ...] = ("sensitivity", "specificity") if what == "existence" else (what,)
    return {
        at: table
        for at, table in model.items()
        if all(np.not_equal(verdicts(table, one, scorer), UNDEFINED).any() for one in needed)
    }


def _groups(
    columns: Mapping[int, Columns], runs: Sequence[Run], what: Measure, scorer: Scorer
) -> Iterator[tuple[list[int], list[Columns]]]:
    """Runs that can be compared, two or more: one data set, one task, one number of needles.

    Runs without a single answer of those that ranks are by are left out.
    """
    groups: dict[tuple[str, str, int], dict[int, dict[Setting, Outcomes]]] = {}
    for number, tables in columns.items():
        header = runs[number].header
        for setting, table in tables.items():
            key = header.dataset_fingerprint, header.task, setting.needles
            groups.setdefault(key, {}).setdefault(number, {})[setting] = table
    for group in groups.values():
        members = {at: model for at, model in group.items() if _answered(model, what, scorer)}
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


def _note_tests(made: Board, tests: dict[bool, set[str]], at_one: bool) -> None:
    """Note which tests told rows apart: over several settings (True), and on single ones.

    With `at_one`, ranks are by a setting, and tests over several told nothing.
    """
    for pair in made.pairs:
        several = len(pair.comparison.settings) > 1
        overall = () if at_one else (pair.comparison.overall,)
        for part in (*overall, *pair.comparison.settings):
            if part.result.counts.n:
                name = _TESTS[part.result.test, part.result.clusters is not None]
                tests[several and part.setting is None].add(name)


def _single_note(choice: Choice, tests: Mapping[bool, Iterable[str]]) -> str:
    single = {True: (), False: tests[False]}
    return _told(choice, "at the setting that is shown", single, "all pairs at all settings")


def _note(choice: Choice, tests: Mapping[bool, Iterable[str]]) -> str:
    over = "over a table's settings, each with equal weight"
    pairs = "all pairs of a table"
    if isinstance(choice.sort, tuple):
        images, rows, cols = choice.sort
        over = f"at {label(Setting(images, rows, cols))}"
        pairs += " at all its settings"
    return _told(choice, over, tests, pairs)


def _told(choice: Choice, over: str, tests: Mapping[bool, Iterable[str]], pairs: str) -> str:
    what = "existence, on all samples" if choice.sort == "youden" else "Exact"
    return (
        f"Ranks are by {what}, {over}. A range such as 2–4 says what the data cannot tell: rows "
        f"share ranks unless they differ on the samples that both answered{_by(tests)}, corrected "
        f"after Holm for {pairs}, at the level of {ALPHA:.0%}."
    )


def _by(tests: Mapping[bool, Iterable[str]]) -> str:
    several, single = (" or ".join(sorted(tests[which])) for which in (True, False))
    if several and single and several != single:
        return f" (over several settings by {several}, on one by {single})"
    return f" by {several or single}" if several or single else ""
