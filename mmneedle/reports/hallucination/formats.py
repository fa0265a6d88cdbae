"""Faults of the answers' form: what came back, what could be read, what only `robust` reads."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from mmneedle.outcomes import Outcomes
from mmneedle.reports.hallucination.evidence import Finding, told
from mmneedle.reports.hallucination.inference import Bools
from mmneedle.reports.hallucination.needles import Needles, clusters_of
from mmneedle.reports.hallucination.pointing import EXAMPLE
from mmneedle.reports.words import many, percent
from mmneedle.runlog import STATUSES, Run
from mmneedle.statistics.shares import Share, share
from mmneedle.types import ANSWERED, Location, Setting

OFTEN = 0.02
"""Share of answers from which a fault is worth a sentence."""
LONG = 60
"""Characters a needle that no answer in the prompt's format needs."""
READ = 2_000
"""Answers of each kind whose text is read for its form; evenly spread where there are more."""
FAULTS = {
    "refused": "it declines to answer",
    "truncated": "the answer is cut off at the token limit",
    "empty": "no text comes back",
    "unparsed": "no answer can be read from the text",
    "out_of_range": "it names a cell that the haystack does not have",
    "long": f"the answer has more than {LONG} characters a needle",
}


class Formats(msgspec.Struct, frozen=True):
    """A run's answers by their form."""

    asked: int
    """Samples."""
    unanswered: dict[str, int]
    """Samples without an answer, by status; "missing" were never tried."""
    faults: dict[str, Share]
    """Of FAULTS, of answered samples."""
    outside: Location | None
    """The commonest cell that the haystack does not have."""
    outside_share: float
    """Its share of all those."""
    paper_misses: Share
    """Answers that `robust` finds right and `paper` wrong, of those that `robust` finds right."""
    forms: dict[str, int]
    """What those look like; counts of the texts read."""


def formats(
    tables: Mapping[Setting, Outcomes], parts: Sequence[Needles], run: Run | None
) -> Formats:
    """Count faults of form; `run` gives the texts, without it their forms stay unknown."""
    every = list(tables.values())
    statuses: Counter[str] = Counter()
    for table in every:
        for code, count in zip(*np.unique(table.status, return_counts=True), strict=True):
            statuses["missing" if code == 0 else STATUSES[code - 1]] += int(count)
    outside, part = _commonest_outside(parts)
    misses = [_paper_misses(table) for table in every]
    right = [_right(table, "robust") for table in every]
    return Formats(
        asked=sum(map(len, every)),
        unanswered={
            name: statuses[name]
            for name in ("missing", *STATUSES)
            if statuses[name] and name not in ANSWERED
        },
        faults=_faults(tables, parts),
        outside=outside,
        outside_share=part,
        paper_misses=_of(every, misses, right),
        forms=dict(_forms(every, misses, run).most_common()) if run is not None else {},
    )


def _faults(tables: Mapping[Setting, Outcomes], parts: Sequence[Needles]) -> dict[str, Share]:
    found = {}
    for name in FAULTS:
        columns = []
        for of in parts:
            table = tables[of.setting]
            if name in STATUSES and name != "refused":
                hit = table.status[of.sample] == STATUSES.index(name) + 1
            elif name == "long":
                hit = table.length[of.sample] > LONG * of.setting.needles
            elif name == "out_of_range":
                hit = of.named & ~of.inside
            elif name == "refused":
                hit = of.has("refused")
            else:
                ended = table.status[of.sample] == STATUSES.index("ok") + 1
                hit = of.has("unparsed") & ended
            columns.append(hit)
        if columns:
            found[name] = share(np.concatenate(columns), clusters_of(parts))
    return found


def _commonest_outside(parts: Sequence[Needles]) -> tuple[Location | None, float]:
    said = [of.said[of.named & ~of.inside] for of in parts]
    counts = Counter(map(tuple, np.concatenate(said).tolist())) if said else Counter()
    if not counts:
        return None, 0.0
    cell, most = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return Location(*cell), most / counts.total()


def _right(table: Outcomes, scorer: str) -> Bools:
    """Samples answered rightly: the exact cells, or absence."""
    marks = table.marks[scorer]  # type: ignore[index]
    verdict = np.where(table.positive, marks.exact, marks.existence)
    return np.asarray(verdict == 1)


def _paper_misses(table: Outcomes) -> Bools:
    counted = table.marks["paper"].answered
    return _right(table, "robust") & counted & ~_right(table, "paper")


