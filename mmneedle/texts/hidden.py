"""Facts and variables hidden in texts: the retrieval and tracing configurations of RULER.

Source: C.-P. Hsieh et al., RULER (arXiv:2404.06654), section 3. The wording is our own.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from mmneedle.texts.corpus import Corpus
from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Built, Materials, Plan
from mmneedle.texts.words import ADJECTIVES, NOUNS

Haystack = Literal["noise", "essay", "facts"]
Wording = Literal["words", "numbers", "uuids"]

HOPS = 4
"""Steps by which a variable's value goes on to others."""
_DEPTHS = 40
"""Even depths that places are drawn from, as published."""
_NOISE = "The road is long. The river is wide. The hill is steep. On we walk. Over and over again."
_NOISE_TIMES = 400
_POOL = {"words": 1 << 13, "numbers": 1 << 13, "uuids": 1 << 11}
"""Facts of which a haystack of facts is cut; it starts over beyond some 150,000 tokens."""
_NOUN = {"words": "word", "numbers": "number", "uuids": "code"}


class Form(NamedTuple):
    """A configuration of hidden facts."""

    haystack: Haystack
    keys: Wording = "words"
    values: Wording = "numbers"
    hidden: int = 1
    """Keys."""
    each: int = 1
    """Values a key."""
    asked: int = 1
    """Keys whose values are asked for."""


class Haystacks:
    """Texts that facts are hidden in."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self._facts: dict[tuple[str, str], tuple[Corpus, frozenset[str]]] = {}

    def of(self, form: Form) -> tuple[Corpus, frozenset[str]]:
        """A text to cut haystacks of, and the keys and values that it takes up."""
        if form.haystack == "essay":
            return self.materials.corpus, frozenset()
        if form.haystack == "noise":
            return self.noise, frozenset()
        kinds = form.keys, form.values
        if kinds not in self._facts:
            self._facts[kinds] = self._made_of_facts(*kinds)
        return self._facts[kinds]

    @cached_property
    def noise(self) -> Corpus:
        """The same few sentences over and over."""
        return Corpus(" ".join([_NOISE] * _NOISE_TIMES), self.materials.tokens)

    def _made_of_facts(self, key: Wording, value: Wording) -> tuple[Corpus, frozenset[str]]:
        """Facts like the hidden one, about other things."""
        draw = Draw(self.materials.seed, "a haystack of facts", key, value)
        count = min(_POOL[key], _POOL[value])
        keys, values = _different(draw, key, count), _different(draw, value, count)
        told = (_fact(value, *pair, several=False) for pair in zip(keys, values, strict=True))
        return Corpus(" ".join(told), self.materials.tokens, joints="-"), frozenset(
            (*keys, *values)
        )


def facts(haystacks: Haystacks, draw: Draw, form: Form) -> Plan:
    """A text with facts in it, and the question for the values of some keys."""
    corpus, taken = haystacks.of(form)
    keys = _different(draw, form.keys, form.hidden, corpus, taken)
    values = _different(draw, form.values, form.hidden * form.each, corpus, taken)
    several = form.each > 1
    told = [
        _fact(form.values, keys[at // form.each], value, several=several)
        for at, value in enumerate(values)
    ]
    depths = [at / (_DEPTHS - 1) for at in draw.some(range(_DEPTHS), len(told))]
    noun = _NOUN[form.values]
    before = f"Secret {noun}s are told in the text below. Read it; a question follows.\n\n"
    question = _question(noun, [_named(form.keys, key) for key in keys[: form.asked]], form.each)
    expected = tuple((value,) for value in values[: form.asked * form.each])
    begin = f"The secret {noun}{'s' if len(expected) > 1 else ''} of {_named(form.keys, keys[0])}"
    begin += " are" if len(expected) > 1 else " is"
    return _hidden(corpus, draw, depths, told, (before, question), expected, begin)


def tracking(haystacks: Haystacks, draw: Draw) -> Plan:
    """Noise in which a variable's value goes on to four others, and the question for all five."""
    names = _names(draw, 2 * (HOPS + 1))
    example, chain = names[: HOPS + 1], names[HOPS + 1 :]
    first, value = _different(draw, "numbers", 2)
    before = (
        "Variables are set in a text. An example first.\n\n"
        f"{' '.join(_steps(example, first))}\n{_which(first)}\nAnswer: {', '.join(example)}\n\n"
        "Now the text.\n\n"
    )
    depths = sorted(at / (_DEPTHS - 1) for at in draw.some(range(_DEPTHS), len(chain)))
    expected = tuple((name,) for name in chain)
    around = before, _which(value)
    begin = f"The variables with the value {value} are"
    return _hidden(haystacks.noise, draw, depths, _steps(chain, value), around, expected, begin)


