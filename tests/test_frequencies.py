"""Texts of counted words are put together as bytes: the same texts as word by word."""

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rounds import examples
from text_sets import maker, tokens

from mmneedle.texts.coined import coined
from mmneedle.texts.draw import Draw, ascending
from mmneedle.texts.frequencies import Vocabulary, Words, coded_text, numbered_list
from mmneedle.texts.tokens import Approximate, Tokens
from mmneedle.types import TextSetting

SEED = "x"


def plainly(made: Words, *, numbered: bool) -> str:
    """A text's words in their order, one by one."""
    names = ["..." if at < 0 else coined(at + 1)[at] for at in made.words.tolist()]
    times = made.times.tolist()
    every = [name for name, count in zip(names, times, strict=True) for _ in range(count)]
    keys = np.random.Philox(key=Draw(SEED)._word()).random_raw(len(every))
    shown = [every[at] for at in np.argsort(keys, kind="stable")]
    return " ".join(f"{n}. {word}" if numbered else word for n, word in enumerate(shown, 1))


@examples(30)
@given(room=st.integers(1, 20_000), often=st.sampled_from([(30, 3), (6, 1)]))
@example(room=131_000, often=(30, 3))
def test_texts_are_those_of_their_words(room: int, often: tuple[int, int]) -> None:
    vocabulary = Vocabulary(Approximate())
    words = vocabulary.drawn(Draw("words"), 131_072, 1 << 15)
    listed = numbered_list(vocabulary, words, often, room, Draw(SEED))
    assert listed.text == plainly(listed, numbered=True)
    coded = coded_text(vocabulary, words, 131_072, room, Draw(SEED))
    assert coded.text == plainly(coded, numbered=False)


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.mark.parametrize("task", ["ruler.cwe", "ruler.fwe"])
def test_long_texts_have_the_tokens_of_tokenising_them_whole(counting: Tokens, task: str) -> None:
    """Sums over words are the tokens of the whole text, to one in a thousand."""
    ruler = maker("ruler", counting)
    for index in range(3):
        sample = ruler.sample(TextSetting(task, 131_072), index)
        counted = counting.count(sample.prompt)
        assert abs(sample.tokens / counted - 1) < 0.001
        assert abs(counted / 131_072 - 1) < 0.001


FIRST = {
    ("ruler.cwe", 2048): "0df6c8123680056f5a83f2fa",
    ("ruler.cwe", 131_072): "d386f2e640c1c38ea511405f",
    ("ruler.fwe", 2048): "109f07ed6c3c8287a21a3031",
    ("ruler.fwe", 131_072): "35de8a297d973071bf68d176",
}


@pytest.mark.parametrize(("task", "length"), FIRST)
def test_samples_stay_what_they_were(task: str, length: int) -> None:
    """A recipe's samples never change: runs of them go on, submissions are checked against them."""
    ruler = maker("ruler", Approximate(), text="a b. c")
    digest = hashlib.sha256()
    for index in range(6):
        digest.update(msgspec.json.encode(ruler.sample(TextSetting(task, length), index)))
    assert digest.hexdigest()[:24] == FIRST[task, length]


@given(
    st.lists(
        st.one_of(
            st.integers(0, 2**64 - 1),
            st.integers(0, 3),  # equal ones, and such as differ in their lowest bits alone
            st.integers(2**63, 2**63 + 40),
        ),
        max_size=60,
    )
)
def test_places_in_ascending_order(keys: list[int]) -> None:
    made = np.array(keys, np.uint64)
    assert ascending(made).tolist() == np.argsort(made, kind="stable").tolist()


def test_places_of_many_random_keys() -> None:
    keys = np.random.Philox(key=7).random_raw(100_000)
    assert (ascending(keys) == np.argsort(keys, kind="stable")).all()
    few = keys >> np.uint64(47)
    assert (ascending(few) == np.argsort(few, kind="stable")).all()
