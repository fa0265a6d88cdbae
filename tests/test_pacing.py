import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.pacing import Backoff, Gate, Rate


@given(attempt=st.integers(1, 10_000), wait=st.none() | st.floats(0, 1e6))
def test_backoff_grows_is_capped_and_obeys_the_provider(attempt: int, wait: float | None) -> None:
    delay = Backoff(1.0, 60.0).delay(attempt, wait)
    own = min(60.0, 2.0 ** min(attempt - 1, 10))
    assert max(own / 2, wait or 0) <= delay <= max(own, wait or 0)


def test_backoff_differs_between_requests() -> None:
    assert len({Backoff().delay(3) for _ in range(20)}) > 10


def test_rate_spreads_requests_evenly() -> None:
    async def main() -> list[float]:
        rate = Rate(6000)  # one in 10 ms
        turns = []

        async def one() -> None:
            await rate.take(1)
            turns.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(20)))
        return turns

    turns = asyncio.run(main())
    assert turns[-1] - turns[0] >= 0.189
    for window in range(10):  # never more than five in 40 ms, whatever the clock did before
        assert turns[window + 10] - turns[window] >= 0.08


def test_rate_charges_afterwards_what_it_did_not_know() -> None:
    async def main() -> float:
        rate = Rate(60_000)  # one in 1 ms
        begun = time.monotonic()
        await rate.take(0)
        rate.settle(100)
        await rate.take(0)
        return time.monotonic() - begun

    assert asyncio.run(main()) >= 0.1


def test_gate_lets_in_no_more_than_its_limit() -> None:
    async def main() -> int:
        gate = Gate(3)
        most = 0

        async def one() -> None:
            nonlocal most
            await gate.enter()
            most = max(most, gate.inside)
            await asyncio.sleep(0.001)
            gate.leave()

        await asyncio.gather(*(one() for _ in range(20)))
        assert gate.inside == 0
        return most

    assert asyncio.run(main()) == 3


def test_a_storm_halves_once_and_success_grows_back() -> None:
    gate = Gate(16)
    sent = time.monotonic()
    for _ in range(16):  # all were under way when the first 429 came
        gate.shrink(sent)
    assert gate.limit == 8
    gate.shrink(time.monotonic())
    assert gate.limit == 4
    for _ in range(4):  # a round of the limit's size adds about one
        gate.grow()
    assert gate.limit == pytest.approx(4.9, abs=0.1)
    for _ in range(1000):
        gate.grow()
    assert gate.limit == 16
    for _ in range(10):
        gate.shrink(time.monotonic())
    assert gate.limit == 1


def test_a_lower_limit_holds_new_ones_back_until_enough_are_out() -> None:
    async def main() -> list[int]:
        gate = Gate(4)
        inside = []
        for _ in range(4):
            await gate.enter()
        waiting = [asyncio.create_task(gate.enter()) for _ in range(4)]
        await asyncio.sleep(0)
        gate.shrink(time.monotonic())
        for _ in range(4):
            gate.leave()
            await asyncio.sleep(0)
            inside.append(gate.inside)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return inside

    assert asyncio.run(main()) == [3, 2, 2, 2]


def test_a_cancelled_wait_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        gate = Gate(1)
        await gate.enter()
        first, second = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.leave()
        await asyncio.wait_for(second, 1)

    asyncio.run(main())


def test_a_pause_holds_everybody() -> None:
    async def main() -> float:
        gate = Gate(4)
        begun = time.monotonic()
        gate.pause(0.05)
        gate.pause(0.01)  # a shorter one does not shorten it
        await asyncio.gather(gate.unpaused(), gate.unpaused())
        return time.monotonic() - begun

    assert asyncio.run(main()) >= 0.05
