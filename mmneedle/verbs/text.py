"""The verbs of text tasks: build-text; and what `score` and `show` do for texts."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.verbs.options import Json
from mmneedle.verbs.printing import print_json

if TYPE_CHECKING:
    from mmneedle.retrieval.asked import Asked
    from mmneedle.runlog import Run
    from mmneedle.texts.dataset import TextDataSet
    from mmneedle.texts.making import Maker
    from mmneedle.texts.scoring import TextRow
    from mmneedle.types import TextSample, TextSetting


def build_text(
    folder: Annotated[Path, typer.Argument(help="Folder to build in.", metavar="DIR")],
    task: Annotated[
        str,
        typer.Argument(
            help="niah (facts), ruler (its thirteen), keyvalue (pairs), multidoc (documents), "
            "latent (no common word), passkey.",
            metavar="TASK",
        ),
    ],
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Of the whole prompt in tokens: 512,4k,128k; keyvalue counts pairs, multidoc "
            "documents. Each task has its own by default."
        ),
    ] = None,
    depths: Annotated[
        str,
        typer.Option(
            help="Per cent of the text before the needle: 0,50,100, or a number of "
            "them: linear:11, sigmoid:11."
        ),
    ] = "linear:11",
    needles: Annotated[str, typer.Option(help="Needles a question, such as 1,4.")] = "1",
    variants: Annotated[
        str | None,
        typer.Option(
            help="Variants of the task: niah keys8, keyvalue before,after,both,dict, ruler vt,cwe "
            "..."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples (seeds) a setting.", min=1)] = 5,
    seed: Annotated[
        int, typer.Option(help="Another seed, other samples.", min=0, max=2**63 - 1)
    ] = 0,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="What counts tokens: the model's folder, or a tokenizer.json; else 4 characters "
            "are one."
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Haystack: a text file, or a folder of .txt and .md; else generated sentences."
        ),
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Haystack: a data set of images, whose captions are taken.")
    ] = None,
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="ruler: a SQuAD or HotpotQA file; multidoc: Natural Questions; latent: NoLiMa's "
            "needle set. May be given again."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="ruler: haystack=, keys= or values= (docs/text-tasks.md)."),
    ] = None,
) -> None:
    """Build a data set of text needles, or extend one (docs/text-tasks.md)."""
    from mmneedle.tasks.text import MAKERS
    from mmneedle.texts.dataset import Ingredients, build_texts

    if task not in MAKERS and str(folder) in MAKERS:
        raise UserError(f"the folder comes first: mmneedle build-text {quote(task)} {folder}")
    options = arguments.pairs(option, "--option") if option else {}
    files = tuple(questions or ())
    maker = _check_ingredients(task, files, options)
    given = Ingredients(
        task=task,
        seed=seed,
        tokenizer=tokenizer,
        corpus=_corpus(task, texts, captions, seed, asked=bool(files)),
        questions=files,
        options=options,
    )
    counted = arguments.lengths(lengths or maker.default_lengths)
    wanted = _settings(task, counted, depths, needles, _variants(maker, variants, files))
    dataset = build_texts(folder, given, dict.fromkeys(wanted, samples))
    total = sum(dataset.manifest.settings.values())
    print(
        f"{dataset.folder}: fingerprint {dataset.fingerprint[:16]}, {len(dataset.settings)} "
        f"settings, {total} samples"
    )
    if tokenizer is None and maker.lengths == "tokens":
        print("lengths are approximate: 4 characters a token (--tokenizer counts a model's own)")
    name = quote(str(folder))
    print(f"next: mmneedle show {name} or mmneedle run {name} --model PROVIDER/MODEL --log RUN")


def _check_ingredients(
    task: str, questions: Sequence[Path], options: dict[str, str]
) -> "type[Maker]":
    """A task's maker, where it takes what it is given. Raises UserError."""
    from mmneedle.tasks.text import maker_class

    maker = maker_class(task)
    if questions and not maker.takes_questions:
        raise UserError(f"{task} makes its own questions: leave out --questions")
    for name in options:
        if name not in maker.option_names:
            known = ", ".join(maker.option_names) or "none"
            raise UserError(f"{task} has no option {name!r}; there is {known}")
    return maker


