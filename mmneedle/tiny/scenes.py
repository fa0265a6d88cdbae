"""The tiles that the tiny model is trained on: every scene but the held-out ones, in many guises.

A guise is another jitter of position, size, lean and colour, another size at which the scene was
drawn, and another JPEG quality, as cells of a data set have them once they are 56 px a side.
"""

import io
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmneedle.data.shapes import (
    BACKGROUNDS,
    COLORS,
    RELATIONS,
    SHAPES,
    Scene,
    all_scenes,
    draw,
    held_out,
)
from mmneedle.tiny import CELL

Tiles = NDArray[np.uint8]

_FIRST_JITTER = 1 << 40
"""Data sets draw with small seeds; training draws with seeds from here up."""
_KINDS = ((56, 0), (56, 0), (64, 2), (112, 2), (128, 2), (224, 2), (256, 2), (112, 0))
"""(cell as drawn, Pillow's subsampling: 0 is 4:4:4, 2 is 4:2:0); one is chosen for each tile."""
ATTRIBUTES = {"color": 8, "shape": 6, "color2": 8, "shape2": 6, "relation": 2, "background": 4}
"""What tells scenes apart, and how many values each has."""


@lru_cache(maxsize=1)
def attributes() -> NDArray[np.int64]:
    """Each scene's attributes as numbers, in the order of `ATTRIBUTES`: [18048, 6]."""
    colors, shapes, backgrounds = list(COLORS), list(SHAPES), list(BACKGROUNDS)

    def numbers(scene: Scene) -> tuple[int, ...]:
        first, relation, second, background = scene
        return (
            colors.index(first.color),
            shapes.index(first.shape),
            colors.index(second.color),
            shapes.index(second.shape),
            RELATIONS.index(relation),
            backgrounds.index(background),
        )

    return np.array([numbers(scene) for scene in all_scenes()], np.int64)


@lru_cache(maxsize=1)
def held_out_mask() -> NDArray[np.bool_]:
    """Which scenes no training sees, neither as a tile nor as a caption: [18048]."""
    return np.array([held_out(scene) for scene in all_scenes()])


def tile(number: int, guise: int) -> Tiles:
    """Scene `number` in a guise: [56, 56, 3]."""
    choice = random.Random(f"{number} {guise}")
    size, subsampling = choice.choice(_KINDS)
    image = draw(all_scenes()[number], _FIRST_JITTER + guise, size, size)
    image = _jpeg(image, choice.choice((75, 75, 75, 85, 95)), subsampling)
    if size != CELL:
        image = image.resize((CELL, CELL), Image.Resampling.BICUBIC)
        if choice.random() < 0.5:  # cells that are shrunk before they are sent
            image = _jpeg(image, 75, 0)
    return np.asarray(image)


def _jpeg(image: Image.Image, quality: int, subsampling: int) -> Image.Image:
    """What is left of an image once it was a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(file).convert("RGB")


def _draw(job: tuple[str, int, int, int, Sequence[int]]) -> None:
    """Draw scenes in a guise into rows first … of the shared file."""
    path, rows, first, guise, scenes = job
    file = np.memmap(path, np.uint8, "r+", shape=(rows, CELL, CELL, 3))
    for row, scene in enumerate(scenes, first):
        file[row] = tile(scene, guise)


def guises(first: int, count: int, scenes: Sequence[int], workers: int) -> Iterator[Tiles]:
    """Guises first … first+count-1 of some scenes, as they get ready: [scenes, 56, 56, 3] each.

    Worker processes draw into files that they share with this one: no tile goes through a pipe.
    """
    parts = np.array_split(np.arange(len(scenes)), max(1, len(scenes) // 512))
    with TemporaryDirectory(prefix="tiles-") as folder, get_context("spawn").Pool(workers) as pool:
        waiting = []
        for number in range(first, first + count):
            path = Path(folder) / str(number)
            with path.open("wb") as file:
                file.truncate(len(scenes) * CELL * CELL * 3)
            jobs = [
                (str(path), len(scenes), int(part[0]), number, [scenes[row] for row in part])
                for part in parts
            ]
            waiting.append((path, pool.map_async(_draw, jobs, chunksize=1)))
        for path, drawn in waiting:
            drawn.get()
            yield np.memmap(path, np.uint8, "r", shape=(len(scenes), CELL, CELL, 3))
            path.unlink()
