"""niah: one answer, where the record says, at the length and depth that were asked for."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rounds import examples
from text_checks import length_lands, samples
from text_sets import maker, prefixing, tokens

from mmneedle.errors import UserError
from mmneedle.texts.corpus import LONGEST, Corpus, filler
from mmneedle.texts.making import Maker
from mmneedle.texts.tokens import Approximate, Tokens
from mmneedle.types import TextSetting


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def niah(counting: Tokens) -> Maker:
    return maker("niah", counting)


LENGTHS = (512, 1000, 4096, 4097, 20_000)
SETTINGS = [
    TextSetting(task, length, depth, k)
    for length in LENGTHS
    for depth in (0, 330, 1000)
    for task, k in (("niah", 1), ("niah.keys8", 1), ("niah.keys8", 3), ("niah", 4))
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_each_answer_stands_once_where_the_record_says(niah: Maker, setting: TextSetting) -> None:
    niah.check(setting)
    for index in range(3):
        sample = niah.sample(setting, index)
        assert len(sample.expected) == setting.needles
        for (answer,), place, words in zip(
            sample.expected, sample.details["places"], sample.details["needles"], strict=False
        ):
            assert sample.prompt.count(answer) == 1
            assert sample.prompt[place:].startswith(words)
            assert answer in words
        for place, words in zip(sample.details["places"], sample.details["needles"], strict=True):
            assert sample.prompt[place:].startswith(words)
            assert sample.prompt[place - 1].isspace()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_lengths_land_within_one_per_cent(
    niah: Maker, counting: Tokens, setting: TextSetting
) -> None:
    for index in range(3):
        sample = niah.sample(setting, index)
        counted = counting.count(sample.prompt)
        assert abs(counted - setting.length) <= 0.01 * setting.length
        assert abs(counted - sample.tokens) <= 0.01 * setting.length


@pytest.mark.parametrize("depth", [0, 100, 500, 999, 1000])
def test_the_needle_is_within_a_sentence_of_its_depth(niah: Maker, depth: int) -> None:
    for index in range(4):
        sample = niah.sample(TextSetting("niah", 4000, depth), index)
        text, _, _ = sample.prompt.partition("\n\nWhat is")
        haystack = text.split("\n\n", 1)[1]
        place = haystack.index(sample.details["needles"][0])
        longest = max(map(len, haystack.split(". ")))
        assert abs(place - depth / 1000 * len(haystack)) <= 1.5 * longest


def test_the_text_is_the_same_at_all_depths(niah: Maker) -> None:
    def without(depth: int) -> str:
        sample = niah.sample(TextSetting("niah", 3000, depth), 2)
        return " ".join(sample.prompt.replace(sample.details["needles"][0], " ").split())

    assert len({without(depth) for depth in (0, 250, 500, 1000)}) == 1


def test_samples_are_the_same_every_time_and_differ(niah: Maker, counting: Tokens) -> None:
    again = maker("niah", counting)
    setting = TextSetting("niah", 700, 500)
    one = [niah.sample(setting, index) for index in range(6)]
    assert one == [again.sample(setting, index) for index in range(6)]
    assert len({sample.expected for sample in one}) == 6
    assert len({sample.prompt for sample in one}) == 6


@examples(60)
@given(
    text=st.text(alphabet=st.sampled_from("abc .!?\n\"'é語"), min_size=1, max_size=300),
    start=st.integers(0, 1 << 32),
    length=st.integers(1, 400),
    depths=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_a_cut_and_its_needles_whatever_the_text(
    text: str, start: int, length: int, depths: list[float]
) -> None:
    if not text.strip():
        with pytest.raises(UserError, match="empty"):
            Corpus(text, Approximate())
        return
    cut = Corpus(text, Approximate()).cut(start, length)
    assert cut.tokens <= length + len(text)
    needles = [(depth, f"Needle {number}.") for number, depth in enumerate(depths)]
    whole, starts = cut.insert(needles)
    for at, (_, words) in zip(starts, needles, strict=True):
        assert whole[at:].startswith(words)
    rest = whole
    for _, words in needles:
        rest = rest.replace(words, "", 1)
    assert "".join(rest.split()) == "".join(cut.text.split())


def test_a_corpus_starts_over_where_it_ends() -> None:
    text = filler(2, 2000)
    corpus = Corpus(text, Approximate())
    cut = corpus.cut(5, 10 * len(corpus))
    assert cut.text.count(text[: text.index(". ", 500)]) == 9
    assert cut.text.count(text[2000:3000]) == 10
    assert abs(cut.tokens - 10 * len(corpus)) <= 10


@pytest.mark.parametrize("text", ["Hello there.", "One.\nTwo.\n", "a b c"])
@pytest.mark.parametrize("length", [2000, 9000])
def test_a_short_text_over_and_over_is_as_long_as_asked_for(
    counting: Tokens, text: str, length: int
) -> None:
    for how in (counting, prefixing()):
        made = maker("niah", how, text)
        sample = made.sample(TextSetting("niah", length, 500), 0)
        assert abs(how.count(sample.prompt) - length) <= 0.01 * length
        assert abs(sample.details["depths"][0] - 0.5) <= 0.02


@pytest.mark.parametrize(
    "text",
    [
        "这是一个很长的故事。从前有一个小镇，那里住着许多人！" * 800,
        "\n".join(f"entry {number} of a list without stops" for number in range(2000)),
        "words without any stop " * 2000,
        "x" * 30_000,
        "「はい。」と言った。" * 2000,
    ],
    ids=["chinese", "lines", "words", "blob", "japanese"],
)
@pytest.mark.parametrize("depth", [0, 250, 500, 1000])
def test_depths_in_texts_without_english_sentences(text: str, depth: int) -> None:
    made = maker("niah", Approximate(), text)
    sample = made.sample(TextSetting("niah", 8000, depth), 0)
    assert abs(sample.details["depths"][0] - depth / 1000) <= 0.012
    longest = max(map(len, re.split(r"(?<=[。！])|\n", text)))
    start, stop = sample.details["haystack"]
    off = abs(sample.details["depths"][0] - depth / 1000) * (stop - start)
    assert off <= min(longest, LONGEST) + len(sample.details["needles"][0])


def test_a_long_sentence_is_parted_at_lines_then_between_words() -> None:
    lines = "\n".join("a line of a list" for _ in range(100))
    corpus = Corpus(f"First. {lines}\n{'word ' * 400}end. Last.", Approximate())
    ends = [0, *corpus.sentence_ends.tolist()]
    pieces = [corpus.text[a:b] for a, b in pairwise(ends)]
    assert pieces[:3] == ["First. ", "a line of a list\n", "a line of a list\n"]
    assert max(map(len, pieces)) <= LONGEST
    assert all(piece[-1].isspace() for piece in pieces)
    assert "".join(pieces) == corpus.text


def test_a_text_in_which_the_tokenizer_sees_nothing() -> None:
    class Blind(Approximate):
        def ends(self, text: str) -> NDArray[np.int64]:
            return np.zeros(0, np.int64)

    with pytest.raises(UserError, match="the tokenizer sees nothing in it"):
        Corpus("\x01\x02", Blind()).cut(0, 100)


def test_a_hundred_facts_by_a_tokenizer_that_begins_texts_with_a_space() -> None:
    made = maker("niah", prefixing())
    for sample in samples(made, TextSetting("niah.keys100", 6000, 500), 2):
        length_lands(made, prefixing(), sample)


def test_no_needle_repeats_a_number_of_the_text() -> None:
    taken = " ".join(str(number) for number in range(1_000_000, 1_002_000))
    corpus = Corpus(f"Some numbers are {taken}. That is all.", Approximate())
    assert corpus.holds_number("1001500")
    assert not corpus.holds_number("9001500")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("niah", 100, 0), "too short for 1 facts; take 160 tokens"),
        (TextSetting("niah.keys8", 300, 0), "too short for 8 facts"),
        (TextSetting("niah.keys2", 4000, 0, 3), "3 needles of 2 facts"),
        (TextSetting("niah.lock", 4000, 0), "no variant 'lock'.*keys8"),
        (TextSetting("niah.keys1", 4000, 0), "no variant"),
    ],
    ids=str,
)
def test_what_cannot_be_made(niah: Maker, setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        niah.check(setting)
