import json
import re
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmneedle.scoring import METRICS, SCORERS, Tally, score, score_run, to_json
from mmneedle.statistics import clustered, wilson
from mmneedle.types import ANSWERED, Location, Response, Setting, Status, Usage, sample_id

ONE = Setting(10, 4, 4)
TWO = Setting(10, 4, 4, 2)
HERE = (Location(1, 2, 3),)
GONE = (None,)
BOTH = (Location(1, 2, 3), Location(2, 1, 1))
NEITHER = (None, None)


def said(text, setting=ONE, truth=HERE, scorer="robust", status="ok"):
    return score(setting, truth, Response(status, text), scorer)


def flags(scored):
    return scored.existence, scored.index, scored.exact


# --------------------------------------------------------------------------- one needle


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("1, 2, 3", (True, True, True), None),
        ("Image 1, row 2, column 3", (True, True, True), None),
        ("1, 3, 2", (True, True, False), "wrong_cell"),
        ("2, 2, 3", (True, False, False), "wrong_image"),
        ("11, 2, 3", (True, False, False), "out_of_range"),
        ("1, 2, 5", (True, True, False), "out_of_range"),
        ("1, 0, 3", (True, True, False), "out_of_range"),
        ("-1", (False, False, False), "missed"),
        ("No match found.", (False, False, False), "missed"),
        ("A dog.", (False, False, False), "unparsed"),
        ("I'm sorry, I can't assist with that.", (False, False, False), "refused"),
        ("", (False, False, False), "unparsed"),
    ],
)
def test_robust_on_a_positive(text, expected, kind):
    scored = said(text)
    assert (flags(scored), scored.kinds) == (expected, (kind,))
    assert (scored.first_index, scored.first_exact, scored.all_index, scored.all_exact) == (
        None,
    ) * 4


@pytest.mark.parametrize(
    ("text", "existence", "kind"),
    [
        ("-1", True, None),
        ("None of the subimages match the caption.", True, None),
        ("1, 2, 3", False, "hallucinated"),
        ("99, 2, 3", False, "hallucinated"),
        ("A dog.", False, "unparsed"),
        ("As an AI, I cannot help with this.", False, "refused"),
    ],
)
def test_robust_on_a_negative(text, existence, kind):
    scored = said(text, truth=GONE)
    assert (flags(scored), scored.kinds) == ((existence, None, None), (kind,))


@pytest.mark.parametrize("truth", [HERE, GONE])
@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        ("refused", "1, 2, 3", "refused"),
        ("refused", "-1", "refused"),
        ("refused", None, "refused"),
        ("truncated", "1, 2, 3", "unparsed"),
        ("truncated", "-1", "unparsed"),
        ("empty", None, "unparsed"),
        ("empty", "", "unparsed"),
    ],
)
def test_robust_counts_answers_that_name_nothing_as_wrong(status, text, kind, truth):
    scored = said(text, truth=truth, status=status)
    assert not scored.existence
    assert scored.kinds == (kind,)


@pytest.mark.parametrize(
    ("text", "expected", "kind"),
    [
        ("1, 2, 3", (True, True, True), None),
        (" 1, 2, 3.\n", (True, True, True), None),
        ("1,2,3", (True, False, False), "unparsed"),
        ("1, 3, 2", (True, True, False), "wrong_cell"),
        ("1, and so on", (True, True, False), "unparsed"),
        ("(1, 2, 3)", (True, False, False), "unparsed"),
        ("-1", (False, False, False), "missed"),
        ("-1.", (False, False, False), "missed"),
        ("No match found", (True, False, False), "unparsed"),
        ("", (True, False, False), "unparsed"),
    ],
)
def test_paper_on_a_positive(text, expected, kind):
    scored = said(text, scorer="paper")
    assert (flags(scored), scored.kinds) == (expected, (kind,))


@pytest.mark.parametrize(
    ("text", "existence", "kind"),
    [("-1", True, None), ("1, 2, 3", False, "hallucinated"), ("No match", False, "unparsed")],
)
def test_paper_on_a_negative(text, existence, kind):
    scored = said(text, truth=GONE, scorer="paper")
    assert (flags(scored), scored.kinds) == ((existence, None, None), (kind,))


def test_paper_reads_any_text_and_drops_null():
    assert said("1, 2, 3", scorer="paper", status="truncated").exact
    assert said("1, 2, 3", scorer="paper", status="refused").exact
    for status in ANSWERED:
        assert said(None, scorer="paper", status=status) is None


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("status", sorted(set(Status.__args__) - ANSWERED))
def test_what_is_no_answer_is_not_scored(status, scorer):
    assert said("1, 2, 3", scorer=scorer, status=status) is None


