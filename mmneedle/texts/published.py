"""Files of questions and documents in the formats in which they are published.

    SQuAD       P. Rajpurkar et al., arXiv:1806.03822 (2.0; 1.1 reads too): one JSON object
    HotpotQA    Z. Yang et al., arXiv:1809.09600: one JSON list, with supporting facts
    NQ          Natural Questions as "Lost in the Middle" publishes them (N. F. Liu et al.,
                arXiv:2307.03172): JSON lines, plain or gzip, each with documents, one of them gold

A wrong file is told in one line that names the line or the field.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from mmneedle.errors import UserError
from mmneedle.texts.matching import normal

LARGEST = 1 << 30
"""Bytes of a file that are read at most, unpacked."""

Kind = Literal["SQuAD", "HotpotQA"]


class Question(NamedTuple):
    """A question, what answers it, and the documents that belong to it."""

    text: str
    answers: tuple[str, ...]
    """Wordings that are as good, at least one."""
    gold: tuple[int, ...]
    """Which documents answer it."""
    near: tuple[int, ...]
    """Documents that were published with it and do not."""


class QuestionFile(NamedTuple):
    """A file as it was read."""

    path: Path
    questions: list[Question]
    documents: list[str]
    """Each once; the title, where it has one, is the first line."""


# --------------------------------------------------------------------------- formats


class _Answer(msgspec.Struct):
    text: str


class _Asked(msgspec.Struct):
    question: str
    answers: list[_Answer]
    is_impossible: bool = False


class _Paragraph(msgspec.Struct):
    context: str
    qas: list[_Asked]


class _Article(msgspec.Struct):
    paragraphs: list[_Paragraph]


class _Squad(msgspec.Struct):
    data: list[_Article]


class _Hotpot(msgspec.Struct):
    question: str
    answer: str
    context: list[tuple[str, list[str]]]
    supporting_facts: list[tuple[str, int]]


class _Document(msgspec.Struct):
    title: str
    text: str
    hasanswer: bool
    isgold: bool


class _Natural(msgspec.Struct):
    question: str
    answers: list[str]
    ctxs: list[_Document]


# --------------------------------------------------------------------------- reading


def kind_of(path: Path) -> Kind:
    """Which of the two JSON formats a file is in, by its first character. Raises UserError."""
    first = _content(path, 256).lstrip()[:1]
    if first == b"{":
        return "SQuAD"
    if first == b"[":
        return "HotpotQA"
    raise UserError(f"{path}: is neither SQuAD's JSON object nor HotpotQA's JSON list")


def read_squad(path: Path) -> QuestionFile:
    """Questions that have an answer, and all paragraphs. Raises UserError."""
    shelf = _Shelf()
    questions = []
    squad: _Squad = _decode(path, _content(path), _Squad, "SQuAD")
    for article in squad.data:
        for paragraph in article.paragraphs:
            gold = shelf.place(paragraph.context)
            for one in paragraph.qas:
                answers = _answers([answer.text for answer in one.answers])
                if answers and not one.is_impossible:
                    questions.append(Question(one.question.strip(), answers, (gold,), ()))
    return _some(path, questions, shelf)


def read_hotpot(path: Path) -> QuestionFile:
    """Questions and all their paragraphs; those answered by yes or no are left out.

    Nothing in a text states a "yes", so that a reader could point at it. Raises UserError.
    """
    shelf = _Shelf()
    questions = []
    hotpot: list[_Hotpot] = _decode(path, _content(path), list[_Hotpot], "HotpotQA")
    for one in hotpot:
        titles = {title for title, _ in one.supporting_facts}
        gold: list[int] = []
        near: list[int] = []
        for title, sentences in one.context:
            place = shelf.place(f"{title}\n{''.join(sentences)}")
            (gold if title in titles else near).append(place)
        answers = _answers([one.answer])
        if gold and answers and normal(one.answer, loose=True) not in ("yes", "no"):
            questions.append(Question(one.question.strip(), answers, tuple(gold), tuple(near)))
    return _some(path, questions, shelf)


def read_natural(path: Path) -> QuestionFile:
    """Questions with one gold document each; `near` are those said not to hold the answer.

    Raises UserError.
    """
    shelf = _Shelf()
    questions = []
    lines: Iterator[tuple[int, _Natural]] = _json_lines(path, _Natural, "Natural Questions")
    for number, one in lines:
        places = [shelf.place(f"{doc.title}\n{doc.text}") for doc in one.ctxs]
        gold = tuple(at for at, doc in zip(places, one.ctxs, strict=True) if doc.isgold)
        near = (at for at, doc in zip(places, one.ctxs, strict=True) if not doc.hasanswer)
        answers = _answers(one.answers)
        if len(gold) != 1:
            raise UserError(
                f"{path}: line {number}: ctxs has {len(gold)} documents with isgold, one is needed"
            )
        if not answers:
            raise UserError(f"{path}: line {number}: answers is empty")
        apart = tuple(at for at in dict.fromkeys(near) if at not in gold)
        questions.append(Question(one.question.strip(), answers, gold, apart))
    return _some(path, questions, shelf)


class _Shelf:
    """Documents, each once, by their number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def place(self, text: str) -> int:
        return self._numbers.setdefault(text.strip(), len(self._numbers))

    @property
    def documents(self) -> list[str]:
        return list(self._numbers)


def _answers(texts: list[str]) -> tuple[str, ...]:
    """Without blanks and repetitions; what is nothing but articles and signs goes too."""
    return tuple(dict.fromkeys(text.strip() for text in texts if normal(text, loose=True)))


def _some(path: Path, questions: list[Question], shelf: _Shelf) -> QuestionFile:
    if not questions:
        raise UserError(f"{path}: holds no question that has an answer")
    return QuestionFile(path, questions, shelf.documents)


_T = TypeVar("_T")


def _decode(
    path: Path, content: bytes, kind: type[_T] | Any, name: str, line: int | None = None
) -> _T:
    try:
        found: _T = msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: {_where(content, error, line)} (not {name}'s format)") from None
    return found


def _where(content: bytes, error: Exception, line: int | None) -> str:
    """What is wrong, with its line and its field as far as they are known."""
    told = str(error) or "nested too deeply"
    try:
        content.decode()
    except UnicodeDecodeError as wrong:
        told = f"is not UTF-8 (byte {wrong.start})"
    byte = told.rpartition("(byte ")[2].rstrip(")")
    if line is None and byte.isdigit():
        line = content.count(b"\n", 0, int(byte)) + 1
    return told if line is None else f"line {line}: {told}"


def _content(path: Path, most: int | None = None) -> bytes:
    """A file's bytes, unpacked; all of them, or `most`. Raises UserError."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(most or LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None
    content = content.removeprefix(codecs.BOM_UTF8)
    if len(content) > LARGEST:
        raise UserError(f"{path}: has more than {LARGEST >> 20} MiB; name a part of it")
    return content


def _json_lines(path: Path, kind: type[_T], name: str) -> Iterator[tuple[int, _T]]:
    """The records of a file of JSON lines, by line. Raises UserError naming line and field."""
    for number, line in enumerate(_content(path).splitlines(), 1):
        if line.strip():
            yield number, _decode(path, line, kind, name, number)


def whole_json(path: Path, kind: type[_T] | Any, name: str) -> _T:
    """A file of one JSON value. Raises UserError naming line or field."""
    found: _T = _decode(path, _content(path), kind, name)
    return found
