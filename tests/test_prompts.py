import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.prompts import prompt
from mmneedle.types import Setting

ONE = (
    "Given 10 images indexed from 1 to 10, each divided into 8*8 subimages, identify the subimage "
    "that best matches the provided caption. Respond with 'index, row, column' and nothing else. "
    "For example, '1, 2, 3' indicates the subimage in the first image, second row, and third "
    "column. If no match is found, respond only with '-1'.\nCaption: A man with 2 dogs."
)
SEVERAL = (
    "Given 1 image indexed from 1 to 1, each divided into 2*2 subimages, identify the subimages "
    "that best match the provided 2 captions. Respond in the format: index_1, row_1, column_1; "
    "index_2, row_2, column_2. Only provide this information. For example, '1, 2, 3' indicates "
    "the subimage in the first image, second row, and third column. If no subimage matches a "
    "caption, respond with '-1' for that caption.\nCaption_1: A man.\nCaption_2: A dog."
)


def test_one_needle_word_for_word():
    assert prompt(Setting(10, 8, 8), ["A man with 2 dogs."]) == ONE


def test_several_needles_word_for_word():
    assert prompt(Setting(1, 2, 2, 2), ["A man.", "A dog."]) == SEVERAL


def test_five_needles_name_five_triples():
    text = prompt(Setting(10, 1, 1, 5), list("abcde"))
    assert (
        "provided 5 captions. Respond in the format: index_1, row_1, column_1; index_2, row_2, "
        "column_2; index_3, row_3, column_3; index_4, row_4, column_4; index_5, row_5, column_5. "
        "Only provide this information." in text
    )
    assert text.endswith("\nCaption_1: a\nCaption_2: b\nCaption_3: c\nCaption_4: d\nCaption_5: e")


@pytest.mark.parametrize(
    ("setting", "given_text"),
    [
        (Setting(1, 1, 1), "Given 1 image indexed from 1 to 1, each divided into 1*1 subimage, "),
        (Setting(10, 1, 1), "Given 10 images indexed from 1 to 10, each divided into 1*1 subimage"),
        (Setting(1, 4, 4), "Given 1 image indexed from 1 to 1, each divided into 4*4 subimages, "),
        (Setting(3, 2, 5), "Given 3 images indexed from 1 to 3, each divided into 2*5 subimages, "),
        (Setting(2, 1, 5), "Given 2 images indexed from 1 to 2, each divided into 1*5 subimages, "),
    ],
)
def test_plurals_and_grids(setting, given_text):
    assert prompt(setting, ["x"]).startswith(given_text)


@pytest.mark.parametrize(
    ("caption", "line"),
    [
        ("A man\nand a dog.\n", "A man and a dog."),
        ("A man \r\n and a\u2028dog.", "A man and a dog."),
        ("A man  and\ta dog.", "A man  and\ta dog."),
    ],
)
def test_a_caption_stays_on_its_line_and_is_left_as_it_is(caption, line):
    assert prompt(Setting(1, 2, 2), [caption]).endswith(f"\nCaption: {line}")


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_lines_are_as_many_as_captions(captions):
    lines = prompt(Setting(1, 2, 2, len(captions)), captions).split("\n")
    assert len(lines) == 1 + len(captions)
    assert [line.partition(": ")[2].split() for line in lines[1:]] == [c.split() for c in captions]


@pytest.mark.parametrize("captions", [[], ["a"], ["a", "b", "c"]])
def test_the_number_of_captions_must_fit(captions):
    with pytest.raises(ValueError, match="asks for 2 captions"):
        prompt(Setting(1, 2, 2, 2), captions)
