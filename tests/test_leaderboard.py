import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from report_runs import (
    ONE,
    TEN,
    Truth,
    always_first,
    always_right,
    ok,
    only_image_one,
    text,
    write_run,
)

from mmneedle import scoring
from mmneedle.errors import UserError
from mmneedle.reports import published as paper
from mmneedle.reports.entries import published_entries
from mmneedle.reports.leaderboard import Leaderboard, leaderboard
from mmneedle.reports.standings import chance
from mmneedle.reports.words import escape, percent
from mmneedle.runlog import Run
from mmneedle.scoring import METRICS
from mmneedle.types import Response, Setting

CSV = Path(paper.__file__).with_name("published.csv")


def rows_of(board: Leaderboard) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(board.render("csv"))))


def table(markdown: str, heading: str) -> list[list[str]]:
    """The first markdown table whose heading line holds `heading`, its rule left out."""
    lines = markdown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("###") and heading in line)
    cells: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return [cells[0], *cells[2:]]


# --------------------------------------------------------------------------- published figures


def test_all_1215_published_figures_are_there_and_equal_their_source() -> None:
    lines = list(csv.DictReader(CSV.read_text(encoding="utf-8").splitlines()))
    assert len(lines) == len(paper.figures()) == 1215
    expected = Counter(
        (
            line["model"],
            f"n{line['images']}-g{line['grid']}x{line['grid']}-k{line['needles']}",
            line["split"],
            paper.METRICS[line["metric"]],
            line["source"],
            round(float(line["value_percent"]) / 100, 6),
        )
        for line in lines
    )
    entries = list(published_entries())
    shown = Counter(
        (entry.model, entry.setting.name, entry.split, metric, source, entry.figures[metric])
        for entry in entries
        for metric, source in entry.sources.items()
    )
    assert shown == expected
    for entry, row in zip(entries, rows_of(leaderboard([], published=True)), strict=True):
        assert (row["origin"], row["scorer"]) == ("published", "paper")
        for metric in METRICS:
            value = entry.figures.get(metric)
            assert row[metric] == ("" if value is None else str(value))
        for source in entry.sources.values():
            assert source.split()[-1] in row["source"].replace(",", "").split()


def test_a_figure_printed_twice_is_shown_from_its_table_and_the_other_is_named() -> None:
    assert sum(not figure.preferred for figure in paper.figures()) == 15
    keys = Counter(
        (figure.model, figure.setting, figure.split, figure.metric)
        for figure in paper.figures()
        if figure.preferred
    )
    assert set(keys.values()) == {1}
    markdown = leaderboard([], published=True).render("md")
    assert "(1,2) 85.71, 80.61" in markdown
    assert "Appendix B (1000 samples): (1,4) 20.20" in markdown
    gpt4v = next(row for row in table(markdown, "Published") if row[0].startswith("GPT-4V"))
    # Pixels a cell by OpenAI's rule; those of whole photos (s = 1) are not known.
    assert gpt4v[1:8] == [
        "86.09 (256 px)", "54.72 (192 px)", "7.30 (96 px)", "72.36", "34.24 (256 px)",
        "7.58 (192 px)", "0.00 (96 px)",
    ]  # fmt: skip


def test_published_rows_are_marked_with_their_source() -> None:
    markdown = leaderboard([], published=True).render("md")
    head, *rows = table(markdown, "Published †")
    assert head[1:8] == ["(1,2)", "(1,4)", "(1,8)", "(10,1)", "(10,2)", "(10,4)", "(10,8)"]
    assert rows[0][:2] == ["GPT-4o †", "94.60 (256 px)"]
    assert "by its provider's documented rule; the paper does not tell." in markdown
    assert rows[0][7] == "1.00 (96 px)"
    assert all(row[0].endswith("†") for row in rows[:-1])
    assert "arXiv:2406.11230v2 Tables 2, 3, 5" in markdown
    row = next(row for row in rows_of(leaderboard([], published=True)))
    assert row["source"] == "arXiv:2406.11230v2 Table 2"
    assert row["answered"] == row["dataset"] == row["status_ok"] == ""


def test_models_without_all_settings_stand_below() -> None:
    names = [row[0] for row in table(leaderboard([], published=True).render("md"), "Published")]
    assert names.index("Fuyu-8B †") < names.index("InstructBLIP-Flan-T5-XXL †")


def test_several_needles_keep_the_individual_figures() -> None:
    entry = next(
        entry
        for entry in published_entries()
        if entry.model == "Claude 3 Opus"
        and entry.setting == Setting(1, 2, 2, 2)
        and entry.split == "positive"
    )
    assert entry.figures["all_exact"] == 0.4974
    assert "Tables 4, 13" in str(entry.flat()["source"])


# --------------------------------------------------------------------------- runs


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    counts = {ONE: 40, TEN: 40}
    return [
        write_run(tmp_path / "first", always_first, counts, model="baseline/first"),
        write_run(tmp_path / "oracle", always_right, counts, model="baseline/oracle"),
        write_run(tmp_path / "one", only_image_one, counts, model="baseline/one"),
    ]


