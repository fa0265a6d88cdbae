"""Retrieve or read, where haystacks are text: chunks, ranking, what is sent and what is told."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from chat_server import Ask, ChatServer, Reply
from hypothesis import given
from hypothesis import strategies as st
from needs import coco_mini
from shell import Shell
from text_reader import find
from text_sets import write_tokenizer

from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.retrieval.asked import Asked, read_chunk, read_reader
from mmneedle.retrieval.bm25 import Bm25, words
from mmneedle.retrieval.chunks import GAP, chunk_spans, merged, units_of
from mmneedle.retrieval.embeddings import Embeddings
from mmneedle.retrieval.opening import again, open_again, open_reader
from mmneedle.retrieval.passages import WHOLE, ReadText
from mmneedle.retrieval.ranking import best
from mmneedle.retrieval.twins import ReadTwin
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.tasks.text import MAKERS
from mmneedle.tasks.twins import TwinTask
from mmneedle.texts.corpus import caption_documents, filler
from mmneedle.texts.dataset import Ingredients, TextDataSet, build_texts
from mmneedle.texts.scoring import score_text_run
from mmneedle.texts.tokens import Approximate
from mmneedle.types import Setting, TextSetting

# --------------------------------------------------------------------------- what is asked for


def test_what_users_type() -> None:
    assert read_reader("long") is None
    assert read_reader("retrieve:8") == Asked(8)
    assert read_reader("retrieve:3", "embed:models/minilm", "300:50") == Asked(
        3, "embed", Path("models/minilm"), (300, 50)
    )
    assert read_reader("retrieve:3", None, None, "literal") == Asked(3, captions="literal")
    assert read_chunk("600") == (600, 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("retrieve",), "retrieve:K"),
        (("retrieve:0",), "K from 1"),
        (("retrieve:-1",), "K from 1"),
        (("retrieve:2.5",), "K from 1"),
        (("retrieve:٣",), "K from 1"),
        (("short",), "takes long, or retrieve:K"),
        (("long", "bm25"), "--retriever belongs to --reader retrieve:K"),
        (("long", None, "600:100"), "--chunk belongs to"),
        (("long", None, None, "literal"), "--captions belongs to"),
        (("retrieve:2", "google"), "takes bm25, embed:FOLDER"),
        (("retrieve:2", "embed"), "takes bm25, embed:FOLDER"),
        (("retrieve:2", "embed:"), "takes bm25, embed:FOLDER"),
        (("retrieve:2", None, "100:100"), "--chunk takes tokens"),
        (("retrieve:2", None, "0"), "--chunk takes tokens"),
        (("retrieve:2", None, "a:b"), "--chunk takes tokens"),
        (("retrieve:2", None, None, "own"), "literal or paraphrase"),
        (("retrieve:2", "clip:x", None, "literal"), "looks at photos"),
    ],
)
def test_wrong_wishes(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_reader(*words)


# --------------------------------------------------------------------------- chunks


@st.composite
def tokenised(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A text, and where its tokens end: anywhere, several at one place where a token is a byte."""
    text = draw(st.text("ab é\n😀", min_size=1, max_size=300))
    inner = draw(st.lists(st.integers(1, len(text)), max_size=200, unique=draw(st.booleans())))
    return text, np.array(
        sorted({len(text)} | set(inner))
        if len(set(inner)) == len(inner)
        else sorted([*inner, len(text)]),
        np.int64,
    )


@given(tokenised(), st.integers(1, 40), st.data())
def test_chunks_cover_the_text_and_overlap_as_asked(
    made: tuple[str, np.ndarray], size: int, data: st.DataObject
) -> None:
    text, ends = made
    overlap = data.draw(st.integers(0, size - 1))
    spans = chunk_spans(text, ends, size, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)
    assert spans == sorted(spans)
    assert merged(spans) == [(0, len(text))]  # no gap
    if len(np.unique(ends)) < len(ends):
        return  # tokens of one character cannot be told apart by characters
    tokens = [(int(np.searchsorted(ends, a, "right")), int(np.searchsorted(ends, b, "right")))
              for a, b in spans]  # fmt: skip
    assert all(0 < stop - start <= size for start, stop in tokens)
    assert all(one[1] - other[0] >= overlap for one, other in pairwise(tokens))
    assert all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(tokens))


