"""Preflight, --resize and --max-cost as a user meets them: a real data set, a real server."""

import hashlib
import io
import json
import random
from pathlib import Path

import msgspec
import pytest
from chat_server import Ask, ChatServer, Reply, completion, failure
from PIL import Image, ImageStat
from shell import Shell, build

from mmneedle.costs import Prices
from mmneedle.errors import UserError
from mmneedle.ledger import Ledger
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.resize import Resizer
from mmneedle.types import Needs, Response, Setting, Usage

PRICES = "input = 10\noutput = 100\ncached = 1\n"
LIMITS = """
[sources.me]
title = "Measured by hand"
read = 2026-11-25
[[models]]
match = ["server/eye"]
source = "me"
image = {rule = "tiles", fit = 96, tile = 32, base = 20, each = 10}
"""


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def charged(tokens: int, output: int, cached: int = 0, delay: float = 0.0) -> Reply:
    """An answer with this usage."""
    reply = completion("-1")
    reply.body["usage"] = {
        "prompt_tokens": tokens,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    reply.delay = delay
    return reply


def dollars(reply: Reply) -> float:
    usage = reply.body["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    plain = usage["prompt_tokens"] - cached
    return (plain * 10 + cached * 1 + usage["completion_tokens"] * 100) / 1e6


class Till:
    """A server's script that charges for every answer, and adds up."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.taken = 0.0
        self.count = 0

    def __call__(self, ask: Ask) -> Reply:
        if self.random.random() < 0.1:
            return failure(503, "busy", retry_after="0.01")
        tokens = 500 + len(ask.prompt) // 4
        reply = charged(
            tokens,
            self.random.randrange(1, 300),
            self.random.randrange(tokens),
            self.random.random() / 50,
        )
        self.taken += dollars(reply)
        self.count += 1
        return reply


def run(shell: Shell, url: str, *words: object) -> tuple[int, str]:
    done = shell("run", "set", "--model", "openai/eye", "--base-url", url, "--log", "a",
                 "--quiet", *words)  # fmt: skip
    return done.status, done.out + done.err


# --------------------------------------------------------------------------- money


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_is_never_passed_with_16_connections(
    mmneedle: Shell, tmp_path: Path, seed: int
) -> None:
    build(mmneedle, "set", "--samples", 60)
    (tmp_path / "p.toml").write_text(PRICES)
    till = Till(seed)
    with ChatServer(till) as server:
        for limit in (0.3, 1.0):
            status, text = run(mmneedle, server.url, "--prices", "p.toml", "--max-cost", limit)
            assert status == 1
            assert f"stopped before --max-cost {limit:g}" in text
            assert till.taken <= limit
            # It does not stop early either: less remains than one request may cost.
            assert limit - till.taken <= 0.045
            assert f"{till.count} of 120 samples answered" in text
        assert server.most_at_once > 4
        status, text = run(mmneedle, server.url, "--prices", "p.toml", "--max-cost", 50)
    assert status == 0
    assert "120 of 120 samples answered" in text
    assert f"{till.taken:.2f} USD" in text
    assert till.count == 120


def test_requests_that_end_at_a_gateway_count_at_their_most(
    mmneedle: Shell, tmp_path: Path
) -> None:
    """The model was paid for each of them, though a 502 or nothing at all came back."""
    build(mmneedle, "set", "--samples", 20)
    (tmp_path / "p.toml").write_text(PRICES)
    taken = 0.0

    def script(ask: Ask) -> Reply:
        nonlocal taken
        reply = charged(700, 20)
        taken += dollars(reply)
        if sum(ask.prompt.encode()) % 4:
            return reply
        return failure(502, "bad gateway") if ask.nth % 2 else Reply(body={}, drop=0)

    with ChatServer(script) as server:
        status, text = run(mmneedle, server.url, "--prices", "p.toml", "--max-cost", 0.4,
                           "--max-tokens", 30, "--attempts", 2)  # fmt: skip
        assert any(server.asked[prompt] > 1 for prompt in server.asked)
    assert status == 1
    assert taken <= 0.4
    assert "for requests that nobody counted" in text
    assert "failed attempts may have been charged too" in text
    assert "attempts" in text


def test_without_a_price_max_cost_is_refused(mmneedle: Shell) -> None:
    build(mmneedle)
    with ChatServer() as server:
        said = mmneedle.refused("run", "set", "--model", "openai/eye", "--base-url", server.url,
                                "--log", "a", "--max-cost", "1")  # fmt: skip
        assert not server.asks
    assert "the price of server/eye is not known" in said
    assert "--prices FILE" in said
    assert not Path("a").exists()


def test_what_was_spent_is_told_and_kept(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    (tmp_path / "p.toml").write_text(PRICES)
    with ChatServer(lambda ask: charged(1000, 10, 400)) as server:
        status, text = run(mmneedle, server.url, "--prices", "p.toml")
    assert status == 0
    assert (
        "16,000 input tokens (40 % from cache), 160 output tokens, 0.1184 USD "
        "(the cache saved 0.0576 USD) so far"
    ) in text
    assert Run.open("a").header.prices == Prices(10, 100, cached=1, source="p.toml")
    rows = json.loads(mmneedle.ok("leaderboard", "a", "--format", "json"))
    rows = [row for row in rows if row["scorer"] == "robust"]
    assert len(rows) == 4
    for row in rows:  # four samples each
        assert (row["input_tokens"], row["output_tokens"]) == (4000, 40)
        assert (row["cached_tokens"], row["cached_share"]) == (1600, 0.4)
        assert row["usd"] == pytest.approx(0.0296)
        assert row["saved_usd"] == pytest.approx(0.0144)
    mmneedle.ok("report", "a")
    page = Path("report.html").read_text()
    assert "0.1184 USD" in page
    assert "p.toml" in page


def test_a_run_without_prices_still_counts_tokens(mmneedle: Shell) -> None:
    build(mmneedle)
    with ChatServer() as server:
        _, text = run(mmneedle, server.url)
    assert "1,600 input tokens (64 % from cache), 80 output tokens so far" in text
    assert "USD" not in text
    row = json.loads(mmneedle.ok("leaderboard", "a", "--format", "json"))[0]
    assert (row["input_tokens"], row["usd"], row["saved_usd"]) == (400, None, None)


ONE = Setting(1, 2, 2)


def ledger(**options: object) -> Ledger:
    needs = [Needs(ONE, 512, 512, "x" * 36, 1000)]
    return Ledger(Prices(1e6, 1e6), 1e9, needs=needs, output_tokens=7, **options)  # type: ignore[arg-type]


def test_the_most_that_a_request_can_cost() -> None:
    assert ledger().most(ONE) == 100 + 7  # a byte of text a token, and its frame
    assert ledger(image_tokens={ONE: 1000}).most(ONE) == 1000 + 100 + 7
    charged = ledger(image_tokens={ONE: 1000})
    charged.add(ONE, Response("ok", "-1", usage=Usage(5000, 1)))
    assert charged.most(ONE) == 5000 + 100 + 7
    assert charged.spending.usd == 5001


def test_what_may_have_been_charged_is_held() -> None:
    some = ledger()
    for status in ("timeout", "ok", "rate_limited", "server_error", "image_rejected"):
        some.add(ONE, Response(status))
    for status in ("timeout", "server_error"):  # turned away: not begun
        some.add(ONE, Response(status, uncharged=True))
    assert some.uncertain == 3 * 107
    assert some.committed == 3 * 107
    assert some.spending.unsure == 2
    assert "2 failed attempts may have been charged too" in str(some.spending)


def test_how_many_fit() -> None:
    small = Ledger(Prices(1e6, 1e6), 1000, needs=[Needs(ONE, 1, 1, "x" * 36, 1)], output_tokens=0)
    assert small.fitting([ONE] * 20) == 10
    assert Ledger().fitting([ONE] * 20) == 20
    with pytest.raises(UserError, match="--prices"):
        Ledger(None, 1.0)


# --------------------------------------------------------------------------- preflight


def test_shrinking_is_told_before_and_kept(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    (tmp_path / "own.toml").write_text(LIMITS)
    words = ("run", "set", "--model", "openai/eye", "--log", "a", "--limits", "own.toml")
    with ChatServer() as server:
        done = mmneedle(*words, "--base-url", server.url)
    (line,) = [line for line in done.err.splitlines() if "shrunk" in line]
    assert line == (
        "mmneedle: openai/eye: images are shrunk before the model sees them: of cells of 64 px "
        "there are left 48 at (1,2), 32 at (2,2x3) (Measured by hand (read 2026-11-25))"
    )
    header = Run.open("a").header
    assert header.cell == (64, 64)
    assert header.effective_cell == {"n1-g2x2-k1": (48, 48), "n2-g2x3-k1": (32, 32)}
    for row in json.loads(mmneedle.ok("score", "a", "--json")):
        assert row["effective_cell"] == {2: "48", 3: "32"}[row["cols"]]
    for row in json.loads(mmneedle.ok("leaderboard", "a", "--format", "json")):
        assert row["effective_cell"] == {2: "48", 3: "32"}[row["cols"]]
    assert "48 px" in mmneedle.ok("leaderboard", "a")
    assert " 48" in mmneedle.ok("score", "a")


def test_what_is_not_documented_is_shown_as_unknown(mmneedle: Shell) -> None:
    build(mmneedle)
    with ChatServer() as server:
        _, text = run(mmneedle, server.url)
    assert "shrunk" not in text
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "b")
    assert Run.open("a").header.effective_cell == {"n1-g2x2-k1": None, "n2-g2x3-k1": None}
    assert Run.open("b").header.effective_cell == {}
    assert "unknown" in mmneedle.ok("score", "a")
    assert "unknown" not in mmneedle.ok("score", "b")
    assert "px" in mmneedle.ok("leaderboard", "a")
    rows = json.loads(mmneedle.ok("leaderboard", "a", "b", "--format", "json"))
    assert {(row["model"], row["effective_cell"]) for row in rows} == {
        ("openai/eye", "unknown"),
        ("baseline/oracle", None),
    }
    mmneedle.ok("report", "a", "b")
    assert "unknown" in Path("report.html").read_text()


def test_a_documented_limit_is_an_error_with_the_way_out(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    (tmp_path / "own.toml").write_text(LIMITS + "images = 1\n")
    words = ("run", "set", "--model", "openai/eye", "--log", "a", "--limits", "own.toml")
    with ChatServer() as server:
        said = mmneedle.refused(*words, "--base-url", server.url)
        assert "n2-g2x3-k1 has 2 images a request, and it takes at most 1" in said
        for way in ("--settings", "fewer images", "smaller cells", "--resize", "--force"):
            assert way in said
        assert not server.asks
        assert not Path("a").exists()
        mmneedle.ok(*words, "--base-url", server.url, "--settings", "1x2")
        mmneedle.ok(*words, "--base-url", server.url, "--force")
        assert len(server.asks) == 16


# --------------------------------------------------------------------------- resize


def test_resized_cells_are_sent_shown_and_hashed(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    (tmp_path / "own.toml").write_text(LIMITS)
    with ChatServer() as server:
        _, text = run(mmneedle, server.url, "--resize", "24", "--limits", "own.toml")
        sent = {tuple(ask.images): ask.prompt for ask in server.asks}
    assert "shrunk" not in text  # 24 px cells fit
    name = "n2-g2x3-k1-000004"
    mmneedle.ok("show", "set", name, "--resize", "24", "--out", "sample")
    folder = tmp_path / "sample"
    images = tuple((folder / f"image_{i}.jpg").read_bytes() for i in (1, 2))
    prompt = (folder / "prompt.txt").read_text()
    assert sent[images] == prompt
    digest = hashlib.sha256(prompt.encode() + b"".join(images)).hexdigest()
    run_a = Run.open("a")
    assert {r.request_sha256 for r in run_a.records() if r.sample == name} == {digest}
    assert run_a.header.resize == run_a.header.cell == (24, 24)
    assert set(run_a.header.effective_cell.values()) == {(24, 24)}
    with Image.open(io.BytesIO(images[0])) as image:
        assert image.size == (3 * 24, 2 * 24)
        assert image.layer[1][1:3] == (1, 1)  # 4:4:4: colour is sampled as finely as light
    with ChatServer() as server:  # another size is another run
        assert "run: --resize 24, now not resized;" in mmneedle.refused(
            "run", "set", "--model", "openai/eye", "--base-url", server.url, "--log", "a"
        )


def test_resizing_keeps_the_picture_and_repeats_itself(mmneedle: Shell) -> None:
    build(mmneedle)
    dataset = DataSet.open("set")
    sample = dataset.sample("n1-g2x2-k1-000000")
    (small,) = Resizer(dataset, (16, 16)).images(sample)
    assert (small,) == Resizer(dataset, (16, 16)).images(sample)
    (large,) = dataset.images(sample)
    with Image.open(io.BytesIO(small)) as one, Image.open(io.BytesIO(large)) as other:
        for left, top in ((0, 0), (1, 0), (0, 1), (1, 1)):
            near = one.crop((16 * left, 16 * top, 16 * left + 16, 16 * top + 16))
            far = other.crop((64 * left, 64 * top, 64 * left + 64, 64 * top + 64))
            for a, b in zip(ImageStat.Stat(near).mean, ImageStat.Stat(far).mean, strict=True):
                assert abs(a - b) < 4


def test_a_shared_haystack_is_resized_once(
    mmneedle: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(mmneedle)
    dataset = DataSet.open("set")
    sample = msgspec.structs.replace(dataset.sample("n1-g2x2-k1-000000"), haystack_number=3)
    joined: list[str] = []
    real = dataset.images

    def images(one: object) -> tuple[bytes, ...]:
        joined.append("once more")
        return real(one)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "images", images)
    resizer = Resizer(dataset, (16, 16))
    assert resizer.images(sample) == resizer.images(sample)
    assert len(joined) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resize", "64"], "only makes them smaller"),
        (["--resize", "300"], "only makes them smaller"),
        (["--resize", "0"], "--resize takes"),
        (["--resize", "small"], "--resize takes"),
        (["--resize", "24x12"], "take --resize 24x24"),
        (["--limits", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--prices", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--max-cost", "-1"], "--max-cost"),
    ],
)
def test_wrong_use_is_one_line(mmneedle: Shell, words: list[str], said: str) -> None:
    build(mmneedle)
    base = ("run", "set", "--model", "openai/eye", "--base-url", "http://127.0.0.1:9/v1")
    assert said in mmneedle.refused(*base, "--log", "a", *words)
    assert not Path("a").exists()


def test_resize_without_a_folder_to_show_it_in(mmneedle: Shell) -> None:
    build(mmneedle)
    assert "--out" in mmneedle.refused("show", "set", "n1-g2x2-k1-000000", "--resize", "24")


def test_wide_cells_keep_their_shape(mmneedle: Shell) -> None:
    mmneedle.ok("build", "wide", "--source", "shapes", "--scenes", 40, "--cell", "96x48",
                "--settings", "1x2", "--samples", 4, "--quiet")  # fmt: skip
    said = mmneedle.refused("show", "wide", "n1-g2x2-k1-000000", "--resize", "32", "--out", "x")
    assert "take --resize 32x16" in said
    mmneedle.ok("show", "wide", "n1-g2x2-k1-000000", "--resize", "32x16", "--out", "x")
    assert Image.open("x/image_1.jpg").size == (64, 32)
