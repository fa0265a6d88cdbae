"""Requests that come one by one, answered in batches by an engine that works in threads.

A request passes three stages, each in threads of its own, so that the next batch is ready when
the engine ends with one: it is encoded (images decoded and prepared) as soon as it comes, put
together with others, and run. The event loop only hands over.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, NamedTuple, Protocol, TypeVar

from mmneedle.types import Request, Response

_LINGER = 0.02  # seconds an idle engine waits for more requests, so that a batch is worth it
_AHEAD = 2  # batches: one that runs, one that is ready


class Encoded(Protocol):
    """A request as an engine takes it."""

    @property
    def kind(self) -> object:
        """Only requests of one kind go into one batch."""
        ...


E = TypeVar("E", bound=Encoded)
B = TypeVar("B")


class _Waiting(NamedTuple, Generic[E]):
    encoded: E
    answer: "asyncio.Future[Response]"


class Batcher(Generic[E, B]):
    """Batches of at most so many requests, in the order in which they were encoded."""

    def __init__(
        self,
        encode: Callable[[Request], E | Response],
        collate: Callable[[Sequence[E]], B],
        run: Callable[[B], Sequence[Response]],
        *,
        size: int,
        threads: int,
    ) -> None:
        """Prepare to work; the stages begin with the first request.

        Args:
            encode: in several threads at once. A Response ends the request there.
            collate: makes a batch of requests, in one thread.
            run: answers a batch in its order, in one thread. What it raises, all its requests
                raise.
            size: requests in a batch at most.
            threads: that encode.
        """
        self._encode, self._collate, self._run, self.size = encode, collate, run, size
        self._encoders = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._collator = ThreadPoolExecutor(1, thread_name_prefix="collate")
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._waiting: list[_Waiting[E]] = []
        self._encoding = 0
        self._batches: set[asyncio.Task[None]] = set()
        self._dispatcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def submit(self, request: Request) -> Response:
        """The engine's answer to a request."""
        loop = asyncio.get_running_loop()
        if self._dispatcher is None:
            self._dispatcher = loop.create_task(self._dispatch())
        self._encoding += 1
        try:
            encoded = await loop.run_in_executor(self._encoders, self._encode, request)
        finally:
            self._encoding -= 1
            self._changed.set()
        if isinstance(encoded, Response):
            return encoded
        answer: asyncio.Future[Response] = loop.create_future()
        self._waiting.append(_Waiting(encoded, answer))
        return await answer

    async def _dispatch(self) -> None:
        """Start a batch whenever there is one to start and the engine will soon be free."""
        while True:
            self._changed.clear()
            while batch := self._take(self.size):
                self._start(batch)
            if not (self._waiting and self._idle()):
                await self._changed.wait()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._changed.wait()
                continue
            # Nothing more came: a part of a batch is better than an idle engine.
            if self._idle() and (batch := self._take(1)):
                self._start(batch)

    def _idle(self) -> bool:
        """Whether nothing is under way that would bring more requests by itself."""
        return not self._batches and not self._encoding

    def _start(self, batch: "list[_Waiting[E]]") -> None:
        task = asyncio.create_task(self._serve(batch))
        self._batches.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[None]") -> None:
        self._batches.discard(task)
        self._changed.set()

    def _take(self, least: int) -> "list[_Waiting[E]]":
        """Requests of one kind for a batch; [] where there are fewer than `least` of each."""
        self._waiting = [item for item in self._waiting if not item.answer.done()]  # cancelled
        if not self._waiting or len(self._batches) >= _AHEAD:
            return []
        by_kind: dict[object, list[_Waiting[E]]] = {}
        for item in self._waiting:
            by_kind.setdefault(item.encoded.kind, []).append(item)
        for items in by_kind.values():
            if len(items) >= least:
                chosen = items[: self.size]
                taken = set(map(id, chosen))
                self._waiting = [item for item in self._waiting if id(item) not in taken]
                return chosen
        return []

    async def _serve(self, batch: "list[_Waiting[E]]") -> None:
        loop = asyncio.get_running_loop()
        try:
            encoded = [item.encoded for item in batch]
            ready = await loop.run_in_executor(self._collator, self._collate, encoded)
            answers = await loop.run_in_executor(self._engine, self._run, ready)
        except Exception as error:
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        for item, answer in zip(batch, answers, strict=True):
            if not item.answer.done():
                item.answer.set_result(answer)

    async def aclose(self) -> None:
        """Begin nothing more, and wait for what runs."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        for pool in (self._encoders, self._collator, self._engine):
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        for task in self._batches:
            task.cancel()
