import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.data.official import read_official, score_official
from mmneedle.errors import UserError
from mmneedle.scoring import METRICS
from mmneedle.types import Location, Setting

# --------------------------------------------------------------------------- the oracle


def published_figures(entries, needles):
    """The official script's figures for one response file, written down from its description.

    Every entry has a truth and a response; a null response is passed over.
    """
    exist, index, exact, first_index, first_exact, each_index, each_exact = ([] for _ in METRICS)
    negative = False
    for entry in entries:
        truth, given_text = entry["ground_truth"], entry["response"]
        if given_text is None:
            continue
        given_text = given_text.replace("\n", "").strip().strip(".").strip()
        true_parts = truth.split("; ")
        true_index = [part.split(", ")[0] for part in true_parts]
        negative = true_index[0] == "0"
        if negative:
            truth = "-1"
        if needles == 1:
            refusals = ["-1"]
            parts = [given_text]
        else:
            refusals = [
                "-1",
                "; ".join(["-1"] * needles),
                ", ".join(["-1"] * needles),
                "-1" * needles,
                "; ".join(["-1, -1, -1"] * needles),
            ]
            parts = [part.strip() for part in given_text.split("; ")]
            given_text = "; ".join(parts)
        given_index = [part.split(", ")[0] for part in parts]
        exist.append((truth == "-1") == (given_text in refusals))
        index.append(true_index == given_index)
        exact.append(truth == given_text)
        first_index.append(true_index[0] == given_index[0])
        first_exact.append(true_parts[0] == parts[0])
        for i in range(min(len(parts), len(true_parts))):
            each_index.append(true_index[i] == given_index[i])
            each_exact.append(true_parts[i] == parts[i])
    lists = [exist, index, exact, first_index, first_exact, each_index, each_exact]
    shares = [sum(one) / len(one) if one else None for one in lists]
    if negative:
        shares[1:] = [None] * 6
    if needles == 1:
        shares[3:] = [None] * 4
    return dict(zip(METRICS, shares, strict=True)), len(exist)


NUMBERS = st.integers(1, 3)
TRIPLES = st.builds("{}, {}, {}".format, NUMBERS, NUMBERS, NUMBERS)
ANSWERS = st.one_of(
    TRIPLES,
    st.just("-1"),
    st.just("-1, -1, -1"),
    st.builds("{},{},{}".format, NUMBERS, NUMBERS, NUMBERS),
    st.sampled_from(["", "No match found", "1", "1, ", "-1;", "0, 0, 0", ".", "I'm sorry."]),
    st.text("1, ;.-\n", max_size=9),
)
BETWEEN = st.sampled_from(["; ", "; ", "; ", ";", ", ", ";  ", " ; ", "\n", "; \n", ""])
EDGES = st.text(" .\n\t", max_size=3)


@st.composite
def texts(draw, needles):
    if draw(st.integers(0, 9)) == 0:
        return None
    parts = draw(st.lists(ANSWERS, min_size=1, max_size=needles + 1))
    if draw(st.booleans()):
        parts = draw(st.lists(st.sampled_from(parts), min_size=needles, max_size=needles))
    return draw(EDGES) + draw(BETWEEN).join(parts) + draw(EDGES)


@st.composite
def response_files(draw):
    needles = draw(st.sampled_from([1, 2, 5]))
    positive = draw(st.booleans())
    entries = []
    for number in range(draw(st.integers(1, 12))):
        places = draw(st.lists(TRIPLES, min_size=needles, max_size=needles))
        truth = "; ".join(places if positive else ["0, 0, 0"] * needles)
        right = st.just(truth if positive else "-1")
        text = draw(st.one_of(right, texts(needles)))
        entries.append({"id": number, "response": text, "ground_truth": truth})
    return needles, positive, entries


@given(response_files())
def test_paper_rows_are_the_official_figures_to_the_last_digit(tmp_path_factory, generated):
    needles, positive, entries = generated
    suffix = f"_needles_{needles}" if needles > 1 else ""
    folder = tmp_path_factory.mktemp("official")
    write(folder / f"COCO_val2014_0_99/Some_model_3_3_3{suffix}.json", entries)
    robust, paper = score_official(folder)
    expected, answered = published_figures(entries, needles)
    assert {metric: getattr(paper, metric) for metric in METRICS} == expected
    assert (paper.n, paper.answered) == (len(entries), answered)
    assert (robust.n, robust.answered) == (len(entries), answered)
    assert paper.split == robust.split == ("positive" if positive else "negative")


def write(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding="utf-8")


def entry(number, response, truth, **more):
    return {"id": number, "response": response, "ground_truth": truth, "caption": "c", **more}


# --------------------------------------------------------------------------- by hand


