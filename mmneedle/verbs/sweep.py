"""The verb `sweep`: how far a local model gets with its window stretched."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmneedle import arguments
from mmneedle.verbs.options import Json, Lengths, Quiet
from mmneedle.verbs.printing import print_json


def sweep(
    folder: Annotated[Path, typer.Argument(help="A text data set, such as niah's.", metavar="DIR")],
    model: Annotated[str, typer.Option(help="hf/FOLDER or vllm/FOLDER.")],
    rope: Annotated[
        list[str], typer.Option(help="none, linear:4, dynamic:4 or yarn:4; may be given again.")
    ],
    log: Annotated[Path, typer.Option(help="A folder for the runs, one each.")],
    lengths: Lengths = None,
    threshold: Annotated[
        float | None, typer.Option(help="Per cent that a score must reach (85.6).", min=0, max=100)
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens an answer at most.", min=1)] = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="Of the engine, such as dtype=float32.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a text data set with the model's window as it is and stretched (docs/local-models.md)."""
    from mmneedle import sweeping
    from mmneedle.adapters.rope import read_rope

    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "engine_args": arguments.pairs(engine_arg, "--engine-arg") if engine_arg else None,
    }
    found = sweeping.sweep(
        folder,
        model,
        list(dict.fromkeys(read_rope(text) for text in rope)),
        log,
        lengths=arguments.lengths(lengths) if lengths else None,
        threshold=None if threshold is None else arguments.share(threshold),
        options={key: value for key, value in options.items() if value is not None},
        quiet=quiet,
    )
    if as_json:
        print_json(sweeping.as_json(found))
    else:
        print(sweeping.table(found))


def add(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(sweep)
