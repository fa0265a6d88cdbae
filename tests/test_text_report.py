"""The page on texts: its numbers are the scores' own, its sentences follow them."""

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply
from report_runs import TEN, always_right, ok, write_run
from report_runs import text as right_answer
from shell import Shell
from text_runs import EXPECTED, grid, says, write_text_run
from twin_runs import write_forms

from mmneedle.errors import UserError
from mmneedle.reports.textual import depth as depths
from mmneedle.reports.textual import maps, models
from mmneedle.reports.textual.series import read
from mmneedle.reports.textual.write import render, write_text_report
from mmneedle.runlog import Run
from mmneedle.texts.effective import effective_lengths
from mmneedle.texts.scoring import score_text_run
from mmneedle.types import Response, Setting, TextSetting, Usage

LENGTHS = (1024, 2048, 4096)
DEPTHS = tuple(range(0, 1001, 100))
MIDDLE = range(300, 701)


def niah(folder: Path, right, count: int = 4, needles: int = 1, **more) -> Run:
    """A run of niah; `right(setting, index)` says whether the answer is."""
    settings = grid("niah", LENGTHS, DEPTHS, count, needles)
    return write_text_run(folder, lambda s, i: says(right(s, i), s), settings, **more)


def flaky(seed: int, share: float):
    def right(setting: TextSetting, index: int) -> bool:
        at = [seed, setting.length, setting.depth, index]
        return bool(np.random.default_rng(at).random() < share)

    return right


def plain(page: str) -> str:
    """The page's words."""
    body = page.split("<main", 1)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


# --------------------------------------------------------------------------- numbers


def test_cells_are_those_of_the_scores(tmp_path: Path) -> None:
    def answer(setting: TextSetting, index: int) -> Response | None:
        if setting.length == 4096:
            return Response(status="too_long", error="too long")
        if index == 3:
            return Response(status="timeout", error="slow")
        return None if index == 2 else says(index == 0, setting)

    for needles in (1, 3):
        settings = grid("niah", LENGTHS, (0, 500, 1000), 4, needles)
        run = write_text_run(tmp_path / str(needles), answer, settings)
        (series,) = read([run]).series
        found = {(cell.length, cell.depth): cell for cell in maps.cells(series)}
        rows = score_text_run(run)
        assert len(rows) == len(found) == 9
        for row in rows:
            assert row.depth is not None
            cell = found[row.length, round(1000 * row.depth)]
            assert (cell.n, cell.answered) == (row.n, row.answered)
            assert cell.score == pytest.approx(row.score)
            assert (cell.interval, cell.bounds, cell.tokens) == (
                row.interval, row.bounds, row.tokens,
            )  # fmt: skip
            assert cell.statuses == row.statuses
        assert {cell.state for cell in found.values()} == {"scored", "skipped"}


def test_effective_lengths_are_those_of_the_verb(tmp_path: Path) -> None:
    run = niah(tmp_path / "run", lambda s, i: s.length < 4096 or i == 0)
    for threshold in (None, 0.2):
        (series,) = read([run], threshold).series
        assert series.effective == effective_lengths([run], threshold)[0]
    page = plain(render([run]))
    assert "Effective length: 2,048 tokens" in page
    assert "Effective length: 4,096 tokens or more" in plain(render([run], threshold=0.2))


def test_images_and_twins_stand_on_the_axis_of_tokens(tmp_path: Path) -> None:
    runs = write_forms(tmp_path, [(40, "lp"), (60, "ilp")])
    found = {one.key: one for one in read(runs).series}
    assert list(found) == ["images", "literal twin", "paraphrase twin"]
    (level,) = found["images"].levels
    assert (level.name, level.point.score, level.point.n) == ("(10,2)", 0.6, 100)
    assert level.tokens == pytest.approx(1001, abs=0.1)
    assert found["images"].effective.length is None
    assert found["literal twin"].effective.length == 40  # cells
    page = render([*runs, niah(tmp_path / "niah", lambda s, i: True, model="test/model")])
    assert "Most of the loss in images is sight: 40 of 40" in page
    legend = page.split('id="axis"')[1].split("</section>")[0]
    for name in ("images", "literal twin", "paraphrase twin", "niah"):
        assert f">{name}<" in legend.replace("<wbr>", "").replace("</svg>", ">")


