"""What users get wrong with vllm/: one line, status 2, and no engine is started for nothing."""

import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_folders import write_checkpoint
from engine_loop import ARGS, MODEL
from shell import Shell, build

from mmneedle.adapters import create
from mmneedle.adapters.vllm_engine import EngineLog, read_engine_args, smaller
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Needs, Setting


@pytest.fixture
def mmneedle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)


def args(**given: str) -> dict[str, object]:
    return read_engine_args("vllm/m", given)


# --------------------------------------------------------------------------- engine arguments


def test_values_are_read_as_vllm_reads_them() -> None:
    rope = '{"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}'
    read = args(
        tensor_parallel_size="2",
        gpu_memory_utilization="0.85",
        kv_cache_dtype="fp8",
        dtype="float16",
        enforce_eager="true",
        hf_overrides=rope,
        quantization="fp8",
        **{"data-parallel-size": "4"},
    )
    assert read == {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.85,
        "kv_cache_dtype": "fp8",
        "dtype": "float16",
        "enforce_eager": True,
        "hf_overrides": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        "quantization": "fp8",
        "data_parallel_size": 4,
    }
    assert args(enforce_eager="false") == {"enforce_eager": False}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"tensor_parallel": "2"},
            ("no engine argument 'tensor_parallel'", "tensor_parallel_size"),
        ),
        ({"max_pixel": "2"}, ("max_pixels",)),
        ({"model": "x"}, ("'model'",)),
        ({"tensor_parallel_size": "two"}, ("tensor_parallel_size=two",)),
        ({"enforce_eager": "maybe"}, ("not true or false",)),
        ({"dtype": "float3"}, ("dtype=float3",)),
        ({"hf_overrides": "{"}, ("hf_overrides={",)),
    ],
)
def test_wrong_arguments(given: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        args(**given)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_second_attempt_is_smaller_but_keeps_what_the_user_said() -> None:
    first = {"model": "m", "max_model_len": 4096, "max_num_seqs": 8}
    again = smaller(first, {"max_num_seqs": 8}, "torch.OutOfMemoryError: CUDA out of memory.")
    assert (again["max_num_seqs"], again["max_num_batched_tokens"]) == (8, 4096)
    said = (
        "ValueError: Free memory on device cuda:0 (39.0/78.0 GiB) on startup is less than desired "
        "GPU memory utilization (0.9, 70.2 GiB)."
    )
    assert smaller(first, {}, said)["gpu_memory_utilization"] == 0.47


def test_the_cause_is_found_in_what_the_engine_said() -> None:
    log = EngineLog()
    with log.taking():
        os.write(
            2,
            b"(EngineCore pid=7) ERROR 11-25 04:18:33 [core.py:9] Traceback:\n"
            b"(EngineCore pid=7) ERROR 11-25 04:18:33 [core.py:9] torch.OutOfMemoryError: CUDA out"
            b" of memory. Tried to allocate 2 GiB\n"
            b"RuntimeError: Engine core initialization failed. See root cause above.\n",
        )
    assert log.cause() == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    log.close()
    assert not log.path.exists()


# --------------------------------------------------------------------------- models


def test_what_is_no_model_is_refused_before_anything_starts(
    mmneedle: Shell, tmp_path: Path
) -> None:
    build(mmneedle)
    torn = Path(shutil.copytree(WEIGHTS, tmp_path / "torn"))
    data = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(data[: len(data) // 2])
    blind = write_checkpoint(tmp_path / "blind", config={"model_type": "qwen2"})
    for name, words in (
        (torn, "model.safetensors"),
        (blind, "text-only model"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        assert words in mmneedle.refused("run", "set", "--model", f"vllm/{name}", "--log", "r")
    said = mmneedle.refused(
        *("run", "set", "--model", MODEL, "--log", "r", "--engine-arg", "tensor_parallel=2")
    )
    assert "tensor_parallel_size" in said
    assert not (tmp_path / "r").exists()


def test_a_context_that_is_too_short_is_told_with_the_tokens_needed() -> None:
    adapter = create(MODEL, engine_args=ARGS)
    needs = [Needs(Setting(100, 8, 8), 448, 448, "Where is it?", 1 << 20)]
    with pytest.raises(UserError) as caught:
        adapter.plan.arguments(needs)  # type: ignore[attr-defined]
    said = str(caught.value)
    assert "take 67" in said and "the model has 4096" in said  # 100 images of 64 tokens, 300 more
    for way_out in ("fewer images", "--cell", "max_pixels", "rope_scaling"):
        assert way_out in said


def test_cells_are_not_shrunk_unless_the_user_says_so() -> None:
    needs = [Needs(Setting(1, 8, 8), 2048, 2048, "Where is it?", 1 << 20)]

    def pixels(**more: str) -> object:
        adapter = create(MODEL, engine_args=ARGS | {"max_model_len": "4096"} | more)
        return adapter.plan.arguments(needs).get("mm_processor_kwargs")  # type: ignore[attr-defined]

    assert pixels() == {"min_pixels": 3136, "max_pixels": 2072 * 2072}
    assert pixels(max_pixels="200704") is None  # the checkpoint's own


def test_an_engine_that_cannot_start_says_why(mmneedle: Shell, tmp_path: Path) -> None:
    """A gibibyte for the cache, where one request may take eleven; tried twice."""
    build(mmneedle)
    longer = {"text_config": {"max_position_embeddings": 1_000_000}}
    arguments = ARGS | {"max_model_len": "1000000", "hf_overrides": json.dumps(longer)}
    words = [f"--engine-arg={name}={value}" for name, value in arguments.items()]
    said = mmneedle.refused("run", "set", "--model", MODEL, "--log", "r", *words)
    assert "not enough memory" in said
    assert "KV cache" in said
    log = Path(said.rpartition("log: ")[2].strip().rstrip(")"))
    assert "ValueError" in log.read_text()
    log.unlink()
    assert DataSet.open(tmp_path / "set").settings
    assert not (tmp_path / "r").exists() or not list(Run.open(tmp_path / "r").outcomes())
