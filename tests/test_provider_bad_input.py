"""What users and servers get wrong, as `mmneedle run` tells it: one line and a status each."""

import json
from pathlib import Path

import pytest
from api_server import KEY, ApiServer, Ask, Protocol
from chat_server import Reply
from protocols import Anthropic, Azure, Google, OpenAIChat
from test_cli import Shell

from mmneedle.data.shapes import ShapesSource
from mmneedle.stitching.dataset import build
from mmneedle.types import Setting

SERVERS: dict[str, Protocol] = {
    "openai": OpenAIChat(),
    "azure": Azure("m"),
    "anthropic": Anthropic(),
    "google": Google(),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    build(folder, ShapesSource(30), {Setting(1, 1, 2): 4, Setting(3, 1, 2): 4})
    return folder


@pytest.fixture
def mmneedle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI", "AZURE_OPENAI", "ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_VERSION", "GEMINI_API_KEY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Shell(capsys, monkeypatch)


def statuses(log: str) -> dict[str, str]:
    """The last status of each sample that is on disk."""
    lines = Path(log, "responses.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {record["sample"]: record["response"]["status"] for record in records}


def test_an_unknown_provider(mmneedle: Shell, data: Path) -> None:
    line = mmneedle.refused("run", data, "--model", "gemini/m")
    assert "no model 'gemini/m' (did you mean google/m?); known are anthropic/NAME, " in line
    assert "azure/NAME, baseline/NAME, google/NAME, hf/NAME, onnx/NAME, openai/NAME" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("provider", SERVERS)
def test_no_key(
    provider: str, mmneedle: Shell, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{'AZURE_OPENAI' if provider == 'azure' else provider.upper()}_API_KEY"
    monkeypatch.delenv(variable)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    line = mmneedle.refused("run", data, "--model", f"{provider}/m")
    assert f"{provider}/m needs a key: set {variable}, or --base-url" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("provider", SERVERS)
@pytest.mark.parametrize(("code", "words"), [(401, "invalid key"), (404, "no model m")])
def test_a_key_that_ends_or_a_model_that_goes_loses_nothing(
    provider: str, code: int, words: str, mmneedle: Shell, data: Path
) -> None:
    """The first five requests go well; later the same command asks only what is missing."""

    def script(ask: Ask) -> Reply:
        return ask.answer() if len(server.asks) <= 5 else ask.failure(code, words)

    run = ("run", data, "--model", f"{provider}/m", "--log", "run", "--max-connections", 1)
    with ApiServer(SERVERS[provider], script) as server:
        line = mmneedle.refused(*run, "--base-url", server.url, "--quiet")
    assert line.startswith(f"mmneedle: {provider}/m: Error code: {code} - ")
    assert words in line
    assert list(statuses("run").values()) == ["ok"] * 5
    with ApiServer(SERVERS[provider]) as server:
        said = mmneedle.ok(*run, "--base-url", server.url, "--quiet")
    assert said.startswith("8 of 8 samples answered, 3 requests")


@pytest.mark.parametrize("provider", SERVERS)
def test_a_text_only_server(provider: str, mmneedle: Shell, data: Path) -> None:
    words = "This model does not support image inputs"
    run = ("run", data, "--model", f"{provider}/m", "--log", "run")
    with ApiServer(SERVERS[provider], lambda ask: ask.failure(400, words)) as server:
        done = mmneedle(*run, "--base-url", server.url)
    assert done.status == 1
    assert done.out.startswith("0 of 8 samples answered (8 image_rejected), 8 requests in ")
    assert words in done.out
    assert "; rejected requests are asked again with --retry-failed\n" in done.out
    told = [line for line in done.err.splitlines() if words in line]
    assert len(told) == 1  # the first of them, at once
    assert told[0].startswith(f"{provider}/m: image_rejected: ")
    assert set(statuses("run").values()) == {"image_rejected"}
    with ApiServer(SERVERS[provider]) as server:
        said = mmneedle.ok(*run, "--base-url", server.url, "--quiet", "--retry-failed")
    assert said.startswith("8 of 8 samples answered, 8 requests")


@pytest.mark.parametrize("provider", SERVERS)
def test_a_model_that_takes_fewer_images(provider: str, mmneedle: Shell, data: Path) -> None:
    def script(ask: Ask) -> Reply:
        if len(ask.images) > 2:
            return ask.failure(400, "At most 2 image(s) may be provided in one prompt.")
        return ask.answer()

    with ApiServer(SERVERS[provider], script) as server:
        run = ("run", data, "--model", f"{provider}/m", "--log", "run")
        done = mmneedle(*run, "--base-url", server.url, "--quiet")
    assert done.status == 1
    assert done.out.startswith("4 of 8 samples answered (4 image_rejected), 8 requests in ")
    assert "At most 2 image(s)" in done.out
    rows = json.loads(mmneedle.ok("score", "run", "--json"))
    seen = {row["images"]: row["statuses"] for row in rows}
    assert seen == {1: {"ok": 2}, 3: {"image_rejected": 2}}


@pytest.mark.parametrize("provider", SERVERS)
def test_cut_off_while_thinking(provider: str, mmneedle: Shell, data: Path) -> None:
    stops = {"anthropic": {"stop": "max_tokens"}, "google": {"stop": "MAX_TOKENS"}}
    more = stops.get(provider, {"finish": "length"})
    run = ("run", data, "--model", f"{provider}/m", "--log", "run", "--reasoning", "low")
    with ApiServer(SERVERS[provider], lambda ask: ask.answer(None, **more)) as server:
        said = mmneedle.ok(*run, "--base-url", server.url, "--quiet", "--max-tokens", 5000)
    assert said.startswith("8 of 8 samples answered (8 truncated), 8 requests in ")
    assert "cut-off answers count as wrong: raise --max-tokens and name another --log" in said


def test_options_that_a_provider_cannot_honour(mmneedle: Shell, data: Path) -> None:
    cases = {
        "anthropic/m --detail low": "anthropic/m: Anthropic has no image detail; leave out",
        "anthropic/m --logprobs": "anthropic/m: Anthropic gives no log-probabilities; leave out",
        "google/m --logprobs": "google/m: log-probabilities are not asked of Google; leave out",
        "openai/m --detail medium": "openai/m: detail is 'medium', not one of auto, low, high, or",
        "openai/m --reasoning 500": "openai/m: reasoning is '500', not one of minimal, low, medium",
        "openai/m --engine-arg a=1": "openai/m: --engine-arg is for engines on this machine",
        "baseline/oracle --reasoning low": "baseline/oracle has no option 'reasoning'",
    }
    for words, message in cases.items():
        model, *options = words.split()
        assert message in mmneedle.refused("run", data, "--model", model, *options)
    assert not Path("runs").exists()
