"""A real `mmneedle view` in a process of its own, for tests."""

import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Self


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Viewer:
    """A context manager: the process, and requests to it as they are."""

    def __init__(self, *arguments: Path | str) -> None:
        self.arguments = [*map(str, arguments)]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "mmneedle", "view", "--no-open", *self.arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.line)
        if not found:
            raise AssertionError(self.line + self.process.communicate()[1])
        self.url, self.port = found[0], int(found[1])
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def interrupt(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Ctrl-C: exit status, what else was printed, and what went to stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request; `path` is sent as it is, without any tidying."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = {"Host": f"127.0.0.1:{self.port}"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            link.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                link.putheader(name, value)
            link.endheaders()
            reply = link.getresponse()
            got = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, got, reply.read())
        finally:
            link.close()

    def page(self, path: str) -> str:
        """A page that must be there."""
        reply = self.ask(path)
        assert reply.status == 200, (path, reply.status, reply.text[-2000:])
        return reply.text
