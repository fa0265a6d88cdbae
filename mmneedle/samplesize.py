"""What `mmneedle plan` tells: how many samples it takes to see a difference, and to know a figure.

Numbers are of samples that a measure is about, in one setting; Exact is about positives, so that
a data set needs twice as many samples. The arithmetic is in statistics/planning.py.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mmneedle.comparing import Compared, Measure, compare_runs
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.statistics import planning, wilson

WIDTHS = (0.01, 0.02, 0.03, 0.05)
"""Half-widths that one model's table has."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be seen. Shares are 0..1."""

    detect: float
    """The difference between two models."""
    power: float = 0.8
    alpha: float = 0.05
    accuracy: float = 0.5
    """The mean of the two models' accuracies."""
    discordant: float | None = None
    """The share of samples that one of them alone gets right; None: as if they erred
    independently."""
    models: int = 2
    """Models of a leaderboard, each compared with each other one."""
    settings: int = 1
    """Settings whose mean is compared."""
    questions: int = 1
    """Questions a haystack."""
    alike: float = 0.0
    """The correlation of a haystack's samples."""
    measure: Measure = "exact"

    @property
    def comparisons(self) -> int:
        """Pairs of models."""
        return self.models * (self.models - 1) // 2

    @property
    def level(self) -> float:
        """Alpha of one comparison that is enough whatever Holm's correction makes of the others."""
        return self.alpha / self.comparisons

    @property
    def split(self) -> bool:
        """Whether the measure is about half of the samples."""
        return self.measure != "existence"

    @property
    def effect(self) -> float:
        """The design effect of shared haystacks."""
        size = self.questions / 2 if self.split else self.questions
        return planning.design_effect(max(1.0, size), self.alike)


