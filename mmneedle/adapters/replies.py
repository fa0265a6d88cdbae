"""Reading what chat-completions servers send: answers, and errors of every kind."""

import contextlib
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec

from mmneedle.types import Response, Status, Usage

_T = TypeVar("_T")


def read_reply(content: bytes) -> Response:
    """What a reply with status 200 says."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        return Response("server_error", error=f"the reply is not JSON: {reason}")
    choices = _get(body, "choices", list)
    if not choices:
        error = _get(body, "error", object)
        if error is not None:  # as some gateways report what happened behind them
            return _error_in_reply(error)
        if choices is None:
            return Response("server_error", error="the reply is no chat completion")
    choice = choices[0] if choices else None
    message = _get(choice, "message", dict)
    refusal = _get(message, "refusal", str)
    text = _text(_get(message, "content", object)) or refusal
    stop = _get(choice, "finish_reason", str)
    status: Status
    if refusal or stop == "content_filter":
        status = "refused"
    elif stop == "length":
        status = "truncated"
    elif stop == "error":
        return _error_in_reply(_get(choice, "error", object))
    else:
        status = "ok" if text and text.strip() else "empty"
    return Response(
        status,
        text=text,
        reasoning=_get(message, "reasoning_content", str) or _get(message, "reasoning", str),
        stop_reason=stop,
        model=_get(body, "model", str),
        usage=_usage(_get(body, "usage", dict)),
        error=None if choices else "the reply has no choices",
    )


def _get(container: Any, key: str, kind: type[_T]) -> _T | None:
    """container[key] if that is there and of this kind."""
    value = container.get(key) if isinstance(container, dict) else None
    return value if isinstance(value, kind) else None


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        input_tokens=_get(usage, "prompt_tokens", int),
        output_tokens=_get(usage, "completion_tokens", int),
        cached_tokens=_get(_get(usage, "prompt_tokens_details", dict), "cached_tokens", int),
    )


def _text(content: object) -> str | None:
    """A message's words; some servers give them in parts."""
    if isinstance(content, list):
        return "".join(_get(part, "text", str) or "" for part in content)
    return content if isinstance(content, str) else None


# --------------------------------------------------------------------------- errors

_KINDS: tuple[tuple[Status, str], ...] = (
    (
        "auth",
        r"model_not_found|model .*(does not exist|not found)|(not a valid|unknown|invalid) model",
    ),
    (
        "refused",
        r"content_filter|content.policy|content management|responsibleai|moderation|flagged",
    ),
    (
        "too_long",
        r"context.(length|window)|(maximum|max).model.len|too (long|many tokens)|reduce the length"
        r"|string_above_max|request too large|maximum.*\btokens|tokens.*\bmaximum",
    ),
    ("image_rejected", r"\bimages?\b|image_|multimodal|vision"),
)
# Not the words "exceeded your current quota": some gateways say so of a minute's quota too.
_NO_MONEY = re.compile(r"insufficient.(quota|funds|credit|balance)", re.I)


def classify(code: int, details: str) -> Status:
    """The status for an HTTP status code from 400 up and what the server says beside it."""
    if code == 429:
        if _NO_MONEY.search(details):
            return "auth"
        # More tokens in one request than are allowed in a minute: waiting does not help.
        return "too_long" if "request too large" in details.lower() else "rate_limited"
    said = next((kind for kind, words in _KINDS if re.search(words, details, re.I)), None)
    if code == 403 and said == "refused":
        return "refused"
    if code in (401, 402, 403, 404):
        return "auth"
    if code == 413:
        return "too_long"
    if code == 408:
        return "timeout"
    if code == 409 or code >= 500:
        return "server_error"
    return said or "bad_request"


def retry_after(headers: Mapping[str, str], moment: float | None = None) -> float | None:
    """Seconds to wait by Retry-After (RFC 9110, 10.2.3: seconds or a date) or retry-after-ms."""
    with contextlib.suppress(KeyError, ValueError):
        return _seconds(float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return _seconds(float(value))
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - (moment or time.time()))
    return None


def _seconds(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def _error_in_reply(error: Any) -> Response:
    """An error that came with HTTP status 200: {"code": 429, "message": …}, or only words."""
    code = str(_get(error, "code", object) or "")
    message = " ".join((_get(error, "message", str) or msgspec.json.encode(error).decode()).split())
    number = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500
    status = classify(number, f"{code} {message}")
    return Response(status, error=f"error in the reply: {message}")
