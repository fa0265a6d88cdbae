"""COCO as it comes: official layouts, odd photos, and caption files that are none."""

import io
import json
import multiprocessing
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmneedle.data import coco as coco_module
from mmneedle.data import open_source, stays_inside
from mmneedle.data.coco import CocoSource, find_coco, load_rgb
from mmneedle.errors import UserError


def jpeg(color: Any = (200, 30, 40), size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def captions_json(
    texts: dict[int, list[str]], names: dict[int, str] | None = None
) -> dict[str, Any]:
    """A caption file's content; the annotations of the photos take turns."""
    names = names or {i: f"{i:012d}.jpg" for i in texts}
    images = [{"id": i, "file_name": names[i], "width": 40, "height": 30} for i in texts]
    most = max(map(len, texts.values()), default=0)
    turns = [(i, texts[i][turn]) for turn in range(most) for i in texts if turn < len(texts[i])]
    annotations = [
        {"id": 1000 + number, "image_id": i, "caption": text}
        for number, (i, text) in enumerate(turns)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations}


def make_root(
    root: Path, split: str = "val2017", texts: dict[int, list[str]] | None = None
) -> Path:
    """An official root with one split, photos and all."""
    texts = texts or {7: ["a", "b"], 3: ["c"]}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / split).mkdir()
    data = captions_json(texts)
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(data), "utf-8")
    for image in data["images"]:
        (root / split / image["file_name"]).write_bytes(jpeg())
    return root


def open_data(folder: Path, data: Any) -> CocoSource:
    """Open a folder of photos 1.jpg … with this caption file (text, bytes or JSON)."""
    folder.mkdir(exist_ok=True)
    file = folder / "captions.json"
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    file.write_bytes(raw)
    return CocoSource(folder, file)


# --------------------------------------------------------------------------- real photos


def test_real_photos() -> None:
    source = find_coco(needs.coco_mini(), None)
    photos = source.photos()
    assert len(photos) == 79
    assert [photo.id for photo in photos] == sorted(photo.id for photo in photos)
    assert all(len(photo.captions) >= 5 for photo in photos)
    raw = json.loads((needs.coco_mini() / "annotations" / "captions_val2017.json").read_text())
    for photo in photos:
        listed = [a["caption"].strip() for a in raw["annotations"] if a["image_id"] == photo.id]
        assert list(photo.captions) == listed
    assert source.without_captions == 0


def test_real_tiles_are_the_pixels_of_the_papers_code() -> None:
    """It opens a photo and calls resize((256, 256)): bicubic, aspect not kept."""
    source = find_coco(needs.coco_mini(), None)
    for photo in source.photos()[::4]:
        tile = source.tile(photo.id, 256, 256)
        with Image.open(source.path(photo.id)) as image:
            expected = image.resize((256, 256)).convert("RGB")
        assert (tile.mode, tile.size) == ("RGB", (256, 256))
        assert tile.tobytes() == expected.tobytes()


def test_real_photos_open_again_from_their_recipe() -> None:
    source = find_coco(needs.coco_mini(), None)
    recipe = json.loads(json.dumps(source.recipe()))
    assert open_source(recipe).photos() == source.photos()
    assert Path(recipe["photos"]).is_absolute() and Path(recipe["captions"]).is_absolute()
    assert open_source(recipe).identity() == source.identity()


# --------------------------------------------------------------------------- captions


def test_photos_by_id_and_captions_in_file_order(tmp_path: Path) -> None:
    source = find_coco(make_root(tmp_path, texts={9: ["x1", "x2", "x3"], 2: ["y1"]}), None)
    assert [(p.id, p.captions) for p in source.photos()] == [(2, ("y1",)), (9, ("x1", "x2", "x3"))]


