"""The longest text that a model still masters, by binary search over its length."""

import math
from collections.abc import Callable, Iterator

from mmneedle.errors import UserError
from mmneedle.texts.effective import Effective, Point, found_in, sentence

STEP = 64
"""Tokens that lengths between the ends are multiples of."""


def search(
    ask: Callable[[int], Point], low: int, high: int, threshold: float, within: float
) -> Iterator[Point]:
    """Ask at both ends, then between the longest length that passes and the next that fails.

    That takes it that whoever fails at a length fails beyond it, which nobody can know: where the
    longer end passes, a length in the middle is asked all the same, and what was asked is all in
    the result.

    Args:
        ask: a length -> the score there.
        low: the shortest length.
        high: the longest one.
        threshold: the score that passes, 0..1.
        within: how near the two lengths get, as a share of the shorter one.

    Yields:
        What was asked, as it comes.
    """
    shortest = ask(low)
    yield shortest
    if not shortest.passes(threshold) or high <= low:
        return
    longest = ask(high)
    yield longest
    passing, failing = low, high
    if longest.passes(threshold):
        middle = _between(low, high)
        if middle is None:
            return
        check = ask(middle)
        yield check
        if check.passes(threshold):
            return
        failing = middle
    while failing > passing * (1 + within):
        middle = _between(passing, failing)
        if middle is None:
            return
        point = ask(middle)
        yield point
        if point.passes(threshold):
            passing = middle
        else:
            failing = middle


def _between(low: int, high: int) -> int | None:
    """The geometric mean, as a multiple of STEP; None where there is none between the two."""
    middle = round(math.sqrt(low * high) / STEP) * STEP
    if low < middle < high:
        return middle
    above = (low // STEP + 1) * STEP
    return above if above < high else None


def check_span(low: int, high: int, threshold: float, within: float) -> None:
    """See that a search makes sense. Raises UserError."""
    if low > high:
        raise UserError(f"--from {low:,} is longer than --to {high:,}")
    if not 0 < threshold <= 1:
        raise UserError("--threshold takes per cent, more than 0 and at most 100")
    if not 0 < within <= 1:
        raise UserError("--within takes per cent, more than 0 and at most 100")


def together(points: list[Point], threshold: float, model: str) -> Effective:
    """What was asked so far, by length."""
    series = sorted(points, key=lambda point: point.length)
    return found_in(
        series, threshold, model=model, task="passkey", needles=1, unit="tokens", base=None
    )


def told(found: Effective) -> str:
    """What came out, and what the search takes for granted."""
    lines = [sentence(found)]
    failing = [point.length for point in found.points if not point.passes(found.threshold)]
    last = found.points[-1].length
    if failing and failing[0] < last and not found.regained:
        lines.append(
            f"a binary search: between {failing[0]:,} and {last:,} tokens only "
            f"{', '.join(f'{length:,}' for length in failing)} were asked, and none passes"
        )
    return "; ".join(lines)
