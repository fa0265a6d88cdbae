"""Two models on the same samples: against other libraries, by hand, and by simulation."""

import itertools
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rounds import examples
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from mmneedle.statistics import wilson
from mmneedle.statistics.comparison import (
    Counts,
    Stratum,
    clustered_difference,
    difference,
    holm,
    mcnemar_exact,
    paired_interval,
    pooled,
    sign_flip,
)
from mmneedle.statistics.ranking import Rank, ranks

ROUNDS = 10_000


# --------------------------------------------------------------------------- tests


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_agrees_with_statsmodels(b, c):
    theirs = mcnemar([[7, b], [c, 5]], exact=True).pvalue
    assert mcnemar_exact(b, c) == pytest.approx(theirs, rel=1e-8, abs=1e-280)


def test_mcnemar_has_no_negative_counts():
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


ratios = st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 3 / 7, 1 / 15, 1 / 40, 1 / 1000]) | st.floats(
    1e-3, 1
)


@examples(300)
@given(st.lists(st.tuples(st.integers(-4, 4), ratios), min_size=1, max_size=12))
def test_sign_flips_are_counted_not_sampled(units):
    """Against every one of the 2^n ways to choose signs, whatever the weights."""
    totals = np.array([total for total, _ in units], float)
    weights = np.array([weight for _, weight in units])
    wanted = _every_way(totals * weights)
    assert sign_flip(totals, weights) == pytest.approx(wanted, rel=1e-9)


def _every_way(values, place=None):
    """P(|sum of +-values| >= place), the sum itself if none is given, over all signs."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(values))))
    seen = abs(values.sum()) if place is None else place
    return np.mean(np.abs(signs @ values) >= seen - 1e-9)


@examples(40)
@example(869473)  # its own sum comes once in 2^14: noise must not lose a part of it
@given(st.integers(0, 2**32 - 1))
def test_many_different_sums_are_tested_a_hundredth_of_a_deviation_to_the_safe_side(seed):
    """14 units of 14 weights: too many sums to be listed, few enough to be listed here."""
    values = np.random.default_rng(seed).uniform(0.001, 1, 14)
    values *= np.random.default_rng(seed + 1).choice([-1, 1], 14)
    found = sign_flip(np.sign(values), np.abs(values))
    nearer = abs(values.sum()) - 0.01 * np.sqrt((values**2).sum())
    assert _every_way(values) * (1 - 1e-6) <= found <= _every_way(values, nearer) + 1e-6


@examples(150)
@given(
    st.integers(1000, 3000),
    st.floats(1, 1000),
    st.floats(0.05, 0.4),
    st.floats(-1, 1),
    st.floats(-4, 4),
)
def test_settings_of_any_sizes_are_tested_by_the_difference_that_is_shown(n, times, share, lean, z):
    """Opposed settings of sizes 1:1 to 1:1000: p is the weighted difference's, not another's."""
    large = round(n * times)
    moved = np.array([round(n * share), round(large * share)])
    weights = np.array([1 / n, 1 / large])
    spread = np.sqrt((moved * weights**2).sum())
    first = round(moved[0] * lean)
    second = round((z * spread - first * weights[0]) / weights[1])  # the other way, up to z
    ahead = (moved + np.clip([first, second], -moved, moved)) // 2
    totals = np.repeat([1.0, -1.0, 1.0, -1.0], np.ravel([ahead, moved - ahead], "F"))
    found = sign_flip(totals, np.repeat(weights, moved))
    seen = abs((2 * ahead - moved) @ weights)
    assert _two_settings(moved, weights, seen + 1e-12) * (1 - 1e-6) - 1e-12 <= found
    assert found <= _two_settings(moved, weights, seen - 0.01 * spread) + 1e-6
    # Near the normal law's, as far as sums of so many units are.
    coarse = 2 * weights.max() / spread
    assert found <= 2 * norm.sf(seen / spread - coarse) + 1e-3
    assert found >= 2 * norm.sf(seen / spread + coarse) - 1e-3


def _two_settings(moved, weights, seen):
    """P(|weighted sum of signs| >= seen): all ways of the first, the second's by its binomial."""
    ways = np.arange(moved[0] + 1)
    rest = weights[0] * (2 * ways - moved[0])
    least = np.ceil(((seen - rest) / weights[1] + moved[1]) / 2 - 1e-9)
    most = np.floor(((-seen - rest) / weights[1] + moved[1]) / 2 + 1e-9)
    tails = binom.sf(least - 1, moved[1], 0.5) + binom.cdf(most, moved[1], 0.5)
    return float(min(1.0, (binom.pmf(ways, moved[0], 0.5) * tails).sum()))


