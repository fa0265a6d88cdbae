"""benchmarks/language_models/ask.sh from end to end, with a model of random weights."""

import os
import subprocess
import sys
from pathlib import Path

from text_models import write_text_model

from mmneedle.runlog import Run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "language_models" / "ask.sh"


def test_the_script_asks_every_task_and_goes_on_where_it_was(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "models" / "small", chats=False)
    given = {
        "PYTHON": sys.executable,
        "LENGTHS": "448",
        "PAIRS": "2",
        "DEPTHS": "0,100",
        "SAMPLES": "1",
        "LONGEST": "600",
        "ARGS": "--max-tokens 4",
    }
    command = ["bash", str(SCRIPT), str(tmp_path / "out"), "hf", str(model)]
    done = subprocess.run(
        command, cwd=SCRIPT.parents[2], env=os.environ | given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {name: Run.open(tmp_path / "out" / f"small-{name}-run") for name in TASKS}
    assert {name: len(list(run.outcomes())) for name, run in runs.items()} == TASKS
    assert "small" in (tmp_path / "out" / "text.html").read_text()
    assert "effective length" in (tmp_path / "out" / "effective.txt").read_text()
    assert "passkey" in (tmp_path / "out" / "small-passkey.txt").read_text()


TASKS = {"niah": 2, "niah8": 2, "keyvalue": 2, "ruler": 3}
