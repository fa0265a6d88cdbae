"""Sources of noisy pictures for tests of the tile store; light, for worker processes import it."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mmneedle.errors import UserError
from mmneedle.stitching.tiles import TileFormat

FMT = TileFormat(32, 48)


class Noise:
    """A source of noisy pictures, each a function of its id; keeps a record of what it was asked.

    A line "id pid" a tile goes to `log`, so that workers' doings can be seen from outside.
    """

    def __init__(self, name: str = "noise", log: Path | None = None, delay: float = 0) -> None:
        self.name, self.log, self.delay = name, log, delay

    def identity(self):
        return {"source": self.name, "parts": (1, 2)}

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{photo} {os.getpid()}\n")
        time.sleep(self.delay)
        rng = np.random.default_rng([photo, len(self.name)])
        pixels = rng.integers(0, 256, (height, width, 3)) // (1 + photo % 4)
        return Image.fromarray(pixels.astype(np.uint8))


class Faulty(Noise):
    """Fails at one photo."""

    def __init__(self, photo: int, how: str) -> None:
        super().__init__()
        self.photo, self.how = photo, how

    def tile(self, photo, width, height):
        if photo == self.photo:
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "user":
                raise UserError("photo 40: not there; look elsewhere")
            if self.how == "unreadable":
                raise OSError("image file is truncated")
            if self.how == "mode":
                return Image.new("L", (width, height))
            raise ZeroDivisionError("a bug")
        return super().tile(photo, width, height)


class Deaf(Noise):
    """Fails where Ctrl-C would be heard."""

    def tile(self, photo, width, height):
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return super().tile(photo, width, height)