def _variants(maker: "type[Maker]", given: str | None, files: Sequence[Path]) -> tuple[str, ...]:
    """Which variants are asked: those of the files too where the user names none."""
    if given is None:
        of_file: Callable[[Path], tuple[str, ...]] = getattr(maker, "variants_of", lambda _: ())
        more = [name for file in files for name in of_file(file)]
        return tuple(dict.fromkeys((*maker.default_variants, *more)))
    names = tuple(dict.fromkeys(part.strip() for part in given.split(",")))
    for name in names:
        if name and not re.fullmatch(r"[a-z0-9_]+", name):
            raise UserError(f"--variants takes names such as keys8, not {name!r}")
    return names


def _settings(
    task: str, lengths: Sequence[int], depths: str, needles: str, names: Sequence[str]
) -> "list[TextSetting]":
    from mmneedle.tasks.text import maker_class
    from mmneedle.types import TextSetting

    maker = maker_class(task)
    places = arguments.depths(depths) if maker.has_depth else (-1,)
    counts = arguments.whole_numbers(needles, "--needles")
    single: dict[str, int] = getattr(maker, "single", {})
    return [
        TextSetting(f"{task}.{name}" if name else task, length, depth, k)
        for name in names
        for k in counts
        for length in ([single[name]] if name in single else lengths)
        for depth in ([-1] if name in single else places)
    ]


def _corpus(
    task: str, texts: Path | None, captions: Path | None, seed: int, *, asked: bool
) -> tuple[dict[str, Any], str] | None:
    from mmneedle.tasks.text import maker_class
    from mmneedle.texts import corpus

    if not maker_class(task).needs_corpus:
        if texts or captions:
            raise UserError(f"{task} makes its own text: leave out --texts and --captions")
        return None
    if getattr(maker_class(task), "of_photos", False):
        return _photos(task, texts, captions, seed, asked=asked)
    if texts and captions:
        raise UserError("give --texts or --captions, not both")
    if texts is not None:
        text = corpus.read_texts(texts)
        return corpus.identity("texts", text), text
    if captions is not None:
        from mmneedle.stitching.dataset import DataSet

        found = [text for photo in DataSet.open(captions).photos() for text in photo.captions]
        text = corpus.captions_text(found)
        return corpus.identity("captions", text), text
    text = corpus.filler(seed, 20_000)  # 250,000 tokens, then over again
    return corpus.identity("filler", text), text


def _photos(
    task: str, texts: Path | None, captions: Path | None, seed: int, *, asked: bool
) -> tuple[dict[str, Any], str] | None:
    """Captions by photo, for a task whose documents they are; none where a file has documents."""
    from mmneedle.texts import corpus

    if texts is not None:
        raise UserError(f"{task} takes documents, no text: leave out --texts")
    if asked:
        if captions is not None:
            raise UserError("give --questions or --captions, not both")
        return None
    if captions is None:
        from mmneedle.data.shapes import ShapesSource

        text = corpus.caption_documents(ShapesSource(4000, seed).photos())
        return corpus.identity("captions of drawn scenes", text), text
    from mmneedle.stitching.dataset import DataSet

    text = corpus.caption_documents(DataSet.open(captions).photos())
    return corpus.identity("captions by photo", text), text


def check(folder: Path) -> str | None:
    """`show --check` for a data set of texts: each sample is made; None where there is none."""
    from mmneedle.texts.dataset import TextDataSet

    if not TextDataSet.here(folder):
        return None
    dataset = TextDataSet.open(folder)
    count = sum(1 for setting in dataset.settings for _ in dataset.samples(setting))
    return f"{folder}: whole: {len(dataset.settings):,} settings, {count:,} samples"


def refuse_images(folder: Path, task: str, resize: str | None) -> None:
    """See that a data set of texts is not asked for images or their twins. Raises UserError."""
    from mmneedle.texts.dataset import TextDataSet

    for option, given in (("--task", task != "grid"), ("--resize", resize is not None)):
        if given and TextDataSet.here(folder):
            raise UserError(f"{folder}: is a data set of texts; leave out {option}")


