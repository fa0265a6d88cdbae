"""Real HTTP servers that speak the providers' protocols and do what a script tells them to.

    with ApiServer(Anthropic(), script) as server:
        create("anthropic/m", base_url=server.url)

A script takes an `Ask`, a request of whatever protocol, and returns a `Reply`: `ask.answer(…)` is
an ordinary one in the protocol's own words, `ask.failure(…)` an error. A request that breaks the
provider's published schema never reaches the script: it is answered with the provider's 400 and
noted in `server.wrongs`. Everything else is `chat_server.ChatServer`.
"""

import base64
import binascii
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from chat_server import Ask as ChatAsk
from chat_server import ChatServer, Reply
from PIL import Image

VERSION = "fake-model-2026-11-22"
KEY = "sk-test-0123456789abcdef"


class WrongError(Exception):
    """What a provider says to a request that breaks its schema."""


def need(condition: object, message: str) -> None:
    if not condition:
        raise WrongError(message)


def jpeg(data: str, where: str) -> bytes:
    """A base64 JPEG file that can be decoded."""
    try:
        file = base64.b64decode(data.replace("-", "+").replace("_", "/"), validate=True)
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            need(image.format == "JPEG", f"{where}: image is not the JPEG that it is said to be")
    except (binascii.Error, OSError) as error:
        raise WrongError(f"{where}: could not process image ({error})") from None
    return file


@dataclass
class Ask(ChatAsk):
    """A request in any of the protocols, read and checked."""

    path: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)
    protocol: "Protocol | None" = None
    files: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    order: str = ""
    """i for an image, t for a text, as they came: "iit"."""
    wrong: str | None = None

    @property
    def prompt(self) -> str:
        return "".join(self.texts)

    @property
    def images(self) -> list[bytes]:
        return self.files

    def take_image(self, data: str, where: str) -> None:
        self.files.append(jpeg(data, where))
        self.order += "i"

    def take_text(self, text: str, where: str) -> None:
        need(text, f"{where}: text must not be empty")
        self.texts.append(text)
        self.order += "t"

    def answer(self, text: str | None = "-1", **more: Any) -> Reply:
        assert self.protocol
        return self.protocol.answer(self, text, **more)

    def failure(self, status: int, message: str, kind: str = "", **headers: str) -> Reply:
        assert self.protocol
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reply(status, self.protocol.error(status, message, kind), named)


class Protocol:
    """What one provider's server takes and says."""

    base = ""
    """The path of the base URL that a user gives."""

    def check(self, ask: Ask) -> None:
        """Take images and texts out. Raises WrongError where the provider would refuse."""
        raise NotImplementedError

    def answer(self, ask: Ask, text: str | None, **more: Any) -> Reply:
        """An ordinary answer; what else there is to say by name."""
        raise NotImplementedError

    def error(self, status: int, message: str, kind: str) -> Any:
        """The JSON of an error."""
        raise NotImplementedError


Script = Callable[[Ask], Reply]


class ApiServer(ChatServer):
    """A server for one protocol, in a thread of its own."""

    def __init__(self, protocol: Protocol, script: Script | Reply | None = None) -> None:
        def checked(ask: ChatAsk) -> Reply:
            assert isinstance(ask, Ask)
            if ask.wrong:
                self.wrongs.append(ask.wrong)
                return ask.failure(400, ask.wrong)
            if isinstance(script, Reply):
                return script
            return script(ask) if script else ask.answer()

        super().__init__(checked)
        self.protocol = protocol
        self.wrongs: list[str] = []
        """What was wrong with requests, by the protocol's schema."""

    def __enter__(self) -> "ApiServer":
        super().__enter__()
        self.url = f"http://127.0.0.1:{self.port}{self.protocol.base}"
        return self

    def read(self, line: str, headers: dict[str, str], content: bytes) -> Ask:
        method, target, _ = line.split(" ")
        url = urlsplit(target)
        ask = Ask(headers, {}, 0, url.path, parse_qs(url.query), self.protocol)
        try:
            need(method == "POST", f"{method} is not allowed here")
            need(headers.get("content-type") == "application/json", "content-type must be JSON")
            ask.body = json.loads(content)
            self.protocol.check(ask)
        except (WrongError, ValueError) as error:
            ask.wrong = str(error)
        return ask
