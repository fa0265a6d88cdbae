"""Reading what OpenAI's two protocols answer: chat completions, which many speak, and responses."""

import math
from collections.abc import Iterable
from typing import Any

from mmneedle.adapters import thinking
from mmneedle.adapters.statuses import decode, error_in_reply, get, items
from mmneedle.types import Response, Status, Usage

_ABSENT = "-1"
_LEAST = 1e-12  # a probability that stands for less than any server tells


_ABORTED = {"abort", "aborted", "cancelled"}
"""Reasons to stop of servers (vLLM, SGLang) that gave a request up: no answer of the model's."""
_CUT_OFF = {"length", "max_tokens", "model_length", "max_output_tokens"}
"""Reasons to stop that compatible servers give for an answer that was cut off."""


def read_chat(content: bytes) -> Response:
    """What a chat completion says."""
    body = decode(content)
    if isinstance(body, Response):
        return body
    choices = get(body, "choices", list)
    if not choices:
        error = get(body, "error", object)
        if error is not None:  # as some gateways report what happened behind them
            return error_in_reply(error)
        if choices is None:
            return Response("server_error", error="the reply is no chat completion")
    choice = choices[0] if choices else None
    message = get(choice, "message", dict)
    refusal = get(message, "refusal", str)
    text = _text(get(message, "content", object)) or refusal
    stop = get(choice, "finish_reason", str)
    if stop == "error":
        return error_in_reply(get(choice, "error", object))
    if stop and stop.lower() in _ABORTED:
        usage = _usage(get(body, "usage", dict), "prompt", "completion")
        said = f"the server ended the request ({stop})"
        return Response("server_error", stop_reason=stop, usage=usage, error=said)
    thought = get(message, "reasoning_content", str) or get(message, "reasoning", str)
    if text and not thought:  # servers without a parser for it leave it in the answer
        thought, text, whole = _apart(text)
    else:
        whole = True
    status: Status
    if refusal or stop == "content_filter":
        status = "refused"
    elif not whole or (stop and stop.lower() in _CUT_OFF):
        status = "truncated"
    else:
        status = "ok" if text and text.strip() else "empty"
    # Where something was thought, some servers count that among the answer's tokens.
    tokens = [] if thought else items(get(choice, "logprobs", dict), "content")
    return Response(
        status,
        text=text,
        reasoning=thought,
        stop_reason=stop,
        model=get(body, "model", str),
        usage=_usage(get(body, "usage", dict), "prompt", "completion"),
        absent_logprob=_absent(tokens),
        error=None if choices else "the reply has no choices",
    )


def _apart(text: str) -> tuple[str | None, str | None, bool]:
    """Thoughts in tags, the answer, and whether the thoughts had come to their end."""
    said = thinking.split(text)
    return said.reasoning, said.answer or None, said.complete


def read_responses(content: bytes) -> Response:
    """What an object of the Responses API says."""
    body = decode(content)
    if isinstance(body, Response):
        return body
    output = get(body, "output", list)
    error = get(body, "error", object)
    state = get(body, "status", str)
    if error is not None or state in ("failed", "cancelled"):
        return _failed(error)
    if output is None:
        return Response("server_error", error="the reply is no response object")
    parts = [part for item in items(body, "output") for part in items(item, "content")]
    text = "".join(get(part, "text", str) or "" for part in parts if _is(part, "output_text"))
    refusal = "".join(get(part, "refusal", str) or "" for part in parts if _is(part, "refusal"))
    reason = get(get(body, "incomplete_details", dict), "reason", str)
    status: Status
    if refusal or reason == "content_filter":
        status = "refused"
    elif state == "incomplete":
        status = "truncated"
    else:
        status = "ok" if text.strip() else "empty"
    answers = (part for part in parts if _is(part, "output_text"))
    return Response(
        status,
        text=text or refusal or None,
        reasoning=_thoughts(body),
        stop_reason=reason or state,
        model=get(body, "model", str),
        usage=_usage(get(body, "usage", dict), "input", "output"),
        absent_logprob=_absent(items(next(answers, None), "logprobs")),
    )


def _is(part: dict[str, Any], kind: str) -> bool:
    return part.get("type") == kind


def _failed(error: object) -> Response:
    """A response that came to nothing; its codes are words."""
    code = str(get(error, "code", object) or "")
    numbers = {"server_error": "500", "rate_limit_exceeded": "429", "vector_store_timeout": "504"}
    if code in ("", *numbers) or not isinstance(error, dict):
        return error_in_reply(
            error | {"code": numbers.get(code, "500")}
            if isinstance(error, dict)
            else {"code": 500, "message": "the response failed, with no reason given"}
        )
    policy = "policy" in code  # bio_policy, image_content_policy_violation
    known = {"code": 400, "message": f"{code}: {get(error, 'message', str) or ''}"}
    response = error_in_reply(known)
    return Response("refused", error=response.error) if policy else response


def _thoughts(body: Any) -> str | None:
    """The summaries of the model's reasoning, or its words where the server gives those."""
    found = [
        get(part, "text", str) or ""
        for item in items(body, "output")
        if _is(item, "reasoning")
        for part in (*items(item, "summary"), *items(item, "content"))
    ]
    return "\n\n".join(filter(None, found)) or None


def _usage(usage: dict[str, Any] | None, given: str, made: str) -> Usage | None:
    if usage is None:
        return None
    read = get(usage, f"{given}_tokens_details", dict)
    written = get(usage, f"{made}_tokens_details", dict)
    return Usage(
        input_tokens=get(usage, f"{given}_tokens", int),
        output_tokens=get(usage, f"{made}_tokens", int),
        cached_tokens=get(read, "cached_tokens", int),
        cache_write_tokens=get(read, "cache_write_tokens", int),
        reasoning_tokens=get(written, "reasoning_tokens", int),
    )


def _text(content: object) -> str | None:
    """A message's words; some servers give them in parts."""
    if isinstance(content, list):
        return "".join(get(part, "text", str) or "" for part in content)
    return content if isinstance(content, str) else None


# --------------------------------------------------------------------------- log-probabilities


def _absent(tokens: Iterable[dict[str, Any]]) -> float | None:
    """Log-probability that the answer begins as "-1" does, by its first token that is no space.

    Where that is not among the likeliest that the server names, the most that it can be.
    """
    for token in tokens:
        if (get(token, "token", str) or "").strip():
            return _begins(token)
    return None


def _begins(token: dict[str, Any]) -> float | None:
    named = {
        text: logprob
        for one in (*items(token, "top_logprobs"), token)
        if (text := get(one, "token", str)) is not None
        and isinstance(logprob := one.get("logprob"), (int, float))
    }
    if not named:
        return None
    shares = {text: math.exp(min(logprob, 0.0)) for text, logprob in named.items()}
    wanted = sum(share for text, share in shares.items() if _leads(text.strip()))
    if not wanted:
        wanted = max(min(1 - sum(shares.values()), *shares.values()), _LEAST)
    return math.log(min(wanted, 1.0))


def _leads(text: str) -> bool:
    """Whether an answer "-1" begins with this token."""
    return bool(text) and (_ABSENT.startswith(text) or text.startswith(_ABSENT))
