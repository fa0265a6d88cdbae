"""The tiny model's network, questions and training, and its answers through transformers.

Needs torch and transformers: make test-hf.
"""

import asyncio
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from mmneedle.adapters import create  # noqa: E402
from mmneedle.data.shapes import ShapesSource, all_scenes  # noqa: E402
from mmneedle.prompts import prompt  # noqa: E402
from mmneedle.stitching.dataset import DataSet, build  # noqa: E402
from mmneedle.stitching.tiles import TileFormat  # noqa: E402
from mmneedle.tasks.grid import GridTask  # noqa: E402
from mmneedle.tiny import WEIGHTS, network, scenes  # noqa: E402
from mmneedle.tiny import checkpoint as cp  # noqa: E402
from mmneedle.tiny.questions import Batch, Questions  # noqa: E402
from mmneedle.tiny.runtime import _patches, _places  # noqa: E402
from mmneedle.tiny.train import answer_places, tree_mask  # noqa: E402
from mmneedle.types import Setting  # noqa: E402

pytestmark = pytest.mark.hf

SETTINGS = (
    Setting(1, 1, 1),
    Setting(10, 8, 8),
    Setting(3, 2, 2, 2),
    Setting(2, 4, 4, 5),
    Setting(2, 3, 5),
)


@pytest.fixture(scope="module")
def questions() -> Questions:
    torch.manual_seed(0)
    return Questions("cpu")


@pytest.fixture(scope="module")
def words():
    return transformers.AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def reference():
    loaded = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        WEIGHTS, dtype=torch.float32
    )
    return loaded.eval()


