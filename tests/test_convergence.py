"""Convergence curves: against the plain computation of each prefix, and as files."""

import csv
import io
import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import ONE, TEN, write_run
from shell import Shell
from test_comparing import erring

from mmneedle.curves import curves
from mmneedle.outcomes import outcomes
from mmneedle.reports.settling import steps
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.statistics.convergence import convergence
from mmneedle.types import Response


@given(st.lists(st.booleans(), max_size=40))
def test_each_point_is_that_of_its_prefix(right):
    curve = convergence(np.array(right, bool))
    assert len(curve) == len(right)
    for n in range(1, len(right) + 1):
        p = sum(right[:n]) / n
        assert curve.mean[n - 1] == pytest.approx(p)
        error = math.sqrt(p * (1 - p) / n) if n > 1 else math.nan
        assert curve.stderr[n - 1] == pytest.approx(error, nan_ok=True)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6))
def test_shared_haystacks_are_the_units(right, size):
    clusters = np.arange(len(right)) // size
    curve = convergence(np.array(right, bool), clusters)
    for n in range(1, len(right) + 1):
        p, parts = sum(right[:n]) / n, [right[k : min(n, k + size)] for k in range(0, n, size)]
        assert curve.mean[n - 1] == pytest.approx(p)
        if len(parts) == 1:
            assert math.isnan(curve.stderr[n - 1])
            continue
        total = sum((sum(part) - p * len(part)) ** 2 for part in parts)
        error = math.sqrt(total * len(parts) / (len(parts) - 1)) / n
        assert curve.stderr[n - 1] == pytest.approx(error, abs=1e-7)


def test_standard_errors_are_how_much_means_scatter():
    rng = np.random.default_rng(2)
    rates = rng.beta(3, 1, (3000, 60, 1))
    right = rng.random((3000, 60, 4)) < rates
    errors = [
        convergence(one.ravel(), np.repeat(np.arange(60), 4)).stderr[-1] for one in right[:300]
    ]
    assert np.mean(errors) == pytest.approx(right.mean(axis=(1, 2)).std(), rel=0.05)


def test_a_run_in_sample_order(tmp_path):
    def some(setting, index, truth):
        return (
            Response("timeout", error="x")
            if index == 4
            else erring(1, 0.6)(*[setting, index, truth])
        )

    run = write_run(tmp_path / "run", some, {ONE: 40, TEN: 60})
    found = {one.setting: one for one in curves(outcomes(run))}
    for row in score_run(run, ("robust",)):
        if row.split == "positive":
            one = found[row.setting]
            assert one.curve.mean[-1] == pytest.approx(row.exact)
            assert len(one.curve) == row.answered
            assert (one.unanswered, 4 in one.number) == (1, False)
            assert (np.diff(one.number) > 0).all()
    shared = Run(msgspec.structs.replace(run.header, questions=4), run.folders)
    assert math.isnan(curves(outcomes(shared))[0].curve.stderr[1])


def test_steps():
    assert steps(0) == []
    assert steps(1) == [1]
    assert steps(130) == [1, 2, 5, 10, 20, 50, 100, 130]
    assert steps(200) == [1, 2, 5, 10, 20, 50, 100, 200]


def test_as_a_command(mmneedle: Shell, tmp_path):
    write_run(tmp_path / "a", erring(1, 0.7), {TEN: 40}, model="x/a")
    write_run(tmp_path / "b", lambda *_: None, {TEN: 40}, model="x/b")
    text = mmneedle.ok("convergence", "a", "b", "--metric", "existence")
    assert "x/a (a), (10,2):" in text
    assert "  no answers" in text
    assert "40 samples without an answer left out" in text
    points = json.loads(mmneedle.ok("convergence", "a", "--json"))
    table = list(csv.DictReader(io.StringIO(mmneedle.ok("convergence", "a", "--csv"))))
    assert len(points) == len(table) == 20
    assert [float(row["mean"]) for row in table] == [point["mean"] for point in points]
    assert points[0]["stderr"] is None and table[0]["stderr"] == ""
    assert [point["sample"] for point in points] == list(range(0, 40, 2))
    assert "give one" in mmneedle.refused("convergence", "a", "--csv", "--json")
