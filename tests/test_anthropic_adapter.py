"""Claude's Messages API through the real SDK: what is sent, what comes back, how a stream breaks.

What every provider shares is in test_provider_errors.py.
"""

import asyncio
import json
from typing import Any

import pytest
from api_server import KEY, VERSION, ApiServer, Ask
from chat_server import Reply
from photographs import REQUEST, SHARED
from protocols import Anthropic, sse

from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.types import Request, Response, Usage


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def ask(
    script: Any = None, request: Request = REQUEST, model: str = "m", **options: Any
) -> tuple[Response, Ask]:
    """One attempt: the response, and the request as the server saw it."""

    async def main(url: str) -> Response:
        adapter = create(f"anthropic/{model}", base_url=url, **options)
        try:
            return await adapter.generate(request)
        finally:
            await adapter.aclose()

    with ApiServer(Anthropic(), script) as server:
        response = asyncio.run(main(server.url))
    assert not server.wrongs
    (asked,) = server.asks
    return response, asked


# --------------------------------------------------------------------------- what is sent


def test_images_come_first_in_order_and_then_the_text() -> None:
    _, asked = ask(model="claude-opus-4-5")
    assert asked.order == "iiit"
    assert asked.images == list(REQUEST.images)
    assert asked.prompt == REQUEST.prompt
    assert {k: v for k, v in asked.body.items() if k != "messages"} == {
        "model": "claude-opus-4-5",
        "max_tokens": 300,
        "stream": True,
    }
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["user-agent"].startswith("AsyncAnthropic/")


def marks(asked: Ask) -> list[Any]:
    return [block.get("cache_control") for block in asked.body["messages"][0]["content"]]


def test_the_cache_is_told_where_shared_images_end() -> None:
    assert marks(ask(request=SHARED)[1]) == [None, None, {"type": "ephemeral"}, None]
    assert marks(ask(request=REQUEST)[1]) == [None] * 4
    assert marks(ask(request=SHARED, cache="off")[1]) == [None] * 4
    text_only = Request(SHARED.sample, "p", ())
    assert marks(ask(request=text_only)[1]) == [None]


