"""A provider's server: its address, the key for it, and that no secret goes further than here."""

import importlib.util
import os
import re
import urllib.request
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec

from mmneedle.errors import UserError
from mmneedle.types import Response

CONNECT_TIMEOUT = 10.0  # seconds
_LONGEST_ERROR = 500  # characters; some servers say back the whole request
_SHORTEST_SECRET = 8  # "EMPTY" and "none" are no secrets, and may well stand in an answer


class BaseUrl(NamedTuple):
    """A server's address, taken apart."""

    shown: str
    """Without user and password."""
    host: str
    auth: tuple[str, str] | None
    secrets: tuple[str, ...]
    direct: bool
    """Plain http and no proxy on the way."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Take an address apart. Raises UserError, which does not show it, for one that is none."""
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname or "", parts.port
            if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
                raise ValueError
        except ValueError:  # the address is not shown: it may hold a password
            raise UserError(
                "the base URL must look like http://localhost:8000/v1 (http or https, no ?query)"
            ) from None
        where = f"[{host}]" if ":" in host else host
        where += f":{port}" if port else ""
        auth = None
        secrets: tuple[str, ...] = ()
        if parts.username or parts.password:
            auth = unquote(parts.username or ""), unquote(parts.password or "")
            basic = b64encode(":".join(auth).encode()).decode()
            secrets = (*auth, parts.password or "", basic)
        proxies = _proxies()
        proxied = ("http" in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host)
        return cls(
            shown=f"{parts.scheme}://{where}{parts.path.rstrip('/')}",
            host=host,
            auth=auth,
            secrets=secrets,
            direct=parts.scheme == "http" and not proxied,
        )

    def without(self, *ends: str) -> Self:
        """The address without one of these ends, which the SDK adds itself."""
        for end in ends:
            if self.shown.endswith(end):
                return self._replace(shown=self.shown.removesuffix(end).rstrip("/"))
        return self


def _proxies() -> Mapping[str, str]:
    """The environment's proxies. Raises UserError, which does not show it, for one that is none."""
    proxies = urllib.request.getproxies()
    for kind in ("http", "https", "all"):
        if not (given := proxies.get(kind)):
            continue
        try:
            parts = urlsplit(given if "://" in given else f"http://{given}")
            schemes = ("http", "https", "socks5", "socks5h")
            good = parts.hostname and (parts.port or 1) and parts.scheme in schemes
        except ValueError:  # the address is not shown: it may hold a password
            good = False
        name = f"{kind}_proxy"
        if not good:
            raise UserError(f"the variable {name} must look like http://host:port, or be unset")
        if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise UserError(f"the variable {name} names a SOCKS proxy: pip install socksio")
    return proxies


def key_from(*variables: str) -> str:
    """The key in the first of these variables that holds one; empty if none does.

    Raises:
        UserError: it has characters that no HTTP header can hold. It is not shown.
    """
    for name in variables:
        key = os.environ.get(name, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"{name} holds characters that no key has")
        if key:
            return key
    return ""


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be said back: plain, percent-encoded (RFC 3986), base64 (RFC 4648)."""
    for escaped in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield escaped
        yield re.sub("%..", lambda code: code[0].lower(), escaped)
    raw = secret.encode()
    yield raw.hex()
    for before in range(3):  # where it stands in a longer text decides which characters it becomes
        for encode in (b64encode, urlsafe_b64encode):
            encoded = encode(bytes(before) + raw).decode().rstrip("=")
            # Those at the ends may hold bits of what stands beside it.
            first, last = -(-8 * before // 6), (8 * (before + len(raw))) // 6
            if last - first >= _SHORTEST_SECRET:
                yield encoded[first:last]


class Secrets:
    """What must not be shown: as it is, escaped for a URL, or in base64."""

    def __init__(self, *texts: str) -> None:
        secrets = [text for text in texts if len(text) >= _SHORTEST_SECRET]
        forms = {form for secret in secrets for form in _forms(secret)}
        inner = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
        self._pattern = re.compile(inner) if forms else None

    def hide(self, response: Response) -> Response:
        """A server may say back what it was sent: no secret goes further than here."""
        if self._pattern:
            for field in ("text", "reasoning", "stop_reason", "model", "error"):
                text = getattr(response, field)
                if text and (hidden := self._pattern.sub("[key]", text)) != text:
                    response = msgspec.structs.replace(response, **{field: hidden})
        if response.error:
            response = msgspec.structs.replace(response, error=response.error[:_LONGEST_ERROR])
        return response
