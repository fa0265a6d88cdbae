"""What a provider's error means for a run: its status, and when to come back."""

import contextlib
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
import msgspec

from mmneedle.types import RETRYABLE, Response, Status

_T = TypeVar("_T")
_MOST = 2**53  # no count of tokens is so large
_LONGEST_WAIT = 86_400.0  # seconds; who asks for more means "not today"
_TURNED_AWAY = {409, 503, 529}  # as statuses of HTTP: not begun, hence not charged

_KINDS: tuple[tuple[Status, str], ...] = (
    (
        "auth",
        r"model_not_found|model .*(does not exist|not found)|(not a valid|unknown|invalid) model"
        r"|api.key (not valid|expired)|api_key_invalid|credit balance is too low|billing_error"
        r"|enable billing|location is not supported"
        r"|organization.{0,20}(disabled|on_hold)",
    ),
    (
        "refused",
        r"content.filter|content.policy|content management|responsibleai"
        r"|moderation|flagged",
    ),
    (
        "too_long",
        r"context.(length|window|limit)|(maximum|max).model.len|too (long|many tokens)"
        r"|reduce the length|string_above_max|request.too.large|request payload size"
        r"|maximum.*\btokens|tokens.*\bmaximum",
    ),
    ("image_rejected", r"(\b|_)images?(\b|_)|multimodal|vision"),
)
# Some servers of open models answer so with a 500.
_NO_EYES = re.compile(r"image input is not supported|required for image input", re.I)
# Not the words "exceeded your current quota": some gateways say so of a minute's quota too.
_NO_MONEY = re.compile(
    r"insufficient.(quota|funds|credit|balance)|credit balance is too low|billing_error"
    r"|billing hard limit|credits are depleted",
    re.I,
)


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
    if code in (408, 504):
        return "timeout"
    if _NO_EYES.search(details):
        return "image_rejected"
    if code == 409 or code >= 500:
        return "server_error"
    return said or "bad_request"


def failure(code: int, details: str, message: str, headers: Mapping[str, str]) -> Response:
    """The response for an error.

    Args:
        code: of HTTP, from 400 up.
        details: all that says what kind of error it is.
        message: one line for people.
        headers: may say when to come back.
    """
    status = classify(code, details)
    wait = retry_after(headers) if status in RETRYABLE else None
    uncharged = status in ("server_error", "timeout") and code in _TURNED_AWAY
    return Response(status, error=message, retry_after=wait, uncharged=uncharged)


def no_reply(status: Status, error: Exception, url: str) -> Response:
    """The response for an HTTP client's error: nothing came back, or not all of it.

    Args:
        status: timeout or server_error.
        error: what the client raised.
        url: the server's address as it may be shown.
    """
    said = one_line(error) or type(error).__name__
    if _unreached(error):
        return Response(status, error=f"{url} cannot be reached: {said}", uncharged=True)
    return Response(status, error=said)


def _unreached(error: BaseException | None) -> bool:
    """Whether no connection came about, so that nothing was sent."""
    while error is not None:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return True
        error = error.__cause__
    return False


def retry_after(headers: Mapping[str, str], moment: float | None = None) -> float | None:
    """Seconds to wait by Retry-After (RFC 9110, 10.2.3: seconds or a date) or retry-after-ms."""
    with contextlib.suppress(KeyError, ValueError):
        return seconds(float(headers["retry-after-ms"]) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return seconds(float(value))
    with contextlib.suppress(ValueError, OverflowError):
        return seconds(max(0.0, parsedate_to_datetime(value).timestamp() - (moment or time.time())))
    return None


def seconds(value: float) -> float:
    """A time to wait, a day at most. Raises ValueError for one that is none (negative, NaN)."""
    if not value >= 0:
        raise ValueError
    return min(value, _LONGEST_WAIT)


def error_in_reply(error: Any) -> Response:
    """An error that came with HTTP status 200: {"code": 429, "message": …}, or only words."""
    code = str(get(error, "code", object) or "")
    message = one_line(get(error, "message", str) or msgspec.json.encode(error).decode())
    number = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 500
    status = classify(number, f"{code} {message}")
    return Response(status, error=f"error in the reply: {message}")


# --------------------------------------------------------------------------- reading JSON


def decode(content: bytes) -> Any:
    """A reply's JSON, or the Response that says that it is none."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        return Response("server_error", error=f"the reply is not JSON: {reason}")


def get(container: Any, key: str, kind: type[_T]) -> _T | None:
    """container[key] if that is there and of this kind; a count only if it can be one."""
    value = container.get(key) if isinstance(container, dict) else None
    if kind is int and (isinstance(value, bool) or not _is_count(value)):
        return None
    return value if isinstance(value, kind) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _MOST


def items(container: Any, key: str) -> list[dict[str, Any]]:
    """The objects in the list container[key]."""
    return [item for item in get(container, key, list) or [] if isinstance(item, dict)]


def one_line(text: str | Exception) -> str:
    """A message without line ends; of an exception with its cause, where it tells more."""
    if isinstance(text, Exception):
        cause = str(text.__cause__ or "")
        text = f"{text} ({cause})" if cause and cause not in str(text) else str(text)
    return " ".join(text.split())
