"""A model's answers to the same haystacks as images and as text: what only sight loses.

Every sample is right or wrong in each form that it was asked in. An error in images is one of
three, each sample exactly one:

    context   wrong in the literal twin too, where the very caption stands in the cell
    meaning   right there, but wrong in the paraphrase, which shows another caption of the photo
    sight     right in the text forms, wrong in images

Without a paraphrase twin the last two cannot be told apart and count as sight. What is right in
images and wrong in a text is counted beside them (`text`), so that the parts add up to all samples
and a difference between forms can be checked: errors in images less errors in a text are what is
lost in images alone less what is lost in that text alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.comparing import (
    TWINS,
    Columns,
    Comparison,
    Measure,
    compare,
    in_split,
    verdicts,
    why_not,
)
from mmneedle.errors import UserError
from mmneedle.outcomes import UNDEFINED, Outcomes, outcomes
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.statistics.comparison import holm
from mmneedle.statistics.shares import Share, share
from mmneedle.types import Setting

Form = Literal["image", "literal", "paraphrase"]
FORMS: tuple[Form, ...] = get_args(Form)
FORM_OF: dict[str, Form] = dict(zip(TWINS, FORMS, strict=True))
"""Task -> form."""
Part = Literal["context", "meaning", "sight", "text", "right"]
"""What a sample is, by who gets it right; each sample is one of them. right: in every form."""
LOST: tuple[Part, ...] = ("context", "meaning", "sight")
"""Parts that are wrong in images."""
Metric = Literal["exact", "index", "existence"]
"""What is right on positives; on negatives it is always that nothing was named (existence)."""


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """One setting's samples of one split, or all settings' together, by who gets them right."""

    setting: Setting | None
    """None: the counts of all settings added up."""
    n: int
    """Samples that have an answer in every form."""
    unanswered: int
    """Samples that were asked in every form and lack an answer in one at least."""
    patterns: dict[tuple[bool, ...], int]
    """Right in each form, in their order -> samples."""
    rates: tuple[Share, ...]
    """Right answers of each form, on these samples."""
    parts: dict[Part, Share]
    """Of all n samples; they add up to n."""
    of_errors: dict[Part, Share]
    """LOST, as shares of the errors in images."""

    @property
    def errors(self) -> int:
        """Samples that are wrong in images."""
        return self.n - self.rates[0].hits


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """Two forms compared on the samples that were answered in both."""

    a: Form
    b: Form
    comparison: Comparison
    holm: float
    """The overall p-value, corrected for all comparisons of forms, of both splits."""
    setting_holm: tuple[float, ...]
    """Likewise of each setting, for all comparisons at all settings."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of positives, or of negatives."""

    positive: bool
    measure: Measure
    settings: tuple[Losses, ...]
    overall: Losses
    pairs: tuple[Against, ...]

    def pair(self, a: Form, b: Form) -> Against:
        """The comparison of two forms, in the order of FORMS."""
        return next(pair for pair in self.pairs if (pair.a, pair.b) == (a, b))


class Twinned(msgspec.Struct, frozen=True, kw_only=True):
    """One model's runs in two or three forms on one data set."""

    model: str
    dataset: str
    forms: tuple[Form, ...]
    runs: tuple[str, ...]
    """Folder of each form's run."""
    metric: Metric
    scorer: Scorer
    tokens: dict[Setting, tuple[float | None, ...]]
    """Mean input tokens of each form's requests, as the model counted them; None where it did
    not tell."""
    positives: Side
    negatives: Side
    notes: tuple[str, ...]