def test_without_told_tokens_texts_stand_at_their_length_and_images_nowhere(tmp_path: Path) -> None:
    images = write_forms(tmp_path, [(4, "ilp")], forms=("image",), tokens=False)
    text = write_text_run(
        tmp_path / "text",
        lambda s, i: Response("ok", text=EXPECTED),
        grid("niah", LENGTHS, (0,), 2),
    )
    found = {one.key: one for one in read([*images, text]).series}
    assert [level.x for level in found["niah"].levels] == list(LENGTHS)
    assert [level.x for level in found["images"].levels] == [None]
    assert found["images"].unit == "cells"
    page = plain(render([*images, text]))
    assert "Not on the axis, because no tokens are known: images." in page
    assert "stand at their lengths as the data set counts them" in page


def test_tasks_that_count_pairs_say_so(tmp_path: Path) -> None:
    settings = grid("keyvalue", (75, 140), (0, 1000), 3)
    run = write_text_run(tmp_path / "run", lambda s, i: says(True, s), settings)
    page = plain(render([run]))
    assert "lengths count pairs" in page and "Effective length: 140 pairs or more" in page


def test_a_closed_book_has_no_length(mmneedle: Shell, tmp_path: Path) -> None:
    settings = grid("multidoc.closed", (0,), (-1,), 6) | grid("multidoc", (10, 20), (0, 1000), 6)
    run = write_text_run(tmp_path / "run", lambda s, i: says(s.length > 0, s), settings)
    out = tmp_path / "page.html"
    mmneedle.ok("text-report", run.folder, "--out", out, "--figures", tmp_path / "f")
    page = plain(out.read_text())
    assert "no haystack" in page and not re.search(r"(?<![0-9])0 documents or more", page)
    assert (tmp_path / "f" / "text-length-multidoc.csv").exists()
    assert not (tmp_path / "f" / "text-length-multidoc-closed.csv").exists()


def test_ruler_tasks_have_a_mean_that_stands_for_them_on_the_axis(tmp_path: Path) -> None:
    settings = grid("ruler.vt", LENGTHS, (-1,), 8) | grid("ruler.cwe", LENGTHS, (-1,), 8)
    run = write_text_run(tmp_path / "run", lambda s, i: says(s.task == "ruler.vt", s), settings)
    found = read([run])
    assert found.keys == ["ruler, mean of its tasks", "ruler.cwe", "ruler.vt"]
    assert [level.point.score for level in found.series[0].levels] == [0.5] * 3
    axis = render([run]).split('id="axis"')[1].split("</section>")[0]
    assert "mean of its tasks" in axis and "ruler.vt" not in axis


# --------------------------------------------------------------------------- the middle


@pytest.mark.parametrize(
    ("right", "shape"),
    [
        (lambda s, i: s.depth not in MIDDLE, "U-shape: lost in the middle"),
        (lambda s, i: s.depth in MIDDLE, "the middle is better than both ends"),
        (lambda s, i: s.depth < 500, "the earlier the needle, the more is found"),
        (lambda s, i: s.depth > 500, "the later the needle, the more is found"),
        (lambda s, i: s.depth < 250, "the start is better than the middle"),
        (lambda s, i: s.depth > 750, "the end is better than the middle"),
        (flaky(1, 0.7), "no U-shape can be told"),
    ],
)
def test_shapes(tmp_path: Path, right, shape: str) -> None:
    run = niah(tmp_path / "run", right, count=6)
    (found,) = depths.bends(read([run]).series)
    assert found is not None
    assert found.shape == shape
    assert found.u_shaped == shape.startswith("U")
    assert depths.sentence(found).lower().startswith(shape.lower())
    assert len(found.spots) == len(DEPTHS)


