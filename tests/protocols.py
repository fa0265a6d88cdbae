"""The protocols of OpenAI, Azure, Anthropic and Google, for `api_server.ApiServer`.

Requests are checked by the schemas that the providers' SDKs publish, and by the rules beside them
that matter here; answers are checked by the SDKs' models before they are sent.
"""

import json
import re
from typing import Any

import openai.types.responses as openai_responses
from anthropic.types import Message
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from api_server import KEY, VERSION, Ask, Protocol, need
from chat_server import Reply, completion
from google.genai import types as google_types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import ValidationError
from schemas import faults

_DATA = "data:image/jpeg;base64,"


def conforms(body: dict[str, Any], kind: Any) -> None:
    wrong = faults(body, kind)
    need(not wrong, "; ".join(wrong[:3]))


# --------------------------------------------------------------------------- OpenAI


class OpenAIChat(Protocol):
    """Chat completions."""

    base = "/v1"
    path = "/v1/chat/completions"

    def check(self, ask: Ask) -> None:
        need(ask.path == self.path, f"Invalid URL ({ask.path})")
        self.check_key(ask)
        conforms(ask.body, CompletionCreateParamsNonStreaming)
        need(not {"max_tokens", "max_completion_tokens"} <= ask.body.keys(), "two token limits")
        need(
            not ask.body.get("top_logprobs") or ask.body.get("logprobs"),
            "top_logprobs needs logprobs",
        )
        (message,) = ask.body["messages"]
        need(message["role"] == "user", "not a user's message")
        for i, part in enumerate(message["content"]):
            if part["type"] == "text":
                ask.take_text(part["text"], f"content.{i}")
            else:
                url = part["image_url"]["url"]
                need(url.startswith(_DATA), f"content.{i}: not a data URL of a JPEG image")
                ask.take_image(url.removeprefix(_DATA), f"content.{i}")

    def check_key(self, ask: Ask) -> None:
        need(ask.headers.get("authorization") == f"Bearer {KEY}", "no key")

    def answer(self, ask: Ask, text: str | None, **more: Any) -> Reply:
        reply = completion(text, more.pop("finish", "stop"), **more)
        logprobs = more.get("logprobs")
        if logprobs:
            reply.body["choices"][0]["logprobs"] = reply.body["choices"][0]["message"].pop(
                "logprobs"
            )
        return reply

    def error(self, status: int, message: str, kind: str) -> Any:
        return {"error": {"message": message, "type": "error", "param": None, "code": kind or None}}


class Azure(OpenAIChat):
    """A deployment on Azure, at today's endpoint or, with a version, at the dated one."""

    base = ""

    def __init__(self, deployment: str, version: str | None = None) -> None:
        self.version = version
        where = f"deployments/{deployment}" if version else "v1"
        self.path = f"/openai/{where}/chat/completions"

    def check_key(self, ask: Ask) -> None:
        need(ask.headers.get("api-key") == KEY, "no key")
        need("authorization" not in ask.headers, "a token that is no token of Entra ID")
        need(ask.query == ({"api-version": [self.version]} if self.version else {}), "api-version")


class OpenAIResponses(OpenAIChat):
    """The Responses API."""

    path = "/v1/responses"

    def check(self, ask: Ask) -> None:
        need(ask.path == self.path, f"Invalid URL ({ask.path})")
        self.check_key(ask)
        conforms(ask.body, ResponseCreateParamsNonStreaming)
        need(ask.body["max_output_tokens"] >= 16, "max_output_tokens: below minimum of 16")
        need(ask.body.get("input"), "input: missing")
        (message,) = ask.body["input"]
        for i, part in enumerate(message["content"]):
            if part["type"] == "input_text":
                ask.take_text(part["text"], f"content.{i}")
            else:
                url = part["image_url"]
                need(url.startswith(_DATA), f"content.{i}: not a data URL of a JPEG image")
                ask.take_image(url.removeprefix(_DATA), f"content.{i}")

    def answer(
        self,
        ask: Ask,
        text: str | None,
        *,
        thoughts: tuple[str, ...] = (),
        refusal: str | None = None,
        incomplete: str | None = None,
        logprobs: list[Any] | None = None,
        **more: Any,
    ) -> Reply:
        output: list[dict[str, Any]] = []
        if thoughts:
            summary = [{"type": "summary_text", "text": thought} for thought in thoughts]
            output.append({"type": "reasoning", "id": "rs_1", "summary": summary})
        content: list[dict[str, Any]] = []
        if text is not None:
            part = {"type": "output_text", "text": text, "annotations": []}
            content.append(part | ({"logprobs": logprobs} if logprobs else {}))
        if refusal is not None:
            content.append({"type": "refusal", "refusal": refusal})
        if content:
            output.append({"type": "message", "id": "msg_1", "role": "assistant",
                           "status": "completed", "content": content})  # fmt: skip
        body = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": VERSION,
            "status": "incomplete" if incomplete else "completed",
            "error": None,
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
                "output_tokens": 25,
                "output_tokens_details": {"reasoning_tokens": 20},
                "total_tokens": 125,
            },
        } | more
        openai_responses.Response.model_validate(body)
        return Reply(body=body)


