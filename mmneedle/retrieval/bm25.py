"""BM25: texts are ranked by the words that they share with the query, rare ones first.

Words are rows of letters and digits, case folded; none is left out and none is stemmed. Source:
S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
Foundations and Trends in Information Retrieval 3 (2009) 333-389; computed by bm25s (X. H. Lù,
arXiv:2407.03618) with its defaults, Lucene's variant, k1 = 1.5, b = 0.75.
"""

import re
import threading
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmneedle.errors import UserError
from mmneedle.retrieval.ranking import Scores

_WORD = re.compile(r"[^\W_]+")


class Bm25:
    """Ranks texts; the index of the last ones is kept, for other questions about them."""

    model: str | None = None
    weights: str | None = None

    def __init__(self) -> None:
        """Load the library. Raises UserError where it is missing."""
        try:
            import bm25s
        except ModuleNotFoundError:
            raise UserError(
                'retrieving by words needs the package bm25s (pip install "mmneedle[retrieve]")'
            ) from None
        self._library = bm25s
        self.engine = f"bm25s {bm25s.__version__}"
        self._mutex = threading.Lock()
        self._last: tuple[tuple[str, ...], Any] = (), None

    def scores(self, query: str, units: Sequence[str]) -> Scores:
        """How well each text fits; all 0 where they share no word with the query."""
        index, asked = self._index(tuple(units)), words(query)
        if index is None or not asked:
            return np.zeros(len(units), np.float32)
        found: Scores = index.get_scores(asked)
        return found

    def _index(self, units: tuple[str, ...]) -> Any:
        """None where no text has a word."""
        with self._mutex:
            if units != self._last[0]:
                texts = [words(unit) for unit in units]
                index = None
                if any(texts):
                    index = self._library.BM25()
                    index.index(texts, show_progress=False)
                self._last = units, index
            return self._last[1]


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
