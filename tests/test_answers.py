import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples

from mmneedle.answers import is_refusal, read_paper, read_robust
from mmneedle.reading import cleaning
from mmneedle.types import Answer, Location, Setting

ONE, SEVERAL = Setting(10, 4, 4), Setting(10, 4, 4, 3)
SETTINGS = [
    ONE,
    SEVERAL,
    Setting(1, 4, 4),
    Setting(10, 1, 1),
    Setting(1, 1, 1, 2),
    Setting(3, 2, 5, 5),
]


def say(answers):
    names = {"absent": "-1", "unparsed": "?"}
    return "; ".join(names.get(answer.kind) or str(answer.location) for answer in answers)


def table():
    path = Path(__file__).with_name("answers_table.toml")
    for section, readings in tomllib.loads(path.read_text(encoding="utf-8")).items():
        setting = Setting.parse(section.split()[0])
        for reading, texts in readings.items():
            for text in texts:
                yield setting, text, reading


TABLE = list(table())


def test_the_table_is_large_and_has_every_kind_of_reading():
    assert len(TABLE) >= 600
    assert {"-1", "?", "1, 2, 3"} <= {reading for _, _, reading in TABLE}


@pytest.mark.parametrize("setting", sorted({setting for setting, _, _ in TABLE}))
def test_the_table(setting):
    wrong = [
        f"{text!r} means {reading}, was read as {found}"
        for at, text, reading in TABLE
        if at == setting and (found := say(read_robust(text, setting))) != reading
    ]
    assert not wrong, "\n".join(wrong)


def test_null_text_is_unparsed():
    for setting in SETTINGS:
        assert read_robust(None, setting) == (Answer("unparsed"),) * setting.needles
        assert read_paper(None, setting) is None


# --------------------------------------------------------------------------- any text at all

PIECES = st.sampled_from(
    [
        *"1230,;:.()[]{}\"'|-_*`$\\/=#<>\n第行列✓\ud800１，",
        *("-1", "10", "1,2,3", "row", "column", "image", "index", "first", "second", "caption_1"),
        *("no", "match", "none", "not", "found", "answer", "is", "final", "or", "if", "guess"),
        *("caption:", "</think>", "<think>", "\\boxed{", "图片", "null", "the", "of", "in"),
        *("for example", "index_1"),
    ]
)
TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cs", "Nd", "Lu", "Zs", "Po"])),
    st.lists(PIECES, max_size=40).map("".join),
    st.lists(PIECES, max_size=40).map(" ".join),
)


@examples(500)
@given(TEXTS, st.sampled_from(SETTINGS))
def test_any_text_is_read_as_one_answer_a_needle(text, setting):
    answers = read_robust(text, setting)
    assert len(answers) == setting.needles
    for answer in answers:
        assert (answer.location is not None) == (answer.kind == "found")
    is_refusal(text)
    said = read_paper(text, setting)
    assert len(said.answers(setting)) == setting.needles


@examples(300)
@given(st.lists(st.sampled_from([*"0123456789", ", ", ",", " ", "-", "; ", "\n"])).map("".join))
def test_no_number_is_made_up(text):
    there = {int(digits) for digits in "".join(c if c.isdigit() else " " for c in text).split()}
    for answer in read_robust(text, ONE):
        if answer.location is not None:
            assert {abs(number) for number in answer.location} <= there


# --------------------------------------------------------------------------- any cell, any style