def test_chunks_are_cut_between_words() -> None:
    text = filler(3, 400)
    counting = Approximate()
    spans = chunk_spans(text, counting.ends(text), 120, 20)
    inner = [at for span in spans for at in span if 0 < at < len(text)]
    assert len(inner) > 30
    assert all(text[at].isspace() for at in inner)
    sizes = [(stop - start) / 4 for start, stop in spans[:-1]]
    assert all(90 < size <= 120 for size in sizes)


def test_what_is_left_of_a_text() -> None:
    text = " ".join(f"word{n}" for n in range(100))
    units = units_of(text, None, Approximate().ends(text), (30, 5))
    assert units.read(range(len(units.spans))) == text
    assert units.read([1, 2]) == text[units.spans[1][0] : units.spans[2][1]].strip()
    first, last = units.of(0).strip(), units.of(4).strip()
    assert units.read([0, 4]) == f"{first}{GAP}{last}"
    pairs = units_of('"a": "1",\n "b": "2",\n "c": "3"', "pairs", None, (1, 0))
    assert [pairs.of(unit) for unit in range(3)] == ['"a": "1"', '"b": "2"', '"c": "3"']
    assert pairs.read([0, 2]) == '"a": "1",\n "c": "3"'


# --------------------------------------------------------------------------- ranking


def test_the_best_in_reading_order_and_ties_by_place() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.5], np.float32)
    assert best([scores], 1) == (1,)
    assert best([scores], 3) == (1, 2, 3)
    assert best([scores], 9) == (0, 1, 2, 3, 4)
    other = np.array([1, 0, 0, 0, 0], np.float32)
    assert best([scores, other], 2) == (0, 1)  # each query has its turn
    assert best([np.zeros(4, np.float32)], 2) == (0, 1)


def test_bm25_ranks_by_shared_rare_words() -> None:
    ranker = Bm25()
    units = ["A dog on a sofa.", "The dog, the cat and a man.", "A ZEBRA in the grass", ""]
    assert np.argmax(ranker.scores("a zebra?", units)) == 2
    assert np.argmax(ranker.scores("cat", units)) == 1
    assert not ranker.scores("giraffe", units).any()
    assert not ranker.scores("giraffe", ["", "?"]).any()
    assert not ranker.scores("\U0001f436 ?!", units).any()
    assert not ranker.scores("", units).any()
    assert ranker.engine.startswith("bm25s ")
    assert words("The ﬁve-year_old’s DOG") == ["the", "five", "year", "old", "s", "dog"]


@given(st.lists(st.text("abc d", max_size=12), min_size=1, max_size=30))
def test_the_same_scores_whatever_was_asked_before(units: list[str]) -> None:
    ranker = Bm25()
    first = ranker.scores("a b cd", units)
    ranker.scores("b", [*units, "b b"])
    assert np.array_equal(ranker.scores("a b cd", units), first)
    assert len(first) == len(units)


# --------------------------------------------------------------------------- text tasks

LENGTHS = {"keyvalue": 40, "multidoc": 12}
TASKS = sorted(MAKERS)


def text_set(folder: Path, task: str, samples: int = 3) -> TextDataSet:
    """A small data set of a task, of every default variant."""
    from mmneedle.verbs.text import _settings

    tokenizer = write_tokenizer(folder.parent / "tokenizer")
    maker = MAKERS[task]
    assert maker
    from mmneedle.tasks.text import maker_class

    made = maker_class(task)
    text: str | None = filler(5, 3000)
    identity = {"source": "filler", "sha256": ""}
    if task == "multidoc":
        text = caption_documents(ShapesSource(200, 1).photos())
    corpus = None
    if made.needs_corpus and text is not None:
        from mmneedle.texts import corpus as corpora

        corpus = corpora.identity(identity["source"], text), text
    given_ = Ingredients(task=task, tokenizer=tokenizer, corpus=corpus)
    length = LENGTHS.get(task, 3000)
    settings = _settings(task, [length], "0,40,100", "1", made.default_variants)
    return build_texts(folder, given_, dict.fromkeys(settings, samples))


