import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples

from mmneedle.data.similarity import normalise
from mmneedle.errors import UserError
from mmneedle.stitching.samples import Rules, SampleMaker, cell_of, locate
from mmneedle.types import Location, Photo, Sample, Setting

COLOURS = ["red", "green", "blue", "black", "white", "yellow"]
THINGS = ["cat", "dog", "car", "tree", "boat"]
PLACES = ["street", "field", "lake", "room"]


def photos(count: int, *, repeats: int = 0) -> list[Photo]:
    """Photos with distinct captions; the last `repeats` share theirs with the first ones."""
    combos = [(c, t, p) for c in COLOURS for t in THINGS for p in PLACES]
    random.Random(1).shuffle(combos)
    texts = [(f"in a {p}, a {t} that is {c}", f"a {c} {t} in a {p}") for c, t, p in combos]
    for i in range(repeats):
        texts[count - 1 - i] = texts[i]
    return [Photo(id=10 * i + 7, captions=texts[i]) for i in range(count)]


def make(source: list[Photo], setting: Setting, stop: int, **rules: object) -> list[Sample]:
    return list(SampleMaker(source, Rules(**rules)).samples(setting, 0, stop))  # type: ignore[arg-type]


shapes = st.builds(
    Setting, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 5])
).filter(lambda s: s.needles <= s.cells)


@given(shapes, st.integers(0, 99), st.sampled_from([0.0, 0.4, 1.0]))
@examples(50)
def test_truth_holds_and_negatives_never_leak(setting: Setting, seed: int, hard: float) -> None:
    source = photos(60, repeats=12)
    captions = {photo.id: photo.captions for photo in source}
    samples = make(source, setting, 24, seed=seed, hard_negatives=hard)
    for number, sample in enumerate(samples):
        assert sample.positive is (number % 2 == 0)
        assert len(set(sample.haystack)) == len(sample.haystack) == setting.cells
        assert len({needle.photo for needle in sample.needles}) == setting.needles
        there = {normalise(text) for photo in sample.haystack for text in captions[photo]}
        for needle in sample.needles:
            assert needle.caption == captions[needle.photo][-1]
            if needle.location:
                assert sample.haystack[cell_of(setting, needle.location)] == needle.photo
            else:
                assert needle.photo not in sample.haystack
                assert normalise(needle.caption) not in there
    hard_ones = sum(sample.hard for sample in samples)
    assert hard_ones == int(12 * hard)
    assert not any(sample.hard and sample.positive for sample in samples)


@given(shapes, st.integers(0, 50), st.integers(1, 30), st.sampled_from(["last", "random"]))
@examples(40)
def test_a_short_build_is_the_beginning_of_a_long_one(
    setting: Setting, start: int, length: int, rule: str
) -> None:
    source = photos(50, repeats=5)
    rules = Rules(seed=3, captions=rule, hard_negatives=0.5)  # type: ignore[arg-type]
    whole = list(SampleMaker(source, rules).samples(setting, 0, start + length))
    alone = list(SampleMaker(source, rules).samples(setting, start, start + length))
    assert alone == whole[start:]


def test_positions_are_balanced() -> None:
    setting = Setting(2, 3, 3)
    samples = make(photos(60), setting, 36 * 5)
    assert set(Counter(s.truth[0] for s in samples if s.positive).values()) == {5}


several = st.tuples(shapes, st.sampled_from([2, 4, 6, 8])).filter(
    lambda one: one[0].needles * one[1] // 2 <= one[0].cells
)


