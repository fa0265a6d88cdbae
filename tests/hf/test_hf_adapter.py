"""hf/PATH on the real engine, with the model that comes along: answers mean something."""

import asyncio
import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from asking import ask
from checkpoint_folders import write_checkpoint
from hf_runs import MINUS, copied, encoded, engine_of, ready
from PIL import Image
from safetensors.torch import load_file, save_file
from shell import Shell
from transformers import AutoModelForImageTextToText, Qwen2VLImageProcessorPil

from mmneedle.adapters import create
from mmneedle.adapters.hf import HFAdapter
from mmneedle.adapters.hf_engine import Engine
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks.twins import TwinTask
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Needs, Request, Response, Setting

# --------------------------------------------------------------------------- answers


def test_batched_answers_are_right_and_those_of_one_at_a_time(
    needs: list[Needs], requests: list[Request]
) -> None:
    """Prompts of different lengths and numbers of images share batches, padded on the left."""
    batched = ask(ready(needs, logprobs=True, engine_args={"batch_size": "8"}), requests)
    single = ask(ready(needs, logprobs=True, engine_args={"batch_size": "1"}), requests)
    right = 0
    for one, other, request in zip(batched, single, requests, strict=True):
        assert (one.text, one.usage, one.status) == (other.text, other.usage, "ok")
        assert one.absent_logprob == pytest.approx(other.absent_logprob, abs=1e-3)
        right += one.text == "; ".join(str(place or MINUS) for place in request.sample.truth)
    assert right >= len(requests) - 1


def test_the_order_of_images_moves_the_answer(needs: list[Needs], requests: list[Request]) -> None:
    asked = [r for r in requests if r.sample.setting.images == 3 and r.sample.positive][:4]
    turned = [
        msgspec.structs.replace(r, images=(*r.images[1:], r.images[0])) for r in asked
    ]  # image k is now image k - 1
    answers = ask(ready(needs), asked + turned)
    for before, after in zip(answers[:4], answers[4:], strict=True):
        image, row, column = map(int, str(before.text).split(","))
        assert after.text == f"{(image - 2) % 3 + 1}, {row}, {column}"


def test_what_a_response_holds(needs: list[Needs], requests: list[Request]) -> None:
    (response,) = ask(ready(needs), requests[:1])
    assert response.model == create("hf/tiny").checkpoint.version  # type: ignore[attr-defined]
    assert response.stop_reason == "stop"
    assert response.usage is not None and response.usage.output_tokens is not None
    assert response.latency and response.first_token and response.first_token < response.latency
    assert response.absent_logprob is None  # nobody asked for it


# --------------------------------------------------------------------------- what is sent


def test_pixels_are_those_of_the_models_own_processor_in_order(
    needs: list[Needs], requests: list[Request]
) -> None:
    adapter = ready(needs)
    request = next(r for r in requests if r.sample.setting.images == 4)
    sent = encoded(adapter, request)
    engine = engine_of(adapter)
    assert sent.prompt.count("<|image_pad|>") == 4
    assert [sent.prompt.index(f"Picture {k}: ") for k in range(1, 5)] == sorted(
        sent.prompt.index(f"Picture {k}: ") for k in range(1, 5)
    )
    assert sent.prompt.index("<|image_pad|>") < sent.prompt.index(request.prompt)
    pictures = [Image.open(io.BytesIO(data)) for data in request.images]
    own = Qwen2VLImageProcessorPil.from_pretrained(WEIGHTS)(pictures, return_tensors="pt")
    assert torch.equal(sent.inputs["pixel_values"], own["pixel_values"])
    assert torch.equal(sent.inputs["image_grid_thw"], own["image_grid_thw"])
    ids = sent.inputs["input_ids"][0]
    visual = int((ids == engine.model.config.image_token_id).sum())
    assert visual == int(own["image_grid_thw"].prod(-1).sum()) // 4
    asyncio.run(adapter.aclose())


def test_images_are_not_shrunk_unless_the_user_says_so(requests: list[Request]) -> None:
    large = [Needs(Setting(1, 2, 2), 896, 672, "?", 1)]
    picture = io.BytesIO()
    Image.new("RGB", (896, 672)).save(picture, "JPEG")
    request = msgspec.structs.replace(requests[0], images=(picture.getvalue(),))
    adapter = ready(large)
    assert encoded(adapter, request).inputs["image_grid_thw"].tolist() == [[1, 24, 32]]
    assert adapter.see(large[0])[:2] == (896, 672)
    small = ready(large, engine_args={"max_pixels": str(448 * 336)})
    assert encoded(small, request).inputs["image_grid_thw"].tolist() == [[1, 12, 16]]
    assert small.see(large[0]) == (448, 336, 48)


