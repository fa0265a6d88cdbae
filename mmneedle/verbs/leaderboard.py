"""The verbs of leaderboards: leaderboard, submit pack, submit check."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmneedle.errors import UserError
from mmneedle.verbs.options import Json, open_runs_and_submissions
from mmneedle.verbs.printing import print_json


def leaderboard(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders, and files of submissions.", metavar="RUN..."),
    ] = None,
    form: Annotated[
        Literal["md", "csv", "json", "latex", "html"], typer.Option("--format", help="Format.")
    ] = "md",
    published: Annotated[
        bool, typer.Option("--published", help="Add the paper's rows, marked as published.")
    ] = False,
    settings: Annotated[
        str | None,
        typer.Option("--setting", "--settings", help="Only these settings: such as 1x2,10x8."),
    ] = None,
    needles: Annotated[str | None, typer.Option(help="Only so many needles: such as 1,2.")] = None,
    scorer: Annotated[
        Literal["robust", "paper"] | None, typer.Option(help="Only this scorer of runs.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Only models or runs of this name; * and ? match any.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help="By exact (default), youden, or a setting such as 10x8.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """Compare models over settings: ranks with ties, and what cannot be compared and why."""
    from mmneedle.reports.choice import Choice
    from mmneedle.reports.leaderboard import leaderboard as make_leaderboard

    choice = Choice.read(settings, needles, scorer, models, sort)
    opened = [] if published and not runs else open_runs_and_submissions(runs)
    board = make_leaderboard(
        opened, scorer or "robust", published=published, choice=choice, ranked=True
    )
    text = board.render(form)
    if form in ("csv", "json"):  # which have no place for a remark
        for remark in board.copies:
            typer.echo(remark, err=True)
    if out is None:
        print(text)
    else:
        from mmneedle.files import unwritable, write_whole

        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, text.encode(errors="replace") + b"\n")
        except OSError as error:
            raise unwritable(out, error) from None
        print(out)


submit = typer.Typer(
    name="submit",
    help="Pack a run into one file that others can check, or check such a file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@submit.command("pack")
def submit_pack(
    runs: Annotated[list[Path], typer.Argument(help="A run folder; all its shards.")],
    out: Annotated[Path | None, typer.Option(help="File to write; RUN.submission.zip.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set, where it is not where the run saw it.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who submits.")] = "",
    link: Annotated[str, typer.Option(help="Where more is told: https://...")] = "",
    notes: Annotated[str, typer.Option(help="A remark.")] = "",
    partial: Annotated[
        bool, typer.Option("--partial", help="Take a run that lacks answers.")
    ] = False,
) -> None:
    """Write a run's raw answers, recipe, scores and hashes as one file; no keys, no paths."""
    from mmneedle.runlog import open_runs
    from mmneedle.submissions import pack as packing
    from mmneedle.submissions.archive import By

    opened = open_runs(runs)
    if len(opened) > 1:
        raise UserError("a submission is one run: name one folder, or all shards of one run")
    target = out or Path(f"{opened[0].folder.resolve().name}.submission.zip")
    packed = packing.pack(opened[0], target, data=data, by=By(by, link, notes), partial=partial)
    print(packing.summary(packed))


@submit.command("check")
def submit_check(
    file: Annotated[Path, typer.Argument(help="A submission.", metavar="FILE")],
    data: Annotated[
        Path | None, typer.Option(help="Its data set, or a folder of COCO photos.")
    ] = None,
    requests: Annotated[
        int, typer.Option(help="Requests of each setting to make again, at random.", min=1)
    ] = 8,
    as_json: Json = False,
) -> None:
    """Verify a submission: hashes, truth, and scores anew from the raw answers."""
    from mmneedle.submissions.check import check

    verified = check(file, data, requests=requests)
    if as_json:
        print_json(verified)
    else:
        print(verified.text())
    if not verified.ok:
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(leaderboard)
    app.add_typer(submit)
