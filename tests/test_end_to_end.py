"""From photos to a leaderboard row, through a server that looks at the pixels it was sent."""

import json
from pathlib import Path

import pytest
from chat_server import ChatServer
from needs import coco_mini
from seer import Seer

from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import evaluate
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
