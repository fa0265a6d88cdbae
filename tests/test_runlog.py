import asyncio
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import disks
import msgspec
import pytest
from disks import disk
from fakes import LARGE, SMALL, FakeAdapter, FakeDataSet, FakeTask, fake_sample, header, open_log
from hypothesis import given
from hypothesis import strategies as st
from shell import Shell

from mmneedle import runlog
from mmneedle.errors import UserError
from mmneedle.runlog import Record, Run, RunHeader, open_runs, request_digest
from mmneedle.types import Location, Response, Setting, Status, Usage, sample_id

DATA = FakeDataSet(small=10, large=6)
MODEL = FakeAdapter()


def record(index: int, status: Status = "ok", setting: Setting = SMALL, **fields: Any) -> Record:
    sample = fake_sample(setting, index)
    return Record(
        sample=sample.id,
        truth=sample.truth,
        attempt=fields.pop("attempt", 1),
        at=runlog.now(),
        request_sha256=None,
        response=Response(status, **fields),
    )


def write(folder: Path, *records: Record, **changes: Any) -> None:
    async def append() -> None:
        for each in records:
            await log.append(each)

    with open_log(folder, DATA, MODEL, **changes) as log:
        asyncio.run(append())


def statuses(run: Run) -> dict[str, str]:
    return {each.sample: each.response.status for each in run.outcomes()}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    full = Response(
        "truncated",
        text="1, 2, 1\n\u2028 é 针",
        reasoning="hm",
        stop_reason="length",
        model="m-1",
        usage=Usage(1, 2, 3),
        latency=0.5,
        error="e",
        retry_after=1.5,
    )
    written = [
        msgspec.structs.replace(record(0), response=full),
        record(1, "empty"),
        record(4, setting=LARGE),
    ]
    write(tmp_path / "run", *written)
    run = Run.open(tmp_path / "run")
    assert list(run.records()) == written
    assert list(run.outcomes()) == written
    assert run.header.plan == {SMALL.name: (0, 10), LARGE.name: (0, 6)}
    assert run.header.created.endswith("Z")
    assert written[2].truth[0] == Location(2, 1, 3)


def test_lines_are_plain_json(tmp_path: Path) -> None:
    write(tmp_path, record(2, text="1, 1, 2"))
    [line] = (tmp_path / "responses.jsonl").read_text().splitlines()
    content = json.loads(line)
    assert content["sample"] == "n1-g2x2-k1-000002"
    assert content["truth"] == [[1, 1, 2]]
    assert content["response"] == {"status": "ok", "text": "1, 1, 2"}
    assert json.loads((tmp_path / "run.json").read_text())["model"] == "fake/model"


def test_the_digest_is_over_the_prompt_and_the_images_in_order() -> None:
    request = FakeTask().request(fake_sample(LARGE, 0))
    content = request.prompt.encode() + b"".join(request.images)
    assert request_digest(request) == hashlib.sha256(content).hexdigest()


def test_append_returns_when_its_line_is_synced_and_syncs_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def slow(file: int) -> None:
        time.sleep(0.02)
        real(file)
        synced.append(os.fstat(file).st_size)

    async def append(index: int) -> None:
        await log.append(record(index, setting=LARGE))
        text = log.path.read_bytes()[: synced[-1]]
        assert sample_id(LARGE, index).encode() in text

    async def all_at_once() -> None:
        await asyncio.gather(*(append(index) for index in range(200)))

    with open_log(tmp_path, FakeDataSet(large=200), MODEL) as log:
        monkeypatch.setattr(os, "fsync", slow)
        asyncio.run(all_at_once())
    assert len(list(Run.open(tmp_path).records())) == 200
    assert len(synced) < 10


def test_going_on_knows_what_is_finished(tmp_path: Path) -> None:
    write(tmp_path, record(0), record(1, "too_long"), record(2, "timeout"), record(9, "refused"))
    with open_log(tmp_path, DATA, MODEL) as log:
        found = [log.status(SMALL, index) for index in range(10)]
    assert found == ["ok", "too_long", "timeout", *[None] * 6, "refused"]


@pytest.mark.parametrize(
    ("attempts", "outcome"),
    [
        (["timeout", "server_error"], "server_error"),
        (["timeout", "ok"], "ok"),
        (["too_long", "timeout"], "too_long"),
        (["too_long", "timeout", "ok"], "ok"),
        (["server_error", "rate_limited", "refused"], "refused"),
    ],
)
def test_the_outcome_is_the_last_final_attempt_or_else_the_last(
    tmp_path: Path, attempts: list[Status], outcome: str
) -> None:
    tries = [record(3, status, attempt=n) for n, status in enumerate(attempts, 1)]
    write(tmp_path, record(4), *tries, record(2))
    run = Run.open(tmp_path)
    assert statuses(run) == {
        "n1-g2x2-k1-000002": "ok",
        "n1-g2x2-k1-000003": outcome,
        "n1-g2x2-k1-000004": "ok",
    }
    with open_log(tmp_path, DATA, MODEL) as log:
        assert log.status(SMALL, 3) == outcome