def _hidden(
    corpus: Corpus,
    draw: Draw,
    depths: Sequence[float],
    needles: list[str],
    around: tuple[str, str],
    expected: tuple[tuple[str, ...], ...],
    begin: str,
) -> Plan:
    """Needles in a text with something before and after it."""
    before, question = around
    start = draw.below(1 << 32)

    def build(length: int) -> Built:
        cut = corpus.cut(start, length)
        text, starts = cut.insert(list(zip(depths, needles, strict=True)))
        details = {
            "haystack": [len(before), len(before) + len(text)],
            "needles": needles,
            "places": [len(before) + at for at in starts],
            "depths": [round(at / max(1, len(text)), 4) for at in starts],
        }
        return f"{before}{text}\n\n{question}", cut.tokens, details

    return Plan([before, question, *needles], build, expected, begin)


# --------------------------------------------------------------------------- words


def _fact(kind: Wording, key: str, value: str, *, several: bool) -> str:
    noun = _NOUN[kind]
    named = _named("uuids" if "-" in key else "words", key)
    if several:
        return f"One of the secret {noun}s of {named} is {value}."
    return f"The secret {noun} of {named} is {value}."


def _named(kind: Wording, key: str) -> str:
    return f"the {key}" if kind == "words" else key


def _question(noun: str, keys: list[str], each: int) -> str:
    ending = f"Answer with the {noun}s alone, separated by commas."
    if each > 1:
        return f"What are all {each} secret {noun}s of {keys[0]}? {ending}"
    if len(keys) > 1:
        return f"What are the secret {noun}s of these {len(keys)}: {', '.join(keys)}? {ending}"
    return f"What is the secret {noun} of {keys[0]}? Answer with the {noun} alone."


def _steps(names: Sequence[str], value: str) -> list[str]:
    """The first variable gets the value, each further one that of the one before."""
    sources = [value, *names]
    return [f"Set {name} = {source}." for name, source in zip(names, sources, strict=False)]


def _which(value: str) -> str:
    return (
        f"Which {HOPS + 1} variables have the value {value}, be it by way of others? Answer with "
        "their names alone, separated by commas."
    )


def _names(draw: Draw, count: int) -> list[str]:
    """Variables: five capital letters each, all different."""
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(chr(ord("A") + draw.below(26)) for _ in range(5))] = None
    return list(names)


def _different(
    draw: Draw,
    kind: Wording,
    count: int,
    corpus: Corpus | None = None,
    taken: frozenset[str] = frozenset(),
) -> list[str]:
    """Keys or values that differ from each other, and stand in no haystack."""
    found: dict[str, None] = {}
    while len(found) < count:
        word = _word(draw, kind)
        if word not in taken and not (corpus is not None and _in(corpus, kind, word)):
            found[word] = None
    return list(found)


def _word(draw: Draw, kind: Wording) -> str:
    if kind == "numbers":
        return draw.digits(7)
    if kind == "uuids":
        return draw.uuid()
    return f"{' '.join(draw.some(ADJECTIVES, 2))} {draw.choice(NOUNS)}"


def _in(corpus: Corpus, kind: Wording, word: str) -> bool:
    return corpus.holds_number(word) if kind == "numbers" else word in corpus.text
