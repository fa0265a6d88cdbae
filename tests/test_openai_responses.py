"""OpenAI's Responses API, Azure and log-probabilities through the real SDK.

Chat completions in general are in test_openai_adapter.py, what every provider shares is in
test_provider_errors.py.
"""

import asyncio
import json
import math
from typing import Any

import pytest
from api_server import KEY, VERSION, ApiServer, Ask, Protocol
from photographs import REQUEST, SHARED
from protocols import Azure, OpenAIChat, OpenAIResponses
from schemas import faults

from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.types import Request, Response, Usage


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "OPENAI_BASE_URL", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, KEY)


def ask(
    script: Any = None,
    request: Request = REQUEST,
    model: str = "openai/m?api=responses",
    protocol: Protocol | None = None,
    **options: Any,
) -> tuple[Response, Ask]:
    """One attempt: the response, and the request as the server saw it."""

    async def main(url: str) -> Response:
        adapter = create(model, base_url=url, **options)
        try:
            return await adapter.generate(request)
        finally:
            await adapter.aclose()

    with ApiServer(protocol or OpenAIResponses(), script) as server:
        response = asyncio.run(main(server.url))
    assert not server.wrongs
    (asked,) = server.asks
    return response, asked


def fields(asked: Ask) -> dict[str, Any]:
    """What a request says beside its messages."""
    return {k: v for k, v in asked.body.items() if k not in ("input", "messages", "model")}


# --------------------------------------------------------------------------- which protocol


@pytest.mark.parametrize(
    ("base_url", "api"),
    [
        (None, "responses"),
        ("https://api.openai.com/v1", "responses"),
        ("https://eu.api.openai.com/v1", "responses"),
        ("http://localhost:8000/v1", "chat"),
        ("https://mine.openai.azure.com/openai/v1", "chat"),
        ("https://openrouter.ai/api/v1", "chat"),
    ],
)
def test_openai_itself_is_asked_by_responses_and_others_by_chat(
    base_url: str | None, api: str
) -> None:
    assert create("openai/gpt-5", base_url=base_url).fingerprint()["api"] == api
    other = "chat" if api == "responses" else "responses"
    assert create(f"openai/gpt-5?api={other}", base_url=base_url).fingerprint()["api"] == other


# --------------------------------------------------------------------------- what is sent


def test_images_come_first_in_order_and_then_the_text() -> None:
    _, asked = ask()
    assert asked.order == "iiit"
    assert asked.images == list(REQUEST.images)
    assert asked.prompt == REQUEST.prompt
    assert fields(asked) == {"store": False, "max_output_tokens": 300}
    assert {part.get("detail") for part in asked.body["input"][0]["content"]} == {"auto", None}
    assert asked.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("name", "options", "sent"),
    [
        ("gpt-4o", {"temperature": 0}, {"max_output_tokens": 300, "temperature": 0.0}),
        ("gpt-5", {}, {"max_output_tokens": 12588}),
        ("o3", {}, {"max_output_tokens": 12588}),
        ("gpt-5", {"max_tokens": 50}, {"max_output_tokens": 50}),
        ("gpt-5", {"reasoning": "low"},
         {"max_output_tokens": 4396, "reasoning": {"effort": "low", "summary": "auto"}}),
        ("gpt-5", {"reasoning": "high", "summary": "off"},
         {"max_output_tokens": 24876, "reasoning": {"effort": "high"}}),
        ("gpt-5.1", {"reasoning": "off"},
         {"max_output_tokens": 300, "reasoning": {"effort": "none"}}),
        ("m", {"logprobs": True}, {"max_output_tokens": 300, "top_logprobs": 20,
                                   "include": ["message.output_text.logprobs"]}),
    ],
)  # fmt: skip
def test_options_of_responses(name: str, options: dict[str, Any], sent: dict[str, Any]) -> None:
    script = lambda asked: asked.answer("-1", logprobs=[token("-", -0.1)])  # noqa: E731
    _, asked = ask(script, model=f"openai/{name}?api=responses", **options)
    assert fields(asked) == {"store": False} | sent


