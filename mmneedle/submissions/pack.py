"""From a run's folder to a submission: what `mmneedle submit pack` does."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.reports.words import many, percent, short
from mmneedle.runlog import Record, Run
from mmneedle.scoring import SCORERS, Row, score_run, to_json
from mmneedle.stitching.dataset import DataSet
from mmneedle.submissions.archive import MEMBERS, About, By, digest_file, write_archive
from mmneedle.submissions.scrub import public, public_header, public_manifest, public_model
from mmneedle.types import Response, parse_sample_id

BATCH = "batch"
"""Stands for the provider's id of a batch, which says nothing to others; the price is known by
it."""


class Packed(NamedTuple):
    """A submission that was written."""

    path: Path
    sha256: str
    """Of the file: to be told beside a result."""
    about: About


def pack(
    run: Run,
    out: Path,
    *,
    data: Path | None = None,
    by: By | None = None,
    partial: bool = False,
) -> Packed:
    """Write a run as one file that others can check. The same run gives the same bytes.

    Args:
        run: the run; all its shards.
        out: the file to write.
        data: the data set's folder, where it is not where the run saw it.
        by: who submits.
        partial: take a run that lacks answers.

    Raises:
        UserError: the run is not finished; its data set is not to be had, or is another one now;
            `out` cannot be written.
    """
    by = by or By()
    by.check()
    dataset = _dataset(run, data)
    rows = score_run(run, SCORERS)
    asked, answered = _counts(rows)
    if not answered:
        raise UserError(f"{run.folder}: no sample has an answer yet; nothing to submit")
    if answered < asked and not partial:
        raise UserError(
            f"{run.folder}: {answered:,} of {asked:,} samples have an answer "
            f"({percent(answered / asked)} %); run the same command again, or submit what is "
            "there with --partial"
        )
    header = public_header(run.header)
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        _write(folder / "run.json", header)
        _write(folder / "dataset.json", public_manifest(dataset.manifest))
        _write(folder / "attempts.json", attempts(run))
        _write(folder / "scores.json", public_scores(rows, header.model))
        with (folder / "answers.jsonl").open("wb") as file:
            file.writelines(msgspec.json.encode(one) + b"\n" for one in public_answers(run))
        members = {name: digest_file(folder / name) for name in MEMBERS}
        _check_sizes(run, members)
        about = About(
            mmneedle=__version__,
            model=header.model,
            dataset=header.dataset_fingerprint,
            asked=asked,
            answered=answered,
            partial=answered < asked,
            by=by,
            members=members,
        )
        write_archive(out, about, {name: folder / name for name in MEMBERS})
    return Packed(out, digest_file(out).sha256, about)


def _check_sizes(run: Run, members: dict[str, Any]) -> None:
    for name, most in MEMBERS.items():
        if members[name].bytes > most:
            raise UserError(
                f"{run.folder}: its {name} would have {members[name].bytes:,} bytes; a submission "
                f"holds {most:,}"
            )


def _dataset(run: Run, data: Path | None) -> DataSet:
    """The run's data set, whose recipe is a part of what is checked."""
    place = data or Path(run.header.dataset_path)
    try:
        dataset = DataSet.open(place)
    except (UserError, OSError):
        if data is not None:
            raise
        raise UserError(
            f"{run.folder}: there is no data set at {place} now, and its recipe is needed; name "
            "its folder with --data"
        ) from None
    if dataset.fingerprint != run.header.dataset_fingerprint:
        raise UserError(
            f"{place}: its data set (fingerprint {short(dataset.fingerprint)}) is not the one "
            f"that the run was asked ({short(run.header.dataset_fingerprint)}); name another "
            "with --data"
        )
    return dataset


def _counts(rows: list[Row]) -> tuple[int, int]:
    """Samples asked, and those answered."""
    counted = [row for row in rows if row.scorer == SCORERS[0]]
    return sum(row.n for row in counted), sum(row.answered for row in counted)


def public_scores(rows: list[Row], model: str) -> list[dict[str, Any]]:
    """The run's rows as `score --json` prints them, without what names the machine."""
    return to_json([msgspec.structs.replace(row, run="", model=model) for row in rows])


def public_answers(run: Run) -> Iterator[Record]:
    """One record a sample that was tried, its answer untouched and nothing else of the reply."""
    for record in _in_order(run):
        yield msgspec.structs.replace(record, response=_response(record.response))


def _in_order(run: Run) -> Iterator[Record]:
    """A run's outcomes by setting, as its plan has them, and index; of several shards too."""
    if len(run.folders) == 1:
        yield from run.outcomes()
        return
    order = {name: place for place, name in enumerate(run.header.plan)}
    places = []
    for part, place, record in run.located():
        setting, index = parse_sample_id(record.sample)
        places.append((order[setting.name], index, part, place))
    for _, _, part, place in sorted(places):
        yield run.read(part, place)


def _response(response: Response) -> Response:
    """What scores a sample and tells its cost; errors name hosts, reasoning is never scored."""
    return msgspec.structs.replace(
        response,
        model=public(public_model(response.model)) if response.model else response.model,
        reasoning=None,
        error=None,
        retry_after=None,
        batch=BATCH if response.batch else None,
    )


def attempts(run: Run) -> dict[str, dict[str, int]]:
    """How all attempts at a setting's samples ended, those that were made good by later ones too.

    Setting -> status -> attempts.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in run.header.plan}
    for record in run.records():
        counts[parse_sample_id(record.sample)[0].name][record.response.status] += 1
    return {name: dict(sorted(found.items())) for name, found in sorted(counts.items())}


def _write(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def size_text(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3)):,} kB"


def summary(packed: Packed) -> str:
    """What was written, for the terminal."""
    about = packed.about
    share = "" if not about.partial else f" of {about.asked:,} ({about.answered / about.asked:.1%})"
    return (
        f"{packed.path}: {many(about.answered, 'answer')}{share} of {about.model}, "
        f"{size_text(packed.path.stat().st_size)}\nSHA-256 {packed.sha256}"
    )
