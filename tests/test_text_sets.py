"""Data sets of text needles: built, extended, asked over HTTP, scored; and wrong wishes."""

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply, failure
from question_files import squad
from shell import Shell, build
from text_runs import grid, says, write_text_run
from text_sets import write_tokenizer

from mmneedle.runlog import Run
from mmneedle.runner import RunSummary
from mmneedle.texts.dataset import TextDataSet
from mmneedle.texts.scoring import score_text, score_text_run
from mmneedle.types import Response, TextSetting, read_setting, split_sample_id

ONE = TextSetting("niah", 600, 500)


def searching(ask: Ask) -> Reply:
    """A model that searches the text for the thing it was asked about."""
    text, _, question = ask.prompt.rpartition("\n\n")
    asked = re.findall(r"(?:of|,|:) the ([a-z]+ [a-z]+)(?=[?,:])", question)
    found = [re.findall(rf"number of the {thing} is (\d+)\.", text) for thing in asked]
    assert asked and all(len(numbers) == 1 for numbers in found), question
    return ask.answer(", ".join(numbers[0] for numbers in found))


# --------------------------------------------------------------------------- as a user


def test_from_the_recipe_to_the_scores(mmneedle: Shell, tmp_path: Path) -> None:
    model = write_tokenizer(tmp_path / "model")
    done = mmneedle(
        "build-text", "set", "niah", "--lengths", "600,2k", "--depths", "0,50,100",
        "--needles", "1,3", "--samples", 2, "--tokenizer", model,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "12 settings, 24 samples" in done.out
    assert "approximate" not in done.out
    with ChatServer(searching) as server:
        done = mmneedle(
            "run", "set", "--model", "openai/search", "--base-url", server.url, "--log", "run",
            "--quiet",
        )  # fmt: skip
    assert done.status == 0, done.err
    run = Run.open("run")
    rows = score_text_run(run)
    assert [(row.score, row.n, row.answered) for row in rows] == [(1.0, 2, 2)] * 12
    assert {row.task for row in rows} == {"niah"}
    printed = mmneedle("score", "run")
    assert "600  100   100    100  100  6" in printed.out
    as_json = json.loads(mmneedle("score", "run", "--json").out)
    assert [row["length"] for row in as_json] == [row.length for row in rows]
    assert {row["depth"] for row in as_json} == {0.0, 0.5, 1.0}


def test_show_a_text(mmneedle: Shell) -> None:
    mmneedle("build-text", "set", "niah", "--lengths", "600", "--depths", "50", "--samples", 2)
    listed = mmneedle("show", "set")
    assert "niah-l600-d500-k1: 2 samples" in listed.out
    sample = TextDataSet.open("set").sample("niah-l600-d500-k1-000001")
    shown = mmneedle("show", "set", sample.id)
    assert shown.out.startswith(sample.prompt)
    assert f"right answer: {sample.expected[0][0]}" in shown.out
    told = json.loads(mmneedle("show", "set", sample.id, "--json").out)
    assert told["prompt"] == sample.prompt
    mmneedle("show", "set", sample.id, "--out", "here")
    assert Path("here/prompt.txt").read_text() == sample.prompt


def test_more_of_a_set_is_the_same_set(mmneedle: Shell, tmp_path: Path) -> None:
    recipe = ("niah", "--depths", "0,100", "--samples")
    mmneedle("build-text", "small", *recipe, 2, "--lengths", "600")
    mmneedle("build-text", "large", *recipe, 5, "--lengths", "600,1k")
    before = [s.prompt for s in TextDataSet.open("small").samples(TextSetting("niah", 600, 0))]
    done = mmneedle("build-text", "small", *recipe, 5, "--lengths", "600,1k")
    assert done.status == 0, done.err
    small, large = TextDataSet.open("small"), TextDataSet.open("large")
    assert small.fingerprint == large.fingerprint
    assert small.settings == large.settings
    for setting in large.settings:
        assert list(small.samples(setting)) == list(large.samples(setting))
    assert [s.prompt for s in small.samples(TextSetting("niah", 600, 0), 0, 2)] == before
    done = mmneedle("build-text", "small", *recipe, 5, "--lengths", "600", "--seed", 1)
    assert done.status == 2
    assert "its seed is 0, now 1" in done.err


def test_haystacks_from_a_folder_and_from_captions(mmneedle: Shell, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in "ab":
        (texts / f"{name}.txt").write_text(f"File {name} tells a tale. " * 400)
    mmneedle("build-text", "set", "niah", "--lengths", "1k", "--depths", "50", "--texts", texts)
    assert (
        "tells a tale"
        in next(TextDataSet.open("set").samples(TextSetting("niah", 1024, 500))).prompt
    )
    mmneedle(
        "build", "images", "--source", "shapes", "--scenes", 60, "--settings", "1x2",
        "--samples", 2, "--cell", 32, "--quiet",
    )  # fmt: skip
    done = mmneedle(
        "build-text", "caps", "niah", "--lengths", "1k", "--depths", "50", "--captions", "images"
    )
    assert done.status == 0, done.err
    prompt = next(TextDataSet.open("caps").samples(TextSetting("niah", 1024, 500))).prompt
    assert "background." in prompt


def test_a_list_and_a_check_of_texts(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "niah", "--lengths", "512", "--depths", "0,25", "--samples", 2)
    listed = json.loads(mmneedle.ok("show", "set", "--json"))
    assert [one["id"] for one in listed] == [
        "niah-l512-d0-k1-000000", "niah-l512-d0-k1-000001",
        "niah-l512-d250-k1-000000", "niah-l512-d250-k1-000001",
    ]  # fmt: skip
    assert {key: listed[2][key] for key in ("length", "depth", "needles")} == {
        "length": 512, "depth": 0.25, "needles": 1,
    }  # fmt: skip
    assert mmneedle.ok("show", "set", "--check") == "set: whole: 2 settings, 4 samples\n"
    assert "at 4 characters each" in mmneedle.ok("show", "set", listed[0]["id"])
    for words, said in (
        (("--out", "here"), "--out needs a sample"),
        (("--task", "twin-literal"), "leave out --task"),
        (("--resize", "96"), "leave out --resize"),
    ):
        assert said in mmneedle.refused("show", "set", *words)
    assert "is a data set of texts; see mmneedle show" in mmneedle.refused("view", "set")
    Path("set/corpus.txt").write_text("Another text.")
    assert "has changed" in mmneedle.refused("show", "set", "--check")


def test_estimates_of_texts(mmneedle: Shell, tmp_path: Path) -> None:
    model = write_tokenizer(tmp_path / "model")
    recipe = ("niah", "--lengths", "512,1k", "--depths", "0,50,100", "--samples", 2)
    mmneedle.ok("build-text", "set", *recipe, "--tokenizer", model)
    told = mmneedle.ok("estimate", "set", "--model", "vllm/nobody")
    lines = [line.split() for line in told.splitlines()]
    assert lines[0] == ["setting", "requests", "text", "tokens", "USD"]
    for row, length in zip(lines[1:3], (512, 1024), strict=True):
        assert row[:4] == [f"niah-l{length}-k1,", "3", "depths", "6"]
        assert int(row[4].replace(",", "")) == pytest.approx(length, rel=0.01)
    assert "images:" not in told
    assert "counted by the data set's tokenizer" in told
    mmneedle.ok("build-text", "about", *recipe)
    told = mmneedle.ok("estimate", "about", "--model", "vllm/nobody")
    assert "counted at 4 characters each" in told


def test_arguments_the_wrong_way_round(mmneedle: Shell) -> None:
    assert "the folder comes first: mmneedle build-text set niah" in mmneedle.refused(
        "build-text", "niah", "set"
    )


def test_a_run_of_some_lengths(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "niah", "--lengths", "512,1.5k", "--depths", "0,100")
    command = ("run", "set", "--model", "baseline/noisy?p=0.5", "--log", "run")
    first = mmneedle.ok(*command, "--lengths", "512")
    assert "10 of 10 samples answered" in first
    assert "next: mmneedle score run or mmneedle text-report run" in first
    assert [row.length for row in score_text_run(Run.open("run"))] == [512, 512]
    assert "20 of 20 samples answered, 10 requests" in mmneedle.ok(*command)
    assert "no texts of length 1,024; it has 512, 1,536" in mmneedle.refused(
        *command, "--lengths", "1k"
    )
    assert "--lengths says which texts" in mmneedle.refused(*command, "--settings", "1x2")
    told = json.loads(
        mmneedle.ok("estimate", "set", "--model", "openai/x", "--lengths", "512", "--json")
    )
    assert told["requests"] == 10


def test_lengths_are_not_those_of_images(mmneedle: Shell) -> None:
    build(mmneedle)
    told = mmneedle.refused("run", "set", "--model", "baseline/oracle", "--lengths", "1k")
    assert "has no texts; leave out --lengths" in told


def test_yardsticks_on_texts(mmneedle: Shell) -> None:
    mmneedle.ok(
        "build-text", "set", "niah", "--lengths", "512", "--depths", "0", "--needles", "2",
        "--samples", 400,
    )  # fmt: skip
    for model, low, high in (("oracle", 1, 1), ("noisy?p=0.7", 0.63, 0.77), ("never", 0, 0)):
        mmneedle.ok("run", "set", "--model", f"baseline/{model}", "--log", model)
        (row,) = score_text_run(Run.open(model))
        assert row.answered == 400
        assert row.score is not None
        assert low <= row.score <= high
    for model in ("first", "always", "random"):
        told = mmneedle.refused("run", "set", "--model", f"baseline/{model}", "--log", "no")
        assert "names cells, and a text has none" in told
    assert not Path("no").exists()


def test_tasks_without_depths_share_a_table(mmneedle: Shell) -> None:
    mmneedle.ok(
        "build-text", "set", "ruler", "--lengths", "1k,2k", "--variants", "vt,niah_single_1",
        "--samples", 2,
    )  # fmt: skip
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "run")
    lines = [line.split() for line in mmneedle.ok("score", "run").splitlines()[1:]]
    assert lines[0] == ["length", "1,024", "2,048", "n"]
    assert sorted(lines[1:3]) == [
        ["niah_single_1", "100", "100", "4"],
        ["vt", "100", "100", "4"],
    ]
    assert lines[3] == ["mean", "of", "2", "100", "100", "8"]


def test_nothing_answered_has_no_effective_length(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "niah", "--lengths", "512", "--depths", "0", "--samples", 1)
    with ChatServer(lambda _: failure(400, "no")) as server:
        done = mmneedle(
            "run", "set", "--model", "openai/x", "--base-url", server.url, "--log", "run"
        )
    assert done.status == 1
    assert "effective length: unknown, nothing was answered" in mmneedle.ok("effective", "run")


def test_baselines_of_documents_have_no_effective_length(mmneedle: Shell) -> None:
    mmneedle.ok("build-text", "set", "multidoc", "--lengths", "10", "--samples", 1)
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "run")
    told = {
        one["task"]: one["said"] for one in json.loads(mmneedle.ok("effective", "run", "--json"))
    }
    assert "10 documents or more" in told["multidoc.open"]
    for variant in ("closed", "oracle"):
        assert told[f"multidoc.{variant}"].startswith("effective length: none")


