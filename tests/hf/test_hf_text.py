"""hf/PATH with models that only read: text tasks, with and without a chat template."""

from pathlib import Path

import pytest
from asking import ask
from hf_runs import engine_of, ready
from shell import Shell
from text_models import write_text_model

from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet
from mmneedle.texts.dataset import TextDataSet
from mmneedle.types import Request, TextSetting

SETTING = TextSetting("niah", 400, 500)


@pytest.fixture(scope="module", params=[True, False], ids=["chats", "goes on"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("model"), chats=request.param)


@pytest.fixture
def texts(mmneedle: Shell, model: Path) -> TextDataSet:
    mmneedle.ok(
        *("build-text", "texts", "niah", "--lengths", "400", "--depths", "50", "--samples", 4),
        *("--tokenizer", model),
    )
    return TextDataSet.open("texts")


def requests(texts: TextDataSet) -> list[Request]:
    return [texts.request(sample) for sample in texts.samples(SETTING)]


def test_texts_are_asked_as_the_model_wants_them(texts: TextDataSet, model: Path) -> None:
    adapter = ready([texts.needs(SETTING, 0, 4)], str(model), max_tokens=8)
    engine = engine_of(adapter)
    sample = next(texts.samples(SETTING))
    prompt = engine._rendered(engine.processor, texts.request(sample), 0)
    if adapter.checkpoint.chats:
        assert prompt == f"<|user|>{sample.prompt}<|model|>"
    else:
        assert prompt == f"{sample.prompt}\n\n{sample.begin}"
    batched = ask(adapter, requests(texts))
    single = ask(
        ready(
            [texts.needs(SETTING, 0, 4)], str(model), max_tokens=8, engine_args={"batch_size": "1"}
        ),
        requests(texts),
    )
    assert [answer.text for answer in batched] == [answer.text for answer in single]
    for answer, request in zip(batched, requests(texts), strict=True):
        assert answer.status in ("ok", "truncated", "empty")
        assert "\n" not in (answer.text or "") or adapter.checkpoint.chats
        assert answer.usage and answer.usage.input_tokens
        own = 40  # the template's words, or how the answer begins
        assert abs(answer.usage.input_tokens - request.sample.tokens) <= own  # type: ignore[union-attr]


def test_a_whole_run(mmneedle: Shell, texts: TextDataSet, model: Path) -> None:
    run = ("run", "texts", "--model", f"hf/{model}", "--log", "log", "--max-tokens", "4", "--quiet")
    assert "4 of 4 samples answered" in mmneedle.ok(*run)
    assert "0 requests" in mmneedle.ok(*run)
    header = Run.open("log").header
    assert (header.task, header.cell, header.effective_cell) == ("niah", None, {})


def test_prompts_past_the_models_window_are_too_long(mmneedle: Shell, model: Path) -> None:
    mmneedle.ok(
        *("build-text", "long", "niah", "--lengths", "400,4k", "--depths", "50", "--samples", 2),
        *("--tokenizer", model),
    )
    done = mmneedle(
        *("run", "long", "--model", f"hf/{model}", "--log", "log", "--max-tokens", "4", "--quiet")
    )
    assert done.status == 1
    statuses = {record.sample: record.response.status for record in Run.open("log").outcomes()}
    assert [s for name, s in statuses.items() if "-l4096-" in name] == ["too_long"] * 2
    assert "too_long" not in [s for name, s in statuses.items() if "-l400-" in name]


def test_images_are_refused_in_a_line(mmneedle: Shell, scenes: DataSet, model: Path) -> None:
    said = mmneedle.refused("run", scenes.folder, "--model", f"hf/{model}", "--log", "log")
    assert "is a text-only model (llama)" in said
