"""Scores: what a response is worth against the truth, and many of them as rows.

Existence, Index and Exact are the paper's (arXiv:2406.11230v2, section 3.3), with its variants
for several needles. `paper` reproduces the published script's string equality to the last digit,
`robust` scores what the model meant. docs/scores.md has the definitions in full.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from mmneedle.answers import PaperAnswer, is_refusal, read_paper, read_robust
from mmneedle.costs import Spending
from mmneedle.reading import UNPARSED
from mmneedle.runlog import Run, Stop
from mmneedle.statistics import clustered, wilson
from mmneedle.types import (
    ANSWERED,
    Answer,
    ErrorKind,
    Location,
    Reading,
    Response,
    Setting,
    parse_sample_id,
)

Scorer = Literal["robust", "paper"]
Truth = tuple[Location | None, ...]

SCORERS: tuple[Scorer, ...] = ("robust", "paper")
METRICS = (
    "existence",
    "index",
    "exact",
    "first_index",
    "first_exact",
    "all_index",
    "all_exact",
)


class Score(msgspec.Struct, frozen=True):
    """What one response is worth. Index and exact scores are None for negatives."""

    existence: bool
    """Said rightly whether the needles are there."""
    index: bool | None
    """Every needle's image is right."""
    exact: bool | None
    """Every needle's cell is right."""
    answers: tuple[Answer, ...]
    """What was read, one a needle."""
    kinds: tuple[ErrorKind | None, ...]
    """What is wrong with each answer; None where it is right."""
    first_index: bool | None = None
    """The first needle's image is right; several needles only, as are the next three."""
    first_exact: bool | None = None
    all_index: tuple[int, int] | None = None
    """Needles whose image is right, of how many: pooled over needles ("individual")."""
    all_exact: tuple[int, int] | None = None


def score(
    setting: Setting,
    truth: Truth,
    response: Response,
    scorer: str,
    reading: Reading | None = None,
) -> Score | None:
    """Score one response; None where there is no answer to score.

    That is so where infrastructure failed or the request was rejected, and for `paper` also where
    the provider returned null, which the published script drops.

    `robust`: existence is right for a positive when a cell was named for every needle, for a
    negative when every needle was said to be absent; index and exact are right only where
    existence is. So Exact <= Index <= Existence. A refusal, an empty and a cut-off answer name
    nothing: they count, and count as wrong. (A cut-off "1, 2, 1" may have been on its way to
    "1, 2, 10".) A cell that the haystack lacks still says that the needle is there, and its image
    may be right.

    With a `reading` that has a small haystack of its own, the text is read as an answer to that
    one, and what it names is the cell that was put there.

    Raises ValueError on a scorer that is not in SCORERS.
    """
    if scorer not in SCORERS:
        raise ValueError(f"no scorer {scorer!r}; there are {', '.join(SCORERS)}")
    if response.status not in ANSWERED:
        return None
    how = _paper if scorer == "paper" else _robust
    return how(setting, truth, response, reading if reading and reading.grid else None)


def _robust(
    setting: Setting, truth: Truth, response: Response, small: Reading | None = None
) -> Score:
    if response.status != "ok":
        answers: tuple[Answer, ...] = (UNPARSED,) * setting.needles
    elif small is None:
        answers = _read(response.text, setting)
    else:
        answers = _placed(_read(response.text, small.setting(setting)), setting, small)
    kinds = _kinds(setting, truth, answers, response)
    if truth[0] is None:
        return Score(all(a.kind == "absent" for a in answers), None, None, answers, kinds)
    existence = all(a.kind == "found" for a in answers)
    pairs = list(zip(answers, truth, strict=True))
    images = [a.location is not None and t is not None and a.location[0] == t[0] for a, t in pairs]
    cells = [a.location == t for a, t in pairs]
    return Score(
        existence, all(images), all(cells), answers, kinds, **_several(setting, images, cells)
    )


# Models say the same few things again and again, and every report reads them once more.
_read_short = lru_cache(maxsize=1 << 14)(read_robust)


def _read(text: str | None, setting: Setting) -> tuple[Answer, ...]:
    return (_read_short if text is None or len(text) <= 100 else read_robust)(text, setting)


def _placed(answers: tuple[Answer, ...], setting: Setting, small: Reading) -> tuple[Answer, ...]:
    """Answers about a small haystack, with the cells of the whole one that were put there."""
    return tuple(
        answer
        if answer.location is None
        else Answer("found", small.place(setting, answer.location))
        for answer in answers
    )


