"""Ways to stretch a window: read strictly, spelled for both engines."""

import json
from pathlib import Path

import pytest
from checkpoint_folders import write_checkpoint

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.rope import KINDS, Rope, read_rope
from mmneedle.errors import UserError

LLAMA = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 500000.0}


def checkpoint(folder: Path, **config: object) -> Checkpoint:
    return Checkpoint.open(str(write_checkpoint(folder / "m", config=LLAMA | config)))


@pytest.mark.parametrize("text", ["linear:4", "dynamic:2.5", "yarn:8", "none"])
def test_spellings_read_back(text: str) -> None:
    assert read_rope(text).name == text


@pytest.mark.parametrize(
    "text", ["", "yarn", "yarn:", "yarn:1", "yarn:0.5", "yarn:-4", "ntk:4", "yarn:x", "yarn:1e9"]
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--rope takes none, linear:4"):
        read_rope(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_for_both_engines(kind: str, tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    rope = Rope(kind, 4.0)
    assert rope.window(model) == 8192
    one = json.loads(rope.arguments("hf", model)["rope_scaling"])
    changes = json.loads(rope.arguments("vllm", model)["hf_overrides"])
    assert one == changes["rope_parameters"]
    assert changes.get("max_position_embeddings") == (8192 if kind == "yarn" else None)
    assert (one["rope_type"], one["factor"], one["rope_theta"]) == (kind, 4.0, 500000.0)
    assert one.get("original_max_position_embeddings") == (2048 if kind == "yarn" else None)


def test_the_language_model_inside_a_vision_language_model(tmp_path: Path) -> None:
    inner = {"max_position_embeddings": 1024, "rope_parameters": {"rope_theta": 7.0}}
    model = checkpoint(tmp_path, vision_config={"depth": 1}, text_config=inner)
    changes = json.loads(Rope("yarn", 2.0).arguments("vllm", model)["hf_overrides"])
    assert changes["text_config"]["rope_parameters"]["original_max_position_embeddings"] == 1024
    assert changes["text_config"]["rope_parameters"]["rope_theta"] == 7.0


def test_what_cannot_be_stretched(tmp_path: Path) -> None:
    scaled = checkpoint(tmp_path, rope_scaling={"rope_type": "llama3", "factor": 8.0})
    with pytest.raises(UserError, match=r"is scaled already \(llama3\)"):
        Rope("yarn", 2.0).arguments("hf", scaled)
    unknown = checkpoint(tmp_path, max_position_embeddings=None)
    with pytest.raises(UserError, match="names no max_position_embeddings"):
        Rope("yarn", 2.0).arguments("hf", unknown)
    assert Rope("linear", 1.0).arguments("hf", scaled) == {}
