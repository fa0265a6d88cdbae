"""Long rows arranged for a reader: models that can be compared, best first.

A table holds one data set and one scorer, so that its order means something: rows of different
data sets were asked different questions, and published figures were asked questions of their own.
What a table cannot show (missing answers, unequal samples) stands in its notes.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mmneedle.costs import dollars
from mmneedle.reports import published as paper
from mmneedle.reports.entries import Entry
from mmneedle.reports.words import label, percent, points
from mmneedle.statistics.ranking import Rank
from mmneedle.types import Setting


class Cell(msgspec.Struct, frozen=True):
    """A model on one setting: both splits."""

    positive: Entry | None
    negative: Entry | None

    @property
    def entries(self) -> list[Entry]:
        """The splits that there are."""
        return [entry for entry in (self.positive, self.negative) if entry is not None]

    @property
    def sources(self) -> set[str]:
        """Where the figures of a published row stand."""
        return {source for entry in self.entries for source in entry.sources.values()}

    @property
    def exact(self) -> float | None:
        """Exact accuracy on positives."""
        return self.positive.value("exact") if self.positive else None

    @property
    def sensitivity(self) -> float | None:
        """How often the model says "there" when it is there."""
        return self.positive.value("existence") if self.positive else None

    @property
    def specificity(self) -> float | None:
        """How often the model says "not there" when it is not."""
        return self.negative.value("existence") if self.negative else None

    @property
    def youden(self) -> float | None:
        """Youden's J: sensitivity + specificity - 1; 1 is perfect, `youden_chance` is chance."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return self.sensitivity + self.specificity - 1

    @property
    def youden_interval(self) -> tuple[float, float] | None:
        """95 % interval of J from the two splits' own (Newcombe, Stat Med 17, 1998, method 10)."""
        if self.youden is None:
            return None
        below = above = 0.0
        for entry in self.entries:
            rate, interval = entry.value("existence"), entry.interval.get("existence")
            if rate is None or interval is None:
                return None
            below += (rate - interval[0]) ** 2
            above += (interval[1] - rate) ** 2
        return max(-1.0, self.youden - below**0.5), min(1.0, self.youden + above**0.5)

    @property
    def rank(self) -> Rank | None:
        """The model's rank on this setting."""
        return next((entry.setting_rank for entry in self.entries), None)

    @property
    def complete(self) -> bool:
        """Whether every sample has an answer, as far as is known."""
        return all(entry.coverage in (None, 1) for entry in self.entries)


class Line(msgspec.Struct, frozen=True):
    """One model's row of a table."""

    label: str
    origin: str
    cells: dict[Setting, Cell]

    @property
    def rank(self) -> Rank | None:
        """The model's rank over the table's settings."""
        return next((entry.rank for cell in self.cells.values() for entry in cell.entries), None)

    @property
    def by(self) -> str | None:
        """Who submitted it."""
        return next((entry.by for cell in self.cells.values() for entry in cell.entries), None)

    def mean(self, name: str) -> float | None:
        """The mean of a cell's property over the settings that have it."""
        values = [getattr(cell, name) for cell in self.cells.values()]
        values = [value for value in values if value is not None]
        return statistics.fmean(values) if values else None

    @property
    def scored(self) -> int:
        """Settings with an Exact score: what the mean is over."""
        return sum(cell.exact is not None for cell in self.cells.values())

    @property
    def coverage(self) -> float | None:
        """The share of all samples of this row that have an answer."""
        entries = [entry for cell in self.cells.values() for entry in cell.entries]
        asked = sum(entry.n for entry in entries)
        if not asked or any(entry.answered is None for entry in entries):
            return None
        return sum(entry.answered or 0 for entry in entries) / asked

    @property
    def _sizes(self) -> set[int]:
        return {entry.n for cell in self.cells.values() for entry in cell.entries}

    @property
    def fewest_asked(self) -> int:
        """Samples of the setting and split that has the fewest."""
        return min(self._sizes)

    @property
    def most_asked(self) -> int:
        """Samples of the setting and split that has the most."""
        return max(self._sizes)

    @property
    def asked(self) -> str:
        """Samples a setting and split: "100", or "50-100" where they differ."""
        low, high = self.fewest_asked, self.most_asked
        return str(low) if low == high else f"{low}–{high}"


