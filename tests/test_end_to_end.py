"""From photos to a leaderboard row, through a server that looks at the pixels it was sent."""

import hashlib
import json
import time
from pathlib import Path

import pytest
from chat_server import Ask, ChatServer, Reply
from needs import coco_mini
from seer import Seer

from mmneedle.adapters.openai import OpenAIAdapter
from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import evaluate
from mmneedle.reports.html import render_report
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.runlog import open_runs
from mmneedle.scoring import Row, score_run
from mmneedle.stitching.dataset import build
from mmneedle.stitching.samples import Rules
from mmneedle.types import Setting, Source


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def run(folder: Path, source: Source, settings: list[Setting], samples: int) -> list[Row]:
    """Build, run, score. The data set has random captions and hard negatives."""
    rules = Rules(captions="random", hard_negatives=0.5)
    build(folder / "set", source, dict.fromkeys(settings, samples), rules)
    with ChatServer(Seer(source)) as server:
        summary = evaluate(
            folder / "set",
            "openai/seer",
            folder / "run",
            adapter_options={"base_url": server.url},
            quiet=True,
        )
    assert (summary.answered, summary.missing) == (samples * len(settings), 0)
    assert sum(server.asked.values()) == summary.asked
    return score_run(open_runs([folder / "run"])[0])


def all_right(rows: list[Row]) -> bool:
    return all(
        (row.existence, row.index, row.exact)
        == ((1, 1, 1) if row.split == "positive" else (1, None, None))
        for row in rows
    )


def test_real_photos_one_and_several_needles(tmp_path: Path) -> None:
    settings = [
        Setting(1, 2, 2),
        Setting(3, 4, 3),
        Setting(1, 8, 8),
        Setting(10, 2, 2),
        Setting(10, 1, 1, 2),
        Setting(2, 3, 3, 5),
    ]
    rows = run(tmp_path, find_coco(coco_mini(), None), settings, 12)
    assert len(rows) == len(settings) * 2 * 2
    assert all_right(rows)
    board = json.loads(leaderboard(open_runs([tmp_path / "run"])).render("json"))
    assert "openai/seer" in json.dumps(board)


def test_drawn_scenes(tmp_path: Path) -> None:
    """Scenes with like words may look alike, so only where the seer looks is asked for here."""
    rows = run(tmp_path, ShapesSource(60), [Setting(1, 2, 2), Setting(4, 3, 2)], 20)
    positives = [row for row in rows if row.split == "positive"]
    assert all(row.exact is not None and row.exact > 0.9 for row in positives)


def test_images_in_another_order_move_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: with the images swapped the seer names the swapped cell."""
    from mmneedle.stitching.dataset import DataSet

    straight = DataSet.images
    monkeypatch.setattr(DataSet, "images", lambda self, sample: straight(self, sample)[::-1])
    rows = run(tmp_path, find_coco(coco_mini(), None), [Setting(3, 2, 2)], 30)
    (row,) = (row for row in rows if row.split == "positive" and row.scorer == "paper")
    assert row.existence == 1
    assert row.kinds["wrong_image"] == 10  # the needle is in the middle image a third of the time
    assert row.index == row.exact == 5 / 15


class CachingSeer(Seer):
    """A provider with a cache: what was read is there once its first answer has gone out."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.ready: dict[bytes, float] = {}

    def __call__(self, ask: Ask) -> Reply:
        reply = super().__call__(ask)
        reply.delay = 0.02
        images = hashlib.sha256(b"".join(ask.images)).digest()
        arrived = time.monotonic()
        known = self.ready.setdefault(images, arrived + reply.delay) <= arrived
        reply.body["usage"]["prompt_tokens_details"]["cached_tokens"] = 90 if known else 0
        return reply


def test_questions_that_share_a_haystack_are_read_from_the_cache(tmp_path: Path) -> None:
    source, settings = ShapesSource(60), [Setting(2, 2, 2), Setting(1, 3, 3)]
    rules = Rules(questions=4, hard_negatives=0.5)
    dataset = build(tmp_path / "set", source, dict.fromkeys(settings, 48), rules)
    with ChatServer(CachingSeer(source)) as server:
        summary = evaluate(
            tmp_path / "set",
            "openai/seer",
            tmp_path / "run",
            adapter_options={"base_url": server.url},
            max_connections=6,
            quiet=True,
        )
    assert (summary.answered, sum(server.asked.values())) == (96, 96)
    # Of four questions about a haystack the first one pays: 3/4 of the prompts are 90 % cached.
    assert "9,600 input tokens (68 % from cache)" in str(summary)
    (run,) = runs = open_runs([tmp_path / "run"])
    assert run.header.questions == 4
    rows = score_run(run)
    assert {row.clusters for row in rows} == {12}
    spent = [row.spent for row in rows if row.scorer == "robust"]
    assert sum(one["cached_tokens"] or 0 for one in spent) == 96 * 3 // 4 * 90
    assert all((row.exact or 1) > 0.9 for row in rows)
    board = leaderboard(runs)
    assert {entry["clusters"] for entry in json.loads(board.render("json"))} == {12}
    text = board.render("md")
    assert "Questions share haystacks: the answers of a row and setting stand on 12 of them" in text
    page = render_report(runs)
    assert "4 questions ask about each" in page
    assert "95 % cluster bootstrap intervals" in page
    assert "68 % from cache" in page
    assert dataset.sample(f"{settings[0].name}-000047").haystack_number == 11


def test_without_an_order_there_is_little_in_the_cache(tmp_path: Path) -> None:
    """The test above can fail: asked all at once, most questions come before the entry."""
    source = ShapesSource(60)
    build(tmp_path / "set", source, {Setting(2, 2, 2): 48}, Rules(questions=4))
    with ChatServer(CachingSeer(source)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenAIAdapter, "shares_prefixes", True, raising=False)
        evaluate(
            tmp_path / "set",
            "openai/seer",
            tmp_path / "run",
            adapter_options={"base_url": server.url},
            max_connections=48,
            quiet=True,
        )
    (row, _) = score_run(open_runs([tmp_path / "run"])[0], ["robust"])
    assert (row.spent["cached_share"] or 0) < 0.5
