"""Effective lengths: by hand, by hypothesis, and of runs as a user has them."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shell import Shell
from text_runs import grid, says, write_text_run

from mmneedle.runlog import Run
from mmneedle.statistics import clustered, wilson
from mmneedle.texts.dataset import TextDataSet
from mmneedle.texts.effective import (
    Effective,
    Point,
    Tally,
    effective_lengths,
    found_in,
    points,
    sentence,
    table,
)
from mmneedle.types import TextSetting


def point(length: int, hits: int, n: int = 100, missing: int = 0, skipped: int = 0) -> Point:
    tally = Tally()
    tally.asked, tally.skipped = n, skipped
    for index in range(n - missing - skipped):
        tally.add(index, int(index < hits), 1)
    return tally.point(length)


def found(*series: Point, threshold: float = 0.856) -> Effective:
    return found_in(
        series, threshold, model="m/x", task="niah", needles=1, unit="tokens", base=None
    )


def test_by_hand() -> None:
    one = found(point(1024, 100), point(2048, 97), point(4096, 50), point(8192, 20))
    assert (one.length, one.least, one.most) == (2048, 2048, 2048)
    assert sentence(one) == "effective length: 2,048 tokens"
    assert " 2,048   97.0   92 to 99  100  passes\n" in table(one)
    assert " 4,096   50.0   40 to 60  100  fails\n" in table(one)


def test_a_threshold_within_an_interval_is_told() -> None:
    one = found(point(1024, 100), point(2048, 88), point(4096, 20))
    assert (one.length, one.least, one.most) == (2048, 1024, 2048)
    assert "the data cannot tell: anything from 1,024 to 2,048 is possible" in sentence(one)
    assert "within the interval at 2,048" in sentence(one)
    assert "passes, not surely" in table(one)


def test_a_mean_of_tenths_at_the_threshold_passes() -> None:
    """1,070 of 1,250 are 85.6 %, in whatever order tenths are added up."""
    draw = random.Random(0)
    for _ in range(50):
        hits = [10] * 125
        for index in draw.sample(range(125), 90):
            hits[index] = 8
        tally = Tally()
        tally.asked = 125
        for index, right in enumerate(hits):
            tally.add(index, right, 10)
        assert tally.point(4096).passes(0.856)


def test_the_ends() -> None:
    assert found(point(1024, 10)).length is None
    assert "below 1,024 tokens, the shortest asked" in sentence(found(point(1024, 10)))
    assert "1,024 tokens or more, the longest asked" in sentence(found(point(1024, 100)))
    few = found(point(1024, 2, n=2))
    assert few.length == 1024 and few.least is None and few.most == 1024
    assert "anything from below 1,024 to 1,024 or more is possible" in sentence(few)


def test_a_longer_one_that_passes_again_does_not_count_but_is_told() -> None:
    one = found(point(1024, 100), point(2048, 10), point(4096, 100))
    assert (one.length, one.regained) == (1024, (4096,))
    assert "4,096 passes although a shorter length does not" in sentence(one)


def test_what_the_window_does_not_hold_is_skipped_and_fails() -> None:
    one = found(point(1024, 100), point(2048, 0, skipped=100))
    assert (one.length, one.most) == (1024, 1024)
    assert "past the window: skipped" in table(one)


def test_missing_answers_leave_it_open() -> None:
    one = found(point(1024, 100), point(2048, 80, missing=20))
    assert one.points[1].score == 1.0
    assert (one.length, one.least, one.most) == (2048, 1024, 2048)
    assert "100.0*" in table(one)


points_of = st.builds(
    lambda hits, n, missing: (min(hits, n - missing), n, min(missing, n)),
    st.integers(0, 60), st.integers(60, 80), st.integers(0, 60),
)  # fmt: skip


@example([(0, 60, 0)], 5e-324)  # the threshold is met but for rounding
@given(st.lists(points_of, min_size=1, max_size=6), st.floats(0, 1))
def test_what_is_sure_lies_around_what_was_found(
    rows: list[tuple[int, int, int]], threshold: float
) -> None:
    series = [point(1024 << at, hits, n, missing) for at, (hits, n, missing) in enumerate(rows)]
    one = found(*series, threshold=threshold)
    lengths = [0, *(p.length for p in series)]
    least, length, most = (at or 0 for at in (one.least, one.length, one.most))
    assert least <= most and least <= length
    if all(p.answered for p in series):
        assert length <= most
    assert {least, length, most} <= set(lengths)
    upto = [p for p in series if p.length <= length]
    assert all(p.score is not None and p.score >= threshold - 1e-9 for p in upto)


# --------------------------------------------------------------------------- of runs


def answer(mmneedle: Shell, log: str, wrong: dict[str, str], folder: str = "set") -> None:
    """A run whose answers are right, or what `wrong` says of settings that begin so."""
    lines = []
    manifest = json.loads(Path(folder, "text.json").read_text())
    dataset = TextDataSet.open(folder)
    for name in manifest["settings"]:
        status = next((said for start, said in wrong.items() if name.startswith(start)), "right")
        for sample in dataset.samples(TextSetting.parse(name)):
            text = ", ".join(words[0] for words in sample.expected) if status == "right" else "no"
            told = status if status == "too_long" else "ok"
            lines.append(json.dumps({"sample": sample.id, "status": told, "text": text}))
    Path("said.jsonl").write_text("\n".join(lines))
    mmneedle("run", folder, "--model", "baseline/scripted?file=said.jsonl", "--log", log, "--quiet")


def test_depths_are_one_cluster(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "niah", "--lengths", "512,1k", "--depths", "0,50,100")
    answer(mmneedle, "run", {"niah-l1024-d0": "wrong"})
    (series,) = points([Run.open("run")]).values()
    assert [p.score for p in series] == [1.0, pytest.approx(2 / 3)]
    assert [p.n for p in series] == [15, 15]
    assert series[0].interval == clustered([3] * 5, [3] * 5)
    assert series[0].interval == wilson(5, 5)


def test_models_with_other_parameters_are_others(mmneedle: Shell, tmp_path: Path) -> None:
    plan = grid("niah", (512, 1024), (0, 1000), 40)
    for name, scaling, right in (("a", "linear", True), ("b", "yarn", False)):
        write_text_run(
            tmp_path / name,
            lambda setting, index, right=right: says(right, setting),
            plan,
            adapter={"rope_scaling": scaling},
        )
    printed = mmneedle.ok("effective", tmp_path / "a", tmp_path / "b")
    first, second = printed.split("\n\n")
    assert first.startswith("test/model (rope_scaling linear): niah")
    assert "effective length: 1,024 tokens or more" in first
    assert second.startswith("test/model (rope_scaling yarn): niah")
    assert "effective length: below 512 tokens" in second


def test_no_sample_counts_twice(mmneedle: Shell, tmp_path: Path) -> None:
    for name in "ab":
        write_text_run(
            tmp_path / name,
            lambda setting, index: says(True, setting),
            grid("niah", (512,), (0,), 4),
        )
    done = mmneedle("effective", tmp_path / "a", tmp_path / "b")
    assert done.status == 2
    assert "ask one model the same samples of niah-l512-d0-k1" in done.err


@pytest.mark.parametrize("verb", ["effective", "text-report"])
def test_a_threshold_in_per_cent_or_as_a_share(mmneedle: Shell, tmp_path: Path, verb: str) -> None:
    write_text_run(
        tmp_path / "a",
        lambda setting, index: says(index < 10, setting),
        grid("niah", (512,), (0,), 20),
    )
    out = tmp_path / "out.html"
    told = []
    for threshold in ("0.9", "90"):
        words = ["--out", out] if verb == "text-report" else []
        printed = mmneedle.ok(verb, tmp_path / "a", "--threshold", threshold, *words)
        told.append(out.read_text() if words else printed)
    assert told[0] == told[1]
    assert "below 512" in told[0]


def test_of_all_ruler_tasks_together(mmneedle: Shell) -> None:
    mmneedle.ok(
        "build-text", "set", "ruler", "--lengths", "2k,4k,8k", "--samples", 4,
        "--variants", "vt,fwe,niah_multivalue",
    )  # fmt: skip
    answer(mmneedle, "run", {"ruler.vt-l4096": "wrong", "ruler.vt-l8192": "too_long"})
    found = {one.task: one for one in effective_lengths([Run.open("run")])}
    assert found["ruler.fwe"].length == 8192
    assert found["ruler.vt"].length == 2048
    mean = found["ruler, mean of 3"]
    assert [p.score for p in mean.points] == [1.0, pytest.approx(2 / 3), None]
    assert [p.n for p in mean.points] == [12, 12, 12]
    low = wilson(4, 4)[0]
    assert mean.points[0].interval == (pytest.approx(1 - (1 - low) / 3**0.5), 1.0)
    assert mean.length == 2048
    printed = mmneedle.ok("effective", "run", "--threshold", 50)
    assert "threshold 50.0 %" in printed
    assert "effective length: 4,096 tokens" in printed
    told = json.loads(mmneedle.ok("effective", "run", "--json", "--base", 90))
    assert all(row["threshold"] == pytest.approx(0.85 * 0.9) for row in told)
    assert all(row["said"].startswith("effective length") for row in told)


def test_runs_of_images_have_none(mmneedle: Shell) -> None:
    mmneedle.ok(
        "build", "images", "--source", "shapes", "--scenes", 60, "--settings", "1x2",
        "--samples", 2, "--cell", 32, "--quiet",
    )  # fmt: skip
    mmneedle.ok("run", "images", "--model", "baseline/oracle", "--log", "run", "--quiet")
    assert "this verb is about text tasks" in mmneedle.refused("effective", "run")
