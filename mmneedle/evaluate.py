"""From a data set and a model's name to a run folder: what `mmneedle run` does."""

import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmneedle import adapters, batching, runner
from mmneedle.adapters.limits import Book, surely_too_long
from mmneedle.adapters.reasoning import ANSWER_TOKENS
from mmneedle.adapters.window import Windowed
from mmneedle.batching import BatchSummary, open_batches
from mmneedle.console import progress
from mmneedle.costs import Prices, find_prices, why_no_prices
from mmneedle.errors import UserError
from mmneedle.ledger import Ledger
from mmneedle.preflight import Preflight, preflight
from mmneedle.retrieval.asked import Asked
from mmneedle.runlog import Plan, Run, RunHeader, RunLog, environment
from mmneedle.runner import RunSummary
from mmneedle.stitching.dataset import DataSet
from mmneedle.stopping import Watch, goes_on
from mmneedle.tasks import open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.texts.dataset import TextDataSet
from mmneedle.tiny import WEIGHTS
from mmneedle.types import (
    Adapter,
    AnySetting,
    DataTask,
    Needs,
    Setting,
    TextSetting,
    read_setting,
    split_sample_id,
)


def evaluate(
    folder: Path | str,
    model: str,
    log: Path | str,
    *,
    task: str = GridTask.name,
    limit: tuple[int, int | None] = (0, None),
    shapes: Iterable[tuple[int, int, int]] | None = None,
    lengths: Collection[int] | None = None,
    names: Collection[str] | None = None,
    shard: tuple[int, int] = (1, 1),
    resize: tuple[int, int] | None = None,
    reader: Asked | None = None,
    limits: Path | None = None,
    force: bool = False,
    prices: Path | None = None,
    max_cost: float | None = None,
    adapter_options: Mapping[str, Any] | None = None,
    batch: bool = False,
    until_halfwidth: float | None = None,
    quiet: bool = False,
    **options: Any,
) -> RunSummary:
    """Ask a model every sample that is asked for and not finished yet.

    Args:
        folder: a data set.
        model: provider/model.
        log: the run's folder, new or to go on with.
        task: one of `tasks.TASKS`: the images, or the same haystacks as text.
        limit: [start, stop) of sample indices within each setting; None is the end.
        shapes: only settings of these (images, rows, columns).
        lengths: of a text data set only settings of these lengths.
        names: only settings of these names.
        shard: part k of n.
        resize: width and height in pixels that cells are shrunk to before they are sent.
        reader: what of a haystack is read (`retrieval.asked.read_reader`); None: all of it.
        limits: a file of the user's that goes before limits.toml.
        force: go on in spite of a documented hard limit.
        prices: a file of the user's with the model's prices.
        max_cost: US dollars that the run may cost, earlier commands included.
        adapter_options: see `adapters.create`.
        batch: ask by the provider's batch API.
        until_halfwidth: ask a setting no further once its intervals are that narrow, 0..0.5
            (`stopping.Watch`).
        quiet: show no progress.
        options: see `runner.Evaluation`, or `batching.BatchEvaluation`.

    Raises:
        UserError: no such data set or model, a wrong key, a run folder that cannot be written;
            images that the provider is known to refuse; no price for `max_cost`.
    """
    _check_rule(until_halfwidth, batch=batch, shard=shard)
    dataset, asked = open_asked(folder, task, resize, reader)
    if until_halfwidth is not None and isinstance(dataset, TextDataSet):
        raise UserError(
            f"{folder}: is a data set of texts, --until-halfwidth is about images; leave it out"
        )
    plan = make_plan(dataset, limit, None if shapes is None else set(shapes), lengths)
    if names is not None:
        plan = {name: part for name, part in plan.items() if name in names}
    book = Book.open(limits)
    adapter = adapters.create(model, **adapter_options or {})
    refuse_texts = getattr(adapter, "refuse_texts", None)
    if refuse_texts is not None and isinstance(dataset, TextDataSet):
        refuse_texts()
    api = batching.batch_api(adapter) if batch else None
    checked = _inspect(adapter, asked, plan, book, force=force, quiet=quiet)
    header = RunHeader(
        model=_public(adapter.model),
        task=asked.name,
        dataset_path=str(dataset.folder.resolve()),
        dataset_fingerprint=dataset.fingerprint,
        adapter=adapter.fingerprint(),
        plan=plan,
        shard=shard,
        questions=dataset.questions,
        resize=resize,
        reader=asked.reader,
        cell=asked.cell if isinstance(asked, GridTask) and adapter.wants_images else None,
        effective_cell=checked.effective_cells,
        prices=_prices(adapter, checked, prices, needed=max_cost is not None),
        environment=environment(),
    )
    for name, default in (("max_connections", 16), ("timeout", 120.0)):
        if options.get(name) is None and not batch:
            options[name] = getattr(adapter, name, default)
    with RunLog.open(log, header) as opened, progress(quiet=quiet) as report:
        told: set[str] = set()

        def show(summary: RunSummary) -> None:
            for status, error in summary.errors.items():
                if status not in told and not quiet:  # the first of its kind, at once
                    told.add(status)
                    print(f"{adapter.model}: {status}: {error[:300]}", file=sys.stderr)
            report(*_how_far(adapter.model, summary))

        ledger = open_ledger(opened, checked, max_cost, batch=batch)
        if until_halfwidth is None:
            goes_on(opened)
        else:
            again = bool(options.get("retry_failed"))
            options["watch"] = Watch(opened, until_halfwidth, retry_failed=again)
        if api:
            options["ledger"] = ledger
            return batching.run(asked, dataset, adapter, api, opened, progress=show, **options)
        _no_batches(opened.folder)
        if isinstance(dataset, TextDataSet) and not force:
            adapter = _within_window(adapter, checked, quiet=quiet)
        return runner.run(asked, dataset, adapter, opened, progress=show, ledger=ledger, **options)


