"""All findings about one run, with one correction over all its tests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mmneedle.outcomes import Outcomes, outcomes
from mmneedle.reports.hallucination import (
    calibration,
    detection,
    detection_text,
    formats,
    looking,
    pixels,
    pointing,
    recall,
)
from mmneedle.reports.hallucination.calibration import Calibration
from mmneedle.reports.hallucination.detection import Detection, Existence
from mmneedle.reports.hallucination.evidence import Finding, Levels
from mmneedle.reports.hallucination.formats import Formats
from mmneedle.reports.hallucination.inference import DRAWS
from mmneedle.reports.hallucination.looking import Looking
from mmneedle.reports.hallucination.needles import all_needles
from mmneedle.reports.hallucination.pixels import Pixels
from mmneedle.reports.hallucination.pointing import Pointing
from mmneedle.reports.hallucination.recall import Clearness, Recall
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

LEADS = ("existence", "pointing", "looking")
"""Families that tell what kind of hallucinator a model is."""
_LEAD = 0.3
"""What the heaviest notable finding about places weighs more than the answers it concerns: where
a model points and looks tells more about it than how often it does."""


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's answers tell, counted, tested and put into sentences."""

    scorer: Scorer
    answers: int
    """Needles with an answer, over all settings."""
    levels: Levels
    findings: list[Finding]
    """Most important first; the first three tell what kind of hallucinator the model is."""
    existence: Existence | None
    pointing: Pointing
    looking: Looking
    recall: Recall
    clearness: Clearness
    formats: Formats
    calibration: Calibration | None
    pixels: Pixels


def study(
    run: Run,
    scorer: Scorer = "robust",
    *,
    tables: Mapping[Setting, Outcomes] | None = None,
    draws: int = DRAWS,
) -> Study:
    """Examine a run.

    Args:
        run: the run's folder, opened.
        scorer: whose reading of the answers counts.
        tables: the run's outcomes, where they have been read already.
        draws: of Monte Carlo tests.
    """
    read = outcomes(run) if tables is None else tables
    cells = {setting: run.header.cell_text(setting) for setting in read}
    return examine(read, scorer, run=run, cells=cells, draws=draws)


def examine(
    tables: Mapping[Setting, Outcomes],
    scorer: Scorer = "robust",
    *,
    run: Run | None = None,
    cells: Mapping[Setting, str | None] | None = None,
    draws: int = DRAWS,
) -> Study:
    """The same from outcomes alone; without `run` no text of an answer is looked at."""
    parts = all_needles(tables, scorer)
    existence = detection.existence(parts, draws) if parts else None
    points = pointing.pointing(parts, draws)
    looks = looking.looking(parts)
    places = recall.recall(parts, draws)
    clear = recall.clearness(parts, draws)
    forms = formats.formats(tables, parts, run)
    trust = calibration.calibration(tables, scorer, draws)
    sight = pixels.pixels(parts, cells or {})
    levels = Levels.of(
        [
            existence.tests if existence else {},
            points.tests,
            looks.tests,
            places.tests,
            clear.tests,
            trust.tests if trust else {},
        ]
    )
    points, looks = points.judged(levels), looks.judged(levels)
    answers = sum(map(len, parts))
    found = [
        *(detection_text.findings(existence, levels) if existence else _nothing(tables)),
        *(pointing.findings(points, levels, answers) if answers else ()),
        *(looking.findings(looks, levels, answers) if answers else ()),
        *recall.findings(places, levels),
        *formats.findings(forms, _counts_from_zero(looks)),
        *recall.clearness_findings(clear, levels),
        *pixels.findings(sight),
        *calibration.findings(trust, levels),
    ]
    return Study(
        scorer=scorer,
        answers=answers,
        levels=levels,
        findings=_ordered(found),
        existence=existence,
        pointing=points,
        looking=looks,
        recall=places,
        clearness=clear,
        formats=forms,
        calibration=trust,
        pixels=sight,
    )


def _counts_from_zero(of: Looking) -> bool:
    """Whether cells outside of the haystack are a matter of counting."""
    keys = {one.key for measured in of.measured for one in measured if one.claimed}
    return bool(keys & {"looking.zero_based", "looking.all_zero_based", "looking.all_too_large"})


