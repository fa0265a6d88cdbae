"""`mmneedle run` against each provider's protocol: a server that looks at pixels gets all right."""

import json
from pathlib import Path

import pytest
from api_server import KEY, ApiServer, Protocol
from needs import coco_mini
from protocols import Anthropic, Azure, Google, OpenAIChat, OpenAIResponses
from seer import Seer
from test_cli import Shell

from mmneedle.data.coco import find_coco
from mmneedle.stitching.dataset import build
from mmneedle.stitching.samples import Rules
from mmneedle.types import Setting

PROVIDERS: list[tuple[str, Protocol, str]] = [
    ("openai/seer?api=responses", OpenAIResponses(), "OPENAI_API_KEY"),
    ("openai/seer", OpenAIChat(), "OPENAI_API_KEY"),
    ("azure/seer", Azure("seer"), "AZURE_OPENAI_API_KEY"),
    ("azure/seer?api_version=2024-10-21", Azure("seer", "2024-10-21"), "AZURE_OPENAI_API_KEY"),
    ("anthropic/seer", Anthropic(), "ANTHROPIC_API_KEY"),
    ("anthropic/seer?stream=no", Anthropic(), "ANTHROPIC_API_KEY"),
    ("google/seer", Google(), "GEMINI_API_KEY"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seer]:
    """A data set of real photos, and the model that knows them."""
    source = find_coco(coco_mini(), None)
    folder = tmp_path_factory.mktemp("photos") / "set"
    build(
        folder, source, dict.fromkeys([Setting(1, 2, 2), Setting(3, 2, 3), Setting(2, 2, 2, 2)], 6)
    )
    return folder, Seer(source)


@pytest.mark.parametrize(("model", "protocol", "variable"), PROVIDERS)
def test_all_right_through_the_providers_own_sdk(
    photos: tuple[Path, Seer],
    model: str,
    protocol: Protocol,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, KEY)
    mmneedle = Shell(capsys, monkeypatch)
    folder, seer = photos
    log = tmp_path / "run"
    with ApiServer(protocol, seer) as server:
        where = ("--base-url", server.url, "--log", log, "--quiet")
        said = mmneedle.ok("run", folder, "--model", model, *where)
    assert said.startswith("18 of 18 samples answered, 18 requests")
    assert not server.wrongs
    assert {ask.order for ask in server.asks} == {"it", "iit", "iiit"}
    rows = json.loads(mmneedle.ok("score", log, "--json"))
    assert {row["existence"] for row in rows} == {1.0}
    assert {row["exact"] for row in rows if row["split"] == "positive"} == {1.0}
    kept = (log / "responses.jsonl").read_text()
    assert kept.count('"cached_tokens":64') == 18
    assert KEY not in kept + (log / "run.json").read_text()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seer]:
    """The same with four questions a haystack."""
    source = find_coco(coco_mini(), None)
    folder = tmp_path_factory.mktemp("shared") / "set"
    build(folder, source, {Setting(3, 2, 2): 12}, Rules(questions=4))
    return folder, Seer(source)


@pytest.mark.parametrize(("model", "protocol", "variable"), PROVIDERS[:1] + PROVIDERS[4:])
def test_shared_haystacks_are_marked_for_the_cache_and_still_all_right(
    shared: tuple[Path, Seer],
    model: str,
    protocol: Protocol,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same images before every mark, and a mark in every request."""
    monkeypatch.setenv(variable, KEY)
    mmneedle = Shell(capsys, monkeypatch)
    folder, seer = shared
    log = tmp_path / "run"
    with ApiServer(protocol, seer) as server:
        where = ("--base-url", server.url, "--log", log, "--quiet")
        mmneedle.ok("run", folder, "--model", model, *where)
    assert not server.wrongs
    prefixes = {b"".join(ask.images) for ask in server.asks}
    assert (len(server.asks), len(prefixes)) == (12, 3)
    if isinstance(protocol, Anthropic):
        marked = [
            ["cache_control" in block for block in ask.body["messages"][0]["content"]]
            for ask in server.asks
        ]
        assert marked == [[False, False, True, False]] * 12
    rows = json.loads(mmneedle.ok("score", log, "--json"))
    assert {row["existence"] for row in rows} == {1.0}
    assert {row["exact"] for row in rows if row["split"] == "positive"} == {1.0}
