"""Models against each other, as text for the terminal and as JSON (docs/statistics.md)."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmneedle.comparing import ALPHA, Board, Compared, Measure, Pair, compare_runs, differences
from mmneedle.reports.copies import same_answers
from mmneedle.reports.entries import run_names
from mmneedle.reports.standings import labels
from mmneedle.reports.words import label, many, named, percent, points, rounded
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.types import Setting


class Versus:
    """Several runs compared, ready to be shown."""

    def __init__(self, runs: Sequence[Run], measure: Measure, scorer: Scorer) -> None:
        """Compare runs. Raises UserError where two of them cannot be compared."""
        self.runs, self.measure, self.scorer = runs, measure, scorer
        self.board: Board = compare_runs(runs, measure, scorer)
        keys = [(run.header.called, name) for run, name in zip(runs, run_names(runs), strict=True)]
        told = labels(keys)
        self.names = [named(told[key]) for key in keys]
        self.notes = [*same_answers(runs, self.names), *differences(self.names, runs)]

    def json(self) -> dict[str, Any]:
        """All of it as plain JSON values: the stable output described in docs/statistics.md."""
        return {
            "measure": self.measure,
            "scorer": self.scorer,
            "alpha": ALPHA,
            "runs": [
                {
                    "name": name,
                    "model": run.header.called,
                    "run": str(run.folder),
                    "rank_best": rank.best,
                    "rank_worst": rank.worst,
                }
                for name, run, rank in zip(self.names, self.runs, self.board.ranks, strict=True)
            ],
            "pairs": [self._pair_json(pair) for pair in self.board.pairs],
            "notes": self.notes,
        }

    def _pair_json(self, pair: Pair) -> dict[str, Any]:
        found = pair.comparison
        return {
            "a": pair.a,
            "b": pair.b,
            "overall": compared_json(found.overall, pair.holm),
            "settings": [
                {"setting": part.setting.name if part.setting else None} | compared_json(part, p)
                for part, p in zip(found.settings, pair.setting_holm, strict=True)
            ],
            "verdict": self.verdict(pair),
        }

    def text(self) -> str:
        """Tables with a plain sentence for each pair."""
        parts = [self._head()]
        if len(self.runs) > 2:
            parts.append("\n".join(self._ranking()))
        parts += ["\n".join(self._table(pair)) for pair in self.board.pairs]
        notes = [f"Note: {note}" for note in (*self.notes, *self._disagreements())]
        return "\n\n".join([*parts, "\n".join(notes)]).rstrip()

    def _disagreements(self) -> Iterator[str]:
        shown = [
            (part.result, p)
            for pair in self.board.pairs
            for part, p in (
                *zip(pair.comparison.settings, pair.setting_holm, strict=True),
                (pair.comparison.overall, pair.holm),
            )
        ]
        if any(p >= ALPHA and not one.interval[0] <= 0 <= one.interval[1] for one, p in shown):
            yield (
                "Intervals are those of one comparison each; where one lies on one side of 0 and "
                "the models cannot be told apart, the corrected test decides."
            )

    def _head(self) -> str:
        pairs = len(self.board.pairs)
        text = (
            f"{self.measure.capitalize()} ({self.scorer}) in per cent, differences in points with "
            f"95 % intervals, on samples that both answered. p: {self._tests()}."
        )
        if pairs > 1:
            text += f" Holm: corrected for {many(pairs, 'comparison')}, or all rows of settings."
        elif any(len(pair.comparison.settings) > 1 for pair in self.board.pairs):
            text += " Holm: corrected for all rows of settings."
        return text

    def _tests(self) -> str:
        found = [part.result for pair in self.board.pairs for part in pair.comparison.settings]
        if any(one.test == "sign_flip" for one in found):
            return "the sign-flip test over haystacks, which questions share"
        return "McNemar's exact test; over settings, the sign-flip test"

    def _ranking(self) -> Iterator[str]:
        rows = sorted(
            zip(self.board.ranks, self.names, strict=True),
            key=lambda row: (row[0].best, row[0].worst),
        )
        yield from aligned([["rank", "model"], *([str(rank), name] for rank, name in rows)], "ll")
        if any(rank.best < rank.worst for rank in self.board.ranks):
            yield "Models that the data cannot tell apart share ranks."

    def _table(self, pair: Pair) -> Iterator[str]:
        found = pair.comparison
        yield f"A {self.names[pair.a]}   B {self.names[pair.b]}"
        rows = [["setting", "samples", "A", "B", "only A", "only B", "A-B", "", "p", "Holm", ""]]
        parts = list(zip(found.settings, pair.setting_holm, strict=True))
        if len(parts) > 1:
            parts.append((found.overall, pair.holm))
        rows += [_row(part, p) for part, p in parts]
        yield from aligned(rows, "lrrrrrrlrrl")
        yield self.verdict(pair)
        overall = found.overall
        if overall.unanswered:
            low, high = overall.bounds
            yield (
                f"{many(overall.unanswered, 'sample')} of both lack an answer of one at least; "
                f"whatever they would be, A-B lies within {points(low)} and {points(high)} points."
            )

    def verdict(self, pair: Pair) -> str:
        """What the overall comparison says, in one plain sentence."""
        one, other = self.names[pair.a], self.names[pair.b]
        result = pair.comparison.overall.result
        gap = result.difference
        if gap is None:
            return f"{one} and {other} have no common samples: nothing is known."
        low, high = result.interval
        if pair.holm < ALPHA:
            if gap < 0:
                one, other, gap, low, high = other, one, -gap, -high, -low
            return (
                f"{one} is better than {other} by {points(gap)} points "
                f"({points(low)} to {points(high)})."
            )
        text = (
            f"The data cannot tell {one} and {other} apart: {points(gap)} points "
            f"({points(low)} to {points(high)})."
        )
        if result.p < ALPHA:
            text += " (They could, were this the only comparison.)"
        return text


def compared_json(part: Compared, corrected: float) -> dict[str, Any]:
    """A comparison on one setting, or on the mean, with its corrected p-value, as plain JSON."""
    result = part.result
    return {
        "n": result.counts.n,
        "both": result.counts.both,
        "only_a": result.counts.only_a,
        "only_b": result.counts.only_b,
        "neither": result.counts.neither,
        "clusters": result.clusters,
        "rate_a": result.rate_a,
        "rate_b": result.rate_b,
        "difference": result.difference,
        "interval": result.interval,
        "p": result.p,
        "p_holm": corrected,
        "test": result.test,
        "unanswered": part.unanswered,
        "bounds": part.bounds,
    }


def _row(part: Compared, corrected: float) -> list[str]:
    result = part.result
    head = ["mean" if part.setting is None else _setting(part.setting), str(result.counts.n)]
    if result.difference is None:
        return [*head, *("-",) * 8, "no common answers"]
    if corrected >= ALPHA:
        verdict = "cannot be told apart"
    else:
        verdict = "A is better" if result.difference > 0 else "B is better"
    return [
        *head,
        percent(result.rate_a),
        percent(result.rate_b),
        str(result.counts.only_a),
        str(result.counts.only_b),
        points(result.difference),
        f"({points(result.interval[0])} to {points(result.interval[1])})",
        probability(result.p),
        probability(corrected),
        verdict,
    ]


def _setting(setting: Setting) -> str:
    return label(setting) + (f" {setting.needles} needles" if setting.needles > 1 else "")


def probability(p: float) -> str:
    """A p-value as tables show it: "0.032", "<0.001"; never "0.050" for what lies below it."""
    if p < 0.001:
        return "<0.001"
    text = rounded(p, 3)
    return "<0.050" if p < ALPHA <= float(text) else text


def aligned(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """Rows as aligned text; `sides` has l or r for each column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ]
        yield "  ".join(cells).rstrip()
