"""Samples to look at: what was asked and answered, and where, marked in their pictures."""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from markupsafe import Markup, escape
from PIL import Image

from mmneedle.errors import UserError
from mmneedle.reports.atlas import unplaced
from mmneedle.reports.findings import NO_ANSWER, Example, Findings
from mmneedle.reports.panels import KINDS, SCORERS, named, shaped
from mmneedle.scoring import Score
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Answer, Location, Sample

SIDE = {1: 224, 2: 240, 4: 288}
"""Pixels of a thumbnail's longer side by the cells along it; WIDEST beyond."""
WIDEST = 384
QUALITY = 50
DRAWN = 320
"""Units of a drawing's longer side, however small its picture is."""
MOST_PICTURES = 4
"""Images of one sample."""


# --------------------------------------------------------------------------- samples


def wall(
    run: str, found: Findings, dataset: DataSet | None, album: "Album", most: int
) -> dict[str, Any]:
    """One setting's selection: about `most` samples, each ready for the template."""
    album.open_page()
    return {
        "label": named(found.setting),
        "shape": shaped(found.setting),
        "items": [_item(run, example, dataset, album) for example in found.choose(most)],
    }


def _item(run: str, example: Example, dataset: DataSet | None, album: "Album") -> dict[str, Any]:
    sample, trouble = None, None
    if dataset is not None:
        try:
            sample = dataset.sample(example.sample)
        except (UserError, OSError) as error:
            trouble = f"The data set cannot give this sample: {unplaced(error, dataset)}"
    robust = example.scores.get(SCORERS[0])
    given = (
        [answer.location for answer in robust.answers] if robust else [None] * len(example.truth)
    )
    pictures: list[dict[str, Any]] = []
    unshown: list[int] = []
    if sample is not None and dataset is not None:
        try:
            pictures, unshown = _pictures(dataset, sample, example.truth, given, album)
        except (UserError, OSError, KeyError, ValueError) as error:
            trouble = f"Its pictures cannot be made: {unplaced(error, dataset)}"
    kind = example.category.split()[0]
    return {
        "id": example.sample,
        "key": f"{run}/{example.sample}",
        "kind": kind,
        "name": KINDS[kind],
        "captions": [needle.caption for needle in sample.needles] if sample else [],
        "truth": [_place(location) for location in example.truth],
        "reading": _readings(robust) if robust else [],
        "paper": _paper(example),
        "response": example.response,
        "text_length": example.text_length,
        "reasoning_length": example.reasoning_length,
        "pictures": pictures,
        "unshown": _unshown(unshown, bool(pictures)),
        "trouble": trouble,
    }


def _pictures(
    dataset: DataSet,
    sample: Sample,
    truth: Sequence[Location | None],
    given: Sequence[Location | None],
    album: "Album",
) -> tuple[list[dict[str, Any]], list[int]]:
    """The images that hold a true or a given cell, the true ones first, MOST_PICTURES at most.

    Second: the numbers of those that are left out, for that or because the album is full.
    """
    shown = [mark for mark in marks(truth, given) if inside(sample, mark.location)]
    ranked = sorted(shown, key=lambda mark: mark.name == "given")
    pictures: list[dict[str, Any]] = []
    unshown = []
    for image in dict.fromkeys(mark.location.image for mark in ranked):
        room = len(pictures) < MOST_PICTURES
        thumb = album.picture(dataset, sample, image) if room else None
        if thumb is None:
            unshown.append(image)
            continue
        here = [mark for mark in shown if mark.location.image == image]
        caption = f"Image {image} of {sample.setting.images}"
        pictures.append({"svg": overlay(sample, image, thumb, here), "caption": caption})
    return pictures, unshown


def _unshown(images: Sequence[int], more: bool) -> str | None:
    """A line on images that hold a true or a given cell and are left out."""
    if not images:
        return None
    what = f"{len(images)} {'more ' if more else ''}image{'s are' if len(images) > 1 else ' is'}"
    return f"{what} not shown: {', '.join(map(str, sorted(images)))}."


