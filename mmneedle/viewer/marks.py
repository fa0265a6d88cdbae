"""Frames in pictures: where a needle is, and where models say that it is."""

from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup

from mmneedle.types import Location, Setting
from mmneedle.viewer.pictures import Window

_UNITS = 360.0
"""Units of a drawing's longer side: about its pixels, so that labels are readable."""
_WIDE_UNITS = 720.0
"""Likewise where a haystack's only image has the page's width."""


class Mark(msgspec.Struct, frozen=True):
    """A cell to mark."""

    location: Location
    kind: str
    """true, given or both"""
    text: str


def marks(
    truth: Sequence[Location | None], given: Iterable[tuple[str, Sequence[Location | None]]]
) -> list[Mark]:
    """Each needle's true cell and the cells that models named, one mark a cell.

    Args:
        truth: one location a needle; None: it is not there.
        given: a model's short name and the cell that it named for each needle.
    """
    words: dict[Location, list[str]] = {}
    right: set[Location] = set()
    several = len(truth) > 1
    for needle, location in enumerate(truth, 1):
        if location is not None:
            right.add(location)
            words.setdefault(location, []).append(f"true {needle}" if several else "true")
    for name, locations in given:
        for needle, location in enumerate(locations, 1):
            if location is not None:
                label = f"{name} {needle}" if several else name
                words.setdefault(location, []).append(label)
    found = []
    for location, labels in words.items():
        both = location in right and any(not label.startswith("true") for label in labels)
        kind = "both" if both else "true" if location in right else "given"
        found.append(Mark(location, kind, " = ".join(labels)))
    return found


def overlay(
    setting: Setting, cell: tuple[int, int], image: int, shown: Iterable[Mark]
) -> Markup | None:
    """The frames over one image with its labels, to lie on top of the picture; None: no mark.

    Args:
        setting: the haystack's shape.
        cell: width and height of a cell, in pixels.
        image: its number from 1.
        shown: all marks of the haystack.
    """
    here = [mark for mark in shown if mark.location.image == image]
    whole = Window(1, 1, setting.rows, setting.cols)
    units = _WIDE_UNITS if setting.images == 1 else _UNITS
    return _drawing(whole, cell, here, units, labels=True) if here else None


def near(window: Window, cell: tuple[int, int], mark: Mark) -> Markup:
    """The frame of one cell in the small picture of its place."""
    return _drawing(window, cell, [mark], _UNITS, labels=False)


def _drawing(
    window: Window, cell: tuple[int, int], shown: Iterable[Mark], units: float, *, labels: bool
) -> Markup:
    scale = units / max(cell[0] * window.cols, cell[1] * window.rows)
    wide, high = cell[0] * scale, cell[1] * scale
    width, height = wide * window.cols, high * window.rows
    parts = []
    for mark in shown:
        x, y = wide * (mark.location.column - window.left), high * (mark.location.row - window.top)
        parts += _frame(mark, x, y, wide, high)
        if labels:
            parts += _label(mark, x, y, wide, high, width, height)
    return Markup(
        '<svg class="marks" viewBox="0 0 {w:.4g} {h:.4g}" aria-hidden="true" focusable="false">'
        "{parts}</svg>"
    ).format(w=width, h=height, parts=Markup("").join(parts))


def _frame(mark: Mark, x: float, y: float, wide: float, high: float) -> list[Markup]:
    """A solid frame for the true cell, a dashed one for the given; each on a dark ground."""
    place = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"').format(
        x + 2, y + 2, max(wide - 4, 1), max(high - 4, 1)
    )
    return [
        Markup('<rect class="ground" {}/>').format(place),
        Markup('<rect class="frame {}" {}/>').format(mark.kind, place),
    ]


def _label(
    mark: Mark, x: float, y: float, wide: float, high: float, width: float, height: float
) -> list[Markup]:
    """A small plate with the mark's name, above the true cell and below a given one."""
    long, tall = min(7.2 * len(mark.text) + 10, width), 18.0
    left = min(max(0.0, x + wide / 2 - long / 2), width - long)
    above, below = y - tall + 1, y + high - 1
    if wide > 90:  # room inside
        top = y + high - tall - 5 if mark.kind == "given" else y + 4
    elif mark.kind == "given":
        top = below if below + tall <= height else above
    else:
        top = above if above >= 0 else below
    return [
        Markup(
            '<rect class="plate {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="4"/>'
        ).format(mark.kind, left, top, long, tall),
        Markup('<text class="plate {}" x="{:.1f}" y="{:.1f}">{}</text>').format(
            mark.kind, left + long / 2, top + 13, mark.text
        ),
    ]
