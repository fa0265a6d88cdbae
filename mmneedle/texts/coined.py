"""Words that nobody knows, such as "bamilo": as many as a task wants, each six letters long."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmneedle.texts.tokens import Tokens

_SYLLABLES = [consonant + vowel for consonant in "bdklmnprstvz" for vowel in "aeiou"]
WORDS = len(_SYLLABLES) ** 3
"""216,000."""
_STEP = 77_777
"""Has no divisor in common with WORDS: stepping by it meets every word once."""
_REPEATS = 16


def coined(count: int) -> tuple[str, ...]:
    """The first words, `count` or more of them, all different.

    Raises ValueError where there are not so many.
    """
    if count > WORDS:
        raise ValueError(f"{count} words of {WORDS}")
    return _first(min(WORDS, 1 << max(10, (count - 1).bit_length())))


@cache
def _first(count: int) -> tuple[str, ...]:
    base = len(_SYLLABLES)
    words = []
    for number in range(count):
        at = number * _STEP % WORDS
        rest, last = divmod(at, base)
        first, middle = divmod(rest, base)
        words.append(_SYLLABLES[first] + _SYLLABLES[middle] + _SYLLABLES[last])
    return tuple(words)


def piece_tokens(tokens: Tokens, pieces: Sequence[str]) -> NDArray[np.int64]:
    """The tokens of each piece of a text, which is tokenised once; shape (pieces,).

    A token that reaches over a seam counts for the piece in which it ends, so that sums over
    many pieces are those of the text.
    """
    bounds = np.cumsum([len(piece) for piece in pieces])
    ends = tokens.ends("".join(pieces))
    return np.diff(np.searchsorted(ends, bounds, "right"), prepend=0).astype(np.int64)


def tokens_each(tokens: Tokens, piece: str) -> float:
    """The tokens of a piece that stands many times in a text, on average."""
    return tokens.count(piece * _REPEATS) / _REPEATS
