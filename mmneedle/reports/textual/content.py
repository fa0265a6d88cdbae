"""All that the page on texts shows, computed; the template only places it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mmneedle.reports import linechart
from mmneedle.reports.reader_section import section as reader_section
from mmneedle.reports.run_sections import commonest_error
from mmneedle.reports.textual import depth as depths
from mmneedle.reports.textual import maps, models
from mmneedle.reports.textual.examples import Shelf, examples
from mmneedle.reports.textual.series import NAMES, Level, Read, Series, counted_by
from mmneedle.reports.twin_section import sections as twin_sections
from mmneedle.reports.words import folder_name, many, percent, points, short
from mmneedle.runlog import STATUSES, Run
from mmneedle.texts.effective import sentence as effective_sentence

FEW = 5
"""Samples a cell of a heat map below which it says little."""


def content(read: Read, shelf: Shelf) -> dict[str, Any]:
    """What the template is given."""
    bent = depths.bends(read.series)
    against = models.pairs(read)
    counted = counted_by(read.runs)
    return {
        "title": _title(read),
        "lead": _lead(read),
        "several": len(read.subjects) > 1,
        "notes": list(_notes(read, counted, shelf)),
        "axes": [axis for subject in range(len(read.subjects)) for axis in _axes(read, subject)],
        "unplaced": _unplaced(read),
        "lengths": [_effective_row(read, one, bend) for one, bend in _paired(read, bent)],
        "bends": [_bend_row(read, one, bend) for one, bend in _paired(read, bent) if bend],
        "twinned": twin_sections(read.runs),
        "readers": reader_section(read.runs),
        "tasks": [
            _task(read, key, number, bent, against) for number, key in enumerate(read.keys, 1)
        ],
        "examples": examples(read, shelf),
        "runs": [
            _run(read, run, name, subject, counted)
            for run, name, subject in zip(read.runs, read.names, read.of_subject, strict=True)
        ],
        "few": FEW,
    }


def _paired(
    read: Read, bent: Sequence[depths.Bend | None]
) -> list[tuple[Series, depths.Bend | None]]:
    return list(zip(read.series, bent, strict=True))


# --------------------------------------------------------------------------- words


def _title(read: Read) -> str:
    count = len(read.subjects)
    if count == 1:
        return read.subjects[0]
    models = {run.header.model for run in read.runs}
    readers = {run.header.reader for run in read.runs}
    if len(models) == 1 and len(readers) == count:
        return f"{models.pop()}, {count} ways of reading"
    return f"{count} models compared"


def _lead(read: Read) -> str:
    kinds = {one.kind for one in read.series}
    tasks = len([key for key in read.keys if not _is_mean(key)])
    what = many(tasks, "task")
    parts = [
        name
        for kind, name in (("image", "images"), ("literal", "text twins"), ("text", "long texts"))
        if kind in kinds or (kind == "literal" and "paraphrase" in kinds)
    ]
    where = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    asked = sum(
        sum(run.header.asked(name, split) for name in run.header.plan for split in (True, False))
        for run in read.runs
    )
    return (
        f"{what} in {where}, {many(asked, 'sample')}. Something is hidden in a haystack and asked "
        "for; how much is found, by the haystack’s length and by where in it the needle stands."
    )


def _is_mean(key: str) -> bool:
    return key.startswith("ruler, mean")


def _notes(read: Read, counted: dict[str, str | None], shelf: Shelf) -> Iterator[str]:
    approximate = sorted(mark for mark, how in counted.items() if how == "approximate")
    if approximate:
        yield (
            "Lengths are approximate: they count four characters as one token in data set "
            f"{', '.join(map(short, approximate))}. Where the model told its own tokens, the axis "
            "of tokens has those."
        )
    missing = shelf.missing(read.runs)
    if missing:
        yield (
            f"Of {', '.join(missing)} there is no data set where the runs saw it, so needles and "
            "how lengths were counted are missing (--data DIR names another place)."
        )
    differ = [str(key) for key in read.keys if len({one.dataset for one in read.of(key)}) > 1]
    if differ:
        yield (
            "The models were asked different data sets, as lengths in their own tokens need; their "
            f"samples differ: {', '.join(differ)}."
        )


# --------------------------------------------------------------------------- one axis of tokens


def _axes(read: Read, subject: int) -> Iterator[dict[str, Any]]:
    """A model's tasks on one axis of tokens, no more lines in a figure than look different.

    A task looks the same in the figures of all models.
    """
    placed = [(one, spots) for one in read.series if (spots := _spots(one, by_tokens=True))]
    if any(_is_mean(one.key) for one, _ in placed):
        placed = [(one, spots) for one, spots in placed if not one.key.startswith("ruler.")]
    keys = list(dict.fromkeys(one.key for one, _ in placed))
    for start in range(0, len(keys), linechart.STYLES):
        chosen = keys[start : start + linechart.STYLES]
        part = [
            (one, spots) for one, spots in placed if one.subject == subject and one.key in chosen
        ]
        if not part:
            continue
        series = [linechart.Line(one.key, spots, chosen.index(one.key)) for one, spots in part]
        yield {
            "subject": read.subjects[subject],
            "figure": linechart.lines(
                series,
                linechart.tokens_scale(
                    [spot.x for line in series for spot in line.spots], "input tokens a request"
                ),
                title=f"Scores of {read.subjects[subject]} against input tokens",
                frame=linechart.WIDE,
            ),
            "legend": _legend(series),
            "estimated": any(
                level.tokens is None and level.point.score is not None
                for one, _ in part
                for level in one.levels
            ),
        }


def _unplaced(read: Read) -> list[str]:
    """Series that have no place on the axis of tokens."""
    return [
        one.key + (f" of {read.subjects[one.subject]}" if len(read.subjects) > 1 else "")
        for one in read.series
        if not _spots(one, by_tokens=True)
        and any(level.point.score is not None and level.point.length for level in one.levels)
    ]


def _spots(of: Series, *, by_tokens: bool) -> tuple[linechart.Spot, ...]:
    found = []
    for level in of.levels:
        x = level.x if by_tokens else float(level.point.length)
        if level.point.score is None or not x:
            continue
        found.append(linechart.Spot(x, level.point.score, level.point.interval, _hint(of, level)))
    return tuple(sorted(found, key=lambda spot: spot.x))


def _hint(of: Series, level: Level) -> str:
    point = level.point
    where = f"{level.name} {of.unit}" if of.kind == "text" else level.name
    if level.tokens is not None and of.unit != "tokens":
        where += f", {level.tokens:,.0f} tokens"
    low, high = point.interval
    return f"{where}: {percent(point.score)} % ({percent(low)} to {percent(high)})"


# --------------------------------------------------------------------------- effective lengths


def _effective_row(read: Read, of: Series, bend: depths.Bend | None) -> dict[str, Any]:
    found = of.effective
    scored = [level for level in of.levels if level.point.score is not None]
    skipped = [level.name for level in of.levels if level.point.skipped == level.point.n]
    last = found.points[-1].length
    length = _end(of, found.length) + (" or more" if found.length == last else "")
    told = f"{_end(of, found.least)} to {_end(of, found.most)} possible"
    if not scored or not last or (found.beside and not of.cells):
        length, told = ("no haystack" if scored else "no answers"), ""
    return {
        "key": of.key,
        "subject": read.subjects[of.subject],
        "asked": _range([level.name for level in of.levels]),
        "unit": "" if of.cells else of.unit,
        "ends": [_score(scored[0]), _score(scored[-1])] if scored else None,
        "threshold": percent(found.threshold),
        "base": None if found.base is None else percent(found.base),
        "length": length,
        "length_unit": of.unit if told else "",
        "range": "" if found.decided else told,
        "tokens": _tokens_at(of, found.length),
        "said": effective_sentence(found),
        "skipped": _range(skipped) if skipped else "",
        "shape": bend.shape if bend else "" if scored else "–",
    }


def _tokens_at(of: Series, length: int | None) -> str:
    """Mean input tokens at a length, from the fewest to the most of its settings."""
    known = [one.tokens for one in of.levels if one.point.length == length and one.tokens]
    if not known:
        return ""
    ends = dict.fromkeys(f"{end:,.0f}" for end in (min(known), max(known)))
    return " to ".join(ends)


def _range(names: Sequence[str]) -> str:
    if len(names) < 3:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]}"


def _end(of: Series, length: int | None) -> str:
    if length is None:
        return f"below {of.effective.points[0].length:,}"
    return f"{length:,}"


def _score(level: Level) -> tuple[str, str, str]:
    low, high = level.point.interval
    return percent(level.point.score), f"{percent(low)}–{percent(high)}", level.name


# --------------------------------------------------------------------------- the middle


def _bend_row(read: Read, of: Series, bend: depths.Bend) -> dict[str, Any]:
    return {
        "key": of.key,
        "subject": read.subjects[of.subject],
        "u": bend.u_shaped,
        "told": depths.sentence(bend),
    }


# --------------------------------------------------------------------------- one task


def _task(
    read: Read,
    key: str,
    number: int,
    bent: Sequence[depths.Bend | None],
    against: Sequence[models.Pair],
) -> dict[str, Any]:
    mine = [(one, bend) for one, bend in _paired(read, bent) if one.key == key]
    first = mine[0][0]
    shown = [(one, bend, maps.cells(one)) for one, bend in mine]
    return {
        "id": f"task-{number}",
        "key": key,
        "what": _what(first),
        "figures": [*_length_figure(read, [one for one, _ in mine]), *_depth_figure(read, mine)],
        "told": [
            (read.subjects[one.subject], _capital(effective_sentence(one.effective)) + ".")
            for one, _ in mine
            if one.levels[-1].point.length
        ],
        "against": models.sentences(read, against, key),
        "bends": [
            (read.subjects[one.subject], depths.sentence(bend)) for one, bend in mine if bend
        ],
        "maps": [
            {"subject": read.subjects[one.subject], **made}
            for one, _, found in shown
            if (made := maps.heat(one, found)) is not None
        ],
        "numbers": [
            (read.subjects[one.subject], one.unit, list(maps.numbers(found)))
            for one, _, found in shown
            if found
        ],
        "levels": [
            (read.subjects[one.subject], one.unit, list(_level_rows(one)))
            for one, _, found in shown
            if not found
        ],
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _what(of: Series) -> str:
    if of.kind == "image":
        return "Exact accuracy on positives: the right image, row and column."
    if of.kind in ("literal", "paraphrase"):
        return (
            f"The same haystacks as text ({NAMES[of.kind]}): the right image, row and column on "
            "positives."
        )
    if _is_mean(of.key):
        return "Each task with the same weight, at lengths that all of them were asked at."
    needles = "needle" if of.needles == 1 else "needles"
    return (
        f"{many(of.needles, needles.removesuffix('s'))} asked for; lengths count {of.unit}. The "
        "score is the share of what was asked for that stands in the answer."
    )


def _level_rows(of: Series) -> Iterator[tuple[str, ...]]:
    for level in of.levels:
        point = level.point
        low, high = point.interval
        yield (
            level.name,
            percent(point.score),
            "–" if point.score is None else f"{percent(low)} to {percent(high)}",
            f"{point.answered} of {point.n}",
            "–" if level.tokens is None else f"{level.tokens:,.0f}",
        )


def _length_figure(read: Read, mine: Sequence[Series]) -> Iterator[dict[str, Any]]:
    drawn = [(one, spots) for one in mine if (spots := _spots(one, by_tokens=False))]
    for start in range(0, len(drawn), linechart.STYLES):
        part = drawn[start : start + linechart.STYLES]
        lines = [
            linechart.Line(read.subjects[one.subject], spots, style)
            for style, (one, spots) in enumerate(part)
        ]
        alike = len({one.effective.threshold for one, _ in part}) == 1
        unit = mine[0].unit if mine[0].unit != "cells" else "cells of the haystack"
        yield {
            "heading": f"Score by length in {unit}",
            "figure": linechart.lines(
                lines,
                linechart.tokens_scale([s.x for line in lines for s in line.spots], unit),
                title=f"{mine[0].key}: score by length",
                level=part[0][0].effective.threshold if alike else None,
            ),
            "legend": _legend(lines),
            "threshold": percent(part[0][0].effective.threshold) if alike else None,
        }


def _depth_figure(
    read: Read, mine: Sequence[tuple[Series, depths.Bend | None]]
) -> Iterator[dict[str, Any]]:
    drawn = [(one, bend) for one, bend in mine if bend and len(bend.spots) > 1]
    for start in range(0, len(drawn), linechart.STYLES):
        lines = [
            linechart.Line(
                read.subjects[one.subject],
                tuple(
                    linechart.Spot(
                        spot.depth,
                        spot.share.value,
                        spot.share.interval,
                        f"{points(spot.depth, 0)} %: {percent(spot.share.value)} %, "
                        f"{spot.share.hits} of {spot.share.n}",
                    )
                    for spot in bend.spots
                    if spot.share.value is not None
                ),
                style,
            )
            for style, (one, bend) in enumerate(drawn[start : start + linechart.STYLES])
        ]
        yield {
            "heading": "Score by depth, all lengths together",
            "figure": linechart.lines(
                lines, linechart.depth_scale(), title=f"{mine[0][0].key}: score by depth"
            ),
            "legend": _legend(lines),
            "threshold": None,
        }


def _legend(lines: Sequence[linechart.Line]) -> list[tuple[Any, str]]:
    return [(linechart.mark(line.style), line.name) for line in lines]


# --------------------------------------------------------------------------- facts


_COUNTED = {
    "tokens": "in the data set’s tokenizer",
    "approximate": "approximate: four characters count as one token",
    None: "not known: the data set is not at hand",
}


def _run(
    read: Read, run: Run, name: str, subject: int, counted: dict[str, str | None]
) -> dict[str, Any]:
    header = run.header
    statuses: Counter[str] = Counter(record.response.status for record in run.outcomes())
    asked = sum(header.asked(n, split) for n in header.plan for split in (True, False))
    ended = [f"{statuses[status]:,} {status}" for status in STATUSES if statuses[status]]
    if asked > statuses.total():
        ended.append(f"{asked - statuses.total():,} never tried")
    facts = [
        ("Model", header.called),
        ("Task", header.task),
        ("Run", name),
        ("Begun", str(header.created)),
        ("Data set", folder_name(header.dataset_path)),
        ("Fingerprint", short(header.dataset_fingerprint)),
        ("How requests ended", ", ".join(ended) + commonest_error(run)),
    ]
    if header.textual:
        how = counted.get(header.dataset_fingerprint)
        facts.insert(6, ("Lengths", _COUNTED.get(how, f"in {how}")))
    return {
        "name": name,
        "subject": read.subjects[subject],
        "facts": facts,
        "adapter": json.dumps(
            msgspec.to_builtins(header.adapter), indent=1, ensure_ascii=False, sort_keys=True
        ),
    }