@pytest.fixture(scope="module", params=TASKS)
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextDataSet:
    return text_set(tmp_path_factory.mktemp("texts") / "set", request.param)


def asked(texts: TextDataSet, k: int) -> ReadText:
    task = open_reader(Asked(k), texts.name, texts)
    assert isinstance(task, ReadText)
    return task


def test_all_units_are_the_whole_text(texts: TextDataSet) -> None:
    task = asked(texts, 10**6)
    for setting in texts.settings:
        for sample in texts.samples(setting):
            request = task.request(sample)
            assert request.prompt == texts.request(sample).prompt == sample.prompt
            assert request.reading is not None
            assert request.reading.share == 1
            assert all(request.reading.found)
            assert request.sample.expected == sample.expected  # type: ignore[union-attr]


def test_a_documents_number_is_no_answer(tmp_path: Path) -> None:
    """Whoever reads the seventh document alone has not read that there are seven."""
    towns = ("Arnby", "Belmor", "Carvey", "Dunlow", "Elstad", "Farrow", "Gorwen", "Holmly")
    gold = {"title": "Mills", "text": "There are 7 of them.", "hasanswer": True, "isgold": True}
    others = [
        {"title": town, "text": f"How many mills, {town}?", "hasanswer": False, "isgold": False}
        for town in towns
    ]
    line = {"question": "How many mills has Arnby?", "answers": ["7"], "ctxs": [gold, *others]}
    (tmp_path / "nq.jsonl").write_text(json.dumps(line))
    dataset = build_texts(
        tmp_path / "set",
        Ingredients(task="multidoc", questions=(tmp_path / "nq.jsonl",)),
        {TextSetting("multidoc.open", 9, depth): 1 for depth in (0, 500, 750, 1000)},
    )
    task = asked(dataset, 1)
    for setting in dataset.settings:
        sample = dataset.maker.sample(setting, 0)
        assert "Document 7:" in sample.prompt
        for unit in range(9):
            reading = task.reread(sample, (unit,)).reading
            assert reading is not None
            assert reading.holds == ((sample.details["gold"] - 1,),)
            assert reading.found == (unit == sample.details["gold"] - 1,)


def test_a_few_units_hold_the_needle_and_the_question(texts: TextDataSet) -> None:
    """Every default variant of every task; those that count or trace need all of the text."""
    task = asked(texts, 3)
    fresh = asked(TextDataSet.open(texts.folder), 3)
    for setting in texts.settings:
        for sample in texts.samples(setting):
            request = task.request(sample)
            reading = request.reading
            assert reading is not None
            assert request == fresh.request(sample)
            assert request == again(open_again(task.reader, texts.name, texts), sample, reading)
            start, stop = sample.details["haystack"]
            assert request.prompt.startswith(sample.prompt[:start])
            assert request.prompt.endswith(sample.prompt[stop:])
            if reading.of <= 3:
                continue
            assert len(reading.units) == 3
            assert len(request.prompt) < len(sample.prompt)
            if "counts" in sample.details:
                assert reading.found == ()
                continue
            assert all(reading.holds), sample.id
            read = set(reading.units)
            for needle, holds, found in zip(
                sample.expected, reading.holds, reading.found, strict=True
            ):
                assert not read & set(holds) or found
                if found:
                    assert any(word in request.prompt for word in needle)
            one = len(sample.expected) == 1
            if one and setting.task.partition(".")[0] != "latent":
                assert reading.found == (True,), sample.id


def test_units_of_tasks_that_are_no_running_text(texts: TextDataSet) -> None:
    kinds = {
        sample.details.get("units")
        for setting in texts.settings
        for sample in texts.samples(setting, 0, 1)
        if sample.details["haystack"][0] < sample.details["haystack"][1]
    }
    if texts.name in WHOLE:
        assert kinds <= {"pairs", "entries", "documents"}
        with pytest.raises(UserError, match="--chunk cuts running text"):
            open_reader(Asked(2, chunk=(100, 10)), texts.name, texts)
    assert asked(texts, 2).reader == open_reader(Asked(2), texts.name, texts).reader


