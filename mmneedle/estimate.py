"""What a run would take, before anything is asked: requests, tokens, pixels, money, time.

Nothing is sent and no key is needed. What is not documented is unknown: None in JSON.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmneedle import adapters
from mmneedle.adapters.limits import Book, text_tokens
from mmneedle.adapters.options import read as read_options
from mmneedle.adapters.options import whole
from mmneedle.adapters.reasoning import MORE_EFFORTS, reasoning, room
from mmneedle.costs import Prices, cost, dollars, find_prices, is_local, why_no_prices
from mmneedle.errors import UserError
from mmneedle.evaluate import make_plan, open_asked, task_needs
from mmneedle.preflight import Preflight, View, preflight
from mmneedle.retrieval.asked import Asked
from mmneedle.runlog import Plan, pixels
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks.grid import GridTask
from mmneedle.texts.dataset import TextDataSet
from mmneedle.types import AnySetting, DataTask, TextSetting, Usage, read_setting

_ROOM = {"max_tokens": whole(1), "reasoning": reasoning(MORE_EFFORTS, tokens=True)}
"""Options that decide how long an answer may be."""
_ANSWER = 8
"""Tokens of an answer to one needle: "10, 8, 8" and what separates it from the next."""


_MEASURED = 8
"""Samples of a setting whose tokens are counted."""


class SettingEstimate(msgspec.Struct, frozen=True):
    """One setting; tokens are a request's."""

    setting: str
    requests: int
    cell: tuple[int, int]
    """Width and height of a cell as it is sent, in pixels."""
    effective_cell: str
    """Pixels a side as the model gets it: "96", "160x96", "unknown"; "" for text."""
    image_tokens: int | None
    """Of all its images."""
    text_tokens: int | None
    """About."""
    usd: float | None
    """All requests of the setting, with answers of the usual length and no cache."""
    refused: str
    """What the provider would refuse; empty where nothing is known to fail."""


class Estimate(msgspec.Struct, frozen=True):
    """A whole run."""

    model: str
    settings: list[SettingEstimate]
    requests: int
    input_tokens: int | None
    output_tokens: int
    """With answers of the usual length; a model that thinks needs more."""
    max_output_tokens: int
    """If every answer used all it may."""
    usd: float | None
    """Without any discount, with answers of the usual length."""
    usd_at_most: float | None
    """Without any discount, if every answer used all it may."""
    usd_batch: float | None
    """`usd` at the price of a batch; None: unknown, or the provider has none."""
    usd_cached: float | None
    """`usd` if samples that share a haystack find its images in the provider's cache; None:
    unknown, or no samples share one."""
    minutes: float | None
    """At `rpm` and `tpm`; None without them."""
    seconds_each: float
    """Seconds of the whole run for every second that an answer takes, at `max_connections`."""
    max_connections: int
    batch: bool
    prices: Prices | None
    images_by: str | None
    """Where the rule for images stands."""
    notes: list[str]


def estimate(
    folder: Path | str,
    model: str,
    *,
    task: str = GridTask.name,
    limit: tuple[int, int | None] = (0, None),
    shapes: Iterable[tuple[int, int, int]] | None = None,
    lengths: Collection[int] | None = None,
    resize: tuple[int, int] | None = None,
    reader: Asked | None = None,
    limits: Path | None = None,
    prices: Path | None = None,
    batch: bool = False,
    rpm: float | None = None,
    tpm: float | None = None,
    max_connections: int | None = None,
    adapter_options: Mapping[str, Any] | None = None,
) -> Estimate:
    """Reckon what `evaluate` with these arguments would take.

    Raises:
        UserError: no such data set or provider; a file of limits or prices with faults.
    """
    dataset, asked = open_asked(folder, task, resize, reader)
    plan = make_plan(dataset, limit, None if shapes is None else set(shapes), lengths)
    path, options = adapters.read_model(model, adapter_options or {})
    if path.startswith("baseline/"):
        raise UserError(f"{path} answers without looking: there is nothing to estimate")
    thinking = {key: value for key, value in options.items() if key in _ROOM}
    read = read_options(path, thinking, _ROOM)
    most = room(path, read.get("reasoning"), read.get("max_tokens"))
    fingerprint = options | {"max_tokens": most}
    needs = task_needs(plan, asked)
    see = None
    if path.startswith("onnx/"):  # asks no key and knows what it sees
        see = getattr(adapters.create(path), "see", None)
    checked = preflight(path, needs, fingerprint, Book.open(limits), see)
    found = find_prices(checked.key, fingerprint, prices, checked.limits.batch)
    texts = {
        view.setting: _text_tokens(checked, dataset, asked, plan, view.setting)
        for view in checked.views
    }
    reckoned = [_Reckoning(view, plan, texts[view.setting], found) for view in checked.views]
    requests = sum(one.requests for one in reckoned)
    tokens = _total(one.tokens and one.tokens * one.requests for one in reckoned)
    usual = sum(one.requests * one.usual for one in reckoned)
    usd = _total(one.usd(one.usual) for one in reckoned)
    shared = dataset.questions if reader is None else 1  # what is read depends on the question
    connections = max_connections or adapters.connections(path)
    factor = found.batch if found else None
    return Estimate(
        model=path,
        settings=[one.row() for one in reckoned],
        requests=requests,
        input_tokens=tokens,
        output_tokens=usual,
        max_output_tokens=most * requests,
        usd=usd,
        usd_at_most=_total(one.usd(most) for one in reckoned),
        usd_batch=None if usd is None or factor is None else usd * factor,
        usd_cached=None if shared == 1 else _total(one.usd_cached(shared) for one in reckoned),
        minutes=_minutes(requests, None if tokens is None else tokens + usual, rpm, tpm),
        seconds_each=requests / connections,
        max_connections=connections,
        batch=batch,
        prices=found,
        images_by=checked.rule_source,
        notes=list(_notes(checked, found, batch, dataset)),
    )


