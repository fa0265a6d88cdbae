"""A server that redirects elsewhere: the other host gets no key."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmneedle.adapters import create
from mmneedle.adapters.limits import Book
from mmneedle.errors import UserError
from mmneedle.types import Location, Needle, Request, Sample, Setting

KEY = "sk-secret-of-some-length"


class Servers:
    """One that redirects, one that notes what it is sent."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        outer = self

        class Elsewhere(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.seen.append(str(self.headers))
                self.send_response(500)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)

        class Here(Elsewhere):
            def do_POST(self) -> None:
                self.send_response(307)
                port = outer.elsewhere.server_port
                self.send_header("Location", f"http://localhost:{port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.here = ThreadingHTTPServer(("127.0.0.1", 0), Here)
        for server in (self.here, self.elsewhere):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in (self.here, self.elsewhere):
            server.shutdown()
            server.server_close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    result = Servers()
    yield result
    result.close()


@pytest.mark.parametrize("model", ["openai/m", "azure/m", "google/gemini-x", "anthropic/claude-x"])
def test_no_key_goes_to_another_host(model, servers, monkeypatch) -> None:
    for name in ("OPENAI", "AZURE_OPENAI", "GOOGLE", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    needle = Needle("a dog", 1, Location(1, 1, 1))
    sample = Sample("n1-g1x1-k1-000000", Setting(1, 1, 1), (1,), (needle,))
    adapter = create(model, base_url=f"http://127.0.0.1:{servers.here.server_port}")

    async def ask():
        try:
            return await adapter.generate(Request(sample, "Where?", (b"\xff\xd8\xff",)))
        finally:
            await adapter.aclose()

    response = asyncio.run(ask())
    assert response.status not in ("ok", "refused", "truncated", "empty")
    assert not any(KEY in headers for headers in servers.seen)


@pytest.mark.parametrize(
    "line",
    ["characters_per_token = 0.0", "characters_per_token = nan", "batch = 7.0", "images = -1"],
)
def test_limits_that_cannot_be_counted_with_are_refused(line, tmp_path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(f'[[models]]\nmatch = ["openai/m"]\n{line}\n')
    with pytest.raises(UserError, match="is not a file of limits"):
        Book.open(file)