@pytest.mark.parametrize("times", [1, 3, 15, 40.3, 1000])
def test_sign_flips_err_in_one_of_twenty_whatever_the_settings_sizes(times):
    rng, rounds = np.random.default_rng(21), 800
    weights = np.array([1.0, 1 / times])
    moved = np.array([120, round(120 * times)])
    ahead = rng.binomial(moved, 0.5, (rounds, 2))
    errors = 0
    for row in ahead.tolist():
        totals = np.repeat([1.0, -1.0, 1.0, -1.0], np.ravel([row, moved - row], "F"))
        errors += sign_flip(totals, np.repeat(weights, moved)) < 0.05
    assert 0.03 <= errors / rounds <= 0.06


def test_one_sample_a_unit_is_mcnemars_test():
    totals = np.repeat([1.0, -1.0, 0.0], [19, 6, 40])
    assert sign_flip(totals) == pytest.approx(mcnemar_exact(19, 6), rel=1e-12)


def test_many_units_of_many_weights_agree_with_the_normal_law():
    rng = np.random.default_rng(3)
    totals = rng.integers(-6, 9, 3000).astype(float)
    weights = rng.uniform(0.5, 1, 3000)
    values = totals * weights
    totals[:2800] *= np.sign(rng.uniform(-1, 1, 2800))  # a modest difference
    values = totals * weights
    z = abs(values.sum()) / np.sqrt((values**2).sum())
    assert 0.001 < 2 * norm.sf(z) < 0.9
    assert sign_flip(totals, weights) == pytest.approx(2 * norm.sf(z), rel=0.1)
    large = np.repeat(totals, 10)  # beyond the lattice
    z = abs(large.sum()) / np.sqrt((large**2).sum())
    assert 2 * norm.sf(z) <= sign_flip(large) <= 2 * norm.sf(z - 0.02)


def test_an_extreme_difference_has_the_smallest_p():
    assert 0 < sign_flip(np.repeat([1.0, 2.0, 3.0], 100)) <= 1e-12


@examples(30)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_agrees_with_statsmodels(ps):
    with patch("gc.collect"):  # which takes longer than all the rest, each time
        wanted = multipletests(ps, method="holm")[1] if ps else []
    assert holm(ps) == pytest.approx(list(wanted), abs=1e-12)


def test_holm_takes_probabilities_only():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        holm([0.5, 1.5])


# --------------------------------------------------------------------------- intervals


def _score(b, c, n, gap):
    """Tango's statistic, its constrained likelihood maximised by brute force."""

    def minus_likelihood(share):  # of "only b"; "only a" has share + gap
        cells = (b, share + gap), (c, share), (n - b - c, 1 - 2 * share - gap)
        return -sum(k * np.log(max(p, 1e-300)) for k, p in cells if k)

    low, high = max(0.0, -gap), (1 - gap) / 2
    best = minimize_scalar(
        minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    ).x
    return (b - c - n * gap) / np.sqrt(n * (2 * best + gap - gap**2))


@examples(60)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 200))
def test_the_paired_interval_is_where_the_score_test_stops_to_reject(b, c, rest):
    n = b + c + rest
    low, high = paired_interval(b, c, n)
    for end, z in ((low, 1.959964), (high, -1.959964)):
        assert _score(b, c, n, end) == pytest.approx(z, abs=2e-3)


