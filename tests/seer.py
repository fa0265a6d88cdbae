"""A model that really looks: it finds the captioned photo in the pixels that it was sent.

It knows every photo and caption of a source, decodes the images of a request, cuts them into
cells by what the prompt says and compares each cell with the captioned photo. So it answers
rightly only if the right images arrive whole, in the right order, with the right prompt.

As a process it is an OpenAI-compatible server for trying the suite by hand:

    python tests/seer.py --photos COCO_FOLDER [--mistakes 0.3]

prints its base URL. With --mistakes it errs so often, more in larger grids, and words its answers
as models do.
"""

import argparse
import hashlib
import io
import re
import time
from pathlib import Path

import numpy as np
from chat_server import Ask, ChatServer, Reply
from PIL import Image

from mmneedle.types import Location, Source

_SIZE = 16  # photos and cells are compared at 16 x 16 pixels
_ASKED = re.compile(r"^Given (\d+) images? .* each divided into (\d+)\*(\d+) subimages?,")
_CLOSE = 12.0  # mean difference of a pixel's channels; other photos differ by 30 and more


class Seer:
    """A script for `ChatServer` and `ApiServer`."""

    def __init__(self, source: Source, mistakes: float = 0.0) -> None:
        self.source, self.mistakes = source, mistakes
        self.looks = {
            caption: self._look(source.tile(photo.id, 128, 128))
            for photo in source.photos()
            for caption in photo.captions
        }

    def __call__(self, ask: Ask) -> Reply:
        question, *captions = re.split(r"\nCaption(?:_\d+)?: ", ask.prompt)
        match = _ASKED.match(question)
        assert match, question
        images, rows, cols = map(int, match.groups())
        assert len(ask.images) == images
        cells = {
            Location(i, row + 1, column + 1): self._look(cell)
            for i, image in enumerate(ask.images, 1)
            for row, column, cell in _cut(image, rows, cols)
        }
        said = [self._find(caption, cells) for caption in captions]
        luck = int.from_bytes(hashlib.sha256(ask.prompt.encode()).digest()[:8], "big") / 2**64
        return ask.answer(self._word(said, luck, rows))

    def _look(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((_SIZE, _SIZE), Image.Resampling.BOX), float)

    def _find(self, caption: str, cells: dict[Location, np.ndarray]) -> Location | None:
        look = self.looks[caption]
        best = min(cells, key=lambda at: float(np.abs(cells[at] - look).mean()))
        return best if np.abs(cells[best] - look).mean() < _CLOSE else None

    def _word(self, said: list[Location | None], luck: float, rows: int) -> str:
        plain = "; ".join("-1" if at is None else str(at) for at in said)
        if not self.mistakes or len(said) > 1:
            return plain
        (at,) = said
        if luck < self.mistakes * rows / 8:
            if at is None:
                return "1, 2, 1"
            if luck < self.mistakes * rows / 24:
                return "I could not find a matching subimage, so -1."
            return f"{at.image}, {at.column}, {at.row}" if at.row != at.column else "-1"
        if at is None:
            return "-1" if luck < 0.8 else "None of the subimages match the caption."
        styles = (plain, plain.replace(" ", ""), f"({plain})",
                  f"Image {at.image}, row {at.row}, column {at.column}")  # fmt: skip
        return styles[int(luck * 997) % len(styles)]


def _cut(file: bytes, rows: int, cols: int) -> list[tuple[int, int, Image.Image]]:
    image = Image.open(io.BytesIO(file))
    wide, high = image.width // cols, image.height // rows
    return [
        (r, c, image.crop((c * wide, r * high, (c + 1) * wide, (r + 1) * high)))
        for r in range(rows)
        for c in range(cols)
    ]


if __name__ == "__main__":
    from mmneedle.data.coco import find_coco

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--mistakes", type=float, default=0.0)
    options = parser.parse_args()
    with ChatServer(Seer(find_coco(options.photos, None), options.mistakes)) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(3600)
