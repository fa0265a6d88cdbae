"""Whether an answer stands in a text: as published, and in any language's writing."""

import pytest

from mmneedle.texts.matching import forms, given, stands
from mmneedle.texts.scoring import score_text
from mmneedle.types import Response, TextSetting


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("4821937", "数字是4821937。", True),
        ("4821937", "答えは4821937です", True),
        ("4821937", "번호는 4821937입니다", True),
        ("4821937", "หมายเลข4821937ครับ", True),
        ("4821937", "数字是14821937。", False),
        ("北京", "首都是北京市。", True),
        ("서울", "서울입니다", True),
        ("otter", "水獭otter在", True),
        ("otter", "otters", False),
        ("été", "l'étéà", False),
        ("", "anything", False),
    ],
)
def test_scripts_without_spaces_join_nothing(word: str, text: str, found: bool) -> None:
    assert stands(word, text) == found


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("U.S.", "The US won.", True),
        ("US", "In the U.S. of old", True),
        ("1,000", "about 1000 people", True),
        ("Rock 'n' Roll", "rock n roll", True),
        ("Paris", "London/Paris", True),
        ("AC/DC", "It was AC DC.", True),
        ("The Beatles", "beatles, surely", True),
        ("US", "thus", False),
        ("1000", "21,000", False),
    ],
)
def test_signs_matter_not_in_answers_of_natural_language(
    answer: str, text: str, found: bool
) -> None:
    assert given([forms(answer, loose=True)], forms(text, loose=True)) == found
    score = score_text(TextSetting("ruler.qa_1", 4096), ((answer,),), Response("ok", text))
    assert score is not None and score.value == float(found)