def _place(location: Location | None) -> str:
    if location is None:
        return "not there (−1)"
    return f"image {location.image}, row {location.row}, column {location.column}"


def _readings(score: Score) -> list[str]:
    """What each answer says, and what is wrong with it."""
    return [
        f"{_reading(answer)} ({KINDS[kind or 'right']})"
        for answer, kind in zip(score.answers, score.kinds, strict=True)
    ]


def _reading(answer: Answer) -> str:
    if answer.kind == "absent":
        return "says it is not there"
    if answer.kind == "unparsed" or answer.location is None:
        return "could not be read"
    return _place(answer.location)


def _paper(example: Example) -> str | None:
    score = example.scores.get("paper")
    if score is None:
        return None
    names = ("exact", "index", "existence") if example.positive else ("existence",)
    verdicts = {name: getattr(score, name) for name in names}
    return ", ".join(
        f"{name} {'right' if verdict else 'wrong'}"
        for name, verdict in verdicts.items()
        if verdict is not None
    )


def first_open(items: Iterable[dict[str, Any]]) -> str | None:
    """The key of the sample that is open at first: with pictures and an error, if there is one."""
    order = ("wrong_cell", *(kind for kind in KINDS if kind not in ("right", NO_ANSWER)), "right")
    ranked = sorted(
        items,
        key=lambda item: (
            not item["pictures"],
            order.index(item["kind"]) if item["kind"] in order else len(order),
        ),
    )
    return ranked[0]["key"] if ranked else None


def printed(items: Sequence[dict[str, Any]], most: int) -> list[str]:
    """The keys of a run's samples that are printed: one of a kind, with pictures where possible."""
    kinds: dict[str, str] = {}
    for item in sorted(items, key=lambda item: not item["pictures"]):
        kinds.setdefault(item["kind"], item["key"])
    return [kinds[kind] for kind in KINDS if kind in kinds][:most]


# --------------------------------------------------------------------------- pictures


class Album:
    """Thumbnails of haystack images, each once, within a budget of bytes.

    The budget is shared out over pages: what a page leaves over, later ones may use.
    """

    def __init__(self, budget: int, pages: int) -> None:
        self.left = 0
        self._share = budget // pages
        self._found: dict[tuple[str, tuple[int, ...]], tuple[str, int, int]] = {}
        self._files: list[tuple[str, int, int, bytes]] = []

    def open_page(self) -> None:
        """Begin the next page: its share of the budget may be used from now on."""
        self.left += self._share

    def picture(self, dataset: DataSet, sample: Sample, image: int) -> tuple[str, int, int] | None:
        """The id, width and height of the thumbnail of image `image` (one-based).

        None where the budget has no room for it. Raises what the data set raises when
        its files are broken.
        """
        shape = sample.setting
        cells = shape.rows * shape.cols
        photos = sample.haystack[(image - 1) * cells : image * cells]
        key = (dataset.fingerprint, photos)
        if key in self._found:
            return self._found[key]
        file, width, height = thumbnail(
            dataset.store.join(photos, shape.rows, shape.cols), max(shape.rows, shape.cols)
        )
        if len(file) > self.left:
            return None
        self.left -= len(file)
        name = f"picture-{len(self._files) + 1}"
        self._found[key] = name, width, height
        self._files.append((name, width, height, file))
        return self._found[key]

    def definitions(self) -> Markup:
        """All thumbnails as data URLs, to be used by their ids."""
        return Markup("").join(
            Markup(
                '<image id="{}" width="{}" height="{}" href="data:image/webp;base64,{}"/>'
            ).format(name, width, height, base64.b64encode(file).decode("ascii"))
            for name, width, height, file in self._files
        )


def thumbnail(file: bytes, cells: int) -> tuple[bytes, int, int]:
    """A small WebP file of an image file with `cells` cells along its longer side, and its size."""
    side = SIDE.get(cells, WIDEST)
    image = Image.open(io.BytesIO(file))
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image.draft("RGB", size)  # the decoder halves it while it reads; the rest is Pillow's
    out = io.BytesIO()
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.save(out, "WEBP", quality=QUALITY, method=5)
    return out.getvalue(), *size


