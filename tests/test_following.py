"""A log that grows is followed line by line, and ends where reading it at once would."""

import asyncio
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from report_runs import ONE, TEN, always_right, made_up, ok, text, write_run
from rounds import examples

from mmneedle.errors import UserError
from mmneedle.following import Following
from mmneedle.outcomes import Outcomes, outcomes
from mmneedle.runlog import Record, Run, RunLog, now, open_runs
from mmneedle.types import Response, Setting, sample_id


def record(setting: Setting, index: int, response: Response, attempt: int = 1) -> Record:
    return Record(
        sample=sample_id(setting, index),
        truth=made_up(setting, index),
        attempt=attempt,
        at=now(),
        request_sha256=None,
        response=response,
    )


def line(one: Record) -> bytes:
    return msgspec.json.encode(one) + b"\n"


def followed(run: Run) -> Following:
    following = Following(run)
    with following.read():
        return following


def same(one: Outcomes, other: Outcomes) -> None:
    for name in ("number", "status", "hard", "ambiguity", "absent_logprob", "latency", "length"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in ("truth", "place", "part"):
        assert (getattr(one, name) == getattr(other, name)).all(), name
    for scorer, marks in one.marks.items():
        for name in ("existence", "index", "exact", "kind", "said"):
            assert (getattr(marks, name) == getattr(other.marks[scorer], name)).all(), name


STATUSES = ("ok", "refused", "empty", "truncated", "timeout", "server_error", "bad_request")
ATTEMPTS = st.tuples(
    st.integers(0, 5),
    st.sampled_from(STATUSES),
    st.sampled_from((None, "-1", "1, 1, 1", "2, 2, 2", "?", "9, 9, 9")),
    st.none() | st.floats(0, 9),
)


@examples(40, HealthCheck.function_scoped_fixture)
@given(st.lists(ATTEMPTS, max_size=25), st.lists(st.integers(0, 4000), max_size=6))
def test_in_any_pieces_it_ends_where_reading_at_once_does(tmp_path_factory, attempts, cuts):
    run = write_run(tmp_path_factory.mktemp("r") / "run", lambda *_: None, {TEN: 6})
    content = b"".join(
        line(record(TEN, index, Response(status, words, latency=latency)))
        for index, status, words, latency in attempts
    )
    log = run.folder / "responses.jsonl"
    following = followed(run)
    cuts = sorted({min(cut, len(content)) for cut in (*cuts, len(content))})
    for begin, end in zip([0, *cuts], cuts, strict=False):
        with log.open("ab") as file:
            file.write(content[begin:end])
        with following.read():
            assert following.lines == content[:end].count(b"\n")
    assert following.epoch == 1  # nothing was read twice
    same(following.tables[TEN], outcomes(run)[TEN])
    assert sum(following.statuses().values()) == 6
    for row in range(6):
        found = [one.response.status for one in following.attempts(TEN, row)]
        assert found == [status for index, status, _, _ in attempts if index == row]


def test_shards_are_followed_together(tmp_path):
    whole = write_run(tmp_path / "whole", always_right, {TEN: 8})
    lines = (whole.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
    for k in (1, 2):
        folder = tmp_path / f"part{k}"
        folder.mkdir()
        header = msgspec.structs.replace(whole.header, shard=(k, 2))
        (folder / "run.json").write_bytes(msgspec.json.encode(header))
        (folder / "responses.jsonl").write_bytes(b"")
    [run] = open_runs([tmp_path / "part1", tmp_path / "part2"])
    following = followed(run)
    for number, one in enumerate(lines):
        with (tmp_path / f"part{number // 2 % 2 + 1}" / "responses.jsonl").open("ab") as file:
            file.write(one)
        with following.read():
            assert following.lines == number + 1
    same(following.tables[TEN], outcomes(run)[TEN])
    assert [one.sample for one in following.attempts(TEN, 3)] == [sample_id(TEN, 3)]


@pytest.mark.parametrize("how", ["another file", "shorter", "edited", "gone"])
def test_a_log_that_is_another_one_now_is_read_anew(tmp_path, how):
    run = write_run(tmp_path / "run", always_right, {TEN: 4})
    log = run.folder / "responses.jsonl"
    following = followed(run)
    content = log.read_bytes()
    lines = content.splitlines(keepends=True)
    if how == "another file":
        (tmp_path / "new").write_bytes(content + line(record(TEN, 1, ok("1, 1, 1"))))
        (tmp_path / "new").replace(log)
    elif how == "shorter":
        log.write_bytes(lines[0])
    elif how == "edited":
        os.utime(log, ns=(0, 0))
        with following.read():
            pass
        log.write_bytes(content.replace(b'"-1"', b'"-2"', 1))  # in its middle, as long as before
    else:
        log.unlink()
    with following.read():
        assert following.epoch > 1
        if how == "gone":
            assert following.statuses() == {"missing": 4}
        else:
            same(following.tables[TEN], outcomes(run)[TEN])


def test_a_damaged_line_is_named_and_left_out(tmp_path):
    run = write_run(tmp_path / "run", always_right, {TEN: 4})
    log = run.folder / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"sample": "n10-g2x2-k1-000001"\n'
    lines.insert(2, b"\xff\xfe\n")
    lines.append(line(record(TEN, 77, ok("-1"))))  # not in the plan
    log.write_bytes(b"".join(lines))
    following = followed(run)
    assert [one.line for one in following.damage] == [2, 3, 6]
    assert "line 2 is damaged" in str(following.damage[0])
    assert "not in the plan" in following.damage[2].reason
    assert following.statuses() == {"ok": 3, "missing": 1}


def test_a_plan_that_grew_is_noticed(tmp_path):
    run = write_run(tmp_path / "run", always_right, {TEN: 4})
    following = followed(run)
    header = msgspec.structs.replace(run.header, plan={TEN.name: (0, 6), ONE.name: (0, 2)})
    (run.folder / "run.json").write_bytes(msgspec.json.encode(header))
    with following.read():
        assert following.statuses() == {"ok": 4, "missing": 4}
    (run.folder / "run.json").unlink()
    with pytest.raises(UserError, match="no run here"), following.read():
        pass


def test_reading_may_take_its_time(tmp_path):
    run = write_run(tmp_path / "run", always_right, {TEN: 400})
    following = Following(run)
    seen = []
    while not seen or following.unread:
        with following.read(0.0):
            seen.append(following.lines)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == 400
    same(following.tables[TEN], outcomes(run)[TEN])


def test_failures_and_pace(tmp_path):
    run = write_run(tmp_path / "run", lambda *_: None, {TEN: 10})
    with (run.folder / "responses.jsonl").open("ab") as file:
        for index in range(6):
            words = Response("timeout", error="no reply") if index == 2 else ok("-1")
            file.write(line(record(TEN, index, words)))
            time.sleep(0.01)
    following = followed(run)
    assert [one.status for one in following.failures] == ["timeout"]
    assert following.failed == 1
    pace = following.pace(time.time())
    assert pace is not None and 1 < pace < 500
    assert following.pace(time.time() + 1e6) is None
    assert following.spent.uncounted == 5


def test_who_is_writing(tmp_path):
    run = write_run(tmp_path / "old", lambda *_: None, {TEN: 4})
    assert followed(run).writers() == []

    async def write() -> None:
        header = msgspec.structs.replace(run.header, created="")
        with RunLog.open(tmp_path / "run", header) as log:
            following = followed(Run.open(tmp_path / "run"))
            [holder] = following.writers()
            assert holder.startswith(f"process {os.getpid()} on ")
            await log.append(record(TEN, 0, Response("ok", text(made_up(TEN, 0)))))
            with following.read():
                assert following.statuses() == {"ok": 1, "missing": 3}

    asyncio.run(write())
    assert followed(Run.open(tmp_path / "run")).writers() == []
    lock = Path(tmp_path / "run" / "lock")
    lock.write_text("process 1 on another-host since 2026-11-22T12:00:00.000Z\n")
    assert len(followed(Run.open(tmp_path / "run")).writers()) == 1  # its log has just grown
    os.utime(tmp_path / "run" / "responses.jsonl", (0, 0))
    assert followed(Run.open(tmp_path / "run")).writers() == []
