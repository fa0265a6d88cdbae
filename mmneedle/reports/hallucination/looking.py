"""Where a model looks when it is wrong about something that is there.

Wrong cells are compared with the true one: in the right image (how far off, in which direction),
and in others (which image, which place). Chance is exact, over all wrong cells that the answer
could have named given the truth. A habit of naming certain cells makes such figures too (a model
that always names the middle is often near), so a claim must also stand against wrong cells drawn
as often as the model names them whatever the truth.
"""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from mmneedle.reports.hallucination.evidence import Finding, Levels, p_text
from mmneedle.reports.hallucination.inference import Bools, Floats, Ints
from mmneedle.reports.hallucination.needles import Needles
from mmneedle.reports.hallucination.suspects import Field, Measured, measure, nearest, select
from mmneedle.reports.words import many
from mmneedle.statistics.shares import by_cluster
from mmneedle.types import Setting

IN_IMAGE = {
    "looking.transposed": "row and column are swapped",
    "looking.zero_based": "row and column are both one too small",
    "looking.row_off": "the row is off by one and the column right",
    "looking.column_off": "the column is off by one and the row right",
    "looking.neighbour": "it is one of the neighbouring cells",
    "looking.same_row": "it is in the right row",
    "looking.same_column": "it is in the right column",
}
"""Right image, another cell."""
ELSEWHERE = {
    "looking.all_zero_based": "image, row and column are all one too small",
    "looking.all_too_large": "image, row and column are all one too large",
    "looking.previous_image_cell": "it is the right place, one image too early",
    "looking.next_image_cell": "it is the right place, one image too late",
    "looking.other_image_cell": "it is the right place in another image",
    "looking.previous_image": "it is in the image before",
    "looking.next_image": "it is in the image after",
}
"""Another image."""
FEW_STEPS = 30
"""Wrong cells from which the mean distance is tested (a normal approximation)."""
_NEAR = 3
"""Steps that the map of offsets shows in each direction."""


class Distance(msgspec.Struct, frozen=True):
    """How far wrong cells of the right image are from the true one, in steps along rows and
    columns (Manhattan) and as a king walks (Chebyshev), and how far random ones would be."""

    n: int
    manhattan: float
    expected_manhattan: float
    chebyshev: float
    expected_chebyshev: float
    p: float | None
    """One-sided, that the steps along rows and columns are fewer; None: too few to test."""


class Looking(msgspec.Struct, frozen=True):
    """A run's wrong cells for needles that are there."""

    wrong: int
    """Named, but not the true cell."""
    in_image: int
    """Of these, in the right image."""
    asked: int
    """Needles that are there."""
    exact: int
    missed: int
    measured: tuple[list[Measured], list[Measured]]
    """IN_IMAGE, ELSEWHERE"""
    fields: tuple[list[Field], list[Field]]
    distance: Distance | None
    offsets: Ints | None
    """Wrong cells of the right image by rows and columns too far, -3 … 3 each; None: no grids."""

    @property
    def tests(self) -> dict[str, float | None]:
        """Key -> p."""
        found: dict[str, float | None] = {one.key: one.p for of in self.measured for one in of}
        if self.distance is not None:
            found["looking.near"] = self.distance.p
        return found

    def judged(self, levels: Levels) -> "Looking":
        """With what may be claimed marked, claims first."""
        near, far = (
            select(fields, measured, levels)
            for fields, measured in zip(self.fields, self.measured, strict=True)
        )
        return msgspec.structs.replace(self, measured=(near, far))


def looking(parts: Sequence[Needles]) -> Looking:
    """Count wrong cells by where they lie from the true one."""
    wrong = [of.chosen(of.positive & of.named & ~_same(of, (0, 1, 2))) for of in parts]
    same = [_same(of, (0,)) for of in wrong]
    near = [of.chosen(at) for of, at in zip(wrong, same, strict=True)]
    far = [of.chosen(~at) for of, at in zip(wrong, same, strict=True)]
    fields = (
        [field for of in near if (field := _field(of, in_image=True))],
        [field for of in far if (field := _field(of, in_image=False))],
    )
    return Looking(
        wrong=sum(map(len, wrong)),
        in_image=sum(map(len, near)),
        asked=sum(int(of.positive.sum()) for of in parts),
        exact=sum(int(of.exact.sum()) for of in parts),
        missed=sum(int(of.has("missed").sum()) for of in parts),
        measured=(measure(fields[0], IN_IMAGE), measure(fields[1], ELSEWHERE)),
        fields=fields,
        distance=_distance(near),
        offsets=_offsets(near),
    )


