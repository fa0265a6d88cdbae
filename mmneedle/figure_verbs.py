"""The verb of figures for papers. `cli.py` adds it to the others; `report --figures` calls it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmneedle.errors import UserError

if TYPE_CHECKING:
    from mmneedle.runlog import Run

Columns = Annotated[
    int, typer.Option(help="Width of figures: one column (3.25 in) or two (6.75 in).", min=1, max=2)
]
Width = Annotated[float | None, typer.Option(help="Width of figures in inches, instead.")]
Formats = Annotated[str, typer.Option(help="Formats of figures: pdf, png, svg.")]
Published = Annotated[
    bool, typer.Option("--published", help="Add the paper's rows to figures, marked as published.")
]


def figures(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("figures"),
    columns: Columns = 2,
    width: Width = None,
    formats: Formats = "pdf,png",
    published: Published = False,
    scorer: Annotated[
        Literal["robust", "paper"], typer.Option(help="How answers are read.")
    ] = "robust",
    few: Annotated[
        int, typer.Option(help="Shares of fewer samples are pale or hatched.", min=0)
    ] = 5,
) -> None:
    """Draw figures for papers: PDF and PNG, their data as CSV, captions for LaTeX."""
    from mmneedle.reports.figures import write_figures

    files = write_figures(
        _open(runs),
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


def read_formats(text: str) -> Sequence[str]:
    """Read "pdf,png" as names, each once. Which of them there are, the figures know."""
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def _open(paths: list[Path]) -> "list[Run]":
    from mmneedle.runlog import open_runs
    from mmneedle.submissions.opened import open_submission

    if not paths:
        raise UserError("name at least one run folder, such as runs/NAME")
    files = [path for path in paths if path.is_file()]
    return [*open_runs([path for path in paths if path not in files]), *map(open_submission, files)]


def add(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(figures)
