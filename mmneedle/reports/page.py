"""What every HTML page of ours shares: escaping, the look, and a policy that lets nothing in.

A page is one file. It loads nothing; the only styles and scripts that the browser accepts are
ours, by their hashes.
"""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from mmneedle.files import unwritable, whole
from mmneedle.reports.words import hidden, percent, signed


@cache
def environment() -> jinja2.Environment:
    """Templates of this package: all values are escaped, an unknown name is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("mmneedle.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "signed": signed, "show": show, "name": breakable}
    return made


def source(*names: str) -> Markup:
    """Files of the templates folder, one after the other, as they are: our styles and scripts."""
    loader = environment().loader
    assert loader is not None
    return Markup("\n").join(
        Markup(loader.get_source(environment(), name)[0])  # ours, nobody else's words
        for name in names
    )


def policy(style: str, script: str = "") -> str:
    """The content security policy of a self-contained page (W3C CSP Level 3).

    Nothing is loaded and nothing runs but this style and this script, by their SHA-256.
    """
    rules = {
        "default-src": "'none'",
        "img-src": "data: blob:",
        "style-src": _hash(style),
        "script-src": _hash(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def write(out: Path, text: str) -> Path:
    """Write a page whole or not at all; its folder is made. Raises UserError where that fails."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole(out) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n", errors="replace")
    except OSError as error:
        raise unwritable(out, error) from error
    return out


def show(text: str) -> Markup:
    """Somebody's words as HTML, with every character that hides or turns others spelled out."""
    parts: list[str] = []
    for char in text:
        if hidden(char):
            parts.append(f'<span class="ctl">U+{ord(char):04X}</span>')
        else:
            parts.append(str(escape(char)))
    return Markup("".join(parts))


def breakable(text: str) -> Markup:
    """A model's name as `show` gives it, which may break after / ? = _ and -, not within words."""
    return Markup("<wbr>").join(map(show, re.split(r"(?<=[/?=_-])(?=.)", text, flags=re.S)))
