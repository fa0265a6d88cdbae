import io
import re
import subprocess

import needs
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image
from rounds import examples

from mmneedle.errors import UserError
from mmneedle.stitching.grid import Plan
from mmneedle.stitching.jpeg import TileFormat, encode_tile, split_tile, tile_header

SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")
MCU = {"4:2:0": (16, 16), "4:2:2": (16, 8), "4:4:4": (8, 8)}
CONTENTS = ("noise", "gradient", "flat", "photo")


def picture(seed: int, width: int, height: int, content: str) -> Image.Image:
    rng = np.random.default_rng(seed)
    if content == "noise":
        pixels = rng.integers(0, 256, (height, width, 3))
    elif content == "flat":
        pixels = np.broadcast_to(rng.integers(0, 256, 3), (height, width, 3))
    else:
        y, x = np.mgrid[:height, :width]
        a, b, c = rng.uniform(-2, 2, (3, 3))
        pixels = 128 + a * x[..., None] + b * y[..., None] + 20 * c
        if content == "photo":
            pixels = pixels + rng.normal(0, 12, pixels.shape)
            pixels[:, width // 2 :] = 255 - pixels[:, width // 2 :]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def joined(tiles: list[Image.Image], fmt: TileFormat, rows: int, cols: int) -> bytes:
    plan = Plan(tile_header(fmt), fmt, rows, cols)
    file = plan.join([split_tile(encode_tile(tile, fmt), fmt) for tile in tiles])
    segments = sum(len(s) for tile in tiles for s in split_tile(encode_tile(tile, fmt), fmt))
    assert len(file) == plan.overhead + segments
    return file


def pasted(tiles: list[Image.Image], fmt: TileFormat, rows: int, cols: int) -> Image.Image:
    canvas = Image.new("RGB", (cols * fmt.width, rows * fmt.height))
    for k, tile in enumerate(tiles):
        row, col = divmod(k, cols)
        canvas.paste(tile, (col * fmt.width, row * fmt.height))
    return canvas


def tool(*command: str, stdin: bytes) -> bytes:
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b""), command
    return done.stdout


def assert_right(file: bytes, canvas: Image.Image, fmt: TileFormat) -> None:
    """The file is Pillow's own, plus restart markers; a strict decoder finds no fault in it."""
    own = io.BytesIO()
    canvas.save(own, "JPEG", quality=fmt.quality, subsampling=fmt.subsampling)
    assert tool("jpegtran", "-copy", "all", "-restart", "0", stdin=file) == own.getvalue()
    assert tool("djpeg", "-strict", stdin=file) == tool("djpeg", "-strict", stdin=own.getvalue())


@st.composite
def cases(draw):
    """A format and a grid that fit together: sizes are arbitrary where there is one row, column."""
    subsampling = draw(st.sampled_from(SUBSAMPLINGS))
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    across, down = MCU[subsampling]
    width = draw(st.integers(1, 60)) if cols == 1 else across * draw(st.integers(1, 5))
    height = draw(st.integers(1, 60)) if rows == 1 else down * draw(st.integers(1, 5))
    quality = draw(st.sampled_from((75, 90, 95)))
    return TileFormat(width, height, quality, subsampling), rows, cols


@examples(120)
@given(cases(), st.integers(0, 2**32), st.sampled_from(CONTENTS))
@example((TileFormat(64, 32, 75, "4:2:0"), 3, 5), 1, "photo")
@example((TileFormat(16, 16, 1, "4:2:0"), 2, 3), 2, "noise")
@example((TileFormat(16, 8, 100, "4:2:2"), 2, 3), 2, "noise")
@example((TileFormat(8, 8, 95, "4:4:4"), 1, 7), 3, "noise")
@example((TileFormat(13, 7, 90, "4:2:0"), 1, 1), 4, "gradient")
@example((TileFormat(13, 48, 90, "4:2:0"), 4, 1), 4, "photo")
@example((TileFormat(48, 13, 90, "4:2:2"), 1, 4), 4, "photo")
def test_a_joined_file_is_the_encoded_canvas(case, seed, content):
    needs.jpeg_tools()
    fmt, rows, cols = case
    tiles = [picture(seed + k, fmt.width, fmt.height, content) for k in range(rows * cols)]
    assert_right(joined(tiles, fmt, rows, cols), pasted(tiles, fmt, rows, cols), fmt)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("grid", [(8, 8), (3, 5), (1, 7)])
def test_the_benchmark_s_own_cells(grid, subsampling):
    needs.jpeg_tools()
    fmt = TileFormat(256, 256, 75, subsampling)
    tiles = [picture(k, 256, 256, CONTENTS[k % 4]) for k in range(grid[0] * grid[1])]
    assert_right(joined(tiles, fmt, *grid), pasted(tiles, fmt, *grid), fmt)