def test_captions_are_stripped_and_empty_ones_dropped(tmp_path: Path) -> None:
    texts = {1: ["  a dog\n", "", " \n\t", "a cat. "], 2: ["", " "], 3: []}
    (tmp_path / "000000000001.jpg").write_bytes(jpeg())
    source = open_data(tmp_path, captions_json(texts))
    assert [(p.id, p.captions) for p in source.photos()] == [(1, ("a dog", "a cat."))]
    assert source.without_captions == 2  # and their files need not be there


def test_captions_of_unlisted_photos_are_ignored(tmp_path: Path) -> None:
    data = captions_json({1: ["a"], 2: ["b"]})
    del data["images"][1]
    (tmp_path / "000000000001.jpg").write_bytes(jpeg())
    assert len(open_data(tmp_path, data).photos()) == 1


def test_any_language_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "000000000001.jpg").write_bytes(jpeg())
    raw = json.dumps(captions_json({1: ["eine Straße, 街 🚦"]}), ensure_ascii=False).encode()
    for mark in (b"", b"\xef\xbb\xbf"):
        assert open_data(tmp_path, mark + raw).photos()[0].captions == ("eine Straße, 街 🚦",)


def test_opening_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    find_coco(make_root(tmp_path), None)
    assert capfd.readouterr() == ("", "")


def test_photos_in_subfolders(tmp_path: Path) -> None:
    names = {1: "a/1.jpg", 2: "b/2.jpg"}
    for name in names.values():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(jpeg())
    source = open_data(tmp_path, captions_json({1: ["x"], 2: ["y"]}, names))
    assert source.tile(2, 20, 20).size == (20, 20)
    (tmp_path / "b" / "2.jpg").unlink()
    (tmp_path / "b").rmdir()
    with pytest.raises(UserError, match="1 of 2 photos"):
        CocoSource(tmp_path, tmp_path / "captions.json")


def test_identity_leaves_paths_out(tmp_path: Path) -> None:
    one = find_coco(make_root(tmp_path / "one"), None)
    two = find_coco(make_root(tmp_path / "two"), None)
    other = find_coco(make_root(tmp_path / "three", texts={7: ["a", "B"], 3: ["c"]}), None)
    assert one.recipe() != two.recipe()
    assert one.identity() == two.identity() != other.identity()
    assert one.identity()["source"] == "coco" and one.identity()["photos"] == 2
    assert str(tmp_path) not in json.dumps(one.identity())


def test_works_in_another_process(tmp_path: Path) -> None:
    source = find_coco(make_root(tmp_path), None)
    assert pickle.loads(pickle.dumps(source)).photos() == source.photos()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        tile = pool.apply(source.tile, (3, 16, 16))
    assert tile.tobytes() == source.tile(3, 16, 16).tobytes()


# --------------------------------------------------------------------------- caption files


def with_image(**change: Any) -> dict[str, Any]:
    data = captions_json({1: ["a"]})
    data["images"][0].update(change)
    return data


def with_caption(**change: Any) -> dict[str, Any]:
    data = captions_json({1: ["a"]})
    data["annotations"][0].update(change)
    return data


def doubled(part: str, **change: Any) -> dict[str, Any]:
    data = captions_json({1: ["a"]})
    data[part].append({**data[part][0], **change})
    return data


