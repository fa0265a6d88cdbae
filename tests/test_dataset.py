import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import disks
import msgspec
import pyarrow.parquet as pq
import pytest
from disks import disk
from needs import coco_mini
from PIL import Image

from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.files import locked
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules, SampleMaker
from mmneedle.stitching.tiles import TileFormat, encode_tile
from mmneedle.types import Sample, Setting

SMALL = TileFormat(32, 32)
A, B = Setting(1, 2, 2), Setting(2, 2, 3, 2)


def source() -> ShapesSource:
    return ShapesSource(scenes=60)


def everything(dataset: DataSet) -> list[Sample]:
    return [sample for setting in dataset.settings for sample in dataset.samples(setting)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("set") / "shapes"
    return build(folder, source(), {A: 300, B: 20}, tiles=SMALL)


def test_reads_back_what_it_says(dataset: DataSet) -> None:
    again = DataSet.open(dataset.folder)
    assert again.settings == (A, B)
    assert (again.count(A), again.count(B), again.count(Setting(9, 9, 9)), len(again)) == (
        300,
        20,
        0,
        320,
    )
    samples = everything(again)
    assert [s.id for s in samples] == [f"{A.name}-{i:06d}" for i in range(300)] + [
        f"{B.name}-{i:06d}" for i in range(20)
    ]
    captions = {photo.id: photo.captions for photo in source().photos()}
    assert {p.id: p.captions for p in again.photos()} == captions
    for sample in samples:
        for needle in sample.needles:
            assert needle.caption == captions[needle.photo][-1]
            if needle.location:
                image, row, column = needle.location
                setting = sample.setting
                cell = ((image - 1) * setting.rows + row - 1) * setting.cols + column - 1
                assert sample.haystack[cell] == needle.photo
            else:
                assert needle.photo not in sample.haystack


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (255, 258), (256, 256), (250, 999), (299, 300)]
)
def test_any_range_alone(dataset: DataSet, start: int, stop: int) -> None:
    whole = list(dataset.samples(A))
    assert list(dataset.samples(A, start, stop)) == whole[start:stop]


def test_one_sample_by_id(dataset: DataSet) -> None:
    assert dataset.sample(f"{B.name}-000013") == list(dataset.samples(B))[13]


@pytest.mark.parametrize(
    "name", ["", "x", f"{A.name}-000300", f"{A.name}-1", "n9-g9x9-k1-000000", f"{A.name}-00000１"]
)
def test_ids_that_are_not_there(dataset: DataSet, name: str) -> None:
    with pytest.raises(UserError, match="no sample"):
        dataset.sample(name)


def test_images_show_the_haystack_cell_by_cell(dataset: DataSet) -> None:
    sample = dataset.sample(f"{B.name}-000002")
    images = dataset.images(sample)
    assert len(images) == 2
    assert images == DataSet.open(dataset.folder).images(sample)
    at = iter(sample.haystack)
    for image in images:
        picture = Image.open(io.BytesIO(image))
        assert picture.size == (3 * 32, 2 * 32)
        for row in range(2):
            for column in range(3):
                cell = picture.crop((32 * column, 32 * row, 32 * column + 32, 32 * row + 32))
                tile = Image.open(io.BytesIO(encode_tile(source().tile(next(at), 32, 32), SMALL)))
                # The inside of a cell is its tile, pixel for pixel; chroma of the outermost
                # pixels is smoothed over the seam by the decoder.
                inside = (2, 2, 30, 30)
                assert cell.crop(inside).tobytes() == tile.convert("RGB").crop(inside).tobytes()


def test_a_build_of_few_is_the_beginning_of_a_build_of_many(
    dataset: DataSet, tmp_path: Path
) -> None:
    short = build(tmp_path / "short", source(), {A: 40}, tiles=SMALL)
    assert short.fingerprint == dataset.fingerprint
    assert everything(short) == list(dataset.samples(A, 0, 40))
    some = everything(short)[7]
    assert short.images(some) == dataset.images(some)
    grown = build(tmp_path / "short", source(), {B: 20}, tiles=SMALL)
    grown = build(tmp_path / "short", source(), {A: 300}, tiles=SMALL)
    assert everything(grown) == everything(dataset)
    same = build(tmp_path / "short", source(), {A: 10}, tiles=SMALL)
    assert same.count(A) == 300
    last = everything(same)[-1]
    assert same.images(last) == dataset.images(last)


GOLDEN = [
    (
        Rules(),
        "b4e0b62269c57fa8156e7cd58fb4c0c242abddc36e41277a7ada717d9d9402dd",
        "70d9b0be5e688043030d51cb6ff903f28695b6b81f4f26fe1c95410e24d9993c",
        185.118,
    ),
    (
        Rules(seed=5, captions="random", hard_negatives=0.5),
        "e61d021e10fdafbd7741347e527d803eaf52cfb0a66dc89055482b03b64a177e",
        "1d1bced337d490c81156c077f9a8b6ab7754ddd54d656e02bd75dd42dafbca9e",
        226.855,
    ),
]