def test_image_verbs_say_what_a_text_run_is(mmneedle: Shell) -> None:
    mmneedle("build-text", "set", "niah", "--lengths", "600", "--depths", "50", "--samples", 2)
    done = mmneedle("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet")
    assert done.status == 0, done.err
    for verb in ("report", "leaderboard"):
        done = mmneedle(verb, "run")
        assert done.status == 2
        assert "a run of the task niah" in done.err
    done = mmneedle("score", "run", "--scorer", "paper")
    assert done.status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("niahh",), "no text task 'niahh' .did you mean niah..; there are .*niah"),
        (("niah_single_1",), "a variant: ruler --variants niah_single_1"),
        (("niah", "--lengths", "4q"), "--lengths takes numbers such as 512,4k"),
        (("niah", "--lengths", "100"), "too short"),
        (("niah", "--depths", "0,150"), "--depths takes per cent"),
        (("niah", "--depths", "linear:1"), "--depths takes"),
        (("niah", "--variants", "Keys 8"), "--variants takes names"),
        (("niah", "--tokenizer", "nowhere"), "no tokenizer.json there"),
        (("niah", "--tokenizer", "broken.json"), "is no tokenizer.json"),
        (("niah", "--texts", "nowhere"), "no such file or folder"),
        (("niah", "--texts", "binary.txt"), "is not UTF-8 text|holds binary"),
        (("niah", "--texts", "empty"), "holds no .txt"),
        (("niah", "--texts", "nul.txt"), "holds binary data"),
        (("niah", "--texts", "a.txt", "--captions", "b"), "not both"),
        (("niah", "--texts", "blank.txt"), "blank.txt: is empty"),
        (("niah", "--samples", str(10**9)), "at most 1,000,000 samples"),
        (("ruler", "--questions", "latin.json"), r"line 2: is not UTF-8 \(byte 1[0-9]\)"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)