def rendered(words, setting: Setting, text: str) -> str:
    """A prompt as transformers renders it, each image's visual tokens written out."""
    content = [{"type": "image"}] * setting.images + [{"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    result = words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    pad = "<|image_pad|>"
    return result.replace(pad, pad * (setting.rows * setting.cols))


def location(setting: Setting, cell: int) -> str:
    grid = setting.rows * setting.cols
    return f"{cell // grid + 1}, {cell % grid // setting.cols + 1}, {cell % setting.cols + 1}"


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_questions_are_the_official_prompts_in_the_chat_template(setting, questions, words) -> None:
    batch: Batch = questions.batch(setting, 2, 4)
    for haystack in range(2):
        for question in range(4):
            captions = [
                all_scenes()[c].caption for c in batch.captions[haystack, question].tolist()
            ]
            cells = batch.cell[haystack, question].tolist()
            answer = "; ".join("-1" if c < 0 else location(setting, c) for c in cells)
            text = rendered(words, setting, prompt(setting, captions)) + answer + "<|im_end|>"
            wanted = words(text, add_special_tokens=False).input_ids
            tokens = batch.tokens[haystack, question].tolist()
            assert (batch.prefix.tolist() + tokens)[: len(wanted)] == wanted
            targets = batch.targets[haystack, question]
            assert words.decode(targets[targets >= 0]) == answer + "<|im_end|>"
            for k, part in enumerate(answer.split("; ")):
                own = targets[batch.needle[haystack, question] == k]
                assert words.decode(own).strip() == part
                end = batch.caption_end[haystack, question, k]
                assert words.decode([tokens[end]]) == " background"


def test_questions_are_about_what_is_there_or_not_and_leave_out_the_held_out(questions) -> None:
    setting = Setting(2, 4, 4, 2)
    batch = questions.batch(setting, 40, 8)
    held = torch.from_numpy(scenes.held_out_mask())
    assert not held[batch.tiles].any()
    assert not held[batch.captions].any()
    assert all(len(set(row)) == setting.cells for row in batch.tiles.tolist())
    positive = 0
    flat = (batch.captions.flatten(1), batch.cell.flatten(1))
    for tiles, captions, cells in zip(*(t.tolist() for t in (batch.tiles, *flat)), strict=True):
        for caption, cell in zip(captions, cells, strict=True):
            positive += cell >= 0
            assert (tiles[cell] == caption) if cell >= 0 else (caption not in tiles)
    assert 0.4 < positive / batch.cell.numel() < 0.6


def test_many_absent_captions_are_one_change_away_from_a_tile(questions) -> None:
    batch = questions.batch(Setting(1, 3, 3), 100, 8)
    table = questions.attributes
    near = far = 0
    for tiles, captions, cells in zip(batch.tiles, batch.captions, batch.cell, strict=True):
        for caption, cell in zip(captions.flatten(), cells.flatten(), strict=True):
            if cell < 0:
                same = (table[tiles] == table[caption]).sum(1).max()
                swapped = table[caption][[2, 3, 0, 1, 4, 5]]
                near += bool(same == 5 or (table[tiles] == swapped).all(1).any())
                far += 1
    assert 0.35 < near / far < 0.75


def test_branches_do_not_see_each_other(questions) -> None:
    mask = tree_mask(3, 2, 2, torch.device("cpu"))
    seen = [[j for j in range(7) if mask[i, j]] for i in range(7)]
    assert seen == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [0, 1, 2, 5],
        [0, 1, 2, 5, 6],
    ]


def test_answer_places_are_found(questions) -> None:
    needle = torch.tensor([[[-1, -1, 0, 0, -1, 1, -1]]])
    asked = answer_places(needle, 1)
    assert asked.needle[0, 0, :3].tolist() == [0, 0, 1]
    assert asked.place[0, 0, :3].tolist() == [2, 3, 5]


# ---------------------------------------------------------------- network


def test_the_network_is_that_of_transformers(questions, reference) -> None:
    model = network.from_checkpoint(load_file(WEIGHTS / "model.safetensors"))
    setting = Setting(3, 2, 4, 2)
    batch = questions.batch(setting, 1, 1)
    rows, cols = network.patch_places(2, 4)
    pixels = torch.randn(3, len(rows), 3 * cp.PATCH**2).clamp(-1, 1)
    frames = pixels.view(-1, 3, 1, cp.PATCH, cp.PATCH).expand(-1, -1, 2, -1, -1)
    ids = torch.cat((batch.prefix, batch.tokens[0, 0]))[None]
    is_visual = ids == cp.special(questions.words, "<|image_pad|>")
    with torch.no_grad():
        wanted = reference(
            input_ids=ids,
            pixel_values=frames.reshape(3 * len(rows), -1),
            image_grid_thw=torch.tensor([[1, 4, 8]] * 3),
            mm_token_type_ids=is_visual.int(),
        ).logits[0]
        x = model.language_model.embed_tokens(ids)
        x[is_visual] = model.visual(pixels, rows, cols).flatten(0, 1)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        hidden, _ = model.language_model(x, batch.positions[:, None], mask)
        torch.testing.assert_close(model.logits(hidden)[0], wanted, atol=2e-4, rtol=1e-4)


def test_a_checkpoint_keeps_its_weights() -> None:
    tensors = load_file(WEIGHTS / "model.safetensors")
    again = network.to_checkpoint(network.from_checkpoint(tensors))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())


def test_patches_are_those_of_transformers() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 168, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    processor = transformers.Qwen2VLImageProcessorPil.from_pretrained(WEIGHTS)
    wanted = processor(images=[Image.fromarray(noise)], return_tensors="np").pixel_values
    wanted = wanted.reshape(-1, 3, 2, cp.PATCH**2)[:, :, 0].reshape(len(wanted), -1)
    np.testing.assert_allclose(_patches(file.getvalue(), 2, 3), wanted, atol=1e-6)
    rows, cols = network.patch_places(2, 3)
    assert [p.tolist() for p in _places(2, 3)] == [rows.tolist(), cols.tolist()]


