"""Gemini, by the google-genai SDK.

The SDK does authentication, transport and errors; its HTTP reply is read here, as a reply of a
batch is. Its own retries are off: the run loop's are the ones that count.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import google.genai as genai
import httpx2
import msgspec
from google.genai import errors, types

from mmneedle.adapters import options
from mmneedle.adapters.batches import BATCH_TIMEOUT, BatchAPI
from mmneedle.adapters.body import HOLE, Body, Frame
from mmneedle.adapters.reasoning import (
    Reasoning,
    budget,
    must_fit,
    patience,
    reasoning,
    room,
    thinks,
)
from mmneedle.adapters.server import BaseUrl, Secrets, key_from
from mmneedle.adapters.statuses import (
    decode,
    failure,
    get,
    items,
    no_reply,
    one_line,
    seconds,
)
from mmneedle.adapters.transport import limit_reply
from mmneedle.errors import UserError
from mmneedle.types import RETRYABLE, Request, Response, Status, Usage

GOOGLE_URL = "https://generativelanguage.googleapis.com"
_KEYS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
_URLS = ("GOOGLE_BASE_URL", "GOOGLE_GEMINI_BASE_URL")  # the second is the SDK's own
_REFUSALS = re.compile(
    "SAFETY|PROHIBITED_CONTENT|BLOCKLIST|SPII|RECITATION|LANGUAGE|MODEL_ARMOR|JAILBREAK"
)

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "base_url": str,
    "max_tokens": options.whole(1),
    "temperature": options.number(0, 2),
    "seed": options.whole(-(2**31)),
    "detail": options.one_of(("low", "medium", "high", "auto")),
    "reasoning": reasoning(("minimal", "low", "medium", "high"), tokens=True),
    "timeout": options.number(0),
}
_REASONS = {
    "logprobs": "log-probabilities are not asked of Google; leave out --logprobs",
    "engine_args": "--engine-arg is for engines on this machine (hf, vllm), not for servers",
}


def create(name: str, given: Mapping[str, Any]) -> "GoogleAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a missing key."""
    return GoogleAdapter(name, **options.read(f"google/{name}", given, _OPTIONS, _REASONS))


