"""Text tasks of which only the best chunks, pairs or documents are read."""

import re
from collections.abc import Sequence
from statistics import fmean

import msgspec

from mmneedle.errors import UserError
from mmneedle.retrieval.asked import CHUNK
from mmneedle.retrieval.chunks import Units, units_of
from mmneedle.retrieval.grids import FEW
from mmneedle.retrieval.ranking import TextRanker, best
from mmneedle.texts.dataset import TextDataSet, tokens_of
from mmneedle.texts.matching import forms, given
from mmneedle.types import Needs, Reader, Reading, Request, TextSample, TextSetting

WHOLE = {"keyvalue": "pairs", "multidoc": "documents"}
"""Tasks whose haystacks are no running text, and what they are made of."""
_HEADING = re.compile(r"^Document \d+: ")
_UNKNOWN = "-1"
"""What a sample expects where its needle is not in what is read."""


class ReadText:
    """Requests for samples of a text data set, with the best units of their haystacks alone.

    The retriever's query is the question: what stands after the haystack, else what stands
    before it.
    """

    has_images = False
    slow = True

    def __init__(self, texts: TextDataSet, reader: Reader, ranker: TextRanker | None) -> None:
        """Make requests of a data set's samples; without a ranker only what was read before."""
        self.name = texts.name
        self.reader: Reader | None = reader
        self._texts, self._ranker = texts, ranker
        self._k, self._chunk = reader.k, reader.chunk or CHUNK

    def request(self, sample: TextSample, *, with_images: bool = True) -> Request:
        """The request for a sample, the same bytes every time."""
        assert self._ranker is not None
        before, units, after = self._parts(sample)
        query = after if any(map(str.isalnum, after)) else before
        texts = [units.of(unit) for unit in range(len(units.spans))]
        chosen = best([self._ranker.scores(query, texts)], self._k) if texts else ()
        return self._made(sample, before, units, after, chosen)

    def reread(
        self, sample: TextSample, units: tuple[int, ...], *, with_images: bool = True
    ) -> Request:
        """The request that shows these units."""
        before, every, after = self._parts(sample)
        if units and not units[-1] < len(every.spans):
            raise UserError(f"{sample.id}: has no unit {units[-1]}")
        return self._made(sample, before, every, after, units)

    def _parts(self, sample: TextSample) -> tuple[str, Units, str]:
        """What stands before the haystack, its units, and what stands after it."""
        if "haystack" not in sample.details:
            raise UserError(
                f"{sample.setting.task} does not say where its haystack stands: --reader long"
            )
        start, stop = sample.details["haystack"]
        text, kind = sample.prompt[start:stop], sample.details.get("units")
        ends = None if kind or not text else tokens_of(self._texts).ends(text)
        units = units_of(text, kind, ends, self._chunk)
        return sample.prompt[:start], units, sample.prompt[stop:]

    def _made(
        self, sample: TextSample, before: str, units: Units, after: str, chosen: tuple[int, ...]
    ) -> Request:
        read = units.read(chosen) if chosen else ""
        holds, found = _held(sample, units, chosen, read)
        reading = Reading(
            units=chosen,
            of=len(units.spans),
            share=len(read) / len(units.text) if units.text else 1.0,
            holds=holds,
            found=found,
        )
        whole = len(chosen) == len(units.spans)
        prompt = f"{before}{read}{after}"
        shown = msgspec.structs.replace(
            sample,
            prompt=prompt,
            tokens=sample.tokens if whole else tokens_of(self._texts).count(prompt),
            expected=_left(sample.expected, found),
            details={},
        )
        return Request(shown, prompt, (), reading)

    def _few(self, setting: TextSetting, start: int, stop: int) -> Sequence[str]:
        samples = self._texts.samples(setting, start, min(stop, start + FEW))
        return [self.request(sample).prompt for sample in samples]

    def characters(self, setting: TextSetting, start: int, stop: int) -> float:
        """The mean length of the first few samples' texts."""
        return fmean(map(len, self._few(setting, start, stop)))

    def needs(self, setting: TextSetting, start: int, stop: int) -> Needs:
        """What requests ask of a model, by the longest of the first few samples."""
        return Needs(setting, 0, 0, max(self._few(setting, start, stop), key=len), 0)


def _left(
    expected: tuple[tuple[str, ...], ...], found: tuple[bool, ...]
) -> tuple[tuple[str, ...], ...]:
    """What one who sees no more than was read can know of the answers."""
    return tuple(
        words if there else (_UNKNOWN,)
        for words, there in zip(expected, found or (True,) * len(expected), strict=True)
    )


def _held(
    sample: TextSample, units: Units, chosen: Sequence[int], read: str
) -> tuple[tuple[tuple[int, ...], ...], tuple[bool, ...]]:
    """Of each needle: which units hold it, and whether what is read does.

    That is the sentence that states it, word for word, where the haystack has one; else any of
    the wordings of its answer, as scores look for them; of documents, in those that the task says
    answer it (a document's own number is no answer). Where the answer is counted over all of
    the haystack, no unit holds it, and there is nothing to tell; nor where there is no haystack.
    """
    if "counts" in sample.details or not units.spans:
        return (), ()
    stated: list[str] = sample.details.get("needles", [])
    texts = [units.of(unit) for unit in range(len(units.spans))]
    if stated:
        wanted = stated[: len(sample.expected)]
        return (
            tuple(tuple(at for at, text in enumerate(texts) if it in text) for it in wanted),
            tuple(it in read for it in wanted),
        )
    where: int | list[int] | None = sample.details.get("gold")
    gold = (
        range(1, len(texts) + 1) if where is None else where if isinstance(where, list) else [where]
    )
    plain = {at - 1: forms(_HEADING.sub("", texts[at - 1]), loose=True) for at in gold}
    answers = [[forms(word, loose=True) for word in words] for words in sample.expected]
    holds = tuple(
        tuple(at for at, text in sorted(plain.items()) if given(words, text)) for words in answers
    )
    return holds, tuple(not set(chosen).isdisjoint(units_) for units_ in holds)
