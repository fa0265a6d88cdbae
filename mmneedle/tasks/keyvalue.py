"""keyvalue: one pair asked for among k random ones, wherever it stands.

A JSON object of k pairs of random UUIDs, and the question for the value of one key; a setting's
length counts pairs, its depth says where the key stands. Variants say where the question stands:

    after    after the object (the default)
    before   before it
    both     before and after it
    dict     a Python-like dictionary whose keys are numbers and words, after which the answer is
             asked for in a fixed form: "The value of KEY is VALUE."

Source: N. F. Liu et al., "Lost in the Middle" (arXiv:2307.03172), section 4: 75, 140 and 300
pairs, the value counts where it stands in the answer. Of `dict`: Z. Xiong et al., "From Artificial
Needles to Real Haystacks" (arXiv:2406.19292), where an answer template keeps a model to the task.
The wording is our own.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts.draw import Draw
from mmneedle.texts.making import Materials, Rule
from mmneedle.texts.words import ADJECTIVES, NOUNS
from mmneedle.types import TextSample, TextSetting, sample_id

VARIANTS = ("after", "before", "both", "dict")
MOST_PAIRS = 100_000
_MEASURED = 256
"""Pairs by which the tokens of a pair are known: to a quarter of a per cent for UUIDs."""
_COUNTED = 200
"""Pairs up to which a prompt's tokens are counted, not computed."""

Pair = tuple[str, str]