def test_a_published_paired_interval():
    """Airway hyper-responsiveness: Fagerland, Lydersen and Laake, Stat Med 33 (2014), table V."""
    low, high = paired_interval(1, 7, 21)
    assert (low, high) == pytest.approx((-0.517, -0.026), abs=6e-4)


counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))


@given(counts)
def test_swapping_the_models_turns_everything_round(pair):
    b, c, rest = pair
    low, high = paired_interval(b, c, b + c + rest)
    assert paired_interval(c, b, b + c + rest) == pytest.approx((-high, -low), abs=1e-9)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)
    if b + c + rest:
        assert -1 <= low <= (b - c) / (b + c + rest) <= high <= 1


@given(counts.filter(lambda pair: pair[2] > 0))
def test_one_more_win_never_moves_the_interval_down(pair):
    b, c, rest = pair
    before = paired_interval(b, c, b + c + rest)
    after = paired_interval(b + 1, c, b + c + rest)
    assert after[0] >= before[0] - 1e-9
    assert after[1] >= before[1] - 1e-9


def test_no_difference_seen_is_not_certainty():
    low, high = paired_interval(0, 0, 100)
    assert (-low, high) == pytest.approx((wilson(0, 100)[1],) * 2)
    assert paired_interval(0, 0, 0) == (-1.0, 1.0)


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (3, 3, 5)])
def test_impossible_counts(b, c, n):
    with pytest.raises(ValueError, match="discordant"):
        paired_interval(b, c, n)


@pytest.mark.parametrize(
    ("n", "only_a", "only_b"),
    [(100, 0.15, 0.10), (500, 0.12, 0.04), (1000, 0.03, 0.03), (500, 0.3, 0.2)],
)
def test_paired_intervals_cover_the_true_difference(n, only_a, only_b):
    rng = np.random.default_rng(11)
    rounds = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], ROUNDS)
    ends = np.array([paired_interval(b, c, n) for b, c, _ in rounds.tolist()])
    truth = only_a - only_b
    covered = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert 0.94 <= covered <= 0.96


def test_mcnemars_test_errs_in_at_most_one_of_twenty():
    rng = np.random.default_rng(12)
    for n, share in ((60, 0.2), (400, 0.3)):
        b, c, _ = rng.multinomial(n, [share / 2, share / 2, 1 - share], ROUNDS).T
        seen, index = np.unique(np.stack([b, c]), axis=1, return_inverse=True)
        ps = np.array([mcnemar_exact(int(i), int(j)) for i, j in seen.T])[index.ravel()]
        assert 0.01 < np.mean(ps < 0.05) <= 0.05 + 0.005


# --------------------------------------------------------------------------- clusters


def _alike(rng, clusters, questions, share_a, share_b, alike, rounds):
    """Pairs of answers by haystack; alike: the chance that a haystack's answers are all one.

    Shape (rounds, clusters, questions): 1 only a, -1 only b, 0 no difference.
    """
    kinds, odds = [1, -1, 0], [share_a, share_b, 1 - share_a - share_b]
    single = rng.choice(kinds, (rounds, clusters, questions), p=odds)
    whole = rng.choice(kinds, (rounds, clusters, 1), p=odds)
    return np.where(rng.random((rounds, clusters, 1)) < alike, whole, single)


def _clustered(gaps):
    """The interval and p-value of one round of `_alike`."""
    b, c = int((gaps == 1).sum()), int((gaps == -1).sum())
    sizes = np.full(len(gaps), gaps.shape[1])
    found = clustered_difference(Counts(0, b, c, gaps.size - b - c), gaps.sum(axis=1), sizes)
    return found, sign_flip(gaps.sum(axis=1).astype(float)), paired_interval(b, c, gaps.size)


