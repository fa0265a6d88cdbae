"""What goes wrong at a provider ends in its status, for every protocol, through the real SDKs."""

import asyncio
import json
import logging
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from api_server import KEY, ApiServer, Ask, Protocol
from chat_server import HANG, Reply
from fakes import FakeDataSet, open_log
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from photographs import REQUEST, asked
from protocols import Anthropic, Azure, Google, OpenAIChat, OpenAIResponses

from mmneedle.adapters import create
from mmneedle.adapters.server import Secrets
from mmneedle.errors import UserError
from mmneedle.pacing import Backoff
from mmneedle.runlog import Run
from mmneedle.runner import run
from mmneedle.types import Request, Response, Sample

PROTOCOLS: dict[str, tuple[str, Protocol]] = {
    "chat": ("openai/m", OpenAIChat()),
    "responses": ("openai/m?api=responses", OpenAIResponses()),
    "azure": ("azure/m", Azure("m")),
    "anthropic": ("anthropic/m", Anthropic()),
    "unstreamed": ("anthropic/m?stream=no", Anthropic()),
    "google": ("google/m", Google()),
}
VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "OPENAI_API_VERSION", "ANTHROPIC_AUTH_TOKEN", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in VARIABLES:
        monkeypatch.setenv(name, KEY)


@pytest.fixture(params=list(PROTOCOLS))
def provider(request: pytest.FixtureRequest) -> tuple[str, Protocol]:
    return PROTOCOLS[request.param]


def attempt(provider: tuple[str, Protocol], script: Any, **options: Any) -> Response:
    """One attempt at a server that replies as told."""

    async def main(url: str) -> Response:
        adapter = create(provider[0], base_url=url, **options)
        try:
            return await adapter.generate(REQUEST)
        finally:
            await adapter.aclose()

    with ApiServer(provider[1], script) as server:
        response = asyncio.run(main(server.url))
    assert not server.wrongs
    assert len(server.asks) <= 1, "the SDK has tried again by itself"
    return response


# --------------------------------------------------------------------------- every provider

ERRORS: list[tuple[int, str, str]] = [
    (400, "Unsupported parameter", "bad_request"),
    (401, "invalid key", "auth"),
    (403, "no permission for this resource", "auth"),
    (404, "model m: no such model", "auth"),
    (408, "took too long to send", "timeout"),
    (413, "Request exceeds the maximum size", "too_long"),
    (429, "slow down", "rate_limited"),
    (500, "Internal server error", "server_error"),
    (502, "bad gateway", "server_error"),
    (503, "The service is currently unavailable", "server_error"),
    (504, "took too long", "timeout"),
    (529, "Overloaded", "server_error"),
    (400, "image exceeds 5 MB maximum", "image_rejected"),
    (400, "Too many images: at most 20 may be given", "image_rejected"),
    (400, "This model does not support image input", "image_rejected"),
    (400, "the context window is exceeded", "too_long"),
    (400, "Output blocked by content filtering policy", "refused"),
]


@pytest.mark.parametrize(("code", "message", "status"), ERRORS)
def test_errors_of_every_kind(
    provider: tuple[str, Protocol], code: int, message: str, status: str
) -> None:
    response = attempt(provider, lambda ask: ask.failure(code, message))
    assert response.status == status
    assert message in str(response.error)
    assert str(code) in str(response.error)
    assert "\n" not in str(response.error)
    assert (response.text, response.retry_after) == (None, None)


