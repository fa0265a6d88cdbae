"""Addresses are read strictly, and written so that they are read back."""

from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.runlog import STATUSES
from mmneedle.types import Location, Setting, sample_id
from mmneedle.viewer.library import NotFoundError, parse_sample
from mmneedle.viewer.pictures import Window, inside
from mmneedle.viewer.query import MISSING, OUTCOMES, SORTS, SPLITS, BadQueryError, Query


class Params:
    """Query parameters as Starlette has them."""

    def __init__(self, found: dict[str, list[str]]) -> None:
        self.found = found

    def get(self, key: str, default: str = "") -> str:
        return self.found[key][-1] if self.found.get(key) else default

    def getlist(self, key: str) -> list[str]:
        return self.found.get(key, [])


def read(text: str) -> Query:
    return Query.read(Params(parse_qs(text)))


NAMES = ("in", "setting", "split", "outcome", "status", "scorer", "text", "low", "high")
NAMES += ("sides", "differ", "sort", "page", "pixels")
SETTINGS = st.builds(
    Setting, st.integers(1, 99), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)
)
KEYS = st.lists(st.sampled_from(("r1", "r2", "r3", "d1")), min_size=1, max_size=4, unique=True)


@st.composite
def queries(draw: Any) -> Query:
    items = tuple(draw(KEYS))
    side = st.sampled_from(("", "right", "wrong", "none"))
    sides = tuple(draw(side) for _ in items)
    share = st.none() | st.integers(0, 1000).map(lambda k: k / 1000)
    return Query(
        items=items,
        setting=draw(st.just("") | SETTINGS.map(lambda setting: setting.name)),
        split=draw(st.sampled_from(("", *SPLITS))),
        outcome=draw(st.sampled_from(("", *OUTCOMES))),
        status=draw(st.sampled_from(("", *STATUSES, MISSING))),
        scorer=draw(st.sampled_from(("robust", "paper"))),
        text=draw(st.text(max_size=30).map(str.strip)),
        low=draw(share),
        high=draw(share),
        sides=sides if any(sides) else (),
        differ=len(items) > 1 and draw(st.booleans()),
        sort=draw(st.sampled_from(("", *SORTS))),
        page=draw(st.integers(1, 10**6)),
        model=draw(st.booleans()),
    )


@given(queries())
def test_what_is_written_is_read_back(query):
    assert read(query.string()) == query


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.lists(st.text(max_size=12), max_size=2),
    )
)
def test_anything_else_is_refused_and_nothing_worse(found):
    try:
        query = Query.read(Params(found | {"in": found.get("in") or ["r1"]}))
    except BadQueryError as error:
        assert "\n" not in str(error)
    else:
        assert query.outcome in ("", *OUTCOMES) and query.page >= 1


@given(st.text(max_size=90))
def test_ids_are_read_in_one_way_only(text):
    try:
        setting, number = parse_sample(text)
    except NotFoundError:
        return
    assert sample_id(setting, number) == text


@given(SETTINGS, st.integers(0, 10**5))
def test_ids_are_read(setting, number):
    assert parse_sample(sample_id(setting, number)) == (setting, number)


@pytest.mark.parametrize("text", ["n1-g2x2-k1-1", "n01-g2x2-k1-000001", "n1-g2x2-k1-000001\n", ""])
def test_other_spellings_are_not(text):
    with pytest.raises(NotFoundError):
        parse_sample(text)


@given(SETTINGS, st.data())
def test_a_place_is_shown_with_as_many_neighbours_as_there_are(setting, data):
    row = data.draw(st.integers(1, setting.rows))
    column = data.draw(st.integers(1, setting.cols))
    window = Window.around(setting, Location(1, row, column))
    assert 1 <= window.top <= row <= window.bottom <= setting.rows
    assert 1 <= window.left <= column <= window.right <= setting.cols
    assert (window.rows, window.cols) == (min(3, setting.rows), min(3, setting.cols))
    assert inside(setting, Location(setting.images, row, column))
    assert not inside(setting, Location(setting.images + 1, row, column))
    assert not inside(setting, Location(0, row, column))
