"""Whether a word or phrase stands in a text: what scores and distractors are judged by.

Both are normalised first: Unicode compatibility forms (NFKC), case folded, white space in a row
as one. A number inside a longer number, and a word inside a longer word, do not stand there.
"""

import re
import string
import unicodedata
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_BLANKED = str.maketrans(dict.fromkeys(string.punctuation, " "))
_DROPPED = str.maketrans(dict.fromkeys(string.punctuation, ""))
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese: no spaces between words. Korean writes
particles onto them."""

Forms = tuple[str, ...]
"""A text in the ways in which it is compared."""


def forms(text: str, loose: bool = False) -> Forms:
    """A text as it is compared.

    Args:
        text: any.
        loose: without punctuation and articles, as SQuAD's measure has it (P. Rajpurkar et al.,
            arXiv:1606.05250), in two ways: signs dropped ("U.S." is "US", as published), and a
            space in the place of each ("Paris/London" holds "Paris").
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    if not loose:
        return (" ".join(text.split()),)
    return tuple(
        " ".join(_ARTICLES.sub(" ", text.translate(signs)).split())
        for signs in (_BLANKED, _DROPPED)
    )


def normal(text: str, loose: bool = False) -> str:
    """The first of `forms`."""
    return forms(text, loose)[0]


def given(wordings: Iterable[Forms], text: Forms) -> bool:
    """Whether any of some wordings stands in a text, both in the same form."""
    return any(any(map(stands, words, text)) for words in wordings)


def stands(word: str, text: str) -> bool:
    """Whether a word or phrase stands in a text with no letter or digit joined to it.

    Both are taken as they are: normalise them first. An empty word stands nowhere. Signs of
    scripts without spaces between words join nothing.
    """
    if not word:
        return False
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not (at and _joined(text[at - 1], word[0])) and not (
            end < len(text) and _joined(word[-1], text[end])
        ):
            return True
        at = text.find(word, at + 1)
    return False


def _joined(one: str, other: str) -> bool:
    return (
        one.isalnum()
        and other.isalnum()
        and not _UNSPACED.match(one)
        and not _UNSPACED.match(other)
    )
