"""Questions about documents: which can be asked, among which others, each counted once."""

from collections.abc import Iterable, Iterator, Sequence

from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Built, Plan
from mmneedle.texts.matching import Forms, forms, given
from mmneedle.texts.published import Question, QuestionFile
from mmneedle.texts.tokens import Tokens


class Library:
    """The documents of a file, and its questions in random order."""

    def __init__(self, file: QuestionFile, tokens: Tokens, seed: int) -> None:
        self.file, self.documents, self._tokens = file, file.documents, tokens
        self._counts: dict[int, float] = {}
        self._forms: dict[int, Forms] = {}
        self._headings: dict[int, float] = {}
        self._order = Draw(seed, "questions").order(len(file.questions)).tolist()
        self._shuffled = Draw(seed, "documents").order(len(self.documents)).tolist()

    def asked(self, index: int, fits: "Fits") -> Question | None:
        """The question of sample `index`: each is asked once before any is asked again.

        Args:
            index: of the sample.
            fits: which questions can be asked.

        Returns:
            None where no question fits.
        """
        found = fits.found
        while len(found) <= index and fits.looked < len(self._order):
            question = self.file.questions[self._order[fits.looked]]
            fits.looked += 1
            if self._answered(question) and fits.wanted(self, question):
                found.append(question)
        return found[index % len(found)] if found else None

    def _answered(self, question: Question) -> bool:
        """Whether its documents answer a question, and it does not do so itself."""
        wordings = (forms(word, loose=True) for word in question.answers)
        if given(wordings, forms(question.text, loose=True)):
            return False
        return self.holds(question.gold, question.answers)

    def others(self, question: Question, draw: Draw, most: int) -> Iterator[int]:
        """Documents that do not answer a question: those published with it, then any others.

        Args:
            question: whose answers they do not hold.
            draw: decides their order.
            most: how many of the others are looked at before they start over.

        Yields:
            Their numbers, over and over where there are not enough; nothing where there is none.
        """
        near = [at for at in question.near if not self.holds((at,), question.answers)]
        yield from near
        pool = self._shuffled[:most]
        taken = {*question.gold, *near}
        while True:
            none = True
            start = draw.below(len(pool))
            for at in (*pool[start:], *pool[:start]):
                if at not in taken and not self.holds((at,), question.answers):
                    none = False
                    yield at
            if none:
                if not near:
                    return
                yield from near

    def holds(self, documents: Iterable[int], words: Iterable[str]) -> bool:
        """Whether any of these documents holds any of these answers."""
        wanted = [forms(word, loose=True) for word in words]
        return any(given(wanted, self._compared(at)) for at in documents)

    def _compared(self, at: int) -> Forms:
        if at not in self._forms:
            self._forms[at] = forms(self.documents[at], loose=True)
        return self._forms[at]

    def tokens(self, at: int) -> float:
        """Of a document as it stands in a prompt, the tenth there."""
        if at not in self._counts:
            self._counts[at] = self._repeated(f"{document(10, self.documents[at])}\n\n")
        return self._counts[at]

    def heading(self, number: int) -> float:
        """Tokens that a document takes besides its text; many vocabularies count digits."""
        digits = len(str(number))
        if digits not in self._headings:
            tens = f"{document(10 ** (digits - 1), '')}\n\n"
            self._headings[digits] = self._repeated(tens)
        return self._headings[digits]

    def _repeated(self, piece: str) -> float:
        """Tokens of a piece among its like: what begins a text counts for none, less is rounded."""
        return (self._tokens.count(piece * 3) - self._tokens.count(piece)) / 2


class Fits:
    """Questions that can be asked at one length, as they were found so far."""

    def __init__(self) -> None:
        self.found: list[Question] = []
        self.looked = 0

    def wanted(self, library: Library, question: Question) -> bool:
        """Whether a question, whose documents do answer it, can be asked; all here."""
        return True


def asking(library: Library, question: Question, draw: Draw, pool: int) -> Plan:
    """Documents in random order, those that answer a question among them, and the question.

    Args:
        library: whose documents they are.
        question: one of its questions.
        draw: decides which others there are, and the order.
        pool: documents that others are drawn from.
    """
    seed = draw.digits(18)
    before = "Answer the question from the documents below.\n\n"
    asked = f"Question: {question.text} Answer with the shortest phrase that is right."

    def build(room: int) -> Built:
        chosen, tokens = _filled(library, question, Draw(seed), room, pool)
        order = Draw(seed, "order").order(len(chosen)).tolist()
        text, starts = joined([chosen[at] for at in order])
        gold = [order.index(at) for at in range(len(question.gold))]
        details = {
            "haystack": [len(before), len(before) + len(text)],
            "units": "documents",
            "documents": len(chosen),
            "gold": [at + 1 for at in gold],
            "places": [len(before) + starts[at] for at in gold],
        }
        return f"{before}{text}\n\n{asked}", tokens, details

    return Plan([before, asked], build, (question.answers,), "The answer is")


def _filled(
    library: Library, question: Question, draw: Draw, room: int, pool: int
) -> tuple[list[str], int]:
    """The documents that answer a question, then others as long as there is room; their tokens.

    The last one is cut at a word's end.
    """
    texts = [library.documents[at] for at in question.gold]
    tokens = sum(map(library.tokens, question.gold))
    for at in library.others(question, draw, pool):
        heading = library.heading(len(texts) + 1)
        left, size = room - tokens, library.tokens(at) - library.heading(10) + heading
        if size > left:
            if left - heading >= _SHORTEST:
                text = library.documents[at]
                start = text[: int(len(text) * (left - heading) / (size - heading))]
                texts += start.rsplit(maxsplit=1)[:1]
                tokens += left
            break
        texts.append(library.documents[at])
        tokens += size
    return texts, round(tokens)


_SHORTEST = 4
"""Tokens of a document that is cut, at least."""


def document(number: int, text: str) -> str:
    """A document as it stands in a prompt."""
    return f"Document {number}: {text}"


def joined(texts: Sequence[str]) -> tuple[str, list[int]]:
    """Documents numbered from 1, an empty line between them; and where each begins."""
    starts, parts, at = [], [], 0
    for number, text in enumerate(texts, 1):
        starts.append(at)
        parts.append(document(number, text))
        at += len(parts[-1]) + 2
    return "\n\n".join(parts), starts
