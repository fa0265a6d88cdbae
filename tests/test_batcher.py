"""Requests that come one by one, answered in batches; the engine is a function."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from fakes import SMALL, FakeTask, fake_sample

from mmneedle.adapters.batcher import Batcher
from mmneedle.errors import UserError
from mmneedle.types import Request, Response


class Item(NamedTuple):
    name: str
    kind: object


class Machine:
    """Answers with the sample's id; notes every batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.failing: set[str] = set()
        self.hold: threading.Event | None = None

    def encode(self, request: Request) -> Item | Response:
        name = request.sample.id
        if name.endswith("99"):
            return Response("too_long", error=name)
        return Item(name, int(name[-2:]) // 50)

    def collate(self, items: Sequence[Item]) -> list[Item]:
        self.threads.add(threading.current_thread().name)
        return list(items)

    def run(self, items: list[Item]) -> list[Response]:
        self.threads.add(threading.current_thread().name)
        if self.hold is not None:
            self.hold.wait(30)
        self.batches.append([item.name for item in items])
        if self.failing & {item.name for item in items}:
            raise UserError("no memory")
        return [Response("ok", item.name) for item in items]


def request(index: int) -> Request:
    return FakeTask().request(fake_sample(SMALL, index))


def gather(machine: Machine, indices: Sequence[int], size: int = 4) -> list[Any]:
    async def main() -> list[Any]:
        batcher = Batcher(machine.encode, machine.collate, machine.run, size=size, threads=2)
        try:
            return await asyncio.gather(
                *(batcher.submit(request(index)) for index in indices), return_exceptions=True
            )
        finally:
            await batcher.aclose()

    return asyncio.run(main())


def test_each_gets_its_own_answer_and_batches_are_full() -> None:
    machine = Machine()
    answers = gather(machine, range(10))
    assert [answer.text for answer in answers] == [request(index).sample.id for index in range(10)]
    assert sorted(map(len, machine.batches), reverse=True) == [4, 4, 2]
    assert machine.threads == {"collate_0", "engine_0"}


def test_kinds_are_not_mixed() -> None:
    machine = Machine()
    gather(machine, [0, 50, 1, 51, 2, 52])
    assert sorted(map(len, machine.batches)) == [3, 3]
    for batch in machine.batches:
        assert len({int(name[-2:]) // 50 for name in batch}) == 1


def test_what_is_refused_when_encoded_reaches_no_batch() -> None:
    machine = Machine()
    answers = gather(machine, [99, 1])
    assert [answer.status for answer in answers] == ["too_long", "ok"]
    assert [len(batch) for batch in machine.batches] == [1]


def test_an_error_is_told_to_its_batch_and_the_others_go_on() -> None:
    machine = Machine()
    machine.failing = {request(0).sample.id}
    answers = gather(machine, range(5), size=1)
    assert isinstance(answers[0], UserError)
    assert [answer.text for answer in answers[1:]] == [request(i).sample.id for i in range(1, 5)]


def test_who_was_cancelled_is_left_out_and_the_loop_is_free_meanwhile() -> None:
    machine = Machine()
    machine.hold = threading.Event()

    async def main() -> list[Any]:
        batcher = Batcher(machine.encode, machine.collate, machine.run, size=2, threads=1)
        tasks = [asyncio.create_task(batcher.submit(request(index))) for index in range(8)]
        while not {"engine_0"} & machine.threads:
            await asyncio.sleep(0.001)  # the loop turns while the engine is held
        for task in tasks[4:6]:
            task.cancel()
        assert machine.hold is not None
        machine.hold.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.aclose()
        return answers

    answers = asyncio.run(main())
    assert [isinstance(answer, Response) for answer in answers] == [True] * 4 + [False] * 2 + [
        True
    ] * 2
    asked = {name for batch in machine.batches for name in batch}
    assert not asked & {request(4).sample.id, request(5).sample.id}


def test_closing_waits_for_the_engine_and_begins_nothing() -> None:
    machine = Machine()
    machine.hold = threading.Event()

    async def main() -> None:
        batcher = Batcher(machine.encode, machine.collate, machine.run, size=1, threads=1)
        tasks = [asyncio.create_task(batcher.submit(request(index))) for index in range(6)]
        while not {"engine_0"} & machine.threads:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        closing = asyncio.create_task(batcher.aclose())
        await asyncio.sleep(0.01)
        assert machine.hold is not None and not closing.done()
        machine.hold.set()
        await closing

    asyncio.run(main())
    assert len(machine.batches) <= 2  # the one that ran, and one that was ready


@pytest.mark.parametrize("size", [1, 3, 16])
def test_any_size_answers_everything(size: int) -> None:
    machine = Machine()
    answers = gather(machine, range(30), size)
    assert [answer.status for answer in answers] == ["ok"] * 30
    assert max(map(len, machine.batches)) <= size
