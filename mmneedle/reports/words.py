"""How reports write numbers, names and somebody else's words."""

import re
import unicodedata
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from mmneedle.types import Setting

_NOISE = 9
"""Decimal places beyond which a binary fraction tells nothing: what 0.695 lacks of 0.695."""


def rounded(value: float, digits: int = 0) -> str:
    """A finite number with so many decimal places, halves away from zero: 0.695 as "0.70".

    Every report rounds by this one rule. A fraction of counts that is a half in decimals is one
    here too, although its binary form may lie just below; nothing is ever "-0.0".
    """
    exact = Decimal(repr(round(float(value), _NOISE)))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0:.{digits}f}"


def points(share: float, digits: int = 1) -> str:
    """A difference of shares in percentage points: "3.2", "-0.4"."""
    return rounded(100 * share, digits)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent without the sign; never "100.0" or "0.0" for what only comes near."""
    if value is None:
        return "–"
    text = rounded(100 * value, digits)
    if value < 1 and float(text) == 100:
        return f">{100 - 10**-digits:.{digits}f}"
    if value > 0 and float(text) == 0:
        return f"<{10**-digits:.{digits}f}"
    return text


def signed(value: float | None) -> str:
    """Youden's J as text: two digits, a true minus sign."""
    return "–" if value is None else rounded(value, 2).replace("-", "−")


def label(setting: Setting) -> str:
    """A setting as the paper writes it: (10,8)."""
    return f"({setting.images},{setting.grid})"


def typed(setting: Setting) -> str:
    """A setting without its needles, as options take it: 10x8, 1x3x5."""
    return f"{setting.images}x{setting.grid}"


def short(fingerprint: str) -> str:
    """A fingerprint as tables show it: its first 12 characters."""
    return fingerprint[:12]


def folder_name(path: Path | str) -> str:
    """A folder's name: pages are mailed, and where it lay on this machine is nobody's business."""
    return Path(path).name or str(path)


def many(number: int, noun: str) -> str:
    """A number with its noun: "1 run", "1,200 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_SPECIAL = re.compile(r"([\\`*\[\]|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def escape(text: str) -> str:
    """Somebody's words as markdown text on one line: nothing in them is markup or a column."""
    text = visible(" ".join(text.split()))
    text = _SPECIAL.sub(r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def named(text: str) -> str:
    """A name as a terminal may show it: on one line, nothing in it acts on the terminal."""
    return visible(" ".join(text.split()))


def visible(text: str) -> str:
    """Text with control and direction characters spelled out, such as [U+202E]."""
    return "".join(f"[U+{ord(c):04X}]" if hidden(c) else c for c in text)


def hidden(char: str) -> bool:
    """Whether a character acts on its neighbours or shows nothing: controls, bidi, zero width."""
    return unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") and char not in "\n\t"