def test_real_photos():
    needs.jpeg_tools()
    fmt = TileFormat(224, 160, 75)
    paths = sorted((needs.coco_mini() / "val2017").glob("*.jpg"))[:12]
    tiles = [Image.open(path).convert("RGB").resize((224, 160)) for path in paths]
    assert_right(joined(tiles, fmt, 3, 4), pasted(tiles, fmt, 3, 4), fmt)


def test_markers_count_up_modulo_eight():
    fmt = TileFormat(16, 48)
    tiles = [picture(k, 16, 48, "noise") for k in range(15)]
    file = joined(tiles, fmt, 3, 5)
    scan = file.index(b"\xff\xda")
    markers = [m[1] for m in re.findall(rb"\xff[\xd0-\xd9]", file[scan:])]
    assert markers == [0xD0 + k % 8 for k in range(3 * 3 * 5 - 1)] + [0xD9]
    assert file.endswith(b"\xff\xd9")


def test_wrong_markers_would_be_noticed():
    """The oracle is one: Pillow reads such a file without a word."""
    needs.jpeg_tools()
    tiles = [picture(k, 16, 16, "noise") for k in range(4)]
    file = joined(tiles, TileFormat(16, 16), 2, 2)
    wrong = file.replace(b"\xff\xd1", b"\xff\xd5")
    assert wrong != file
    done = subprocess.run(["djpeg", "-strict"], input=wrong, capture_output=True, check=False)
    assert done.returncode
    with pytest.raises(AssertionError):
        assert_right(wrong, pasted(tiles, TileFormat(16, 16), 2, 2), TileFormat(16, 16))


def test_at_444_every_cell_decodes_to_its_tile():
    fmt = TileFormat(40, 24, 90, "4:4:4")
    tiles = [picture(k, 40, 24, "photo") for k in range(6)]
    image = Image.open(io.BytesIO(joined(tiles, fmt, 2, 3)))
    for k, tile in enumerate(tiles):
        row, col = divmod(k, 3)
        cell = image.crop((col * 40, row * 24, col * 40 + 40, row * 24 + 24))
        alone = Image.open(io.BytesIO(encode_tile(tile, fmt)))
        assert cell.tobytes() == alone.tobytes()


def test_a_tile_with_too_few_segments_is_no_tile():
    plan = Plan(tile_header(TileFormat(16, 32)), TileFormat(16, 32), 1, 2)
    with pytest.raises(ValueError):
        plan.join([[b"a", b"b"], [b"a"]])
    with pytest.raises(ValueError):
        plan.join([[b"a", b"b"]])
    assert plan.join([[b"a", b"b"], [b"c", b"d"]]).endswith(b"a\xff\xd0c\xff\xd1b\xff\xd2d\xff\xd9")


# --------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("fmt", "grid", "words"),
    [
        (TileFormat(250, 256), (2, 2), ["250 px wide", "240 or 256 px", "4:4:4", "248 or 256 px"]),
        (TileFormat(264, 256), (2, 2), ["264 px wide", "256 or 272 px", "4:4:4 with 264 px"]),
        (TileFormat(256, 100), (2, 1), ["100 px high", "96 or 112 px", "96 or 104 px"]),
        (TileFormat(256, 100, 75, "4:2:2"), (2, 1), ["100 px high", "96 or 104 px"]),
        (TileFormat(9, 9), (2, 2), ["9 px wide", "take 16 px", "9 px high"]),
        (TileFormat(100, 64, 75, "4:4:4"), (1, 2), ["96 or 104 px (a multiple of 8)"]),
        (TileFormat(8192, 8), (1, 8), ["65536", "65500", "8187 px", "7 columns"]),
        (TileFormat(8, 70_000), (1, 1), ["70000", "65500"]),
        (TileFormat(0, 8), (1, 1), ["0x8", "1 or more"]),
        (TileFormat(8, -8), (1, 1), ["8x-8"]),
        (TileFormat(8, 8, 0), (1, 1), ["quality 0", "1 to 100"]),
        (TileFormat(8, 8, 101), (1, 1), ["quality 101"]),
        (TileFormat(8, 8, 75, "4:1:1"), (1, 1), ["4:1:1", "4:2:0"]),
        (TileFormat(8, 8), (0, 1), ["0x1"]),
        (TileFormat(8, 8), (1, -2), ["1x-2"]),
    ],
)
def test_check_says_what_is_wrong_and_what_works(fmt, grid, words):
    with pytest.raises(UserError) as caught:
        fmt.check(*grid)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_the_finest_subsampling_is_not_named_as_a_way_out_of_itself():
    with pytest.raises(UserError) as caught:
        TileFormat(100, 100, 75, "4:4:4").check(2, 2)
    assert "or 4:4:4" not in str(caught.value)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(SUBSAMPLINGS),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_the_sizes_that_check_names_work(width, height, subsampling, rows, cols):
    fmt = TileFormat(width, height, 75, subsampling)
    try:
        fmt.check(rows, cols)
    except UserError as error:
        text = str(error)
    else:
        assume(False)
    advice = r"tiles \d+ px (wide|high).*?take ([\d or]+) px[^;]*?(?:4:4:4 with ([\d or]+) px|$|;)"
    sizes = {"wide": [width], "high": [height]}
    fine = {"wide": [width], "high": [height]}
    found = re.findall(advice, text)
    assert found
    for way, coarse, finer in found:
        sizes[way] = [int(n) for n in coarse.split(" or ")]
        fine[way] = [int(n) for n in (finer or coarse).split(" or ")]
    for w in sizes["wide"]:
        for h in sizes["high"]:
            TileFormat(w, h, 75, subsampling).check(rows, cols)
    for w in fine["wide"]:
        for h in fine["high"]:
            TileFormat(w, h, 75, "4:4:4").check(rows, cols)


