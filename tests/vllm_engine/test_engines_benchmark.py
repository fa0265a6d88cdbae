"""The benchmark for GPUs runs here in small, so that it does not rot."""

import json
import subprocess
import sys
from pathlib import Path

from needs import ROOT


def test_the_benchmark_of_engines_runs_in_small(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "engines_gpu.py"
    done = subprocess.run(
        [sys.executable, script, "--smoke", "--out", tmp_path, "--work", tmp_path / "work"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads((tmp_path / "engines.json").read_text())
    timed = {(line["what"], line["setting"]): line for line in lines if "setting" in line}
    parts = ("one at a time", "vllm, 1 question", "roof", "vllm, 8 questions")
    assert len(timed) == 2 * len(parts)
    for part in parts:
        line = timed[part, "n3-g2x2-k1"]
        assert line["samples_per_second"] > 0
        assert (line["cached_share"] > 0) == (part == "vllm, 8 questions")
    assert "| goal |" in (tmp_path / "engines.md").read_text()
