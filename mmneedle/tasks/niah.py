"""niah: facts hidden in a long text, length by depth (the "pressure test").

A needle is "The secret number of the brave otter is 4821937."; the question asks for the number.
Variant `keysN` hides N such facts about N things and asks for one of them; K needles are asked for
together, the first at the setting's depth and the others evenly from there to the end.

Source of the form: G. Kamradt, "Needle In A Haystack: pressure testing LLMs" (2023); of several
keys: C.-P. Hsieh et al., RULER (arXiv:2404.06654), section 3. The wording is our own.
"""

from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Built, Materials, Plan, Rule
from mmneedle.texts.words import ADJECTIVES, NOUNS
from mmneedle.types import TextSample, TextSetting

_BEFORE = (
    "Facts about secret numbers are hidden in the text below. Read it; a question follows.\n\n"
)
_DIGITS = 7


class Niah:
    """Makes samples."""

    name: ClassVar[str] = "niah"
    rule: ClassVar[Rule] = "all"
    needs_corpus: ClassVar[bool] = True
    lengths: ClassVar[str] = "tokens"
    default_lengths: ClassVar[str] = "1k,2k,4k,8k"
    has_depth: ClassVar[bool] = True
    default_variants: ClassVar[tuple[str, ...]] = ("",)
    takes_questions: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        keys = self._keys(setting)
        if keys < setting.needles:
            raise UserError(f"{setting.name}: {setting.needles} needles of {keys} facts")
        if setting.depth < 0:
            raise UserError(f"{setting.name}: niah needs a depth")
        if setting.length < 128 + 32 * keys:
            raise UserError(
                f"{setting.name}: too short for {keys} facts; take {128 + 32 * keys} tokens or more"
            )

    def _keys(self, setting: TextSetting) -> int:
        """How many facts the text holds."""
        _, _, variant = setting.task.partition(".")
        if not variant:
            return setting.needles
        number = variant.removeprefix("keys")
        if not variant.startswith("keys") or not number.isdigit() or not 2 <= int(number) <= 1000:
            raise UserError(f"no variant {variant!r} of niah; there is keysN, such as keys8")
        return int(number)

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`; the text around the needles is the same at all depths."""
        draw = Draw(self.materials.seed, setting.task, setting.length, setting.needles, index)
        facts = self._facts(draw, self._keys(setting))
        asked, others = facts[: setting.needles], facts[setting.needles :]
        depth, k = setting.depth / 1000, setting.needles
        places = [depth + (1 - depth) * at / k for at in range(k)]
        places += [draw.below(1001) / 1000 for _ in others]
        needles = [(at, _sentence(*fact)) for at, fact in zip(places, facts, strict=True)]
        start = draw.below(1 << 32)
        question = _question([thing for thing, _ in asked])

        def build(length: int) -> Built:
            cut = self.materials.corpus.cut(start, length)
            text, starts = cut.insert(needles)
            details = {
                "haystack": [len(_BEFORE), len(_BEFORE) + len(text)],
                "depths": [round(at / max(1, len(text)), 4) for at in starts],
                "needles": [words for _, words in needles],
                "places": [len(_BEFORE) + at for at in starts],
            }
            return f"{_BEFORE}{text}\n\n{question}", cut.tokens, details

        fixed = [_BEFORE, question, *(words for _, words in needles)]
        expected = tuple((number,) for _, number in asked)
        plan = Plan(fixed, build, expected, _begin(asked[0][0]))
        return plan.sample(self.materials, setting, index)

    def _facts(self, draw: Draw, n: int) -> list[tuple[str, str]]:
        """n things with a number each; all differ, and no number stands in the corpus."""
        pairs = draw.some(range(len(ADJECTIVES) * len(NOUNS)), n)
        things = [f"{ADJECTIVES[p % len(ADJECTIVES)]} {NOUNS[p // len(ADJECTIVES)]}" for p in pairs]
        numbers: list[str] = []
        while len(numbers) < n:
            number = draw.digits(_DIGITS)
            if number not in numbers and not self.materials.corpus.holds_number(number):
                numbers.append(number)
        return list(zip(things, numbers, strict=True))


def _sentence(thing: str, number: str) -> str:
    return f"The secret number of the {thing} is {number}."


def _question(things: list[str]) -> str:
    if len(things) == 1:
        return f"What is the secret number of the {things[0]}? Answer with the number alone."
    named = ", ".join(f"the {thing}" for thing in things)
    return (
        f"What are the secret numbers of these {len(things)}: {named}? Answer with the numbers "
        "alone, in this order, separated by commas."
    )


def _begin(thing: str) -> str:
    return f"The secret number of the {thing} is"
