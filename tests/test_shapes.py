"""Drawn scenes: every caption true of one scene only, every pixel the same everywhere."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rounds import examples

from mmneedle.data import digest, open_source, shapes
from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    Placed,
    Scene,
    ShapesSource,
    Thing,
    all_scenes,
    draw,
    layout,
    write_coco,
)
from mmneedle.errors import UserError

any_scene = st.integers(0, 18_047).map(lambda index: all_scenes()[index])
any_seed = st.integers(-(2**70), 2**70)


def sha(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def pixels(image: Image.Image) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(image).astype(np.int64)


# --------------------------------------------------------------------------- scenes and captions


def test_all_scenes_are_there_once() -> None:
    assert len(COLORS) == 8 and len(SHAPES) == 6 and len(BACKGROUNDS) == 4
    assert len(all_scenes()) == len(set(all_scenes())) == 18_048
    assert all(scene.first != scene.second for scene in all_scenes())


def test_no_two_scenes_share_a_caption() -> None:
    """The canonical captions differ, and so does every paraphrase from every other caption."""
    every = [text for scene in all_scenes() for text in scene.captions]
    assert len(every) == len(set(every)) == 4 * 18_048
    assert all(text == text.strip() and "\n" not in text for text in every)


def test_captions_read_as_english_and_the_canonical_one_is_last() -> None:
    scene = Scene(Thing("red", "circle"), "above", Thing("orange", "square"), "white")
    assert scene.captions == (
        "an orange square below a red circle, white background",
        "on white: a red circle at the top, an orange square at the bottom",
        "a white background with an orange square at the bottom and a red circle at the top",
        "a red circle above an orange square on a white background",
    )
    beside = scene._replace(relation="left of", background="black")
    assert beside.captions == (
        "an orange square right of a red circle, black background",
        "on black: a red circle on the left, an orange square on the right",
        "a black background with an orange square on the right and a red circle on the left",
        "a red circle left of an orange square on a black background",
    )
    assert ShapesSource(1).photos()[0].captions[-1] == ShapesSource(1).scene(1).caption


# --------------------------------------------------------------------------- the source


def test_ids_count_from_one_and_scenes_are_distinct() -> None:
    source = ShapesSource()
    assert [photo.id for photo in source.photos()] == list(range(1, 4001))
    assert len({source.scene(photo.id) for photo in source.photos()}) == 4000
    assert all(photo.captions == source.scene(photo.id).captions for photo in source.photos())


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 3))
def test_fewer_scenes_are_the_first_of_more(one: int, other: int, seed: int) -> None:
    few, many = sorted((one, other))
    assert ShapesSource(few, seed).photos() == ShapesSource(many, seed).photos()[:few]
    assert sha(ShapesSource(few, seed).tile(few, 16, 16)) == sha(
        ShapesSource(many, seed).tile(few, 16, 16)
    )


def test_seeds_choose_other_scenes_and_all_of_them_in_the_end() -> None:
    every = {photo.captions for photo in ShapesSource(18_048, 5).photos()}
    assert len(every) == 18_048
    assert ShapesSource(100, 0).photos() != ShapesSource(100, 1).photos()


def test_the_first_scenes_are_balanced() -> None:
    source = ShapesSource(2000)
    scenes = [source.scene(photo.id) for photo in source.photos()]
    for part, kinds in (
        ([s.background for s in scenes], 4),
        ([s.relation for s in scenes], 2),
        ([s.first.color for s in scenes], 8),
        ([s.second.shape for s in scenes], 6),
    ):
        counts = Counter(part)
        assert len(counts) == kinds
        assert all(abs(n - 2000 / kinds) < 0.2 * 2000 / kinds for n in counts.values())


@pytest.mark.parametrize("scenes", [0, -1, 18_049])
def test_an_impossible_number_of_scenes(scenes: int) -> None:
    with pytest.raises(UserError, match="between 1 and 18048"):
        ShapesSource(scenes)


def test_photos_that_are_not_there() -> None:
    for photo in (0, 11, -1):
        with pytest.raises(UserError, match=f"no photo {photo}"):
            ShapesSource(10).tile(photo, 32, 32)


def test_pickles_small_and_opens_again() -> None:
    source = ShapesSource(50, 9)
    source.photos()
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 200
    assert again.photos() == open_source(source.recipe()).photos() == source.photos()
    assert source.recipe() == {"source": "shapes", "scenes": 50, "seed": 9}
    assert sha(again.tile(7, 40, 40)) == sha(source.tile(7, 40, 40))


def test_identity_tells_sources_apart() -> None:
    assert ShapesSource(50, 9).identity() == ShapesSource(50, 9).identity()
    identities = [ShapesSource(n, seed).identity() for n in (1, 50, 51) for seed in (0, 9)]
    assert len({json.dumps(identity) for identity in identities}) == 6
    assert identities[0]["photos"] == 1
    assert ShapesSource(1, 9).identity()["seed"] == 9  # other jitter, though the scene be the same
    assert ShapesSource(1, 9).identity()["drawing"] == shapes.DRAWING
    assert identities[0]["sha256"] == digest(ShapesSource(1).photos())


# --------------------------------------------------------------------------- drawing


def test_pixels_are_pinned() -> None:
    """If this fails, the drawing has changed: raise shapes.DRAWING, and pin the new values.

    Data sets that were built before then keep their tiles, but cannot be extended.
    """
    source = ShapesSource(300, 0)
    sums = hashlib.sha256()
    for photo in source.photos():
        sums.update(source.tile(photo.id, 56, 56).tobytes())
        sums.update(source.tile(photo.id, 96, 64).tobytes())
    assert shapes.DRAWING == 1
    assert (
        digest(source.photos())
        == "53c4cb804c628ec5020f9214c8d3d87eaa9161d580fd83365dce22ab287b5447"
    )
    assert sums.hexdigest() == "b444be4a14035200b147c03aa61fe80c1c291c56e54c1d33a8ad216c2547352e"


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    """With another hash seed, and the scenes asked for in another order."""
    code = (
        "import hashlib; from mmneedle.data.shapes import ShapesSource; s = ShapesSource(30, 4)\n"
        "t = {i: s.tile(i, 50, 70).tobytes() for i in range(30, 0, -1)}\n"
        "print(hashlib.sha256(b''.join(t[i] for i in sorted(t))).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(shapes.__file__).parents[2])},
    )
    source = ShapesSource(30, 4)
    here = b"".join(source.tile(i, 50, 70).tobytes() for i in range(1, 31))
    assert run.stdout.strip() == hashlib.sha256(here).hexdigest()


@examples(40)
@given(any_scene, any_seed, st.integers(16, 300), st.integers(16, 300))
def test_tiles_have_exactly_the_size_asked_for(
    scene: Scene, seed: int, width: int, height: int
) -> None:
    image = draw(scene, seed, width, height)
    assert (image.mode, image.size) == ("RGB", (width, height))
    assert sha(image) == sha(draw(scene, seed, width, height))


@pytest.mark.parametrize("size", [(15, 64), (64, 15), (0, 0), (-5, 64)])
def test_too_small_a_cell(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="16 px a side"):
        draw(all_scenes()[0], 0, *size)


def box(placed: Placed) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a placed shape as fractions of the tile."""
    size = 1 << 14
    table = shapes._OUTLINES[placed.thing.shape][0]
    x, y = shapes._corners(placed, table, size, size)
    unit = size * shapes._SUBPIXEL
    return x.min() / unit, y.min() / unit, x.max() / unit, y.max() / unit


