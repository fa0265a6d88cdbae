"""A hub on this machine: as much of its HTTP interface as fetching one model takes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"
NAME = "small/model"


@contextmanager
def hub(folder: Path, token: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as NAME. Yields the address and the paths that were asked for.

    With a token, the model is one that only its owner's friends may have.
    """
    asked: list[str] = []
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path}")
            if f"/{NAME}" not in path:
                self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif token and self.headers.get("Authorization") != f"Bearer {token}":
                self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            elif path.startswith(f"/api/models/{NAME}"):
                if "/tree/" in path:
                    tree = [
                        {"type": "file", "path": name, "size": len(data), "oid": _tag(data)}
                        for name, data in files.items()
                    ]
                    self.send(200, json.dumps(tree).encode())
                else:
                    about: dict[str, Any] = {"id": NAME, "modelId": NAME, "sha": COMMIT}
                    about["siblings"] = [{"rfilename": name} for name in files]
                    self.send(200, json.dumps(about).encode())
            elif path.rpartition("/")[2] in files:
                data = files[path.rpartition("/")[2]]
                self.send(200, data, {"ETag": f'"{_tag(data)}"', "X-Repo-Commit": COMMIT})
            else:
                self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

        def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _tag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
