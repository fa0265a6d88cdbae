"""From a data set and a model's name to a run folder: what `mmneedle run` does."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmneedle import adapters, runner
from mmneedle.console import progress
from mmneedle.errors import UserError
from mmneedle.runlog import Plan, RunHeader, RunLog, environment
from mmneedle.runner import RunSummary
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Needs, Setting


def evaluate(
    folder: Path | str,
    model: str,
    log: Path | str,
    *,
    limit: tuple[int, int | None] = (0, None),
    shapes: Iterable[tuple[int, int, int]] | None = None,
    shard: tuple[int, int] = (1, 1),
    adapter_options: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> RunSummary:
    """Ask a model every sample that is asked for and not finished yet.

    Args:
        folder: a data set.
        model: provider/model.
        log: the run's folder, new or to go on with.
        limit: [start, stop) of sample indices within each setting; None is the end.
        shapes: only settings of these (images, rows, columns).
        shard: part k of n.
        adapter_options: see `adapters.create`.
        quiet: show no progress.
        options: see `runner.Evaluation`.

    Raises:
        UserError: no such data set or model, a wrong key, a run folder that cannot be written.
    """
    dataset = DataSet.open(folder)
    plan = _plan(dataset, limit, None if shapes is None else set(shapes))
    adapter = adapters.create(model, **adapter_options or {})
    header = RunHeader(
        model=adapter.model,
        task=GridTask.name,
        dataset_path=str(dataset.folder.resolve()),
        dataset_fingerprint=dataset.fingerprint,
        adapter=adapter.fingerprint(),
        plan=plan,
        shard=shard,
        environment=environment(),
    )
    if adapter.wants_images:
        len(dataset.store)  # a store that is not whole is found before anything is asked
    for name, default in (("max_connections", 16), ("timeout", 120.0)):
        if options.get(name) is None:
            options[name] = getattr(adapter, name, default)
    prepare = getattr(adapter, "prepare", None)
    if prepare is not None:
        prepare(dataset_needs(dataset, plan))
    with RunLog.open(log, header) as opened, progress(quiet=quiet) as report:
        told: set[str] = set()

        def show(summary: RunSummary) -> None:
            for status, error in summary.errors.items():
                if status not in told and not quiet:  # the first of its kind, at once
                    told.add(status)
                    print(f"{adapter.model}: {status}: {error[:300]}", file=sys.stderr)
            report(adapter.model, sum(summary.by_status.values()), summary.asked)

        return runner.run(GridTask(dataset), dataset, adapter, opened, progress=show, **options)


def dataset_needs(dataset: DataSet, plan: Plan) -> list[Needs]:
    """What the plan's requests ask of a model, one entry a setting."""
    task = GridTask(dataset)
    result = []
    for name, (start, stop) in plan.items():
        setting = Setting.parse(name)
        samples = dataset.samples(setting, start, stop)
        longest = max(
            (task.request(sample, with_images=False).prompt for sample in samples), key=len
        )
        size = max(
            sum(map(len, dataset.images(sample)))
            for sample in dataset.samples(setting, start, min(stop, start + 8))
        )
        tiles = dataset.manifest.tiles
        needs = Needs(
            setting, tiles.width * setting.cols, tiles.height * setting.rows, longest, size
        )
        result.append(needs)
    return result


def _plan(
    dataset: DataSet,
    limit: tuple[int, int | None],
    shapes: set[tuple[int, int, int]] | None,
) -> Plan:
    start, end = limit
    have = {(s.images, s.rows, s.cols) for s in dataset.settings}
    if shapes is not None and shapes - have:
        images, rows, cols = min(shapes - have)
        raise UserError(
            f"{dataset.folder}: no setting of {images} image(s) with {rows}x{cols} cells; it has "
            + ", ".join(setting.name for setting in dataset.settings)
        )
    plan: Plan = {}
    for setting in dataset.settings:
        stop = dataset.count(setting) if end is None else min(end, dataset.count(setting))
        if start < stop and (shapes is None or _shape(setting) in shapes):
            plan[setting.name] = (start, stop)
    if not plan:
        raise UserError(f"{dataset.folder}: no sample number {start} or more in any setting")
    return plan


def _shape(setting: Setting) -> tuple[int, int, int]:
    return setting.images, setting.rows, setting.cols
