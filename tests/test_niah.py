"""niah: one answer, where the record says, at the length and depth that were asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_sets import maker, tokens

from mmneedle.errors import UserError
from mmneedle.texts.corpus import Corpus, filler
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


@settings(deadline=None, max_examples=60)
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
    corpus = Corpus(filler(2, 20), Approximate())
    cut = corpus.cut(5, 10 * len(corpus))
    assert cut.text.count(filler(2, 20).split(". ")[7]) == 10
    assert abs(cut.tokens - 10 * len(corpus)) <= 10


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