# ---------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    counts = {
        Setting(1, 4, 4): 6,
        Setting(10, 2, 2): 4,
        Setting(3, 8, 8): 4,
        Setting(2, 2, 2, 2): 4,
    }
    return build(
        tmp_path_factory.mktemp("tiny") / "data",
        ShapesSource(600, 3, "held-out"),
        counts,
        tiles=TileFormat(56, 56, 75, "4:4:4"),
        workers=1,
    )


def test_onnxruntime_answers_as_transformers_does(dataset, words, reference) -> None:
    adapter = create("onnx/tiny", logprobs=True)
    processor = transformers.Qwen2VLImageProcessorPil.from_pretrained(WEIGHTS)
    pad = words.convert_tokens_to_ids("<|image_pad|>")
    for setting in dataset.settings:
        for sample in dataset.samples(setting):
            request = GridTask(dataset).request(sample)
            pictures = [Image.open(io.BytesIO(image)) for image in request.images]
            pixels = processor(images=pictures, return_tensors="pt")
            ids = words(rendered(words, setting, request.prompt), return_tensors="pt").input_ids
            with torch.no_grad():
                output = reference.generate(
                    input_ids=ids,
                    **pixels,
                    mm_token_type_ids=(ids == pad).int(),
                    max_new_tokens=40,
                    return_dict_in_generate=True,
                    output_logits=True,
                )
            text = words.decode(output.sequences[0, ids.shape[1] :], skip_special_tokens=True)
            response = asyncio.run(adapter.generate(request))
            assert response.text == text, sample.id
            no = torch.log_softmax(output.logits[0][0], -1)[words.encode("-1")[0]].item()
            assert math.isclose(response.absent_logprob, no, rel_tol=1e-3, abs_tol=1e-3)


# ---------------------------------------------------------------- training


def test_training_runs_and_what_it_writes_answers(tmp_path: Path, dataset) -> None:
    """The same code path as on the GPU, for a moment: losses fall, the checkpoint is whole."""
    out = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "mmneedle.tiny.train", "--out", str(out), "--device", "cpu"]
    command += [
        "--minutes",
        "0.5",
        "--guises",
        "1",
        "--scenes",
        "400",
        "--tokens",
        "1500",
        "--workers",
        "1",
    ]
    command += ["--most-images", "2", "--most-cells", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [line for line in lines if "answer" in line]
    assert steps[-1]["step"] > steps[0]["step"] == 1
    assert steps[-1]["answer"] < steps[0]["answer"]
    assert all(math.isfinite(value) for value in steps[-1].values() if isinstance(value, float))
    assert {line["held out"] for line in lines if "held out" in line} >= {"n1-g2x2-k1"}
    export = [sys.executable, "-m", "mmneedle.tiny.export", str(out)]
    subprocess.run(
        export, check=True, capture_output=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    sample = next(iter(dataset.samples(Setting(1, 4, 4))))
    response = asyncio.run(create(f"onnx/{out}").generate(GridTask(dataset).request(sample)))
    assert response.status in ("ok", "truncated")
    loaded, notes = transformers.AutoModelForImageTextToText.from_pretrained(
        out, output_loading_info=True
    )
    assert not notes["missing_keys"] and not notes["unexpected_keys"]
    assert loaded.config.model_type == "qwen2_vl"


def test_exporting_the_shipped_weights_gives_the_shipped_graphs(tmp_path: Path, dataset) -> None:
    """Other versions of torch may write other nodes; the answers must be the same."""
    cp.write(tmp_path)
    save_file(
        load_file(WEIGHTS / "model.safetensors"), tmp_path / "model.safetensors", {"format": "pt"}
    )
    subprocess.run(
        [sys.executable, "-m", "mmneedle.tiny.export", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    shipped, fresh = create("onnx/tiny"), create(f"onnx/{tmp_path}")
    for sample in dataset.samples(Setting(3, 8, 8)):
        request = GridTask(dataset).request(sample)
        one, other = (asyncio.run(a.generate(request)).text for a in (shipped, fresh))
        assert one == other
