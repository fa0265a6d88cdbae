"""The whole job offline, on drawn scenes: what `make demo` runs."""

from pathlib import Path

from mmneedle.console import progress
from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import evaluate
from mmneedle.reports.html import write_report
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.runlog import open_runs
from mmneedle.stitching.dataset import build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Setting

SETTINGS = [Setting(n, s, s) for n, s in ((1, 2), (1, 4), (1, 8), (10, 2), (10, 4), (10, 8))]
SAMPLES = 80
RULES = Rules(questions=4)
MODELS = ("onnx/tiny", "baseline/noisy?p=0.8", "baseline/random")


def demo(folder: Path) -> Path:
    """Build a data set, ask a real model and two baselines, print the leaderboard and a report.

    The model is onnx/tiny: it knows drawn scenes, and none of those that it is asked about here.

    Returns:
        The report's path.
    """
    print(f"1. Build: {SAMPLES} samples at each of {len(SETTINGS)} settings", flush=True)
    with progress() as report:
        dataset = build(
            folder / "data",
            ShapesSource(1800, split="held-out"),
            dict.fromkeys(SETTINGS, SAMPLES),
            RULES,
            TileFormat(112, 112),
            progress=report,
        )
    print(f"2. Run: {', '.join(MODELS)}", flush=True)
    logs = [folder / "runs" / model.split("/")[1].partition("?")[0] for model in MODELS]
    for model, log in zip(MODELS, logs, strict=True):
        print(evaluate(dataset.folder, model, log))
    runs = open_runs(logs)
    print("3. Score\n")
    print(leaderboard(runs).render("md"))
    path = write_report(runs, folder / "report.html")
    print(f"\n4. Report: open {path.resolve()}")
    return path
