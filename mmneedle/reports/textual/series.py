"""Runs as series: one task of one model, by length, with what every figure of the page counts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import in_split, verdicts
from mmneedle.errors import UserError
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.reports.entries import run_names
from mmneedle.reports.hallucination.needles import Needles, all_needles
from mmneedle.reports.words import label, short, visible
from mmneedle.runlog import STATUSES, Run, pixels
from mmneedle.tasks.text import maker_class
from mmneedle.texts.effective import THRESHOLD, Effective, Point, Tally, effective_lengths, found_in
from mmneedle.texts.scoring import rule_of, score_text
from mmneedle.twinned import FORM_OF, Form, mean_tokens
from mmneedle.types import Setting, TextSetting, split_sample_id

Kind = Literal["image", "literal", "paraphrase", "text"]
NAMES: dict[Form, str] = {
    "image": "images",
    "literal": "literal twin",
    "paraphrase": "paraphrase twin",
}
TOO_LONG = STATUSES.index("too_long") + 1
_IGNORED = {"base_url", "detail", "max_tokens"}
"""Parts of an adapter's fingerprint in which runs of one model may differ."""
_LONG = 48
"""Characters of a parameter in a name."""


class Answers(msgspec.Struct, frozen=True):
    """Every sample that text runs ask in one task with one number of needles; n of them."""

    length: NDArray[np.int64]
    """Shape (n,), as are all."""
    depth: NDArray[np.int64]
    """In tenths of a per cent; -1: no single place."""
    text: NDArray[np.int64]
    """Samples with equal numbers share their text and differ in depth alone."""
    hits: NDArray[np.int64]
    of: NDArray[np.int64]
    """Needles that count; 0: no answer."""
    status: NDArray[np.int64]
    """k: STATUSES[k-1]; 0: never tried."""
    tokens: NDArray[np.float64]
    """Input tokens as the model counted them; NaN where it did not."""
    run: NDArray[np.int64]
    """Which of the runs given."""
    number: NDArray[np.int64]
    """The sample's number in its setting."""
    part: NDArray[np.int64]
    place: NDArray[np.int64]
    """Where its line stands; -1: never tried."""
    setting: NDArray[np.object_]
    """Its TextSetting."""

    def __len__(self) -> int:
        return len(self.length)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which samples were answered."""
        return self.of > 0

    def chosen(self, which: NDArray[np.bool_]) -> "Answers":
        """Only those."""
        return Answers(**{name: getattr(self, name)[which] for name in self.__struct_fields__})


class Level(msgspec.Struct, frozen=True):
    """A series at one length."""

    name: str
    """How it is called: "4,096", "(10,8)"."""
    point: Point
    tokens: float | None
    """Mean input tokens as the model counted them; None where it did not."""
    x: float | None
    """Where it stands on the axis of tokens: `tokens`, else the data set's own count; None where
    neither is known."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One task of one model, by ascending length."""

    subject: int
    """Which of the models (with equal parameters)."""
    key: str
    """The task as the page names it; equal for different models."""
    kind: Kind
    task: str
    needles: int
    levels: tuple[Level, ...]
    effective: Effective
    dataset: tuple[str, ...]
    """Fingerprints."""
    answers: Answers | None = None
    """Of text tasks; None for a mean of tasks."""
    cells: tuple[Needles, ...] = ()
    """Of images and twins: their needles."""

    @property
    def unit(self) -> str:
        """What lengths count."""
        return self.effective.unit


class Read(msgspec.Struct, frozen=True):
    """All runs of a page."""

    subjects: tuple[str, ...]
    """What each model is called."""
    runs: tuple[Run, ...]
    names: tuple[str, ...]
    """Of each run."""
    of_subject: tuple[int, ...]
    """Of each run, which of the subjects."""
    series: tuple[Series, ...]

    def of(self, key: str) -> list[Series]:
        """The series of a task, by model."""
        return [one for one in self.series if one.key == key]

    @property
    def keys(self) -> list[str]:
        """Tasks in the page's order: images and twins first."""
        return list(dict.fromkeys(one.key for one in self.series))


def read(runs: Sequence[Run], threshold: float | None = None) -> Read:
    """Read runs of text tasks, of images and of twins.

    Args:
        runs: opened.
        threshold: of effective lengths, 0..1; None: as published.

    Raises:
        UserError: no runs, or two of one model that ask the same samples.
    """
    if not runs:
        raise UserError("a page needs at least one run")
    names = list(map(visible, run_names(runs)))
    found = subjects(runs)
    of_subject = [0] * len(runs)
    series: list[Series] = []
    several = len({r.header.dataset_fingerprint for r in runs if r.header.task in FORM_OF}) > 1
    for subject, (_, group) in enumerate(found):
        for number in group:
            of_subject[number] = subject
            if not runs[number].header.textual:
                series += _cell_series(runs[number], subject, threshold, several)
        textual = [number for number in group if runs[number].header.textual]
        series += _text_series(runs, textual, subject, threshold)
    order = {kind: at for at, kind in enumerate(("image", "literal", "paraphrase", "text"))}
    series.sort(key=lambda one: (order[one.kind], one.key, one.subject))
    called = tuple(name for name, _ in found)
    return Read(called, tuple(runs), tuple(names), tuple(of_subject), tuple(series))


