"""The verbs that ask a model, or say what that would take: run, estimate."""

import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.verbs.options import (
    ByCaptions,
    Chunk,
    Folder,
    Json,
    Lengths,
    Limit,
    LimitsFile,
    PricesFile,
    Quiet,
    Reader,
    Resize,
    Retriever,
    Settings,
    Task,
)
from mmneedle.verbs.printing import print_json

if TYPE_CHECKING:
    from mmneedle.retrieval.asked import Asked


def run(
    folder: Folder,
    model: Annotated[str, typer.Option(help="provider/model, such as openai/gpt-4o.")],
    log: Annotated[
        Path | None, typer.Option(help="Run folder; runs/DATA-MODEL by default.")
    ] = None,
    limit: Limit = None,
    settings: Settings = None,
    lengths: Lengths = None,
    task: Task = "grid",
    reader: Reader = "long",
    retriever: Retriever = None,
    chunk: Chunk = None,
    captions: ByCaptions = None,
    resize: Resize = None,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars that the run may cost in all.", min=0)
    ] = None,
    prices: PricesFile = None,
    limits: LimitsFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on in spite of a documented limit.")
    ] = False,
    max_connections: Annotated[
        int | None, typer.Option(help="Requests at once; 16 for servers.", min=1)
    ] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute at most.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute at most.", min=1)] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for one attempt; 120 for servers.", min=0.1)
    ] = None,
    attempts: Annotated[int, typer.Option(help="Attempts a sample at most.", min=1)] = 6,
    batch: Annotated[
        bool, typer.Option("--batch", help="By the provider's batch API: within a day, half price.")
    ] = False,
    batch_wait: Annotated[
        bool, typer.Option(help="Stay until all batches are done; else submit and leave.")
    ] = True,
    batch_cancel: Annotated[
        bool, typer.Option("--batch-cancel", help="Give up the batches that are at the provider.")
    ] = False,
    until_halfwidth: Annotated[
        float | None,
        typer.Option(help="Stop a setting once Exact and Existence are known to +- this: 0.02."),
    ] = None,
    shard: Annotated[str | None, typer.Option(help="One part of the samples, such as 1/8.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask rejected requests again.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="The provider's server, or a compatible one.")
    ] = None,
    detail: Annotated[
        Literal["auto", "low", "medium", "high", "original"] | None,
        typer.Option(help="Image detail asked for."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens an answer at most.", min=1)] = None,
    temperature: Annotated[float | None, typer.Option(help="The provider's by default.")] = None,
    reasoning: Annotated[
        str | None, typer.Option(help="Let the model think: low, medium, high, off, or tokens.")
    ] = None,
    logprobs: Annotated[
        bool,
        typer.Option(
            "--logprobs", help='Where the engine tells: keep the log-probability of "-1".'
        ),
    ] = False,
    engine_arg: Annotated[
        list[str] | None,
        typer.Option(help="hf, vllm: an argument of the engine, such as dtype=float32."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Ask a model every sample; the same command again asks only what is missing."""
    from mmneedle.evaluate import evaluate
    from mmneedle.retrieval.asked import read_reader

    asked = read_reader(reader, retriever, chunk, captions)
    options: dict[str, Any] = {
        "base_url": base_url,
        "detail": detail,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "reasoning": reasoning,
        "logprobs": logprobs or None,
        "engine_args": arguments.pairs(engine_arg, "--engine-arg") if engine_arg else None,
    }
    how: dict[str, Any] = {
        "max_connections": max_connections,
        "rpm": rpm,
        "tpm": tpm,
        "timeout": timeout,
    }
    if batch or batch_cancel:
        arguments.refuse(how, "--batch has its own pace")
        how = {"batch": True, "wait": batch_wait, "cancel": batch_cancel}
    elif not batch_wait:
        raise UserError("--no-batch-wait belongs to --batch")
    log = log or Path("runs") / _run_name(folder, model, task, asked)
    summary = evaluate(
        folder,
        model,
        log,
        task=task,
        limit=arguments.limit(limit),
        shapes=arguments.shapes(settings) if settings else None,
        lengths=arguments.lengths(lengths) if lengths else None,
        shard=arguments.shard(shard),
        resize=arguments.resize(resize),
        reader=asked,
        limits=limits,
        force=force,
        prices=prices,
        max_cost=max_cost,
        adapter_options={key: value for key, value in options.items() if value is not None},
        max_attempts=attempts,
        retry_failed=retry_failed,
        until_halfwidth=until_halfwidth,
        quiet=quiet,
        **how,
    )
    print(summary)
    if not (quiet or summary.missing):  # else what is missing is what comes next
        from mmneedle.texts.dataset import TextDataSet

        page = "text-report" if TextDataSet.here(folder) else "report"
        print(f"next: mmneedle score {quote(str(log))} or mmneedle {page} {quote(str(log))}")
    if summary.missing:
        raise typer.Exit(1)


def _run_name(folder: Path, model: str, task: str, reader: "Asked | None") -> str:
    parts = [folder.resolve().name, _slug(model)]
    if task != "grid":
        parts.append(task)
    if reader is not None:
        parts += [f"retrieve-{reader.k}", reader.retriever, reader.captions or ""]
    return "-".join(filter(None, parts))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")


def estimate(
    folder: Folder,
    model: Annotated[str, typer.Option(help="provider/model, such as openai/gpt-4o.")],
    limit: Limit = None,
    settings: Settings = None,
    lengths: Lengths = None,
    task: Task = "grid",
    reader: Reader = "long",
    retriever: Retriever = None,
    chunk: Chunk = None,
    captions: ByCaptions = None,
    resize: Resize = None,
    batch: Annotated[bool, typer.Option("--batch", help="As a batch of the provider's.")] = False,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute at most.", min=1)] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute at most.", min=1)] = None,
    max_connections: Annotated[
        int | None, typer.Option(help="Requests at once; 16 for servers.", min=1)
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="A server that is not its maker's.")] = None,
    detail: Annotated[str | None, typer.Option(help="Image detail asked for.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens an answer at most.", min=1)] = None,
    reasoning: Annotated[str | None, typer.Option(help="As run has it.")] = None,
    prices: PricesFile = None,
    limits: LimitsFile = None,
    as_json: Json = False,
) -> None:
    """Say what a run would take: requests, tokens, effective pixels a cell, cost, time."""
    from mmneedle import estimate as estimating
    from mmneedle.retrieval.asked import read_reader

    asked = read_reader(reader, retriever, chunk, captions)
    options = {
        "base_url": base_url,
        "detail": detail,
        "max_tokens": max_tokens,
        "reasoning": reasoning,
    }
    result = estimating.estimate(
        folder,
        model,
        task=task,
        limit=arguments.limit(limit),
        shapes=arguments.shapes(settings) if settings else None,
        lengths=arguments.lengths(lengths) if lengths else None,
        resize=arguments.resize(resize),
        reader=asked,
        limits=limits,
        prices=prices,
        batch=batch,
        rpm=rpm,
        tpm=tpm,
        max_connections=max_connections,
        adapter_options=options,
    )
    if as_json:
        print_json(result)
    else:
        print(estimating.text(result))


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (run, estimate):
        app.command()(verb)
