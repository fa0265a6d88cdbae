"""multidoc: one document answers, where the record says; closed book, oracle; wrong files."""

import json
import re
from pathlib import Path

import pytest
from question_files import TOWNS, natural
from shell import Shell
from text_checks import length_lands, samples
from text_sets import maker, tokens

from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.texts.corpus import caption_documents
from mmneedle.texts.making import Maker
from mmneedle.texts.matching import normal, stands
from mmneedle.texts.scoring import score_text, score_text_run
from mmneedle.texts.tokens import Tokens
from mmneedle.types import Photo, Response, TextSample, TextSetting


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module", params=["captions", "jsonl", "jsonl.gz"])
def multidoc(
    request: pytest.FixtureRequest, counting: Tokens, tmp_path_factory: pytest.TempPathFactory
) -> Maker:
    if request.param == "captions":
        return maker("multidoc", counting, caption_documents(ShapesSource(400, 1).photos()))
    file = natural(tmp_path_factory.mktemp("nq") / f"nq.{request.param}", 20)
    return maker("multidoc", counting, files=(file,))


def documents(prompt: str) -> list[str]:
    text, _, _ = prompt.rpartition("\n\nQuestion: ")
    return re.split(r"(?:^|\n\n)Document \d+: ", text)[1:]


def read(sample: TextSample) -> list[str]:
    """The answer that a reader finds in the documents."""
    question = sample.prompt.rpartition("Question: ")[2]
    if "caption" in question:
        (quoted,) = re.findall(r'"(.*)"', question)
        found = [text.splitlines()[0] for text in documents(sample.prompt) if quoted in text]
        return [title.removeprefix("Photo ") for title in found]
    (town,) = re.findall(r"fair of (\w+) held", question)
    return re.findall(rf"The fair of {town} is held in (the month of \w+)\.", sample.prompt)


OPEN = [
    TextSetting("multidoc.open", length, depth)
    for length in (2, 10, 20)
    for depth in (0, 250, 500, 1000)
]


@pytest.mark.parametrize("setting", OPEN, ids=lambda s: s.name)
def test_one_document_answers_where_the_record_says(
    multidoc: Maker, counting: Tokens, setting: TextSetting
) -> None:
    for sample in samples(multidoc, setting, 5):
        texts = documents(sample.prompt)
        assert len(texts) == len(set(texts)) == setting.length
        holding = [
            number
            for number, text in enumerate(texts, 1)
            if any(stands(normal(a, True), normal(text, True)) for a in sample.expected[0])
        ]
        assert holding == [sample.details["gold"]]
        wanted = setting.depth / 1000 * (setting.length - 1)
        assert abs(holding[0] - 1 - wanted) <= 0.5
        place = sample.details["places"][0]
        assert sample.prompt[place:].startswith(f"Document {holding[0]}: ")
        length_lands(multidoc, counting, sample)
        found = read(sample)
        assert len(found) == 1
        verdict = score_text(setting, sample.expected, Response("ok", f"It is {found[0]}."))
        assert verdict is not None and verdict.value == 1.0


def test_many_documents_are_added_up(counting: Tokens) -> None:
    many = maker("multidoc", counting, caption_documents(ShapesSource(400, 1).photos()))
    (sample,) = samples(many, TextSetting("multidoc.open", 300, 500), 1)
    assert len(documents(sample.prompt)) == 300
    length_lands(many, counting, sample)


def test_baselines_ask_the_same(multidoc: Maker) -> None:
    closed, oracle, full = (
        samples(multidoc, setting, 5)
        for setting in (
            TextSetting("multidoc.closed", 0, -1),
            TextSetting("multidoc.oracle", 1, -1),
            TextSetting("multidoc.open", 10, 500),
        )
    )
    for without, alone, every in zip(closed, oracle, full, strict=True):
        assert without.expected == alone.expected == every.expected
        question = every.prompt.rpartition("\n\n")[2]
        assert without.prompt.endswith(question) and alone.prompt.endswith(question)
        assert documents(without.prompt) == []
        assert documents(alone.prompt) == [documents(every.prompt)[every.details["gold"] - 1]]
        answers = [normal(answer, True) for answer in without.expected[0]]
        assert not any(stands(answer, normal(without.prompt, True)) for answer in answers)


def test_fewer_documents_are_the_first_of_more_at_any_depth(multidoc: Maker) -> None:
    def others(length: int, depth: int) -> list[str]:
        (sample,) = samples(multidoc, TextSetting("multidoc.open", length, depth), 1)
        texts = documents(sample.prompt)
        del texts[sample.details["gold"] - 1]
        return texts

    assert others(10, 0) == others(10, 500) == others(10, 1000) == others(20, 300)[:9]


def test_each_question_once_before_any_again(multidoc: Maker) -> None:
    made = [multidoc.sample(TextSetting("multidoc.closed", 0, -1), i).prompt for i in range(8)]
    assert len(set(made)) == 8 == len(TOWNS)


