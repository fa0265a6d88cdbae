"""Texts of coined words that are told apart by how often they stand there.

Source: C.-P. Hsieh et al., RULER (arXiv:2404.06654), section 3 (aggregation) and appendix: ten
common words 30 times each among uncommon ones 3 times each (6 and 1 below 4,096 tokens), and words
whose counts fall as a Zeta distribution with exponent 2. Published lists are of English words;
ours are coined, so that there are enough of them at any length.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmneedle.texts.coined import LETTERS, coined, letters, piece_tokens, tokens_each
from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Built, Plan
from mmneedle.texts.tokens import Tokens

COMMON = 10
FREQUENT = 3
DOTS = "..."
"""What stands at the first rank, and is no word."""
FEWEST = 120
"""Words of a coded text at least: the first ranks' counts then differ."""
_EACH = 16
"""Words of the first ranks whose tokens are counted one by one."""
_REPEATS = 4
"""Times that a word stands in a row when its tokens are counted: a multiple of four, so that four
characters a token come out even; more of them tell no more of a word without a space in it."""
_LEAST, _MOST = 1 << 12, 1 << 17
"""Words a list is drawn from at least, and at most."""


class Words(NamedTuple):
    """A text of words."""

    text: str
    tokens: int
    """As computed from those of its words."""
    words: NDArray[np.int64]
    """Which words stand there, by their numbers; -1: dots."""
    times: NDArray[np.int64]
    """How often each does, the most frequent first; shape (words,)."""

    def counts(self, first: int | None = None) -> dict[str, int]:
        """How often each word stands there; of the `first` ones where not of all."""
        return dict(zip(spelled(self.words[:first]), self.times[:first].tolist(), strict=True))


