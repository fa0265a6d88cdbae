"""Somebody's words as LaTeX text, for tables and captions."""

import re
import unicodedata

from mmneedle.reports.words import visible

_SPECIAL = {
    "\0": "{}",
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "¶": r"\P{}",
    "–": "--",
    "−": r"$-$",
    "’": "'",
    "“": "``",
    "”": "''",
    "×": r"$\times$",
    "±": r"$\pm$",
    "…": r"\dots{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u030c": "v",
}


_APART = "\0"  # of which `visible` leaves none
_LIGATURES = re.compile(r"(?<=[-,'`<>])(?=[-,'`<>])|(?<=[?!])(?=`)")
"""Where two characters would become one: a dash, a quotation mark, another letter."""


def escape(text: str) -> str:
    """Somebody's words as LaTeX text: nothing in them is a command, and any engine sets them.

    Letters with common accents are kept; other characters beyond ASCII are spelled out: U+4E2D.
    """
    return "".join(map(_char, _LIGATURES.sub(_APART, visible(" ".join(text.split())))))


def _char(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii():
        return char
    base, *accents = list(unicodedata.normalize("NFD", char))
    if len(accents) == 1 and accents[0] in _ACCENTS and base.isascii() and base.isalpha():
        inner = {"i": r"\i", "j": r"\j"}.get(base, base)
        return rf"\{_ACCENTS[accents[0]]}{{{inner}}}"
    return f"U+{ord(char):04X}"
