"""Ranks with ties: models that the data cannot tell apart share a rank."""

from collections.abc import Mapping

import msgspec


class Rank(msgspec.Struct, frozen=True):
    """The places that a model may hold."""

    best: int
    """One more than the models that are significantly better."""
    worst: int
    """The models that are not significantly worse, itself included."""

    def __str__(self) -> str:
        """Give "2", or "2–4" where the data cannot tell."""
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


def ranks(count: int, better: Mapping[tuple[int, int], bool]) -> list[Rank]:
    """Give each of `count` models its range of ranks.

    With p-values corrected after Holm, all true ranks lie within their ranges in at least 95 of a
    hundred leaderboards (Al Mohamad, Goeman and van Zwet, Biometrics 78, 2022, 238-247).

    Args:
        count: models, numbered from 0.
        better: (i, j) -> whether i is significantly better than j; pairs that it lacks cannot be
            told apart.
    """
    wins = [[better.get((i, j), False) for j in range(count)] for i in range(count)]
    return [
        Rank(1 + sum(row[i] for row in wins), count - sum(wins[i][j] for j in range(count)))
        for i in range(count)
    ]
