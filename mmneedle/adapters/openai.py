"""OpenAI's Responses API, and chat completions as every compatible server speaks them.

The official SDK does authentication, transport and errors. Two things are done by hand because
requests are large (ten images are a megabyte): the JSON body is put together from base64 without
being escaped again, and the reply is read without building the SDK's models.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import httpx2
import msgspec
import openai

from mmneedle.adapters import options
from mmneedle.adapters.batches import BATCH_TIMEOUT, BatchAPI
from mmneedle.adapters.body import HOLE, Body, Frame
from mmneedle.adapters.reasoning import MORE_EFFORTS, Reasoning, patience, reasoning, room
from mmneedle.adapters.replies import read_chat, read_responses
from mmneedle.adapters.server import CONNECT_TIMEOUT, BaseUrl, Secrets, key_from
from mmneedle.adapters.statuses import failure, get, no_reply, one_line
from mmneedle.adapters.transport import DirectTransport, limit_reply
from mmneedle.errors import UserError
from mmneedle.types import Request, Response

OPENAI_URL = "https://api.openai.com/v1"
_TOP_LOGPROBS = 20  # as many as the API gives
_DATA_URL = f"data:image/jpeg;base64,{HOLE}"
# Models that are told where a prompt's shared part ends, and charge for what they keep otherwise
# (the API's guide to prompt caching, as of November 2026).
_MARKS_CACHE = re.compile(r"(^|/)gpt-(5\.([6-9]|\d\d)|[6-9]|\d\d)", re.I)

Api = Literal["responses", "chat"]

OPTIONS: dict[str, Callable[[Any], Any]] = {
    "base_url": str,
    "api": options.one_of(("responses", "chat")),
    "max_tokens": options.whole(1),
    "token_field": options.one_of(("max_tokens", "max_completion_tokens")),
    "temperature": options.number(0),
    "seed": options.whole(-(2**63)),
    "detail": options.one_of(("auto", "low", "high", "original")),
    "reasoning": reasoning(MORE_EFFORTS, tokens=False),
    "summary": options.one_of(("auto", "concise", "detailed", "off")),
    "logprobs": options.yes,
    "cache": options.one_of(("auto", "off")),
    "timeout": options.number(0),
}
REASONS = {"engine_args": "--engine-arg is for engines on this machine (hf, vllm), not for servers"}


def create(name: str, given: Mapping[str, Any]) -> "OpenAIAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a missing key."""
    return OpenAIAdapter(name, **options.read(f"openai/{name}", given, OPTIONS, REASONS))


