"""The loop of an evaluation by batches: submissions, looks, what comes of them."""

import math
import time
from collections.abc import Mapping

import msgspec

from mmneedle.adapters.batches import (
    NO_RESULT,
    BatchAPI,
    BatchState,
    Failure,
    Found,
    Submission,
)
from mmneedle.batching.intake import BatchSummary, Intake, Table, Work
from mmneedle.batching.log import BatchLog
from mmneedle.batching.packing import Packer, Round
from mmneedle.batching.patience import LeaveError, Patience
from mmneedle.errors import UserError
from mmneedle.ledger import Ledger
from mmneedle.pacing import Backoff
from mmneedle.runlog import FINAL, Run, RunLog
from mmneedle.runner import REJECTED, Progress, Samples, asked, chosen
from mmneedle.types import (
    ANSWERED,
    RETRYABLE,
    Adapter,
    Response,
    Task,
    read_setting,
    split_sample_id,
)

_TRIES = 3
"""Times that results are fetched which are fewer than the provider counts; tries to cancel."""
_BARREN = 2
"""Batches in a row without a single answer after which no more are sent by this command."""
_SHOWN = 5
"""Batch ids in a message."""


def _few(ids: list[str]) -> str:
    return ", ".join([*ids[:_SHOWN], *["…"] * (len(ids) > _SHOWN)])