def open_asked(
    folder: Path | str,
    task: str = GridTask.name,
    resize: tuple[int, int] | None = None,
    reader: Asked | None = None,
) -> tuple[DataSet | TextDataSet, DataTask]:
    """A data set of whatever kind, and the task that asks its samples by this reader.

    Raises:
        UserError: no data set there; a task or a size that are about images, for one of texts.
    """
    if not TextDataSet.here(folder):
        dataset = DataSet.open(folder)
        if reader is not None:
            return dataset, _with_reader(reader, task, dataset, resize)
        return dataset, open_task(task, dataset, resize)
    if task != GridTask.name or resize is not None:
        option = "--resize" if resize is not None else "--task"
        raise UserError(f"{folder}: is a data set of texts; leave out {option}")
    texts = TextDataSet.open(folder)
    return texts, texts if reader is None else _with_reader(reader, task, texts, None)


def _with_reader(
    reader: Asked, task: str, dataset: DataSet | TextDataSet, resize: tuple[int, int] | None
) -> DataTask:
    from mmneedle.retrieval.opening import open_reader  # not for every run

    return open_reader(reader, task, dataset, resize)


def _public(model: str) -> str:
    """What records and pages call a model: "hf/Qwen2.5-VL-7B", wherever on the machine it lies.

    The checkpoint's hash stands in the adapter's record, so that the folder is not needed to tell
    models apart.
    """
    provider, slash, name = model.partition("/")
    folder = Path(name).expanduser()
    return provider + slash + folder.resolve().name if folder.is_dir() else model


def _check_rule(halfwidth: float | None, *, batch: bool, shard: tuple[int, int]) -> None:
    """See that a rule can stop this run. Raises UserError."""
    if halfwidth is None:
        return
    if not 0 < halfwidth < 0.5:
        raise UserError(
            f"--until-halfwidth takes a share between 0 and 0.5, such as 0.02 for 2 points, "
            f"not {halfwidth:g}"
        )
    for option, given in (("--batch", batch), ("--shard", shard[1] > 1)):
        if given:
            raise UserError(
                f"--until-halfwidth looks at each answer before it asks on, which {option} does "
                f"not: leave out {option}"
            )


def _inspect(
    adapter: Adapter, task: DataTask, plan: Plan, book: Book, *, force: bool, quiet: bool
) -> Preflight:
    """Compare the plan with the model's limits, and load the model. Raises UserError."""
    if not adapter.wants_images:
        return preflight(adapter.model, [], adapter.fingerprint(), book)
    if isinstance(task, GridTask):
        task.dataset.store.check()  # damage is found before anything is asked
    needs = task_needs(plan, task)
    prepare = getattr(adapter, "prepare", None)
    if prepare is not None:
        prepare(needs)
    see = getattr(adapter, "see", None)
    checked = preflight(adapter.model, needs, adapter.fingerprint(), book, see)
    if not (force or isinstance(task, TextDataSet)):
        checked.check()
    doubt = _tiny_doubt(adapter.model, task.dataset) if isinstance(task, GridTask) else None
    for line in filter(None, (checked.warning(), checked.advice(), doubt, _confession(task))):
        if not quiet:
            print(f"mmneedle: {line}", file=sys.stderr)
    return checked


def _confession(task: DataTask) -> str | None:
    """One line where a retriever knows more of an image than the model sees."""
    if task.reader is None or task.reader.captions is None:
        return None
    return (
        f"cells are chosen by their {task.reader.captions} captions, which the model never sees: "
        "the figures are those of a model with an index of such captions"
    )


def _tiny_doubt(model: str, dataset: DataSet) -> str | None:
    """One line where the model that comes along is asked what its answers say nothing on."""
    provider, _, name = model.partition("?")[0].partition("/")
    here = name == "tiny" or Path(name).expanduser().resolve() == WEIGHTS.resolve()
    if provider not in ("onnx", "hf", "vllm") or not here:
        return None
    source = dataset.manifest.source
    if source.get("source") != "shapes":
        return (
            f"{model} knows drawn scenes alone (build --source shapes): what it says of photos "
            "tells nothing"
        )
    if source.get("split") != "held-out":
        return (
            f"{model} was trained on drawn scenes, and this data set may hold some of them: build "
            "with --split held-out for scenes that it has never seen"
        )
    return None


