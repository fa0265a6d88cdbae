"""The verbs of text beside images: twins, text-report."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmneedle import arguments
from mmneedle.verbs.options import (
    Columns,
    Figures,
    Formats,
    Json,
    Width,
    read_formats,
    tell_figures,
)
from mmneedle.verbs.printing import print_json


def twins(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="One model's runs on one data set: with images, as literal and as paraphrase twin."
        ),
    ],
    metric: Annotated[
        Literal["exact", "index", "existence"],
        typer.Option(help="What is right on positives; on negatives it is always existence."),
    ] = "exact",
    scorer: Annotated[
        Literal["robust", "paper"], typer.Option(help="Who says what is right.")
    ] = "robust",
    as_json: Json = False,
) -> None:
    """Split what a model loses in images into context, meaning and sight (docs/twins.md)."""
    from mmneedle.reports import twins as shown
    from mmneedle.runlog import open_runs
    from mmneedle.twinned import twinned

    found = twinned(open_runs(runs), metric, scorer)
    if as_json:
        print_json(shown.json(found))
    else:
        print(shown.text(found))


def text_report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Runs of text tasks, and of images and text twins to stand beside them.",
            metavar="RUN...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("text.html"),
    threshold: Annotated[
        float | None,
        typer.Option(help="Per cent that an effective length must reach (85.6).", min=0, max=100),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Text data set folder, where it is not where the run saw it."),
    ] = None,
    figures: Figures = None,
    columns: Columns = 2,
    width: Width = None,
    formats: Formats = "pdf,png",
) -> None:
    """Write one page: scores by length and depth, texts and images on one axis of tokens."""
    from mmneedle.reports.textual.write import write_text_report
    from mmneedle.runlog import open_runs

    opened = open_runs(runs, textual=None)
    share = None if threshold is None else arguments.share(threshold)
    if figures is not None:
        from mmneedle.reports.figures.texts import write_text_figures

        chosen = read_formats(formats)
        files = write_text_figures(
            opened, figures, threshold=share, columns=columns, width=width, formats=chosen
        )
        tell_figures(figures, files)
    print(write_text_report(opened, out, threshold=share, datasets=data or ()))


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(twins)
    app.command(name="text-report")(text_report)
