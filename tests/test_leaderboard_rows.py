"""Which rows a leaderboard shows, their ranks, and why some of them cannot be compared."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import (
    ONE,
    TEN,
    Truth,
    always_first,
    always_right,
    made_up,
    ok,
    text,
    write_run,
)
from rounds import examples
from shell import Shell, build

from mmneedle.comparing import compare_runs
from mmneedle.data.shapes import ShapesSource
from mmneedle.reports.blocks import blocks
from mmneedle.reports.choice import Choice
from mmneedle.reports.leaderboard import Leaderboard, leaderboard
from mmneedle.reports.tex import escape
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import build as build_dataset
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Response, Setting


def right_on(share: float, salt: int = 0) -> Any:
    """A model that is right on so many of a hundred samples, spread over them."""

    def answer(setting: Setting, index: int, truth: Truth) -> Response:
        hit = (index * 37 + salt) % 100 < 100 * share
        return ok(text(truth) if hit else "9, 9, 9")

    return answer


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    counts = {ONE: 200, TEN: 200}
    answers = {"v/best": (1.0, 0), "v/near": (0.97, 0), "w/half": (0.5, 0), "w/low": (0.45, 50)}
    return [
        write_run(tmp_path / name[2:], right_on(*how), counts, model=name)
        for name, how in answers.items()
    ]


def names(board: Leaderboard, table: int = 0) -> list[str]:
    return [line.label for line in board.tables()[table].lines]


# --------------------------------------------------------------------------- ranks


def test_ranks_are_those_of_a_comparison_of_the_runs(runs: list[Run]) -> None:
    board = leaderboard(runs, ranked=True)
    (line, *_) = board.tables()
    found = {one.label: one.rank for one in line.lines}
    expected = compare_runs(runs).ranks
    assert found == {run.header.model: rank for run, rank in zip(runs, expected, strict=True)}
    assert str(found["w/half"]) == "3–4"
    assert "1–2" in board.render("md")
    assert "a sign-flip test" in (board.rank_note or "")
    assert "McNemar's exact test" in (board.rank_note or "")


def test_one_setting_is_ranked_by_that_setting_alone(runs: list[Run]) -> None:
    board = leaderboard(runs, ranked=True, choice=Choice.read("1x2"))
    assert [setting.name for setting in board.tables()[0].settings] == [ONE.name]
    assert "by McNemar's exact test, corrected" in (board.rank_note or "")
    by_setting = {e.model: e.setting_rank for e in board.entries if e.scorer == "robust"}
    overall = {e.model: e.rank for e in board.entries if e.scorer == "robust"}
    assert by_setting == overall


def test_rows_of_other_data_sets_are_ranked_apart(runs: list[Run], tmp_path: Path) -> None:
    other = write_run(tmp_path / "o", always_right, {ONE: 20}, model="o/o", fingerprint="b" * 64)
    board = leaderboard([*runs, other], ranked=True)
    ranks = {entry.model: entry.rank for entry in board.entries}
    assert ranks["o/o"] is None
    assert ranks["v/best"] is not None
    alone = leaderboard([other], published=True, ranked=True)
    assert alone.rank_note is None
    assert "| rank |" not in alone.render("md")


def test_ranks_are_in_the_rows_for_scripts(runs: list[Run]) -> None:
    board = leaderboard(runs, ranked=True)
    for rows in (
        json.loads(board.render("json")),
        list(csv.DictReader(io.StringIO(board.render("csv")))),
    ):
        low = next(row for row in rows if row["model"] == "w/low")
        assert (int(low["rank_best"]), int(low["rank_worst"])) == (3, 4)
        assert (int(low["start"]), int(low["stop"])) == (0, 200)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("sort", ["exact", "youden", "10x2"])
def test_a_run_without_an_answer_has_no_rank_and_changes_no_other(
    sort: str, missing: bool, runs: list[Run], tmp_path: Path
) -> None:
    def ranks(board: Leaderboard) -> dict[str, list[str]]:
        return {
            line.label: [str(line.rank), *(str(cell.rank) for cell in line.cells.values())]
            for table in board.tables()
            for line in table.lines
            if line.rank
        }

    empty = write_run(tmp_path / "e", lambda *_: None, {ONE: 200, TEN: 200}, model="z/empty")
    if missing:
        (empty.folder / "responses.jsonl").unlink()
    choice = Choice.read(sort=sort)
    before = leaderboard(runs, ranked=True, choice=choice)
    after = leaderboard([empty, *runs], ranked=True, choice=choice)
    assert ranks(after) == ranks(before)
    assert after.rank_note == before.rank_note
    for form in ("md", "html", "latex"):
        assert "z/empty has no answers at all, and so no rank." in after.render(form)
    assert "| – | z/empty |" in after.render("md")


def test_a_row_without_what_ranks_are_by_has_none(runs: list[Run], tmp_path: Path) -> None:
    def ranks(board: Leaderboard) -> dict[str, str]:
        return {line.label: str(line.rank) for line in board.tables()[0].lines}

    def on_negatives(setting: Setting, index: int, truth: Truth) -> Response | None:
        return ok("-1") if truth[0] is None else None

    part = write_run(tmp_path / "part", always_right, {ONE: 200}, model="x/part")
    half = write_run(tmp_path / "half-it", on_negatives, {ONE: 200, TEN: 200}, model="x/neg")
    by_ten = Choice.read(sort="10x2")
    expected = ranks(leaderboard(runs, ranked=True, choice=by_ten))
    board = leaderboard([part, half, *runs], ranked=True, choice=by_ten)
    found = ranks(board)
    assert (found.pop("x/part"), found.pop("x/neg")) == ("None", "None")
    assert found == expected
    told = "no rank (–), for want of a positive at (10,2) that it answered."
    assert f"x/part, x/neg: {told}" in board.render("md").replace("x/neg, x/part", "x/part, x/neg")
    by_youden = leaderboard([half, *runs], ranked=True, choice=Choice.read(sort="youden"))
    assert ranks(by_youden)["x/neg"] == "None"
    assert "x/neg: no rank (–), for want of an answer on both splits" in by_youden.render("md")


def test_one_test_for_all_is_told_once(tmp_path: Path) -> None:
    answers = {"m/half": right_on(0.5), "m/low": right_on(0.2)}
    shared = [
        write_run(tmp_path / name[2:], how, {ONE: 80, TEN: 80}, model=name, questions=4)
        for name, how in answers.items()
    ]
    note = leaderboard(shared, ranked=True).rank_note or ""
    assert "both answered by a sign-flip test over haystacks, corrected" in note
    assert note.count("sign-flip") == 1


@pytest.mark.parametrize("sort", ["exact", "10x2"])
def test_a_mean_over_fewer_settings_is_marked(sort: str, runs: list[Run], tmp_path: Path) -> None:
    part = write_run(tmp_path / "part", always_right, {ONE: 200}, model="x/part")
    board = leaderboard([part, *runs], ranked=True, choice=Choice.read(sort=sort))
    rows = [row for row in board.render("md").splitlines() if row.startswith("| ") and "/" in row]
    assert all((" ¶ |" in row) == ("x/part" in row) for row in rows)
    for form, mark in (("md", "¶ A mean"), ("html", "¶ A mean"), ("latex", r"\P{} A mean")):
        text = board.render(form)
        assert f"{mark} over fewer settings than other rows have" in text
    assert r"100.0\,\P{}" in text
    assert ("stand below" in board.render("md")) == (sort == "exact")
    assert "¶" not in leaderboard(runs, ranked=True).render("md")


# --------------------------------------------------------------------------- choosing


def test_sorting(tmp_path: Path) -> None:
    def shy(setting: Setting, index: int, truth: Truth) -> Response:
        return ok("-1" if setting == TEN or truth[0] is None else text(truth))

    def bold(setting: Setting, index: int, truth: Truth) -> Response:
        return ok(
            text(truth) if truth[0] is not None and (setting == TEN or index % 4) else "1, 1, 1"
        )

    counts = {ONE: 40, TEN: 40}
    board = [
        write_run(tmp_path / "shy", shy, counts, model="m/shy"),
        write_run(tmp_path / "bold", bold, counts, model="m/bold"),
    ]
    order = {
        sort: names(leaderboard(board, choice=Choice.read(sort=sort), ranked=True))
        for sort in ("exact", "youden", "1x2", "10x2")
    }
    assert order == {
        "exact": ["m/bold", "m/shy"],
        "youden": ["m/shy", "m/bold"],
        "1x2": ["m/shy", "m/bold"],
        "10x2": ["m/bold", "m/shy"],
    }
    ranked = leaderboard(board, choice=Choice.read(sort="youden"), ranked=True)
    assert "Ranks are by existence" in (ranked.rank_note or "")
    at = leaderboard(board, choice=Choice.read(sort="10x2"), ranked=True)
    assert "at (10,2)" in (at.rank_note or "")
    assert {e.model: str(e.rank) for e in at.entries} == {"m/bold": "1", "m/shy": "2"}


def test_a_row_without_the_setting_comes_last(runs: list[Run], tmp_path: Path) -> None:
    part = write_run(tmp_path / "part", always_right, {ONE: 200}, model="x/part")
    assert names(leaderboard([part, *runs], choice=Choice.read(sort="10x2")))[-1] == "x/part"


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("v/", {"v/best", "v/near"}),
        ("V/BEST", {"v/best"}),
        ("*/*a*", {"v/near", "w/half"}),
        ("half", {"w/half"}),
        ("?/low", {"w/low"}),
        (None, {"v/best", "v/near", "w/half", "w/low"}),
    ],
)
def test_models_are_chosen_by_name(pattern: str | None, kept: set[str], runs: list[Run]) -> None:
    board = leaderboard(runs, choice=Choice.read(models=pattern), ranked=True)
    assert {entry.model for entry in board.entries} == kept


def test_settings_needles_and_scorers_are_chosen(tmp_path: Path) -> None:
    counts = {ONE: 8, TEN: 8, Setting(1, 2, 2, 2): 8}
    run = write_run(tmp_path / "run", always_right, counts)

    def kept(**chosen: str) -> set[tuple[str, str]]:
        entries = leaderboard([run], published=True, choice=Choice.read(**chosen)).entries
        return {(e.setting.name, e.scorer) for e in entries if e.origin == "run"}

    assert kept(settings="1x2") == {
        (name, scorer) for name in ("n1-g2x2-k1", "n1-g2x2-k2") for scorer in ("robust", "paper")
    }
    assert kept(needles="2", scorer="robust") == {("n1-g2x2-k2", "robust")}
    only = leaderboard([run], published=True, choice=Choice.read("10x2", needles="1"))
    assert {entry.setting for entry in only.entries} == {TEN}
    robust = leaderboard([run], published=True, choice=Choice.read(scorer="robust"))
    assert {e.origin for e in robust.entries} == {"run", "published"}
    assert {e.scorer for e in robust.entries if e.origin == "run"} == {"robust"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--models", "gpt"), "no model is named 'gpt'; there are baseline/oracle"),
        (("--setting", "7x7"), "the settings are 1x2 with 1 needle"),
        (("--sort", "10x8"), "--sort 10x8: no table has this setting; there are 1x2"),
        (("--sort", "10x8", "--setting", "1x2"), "no table has this setting; there are 1x2"),
        (("--needles", "x"), "--needles takes numbers such as 1,10"),
        (("--sort", "best"), "--sort takes exact, youden or a setting such as 10x8, not 'best'"),
        (("--sort", "1x2,10x2"), "--sort takes exact, youden or a setting"),
        (("--format", "xml"), "'xml' is not one of"),
    ],
)
def test_what_leaves_no_row_is_one_clear_line(
    words: tuple[str, ...], reason: str, mmneedle: Shell
) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "o")
    assert reason in mmneedle.refused("leaderboard", "o", *words)


def test_every_format_from_the_command_line(mmneedle: Shell) -> None:
    build(mmneedle)
    for model in ("oracle", "first"):
        mmneedle.ok("run", "set", "--model", f"baseline/{model}", "--log", model)
    mmneedle.ok("submit", "pack", "oracle", "--by", "Ann <b>")
    for form in ("md", "csv", "json", "latex", "html"):
        shown = mmneedle.ok(
            "leaderboard", "oracle", "first", "oracle.submission.zip", "--published",
            "--format", form, "--sort", "youden", "--models", "*",
        )  # fmt: skip
        assert "baseline/first" in shown
        assert form in ("csv", "json") or "oracle.submission.zip holds the answers of" in shown
        assert "Ann <b>" not in shown or form in ("csv", "json")
        assert mmneedle.ok("leaderboard", "first", "--format", form, "--out", "x/y") == "x/y\n"
        assert Path("x/y").read_text()


# --------------------------------------------------------------------------- comparability


def test_why_two_data_sets_cannot_be_compared(tmp_path: Path) -> None:
    def run(name: str, scenes: int, rules: Rules, tiles: TileFormat) -> Run:
        source = ShapesSource(scenes)
        data = build_dataset(tmp_path / f"d-{name}", source, {ONE: 8}, rules, tiles, workers=1)
        return write_run(tmp_path / name, always_right, {ONE: 8}, model=f"m/{name}", dataset=data)

    one = run("one", 60, Rules(), TileFormat(64, 64))
    two = run("two", 60, Rules(seed=3, hard_negatives=0.5), TileFormat(64, 64))
    three = run("three", 90, Rules(), TileFormat(32, 32, 90, "4:4:4"))
    marks = [r.header.dataset_fingerprint[:12] for r in (one, two, three)]
    said = "\n".join(leaderboard([one, two, three]).apart)
    first, second, _ = leaderboard([one, two, three]).apart
    assert (
        f"Data sets {marks[0]} and {marks[1]} differ in the seed (0 and 3), the share of" in first
    )
    assert "the cell size in pixels (64x64 and 32x32), the JPEG quality (75 and 90)" in second
    assert "the chroma subsampling (4:2:0 and 4:4:4), the number of photos (60 and 90)" in second
    assert "the photos or their captions (by SHA-256)" in second
    for form in ("md", "latex", "html"):
        assert "the share of hard negatives" in leaderboard([one, two]).render(form)
    # a data set that has gone: its fingerprint is all that is known
    shutil.rmtree(tmp_path / "d-two")
    (gone,) = leaderboard([one, two]).apart
    assert f"the recipe of {marks[1]} is not at hand" in gone
    assert said


def test_other_samples_cells_and_needles_are_told(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", always_right, {ONE: 40, TEN: 40}, model="m/whole")
    early = write_run(tmp_path / "early", always_right, {ONE: 20, TEN: 40}, model="m/early")
    header = msgspec.structs.replace(early.header, resize=(14, 14))
    (early.folder / "run.json").write_bytes(msgspec.json.encode(header))
    two = write_run(tmp_path / "two", always_right, {Setting(1, 2, 2, 2): 8}, model="m/two")
    board = leaderboard([whole, Run.open(early.folder), two], ranked=True)
    said = "\n".join(board.apart)
    assert "Questions of 1 and 2 needles differ in what counts as right" in said
    assert "Cells were not sent at the same size: m/whole as built; m/early shrunk to 14 px" in said
    assert (
        "At (1,2) rows were asked different samples: m/whole: numbers 0 to 39; m/early: numbers "
        "0 to 19 (20 are common to all)" in said
    )
    markdown = board.render("md")
    assert "| m/early ‡ |" in markdown
    assert "‡ Fewer samples than another row of the table" in markdown
    assert "‡" not in leaderboard([whole, two], ranked=True).render("md")


def test_what_is_not_shown_is_not_told(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", always_right, {ONE: 8, TEN: 8}, model="m/one")
    two = write_run(tmp_path / "two", always_right, {ONE: 4, TEN: 8}, model="m/two")
    assert leaderboard([one, two]).apart
    assert not leaderboard([one, two], choice=Choice.read("10x2")).apart
    assert not leaderboard([one, two], choice=Choice.read(models="one")).apart


def test_tasks_are_never_mixed(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", always_right, {ONE: 8}, model="m/one")
    two = write_run(tmp_path / "two", always_right, {ONE: 8}, model="m/two")
    header = msgspec.structs.replace(two.header, task="twin-literal")
    (two.folder / "run.json").write_bytes(msgspec.json.encode(header))
    board = leaderboard([one, Run.open(two.folder)], ranked=True)
    assert all(len(table.lines) == 1 for table in board.tables())
    assert any("Tasks grid and twin-literal put the haystack" in text for text in board.apart)


# --------------------------------------------------------------------------- best, and LaTeX


def test_the_best_and_all_that_cannot_be_told_from_it_are_bold(runs: list[Run]) -> None:
    (table, *_) = leaderboard(runs, ranked=True).tables()
    exact = blocks(table)[0]
    assert [[cell.best for cell in row] for row in exact.rows] == [
        [True, True], [True, True], [False, False], [False, False],
    ]  # fmt: skip
    (plain, *_) = leaderboard(runs).tables()
    assert [row[0].best for row in blocks(plain)[0].rows] == [True, False, False, False]


def test_equal_figures_are_bold_together() -> None:
    table = leaderboard([], published=True).tables()[0]
    exact = blocks(table)[0]
    at = [setting.name for setting in table.settings].index("n10-g8x8-k1")
    assert [
        line.label for line, row in zip(table.lines, exact.rows, strict=True) if row[at].best
    ] == ["GPT-4o"]


def test_latex_has_balanced_tables(runs: list[Run]) -> None:
    tex = leaderboard(runs, published=True, ranked=True).render("latex")
    assert tex.count(r"\begin{table*}") == tex.count(r"\end{table*}") > 3
    for part in tex.split(r"\begin{tabular}")[1:]:
        columns = part[: part.index("\n")].count("r") + part[: part.index("\n")].count("l")
        body = part[: part.index(r"\end{tabular}")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {row.count(" & ") + 1 for row in rows} == {columns}
        assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [
            1,
            2,
            1,
        ]
        assert r"\hline" not in body
    assert tex.count("{") == tex.count("}")
    assert r"GPT-4o\,$\dagger$" in tex
    assert r"\textbf{100.0}" in tex
    assert tex.isascii()


UNSAFE = set("\\{}$&#%_~^")


@given(st.text(max_size=60))
@examples(300)
def test_no_word_is_a_command_in_latex(words: str) -> None:
    tex = escape(words)
    assert tex.isascii()
    assert "\n" not in tex
    assert "--" not in tex or "–" in words
    for known in (
        r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"\textless{}",
        r"\textgreater{}", r"\textbar{}", r"$\dagger$", r"$\ddagger$", r"\S{}", r"\P{}", r"$-$",
        r"$\times$", r"$\pm$", r"\dots{}",
        r"{\char34}", r"\{", r"\}", r"\$", r"\&", r"\#", r"\%", r"\_", "{}",
    ):  # fmt: skip
        tex = tex.replace(known, "")
    for accent in "`'^~\"v":
        for letter in [*map(chr, range(65, 91)), *map(chr, range(97, 123)), r"\i", r"\j"]:
            tex = tex.replace(rf"\{accent}{{{letter}}}", "")
    assert not UNSAFE & set(tex)


@pytest.mark.parametrize(
    ("words", "tex"),
    [
        ("100% of $5 & #1_a", r"100\% of \$5 \& \#1\_a"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("a--b", "a-{}-b"),
        ("é ü ñ", r"\'{e} \"{u} \~{n}"),
        ("中", "U+4E2D"),
        ("a\u202eb", "a[U+202E]b"),
        ("?`", "?{}`"),
        ("x\ny", "x y"),
    ],
)
def test_words_in_latex(words: str, tex: str) -> None:
    assert escape(words) == tex


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="no pdflatex; the structure is tested above"
)
def test_latex_compiles_by_itself_and_in_a_paper(tmp_path: Path) -> None:
    evil = [
        write_run(tmp_path / f"run-{i}", always_first, {ONE: 8, TEN: 8}, model=f"m/{name}")
        for i, name in enumerate((r"\end{tabular} & % $ # _ ~ ^ { }", "中 é † \u202e", "a" * 60))
    ]
    tex = leaderboard(evil, published=True, ranked=True).render("latex")
    (tmp_path / "board.tex").write_text(tex)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\begin{document}\nBefore.\n"
        "\\input{board}\nAfter.\\end{document}\n"
    )
    for name in ("board", "paper"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").stat().st_size > 10_000


def test_made_up_truths_are_what_these_tests_stand_on() -> None:
    assert made_up(ONE, 1) == (None,)
