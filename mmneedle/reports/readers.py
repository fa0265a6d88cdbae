"""Reading everything against retrieving, as text for the terminal and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from mmneedle.comparing import ALPHA
from mmneedle.reports.versus import aligned, probability
from mmneedle.reports.words import label, many, percent, points, visible
from mmneedle.retrieval.contrast import Contrast, Judged, Level, Verdict
from mmneedle.tasks.text import MAKERS, maker_class
from mmneedle.types import Setting

_HEAD = (
    "level",
    "measure",
    "n",
    "long",
    "retrieve",
    "long-retr.",
    "",
    "p (Holm)",
    "recall",
    "sent",
)


FEWEST = 6
"""Independent units with which a sign-flip test can fall below ALPHA: 2 / 2^6 does."""


def contrasts_text(found: Sequence[Contrast]) -> str:
    """A table for each pair of runs, a sentence for each level worth one, and where who wins."""
    parts = [
        "Per cent right by reading all of a haystack (long) and what was retrieved of it, on "
        "samples that both answered (* others lack an answer); differences in points with 95 % "
        "intervals, p by Holm over all levels, and over all means; recall: what is asked for was "
        "read, of what is there; sent: share of the tokens, or of the haystack where these are "
        "not known."
    ]
    for one in found:
        rows = [_HEAD, *(_row(judged) for judged in one.levels)]
        parts.append(
            "\n".join(
                [
                    f"{visible(one.retrieve.header.called)}, against all of it "
                    f"({visible(str(one.long.folder))})",
                    *aligned(rows, "llrrrrlrrr"),
                    "",
                    *map(sentence, _worth_words(one.levels)),
                    summary(one),
                    losses(one),
                ]
            ).rstrip()
        )
    return "\n\n".join(parts)


def _worth_words(levels: Sequence[Judged]) -> Sequence[Judged]:
    """Levels with a sentence each: all, or of many those where somebody wins, and the means."""
    if len(levels) <= _MANY:
        return levels
    return [one for one in levels if one.verdict != "unclear" or one.level.level is None]


def contrasts_json(found: Sequence[Contrast]) -> list[dict[str, Any]]:
    """The same as plain JSON values."""
    return [
        {
            "model": one.long.header.model,
            "task": one.long.header.task,
            "reader": msgspec.to_builtins(one.retrieve.header.reader),
            "long": str(one.long.folder),
            "retrieve": str(one.retrieve.folder),
            "levels": [_json(judged) for judged in one.levels],
            "summary": summary(one),
            "losses": losses(one),
        }
        for one in found
    ]


def _json(judged: Judged) -> dict[str, Any]:
    level, result = judged.level, judged.level.result
    return {
        "task": level.task,
        "level": level.level,
        "length": level.length,
        "needles": level.needles,
        "measure": level.measure,
        "n": result.counts.n,
        "clusters": result.clusters,
        "long": result.rate_a,
        "retrieve": result.rate_b,
        "long_interval": level.intervals[0],
        "retrieve_interval": level.intervals[1],
        "only_long": result.counts.only_a,
        "only_retrieve": result.counts.only_b,
        "difference": result.difference,
        "interval": result.interval,
        "p": result.p,
        "p_holm": judged.p,
        "test": result.test,
        "lost": msgspec.to_builtins(level.lost),
        "unanswered": level.unanswered,
        "recall": level.recall.json(),
        "right_where_read": level.right_read.json(),
        "right_where_missed": level.right_missed.json(),
        "share": level.share,
        "tokens": level.tokens and {"long": level.tokens[0], "retrieve": level.tokens[1]},
        "verdict": judged.verdict,
        "sentence": sentence(judged),
    }


def _row(judged: Judged) -> tuple[str, ...]:
    level, result = judged.level, judged.level.result
    if result.difference is None:
        return (level_name(level), level.measure, "0", "-", "-", "-", "", "-", "-", "-")
    return (
        level_name(level),
        level.measure,
        f"{result.counts.n}{'*' if level.unanswered else ''}",
        percent(result.rate_a),
        percent(result.rate_b),
        points(result.difference),
        f"({points(result.interval[0])} to {points(result.interval[1])})",
        probability(judged.p),
        percent(level.recall.value) if level.recall.n else "-",
        "-" if sent(level) is None else percent(sent(level)),
    )


def level_name(level: Level) -> str:
    """(10,8), or niah, 4,096 tokens; of a mean: all settings, niah, all lengths."""
    several = f", {level.needles} needles" if level.needles > 1 else ""
    if level.measure != "answers":
        where = "all settings" if level.level is None else label(Setting.parse(level.level))
        return where + several
    where = "all lengths" if level.level is None else f"{level.level} {unit_of(level)}"
    return f"{level.task}{several}, {where}"


def unit_of(level: Level) -> str:
    """What a text task's lengths count."""
    task = level.task.partition(".")[0]
    return maker_class(task).lengths if task in MAKERS else "tokens"