def _paper(
    setting: Setting, truth: Truth, response: Response, small: Reading | None = None
) -> Score | None:
    said = read_paper(response.text, setting)
    if said is None:
        return None
    if small is not None:
        said = _placed_texts(said, setting, small)
    answers = said.answers(setting)
    kinds = _kinds(setting, truth, answers, response)
    if truth[0] is None:
        return Score(said.refused, None, None, answers, kinds)
    # Position by position up to the shorter of the two lists, as the script zips them.
    pairs = list(zip(said.parts, said.indices, map(str, truth), strict=False))
    images = [index == right.split(", ")[0] for _, index, right in pairs]
    cells = [part == right for part, _, right in pairs]
    whole = len(said.parts) == len(truth)
    return Score(
        not said.refused,
        whole and all(images),
        whole and all(cells),
        answers,
        kinds,
        **_several(setting, images, cells),
    )


def _placed_texts(said: PaperAnswer, setting: Setting, small: Reading) -> PaperAnswer:
    """The same for string equality: the strings that name a small cell become the whole one's.

    All other strings but "-1" become ones that equal nothing.
    """
    rows, cols = small.grid or (0, 0)
    cells = {
        str(at): str(small.place(setting, at))
        for at in (Location(1, r, c) for r in range(1, rows + 1) for c in range(1, cols + 1))
    }
    kept = ("-1", "-1, -1, -1")
    parts = tuple(part if part in kept else cells.get(part, "no cell") for part in said.parts)
    return PaperAnswer("; ".join(parts), parts, said.refused)


def _several(setting: Setting, images: Sequence[bool], cells: Sequence[bool]) -> dict[str, Any]:
    """The scores that only several needles have."""
    if setting.needles == 1:
        return {}
    return {
        "first_index": images[0],
        "first_exact": cells[0],
        "all_index": (sum(images), len(images)),
        "all_exact": (sum(cells), len(cells)),
    }


def _kinds(
    setting: Setting, truth: Truth, answers: Sequence[Answer], response: Response
) -> tuple[ErrorKind | None, ...]:
    pairs = zip(answers, truth, strict=True)
    kinds = tuple(_kind(setting, right, answer) for answer, right in pairs)
    refused = response.status == "refused" or (
        "unparsed" in kinds and response.status == "ok" and is_refusal(response.text)
    )
    return tuple("refused" if refused and kind == "unparsed" else kind for kind in kinds)


def _kind(setting: Setting, right: Location | None, answer: Answer) -> ErrorKind | None:
    """What is wrong with one answer."""
    said = answer.location
    if answer.kind == "unparsed":
        return "unparsed"
    if said is None:
        return None if right is None else "missed"
    if right is None:
        return "hallucinated"
    size = (setting.images, setting.rows, setting.cols)
    if not all(1 <= at <= most for at, most in zip(said, size, strict=True)):
        return "out_of_range"
    if said.image != right.image:
        return "wrong_image"
    return None if said == right else "wrong_cell"


# --------------------------------------------------------------------------- rows


class Row(msgspec.Struct, kw_only=True):
    """One model, setting, split and scorer. Scores are shares 0..1, None where not defined."""

    model: str
    task: str
    images: int
    grid: int | str
    """8 for 8 x 8, "3x5" where rows and columns differ."""
    rows: int
    cols: int
    needles: int
    split: Literal["positive", "negative"]
    scorer: Scorer
    n: int
    """Samples asked for."""
    answered: int
    """Samples that this scorer counts: the denominator of existence, index and exact."""
    existence: float | None = None
    index: float | None = None
    exact: float | None = None
    first_index: float | None = None
    first_exact: float | None = None
    all_index: float | None = None
    all_exact: float | None = None
    interval: dict[str, tuple[float, float]] = {}
    """95 % interval of each score, by `interval_method`."""
    bounds: dict[str, tuple[float, float]] = {}
    """Each score if the samples without an answer were all wrong, and all right."""
    statuses: dict[str, int] = {}
    """Samples by their response's status; "missing" were never tried."""
    kinds: dict[str, int] = {}
    """Answers (one a needle) by what is wrong with them."""
    run: str = ""
    """The run's folder; empty for response files of the official code."""
    dataset: str = ""
    """The data set's fingerprint: rows of different ones cannot be compared."""
    effective_cell: str | None = None
    """Pixels a side of a cell as the model gets it, "unknown" where that is not documented; None
    where the model looks at no images or the run does not say."""
    interval_method: Literal["wilson", "cluster_bootstrap", "confidence_sequence"] = "wilson"
    """wilson: Wilson's; needles of a sample are taken as independent. cluster_bootstrap: questions
    that share a haystack may be alike (`statistics.clustered`). confidence_sequence: a rule has
    stopped the setting, the interval holds whenever that was (`statistics.sequential`)."""
    clusters: int | None = None
    """Haystacks that the answered samples ask about; None: as many as samples."""
    spent: dict[str, float | None] = {}
    """Tokens and US dollars of all attempts at these samples; empty: none were counted."""
    stopped: dict[str, float] = {}
    """Where a rule has stopped the setting: the `halfwidth` that it was to reach, 0..1, and the
    samples of both splits that were `planned`. Empty: none has."""

    @property
    def setting(self) -> Setting:
        """The setting that the row is about."""
        return Setting(self.images, self.rows, self.cols, self.needles)


