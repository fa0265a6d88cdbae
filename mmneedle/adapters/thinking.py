"""What an open model thought, apart from what it answered."""

from typing import NamedTuple

TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"))
"""Around thoughts: Qwen, DeepSeek and most others; Mistral; Kimi."""


class Thinking(NamedTuple):
    """A model's words in two parts."""

    reasoning: str | None
    """What it thought, without the tags; None where it did not think."""
    answer: str
    complete: bool
    """False where it was still thinking when it ended; then there is no answer."""
    start: int
    """Where in its words the answer begins."""


def split(text: str, prompt: str = "") -> Thinking:
    """Take thoughts and answer apart.

    Args:
        text: the model's words.
        prompt: the rendered prompt: some chat templates open the thoughts themselves, so that the
            text holds the closing tag alone.
    """
    for opening, closing in TAGS:
        opened = prompt.rstrip().endswith(opening)
        if opened or text.lstrip().startswith(opening) or closing in text:
            thought, closed, answer = text.partition(closing)
            reasoning = thought.strip().removeprefix(opening).strip()
            answer = answer.lstrip()
            return Thinking(reasoning or None, answer, bool(closed), len(text) - len(answer))
    return Thinking(None, text, True, 0)
