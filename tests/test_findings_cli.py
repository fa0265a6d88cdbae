"""`mmneedle findings` on run folders: sentences, tables, JSON, faults of the answers' form."""

import json

import msgspec
import pytest
from report_runs import ONE, TEN, always_first, always_right, ok, text, write_run

from mmneedle.reports.hallucination import study
from mmneedle.reports.hallucination.formats import form
from mmneedle.reports.hallucination.section import sections
from mmneedle.runlog import Run, Stop
from mmneedle.types import Response, Setting

FOUR = Setting(1, 4, 4)


def keys(study, verdict="notable"):
    return {one.key for one in study.findings if one.verdict == verdict}


def test_sentences_and_tables(mmneedle, tmp_path):
    write_run(tmp_path / "run", always_first, {ONE: 80, TEN: 80})
    out = mmneedle("findings", "run").out
    assert "baseline/test" in out
    assert "* A yes-sayer: it names a cell for 100.0" in out
    assert "“1, 1, 1”" in out
    assert "(10,2)" in out
    assert "corrected for the" in " ".join(out.split())


def test_a_run_that_a_rule_stopped_is_said_to_be(mmneedle, tmp_path):
    run = write_run(tmp_path / "run", always_first, {ONE: 60})
    said = "take the number of samples as fixed beforehand"
    assert said not in " ".join(mmneedle("findings", "run").out.split())
    assert sections([run])[0]["stopped"] == ""
    stop = Stop(end=60, halfwidth=0.1, level=0.95, rule="bets_1", at="2026-11-22T12:00:00.000Z")
    header = msgspec.structs.replace(run.header, plan={ONE.name: (0, 80)}, stopped={ONE.name: stop})
    (tmp_path / "run" / "run.json").write_bytes(msgspec.json.encode(header))
    assert said in " ".join(mmneedle("findings", "run").out.split())
    assert said in sections([Run.open(tmp_path / "run")])[0]["stopped"]


def test_json(mmneedle, tmp_path):
    write_run(tmp_path / "one", always_first, {ONE: 80, TEN: 80})
    write_run(tmp_path / "two", always_right, {ONE: 80, TEN: 80}, model="baseline/other")
    found = json.loads(mmneedle("findings", "one", "two", "--json").out)
    assert found["version"] == 1
    assert [run["model"] for run in found["runs"]] == ["baseline/test", "baseline/other"]
    first = found["runs"][0]
    assert first["scorer"] == "robust" and first["answers"] == 160
    assert [row["setting"] for row in first["existence"]] == [ONE.name, TEN.name, None]
    assert first["existence"][2]["youden"] == 0
    assert first["pointing"]["false_alarms"] == 80
    assert first["pointing"]["counts"][TEN.name][0] == [[40, 0], [0, 0]]
    suspect = next(s for s in first["pointing"]["suspects"] if s["key"] == "pointing.first_cell")
    assert suspect["claimed"] and suspect["hits"] == 80 and suspect["n"] == 80
    assert suspect["expected"] == pytest.approx((1 / 4 + 1 / 40) / 2)
    assert found["runs"][1]["findings"][0]["key"] == "existence.perfect"
    for run in found["runs"]:
        assert run["tests"] > 0
        for one in run["findings"]:
            assert set(one) == {
                "key", "family", "verdict", "text", "weight", "p", "adjusted", "figures",
            }  # fmt: skip


def test_the_papers_reading(mmneedle, tmp_path):
    def spaced(setting, index, truth):
        return ok(text(truth).replace(", ", ","))

    write_run(tmp_path / "run", spaced, {TEN: 40})
    assert "- No hallucination seen" in mmneedle("findings", "run").out
    found = json.loads(mmneedle("findings", "run", "--scorer", "paper", "--json").out)
    assert found["runs"][0]["scorer"] == "paper"
    assert found["runs"][0]["recall"]["exact"]["hits"] == 0


def test_no_run_is_one_line(mmneedle):
    assert "nowhere" in mmneedle.refused("findings", "nowhere")


def test_a_run_without_answers(mmneedle, tmp_path):
    write_run(tmp_path / "run", lambda *_: None, {ONE: 8})
    assert "None of 8 questions has an answer" in mmneedle("findings", "run").out
    write_run(tmp_path / "bad", lambda *_: Response("server_error", error="x"), {ONE: 8})
    out = mmneedle("findings", "bad").out
    assert "8 of 8 questions (100.0" in out and "8 server_error" in out