class Tally:
    """Counts scores of many settings, sample by sample; memory holds counters only."""

    def __init__(self, scorers: Iterable[str] = SCORERS) -> None:
        chosen = set(scorers)
        self.scorers = [scorer for scorer in SCORERS if scorer in chosen]
        self._counts: dict[tuple[Setting, bool], dict[Scorer, _Counts]] = {}

    def add(
        self,
        setting: Setting,
        truth: Truth,
        response: Response,
        haystack: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Count one sample's response; `haystack` is the number of one that samples share."""
        for scorer, counts in self._of(setting, truth[0] is not None).items():
            counts.add(setting, truth, response, scorer, haystack, reading)

    def rows(
        self,
        model: str,
        task: str,
        asked: Mapping[tuple[Setting, bool], int] | None = None,
        stopped: Mapping[str, Stop] | None = None,
    ) -> list[Row]:
        """A row for each setting, split (positives first) and scorer.

        Args:
            model: the rows' model.
            task: the rows' task.
            asked: how many samples were asked of a setting's positives (True) or negatives
                (False), in the order that the rows shall have; without it, those counted.
            stopped: settings, by name, that a rule has stopped.
        """
        if asked is None:
            order = sorted(self._counts, key=lambda key: (key[0], not key[1]))
            asked = {key: max(one.seen for one in self._counts[key].values()) for key in order}
        return [
            counts.row(
                setting,
                positive,
                scorer,
                max(n, counts.seen),
                model,
                task,
                (stopped or {}).get(setting.name),
            )
            for (setting, positive), n in asked.items()
            if n
            for scorer, counts in self._of(setting, positive).items()
        ]

    def _of(self, setting: Setting, positive: bool) -> "dict[Scorer, _Counts]":
        key = (setting, positive)
        if key not in self._counts:
            self._counts[key] = {scorer: _Counts() for scorer in self.scorers}
        return self._counts[key]


class _Counts:
    """The counters of one setting, split and scorer."""

    def __init__(self) -> None:
        self.seen = self.answered = 0
        self.hits: Counter[str] = Counter()
        self.of: Counter[str] = Counter()
        self.parts: dict[int, tuple[Counter[str], Counter[str]]] = {}
        """Hits, and of how many, by shared haystack."""
        self.statuses: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def add(
        self,
        setting: Setting,
        truth: Truth,
        response: Response,
        scorer: Scorer,
        haystack: int | None,
        reading: Reading | None = None,
    ) -> None:
        self.seen += 1
        self.statuses[response.status] += 1
        scored = score(setting, truth, response, scorer, reading)
        if scored is None:
            return
        self.answered += 1
        self.kinds.update(kind for kind in scored.kinds if kind)
        for metric in METRICS:
            value = getattr(scored, metric)
            if value is not None:
                hits, of = value if isinstance(value, tuple) else (value, 1)
                self.hits[metric] += hits
                self.of[metric] += of
                if haystack is not None:
                    part = self.parts.setdefault(haystack, (Counter(), Counter()))
                    part[0][metric] += hits
                    part[1][metric] += of

    def row(
        self,
        setting: Setting,
        positive: bool,
        scorer: Scorer,
        asked: int,
        model: str,
        task: str,
        stop: Stop | None = None,
    ) -> Row:
        row = Row(
            model=model,
            task=task,
            images=setting.images,
            grid=setting.grid,
            rows=setting.rows,
            cols=setting.cols,
            needles=setting.needles,
            split="positive" if positive else "negative",
            scorer=scorer,
            n=asked,
            answered=self.answered,
            statuses=dict(sorted(self.statuses.items())),
            kinds=dict(sorted(self.kinds.items())),
        )
        if asked > self.seen:
            row.statuses["missing"] = asked - self.seen
        for metric in _defined(setting, positive):
            hits, of = self.hits[metric], self.of[metric]
            unanswered = asked - self.answered
            if metric.startswith("all_"):
                unanswered *= setting.needles
            row.bounds[metric] = (hits / (of + unanswered), (hits + unanswered) / (of + unanswered))
            if of:
                setattr(row, metric, hits / of)
                row.interval[metric] = self._interval(metric, stop)
        if self.parts:
            row.interval_method, row.clusters = "cluster_bootstrap", len(self.parts)
        if stop is not None:
            row.interval_method = "confidence_sequence"
        return row

    def _interval(self, metric: str, stop: Stop | None) -> tuple[float, float]:
        if stop is not None:
            return self._anytime(metric, stop)
        if not self.parts:
            return wilson(self.hits[metric], self.of[metric])
        parts = [self.parts[haystack] for haystack in sorted(self.parts)]
        return clustered([hits[metric] for hits, _ in parts], [of[metric] for _, of in parts])

    def _anytime(self, metric: str, stop: Stop) -> tuple[float, float]:
        """Of units in 0..1: haystacks, or samples; of several needles, a sample's share."""
        from mmneedle.statistics.sequential import anytime_interval  # not for every run

        hits, of = self.hits[metric], self.of[metric]
        each = of / self.answered  # needles a sample for "all_index", else 1
        units = [(1.0, hits / each), (0.0, (of - hits) / each)]
        if self.parts:
            pairs = [(own[metric], every[metric]) for own, every in self.parts.values()]
            units = [(right / count, 1.0) for right, count in pairs if count]
        return anytime_interval(units, stop.halfwidth, stop.level)


def _defined(setting: Setting, positive: bool) -> tuple[str, ...]:
    """The scores that a setting's positives or negatives have."""
    if not positive:
        return ("existence",)
    return METRICS if setting.needles > 1 else ("existence", "index", "exact")


def score_run(run: Run, scorers: Iterable[str] = SCORERS) -> list[Row]:
    """A row for each setting, split and scorer of a run, in the order of its plan."""
    tally = Tally(scorers)
    for record in run.outcomes():
        setting, index = parse_sample_id(record.sample)
        tally.add(
            setting,
            record.truth,
            record.response,
            run.header.haystack(index),
            record.reading or None,
        )
    asked = {
        (setting, positive): run.header.asked(setting, positive)
        for setting in map(Setting.parse, run.header.plan)
        for positive in (True, False)
    }
    stopped = run.header.stopped
    rows = tally.rows(run.header.called, run.header.task, asked, stopped)
    for row in rows:
        if row.setting.name in stopped:
            start, stop = run.header.plan[row.setting.name]
            halfwidth = stopped[row.setting.name].halfwidth
            row.stopped = {"halfwidth": halfwidth, "planned": stop - start}
        row.run, row.dataset = str(run.folder), run.header.dataset_fingerprint
        row.effective_cell = run.header.cell_text(row.setting)
    _add_spent(rows, run)
    return rows


def _add_spent(rows: Iterable[Row], run: Run) -> None:
    """Fill in `spent`."""
    known = None if run.header.prices is None else 0.0
    totals: dict[tuple[Setting, bool], Spending] = {}
    for record in run.records():
        key = parse_sample_id(record.sample)[0], record.truth[0] is not None
        total = totals.setdefault(key, Spending(usd=known, saved_usd=known))
        total.add(record.response, run.header.prices)
    for row in rows:
        found = totals.get((row.setting, row.split == "positive"))
        if found is not None and found.responses:
            row.spent = msgspec.structs.asdict(found) | {"cached_share": found.cached_share}


def to_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as plain JSON values: the stable output described in docs/score-json.md."""
    return [msgspec.to_builtins(row) for row in rows]
