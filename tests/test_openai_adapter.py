"""The adapter through the real SDK against a real local HTTP server."""

import asyncio
import base64
import logging
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from chat_server import HANG, Ask, ChatServer, Reply, completion, failure
from fakes import LARGE, FakeDataSet, FakeTask, fake_sample, open_log

from mmneedle.adapters import create
from mmneedle.adapters.openai import OpenAIAdapter
from mmneedle.adapters.replies import read_chat
from mmneedle.adapters.statuses import classify, retry_after
from mmneedle.errors import UserError
from mmneedle.pacing import Backoff
from mmneedle.runlog import Run
from mmneedle.runner import run
from mmneedle.types import Request, Response, Usage

KEY = "sk-test-0123456789abcdef"
REQUEST = FakeTask().request(fake_sample(LARGE, 0))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(params=[True, False], ids=["direct", "sdk"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Both ways of speaking HTTP: ours, and the SDK's own."""
    return bool(request.param)


def ask(script: Any, request: Request = REQUEST, **options: Any) -> Response:
    """One attempt at a server that replies as told."""
    with ChatServer(script if callable(script) else lambda ask: script) as server:
        return asyncio.run(attempt(OpenAIAdapter("m", base_url=server.url, **options), request))


async def attempt(adapter: OpenAIAdapter, request: Request = REQUEST) -> Response:
    try:
        return await adapter.generate(request)
    finally:
        await adapter.aclose()


# --------------------------------------------------------------------------- what is sent


def sent(**options: Any) -> Ask:
    with ChatServer() as server:
        asyncio.run(attempt(OpenAIAdapter("m/x", base_url=server.url, **options)))
    return server.asks[0]


def test_images_come_first_in_order_and_then_the_text(direct: bool) -> None:
    asked = sent(direct=direct)
    assert [part["type"] for part in asked.parts] == ["image_url"] * 3 + ["text"]
    assert asked.images == list(REQUEST.images)
    assert asked.prompt == REQUEST.prompt
    assert "detail" not in asked.parts[0]["image_url"]
    assert {k: v for k, v in asked.body.items() if k != "messages"} == {
        "model": "m/x",
        "max_tokens": 300,
    }
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("AsyncOpenAI/")


def test_options_are_sent_as_given() -> None:
    asked = sent(
        max_tokens=7,
        token_field="max_completion_tokens",
        temperature=0.5,
        seed=3,
        detail="high",
    )
    assert {part["image_url"]["detail"] for part in asked.parts[:-1]} == {"high"}
    assert {k: v for k, v in asked.body.items() if k != "messages"} == {
        "model": "m/x",
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
    }


@pytest.mark.parametrize("prompt", ['"quoted" \\ back\nnew line', "naïve 针 \U0001f9f5 \u2028", ""])
def test_any_prompt_arrives_as_it_is(prompt: str) -> None:
    with ChatServer() as server:
        adapter = OpenAIAdapter('m"\\', base_url=server.url)
        asyncio.run(attempt(adapter, Request(REQUEST.sample, prompt, ())))
    assert server.asks[0].prompt == prompt
    assert server.asks[0].body["model"] == 'm"\\'


def test_megabytes_arrive_as_they_are(direct: bool) -> None:
    images = tuple(bytes([i]) * (300_000 + i) for i in range(10))
    with ChatServer() as server:
        adapter = OpenAIAdapter("m", base_url=server.url, direct=direct)
        asyncio.run(attempt(adapter, Request(REQUEST.sample, "p", images)))
    assert server.asks[0].images == list(images)


@pytest.mark.parametrize(
    ("base_url", "field"),
    [
        (None, "max_completion_tokens"),
        ("https://api.openai.com/v1/", "max_completion_tokens"),
        ("https://mine.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
        ("https://openrouter.ai/api/v1", "max_tokens"),
    ],
)
def test_the_token_limit_is_called_what_the_server_calls_it(
    base_url: str | None, field: str
) -> None:
    adapter = OpenAIAdapter("m", base_url=base_url, api="chat")
    assert adapter.fingerprint()["token_field"] == field


def test_connections_are_kept_and_as_many_as_wanted(direct: bool) -> None:
    async def main(url: str) -> None:
        adapter = OpenAIAdapter("m", base_url=url, direct=direct)
        for _ in range(3):
            await asyncio.gather(*(adapter.generate(REQUEST) for _ in range(150)))
        await adapter.aclose()

    all_there = asyncio.Barrier(150)
    with ChatServer(lambda ask: Reply(body=completion().body, together=all_there)) as server:
        asyncio.run(main(server.url))
    assert server.most_at_once == 150
    # Without keeping them it were 450; one that idles for five seconds, on a loaded machine, goes.
    assert server.connections <= 300


def test_a_connection_that_the_server_closed_is_not_used_again(direct: bool) -> None:
    async def main(url: str) -> list[Response]:
        adapter = OpenAIAdapter("m", base_url=url, direct=direct)
        given = []
        for _ in range(3):
            given.append(await adapter.generate(REQUEST))
            await asyncio.sleep(0.05)
        await adapter.aclose()
        return given

    body = completion().body
    with ChatServer(lambda ask: Reply(body=body, drop=10_000)) as server:
        assert [r.status for r in asyncio.run(main(server.url))] == ["ok"] * 3
    assert server.connections == 3


# --------------------------------------------------------------------------- what comes back


def test_an_answer(direct: bool) -> None:
    response = ask(completion("1, 2, 3", reasoning_content="hm"), direct=direct)
    assert response.latency
    assert response == Response(
        "ok",
        text="1, 2, 3",
        reasoning="hm",
        stop_reason="stop",
        model="fake-model-2026-11-22",
        usage=Usage(100, 5, 64),
        latency=response.latency,
    )


def test_inline_thoughts_are_no_answer(direct: bool) -> None:
    response = ask(completion("<think>Is it 1, 2, 3?</think>\n\n-1"), direct=direct)
    assert (response.reasoning, response.text) == ("Is it 1, 2, 3?", "-1")
    response = ask(completion("Is it 1, 2, 3? No.</think>-1"), direct=direct)  # template opened it
    assert (response.reasoning, response.text) == ("Is it 1, 2, 3? No.", "-1")
    response = ask(completion("<think>Is it 1, 2, 3?"), direct=direct)
    assert (response.reasoning, response.text) == ("Is it 1, 2, 3?", None)
    response = ask(completion(" I think <thing>\n"), direct=direct)
    assert (response.reasoning, response.text) == (None, " I think <thing>\n")
    response = ask(completion("1, 2, 3", finish="abort"), direct=direct)
    assert (response.text, response.error) == (None, "the server ended the request (abort)")
    assert response.usage == Usage(100, 5, 64)  # and charged


CUT = 200  # bytes: within the body
BODY = completion().body

REPLIES: list[tuple[Reply, str]] = [
    (completion("1, 2", finish="length"), "truncated"),
    (completion(None, finish="length"), "truncated"),
    (completion("1, 2, 1", finish="MAX_TOKENS"), "truncated"),
    (completion(None), "empty"),
    (completion(" \n"), "empty"),
    (completion("", tool_calls=[]), "empty"),
    (completion(None, refusal="I can't help with that."), "refused"),
    (completion("I", finish="content_filter"), "refused"),
    (completion("1, 2, 3", finish=None), "ok"),
    (completion("1, 2, 3", finish="abort"), "server_error"),
    (completion("<think>Is it 1, 2, 3?</think>\n-1"), "ok"),
    (completion("<think>Is it 1, 2, 3?"), "truncated"),
    (completion("<think>Is it 1, 2, 3?</think>"), "empty"),
    (completion("<think>Is it 1, 2, 3?", finish="length"), "truncated"),
    (Reply(body=BODY | {"choices": []}), "empty"),
    (Reply(body=b"{"), "server_error"),
    (Reply(body=b"<html>busy</html>"), "server_error"),
    (Reply(body=b""), "server_error"),
    (Reply(body=b'"\xff"'), "server_error"),
    (Reply(body={"detail": "hello"}), "server_error"),
    (Reply(body={"error": {"message": "overloaded", "code": 529}}), "server_error"),
    (Reply(body={"error": {"message": "slow down", "code": 429}}), "rate_limited"),
    (Reply(body={"error": "something"}), "server_error"),
    (completion("1", finish="error"), "server_error"),
    (Reply(body=BODY, drop=0), "server_error"),
    (Reply(body=BODY, drop=CUT), "server_error"),
    (failure(500, "oops"), "server_error"),
    (failure(502, "bad gateway"), "server_error"),
    (Reply(503, b"<html>busy</html>"), "server_error"),
    (failure(529, "overloaded"), "server_error"),
    (failure(409, "conflict"), "server_error"),
    (failure(408, "too slow"), "timeout"),
    (failure(429, "Rate limit reached on tokens per min"), "rate_limited"),
    (failure(429, "You exceeded your current quota", "insufficient_quota"), "auth"),
    (failure(429, "Request too large for m on tokens per min (TPM)"), "too_long"),
    (failure(401, "Incorrect API key"), "auth"),
    (failure(402, "Insufficient credits"), "auth"),
    (failure(403, "Country not supported"), "auth"),
    (failure(403, "Your input was flagged"), "refused"),
    (failure(404, "The model `m` does not exist", "model_not_found"), "auth"),
    (failure(400, "m is not a valid model ID"), "auth"),
    (failure(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded"),
     "too_long"),
    (failure(400, "The decoder prompt (length 9000) is longer than the maximum model length of "
     "4096. For image inputs, the number of image tokens depends on the number of images"),
     "too_long"),
    (Reply(413, b"<html>too large</html>"), "too_long"),
    (failure(400, "At most 5 image(s) may be provided in one prompt."), "image_rejected"),
    (failure(400, "Invalid image data", "invalid_image"), "image_rejected"),
    (failure(400, "The response was filtered", "content_filter"), "refused"),
    (failure(400, "Unsupported parameter: 'seed'"), "bad_request"),
    (Reply(422, {"detail": [{"msg": "field required"}]}), "bad_request"),
    (Reply(418, {"detail": "teapot"}), "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "said", "status"),
    [
        (b"upstream: context length exceeded\n at 8192", "context length exceeded at", "too_long"),
        (b'[{"loc": ["body"], "msg": "too many images"}]', "too many images", "image_rejected"),
        (b'"a plain string"', "a plain string", "bad_request"),
        ({"error": "plain"}, "plain", "bad_request"),
        ({"error": {"reason": "flagged"}}, "flagged", "refused"),
        ({"message": ["not", "text"]}, "not", "bad_request"),
        ({"error": {"message": "just so"}}, "Error code: 400 - just so", "bad_request"),
        (b"", "Error code: 400", "bad_request"),
    ],
)
def test_a_servers_reason_is_kept_whatever_its_form(body: Any, said: str, status: str) -> None:
    response = ask(Reply(400, body))
    assert response.status == status
    assert said in (response.error or "")
    assert (response.error or "").count("Error code") == 1


@pytest.mark.parametrize(("reply", "status"), REPLIES)
def test_every_reply_ends_in_its_status(reply: Reply, status: str, direct: bool) -> None:
    response = ask(reply, direct=direct)
    assert response.status == status
    if status not in ("ok", "truncated", "refused", "empty"):
        assert response.error
        assert "\n" not in response.error
        assert response.text is None


def test_errors_say_what_the_server_said() -> None:
    assert ask(failure(400, "Unsupported\nparameter")).error == (
        "Error code: 400 - Unsupported parameter"
    )
    assert "field required" in str(ask(Reply(422, {"detail": [{"msg": "field required"}]})).error)
    assert "ends in /v1" in str(ask(failure(404, "Not Found")).error)
    assert len(str(ask(failure(400, "x" * 10_000)).error)) == 500


def test_a_refusals_words_are_kept() -> None:
    response = ask(completion(None, refusal="I can't."))
    assert (response.status, response.text) == ("refused", "I can't.")


def test_text_in_parts_is_put_together() -> None:
    parts: Any = [{"type": "text", "text": "1, 2"}, {"type": "text", "text": ", 3"}]
    assert ask(completion(parts)).text == "1, 2, 3"


def test_nobody_there(direct: bool) -> None:
    adapter = OpenAIAdapter("m", base_url="http://127.0.0.1:9/v1", direct=direct)
    response = asyncio.run(attempt(adapter))
    assert response.status == "server_error"
    assert "onnect" in str(response.error)


def test_a_server_that_answers_before_it_has_read_everything(direct: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

    async def main() -> Response:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        adapter = OpenAIAdapter("m", base_url=url, direct=direct, timeout=10)
        async with server:
            return await attempt(adapter, Request(REQUEST.sample, "p", (b"x" * 20_000_000,)))

    if direct:
        assert asyncio.run(main()).status == "too_long"
    else:  # the SDK's transport insists on sending all of it first
        assert asyncio.run(main()).status in ("too_long", "server_error", "timeout")


def test_a_hung_server_ends_at_the_adapters_own_timeout_if_it_has_one(direct: bool) -> None:
    assert ask(HANG, timeout=0.2, direct=direct).status == "timeout"


def test_a_cancelled_request_lets_go_of_its_connection(direct: bool) -> None:
    async def main(server: ChatServer) -> Response:
        adapter = OpenAIAdapter("m", base_url=server.url, direct=direct)
        first = asyncio.create_task(adapter.generate(REQUEST))
        while not server.at_once:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await attempt(adapter)

    script = lambda ask: HANG if ask.nth == 1 else completion("second")  # noqa: E731
    with ChatServer(script) as server:
        assert asyncio.run(main(server)).text == "second"
        assert server.connections == 2


def test_chunked_and_compressed_replies(direct: bool) -> None:
    import gzip
    import json

    content = gzip.compress(json.dumps(completion("1, 1, 1").body).encode())
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:50], content[50:], b"")
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for byte in chunks:
            writer.write(bytes([byte]))
            await writer.drain()
        await asyncio.sleep(1)

    async def main() -> Response:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            return await attempt(OpenAIAdapter("m", base_url=url, direct=direct))

    assert asyncio.run(main()).text == "1, 1, 1"


# --------------------------------------------------------------------------- Retry-After

DATE = "Sun, 22 Nov 2026 20:00:00 GMT"
MOMENT = 1795377600.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": DATE}, 90.0),
        ({"retry-after": "Sun, 22 Nov 2020 20:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "inf"}, 86_400.0),  # a day, whatever more is asked for
        ({"retry-after": "1e308"}, 86_400.0),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after": "Sun, 22 Nov 2099 20:00:00 GMT"}, 86_400.0),
        ({"retry-after-ms": "1e300", "retry-after": "9"}, 86_400.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, MOMENT - 90) == seconds


def test_retry_after_is_passed_on(direct: bool) -> None:
    response = ask(failure(429, "slow down", retry_after="3"), direct=direct)
    assert (response.status, response.retry_after) == ("rate_limited", 3.0)
    later = formatdate(time.time() + 60, usegmt=True)
    response = ask(failure(503, "busy", retry_after=later), direct=direct)
    assert response.retry_after == pytest.approx(60, abs=3)
    assert ask(failure(400, "no", retry_after="3"), direct=direct).retry_after is None


# --------------------------------------------------------------------------- keys and options


def everything_said(caplog: pytest.LogCaptureFixture, run_folder: Path, *texts: object) -> str:
    files = [path.read_text() for path in run_folder.iterdir() if path.is_file()]
    return " ".join([*files, *map(str, texts), caplog.text])


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_key_that_is_said_back_goes_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, direct: bool
) -> None:
    def echo(ask: Ask) -> Reply:
        said = f"your {ask.headers['authorization']} and {KEY}"
        if status == 200:
            return completion(said, finish=said, reasoning=said)
        return Reply(status, {"error": {"message": "x" * 490 + said, "code": said, "type": said}})

    caplog.set_level(logging.DEBUG)
    data = FakeDataSet(small=2)
    with ChatServer(echo) as server:
        adapter = OpenAIAdapter("m", base_url=server.url, direct=direct)
        with open_log(tmp_path, data, adapter) as log:
            summary = run(FakeTask(), data, adapter, log, max_attempts=2, backoff=Backoff(0.01))
    assert server.asks[0].headers["authorization"] == f"Bearer {KEY}"
    records = list(Run.open(tmp_path).records())
    assert len(records) == (4 if status == 500 else 2)
    assert KEY[:12] not in everything_said(caplog, tmp_path, summary, adapter.fingerprint())


def test_a_key_in_an_auth_error_goes_nowhere(tmp_path: Path) -> None:
    data = FakeDataSet(small=50)
    with ChatServer(lambda ask: failure(401, f"Incorrect API key provided: {KEY}")) as server:
        adapter = OpenAIAdapter("m", base_url=server.url)
        with open_log(tmp_path, data, adapter) as log, pytest.raises(UserError) as caught:
            run(FakeTask(), data, adapter, log, max_connections=4)
    assert str(caught.value) == ("openai/m: Error code: 401 - Incorrect API key provided: [key]")
    assert len(server.asks) <= 4
    assert list(Run.open(tmp_path).records()) == []


def test_user_and_password_of_a_base_url_are_sent_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, direct: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    password = "pass/word-9"
    basic = base64.b64encode(f"someone99:{password}".encode()).decode()
    data = FakeDataSet(small=1)
    script = lambda ask: completion(f"{ask.headers['authorization']} {password}")  # noqa: E731
    with ChatServer(script) as server:
        url = server.url.replace("//", "//someone99:pass%2Fword-9@")
        adapter = OpenAIAdapter("m", base_url=url, direct=direct)
        with open_log(tmp_path, data, adapter) as log:
            run(FakeTask(), data, adapter, log)
    assert server.asks[0].headers["authorization"] == f"Basic {basic}"
    assert adapter.fingerprint()["base_url"] == server.url
    said = everything_said(caplog, tmp_path, adapter.fingerprint())
    for secret in (password, "pass%2Fword-9", basic, "someone99"):
        assert secret not in said


def test_a_key_with_a_line_end_is_trimmed_and_a_broken_one_refused_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n")
    assert sent().headers["authorization"] == f"Bearer {KEY}"
    for broken in (f"{KEY}\nx", f"{KEY}é", f"{KEY}\x7f"):
        monkeypatch.setenv("OPENAI_API_KEY", broken)
        with pytest.raises(UserError, match=r"^OPENAI_API_KEY holds characters that no key has$"):
            OpenAIAdapter("m", base_url="http://localhost:1/v1")


def test_short_keys_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "1")
    assert ask(completion("1, 1, 1")).text == "1, 1, 1"


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert sent().headers["authorization"] == "Bearer none"
    with pytest.raises(UserError, match="openai/m needs a key: set OPENAI_API_KEY, or --base-url"):
        OpenAIAdapter("m")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert OpenAIAdapter("m").fingerprint()["base_url"] == "http://localhost:1/v1"


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://secret@host/v1", "http://", "http://h/v1?key=secret", "http://h:x/",
     "http://[secret/v1"],
)  # fmt: skip
def test_a_wrong_base_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UserError, match="the base URL must look like") as caught:
        OpenAIAdapter("m", base_url=url)
    assert "secret" not in str(caught.value)


def test_model_strings_carry_options() -> None:
    adapter = create("openai/org/m-1?temperature=0&max_tokens=5", detail="low", seed=None)
    assert adapter.model == "openai/org/m-1"
    print_out = adapter.fingerprint()
    assert print_out["model"] == "org/m-1"
    assert (print_out["temperature"], print_out["max_tokens"]) == (0.0, 5)
    assert (print_out["detail"], print_out["seed"]) == ("low", None)
    assert KEY not in str(print_out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0, not a whole number from 1 up"),
        ({"max_tokens": "1.5"}, "max_tokens is '1.5', not a whole number"),
        ({"temperature": "warm"}, "temperature is 'warm', not a number from 0 up"),
        ({"detail": "huge"}, "detail is 'huge', not one of auto, low, high, original"),
        ({"api_key": "x"}, "openai/m has no option 'api_key'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create("openai/m", **options)
    assert message in str(caught.value)


def test_a_missing_sdk_is_named_with_the_way_to_get_it() -> None:
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "from mmneedle.adapters import create\n"
        "try: create('openai/m')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        'UserError openai/m needs the package openai: pip install "mmneedle[openai]"\n'
    )


def test_the_sdk_is_imported_only_when_it_is_needed() -> None:
    code = (
        "import sys, mmneedle.adapters, mmneedle.runner\n"
        "mmneedle.adapters.create('baseline/oracle')\n"
        "print([name for name in ('openai', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_table_of_statuses_is_closed() -> None:
    assert classify(499, "") == "bad_request"
    assert classify(599, "") == "server_error"
    for content in (
        b"[]",
        b"1",
        b"null",
        b'{"choices": [null]}',
        b'{"choices": {}}',
        b'{"choices":[{}]}',
    ):
        assert read_chat(content).status in ("server_error", "empty")
