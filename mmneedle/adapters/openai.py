"""OpenAI's chat completions, and every server that speaks them (vLLM, Azure, OpenRouter, …).

The official SDK does authentication, transport and errors. Two things are done by hand because
requests are large (ten images are a megabyte): the JSON body is put together from base64 without
being escaped again, and the reply is read without building the SDK's models.
"""

import os
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import httpx2
import msgspec
import openai

from mmneedle.adapters import options
from mmneedle.adapters.replies import classify, read_reply, retry_after
from mmneedle.adapters.transport import DirectTransport
from mmneedle.errors import UserError
from mmneedle.types import RETRYABLE, Request, Response

try:
    from pybase64 import b64encode  # many times as fast
except ModuleNotFoundError:
    from base64 import b64encode  # type: ignore[assignment]

OPENAI_URL = "https://api.openai.com/v1"
_CONNECT_TIMEOUT = 10.0  # seconds
_PIECE = 1 << 18  # bytes of a body that are handed to the network at once
_LONGEST_ERROR = 500  # characters; some servers say back the whole request
_SHORTEST_SECRET = 8  # "EMPTY" and "none" are no secrets, and may well stand in an answer

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "base_url": str,
    "max_tokens": options.whole(1),
    "token_field": options.one_of(("max_tokens", "max_completion_tokens")),
    "temperature": options.number(0),
    "seed": options.whole(-(2**63)),
    "detail": options.one_of(("auto", "low", "high", "original")),
    "timeout": options.number(0),
}


def create(name: str, given: Mapping[str, Any]) -> "OpenAIAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a missing key."""
    return OpenAIAdapter(name, **options.read(f"openai/{name}", given, _OPTIONS))


class OpenAIAdapter:
    """A model behind a chat-completions endpoint."""

    wants_images = True

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        max_tokens: int = 300,
        token_field: str | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        detail: str | None = None,
        timeout: float | None = None,
        direct: bool = True,
    ) -> None:
        """Make an adapter; the key comes from OPENAI_API_KEY.

        Args:
            name: the model, as the server knows it.
            base_url: a compatible server, such as http://localhost:8000/v1; OPENAI_BASE_URL or
                OpenAI itself by default. User and password in it are sent as basic
                authentication and shown nowhere.
            max_tokens: tokens an answer may have, thinking included (300 as in the paper).
            token_field: how the server calls that limit. By default `max_completion_tokens` for
                OpenAI and Azure, whose reasoning models take nothing else, and `max_tokens` for
                other servers, which all know it.
            temperature, seed: sent only if given.
            detail: of the images; sent only if given.
            timeout: seconds for one reply; by default the run loop's limit alone counts.
            direct: may use the lean transport where the server is reached by plain http.

        Raises:
            UserError: no key for OpenAI itself; a base URL that is none.
        """
        self.model = f"openai/{name}"
        url = _BaseUrl.read(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):  # no HTTP header can hold it
            raise UserError("OPENAI_API_KEY holds characters that no key has")
        if not key and url.shown == OPENAI_URL:
            raise UserError(
                f"{self.model} needs a key: set OPENAI_API_KEY, or --base-url for another server"
            )
        secrets = (key, *url.secrets)
        self._secrets = [text for text in secrets if text and len(text) >= _SHORTEST_SECRET]
        self._settings = {
            "model": name,
            "base_url": url.shown,
            "max_tokens": max_tokens,
            "token_field": token_field or url.token_field,
            "temperature": temperature,
            "seed": seed,
            "detail": detail,
        }
        self._frame = _Frame.of(self._settings)
        self._client = AsyncOpenAI(
            api_key=key or "none",
            base_url=url.shown,
            max_retries=0,  # the run loop's business
            timeout=httpx2.Timeout(timeout, connect=_CONNECT_TIMEOUT),
            http_client=openai.DefaultAsyncHttpxClient(
                auth=url.auth,
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
                transport=DirectTransport() if direct and url.direct else None,
            ),
        )

    async def generate(self, request: Request) -> Response:
        """One attempt."""
        body = _Body(self._frame, request)
        began = time.perf_counter()
        try:
            reply = await self._client.post(
                "/chat/completions",
                content=body,
                cast_to=httpx2.Response,
                options={
                    "headers": {"Content-Length": str(body.length)},
                    "idempotency_key": "",  # never sent; the SDK would draw a random one
                },
            )
            response = read_reply(reply.content)
        except openai.APIStatusError as error:
            response = _read_error(error)
        except openai.APITimeoutError as error:
            response = Response("timeout", error=_one_line(error))
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            response = Response("server_error", error=_one_line(error))
        latency = time.perf_counter() - began
        return self._presentable(msgspec.structs.replace(response, latency=latency))

    def fingerprint(self) -> dict[str, Any]:
        """Every parameter of the requests, and the server's address without user and password."""
        return {"adapter": "openai"} | self._settings

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()

    def _presentable(self, response: Response) -> Response:
        """A server may say back what it was sent: no secret goes further than here."""
        for secret in self._secrets:
            for field in ("text", "reasoning", "stop_reason", "model", "error"):
                text = getattr(response, field)
                if text and secret in text:
                    changed = {field: text.replace(secret, "[key]")}
                    response = msgspec.structs.replace(response, **changed)
        if response.error:
            response = msgspec.structs.replace(response, error=response.error[:_LONGEST_ERROR])
        return response