def test_a_question_that_holds_a_placeholder_is_refused(
    needs: list[Needs], requests: list[Request]
) -> None:
    wrong = msgspec.structs.replace(requests[0], prompt="a <|image_pad|> on the wall")
    responses = ask(ready(needs), [wrong, requests[0]])
    assert [r.status for r in responses] == ["bad_request", "ok"]
    assert "2 image placeholders for 1 images" in (responses[0].error or "")


def test_text_alone_is_asked_too(scenes: DataSet) -> None:
    task = TwinTask(scenes, "literal")
    setting = scenes.settings[0]
    asked = [task.request(sample) for sample in scenes.samples(setting, 0, 6)]
    adapter = ready([task.needs(setting, 0, 6)])
    tokenizer = engine_of(adapter).tokenizer
    for answer, request in zip(ask(adapter, asked), asked, strict=True):
        assert answer.status in ("ok", "truncated")  # this model never learned to read
        assert answer.usage and answer.usage.input_tokens
        words = tokenizer.encode(request.prompt, add_special_tokens=False)
        assert 0 < answer.usage.input_tokens - len(words) < 64  # the chat template's own


def test_an_image_that_is_none(needs: list[Needs], requests: list[Request]) -> None:
    wrong = msgspec.structs.replace(requests[0], images=(requests[0].images[0][:300],))
    (response,) = ask(ready(needs), [wrong])
    assert response.status == "image_rejected"


# --------------------------------------------------------------------------- lengths


def test_an_answer_that_is_cut_off(needs: list[Needs], requests: list[Request]) -> None:
    positive = next(r for r in requests if r.sample.positive)
    (response,) = ask(ready(needs, max_tokens=2), [positive])
    assert (response.status, response.stop_reason) == ("truncated", "length")
    assert response.text and len(response.text) <= 3
    assert response.usage is not None and response.usage.output_tokens == 2


def test_a_prompt_that_is_too_long(needs: list[Needs], requests: list[Request]) -> None:
    adapter = ready(needs, engine_args={"max_model_len": "130"})
    responses = ask(adapter, requests[:4])
    by_cells = {r.sample.setting: a for r, a in zip(requests, responses, strict=False)}
    assert by_cells[Setting(1, 1, 1)].status == "ok"
    assert by_cells[Setting(3, 2, 2)].status == "too_long"
    assert "context 130" in (by_cells[Setting(3, 2, 2)].error or "")


# --------------------------------------------------------------------------- log-probabilities


def test_the_log_probability_is_that_of_the_models_logits(
    needs: list[Needs], requests: list[Request]
) -> None:
    adapter = ready(needs, logprobs=True)
    token = engine_of(adapter).tokenizer.encode(MINUS, add_special_tokens=False)[0]
    inputs = [encoded(adapter, request).inputs for request in requests[:6]]
    responses = ask(adapter, requests[:6])
    model = AutoModelForImageTextToText.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    for given, response in zip(inputs, responses, strict=True):
        with torch.inference_mode():
            logits = model(**given).logits[0, -1]
        direct = torch.log_softmax(logits, -1)[token].item()
        assert response.absent_logprob == pytest.approx(direct, abs=2e-3)
    assert any((r.absent_logprob or -9) > -0.1 for r in responses)
    assert any((r.absent_logprob or 0) < -3 for r in responses)


# --------------------------------------------------------------------------- thinking