class OpenAIAdapter:
    """A model behind OpenAI's protocols."""

    wants_images = True
    provider = "openai"
    key_variables: tuple[str, ...] = ("OPENAI_API_KEY",)
    more_headers: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api: Api | None = None,
        max_tokens: int | None = None,
        token_field: str | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        detail: str | None = None,
        reasoning: Reasoning | None = None,
        summary: str = "auto",
        logprobs: bool = False,
        cache: str = "auto",
        timeout: float | None = None,
        direct: bool = True,
    ) -> None:
        """Make an adapter; the key comes from OPENAI_API_KEY.

        Args:
            name: the model, as the server knows it.
            base_url: a compatible server, such as http://localhost:8000/v1; OPENAI_BASE_URL or
                OpenAI itself by default. User and password in it are sent as basic
                authentication and shown nowhere.
            api: the Responses API, or chat completions. By default the first for OpenAI itself,
                whose models want it, and the second for other servers, which all have it.
            max_tokens: tokens a reply may have, thinking included; by default 300, as in the
                paper, and more for a model that thinks.
            token_field: how a chat server calls that limit. By default `max_completion_tokens`
                for OpenAI and Azure, whose reasoning models take nothing else, and `max_tokens`
                for other servers, which all know it.
            temperature, seed: sent only if given; the Responses API has no seed.
            detail: of the images; sent only if given.
            reasoning: how hard to think, a word; "off" asks not to.
            summary: of what was thought, where `reasoning` is given (Responses API).
            logprobs: ask for log-probabilities, to keep that of "-1".
            cache: "auto" tells OpenAI's newer models where the images end that are asked about
                again; "off" says nothing.
            timeout: seconds for one reply; by default the run loop's limit alone counts.
            direct: may use the lean transport where the server is reached by plain http.

        Raises:
            UserError: no key for OpenAI itself; a base URL that is none; options that exclude
                each other.
        """
        self.model = f"{self.provider}/{name}"
        url = self._address(base_url)
        key = key_from(*self.key_variables)
        if not key and self._needs_key(url):
            raise UserError(
                f"{self.model} needs a key: set {self.key_variables[0]}, or --base-url for another"
                " server"
            )
        self.api: Api = api or self._default_api(url)
        if self.api == "responses" and (seed is not None or token_field):
            what = "seed" if seed is not None else "token_field"
            raise UserError(f"{self.model}: the Responses API has no {what}; add ?api=chat")
        own = self._is_openais(url)
        self._secrets = Secrets(key, *url.secrets)
        self._settings: dict[str, Any] = {
            "model": name,
            "base_url": url.shown,
            "api": self.api,
            "max_tokens": room(name, reasoning, max_tokens),
            "token_field": token_field or ("max_completion_tokens" if own else "max_tokens"),
            "temperature": temperature,
            "seed": seed,
            "detail": detail,
            "reasoning": reasoning,
            "summary": None,
            "logprobs": logprobs or None,
        }
        if self.api == "responses":
            self._settings["token_field"] = "max_output_tokens"
            if reasoning not in (None, "off") and summary != "off":
                self._settings["summary"] = summary
        self._caches = own and cache == "auto"
        self._frame = frame(self._settings, marks=self._caches and marks_cache(name))
        self.timeout = timeout or patience(self._settings["max_tokens"])
        self.path = "/responses" if self.api == "responses" else "/chat/completions"
        self._connection = url, key
        self._client = self._connect(url, key, timeout, direct)

    # ---------------------------------------------------------------- what Azure does otherwise

    def _address(self, base_url: str | None) -> BaseUrl:
        return BaseUrl.read(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)

    def _needs_key(self, url: BaseUrl) -> bool:
        return url.shown == OPENAI_URL

    def _default_api(self, url: BaseUrl) -> Api:
        return "responses" if url.host.endswith("api.openai.com") else "chat"

    def _is_openais(self, url: BaseUrl) -> bool:
        """Whether OpenAI's own software is behind the address, or Microsoft's copy of it."""
        ends = (".openai.com", ".openai.azure.com", ".services.ai.azure.com")
        return f".{url.host}".endswith(ends)

    def _client_options(self, key: str) -> dict[str, Any]:
        return {"api_key": key or "none"}

    # ---------------------------------------------------------------- asking

    def _connect(
        self,
        url: BaseUrl,
        key: str,
        timeout: float | None,
        direct: bool,
        *,
        whole: bool = False,
    ) -> "AsyncOpenAI":
        """Make a client; `whole` takes in replies of any length, as files of batches have."""
        return AsyncOpenAI(
            base_url=url.shown,
            max_retries=0,  # the run loop's business
            timeout=httpx2.Timeout(timeout, connect=CONNECT_TIMEOUT),
            http_client=openai.DefaultAsyncHttpxClient(
                auth=url.auth,
                follow_redirects=False,  # another host would get the key of Azure's header
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
                transport=DirectTransport() if direct and url.direct else None,
                event_hooks={"response": [] if whole else [limit_reply]},
            ),
            **self._client_options(key),
        )

    async def generate(self, request: Request) -> Response:
        """One attempt."""
        body = self._body(request)
        began = time.perf_counter()
        try:
            reply = await self._client.post(
                self.path,
                content=body,
                cast_to=httpx2.Response,
                options={
                    "headers": {**body.headers, **self.more_headers},
                    "idempotency_key": "",  # never sent; the SDK would draw a random one
                },
            )
            response = self.read_reply(reply.content)
        except openai.APIStatusError as error:
            response = read_error(error)
        except openai.APITimeoutError as error:
            response = no_reply("timeout", error, self._settings["base_url"])
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            response = no_reply("server_error", error, self._settings["base_url"])
        latency = time.perf_counter() - began
        return self._secrets.hide(msgspec.structs.replace(response, latency=latency))

    def body(self, request: Request) -> bytes:
        """The JSON that `generate` posts to `path`, for batch files and the like."""
        return bytes(self._body(request))

    def read_reply(self, content: bytes) -> Response:
        """What a reply to `body` with HTTP status 200 says; its JSON.

        Raises:
            UserError: log-probabilities were asked for and are not there.
        """
        read = read_responses if self.api == "responses" else read_chat
        response = self._secrets.hide(read(content))
        if (
            self._settings["logprobs"]
            and response.status == "ok"
            and response.absent_logprob is None
            and response.reasoning is None
        ):
            raise UserError(
                f"{self.model}: the server gives no log-probabilities; leave out --logprobs"
            )
        return response

    def _body(self, request: Request) -> Body:
        number = request.sample.haystack_number
        shared = number is not None
        if not (shared and self._caches):
            return Body(self._frame, request, shared=shared)
        # Requests with the same key go to the same machine, whose cache holds their images.
        key = f"mmneedle-{request.sample.setting.name}-h{number}"
        return Body(self._frame, request, shared=shared, prompt_cache_key=key)

    def batches(self) -> BatchAPI:
        """The provider's batches of such requests."""
        from mmneedle.adapters.openai_batches import OpenAIBatches

        client = self._connect(*self._connection, BATCH_TIMEOUT, direct=False, whole=True)
        return OpenAIBatches(self, client, self._secrets)

    def fingerprint(self) -> dict[str, Any]:
        """Every parameter of the requests, and the server's address without user and password."""
        return {"adapter": self.provider} | self._settings

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()