NOT_COCO: dict[str, tuple[Any, str]] = {
    "empty": (b"", "is not JSON"),
    "text": (b"hello", "is not JSON"),
    "cut": (json.dumps(captions_json({1: ["a"]})).encode()[:-9], "is not JSON"),
    "not utf-8": (b'{"images": ["\xff"]}', "is not JSON"),
    "too deep": (b"[" * 100_000, "is not JSON"),
    "a jpeg": (jpeg(), "is not JSON"),
    "a list": ([], 'no list "images"'),
    "no images": ({"annotations": []}, 'no list "images"'),
    "no annotations": ({"images": []}, 'no list "annotations"'),
    "images no list": ({"images": {}, "annotations": []}, 'no list "images"'),
    "image no object": ({"images": [3], "annotations": []}, 'no whole number "id": None'),
    "annotation no object": ({"images": [], "annotations": ["a"]}, 'no whole number "id"'),
    "text id": (with_image(id="1"), "no whole number \"id\": '1'"),
    "fractional id": (with_image(id=1.5), 'no whole number "id": 1.5'),
    "boolean id": (with_image(id=True), 'no whole number "id": True'),
    "text image_id": (with_caption(image_id="1"), 'no whole number "image_id"'),
    "no annotation id": (with_caption(id=None), 'no whole number "id"'),
    "caption no text": (with_caption(caption=5), "no caption: is this an instances file"),
    "two images": (doubled("images", file_name="2.jpg"), "two images have the id 1"),
    "two annotations": (doubled("annotations"), "two annotations have the id 1000"),
    "same file": (doubled("images", id=2), "images 1 and 2 are the same file"),
    "no captions at all": (captions_json({1: []}), "no photo has a caption"),
    "nothing": (captions_json({}), "no photo has a caption"),
    "no file name": (with_image(file_name=None), "not a file name inside the folder: None"),
    "escape": (with_image(file_name="../../etc/passwd"), "not a file name inside the folder"),
    "absolute": (with_image(file_name="/etc/passwd"), "not a file name inside the folder"),
}


@pytest.mark.parametrize("kind", NOT_COCO)
def test_caption_files_that_are_none(tmp_path: Path, kind: str) -> None:
    data, says = NOT_COCO[kind]
    (tmp_path / "000000000001.jpg").write_bytes(jpeg())
    (tmp_path / "2.jpg").write_bytes(jpeg())
    with pytest.raises(UserError) as caught:
        open_data(tmp_path, data)
    assert says in str(caught.value)
    assert "captions.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_instances_file_is_named_as_such() -> None:
    root = needs.coco_mini()
    with pytest.raises(UserError, match="instances file"):
        CocoSource(root / "val2017", root / "annotations" / "instances_val2017.json")


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["images", "annotations", "id", "image_id", "file_name", "caption"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(json_values)
def test_any_json_at_all_opens_or_is_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-json"
    try:
        open_data(folder, data)
    except UserError as error:
        assert "\n" not in str(error)


names = st.text(st.sampled_from("ab./\\:C\0 "), max_size=12)


@given(names)
def test_a_name_that_stays_inside_does(name: str) -> None:
    if stays_inside(name):
        folder = os.path.normpath("/data/photos")
        assert os.path.normpath(f"{folder}/{name}").startswith(f"{folder}/")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../../b",
        "/a",
        "a//b",
        "a/",
        "C:a",
        "c:/a",
        "\\\\h\\s",
        "a\\b",
        "a\0",
    ],
)
def test_names_that_do_not_stay_inside(name: str) -> None:
    assert not stays_inside(name)


# --------------------------------------------------------------------------- missing things


def test_missing_photos_are_counted_and_the_first_named(tmp_path: Path) -> None:
    root = make_root(tmp_path, texts={i: ["a"] for i in range(1, 6)})
    for i in (2, 4, 5):
        (root / "val2017" / f"{i:012d}.jpg").unlink()
    with pytest.raises(UserError, match=r"3 of 5 photos .* first 000000000002\.jpg"):
        find_coco(root, None)


def test_many_photos_open_without_looking_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path, texts={i: ["a"] for i in range(1, 301)})
    looks: list[object] = []
    original = os.stat

    def counting(*args: Any, **more: Any) -> os.stat_result:
        looks.append(args)
        return original(*args, **more)

    monkeypatch.setattr(os, "stat", counting)
    assert len(find_coco(root, None).photos()) == 300
    assert len(looks) < 50


@pytest.mark.parametrize("photo", [0, 4, -3])
def test_a_photo_that_is_not_in_the_file(tmp_path: Path, photo: int) -> None:
    with pytest.raises(UserError, match=f"no photo {photo} "):
        find_coco(make_root(tmp_path), None).tile(photo, 16, 16)


