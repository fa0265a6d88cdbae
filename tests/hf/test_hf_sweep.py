"""`mmneedle sweep` on the real engine: what was past the window is asked when it is stretched."""

import json
from pathlib import Path

import pytest
from hf_runs import engine_of, ready
from shell import Shell
from text_models import write_text_model

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.rope import read_rope
from mmneedle.runlog import Run
from mmneedle.texts.dataset import TextDataSet

WAYS = ("none", "linear:4", "dynamic:4", "yarn:4")


@pytest.fixture
def model(mmneedle: Shell, tmp_path: Path) -> Path:
    folder = write_text_model(tmp_path / "model", chats=False, context=512)
    mmneedle.ok(
        *("build-text", "texts", "niah", "--lengths", "400,1k", "--depths", "0,100"),
        *("--samples", 2, "--tokenizer", folder),
    )
    return folder


def test_longer_texts_are_asked_in_a_stretched_window(mmneedle: Shell, model: Path) -> None:
    words = ("sweep", "texts", "--model", f"hf/{model}", "--log", "runs", "--max-tokens", 8)
    ropes = [word for way in WAYS for word in ("--rope", way)]
    out = mmneedle.ok(*words, *ropes, "--quiet")
    assert out.count("past") == 2  # the cell, and what it means
    told = json.loads(mmneedle.ok(*words, *ropes, "--quiet", "--json"))
    assert [one["rope"] for one in told] == list(WAYS)
    skipped = {one["rope"]: [p["skipped"] for p in one["effective"]["points"]] for one in told}
    assert skipped.pop("none") == [0, 4]
    assert set(map(tuple, skipped.values())) == {(0, 0)}
    lines = {
        way: len(list(Run.open(one["run"]).records())) for way, one in zip(WAYS, told, strict=True)
    }
    assert lines == dict.fromkeys(WAYS, 8)  # the second command asked nothing again
    assert Run.open("runs/yarn-4").header.adapter["engine_args"]["rope_scaling"]


@pytest.mark.parametrize("way", WAYS[1:])
def test_the_engine_scales(model: Path, way: str) -> None:
    rope = read_rope(way)
    arguments = rope.arguments("hf", Checkpoint.open(str(model)))
    texts = TextDataSet.open("texts")
    needs = [texts.needs(setting, 0, 2) for setting in texts.settings]
    engine = engine_of(ready(needs, str(model), engine_args=arguments))
    parameters = engine.model.config.rope_parameters
    assert (parameters["rope_type"], parameters["factor"]) == (rope.kind, rope.factor)
    assert engine.settings.context == 2048


def test_wrong_wishes(mmneedle: Shell, model: Path) -> None:
    words = ("sweep", "texts", "--log", "runs", "--model")
    assert "only models on this machine" in mmneedle.refused(
        *words, "openai/gpt-4o", "--rope", "yarn:4"
    )
    assert "--rope takes" in mmneedle.refused(*words, f"hf/{model}", "--rope", "yarn")
    assert "say the same" in mmneedle.refused(
        *(*words, f"hf/{model}", "--rope", "yarn:4", "--engine-arg", "rope_scaling={}")
    )
    assert not Path("runs").exists()