class Pilot(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs tell about a comparison like theirs."""

    n: int
    """Samples that both answered."""
    accuracy: float
    discordant: float
    discordant_upper: float
    """The upper end of its 95 % interval."""
    effect: float
    """By how much their shared haystacks widened the difference's variance; 1: not shared."""
    settings: int
    questions: int
    """Questions a haystack."""


def pilot(runs: Sequence[Run], measure: Measure, scorer: Scorer = "robust") -> Pilot:
    """Read two runs. Raises UserError where they cannot be compared, or have nothing in common."""
    if len(runs) != 2:
        raise UserError("a pilot is two runs on the same samples, such as runs/ONE runs/OTHER")
    found = compare_runs(runs, measure, scorer).pairs[0].comparison
    result = found.overall.result
    n = result.counts.n
    if not n or result.rate_a is None or result.rate_b is None:
        raise UserError(f"{runs[0].folder} and {runs[1].folder} have no answers in common")
    differing = result.counts.only_a + result.counts.only_b
    return Pilot(
        n=n,
        accuracy=(result.rate_a + result.rate_b) / 2,
        discordant=differing / n,
        discordant_upper=wilson(differing, n)[1],
        effect=_effect(found.settings),
        settings=sum(part.result.counts.n > 0 for part in found.settings),
        questions=runs[0].header.questions,
    )


def _effect(parts: Sequence[Compared]) -> float:
    """The mean design effect over settings whose samples share haystacks, at least 1."""
    found = [part.result.effect for part in parts if part.result.effect is not None]
    return max(1.0, sum(found) / len(found)) if found else 1.0


def plan(question: Question, known: Pilot | None = None) -> dict[str, Any]:
    """Answer a question, as plain JSON values (docs/statistics.md).

    Args:
        question: what shall be seen; a pilot takes the place of its accuracy, discordant share,
            settings and haystacks.
        known: a pilot.

    Raises:
        UserError: on what cannot be.
    """
    if known is not None:
        question = msgspec.structs.replace(
            question,
            accuracy=known.accuracy,
            settings=known.settings,
            questions=known.questions,
        )
    _check(question)
    try:
        return _planned(question, known)
    except ValueError as error:
        points = 100 * question.detect
        raise UserError(f"--detect {points:g} takes {error}: ask for a larger difference") from None


def _planned(question: Question, known: Pilot | None) -> dict[str, Any]:
    one, other = question.accuracy + question.detect / 2, question.accuracy - question.detect / 2
    effect = question.effect if known is None else known.effect
    result: dict[str, Any] = {
        "question": msgspec.to_builtins(question),
        "pilot": msgspec.to_builtins(known),
        "comparisons": question.comparisons,
        "alpha_each": question.level,
        "design_effect": effect,
        "paired": [],
        "single": [],
    }
    for why, share in _shares(question, known, one, other):
        n = planning.paired_samples(question.detect, share, question.power, question.level)
        result["paired"].append(
            {"why": why, "discordant": share} | _needed(n, question, effect, question.settings)
        )
    n = planning.unpaired_samples(one, other, question.power, question.level)
    result["unpaired"] = _needed(n, question, effect, question.settings)
    for width in sorted({*WIDTHS, question.detect}):
        fixed = planning.interval_samples(width, question.accuracy)
        ruled = planning.sequential_samples(width, question.accuracy)
        result["single"].append(
            {
                "halfwidth": width,
                "fixed": _needed(fixed, question, effect),
                "by_rule": _needed(ruled, question, effect),
            }
        )
    return result


def _check(question: Question) -> None:
    half = question.detect / 2
    if not 0 < question.detect < 0.5:
        raise UserError("--detect takes points between 0 and 50, such as 3")
    if not (0 < question.power < 1 and 0 < question.alpha < 1):
        raise UserError("--power and --alpha are shares between 0 and 1, such as 0.8 and 0.05")
    if not 0 <= question.accuracy <= 1:
        raise UserError(
            f"--accuracy takes a share between 0 and 1, such as 0.5, not {question.accuracy:g}"
        )
    if not half <= question.accuracy <= 1 - half:
        raise UserError(
            f"two models cannot differ by {100 * question.detect:g} points around an accuracy of "
            f"{100 * question.accuracy:g} %: name another --accuracy"
        )
    if question.discordant is not None and not question.detect <= question.discordant <= 1:
        raise UserError(
            "--discordant, the share of samples that one model alone gets right, is at least the "
            f"difference to be seen ({question.detect:g}) and at most 1"
        )
    if question.models < 2 or question.settings < 1 or question.questions < 1:
        raise UserError("--models takes 2 or more, --settings and --questions-per-haystack 1")
    if not 0 <= question.alike <= 1:
        raise UserError("--alike takes a correlation between 0 and 1")


def _shares(
    question: Question, known: Pilot | None, one: float, other: float
) -> Iterator[tuple[str, float]]:
    """Shares of discordant samples to plan for, each with why."""
    least = question.detect
    if known is not None:
        yield "pilot", max(least, known.discordant)
        yield "pilot_upper", max(least, known.discordant_upper)
    elif question.discordant is not None:
        yield "given", question.discordant
    else:
        independent = planning.discordant_share(one, other)
        yield "independent", max(least, independent)
        yield "half_of_it", max(least, independent / 2)


def _needed(n: int, question: Question, effect: float, settings: int = 1) -> dict[str, Any]:
    """A number of independent samples as the data set that has them, in each of some settings."""
    samples = math.ceil(n * effect / settings)
    whole = 2 * samples if question.split else samples + samples % 2
    group = question.questions if question.questions > 1 else 2
    return {"samples": samples, "build": -(-whole // group) * group}


# --------------------------------------------------------------------------- for people


def text(found: dict[str, Any]) -> str:
    """The plan as a page of text."""
    question = msgspec.convert(found["question"], Question)
    lines = [*_heading(found, question), "", *_paired(found, question), ""]
    lines += [f"Asked different samples: {_told(found['unpaired'], question)}, of each model.", ""]
    lines += _single(found, question)
    return "\n".join(lines)


def _heading(found: dict[str, Any], question: Question) -> Iterator[str]:
    yield (
        f"To see a difference of {100 * question.detect:g} points in {question.measure} around "
        f"{100 * question.accuracy:.4g} %, with {100 * question.power:g} % power at alpha "
        f"{100 * question.alpha:g} %"
        + (f", in the mean over {question.settings} settings:" if question.settings > 1 else ":")
    )
    if question.comparisons > 1:
        yield (
            f"({question.models} models are {question.comparisons} comparisons: each is planned "
            f"for alpha {100 * question.level:.2g} %, which is enough for Holm's correction.)"
        )
    if found["design_effect"] > 1:
        yield (
            f"(Questions share haystacks: {found['design_effect']:.2f} times as many samples as "
            "with a haystack each.)"
        )


_WHY = {
    "independent": "if the models err independently",
    "half_of_it": "if they disagree half as often",
    "given": "as given",
    "pilot": "as in the pilot",
    "pilot_upper": "as the pilot leaves open",
}


def _paired(found: dict[str, Any], question: Question) -> Iterator[str]:
    yield "Asked the same samples (McNemar's exact test; one model alone is right on this share):"
    for case in found["paired"]:
        share = f"{100 * case['discordant']:.1f} %"
        yield f"  {_WHY[case['why']]:<32} {share:>7}  {_told(case, question)}"
    if found["pilot"]:
        yield f"  (pilot: {found['pilot']['n']:,} samples that both runs answered)"


def _told(needed: dict[str, Any], question: Question) -> str:
    if not question.split:
        noun = "samples"
    else:
        noun = "negatives" if question.measure == "specificity" else "positives"
    each = " a setting" if question.settings > 1 else ""
    return f"{needed['samples']:,} {noun}{each} (build --samples {needed['build']})"


def _single(found: dict[str, Any], question: Question) -> Iterator[str]:
    yield (
        f"One model alone in one setting, 95 % interval at {100 * question.accuracy:.4g} % (build "
        "--samples):"
    )
    yield f"  {'points':<8}{'fixed beforehand':>18}{'stopped by --until-halfwidth':>32}"
    for case in found["single"]:
        width = f"±{100 * case['halfwidth']:g}"
        fixed, ruled = case["fixed"]["build"], case["by_rule"]["build"]
        yield f"  {width:<8}{fixed:>18,}{'about ' + format(ruled, ','):>32}"
