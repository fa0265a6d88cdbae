"""Rules for images by provider: the known figures, geometry, look-up, and a user's own file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.adapters.limits import Book, effective_cell, key_of, text_tokens, violations
from mmneedle.adapters.sight import Cover, Crops, Grid, Patches, Rounded, Rule, Tiles
from mmneedle.errors import UserError
from mmneedle.types import Needs, Setting

OLDER = """
[[models]]
match = ["openai/gpt-4.1-mini"]
image = {rule = "patches", patch = 32, most = 1536, multiplier = 1.62}
"""

# model, detail, then for s = 4 and s = 8 (cells of 256 px): pixels a cell, tokens an image.
KNOWN = [
    ("openai/gpt-4o", "high", 192, 765, 96, 765),
    ("openai/gpt-4o-2024-11-20", None, 192, 765, 96, 765),
    ("openai/gpt-4.1", "high", 192, 765, 96, 765),
    ("openai/gpt-5", "high", 192, 630, 96, 630),
    ("openai/gpt-5.1", "high", 192, 630, 96, 630),
    ("openai/gpt-4o-mini", "high", 192, 2833 + 4 * 5667, 96, 2833 + 4 * 5667),
    ("openai/o1", "high", 192, 675, 96, 675),
    ("openai/o3", "high", 192, 675, 96, 675),
    ("openai/gpt-5.4", "high", 256, 1229, 200, 3000),
    ("openai/gpt-5.5", "high", 256, 1229, 200, 3000),
    ("openai/gpt-5.6-sol", "high", 256, 1229, 200, 3000),
    ("openai/gpt-5.4", "original", 256, 1229, 256, 4916),
    ("openai/gpt-5.5", "original", 256, 1229, 256, 4916),
    ("openai/gpt-5.5", None, 256, 1229, 256, 4916),
    ("openai/gpt-4.1-mini", "high", 256, 1659, 256, 6636),
    ("anthropic/claude-sonnet-4-5-20250929", None, 256, 1369, 136, 1521),
    ("anthropic/claude-3-5-sonnet-20241022", None, 256, 1369, 136, 1521),
    ("anthropic/claude-opus-4-20250514", None, 256, 1369, 136, 1521),
    ("anthropic/claude-opus-4-6", None, 256, 1369, 136, 1521),
    ("anthropic/claude-opus-4-7", None, 256, 1369, 241, 4761),
    ("anthropic/claude-sonnet-5-5", None, 256, 1369, 241, 4761),
    ("google/gemini-1.5-pro", None, 256, 1032, 256, 2322),
    ("google/gemini-2.5-flash", None, 256, 1032, 144, 1032),
    ("google/gemini-3-pro", None, None, 1120, None, 1120),
    ("google/gemini-3-pro", "low", None, 280, None, 280),
    ("google/gemini-3-pro", "medium", None, 560, None, 560),
    ("google/gemini-3-pro", "ultra_high", None, 2240, None, 2240),
    ("server/Qwen/Qwen2.5-VL-7B-Instruct", None, 259, 1369, 255, 5329),
    ("hf/Qwen/Qwen2.5-VL-7B-Instruct", None, 259, 1369, 255, 5329),
    ("vllm/Qwen/Qwen3-VL-8B-Instruct", None, 256, 1024, 256, 4096),
    ("server/OpenGVLab/InternVL3-8B", None, 336, 2560, 168, 2560),
]


@pytest.mark.parametrize(("model", "detail", "px4", "tokens4", "px8", "tokens8"), KNOWN)
def test_known_figures(
    model: str, detail: str | None, px4: int | None, tokens4: int, px8: int | None, tokens8: int
) -> None:
    limits = Book.open().of(model)
    for grid, px, tokens in ((4, px4, tokens4), (8, px8, tokens8)):
        sight = limits.see(256 * grid, 256 * grid, detail)
        cell = effective_cell(Setting(10, grid, grid), sight)
        assert (cell, sight.tokens) == (px and (px, px), tokens)


def test_the_older_budget_as_a_users_own_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OLDER)
    limits = Book.open(tmp_path / "own.toml").of("openai/gpt-4.1-mini")
    for detail in (None, "auto"):  # the packaged levels of detail are gone with their rule
        sight = limits.see(2048, 2048, detail)
        assert effective_cell(Setting(10, 8, 8), sight) == (156, 156)
        assert sight.tokens == 2465  # 39 x 39 patches x 1.62
    assert limits.see(2048, 2048, "high").tokens is None
    assert limits.images == 1500  # what the file does not say stays
    assert limits.context == 1_000_000


@pytest.mark.parametrize(
    ("size", "rule", "seen"),
    [
        # OpenAI's own worked examples.
        ((1024, 1024), Patches(32, None, 1536, 1.0), (1024, 1024, 1024)),
        ((1800, 2400), Patches(32, None, 1536, 1.0), (1056, 1408, 1452)),
        ((2048, 4096), Tiles(2048, 512, 85, 170, 768), (768, 1536, 1105)),
        # Anthropic's: 1000 x 1000 and 1920 x 1080.
        ((1000, 1000), Cover(28, 2576, 4784), (1000, 1000, 1296)),
        ((1920, 1080), Cover(28, 2576, 4784), (1920, 1080, 2691)),
        # Google's: 960 x 540 has crops of 360 px, six of them.
        ((960, 540), Crops(384, 768, 258), (960, 540, 1548)),
        ((384, 200), Crops(384, 768, 258), (384, 200, 258)),
        # A strip, and one pixel.
        ((10_000, 10), Patches(32, 2048, 1536, 1.0), (2048, 2, 64)),
        ((1, 1), Cover(28, 1568, 1568), (1, 1, 1)),
        ((1, 1), Crops(384, 768, 258), (1, 1, 258)),
        ((448, 448), Grid(448, 12, 256), (448, 448, 256)),
        ((896, 448), Grid(448, 12, 256), (896, 448, 768)),
    ],
)
def test_worked_examples(size: tuple[int, int], rule: Rule, seen: tuple[int, int, int]) -> None:
    assert rule.see(*size) == seen


SIDES = st.integers(1, 9000)
SHRINKING = st.sampled_from(
    [
        Tiles(2048, 512, 85, 170, 768),
        Tiles(512, 512, 85, 0),
        Patches(32, 2048, 2500, 1.2),
        Patches(32, 6000, 10_000, 1.2),
        Patches(32, None, 1536, 1.62),
        Cover(28, 1568, 1568),
        Cover(28, 2576, 4784),
        Crops(384, 768, 258),
        Crops(384, 768, 258, 256, 768),
    ]
)


@given(SHRINKING, SIDES, SIDES)
def test_a_shrinking_rule_never_enlarges_and_keeps_the_shape(
    rule: Rule, width: int, height: int
) -> None:
    sight = rule.see(width, height)
    assert sight.width and sight.height and sight.tokens
    assert 1 <= sight.width <= width
    assert 1 <= sight.height <= height
    # One scale for both sides, but for a pixel of rounding in each of two steps.
    scale = max(sight.width / width, sight.height / height)
    assert sight.width >= width * scale - 2 - width / height
    assert sight.height >= height * scale - 2 - height / width


@given(st.sampled_from([Cover(28, 1568, 1568), Cover(28, 2576, 4784)]), SIDES, SIDES)
def test_cover_fits_and_a_pixel_more_would_not(rule: Cover, width: int, height: int) -> None:
    seen_width, seen_height, tokens = rule.see(width, height)
    assert seen_width is not None and seen_height is not None and tokens is not None
    longest, seen = max(width, height), max(seen_width, seen_height)
    assert seen <= rule.side
    assert tokens <= rule.most
    if seen < min(longest, rule.side):
        more = [max(1, side * (seen + 1) // longest) for side in (width, height)]
        assert -(-more[0] // 28) * -(-more[1] // 28) > rule.most


@given(SIDES, SIDES, st.integers(100, 10_000))
def test_patches_stay_within_the_budget(width: int, height: int, most: int) -> None:
    sight = Patches(32, None, most, 1.0).see(width, height)
    assert sight.tokens is not None and sight.tokens <= most


@given(SHRINKING, SIDES, SIDES)
def test_tokens_of_squares_never_fall_as_they_grow(rule: Rule, one: int, other: int) -> None:
    if isinstance(rule, Crops) and rule.most is None:
        return  # its crops grow with the image
    small, large = sorted((one, other))
    least, most = rule.see(small, small).tokens, rule.see(large, large).tokens
    assert least is not None and most is not None
    assert least <= most


@given(st.sampled_from([Rounded(28, 12_845_056, 3136), Rounded(32, 16_777_216, 65_536)]),
       st.integers(28, 9000), st.integers(28, 9000))  # fmt: skip
def test_rounding_stays_within_its_range(rule: Rounded, width: int, height: int) -> None:
    sight = rule.see(width, height)
    assert sight.width and sight.height
    assert sight.width % rule.factor == sight.height % rule.factor == 0
    assert sight.tokens == sight.width * sight.height // rule.factor**2
    if rule.least <= sight.width * sight.height and width * height >= 4 * rule.least:
        assert sight.width <= width + rule.factor / 2
        assert sight.height <= height + rule.factor / 2
    if min(width, height) * 8 >= max(width, height):  # else a side of one unit may be too much
        assert sight.width * sight.height <= rule.most


@given(SIDES, SIDES)
def test_a_grid_is_whole_tiles_and_no_more_than_allowed(width: int, height: int) -> None:
    sight = Grid(448, 12, 256).see(width, height)
    assert sight.width and sight.height and sight.tokens
    tiles = (sight.width // 448) * (sight.height // 448)
    assert sight.width % 448 == sight.height % 448 == 0
    assert 1 <= tiles <= 12
    assert sight.tokens == 256 * (tiles + (tiles > 1))


# --------------------------------------------------------------------------- look-up


@pytest.mark.parametrize(
    "model", ["openai/gpt-7", "acme/eye", "server/my-model", "anthropic/claude-next", "hf/local"]
)
def test_what_is_not_documented_is_unknown(model: str) -> None:
    limits = Book.open().of(model)
    assert limits.see(2048, 2048) == (None, None, None)
    assert limits.context is None


def test_a_level_left_to_the_provider_is_known_where_all_agree() -> None:
    limits = Book.open().of("openai/gpt-5.4")
    assert limits.see(1024, 1024).width == 1024  # high and original alike
    assert limits.see(2048, 2048).width is None  # 1600 or 2048
    assert limits.see(2048, 2048, "low").width == 512


def test_a_server_of_ones_own_is_not_openai() -> None:
    model = "openai/gpt-4o"
    assert key_of(model, {"base_url": "https://api.openai.com/v1"}) == model
    assert key_of(model, {"base_url": "http://127.0.0.1:8000/v1"}) == "server/gpt-4o"
    assert key_of("openai/gpt-4o?seed=1") == model
    assert Book.open().of("server/gpt-4o").images is None


def test_the_most_specific_entry_wins_whatever_the_order(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[models]]\nmatch = ["acme/eye-2*"]\nimages = 2\n'
        '[[models]]\nmatch = ["acme/*"]\nimages = 9\ncontext = 1000\n'
    )
    limits = Book.open(own).of("acme/Eye-2-mini")
    assert (limits.images, limits.context) == (2, 1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[models]", "own.toml"),
        ('[[models]]\nmatch = "openai/*"', "match"),
        ('[[models]]\nmatch = ["a/*"]\nimages = "many"', "images"),
        ('[[models]]\nmatch = ["a/*"]\nimagse = 1', "imagse"),
        ('[[models]]\nmatch = ["a/*"]\nsource = "hearsay"', "hearsay"),
        ('[[models]]\nmatch = ["a/*"]\nauto = "high"', "auto"),
        ('[[models]]\nmatch = ["a/*"]\nimage = {rule = "magic"}', "magic"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UserError, match=r"docs/limits\.md") as error:
        Book.open(tmp_path / "own.toml")
    assert said in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        Book.open(tmp_path / "none.toml")


# --------------------------------------------------------------------------- what is refused


def needs(images: int, grid: int, *, cell: int = 256, size: int = 1000, text: str = "?") -> Needs:
    return Needs(Setting(images, grid, grid), cell * grid, cell * grid, text, size)


@pytest.mark.parametrize(
    ("model", "asked", "said"),
    [
        ("anthropic/claude-sonnet-4-5", needs(101, 1), "101 images a request, and it takes at mos"),
        ("anthropic/claude-opus-4-8", needs(101, 1), ""),
        ("anthropic/claude-opus-4-8", needs(1, 8, cell=1001), "at most 8000 px a side"),
        ("anthropic/claude-opus-4-8", needs(20, 8), ""),
        ("anthropic/claude-opus-4-8", needs(21, 8), "2000 px a side in a request with more than 2"),
        ("anthropic/claude-opus-4-8", needs(10, 8, size=24_000_000), "32.0 MB"),
        ("google/gemini-2.5-pro", needs(10, 8, size=16_000_000), "21.3 MB"),
        ("google/gemini-2.5-pro", needs(3601, 1), "at most 3600"),
        ("openai/gpt-4o", needs(1501, 1), "at most 1500"),
        ("openai/gpt-4o", needs(170, 8), "tokens a request, and its context has 128,000"),
        ("openai/gpt-5.6-sol", needs(1, 8, cell=800), "40,000 patches"),
        ("openai/gpt-6-luna", needs(100, 8), ""),
        ("acme/eye", needs(10_000, 8), ""),
    ],
)
def test_hard_limits(model: str, asked: Needs, said: str) -> None:
    limits = Book.open().of(model)
    sight = limits.see(asked.width, asked.height)
    found = violations(limits, asked, sight, 300, None)
    assert said in found if said else found == ""


def test_text_tokens() -> None:
    assert text_tokens(Book.open().of("openai/gpt-4o"), 400) == 100
    assert text_tokens(Book.open().of("acme/eye"), 400) is None