def test_an_unknown_scorer():
    with pytest.raises(ValueError, match="no scorer 'exact'"):
        said("1, 2, 3", scorer="exact")


# --------------------------------------------------------------------------- several needles


@pytest.mark.parametrize(
    ("text", "expected", "first", "pooled", "kinds"),
    [
        ("1, 2, 3; 2, 1, 1", (True, True, True), (True, True), ((2, 2), (2, 2)), (None, None)),
        (
            "1, 2, 3; 2, 1, 2",
            (True, True, False),
            (True, True),
            ((2, 2), (1, 2)),
            (None, "wrong_cell"),
        ),
        (
            "3, 2, 3; 2, 1, 1",
            (True, False, False),
            (False, False),
            ((1, 2), (1, 2)),
            ("wrong_image", None),
        ),
        (
            "1, 2, 3; -1",
            (False, False, False),
            (True, True),
            ((1, 2), (1, 2)),
            (None, "missed"),
        ),
        (
            "1, 2, 3",
            (False, False, False),
            (True, True),
            ((1, 2), (1, 2)),
            (None, "unparsed"),
        ),
        ("-1", (False, False, False), (False, False), ((0, 2), (0, 2)), ("missed", "missed")),
    ],
)
def test_robust_on_several(text, expected, first, pooled, kinds):
    scored = said(text, TWO, BOTH)
    assert flags(scored) == expected
    assert (scored.first_index, scored.first_exact) == first
    assert (scored.all_index, scored.all_exact) == pooled
    assert scored.kinds == kinds


@pytest.mark.parametrize(
    ("text", "existence", "kinds"),
    [
        ("-1; -1", True, (None, None)),
        ("-1", True, (None, None)),
        ("-1; 1, 2, 3", False, (None, "hallucinated")),
        ("1, 2, 3; 2, 1, 1", False, ("hallucinated", "hallucinated")),
        ("Caption_2: -1", False, ("unparsed", None)),
    ],
)
def test_robust_on_several_negatives(text, existence, kinds):
    scored = said(text, TWO, NEITHER)
    assert (flags(scored), scored.kinds) == ((existence, None, None), kinds)


def test_paper_pools_over_the_shorter_list_robust_over_all_needles():
    paper, robust = (said("1, 2, 3", TWO, BOTH, scorer) for scorer in ("paper", "robust"))
    assert (paper.all_index, paper.all_exact) == ((1, 1), (1, 1))
    assert (robust.all_index, robust.all_exact) == ((1, 2), (1, 2))
    assert flags(paper) == (True, False, False)
    assert (paper.first_index, paper.first_exact) == (True, True)
    longer = said("1, 2, 3; 2, 1, 1; 3, 3, 3", TWO, BOTH, "paper")
    assert flags(longer) == (True, False, False)
    assert (longer.all_index, longer.all_exact) == ((2, 2), (2, 2))


# --------------------------------------------------------------------------- properties

NUMBERS = st.integers(-1, 5)
PARTS = st.one_of(
    st.just("-1"),
    st.builds("{}, {}, {}".format, NUMBERS, NUMBERS, NUMBERS),
    st.builds("{},{},{}".format, NUMBERS, NUMBERS, NUMBERS),
    st.text(max_size=8),
)
SPEECH = st.one_of(st.none(), st.lists(PARTS, max_size=4).map("; ".join))
RESPONSES = st.builds(Response, st.sampled_from(Status.__args__), SPEECH)


@st.composite
def questions(draw):
    setting = Setting(
        *(draw(st.integers(1, 4)) for _ in range(3)), draw(st.sampled_from([1, 2, 5]))
    )
    sizes = (setting.images, setting.rows, setting.cols)
    cell = st.builds(Location, *(st.integers(1, size) for size in sizes))
    if draw(st.booleans()):
        return setting, (None,) * setting.needles
    return setting, tuple(draw(cell) for _ in range(setting.needles))


