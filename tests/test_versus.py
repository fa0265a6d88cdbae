"""`mmneedle compare` as a user sees it."""

import json
import shutil

import pytest
from report_runs import ONE, TEN, always_first, always_right, only_image_one, text, write_run
from shell import Shell
from test_comparing import erring

from mmneedle.reports.versus import points, probability
from mmneedle.types import Response


def test_two_runs(mmneedle: Shell, tmp_path):
    write_run(tmp_path / "good", always_right, {ONE: 60, TEN: 60}, model="x/good")
    write_run(tmp_path / "first", always_first, {ONE: 60, TEN: 60}, model="x/first")
    out = mmneedle.ok("compare", "first", "good")
    assert "McNemar" in out
    assert out.count("B is better") == 3
    # The first of 4 cells, then of 40, by turns: 8 and 1 of 30.
    assert "x/good is better than x/first by 85.0 points" in out
    found = json.loads(mmneedle.ok("compare", "first", "good", "--json"))
    assert [run["name"] for run in found["runs"]] == ["x/first", "x/good"]
    assert [(run["rank_best"], run["rank_worst"]) for run in found["runs"]] == [(2, 2), (1, 1)]
    (pair,) = found["pairs"]
    assert pair["overall"]["difference"] == pytest.approx(-0.85)
    one = pair["settings"][0]
    assert (one["setting"], one["n"], one["both"], one["only_b"]) == (ONE.name, 30, 8, 22)
    assert one["p"] <= one["p_holm"] < 1e-5
    assert one["test"] == "mcnemar_exact"


def test_a_copied_run_is_no_second_model(mmneedle: Shell, tmp_path):
    write_run(tmp_path / "first", always_first, {ONE: 8}, model="x/a")
    write_run(tmp_path / "right", always_right, {ONE: 8}, model="x/a")
    write_run(tmp_path / "other", always_first, {ONE: 8}, model="x/b")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    out = mmneedle.ok("compare", "first", "right", "other", "copy")
    assert out.count("are the same answers") == 1
    assert "Note: x/a (first) and x/a (copy) are the same answers: one run, of which copy" in out
    notes = json.loads(mmneedle.ok("compare", "copy", "first", "--json"))["notes"]
    assert [note.split(":")[0] for note in notes] == [
        "x/a (copy) and x/a (first) are the same answers"
    ]
    # the same model asked once more is another run, even if it says the same
    header = json.loads((tmp_path / "copy/run.json").read_bytes())
    header["created"] = "2026-11-23T12:00:00.000Z"
    (tmp_path / "copy/run.json").write_text(json.dumps(header))
    assert "same answers" not in mmneedle.ok("compare", "first", "copy")


def test_runs_that_the_data_cannot_tell_apart(mmneedle: Shell, tmp_path):
    for seed in range(3):
        write_run(tmp_path / str(seed), erring(seed, 0.5), {TEN: 40}, model=f"x/{seed}")
    out = mmneedle.ok("compare", "0", "1", "2")
    assert out.count("1–3") == 3
    assert "share ranks" in out
    assert out.count("The data cannot tell") == 3
    assert "corrected for 3 comparisons" in out


def test_one_comparison_alone_and_many(mmneedle: Shell, tmp_path):
    """Where only the correction for the number of comparisons stands in the way, it is said."""

    def lacking(*lost):
        return lambda setting, index, truth: Response("ok", "?" if index in lost else text(truth))

    for k in range(4):
        answer = lacking(*range(0, 12, 2)) if k == 0 else lacking(20 + 2 * k)
        write_run(tmp_path / str(k), answer, {TEN: 80}, model=f"x/{k}")
    out = mmneedle.ok("compare", "0", "1", "2", "3")
    assert "The data cannot tell x/0 and x/1 apart" in out
    write_run(tmp_path / "all", always_right, {TEN: 80}, model="x/all")
    assert "x/all is better than x/0" in mmneedle.ok("compare", "0", "all")
    out = mmneedle.ok("compare", "0", "1", "all")
    assert "were this the only comparison" in out
    assert "the corrected test decides" in out


def test_shared_samples_only_and_missing_ones(mmneedle: Shell, tmp_path):
    def late(setting, index, truth):
        return None if index < 4 else always_right(setting, index, truth)

    write_run(tmp_path / "a", late, {TEN: 20}, model="x/a")
    write_run(tmp_path / "b", only_image_one, {TEN: 40}, model="x/b")
    out = mmneedle.ok("compare", "a", "b", "--metric", "sensitivity")
    assert "2 samples of both lack an answer" in out
    assert "Note: The runs were not asked all the same samples" in out
    write_run(tmp_path / "none", lambda *_: None, {TEN: 20}, model="x/none")
    assert "no common samples: nothing is known" in mmneedle.ok("compare", "a", "none")


def test_refusals(mmneedle: Shell, tmp_path):
    write_run(tmp_path / "a", always_right, {TEN: 8})
    write_run(tmp_path / "b", always_right, {TEN: 8}, fingerprint="b" * 64)
    assert "two runs or more" in mmneedle.refused("compare", "a")
    refusal = mmneedle.refused("compare", "a", "b")
    assert "different data sets (fingerprints aaaaaaaaaaaa and bbbbbbbbbbbb)" in refusal
    assert "no run here" in mmneedle.refused("compare", "a", "c")


def test_numbers_as_text():
    assert [points(share) for share in (0.0321, -0.0004, -0.2)] == ["3.2", "0.0", "-20.0"]
    assert [probability(p) for p in (0.0499, 0.05, 1.0, 1e-9, 0.0321)] == [
        "<0.050",
        "0.050",
        "1.000",
        "<0.001",
        "0.032",
    ]