def twinned(runs: Sequence[Run], metric: Metric = "exact", scorer: Scorer = "robust") -> Twinned:
    """Compare a model's image run with its text twins, and split what images lose.

    Args:
        runs: one asked with images, one as literal twin, and where there is one as paraphrase
            twin; in any order.
        metric: what is right on positives.
        scorer: who says so.

    Raises:
        UserError: other runs than these, of several models or data sets, or without a common
            sample.
    """
    runs = _in_order(runs)
    forms = tuple(FORM_OF[run.header.task] for run in runs)
    tables = [outcomes(run) for run in runs]
    common = [setting for setting in tables[0] if all(setting in table for table in tables)]
    sides = [
        _side(forms, tables, common, measure, positive, scorer)
        for positive, measure in ((True, _MEASURES[metric]), (False, "specificity"))
    ]
    positives, negatives = _corrected(sides)
    if not positives.overall.n + negatives.overall.n:
        raise UserError(
            f"{', '.join(str(run.folder) for run in runs)}: no sample was answered in every form; "
            "run the same settings and --limit"
        )
    return Twinned(
        model=runs[0].header.called,
        dataset=runs[0].header.dataset_fingerprint,
        forms=forms,
        runs=tuple(str(run.folder) for run in runs),
        metric=metric,
        scorer=scorer,
        tokens={at: tuple(mean_tokens(table[at]) for table in tables) for at in common},
        positives=positives,
        negatives=negatives,
        notes=tuple(_notes(runs, (positives, negatives))),
    )


_MEASURES: dict[Metric, Measure] = {
    "exact": "exact",
    "index": "index",
    "existence": "sensitivity",
}


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Images, literal, paraphrase. Raises UserError."""
    found: dict[Form, Run] = {}
    for run in runs:
        task = run.header.task
        if task not in FORM_OF:
            raise UserError(f"{run.folder}: its task is {task}, neither images nor a text twin")
        other = found.setdefault(FORM_OF[task], run)
        if other is not run:
            raise UserError(
                f"{other.folder} and {run.folder} are both of the task {task}: give one of each"
            )
    for form, how in (("image", "the images"), ("literal", "--task twin-literal")):
        if form not in found:
            raise UserError(
                f"twins needs a run of {how}: mmneedle run DIR --model M --log RUN"
                f"{'' if form == 'image' else ' ' + how}"
            )
    ordered = [found[form] for form in FORMS if form in found]
    first = ordered[0]
    for other in ordered[1:]:
        if other.header.called != first.header.called:
            raise UserError(
                f"{first.folder} and {other.folder} are of different models "
                f"({first.header.called} and {other.header.called}): twins compare forms of one"
            )
    for one, other in combinations(ordered, 2):
        reason = why_not(one.header, other.header)
        if reason:
            raise UserError(f"{one.folder} and {other.folder} are no twins: {reason}")
    return ordered


# --------------------------------------------------------------------------- counting


def _side(
    forms: Sequence[Form],
    tables: Sequence[Columns],
    settings: Sequence[Setting],
    measure: Measure,
    positive: bool,
    scorer: Scorer,
) -> Side:
    found = [_matched([table[at] for table in tables], measure, scorer) for at in settings]
    shared = any(table[at].shared for table in tables for at in settings)
    return Side(
        positive=positive,
        measure=measure,
        settings=tuple(
            _losses(at, right, groups if shared else None, missing)
            for at, (right, groups, missing) in zip(settings, found, strict=True)
        ),
        overall=_together(found, len(forms), shared),
        pairs=tuple(
            Against(
                a=forms[i],
                b=forms[j],
                comparison=compare(tables[i], tables[j], measure, scorer),
                holm=1.0,
                setting_holm=(),
            )
            for i, j in combinations(range(len(forms)), 2)
        ),
    )


_Matched = tuple[NDArray[np.bool_], NDArray[np.int64], int]
"""Right in each form, shape (n, forms); their haystacks; samples that lack an answer."""


def _matched(tables: Sequence[Outcomes], measure: Measure, scorer: Scorer) -> _Matched:
    numbers = tables[0].number
    for table in tables[1:]:
        numbers = np.intersect1d(numbers, table.number, assume_unique=True)
    rows = [np.searchsorted(table.number, numbers) for table in tables]
    asked = in_split(tables[0], measure)[rows[0]]
    verdict = np.column_stack(
        [
            verdicts(table, measure, scorer)[at[asked]]
            for table, at in zip(tables, rows, strict=True)
        ]
    )
    known = (verdict != UNDEFINED).all(axis=1)
    haystacks = tables[0].haystack[rows[0][asked]][known]
    return verdict[known] == 1, haystacks, int(np.count_nonzero(~known))


def _together(found: Sequence[_Matched], forms: int, shared: bool) -> Losses:
    """All settings' samples; haystacks of different settings are different ones."""
    right = np.concatenate([np.zeros((0, forms), np.bool_), *(one for one, _, _ in found)])
    groups = np.concatenate(
        [np.zeros(0, np.int64), *(at + (k << 40) for k, (_, at, _) in enumerate(found))]
    )
    missing = sum(lacking for _, _, lacking in found)
    return _losses(None, right, groups if shared else None, missing)