BROKEN = {
    "no JSON": Reply(body=b"{"),
    "a page": Reply(200, b"<html>busy</html>", {"content-type": "text/html"}),
    "nothing": Reply(body=b""),
    "no text": Reply(body=b'"\xff"'),
    "something else": Reply(body={"detail": "hello"}),
    "a list": Reply(body=b"[]"),
    "a word": Reply(body="hello"),
    "dropped at once": Reply(body={}, drop=0),
    "dropped in the head": Reply(body={}, drop=20),
    "a page as an error": Reply(503, b"<html>busy</html>", {"content-type": "text/html"}),
    "an error that is no text": Reply(500, b"\xff\xfe{"),
    "an error that is a list": Reply(500, b'[{"error": {"code": 500, "message": "oops"}}]'),
    "an error that is a word": Reply(500, body="oops"),
    "an empty error": Reply(500, b""),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_replies_that_are_none(provider: tuple[str, Protocol], reply: Reply) -> None:
    response = attempt(provider, reply)
    assert response.status == "server_error"
    assert response.error


OTHER_FORMS: dict[str, Any] = {
    "a list": b'[{"msg": "the image is too large"}]',
    "a list of errors": b'[{"error": {"code": 400, "message": "the image is too large"}}]',
    "a word": "the image is too large",
    "a detail": {"detail": "the image is too large"},
    "plain text": b"the image is too large",
}


@pytest.mark.parametrize("body", OTHER_FORMS.values(), ids=OTHER_FORMS.keys())
def test_errors_of_another_form_keep_their_reason(
    provider: tuple[str, Protocol], body: object
) -> None:
    kind = "text/plain" if body == OTHER_FORMS["plain text"] else "application/json"
    response = attempt(provider, lambda ask: Reply(400, body, {"content-type": kind}))
    assert response.status == "image_rejected"
    assert "the image is too large" in str(response.error)


def test_a_reply_without_end_does_not_fill_the_memory(
    provider: tuple[str, Protocol], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmneedle.adapters.transport.LONGEST_REPLY", 1 << 20)
    for code in (200, 400):
        response = attempt(provider, lambda ask, code=code: Reply(code, b'"' + bytes(2 << 20)))
        assert response.status == "server_error"
        assert "the reply is longer than 1 MiB" in str(response.error)


BAD_PROXIES = ["foo://bar", "http://[::1", "localhost:99999", "://", "http://", "http://u:secret@"]


@pytest.mark.parametrize("proxy", BAD_PROXIES)
@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_is_none_is_one_line(
    provider: tuple[str, Protocol], monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(UserError, match=f"^the variable {variable.lower()} must look like"):
        create(provider[0], base_url="http://127.0.0.1:9")


def test_a_reply_cut_in_two(provider: tuple[str, Protocol]) -> None:
    def script(ask: Ask) -> Reply:
        ask.body.pop("stream", None)
        reply = ask.answer("1, 1, 1")
        return Reply(body=reply.body, drop=200)

    assert attempt(provider, script).status == "server_error"


def test_nobody_there(provider: tuple[str, Protocol]) -> None:
    async def main() -> Response:
        adapter = create(provider[0], base_url="http://127.0.0.1:9")
        try:
            return await adapter.generate(REQUEST)
        finally:
            await adapter.aclose()

    response = asyncio.run(main())
    assert response.status == "server_error"
    assert "onnect" in str(response.error)


def test_a_hung_server_ends_at_the_adapters_own_timeout(provider: tuple[str, Protocol]) -> None:
    assert attempt(provider, HANG, timeout=0.3).status == "timeout"


def test_as_many_connections_as_wanted(provider: tuple[str, Protocol]) -> None:
    """The SDKs' own limits of a hundred or so do not count: 120 wait at a server that hangs."""

    async def main(server: ApiServer) -> None:
        adapter = create(provider[0], base_url=server.url)
        asking = [asyncio.create_task(adapter.generate(REQUEST)) for _ in range(120)]
        async with asyncio.timeout(60):
            while server.at_once < 120:
                await asyncio.sleep(0.05)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await adapter.aclose()

    with ApiServer(provider[1], HANG) as server:
        asyncio.run(main(server))
    assert not server.wrongs


def test_the_time_to_wait_is_passed_on(provider: tuple[str, Protocol]) -> None:
    response = attempt(provider, lambda ask: ask.failure(429, "slow down", retry_after="7"))
    assert (response.status, response.retry_after) == ("rate_limited", 7.0)
    response = attempt(provider, lambda ask: ask.failure(529, "busy", retry_after="0.5"))
    assert (response.status, response.retry_after) == ("server_error", 0.5)
    response = attempt(provider, lambda ask: ask.failure(400, "no", retry_after="7"))
    assert response.retry_after is None


def test_answers_of_any_kind_are_kept_whole(provider: tuple[str, Protocol]) -> None:
    text = ' 1, 2, 3; "-1"\n\\ naïve 针 \U0001f9f5 \u2028 '
    response = attempt(provider, lambda ask: ask.answer(text))
    assert (response.status, response.text) == ("ok", text)
    assert attempt(provider, lambda ask: ask.answer(" \n")).status == "empty"
    assert attempt(provider, lambda ask: ask.answer(None)).status == "empty"


# --------------------------------------------------------------------------- the run loop


class PhotoTask:
    name = "photos"

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        return asked(f"Where is {sample.id}?", index=int(sample.id[-6:]))


def test_a_run_gets_through_bad_weather(provider: tuple[str, Protocol], tmp_path: Path) -> None:
    """Each sample meets another trouble first; in the end all are answered, none counted twice."""
    troubles: list[Any] = [
        lambda ask: ask.failure(529, "Overloaded"),
        lambda ask: ask.failure(429, "slow down", retry_after="0.01"),
        lambda ask: ask.failure(500, "oops"),
        lambda ask: Reply(body={}, drop=0),
        lambda ask: Reply(body=b"<html>"),
        lambda ask: HANG,
    ]

    def script(ask: Ask) -> Reply:
        number = int(ask.prompt[-7:-1])
        return troubles[number](ask) if ask.nth == 1 else ask.answer("-1")

    attempt(provider, lambda ask: ask.answer("-1"))  # an SDK takes long when first used
    data = FakeDataSet(large=len(troubles))
    with ApiServer(provider[1], script) as server:
        adapter = create(provider[0], base_url=server.url)
        with open_log(tmp_path, data, adapter, task="photos") as log:
            backoff = Backoff(0.01)
            summary = run(PhotoTask(), data, adapter, log, backoff=backoff, timeout=2.0)
    assert not server.wrongs
    assert (summary.answered, summary.missing) == (6, 0)
    assert summary.by_status == {"ok": 6}
    assert summary.sent == 12
    kept = [record.response.status for record in Run.open(tmp_path).records()]
    assert sorted(kept) == ["ok"] * 6 + ["rate_limited"] + ["server_error"] * 4 + ["timeout"]


@pytest.mark.parametrize("code", [401, 404])
def test_a_wrong_key_or_model_stops_the_run_in_one_line(
    provider: tuple[str, Protocol], code: int, tmp_path: Path
) -> None:
    data = FakeDataSet(large=50)
    with ApiServer(provider[1], lambda ask: ask.failure(code, f"no {KEY}")) as server:
        adapter = create(provider[0], base_url=server.url)
        with (
            open_log(tmp_path, data, adapter, task="photos") as log,
            pytest.raises(UserError) as caught,
        ):
            run(PhotoTask(), data, adapter, log, max_connections=2)
    assert len(server.asks) <= 2
    message = str(caught.value)
    assert message.startswith(provider[0].partition("?")[0] + ": Error code: ")
    assert "no [key]" in message
    assert "\n" not in message
    assert list(Run.open(tmp_path).records()) == []


# --------------------------------------------------------------------------- keys


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_key_that_is_said_back_goes_nowhere(
    provider: tuple[str, Protocol],
    status: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def echo(ask: Ask) -> Reply:
        said = f"you sent {KEY} and {json.dumps(ask.headers)}"
        return ask.answer(said) if status == 200 else ask.failure(status, said)

    caplog.set_level(logging.DEBUG)
    data = FakeDataSet(large=2)
    with ApiServer(provider[1], echo) as server:
        adapter = create(provider[0], base_url=server.url)
        with open_log(tmp_path, data, adapter, task="photos") as log:
            summary = run(PhotoTask(), data, adapter, log, max_attempts=2, backoff=Backoff(0.01))
    assert KEY in json.dumps(server.asks[0].headers)
    files = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    said = " ".join([*files, str(summary), str(adapter.fingerprint()), caplog.text])
    assert "[key]" in said
    assert KEY[:12] not in said


@given(
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60),
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
    wrap=st.sampled_from(["plain", "quote", "quote_plus", "lower", "base64", "urlsafe", "hex"]),
)
def test_a_key_is_hidden_in_whatever_coat(key: str, before: bytes, after: bytes, wrap: str) -> None:
    raw = before + key.encode() + after
    text = {
        "plain": f"a{key}b",
        "quote": f"?key={quote(key, safe='')}&x",
        "quote_plus": f"?key={quote_plus(key)}&x",
        "lower": re.sub("%..", lambda code: code[0].lower(), f"?key={quote(key, safe='')}&x"),
        "base64": b64encode(raw).decode(),
        "urlsafe": urlsafe_b64encode(raw).decode(),
        "hex": key.encode().hex(),
    }[wrap]
    secrets = Secrets(key, "short")
    hidden = secrets.hide(Response("bad_request", text=text, error=f"Error: {text} is short"))
    for said in (str(hidden.text), str(hidden.error)):
        assert "[key]" in said
        assert len(said.replace("[key]", "")) < len(text) - len(key) + 30
    assert str(hidden.error).endswith("is short")
    assert Secrets("", "short").hide(Response("ok", "short")).text == "short"


def test_a_key_in_the_words_of_a_batchs_line_is_not_cut_before_it_is_hidden() -> None:
    from mmneedle.adapters.openai_batches import _failed, _Reply

    reply = _Reply(400, Raw(b'"' + b"x" * 190 + KEY.encode() + b'"'))
    said = Secrets(KEY).hide(_failed(reply)).error or ""
    assert "[key]" in said
    assert KEY[:8] not in said


PLACES = {"openai": "OPENAI", "azure": "AZURE_OPENAI", "anthropic": "ANTHROPIC", "google": "GOOGLE"}


@pytest.mark.parametrize("name", PLACES)
def test_a_missing_key_is_one_line_that_names_the_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{PLACES[name]}_API_KEY"
    monkeypatch.delenv(variable)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    with pytest.raises(UserError) as caught:
        create(f"{name}/m")
    assert str(caught.value).startswith(f"{name}/m needs a key: set {variable}")


@pytest.mark.parametrize("name", PLACES)
def test_a_broken_key_is_refused_unseen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{PLACES[name]}_API_KEY"
    monkeypatch.setenv(variable, f"{KEY}\nx")
    with pytest.raises(UserError, match=f"^{variable} holds characters that no key has$"):
        create(f"{name}/m", base_url="http://localhost:1")


@pytest.mark.parametrize("name", PLACES)
def test_a_missing_sdk_is_named_with_the_way_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"azure": "openai", "google": "google.genai"}.get(name, name)
    for loaded in _modules(module, f"mmneedle.adapters.{name}", "mmneedle.adapters.openai"):
        monkeypatch.delitem(_sys().modules, loaded)
    monkeypatch.setitem(_sys().modules, module, None)
    with pytest.raises(UserError) as caught:
        create(f"{name}/m")
    extra = "openai" if name == "azure" else name
    package = "google-genai" if name == "google" else module
    assert str(caught.value) == (
        f'{name}/m needs the package {package}: pip install "mmneedle[{extra}]"'
    )


def _sys() -> Any:
    import sys

    return sys


def _modules(*names: str) -> Iterator[str]:
    for loaded in list(_sys().modules):
        if loaded in names or loaded.startswith(tuple(f"{name}." for name in names)):
            yield loaded
