"""What a user asks for with --reader and its companions, read strictly."""

import re
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from mmneedle.errors import UserError

CHUNK = (600, 100)
"""Tokens of a chunk, and how many it shares with the next."""
Captions = Literal["literal", "paraphrase"]


class Asked(NamedTuple):
    """How a haystack shall be read; what is None was not said."""

    k: int
    retriever: str = "bm25"
    folder: Path | None = None
    """Of the retriever's model."""
    chunk: tuple[int, int] | None = None
    captions: Captions | None = None


def read_reader(
    reader: str,
    retriever: str | None = None,
    chunk: str | None = None,
    captions: str | None = None,
) -> Asked | None:
    """Read `--reader long` as None, `--reader retrieve:8` and its companions as what is asked for.

    Raises:
        UserError: neither of both, K below 1, no such retriever, a chunk that cannot be.
    """
    companions = {"retriever": retriever, "chunk": chunk, "captions": captions}
    if reader == "long":
        for name, value in companions.items():
            if value is not None:
                raise UserError(f"--{name} belongs to --reader retrieve:K")
        return None
    match = re.fullmatch(r"retrieve:(\d{1,7})", reader, re.ASCII)
    if not match or int(match[1]) < 1:
        raise UserError(
            f"--reader takes long, or retrieve:K with K from 1 such as retrieve:8, not {reader!r}"
        )
    if captions is not None and captions not in get_args(Captions):
        raise UserError(f"--captions takes literal or paraphrase, not {captions!r}")
    name, folder = _retriever(retriever or "bm25")
    if captions is not None and name == "clip":
        raise UserError("--retriever clip looks at photos, not at captions: leave out --captions")
    return Asked(
        k=int(match[1]),
        retriever=name,
        folder=folder,
        chunk=None if chunk is None else read_chunk(chunk),
        captions=captions,  # type: ignore[arg-type]
    )


def _retriever(text: str) -> tuple[str, Path | None]:
    name, colon, folder = text.partition(":")
    if name == "bm25" and not colon:
        return name, None
    if name in ("embed", "clip") and folder:
        return name, Path(folder).expanduser()
    raise UserError(
        f"--retriever takes bm25, embed:FOLDER (sentence embeddings) or clip:FOLDER, not {text!r}"
    )


def read_chunk(text: str) -> tuple[int, int]:
    """Read "600:100" as (600, 100); "600" shares nothing. Raises UserError."""
    match = re.fullmatch(r"(\d{1,7})(?::(\d{1,7}))?", text, re.ASCII)
    size, overlap = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if not 0 <= overlap < size:
        raise UserError(
            "--chunk takes tokens of a chunk and how many of them it shares with the next, such "
            f"as 600:100, not {text!r}"
        )
    return size, overlap
