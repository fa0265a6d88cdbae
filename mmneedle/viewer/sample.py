"""One sample with all that belongs to it, for its own page."""

from collections.abc import Sequence
from typing import Any

import msgspec

from mmneedle.errors import UserError
from mmneedle.outcomes import places
from mmneedle.reports.panels import KINDS as NAMES
from mmneedle.reports.panels import named, shaped
from mmneedle.retrieval.grids import ReadGrid
from mmneedle.retrieval.twins import ReadTwin
from mmneedle.runlog import Record, request_digest
from mmneedle.scoring import SCORERS, score
from mmneedle.stitching.samples import locate
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import TwinTask
from mmneedle.types import Location, Needle, Request, Sample, Setting, sample_id
from mmneedle.viewer import marks as marking
from mmneedle.viewer.library import Item, NotFoundError, Volume
from mmneedle.viewer.pictures import inside, seen_size
from mmneedle.viewer.query import Query
from mmneedle.viewer.rows import (
    known_truth,
    place_text,
    readings,
    sample_facts,
    split_name,
    verdict_name,
)
from mmneedle.viewer.selection import book_of, verdicts

SHOWN = 20_000
"""Characters of an answer on its own page."""
LETTERS = "ABCDEF"
"""Runs side by side go by letters."""
_PAIRS = 5
_CELLS = 100
"""Cells that are listed of what a retriever chose."""


def whole(query: Query, items: Sequence[Item], setting: Setting, number: int) -> dict[str, Any]:
    """All there is about a sample, for the template. Its runs are held.

    Raises NotFoundError where an item does not have it.
    """
    for item in items:
        asked = (
            item.asks(setting, number) if isinstance(item, Volume) else item.has(setting, number)
        )
        if not asked:
            raise NotFoundError(f"there is no sample {sample_id(setting, number)} here")
    volumes = [item for item in items if isinstance(item, Volume)]
    answers = [
        _full_answer(volume, setting, number, letter)
        for volume, letter in zip(volumes, LETTERS, strict=False)
    ]
    truth = known_truth(items, setting, number)
    sample, trouble = _sample(items[0], setting, number)
    facts = sample_facts(items[0], setting, number)
    shown = marking.marks(
        truth or (None,) * setting.needles,
        [
            (answer["letter"] if len(volumes) > 1 else "given", _within(setting, answer["said"]))
            for answer in answers
        ],
    )
    for answer, volume in zip(answers, volumes, strict=True):
        answer["proof"] = _proof(volume, sample, answer["record"])
        answer["read"] = _read(setting, answer["record"])
    return {
        "id": sample_id(setting, number),
        "label": named(setting),
        "shape": shaped(setting),
        "split": "hard negative" if facts["hard"] else split_name(number),
        "ambiguity": facts["ambiguity"],
        "captions": facts["captions"],
        "needles": _needles(items[0], sample, truth),
        "truth": None if truth is None else [place_text(location) for location in truth],
        "answers": answers,
        "prompts": _prompts(items, sample, [answer["record"] for answer in answers]),
        "trouble": trouble,
        "images": _images(query, items[0], sample, shown) if sample else [],
        "seen": _seen(items[0], setting),
        "pairs": _pairs(items, sample, truth, answers),
        "siblings": _siblings(items[0], sample, number),
        "looks": {_looks(volume) for volume in volumes},
    }


def _within(setting: Setting, said: Sequence[Location | None]) -> list[Location | None]:
    return [one if one is not None and inside(setting, one) else None for one in said]


def _sample(item: Item, setting: Setting, number: int) -> tuple[Sample | None, str | None]:
    """The sample with its haystack, or why it cannot be shown."""
    book = book_of(item)
    if book is None:
        return None, item.missing if isinstance(item, Volume) else None
    try:
        sample = book.sample(setting, number)
        len(book.dataset.store)
    except (UserError, OSError) as error:
        return None, f"The data set cannot give this sample: {error}"
    return sample, None


