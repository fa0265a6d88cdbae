"""The viewer's server: one process on 127.0.0.1 that only reads, and reads only what was named.

What a page may not do is settled here, for every reply: a content security policy under which
nothing runs or loads but what this server itself gives (W3C CSP Level 3), no sharing with other
origins, no guessing of types. Requests for another host's name are refused, so that a page of
somebody else's cannot reach us through a name of its own that it lets point here (DNS rebinding).
"""

import os
import re
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmneedle.errors import UserError
from mmneedle.types import Location, Sample
from mmneedle.viewer.library import Item, Library, NotFoundError, parse_sample
from mmneedle.viewer.pages import Pages, assets, digest
from mmneedle.viewer.pictures import Picture, Pictures
from mmneedle.viewer.query import BadQueryError, Query
from mmneedle.viewer.selection import book_of

HOST = "127.0.0.1"
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
_ONCE_MORE = "private, no-cache"
"""May be kept, and is asked for again by its ETag each time."""
_NUMBER = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


class Guard:
    """Lets in what asks this host to read, and puts the same headers on every reply."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self._hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        if port == 80:
            self._hosts |= {HOST.encode(), b"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        hosts = [value.lower() for name, value in scope["headers"] if name == b"host"]
        app: ASGIApp = self.app
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            app = Response("This server answers to 127.0.0.1 only.\n", 421, media_type="text/plain")
        elif scope["method"] not in ("GET", "HEAD"):
            app = Response("Only reading.\n", 405, {"allow": "GET, HEAD"}, "text/plain")
        await app(scope, receive, signed)


class _Views:
    """The routes' functions. Starlette runs them in threads."""

    def __init__(self, library: Library) -> None:
        self.library, self.pages, self.pictures = library, Pages(library), Pictures()

    def start(self, request: Request) -> Response:
        return _page(request, self.pages.start())

    def run(self, request: Request) -> Response:
        return _page(request, self.pages.run(_query(request)))

    def live(self, request: Request) -> Response:
        return _page(request, self.pages.live(_query(request)))

    def samples(self, request: Request) -> Response:
        return _page(request, self.pages.samples(_query(request)))

    def sample(self, request: Request) -> Response:
        return _page(request, self.pages.sample(request.path_params["name"], _query(request)))

    def answer(self, request: Request) -> Response:
        text = self.pages.answer(request.path_params["item"], request.path_params["name"])
        content = text.encode(errors="replace")
        return Response(
            content,
            headers={
                "cache-control": _ONCE_MORE,
                "content-disposition": 'attachment; filename="answer.txt"',
            },
            media_type="text/plain; charset=utf-8",
        )

    def asset(self, request: Request) -> Response:
        found = assets().get(request.path_params["name"])
        if found is None:
            raise NotFoundError("there is no such file")
        _, kind, content = found
        return Response(
            content,
            headers={"cache-control": "private, max-age=31536000, immutable"},
            media_type=f"{kind}; charset=utf-8",
        )

    def image(self, request: Request) -> Response:
        return self._image(request, self.pictures.sent)

    def small(self, request: Request) -> Response:
        return self._image(request, self.pictures.small)

    def seen(self, request: Request) -> Response:
        return self._image(request, self.pictures.seen)

    def near(self, request: Request) -> Response:
        return self._place(request, self.pictures.near)

    def cell(self, request: Request) -> Response:
        return self._place(request, self.pictures.cell)

    def _image(self, request: Request, make: Callable[..., Picture]) -> Response:
        item, sample = self._sample(request)
        return _picture(request, make(item, sample, _number(request, "image")))

    def _place(self, request: Request, make: Callable[..., Picture]) -> Response:
        item, sample = self._sample(request)
        location = Location(*(_number(request, name) for name in ("image", "row", "column")))
        return _picture(request, make(item, sample, location))

    def _sample(self, request: Request) -> tuple[Item, Sample]:
        item = self.library.item(request.path_params["item"])
        setting, number = parse_sample(request.path_params["name"])
        book = book_of(item)
        if book is None:
            raise NotFoundError("the data set of this run is not to be had")
        return item, book.sample(setting, number)


