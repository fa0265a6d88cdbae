"""The verbs that read runs of images: score (of texts too), findings, report."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmneedle.errors import UserError
from mmneedle.verbs import text
from mmneedle.verbs.options import (
    Columns,
    Figures,
    Formats,
    Json,
    Published,
    Runs,
    Scorer,
    Width,
    open_runs,
    read_formats,
    tell_figures,
)
from mmneedle.verbs.printing import print_json


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
        opened = open_runs(runs, textual=None)
        if any(run.header.textual for run in opened):
            text.score(opened, scorer, as_json=as_json)
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


def findings(
    runs: Runs,
    scorer: Annotated[Scorer, typer.Option(help="Whose reading of the answers counts.")] = "robust",
    as_json: Json = False,
) -> None:
    """Say what kind of mistakes each model makes, and whether chance explains them."""
    from mmneedle.reports.hallucination.terminal import findings_json, findings_text

    opened = open_runs(runs)
    if as_json:
        print_json(findings_json(opened, scorer))
    else:
        print(findings_text(opened, scorer))


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Data set folder, where it is not where the run saw it."),
    ] = None,
    figures: Figures = None,
    columns: Columns = 2,
    width: Width = None,
    formats: Formats = "pdf,png",
    published: Published = False,
) -> None:
    """Write one self-contained HTML page: scores, where it looks, every error to open."""
    from mmneedle.reports.html import missing_datasets, write_report

    opened = open_runs(runs)
    if figures is not None:
        from mmneedle.reports.figures import write_figures

        chosen = read_formats(formats)
        files = write_figures(
            opened, figures, columns=columns, width=width, formats=chosen, published=published
        )
        tell_figures(figures, files)
    path = write_report(opened, out, datasets=data or ())
    for line in missing_datasets(opened, data or ()):
        print(f"mmneedle: {line} (--data DIR names another place)", file=sys.stderr)
    print(path)


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (score, findings, report):
        app.command()(verb)
