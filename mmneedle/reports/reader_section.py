"""Retrieve or read, as a section of a page: where reading everything wins, and where it loses."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import msgspec
from markupsafe import Markup

from mmneedle.comparing import ALPHA
from mmneedle.reports import linechart, svg
from mmneedle.reports.entries import run_names
from mmneedle.reports.readers import (
    NOWHERE,
    level_name,
    losses,
    places,
    sent,
    sentence,
    unit_of,
)
from mmneedle.reports.twins import NAMES
from mmneedle.reports.versus import probability
from mmneedle.reports.words import label, percent, points, short, visible
from mmneedle.retrieval.contrast import (
    Contrast,
    Judged,
    Level,
    Verdict,
    contrasts,
    matched,
)
from mmneedle.runlog import Run
from mmneedle.statistics.shares import Share
from mmneedle.twinned import FORM_OF
from mmneedle.types import Setting

_TOLD: dict[Verdict, str] = {
    "long": "Reading everything wins",
    "retrieve": "Retrieving wins",
    "unclear": "The data cannot tell",
    "unknown": "Nothing is known",
}
_BETTER: dict[Verdict, str] = {
    "long": "reading everything",
    "retrieve": "retrieving",
    "unclear": "cannot tell",
    "unknown": "–",
}
_FATES = (
    ("k-right", "right, and what is asked for was retrieved"),
    ("k-wrong_cell", "right, though it was not retrieved"),
    ("k-wrong_image", "wrong, though it was retrieved: the model missed it"),
    ("k-missed", "wrong, and not retrieved: the retriever missed it"),
    ("k-unparsed", "which units hold it is not defined"),
)

_APART = 0.14
"""Of an axis, between the middles of two names that stand beside each other."""


def section(runs: Sequence[Run]) -> dict[str, Any] | None:
    """What a page shows of runs that retrieved; None where none did.

    Each is set beside the run that read everything and differs from it in nothing else. Of one
    that has none, or several, the notes say so.
    """
    found = matched(runs)
    compared = contrasts(found.pairs)
    pairs = [one for one in compared if one.levels]
    names = dict(zip((run.folder for run in runs), run_names(runs), strict=True))
    notes = [
        *(
            f"{visible(names[run.folder])} retrieved, and no run here reads everything for it: the "
            "same model with the same options, data set and task, without --reader."
            for run in found.alone
        ),
        *(
            f"{visible(names[run.folder])} retrieved, and several runs here read everything for "
            "it: give one of them."
            for run in found.doubtful
        ),
        *(
            f"{visible(names[one.retrieve.folder])} retrieved, and the run that reads everything "
            "was asked none of its samples."
            for one in compared
            if not one.levels
        ),
    ]
    if not pairs and not notes:
        return None
    return {
        "notes": notes,
        "pairs": [_pair(one, number) for number, one in enumerate(pairs, 1)],
        "tests": sum(judged.level.level is not None for one in pairs for judged in one.levels),
        "shared": any(
            judged.level.result.clusters is not None for one in pairs for judged in one.levels
        ),
        "alpha": percent(ALPHA, 0),
    }


def _pair(one: Contrast, number: int) -> dict[str, Any]:
    told = places(one)
    header = one.retrieve.header
    return {
        "id": f"reader-{number}",
        "model": header.model,
        "reader": header.reader.label if header.reader else "",
        "task": NAMES[FORM_OF[header.task]] if header.task in FORM_OF else header.task,
        "dataset": short(header.dataset_fingerprint),
        "told": [
            (verdict, _TOLD[verdict], where)
            for verdict, where in told.items()
            if verdict != "unknown" or where != NOWHERE
        ],
        "losses": losses(one),
        "figures": list(_figures(one)),
        "rows": [_row(judged) for judged in one.levels],
        "sentences": [sentence(judged) for judged in one.levels],
    }


# --------------------------------------------------------------------------- the table


def _row(judged: Judged) -> dict[str, Any]:
    level, result = judged.level, judged.level.result
    low, high = result.interval
    known = result.difference is not None
    share = sent(level)
    return {
        "name": level_name(level),
        "measure": "saying no" if level.measure == "specificity" else "",
        "mean": level.level is None,
        "n": f"{result.counts.n:,}",
        "units": "" if result.clusters is None else f"{result.clusters:,} independent",
        "unanswered": level.unanswered,
        "scores": [
            (percent(rate), _range(ends) if known else "")
            for rate, ends in zip((result.rate_a, result.rate_b), level.intervals, strict=True)
        ],
        "gap": points(result.difference) if result.difference is not None else "–",
        "gap_interval": f"{points(low)} to {points(high)}" if known else "",
        "p": probability(judged.p) if known else "–",
        "better": _BETTER[judged.verdict],
        "verdict": judged.verdict,
        "alone": judged.verdict == "unclear" and result.p < ALPHA,
        "recall": None if level.measure == "specificity" else _share(level.recall),
        "where_read": _share(level.right_read),
        "where_missed": _share(level.right_missed),
        "sent": percent(share),
        "sent_of": ("tokens" if level.tokens else "haystack") if share is not None else "",
    }


def _share(part: Share) -> tuple[str, str, str] | None:
    if not part.n:
        return None
    return percent(part.value), _range(part.interval), f"{part.hits:,} of {part.n:,}"


def _range(ends: tuple[float, float]) -> str:
    return f"{percent(ends[0])}–{percent(ends[1])}"


# --------------------------------------------------------------------------- figures


def _figures(one: Contrast) -> Iterator[list[dict[str, Any]]]:
    """For each task, or each split of image haystacks: scores by length, and what became of it."""
    single = [judged.level for judged in one.levels if judged.level.level is not None]
    for _, group in groupby(single, lambda level: (level.task, level.needles, level.measure)):
        levels = [level for level in group if level.result.counts.n]
        if levels:
            yield [*_curves(levels), *_fates(levels)]


def _heading(level: Level) -> str:
    several = f", {level.needles} needles" if level.needles > 1 else ""
    if level.measure == "answers":
        return f"{level.task}{several}"
    return (
        f"{'Exact on positives' if level.measure == 'exact' else 'Saying no on negatives'}{several}"
    )


def _where(level: Level) -> str:
    """A level's name within its group."""
    if level.measure == "answers":
        return str(level.level)
    return label(Setting.parse(level.level or ""))


