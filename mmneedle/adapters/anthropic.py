"""Claude, by Anthropic's Messages API.

The official SDK does authentication, transport and errors; bodies are put together in pieces, as
for OpenAI (`body`). Replies are streamed, so that the time to the first token is known; what the
events add up to is a Message, which is read as a reply that was not streamed.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import anthropic
import httpx2
import msgspec

from mmneedle.adapters import options
from mmneedle.adapters.batches import BATCH_TIMEOUT, BatchAPI
from mmneedle.adapters.body import HOLE, Body, Frame
from mmneedle.adapters.reasoning import (
    MORE_EFFORTS,
    Reasoning,
    budget,
    must_fit,
    patience,
    reasoning,
    room,
)
from mmneedle.adapters.server import CONNECT_TIMEOUT, BaseUrl, Secrets, key_from
from mmneedle.adapters.statuses import decode, failure, get, items, no_reply, one_line
from mmneedle.adapters.transport import limit_reply
from mmneedle.errors import UserError
from mmneedle.types import Request, Response, Status, Usage

ANTHROPIC_URL = "https://api.anthropic.com"
_LEAST_BUDGET = 1024  # tokens, by the API
_OLD_VERSION = "2023-06-01"  # of the API: the last one that knows a temperature

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "base_url": str,
    "max_tokens": options.whole(1),
    "temperature": options.number(0, 1),
    "reasoning": reasoning(MORE_EFFORTS[1:], tokens=True),
    "cache": options.one_of(("auto", "off")),
    "stream": options.yes,
    "timeout": options.number(0),
}
_REASONS = {
    "logprobs": "Anthropic gives no log-probabilities; leave out --logprobs",
    "detail": "Anthropic has no image detail; leave out --detail",
    "seed": "Anthropic has no seed",
    "engine_args": "--engine-arg is for engines on this machine (hf, vllm), not for servers",
}


def create(name: str, given: Mapping[str, Any]) -> "AnthropicAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a missing key."""
    return AnthropicAdapter(name, **options.read(f"anthropic/{name}", given, _OPTIONS, _REASONS))


class AnthropicAdapter:
    """A model behind the Messages API."""

    wants_images = True
    path = "/v1/messages"

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        reasoning: Reasoning | None = None,
        cache: str = "auto",
        stream: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Make an adapter; the key comes from ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN).

        Args:
            name: the model, such as claude-opus-5.
            base_url: a compatible server; ANTHROPIC_BASE_URL or Anthropic itself by default.
            max_tokens: tokens a reply may have, thinking included; by default 300, as in the
                paper, and more for a model that thinks.
            temperature: sent only if given; models up to 4.6 alone take one, when they do not
                think.
            reasoning: how hard to think: a word, or a number of tokens for models up to 4.6;
                "off" switches it off; None leaves it to the model.
            cache: "auto" has the images cached where others of the data set's samples share them.
            stream: take the reply as it is made, which tells the time to its first token.
            timeout: seconds without a byte; by default the run loop's limit alone counts.

        Raises:
            UserError: no key for Anthropic itself; options that exclude each other.
        """
        self.model = f"anthropic/{name}"
        given = base_url or os.environ.get("ANTHROPIC_BASE_URL") or ANTHROPIC_URL
        url = BaseUrl.read(given).without("/v1")
        key = key_from("ANTHROPIC_API_KEY")
        token = "" if key else key_from("ANTHROPIC_AUTH_TOKEN")
        if not key and not token and url.shown == ANTHROPIC_URL:
            raise UserError(
                f"{self.model} needs a key: set ANTHROPIC_API_KEY, or --base-url for another server"
            )
        self._secrets = Secrets(key, token, *url.secrets)
        self._settings: dict[str, Any] = {
            "model": name,
            "base_url": url.shown,
            "max_tokens": room(name, reasoning, max_tokens),
            "temperature": temperature,
            "reasoning": reasoning,
        }
        self._caches, self._streams = cache == "auto", stream
        self._frame = _frame(self.model, self._settings)
        self.headers = {} if temperature is None else {"anthropic-version": _OLD_VERSION}
        """What requests say beside what the SDK does."""
        self.timeout = timeout or patience(self._settings["max_tokens"])
        self._connection = url, key, token
        self._client = _connect(url, key, token, timeout)

    async def generate(self, request: Request) -> Response:
        """One attempt."""
        body = self._body(request, stream=True) if self._streams else self._body(request)
        clock = _Clock()
        try:
            reply: Any = await self._client.post(  # unread, and not yet a stream of events
                self.path,
                content=body,
                cast_to=httpx2.Response,
                options={"headers": {**body.headers, **self.headers}},
                stream=self._streams,
                stream_cls=anthropic.AsyncStream[object],
            )
            try:
                response = await self._take(reply, clock)
            finally:
                await reply.aclose()
        except anthropic.APIStatusError as error:
            response = read_error(error)
        except (anthropic.APITimeoutError, httpx2.TimeoutException) as error:
            response = no_reply("timeout", error, self._settings["base_url"])
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            response = no_reply("server_error", error, self._settings["base_url"])
        timed = {"latency": clock.passed(), "first_token": clock.first}
        return self._secrets.hide(msgspec.structs.replace(response, **timed))

    async def _take(self, reply: httpx2.Response, clock: "_Clock") -> Response:
        if "text/event-stream" not in reply.headers.get("content-type", ""):
            return _read_message(decode(await reply.aread()))  # some gateways do not stream
        message = _Growing()
        async for event in anthropic.AsyncStream.raw_events(reply):
            if not event.data:
                continue
            told = decode(event.data.encode())
            if isinstance(told, Response):
                return told
            if get(told, "type", str) == "error":
                broke = read_error_object(get(told, "error", dict), 500, {})
                return msgspec.structs.replace(broke, uncharged=False)  # it had begun
            message.add(told)
            if message.speaks:
                clock.note()
            if message.done:
                return _read_message(message.whole)
        return Response("server_error", error="the stream ended before the answer did")

    def body(self, request: Request) -> bytes:
        """The JSON of a request that is not streamed, for batches and the like."""
        return bytes(self._body(request))

    def read_reply(self, content: bytes) -> Response:
        """What a reply to `body` with HTTP status 200 says; its JSON."""
        return self._secrets.hide(_read_message(decode(content)))

    def _body(self, request: Request, **fields: Any) -> Body:
        shared = self._caches and request.sample.haystack_number is not None
        return Body(self._frame, request, shared=shared, **fields)

    def batches(self) -> BatchAPI:
        """The provider's batches of such requests."""
        from mmneedle.adapters.anthropic_batches import AnthropicBatches

        client = _connect(*self._connection, BATCH_TIMEOUT, whole=True)
        return AnthropicBatches(self, client, self._secrets)

    def fingerprint(self) -> dict[str, Any]:
        """Every parameter of the requests, and the server's address without user and password."""
        return {"adapter": "anthropic"} | self._settings

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()