def test_markdown_ranks_models_by_mean_exact(runs: list[Run]) -> None:
    markdown = leaderboard(runs).render("md")
    head, *rows = table(markdown, "`robust`")
    assert head == ["Exact, % of positives", "(1,2)", "(10,2)", "mean", "n", "answered"]
    assert rows[0] == ["baseline/oracle", "100.0", "100.0", "100.0", "20", "100.0 %"]
    assert [row[0] for row in rows[1:]] == ["baseline/one", "baseline/first", "*chance*"]
    assert rows[3][1:4] == ["*25.0*", "*2.5*", "*13.8*"]
    assert "by the paper scorer" in markdown
    assert "1.00 (100.0 / 100.0)" in markdown
    assert "0.00 (100.0 / 0.0)" in markdown


def test_csv_and_json_hold_every_row_of_the_scores(runs: list[Run]) -> None:
    board = leaderboard(runs)
    loaded = json.loads(board.render("json"))
    assert len(loaded) == len(rows_of(board)) == 3 * 2 * 2 * 2
    for run in runs:
        for row in scoring.score_run(run, ("robust", "paper")):
            (found,) = [
                one
                for one in loaded
                if (one["model"], one["split"], one["scorer"], one["images"])
                == (row.model, row.split, row.scorer, row.images)
            ]
            assert found["origin"] == "run"
            assert found["dataset"] == "a" * 64
            assert found["n"] == row.n
            assert found["answered"] == row.answered
            for metric in METRICS:
                assert found[metric] == getattr(row, metric)
            if row.exact is not None:
                assert [found["exact_low"], found["exact_high"]] == list(row.interval["exact"])
    line = rows_of(board)[0]
    assert float(line["exact"]) == loaded[0]["exact"]
    assert line["first_exact"] == ""


def test_the_robust_and_the_paper_scorer_stand_side_by_side(tmp_path: Path) -> None:
    def chatty(setting: Setting, index: int, truth: Truth) -> Response:
        place = truth[0]
        words = f"image {place.image}, row {place.row}, column {place.column}" if place else "-1"
        return ok(words)

    run = write_run(tmp_path / "run", chatty, {ONE: 20})
    markdown = leaderboard([run]).render("md")
    assert table(markdown, "`robust`")[1][1] == "100.0"
    assert table(markdown, "`paper`")[1][1] == "0.0"
    only = leaderboard([run], scorer="paper")
    assert {entry.scorer for entry in only.entries} == {"paper"}


def test_a_scorer_that_reads_all_answers_alike_is_one_line(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", always_first, {ONE: 8})]
    markdown = leaderboard(runs).render("md")
    said = "Data set aaaaaaaaaaaa by the paper scorer, 1 needle: every figure is the same."
    assert said in markdown
    assert markdown.count("| Exact, % of positives") == 1
    runs += [write_run(tmp_path / "b", lambda s, i, t: ok("1,1,1"), {ONE: 8}, model="m/b")]
    markdown = leaderboard(runs).render("md")
    assert "every figure is the same" not in markdown
    assert markdown.count("| Exact, % of positives") == 2


def test_the_note_on_pixels_names_what_shrank_cells(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, always_first, {ONE: 8}, model=name) for name in "ab"]
    for run in runs:
        run.header.effective_cell = {ONE.name: (14, 14)}
    assert "gets it, after its provider's shrinking;" in leaderboard(runs).render("md")
    runs[0].header.resize = (14, 14)
    assert "after --resize and its provider's shrinking;" in leaderboard(runs[:1]).render("md")
    assert "after --resize, where a row was made with it, and" in leaderboard(runs).render("md")


def test_missing_answers_are_marked_with_their_range(tmp_path: Path) -> None:
    def tired(setting: Setting, index: int, truth: Truth) -> Response | None:
        if index in (0, 2):
            return Response(status="timeout", error="no reply")
        return None if index == 4 else ok(text(truth))

    run = write_run(tmp_path / "run", tired, {ONE: 20})
    markdown = leaderboard([run]).render("md")
    row = table(markdown, "`robust`")[1]
    assert row[1] == "100.0 \\*"
    assert row[-1] == "85.0 %"
    assert "Exact on positives lies within 70.0–100.0 at (1,2)" in markdown
    (positive,) = [r for r in rows_of(leaderboard([run])) if r["split"] == "positive"][:1]
    assert (positive["n"], positive["answered"], positive["status_timeout"]) == ("10", "7", "2")
    assert positive["status_missing"] == "1"
    assert float(positive["exact_worst"]) == 0.7


