"""Long rows: a model's figures on one setting and split by one scorer, scored here or printed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from mmneedle import scoring
from mmneedle.adapters.limits import Book, effective_cell
from mmneedle.costs import Spending
from mmneedle.reports import published as paper
from mmneedle.reports.words import percent
from mmneedle.runlog import Run, pixels
from mmneedle.scoring import METRICS
from mmneedle.statistics.ranking import Rank
from mmneedle.types import ErrorKind, Setting, Status

COUNTED = (*get_args(Status), "missing")
"""How requests ended; "missing" were never sent."""


_SPENT = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cached_share",
    "usd",
    "saved_usd",
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One long row: a model's figures on one setting and split by one scorer."""

    origin: str
    """run: scored here. submitted: scored here from somebody's submission. published: printed in
    the paper."""
    model: str
    task: str
    run: str | None
    """The run folder's name, or its path where two runs share the name."""
    sources: dict[str, str]
    """Where each published figure stands, by metric."""
    dataset: str | None
    """The data set's fingerprint; None for published figures (the official samples)."""
    setting: Setting
    split: str
    scorer: str
    n: int
    """Samples asked; for published figures the paper's nominal number."""
    answered: int | None
    """Samples with an answer; the paper does not say."""
    samples: tuple[int, int] | None
    """The first sample asked, and the one after the last, of the setting's samples."""
    figures: dict[str, float | None]
    """By METRICS, 0..1."""
    interval: dict[str, tuple[float, float]]
    """The 95 % interval of each figure that has one."""
    bounds: dict[str, tuple[float, float]]
    """Each figure if all missing answers were wrong, and if all were right."""
    statuses: dict[str, int]
    kinds: dict[str, int]
    effective_cell: str | None = None
    """Pixels a side of a cell as the model gets it, or "unknown"; None: no images, not recorded."""
    resized: bool = False
    """Whether cells were shrunk before sending (`--resize`)."""
    spending: Spending | None = None
    """Tokens and money of all attempts at these samples; None: nothing was counted."""
    clusters: int | None = None
    """Haystacks that the answered samples share; None: as many as samples, or not known."""
    stopped: dict[str, float] = {}
    """Where a rule has stopped the setting (`scoring.Row.stopped`)."""
    printed: dict[str, str] = {}
    """Published figures as printed, in per cent."""
    rank: Rank | None = None
    """The model's among those it can be compared with, over all their settings; ties as a range.
    None: not ranked, as nothing published is, nor a model that stands alone."""
    setting_rank: Rank | None = None
    """Likewise on this setting."""
    by: str | None = None
    """Who submitted it, and where more is told."""
    repeat: bool = False
    """A published figure that repeats another one; tables name it in a note."""

    @property
    def coverage(self) -> float | None:
        """The share of samples that have an answer."""
        return None if self.answered is None or not self.n else self.answered / self.n

    def value(self, metric: str) -> float | None:
        """One figure, 0..1, None where it is not defined."""
        return self.figures.get(metric)

    def shown(self, metric: str) -> str:
        """One figure as text in per cent; a published one with its two printed digits."""
        printed = self.printed.get(metric)
        return percent(self.value(metric)) if printed is None else f"{float(printed):.2f}"

    def flat(self) -> dict[str, Any]:
        """This row with one plain value under each name, the same names in every row."""
        shape = self.setting
        row: dict[str, Any] = {
            "origin": self.origin,
            "model": self.model,
            "task": self.task,
            "run": self.run,
            "source": paper.describe(self.sources.values()) or None,
            "dataset": self.dataset,
            "setting": shape.name,
            "images": shape.images,
            "grid": shape.grid,
            "rows": shape.rows,
            "cols": shape.cols,
            "needles": shape.needles,
            "split": self.split,
            "scorer": self.scorer,
            "n": self.n,
            "answered": self.answered,
            "coverage": self.coverage,
            "repeat": self.repeat,
            "effective_cell": self.effective_cell,
            "clusters": self.clusters,
            "start": self.samples[0] if self.samples else None,
            "stop": self.samples[1] if self.samples else None,
        }
        row |= _ranks("rank", self.rank) | _ranks("setting_rank", self.setting_rank)
        row["by"] = self.by
        for metric in METRICS:
            low, high = self.interval.get(metric) or (None, None)
            worst, best = self.bounds.get(metric) or (None, None)
            row[metric] = self.value(metric)
            row |= {f"{metric}_low": low, f"{metric}_high": high}
            row |= {f"{metric}_worst": worst, f"{metric}_best": best}
        for name in _SPENT:
            row[name] = getattr(self.spending, name) if self.spending else None
        known = self.answered is not None
        for status in COUNTED:
            row[f"status_{status}"] = self.statuses.get(status, 0) if known else None
        for kind in get_args(ErrorKind):
            row[f"kind_{kind}"] = self.kinds.get(kind, 0) if known else None
        return row


