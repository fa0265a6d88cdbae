"""Models with a known vice, as columns: thousands of answers without a file."""

from collections.abc import Callable, Mapping

import numpy as np

from mmneedle.outcomes import KINDS, NOWHERE, UNDEFINED, Marks, Outcomes
from mmneedle.reports.hallucination.suspects import Measured
from mmneedle.statistics.shares import share
from mmneedle.types import Response, Setting

SETTINGS = (
    Setting(1, 2, 2),
    Setting(1, 4, 4),
    Setting(1, 8, 8),
    Setting(10, 1, 1),
    Setting(10, 2, 2),
    Setting(10, 4, 4),
    Setting(10, 8, 8),
)
"""The paper's."""

Answer = Callable[[np.random.Generator, Setting, np.ndarray], np.ndarray]
"""(generator, setting, truth (n, 3)) -> cells (n, 3); NOWHERE thrice: "-1", UNREAD: no answer."""
UNREAD = -9
ABSENT = (NOWHERE,) * 3
GIVEN = (
    *("setting", "number", "haystack", "status", "hard", "ambiguity", "absent_logprob", "length"),
    *("truth", "marks", "place", "part", "shared"),
)
UNKNOWN = set(Outcomes.__struct_fields__) - set(GIVEN)
"""Columns that no finding looks at: latency and its like."""


def anywhere(rng: np.random.Generator, setting: Setting, count: int) -> np.ndarray:
    """Cells of the haystack, any alike."""
    most = (setting.images, setting.rows, setting.cols)
    return np.column_stack([rng.integers(1, size + 1, count) for size in most])


