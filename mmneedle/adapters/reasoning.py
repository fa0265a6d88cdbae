"""How hard a model shall think before it answers, and the room that it needs for that.

Thinking counts as output: with the paper's 300 tokens a model that thinks is cut off before it has
said anything. So where `max_tokens` is left alone, a model that thinks gets room on top.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mmneedle.errors import UserError

ANSWER_TOKENS = 300
"""For the answer itself, as in the paper."""
EFFORTS = ("low", "medium", "high")
"""Words that every provider has."""
MORE_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Words that some have."""

_ROOM = {
    "minimal": 2048,
    "low": 4096,
    "medium": 12_288,
    "high": 24_576,
    "xhigh": 49_152,
    "max": 65_536,
}
_PATIENCE = 600.0  # seconds for one attempt of a model that thinks
# Think without being asked, as of November 2026 (the providers' model pages). A name too many
# costs nothing: the room is a limit, not what is used.
_THINKS = re.compile(
    r"(^|/)(o[1-9]|gpt-[5-9]|gemini-(2\.5|[3-9])|claude-[a-z]+-[5-9]\b"
    r"|claude-(fable|mythos))",
    re.I,
)

Reasoning = str | int
"""A word, or a number of tokens."""


def reasoning(words: Sequence[str] = EFFORTS, *, tokens: bool) -> Callable[[Any], Reasoning]:
    """A converter to one of the words, "off" included, or, where known, a number of tokens."""
    expected = f"not one of {', '.join(words)}, off" + (" or a number of tokens" if tokens else "")

    def convert(value: Any) -> Reasoning:
        text = str(value).strip().lower()
        if text in (*words, "off"):
            return text
        if tokens and text.isascii() and text.isdigit():
            return int(text) or "off"
        raise ValueError(expected)

    return convert


def thinks(name: str) -> bool:
    """Whether a model thinks without being asked."""
    return bool(_THINKS.search(name))


def budget(level: Reasoning) -> int:
    """Tokens of thinking that a level stands for."""
    return level if isinstance(level, int) else _ROOM.get(level, 0)


def room(name: str, level: Reasoning | None, max_tokens: int | None) -> int:
    """Tokens that a reply may have, thinking included.

    Args:
        name: the model; some think without being asked.
        level: what the user wants of its thinking, if anything.
        max_tokens: what the user says; it counts as it is.
    """
    if max_tokens is not None:
        return max_tokens
    if level is None:
        level = "medium" if thinks(name) else "off"
    return ANSWER_TOKENS + budget(level)


def patience(max_tokens: int) -> float:
    """Seconds for one attempt, where the user says nothing: thousands of tokens take minutes."""
    return _PATIENCE if max_tokens > _ROOM["minimal"] else 120.0


def must_fit(model: str, level: int, max_tokens: int) -> None:
    """Raises UserError where thinking would leave nothing for the answer."""
    if level >= max_tokens:
        raise UserError(
            f"{model}: {level} tokens of reasoning do not fit into {max_tokens} (--max-tokens"
            " counts thinking and answer together)"
        )
