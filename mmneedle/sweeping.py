"""`mmneedle sweep`: one text task at many lengths, the window as it is and stretched."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.rope import Rope
from mmneedle.errors import UserError
from mmneedle.evaluate import evaluate
from mmneedle.runlog import Run
from mmneedle.texts.effective import Effective, effective_lengths

ENGINES = ("hf", "vllm")


class Swept(msgspec.Struct, frozen=True):
    """One way to stretch the window."""

    rope: str
    run: str
    effective: Effective


def sweep(
    folder: Path | str,
    model: str,
    ropes: Sequence[Rope],
    log: Path,
    *,
    lengths: Collection[int] | None = None,
    threshold: float | None = None,
    options: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[Swept]:
    """Ask a text data set once for each rope; the same command again asks only what is missing.

    Args:
        folder: a text data set of one task.
        model: hf/FOLDER or vllm/FOLDER.
        ropes: ways to stretch the window.
        log: a folder for the runs, one each.
        lengths: only texts of these lengths; None: of all.
        threshold: 0..1 that a score must reach.
        options: of the adapter; its `engine_args` are kept beside the rope's.
        quiet: show no progress.

    Raises:
        UserError: a model of another provider; see `evaluate` and `Rope.arguments`.
    """
    provider, _, name = model.partition("/")
    if provider not in ENGINES or not name:
        raise UserError(
            f"{model}: only models on this machine can be stretched: hf/FOLDER or vllm/FOLDER"
        )
    checkpoint = Checkpoint.open(name)
    wanted = [(rope, rope.arguments(provider, checkpoint)) for rope in ropes]
    found = []
    for rope, arguments in wanted:
        given = dict(options or {})
        own = dict(given.get("engine_args") or {})
        for key in arguments:
            if key in own:
                raise UserError(
                    f"--engine-arg {key} and --rope {rope.name} say the same: leave one out"
                )
        given["engine_args"] = own | arguments
        run = log / rope.folder
        evaluate(folder, model, run, lengths=lengths, adapter_options=given, quiet=quiet)
        for one in effective_lengths([Run.open(run)], threshold):
            found.append(Swept(rope.name, str(run), one))
    return found


def table(found: Sequence[Swept]) -> str:
    """Scores by length in per cent, a line a rope, and how far each gets."""
    parts = []
    for task in dict.fromkeys(one.effective.task for one in found):
        rows = [one for one in found if one.effective.task == task]
        lengths = sorted({point.length for one in rows for point in one.effective.points})
        lines = [["rope", *(f"{length:,}" for length in lengths), "effective"]]
        for one in rows:
            points = {point.length: point for point in one.effective.points}
            cells = [_cell(points.get(length)) for length in lengths]
            end = one.effective.length
            lines.append([one.rope, *cells, "none" if end is None else f"{end:,}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        first = rows[0].effective
        title = (
            f"{first.model}: {task}, per cent by length; effective: the longest length with at "
            f"least {100 * first.threshold:.1f} and all shorter ones too"
        )
        body = "\n".join(
            "  ".join(
                cell.ljust(width) if not at else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )
        notes = []
        if any("past" in cell for line in lines for cell in line):
            notes.append("past: longer than the window, skipped")
        if any(not one.effective.decided for one in rows):
            notes.append(
                "with so few samples the effective lengths may be others: "
                + "; ".join(_range(one) for one in rows if not one.effective.decided)
            )
        parts.append("\n".join([title, body, *notes]))
    return "\n\n".join(parts)


def _cell(point: Any) -> str:
    if point is None:
        return "-"
    if point.skipped == point.n:
        return "past"
    return "-" if point.score is None else f"{100 * point.score:.0f}"


def _range(one: Swept) -> str:
    low, high = one.effective.least, one.effective.most
    shown = ["none" if end is None else f"{end:,}" for end in (low, high)]
    return f"{one.rope} {shown[0]} to {shown[1]}"


def as_json(found: Sequence[Swept]) -> list[dict[str, Any]]:
    """Everything, as plain JSON values."""
    return [msgspec.to_builtins(one) for one in found]