class KeyValue:
    """Makes samples."""

    name: ClassVar[str] = "keyvalue"
    rule: ClassVar[Rule] = "all"
    needs_corpus: ClassVar[bool] = False
    lengths: ClassVar[str] = "pairs"
    default_lengths: ClassVar[str] = "75,140,300"
    has_depth: ClassVar[bool] = True
    default_variants: ClassVar[tuple[str, ...]] = ("after",)
    takes_questions: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        if _variant(setting) not in VARIANTS:
            raise UserError(
                f"no variant {_variant(setting)!r} of keyvalue; there are {', '.join(VARIANTS)}"
            )
        if setting.depth < 0:
            raise UserError(f"{setting.name}: keyvalue needs a depth")
        if not 2 <= setting.length <= MOST_PAIRS:
            raise UserError(
                f"{setting.name}: its length counts pairs, from 2 to {MOST_PAIRS:,} "
                "(as published: 75, 140, 300)"
            )
        if not 1 <= setting.needles <= setting.length:
            raise UserError(f"{setting.name}: {setting.needles} needles of {setting.length} pairs")

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`: the pairs are those of all depths, and of all places of the question."""
        form = _dictionary if _variant(setting) == "dict" else _json
        kind = "dict" if form is _dictionary else "json"
        draw = Draw(self.materials.seed, "keyvalue", kind, setting.length, setting.needles, index)
        pairs = _PAIRS[kind](draw, setting.length)
        asked, others = pairs[: setting.needles], pairs[setting.needles :]
        items, places = _placed(asked, others, setting.depth / 1000)
        before, text, after = self._prompt(setting, form, items, [key for key, _ in asked])
        prompt = f"{before}{text}{after}"
        return TextSample(
            id=sample_id(setting, index),
            setting=setting,
            prompt=prompt,
            expected=tuple((value,) for _, value in asked),
            tokens=self._tokens(kind, prompt, f"{before}{after}", len(items)),
            begin=f"The value of {asked[0][0]} is",
            details={
                "haystack": [len(before) + 1, len(before) + len(text) - 1],  # within the braces
                "units": "entries" if kind == "dict" else "pairs",
                "items": places,
                "keys": [key for key, _ in asked],
            },
        )

    def _prompt(
        self,
        setting: TextSetting,
        form: Callable[[Sequence[Pair]], str],
        items: Sequence[Pair],
        keys: list[str],
    ) -> tuple[str, str, str]:
        """The prompt: what stands before the pairs, the pairs, what stands after them."""
        variant = _variant(setting)
        what = "Python dictionary" if variant == "dict" else "JSON object"
        question = _question(what, keys, template=variant == "dict")
        before = f"{question}\n\n" if variant in ("before", "both") else f"Here is a {what}.\n\n"
        after = "" if variant == "before" else f"\n\n{question}"
        return before, form(items), after

    def _tokens(self, kind: str, prompt: str, around: str, pairs: int) -> int:
        """A prompt's tokens; of a long one by what a pair takes."""
        tokens = self.materials.tokens
        if pairs <= _COUNTED:
            return tokens.count(prompt)
        return tokens.count(around) + round(pairs * self._per_pair[kind])

    @cached_property
    def _per_pair(self) -> dict[str, float]:
        """Mean tokens of a pair as it is written, by kind."""
        found = {}
        for kind, form in (("json", _json), ("dict", _dictionary)):
            pairs = _PAIRS[kind](Draw("tokens of a pair", kind), _MEASURED)
            found[kind] = self.materials.tokens.count(form(pairs)) / _MEASURED
        return found


def _variant(setting: TextSetting) -> str:
    return setting.task.partition(".")[2]


def _placed(
    asked: Sequence[Pair], others: Sequence[Pair], depth: float
) -> tuple[list[Pair], list[int]]:
    """The first asked pair at `depth`, further ones evenly from there to the end.

    The others keep their order whatever the depth. Returns the pairs in order, and which of them
    (from 0) the asked ones are.
    """
    last, k = len(asked) + len(others) - 1, len(asked)
    places: list[int] = []
    for number in range(k):
        wanted = round((depth + (1 - depth) * number / k) * last)
        free = max(wanted, places[-1] + 1 if places else 0)
        places.append(min(free, last - (k - 1 - number)))  # room for those that follow
    items = list(others)
    for place, pair in zip(places, asked, strict=True):  # ascending: nothing moves any more
        items.insert(place, pair)
    return items, places


def _question(what: str, keys: list[str], *, template: bool) -> str:
    if len(keys) == 1:
        asked = f"What is the value of the key {keys[0]} in the {what}?"
        form = f"The value of {keys[0]} is ___."
    else:
        asked = f"What are the values of these {len(keys)} keys in the {what}: {', '.join(keys)}?"
        form = " ".join(f"The value of {key} is ___." for key in keys)
    if template:
        return f"{asked} Answer in this form, with the value in place of the gap: {form}"
    several = "values alone, separated by commas" if len(keys) > 1 else "value alone"
    return f"{asked} Answer with the {several}."


# --------------------------------------------------------------------------- pairs


def _json(items: Sequence[Pair]) -> str:
    """One pair a line."""
    return "{" + ",\n ".join(f'"{key}": "{value}"' for key, value in items) + "}"


def _dictionary(items: Sequence[Pair]) -> str:
    """Keys of digits as numbers, others as strings; one line."""
    pairs = (f"{key}: {value}" if key.isdigit() else f"'{key}': {value}" for key, value in items)
    return "{" + ", ".join(pairs) + "}"


def _uuids(draw: Draw, k: int) -> list[Pair]:
    return [(draw.uuid(), draw.uuid()) for _ in range(k)]  # 122 random bits: never twice


def _numbers_and_words(draw: Draw, k: int) -> list[Pair]:
    """Keys: half of them numbers of six digits, the others three words; values: eight digits."""
    keys: dict[str, None] = {}
    while len(keys) < k // 2:
        keys[draw.digits(6)] = None
    while len(keys) < k:
        first, second = draw.some(ADJECTIVES, 2)
        keys[f"{first} {second} {draw.choice(NOUNS)}"] = None
    values: dict[str, None] = {}
    while len(values) < k:
        values[draw.digits(8)] = None
    return list(zip(draw.some(list(keys), k), values, strict=True))


_PAIRS: dict[str, Callable[[Draw, int], list[Pair]]] = {"json": _uuids, "dict": _numbers_and_words}
