"""A haystack's text in units (chunks, pairs, documents), and what is left of it back as text."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

JOINTS = {
    "pairs": re.compile(r',\n (?=")'),
    "entries": re.compile(r", "),
    "documents": re.compile(r"\n\n(?=Document \d+: )"),
}
"""What stands between the units of a haystack that is not running text."""
GAP = "\n[...]\n"
"""Stands where running text was left out."""

Span = tuple[int, int]
"""[start, stop) in characters."""


class Units(NamedTuple):
    """A haystack's units; those of running text may overlap."""

    text: str
    spans: list[Span]
    running: bool

    def of(self, unit: int) -> str:
        """A unit's text."""
        start, stop = self.spans[unit]
        return self.text[start:stop]

    def read(self, chosen: Sequence[int]) -> str:
        """What is left where only some units are read, in ascending order; all leave the text.

        Chunks that overlap or touch are one passage; between passages stands GAP. Other units
        keep what stands between the first two of the haystack.
        """
        if len(chosen) == len(self.spans):
            return self.text
        if self.running:
            passages = merged([self.spans[unit] for unit in chosen])
            return GAP.join(self.text[start:stop].strip() for start, stop in passages)
        joint = self.text[self.spans[0][1] : self.spans[1][0]]
        return joint.join(map(self.of, chosen))


def units_of(text: str, kind: str | None, ends: NDArray[np.int64] | None, chunk: Span) -> Units:
    """Take a haystack apart.

    Args:
        text: the haystack.
        kind: of JOINTS; None: running text, which is cut into chunks.
        ends: where its tokens end, in characters (`Tokens.ends`); of running text.
        chunk: tokens of a chunk, and how many at least it shares with the next.
    """
    if not text:
        return Units(text, [], kind is None)
    if kind is not None:
        return Units(text, _split(text, JOINTS[kind]), running=False)
    assert ends is not None
    return Units(text, chunk_spans(text, ends, *chunk), running=True)


def _split(text: str, joint: re.Pattern[str]) -> list[Span]:
    spans, start = [], 0
    for match in joint.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    return [*spans, (start, len(text))]


def chunk_spans(text: str, ends: NDArray[np.int64], size: int, overlap: int) -> list[Span]:
    """Cut a text into chunks, between words where tokens end there.

    Together they cover the text; each has `size` tokens at most, and shares at least `overlap`
    of them with the one before it.

    Args:
        text: not empty.
        ends: where its tokens end, in characters, ascending; shape (tokens,).
        size: tokens of a chunk.
        overlap: less than that.
    """
    count = len(ends)
    clean = np.flatnonzero([0 < end < len(text) and text[end].isspace() for end in ends]) + 1
    spans: list[Span] = []
    first = 0
    while True:
        last = first + size
        if last >= count:
            spans.append((_at(ends, first), len(text)))
            return spans
        last = _down(clean, last, first + overlap + 1)
        spans.append((_at(ends, first), _at(ends, last)))
        first = _down(clean, last - overlap, first + 1)


def _at(ends: NDArray[np.int64], tokens: int) -> int:
    """Where so many tokens end."""
    return int(ends[tokens - 1]) if tokens else 0


def _down(clean: NDArray[np.int64], wanted: int, least: int) -> int:
    """The last number of tokens after which a word ends, in least..wanted; else `wanted`."""
    place = int(np.searchsorted(clean, wanted, "right"))
    found = int(clean[place - 1]) if place else -1
    return found if found >= least else wanted


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in ascending order, with those that overlap or touch made one."""
    found: list[Span] = []
    for start, stop in spans:
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found