@given(questions(), RESPONSES)
def test_exact_index_existence_are_ordered(question, response):
    setting, truth = question
    scored = score(setting, truth, response, "robust")
    assert (scored is None) == (response.status not in ANSWERED)
    if scored is None:
        return
    assert len(scored.answers) == len(scored.kinds) == setting.needles
    if truth[0] is None:
        assert scored.existence == (scored.kinds == (None,) * setting.needles)
        assert flags(scored)[1:] == (None, None)
        return
    assert scored.exact <= scored.index <= scored.existence
    assert scored.exact == (scored.kinds == (None,) * setting.needles)
    if setting.needles > 1:
        assert scored.exact <= scored.first_exact <= scored.first_index
        assert scored.all_exact[0] <= scored.all_index[0] <= scored.all_index[1] == setting.needles
        assert scored.exact == (scored.all_exact == (setting.needles, setting.needles))


@given(st.lists(st.tuples(questions(), RESPONSES), max_size=12))
def test_rows_are_sums_of_scores_and_every_sample_is_accounted_for(asked):
    tally = Tally()
    for (setting, truth), response in asked:
        tally.add(setting, truth, response)
    rows = tally.rows("m", "t")
    keys = {(setting, truth[0] is not None) for (setting, truth), _ in asked}
    assert len(rows) == 2 * len(keys)
    for row in rows:
        mine = [
            (response, score(setting, truth, response, row.scorer))
            for (setting, truth), response in asked
            if setting == row.setting and (truth[0] is not None) == (row.split == "positive")
        ]
        scores = [one for _, one in mine if one is not None]
        assert (row.n, row.answered) == (len(mine), len(scores))
        assert sum(row.statuses.values()) == row.n
        assert sum(row.kinds.values()) == sum(kind is not None for s in scores for kind in s.kinds)
        for metric in METRICS:
            values = [getattr(one, metric) for one in scores]
            pairs = [v if isinstance(v, tuple) else (v, 1) for v in values if v is not None]
            share = getattr(row, metric)
            if not pairs:
                assert share is None
                assert metric not in row.interval
                continue
            hits, total = (sum(column) for column in zip(*pairs, strict=True))
            assert share == hits / total
            assert row.interval[metric] == wilson(hits, total)
            worst, best = row.bounds[metric]
            assert 0 <= worst <= share <= best <= 1
            if row.n == row.answered:
                assert worst == share == best


# --------------------------------------------------------------------------- rows of a run


def fake_run(setting, texts, plan, statuses=None, questions=1, usage=None):
    """A run whose samples answer `texts` by index; a sample without a text was never tried."""
    records = [
        SimpleNamespace(
            sample=sample_id(setting, index),
            truth=HERE if index % 2 == 0 else GONE,
            reading=None,
            response=Response((statuses or {}).get(index, "ok"), text, usage=usage),
        )
        for index, text in texts.items()
    ]
    header = SimpleNamespace(
        model="baseline/fake",
        called="baseline/fake",
        task="grid",
        plan=plan,
        dataset_fingerprint="c0ffee",
        asked=lambda at, positive: sum(i % 2 != positive for i in range(*plan[at.name])),
        cell_text=lambda at: "96",
        haystack=lambda index: index // questions if questions > 1 else None,
        prices=None,
        stopped={},
    )
    return SimpleNamespace(
        header=header,
        folder=Path("runs/fake"),
        outcomes=lambda: iter(records),
        records=lambda: iter(records),
    )


def test_missing_answers_are_bounded_never_counted():
    texts = {0: "1, 2, 3", 1: "-1", 2: "1, 1, 1", 3: "1, 2, 3", 4: None, 6: "2, 2, 2"}
    run = fake_run(ONE, texts, {ONE.name: (0, 10)}, {4: "timeout"})
    positive, _, negative, _ = score_run(run)
    assert (positive.run, positive.dataset) == ("runs/fake", "c0ffee")
    assert positive.effective_cell == "96"
    assert (positive.n, positive.answered) == (5, 3)
    assert (positive.existence, positive.index, positive.exact) == (1.0, 2 / 3, 1 / 3)
    assert positive.bounds == {"existence": (0.6, 1.0), "index": (0.4, 0.8), "exact": (0.2, 0.6)}
    assert positive.statuses == {"missing": 1, "ok": 3, "timeout": 1}
    assert positive.kinds == {"wrong_cell": 1, "wrong_image": 1}
    assert positive.interval["exact"] == wilson(1, 3)
    assert (negative.n, negative.answered, negative.existence) == (5, 2, 0.5)
    assert negative.bounds == {"existence": (0.2, 0.8)}
    assert negative.index is None
    assert negative.statuses == {"missing": 3, "ok": 2}


