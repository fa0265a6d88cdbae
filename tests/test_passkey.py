"""passkey: samples, the search over lengths, and the verb against a server with a window."""

import json
import re
from pathlib import Path

import pytest
from chat_server import Ask, ChatServer, Reply, failure
from hypothesis import given
from hypothesis import strategies as st
from shell import Shell
from text_checks import length_lands, samples
from text_sets import maker, tokens, write_tokenizer

from mmneedle.errors import UserError
from mmneedle.runlog import Run
from mmneedle.tasks.passkey import _spread
from mmneedle.texts.effective import Point, Tally
from mmneedle.texts.scoring import score_text_run
from mmneedle.texts.search import check_span, search, together, told
from mmneedle.texts.tokens import Approximate
from mmneedle.types import TextSetting

KEY = re.compile(r"The pass key is (\d{5})\.")


@pytest.mark.parametrize("length", [300, 2000, 30_000])
@pytest.mark.parametrize("trained", [False, True])
def test_one_key_where_the_record_says(length: int, trained: bool, tmp_path: Path) -> None:
    counting = tokens(tmp_path if trained else None)
    passkey = maker("passkey", counting)
    made = samples(passkey, TextSetting("passkey", length), 7)
    for sample in made:
        ((key,),) = sample.expected
        assert KEY.findall(sample.prompt) == [key]
        assert sample.prompt.count(key) == 2  # the needle says it twice
        assert sample.prompt[sample.details["places"][0] :].startswith(f"The pass key is {key}.")
        length_lands(passkey, counting, sample)
    depths = sorted(sample.details["depths"][0] for sample in made)
    if length >= 2000:  # a short text has few sentences
        assert all(abs(at - (n + 1) / 8) <= 0.02 for n, at in enumerate(depths))
    assert made == samples(maker("passkey", counting), TextSetting("passkey", length), 7)


def test_depths_spread() -> None:
    assert [_spread(index) for index in range(5)] == [0.5, 0.25, 0.75, 0.125, 0.625]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (TextSetting("passkey.x", 1000), "has no variants"),
        (TextSetting("passkey", 40), "too short; take"),
        (TextSetting("passkey", 1000, 500), "one needle, anywhere"),
        (TextSetting("passkey", 1000, -1, 2), "one needle, anywhere"),
    ],
    ids=str,
)
def test_what_cannot_be_made(setting: TextSetting, words: str) -> None:
    with pytest.raises(UserError, match=words):
        maker("passkey", Approximate()).check(setting)


# --------------------------------------------------------------------------- the search


def point(length: int, *, right: bool) -> Point:
    tally = Tally()
    tally.asked = 5
    for index in range(5):
        tally.add(index, int(right), 1)
    return tally.point(length)


@given(
    low=st.integers(64, 5000),
    factor=st.floats(1, 2000),
    limit=st.integers(1, 1 << 22),
    within=st.sampled_from([0.01, 0.1, 1.0]),
)
def test_a_limit_is_found(low: int, factor: float, limit: int, within: float) -> None:
    high = int(low * factor)
    asked: list[int] = []

    def ask(length: int) -> Point:
        asked.append(length)
        return point(length, right=length <= limit)

    points = list(search(ask, low, high, 0.85, within))
    assert [one.length for one in points] == asked
    assert len(set(asked)) == len(asked) <= 4 + 11 / within**0.5
    assert all(low <= length <= high for length in asked)
    found = together(points, 0.85, "m")
    assert found.regained == ()
    if limit < low:
        assert found.length is None and asked == [low]
    elif limit >= high:
        assert found.length == high
    else:
        assert found.length is not None and found.length <= limit
        beyond = min(length for length in asked if length > limit)
        assert beyond <= found.length * (1 + within) or beyond - found.length <= 64


def test_a_hole_in_the_middle_is_told() -> None:
    points = list(search(lambda n: point(n, right=not 2000 < n < 60_000), 1024, 1 << 17, 0.85, 0.1))
    found = together(points, 0.85, "m")
    assert found.length is not None and found.length <= 2000
    assert found.regained == (1 << 17,)
    assert "131,072 passes although a shorter length does not" in told(found)


def test_what_the_search_takes_for_granted_is_told() -> None:
    points = list(search(lambda n: point(n, right=n < 3000), 1024, 1 << 17, 0.85, 0.1))
    words = told(together(points, 0.85, "m"))
    assert re.search(r"a binary search: between [\d,]+ and 131,072 tokens only [\d, ]+ were", words)


