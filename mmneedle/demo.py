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
SAMPLES = 64
RULES = Rules(questions=4)
RUNS: dict[str, tuple[str, tuple[int, int] | None]] = {
    "tiny": ("onnx/tiny", None),
    "tiny-14px": ("onnx/tiny", (14, 14)),  # what it is worth when images are shrunk on the way
    "noisy": ("baseline/noisy?p=0.8", None),
    "random": ("baseline/random", None),
}


def demo(folder: Path) -> Path:
    """Build a data set, ask a real model and two baselines, print the leaderboard and a report.

    The model is onnx/tiny. It knows drawn scenes, but none of those that it is asked about here.
    It is asked twice, the second time with cells of 14 pixels: the difference is what a provider
    that shrinks images silently takes away.

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
    print(f"2. Run: {', '.join(RUNS)}", flush=True)
    logs = [folder / "runs" / name for name in RUNS]
    for log, (model, resize) in zip(logs, RUNS.values(), strict=True):
        print(evaluate(dataset.folder, model, log, resize=resize))
    runs = open_runs(logs)
    print("3. Score\n")
    print(leaderboard(runs).render("md"))
    path = write_report(runs, folder / "report.html")
    print(f"\n4. Report: open {path.resolve()}")
    return path
