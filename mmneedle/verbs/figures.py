"""The verb of figures for papers; `report --figures` draws the same."""

from pathlib import Path
from typing import Annotated

import typer

from mmneedle.verbs.options import (
    Columns,
    Formats,
    Published,
    Runs,
    Scorer,
    Width,
    open_runs_and_submissions,
    read_formats,
)


def figures(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("figures"),
    columns: Columns = 2,
    width: Width = None,
    formats: Formats = "pdf,png",
    published: Published = False,
    scorer: Annotated[Scorer, typer.Option(help="How answers are read.")] = "robust",
    few: Annotated[
        int, typer.Option(help="Shares of fewer samples are pale or hatched.", min=0)
    ] = 5,
) -> None:
    """Draw figures for papers: PDF and PNG, their data as CSV, captions for LaTeX."""
    from mmneedle.reports.figures import write_figures

    files = write_figures(
        open_runs_and_submissions(runs),
        out,
        columns=columns,
        width=width,
        formats=read_formats(formats),
        published=published,
        scorer=scorer,
        few=few,
    )
    for file in files:
        print(file)


def add(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(figures)