def _same(of: Needles, columns: tuple[int, ...]) -> Bools:
    """Whether image (0), row (1) and column (2) are those of the truth."""
    return np.asarray((of.said == of.truth)[:, columns].all(axis=1), np.bool_)


# --------------------------------------------------------------------------- fields


def _field(of: Needles, *, in_image: bool) -> Field | None:
    """Wrong cells against all that they could have been, one step outside of the haystack too.

    Models that count from zero name such cells. An answer inside is compared with wrong cells
    inside, one outside with cells outside. Answers farther out say nothing about counting.
    """
    if in_image and of.setting.rows * of.setting.cols == 1 and not len(of):
        return None
    within = _shape(of.setting)
    reach = within + 2
    counted: Bools = np.all((of.said >= 0) & (of.said < reach), axis=1)
    of = of.chosen(counted)
    if not len(of):
        return None
    cells = np.indices(tuple(reach)).reshape(3, -1).T
    inside = ((cells >= 1) & (cells <= within)).all(axis=1)
    zone = (~of.inside).astype(np.int64)
    lines, row = np.unique(np.column_stack([of.truth, zone]), axis=0, return_inverse=True)
    row = row.reshape(-1)
    step = cells[None] - lines[:, None, :3]
    possible = (step != 0).any(axis=2) & (inside == (lines[:, 3:] == 0))
    possible &= np.equal(step[:, :, 0] == 0, in_image)
    cell = np.ravel_multi_index(tuple(of.said.T), tuple(reach))
    habit = np.bincount(cell, minlength=len(cells))
    weights = possible.astype(np.float64)
    return Field(
        row=row,
        cell=cell,
        nulls=(weights, weights * habit),
        masks=_near_masks(lines, cells, step) if in_image else _far_masks(of.setting, step),
        clusters=of.groups,
    )


def _shape(setting: Setting) -> Ints:
    return np.array([setting.images, setting.rows, setting.cols], np.int64)


def _near_masks(lines: Ints, cells: Ints, step: Ints) -> dict[str, Bools]:
    down, along = step[:, :, 1], step[:, :, 2]
    swapped = (cells[:, 1] == lines[:, 2:3]) & (cells[:, 2] == lines[:, 1:2])
    return {
        "looking.transposed": swapped,
        "looking.zero_based": (down == -1) & (along == -1),
        "looking.row_off": (abs(down) == 1) & (along == 0),
        "looking.column_off": (abs(along) == 1) & (down == 0),
        "looking.neighbour": np.maximum(abs(down), abs(along)) == 1,
        "looking.same_row": down == 0,
        "looking.same_column": along == 0,
    }


def _far_masks(setting: Setting, step: Ints) -> dict[str, Bools]:
    image, same = step[:, :, 0], (step[:, :, 1:] == 0).all(axis=2)
    masks = {
        "looking.all_zero_based": (step == -1).all(axis=2),
        "looking.all_too_large": (step == 1).all(axis=2),
        "looking.previous_image_cell": same & (image == -1),
        "looking.next_image_cell": same & (image == 1),
        "looking.other_image_cell": same,
        "looking.previous_image": image == -1,
        "looking.next_image": image == 1,
    }
    if setting.rows * setting.cols == 1:  # any other image has the right place
        del masks["looking.other_image_cell"]
    return masks


# --------------------------------------------------------------------------- distance


def _distance(near: Sequence[Needles]) -> Distance | None:
    """Mean distance of wrong cells inside the right image, against chance and against habit."""
    seen: list[Floats] = []
    means: list[list[Floats]] = [[], []]
    variances: list[list[Floats]] = [[], []]
    kings: list[Floats] = []
    random_kings: list[Floats] = []
    clusters: list[Ints] = []
    for of in near:
        of = of.chosen(of.inside)
        if not len(of):
            continue
        grid = np.indices((of.setting.rows, of.setting.cols)).reshape(2, -1).T + 1
        step = abs(grid[None] - of.truth[:, None, 1:])
        walks, king = step.sum(axis=2), step.max(axis=2)
        said = (of.said[:, 1] - 1) * of.setting.cols + of.said[:, 2] - 1
        at = np.arange(len(of))
        habit = np.bincount(said, minlength=len(grid))
        for k, weights in enumerate((walks > 0, (walks > 0) * habit)):
            share = weights / weights.sum(axis=1, keepdims=True)
            mean = (share * walks).sum(axis=1)
            means[k].append(mean)
            variances[k].append((share * walks**2).sum(axis=1) - mean**2)
        seen.append(walks[at, said].astype(np.float64))
        kings.append(king[at, said].astype(np.float64))
        random_kings.append((king * (walks > 0)).sum(axis=1) / (walks > 0).sum(axis=1))
        clusters.append(of.cluster)
    if not seen:
        return None
    walked = np.concatenate(seen)
    ps = [
        _fewer(walked - np.concatenate(m), np.concatenate(v), np.concatenate(clusters))
        for m, v in zip(means, variances, strict=True)
    ]
    return Distance(
        n=len(walked),
        manhattan=float(walked.mean()),
        expected_manhattan=float(np.concatenate(means[0]).mean()),
        chebyshev=float(np.concatenate(kings).mean()),
        expected_chebyshev=float(np.concatenate(random_kings).mean()),
        p=max(ps) if len(walked) >= FEW_STEPS and np.concatenate(variances[0]).any() else None,
    )


