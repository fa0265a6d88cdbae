"""The evaluation loop: ask a model every sample of a plan that is not finished yet.

A fixed number of workers pull samples from one lazy stream, so memory does not grow with the
plan: a request, images and all, is built only when it may be sent, and is gone once its line is
on disk. The run's log decides what is finished; killing this process loses nothing but the
requests in flight.
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from mmneedle.costs import Spending
from mmneedle.errors import UserError
from mmneedle.ledger import Ledger
from mmneedle.order import Order
from mmneedle.pacing import Backoff, Gate, Rate
from mmneedle.runlog import FINAL, Record, RunLog, now, request_digest
from mmneedle.stopping import Watch
from mmneedle.types import (
    ANSWERED,
    RETRYABLE,
    Adapter,
    Request,
    Response,
    Sample,
    Status,
    Task,
    read_setting,
    split_sample_id,
)

REJECTED = FINAL - ANSWERED
"""The request itself was at fault: asked again only on demand."""
_GRACE = 3.0
"""Seconds that requests in flight are given after the first Ctrl-C."""


class Samples(Protocol):
    """As much of a data set as the loop needs."""

    def samples(self, setting: Any, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """Samples start … stop-1 of a setting, streamed."""
        ...


class RunSummary(msgspec.Struct):
    """How a run stands: over all samples this command asked for, earlier answers included."""

    asked: int = 0
    answered: int = 0
    by_status: dict[str, int] = {}
    """Samples by final status, or by that of the last failed attempt; untried ones are in none."""
    sent: int = 0
    """Attempts finished by this command."""
    seconds: float = 0.0
    """That this command took."""
    stopped: str | None = None
    """Why it ended before its time, and how to go on."""
    errors: dict[str, str] = {}
    """What the last failed attempt with each status said."""
    rules: tuple[str, ...] = ()
    """A sentence for each setting that a rule stopped or looked at, at the end."""
    spending: Spending | None = None
    """Tokens and money of the whole run, earlier commands included; None where nobody counts."""
    textual: bool = False
    """Whether the samples are of a text task."""

    @property
    def missing(self) -> int:
        """Samples without an answer."""
        return self.asked - self.answered

    def __str__(self) -> str:
        text = f"{self.answered} of {self.asked} samples answered"
        notable = {k: n for k, n in sorted(self.by_status.items()) if k != "ok"}
        untried = self.asked - sum(self.by_status.values())
        if untried:
            notable["not asked"] = untried
        if notable:
            text += f" ({', '.join(f'{n} {status}' for status, n in notable.items())})"
        text += f", {self.sent} requests in {self.seconds:.1f} s"
        if self.spending is not None and self.spending.responses:
            text += f"; {self.spending} so far"
        return "; ".join((text, *self._advice()))

    def _advice(self) -> Iterator[str]:
        """Why samples are missing, and what to do."""
        for status in sorted(self.by_status.keys() & self.errors.keys()):
            yield f"{status}: {self.errors[status][:300]}"
        if self.by_status.keys() & REJECTED:
            yield "rejected requests are asked again with --retry-failed"
        if "truncated" in self.by_status:
            how = "with what they hold" if self.textual else "as wrong"
            yield f"cut-off answers count {how}: raise --max-tokens and name another --log"
        yield from self.rules
        if self.stopped:
            yield self.stopped

    def replace(self, old: Status | None, new: Status | None) -> None:
        """Count a sample under another status; None is the status of one that was not tried."""
        for status, change in ((old, -1), (new, 1)):
            if status is not None:
                self.by_status[status] = self.by_status.get(status, 0) + change
                if not self.by_status[status]:
                    del self.by_status[status]
                if status in ANSWERED:
                    self.answered += change


Progress = Callable[[RunSummary], None]
"""Called when a sample is done with, whatever came of it, and when an attempt failed."""


class Evaluation:
    """One pass over `log.plan`. `evaluate` and `run` below are the ways to call it."""

    def __init__(
        self,
        task: Task,
        dataset: Samples,
        adapter: Adapter,
        log: RunLog,
        *,
        max_connections: int = 16,
        rpm: float | None = None,
        tpm: float | None = None,
        timeout: float | None = 120.0,
        max_attempts: int = 6,
        deadline: float = 1800.0,
        patience: float = 60.0,
        backoff: Backoff | None = None,
        retry_failed: bool = False,
        ledger: Ledger | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Prepare a pass.

        Args:
            task, dataset, adapter, log: what is asked of whom, and where it is written.
            max_connections: requests at once; fewer for a while after a 429.
            rpm, tpm: requests and tokens a minute at most. Tokens are estimated from what past
                responses used.
            timeout: seconds for one attempt; a hung one ends as `timeout`. None: no limit.
            max_attempts: attempts a sample, by this command; only RETRYABLE ones are repeated.
            deadline: seconds from a sample's first attempt after which it is not tried again.
            patience: the run is given up when for so many seconds, and three rounds of
                connections, nothing came back but infrastructure errors.
            backoff: how long to wait between attempts.
            retry_failed: also ask samples whose request was rejected (`too_long`,
                `image_rejected`, `bad_request`).
            ledger: counts what is spent, and lets no request out that would pass its limit.
            progress: called when a sample is done with, whatever came of it, and when an attempt
                failed.
            watch: stops settings by its rule.
        """
        self.task, self.dataset, self.adapter, self.log = task, dataset, adapter, log
        self.timeout, self.max_attempts, self.deadline = timeout, max_attempts, deadline
        self.patience, self.max_failures = patience, max(10, 3 * max_connections)
        self.max_connections, self.retry_failed = max_connections, retry_failed
        self.backoff = backoff or Backoff()
        self.progress = progress or (lambda summary: None)
        self.watch = watch
        self.gate = Gate(max_connections)
        self.requests = Rate(rpm) if rpm else None
        self.tokens = Rate(tpm) if tpm else None
        self.tokens_each = 0.0
        self.failures, self.failing_since = 0, 0.0
        self.hasher = ThreadPoolExecutor(1, thread_name_prefix="request-sha256")
        self.workers: set[asyncio.Task[None]] = set()
        self.in_flight: set[asyncio.Task[None] | None] = set()
        self.error: UserError | None = None
        self.ledger = ledger or Ledger()
        self.summary = RunSummary(
            spending=ledger.spending if ledger else None, textual=log.header.textual
        )

    async def run(self) -> RunSummary:
        """Ask what is not finished. Raises UserError where every further request would fail."""
        began = time.monotonic()
        unfinished = self._count()
        together = bool(getattr(self.adapter, "shares_prefixes", False))
        order = Order(self._unfinished(), together=together)
        error: BaseException | None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.max_connections, unfinished)):
                    self.workers.add(group.create_task(self._work(order)))
            error = self.error
        except BaseExceptionGroup as several:  # a bug in one worker ended the others
            error = several.exceptions[0]
        finally:
            self.hasher.shutdown(wait=False, cancel_futures=True)
        if error:
            raise error
        self.summary.seconds = time.monotonic() - began
        self.summary.rules = tuple(self.watch.sentences()) if self.watch else ()
        return self.summary

    def interrupt(self) -> None:
        """Stop asking, and give requests in flight a moment; at once when called again."""
        if self.summary.stopped:
            self._cancel(self.workers)
        else:
            self._stop("stopped by hand; the same command goes on from here")

    # ---------------------------------------------------------------- which samples

    def _count(self) -> int:
        """Fill the summary from the log. Returns how many samples are to be asked."""
        unfinished = 0
        for _, _, status in asked(self.log):
            self.summary.asked += 1
            unfinished += self._wanted(status)
            self.summary.replace(None, status)
        return unfinished

    def _unfinished(self) -> Iterator[Sample]:
        return chosen(
            self.log, self.dataset, lambda *sample: self._wanted(self.log.status(*sample))
        )

    def _wanted(self, status: str | None) -> bool:
        return status not in FINAL or (self.retry_failed and status not in ANSWERED)

    # ---------------------------------------------------------------- asking

    async def _work(self, order: Order) -> None:
        """One of the workers that share the stream of samples."""
        while sample := await order.take():
            try:
                if self._begun(sample):
                    await self._ask(sample)
                    self._look(sample)
            except UserError as error:  # the others' requests in flight are still taken in
                self.error = self.error or error
                self._stop(str(error))
            order.done(sample)
            self.progress(self.summary)
            if self.summary.stopped:
                return

    def _begun(self, sample: Sample) -> bool:
        """Whether to ask a sample; a rule may have stopped its setting since it was chosen."""
        setting, index = split_sample_id(sample.id)
        if not self.log.header.includes(setting, index):
            return False
        if self.watch:
            self.watch.begin(setting, index)
        return True

    def _look(self, sample: Sample) -> None:
        """Let the rule take a sample in that is done with; it may stop the sample's setting."""
        if self.watch:
            before = self.watch.asked(sample.setting)
            if self.watch.done(*split_sample_id(sample.id)):
                self.summary.asked -= before - self.watch.asked(sample.setting)

    async def _ask(self, sample: Sample) -> None:
        """Ask until there is a final response, or no more attempt is due."""
        began = 0.0
        for attempt in range(1, self.max_attempts + 1):
            await self.gate.enter()
            try:
                await self._turn()
                held = await self._afford(sample)
                if held is None:
                    return
                try:
                    began = began or time.monotonic()
                    response = await self._attempt(sample, attempt)
                finally:
                    self.ledger.settle(sample.setting, held)
            finally:
                self.gate.leave()
            wait = self.backoff.delay(attempt, response.retry_after)
            if (
                response.status in FINAL
                or self.summary.stopped
                or attempt == self.max_attempts
                or time.monotonic() + wait > began + self.deadline
            ):
                return
            await asyncio.sleep(wait)

    async def _turn(self) -> None:
        """Wait until one more request may be sent."""
        if self.requests:
            await self.requests.take(1)
        if self.tokens:
            await self.tokens.take(self.tokens_each)
        await self.gate.unpaused()

    async def _afford(self, sample: Sample) -> float | None:
        """Hold back what a request may cost; None, and the run stops, where it is too much."""
        held = await self.ledger.take(sample.setting)
        if held is None:
            self._stop(self.ledger.exhausted(sample.setting, self.summary.missing))
        return held

    async def _attempt(self, sample: Sample, attempt: int) -> Response:
        """One attempt, from the images to the line on disk."""
        me = asyncio.current_task()
        self.in_flight.add(me)
        try:
            request = await self._request(sample)
            sent = time.monotonic()
            digest = self._digest(request)
            response = await self._generate(request)
            if response.status == "auth":  # every further request would fail too
                raise UserError(f"{self.adapter.model}: {response.error or 'not authorised'}")
            record = Record(
                sample=sample.id,
                truth=sample.truth,
                expected=getattr(sample, "expected", msgspec.UNSET),
                ambiguity=sample.ambiguity,
                hard=sample.hard,
                reading=request.reading or msgspec.UNSET,
                attempt=attempt,
                at=now(),
                request_sha256=await _result(digest) if digest else None,
                response=response,
            )
            before = self._status(sample)
            await self.log.append(record)
            self.ledger.add(sample.setting, response)
            if self.watch:
                self.watch.note(record)
        finally:
            self.in_flight.discard(me)
        self.summary.replace(before, self._status(sample))
        self._account(sent, response)
        return response

    async def _request(self, sample: Sample) -> Request:
        wanted = self.adapter.wants_images
        if wanted and getattr(self.task, "slow", False):
            return await asyncio.to_thread(self.task.request, sample)
        # Joined here in the event loop: 0.1 ms for ten images, less than a thread's hand-over.
        return self.task.request(sample, with_images=wanted)

    def _digest(self, request: Request) -> Future[str] | None:
        """Taken in a thread while the answer is waited for: half a megabyte takes 0.3 ms."""
        if not self.adapter.wants_images:
            return None
        return self.hasher.submit(request_digest, request)

    async def _generate(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self.timeout) as limit:
                return await self.adapter.generate(request)
        except TimeoutError as error:
            if not limit.expired():
                raise self._bug(request, error) from error
            return Response(
                status="timeout",
                latency=self.timeout,
                error=f"no reply within {self.timeout or 0:g} seconds",
            )
        except UserError:
            raise
        except Exception as error:
            raise self._bug(request, error) from error

    def _bug(self, request: Request, error: Exception) -> UserError:
        return UserError(
            f"the adapter of {self.adapter.model} failed at sample {request.sample.id} with "
            f"{type(error).__name__}: {error}; this is a bug in the adapter, finished answers are "
            "safe"
        )

    # ---------------------------------------------------------------- what comes of it

    def _status(self, sample: Sample) -> Status | None:
        setting, index = split_sample_id(sample.id)
        return self.log.status(setting, index)

    def _account(self, sent: float, response: Response) -> None:
        """Take an attempt that was sent at this moment into the pace, or give up."""
        self.summary.sent += 1
        if response.status not in ANSWERED and response.error:
            self.summary.errors[response.status] = response.error
            self.progress(self.summary)
        if self.tokens and response.usage:
            used = (response.usage.input_tokens or 0) + (response.usage.output_tokens or 0)
            self.tokens.settle(used - self.tokens_each)
            self.tokens_each += (used - self.tokens_each) / min(self.summary.sent, 20)
        if response.status not in RETRYABLE:
            self.gate.grow()
            self.failures = 0
            return
        if response.status == "rate_limited":
            self.gate.shrink(sent)
        self.failures += 1
        moment = time.monotonic()
        if self.failures == 1:
            self.failing_since = moment
        if response.retry_after:
            self.gate.pause(response.retry_after)
            if response.retry_after > self.deadline:
                self._stop(f"given up: the provider asks to wait {response.retry_after:.0f} s")
        if self.failures >= self.max_failures and moment - self.failing_since >= self.patience:
            self._stop(
                f"given up after {self.failures} failures in a row, the last one "
                f"{response.status}: {response.error}; the same command goes on from here"
            )

    def _stop(self, reason: str) -> None:
        """Let no request begin any more; those in flight have a few seconds."""
        if not self.summary.stopped:
            self.summary.stopped = reason
            self._cancel(self.workers - self.in_flight)
            asyncio.get_running_loop().call_later(_GRACE, self._cancel, self.workers)

    def _cancel(self, workers: set[asyncio.Task[None]]) -> None:
        for worker in workers:
            worker.cancel()


