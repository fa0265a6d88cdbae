"""A real HTTP server that speaks chat completions and does what a script tells it to.

In a test: `with ChatServer(script) as server:` runs it in a thread; `server.url` is the base URL
and `server.asked` counts the prompts that arrived whole. As a process, for benchmarks and crash
tests: `python tests/chat_server.py --latency 0.1` prints its base URL and answers every request
after that time, without looking at it.
"""

import argparse
import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ask:
    """A request as it arrived."""

    headers: dict[str, str]
    body: dict[str, Any]
    nth: int
    """How many times this prompt has been asked, this time included."""

    @property
    def parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self.body["messages"][0]["content"]
        return parts

    @property
    def prompt(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def images(self) -> list[bytes]:
        urls = [part["image_url"]["url"] for part in self.parts if part["type"] == "image_url"]
        return [base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) for url in urls]

    def answer(self, text: str | None = "-1") -> "Reply":
        """An ordinary answer to it."""
        return completion(text)


@dataclass
class Reply:
    """What to do with a request."""

    status: int = 200
    body: Any = None
    """Bytes as they are, a list of bytes piece by piece, anything else as JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before answering."""
    drop: int | None = None
    """Close the connection after so many bytes of the response."""
    pause: float = 0.0
    """Seconds between the pieces of a body."""
    together: asyncio.Barrier | None = None
    """Where requests wait for each other before any is answered."""


def completion(text: str | None = "-1", finish: str | None = "stop", **message: Any) -> Reply:
    """An ordinary answer; further fields of the message by name."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": finish,
    }
    return Reply(body=_reply_body([choice]))


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": error}, named)


HANG = Reply(delay=3600.0)


def _reply_body(choices: list[Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-model-2026-11-22",
        "choices": choices,
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "total_tokens": 105,
            "prompt_tokens_details": {"cached_tokens": 64},
        },
    }


Script = Callable[[Ask], Reply]


class ChatServer:
    """The server in a thread of its own."""

    def __init__(self, script: Script = lambda ask: completion()) -> None:
        self.script = script
        self.asked: Counter[str] = Counter()
        self.asks: list[Ask] = []
        self.at_once = self.most_at_once = 0
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self._server = self._in_thread(serving)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *error: object) -> None:
        self._in_thread(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_thread(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _shut(self) -> None:
        assert self._server
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort() if writer.transport else None

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        ask = self.read(head[0], headers, content)
        self.asked[ask.prompt] += 1
        ask.nth = self.asked[ask.prompt]
        self.asks.append(ask)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            reply = self.script(ask)
            if reply.together:
                await reply.together.wait()
            await asyncio.sleep(reply.delay)
        finally:
            self.at_once -= 1
        if isinstance(reply.body, list):
            return await self._send_pieces(writer, reply)
        response = _response(reply)
        writer.write(response[: reply.drop])
        await writer.drain()
        if reply.drop is not None:
            writer.close()
        return reply.drop is None

    async def _send_pieces(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        """A body as it is made, in chunks (RFC 9112, 7.1)."""
        headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        writer.write(_head(reply, headers))
        for piece in reply.body:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(reply.pause)
        if reply.drop is not None:
            writer.close()
            return False
        writer.write(b"0\r\n\r\n")
        return True

    def read(self, line: str, headers: dict[str, str], content: bytes) -> Ask:
        """A request, from its first line, its headers and its body."""
        assert line == "POST /v1/chat/completions HTTP/1.1", line
        return Ask(headers, json.loads(content), 0)


def _response(reply: Reply) -> bytes:
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    return _head(reply, headers) + body


def _head(reply: Reply, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | reply.headers).items())
    return f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode()


# --------------------------------------------------------------------------- lean


class _Lean(asyncio.BufferedProtocol):
    """Answers each request after a while, at as little cost as Python allows."""

    def __init__(self, latency: float, response: bytes) -> None:
        self.latency, self.response = latency, response
        self.buffer = memoryview(bytearray(1 << 16))  # stays in the cache
        self.head = b""
        self.left = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        if self.left:
            self.left -= count
        else:
            self.head += self.buffer[:count]
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            self.left = int(length) - len(body)
            self.head = b""
        if not self.left:
            loop = asyncio.get_running_loop()
            loop.call_later(self.latency, self.transport.write, self.response)


async def _serve_lean(latency: float) -> None:
    response = _response(completion("1, 2, 1"))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Lean(latency, response), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds")
    asyncio.run(_serve_lean(parser.parse_args().latency))
