"""Runs that a rule stops: what is asked, what is written down, and what can fool it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply, completion
from fakes import LARGE, SMALL, FakeAdapter, FakeDataSet, FakeTask, open_log
from shell import Shell, build
from test_run_crash import KEY, Slow, finished, wait_until

from mmneedle.outcomes import outcomes
from mmneedle.pacing import Backoff
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.runlog import Run, RunHeader, RunLog, Stop
from mmneedle.runner import RunSummary, evaluate
from mmneedle.scoring import score_run
from mmneedle.statistics.sequential import ConfidenceSequence
from mmneedle.stopping import Watch, goes_on
from mmneedle.types import Request, Response, Sample, parse_sample_id

WIDTH = 0.1


def chance(sample: Sample) -> float:
    """A number in 0..1 that belongs to the sample."""
    setting, index = parse_sample_id(sample.id)
    return float(np.random.default_rng([setting.cells, index]).random())


def right(sample: Sample) -> str:
    return "; ".join("-1" if place is None else str(place) for place in sample.truth)


def mostly(rate: float):
    """A model that is right on a share of the samples."""

    def answer(request: Request, attempt: int) -> Response:
        sample = request.sample
        return Response("ok", right(sample) if chance(sample) < rate else "9, 9, 9")

    return answer


def ask(folder, data, answer, halfwidth=WIDTH, connections=8, plan=None, **options) -> RunSummary:
    adapter = FakeAdapter(answer)
    with open_log(folder, data, adapter, plan=plan) as log:
        if halfwidth is None:
            goes_on(log)
        watch = None if halfwidth is None else Watch(log, halfwidth)
        return asyncio.run(
            evaluate(
                FakeTask(),
                data,
                adapter,
                log,
                max_connections=connections,
                backoff=Backoff(0.001),
                watch=watch,
                **options,
            )
        )


def first_met(run: Run, halfwidth: float = WIDTH) -> int:
    """How many samples of the first setting are enough, one by one and in their order."""
    sequences = {True: ConfidenceSequence(halfwidth), False: ConfidenceSequence(halfwidth)}
    table = outcomes(run)[SMALL]
    for row in range(len(table)):
        positive = bool(table.positive[row])
        marks = table.marks["robust"]
        value = (marks.exact if positive else marks.existence)[row]
        sequences[positive].add(*((0.0, 1.0) if value < 0 else (float(value),)))
        if max(one.halfwidth() for one in sequences.values()) <= halfwidth:
            return row + 1
    return len(table) + 1


def test_it_asks_until_it_knows_enough_and_no_more(tmp_path):
    data = FakeDataSet(small=2000, large=30)
    summary = ask(tmp_path / "run", data, mostly(0.9))
    run = Run.open(tmp_path / "run")
    stop = run.header.stopped[SMALL.name]
    assert set(run.header.stopped) == {SMALL.name}
    assert (stop.halfwidth, stop.level) == (WIDTH, 0.95)
    assert run.header.plan[SMALL.name] == (0, 2000)
    needed = first_met(run)
    assert 100 < needed <= stop.end <= needed * 1.05 + 8
    asked = run.header.asked(SMALL, True) + run.header.asked(SMALL, False)
    assert asked == stop.end
    assert summary.asked == summary.answered == stop.end + 30
    assert summary.missing == 0
    assert f"{SMALL.name}: stopped by rule after {stop.end} of 2000 samples" in str(summary)
    assert f"{LARGE.name}: not stopped, half-widths are" in str(summary)
    assert "half-widths were within 10 points; with the answers then under way" in str(summary)
    # What is not asked is no missing answer, anywhere.
    assert len(outcomes(run)[SMALL]) == stop.end
    rows = [row for row in score_run(run) if row.setting == SMALL]
    assert sum(row.n for row in rows if row.scorer == "robust") == stop.end
    assert all(row.answered == row.n and "missing" not in row.statuses for row in rows)


@pytest.mark.parametrize("connections", [1, 16])
def test_the_same_command_asks_nothing_more_and_a_smaller_width_goes_on(tmp_path, connections):
    data, folder = FakeDataSet(small=3000), tmp_path / "run"
    first = ask(folder, data, mostly(0.8), connections=connections)
    stop = Run.open(folder).header.stopped
    for halfwidth in (WIDTH, 0.2):
        again = ask(folder, data, mostly(0.8), halfwidth, connections)
        assert (again.sent, again.asked, again.missing) == (0, first.asked, 0)
        assert Run.open(folder).header.stopped == stop
    further = ask(folder, data, mostly(0.8), 0.07, connections)
    assert further.sent == further.asked - first.asked > 0
    assert Run.open(folder).header.stopped[SMALL.name].halfwidth == 0.07
    everything = ask(folder, data, mostly(0.8), None)
    assert (everything.asked, everything.answered) == (3000, 3000)
    assert Run.open(folder).header.stopped == {}
    assert first_met(Run.open(folder)) <= stop[SMALL.name].end


def test_a_smaller_limit_takes_nothing_back(tmp_path):
    data, folder = FakeDataSet(small=2000), tmp_path / "run"
    ask(folder, data, mostly(0.9))
    stopped = Run.open(folder).header.stopped
    summary = ask(folder, data, mostly(0.9), None, plan={SMALL.name: (0, 20)})
    assert (summary.sent, summary.asked) == (0, 20)
    assert Run.open(folder).header.stopped == stopped


def test_killed_before_it_was_written_down_it_comes_to_the_same_end(tmp_path):
    data, folder = FakeDataSet(small=2000), tmp_path / "run"
    ask(folder, data, mostly(0.9))
    header = Run.open(folder).header
    bare = msgspec.structs.replace(header, stopped={})
    (folder / "run.json").write_bytes(msgspec.json.encode(bare))
    again = ask(folder, data, mostly(0.9))
    assert again.sent == 0
    found = Run.open(folder).header.stopped[SMALL.name]
    assert found.end == header.stopped[SMALL.name].end


def test_fast_answers_do_not_deceive_it(tmp_path):
    """Wrong answers take long: what has come back first is nearly all right."""
    data, folder = FakeDataSet(small=1500), tmp_path / "run"

    async def answer(request, attempt):
        good = chance(request.sample) < 0.6
        await asyncio.sleep(0 if good else 0.02)
        return Response("ok", right(request.sample) if good else "9, 9, 9")

    ask(folder, data, lambda request, attempt: answer(request, attempt), connections=64)
    run = Run.open(folder)
    end, needed = run.header.stopped[SMALL.name].end, first_met(run)
    assert needed <= end
    exact = outcomes(run)[SMALL].marks["robust"].exact
    assert 0.5 < exact[exact >= 0].mean() < 0.7


def test_failures_of_a_server_cannot_stop_a_run(tmp_path):
    data, folder = FakeDataSet(small=300), tmp_path / "run"

    def answer(request, attempt):
        if chance(request.sample) < 0.3:
            return Response("server_error", error="down")
        return Response("ok", right(request.sample))

    summary = ask(folder, data, answer, max_attempts=1, patience=1e9)
    assert Run.open(folder).header.stopped == {}
    assert summary.asked == 300
    assert summary.missing == pytest.approx(90, abs=30)
    assert "not stopped, half-widths are" in str(summary)
    # The server is well again: it is enough now, but nothing is left that could be stopped.
    healed = ask(folder, data, lambda request, attempt: Response("ok", right(request.sample)))
    assert healed.missing == 0
    assert Run.open(folder).header.stopped == {}
    assert "; all were asked" in str(healed)


def test_a_few_rejected_requests_make_it_ask_more(tmp_path):
    def reject(share):
        def answer(request, attempt):
            if chance(request.sample) > 1 - share:
                return Response("too_long", error="x")
            return mostly(0.85)(request, attempt)

        return answer

    ends = []
    for share in (0.0, 0.05):
        data, folder = FakeDataSet(small=3000), tmp_path / str(share)
        summary = ask(folder, data, reject(share))
        ends.append(Run.open(folder).header.stopped[SMALL.name].end)
        assert summary.missing == summary.by_status.get("too_long", 0)
    assert ends[1] > 1.3 * ends[0]
    assert ask(folder, data, reject(0.05)).sent == 0


def test_attempts_that_fail_for_a_while_do_not_count(tmp_path):
    data = FakeDataSet(small=1000)

    def shaky(request, attempt):
        fails = attempt == 1 and chance(request.sample) > 0.5
        return Response("rate_limited", error="x") if fails else Response("ok", "-1")

    for name, answer in (("shaky", shaky), ("calm", lambda *_: Response("ok", "-1"))):
        ask(tmp_path / name, data, answer, connections=1)
    ends = [Run.open(tmp_path / n).header.stopped[SMALL.name].end for n in ("shaky", "calm")]
    assert ends[0] == ends[1]


def test_shared_haystacks_are_asked_whole(tmp_path):
    data, folder = FakeDataSet(questions=8, small=4000), tmp_path / "run"
    summary = ask(folder, data, mostly(0.85))
    run = Run.open(folder)
    end = run.header.stopped[SMALL.name].end
    assert end % 8 == 0
    assert summary.asked == summary.answered == end < 2000
    [row, _] = [row for row in score_run(run, ("robust",)) if row.setting == SMALL]
    assert (row.interval_method, row.clusters) == ("confidence_sequence", end // 8)
    low, high = row.interval["exact"]
    assert (high - low) / 2 <= WIDTH * 1.05
    assert low < row.exact < high


def test_reports_say_so(tmp_path):
    data, folder = FakeDataSet(small=2000), tmp_path / "run"
    ask(folder, data, mostly(0.9))
    run = Run.open(folder)
    rows = score_run(run)
    for row in rows:
        assert row.interval_method == "confidence_sequence"
        assert row.stopped == {"halfwidth": WIDTH, "planned": 2000}
        low, high = row.interval["existence"]
        assert low < row.existence <= high
    text = leaderboard([run]).render("md")
    end = run.header.stopped[SMALL.name].end
    assert "was stopped by rule, once Exact and Existence on negatives were known to ±10" in text
    assert f"after {end:,} of 2,000 samples" in text


def test_where_all_was_asked_nothing_was_stopped(tmp_path):
    one = {"connections": 1}  # so that both runs see answers in the same order
    ask(tmp_path / "long", FakeDataSet(small=2000), mostly(0.9), **one)
    end = Run.open(tmp_path / "long").header.stopped[SMALL.name].end
    folder = tmp_path / "run"
    summary = ask(folder, FakeDataSet(small=end), mostly(0.9), **one)
    run = Run.open(folder)
    assert (summary.asked, run.header.stopped) == (end, {})
    assert "stopped by rule" not in str(summary)
    assert f"{SMALL.name}: not stopped, half-widths are" in str(summary)
    assert "; all were asked" in str(summary)
    assert "stopped" not in leaderboard([run]).render("md")
    # nor does a log say so that was written otherwise
    stop = Stop(end=end, halfwidth=WIDTH, level=0.95, rule="x", at="")
    content = msgspec.to_builtins(run.header) | {"stopped": {SMALL.name: msgspec.to_builtins(stop)}}
    assert msgspec.convert(content, RunHeader).stopped == {}


def test_what_a_header_cannot_say(tmp_path):
    data = FakeDataSet(small=4)
    with open_log(tmp_path / "run", data, FakeAdapter()) as log:
        header = log.header
    for name, end, halfwidth, level in (
        (SMALL.name, -1, 0.1, 0.95),
        (SMALL.name, 4, 0.6, 0.95),
        (SMALL.name, 4, 0.1, 1.5),
        (LARGE.name, 4, 0.1, 0.95),
    ):
        stop = Stop(end=end, halfwidth=halfwidth, level=level, rule="x", at="")
        content = msgspec.to_builtins(header) | {"stopped": {name: msgspec.to_builtins(stop)}}
        with pytest.raises(msgspec.ValidationError, match="stopped at"):
            msgspec.convert(content, RunHeader)


def test_by_command(mmneedle: Shell, tmp_path):
    build(mmneedle, "set", "--cell", 16)
    build(mmneedle, "set", "--samples", 600, "--cell", 16)
    run = ("run", "set", "--model", "baseline/noisy?p=0.9", "--log", "runs/a")
    out = mmneedle.ok(*run, "--until-halfwidth", 0.1)
    assert out.count("stopped by rule after") == 2
    assert ", 0 requests" in mmneedle.ok(*run, "--until-halfwidth", 0.1)
    assert mmneedle.ok("score", "runs/a").count("stopped by rule after") == 2
    whole = ("run", "set", "--model", "baseline/noisy?p=0.8", "--log", "runs/b")
    mmneedle.ok(*whole)
    note = (
        "a: stopped by rule" if "a: stopped" in mmneedle.ok("compare", "runs/a", "runs/b") else ""
    )
    assert note or "stopped by rule; intervals and p-values" in mmneedle.ok(
        "compare", "runs/a", "runs/b"
    )
    mmneedle.ok("submit", "pack", "runs/a", "--out", "a.zip")
    assert "all that was checked holds" in mmneedle.ok("submit", "check", "a.zip")
    for width in (0, 0.5, 2):
        assert "--until-halfwidth takes" in mmneedle.refused(*run, "--until-halfwidth", width)
    for option in (["--batch"], ["--shard", "1/2"]):
        refusal = mmneedle.refused(*run, "--until-halfwidth", 0.1, *option)
        assert f"leave out {option[0]}" in refusal
    words = ("build-text", "words", "niah", "--lengths", 512, "--samples", 1)
    mmneedle.ok(*words)
    texts = ("run", "words", "--model", "baseline/oracle", "--until-halfwidth", 0.1)
    assert "data set of texts" in mmneedle.refused(*texts)
    assert "1200 of 1200" in mmneedle.ok(*run)
    assert json.loads((tmp_path / "runs/a/run.json").read_text())["stopped"] == {}


CHILD = """
import sys
from fakes import FakeDataSet, FakeTask, open_log
from mmneedle.adapters import create
from mmneedle.pacing import Backoff
from mmneedle.runner import run
from mmneedle.stopping import Watch

