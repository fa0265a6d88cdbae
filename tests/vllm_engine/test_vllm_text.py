"""vllm/PATH with models that only read: the same answers as transformers gives, in float32."""

from pathlib import Path

import pytest
from asking import ask
from engine_loop import ARGS
from text_models import write_text_model
from text_sets import maker
from text_sets import tokens as counting

from mmneedle.adapters import create
from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.rope import KINDS, Rope
from mmneedle.adapters.vllm_engine import Plan
from mmneedle.errors import UserError
from mmneedle.types import Needs, Request, Setting, TextSetting

SETTING = TextSetting("niah.keys8", 600, 500)


@pytest.mark.parametrize("chats", [True, False], ids=["chats", "goes on"])
def test_transformers_gives_the_same(chats: bool, tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model", chats=chats)
    niah = maker("niah", counting(tmp_path / "words"))
    samples = [niah.sample(SETTING, index) for index in range(6)]
    requests = [Request(sample, sample.prompt, ()) for sample in samples]
    needs = [Needs(SETTING, 0, 0, max((s.prompt for s in samples), key=len), 0)]
    engine = create(f"vllm/{model}", max_tokens=12, engine_args=ARGS)
    engine.prepare(needs)  # type: ignore[attr-defined]
    other = create(f"hf/{model}", max_tokens=12, engine_args={"dtype": "float32"})
    other.prepare(needs)  # type: ignore[attr-defined]
    one, two = ask(engine, requests), ask(other, requests)
    assert len({answer.text for answer in one}) > 1
    for first, second in zip(one, two, strict=True):
        assert first.status == second.status
        # The last bytes may be half a character, which vLLM keeps to itself.
        assert str(first.text).rstrip("\ufffd") == str(second.text).rstrip("\ufffd")
        assert first.usage and second.usage
        assert first.usage.input_tokens == second.usage.input_tokens


def test_a_stretched_window_is_the_same_in_both_engines(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model", chats=False, context=512)
    niah = maker("niah", counting(tmp_path / "words"))
    setting = TextSetting("niah", 1000, 500)
    samples = [niah.sample(setting, index) for index in range(3)]
    requests = [Request(sample, sample.prompt, ()) for sample in samples]
    needs = [Needs(setting, 0, 0, max((s.prompt for s in samples), key=len), 0)]
    checkpoint = Checkpoint.open(str(model))
    for kind in KINDS:
        given = Rope(kind, 4.0).arguments("vllm", checkpoint)
        plan = Plan(f"vllm/{model}", checkpoint, ARGS | given, 12)
        assert 1000 < plan.arguments(needs)["max_model_len"] <= 2048
    yarn = Rope("yarn", 4.0)
    engine = create(
        f"vllm/{model}", max_tokens=12, engine_args=ARGS | yarn.arguments("vllm", checkpoint)
    )
    engine.prepare(needs)  # type: ignore[attr-defined]
    stretched = {"dtype": "float32"} | yarn.arguments("hf", checkpoint)
    other = create(f"hf/{model}", max_tokens=12, engine_args=stretched)
    other.prepare(needs)  # type: ignore[attr-defined]
    one, two = ask(engine, requests), ask(other, requests)
    for first, second in zip(one, two, strict=True):
        assert str(first.text).rstrip("\ufffd") == str(second.text).rstrip("\ufffd")
        assert first.usage and first.usage.input_tokens and first.usage.input_tokens > 900


def test_images_are_refused_before_anything_starts(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model", chats=True)
    adapter = create(f"vllm/{model}", engine_args=ARGS)
    with pytest.raises(UserError, match="is a text-only model"):
        adapter.prepare([Needs(Setting(1, 2, 2), 64, 64, "?", 1)])  # type: ignore[attr-defined]
