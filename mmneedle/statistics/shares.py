"""Proportions with their intervals, of arrays of trials."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmneedle.statistics.intervals import clustered, wilson


class Share(msgspec.Struct, frozen=True):
    """A proportion with its 95 % interval; no trials: nothing is known."""

    hits: int
    n: int
    interval: tuple[float, float]

    @property
    def value(self) -> float | None:
        """hits / n; None where n is 0."""
        return self.hits / self.n if self.n else None

    def json(self) -> dict[str, Any]:
        """For programs; `share` is null where n is 0."""
        return {"hits": self.hits, "n": self.n, "share": self.value, "interval": [*self.interval]}


def share(hits: ArrayLike, clusters: NDArray[np.int64] | None = None) -> Share:
    """The share of true `hits` (n,), by Wilson or, where trials come in clusters, `clustered`."""
    hit = np.asarray(hits, np.bool_)
    count, n = int(hit.sum()), len(hit)
    if clusters is None or not n:
        return Share(count, n, wilson(count, n))
    _, at = np.unique(clusters, return_inverse=True)
    right = np.bincount(at, hit).astype(np.int64)
    return Share(count, n, clustered(right.tolist(), np.bincount(at).tolist()))


def by_cluster(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of `values` (n,) by cluster, in the clusters' order."""
    _, at = np.unique(clusters, return_inverse=True)
    return np.asarray(np.bincount(at, values), np.float64)
