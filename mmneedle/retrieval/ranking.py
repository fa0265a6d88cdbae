"""What retrievers share: a score for each unit, the best K of them, ties by place."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
"""Of each unit, higher is better; shape (units,)."""


class Ranker(Protocol):
    """What decides a retriever's choice, for a run's identity."""

    engine: str
    """The library that does it, with its version."""
    model: str | None
    """The name of its model, where it has one."""
    weights: str | None
    """The SHA-256 of that."""


class TextRanker(Ranker, Protocol):
    """Ranks texts by a query. Threads may share one."""

    def scores(self, query: str, units: Sequence[str]) -> Scores:
        """How well each text fits."""
        ...


def best(scores: Sequence[Scores], k: int) -> tuple[int, ...]:
    """The K best units, in the order in which they stand; all where there are fewer.

    With several queries each chooses in turn the best one that is not chosen yet, so that none
    of them goes without. Of units with equal scores the first one is better.

    Args:
        scores: one row a query, each of shape (units,).
        k: at least 1.
    """
    orders = [np.argsort(-row, kind="stable").tolist() for row in scores]
    chosen: dict[int, None] = {}
    for turn in zip(*orders, strict=True):
        for unit in turn:
            if len(chosen) < k:
                chosen[unit] = None
    return tuple(sorted(chosen))


def cosines(query: NDArray[np.float32], units: NDArray[np.float32]) -> Scores:
    """Of unit vectors, shapes (dimensions,) and (units, dimensions), to four digits.

    What differs beyond them is the machine's arithmetic: such units are ranked by place.
    """
    found: Scores = np.round(units @ query, 4)
    return found
