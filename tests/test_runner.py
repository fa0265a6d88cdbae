import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    LARGE,
    SMALL,
    FakeAdapter,
    FakeDataSet,
    FakeTask,
    fake_sample,
    open_log,
)

from mmneedle import runner
from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.pacing import Backoff
from mmneedle.runlog import Run, request_digest
from mmneedle.runner import Evaluation, RunSummary, evaluate, run
from mmneedle.types import Request, Response, Sample, Setting, Usage, sample_id

DATA = FakeDataSet(small=20, large=6)
FAST = Backoff(0.001, 0.01)
OK = Response("ok", "-1")


def go(folder: Path, adapter: Any, data: FakeDataSet = DATA, **options: Any) -> RunSummary:
    plan = {key: options.pop(key) for key in ("plan", "shard") if key in options}
    with open_log(folder, data, adapter, **plan) as log:
        options.setdefault("backoff", FAST)
        return run(FakeTask(), data, adapter, log, **options)


def test_every_sample_is_asked_once_and_a_second_command_asks_none(tmp_path: Path) -> None:
    adapter = FakeAdapter()
    summary = go(tmp_path, adapter)
    assert (summary.asked, summary.answered, summary.missing, summary.sent) == (26, 26, 0, 26)
    assert summary.by_status == {"ok": 26}
    assert adapter.closed
    expected = {sample_id(SMALL, i) for i in range(20)} | {sample_id(LARGE, i) for i in range(6)}
    assert adapter.asked == dict.fromkeys(expected, 1)
    again = FakeAdapter()
    summary = go(tmp_path, again)
    assert (summary.asked, summary.answered, summary.sent, again.asked) == (26, 26, 0, {})


def test_a_line_holds_the_truth_and_the_digest_of_what_was_sent(tmp_path: Path) -> None:
    sent: dict[str, Request] = {}

    def answer(request: Request, attempt: int) -> Response:
        sent[request.sample.id] = request
        return Response("ok", request.prompt)

    go(tmp_path, FakeAdapter(answer))
    for record in Run.open(tmp_path).outcomes():
        request = sent[record.sample]
        assert record.truth == request.sample.truth
        assert record.request_sha256 == request_digest(request)
        assert len(request.images) == request.sample.setting.images
        assert record.response.text == record.sample


def test_without_images_there_is_no_digest(tmp_path: Path) -> None:
    assert go(tmp_path, create("baseline/oracle")).missing == 0
    assert {record.request_sha256 for record in Run.open(tmp_path).outcomes()} == {None}


