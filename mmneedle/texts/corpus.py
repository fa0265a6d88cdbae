"""Haystack texts: read once, tokenised once, cut anywhere by offsets."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.texts.tokens import Tokens
from mmneedle.types import Photo

_SENTENCE = re.compile(
    r"(?:(?<=[.!?…؟।])|(?<=[.!?…؟।][\"'”’)\]]))\s+"
    r"|[。！？][”’」』）]*\s*"
    r"|\n{2,}"
)
"""Between sentences; those that end with a sign of full width need no white space."""
LONGEST = 600
"""Characters of a sentence that is left whole: a needle's depth is as fine as sentences are."""
_REPEATED = 1 << 16
"""Characters up to which a text is repeated before it is tokenised: a haystack in which a short
text starts over again and again then has as many tokens as were counted."""
LARGEST = 64 << 20
"""Bytes of a text folder that are read at most: a haystack of a million tokens has 4 MB."""


class Corpus:
    """A text with the places where it may be cut."""

    def __init__(self, text: str, tokens: Tokens, joints: str = "") -> None:
        """Take a text; sentences end with their white space. A short one is repeated.

        Args:
            text: any.
            tokens: what counts them.
            joints: characters after which it may be cut too, besides white space.

        Raises:
            UserError: it is empty.
        """
        if not text.strip():
            raise UserError("the haystack's text is empty")
        if len(text) < _REPEATED:
            text = f"{text.rstrip()}\n" * -(-_REPEATED // len(text))
        self.text, self.tokens, self._joints = text, tokens, joints

    @cached_property
    def token_ends(self) -> NDArray[np.int64]:
        """Where each token ends, in characters; shape (tokens,). Raises UserError without any."""
        ends = self.tokens.ends(self.text)
        if not len(ends):
            raise UserError("the haystack's text is empty: the tokenizer sees nothing in it")
        return ends

    @cached_property
    def sentence_ends(self) -> NDArray[np.int64]:
        """Where each sentence ends, its white space included, in characters.

        One longer than LONGEST is parted at its line ends, what is longer still between words.
        """
        ends: list[int] = []
        start = 0
        for end in (*(match.end() for match in _SENTENCE.finditer(self.text)), len(self.text)):
            if end - start > LONGEST:
                ends += _parted(self.text, start, end)
            if end > start:
                ends.append(end)
            start = end
        return np.array(ends, np.int64)

    def __len__(self) -> int:
        """Tokens."""
        return len(self.token_ends)

    @cached_property
    def _digits(self) -> str:
        """All numbers in it, apart from each other."""
        return " ".join(re.findall(r"\d+", self.text))

    def holds_number(self, number: str) -> bool:
        """Whether a row of digits stands anywhere in it."""
        return number in self._digits

    def cut(self, start: int, length: int) -> "Cut":
        """About `length` tokens from a sentence on; the text starts over where it ends.

        The last word is whole, so that some tokens may be missing.

        Args:
            start: number of the sentence, taken modulo their number.
            length: in tokens, at least 1.
        """
        start %= len(self.sentence_ends)
        first = int(self.sentence_ends[start - 1]) if start else 0
        before = int(np.searchsorted(self.token_ends, first, "right"))
        parts: list[str] = []
        places: list[NDArray[np.int64]] = []
        done = written = 0
        while True:
            wanted, there = length - done, len(self) - before
            whole = there <= wanted
            end = len(self.text) if whole else self._word_end(first, before + wanted)
            text = self.text[first:end]
            if whole:  # and over again
                text = text.rstrip() + "\n"
            inside = self.sentence_ends[
                np.searchsorted(self.sentence_ends, first, "right") : np.searchsorted(
                    self.sentence_ends, end, "left"
                )
            ]
            places += [inside - first + written, np.array([written + len(text)], np.int64)]
            parts.append(text)
            written += len(text)
            last = int(np.searchsorted(self.token_ends, end, "right"))
            done += last - before
            if not whole or done >= length:
                break
            first = before = 0
        return Cut("".join(parts).rstrip(), done, np.concatenate(places))

    def _word_end(self, first: int, tokens: int) -> int:
        """The last end of a word among the first so many tokens, in characters."""
        end = int(self.token_ends[tokens - 1])
        floor = max(first, end - 100)
        while end > floor and end < len(self.text) and not self._may_be_cut(end):
            end -= 1
        return end if end > floor else int(self.token_ends[tokens - 1])

    def _may_be_cut(self, at: int) -> bool:
        return self.text[at].isspace() or self.text[at - 1] in self._joints


def _parted(text: str, start: int, stop: int) -> list[int]:
    """Places strictly within text[start:stop] that part it into pieces of LONGEST at most."""
    lines = [at for at in (m.end() for m in _LINE.finditer(text, start, stop)) if at < stop]
    places: list[int] = []
    for line in (*lines, stop):
        while line - start > LONGEST:
            words = max((m.end() for m in _SPACE.finditer(text, start, start + LONGEST)), default=0)
            start = words or start + LONGEST  # where there are no words, anywhere
            places.append(start)
        if line < stop:
            places.append(line)
        start = line
    return places


_LINE, _SPACE = re.compile(r"\n\s*"), re.compile(r"\s+")


class Cut(NamedTuple):
    """A piece of a corpus."""

    text: str
    tokens: int
    breaks: NDArray[np.int64]
    """Where its sentences end, in characters, ascending; its end included, its start not."""

    def insert(self, needles: Sequence[tuple[float, str]]) -> tuple[str, list[int]]:
        """Put sentences in, each at the sentence break nearest to its depth.

        Args:
            needles: (depth 0..1 of the characters, sentence); several at one break keep their
                order.

        Returns:
            The text, and where each needle begins in it, in characters.
        """
        length = len(self.text)
        chosen = sorted(
            (self._nearest(depth * length), number) for number, (depth, _) in enumerate(needles)
        )
        parts: list[str] = []
        starts = [0] * len(needles)
        at = written = 0
        for place, number in chosen:
            before = self.text[at:place]
            if before and not before[-1].isspace():
                before += " "
            words = needles[number][1]
            if place < length:
                words += " "
            starts[number] = written + len(before)
            parts += [before, words]
            written += len(before) + len(words)
            if place == length:
                parts.append(" ")
                written += 1
            at = place
        parts.append(self.text[at:])
        return "".join(parts).rstrip(), starts

    def _nearest(self, wanted: float) -> int:
        at = int(np.searchsorted(self.breaks, wanted))
        around = [0, *self.breaks[max(0, at - 1) : at + 1].tolist()]
        inside: list[int] = [min(place, len(self.text)) for place in around]
        return min(inside, key=lambda place: abs(place - wanted))


# --------------------------------------------------------------------------- sources


def read_texts(path: Path) -> str:
    """A text file, or all .txt and .md files of a folder by their paths, as one text.

    Raises:
        UserError: there is none; a file is no UTF-8 text, or all are larger than LARGEST.
    """
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in (".txt", ".md") and file.is_file()
        )
    else:
        raise UserError(f"{path}: no such file or folder")
    if not files:
        raise UserError(f"{path}: holds no .txt or .md file")
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise UserError(
            f"{path}: {size / 1e6:,.0f} MB of text, at most {LARGEST >> 20} MiB are read; name a "
            "smaller folder (a haystack of a million tokens has some 4 MB)"
        )
    text = "\n\n".join(filter(None, map(_read, files)))
    if not text:
        raise UserError(f"{path}: is empty, or holds empty files alone")
    return text