def shown(
    folder: Path,
    sample: str | None,
    out: Path | None,
    *,
    as_json: bool,
    reader: "Asked | None" = None,
) -> bool:
    """`show` for a data set of texts; whether the folder holds one."""
    from mmneedle.texts.dataset import TextDataSet

    if not TextDataSet.here(folder):
        return False
    import msgspec

    dataset = TextDataSet.open(folder)
    if sample is None:
        if out is not None:
            raise UserError("--out needs a sample: mmneedle show DIR SAMPLE --out FOLDER")
        if as_json:
            print_json(_entries(dataset))
            return True
        print(f"{folder}: task {dataset.name}, fingerprint {dataset.fingerprint[:16]}")
        for setting in dataset.settings:
            count = dataset.count(setting)
            print(f"  {setting.name}: {count} samples, {setting.name}-000000 to {count - 1:06d}")
        return True
    found, read = dataset.sample(sample), ""
    if reader is not None:
        found, read = _read(dataset, found, reader)
    if as_json:
        print_json(found)
    elif out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "prompt.txt").write_text(found.prompt)
        (out / "sample.json").write_bytes(msgspec.json.encode(found) + b"\n")
        print(out)
    else:
        answers = "; ".join(" | ".join(words) for words in found.expected)
        counted = f"{found.tokens:,} tokens"
        if not dataset.manifest.tokens.get("tokenizer"):
            counted = f"about {counted}, at 4 characters each"
        print(f"{found.prompt}\n\nright answer: {answers}   ({counted}){read}")
    return True


def _entries(dataset: "TextDataSet") -> list[dict[str, Any]]:
    """Every sample's id and setting; depth as a share, None where a needle has no single place."""
    from mmneedle.types import sample_id

    return [
        {
            "id": sample_id(setting, index),
            "setting": setting.name,
            "length": setting.length,
            "depth": None if setting.depth < 0 else setting.depth / 1000,
            "needles": setting.needles,
        }
        for setting in dataset.settings
        for index in range(dataset.count(setting))
    ]


def _read(
    dataset: "TextDataSet", sample: "TextSample", reader: "Asked"
) -> "tuple[TextSample, str]":
    """A sample with what a reader sends of it, and a line on what that is."""
    import msgspec

    from mmneedle.retrieval.opening import open_reader
    from mmneedle.show import reading_text

    request = open_reader(reader, dataset.name, dataset).request(sample)  # type: ignore[arg-type]
    assert request.reading is not None
    kept = msgspec.structs.replace(
        request.sample,
        expected=sample.expected,
        details={"reading": msgspec.to_builtins(request.reading)},
    )
    return kept, "\n" + reading_text(request.reading)  # type: ignore[return-value]


def score(runs: "Sequence[Run]", scorer: str | None, *, as_json: bool) -> None:
    """`score` for runs of text tasks."""
    from mmneedle.texts.scoring import score_text_run, text_rows_json

    cells = [run.folder for run in runs if not run.header.textual]
    if cells:
        raise UserError(f"{cells[0]}: answers with cells; score it apart from runs of text tasks")
    if scorer == "paper":
        raise UserError("text tasks have one scorer: leave out --scorer")
    rows = [row for run in runs for row in score_text_run(run)]
    if as_json:
        print_json(text_rows_json(rows))
    else:
        print(text_table(rows))


