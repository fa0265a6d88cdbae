"""Where a model points when nothing is there.

Photos stand at random places in a haystack, so whatever a model sees in them, the cell that it
names for something absent is uniformly distributed over the haystack; what deviates from that is
a habit of the model. Habits are tested one by one (`suspects`), and all of them at once by a test
against uniform.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from mmneedle.reports.hallucination.evidence import Finding, Levels, p_text
from mmneedle.reports.hallucination.inference import DRAWS, Bools, Ints, uneven
from mmneedle.reports.hallucination.needles import Needles
from mmneedle.reports.hallucination.suspects import Field, Measured, measure, nearest, select
from mmneedle.reports.words import many
from mmneedle.types import Location, Setting

EXAMPLE = Location(1, 2, 3)
"""The one that the prompt gives."""
LABELS = {
    "pointing.example": "the prompt’s own example, “1, 2, 3”",
    "pointing.first_cell": "the very first cell, “1, 1, 1”",
    "pointing.corners": "a corner of the grid",
    "pointing.first_image": "the first image",
    "pointing.last_image": "the last image",
    "pointing.edges": "the outer cells of the grid",
    "pointing.repeated": "one and the same cell",
}
_UNEVEN = {
    "pointing.uneven_images": "over the images",
    "pointing.uneven_cells": "over the cells of the grid",
}


class Pointing(msgspec.Struct, frozen=True):
    """A run's false alarms that name a cell of the haystack."""

    counts: dict[Setting, Ints]
    """By image, row and column."""
    measured: list[Measured]
    uneven: dict[str, float]
    """p against uniform, by key of _UNEVEN."""
    alarms: int
    outside: int
    """False alarms that name a cell which the haystack does not have."""
    repeated: Location | None
    """The commonest answer."""
    tries: dict[str, int]
    fields: list[Field]

    @property
    def tests(self) -> dict[str, float]:
        """Key -> p."""
        return {one.key: one.p for one in self.measured} | self.uneven

    def judged(self, levels: Levels) -> "Pointing":
        """With what may be claimed marked, claims first."""
        found = select(self.fields, self.measured, levels, self.tries)
        return msgspec.structs.replace(self, measured=found)


def pointing(parts: Sequence[Needles], draws: int = DRAWS) -> Pointing:
    """Count false alarms by place and test them."""
    alarms = [of.chosen(~of.positive & of.named) for of in parts]
    inside = [of.chosen(of.inside) for of in alarms]
    cells = [_cell(of.setting, of.said) for of in inside]
    repeated = _commonest(inside)
    fields = [
        Field(
            row=np.zeros(len(of), np.int64),
            cell=cell,
            nulls=(np.ones((1, of.setting.cells)),),
            masks=_masks(of.setting, repeated),
            clusters=of.groups,
        )
        for of, cell in zip(inside, cells, strict=True)
    ]
    tries = {"pointing.repeated": _candidates([of.setting for of in inside if len(of)])}
    return Pointing(
        counts={
            of.setting: np.bincount(cell, minlength=of.setting.cells).reshape(
                of.setting.images, of.setting.rows, of.setting.cols
            )
            for of, cell in zip(inside, cells, strict=True)
        },
        measured=measure(fields, LABELS, tries),
        uneven=_spread(inside, cells, draws),
        alarms=sum(map(len, alarms)),
        outside=sum(map(len, alarms)) - sum(map(len, inside)),
        repeated=repeated,
        tries=tries,
        fields=fields,
    )


def _cell(setting: Setting, said: Ints) -> Ints:
    """The number of each cell of the haystack, (m, 3) -> (m,)."""
    image, row, column = said.T - 1
    return np.asarray((image * setting.rows + row) * setting.cols + column)


def _commonest(parts: Sequence[Needles]) -> Location | None:
    counts: Counter[tuple[int, ...]] = Counter()
    for of in parts:
        counts.update(map(tuple, of.said.tolist()))
    if not counts:
        return None
    most = max(counts.values())
    return Location(*min(cell for cell, count in counts.items() if count == most))


def _candidates(settings: Sequence[Setting]) -> int:
    """How many different cells could have been the commonest."""
    sizes = [(of.images, of.rows, of.cols) for of in settings]
    return int(np.prod(np.max(sizes, axis=0))) if sizes else 1