# --------------------------------------------------------------------------- marks


class Mark(msgspec.Struct, frozen=True):
    """A cell to mark in a picture."""

    location: Location
    name: str
    """true, given or both"""
    needle: int
    """Its number from 1, or 0 where the question has only one."""

    @property
    def text(self) -> str:
        """The label in the picture."""
        words = "true = given" if self.name == "both" else self.name
        return f"{words} {self.needle}" if self.needle else words


def marks(truth: Sequence[Location | None], given: Sequence[Location | None]) -> list[Mark]:
    """What to mark: each needle's true cell and the cell that the model gave."""
    found = []
    for number, (true, said) in enumerate(zip(truth, given, strict=True), 1):
        needle = number if len(truth) > 1 else 0
        if true is not None and true == said:
            found.append(Mark(true, "both", needle))
            continue
        if true is not None:
            found.append(Mark(true, "true", needle))
        if said is not None:
            found.append(Mark(said, "given", needle))
    return found


def inside(sample: Sample, location: Location) -> bool:
    """Whether the haystack has this cell."""
    shape = sample.setting
    return (
        1 <= location.image <= shape.images
        and 1 <= location.row <= shape.rows
        and 1 <= location.column <= shape.cols
    )


def overlay(
    sample: Sample, image: int, thumb: tuple[str, int, int], shown: Iterable[Mark]
) -> Markup:
    """One image of a haystack with boxes around the marked cells."""
    name, *size = thumb
    scale = max(1.0, DRAWN / max(size))  # frames and labels keep their size beside a small picture
    width, height = (round(scale * side, 1) for side in size)
    shape = sample.setting
    wide, high = width / shape.cols, height / shape.rows
    boxes, words = [], []
    for mark in shown:
        x, y = wide * (mark.location.column - 1), high * (mark.location.row - 1)
        boxes += _box(mark, x, y, wide, high)
        boxes += _label(mark, x, y, wide, high, width, height)
        words.append(f"{mark.text}: row {mark.location.row}, column {mark.location.column}")
    alternative = f"Image {image} of {shape.images}. " + ("; ".join(words) or "No cell is marked.")
    return Markup(
        '<svg class="shot" viewBox="0 0 {w} {h}" role="img" aria-label="{text}">'
        '<title>{text}</title><use href="#{name}" transform="scale({scale:.4g})"/>{boxes}</svg>'
    ).format(
        w=width,
        h=height,
        text=alternative,
        name=name,
        scale=scale,
        boxes=Markup("").join(boxes),
    )


def _box(mark: Mark, x: float, y: float, wide: float, high: float) -> list[Markup]:
    """A solid frame for the true cell, a dashed one for the given; each on a dark ground."""
    place = f'x="{x + 2:.1f}" y="{y + 2:.1f}" width="{wide - 4:.1f}" height="{high - 4:.1f}"'
    return [
        Markup(f'<rect class="ground" {place}/>'),
        Markup(f'<rect class="frame {escape(mark.name)}" {place}/>'),
    ]


def _label(
    mark: Mark, x: float, y: float, wide: float, high: float, width: float, height: float
) -> list[Markup]:
    """A small plate with the mark's name: the true cell's above it, the given cell's below."""
    long, tall = 7.4 * len(mark.text) + 10, 18
    left = min(max(0.0, x + wide / 2 - long / 2), width - long)
    above, below = y - tall + 1, y + high - 1
    inner = wide > 90
    if mark.name == "given":
        top = below - tall - 4 if inner else (below if below + tall <= height else above)
    else:
        top = y + 4 if inner else (above if above >= 0 else below)
    return [
        Markup(
            f'<rect class="plate {escape(mark.name)}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{long:.1f}" height="{tall}" rx="4"/>'
        ),
        Markup(
            f'<text class="plate {escape(mark.name)}" x="{left + long / 2:.1f}" '
            f'y="{top + 13:.1f}">{escape(mark.text)}</text>'
        ),
    ]
