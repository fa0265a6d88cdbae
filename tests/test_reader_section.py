"""Retrieve or read on the pages: real runs, real retrieval; its figures are those of the verb."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
from reader_runs import TOP, read_two_ways, run
from shell import Shell

from mmneedle.data.shapes import ShapesSource
from mmneedle.reports.html import render_report
from mmneedle.reports.reader_section import section
from mmneedle.reports.readers import contrasts_json
from mmneedle.reports.textual import models
from mmneedle.reports.textual.series import read
from mmneedle.reports.textual.write import render
from mmneedle.reports.words import percent, points
from mmneedle.retrieval.asked import read_reader
from mmneedle.retrieval.contrast import contrast
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Setting


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return read_two_ways(tmp_path_factory.mktemp("readers"))


def words(page: str) -> str:
    """The section's words."""
    body = page.split('<section id="readers"', 1)[1].split("\n</section>\n\n")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def ends(pair: list[float]) -> str:
    return f"{percent(pair[0])}–{percent(pair[1])}"


def test_the_page_on_texts_has_every_figure_of_the_verb(runs: list[Run]) -> None:
    page = render(runs)
    shown = words(page)
    assert '<a href="#readers">Retrieve or read</a>' in page
    told = contrasts_json(contrast(runs))
    assert [one["model"] for one in told] == ["openai/m", "baseline/oracle"]
    for pair in told:
        assert pair["losses"] in shown
        for one in pair["levels"]:
            assert one["sentence"] in shown
            low, high = one["interval"]
            row = (
                f"{percent(one['long'])} {ends(one['long_interval'])} {percent(one['retrieve'])} "
                f"{ends(one['retrieve_interval'])} {points(one['difference'])} {points(low)} to "
                f"{points(high)}"
            )
            recall = one["recall"]
            found = f"{percent(recall['share'])} {ends(recall['interval'])} {recall['hits']} of"
            assert re.search(f"{re.escape(row)} .{{4,60}} {re.escape(found)}", shown), row
    assert "Retrieving wins: niah at 4,096. The data cannot tell: niah at 2,048." in shown
    assert "Reading everything wins: latent.onehop at 2,048." in shown


def test_a_miss_of_the_retriever_is_told_from_one_of_the_model(runs: list[Run]) -> None:
    niah, latent = contrasts_json(contrast(runs))
    short, long = (one for one in niah["levels"] if one["level"] is not None)
    assert short["recall"]["share"] == 1 and short["lost"]["retriever"] == 0
    assert short["lost"]["model"] == short["only_long"] > 5
    assert long["lost"] == {"retriever": 0, "model": 0, "unknown": 0}
    (hints,) = latent["levels"]
    assert hints["lost"]["retriever"] == hints["only_long"] > 5
    assert hints["right_where_missed"]["hits"] == 0
    assert f"the retriever lost {hints['only_long']} (what" in latent["losses"]
    assert "and the model 0 (it" in latent["losses"]
    assert f"and the model {short['only_long']} (it was retrieved, and missed)." in niah["losses"]


def test_bars_count_what_became_of_every_needle(runs: list[Run]) -> None:
    found = section(runs)
    assert found is not None
    for pair, told in zip(found["pairs"], contrasts_json(contrast(runs)), strict=True):
        (curves, bars), *rest = pair["figures"]
        assert not rest
        described = html.unescape(re.findall(r"<desc>(.*?)</desc>", str(bars["figure"]))[0])
        for one in (one for one in told["levels"] if one["level"] is not None):
            bar = described.partition(f"{one['level']}: ")[2].partition(";")[0]
            counts = {text: int(n) for n, text in re.findall(r"(\d+) (\w+, \w+)", bar)}
            read_, missed = one["right_where_read"], one["right_where_missed"]
            assert counts.get("right, and", 0) == read_["hits"]
            assert counts.get("right, though", 0) == missed["hits"]
            assert counts.get("wrong, though", 0) == read_["n"] - read_["hits"]
            assert counts.get("wrong, and", 0) == missed["n"] - missed["hits"]
            assert sum(counts.values()) == one["n"]
        assert "what is asked for was retrieved: 2,048, " in str(curves["figure"])


def test_two_ways_of_reading_are_one_model(runs: list[Run]) -> None:
    page = render(runs[:2])
    assert "<h1>openai/m, 2 ways of reading</h1>" in page
    assert models.pairs(read(runs[:2])) == []
    assert "<h1>4 models compared</h1>" in render(runs)


def test_what_has_no_counterpart_is_told(runs: list[Run], tmp_path: Path) -> None:
    alone = words(render([runs[1]]))
    assert "top retrieved, and no run here reads everything for it" in alone
    data = runs[2].header.dataset_path
    half = run(Path(data), "baseline/oracle", tmp_path / "half", limit=(0, 6))
    rest = run(Path(data), "baseline/oracle", tmp_path / "rest", limit=(6, None))
    several = words(render([half, rest, runs[3]]))
    assert "best retrieved, and several runs here read everything for it" in several
    first = run(Path(data), "baseline/oracle", tmp_path / "one", limit=(0, 6), reader=TOP)
    none = words(render([rest, first]))
    assert "one retrieved, and the run that reads everything was asked none of its sam" in none
    assert section([runs[0], runs[2]]) is None
    assert 'id="readers"' not in render([runs[0], runs[2]])


def test_the_report_on_images_has_it_too(mmneedle: Shell, tmp_path: Path) -> None:
    settings = {Setting(1, 4, 4): 60, Setting(1, 2, 2): 40}
    data = build(
        tmp_path / "set", ShapesSource(150), settings, None, TileFormat(32, 32), workers=1
    ).folder
    long = run(data, "baseline/oracle", tmp_path / "long")
    top = run(data, "baseline/oracle", tmp_path / "top", reader=read_reader("retrieve:1"))
    mmneedle.ok("report", long.folder, top.folder, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page == render_report([long, top])
    shown = words(page)
    (told,) = contrasts_json(contrast([long, top]))
    assert told["losses"] in shown
    rows: dict[Any, dict[str, Any]] = {
        (one["level"], one["measure"]): one for one in told["levels"]
    }
    for (level, measure), one in rows.items():
        assert one["sentence"] in shown
        if measure == "exact" and level is not None:
            assert one["lost"] == {"retriever": one["only_long"], "model": 0, "unknown": 0}
    for needles in ("Exact on positives, by length", "Saying no on negatives, by length"):
        assert needles in shown
    assert "Exact on positives: what became of it when retrieving" in shown
    # The mean of settings has the intervals of settings put together: narrower than theirs.
    mean = rows[None, "exact"]
    low, high = mean["retrieve_interval"]
    assert low < mean["retrieve"] < high
    widths = [
        one["retrieve_interval"][1] - one["retrieve_interval"][0]
        for (level, measure), one in rows.items()
        if measure == "exact" and level is not None
    ]
    assert high - low < max(widths)
    assert mean["long"] == 1 and mean["long_interval"][1] == 1


def test_names_are_inert(runs: list[Run], tmp_path: Path) -> None:
    strange = tmp_path / "<b>x\u202e"
    data = Path(runs[2].header.dataset_path)
    alone = run(data, "baseline/oracle", strange, reader=TOP, limit=(0, 2))
    page = render([alone])
    assert "<b>x" not in page and "\u202e" not in page
    assert "&lt;b&gt;x" in page