def test_where_nothing_varies_nothing_is_told(tmp_path: Path) -> None:
    (found,) = depths.bends(read([niah(tmp_path / "run", lambda s, i: True)]).series)
    assert found is not None and not found.u_shaped
    assert depths.sentence(found) == (
        "Nothing can be told about the middle: start 100.0 %, middle 100.0 %, end 100.0 %."
    )


def test_flat_models_are_seldom_called_u_shaped(tmp_path: Path) -> None:
    claimed = 0
    for seed in range(60):
        run = niah(tmp_path / str(seed), flaky(seed, 0.6), count=3)
        (found,) = depths.bends(read([run]).series)
        assert found is not None
        claimed += found.shape != "no U-shape can be told"
    assert claimed <= 8  # 5 % of 60 are 3; more than 8 have odds below 1 %


def test_texts_that_are_hard_at_all_depths_do_not_hide_a_u_shape(tmp_path: Path) -> None:
    """Permutations go within a text: how hard texts are does not matter."""

    def right(setting: TextSetting, index: int) -> bool:
        return index % 2 == 0 and setting.depth not in MIDDLE

    run = niah(tmp_path / "run", right, count=6)
    (found,) = depths.bends(read([run]).series)
    assert found is not None and found.u_shaped


def test_settings_are_mixed_alike_in_all_parts_of_an_image_haystack(tmp_path: Path) -> None:
    """A hard setting that was asked at its start alone does not make the start hard."""
    wide = Setting(10, 8, 8)

    def answer(setting: Setting, index: int, truth) -> Response:
        return ok(right_answer(truth) if setting == TEN else "-1")

    run = write_run(tmp_path / "run", answer, {TEN: 160, wide: 100})  # cells 0 to 49 of 640
    (series,) = read([run]).series
    placed = depths.placed(series)
    assert placed is not None and len(placed.right) == 130
    found = depths.bend(placed)
    assert [part.value for part in (found.start, found.middle, found.end)] == [1.0] * 3
    assert sum(part.n for part in (found.start, found.middle, found.end)) == 80


def test_a_habit_of_naming_the_first_cell_is_no_start_that_is_better(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda s, i, t: ok("1, 1, 1"), {TEN: 400})
    (found,) = depths.bends(read([run]).series)
    assert found is not None and found.start.value and found.middle.value == 0
    assert found.shape == "no U-shape can be told"


def test_several_needles_have_no_single_place(tmp_path: Path) -> None:
    run = niah(tmp_path / "run", lambda s, i: s.depth not in MIDDLE, needles=4)
    assert depths.bends(read([run]).series) == [None]
    assert "no single place" in plain(render([run]))


# --------------------------------------------------------------------------- several models


def test_models_are_compared_on_common_samples(tmp_path: Path) -> None:
    good = niah(tmp_path / "good", lambda s, i: True, model="test/good")
    bad = niah(tmp_path / "bad", lambda s, i: i % 2 == 0, model="test/bad")
    found = read([good, bad])
    assert found.subjects == ("test/good", "test/bad")
    (pair,) = models.pairs(found)
    assert pair.result.counts.only_a == 66 and pair.result.difference == pytest.approx(0.5)
    page = plain(render([good, bad]))
    assert "test/good is better than test/bad by 50.0 points" in page
    same = niah(tmp_path / "same", lambda s, i: True, model="test/same")
    assert "The data cannot tell test/good and test/same apart" in plain(render([good, same]))


def test_other_data_sets_are_not_paired_and_that_is_said(tmp_path: Path) -> None:
    one = niah(tmp_path / "one", lambda s, i: True, model="test/one")
    other = niah(tmp_path / "other", lambda s, i: False, model="test/other", fingerprint="d" * 64)
    assert models.pairs(read([one, other])) == []
    page = plain(render([one, other]))
    assert page.count("The models were asked different data sets") == 1
    assert "their samples differ: niah." in page


