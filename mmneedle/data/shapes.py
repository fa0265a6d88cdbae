"""A source that draws its own photos: two coloured shapes on a plain background.

8 colours x 6 shapes give 48 things; a scene is an ordered pair of two different things, one of
two relations ("above", "left of") and one of 4 backgrounds: 48 * 47 * 2 * 4 = 18,048 scenes. Each
has captions that are true of it and of no other scene, so every needle has exactly one right
answer; no download, no licence question.

Drawing is integer arithmetic from fixed tables, and jitter comes from SHA-512, so the pixels are
the same on every machine. To look at one scene:

    draw(all_scenes()[0], jitter_seed=0, width=256, height=256).show()
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from mmneedle.data import digest
from mmneedle.errors import UserError
from mmneedle.files import refuse_strangers, write_whole
from mmneedle.types import Photo

Progress = Callable[[int, int], None]
"""Called with what is done and the total, in the same unit."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 45, 45),
    "orange": (246, 138, 30),
    "yellow": (250, 214, 40),
    "green": (46, 160, 67),
    "cyan": (40, 200, 215),
    "blue": (40, 100, 225),
    "purple": (148, 50, 170),
    "pink": (248, 130, 190),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (248, 248, 248),
    "beige": (222, 196, 148),
    "gray": (132, 136, 142),
    "black": (26, 26, 30),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
RELATIONS = ("above", "left of")
SMALLEST = 16
"""Smallest cell side in pixels."""
DRAWING = 1
"""Version of the drawing; raised whenever the pixels of a scene change."""

_BELOW = {"above": "below", "left of": "right of"}
_PLACES = {"above": ("at the top", "at the bottom"), "left of": ("on the left", "on the right")}


# --------------------------------------------------------------------------- scenes


class Thing(NamedTuple):
    """A coloured shape."""

    color: str
    shape: str

    def __str__(self) -> str:
        article = "an" if self.color[0] in "aeiou" else "a"
        return f"{article} {self.color} {self.shape}"


class Scene(NamedTuple):
    """What a tile shows: `first` stands above or left of `second`."""

    first: Thing
    relation: str
    second: Thing
    background: str

    @property
    def caption(self) -> str:
        """The canonical caption, such as "a red circle above a blue square on a white background".

        Distinct for distinct scenes.
        """
        return f"{self.first} {self.relation} {self.second} on a {self.background} background"

    @property
    def captions(self) -> tuple[str, ...]:
        """Paraphrases, then the canonical caption (the paper asks for a photo's last caption)."""
        first, relation, second, background = self
        here, there = _PLACES[relation]
        return (
            f"{second} {_BELOW[relation]} {first}, {background} background",
            f"on {background}: {first} {here}, {second} {there}",
            f"a {background} background with {second} {there} and {first} {here}",
            self.caption,
        )


@lru_cache(maxsize=1)
def all_scenes() -> tuple[Scene, ...]:
    """All 18,048 scenes, in a fixed order."""
    things = [Thing(color, shape) for color, shape in product(COLORS, SHAPES)]
    return tuple(
        Scene(first, relation, second, background)
        for first, second in permutations(things, 2)
        for relation, background in product(RELATIONS, BACKGROUNDS)
    )


@lru_cache(maxsize=4)
def _shuffled(seed: int, split: str) -> tuple[Scene, ...]:
    """A split's scenes in the order of a hash: no random generator's version can change it."""
    scenes = (s for s in all_scenes() if split == "all" or held_out(s) == (split == "held-out"))
    return tuple(
        sorted(scenes, key=lambda s: hashlib.sha256(f"{seed}|{s.caption}".encode()).digest())
    )


