"""Waiting for a provider for hours: through errors, until it is in vain or Ctrl-C is pressed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mmneedle.pacing import Backoff
from mmneedle.types import Response

_T = TypeVar("_T")


class LeaveError(Exception):
    """The work ends here, for this reason, and is not done."""


class Patience:
    """Every wait of a piece of work goes through here."""

    def __init__(
        self, seconds: float, backoff: Backoff, note: Callable[[Response], None] | None = None
    ) -> None:
        """Begin.

        Args:
            seconds: of nothing but errors after which it is given up.
            backoff: how long to wait after each.
            note: told of every error.
        """
        self.seconds, self.backoff = seconds, backoff
        self.note = note or (lambda response: None)
        self._errors = 0
        self._heard = time.monotonic()
        self._interrupted = False
        self._waiting: asyncio.Future[Any] | None = None

    def interrupt(self) -> None:
        """End the wait that is on, and every later one, with LeaveError."""
        self._interrupted = True
        if self._waiting:
            self._waiting.cancel()

    def heard(self) -> None:
        """The provider did as it was asked."""
        self._errors, self._heard = 0, time.monotonic()

    async def bear(self, response: Response) -> None:
        """Wait after an error. Raises LeaveError when nothing else came for too long."""
        self._errors += 1
        self.note(response)
        asked = response.retry_after or 0.0
        if time.monotonic() + asked > self._heard + self.seconds:
            raise LeaveError(f"given up: {response.status}: {response.error}")
        await self.sleep(self.backoff.delay(self._errors, asked))

    async def sleep(self, seconds: float) -> None:
        """Wait. Raises LeaveError when interrupted."""
        await self.wait_for(asyncio.sleep(seconds))

    async def wait_for(self, work: Awaitable[_T]) -> _T:
        """Wait for something. Raises LeaveError, and cuts it off, when interrupted."""
        self._waiting = asyncio.ensure_future(work)
        if self._interrupted:
            self._waiting.cancel()
        try:
            result: _T = await self._waiting
        except asyncio.CancelledError:
            if self._interrupted:
                raise LeaveError("stopped by hand") from None
            raise
        finally:
            self._waiting = None
        return result
