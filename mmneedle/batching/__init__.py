"""The evaluation by batch APIs: what `runner` does, at half the price and within a day.

Samples that are not finished go to the provider in files of thousands; this process looks now and
then whether they are answered. It may be killed at any moment: every submission is written down
before the provider hears of it and bears a token of ours, so the next process finds the batch that
came of it, or knows that none did, before it sends anything (`log.py`). Answers become the same
records in responses.jsonl as those of a direct run, and either may go on with the other.

Memory does not grow with the plan: a few bytes a sample, and the ids of one batch.
"""

import asyncio
from typing import Any

from mmneedle.adapters.batches import BatchAPI
from mmneedle.batching.evaluation import BatchEvaluation
from mmneedle.batching.intake import BatchSummary
from mmneedle.batching.log import open_batches
from mmneedle.errors import UserError
from mmneedle.runlog import RunLog
from mmneedle.runner import Samples, signals
from mmneedle.types import Adapter, Task

__all__ = ["BatchEvaluation", "BatchSummary", "batch_api", "open_batches", "run"]


def batch_api(adapter: Adapter) -> BatchAPI:
    """The adapter's batches. Raises UserError where its provider has none."""
    make = getattr(adapter, "batches", None)
    if make is None:
        raise UserError(f"{adapter.model} has no batch API; leave out --batch")
    api: BatchAPI = make()
    return api


def run(
    task: Task, dataset: Samples, adapter: Adapter, api: BatchAPI, log: RunLog, **options: Any
) -> BatchSummary:
    """Ask every sample of `log.plan` that is not finished; options as `BatchEvaluation` has them.

    Ctrl-C (or SIGTERM) leaves at once; the summary says which batches go on at the provider.

    Raises:
        UserError: a wrong key, a log that cannot be written. What was finished before is on disk.
    """

    async def main() -> BatchSummary:
        try:
            evaluation = BatchEvaluation(task, dataset, adapter, api, log, **options)
            with signals(evaluation.interrupt):
                return await evaluation.run()
        finally:
            await api.aclose()
            await adapter.aclose()

    return asyncio.run(main())
