"""Findings of runs for a terminal and for programs: `mmneedle findings`."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mmneedle.reports.hallucination.evidence import STOPPED, span, typeset
from mmneedle.reports.hallucination.examined import examine_runs
from mmneedle.reports.hallucination.pixels import sentence
from mmneedle.reports.hallucination.study import Study, rows, to_json
from mmneedle.reports.hallucination.suspects import Measured
from mmneedle.reports.words import label, percent, signed, visible
from mmneedle.runlog import Run
from mmneedle.scoring import Scorer
from mmneedle.statistics.shares import Share
from mmneedle.types import Setting

VERSION = 1
"""Of the JSON form."""
_MARKS = {"notable": "*", "no evidence": "-", "cannot tell: too few": "?"}


def findings_json(runs: Sequence[Run], scorer: Scorer) -> dict[str, Any]:
    """What `mmneedle findings --json` prints (docs/hallucination.md)."""
    examined = examine_runs(runs, scorer)
    return {
        "version": VERSION,
        "runs": [
            {
                "run": name,
                "model": run.header.called,
                "dataset": run.header.dataset_fingerprint,
                **to_json(of),
            }
            for name, run, of in examined.runs
        ],
        "resized": [
            {"model": model, "text": sentence(pair), **msgspec.to_builtins(pair)}
            for model, pair in examined.resized
        ],
    }


# --------------------------------------------------------------------------- text


def findings_text(runs: Sequence[Run], scorer: Scorer) -> str:
    """What `mmneedle findings` prints."""
    examined = examine_runs(runs, scorer)
    width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
    blocks = ["\n".join(_run(name, run, of, width)) for name, run, of in examined.runs]
    for model, pair in examined.resized:
        blocks.append(_wrapped(f"{visible(model)}: {sentence(pair)}", width))
    return "\n\n\n".join(blocks)


def _run(name: str, run: Run, of: Study, width: int) -> Iterator[str]:
    yield f"{visible(run.header.called)}  ({visible(name)}, {of.scorer} reading)"
    yield ""
    for one in of.findings:
        yield _wrapped(typeset(visible(one.text)), width, f"{_MARKS[one.verdict]} ")
    yield ""
    tests = of.levels.count
    note = (
        "* notable   - no evidence   ? too few to tell.  "
        f"p values are corrected for the {tests} tests made (Holm); shares have 95 % intervals."
    )
    yield _wrapped(f"{note}  {STOPPED}" if run.header.stopped else note, width)
    if of.existence is not None:
        yield ""
        yield from _existence(of)
    for title, measured in (
        ("named when nothing is there", of.pointing.measured),
        ("wrong cell, right image", of.looking.measured[0]),
        ("wrong image", of.looking.measured[1]),
    ):
        if measured:
            yield ""
            yield from _suspects(title, measured)


def _wrapped(text: str, width: int, mark: str = "") -> str:
    return textwrap.fill(
        text, width, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False
    )


def _existence(of: Study) -> Iterator[str]:
    assert of.existence is not None
    head = ["existence", "sensitivity", "specificity", "J", "precision", "MCC", "p"]
    lines = [
        [
            "all" if row.setting is None else label(row.setting) + _needles(row.setting),
            _percent(row.sensitivity),
            _percent(row.specificity),
            _signed(row.youden, row.youden_interval),
            _rate(row.precision, row.precision_interval),
            _signed(row.mcc, row.mcc_interval),
            _p(of.levels.adjusted.get(row.key, of.levels.adjusted.get("existence.all"))),
        ]
        for row in rows(of.existence)
    ]
    yield from _table([head, *lines])


def _needles(setting: Setting) -> str:
    return f" K={setting.needles}" if setting.needles > 1 else ""


def _suspects(title: str, measured: Sequence[Measured]) -> Iterator[str]:
    lines = [
        [
            ("* " if one.claimed else "  ") + one.label,
            f"{one.seen.hits}/{one.seen.n}",
            _percent(one.seen),
            percent(one.expected),
            _p(one.adjusted),
        ]
        for one in measured
    ]
    yield from _table([[title, "count", "% (95 %)", "chance", "p"], *lines])


def _percent(part: Share) -> str:
    if part.value is None:
        return "-"
    return f"{percent(part.value)} ({span(part.interval).removesuffix(' %')})"


def _rate(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{percent(value)} ({span(interval).removesuffix(' %')})"


def _signed(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{signed(value)} ({signed(interval[0])} to {signed(interval[1])})"


def _p(p: float | None) -> str:
    return "-" if p is None else "<0.001" if p < 0.001 else f"{min(1.0, p):.3f}"


def _table(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
