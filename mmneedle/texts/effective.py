"""Effective length: how long a text may get before a model falls below a threshold.

The effective length is the longest one whose score is at least the threshold while all shorter
ones that were asked pass too (C.-P. Hsieh et al., RULER, arXiv:2404.06654: 85.6 %, what
Llama-2-7B has at 4k there). Of `latent` the threshold is 85 % of a base score, the best one at
lengths up to 1k (A. Modarressi et al., NoLiMa, arXiv:2502.05167).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mmneedle.runlog import Run
from mmneedle.statistics import clustered, wilson
from mmneedle.tasks.text import maker_class
from mmneedle.texts.scoring import rule_of, score_text
from mmneedle.types import TextSetting, split_sample_id

THRESHOLD = 0.856
OF_BASE = 0.85
BASE_LENGTH = 1024
"""Tokens up to which a length counts as short."""
_ROUNDING = 1e-9
"""Means of fifths and tenths are off by less: 85.6 % is 85.6 %."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A model's score at one length, all depths together."""

    length: int
    n: int
    """Samples asked for."""
    answered: int
    skipped: int
    """Samples past the model's window."""
    score: float | None
    """0..1; None where none was answered."""
    interval: tuple[float, float]
    """95 %, (0, 1) where nothing is known. Samples that differ in depth alone share a text: they
    are one cluster."""
    bounds: tuple[float, float]
    """The score if those without an answer were all wrong, and all right."""

    def passes(self, threshold: float) -> bool:
        """Whether the score is at least the threshold."""
        return self.score is not None and self.score >= threshold - _ROUNDING

    def surely_passes(self, threshold: float) -> bool:
        """Whether neither chance nor missing answers could have kept it below."""
        return self.passes(threshold) and (
            min(self.interval[0], self.bounds[0]) >= threshold - _ROUNDING
        )

    def surely_fails(self, threshold: float) -> bool:
        """Whether neither could have kept it above; what the window does not hold fails too."""
        if self.skipped == self.n:
            return True
        return max(self.interval[1], self.bounds[1]) < threshold - _ROUNDING


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """How far one model gets in one task."""

    model: str
    task: str
    needles: int
    unit: str
    """What lengths count."""
    threshold: float
    base: float | None
    """The score that the threshold is a share of."""
    length: int | None
    """The effective length; None: not even the shortest one passes."""
    least: int | None
    """The longest length up to which all surely pass, at 95 % each; None: none does."""
    most: int | None
    """The longest length up to which none surely fails; None: the shortest does."""
    points: tuple[Point, ...]
    """By ascending length."""

    @property
    def beside(self) -> bool:
        """Whether it is a baseline beside haystacks, asked at no length of its own."""
        name, _, variant = self.task.partition(".")
        return variant in getattr(maker_class(name), "single", {}) if variant else False

    @property
    def decided(self) -> bool:
        """Whether the data can tell."""
        return self.least == self.most

    @property
    def regained(self) -> tuple[int, ...]:
        """Lengths that pass although a shorter one does not."""
        passing = [point.passes(self.threshold) for point in self.points]
        return tuple(
            point.length
            for at, point in enumerate(self.points)
            if passing[at] and not all(passing[:at])
        )


class Tally:
    """Answers of one task at one length."""

    def __init__(self) -> None:
        self.hits: dict[object, int] = {}
        self.of: dict[object, int] = {}
        self.asked = self.answered = self.skipped = 0
        self.single = True
        self._total = 0.0

    def add(self, cluster: object, hits: int, of: int) -> None:
        """Count one answer."""
        self.single = self.single and of == 1 and cluster not in self.hits
        self.hits[cluster] = self.hits.get(cluster, 0) + hits
        self.of[cluster] = self.of.get(cluster, 0) + of
        self.answered += 1
        self._total += hits / of

    def point(self, length: int) -> Point:
        """What it comes to."""
        interval = 0.0, 1.0
        if self.answered:
            hits, of = list(self.hits.values()), list(self.of.values())
            interval = wilson(sum(hits), len(hits)) if self.single else clustered(hits, of)
        missing = self.asked - self.answered
        return Point(
            length=length,
            n=self.asked,
            answered=self.answered,
            skipped=self.skipped,
            score=self._total / self.answered if self.answered else None,
            interval=interval,
            bounds=(self._total / self.asked, (self._total + missing) / self.asked),
        )


