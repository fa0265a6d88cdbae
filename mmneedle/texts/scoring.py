"""Scores of text tasks: is what was expected in the answer? No judge model, no string equality.

An expected string counts as given where it stands in the answer as whole words (`matching`).
Articles and punctuation do not matter for tasks of question answering, whose published measure
drops them (P. Rajpurkar et al., SQuAD, arXiv:1606.05250).

A sample's score, by the task's rule: `all` is the share of its needles that were given (the
recall of RULER's string_match_all), `any` is 1 where one of them was (its string_match_part).
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from mmneedle.runlog import Run
from mmneedle.statistics import clustered, wilson
from mmneedle.tasks.text import maker_class
from mmneedle.texts.making import Rule
from mmneedle.texts.matching import forms, given
from mmneedle.types import ANSWERED, Response, TextSetting, split_sample_id

LOOSE = frozenset({"multidoc", "ruler.qa_1", "ruler.qa_2", "latent"})
"""Tasks whose answers are phrases of natural language: articles and punctuation are dropped."""


class TextScore(msgspec.Struct, frozen=True):
    """What one response is worth."""

    value: float
    """0..1."""
    given: tuple[bool, ...]
    """Needle by needle, whether its answer was given."""


def score_text(
    setting: TextSetting, expected: Iterable[Iterable[str]], response: Response
) -> TextScore | None:
    """Score one response; None where infrastructure failed or the request was rejected.

    A cut-off answer counts with what it holds: the answer that is asked for is short and comes
    first; a model that never got to it gave none.
    """
    if response.status not in ANSWERED:
        return None
    loose = setting.task in LOOSE or setting.task.partition(".")[0] in LOOSE
    text = forms(response.text or "", loose)
    found = tuple(given((forms(word, loose) for word in words), text) for words in expected)
    return TextScore(_value(rule_of(setting), found), found)


def _value(rule: Rule, given: tuple[bool, ...]) -> float:
    if rule == "any":
        return float(any(given))
    return sum(given) / len(given) if given else 0.0


@lru_cache(maxsize=256)
def _rule(task: str) -> Rule:
    maker = maker_class(task.partition(".")[0])
    variants: dict[str, Rule] = getattr(maker, "rules", {})
    return variants.get(task.partition(".")[2], maker.rule)


def rule_of(setting: TextSetting) -> Rule:
    """How a setting's needles make its score."""
    return _rule(setting.task)


# --------------------------------------------------------------------------- rows


class TextRow(msgspec.Struct, kw_only=True):
    """One model at one length and depth of a text task."""

    model: str
    task: str
    """The task with its variant, such as ruler.vt."""
    length: int
    depth: float | None
    """0..1 of the haystack before the needle; None: no single place."""
    needles: int
    n: int
    """Samples asked for."""
    answered: int
    score: float | None = None
    """Mean of the samples' scores, 0..1; None where none was answered."""
    interval: tuple[float, float] | None = None
    """95 %: Wilson's; for several needles a cluster bootstrap with samples as clusters."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """The score if the samples without an answer were all wrong, and all right."""
    statuses: dict[str, int] = {}
    tokens: float | None = None
    """Mean input tokens as the model counted them; None where it did not."""
    run: str = ""
    dataset: str = ""


def score_text_run(run: Run) -> list[TextRow]:
    """A row for each setting of a text run, in the order of its plan."""
    counts: dict[str, _Counts] = {name: _Counts() for name in run.header.plan}
    for record in run.outcomes():
        setting, _ = split_sample_id(record.sample)
        assert isinstance(setting, TextSetting)
        counts[setting.name].add(setting, record.expected or (), record.response)
    return [
        counts[name].row(TextSetting.parse(name), run, asked)
        for name in run.header.plan
        if (asked := run.header.asked(name, True) + run.header.asked(name, False))
    ]


class _Counts:
    def __init__(self) -> None:
        self.values: list[float] = []
        self.hits: list[int] = []
        self.of: list[int] = []
        self.statuses: Counter[str] = Counter()
        self.tokens: list[int] = []

    def add(
        self, setting: TextSetting, expected: tuple[tuple[str, ...], ...], response: Response
    ) -> None:
        self.statuses[response.status] += 1
        found = score_text(setting, expected, response)
        if found is None:
            return
        whole = rule_of(setting) == "any"
        self.values.append(found.value)
        self.hits.append(int(found.value) if whole else sum(found.given))
        self.of.append(1 if whole else len(found.given))
        if response.usage is not None and response.usage.input_tokens is not None:
            self.tokens.append(response.usage.input_tokens)

    def row(self, setting: TextSetting, run: Run, asked: int) -> TextRow:
        answered, total = len(self.values), sum(self.values)
        statuses = dict(sorted(self.statuses.items()))
        seen = self.statuses.total()
        if asked > seen:
            statuses["missing"] = asked - seen
        return TextRow(
            model=run.header.called,
            task=setting.task,
            length=setting.length,
            depth=None if setting.depth < 0 else setting.depth / 1000,
            needles=setting.needles,
            n=asked,
            answered=answered,
            score=total / answered if answered else None,
            interval=self._interval(),
            bounds=(total / asked, (total + asked - answered) / asked),
            statuses=statuses,
            tokens=sum(self.tokens) / len(self.tokens) if self.tokens else None,
            run=str(run.folder),
            dataset=run.header.dataset_fingerprint,
        )

    def _interval(self) -> tuple[float, float] | None:
        if not self.values:
            return None
        if max(self.of) == 1:
            return wilson(sum(self.hits), len(self.hits))
        return clustered(self.hits, self.of)


def text_rows_json(rows: Iterable[TextRow]) -> list[dict[str, Any]]:
    """Rows as plain JSON values."""
    return [msgspec.to_builtins(row) for row in rows]