def test_runs_on_different_data_sets_are_never_in_one_table(tmp_path: Path) -> None:
    here = write_run(tmp_path / "a", always_right, {ONE: 20}, fingerprint="a" * 64)
    there = write_run(tmp_path / "b", always_first, {ONE: 20}, fingerprint="b" * 64)
    board = leaderboard([here, there])
    for one in board.tables():
        assert len(one.lines) == 1
    markdown = board.render("md")
    assert f"data set `{'a' * 12}`" in markdown
    assert f"data set `{'b' * 12}`" in markdown
    assert "The runs were made on 2 data sets" in markdown


def test_different_samples_of_one_data_set_are_noted(tmp_path: Path) -> None:
    here = write_run(tmp_path / "a", always_right, {ONE: 20}, model="m/a")
    there = write_run(tmp_path / "b", always_right, {ONE: 20}, model="m/b", start=20)
    text = leaderboard([here, there]).render("md")
    assert text.count("different samples") == 1
    assert "comparable only within" not in text
    assert "different samples" not in leaderboard([here, here]).render("md")


def test_two_runs_of_one_model_keep_their_own_rows(tmp_path: Path) -> None:
    one = write_run(tmp_path / "x" / "run", always_right, {ONE: 20})
    two = write_run(tmp_path / "y" / "run", always_first, {ONE: 20})
    rows = table(leaderboard([one, two]).render("md"), "`robust`")
    assert len(rows) == 4
    assert rows[1][0] != rows[2][0]
    assert all("baseline/test" in row[0] for row in rows[1:3])


def test_a_run_without_answers_is_one_note(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda s, i, t: None, {ONE: 4, TEN: 4})
    markdown = leaderboard([run]).render("md")
    assert "- \\* baseline/test has no answers at all.\n" in markdown
    assert "lies within" not in markdown


def test_published_tables_are_those_of_the_needles_that_runs_have(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {ONE: 4})
    needles = [one.needles for one in leaderboard([run], published=True).tables() if one.published]
    assert needles == [1]
    needles = [one.needles for one in leaderboard([], published=True).tables()]
    assert needles == [1, 2, 5]


def test_several_needles_have_a_table_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {ONE: 20, Setting(1, 2, 2, 2): 20})
    markdown = leaderboard([run]).render("md")
    assert "## grid, 1 needle\n" in markdown
    assert "## grid, 2 needles\n" in markdown
    assert chance(Setting(1, 2, 2, 2)) == pytest.approx(1 / 12)


def test_chance_is_said_in_words_and_only_where_there_is_one(tmp_path: Path) -> None:
    five = {Setting(1, 2, 2, 5): 8, Setting(10, 1, 1, 5): 8}
    run = write_run(tmp_path / "run", always_first, {ONE: 20, **five})
    markdown = leaderboard([run]).render("md")
    one, several = (part.split("### ")[1] for part in markdown.split("## grid, ")[1:])
    assert "| *chance* | *0.00* | *0.00* |" in one
    assert "| *chance* | *–* | *–* | *–* |" in several
    # five needles do not fit four cells; the mean is that of the other setting
    assert "| *chance* | *–* | *0.0033* | *0.0033* |  |  |" in several
    assert chance(Setting(1, 2, 2, 5)) is None
    assert "naming K different cells at random: all K right" in markdown
    alone = leaderboard([write_run(tmp_path / "one", always_first, {ONE: 20})]).render("md")
    assert "Chance is the Exact accuracy of always naming a cell, drawn at random" in alone
    assert "needles" not in alone


def test_the_reach_of_intervals_covers_their_longer_side(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {ONE: 20})
    (low, high) = scoring.score_run(run, ("robust",))[0].interval["exact"]
    assert high == 1
    markdown = leaderboard([run]).render("md")
    assert f"reach at most {100 * (1 - low):.1f} points from the score" in markdown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain/model-1.5_b", "plain/model-1.5_b"),
        ("a|b", "a\\|b"),
        ("`code`", "\\`code\\`"),
        ("*bold* _it_ [x](y)", "\\*bold\\* \\_it\\_ \\[x\\](y)"),
        ("<script>", "&lt;script&gt;"),
        ("two\nlines", "two lines"),
        ("\u202eevil", "\\[U+202E\\]evil"),
    ],
)
def test_names_cannot_break_a_markdown_table(name: str, shown: str, tmp_path: Path) -> None:
    assert escape(name) == shown
    run = write_run(tmp_path / "run", always_right, {ONE: 4}, model=name)
    assert f"| {shown} | 100.0 |" in leaderboard([run]).render("md")


def test_an_unknown_format_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="choose one of md, csv, json"):
        leaderboard([]).render("xml")


def test_nothing_at_all_is_still_valid() -> None:
    board = leaderboard([])
    assert json.loads(board.render("json")) == []
    assert board.render("md").strip() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0"),
        (1.0, "100.0"),
        (0.9999, ">99.9"),
        (0.0001, "<0.1"),
        (0.456, "45.6"),
        (None, "–"),
    ],
)
def test_per_cent_never_rounds_to_perfection(value: float | None, shown: str) -> None:
    assert percent(value) == shown