def test_parameters_make_a_model_another_one(tmp_path: Path) -> None:
    hot = niah(tmp_path / "hot", lambda s, i: True, adapter={"temperature": 1})
    cold = niah(tmp_path / "cold", lambda s, i: True, adapter={"temperature": 0})
    elsewhere = niah(tmp_path / "else", lambda s, i: True, adapter={"temperature": 0},
                     fingerprint="d" * 64)  # fmt: skip
    assert read([hot, cold, elsewhere]).subjects == (
        "test/model (temperature 1)",
        "test/model (temperature 0)",
    )


# --------------------------------------------------------------------------- the page


def hostile(setting: TextSetting, index: int) -> Response:
    words = '</pre><script>document.title="owned"</script><img src=x onerror=alert(1)> \u202e 7'
    return Response(status="ok", text=words * 40, usage=Usage(input_tokens=setting.length))


def test_what_models_wrote_is_inert(tmp_path: Path) -> None:
    name = "test/<b>\u202emodel"
    run = write_text_run(tmp_path / "run", hostile, grid("niah", LENGTHS, DEPTHS, 2), model=name)
    page = render([run])
    assert "<script" not in page and "<img" not in page and "<b>" not in page
    assert "\u202e" not in page and "U+202E" in page
    assert "script-src &#39;none&#39;" in page or "script-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page)
    assert "characters)" in page, "long answers are cut"


def test_skipped_lengths_are_no_zeros(tmp_path: Path) -> None:
    def answer(setting: TextSetting, index: int) -> Response:
        if setting.length > 2048:
            return Response(status="too_long", error="the window is 2,048")
        return says(True, setting)

    run = write_text_run(tmp_path / "run", answer, grid("niah", LENGTHS, DEPTHS, 2))
    page = render([run])
    assert page.count('class="skipped"') == len(DEPTHS)
    words = plain(page)
    assert "past the window, skipped: 4,096" in words
    assert "22 too_long. The commonest error (22 attempts): the window is 2,048" in words


def test_a_run_without_answers_is_told_as_that(tmp_path: Path) -> None:
    def answer(setting: TextSetting, index: int) -> Response:
        return Response(status="bad_request", error="no")

    run = write_text_run(tmp_path / "run", answer, grid("niah", LENGTHS, DEPTHS, 2))
    page = plain(render([run]))
    assert "no answers" in page and "Not on the axis" not in page
    assert "66 bad_request. The commonest error (66 attempts): no" in page


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    runs = [niah(tmp_path / "run", flaky(3, 0.8))]
    assert render(runs) == render(runs)


def test_a_real_run_over_http(mmneedle: Shell, tmp_path: Path) -> None:
    """A reader that searches the text, but never looks at its middle."""

    def reader(ask: Ask) -> Reply:
        text = ask.prompt
        thing = re.findall(r"What is the secret number of the ([a-z ]+)\?", text)[-1]
        found = re.search(rf"The secret number of the {thing} is (\d+)\.", text)
        assert found
        place = found.start() / len(text)
        return ask.answer("no idea" if 0.25 < place < 0.75 else found[1])

    data = tmp_path / "data"
    words = ("--lengths", "256,512", "--depths", "linear:9", "--samples", 5)
    assert "approximate" in mmneedle.ok("build-text", data, "niah", *words)
    with ChatServer(reader) as server:
        mmneedle.ok(
            "run", data, "--model", "openai/reader", "--base-url", server.url,
            "--log", tmp_path / "run", "--quiet",
        )  # fmt: skip
    out = tmp_path / "page" / "text.html"
    assert mmneedle.ok("text-report", tmp_path / "run", "--out", out) == f"{out}\n"
    page = plain(out.read_text())
    assert "Lengths are approximate: they count four characters as one token" in page
    assert "U-shape: lost in the middle" in page
    scores = json.loads(mmneedle.ok("score", tmp_path / "run", "--json"))
    wrong = sum(row["n"] for row in scores if row["score"] == 0)
    assert f"{wrong} of 90 answers lack something" in page
    sentences = re.findall(r"The secret number of the [a-z ]+ is \d{7}\.", page)
    assert len(sentences) == 6, "each example shows its needle"
    numbers = {re.findall(r"\d{7}", one)[0] for one in sentences}
    assert all(f"Expected {number}" in page for number in numbers)
    assert "mmneedle show data niah-" in page and str(tmp_path) not in page
    data.rename(tmp_path / "moved")
    mmneedle.ok("text-report", tmp_path / "run", "--out", out)
    page = plain(out.read_text())
    assert "(data) there is no data set where the runs saw it" in page
    assert str(tmp_path) not in page


