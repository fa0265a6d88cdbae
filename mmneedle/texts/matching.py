"""Whether a word or phrase stands in a text: what scores and distractors are judged by.

Both are normalised first: Unicode compatibility forms (NFKC), case folded, white space in a row
as one. A number inside a longer number, and a word inside a longer word, do not stand there.
"""

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))


def normal(text: str, loose: bool = False) -> str:
    """A text as it is compared.

    Args:
        text: any.
        loose: without punctuation and articles, as SQuAD's measure has it (P. Rajpurkar et al.,
            arXiv:1606.05250).
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    if loose:
        text = _ARTICLES.sub(" ", text.translate(_PUNCTUATION))
    return " ".join(text.split())


def stands(word: str, text: str) -> bool:
    """Whether a word or phrase stands in a text with no letter or digit joined to it.

    Both are taken as they are: normalise them first. An empty word stands nowhere.
    """
    if not word:
        return False
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        before = text[at - 1] if at else " "
        after = text[end] if end < len(text) else " "
        joined_before = before.isalnum() and word[0].isalnum()
        joined_after = after.isalnum() and word[-1].isalnum()
        if not (joined_before or joined_after):
            return True
        at = text.find(word, at + 1)
    return False