def test_keyvalue_counts_pairs(tmp_path: Path) -> None:
    texts = text_set(tmp_path / "set", "keyvalue")
    task = asked(texts, 5)
    for setting in texts.settings:
        for sample in texts.samples(setting):
            request = task.request(sample)
            assert request.reading is not None and request.reading.of == setting.length
            body = request.prompt[request.prompt.index("{") : request.prompt.index("}") + 1]
            pairs = json.loads(body)
            assert len(pairs) == 5
            assert pairs[sample.details["keys"][0]] == sample.expected[0][0]
            assert request.reading.holds == tuple((at,) for at in sample.details["items"])


def test_a_run_of_a_model_that_searches(mmneedle: Shell, tmp_path: Path) -> None:
    """Over HTTP: it finds numbers in what it is sent, so it is right where the retriever was."""
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    mmneedle.ok(
        "build-text", "set", "niah", "--lengths", "4k", "--depths", "0,50,100", "--samples", 3,
        "--tokenizer", tokenizer,
    )  # fmt: skip

    lengths = []

    def search(ask: Ask) -> Reply:
        lengths.append(len(ask.prompt))
        thing = ask.prompt.rpartition("number of the ")[2].partition("?")[0]
        said = ask.prompt.partition(f"The secret number of the {thing} is ")[2].partition(".")[0]
        return ask.answer(said or "I do not know")

    with ChatServer(search) as server:
        command = (
            "run", "set", "--model", "openai/reader", "--base-url", server.url, "--quiet",
            "--log", "run", "--reader", "retrieve:2", "--chunk", "200:40",
        )  # fmt: skip
        mmneedle.ok(*command)
        assert "0 requests" in mmneedle.ok(*command)
        told = mmneedle.refused(*command[:-4])
        assert "--reader retrieve:2 bm25, chunks 200:40, now --reader long" in told
        told = mmneedle.refused(*command[:-2])
        assert "retrieve:2 bm25, chunks 200:40, now --reader retrieve:2 bm25;" in told
    assert max(lengths) < 2500  # of some 15,000 characters
    run = Run.open("run")
    assert run.header.reader is not None
    assert run.header.called == "openai/reader, retrieve:2 bm25, chunks 200:40"
    rows = score_text_run(run)
    assert [row.score for row in rows] == [1.0, 1.0, 1.0]
    assert rows[0].model == run.header.called
    assert run.header.called in mmneedle.ok("score", "run")


def test_show_and_estimate_know_the_reader(mmneedle: Shell, tmp_path: Path) -> None:
    mmneedle.ok(
        "build-text", "set", "keyvalue", "--lengths", "50", "--depths", "50", "--samples", 2
    )
    name = "keyvalue.after-l50-d500-k1-000001"
    printed = mmneedle.ok("show", "set", name, "--reader", "retrieve:4")
    assert "of 50 (" in printed and "what is asked for: read" in printed
    sample = TextDataSet.open("set").sample(name)
    request = asked(TextDataSet.open("set"), 4).request(sample)
    assert printed.startswith(request.prompt)
    shown = json.loads(mmneedle.ok("show", "set", name, "--reader", "retrieve:4", "--json"))
    assert shown["prompt"] == request.prompt
    assert shown["details"]["reading"]["of"] == 50
    command = ("estimate", "set", "--model", "openai/gpt-4o", "--json")
    whole = json.loads(mmneedle.ok(*command))
    part = json.loads(mmneedle.ok(*command, "--reader", "retrieve:4"))
    assert part["input_tokens"] < whole["input_tokens"] / 4


def test_a_needle_that_was_missed(tmp_path: Path) -> None:
    """Nobody can know what is not in what is read, not even the oracle."""
    texts = text_set(tmp_path / "set", "niah")
    task = asked(texts, 1)
    assert task.reader is not None
    blind = open_again(task.reader, texts.name, texts)
    for sample in texts.samples(texts.settings[0]):
        holds = task.request(sample).reading.holds[0]  # type: ignore[union-attr]
        assert holds
        other = next(unit for unit in range(10) if unit not in holds)
        request = blind.reread(sample, (other,))  # type: ignore[arg-type]
        assert request.reading is not None and request.reading.found == (False,)
        assert request.sample.expected == (("-1",),)  # type: ignore[union-attr]
        assert sample.expected[0][0] not in request.prompt
        with pytest.raises(UserError, match="has no unit"):
            blind.reread(sample, (10**6,))  # type: ignore[arg-type]


