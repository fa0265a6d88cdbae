"""Runs of one model as images and as text twins, with a known split, for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report_runs import TEN, Truth, cell_at, text, write_run

from mmneedle.runlog import Run
from mmneedle.types import Response, Setting, Usage

TASKS = {"image": "grid", "literal": "twin-literal", "paraphrase": "twin-paraphrase"}
TOKENS = {"image": 1000, "literal": 300, "paraphrase": 330}

Pattern = tuple[int, str]
"""So many samples are right in the forms whose first letters are named: (40, "lp")."""


def write_forms(
    folder: Path,
    positives: Sequence[Pattern],
    negatives: Sequence[Pattern] = (),
    *,
    forms: Sequence[str] = tuple(TASKS),
    setting: Setting = TEN,
    tokens: bool = True,
    **more: Any,
) -> list[Run]:
    """One run a form; the first samples of a split have the first pattern."""
    wanted = [
        [letters for count, letters in split for _ in range(count)]
        for split in (positives, negatives)
    ]
    total = 2 * max(map(len, wanted))

    def answer_of(form: str) -> Any:
        def answer(setting: Setting, index: int, truth: Truth) -> Response | None:
            mine = wanted[index % 2]
            letters = mine[index // 2] if index // 2 < len(mine) else "ilp"
            if form[0].upper() in letters:  # a capital: no answer in that form
                return Response(status="timeout", error="slow")
            words = text(truth) if form[0] in letters else wrong(setting, index, truth)
            usage = Usage(input_tokens=TOKENS[form] + index % 3) if tokens else None
            return Response(status="ok", text=words, usage=usage)

        return answer

    return [
        write_run(
            folder / form,
            answer_of(form),
            {setting: total},
            model="test/model",
            task=TASKS[form],
            **more,
        )
        for form in forms
    ]


def wrong(setting: Setting, index: int, truth: Truth) -> str:
    """The next cell for what is there, a cell for what is not."""
    if truth[0] is None:
        return "1, 1, 1"
    return str(cell_at(setting, (index // 2 + 1) % setting.cells))
