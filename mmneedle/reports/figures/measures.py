"""The numbers behind the figures: shares with their intervals, counted from outcomes.

A `Datum` is one mark of a figure and one line of the CSV beside it. Where nothing was asked or
answered its value is None, and the figure is blank there.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.outcomes import KINDS, NOWHERE, UNDEFINED, Marks, Outcomes
from mmneedle.reports.figures.subjects import Subject
from mmneedle.reports.hallucination.calibration import Calibration, calibration
from mmneedle.runlog import Stop
from mmneedle.scoring import Scorer
from mmneedle.statistics import shares
from mmneedle.statistics.convergence import convergence as settle
from mmneedle.statistics.sequential import anytime_interval
from mmneedle.types import Setting

Flags = NDArray[np.bool_]
At = dict[str, float | int | str | None]

MOST_BINS, PER_BIN = 20, 20
"""Of depth: how many at most, and needles in each where cells are put together."""
STEPS = 60
"""Sample counts at which a convergence curve is reckoned, at most."""
_DRAWS = 499
"""For the noise of the calibration error."""
RIGHT, NO_ANSWER = "right", "no_answer"
OUTCOMES = (RIGHT, *KINDS, NO_ANSWER)
"""How a needle's question can end."""


class Estimate(msgspec.Struct, frozen=True):
    """A share as it is drawn: of trials, with its 95 % interval, or as it was published."""

    hits: float | None
    """None where only the share is known (published figures)."""
    n: int
    value: float | None
    """0..1; None where n is 0."""
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, found: shares.Share) -> "Estimate":
        """Of trials; where there are none, nothing is drawn."""
        return cls(found.hits, found.n, found.value, *(found.interval if found.n else ()))


class Datum(msgspec.Struct, frozen=True, kw_only=True):
    """One mark of a figure."""

    label: str
    """The subject's."""
    published: bool
    setting: Setting
    metric: str
    at: At
    """Where it stands: depth, cells, image, row and column, kind, …"""
    share: Estimate

    def flat(self) -> dict[str, Any]:
        """This mark as a line of a CSV file; None becomes an empty field."""
        share = msgspec.structs.asdict(self.share)
        return {
            "model": self.label,
            "origin": "published" if self.published else "run",
            "setting": self.setting.name,
            "metric": self.metric,
            **self.at,
            **share,
        }


# --------------------------------------------------------------------------- shares


def share(
    hits: NDArray[np.integer[Any]] | Flags, units: NDArray[np.int64] | None, counted: Flags
) -> Estimate:
    """The share of hits among the counted trials.

    Args:
        hits: whether each trial hit; shape (n,).
        units: what each trial belongs to where trials of a unit may be alike (`clustered`); None:
            all are independent (`wilson`).
        counted: which trials count; shape (n,).
    """
    found = shares.share(np.asarray(hits)[counted], None if units is None else units[counted])
    return Estimate.of(found)


def rate(
    subject: Subject, setting: Setting, metric: str, *, positive: bool, scorer: Scorer
) -> Estimate | None:
    """A score of one split: METRICS of outcomes. None: the subject was not asked that."""
    if subject.published:
        split = "positive" if positive else "negative"
        figure = subject.printed.get(setting, {}).get((split, metric))
        return None if figure is None else _printed(figure.value, figure.samples, figure.stderr)
    table = subject.tables.get(setting)
    if table is None or not (table.positive == positive).any():
        return None
    verdicts = table.marks[scorer].metric(metric)
    counted = (table.positive == positive) & np.not_equal(verdicts, UNDEFINED)
    found = share(np.equal(verdicts, 1), _units(table), counted)
    stop = subject.stopped.get(setting.name)
    return found if stop is None else _stopped(found, table, counted, verdicts, stop)