def speak(adapter: HFAdapter, text: str, end: bool = True) -> None:
    """Let the model generate this text, token by token, through the real generate."""
    engine = engine_of(adapter)
    tokens = engine.tokenizer.encode(text, add_special_tokens=False)
    ends = engine.generation.eos_token_id
    script = [*tokens, *(ends[:1] if end else [])]

    def force(inputs: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = script[min(force.step, len(script) - 1)]  # type: ignore[attr-defined]
        force.step += 1  # type: ignore[attr-defined]
        scores = scores.clone()
        scores[:, token] += 1000
        return scores

    force.step = 0  # type: ignore[attr-defined]
    generate = engine.model.generate

    def forced(**options: Any) -> Any:
        processors = [*options.pop("logits_processor"), force]
        return generate(**options, logits_processor=processors)

    engine.model.generate = forced


def test_thoughts_are_kept_apart_and_the_odds_are_those_of_the_answer(
    needs: list[Needs], requests: list[Request]
) -> None:
    adapter = ready(needs, logprobs=True)
    speak(adapter, "<think>\nis it there\n</think>\n\n1, 2, 3")
    first = encoded(adapter, requests[0]).inputs
    engine = engine_of(adapter)
    before = engine.tokenizer.encode("<think>\nis it there\n</think>\n\n", add_special_tokens=False)
    ids = torch.cat([first["input_ids"], torch.tensor([before])], -1)
    (response,) = ask(adapter, requests[:1])
    assert (response.status, response.text) == ("ok", "1, 2, 3")
    assert response.reasoning == "is it there"
    assert response.first_token is None
    model = AutoModelForImageTextToText.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    rest = {"attention_mask": torch.ones_like(ids)}
    kinds = torch.nn.functional.pad(first["mm_token_type_ids"], (0, len(before)))
    given = {**first, **rest, "input_ids": ids, "mm_token_type_ids": kinds}
    with torch.inference_mode():
        logits = model(**given).logits[0, -1]
    token = engine.tokenizer.encode(MINUS, add_special_tokens=False)[0]
    direct = torch.log_softmax(logits, -1)[token].item()
    assert response.absent_logprob == pytest.approx(direct, abs=2e-3)


def test_who_is_cut_off_while_thinking_has_not_answered(
    needs: list[Needs], requests: list[Request]
) -> None:
    adapter = ready(needs, logprobs=True, max_tokens=12)
    speak(adapter, "<think>it might be 1, 2, 3 or it might not", end=False)
    (response,) = ask(adapter, requests[:1])
    assert (response.status, response.text, response.stop_reason) == ("truncated", "", "length")
    assert response.reasoning and response.absent_logprob is None


# --------------------------------------------------------------------------- memory


def forgetful(adapter: HFAdapter, most: int) -> list[int]:
    """Let memory run out with more than so many requests at once. Notes how many were tried."""
    engine, tried = engine_of(adapter), []
    generate = engine.model.generate

    def limited(**options: Any) -> Any:
        tried.append(len(options["input_ids"]))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(**options)

    engine.model.generate = limited
    return tried


def test_where_memory_runs_out_halves_are_tried_and_then_single_requests(
    needs: list[Needs], requests: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ask(ready(needs), requests[:16])
    for most, sizes in ((4, [8, 4, 4, 4, 4]), (1, [8, 4, *[1] * 16])):
        adapter = ready(needs)
        tried = forgetful(adapter, most)
        answers = ask(adapter, requests[:16])
        assert [answer.text for answer in answers] == [answer.text for answer in whole]
        assert tried == sizes
        said = capsys.readouterr().err
        assert "out of memory on cpu with 8 requests at once" in said


def test_without_memory_for_one_the_run_ends_in_one_line_and_goes_on_later(
    mmneedle: Shell, scenes: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = (
        "run",
        scenes.folder,
        "--model",
        "hf/tiny",
        "--log",
        "log",
        "--settings",
        "1x1",
        "--quiet",
    )
    generate = Engine._answer
    calls = []

    def limited(self: Engine, batch: Any) -> list[Response]:
        calls.append(len(batch.requests))
        if len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_answer", limited)
        done = mmneedle(*run, "--engine-arg", "batch_size=4")
    assert (done.status, done.out) == (2, "")
    last = done.err.splitlines()[-1]
    assert last.startswith("mmneedle: tiny@") and "finished answers are safe" in last
    assert "Traceback" not in done.err
    safe = sum(1 for _ in Run.open("log").records())
    assert safe == 4
    assert "12 of 12 samples answered" in mmneedle.ok(*run, "--engine-arg", "batch_size=2")
    assert sum(1 for _ in Run.open("log").records()) == 12


# --------------------------------------------------------------------------- whole runs


def test_a_run_is_scored_and_asks_nothing_twice(mmneedle: Shell, scenes: DataSet) -> None:
    run = ("run", scenes.folder, "--model", f"hf/{WEIGHTS}", "--log", "log", "--quiet")
    assert "4 of 4 samples answered" in mmneedle.ok(*run, "--settings", "1x4", "--limit", "4")
    assert "48 of 48 samples answered" in mmneedle.ok(*run)
    assert "48 of 48 samples answered, 0 requests" in mmneedle.ok(*run)
    opened = Run.open("log")
    assert sum(1 for _ in opened.records()) == 48
    rows = [row for row in score_run(opened, ["paper"]) if row.split == "positive"]
    assert sum((row.exact or 0) * row.n for row in rows) >= 23
    assert opened.header.adapter["dtype"] == "float32"
    assert opened.header.effective_cell["n3-g2x2-k1"] == (56, 56)


# --------------------------------------------------------------------------- bad input


def refusal(mmneedle: Shell, scenes: DataSet, name: Path | str, *more: str) -> str:
    return mmneedle.refused("run", scenes.folder, "--model", f"hf/{name}", "--log", "log", *more)


def test_checkpoints_that_are_none(mmneedle: Shell, scenes: DataSet, tmp_path: Path) -> None:
    assert "no such folder" in refusal(mmneedle, scenes, tmp_path / "none")
    text = write_checkpoint(tmp_path / "text", config={"model_type": "qwen2"})
    assert "is a text-only model (qwen2)" in refusal(mmneedle, scenes, text)
    cut = copied(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert "model.safetensors: has 18" in refusal(mmneedle, scenes, cut.parent)
    broken = copied(tmp_path / "broken")
    (broken / "config.json").write_text('{"model_type": "qwen2_vl", ')
    assert "config.json: is damaged" in refusal(mmneedle, scenes, broken)
    unknown = copied(tmp_path / "unknown")
    config = json.loads((unknown / "config.json").read_text()) | {"model_type": "qwen99_vl"}
    (unknown / "config.json").write_text(json.dumps(config))
    assert "cannot load it" in refusal(mmneedle, scenes, unknown)
    assert not Path("log").exists()


def test_weights_that_are_not_all_there_or_do_not_fit(
    mmneedle: Shell, scenes: DataSet, tmp_path: Path
) -> None:
    """transformers alone would warn and go on with random numbers."""
    folder = copied(tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(weights) if re.search(r"layers\.3.*mlp", name))
    one = weights.pop(name)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "1 weights are missing from the checkpoint" in refusal(mmneedle, scenes, folder)
    save_file(weights | {name: one[:5]}, folder / "model.safetensors", {"format": "pt"})
    assert "hf/" in refusal(mmneedle, scenes, folder)


def test_a_chat_template_without_images(mmneedle: Shell, scenes: DataSet, tmp_path: Path) -> None:
    folder = copied(tmp_path / "words")
    (folder / "chat_template.json").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ messages[0]['content'][-1]['text'] }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "makes 0 image placeholders of 4 images" in refusal(mmneedle, scenes, folder)
    settings["chat_template"] = "{{ raise_exception('one image only') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "one image only" in refusal(mmneedle, scenes, folder)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("colour=red", "no engine argument 'colour'; it takes batch_size, device"),
        ("dtype=int8", "dtype is 'int8', not one of float32"),
        ("device=gpu", "device is 'gpu', not cpu, cuda or cuda:1"),
        ("device=cuda:7", "there is no cuda:7 here"),
        ("batch_size=0", "batch_size is '0', not a whole number from 1 up"),
        ("rope_scaling=4", "rope_scaling takes JSON"),
        ("attn_implementation=magic", "cannot load it"),
        ("max_pixels=1e6", "max_pixels is '1e6', not a whole number"),
    ],
)
def test_engine_arguments_that_are_wrong(
    mmneedle: Shell, scenes: DataSet, argument: str, words: str
) -> None:
    assert words in refusal(mmneedle, scenes, "tiny", "--engine-arg", argument)


def test_engine_arguments_that_are_passed_on(needs: list[Needs], requests: list[Request]) -> None:
    rope = '{"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096}'
    given = {
        "attn_implementation": "eager",
        "dtype": "bfloat16",
        "rope_scaling": rope,
        "repetition_penalty": "1.5",
    }
    adapter = ready(needs, temperature=0.7, seed=1, engine_args=given)
    engine = engine_of(adapter)
    assert engine.model.dtype == torch.bfloat16
    assert engine.model.config._attn_implementation == "eager"
    inner = engine.model.config.get_text_config().rope_parameters
    assert (inner["rope_type"], inner["rope_theta"]) == ("yarn", 1000.0)
    assert engine.settings.context == 8192
    assert engine.generation.repetition_penalty == 1.5
    assert (engine.generation.do_sample, engine.generation.temperature) == (True, 0.7)
    assert encoded(adapter, requests[0]).inputs["pixel_values"].dtype == torch.bfloat16
    assert adapter.fingerprint()["engine_args"] == given
    asyncio.run(adapter.aclose())


def test_an_adapter_must_be_prepared(requests: list[Request]) -> None:
    with pytest.raises(UserError, match=r"call prepare\(\)"):
        ask(HFAdapter("tiny"), requests[:1])
