"""passkey: a number in noise, to find out how long a text may get (`mmneedle passkey`).

Source: A. Mohtashami and M. Jaggi, "Landmark Attention" (arXiv:2305.16300), section 4; as a measure
of the effective context S. Chen et al., "Position Interpolation" (arXiv:2306.15595). The wording
is our own.
"""

from functools import cached_property
from typing import ClassVar

from mmneedle.errors import UserError
from mmneedle.texts.draw import Draw
from mmneedle.texts.hidden import Haystacks
from mmneedle.texts.making import Built, Materials, Plan, Rule
from mmneedle.types import TextSample, TextSetting

_BEFORE = "A pass key is told somewhere in the idle text below. Find it and keep it in mind.\n\n"
_QUESTION = "What is the pass key? Answer with the number alone."


class Passkey:
    """Makes samples."""

    name: ClassVar[str] = "passkey"
    rule: ClassVar[Rule] = "all"
    needs_corpus: ClassVar[bool] = False
    lengths: ClassVar[str] = "tokens"
    default_lengths: ClassVar[str] = "1k,2k,4k,8k"
    has_depth: ClassVar[bool] = False
    default_variants: ClassVar[tuple[str, ...]] = ("",)
    takes_questions: ClassVar[bool] = False
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    @cached_property
    def _haystacks(self) -> Haystacks:
        return Haystacks(self.materials)

    def check(self, setting: TextSetting) -> None:
        """See that such samples can be made. Raises UserError."""
        if setting.task != self.name:
            raise UserError(f"passkey has no variants, hence no {setting.task!r}")
        if setting.needles != 1 or setting.depth >= 0:
            raise UserError(f"{setting.name}: passkey has one needle, anywhere")
        shortest = self._plan(setting, 0).least(self.materials.tokens)
        if setting.length < shortest:
            enough = -(-shortest // 64) * 64
            raise UserError(f"{setting.name}: too short; take {enough} tokens or more")

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index`; depths of successive samples spread evenly."""
        return self._plan(setting, index).sample(self.materials, setting, index)

    def _plan(self, setting: TextSetting, index: int) -> Plan:
        key = Draw(self.materials.seed, "passkey", setting.length, index).digits(5)
        told = f"The pass key is {key}. Keep it in mind: {key} is the pass key."
        depth = _spread(index)
        noise = self._haystacks.noise

        def build(length: int) -> Built:
            cut = noise.cut(index, length)
            text, (start,) = cut.insert([(depth, told)])
            details = {
                "haystack": [len(_BEFORE), len(_BEFORE) + len(text)],
                "needles": [told],
                "places": [len(_BEFORE) + start],
                "depths": [round(start / max(1, len(text)), 4)],
            }
            return f"{_BEFORE}{text}\n\n{_QUESTION}", cut.tokens, details

        return Plan([_BEFORE, _QUESTION, told], build, ((key,),), "The pass key is")


def _spread(index: int) -> float:
    """1/2, 1/4, 3/4, 1/8, … (J. G. van der Corput's sequence): any first ones lie evenly."""
    index, share, step = index + 1, 0.0, 0.5
    while index:
        share += step * (index & 1)
        index >>= 1
        step /= 2
    return share