def test_a_photo_that_went_away(tmp_path: Path) -> None:
    source = find_coco(make_root(tmp_path), None)
    source.path(3).unlink()
    with pytest.raises(UserError, match=r"000000000003\.jpg is gone"):
        source.tile(3, 16, 16)


@pytest.mark.parametrize("size", [(0, 16), (16, -1)])
def test_a_cell_of_no_size(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="no cell"):
        find_coco(make_root(tmp_path), None).tile(3, *size)


# --------------------------------------------------------------------------- finding


def test_root_photo_folder_or_caption_file_will_do(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    file = root / "annotations" / "captions_val2017.json"
    folder = root / "val2017"
    expected = find_coco(root, None).recipe()
    assert expected == {"source": "coco", "photos": str(folder), "captions": str(file)}
    for photos, captions in (
        (folder, None),
        (None, file),
        (root, file),
        (folder, file),
        (root, root),
        (root, root / "annotations"),
        (None, root / "annotations"),
    ):
        assert find_coco(photos, captions).recipe() == expected


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    expected = find_coco(root, None).recipe()
    monkeypatch.chdir(root)
    assert find_coco(Path(), None).recipe() == expected
    assert find_coco(Path("val2017"), None).recipe() == expected
    monkeypatch.chdir(root / "val2017")
    assert find_coco(Path(), None).recipe() == expected
    assert find_coco(Path(".."), None).recipe() == expected
    assert find_coco(None, Path("../annotations/captions_val2017.json")).recipe() == expected


def test_linked_photo_folder(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    (root / "val2017").rename(tmp_path / "big-disk")
    (root / "val2017").symlink_to(tmp_path / "big-disk")
    for photos in (root, root / "val2017"):
        assert find_coco(photos, None).recipe()["photos"] == str(tmp_path / "big-disk")


def test_caption_file_beside_the_photos_or_anywhere(tmp_path: Path) -> None:
    root = make_root(tmp_path / "root")
    file = root / "annotations" / "captions_val2017.json"
    beside = root / file.name
    file.rename(beside)
    assert find_coco(root, None).recipe()["captions"] == str(beside)
    assert find_coco(root / "val2017", None).recipe()["captions"] == str(beside)
    assert find_coco(None, beside).recipe()["photos"] == str(root / "val2017")
    far = tmp_path / "mine.json"
    beside.rename(far)
    assert find_coco(root / "val2017", far).recipe()["captions"] == str(far)


def test_several_splits_in_one_root(tmp_path: Path) -> None:
    root = make_root(tmp_path, "val2014")
    make_root(tmp_path, "val2017", {5: ["z"]})
    with pytest.raises(UserError, match="choose one with --captions") as caught:
        find_coco(root, None)
    assert "captions_val2014.json" in str(caught.value)
    assert "captions_val2017.json" in str(caught.value)
    chosen = find_coco(root, root / "annotations" / "captions_val2017.json")
    assert [photo.id for photo in chosen.photos()] == [5]
    assert [photo.id for photo in find_coco(root / "val2014", None).photos()] == [3, 7]


def test_the_split_whose_photos_are_there_is_chosen(tmp_path: Path) -> None:
    """As the official annotation archive unpacks: train captions too, without their photos."""
    root = make_root(tmp_path)
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    assert len(find_coco(root, None).photos()) == 2


Wanted = Callable[[Path], tuple[Path | None, Path | None]]
NOT_FOUND: dict[str, tuple[Wanted, str]] = {
    "nothing named": (lambda root: (None, None), "--photos"),
    "no folder": (lambda root: (root / "no", None), "does not exist"),
    "no file": (lambda root: (root, root / "no.json"), "does not exist"),
    "photos no folder": (
        lambda root: (root / "annotations" / "captions_val2017.json", None),
        "is not a folder",
    ),
    "no captions": (lambda root: (root / "empty" / "inner", None), "no captions_.*--captions"),
    "captions folder empty": (lambda root: (root, root / "empty"), "no captions_.*--captions"),
    "other split": (lambda root: (root / "train2017", None), "no captions_train2017.json beside"),
    "photos unknown": (lambda root: (None, root / "empty" / "captions_x.txt"), "name it with --ph"),
}


@pytest.mark.parametrize("kind", NOT_FOUND)
def test_what_is_not_found_is_said(tmp_path: Path, kind: str) -> None:
    root = make_root(tmp_path)
    (root / "empty" / "inner").mkdir(parents=True)
    (root / "empty" / "captions_x.txt").write_text("{}")
    (root / "train2017").mkdir()
    wanted, says = NOT_FOUND[kind]
    with pytest.raises(UserError, match=says) as caught:
        find_coco(*wanted(root))
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------- odd photos


def photo(tmp_path: Path, data: bytes, name: str = "photo.jpg") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def check(path: Path, expected: Any, tolerance: int = 0) -> None:
    """load_rgb gives these pixels, [height, width, 3]."""
    image = load_rgb(path)
    assert image.mode == "RGB"
    found = np.asarray(image).astype(int)
    expected = np.broadcast_to(np.asarray(expected), found.shape)
    assert np.abs(found - expected).max() <= tolerance


def colourful(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(5).integers(0, 256, (6, 9, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The four corners end where the standard (CIPA DC-008, tag 274) puts them."""
    corners = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]]], np.uint8)
    upright = corners.repeat(32, axis=0).repeat(48, axis=1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    path = photo(tmp_path, saved(image, "JPEG", quality=95, subsampling=0, exif=exif))
    result = load_rgb(path)
    assert result.size == (96, 64)
    found = np.asarray(result).astype(int)[16::32, 24::48]
    assert np.abs(found - corners).max() < 16


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0"])
def test_unreadable_exif_is_no_reason_to_refuse(tmp_path: Path, exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(photo(tmp_path, jpeg((200, 30, 40), exif=exif)), (200, 30, 40), 3)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("1", "PNG"),
        ("L", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGB", "PNG"),
        ("RGB", "BMP"),
        ("RGB", "TIFF"),
        ("CMYK", "TIFF"),
        ("RGB", "WEBP"),
    ],
)
def test_every_usual_mode(tmp_path: Path, mode: str, kind: str) -> None:
    image = colourful(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    check(photo(tmp_path, data), expected)
    if kind != "JPEG":
        check(photo(tmp_path, data), np.asarray(image.convert("RGB")))


def test_a_grey_photo_has_three_equal_channels(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    check(photo(tmp_path, saved(Image.fromarray(values), "PNG")), values[:, :, None])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_white(tmp_path: Path, kind: str) -> None:
    values = np.zeros((4, 6, 4), np.uint8)
    values[:, :2] = (10, 20, 30, 255)
    values[:, 2:4] = (100, 0, 0, 0)  # hidden colour must not show through
    values[:, 4:] = (0, 0, 0, 128)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(Image.fromarray(values), kind, **options)
    expected = np.full((4, 6, 3), 255)
    expected[:, :2] = (10, 20, 30)
    expected[:, 4:] = 127
    check(photo(tmp_path, data), expected, 1)


def test_grey_with_transparency(tmp_path: Path) -> None:
    values = np.array([[[40, 255], [40, 0], [0, 128]]], np.uint8)
    data = saved(Image.fromarray(values, "LA"), "PNG")
    check(photo(tmp_path, data), [[[40] * 3, [255] * 3, [127] * 3]], 1)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 0])
    for x in range(3):
        image.putpixel((x, 0), x)
    data = saved(image, "PNG", transparency=transparency)
    last = 0 if transparency == 1 else 127
    check(photo(tmp_path, data), [[(10, 20, 30), (255, 255, 255), (last,) * 3]], 1)


def test_a_transparent_colour_key(tmp_path: Path) -> None:
    values = np.array([[[10, 20, 30], [7, 8, 9]]], np.uint8)
    data = saved(Image.fromarray(values), "PNG", transparency=(7, 8, 9))
    check(photo(tmp_path, data), [[(10, 20, 30), (255, 255, 255)]])


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 300, 32768, 65279, 65535]], np.uint16)
    data = saved(Image.fromarray(values), "PNG")
    expected = np.round(values / 257)[:, :, None]
    check(photo(tmp_path, data), expected)
    check(photo(tmp_path, saved(Image.fromarray(values), "TIFF")), expected)


def test_16_bit_colour(tmp_path: Path) -> None:
    """Pillow cannot write one; the chunks of PNG (RFC 2083) are soon put together."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)

    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0x0101)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    check(photo(tmp_path, data), (255, 128, 1))


def test_floating_point_is_refused(tmp_path: Path) -> None:
    data = saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(UserError, match="floating-point"):
        load_rgb(photo(tmp_path, data))


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX"])
def test_unusual_formats_are_not_even_tried(tmp_path: Path, kind: str) -> None:
    """Pillow knows 40 formats, one of which starts Ghostscript; photos need few."""
    data = saved(Image.new("RGB", (16, 16)), kind)
    assert Image.open(io.BytesIO(data)).format == kind
    with pytest.raises(UserError, match="no photo"):
        load_rgb(photo(tmp_path, data))


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(red, kind, save_all=True, append_images=[blue], **options)
        check(photo(tmp_path, data), (255, 0, 0))


def test_the_aspect_is_not_kept(tmp_path: Path) -> None:
    values = np.zeros((20, 80, 3), np.uint8)
    values[:, 40:] = 255
    photo(tmp_path, saved(Image.fromarray(values), "PNG"), "p.png")
    tile = open_data(tmp_path, captions_json({1: ["a"]}, {1: "p.png"})).tile(1, 16, 48)
    assert tile.size == (16, 48)
    assert np.asarray(tile)[:, :6].max() == 0 and np.asarray(tile)[:, -6:].min() == 255


# --------------------------------------------------------------------------- hostile photos


def noisy_jpeg() -> bytes:
    values = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    return saved(Image.fromarray(values), "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a photo",
        noisy_jpeg()[:-1500],
        noisy_jpeg()[:300],
        saved(colourful(), "PNG")[:-30],
        saved(colourful(), "WEBP")[:-40],
        saved(colourful(), "PNG").replace(b"IDAT", b"IDAX"),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # would start Ghostscript
    ],
    ids=["empty", "text", "cut", "cut early", "cut png", "cut webp", "no pixels", "eps"],
)
def test_damaged_photos_are_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UserError, match=r"broken\.jpg") as caught:
        load_rgb(photo(tmp_path, data, "broken.jpg"))
    assert "\n" not in str(caught.value)


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=40))
def test_any_damage_is_a_photo_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for number, whole in enumerate((noisy_jpeg(), saved(colourful(), "PNG"))):
        where = at % len(whole)
        data = whole[:where] + noise + whole[where + len(noise) :]
        path = photo(folder, data, f"damaged{number}.jpg")
        try:
            assert load_rgb(path).mode == "RGB"
        except UserError as error:
            assert path.name in str(error)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge."""
    data = saved(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize("size", [(10_000, 9_000), (20_000, 20_000), (60_000, 60_000)])
def test_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int], recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(UserError, match=r"bomb\.png is refused: .* 89478485 pixels"):
        load_rgb(photo(tmp_path, bomb(*size), "bomb.png"))
    assert not recwarn.list


def test_the_limit_holds_without_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UserError, match="refused"):
        load_rgb(photo(tmp_path, bomb(10_000, 9_000)))
    monkeypatch.setattr(coco_module, "MAX_PIXELS", 1200)
    assert load_rgb(photo(tmp_path, jpeg(size=(40, 30)))).size == (40, 30)
    with pytest.raises(UserError, match="more than 1200 pixels"):
        load_rgb(photo(tmp_path, jpeg(size=(41, 30))))


def test_a_folder_named_like_a_photo(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    source = find_coco(root, None)
    source.path(3).unlink()
    source.path(3).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        source.tile(3, 16, 16)
