"""Image, literal and paraphrase as a section of a page."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from markupsafe import Markup

from mmneedle.errors import UserError
from mmneedle.reports import linechart, svg
from mmneedle.reports.twins import (
    NAMES,
    details,
    headline,
    meaning_of,
    parts_of,
    rows_of,
    setting_name,
    verdict_of,
)
from mmneedle.reports.versus import probability
from mmneedle.reports.words import percent, points, short
from mmneedle.runlog import Run
from mmneedle.twinned import FORM_OF, Form, Losses, Part, Side, Twinned, twinned

_RIGHT = {
    "exact": "the right image, row and column",
    "index": "the right image",
    "existence": "that a cell is named",
}
_SHOWN: tuple[Part, ...] = ("sight", "meaning", "context", "text", "right")
_HEADS: dict[Part, str] = {
    "sight": "Lost to sight",
    "meaning": "Lost to meaning",
    "context": "Lost to context",
    "text": "Lost in text only",
    "right": "Right in every form",
}
_CLASSES = {"right": "k-kept"}


def sections(runs: Sequence[Run], found: Sequence[Twinned] | None = None) -> list[dict[str, Any]]:
    """What the page shows of every model that has an image run and twins of it among `runs`."""
    twins = twins_among(runs) if found is None else found
    return [_section(of, number) for number, of in enumerate(twins, 1)]


def twins_among(runs: Sequence[Run]) -> list[Twinned]:
    """Each image run with its twins; where one form has several runs there is no telling which."""
    groups: dict[tuple[str, str], dict[Form, list[Run]]] = {}
    for run in runs:
        header = run.header
        if header.task in FORM_OF:
            key = header.called, header.dataset_fingerprint
            groups.setdefault(key, {}).setdefault(FORM_OF[header.task], []).append(run)
    found = []
    for forms in groups.values():
        texts = [forms[form] for form in ("literal", "paraphrase") if form in forms]
        if "literal" not in forms or any(len(several) > 1 for several in texts):
            continue
        for image in forms.get("image", []):
            with suppress(UserError):  # other parts of the samples: nothing to set side by side
                found.append(twinned([image, *(several[0] for several in texts)]))
    return found


def _section(of: Twinned, number: int) -> dict[str, Any]:
    return {
        "id": f"twins-{number}",
        "model": of.model,
        "named": " and ".join(
            (", ".join(NAMES[form] for form in of.forms[:-1]), NAMES[of.forms[-1]])
        ),
        "dataset": short(of.dataset),
        "scorer": of.scorer,
        "right": _RIGHT[of.metric],
        "told": [
            (headline(of, side), " ".join(details(of, side)))
            for side in (of.positives, of.negatives)
        ],
        "notes": of.notes,
        "figures": list(_figures(of)),
        "tables": [_table(of, side) for side in (of.positives, of.negatives) if side.overall.n],
        "test": _test(of),
    }


def _test(of: Twinned) -> str:
    shared = of.positives.overall.n and any(
        part.result.test == "sign_flip"
        for pair in of.positives.pairs
        for part in pair.comparison.settings
    )
    how = (
        "Sign flips over haystacks, which questions share"
        if shared
        else "McNemar’s exact test; over settings, sign flips"
    )
    return f"{how}; Holm’s correction over all pairs of forms, of positives and negatives."


# --------------------------------------------------------------------------- tables


def _table(of: Twinned, side: Side) -> dict[str, Any]:
    parts = parts_of(of.forms, _SHOWN)
    return {
        "heading": "Positives: the photo is there" if side.positive else "Negatives: it is not",
        "forms": [NAMES[form].capitalize() for form in of.forms],
        "parts": [_HEADS[part] for part in parts],
        "rows": [_row(of, one, parts) for one in rows_of(side)],
        "tests": list(_tests(side)),
        "verdicts": [_capital(verdict_of(pair)) for pair in side.pairs],
    }


def _row(of: Twinned, one: Losses, parts: Sequence[Part]) -> dict[str, Any]:
    tokens: Sequence[float | None] = (None,) * len(of.forms)
    if one.setting is not None:
        tokens = of.tokens[one.setting]
    return {
        "name": setting_name(one.setting),
        "all": one.setting is None,
        "n": f"{one.n:,}",
        "unanswered": one.unanswered,
        "rates": [
            (share, "" if count is None else f"{count:,.0f}")
            for share, count in zip(one.rates, tokens, strict=True)
        ],
        "parts": [one.parts[part] for part in parts],
    }


def _tests(side: Side) -> Iterator[tuple[str, ...]]:
    for pair in side.pairs:
        found = list(zip(pair.comparison.settings, pair.setting_holm, strict=True))
        if len(found) > 1:
            found.append((pair.comparison.overall, pair.holm))
        for part, corrected in found:
            result = part.result
            gap = "–"
            if result.difference is not None:
                low, high = result.interval
                gap = f"{points(result.difference)} ({points(low)} to {points(high)})"
            yield (
                "mean" if part.setting is None else setting_name(part.setting),
                NAMES[pair.a],
                NAMES[pair.b],
                f"{result.counts.n:,}",
                f"{result.counts.only_a:,}",
                f"{result.counts.only_b:,}",
                gap,
                probability(result.p),
                probability(corrected),
            )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --------------------------------------------------------------------------- figures


def _figures(of: Twinned) -> Iterator[dict[str, Any]]:
    series = form_lines(of)
    if series:
        counts = [spot.x for line in series for spot in line.spots]
        yield {
            "heading": "The same samples on one axis of tokens, positives",
            "figure": linechart.lines(
                series,
                linechart.tokens_scale(counts, "input tokens a request, mean of a setting"),
                title="Right answers on positives against input tokens",
            ),
            "legend": [(linechart.mark(line.style), line.name) for line in series],
        }
    for side in (of.positives, of.negatives):
        if side.overall.n:
            yield _stack(of, side)


def form_lines(of: Twinned) -> list[linechart.Line]:
    """Each form's right answers on positives against its tokens; forms that told none are left
    out."""
    found = []
    for number, form in enumerate(of.forms):
        spots = []
        for one in of.positives.settings:
            assert one.setting is not None
            share, count = one.rates[number], of.tokens[one.setting][number]
            if share.value is None or not count:
                continue
            hint = f"{setting_name(one.setting)}, {count:,.0f} tokens, {percent(share.value)} %"
            spots.append(linechart.Spot(count, share.value, share.interval, hint))
        if spots:
            ordered = tuple(sorted(spots, key=lambda spot: spot.x))
            found.append(linechart.Line(NAMES[form], ordered, number))
    return found


def _stack(of: Twinned, side: Side) -> dict[str, Any]:
    parts = parts_of(of.forms, _SHOWN)
    bars = [
        svg.Bar(
            setting_name(one.setting),
            tuple(
                (_CLASSES.get(part, f"k-{part}"), meaning_of(part, of.forms), one.parts[part].hits)
                for part in parts
            ),
        )
        for one in rows_of(side)
        if one.n
    ]
    kind = "positives" if side.positive else "negatives"
    told = "; ".join(
        f"{bar.name}: " + ", ".join(f"{label} {count}" for _, label, count in bar.parts)
        for bar in bars
    )
    return {
        "heading": f"Who gets {kind} right",
        "figure": svg.stacks(
            bars, title=f"Samples by who gets them right, {kind}", description=told
        ),
        "legend": [
            (
                Markup('<span class="swatch {}"></span>').format(_CLASSES.get(part, f"k-{part}")),
                meaning_of(part, of.forms),
            )
            for part in parts
        ],
    }
