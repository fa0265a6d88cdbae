"""Tests on the real engine. Where torch is not installed they are not there (make test-hf)."""

import importlib.util
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the engine is imported

if importlib.util.find_spec("torch") is None:  # other environments run other tests
    collect_ignore_glob = ["test_*.py"]

from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import dataset_needs, make_plan
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.jpeg import TileFormat
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Needs, Request, Setting

SETTINGS = (Setting(1, 1, 1), Setting(1, 4, 4), Setting(3, 2, 2), Setting(4, 1, 2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.hf)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Drawn scenes that the tiny model was not trained on, as it likes them."""
    source = ShapesSource(200, 7, "held-out")
    folder = tmp_path_factory.mktemp("scenes") / "set"
    tiles = TileFormat(56, 56, subsampling="4:4:4")
    return build(folder, source, dict.fromkeys(SETTINGS, 12), tiles=tiles, workers=1)


@pytest.fixture(scope="session")
def needs(scenes: DataSet) -> list[Needs]:
    return dataset_needs(scenes, make_plan(scenes, (0, None), None))


@pytest.fixture(scope="session")
def requests(scenes: DataSet) -> list[Request]:
    """All of them, of different settings side by side."""
    task = GridTask(scenes)
    streams = [scenes.samples(setting) for setting in SETTINGS]
    return [task.request(sample) for group in zip(*streams, strict=True) for sample in group]