def _stopped(
    found: Estimate, table: Outcomes, counted: Flags, verdicts: NDArray[np.int8], stop: Stop
) -> Estimate:
    """A share where a rule stopped asking: with the interval that holds whenever that was."""
    if not found.n:
        return found
    _, place = np.unique(table.haystack[counted], return_inverse=True)
    right = np.bincount(place, np.equal(verdicts[counted], 1)) / np.bincount(place)
    values, times = np.unique(right, return_counts=True)
    pairs = zip(values.tolist(), times.tolist(), strict=True)
    low, high = anytime_interval(pairs, stop.halfwidth, stop.level)
    return msgspec.structs.replace(found, low=low, high=high)


def _printed(value: float, samples: int, stderr: float | None) -> Estimate:
    if stderr is None:
        return Estimate(None, samples, value)
    reach = 1.96 * stderr
    return Estimate(None, samples, value, max(0.0, value - reach), min(1.0, value + reach))


def _units(table: Outcomes) -> NDArray[np.int64] | None:
    return table.haystack if table.shared else None


def scores(
    chosen: Sequence[Subject], settings: Sequence[Setting], metric: str, scorer: Scorer
) -> list[Datum]:
    """A metric of every subject on every setting, existence on positives; `context` is its x."""
    return [
        Datum(
            label=subject.label,
            published=subject.published,
            setting=setting,
            metric=metric,
            at={"scorer": scorer, **context(subject, setting)},
            share=found,
        )
        for subject in chosen
        for setting in settings
        if (found := rate(subject, setting, metric, positive=True, scorer=scorer)) is not None
    ]


def context(subject: Subject, setting: Setting) -> At:
    """How long a setting's haystacks are: in images, cells and input tokens.

    Tokens are the mean over the samples whose usage the provider told; None where it told none.
    """
    tokens = None
    if (table := subject.tables.get(setting)) is not None:
        known = table.input_tokens[np.isfinite(table.input_tokens)]
        tokens = float(known.mean()) if len(known) else None
    return {"images": setting.images, "cells": setting.cells, "tokens": tokens}


# --------------------------------------------------------------------------- needles


class Needles(msgspec.Struct, frozen=True):
    """The needles of a setting's positive samples, one a row; m of them."""

    truth: NDArray[np.int16]
    """Image, row, column from 1; (m, 3)."""
    right: dict[str, Flags]
    """By metric: index (its image was named), exact (its cell)."""
    answered: Flags
    units: NDArray[np.int64] | None
    """What may be alike: a haystack, or the needles of one sample."""

    @classmethod
    def of(cls, table: Outcomes, scorer: Scorer) -> "Needles":
        """Those of a setting, as a scorer read the answers."""
        marks: Marks = table.marks[scorer]
        count = table.setting.needles
        known = table.positive & np.not_equal(table.truth[:, 0, 0], NOWHERE)
        truth = table.truth[known].reshape(-1, 3)
        said = marks.said[known].reshape(-1, 3)
        together = table.shared or count > 1
        return cls(
            truth=truth,
            right={
                "index": np.asarray(said[:, 0] == truth[:, 0]),
                "exact": np.asarray((said == truth).all(axis=1)),
            },
            answered=np.repeat(marks.answered[known], count),
            units=np.repeat(table.haystack[known], count) if together else None,
        )

    def share(self, metric: str, chosen: Flags) -> Estimate:
        """Of the chosen needles, those found."""
        return share(self.right[metric], self.units, chosen & self.answered)


def depths(
    chosen: Sequence[Subject],
    settings: Sequence[Setting],
    by: str,
    metric: str,
    scorer: Scorer,
) -> list[Datum]:
    """Needles found by where they lie: by "image", or by "cell" in reading order.

    Places are put together where a setting has many of them, cells also where there are few
    needles for each; the same way for every subject. `depth` is the middle of such a group: 0
    the haystack's first place, 1 its last.
    """
    rows = []
    for setting in settings:
        asked = [(s, Needles.of(s.tables[setting], scorer)) for s in chosen if setting in s.tables]
        if not asked:
            continue
        places = setting.images if by == "image" else setting.cells
        most = max(len(needles.truth) for _, needles in asked)
        groups = _groups(places, math.inf if by == "image" else most)
        for subject, needles in asked:
            place = _place(needles.truth, setting, by)
            for first, last in groups:
                rows.append(
                    Datum(
                        label=subject.label,
                        published=False,
                        setting=setting,
                        metric=metric,
                        at={
                            f"first_{by}": first + 1,
                            f"last_{by}": last + 1,
                            "depth": (first + last) / 2 / max(1, places - 1),
                        },
                        share=needles.share(metric, (place >= first) & (place <= last)),
                    )
                )
    return rows


