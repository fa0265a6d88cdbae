"""When to send the next request: backoff, requests and tokens a minute, adaptive concurrency."""

import asyncio
import random
import time
from collections import deque
from typing import NamedTuple


class Backoff(NamedTuple):
    """Exponential backoff with jitter, so that requests that failed together do not return so."""

    base: float = 1.0
    """Seconds after the first failure, at most; doubled after each further one."""
    cap: float = 60.0

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1).

        Never less than the provider asked for. The jitter takes off up to half of our own wait.
        """
        own = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)) * random.uniform(0.5, 1.0)
        return max(own, retry_after or 0.0)


class Rate:
    """At most so many units (requests, tokens) a minute, evenly spread, without a first burst."""

    def __init__(self, per_minute: float) -> None:
        self.seconds = 60.0 / per_minute
        """What one unit costs."""
        self._next = 0.0

    async def take(self, units: float) -> None:
        """Wait for our turn, and push the next one's back by `units`."""
        turn = max(time.monotonic(), self._next)
        self._next = turn + units * self.seconds
        await _sleep_until(turn)

    def settle(self, units: float) -> None:
        """Charge units that were not known in advance (negative: give some back)."""
        self._next += units * self.seconds


class Gate:
    """Lets in at most `limit` at a time; the limit halves on 429 and grows back by one a round.

    This is additive increase, multiplicative decrease, as TCP has it (Chiu and Jain 1989).
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self.inside = 0
        self._paused_until = 0.0
        self._halved_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait to be let in."""
        while self.inside >= int(self.limit):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self.inside += 1

    def grow(self) -> None:
        """A request went well."""
        self.limit = min(float(self.ceiling), self.limit + 1 / self.limit)

    def shrink(self, sent: float) -> None:
        """A request that was sent at this moment (time.monotonic) came back with 429.

        A storm of 429s halves the limit once, not once a request: only a request that was sent
        after the last halving can cause the next.
        """
        if sent > self._halved_at:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = time.monotonic()

    def leave(self) -> None:
        """Go out again."""
        self.inside -= 1
        for _ in range(int(self.limit) - self.inside):
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a cancelled one waits no more
                turn.set_result(None)
                return

    def pause(self, seconds: float) -> None:
        """Hold everybody back: the provider asked for it."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def unpaused(self) -> None:
        """Wait until no pause is on."""
        while time.monotonic() < self._paused_until:
            await _sleep_until(self._paused_until)


async def _sleep_until(moment: float) -> None:
    wait = moment - time.monotonic()
    if wait > 0:
        await asyncio.sleep(wait)