def test_plans_and_shards_are_kept_to(tmp_path: Path) -> None:
    adapter = FakeAdapter()
    plan = {SMALL.name: (3, 13)}
    for part in (1, 2, 3):
        summary = go(tmp_path / str(part), adapter, plan=plan, shard=(part, 3))
        assert summary.missing == 0
        assert summary.asked == sum(i // 2 % 3 == part - 1 for i in range(3, 13))
    assert adapter.asked == {sample_id(SMALL, i): 1 for i in range(3, 13)}


def test_a_smaller_plan_on_a_larger_run_asks_only_its_own(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("bad_request", error="no"))
    go(tmp_path, adapter, plan={SMALL.name: (0, 2)})
    go(tmp_path, FakeAdapter(), plan={SMALL.name: (2, 6)})
    third = FakeAdapter()
    summary = go(tmp_path, third, plan={SMALL.name: (0, 4)}, retry_failed=True)
    assert (summary.asked, summary.answered) == (4, 4)
    assert set(third.asked) == {sample_id(SMALL, 0), sample_id(SMALL, 1)}


def test_no_more_are_under_way_than_asked_for(tmp_path: Path) -> None:
    async def later(request: Request, attempt: int) -> Response:
        await asyncio.sleep(0.002)
        return OK

    adapter = FakeAdapter(later)
    go(tmp_path, adapter, max_connections=5)
    assert adapter.most_at_once == 5


def test_requests_are_built_only_when_they_may_be_sent(tmp_path: Path) -> None:
    class Task(FakeTask):
        made = 0

        def request(self, sample: Sample, *, with_images: bool = True) -> Request:
            self.made += 1
            return super().request(sample, with_images=with_images)

    async def later(request: Request, attempt: int) -> Response:
        ahead.append(task.made - len(adapter.asked))
        await asyncio.sleep(0.001)
        return OK

    ahead: list[int] = []
    task, adapter = Task(), FakeAdapter(later)
    with open_log(tmp_path, DATA, adapter) as log:
        run(task, DATA, adapter, log, max_connections=3)
    assert max(ahead) == 0


# --------------------------------------------------------------------------- retries


@pytest.mark.parametrize("status", ["rate_limited", "timeout", "server_error"])
def test_infrastructure_errors_are_tried_again_and_every_attempt_is_a_line(
    tmp_path: Path, status: Any
) -> None:
    def answer(request: Request, attempt: int) -> Response:
        return OK if attempt == 3 else Response(status, error="later")

    summary = go(tmp_path, FakeAdapter(answer), plan={SMALL.name: (0, 4)})
    assert (summary.answered, summary.sent, summary.by_status) == (4, 12, {"ok": 4})
    lines = [(r.sample, r.attempt, r.response.status) for r in Run.open(tmp_path).records()]
    assert Counter(lines) == {
        (sample_id(SMALL, i), n, s): 1
        for i in range(4)
        for n, s in ((1, status), (2, status), (3, "ok"))
    }


@pytest.mark.parametrize(
    "status", ["ok", "refused", "truncated", "empty", "too_long", "image_rejected", "bad_request"]
)
def test_nothing_else_is(tmp_path: Path, status: Any) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response(status))
    summary = go(tmp_path, adapter, plan={SMALL.name: (0, 4)})
    assert set(adapter.asked.values()) == {1}
    assert summary.by_status == {status: 4}
    answered = status in ("ok", "refused", "truncated", "empty")
    assert summary.missing == (0 if answered else 4)
    again = FakeAdapter()
    assert go(tmp_path, again, plan={SMALL.name: (0, 4)}).sent == 0
    summary = go(tmp_path, again, plan={SMALL.name: (0, 4)}, retry_failed=True)
    assert summary.sent == (0 if answered else 4)
    assert summary.missing == 0


def test_what_still_fails_is_missing_and_asked_again_next_time(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("server_error", error="down"))
    summary = go(tmp_path, adapter, plan={SMALL.name: (0, 3)}, max_attempts=4)
    assert set(adapter.asked.values()) == {4}
    assert (summary.missing, summary.by_status) == (3, {"server_error": 3})
    assert str(summary).startswith("0 of 3 samples answered (3 server_error), 12 requests in ")
    [*outcomes] = Run.open(tmp_path).outcomes()
    assert [(r.attempt, r.response.error) for r in outcomes] == [(4, "down")] * 3
    summary = go(tmp_path, FakeAdapter(), plan={SMALL.name: (0, 3)})
    assert (summary.missing, summary.by_status) == (0, {"ok": 3})


def test_a_hung_request_ends_as_timeout(tmp_path: Path) -> None:
    async def hang(request: Request, attempt: int) -> Response:
        if attempt == 1:
            await asyncio.sleep(3600)
        return OK

    summary = go(tmp_path, FakeAdapter(hang), plan={SMALL.name: (0, 2)}, timeout=0.05)
    assert summary.answered == 2
    first = [r for r in Run.open(tmp_path).records() if r.attempt == 1]
    assert [r.response.status for r in first] == ["timeout"] * 2
    assert first[0].response.error == "no reply within 0.05 seconds"


def test_the_deadline_ends_a_samples_attempts(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("timeout"))
    summary = go(
        tmp_path,
        adapter,
        plan={SMALL.name: (0, 1)},
        max_attempts=1000,
        deadline=0.2,
        backoff=Backoff(0.02, 0.02),
    )
    assert 1 <= summary.sent <= 21  # a wait is at least 10 ms