@given(any_scene, any_seed)
def test_the_relation_is_plain_to_see(scene: Scene, seed: int) -> None:
    """Shapes lie within the tile, do not touch, and stand more along the relation than across."""
    (first, second), _ = layout(scene, seed)
    assert (first.thing, second.thing) == (scene.first, scene.second)
    boxes = box(first), box(second)
    for left, top, right, bottom in boxes:
        assert min(left, top) > 0.02 and max(right, bottom) < 0.98
        assert 0.24 < max(right - left, bottom - top) < 0.42
    axis = 1 if scene.relation == "above" else 0
    assert boxes[0][axis + 2] < boxes[1][axis]  # the first one ends before the second begins
    apart = [second.x - first.x, second.y - first.y]
    assert apart[axis] >= 0.42 * 65536
    assert abs(apart[1 - axis]) <= 0.0901 * 65536


@examples(60)
@given(any_scene, any_seed)
def test_the_drawing_agrees_with_the_caption(scene: Scene, seed: int) -> None:
    """Seen from the pixels alone: the colour at each centre, the one behind, and which is where."""
    image = pixels(draw(scene, seed, 56, 56))

    def nearest(color: Any, names: dict[str, tuple[int, int, int]]) -> str:
        return min(names, key=lambda name: np.abs(np.array(names[name]) - color).sum())

    assert nearest(image[0, 0], BACKGROUNDS) == scene.background
    busy = np.abs(image - image[0, 0]).sum(axis=2) > 40
    across = busy.any(axis=1 if scene.relation == "above" else 0)
    runs = np.flatnonzero(np.diff(np.concatenate(([0], across.astype(int), [0]))))
    assert len(runs) == 4, "two shapes with a gap between them"
    for thing, (start, stop) in zip((scene.first, scene.second), (runs[:2], runs[2:]), strict=True):
        part = slice(start, stop)
        band = image[part] if scene.relation == "above" else image[:, part]
        mask = busy[part] if scene.relation == "above" else busy[:, part]
        rows, columns = np.nonzero(mask)
        middle = band[
            round((rows.min() + rows.max()) / 2), round((columns.min() + columns.max()) / 2)
        ]
        assert nearest(middle, COLORS) == thing.color