@pytest.mark.parametrize(
    "wrong", [(2000, 1000, 0.85, 0.1), (1, 2, 0, 0.1), (1, 2, 1.5, 0.1), (1, 2, 0.5, 0)]
)
def test_searches_without_sense(wrong: tuple[int, int, float, float]) -> None:
    with pytest.raises(UserError, match="--"):
        check_span(*wrong)


# --------------------------------------------------------------------------- as a user


class Windowed:
    """Finds keys in texts up to so many characters; refuses more than a window's."""

    def __init__(self, sees: int, window: int) -> None:
        self.sees, self.window = sees, window

    def __call__(self, ask: Ask) -> Reply:
        if len(ask.prompt) > self.window:
            return failure(400, "maximum context length", "context_length_exceeded")
        (key,) = KEY.findall(ask.prompt)
        return ask.answer(key if len(ask.prompt) <= self.sees else "I do not know.")


def test_the_verb_finds_a_length_and_goes_on(mmneedle: Shell, tmp_path: Path) -> None:
    model = write_tokenizer(tmp_path / "model")
    words: tuple[object, ...] = (
        "passkey", "--model", "openai/x", "--tokenizer", model, "--from", 512, "--to", "16k",
        "--samples", 3, "--log", "found",
    )  # fmt: skip
    with ChatServer(Windowed(9_000, 20_000)) as server:
        printed = mmneedle.ok(*words, "--base-url", server.url, "--quiet")
        first = len(server.asks)
        again = mmneedle.ok(*words, "--base-url", server.url, "--quiet", "--json")
        assert len(server.asks) == first  # all answers were there
    found = json.loads(again)
    lengths = [one["length"] for one in found["points"]]
    assert lengths == sorted(lengths) and lengths[0] == 512 and lengths[-1] == 16384
    assert found["points"][-1]["skipped"] == 3
    assert found["length"] * 1.1 >= min(
        one["length"] for one in found["points"] if one["score"] == 0
    )
    assert "past the window: skipped" in printed
    assert f"effective length: {found['length']:,} tokens" in printed
    for length in lengths:
        (row,) = score_text_run(Run.open(f"found/l{length}"))
        assert (row.task, row.length, row.n) == ("passkey", length, 3)
    assert f"{found['length']:,}" in mmneedle.ok("effective", *(f"found/l{n}" for n in lengths))


def test_missing_answers_stop_the_search(mmneedle: Shell) -> None:
    with ChatServer(lambda ask: failure(500, "down")) as server:
        done = mmneedle(
            "passkey", "--model", "openai/x", "--from", 512, "--to", "1k", "--log", "found",
            "--base-url", server.url, "--attempts", 1, "--quiet",
        )  # fmt: skip
    assert done.status == 1
    assert "512 tokens: 0 of 5 samples answered" in done.err
    assert "the same command goes on" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "4q"), "--from takes numbers such as"),
        (("--from", "1k,2k"), "--from takes one length"),
        (("--from", "2k", "--to", "1k"), "--from 2,048 is longer than --to 1,024"),
        (("--from", "20"), "too short; take"),
        (("--threshold", "0"), "--threshold takes per cent"),
        (("--model", "baseline/first"), "names cells, and a text has none"),
    ],
)
def test_wrong_wishes(mmneedle: Shell, words: tuple[str, ...], said: str) -> None:
    done = mmneedle("passkey", "--model", "baseline/oracle", "--log", "found", "--quiet", *words)
    assert done.status in (1, 2) and done.out == ""
    assert said in done.err and len(done.err.splitlines()) == 1


def test_lengths_past_a_documented_window_are_not_sent(mmneedle: Shell) -> None:
    Path("own.toml").write_text(
        '[sources.card]\ntitle = "its card"\nread = 2026-11-01\n'
        '[[models]]\nmatch = ["server/x"]\nsource = "card"\ncontext = 2000\n'
        "characters_per_token = 4.0\n"
    )
    mmneedle.ok("build-text", "set", "niah", "--lengths", "1k,8k", "--depths", "50")
    with ChatServer(lambda ask: ask.answer("none")) as server:
        done = mmneedle(
            "run", "set", "--model", "openai/x", "--base-url", server.url, "--log", "run",
            "--limits", "own.toml",
        )  # fmt: skip
        assert len(server.asks) == 5
    assert done.status == 1
    assert "niah-l8192-d500-k1 is not asked, status too_long" in done.err
    assert "lengths past the model's window: skipped (8,192)" in mmneedle.ok("score", "run")