@given(cut=st.integers(1, 200), records=st.integers(1, 4))
def test_a_half_line_is_cut_off_and_no_whole_line_is_lost(
    tmp_path_factory: pytest.TempPathFactory, cut: int, records: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write(folder, *(record(index, text="x" * 200) for index in range(records)))
    path = folder / "responses.jsonl"
    os.truncate(path, path.stat().st_size - cut)
    kept = list(Run.open(folder).records())  # a reader passes over it and leaves it
    assert [each.sample for each in kept] == [sample_id(SMALL, i) for i in range(records - 1)]
    write(folder, record(records - 1, text="again"))
    assert [each.sample for each in Run.open(folder).records()] == [
        sample_id(SMALL, i) for i in range(records)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        b"\n",
        b"{}\n",
        b"null\n",
        b'{"sample": 1\n',
        b"\xff\xfe\n",
        msgspec.json.encode(record(0)).replace(b"n1-g2x2-k1-000000", b"n1-g2x2-k1-000010") + b"\n",
        msgspec.json.encode(record(0)).replace(b"n1-g2x2-k1-000000", b"n1-g9x9-k1-000000") + b"\n",
        msgspec.json.encode(record(0)).replace(b"n1-g2x2-k1-000000", b"nonsense") + b"\n",
        msgspec.json.encode(record(0)).replace(b'"ok"', b'"fine"') + b"\n",
    ],
)
def test_a_damaged_line_is_named_and_never_dropped(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, record(0), record(1))
    path = tmp_path / "responses.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + second)
    for use in (
        lambda: list(Run.open(tmp_path).records()),
        lambda: list(Run.open(tmp_path).outcomes()),
        lambda: open_log(tmp_path, DATA, MODEL),
    ):
        with pytest.raises(UserError, match=r"responses\.jsonl: line 2 is damaged"):
            use()
    assert path.read_bytes() == first + damage + second
    path.write_bytes(first + second)
    open_log(tmp_path, DATA, MODEL).close()  # and the lock was let go of


# --------------------------------------------------------------------------- one run, one writer


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    with open_log(tmp_path, DATA, MODEL):
        with pytest.raises(UserError, match=rf"being written by process {os.getpid()} on .* since"):
            open_log(tmp_path, DATA, MODEL)
        Run.open(tmp_path)  # readers are welcome
    open_log(tmp_path, DATA, MODEL).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "fake/other"}, "--model fake/model, now --model fake/other"),
        ({"task": "other"}, "the task fake, now the task other"),
        ({"dataset_fingerprint": "0"}, "a data set with the fingerprint .*, now .* 0"),
        ({"adapter": {"adapter": "fake", "p": 1}}, "the model's p not set, now the model's p 1"),
        ({"adapter": {"adapter": "fake", "detail": "low"}}, "no --detail, now --detail low"),
        ({"adapter": {"adapter": "fake", "logprobs": True}}, "no --logprobs, now --logprobs"),
        (
            {"adapter": {"adapter": "fake", "max_tokens": 5, "reasoning": "low"}},
            "no --reasoning, now --reasoning low",
        ),
        ({"shard": (1, 2)}, "whole, now --shard 1/2"),
        ({"resize": (14, 14)}, "not resized, now --resize 14"),
        ({"resize": (28, 14)}, "not resized, now --resize 28x14"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, record(0))
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=f"holds another run: {message}.*; name another --log"):
        open_log(tmp_path, DATA, MODEL, **change)
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_plan_may_grow_but_not_leave_gaps(tmp_path: Path) -> None:
    write(tmp_path, record(2), plan={SMALL.name: (2, 4)})
    write(tmp_path, record(5), plan={SMALL.name: (3, 6), LARGE.name: (0, 1)})
    with open_log(tmp_path, DATA, MODEL, plan={SMALL.name: (2, 4)}) as log:
        assert log.plan == {SMALL.name: (2, 4)}
        assert log.header.plan == {SMALL.name: (2, 6), LARGE.name: (0, 1)}
        assert log.status(SMALL, 5) == "ok"
    said = (
        "this run asks --limit 2-6 of n1-g2x2-k1; with 8-10 the samples between 6 and 8 would stay "
        "unasked: take --limit 2-10, or another --log"
    )
    with pytest.raises(UserError, match=said):
        open_log(tmp_path, DATA, MODEL, plan={SMALL.name: (8, 10)})
    open_log(tmp_path, DATA, MODEL, plan={SMALL.name: (2, 6)}).close()
    assert Run.open(tmp_path).header.plan == {SMALL.name: (2, 6), LARGE.name: (0, 1)}