def test_figures_for_papers_have_their_data_and_captions(mmneedle: Shell, tmp_path: Path) -> None:
    def lost(setting: TextSetting, index: int) -> bool:
        return setting.depth not in MIDDLE

    one = niah(tmp_path / "one", lost, count=6, model="test/one")
    other = niah(tmp_path / "other", lambda s, i: True, model="=test/$other_")
    out = tmp_path / "figures"
    said = mmneedle.ok(
        "text-report", one.folder, other.folder, "--out", tmp_path / "page.html",
        "--figures", out, "--formats", "svg", "--columns", 1,
    )  # fmt: skip
    assert f"{out}: 12 files" in said
    names = [
        "text-depth-niah",
        "text-length-niah",
        "text-map-niah",
        "text-tokens-1",
        "text-tokens-2",
    ]
    assert sorted(path.stem for path in out.glob("*.svg")) == names
    with (out / "text-map-niah.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(LENGTHS) * len(DEPTHS)
    assert {row["model"] for row in rows} == {"test/one", "'=test/$other_"}, "no formula"
    cells = {(cell.length, cell.depth): cell for cell in maps.cells(read([one]).series[0])}
    for row in rows[: len(cells)]:
        cell = cells[int(row["length"]), round(1000 * float(row["depth"]))]
        assert float(row["score"]) == cell.score
    captions = (out / "captions.md").read_text()
    assert "U-shape: lost in the middle" in captions and "4 to 6 samples a cell" in captions
    assert "\\$other\\_" in (out / "captions.tex").read_text()
    refused = mmneedle.refused("text-report", one.folder, "--figures", out, "--formats", "gif")
    assert "no figure format 'gif'" in refused


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex; tests of words in LaTeX run")
def test_captions_compile_in_a_paper(mmneedle: Shell, tmp_path: Path) -> None:
    name = 'm/\\end{figure} & % $ # _ ~ ^ { } "±…" 中 é'
    run = niah(tmp_path / "run", lambda s, i: i % 2 == 0, model=name)
    out = tmp_path / "figures"
    mmneedle.ok(
        "text-report", run.folder, "--out", tmp_path / "page.html",
        "--figures", out, "--formats", "pdf",
    )  # fmt: skip
    (out / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\\usepackage{graphicx}\\begin{document}\n"
        "\\input{captions}\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=out, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


# --------------------------------------------------------------------------- bad input


def test_wrong_input_is_told_in_one_line(mmneedle: Shell, tmp_path: Path) -> None:
    run = niah(tmp_path / "run", lambda s, i: True)
    twin = niah(tmp_path / "twin", lambda s, i: True)
    for words, said in (
        ((tmp_path / "none",), "no run here"),
        ((run.folder, run.folder), "given twice"),
        ((run.folder, twin.folder), "ask one model the same samples of niah-l1024-d0-k1"),
        ((run.folder, "--out", tmp_path), "cannot be written"),
        ((run.folder, "--data", tmp_path / "run"), "no text data set here"),
        ((run.folder, "--threshold", 140), "--threshold"),
    ):
        line = mmneedle.refused("text-report", *words)
        assert said in line, line


def test_no_runs_and_other_tasks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        write_text_report([], tmp_path / "page.html")
    other = write_run(tmp_path / "run", always_right, {TEN: 4}, task="puzzle")
    with pytest.raises(UserError, match="puzzle has no place on this page"):
        render([other])
