"""Suspects: habits that may explain where a model looks, each against its exact chance.

An answer names one of a field's cells. Under the null it is drawn from given weights; a suspect
is a set of cells (which may depend on the truth). Suspects overlap: a corner is also an edge, and
a model that always names one corner names edges all the time. So they are taken one by one, the
one that explains most first; the others are then asked again among answers that agree about what
is explained (a corner among corners, another cell among other cells), and claimed only if they
still show.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mmneedle.reports.hallucination.evidence import Levels, p_text, span
from mmneedle.reports.hallucination.inference import LEVEL, Bools, Floats, Ints, detectable, excess
from mmneedle.reports.words import percent
from mmneedle.statistics.shares import Share, share


class Field(msgspec.Struct, frozen=True):
    """Answers of one setting that a family of suspects is about; n answers, c cells."""

    row: Ints
    """Which row of weights and masks is the answer's; shape (n,)."""
    cell: Ints
    """Which of the c cells it names; shape (n,)."""
    nulls: tuple[Floats, ...]
    """Ways not to have the habit: each the cells' weights, shape (rows, c). The first one is the
    chance that is shown; a claim has to stand against all."""
    masks: dict[str, Bools]
    """Suspect -> its cells, shape (rows, c)."""
    clusters: Ints | None
    """Of the answers; None: independent."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One suspect, counted."""

    key: str
    label: str
    seen: Share
    expected: float
    """Share of the answers by chance, 0..1."""
    p: float
    """One-sided, by itself."""
    adjusted: float = 1.0
    """Corrected over all tests of the report."""
    claimed: bool = False
    """Whether it shows beyond what suspects claimed before it explain."""
    tellable: bool = True
    """Whether a habit in half of the answers would show."""

    @property
    def weight(self) -> float:
        """Answers more than by chance."""
        return max(0.0, (self.seen.hits - self.expected * self.seen.n))

    @property
    def note(self) -> str:
        """ "46 of 60 (76.7 %, 64.6–85.6 %), 6.2 % by chance, p < 0.001"."""
        seen = self.seen
        return (
            f"{seen.hits:,} of {seen.n:,} ({percent(seen.value)} %, {span(seen.interval)}), where "
            f"chance gives {percent(self.expected)} %; {p_text(self.adjusted)}"
        )

    def json(self) -> dict[str, Any]:
        """A row of the JSON output."""
        return {
            "key": self.key,
            "label": self.label,
            **self.seen.json(),
            "expected": self.expected,
            "p": self.p,
            "p_holm": self.adjusted,
            "claimed": self.claimed,
            "enough": self.tellable,
        }


def measure(
    fields: Sequence[Field], labels: Mapping[str, str], tries: Mapping[str, int] | None = None
) -> list[Measured]:
    """Every suspect that some answer could have shown, each by itself.

    `tries`: of how many candidates a suspect was picked by its count; its p is multiplied by it.
    """
    labelled = [len(field.cell) * [0] for field in fields]
    plain = [np.zeros(field.nulls[0].shape, np.int64) for field in fields]
    found = []
    for key, label in labels.items():
        hits, chances, clusters = _against(fields, key, plain, labelled)
        if not len(hits) or not (chances[0] > 0).any():
            continue
        p = max(excess(hits, chance, clusters) for chance in chances)
        p = min(1.0, p * (tries or {}).get(key, 1))
        found.append(
            Measured(
                key=key,
                label=label,
                seen=share(hits, clusters),
                expected=float(chances[0].mean()),
                p=p,
            )
        )
    return found


def nearest(measured: Sequence[Measured]) -> Measured | None:
    """What comes nearest to a habit: the smallest p, then the most answers beyond chance.

    None where nothing was seen more often than chance gives: that is no habit, however near.
    """
    more = [one for one in measured if one.weight > 0]
    return min(more, key=lambda one: (one.p, -one.weight), default=None)