def test_the_layout_does_not_depend_on_the_size() -> None:
    """A large drawing scaled down is the small drawing, give or take the smoothing."""
    source = ShapesSource(20)
    for photo, size in product(range(1, 21), ((64, 64), (56, 56), (96, 48))):
        large = source.tile(photo, size[0] * 4, size[1] * 4).resize(size, Image.Resampling.BOX)
        difference = np.abs(pixels(large) - pixels(source.tile(photo, *size)))
        assert difference.max() <= 24 and difference.mean() < 0.5


def test_jitter_seeds_vary_the_drawing_and_nothing_else() -> None:
    scene = all_scenes()[4321]
    drawings = {sha(draw(scene, seed, 64, 64)) for seed in range(50)}
    assert len(drawings) == 50
    for seed in range(50):
        (first, second), _ = layout(scene, seed)
        assert (first.thing, second.thing) == (scene.first, scene.second)
    places = {(p.x, p.y) for seed in range(50) for p in layout(scene, seed)[0]}
    assert len(places) == 100


def lab(color: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """CIE L*a*b* of an sRGB colour, D65 white."""
    c = np.array(color) / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(matrix) @ c / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colours_can_be_told_apart() -> None:
    """At least 25 in CIE76 from one another and from every background (2.3 can just be seen)."""
    for some in (COLORS, BACKGROUNDS):
        for one, other in combinations(some, 2):
            assert np.linalg.norm(lab(some[one]) - lab(some[other])) > 25, (one, other)
    for color, background in product(COLORS, BACKGROUNDS):
        gap = np.linalg.norm(lab(COLORS[color]) - lab(BACKGROUNDS[background]))
        assert gap > 25, (color, background)


def test_shapes_differ_at_56_pixels() -> None:
    """Every two shapes differ in at least a tenth of the larger one's pixels."""
    masks = {}
    for shape in SHAPES:
        placed = Placed(Thing("red", shape), 32768, 32768, 11796, 0, (0, 0, 0))
        left, top, mask = shapes._coverage(
            *shapes._corners(placed, shapes._OUTLINES[shape][0], 56, 56)
        )
        whole = np.zeros((56, 56))
        whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask / 255
        masks[shape] = whole
    for one, other in combinations(SHAPES, 2):
        larger = max(masks[one].sum(), masks[other].sum())
        assert np.abs(masks[one] - masks[other]).sum() > 0.1 * larger, (one, other)


def test_coverage_is_the_area_of_the_polygon() -> None:
    """Against the shoelace formula, for every shape and lean; never below 0 or above 255."""
    for shape, degrees in product(SHAPES, range(-10, 11, 5)):
        placed = Placed(Thing("red", shape), 30000, 33333, 12000, degrees, (0, 0, 0))
        for table in shapes._OUTLINES[shape]:
            x, y = shapes._corners(placed, table, 200, 120)
            _, _, mask = shapes._coverage(x, y)
            area = abs(int((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2 / 256**2
            assert mask.max() == 255
            assert mask.sum() / 255 == pytest.approx(area, rel=0.01)


# --------------------------------------------------------------------------- COCO layout


def test_a_written_data_set_is_read_back_exactly(tmp_path: Path) -> None:
    source = ShapesSource(12, 3)
    steps: list[tuple[int, int]] = []
    write_coco(tmp_path / "deep" / "set", source, 48, 32, lambda *step: steps.append(step))
    again = find_coco(tmp_path / "deep" / "set", None)
    assert again.photos() == source.photos()
    assert again.without_captions == 0
    for photo in source.photos():
        assert sha(again.tile(photo.id, 48, 32)) == sha(source.tile(photo.id, 48, 32))
    assert steps == [(i, 12) for i in range(1, 13)]


def test_the_annotation_file_is_true_coco(tmp_path: Path) -> None:
    write_coco(tmp_path, ShapesSource(3), 20, 16)
    data = json.loads((tmp_path / "annotations" / "captions_shapes.json").read_text("utf-8"))
    assert set(data) == {"info", "licenses", "images", "annotations"}
    assert data["images"][1] == {
        "id": 2,
        "file_name": "000000000002.png",
        "width": 20,
        "height": 16,
        "license": 1,
    }
    assert data["licenses"][0]["id"] == 1
    assert [a["id"] for a in data["annotations"]] == list(range(1, 13))
    assert [a["caption"] for a in data["annotations"] if a["image_id"] == 2] == list(
        ShapesSource(3).scene(2).captions
    )
    with Image.open(tmp_path / "shapes" / "000000000002.png") as image:
        assert image.size == (20, 16)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_coco(tmp_path / name, ShapesSource(3), 20, 20)
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")}
        for n in ("one", "two")
    )
    assert one == two


def test_an_interrupted_writing_shows_no_data_set_and_can_be_repeated(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path, ShapesSource(4), 20, 20, stop)
    with pytest.raises(UserError, match="no captions_"):
        find_coco(tmp_path, None)
    write_coco(tmp_path, ShapesSource(4), 20, 20)
    assert len(find_coco(tmp_path, None).photos()) == 4


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_coco(tmp_path, ShapesSource(2), 20, 20)
    with pytest.raises(UserError, match="exists already"):
        write_coco(tmp_path, ShapesSource(2), 20, 20)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        write_coco(tmp_path / "file", ShapesSource(2), 20, 20)


# --------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({}, "unknown source None: choose one of coco, shapes"),
        ({"source": "imagenet"}, "unknown source 'imagenet'"),
        ({"source": ["shapes"]}, "unknown source"),
        ({"source": "shapes", "scenes": "many"}, "'scenes' must be int, not 'many'"),
        ({"source": "shapes", "scenes": True}, "'scenes' must be int"),
        ({"source": "shapes", "seed": 1.5}, "'seed' must be int"),
        ({"source": "shapes", "scenes": 0}, "between 1 and"),
        ({"source": "shapes", "photos": "x"}, "unknown key 'photos'"),
        ({"source": "coco", "photos": "x"}, "'captions' is missing"),
        ({"source": "coco", "photos": None, "captions": "x"}, "'photos' must be str"),
        ({"source": "coco", "photos": "/nowhere", "captions": "/x"}, "no photo folder /nowhere"),
    ],
)
def test_recipes_that_open_nothing(recipe: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        open_source(recipe)


def test_a_recipe_may_leave_out_what_has_a_default() -> None:
    assert open_source({"source": "shapes"}).recipe() == ShapesSource().recipe()
