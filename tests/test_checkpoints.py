"""Model folders, read without an engine: what is wrong with one, and what it does to images."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_folders import QWEN, write_checkpoint, write_safetensors
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.image_rules import ImageRule
from mmneedle.errors import UserError


def refusal(name: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        Checkpoint.open(str(name))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_whole_folder_is_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    checkpoint = Checkpoint.open(str(folder))
    assert (checkpoint.name, checkpoint.revision) == (str(folder), None)
    assert checkpoint.model_type == "qwen2_vl"
    assert checkpoint.context == 4096
    assert checkpoint.images.kind == "pixels"
    assert checkpoint.fingerprint() == {"checkpoint": checkpoint.digest}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": None}, "no config.json"),
        ({"config": "{"}, "config.json: is damaged"),
        ({"config": "[]"}, "config.json: is damaged"),
        ({"config": {"a": 1}}, "names no model_type"),
        ({"preprocessor_config": None}, "has no image processor"),
        ({"preprocessor_config": "nul"}, "preprocessor_config.json: is damaged"),
        ({"tokenizer": None}, "has no tokenizer"),
        ({"tokenizer": "{}}"}, "tokenizer.json: is damaged"),
        ({"tokenizer_config": {}}, "has no chat template"),
    ],
)
def test_what_is_missing_or_damaged_is_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in refusal(write_checkpoint(tmp_path / "model", **changes))


def test_names_that_are_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such folder" in refusal(tmp_path / "none")
    file = tmp_path / "file"
    file.write_text("x")
    assert "is a file" in refusal(file)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "org/name: " in refusal("org/name")


@pytest.mark.parametrize("size", [0, 7, 8, 20, 60, 99])
def test_weights_that_are_cut_off(tmp_path: Path, size: int) -> None:
    path = write_checkpoint(tmp_path / "model") / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: size * len(whole) // 100])
    text = refusal(path.parent)
    assert text.startswith(f"{path}: ") and "again" in text


def test_weights_with_more_at_the_end_or_a_broken_header(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model") / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    assert "it is cut off or damaged" in refusal(path.parent)
    path.write_bytes(whole[:9] + b"\0" + whole[10:])
    assert "header is damaged" in refusal(path.parent)
    path.unlink()
    assert "has no weights" in refusal(path.parent)


def test_a_part_that_the_index_names_is_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    write_safetensors(folder / "model-1.safetensors")
    text = refusal(folder)
    assert "1 of 2 weight files are missing, such as model-2.safetensors" in text
    write_safetensors(folder / "model-2.safetensors")
    assert Checkpoint.open(str(folder)).digest


def test_the_digest_sees_files_and_weights_but_not_the_place(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "one")
    digest = Checkpoint.open(str(folder)).digest
    copy = tmp_path / "two"
    shutil.copytree(folder, copy)
    assert Checkpoint.open(str(copy)).digest == digest
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert Checkpoint.open(str(copy)).digest != digest


# --------------------------------------------------------------------------- sizes of images

SIDES = st.integers(28, 4096)


@given(SIDES, SIDES)
def test_a_fitted_rule_takes_no_more_than_the_rounding(width: int, height: int) -> None:
    rule = ImageRule.read(QWEN, {}).fitted(width, height)
    seen = rule.seen(width, height)
    assert seen is not None and not rule.shrinks(width, height)
    assert all(
        abs(now - side) <= 14 or width * height < 56 * 56
        for now, side in zip(seen, (width, height), strict=True)
    )
    assert rule.max_pixels >= 28 * 28 * 1280


def test_what_the_user_says_stands() -> None:
    rule = ImageRule.read(QWEN, {})
    assert rule.fitted(2048, 2048).kwargs() == {"min_pixels": 3136, "max_pixels": 2072 * 2072}
    small = rule.fitted(2048, 2048, {"max_pixels": "200704", "dtype": "float32"})
    assert small.kwargs() == {"min_pixels": 3136, "max_pixels": 200704}
    assert small.seen(2048, 2048) == (448, 448)
    assert small.shrinks(2048, 2048)
    with pytest.raises(UserError, match="min_pixels is 9, more than max_pixels, which is 8"):
        rule.fitted(64, 64, {"max_pixels": 8, "min_pixels": 9})
    with pytest.raises(UserError, match="max_pixels is 'x', not a whole number"):
        rule.fitted(64, 64, {"max_pixels": "x"})


def test_the_two_options_in_a_file_win_over_its_size() -> None:
    rule = ImageRule.read(QWEN | {"max_pixels": 12845056}, {})
    assert rule.max_pixels == 12845056 and rule.min_pixels == 3136


@pytest.mark.parametrize(
    ("config", "kind", "seen"),
    [
        (
            {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336}},
            "fixed",
            (336, 336),
        ),
        (
            {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}},
            "fixed",
            (384, 384),
        ),
        (
            {
                "image_processor_type": "GotOcr2ImageProcessor",
                "crop_to_patches": True,
                "size": {"height": 448, "width": 448},
            },
            "tiles",
            (1344, 1344),
        ),
        (
            {
                "image_processor_type": "LlavaNextImageProcessor",
                "image_grid_pinpoints": [[336, 672], [672, 672]],
            },
            "pinpoints",
            (672, 672),
        ),
        (
            {"image_processor_type": "PixtralImageProcessor", "size": {"longest_edge": 1024}},
            "longest",
            (1024, 1024),
        ),
        ({"image_processor_type": "Other"}, "unknown", None),
    ],
)
def test_processors_that_shrink_a_large_haystack(
    config: dict[str, Any], kind: str, seen: tuple[int, int] | None
) -> None:
    rule = ImageRule.read(config, {}).fitted(2048, 2048)
    assert (rule.kind, rule.seen(2048, 2048), rule.kwargs()) == (kind, seen, {})
    assert rule.shrinks(2048, 2048) == (seen is not None)
    with pytest.raises(UserError, match="no such limit"):
        rule.fitted(2048, 2048, {"max_pixels": 1})


def test_a_model_without_eyes(tmp_path: Path) -> None:
    blind = {"config": {"model_type": "qwen2", "hidden_size": 8}, "preprocessor_config": None}
    folder = write_checkpoint(tmp_path / "chats", **blind)
    checkpoint = Checkpoint.open(str(folder))
    assert (checkpoint.sees, checkpoint.chats) == (False, True)
    with pytest.raises(UserError, match=r"is a text-only model \(qwen2\)"):
        checkpoint.check_sight()
    folder = write_checkpoint(tmp_path / "base", **blind, tokenizer_config={})
    assert Checkpoint.open(str(folder)).chats is False