class AsyncOpenAI(openai.AsyncOpenAI):
    """The SDK's client, which puts together a request of ours only once.

    All requests of an adapter differ in their body alone, and building one anew costs more than
    sending it. Where an SDK does not call this hook, requests are the same and come slower. (The
    class's name stands in the User-Agent.)
    """

    _first: httpx2.Request | None = None

    def _build_request(self, options: Any, **more: Any) -> httpx2.Request:
        if not isinstance(options.content, _Body) or self._first is None:
            built = super()._build_request(options, **more)
            if isinstance(options.content, _Body):
                self._first = built
            return built
        first = self._first
        headers = first.headers.copy()
        headers["Content-Length"] = str(options.content.length)
        return httpx2.Request(
            first.method,
            first.url,
            headers=headers,
            content=options.content,
            extensions=first.extensions,
        )


class _BaseUrl(NamedTuple):
    """A server's address, taken apart."""

    shown: str
    """Without user and password."""
    auth: tuple[str, str] | None
    secrets: tuple[str, ...]
    token_field: str
    direct: bool
    """Plain http and no proxy on the way."""

    @classmethod
    def read(cls, text: str) -> Self:
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname or "", parts.port
            if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
                raise ValueError
        except ValueError:  # the address is not shown: it may hold a password
            raise UserError(
                "the base URL must look like http://localhost:8000/v1 (http or https, no ?query)"
            ) from None
        where = f"[{host}]" if ":" in host else host
        where += f":{port}" if port else ""
        auth = None
        secrets: tuple[str, ...] = ()
        if parts.username or parts.password:
            auth = unquote(parts.username or ""), unquote(parts.password or "")
            basic = b64encode(":".join(auth).encode()).decode()
            secrets = (*auth, parts.password or "", basic)
        ours = host.endswith((".openai.com", ".openai.azure.com", ".services.ai.azure.com"))
        proxies = urllib.request.getproxies()
        proxied = ("http" in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host)
        return cls(
            shown=f"{parts.scheme}://{where}{parts.path.rstrip('/')}",
            auth=auth,
            secrets=secrets,
            token_field="max_completion_tokens" if ours else "max_tokens",
            direct=parts.scheme == "http" and not proxied,
        )


# --------------------------------------------------------------------------- requests


class _Frame(NamedTuple):
    """The parts of a request's JSON that never change, with the images and the prompt left out."""

    before: bytes
    image: bytes
    image_end: bytes
    text: bytes
    after: bytes

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        parameters = {settings["token_field"]: settings["max_tokens"]}
        for name in ("temperature", "seed"):
            if settings[name] is not None:
                parameters[name] = settings[name]
        detail = settings["detail"]
        return cls(
            before=b'{"model":%b,"messages":[{"role":"user","content":['
            % msgspec.json.encode(settings["model"]),
            image=b'{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,',
            image_end=(f'","detail":"{detail}"}}}},' if detail else '"}},').encode(),
            text=b'{"type":"text","text":',
            after=b"}]}],%b" % msgspec.json.encode(parameters)[1:],
        )


class _Body:
    """A request's JSON in pieces: the images first, in order, then the text.

    Images are encoded when they are about to be sent, so that what waits for an answer takes no
    memory and what was encoded is still in the processor's cache. It can be gone through again,
    as a redirect needs.
    """

    def __init__(self, frame: _Frame, request: Request) -> None:
        self.frame, self.images = frame, request.images
        self.end = frame.text + msgspec.json.encode(request.prompt) + frame.after
        around = len(frame.image) + len(frame.image_end)
        encoded = sum(around + (len(image) + 2) // 3 * 4 for image in request.images)
        self.length = len(frame.before) + encoded + len(self.end)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts, size = [self.frame.before], 0
        for image in self.images:
            encoded = b64encode(image)
            parts += (self.frame.image, encoded, self.frame.image_end)
            size += len(encoded)
            if size >= _PIECE:
                yield b"".join(parts)
                parts, size = [], 0
        yield b"".join((*parts, self.end))


# --------------------------------------------------------------------------- errors


def _read_error(error: openai.APIStatusError) -> Response:
    message = _one_line(error)
    if isinstance(error.body, dict) and "message" not in error.body:
        message += f" {msgspec.json.encode(error.body).decode()}"
    if error.status_code == 404:
        message += " (is the model's name right, and the base URL? it mostly ends in /v1)"
    status = classify(error.status_code, " ".join(filter(None, (error.code, error.type, message))))
    wait = retry_after(error.response.headers) if status in RETRYABLE else None
    return Response(status, error=message, retry_after=wait)


def _one_line(error: Exception) -> str:
    cause = str(error.__cause__ or "")
    text = f"{error} ({cause})" if cause and cause not in str(error) else str(error)
    return " ".join(text.split())