def _masks(setting: Setting, repeated: Location | None) -> dict[str, Bools]:
    """Each suspect's cells; those that are no cell or every cell of the haystack are left out."""
    shape = (setting.images, setting.rows, setting.cols)
    image, row, column = np.indices(shape)
    rim = (row == 0) | (row == shape[1] - 1), (column == 0) | (column == shape[2] - 1)
    masks = {
        "pointing.example": _one(shape, EXAMPLE),
        "pointing.first_cell": _one(shape, Location(1, 1, 1)),
        "pointing.corners": rim[0] & rim[1],
        "pointing.first_image": image == 0,
        "pointing.last_image": image == shape[0] - 1,
        "pointing.edges": rim[0] | rim[1],
    }
    if repeated is not None:
        masks["pointing.repeated"] = _one(shape, repeated)
    return {
        key: mask.reshape(1, -1) for key, mask in masks.items() if mask.any() and not mask.all()
    }


def _one(shape: tuple[int, int, int], place: Location) -> Bools:
    mask = np.zeros(shape, np.bool_)
    if all(1 <= at <= most for at, most in zip(place, shape, strict=True)):
        mask[tuple(at - 1 for at in place)] = True
    return mask


def _spread(parts: Sequence[Needles], cells: Sequence[Ints], draws: int) -> dict[str, float]:
    found = {}
    for key in _UNEVEN:
        tables, clusters = [], []
        for of, cell in zip(parts, cells, strict=True):
            grid = of.setting.rows * of.setting.cols
            at = cell // grid if key == "pointing.uneven_images" else cell % grid
            size = of.setting.images if key == "pointing.uneven_images" else grid
            if size > 1 and len(cell):
                tables.append((at, size))
                clusters.append(of.groups)
        if tables:
            found[key] = uneven(tables, clusters, draws)
    return found


# --------------------------------------------------------------------------- sentences


def findings(of: Pointing, levels: Levels, answers: int) -> Iterator[Finding]:
    """What may be said; `answers` is how many the run has in all."""
    inside = of.alarms - of.outside
    claimed = [one for one in of.measured if one.claimed]
    for one in claimed:
        yield Finding(
            key=one.key,
            family="pointing",
            verdict="notable",
            text=_habit(one, of.repeated),
            weight=one.weight / answers,
            **levels.values(one.key),
            figures=one.json(),
        )
    odd = [key for key in of.uneven if levels.significant(key)]
    if claimed:
        return
    if odd:
        where = " and ".join(_UNEVEN[key] for key in odd)
        worst = min(odd, key=levels.adjusted.__getitem__)
        yield Finding(
            key=worst,
            family="pointing",
            verdict="notable",
            text=(
                f"When nothing is there, the {many(inside, 'cell')} that it names are spread "
                f"unevenly {where} ({p_text(levels.adjusted.get(worst))}), though none of the "
                "habits looked for explains it: see the map."
            ),
            weight=0.1 * inside / answers,
            **levels.values(worst),
            figures={"n": inside},
        )
        return
    yield _nothing(of, levels, inside)


def _habit(one: Measured, repeated: Location | None) -> str:
    label = one.label
    if one.key == "pointing.repeated":
        label = f"always the same cell, “{repeated}”,"
    return f"When nothing is there, it likes to name {label}: {one.note}."


def _nothing(of: Pointing, levels: Levels, inside: int) -> Finding:
    few = not inside or not any(one.tellable for one in of.measured)
    best = nearest(of.measured)
    if not of.alarms:
        text = "It named no cell for anything absent, so there is no place that it favours."
    elif not inside:
        text = (
            f"All {many(of.alarms, 'false alarm')} name cells that the haystack does not have, so "
            "there is no place in it that it favours."
        )
    elif few:
        text = (
            f"Only {many(inside, 'false alarm')}: too few to tell whether it favours a place when "
            "nothing is there."
        )
    else:
        text = (
            f"No favourite place when nothing is there: of {many(inside, 'false alarm')}, none of "
            f"the {many(len(of.measured), 'habit')} looked for shows"
            + (
                f"; the nearest is {_plain(best, of.repeated)} with {best.note}."
                if best
                else ", nor is one seen more often than by chance."
            )
        )
    return Finding(
        key="pointing.none",
        family="pointing",
        weight=0.15 if of.alarms else 0.0,
        verdict="cannot tell: too few" if few and of.alarms else "no evidence",
        text=text,
        figures={"n": inside, "outside": of.outside},
    )


def _plain(one: Measured, repeated: Location | None) -> str:
    return f"“{repeated}”" if one.key == "pointing.repeated" else one.label