# --------------------------------------------------------------------------- twins


@pytest.fixture(scope="module", params=["last", "random", "shared"])
def cells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    rules = {"last": {}, "random": {"captions": "random"}, "shared": {"questions": 4}}
    settings = dict.fromkeys((Setting(3, 3, 3), Setting(2, 3, 3, 3)), 24)
    return build(
        tmp_path_factory.mktemp("cells") / "set",
        ShapesSource(200),
        settings,
        Rules(**rules[request.param]),  # type: ignore[arg-type]
        TileFormat(32, 32),
        workers=1,
    )


def test_a_literal_needle_is_always_retrieved(cells: DataSet) -> None:
    task = open_reader(Asked(6), "twin-literal", cells)
    assert isinstance(task, ReadTwin)
    for setting in cells.settings:
        for sample in cells.samples(setting):
            request = task.request(sample)
            assert request.reading is not None
            assert request.reading.found == (sample.positive,) * setting.needles
            assert request.prompt.count("\nrow ") == 6
            right = [str(place) if place else "-1" for place in sample.truth]
            assert find(request.prompt) == right  # the places are those of the whole haystack
            assert request == task.request(sample)


def test_all_cells_are_the_twin(cells: DataSet) -> None:
    for grade in ("literal", "paraphrase"):
        task = open_reader(Asked(10**6), f"twin-{grade}", cells)
        twin = TwinTask(cells, grade)  # type: ignore[arg-type]
        for setting in cells.settings:
            for sample in cells.samples(setting):
                request = task.request(sample)  # type: ignore[arg-type]
                assert request.prompt == twin.request(sample).prompt
                assert request.reading is not None and request.reading.share == 1


def test_on_real_captions_a_paraphrase_is_harder_to_retrieve(tmp_path: Path) -> None:
    source = find_coco(coco_mini(), None)
    setting = Setting(1, 8, 8)
    dataset = build(tmp_path / "set", source, {setting: 80}, None, TileFormat(32, 32), workers=1)
    recall = {}
    for grade in ("literal", "paraphrase"):
        task = open_reader(Asked(1), f"twin-{grade}", dataset)
        found = [
            task.request(sample).reading.found[0]  # type: ignore[arg-type,union-attr]
            for sample in dataset.samples(setting)
            if sample.positive
        ]
        recall[grade] = sum(found) / len(found)
    assert recall["literal"] == 1
    assert 0.3 < recall["paraphrase"] < 1


def test_twins_refuse_what_is_about_other_haystacks(cells: DataSet) -> None:
    for wanted, told in (
        (Asked(2, chunk=(10, 1)), "--chunk cuts running text"),
        (Asked(2, captions="literal"), "--captions is about images"),
        (Asked(2, "clip", Path("x")), "--retriever clip looks at photos, not at the cells"),
        (Asked(2, "embed", Path("nowhere")), "nowhere: no such folder"),
    ):
        with pytest.raises(UserError, match=told):
            open_reader(wanted, "twin-literal", cells)


def test_a_missing_package_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(
        UserError, match=r'needs the package bm25s \(pip install "mmneedle\[retrieve\]"\)'
    ):
        Bm25()


def test_embeddings_without_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "model")
    (folder / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r'need the package torch \(pip install "mmneedle\[hf\]"\)'):
        Embeddings(folder)
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"model.onnx: is no model"):
        Embeddings(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the package onnxruntime"):
        Embeddings(folder)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"need the package tokenizers"):
        Embeddings(folder)


def test_a_language_model_is_no_embedding_model(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "model")
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(UserError, match=r"goes on with texts \(LlamaForCausalLM\)"):
        Embeddings(folder)


def test_text_sets_refuse_what_is_about_images(tmp_path: Path) -> None:
    texts = text_set(tmp_path / "set", "niah", 1)
    for wanted, told in (
        (Asked(2, captions="literal"), "--captions is about images; niah is text"),
        (Asked(2, "clip", Path("x")), "--retriever clip looks at photos, not at text"),
    ):
        with pytest.raises(UserError, match=told):
            open_reader(wanted, "niah", texts)
    assert TextSetting.parse(texts.settings[0].name) == texts.settings[0]
