"""The tests behind the findings, against scipy, exact enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples
from scipy import stats

from mmneedle.reports.hallucination.detection import _drawn, mcc_of, precision_of
from mmneedle.reports.hallucination.inference import (
    association,
    auroc,
    chance_tail,
    detectable,
    excess,
    newcombe,
    standardised,
    uneven,
)
from mmneedle.reports.hallucination.suspects import _gain
from mmneedle.statistics import wilson
from mmneedle.statistics.shares import share

chances = st.lists(st.floats(0, 1), min_size=1, max_size=9)


@given(chances)
def test_the_tail_of_unequal_chances_is_that_of_all_outcomes(ps):
    exact = np.zeros(len(ps) + 1)
    for hits in itertools.product([0, 1], repeat=len(ps)):
        exact[sum(hits)] += math.prod(p if h else 1 - p for p, h in zip(ps, hits, strict=True))
    for k in range(len(ps) + 1):
        assert chance_tail(k, np.array(ps)) == pytest.approx(exact[k:].sum(), abs=1e-7)


@given(st.integers(1, 3_000), st.floats(0.001, 0.999), st.floats(0, 1))
def test_the_tail_of_equal_chances_is_the_binomials(n, p, part):
    k = int(n * part)
    wanted = stats.binom.sf(k - 1, n, round(p, 9))
    assert chance_tail(k, np.full(n, p)) == pytest.approx(wanted, rel=1e-7, abs=1e-290)


@pytest.mark.parametrize(("n", "size"), [(6, 3), (9, 4), (4, 6)])
def test_uneven_is_the_exact_multinomial_test(n, size):
    """Against the G statistic's distribution over all outcomes."""

    def g(counts):
        return 2 * sum(c * math.log(c * size / n) for c in counts if c)

    seen = np.minimum(np.arange(n) // 2, size - 1)
    target = g(np.bincount(seen, minlength=size))
    exact = 0.0
    for counts in itertools.product(range(n + 1), repeat=size):
        if sum(counts) == n and g(counts) >= target - 1e-9:
            ways = math.factorial(n) / math.prod(map(math.factorial, counts))
            exact += ways / size**n
    found = uneven([(seen, size)], [None], 20_000)
    assert found == pytest.approx(exact, abs=0.015)
    alone = uneven([(seen, size)], [np.arange(n)], 20_000)  # clusters of one: the same
    assert alone == pytest.approx(exact, abs=0.015)


def test_uneven_agrees_with_chi_square_where_there_is_much():
    rng = np.random.default_rng(3)
    for tilt in (0.0, 0.1, 0.2):
        weights = 1 + tilt * np.arange(5)
        at = rng.choice(5, 400, p=weights / weights.sum())
        wanted = stats.power_divergence(np.bincount(at, minlength=5), lambda_=0).pvalue
        assert uneven([(at, 5)], [None]) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_association_is_fishers(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.random(40) < 0.5, rng.random(40) < 0.3
    table = [[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]]
    wanted = stats.fisher_exact(table, alternative="greater").pvalue
    assert association(x, y, greater=True) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_association_of_many_is_the_permutation_test(seed):
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, 3, 300)
    x = rng.integers(0, 5, 300).astype(float)
    y = rng.random(300) < 0.3 + 0.04 * x + 0.2 * (strata == 1)
    normal = association(x, y, strata)
    drawn = []
    for _ in range(2_000):
        mixed = y.copy()
        for k in range(3):
            mixed[strata == k] = rng.permutation(y[strata == k])
        drawn.append(x @ mixed)
    centre = np.mean(drawn)
    p = np.mean(abs(np.array(drawn) - centre) >= abs(x @ y - centre))
    assert normal == pytest.approx(p, abs=0.03)


def test_nothing_varies_nothing_is_told():
    assert association([1, 1, 1], [0, 1, 0]) is None
    assert association([0, 1, 2], [1, 1, 1]) is None
    assert association([0, 1], [0, 1], strata=[0, 1]) is None
    assert association([], []) is None


def test_alike_answers_in_clusters_do_not_pass_for_many():
    """Six haystacks whose eight answers are all the same: six trials, not 48."""
    clusters = np.repeat(np.arange(6), 8)
    hits = clusters < 4
    assert excess(hits, np.full(48, 1 / 3)) < 1e-4
    assert excess(hits, np.full(48, 1 / 3), clusters) > 0.05
    value = np.repeat([1, 1, 1, 0, 0, 0], 8)
    assert association(value, hits) < 0.001
    assert association(value, hits, None, clusters) > 0.05


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_excess_holds_its_level_in_clusters(alike):
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(25), 4)
    beyond = 0
    for _ in range(400):
        common = np.repeat(rng.random(25) < 0.25, 4)
        hits = np.where(rng.random(100) < alike, common, rng.random(100) < 0.25)
        beyond += excess(hits, np.full(100, 0.25), clusters) < 0.05
    assert beyond <= 33  # P(more than 33 of 400 | 5 %) = 0.2 %


# --------------------------------------------------------------------------- AUROC


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: len({there for _, there in pairs}) == 2
    )
)
def test_auroc_is_mann_and_whitneys(pairs):
    scores = np.array([score for score, _ in pairs], float)
    there = np.array([is_there for _, is_there in pairs])
    found = auroc(scores, there)
    u = stats.mannwhitneyu(scores[there], scores[~there]).statistic
    assert found.value == pytest.approx(u / (there.sum() * (~there).sum()))
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1