def _read(file: Path) -> str:
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: is not UTF-8 text (byte {error.start}); convert or remove it"
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise UserError(f"{file}: holds binary data; remove it")
    return text.strip()


def captions_text(captions: Iterable[str]) -> str:
    """Captions as sentences, one a line."""
    return "\n".join(_sentence(caption) for caption in captions if caption.strip())


def caption_documents(photos: Iterable[Photo]) -> str:
    """Photos as documents: the number, then each caption, one a line; empty lines between them."""
    return "\n\n".join(
        "\n".join([f"{photo.id:06d}", *(" ".join(text.split()) for text in captions)])
        for photo in photos
        if (captions := list(filter(str.strip, photo.captions)))
    )


def _sentence(caption: str) -> str:
    text = " ".join(caption.split())
    return text if text[-1] in ".!?" else f"{text}."


_FILLER = """
baker clerk doctor farmer gardener judge miller painter pilot sailor singer teacher
borrowed carried cleaned described followed found kept lost mended moved noticed sold
basket bicycle blanket bottle candle ladder lantern letter mirror ribbon teapot window
behind-the-school by-the-river in-the-old-mill near-the-station on-the-bridge under-the-oak
at-dawn before-lunch in-silence on-a-whim with-care after-the-rain by-mistake for-a-friend
"""
_PARTS = [
    [part.replace("-", " ") for part in line.split()] for line in _FILLER.strip().splitlines()
]
"""Who did what where and how."""


def filler(seed: int, sentences: int) -> str:
    """Plain generated sentences that state no fact that a needle states; 82,944 are distinct."""
    words = np.random.Philox(key=seed).random_raw(sentences).tolist()
    return " ".join(_filler_sentence(word >> 11) for word in words)


def _filler_sentence(word: int) -> str:
    parts: list[str] = []
    for choices in _PARTS:
        word, at = divmod(word, len(choices))
        parts.append(choices[at])
    who, did, what, where, how = parts
    return f"The {who} {did} a {what} {where} {how}."


def identity(source: str, text: str) -> dict[str, Any]:
    """What a corpus is, as JSON: its kind and a hash over its text."""
    return {"source": source, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def paragraphs(text: str) -> Iterator[str]:
    """The parts of a text between empty lines, stripped."""
    yield from filter(None, map(str.strip, re.split(r"\n\s*\n", text)))
