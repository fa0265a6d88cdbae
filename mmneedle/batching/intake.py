"""What comes back from a batch becomes lines of responses.jsonl, each result once."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import msgspec

from mmneedle.adapters.batches import BatchAPI, Submission
from mmneedle.batching.log import Records
from mmneedle.batching.patience import Patience
from mmneedle.ledger import Ledger
from mmneedle.runlog import Record, RunLog, now
from mmneedle.runner import RunSummary
from mmneedle.types import ANSWERED, RETRYABLE, Response, split_sample_id

_TOGETHER = 256
"""Results that are written with one sync."""


class BatchSummary(RunSummary):
    """How a run by batches stands."""

    submitted: int = 0
    """Requests in the batches that this command waited for."""
    finished: int = 0
    """Those of them whose batch has been taken in."""
    running: int = 0
    """Those of the others that have a result, as the provider counts."""
    strange: int = 0
    """Results that belong to no request of ours."""

    def _advice(self) -> Iterator[str]:
        if self.strange:
            yield f"{self.strange} results of the batches belong to no sample and were left out"
        yield from super()._advice()


class Work:
    """What this process knows of a submission."""

    def __init__(self, *, unsure: bool = False, held: float = 0.0) -> None:
        self.unsure = unsure
        """The provider may have made a batch of it, whose id is not known."""
        self.listed_by = 0.0
        """By then (time.monotonic) the provider's list would have that batch."""
        self.recorded: set[str] = set()
        """Samples whose result is on disk."""
        self.denied: dict[str, Response] = {}
        """Samples whose result says that every further request would fail; they stay unasked."""
        self.done = 0
        """Results, as the provider counts."""
        self.downloads = 0
        self.strange = 0
        """Results in the last download that belong to no request."""
        self.answered = self.failed = False
        """Something else than failures came of it; some did."""
        self.last: Response | None = None
        self.held = held
        """US dollars held back for it."""


class Table:
    """Two bytes a sample: attempts by this command, and whether it is in a batch now."""

    def __init__(self, log: RunLog) -> None:
        plan = log.header.plan
        self._attempts = {name: bytearray(stop) for name, (_, stop) in plan.items()}
        self._away = {name: bytearray(stop) for name, (_, stop) in plan.items()}
        self._out = dict.fromkeys(plan, 0)

    def attempts(self, setting: str, index: int) -> int:
        """Attempts by this command, or by the one that sent what this one takes in; at most 255."""
        return self._attempts[setting][index]

    def away(self, setting: str, index: int) -> bool:
        """Whether it is in a batch that is not collected yet."""
        return bool(self._away[setting][index])

    def out(self, setting: str) -> int:
        """How many of a setting's samples are in batches that are not collected yet."""
        return self._out[setting]

    def leave(self, record: Record) -> None:
        """A sample's attempt goes into a batch."""
        self._set(record.sample, record.attempt, 1)

    def back(self, record: Record, *, asked: bool) -> None:
        """Its batch is done with; whether the provider had taken it at all."""
        self._set(record.sample, record.attempt - (not asked), 0)

    def _set(self, sample: str, attempts: int, away: int) -> None:
        setting, index = split_sample_id(sample)
        self._attempts[setting.name][index] = min(attempts, 255)
        self._out[setting.name] += away - self._away[setting.name][index]
        self._away[setting.name][index] = away


class Intake:
    """Writes records, and counts them into a summary."""

    def __init__(
        self, log: RunLog, summary: RunSummary, ledger: Ledger, show: Callable[[], None]
    ) -> None:
        self.log, self.summary, self.ledger, self.show = log, summary, ledger, show

    async def download(
        self,
        api: BatchAPI,
        submission: Submission,
        work: Work,
        records: Records,
        patience: Patience,
    ) -> None:
        """Write the results of a batch that are not on disk yet.

        Raises:
            Failure: the provider failed; what came before is on disk.
            LeaveError: interrupted; likewise.
        """
        assert submission.batch
        results = api.results(submission.batch)
        together: list[tuple[Record, Response]] = []
        seen: set[str] = set()
        work.strange = 0
        try:
            while (result := await patience.wait_for(anext(results, None))) is not None:
                custom_id, response = result
                sample = custom_id.partition("_")[2]
                if not submission.owns(custom_id) or sample not in records.places:
                    work.strange += 1
                elif sample in work.recorded or sample in seen:
                    pass  # twice, or by a process that was killed before it was done
                elif response.status == "auth":
                    work.denied[sample] = response
                else:
                    seen.add(sample)
                    together.append((records.record(sample), response))
                if len(together) == _TOGETHER:
                    await self.take(submission, work, together)
                    together = []
        finally:
            await self.take(submission, work, together)
            await results.aclose()

    async def fill(
        self, submission: Submission, work: Work, records: Records, rest: Response
    ) -> None:
        """Write what has become of requests without a result."""
        left = [
            sample
            for sample in records.places
            if sample not in work.recorded and sample not in work.denied
        ]
        for start in range(0, len(left), _TOGETHER):
            some = left[start : start + _TOGETHER]
            await self.take(submission, work, [(records.record(sample), rest) for sample in some])

    async def take(
        self, submission: Submission, work: Work, results: Sequence[tuple[Record, Response]]
    ) -> None:
        """Write what has come of requests, but those that are on disk."""
        new = []
        for record, response in results:
            if record.sample in work.recorded:
                continue
            response = msgspec.structs.replace(response, latency=None, batch=submission.batch)
            new.append(msgspec.structs.replace(record, at=now(), response=response))
            work.answered |= response.status not in RETRYABLE
            work.failed |= response.status in RETRYABLE
            work.last = response
        await self.write(new)
        work.recorded.update(record.sample for record in new)

    async def write(self, records: Sequence[Record]) -> None:
        """Write lines; return when they are on disk."""
        places = [split_sample_id(record.sample) for record in records]
        before = [self.log.status(*place) for place in places]
        await asyncio.gather(*map(self.log.append, records))
        for record, (setting, index), old in zip(records, places, before, strict=True):
            self.summary.sent += 1
            self.ledger.add(setting, record.response)
            self.note(record.response)
            start, stop = self.log.plan.get(setting.name, (0, 0))
            if start <= index < stop:  # an earlier command's batch may hold others
                self.summary.replace(old, self.log.status(setting, index))
        self.show()

    def note(self, response: Response) -> None:
        """Keep what went wrong last, for the summary."""
        if response.status not in ANSWERED and response.error:
            self.summary.errors[response.status] = response.error
