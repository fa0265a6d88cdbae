"""A run's figures as far as it has come: scores, what became of answers, how fast it goes."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmneedle.following import Following
from mmneedle.outcomes import KINDS, UNDEFINED, Outcomes
from mmneedle.reports.panels import KINDS as NAMES
from mmneedle.reports.panels import in_order, named, shaped
from mmneedle.runlog import FINAL, STATUSES
from mmneedle.scoring import SCORERS, Scorer
from mmneedle.statistics.shares import Share, share
from mmneedle.types import ANSWERED
from mmneedle.viewer.selection import RIGHT, verdicts

_OPEN = np.array([0, *[STATUSES.index(one) + 1 for one in STATUSES if one not in FINAL]], np.int8)
"""Codes of samples that the next command asks (again): never tried, or infrastructure failed."""
UNREAD = "unread"
"""The outcome of what the log may tell, but was not read yet."""
_KIND_NAMES: list[str] = list(KINDS)
_ANSWERED = np.array([STATUSES.index(one) + 1 for one in STATUSES if one in ANSWERED], np.int8)


def rate(table: Outcomes, scorer: Scorer, metric: str, positive: bool) -> Share:
    """A metric over the answered positives or negatives of a table."""
    values = table.marks[scorer].metric(metric)
    counted = (values != UNDEFINED) & (table.positive == positive)
    return share(values[counted] == 1, table.haystack[counted] if table.shared else None)


def outcome_counts(table: Outcomes, scorer: Scorer = SCORERS[0]) -> dict[str, int]:
    """Samples by outcome: the names of panels.KINDS in their order; "no_answer" are those tried in
    vain, "untried" the others."""
    found = verdicts(table, scorer)
    tried = table.status > 0
    counts = {"right": int((found == RIGHT).sum())}
    for name in NAMES:
        if name in KINDS:
            counts[name] = int((found == _KIND_NAMES.index(name) + 1).sum())
    counts["no_answer"] = int(((found == UNDEFINED) & tried).sum())
    counts["untried"] = int(((found == UNDEFINED) & ~tried).sum())
    return {name: count for name, count in counts.items() if count}


def by_setting(following: Following) -> list[dict[str, Any]]:
    """Scores and outcomes of each setting, for the template; no figure before the log is read."""
    known = following.known
    return [
        {
            "setting": table.setting.name,
            "label": named(table.setting),
            "shape": shaped(table.setting),
            "asked": len(table),
            "answered": int(np.isin(table.status, _ANSWERED).sum()) if known else None,
            "cell": following.run.header.cell_text(table.setting),
            "scores": {scorer: _scores(table, scorer) for scorer in SCORERS},
            "outcomes": outcome_counts(table) if known else {UNREAD: len(table)},
        }
        for table in _in_order(following)
    ]


def _scores(table: Outcomes, scorer: Scorer) -> dict[str, Any]:
    sensitivity = rate(table, scorer, "existence", True)
    specificity = rate(table, scorer, "existence", False)
    return {
        "exact": rate(table, scorer, "exact", True),
        "index": rate(table, scorer, "index", True),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "youden": _youden(sensitivity, specificity),
    }


def _youden(sensitivity: Share, specificity: Share) -> float | None:
    if sensitivity.value is None or specificity.value is None:
        return None
    return sensitivity.value + specificity.value - 1


def summary(following: Following) -> dict[str, Any]:
    """A run in a few figures, by the robust reading: means over settings, as in reports.

    Before its log has been read once there are none (None): those of a part mislead.
    """
    tables = _in_order(following)
    if not following.known:
        asked = sum(map(len, tables))
        return {
            **dict.fromkeys(("exact", "youden", "answered", "open")),
            "known": False,
            "asked": asked,
            "outcomes": {UNREAD: asked},
            "statuses": {},
            "several": len({table.setting.needles for table in tables}) > 1,
        }
    scores = [_scores(table, "robust") for table in tables]
    asked = sum(map(len, tables))
    codes = _joined([table.status for table in tables])
    outcomes: dict[str, int] = {}
    for table in tables:
        for name, count in outcome_counts(table).items():
            outcomes[name] = outcomes.get(name, 0) + count
    return {
        "known": True,
        "exact": _mean([score["exact"].value for score in scores]),
        "youden": _mean([score["youden"] for score in scores]),
        "asked": asked,
        "answered": int(np.isin(codes, _ANSWERED).sum()),
        "open": int(np.isin(codes, _OPEN).sum()),
        "outcomes": {name: outcomes[name] for name in (*NAMES, "untried") if name in outcomes},
        "statuses": following.statuses(),
        "several": len({table.setting.needles for table in tables}) > 1,
    }


def progress(following: Following) -> dict[str, Any]:
    """How a run comes along: `state` is reading, running, done or stopped.

    `left` is the expected time to its end in seconds, at the pace of the last two minutes.
    """
    writers = following.writers()
    codes = _joined([table.status for table in following.tables.values()])
    waiting = int(np.isin(codes, _OPEN).sum())
    pace = following.pace(time.time()) if writers else None
    if following.unread or not following.known:
        state = "reading"
    elif writers:
        state = "running"
    else:
        state = "stopped" if waiting else "done"
    return {
        "state": state,
        "writers": writers,
        "pace": pace,
        "left": waiting / pace if pace else None,
        "read": 1 - following.unread / following.size if following.size else 1.0,
    }


def duration(seconds: float | None) -> str:
    """A time in words, about: "40 s", "12 min", "3 h 05 min", "2 days"."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{round(minutes / 1440)} days"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _in_order(following: Following) -> list[Outcomes]:
    return sorted(following.tables.values(), key=lambda table: in_order(table.setting))


def _joined(columns: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    return np.concatenate([*columns, np.zeros(0, np.int8)])
