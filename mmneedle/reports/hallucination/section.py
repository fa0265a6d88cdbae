"""The section of the report page: what its template needs, of one run."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmneedle.reports.hallucination import drawings
from mmneedle.reports.hallucination.evidence import STOPPED, Finding, typeset
from mmneedle.reports.hallucination.examined import examine_runs
from mmneedle.reports.hallucination.formats import FAULTS
from mmneedle.reports.hallucination.inference import LEVEL
from mmneedle.reports.hallucination.pixels import sentence
from mmneedle.reports.hallucination.study import Study, rows
from mmneedle.reports.hallucination.suspects import Measured
from mmneedle.reports.panels import named
from mmneedle.reports.words import many, percent, signed
from mmneedle.runlog import Run
from mmneedle.statistics import wilson
from mmneedle.statistics.shares import Share

LEADS = 3
"""Findings that stand at the top: what kind of hallucinator it is."""
_WORDS = {
    "looking.transposed": "row and column swapped",
    "looking.zero_based": "row and column both one too small",
    "looking.row_off": "row off by one, column right",
    "looking.column_off": "column off by one, row right",
    "looking.neighbour": "a neighbouring cell",
    "looking.same_row": "in the right row",
    "looking.same_column": "in the right column",
    "looking.all_zero_based": "image, row, column one too small",
    "looking.all_too_large": "image, row, column one too large",
    "looking.previous_image_cell": "right place, one image too early",
    "looking.next_image_cell": "right place, one image too late",
    "looking.other_image_cell": "right place in another image",
    "looking.previous_image": "in the image before",
    "looking.next_image": "in the image after",
    "pointing.repeated": "one cell named again and again",
}
"""Short names for figures."""
_CLASSES = {"notable": "notable", "no evidence": "none", "cannot tell: too few": "few"}


def sections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Findings, figures and tables about each run, by the robust reading."""
    examined = examine_runs(runs, "robust")
    return [
        {
            **_section(of),
            "stopped": STOPPED if run.header.stopped else "",
            "resized": [
                {
                    "class": "notable" if pair.adjusted < LEVEL else "none",
                    "verdict": "notable" if pair.adjusted < LEVEL else "no evidence",
                    "text": typeset(sentence(pair)),
                }
                for model, pair in examined.resized
                if model == run.header.called
            ],
        }
        for _, run, of in examined.runs
    ]


def _section(of: Study) -> dict[str, Any]:
    return {
        "leads": [_shown(one) for one in of.findings[:LEADS]],
        "rest": [_shown(one) for one in of.findings[LEADS:]],
        "tests": of.levels.count,
        "figures": list(_figures(of)),
        "detection": list(_detection(of)),
        "faults": list(_faults(of)),
        "forms": list(of.formats.forms.items()),
    }


def _shown(one: Finding) -> dict[str, str]:
    return {
        "key": one.key,
        "class": _CLASSES[one.verdict],
        "verdict": one.verdict,
        "text": typeset(one.text),
    }


def _figures(of: Study) -> Iterator[dict[str, Any]]:
    """Each: heading, figure, legend (of the template's kinds), note."""
    if of.existence is not None and of.existence.whole.youden is not None:
        marks = of.existence.landmarks
        yield _figure(
            "Does the answer tell what is there?",
            drawings.youden(rows(of.existence), marks),
            "youden published" if marks else "youden",
            "Youden’s J: sensitivity + specificity − 1.",
        )
    if of.existence is not None and len(of.existence.sizes) > 1:
        yield _figure(
            "False alarms by the haystack’s size",
            drawings.alarms(of.existence.sizes),
            "interval",
            "A cell is named though nothing is there.",
        )
    yield from _suspects(
        of.pointing.measured,
        "Named when nothing is there",
        "Of the cells named. Photos stand at random places, so all cells are alike but for habit.",
    )
    for images, counts in drawings.images_of(of.pointing.counts).items():
        total = int(counts.sum())
        shares = [Share(int(n), total, wilson(int(n), total)) for n in counts]
        yield _figure(
            f"Image named when nothing is there, of {images}",
            drawings.by_image(images, shares),
            "",
            f"{many(total, 'cell')} named.",
        )
    near, far = of.looking.measured
    yield from _suspects(near, "Wrong cell of the right image", "How it lies to the true cell.")
    if of.looking.offsets is not None:
        total = int(of.looking.offsets.sum())
        yield _figure(
            "Steps from the true cell",
            drawings.offsets(of.looking.offsets),
            "",
            f"{many(total, 'wrong cell')} of the right image within three steps, in per cent. Rows "
            "count down, columns to the right; the true cell is in the middle.",
        )
    yield from _suspects(far, "Another image", "How the given cell lies to the true one.")
    if of.clearness.thirds:
        yield _figure(
            "Ambiguous captions",
            drawings.thirds(of.clearness.thirds),
            "thirds",
            "By how close another photo’s captions come.",
        )
    if of.calibration is not None:
        yield _figure(
            "Can its probabilities be trusted?",
            drawings.reliability(of.calibration),
            "reliability",
            _trust(of),
        )


def _figure(heading: str, drawn: Any, legend: str, note: str) -> dict[str, Any]:
    return {"heading": heading, "figure": drawn, "legend": legend.split(), "note": note}


def _suspects(measured: Sequence[Measured], heading: str, note: str) -> Iterator[dict[str, Any]]:
    if any(one.tellable for one in measured):
        yield _figure(
            heading,
            drawings.suspects(measured, heading, _WORDS),
            "suspects claimed" if any(one.claimed for one in measured) else "suspects",
            note,
        )


def _trust(of: Study) -> str:
    found = of.calibration
    assert found is not None
    area = "" if found.auroc is None else f" AUROC {found.auroc.value:.2f}."
    return (
        f"{many(found.n, 'sample')} in bins of equal size. Expected calibration error "
        f"{percent(found.ece)} points ({percent(found.ece_expected)} were they right); Brier "
        f"score {found.brier:.3f}.{area}"
    )


# --------------------------------------------------------------------------- tables


def _detection(of: Study) -> Iterator[list[tuple[str, str]]]:
    """Of each setting: figure and interval by column."""
    if of.existence is None:
        return
    for row in rows(of.existence):
        yield [
            ("all" if row.setting is None else named(row.setting), ""),
            _share(row.sensitivity),
            _share(row.specificity),
            _pair(row.youden, row.youden_interval, signed),
            _pair(row.precision, row.precision_interval, percent),
            _pair(row.mcc, row.mcc_interval, signed),
        ]


def _share(part: Share) -> tuple[str, str]:
    return _pair(part.value, part.interval if part.n else None, percent)


def _pair(value: float | None, interval: tuple[float, float] | None, write: Any) -> tuple[str, str]:
    if value is None or interval is None:
        return "–", ""
    between = "–" if write is percent else " to "
    return write(value), f"{write(interval[0])}{between}{write(interval[1])}"


def _faults(of: Study) -> Iterator[tuple[str, str, str]]:
    """Fault, count, share."""
    for name, part in of.formats.faults.items():
        if part.hits:
            yield FAULTS[name], f"{part.hits:,} of {part.n:,}", f"{percent(part.value)} %"
    missed = of.formats.paper_misses
    if missed.hits:
        text = "right by robust, wrong by paper (of those right)"
        yield text, f"{missed.hits:,} of {missed.n:,}", f"{percent(missed.value)} %"