NUMBERS = st.integers(1, 64)
STYLES = [
    "{i}, {r}, {c}",
    "{i},{r},{c}",
    "({i}, {r}, {c})",
    "[{i}, {r}, {c}].",
    "**{i}, {r}, {c}**",
    "Image {i}, row {r}, column {c}",
    "row {r}, column {c} of image {i}",
    "Column {c}, Row {r}, Image {i}.",
    '{{"index": {i}, "row": {r}, "column": {c}}}',
    '```json\n{{\n  "column": {c},\n  "row": {r},\n  "image": {i}\n}}\n```',
    "The answer is {i}, {r}, {c}.",
    "$\\boxed{{{i}, {r}, {c}}}$",
    "<answer>{i}, {r}, {c}</answer>",
    "<think>Is it 9, 9, 9? Or -1?</think>\n{i}, {r}, {c}",
    "第{i}张图片，第{r}行，第{c}列",
    "画像{i}の{r}行目{c}列目",
    "imagen {i}, fila {r}, columna {c}",
    "{i}. Bild, {r}. Zeile, {c}. Spalte",
    "Image {i}, ligne {r}, colonne {c}",
]


@given(st.sampled_from(STYLES), NUMBERS, NUMBERS, NUMBERS)
def test_any_cell_is_read_in_any_style(style, image, row, column):
    text = style.format(i=image, r=row, c=column)
    assert say(read_robust(text, ONE)) == f"{image}, {row}, {column}"


@given(
    st.lists(
        st.one_of(st.none(), st.builds(Location, NUMBERS, NUMBERS, NUMBERS)), min_size=3, max_size=3
    ),
    st.sampled_from(["; ", ";", "\n", " ; ", ";\n"]),
    st.sampled_from(["{}", "Caption_{k}: {}", "{k}. {}", "({})", "- {}"]),
)
def test_lists_of_answers_are_read_in_order(places, between, style):
    if style == "{k}. {}" or style == "- {}":
        between = "\n"
    parts = ["-1" if place is None else str(place) for place in places]
    text = between.join(style.format(part, k=k) for k, part in enumerate(parts, 1))
    assert say(read_robust(text, SEVERAL)) == "; ".join(parts)


@given(st.text(st.characters(categories=["Nd"]), min_size=1, max_size=3))
def test_digits_of_any_script(digits):
    text = f"{digits}, {digits}, {digits}"
    number = int(digits)
    assert read_robust(text, ONE) == (Answer("found", Location(number, number, number)),)


def test_numbers_too_large_to_matter():
    huge = "9" * 20_000
    assert read_robust(f"1, {huge}, 3", ONE)[0].location == Location(1, 10**18, 3)
    assert read_robust(f"1, {'0' * 10_000}2, 3", ONE)[0].location == Location(1, 2, 3)
    assert read_robust(f"1, -{huge}, 3", ONE)[0].location == Location(1, -(10**18), 3)
    assert read_paper(f"1, {huge}, 3", ONE).answers(ONE)[0].location == Location(1, 10**18, 3)
    assert read_robust("9" * 10**7, ONE) == (Answer("unparsed"),)


# --------------------------------------------------------------------------- long texts


def test_both_ends_of_a_long_text_are_read():
    filler = "words and more words. " * 500_000
    assert say(read_robust(f"1, 2, 3\n{filler}", ONE)) == "1, 2, 3"
    assert say(read_robust(f"{filler}\n1, 2, 3", ONE)) == "1, 2, 3"
    assert say(read_robust(f"2, 1, 1\n{filler}\n1, 2, 3", ONE)) == "?"
    assert say(read_robust(f"2, 1, 1 {filler}\nFinal answer: 1, 2, 3", ONE)) == "1, 2, 3"


def test_no_number_is_cut_in_two():
    for shift in range(8):
        start = " " * (cleaning.HEAD - 8 + shift)
        assert say(read_robust(start + "1, 2, 12" + " x" * cleaning.TAIL, ONE)) in ("1, 2, 12", "?")
        end = "x " * cleaning.HEAD + "12, 2, 1"
        assert say(read_robust(end + " " * (cleaning.TAIL - 8 + shift), ONE)) in ("12, 2, 1", "?")


def test_long_thinking_does_not_hide_the_answer():
    thinking = "Perhaps 4, 4, 4? " * 500_000
    assert say(read_robust(f"<think>{thinking}</think>1, 2, 3", ONE)) == "1, 2, 3"
    assert say(read_robust(f"<think>{thinking}", ONE)) == "?"


