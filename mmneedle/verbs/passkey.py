"""The verb passkey: how long a text a model masters, asked for as the search goes on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.verbs.options import Json, Quiet
from mmneedle.verbs.printing import print_json

if TYPE_CHECKING:
    from mmneedle.runner import RunSummary
    from mmneedle.texts.effective import Point


def passkey(
    model: Annotated[str, typer.Option(help="provider/model, such as hf/FOLDER.")],
    log: Annotated[Path, typer.Option(help="Folder for the data set and a run a length.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="The model's folder or tokenizer.json; else 4 characters count as one."),
    ] = None,
    low: Annotated[str, typer.Option("--from", help="The shortest length in tokens.")] = "1k",
    high: Annotated[str, typer.Option("--to", help="The longest length.")] = "128k",
    samples: Annotated[int, typer.Option(help="Samples a length.", min=1)] = 5,
    threshold: Annotated[
        float, typer.Option(help="Per cent of the samples that must be right.", min=0, max=100)
    ] = 85.0,
    within: Annotated[
        float, typer.Option(help="Per cent to which the length is found.", min=0, max=100)
    ] = 10.0,
    seed: Annotated[
        int, typer.Option(help="Another seed, other samples.", min=0, max=2**63 - 1)
    ] = 0,
    base_url: Annotated[str | None, typer.Option(help="As run has it.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="As run has it.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="As run has it.")] = None,
    reasoning: Annotated[str | None, typer.Option(help="As run has it.")] = None,
    engine_arg: Annotated[list[str] | None, typer.Option(help="As run has it.")] = None,
    max_connections: Annotated[int | None, typer.Option(help="As run has it.", min=1)] = None,
    timeout: Annotated[float | None, typer.Option(help="As run has it.", min=0.1)] = None,
    attempts: Annotated[int, typer.Option(help="As run has it.", min=1)] = 6,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="As run has it.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the longest text in which a model finds a pass key, by binary search."""
    from mmneedle.texts import search
    from mmneedle.texts.effective import effective_json, table

    options = {
        "base_url": base_url,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "reasoning": reasoning,
        "engine_args": arguments.pairs(engine_arg, "--engine-arg") if engine_arg else None,
    }
    how = {
        "max_connections": max_connections,
        "timeout": timeout,
        "max_attempts": attempts,
        "retry_failed": retry_failed,
    }
    first, last = _length(low, "--from"), _length(high, "--to")
    share, near = arguments.share(threshold), arguments.share(within)
    search.check_span(first, last, share, near)

    def ask(length: int) -> "Point":
        given = {key: value for key, value in options.items() if value is not None}
        point, summary = _asked(
            log, model, length, samples, tokenizer, seed, given, how, quiet=quiet
        )
        if point.answered + point.skipped < point.n:
            print(f"{length:,} tokens: {summary}; the same command goes on", file=sys.stderr)
            raise typer.Exit(1)
        return point

    points = []
    for point in search.search(ask, first, last, share, near):
        points.append(point)
        if not (quiet or as_json):
            print(_line(point, share), file=sys.stderr)
    found = search.together(points, share, model)
    if as_json:
        print_json(effective_json([found])[0] | {"said": search.told(found)})
        return
    *lines, _ = table(found).splitlines()
    print("\n".join([*lines, search.told(found)]))
    if tokenizer is None:
        print("lengths are approximate: 4 characters a token (--tokenizer counts a model's own)")


def _asked(
    log: Path,
    model: str,
    length: int,
    samples: int,
    tokenizer: Path | None,
    seed: int,
    options: dict[str, Any],
    how: dict[str, Any],
    *,
    quiet: bool,
) -> "tuple[Point, RunSummary]":
    """Build a length and ask it, or what of it is missing: a data set and a run folder."""
    from mmneedle.evaluate import evaluate
    from mmneedle.runlog import Run
    from mmneedle.texts.dataset import Ingredients, build_texts
    from mmneedle.texts.effective import points
    from mmneedle.types import TextSetting

    setting = TextSetting("passkey", length)
    given = Ingredients(task="passkey", seed=seed, tokenizer=tokenizer)
    dataset = build_texts(log / "data", given, {setting: samples})
    run = log / f"l{length}"
    summary = evaluate(
        dataset.folder,
        model,
        run,
        limit=(0, samples),
        names={setting.name},
        adapter_options=options,
        quiet=quiet,
        **how,
    )
    (series,) = points([Run.open(run)]).values()
    return series[0], summary


def _line(point: "Point", threshold: float) -> str:
    if point.skipped == point.n:
        return f"{point.length:>9,} tokens: past the model's window"
    right = round((point.score or 0) * point.answered)
    verdict = "passes" if point.passes(threshold) else "fails"
    return f"{point.length:>9,} tokens: {right} of {point.answered} right, {verdict}"


def _length(text: str, option: str) -> int:
    found = arguments.lengths(text, option)
    if len(found) != 1:
        raise UserError(f"{option} takes one length such as 4k, not {text!r}")
    return found[0]


def add(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command()(passkey)