def _connect(
    url: BaseUrl, key: str, token: str, timeout: float | None, *, whole: bool = False
) -> anthropic.AsyncAnthropic:
    """Make a client; `whole` takes in replies of any length, as results of batches have."""
    return anthropic.AsyncAnthropic(
        api_key=None if token else key or "none",
        auth_token=token or None,
        base_url=url.shown,
        max_retries=0,  # the run loop's business
        timeout=httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
        http_client=anthropic.DefaultAsyncHttpxClient(
            auth=url.auth,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            event_hooks={"response": [] if whole else [limit_reply]},
        ),
    )


class _Clock:
    """When a request was sent, and when its answer began."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first: float | None = None

    def passed(self) -> float:
        return time.perf_counter() - self.began

    def note(self) -> None:
        if self.first is None:
            self.first = self.passed()


# --------------------------------------------------------------------------- requests


def _frame(model: str, settings: Mapping[str, Any]) -> Frame:
    source = {"type": "base64", "media_type": "image/jpeg", "data": HOLE}
    image = {"type": "image", "source": source}
    message = {"role": "user", "content": [HOLE]}
    body = {
        "model": settings["model"],
        "max_tokens": settings["max_tokens"],
        "messages": [message],
    }
    if settings["temperature"] is not None:
        if _version(settings["model"]) > (4, 6) or settings["reasoning"] not in (None, "off"):
            raise UserError(
                f"{model} takes no temperature: Claude has one up to 4.6, when it does not think"
            )
        body["temperature"] = settings["temperature"]
    body |= _thinking(model, settings)
    last = image | {"cache_control": {"type": "ephemeral"}}
    return Frame.of(body, image, {"type": "text", "text": HOLE}, last)


def _thinking(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for `reasoning`: models up to 4.5 take a budget, later ones say how hard.

    As of November 2026 (the API's pages on adaptive and extended thinking): budgets end with 4.6,
    and Fable and Mythos always think.
    """
    level, version = settings["reasoning"], _version(settings["model"])
    always = re.search("fable|mythos", settings["model"], re.I)
    if level is None:
        return {}
    if level == "off":
        if always:
            raise UserError(f"{model} always thinks: its reasoning cannot be off")
        return {"thinking": {"type": "disabled"}}
    if isinstance(level, int) and (always or version > (4, 6)):
        raise UserError(
            f"{model}: this model takes no number of tokens for reasoning, but one of "
            + ", ".join((*MORE_EFFORTS[1:], "off"))
        )
    if isinstance(level, int) or version < (4, 6):
        tokens = budget(level)
        if tokens < _LEAST_BUDGET:
            raise UserError(f"{model}: reasoning takes {_LEAST_BUDGET} tokens or more")
        must_fit(model, tokens, settings["max_tokens"])
        return {"thinking": {"type": "enabled", "budget_tokens": tokens}}
    return {
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": level},
    }


