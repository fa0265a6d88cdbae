"""Anthropic's Message Batches: requests go and come as one stream each, without files.

A batch bears no name, so a submission whose making was cut off is known by what it holds: batches
made since with as many requests, one of which brings results that begin with our token. Results
come when a batch has ended; until then it is undecided.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import msgspec
from anthropic.types.messages import MessageBatch

from mmneedle.adapters.anthropic import AnthropicAdapter, read_error, read_error_object
from mmneedle.adapters.batch_failures import Errors, failures
from mmneedle.adapters.batches import (
    CANCELLED,
    EXPIRED,
    NO_RESULT,
    BatchState,
    Failure,
    Found,
    Limits,
    Submission,
    decode_line,
    lines,
)
from mmneedle.adapters.server import Secrets
from mmneedle.adapters.statuses import decode, get
from mmneedle.types import Request, Response

_ERRORS = Errors(
    anthropic.APIStatusError,
    (anthropic.APITimeoutError, httpx2.TimeoutException),
    (anthropic.APIError, httpx2.HTTPError),
    read_error,
    lambda error: error.status_code,
)

# The API's guide to batch processing, as of November 2026; a thousandth less, for the frame.
LIMITS = Limits(requests=100_000, bytes=255_700_000)
_PATH = "/v1/messages/batches"
_SKEW = 3600  # seconds that their clock and ours may differ by
_PAGE = 100
_PIECE = 1 << 18  # bytes that are handed to the network at once


class _Outcome(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


class _Result(msgspec.Struct):
    """A line of the results."""

    custom_id: str
    result: _Outcome


_RESULTS = msgspec.json.Decoder(_Result)


class AnthropicBatches:
    """Batches of an adapter's requests."""

    limits = LIMITS

    def __init__(
        self, adapter: AnthropicAdapter, client: anthropic.AsyncAnthropic, secrets: Secrets
    ) -> None:
        """Make it.

        Args:
            adapter: makes requests and reads replies.
            client: whose retries are off, for a batch made twice is paid twice.
            secrets: what errors must not show.
        """
        self._adapter, self._client, self._secrets = adapter, client, secrets
        self._address = adapter.fingerprint()["base_url"]

    def line(self, custom_id: str, request: Request) -> bytes:
        """A request as an item of the list `requests`."""
        name = msgspec.json.encode(custom_id)
        return b'{"custom_id":%b,"params":%b}' % (name, self._adapter.body(request))

    async def submit(self, submission: Submission, path: Path, *, again: bool) -> str:
        """Send the lines as one body."""
        body = _Body(path, submission.bytes)
        with self._failures(known=False):
            reply = await self._client.post(
                _PATH,
                content=body,
                cast_to=httpx2.Response,
                options={"headers": {**body.headers, **self._adapter.headers}},
            )
        batch = get(decode(reply.content), "id", str)
        if batch is None:
            raise Failure(Response("server_error", error="the reply names no batch"))
        return batch

    async def find(self, submission: Submission, known: Set[str]) -> Found:
        """Look through batches made since with as many requests; newest come first."""
        undecided = False
        with self._failures(known=False):
            async for batch in self._client.messages.batches.list(limit=_PAGE):
                if batch.created_at.timestamp() < submission.at - _SKEW:
                    break
                if batch.id in known or _total(batch) != submission.requests:
                    continue
                if batch.processing_status != "ended":
                    undecided = True
                elif not batch.archived_at and await self._made_of(submission, batch.id):
                    return Found(batch.id)
        return Found(None, undecided)

    async def _made_of(self, submission: Submission, batch: str) -> bool:
        results = self.results(batch)
        try:
            async for custom_id, _ in results:
                return submission.owns(custom_id)
        except Failure as failure:
            if not failure.gone:
                raise
        finally:
            await results.aclose()
        return False

    async def state(self, batch: str) -> BatchState:
        """How a batch stands."""
        with self._failures():
            told = await self._client.messages.batches.retrieve(batch)
            return BatchState(
                ended=told.processing_status == "ended",
                done=_total(told) - told.request_counts.processing,
                rest=NO_RESULT,
                cancelled=told.cancel_initiated_at is not None,
            )

    async def results(self, batch: str) -> AsyncGenerator[tuple[str, Response]]:
        """What stands in the stream of results."""
        async for line in lines(self._content(batch)):
            result = decode_line(line, _RESULTS)
            if result:
                yield result.custom_id, self._response(result.result)

    async def _content(self, batch: str) -> AsyncIterator[bytes]:
        with self._failures():
            reply: Any = await self._client.get(  # unread
                f"{_PATH}/{batch}/results",
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=anthropic.AsyncStream[object],
            )
            try:
                async for chunk in reply.aiter_bytes():
                    yield chunk
            finally:
                await reply.aclose()

    def _response(self, outcome: _Outcome) -> Response:
        if outcome.type == "succeeded":
            return self._adapter.read_reply(bytes(outcome.message))
        if outcome.type == "expired":
            return EXPIRED
        if outcome.type == "canceled":
            return CANCELLED
        # {"type": "error", "error": {"type": "invalid_request_error", "message": …}}
        error: Mapping[str, Any] | None = get(outcome.error, "error", dict) or outcome.error
        failed = read_error_object(dict(error or {"type": outcome.type}), 500, {})
        # The guide to batches, as of November 2026: requests that erred are not billed.
        return self._secrets.hide(msgspec.structs.replace(failed, uncharged=True))

    async def cancel(self, batch: str) -> None:
        """Ask for what has not begun to be left."""
        with self._failures():
            await self._client.messages.batches.cancel(batch)

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()

    def _failures(self, *, known: bool = True) -> AbstractContextManager[None]:
        return failures(_ERRORS, self._address, self._secrets.hide, known=known)


def _total(batch: MessageBatch) -> int:
    counts = batch.request_counts
    unfinished = counts.processing
    return unfinished + counts.succeeded + counts.errored + counts.canceled + counts.expired


class _Body:
    """A file of lines as the API's JSON, read when it is about to be sent.

    No __iter__: the SDK takes what has that for a body to be sent by blocking calls.
    """

    _before, _after = b'{"requests":[', b"]}"

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size - 1
        """Without the last line end; the others become commas."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What an HTTP request says of it."""
        length = len(self._before) + self.size + len(self._after)
        return {"Content-Type": "application/json", "Content-Length": str(length)}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._before
        left = self.size
        with self.path.open("rb") as file:
            while left and (piece := file.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece.replace(b"\n", b",")
        yield self._after