HOSTILE = [
    *("1", "1, ", "1,2,3 ", "-1", "- ", "(", "[[", "{", "'", '"', '"1": ', "<", "<think>", "*"),
    *("`", "_", "</think>", "<|", "\\", "\\boxed{", "caption_1: -1\n", "row ", "row 1 "),
    *("image (((", "first ", "first image ", "no ", "no exact ", "there is no ", "none of the "),
    *("not a a a a ", "if no ", "answer: ", "final answer ", "wait ", "\n", " ", "\0"),
    *("for example 1, 2, 3 ", "1-1-1\n", "1.", "given 1 images indexed from ", "| ", "1×"),
    *("index, row, column ", "2行", "cannot ", "a'", "1,111", "\ud800", "İ", "e\u0301\u0323"),
    *('"answer": null, ', "index_1: 1, ", "1st ", "row 1 or ", "first caption "),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_repetition_is_read_to_the_end(piece):
    """An exponential or high polynomial pattern would not come back from these."""
    text = piece * (cleaning.HEAD * 2 // len(piece))
    for setting in (ONE, SEVERAL):
        assert len(read_robust(text, setting)) == setting.needles


@pytest.mark.parametrize("piece", ["1, ", "<think>", "(", "no exact ", "\n"])
def test_ten_megabytes(piece):
    text = piece * (10**7 // len(piece))
    assert len(read_robust(text, SEVERAL)) == 3


# --------------------------------------------------------------------------- refusals, paper


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I can't assist with that.",
        "I'm sorry, but I cannot help with identifying people in images.",
        "I cannot see any images. Please upload them.",
        "As an AI language model, I am unable to view images.",
        "抱歉，我无法查看图片。",
    ],
)
def test_refusals(text):
    assert is_refusal(text)
    assert say(read_robust(text, ONE)) == "?"


@pytest.mark.parametrize(
    "text", [None, "", "-1", "1, 2, 3", "I couldn't find any match.", "None of them."]
)
def test_no_refusals(text):
    assert not is_refusal(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" .1, 2, 3.. \n", "1, 2, 3"),
        ("1, 2,\n 3", "1, 2, 3"),
        ("1\n0, 2, 3", "10, 2, 3"),
        (" . . ", ""),
        (". 1. ", "1"),
        ("-1\r\n", "-1"),
    ],
)
def test_the_paper_normalises(text, normal):
    said = read_paper(text, ONE)
    assert (said.text, said.parts) == (normal, (normal,))


def test_the_paper_splits_and_rejoins():
    said = read_paper("1, 2, 3;  2, 1, 1 ; -1;4", SEVERAL)
    assert said.parts == ("1, 2, 3", "2, 1, 1", "-1;4")
    assert said.text == "1, 2, 3; 2, 1, 1; -1;4"
    assert said.indices == ("1", "2", "-1;4")
    assert say(said.answers(SEVERAL)) == "1, 2, 3; 2, 1, 1; ?"


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "-1; -1; -1",
        "-1, -1, -1",
        "-1-1-1",
        "-1, -1, -1; -1, -1, -1; -1, -1, -1",
        "-1;  -1; -1.",
    ],
)
def test_the_papers_refusals(text):
    said = read_paper(text, SEVERAL)
    assert said.refused
    assert say(said.answers(SEVERAL)) == "-1; -1; -1"


@pytest.mark.parametrize("text", ["-1; -1", "-1;-1;-1", "No match", "'-1'", "-1, -1", "-1-1", ""])
def test_not_the_papers_refusals(text):
    assert not read_paper(text, SEVERAL).refused


def test_one_needle_has_one_refusal():
    assert read_paper("-1.", ONE).refused
    assert not read_paper("-1, -1, -1", ONE).refused
