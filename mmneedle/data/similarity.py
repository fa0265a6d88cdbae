"""How alike two captions are: cosine of TF-IDF vectors over words and word pairs.

Word pairs make "a red circle above a blue square" differ from "a blue circle above a red
square". Weights are integers, so that an order by similarity is the same on every machine.
The measure is the textbook one (Manning, Raghavan and Schütze, Introduction to Information
Retrieval, chapter 6), with the smoothed inverse document frequency ln((1 + n) / (1 + df)) + 1.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_SCALE = 1 << 12  # a unit vector's length in integer weights


def normalise(caption: str) -> str:
    """The caption's words in lower case: captions that agree here are the same caption."""
    return " ".join(_WORD.findall(caption.casefold()))


class CaptionIndex:
    """Every caption of every photo as a sparse vector.

    Args:
        captions: for each photo (by position, 0 … P-1) its captions, at least one each.
    """

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        ids: dict[str, int] = {}
        columns: list[int] = []
        counts: list[int] = []
        row_ends: list[int] = []
        photo_ends: list[int] = []
        for photo in captions:
            for caption in photo:
                bag = _bag(caption)
                columns.extend(ids.setdefault(feature, len(ids)) for feature in bag)
                counts.extend(bag.values())
                row_ends.append(len(columns))
            photo_ends.append(len(row_ends))
        # CSR layout: caption r holds entries _row[r]:_row[r+1]; photo p holds captions
        # _photo[p]:_photo[p+1].
        self._row = np.array([0, *row_ends], np.int64)
        self._photo = np.array([0, *photo_ends], np.int64)
        self._column = np.array(columns, np.int32)
        self._weight = self._weigh(np.array(counts, np.float64), len(ids))
        self._dense = np.zeros(len(ids), np.int32)  # scratch for one query

    def _weigh(self, counts: NDArray[np.float64], features: int) -> NDArray[np.int32]:
        captions = len(self._row) - 1
        frequency = np.bincount(self._column, minlength=features)
        table = {int(df): math.log((1 + captions) / (1 + df)) + 1 for df in np.unique(frequency)}
        idf = np.array([table[int(df)] for df in frequency])
        weight = counts * idf[self._column]
        row_of = np.repeat(np.arange(captions), np.diff(self._row))
        length = np.sqrt(np.bincount(row_of, weight**2, captions))
        scaled: NDArray[np.int32] = np.rint(_SCALE * weight / length[row_of]).astype(np.int32)
        return scaled

    def to_photos(
        self, query: tuple[int, int], photos: NDArray[np.integer], *, only: int | None = None
    ) -> NDArray[np.float64]:
        """Similarity of one caption to each of `photos`: the best over that photo's captions.

        Args:
            query: (photo, caption) positions of the caption asked about.
            photos: positions of photos, shape [n].
            only: compare with this caption of each photo alone (-1 is the last listed).

        Returns:
            Shape [n], 0..1.
        """
        row = self._photo[query[0]] + query[1]
        entries = slice(self._row[row], self._row[row + 1])
        self._dense[self._column[entries]] = self._weight[entries]
        if only is None:
            rows, per_photo = _ranges(self._photo[photos], self._photo[photos + 1])
        else:
            base = self._photo[photos + 1] if only < 0 else self._photo[photos]
            rows, per_photo = base + only, np.ones(len(photos), np.int64)
        cells, per_row = _ranges(self._row[rows], self._row[rows + 1])
        products = self._dense[self._column[cells]].astype(np.int64) * self._weight[cells]
        self._dense[self._column[entries]] = 0
        dots = _sum_runs(products, per_row)
        starts = np.concatenate(([0], np.cumsum(per_photo)[:-1]))
        best = np.maximum.reduceat(dots, starts)
        return np.minimum(1.0, best / _SCALE**2)


def _bag(caption: str) -> dict[str, int]:
    words = normalise(caption).split() or [""]
    bag: dict[str, int] = {}
    for feature in [*words, *(f"{a} {b}" for a, b in pairwise(words))]:
        bag[feature] = bag.get(feature, 0) + 1
    return bag


def _ranges(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All integers of the ranges [start, stop) one after the other, and each range's length."""
    lengths = stops - starts
    offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    return offsets + np.arange(len(offsets)), lengths


def _sum_runs(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over consecutive runs of the given lengths."""
    ends = np.cumsum(lengths)
    total = np.concatenate(([0], np.cumsum(values)))
    sums: NDArray[np.int64] = total[ends] - total[ends - lengths]
    return sums
