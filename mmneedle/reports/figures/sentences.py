"""What the captions of all figures say: scorer, samples, missing answers, data sets."""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from mmneedle.outcomes import UNDEFINED
from mmneedle.reports.figures import measures
from mmneedle.reports.figures.measures import Datum, Estimate
from mmneedle.reports.figures.subjects import MARK, Subject, comparable
from mmneedle.reports.panels import named
from mmneedle.reports.words import percent, points, visible
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

ALT_LENGTH = 1_000
"""Characters of values in a text alternative, at most; the CSV file has them all."""


class Caption(msgspec.Struct, frozen=True):
    """What stands below a figure, and what stands for it where it cannot be seen."""

    text: str
    alt: str


class About(msgspec.Struct, frozen=True):
    """What a caption is computed from."""

    chosen: Sequence[Subject]
    rows: Sequence[Datum]
    scorer: Scorer
    few: int
    file: str
    """The CSV file beside the figure."""

    def of(self, label: str, setting: Setting | None = None) -> list[Datum]:
        """One subject's marks."""
        return [
            row
            for row in self.rows
            if row.label == label and (setting is None or row.setting == setting)
        ]

    @property
    def settings(self) -> list[Setting]:
        """Those that have marks."""
        return list(dict.fromkeys(row.setting for row in self.rows))


# --------------------------------------------------------------------------- common sentences


def common(about: About, *, counted: bool = True) -> list[str]:
    """What every caption says about the runs: scorer, samples, missing answers, data sets."""
    return [
        _scored(about) if counted else "",
        _samples(about),
        *_missing(about),
        _stopped(about),
        _tasks(about.chosen),
        _datasets(about.chosen),
        _printed(about.chosen),
    ]


def _scored(about: About) -> str:
    """By which scorer, and how far the other one is from it."""
    runs = [subject for subject in about.chosen if not subject.published]
    if not runs:
        return ""
    other: Scorer = "paper" if about.scorer == "robust" else "robust"
    gaps = []
    for subject in runs:
        for setting in about.settings:
            pairs = [
                measures.rate(subject, setting, "exact", positive=True, scorer=scorer)
                for scorer in (about.scorer, other)
            ]
            if all(found is not None and found.value is not None for found in pairs):
                mine, theirs = (found.value or 0.0 for found in pairs if found is not None)
                gaps.append((abs(theirs - mine), theirs - mine, subject.label, setting))
    text = f"Scored by “{about.scorer}”"
    if not gaps:
        return f"{text}."
    most = max(gaps, key=lambda gap: gap[0])
    if not most[0]:
        return f"{text}; “{other}” gives the same Exact everywhere."
    moved = points(most[1]).replace("-", "−")
    moved = f"+{moved}" if most[1] > 0 else moved
    return (
        f"{text}; “{other}” moves Exact by at most {moved} points ({visible(most[2])} at "
        f"{named(most[3])})."
    )


def _samples(about: About) -> str:
    """How many samples were asked."""
    sizes = sorted(
        {
            int(subject.tables[setting].positive.sum())
            for subject in about.chosen
            for setting in about.settings
            if setting in subject.tables
        }
    )
    if not sizes:
        return ""
    span = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    shared = any(t.shared for s in about.chosen for t in s.tables.values())
    return f"Each setting of a run asks {span} positive samples" + (
        "; samples share haystacks, which intervals take as the independent trials."
        if shared
        else "."
    )


def _missing(about: About) -> Iterator[str]:
    """Who has unanswered samples in this figure, and how many."""
    for subject in about.chosen:
        asked = lost = 0
        for setting in about.settings:
            if (table := subject.tables.get(setting)) is not None:
                asked += len(table)
                verdicts = table.marks[about.scorer].existence
                lost += int(np.equal(verdicts, UNDEFINED).sum())
        if lost:
            yield (
                f"{visible(subject.label)} left {lost:,} of {asked:,} samples unanswered; they are "
                "in no share, except as “no answer” among kinds of error."
            )


def _stopped(about: About) -> str:
    """Whose settings a rule stopped before their plan's end."""
    told = [
        f"{visible(subject.label)} at {', '.join(map(named, places))}"
        for subject in about.chosen
        if (places := [one for one in about.settings if one.name in subject.stopped])
    ]
    if not told:
        return ""
    return (
        f"A rule stopped asking once the figure was known well enough: {'; '.join(told)}; the "
        "intervals of accuracy and existence hold all the same, those of parts of them nearly."
    )


def _tasks(chosen: Sequence[Subject]) -> str:
    """Whether runs were asked in different ways, such as in images and in text."""
    tasks = list(dict.fromkeys(subject.task for subject in chosen if not subject.published))
    if len(tasks) < 2:
        return ""
    return f"The tasks differ ({', '.join(map(visible, tasks))}; in brackets behind the names)."


def _datasets(chosen: Sequence[Subject]) -> str:
    """Whether runs were asked the same questions."""
    known = {subject.dataset for subject in chosen if subject.dataset}
    if len(known) < 2:
        return ""
    return (
        f"The runs were made on {len(known)} data sets, hence asked different questions: compare "
        "them as landmarks only."
    )


def _printed(chosen: Sequence[Subject]) -> str:
    if not any(subject.published for subject in chosen):
        return ""
    return (
        f"{MARK} As printed in arXiv:2406.11230v2: other samples, scored by the official script "
        "with null responses dropped."
    )


def bold(about: About, what: str) -> str:
    """What bold numbers say, where there are any: runs of one data set, more than one."""
    if not comparable(about.chosen):
        return ""
    return f"Bold: the best run of each {what} in this figure."


def pale(about: About, how: str = "Pale") -> str:
    """How many marks stand on few trials."""
    count = sum(0 < row.share.n < about.few for row in about.rows)
    empty = sum(row.share.n == 0 for row in about.rows)
    text = (
        f"{how}: fewer than {about.few} answered ({count} of {len(about.rows)})." if count else ""
    )
    if empty:
        text += f"{' ' if text else ''}Blank: none answered or none there ({empty})."
    return text


# --------------------------------------------------------------------------- words


def pairs(rows: Iterable[Datum]) -> list[tuple[str, Setting]]:
    """Each subject with each of its settings, in the order of their marks."""
    return list(dict.fromkeys((row.label, row.setting) for row in rows))


def number_of(value: object) -> float:
    """A number that is known to be one, of a column that may hold others."""
    return float(value) if isinstance(value, (int, float)) else 0.0


def name(row: Datum) -> str:
    """A mark's subject as text."""
    return visible(row.label)


def at(row: Datum) -> str:
    """A mark's setting as text."""
    return named(row.setting)


def number(share: Estimate) -> str:
    """A share in per cent."""
    return percent(share.value)


def interval(share: Estimate) -> str:
    """A share's interval in per cent, in brackets; nothing where there is none."""
    if share.low is None or share.high is None:
        return ""
    return f"[{points(share.low)}, {points(share.high)}]"


def caption(text: Sequence[str], kind: str, values: Sequence[str], about: About) -> Caption:
    """Sentences (empty ones are left out), and the kind of figure with its values."""
    told, kept = "", 0
    while kept < len(values) and len(told) + len(values[kept]) < ALT_LENGTH:
        told += ("; " if kept else "") + values[kept]
        kept += 1
    if kept < len(values):
        told += f"{'; ' if kept else ''}the rest stands in {about.file}"
    sentences = " ".join(sentence for sentence in text if sentence)
    return Caption(re.sub(" {2,}", " ", sentences), f"{kind}. {told}." if told else f"{kind}.")