def _losses(
    setting: Setting | None,
    right: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
    missing: int,
) -> Losses:
    image, literal, texts = right[:, 0], right[:, 1], right[:, 1:].all(axis=1)
    which: dict[Part, NDArray[np.bool_]] = {
        "context": ~image & ~literal,
        "meaning": ~image & literal & ~texts,
        "sight": ~image & texts,
        "text": image & ~texts,
        "right": image & texts,
    }
    return Losses(
        setting=setting,
        n=len(right),
        unanswered=missing,
        patterns=dict(sorted(Counter(map(tuple, right.tolist())).items(), reverse=True)),
        rates=tuple(share(right[:, form], groups) for form in range(right.shape[1])),
        parts={part: share(one, groups) for part, one in which.items()},
        of_errors={
            part: share(which[part][~image], None if groups is None else groups[~image])
            for part in LOST
        },
    )


def mean_tokens(table: Outcomes) -> float | None:
    """Mean input tokens of a setting, as the model counted them; None where it did not."""
    known = table.input_tokens[~np.isnan(table.input_tokens)]
    return float(known.mean()) if len(known) else None


def _corrected(sides: Sequence[Side]) -> list[Side]:
    """With Holm's correction over all comparisons of forms, positives and negatives together."""
    pairs = [pair for side in sides for pair in side.pairs]
    overall = iter(holm([pair.comparison.overall.result.p for pair in pairs]))
    single = iter(holm([part.result.p for pair in pairs for part in pair.comparison.settings]))
    return [
        msgspec.structs.replace(
            side,
            pairs=tuple(
                msgspec.structs.replace(
                    pair,
                    holm=next(overall),
                    setting_holm=tuple(next(single) for _ in pair.comparison.settings),
                )
                for pair in side.pairs
            ),
        )
        for side in sides
    ]


# --------------------------------------------------------------------------- notes


def _notes(runs: Sequence[Run], sides: Sequence[Side]) -> list[str]:
    """What else a reader should know, a plain sentence each."""
    found = []
    if len(runs) < len(FORMS):
        found.append(
            "No paraphrase twin was given: what is lost because of meaning counts as sight."
        )
    differ = _other_parameters([run.header.adapter for run in runs])
    if differ:
        found.append(
            f"The runs' parameters differ ({', '.join(differ)}): a difference between forms may be "
            "theirs."
        )
    plans = [{name: run.header.span(name) for name in run.header.plan} for run in runs]
    if any(plan != plans[0] for plan in plans):
        found.append("The runs were not asked all the same samples: only common ones count.")
    if any(run.header.stopped for run in runs):
        found.append(
            "A rule stopped a run early; intervals and p-values take the number of samples as "
            "fixed beforehand."
        )
    if any(len({one.n for one in side.settings}) > 1 for side in sides):
        found.append(
            "Settings have different numbers of samples: the tests weigh settings alike, the split "
            "weighs samples alike."
        )
    return found


_LOOKS = {"base_url", "detail"}
"""Parts of an adapter's fingerprint that text does not depend on."""


def _other_parameters(adapters: Sequence[Mapping[str, object]]) -> list[str]:
    names = sorted({name for one in adapters for name in one} - _LOOKS)
    return [
        name for name in names if any(one.get(name) != adapters[0].get(name) for one in adapters)
    ]