def test_one_needle_by_hand(tmp_path):
    answers = ["1, 2, 3", "1, 2, 3.", "1,2,3", "1, 3, 3", "-1", "No match found", None, "2, 2, 3"]
    name = "Azure_2024-05-01-preview_10_4_4.json"
    positives = [entry(i, answer, "1, 2, 3") for i, answer in enumerate(answers)]
    negatives = [entry(5000 + i, answer, "0, 0, 0") for i, answer in enumerate(answers)]
    write(tmp_path / "response" / "COCO_val2014_0_999" / name, positives)
    write(tmp_path / "response" / "COCO_val2014_5000_5999" / name, negatives)
    rows = {(row.split, row.scorer): row for row in score_official(tmp_path)}
    assert {(row.model, row.task) for row in rows.values()} == {
        ("Azure_2024-05-01-preview", "official")
    }
    paper = rows["positive", "paper"]
    assert (paper.n, paper.answered) == (8, 7)
    assert (paper.existence, paper.index, paper.exact) == (6 / 7, 3 / 7, 2 / 7)
    robust = rows["positive", "robust"]
    assert (robust.existence, robust.index, robust.exact) == (5 / 7, 4 / 7, 3 / 7)
    assert robust.bounds["exact"] == (3 / 8, 4 / 8)
    assert robust.statuses == {"ok": 7, "server_error": 1}
    assert rows["negative", "paper"].existence == 1 / 7
    assert rows["negative", "robust"].existence == 2 / 7
    assert rows["negative", "paper"].index is None


def test_several_needles_by_hand(tmp_path):
    truth = "1, 2, 3; 2, 1, 1"
    answers = [
        "1, 2, 3; 2, 1, 1",
        "1, 2, 3",
        "1, 1, 1; 2, 1, 1; 3, 3, 3",
        "-1; -1",
        "-1, -1, -1; -1, -1, -1",
    ]
    write(
        tmp_path / "COCO_val2014_0_99" / "Gemini_g_10_4_4_needles_2.json",
        [entry(i, answer, truth) for i, answer in enumerate(answers)],
    )
    _, paper = score_official(tmp_path)
    assert (paper.needles, paper.existence, paper.index, paper.exact) == (2, 3 / 5, 1 / 5, 1 / 5)
    assert (paper.first_index, paper.first_exact) == (3 / 5, 2 / 5)
    # positions compared: 2 + 1 + 2 + 2 + 2
    assert (paper.all_index, paper.all_exact) == (5 / 9, 4 / 9)


# --------------------------------------------------------------------------- folders and names


@pytest.mark.parametrize("given_folder", [".", "response", "response/COCO_val2014_0_9"])
def test_any_folder_above_will_do(tmp_path, monkeypatch, given_folder):
    write(
        tmp_path / "response/COCO_val2014_0_9/Anthropic_claude-3_1_2_2.json",
        [entry(0, "1, 1, 1", "1, 1, 1")],
    )
    write(tmp_path / "metadata_stitched/annotations_1_2_2.json", [{"other": "file"}])
    assert [one.id for one in read_official(tmp_path / given_folder)] == [0]
    monkeypatch.chdir(tmp_path / "response" / "COCO_val2014_0_9")
    assert [one.id for one in read_official(".")] == [0]


def test_names_are_read_from_the_right(tmp_path):
    names = {
        "Azure_my_model_v2_10_8_8.json": ("Azure_my_model_v2", Setting(10, 8, 8)),
        "Azure_m_1_2_1_2_2_needles_5.json": ("Azure_m_1_2", Setting(1, 2, 2, 5)),
        "X_y_3_2_5.json": ("X_y", Setting(3, 2, 5)),
    }
    for name, (_, setting) in names.items():
        truth = "; ".join(["1, 1, 1"] * setting.needles)
        write(tmp_path / "COCO_val2014_0_9" / name, [entry(0, "-1", truth)])
    found = {one.file.name: (one.model, one.setting) for one in read_official(tmp_path)}
    assert found == names


@pytest.mark.parametrize(
    ("truth", "needles", "expected"),
    [
        ("1, 2, 1", 1, (Location(1, 2, 1),)),
        ("0, 0, 0", 1, (None,)),
        ("-1", 1, (None,)),
        ("-1, -1, -1", 1, (None,)),
        ("1, 2, 1; 2, 1, 2", 2, (Location(1, 2, 1), Location(2, 1, 2))),
        ("0, 0, 0; 0, 0, 0", 2, (None, None)),
        ("-1", 2, (None, None)),
        ("-1; -1", 2, (None, None)),
        (["1, 2, 1", "2, 1, 2"], 2, (Location(1, 2, 1), Location(2, 1, 2))),
        ([[1, 2, 1], [2, 1, 2]], 2, (Location(1, 2, 1), Location(2, 1, 2))),
        ([1, 2, 1], 1, (Location(1, 2, 1),)),
        (["-1", "-1"], 2, (None, None)),
    ],
)
def test_truths(tmp_path, truth, needles, expected):
    suffix = f"_needles_{needles}" if needles > 1 else ""
    write(tmp_path / f"COCO_val2014_0_9/A_b_2_2_2{suffix}.json", [entry(0, "x", truth)])
    assert [one.truth for one in read_official(tmp_path)] == [expected]


