"""The viewer counts what scoring counts."""

import re

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from report_runs import TEN, ok, text, write_run
from rounds import examples

from mmneedle.following import Following
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.types import Response, Setting
from mmneedle.viewer import figures, pages
from mmneedle.viewer.library import Library
from mmneedle.viewer.query import Query

TWO = Setting(3, 2, 2, 2)
WORDS = ("1, 1, 1", "3, 2, 1", "-1", "0, 0, 0", "99999, 1, 1", "a dog", "1, 1, 1; -1", "")


def answering(choice):
    """A model that answers one of WORDS, the truth, a failure or nothing at all."""

    def answer(setting, index, truth):
        pick = choice[index % len(choice)]
        if pick == len(WORDS):
            return ok(text(truth))
        if pick == len(WORDS) + 1:
            return Response("server_error", error="x")
        if pick > len(WORDS) + 1:
            return None
        return Response("ok" if WORDS[pick] else "empty", WORDS[pick])

    return answer


@examples(30, HealthCheck.function_scoped_fixture)
@given(st.lists(st.integers(0, len(WORDS) + 2), min_size=1, max_size=11), st.sampled_from((1, 4)))
def test_shares_and_intervals_are_those_of_the_score_table(tmp_path_factory, choice, questions):
    run = write_run(tmp_path_factory.mktemp("r") / "run", answering(choice), {TEN: 16, TWO: 12})
    run = Run(msgspec.structs.replace(run.header, questions=questions), run.folders)
    # `read` opens run.json again when it changes, so it has to say the same
    (run.folder / "run.json").write_bytes(msgspec.json.encode(run.header))
    following = Following(run)
    with following.read():
        tables = following.tables
        for row in score_run(run):
            positive = row.split == "positive"
            for metric in ("existence", "index", "exact"):
                rate = figures.rate(tables[row.setting], row.scorer, metric, positive)
                assert rate.value == getattr(row, metric)
                if rate.n:
                    assert rate.interval == pytest.approx(row.interval[metric])
                    assert rate.n == row.answered
        for table in tables.values():
            counts = figures.outcome_counts(table)
            assert sum(counts.values()) == len(table)
            assert counts.get("untried", 0) == int((table.status == 0).sum())
        summary = figures.summary(following)
        assert summary["asked"] == sum(summary["statuses"].values()) == 28
        assert summary["answered"] == sum(
            row.answered for row in score_run(run) if row.scorer == "robust"
        )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (5, "5 s"), (100, "2 min"), (5400, "1 h 30 min"), (200_000, "2 days")],
)
def test_times_in_words(seconds, words):
    assert figures.duration(seconds) == words


def test_no_figure_is_shown_before_the_log_is_read(tmp_path, monkeypatch):
    def answer(setting, index, truth):  # the first ones right, the others wrong, the last not asked
        if index >= 280:
            return None
        return ok(text(truth) if index < 64 else "9, 9, 9")

    write_run(tmp_path / "run", answer, {TEN: 300})
    monkeypatch.setattr(pages, "_GLANCE", 0.0)  # 64 lines a look
    shown = pages.Pages(Library([tmp_path / "run"]))
    query = Query(items=("r1",))
    start, live = shown.start(), shown.live(query)
    for page in (start, live):
        assert 'data-state="reading"' in page
        assert "not read yet" in page and "not asked yet" not in page
        assert "…" in page and "100.0" not in page and re.search(r"\d %</span>", page)
    assert "… of 300 answered" in start
    for _ in range(4):
        start, live = shown.start(), shown.live(query)
    for page in (start, live):
        assert 'data-state="reading"' not in page
        assert "not asked yet" in page and "not read yet" not in page and "…" not in page
    assert "280 of 300 answered" in start and "22.9" in start