def _place(truth: NDArray[np.int16], setting: Setting, by: str) -> NDArray[np.int64]:
    """Zero-based image, or zero-based cell in reading order."""
    image, row, column = truth.astype(np.int64).T - 1
    if by == "image":
        return np.asarray(image)
    return np.asarray((image * setting.rows + row) * setting.cols + column)


def _groups(places: int, needles: float) -> list[tuple[int, int]]:
    """Neighbouring places put together, as [first, last] from 0: each has a like number."""
    most = min(places, int(max(4, min(MOST_BINS, needles // PER_BIN))))
    count = max(n for n in range(1, most + 1) if places % n == 0)
    if 2 * count < most:  # no even cut: some groups have one place more
        count = most
    ends = [places * i // count for i in range(count + 1)]
    return [(first, last - 1) for first, last in pairwise(ends)]


def positions(
    chosen: Sequence[Subject], settings: Sequence[Setting], metric: str, scorer: Scorer
) -> list[Datum]:
    """Needles found by row and column of the true cell, over all images."""
    rows = []
    for subject in chosen:
        for setting in settings:
            if setting not in subject.tables:
                continue
            needles = Needles.of(subject.tables[setting], scorer)
            for row in range(1, setting.rows + 1):
                for column in range(1, setting.cols + 1):
                    here = np.equal(needles.truth[:, 1], row) & np.equal(
                        needles.truth[:, 2], column
                    )
                    rows.append(
                        Datum(
                            label=subject.label,
                            published=False,
                            setting=setting,
                            metric=metric,
                            at={"row": row, "column": column},
                            share=needles.share(metric, here),
                        )
                    )
    return rows


# --------------------------------------------------------------------------- convergence


def convergence(
    chosen: Sequence[Subject], settings: Sequence[Setting], metric: str, scorer: Scorer
) -> list[Datum]:
    """Mean and standard error over the first n answered positives (the paper's section 4.4).

    `low` and `high` are one standard error from the mean, not a 95 % interval.
    """
    rows = []
    for subject in chosen:
        for setting in settings:
            table = subject.tables.get(setting)
            if table is None:
                continue
            verdicts = table.marks[scorer].metric(metric)
            taken = table.positive & np.not_equal(verdicts, UNDEFINED)
            right = np.equal(verdicts[taken], 1)
            units = _units(table)
            curve = settle(right, None if units is None else units[taken])
            for n in _steps(len(right)):
                mean, error = float(curve.mean[n - 1]), float(curve.stderr[n - 1])
                known = math.isfinite(error)
                rows.append(
                    Datum(
                        label=subject.label,
                        published=False,
                        setting=setting,
                        metric=metric,
                        at={"samples": n, "stderr": error if known else None},
                        share=Estimate(
                            int(right[:n].sum()),
                            n,
                            mean,
                            max(0.0, mean - error) if known else None,
                            min(1.0, mean + error) if known else None,
                        ),
                    )
                )
    return rows


def _steps(n: int) -> list[int]:
    """Up to STEPS sample counts from 2 to n, evenly spaced, n among them."""
    if n < 2:
        return []
    return sorted({*np.linspace(2, n, min(STEPS, n - 1)).round().astype(int).tolist(), n})


# --------------------------------------------------------------------------- existence


def existence(
    chosen: Sequence[Subject], settings: Sequence[Setting], scorer: Scorer
) -> list[Datum]:
    """Sensitivity, and false alarms (1 - specificity), of each subject and setting."""
    rows = []
    for subject in chosen:
        for setting in settings:
            for positive, metric in ((True, "sensitivity"), (False, "false_alarms")):
                found = rate(subject, setting, "existence", positive=positive, scorer=scorer)
                if found is None:
                    continue
                rows.append(
                    Datum(
                        label=subject.label,
                        published=subject.published,
                        setting=setting,
                        metric=metric,
                        at={},
                        share=found if positive else _complement(found),
                    )
                )
    return rows


def _complement(found: Estimate) -> Estimate:
    return Estimate(
        None if found.hits is None else found.n - found.hits,
        found.n,
        None if found.value is None else 1 - found.value,
        None if found.high is None else 1 - found.high,
        None if found.low is None else 1 - found.low,
    )


def alarms(chosen: Sequence[Subject], settings: Sequence[Setting], scorer: Scorer) -> list[Datum]:
    """False alarms by what kind of negative: "random" and "hard", or "all" for published rows."""
    rows = []
    for subject in chosen:
        for setting in settings:
            for kind, found in _alarms(subject, setting, scorer):
                rows.append(
                    Datum(
                        label=subject.label,
                        published=subject.published,
                        setting=setting,
                        metric="false_alarms",
                        at={"negatives": kind, **context(subject, setting)},
                        share=found,
                    )
                )
    return rows


def _alarms(subject: Subject, setting: Setting, scorer: Scorer) -> Iterator[tuple[str, Estimate]]:
    if subject.published:
        found = rate(subject, setting, "existence", positive=False, scorer=scorer)
        if found is not None:
            yield "all", _complement(found)
        return
    table = subject.tables.get(setting)
    if table is None:
        return
    verdicts = table.marks[scorer].existence
    for kind, which in (("random", ~table.hard), ("hard", table.hard)):
        asked = ~table.positive & which
        if asked.any():
            counted = asked & np.not_equal(verdicts, UNDEFINED)
            yield kind, share(np.equal(verdicts, 0), _units(table), counted)


def endings(chosen: Sequence[Subject], settings: Sequence[Setting], scorer: Scorer) -> list[Datum]:
    """How the questions of each split ended, one a needle: the share of each of OUTCOMES."""
    rows = []
    for subject in chosen:
        for setting in settings:
            table = subject.tables.get(setting)
            if table is None:
                continue
            for split in ("positive", "negative"):
                kinds = table.marks[scorer].kind[table.positive == (split == "positive")]
                if not kinds.size:
                    continue
                for name, count in _endings(kinds):
                    rows.append(
                        Datum(
                            label=subject.label,
                            published=False,
                            setting=setting,
                            metric="ending",
                            at={"split": split, "kind": name},
                            share=Estimate(count, kinds.size, count / kinds.size),
                        )
                    )
    return rows


def _endings(kinds: NDArray[np.int8]) -> Iterator[tuple[str, int]]:
    yield RIGHT, int(np.equal(kinds, 0).sum())
    for code, name in enumerate(KINDS, 1):
        yield name, int(np.equal(kinds, code).sum())
    yield NO_ANSWER, int(np.equal(kinds, UNDEFINED).sum())


def reliability(
    chosen: Sequence[Subject], settings: Sequence[Setting], scorer: Scorer
) -> list[Datum]:
    """How often the needle is absent, by the probability the model gave to "-1".

    Only for one needle, where the engine told the probability of enough samples; bins hold
    equally many (`hallucination.calibration`, which reports say in words).
    """
    rows = []
    for subject in chosen:
        for setting in settings:
            found = calibrated(subject, setting, scorer)
            for number, one in enumerate(found.bins if found is not None else (), 1):
                rows.append(
                    Datum(
                        label=subject.label,
                        published=False,
                        setting=setting,
                        metric="absent",
                        at={
                            "bin": number,
                            "from": one.low,
                            "to": one.high,
                            "mean_probability": one.mean,
                        },
                        share=Estimate.of(one.absent),
                    )
                )
    return rows


def calibrated(subject: Subject, setting: Setting, scorer: Scorer) -> Calibration | None:
    """A subject's log-probabilities on one setting; None where there are too few."""
    table = subject.tables.get(setting)
    return None if table is None else calibration({setting: table}, scorer, _DRAWS)