def test_a_data_set_may_move(tmp_path: Path) -> None:
    write(tmp_path, record(0))
    write(tmp_path, record(1), dataset_path="elsewhere")
    assert Run.open(tmp_path).header.dataset_path == "elsewhere"


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\) and no run"):
        open_log(tmp_path, DATA, MODEL)
    with pytest.raises(UserError, match="no run here"):
        Run.open(tmp_path)
    with pytest.raises(UserError, match="no run here"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a file; name a run"):
        Run.open(tmp_path / "thesis.tex")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": "1"}'])
def test_a_damaged_header_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json: is not a run's header"):
        Run.open(tmp_path)


def test_a_header_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, record(0))
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="has format 2, this mmneedle reads format 1"):
        Run.open(tmp_path)


def test_killed_before_the_header_was_written_it_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "run.json.partial").write_text("{")
    write(tmp_path, record(0))
    assert len(list(Run.open(tmp_path).records())) == 1


# --------------------------------------------------------------------------- shards


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shards_share_the_samples_out_in_balanced_parts(parts: int) -> None:
    plan = {SMALL.name: (3, 50)}
    headers = [header(DATA, MODEL, plan, shard=(part, parts)) for part in range(1, parts + 1)]
    for index in range(60):
        owners = [h.includes(SMALL, index) for h in headers]
        assert sum(owners) == (3 <= index < 50)
        assert not any(owners) or owners.index(True) == index // 2 % parts
    for positive in (True, False):
        expected = [i for i in range(3, 50) if (i % 2 == 0) == positive]
        assert sum(h.asked(SMALL, positive) for h in headers) == len(expected)
        assert headers[0].asked(SMALL.name, positive) == sum(i // 2 % parts == 0 for i in expected)
    assert headers[0].asked(LARGE, True) == 0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 5), st.integers(1, 7))
def test_samples_are_counted_without_looking_at_each(
    start: int, more: int, parts: int, questions: int
) -> None:
    plan = {SMALL.name: (start, start + more)}
    for part in range(1, parts + 1):
        one = header(DATA, MODEL, plan, shard=(part, parts), questions=questions)
        own = [index for index in range(100) if one.includes(SMALL, index)]
        assert list(one.indices(SMALL)) == own
        for positive in (True, False):
            assert one.asked(SMALL, positive) == sum(i % 2 == (not positive) for i in own)


def test_a_plan_that_no_data_set_holds_is_refused_at_once(mmneedle: Shell, tmp_path: Path) -> None:
    write(tmp_path / "run", record(0))
    path = tmp_path / "run" / "run.json"
    whole = json.loads(path.read_text())
    whole["plan"][SMALL.name] = [0, 10**8]
    path.write_text(json.dumps(whole))
    assert "a setting has at most 1,000,000" in mmneedle.refused("score", tmp_path / "run")


def test_shards_of_one_run_become_one(tmp_path: Path) -> None:
    write(tmp_path / "b", record(2), record(7), shard=(2, 2))
    write(tmp_path / "a", record(0), record(5), shard=(1, 2))
    write(tmp_path / "c", record(1))
    runs = open_runs([tmp_path / "b", tmp_path / "c", tmp_path / "a"])
    assert [run.folders for run in runs] == [
        (tmp_path / "a", tmp_path / "b"),
        (tmp_path / "c",),
    ]
    assert runs[0].header.asked(SMALL, True) == 5
    assert set(statuses(runs[0])) == {sample_id(SMALL, i) for i in (0, 5, 2, 7)}
    lone = open_runs([tmp_path / "b"])[0]  # the other half counts as unanswered, not as done
    assert lone.header.asked(SMALL, True) == 5
    assert len(statuses(lone)) == 2


def test_a_shard_or_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", record(0), shard=(1, 2))
    write(tmp_path / "copy", record(0), shard=(1, 2))
    write(tmp_path / "c", record(1))
    with pytest.raises(UserError, match="are both part 1 of 2 of one run"):
        open_runs([tmp_path / "a", tmp_path / "copy"])
    with pytest.raises(UserError, match="c: given twice"):
        open_runs([tmp_path / "c", tmp_path / "a" / ".." / "c"])


def test_a_server_may_move_to_another_port_but_not_to_another_host(tmp_path: Path) -> None:
    def server(url: str) -> dict[str, str]:
        return {"adapter": "openai", "base_url": url}

    write(tmp_path / "a", record(0), adapter=server("http://127.0.0.1:8000/v1"))
    write(tmp_path / "a", record(1), adapter=server("http://127.0.0.1:9000/v1"))
    assert len(statuses(Run.open(tmp_path / "a"))) == 2
    with pytest.raises(UserError, match="now --base-url http://elsewhere:8000/v1;"):
        write(tmp_path / "a", record(2), adapter=server("http://elsewhere:8000/v1"))
    write(tmp_path / "1", record(0), shard=(1, 2), adapter=server("http://one:8000/v1"))
    write(tmp_path / "2", record(2), shard=(2, 2), adapter=server("http://two:8000/v1"))
    assert len(open_runs([tmp_path / "1", tmp_path / "2"])) == 1


