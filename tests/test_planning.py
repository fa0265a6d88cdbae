"""Sample sizes: against enumeration, formulas and simulation, and as a user sees them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import ONE, TEN, write_run
from rounds import examples
from scipy.stats import binom, norm
from shell import Shell
from test_comparing import erring

from mmneedle.statistics import wilson
from mmneedle.statistics.comparison import mcnemar_exact
from mmneedle.statistics.planning import (
    design_effect,
    discordant_share,
    interval_samples,
    mcnemar_power,
    paired_samples,
    sequential_samples,
    unpaired_samples,
)
from mmneedle.statistics.sequential import anytime_interval


def paired_formula(difference, discordant, power, alpha):
    """The normal approximation (Connor, Biometrics 43, 1987, 207-211, for McNemar's test)."""
    one, other = -norm.ppf(alpha / 2), norm.ppf(power)
    spread = one * discordant**0.5 + other * (discordant - difference**2) ** 0.5
    return (spread / difference) ** 2


@examples(20)
@given(
    st.integers(1, 60), st.floats(0.01, 0.5), st.floats(0, 0.5), st.sampled_from([0.05, 0.01, 0.2])
)
def test_power_is_that_of_every_table(n, only_a, only_b, alpha):
    wanted, share = 0.0, only_a + only_b
    for pairs in range(n + 1):
        for wins in range(pairs + 1):
            if mcnemar_exact(wins, pairs - wins) <= alpha:
                wanted += binom.pmf(pairs, n, share) * binom.pmf(wins, pairs, only_a / share)
    assert mcnemar_power(n, only_a, only_b, alpha) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("gap", "share", "power", "alpha"),
    [(0.03, 0.4, 0.8, 0.05), (0.05, 0.1, 0.9, 0.05), (0.1, 0.3, 0.8, 0.001)],
)
def test_so_many_samples_find_the_difference_so_often(gap, share, power, alpha):
    n = paired_samples(gap, share, power, alpha)
    assert n == pytest.approx(paired_formula(gap, share, power, alpha), rel=0.12)
    rng, rounds = np.random.default_rng(4), 10_000
    only_a, only_b = (share + gap) / 2, (share - gap) / 2
    tables = rng.multinomial(n, [only_a, only_b, 1 - share], rounds)[:, :2]
    seen, index = np.unique(tables, axis=0, return_inverse=True)
    found = np.array([mcnemar_exact(a, b) <= alpha for a, b in seen.tolist()])
    assert found[index.ravel()].mean() == pytest.approx(power, abs=0.015)


@examples(8)
@given(st.floats(0.02, 0.2), st.floats(0, 0.5), st.floats(0.5, 0.95))
def test_smaller_differences_and_more_power_take_more(gap, more, power):
    share = min(1.0, gap + more)
    n = paired_samples(gap, share, power)
    assert paired_samples(gap * 0.9, share, power) >= n
    assert paired_samples(gap, share, min(0.99, power + 0.03)) >= n
    assert paired_samples(gap, share, power, 0.01) >= n
    assert mcnemar_power(n, (share + gap) / 2, (share - gap) / 2) >= power


def test_models_on_different_samples():
    n = unpaired_samples(0.55, 0.5)
    rng, rounds = np.random.default_rng(6), 20_000
    a, b = rng.binomial(n, 0.55, rounds) / n, rng.binomial(n, 0.5, rounds) / n
    mean = (a + b) / 2
    z = (a - b) / np.sqrt(2 * mean * (1 - mean) / n)
    assert (2 * norm.sf(abs(z)) <= 0.05).mean() == pytest.approx(0.8, abs=0.01)
    # On the same samples, models that err independently need about as many.
    paired = paired_samples(0.05, discordant_share(0.55, 0.5))
    assert paired == pytest.approx(n, rel=0.05)


@given(st.floats(0.01, 0.2), st.floats(0, 1))
def test_intervals_just_become_narrow_enough(halfwidth, accuracy):
    n = interval_samples(halfwidth, accuracy)
    low, high = wilson(n * accuracy, n)
    assert (high - low) / 2 <= halfwidth
    low, high = wilson((n - 1) * accuracy, n - 1)
    assert (high - low) / 2 > halfwidth


def test_stopping_early_costs_more_than_a_number_fixed_beforehand():
    for accuracy in (0.5, 0.9):
        n = sequential_samples(0.03, accuracy)
        assert 2 < n / interval_samples(0.03, accuracy) < 3.2
        low, high = anytime_interval([(1.0, n * accuracy), (0.0, n * (1 - accuracy))], 0.03)
        assert (high - low) / 2 == pytest.approx(0.03, rel=0.01)


