"""Why two rows of a leaderboard cannot be compared, in plain words.

Rows are compared within a table only: one data set, one task, one number of needles, one scorer.
What sets data sets apart is read from their recipes, where these can be found.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.comparing import differences
from mmneedle.errors import UserError
from mmneedle.reports.words import label, short
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet, Manifest
from mmneedle.types import Setting

Recipes = Mapping[str, Manifest]
"""By fingerprint."""

_WORDS = {
    "seed": "the seed",
    "captions": "which caption of a photo is asked for",
    "hard_negatives": "the share of hard negatives",
    "questions": "the number of questions a haystack",
    "cell": "the cell size in pixels",
    "quality": "the JPEG quality",
    "subsampling": "the chroma subsampling",
    "source": "where the photos come from",
    "photos": "the number of photos",
    "sha256": "the photos or their captions (by SHA-256)",
    "source seed": "the seed of the drawn scenes",
    "drawing": "how scenes are drawn",
}


def find_recipes(runs: Iterable[Run]) -> dict[str, Manifest]:
    """The recipes of the runs' data sets, as far as they are at hand.

    A submission brings its own; a run's data set may still be where the run saw it.
    """
    found: dict[str, Manifest] = {}
    for run in runs:
        mark = run.header.dataset_fingerprint
        if mark in found:
            continue
        recipe = getattr(run, "recipe", None)
        if recipe is None and run.header.dataset_path:
            try:
                recipe = DataSet.open(Path(run.header.dataset_path)).manifest
            except (UserError, OSError):
                continue
        if recipe is not None and recipe.fingerprint == mark:
            found[mark] = recipe
    return found


def recipe_parts(recipe: Manifest) -> dict[str, Any]:
    """All that decides a data set's fingerprint, by names that _WORDS explains."""
    rules: dict[str, Any] = msgspec.to_builtins(recipe.rules)
    identity = dict(recipe.identity)
    if "seed" in identity:
        identity["source seed"] = identity.pop("seed")
    tiles = recipe.tiles
    size = {"cell": f"{tiles.width}x{tiles.height}"}
    return rules | size | {"quality": tiles.quality, "subsampling": tiles.subsampling} | identity


def recipe_differences(one: Manifest, other: Manifest) -> list[str]:
    """What sets two recipes apart: "the seed (0 and 1)"."""
    left, right = recipe_parts(one), recipe_parts(other)
    parts = []
    for key in dict.fromkeys((*left, *right)):
        had, has = left.get(key), right.get(key)
        if had != has:
            name = _WORDS.get(key, key.replace("_", " "))
            values = "" if key == "sha256" else f" ({_value(had)} and {_value(has)})"
            parts.append(name + values)
    return parts


def _value(value: Any) -> str:
    return "none" if value is None else str(value)[:40]


def why_datasets_differ(one: str, other: str, recipes: Recipes) -> str:
    """A sentence on two data sets, by their fingerprints."""
    names = f"Data sets {short(one)} and {short(other)}"
    missing = [short(mark) for mark in (one, other) if mark not in recipes]
    if missing:
        whose = f"the recipe of {missing[0]} is" if len(missing) == 1 else "their recipes are"
        return (
            f"{names} have different fingerprints; {whose} not at hand (the data set is not where "
            "the run saw it), so what sets them apart is not known."
        )
    parts = recipe_differences(recipes[one], recipes[other])
    what = ", ".join(parts) or "the version of mmneedle that sampled them"
    return (
        f"{names} differ in {what}: a row of one was asked other questions than a row of the other."
    )


def reasons(
    runs: Sequence[Run], names: Sequence[str], settings: Container[Setting], recipes: Recipes
) -> list[str]:
    """Why rows of different tables cannot be compared, and what differs within one.

    Args:
        runs: of which rows are shown.
        names: what readers see of them.
        settings: those that are shown.
        recipes: `find_recipes`.
    """
    shown = [[at for at in _settings(run) if at in settings] for run in runs]
    return [
        *_datasets(runs, recipes),
        *_tasks(runs),
        *_needles(shown),
        *_within(runs, names, shown),
    ]


def _datasets(runs: Sequence[Run], recipes: Recipes) -> Iterator[str]:
    marks = list(dict.fromkeys(run.header.dataset_fingerprint for run in runs))
    if len(marks) <= _MANY:
        for one, other in combinations(marks, 2):
            yield why_datasets_differ(one, other, recipes)
        return
    for other in marks[1:]:  # against the first one only: pairs would fill pages
        yield why_datasets_differ(marks[0], other, recipes)


_MANY = 4


def _tasks(runs: Sequence[Run]) -> Iterator[str]:
    tasks = list(dict.fromkeys(run.header.task for run in runs))
    if len(tasks) > 1:
        yield (
            f"Tasks {' and '.join(tasks)} put the haystack before the model in different ways "
            "(grid: as images; twin: as text), so they have tables of their own."
        )


def _needles(shown: Sequence[Sequence[Setting]]) -> Iterator[str]:
    counts = sorted({setting.needles for settings in shown for setting in settings})
    if len(counts) > 1:
        text = ", ".join(map(str, counts[:-1]))
        yield (
            f"Questions of {text} and {counts[-1]} needles differ in what counts as right (all "
            "needles at once), so they have tables of their own."
        )


def _within(
    runs: Sequence[Run], names: Sequence[str], shown: Sequence[Sequence[Setting]]
) -> Iterator[str]:
    """What differs between rows of one table: samples asked, size of cells."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, run in enumerate(runs):
        key = (run.header.dataset_fingerprint, run.header.task)
        groups.setdefault(key, []).append(number)
    for (mark, _), numbers in groups.items():
        members = [runs[number] for number in numbers]
        called = [names[number] for number in numbers]
        where = f"Data set {short(mark)}: " if len(groups) > 1 else ""
        for text in differences(called, members):
            if not text.startswith("The runs were not asked"):  # `_ranges` says more
                yield where + text
        settings = dict.fromkeys(at for number in numbers for at in shown[number])
        yield from (where + text for text in _ranges(members, called, settings))


def _ranges(
    runs: Sequence[Run], names: Sequence[str], settings: Iterable[Setting]
) -> Iterator[str]:
    """Which samples each row was asked, where they differ; settings that agree share a sentence."""
    told: dict[str, list[str]] = {}
    settings = list(settings)
    for setting in settings:
        spans = {
            name: run.header.span(setting)
            for run, name in zip(runs, names, strict=True)
            if setting.name in run.header.plan
        }
        if len(set(spans.values())) < 2:
            continue
        by_span: dict[tuple[int, int], list[str]] = {}
        for name, span in spans.items():
            by_span.setdefault(span, []).append(name)
        low, high = max(s for s, _ in by_span), min(e for _, e in by_span)
        common = f"{high - low:,} are common to all" if low < high else "none is common to all"
        text = "; ".join(
            f"{', '.join(them)}: numbers {start} to {stop - 1}"
            for (start, stop), them in by_span.items()
        )
        told.setdefault(f"{text} ({common})", []).append(label(setting))
    for text, labels in told.items():
        where = "all settings" if len(labels) == len(settings) > 1 else ", ".join(labels)
        yield (
            f"At {where} rows were asked different samples: {text}. Ranks compare "
            "two rows on the samples that both answered."
        )


def _settings(run: Run) -> list[Setting]:
    return [Setting.parse(name) for name in run.header.plan]
