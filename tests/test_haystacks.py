from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples
from scipy.stats import chisquare

from mmneedle.errors import UserError
from mmneedle.stitching.haystacks import check, draw, photos_needed, positions
from mmneedle.types import Setting

shapes = st.builds(
    Setting, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)
).filter(lambda s: s.needles <= s.cells)


def rows(seed: int, setting: Setting, photos: int, start: int, stop: int) -> np.ndarray:
    """Haystack, spares and free words of each sample, side by side."""
    blocks = [np.concatenate(block, axis=1) for block in draw(seed, setting, photos, start, stop)]
    return np.concatenate(blocks)


@given(shapes, st.integers(0, 10**6), st.integers(0, 300), st.integers(0, 90), st.integers(1, 90))
def test_no_photo_twice_and_any_range_drawn_alone(
    setting: Setting, seed: int, more: int, start: int, length: int
) -> None:
    photos = photos_needed(setting) + more
    whole = rows(seed, setting, photos, 0, start + length)
    drawn = whole[:, : photos_needed(setting)]
    assert drawn.max() < photos
    assert all(len(set(row)) == len(row) for row in drawn.tolist())
    assert (rows(seed, setting, photos, start, start + length) == whole[start:]).all()


def test_settings_and_seeds_give_unrelated_samples() -> None:
    base = rows(0, Setting(1, 4, 4), 5000, 0, 20)
    assert (base != rows(1, Setting(1, 4, 4), 5000, 0, 20)).mean() > 0.99
    assert (base[:, :16] != rows(0, Setting(1, 2, 8), 5000, 0, 20)[:, :16]).mean() > 0.99


# 97 photos are sorted by random keys, 400 drawn with rejection: both must be fair.
@pytest.mark.parametrize("photos", [97, 400])
def test_every_photo_is_equally_likely_in_every_cell(photos: int) -> None:
    setting = Setting(2, 4, 5)
    drawn = rows(3, setting, photos, 0, 6000)[:, : photos_needed(setting)]
    for column in (0, 7, 39, 40):  # first, middle, last cell; the spare
        assert chisquare(np.bincount(drawn[:, column], minlength=photos)).pvalue > 1e-4
    # Neighbours are drawn independently but for never being equal.
    gaps = (drawn[:, 1] - drawn[:, 0].astype(int)) % photos
    assert chisquare(np.bincount(gaps, minlength=photos)[1:]).pvalue > 1e-4


def test_the_samples_of_version_1_stay_the_same() -> None:
    """Published data sets depend on these; other numbers need another _SAMPLING version."""
    assert rows(0, Setting(1, 1, 2), 40_504, 0, 2)[:, :3].tolist() == FIRST_OF_MANY
    assert rows(0, Setting(1, 1, 2), 5, 0, 2)[:, :3].tolist() == FIRST_OF_FEW


FIRST_OF_MANY = [[7940, 9357, 29955], [12861, 29916, 30443]]
FIRST_OF_FEW = [[2, 0, 4], [0, 4, 1]]


@given(shapes, st.integers(0, 10**6), st.integers(1, 200))
@examples(60)
def test_positions_are_balanced_in_every_prefix_and_distinct(
    setting: Setting, seed: int, samples: int
) -> None:
    counts = Counter(dict.fromkeys(range(setting.cells), 0))
    for cells in positions(seed, setting, 0, samples):
        assert len(set(cells)) == setting.needles
        counts.update(cells)
        assert set(counts) == set(range(setting.cells))
        assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(0, 9))
@examples(60)
def test_one_needle_is_balanced_over_images_and_over_places(
    images: int, rows: int, cols: int, seed: int
) -> None:
    setting, grid = Setting(images, rows, cols), rows * cols
    by_image = Counter(dict.fromkeys(range(images), 0))
    by_place = Counter(dict.fromkeys(range(grid), 0))
    for (cell,) in positions(seed, setting, 0, setting.cells + 7):
        by_image[cell // grid] += 1
        by_place[cell % grid] += 1
        for counts in (by_image, by_place):
            assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("questions", [1, 2, 6])
def test_positions_of_any_range_alone(questions: int) -> None:
    setting = Setting(2, 3, 3, 5)
    whole = list(positions(5, setting, 0, 50, questions))
    assert list(positions(5, setting, 13, 50, questions)) == whole[13:]


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(1, 20), st.data())
@examples(60)
def test_positions_are_balanced_where_questions_share_a_haystack(
    images: int, rows: int, cols: int, pairs: int, data: st.DataObject
) -> None:
    setting, grid = Setting(images, rows, cols), rows * cols
    pairs = min(pairs, setting.cells)
    counts = Counter(dict.fromkeys(range(setting.cells), 0))
    by_image = Counter(dict.fromkeys(range(images), 0))
    by_place = Counter(dict.fromkeys(range(grid), 0))
    haystack: list[int] = []
    for (cell,) in positions(data.draw(st.integers(0, 99)), setting, 0, 200, 2 * pairs):
        haystack = [*haystack, cell] if len(haystack) < pairs else [cell]
        assert len(set(haystack)) == len(haystack)
        for several, key in ((counts, cell), (by_image, cell // grid), (by_place, cell % grid)):
            several[key] += 1
            assert max(several.values()) - min(several.values()) <= 1


def test_rounds_have_their_own_order() -> None:
    setting = Setting(1, 5, 5)
    flat = [cell for (cell,) in positions(0, setting, 0, 100)]
    rounds = [tuple(flat[i : i + 25]) for i in range(0, 100, 25)]
    assert all(a != b for a, b in pairwise(rounds))


@pytest.mark.parametrize(
    ("setting", "photos", "message"),
    [
        (Setting(10, 8, 8), 79, "needs 641 photos"),
        (Setting(1, 2, 2, 5), 1000, "5 needles do not fit into 4 cells"),
        (Setting(0, 2, 2), 1000, "at least 1"),
        (Setting(1, 2, 2, 2), 5, "needs 6 photos"),
    ],
)
def test_impossible_settings_are_refused(setting: Setting, photos: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(setting, photos)


@pytest.mark.parametrize(
    ("setting", "questions", "photos", "message"),
    [
        (Setting(1, 2, 2), 10, 99, "5 of its photos, it has 4; use at most 8 questions"),
        (Setting(1, 2, 2, 2), 6, 99, "use at most 4 questions"),
        (Setting(10, 8, 8), 8, 643, "needs 644 photos .640 cells and 4 for"),
    ],
)
def test_more_questions_than_a_haystack_has_room_for(
    setting: Setting, questions: int, photos: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check(setting, photos, questions)


@pytest.mark.parametrize(("questions", "needed"), [(1, 6), (2, 6), (4, 8)])
def test_a_source_just_large_enough_will_do(questions: int, needed: int) -> None:
    setting = Setting(1, 2, 2, 2)
    check(setting, needed, questions)
    for block in draw(0, setting, needed, 0, 100, questions):
        drawn = np.concatenate(block[:2], axis=1)
        assert all(sorted(row) == list(range(needed)) for row in drawn.tolist())
