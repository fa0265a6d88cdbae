"""Plain text -> tokens: words, labels ("row"), numbers and marks, as `mentions.find` reads them."""

import re
from typing import NamedTuple

from mmneedle.reading import vocabulary as words

HUGE = 10**18
"""Stands for every number of more than 18 digits."""


class Token(NamedTuple):
    """A word, number or punctuation mark of cleaned text."""

    kind: str
    """number, nones ("-1-1"), ordinal, label, word, mark or break"""
    text: str
    start: int
    end: int
    value: int = 0
    """Of a number or ordinal."""
    axis: words.Axis | None = None
    """Of a label."""


_CJK_WORDS = sorted(words.CJK_LABELS, key=len, reverse=True)
_TOKEN = re.compile(
    rf"""(?P<other>[0-9]+(?:×[0-9]+)+|[0-9]+(?:\.[0-9]+)+|(?<![0-9,])[0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9,]))
    |(?P<nones>(?<![\w)\]])-1(?:-1)+(?![0-9]))
    |(?P<ordinal>[0-9]+){words.ORDINAL_SUFFIX}\b
    |(?P<number>(?<![\w)\]])-[0-9]+|[0-9]+)
    |(?P<cjk>{"|".join(_CJK_WORDS)})
    |(?P<first>第)\ ?(?P<han>[一二三四五六七八九十])
    |(?P<word>(?:(?![{words.CJK}0-9_])\w)+(?:'(?:(?![{words.CJK}0-9_])\w)+)*)
    |(?P<break>[\n\0])
    |(?P<mark>[^\s])""",
    re.VERBOSE,
)


def tokens(text: str) -> list[Token]:
    """Cleaned text's tokens, in order."""
    return [_token(match) for match in _TOKEN.finditer(text)]


def _token(match: re.Match[str]) -> Token:
    text, start, end = match.group(), match.start(), match.end()
    kind = match.lastgroup
    if kind == "number":
        return Token("number", text, start, end, integer(text))
    if kind == "ordinal":
        return Token("ordinal", text, start, end, integer(match.group("ordinal")))
    if kind == "han":
        return Token("ordinal", text, start, end, words.CJK_NUMBERS[match.group("han")])
    if kind == "cjk":
        return Token("label", text, start, end, axis=words.CJK_LABELS[text])
    if kind == "word":
        if text in words.LABELS:
            return Token("label", text, start, end, axis=words.LABELS[text])
        if text in words.ORDINALS:
            return Token("ordinal", text, start, end, words.ORDINALS[text])
    return Token(kind if kind in ("break", "mark", "nones") else "word", text, start, end)


def integer(text: str) -> int:
    """The number, HUGE for more digits than matter (int() of very many would raise)."""
    digits = text.lstrip("-").lstrip("0") or "0"
    value = HUGE if len(digits) > 18 else int(digits)
    return -value if text.startswith("-") else value
