"""`mmneedle run --batch` as a user types it: real photos, each provider's protocol, and money."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import KEY, ApiServer, Ask
from batch_server import SERVERS, BatchServer, OpenAIBatchServer
from chat_server import Reply
from needs import coco_mini
from seer import Seer
from shell import Shell, build

from mmneedle import batching
from mmneedle.batching.log import open_batches
from mmneedle.data.coco import find_coco
from mmneedle.pacing import Backoff
from mmneedle.stitching.dataset import build as build_dataset
from mmneedle.types import Setting


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that follow each other at once; everything else is as a user gets it."""
    defaults = batching.BatchEvaluation.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "poll", (0.01, 0.02))
    monkeypatch.setitem(defaults, "settle", 0.0)
    monkeypatch.setitem(defaults, "backoff", Backoff(0.005, 0.01))
    for kind in SERVERS:
        monkeypatch.setenv(kind.variable, KEY)


@pytest.fixture
def mmneedle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seer]:
    """A data set of real photos, and the model that knows them."""
    source = find_coco(coco_mini(), None)
    folder = tmp_path_factory.mktemp("photos") / "set"
    settings = [Setting(1, 2, 2), Setting(3, 2, 3), Setting(2, 2, 2, 2)]
    build_dataset(folder, source, dict.fromkeys(settings, 6))
    return folder, Seer(source, mistakes=0.5)


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with OpenAIBatchServer() as server:
        yield server
        assert not server.wrongs


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.provider)
def test_scores_are_those_of_a_direct_run(
    kind: type[BatchServer], photos: tuple[Path, Seer], mmneedle: Shell
) -> None:
    folder, seer = photos
    model = f"{kind.provider}/seer"
    with ApiServer(kind.protocol if hasattr(kind, "protocol") else kind().protocol, seer) as direct:
        mmneedle.ok("run", folder, "--model", model, "--log", "direct", "--base-url", direct.url)
    with kind(seer) as server:
        server.looks = 2
        done = mmneedle(
            "run", folder, "--model", model, "--log", "batch", "--base-url", server.url, "--batch"
        )
    assert done.status == 0
    assert done.out.startswith("18 of 18 samples answered, 18 requests")
    assert f"{model}: 18 submitted, finished: 18 of 18\n" in done.err
    assert not server.wrongs
    one, other = (json.loads(mmneedle.ok("score", log, "--json")) for log in ("direct", "batch"))
    for row in (*one, *other):
        row.pop("run", None)
    assert one == other
    assert any(row["exact"] not in (None, 1.0) for row in one)
    assert KEY not in "".join(path.read_text() for path in Path("batch").glob("*.json*"))


def test_submit_leave_and_come_back(server: BatchServer, mmneedle: Shell) -> None:
    build(mmneedle)
    command = ("run", "set", "--model", "openai/m", "--log", "r", "--base-url", server.url)
    server.held = True
    done = mmneedle(*command, "--batch", "--no-batch-wait", "--settings", "1x2", "--limit", "4")
    assert done.status == 1
    assert done.out.startswith("0 of 4 samples answered (4 not asked), 0 requests")
    assert "1 batch goes on at the provider (batch_1); the same command collects them" in done.out
    line = mmneedle.refused(*command)
    assert "r: 1 batch(es) of this run are still at the provider; go on with --batch" in line
    done = mmneedle(*command, "--batch-cancel")
    assert (done.status, server.made[0].state) == (1, "cancelled")
    server.held = False
    assert mmneedle.ok(*command, "--batch").startswith("16 of 16 samples answered, 16 requests")
    assert mmneedle.ok(*command).startswith("16 of 16 samples answered, 0 requests")


def test_what_is_refused(mmneedle: Shell) -> None:
    build(mmneedle)
    run = ("run", "set", "--log", "r")
    line = mmneedle.refused(*run, "--model", "baseline/oracle", "--batch")
    assert line == "mmneedle: baseline/oracle has no batch API; leave out --batch\n"
    for option in ("--rpm", "--tpm", "--max-connections", "--timeout"):
        line = mmneedle.refused(*run, "--model", "openai/m", "--batch", option, 5)
        assert line == f"mmneedle: --batch has its own pace: leave out {option}\n"
    line = mmneedle.refused(*run, "--model", "openai/m", "--no-batch-wait")
    assert "--no-batch-wait belongs to --batch" in line
    where = ("--base-url", "https://x.openai.azure.com")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_OPENAI_API_KEY", KEY)
        line = mmneedle.refused(*run, "--model", "azure/m", *where, "--batch")
    assert "azure/m: batches on Azure are not supported; leave out --batch" in line
    assert not Path("r").exists()


