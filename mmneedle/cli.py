"""The command line: verbs, each a few lines over functions that a script could call.

Exit status: 0 complete, 1 finished with missing answers, 2 wrong usage or bad input (one line on
stderr, no traceback). Rooms are imported inside the verbs so that `--help` comes at once.
"""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmneedle import (
    __version__,
    arguments,
    cross_verbs,
    figure_verbs,
    leaderboard_verbs,
    passkey_verb,
    reader_verb,
    statistics_verbs,
    sweep_verb,
    text_verbs,
    viewer_verb,
)
from mmneedle.errors import UserError
from mmneedle.printing import print_json

if TYPE_CHECKING:
    from mmneedle.retrieval.asked import Asked
    from mmneedle.runlog import Run
    from mmneedle.stitching.dataset import DataSet
    from mmneedle.types import Source

app = typer.Typer(
    name="mmneedle",
    help="Needles in long multimodal haystacks: build, run, score, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a data set.", metavar="DIR")]
Runs = Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Task = Annotated[
    Literal["grid", "twin-literal", "twin-paraphrase"],
    typer.Option(help="The stitched images, or the same haystacks as text (docs/twins.md)."),
]
Reader = Annotated[
    str, typer.Option(help="Read all of a haystack (long), or retrieve:K (docs/retrieval.md).")
]
Retriever = Annotated[
    str | None, typer.Option(help="Which chooses: bm25 (the default), embed:FOLDER, clip:FOLDER.")
]
Chunk = Annotated[
    str | None, typer.Option(help="Of running text: tokens a chunk, and shared ones (600:100).")
]
ByCaptions = Annotated[
    str | None,
    typer.Option(help="Of images: captions a retriever reads, literal or paraphrase (default)."),
]
Resize = Annotated[
    str | None, typer.Option(help="Shrink cells to so many pixels before sending: 96 or 160x96.")
]
Limit = Annotated[str | None, typer.Option(help="Samples of each setting: 100, or 10-20.")]
Settings = Annotated[str | None, typer.Option(help="Only these settings: such as 1x2,10x8.")]
LimitsFile = Annotated[
    Path | None, typer.Option(help="Your own limits (docs/limits.md), before the packaged ones.")
]
PricesFile = Annotated[Path | None, typer.Option(help="Your own prices (docs/costs.md).")]
Scorer = Literal["robust", "paper"]


def main() -> None:
    """Run the command line and leave with its exit status."""
    for word in sys.argv[1:]:
        if any("\ud800" <= char <= "\udfff" for char in word):
            _fail(f"{word!a}: holds bytes that are no UTF-8 text")
    try:
        status = app(prog_name="mmneedle", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:  # wrong usage
        # Its context knows the verb: "mmneedle build".
        verb = getattr(getattr(error, "ctx", None), "command_path", "mmneedle")
        _fail(f"{error.format_message()} (see {verb} --help)")
    except UserError as error:
        _fail(str(error))
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output has gone (| head); what it wanted, it has. Typer turns that
        # into a SystemExit.
        if not isinstance(error, BrokenPipeError) and not isinstance(
            error.__context__, BrokenPipeError
        ):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}")
    except typer.Abort:
        _fail("stopped")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    line = " ".join(message.split())
    print(f"mmneedle: {line}", file=sys.stderr)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"mmneedle {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demo makes.")] = Path(
        "demo-output"
    ),
) -> None:
    """Do the whole job offline: build, ask a real model and baselines, score, report."""
    from mmneedle.demo import demo as run_demo

    run_demo(out)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="coco-2014-val or coco-2017-val.")],
    to: Annotated[Path, typer.Option(help="Folder to put the photos in.")],
    base_url: Annotated[str | None, typer.Option(help="A mirror of the official server.")] = None,
) -> None:
    """Download photos and captions from their official server; goes on where it stopped."""
    from mmneedle.console import progress
    from mmneedle.data.fetch import fetch as fetch_archives

    with progress() as report:
        folder = fetch_archives(name, to, base_url=base_url, progress=report)
    print(folder)


