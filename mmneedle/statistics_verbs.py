"""The verbs of statistics: compare, plan, convergence. `cli.py` adds them to the others."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmneedle.errors import UserError

Runs = Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scorer = Annotated[Literal["robust", "paper"], typer.Option(help="Who says what is right.")]
Metric = Annotated[
    Literal["exact", "index", "existence", "sensitivity", "specificity"],
    typer.Option(help="What is compared; exact and index are about positives."),
]


def compare(
    runs: Runs, metric: Metric = "exact", scorer: Scorer = "robust", as_json: Json = False
) -> None:
    """Compare runs on the same samples: who is better, by how much, and can the data tell."""
    from mmneedle.reports.versus import Versus
    from mmneedle.runlog import open_runs

    opened = open_runs(runs)
    if len(opened) < 2:
        raise UserError("compare takes two runs or more, such as runs/ONE runs/OTHER")
    found = Versus(opened, metric, scorer)
    if as_json:
        _print_json(found.json())
    else:
        print(found.text())


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (compare,):
        app.command()(verb)


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