@pytest.mark.parametrize(
    ("clusters", "alike", "share_a", "share_b", "most"),
    [
        (40, 0.5, 0.2, 0.1, 0.97),
        (125, 0.5, 0.2, 0.1, 0.96),
        (125, 1.0, 0.15, 0.1, 0.96),
        (250, 0.3, 0.1, 0.1, 0.96),
    ],
)
def test_intervals_of_shared_haystacks_cover_the_true_difference(
    clusters, alike, share_a, share_b, most
):
    rng = np.random.default_rng(5)
    covered = plain = errors = 0
    for gaps in _alike(rng, clusters, 4, share_a, share_b, alike, ROUNDS):
        (low, high), p, (naive_low, naive_high) = _clustered(gaps)
        covered += low <= share_a - share_b <= high
        plain += naive_low <= share_a - share_b <= naive_high
        errors += p < 0.05
    assert 0.94 <= covered / ROUNDS <= most
    assert plain / ROUNDS < 0.88  # what ignoring the haystacks would have claimed
    if share_a == share_b:
        assert 0.03 < errors / ROUNDS <= 0.055


def test_haystacks_that_agree_with_themselves_count_as_one_sample_each():
    zeros, sizes = np.zeros(30, np.int64), np.full(30, 8)
    assert clustered_difference(Counts(240, 0, 0, 0), zeros, sizes) == paired_interval(0, 0, 30)
    assert clustered_difference(Counts(), np.zeros(0, np.int64), sizes[:0]) == (-1.0, 1.0)
    one = clustered_difference(Counts(0, 8, 0, 0), np.array([8]), np.array([8]))
    assert one == paired_interval(1, 0, 1)


# --------------------------------------------------------------------------- settings together


def _stratum(rng, n, share_a, share_b, clusters=None):
    gaps = rng.choice([1, -1, 0], n, p=[share_a, share_b, 1 - share_a - share_b])
    both = rng.random(n) < 0.5
    return Stratum(np.where(gaps, gaps == 1, both), np.where(gaps, gaps == -1, both), clusters)


def test_the_mean_over_settings_is_covered():
    rng, rounds = np.random.default_rng(9), 1000
    shares = ((0.2, 0.1, 300), (0.05, 0.05, 200), (0.02, 0.04, 100))
    truth = np.mean([a - b for a, b, _ in shares])
    covered = 0
    for _ in range(rounds):
        found = pooled([_stratum(rng, n, a, b) for a, b, n in shares])
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.94 <= covered / rounds <= 0.965


def test_settings_of_equal_size_are_one_table():
    rng = np.random.default_rng(1)
    parts = [_stratum(rng, 200, 0.2, 0.1), _stratum(rng, 200, 0.1, 0.1)]
    found = pooled(parts)
    singles = [difference(part) for part in parts]
    assert found.difference == pytest.approx(np.mean([one.difference for one in singles]))
    assert found.counts == singles[0].counts + singles[1].counts
    assert found.p == pytest.approx(mcnemar_exact(found.counts.only_a, found.counts.only_b))
    assert pooled([parts[0], Stratum(parts[0].a[:0], parts[0].b[:0])]) == singles[0]


def _sided(n, only_a, only_b):
    a, b = np.zeros(n, bool), np.zeros(n, bool)
    a[:only_a] = b[only_a : only_a + only_b] = True
    return Stratum(a, b)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((1000, 200, 0), (40_000, 0, 7600)),
        ((1000, 200, 0), (15_000, 0, 3000)),
        ((2000, 200, 0), (60_000, 0, 4800)),
    ],
)
def test_settings_that_differ_much_in_size_and_sign(small, large):
    """The test's statistic is the difference that is shown: 0 is never told apart from 0."""
    found = pooled([_sided(*small), _sided(*large)])
    spread = np.sqrt(small[1] / small[0] ** 2 + large[2] / large[0] ** 2) / 2
    assert found.p == pytest.approx(2 * norm.sf(abs(found.difference) / spread), rel=0.05)