class BatchEvaluation:
    """One pass over `log.plan` by batches."""

    def __init__(
        self,
        task: Task,
        dataset: Samples,
        adapter: Adapter,
        api: BatchAPI,
        log: RunLog,
        *,
        wait: bool = True,
        cancel: bool = False,
        max_attempts: int = 6,
        retry_failed: bool = False,
        ledger: Ledger | None = None,
        poll: tuple[float, float] = (5.0, 60.0),
        settle: float = 60.0,
        patience: float = 3600.0,
        backoff: Backoff | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare a pass.

        Args:
            task, dataset, adapter, log: what is asked of whom, and where it is written.
            api: the adapter's batches.
            wait: stay until every batch has ended; else submit, take in what has ended, and leave.
            cancel: ask nothing; cancel what is at the provider and take in what it has answered.
            max_attempts: attempts a sample, by this command; only RETRYABLE ones are repeated.
            retry_failed: also ask samples whose request was rejected before.
            ledger: counts what is spent, and lets no request out that would pass its limit.
            poll: seconds between looks, the shortest and the longest.
            settle: seconds that a submission whose making was cut off may take to appear in the
                provider's list.
            patience: the run is given up when the provider has said nothing but errors for so many
                seconds. Its batches go on.
            backoff: how long to wait after errors.
            progress: called whenever something has changed.
        """
        self.task, self.dataset, self.adapter, self.api = task, dataset, adapter, api
        self.log, self.batches = log, BatchLog(log.folder, log.header)
        self.wait, self.cancel = wait, cancel
        self.max_attempts, self.retry_failed = min(max_attempts, 255), retry_failed
        self.poll, self.settle = poll, settle
        self.progress = progress or (lambda summary: None)
        self.ledger = ledger or Ledger()
        self.summary = BatchSummary(spending=ledger.spending if ledger else None)
        self.intake = Intake(log, self.summary, self.ledger, self._show)
        self.patience = Patience(patience, backoff or Backoff(), self._trouble)
        self.table = Table(log)
        self.work: dict[str, Work] = {}
        """Of the open submissions, by token."""
        self.round = Round(chosen(log, dataset, self._wanted))
        self.packer = Packer(
            task, adapter, api, self.batches, self.table, self.intake, self.ledger, self.patience
        )
        self.full: Response | None = None
        """What the provider said that takes no more now."""
        self.full_until = 0.0
        """Then (time.monotonic) it is tried again, if no batch has ended before."""
        self.closing: str | None = None
        """Why no more is sent; what is at the provider is still waited for."""
        self.refused_since: float | None = None
        """Since then (time.monotonic) the provider has taken nothing and answered nothing."""
        self.barren = self.refusals = 0
        self.pause = poll[0]

    def interrupt(self) -> None:
        """Leave. What is at the provider stays there."""
        self.patience.interrupt()

    async def run(self) -> BatchSummary:
        """Ask what is not finished. Raises UserError where every further request would fail."""
        began = time.monotonic()
        for _, _, status in asked(self.log):
            self.summary.asked += 1
            self.summary.replace(None, status)
        with self.batches:
            try:
                self._go_on()
                await self._loop()
                reason = self.closing
            except LeaveError as leave:
                reason = str(leave)
        if reason and (self.batches.open or "goes on" not in reason):
            reason = f"{reason}; {self._how_to_go_on()}"
        self.summary.stopped = reason
        self.summary.seconds = time.monotonic() - began
        return self.summary

    def _how_to_go_on(self) -> str:
        if not self.batches.open:
            return "the same command goes on from here"
        made = [each.batch for each in self.batches.open.values() if each.batch]
        unsure = [each.name for each in self.batches.open.values() if not each.batch]
        parts = []
        if made:
            count = "1 batch goes on" if len(made) == 1 else f"{len(made)} batches go on"
            parts.append(f"{count} at the provider ({_few(made)}); the same command collects them")
        if unsure:
            count = "1 batch" if len(unsure) == 1 else f"{len(unsure)} batches"
            parts.append(
                f"{count} may or may not have reached the provider ({_few(unsure)}); the same "
                "command finds out, and goes on"
            )
        return "; ".join(parts)

    def _go_on(self) -> None:
        """Take up the batches that earlier commands left at the provider."""
        by_batch: dict[str | None, Work] = {}
        for submission in self.batches.open.values():
            work = self.work[submission.token] = Work(unsure=submission.batch is None)
            work.listed_by = time.monotonic() + self.settle
            with self.batches.records(submission) as records:
                for record in records:
                    self.table.leave(record)
                    work.held += self.ledger.hold(split_sample_id(record.sample)[0]) or 0.0
            self.summary.submitted += submission.requests
            self.round.sent = True
            if submission.batch:
                by_batch[submission.batch] = work
        if by_batch:  # the process that was taking one in may have been killed
            for record in Run(self.log.header, [self.log.folder]).records():
                if record.response.batch in by_batch:
                    work = by_batch[record.response.batch]
                    work.recorded.add(record.sample)
                    work.answered |= record.response.status not in RETRYABLE

    async def _loop(self) -> None:
        if self.cancel:
            self.closing = "cancelled by hand"
            await self._cancel()
        while True:
            await self._submit()
            self._show()
            if self.batches.open:
                ended = [await self._look_after(each) for each in list(self.batches.open.values())]
                if any(ended):
                    self.full, self.refused_since, self.pause = None, None, self.poll[0]
                elif self.wait:
                    await self.patience.sleep(self.pause)
                    self.pause = min(self.pause * 1.5, self.poll[1])
                else:
                    raise LeaveError(self._not_waited())
            elif self.closing:
                return
            elif self.full:  # and nothing of ours is in the way
                await self.patience.sleep(max(0.0, self.full_until - time.monotonic()))
                self.full = None
            elif not self.round.done or self.round.sent:
                self.round = Round(chosen(self.log, self.dataset, self._wanted))
            else:
                return

    def _not_waited(self) -> str:
        if any(map(self._unmeasured, self.log.plan)):
            return (
                "submitted one request of each setting, not waited for: what they cost tells how "
                "many more fit into --max-cost"
            )
        return "submitted, not waited for"

    def _wanted(self, setting: str, index: int) -> bool:
        status, attempts = self.log.status(setting, index), self.table.attempts(setting, index)
        if self.table.away(setting, index) or attempts >= self.max_attempts:
            return False
        if status in FINAL and (not self.retry_failed or attempts or status in ANSWERED):
            return False
        return not self._unmeasured(setting) or self._may_measure(setting)

    def _unmeasured(self, setting: str) -> bool:
        """Whether money is limited and no request of this setting has told what it costs."""
        return self.ledger.limit is not None and not self.ledger.measured(read_setting(setting))

    def _may_measure(self, setting: str) -> bool:
        """Whether a request may go ahead of the others to learn what it is charged: one may."""
        if self.ledger.unmeasurable(read_setting(setting)):
            self.closing = self.closing or (
                f"stopped: {self.adapter.model} does not say how many tokens a request of "
                f"{setting} took, so --max-cost cannot be kept; without it the same command goes on"
            )
            return False
        return not self.table.out(setting)

    # ---------------------------------------------------------------- sending

    async def _submit(self) -> None:
        """Send all that may be sent now."""
        if self.full and time.monotonic() > self.full_until:
            self.full = None
        while not (self.closing or self.full or self.round.done):
            packed = await self.packer.pack(self.round)
            if packed:
                self.work[packed.submission.token] = Work(held=packed.held)
                self.summary.submitted += packed.submission.requests
                await self._place(packed.submission)
                self._show()
            elif self.packer.short_for and self.batches.open:  # what they cost in the end is less
                self.full, self.full_until = Response("rate_limited"), math.inf
            elif self.packer.short_for:
                self.closing = self.ledger.exhausted(self.packer.short_for, self.summary.missing)

    async def _place(self, submission: Submission) -> None:
        """See that the provider has a submission, once; or drop it.

        It has no batch afterwards only where it is not decided yet whether there is one.
        """
        work = self.work[submission.token]
        while submission.batch is None and submission.token in self.batches.open:
            if work.unsure:
                found = await self._find(submission, work)
                if found.batch:
                    self.batches.submitted(submission, found.batch)
                if found.batch or found.undecided:
                    return
                if self.cancel or not self.batches.requests_of(submission).exists():
                    self._drop(submission, "it was never made")
                    return
            again, work.unsure = work.unsure, True
            path = self.batches.requests_of(submission)
            try:
                batch = await self.patience.wait_for(self.api.submit(submission, path, again=again))
            except Failure as failure:
                if failure.response.status in ("server_error", "timeout"):  # it may be made
                    work.listed_by = time.monotonic() + self.settle
                    await self.patience.bear(failure.response)
                else:
                    self._refused(submission, failure.response)
            else:
                self.patience.heard()
                self.batches.submitted(submission, batch)

    async def _find(self, submission: Submission, work: Work) -> Found:
        """Look for a batch that a process that was cut off may have made."""
        while True:
            try:
                found = await self.patience.wait_for(self.api.find(submission, self.batches.known))
                self.patience.heard()
                if found.batch or found.undecided or time.monotonic() >= work.listed_by:
                    return found
                await self.patience.sleep(min(5.0, self.settle / 5))
            except Failure as failure:
                if failure.response.status not in RETRYABLE:
                    raise self._user_error(failure.response) from None
                await self.patience.bear(failure.response)

    def _refused(self, submission: Submission, response: Response) -> None:
        """The provider does not take a batch as a whole: nothing in it was or will be asked."""
        self._drop(submission, response.error or response.status)
        self.intake.note(response)
        if response.status in ("rate_limited", "too_long"):
            if response.status == "too_long" and submission.requests == 1:
                raise self._user_error(response)
            smaller = response.status == "too_long" or not self.batches.open
            if smaller:
                self.packer.most = max(1, submission.requests // 2)
            if response.status == "rate_limited":
                self._hold_back(response, soon=smaller and submission.requests > 1)
        elif response.status in RETRYABLE:
            self._judge(response)
        else:
            raise self._user_error(response)

    def _hold_back(self, response: Response, *, soon: bool) -> None:
        """Send nothing for a while. Raises LeaveError when that has gone on for too long."""
        now = time.monotonic()
        if self.refused_since is None:
            self.refused_since, self.refusals = now, 0
        self.refusals += 1
        if not self.batches.open and now > self.refused_since + self.patience.seconds:
            raise LeaveError(f"given up: {response.status}: {response.error}")
        own = self.poll[0] if soon else self.poll[1] * min(self.refusals, 10)
        self.full, self.full_until = response, now + max(response.retry_after or 0.0, own)

    def _drop(self, submission: Submission, why: str) -> None:
        work = self.work.pop(submission.token)
        with self.batches.records(submission) as records:
            for record in records:
                self.table.back(record, asked=record.sample in work.recorded)
        self.batches.dropped(submission, why)
        self.summary.submitted -= submission.requests
        self.ledger.release(work.held)

    async def _cancel(self) -> None:
        """Ask the provider to leave what it has not begun."""
        for submission in list(self.batches.open.values()):
            await self._place(submission)
            for _ in range(_TRIES):
                if submission.batch is None:
                    break
                try:
                    state = await self.patience.wait_for(self.api.state(submission.batch))
                    if not state.ended:
                        await self.patience.wait_for(self.api.cancel(submission.batch))
                    break
                except Failure as failure:
                    if failure.response.status not in RETRYABLE:
                        break  # its state tells why
                    await self.patience.bear(failure.response)

    # ---------------------------------------------------------------- taking in

    async def _look_after(self, submission: Submission) -> bool:
        """See how a submission stands and take in what has come of it; whether it was answered."""
        if submission.batch is None:
            await self._place(submission)
            if submission.batch is None:
                return submission.token not in self.batches.open
        try:
            state = await self.patience.wait_for(self.api.state(submission.batch))
        except Failure as failure:
            if failure.gone and self.cancel:
                gone = msgspec.structs.replace(NO_RESULT, error=failure.response.error)
                return await self._collect(submission, BatchState(ended=True, rest=gone), lost=True)
            if failure.response.status not in RETRYABLE:
                raise self._user_error(failure.response, submission.batch) from None
            await self.patience.bear(failure.response)
            return False
        self.patience.heard()
        self.work[submission.token].done = state.done
        self._show()
        if not state.ended:
            return False
        if state.refused:
            await self._take_refusal(submission, state.refused, state.refused_lines)
            return False
        return await self._collect(submission, state)

    async def _take_refusal(
        self, submission: Submission, refused: Response, lines: Mapping[int, Response]
    ) -> None:
        """A batch was found wanting after it was made: single requests of it, or the whole."""
        rejected = {line: why for line, why in lines.items() if why.status in REJECTED}
        if refused.status == "auth" or not rejected:
            self._refused(submission, refused)
            return
        with self.batches.records(submission) as records:
            for number, record in enumerate(records, 1):
                if number in rejected:
                    work = self.work[submission.token]
                    await self.intake.take(submission, work, [(record, rejected[number])])
        self._drop(submission, refused.error or refused.status)

    async def _collect(
        self, submission: Submission, state: BatchState, *, lost: bool = False
    ) -> bool:
        """Take in a batch that has ended; False if its results must be fetched once more."""
        work, rest = self.work[submission.token], state.rest
        with self.batches.records(submission) as records:
            if not lost:
                try:
                    await self.intake.download(self.api, submission, work, records, self.patience)
                    self.patience.heard()
                except Failure as failure:
                    if not failure.gone:
                        if failure.response.status not in RETRYABLE:
                            raise self._user_error(failure.response, submission.batch) from None
                        await self.patience.bear(failure.response)
                        return False
                    lost = True
                    rest = msgspec.structs.replace(NO_RESULT, error=failure.response.error)
            have = len(work.recorded) + len(work.denied)
            work.downloads += 1
            if have < state.done and not lost and work.downloads < _TRIES:
                return False  # fewer than the provider counts: the download was cut short
            await self.intake.fill(submission, work, records, rest)
            for record in records:
                self.table.back(record, asked=True)
        self._finish(submission, state)
        return True

    def _finish(self, submission: Submission, state: BatchState) -> None:
        work = self.work.pop(submission.token)
        self.ledger.release(work.held)
        self.batches.collected(submission)
        self.summary.finished += submission.requests
        self.summary.strange += work.strange
        if work.denied:
            raise self._user_error(next(iter(work.denied.values())))
        if state.cancelled and work.failed and not self.closing:
            self.closing = f"batch {submission.batch} was cancelled at the provider"
        self._judge(None if work.answered else work.last or state.rest)

    # ---------------------------------------------------------------- pace and trouble

    def _judge(self, failure: Response | None) -> None:
        """A batch has ended: with answers, or with nothing but failures."""
        self.barren = self.barren + 1 if failure else 0
        if failure and self.barren >= _BARREN and not self.closing:
            self.closing = (
                f"given up after {self.barren} batches in a row without an answer, the last one "
                f"{failure.status}: {failure.error}"
            )

    def _user_error(self, response: Response, batch: str | None = None) -> UserError:
        message = f"{self.adapter.model}: {response.error or response.status}"
        if batch:
            message = (
                f"{self.adapter.model}: batch {batch}: {response.error or response.status}; was "
                "it sent with another key or project? --batch-cancel gives it up"
            )
        return UserError(message)

    def _trouble(self, response: Response) -> None:
        self.intake.note(response)
        self._show()

    def _show(self) -> None:
        self.summary.running = sum(work.done for work in self.work.values())
        self.progress(self.summary)
