"""Statistics of answers: what a figure can claim, and what the data cannot tell.

intervals.py     of one proportion: independent answers (Wilson), answers in clusters
shares.py        the same of arrays of trials
comparison.py    two models on the same samples: paired difference, McNemar, clusters; Holm; ranks
planning.py      how many samples a comparison or an interval needs
sequential.py    confidence sequences: intervals that hold however often one looks
convergence.py   the mean against the number of samples

docs/statistics.md has formulas, sources, and when each of them does not hold. Everything is
arithmetic on counts and arrays; opening runs is `mmneedle.comparing`'s work.
"""

from mmneedle.statistics.intervals import clustered, student, wilson

__all__ = ["clustered", "student", "wilson"]