class GoogleAdapter:
    """A model behind Gemini's generateContent."""

    wants_images = True

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        detail: str | None = None,
        reasoning: Reasoning | None = None,
        timeout: float | None = None,
    ) -> None:
        """Make an adapter; the key comes from GOOGLE_API_KEY or GEMINI_API_KEY.

        Args:
            name: the model, such as gemini-2.5-flash.
            base_url: another server; GOOGLE_BASE_URL or Google itself by default.
            max_tokens: tokens a reply may have, thinking included; by default 300, as in the
                paper, and more for a model that thinks.
            temperature, seed: sent only if given.
            detail: how many tokens an image becomes (low, medium, high); sent only if given.
            reasoning: how hard to think, a word or a number of tokens; None leaves it to the
                model.
            timeout: seconds for one reply; by default the run loop's limit alone counts.

        Raises:
            UserError: no key for Google itself; options that exclude each other.
        """
        self.model = f"google/{name}"
        given = base_url or next(filter(None, map(os.environ.get, _URLS)), GOOGLE_URL)
        url = BaseUrl.read(given).without("/v1", "/v1beta")
        key = key_from(*_KEYS)
        if not key and url.shown == GOOGLE_URL:
            raise UserError(
                f"{self.model} needs a key: set {_KEYS[0]}, or --base-url for another server"
            )
        self._secrets = Secrets(key, *url.secrets)
        self._settings: dict[str, Any] = {
            "model": name,
            "base_url": url.shown,
            "max_tokens": room(name, reasoning, max_tokens),
            "temperature": temperature,
            "seed": seed,
            "detail": detail,
            "reasoning": reasoning,
        }
        generation = _generation(self.model, self._settings)
        self.path = f"/models/{name}:generateContent"
        self._frame = _frame(generation)
        self._config = types.GenerateContentConfig(
            **generation,
            should_return_http_response=True,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        self.timeout = timeout or patience(self._settings["max_tokens"])
        self._connection = url, key
        self._client, self._http = _connect(url, key, timeout)

    async def generate(self, request: Request) -> Response:
        """One attempt."""
        began = time.perf_counter()
        try:
            reply = await self._client.aio.models.generate_content(
                model=self._settings["model"], contents=_contents(request), config=self._config
            )
            http = reply.sdk_http_response
            response = self.read_reply((http.body if http and http.body else "").encode())
        except errors.APIError as error:
            response = read_error(error)
        except httpx2.TimeoutException as error:
            response = no_reply("timeout", error, self._settings["base_url"])
        except (httpx2.HTTPError, ValueError) as error:  # ValueError: an error that is no text
            response = no_reply("server_error", error, self._settings["base_url"])
        latency = time.perf_counter() - began
        return self._secrets.hide(msgspec.structs.replace(response, latency=latency))

    def body(self, request: Request) -> bytes:
        """The JSON of a request, as the SDK makes it of `generate`'s, for batches and the like."""
        return bytes(Body(self._frame, request))

    def read_reply(self, content: bytes) -> Response:
        """What a reply to `body` with HTTP status 200 says; its JSON."""
        return self._secrets.hide(_read_content(decode(content)))

    def batches(self) -> BatchAPI:
        """The provider's batches of such requests."""
        from mmneedle.adapters.google_batches import GoogleBatches

        client, http = _connect(*self._connection, BATCH_TIMEOUT, whole=True)
        return GoogleBatches(self, self._settings["model"], client, http, self._secrets)

    def fingerprint(self) -> dict[str, Any]:
        """Every parameter of the requests, and the server's address without user and password."""
        return {"adapter": "google"} | self._settings

    async def aclose(self) -> None:
        """Close connections."""
        await self._http.aclose()


def _connect(
    url: BaseUrl, key: str, timeout: float | None, *, whole: bool = False
) -> tuple[genai.Client, httpx2.AsyncClient]:
    """Make a client; `whole` takes in replies of any length, as results of batches have."""
    http = httpx2.AsyncClient(
        auth=url.auth,
        follow_redirects=False,  # another host would get the key
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        event_hooks={"response": [] if whole else [limit_reply]},
    )
    client = genai.Client(
        api_key=key or "none",
        vertexai=False,
        http_options=types.HttpOptions(
            base_url=url.shown,
            timeout=round(timeout * 1000) if timeout else None,
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=http,
        ),
    )
    return client, http


# --------------------------------------------------------------------------- requests


def _contents(request: Request) -> list[types.Content]:
    parts = [types.Part.from_bytes(data=image, mime_type="image/jpeg") for image in request.images]
    return [types.Content(role="user", parts=[*parts, types.Part(text=request.prompt)])]


def _frame(generation: Mapping[str, Any]) -> Frame:
    image = {"inlineData": {"data": HOLE, "mimeType": "image/jpeg"}}
    content = {"role": "user", "parts": [HOLE]}
    body = {"contents": [content], "generationConfig": generation}
    return Frame.of(body, image, {"text": HOLE})


def _generation(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The field generationConfig."""
    config: dict[str, Any] = {"maxOutputTokens": settings["max_tokens"]}
    for name in ("temperature", "seed"):
        if settings[name] is not None:
            config[name] = settings[name]
    if settings["detail"] not in (None, "auto"):
        config["mediaResolution"] = f"MEDIA_RESOLUTION_{settings['detail'].upper()}"
    thinking = _thinking(model, settings)
    if thinking:
        config["thinkingConfig"] = thinking
    return config


def _thinking(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The field thinkingConfig: Gemini 2.5 takes a budget, later ones a level.

    As of November 2026 (the API's page on thinking): 2.5 Pro and all later ones always think.
    """
    level, name = settings["reasoning"], settings["model"]
    if level is None:
        return {"includeThoughts": True} if thinks(name) else {}
    budgets = _version(name) < (3, 0)
    if level == "off":
        if not budgets or "2.5-pro" in name:
            raise UserError(f"{model} always thinks: its reasoning can be low, but not off")
        return {"thinkingBudget": 0}
    if isinstance(level, int) or budgets:
        must_fit(model, budget(level), settings["max_tokens"])
        return {"thinkingBudget": budget(level), "includeThoughts": True}
    return {"thinkingLevel": level.upper(), "includeThoughts": True}


def _version(name: str) -> tuple[int, int]:
    """2.5 of gemini-2.5-flash; today's where a name has none."""
    match = re.search(r"gemini-(\d+)(?:\.(\d+))?", name)
    return (int(match[1]), int(match[2] or 0)) if match else (99, 0)


# --------------------------------------------------------------------------- replies


def _read_content(body: Any) -> Response:
    if isinstance(body, Response):
        return body
    error = get(body, "error", dict)
    if error is not None:
        return read_error_object(error, get(error, "code", int) or 500, {})
    candidates = items(body, "candidates")
    blocked = get(get(body, "promptFeedback", dict), "blockReason", str)
    if not candidates and not blocked and get(body, "usageMetadata", dict) is None:
        return Response("server_error", error="the reply is no generated content")
    candidate = candidates[0] if candidates else {}
    parts = items(get(candidate, "content", dict), "parts")
    text = "".join(get(part, "text", str) or "" for part in parts if not part.get("thought"))
    thought = "".join(get(part, "text", str) or "" for part in parts if part.get("thought"))
    stop = get(candidate, "finishReason", str) or blocked
    if stop == "MALFORMED_RESPONSE":
        return Response("server_error", error="the model's reply was malformed, says the server")
    why = get(candidate, "finishMessage", str)
    return Response(
        _status(stop, bool(blocked), text),
        text=text or None,
        reasoning=thought or None,
        stop_reason=stop,
        model=get(body, "modelVersion", str),
        usage=_usage(get(body, "usageMetadata", dict)),
        error=one_line(why) if why else None,
    )


def _status(stop: str | None, blocked: bool, text: str) -> Status:
    if blocked or (stop and _REFUSALS.search(stop)):
        return "refused"
    if stop in ("MAX_TOKENS", "CONTINUATION"):
        return "truncated"
    return "ok" if text.strip() else "empty"


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """Google counts what was thought beside the answer's tokens."""
    if usage is None:
        return None
    said = get(usage, "candidatesTokenCount", int)
    thought = get(usage, "thoughtsTokenCount", int)
    known = said is not None or thought is not None
    return Usage(
        input_tokens=get(usage, "promptTokenCount", int),
        output_tokens=(said or 0) + (thought or 0) if known else None,
        cached_tokens=get(usage, "cachedContentTokenCount", int),
        reasoning_tokens=thought,
    )


# --------------------------------------------------------------------------- errors


def read_error(error: errors.APIError) -> Response:
    """What the SDK's error says."""
    told = get(error.details, "error", dict) or get({"error": error.details}, "error", dict) or {}
    if error.details and not get(told, "message", str):  # of another server's form: as it is
        said = error.details
        words = said if isinstance(said, str) else msgspec.json.encode(said).decode()
        told = told | {"message": words}
    headers = getattr(error.response, "headers", None) or {}
    return read_error_object(told, error.code if isinstance(error.code, int) else 500, headers)


def read_error_object(told: dict[str, Any], code: int, headers: Mapping[str, str]) -> Response:
    """An error object, for an HTTP status and its headers."""
    kind = get(told, "status", str) or ""
    message = get(told, "message", str) or "no reason given"
    reasons = " ".join(get(one, "reason", str) or "" for one in items(told, "details"))
    said = one_line(f"Error code: {code} - {kind}: {message}")
    if code == 404:
        said += " (is the model's name right?)"
    response = failure(code, f"{kind} {reasons} {message}", said, headers)
    wait = _retry_delay(told)
    if wait is not None and response.status in RETRYABLE:
        return msgspec.structs.replace(response, retry_after=wait)
    return response


def _retry_delay(told: dict[str, Any]) -> float | None:
    """Seconds by google.rpc.RetryInfo: {"retryDelay": "34.5s"}."""
    for one in items(told, "details"):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)s", get(one, "retryDelay", str) or "")
        if match:
            return seconds(float(match[1]))
    return None
