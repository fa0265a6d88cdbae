"""Choices by name: the same in every process, NumPy and Python version."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draw:
    """An endless stream of choices that a name decides (SHA-256 in counter mode)."""

    def __init__(self, *names: object) -> None:
        self._name = "/".join(map(str, names)).encode()
        self._blocks = 0
        self._words: list[int] = []

    def below(self, n: int) -> int:
        """A whole number from 0 to n-1, each alike (to one part in 2**32 for n up to 2**32)."""
        return self._word() * n >> 64

    def choice(self, items: Sequence[T]) -> T:
        """One of them."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], k: int) -> list[T]:
        """k different ones in random order. Raises ValueError where there are fewer."""
        if k > len(items):
            raise ValueError(f"{k} of {len(items)} items")
        moved: dict[int, int] = {}
        chosen = []
        for at in range(k):  # Fisher-Yates, holding only what was moved
            pick = at + self.below(len(items) - at)
            chosen.append(items[moved.get(pick, pick)])
            moved[pick] = moved.get(at, at)
        return chosen

    def order(self, n: int) -> NDArray[np.int64]:
        """The numbers 0 to n-1 in random order: fast for many."""
        return ascending(np.random.Philox(key=self._word()).random_raw(n))  # as in every NumPy

    def digits(self, n: int) -> str:
        """A number of n digits, the first one not 0."""
        return str(10 ** (n - 1) + self.below(9 * 10 ** (n - 1)))

    def uuid(self) -> str:
        """A random UUID (RFC 9562, version 4)."""
        return str(uuid.UUID(int=self._word() << 64 | self._word(), version=4))

    def _word(self) -> int:
        if not self._words:
            block = hashlib.sha256(self._name + self._blocks.to_bytes(8, "big")).digest()
            self._blocks += 1
            self._words = [int.from_bytes(block[at : at + 8], "big") for at in (24, 16, 8, 0)]
        return self._words.pop()


def ascending(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places of keys in ascending order, the first first where two are equal; shape (n,).

    As `np.argsort(keys, kind="stable")` has it, but faster for random keys: a radix sort by their
    16 highest bits all but orders them, and their places ride along in the lowest bits, which
    tell no keys apart unless all others are equal.
    """
    bits = np.uint64(max(1, (len(keys) - 1).bit_length()))
    packed = (keys >> bits << bits) | np.arange(len(keys), dtype=np.uint64)
    packed = packed[np.argsort((keys >> np.uint64(48)).astype(np.uint16), kind="stable")]
    packed.sort(kind="stable")  # of what is nearly in order: quick
    high = packed >> bits
    if (high[1:] == high[:-1]).any():
        return np.argsort(keys, kind="stable").astype(np.int64)
    packed &= (np.uint64(1) << bits) - np.uint64(1)
    return packed.astype(np.int64)