# --------------------------------------------------------------------------- form


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("1,2,3", "other spacing or separators"),
        ("1; 2; 3", "other spacing or separators"),
        ("(1, 2, 3)", "brackets or quotes"),
        ("`1, 2, 3`", "brackets or quotes"),
        ("**1, 2, 3**", "brackets or quotes"),
        ('{"index": 1, "row": 2, "column": 3}', "JSON"),
        ('```json\n{"index": 1, "row": 2, "column": 3}\n```', "JSON"),
        ("Image 1, row 2, column 3", "words such as “row” and “column”"),
        ("The answer is 1, 2, 3", "other words around the answer"),
        ("None of them matches.", "absence in words"),
        ("So " * 200 + "1, 2, 3", "a long text around the answer"),
        ("", "absence in words"),
    ],
)
def test_forms(said, what):
    assert form(said) == what


def test_what_only_robust_reads(tmp_path):
    ways = ["{}", "({})", "the cell is {}", "{}"]

    def answer(setting, index, truth):
        return ok(ways[index // 2 % 4].format(text(truth)))

    found = study(write_run(tmp_path / "run", answer, {TEN: 80}))
    assert "format.paper" in keys(found)
    assert found.formats.paper_misses.hits == 40
    assert found.formats.forms == {
        "brackets or quotes": 20,
        "other words around the answer": 20,
    }
    sentence = next(one.text for one in found.findings if one.key == "format.paper")
    assert "40 of 80 (50.0 %" in sentence and "brackets or quotes (50 %)" in sentence


def test_faults_of_form(tmp_path):
    ends = [
        Response("refused", "I cannot help with that."),
        Response("truncated", "Let me think about"),
        Response("empty"),
        ok("a dog"),
        ok("7, 9, 9"),
        ok("word " * 100),
        Response("timeout", error="x"),
    ]

    def answer(setting, index, truth):
        return ends[index % 20] if index % 20 < len(ends) else ok(text(truth))

    found = study(write_run(tmp_path / "run", answer, {FOUR: 400}))
    assert keys(found) >= {
        "format.refused",
        "format.truncated",
        "format.empty",
        "format.unparsed",
        "format.out_of_range",
        "format.long",
        "format.unanswered",
    }
    assert found.formats.unanswered == {"timeout": 20}
    assert found.formats.faults["unparsed"].hits == 40  # the dog, and the many words
    said = next(one.text for one in found.findings if one.key == "format.out_of_range")
    assert "most often “7, 9, 9”" in said


def test_the_example_where_it_is_no_cell(tmp_path):
    found = study(write_run(tmp_path / "run", lambda *_: ok("1, 2, 3"), {ONE: 80}))
    said = next(one.text for one in found.findings if one.key == "format.out_of_range")
    assert "“1, 2, 3”, the prompt’s own example" in said
    none = next(one for one in found.findings if one.key == "pointing.none")
    assert "name cells that the haystack does not have" in none.text


def test_several_needles_are_counted_one_by_one(tmp_path):
    two = Setting(2, 3, 3, 2)

    def half(setting, index, truth):
        return ok(f"{truth[0] or '1, 1, 1'}; -1")

    found = study(write_run(tmp_path / "run", half, {two: 80}))
    assert found.answers == 160
    whole = found.existence.whole
    assert (whole.sensitivity.hits, whole.sensitivity.n) == (40, 80)
    assert (whole.alarms.hits, whole.alarms.n) == (40, 80)
    assert whole.sensitivity.interval[1] - whole.sensitivity.interval[0] > 0.1
    assert "pointing.first_cell" in keys(found)


# --------------------------------------------------------------------------- pixels


def test_runs_with_other_cells_are_compared(mmneedle, tmp_path):
    def blind(setting, index, truth):
        return ok(text(truth) if index % 6 else "-1")

    for name, cell, answer in (("large", 256, always_right), ("small", 32, blind)):
        run = write_run(tmp_path / name, answer, {TEN: 120})
        header = msgspec.structs.replace(run.header, effective_cell={TEN.name: (cell, cell)})
        (tmp_path / name / "run.json").write_bytes(msgspec.json.encode(header))
    found = json.loads(mmneedle("findings", "small", "large", "--json").out)
    (pair,) = found["resized"]
    assert (pair["small"], pair["large"]) == ("32", "256")
    assert (pair["n"], pair["only_small"], pair["only_large"]) == (60, 0, 20)
    assert pair["text"].startswith("Pixels matter: Exact 66.7 % with cells of 32 px")
    assert pair["p"] == pytest.approx(2 * 0.5**20)
    assert "Pixels matter" in mmneedle("findings", "small", "large").out


def test_pixels_and_settings_change_together_in_one_run(tmp_path):
    run = write_run(tmp_path / "run", always_right, {ONE: 20, FOUR: 20})
    cells = {ONE.name: (256, 256), FOUR.name: (64, 64)}
    header = msgspec.structs.replace(run.header, effective_cell=cells)
    found = study(type(run)(header, run.folders))
    assert "pixels.confounded" in keys(found, "cannot tell: too few")