@pytest.mark.parametrize(("rules", "mark", "digest", "ambiguity"), GOLDEN)
def test_the_samples_of_version_1_stay_the_same(
    tmp_path: Path, rules: Rules, mark: str, digest: str, ambiguity: float
) -> None:
    """Taken from the code before samples could share a haystack."""
    settings = {A: 300, Setting(2, 2, 3, 2): 60, Setting(3, 4, 4, 5): 40}
    built = build(tmp_path / "set", source(), settings, rules, SMALL)
    assert built.fingerprint == mark
    content, sum_of_ambiguity = hashlib.sha256(), 0.0
    for one in everything(built):
        fields = (one.id, one.haystack, one.needles, one.hard, one.haystack_number)
        content.update(msgspec.json.encode(fields))
        sum_of_ambiguity += one.ambiguity or 0
    assert content.hexdigest() == digest
    assert sum_of_ambiguity == pytest.approx(ambiguity, abs=0.01)


@pytest.mark.parametrize("questions", [2, 6, 8])
def test_shared_haystacks_are_stored_once_and_read_in_any_range(
    tmp_path: Path, questions: int
) -> None:
    """Six questions do not fill a row group of 256 samples: a haystack goes over its end."""
    setting = Setting(4, 5, 5)
    rules = Rules(questions=questions, hard_negatives=0.5)
    built = build(tmp_path / "set", ShapesSource(400), {setting: 600}, rules, SMALL)
    whole = everything(built)
    made = SampleMaker(ShapesSource(400).photos(), rules)
    assert whole == list(made.samples(setting, 0, 600))
    for start, stop in ((0, 1), (5, 9), (250, 260), (255, 257), (256, 257), (511, 600), (599, 600)):
        assert list(built.samples(setting, start, stop)) == whole[start:stop]
    alone = build(tmp_path / "alone", ShapesSource(400), {setting: 600}, tiles=SMALL)
    assert alone.fingerprint != built.fingerprint
    sizes = [
        stored_bytes(one.folder / "samples" / f"{setting.name}.parquet") for one in (built, alone)
    ]
    assert sizes[0] < sizes[1] * (1 / questions + 0.05)


