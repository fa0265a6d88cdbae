"""How long a text is in a model's own tokens, and where each token ends.

A long text is tokenised once; every haystack is then cut out of it by offsets.
"""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError

CHARACTERS_PER_TOKEN = 4
"""Of English text with today's vocabularies, about; what counts where no tokenizer is at hand."""


class Tokens(Protocol):
    """Counts a text."""

    def identity(self) -> dict[str, Any]:
        """What it is, as JSON: equal only where all counts are."""
        ...

    def count(self, text: str) -> int:
        """The tokens of a text, without any that a model adds around it."""
        ...

    def ends(self, text: str) -> NDArray[np.int64]:
        """Where each token ends, in characters, ascending; shape (tokens,)."""
        ...


class Approximate:
    """Four characters a token, where the model's tokenizer is not at hand."""

    def identity(self) -> dict[str, Any]:
        """See `Tokens`."""
        return {"tokenizer": None, "characters_per_token": CHARACTERS_PER_TOKEN}

    def count(self, text: str) -> int:
        """See `Tokens`."""
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    def ends(self, text: str) -> NDArray[np.int64]:
        """See `Tokens`."""
        ends = np.arange(1, self.count(text) + 1, dtype=np.int64) * CHARACTERS_PER_TOKEN
        return np.minimum(ends, len(text))


class Fast:
    """A tokenizer.json as Hugging Face's tokenizers library reads it."""

    def __init__(self, path: Path) -> None:
        """Load it. Raises UserError where it cannot be."""
        from tokenizers import Tokenizer

        try:
            content = path.read_bytes()
            self._tokenizer = Tokenizer.from_buffer(content)
        except (OSError, ValueError, Exception) as error:
            raise UserError(
                f"{path}: is no tokenizer.json ({' '.join(str(error).split())[:200]})"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._digest = hashlib.sha256(content).hexdigest()

    def identity(self) -> dict[str, Any]:
        """See `Tokens`."""
        return {"tokenizer": self._digest}

    def count(self, text: str) -> int:
        """See `Tokens`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def ends(self, text: str) -> NDArray[np.int64]:
        """See `Tokens`."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        ends = np.fromiter((end for _, end in offsets), np.int64, len(offsets))
        # Tokens of one character's bytes share its end; some vocabularies order them otherwise.
        return np.maximum.accumulate(ends)


def open_tokens(name: str | Path | None) -> Tokens:
    """Open a tokenizer: a tokenizer.json, or a model's folder that holds one; None approximates.

    Raises:
        UserError: there is none, it cannot be read, or the package tokenizers is missing.
    """
    if name is None:
        return Approximate()
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{name}: no tokenizer.json there; name a model's folder or the file, or leave out "
            f"--tokenizer: lengths are then counted as {CHARACTERS_PER_TOKEN} characters a token"
        )
    try:
        return Fast(file)
    except ModuleNotFoundError:
        raise UserError(
            'counting a model\'s tokens needs the package tokenizers (pip install "mmneedle[text]")'
        ) from None