def test_photos_with_the_same_caption_are_not_asked_for(counting: Tokens) -> None:
    photos = [
        Photo(1, ("A dog.", "My dog!")),
        Photo(2, ("a  dog", "A cat.")),
        Photo(30, ("A cat",)),
    ]
    photos += [Photo(40 + number, (f"Thing {chr(65 + number)}.",)) for number in range(5)]
    few = maker("multidoc", counting, caption_documents(photos))
    prompts = [sample.prompt for sample in samples(few, TextSetting("multidoc.open", 8, 0), 6)]
    asked = {re.findall(r'caption "(.*)"', prompt)[0] for prompt in prompts}
    assert asked == {"My dog!", *(f"Thing {letter}." for letter in "ABCDE")}


def test_a_photos_number_is_not_that_of_a_document(counting: Tokens) -> None:
    photos = [Photo(at, (f"Thing number {chr(97 + at % 26)}{at}x.",)) for at in range(1, 2500)]
    every = maker("multidoc", counting, caption_documents(photos))
    for sample in samples(every, TextSetting("multidoc.open", 30, 500), 20):
        assert int(sample.expected[0][0]) > 1000
    few = maker("multidoc", counting, caption_documents(photos[:40]))
    short = 0
    for sample in samples(few, TextSetting("multidoc.open", 20, 500), 20):
        title, *others = sample.expected[0]
        assert others == ([str(int(title))] if int(title) > 20 else [])
        short += int(title) <= 20
    assert short


def test_distractors_that_hold_the_answer_are_left_out(counting: Tokens, tmp_path: Path) -> None:
    file = natural(tmp_path / "nq.jsonl", 4)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["ctxs"][1]["text"] += " In mon0x, they say."  # though "hasanswer" is false
    file.write_text("\n".join(map(json.dumps, lines)))
    made = samples(
        maker("multidoc", counting, files=(file,)), TextSetting("multidoc.open", 4, 0), 8
    )
    assert len(made) == 8
    assert all("they say" not in s.prompt for s in made if s.expected[0][0] == "Mon0x")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("multidoc", 10, 0), "no variant ''.*open, closed, oracle"),
        (TextSetting("multidoc.open", 10, -1), "needs a depth"),
        (TextSetting("multidoc.open", 1, 0), "counts documents, from 2 to"),
        (TextSetting("multidoc.open", 5000, 0), "counts documents, from 2 to (20|400) "),
        (TextSetting("multidoc.open", 10, 0, 2), "leave out --needles"),
        (TextSetting("multidoc.closed", 10, 0), "closed has 0 documents"),
    ],
    ids=str,
)
def test_what_cannot_be_made(multidoc: Maker, setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        multidoc.check(setting)


# --------------------------------------------------------------------------- as a user


def test_as_a_user(mmneedle: Shell) -> None:
    natural(Path("nq.jsonl.gz"))
    made = mmneedle.ok(
        "build-text", "set", "multidoc", "--questions", "nq.jsonl.gz", "--lengths", "5,10",
        "--depths", "0,50,100", "--samples", 3,
    )  # fmt: skip
    assert "8 settings, 24 samples" in made
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet")
    rows = score_text_run(Run.open("run"))
    assert {row.score for row in rows} == {1.0}
    assert {(row.task, row.length) for row in rows if row.depth is None} == {
        ("multidoc.closed", 0),
        ("multidoc.oracle", 1),
    }
    assert "documents" in mmneedle.ok("score", "run")


def test_without_a_file_there_are_drawn_scenes_or_photos(mmneedle: Shell) -> None:
    made = mmneedle.ok("build-text", "drawn", "multidoc", "--depths", "50", "--samples", 1)
    assert "5 settings" in made
    mmneedle.ok(
        "build", "images", "--source", "shapes", "--scenes", 60, "--settings", "1x2",
        "--samples", 2, "--cell", 32, "--quiet",
    )  # fmt: skip
    mmneedle.ok("build-text", "photos", "multidoc", "--captions", "images", "--depths", "50")
    told = mmneedle.refused("build-text", "x", "multidoc", "--captions", "images", "--lengths", 61)
    assert "from 2 to 60" in told
    assert "leave out --texts" in mmneedle.refused("build-text", "x", "multidoc", "--texts", ".")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "q", "answers": ["a"]}', "line 2: Object missing required field `ctxs`"),
        ('{"question": "q", "answers": "a", "ctxs": []}', "line 2: Expected `array`.*answers"),
        ('{"question": "q", "answers": ["a"], "ctxs": []}', "line 2: ctxs has 0 documents"),
        ("[1, 2]", "line 2: Expected `object`"),
        ('{"question": ', "line 2: Input data was truncated"),
        ("\x00\x01", "line 2: "),
    ],
)
def test_a_wrong_file_is_one_line(mmneedle: Shell, line: str, said: str) -> None:
    good = natural(Path("good.jsonl")).read_text().splitlines()[0]
    Path("bad.jsonl").write_text(f"{good}\n{line}\n")
    told = mmneedle.refused("build-text", "set", "multidoc", "--questions", "bad.jsonl")
    assert re.search(f"bad.jsonl: {said}", told), told