def make_app(library: Library, port: int) -> ASGIApp:
    """The viewer as an ASGI application that answers to this port's names only."""
    views = _Views(library)
    one = "{item:str}/{name:str}/{image:str}"
    routes = [
        Route("/", views.start),
        Route("/run", views.run),
        Route("/live", views.live),
        Route("/samples", views.samples),
        Route("/sample/{name:str}", views.sample),
        Route("/answer/{item:str}/{name:str}", views.answer),
        Route("/assets/{name:str}", views.asset),
        Route(f"/image/{one}", views.image),
        Route(f"/small/{one}", views.small),
        Route(f"/seen/{one}", views.seen),
        Route(f"/near/{one}/{{row:str}}/{{column:str}}", views.near),
        Route(f"/cell/{one}/{{row:str}}/{{column:str}}", views.cell),
    ]

    def refuse(status: int, title: str = "") -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handler(request: Request, error: Exception) -> Response:
            text = error.detail if isinstance(error, HTTPException) else str(error)
            return _html(views.pages.trouble(title or getattr(error, "title", ""), text), status)

        return handler

    app = Starlette(
        routes=routes,
        exception_handlers={
            404: refuse(404, "There is nothing here"),
            NotFoundError: refuse(404, "There is nothing here"),
            BadQueryError: refuse(400),
            UserError: refuse(409, "This cannot be shown"),
            OSError: refuse(409, "This cannot be read"),
        },
    )
    return Guard(app, port)


def _query(request: Request) -> Query:
    return Query.read(request.query_params)  # type: ignore[arg-type]


def _number(request: Request, name: str) -> int:
    """A number from an address. Raises NotFoundError for anything else."""
    text = request.path_params[name]
    if not _NUMBER.fullmatch(text):
        raise NotFoundError("the haystack has no such cell")
    return int(text)


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        text.encode(errors="replace"),
        status,
        {"cache-control": "no-store", **(headers or {})},
        "text/html; charset=utf-8",
    )


def _page(request: Request, text: str) -> Response:
    """A page, or 304 where the browser has this very one."""
    return _tagged(request, digest(text), lambda headers: _html(text, 200, headers))


def _picture(request: Request, picture: Picture) -> Response:
    return _tagged(
        request,
        picture.digest,
        lambda headers: Response(picture.content, 200, headers, picture.kind),
    )


def _tagged(request: Request, digest: str, whole: Callable[[dict[str, str]], Response]) -> Response:
    """RFC 9110, section 13.1.2: what the browser holds already is not sent again."""
    tag = f'"{digest}"'
    headers = {"etag": tag, "cache-control": _ONCE_MORE}
    known = request.headers.get("if-none-match", "")
    if tag in [one.strip().removeprefix("W/") for one in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return whole(headers)


# --------------------------------------------------------------------------- serving


def serve(
    paths: Sequence[Path],
    *,
    data: Sequence[Path] = (),
    port: int = 0,
    started: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve data sets and runs on 127.0.0.1 until Ctrl-C.

    Args:
        paths, data: see `Library`.
        port: 0 takes a free one.
        started: called with the address as soon as it can be opened.

    Raises:
        UserError: neither a data set nor a run in a folder; the port is taken.
    """
    library = Library(paths, data)
    listener = _listen(port)
    address = listener.getsockname()[1]
    config = uvicorn.Config(
        make_app(library, address),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        loop="asyncio",
        http="h11",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    started(f"http://{HOST}:{address}/")
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # which uvicorn raises again when it has ended
        print("mmneedle view: ended")
    finally:
        listener.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"port {port} cannot be used ({reason}); take another, or leave out --port"
        ) from None
    return listener


def announce(url: str, browser: bool | None) -> None:
    """The one line that the viewer prints, and the address in a browser.

    Args:
        url: where the viewer is.
        browser: whether to open one; None: where there is a desktop and somebody at it.
    """
    print(f"mmneedle view: {url} (Ctrl-C ends it)", flush=True)
    if browser if browser is not None else sys.stdout.isatty() and _desktop():
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _desktop() -> bool:
    """Whether a browser would come up in a window, and not take over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
