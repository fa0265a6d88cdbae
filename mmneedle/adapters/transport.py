"""A lean HTTP/1.1 transport for servers that are reached directly by plain http.

A local model server with many connections takes hundreds of large requests a second, and there
the SDK's own HTTP stack is what limits the rate (docs/results/run-loop.md has the figures). This
one speaks the same protocol through the same parser, h11, straight over asyncio's streams. It
goes below the SDK, which keeps authentication, redirects, errors and decoding. TLS and proxies
are not for it.
"""

import asyncio
from collections.abc import AsyncIterator

import h11
import httpx2

_CHUNK = 1 << 16
LONGEST_REPLY = 32 << 20
"""Bytes of a reply to one request; an answer with its thoughts and log-probabilities has a few."""


class _Counted(httpx2.AsyncByteStream):
    """A reply's bytes as they come, until there are too many."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            _check_size(size)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def limit_reply(response: httpx2.Response) -> None:
    """A hook for responses: one that never ends must not fill the memory."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Counted(response.stream)


def _check_size(size: int) -> None:
    if size > LONGEST_REPLY:
        raise httpx2.ReadError(f"the reply is longer than {LONGEST_REPLY >> 20} MiB")


class DirectTransport(httpx2.AsyncBaseTransport):
    """Keeps connections open and uses the one that was used last."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Connection]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, read the whole response. Raises httpx2.TransportError."""
        address = (request.url.host, request.url.port or 80)
        timeouts = request.extensions.get("timeout", {})
        connection = self._reuse(address)
        if connection is None:
            connection = await _connect(address, timeouts.get("connect"))
        try:
            async with asyncio.timeout(timeouts.get("read")):
                response = await connection.exchange(request)
        except BaseException as error:
            connection.abort()
            if isinstance(error, TimeoutError):
                raise httpx2.ReadTimeout("the server did not answer in time") from error
            if isinstance(error, OSError):
                raise httpx2.ReadError(str(error)) from error
            if isinstance(error, h11.RemoteProtocolError):
                raise httpx2.RemoteProtocolError(str(error)) from error
            raise
        if connection.next_cycle():
            self._idle.setdefault(address, []).append(connection)
        else:
            connection.abort()
        return response

    def _reuse(self, address: tuple[str, int]) -> "_Connection | None":
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            if connection.alive():
                return connection
            connection.abort()
        return None

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()


async def _connect(address: tuple[str, int], timeout: float | None) -> "_Connection":
    try:
        async with asyncio.timeout(timeout):
            return _Connection(*await asyncio.open_connection(*address))
    except TimeoutError as error:
        raise httpx2.ConnectTimeout("no connection in time") from error
    except OSError as error:
        raise httpx2.ConnectError(str(error)) from error


class _Length:
    """Stands for a body where h11 only wants to know its length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class _Connection:
    """One connection; `exchange` one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CHUNK)

    async def exchange(self, request: httpx2.Request) -> httpx2.Response:
        head = h11.Request(
            method=request.method, target=request.url.raw_path, headers=request.headers.raw
        )
        self.writer.write(self.http.send(head) or b"")
        length = int(request.headers["content-length"])
        self.http.send_with_data_passthrough(h11.Data(data=_Length(length)))  # type: ignore[arg-type]
        self.http.send(h11.EndOfMessage())
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        # Not waited for: a server may answer, and close, before it has read all of a large body.
        async for chunk in request.stream:
            self.writer.write(chunk)
        status, headers, content, size = 0, httpx2.Headers(), [], 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, httpx2.Headers(event.headers.raw_items())
            elif isinstance(event, h11.Data):
                content.append(bytes(event.data))
                size += len(event.data)
                _check_size(size)
            elif isinstance(event, h11.EndOfMessage):
                stream = httpx2.ByteStream(b"".join(content))
                return httpx2.Response(status, headers=headers, stream=stream)

    def next_cycle(self) -> bool:
        """Get ready for another request, if both sides are done with this one."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if done and not self.writer.transport.get_write_buffer_size():
            self.http.start_next_cycle()
            return True
        return False

    def alive(self) -> bool:
        return not (self.writer.is_closing() or self.reader.at_eof())

    def abort(self) -> None:
        self.writer.transport.abort()
