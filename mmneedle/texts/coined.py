"""Words that nobody knows, such as "bamilo": as many as a task wants, each six letters long."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mmneedle.texts.tokens import Tokens

_SYLLABLES = [consonant + vowel for consonant in "bdklmnprstvz" for vowel in "aeiou"]
WORDS = len(_SYLLABLES) ** 3
"""216,000."""
LETTERS = 6
"""Of each word."""
_STEP = 77_777
"""Has no divisor in common with WORDS: stepping by it meets every word once."""


def coined(count: int) -> tuple[str, ...]:
    """The first words, `count` or more of them, all different.

    Raises ValueError where there are not so many.
    """
    if count > WORDS:
        raise ValueError(f"{count} words of {WORDS}")
    return _first(min(WORDS, 1 << max(10, (count - 1).bit_length())))


@cache
def _first(count: int) -> tuple[str, ...]:
    text = letters(count).tobytes().decode("ascii")
    return tuple(text[at : at + LETTERS] for at in range(0, len(text), LETTERS))


def letters(count: int) -> NDArray[np.uint8]:
    """The first `count` words, a row of letters (ASCII) each; shape (count, LETTERS)."""
    at = np.arange(count, dtype=np.int64) * _STEP % WORDS
    base = len(_SYLLABLES)
    syllables = np.frombuffer("".join(_SYLLABLES).encode("ascii"), np.uint8).reshape(base, 2)
    places = np.column_stack([at // base**2, at // base % base, at % base])
    return syllables[places].reshape(count, LETTERS)


def piece_tokens(tokens: Tokens, pieces: Sequence[str]) -> NDArray[np.int64]:
    """The tokens of each piece of a text, which is tokenised once; shape (pieces,).

    A token that reaches over a seam counts for the piece in which it ends, so that sums over
    many pieces are those of the text.
    """
    bounds = np.cumsum([len(piece) for piece in pieces])
    ends = tokens.ends("".join(pieces))
    return np.diff(np.searchsorted(ends, bounds, "right"), prepend=0).astype(np.int64)


def tokens_each(tokens: Tokens, piece: str, repeats: int) -> float:
    """The tokens of a piece that stands many times in a text, on average over `repeats` of them.

    What a tokenizer puts in front of a text of its own counts for none of them.
    """
    more = tokens.count(piece * (2 * repeats)) - tokens.count(piece * repeats)
    return more / repeats