def test_the_largest_side_works():
    TileFormat(65_500, 8).check(1, 1)
    TileFormat(16, 16).check(65_500 // 16, 65_500 // 16)


# --------------------------------------------------------------------------- tiles


@pytest.mark.parametrize(("mode", "size"), [("L", (16, 16)), ("CMYK", (16, 16)), ("RGB", (16, 17))])
def test_only_rgb_of_the_right_size_is_encoded(mode, size):
    with pytest.raises(ValueError, match="RGB"):
        encode_tile(Image.new(mode, size), TileFormat(16, 16))


def test_nothing_of_the_photo_but_its_pixels_is_kept():
    fmt = TileFormat(16, 16)
    image = picture(1, 16, 16, "photo")
    plain = encode_tile(image, fmt)
    image.info.update(comment=b"a comment", icc_profile=b"profile", dpi=(300, 300), exif=b"Exif")
    assert encode_tile(image, fmt) == plain


def saved(fmt: TileFormat, **changes) -> bytes:
    options = {
        "quality": fmt.quality,
        "subsampling": fmt.subsampling,
        "restart_marker_rows": 1,
    }
    out = io.BytesIO()
    picture(1, fmt.width, fmt.height, "photo").save(out, "JPEG", **options | changes)
    return out.getvalue()


FMT = TileFormat(32, 64)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"quality": 76}, "DQT"),
        ({"subsampling": "4:4:4"}, "SOF0"),
        ({"optimize": True}, "DHT"),
        ({"progressive": True}, "FFC2"),
        ({"restart_marker_rows": 2}, "DRI"),
        ({"restart_marker_rows": 0}, "DRI"),
        ({"comment": b"x"}, "FFFE"),
        ({"dpi": (72, 72)}, "APP0"),
        ({"exif": b"Exif\0\0"}, "FFE1"),
    ],
)
def test_a_tile_unlike_the_others_is_refused(changes, part):
    assert len(split_tile(saved(FMT), FMT)) == 4
    with pytest.raises(UserError) as caught:
        split_tile(saved(FMT, **changes), FMT)
    assert "cannot be joined" in str(caught.value)
    if changes.get("restart_marker_rows") == 0:
        return  # the part is missing, so another stands in its place
    assert part in str(caught.value)


def test_a_damaged_scan_is_refused():
    tile = saved(FMT)
    for wrong in (
        tile[:-2],  # no end
        tile[:-1],
        tile + b"x",
        tile[: len(tile) // 2],
        tile.replace(b"\xff\xd1", b"\xff\xd2"),  # out of order
        tile.replace(b"\xff\xd1", b"\xff\x00"),  # one too few
        tile.replace(b"\xff\xd1", b"\xff\xd1\xff\xd2"),  # one too many
        tile.replace(b"\xff\xd1", b"\xff\xc4"),  # a marker that a scan cannot hold
        tile[:20],
        b"",
        b"GIF89a",
    ):
        with pytest.raises(UserError, match="cannot be joined"):
            split_tile(wrong, FMT)


@examples(50)
@given(
    st.integers(0, 2**32),
    st.sampled_from(SUBSAMPLINGS),
    st.sampled_from((1, 75, 95, 100)),
    st.integers(1, 70),
    st.integers(1, 200),
)
def test_segments_hold_no_marker_and_make_the_tile_again(seed, subsampling, quality, width, height):
    fmt = TileFormat(width, height, quality, subsampling)
    tile = encode_tile(picture(seed, width, height, "noise"), fmt)
    segments = split_tile(tile, fmt)
    assert len(segments) == -(-height // MCU[subsampling][1])
    for segment in segments:
        assert not re.search(rb"\xff([^\x00]|$)", segment)
    assert Plan(tile_header(fmt), fmt, 1, 1).join([segments]) == tile


def test_more_than_eight_segments_in_a_tile():
    fmt = TileFormat(8, 8 * 20, 75, "4:4:4")
    assert len(split_tile(encode_tile(picture(3, 8, 160, "noise"), fmt), fmt)) == 20
