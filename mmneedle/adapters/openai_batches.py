"""OpenAI's Batch API: a file is uploaded, a batch is made of it, results are files again.

A submission's token is the file's name and stands in the batch's metadata. The API keeps files of
batches for 30 days.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
from openai.types import Batch

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
from mmneedle.adapters.openai import OpenAIAdapter, read_error
from mmneedle.adapters.server import Secrets
from mmneedle.adapters.statuses import failure, get, one_line
from mmneedle.types import Request, Response

_ERRORS = Errors(
    openai.APIStatusError,
    (openai.APITimeoutError,),
    (openai.APIError, httpx2.HTTPError),
    read_error,
    lambda error: error.status_code,
)

# The API's guide to batches, as of November 2026.
LIMITS = Limits(requests=50_000, bytes=200_000_000)
_KEY = "mmneedle"  # of the metadata
_SKEW = 3600  # seconds that their clock and ours may differ by
_PAGE = 100  # as many as the API lists at once
_FULL = "token_limit_exceeded"  # so many tokens are waiting already
_UNASKED = {"batch_expired": EXPIRED, "batch_cancelled": CANCELLED}


class _Reply(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Result(msgspec.Struct):
    """A line of a file of results or of errors."""

    custom_id: str
    response: _Reply | None = None
    error: dict[str, Any] | None = None


_RESULTS = msgspec.json.Decoder(_Result)


class OpenAIBatches:
    """Batches of an adapter's requests."""

    limits = LIMITS

    def __init__(
        self, adapter: OpenAIAdapter, client: openai.AsyncOpenAI, secrets: Secrets
    ) -> None:
        """Make it.

        Args:
            adapter: makes requests and reads replies.
            client: that streams; its retries are off, for a batch made twice is paid twice.
            secrets: what errors must not show.
        """
        self._adapter, self._client, self._secrets = adapter, client, secrets
        self._address = adapter.fingerprint()["base_url"]
        self._url = f"/v1{adapter.path}"
        self._frame = b',"method":"POST","url":%b,"body":' % msgspec.json.encode(self._url)

    def line(self, custom_id: str, request: Request) -> bytes:
        """A request as a line of the file."""
        name = msgspec.json.encode(custom_id)
        return b'{"custom_id":%b%b%b}' % (name, self._frame, self._adapter.body(request))

    async def submit(self, submission: Submission, path: Path, *, again: bool) -> str:
        """Upload the file, unless that was done already, and make a batch of it."""
        with self._failures(known=False):
            file = await self._uploaded(submission) if again else None
            if file is None:
                with path.open("rb") as content:
                    uploaded = await self._client.files.create(
                        file=(f"{submission.name}.jsonl", content), purpose="batch"
                    )
                file = uploaded.id
            batch = await self._client.batches.create(
                input_file_id=file,
                endpoint=self._url,  # type: ignore[arg-type]
                completion_window="24h",
                metadata={_KEY: submission.token},
            )
            return batch.id

    async def _uploaded(self, submission: Submission) -> str | None:
        """The file of a submission, where it went through before the process was killed."""
        async for file in self._client.files.list(purpose="batch", limit=_PAGE, order="desc"):
            whole = file.bytes == submission.bytes and file.status != "error"
            if file.filename == f"{submission.name}.jsonl" and whole:
                return file.id
            if file.created_at < submission.at - _SKEW:
                break
        return None

    async def find(self, submission: Submission, known: Set[str]) -> Found:
        """Look for a batch whose metadata holds the token; newest come first."""
        with self._failures(known=False):
            async for batch in self._client.batches.list(limit=_PAGE):
                if (batch.metadata or {}).get(_KEY) == submission.token:
                    return Found(batch.id)
                if batch.created_at < submission.at - _SKEW:
                    break
        return Found(None)

    async def state(self, batch: str) -> BatchState:
        """How a batch stands."""
        with self._failures():
            return self._state(await self._client.batches.retrieve(batch))

    def _state(self, batch: Batch) -> BatchState:
        counts = batch.request_counts
        done = counts.completed + counts.failed if counts else 0
        if batch.status == "failed":
            found = [
                (error.line, self._refusal(error.code, error.message))
                for error in (batch.errors and batch.errors.data) or []
            ]
            whole = [why for line, why in found if line is None] or [why for _, why in found]
            return BatchState(
                ended=True,
                refused=(whole or [Response("server_error", error="the batch failed")])[0],
                refused_lines={line: why for line, why in found if line is not None},
            )
        rest = {"expired": EXPIRED, "cancelled": CANCELLED}.get(batch.status, NO_RESULT)
        return BatchState(
            ended=batch.status in ("completed", "expired", "cancelled"),
            done=done,
            rest=rest,
            cancelled=batch.status == "cancelled",
        )

    def _refusal(self, code: str | None, message: str | None) -> Response:
        said = one_line(f"{code or 'error'}: {message or 'no reason given'}")
        if code == _FULL:
            return Response("rate_limited", error=said)
        return self._secrets.hide(failure(400, said, said, {}))

    async def results(self, batch: str) -> AsyncGenerator[tuple[str, Response]]:
        """What stands in the file of results and in that of errors."""
        with self._failures():
            told = await self._client.batches.retrieve(batch)
            files = told.output_file_id, told.error_file_id
        lost: Failure | None = None
        for file in filter(None, files):
            try:
                async for line in lines(self._content(file)):
                    result = decode_line(line, _RESULTS)
                    if result:
                        yield result.custom_id, self._response(result)
            except Failure as error:
                if not error.gone:
                    raise
                lost = error
        if lost:
            raise lost

    async def _content(self, file: str) -> AsyncIterator[bytes]:
        with self._failures():
            content = self._client.files.with_streaming_response.content(file)
            async with content as response:
                async for chunk in response.iter_bytes():
                    yield chunk

    def _response(self, result: _Result) -> Response:
        code = get(result.error, "code", str) or ""
        if code in _UNASKED:
            return _UNASKED[code]
        reply = result.response
        if reply is None:
            said = one_line(f"{code}: {get(result.error, 'message', str) or 'no reason given'}")
            return self._secrets.hide(failure(500, said, said, {}))
        if reply.status_code == 200:
            return self._adapter.read_reply(bytes(reply.body))
        return self._secrets.hide(_failed(reply))

    async def cancel(self, batch: str) -> None:
        """Ask for what has not begun to be left."""
        with self._failures():
            await self._client.batches.cancel(batch)

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()

    def _failures(self, *, known: bool = True) -> AbstractContextManager[None]:
        return failures(_ERRORS, self._address, self._secrets.hide, known=known)


def _failed(reply: _Reply) -> Response:
    """What became of one request, as its HTTP status and body tell."""
    try:
        body: Any = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None
    error: Mapping[str, Any] = get(body, "error", dict) or {}
    words = [str(error[name]) for name in ("code", "type", "message") if error.get(name)]
    said = " ".join(words) or bytes(reply.body).decode(errors="replace")
    message = one_line(f"Error code: {reply.status_code} - {said}")
    code = reply.status_code if reply.status_code >= 400 else 500
    return failure(code, said, message, {})
