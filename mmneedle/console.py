"""Progress on stderr: one bar on a terminal, now and then a plain line elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_EVERY = 10.0  # seconds between plain lines


class Report(Protocol):
    """Told how far a piece of work has come."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`done` of `total` units of `what` are finished."""
        ...


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Report]:
    """Show progress until the block ends.

    Args:
        quiet: show nothing.
    """
    if quiet:
        yield lambda what, done, total: None
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield _OnTerminal(bar)
    else:
        yield _InLines()


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


class _OnTerminal:
    """One bar: the piece of work that moved last."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.what = ""
        self.task: TaskID | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.task is None or what != self.what:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.what, self.task = what, self.bar.add_task(what, total=total)
        self.bar.update(self.task, completed=done, total=total)


class _InLines:
    """A line when a piece of work ends, and every ten seconds of a long one."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.said = ("", 0)

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        due = done >= total or now - self.last >= _EVERY
        if due and (what, done) != self.said:
            self.last, self.said = now, (what, done)
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
