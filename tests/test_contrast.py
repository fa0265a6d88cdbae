"""Reading everything against retrieving: the right pairs, the right figures, plain words."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply, failure
from needs import coco_mini
from shell import Shell
from text_sets import write_tokenizer

from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.outcomes import outcomes
from mmneedle.reports.readers import FEWEST, contrasts_json, contrasts_text
from mmneedle.retrieval.contrast import contrast
from mmneedle.runlog import Run
from mmneedle.statistics import clustered, wilson
from mmneedle.statistics.comparison import Stratum, difference, holm, mcnemar_exact, sign_flip
from mmneedle.stitching.dataset import build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Setting


def run(mmneedle: Shell, model: str, log: str, *words: object) -> Run:
    mmneedle.ok("run", "set", "--model", model, "--log", log, "--quiet", *words)
    return Run.open(log)


def test_a_retriever_that_misses_loses(mmneedle: Shell) -> None:
    """The oracle is right where it can be: what retrieving loses is what was not retrieved."""
    settings = {Setting(1, 8, 8): 80, Setting(1, 2, 2): 40}
    build("set", find_coco(coco_mini(), None), settings, None, TileFormat(32, 32), workers=1)
    run(mmneedle, "baseline/oracle", "long")
    run(mmneedle, "baseline/oracle", "top", "--reader", "retrieve:1")
    (found,) = json.loads(mmneedle.ok("reader", "long", "top", "--json"))
    levels = {(one["level"], one["measure"]): one for one in found["levels"]}
    tables = outcomes(Run.open("top"))
    for setting, count in settings.items():
        one = levels[setting.name, "exact"]
        read = int((tables[setting].found == 1).sum())
        missed = count // 2 - read
        assert (one["n"], one["only_long"], one["only_retrieve"]) == (count // 2, missed, 0)
        assert one["difference"] == pytest.approx(missed / one["n"])
        assert one["p"] == pytest.approx(mcnemar_exact(missed, 0))
        assert (one["recall"]["hits"], one["recall"]["n"]) == (read, count // 2)
        assert one["retrieve_interval"] == pytest.approx(wilson(read, count // 2))
        assert one["long_interval"] == pytest.approx(wilson(count // 2, count // 2))
        assert one["lost"] == {"retriever": missed, "model": 0, "unknown": 0}
        assert (one["right_where_read"]["hits"], one["right_where_missed"]["hits"]) == (read, 0)
        assert one["share"] == pytest.approx(1 / setting.cells)
        assert one["tokens"] is None
        no = levels[setting.name, "specificity"]
        assert (no["difference"], no["recall"]["n"], no["verdict"]) == (0, 0, "unclear")
    large = levels["n1-g8x8-k1", "exact"]
    assert large["verdict"] == "long"
    recall = 100 * large["recall"]["share"]
    assert large["sentence"].startswith("(1,8): reading everything wins: 100.0 % against ")
    assert f"({recall:.1f} %)" in large["sentence"]
    assert "1.6 % of the haystack was sent." in large["sentence"]
    single = [one for one in found["levels"] if one["level"] is not None]
    assert [one["p_holm"] for one in single] == pytest.approx(holm([one["p"] for one in single]))
    mean = levels[None, "exact"]
    each = [levels[setting.name, "exact"]["difference"] for setting in settings]
    assert mean["difference"] == pytest.approx(sum(each) / 2)
    assert "Reading everything wins: " in found["summary"] and "(1,8)" in found["summary"]
    missed = sum(one["only_long"] for one in single if one["measure"] == "exact")
    assert found["losses"].startswith(f"Of {missed} answers that only reading everything gets")
    assert f"the retriever lost {missed} (" in found["losses"]
    assert found["reader"]["k"] == 1 and found["reader"]["retriever"] == "bm25"


@pytest.fixture
def texts(mmneedle: Shell, tmp_path: Path) -> None:
    mmneedle.ok(
        "build-text", "set", "niah", "--lengths", "2k,4k", "--depths", "0,50,100", "--samples", 12,
        "--tokenizer", write_tokenizer(tmp_path / "tokenizer"), "--needles", "1",
    )  # fmt: skip


def forgetful(limit: int) -> Any:
    """A model that finds a needle in a short text and is lost in a long one."""

    def script(ask: Ask) -> Reply:
        thing = ask.prompt.rpartition("number of the ")[2].partition("?")[0]
        said = ask.prompt.partition(f"The secret number of the {thing} is ")[2].partition(".")[0]
        return ask.answer(said if len(ask.prompt) < limit and said else "I do not know")

    return script


def test_a_model_that_is_lost_in_long_texts_wins_by_retrieving(
    mmneedle: Shell, texts: None
) -> None:
    with ChatServer(forgetful(6000)) as server:
        where = ("--base-url", server.url)
        run(mmneedle, "openai/m", "long", *where)
        run(mmneedle, "openai/m", "top", *where, "--reader", "retrieve:2", "--chunk", "200:40")
    pages = contrast([Run.open("long"), Run.open("top")])
    (found,) = contrasts_json(pages)
    lengths = {one["length"]: one for one in found["levels"]}
    assert set(lengths) == {2048, 4096, 0}
    for length, one in lengths.items():
        assert one["n"] == (72 if length == 0 else 36)
        of = [3 if length else 6] * 12  # a sample at its three depths, at one length or both
        assert one["long_interval"] == pytest.approx(clustered([0] * 12, of))
        assert one["retrieve_interval"] == pytest.approx(clustered(of, of))
        assert one["clusters"] == 12  # samples of a number share their text at all depths
        assert one["recall"]["share"] == one["right_where_read"]["share"] == 1
        tokens = one["tokens"]
        saved = 100 * (1 - tokens["retrieve"] / tokens["long"])
        assert f"it took {saved:.1f} % fewer input tokens" in one["sentence"]
    assert lengths[4096]["verdict"] == "retrieve"
    assert (lengths[4096]["long"], lengths[4096]["retrieve"]) == (0, 1)
    assert lengths[4096]["p"] == pytest.approx(sign_flip(np.full(12, -3.0)))
    assert "It loses: niah at " in found["summary"]
    printed = mmneedle.ok("reader", "long", "top")
    assert printed.strip() == contrasts_text(pages).strip()
    assert "niah, 4,096 tokens: retrieving wins: 0.0 % against 100.0 % right" in printed


def test_a_needle_cut_between_chunks_is_missed_too(mmneedle: Shell, texts: None) -> None:
    """Recall is what an oracle that sees no more gets right."""
    run(mmneedle, "baseline/oracle", "long")
    run(mmneedle, "baseline/oracle", "top", "--reader", "retrieve:1", "--chunk", "50:0")
    readings = [record.reading for record in Run.open("top").outcomes()]
    assert any(reading and reading.holds == ((),) for reading in readings)
    (found,) = contrasts_json(contrast([Run.open("long"), Run.open("top")]))
    for one in found["levels"]:
        assert one["recall"]["n"] == one["n"]
        assert one["recall"]["share"] == pytest.approx(one["retrieve"])
        assert 0 < one["retrieve"] < 1


def test_unanswered_samples_are_told(mmneedle: Shell, texts: None) -> None:
    calls = 0

    def refusing(ask: Ask) -> Reply:
        nonlocal calls
        calls += 1
        if calls == 3:
            return failure(400, "no")
        return forgetful(10**9)(ask)

    with ChatServer(refusing) as server:
        where = ("--base-url", server.url, "--limit", 4)
        done = mmneedle("run", "set", "--model", "openai/m", "--log", "long", "--quiet", *where)
        assert done.status == 1
        run(mmneedle, "openai/m", "top", *where, "--reader", "retrieve:3")
    (found,) = contrasts_json(contrast([Run.open("top"), Run.open("long")]))
    assert sum(one["unanswered"] for one in found["levels"] if one["level"]) == 1
    lacking = next(one for one in found["levels"] if one["level"] and one["unanswered"])
    assert "1 sample lacks an answer and is left out" in lacking["sentence"]
    assert lacking["n"] == 11
    assert f"which takes {FEWEST} independent samples or more" in lacking["sentence"]
    assert re.search(r"\b11\*", mmneedle.ok("reader", "long", "top"))


def test_needles_of_several_and_shared_haystacks(mmneedle: Shell) -> None:
    settings = {Setting(2, 3, 3, 2): 32}
    build("set", ShapesSource(150), settings, Rules(questions=4), TileFormat(32, 32), workers=1)
    long = run(mmneedle, "baseline/noisy?p=0.9", "long")
    top = run(mmneedle, "baseline/noisy?p=0.6", "other", "--reader", "retrieve:4")
    same = run(mmneedle, "baseline/noisy?p=0.9", "top", "--reader", "retrieve:4")
    assert top.header.model != long.header.model
    (found,) = contrast([same, long])
    exact = found.levels[0].level
    (one,), (other,) = outcomes(long).values(), outcomes(same).values()
    positive = one.positive
    stratum = Stratum(
        one.marks["robust"].exact[positive] == 1,
        other.marks["robust"].exact[positive] == 1,
        one.haystack[positive],
    )
    assert exact.result == difference(stratum)
    assert exact.result.clusters == 8
    groups = one.haystack[positive]
    hits = [int(stratum.b[groups == at].sum()) for at in np.unique(groups)]
    of = [int((groups == at).sum()) for at in np.unique(groups)]
    assert exact.intervals[1] == clustered(hits, of)
    assert sum(hits) == exact.result.counts.both + exact.result.counts.only_b
    assert exact.lost.retriever + exact.lost.model == exact.result.counts.only_a
    assert exact.recall.n == 2 * int(positive.sum())
    assert mmneedle.refused("reader", "long", "other").startswith(
        "mmneedle: other: no run given reads everything for it"
    )


def test_wrong_wishes(mmneedle: Shell) -> None:
    build("set", ShapesSource(60), {Setting(1, 2, 2): 4}, None, TileFormat(32, 32), workers=1)
    run(mmneedle, "baseline/oracle", "long")
    run(mmneedle, "baseline/oracle", "again")
    run(mmneedle, "baseline/oracle", "twin", "--task", "twin-literal")
    run(mmneedle, "baseline/oracle", "top", "--reader", "retrieve:2")
    for words, told in (
        (("long",), "none of these retrieved"),
        (("top",), "top: no run given reads everything for it"),
        (("twin", "top"), "top: no run given reads everything for it"),
        (("long", "again", "top"), "long and again both read everything: give one of them"),
        (("nowhere",), "no run here"),
    ):
        assert told in mmneedle.refused("reader", *words)
    several = json.loads(mmneedle.ok("reader", "long", "top", "twin", "--json"))
    assert [one["task"] for one in several] == ["grid"]


def test_no_common_answer(mmneedle: Shell) -> None:
    build("set", ShapesSource(60), {Setting(1, 2, 2): 8}, None, TileFormat(32, 32), workers=1)
    run(mmneedle, "baseline/oracle", "long", "--limit", "0-4")
    run(mmneedle, "baseline/oracle", "top", "--reader", "retrieve:2", "--limit", "4-8")
    (found,) = contrasts_json(contrast([Run.open("long"), Run.open("top")]))
    assert {one["verdict"] for one in found["levels"]} == {"unknown"}
    assert "nothing is known" in found["levels"][0]["sentence"]
    assert "Nothing is known: (1,2)" in found["summary"]


def test_of_many_levels_those_that_tell_something_have_a_sentence(mmneedle: Shell) -> None:
    words = ("--lengths", "1k,2k", "--samples", 12)
    mmneedle.ok("build-text", "set", "ruler", *words)
    run(mmneedle, "baseline/oracle", "long")
    run(mmneedle, "baseline/oracle", "top", "--reader", "retrieve:1", "--chunk", "100:0")
    printed = mmneedle.ok("reader", "long", "top").splitlines()
    (found,) = json.loads(mmneedle.ok("reader", "long", "top", "--json"))
    levels = found["levels"]
    unclear = [one["sentence"] for one in levels if one["verdict"] == "unclear" and one["length"]]
    telling = [one["sentence"] for one in levels if one["sentence"] not in unclear]
    assert len(levels) > 12 and unclear and any(one["verdict"] == "long" for one in levels)
    assert not set(unclear) & set(printed)
    assert set(telling) <= set(printed)
