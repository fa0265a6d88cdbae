"""latent: no word in common, one character, where the record says; published files."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from shell import Shell
from text_checks import length_lands, samples
from text_sets import maker, tokens

from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.tasks.latent import VARIANTS, _elsewhere
from mmneedle.texts.corpus import filler
from mmneedle.texts.dataset import TextDataSet
from mmneedle.texts.draw import Draw
from mmneedle.texts.effective import effective_lengths
from mmneedle.texts.latent_sets import HOPS, Pair, own_pairs
from mmneedle.texts.making import Maker
from mmneedle.texts.matching import normal, stands
from mmneedle.texts.scoring import score_text
from mmneedle.texts.tokens import Approximate, Tokens
from mmneedle.types import Response, TextSample, TextSetting


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def latent(counting: Tokens) -> Maker:
    return maker("latent", counting)


# --------------------------------------------------------------------------- no word in common

_WORDS = """
a an the and or not of in on at by for from to with without about than that this who which what
has have had been is are was were be as it its more most once should would may can right all
usually character
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
"""Words that tell nothing of a fact; every question asks for a character."""
ENDINGS = ("'s", "ing", "ies", "ed", "es", "s", "ly", "ian", "an", "ish", "er", "or", "ic", "e")


def stems(text: str) -> set[str]:
    found = set()
    for word in re.findall(r"[a-z']+", normal(text.replace("{name}", " "))):
        if word not in FUNCTION_WORDS:
            endings = [ending for ending in ENDINGS if word.endswith(ending)]
            short = {word[: -len(ending)] for ending in endings if len(word) - len(ending) >= 3}
            found |= {word, *short}
    return found


def shared(one: str, other: str) -> set[str]:
    """Stems that two texts have in common, or that begin alike."""
    return {
        f"{first}={second}"
        for first in stems(one)
        for second in stems(other)
        if first == second or (min(len(first), len(second)) >= 4 and first[:4] == second[:4])
    }


def test_what_counts_as_shared() -> None:
    assert shared("{name} lives in Norway.", "Which is a Norwegian?")
    assert shared("painted walls", "who painted the wall")
    assert not shared("{name} lives by the Louvre", "Which character has been to Paris?")


EVERY = [pair for pairs in own_pairs().pairs.values() for pair in pairs]


@pytest.mark.parametrize(
    "pair", EVERY, ids=lambda pair: f"{pair.needle[:40]} {pair.question[-20:]}"
)
def test_needle_and_question_share_no_word(pair: Pair) -> None:
    assert not shared(pair.needle, pair.question)
    assert "character" not in pair.needle


def test_there_are_sixty_pairs_and_more_of_each_kind() -> None:
    pairs = own_pairs().pairs
    assert set(pairs) == {(hops, last) for hops in HOPS for last in (False, True)}
    for some in pairs.values():
        assert len(some) >= 60
        assert len({pair.needle for pair in some}) == len(some)
    for (_, last), some in pairs.items():
        assert all(pair.needle.startswith("{name}") != last for pair in some)
        assert all(pair.needle.endswith("{name}.") == last for pair in some if last)


def test_distractors_repeat_the_question_and_name_nobody() -> None:
    for pair in EVERY:
        assert pair.distractor is not None
        words = stems(pair.question)
        assert len(words & stems(pair.distractor)) >= 0.6 * len(words)
        assert not any(name in pair.distractor for name in pair.names)
        assert not any(name in pair.question or name in pair.needle for name in pair.names)


# --------------------------------------------------------------------------- samples

SETTINGS = [
    TextSetting(f"latent.{variant}", length, depth)
    for variant in VARIANTS
    for length, depth in ((300, 0), (1000, 500), (5000, 1000), (5000, 330))
]


def read(sample: TextSample) -> list[str]:
    """Who knows the world finds the name: by the question, the facts that answer it."""
    question = sample.prompt.rpartition("\n\n")[2]
    found = set()
    for pair in EVERY:
        if question.startswith(pair.question):
            pattern = re.escape(pair.needle).replace(r"\{name\}", r"(\w+)")
            found |= set(re.findall(pattern, sample.prompt))
    return sorted(found)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_one_character_answers_where_the_record_says(
    latent: Maker, counting: Tokens, setting: TextSetting
) -> None:
    for sample in samples(latent, setting, 6):
        ((name,),) = sample.expected
        assert sample.prompt.count(name) == 1
        assert read(sample) == [name]
        for place, words in zip(sample.details["places"], sample.details["needles"], strict=True):
            assert sample.prompt[place:].startswith(words)
        assert name in sample.details["needles"][0]
        literal = setting.task.endswith("_lit")
        assert len(sample.details["needles"]) == 1 + literal
        if literal:
            assert not stands(normal(name), normal(sample.details["needles"][1]))
        length_lands(latent, counting, sample)
        verdict = score_text(setting, sample.expected, Response("ok", f"That is {name}."))
        assert verdict is not None and verdict.value == 1.0
        if setting.length >= 5000:
            assert abs(sample.details["depths"][0] - setting.depth / 1000) <= 0.01