def _text_tokens(
    checked: Preflight,
    dataset: DataSet | TextDataSet,
    asked: DataTask,
    plan: Plan,
    setting: AnySetting,
) -> int | None:
    """About how many tokens a request's text has; None where nothing is known.

    Where nothing is documented of the model, a data set of texts knows it by its own tokenizer.
    """
    start, stop = plan[setting.name]
    characters = asked.characters(setting, start, stop)
    if checked.limits.characters_per_token is not None or not isinstance(dataset, TextDataSet):
        return text_tokens(checked.limits, characters)
    assert isinstance(setting, TextSetting)
    few = list(dataset.samples(setting, start, min(stop, start + _MEASURED)))
    each = sum(sample.tokens for sample in few) / sum(len(sample.prompt) for sample in few)
    return round(characters * each)


class _Reckoning:
    """One setting's figures."""

    def __init__(self, view: View, plan: Plan, text: int | None, prices: Prices | None) -> None:
        start, stop = plan[view.setting.name]
        self.view, self.text, self.prices = view, text, prices
        self.span, self.requests = (start, stop), stop - start
        self.usual = _ANSWER * view.setting.needles
        each = view.sight.tokens
        self.images = None if each is None else each * view.needs.images
        self.tokens = None if self.images is None or text is None else self.images + text

    def usd(self, output: int) -> float | None:
        """All requests with answers of so many tokens, without a cache."""
        if self.tokens is None or self.prices is None:
            return None
        return self.requests * cost(Usage(self.tokens, output), self.prices)

    def usd_cached(self, questions: int) -> float | None:
        """All requests, where all but the first of each haystack read its images from a cache."""
        if self.tokens is None or not self.images or self.prices is None:
            return None
        if self.prices.cached is None:
            return None
        first, last = self.span[0] // questions, (self.span[1] - 1) // questions
        haystacks = last - first + 1  # a range may cut the first and the last of them
        written = None if self.prices.cache_write is None else self.images
        write = Usage(self.tokens, self.usual, cache_write_tokens=written)
        read = Usage(self.tokens, self.usual, cached_tokens=self.images)
        return haystacks * cost(write, self.prices) + (self.requests - haystacks) * cost(
            read, self.prices
        )

    def row(self) -> SettingEstimate:
        """As it is shown."""
        view = self.view
        return SettingEstimate(
            setting=view.setting.name,
            requests=self.requests,
            cell=view.sent,
            effective_cell=pixels(view.cell) if view.needs.images else "",
            image_tokens=self.images,
            text_tokens=self.text,
            usd=self.usd(self.usual),
            refused=view.fault,
        )


def _total(parts: Iterable[Any]) -> Any:
    """The sum; None where a part is not known."""
    values = list(parts)
    return None if None in values else sum(values)


def _minutes(
    requests: int, tokens: int | None, rpm: float | None, tpm: float | None
) -> float | None:
    bounds = [requests / rpm] if rpm else []
    if tpm:
        if tokens is None:
            return None
        bounds.append(tokens / tpm)
    return max(bounds, default=None)


