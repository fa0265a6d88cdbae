"""multidoc: k documents of which one answers the question, wherever it stands.

A setting's length counts documents, its depth says where the right one stands. Variants:

    open     all documents (open book)
    closed   none: what the model knows without them (closed book)
    oracle   the right one alone

The documents are those of a Natural Questions file in the format in which the source publishes it,
or, without a file, the captions of photos: a photo's number is the title, its captions are the
text, the question quotes one of them and asks for the number.

Source: N. F. Liu et al., "Lost in the Middle" (arXiv:2307.03172), section 3: the answer counts
where it stands in the response. The wording is our own.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts.corpus import paragraphs
from mmneedle.texts.documents import Fits, Library, joined
from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Materials, Rule
from mmneedle.texts.matching import normal
from mmneedle.texts.published import Question, QuestionFile, read_natural
from mmneedle.types import TextSample, TextSetting, sample_id

VARIANTS = ("open", "closed", "oracle")
_BEFORE = "Answer the question. Its answer stands in one of these documents.\n\n"
_NUMBERS = 1000
"""Photos up to this number are not asked for, where there are enough others."""
_COUNTED = 50
"""Documents up to which a prompt's tokens are counted, not added up."""


class MultiDoc:
    """Makes samples."""

    name: ClassVar[str] = "multidoc"
    rule: ClassVar[Rule] = "all"
    needs_corpus: ClassVar[bool] = True
    of_photos: ClassVar[bool] = True
    """Its text is one paragraph a photo (`corpus.caption_documents`)."""
    lengths: ClassVar[str] = "documents"
    default_lengths: ClassVar[str] = "10,20,30"
    has_depth: ClassVar[bool] = True
    default_variants: ClassVar[tuple[str, ...]] = VARIANTS
    single: ClassVar[dict[str, int]] = {"closed": 0, "oracle": 1}
    """Variants that have one length, this one, and no depth."""
    takes_questions: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self._fits = Fits()

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        variant = _variant(setting)
        if variant not in VARIANTS:
            raise UserError(f"no variant {variant!r} of multidoc; there are {', '.join(VARIANTS)}")
        if setting.needles != 1:
            raise UserError(f"{setting.name}: one document answers: leave out --needles")
        if variant in self.single:
            if (setting.length, setting.depth) != (self.single[variant], -1):
                raise UserError(
                    f"{setting.name}: {variant} has {self.single[variant]} documents and no depth"
                )
        elif setting.depth < 0:
            raise UserError(f"{setting.name}: multidoc needs a depth")
        elif not 2 <= setting.length <= self._most:
            raise UserError(
                f"{setting.name}: its length counts documents, from 2 to {self._most} with what "
                "was given (as published: 10, 20, 30)"
            )
        if self._library.asked(0, self._fits) is None:
            raise UserError(f"{self._library.file.path}: no gold document holds an answer")

    @cached_property
    def _library(self) -> Library:
        files = self.materials.files
        if len(files) > 1:
            raise UserError("multidoc asks the questions of one file: give --questions once")
        file = read_natural(files[0]) if files else _captions(self.materials)
        return Library(file, self.materials.tokens, self.materials.seed)

    @cached_property
    def _most(self) -> int:
        """Documents of a question at most."""
        if self.materials.files:
            return max(1 + len(question.near) for question in self._library.file.questions)
        return len(self._library.documents)

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`: the same question at all lengths and depths, in all variants.

        The documents of a shorter setting are the first of a longer one's.
        """
        question = self._library.asked(index, self._fits)
        assert question is not None, "checked"
        chosen = self._chosen(question, setting.length, index)
        if not chosen:
            return self._closed(setting, question, index)
        place = round(max(0, setting.depth) / 1000 * (len(chosen) - 1))
        chosen.insert(place, chosen.pop(0))
        text, starts = joined([self._library.documents[at] for at in chosen])
        asked = f"Question: {question.text}"
        prompt = f"{_BEFORE}{text}\n\n{asked}"
        return TextSample(
            id=sample_id(setting, index),
            setting=setting,
            prompt=prompt,
            expected=(_wordings(question, len(chosen)),),
            tokens=self._tokens(prompt, chosen, asked),
            begin="The answer is",
            details={
                "haystack": [len(_BEFORE), len(_BEFORE) + len(text)],
                "units": "documents",
                "gold": place + 1,
                "places": [len(_BEFORE) + starts[place]],
            },
        )

    def _closed(self, setting: TextSetting, question: Question, index: int) -> TextSample:
        """The question alone."""
        prompt = f"Answer the question.\n\nQuestion: {question.text}"
        return TextSample(
            id=sample_id(setting, index),
            setting=setting,
            prompt=prompt,
            expected=(question.answers,),
            tokens=self.materials.tokens.count(prompt),
            begin="The answer is",
            details={"haystack": [len(prompt), len(prompt)]},
        )

    def _chosen(self, question: Question, count: int, index: int) -> list[int]:
        """So many documents, the right one first. Raises UserError where there are too few."""
        if count == 0:
            return []
        chosen = dict.fromkeys(question.gold)
        draw = Draw(self.materials.seed, "multidoc", index)
        for at in self._library.others(question, draw, len(self._library.documents)):
            if len(chosen) == count:
                break
            if at in chosen:  # they start over
                raise UserError(
                    f"{self._library.file.path}: only {len(chosen)} documents for the question "
                    f"{question.text!r}, of {count}: the others hold its answer"
                )
            chosen[at] = None
        return list(chosen)

    def _tokens(self, prompt: str, chosen: Sequence[int], asked: str) -> int:
        if len(chosen) <= _COUNTED:
            return self.materials.tokens.count(prompt)
        around = self.materials.tokens.count(_BEFORE) + self.materials.tokens.count(asked)
        library = self._library
        headings = sum(library.heading(number) for number in range(1, len(chosen) + 1))
        headings -= len(chosen) * library.heading(10)
        return around + round(sum(map(library.tokens, chosen)) + headings)


def _captions(materials: Materials) -> QuestionFile:
    """Photos as documents, and a question for each that has a caption of its own.

    Photos with so low a number that a document may have it are not asked for, where there are
    others: "9" shall name a photo, not the ninth document. Raises UserError where none is left.
    """
    assert materials.text is not None
    documents = list(paragraphs(materials.text))
    captions = [document.splitlines()[1:] for document in documents]
    often = Counter(caption for own in captions for caption in set(map(_plain, own)))
    questions = []
    low = _NUMBERS if len(documents) > 2 * _NUMBERS else -1
    for number, (document, own) in enumerate(zip(documents, captions, strict=True)):
        title = document.splitlines()[0]
        alone = [caption for caption in own if often[_plain(caption)] == 1]
        if alone and int(title) > low:
            quoted = Draw(materials.seed, "quoted", title).choice(alone)
            wordings = dict.fromkeys((title, title.lstrip("0") or "0"))
            text = f'Which photo has the caption "{quoted}"? Answer with its number alone.'
            questions.append(Question(text, tuple(wordings), (number,), ()))
    if not questions:
        raise UserError("multidoc: no photo has a caption that no other has: add --questions FILE")
    return QuestionFile(Path("captions"), questions, [f"Photo {text}" for text in documents])


def _wordings(question: Question, documents: int) -> tuple[str, ...]:
    """Its answers, without a photo's number where it is short and a document has it."""
    first, *others = question.answers
    return first, *(
        word
        for word in others
        if not (first.endswith(f"0{word}") and first.isdigit() and int(word) <= documents)
    )


def _plain(caption: str) -> str:
    return normal(caption, loose=True)


def _variant(setting: TextSetting) -> str:
    return setting.task.partition(".")[2]