def _curves(levels: Sequence[Level]) -> Iterator[dict[str, Any]]:
    placed = [level for level in levels if level.length > 0]
    if not placed:
        return
    read: list[tuple[str, list[linechart.Spot]]] = [
        ("reads everything", [_spot(of, of.result.rate_a, of.intervals[0]) for of in placed]),
        ("retrieves", [_spot(of, of.result.rate_b, of.intervals[1]) for of in placed]),
    ]
    recalls = [
        _spot(of, of.recall.value, of.recall.interval)
        for of in placed
        if of.recall.n and of.measure != "specificity"
    ]
    if recalls:
        read.append(("what is asked for was retrieved", recalls))
    lines = [
        linechart.Line(name, tuple(sorted(spots, key=lambda spot: spot.x)), style)
        for style, (name, spots) in enumerate(read)
    ]
    unit = unit_of(placed[0]) if placed[0].measure == "answers" else "setting, by its cells"
    heading = _heading(placed[0])
    yield {
        "heading": f"{heading}, by length",
        "figure": linechart.lines(
            lines,
            _scale(placed, unit),
            title=f"{heading}: reading everything and retrieving, by length",
        ),
        "legend": [(linechart.mark(line.style), line.name) for line in lines],
    }


def _scale(levels: Sequence[Level], unit: str) -> linechart.Scale:
    """An axis with the levels themselves along it, where they have the room."""
    scale = linechart.tokens_scale([float(level.length) for level in levels], unit)
    names: dict[int, str] = {}
    for level in levels:
        names.setdefault(level.length, _where(level))
    places = [scale.place(length) for length in sorted(names)]
    if any(after - before < _APART for before, after in pairwise(places)):
        return scale
    ticks = tuple((float(length), names[length]) for length in sorted(names))
    return msgspec.structs.replace(scale, ticks=ticks)


def _spot(level: Level, value: float | None, ends: tuple[float, float]) -> linechart.Spot:
    hint = f"{_where(level)}, {percent(value)} % ({percent(ends[0])} to {percent(ends[1])})"
    return linechart.Spot(float(level.length), value or 0.0, ends, hint)


def _fates(levels: Sequence[Level]) -> Iterator[dict[str, Any]]:
    """Bars of what retrieving answered, by whether what is asked for was retrieved."""
    if levels[0].measure == "specificity":
        return
    told = [level for level in levels if level.right_read.n or level.right_missed.n]
    if not told:
        return
    counts = [_counts(level) for level in told]
    shown = [at for at in range(len(_FATES)) if any(count[at] for count in counts)]
    bars = [
        svg.Bar(_where(level), tuple((*_FATES[at], count[at]) for at in shown))
        for level, count in zip(told, counts, strict=True)
    ]
    heading = _heading(told[0])
    yield {
        "heading": f"{heading}: what became of it when retrieving",
        "figure": svg.stacks(
            bars,
            title=f"{heading}: answers when retrieving",
            description="; ".join(
                f"{bar.name}: " + ", ".join(f"{count} {text}" for _, text, count in bar.parts)
                for bar in bars
            ),
        ),
        "legend": [
            (Markup('<span class="swatch {}"></span>').format(_FATES[at][0]), _FATES[at][1])
            for at in shown
        ],
    }


def _counts(level: Level) -> tuple[int, ...]:
    """In the order of _FATES."""
    read, missed = level.right_read, level.right_missed
    return (
        read.hits,
        missed.hits,
        read.n - read.hits,
        missed.n - missed.hits,
        level.result.counts.n - read.n - missed.n,
    )
