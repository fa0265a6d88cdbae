"""A small data set and task of made-up samples, with the interfaces of the real ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmneedle.runlog import Plan, RunHeader, RunLog
from mmneedle.types import Adapter, Location, Needle, Request, Response, Sample, Setting, sample_id

SMALL = Setting(1, 2, 2, 1)
LARGE = Setting(3, 2, 4, 2)


class FakeDataSet:
    fingerprint = "f" * 64

    def __init__(self, questions: int = 1, **counts: int) -> None:
        """Samples per setting: FakeDataSet(small=10, large=4), and questions a haystack."""
        self.questions = questions
        names = {"small": SMALL, "large": LARGE}
        self.counts = {names[name]: count for name, count in counts.items()}
        self.settings = tuple(self.counts)

    def count(self, setting: Setting) -> int:
        return self.counts[setting]

    def samples(
        self, setting: Setting, start: int = 0, stop: int | None = None
    ) -> Iterator[Sample]:
        for index in range(start, self.count(setting) if stop is None else stop):
            yield fake_sample(setting, index, self.questions)


def fake_sample(setting: Setting, index: int, questions: int = 1) -> Sample:
    def needle(k: int) -> Needle:
        cell = (index // 2 + k) % (setting.rows * setting.cols)
        row, column = divmod(cell, setting.cols)
        place = Location((index + k) % setting.images + 1, row + 1, column + 1)
        return Needle(f"caption {index} {k}", 1000 + k, place if index % 2 == 0 else None)

    return Sample(
        sample_id(setting, index),
        setting,
        tuple(range(setting.cells)),
        tuple(needle(k) for k in range(setting.needles)),
        haystack_number=index // questions if questions > 1 else None,
    )


class FakeTask:
    """The prompt is the sample's id; images are a few bytes that name it too."""

    name = "fake"

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        pictures = range(sample.setting.images) if with_images else ()
        return Request(sample, sample.id, tuple(f"{sample.id} {i}".encode() for i in pictures))


class FakeAdapter:
    """Answers by a function: attempt number of the sample -> Response, or raises."""

    model = "fake/model"
    wants_images = True

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or (lambda request, attempt: Response("ok", "-1"))
        self.asked: dict[str, int] = {}
        self.at_once = self.most_at_once = 0
        self.closed = False

    async def generate(self, request: Request) -> Response:
        name = request.sample.id
        self.asked[name] = self.asked.get(name, 0) + 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            result = self.answer(request, self.asked[name])
            response: Response = result if isinstance(result, Response) else await result
            return response
        finally:
            self.at_once -= 1

    def fingerprint(self) -> dict[str, Any]:
        return {"adapter": "fake"}

    async def aclose(self) -> None:
        self.closed = True


def header(
    dataset: FakeDataSet, adapter: Adapter, /, plan: Plan | None = None, **changes: Any
) -> RunHeader:
    """A run's header over all of a data set, or over a plan."""
    everything = {setting.name: (0, dataset.count(setting)) for setting in dataset.settings}
    fields: dict[str, Any] = {
        "model": adapter.model,
        "task": FakeTask.name,
        "dataset_path": "data",
        "dataset_fingerprint": dataset.fingerprint,
        "adapter": adapter.fingerprint(),
        "plan": everything if plan is None else plan,
        "questions": dataset.questions,
    }
    return RunHeader(**(fields | changes))


def open_log(folder: Path, dataset: FakeDataSet, adapter: Adapter, /, **changes: Any) -> RunLog:
    return RunLog.open(folder, header(dataset, adapter, **changes))