class AsyncOpenAI(openai.AsyncOpenAI):
    """The SDK's client, which puts together a request of ours only once.

    All requests of an adapter differ in their body alone, and building one anew costs more than
    sending it. Where an SDK does not call this hook, requests are the same and come slower. (The
    class's name stands in the User-Agent.)
    """

    _first: httpx2.Request | None = None

    def _build_request(self, options: Any, **more: Any) -> httpx2.Request:
        if not isinstance(options.content, Body) or self._first is None:
            built = super()._build_request(options, **more)
            if isinstance(options.content, Body):
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


def marks_cache(name: str) -> bool:
    """Whether a model keeps only what it is told to keep for the next request."""
    return bool(_MARKS_CACHE.search(name))


# --------------------------------------------------------------------------- requests


def frame(settings: Mapping[str, Any], *, marks: bool) -> Frame:
    """What every request has in common.

    Args:
        settings: as the fingerprint has them.
        marks: mark the end of shared images for the prompt cache, and cache nothing else.
    """
    make = _responses_parts if settings["api"] == "responses" else _chat_parts
    image, text, body = make(settings)
    body[settings["token_field"]] = settings["max_tokens"]
    for name in ("temperature", "seed"):
        if settings[name] is not None:
            body[name] = settings[name]
    if not marks:
        return Frame.of(body, image, text)
    body["prompt_cache_options"] = {"mode": "explicit"}
    last = image | {"prompt_cache_breakpoint": {"mode": "explicit"}}
    return Frame.of(body, image, text, last)


Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""Templates of an image, of the text and of the whole."""


def _chat_parts(settings: Mapping[str, Any]) -> Parts:
    address = {"url": _DATA_URL}
    if settings["detail"]:
        address["detail"] = settings["detail"]
    message = {"role": "user", "content": [HOLE]}
    body: dict[str, Any] = {"model": settings["model"], "messages": [message]}
    if settings["reasoning"]:
        body["reasoning_effort"] = _effort(settings["reasoning"])
    if settings["logprobs"]:
        body |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
    return {"type": "image_url", "image_url": address}, {"type": "text", "text": HOLE}, body


def _responses_parts(settings: Mapping[str, Any]) -> Parts:
    image = {
        "type": "input_image",
        "image_url": _DATA_URL,
        "detail": settings["detail"] or "auto",
    }
    message = {"role": "user", "content": [HOLE]}
    body: dict[str, Any] = {"model": settings["model"], "input": [message], "store": False}
    if settings["reasoning"]:
        body["reasoning"] = {"effort": _effort(settings["reasoning"])}
        if settings["summary"]:
            body["reasoning"]["summary"] = settings["summary"]
    if settings["logprobs"]:
        body |= {"include": ["message.output_text.logprobs"], "top_logprobs": _TOP_LOGPROBS}
    return image, {"type": "input_text", "text": HOLE}, body


def _effort(level: Reasoning) -> Reasoning:
    return "none" if level == "off" else level


# --------------------------------------------------------------------------- errors


def read_error(error: openai.APIStatusError) -> Response:
    """What the SDK's error says."""
    message = one_line(error)
    if error.body and not get(error.body, "message", str):  # the SDK's words leave it out
        said = error.body if isinstance(error.body, str) else msgspec.json.encode(error.body)
        message += f" {one_line(said if isinstance(said, str) else said.decode())}"
    if error.status_code == 404:
        message += " (is the model's name right, and the base URL? it mostly ends in /v1)"
    details = " ".join(filter(None, (error.code, error.type, message)))
    return failure(error.status_code, details, message, error.response.headers)