@app.command()
def draw(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="DIR")],
    scenes: Annotated[int, typer.Option(help="How many scenes.")] = 1000,
    seed: Annotated[int, typer.Option(help="Which scenes.")] = 0,
    cell: Annotated[str, typer.Option(help="Size in pixels: 256 or 320x192.")] = "256",
) -> None:
    """Write drawn scenes as photos with a COCO-format caption file."""
    from mmneedle.console import progress
    from mmneedle.data.shapes import ShapesSource, write_coco

    width, height = arguments.cell(cell)
    source = ShapesSource(scenes, seed)
    with progress() as report:
        write_coco(folder, source, width, height, lambda done, total: report("scenes", done, total))
    print(folder)


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(help="Folder to build in.", metavar="DIR")],
    source: Annotated[Literal["shapes", "coco"], typer.Option(help="Where photos come from.")],
    photos: Annotated[Path | None, typer.Option(help="coco: photo folder, or its parent.")] = None,
    captions: Annotated[Path | None, typer.Option(help="coco: caption file.")] = None,
    scenes: Annotated[
        int | None, typer.Option(help="shapes: how many distinct scenes (4000).")
    ] = None,
    split: Annotated[
        Literal["all", "train", "held-out"] | None,
        typer.Option(help="shapes: scenes that the tiny model was trained on, or was not."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images a haystack, such as 1,10 (the default).")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="Grids, such as 2,4,8 (the default) or 3x5.")
    ] = None,
    settings: Annotated[
        str | None, typer.Option(help="Instead of --images and --grid: such as 1x2,10x8.")
    ] = None,
    needles: Annotated[
        str | None, typer.Option(help="Needles a question, such as 1,2,5 (default 1).")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Samples a setting, half of them without a match (1000).", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another data set.")] = 0,
    cell: Annotated[str, typer.Option(help="Cell size in pixels: 256 or 320x192.")] = "256",
    quality: Annotated[int, typer.Option(help="JPEG quality.")] = 75,
    subsampling: Annotated[
        Literal["4:2:0", "4:2:2", "4:4:4"], typer.Option(help="JPEG chroma subsampling.")
    ] = "4:2:0",
    caption: Annotated[
        Literal["last", "random"], typer.Option(help="Which of a photo's captions is asked for.")
    ] = "last",
    hard_negatives: Annotated[
        float, typer.Option(help="Share of negatives that resemble a photo that is there.")
    ] = 0.0,
    questions: Annotated[
        int,
        typer.Option(
            "--questions-per-haystack", help="Samples that share a haystack: 1, or even.", min=1
        ),
    ] = 1,
    paper: Annotated[
        bool, typer.Option("--paper", help="The published settings, 5,000 + 5,000 samples each.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes making tiles.", min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Build a data set, or extend one: more samples, more settings."""
    from mmneedle.console import progress
    from mmneedle.stitching.dataset import build as build_dataset
    from mmneedle.stitching.samples import Rules
    from mmneedle.stitching.tiles import TileFormat

    if (images or grid) and (settings or paper):
        other = "--settings" if settings else "--paper"
        raise UserError(f"{other} names the settings itself: leave out --images and --grid")
    if paper:
        if settings:
            raise UserError("--paper names the settings itself: leave out --settings")
        wanted = arguments.paper_settings(needles)
    else:
        wanted = arguments.settings(images or "1,10", grid or "2,4,8", needles or "1", settings)
    if samples and samples % 2:
        raise UserError(
            f"--samples {samples}: half of the samples have no match, so their number is even: "
            f"take {samples + 1}"
        )
    count = samples or (arguments.PAPER_SAMPLES if paper else 1000)
    tiles = TileFormat(*arguments.cell(cell), quality, subsampling)
    with progress(quiet=quiet) as report:
        dataset = build_dataset(
            folder,
            _source(source, photos, captions, scenes, seed, split),
            dict.fromkeys(wanted, count),
            Rules(seed, caption, hard_negatives, questions),
            tiles,
            workers=workers,
            progress=report,
        )
    _describe(dataset)


def _source(
    name: str,
    photos: Path | None,
    captions: Path | None,
    scenes: int | None,
    seed: int,
    split: Literal["all", "train", "held-out"] | None,
) -> "Source":
    if name == "coco":
        from mmneedle.data.coco import find_coco

        if scenes is not None or split is not None:
            option = "--scenes" if split is None else "--split"
            raise UserError(f"{option} belongs to --source shapes; COCO has its own photos")
        return find_coco(photos, captions)
    from mmneedle.data.shapes import ShapesSource

    if photos or captions:
        raise UserError("--photos and --captions belong to --source coco; shapes draws its own")
    default = 1800 if split == "held-out" else 4000
    return ShapesSource(default if scenes is None else scenes, seed, split or "all")


def _describe(dataset: "DataSet") -> None:
    from mmneedle.types import sample_id

    shared = f", {dataset.questions} questions a haystack" if dataset.questions > 1 else ""
    print(f"{dataset.folder}: fingerprint {dataset.fingerprint[:16]}{shared}")
    for setting in dataset.settings:
        print(
            f"  {setting.name}: {dataset.count(setting)} samples of {setting.images} image(s), "
            f"{setting.rows}x{setting.cols} cells each, {setting.needles} needle(s), "
            f"{sample_id(setting, 0)} to {dataset.count(setting) - 1:06d}"
        )


@app.command()
def show(
    folder: Folder,
    sample: Annotated[str | None, typer.Argument(help="Sample id.", metavar="SAMPLE")] = None,
    out: Annotated[Path | None, typer.Option(help="Write images, prompt and truth here.")] = None,
    task: Task = "grid",
    reader: Reader = "long",
    retriever: Retriever = None,
    chunk: Chunk = None,
    captions: ByCaptions = None,
    resize: Resize = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read all of it: is it as it was built?")
    ] = False,
    as_json: Json = False,
) -> None:
    """List a data set's samples, or show one exactly as it would be sent."""
    from mmneedle import show as showing
    from mmneedle.retrieval.asked import read_reader
    from mmneedle.stitching.dataset import DataSet

    if check:
        if sample is not None or out is not None or resize is not None or as_json:
            raise UserError("--check reads the whole data set: give it alone")
        print(showing.check(DataSet.open(folder)))
        return
    asked = read_reader(reader, retriever, chunk, captions)
    if text_verbs.shown(folder, sample, out, as_json=as_json, reader=asked):
        return
    dataset = DataSet.open(folder)
    if sample is None:
        if out is not None or resize is not None:
            raise UserError("--out needs a sample: mmneedle show DIR SAMPLE --out FOLDER")
        if as_json:
            showing.list_samples(dataset, sys.stdout)
        else:
            _describe(dataset)
    elif resize is not None and out is None:
        raise UserError("--resize is about images: add --out FOLDER, where they are written")
    elif out is not None:
        if as_json:
            raise UserError("--out writes sample.json itself: leave out --json")
        showing.write_sample(dataset, sample, out, arguments.resize(resize), task, asked)
        print(out)
    else:
        print(showing.sample_text(dataset, sample, as_json=as_json, task=task, reader=asked))


@app.command()
def run(
    folder: Folder,
    model: Annotated[str, typer.Option(help="provider/model, such as openai/gpt-4o.")],
    log: Annotated[
        Path | None, typer.Option(help="Run folder; runs/DATA-MODEL by default.")
    ] = None,
    limit: Limit = None,
    settings: Settings = None,
    task: Task = "grid",
    reader: Reader = "long",
    retriever: Retriever = None,
    chunk: Chunk = None,
    captions: ByCaptions = None,
    resize: Resize = None,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars that the run may cost in all.", min=0)
    ] = None,
    prices: PricesFile = None,
    limits: LimitsFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on in spite of a documented limit.")
    ] = False,
    max_connections: Annotated[
        int | None, typer.Option(help="Requests at once; 16 for servers.", min=1)
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute at most.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute at most.", min=1)] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one attempt; 120 for servers.", min=0.1)
    ] = None,
    attempts: Annotated[int, typer.Option(help="Attempts a sample at most.", min=1)] = 6,
    batch: Annotated[
        bool, typer.Option("--batch", help="By the provider's batch API: within a day, half price.")
    ] = False,
    batch_wait: Annotated[
        bool, typer.Option(help="Stay until all batches are done; else submit and leave.")
    ] = True,
    batch_cancel: Annotated[
        bool, typer.Option("--batch-cancel", help="Give up the batches that are at the provider.")
    ] = False,
    until_halfwidth: Annotated[
        float | None,
        typer.Option(help="Stop a setting once Exact and Existence are known to +- this: 0.02."),
    ] = None,
    shard: Annotated[str | None, typer.Option(help="One part of the samples, such as 1/8.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask rejected requests again.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="The provider's server, or a compatible one.")
    ] = None,
    detail: Annotated[
        Literal["auto", "low", "medium", "high", "original"] | None,
        typer.Option(help="Image detail asked for."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens an answer at most.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="The provider's by default.")] = None,
    reasoning: Annotated[
        str | None, typer.Option(help="Let the model think: low, medium, high, off, or tokens.")
    ] = None,
    logprobs: Annotated[
        bool,
        typer.Option(
            "--logprobs", help='Where the engine tells: keep the log-probability of "-1".'
        ),
    ] = False,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(help="hf, vllm: an argument of the engine, such as dtype=float32."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Ask a model every sample; the same command again asks only what is missing."""
    from mmneedle.evaluate import evaluate
    from mmneedle.retrieval.asked import read_reader

    asked = read_reader(reader, retriever, chunk, captions)
    options: dict[str, Any] = {
        "base_url": base_url,
        "detail": detail,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "reasoning": reasoning,
        "logprobs": logprobs or None,
        "engine_args": arguments.pairs(engine_arg, "--engine-arg") if engine_arg else None,
    }
    how: dict[str, Any] = {
        "max_connections": max_connections,
        "rpm": rpm,
        "tpm": tpm,
        "timeout": timeout,
    }
    if batch or batch_cancel:
        arguments.refuse(how, "--batch has its own pace")
        how = {"batch": True, "wait": batch_wait, "cancel": batch_cancel}
    elif not batch_wait:
        raise UserError("--no-batch-wait belongs to --batch")
    summary = evaluate(
        folder,
        model,
        log or Path("runs") / _run_name(folder, model, task, asked),
        task=task,
        limit=arguments.limit(limit),
        shapes=arguments.shapes(settings) if settings else None,
        shard=arguments.shard(shard),
        resize=arguments.resize(resize),
        reader=asked,
        limits=limits,
        force=force,
        prices=prices,
        max_cost=max_cost,
        adapter_options={key: value for key, value in options.items() if value is not None},
        max_attempts=attempts,
        retry_failed=retry_failed,
        until_halfwidth=until_halfwidth,
        quiet=quiet,
        **how,
    )
    print(summary)
    if summary.missing:
        raise typer.Exit(1)


@app.command()
def estimate(
    folder: Folder,
    model: Annotated[str, typer.Option(help="provider/model, such as openai/gpt-4o.")],
    limit: Limit = None,
    settings: Settings = None,
    task: Task = "grid",
    reader: Reader = "long",
    retriever: Retriever = None,
    chunk: Chunk = None,
    captions: ByCaptions = None,
    resize: Resize = None,
    batch: Annotated[bool, typer.Option("--batch", help="As a batch of the provider's.")] = False,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute at most.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute at most.", min=1)] = None,
    max_connections: Annotated[
        int | None, typer.Option(help="Requests at once; 16 for servers.", min=1)
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="A server that is not its maker's.")] = None,
    detail: Annotated[str | None, typer.Option(help="Image detail asked for.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens an answer at most.", min=1)] = None,
    reasoning: Annotated[str | None, typer.Option(help="As run has it.")] = None,
    prices: PricesFile = None,
    limits: LimitsFile = None,
    as_json: Json = False,
) -> None:
    """Say what a run would take: requests, tokens, effective pixels a cell, cost, time."""
    from mmneedle import estimate as estimating
    from mmneedle.retrieval.asked import read_reader

    asked = read_reader(reader, retriever, chunk, captions)
    options = {
        "base_url": base_url,
        "detail": detail,
        "max_tokens": max_tokens,
        "reasoning": reasoning,
    }
    result = estimating.estimate(
        folder,
        model,
        task=task,
        limit=arguments.limit(limit),
        shapes=arguments.shapes(settings) if settings else None,
        resize=arguments.resize(resize),
        reader=asked,
        limits=limits,
        prices=prices,
        batch=batch,
        rpm=rpm,
        tpm=tpm,
        max_connections=max_connections,
        adapter_options=options,
    )
    if as_json:
        print_json(result)
    else:
        print(estimating.text(result))


def _run_name(folder: Path, model: str, task: str, reader: "Asked | None") -> str:
    parts = [folder.resolve().name, _slug(model)]
    if task != "grid":
        parts.append(task)
    if reader is not None:
        parts += [f"retrieve-{reader.k}", reader.retriever, reader.captions or ""]
    return "-".join(filter(None, parts))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")


@app.command()
def score(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders.", metavar="RUN...")
    ] = None,
    official: Annotated[
        Path | None, typer.Option(help="Instead: a folder of the official code's response files.")
    ] = None,
    scorer: Annotated[
        Scorer | None, typer.Option(help="Only this scorer; both by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score runs by setting and split: robust, and beside it the paper's string equality."""
    from mmneedle.reports.table import score_table
    from mmneedle.reports.words import named
    from mmneedle.scoring import SCORERS, score_run, to_json
    from mmneedle.stopping import sentences

    scorers: tuple[Scorer, ...] = (scorer,) if scorer else SCORERS
    stops: list[str] = []
    if official is not None:
        from mmneedle.data.official import score_official

        if runs:
            raise UserError("give run folders or --official FOLDER, not both")
        rows = [row for row in score_official(official) if row.scorer in scorers]
    else:
        opened = _open_runs(runs, textual=None)
        if any(run.header.textual for run in opened):
            text_verbs.score(opened, scorer, as_json=as_json)
            return
        rows = [row for run in opened for row in score_run(run, scorers)]
        stops = [
            f"{named(str(run.folder))}: {line}" for run in opened for line in sentences(run.header)
        ]
    if as_json:
        print_json(to_json(rows))
    else:
        print(score_table(rows))
        for line in stops:
            print(line)


@app.command()
def findings(
    runs: Runs,
    scorer: Annotated[Scorer, typer.Option(help="Whose reading of the answers counts.")] = "robust",
    as_json: Json = False,
) -> None:
    """Say what kind of mistakes each model makes, and whether chance explains them."""
    from mmneedle.reports.hallucination.terminal import findings_json, findings_text

    opened = _open_runs(runs)
    if as_json:
        print_json(findings_json(opened, scorer))
    else:
        print(findings_text(opened, scorer))


@app.command()
def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Data set folder, where it is not where the run saw it."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write figures for papers to this folder too.")
    ] = None,
    columns: figure_verbs.Columns = 2,
    width: figure_verbs.Width = None,
    formats: figure_verbs.Formats = "pdf,png",
    published: figure_verbs.Published = False,
) -> None:
    """Write one self-contained HTML page: scores, where it looks, every error to open."""
    from mmneedle.reports.html import missing_datasets, write_report

    opened = _open_runs(runs)
    if figures is not None:
        from mmneedle.reports.figures import write_figures

        chosen = figure_verbs.read_formats(formats)
        files = write_figures(
            opened, figures, columns=columns, width=width, formats=chosen, published=published
        )
        print(f"{figures}: {len(files)} files, captions.md says what they show")
    path = write_report(opened, out, datasets=data or ())
    for line in missing_datasets(opened, data or ()):
        print(f"mmneedle: {line} (--data DIR names another place)", file=sys.stderr)
    print(path)


statistics_verbs.add(app)
leaderboard_verbs.add(app)
reader_verb.add(app)
viewer_verb.add(app)
text_verbs.add(app)
passkey_verb.add(app)
figure_verbs.add(app)
cross_verbs.add(app)
sweep_verb.add(app)


def _open_runs(paths: list[Path] | None, *, textual: bool | None = False) -> "list[Run]":
    from mmneedle.runlog import open_runs

    if not paths:
        raise UserError("name at least one run folder, such as runs/NAME")
    return open_runs(paths, textual=textual)