def subjects(runs: Sequence[Run]) -> list[tuple[str, list[int]]]:
    """Each model with its parameters: what it is called, and which of the runs are its.

    Raises UserError where two of them ask the same samples.
    """
    groups: dict[bytes, list[int]] = {}
    for number, run in enumerate(runs):
        groups.setdefault(_identity(run), []).append(number)
    members = [[runs[number] for number in group] for group in groups.values()]
    for some in members:
        _check_apart(some)
    return list(zip(_called(members), groups.values(), strict=True))


def _identity(run: Run) -> bytes:
    adapter = {name: part for name, part in run.header.adapter.items() if name not in _IGNORED}
    return msgspec.json.encode((run.header.called, adapter), order="deterministic")


def _called(groups: Sequence[Sequence[Run]]) -> tuple[str, ...]:
    """The model, and where several share it what of their parameters tells them apart."""
    headers = [group[0].header for group in groups]
    names = []
    for one in headers:
        alike = [other.adapter for other in headers if other.called == one.called]
        differ = sorted(
            key
            for key in {key for adapter in alike for key in adapter} - _IGNORED
            if any(adapter.get(key) != alike[0].get(key) for adapter in alike)
        )
        told = ", ".join(_parameter(key, one.adapter.get(key)) for key in differ)
        names.append(visible(f"{one.called} ({told})" if told else one.called))
    shared = Counter(names)
    return tuple(
        f"{name} #{names[: at + 1].count(name)}" if shared[name] > 1 else name
        for at, name in enumerate(names)
    )


def _parameter(key: str, value: Any) -> str:
    """A parameter in a few words: "temperature 0", "no rope_scaling"."""
    if value is None:
        return f"no {key}"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = text.translate(str.maketrans("", "", '{}"'))
    return f"{key} {text if len(text) <= _LONG else text[: _LONG - 1] + '…'}"


def _check_apart(runs: Sequence[Run]) -> None:
    """See that no sample is counted twice. Raises UserError."""
    for at, one in enumerate(runs):
        for other in runs[:at]:
            a, b = one.header, other.header
            alike = (a.task, a.dataset_fingerprint, a.resize) == (
                b.task,
                b.dataset_fingerprint,
                b.resize,
            )
            for name in (name for name in a.plan if name in b.plan):
                (start, stop), (first, last) = a.span(name), b.span(name)
                if alike and max(start, first) < min(stop, last):
                    raise UserError(
                        f"{other.folder} and {one.folder} ask one model the same samples of "
                        f"{name}: give one of them"
                    )


# --------------------------------------------------------------------------- text tasks


def _text_series(
    runs: Sequence[Run], chosen: Sequence[int], subject: int, threshold: float | None
) -> list[Series]:
    found = effective_lengths([runs[number] for number in chosen], threshold)
    columns: dict[tuple[str, int], list[list[Any]]] = {}
    for number in chosen:
        _collect(runs[number], number, columns)
    tables = {key: _answers(rows) for key, rows in columns.items()}
    series = []
    for one in found:
        table = tables.get((one.task, one.needles))
        parts = [table] if table else [t for (task, _), t in tables.items() if "ruler." in task]
        datasets = {
            runs[int(r)].header.dataset_fingerprint for t in parts for r in np.unique(t.run)
        }
        key = one.task + (f", {one.needles} needles" if one.needles > 1 else "")
        series.append(
            Series(
                subject=subject,
                key=key if table else "ruler, mean of its tasks",
                kind="text",
                task=one.task.partition(",")[0],
                needles=one.needles,
                levels=tuple(_text_level(point, parts, one.unit) for point in one.points),
                effective=one,
                dataset=tuple(sorted(datasets)),
                answers=table,
            )
        )
    return series


def _text_level(point: Point, tables: Sequence[Answers], unit: str) -> Level:
    means = []
    for table in tables:
        tokens = table.tokens[(table.length == point.length) & ~np.isnan(table.tokens)]
        if len(tokens):
            means.append(float(tokens.mean()))
    tokens_mean = sum(means) / len(means) if means else None
    x = tokens_mean if tokens_mean else float(point.length) if unit == "tokens" else None
    return Level(f"{point.length:,}", point, tokens_mean, x)


