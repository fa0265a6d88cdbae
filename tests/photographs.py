"""Requests with small real JPEG files, for servers that decode what they are sent."""

import io

from fakes import LARGE, fake_sample
from msgspec.structs import replace
from PIL import Image

from mmneedle.types import Request, Sample


def picture(colour: str, size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


COLOURS = ("red", "green", "blue")


def asked(prompt: str = "Where is it?", *, shared: bool = False, index: int = 0) -> Request:
    """A request for three images; shared: others ask about the same haystack."""
    sample: Sample = fake_sample(LARGE, index)
    if shared:
        sample = replace(sample, haystack_number=7)
    return Request(sample, prompt, tuple(picture(colour) for colour in COLOURS))


REQUEST = asked()
SHARED = asked(shared=True)
