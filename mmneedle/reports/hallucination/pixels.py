"""What the pixels of a cell do: within a run beside the setting, between runs on equal samples."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from mmneedle.outcomes import UNDEFINED, Outcomes
from mmneedle.reports.hallucination.evidence import Finding, p_text
from mmneedle.reports.hallucination.inference import LEVEL
from mmneedle.reports.hallucination.needles import Needles
from mmneedle.reports.words import label, many, percent
from mmneedle.scoring import Scorer
from mmneedle.statistics.comparison import mcnemar_exact, sign_flip
from mmneedle.statistics.shares import Share, by_cluster, share
from mmneedle.types import Setting


class Seen(msgspec.Struct, frozen=True):
    """One setting by the pixels of its cells."""

    setting: Setting
    cell: str
    """Pixels a side as the model gets them; "unknown" where that is not documented."""
    exact: Share
    alarms: Share


class Pixels(msgspec.Struct, frozen=True):
    """A run's settings by the pixels of their cells; empty where no run says them."""

    rows: list[Seen]


class Resized(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs of one model on the same samples, with cells of different sizes."""

    small: str
    """Pixels a cell of the one, by setting where they differ."""
    large: str
    n: int
    """Positives that both answered."""
    only_small: int
    """Of these, the cell found with small cells only."""
    only_large: int
    small_exact: Share
    large_exact: Share
    p: float
    """McNemar's exact test, two-sided; sign flips over haystacks where they are shared."""
    adjusted: float = 1.0
    """The same, corrected over all pairs of runs that are shown (Holm)."""


def pixels(parts: Sequence[Needles], cells: Mapping[Setting, str | None]) -> Pixels:
    """Exact accuracy and false alarms beside the pixels of a cell."""
    rows = []
    for of in parts:
        cell = cells.get(of.setting)
        if cell is None:
            continue
        there, groups = of.positive, of.groups
        rows.append(
            Seen(
                of.setting,
                cell,
                share(of.exact[there], None if groups is None else groups[there]),
                share(of.named[~there], None if groups is None else groups[~there]),
            )
        )
    return Pixels(rows)


def findings(of: Pixels) -> Iterator[Finding]:
    """Within one run pixels and settings change together: it is said, not tested."""
    known = [row for row in of.rows if row.cell != "unknown" and row.exact.n]
    sizes = {row.cell for row in known}
    if len(sizes) < 2:
        return
    least, most = (f(known, key=lambda row: _side(row.cell)) for f in (min, max))
    yield Finding(
        key="pixels.confounded",
        family="pixels",
        verdict="cannot tell: too few",
        text=(
            f"It got cells of {least.cell} px at {label(least.setting)} (Exact "
            f"{percent(least.exact.value)} %) and of {most.cell} px at {label(most.setting)} "
            f"({percent(most.exact.value)} %): haystack and pixels change together, so which one "
            "matters takes runs of the same samples with other cells (run --resize)."
        ),
        figures={"settings": as_json(of)},
    )


def _side(cell: str) -> int:
    return min(map(int, cell.split("x")))


def as_json(of: Pixels) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "setting": row.setting.name,
            "cell": row.cell,
            "exact": row.exact.json(),
            "false_alarms": row.alarms.json(),
        }
        for row in of.rows
    ]


# --------------------------------------------------------------------------- between runs


def resized(
    runs: Sequence[tuple[Mapping[Setting, Outcomes], Mapping[Setting, str | None]]],
    scorer: Scorer = "robust",
) -> list[Resized]:
    """Compare runs of one model and data set whose cells differ, neighbours by size.

    Args:
        runs: of each, its outcomes and the pixels of a cell by setting.
        scorer: whose reading counts.
    """
    known = [one for one in runs if any(cell not in (None, "unknown") for cell in one[1].values())]
    ordered = sorted(known, key=lambda one: _mean_side(one[1]))
    pairs = (_compare(small, large, scorer) for small, large in pairwise(ordered))
    return [pair for pair in pairs if pair is not None]


def _mean_side(cells: Mapping[Setting, str | None]) -> float:
    return float(np.mean([_side(c) for c in cells.values() if c not in (None, "unknown") and c]))


def _compare(
    small: tuple[Mapping[Setting, Outcomes], Mapping[Setting, str | None]],
    large: tuple[Mapping[Setting, Outcomes], Mapping[Setting, str | None]],
    scorer: Scorer,
) -> Resized | None:
    pairs, clusters, sizes = [], [], []
    shared = False
    for number, (setting, first) in enumerate(small[0].items()):
        second, cells = large[0].get(setting), (small[1].get(setting), large[1].get(setting))
        if second is None or None in cells or "unknown" in cells or cells[0] == cells[1]:
            continue
        _, a, b = np.intersect1d(first.number, second.number, return_indices=True)
        verdicts = np.stack([first.marks[scorer].exact[a], second.marks[scorer].exact[b]], axis=1)
        both = (verdicts != UNDEFINED).all(axis=1)
        pairs.append(verdicts[both] == 1)
        clusters.append(first.haystack[a][both] + (number << 40))
        sizes.append(cells)
        shared |= first.shared
    if not pairs or not sum(map(len, pairs)):
        return None
    hits, groups = np.concatenate(pairs), np.concatenate(clusters)
    n = len(hits)
    by = groups if shared else None
    only_small = int((hits[:, 0] & ~hits[:, 1]).sum())
    only_large = int((~hits[:, 0] & hits[:, 1]).sum())
    return Resized(
        small=_sizes([size[0] for size in sizes]),
        large=_sizes([size[1] for size in sizes]),
        n=n,
        only_small=only_small,
        only_large=only_large,
        small_exact=share(hits[:, 0], by),
        large_exact=share(hits[:, 1], by),
        p=sign_flip(by_cluster(hits[:, 1].astype(np.float64) - hits[:, 0], groups))
        if shared
        else mcnemar_exact(only_small, only_large),
    )


def _sizes(cells: Sequence[str | None]) -> str:
    return ", ".join(dict.fromkeys(str(cell) for cell in cells))


def sentence(of: Resized) -> str:
    """What two runs say together."""
    gap = (of.large_exact.value or 0) - (of.small_exact.value or 0)
    figures = (
        f"Exact {percent(of.small_exact.value)} % with cells of {of.small} px, "
        f"{percent(of.large_exact.value)} % with {of.large} px, on the same "
        f"{many(of.n, 'positive')}: {of.only_large:,} found only with larger cells, "
        f"{of.only_small:,} only with smaller ones ({p_text(of.adjusted)})"
    )
    if of.adjusted < LEVEL:
        return f"Pixels matter: {figures}." if gap > 0 else f"Larger cells did worse: {figures}."
    return f"No evidence that pixels matter between these runs: {figures}."
