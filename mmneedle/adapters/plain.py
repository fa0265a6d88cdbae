"""Models that do not chat: they go on with a text, so their answer is begun for them."""

from mmneedle.types import Request

END = "\n"
"""Where such a model's answer ends: it would go on with questions of its own."""


def begun(request: Request) -> str:
    """The prompt, and after it how the answer begins, where the task says."""
    begin = getattr(request.sample, "begin", "")
    return f"{request.prompt}\n\n{begin}".rstrip() if begin else request.prompt