def truths(rng: np.random.Generator, setting: Setting, n: int) -> np.ndarray:
    """Even samples are there, at balanced cells; odd ones are not."""
    truth = np.full((n, 3), NOWHERE)
    count = (n + 1) // 2
    rounds = -(-count // setting.cells)
    cells = np.concatenate([rng.permutation(setting.cells) for _ in range(rounds)])[:count]
    shape = setting.images, setting.rows, setting.cols
    truth[::2] = np.column_stack(np.unravel_index(cells, shape)) + 1
    return truth


def table(
    setting: Setting,
    n: int,
    answer: Answer,
    seed: int = 0,
    *,
    questions: int = 1,
    absent: Callable[[np.random.Generator, np.ndarray], np.ndarray] | None = None,
) -> Outcomes:
    """Outcomes of n samples of one needle; `absent` gives P("-1") from positive (n,)."""
    rng = np.random.default_rng([seed, setting.cells, setting.images])
    truth = truths(rng, setting, n)
    said = np.asarray(answer(rng, setting, truth))
    number = np.arange(n)
    positive = number % 2 == 0
    probability = np.full(n, np.nan) if absent is None else absent(rng, positive)
    with np.errstate(divide="ignore"):
        logprob = np.log(probability)
    unknown = {name: np.full(n, np.nan, np.float32) for name in UNKNOWN}
    return Outcomes(
        setting=setting,
        number=number,
        haystack=number // questions if questions > 1 else number,
        status=np.ones(n, np.int8),
        hard=~positive & (rng.random(n) < 0.5),
        ambiguity=rng.random(n).astype(np.float32),
        absent_logprob=logprob.astype(np.float32),
        length=np.full(n, 7),
        truth=truth.astype(np.int16)[:, None],
        marks={scorer: _marks(setting, truth, said) for scorer in ("robust", "paper")},
        place=np.full(n, -1),
        part=np.zeros(n, np.int16),
        shared=questions > 1,
        **unknown,
    )


def _marks(setting: Setting, truth: np.ndarray, said: np.ndarray) -> Marks:
    positive, unread = truth[:, 0] != NOWHERE, said[:, 0] == UNREAD
    named = ~unread & (said[:, 0] != NOWHERE)
    exact = (said == truth).all(axis=1)
    inside = ((said >= 1) & (said <= (setting.images, setting.rows, setting.cols))).all(axis=1)
    code = {kind: k for k, kind in enumerate(KINDS, 1)}
    kind = np.select(
        [
            unread,
            exact,
            positive & ~named,
            ~positive,
            ~inside,
            said[:, 0] != truth[:, 0],
        ],
        [
            code["unparsed"],
            0,
            code["missed"],
            code["hallucinated"],
            code["out_of_range"],
            code["wrong_image"],
        ],
        code["wrong_cell"],
    )
    existence = np.where(positive, named, ~named & ~unread)
    index = np.where(positive, named & (said[:, 0] == truth[:, 0]), UNDEFINED)
    return Marks(
        existence=existence.astype(np.int8),
        index=index.astype(np.int8),
        exact=np.where(positive, named & exact, UNDEFINED).astype(np.int8),
        kind=kind.astype(np.int8)[:, None],
        said=np.where(unread[:, None], NOWHERE, said).astype(np.int16)[:, None],
    )


def run_of(
    answer: Answer, n: int = 100, seed: int = 0, settings=SETTINGS, **how
) -> Mapping[Setting, Outcomes]:
    """A whole run: n samples of each setting."""
    return {setting: table(setting, n, answer, seed, **how) for setting in settings}


# --------------------------------------------------------------------------- models


def oracle(rng, setting, truth):
    """Always right."""
    return truth.copy()


def guesser(rng, setting, truth):
    """A coin for existence, any cell."""
    cells = anywhere(rng, setting, len(truth))
    cells[rng.random(len(truth)) < 0.5] = ABSENT
    return cells


def yes_sayer(rng, setting, truth):
    """Always names a cell, any alike."""
    return anywhere(rng, setting, len(truth))


def no_sayer(rng, setting, truth):
    """Always "-1"."""
    return np.full((len(truth), 3), NOWHERE)


def honest(rng, setting, truth):
    """Sees half of the photos; else it names any cell, or says that it is not there."""
    return np.where(rng.random((len(truth), 1)) < 0.5, truth, guesser(rng, setting, truth))


def points(where: Callable[[np.random.Generator, Setting, int], np.ndarray], share: float = 0.5):
    """Right about what is there; makes up a cell by `where` for a share of what is not."""

    def answer(rng, setting, truth):
        said = truth.copy()
        made = (truth[:, 0] == NOWHERE) & (rng.random(len(truth)) < share)
        said[made] = where(rng, setting, int(made.sum()))
        return said

    return answer


def corner(rng, setting, count):
    """Any corner of any image."""
    image = rng.integers(1, setting.images + 1, count)
    ends = [rng.choice([1, size], count) for size in (setting.rows, setting.cols)]
    return np.column_stack([image, *ends])


def example(rng, setting, count):
    """ "1, 2, 3" where there is such a cell, else any."""
    if setting.rows < 2 or setting.cols < 3:
        return anywhere(rng, setting, count)
    return np.tile([1, 2, 3], (count, 1))


def first_image(rng, setting, count):
    """Any cell of the first image."""
    cells = anywhere(rng, setting, count)
    cells[:, 0] = 1
    return cells


def last_image(rng, setting, count):
    """Any cell of the last image."""
    cells = anywhere(rng, setting, count)
    cells[:, 0] = setting.images
    return cells


def always_same(rng, setting, count):
    """One cell that is nothing special, where there is one."""
    cell = (min(4, setting.images), min(2, setting.rows), min(2, setting.cols))
    return np.tile(cell, (count, 1))


def errs(how: Callable[[np.random.Generator, Setting, np.ndarray], np.ndarray], share: float = 0.4):
    """Right about what is not there; for a share of what is, the cell is moved by `how`."""

    def answer(rng, setting, truth):
        said = truth.copy()
        wrong = (truth[:, 0] != NOWHERE) & (rng.random(len(truth)) < share)
        said[wrong] = how(rng, setting, truth[wrong])
        return said

    return answer


def transposed(rng, setting, truth):
    """Row and column swapped."""
    return truth[:, [0, 2, 1]]


def zero_based(rng, setting, truth):
    """Counts images, rows and columns from 0."""
    return truth - 1


def zero_based_cells(rng, setting, truth):
    """Counts rows and columns from 0."""
    return truth - [0, 1, 1]


def previous_image(rng, setting, truth):
    """The same place, one image too early; where there is none, any wrong cell."""
    before = truth - [1, 0, 0]
    return np.where(before[:, :1] < 1, wrong_cell(rng, setting, truth), before)


def row_off(rng, setting, truth):
    """One row above or below; where there is one row only, any wrong cell."""
    if setting.rows == 1:
        return wrong_cell(rng, setting, truth)
    row = truth[:, 1] + rng.choice([-1, 1], len(truth))
    row = np.where(row < 1, 2, np.where(row > setting.rows, setting.rows - 1, row))
    return np.column_stack([truth[:, 0], row, truth[:, 2]])


def wrong_cell(rng, setting, truth):
    """Any other cell of the haystack."""
    shape = setting.images, setting.rows, setting.cols
    at = np.ravel_multi_index(tuple((truth - 1).T), shape)
    other = (at + rng.integers(1, setting.cells, len(truth))) % setting.cells
    return np.column_stack(np.unravel_index(other, shape)) + 1


# --------------------------------------------------------------------------- as a run's answers

FOUR, EIGHT = Setting(1, 4, 4), Setting(10, 8, 8)


def swapper(setting, index, truth):
    """Swaps row and column; tells probabilities; makes up a corner when nothing is there."""
    place = truth[0]
    if place is None:
        said = f"1, 1, {setting.cols}" if index % 3 else "-1"
    else:
        said = f"{place.image}, {place.column}, {place.row}"
    return Response("ok", said, absent_logprob=-0.1 if place is None else -3.0)


def measured(key: str, *, hits: int, n: int, expected: float) -> Measured:
    """A suspect that no test tells from chance."""
    seen = share([True] * hits + [False] * (n - hits))
    return Measured(key=key, label=key, seen=seen, expected=expected, p=1.0)
