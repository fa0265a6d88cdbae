"""Gemini's generateContent through the real SDK: what is sent and what comes back.

What every provider shares is in test_provider_errors.py.
"""

import asyncio
import json
from typing import Any

import pytest
from api_server import KEY, VERSION, ApiServer, Ask
from chat_server import Reply
from photographs import REQUEST, SHARED
from protocols import Google

from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.types import Request, Response, Usage


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "GOOGLE_API_KEY", "GOOGLE_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


def ask(
    script: Any = None, request: Request = REQUEST, model: str = "m", **options: Any
) -> tuple[Response, Ask]:
    """One attempt: the response, and the request as the server saw it."""

    async def main(url: str) -> Response:
        adapter = create(f"google/{model}", base_url=url, **options)
        try:
            return await adapter.generate(request)
        finally:
            await adapter.aclose()

    with ApiServer(Google(), script) as server:
        response = asyncio.run(main(server.url))
    assert not server.wrongs
    (asked,) = server.asks
    return response, asked


# --------------------------------------------------------------------------- what is sent


def test_images_come_first_in_order_and_then_the_text() -> None:
    _, asked = ask(model="gemini-2.0-flash")
    assert asked.order == "iiit"
    assert asked.images == list(REQUEST.images)
    assert asked.prompt == REQUEST.prompt
    assert asked.path.endswith("/models/gemini-2.0-flash:generateContent")
    assert asked.body["generationConfig"] == {"maxOutputTokens": 300}
    assert asked.headers["x-goog-api-key"] == KEY
    assert "google-genai-sdk/" in asked.headers["user-agent"]


THOUGHTS = {"includeThoughts": True}


@pytest.mark.parametrize(
    ("model", "options", "config"),
    [
        ("gemini-2.0-flash", {"temperature": 0, "seed": 3},
         {"maxOutputTokens": 300, "temperature": 0.0, "seed": 3}),
        ("gemini-2.0-flash", {"detail": "medium"},
         {"maxOutputTokens": 300, "mediaResolution": "MEDIA_RESOLUTION_MEDIUM"}),
        ("gemini-2.0-flash", {"detail": "auto"}, {"maxOutputTokens": 300}),
        ("gemini-2.5-flash", {}, {"maxOutputTokens": 12588, "thinkingConfig": THOUGHTS}),
        ("gemini-3.1-pro", {}, {"maxOutputTokens": 12588, "thinkingConfig": THOUGHTS}),
        ("gemini-3.1-pro", {"max_tokens": 50}, {"maxOutputTokens": 50, "thinkingConfig": THOUGHTS}),
        ("gemini-2.5-flash", {"reasoning": "off"},
         {"maxOutputTokens": 300, "thinkingConfig": {"thinkingBudget": 0}}),
        ("gemini-2.5-flash", {"reasoning": "low"},
         {"maxOutputTokens": 4396, "thinkingConfig": THOUGHTS | {"thinkingBudget": 4096}}),
        ("gemini-2.5-flash", {"reasoning": 500},
         {"maxOutputTokens": 800, "thinkingConfig": THOUGHTS | {"thinkingBudget": 500}}),
        ("gemini-3.1-pro", {"reasoning": "high"},
         {"maxOutputTokens": 24876, "thinkingConfig": THOUGHTS | {"thinkingLevel": "HIGH"}}),
        ("tuned", {"reasoning": "low"},
         {"maxOutputTokens": 4396, "thinkingConfig": THOUGHTS | {"thinkingLevel": "LOW"}}),
    ],
)  # fmt: skip
def test_options_as_the_model_takes_them(
    model: str, options: dict[str, Any], config: dict[str, Any]
) -> None:
    _, asked = ask(model=model, **options)
    assert asked.body["generationConfig"] == config


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("gemini-2.5-pro", {"reasoning": "off"}, "always thinks: its reasoning can be low, but"),
        ("gemini-3.8-flash", {"reasoning": "off"}, "always thinks: its reasoning can be low, but"),
        ("gemini-2.5-flash", {"reasoning": 500, "max_tokens": 400},
         "500 tokens of reasoning do not fit into 400"),
        ("gemini-3-pro", {"reasoning": "xhigh"}, "not one of minimal, low, medium, high, off or a"),
        ("gemini-3-pro", {"detail": "original"}, "not one of low, medium, high, auto"),
        ("gemini-3-pro", {"logprobs": True}, "leave out --logprobs"),
        ("gemini-3-pro", {"engine_args": {}}, "--engine-arg is for engines on this machine"),
        ("gemini-3-pro", {"api_key": "x"}, "has no option 'api_key'; it takes base_url, max_"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_one_line(
    model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        create(f"google/{model}", **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"google/{model}")


@pytest.mark.parametrize("variable", ["GOOGLE_BASE_URL", "GOOGLE_GEMINI_BASE_URL"])
@pytest.mark.parametrize("end", ["", "/v1beta", "/v1/"])
def test_base_urls(variable: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer(Google()) as server:
        monkeypatch.setenv(variable, server.url + end)
        adapter = create("google/m")
        assert asyncio.run(adapter.generate(REQUEST)).status == "ok"
        assert adapter.fingerprint()["base_url"] == server.url


def test_the_clouds_variables_do_not_send_it_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "us-central1")
    assert ask()[0].status == "ok"


def test_the_first_of_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_KEY", "another-key-987654321")
    assert ask()[0].status == "ok"


# --------------------------------------------------------------------------- what comes back


def test_an_answer_with_its_thoughts_apart() -> None:
    response, _ = ask(lambda asked: asked.answer("1, 2, 3", thoughts="let me see"))
    assert response == Response(
        "ok",
        text="1, 2, 3",
        reasoning="let me see",
        stop_reason="STOP",
        model=VERSION,
        usage=Usage(100, 25, 64, None, 20),
        latency=response.latency,
    )
    assert response.latency


@pytest.mark.parametrize(
    ("stop", "text", "status"),
    [
        ("MAX_TOKENS", "1, 2", "truncated"),
        ("MAX_TOKENS", None, "truncated"),
        ("SAFETY", None, "refused"),
        ("PROHIBITED_CONTENT", None, "refused"),
        ("BLOCKLIST", "1", "refused"),
        ("RECITATION", None, "refused"),
        ("SPII", None, "refused"),
        ("OTHER", None, "empty"),
        ("OTHER", "1, 1, 1", "ok"),
        ("STOP", None, "empty"),
        ("MALFORMED_RESPONSE", None, "server_error"),
    ],
)
def test_how_it_stopped(stop: str, text: str | None, status: str) -> None:
    response, _ = ask(lambda asked: asked.answer(text, stop=stop, thoughts="so far"))
    assert response.status == status
    if status != "server_error":
        assert (response.text, response.stop_reason) == (text, stop)
        assert response.reasoning == "so far"


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "OTHER", "IMAGE_SAFETY"])
def test_a_prompt_that_is_blocked(reason: str) -> None:
    response, _ = ask(lambda asked: asked.answer(None, blocked=reason))
    assert (response.status, response.stop_reason, response.text) == ("refused", reason, None)