def test_texts_keep_their_words(tmp_path):
    texts = ["1, 2, 1", "", " \n", None, "\ud800 lone", "émoji 😀"]
    write(
        tmp_path / "COCO_val2014_0_9/A_b_2_2_2.json",
        [entry(i, text, "1, 1, 1") for i, text in enumerate(texts)],
    )
    found = [one.response for one in read_official(tmp_path)]
    assert [one.text for one in found] == texts
    assert [one.status for one in found] == ["ok", "empty", "empty", "server_error", "ok", "ok"]
    score_official(tmp_path)


# --------------------------------------------------------------------------- what is wrong


def raises(folder, *words):
    with pytest.raises(UserError) as caught:
        score_official(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_no_response_files(tmp_path):
    raises(tmp_path, str(tmp_path), "no response files")
    raises(tmp_path / "none", "no response files")
    (tmp_path / "COCO_val2014_0_9").mkdir()
    raises(tmp_path, "no response files")


@pytest.mark.parametrize(
    "name",
    [
        *("notes.json", "Azure_10_8_8.json", "_b_1_2_2.json", "A_b_10_8.json", "A_b_0_8_8.json"),
        *("A_b_1_2_2_needles_0.json", "A_b_1_2_2_needles_x.json"),
    ],
)
def test_names_that_are_none(tmp_path, name):
    write(tmp_path / "COCO_val2014_0_9" / name, [])
    raises(tmp_path, name, "not the name of a response file")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not JSON"),
        (b"[{]", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[" + b"9" * 10_000 + b"]", "not JSON"),
        (b"{}", "not a list"),
        (b"null", "not a list"),
        (b"[1]", "entry 1: is not an object"),
        (b'[{"id": 0, "response": "-1"}]', "entry 1: has no ground_truth"),
        (b'[{"id": 0, "ground_truth": "-1"}]', "has no response"),
        (b'[{"response": "-1", "ground_truth": "-1"}]', "has no id"),
        (b'[{"id": [], "response": "-1", "ground_truth": "-1"}]', "its id"),
        (b'[{"id": 0, "response": 7, "ground_truth": "-1"}]', "its response"),
        (b'[{"id": 0, "response": "x", "ground_truth": "1, 2"}]', "no cell"),
        (b'[{"id": 0, "response": "x", "ground_truth": "1, 2, 3"}]', "no cell of n2-g2x2-k1"),
        (b'[{"id": 0, "response": "x", "ground_truth": "3, 1, 1"}]', "no cell"),
        (
            b'[{"id": 0, "response": "x", "ground_truth": "a, b, c"}]',
            "ground_truth holds 'a, b, c'",
        ),
        (b'[{"id": 0, "response": "x", "ground_truth": "1, 1, 1; 1, 1, 2"}]', "2 needles, not 1"),
        (b'[{"id": 0, "response": "x", "ground_truth": null}]', "ground_truth is None"),
        (b'[{"id": 0, "response": "x", "ground_truth": []}]', "ground_truth is []"),
        (b'[{"id": 0, "response": "x", "ground_truth": [[1.5, 1, 1]]}]', "ground_truth holds"),
    ],
)
def test_content_that_is_none(tmp_path, content, word):
    path = tmp_path / "COCO_val2014_0_9" / "A_b_2_2_2.json"
    path.parent.mkdir()
    path.write_bytes(content)
    raises(tmp_path, str(path), word)


def test_a_truth_must_be_positive_or_negative(tmp_path):
    write(
        tmp_path / "COCO_val2014_0_9/A_b_2_2_2_needles_2.json",
        [entry(0, "x", "1, 1, 1; 0, 0, 0")],
    )
    raises(tmp_path, "both positive and negative")


def test_a_sample_in_two_files(tmp_path):
    for folder in ("COCO_val2014_0_9", "COCO_val2014_0_99"):
        write(tmp_path / folder / "A_b_2_2_2.json", [entry(3, "-1", "1, 1, 1")])
    raises(tmp_path, "COCO_val2014_0_9/", "COCO_val2014_0_99/", "sample 3")


def test_other_files_are_passed_over(tmp_path):
    write(tmp_path / "COCO_val2014_0_9/A_b_2_2_2.json", [entry(0, "-1", "1, 1, 1")])
    (tmp_path / "COCO_val2014_0_9/notes.txt").write_text("x")
    (tmp_path / "COCO_val2014_0_9/._A_b_2_2_2.json").write_bytes(b"\0")
    assert len(score_official(tmp_path)) == 2