@examples(300)
@given(
    st.lists(
        st.tuples(st.integers(100, 20_000), st.floats(0, 0.4), st.floats(0, 0.4)),
        min_size=1,
        max_size=5,
    )
)
def test_a_verdict_never_contradicts_its_interval(parts):
    """On any board: where the test tells two apart, the interval does not lie around zero."""
    found = pooled([_sided(n, int(n * a), int(n * b)) for n, a, b in parts])
    low, high = found.interval
    if found.p < 0.05:
        assert found.difference != 0
        # Settings without a discordant sample widen the interval, and tell the test nothing:
        # zero may lie inside, but far from the middle.
        inner = low if found.difference > 0 else -high
        assert inner > -abs(found.difference)


strata = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans()), min_size=1, max_size=4
)


@given(strata)
def test_swapping_the_models_turns_the_whole_round(parts):
    made = []
    for n, seed, shared in parts:
        rng = np.random.default_rng(seed)
        made.append(_stratum(rng, n, 0.3, 0.2, np.arange(n) // 4 if shared else None))
    one = pooled(made)
    other = pooled([Stratum(part.b, part.a, part.clusters) for part in made])
    assert other.difference == pytest.approx(-one.difference, abs=1e-12)
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]), abs=1e-9)
    assert other.p == pytest.approx(one.p, rel=1e-9)
    assert (other.counts.only_a, other.counts.only_b) == (one.counts.only_b, one.counts.only_a)


def test_answers_to_different_samples_are_refused():
    with pytest.raises(ValueError, match="same samples"):
        difference(Stratum(np.ones(3, bool), np.ones(2, bool)))


def test_nothing_is_known_without_samples():
    none = Stratum(np.ones(0, bool), np.ones(0, bool))
    for found in (difference(none), pooled([none]), pooled([])):
        assert (found.difference, found.interval, found.p) == (None, (-1.0, 1.0), 1.0)


# --------------------------------------------------------------------------- ranks


def test_ranks_with_ties():
    # 0 beats 2 and 3, 1 beats 3; nothing else is known.
    found = ranks(4, {(0, 2): True, (0, 3): True, (1, 3): True, (2, 0): False})
    assert found == [Rank(1, 2), Rank(1, 3), Rank(2, 4), Rank(3, 4)]
    assert [str(rank) for rank in ranks(1, {})] == ["1"]
    assert str(found[1]) == "1–3"


@given(st.permutations(range(5)))
def test_a_clear_order_is_found(order):
    better = {(a, b): order[a] < order[b] for a in range(5) for b in range(5) if a != b}
    assert ranks(5, better) == [Rank(place + 1, place + 1) for place in order]


def test_true_ranks_lie_within_their_ranges():
    """Four models, the middle two equally good: ranks 1, 2 to 3 twice, and 4."""
    rng, rounds, rates = np.random.default_rng(14), 2000, np.array([0.8, 0.7, 0.7, 0.66])
    true = [Rank(1, 1), Rank(2, 3), Rank(2, 3), Rank(4, 4)]
    held = told = 0
    pairs = list(itertools.combinations(range(4), 2))
    for _ in range(rounds):
        right = rng.random((4, 300)) < rates[:, None]
        gaps = [int((right[i] & ~right[j]).sum()) for i, j in pairs]
        backs = [int((right[j] & ~right[i]).sum()) for i, j in pairs]
        ps = holm([mcnemar_exact(b, c) for b, c in zip(gaps, backs, strict=True)])
        better = {}
        for (i, j), b, c, p in zip(pairs, gaps, backs, ps, strict=True):
            better[i, j], better[j, i] = p < 0.05 and b > c, p < 0.05 and c > b
        found = ranks(4, better)
        held += all(
            a.best <= b.best and b.worst <= a.worst for a, b in zip(found, true, strict=True)
        )
        told += found[0] == true[0]
    assert held / rounds >= 0.95
    assert told / rounds > 0.3  # and they are not just everything
