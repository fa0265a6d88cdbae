"""A data set's samples as a person or another program reads them."""

from pathlib import Path
from typing import Any, TextIO

import msgspec

from mmneedle.errors import UserError
from mmneedle.files import refuse_strangers
from mmneedle.retrieval.asked import Asked
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks import open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.types import DataTask, Location, Reading, Sample


def list_samples(dataset: DataSet, out: TextIO) -> None:
    """Write a JSON list with a line for each sample: its id and setting.

    Streamed, so that memory does not grow with the number of samples.
    """
    lines = (
        msgspec.json.encode(_entry(sample)).decode()
        for setting in dataset.settings
        for sample in dataset.samples(setting)
    )
    out.write("[")
    for separator, line in zip(_separators(), lines, strict=False):
        out.write(separator + line)
    out.write("\n]\n")


def check(dataset: DataSet) -> str:
    """Read all of a data set; one line on what is there.

    Raises:
        UserError: tiles that are not as they were written, samples that cannot be read, a photo
            of a haystack that has no tile.
    """
    dataset.store.check()
    tiles = set(dataset.store.ids.tolist())
    for setting in dataset.settings:
        count = 0
        for sample in dataset.samples(setting):
            count += 1
            if missing := set(sample.haystack) - tiles:
                raise UserError(
                    f"{dataset.folder}: {sample.id} shows photo {min(missing)}, which has no tile; "
                    "build the data set again"
                )
        if count != dataset.count(setting):
            raise UserError(
                f"{dataset.folder}: holds {count} samples of {setting.name}, not "
                f"{dataset.count(setting)}; build the data set again"
            )
    return f"{dataset.folder}: whole: {len(tiles):,} tiles, {len(dataset):,} samples"


def sample_json(sample: Sample) -> dict[str, Any]:
    """A sample with its truth: what sample.json holds.

    `haystack` lists photo ids image by image, row by row; image, row and column of a needle are
    one-based, null where its photo is not in the haystack.
    """
    return {
        **_entry(sample),
        "haystack_number": sample.haystack_number,
        "haystack": list(sample.haystack),
        "needles": [
            {
                "caption": needle.caption,
                "photo": needle.photo,
                **_place(needle.location),
            }
            for needle in sample.needles
        ],
        "ambiguity": sample.ambiguity,
        "hard": sample.hard,
    }


def sample_text(
    dataset: DataSet,
    name: str,
    *,
    as_json: bool = False,
    task: str = GridTask.name,
    reader: Asked | None = None,
) -> str:
    """One sample for the terminal: the prompt and the truth, or all of it as JSON."""
    sample = dataset.sample(name)
    if as_json:
        return msgspec.json.format(msgspec.json.encode(sample_json(sample)), indent=2).decode()
    request = _open(task, dataset, None, reader).request(sample, with_images=False)
    truth = "; ".join("-1" if at is None else str(at) for at in sample.truth)
    lines = [request.prompt, "", f"right answer: {truth}"]
    if request.reading is not None:
        lines.append(reading_text(request.reading))
        if request.reading.grid is not None:  # answers are about the small haystack
            small = "; ".join("-1" if at is None else str(at) for at in request.sample.truth)
            lines[-2] = f"right answer to what is sent: {small} (in the haystack: {truth})"
    return "\n".join(lines)


def reading_text(reading: Reading) -> str:
    """What a retriever chose, in a line."""
    units = ", ".join(str(unit + 1) for unit in reading.units)
    there = [
        "read" if found else "not read"
        for found, holds in zip(reading.found, reading.holds, strict=True)
        if holds
    ]
    needles = f"; what is asked for: {', '.join(there)}" if there else ""
    return f"read: units {units} of {reading.of} ({100 * reading.share:.3g} %){needles}"


def write_sample(
    dataset: DataSet,
    name: str,
    out: Path,
    resize: tuple[int, int] | None = None,
    task: str = GridTask.name,
    reader: Asked | None = None,
) -> None:
    """Write image_1.jpg …, prompt.txt exactly as `task` would send them, and sample.json.

    With `resize`, cells have this width and height in pixels.

    Raises:
        UserError: no such sample, or `out` holds other files.
    """
    sample = dataset.sample(name)
    request = _open(task, dataset, resize, reader).request(sample)
    files = {f"image_{i}.jpg": image for i, image in enumerate(request.images, 1)}
    files["prompt.txt"] = request.prompt.encode()
    files["sample.json"] = sample_text(dataset, name, as_json=True).encode() + b"\n"
    # An image left over from a sample with more of them would pass for this one's.
    refuse_strangers(out, files.__contains__)
    out.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (out / file).write_bytes(content)


def _open(
    task: str, dataset: DataSet, resize: tuple[int, int] | None, reader: Asked | None
) -> DataTask:
    if reader is None:
        return open_task(task, dataset, resize)
    from mmneedle.retrieval.opening import open_reader

    return open_reader(reader, task, dataset, resize)


def _entry(sample: Sample) -> dict[str, Any]:
    setting = sample.setting
    return {
        "id": sample.id,
        "setting": setting.name,
        "images": setting.images,
        "rows": setting.rows,
        "cols": setting.cols,
        "positive": sample.positive,
    }


def _place(location: Location | None) -> dict[str, int | None]:
    return dict(zip(("image", "row", "column"), location or (None,) * 3, strict=True))


def _separators() -> Any:
    yield "\n"
    while True:
        yield ",\n"
