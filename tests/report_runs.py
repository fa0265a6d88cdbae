"""Run folders for tests of reports, written as a run would write them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mmneedle.runlog import Record, Run, RunHeader
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Location, Response, Setting, sample_id

Truth = tuple[Location | None, ...]
Answer = Callable[[Setting, int, Truth], Response | None]
"""(setting, index, truth) -> what the model answers; None: never asked."""

ONE = Setting(1, 2, 2)
TEN = Setting(10, 2, 2)


def write_run(
    folder: Path,
    answer: Answer,
    settings: Mapping[Setting, int],
    *,
    model: str = "baseline/test",
    dataset: DataSet | None = None,
    fingerprint: str = "a" * 64,
    start: int = 0,
    task: str = "grid",
    questions: int = 1,
) -> Run:
    """A run whose every answer comes from `answer`; with a data set its truth, else a made one."""
    header = RunHeader(
        model=model,
        task=task,
        dataset_path=str(dataset.folder if dataset else folder / "no-data"),
        dataset_fingerprint=dataset.fingerprint if dataset else fingerprint,
        adapter={"adapter": model.partition("/")[0], "model": model},
        plan={setting.name: (start, start + count) for setting, count in settings.items()},
        questions=questions,
        created="2026-11-22T12:00:00.000Z",
    )
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(header))
    with (folder / "responses.jsonl").open("wb") as file:
        for setting, count in settings.items():
            for index in range(start, start + count):
                name = sample_id(setting, index)
                sample = dataset.sample(name) if dataset else None
                truth = sample.truth if sample else made_up(setting, index)
                response = answer(setting, index, truth)
                if response is not None:
                    record = Record(
                        sample=name,
                        truth=truth,
                        ambiguity=sample.ambiguity if sample else None,
                        hard=bool(sample and sample.hard),
                        attempt=1,
                        at="2026-11-22T12:00:01.000Z",
                        request_sha256=None,
                        response=response,
                    )
                    file.write(msgspec.json.encode(record) + b"\n")
    return Run.open(folder)


def made_up(setting: Setting, index: int) -> Truth:
    """A truth that visits every cell in turn; odd samples are negatives."""
    if index % 2:
        return (None,) * setting.needles
    cells = [(index // 2 + k) % setting.cells for k in range(setting.needles)]
    return tuple(cell_at(setting, cell) for cell in cells)


def cell_at(setting: Setting, cell: int) -> Location:
    """Cell number `cell` of a haystack, image by image, row by row."""
    image, rest = divmod(cell, setting.rows * setting.cols)
    row, column = divmod(rest, setting.cols)
    return Location(image + 1, row + 1, column + 1)


def text(truth: Truth) -> str:
    """The answer that is right."""
    return "; ".join("-1" if place is None else str(place) for place in truth)


def ok(words: str) -> Response:
    """A complete answer."""
    return Response(status="ok", text=words)


def always_right(setting: Setting, index: int, truth: Truth) -> Response:
    """An oracle."""
    return ok(text(truth))


def only_image_one(setting: Setting, index: int, truth: Truth) -> Response:
    """Right when the needle is in the first image; else it says that there is none."""
    place = truth[0]
    return ok(text(truth) if place is not None and place.image == 1 else "-1")


def always_first(setting: Setting, index: int, truth: Truth) -> Response:
    """Names the first cell whatever is asked."""
    return ok("; ".join(["1, 1, 1"] * setting.needles))
