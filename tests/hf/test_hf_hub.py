"""Models of a hub, fetched from a server on this machine by the hub's own client."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hf_runs import copied
from hub_server import COMMIT, NAME, hub

from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet

OPEN = "import sys; from mmneedle.adapters.checkpoints import Checkpoint as C; C.open(sys.argv[1])"


def python(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its settings when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True)


def test_a_model_is_fetched_once_and_its_run_goes_on_offline(
    scenes: DataSet, tmp_path: Path
) -> None:
    run = ("-m", "mmneedle", "run", scenes.folder, "--model", f"hf/{NAME}", "--log", tmp_path / "l")
    run = (*run, "--settings", "1x1", "--quiet", "--limit")
    home = str(tmp_path / "home")
    with hub(copied(tmp_path / "model"), token="hf_friend") as (address, asked):
        first = python(*run, 2, HF_ENDPOINT=address, HF_HOME=home, HF_TOKEN="hf_friend")
        assert "2 of 2 samples answered" in first.stdout, first.stderr
        assert [path for path in asked if path.startswith("GET") and "safetensors" in path]
    second = python(*run, 4, HF_HUB_OFFLINE="1", HF_HOME=home)
    assert "4 of 4 samples answered, 2 requests" in second.stdout, second.stderr
    opened = Run.open(tmp_path / "l")
    assert opened.header.adapter["revision"] == COMMIT
    assert {record.response.model for record in opened.records()} == {f"{NAME}@{COMMIT[:12]}"}
    assert "hf_friend" not in (tmp_path / "l" / "run.json").read_text()


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        ("no/model", None, "no such folder here and no such model on the hub"),
        (NAME, "hf_friend", "accept the terms on its page and set HF_TOKEN"),
    ],
)
def test_a_model_that_cannot_be_had(
    tmp_path: Path, name: str, token: str | None, words: str
) -> None:
    with hub(copied(tmp_path / "model"), token=token) as (address, _):
        done = python("-c", OPEN, name, HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1]


def test_a_hub_that_is_out_of_reach(tmp_path: Path) -> None:
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = python("-c", OPEN, NAME, HF_HOME=str(tmp_path), **environment)
        assert "the hub cannot be reached" in done.stderr.splitlines()[-1]