def test_retry_after_is_obeyed_by_everybody(tmp_path: Path) -> None:
    times: list[float] = []

    def answer(request: Request, attempt: int) -> Response:
        times.append(time.monotonic())
        return Response("rate_limited", retry_after=0.2) if len(times) == 1 else OK

    go(tmp_path, FakeAdapter(answer), max_connections=1)
    assert times[1] - times[0] >= 0.2
    times.clear()
    go(tmp_path / "many", FakeAdapter(answer), max_connections=4)
    assert sum(t - times[0] < 0.2 for t in times) <= 4  # the ones that were under way


def test_concurrency_adapts_to_a_provider_that_takes_only_a_few(tmp_path: Path) -> None:
    async def answer(request: Request, attempt: int) -> Response:
        if adapter.at_once > 4:
            return Response("rate_limited")
        await asyncio.sleep(0.005)
        return OK

    adapter = FakeAdapter(answer)
    data = FakeDataSet(small=300)
    summary = go(tmp_path, adapter, data, max_connections=64, max_attempts=100)
    assert summary.missing == 0
    # 60 of the first 64 are turned away; after that few, as the limit stays about where it works.
    assert summary.sent - 300 < 200


def test_requests_a_minute(tmp_path: Path) -> None:
    summary = go(tmp_path, FakeAdapter(), rpm=6000)
    assert summary.seconds >= 25 * 0.01


def test_tokens_a_minute(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("ok", "-1", usage=Usage(90, 10)))
    summary = go(tmp_path, adapter, tpm=600_000, max_connections=1)
    assert summary.seconds >= 24 * 0.01  # 100 tokens each, 10 a millisecond


# --------------------------------------------------------------------------- stopping


def test_a_wrong_key_stops_the_run_and_finishes_no_sample(tmp_path: Path) -> None:
    def answer(request: Request, attempt: int) -> Response:
        good = request.sample.id < sample_id(SMALL, 3)
        return OK if good else Response("auth", error="401 no such key")

    adapter = FakeAdapter(answer)
    with pytest.raises(UserError, match=r"^fake/model: 401 no such key$"):
        go(tmp_path, adapter, max_connections=1)
    assert len(adapter.asked) == 4
    assert [r.response.status for r in Run.open(tmp_path).records()] == ["ok"] * 3
    assert go(tmp_path, FakeAdapter()).missing == 0


def test_what_is_in_flight_when_a_run_is_stopped_is_still_taken_in(tmp_path: Path) -> None:
    async def answer(request: Request, attempt: int) -> Response:
        if request.sample.id == sample_id(SMALL, 0):
            await asyncio.sleep(0.01)
            return Response("auth", error="no credit left")
        await asyncio.sleep(0.05)
        return OK

    adapter = FakeAdapter(answer)
    with pytest.raises(UserError, match="no credit left"):
        go(tmp_path, adapter, max_connections=4)
    assert len(adapter.asked) == 4
    assert len(list(Run.open(tmp_path).records())) == 3


def test_an_adapters_bug_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    def answer(request: Request, attempt: int) -> Response:
        if request.sample.id == sample_id(SMALL, 5):
            raise KeyError("choices")
        return OK

    with pytest.raises(UserError, match=r"at sample n1-g2x2-k1-000005 with KeyError: 'choices'"):
        go(tmp_path, FakeAdapter(answer), max_connections=1)
    assert len(list(Run.open(tmp_path).records())) == 5


def test_a_timeout_of_the_adapters_own_is_a_bug_too(tmp_path: Path) -> None:
    def answer(request: Request, attempt: int) -> Response:
        raise TimeoutError("mine")

    with pytest.raises(UserError, match="TimeoutError: mine; this is a bug in the adapter"):
        go(tmp_path, FakeAdapter(answer))


