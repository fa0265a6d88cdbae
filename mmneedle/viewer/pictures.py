"""Pictures on request: joined from the tile store, never made beforehand.

What is sent is shown as it is, byte for byte; small pictures come from the same tiles, decoded at
a fraction of their size (T.81's DCT scaled while it is decoded).
"""

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

import msgspec
from PIL import Image

from mmneedle.stitching.resize import Resizer
from mmneedle.types import Location, Sample, Setting
from mmneedle.viewer.library import Book, Item, NotFoundError, Volume
from mmneedle.viewer.selection import book_of

_BUDGET = 96 << 20
_SMALL = 512
"""Pixels of a small picture's longer side, about."""
_NEAR = 64
"""Pixels of a cell's longer side in the picture of a place."""
_QUALITY = 80


class Picture(msgspec.Struct, frozen=True):
    """A file and what it is."""

    content: bytes
    kind: str
    """Its media type."""
    digest: str
    """SHA-256, hex."""


class Window(msgspec.Struct, frozen=True):
    """A cell with its neighbours: what of an image is shown. All one-based, the last included."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def around(cls, setting: Setting, location: Location, reach: int = 1) -> "Window":
        """As far as `reach` cells from a cell, moved inwards at an edge so that it stays as big."""
        top, bottom = _span(location.row, setting.rows, reach)
        left, right = _span(location.column, setting.cols, reach)
        return cls(top, left, bottom, right)

    @property
    def rows(self) -> int:
        """Cells from top to bottom."""
        return self.bottom - self.top + 1

    @property
    def cols(self) -> int:
        """Cells from left to right."""
        return self.right - self.left + 1


def _span(at: int, count: int, reach: int) -> tuple[int, int]:
    first = max(1, min(at - reach, count - 2 * reach))
    return first, min(count, first + 2 * reach)


def inside(setting: Setting, location: Location) -> bool:
    """Whether a haystack of this setting has the cell."""
    return (
        1 <= location.image <= setting.images
        and 1 <= location.row <= setting.rows
        and 1 <= location.column <= setting.cols
    )


class Pictures:
    """Makes pictures of samples and remembers the last ones. Threads may share one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Future[Picture]] = OrderedDict()
        self._bytes = 0
        self._mutex = threading.Lock()
        self._sent: OrderedDict[tuple[object, ...], Future[tuple[bytes, ...]]] = OrderedDict()

    def sent(self, item: Item, sample: Sample, image: int) -> Picture:
        """Image `image` (from 1) of a sample: the very bytes that are sent."""
        return self._once(
            ("sent", item.key, sample.id, image), self._sent_file, item, image, sample
        )

    def small(self, item: Item, sample: Sample, image: int) -> Picture:
        """The same, small."""
        key = ("small", _book(item).key, sample.id, image)
        return self._once(key, _small_file, _book(item), image, sample)

    def seen(self, item: Item, sample: Sample, image: int) -> Picture:
        """The image as the model gets it, where that is known and smaller; else as it is sent."""
        size = seen_size(item, sample.setting)
        if size is None:
            return self.sent(item, sample, image)
        sent = self.sent(item, sample, image)
        key = ("seen", item.key, sample.id, image)
        return self._once(key, lambda: _png(_resized(sent.content, size)))

    def near(self, item: Item, sample: Sample, location: Location) -> Picture:
        """A cell with its neighbours, small."""
        key = ("near", _book(item).key, sample.id, *location)
        return self._once(key, _near_file, _book(item), location, sample)

    def cell(self, item: Item, sample: Sample, location: Location) -> Picture:
        """One cell's photo as the data set has it."""
        _check(sample.setting, location)
        return _jpeg(_book(item).dataset.store.tile(_photo(sample, location)))

    def _once(
        self, key: tuple[object, ...], make: Callable[..., Picture], *arguments: object
    ) -> Picture:
        """A picture that others may be waiting for too: made once."""
        with self._mutex:
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if mine:
            try:
                picture = make(*arguments)
            except BaseException as error:
                with self._mutex:
                    self._kept.pop(key, None)
                future.set_exception(error)
            else:
                future.set_result(picture)
                self._count(len(picture.content))
        return future.result()

    def _count(self, size: int) -> None:
        with self._mutex:
            self._bytes += size
            while self._bytes > _BUDGET and len(self._kept) > 1:
                key, oldest = next(iter(self._kept.items()))
                if not oldest.done():
                    return
                del self._kept[key]
                if oldest.exception() is None:
                    self._bytes -= len(oldest.result().content)

    def _sent_file(self, item: Item, image: int, sample: Sample) -> Picture:
        setting = sample.setting
        _check(setting, Location(image, 1, 1))
        if isinstance(item, Volume) and (size := item.run.header.resize) is not None:
            return _jpeg(self._shrunk(item, size, sample)[image - 1])
        grid = setting.rows * setting.cols
        photos = sample.haystack[(image - 1) * grid : image * grid]
        return _jpeg(_book(item).dataset.store.join(photos, setting.rows, setting.cols))

    def _shrunk(self, item: Volume, size: tuple[int, int], sample: Sample) -> tuple[bytes, ...]:
        """All images of a sample with smaller cells, which are made together."""
        key = (item.key, sample.id)
        with self._mutex:
            future = self._sent.get(key)
            mine = future is None
            if future is None:
                future = self._sent[key] = Future()
                while len(self._sent) > 4:
                    self._sent.popitem(last=False)
        if mine:
            try:
                future.set_result(Resizer(_book(item).dataset, size).images(sample))
            except BaseException as error:
                with self._mutex:
                    self._sent.pop(key, None)
                future.set_exception(error)
        return future.result()