Group = tuple[str, str, int]
"""Model, task with its variant, needles."""


def points(runs: Iterable[Run]) -> dict[Group, list[Point]]:
    """Scores by length of each model and task; runs of one model are put together."""
    found: dict[Group, dict[int, Tally]] = {}
    for run in runs:
        tallies: dict[str, Tally] = {}
        for name in run.header.plan:
            setting = TextSetting.parse(name)
            group = found.setdefault((run.header.called, setting.task, setting.needles), {})
            tally = tallies[name] = group.setdefault(setting.length, Tally())
            tally.asked += run.header.asked(name, True) + run.header.asked(name, False)
        for record in run.outcomes():
            one, index = split_sample_id(record.sample)
            assert isinstance(one, TextSetting)
            tally = tallies[one.name]
            tally.skipped += record.response.status == "too_long"
            score = score_text(one, record.expected or (), record.response)
            if score is not None:
                whole = rule_of(one) == "any"
                hits = int(score.value) if whole else sum(score.given)
                cluster = run.header.dataset_fingerprint, index
                tally.add(cluster, hits, 1 if whole else len(score.given))
    return {
        group: [tally.point(length) for length, tally in sorted(lengths.items()) if tally.asked]
        for group, lengths in found.items()
    }


def effective_lengths(
    runs: Sequence[Run], threshold: float | None = None, base: float | None = None
) -> list[Effective]:
    """The effective length of each model in each task, and of several ruler tasks together.

    Args:
        runs: of text tasks.
        threshold: 0..1; with a base score the share of it. By default as published.
        base: a score, 0..1; of `latent` the best one at short lengths, unless a threshold is
            given.
    """
    every = points(runs)
    for model, parts in _ruler(every).items():
        if len(parts) > 1:
            every[model, f"ruler, mean of {len(parts)}", 1] = _mean(parts)
    found = []
    for (model, task, needles), series in every.items():
        name = task.partition(".")[0].partition(",")[0]
        if not series:
            continue
        of = base
        if of is None and threshold is None and name == "latent":
            of = _short(series)
        share = threshold if threshold is not None else THRESHOLD if of is None else OF_BASE
        found.append(
            found_in(
                series,
                share if of is None else share * of,
                model=model,
                task=task,
                needles=needles,
                unit=maker_class(name).lengths,
                base=of,
            )
        )
    return found


def found_in(series: Sequence[Point], threshold: float, **about: Any) -> Effective:
    """The effective length among points of ascending length."""
    return Effective(
        threshold=threshold,
        length=_last(series, [point.passes(threshold) for point in series]),
        least=_last(series, [point.surely_passes(threshold) for point in series]),
        most=_last(series, [not point.surely_fails(threshold) for point in series]),
        points=tuple(series),
        **about,
    )


def _last(series: Sequence[Point], good: Sequence[bool]) -> int | None:
    """The last length before the first that is not good."""
    count = good.index(False) if False in good else len(good)
    return series[count - 1].length if count else None


def _short(series: Sequence[Point]) -> float | None:
    """The best score at short lengths; where none is short, that of the shortest."""
    short = [point for point in series if point.length <= BASE_LENGTH] or series[:1]
    return max((point.score for point in short if point.score is not None), default=None)


# --------------------------------------------------------------------------- several tasks


def _ruler(every: dict[Group, list[Point]]) -> dict[str, list[list[Point]]]:
    parts: dict[str, list[list[Point]]] = {}
    for (model, task, _), series in every.items():
        if task.startswith("ruler."):
            parts.setdefault(model, []).append(series)
    return parts


def _mean(parts: Sequence[Sequence[Point]]) -> list[Point]:
    """Tasks together, each with the same weight, at lengths that all of them were asked at.

    The interval is made of the tasks' own, which are independent (G. Y. Zou and A. Donner,
    Statistics in Medicine 27, 2008, 1693-1702: their half-widths add up as squares).
    """
    by_length = [{point.length: point for point in series} for series in parts]
    common = sorted(set.intersection(*(set(one) for one in by_length)))
    return [_together([one[length] for one in by_length]) for length in common]


