"""Confidence sequences: by hand, by every possible sequence, and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples

from mmneedle.statistics import wilson
from mmneedle.statistics.sequential import ConfidenceSequence, LowerBound, anytime_interval

LEVEL = 0.95


def test_the_game_is_fair_when_the_mean_is_what_it_is():
    """Over all sequences of eight values, weighted by their odds, the capital stays 1."""
    values, odds = np.array([0.0, 0.25, 1.0]), np.array([0.3, 0.4, 0.3])
    mean = float(values @ odds)
    total = np.zeros_like(LowerBound(0.05, 0.05).theta)
    for sequence in itertools.product(range(3), repeat=8):
        bound = LowerBound(0.05, 0.05)
        for k in sequence:
            bound.add(float(values[k]))
        capital = np.exp(bound.gains - bound.n * np.log1p(mean * bound.theta))
        total += capital * odds[list(sequence)].prod()
    assert total == pytest.approx(np.ones_like(total))


def test_the_bound_is_where_the_mixture_reaches_its_goal():
    bound, alpha = LowerBound(0.05, 0.025), 0.025
    data = [1.0, 0.0, 1.0, 1.0, 0.5, 1.0] * 40
    for value in data:
        bound.add(value)
    low = bound.value()
    capital = [
        math.prod((1 + x * theta) / (1 + low * theta) for x in data) for theta in bound.theta
    ]
    assert np.mean(capital) == pytest.approx(1 / alpha, rel=1e-6)


units = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=60)
widths = st.floats(0.005, 0.3)


@given(units, widths)
def test_the_interval_holds_the_mean_and_turns_round_with_the_values(values, halfwidth):
    there, back = ConfidenceSequence(halfwidth), ConfidenceSequence(halfwidth)
    for value in values:
        there.add(value)
        back.add(1 - value)
    low, high = there.interval()
    assert 0 <= low <= high <= 1
    if values:
        assert low <= np.mean(values) <= high
    assert back.interval() == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(units, widths)
def test_order_does_not_matter(values, halfwidth):
    one = ConfidenceSequence(halfwidth)
    for value in values:
        one.add(value)
    counted = [(value, float(values.count(value))) for value in sorted(set(values))]
    assert anytime_interval(counted, halfwidth) == pytest.approx(one.interval(), abs=1e-9)


@given(units.filter(len), widths, st.integers(1, 20))
def test_what_nobody_answered_makes_it_wider_whatever_it_was(values, halfwidth, missing):
    sequences = [ConfidenceSequence(halfwidth) for _ in range(3)]
    for value in values:
        for one in sequences:
            one.add(value)
    for _ in range(missing):
        for one, unit in zip(sequences, ((0.0, 1.0), (0.0, 0.0), (1.0, 1.0)), strict=True):
            one.add(*unit)
    (low, high), all_wrong, all_right = (one.interval() for one in sequences)
    assert low <= min(all_wrong[0], all_right[0]) + 1e-9
    assert high >= max(all_wrong[1], all_right[1]) - 1e-9


@given(units, widths, st.floats(0, 1), st.floats(0, 1))
def test_what_excludes_a_mean_excludes_all_smaller_ones(values, halfwidth, one, other):
    bound = LowerBound(halfwidth, 0.025)
    for value in values:
        bound.add(value)
    low, high = sorted((one, other))
    assert bound.excludes(low) or not bound.excludes(high)


def test_it_is_wider_than_an_interval_of_a_fixed_number_but_not_by_far():
    for right in (0.5, 0.8, 0.95):
        n = 2000
        low, high = anytime_interval([(1.0, right * n), (0.0, n - right * n)], 0.03)
        fixed = wilson(right * n, n)
        assert 1.3 < (high - low) / (fixed[1] - fixed[0]) < 1.9


def test_haystacks_that_are_little_alike_tell_more():
    spread = anytime_interval([(0.75, 50), (1.0, 50)], 0.05)
    whole = anytime_interval([(0.0, 12.5), (1.0, 87.5)], 0.05)
    assert (spread[1] - spread[0]) < 0.6 * (whole[1] - whole[0])


def _ever_wrong(values, mean, halfwidth):
    """Of many paths of units, shape (paths, n): which ever excluded their true mean."""
    wrong = np.zeros(len(values), bool)
    steps = np.arange(1, values.shape[1] + 1)
    for side, true in ((values, mean), (1 - values, 1 - mean)):
        bound = LowerBound(halfwidth, (1 - LEVEL) / 2)
        capital = np.zeros_like(values)
        for theta in bound.theta:
            logs = np.cumsum(np.log1p(side * theta), axis=1) - steps * np.log1p(true * theta)
            capital += np.exp(np.minimum(logs, 100))
        wrong |= (capital >= math.exp(bound.goal)).any(axis=1)
    return wrong


@pytest.mark.parametrize("mean", [0.03, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("halfwidth", [0.02, 0.1])
def test_over_a_whole_path_it_errs_in_at_most_one_of_twenty(mean, halfwidth):
    rng = np.random.default_rng(21)
    values = (rng.random((1000, 2000)) < mean).astype(float)
    assert _ever_wrong(values, mean, halfwidth).mean() <= 0.05


def test_looking_at_the_usual_interval_errs_far_more_often():
    """What the rule would do if it looked at Wilson's interval: the simulation can tell."""
    rng = np.random.default_rng(21)
    hits = np.cumsum(rng.random((1000, 2000)) < 0.9, axis=1)[:, 19:]
    n = np.arange(20, 2001)
    z, p = 1.959964, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert (abs(centre - 0.9) > half).any(axis=1).mean() > 0.2


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_shared_haystacks_over_a_whole_path(alike):
    rng = np.random.default_rng(22)
    single = rng.random((2000, 500, 4)) < 0.8
    whole = rng.random((2000, 500, 1)) < 0.8
    values = np.where(rng.random((2000, 500, 1)) < alike, whole, single).mean(axis=2)
    assert _ever_wrong(values, 0.8, 0.05).mean() <= 0.05


def test_balanced_positions_do_not_break_it():
    """Needles visit all 40 cells in turn; the model finds them in the first images only."""
    rng = np.random.default_rng(23)
    rates = np.repeat([0.95, 0.8, 0.5, 0.2], 10)
    cells = np.stack([np.concatenate([rng.permutation(40) for _ in range(40)]) for _ in range(400)])
    values = (rng.random(cells.shape) < rates[cells]).astype(float)
    assert _ever_wrong(values, rates.mean(), 0.05).mean() <= 0.05


@examples(20)
@given(st.floats(0.02, 0.98), st.integers(0, 2**32 - 1))
def test_the_simulation_is_of_what_the_code_does(mean, seed):
    values = (np.random.default_rng(seed).random((1, 60)) < mean).astype(float)
    sequence, ever = ConfidenceSequence(0.1), False
    for value in values[0]:
        sequence.add(value)
        low, high = sequence.interval()
        ever = ever or not low <= mean <= high
    assert ever == _ever_wrong(values, mean, 0.1)[0]


@pytest.mark.parametrize("halfwidth", [0, 0.5, -1, 2])
def test_impossible_half_widths(halfwidth):
    with pytest.raises(ValueError, match="half-width"):
        ConfidenceSequence(halfwidth)


def test_impossible_values_and_levels():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        LowerBound(0.1, 0.05).add(1.5)
    with pytest.raises(ValueError, match="level"):
        ConfidenceSequence(0.1, 1.0)
    assert ConfidenceSequence(0.1).interval() == (0.0, 1.0)
