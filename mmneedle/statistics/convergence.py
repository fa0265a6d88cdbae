"""The mean against the number of samples: when is a figure settled?

The paper's section 4.4 (arXiv:2406.11230v2) draws it with the standard error around it.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray


class Curve(msgspec.Struct, frozen=True):
    """A mean over the first 1, 2, ..., n samples."""

    mean: NDArray[np.float64]
    """Shape (n,), as is the next."""
    stderr: NDArray[np.float64]
    """Standard error of the mean; NaN where it is not known: of one sample, of one haystack."""

    def __len__(self) -> int:
        return len(self.mean)


def convergence(right: NDArray[np.bool_], clusters: NDArray[np.int64] | None = None) -> Curve:
    """Mean and standard error over each prefix of samples.

    Independent samples: sqrt(p (1 - p) / n). Samples that share haystacks: that of the ratio
    estimator over haystacks (Cochran, Sampling Techniques, 1977, section 9A.1), the last one of
    which may be there in part. Where all samples so far are right, or none is, it is 0, which is
    no certainty: Wilson's interval is what to read then.

    Args:
        right: which samples were right, in their order; shape (n,).
        clusters: equal numbers, side by side, for samples of one haystack; shape (n,).
    """
    n = np.arange(1, len(right) + 1)
    hits = np.cumsum(right)
    mean = hits / n
    if clusters is None:
        spread = np.sqrt(mean * (1 - mean) / n)
        units = n
    else:
        spread, units = _over_clusters(right, clusters, mean)
    return Curve(mean, np.where(units > 1, spread, np.nan))


def _over_clusters(
    right: NDArray[np.bool_], clusters: NDArray[np.int64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Standard errors, and haystacks begun, at each prefix; shape (n,) each."""
    n = np.arange(1, len(right) + 1)
    begins = np.concatenate([[True], clusters[1:] != clusters[:-1]])[: len(right)]
    which = np.cumsum(begins) - 1
    # Of each prefix's last haystack: hits and samples so far.
    first = n[begins][which] - 1
    hits = np.cumsum(right) - np.concatenate([[0], np.cumsum(right)])[first]
    size = n - first
    squares = [_summed(one * other, begins) for one, other in ((hits, hits), (hits, size))]
    sizes = _summed(size * size, begins)
    total = squares[0] - 2 * mean * squares[1] + mean**2 * sizes
    units = which + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(total, 0) / n**2 * units / (units - 1)
    return np.sqrt(variance), units


def _summed(values: NDArray[np.int64], begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each haystack's value so far, summed over haystacks, at each prefix.

    `values` grow within a haystack: a haystack's own is its last one.
    """
    before = np.concatenate([[0], values[:-1]])[: len(values)]
    return np.cumsum(np.where(begins, values, values - before))
