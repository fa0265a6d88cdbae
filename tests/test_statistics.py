import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from mmneedle.statistics import clustered, student, wilson


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


@pytest.mark.parametrize(("n", "rate"), [(400, 0.3), (500, 0.9), (1000, 0.5)])
def test_wilson_covers_the_true_rate(n, rate):
    hits = np.random.default_rng(2).binomial(n, rate, 10_000)
    ends = np.array([wilson(k, n) for k in range(n + 1)])[hits]
    covered = np.mean((ends[:, 0] <= rate) & (rate <= ends[:, 1]))
    assert 0.94 <= covered <= 0.96


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (0, -1, 0.95), (1, 2, 0), (1, 2, 1)]
)
def test_impossible_counts_and_levels(hits, n, level):
    with pytest.raises(ValueError, match="must lie"):
        wilson(hits, n, level)


# --------------------------------------------------------------------------- clusters


@pytest.mark.parametrize("rate", [0.6, 0.9])
@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_intervals_of_clusters_cover_the_true_rate(rate, alike):
    """Forty haystacks with four questions each; alike: the correlation within a haystack."""
    rng, rounds = np.random.default_rng(7), 300
    covered = dict.fromkeys((clustered, wilson), 0)
    for _ in range(rounds):
        rates = np.full(40, rate)
        if alike:
            both = 1 / alike - 1
            rates = rng.beta(rate * both, (1 - rate) * both, 40)
        hits = rng.binomial(4, rates).tolist()
        for way, (low, high) in (
            (clustered, clustered(hits, [4] * 40)),
            (wilson, wilson(sum(hits), 160)),
        ):
            covered[way] += low <= rate <= high
    assert 0.92 < covered[clustered] / rounds < 0.99
    assert (covered[wilson] / rounds < 0.85) is (alike > 0)


clusters = st.lists(
    st.integers(0, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=30
)


@given(clusters)
def test_the_interval_of_clusters_is_seeded_and_holds_the_proportion(pairs):
    hits, trials = [h for h, _ in pairs], [n for _, n in pairs]
    low, high = clustered(hits, trials)
    assert clustered(hits, trials) == (low, high)
    assert 0 <= low <= high <= 1
    total = sum(trials)
    if total:
        assert low <= sum(hits) / total <= high
        alone = wilson(sum(hits), total)
        assert high - low >= (alone[1] - alone[0]) * (1 - 1e-9)  # never as if it were more trials


def test_clusters_that_are_all_alike_count_as_one_trial_each():
    assert clustered([4] * 12, [4] * 12) == wilson(12, 12)
    assert clustered([0] * 12, [4] * 12) == wilson(0, 12)
    assert clustered([4], [4]) == wilson(1, 1)
    assert clustered([], []) == clustered([0, 0], [0, 0]) == (0.0, 1.0)
    low, high = clustered([4, 0] * 50, [4] * 100)
    exact = wilson(50, 100)
    assert (low, high) == pytest.approx(exact, abs=0.01)


def test_known_bootstrap_variance():
    """Two clusters, one all right and one all wrong: three rates with known odds."""
    low, high = clustered([3, 0], [3, 3])
    # Rates 0, 1/2 and 1 with odds 1 : 2 : 1 have variance 1/8; doubled for two clusters.
    equal = 0.25 / (1 / 4) * (1.96 / 12.706) ** 2
    assert (low, high) == pytest.approx(wilson(equal / 2, equal), abs=0.01)


@pytest.mark.parametrize(("hits", "trials"), [([2], [1]), ([-1], [3]), ([1], [1, 2])])
def test_impossible_clusters(hits, trials):
    with pytest.raises(ValueError, match=r"must lie in|shorter|longer"):
        clustered(hits, trials)


@given(st.floats(0.5, 0.999), st.integers(1, 500))
def test_students_t_agrees_with_scipy(level, freedom):
    z = norm.ppf((1 + level) / 2)
    close = 1e-9 if freedom < 3 else 0.02 if freedom == 3 else 0.01
    assert student(z, freedom) == pytest.approx(t.ppf((1 + level) / 2, freedom), rel=close)