def test_questions_that_share_a_haystack_are_a_cluster():
    # Eight questions each on three haystacks; the second one is too hard.
    texts = {i: "1, 1, 1" if 8 <= i < 16 else "1, 2, 3" if i % 2 == 0 else "-1" for i in range(24)}
    del texts[20], texts[22]
    for questions in (1, 8):
        run = fake_run(ONE, texts, {ONE.name: (0, 24)}, questions=questions)
        positive, negative = score_run(run, ["robust"])
        assert (positive.answered, positive.exact, negative.existence) == (10, 0.6, 8 / 12)
        if questions == 1:
            assert (positive.interval_method, positive.clusters) == ("wilson", None)
            assert positive.interval["exact"] == wilson(6, 10)
        else:
            assert (positive.interval_method, positive.clusters) == ("cluster_bootstrap", 3)
            assert positive.interval["exact"] == clustered([4, 0, 2], [4, 4, 2])
            assert negative.interval["existence"] == clustered([4, 0, 4], [4, 4, 4])
            assert positive.interval["existence"] == wilson(3, 3)


def test_tokens_and_money_of_a_split():
    texts = {0: "1, 2, 3", 1: "-1", 2: "1, 2, 3"}
    run = fake_run(ONE, texts, {ONE.name: (0, 4)}, usage=Usage(1000, 5, 750))
    positive, negative = score_run(run, ["robust"])
    assert (positive.spent["input_tokens"], positive.spent["cached_tokens"]) == (2000, 1500)
    assert (positive.spent["cached_share"], positive.spent["usd"]) == (0.75, None)
    assert negative.spent["output_tokens"] == 5
    (silent, _) = score_run(fake_run(ONE, texts, {ONE.name: (0, 4)}), ["robust"])
    assert silent.spent == {}


def test_a_run_without_answers_has_rows():
    rows = score_run(fake_run(TWO, {}, {TWO.name: (0, 4)}))
    assert [(row.split, row.scorer) for row in rows] == [
        ("positive", "robust"),
        ("positive", "paper"),
        ("negative", "robust"),
        ("negative", "paper"),
    ]
    for row in rows:
        assert (row.n, row.answered, row.existence, row.interval) == (2, 0, None, {})
        assert row.statuses == {"missing": 2}
        assert set(row.bounds.values()) == {(0.0, 1.0)}
    assert set(rows[0].bounds) == set(METRICS)
    assert set(rows[2].bounds) == {"existence"}


def test_only_what_was_asked_for():
    run = fake_run(ONE, {0: "1, 2, 3"}, {ONE.name: (0, 1)})
    (row,) = score_run(run, iter(["paper"]))
    assert (row.scorer, row.split, row.n) == ("paper", "positive", 1)


def test_settings_keep_the_order_of_the_plan():
    other = Setting(1, 3, 5)
    run = fake_run(ONE, {0: "1, 2, 3"}, {ONE.name: (0, 2), other.name: (0, 2)})
    rows = score_run(run, ["robust"])
    assert [(row.setting, row.grid) for row in rows] == [(ONE, 4)] * 2 + [(other, "3x5")] * 2


def test_pooled_scores_bound_every_needle_of_a_missing_sample():
    tally = Tally(["robust"])
    tally.add(TWO, BOTH, Response("ok", "1, 2, 3; 2, 2, 2"))
    (row,) = tally.rows("m", "t", {(TWO, True): 3})
    assert row.all_exact == 0.5
    assert row.bounds["all_exact"] == (1 / 6, 5 / 6)
    assert row.bounds["exact"] == (0.0, 2 / 3)


# --------------------------------------------------------------------------- headline, JSON


def test_the_documented_json():
    text = (Path(__file__).parent.parent / "docs" / "score-json.md").read_text(encoding="utf-8")
    (documented,) = json.loads(text.partition("```json")[2].partition("```")[0])
    setting = Setting(10, 8, 8)
    tally = Tally(["robust"])
    for answer in ("1, 2, 3", "1, 1, 1", "2, 1, 1"):
        tally.add(setting, HERE, Response("ok", answer))
    tally.add(setting, HERE, Response("timeout"))
    (row,) = to_json(tally.rows("baseline/oracle", "grid"))
    plain = json.loads(msgspec.json.encode(row))
    assert list(plain) == list(documented)
    for name, pair in documented.pop("interval").items():
        assert plain["interval"][name] == pytest.approx(pair)
    plain.pop("interval")
    documented |= {"run": "", "dataset": ""}  # a tally alone knows neither
    assert plain == documented
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert [name for names in table for name in re.findall(r"\w+", names)] == list(row)
