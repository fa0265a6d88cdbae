"""A request's JSON in pieces, so that megabytes of images are neither escaped nor copied.

A request of ten images is a megabyte of base64, which needs no escaping: what stands around the
images and the prompt is encoded once for an adapter (`Frame`), and a request's own parts are put
between (`Body`).
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple, Self

import msgspec

from mmneedle.types import Request

try:
    from pybase64 import b64encode  # many times as fast
except ModuleNotFoundError:
    from base64 import b64encode  # type: ignore[assignment]

HOLE = "\0"
"""Stands in a template for what each request has of its own. No other text holds it."""
_HOLE = msgspec.json.encode(HOLE)
_PIECE = 1 << 18  # bytes of a body that are handed to the network at once

Halves = tuple[bytes, bytes]
"""JSON before and after the hole."""


class Frame(NamedTuple):
    """The parts of a request's JSON that never change."""

    around: Halves
    image: Halves
    last_image: Halves
    """Of the last image, where a prompt cache is told that all up to it will come again."""
    text: Halves

    @classmethod
    def of(cls, body: Any, image: Any, text: Any, last_image: Any = None) -> Self:
        """Split templates at their holes.

        Args:
            body: the whole, an object with a list [HOLE] where images and text go.
            image: an image's part; its base64 takes the place of HOLE.
            text: the text's part; the prompt takes the place of HOLE.
            last_image: that of a last image that ends a shared prefix; None: as any other.
        """
        encoded = _split(image, _HOLE[1:-1])
        last = encoded if last_image is None else _split(last_image, _HOLE[1:-1])
        return cls(_split(body, _HOLE), encoded, last, _split(text, _HOLE))


def _split(template: Any, hole: bytes) -> Halves:
    before, found, after = msgspec.json.encode(template).partition(hole)
    assert found and hole not in after, "a template has one hole"
    return before, after


class Body:
    """A request's JSON: the images first, in order, then the text.

    Images are encoded when they are about to be sent, so that what waits for an answer takes no
    memory and what was encoded is still in the processor's cache. It can be gone through again,
    as a redirect needs.
    """

    def __init__(
        self, frame: Frame, request: Request, *, shared: bool = False, **fields: Any
    ) -> None:
        """Put a request into a frame.

        Args:
            frame: what stands around.
            request: its images and its prompt.
            shared: the images are asked about more than once: `frame.last_image` counts.
            fields: of the body's object, of this request alone.
        """
        self.images = request.images
        around = [frame.image] * len(request.images)
        if shared and around:
            around[-1] = frame.last_image
        own = b"," + msgspec.json.encode(fields)[1:-1] if fields else b""
        text = frame.text[0] + msgspec.json.encode(request.prompt) + frame.text[1]
        after = frame.around[1]
        self.around = around
        self.before = frame.around[0]
        self.end = text + after[:-1] + own + after[-1:]
        encoded = sum(
            len(before) + (len(image) + 2) // 3 * 4 + len(behind) + 1
            for (before, behind), image in zip(around, request.images, strict=True)
        )
        self.length = len(self.before) + encoded + len(self.end)

    # Not __iter__: the SDKs take what has that for a body to be sent by blocking calls.
    def pieces(self) -> Iterator[bytes]:
        """The JSON, a few images at a time."""
        parts, size = [self.before], 0
        for (before, behind), image in zip(self.around, self.images, strict=True):
            encoded = b64encode(image)
            parts += (before, encoded, behind, b",")
            size += len(encoded)
            if size >= _PIECE:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join((*parts, self.end))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces():
            yield piece

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces())

    @property
    def headers(self) -> Mapping[str, str]:
        """What an HTTP request says of it."""
        return {"Content-Type": "application/json", "Content-Length": str(self.length)}
