"""Tests on the real engine. Where vLLM is not installed they are not there (make test-vllm)."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when the engine is imported, here and in the processes that it starts.
os.environ |= {"HF_HUB_OFFLINE": "1", "TORCH_COMPILE_DISABLE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}

if importlib.util.find_spec("vllm") is None:  # other environments run other tests
    collect_ignore_glob = ["test_*.py"]

from engine_loop import ARGS, Engine

from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import dataset_needs, make_plan
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.jpeg import TileFormat
from mmneedle.stitching.samples import Rules
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Needs, Request, Setting

SETTINGS = (Setting(1, 4, 4), Setting(3, 2, 2), Setting(10, 2, 2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Drawn scenes that the tiny model was not trained on; 8 questions a haystack."""
    source = ShapesSource(200, 7, "held-out")
    folder = tmp_path_factory.mktemp("scenes") / "set"
    tiles = TileFormat(56, 56, subsampling="4:4:4")
    counts = dict.fromkeys(SETTINGS, 16)
    return build(folder, source, counts, Rules(questions=8), tiles, workers=1)


@pytest.fixture(scope="session")
def needs(scenes: DataSet) -> list[Needs]:
    return dataset_needs(scenes, make_plan(scenes, (0, None), None))


@pytest.fixture(scope="session")
def requests(scenes: DataSet) -> list[Request]:
    task = GridTask(scenes)
    return [task.request(s) for setting in SETTINGS for s in scenes.samples(setting)]


@pytest.fixture(scope="session")
def engine(needs: list[Needs]) -> Iterator[Engine]:
    """One engine for all tests that only ask."""
    # Room for three haystacks' pixels, so that some are let go and come back.
    running = Engine(needs, logprobs=True, engine_args=ARGS | {"mm_processor_cache_gb": "0.01"})
    yield running
    running.close()
