"""Gemini's batches, by the google-genai SDK: a file of requests, a job, a file of results.

A submission's token is the file's name and the job's display name. The service keeps files for 48
hours, and jobs end within that time.
"""

import tempfile
from collections.abc import AsyncGenerator, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from google import genai
from google.genai import errors, types

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
)
from mmneedle.adapters.google import GoogleAdapter, read_error, read_error_object
from mmneedle.adapters.server import Secrets
from mmneedle.adapters.statuses import get
from mmneedle.types import Request, Response

_ERRORS = Errors(
    errors.APIError,
    (httpx2.TimeoutException,),
    (httpx2.HTTPError,),
    read_error,
    lambda error: error.code,
)

# The API's guide to batches, as of November 2026: 2 GB a file. It names no number of requests.
LIMITS = Limits(requests=1_000_000, bytes=2_000_000_000)
_MIME_TYPE = "jsonl"  # as the guide has it
_PAGE = 100
_PROCESSING = "PROCESSING"
_RPC_CODES = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""google.rpc.Code -> the HTTP status that it stands for."""
_REST = {"JOB_STATE_EXPIRED": EXPIRED, "JOB_STATE_CANCELLED": CANCELLED}
_ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED", "JOB_STATE_FAILED", *_REST}


class _Result(msgspec.Struct):
    """A line of the file of results."""

    key: str
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None


_RESULTS = msgspec.json.Decoder(_Result)


class GoogleBatches:
    """Batches of an adapter's requests."""

    limits = LIMITS

    def __init__(
        self,
        adapter: GoogleAdapter,
        name: str,
        client: genai.Client,
        http: httpx2.AsyncClient,
        secrets: Secrets,
    ) -> None:
        """Make it.

        Args:
            adapter: makes requests and reads replies.
            name: of the model.
            client: whose retries are off, for a batch made twice is paid twice.
            http: what that client sends by.
            secrets: what errors must not show.
        """
        self._adapter, self._name, self._secrets = adapter, name, secrets
        self._client, self._http = client.aio, http
        self._told: Any = None
        self._address = adapter.fingerprint()["base_url"]
        http.event_hooks = {"response": [self._note]}

    async def _note(self, response: httpx2.Response) -> None:
        """Keep what the service says of a job: the SDK passes over its counts and its error."""
        if response.request.method == "GET" and "/batches/" in response.request.url.path:
            self._told = msgspec.json.decode(await response.aread() or b"null")

    def line(self, custom_id: str, request: Request) -> bytes:
        """A request as a line of the file."""
        name = msgspec.json.encode(custom_id)
        return b'{"key":%b,"request":%b}' % (name, self._adapter.body(request))

    async def submit(self, submission: Submission, path: Path, *, again: bool) -> str:
        """Upload the file, unless that was done already, and make a job of it."""
        with self._failures(known=False):
            file = await self._uploaded(submission) if again else None
            if file is None:
                config = types.UploadFileConfig(
                    name=submission.name, display_name=submission.name, mime_type=_MIME_TYPE
                )
                file = await self._client.files.upload(file=str(path), config=config)
            if file.state and file.state.name == _PROCESSING:
                raise Failure(Response("server_error", error="the file is not ready yet"))
            job = await self._client.batches.create(
                model=self._name,
                src=file.name or "",
                config=types.CreateBatchJobConfig(display_name=submission.name),
            )
        if not job.name:
            raise Failure(Response("server_error", error="the reply names no batch"))
        return job.name

    async def _uploaded(self, submission: Submission) -> types.File | None:
        """The file of a submission, where it went through before the process was killed."""
        try:
            return await self._client.files.get(name=submission.name)
        except errors.APIError as error:
            if error.code in (403, 404):  # "or it may not exist", says the service
                return None
            raise

    async def find(self, submission: Submission, known: Set[str]) -> Found:
        """Look for a job with the submission's name."""
        with self._failures(known=False):
            config = types.ListBatchJobsConfig(page_size=_PAGE)
            async for job in await self._client.batches.list(config=config):
                if job.display_name == submission.name and job.name:
                    return Found(job.name)
        return Found(None)

    async def state(self, batch: str) -> BatchState:
        """How a job stands."""
        job, operation = await self._job(batch)
        state = job.state.value if job.state else ""
        stats = get(get(operation, "metadata", dict), "batchStats", dict)
        counts = (get(stats, f"{what}RequestCount", object) for what in ("successful", "failed"))
        refused = None
        if state == "JOB_STATE_FAILED" and not _file(job):
            refused = self._error(get(operation, "error", dict))
        return BatchState(
            ended=state in _ENDED,
            done=sum(int(str(count)) for count in counts if str(count).isdigit()),
            rest=_REST.get(state, NO_RESULT),
            cancelled=state == "JOB_STATE_CANCELLED",
            refused=refused,
        )

    async def _job(self, batch: str) -> tuple[types.BatchJob, Any]:
        """A job, and what the service said of it."""
        self._told = None
        with self._failures():
            job = await self._client.batches.get(name=batch)
        return job, self._told

    def _error(self, error: dict[str, Any] | None) -> Response:
        """A google.rpc.Status."""
        told = error or {"code": 13, "message": "the batch failed"}
        code = get(told, "code", int) or 13
        return self._secrets.hide(read_error_object(told, _RPC_CODES.get(code, 500), {}))

    async def results(self, batch: str) -> AsyncGenerator[tuple[str, Response]]:
        """What stands in the file of results, by way of a file of ours."""
        job, _ = await self._job(batch)
        name = _file(job)
        if not name:
            return
        with tempfile.TemporaryFile() as file:
            with self._failures():
                await self._client.files.download(file=name, destination=file)
            file.seek(0)
            for line in file:
                result = decode_line(line, _RESULTS)
                if result:
                    yield result.key, self._response(result)

    def _response(self, result: _Result) -> Response:
        if result.error is not None:
            return self._error(result.error)
        return self._adapter.read_reply(bytes(result.response))

    async def cancel(self, batch: str) -> None:
        """Ask for what has not begun to be left."""
        with self._failures():
            await self._client.batches.cancel(name=batch)

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()

    def _failures(self, *, known: bool = True) -> AbstractContextManager[None]:
        return failures(_ERRORS, self._address, self._secrets.hide, known=known)


def _file(job: types.BatchJob) -> str | None:
    """The name of the file of results."""
    return job.dest.file_name if job.dest else None