folder, url = sys.argv[1:]
data = FakeDataSet(small=3000)
adapter = create("openai/m", base_url=url)
with open_log(folder, data, adapter) as log:
    watch = Watch(log, 0.1)
    print("running", flush=True)
    summary = run(
        FakeTask(), data, adapter, log, max_connections=8, backoff=Backoff(0.01), watch=watch
    )
print(summary)
sys.exit(bool(summary.missing))
"""


def start(folder: Path, server: ChatServer) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), server.url],
        cwd=Path(__file__).parent,
        env=os.environ | {"OPENAI_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it said. (`communicate` would lose what `readline` has read ahead.)"""
    assert process.stdout
    assert process.stderr
    said = process.stdout.read(), process.stderr.read()
    assert process.wait(60) == 0
    return said


class ByAndBy(Slow):
    """Says "-1" four times in five; some answers take longer than others."""

    def __call__(self, ask: Ask) -> Reply:
        _, index = parse_sample_id(ask.prompt)
        said = "1, 1, 1" if index % 10 in (3, 6) else "-1"
        return replace(super().__call__(ask), body=completion(said).body)


def test_killed_again_and_again_it_stops_where_it_should(tmp_path):
    folder, kills = tmp_path / "run", 4
    with ChatServer() as server:
        for kill in range(1, kills + 1):
            server.script = ByAndBy(60)
            process = start(folder, server)
            wait_until(lambda: len(finished(folder)) >= kill * 50)  # noqa: B023
            process.kill()
            assert process.wait() == -signal.SIGKILL
        server.script = ByAndBy()
        out, err = ended(start(folder, server))
        assert (err, "stopped by rule" in out) == ("", True)
        before = server.asked.total()
        out, err = ended(start(folder, server))
        assert (err, ", 0 requests" in out) == ("", True)
        assert server.asked.total() == before
    run = Run.open(folder)
    end, needed = run.header.stopped[SMALL.name].end, first_met(run)
    assert needed <= end <= needed * 1.05 + 16
    assert sorted(finished(folder).values()) == [1] * end
    assert before <= end + kills * 8


def test_it_needs_nothing_but_the_log(tmp_path):
    """A rule that comes later finds what it would have found, and asks nothing."""
    data, folder = FakeDataSet(small=800), tmp_path / "run"
    ask(folder, data, mostly(0.9), None)
    header = Run.open(folder).header
    with RunLog.open(folder, msgspec.structs.replace(header, plan={SMALL.name: (0, 900)})) as log:
        Watch(log, WIDTH)
        assert log.header.stopped[SMALL.name].end == 800  # all that was asked stays