class Table(msgspec.Struct, frozen=True):
    """Models that were asked the same questions and scored by the same scorer, best first."""

    task: str
    needles: int
    scorer: str
    dataset: str | None
    """None: published figures."""
    settings: tuple[Setting, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """Plain text; holds names that somebody else chose."""

    @property
    def published(self) -> bool:
        """Whether the rows are the paper's."""
        return self.dataset is None

    @property
    def ranked(self) -> bool:
        """Whether its rows have ranks."""
        return any(line.rank is not None for line in self.lines)

    def fewer(self, line: Line) -> bool:
        """Whether a row stands on fewer samples than another one of the table."""
        return line.fewest_asked < max(one.most_asked for one in self.lines)

    def agrees(self, other: "Table") -> bool:
        """Whether both hold the same figures of the same rows, read by whichever scorer."""

        def figures(table: Table) -> dict[tuple[str, Setting, str], Any]:
            return {
                (line.label, setting, entry.split): (entry.answered, entry.figures)
                for line in table.lines
                for setting, cell in line.cells.items()
                for entry in cell.entries
            }

        same = all(
            getattr(self, what) == getattr(other, what) for what in ("task", "needles", "dataset")
        )
        return same and figures(self) == figures(other)


def chance(setting: Setting) -> float | None:
    """Exact accuracy of naming K different cells of the haystack at random: all K right, in order.

    None where the haystack has fewer than K cells.
    """
    if setting.needles > setting.cells:
        return None
    return 1 / math.perm(setting.cells, setting.needles)


def mean_chance(settings: Sequence[Setting]) -> float | None:
    """The mean of `chance` over the settings that have one."""
    known = [value for value in map(chance, settings) if value is not None]
    return statistics.fmean(known) if known else None


def youden_chance(needles: int) -> float | None:
    """J of a model that answers without looking: 0 for one needle.

    None for several: "all were named" and "all are absent" are no complements there, so that J
    depends on how such a model answers.
    """
    return 0.0 if needles == 1 else None


def chance_note(several: bool) -> str:
    """What tables mean by chance."""
    text = "Chance is the Exact accuracy of always naming a cell, drawn at random"
    if not several:
        return f"{text}: one over the number of cells in the haystack."
    return (
        f"{text}: one over the number of cells in the haystack; for K needles, of naming K "
        "different cells at random: all K right. Youden's J has a chance level, 0, for one needle "
        "only: with several, existence on positives (every needle named) and on negatives (every "
        "needle absent) are not complements."
    )


Sort = str | tuple[int, int, int]
"""How lines are ordered: see `Choice.sort`."""


def arrange(entries: Sequence[Entry], scorer: str, sort: Sort = "exact") -> list[Table]:
    """One table for each task, number of needles, scorer (`scorer` first) and data set.

    Published figures come last, in tables of their own. In each, lines are ordered by `sort`.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        others = entry.scorer != scorer
        published = entry.origin == "published"
        key = (entry.task, entry.setting.needles, others, published, entry.dataset or "")
        groups.setdefault(key, []).append(entry)
    names = labels((entry.model, entry.run) for entry in entries if entry.run is not None)
    return [_table(groups[key], names, sort) for key in sorted(groups)]


def _order(sort: Sort) -> Callable[[Line], tuple[Any, ...]]:
    """The key that puts the best line first; lines without the figure come last."""

    def key(line: Line) -> tuple[Any, ...]:
        exact = -(line.mean("exact") or 0), line.label.lower()
        if sort == "exact":
            return -line.scored, *exact
        if sort == "youden":
            value = line.mean("youden")
        else:
            found = [
                cell.exact
                for at, cell in line.cells.items()
                if (at.images, at.rows, at.cols) == sort
            ]
            value = found[0] if found else None
        return value is None, -(value or 0), *exact

    return key


def _table(
    entries: Sequence[Entry], names: Mapping[tuple[str, str], str], sort: Sort = "exact"
) -> Table:
    """A table of entries that share task, needles, scorer and data set."""
    chosen = [entry for entry in entries if not entry.repeat]
    cells: dict[tuple[str, str | None], dict[Setting, dict[str, Entry]]] = {}
    for entry in chosen:
        of_model = cells.setdefault((entry.model, entry.run), {})
        of_model.setdefault(entry.setting, {})[entry.split] = entry
    settings = tuple(sorted({entry.setting for entry in chosen}))
    lines = [
        Line(
            label=model if run is None else names[model, run],
            origin=next(iter(next(iter(by_setting.values())).values())).origin,
            cells={
                setting: Cell(splits.get("positive"), splits.get("negative"))
                for setting, splits in sorted(by_setting.items())
            },
        )
        for (model, run), by_setting in cells.items()
    ]
    lines.sort(key=_order(sort))
    first = chosen[0]
    return Table(
        task=first.task,
        needles=first.setting.needles,
        scorer=first.scorer,
        dataset=first.dataset,
        settings=settings,
        lines=tuple(lines),
        notes=tuple(_notes(lines, settings, [one for one in entries if one.repeat], sort)),
    )


def labels(runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What readers see for each (model, run): the model, with the run where two share the model."""
    runs = dict.fromkeys(runs)
    shared = Counter(model for model, _ in runs)
    return {(model, run): f"{model} ({run})" if shared[model] > 1 else model for model, run in runs}


def _notes(
    lines: Sequence[Line], settings: Sequence[Setting], repeats: Sequence[Entry], sort: Sort
) -> Iterator[str]:
    cells = [(line, setting, cell) for line in lines for setting, cell in line.cells.items()]
    reaches = [
        max(high - cell.exact, cell.exact - low)
        for _, _, cell in cells
        if cell.positive and cell.exact is not None and "exact" in cell.positive.interval
        for low, high in [cell.positive.interval["exact"]]
    ]
    if reaches and lines[0].origin != "published":
        shared = any(entry.clusters for _, _, cell in cells for entry in cell.entries)
        ruled = any(entry.stopped for _, _, cell in cells for entry in cell.entries)
        kind = "" if ruled else "cluster bootstrap " if shared else "Wilson "
        yield (
            f"The 95 % {kind}intervals of Exact reach at most {points(max(reaches))} points from "
            "the score."
        )
    yield from _shared(cells)
    yield from _stopped(lines)
    if any(entry.effective_cell for _, _, cell in cells for entry in cell.entries):
        text = "px beside Exact: the side of a cell as the model gets it, "
        if lines[0].origin == "published":
            text += (
                "of the 256 px that were sent, by its provider's documented rule; the paper does "
                "not tell."
            )
        else:
            text += f"{_shrunk(entry for _, _, cell in cells for entry in cell.entries)}."
        yield text
    yield from _spent(lines)
    if sort == "exact" and any(line.scored < len(settings) for line in lines):
        yield "Rows that lack a setting stand below the others."
    yield from _unranked(lines, sort)
    for line in lines:
        entries = [entry for cell in line.cells.values() for entry in cell.entries]
        if not line.coverage and line.origin != "published":
            unranked = ", and so no rank" if any(one.rank for one in lines) else ""
            yield f"* {line.label} has no answers at all{unranked}."
            continue
        parts = [_missing(entries, "positive", "exact"), _missing(entries, "negative", "existence")]
        if any(parts):
            yield (
                f"* {line.label} lacks answers; whatever they would be, "
                f"{'; '.join(filter(None, parts))}."
            )
    sources = {source for line in lines for cell in line.cells.values() for source in cell.sources}
    if sources:
        yield f"Source: {paper.describe(sorted(sources))}."
    yield from _repeats(repeats)


def _shrunk(entries: Iterable[Entry]) -> str:
    """What made cells smaller than they were built, as far as the runs tell."""
    resized = {entry.resized for entry in entries}
    if True not in resized:
        way = ""
    elif False not in resized:
        way = "--resize and "
    else:
        way = "--resize, where a row was made with it, and "
    return f"after {way}its provider's shrinking; unknown where that is not documented"


def _shared(cells: Sequence[tuple[Line, Setting, Cell]]) -> Iterator[str]:
    """On how many haystacks figures stand, where questions share them."""
    counts = [
        (entry.clusters, entry.answered or 0)
        for _, _, cell in cells
        for entry in cell.entries
        if entry.clusters is not None
    ]
    if counts:
        fewest, most = min(counts)[0], max(counts)[0]
        span = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        yield (
            f"Questions share haystacks: the answers of a row and setting stand on {span} of them, "
            "and intervals take these as the independent trials."
        )


def _stopped(lines: Sequence[Line]) -> Iterator[str]:
    """Which settings a rule has stopped, and what their intervals are."""
    for line in lines:
        found = {
            setting: entry.stopped
            for setting, cell in line.cells.items()
            for entry in cell.entries
            if entry.stopped
        }
        if found:
            widths = {100 * stop["halfwidth"] for stop in found.values()}
            told = " or ".join(f"{width:g}" for width in sorted(widths))
            each = ", ".join(
                f"{label(setting)} after {sum(entry.n for entry in line.cells[setting].entries):,} "
                f"of {stop['planned']:,.0f} samples"
                for setting, stop in found.items()
            )
            yield (
                f"{line.label} was stopped by rule, once Exact and Existence on negatives were "
                f"known to ±{told} points: {each}. Its intervals there are confidence sequences, "
                "which hold whenever one stops."
            )


def _spent(lines: Sequence[Line]) -> Iterator[str]:
    """What rows with a known price cost, and what their caches saved."""
    for line in lines:
        parts = [
            entry.spending
            for cell in line.cells.values()
            for entry in cell.entries
            if entry.spending is not None and entry.scorer != paper.SCORER  # told once
        ]
        if parts and all(part.usd is not None for part in parts):
            total = sum(part.usd or 0.0 for part in parts)
            text = f"{line.label} cost {dollars(total)}"
            read, given = (
                sum(getattr(part, name) for part in parts)
                for name in ("cached_tokens", "input_tokens")
            )
            if read:
                kept = sum(part.saved_usd or 0.0 for part in parts)
                text += (
                    f"; {percent(read / given)} % of its input came from a cache, which saved "
                    f"{dollars(kept)}"
                )
            yield f"{text}."


def _repeats(entries: Sequence[Entry]) -> Iterator[str]:
    """Figures that are printed elsewhere in the paper too, perhaps otherwise."""
    again: dict[tuple[str, str, str, str, int], dict[str, list[str]]] = {}
    for entry in entries:
        source = paper.describe(entry.sources.values())
        for metric in entry.printed:
            places = again.setdefault((entry.model, metric, entry.split, source, entry.n), {})
            places.setdefault(label(entry.setting), []).append(entry.shown(metric))
    for (model, metric, split, source, n), places in again.items():
        figures = "; ".join(f"{where} {', '.join(them)}" for where, them in places.items())
        yield (
            f"{model}: {metric.capitalize()} on {split}s is printed again in {source} "
            f"({n} samples): {figures}."
        )


def _unranked(lines: Sequence[Line], sort: Sort) -> Iterator[str]:
    """Which rows have answers, and yet none of those that ranks are by."""
    if not any(line.rank for line in lines):
        return
    them = [line.label for line in lines if not line.rank and line.coverage]
    if them:
        lack = "an answer on both splits of one setting" if sort == "youden" else "a positive"
        if isinstance(sort, tuple):
            lack += f" at {label(Setting(*sort))}"
        answered = "" if sort == "youden" else " that it answered"
        yield f"{', '.join(them)}: no rank (–), for want of {lack}{answered}."


def _missing(entries: Sequence[Entry], split: str, metric: str) -> str | None:
    """How far missing answers can move a figure, setting by setting; None where none is missing."""
    ranges = [
        f"{percent(low)}–{percent(high)} at {label(entry.setting)}"
        for entry in entries
        if entry.split == split and entry.coverage not in (None, 1) and metric in entry.bounds
        for low, high in [entry.bounds[metric]]
    ]
    return f"{metric.capitalize()} on {split}s lies within {', '.join(ranges)}" if ranges else None