def test_shards_of_different_runs_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "a", record(0), shard=(1, 2))
    write(tmp_path / "b", record(2), shard=(2, 2), adapter={"adapter": "fake", "p": 1})
    assert len(open_runs([tmp_path / "a", tmp_path / "b"])) == 2


# --------------------------------------------------------------------------- when disks fail


def failing(at: int, code: int, real: Callable[..., int]) -> Callable[..., int]:
    """os.write that takes in `at` bytes of responses.jsonl and then fails."""
    left = at

    def fake(file: int, content: bytes) -> int:
        nonlocal left
        if Path(f"/proc/self/fd/{file}").readlink().name != "responses.jsonl":
            return real(file, content)
        if not left:
            raise OSError(code, os.strerror(code))
        count = min(left, len(content))
        left -= count
        return real(file, content[:count])

    return fake


@pytest.mark.parametrize("at", [0, 1, 150, 700])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_write_is_one_clear_line_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, code: int
) -> None:
    safe: list[int] = []

    async def append() -> None:
        await log.append(record(0, text="x" * 100))
        monkeypatch.setattr(os, "write", failing(at, code, os.write))
        results = await asyncio.gather(
            *(log.append(record(i, text="x" * 100)) for i in range(1, 8)), return_exceptions=True
        )
        failed = [result for result in results if result is not None]
        safe.append(1 + len(results) - len(failed))
        assert failed
        for result in failed:
            assert isinstance(result, UserError)
            assert f"cannot be written ({os.strerror(code)})" in str(result)

    with pytest.raises(UserError), open_log(tmp_path, DATA, MODEL) as log:
        asyncio.run(append())
    monkeypatch.undo()
    content = (tmp_path / "responses.jsonl").read_bytes()
    assert content.endswith(b"\n")
    kept = [each.sample for each in Run.open(tmp_path).records()]
    assert kept == [sample_id(SMALL, i) for i in range(len(kept))]
    assert len(kept) >= safe[0]
    write(tmp_path, record(9))
    assert len(list(Run.open(tmp_path).records())) == len(kept) + 1


def test_a_failing_sync_does_not_count_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    log = open_log(tmp_path, DATA, MODEL)
    monkeypatch.setattr(os, "fsync", broken)
    for _ in range(2):  # and it stays so
        with pytest.raises(UserError, match=r"cannot be written \(Input/output error\)"):
            asyncio.run(log.append(record(0)))
    assert log.status(SMALL, 0) is None
    with pytest.raises(UserError, match="cannot be written"):  # even if nobody waited for it
        log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", disks.SMALL) as folder:
        yield folder


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path / "disk", disks.READ_ONLY) as folder:
        yield folder


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(small_disk: Path) -> None:
    run = small_disk / "run"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 40_000)
    with pytest.raises(UserError, match=r"responses.jsonl: cannot be written \(No space left"):
        write(run, *(record(i % 10, text="x" * 900) for i in range(100)))
    kept = len(list(Run.open(run).records()))
    assert 0 < kept < 100
    filler.unlink()
    write(run, record(0))
    assert len(list(Run.open(run).records())) == kept + 1


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 100_000)
    with pytest.raises(UserError, match=r"cannot write the run here \(No space left"):
        write(small_disk / "run", record(0))
    filler.unlink()
    write(small_disk / "run", record(0))


def test_a_read_only_file_system(read_only_disk: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write the run here \(Read-only file system\)"):
        open_log(read_only_disk / "run", DATA, MODEL)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot write the run here"):
            open_log(folder, DATA, MODEL)


def test_a_cancelled_wait_still_gets_its_line_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    real = os.fsync

    def slow(file: int) -> None:
        started.set()
        go.wait(10)
        real(file)

    async def append() -> None:
        first = asyncio.create_task(log.append(record(0)))
        await asyncio.to_thread(started.wait, 10)
        second = asyncio.create_task(log.append(record(1)))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.wait([first, second])
        go.set()

    with open_log(tmp_path, DATA, MODEL) as log:
        monkeypatch.setattr(os, "fsync", slow)
        asyncio.run(append())
    assert [each.sample[-1] for each in Run.open(tmp_path).records()] == ["0", "1"]


def test_the_header_names_what_it_ran_on() -> None:
    assert {"mmneedle", "python", "platform"} <= set(runlog.environment())
    assert RunHeader.__struct_fields__[1] == "model"
