"""How reports write numbers, names and somebody else's words."""

import re
import unicodedata

from mmneedle.types import Setting


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent without the sign; never "100.0" or "0.0" for what only comes near."""
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f}"
    if value < 1 and float(text) == 100:
        return f">{100 - 10**-digits:.{digits}f}"
    if value > 0 and float(text) == 0:
        return f"<{10**-digits:.{digits}f}"
    return text


def signed(value: float | None) -> str:
    """Youden's J as text: two digits, a true minus sign."""
    return "–" if value is None else f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def label(setting: Setting) -> str:
    """A setting as the paper writes it: (10,8)."""
    return f"({setting.images},{setting.grid})"


def typed(setting: Setting) -> str:
    """A setting without its needles, as options take it: 10x8, 1x3x5."""
    return f"{setting.images}x{setting.grid}"


def short(fingerprint: str) -> str:
    """A fingerprint as tables show it: its first 12 characters."""
    return fingerprint[:12]


def many(number: int, noun: str) -> str:
    """A number with its noun: "1 run", "1,200 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_SPECIAL = re.compile(r"([\\`*\[\]|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def escape(text: str) -> str:
    """Somebody's words as markdown text on one line: nothing in them is markup or a column."""
    text = visible(" ".join(text.split()))
    text = _SPECIAL.sub(r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def visible(text: str) -> str:
    """Text with control and direction characters spelled out, such as [U+202E]."""
    return "".join(f"[U+{ord(c):04X}]" if hidden(c) else c for c in text)


def hidden(char: str) -> bool:
    """Whether a character acts on its neighbours or shows nothing: controls, bidi, zero width."""
    return unicodedata.category(char) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") and char not in "\n\t"
