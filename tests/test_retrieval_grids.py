"""Retrieve or read, where haystacks are photos: what is stitched, and what answers come to."""

import io
import json
from html import unescape
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply
from hypothesis import given
from hypothesis import strategies as st
from needs import coco_mini
from PIL import Image
from seer import Seer
from shell import Shell
from text_reader import reader as text_reader
from viewer_server import Viewer

from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.outcomes import outcomes
from mmneedle.prompts import prompt
from mmneedle.retrieval.asked import Asked
from mmneedle.retrieval.grids import SLIM, ReadGrid, small_grid
from mmneedle.retrieval.opening import again, open_again, open_reader
from mmneedle.runlog import Run
from mmneedle.scoring import score, score_run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules, cell_of, locate
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Location, Photo, Reading, Response, Sample, Setting

SETTINGS = (Setting(1, 2, 2), Setting(3, 3, 3), Setting(2, 2, 3, 3))
LITERAL = Asked(6, captions="literal")


@pytest.fixture(scope="module", params=["plain", "shared"])
def dataset(request: Any, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    rules = Rules(questions=4 if request.param == "shared" else 1)
    folder = tmp_path_factory.mktemp("grids") / "set"
    tiles = TileFormat(32, 32, subsampling="4:4:4")  # cells keep their pixels beside others
    settings = dict.fromkeys(SETTINGS, 16)
    return build(folder, ShapesSource(200), settings, rules, tiles, workers=1)


def asked(dataset: DataSet, wanted: Asked = LITERAL, **more: Any) -> ReadGrid:
    task = open_reader(wanted, "grid", dataset, **more)
    assert isinstance(task, ReadGrid)
    return task


# --------------------------------------------------------------------------- what is sent


def test_the_small_haystack_shows_the_chosen_photos(dataset: DataSet) -> None:
    task = asked(dataset)
    for setting in dataset.settings:
        for sample in dataset.samples(setting):
            request = task.request(sample)
            reading, small = request.reading, request.sample
            assert reading is not None and isinstance(small, Sample)
            assert reading.grid == ((2, 3) if setting.cells > 6 else small_grid(6, setting.cells))
            rows, cols = reading.grid
            (file,) = request.images
            cells = _cells(file, rows, cols)
            assert len(cells) == len(reading.units) == len(small.haystack)
            for unit, cell in zip(reading.units, cells, strict=True):
                alone = dataset.store.join((sample.haystack[unit],), 1, 1)
                assert np.array_equal(cell, _cells(alone, 1, 1)[0])
            captions = [needle.caption for needle in sample.needles]
            assert request.prompt == prompt(Setting(1, rows, cols, setting.needles), captions)
            assert list(reading.units) == sorted(set(reading.units))


def _cells(jpeg: bytes, rows: int, cols: int) -> list[np.ndarray]:
    image = np.asarray(Image.open(io.BytesIO(jpeg)))
    height, width = image.shape[0] // rows, image.shape[1] // cols
    return [
        image[r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(rows)
        for c in range(cols)
    ]


def test_needles_of_the_small_haystack_are_where_their_photos_are(dataset: DataSet) -> None:
    task = asked(dataset)
    for setting in dataset.settings:
        for sample in dataset.samples(setting):
            request = task.request(sample)
            small, reading = request.sample, request.reading
            assert isinstance(small, Sample) and reading is not None
            assert reading.found == (sample.positive,) * setting.needles  # literally there
            for needle, whole in zip(small.needles, sample.needles, strict=True):
                if whole.location is None:
                    assert needle.location is None
                    continue
                assert needle.location is not None
                assert small.haystack[cell_of(small.setting, needle.location)] == whole.photo
                assert reading.place(setting, needle.location) == whole.location


def test_the_same_request_every_time(dataset: DataSet) -> None:
    task, fresh = asked(dataset), asked(DataSet.open(dataset.folder))
    assert task.reader is not None and task.reader == fresh.reader
    blind = open_again(task.reader, "grid", dataset)
    for setting in dataset.settings:
        for sample in reversed(list(dataset.samples(setting))):
            request = task.request(sample)
            assert request == fresh.request(sample)
            assert request.reading is not None
            assert request == again(blind, sample, request.reading)
            assert task.request(sample, with_images=False).images == ()


def test_cells_that_are_sent_smaller(dataset: DataSet) -> None:
    task = asked(dataset, resize=(16, 16))
    sample = next(dataset.samples(Setting(3, 3, 3)))
    (file,) = task.request(sample).images
    assert Image.open(io.BytesIO(file)).size == (48, 32)
    needs = task.needs(sample.setting, 0, 16)
    assert (needs.images, needs.width, needs.height) == (1, 48, 32)
    assert needs.setting == sample.setting and needs.sent == Setting(1, 2, 3)


@given(st.integers(1, 400), st.integers(1, 700))
def test_small_grids(k: int, cells: int) -> None:
    try:
        rows, cols = small_grid(k, cells)
    except UserError as error:
        near = [int(word) for word in str(error).partition("take ")[2].split(" or ")]
        assert near[0] < k < near[1]
        for one in near:
            assert prod(small_grid(one, 10**6)) == one
        return
    assert rows * cols == min(k, cells)
    assert rows <= cols
    assert k >= cells or cols <= SLIM * rows


# --------------------------------------------------------------------------- what answers come to


@given(
    st.builds(Setting, st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    st.data(),
)
def test_answers_are_taken_back_to_their_cells(setting: Setting, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, setting.cells))
    if k not in (1, 2, 3, 4, 6, 8, 9, 10, 12, 15, 16, 18, 20) and k < setting.cells:
        k = 1
    order = data.draw(st.permutations(range(setting.cells)))
    units = tuple(sorted(order[:k]))
    rows, cols = small_grid(len(units), len(units))
    reading = Reading(units, setting.cells, 0.5, grid=(rows, cols))
    row, col = data.draw(st.integers(-1, rows + 2)), data.draw(st.integers(-1, cols + 2))
    image = data.draw(st.integers(0, 2))
    place = reading.place(setting, Location(image, row, col))
    if image == 1 and 1 <= row <= rows and 1 <= col <= cols:
        assert place == locate(setting, units[(row - 1) * cols + col - 1])
    else:
        assert place == (0, 0, 0)


WHOLE = Setting(10, 8, 8)
SMALL = Reading(units=(5, 70, 130, 639), of=640, share=0.01, grid=(2, 2))
AT = {unit: locate(WHOLE, unit) for unit in SMALL.units}


@pytest.mark.parametrize(
    ("truth", "text", "exact", "kind", "paper"),
    [
        (AT[70], "1, 1, 2", True, None, True),
        (AT[70], "Image 1, row 1, column 2", True, None, False),
        (AT[70], "row 1, column 2", True, None, False),  # there is one image
        (AT[70], "1, 2, 1", False, "wrong_image", False),
        (AT[639], "1, 2, 2.", True, None, True),
        (AT[70], "2, 1, 2", False, "out_of_range", False),
        (AT[70], "1, 1, 3", False, "out_of_range", False),
        (AT[70], str(AT[70]), False, "out_of_range", False),  # the haystack's place was not asked
        (AT[70], "-1", False, "missed", False),
        (locate(WHOLE, 71), "-1", False, "missed", False),  # it was not retrieved
        (locate(WHOLE, 71), "1, 1, 2", False, "wrong_cell", False),
        (None, "-1", None, None, None),
        (None, "1, 1, 2", None, "hallucinated", None),
        (None, "1, 9, 9", None, "hallucinated", None),
        (AT[70], "no idea", False, "unparsed", False),
    ],
)
def test_scores_of_answers_to_a_small_haystack(
    truth: Location | None, text: str, exact: bool | None, kind: str | None, paper: bool | None
) -> None:
    response = Response("ok", text)
    found = score(WHOLE, (truth,), response, "robust", SMALL)
    assert found is not None
    assert (found.exact, found.kinds) == (exact, (kind,))
    assert found.existence == ((kind is None) if truth is None else text not in ("-1", "no idea"))
    published = score(WHOLE, (truth,), response, "paper", SMALL)
    assert published is not None
    assert published.exact == paper
    if text == "1, 1, 2":
        assert found.answers[0].location == published.answers[0].location == AT[70]


def test_several_needles() -> None:
    whole = Setting(10, 8, 8, 2)
    truth = (AT[130], AT[5])
    for text, exact in (("1, 2, 1; 1, 1, 1", True), ("1, 2, 1; -1", False), ("1, 2, 1", False)):
        for scorer in ("robust", "paper"):
            found = score(whole, truth, Response("ok", text), scorer, SMALL)
            assert found is not None and found.exact is exact, (text, scorer)
    half = score(whole, truth, Response("ok", "1, 2, 1; 1, 2, 2"), "paper", SMALL)
    assert half is not None and half.all_exact == (1, 2)
    none = score(whole, (None, None), Response("ok", "-1; -1"), "paper", SMALL)
    assert none is not None and none.existence


# --------------------------------------------------------------------------- as a user

MODEL = ("--model", "openai/seer", "--quiet")


def run(mmneedle: Shell, url: str, log: str, *words: object) -> Run:
    mmneedle.ok("run", "set", *MODEL, "--base-url", url, "--log", log, *words)
    return Run.open(log)


@pytest.fixture
def source() -> ShapesSource:
    return ShapesSource(150)


def made(source: Any) -> DataSet:
    settings = {Setting(2, 3, 3): 12, Setting(1, 3, 4, 2): 8, Setting(1, 1, 2): 4}
    return build("set", source, settings, None, TileFormat(64, 64), workers=1)


def test_a_model_that_looks_is_right_wherever_the_retriever_was(mmneedle: Shell) -> None:
    source = find_coco(coco_mini(), None)
    made(source)
    with ChatServer(Seer(source)) as server:
        told = mmneedle("run", "set", *MODEL[:-1], "--base-url", server.url, "--log", "literal",
                        "--reader", "retrieve:6", "--captions", "literal")  # fmt: skip
        assert told.status == 0
        assert "chosen by their literal captions, which the model never sees" in told.err
        hard = run(mmneedle, server.url, "hard", "--reader", "retrieve:1")
        whole = run(mmneedle, server.url, "whole")
    literal = Run.open("literal")
    assert literal.header.called == "openai/seer, retrieve:6 bm25, literal captions"
    assert whole.header.reader is None and whole.header.called == "openai/seer"
    for row in (*score_run(whole), *score_run(literal)):
        assert (row.answered, row.existence) == (row.n, 1.0), row
        assert row.exact == (1.0 if row.split == "positive" else None)
    for table in outcomes(hard).values():  # one cell: right where it is the one
        positive = table.positive
        assert (table.marks["robust"].exact == np.where(positive, table.found.min(1), -1)).all()
        assert (table.marks["robust"].existence[~positive] == 1).all()
        assert (table.found[~positive] == -1).all()
        assert (table.share == np.float32(1 / table.setting.cells)).all()
    mmneedle.ok("report", "literal", "hard", "whole", "--out", "page.html")
    page = Path("page.html").read_text()
    assert "retrieve:6 bm25, literal captions" in page
    board = mmneedle.ok("leaderboard", "literal", "hard", "whole")
    assert "openai/seer, retrieve:1 bm25, paraphrase captions" in board
    assert "Rows that say retrieve:K read what a retriever chose" in board
    mmneedle.ok("findings", "hard")


def test_an_answer_is_kept_as_it_was_given(mmneedle: Shell, source: ShapesSource) -> None:
    """And scored again where the data set is gone."""
    dataset = made(source)
    said = "It is in row 1, column 1."

    def script(ask: Ask) -> Reply:
        return ask.answer(said)

    words = ("--settings", "2x3", "--reader", "retrieve:4", "--captions", "literal")
    with ChatServer(script) as server:
        log = run(mmneedle, server.url, "run", *words)
    samples = {s.id: s for s in dataset.samples(Setting(2, 3, 3))}
    Path("set").rename("elsewhere")
    for record in log.outcomes():
        assert record.response.text == said
        assert record.reading and record.reading.grid == (2, 2)
        found = score(Setting(2, 3, 3), record.truth, record.response, "robust", record.reading)
        assert found is not None
        first = locate(Setting(2, 3, 3), record.reading.units[0])
        assert found.answers[0].location == first
        assert found.exact == (first == record.truth[0] if record.truth[0] else None)
        assert record.truth == samples[record.sample].truth
    rows = json.loads(mmneedle.ok("score", "run", "--json"))
    assert {row["existence"] for row in rows if row["scorer"] == "robust"} == {0.0, 1.0}


def test_the_oracle_is_right_where_the_needle_was_retrieved(mmneedle: Shell) -> None:
    source = find_coco(coco_mini(), None)
    setting = Setting(1, 8, 8)
    build("set", source, {setting: 60}, None, TileFormat(32, 32), workers=1)
    exact = {}
    for captions in ("literal", "paraphrase"):
        mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", captions, "--quiet",
                    "--reader", "retrieve:1", "--captions", captions)  # fmt: skip
        log = Run.open(captions)
        (table,) = outcomes(log).values()
        right, found = table.marks["robust"].exact, table.found[:, 0]
        assert (right == found).all()
        assert (table.marks["robust"].existence[~table.positive] == 1).all()
        exact[captions] = right[table.positive].mean()
    assert exact["literal"] == 1
    assert 0.3 < exact["paraphrase"] < 1


def test_show_writes_the_small_haystack(mmneedle: Shell, source: ShapesSource) -> None:
    dataset = made(source)
    name = "n2-g3x3-k1-000004"
    words = ("show", "set", name, "--reader", "retrieve:6", "--captions", "literal")
    request = asked(dataset).request(dataset.sample(name))
    printed = mmneedle.ok(*words)
    assert printed.startswith(request.prompt)
    small, whole = request.sample.truth[0], dataset.sample(name).truth[0]
    assert f"right answer to what is sent: {small} (in the haystack: {whole})" in printed
    assert "of 18 (33.3 %); what is asked for: read" in printed
    mmneedle.ok(*words, "--out", "out")
    assert Path("out/image_1.jpg").read_bytes() == request.images[0]
    assert not Path("out/image_2.jpg").exists()
    assert Path("out/prompt.txt").read_text() == request.prompt


def test_an_estimate_of_the_small_haystack(mmneedle: Shell, source: ShapesSource) -> None:
    made(source)
    words = ("estimate", "set", "--model", "openai/gpt-4o", "--settings", "2x3", "--json")
    whole = json.loads(mmneedle.ok(*words))["settings"][0]
    part = json.loads(mmneedle.ok(*words, "--reader", "retrieve:6"))["settings"][0]
    assert part["image_tokens"] * 2 == whole["image_tokens"]
    assert (part["cell"], part["setting"]) == (whole["cell"], whole["setting"])


def test_the_tiny_model_sees_the_small_haystack(mmneedle: Shell) -> None:
    source = ShapesSource(300, split="held-out")
    build("set", source, {Setting(2, 4, 4): 20}, None, TileFormat(56, 56, 90, "4:4:4"), workers=1)
    mmneedle.ok("run", "set", "--model", "onnx/tiny", "--log", "run", "--quiet",
                "--reader", "retrieve:4", "--captions", "literal")  # fmt: skip
    log = Run.open("run")
    assert log.header.effective_cell == {"n2-g4x4-k1": (56, 56)}
    (row,) = [r for r in score_run(log, ["robust"]) if r.split == "positive"]
    assert row.exact is not None and row.exact >= 0.8


def test_a_submission_of_a_run_that_retrieved(mmneedle: Shell, source: ShapesSource) -> None:
    made(source)
    with ChatServer(Seer(source)) as server:
        run(mmneedle, server.url, "run", "--reader", "retrieve:6", "--captions", "literal")
    mmneedle.ok("submit", "pack", "run", "--by", "someone", "--out", "pack.zip")
    out = mmneedle.ok("submit", "check", "pack.zip", "--data", "set")
    assert "fail" not in out.lower()


def test_the_viewer_shows_what_was_chosen_and_sent(mmneedle: Shell, source: ShapesSource) -> None:
    dataset = made(source)
    with ChatServer(Seer(source)) as server:
        words = ("--reader", "retrieve:6", "--captions", "literal")
        run(mmneedle, server.url, "run", *words)
    with ChatServer(text_reader) as server:
        run(mmneedle, server.url, "twin", "--task", "twin-literal", "--reader", "retrieve:2")
    name = "n2-g3x3-k1-000004"
    request = asked(dataset).request(dataset.sample(name))
    assert request.reading is not None
    for log in ("run", "twin"):
        with Viewer(log) as viewer:
            page = unescape(viewer.ask(f"/sample/{name}?in=r1").text)
        assert "what is shown here is what was sent, byte for byte" in page
        assert "1 of 1 needles among them" in page
        if log == "run":
            assert request.prompt in page
            assert "6 of 18 cells as one image of 2 × 3 cells: (" in page
            assert "sent one small image of cells that a retriever chose" in page
            for unit in request.reading.units:
                assert f"({locate(Setting(2, 3, 3), unit)})" in page
        else:
            assert "2 of 18 cells: (" in page
            assert "no image: the haystack came as text" in page


def test_wrong_wishes(mmneedle: Shell, dataset: DataSet, tmp_path: Path) -> None:
    class Lonely(ShapesSource):
        def photos(self) -> list[Photo]:
            return [Photo(p.id, (f"photo {p.id}",)) for p in super().photos()]

    lonely = build("set", Lonely(30), {Setting(1, 2, 2): 4}, None, TileFormat(32, 32), workers=1)
    odd = build("odd", ShapesSource(30), {Setting(4, 1, 1): 4}, None, TileFormat(33, 32), workers=1)
    (tmp_path / "model").mkdir()
    for data, wanted, told in (
        (dataset, Asked(7), "7 cells fill no grid that is nearly square; take 6 or 8"),
        (dataset, Asked(4, chunk=(10, 1)), "--chunk cuts running text"),
        (lonely, Asked(2), "have only one caption.* take --captions literal"),
        (odd, Asked(4, captions="literal"), "33"),
        (dataset, Asked(4, "clip", tmp_path / "none"), "none: no such folder"),
        (dataset, Asked(4, "clip", tmp_path / "model"), "holds no model"),
        (dataset, Asked(4, "embed", tmp_path / "model"), "holds no model"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            open_reader(wanted, "grid", data)
        assert "\n" not in str(caught.value)
    assert prod(small_grid(7, 4)) == 4  # more than there are: all of them
    told = mmneedle.refused("run", "set", "--model", "baseline/oracle", "--reader", "retrieve:0")
    assert "retrieve:K with K from 1" in told