def test_a_server_without_batches(mmneedle: Shell, server: BatchServer) -> None:
    build(mmneedle)
    server.fault = lambda call: server.error(404, "Not Found")
    where = ("--base-url", server.url, "--batch")
    line = mmneedle.refused("run", "set", "--log", "r", "--model", "openai/m", *where)
    assert f"openai/m: {server.url} has no batch API (then leave out --batch)" in line
    assert "404" in line


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.provider)
@pytest.mark.parametrize("code", [404, 405, 501])
def test_no_provider_s_server_without_batches_is_pressed(
    mmneedle: Shell, kind: type[BatchServer], code: int
) -> None:
    build(mmneedle)
    with kind() as server:
        server.fault = lambda call: Reply(code, {"detail": "Not Found"})
        where = ("--base-url", server.url, "--batch", "--log", "r")
        line = mmneedle.refused("run", "set", "--model", f"{kind.provider}/m", *where)
        assert "has no batch API (then leave out --batch)" in line
        assert server.url.removesuffix("/v1") in line
        assert server.calls.total() <= 2
    assert open_batches(Path("r")) == []


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.provider)
def test_a_server_that_is_not_there_is_named(
    mmneedle: Shell, monkeypatch: pytest.MonkeyPatch, kind: type[BatchServer]
) -> None:
    build(mmneedle)
    monkeypatch.setitem(batching.BatchEvaluation.__init__.__kwdefaults__, "patience", 0.1)
    where = ("--base-url", "http://127.0.0.1:9", "--batch", "--log", "r")
    done = mmneedle("run", "set", "--model", f"{kind.provider}/m", *where)
    assert done.status == 1
    assert "http://127.0.0.1:9 cannot be reached: " in done.err
    assert "1 batch may or may not have reached the provider (mmneedle-" in done.out
    direct = mmneedle("run", "set", "--model", f"{kind.provider}/m", *where[:2], "--attempts", 1)
    assert "http://127.0.0.1:9 cannot be reached: " in direct.err


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.provider)
def test_pages_instead_of_replies_are_borne(mmneedle: Shell, kind: type[BatchServer]) -> None:
    """As some proxies answer, with status 200, before they let one through."""
    build(mmneedle)
    page = Reply(200, b"<html>sign in", {"content-type": "text/html"})
    with kind() as server:
        server.fault = lambda call: page if call.nth == 1 else None
        where = ("--base-url", server.url, "--batch", "--log", "r")
        done = mmneedle("run", "set", "--model", f"{kind.provider}/m", *where)
    assert done.status == 0, done
    assert done.out.startswith("16 of 16")


def test_a_sum_that_is_not_passed(mmneedle: Shell, server: BatchServer) -> None:
    """Every answer has 100 tokens of input and 5 of output: a hundred and five dollars."""
    build(mmneedle)
    Path("p.toml").write_text("input = 1000000\noutput = 1000000\ncached = 1000000\nbatch = 0.5\n")
    command = ("run", "set", "--model", "openai/m", "--log", "r", "--base-url", server.url,
               "--prices", "p.toml", "--max-tokens", "5", "--settings", "1x2")  # fmt: skip
    line = mmneedle.refused(*command, "--batch", "--max-cost", 500)
    assert "not known how many tokens a request of n1-g2x2-k1 has" in line
    with ApiServer(server.protocol) as direct:
        more = ("--base-url", direct.url, "--limit", 2)
        mmneedle.ok(*command[:6], *more, *command[8:])  # learns 100 tokens: 210 dollars
    for limit in (420, 600):
        done = mmneedle(*command, "--batch", "--max-cost", limit)
        spent = 210 + sum(len(made.keys) for made in server.made) * 52.5
        assert done.status == 1, done
        assert f"stopped before --max-cost {limit}" in done.out
        assert done.out.count("goes on from here") == 1
        assert spent <= limit
    assert len(server.made) > 0
    assert mmneedle.ok(*command, "--batch", "--max-cost", 9999).startswith("8 of 8")


TOO_LITTLE = """
[sources.me]
title = "A rule that is wrong"
read = 2026-11-25
[[models]]
match = ["server/m"]
source = "me"
image = {rule = "fixed", tokens = 1}
"""


def test_a_rule_that_is_wrong_costs_one_request_a_setting(
    mmneedle: Shell, server: BatchServer
) -> None:
    """Every request is charged 100,000 tokens, and the rule says a few hundred of text."""
    build(mmneedle)
    Path("p.toml").write_text("input = 10\noutput = 0\n")  # a dollar a request
    Path("l.toml").write_text(TOO_LITTLE)

    def dear(ask: Ask) -> Reply:
        reply = ask.answer()
        reply.body["usage"]["prompt_tokens"] = 100_000
        return reply

    server.script = dear
    command = ("run", "set", "--model", "openai/m", "--log", "r", "--base-url", server.url,
               "--prices", "p.toml", "--limits", "l.toml", "--max-tokens", "5", "--batch",
               "--max-cost")  # fmt: skip
    server.held = True
    said = mmneedle(*command, 6, "--no-batch-wait").out
    server.held = False
    assert "submitted one request of each setting, not waited for" in said
    assert [len(made.keys) for made in server.made] == [2]
    done = mmneedle(*command, 6)
    assert done.status == 1
    assert "stopped before --max-cost 6" in done.out
    asked = sum(len(made.keys) for made in server.made)
    assert 4 <= asked <= 6
    assert mmneedle.ok(*command, 99).startswith("16 of 16")
    assert server.made[0].keys != server.made[1].keys


def test_a_provider_that_counts_nothing_cannot_be_limited(
    mmneedle: Shell, server: BatchServer
) -> None:
    build(mmneedle)
    Path("p.toml").write_text("input = 10\noutput = 0\n")
    Path("l.toml").write_text(TOO_LITTLE)

    def silent(ask: Ask) -> Reply:
        reply = ask.answer()
        del reply.body["usage"]
        return reply

    server.script = silent
    command = ("run", "set", "--model", "openai/m", "--log", "r", "--base-url", server.url,
               "--prices", "p.toml", "--limits", "l.toml", "--batch")  # fmt: skip
    done = mmneedle(*command, "--max-cost", 6)
    assert done.status == 1
    assert "openai/m does not say how many tokens a request of n1-g2x2-k1 took" in done.out
    assert [len(made.keys) for made in server.made] == [2]
    assert "without it the same command goes on" in done.out
    assert mmneedle.ok(*command).startswith("16 of 16")