def _ranks(name: str, rank: Rank | None) -> dict[str, int | None]:
    best, worst = (rank.best, rank.worst) if rank else (None, None)
    return {f"{name}_best": best, f"{name}_worst": worst}


def run_names(runs: Sequence[Run]) -> list[str]:
    """What each run is called: its folder's name, or its path where two share the name."""
    shared = Counter(run.path.name for run in runs)
    return [str(run.path) if shared[run.path.name] > 1 else run.path.name for run in runs]


def run_entries(run: Run, name: str, scorers: Sequence[str]) -> Iterator[Entry]:
    """The long rows of one run, called `name`."""
    for row in scoring.score_run(run, tuple(scorers)):
        setting = Setting(row.images, row.rows, row.cols, row.needles)
        yield Entry(
            origin=run.origin,
            model=row.model,
            task=row.task,
            run=name,
            sources={},
            dataset=run.header.dataset_fingerprint,
            setting=setting,
            split=row.split,
            scorer=row.scorer,
            n=row.n,
            answered=row.answered,
            samples=run.header.span(setting),
            figures={metric: getattr(row, metric) for metric in METRICS},
            interval=dict(row.interval),
            bounds=dict(row.bounds),
            statuses=dict(row.statuses),
            kinds=dict(row.kinds),
            effective_cell=row.effective_cell,
            resized=run.header.resize is not None,
            spending=msgspec.convert(row.spent, Spending) if row.spent else None,
            clusters=row.clusters,
            stopped=row.stopped,
            by=run.by,
        )


def published_entries() -> Iterator[Entry]:
    """The paper's rows, and after each the figures that repeat it."""
    for record in paper.published():
        yield _published_entry(record, list(record.figures.values()), repeat=False)
        for figure in record.repeats:
            yield _published_entry(record, [figure], repeat=True)


_PUBLISHED_KEYS = {
    "GPT-4V": "openai/gpt-4-vision-preview",
    "GPT-4o": "openai/gpt-4o",
    "Claude 3 Opus": "anthropic/claude-3-opus",
    "Gemini Pro 1.5": "google/gemini-1.5-pro",
}
"""What the paper's models are looked up as, where their provider documents a rule."""
_PUBLISHED_SIDE = 256
"""Pixels a side of the paper's cells (section 4)."""


def _published_cell(model: str, setting: Setting) -> str | None:
    """Pixels a cell that the rule leaves, which the paper does not tell.

    None where no rule is known, and for grids of one cell, whose images have sizes of their own.
    """
    if model not in _PUBLISHED_KEYS or setting.rows * setting.cols == 1:
        return None
    sight = (
        Book.open()
        .of(_PUBLISHED_KEYS[model])
        .see(_PUBLISHED_SIDE * setting.cols, _PUBLISHED_SIDE * setting.rows)
    )
    return pixels(effective_cell(setting, sight))


def _published_entry(
    record: paper.Published, figures: Sequence[paper.Figure], *, repeat: bool
) -> Entry:
    errors = {figure.metric: figure.stderr for figure in figures if figure.stderr is not None}
    return Entry(
        origin="published",
        model=record.model,
        task="grid",
        run=None,
        sources={figure.metric: figure.source for figure in figures},
        dataset=None,
        setting=record.setting,
        split=record.split,
        scorer=paper.SCORER,
        n=figures[0].samples,
        answered=None,
        samples=None,
        figures={figure.metric: figure.value for figure in figures},
        interval={
            figure.metric: (
                max(0.0, round(figure.value - 1.96 * errors[figure.metric], 6)),
                min(1.0, round(figure.value + 1.96 * errors[figure.metric], 6)),
            )
            for figure in figures
            if figure.metric in errors
        },
        bounds={},
        statuses={},
        kinds={},
        effective_cell=_published_cell(record.model, record.setting),
        printed={figure.metric: figure.printed for figure in figures},
        repeat=repeat,
    )
