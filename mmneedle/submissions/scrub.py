"""What a run's header says of the machine it was made on, taken out: paths, hosts, user names."""

import ipaddress
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mmneedle.runlog import RunHeader
from mmneedle.stitching.dataset import Manifest

PRIVATE = "[private]"
"""Stands for an address that others cannot reach."""
_RESERVED = frozenset(
    {"local", "localhost", "localdomain", "internal", "intranet", "private", "corp", "home"}
    | {"lan", "arpa", "test", "example", "invalid", "onion"}
)
"""Last parts of names that no public server has (RFC 2606, 6761, 6762, 8375, and common use)."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.I)
_PATH = re.compile(
    r"""(?<![\w.:/\\~-])          # an absolute path begins here, not in the midst of a word
    (?:~[^/\\\s]*|[A-Za-z]:|\\)?  # ~user, C:, or the first of two backslashes
    [/\\](?=\S)(?:[^\s"'<>|,;&?=]*[/\\])?
    (?P<last>[^\s"'<>|,;&?=/\\]*)""",
    re.X,
)


def public_header(header: RunHeader) -> RunHeader:
    """A run's header as a submission has it: no path, no host but a public server's."""
    kept = {name: header.environment[name] for name in _KEPT if name in header.environment}
    return msgspec.structs.replace(
        header,
        model=public_model(header.model),
        dataset_path="",
        adapter=public(header.adapter),
        prices=public(header.prices) if header.prices is not None else None,
        environment=public(kept),
    )


_KEPT = ("mmneedle", "python", "platform")


def public_manifest(manifest: Manifest) -> Manifest:
    """A data set's manifest as a submission has it: what opens its source, but no path."""
    return msgspec.structs.replace(
        manifest,
        source={
            key: value
            for key, value in manifest.source.items()
            if not (isinstance(value, str) and ("/" in value or "\\" in value))
        },
    )


def public_model(model: str) -> str:
    """A model string; of a folder on the machine only the last part: "hf/Qwen2.5-VL"."""
    provider, slash, name = model.partition("/")
    return provider + slash + _text(name)


def public(value: Any) -> Any:
    """The same value (a struct, JSON) with every string in it fit for others' eyes."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(public(inner) for inner in value)
    if isinstance(value, msgspec.Struct):
        return msgspec.convert(public(msgspec.to_builtins(value)), type(value))
    return value


def _text(text: str) -> str:
    parts, end = [], 0
    for found in _URL.finditer(text):
        parts += [_local(text[end : found.start()]), _address(found[0])]
        end = found.end()
    return "".join([*parts, _local(text[end:])])


def _local(text: str) -> str:
    text = _PATH.sub(lambda found: found["last"] or "[folder]", text)
    for name in _own_names():
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "[host]", text)
    return text


def _own_names() -> list[str]:
    """What this machine and its user are called; short ones are words like any other."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name}
    return sorted((name for name in names if len(name) > 5), key=len, reverse=True)


def _address(url: str) -> str:
    """A public server's address without user, port and path; PRIVATE for any other."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return PRIVATE
    try:
        ipaddress.ip_address(host)
        return PRIVATE
    except ValueError:
        pass
    first, _, last = host.rpartition(".")
    if not first or last in _RESERVED:
        return PRIVATE
    return f"{urlsplit(url).scheme.lower()}://{host}"