def test_a_server_that_is_down_does_not_burn_the_plan(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("server_error", error="refused"))
    data = FakeDataSet(small=5000)
    summary = go(tmp_path, adapter, data, patience=0.2, max_connections=4)
    assert summary.stopped
    assert summary.stopped.startswith("given up after ")
    assert "server_error: refused" in summary.stopped
    assert summary.sent < 500
    assert summary.missing == 5000
    assert go(tmp_path, FakeAdapter(), data).missing == 0


def test_a_long_retry_after_ends_the_run(tmp_path: Path) -> None:
    adapter = FakeAdapter(lambda request, attempt: Response("rate_limited", retry_after=86400))
    summary = go(tmp_path, adapter)
    assert summary.stopped == "given up: the provider asks to wait 86400 s"


def test_a_full_log_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = FakeAdapter()
    with pytest.raises(UserError, match="disk full"), open_log(tmp_path, DATA, adapter) as log:
        log._broken = UserError("disk full")
        run(FakeTask(), DATA, adapter, log)
    assert len(adapter.asked) <= 16


def test_an_interrupted_run_gives_requests_in_flight_a_moment(tmp_path: Path) -> None:
    async def later(request: Request, attempt: int) -> Response:
        await asyncio.sleep(0.1)
        return OK

    async def main() -> RunSummary:
        with open_log(tmp_path, DATA, adapter) as log:
            evaluation = Evaluation(FakeTask(), DATA, adapter, log, max_connections=4)
            asyncio.get_running_loop().call_later(0.05, evaluation.interrupt)
            return await evaluation.run()

    adapter = FakeAdapter(later)
    summary = asyncio.run(main())
    assert (summary.answered, summary.sent) == (4, 4)
    assert str(summary).endswith("stopped by hand; the same command goes on from here")
    assert "22 not asked" in str(summary)
    assert go(tmp_path, FakeAdapter()).missing == 0


def test_interrupted_twice_it_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_GRACE", 3600.0)

    async def hang(request: Request, attempt: int) -> Response:
        await asyncio.sleep(3600)
        return OK

    async def main() -> RunSummary:
        with open_log(tmp_path, DATA, adapter) as log:
            evaluation = Evaluation(FakeTask(), DATA, adapter, log, max_connections=4)
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, evaluation.interrupt)
            loop.call_later(0.1, evaluation.interrupt)
            return await evaluation.run()

    adapter = FakeAdapter(hang)
    summary = asyncio.run(main())
    assert summary.sent == 0


def test_progress_is_told_of_each_sample(tmp_path: Path) -> None:
    seen: list[int] = []
    go(tmp_path, FakeAdapter(), progress=lambda summary: seen.append(summary.answered))
    assert sorted(seen)[-1] == 26
    assert len(seen) == 26


def test_evaluate_is_for_loops_that_run_already(tmp_path: Path) -> None:
    async def main() -> RunSummary:
        with open_log(tmp_path, DATA, adapter) as log:
            return await evaluate(FakeTask(), DATA, adapter, log)

    adapter = FakeAdapter()
    assert asyncio.run(main()).missing == 0
    assert not adapter.closed


def test_a_plan_without_samples_ends_at_once(tmp_path: Path) -> None:
    assert str(go(tmp_path, FakeAdapter(), plan={})).startswith("0 of 0 samples answered, 0 req")


def test_the_stream_is_read_as_it_is_needed(tmp_path: Path) -> None:
    class Counting(FakeDataSet):
        read = 0

        def samples(self, setting: Setting, start: int = 0, stop: int | None = None) -> Any:
            for index in range(start, stop or 0):
                self.read += 1
                yield fake_sample(setting, index)

    async def later(request: Request, attempt: int) -> Response:
        ahead.append(data.read - len(adapter.asked))
        await asyncio.sleep(0)
        return OK

    ahead: list[int] = []
    data, adapter = Counting(small=500), FakeAdapter(later)
    go(tmp_path, adapter, data, max_connections=4)
    assert max(ahead) <= 4