def test_design_effect_is_that_of_alike_answers():
    rng, size, alike = np.random.default_rng(8), 4, 0.3
    rates = rng.beta(0.7 * (1 / alike - 1), 0.3 * (1 / alike - 1), 200_000)
    means = rng.binomial(size, rates) / size
    assert means.var() / (0.7 * 0.3 / size) == pytest.approx(design_effect(size, alike), rel=0.02)
    assert design_effect(1, 0.9) == design_effect(8, 0) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar_power(10, 0.6, 0.6),
        lambda: paired_samples(0.2, 0.1),
        lambda: paired_samples(0, 0.1),
        lambda: unpaired_samples(0.5, 0.5),
        lambda: paired_samples(1e-6, 1.0),
    ],
)
def test_what_cannot_be(call):
    with pytest.raises(ValueError, match=r".+"):
        call()


def test_no_samples_or_no_discordant_ones_have_no_power():
    assert mcnemar_power(0, 0.3, 0.1) == 0
    assert mcnemar_power(100, 0, 0) == 0
    assert mcnemar_power(5, 1.0, 0.0) == 0  # 5 of 5 is p = 0.0625
    assert mcnemar_power(6, 1.0, 0.0) == 1


# --------------------------------------------------------------------------- as a command


def test_the_plan_in_words(mmneedle: Shell):
    out = mmneedle.ok("plan", "--detect", 3)
    n = paired_samples(0.03, discordant_share(0.515, 0.485))
    assert f"{n:,} positives (build --samples {2 * n})" in out
    assert "if they disagree half as often" in out
    assert "stopped by --until-halfwidth" in out
    found = json.loads(mmneedle.ok("plan", "--detect", 3, "--discordant", 0.1, "--json"))
    (case,) = found["paired"]
    assert case["samples"] == paired_samples(0.03, 0.1)
    assert case["build"] == 2 * case["samples"]
    both = json.loads(mmneedle.ok("plan", "--metric", "existence", "--json"))
    assert both["paired"][0]["build"] - both["paired"][0]["samples"] in (0, 1)


def test_many_models_settings_and_shared_haystacks(mmneedle: Shell):
    words = ("plan", "--detect", 5, "--discordant", 0.2)
    alone = json.loads(mmneedle.ok(*words, "--json"))["paired"][0]["samples"]
    many = json.loads(mmneedle.ok(*words, "--models", 10, "--json"))
    assert (many["comparisons"], many["alpha_each"]) == (45, pytest.approx(0.05 / 45))
    assert many["paired"][0]["samples"] > 2 * alone
    board = json.loads(mmneedle.ok(*words, "--settings", 7, "--json"))["paired"][0]["samples"]
    assert board == pytest.approx(alone / 7, abs=1)
    shared = ("--questions-per-haystack", 8, "--alike", 0.5)
    found = json.loads(mmneedle.ok(*words, *shared, "--json"))
    assert found["design_effect"] == 2.5
    assert found["paired"][0]["samples"] == pytest.approx(2.5 * alone, abs=1)
    assert found["paired"][0]["build"] % 8 == 0
    assert "45 comparisons" in mmneedle.ok(*words, "--models", 10)


def test_two_runs_as_a_pilot(mmneedle: Shell, tmp_path):
    for seed, rate in enumerate((0.9, 0.8)):
        write_run(tmp_path / str(seed), erring(seed, rate), {ONE: 200, TEN: 200}, model=f"x/{seed}")
    pair = json.loads(mmneedle.ok("compare", "0", "1", "--json"))["pairs"][0]["overall"]
    found = json.loads(mmneedle.ok("plan", "0", "1", "--detect", 4, "--json"))
    share = (pair["only_a"] + pair["only_b"]) / pair["n"]
    assert found["pilot"]["discordant"] == share
    first, upper = found["paired"]
    assert first["samples"] == pytest.approx(paired_samples(0.04, share) / 2, abs=1)
    assert upper["samples"] > first["samples"]
    assert found["question"]["settings"] == 2
    assert "pilot: 200 samples" in mmneedle.ok("plan", "0", "1", "--detect", 4)
    assert "a pilot is two runs" in mmneedle.refused("plan", "0")
    refusal = mmneedle.refused("plan", "0", "1", "--accuracy", 0.4)
    assert "leave out --accuracy" in refusal
    write_run(tmp_path / "none", lambda *_: None, {TEN: 20})
    assert "no answers in common" in mmneedle.refused("plan", "0", "none")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--detect", 0), "--detect takes points"),
        (("--detect", 60), "--detect takes points"),
        (("--power", 1), "--power and --alpha are shares"),
        (("--accuracy", 0.99), "name another --accuracy"),
        (("--accuracy", 50), "--accuracy takes a share between 0 and 1, such as 0.5, not 50"),
        (("--discordant", 0.01), "--discordant"),
        (("--models", 1), "--models takes 2"),
        (("--questions-per-haystack", 8), "needs --alike"),
        (("--alike", 2, "--questions-per-haystack", 8), "--alike takes"),
        (("--detect", 0.01), "more than"),
    ],
)
def test_plans_that_cannot_be(mmneedle: Shell, words, reason):
    assert reason in mmneedle.refused("plan", *words)
