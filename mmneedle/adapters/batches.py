"""Batch APIs behind one interface: many requests in one file, answered within a day, at half price.

An adapter whose provider has such an API has a method `batches() -> BatchAPI`. Nothing here retries
or waits: that is the batch loop's business (`mmneedle.batching`).
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from mmneedle.types import Request, Response

_T = TypeVar("_T")

BATCH_TIMEOUT = 600.0
"""Seconds that a provider may say nothing: it may look through a whole file before it answers."""

NO_RESULT = Response("server_error", error="the batch brought no result for it")
CANCELLED = Response(
    "server_error", error="the batch was cancelled before it was asked", uncharged=True
)
EXPIRED = Response("timeout", error="the batch expired before it was asked", uncharged=True)


class Failure(Exception):  # noqa: N818 - it is what a Response says
    """The provider did not do what it was asked."""

    def __init__(self, response: Response, *, gone: bool = False) -> None:
        """Say what happened.

        Args:
            response: its status and error, as an adapter would return them for one request.
            gone: there is no such thing (any more).
        """
        super().__init__(response.error)
        self.response, self.gone = response, gone


class Limits(NamedTuple):
    """What one batch may hold."""

    requests: int
    bytes: int
    """Of all lines, line ends included."""


class Submission(msgspec.Struct, kw_only=True):
    """A file of requests that goes, or went, to the provider."""

    token: str
    """Ours, unique: 16 hexadecimal digits. It begins every custom id."""
    at: float
    """When it was written down: seconds since 1970, before the provider heard of it."""
    requests: int
    bytes: int
    batch: str | None = None
    """The provider's id of the batch, once it is known."""

    @property
    def name(self) -> str:
        """What people see in the provider's console."""
        return f"mmneedle-{self.token}"

    def owns(self, custom_id: str) -> bool:
        """Whether a result belongs to this submission."""
        return custom_id.startswith(f"{self.token}_")


class Found(NamedTuple):
    """What looking for a submission at the provider came to."""

    batch: str | None
    """The batch that was made of it; None: there is none."""
    undecided: bool = False
    """A batch that is still running may be it: look again when that has ended."""


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """How a batch stands."""

    ended: bool
    """No more results will come."""
    done: int = 0
    """Requests that have a result, as the provider counts; 0 where it does not say."""
    rest: Response = NO_RESULT
    """Of requests that have no result when the batch has ended."""
    cancelled: bool = False
    """By hand, before it was done."""
    refused: Response | None = None
    """The batch as a whole was refused, and nothing in it was asked."""
    refused_lines: Mapping[int, Response] = {}
    """Then: the requests that were at fault, by line from 1, where the provider says."""


class BatchAPI(Protocol):
    """One provider's batches. Every method raises Failure for what the provider does."""

    limits: Limits

    def line(self, custom_id: str, request: Request) -> bytes:
        """A request as a line of the file, without the line end."""
        ...

    async def submit(self, submission: Submission, path: Path, *, again: bool) -> str:
        """Make a batch of a file of lines; never tries twice.

        Args:
            submission: whose name or token the batch carries, so that `find` finds it.
            path: the file.
            again: a part of it may have been done by a process that was killed.

        Returns:
            The batch's id.
        """
        ...

    async def find(self, submission: Submission, known: Set[str]) -> Found:
        """Look for the batch that was made of a submission.

        Args:
            submission: by its token.
            known: batches that are other submissions'.
        """
        ...

    async def state(self, batch: str) -> BatchState:
        """How a batch stands. `Failure.gone`: the provider knows no such batch."""
        ...

    def results(self, batch: str) -> AsyncGenerator[tuple[str, Response]]:
        """(custom id, response) of what was asked, in any order, streamed.

        `Failure.gone`, after all that is there: results, or some of them, are lost.
        """
        ...

    async def cancel(self, batch: str) -> None:
        """Ask for what has not begun to be left; the batch ends a while later."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of a download that are not empty, without their ends.

    Not `str.splitlines`, as HTTP clients do: JSON may hold other line separators unescaped.
    """
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def decode_line(line: bytes, decoder: msgspec.json.Decoder[_T]) -> _T | None:
    """Read a result's line; None for one that is none, whose request then has no result."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
