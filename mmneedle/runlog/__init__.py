"""A run's folder on disk: what was asked, every finished attempt, and who is writing it.

RUN/run.json          what is asked of whom (`RunHeader`), written whole or not at all
RUN/responses.jsonl   one `Record` a line, only ever appended to; a line is synced before it counts
RUN/lock              held by flock(2) for the writing process's life; says who that is

Killing the writer at any moment loses no counted line: at most a half line is left at the end,
which the next writer cuts off and readers pass over. Reading needs memory for a few bytes a
sample, however long the answers are.
"""

from mmneedle.runlog.header import FORMAT, Plan, RunHeader, Stop, environment, now, pixels
from mmneedle.runlog.reading import Run, open_runs
from mmneedle.runlog.records import FINAL, STATUSES, Record, read_line, replaces, request_digest
from mmneedle.runlog.writing import RunLog

__all__ = [
    "FINAL",
    "FORMAT",
    "STATUSES",
    "Plan",
    "Record",
    "Run",
    "RunHeader",
    "RunLog",
    "Stop",
    "environment",
    "now",
    "open_runs",
    "pixels",
    "read_line",
    "replaces",
    "request_digest",
]
