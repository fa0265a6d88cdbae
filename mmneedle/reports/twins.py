"""Image, literal and paraphrase side by side: sentences, the terminal's tables, JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmneedle.comparing import ALPHA
from mmneedle.reports.versus import aligned, compared_json, probability
from mmneedle.reports.words import label, many, percent, points, short
from mmneedle.statistics.shares import Share
from mmneedle.twinned import FORM_OF, LOST, Against, Form, Losses, Part, Side, Twinned
from mmneedle.types import Setting

NAMES: dict[Form, str] = {
    "image": "images",
    "literal": "literal text",
    "paraphrase": "paraphrased text",
}


def meaning_of(part: Part, forms: Sequence[Form]) -> str:
    """What a part of the samples is, in a few words."""
    several = "paraphrase" in forms
    return {
        "context": "wrong in the literal text too",
        "meaning": "wrong in the paraphrase too, right in the literal text",
        "sight": f"right in {'both texts' if several else 'the literal text'}, wrong in images",
        "text": f"right in images, wrong in {'a text' if several else 'the text'}",
        "right": "right in every form",
    }[part]


def parts_of(forms: Sequence[Form], parts: Sequence[Part] = LOST) -> list[Part]:
    """The parts that there can be in these forms."""
    return [part for part in parts if part != "meaning" or "paraphrase" in forms]


def setting_name(setting: Setting | None) -> str:
    """A setting as tables name it; None: all together."""
    if setting is None:
        return "all"
    return label(setting) + (f" {setting.needles} needles" if setting.needles > 1 else "")


# --------------------------------------------------------------------------- sentences


def headline(of: Twinned, side: Side) -> str:
    """How much of the loss in images is sight, in one plain sentence."""
    all_of, kind = side.overall, _kind(side)
    if not all_of.n:
        return f"No {kind} was answered in every form."
    if not all_of.errors:
        return f"Nothing is lost in images: none of {many(all_of.n, kind)} is wrong."
    shares = [
        f"{percent(rate.value)} % in {NAMES[form]}"
        for form, rate in zip(of.forms, all_of.rates, strict=True)
    ]
    between = f"{kind}s right are {', '.join(shares[:-1])} and {shares[-1]}"
    worse = [_images_against(side, form) for form in of.forms[1:]]
    if worse[0] == 0:
        return f"That images lose anything, the data cannot tell: {between}."
    if worse[0] < 0:
        return f"Images are no loss: {between}."
    if worse[-1] <= 0:
        return (
            "Images lose more than the literal text, but not more than the paraphrased text, so "
            f"that sight loses anything beyond meaning cannot be told: {between}."
        )
    share = all_of.of_errors["sight"]
    low, high = map(percent, share.interval)
    counted = (
        f"{_of(share.hits, share.n)} wrong {kind}s ({percent(share.value)} %, {low} to {high}) are "
        f"right in {_texts(of)}"
    )
    what = _lost_to("sight", of)
    if share.interval[0] > 0.5:
        return f"Most of the loss in images is {what}: {counted}."
    if share.interval[1] < 0.5:
        return f"Less than half of the loss in images is {what}: {counted}."
    return (
        f"Whether {what} is more than half of the loss in images, the data cannot tell: {counted}."
    )


def _images_against(side: Side, form: Form) -> int:
    """1: images are worse than a text form beyond chance, -1: better, 0: cannot be told."""
    pair = side.pair("image", form)
    gap = pair.comparison.overall.result.difference
    if pair.holm >= ALPHA or not gap:
        return 0
    return 1 if gap < 0 else -1


def details(of: Twinned, side: Side) -> list[str]:
    """What else is known of a split, a sentence each."""
    all_of, kind = side.overall, _kind(side)
    if not all_of.n:
        return []
    found = []
    if all_of.errors:
        parts = "; ".join(_part(of, side, part) for part in parts_of(of.forms, _ORDER))
        found.append(
            f"In images {_of(all_of.errors, all_of.n)} {kind}s {_be(all_of.errors)} wrong "
            f"({percent(all_of.errors / all_of.n)} %): {parts}."
        )
    text = all_of.parts["text"].hits
    where = "one of the texts" if "paraphrase" in of.forms else "the text"
    found.append(
        f"{many(text, 'sample')} that {_be(text)} right in images {_be(text)} wrong in {where}."
    )
    if all_of.unanswered:
        sight = all_of.parts["sight"].hits
        lack = "lacks" if all_of.unanswered == 1 else "lack"
        found.append(
            f"{many(all_of.unanswered, 'sample')} more {lack} an answer in one form at least: "
            f"whatever it would be, {sight:,} to {sight + all_of.unanswered:,} of "
            f"{all_of.n + all_of.unanswered:,} are lost to {_lost_to('sight', of)}."
        )
    return found


def sentences(of: Twinned) -> list[str]:
    """What may be said of positives, then of negatives."""
    return [
        " ".join((headline(of, side), *details(of, side))) for side in (of.positives, of.negatives)
    ]


_ORDER: tuple[Part, ...] = ("sight", "meaning", "context")


def _kind(side: Side) -> str:
    return "positive" if side.positive else "negative"


def _of(count: int, n: int) -> str:
    return f"{count:,} of {n:,}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _texts(of: Twinned) -> str:
    return "both texts" if "paraphrase" in of.forms else "the literal text"


def _lost_to(part: Part, of: Twinned) -> str:
    return "sight or meaning" if part == "sight" and "paraphrase" not in of.forms else part


def _part(of: Twinned, side: Side, part: Part) -> str:
    share = side.overall.of_errors[part]
    low, high = map(percent, share.interval)
    return (
        f"{share.hits:,} lost to {_lost_to(part, of)} ({percent(share.value)} % of them, {low} to "
        f"{high}; {meaning_of(part, of.forms)})"
    )


def verdict_of(pair: Against) -> str:
    """What the overall comparison of two forms says, in one plain sentence."""
    result = pair.comparison.overall.result
    one, other = NAMES[pair.a], NAMES[pair.b]
    if result.difference is None:
        return f"{one} and {other} have no common answers: nothing is known."
    gap, (low, high) = result.difference, result.interval
    if pair.holm >= ALPHA:
        return (
            f"the data cannot tell {one} and {other} apart: {points(gap)} points "
            f"({points(low)} to {points(high)})"
        )
    if gap < 0:
        one, other, gap, low, high = other, one, -gap, -high, -low
    return (
        f"more is right in {one} than in {other}: by {points(gap)} points "
        f"({points(low)} to {points(high)})"
    )


# --------------------------------------------------------------------------- terminal


def text(of: Twinned) -> str:
    """Tables with plain sentences."""
    head = (
        f"{of.model}, data set {short(of.dataset)}: the same samples as "
        f"{', '.join(NAMES[form] for form in of.forms)} ({of.scorer}), in per cent with 95 % "
        "intervals, on samples answered in every form. context: "
        f"{meaning_of('context', of.forms)}; "
        + "; ".join(
            f"{part}: {meaning_of(part, of.forms)}"
            for part in parts_of(of.forms, ("meaning", "sight", "text"))
        )
        + "."
    )
    parts = [head]
    for side, sentence in zip((of.positives, of.negatives), sentences(of), strict=True):
        parts.append("\n".join((*_split_table(of, side), *_tests(side), sentence)))
    parts.append("\n".join(_token_table(of)))
    parts.append("\n".join(f"Note: {note}" for note in of.notes))
    return "\n\n".join(parts).rstrip()


def _split_table(of: Twinned, side: Side) -> Iterator[str]:
    what = {"exact": "exact", "index": "index"}.get(side.measure, "existence")
    yield f"{'Positives' if side.positive else 'Negatives'}: {what}"
    shown = parts_of(of.forms, ("context", "meaning", "sight", "text"))
    rows = [["setting", "samples", *(NAMES[form] for form in of.forms), *shown, "lack answers"]]
    for one in rows_of(side):
        rows.append(
            [
                setting_name(one.setting),
                f"{one.n:,}",
                *map(_rate, one.rates),
                *(f"{one.parts[part].hits:,}" for part in shown),
                f"{one.unanswered:,}",
            ]
        )
    yield from aligned(rows, "l" + "r" * (len(rows[0]) - 1))


def rows_of(side: Side) -> list[Losses]:
    """What tables show a row of: each setting, and where there are several all together."""
    return [*side.settings, side.overall] if len(side.settings) > 1 else list(side.settings)


def _rate(share: Share) -> str:
    if share.value is None:
        return "-"
    low, high = share.interval
    return f"{percent(share.value)} ({percent(low)}-{percent(high)})"


def _tests(side: Side) -> Iterator[str]:
    for pair in side.pairs:
        result = pair.comparison.overall.result
        yield (
            f"  {verdict_of(pair)}; only {NAMES[pair.a]} {result.counts.only_a:,}, only "
            f"{NAMES[pair.b]} {result.counts.only_b:,}, p {probability(result.p)}, Holm "
            f"{probability(pair.holm)}"
        )


def _token_table(of: Twinned) -> Iterator[str]:
    rows = [["input tokens", *(NAMES[form] for form in of.forms)]]
    for setting, tokens in of.tokens.items():
        rows.append([setting_name(setting), *("-" if n is None else f"{n:,.0f}" for n in tokens)])
    yield from aligned(rows, "l" + "r" * len(of.forms))
    if any(n is None for tokens in of.tokens.values() for n in tokens):
        yield "-: the model did not tell its tokens."


# --------------------------------------------------------------------------- JSON


def json(of: Twinned) -> dict[str, Any]:
    """All of it as plain JSON values: the stable output described in docs/twins.md."""
    tasks = {form: task for task, form in FORM_OF.items()}
    return {
        "model": of.model,
        "dataset": of.dataset,
        "metric": of.metric,
        "scorer": of.scorer,
        "forms": [
            {"form": form, "task": tasks[form], "run": run}
            for form, run in zip(of.forms, of.runs, strict=True)
        ],
        "tokens": {setting.name: list(tokens) for setting, tokens in of.tokens.items()},
        "positives": _side_json(of, of.positives),
        "negatives": _side_json(of, of.negatives),
        "headlines": [headline(of, side) for side in (of.positives, of.negatives)],
        "sentences": sentences(of),
        "notes": list(of.notes),
    }


def _side_json(of: Twinned, side: Side) -> dict[str, Any]:
    return {
        "measure": side.measure,
        "overall": _losses_json(of, side.overall),
        "settings": [_losses_json(of, one) for one in side.settings],
        "tests": [
            {
                "a": pair.a,
                "b": pair.b,
                "overall": compared_json(pair.comparison.overall, pair.holm),
                "settings": [
                    {"setting": part.setting.name if part.setting else None}
                    | compared_json(part, p)
                    for part, p in zip(pair.comparison.settings, pair.setting_holm, strict=True)
                ],
                "verdict": verdict_of(pair),
            }
            for pair in side.pairs
        ],
    }


def _losses_json(of: Twinned, one: Losses) -> dict[str, Any]:
    return {
        "setting": one.setting.name if one.setting else None,
        "n": one.n,
        "unanswered": one.unanswered,
        "right": {form: share.json() for form, share in zip(of.forms, one.rates, strict=True)},
        "parts": {
            part: share.json()
            for part, share in one.parts.items()
            if part in parts_of(of.forms, tuple(one.parts))
        },
        "of_errors": {part: one.of_errors[part].json() for part in parts_of(of.forms)},
        "patterns": [
            dict(zip(of.forms, right, strict=True)) | {"samples": count}
            for right, count in one.patterns.items()
        ],
    }
