"""keyvalue: the pair that is asked for, once, where the record says, among k others."""

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import Shell
from text_checks import length_lands, samples
from text_sets import maker, tokens

from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.tasks.keyvalue import VARIANTS, _placed
from mmneedle.texts.making import Maker
from mmneedle.texts.scoring import score_text, score_text_run
from mmneedle.texts.tokens import Approximate, Tokens
from mmneedle.types import Response, TextSample, TextSetting


@pytest.fixture(scope="module", params=["approximate", "bpe"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return tokens(None if request.param == "approximate" else tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def keyvalue(counting: Tokens) -> Maker:
    return maker("keyvalue", counting)


def container(prompt: str) -> str:
    (found,) = re.findall(r"\{.*\}", prompt, re.DOTALL)
    return str(found)


def pairs(sample: TextSample) -> dict[str, str]:
    text = container(sample.prompt)
    if sample.setting.task.endswith(".dict"):
        return {str(key): str(value) for key, value in ast.literal_eval(text).items()}
    read: dict[str, str] = json.loads(text)
    return read


SETTINGS = [
    TextSetting(f"keyvalue.{variant}", length, depth, k)
    for variant in VARIANTS
    for length, k in ((2, 1), (75, 1), (300, 1), (300, 5), (12, 12))
    for depth in (0, 500, 1000)
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_each_answer_stands_once_where_the_record_says(
    keyvalue: Maker, counting: Tokens, setting: TextSetting
) -> None:
    for sample in samples(keyvalue, setting, 2):
        read = pairs(sample)
        assert len(read) == setting.length
        assert len({*read, *read.values()}) == 2 * setting.length
        assert len(sample.expected) == setting.needles
        for (answer,), key, item in zip(
            sample.expected, sample.details["keys"], sample.details["items"], strict=True
        ):
            assert list(read.items())[item] == (key, answer)
            assert sample.prompt.count(answer) == 1
        length_lands(keyvalue, counting, sample)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_who_reads_the_object_has_all_points(keyvalue: Maker, setting: TextSetting) -> None:
    for sample in samples(keyvalue, setting, 2):
        around = sample.prompt.replace(container(sample.prompt), "")
        read = pairs(sample)
        said = "; ".join(read[key] for key in read if re.search(rf"\b{key}\b", around))
        found = score_text(setting, sample.expected, Response("ok", said))
        assert found is not None and found.value == 1.0
        wrong = "; ".join(read[key] for key in read if not re.search(rf"\b{key}\b", around))
        found = score_text(setting, sample.expected, Response("ok", wrong))
        assert found is not None and found.value == 0.0


@pytest.mark.parametrize("depth", [0, 1, 250, 500, 999, 1000])
def test_the_key_is_within_an_item_of_its_depth(keyvalue: Maker, depth: int) -> None:
    (sample,) = samples(keyvalue, TextSetting("keyvalue.after", 140, depth), 1)
    assert abs(sample.details["items"][0] - depth / 1000 * 139) <= 0.5


@given(data=st.data(), length=st.integers(1, 60), depth=st.floats(0, 1))
def test_any_number_of_keys_finds_its_place(data: st.DataObject, length: int, depth: float) -> None:
    k = data.draw(st.integers(1, length))
    every = [(str(number), "") for number in range(length)]
    items, places = _placed(every[:k], every[k:], depth)
    assert [items[place] for place in places] == every[:k]
    assert [item for item in items if item not in every[:k]] == every[k:]
    assert abs(places[0] - depth * (length - 1)) <= max(0.5, k - 1)


def test_where_the_question_stands(keyvalue: Maker) -> None:
    before, after, both = (
        samples(keyvalue, TextSetting(f"keyvalue.{variant}", 20, 500), 1)[0].prompt
        for variant in ("before", "after", "both")
    )
    assert (before.count("What is"), after.count("What is"), both.count("What is")) == (1, 1, 2)
    assert before.startswith("What is") and before.endswith("}")
    assert after.endswith("alone.") and both.startswith("What is") and both.endswith("alone.")
    assert container(before) == container(after) == container(both)


def test_the_other_pairs_stay_whatever_the_depth(keyvalue: Maker) -> None:
    def others(depth: int) -> list[str]:
        (sample,) = samples(keyvalue, TextSetting("keyvalue.after", 50, depth), 1)
        return [key for key in pairs(sample) if key not in sample.details["keys"]]

    assert others(0) == others(300) == others(1000)


def test_the_answers_form_is_given(keyvalue: Maker) -> None:
    (sample,) = samples(keyvalue, TextSetting("keyvalue.dict", 40, 500), 1)
    key = sample.details["keys"][0]
    assert sample.prompt.endswith(f"The value of {key} is ___.")
    kinds = {key.isdigit() for key in pairs(sample)}
    assert kinds == {True, False}


def test_the_same_every_time(keyvalue: Maker, counting: Tokens) -> None:
    again = maker("keyvalue", counting)
    setting = TextSetting("keyvalue.after", 75, 500)
    assert samples(keyvalue, setting, 4) == samples(again, setting, 4)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("keyvalue.middle", 75, 0), "no variant 'middle'.*after, before"),
        (TextSetting("keyvalue", 75, 0), "no variant ''"),
        (TextSetting("keyvalue.after", 1, 0), "counts pairs, from 2"),
        (TextSetting("keyvalue.after", 1 << 20, 0), "counts pairs"),
        (TextSetting("keyvalue.after", 3, 0, 4), "4 needles of 3 pairs"),
        (TextSetting("keyvalue.after", 3, -1), "needs a depth"),
    ],
    ids=str,
)
def test_what_cannot_be_made(setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        maker("keyvalue", Approximate()).check(setting)


def test_as_a_user(mmneedle: Shell) -> None:
    made = mmneedle.ok("build-text", "set", "keyvalue", "--depths", "0,100", "--samples", 2)
    assert "6 settings, 12 samples" in made
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet")
    assert {row.score for row in score_text_run(Run.open("run"))} == {1.0}
    printed = mmneedle.ok("score", "run")
    assert "keyvalue.after" in printed and "pairs" in printed
    assert "no option 'x'" in mmneedle.refused("build-text", "b", "keyvalue", "--option", "x=1")
    assert "makes its own text" in mmneedle.refused("build-text", "b", "keyvalue", "--texts", ".")
    refused = mmneedle.refused("build-text", "b", "keyvalue", "--questions", "x.json")
    assert "makes its own questions" in refused


def test_lengths_past_the_window_are_told(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "keyvalue", "--lengths", "10,500", "--depths", "50")
    lines = [
        {"sample": f"keyvalue.after-l{length}-d500-k1-{index:06d}", "status": status, "text": "no"}
        for index in range(5)
        for length, status in ((10, "ok"), (500, "too_long"))
    ]
    Path("said.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = mmneedle("run", "set", "--model", "baseline/scripted?file=said.jsonl", "--log", "run")
    assert done.status == 1
    printed = mmneedle.ok("score", "run")
    assert "lengths past the model's window: skipped (500)" in printed
    rows = score_text_run(Run.open("run"))
    assert [(row.answered, row.score) for row in rows] == [(5, 0.0), (0, None)]
