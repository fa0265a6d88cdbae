"""The verb of the viewer."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Data sets and runs, or folders of such.", metavar="DIR|RUN..."),
    ],
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open a browser; by default on a desktop."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Data set folder, where it is not where the run saw it."),
    ] = None,
) -> None:
    """Browse data sets and runs in a local page: samples, answers, errors, live progress."""
    from mmneedle.viewer.server import announce, serve

    serve(folders, data=data or (), port=port, started=lambda url: announce(url, browser))


def add(app: typer.Typer) -> None:
    """Give the command line this verb."""
    app.command()(view)