def test_wrong_wishes(mmneedle: Shell, words: tuple[str, ...], said: str) -> None:
    Path("broken.json").write_text("{}")
    Path("binary.txt").write_bytes(b"\xff\xfe\x00text")
    Path("nul.txt").write_bytes(b"text\0text")
    Path("a.txt").write_text("A text.")
    Path("blank.txt").write_text(" \n ")
    Path("latin.json").write_bytes(b'{"data":\n "caf\xe9"}')
    Path("empty").mkdir()
    done = mmneedle("build-text", "set", *words)
    assert (done.status, done.out) == (2, "")
    assert re.search(said, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("set/text.json").exists()


def test_a_seed_beyond_all(mmneedle: Shell) -> None:
    done = mmneedle("build-text", "set", "niah", "--seed", 2**130)
    assert done.status == 2 and "Traceback" not in done.err


def test_marks_of_byte_order_are_no_text(mmneedle: Shell) -> None:
    Path("a.txt").write_bytes(b"\xef\xbb\xbfA tale. " + b"It goes on. " * 200)
    squad(Path("squad.json"))
    Path("marked.json").write_bytes(b"\xef\xbb\xbf" + Path("squad.json").read_bytes())
    done = mmneedle(
        "build-text", "set", "ruler", "--texts", "a.txt", "--questions", "marked.json",
        "--lengths", "1k", "--samples", 1,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "ruler.qa_1-l1024-dx-k1" in TextDataSet.open("set").manifest.settings
    assert Path("set/corpus.txt").read_text()[0] == "A"


def test_a_changed_corpus_is_found(mmneedle: Shell) -> None:
    mmneedle("build-text", "set", "niah", "--lengths", "600", "--depths", "50", "--samples", 2)
    corpus = Path("set/corpus.txt")
    corpus.write_text(corpus.read_text().replace("baker", "Baker", 1))
    done = mmneedle("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet")
    assert done.status == 2
    assert "has changed since the data set was built" in done.err


def test_where_tokens_end_is_counted_anew_where_the_file_is_not_ours(
    mmneedle: Shell, tmp_path: Path
) -> None:
    model = write_tokenizer(tmp_path / "model")
    mmneedle.ok("build-text", "set", "niah", "--lengths", "5k", "--tokenizer", model)
    sample = next(TextDataSet.open("set").samples(TextSetting("niah", 5120, 500)))
    ends = Path("set/corpus.npy")
    content = ends.read_bytes()
    moved = np.load(ends)
    moved[8:] = moved[8:] // 2
    np.save("moved.npy", moved)
    assert "token_ends" in TextDataSet.open("set").maker.materials.corpus.__dict__
    wrong = (content[:1000], b"", b"text", content[:-4] + b"abcd", Path("moved.npy").read_bytes())
    for other in wrong:
        ends.write_bytes(other)
        dataset = TextDataSet.open("set")
        assert "token_ends" not in dataset.maker.materials.corpus.__dict__
        assert next(dataset.samples(TextSetting("niah", 5120, 500))) == sample


def test_a_damaged_recipe_is_one_line(mmneedle: Shell) -> None:
    mmneedle("build-text", "set", "niah", "--lengths", "600", "--depths", "50", "--samples", 2)
    for content in (b"{}", b"[]", b"\xff", b'{"version": 9', b""):
        Path("set/text.json").write_bytes(content)
        done = mmneedle("show", "set")
        assert done.status == 2
        assert "text.json" in done.err and len(done.err.splitlines()) == 1


# --------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("1234567", True),
        ("The number is 1234567.", True),
        ("**1234567**", True),
        ("91234567", False),
        ("12345678", False),
        ("1,234,567", False),
        ("", False),
        (None, False),
    ],
)
def test_a_number_is_given_or_not(text: str | None, given: bool) -> None:
    found = score_text(ONE, (("1234567",),), Response("ok", text))
    assert found is not None
    assert (found.given, found.value) == ((given,), float(given))


