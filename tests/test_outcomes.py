"""The columns hold what the log holds, and count what scoring counts."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from report_runs import TEN, text, write_run
from rounds import examples

from mmneedle.errors import UserError
from mmneedle.outcomes import KINDS, METRICS, UNDEFINED, outcomes, places
from mmneedle.runlog import STATUSES, Run, open_runs
from mmneedle.scoring import score_run
from mmneedle.types import Location, Response, Setting, parse_sample_id

TWO = Setting(3, 2, 2, 2)
ANSWERS = ("1, 1, 1", "3, 2, 1", "-1", "0, 0, 0", "99999, 1, 1", "a dog", "1, 1, 1; -1", "")


def some(choice: list[int]):
    """A model that answers one of ANSWERS, the truth, a failure or nothing at all."""

    def answer(setting, index, truth):
        pick = choice[index % len(choice)]
        if pick == len(ANSWERS):
            return Response("ok", text(truth), latency=0.5, absent_logprob=-0.25)
        if pick == len(ANSWERS) + 1:
            return Response("server_error", error="x")
        if pick > len(ANSWERS) + 1:
            return None
        return Response("ok" if ANSWERS[pick] else "empty", ANSWERS[pick])

    return answer


@examples(25, HealthCheck.function_scoped_fixture)
@given(st.lists(st.integers(0, len(ANSWERS) + 2), min_size=1, max_size=12))
def test_they_count_what_scoring_counts(tmp_path_factory, choice):
    run = write_run(tmp_path_factory.mktemp("r") / "run", some(choice), {TEN: 13, TWO: 8})
    found = outcomes(run)
    for row in score_run(run):
        table = found[row.setting]
        marks = table.marks[row.scorer]
        split = table.positive == (row.split == "positive")
        assert split.sum() == row.n
        assert (marks.answered & split).sum() == row.answered
        for metric in METRICS:
            verdicts = marks.metric(metric)[split]
            verdicts = verdicts[verdicts != UNDEFINED]
            wanted = getattr(row, metric)
            assert (verdicts.mean() if len(verdicts) else None) == wanted
        kinds = marks.kind[split]
        counts = {kind: int((kinds == code).sum()) for code, kind in enumerate(KINDS, 1)}
        assert {kind: n for kind, n in counts.items() if n} == row.kinds
        statuses = {
            name: int((table.status[split] == k).sum()) for k, name in enumerate(STATUSES, 1)
        }
        statuses["missing"] = int((table.status[split] == 0).sum())
        assert {name: n for name, n in statuses.items() if n} == row.statuses


def test_each_row_leads_back_to_its_line(tmp_path):
    run = write_run(tmp_path / "run", some([len(ANSWERS), 0, 3, 4, 99]), {TEN: 20}, start=4)
    table = outcomes(run)[TEN]
    assert table.number.tolist() == list(range(4, 24))
    for row in range(len(table)):
        record = table.record(run, row)
        if record is None:
            assert table.status[row] == 0
            continue
        assert record.sample == table.sample(row)
        assert tuple(places(table.truth[row])) == record.truth
        assert table.length[row] == len(record.response.text)
        assert table.row(int(table.number[row])) == row
    assert table.row(3) is None
    assert table.row(24) is None


def test_a_cell_of_zeros_is_a_cell(tmp_path):
    run = write_run(tmp_path / "run", some([3]), {TEN: 4})
    said = outcomes(run)[TEN].marks["robust"].said
    assert list(places(said[0])) == [Location(0, 0, 0)]


def test_what_was_never_tried_is_there_too(tmp_path):
    run = write_run(tmp_path / "run", lambda *_: None, {TEN: 6})
    table = outcomes(run)[TEN]
    assert len(table) == 6
    assert not table.marks["robust"].answered.any()
    assert np.isnan(table.latency).all()


def test_shards_read_as_one(tmp_path):
    whole = write_run(tmp_path / "whole", some([len(ANSWERS), 0]), {TEN: 16})
    lines = (whole.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
    for k in (1, 2):
        folder = tmp_path / f"part{k}"
        folder.mkdir()
        header = msgspec.structs.replace(whole.header, shard=(k, 2))
        (folder / "run.json").write_bytes(msgspec.json.encode(header))
        mine = [line for n, line in enumerate(lines) if n // 2 % 2 == k - 1]
        (folder / "responses.jsonl").write_bytes(b"".join(mine))
    [both] = open_runs([tmp_path / "part1", tmp_path / "part2"])
    one, two = outcomes(whole)[TEN], outcomes(both)[TEN]
    assert (one.marks["robust"].said == two.marks["robust"].said).all()
    assert set(two.part.tolist()) == {0, 1}
    for row in range(len(two)):
        record = two.record(both, row)
        assert record is not None and record.sample == two.sample(row)


def test_haystacks_that_questions_share(tmp_path):
    run = write_run(tmp_path / "run", some([0]), {TEN: 8})
    header = msgspec.structs.replace(run.header, questions=4)
    table = outcomes(Run(header, run.folders))[TEN]
    assert table.shared
    assert table.haystack.tolist() == [0] * 4 + [1] * 4
    assert not outcomes(run)[TEN].shared
    assert [parse_sample_id(table.sample(k))[1] for k in range(8)] == list(range(8))


def test_a_log_that_changed_is_said_so(tmp_path):
    run = write_run(tmp_path / "run", some([0]), {TEN: 4})
    table = outcomes(run)[TEN]
    (Path(run.folder) / "responses.jsonl").write_bytes(b"{}\n")
    with pytest.raises(UserError, match="has changed"):
        table.record(run, 2)


def test_a_log_is_read_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", some([0]), {TEN: 4})
    read: list[int] = []
    original = Run.located

    def counting(self):
        read.append(1)
        return original(self)

    monkeypatch.setattr(Run, "located", counting)
    first, second = outcomes(run), outcomes(run)
    assert len(read) == 1
    first.pop(TEN)  # a caller's own dictionary
    assert TEN in second and TEN in outcomes(run)
    path = run.folder / "responses.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    assert (outcomes(run)[TEN].status > 0).sum() == 2
    assert len(read) == 2
