"""Pairs of a fact and a question that share no word: our own, and files in NoLiMa's format.

The format is that of needle_set.json (A. Modarressi et al., NoLiMa, arXiv:2502.05167): a list of
sets, each with a `needle` that holds {CHAR} and {1}, `questions` by hops, a `character_set` and
`tests` whose `input_args` fill {1}, {2}, {3}; sets whose id ends in "Inv" have the name last;
`distractors` by hops are optional.
"""

import re
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import msgspec

from mmneedle.errors import UserError
from mmneedle.texts.published import whole_json

HOPS = ("onehop", "twohop")
_GAP = re.compile(r"\{(\d+)\}")


class Pair(NamedTuple):
    """A fact and the question about it; "{name}" stands for the character's name."""

    needle: str
    question: str
    distractor: str | None
    """Repeats the question's words, and answers nothing."""
    asked: tuple[str, ...]
    """What the questions about the fact name, and the haystack should not."""
    names: tuple[str, ...]


class Pairs(NamedTuple):
    """All pairs of a set, by hops and order."""

    name: str
    pairs: dict[tuple[str, bool], list[Pair]]
    """(one of HOPS, whether the name comes last) -> pairs."""


# --------------------------------------------------------------------------- our own


class _Group(msgspec.Struct):
    name: str
    needle: str
    inverted: str
    question: str
    distractor: str
    pairs: list[tuple[str, str, str]]
    two_hops: str | None = None
    """The question over two hops, where it is worded otherwise."""
    two_hops_distractor: str | None = None


class _Own(msgspec.Struct):
    names: tuple[str, ...]
    groups: list[_Group]


def own_pairs() -> Pairs:
    """The set that comes along."""
    content = files("mmneedle.tasks").joinpath("latent_pairs.toml").read_text("utf-8")
    own = msgspec.convert(tomllib.loads(content), _Own)
    pairs: dict[tuple[str, bool], list[Pair]] = {}
    for group in own.groups:
        for fact, *asked in group.pairs:
            for hops, what in zip(HOPS, asked, strict=True):
                question, distractor = group.question, group.distractor
                if hops == "twohop":
                    question = group.two_hops or question
                    distractor = group.two_hops_distractor or distractor
                for last, needle in ((False, group.needle), (True, group.inverted)):
                    pair = Pair(
                        needle.replace("{fact}", fact),
                        question.replace("{asked}", what),
                        distractor.replace("{asked}", what),
                        tuple(asked),
                        own.names,
                    )
                    pairs.setdefault((hops, last), []).append(pair)
    return Pairs("latent_pairs.toml", pairs)


# --------------------------------------------------------------------------- published


class _Test(msgspec.Struct):
    input_args: list[str]


class _Set(msgspec.Struct):
    id: str
    needle: str
    questions: dict[str, str]
    character_set: list[str]
    tests: dict[str, _Test]
    distractors: dict[str, str] = {}


def read_pairs(path: Path) -> Pairs:
    """Read a file in NoLiMa's format. Raises UserError naming the set and the field."""
    sets: list[_Set] = whole_json(path, list[_Set], "NoLiMa")
    pairs: dict[tuple[str, bool], list[Pair]] = {}
    for number, one in enumerate(sets):
        where = f"{path}: $[{number}] (id {one.id})"
        if "{CHAR}" not in one.needle:
            raise UserError(f"{where}: needle lacks {{CHAR}}")
        names = tuple(name.strip() for name in one.character_set if name.strip())
        if not names:
            raise UserError(f"{where}: character_set is empty")
        for test, given in one.tests.items():
            for hops in HOPS:
                if hops in one.questions:
                    last = one.id.lower().endswith("inv")
                    pair = _filled(one, hops, given.input_args, names, f"{where}, tests.{test}")
                    pairs.setdefault((hops, last), []).append(pair)
    if not pairs:
        raise UserError(f"{path}: holds no question over one hop or two (onehop, twohop)")
    return Pairs(path.name, pairs)


def _filled(one: _Set, hops: str, given: Sequence[str], names: tuple[str, ...], where: str) -> Pair:
    def fill(text: str) -> str:
        for gap in _GAP.findall(text):
            if not 1 <= int(gap) <= len(given):
                raise UserError(f"{where}: input_args has {len(given)} entries, {{{gap}}} is used")
        return _GAP.sub(lambda gap: given[int(gap[1]) - 1], text)

    question = one.questions[hops]
    gaps = [gap for text in one.questions.values() for gap in _GAP.findall(text)]
    distractor = one.distractors.get(hops)
    return Pair(
        fill(one.needle).replace("{CHAR}", "{name}"),
        fill(question),
        None if distractor is None else fill(distractor),
        tuple(given[int(gap) - 1] for gap in gaps if int(gap) <= len(given)),
        names,
    )
