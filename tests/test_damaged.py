"""Files that somebody edited, or half a disk: one clear line, never a traceback."""

import copy
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import ONE, ok, write_run

from mmneedle import cli
from mmneedle.errors import UserError
from mmneedle.outcomes import outcomes
from mmneedle.reports.hallucination.study import study
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.types import Response

JUNK: list[Any] = [None, True, 0, -1, 1.5, 10**12, 10**30, "", "x", [], [0, 0], [5, 2], [-3, 9],
                   [0, 10**12], {}, {"x": 5}, {"x": [0, 4]}, {"n01-g2x2-k1": [0, 4]},
                   {"n1-g2x2-k1": -5}, {"n1-g2x2-k1": 10**8}, {"n1-g2x2-k1": 10**12}]  # fmt: skip
RAW = [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'"\xff"', b"\xef\xbb\xbf{}", b"null"]
READING = {
    "run.json": (
        ("score", "run", "--json"),
        ("report", "run", "--out", "report.html"),
        ("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet"),
    ),
    "dataset.json": (
        ("show", "set"),
        ("show", "set", "n1-g2x2-k1-000001", "--json"),
        ("run", "set", "--model", "baseline/oracle", "--log", "other", "--quiet"),
    ),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from places(inner, (*path, key))


def damaged(content: bytes) -> Iterator[bytes]:
    yield from (*RAW, content[: len(content) // 2])
    whole = json.loads(content)
    for *above, last in filter(None, places(whole)):
        for junk in JUNK:
            changed = copy.deepcopy(whole)
            inner = changed
            for key in above:
                inner = inner[key]
            inner[last] = junk
            yield json.dumps(changed).encode()
        del inner[last]
        yield json.dumps(changed).encode()


def mmneedle(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["mmneedle", *words])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code


@pytest.mark.parametrize("name", READING)
def test_a_damaged_file_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = "--source shapes --scenes 60 --cell 32 --settings 1x2 --samples 4 --quiet"
    assert mmneedle(monkeypatch, "build", "set", *shapes.split()) == 0
    assert mmneedle(monkeypatch, *READING["run.json"][2]) == 0
    (path,) = tmp_path.glob(f"*/{name}")
    content = path.read_bytes()
    refused = 0
    for number, wrong in enumerate(damaged(content)):
        for words in READING[name] if number % 5 == 0 else READING[name][:1]:
            path.write_bytes(wrong)
            capsys.readouterr()
            status = mmneedle(monkeypatch, *words)
            err = capsys.readouterr().err
            assert status in (0, 1) or (status, err.count("\n")) == (2, 1), (wrong[:2000], err)
            refused += status == 2
    assert refused > 100


# --------------------------------------------------------------------------- what a log cannot say

RIGHT = ok("1, 1, 1")


def _edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Run:
    """A run whose first line says something else."""
    run = write_run(folder / "run", lambda *_: RIGHT, {ONE: 4})
    path = run.folder / "responses.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    record = json.loads(first)
    change(record)
    path.write_bytes(json.dumps(record).encode() + b"\n" + b"".join(others))
    return Run.open(run.folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(truth=[]), "0 places of 1 needles"),
        (lambda r: r.update(truth=[[1, 1, 1], [1, 1, 2]]), "2 places of 1 needles"),
        (lambda r: r.update(truth=[[1, 9, 9]]), "no cell 1, 9, 9"),
        (lambda r: r.update(truth=[[0, 1, 1]]), "no cell 0, 1, 1"),
        (lambda r: r.update(truth=[None]), "even samples have their needles"),
        (lambda r: r["response"].update(usage={"input_tokens": 10**400}), "damaged"),
        (lambda r: r["response"].update(usage={"input_tokens": -1}), "input_tokens"),
        (lambda r: r["response"].update(absent_logprob=5.0), "above 0"),
    ],
)
def test_a_line_that_cannot_be_is_named_not_counted(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    run = _edited(tmp_path, change)
    for read in (score_run, outcomes):
        with pytest.raises(UserError, match=f"line 1 is damaged.*{words}|line 1 .*{words}"):
            read(run)


def test_a_line_that_is_nested_without_end(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda *_: RIGHT, {ONE: 4})
    with (run.folder / "responses.jsonl").open("ab") as file:
        file.write(b'{"sample":' * 100_000 + b"}" * 100_000 + b"\n")
    with pytest.raises(UserError, match="line 5 is damaged"):
        score_run(run)


@pytest.mark.parametrize(
    "answer",
    ["-99999, 1, 1", "(-100000, 2, 3)", "1, -99999, 1", "99999999999999999999, 1, 1", "0, 0, 0"],
)
def test_answers_far_outside_are_counted_by_all_alike(tmp_path: Path, answer: str) -> None:
    run = write_run(tmp_path / "run", lambda *_: ok(answer), {ONE: 4})
    [row] = [row for row in score_run(run, ["robust"]) if row.split == "positive"]
    marks = outcomes(run)[ONE].marks["robust"]
    assert (marks.exact[::2] == 1).mean() == row.exact == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"questions": 10**30},
        {"plan": {"n1-g2x2-k100000000": [0, 4]}},
        {"plan": {"n1-g2x2-k0": [0, 4]}},
    ],
    ids=str,
)
def test_a_header_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    run = write_run(tmp_path / "run", lambda *_: RIGHT, {ONE: 4})
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="is not a run's header"):
        Run.open(run.folder)


@pytest.mark.parametrize("logprob", [0.0, -0.1])
def test_log_probabilities_that_never_vary_tell_nothing(tmp_path: Path, logprob: float) -> None:
    run = write_run(
        tmp_path / "run", lambda *_: Response("ok", "1, 1, 1", absent_logprob=logprob), {ONE: 40}
    )
    report = study(run)
    assert report is not None