def test_needles_count_one_by_one_and_failures_do_not() -> None:
    found = score_text(ONE, (("11",), ("22", "zwei"), ("33",)), Response("ok", "11, Zwei"))
    assert found is not None
    assert found.given == (True, True, False)
    assert found.value == pytest.approx(2 / 3)
    assert score_text(ONE, (("11",),), Response("timeout")) is None
    assert score_text(ONE, (("11",),), Response("truncated", "11 and")) is not None


@pytest.mark.parametrize(
    "setting",
    [ONE, TextSetting("ruler.vt", 131072), TextSetting("keyvalue", 300, 1000, 4)],
)
def test_names_of_settings_read_back(setting: TextSetting) -> None:
    assert read_setting(setting.name) == setting
    assert split_sample_id(f"{setting.name}-000012") == (setting, 12)


@pytest.mark.parametrize("name", ["niah-l1-d1", "N-l1-d1-k1", "niah-l1-d1-k1x", "n1-g2x2", "-l"])
def test_other_names_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        read_setting(name)


def test_an_image_runs_lines_stay_as_they_were(mmneedle: Shell) -> None:
    mmneedle(
        "build", "images", "--source", "shapes", "--scenes", 60, "--settings", "1x2",
        "--samples", 2, "--cell", 32, "--quiet",
    )  # fmt: skip
    mmneedle("run", "images", "--model", "baseline/oracle", "--log", "run", "--quiet")
    for line in Path("run/responses.jsonl").read_bytes().splitlines():
        assert "expected" not in msgspec.json.decode(line)


def test_all_depths_together_are_the_mean_of_all_answers(mmneedle: Shell, tmp_path: Path) -> None:
    """As effective lengths have it: depths that lack answers weigh less."""

    def answer(setting: TextSetting, index: int) -> Response | None:
        return None if setting.depth and index else says(not setting.depth, setting)

    write_text_run(tmp_path / "run", answer, grid("niah", (512,), (0, 1000), 5))
    assert "512  100     0*  83*  10" in mmneedle.ok("score", tmp_path / "run")
    assert "512  83.3*" in mmneedle.ok("effective", tmp_path / "run")


def test_a_run_says_that_cut_off_answers_to_texts_count_with_what_they_hold():
    images = RunSummary(asked=2, answered=2, by_status={"ok": 1, "truncated": 1})
    assert "cut-off answers count as wrong: raise --max-tokens" in str(images)
    texts = msgspec.structs.replace(images, textual=True)
    assert "cut-off answers count with what they hold: raise --max-tokens" in str(texts)