def stored_bytes(path: Path) -> int:
    """What the haystacks take in a file."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    return sum(group.column(0).total_compressed_size for group in groups)


def test_the_images_of_a_shared_haystack_are_joined_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {Setting(2, 1, 2): 16, Setting(2, 2, 1): 16}
    built = build(tmp_path / "set", ShapesSource(60), settings, Rules(questions=4), SMALL)
    samples = everything(built)
    straight = [DataSet.open(built.folder).images(sample) for sample in samples]
    joined = []
    join = built.store.join
    monkeypatch.setattr(built.store, "join", lambda *args: (joined.append(args), join(*args))[1])
    assert [built.images(sample) for sample in samples] == straight
    assert len(joined) == 2 * 8  # images of eight haystacks
    assert [built.images(sample) for sample in samples[::-1]] == straight[::-1]


def test_a_build_with_other_questions_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "set", source(), {A: 4}, Rules(questions=4), SMALL)
    with pytest.raises(UserError, match="questions-per-haystack 4, now --questions-per-haystack 1"):
        build(tmp_path / "set", source(), {A: 4}, tiles=SMALL)
    grown = build(tmp_path / "set", source(), {A: 30}, Rules(questions=4), SMALL)
    assert [s.haystack_number for s in everything(grown)][-3:] == [6, 7, 7]


@pytest.mark.parametrize(
    "other",
    [
        {"rules": Rules(seed=1)},
        {"rules": Rules(captions="random")},
        {"rules": Rules(hard_negatives=0.5)},
        {"rules": Rules(questions=2)},
        {"tiles": TileFormat(32, 32, 90)},
        {"tiles": TileFormat(48, 32)},
        {"source": ShapesSource(scenes=61)},
    ],
)
def test_another_recipe_is_another_fingerprint_and_refused(
    dataset: DataSet, tmp_path: Path, other: dict[str, object]
) -> None:
    arguments = {"source": source(), "tiles": SMALL, **other}
    changed = build(tmp_path / "other", settings={A: 2}, **arguments)  # type: ignore[arg-type]
    assert changed.fingerprint != dataset.fingerprint
    before = everything(dataset)
    with pytest.raises(UserError, match="holds a data set of another recipe"):
        build(dataset.folder, settings={A: 2}, **arguments)  # type: ignore[arg-type]
    assert everything(DataSet.open(dataset.folder)) == before


def test_folders_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        build(tmp_path, source(), {A: 2}, tiles=SMALL)
    with pytest.raises(UserError, match="is a file"):
        build(tmp_path / "thesis.tex", source(), {A: 2}, tiles=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("settings", "tiles", "message"),
    [
        ({Setting(10, 8, 8): 2}, SMALL, "needs 641 photos"),
        ({A: 2}, TileFormat(30, 30), "4:4:4"),
        ({Setting(1, 2, 2, 5): 2}, SMALL, "do not fit"),
    ],
)
def test_what_cannot_be_built_leaves_nothing(
    tmp_path: Path, settings: dict[Setting, int], tiles: TileFormat, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(tmp_path / "set", source(), settings, tiles=tiles)
    assert not (tmp_path / "set").exists()


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="another process is building here")
    with locked(tmp_path / "set", "building"), refused:
        build(tmp_path / "set", source(), {A: 2}, tiles=SMALL)
    assert build(tmp_path / "set", source(), {A: 2}, tiles=SMALL).count(A) == 2


def test_opening_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data set here"):
        DataSet.open(tmp_path)
    with pytest.raises(UserError, match=r"no data set here"):
        DataSet.open(tmp_path / "nowhere")
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match=r"not a data set's manifest"):
        DataSet.open(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", disks.SMALL) as small:
        with pytest.raises(UserError, match=r"No space left"):
            build(small / "set", ShapesSource(4000), {A: 4}, tiles=SMALL)
        with pytest.raises(UserError, match=r"No space left"):
            build(small / "other", source(), {A: 20_000}, tiles=SMALL)
        assert [path for path in small.rglob("*") if "partial" in path.name] == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    damaged = build(tmp_path / "set", source(), {A: 4}, tiles=SMALL)
    (tmp_path / "set" / "samples" / f"{A.name}.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"cannot be read .*; build the data set again"):
        everything(damaged)
    assert len(everything(build(tmp_path / "set", source(), {A: 4}, tiles=SMALL))) == 4


BUILD = """
from mmneedle.data.shapes import ShapesSource
from mmneedle.stitching.dataset import build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Setting
if __name__ == "__main__":
    build({folder!r}, ShapesSource(800), {{Setting(10, 8, 8): 40}}, tiles=TileFormat(96, 96))
"""
LARGE = {Setting(10, 8, 8): 40}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("undisturbed") / "set"
    return build(folder, ShapesSource(800), LARGE, tiles=TileFormat(96, 96))


@pytest.mark.parametrize("delay", [0.7, 1.2, 1.7])
def test_killed_while_building_then_built_again(
    undisturbed: DataSet, tmp_path: Path, delay: float
) -> None:
    """Whenever the kill comes, there is no data set or a whole one, and a build completes it."""
    folder = tmp_path / "set"
    script = tmp_path / "script.py"
    script.write_text(BUILD.format(folder=str(folder)))
    process = subprocess.Popen([sys.executable, script], start_new_session=True)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if (folder / "dataset.json").exists():
        assert len(DataSet.open(folder).images(everything(DataSet.open(folder))[-1])) == 10
    else:
        with pytest.raises(UserError, match="no data set here"):
            DataSet.open(folder)
    again = build(folder, ShapesSource(800), LARGE, tiles=TileFormat(96, 96))
    assert everything(again) == everything(undisturbed)
    last = everything(again)[-1]
    assert again.images(last) == undisturbed.images(last)


def test_manifest_names_no_photo_folder_in_the_fingerprint(tmp_path: Path) -> None:
    folder = coco_mini()
    (tmp_path / "elsewhere").symlink_to(folder)
    settings = {Setting(1, 2, 2): 4, Setting(10, 2, 2): 4}
    one = build(tmp_path / "one", find_coco(folder, None), settings)
    two = build(tmp_path / "two", find_coco(tmp_path / "elsewhere", None), settings)
    assert one.fingerprint == two.fingerprint
    assert everything(one) == everything(two)
    manifest = msgspec.json.decode((tmp_path / "one" / "dataset.json").read_bytes())
    assert manifest["photos"] == 79
    assert json.dumps(manifest["identity"]).find("/") == -1


def test_captions_alone_are_those_of_the_samples(tmp_path: Path) -> None:
    dataset = build(tmp_path / "set", ShapesSource(60), {Setting(1, 2, 2, 2): 600})
    (setting,) = dataset.settings
    for start, stop in ((0, 600), (0, 1), (255, 257), (300, 301), (513, 600)):
        expected = [
            [needle.caption for needle in sample.needles]
            for sample in dataset.samples(setting, start, stop)
        ]
        assert list(dataset.captions(setting, start, stop)) == expected