def _notes(
    checked: Preflight, prices: Prices | None, batch: bool, dataset: DataSet | TextDataSet
) -> Iterable[str]:
    yield from filter(None, (checked.limits.note, checked.advice()))
    yield from _unknowns(checked, dataset)
    if prices is None:
        yield why_no_prices(checked.key)
    elif batch and prices.batch is None:
        yield f"no batch price is known of {checked.key}"


def _unknowns(checked: Preflight, dataset: DataSet | TextDataSet) -> Iterable[str]:
    """Why tokens are unknown, and what would tell them."""
    key, local = checked.key, is_local(checked.key)
    name = key.partition("/")[2]
    if checked.advice() is None and any(view.sight.tokens is None for view in checked.views):
        if local:
            yield (
                f"{name} is no folder here, so what its processor does to an image is unknown: "
                f"name the checkpoint's folder, {key.partition('/')[0]}/FOLDER"
            )
        else:
            yield (
                f"how many tokens an image takes is not documented of {key}: your own figures go "
                "into --limits FILE (docs/limits.md)"
            )
    if checked.limits.characters_per_token is not None:
        return
    if isinstance(dataset, TextDataSet):
        own = bool(dataset.manifest.tokens.get("tokenizer"))
        by = "by the data set's tokenizer" if own else "at 4 characters each"
        yield f"text tokens are counted {by}; the model's own may be others"
    else:
        what = "its tokenizer is not asked" if local else f"nothing is documented of {key}"
        yield (
            f"text tokens are unknown: {what}; characters_per_token in --limits FILE says about "
            "how many (docs/limits.md)"
        )


# --------------------------------------------------------------------------- for the terminal


def text(result: Estimate) -> str:
    """An estimate as a table and a few lines; settings that differ in depth alone are one row."""
    pictured = any(one.cell != (0, 0) for one in result.settings)
    head = ("setting", "requests", "px sent", "px a cell", "image tokens", "text tokens", "USD")
    groups: dict[str, list[SettingEstimate]] = {}
    for one in result.settings:
        groups.setdefault(_without_depth(one.setting), []).append(one)
    rows = [head, *(_row(name, group) for name, group in groups.items())]
    if not pictured:
        rows = [(*row[:2], *row[5:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_lines(result, pictured)])


def _without_depth(name: str) -> str:
    setting = read_setting(name)
    if isinstance(setting, TextSetting):
        return msgspec.structs.replace(setting, depth=-1).name.replace("-dx-", "-")
    return name


def _row(name: str, group: Sequence[SettingEstimate]) -> tuple[str, ...]:
    first, requests = group[0], sum(one.requests for one in group)
    tokens = _total(one.text_tokens and one.text_tokens * one.requests for one in group)
    usd = _total(one.usd for one in group)
    several = f", {len(group)} depths" if len(group) > 1 else ""
    return (
        (first.setting if len(group) == 1 else name) + several,
        f"{requests:,}",
        pixels(first.cell),
        first.effective_cell,
        _number(first.image_tokens),
        _number(None if tokens is None else round(tokens / requests)),
        "unknown" if usd is None else f"{usd:,.2f}",
    )


def _lines(result: Estimate, pictured: bool) -> Iterable[str]:
    yield (
        f"{result.requests:,} requests, {_number(result.input_tokens)} input tokens, "
        f"about {result.output_tokens:,} output tokens (at most {result.max_output_tokens:,})"
    )
    if result.usd is None or result.usd_at_most is None:
        yield "cost: unknown"
    else:
        most = dollars(result.usd_at_most)
        yield f"cost: {dollars(result.usd)} with short answers, at most {most}"
    if result.usd_batch is not None:
        mark = " (--batch)" if result.batch else ""
        yield f"as a batch{mark}: {dollars(result.usd_batch)}"
    if result.usd_cached is not None:
        yield f"if the provider's cache holds shared haystacks: {dollars(result.usd_cached)}"
    if result.minutes is not None:
        yield f"time at the given limits: {result.minutes:,.1f} minutes at least"
    yield (
        f"time at {result.max_connections} connections: {result.seconds_each:,.0f} s for every "
        "second that an answer takes"
    )
    if result.prices is not None:
        yield f"prices: {result.prices.source}"
    if result.images_by and pictured:
        yield f"images: {result.images_by}"
    for one in result.settings:
        if one.refused:
            yield f"refused: {one.setting} has {one.refused}"
    yield from (f"note: {note}" for note in result.notes)


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