def _collect(run: Run, number: int, columns: dict[tuple[str, int], list[list[Any]]]) -> None:
    """Put a row for every sample that a run asks: those never tried too."""
    places: dict[tuple[str, int], list[Any]] = {}
    text_of = _Numbers()
    for name in run.header.plan:
        setting = TextSetting.parse(name)
        rows = columns.setdefault((setting.task, setting.needles), [])
        for index in run.header.indices(name):
            text = text_of.of((setting.task, setting.needles, setting.length, index))
            row = [
                setting.length, setting.depth, text + (number << 40), 0, 0, 0, np.nan, number,
                index, 0, -1, setting,
            ]  # fmt: skip
            rows.append(row)
            places[name, index] = row
    for part, place, record in run.located():
        setting_, index = split_sample_id(record.sample)
        assert isinstance(setting_, TextSetting)
        row = places[setting_.name, index]
        row[5], row[9], row[10] = STATUSES.index(record.response.status) + 1, part, place
        usage = record.response.usage
        if usage is not None and usage.input_tokens is not None:
            row[6] = float(usage.input_tokens)
        score = score_text(setting_, record.expected or (), record.response)
        if score is not None:
            whole = rule_of(setting_) == "any"
            row[3] = int(score.value) if whole else sum(score.given)
            row[4] = 1 if whole else len(score.given)


class _Numbers:
    """Things -> numbers in the order of their first coming."""

    def __init__(self) -> None:
        self.seen: dict[object, int] = {}

    def of(self, thing: object) -> int:
        return self.seen.setdefault(thing, len(self.seen))


def _answers(rows: Sequence[Sequence[Any]]) -> Answers:
    kinds: list[Any] = [np.int64] * 12
    kinds[6], kinds[11] = np.float64, np.object_
    columns = list(zip(*rows, strict=True)) or [()] * 12
    return Answers(*(np.array(c, kind) for c, kind in zip(columns, kinds, strict=True)))


# --------------------------------------------------------------------------- cells


def _cell_series(run: Run, subject: int, threshold: float | None, several: bool) -> list[Series]:
    form = FORM_OF.get(run.header.task)
    if form is None:
        raise UserError(f"{run.folder}: its task {run.header.task} has no place on this page")
    tables = outcomes(run)
    found = []
    for needles in sorted({setting.needles for setting in tables}):
        mine = {at: table for at, table in tables.items() if at.needles == needles}
        name = NAMES[form] + (f", {needles} needles" if needles > 1 else "")
        if run.header.resize is not None:
            name += f", cells of {pixels(run.header.resize)} px"
        if several:
            name += f" ({short(run.header.dataset_fingerprint)})"
        found.append(
            Series(
                subject=subject,
                key=name,
                kind=form,
                task=run.header.task,
                needles=needles,
                levels=_cell_levels(mine),
                effective=found_in(
                    _by_cells(mine),
                    THRESHOLD if threshold is None else threshold,
                    model=run.header.called,
                    task=run.header.task,
                    needles=needles,
                    unit="cells",
                    base=None,
                ),
                dataset=(run.header.dataset_fingerprint,),
                cells=tuple(all_needles(mine, "robust")),
            )
        )
    return found


def _cell_levels(tables: Mapping[Setting, Outcomes]) -> tuple[Level, ...]:
    """Settings by the cells of their haystacks."""
    levels = []
    for setting, table in tables.items():
        tally = Tally()
        _count(tally, table, 0)
        count = mean_tokens(table)
        levels.append(Level(label(setting), tally.point(setting.cells), count, count))
    return tuple(sorted(levels, key=lambda one: (one.point.length, one.tokens or 0.0)))


def _by_cells(tables: Mapping[Setting, Outcomes]) -> list[Point]:
    """The same with haystacks of as many cells together, so that lengths ascend."""
    found: dict[int, Tally] = {}
    for number, (setting, table) in enumerate(tables.items()):
        _count(found.setdefault(setting.cells, Tally()), table, number)
    return [tally.point(cells) for cells, tally in sorted(found.items())]


def _count(tally: Tally, table: Outcomes, number: int) -> None:
    """Exact accuracy on positives; `number` tells settings apart."""
    asked = in_split(table, "exact")
    right = verdicts(table, "exact")
    tally.asked += int(asked.sum())
    tally.skipped += int((table.status[asked] == TOO_LONG).sum())
    for row in np.flatnonzero(asked & (right != UNDEFINED)).tolist():
        tally.add((number, int(table.haystack[row])), int(right[row]), 1)


# --------------------------------------------------------------------------- lengths


def counted_by(runs: Iterable[Run]) -> dict[str, str | None]:
    """Data set fingerprint -> how its lengths are counted, in words; None: the folder is gone."""
    from mmneedle.texts.dataset import TextDataSet

    found: dict[str, str | None] = {}
    for run in runs:
        header = run.header
        if not header.textual or found.get(header.dataset_fingerprint):
            continue
        found[header.dataset_fingerprint] = None
        try:
            dataset = TextDataSet.open(header.dataset_path)
        except (UserError, OSError):
            continue
        if dataset.fingerprint == header.dataset_fingerprint:
            unit = maker_class(dataset.manifest.task).lengths
            exact = bool(dataset.manifest.tokens.get("tokenizer"))
            found[header.dataset_fingerprint] = (
                unit if unit != "tokens" else "tokens" if exact else "approximate"
            )
    return found