def _full_answer(item: Volume, setting: Setting, number: int, letter: str) -> dict[str, Any]:
    table = item.following.tables[setting]
    row = table.row(number)
    assert row is not None
    record = table.record(item.run, row)
    attempts = item.following.attempts(setting, row)
    tried = bool(table.status[row])
    response = record.response if record else None
    shown = []
    for scorer in SCORERS:
        verdict = (
            score(setting, record.truth, record.response, scorer, record.reading or None)
            if record
            else None
        )
        name = verdict_name(int(verdicts(table, scorer)[row]), tried)
        shown.append(
            {
                "scorer": scorer,
                "kind": name,
                "texts": []
                if verdict is None
                else [
                    f"{text} ({NAMES[kind or 'right']})"
                    for text, kind in zip(
                        readings(
                            [answer.location for answer in verdict.answers],
                            table.marks[scorer].kind[row].tolist(),
                        ),
                        verdict.kinds,
                        strict=True,
                    )
                ],
                "scores": {}
                if verdict is None
                else {
                    metric: getattr(verdict, metric)
                    for metric in ("exact", "index", "existence")
                    if getattr(verdict, metric) is not None
                },
            }
        )
    return {
        "key": item.key,
        "letter": letter,
        "model": item.run.header.called,
        "name": item.name,
        "kind": shown[0]["kind"],
        "status": response.status if response else None,
        "readings": shown,
        "said": list(places(table.marks["robust"].said[row])),
        "kinds": table.marks["robust"].kind[row].tolist(),
        "text": response.text[:SHOWN] if response and response.text else None,
        "text_length": len(response.text or "") if response else 0,
        "reasoning": response.reasoning[:SHOWN] if response and response.reasoning else None,
        "reasoning_length": len(response.reasoning or "") if response else 0,
        "absent_logprob": response.absent_logprob if response else None,
        "attempts": [_attempt(one) for one in attempts],
        "streamed": any(one.response.first_token is not None for one in attempts),
        "failed": any(one.response.error for one in attempts),
        "record": record,
    }


def _attempt(record: Record) -> dict[str, Any]:
    response = record.response
    return {
        "number": record.attempt,
        "at": record.at,
        "status": response.status,
        "latency": response.latency,
        "first_token": response.first_token,
        "usage": response.usage,
        "stop": response.stop_reason,
        "model": response.model,
        "batch": response.batch,
        "error": response.error and response.error[:2000],
        "retry_after": response.retry_after,
    }


def _looks(volume: Volume) -> str:
    """What a model is given of a haystack: images, text, or nothing."""
    if volume.run.header.task != GridTask.name:
        return "text"
    if volume.run.header.cell is None:
        return "nothing"
    return "images" if volume.run.header.reader is None else "cells"


def _read(setting: Setting, record: Record | None) -> str | None:
    """Which cells a retriever chose, in words; None where the model was given all of them."""
    reading = record.reading or None if record else None
    if reading is None:
        return None
    shown = [f"({locate(setting, unit)})" for unit in reading.units[:_CELLS]]
    cells = ", ".join([*shown, *(["…"] if len(reading.units) > _CELLS else [])])
    form = "" if reading.grid is None else " as one image of {} × {} cells".format(*reading.grid)
    there = [found for found, holds in zip(reading.found, reading.holds, strict=True) if holds]
    needle = f"; {sum(there)} of {len(there)} needles among them" if there else ""
    return f"{len(reading.units)} of {reading.of} cells{form}: {cells}{needle}"


def _task(item: Item) -> GridTask | TwinTask | None:
    """What makes the requests of a run, or of a data set; None where that is not to be had.

    Cells keep their size: whether they are shrunk changes no prompt.
    """
    book = book_of(item)
    if book is None:
        return None
    if not isinstance(item, Volume):
        return book.task(GridTask.name)
    try:
        return book.task(item.run.header.task, item.run.header.reader)
    except UserError:
        return None


def _request(
    item: Item, sample: Sample | None, record: Record | None, *, images: bool
) -> Request | None:
    """A sample's request; None where it cannot be had, or a retriever has not chosen yet."""
    task = _task(item)
    if task is None or sample is None:
        return None
    if task.reader is None:
        return task.request(sample, with_images=images)
    if record is None or not record.reading:
        return None
    assert isinstance(task, ReadGrid | ReadTwin)
    return task.reread(sample, record.reading.units, with_images=images)


def _prompts(
    items: Sequence[Item], sample: Sample | None, records: Sequence[Record | None]
) -> list[dict[str, Any]]:
    """Each prompt as it is sent, with the letters of the runs that it was sent to."""
    found: dict[str, list[str]] = {}
    known = records or (None,) * len(items)  # a data set has none
    for item, letter, record in zip(items, LETTERS, known, strict=False):
        request = _request(item, sample, record, images=False)
        if request is not None:
            found.setdefault(request.prompt, []).append(letter)
    return [{"letters": letters, "text": text} for text, letters in found.items()]


def _proof(item: Volume, sample: Sample | None, record: Record | None) -> str | None:
    """Whether what is shown here is, byte for byte, what was sent."""
    if record is None or record.request_sha256 is None:
        return None
    if item.run.header.resize is not None:
        return f"{record.request_sha256} was sent; not compared here, as cells were resized"
    request = _request(item, sample, record, images=True)
    if request is None:
        return None
    digest = request_digest(request)
    if digest == record.request_sha256:
        return f"{digest}: what is shown here is what was sent, byte for byte"
    return f"{record.request_sha256} was sent, but the data set gives {digest} now"


