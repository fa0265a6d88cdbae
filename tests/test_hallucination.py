"""Each vice is found and nothing else is claimed; a model without vices is left alone."""

from collections import Counter, defaultdict

import hallucination_models as models
import numpy as np
import pytest
from hallucination_models import SETTINGS, errs, points, run_of
from hypothesis import given
from hypothesis import strategies as st
from rounds import examples

from mmneedle.reports.hallucination import examine, to_json
from mmneedle.reports.hallucination.evidence import typeset
from mmneedle.reports.hallucination.suspects import nearest
from mmneedle.types import Setting

MADE_UP = {"existence.informed", "existence.lean_yes"}
"""True of every model here that is right about what is there and makes things up otherwise."""


def notable(study):
    return {one.key for one in study.findings if one.verdict == "notable"}


def keys(study):
    return [one.key for one in study.findings]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (models.oracle, set()),
        (models.guesser, set()),
        (models.yes_sayer, {"existence.yes_sayer"}),
        (models.no_sayer, {"existence.no_sayer"}),
        (models.honest, {"existence.informed"}),
        (points(models.anywhere), MADE_UP),
        (points(models.corner), MADE_UP | {"pointing.corners"}),
        (points(models.example), MADE_UP | {"pointing.example"}),
        (points(models.first_image), MADE_UP | {"pointing.first_image"}),
        (points(models.last_image), MADE_UP | {"pointing.last_image"}),
        (points(models.always_same), MADE_UP | {"pointing.repeated"}),
        (errs(models.transposed), {"looking.transposed"}),
        (errs(models.zero_based, 1.0), {"looking.all_zero_based"}),
        (errs(models.zero_based_cells, 1.0), {"looking.zero_based"}),
        (errs(models.previous_image), {"looking.previous_image_cell"}),
        (errs(models.row_off), {"looking.row_off"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_vice_is_found_and_no_other_is_claimed(answer, found):
    """It is found every time; something else seldom, as the level allows."""
    others = 0
    for seed in range(10):
        claimed = notable(examine(run_of(answer, 100, seed), draws=999))
        assert claimed >= found
        others += claimed != found
    assert others <= 2  # P(more than 2 of 10 | 5 %) = 1.2 %


@pytest.fixture(scope="module")
def guesses():
    """Two hundred runs of a model that guesses."""
    return [examine(run_of(models.guesser, 40, seed), draws=999) for seed in range(200)]


def test_a_guesser_is_seldom_accused(guesses):
    """Any finding about it is false: no more than the level's 5 % of reports have one."""
    accused = sum(bool(notable(study)) for study in guesses)
    assert accused <= 17  # P(more than 17 of 200 | 5 %) = 1.6 %


def test_tests_hold_their_level_one_by_one(guesses):
    small: dict[str, list[bool]] = defaultdict(list)
    for study in guesses:
        for key, p in study.levels.raw.items():
            small[key].append(p < 0.05)
    assert len(small) > 40
    for key, hits in small.items():
        assert np.mean(hits) < 0.115, key  # four standard errors above 5 %


@pytest.mark.parametrize(
    ("answer", "true"),
    [
        (models.honest, {"existence.informed"}),
        (points(models.anywhere), MADE_UP),
        (errs(models.wrong_cell), {"existence.informed", "existence.lean_no"}),
    ],
    ids=["honest", "points anywhere", "errs anywhere"],
)
def test_models_without_a_habit_are_seldom_accused(answer, true):
    accused = 0
    for seed in range(40):
        accused += bool(notable(examine(run_of(answer, 40, seed), draws=999)) - true)
    assert accused <= 5  # P(more than 5 of 40 | 5 %) = 1.4 %


def test_answers_about_one_haystack_may_be_alike():
    """A model that answers by the haystack, not the caption, has no habit of place."""

    def sticky(rng, setting, truth):
        haystack = np.arange(len(truth)) // 8
        cells = models.guesser(rng, setting, np.zeros((haystack.max() + 1, 3)))
        mine = models.guesser(rng, setting, truth)
        return np.where(rng.random((len(truth), 1)) < 0.8, cells[haystack], mine)

    accused = Counter()
    for seed in range(24):
        for shared in (8, 1):
            run = run_of(sticky, 64, seed, questions=shared)
            accused[shared] += bool(notable(examine(run, draws=999)))
    assert accused[8] <= 4
    assert accused[1] > 18  # what it would be, were the haystacks not known


def test_two_vices_are_both_found():
    def where(rng, setting, count):
        some = rng.random((count, 1)) < 0.5
        return np.where(
            some, models.example(rng, setting, count), models.last_image(rng, setting, count)
        )

    found = notable(examine(run_of(points(where, 0.8), 200)))
    assert found == MADE_UP | {"pointing.example", "pointing.last_image"}


def test_a_vice_within_a_vice_is_found():
    """Corners, and of these those of the last image."""

    def where(rng, setting, count):
        cells = models.corner(rng, setting, count)
        cells[:, 0] = setting.images
        return cells

    found = notable(examine(run_of(points(where), 100)))
    assert found == MADE_UP | {"pointing.corners", "pointing.last_image"}


def test_an_uneven_habit_without_a_name_is_told():
    """It points at the black fields of a chessboard: none of the suspects."""

    def where(rng, setting, count):
        cells = models.anywhere(rng, setting, count)
        white = cells[:, 1:].sum(axis=1) % 2 == 1
        cells[white, 2] += np.where(cells[white, 2] % 2 == 1, 1, -1)
        return cells

    found = notable(examine(run_of(points(where), 200, settings=SETTINGS[1:3])))
    assert found == MADE_UP | {"pointing.uneven_cells"}


def test_a_habit_of_naming_the_middle_is_no_nearness():
    """A model that always names a middle cell is near the truth more often than chance is."""
    shape = Setting(1, 4, 4)

    def middle(rng, setting, truth):
        return np.column_stack([truth * 0 + 1])[:, [0, 0, 0]] + [0, 1, 1]

    study = examine(run_of(middle, 400, settings=[shape]))
    near = next(one for one in study.looking.measured[0] if one.key == "looking.neighbour")
    assert near.seen.value > near.expected + 0.1
    assert not near.claimed
    assert notable(study) == {"existence.yes_sayer", "pointing.repeated"}


def test_recall_is_lost_in_the_middle():
    def answer(rng, setting, truth):
        said = truth.copy()
        middle = abs(truth[:, 0] - (setting.images + 1) / 2) < setting.images / 4
        lost = middle & (truth[:, 0] > 0) & (rng.random(len(truth)) < 0.7)
        said[lost] = models.ABSENT
        return said

    study = examine(run_of(answer, 200, settings=SETTINGS[3:]))
    assert "recall.image_middle" in notable(study)
    assert "recall.image_trend" not in notable(study)
    text = next(one.text for one in study.findings if one.key == "recall.image_middle")
    assert "lost in the middle" in text


def test_a_gap_of_settings_is_no_gap_of_places():
    """Easy and hard settings with their needles elsewhere: pooled counts would show a gap."""
    easy, hard = Setting(1, 3, 3), Setting(1, 8, 8)

    def answer(rng, setting, truth):
        said = truth.copy()
        lost = (truth[:, 0] > 0) & (rng.random(len(truth)) < (0.05 if setting == easy else 0.6))
        said[lost] = models.ABSENT
        return said

    study = examine(run_of(answer, 400, settings=[easy, hard]))
    rim = study.recall.places["recall.cell_rim"]
    pooled = rim.high.value - rim.low.value
    assert abs(pooled) > 0.1  # a ninth of the cells of one setting is inner, a third of the other's
    assert abs(rim.gap) < 0.07
    assert rim.interval[0] < 0 < rim.interval[1]
    even = next(one for one in study.findings if one.key == "recall.even")
    assert even.verdict == "no evidence"
    assert "weighted alike over settings" in even.text
    shown = to_json(study)["recall"]["places"]["recall.cell_rim"]
    assert (shown["gap"], shown["interval"]) == (rim.gap, rim.interval)


def test_the_nearest_habit_is_one_that_was_seen():
    """On equal p the most beyond chance; what is rarer than by chance is no habit."""
    nothing = models.measured("never", hits=0, n=273, expected=0.09)
    little = models.measured("little", hits=30, n=273, expected=0.1)
    more = models.measured("more", hits=40, n=273, expected=0.1)
    assert nearest([nothing, little, more]).key == "more"
    assert nearest([nothing]) is None


def test_patterns_that_never_happened_are_not_called_nearest():
    """It errs far off, in another row and column: no pattern is as frequent as by chance."""

    def far(rng, setting, truth):
        said = truth.copy()
        for at in np.flatnonzero((truth[:, 0] > 0) & (rng.random(len(truth)) < 0.5)):
            row, column = truth[at, 1:]
            away = [
                (r, c)
                for r in range(1, 9)
                for c in range(1, 9)
                if min(abs(r - row), abs(c - column)) >= 2 and (r, c) != (column, row)
            ]
            said[at, 1:] = away[rng.integers(len(away))]
        return said

    study = examine(run_of(far, 300, settings=[Setting(1, 8, 8)]))
    text = next(one.text for one in study.findings if one.key == "looking.none")
    assert "none of 7 patterns is seen more often than by chance" in text


def test_recall_that_is_a_habit_is_not_recall():
    """A model that names the first cell always "finds" what is there, and nothing else."""

    def first(rng, setting, truth):
        return np.ones((len(truth), 3), int)

    study = examine(run_of(first, 200))
    assert notable(study) == {"existence.yes_sayer", "pointing.first_cell"}
    assert "recall.luck" in keys(study)


def test_larger_haystacks_and_look_alikes():
    def answer(rng, setting, truth):
        said = truth.copy()
        made = (truth[:, 0] < 0) & (rng.random(len(truth)) < np.log2(setting.cells) / 11)
        said[made] = models.anywhere(rng, setting, int(made.sum()))
        return said

    study = examine(run_of(answer, 200))
    assert notable(study) == MADE_UP | {"existence.size"}
    text = next(one.text for one in study.findings if one.key == "existence.size")
    assert text.startswith("Larger haystacks bring more false alarms")

    def deceived(rng, setting, truth):
        return models.oracle(rng, setting, truth)

    run = run_of(deceived, 200)
    for table in run.values():
        for marks in table.marks.values():
            fooled = table.hard & (table.number % 4 == 1)
            marks.existence[fooled] = 0
            marks.kind[fooled, 0] = 2
            marks.said[fooled, 0] = 1
    study = examine(run)
    hard = next(one for one in study.findings if one.key == "existence.hard")
    assert hard.verdict == "notable" and hard.text.startswith("Look-alikes deceive it more")


def test_chance_is_said_where_it_is():
    """A model that knows at small haystacks and guesses at (10,8), as the paper's do."""

    def answer(rng, setting, truth):
        way = models.guesser if setting.cells == 640 else models.oracle
        return way(rng, setting, truth)

    study = examine(run_of(answer, 300))
    one = next(one for one in study.findings if one.key == "existence.n10-g8x8-k1")
    assert one.verdict == "no evidence"
    assert "At (10,8) it cannot be told from chance" in one.text
    assert "the paper’s" in one.text


def test_few_answers_are_called_few():
    study = examine(run_of(points(models.corner), 8, settings=[Setting(1, 4, 4)]))
    assert notable(study) == set()
    said = {one.key: one.verdict for one in study.findings}
    assert said["pointing.none"] == "cannot tell: too few"


def test_the_first_three_sentences_say_what_it_is():
    study = examine(run_of(points(models.corner), 100))
    assert [one.family for one in study.findings[:3]] == ["existence", "pointing", "existence"]
    assert "corner" in study.findings[1].text
    study = examine(run_of(models.guesser, 100))
    assert "cannot be told from chance" in study.findings[0].text
    assert [one.verdict for one in study.findings[:3]] == ["no evidence"] * 3


# --------------------------------------------------------------------------- probabilities


def trusted(rng, positive):
    """Probabilities of "-1" that are right: truth is drawn first, so they are made from it."""
    signal = rng.normal(np.where(positive, -1.0, 1.0), 1.0)
    return 1 / (1 + np.exp(-2 * signal))  # the posterior of two normals one apart from 0


def overconfident(rng, positive):
    signal = rng.normal(np.where(positive, -1.0, 1.0), 1.0)
    return 1 / (1 + np.exp(-8 * signal))


def shy(rng, positive):
    """Knows, but its threshold is wrong: it hardly ever says "-1"."""
    signal = rng.normal(np.where(positive, -1.0, 1.0), 1.0)
    return 1 / (1 + np.exp(-2 * signal + 6))


def test_right_probabilities_are_trusted():
    accused = 0
    for seed in range(24):
        study = examine(run_of(models.guesser, 100, seed, absent=trusted), draws=999)
        accused += "calibration.ece" in notable(study)
        assert study.calibration.ece_expected == pytest.approx(study.calibration.ece, abs=0.05)
        assert "calibration.auroc" in notable(study)
    assert accused <= 3


@pytest.mark.parametrize("wrong", [overconfident, shy])
def test_wrong_probabilities_are_not(wrong):
    study = examine(run_of(models.yes_sayer, 100, absent=wrong))
    assert {"calibration.ece", "calibration.auroc", "calibration.threshold"} <= notable(study)
    assert study.calibration.best_youden > 0.5 > study.calibration.own_youden
    sizes = [one.absent.n for one in study.calibration.bins]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == 700


def test_probabilities_that_know_nothing():
    def noise(rng, positive):
        return rng.random(len(positive))

    accused = Counter()
    for seed in range(24):
        run = run_of(models.guesser, 60, seed, absent=noise)
        accused.update(notable(examine(run, draws=999)) - {"calibration.ece"})
    assert accused.total() <= 4


# --------------------------------------------------------------------------- invariants


def several(rng, setting, truth):
    """Anything that a model may answer: right, absent, any cell, a cell outside, unreadable."""
    said = models.guesser(rng, setting, truth)
    way = rng.integers(0, 5, len(truth))
    said[way == 0] = truth[way == 0]
    said[way == 1] = rng.integers(-3, 40, (int((way == 1).sum()), 3)).clip(0)
    said[way == 2] = models.UNREAD
    return said


@examples(30)
@given(
    st.lists(
        st.builds(Setting, st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.integers(1, 40),
    st.integers(0, 10**6),
    st.sampled_from([1, 4]),
)
def test_whatever_is_answered_the_figures_hold_together(shapes, n, seed, questions):
    study = examine(run_of(several, n, seed, settings=shapes, questions=questions), draws=99)
    assert study.answers == n * len(shapes)
    assert all(0 <= p <= 1 for p in study.levels.raw.values())
    assert all(study.levels.adjusted[key] >= p for key, p in study.levels.raw.items())
    for one in [*study.pointing.measured, *(m for some in study.looking.measured for m in some)]:
        assert 0 <= one.expected <= 1 and 0 <= one.seen.hits <= one.seen.n
    points = study.pointing
    assert sum(int(c.sum()) for c in points.counts.values()) == points.alarms - points.outside
    assert 0 <= study.looking.in_image <= study.looking.wrong <= study.looking.asked
    for row in study.existence.settings:
        if row.youden is not None:
            assert row.youden_interval[0] <= row.youden <= row.youden_interval[1]
        if row.precision is not None:
            assert row.precision_interval[0] <= row.precision <= row.precision_interval[1]
    for one in study.findings:
        assert one.text.endswith(".") and "nan" not in one.text and "None" not in one.text
        assert (one.verdict == "notable") <= (
            one.adjusted is None
            or one.adjusted < 0.05
            or one.key in ("existence.yes_sayer", "existence.no_sayer")
        )
        assert typeset(one.text).replace("\N{NO-BREAK SPACE}", " ") == one.text
    to_json(study)


def test_perfect_precision_may_be_perfect():
    for row in examine(run_of(models.oracle, 80), draws=99).existence.settings:
        assert (row.precision, row.precision_interval[1]) == (1, 1)
        assert (row.mcc, row.mcc_interval[1]) == (1, 1)


def test_the_same_answers_give_the_same_study():
    one, two = (to_json(examine(run_of(several, 60, 5))) for _ in range(2))
    assert one == two