def test_tokens_that_are_not_told() -> None:
    def script(asked: Ask) -> Reply:
        reply = asked.answer("1, 1, 1")
        reply.body["usageMetadata"] = {"promptTokenCount": 3}
        return reply

    assert ask(script)[0].usage == Usage(3)


@pytest.mark.parametrize(
    ("code", "kind", "message", "status", "wait"),
    [
        (429, "34.5s", "You exceeded your current quota", "rate_limited", 34.5),
        (429, "3s", "Resource has been exhausted (e.g. check quota).", "rate_limited", 3.0),
        (429, "", "Your prepayment credits are depleted.", "auth", None),
        (503, "", "The model is overloaded. Please try again later.", "server_error", None),
        (500, "", "An internal error has occurred.", "server_error", None),
        (504, "", "Deadline expired before operation could complete.", "timeout", None),
        (400, "API_KEY_INVALID", "API key not valid. Please pass a valid API key.", "auth", None),
        (403, "", "Permission denied on resource project p.", "auth", None),
        (404, "", "models/m is not found for API version v1", "auth", None),
        (400, "", "User location is not supported for the API use.", "auth", None),
        (400, "", "The input token count (2000000) exceeds the maximum number of tokens allowed "
         "(1048576).", "too_long", None),
        (400, "", "Request payload size exceeds the limit: 20971520 bytes.", "too_long", None),
        (413, "", "too large", "too_long", None),
        (400, "", "Unable to process input image. Please retry.", "image_rejected", None),
        (400, "", "Please use fewer than 3600 images in your request", "image_rejected", None),
        (400, "", "Image input modality is not enabled for models/m", "image_rejected", None),
        (400, "", "Invalid value at 'generation_config.seed'", "bad_request", None),
    ],
)  # fmt: skip
def test_what_google_says(
    code: int, kind: str, message: str, status: str, wait: float | None
) -> None:
    response, _ = ask(lambda asked: asked.failure(code, message, kind))
    assert (response.status, response.retry_after) == (status, wait)
    assert message in str(response.error)


# --------------------------------------------------------------------------- for batches


@pytest.mark.parametrize("request_", [REQUEST, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("model", ["gemini-2.0-flash", "gemini-3.1-pro"])
def test_bodies_are_what_the_sdk_sends(request_: Request, model: str) -> None:
    options = {"temperature": 0.5, "seed": 1, "detail": "low"}
    adapter = create(f"google/{model}", **options)
    body = json.loads(adapter.body(request_))  # type: ignore[attr-defined]
    _, asked = ask(request=request_, model=model, **options)
    sent = json.loads(json.dumps(asked.body).replace("-", "+").replace("_", "/"))
    assert json.loads(json.dumps(body).replace("-", "+").replace("_", "/")) == sent


def test_replies_without_http() -> None:
    adapter: Any = create("google/m")
    reply = Google().answer(Ask({}, {}, 1), "1, 1, 1", thoughts="hm").body
    response = adapter.read_reply(json.dumps(reply).encode())
    assert (response.status, response.text, response.reasoning) == ("ok", "1, 1, 1", "hm")
    error = json.dumps(Google().error(429, "slow down", "")).encode()
    assert adapter.read_reply(error).status == "rate_limited"