class Vocabulary:
    """Coined words by their numbers, with their tokens: all counted in one go."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._each: dict[str, float] = {}
        self._sizes: NDArray[np.int64] = np.zeros(0, np.int64)
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)

    def drawn(self, draw: Draw, length: int, most: int) -> NDArray[np.int64]:
        """The first `most` of different words, enough for a list of `length` tokens."""
        count = min(_MOST, max(_LEAST, 1 << (length // 4).bit_length()))
        # Any odd step meets each of 2**k numbers once: no need to shuffle them all.
        start, step = draw.below(count), 2 * draw.below(count // 2) + 1
        return (start + step * np.arange(min(most, count), dtype=np.int64)) & (count - 1)

    def sizes(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens of each word with a space before it."""
        if len(words) and len(self._sizes) <= int(words.max()):
            pool = coined(int(words.max()) + 1)
            self._sizes = piece_tokens(self._tokens, [f" {word}" for word in pool])
        return self._sizes[words]

    def numbers(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens of the numbers 1 to n of a numbered list, for each n."""
        most = int(counts.max())
        if len(self._numbers) < most:
            pieces = [f" {number}." for number in range(1, most + most // 4 + 2)]
            self._numbers = np.cumsum(piece_tokens(self._tokens, pieces))
        return self._numbers[counts - 1]

    def each(self, words: NDArray[np.int64]) -> list[float]:
        """The tokens of each word where it stands many times."""
        return [self._one(word, _REPEATS) for word in spelled(words)]

    def dots(self) -> float:
        """Of DOTS, which some tokenizers put together."""
        return self._one(DOTS, 4 * _REPEATS)

    def _one(self, word: str, repeats: int) -> float:
        if word not in self._each:
            self._each[word] = tokens_each(self._tokens, f" {word}", repeats)
        return self._each[word]


def common_words(vocabulary: Vocabulary, draw: Draw, length: int) -> Plan:
    """A numbered list, an example before it, and the question for its ten common words."""
    often = (30, 3) if length >= 4096 else (6, 1)
    words = vocabulary.drawn(draw, length, max(_LEAST, 3 * COMMON + length // (2 * often[1])))
    shown, words = words[: 2 * COMMON], words[2 * COMMON :]
    seed = draw.digits(18)
    question = (
        f"Which {COMMON} words stand most often in the list? Answer with the words alone, "
        "separated by commas."
    )
    example = numbered_list(vocabulary, shown, (3, 1), 0, Draw(seed, "example"))
    before = (
        "Some words of a list stand there more often than others. An example first.\n\n"
        f"{example.text}\n{question}\nAnswer: {', '.join(spelled(shown[:COMMON]))}\n\n"
        "Now the list.\n\n"
    )

    def build(room: int) -> Built:
        made = numbered_list(vocabulary, words, often, room, Draw(seed, room))
        details = {
            "haystack": [len(before), len(before) + len(made.text)],
            "counts": made.counts(COMMON + 1),
        }
        return f"{before}{made.text}\n\n{question}", made.tokens, details

    expected = tuple((word,) for word in spelled(words[:COMMON]))
    return Plan([before, question], build, expected, "The words are")


def frequent_words(vocabulary: Vocabulary, draw: Draw, length: int) -> Plan:
    """A text in code, and the question for the three words that stand there most often."""
    words = vocabulary.drawn(draw, length, _ranks(length))
    seed = draw.digits(18)
    before = "Below is a text in code. Watch how often each of its words stands there.\n\n"
    question = (
        f"Which {FREQUENT} words stand most often in the text in code? Dots are no words. Answer "
        "with the words alone, separated by commas."
    )

    def build(room: int) -> Built:
        made = coded_text(vocabulary, words, length, room, Draw(seed, room))
        details = {
            "haystack": [len(before), len(before) + len(made.text)],
            "counts": made.counts(FREQUENT + 2),
        }
        return f"{before}{made.text}\n\n{question}", made.tokens, details

    expected = tuple((word,) for word in spelled(words[:FREQUENT]))
    return Plan([before, question], build, expected, "The words are")


def _ranks(length: int) -> int:
    """Words of a coded text: a fiftieth of its tokens, as published."""
    return max(20, length // 50)


def spelled(words: NDArray[np.int64]) -> list[str]:
    """Words by their numbers; dots for -1."""
    rows = _rows(words)
    return rows.tobytes().translate(None, b"\0").decode("ascii").split()


def numbered_list(
    vocabulary: Vocabulary,
    words: NDArray[np.int64],
    often: tuple[int, int],
    room: int,
    draw: Draw,
) -> Words:
    """A numbered list of common words and of so many uncommon ones as there is room for.

    Args:
        vocabulary: whose words they are.
        words: the first ten are the common ones.
        often: how often a common one and an uncommon one stands there.
        room: in tokens; a list with ten uncommon words is made even where it is longer.
        draw: decides the order.
    """
    common, others = words[:COMMON], words[COMMON:]
    # An item has two tokens or more.
    others = others[: max(COMMON, round(room / (2 * often[1])))]
    items = often[0] * COMMON + often[1] * np.arange(1, len(others) + 1)
    each = vocabulary.each(common) if often[0] >= 10 else vocabulary.sizes(common)
    totals = often[0] * sum(each) + (
        often[1] * np.cumsum(vocabulary.sizes(others)) + vocabulary.numbers(items)
    )
    count = max(COMMON, int(np.searchsorted(totals, room, "right")))
    count = min(count, len(others))
    counts = np.repeat(often, (COMMON, count))
    return _written(words[: COMMON + count], counts, float(totals[count - 1]), draw, numbered=True)


def coded_text(
    vocabulary: Vocabulary, words: NDArray[np.int64], length: int, room: int, draw: Draw
) -> Words:
    """Words in random order, their counts falling with the square of the rank; rank 1 are dots.

    Args:
        vocabulary: whose words they are.
        words: by rank from 2.
        length: of the whole prompt in tokens.
        room: for the text, in tokens; FEWEST words are made even where they are more.
        draw: decides the order.
    """
    words = words[: _ranks(length)]
    shares = np.arange(1, len(words) + 2, dtype=np.float64) ** -2 / (math.pi**2 / 6)
    sizes = np.array([vocabulary.dots(), *vocabulary.each(words[:_EACH])])
    sizes = np.concatenate([sizes, vocabulary.sizes(words[_EACH:])])

    def counts(total: int) -> NDArray[np.int64]:
        return np.floor(shares * total).astype(np.int64)

    low, high = FEWEST, max(FEWEST, 2 * room) + 1  # counts(low) fit, counts(high) do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if counts(middle) @ sizes <= room else (low, middle)
    found = counts(low)
    found[0] += max(0, int((room - found @ sizes) / sizes[0]))  # dots fill what is left
    there = found > 0
    return _written(
        np.concatenate([[-1], words])[there],
        found[there],
        float(found @ sizes),
        draw,
        numbered=False,
    )


@cache
def _numbers(count: int) -> NDArray[np.uint8]:
    """How the first items of a numbered list begin, a row each, zeros after it."""
    begin = np.array([f"{number}. ".encode("ascii") for number in range(1, count + 1)])
    return begin.view(np.uint8).reshape(count, -1)


@cache
def _letters(count: int) -> NDArray[np.uint8]:
    """The first words with a space after each, a row each; DOTS in the last row, zeros after it."""
    made = np.full((count + 1, LETTERS + 1), ord(" "), np.uint8)
    made[:-1, :-1] = letters(count)
    made[-1] = np.frombuffer(f"{DOTS} ".encode("ascii").ljust(LETTERS + 1, b"\0"), np.uint8)
    return made


def _rows(words: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Words by their numbers, a space after each; shape (words, LETTERS + 1)."""
    return _letters(1 << int(words.max()).bit_length()).take(words, 0)


def _written(
    words: NDArray[np.int64],
    counts: NDArray[np.int64],
    tokens: float,
    draw: Draw,
    *,
    numbered: bool,
) -> Words:
    """The words in random order, each as often as its count says.

    Tens of thousands of short pieces are put together as rows of bytes of one width: what a row
    has too much is zeros, which go at the end.
    """
    every = np.repeat(words, counts)[draw.order(int(counts.sum()))]
    rows = _rows(every)
    if numbered:
        rows = np.hstack([_numbers(1 << len(rows).bit_length())[: len(rows)], rows])
    text = rows.tobytes().translate(None, b"\0")[:-1].decode("ascii")
    return Words(text, round(tokens), words, counts)