def _within_window(adapter: Adapter, checked: Preflight, *, quiet: bool) -> Adapter:
    """A model that is not sent what its documented window does not hold."""
    past = {
        view.setting.name: view.fault
        for view in checked.views
        if view.fault and surely_too_long(checked.limits, view.needs)
    }
    if not past:
        return adapter
    if not quiet:
        name, why = next(iter(past.items()))
        more = f" (and {len(past) - 1} more settings)" if len(past) > 1 else ""
        print(
            f"mmneedle: {checked.model}: {name}{more} is not asked, status too_long: {why} "
            f"({'; '.join(checked.sources)}); --force asks all the same",
            file=sys.stderr,
        )
    return Windowed(adapter, past)


def _prices(
    adapter: Adapter, checked: Preflight, own: Path | None, *, needed: bool
) -> Prices | None:
    """The model's prices, where they are known. Raises UserError where they are needed and not."""
    if not (adapter.wants_images or own or needed):  # a baseline: nothing to look up
        return None
    found = find_prices(checked.key, adapter.fingerprint(), own, checked.limits.batch)
    if found is None and needed:
        raise UserError(f"--max-cost: {why_no_prices(checked.key)}")
    return found


def open_ledger(
    log: RunLog, checked: Preflight, limit: float | None = None, *, batch: bool = False
) -> Ledger:
    """What a run has spent so far, ready to count on.

    Args:
        log: the run.
        checked: what requests are like.
        limit: US dollars that the run may cost in all.
        batch: whether requests go out at the batch price.
    """
    ledger = Ledger(
        log.header.prices,
        limit,
        needs=[view.needs for view in checked.views],
        image_tokens=checked.image_tokens,
        output_tokens=int(log.header.adapter.get("max_tokens") or ANSWER_TOKENS),
        batch=batch,
    )
    for record in Run(log.header, [log.folder]).records():
        ledger.add(split_sample_id(record.sample)[0], record.response)
    return ledger


def _how_far(model: str, summary: RunSummary) -> tuple[str, int, int]:
    """What is done of what: samples of a direct run, by batches requests as the provider counts."""
    if isinstance(summary, BatchSummary):
        done = summary.finished + summary.running
        return f"{model}: {summary.submitted} submitted, finished", done, summary.submitted
    return model, sum(summary.by_status.values()), summary.asked


def _no_batches(folder: Path) -> None:
    """See that no sample is asked which is in a batch. Raises UserError."""
    count = len(open_batches(folder))
    if count:
        raise UserError(
            f"{folder}: {count} batch(es) of this run are still at the provider; go on with "
            "--batch, or give them up with --batch-cancel"
        )


def task_needs(plan: Plan, task: DataTask) -> list[Needs]:
    """What the plan's requests ask of a model, one entry a setting."""
    return [task.needs(read_setting(name), start, stop) for name, (start, stop) in plan.items()]


def dataset_needs(dataset: DataSet, plan: Plan) -> list[Needs]:
    """The same of a data set's images as they were built."""
    return task_needs(plan, GridTask(dataset))


def make_plan(
    dataset: DataSet | TextDataSet,
    limit: tuple[int, int | None],
    shapes: set[tuple[int, int, int]] | None,
    lengths: Collection[int] | None = None,
) -> Plan:
    """Which samples are asked: [start, stop) of each setting. Raises UserError where none is."""
    start, end = limit
    have = {_shape(setting) for setting in dataset.settings}
    if shapes is not None and isinstance(dataset, TextDataSet):
        raise UserError(
            f"{dataset.folder}: has no settings of images; leave out --settings (--lengths says "
            "which texts)"
        )
    if lengths is not None:
        _check_lengths(dataset, lengths)
    if shapes is not None and shapes - have:
        images, rows, cols = min(shapes - have)
        raise UserError(
            f"{dataset.folder}: no setting of {images} image(s) with {rows}x{cols} cells; it has "
            + ", ".join(setting.name for setting in dataset.settings)
        )
    plan: Plan = {}
    counts = dataset.manifest.settings
    for setting in dataset.settings:
        count = counts[setting.name]
        stop = count if end is None else min(end, count)
        asked = shapes is None or _shape(setting) in shapes
        if lengths is not None:
            asked = isinstance(setting, TextSetting) and setting.length in lengths
        if start < stop and asked:
            plan[setting.name] = (start, stop)
    if not plan:
        raise UserError(f"{dataset.folder}: no sample number {start} or more in any setting")
    return plan


def _check_lengths(dataset: DataSet | TextDataSet, lengths: Collection[int]) -> None:
    """See that a data set has texts of these lengths. Raises UserError."""
    if not isinstance(dataset, TextDataSet):
        raise UserError(
            f"{dataset.folder}: has no texts; leave out --lengths (--settings says which images)"
        )
    have = {setting.length for setting in dataset.settings}
    for length in lengths:
        if length not in have:
            known = ", ".join(f"{one:,}" for one in sorted(have))
            raise UserError(f"{dataset.folder}: no texts of length {length:,}; it has {known}")


def _shape(setting: AnySetting) -> tuple[int, int, int]:
    if isinstance(setting, Setting):
        return setting.images, setting.rows, setting.cols
    return 0, 0, 0