@given(several, st.integers(0, 99), st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([60, 120]))
@examples(60)
def test_questions_that_share_a_haystack(
    shape: tuple[Setting, int], seed: int, hard: float, count: int
) -> None:
    setting, questions = shape
    source = photos(count, repeats=12)
    captions = {photo.id: photo.captions for photo in source}
    samples = make(source, setting, 24, seed=seed, hard_negatives=hard, questions=questions)
    assert [s.haystack_number for s in samples] == [i // questions for i in range(24)]
    assert [s.positive for s in samples] == [i % 2 == 0 for i in range(24)]
    assert sum(s.hard for s in samples) == int(12 * hard)
    for number in range(24 // questions):
        group = samples[number * questions :][:questions]
        (haystack,) = {s.haystack for s in group}
        assert len(set(haystack)) == setting.cells
        asked = [needle.photo for s in group for needle in s.needles]
        assert len(set(asked)) == len(asked) == questions * setting.needles
        there = {normalise(text) for photo in haystack for text in captions[photo]}
        for needle in (needle for s in group for needle in s.needles):
            assert needle.caption == captions[needle.photo][-1]
            if needle.location:
                assert haystack[cell_of(setting, needle.location)] == needle.photo
            else:
                assert normalise(needle.caption) not in there
        absent = [normalise(n.caption) for s in group for n in s.needles if not n.location]
        assert len(set(absent)) == len(absent)
    counts = Counter(cell_of(setting, at) for s in samples for at in s.truth if at)
    assert max(counts.values()) - min(counts[cell] for cell in range(setting.cells)) <= 1


def test_another_number_of_questions_gives_unrelated_haystacks() -> None:
    setting, source = Setting(1, 3, 3), photos(60)
    made = [{s.haystack for s in make(source, setting, 80, questions=q)} for q in (1, 2, 8)]
    assert [len(haystacks) for haystacks in made] == [80, 40, 10]
    assert not (made[0] & made[1] or made[1] & made[2] or made[0] & made[2])


@given(several, st.integers(0, 50), st.integers(1, 30), st.sampled_from(["last", "random"]))
@examples(40)
def test_any_range_of_shared_haystacks_alone(
    shape: tuple[Setting, int], start: int, length: int, rule: str
) -> None:
    source = photos(60, repeats=5)
    rules = Rules(3, rule, 0.5, shape[1])  # type: ignore[arg-type]
    whole = list(SampleMaker(source, rules).samples(shape[0], 0, start + length))
    alone = list(SampleMaker(source, rules).samples(shape[0], start, start + length))
    assert alone == whole[start:]


def test_a_random_caption_is_any_of_the_photos() -> None:
    asked = Counter(
        next(p for p in photos(60) if p.id == needle.photo).captions.index(needle.caption)
        for sample in make(photos(60), Setting(1, 2, 2), 400, captions="random")
        for needle in sample.needles
        if sample.positive
    )
    assert 70 < asked[0] < 130


def test_hard_negatives_resemble_a_photo_that_is_there() -> None:
    source, setting = photos(110), Setting(1, 4, 4)

    def likeness(samples: list[Sample]) -> float:
        negatives = [s.ambiguity or 0.0 for s in samples if not s.positive]
        return sum(negatives) / len(negatives)

    easy, hard = make(source, setting, 200), make(source, setting, 200, hard_negatives=1.0)
    assert likeness(hard) > likeness(easy) + 0.02
    assert [s.haystack for s in hard] == [s.haystack for s in easy]
    anchored = [
        sample
        for sample in hard
        if not sample.positive
        and any(
            len(set(sample.needles[0].caption.split()) & set(p.captions[-1].split())) >= 4
            for p in source
            if p.id in sample.haystack
        )
    ]
    assert len(anchored) > 90  # of 100: two of three attributes shared


def test_ambiguity_is_one_where_another_photo_has_the_caption() -> None:
    source = photos(14, repeats=3)
    samples = make(source, Setting(1, 3, 3), 200)
    twin = {source[i].id: source[13 - i].id for i in range(3)}
    twin |= {b: a for a, b in twin.items()}
    seen = 0
    for sample in samples:
        doubled = twin.get(sample.needles[0].photo) in sample.haystack
        seen += doubled
        assert ((sample.ambiguity or 0) > 0.999) is doubled
    assert seen > 10


def test_no_needle_left_is_an_error_with_a_way_out() -> None:
    source = [Photo(i, ("the same",)) for i in range(6)]
    with pytest.raises(UserError, match="no photo is left whose caption is not in the haystack"):
        make(source, Setting(1, 2, 2), 2)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"captions": "first"}, "captions must be last or random"),
        ({"hard_negatives": 1.5}, "share from 0 to 1"),
        ({"hard_negatives": float("nan")}, "share from 0 to 1"),
        ({"seed": -1}, "seed must be"),
        ({"questions": 3}, "must be 1 or an even number, half of them without a match, not 3"),
        ({"questions": 0}, "must be 1 or an even number"),
        ({"questions": -2}, "must be 1 or an even number"),
    ],
)
def test_wrong_rules_are_refused(rules: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SampleMaker(photos(10), Rules(**rules))  # type: ignore[arg-type]


@given(shapes, st.data())
def test_locations_and_cells_are_inverse(setting: Setting, data: st.DataObject) -> None:
    cell = data.draw(st.integers(0, setting.cells - 1))
    assert cell_of(setting, locate(setting, cell)) == cell


def test_locations_are_one_based() -> None:
    setting = Setting(2, 3, 4)
    assert locate(setting, 0) == Location(1, 1, 1)
    assert locate(setting, 5) == Location(1, 2, 2)
    assert locate(setting, 23) == Location(2, 3, 4)
