"""What several verbs take: options with their help, run folders opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmneedle.errors import UserError

if TYPE_CHECKING:
    from mmneedle.runlog import Run

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
Settings = Annotated[
    str | None, typer.Option(help="Of images only these settings: such as 1x2,10x8.")
]
Lengths = Annotated[
    str | None, typer.Option(help="Of a text data set only these lengths: such as 1k,4k.")
]
LimitsFile = Annotated[
    Path | None, typer.Option(help="Your own limits (docs/limits.md), before the packaged ones.")
]
PricesFile = Annotated[Path | None, typer.Option(help="Your own prices (docs/costs.md).")]
Scorer = Literal["robust", "paper"]

Figures = Annotated[Path | None, typer.Option(help="Write figures for papers to this folder too.")]
Columns = Annotated[
    int, typer.Option(help="Width of figures: one column (3.25 in) or two (6.75 in).", min=1, max=2)
]
Width = Annotated[float | None, typer.Option(help="Width of figures in inches, instead.")]
Formats = Annotated[str, typer.Option(help="Formats of figures: pdf, png, svg.")]
Published = Annotated[
    bool, typer.Option("--published", help="Add the paper's rows to figures, marked as published.")
]


def read_formats(text: str) -> Sequence[str]:
    """Read "pdf,png" as names, each once. Which of them there are, the figures know."""
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def tell_figures(folder: Path, files: Sequence[Path]) -> None:
    """Say what was written beside a page."""
    print(f"{folder}: {len(files)} files, captions.md says what they show")


def open_runs(paths: Sequence[Path] | None, *, textual: bool | None = False) -> "list[Run]":
    """Open run folders, at least one; shards of one run as one.

    Args:
        paths: what the user named.
        textual: runs of text tasks, or of images; None takes both.
    """
    from mmneedle import runlog

    return runlog.open_runs(_named(paths), textual=textual)


def open_runs_and_submissions(paths: Sequence[Path] | None) -> "list[Run]":
    """Open run folders and files of submissions, runs first."""
    from mmneedle.runlog import open_runs
    from mmneedle.submissions.opened import open_submission

    files = [path for path in _named(paths) if path.is_file()]
    folders = [path for path in _named(paths) if path not in files]
    return [*open_runs(folders), *map(open_submission, files)]


def _named(paths: Sequence[Path] | None) -> list[Path]:
    if not paths:
        raise UserError("name at least one run folder, such as runs/NAME")
    return list(paths)
