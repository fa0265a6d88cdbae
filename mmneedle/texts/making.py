"""What makers of text samples share: materials, and hitting a length."""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import msgspec

from mmneedle.errors import UserError
from mmneedle.texts.corpus import Corpus
from mmneedle.texts.tokens import Tokens
from mmneedle.types import TextSample, TextSetting, sample_id

Rule = Literal["all", "any"]
"""all: the share of needles whose answer was given; any: 1 where one of them was."""


class Materials(msgspec.Struct, frozen=True, dict=True):
    """What samples are made of."""

    seed: int
    tokens: Tokens
    text: str | None = None
    """The haystack text, where the task takes one."""
    files: tuple[Path, ...] = ()
    """Files of questions in a published format, where the task takes them."""
    options: dict[str, str] = {}
    """What else the task was told."""

    @cached_property
    def corpus(self) -> Corpus:
        """The haystack text, ready to be cut."""
        if self.text is None:
            raise UserError("this task needs a haystack text")
        return Corpus(self.text, self.tokens)


class Maker(Protocol):
    """A text task: one class a module of tasks/."""

    name: ClassVar[str]
    rule: ClassVar[Rule]
    needs_corpus: ClassVar[bool]
    lengths: ClassVar[str]
    """What a setting's length counts: tokens, pairs, documents."""
    default_lengths: ClassVar[str]
    """Asked for where the user names none, as `arguments.lengths` reads them."""
    has_depth: ClassVar[bool]
    """Whether its needle has a single place; else one setting a length."""
    default_variants: ClassVar[tuple[str, ...]]
    """Asked for where the user names none; "" is the task itself."""
    takes_questions: ClassVar[bool]
    """Whether it asks questions of a file in a published format."""
    option_names: ClassVar[tuple[str, ...]]
    """What else it can be told."""
    materials: Materials

    def __init__(self, materials: Materials) -> None: ...

    def check(self, setting: TextSetting) -> None:
        """See that samples of a setting can be made. Raises UserError, naming the way out."""
        ...

    def sample(self, setting: TextSetting, index: int) -> TextSample:
        """Sample `index` of a setting: the same one every time."""
        ...


Built = tuple[str, int, dict[str, Any]]
"""A prompt, how many tokens of it are the haystack's, its details."""


class Plan(NamedTuple):
    """A sample before its length is known."""

    fixed: list[str]
    """What stands around or in the haystack whatever its length."""
    build: Callable[[int], Built]
    """Tokens of haystack -> a prompt; as short as it can be for fewer than are needed."""
    expected: tuple[tuple[str, ...], ...]
    """As a `TextSample` has it, as is the next."""
    begin: str

    def least(self, tokens: Tokens) -> int:
        """The shortest prompt worth asking, in tokens: one with a few sentences of haystack."""
        return tokens.count(self.build(1)[0]) + _SOME_HAYSTACK

    def sample(self, materials: Materials, setting: TextSetting, index: int) -> TextSample:
        """The sample at its setting's length."""
        prompt, tokens, details = fitted(materials, setting.length, self.fixed, self.build)
        return TextSample(
            id=sample_id(setting, index),
            setting=setting,
            prompt=prompt,
            expected=self.expected,
            tokens=tokens,
            begin=self.begin,
            details=details,
        )


_SOME_HAYSTACK = 32
_COUNTED = 4096
"""Tokens up to which prompts are counted as a whole: beyond, seams are lost in one per cent."""


def fitted(
    materials: Materials, length: int, fixed: Iterable[str], build: Callable[[int], Built]
) -> Built:
    """A prompt of `length` tokens: as much haystack as the fixed parts leave room for.

    Tokens of parts do not quite add up to those of the whole (words join at the seams). A long
    text is not tokenised again for that; a short one is, and what it is off by is made good.

    Args:
        materials: their tokens count.
        length: tokens of the whole.
        fixed: what stands around or in the haystack whatever its length.
        build: tokens of haystack -> a prompt.

    Returns:
        The prompt, its tokens, its details.
    """
    count = materials.tokens.count
    lead = 2 * count(" abc") - count(" abc abc")  # what a tokenizer puts before a text of its own
    around = sum(count(f" {part}") - lead for part in fixed)
    room = length - around
    prompt, tokens, details = build(max(1, room))
    if length > _COUNTED:
        return prompt, tokens + around, details
    best: Built | None = None
    for _ in range(5):
        tokens = materials.tokens.count(prompt)
        if best is None or abs(tokens - length) < abs(best[1] - length):
            best = prompt, tokens, details
        if abs(tokens - length) <= length * 0.004:
            break
        room += length - tokens
        prompt, _, details = build(max(1, room))
    assert best is not None
    return best
