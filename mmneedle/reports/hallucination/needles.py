"""A run's answers needle by needle: what every family of findings counts."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.outcomes import KINDS, NOWHERE, Outcomes
from mmneedle.reports.hallucination.inference import Bools, Floats, Ints
from mmneedle.scoring import Scorer
from mmneedle.types import ErrorKind, Setting


class Needles(msgspec.Struct, frozen=True):
    """All needles of one setting whose sample has an answer that the scorer counts; m of them."""

    setting: Setting
    sample: Ints
    """Row of the needle's sample in `Outcomes`; shape (m,), as are the next."""
    cluster: Ints
    """Equal for needles that may be alike; unlike in different settings."""
    positive: Bools
    """Whether it is in the haystack."""
    named: Bools
    """Whether a cell was named for it."""
    right: Bools
    """Whether existence was told rightly."""
    exact: Bools
    """Whether the cell is right; never for a negative."""
    hard: Bools
    ambiguity: Floats
    kind: NDArray[np.int8]
    """0 or the number of its kind of error in KINDS, from 1."""
    truth: NDArray[np.int64]
    """Image, row, column from 1; (m, 3)."""
    said: NDArray[np.int64]
    """The same of the cell named; NOWHERE thrice: none."""
    clustered: bool
    """Whether clusters hold several needles."""

    @property
    def groups(self) -> Ints | None:
        """`cluster`, or None where needles are independent."""
        return self.cluster if self.clustered else None

    @property
    def absent(self) -> Bools:
        """Whether it was said not to be there."""
        return np.asarray(self.has("missed") | (~self.positive & (self.kind == 0)))

    @property
    def inside(self) -> Bools:
        """Whether the cell named is one of the haystack's."""
        of = self.setting
        most = (of.images, of.rows, of.cols)
        return np.asarray(((self.said >= 1) & (self.said <= most)).all(axis=1))

    def has(self, kind: ErrorKind) -> Bools:
        """Which needles' answers have this kind of error."""
        return np.asarray(self.kind == KINDS.index(kind) + 1)

    def chosen(self, which: Bools) -> "Needles":
        """Only those."""
        columns = {
            name: getattr(self, name)[which]
            for name in self.__struct_fields__
            if name not in ("setting", "clustered")
        }
        return Needles(setting=self.setting, clustered=self.clustered, **columns)

    def __len__(self) -> int:
        return len(self.sample)


def needles(table: Outcomes, scorer: Scorer, number: int = 0) -> Needles:
    """A setting's answered needles; `number` tells settings of one run apart.

    With one needle, existence is the scorer's own verdict (`paper` takes unreadable text for
    "there"); with several, a needle's existence is right where a cell was named for a positive,
    and where a negative was said to be absent.
    """
    marks = table.marks[scorer]
    k = table.setting.needles
    rows = np.flatnonzero(marks.answered)
    sample = np.repeat(rows, k)
    said = marks.said[rows].reshape(-1, 3).astype(np.int64)
    truth = table.truth[rows].reshape(-1, 3).astype(np.int64)
    kind = marks.kind[rows].reshape(-1)
    positive = table.positive[sample]
    named = said[:, 0] != NOWHERE
    if k == 1:
        right = marks.existence[rows] == 1
        exact = positive & (marks.exact[rows] == 1)
    else:
        right = np.where(positive, named, kind == 0)
        exact = positive & (kind == 0)
    return Needles(
        setting=table.setting,
        sample=sample,
        cluster=table.haystack[sample] + (number << 40),
        positive=positive,
        named=named,
        right=right,
        exact=exact,
        hard=table.hard[sample],
        ambiguity=table.ambiguity[sample].astype(np.float64),
        kind=kind,
        truth=truth,
        said=said,
        clustered=table.shared or k > 1,
    )


def all_needles(tables: Mapping[Setting, Outcomes], scorer: Scorer) -> list[Needles]:
    """Of each setting that has an answer."""
    found = [needles(table, scorer, number) for number, table in enumerate(tables.values())]
    return [of for of in found if len(of)]


def joined(parts: Sequence[Needles], column: str) -> NDArray[np.generic]:
    """One column over all settings."""
    return np.concatenate([getattr(of, column) for of in parts])


def clusters_of(parts: Sequence[Needles]) -> Ints | None:
    """The clusters over all settings; None where all needles are independent."""
    if not any(of.clustered for of in parts):
        return None
    return np.concatenate([of.cluster for of in parts])


def strata_of(parts: Sequence[Needles]) -> Ints:
    """The setting's number of each needle."""
    return np.concatenate([np.full(len(of), number) for number, of in enumerate(parts)])
