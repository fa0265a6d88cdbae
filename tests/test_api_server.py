"""The servers of the tests refuse what the providers refuse, so that no wrong request passes."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from api_server import KEY, ApiServer, Protocol
from hypothesis import given
from hypothesis import strategies as st
from photographs import REQUEST, asked
from protocols import Anthropic, Azure, Google, OpenAIChat, OpenAIResponses

from mmneedle.adapters import create
from mmneedle.adapters.body import HOLE, Body, Frame
from mmneedle.types import Request

Change = Callable[[dict[str, Any]], Any]

PLACES: dict[str, tuple[str, Protocol, str, dict[str, str]]] = {
    "chat": ("openai/m", OpenAIChat(), "/v1/chat/completions", {"authorization": f"Bearer {KEY}"}),
    "responses": ("openai/m?api=responses", OpenAIResponses(), "/v1/responses",
                  {"authorization": f"Bearer {KEY}"}),
    "azure": ("azure/m", Azure("m"), "/openai/v1/chat/completions", {"api-key": KEY}),
    "anthropic": ("anthropic/m", Anthropic(), "/v1/messages",
                  {"x-api-key": KEY, "anthropic-version": "2026-10-21"}),
    "google": ("google/m", Google(), "/v1/models/m:generateContent", {"x-goog-api-key": KEY}),
}  # fmt: skip


def post(server: ApiServer, path: str, body: Any, headers: dict[str, str]) -> int:
    headers = {"content-type": "application/json"} | headers
    url = f"http://127.0.0.1:{server.port}{path}"
    try:
        with urlopen(HttpRequest(url, json.dumps(body).encode(), headers)) as reply:
            return int(reply.status)
    except HTTPError as error:
        return error.code


def parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    (message,) = body.get("messages") or body.get("input") or body["contents"]
    found: list[dict[str, Any]] = message.get("content") or message["parts"]
    return found


def no_jpeg(body: dict[str, Any]) -> None:
    """Every image's base64 becomes that of some text."""
    text = json.dumps(body)
    for image in REQUEST.images:
        import base64

        text = text.replace(base64.b64encode(image).decode(), "aGVsbG8=")
    body.clear()
    body.update(json.loads(text))


CHANGES: dict[str, Change] = {
    "an unknown field": lambda body: body.update(bogus=1),
    "an unknown field of a part": lambda body: parts(body)[0].update(bogus=1),
    "an unknown kind of part": lambda body: parts(body)[0].update(type="video"),
    "no messages": lambda body: [body.pop(name, 0) for name in ("messages", "input", "contents")],
    "a number for a text": lambda body: parts(body)[-1].update(text=3),
    "an empty text": lambda body: parts(body)[-1].update(text=""),
    "an image that is none": no_jpeg,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_wrong_requests_are_refused(
    place: tuple[str, Protocol, str, dict[str, str]],
    change: Change,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, protocol, path, headers = place
    for name in ("OPENAI", "AZURE_OPENAI", "ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    adapter: Any = create(model, base_url="http://localhost:1")
    with ApiServer(protocol) as server:
        body = json.loads(adapter.body(REQUEST))
        assert post(server, path, body, headers) == 200
        assert post(server, path + "x", body, headers) == 400
        assert post(server, path, body, {**headers, next(iter(headers)): "another"}) == 400
        assert len(server.wrongs) == 2
        change(body)
        assert post(server, path, body, headers) == 400
        assert len(server.wrongs) == 3


def test_rules_beside_the_schema() -> None:
    """A budget as large as the limit, both ways to say how hard to think, too many images."""
    headers = {"x-api-key": KEY, "anthropic-version": "2026-10-21"}
    adapter: Any = create(
        "anthropic/claude-opus-4-5", base_url="http://localhost:1", reasoning=2000
    )
    with ApiServer(Anthropic()) as server:
        body = json.loads(adapter.body(REQUEST))
        assert post(server, "/v1/messages", body, headers) == 200
        body["max_tokens"] = 2000
        assert post(server, "/v1/messages", body, headers) == 400
        many = Request(REQUEST.sample, "p", REQUEST.images[:1] * 101)
        assert post(server, "/v1/messages", json.loads(adapter.body(many)), headers) == 400
        plain = json.loads(adapter.body(REQUEST))
        plain["temperature"] = 1
        assert post(server, "/v1/messages", plain, headers) == 400
    with ApiServer(Google()) as server:
        google: Any = create("google/gemini-2.5-flash", base_url="http://localhost:1", reasoning=9)
        body = json.loads(google.body(REQUEST))
        key = {"x-goog-api-key": KEY}
        assert post(server, "/v1/models/m:generateContent", body, key) == 200
        body["generationConfig"]["thinkingConfig"]["thinkingLevel"] = "LOW"
        assert post(server, "/v1/models/m:generateContent", body, key) == 400


# --------------------------------------------------------------------------- bodies in pieces

IMAGE = {"image": {"data": f"data:{HOLE}"}}
LAST = IMAGE | {"last": True}


@given(
    st.lists(st.binary(max_size=70), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=HOLE)),
    st.booleans(),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers()),
)
def test_pieces_make_the_json_they_stand_for(
    images: list[bytes], prompt: str, name: str, shared: bool, more: dict[str, int]
) -> None:
    import base64

    frame = Frame.of({"model": name, "all": [HOLE], "end": 1}, IMAGE, {"text": HOLE}, LAST)
    body = Body(frame, Request(REQUEST.sample, prompt, tuple(images)), shared=shared, **more)
    expected: list[Any] = [
        {"image": {"data": f"data:{base64.b64encode(image).decode()}"}} for image in images
    ]
    if shared and images:
        expected[-1]["last"] = True
    assert json.loads(bytes(body)) == {
        "model": name,
        "all": [*expected, {"text": prompt}],
        "end": 1,
        **more,
    }
    assert len(bytes(body)) == body.length

    async def sent() -> bytes:
        return b"".join([piece async for piece in body])

    assert asyncio.run(sent()) == bytes(body)


def test_a_large_body_comes_in_pieces() -> None:
    frame = Frame.of({"all": [HOLE]}, IMAGE, {"text": HOLE})
    images = tuple(bytes([i]) * 150_000 for i in range(10))
    body = Body(frame, Request(asked().sample, "p", images))
    pieces = list(body.pieces())
    assert len(pieces) > 4
    assert max(map(len, pieces)) < 1 << 20
    assert sum(map(len, pieces)) == body.length
