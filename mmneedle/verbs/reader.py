"""The verb `reader`: reading everything against retrieving."""

from pathlib import Path
from typing import Annotated

import typer

from mmneedle.verbs.options import Json
from mmneedle.verbs.printing import print_json

Runs = Annotated[
    list[Path],
    typer.Argument(
        help="Runs of a model: one that reads all, others that retrieve.", metavar="RUN..."
    ),
]


def reader(runs: Runs, as_json: Json = False) -> None:
    """Say where reading everything wins against retrieving, and where it loses."""

    from mmneedle.reports.readers import contrasts_json, contrasts_text
    from mmneedle.retrieval.contrast import contrast
    from mmneedle.runlog import open_runs

    found = contrast(open_runs(runs, textual=None))
    if as_json:
        print_json(contrasts_json(found))
    else:
        print(contrasts_text(found))


def add(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(reader)
