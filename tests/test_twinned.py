"""Images against text twins: a known split gives these numbers, and the sentence follows them."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import ONE, TEN, always_right, ok, text, write_run
from rounds import examples
from shell import Shell
from twin_runs import TASKS, write_forms, wrong

from mmneedle.comparing import compare, compare_runs, differences, why_not
from mmneedle.errors import UserError
from mmneedle.outcomes import Columns as Filling
from mmneedle.outcomes import outcomes
from mmneedle.reports.html import render_report
from mmneedle.reports.twins import headline, sentences
from mmneedle.reports.twins import json as as_json
from mmneedle.runlog import Record, Run
from mmneedle.statistics import clustered, wilson
from mmneedle.statistics.comparison import holm, mcnemar_exact
from mmneedle.twinned import LOST, twinned
from mmneedle.types import Location, Response, Setting, Usage, sample_id

KNOWN = [(40, "lp"), (10, ""), (2, "p"), (5, "l"), (4, "i"), (3, "ip"), (6, "il"), (130, "ilp")]
"""Positives: 40 lost to sight, 12 to context, 5 to meaning, 13 in text only, 130 right."""


def test_a_known_split_gives_exactly_these_numbers(tmp_path: Path) -> None:
    found = twinned(write_forms(tmp_path, KNOWN, [(20, "lp"), (180, "ilp")]))
    assert found.forms == ("image", "literal", "paraphrase")
    for one in (found.positives.overall, *found.positives.settings):
        assert (one.n, one.errors, one.unanswered) == (200, 57, 0)
        assert {part: share.hits for part, share in one.parts.items()} == {
            "context": 12, "meaning": 5, "sight": 40, "text": 13, "right": 130,
        }  # fmt: skip
        assert one.parts["sight"].interval == wilson(40, 200)
        assert one.of_errors["sight"].interval == wilson(40, 57)
        assert [one.of_errors[part].n for part in LOST] == [57] * 3
        assert [rate.hits for rate in one.rates] == [143, 181, 175]
        assert one.patterns == {
            (False, True, True): 40, (False, False, False): 10, (False, False, True): 2,
            (False, True, False): 5, (True, False, False): 4, (True, False, True): 3,
            (True, True, False): 6, (True, True, True): 130,
        }  # fmt: skip
    counts = {
        (pair.a, pair.b): pair.comparison.overall.result.counts for pair in found.positives.pairs
    }
    assert (counts["image", "literal"].only_a, counts["image", "literal"].only_b) == (7, 45)
    assert (counts["image", "paraphrase"].only_a, counts["image", "paraphrase"].only_b) == (10, 42)
    assert (counts["literal", "paraphrase"].only_a, counts["literal", "paraphrase"].only_b) == (
        11,
        5,
    )
    raw = [mcnemar_exact(7, 45), mcnemar_exact(10, 42), mcnemar_exact(11, 5)]
    raw += [mcnemar_exact(0, 20), mcnemar_exact(0, 20), 1.0]
    pairs = [*found.positives.pairs, *found.negatives.pairs]
    assert [pair.holm for pair in pairs] == pytest.approx(holm(raw))
    assert found.negatives.overall.parts["sight"].hits == 20
    assert found.tokens == {TEN: pytest.approx((1001, 301, 331), abs=0.1)}


def test_without_a_paraphrase_meaning_counts_as_sight_and_that_is_said(tmp_path: Path) -> None:
    found = twinned(write_forms(tmp_path, KNOWN, forms=("literal", "image")))
    parts = found.positives.overall.parts
    assert [parts[part].hits for part in LOST] == [12, 0, 45]
    assert (parts["text"].hits, parts["right"].hits) == (7, 136)
    assert any("No paraphrase twin was given" in note for note in found.notes)
    assert "is sight or meaning: 45 of 57" in headline(found, found.positives)
    assert "meaning" not in as_json(found)["positives"]["overall"]["parts"]


@pytest.mark.parametrize(
    ("positives", "said"),
    [
        ([(40, "lp"), (10, ""), (150, "ilp")], "Most of the loss in images is sight: 40 of 50"),
        ([(10, "lp"), (40, ""), (150, "ilp")], "Less than half of the loss in images is sight: 10"),
        ([(20, "lp"), (20, "l"), (160, "ilp")], "Whether sight is more than half"),
        ([(20, "lp"), (20, "i"), (160, "ilp")], "That images lose anything, the data cannot tell"),
        (
            [(20, "l"), (30, "il"), (150, "ilp")],
            "Images lose more than the literal text, but not more than the paraphrased text",
        ),
        (
            [(5, "lp"), (40, "i"), (155, "ilp")],
            "Images are no loss: positives right are 97.5 % in images",
        ),
        ([(40, "il"), (160, "ilp")], "Nothing is lost in images: none of 200 positives is wrong."),
    ],
)
def test_the_sentence_follows_the_numbers(
    tmp_path: Path, positives: list[tuple[int, str]], said: str
) -> None:
    found = twinned(write_forms(tmp_path, positives))
    assert headline(found, found.positives).startswith(said)
    assert sentences(found)[0].startswith(said)
    assert headline(found, found.negatives).startswith("Nothing is lost in images: none of 200")


def test_what_lacks_an_answer_is_counted_and_bounds_the_split(tmp_path: Path) -> None:
    found = twinned(write_forms(tmp_path, [(40, "lp"), (3, "Ilp"), (2, "iL"), (60, "ilp")]))
    assert (found.positives.overall.n, found.positives.overall.unanswered) == (100, 5)
    assert "5 samples more lack an answer" in sentences(found)[0]
    assert "40 to 45 of 105 are lost to sight" in sentences(found)[0]


@examples(30)
@given(
    st.dictionaries(
        st.sampled_from(["", "i", "l", "p", "il", "ip", "lp", "ilp"]), st.integers(1, 6), min_size=1
    )
)
def test_every_sample_is_one_part_and_errors_differ_by_what_one_form_loses(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, int]
) -> None:
    pattern = [(count, letters) for letters, count in wanted.items()]
    found = twinned(write_forms(tmp_path_factory.mktemp("runs"), pattern, pattern))
    for side in (found.positives, found.negatives):
        one = side.overall
        assert sum(share.hits for share in one.parts.values()) == one.n == sum(wanted.values())
        assert sum(one.parts[part].hits for part in LOST) == one.errors
        assert sum(one.patterns.values()) == one.n
        for pair, form in zip(side.pairs[:2], (1, 2), strict=True):
            counts = pair.comparison.overall.result.counts
            lost = one.n - one.rates[form].hits
            assert one.errors - lost == counts.only_b - counts.only_a
    assert all(sentences(found))


def test_settings_add_up_and_shared_haystacks_are_the_units(tmp_path: Path) -> None:
    def answer(form: str) -> Any:
        def say(setting: Setting, index: int, truth: Any) -> Response:
            lost = form == "image" and index // 8 % 2 and setting == TEN
            return ok(wrong(setting, index, truth) if lost else text(truth))

        return say

    runs = [
        write_run(tmp_path / form, answer(form), {ONE: 80, TEN: 160}, task=task, questions=8)
        for form, task in TASKS.items()
    ]
    found = twinned(runs)
    one, ten = found.positives.settings
    assert (one.n, one.parts["sight"].hits) == (40, 0)
    assert (ten.n, ten.parts["sight"].hits) == (80, 40)
    assert ten.parts["sight"].interval == clustered([0, 4] * 10, [4] * 20)
    assert ten.of_errors["sight"].interval == clustered([4] * 10, [4] * 10) != wilson(40, 40)
    assert (found.positives.overall.n, found.positives.overall.errors) == (120, 40)
    assert found.positives.pairs[0].comparison.settings[1].result.test == "sign_flip"
    assert any("different numbers of samples" in note for note in found.notes)


def test_index_and_existence_have_their_own_split(tmp_path: Path) -> None:
    runs = write_forms(tmp_path, [(10, "lp"), (30, "ilp")], setting=Setting(1, 2, 2))
    assert twinned(runs, "exact").positives.overall.parts["sight"].hits == 10
    assert twinned(runs, "index").positives.overall.parts["sight"].hits == 0
    assert twinned(runs, "existence").positives.overall.errors == 0


# --------------------------------------------------------------------------- refusals


def test_what_are_no_twins_is_told_in_one_line(mmneedle: Shell, tmp_path: Path) -> None:
    image, literal, _ = write_forms(tmp_path, [(5, "ilp")])
    other = write_run(tmp_path / "other", always_right, {TEN: 10}, task="twin-literal")
    elsewhere = write_run(
        tmp_path / "elsewhere", always_right, {TEN: 10}, task="twin-literal",
        model="test/model", fingerprint="b" * 64,
    )  # fmt: skip
    later = write_run(
        tmp_path / "later", always_right, {TEN: 10}, task="twin-literal", model="test/model",
        start=10,
    )  # fmt: skip
    for runs, said in (
        ([image], "--task twin-literal"),
        ([literal], "a run of the images"),
        ([image, other], "different models"),
        ([image, elsewhere], "different data sets"),
        ([image, later], "no sample was asked of both"),
        ([image, literal, elsewhere], "both of the task twin-literal"),
    ):
        line = mmneedle.refused("twins", *(run.folder for run in runs))
        assert said in line, line


def test_other_tasks_are_no_twins(tmp_path: Path) -> None:
    image, literal, paraphrase = write_forms(tmp_path, [(5, "ilp")])
    niah = Run(msgspec.structs.replace(image.header, task="niah"), image.folders)
    with pytest.raises(UserError, match="niah, neither images nor a text twin"):
        twinned([niah, literal])
    for one, other in ((image, literal), (literal, paraphrase), (image, paraphrase)):
        assert why_not(one.header, other.header) is None
    assert "different tasks" in (why_not(image.header, niah.header) or "")
    assert "other forms" in differences(["a", "b"], [image, literal])[0]
    assert compare_runs([image, literal]).pairs[0].comparison.overall.result.counts.both == 5


def test_other_parameters_are_said_but_not_those_of_images(tmp_path: Path) -> None:
    image, literal = write_forms(tmp_path, [(5, "ilp")], forms=("image", "literal"))
    adapter = {**literal.header.adapter, "detail": "low"}
    assert len(twinned([image, with_adapter(literal, adapter)]).notes) == 1
    notes = twinned([image, with_adapter(literal, {**adapter, "temperature": 1.0})]).notes
    assert any("parameters differ (temperature)" in note for note in notes)


def with_adapter(run: Run, adapter: dict[str, Any]) -> Run:
    return Run(msgspec.structs.replace(run.header, adapter=adapter), run.folders)


def test_tokens_of_an_earlier_attempt_do_not_shine_through(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {TEN: 2})
    table = Filling(run, TEN)
    for response in (
        Response("ok", text="1, 1, 1", usage=Usage(input_tokens=7)),
        Response("ok", text="1, 1, 1"),
    ):
        record = Record(
            sample=sample_id(TEN, 0), truth=(Location(1, 1, 1),), attempt=1, at="",
            request_sha256=None, response=response,
        )  # fmt: skip
        table.fill(0, 0, 0, record)
    assert str(table.done().input_tokens[0]) == "nan"


# --------------------------------------------------------------------------- as a user


def test_the_verb_prints_and_its_json_holds_everything(mmneedle: Shell, tmp_path: Path) -> None:
    runs = write_forms(tmp_path, KNOWN, [(20, "lp"), (180, "ilp")])
    folders = [run.folder for run in runs]
    out = mmneedle.ok("twins", *folders)
    assert re.search(r"\(10,2\) +200 .* 12 +5 +40 +13 +0\n", out)
    assert "Most of the loss in images is sight: 40 of 57 wrong positives" in out
    assert re.search(r"\(10,2\) +1,001 +301 +331", out)
    back = json.loads(mmneedle.ok("twins", *folders[::-1], "--json"))
    assert back["positives"]["overall"]["parts"]["sight"]["hits"] == 40
    assert sum(one["samples"] for one in back["positives"]["overall"]["patterns"]) == 200
    assert [one["form"] for one in back["forms"]] == list(TASKS)
    assert back["sentences"] == sentences(twinned(runs))
    paper = json.loads(mmneedle.ok("twins", *folders, "--scorer", "paper", "--json"))
    assert paper["scorer"] == "paper"


def test_the_tables_agree_with_compare(tmp_path: Path) -> None:
    runs = write_forms(tmp_path, KNOWN)
    found = twinned(runs).positives.pair("image", "paraphrase").comparison
    assert found == compare(outcomes(runs[0]), outcomes(runs[2]))


def test_the_report_has_a_section_for_twins_of_one_model(tmp_path: Path) -> None:
    runs = write_forms(tmp_path / "a", KNOWN)
    page = render_report(runs)
    assert 'id="twins-1"' in page
    assert "Most of the loss in images is sight: 40 of 57 wrong positives" in page
    assert 'id="twins-1"' not in render_report(runs[:1])
    stranger = write_run(tmp_path / "b", always_right, {TEN: 20}, model="other/model")
    assert 'id="twins-1"' not in render_report([stranger, *runs[1:]])