def test_auroc_without_both_is_none():
    assert auroc(np.arange(3.0), np.ones(3, bool)) is None


@pytest.mark.parametrize("alike", [0.0, 0.7])
def test_aurocs_interval_covers_the_truth(alike):
    """Thirty haystacks of four; alike: how much of a score is its haystack's."""
    rng = np.random.default_rng(11)
    true = stats.norm.cdf(1 / math.sqrt(2))
    covered = 0
    clusters = np.repeat(np.arange(30), 4)
    there = np.arange(120) % 2 == 0
    for _ in range(400):
        noise = math.sqrt(alike) * rng.normal(size=30)[clusters]
        scores = there + noise + math.sqrt(1 - alike) * rng.normal(size=120)
        low, high = auroc(scores, there, clusters).interval
        covered += low <= true <= high
    assert 0.92 < covered / 400 < 0.99


def test_a_perfect_auroc_is_not_certain():
    scores, there = np.arange(40.0), np.arange(40) >= 20
    low, high = auroc(scores, there).interval
    assert 0.75 < low < 0.95 and high == 1
    assert auroc(-scores, there).interval == pytest.approx((0, 1 - low))
    fewer = auroc(scores, there, np.arange(40) // 4)
    assert fewer.interval[0] < low


# --------------------------------------------------------------------------- derived rates


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_mcc_and_precision_are_those_of_the_table(n, a, b):
    """With equally many of both, as the formulas over the four counts have it."""
    tp, fp = a % (n + 1), b % (n + 1)
    fn, tn = n - tp, n - fp
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    mcc = float(mcc_of(np.array(tp / n), np.array(fp / n)))
    if below:
        assert mcc == pytest.approx((tp * tn - fp * fn) / math.sqrt(below))
    else:
        assert math.isnan(mcc)
    precision = float(precision_of(np.array(tp / n), np.array(fp / n)))
    assert math.isnan(precision) if tp + fp == 0 else precision == pytest.approx(tp / (tp + fp))


@pytest.mark.parametrize(("n", "p", "q"), [(25, 0.9, 0.6), (60, 0.97, 0.95), (60, 0.5, 0.5)])
def test_intervals_of_mcc_and_precision_cover_the_truth(n, p, q):
    """n of each; p: sensitivity, q: specificity."""
    rng = np.random.default_rng(2)
    true = [float(f(np.array(p), np.array(1 - q))) for f in (precision_of, mcc_of)]
    covered = np.zeros(2)
    for _ in range(200):
        both = [share(np.arange(n) < rng.binomial(n, rate)) for rate in (p, q)]
        covered += [low <= of <= high for (low, high), of in zip(_drawn(*both), true, strict=True)]
    assert (covered >= 180).all()  # P(fewer than 180 of 200 | 95 %) = 0.1 %


def test_perfect_answers_leave_precision_and_mcc_uncertain():
    every = share(np.ones(30, bool))
    for low, high in _drawn(every, every):
        assert 0.8 < low < 0.97 and high > 0.99


def test_one_stratum_is_newcombes():
    low, high = share([True] * 48 + [False] * 32), share([True] * 56 + [False] * 14)
    found = standardised([(low, high), (share([]), high)])
    assert found.interval == pytest.approx(
        newcombe((0.8, high.interval), (0.6, low.interval)), abs=1e-12
    )
    assert standardised([(share([]), high)]) is None


@pytest.mark.parametrize("gap", [0.0, 0.25])
def test_a_standardised_gaps_interval_covers_the_truth(gap):
    """Strata of other difficulty and other sizes on both sides."""
    rng = np.random.default_rng(1)
    strata = [(40, 12, 0.1), (15, 60, 0.7), (30, 30, 0.4)]
    within = 0
    for _ in range(1_000):
        parts = [(share(rng.random(n) < p), share(rng.random(m) < p + gap)) for n, m, p in strata]
        low, high = standardised(parts).interval
        within += low <= gap <= high
    assert within >= 930  # fewer: 0.4 % at 95 % coverage


def test_newcombe_is_the_published_example():
    # Newcombe 1998, table II (b), method 10: 56/70 - 48/80.
    ends = newcombe((56 / 70, wilson(56, 70)), (48 / 80, wilson(48, 80)))
    assert ends == pytest.approx((0.0524, 0.3339), abs=5e-5)


@examples(50)
@given(st.integers(0, 200), st.integers(1, 400))
def test_what_is_detectable_is_so_with_more(n, tests):
    if detectable(n, 0.1, tests):
        assert detectable(n + 20, 0.1, tests)
    assert not detectable(0, 0.1, tests)
    assert not detectable(n, 1.0, tests)


def test_gain_prefers_what_says_more():
    hits = np.ones(50, bool)
    assert _gain(hits, np.full(50, 0.01)) > _gain(hits, np.full(50, 0.1)) > 0
    assert _gain(np.zeros(50, bool), np.full(50, 0.1)) == 0


def test_a_share_of_nothing():
    assert share([]).value is None
    assert share([], np.zeros(0, np.int64)).interval == (0.0, 1.0)
