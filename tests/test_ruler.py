"""ruler: each configuration as published, with answers that a reader of the text finds."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from question_files import hotpot, squad
from rounds import examples
from shell import Shell
from text_checks import length_lands, samples
from text_sets import maker, prefixing, tokens

from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.tasks.ruler import FACTS, VARIANTS, Ruler
from mmneedle.texts.coined import WORDS, coined, piece_tokens
from mmneedle.texts.draw import Draw
from mmneedle.texts.frequencies import Vocabulary, coded_text, numbered_list
from mmneedle.texts.making import Maker
from mmneedle.texts.matching import normal, stands
from mmneedle.texts.scoring import rule_of, score_text, score_text_run
from mmneedle.texts.tokens import Approximate, Tokens
from mmneedle.types import Response, TextSample, TextSetting


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("questions")
    return squad(folder / "squad.json"), hotpot(folder / "hotpot.json")


@pytest.fixture(scope="module")
def ruler(counting: Tokens, files: tuple[Path, Path]) -> Maker:
    return maker("ruler", counting, files=files)


SETTINGS = [
    TextSetting(f"ruler.{variant}", length)
    for variant in VARIANTS
    for length in (1500, 4200, 12_000)
]


def body(prompt: str) -> tuple[str, str]:
    """The text that is asked about, and the question."""
    text, _, question = prompt.rpartition("\n\n")
    return re.split(r"\n\nNow the (?:text|list)\.\n\n", text)[-1], question


def read(sample: TextSample) -> list[str]:
    """What a reader of the prompt finds, by the prompt alone."""
    text, question = body(sample.prompt)
    variant = sample.setting.task.partition(".")[2]
    if variant == "vt":
        found = re.findall(r"value (\d+)", question)
        for name, source in re.findall(r"Set ([A-Z]{5}) = (\w+)\.", text):
            if source in found:
                found.append(name)
        return found[1:]
    if variant in ("cwe", "fwe"):
        counts = Counter(
            re.findall(r"[a-z]{6}", text if variant == "cwe" else text.split("\n\n")[-1])
        )
        return [word for word, _ in counts.most_common(10 if variant == "cwe" else 3)]
    if variant == "qa_1":
        (town,) = re.findall(r"mill of (\w+) built", question)
        return re.findall(rf"mill of {town} was built in (\d+)", text)
    if variant == "qa_2":
        (mayor,) = re.findall(r"Mayor \d+", question)
        (town,) = re.findall(rf"{mayor} was born in (\w+)\.", text)
        return re.findall(rf"{town} lies on the river (\w+)\.", text)
    keys = re.findall(
        r"(?:of|,|:) ((?:the )?[a-z]+ [a-z]+ [a-z]+|[0-9a-f-]{36})(?=[?,:])", question
    )
    return [
        value
        for key in keys
        for value in re.findall(
            rf"secret \w+ of {key} is (\S+)\.|secret \w+s of {key} is (\S+)\.", text
        )
        for value in value
        if value
    ]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_a_reader_has_all_points_and_lengths_land(
    ruler: Maker, counting: Tokens, setting: TextSetting
) -> None:
    for sample in samples(ruler, setting, 3):
        found = read(sample)
        assert len(found) == len(sample.expected)
        verdict = score_text(setting, sample.expected, Response("ok", ", ".join(found)))
        assert verdict is not None and verdict.value == 1.0
        length_lands(ruler, counting, sample)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_answers_stand_where_the_record_says_and_nowhere_else(
    ruler: Maker, setting: TextSetting
) -> None:
    variant = setting.task.partition(".")[2]
    for sample in samples(ruler, setting, 3):
        text, question = body(sample.prompt)
        answers = [word for words in sample.expected for word in words]
        assert not any(stands(normal(answer), normal(question)) for answer in answers)
        if variant in FACTS:
            told, places = sample.details["needles"], sample.details["places"]
            for place, fact in zip(places, told, strict=True):
                assert sample.prompt[place:].startswith(fact)
            assert all(text.count(answer) == 1 for answer in answers)
            holding = [answer for answer in answers if sum(answer in fact for fact in told) == 1]
            assert holding == answers
        elif variant == "vt":
            places = sample.details["places"]
            assert places == sorted(places)
            first = re.findall(r"value (\d+)", question)[0]
            assert text.count(first) == 1 and len(set(answers)) == 5
        elif variant in ("qa_1", "qa_2"):
            documents = re.split(r"(?:^|\n\n)Document \d+: ", text)[1:]
            assert len(documents) == sample.details["documents"]
            holding = [
                number
                for number, document in enumerate(documents, 1)
                if any(stands(normal(a, True), normal(document, True)) for a in answers)
            ]
            assert holding and set(holding) <= set(sample.details["gold"])
            for number, place in zip(sample.details["gold"], sample.details["places"], strict=True):
                assert sample.prompt[place:].startswith(f"Document {number}: ")


def test_lists_hold_words_as_often_as_published(ruler: Maker) -> None:
    for length, common, uncommon in ((2000, 6, 1), (8000, 30, 3)):
        (sample,) = samples(ruler, TextSetting("ruler.cwe", length), 1)
        text, _ = body(sample.prompt)
        counts = Counter(re.findall(r"\d+\. ([a-z]+)", text))
        top = {word for (word,) in sample.expected}
        assert {counts.pop(word) for word in top} == {common}
        assert set(counts.values()) == {uncommon}
        numbers = [int(number) for number in re.findall(r"(\d+)\. ", text)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_coded_words_fall_with_the_square_of_their_rank(ruler: Maker) -> None:
    (sample,) = samples(ruler, TextSetting("ruler.fwe", 12_000), 1)
    words = body(sample.prompt)[0].split("\n\n")[-1].split()
    counts = [count for _, count in Counter(words).most_common(6)]
    assert Counter(words).most_common(1)[0][0] == "..."
    for rank, count in enumerate(counts[1:], 2):
        assert abs(count - counts[0] / rank**2) <= 0.02 * counts[0]


def test_the_rule_of_each_variant() -> None:
    rules = {variant: rule_of(TextSetting(f"ruler.{variant}", 1000)) for variant in VARIANTS}
    assert {name for name, rule in rules.items() if rule == "any"} == {"qa_1", "qa_2"}
    setting = TextSetting("ruler.niah_multivalue", 1000)
    half = score_text(setting, (("11",), ("22",)), Response("ok", "22"))
    assert half is not None and half.value == 0.5


def test_values_and_haystacks_as_chosen(counting: Tokens) -> None:
    setting = TextSetting("ruler.niah_single_1", 3000)
    chosen = maker("ruler", counting, options={"haystack": "facts", "values": "words"})
    (sample,) = samples(chosen, setting, 1)
    assert re.fullmatch(r"[a-z]+ [a-z]+ [a-z]+", sample.expected[0][0])
    assert sample.prompt.count("The secret word of") > 50
    wrong = maker("ruler", counting, options={"keys": "numbers"})
    with pytest.raises(UserError, match="--option keys is words or uuids, not 'numbers'"):
        wrong.check(setting)


def test_each_question_is_asked_once_before_any_comes_again(ruler: Maker) -> None:
    for variant in ("qa_1", "qa_2"):
        made = [ruler.sample(TextSetting(f"ruler.{variant}", 2000), index) for index in range(16)]
        questions = [body(sample.prompt)[1] for sample in made]
        assert len(set(questions[:8])) == 8
        assert questions[:8] == questions[8:]
        assert len({sample.prompt for sample in made}) == 16


def test_the_same_every_time(counting: Tokens, files: tuple[Path, Path]) -> None:
    one, other = (maker("ruler", counting, files=files) for _ in range(2))
    some = [setting for setting in SETTINGS if setting.length == 4200]
    for setting in some[::-1]:  # whatever was made before
        other.sample(setting, 7)
    for setting in some:
        assert one.sample(setting, 3) == other.sample(setting, 3)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("ruler.niah_single_4", 4000), "no variant 'niah_single_4' of ruler"),
        (TextSetting("ruler.vt", 100), "too short; take"),
        (TextSetting("ruler.cwe", 400), "too short; take"),
        (TextSetting("ruler.fwe", 150), "too short; take"),
        (TextSetting("ruler.vt", 4000, -1, 2), "needles and depths of their own"),
        (TextSetting("ruler.qa_1", 4000), "asks the questions of a file in SQuAD's format"),
    ],
    ids=str,
)
def test_what_cannot_be_made(setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        maker("ruler", Approximate()).check(setting)


def test_what_is_told_to_be_too_short_can_be_made_when_it_is_that_long() -> None:
    ruler = maker("ruler", Approximate())
    for variant in Ruler.default_variants:
        with pytest.raises(UserError, match=r"take (\d+) tokens") as told:
            ruler.check(TextSetting(f"ruler.{variant}", 20))
        least = int(re.findall(r"take (\d+)", str(told.value))[0])
        samples(ruler, TextSetting(f"ruler.{variant}", least), 5)


# --------------------------------------------------------------------------- words


def test_coined_words_differ() -> None:
    assert len(set(coined(WORDS))) == len(coined(WORDS)) == WORDS
    assert coined(300) == coined(5000)[: len(coined(300))]
    assert all(re.fullmatch("([b-z][aeiou]){3}", word) for word in coined(500))
    with pytest.raises(ValueError, match="words of"):
        coined(WORDS + 1)


@given(st.lists(st.text(st.sampled_from("ab é語. "), max_size=6), max_size=30))
def test_pieces_tokens_are_those_of_the_text(pieces: list[str]) -> None:
    found = piece_tokens(Approximate(), pieces)
    assert (found.sum(), len(found)) == (Approximate().count("".join(pieces)), len(pieces))


@examples(30)
@given(room=st.integers(1, 6000), seed=st.integers(0, 99))
def test_words_have_room(room: int, seed: int) -> None:
    vocabulary = Vocabulary(Approximate())
    words = vocabulary.drawn(Draw(seed), 6000, 6000)
    listed = numbered_list(vocabulary, words, (6, 1), room, Draw(seed))
    coded = coded_text(vocabulary, words, 6000, room, Draw(seed))
    for made, least in ((listed, 70), (coded, 105)):
        assert sum(made.counts().values()) >= least
        if room > 700:  # that of the shortest
            assert (
                abs(Approximate().count(made.text) - room) <= 0.02 * room + 8
            )  # `fitted` mends it
    times = list(coded.counts().values())
    assert times == sorted(times, reverse=True)
    top = times[:5]
    assert len(set(top[1:])) == len(top[1:])


# --------------------------------------------------------------------------- as a user


def test_all_thirteen_from_the_recipe_to_the_scores(
    mmneedle: Shell, files: tuple[Path, Path]
) -> None:
    first, second = files
    made = mmneedle.ok(
        "build-text", "set", "ruler", "--lengths", "2k", "--samples", 2,
        "--questions", first, "--questions", second,
    )  # fmt: skip
    assert "13 settings, 26 samples" in made
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet")
    rows = score_text_run(Run.open("run"))
    assert {row.task for row in rows} == {f"ruler.{variant}" for variant in VARIANTS}
    assert {row.score for row in rows} == {1.0}
    assert "mean of 13         100  26" in mmneedle.ok("score", "run")


def test_without_files_there_are_eleven(mmneedle: Shell) -> None:
    made = mmneedle.ok("build-text", "set", "ruler", "--lengths", "2k", "--samples", 1)
    assert "11 settings" in made
    refused = mmneedle.refused("build-text", "b", "ruler", "--variants", "qa_2")
    assert "HotpotQA's format: add --questions" in refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": 1}]}]}]}', "qas"),
        (b'{"data": [\n{"paragraphs": [}\n]}', "line 2: JSON is malformed"),
        (b'{"date": []}', "missing required field `data`"),
        (b'{"data": []}', "holds no question"),
        (b'[{"question": "q", "answer": "a", "context": []}]', "supporting_facts"),
        (
            b'[{"question": "q", "answer": "a", "context": [["t"]], "supporting_facts": []}]',
            "context",
        ),
        (b"\x00\x01binary", "neither SQuAD's"),
        (b"", "neither SQuAD's"),
        (b"\x1f\x8b broken", "cannot be read"),
        (b'{"data": "\xff"}', "test.json: "),
        (b"[" * 100_000, "test.json: "),
    ],
)
def test_a_wrong_file_is_one_line(mmneedle: Shell, content: bytes, said: str) -> None:
    Path("test.json").write_bytes(content)
    done = mmneedle.refused(
        "build-text", "set", "ruler", "--lengths", "2k", "--questions", "test.json"
    )
    assert said in done and "test.json" in done


def test_a_file_that_is_not_there(mmneedle: Shell) -> None:
    refused = mmneedle.refused("build-text", "set", "ruler", "--questions", "none.json")
    assert "none.json: cannot be read (No such file" in refused


@pytest.mark.parametrize("variant", ["cwe", "fwe", "vt", "niah_multikey_3", "qa_1", "qa_2"])
def test_lengths_land_by_a_tokenizer_that_begins_texts_with_a_space(
    variant: str, files: tuple[Path, Path]
) -> None:
    counting = prefixing()
    made = maker("ruler", counting, files=files)
    for length in (5000, 60_000):
        for sample in samples(made, TextSetting(f"ruler.{variant}", length), 2):
            length_lands(made, counting, sample)


def test_empty_and_tiny_documents(tmp_path: Path) -> None:
    wrong = json.loads(squad(tmp_path / "squad.json").read_text())
    paragraphs = wrong["data"][0]["paragraphs"]
    tiny = [{"context": text, "qas": []} for text in ("", "\U0001f600", "x")]
    wrong["data"][0]["paragraphs"] = [paragraphs[0], *tiny]
    (tmp_path / "squad.json").write_text(json.dumps(wrong))
    made = maker("ruler", prefixing(), files=(tmp_path / "squad.json",))
    for length in range(2000, 2200, 20):
        for sample in samples(made, TextSetting("ruler.qa_1", length), 2):
            length_lands(made, prefixing(), sample)


def test_more_words_than_there_are() -> None:
    made = maker("ruler", Approximate())
    made.check(TextSetting("ruler.cwe", 1 << 20))
    with pytest.raises(UserError, match="too long: there are words for a list of 1,4"):
        made.check(TextSetting("ruler.cwe", 1 << 21))
