"""Requests are put together for a batch: as many as fit, and as may be paid for."""

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mmneedle.adapters.batches import NO_RESULT, BatchAPI, Submission
from mmneedle.batching.intake import Intake, Table
from mmneedle.batching.log import BatchLog, Draft
from mmneedle.batching.patience import Patience
from mmneedle.errors import UserError
from mmneedle.ledger import Ledger
from mmneedle.runlog import Record, now, request_digest
from mmneedle.types import Adapter, AnySetting, Request, Response, Sample, Task, split_sample_id


class Packed(NamedTuple):
    """A submission that may be sent."""

    submission: Submission
    held: float
    """US dollars held back for it."""


class Round:
    """One pass over the samples; what fails in it is asked again by the next."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self.samples = samples
        self.left_over: Sample | None = None
        """Had no room in the last submission."""
        self.done = self.sent = False

    def next(self) -> Sample | None:
        """The next sample; None at the end."""
        sample, self.left_over = self.left_over or next(self.samples, None), None
        self.done = sample is None
        return sample


class Packer:
    """Writes submissions; what it takes from a round and cannot send goes back there."""

    def __init__(
        self,
        task: Task,
        adapter: Adapter,
        api: BatchAPI,
        batches: BatchLog,
        table: Table,
        intake: Intake,
        ledger: Ledger,
        patience: Patience,
    ) -> None:
        self.task, self.adapter, self.api, self.batches = task, adapter, api, batches
        self.table, self.intake, self.ledger, self.patience = table, intake, ledger, patience
        self.most = api.limits.requests
        """Requests a batch; fewer where the provider takes no more at once."""
        self.short_for: AnySetting | None = None
        """The money does not suffice for a request of this setting."""

    async def pack(self, round: Round) -> Packed | None:
        """Write the next submission's files; None if nothing is left, or can be paid."""
        draft, held = self.batches.draft(), 0.0
        most = min(self.most, self.api.limits.requests)
        self.short_for = None
        try:
            while draft.submission.requests < most:
                sample = round.next()
                if sample is None:
                    break
                await self.patience.sleep(0)  # signals get through
                more = await self._add(draft, sample)
                if more is None:
                    round.left_over = sample
                    break
                round.sent, held = True, held + more
        except BaseException:
            draft.discard()
            raise
        if draft.submission.requests:
            return Packed(draft.commit(), held)
        draft.discard()
        return None

    async def _add(self, draft: Draft, sample: Sample) -> float | None:
        """Put a sample's request into a draft. Returns dollars held; None if it has no room."""
        setting, index = split_sample_id(sample.id)
        request = await self._request(sample)
        line = self.api.line(draft.custom_id(sample.id), request)
        record = Record(
            sample=sample.id,
            truth=sample.truth,
            expected=getattr(sample, "expected", msgspec.UNSET),
            ambiguity=sample.ambiguity,
            hard=sample.hard,
            reading=request.reading or msgspec.UNSET,
            attempt=self.table.attempts(setting.name, index) + 1,
            at=now(),
            request_sha256=request_digest(request) if self.adapter.wants_images else None,
            response=NO_RESULT,
        )
        limit = self.api.limits.bytes
        if len(line) + 1 > limit:
            error = f"the request has {len(line)} bytes, a batch of this provider {limit} at most"
            too_long = Response("too_long", error=error)
            await self.intake.write([msgspec.structs.replace(record, response=too_long)])
            self.table.back(record, asked=True)
            return 0.0
        if draft.submission.bytes + len(line) + 1 > limit:
            return None
        held = self._afford(sample.setting)
        if held is None:
            self.short_for = sample.setting
            return None
        draft.add(line, record)
        self.table.leave(record)
        return held

    async def _request(self, sample: Sample) -> Request:
        wanted = self.adapter.wants_images
        if wanted and getattr(self.task, "slow", False):
            return await asyncio.to_thread(self.task.request, sample)
        return self.task.request(sample, with_images=wanted)

    def _afford(self, setting: AnySetting) -> float | None:
        """Hold back what a request may cost; None where that is too much now."""
        if self.ledger.limit is not None and not self.ledger.known(setting):
            raise UserError(
                f"--max-cost: it is not known how many tokens a request of {setting.name} has; "
                "ask a few samples without --batch first (--limit 2)"
            )
        return self.ledger.hold(setting)
