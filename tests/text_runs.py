"""Runs of text tasks for tests of their page, written as a run would write them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.runlog import Record, Run, RunHeader
from mmneedle.types import Response, TextSetting, Usage, sample_id

Answer = Callable[[TextSetting, int], Response | None]
"""(setting, index) -> what the model answers; None: never asked."""
EXPECTED = "4821937"


def write_text_run(
    folder: Path,
    answer: Answer,
    settings: Mapping[TextSetting, int],
    *,
    model: str = "test/model",
    fingerprint: str = "c" * 64,
    dataset_path: str = "no-data",
    adapter: Mapping[str, Any] | None = None,
) -> Run:
    """A run whose every answer comes from `answer`; each needle expects EXPECTED."""
    task = next(iter(settings)).task.partition(".")[0]
    header = RunHeader(
        model=model,
        task=task,
        dataset_path=dataset_path,
        dataset_fingerprint=fingerprint,
        adapter={"adapter": model.partition("/")[0], "model": model, **(adapter or {})},
        plan={setting.name: (0, count) for setting, count in settings.items()},
        created="2026-11-22T12:00:00.000Z",
    )
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(header))
    with (folder / "responses.jsonl").open("wb") as file:
        for setting, count in settings.items():
            for index in range(count):
                response = answer(setting, index)
                if response is not None:
                    record = Record(
                        sample=sample_id(setting, index),
                        truth=(),
                        expected=((EXPECTED,),) * setting.needles,
                        attempt=1,
                        at="2026-11-22T12:00:01.000Z",
                        request_sha256="0" * 64,
                        response=response,
                    )
                    file.write(msgspec.json.encode(record) + b"\n")
    return Run.open(folder)


def grid(
    task: str, lengths: tuple[int, ...], depths: tuple[int, ...], count: int, needles: int = 1
) -> dict[TextSetting, int]:
    """Settings of all lengths and depths, with as many samples each."""
    return {TextSetting(task, n, d, needles): count for n in lengths for d in depths}


def says(right: bool, setting: TextSetting, words: str = "I do not know.") -> Response:
    """The number, or something else; the tokens are the length."""
    text = f"It is {EXPECTED}." if right else words
    return Response(status="ok", text=text, usage=Usage(input_tokens=setting.length + 7))
