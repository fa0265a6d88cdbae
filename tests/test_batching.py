"""Runs by batch APIs, through the providers' own SDKs, against servers that speak them."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disks
import pytest
from api_server import KEY, ApiServer, Ask
from batch_runs import FAST, PictureTask, finished, records, run, statuses
from batch_server import (
    CANCEL,
    EXPIRE,
    HANG_UP,
    LOSE,
    SERVERS,
    AnthropicBatchServer,
    BatchServer,
    Call,
    OpenAIBatchServer,
)
from chat_server import Reply
from disks import disk
from fakes import LARGE, SMALL, FakeDataSet, open_log
from protocols import OpenAIResponses

from mmneedle import runner
from mmneedle.adapters import create
from mmneedle.adapters.batches import Limits
from mmneedle.batching import batch_api
from mmneedle.batching.log import BatchLog, open_batches
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.types import sample_id

DATA = FakeDataSet(small=20, large=4)
ALL = {sample_id(SMALL, i) for i in range(20)} | {sample_id(LARGE, i) for i in range(4)}
CREATE = (
    "POST /v1/batches",
    "POST /v1/messages/batches",
    "POST /v1/models/*",
)


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.provider)
def server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BatchServer]:
    for kind in SERVERS:
        monkeypatch.setenv(kind.variable, KEY)
    with request.param() as server:
        yield server
        assert not server.wrongs


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIBatchServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIBatchServer() as server:
        assert isinstance(server, OpenAIBatchServer)
        yield server
        assert not server.wrongs


def number(ask: Ask) -> int:
    """The index of the sample that a request asks about."""
    return int(ask.prompt[-6:])


def made(server: BatchServer) -> int:
    """How many batches came into being."""
    return len(server.made)


def is_look(call: Call) -> bool:
    return call.method == "GET" and "batch" in call.path


# --------------------------------------------------------------------------- answers


def answers(folder: Path) -> dict[str, Any]:
    return {
        r.sample: (r.truth, r.request_sha256, r.response.status, r.response.text,
                   r.response.stop_reason, r.response.model, r.response.usage)
        for r in records(folder)
    }  # fmt: skip


def test_the_answers_are_those_of_a_direct_run(server: BatchServer, tmp_path: Path) -> None:
    adapter = create(f"{server.provider}/m", base_url=server.url)
    with ApiServer(server.protocol, lambda ask: ask.answer(f"seen {ask.prompt}")) as direct:
        adapter = create(f"{server.provider}/m", base_url=direct.url)
        with open_log(tmp_path / "direct", DATA, adapter) as log:
            runner.run(PictureTask(), DATA, adapter, log)
    summary = run(server, tmp_path / "batch", DATA)
    assert str(summary).startswith("24 of 24 samples answered, 24 requests in ")
    assert answers(tmp_path / "batch") == answers(tmp_path / "direct")
    for record in records(tmp_path / "batch"):
        assert record.response.latency is None
        assert record.response.batch and record.response.batch.endswith("batch_1")
    assert not any(r.response.batch for r in records(tmp_path / "direct"))
    assert server.asked == Counter(ALL)
    orders = {ask.order for made in server.made for _, ask, _ in made.outcomes}
    assert orders == {"it", "iiit"}


def test_a_direct_run_goes_on_by_batch_and_back(server: BatchServer, tmp_path: Path) -> None:
    script = server.script
    server.script = lambda ask: ask.answer() if number(ask) % 3 else ask.failure(500, "broken")
    run(server, tmp_path, DATA, plan={SMALL.name: (0, 10)}, max_attempts=1)
    with ApiServer(server.protocol, script) as direct:
        adapter = create(f"{server.provider}/m", base_url=direct.url)
        with open_log(tmp_path, DATA, adapter, plan={SMALL.name: (0, 15)}) as log:
            assert not runner.run(PictureTask(), DATA, adapter, log).missing
    # 0, 3, 6 and 9 failed in the batch
    assert {int(name[-6:]) for name in direct.asked} == {0, 3, 6, 9, 10, 11, 12, 13, 14}
    before = server.asked.copy()
    server.script = script
    assert run(server, tmp_path, DATA).sent == 9
    assert server.asked - before == Counter(ALL - {sample_id(SMALL, i) for i in range(15)})
    assert finished(tmp_path) == Counter(ALL)


def test_the_responses_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIBatchServer(protocol=OpenAIResponses()) as server:
        adapter = create("openai/m?api=responses", base_url=server.url)
        with open_log(tmp_path, DATA, adapter) as log:
            from mmneedle import batching

            summary = batching.run(PictureTask(), DATA, adapter, batch_api(adapter), log, **FAST)
        assert not summary.missing
        assert server.made[0].extra["endpoint"] == "/v1/responses"
        assert not server.wrongs
    assert finished(tmp_path) == Counter(ALL)


# --------------------------------------------------------------------------- within a batch


def test_what_may_become_of_a_request(server: BatchServer, tmp_path: Path) -> None:
    def script(ask: Ask) -> Reply:
        first = made(server) == 0
        return {
            0: ask.failure(400, "that is no request"),
            1: ask.failure(500, "broken") if first else ask.answer("mended"),
            2: ask.failure(429, "too many") if first else ask.answer("mended"),
            3: LOSE if first else ask.answer("found"),
            4: ask.failure(400, "image cannot be read"),
        }.get(number(ask), ask.answer("fine"))

    server.script = script
    summary = run(server, tmp_path, DATA, plan={SMALL.name: (0, 20)})
    assert statuses(tmp_path, SMALL, 0) == ["bad_request"]
    assert statuses(tmp_path, SMALL, 1) == ["server_error", "ok"]
    assert statuses(tmp_path, SMALL, 2) == ["rate_limited", "ok"]
    assert statuses(tmp_path, SMALL, 3) == ["server_error", "ok"]
    assert statuses(tmp_path, SMALL, 4) == ["image_rejected"]
    assert statuses(tmp_path, SMALL, 5) == ["ok"]
    assert (summary.asked, summary.answered, made(server)) == (20, 18, 2)
    assert "rejected requests are asked again with --retry-failed" in str(summary)
    attempts = {r.sample: r.attempt for r in records(tmp_path)}
    assert attempts[sample_id(SMALL, 3)] == 2
    # Only on demand, and once.
    assert run(server, tmp_path, DATA, plan={SMALL.name: (0, 20)}).sent == 0
    again = run(server, tmp_path, DATA, plan={SMALL.name: (0, 20)}, retry_failed=True)
    assert (again.sent, again.missing) == (2, 2)
    server.script = lambda ask: ask.answer("at last")
    assert not run(server, tmp_path, DATA, plan={SMALL.name: (0, 20)}, retry_failed=True).missing


def test_expired_requests_are_asked_again(server: BatchServer, tmp_path: Path) -> None:
    server.script = lambda ask: ask.answer() if made(server) or number(ask) % 2 else EXPIRE
    summary = run(server, tmp_path, DATA)
    assert not summary.missing
    assert finished(tmp_path) == Counter(ALL)
    assert statuses(tmp_path, SMALL, 2) == ["timeout", "ok"]
    if server.provider != "google":  # whose expired batches have no results at all
        assert statuses(tmp_path, SMALL, 1) == ["ok"]
        assert server.asked == Counter(ALL)


def test_results_out_of_order_twice_strange_and_damaged(
    server: BatchServer, tmp_path: Path
) -> None:
    def arrange(lines: list[bytes]) -> list[bytes]:
        key = "key" if server.provider == "google" else "custom_id"
        other = json.loads(lines[0]) | {key: "0123456789abcdef_n1-g2x2-k1-000000"}
        unknown = json.loads(lines[0])
        unknown[key] = unknown[key].replace("000000", "000999")
        more = [
            json.dumps(other).encode(),
            json.dumps(unknown).encode(),
            b'{"half": ',
            b"\xff",
            b"",
        ]
        return [*more, *lines[::-1], *lines]

    server.arrange = arrange
    summary = run(server, tmp_path, DATA)
    assert finished(tmp_path) == Counter(ALL)
    assert {r.response.text for r in records(tmp_path)} == {f"seen {name}" for name in ALL}
    assert len(records(tmp_path)) == 24
    assert "2 results of the batches belong to no sample and were left out" in str(summary)


def test_a_download_that_was_cut_short_is_repeated(server: BatchServer, tmp_path: Path) -> None:
    cuts = iter([5, 9])
    server.arrange = lambda lines: lines[: next(cuts, 99)]
    assert not run(server, tmp_path, DATA).missing
    assert finished(tmp_path) == Counter(ALL)
    assert len(records(tmp_path)) == 24
    assert server.asked == Counter(ALL)


def test_a_wrong_key_within_a_batch_stops_the_run(server: BatchServer, tmp_path: Path) -> None:
    server.script = lambda ask: (
        ask.failure(403, "no permission") if number(ask) == 3 else ask.answer()
    )
    with pytest.raises(UserError, match="no permission"):
        run(server, tmp_path, DATA)
    assert len(finished(tmp_path)) == len(records(tmp_path)) == 22
    server.script = lambda ask: ask.answer()
    assert not run(server, tmp_path, DATA).missing
    assert finished(tmp_path) == Counter(ALL)


# --------------------------------------------------------------------------- sizes


def test_many_requests_are_several_batches(server: BatchServer, tmp_path: Path) -> None:
    assert not run(server, tmp_path, DATA, limits=Limits(7, 10**9)).missing
    assert [len(each.keys) for each in server.made] == [7, 7, 7, 3]
    assert server.asked == Counter(ALL)


def test_many_bytes_are_several_batches(server: BatchServer, tmp_path: Path) -> None:
    adapter = create(f"{server.provider}/m", base_url=server.url)
    samples = DATA.samples(SMALL, 0, 1)
    line = batch_api(adapter).line("0" * 16 + "_n1-g2x2-k1-000000",
                                   PictureTask().request(next(samples)))  # fmt: skip
    limits = Limits(1000, 3 * (len(line) + 1))
    summary = run(server, tmp_path, DATA, plan={SMALL.name: (0, 20), LARGE.name: (0, 1)},
                  limits=limits)  # fmt: skip
    assert [len(each.keys) for each in server.made] == [3, 3, 3, 3, 3, 3, 2, 1]
    assert not summary.missing
    # One that fits into no batch is told so, and is in nobody's way.
    limits = Limits(1000, len(line) + 1)
    summary = run(server, tmp_path, DATA, plan={LARGE.name: (1, 3)}, limits=limits)
    assert summary.by_status == {"too_long": 2}
    assert f"a batch of this provider {len(line) + 1} at most" in str(summary)


def test_a_plan_in_shards_and_parts(server: BatchServer, tmp_path: Path) -> None:
    for part in (1, 2):
        summary = run(server, tmp_path / str(part), DATA, plan={SMALL.name: (0, 10)},
                      shard=(part, 2))  # fmt: skip
        assert not summary.missing
    assert server.asked == Counter(sample_id(SMALL, index) for index in range(10))


# --------------------------------------------------------------------------- on the way


def test_errors_while_looking_are_borne(server: BatchServer, tmp_path: Path) -> None:
    replies = [
        server.error(429, "slow down", retry_after="0"),
        server.error(500, "broken"),
        HANG_UP,
        server.error(503, "overloaded"),
        Reply(502, b"<html>bad gateway"),
    ]
    troubles: dict[str, list[Reply]] = {}

    def fault(call: Call) -> Reply | None:
        if call.method != "GET":
            return None
        left = troubles.setdefault(call.kind, list(replies))
        return left.pop() if left else None

    server.fault = fault
    assert not run(server, tmp_path, DATA).missing
    assert len(troubles) >= 2 and not any(troubles.values())
    assert server.asked == Counter(ALL)
    assert len(records(tmp_path)) == 24


def test_a_provider_that_is_away_for_too_long(server: BatchServer, tmp_path: Path) -> None:
    server.fault = lambda call: server.error(500, "broken") if call.method == "GET" else None
    summary = run(server, tmp_path, DATA, patience=0.1)
    assert "given up: server_error: " in str(summary)
    assert "1 batch goes on at the provider (" in str(summary)
    assert "the same command collects them" in str(summary)
    server.fault = lambda call: None
    assert not run(server, tmp_path, DATA).missing
    assert server.asked == Counter(ALL)


@pytest.mark.parametrize("which", ["any", "looks"])
def test_a_wrong_key(server: BatchServer, tmp_path: Path, which: str) -> None:
    if which == "looks":
        server.held = True
        run(server, tmp_path, DATA, wait=False)
    server.fault = lambda call: server.error(401, f"wrong key {KEY}")
    with pytest.raises(UserError, match="wrong key") as caught:
        run(server, tmp_path, DATA)
    assert str(caught.value).startswith(f"{server.provider}/m: ")
    assert KEY not in str(caught.value) + (tmp_path / "batches.jsonl").read_text()
    assert not records(tmp_path)
    server.fault, server.held = (lambda call: None), False
    assert not run(server, tmp_path, DATA).missing
    assert server.asked == Counter(ALL)


@pytest.mark.parametrize("trouble", [HANG_UP, Reply(500, b"broken")])
def test_the_reply_to_a_submission_is_lost(
    server: BatchServer, tmp_path: Path, trouble: Reply
) -> None:
    server.looks = 5  # so that Anthropic's is not known at once
    server.after = lambda call: trouble if call.kind in CREATE and call.nth == 1 else None
    assert not run(server, tmp_path, DATA).missing
    assert made(server) == 1
    assert server.asked == Counter(ALL)


def test_a_submission_that_did_not_arrive_is_repeated(server: BatchServer, tmp_path: Path) -> None:
    server.fault = lambda call: HANG_UP if call.kind in CREATE and call.nth <= 3 else None
    assert not run(server, tmp_path, DATA).missing
    assert made(server) == 1
    assert len(server.files) <= 1  # what was uploaded is used
    assert [event["event"] for event in events(tmp_path)] == ["prepared", "submitted", "collected"]


def test_others_batches_are_not_taken_for_ours(server: BatchServer, tmp_path: Path) -> None:
    """A batch with as many requests, made at the same time by another run."""
    run(server, tmp_path / "other", DATA)
    server.held = True
    run(server, tmp_path / "third", DATA, wait=False)
    server.after = lambda call: HANG_UP if call.kind in CREATE and call.nth == 3 else None
    server.looks = 4

    def fault(call: Call) -> None:
        server.held = server.calls.total() < 20

    server.fault = fault
    assert not run(server, tmp_path / "ours", DATA).missing
    assert made(server) == 3
    assert {r.response.batch and r.response.batch[-1] for r in records(tmp_path / "ours")} == {"3"}


def events(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "batches.jsonl").read_text().splitlines()]


def test_results_that_are_lost_are_asked_again_once(server: BatchServer, tmp_path: Path) -> None:
    server.lose_results = True
    summary = run(server, tmp_path, DATA)
    assert summary.by_status == {"server_error": 24}
    assert made(server) == 2  # and not six times, at the full price
    assert "given up after 2 batches in a row without an answer" in str(summary)
    server.lose_results = False
    assert not run(server, tmp_path, DATA).missing
    assert finished(tmp_path) == Counter(ALL)


# --------------------------------------------------------------------------- refused as a whole


def test_a_batch_that_is_refused_as_a_whole(server: BatchServer, tmp_path: Path) -> None:
    error = {"code": "invalid_endpoint", "message": "no batches for this model"}
    if server.provider == "google":
        error["code"] = 3  # type: ignore[assignment]
    server.refuse = lambda asks: [error]
    with pytest.raises(UserError, match="no batches for this model"):
        run(server, tmp_path, DATA)
    assert not records(tmp_path)
    assert not open_batches(tmp_path)
    server.refuse = lambda asks: []
    assert not run(server, tmp_path, DATA).missing


def test_lines_that_are_refused(openai: OpenAIBatchServer, tmp_path: Path) -> None:
    def refuse(asks: list[Ask]) -> list[dict[str, Any]]:
        return [
            {"code": "invalid_request", "line": line, "message": "unknown parameter"}
            for line, ask in enumerate(asks, 1)
            if number(ask) == 5
        ]

    openai.refuse = refuse
    summary = run(openai, tmp_path, DATA, plan={SMALL.name: (0, 20)})
    assert summary.by_status == {"ok": 19, "bad_request": 1}
    assert made(openai) == 2
    assert statuses(tmp_path, SMALL, 5) == ["bad_request"]
    again = run(openai, tmp_path, DATA, plan={SMALL.name: (0, 20)}, retry_failed=True)
    assert (again.sent, again.missing, made(openai)) == (1, 1, 3)


def test_no_such_model(openai: OpenAIBatchServer, tmp_path: Path) -> None:
    error = {"code": "model_not_found", "line": 1, "message": "The model `m` does not exist."}
    openai.refuse = lambda asks: [error]
    with pytest.raises(UserError, match="The model `m` does not exist"):
        run(openai, tmp_path, DATA)
    assert not records(tmp_path)


def test_more_tokens_than_may_wait(openai: OpenAIBatchServer, tmp_path: Path) -> None:
    """OpenAI lets so many tokens wait; a batch that goes beyond fails a while after it was made."""

    def refuse(asks: list[Ask]) -> list[dict[str, Any]]:
        waiting = sum(len(made.keys) for made in openai.made if made.state == "running")
        error = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit"}
        return [error] if waiting + len(asks) > 5 else []

    openai.refuse = refuse
    openai.looks = 3
    assert not run(openai, tmp_path, DATA).missing
    assert openai.asked == Counter(ALL)
    sizes = [len(made.keys) for made in openai.made if made.state == "ended"]
    assert sum(sizes) == 24 and max(sizes) <= 5


def test_nothing_may_wait_at_all(openai: OpenAIBatchServer, tmp_path: Path) -> None:
    error = {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit"}
    openai.refuse = lambda asks: [error]
    summary = run(openai, tmp_path, DATA, patience=0.3)
    assert "given up: rate_limited: token_limit_exceeded: Enqueued token limit" in str(summary)
    sizes = [len(each.keys) for each in openai.made]
    assert sizes[0] == 24 and sizes[-1] <= 12
    assert sizes == sorted(sizes, reverse=True)
    assert not records(tmp_path)
    openai.refuse = lambda asks: []
    assert not run(openai, tmp_path, DATA).missing


def test_too_many_batches_at_once(server: BatchServer, tmp_path: Path) -> None:
    server.looks = 3

    def fault(call: Call) -> Reply | None:
        running = sum(made.state == "running" for made in server.made)
        full = call.kind in CREATE and running >= 2
        return server.error(429, "too many batches", retry_after="0") if full else None

    server.fault = fault
    assert not run(server, tmp_path, DATA, limits=Limits(5, 10**9)).missing
    assert server.asked == Counter(ALL)


def test_a_body_that_is_too_large(server: BatchServer, tmp_path: Path) -> None:
    def fault(call: Call) -> Reply | None:
        size = call.headers.get("x-goog-upload-header-content-length", len(call.content))
        large = call.method == "POST" and int(size) > 20_000
        return server.error(413, "too large") if large else None

    server.fault = fault
    assert not run(server, tmp_path, DATA).missing
    assert made(server) > 1
    assert server.asked == Counter(ALL)


# --------------------------------------------------------------------------- leaving


def test_submit_and_leave(server: BatchServer, tmp_path: Path) -> None:
    server.held = True
    summary = run(server, tmp_path, DATA, wait=False)
    assert (summary.missing, summary.sent, summary.submitted) == (24, 0, 24)
    assert "submitted, not waited for; 1 batch goes on at the provider (" in str(summary)
    assert run(server, tmp_path, DATA, wait=False).submitted == 24
    assert made(server) == 1
    # Others of the plan may be asked meanwhile, and a part of it may collect all.
    server.held = False
    summary = run(server, tmp_path, DATA, plan={SMALL.name: (0, 2)})
    assert (summary.asked, summary.answered) == (2, 2)
    assert finished(tmp_path) == Counter(ALL) == server.asked


def test_cancelled_at_the_provider(server: BatchServer, tmp_path: Path) -> None:
    server.script = lambda ask: CANCEL if number(ask) > 1 else ask.answer()

    def fault(call: Call) -> None:
        for each in server.made:
            each.state = "cancelled"

    server.fault = fault
    summary = run(server, tmp_path, DATA)
    assert made(server) == 1  # whoever cancelled it does not want it made anew at once
    assert "was cancelled at the provider; the same command goes on from here" in str(summary)
    assert statuses(tmp_path, SMALL, 5) == ["server_error"]
    server.fault, server.script = (lambda call: None), (lambda ask: ask.answer())
    assert not run(server, tmp_path, DATA).missing


def test_cancel(server: BatchServer, tmp_path: Path) -> None:
    server.held = True
    run(server, tmp_path, DATA, wait=False, limits=Limits(16, 10**9))
    server.made[0].state = "ended"
    summary = run(server, tmp_path, DATA, cancel=True)
    assert [each.state for each in server.made] == ["ended", "cancelled"]
    assert summary.answered == 16
    assert "cancelled by hand; the same command goes on from here" in str(summary)
    assert not open_batches(tmp_path)
    server.held = False
    assert not run(server, tmp_path, DATA).missing


def test_a_batch_that_the_provider_does_not_know(server: BatchServer, tmp_path: Path) -> None:
    server.held = True
    run(server, tmp_path, DATA, wait=False)
    server.made.clear()
    with pytest.raises(UserError, match=r"another key or project.*--batch-cancel gives it up"):
        run(server, tmp_path, DATA)
    assert len(open_batches(tmp_path)) == 1
    summary = run(server, tmp_path, DATA, cancel=True)
    assert summary.by_status == {"server_error": 24}
    server.held = False
    assert not run(server, tmp_path, DATA).missing


# --------------------------------------------------------------------------- on disk


def test_a_full_disk_and_room_again(
    openai: OpenAIBatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with disk(tmp_path / "disk", disks.SMALL) as small:
        (small / "filler").write_bytes(b"x" * 30_000)
        with pytest.raises(UserError, match=r"cannot be written .No space left on device."):
            run(openai, small / "run", DATA)
        assert not list((small / "run" / "batches").iterdir())
        (small / "filler").unlink()
        assert not run(openai, small / "run", DATA, limits=Limits(10, 10**9)).missing
        assert openai.asked == Counter(ALL)


def test_the_log_of_batches_is_read_strictly(openai: OpenAIBatchServer, tmp_path: Path) -> None:
    openai.held = True
    run(openai, tmp_path, DATA, wait=False)
    path = tmp_path / "batches.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"coll')  # its writer was killed
    (tmp_path / "batches" / "0123456789abcdef.requests").write_bytes(b"never sent")
    header = Run.open(tmp_path).header
    with BatchLog(tmp_path, header) as log:
        assert [each.batch for each in log.open.values()] == ["batch_1"]
    assert path.read_bytes() == whole
    assert [each.suffix for each in (tmp_path / "batches").iterdir()] == [".records"]
    for damage in (b"what\n", b'{"event":"collected","token":"f","at":""}\n'):
        path.write_bytes(whole + damage)
        with pytest.raises(UserError, match=r"batches.jsonl: line 3 is damaged"):
            BatchLog(tmp_path, header)
        with pytest.raises(UserError, match=r"batches.jsonl: line 3 is damaged"):
            open_batches(tmp_path)
    path.write_bytes(whole)
    kept = next((tmp_path / "batches").iterdir())
    lines = kept.read_bytes().splitlines(keepends=True)
    for fewer in (lines[:-1], []):
        kept.write_bytes(b"".join(fewer))
        with pytest.raises(UserError, match=f"holds {len(fewer)} records of {len(lines)}"):
            run(openai, tmp_path, DATA)
    for damage in (
        b"{}\n",
        lines[0].replace(b"000000", b"000099", 1),
        lines[0].replace(b"n1-g2x2-k1", b"n3-g2x2-k1", 1),
        lines[0].replace(b"n1-g2x2-k1", b"photo", 1),
    ):
        kept.write_bytes(b"".join([damage, *lines[1:]]))
        with pytest.raises(UserError, match="records: is damaged") as caught:
            run(openai, tmp_path, DATA)
        assert "\n" not in str(caught.value)
    kept.write_bytes(b"".join(lines))
    openai.held = False
    assert not run(openai, tmp_path, DATA).missing


def test_what_the_file_at_anthropic_looks_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lines become a JSON array on the way, whatever is in them."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    bodies: list[bytes] = []
    with AnthropicBatchServer() as server:
        server.fault = lambda call: bodies.append(call.content) if call.content else None
        run(server, tmp_path, DATA, plan={SMALL.name: (0, 3)})
    items = json.loads(bodies[0])["requests"]
    assert [item["custom_id"].partition("_")[2] for item in items] == [
        sample_id(SMALL, index) for index in range(3)
    ]