@pytest.mark.parametrize(
    ("model", "options", "fields"),
    [
        ("claude-opus-4-5-20251101", {}, {"max_tokens": 300}),
        ("claude-opus-5", {}, {"max_tokens": 12588}),
        ("claude-opus-5", {"max_tokens": 50}, {"max_tokens": 50}),
        ("claude-opus-4-5", {"temperature": 0}, {"max_tokens": 300, "temperature": 0.0}),
        ("claude-opus-5", {"reasoning": "off"},
         {"max_tokens": 300, "thinking": {"type": "disabled"}}),
        ("claude-opus-4-5", {"reasoning": "low"},
         {"max_tokens": 4396, "thinking": {"type": "enabled", "budget_tokens": 4096}}),
        ("claude-3-7-sonnet-20250219", {"reasoning": 2000},
         {"max_tokens": 2300, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("claude-sonnet-4-6", {"reasoning": "2000", "max_tokens": 2001},
         {"max_tokens": 2001, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("claude-sonnet-4-6", {"reasoning": "medium"},
         {"max_tokens": 12588, "thinking": {"type": "adaptive", "display": "summarized"},
          "output_config": {"effort": "medium"}}),
        ("claude-opus-5", {"reasoning": "xhigh", "max_tokens": 900},
         {"max_tokens": 900, "thinking": {"type": "adaptive", "display": "summarized"},
          "output_config": {"effort": "xhigh"}}),
        ("some-gateways-name", {"reasoning": "low"},
         {"max_tokens": 4396, "thinking": {"type": "adaptive", "display": "summarized"},
          "output_config": {"effort": "low"}}),
    ],
)  # fmt: skip
def test_thinking_as_the_model_takes_it(
    model: str, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    _, asked = ask(model=model, **options)
    sent = {k: v for k, v in asked.body.items() if k not in ("messages", "model", "stream")}
    assert sent == fields


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("claude-opus-5", {"reasoning": 2000}, "takes no number of tokens for reasoning, but one"),
        ("claude-fable-5", {"reasoning": 2000}, "takes no number of tokens for reasoning, but one"),
        ("claude-fable-5", {"reasoning": "off"}, "always thinks: its reasoning cannot be off"),
        ("claude-opus-4-5", {"reasoning": 1000}, "reasoning takes 1024 tokens or more"),
        ("claude-opus-4-5", {"reasoning": 2000, "max_tokens": 2000},
         "2000 tokens of reasoning do not fit into 2000"),
        ("claude-opus-4-5", {"reasoning": "low", "max_tokens": 300},
         "4096 tokens of reasoning do not fit into 300"),
        ("claude-opus-5", {"temperature": 1}, "takes no temperature: Claude has one up to 4.6"),
        ("claude-opus-4-5", {"reasoning": "low", "temperature": 1}, "takes no temperature"),
        ("claude-opus-5", {"reasoning": "some"},
         "reasoning is 'some', not one of low, medium, high, xhigh, max, off or a number"),
        ("claude-opus-5", {"temperature": 1.5}, "temperature is 1.5, not a number from 0 to 1"),
        ("claude-opus-5", {"logprobs": True}, "gives no log-probabilities; leave out --logprobs"),
        ("claude-opus-5", {"detail": "low"}, "has no image detail; leave out --detail"),
        ("claude-opus-5", {"seed": 1}, "Anthropic has no seed"),
        ("claude-opus-5", {"engine_args": {}}, "--engine-arg is for engines on this machine"),
        ("claude-opus-5", {"api_key": "x"}, "has no option 'api_key'; it takes base_url, max_"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_one_line(
    model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        create(f"anthropic/{model}", **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"anthropic/{model}")


def test_a_temperature_goes_with_the_version_of_the_api_that_knows_it() -> None:
    _, asked = ask(model="claude-opus-4-5", temperature=0)
    assert asked.headers["anthropic-version"] == "2023-06-01"
    _, asked = ask(model="claude-opus-4-5")
    assert asked.headers["anthropic-version"] > "2023-06-01"


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_base_urls_with_and_without_a_version(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(Anthropic()) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url + end)
        adapter = create("anthropic/m")
        assert asyncio.run(adapter.generate(REQUEST)).status == "ok"
        assert adapter.fingerprint()["base_url"] == server.url


def test_a_token_in_the_keys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    response, _ = ask(lambda asked: asked.answer(f"I saw {asked.headers['authorization']}"))
    assert response.text == "I saw Bearer [key]"


# --------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("stream", ["yes", "no"])
def test_an_answer_with_its_thoughts_apart(stream: str) -> None:
    response, _ = ask(lambda asked: asked.answer("1, 2, 3", thoughts="let me see"), stream=stream)
    assert response == Response(
        "ok",
        text="1, 2, 3",
        reasoning="let me see",
        stop_reason="end_turn",
        model=VERSION,
        usage=Usage(100, 25, 64, 8, 20),
        latency=response.latency,
        first_token=response.first_token,
    )
    assert response.latency
    assert (response.first_token is not None) == (stream == "yes")


def test_the_first_token_is_that_of_the_answer() -> None:
    """Events come a tenth of a second apart; eight come before its first word."""
    response, _ = ask(lambda asked: asked.answer("1", thoughts="let me see", pause=0.1))
    assert response.latency and response.first_token
    assert 0.7 < response.first_token < response.latency


@pytest.mark.parametrize("stream", ["yes", "no"])
@pytest.mark.parametrize(
    ("stop", "text", "status"),
    [
        ("max_tokens", "1, 2", "truncated"),
        ("max_tokens", None, "truncated"),
        ("model_context_window_exceeded", "1", "truncated"),
        ("refusal", None, "refused"),
        ("refusal", "I", "refused"),
        ("stop_sequence", "1, 1, 1", "ok"),
        ("end_turn", None, "empty"),
    ],
)
def test_how_it_stopped(stop: str, text: str | None, status: str, stream: str) -> None:
    response, _ = ask(lambda asked: asked.answer(text, stop=stop, thoughts="so far"), stream=stream)
    assert (response.status, response.text, response.stop_reason) == (status, text, stop)
    assert response.reasoning == "so far"


def test_why_it_refused() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "may be\nharmful"}
    response, _ = ask(lambda asked: asked.answer(None, stop="refusal", details=details))
    assert (response.status, response.error) == ("refused", "may be harmful")


STREAMS = {
    "cut in the head": ({"cut": 0}, "server_error"),
    "cut after a few words": ({"cut": 5}, "server_error"),
    "cut before the last event": ({"cut": -1}, "server_error"),
    "overloaded on the way":
        ({"cut": 5, "broken": {"type": "overloaded_error", "message": "Overloaded"}},
         "server_error"),
    "an error on the way":
        ({"cut": 5, "broken": {"type": "api_error", "message": "oops"}}, "server_error"),
    "too many on the way":
        ({"cut": 5, "broken": {"type": "rate_limit_error", "message": "slow"}}, "rate_limited"),
    "too slow on the way":
        ({"cut": 5, "broken": {"type": "timeout_error", "message": "slow"}}, "timeout"),
    "an error without a kind": ({"cut": 5, "broken": {}}, "server_error"),
}  # fmt: skip


@pytest.mark.parametrize(("how", "status"), STREAMS.values(), ids=STREAMS.keys())
def test_a_stream_that_breaks_can_be_asked_again(how: dict[str, Any], status: str) -> None:
    response, _ = ask(lambda asked: asked.answer("1, 2, 3, a long answer", **how))
    assert (response.status, response.text) == (status, None)
    assert response.error


def test_a_stream_that_ends_too_early() -> None:
    """It ends as HTTP wants it, but the message has not."""
    start = {"type": "message_start", "message": {"content": [], "usage": {}}}
    response, _ = ask(Reply(body=[sse(start)]))
    assert response.error == "the stream ended before the answer did"
    assert response.status == "server_error"


def test_a_stream_that_stands_still() -> None:
    response, _ = ask(lambda asked: asked.answer("1, 2, 3", pause=3600.0), timeout=0.3)
    assert (response.status, response.text) == ("timeout", None)


def test_events_that_are_no_json_or_not_known() -> None:
    response, _ = ask(Reply(body=[b"event: message_start\ndata: {\n\n"]))
    assert response.status == "server_error"
    odd = [sse({"type": "news", "delta": 3}), b": a comment\n\n", b"event: ping\n\n"]
    good = Anthropic().answer(_streaming(), "1, 1, 1").body
    response, _ = ask(Reply(body=[*odd, *good]))
    assert (response.status, response.text) == ("ok", "1, 1, 1")


def _streaming() -> Ask:
    return Ask({}, {"stream": True}, 1)


@pytest.mark.parametrize(
    ("code", "kind", "message", "status"),
    [
        (400, "", "prompt is too long: 208310 tokens > 200000 maximum", "too_long"),
        (400, "", "input length and `max_tokens` exceed context limit: 9 + 300 > 200", "too_long"),
        (413, "", "Request exceeds the maximum size", "too_long"),
        (400, "", "Your credit balance is too low to access the Anthropic API", "auth"),
        (402, "", "no money", "auth"),
        (400, "", "This organization has been disabled.", "auth"),
        (404, "", "model: claude-none", "auth"),
        (529, "", "Overloaded", "server_error"),
        (400, "", "messages.0.content.0.image.source.base64: image exceeds 5 MB", "image_rejected"),
        (400, "", "At least one of the image dimensions exceed max allowed size for many-image "
         "requests: 2000 pixels", "image_rejected"),
        (400, "", '"thinking.type.enabled" is not supported for this model.', "bad_request"),
        (400, "", "temperature: `temperature` is deprecated for this model.", "bad_request"),
    ],
)  # fmt: skip
def test_what_anthropic_says(code: int, kind: str, message: str, status: str) -> None:
    response, _ = ask(lambda asked: asked.failure(code, message, kind))
    assert response.status == status
    assert message in str(response.error)


# --------------------------------------------------------------------------- for batches


def test_bodies_and_replies_without_http() -> None:
    adapter = create("anthropic/claude-opus-5", reasoning="low")
    body = json.loads(adapter.body(SHARED))  # type: ignore[attr-defined]
    _, asked = ask(request=SHARED, model="claude-opus-5", reasoning="low")
    assert body | {"stream": True} == asked.body
    reply = Anthropic().answer(Ask({}, {}, 1), "1, 1, 1", thoughts="hm").body
    response = adapter.read_reply(json.dumps(reply).encode())  # type: ignore[attr-defined]
    assert (response.status, response.text, response.reasoning) == ("ok", "1, 1, 1", "hm")
    error = json.dumps(Anthropic().error(529, "Overloaded", "")).encode()
    assert adapter.read_reply(error).status == "server_error"  # type: ignore[attr-defined]