def _fewer(apart: Floats, variance: Floats, clusters: Ints) -> float:
    """One-sided p that the sum of `apart` is below zero; clusters may only widen its spread."""
    spread = max(float(variance.sum()), float((by_cluster(apart, clusters) ** 2).sum()), 1e-12)
    return float(NormalDist().cdf(float(apart.sum()) / spread**0.5))


def _offsets(near: Sequence[Needles]) -> Ints | None:
    side = 2 * _NEAR + 1
    counts = np.zeros((side, side), np.int64)
    wide = [of for of in near if of.setting.rows * of.setting.cols > 1]
    for of in wide:
        down, along = (of.said - of.truth)[:, 1:].T
        near_by = (abs(down) <= _NEAR) & (abs(along) <= _NEAR)
        np.add.at(counts, (down[near_by] + _NEAR, along[near_by] + _NEAR), 1)
    return counts if wide and counts.any() else None


# --------------------------------------------------------------------------- sentences


def findings(of: Looking, levels: Levels, answers: int) -> Iterator[Finding]:
    """What may be said; `answers` is how many the run has in all."""
    claimed = [one for measured in of.measured for one in measured if one.claimed]
    for one in claimed:
        where = "in the right image" if one.key in IN_IMAGE else "in another image"
        yield Finding(
            key=one.key,
            family="looking",
            verdict="notable",
            text=(
                f"When it names a wrong cell {where}, {one.label}, more often than by chance: "
                f"{one.note}."
            ),
            weight=one.weight / answers,
            **levels.values(one.key),
            figures=one.json(),
        )
    near = of.distance
    is_near = near is not None and levels.significant("looking.near")
    if near is not None and is_near and not any(one.key in IN_IMAGE for one in claimed):
        yield Finding(
            key="looking.near",
            family="looking",
            verdict="notable",
            text=(
                f"Its wrong cells in the right image are close to the true one: "
                f"{near.manhattan:.1f} steps on average along rows and columns, where random "
                f"ones are {near.expected_manhattan:.1f} away "
                f"({p_text(levels.adjusted.get('looking.near'))}, {many(near.n, 'answer')})."
            ),
            weight=0.5 * near.n / answers,
            **levels.values("looking.near"),
            figures=msgspec.to_builtins(near),
        )
    elif not claimed:
        yield _nothing(of, levels)


def _nothing(of: Looking, levels: Levels) -> Finding:
    every = [one for measured in of.measured for one in measured]
    few = not any(one.tellable for one in every)
    best = nearest(every)
    if not of.wrong:
        text = (
            f"It named no wrong cell for any of the {many(of.asked, 'needle')} that are there."
            if of.asked
            else "No needle that is there was asked for with an answer."
        )
    elif few:
        text = (
            f"Only {many(of.wrong, 'wrong cell')} for needles that are there: too few to tell "
            "where it looks instead."
        )
    else:
        text = (
            f"Its {many(of.wrong, 'wrong cell')} for needles that are there (of {of.asked:,}) lie "
            f"no nearer to the true ones than chance and its habits have it; "
            + (
                f"the nearest of {many(len(every), 'pattern')}: {best.label}, {best.note}."
                if best
                else f"none of {many(len(every), 'pattern')} is seen more often than by chance."
            )
        )
    return Finding(
        key="looking.none",
        family="looking",
        weight=0.14 if of.wrong else 0.0,
        verdict="cannot tell: too few" if few and of.wrong else "no evidence",
        text=text,
        figures={"n": of.wrong, "asked": of.asked},
    )