def sent(level: Level) -> float | None:
    """How much of the input retrieving sent: of tokens where known, else of the haystack."""
    return level.tokens[1] / level.tokens[0] if level.tokens else level.share


_MANY = 12
"""Levels from which on not each has a sentence; the table and JSON have them all."""
_VERDICTS: dict[Verdict, str] = {
    "long": "reading everything wins",
    "retrieve": "retrieving wins",
    "unclear": "the data cannot tell which is better",
}


def sentence(judged: Judged) -> str:
    """What one level says, plainly."""
    level, result = judged.level, judged.level.result
    where = level_name(level) + (", saying no" if level.measure == "specificity" else "")
    if result.difference is None:
        return f"{where}: no sample that both answered: nothing is known."
    parts = [
        f"{where}: {_VERDICTS[judged.verdict]}: {percent(result.rate_a)} % against "
        f"{percent(result.rate_b)} % right, {points(result.difference)} points "
        f"({points(result.interval[0])} to {points(result.interval[1])}; p = "
        f"{probability(judged.p)})".replace("p = <", "p < ")
    ]
    if judged.verdict == "unclear" and result.p < ALPHA:
        parts[0] += ", though it could, were this the only comparison"
    elif result.clusters is not None and result.clusters < FEWEST:
        parts[0] += f", which takes {FEWEST} independent samples or more"
    parts += _retrieval(level)
    if level.tokens is not None:
        saved = 1 - level.tokens[1] / level.tokens[0]
        more = "fewer" if saved >= 0 else "more"
        parts.append(f"it took {percent(abs(saved))} % {more} input tokens")
    elif level.share is not None:
        parts.append(f"{percent(level.share)} % of the haystack was sent")
    if level.unanswered:
        lack = "lacks an answer and is" if level.unanswered == 1 else "lack an answer and are"
        parts.append(f"{many(level.unanswered, 'sample')} {lack} left out")
    return "; ".join(parts) + "."


def _retrieval(level: Level) -> Iterator[str]:
    recall = level.recall
    if level.measure == "specificity":
        return
    if not recall.n:
        yield "which units hold the answer is not defined"
        return
    yield (
        f"what is asked for was retrieved {recall.hits} of {recall.n} times "
        f"({percent(recall.value)} %)"
    )
    if level.right_missed.n and level.right_read.n:
        yield (
            f"right {percent(level.right_read.value)} % where it was, "
            f"{percent(level.right_missed.value)} % where it was not"
        )


def summary(one: Contrast) -> str:
    """Where who wins, in one line; means are left out."""
    told = places(one)
    parts = [
        f"Reading everything wins: {told['long']}",
        f"It loses: {told['retrieve']}",
        f"The data cannot tell: {told['unclear']}",
    ]
    if told["unknown"] != NOWHERE:
        parts.append(f"Nothing is known: {told['unknown']}")
    return ". ".join(parts) + "."


NOWHERE = "nowhere"


def places(one: Contrast) -> dict[Verdict, str]:
    """Of each verdict the levels that have it, means left out; NOWHERE where none has."""
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    by: dict[Verdict, dict[str, list[str]]] = {name: {} for name in verdicts}
    for judged in one.levels:
        level = judged.level
        if level.level is not None:
            text = level.measure == "answers"
            name = f"{level.task} at " if text else ""
            if level.needles > 1:
                name = f"{level.needles} needles, {name}"
            if level.measure == "specificity":
                name = f"saying no, {name}"
            where = level.level if text else label(Setting.parse(level.level))
            by[judged.verdict].setdefault(name, []).append(where)
    return {verdict: _listed(found) for verdict, found in by.items()}


def _listed(found: dict[str, list[str]]) -> str:
    return "; ".join(f"{name}{', '.join(where)}" for name, where in found.items()) or NOWHERE


def losses(one: Contrast) -> str:
    """Whose fault it is what retrieving loses: the retriever's, or the model's; "" for nothing."""
    lost = one.lost
    total = lost.retriever + lost.model + lost.unknown
    if not total:
        return ""
    rest = f"; of {lost.unknown:,} it is not defined which units hold them" if lost.unknown else ""
    return (
        f"Of {many(total, 'answer')} that only reading everything gets right, the retriever lost "
        f"{lost.retriever:,} (what is asked for was not retrieved) and the model {lost.model:,} "
        f"(it was retrieved, and missed){rest}."
    )
