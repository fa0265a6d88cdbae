"""Sampling haystacks: which photos stand where, for haystack i of a setting.

Everything is a function of (seed, setting, Q, i) alone, where Q is the number of questions that are
asked about a haystack: one (a haystack for every sample), or an even number, half of which ask
for what is not there. One counter-based generator (Philox 4x64,
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) serves a setting; haystack i
owns a fixed stretch of its output, so any range can be drawn by itself and a build of 500 is the
first 500 of a build of 10,000. Only raw words are used: NumPy keeps the words of a
bit generator stable for good, but not what its distributions make of them.
"""

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.types import Setting

_BLOCK = 32  # haystacks drawn at once; the choice does not show in the result


class Draw(NamedTuple):
    """A range of B haystacks, in positions 0 … P-1 of the source's photo list."""

    haystacks: NDArray[np.uint32]
    """Shape [B, cells]: photos image by image, row by row; no photo twice in a row."""
    spares: NDArray[np.uint32]
    """Shape [B, pairs(Q) * K]: further photos, not in the haystack: the negatives' needles."""
    words: NDArray[np.uint32]
    """Shape [B, Q * K]: free random words, for what else a sample has to choose."""


def pairs(questions: int) -> int:
    """How many positives, and how many negatives, ask about a haystack at most."""
    return max(1, questions // 2)


def photos_needed(setting: Setting, questions: int = 1) -> int:
    """How many photos a source must have: a haystack's, and those that negatives ask for."""
    return setting.cells + pairs(questions) * setting.needles


def check(setting: Setting, photos: int, questions: int = 1) -> None:
    """Raise UserError where a setting makes no sense or the source is too small for it."""
    shape = f"({setting.images}, {setting.grid}) with {setting.needles} needle(s)"
    if min(setting.images, setting.rows, setting.cols, setting.needles) < 1:
        raise UserError(f"{shape}: images, grid and needles must be at least 1")
    if setting.needles > setting.cells:
        raise UserError(
            f"{shape}: {setting.needles} needles do not fit into {setting.cells} cells; "
            "use fewer needles or more cells"
        )
    asked = pairs(questions) * setting.needles
    if asked > setting.cells:
        raise UserError(
            f"{shape}: {questions} questions a haystack ask for {asked} of its photos, it has "
            f"{setting.cells}; use at most {2 * (setting.cells // setting.needles)} questions a "
            "haystack or more cells"
        )
    needed = photos_needed(setting, questions)
    if photos < needed:
        raise UserError(
            f"{shape}: needs {needed} photos ({setting.cells} cells and {asked} for the samples "
            f"without a match), the source has {photos}; "
            "use fewer images, a smaller grid or a larger source"
        )


def draw(
    seed: int, setting: Setting, photos: int, start: int, stop: int, questions: int = 1
) -> Iterator[Draw]:
    """Draw haystacks start … stop-1 of a setting from `photos` photos, in blocks.

    Every ordered choice of distinct photos is equally likely (to within photos / 2**32).
    """
    check(setting, photos, questions)
    stream = _Stream(seed, setting, photos, questions)
    for low in range(start, stop, _BLOCK):
        yield stream.block(low, min(low + _BLOCK, stop))


class _Stream:
    """The photos of one setting's haystacks, as a random-access sequence of rows."""

    def __init__(self, seed: int, setting: Setting, photos: int, questions: int) -> None:
        self.seed, self.setting, self.photos, self.questions = seed, setting, photos, questions
        self.free = questions * setting.needles
        self.wanted = photos_needed(setting, questions)
        self.few = few = 4 * self.wanted <= photos
        # 32-bit words of one haystack: its free words, then its draws. Where photos are plenty,
        # what collides is drawn again: a quarter more than wanted is far more than the average
        # seventh, with a floor for short rows. Else every photo gets a 64-bit key.
        draws = self.wanted + self.wanted // 4 + 32 if few else 2 * photos
        self.stride = 4 * math.ceil((self.free + draws) / 8)  # 64-bit words, whole counters
        self.key = _key(seed, setting, questions, "haystacks")
        self.columns = np.arange(self.wanted, dtype=np.uint32)
        self.place = np.zeros((_BLOCK, photos if few else 0), np.uint32)

    def block(self, start: int, stop: int) -> Draw:
        """Rows start … stop-1, at most _BLOCK of them."""
        words = self._words(start, stop)
        free, draws = words[:, : self.free], words[:, self.free :]
        rows = self._reject_repeats(start, draws) if self.few else self._sort(draws)
        return Draw(rows[:, : self.setting.cells], rows[:, self.setting.cells :], free)

    def _words(self, start: int, stop: int) -> NDArray[np.uint32]:
        generator = np.random.Philox(key=self.key)
        generator.advance(start * self.stride // 4)  # a counter step makes four words
        raw = generator.random_raw((stop - start) * self.stride)
        return raw.astype("<u8", copy=False).view("<u4").reshape(stop - start, -1)

    def _sort(self, draws: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Order all photos by random keys and take the first."""
        pairs = draws[:, : 2 * self.photos].astype(np.uint64)
        keys = pairs[:, ::2] << np.uint64(32) | pairs[:, 1::2]
        return np.argsort(keys, axis=1, kind="stable")[:, : self.wanted].astype(np.uint32)

    def _reject_repeats(self, start: int, draws: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Draw with replacement, then draw again each photo that came twice.

        No photo is treated unlike another, so by symmetry every ordered choice is equally
        likely. A row holds photo v when `place` names a column of it that shows v; entries left
        over from earlier rows name columns that show something else, so nothing is cleared.
        """
        photos = ((draws.astype(np.uint64) * np.uint64(self.photos)) >> np.uint64(32)).astype(
            np.uint32
        )
        rows = photos[:, : self.wanted].copy()
        place = self.place[: len(rows)]
        row = np.arange(len(rows))[:, None]
        place[row, rows] = self.columns  # of a photo's columns, the last one keeps it
        repeats = np.nonzero(place[row, rows] != self.columns)
        last_row = -1
        more: Iterator[int] = iter(())
        for r, column in zip(*(axis.tolist() for axis in repeats), strict=True):
            if r != last_row:
                last_row, more = r, self._further(start + r, photos[r, self.wanted :])
            for photo in more:
                at = place[r, photo]
                if at >= self.wanted or rows[r, at] != photo:
                    place[r, photo], rows[r, column] = column, photo
                    break
        return rows

    def _further(self, index: int, spare: NDArray[np.uint32]) -> Iterator[int]:
        """A haystack's further draws: those at hand, then as many as it takes."""
        yield from spare.tolist()
        key = _key(self.seed, self.setting, self.questions, f"further {index}")
        generator = np.random.Philox(key=key)
        while True:
            yield (int(generator.random_raw()) * self.photos) >> 64


def positions(
    seed: int, setting: Setting, start: int, stop: int, questions: int = 1
) -> Iterator[tuple[int, ...]]:
    """The cells (0 … cells-1) of the K needles of positives number start … stop-1.

    Needles walk round and round an order of all cells, K steps a sample, until every cell had
    equally many; then, with a new haystack, a new order is drawn. So the cells that one haystack's
    samples ask for differ, and in any prefix each cell has the same number of needles, give or
    take one. With one needle the same holds for each image, and for each place in the grid over
    all images: a few hundred samples make an even heat map of (10, 8).
    """
    cells, needles, each = setting.cells, setting.needles, pairs(questions)
    steps = each * needles  # a haystack
    a_round = math.lcm(cells, steps) // steps  # haystacks
    for index in range(start, stop):
        haystack, question = divmod(index, each)
        order = _order(seed, setting, questions, haystack // a_round)
        first = haystack % a_round * steps + question * needles
        yield tuple(order[(first + k) % cells] for k in range(needles))


@lru_cache(maxsize=8)
def _order(seed: int, setting: Setting, questions: int, number: int) -> tuple[int, ...]:
    def shuffled(purpose: str, count: int) -> NDArray[np.int64]:
        """0 … count-1 in random order."""
        key = _key(seed, setting, questions, f"{purpose} {number}")
        raw = np.random.Philox(key=key).random_raw(count)
        return np.argsort(raw, kind="stable").astype(np.int64)

    if setting.needles > 1:  # needles of one sample stand anywhere, also in the same image
        return tuple(shuffled("order", setting.cells).tolist())
    grid = setting.rows * setting.cols
    # Step t takes place t of the grid and image t, both round and round; after each joint period
    # the images are one step ahead, so every (image, place) comes once.
    step = np.arange(setting.cells)
    image = (step + step // math.lcm(setting.images, grid)) % setting.images
    images, places = shuffled("images", setting.images), shuffled("places", grid)
    return tuple((images[image] * grid + places[step % grid]).tolist())


def word(seed: int, setting: Setting, purpose: str, questions: int = 1) -> int:
    """A random 64-bit word for one purpose."""
    return int(np.random.Philox(key=_key(seed, setting, questions, purpose)).random_raw())


def _key(seed: int, setting: Setting, questions: int, purpose: str) -> int:
    """A 128-bit generator key of its own for each (seed, setting, Q, purpose)."""
    if questions > 1:
        purpose += f"|{questions} questions"
    text = f"mmneedle haystacks 1|{seed}|{setting.name}|{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