def _needles(
    item: Item, sample: Sample | None, truth: Sequence[Location | None] | None
) -> list[dict[str, Any]]:
    """Each needle with all captions of its photo."""
    book = book_of(item)
    if book is None or sample is None:
        return []
    return [
        {"caption": needle.caption, "photo": needle.photo, "others": _others(item, needle)}
        for needle in sample.needles
    ]


def _others(item: Item, needle: Needle) -> list[str]:
    """The other captions of a needle's photo."""
    return [text for text in _captions(item, needle.photo) if text != needle.caption]


def _captions(item: Item, photo: int) -> tuple[str, ...]:
    book = book_of(item)
    try:
        found = book.photo(photo) if book else None
    except UserError:
        return ()
    return found.captions if found else ()


def _images(
    query: Query, item: Item, sample: Sample, shown: Sequence[marking.Mark]
) -> list[dict[str, Any]]:
    book = book_of(item)
    assert book is not None
    setting, tiles = sample.setting, book.dataset.manifest.tiles
    cell = tiles.width, tiles.height
    resize = item.run.header.resize if isinstance(item, Volume) else None
    sent = resize or cell
    marked = {mark.location.image for mark in shown}
    size = sent[0] * setting.cols, sent[1] * setting.rows
    seen = seen_size(item, setting) if query.model else None
    found = []
    for image in range(1, setting.images + 1):
        large = image in marked or setting.images == 1
        name = f"{item.key}/{sample.id}/{image}"
        file = f"/seen/{name}" if query.model else f"/image/{name}"
        words = "; ".join(
            f"{mark.text}: row {mark.location.row}, column {mark.location.column}"
            for mark in shown
            if mark.location.image == image
        )
        found.append(
            {
                "number": image,
                "large": large,
                "src": file if large or query.model or resize else f"/small/{name}",
                "full": file,
                "width": (seen or size)[0],
                "height": (seen or size)[1],
                "marks": marking.overlay(setting, cell, image, shown),
                "words": words,
                "alt": f"Image {image} of {setting.images}. {words or 'No cell is marked'}.",
            }
        )
    return found


def _seen(item: Item, setting: Setting) -> dict[str, Any] | None:
    """How large a cell is as sent and as the model gets it, in words; None: nothing was sent."""
    if not isinstance(item, Volume):
        return None
    header = item.run.header
    if header.cell is None:
        return None
    sent = f"{header.cell[0]} × {header.cell[1]}"
    cell = header.effective_cell.get(setting.name)
    if setting.name not in header.effective_cell or cell is None:
        text = f"Cells are sent at {sent} px; what the provider makes of them is not documented."
        return {"text": text, "smaller": False}
    if cell == header.cell:
        return {"text": f"Cells are sent at {sent} px and reach the model so.", "smaller": False}
    text = f"Cells are sent at {sent} px and reach the model at {cell[0]} × {cell[1]} px."
    return {"text": text, "smaller": True}


def _pairs(
    items: Sequence[Item],
    sample: Sample | None,
    truth: Sequence[Location | None] | None,
    answers: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The photo asked for beside those that were pointed at instead, with their captions."""
    if sample is None or truth is None:
        return []
    found = []
    for needle, true in enumerate(truth):
        shown = [] if true is None else [_photo(items[0], sample, true, "asked for", "true")]
        for answer in answers:
            said = answer["said"][needle]
            if said is None or said == true or not inside(sample.setting, said):
                continue
            who = f"given by {answer['letter']}" if len(answers) > 1 else "given"
            shown.append(_photo(items[0], sample, said, who, "given"))
        if len(shown) > (true is not None):
            caption = sample.needles[needle].caption
            found.append({"needle": needle + 1, "caption": caption, "photos": shown})
    return found[:_PAIRS]


def _photo(item: Item, sample: Sample, location: Location, who: str, kind: str) -> dict[str, Any]:
    setting = sample.setting
    grid = setting.rows * setting.cols
    within = (location.row - 1) * setting.cols + location.column - 1
    photo = sample.haystack[(location.image - 1) * grid + within]
    book = book_of(item)
    assert book is not None
    tiles = book.dataset.manifest.tiles
    return {
        "src": f"/cell/{item.key}/{sample.id}/{'/'.join(map(str, location))}",
        "width": tiles.width,
        "height": tiles.height,
        "who": who,
        "kind": kind,
        "place": place_text(location),
        "photo": photo,
        "captions": _captions(item, photo),
    }


def _siblings(item: Item, sample: Sample | None, number: int) -> list[str]:
    """The other questions on the same haystack."""
    book = book_of(item)
    if sample is None or book is None or sample.haystack_number is None:
        return []
    questions, setting = book.dataset.questions, sample.setting
    first = sample.haystack_number * questions
    return [
        sample_id(setting, other)
        for other in range(first, first + questions)
        if other != number
        and (item.asks(setting, other) if isinstance(item, Volume) else book.has(setting, other))
    ]


def plain(value: Any) -> str:
    """A structure as indented JSON, for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