def select(
    fields: Sequence[Field],
    measured: Sequence[Measured],
    levels: Levels,
    tries: Mapping[str, int] | None = None,
) -> list[Measured]:
    """Mark the suspects that are claimed; the order is theirs, then that of `measured`."""
    rows = {
        of.key: msgspec.structs.replace(
            of,
            adjusted=levels.adjusted[of.key],
            tellable=detectable(of.seen.n, of.expected, levels.count),
        )
        for of in measured
    }
    explained = [np.zeros(field.nulls[0].shape, np.int64) for field in fields]
    open_ = [key for key, row in rows.items() if row.adjusted < LEVEL]
    claimed: list[str] = []
    while open_:
        agree = [
            part[field.row, field.cell].tolist()
            for part, field in zip(explained, fields, strict=True)
        ]
        best, most = "", 0.0
        for key in open_:
            hits, chances, clusters = _against(fields, key, explained, agree)
            p = max(excess(hits, chance, clusters) for chance in chances)
            p *= (tries or {}).get(key, 1) * (levels.count - len(claimed))
            gain = min(_gain(hits, chance) for chance in chances)
            if p < LEVEL and gain > most + 1e-9:
                best, most = key, gain
        if not best:
            break
        claimed.append(best)
        open_.remove(best)
        for part, field in zip(explained, fields, strict=True):
            if best in field.masks:
                part += field.masks[best].astype(np.int64) << len(claimed)
    done = [msgspec.structs.replace(rows[key], claimed=True) for key in claimed]
    return done + [row for key, row in rows.items() if key not in claimed]


def _against(
    fields: Sequence[Field],
    key: str,
    explained: Sequence[Ints],
    agree: Sequence[Sequence[int]],
) -> tuple[Bools, list[Floats], Ints | None]:
    """Which answers show the suspect, each one's chance to by every null, and its cluster.

    Chances are those among cells that agree with the answer about what is explained.
    """
    hits: list[Bools] = []
    chances: list[list[Floats]] = []
    clusters: list[Ints | None] = []
    for field, part, label in zip(fields, explained, agree, strict=True):
        if key not in field.masks or not len(field.cell):
            continue
        mask = field.masks[key]
        hits.append(mask[field.row, field.cell])
        clusters.append(field.clusters)
        mine = np.asarray(label, np.int64)
        per_null = [np.zeros(len(mine)) for _ in field.nulls]
        for value in np.unique(mine).tolist():
            which = mine == value
            for chance, weights in zip(per_null, field.nulls, strict=True):
                alive = weights * (part == value)
                total = alive.sum(axis=1)
                with np.errstate(invalid="ignore", divide="ignore"):
                    rate = np.where(total > 0, (alive * mask).sum(axis=1) / total, 0.0)
                chance[which] = rate[field.row[which]]
        chances.append(per_null)
    if not hits:
        return np.zeros(0, np.bool_), [np.zeros(0)], None
    together = [np.concatenate(parts) for parts in zip(*chances, strict=True)]
    return np.concatenate(hits), together, _joined(clusters, list(map(len, hits)))


def _joined(clusters: Sequence[Ints | None], sizes: Sequence[int]) -> Ints | None:
    """Clusters over all fields; answers without one get one each. None: all independent."""
    if all(part is None for part in clusters):
        return None
    first = -1 - np.cumsum([0, *sizes])
    parts = [
        start - np.arange(size) if part is None else part
        for part, size, start in zip(clusters, sizes, first, strict=False)
    ]
    return np.concatenate(parts)


def _gain(hits: Bools, chances: Floats) -> float:
    """Log-likelihood that a suspect gains over chance: n KL(seen, expected), 0 where below."""
    n, p, q = len(hits), float(hits.mean()), float(chances.mean())
    if p <= q or not n:
        return 0.0
    q = max(q, 1e-12)
    rest = 0.0 if p == 1 else (1 - p) * math.log((1 - p) / (1 - q))
    return n * (p * math.log(p / q) + rest)