def _of(tables: Sequence[Outcomes], hits: Sequence[Bools], among: Sequence[Bools]) -> Share:
    if not tables:
        return share([])
    clusters = [table.haystack + (k << 40) for k, table in enumerate(tables)]
    which = np.concatenate(among)
    shared = any(table.shared for table in tables)
    return share(np.concatenate(hits)[which], np.concatenate(clusters)[which] if shared else None)


# --------------------------------------------------------------------------- forms


def _forms(tables: Sequence[Outcomes], misses: Sequence[Bools], run: Run | None) -> Counter[str]:
    """Forms of the answers that only `robust` reads rightly."""
    found: Counter[str] = Counter()
    rows = [
        (table, int(row))
        for table, hit in zip(tables, misses, strict=True)
        for row in np.flatnonzero(hit)
    ]
    step = max(1, -(-len(rows) // READ))
    for table, row in rows[::step]:
        record = table.record(run, row) if run is not None else None
        if record is not None:
            found[form(record.response.text or "")] += 1
    return found


_BARE = r"-?\d+(?:\s*[,;:/\- ]\s*-?\d+)*"
_FORMS = (
    ("other spacing or separators", re.compile(rf"{_BARE}[\s;,.]*")),
    (
        "brackets or quotes",
        re.compile(rf"""[\s(\[{{<"'`*.,;]*(?:{_BARE}[\s)\]}}>"'`*(\[{{<.,;]*)+"""),
    ),
)
_LABELS = re.compile(r"\b(?:index|image|row|col(?:umn)?)\b", re.IGNORECASE)


def form(text: str) -> str:
    """What keeps an answer from being "1, 2, 3" or "-1" to the letter, in a few words."""
    text = text.strip()
    for name, pattern in _FORMS:
        if pattern.fullmatch(text):
            return name
    if _is_json(text):
        return "JSON"
    if len(text) > 400:
        return "a long text around the answer"
    if _LABELS.search(text):
        return "words such as “row” and “column”"
    if not any(char.isdigit() for char in text):
        return "absence in words"
    return "other words around the answer"


def _is_json(text: str) -> bool:
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", text)
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


# --------------------------------------------------------------------------- sentences


def findings(of: Formats, explained: bool) -> Iterator[Finding]:
    """What may be said about form; `explained`: why cells lie outside is another finding."""
    told_any = False
    if of.asked and (missing := sum(of.unanswered.values())):
        told_any = True
        names = ", ".join(f"{count:,} {name}" for name, count in of.unanswered.items())
        yield Finding(
            key="format.unanswered",
            family="format",
            verdict="notable" if missing / of.asked >= OFTEN else "no evidence",
            text=(
                f"{missing:,} of {many(of.asked, 'question')} ({percent(missing / of.asked)} %) "
                f"have no answer ({names}): they count in no figure here."
            ),
            weight=missing / of.asked,
            figures={"asked": of.asked, "unanswered": of.unanswered},
        )
    for name, part in of.faults.items():
        if (part.value or 0) < OFTEN or part.hits < 2 or (name == "out_of_range" and explained):
            continue
        told_any = True
        yield Finding(
            key=f"format.{name}",
            family="format",
            verdict="notable",
            text=f"In {told(part)} answers {FAULTS[name]}{_what(of, name)}.",
            weight=part.value or 0,
            figures=part.json(),
        )
    misses = of.paper_misses
    if misses.hits >= 2 and (misses.value or 0) >= OFTEN:
        told_any = True
        yield Finding(
            key="format.paper",
            family="format",
            verdict="notable",
            text=(
                f"The published string equality counts {told(misses)} of its right answers as "
                f"wrong for their form{_listed(of.forms)}."
            ),
            weight=misses.hits / max(1, of.asked),
            figures={**misses.json(), "forms": of.forms},
        )
    if not told_any and of.faults:
        n = next(iter(of.faults.values())).n
        yield Finding(
            key="format.none",
            family="format",
            verdict="no evidence",
            text=(
                f"Its {many(n, 'answer')} keep to the format: no fault in {percent(OFTEN, 0)} % "
                "of them or more."
            ),
            figures={name: part.json() for name, part in of.faults.items()},
        )


def _what(of: Formats, fault: str) -> str:
    if fault != "out_of_range" or of.outside is None:
        return ""
    example = ", the prompt’s own example" if of.outside == EXAMPLE else ""
    return f", most often “{of.outside}”{example} ({percent(of.outside_share, 0)} % of these)"


def _listed(forms: Mapping[str, int]) -> str:
    total = sum(forms.values())
    if not total:
        return ""
    most = list(forms.items())[:3]
    return ": " + ", ".join(f"{name} ({percent(count / total, 0)} %)" for name, count in most)