def _version(name: str) -> tuple[int, int]:
    """4.5 of claude-opus-4-5-20251101 or claude-3-7-sonnet; today's where a name has none."""
    numbers = re.findall(r"(?<=[-@.])\d{1,2}(?=[-@.:]|$)", name)[:2]
    return (int(numbers[0]), int((*numbers, "0")[1])) if numbers else (99, 0)


# --------------------------------------------------------------------------- replies


class _Growing:
    """A Message that events add up to."""

    def __init__(self) -> None:
        self.whole: dict[str, Any] = {}
        self.speaks = self.done = False
        """Whether the answer itself has begun; whether all is there."""
        self._blocks: dict[int, dict[str, Any]] = {}

    def add(self, event: Any) -> None:
        """Take an event in; kinds that are not known are passed over, as the API asks."""
        kind, delta = get(event, "type", str), get(event, "delta", dict) or {}
        if kind == "message_start":
            self.whole = get(event, "message", dict) or {}
        elif kind == "content_block_start":
            block = get(event, "content_block", dict) or {}
            self._blocks[get(event, "index", int) or 0] = dict(block)
            self.speaks |= bool(block.get("type") == "text" and block.get("text"))
        elif kind == "content_block_delta":
            block = self._blocks.setdefault(get(event, "index", int) or 0, {})
            for field in ("text", "thinking"):
                more = get(delta, field, str) or ""
                if more:
                    block[field] = (get(block, field, str) or "") + more
                    self.speaks |= field == "text"
        elif kind == "message_delta":
            usage = get(self.whole, "usage", dict) or {}
            later = {k: v for k, v in (get(event, "usage", dict) or {}).items() if v is not None}
            self.whole |= delta | {"usage": usage | later}
        elif kind == "message_stop":
            self.whole["content"] = [block for _, block in sorted(self._blocks.items())]
            self.done = True


def _read_message(body: Any) -> Response:
    if isinstance(body, Response):
        return body
    if get(body, "type", str) == "error":
        return read_error_object(get(body, "error", dict), 500, {})
    if get(body, "content", list) is None:
        return Response("server_error", error="the reply is no message")
    text, thought = _joined(body, "text"), _joined(body, "thinking")
    stop = get(body, "stop_reason", str)
    status: Status
    if stop == "refusal":
        status = "refused"
    elif stop in ("max_tokens", "model_context_window_exceeded"):
        status = "truncated"
    else:
        status = "ok" if text.strip() else "empty"
    why = get(get(body, "stop_details", dict), "explanation", str) if stop == "refusal" else None
    return Response(
        status,
        text=text or None,
        reasoning=thought or None,
        stop_reason=stop,
        model=get(body, "model", str),
        usage=_usage(get(body, "usage", dict)),
        error=one_line(why) if why else None,
    )


def _joined(body: Any, kind: str) -> str:
    """The words of all blocks of a kind."""
    return "".join(
        get(block, kind, str) or "" for block in items(body, "content") if block.get("type") == kind
    )


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """Anthropic counts input tokens without those read from or written to its cache."""
    if usage is None:
        return None
    fresh = get(usage, "input_tokens", int)
    read = get(usage, "cache_read_input_tokens", int)
    written = get(usage, "cache_creation_input_tokens", int)
    details = get(usage, "output_tokens_details", dict)
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        output_tokens=get(usage, "output_tokens", int),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=get(details, "thinking_tokens", int),
    )


# --------------------------------------------------------------------------- errors

_CODES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def read_error(error: anthropic.APIStatusError) -> Response:
    """What the SDK's error says."""
    told = get(error.body, "error", dict)
    if told:
        return read_error_object(told, error.status_code, error.response.headers)
    message = one_line(error)
    return failure(error.status_code, message, message, error.response.headers)


def read_error_object(
    told: dict[str, Any] | None, code: int, headers: Mapping[str, str]
) -> Response:
    """An error object; in a stream, which began well, its type takes the HTTP status's place."""
    kind = get(told, "type", str) or "error"
    reason = get(get(told, "details", dict), "error_code", str) or ""
    message = get(told, "message", str) or msgspec.json.encode(told).decode()
    if not headers:
        code = _CODES.get(kind, code)
    said = one_line(f"Error code: {code} - {kind}: {message}")
    if code == 404:
        said += " (is the model's name right?)"
    return failure(code, f"{kind} {reason} {message}", said, headers)
