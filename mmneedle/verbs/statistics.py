"""The verbs of statistics: compare, plan, convergence."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmneedle.errors import UserError
from mmneedle.verbs.options import Json, Runs
from mmneedle.verbs.printing import print_json

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
        print_json(found.json())
    else:
        print(found.text())


def plan(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Two runs on the same samples, as a pilot.", metavar="[RUN RUN]"),
    ] = None,
    detect: Annotated[
        float, typer.Option(help="Points between two models that shall be seen.")
    ] = 3,
    power: Annotated[float, typer.Option(help="How often it shall be seen, 0 to 1.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="How often a false one may be, 0 to 1.")] = 0.05,
    accuracy: Annotated[
        float | None, typer.Option(help="The models' accuracy on average, 0 to 1 (0.5).")
    ] = None,
    discordant: Annotated[
        float | None,
        typer.Option(help="Share of samples that one model alone gets right; else the worst case."),
    ] = None,
    models: Annotated[
        int, typer.Option(help="Models of a leaderboard, each compared with each.")
    ] = 2,
    settings: Annotated[
        int | None, typer.Option(help="Settings whose mean is compared (1).")
    ] = None,
    questions: Annotated[
        int | None, typer.Option("--questions-per-haystack", help="As build has it (1).")
    ] = None,
    alike: Annotated[
        float | None, typer.Option(help="Correlation of the samples of a haystack, 0 to 1.")
    ] = None,
    metric: Metric = "exact",
    as_json: Json = False,
) -> None:
    """Say how many samples it takes to tell two models apart, and to know a figure."""
    from mmneedle import arguments, samplesize
    from mmneedle.runlog import open_runs

    given: dict[str, Any] = {
        "accuracy": accuracy,
        "discordant": discordant,
        "settings": settings,
        "alike": alike,
    }
    known = None
    if runs:
        own = given | {"questions_per_haystack": questions}
        arguments.refuse(own, "the two runs tell that themselves")
        known = samplesize.pilot(open_runs(runs), metric)
    elif (questions or 1) > 1 and alike is None:
        raise UserError(
            "--questions-per-haystack needs --alike, the correlation of a haystack's samples (0 to "
            "1), or two runs as a pilot"
        )
    given = {name: value for name, value in given.items() if value is not None}
    question = samplesize.Question(
        detect=detect / 100,
        power=power,
        alpha=alpha,
        models=models,
        questions=questions or 1,
        measure=metric,
        **given,
    )
    found = samplesize.plan(question, known)
    if as_json:
        print_json(found)
    else:
        print(samplesize.text(found))


def convergence(
    runs: Runs,
    metric: Metric = "exact",
    scorer: Scorer = "robust",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every point as CSV.")] = False,
) -> None:
    """Show how figures settle: mean and standard error against the number of samples."""
    from mmneedle.reports import settling
    from mmneedle.runlog import open_runs

    if as_json and as_csv:
        raise UserError("--json and --csv are two forms of the same: give one")
    found = settling.of_runs(open_runs(runs), metric, scorer)
    if as_json:
        print_json(list(settling.rows(found)))
    elif as_csv:
        print(settling.csv(found), end="")
    else:
        print(settling.text(found, metric, scorer))


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (compare, plan, convergence):
        app.command()(verb)