def held_out(scene: Scene) -> bool:
    """Whether a scene is of the tenth that no model of ours was trained on."""
    digest = hashlib.sha256(f"mmneedle held out|{scene.caption}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10 == 0


Split = Literal["all", "train", "held-out"]


class ShapesSource:
    """`scenes` drawn scenes with ids 1..scenes; `seed` says which scenes and how they look.

    The scenes are a seeded permutation's first ones, so the first 500 of 4,000 are those of 500.
    `split` leaves out the held-out tenth ("train") or all but it ("held-out"). Raises UserError
    when there are not so many scenes: 18,048 in all.
    """

    def __init__(self, scenes: int = 4000, seed: int = 0, split: Split = "all") -> None:
        if split not in get_args(Split):
            raise UserError(f"the split of scenes is all, train or held-out, not {split!r}")
        most = len(_shuffled(seed, split))
        if not 1 <= scenes <= most:
            among = "" if split == "all" else f" of the split {split}"
            raise UserError(f"scenes{among} must be between 1 and {most}, not {scenes}")
        self.scenes = scenes
        self.seed = seed
        self.split: Split = split

    def __reduce__(self) -> tuple[type["ShapesSource"], tuple[int, int, Split]]:
        # Workers shuffle again: 40 ms, no bytes.
        return ShapesSource, (self.scenes, self.seed, self.split)

    def scene(self, photo: int) -> Scene:
        """What photo `photo` shows. Raises UserError when there is no such photo."""
        if not 1 <= photo <= self.scenes:
            raise UserError(f"no photo {photo}: this source has photos 1 to {self.scenes}")
        return _shuffled(self.seed, self.split)[photo - 1]

    @cached_property
    def _photos(self) -> tuple[Photo, ...]:
        return tuple(Photo(i, self.scene(i).captions) for i in range(1, self.scenes + 1))

    def photos(self) -> Sequence[Photo]:
        """All photos, ordered by id; the canonical caption is the last."""
        return self._photos

    def recipe(self) -> dict[str, Any]:
        """What `open_source` opens again."""
        recipe = {"source": "shapes", "scenes": self.scenes, "seed": self.seed}
        return recipe if self.split == "all" else recipe | {"split": self.split}

    def identity(self) -> dict[str, Any]:
        """What the photos are, for fingerprints: equal only where ids, captions and pixels are."""
        return {
            "source": "shapes",
            "photos": self.scenes,
            "sha256": digest(self._photos),
            "seed": self.seed,
            "drawing": DRAWING,
        }

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        """Draw the photo, mode RGB, exactly width x height pixels."""
        return draw(self.scene(photo), self.seed, width, height)


# --------------------------------------------------------------------------- layout

_UNIT = 1 << 16  # the tile's width and height in layout coordinates
_TABLE = 1 << 12  # 1.0 in the shape and rotation tables


class Placed(NamedTuple):
    """Where a thing stands: centre and radius in 1/65536 of the tile's sides, degrees, colour."""

    thing: Thing
    x: int
    y: int
    radius: int
    degrees: int
    color: tuple[int, int, int]


def _picker(key: str) -> Callable[[float, float], int]:
    """A function that gives the next whole number of [low, high] from the SHA-512 of `key`."""
    stream = iter(np.frombuffer(hashlib.sha512(key.encode()).digest(), "<u2").tolist())
    return lambda low, high: int(low) + ((next(stream) * (int(high) - int(low) + 1)) >> 16)


def _shade(color: tuple[int, int, int], by: tuple[int, int, int]) -> tuple[int, int, int]:
    """The colour with `by` added to its channels, kept within 0..255."""
    red, green, blue = (min(255, max(0, a + b)) for a, b in zip(color, by, strict=True))
    return red, green, blue


def layout(scene: Scene, jitter_seed: int) -> tuple[tuple[Placed, Placed], tuple[int, int, int]]:
    """Both things placed, and the background's colour: the same for every tile size.

    The centres lie at least 0.42 of the tile apart along the relation and at most 0.09 across it,
    and the shapes never touch, so the relation is plain to see.
    """
    pick = _picker(f"mmneedle shapes {DRAWING}|{jitter_seed}|{scene.caption}")

    lighter = pick(-8, 8)
    background = _shade(BACKGROUNDS[scene.background], (lighter, lighter, lighter))
    across = _UNIT // 2 + pick(-0.2 * _UNIT, 0.2 * _UNIT)  # where the pair stands
    placed = []
    for thing, center in ((scene.first, 0.265), (scene.second, 0.735)):
        along = pick((center - 0.025) * _UNIT, (center + 0.025) * _UNIT)
        beside = across + pick(-0.045 * _UNIT, 0.045 * _UNIT)
        x, y = (beside, along) if scene.relation == "above" else (along, beside)
        radius = pick(0.16 * _UNIT, 0.2 * _UNIT)
        degrees = pick(-_TILT, _TILT)
        color = _shade(COLORS[thing.color], (pick(-12, 12), pick(-12, 12), pick(-12, 12)))
        placed.append(Placed(thing, x, y, radius, degrees, color))
    return (placed[0], placed[1]), background


# --------------------------------------------------------------------------- drawing

_TILT = 10  # a shape leans at most this many degrees
_EDGE = 0.11  # width of the darker edge, in radii
_SUBPIXEL = 256  # vertex positions are in 1/256 pixel
_LINES = 16  # scan lines a pixel row
_STEP = _SUBPIXEL // _LINES

Points = list[tuple[float, float]]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint16]