def _together(tasks: Sequence[Point]) -> Point:
    n = len(tasks)
    scores = [task.score for task in tasks if task.score is not None]
    score = sum(scores) / n if len(scores) == n else None
    interval = 0.0, 1.0
    if score is not None:
        below = sum((s - t.interval[0]) ** 2 for s, t in zip(scores, tasks, strict=True))
        above = sum((t.interval[1] - s) ** 2 for s, t in zip(scores, tasks, strict=True))
        interval = max(0.0, score - below**0.5 / n), min(1.0, score + above**0.5 / n)
    return Point(
        length=tasks[0].length,
        n=sum(task.n for task in tasks),
        answered=sum(task.answered for task in tasks),
        skipped=sum(task.skipped for task in tasks),
        score=score,
        interval=interval,
        bounds=(
            sum(task.bounds[0] for task in tasks) / n,
            sum(task.bounds[1] for task in tasks) / n,
        ),
    )


# --------------------------------------------------------------------------- in words


def sentence(found: Effective) -> str:
    """The effective length in a sentence, and what the data cannot tell."""
    points = found.points
    first, last = points[0].length, points[-1].length
    if not any(point.answered or point.skipped for point in points):
        return "effective length: unknown, nothing was answered"
    if found.beside:
        return "effective length: none, it is a baseline that is asked at no length of its own"
    if found.length is None:
        told = f"effective length: below {first:,} {found.unit}, the shortest asked"
    elif found.length == last:
        told = f"effective length: {last:,} {found.unit} or more, the longest asked"
    else:
        told = f"effective length: {found.length:,} {found.unit}"
    if not found.decided:
        low = f"below {first:,}" if found.least is None else f"{found.least:,}"
        high = f"below {first:,}" if found.most is None else f"{found.most:,}"
        high += " or more" if found.most == last else ""
        straddling = [
            f"{point.length:,}"
            for point in points
            if not point.surely_passes(found.threshold) and not point.surely_fails(found.threshold)
        ]
        told += (
            f"; the data cannot tell: anything from {low} to {high} is possible, because the "
            f"threshold lies within the interval at {', '.join(straddling)}"
        )
    if found.regained:
        longer = ", ".join(f"{length:,}" for length in found.regained)
        verb = "passes" if len(found.regained) == 1 else "pass"
        told += f"; {longer} {verb} although a shorter length does not"
    return told


def table(found: Effective) -> str:
    """A block of text: what was measured at each length, and the sentence."""
    several = f", {found.needles} needles" if found.needles > 1 else ""
    head = f"{found.model}: {found.task}{several}, threshold {100 * found.threshold:.1f} %"
    if found.base is not None:
        head += f" ({found.threshold / found.base:.2f} of the base score {100 * found.base:.1f} %)"
    unit = "length" if found.unit == "tokens" else found.unit
    lines = [(unit, "score", "95 %", "n", "")]
    for point in found.points:
        lacking = "" if point.answered == point.n else "*"
        if point.skipped == point.n:
            lines.append((f"{point.length:,}", "-", "", str(point.n), "past the window: skipped"))
            continue
        score = "-" if point.score is None else f"{100 * point.score:.1f}{lacking}"
        low, high = (f"{100 * end:.0f}" for end in point.interval)
        verdict = "passes" if point.passes(found.threshold) else "fails"
        if point.score is None:
            verdict = "no answers"
        elif not (point.surely_passes(found.threshold) or point.surely_fails(found.threshold)):
            verdict += ", not surely"
        lines.append((f"{point.length:,}", score, f"{low} to {high}", str(point.n), verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = []
    for *numbers, verdict in lines:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths, strict=False))
        rows.append(f"{'  '.join(cells)}  {verdict}".rstrip())
    return "\n".join((head, *rows, sentence(found)))


def effective_json(found: Iterable[Effective]) -> list[dict[str, Any]]:
    """As plain JSON values, each with its sentence."""
    return [msgspec.to_builtins(one) | {"said": sentence(one)} for one in found]