def text_table(rows: "Sequence[TextRow]") -> str:
    """Scores by length and depth, a block for each run, task and K; tasks without depths in one."""
    blocks: dict[tuple[str, ...], list[TextRow]] = {}
    for row in rows:
        # Tasks such as most of ruler's have a figure a length: they share a table.
        name = row.task.partition(".")[0] if row.depth is None else row.task
        blocks.setdefault((row.run, name, str(row.needles), str(row.depth is None)), []).append(row)
    parts = []
    for (_, name, *_), block in blocks.items():
        together = len({row.task for row in block}) > 1
        lines = _by_task(block) if together else _by_depth(block)
        task = name if together else block[0].task
        of = "length" if block[0].depth is None else "length and depth"
        several = f", {block[0].needles} needles" if block[0].needles > 1 else ""
        title = f"{block[0].model}: {task}{several} (per cent by {of}; * lacks answers)"
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = "\n".join(
            "  ".join(
                cell.rjust(width) if at or not together else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )
        parts.append("\n".join(filter(None, (title, table, _skipped(block)))))
    return "\n\n".join(parts)


def _by_depth(block: "Sequence[TextRow]") -> list[list[str]]:
    """One task: a line a length, a column a depth and one for all of them together."""
    depths = sorted({-1 if row.depth is None else row.depth for row in block})
    cells = {(row.length, -1 if row.depth is None else row.depth): row for row in block}
    head = ["score" if at < 0 else f"{100 * at:g} %" for at in depths]
    every = ["all"] if len(depths) > 1 else []
    lines = [[_unit(block[0]), *head, *every, "n"]]
    for length in sorted({row.length for row in block}):
        line = [cells[length, depth] for depth in depths if (length, depth) in cells]
        shown = [_cell(cells.get((length, depth))) for depth in depths]
        mean = [_pooled(line)] if every else []
        lines.append([f"{length:,}", *shown, *mean, str(sum(row.n for row in line))])
    return lines


def _by_task(block: "Sequence[TextRow]") -> list[list[str]]:
    """Several tasks without depths: a line each, a column a length; below, what they average."""
    lengths = sorted({row.length for row in block})
    cells = {(row.task, row.length): row for row in block}
    names = list(dict.fromkeys(row.task for row in block))
    lines = [[_unit(block[0]), *(f"{length:,}" for length in lengths), "n"]]
    for name in names:
        shown = [_cell(cells.get((name, length))) for length in lengths]
        n = sum(row.n for row in block if row.task == name)
        lines.append([name.partition(".")[2], *shown, str(n)])
    if block[0].task.startswith("ruler."):
        columns = [[row for row in block if row.length == length] for length in lengths]
        means = [_mean(rows) if len(rows) == len(names) else "-" for rows in columns]
        lines.append([f"mean of {len(names)}", *means, str(sum(row.n for row in block))])
    return lines


def _unit(row: "TextRow") -> str:
    from mmneedle.tasks.text import maker_class

    counted = maker_class(row.task.partition(".")[0]).lengths
    return "length" if counted == "tokens" else counted


def _mean(rows: "Sequence[TextRow]") -> str:
    """The mean of settings, each with the same weight; "-" where one has no answer at all."""
    scores = [row.score for row in rows if row.score is not None]
    if len(scores) < len(rows):
        return "-"
    lacks = any(row.answered < row.n for row in rows)
    return f"{100 * sum(scores) / len(scores):.0f}{'*' if lacks else ''}"


def _pooled(rows: "Sequence[TextRow]") -> str:
    """The mean of all answers, whatever their depth, as effective lengths have it."""
    answered = sum(row.answered for row in rows)
    if not answered:
        return "-"
    total = sum((row.score or 0.0) * row.answered for row in rows)
    lacks = answered < sum(row.n for row in rows)
    return f"{100 * total / answered:.0f}{'*' if lacks else ''}"


def _skipped(rows: "Sequence[TextRow]") -> str:
    """One line on lengths that the model's window does not hold; "" where it holds all."""
    asked: dict[int, list[int]] = {}
    for row in rows:
        asked.setdefault(row.length, []).append(row.statuses.get("too_long", 0) - row.n)
    whole = [f"{length:,}" for length, lacks in sorted(asked.items()) if not any(lacks)]
    part = sum(row.statuses.get("too_long", 0) for row in rows if f"{row.length:,}" not in whole)
    told = []
    if whole:
        told.append(f"lengths past the model's window: skipped ({', '.join(whole)})")
    if part:
        told.append(f"{part} samples of other lengths are past the model's window: skipped")
    return "; ".join(told)


def _cell(row: "TextRow | None") -> str:
    if row is None or row.score is None:
        return "-"
    return f"{100 * row.score:.0f}{'' if row.answered == row.n else '*'}"


def effective(
    runs: Annotated[list[Path], typer.Argument(help="Runs of text tasks.", metavar="RUN...")],
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Per cent that a score must reach (85.6); with --base, per cent of that (85).",
            min=0,
            max=100,
        ),
    ] = None,
    base: Annotated[
        float | None, typer.Option(help="The model's score at short lengths.", min=0, max=100)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say up to which length each model holds a score (docs/text-tasks.md)."""
    import msgspec

    from mmneedle.reports.textual.series import subjects
    from mmneedle.runlog import open_runs
    from mmneedle.texts.effective import effective_json, effective_lengths, table

    opened = open_runs(runs, textual=True)
    share = None if threshold is None else arguments.share(threshold)
    of = None if base is None else arguments.share(base)
    found = [
        msgspec.structs.replace(one, model=name)
        for name, group in subjects(opened)
        for one in effective_lengths([opened[number] for number in group], share, of)
    ]
    if as_json:
        print_json(effective_json(found))
    else:
        print("\n\n".join(map(table, found)))


def add(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    app.command()(effective)
    app.command(name="build-text")(build_text)
