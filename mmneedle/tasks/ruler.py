"""ruler: the thirteen configurations of RULER, length by length.

    niah_single_1..3      one fact: a word's number in noise, in a text; a word's UUID in a text
    niah_multikey_1..3    one of several keys: of four in a text; in a text that is all facts;
                          the same where keys and values are UUIDs
    niah_multivalue       all four values of one key
    niah_multiquery       the values of four keys
    vt                    variables that have one value, by way of four steps
    cwe, fwe              the ten common and the three most frequent words
    qa_1, qa_2            questions of a SQuAD and of a HotpotQA file among their documents

A sample's score is the share of its answers that were given (string_match_all); of the last two,
whether one of them was (string_match_part).

Source: C.-P. Hsieh et al., RULER (arXiv:2404.06654), section 3 and appendix. The wording is our
own; the words of cwe are coined, where the published ones are English.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts import hidden
from mmneedle.texts.documents import Fits, Library, asking
from mmneedle.texts.draw import Draw
from mmneedle.texts.frequencies import Vocabulary, common_words, frequent_words
from mmneedle.texts.hidden import Form, Haystacks
from mmneedle.texts.making import Materials, Plan, Rule
from mmneedle.texts.published import Question, kind_of, read_hotpot, read_squad
from mmneedle.types import TextSample, TextSetting

FACTS: dict[str, Form] = {
    "niah_single_1": Form("noise"),
    "niah_single_2": Form("essay"),
    "niah_single_3": Form("essay", values="uuids"),
    "niah_multikey_1": Form("essay", hidden=4),
    "niah_multikey_2": Form("facts"),
    "niah_multikey_3": Form("facts", "uuids", "uuids"),
    "niah_multivalue": Form("essay", each=4),
    "niah_multiquery": Form("essay", hidden=4, asked=4),
}
OF_FILES = {"qa_1": "SQuAD", "qa_2": "HotpotQA"}
_READERS = {"qa_1": read_squad, "qa_2": read_hotpot}
VARIANTS = (*FACTS, "vt", "cwe", "fwe", *OF_FILES)
_CHOICES: dict[str, tuple[str, ...]] = {
    "haystack": ("noise", "essay", "facts"),
    "keys": ("words", "uuids"),
    "values": ("words", "numbers", "uuids"),
}
_FEWEST_DOCUMENTS = 200
_LONG = 1 << 20
"""Tokens up to which there are words enough for any list."""
_TOKENS_A_DOCUMENT = 40
"""At least, about: documents are drawn from one for so many tokens of a prompt's length."""


class Ruler:
    """Makes samples."""

    name: ClassVar[str] = "ruler"
    rule: ClassVar[Rule] = "all"
    rules: ClassVar[dict[str, Rule]] = {"qa_1": "any", "qa_2": "any"}
    needs_corpus: ClassVar[bool] = True
    lengths: ClassVar[str] = "tokens"
    default_lengths: ClassVar[str] = "4k,8k,16k"
    has_depth: ClassVar[bool] = False
    default_variants: ClassVar[tuple[str, ...]] = tuple(v for v in VARIANTS if v not in OF_FILES)
    takes_questions: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = tuple(_CHOICES)

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self._libraries: dict[str, Library] = {}
        self._fits: dict[TextSetting, _Short] = {}

    @staticmethod
    def variants_of(file: Path) -> tuple[str, ...]:
        """What a file of questions adds. Raises UserError where it is of neither kind."""
        kind = kind_of(file)
        return tuple(name for name, wanted in OF_FILES.items() if wanted == kind)

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        variant = _variant(setting)
        if variant not in VARIANTS:
            raise UserError(f"no variant {variant!r} of ruler; there are {', '.join(VARIANTS)}")
        if setting.needles != 1 or setting.depth >= 0:
            raise UserError(
                f"{setting.name}: ruler's configurations have needles and depths of their own: "
                "leave out --needles"
            )
        for name, value in self.materials.options.items():
            if value not in _CHOICES[name]:
                raise UserError(f"--option {name} is {' or '.join(_CHOICES[name])}, not {value!r}")
        plan = self._made(setting, 0)
        shortest = plan.least(self.materials.tokens)
        if setting.length < shortest:
            enough = -(-shortest // 64) * 64 + 64  # other samples take a little more or less
            raise UserError(f"{setting.name}: too short; take {enough} tokens or more")
        if variant == "cwe" and setting.length > _LONG:
            _, longest, _ = plan.build(setting.length)
            if longest < 0.99 * setting.length:
                raise UserError(
                    f"{setting.name}: too long: there are words for a list of {longest:,} tokens"
                )

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`."""
        return self._made(setting, index).sample(self.materials, setting, index)

    def _made(self, setting: TextSetting, index: int) -> Plan:
        variant = _variant(setting)
        draw = Draw(self.materials.seed, setting.task, setting.length, index)
        if variant in FACTS:
            form = FACTS[variant]._replace(**self.materials.options)  # type: ignore[arg-type]
            return hidden.facts(self._haystacks, draw, form)
        if variant == "vt":
            return hidden.tracking(self._haystacks, draw)
        if variant == "cwe":
            return common_words(self._vocabulary, draw, setting.length)
        if variant == "fwe":
            return frequent_words(self._vocabulary, draw, setting.length)
        return self._asked(setting, draw, index)

    @cached_property
    def _haystacks(self) -> Haystacks:
        return Haystacks(self.materials)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.materials.tokens)

    # ------------------------------------------------------------------ files of questions

    def _library(self, variant: str) -> Library:
        """The documents of the file that a variant asks about. Raises UserError."""
        if variant not in self._libraries:
            kind = OF_FILES[variant]
            files = [file for file in self.materials.files if kind_of(file) == kind]
            if not files:
                raise UserError(
                    f"ruler.{variant} asks the questions of a file in {kind}'s format: add "
                    "--questions FILE, or leave it out of --variants"
                )
            read = _READERS[variant](files[0])
            self._libraries[variant] = Library(read, self.materials.tokens, self.materials.seed)
        return self._libraries[variant]

    def _asked(self, setting: TextSetting, draw: Draw, index: int) -> Plan:
        library = self._library(_variant(setting))
        fits = self._fits.setdefault(setting, _Short(setting.length))
        question = library.asked(index, fits)
        if question is None:
            raise UserError(
                f"{setting.name}: no question of the file has documents that fit into so few tokens"
            )
        pool = max(_FEWEST_DOCUMENTS, setting.length // _TOKENS_A_DOCUMENT)
        return asking(library, question, draw, pool)


class _Short(Fits):
    """Questions whose documents fit into so many tokens."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def wanted(self, library: Library, question: Question) -> bool:
        """See `Fits`."""
        return sum(map(library.tokens, question.gold)) + 128 <= self.length


def _variant(setting: TextSetting) -> str:
    return setting.task.partition(".")[2]