def _arc(x: float, y: float, radius: float, start: float, stop: float, steps: int) -> Points:
    """Points on an arc, in degrees clockwise (y points down), both ends included."""
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _outline(shape: str) -> Points:
    """A shape's corners, clockwise as seen, within -1..1 on both axes at any lean."""
    if shape == "circle":
        return _arc(0, 0, 0.9, 0, 360, 72)[:-1]
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        return [(0, -0.8), (0.87, 0.7), (-0.87, 0.7)]
    if shape == "star":
        return [_arc(0, 0, r, a, a, 1)[0] for k in range(5) for r, a in _star_corner(k)]
    if shape == "cross":
        a, b = 0.31, 0.92
        return [
            *((-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)),
            *((a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)),
        ]
    r = 0.54  # heart: a square of side 2r on its corner, half circles on its two upper sides
    h, down = r / math.sqrt(2), 0.08
    left = _arc(-h, -h + down, r, 135, 315, 24)
    return [*left, *_arc(h, -h + down, r, 225, 405, 24)[1:], (0, 2 * h + down)]


def _star_corner(k: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Radius and angle of the k-th tip of a star and of the notch after it."""
    return (1.0, -90 + 72 * k), (0.47, -54 + 72 * k)


def _inset(corners: Points, by: float) -> Points:
    """The outline moved inwards by the same distance everywhere (mitred corners)."""
    moved = []
    for i, (x, y) in enumerate(corners):
        (px, py), (nx, ny) = corners[i - 1], corners[(i + 1) % len(corners)]
        a = math.hypot(x - px, y - py)
        b = math.hypot(nx - x, ny - y)
        ax, ay = (py - y) / a, (x - px) / a  # inward normals of both sides at this corner
        bx, by_ = (y - ny) / b, (nx - x) / b
        scale = by / (1 + ax * bx + ay * by_)
        moved.append((x + scale * (ax + bx), y + scale * (ay + by_)))
    return moved


def _table(corners: Points) -> Ints:
    """Corners as whole numbers of 1/4096, shape [corners, 2]."""
    return np.array([[round(x * _TABLE), round(y * _TABLE)] for x, y in corners], np.int64)


_OUTLINES = {
    shape: (_table(_outline(shape)), _table(_inset(_outline(shape), _EDGE))) for shape in SHAPES
}
_COSINES = {
    d: (round(math.cos(math.radians(d)) * _TABLE), round(math.sin(math.radians(d)) * _TABLE))
    for d in range(-_TILT, _TILT + 1)
}


def _corners(placed: Placed, table: Ints, width: int, height: int) -> tuple[Ints, Ints]:
    """x and y of a placed shape's corners in 1/256 pixel of a width x height tile."""
    cos, sin = _COSINES[placed.degrees]
    x = (table[:, 0] * cos - table[:, 1] * sin) // _TABLE
    y = (table[:, 0] * sin + table[:, 1] * cos) // _TABLE
    # layout coordinates times 1/4096, then pixels: everything fits 64 bits up to 2^20 pixels
    x = (placed.x * _TABLE + placed.radius * x) * width
    y = (placed.y * _TABLE + placed.radius * y) * height
    whole = _UNIT * _TABLE // _SUBPIXEL
    return x // whole, y // whole


def _coverage(x: Ints, y: Ints) -> tuple[int, int, Mask]:
    """How much of each pixel a polygon covers: left, top, and [rows, columns] of 0..255.

    Exact along x, 16 scan lines a pixel along y. Each crossing of a side and a scan line adds or
    takes away everything to its right; the running sum along x is the covered part.
    """
    left, top = int(x.min()) // _SUBPIXEL, int(y.min()) // _SUBPIXEL
    x, y = x - left * _SUBPIXEL, y - top * _SUBPIXEL
    columns, rows = int(x.max()) // _SUBPIXEL + 2, int(y.max()) // _SUBPIXEL + 1
    x1, y1 = np.roll(x, -1), np.roll(y, -1)
    lines = np.arange(rows * _LINES, dtype=np.int64)[:, None] * _STEP + _STEP // 2
    line, side = np.nonzero((y <= lines) != (y1 <= lines))
    rise = y1[side] - y[side]
    at = x[side] + (line * _STEP + _STEP // 2 - y[side]) * (x1[side] - x[side]) // rise
    sign = np.where(rise > 0, -1, 1)
    cell = line // _LINES * columns + at // _SUBPIXEL
    part = at % _SUBPIXEL
    # float64 holds these whole numbers exactly
    change = np.bincount(
        np.concatenate((cell, cell + 1)),
        weights=np.concatenate((sign * (_SUBPIXEL - part), sign * part)),
        minlength=rows * columns,
    )
    covered = change[: rows * columns].reshape(rows, columns).cumsum(axis=1).astype(np.int64)
    full = _SUBPIXEL * _LINES
    return left, top, ((covered * 255 + full // 2) // full).astype(np.uint16)


def _paint(
    canvas: npt.NDArray[np.uint8], shape: tuple[int, int, Mask], color: tuple[int, int, int]
) -> None:
    """Blend `color` into the canvas [height, width, 3] where the shape covers it."""
    left, top, mask = shape
    region = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    alpha = mask[: region.shape[0], : region.shape[1], None]
    # at most 255 * 255 + 127: 16 bits hold it
    region[:] = (alpha * np.array(color, np.uint16) + (255 - alpha) * region + 127) // 255


def draw(scene: Scene, jitter_seed: int, width: int, height: int) -> Image.Image:
    """Draw a scene, mode RGB, exactly width x height pixels (at least 16 x 16, else UserError).

    Positions, sizes, leans and colours vary with (jitter_seed, scene) and with nothing else; a
    tile that is not square is stretched, as photos are. A training script that wants the same
    scene in many guises passes many seeds.
    """
    if min(width, height) < SMALLEST:
        raise UserError(f"a cell of {width}x{height} is too small: {SMALLEST} px a side at least")
    things, background = layout(scene, jitter_seed)
    row = np.tile(np.array(background, np.uint8), width)
    canvas = np.tile(row, height).reshape(height, width, 3)
    for placed in things:
        red, green, blue = placed.color
        for table, color in zip(
            _OUTLINES[placed.thing.shape],
            ((red * 3 // 5, green * 3 // 5, blue * 3 // 5), placed.color),
            strict=True,
        ):
            _paint(canvas, _coverage(*_corners(placed, table, width, height)), color)
    return Image.fromarray(canvas)


# --------------------------------------------------------------------------- COCO layout


def write_coco(
    folder: Path,
    source: ShapesSource,
    width: int,
    height: int,
    progress: Progress | None = None,
) -> None:
    """Write the source as a data set in COCO's layout, which `find_coco(folder, None)` opens.

    Photos are shapes/000000000001.png ...; annotations/captions_shapes.json is written last and
    in one step, so a folder that has it is complete. An interrupted call can be repeated. Raises
    UserError when the folder already holds such a data set or cannot be written.
    """
    target = folder / "annotations" / "captions_shapes.json"
    if target.exists():
        raise UserError(f"{target} exists already: choose another folder, or remove this one")
    refuse_strangers(folder, {"shapes", "annotations"}.__contains__)
    refuse_strangers(target.parent, target.name.__eq__)
    try:
        photos = folder / "shapes"
        photos.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        for done, photo in enumerate(source.photos(), 1):
            source.tile(photo.id, width, height).save(photos / _file_name(photo.id))
            if progress:
                progress(done, source.scenes)
        write_whole(target, msgspec.json.encode(_coco_json(source, width, height)))
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error


def _file_name(photo: int) -> str:
    return f"{photo:012d}.png"


def _coco_json(source: ShapesSource, width: int, height: int) -> dict[str, Any]:
    """The annotation file, keys as in https://cocodataset.org/#format-data (captions)."""
    pairs = [(photo.id, text) for photo in source.photos() for text in photo.captions]
    return {
        "info": {
            "description": f"mmneedle shapes, seed {source.seed}, drawing {DRAWING}",
            "url": "",
            "version": "1.0",
            "year": 2026,
            "contributor": "mmneedle",
            "date_created": "2026/11/22",
        },
        "licenses": [
            {
                "id": 1,
                "name": "Apache License 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            }
        ],
        "images": [
            {
                "id": photo.id,
                "file_name": _file_name(photo.id),
                "width": width,
                "height": height,
                "license": 1,
            }
            for photo in source.photos()
        ],
        "annotations": [
            {"id": number, "image_id": photo, "caption": text}
            for number, (photo, text) in enumerate(pairs, 1)
        ],
    }
