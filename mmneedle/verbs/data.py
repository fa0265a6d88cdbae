"""The verbs of data sets: demo, fetch, draw, build, show."""

import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.verbs import text
from mmneedle.verbs.options import (
    ByCaptions,
    Chunk,
    Folder,
    Json,
    Quiet,
    Reader,
    Resize,
    Retriever,
    Task,
)

if TYPE_CHECKING:
    from mmneedle.stitching.dataset import DataSet
    from mmneedle.types import Source


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demo makes.")] = Path(
        "demo-output"
    ),
) -> None:
    """Do the whole job offline: build, ask a real model and baselines, score, report."""
    from mmneedle.demo import demo as run_demo

    run_demo(out)


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
    twin: Annotated[
        Literal["captions"] | None,
        typer.Option(
            help="Look whether all samples have their text twins, and say how to ask them "
            "(docs/twins.md)."
        ),
    ] = None,
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
    if twin:
        _tell_twins(dataset)
    else:
        name = quote(str(folder))
        print(f"next: mmneedle show {name} or mmneedle run {name} --model PROVIDER/MODEL --log RUN")


def _tell_twins(dataset: "DataSet") -> None:
    """Which text twins the samples have, and how they are asked: nothing of them is stored."""
    from mmneedle.tasks.twins import GRADES, TwinTask

    name = quote(str(dataset.folder))
    print("text twins need no build of their own: the same samples, asked as text")
    for grade in GRADES:
        try:
            task = TwinTask(dataset, grade).name
        except UserError as error:  # no second captions: the other grade is there all the same
            print(f"  no twin-{grade}: {error}")
        else:
            log = f"--log RUN-{grade}"
            print(f"  mmneedle run {name} --task {task} --model PROVIDER/MODEL {log}")


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
        print(text.check(folder) or showing.check(DataSet.open(folder)))
        return
    asked = read_reader(reader, retriever, chunk, captions)
    text.refuse_images(folder, task, resize)
    if text.shown(folder, sample, out, as_json=as_json, reader=asked):
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


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (demo, fetch, draw, build, show):
        app.command()(verb)