def asked(log: RunLog) -> Iterator[tuple[str, int, Status | None]]:
    """(setting, index, how it stands) of every sample that this time is asked for."""
    for name, (start, stop) in log.plan.items():
        for index in range(start, min(stop, log.header.span(name)[1])):
            if log.header.includes(name, index):
                yield name, index, log.status(name, index)


def chosen(log: RunLog, dataset: Samples, wanted: Callable[[str, int], bool]) -> Iterator[Sample]:
    """Stream the samples that this time is asked for and that are wanted when it is their turn.

    Args:
        log: whose plan.
        dataset: where they are.
        wanted: (setting, index) -> whether to ask it.
    """
    for name, (start, stop) in log.plan.items():
        stream = dataset.samples(read_setting(name), start, stop)
        for index, sample in enumerate(stream, start):
            if index >= log.header.span(name)[1]:
                break  # a rule has stopped it
            if log.header.includes(name, index) and wanted(name, index):
                yield sample


async def _result(future: Future[str]) -> str:
    """A thread's result; the event loop is only troubled where it is not there yet."""
    return future.result() if future.done() else await asyncio.wrap_future(future)


async def evaluate(
    task: Task, dataset: Samples, adapter: Adapter, log: RunLog, **options: Any
) -> RunSummary:
    """Ask every sample of `log.plan` that is not finished; options as `Evaluation` has them.

    Raises:
        UserError: a wrong key, a log that cannot be written, a bug in the adapter. What was
            finished before is on disk.
    """
    return await Evaluation(task, dataset, adapter, log, **options).run()


def run(task: Task, dataset: Samples, adapter: Adapter, log: RunLog, **options: Any) -> RunSummary:
    """`evaluate` for scripts and commands: closes the adapter, and takes Ctrl-C as "stop here".

    The first Ctrl-C (or SIGTERM) sends nothing more and waits three seconds for what is in
    flight, the second one does not wait. Either way the summary says that it was stopped.
    """

    async def main() -> RunSummary:
        evaluation = Evaluation(task, dataset, adapter, log, **options)
        try:
            with signals(evaluation.interrupt):
                return await evaluation.run()
        finally:
            await adapter.aclose()

    return asyncio.run(main())


@contextmanager
def signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` on SIGINT and SIGTERM where signals can be handled: in the main thread."""
    loop = asyncio.get_running_loop()
    ours = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if ours else ()
    for number in numbers:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
