"""Samples that share a haystack: in which order they are asked, and by which shard."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import SMALL, FakeAdapter, FakeDataSet, FakeTask, fake_sample, header, open_log
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.order import Order
from mmneedle.pacing import Backoff
from mmneedle.runlog import Run
from mmneedle.runner import RunSummary, run
from mmneedle.types import Request, Response, Sample, parse_sample_id, sample_id


class Recorder(FakeAdapter):
    """Keeps (sample's number, "begin" or "end") in the order in which it happened."""

    def __init__(self, shares_prefixes: bool = False, answer: object = None) -> None:
        super().__init__(answer or self._slowly)
        self.shares_prefixes = shares_prefixes
        self.events: list[tuple[int, str]] = []

    async def _slowly(self, request: Request, attempt: int) -> Response:
        # Some are slower than others, the same ones every time.
        await asyncio.sleep(0.002 * (1 + parse_sample_id(request.sample.id)[1] * 7 % 5))
        return Response("ok", "-1")

    async def generate(self, request: Request) -> Response:
        _, index = parse_sample_id(request.sample.id)
        self.events.append((index, "begin"))
        response = await super().generate(request)
        self.events.append((index, "end"))
        return response

    def when(self, index: int, what: str) -> int:
        return self.events.index((index, what))


def ask(folder: Path, data: FakeDataSet, adapter: FakeAdapter, **options: object) -> RunSummary:
    with open_log(folder, data, adapter) as log:
        options.setdefault("backoff", Backoff(0.001, 0.01))
        return run(FakeTask(), data, adapter, log, **options)


@pytest.mark.parametrize("connections", [1, 3, 8, 64])
def test_the_first_question_of_a_haystack_goes_ahead(tmp_path: Path, connections: int) -> None:
    adapter = Recorder()
    summary = ask(tmp_path, FakeDataSet(8, small=96), adapter, max_connections=connections)
    assert summary.answered == 96
    assert set(adapter.asked.values()) == {1}
    for first in range(0, 96, 8):
        others = range(first + 1, first + 8)
        assert all(adapter.when(i, "begin") > adapter.when(first, "end") for i in others)
    if connections <= 12:  # there are as many haystacks to begin with
        assert adapter.most_at_once == connections


def test_an_engine_with_a_prefix_cache_of_its_own_is_asked_at_once(tmp_path: Path) -> None:
    adapter = Recorder(shares_prefixes=True)
    ask(tmp_path, FakeDataSet(8, small=32), adapter, max_connections=8)
    assert adapter.events[:8] == [(i, "begin") for i in range(8)]
    assert [i for i, what in adapter.events if what == "begin"] == list(range(32))


def test_a_first_question_that_fails_holds_up_nobody(tmp_path: Path) -> None:
    def answer(request: Request, attempt: int) -> Response:
        _, index = parse_sample_id(request.sample.id)
        return Response("bad_request" if index == 0 else "server_error" if index == 8 else "ok")

    adapter = Recorder(answer=answer)
    summary = ask(tmp_path, FakeDataSet(8, small=24), adapter, max_connections=2, max_attempts=3)
    assert summary.by_status == {"ok": 22, "bad_request": 1, "server_error": 1}
    assert adapter.asked[sample_id(SMALL, 8)] == 3


def test_a_run_that_goes_on_sends_the_first_missing_one_ahead(tmp_path: Path) -> None:
    def answer(request: Request, attempt: int) -> Response:
        _, index = parse_sample_id(request.sample.id)
        return Response("ok" if index % 8 in (0, 5) else "server_error")

    data = FakeDataSet(8, small=24)
    ask(tmp_path, data, Recorder(answer=answer), max_attempts=1)
    again = Recorder()
    assert ask(tmp_path, data, again).sent == 18
    for first in (1, 9, 17):
        others = [i for i in range(first + 1, first + 7) if i % 8 != 5]
        assert all(again.when(i, "begin") > again.when(first, "end") for i in others)
    assert len(list(Run.open(tmp_path).outcomes())) == 24


def test_a_stop_while_others_wait_for_a_first_question(tmp_path: Path) -> None:
    async def answer(request: Request, attempt: int) -> Response:
        _, index = parse_sample_id(request.sample.id)
        await asyncio.sleep(0.02)
        return Response("rate_limited", retry_after=9e9) if index == 0 else Response("ok")

    adapter = Recorder(answer=answer)
    summary = ask(tmp_path, FakeDataSet(8, small=8), adapter, max_connections=8)
    assert summary.stopped
    assert (len(adapter.asked), summary.missing) == (1, 8)
    assert ask(tmp_path, FakeDataSet(8, small=8), Recorder()).missing == 0


@given(
    st.integers(0, 60), st.sampled_from([1, 2, 8]), st.integers(1, 9), st.randoms(), st.booleans()
)
def test_whatever_ends_first(
    count: int, questions: int, workers: int, chance: random.Random, together: bool
) -> None:
    """No worker waits while a haystack is left, few samples are held, each comes once."""
    read: list[Sample] = []

    def stream() -> Iterator[Sample]:
        for index in range(count):
            read.append(fake_sample(SMALL, index, questions))
            yield read[-1]

    async def main() -> None:
        order = Order(stream(), together=together)
        given: list[int] = []
        ended: set[int] = set()
        under_way: list[Sample] = []
        waiting: list[asyncio.Task[Sample | None]] = []
        for _ in range(workers):
            waiting.append(asyncio.create_task(order.take()))
        while waiting or under_way:
            for _ in range(3):
                await asyncio.sleep(0)
            for task in [task for task in waiting if task.done()]:
                waiting.remove(task)
                if sample := task.result():
                    _, index = parse_sample_id(sample.id)
                    first = index - index % questions
                    assert together or index == first or first in ended
                    given.append(index)
                    under_way.append(sample)
            assert not waiting or len(read) == count
            assert len(read) - len(given) <= workers * (questions - 1) + 1
            if under_way:
                sample = under_way.pop(chance.randrange(len(under_way)))
                ended.add(parse_sample_id(sample.id)[1])
                order.done(sample)
                waiting.append(asyncio.create_task(order.take()))
        assert sorted(given) == list(range(count))

    asyncio.run(main())


@given(
    st.sampled_from([1, 2, 4, 8, 10]),
    st.integers(1, 9),
    st.integers(0, 40),
    st.integers(1, 100),
)
def test_shards_keep_haystacks_whole_and_balanced(
    questions: int, parts: int, start: int, length: int
) -> None:
    data = FakeDataSet(questions, small=140)
    plan = {SMALL.name: (start, start + length)}
    shards = [
        header(data, FakeAdapter(), plan=plan, shard=(part + 1, parts)) for part in range(parts)
    ]
    of = {}
    for index in range(start, start + length):
        (of[index],) = (at for at, shard in enumerate(shards) if shard.includes(SMALL, index))
    for index in range(start, start + length - 1):
        together = index // max(questions, 2) == (index + 1) // max(questions, 2)
        assert not together or of[index] == of[index + 1]
    if start % max(questions, 2) == 0:
        whole = range(start, start + length - length % max(questions, 2))
        counts = Counter((of[index], index % 2) for index in whole)
        assert all(counts[part, 0] == counts[part, 1] for part in range(parts))
        total = Counter(of[index] for index in whole)
        sizes = [total[part] for part in range(parts)]
        assert max(sizes) - min(sizes) <= max(questions, 2)
    for shard in shards:
        for positive in (True, False):
            expected = sum(shard.includes(SMALL, i) and (i % 2 == 0) is positive for i in of)
            assert shard.asked(SMALL, positive) == expected