@pytest.mark.parametrize("depth", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_distractors_stand_apart(depth: float) -> None:
    places = [_elsewhere(depth, Draw("x", number)) for number in range(200)]
    assert all(0 <= at <= 1 and abs(at - depth) >= 0.2 - 1e-9 for at in places)
    reach = [at for at in (0.0, 1.0) if abs(at - depth) >= 0.2]
    assert all(min(abs(at - end) for at in places) < 0.05 for end in reach)


def test_variants_and_depths_share_text_and_name(latent: Maker) -> None:
    def around(variant: str, depth: int) -> str:
        (sample,) = samples(latent, TextSetting(f"latent.{variant}", 5000, depth), 1)
        text = sample.prompt.rpartition("\n\n")[0]
        for words in sample.details["needles"]:
            text = text.replace(words, " ")
        return f"{sample.expected} {' '.join(text.split())[:15_000]}"

    variants = ("onehop", "twohop", "onehop_inv", "twohop_inv")
    assert len({around(variant, depth) for variant in variants for depth in (0, 500)}) == 1


def test_each_pair_is_asked_once_before_any_again(latent: Maker) -> None:
    count = len(own_pairs().pairs["onehop", False])
    made = samples(latent, TextSetting("latent.onehop", 300, 500), count)
    assert len({sample.prompt.rpartition("\n\n")[2] for sample in made}) == count


def test_what_the_text_tells_is_not_asked() -> None:
    text = filler(1, 2000) + " Clara said that France and Paris are nice. A dog barked."
    made = samples(maker("latent", Approximate(), text), TextSetting("latent.onehop", 300, 0), 90)
    prompts = " ".join(sample.prompt.rpartition("\n\n")[2] for sample in made)
    assert "Paris" not in prompts and "a dog" not in prompts and "Rome" in prompts
    assert ("Clara",) not in {words for sample in made for words in sample.expected}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("latent", 1000, 0), "no variant ''"),
        (TextSetting("latent.threehop", 1000, 0), "no variant 'threehop'.*onehop, twohop"),
        (TextSetting("latent.onehop", 20, 0), "too short; take"),
        (TextSetting("latent.onehop", 1000, 0, 2), "leave out --needles"),
        (TextSetting("latent.onehop", 1000, -1), "needs a depth"),
    ],
    ids=str,
)
def test_what_cannot_be_made(latent: Maker, setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        latent.check(setting)


# --------------------------------------------------------------------------- published files


def published(path: Path, **changes: Any) -> Path:
    first = {
        "id": "0101",
        "reasoning_type": "world_knowledge",
        "system_prompt": "",
        "task_template": "{haystack} {question}",
        "needle": "Actually, {CHAR} has a desk in front of {1}.",
        "questions": {"onehop": "Which character was in {2}?", "twohop": "Who was in {3}?"},
        "character_set": ["Yoko", "Stan"],
        "tests": {
            "T01_C02": {"input_args": ["the Eiffel Tower", "Paris", "France"]},
            "T02_C02": {"input_args": ["Big Ben", "London", "England"]},
        },
    }
    turned = {**first, "id": "0101Inv", "needle": "{1} stands where {CHAR} has a desk."}
    turned["distractors"] = {"onehop": "A report told about {2}.", "twohop": "One about {3}."}
    path.write_text(json.dumps([first | changes, turned]))
    return path


def test_a_file_in_the_published_format(tmp_path: Path) -> None:
    file = published(tmp_path / "needle_set.json")
    latent = maker("latent", Approximate(), files=(file,))
    made = samples(latent, TextSetting("latent.twohop_inv_lit", 600, 500), 2)
    assert {sample.prompt.rpartition("\n\n")[2][:20] for sample in made} == {
        "Who was in France? A",
        "Who was in England? ",
    }
    for sample in made:
        assert re.search(r"(Tower|Ben) stands where (Yoko|Stan) has a desk\.", sample.prompt)
        assert "One about" in sample.prompt
    with pytest.raises(UserError, match="has no distractors for onehop_lit"):
        latent.check(TextSetting("latent.onehop_lit", 600, 0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"needle": "Nobody is there."}, r"\$\[0\] \(id 0101\): needle lacks \{CHAR\}"),
        ({"character_set": []}, "character_set is empty"),
        ({"tests": {"T1": {"input_args": ["x"]}}}, r"tests.T1: input_args has 1 entries, \{2\}"),
        ({"tests": {"T1": {}}}, r"missing required field `input_args` - at `\$\[0\].tests"),
        ({"questions": []}, "Expected `object`.*questions"),
    ],
)
def test_a_wrong_file_is_one_line(mmneedle: Shell, changes: dict[str, Any], said: str) -> None:
    published(Path("bad.json"), **changes)
    told = mmneedle.refused("build-text", "set", "latent", "--questions", "bad.json")
    assert re.search(said, told), told


# --------------------------------------------------------------------------- as a user


def test_the_base_score_and_the_effective_length(mmneedle: Shell) -> None:
    mmneedle.ok(
        "build-text", "set", "latent", "--lengths", "256,512,2k,4k", "--depths", "50",
        "--samples", 10, "--variants", "onehop",
    )  # fmt: skip
    dataset = TextDataSet.open("set")
    right = {256: 7, 512: 8, 2048: 7, 4096: 6}
    lines = [
        {"sample": s.id, "text": s.expected[0][0] if index < right[setting.length] else "nobody"}
        for setting in dataset.settings
        for index, s in enumerate(dataset.samples(setting))
    ]
    Path("said.jsonl").write_text("\n".join(map(json.dumps, lines)))
    mmneedle.ok("run", "set", "--model", "baseline/scripted?file=said.jsonl", "--log", "run")
    (found,) = effective_lengths([Run.open("run")])
    assert (found.base, found.threshold) == (0.8, pytest.approx(0.68))
    assert found.length == 2048
    printed = mmneedle.ok("effective", "run")
    assert "threshold 68.0 % (0.85 of the base score 80.0 %)" in printed
    assert "effective length: 2,048 tokens; the data cannot tell" in printed