def seen_size(item: Item, setting: Setting) -> tuple[int, int] | None:
    """An image's width and height as the model gets it; None: not known, or as it is sent."""
    if not isinstance(item, Volume):
        return None
    header = item.run.header
    cell = header.effective_cell.get(setting.name)
    if cell is None or cell == header.cell:
        return None
    return max(1, cell[0] * setting.cols), max(1, cell[1] * setting.rows)


def _book(item: Item) -> Book:
    book = book_of(item)
    if book is None:
        raise NotFoundError("the data set of this run is not to be had")
    return book


def _check(setting: Setting, location: Location) -> None:
    if not inside(setting, location):
        raise NotFoundError("the haystack has no such cell")


def _photo(sample: Sample, location: Location) -> int:
    setting = sample.setting
    grid = setting.rows * setting.cols
    within = (location.row - 1) * setting.cols + location.column - 1
    return sample.haystack[(location.image - 1) * grid + within]


def _small_file(book: Book, image: int, sample: Sample) -> Picture:
    setting = sample.setting
    _check(setting, Location(image, 1, 1))
    grid = setting.rows * setting.cols
    photos = sample.haystack[(image - 1) * grid : image * grid]
    return _reduced(book.dataset.store.join(photos, setting.rows, setting.cols), _SMALL)


def _near_file(book: Book, location: Location, sample: Sample) -> Picture:
    setting = sample.setting
    _check(setting, location)
    window = Window.around(setting, location)
    photos = [
        _photo(sample, Location(location.image, row, column))
        for row in range(window.top, window.bottom + 1)
        for column in range(window.left, window.right + 1)
    ]
    joined = book.dataset.store.join(photos, window.rows, window.cols)
    return _reduced(joined, _NEAR * max(window.rows, window.cols))


def _reduced(jpeg: bytes, side: int) -> Picture:
    """About `side` pixels along the longer side, by reduced decoding and, from there, no more."""
    image = Image.open(io.BytesIO(jpeg))
    scale = side / max(image.size)
    if scale >= 1:
        return _jpeg(jpeg)
    image.draft("RGB", (max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    out = io.BytesIO()
    image.convert("RGB").save(out, "JPEG", quality=_QUALITY)
    return _jpeg(out.getvalue())


def _resized(jpeg: bytes, size: tuple[int, int]) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _jpeg(content: bytes) -> Picture:
    return Picture(content, "image/jpeg", hashlib.sha256(content).hexdigest())


def _png(content: bytes) -> Picture:
    return Picture(content, "image/png", hashlib.sha256(content).hexdigest())