@pytest.mark.parametrize(
    ("name", "options", "sent"),
    [
        ("gpt-5", {"reasoning": "low"}, {"max_tokens": 4396, "reasoning_effort": "low"}),
        ("gpt-5", {"reasoning": "off"}, {"max_tokens": 300, "reasoning_effort": "none"}),
        ("qwen3-vl", {}, {"max_tokens": 300}),
    ],
)
def test_reasoning_by_chat(name: str, options: dict[str, Any], sent: dict[str, Any]) -> None:
    _, asked = ask(model=f"openai/{name}", protocol=OpenAIChat(), **options)
    assert fields(asked) == sent


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("openai/gpt-5", {"reasoning": 5000},
         "reasoning is 5000, not one of minimal, low, medium, high, xhigh, max, off"),
        ("openai/gpt-5", {"seed": 1}, "the Responses API has no seed; add ?api=chat"),
        ("openai/gpt-5", {"token_field": "max_tokens"}, "the Responses API has no token_field"),
        ("openai/gpt-5", {"api": "completions"}, "not one of responses, chat"),
        ("openai/gpt-5", {"engine_args": {}}, "--engine-arg is for engines on this machine"),
        ("openai/gpt-5", {"detail": "medium"}, "not one of auto, low, high, original"),
        ("azure/d", {"api": "responses", "api_version": "2024-10-21"}, "has no api_version"),
        ("azure/d", {}, "needs an address: set AZURE_OPENAI_ENDPOINT"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_one_line(
    model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        create(model, **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(model)


# --------------------------------------------------------------------------- prompt caching


def body(model: str, request: Request, **options: Any) -> dict[str, Any]:
    adapter: Any = create(model, **options)
    read: dict[str, Any] = json.loads(adapter.body(request))
    assert not faults(read, _schema(adapter.api))
    return read


def _schema(api: str) -> Any:
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

    return {"chat": CompletionCreateParamsNonStreaming}.get(api, ResponseCreateParamsNonStreaming)


EXPLICIT = {"mode": "explicit"}


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_shared_images_go_to_one_machine_and_new_models_are_told_where_they_end(api: str) -> None:
    def marks(read: dict[str, Any]) -> list[Any]:
        (message,) = read.get("input") or read["messages"]
        return [part.get("prompt_cache_breakpoint") for part in message["content"]]

    shared = body(f"openai/gpt-5.6-sol?api={api}", SHARED)
    assert shared["prompt_cache_key"] == "mmneedle-n3-g2x4-k2-h7"
    assert shared["prompt_cache_options"] == EXPLICIT
    assert marks(shared) == [None, None, EXPLICIT, None]
    own = body(f"openai/gpt-5.6-sol?api={api}", REQUEST)
    assert "prompt_cache_key" not in own
    assert own["prompt_cache_options"] == EXPLICIT  # and no mark: nothing is worth being kept
    assert marks(own) == [None] * 4
    older = body(f"openai/gpt-5.5?api={api}", SHARED)
    assert older["prompt_cache_key"]
    assert marks(older) == [None] * 4
    assert "prompt_cache_options" not in older
    for plain in (
        body(f"openai/gpt-5.6?api={api}", SHARED, cache="off"),
        body(f"openai/gpt-5.6?api={api}", SHARED, base_url="http://localhost:8000/v1"),
    ):
        assert marks(plain) == [None] * 4
        assert not {"prompt_cache_key", "prompt_cache_options"} & plain.keys()


def test_bodies_are_what_is_sent() -> None:
    adapter: Any = create("openai/m?api=responses", base_url="http://localhost:1/v1")
    assert json.loads(adapter.body(SHARED)) == ask(request=SHARED)[1].body
    assert adapter.path == "/responses"
    assert create("openai/m", base_url="http://localhost:1/v1").path == "/chat/completions"  # type: ignore[attr-defined]


# --------------------------------------------------------------------------- what comes back


def test_an_answer_with_its_thoughts_apart() -> None:
    response, _ = ask(lambda asked: asked.answer("1, 2, 3", thoughts=("First", "Then")))
    assert response == Response(
        "ok",
        text="1, 2, 3",
        reasoning="First\n\nThen",
        stop_reason="completed",
        model=VERSION,
        usage=Usage(100, 25, 64, 8, 20),
        latency=response.latency,
    )


@pytest.mark.parametrize(
    ("text", "more", "status", "said", "stop"),
    [
        ("1, 2", {"incomplete": "max_output_tokens"}, "truncated", "1, 2", "max_output_tokens"),
        (None, {"incomplete": "max_output_tokens", "thoughts": ("hm",)}, "truncated", None,
         "max_output_tokens"),
        (None, {"incomplete": "content_filter"}, "refused", None, "content_filter"),
        (None, {"refusal": "I can't."}, "refused", "I can't.", "completed"),
        (None, {}, "empty", None, "completed"),
    ],
)  # fmt: skip
def test_how_it_stopped(
    text: str | None, more: dict[str, Any], status: str, said: str | None, stop: str
) -> None:
    response, _ = ask(lambda asked: asked.answer(text, **more))
    assert (response.status, response.text, response.stop_reason) == (status, said, stop)


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("server_error", "oops", "server_error"),
        ("rate_limit_exceeded", "slow down", "rate_limited"),
        ("invalid_prompt", "your prompt was flagged", "refused"),
        ("image_content_policy_violation", "no", "refused"),
        ("bio_policy", "no", "refused"),
        ("image_too_large", "no", "image_rejected"),
        ("invalid_image", "no", "image_rejected"),
    ],
)
def test_a_response_that_failed(code: str, message: str, status: str) -> None:
    error = {"code": code, "message": message}
    response, _ = ask(lambda asked: asked.answer(None, status="failed", error=error))
    assert (response.status, response.text) == (status, None)
    assert message in str(response.error)


def test_a_response_that_failed_without_a_word() -> None:
    response, _ = ask(lambda asked: asked.answer(None, status="failed"))
    assert response.status == "server_error"


@pytest.mark.parametrize(
    ("code", "kind", "message", "status"),
    [
        (400, "content_filter", "The response was filtered due to the prompt triggering Azure "
         "OpenAI's content management policy.", "refused"),
        (404, "DeploymentNotFound", "The API deployment for this resource does not exist.", "auth"),
        (400, "context_length_exceeded", "Your input exceeds the context window", "too_long"),
        (400, "invalid_image_format", "You uploaded an unsupported image", "image_rejected"),
        (400, "", "Invalid content type. image_url is only supported by certain models.",
         "image_rejected"),
        (400, "unsupported_parameter", "Unsupported parameter: 'temperature' is not supported with "
         "this model.", "bad_request"),
        (429, "insufficient_quota", "You exceeded your current quota", "auth"),
        (500, "", "image input is not supported - hint: if this is unexpected, you may need to "
         "provide the mmproj", "image_rejected"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [OpenAIChat(), OpenAIResponses()], ids=["chat", "responses"])
def test_what_openai_azure_and_open_servers_say(
    protocol: OpenAIChat, code: int, kind: str, message: str, status: str
) -> None:
    api = "responses" if isinstance(protocol, OpenAIResponses) else "chat"
    response, _ = ask(
        lambda asked: asked.failure(code, message, kind),
        model=f"openai/m?api={api}",
        protocol=protocol,
    )
    assert response.status == status
    assert message in str(response.error)


# --------------------------------------------------------------------------- Azure


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
def test_azures_endpoint_with_and_without_its_end(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ApiServer(Azure("d")) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url + end)
        adapter = create("azure/d")
        assert asyncio.run(adapter.generate(REQUEST)).status == "ok"
    assert not server.wrongs
    assert adapter.model == "azure/d"
    assert adapter.fingerprint()["base_url"] == f"{server.url}/openai/v1"
    assert server.asks[0].body["max_completion_tokens"] == 300


def test_azures_dated_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    response, _ = ask(model="azure/d", protocol=Azure("d", "2024-10-21"))
    assert response.status == "ok"
    adapter = create("azure/d", base_url="https://mine.openai.azure.com")
    assert adapter.fingerprint()["api_version"] == "2024-10-21"


def test_azures_filter_of_answers() -> None:
    response, _ = ask(
        lambda asked: asked.answer("I", finish="content_filter"),
        model="azure/d",
        protocol=Azure("d"),
    )
    assert response.status == "refused"


# --------------------------------------------------------------------------- log-probabilities


def token(text: str, logprob: float, **others: float) -> dict[str, Any]:
    """A token of an answer, with what could have stood in its place."""
    top = [_token(name, value) for name, value in others.items()]
    return _token(text, logprob) | {"top_logprobs": top}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def ln(*shares: float) -> float:
    return math.log(sum(shares))


CASES: dict[str, tuple[list[dict[str, Any]], float]] = {
    "in one token": ([token("-1", ln(0.7), **{"-1": ln(0.7), "1": ln(0.3)})], ln(0.7)),
    "in two tokens": ([token("-", ln(0.6), **{"-": ln(0.6), "1": ln(0.4)}), token("1", 0)],
                      ln(0.6)),
    "either way": ([token("-", ln(0.5), **{"-": ln(0.5), "-1": ln(0.2), "1": ln(0.3)})], ln(0.7)),
    "with a space": ([token("1", ln(0.8), **{"1": ln(0.8), " -": ln(0.2)})], ln(0.2)),
    "longer": ([token("-1;", ln(0.9), **{"-1;": ln(0.9), "2": ln(0.1)})], ln(0.9)),
    "after a line end": ([token("\n", ln(0.9), **{"-": ln(0.1)}),
                          token("3", ln(0.75), **{"3": ln(0.75), "-": ln(0.25)})], ln(0.25)),
    "not among the likeliest: no more than the least, or the rest":
        ([token("1", ln(0.9), **{"1": ln(0.9), "2": ln(0.06)})], ln(0.04)),
    "not among the likeliest, the least":
        ([token("1", ln(0.5), **{"1": ln(0.5), "2": ln(0.01)})], ln(0.01)),
    "certain": ([token("-1", 0)], 0.0),
    "as good as impossible": ([token("1", 0, **{"1": 0, "2": -9999.0})], math.log(1e-12)),
}  # fmt: skip


@pytest.mark.parametrize(("tokens", "expected"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_probability_of_minus_one(
    tokens: list[dict[str, Any]], expected: float, api: str
) -> None:
    chat = api == "chat"
    response, _ = ask(
        lambda asked: asked.answer("x", logprobs={"content": tokens} if chat else tokens),
        model=f"openai/m?api={api}",
        protocol=OpenAIChat() if chat else OpenAIResponses(),
        logprobs=True,
    )
    assert response.absent_logprob == pytest.approx(expected)


@pytest.mark.parametrize("protocol", [OpenAIChat(), OpenAIResponses()], ids=["chat", "responses"])
def test_a_server_without_log_probabilities_is_one_clear_line(protocol: OpenAIChat) -> None:
    api = "responses" if isinstance(protocol, OpenAIResponses) else "chat"
    with pytest.raises(UserError, match=r"^openai/m: the server gives no log-probabilities; leave"):
        ask(model=f"openai/m?api={api}", protocol=protocol, logprobs=True)


def test_log_probabilities_of_thoughts_are_not_taken_for_the_answers() -> None:
    response, _ = ask(
        lambda asked: asked.answer(
            "1", reasoning_content="hm", logprobs={"content": [token("hm", 0)]}
        ),
        model="openai/m",
        protocol=OpenAIChat(),
        logprobs=True,
    )
    assert (response.status, response.absent_logprob) == ("ok", None)
