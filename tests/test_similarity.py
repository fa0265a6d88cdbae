import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.data.similarity import CaptionIndex, normalise

words = st.sampled_from(["a", "red", "blue", "cat", "dog", "on", "under", "the", "sofa"])
sentences = st.lists(words, max_size=7).map(" ".join)
captions = st.lists(st.lists(sentences, min_size=1, max_size=4), min_size=1, max_size=8)


def features(caption: str) -> list[str]:
    words = normalise(caption).split() or [""]
    return words + [f"{words[i]} {words[i + 1]}" for i in range(len(words) - 1)]


def plain_cosine(corpus: list[list[str]], a: str, b: str) -> float:
    """The textbook formula, one caption against another."""
    every = [set(features(caption)) for photo in corpus for caption in photo]

    def vector(caption: str) -> dict[str, float]:
        bag = features(caption)
        return {
            f: bag.count(f)
            * (math.log((1 + len(every)) / (1 + sum(f in other for other in every))) + 1)
            for f in set(bag)
        }

    x, y = vector(a), vector(b)
    dot = sum(x[f] * y.get(f, 0.0) for f in x)
    return dot / math.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))


@given(captions, st.data())
def test_equals_the_textbook_formula(corpus: list[list[str]], data: st.DataObject) -> None:
    photo = data.draw(st.integers(0, len(corpus) - 1))
    caption = data.draw(st.integers(0, len(corpus[photo]) - 1))
    index = CaptionIndex(corpus)
    everything = np.arange(len(corpus))
    asked = corpus[photo][caption]
    got = index.to_photos((photo, caption), everything)
    best = [max(plain_cosine(corpus, asked, other) for other in them) for them in corpus]
    assert np.allclose(got, best, atol=2e-3)
    last = index.to_photos((photo, caption), everything, only=-1)
    assert np.allclose(last, [plain_cosine(corpus, asked, them[-1]) for them in corpus], atol=2e-3)


def test_word_order_counts_and_case_does_not() -> None:
    index = CaptionIndex(
        [
            ["A red circle above a blue square."],
            ["a RED circle, above a blue square"],
            ["a blue circle above a red square"],
            ["two dogs"],
        ]
    )
    same, swapped, other = index.to_photos((0, 0), np.array([1, 2, 3]))
    assert same > 0.999
    assert 0.3 < swapped < 0.9
    assert other == 0
