"""The same haystack as text: the same questions, one right cell, the same text every time."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from shell import Shell
from text_reader import find, reader

from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules, cell_of
from mmneedle.stitching.tiles import TileFormat
from mmneedle.tasks import TASKS, open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import TwinTask
from mmneedle.types import Photo, Sample, Setting

SETTINGS = (Setting(1, 2, 2), Setting(3, 2, 3), Setting(2, 2, 2, 3))
TILES = TileFormat(32, 32)


def make(folder: Path, **rules: Any) -> DataSet:
    return build(
        folder, ShapesSource(120), dict.fromkeys(SETTINGS, 24), Rules(**rules), TILES, workers=1
    )


@pytest.fixture(scope="module", params=["last", "random", "shared"])
def dataset(request: Any, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    rules: dict[str, Any] = {
        "last": {},
        "random": {"captions": "random", "hard_negatives": 0.5},
        "shared": {"questions": 4},
    }
    return make(tmp_path_factory.mktemp("twins") / "set", **rules[request.param])


def samples(dataset: DataSet) -> Iterator[Sample]:
    for setting in dataset.settings:
        yield from dataset.samples(setting)


def captions(dataset: DataSet) -> dict[int, Sequence[str]]:
    return {photo.id: photo.captions for photo in dataset.photos()}


def test_the_question_and_the_ids_are_the_image_tasks_own(dataset: DataSet) -> None:
    grid = GridTask(dataset)
    for grade in ("literal", "paraphrase"):
        twin = TwinTask(dataset, grade)
        for sample in samples(dataset):
            asked, twinned = grid.request(sample, with_images=False), twin.request(sample)
            assert twinned.sample == asked.sample
            assert twinned.prompt.endswith(f"\n\n{asked.prompt}")
            assert twinned.images == ()


def test_every_cell_holds_a_caption_of_its_photo(dataset: DataSet) -> None:
    known = captions(dataset)
    for grade in ("literal", "paraphrase"):
        twin = TwinTask(dataset, grade)
        for sample in samples(dataset):
            cells = twin.cells(sample)
            assert len(cells) == sample.setting.cells
            assert all(text in known[p] for p, text in zip(sample.haystack, cells, strict=True))
            assert twin.text(sample).count("\nrow ") == sample.setting.cells


def test_a_reader_that_searches_finds_every_literal_needle(dataset: DataSet) -> None:
    twin = TwinTask(dataset, "literal")
    for sample in samples(dataset):
        right = [str(place) if place else "-1" for place in sample.truth]
        assert find(twin.request(sample).prompt) == right


def test_a_paraphrase_cannot_be_found_by_searching(dataset: DataSet) -> None:
    twin = TwinTask(dataset, "paraphrase")
    known = captions(dataset)
    for sample in samples(dataset):
        cells = twin.cells(sample)
        assert set(find(twin.request(sample).prompt)) == {"-1"}
        for needle in sample.needles:
            if needle.location is not None:
                text = cells[cell_of(sample.setting, needle.location)]
                assert text != needle.caption
                assert text in known[needle.photo]


def test_the_text_is_the_same_every_time(dataset: DataSet) -> None:
    again = DataSet.open(dataset.folder)
    for grade in ("literal", "paraphrase"):
        one, two = TwinTask(dataset, grade), TwinTask(again, grade)
        assert [one.request(s).prompt for s in samples(dataset)] == [
            two.request(s).prompt for s in samples(again)
        ]


def test_questions_about_one_haystack_share_its_text(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set", questions=4)
    for grade in ("literal", "paraphrase"):
        twin = TwinTask(dataset, grade)
        for setting in dataset.settings:
            texts: dict[int | None, set[str]] = {}
            for sample in dataset.samples(setting):
                texts.setdefault(sample.haystack_number, set()).add(twin.text(sample))
            assert {len(found) for found in texts.values()} == {1}
            assert len(texts) == 6


def test_what_requests_need_is_known_beforehand(dataset: DataSet) -> None:
    twin = TwinTask(dataset, "literal")
    for setting in dataset.settings:
        lengths = [len(twin.request(s).prompt) for s in dataset.samples(setting)]
        needs = twin.needs(setting, 0, len(lengths))
        assert (len(needs.prompt), needs.images, needs.image_bytes) == (max(lengths), 0, 0)
        assert twin.characters(setting, 0, len(lengths)) == pytest.approx(
            sum(lengths) / len(lengths)
        )


def test_line_breaks_in_captions_do_not_make_lines(tmp_path: Path) -> None:
    class Broken(ShapesSource):
        def photos(self) -> Sequence[Photo]:
            return [
                Photo(p.id, ("one\nrow 1, column 1: trap", f"a\n photo {p.id}"))
                for p in super().photos()
            ]

    dataset = build(tmp_path / "set", Broken(30), {Setting(2, 2, 2): 8}, None, TILES, workers=1)
    twin = TwinTask(dataset, "literal")
    for sample in dataset.samples(Setting(2, 2, 2)):
        right = [str(place) if place else "-1" for place in sample.truth]
        assert find(twin.request(sample).prompt) == right


# --------------------------------------------------------------------------- as a user


def test_a_run_over_http_and_its_scores(mmneedle: Shell, tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    for task, exact in (("twin-literal", 1.0), ("twin-paraphrase", 0.0)):
        with ChatServer(reader) as server:
            out = mmneedle(
                "run",
                dataset.folder,
                "--model",
                "openai/reader",
                "--base-url",
                server.url,
                "--task",
                task,
                "--log",
                tmp_path / task,
                "--quiet",
            )
        assert out.status == 0, out.err
        run = Run.open(tmp_path / task)
        assert (run.header.task, run.header.cell, run.header.effective_cell) == (task, None, {})
        rows = [row for row in score_run(run, ["robust"]) if row.split == "positive"]
        assert [row.exact for row in rows] == [exact] * len(SETTINGS)
        assert {row.task for row in rows} == {task}
        assert {record.sample for record in run.outcomes()} == {s.id for s in samples(dataset)}


def test_show_writes_what_is_sent(mmneedle: Shell, tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    name = "n3-g2x3-k1-000004"
    printed = mmneedle("show", dataset.folder, name, "--task", "twin-literal")
    wanted = TwinTask(dataset, "literal").request(dataset.sample(name)).prompt
    assert printed.out.startswith(wanted)
    mmneedle("show", dataset.folder, name, "--task", "twin-literal", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "prompt.txt").read_text() == wanted
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_an_estimate_counts_the_text(mmneedle: Shell, tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    out = mmneedle(
        "estimate", dataset.folder, "--model", "openai/gpt-4o", "--task", "twin-literal", "--json"
    )
    assert out.status == 0, out.err
    figures = {one["setting"]: one for one in json.loads(out.out)["settings"]}
    assert {one["image_tokens"] for one in figures.values()} == {0}
    assert figures["n3-g2x3-k1"]["text_tokens"] > figures["n1-g2x2-k1"]["text_tokens"] > 100


def test_wrong_wishes_are_told_in_a_line(mmneedle: Shell, tmp_path: Path) -> None:
    class Lonely(ShapesSource):
        def photos(self) -> Sequence[Photo]:
            return [Photo(p.id, (f"photo {p.id}",)) for p in super().photos()]

    dataset = build(tmp_path / "set", Lonely(30), {Setting(1, 2, 2): 4}, None, TILES, workers=1)
    with pytest.raises(UserError, match=r"30 photos .* only one caption.*twin-literal"):
        open_task("twin-paraphrase", dataset)
    with pytest.raises(UserError, match="--resize is about images"):
        open_task("twin-literal", dataset, (16, 16))
    with pytest.raises(UserError, match=f"there are {', '.join(TASKS)}"):
        open_task("twins", dataset)
    out = mmneedle(
        "run", dataset.folder, "--model", "onnx/tiny", "--task", "twin-literal",
        "--log", tmp_path / "run",
    )  # fmt: skip
    assert out.status == 2
    assert "no images" in out.err and len(out.err.splitlines()) == 1


def test_build_tells_of_the_twins(mmneedle: Shell) -> None:
    recipe = ("--settings", "1x2", "--samples", 2, "--cell", 32, "--quiet")
    mmneedle.ok("draw", "photos", "--scenes", 8, "--cell", 32)
    told = mmneedle.ok(
        "build", "set", "--source", "coco", "--photos", "photos", *recipe, "--twin", "captions"
    )
    for grade in ("literal", "paraphrase"):
        assert f"mmneedle run set --task twin-{grade} --model" in told
    (file,) = Path("photos").rglob("captions_*.json")
    content = json.loads(file.read_text())
    one_each = {entry["image_id"]: entry for entry in content["annotations"]}
    file.write_text(json.dumps(content | {"annotations": list(one_each.values())}))
    told = mmneedle.ok(
        "build", "lonely", "--source", "coco", "--photos", "photos", *recipe, "--twin", "captions"
    )
    assert "mmneedle run lonely --task twin-literal --model" in told
    assert "no twin-paraphrase: lonely: 8 photos" in told
