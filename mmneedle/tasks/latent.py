"""latent: needles that share no word with the question; knowledge of the world joins them.

"Clara lives right beside the Louvre." answers "Which character has been to Paris?" (one hop) and
"... to France?" (two). Variants name the hops, then what differs:

    onehop, twohop            the name comes first
    onehop_inv, twohop_inv    the name comes last
    ..._lit                   a sentence elsewhere repeats the question's words and answers nothing

Facts and questions are our own (`latent_pairs.toml`) or those of a file in the published format.

Source: A. Modarressi et al., NoLiMa (arXiv:2502.05167).
"""

from functools import cached_property
from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts.draw import Draw
from mmneedle.texts.latent_sets import HOPS, Pair, Pairs, own_pairs, read_pairs
from mmneedle.texts.making import Built, Materials, Plan, Rule
from mmneedle.types import TextSample, TextSetting

VARIANTS = tuple(
    f"{hops}{order}{literal}" for literal in ("", "_lit") for order in ("", "_inv") for hops in HOPS
)
_BEFORE = "Read the text below; a question about someone in it follows.\n\n"
_APART = 0.2
"""How far a distractor stands from the needle at least, as a share of the text; as published."""


class Latent:
    """Makes samples."""

    name: ClassVar[str] = "latent"
    rule: ClassVar[Rule] = "all"
    needs_corpus: ClassVar[bool] = True
    lengths: ClassVar[str] = "tokens"
    default_lengths: ClassVar[str] = "256,512,1k,2k,4k,8k"
    has_depth: ClassVar[bool] = True
    default_variants: ClassVar[tuple[str, ...]] = VARIANTS[:4]
    takes_questions: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self._usable: dict[tuple[str, bool], list[Pair]] = {}
        self._known: dict[str, bool] = {}

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        variant = _variant(setting)
        if variant not in VARIANTS:
            raise UserError(f"no variant {variant!r} of latent; there are {', '.join(VARIANTS)}")
        if setting.needles != 1:
            raise UserError(f"{setting.name}: latent has one needle: leave out --needles")
        if setting.depth < 0:
            raise UserError(f"{setting.name}: latent needs a depth")
        pairs = self._pairs(variant)
        if variant.endswith("_lit") and any(pair.distractor is None for pair in pairs):
            raise UserError(
                f"{self._set.name}: has no distractors for {variant}: leave out its variants _lit"
            )
        shortest = self._plan(setting, 0).least(self.materials.tokens)
        if setting.length < shortest:
            enough = -(-shortest // 64) * 64 + 64
            raise UserError(f"{setting.name}: too short; take {enough} tokens or more")

    @cached_property
    def _set(self) -> Pairs:
        files = self.materials.files
        if len(files) > 1:
            raise UserError("latent asks the questions of one file: give --questions once")
        return read_pairs(files[0]) if files else own_pairs()

    def _pairs(self, variant: str) -> list[Pair]:
        """Those of a variant that the haystack's text leaves open. Raises UserError."""
        key = variant.partition("_")[0], "_inv" in variant
        if key not in self._usable:
            found = self._set.pairs.get(key, [])
            if not found:
                raise UserError(
                    f"{self._set.name}: has no pairs for {variant}: leave it out of --variants"
                )
            usable = []
            for pair in found:
                names = tuple(name for name in pair.names if not self._told(name))
                if names and not any(map(self._told, pair.asked)):
                    usable.append(pair._replace(names=names))
            if not usable:
                raise UserError(
                    f"{self._set.name}: the haystack's text holds all names, or all that the "
                    "questions ask about: take another text"
                )
            self._usable[key] = usable
        return self._usable[key]

    def _told(self, words: str) -> bool:
        """Whether the haystack's text speaks of something, in any case of letters."""
        if words not in self._known:
            self._known[words] = words.casefold() in self._text
        return self._known[words]

    @cached_property
    def _text(self) -> str:
        return self.materials.corpus.text.casefold()

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`: the same fact, name and text at all depths, and whatever the variant."""
        return self._plan(setting, index).sample(self.materials, setting, index)

    def _plan(self, setting: TextSetting, index: int) -> Plan:
        pairs, seed = self._pairs(_variant(setting)), self.materials.seed
        order = Draw(seed, "latent", "pairs").order(len(pairs))
        pair = pairs[order[index % len(pairs)]]
        draw = Draw(seed, "latent", setting.length, index)
        name, start = draw.choice(pair.names), draw.below(1 << 32)
        depth = setting.depth / 1000
        needles = [(depth, pair.needle.replace("{name}", name))]
        elsewhere = _elsewhere(depth, draw)
        if _variant(setting).endswith("_lit") and pair.distractor is not None:
            needles.append((elsewhere, pair.distractor))
        question = f"{pair.question} Answer with the name alone."

        def build(length: int) -> Built:
            cut = self.materials.corpus.cut(start, length)
            text, starts = cut.insert(needles)
            details = {
                "haystack": [len(_BEFORE), len(_BEFORE) + len(text)],
                "needles": [words for _, words in needles],
                "places": [len(_BEFORE) + at for at in starts],
                "depths": [round(at / max(1, len(text)), 4) for at in starts],
            }
            return f"{_BEFORE}{text}\n\n{question}", cut.tokens, details

        fixed = [_BEFORE, question, *(words for _, words in needles)]
        return Plan(fixed, build, ((name,),), "The character is")


def _elsewhere(depth: float, draw: Draw) -> float:
    """A depth that is _APART from another, any such alike."""
    below, above = max(0.0, depth - _APART), max(0.0, 1 - depth - _APART)
    at = draw.below(1 << 20) / (1 << 20) * (below + above)
    return at if at < below else depth + _APART + at - below


def _variant(setting: TextSetting) -> str:
    return setting.task.partition(".")[2]
