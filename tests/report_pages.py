"""Reading back what a report page packed for its script, for tests of pages."""

import base64
import io
import json
import re
import zlib
from typing import Any

import numpy as np
from PIL import Image


def blocks(page: str) -> dict[str, bytes]:
    """The page's data blocks by their id, decoded."""
    found = re.findall(r'<script type="text/plain" id="([^"]+)">([A-Za-z0-9+/=]*)</script>', page)
    return {name: base64.b64decode(text, validate=True) for name, text in found}


def packed(page: str) -> dict[str, Any]:
    """What was asked and answered, as the script gets it."""
    value: dict[str, Any] = json.loads(zlib.decompress(blocks(page)["errors-data"]))
    return value


def unpack(data: bytes, bits: int, count: int) -> list[int]:
    """`count` numbers of `bits` bits each, the highest bit first."""
    if not count:
        return []
    flat = np.unpackbits(np.frombuffer(data, np.uint8))[: bits * count]
    return [int("".join(map(str, row)), 2) for row in flat.reshape(count, bits).tolist()]


def colours(page: str, album: int = 0) -> list[np.ndarray]:
    """The mean colour of each photo's tile in the page, by its place in the album."""
    found = blocks(page)
    about = json.loads(found[f"album-{album}"])
    means, number = [], 0
    for width, height, across, each, files in about["sheets"]:
        tiles: list[np.ndarray] = []
        for _ in range(files):
            sheet = np.asarray(
                Image.open(io.BytesIO(found[f"sheet-{album}-{number}"])).convert("RGB"), float
            )
            number += 1
            rows = sheet.shape[0] // height
            cells = sheet[: rows * height, : across * width].reshape(rows, height, across, width, 3)
            tiles += list(cells.mean(axis=(1, 3)).reshape(-1, 3))[:each]
        means += tiles[: about["close"]] if not means else tiles
    return means