def _nothing(tables: Mapping[Setting, Outcomes]) -> Iterator[Finding]:
    asked = sum(map(len, tables.values()))
    yield Finding(
        key="existence.untold",
        family="existence",
        verdict="cannot tell: too few",
        text=f"None of {asked:,} questions has an answer, so nothing can be told.",
        weight=1.0,
    )


def _ordered(found: Sequence[Finding]) -> list[Finding]:
    """The model's character first, then what is notable by weight, then what is not by family."""
    families = list(LEADS)
    leads = [
        max(some, key=lambda one: one.weight)
        for family in LEADS[1:]
        if (some := [one for one in found if one.family == family and one.verdict == "notable"])
    ]
    families += [one.family for one in found if one.family not in families]
    order = {"notable": 0, "no evidence": 1, "cannot tell: too few": 1}
    return sorted(
        found,
        key=lambda one: (
            one is not found[0],
            order[one.verdict],
            -one.weight - _LEAD * any(one is lead for lead in leads),
            families.index(one.family),
        ),
    )


# --------------------------------------------------------------------------- JSON


def to_json(of: Study) -> dict[str, Any]:
    """The stable form that `mmneedle findings --json` prints (docs/hallucination.md)."""
    return {
        "scorer": of.scorer,
        "answers": of.answers,
        "tests": of.levels.count,
        "findings": [msgspec.to_builtins(one) for one in of.findings],
        "existence": [] if of.existence is None else [_detection(r) for r in rows(of.existence)],
        "landmarks": [] if of.existence is None else _landmarks(of.existence),
        "pointing": {
            "false_alarms": of.pointing.alarms,
            "outside": of.pointing.outside,
            "counts": {s.name: c.tolist() for s, c in of.pointing.counts.items()},
            "suspects": [one.json() for one in of.pointing.measured],
            "uneven": {
                key: {"p": p, "p_holm": of.levels.adjusted[key]}
                for key, p in of.pointing.uneven.items()
            },
        },
        "looking": {
            "wrong": of.looking.wrong,
            "in_image": of.looking.in_image,
            "asked": of.looking.asked,
            "suspects": [one.json() for some in of.looking.measured for one in some],
            "distance": msgspec.to_builtins(of.looking.distance),
            "offsets": None if of.looking.offsets is None else of.looking.offsets.tolist(),
        },
        "recall": {
            "exact": of.recall.exact.json(),
            "luck": of.recall.luck,
            "places": {
                key: {
                    "low": c.low.json(),
                    "high": c.high.json(),
                    "gap": c.gap,
                    "interval": c.interval,
                }
                for key, c in of.recall.places.items()
            },
            "images": {str(n): [s.json() for s in some] for n, some in of.recall.images.items()},
        },
        "ambiguity": recall.as_json(of.clearness.thirds),
        "format": {
            "asked": of.formats.asked,
            "unanswered": of.formats.unanswered,
            "faults": {name: part.json() for name, part in of.formats.faults.items()},
            "only_robust": of.formats.paper_misses.json(),
            "forms": of.formats.forms,
        },
        "pixels": pixels.as_json(of.pixels),
        "calibration": calibration.as_json(of.calibration),
    }


def rows(of: Existence) -> list[Detection]:
    """A row for each setting, and one for all where there are several."""
    return of.settings if len(of.settings) == 1 else [*of.settings, of.whole]


def _detection(of: Detection) -> dict[str, Any]:
    return {
        "setting": None if of.setting is None else of.setting.name,
        "sensitivity": of.sensitivity.json(),
        "specificity": of.specificity.json(),
        "false_alarms": of.alarms.json(),
        "youden": of.youden,
        "youden_interval": of.youden_interval,
        "precision": of.precision,
        "precision_interval": of.precision_interval,
        "mcc": of.mcc,
        "mcc_interval": of.mcc_interval,
    }


def _landmarks(of: Existence) -> list[dict[str, Any]]:
    return [
        {
            "model": one.model,
            "setting": one.setting.name,
            "youden": one.youden,
            "youden_interval": list(one.interval),
            "source": one.source,
        }
        for one in of.landmarks
    ]
