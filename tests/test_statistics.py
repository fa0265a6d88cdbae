import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mmneedle.statistics import wilson


@given(
    st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0.01, 0.9999),
)
def test_wilson_agrees_with_scipy(counts, level):
    hits, n = counts
    theirs = binomtest(hits, n).proportion_ci(level, method="wilson")
    assert wilson(hits, n, level) == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)


def test_nothing_seen_is_nothing_known():
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_interval_holds_the_proportion_and_lies_in_0_to_1(a, b):
    hits, n = min(a, b), max(a, b)
    low, high = wilson(hits, n)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= hits / n <= high


@pytest.mark.parametrize("n", [1, 3, 49, 1000, 10**12])
def test_ends_are_exact(n):
    assert wilson(0, n)[0] == 0.0
    assert wilson(n, n)[1] == 1.0
    low, high = wilson(0, n)
    assert wilson(n, n) == pytest.approx((1 - high, 1 - low))


def test_a_known_interval():
    # E. B. Wilson's formula by hand for 81 of 263 (Newcombe 1998, table I, method 3).
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (0, -1, 0.95), (1, 2, 0), (1, 2, 1)]
)
def test_impossible_counts_and_levels(hits, n, level):
    with pytest.raises(ValueError, match="must lie"):
        wilson(hits, n, level)
