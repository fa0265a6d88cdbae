"""Runs against each other: the same samples, the same numbers, and refusals with their reason."""

import csv
import io

import msgspec
import numpy as np
import pytest
from report_runs import ONE, TEN, always_right, cell_at, ok, text, write_run

from mmneedle.comparing import MEASURES, board, compare, compare_runs, differences, why_not
from mmneedle.errors import UserError
from mmneedle.outcomes import outcomes
from mmneedle.reports import settling
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.reports.table import score_table
from mmneedle.reports.versus import Versus
from mmneedle.reports.words import hidden
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.statistics.comparison import mcnemar_exact
from mmneedle.types import Response


def erring(seed, rate):
    """A model that is right on a share of the samples, and else names the wrong thing."""

    def answer(setting, index, truth):
        rng = np.random.default_rng([seed, setting.cells, index])
        if rng.random() < rate:
            return ok(text(truth))
        wrong = cell_at(setting, (index // 2 + 1) % setting.cells)
        return ok(str(wrong) if truth[0] is None or rng.random() < 0.5 else "-1")

    return answer


def columns(folder, name, answer, settings=None, **more):
    run = write_run(folder / name, answer, settings or {ONE: 80, TEN: 80}, **more)
    return run, outcomes(run)


def test_counts_by_hand(tmp_path):
    def all_but(*lost):
        return lambda setting, index, truth: ok("a dog" if index in lost else text(truth))

    _, one = columns(tmp_path, "one", all_but(0, 2, 4, 1), {TEN: 10})
    _, other = columns(tmp_path, "other", all_but(4, 6, 3, 5), {TEN: 10})
    found = compare(one, other)
    counts = found.settings[0].result.counts
    assert (counts.both, counts.only_a, counts.only_b, counts.neither) == (1, 1, 2, 1)
    assert found.overall.result.difference == pytest.approx(-0.2)
    assert found.overall.result.p == mcnemar_exact(1, 2) == 1.0
    everything = compare(one, other, "existence").overall.result.counts
    assert (everything.n, everything.only_a, everything.only_b) == (10, 3, 3)
    negatives = compare(one, other, "specificity").overall.result.counts
    assert (negatives.n, negatives.only_a, negatives.only_b) == (5, 2, 1)


def test_rates_are_those_of_the_score_table(tmp_path):
    run, one = columns(tmp_path, "one", erring(1, 0.7))
    _, other = columns(tmp_path, "other", erring(2, 0.5))
    rows = {(row.setting, row.split): row for row in score_run(run, ("robust",))}
    for measure, split, metric in (
        ("exact", "positive", "exact"),
        ("index", "positive", "index"),
        ("sensitivity", "positive", "existence"),
        ("specificity", "negative", "existence"),
    ):
        found = compare(one, other, measure)
        for part in found.settings:
            row = rows[part.setting, split]
            assert part.result.rate_a == pytest.approx(getattr(row, metric))
        means = [getattr(rows[setting, split], metric) for setting in (ONE, TEN)]
        assert found.overall.result.rate_a == pytest.approx(np.mean(means))


def test_answers_that_one_lacks_are_left_out_and_said(tmp_path):
    def half(setting, index, truth):
        if index % 8 == 0:
            return Response("timeout", error="x")
        return None if index % 8 == 2 else ok(text(truth))

    _, one = columns(tmp_path, "one", half, {TEN: 80})
    _, other = columns(tmp_path, "other", erring(3, 0.6), {TEN: 80})
    found = compare(one, other).overall
    assert (found.result.counts.n, found.unanswered) == (20, 20)
    low, high = found.bounds
    assert high - low == pytest.approx(0.5)
    both = compare(other, one).overall
    assert both.bounds == pytest.approx((-high, -low))


def test_only_common_samples_count(tmp_path):
    _, one = columns(tmp_path, "one", erring(1, 0.6), {TEN: 60})
    _, other = columns(tmp_path, "other", erring(2, 0.6), {TEN: 40, ONE: 10}, start=40)
    found = compare(one, other)
    assert [part.setting for part in found.settings] == [TEN]
    assert found.overall.result.counts.n == 10
    nothing = compare(one, {})
    assert nothing.settings == ()
    assert nothing.overall.result.difference is None
    assert nothing.overall.bounds == (-1.0, 1.0)


def test_shared_haystacks_are_the_units(tmp_path):
    tables = []
    for seed in (1, 2):
        run = write_run(tmp_path / str(seed), erring(seed, 0.6), {TEN: 80})
        header = msgspec.structs.replace(run.header, questions=8)
        tables.append(outcomes(Run(header, run.folders)))
    found = compare(*tables).overall.result
    assert (found.test, found.clusters, found.counts.n) == ("sign_flip", 10, 40)


def test_two_models_that_cannot_be_told_apart_share_a_rank(tmp_path):
    rates = {"good": 0.95, "fair": 0.7, "alike": 0.7, "poor": 0.2}
    tables = [
        columns(tmp_path, name, erring(seed, rate), {ONE: 300, TEN: 300})[1]
        for seed, (name, rate) in enumerate(rates.items())
    ]
    found = board(tables)
    assert [str(rank) for rank in found.ranks] == ["1", "2–3", "2–3", "4"]
    pair = found.pair(2, 1)
    assert (pair.a, pair.b) == (1, 2)
    assert pair.holm >= pair.comparison.overall.result.p
    assert len(pair.setting_holm) == 2
    assert [str(rank) for rank in board(tables[:1]).ranks] == ["1"]
    # Two runs of the same answers are one model.
    assert [str(rank) for rank in board([tables[0], tables[0]]).ranks] == ["1–2", "1–2"]


@pytest.mark.parametrize("measure", MEASURES)
def test_order_does_not_matter(tmp_path, measure):
    tables = [columns(tmp_path, str(s), erring(s, 0.4 + s / 5))[1] for s in range(3)]
    there, back = board(tables, measure), board(tables[::-1], measure)
    assert there.ranks == back.ranks[::-1]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        one, other = there.pair(a, b), back.pair(2 - a, 2 - b)
        assert one.holm == pytest.approx(other.holm)
        assert one.comparison.overall.result.difference == pytest.approx(
            -other.comparison.overall.result.difference
        )


def test_runs_that_cannot_be_compared(tmp_path):
    base = write_run(tmp_path / "base", always_right, {TEN: 8})
    other = write_run(tmp_path / "other", always_right, {TEN: 8}, fingerprint="b" * 64)
    later = write_run(tmp_path / "later", always_right, {TEN: 8}, start=8)
    task = Run(msgspec.structs.replace(base.header, task="niah"), base.folders)
    for run, reason in ((other, "different data sets"), (later, "no sample"), (task, "tasks")):
        assert reason in (why_not(base.header, run.header) or "")
        with pytest.raises(UserError, match="cannot be compared"):
            compare_runs([base, run])
    assert why_not(base.header, base.header) is None


def test_what_else_differs_is_said(tmp_path):
    base = write_run(tmp_path / "base", always_right, {TEN: 8})
    small = Run(msgspec.structs.replace(base.header, resize=(14, 14)), base.folders)
    short = Run(msgspec.structs.replace(base.header, plan={TEN.name: (0, 4)}), base.folders)
    assert differences(["a", "b"], [base, base]) == []
    assert "a as built; b shrunk to 14 px" in differences(["a", "b"], [base, small])[0]
    assert "not asked all the same samples" in differences(["a", "b"], [base, short])[0]
    assert compare_runs([base, small]).pairs[0].comparison.overall.result.p == 1.0


HOSTILE = "=x/\x1b[2J\u202eevil"


def test_names_do_nothing_to_a_terminal_or_a_spreadsheet(tmp_path):
    runs = [
        write_run(tmp_path / name, always_right, {ONE: 4}, model=model)
        for name, model in (("one", HOSTILE), ("other", "y/plain"))
    ]
    found = settling.of_runs(runs, "exact", "robust")
    texts = [
        score_table([row for run in runs for row in score_run(run)]),
        Versus(runs, "exact", "robust").text(),
        settling.text(found, "exact", "robust"),
    ]
    for shown in texts:
        assert "=x/[U+001B][2J[U+202E]evil" in shown
        assert not any(hidden(char) for char in shown)
    for table in (settling.csv(found), leaderboard(runs).render("csv")):
        read = list(csv.DictReader(io.StringIO(table)))
        assert {row["model"] for row in read} >= {"'" + HOSTILE, "y/plain"}
