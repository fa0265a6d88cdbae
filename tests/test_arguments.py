import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.types import Setting, parse_sample_id, sample_id

sizes = st.integers(1, 999)


def test_settings_are_every_combination_in_order() -> None:
    assert arguments.settings("1,10", "2,3x5", "1,2") == (
        Setting(1, 2, 2, 1),
        Setting(1, 3, 5, 1),
        Setting(10, 2, 2, 1),
        Setting(10, 3, 5, 1),
        Setting(1, 2, 2, 2),
        Setting(1, 3, 5, 2),
        Setting(10, 2, 2, 2),
        Setting(10, 3, 5, 2),
    )


def test_chosen_settings_replace_the_combinations() -> None:
    assert arguments.settings("7", "7", "1", "1x2, 10x3x5,1x2") == (
        Setting(1, 2, 2, 1),
        Setting(10, 3, 5, 1),
    )


def test_paper_settings_leave_out_five_needles_in_four_cells() -> None:
    every = arguments.paper_settings()
    assert len(every) == 20
    assert Setting(1, 2, 2, 5) not in every
    assert [(s.images, s.grid) for s in arguments.paper_settings("1")] == [
        *arguments.PAPER_SETTINGS
    ]


@pytest.mark.parametrize("text", ["", "0", "-1", "1,,2", "a", "1.5", "99999999999", "１", "1x2x3"])
def test_wrong_numbers_and_grids_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--images takes numbers"):
        arguments.whole_numbers(text, "--images")
    with pytest.raises(UserError, match="--grid takes grids"):
        arguments.grids(text, "--grid")


@pytest.mark.parametrize("text", ["", "1", "1x", "x2", "1x2x3x4", "1x2;1x4", "0x2"])
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--settings takes settings"):
        arguments.settings("1", "1", "1", text)


@pytest.mark.parametrize(
    ("text", "expected"), [(None, (0, None)), ("100", (0, 100)), ("10-20", (10, 20))]
)
def test_limit(text: str | None, expected: tuple[int, int | None]) -> None:
    assert arguments.limit(text) == expected


@pytest.mark.parametrize("text", ["", "0", "20-10", "5-5", "-5", "1-2-3", "ten"])
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--limit takes"):
        arguments.limit(text)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "/", "1/2/3"])
def test_wrong_shards_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard takes"):
        arguments.shard(text)


def test_shard_and_cell() -> None:
    assert arguments.shard(None) == (1, 1)
    assert arguments.shard("2/8") == (2, 8)
    assert arguments.cell("320x192") == (320, 192)
    assert arguments.cell("64") == (64, 64)


@given(st.text(max_size=20))
def test_nothing_typed_raises_anything_but_a_user_error(text: str) -> None:
    for read in (arguments.cell, arguments.limit, arguments.shard, arguments.paper_settings):
        try:
            read(text)
        except UserError as error:
            assert str(error)


@given(sizes, sizes, sizes, sizes, st.integers(0, 10**8))
def test_sample_ids_read_back(n: int, rows: int, cols: int, k: int, index: int) -> None:
    setting = Setting(n, rows, cols, k)
    assert parse_sample_id(sample_id(setting, index)) == (setting, index)


@given(st.text(max_size=30))
def test_other_texts_are_no_sample_ids(text: str) -> None:
    try:
        setting, index = parse_sample_id(text)
    except ValueError:
        return
    assert setting.cells >= 0
    assert index >= 0
