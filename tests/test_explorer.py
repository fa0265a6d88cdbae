"""Every error of a report, as it is packed for the page's script."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_pages import blocks, colours, packed, unpack
from report_runs import ONE, Truth, always_first, always_right, ok, text, write_run

from mmneedle import scoring
from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.reports import explorer as packing
from mmneedle.reports import html
from mmneedle.reports.atlas import Shelf, atlases, tiles
from mmneedle.reports.cases import CATEGORIES, gather
from mmneedle.reports.explorer import cell_number, explorer, pack
from mmneedle.reports.html import render_report
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Location, Photo, Response, Setting, sample_id

SHAPES = (Setting(1, 2, 2), Setting(3, 2, 2), Setting(3, 2, 2, 2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("explorer") / "data"
    tiles = TileFormat(64, 64)
    return build(folder, ShapesSource(60), dict.fromkeys(SHAPES, 24), tiles=tiles, workers=1)


def sometimes(setting: Setting, index: int, truth: Truth) -> Response:
    """Right, a wrong cell, a refusal, a time-out, in turn."""
    turn = index // 2 % 4
    if turn == 1:
        return ok("; ".join(["1, 2, 1"] * setting.needles))
    if turn == 2:
        return Response(status="refused", text="I cannot help with that.")
    if turn == 3:
        return Response(status="timeout", error="no reply within 120 s")
    return ok(text(truth))


# --------------------------------------------------------------------------- which samples


def test_every_error_is_there_and_counted_as_the_scores_count_it(
    dataset: DataSet, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", sometimes, dict.fromkeys(SHAPES, 24), dataset=dataset)
    groups = {group.setting: group for group in gather([run], {})}
    for setting in SHAPES:
        kinds: dict[str, int] = {}
        missing = 0
        for row in scoring.score_run(run, ("robust",)):
            if row.setting == setting:
                missing += row.n - row.answered
                for kind, count in row.kinds.items():
                    kinds[kind] = kinds.get(kind, 0) + count
        found: dict[str, int] = {}
        for case in groups[setting].cases:
            for kind in case.replies[0].kinds:
                if kind:
                    name = CATEGORIES[kind]
                    found[name] = found.get(name, 0) + 1
        assert found == {kind: count for kind, count in kinds.items() if count}
        last = [case.replies[0].category for case in groups[setting].cases]
        assert last.count(len(CATEGORIES) - 1) == missing > 0


def test_right_answers_are_left_out_but_for_one_of_each_split(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {ONE: 40})
    (group,) = gather([run], {})
    assert [case.number for case in group.cases] == [0, 1]


def test_a_sample_that_one_run_got_wrong_has_the_answers_of_all(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "first", always_first, {ONE: 40}),
        write_run(tmp_path / "right", always_right, {ONE: 20}),
    ]
    (group,) = gather(runs, {})
    replies = {case.number: sorted(case.replies) for case in group.cases}
    assert replies[1] == [0, 1]
    assert replies[39] == [0]
    assert [case.number for case in group.cases if case.replies[0].category == 0] == [0, 1][:1]


def test_samples_never_asked_are_no_errors(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda s, i, t: ok("1, 1, 1") if i < 4 else None, {ONE: 40})
    (group,) = gather([run], {})
    assert [case.number for case in group.cases] == [0, 1, 2, 3]


# --------------------------------------------------------------------------- packing


@given(st.data(), st.integers(1, 17))
def test_numbers_are_packed_bit_by_bit(data: st.DataObject, bits: int) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1))
    block = pack(np.array(numbers, np.int64), bits)
    assert len(block) == -(-len(numbers) * bits // 8)
    assert unpack(block, bits, len(numbers)) == numbers


@given(st.builds(Setting, *[st.integers(1, 9)] * 3), st.data())
def test_cells_are_numbered_image_by_image_row_by_row(
    setting: Setting, data: st.DataObject
) -> None:
    at = Location(
        *(
            data.draw(st.integers(-1, most + 2))
            for most in (setting.images, setting.rows, setting.cols)
        )
    )
    cell = cell_number(setting, at)
    inside = all(
        1 <= one <= most
        for one, most in zip(at, (setting.images, setting.rows, setting.cols), strict=True)
    )
    assert (cell >= 0) == inside
    if inside:
        order = [
            Location(i, r, c)
            for i in range(1, setting.images + 1)
            for r in range(1, setting.rows + 1)
            for c in range(1, setting.cols + 1)
        ]
        assert order[cell] == at
    assert cell_number(setting, None) == -1


def haystacks(page: str) -> dict[str, dict[int, list[int]]]:
    """Each case's photos in the page, as places in the album, by sample and image from 0."""
    value = packed(page)
    found: dict[str, dict[int, list[int]]] = {}
    at = 0
    data, bits = blocks(page)["stacks-0"], value["albums"][0]["bits"]
    whole = unpack(data, bits, len(data) * 8 // bits)
    for group in value["groups"]:
        images, rows, cols, _ = group["size"]
        grid = rows * cols
        lists = group["images"]
        if group["level"] != "marked":  # as many haystacks as it says, whole
            lists = [list(range(images))] * lists
        stacks = []
        for here in lists:
            stacks.append(
                {i: whole[at + k * grid : at + (k + 1) * grid] for k, i in enumerate(here)}
            )
            at += len(here) * grid
        for number, stack in zip(group["numbers"], group["stack"], strict=True):
            found[f"{group['setting']}-{number:06d}"] = stacks[stack] if stack >= 0 else {}
    return found


def mean_colour(dataset: DataSet, photo: int) -> np.ndarray:
    image = Image.open(io.BytesIO(dataset.store.join([photo], 1, 1))).convert("RGB")
    return np.asarray(image, float).mean(axis=(0, 1))


@pytest.mark.parametrize("share", [0.45, 0.00003, 0.0])
def test_haystacks_hold_the_photos_of_their_samples(
    share: float, dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "STACK_SHARE", share)
    run = write_run(tmp_path / "run", sometimes, dict.fromkeys(SHAPES, 24), dataset=dataset)
    page = render_report([run])
    shown, means = haystacks(page), colours(page)
    levels = {group["level"] for group in packed(page)["groups"]}
    assert levels == {0.45: {"whole"}, 0.00003: {"whole", "marked", "none"}, 0.0: {"none"}}[share]
    assert ("only the images that hold" in page) == (share == 0.00003)
    for name, images in shown.items():
        sample = dataset.sample(name)
        grid = sample.setting.rows * sample.setting.cols
        for image, places in images.items():
            photos = sample.haystack[image * grid : (image + 1) * grid]
            for place, photo in zip(places, photos, strict=True):
                assert np.abs(means[place] - mean_colour(dataset, photo)).max() < 12


def test_the_photos_in_question_are_those_of_caption_and_answer(
    dataset: DataSet, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", sometimes, dict.fromkeys(SHAPES, 24), dataset=dataset)
    page = render_report([run])
    means = colours(page)
    compared = 0
    for group in packed(page)["groups"]:
        setting = Setting.parse(group["setting"])
        for i, number in enumerate(group["numbers"]):
            sample = dataset.sample(sample_id(setting, number))
            needles = slice(i * setting.needles, (i + 1) * setting.needles)
            assert group["captions"][needles] == [needle.caption for needle in sample.needles]
            for place, needle in zip(group["photos"][needles], sample.needles, strict=True):
                if place >= 0:
                    assert np.abs(means[place] - mean_colour(dataset, needle.photo)).max() < 12
                    compared += 1
        (table,) = group["replies"]
        for i, at in enumerate(table["case"]):
            sample = dataset.sample(sample_id(setting, group["numbers"][at]))
            for k in range(setting.needles):
                j = i * setting.needles + k
                said = table["said"][3 * j : 3 * j + 3]
                cell = cell_number(setting, None if said[0] < 0 else Location(*said))
                if cell >= 0:
                    photo = sample.haystack[cell]
                    place = table["named"][j]
                    assert np.abs(means[place] - mean_colour(dataset, photo)).max() < 12
                    compared += 1
    assert compared > 60


def test_questions_that_share_a_haystack_store_it_once(tmp_path: Path) -> None:
    shape = Setting(2, 2, 2)
    made = build(
        tmp_path / "data", ShapesSource(60), {shape: 16}, Rules(questions=4), TileFormat(64, 64),
        workers=1,
    )  # fmt: skip
    run = write_run(tmp_path / "run", always_first, {shape: 16}, dataset=made)
    (group,) = packed(render_report([run]))["groups"]
    assert group["images"] == 4
    assert group["stack"] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_words_are_cut_until_they_fit_and_the_page_says_so(tmp_path: Path) -> None:
    def noise(setting: Setting, index: int, truth: Truth) -> Response:
        return ok(np.random.default_rng(index).bytes(3000).hex())

    run = write_run(tmp_path / "run", noise, {ONE: 40})
    groups = gather([run], {})
    told = [{"name": "run", "label": "m", "task": "grid", "show": "", "cells": {}}]
    roomy, tight = (explorer(groups, told, budget) for budget in (1_000_000, 30_000))
    assert roomy.left_out == []
    assert tight.left_out == ["answers are cut at 250 characters"]
    assert len(tight.blocks) < 30_000
    value = packed(str(tight.blocks))
    assert {len(said) for said in value["groups"][0]["replies"][0]["text"]} == {250}
    assert set(value["groups"][0]["replies"][0]["length"].values()) == {6000}
    assert roomy.errors == tight.errors == 40


def test_a_data_set_without_its_tiles_still_gives_captions(tmp_path: Path) -> None:
    made = build(tmp_path / "data", ShapesSource(60), {ONE: 8}, tiles=TileFormat(64, 64), workers=1)
    (made.folder / "tiles" / "tiles.bin").unlink()
    run = write_run(tmp_path / "run", always_first, {ONE: 8}, dataset=made)
    page = render_report([run])
    (group,) = packed(page)["groups"]
    assert "no tile store here" in group["trouble"]
    assert group["captions"]
    assert "sheet-0-0" not in blocks(page)


# --------------------------------------------------------------------------- photos


def test_sheets_shrink_until_they_fit(dataset: DataSet) -> None:
    ids = dataset.store.ids
    shelf = Shelf(dataset.store, ids[:20], ids[20:])
    sizes = []
    for budget in (10**6, 12_000, 5_000, 1_000):
        (atlas,) = atlases([shelf], budget)
        assert atlas.size <= budget
        sizes.append([sheets.width for sheets in atlas.sheets])
    assert sizes[0] == [64]
    assert sizes[1][1] < sizes[1][0]
    assert 0 < sizes[2][0] < sizes[1][0]
    assert sizes[3] == []


def test_photos_without_room_become_their_mean_colour(
    dataset: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmneedle.reports.atlas.SIDES", ((32, 0), (0, 0)))
    ids = dataset.store.ids
    (atlas,) = atlases([Shelf(dataset.store, ids[:20], ids[20:])], 10**6)
    dots = np.frombuffer(atlas.colours, np.uint8).reshape(-1, 3)
    assert len(dots) == len(ids) - 20
    for dot, photo in zip(dots, ids[20:].tolist(), strict=True):
        assert np.abs(dot - mean_colour(dataset, photo)).max() < 12


def test_tiles_keep_the_shape_of_cells(tmp_path: Path) -> None:
    made = build(
        tmp_path / "data", ShapesSource(60), {ONE: 2}, tiles=TileFormat(128, 64), workers=1
    )
    (atlas,) = atlases([Shelf(made.store, made.store.ids, made.store.ids[:0])], 10**6)
    assert (atlas.sheets[0].width, atlas.sheets[0].height) == (128, 64)
    (tile,) = tiles(made.store, made.store.ids[:1], (32, 16))
    assert tile.size == (32, 16)


# --------------------------------------------------------------------------- size


class Noise:
    """Photos that no format makes small."""

    def __init__(self, count: int) -> None:
        self.count = count

    def photos(self) -> list[Photo]:
        return [Photo(i, (f"photo {i} " * 8,)) for i in range(self.count)]

    def recipe(self) -> dict[str, object]:
        return {"source": "noise"}

    def identity(self) -> dict[str, object]:
        return {"source": "noise", "photos": self.count}

    def tile(self, photo: int, width: int, height: int) -> Image.Image:
        pixels = np.random.default_rng(photo).integers(0, 256, (height, width, 3))
        return Image.fromarray(pixels.astype(np.uint8))


def test_a_large_run_with_half_of_it_wrong_stays_under_5_mb(tmp_path: Path) -> None:
    shapes = ((1, 2), (1, 4), (1, 8), (10, 1), (10, 2), (10, 4), (10, 8))
    counts = dict.fromkeys([Setting(n, s, s) for n, s in shapes], 2000)
    made = build(tmp_path / "data", Noise(3000), counts, tiles=TileFormat(64, 64), workers=1)
    known = {setting: list(made.samples(setting)) for setting in counts}

    def half(setting: Setting, index: int, truth: Truth) -> Response:
        return ok(f"1, 1, {index % setting.cols + 1}" if index // 2 % 2 else text(truth))

    run = _quick_run(tmp_path / "run", half, counts, made, known)
    path = html.write_report([run], tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    value = packed(page)
    errors = sum(c > 0 for group in value["groups"] for c in group["replies"][0]["category"])
    assert errors > 6_500
    assert f"{errors:,} answers that are wrong or missing" in page
    assert "To stay under 5 MB" in page
    assert blocks(page)["sheet-0-0"]


def _quick_run(folder: Path, answer, counts, made: DataSet, known) -> Run:
    """As `write_run`, without reading each sample by itself."""

    class Known:
        fingerprint, folder = made.fingerprint, made.folder

        def sample(self, name: str):
            setting, _, number = name.rpartition("-")
            return known[Setting.parse(setting)][int(number)]

    return write_run(folder, answer, counts, dataset=Known())


def test_a_hopeless_budget_is_no_error(dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sometimes, dict.fromkeys(SHAPES, 24), dataset=dataset)
    told = [{"name": "run", "label": "m", "task": "grid", "show": "", "cells": {}}]
    explored = explorer(gather([run], {dataset.fingerprint: dataset}), told, 0)
    assert not explored.pictures
    assert "there is no room for photos" in explored.left_out
    assert explored.errors > 0


def test_a_data_set_with_fewer_samples_than_the_run_says_so(
    dataset: DataSet, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", always_first, {ONE: 40}, fingerprint=dataset.fingerprint)
    (group,) = gather([run], {dataset.fingerprint: dataset})
    assert group.trouble is not None
    assert "only 24 samples" in group.trouble
    with pytest.raises(UserError):
        dataset.sample(sample_id(ONE, 30))