# --------------------------------------------------------------------------- Anthropic


class Anthropic(Protocol):
    """The Messages API, streamed or not, as the request says."""

    def check(self, ask: Ask) -> None:
        need(ask.path == "/v1/messages", f"not found: {ask.path}")
        keys = ask.headers.get("x-api-key"), ask.headers.get("authorization")
        need(keys in ((KEY, None), (None, f"Bearer {KEY}")), "invalid key")
        need(ask.headers.get("anthropic-version"), "anthropic-version: header is required")
        stream = ask.body.get("stream")
        body = dict(ask.body)
        if ask.headers["anthropic-version"] == "2023-06-01":  # what the later version took away
            body.pop("temperature", None)
        conforms(body, MessageCreateParamsStreaming if stream else MessageCreateParamsNonStreaming)
        self.check_thinking(ask.body)
        (message,) = ask.body["messages"]
        marks = 0
        for i, block in enumerate(message["content"]):
            marks += "cache_control" in block
            if block["type"] == "text":
                ask.take_text(block["text"], f"content.{i}")
            else:
                need(block["source"]["type"] == "base64", f"content.{i}: not base64")
                need(block["source"]["media_type"] == "image/jpeg", f"content.{i}: not JPEG")
                ask.take_image(block["source"]["data"], f"content.{i}")
        need(marks <= 4, "A maximum of 4 blocks with cache_control may be provided")
        need(len(ask.files) <= 100, "too many images: 100 at most")

    def check_thinking(self, body: dict[str, Any]) -> None:
        thinking = body.get("thinking", {})
        kind = thinking.get("type")
        if kind == "enabled":
            tokens = thinking["budget_tokens"]
            need(tokens >= 1024, "thinking.enabled.budget_tokens: at least 1024")
            need(body["max_tokens"] > tokens, "max_tokens must be greater than budget_tokens")
        thinks = kind in ("enabled", "adaptive")
        need(not (thinks and "temperature" in body), "temperature may only be set to 1")

    def answer(
        self,
        ask: Ask,
        text: str | None,
        *,
        thoughts: str | None = None,
        stop: str = "end_turn",
        details: dict[str, Any] | None = None,
        pause: float = 0.0,
        cut: int | None = None,
        broken: dict[str, Any] | None = None,
    ) -> Reply:
        """A message. Streamed, it may pause between events, or after `cut` events break off (or
        go on with the error `broken`)."""
        content: list[dict[str, Any]] = []
        if thoughts is not None:
            content.append({"type": "thinking", "thinking": thoughts, "signature": "c2ln"})
        if text is not None:
            content.append({"type": "text", "text": text, "citations": None})
        usage = {
            "input_tokens": 28,
            "cache_read_input_tokens": 64,
            "cache_creation_input_tokens": 8,
            "output_tokens": 25,
            "output_tokens_details": {"thinking_tokens": 20},
        }
        body = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": VERSION,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "stop_details": details,
            "usage": usage,
        }
        Message.model_validate(body)
        if not ask.body.get("stream"):
            return Reply(body=body)
        events = message_events(body)
        if broken:
            events[cut:] = [{"type": "error", "error": broken}]
            cut = None
        pieces = [sse(event) for event in events[:cut]]
        return Reply(body=pieces, pause=pause, drop=None if cut is None else 0)

    def error(self, status: int, message: str, kind: str) -> Any:
        kinds = {
            400: "invalid_request_error",
            401: "authentication_error",
            402: "billing_error",
            403: "permission_error",
            404: "not_found_error",
            413: "request_too_large",
            429: "rate_limit_error",
            504: "timeout_error",
            529: "overloaded_error",
        }
        error = {"type": kind or kinds.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_1"}


def sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def message_events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message as the API streams it, a few characters at a time."""
    usage = message["usage"] | {"output_tokens": 1, "output_tokens_details": None}
    start = message | {"content": [], "stop_reason": None, "stop_details": None, "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "ping"},
    ]
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        empty = block | {kind: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        for piece in re.findall(r"(?s).{1,4}", block[kind]):
            delta = {"type": f"{kind}_delta", kind: piece}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    later = {name: message["usage"][name] for name in ("output_tokens", "output_tokens_details")}
    events.append({"type": "message_delta", "delta": delta, "usage": later})
    events.append({"type": "message_stop"})
    return events


# --------------------------------------------------------------------------- Google


def camel(value: Any) -> Any:
    """Field names as the API documents them; it takes mime_type for mimeType too, as all JSON of
    Protocol Buffers, and the SDK sends either."""
    if isinstance(value, dict):
        return {
            re.sub("_([a-z])", lambda match: match[1].upper(), name): camel(item)
            for name, item in value.items()
        }
    return [camel(item) for item in value] if isinstance(value, list) else value


class Google(Protocol):
    """generateContent of the Gemini API."""

    def check(self, ask: Ask) -> None:
        need(re.fullmatch(r"/v1(beta)?/models/[\w.-]+:generateContent", ask.path), ask.path)
        need(ask.headers.get("x-goog-api-key") == KEY, "API key not valid")
        ask.body = camel(ask.body)
        known = {"contents", "generationConfig"}
        need(ask.body.keys() <= known, f"unknown name in {sorted(ask.body)}")
        try:
            need(ask.body.keys() == known, "contents are not specified")
            google_types.GenerationConfig.model_validate(ask.body["generationConfig"])
            (content,) = ask.body["contents"]
            google_types.Content.model_validate(content)
        except ValidationError as error:
            need(False, str(error))
        thinking = ask.body["generationConfig"].get("thinkingConfig", {})
        need(not {"thinkingBudget", "thinkingLevel"} <= thinking.keys(), "a budget and a level")
        need(content["role"] == "user", "Please use a valid role: user, model")
        for i, part in enumerate(content["parts"]):
            if "text" in part:
                ask.take_text(part["text"], f"parts.{i}")
            else:
                need(part["inlineData"]["mimeType"] == "image/jpeg", f"parts.{i}: not JPEG")
                ask.take_image(part["inlineData"]["data"], f"parts.{i}")

    def answer(
        self,
        ask: Ask,
        text: str | None,
        *,
        thoughts: str | None = None,
        stop: str = "STOP",
        blocked: str | None = None,
        **more: Any,
    ) -> Reply:
        parts: list[dict[str, Any]] = [{"text": thoughts, "thought": True}] if thoughts else []
        parts += [{"text": text}] if text is not None else []
        candidate = {"content": {"role": "model", "parts": parts}, "finishReason": stop, "index": 0}
        body = {
            "candidates": [candidate | more],
            "modelVersion": VERSION,
            "responseId": "r1",
            "usageMetadata": {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 64,
                "candidatesTokenCount": 5,
                "thoughtsTokenCount": 20,
                "totalTokenCount": 125,
            },
        }
        if blocked:
            body = {"promptFeedback": {"blockReason": blocked}, "modelVersion": VERSION}
        google_types.GenerateContentResponse.model_validate(body)
        return Reply(body=body)

    def error(self, status: int, message: str, kind: str) -> Any:
        names = {
            400: "INVALID_ARGUMENT",
            401: "UNAUTHENTICATED",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
            500: "INTERNAL",
            503: "UNAVAILABLE",
            504: "DEADLINE_EXCEEDED",
        }
        details = []
        if kind.endswith("s"):  # a time to wait, such as 34.5s
            name = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": name, "retryDelay": kind})
        elif kind:
            name = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": name, "reason": kind, "domain": "googleapis.com"})
        error = {"code": status, "message": message, "status": names.get(status, "UNKNOWN")}
        return {"error": error | {"details": details}}
