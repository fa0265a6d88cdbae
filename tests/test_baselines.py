import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import LARGE, SMALL, FakeTask, fake_sample
from scipy.stats import binomtest, chisquare

from mmneedle.adapters import create
from mmneedle.errors import UserError
from mmneedle.types import Location, Request, Response, Sample, Setting

MANY = 4000


def ask(model: str, sample: Sample, **options: Any) -> str:
    adapter = create(model, **options)
    assert not adapter.wants_images
    response = asyncio.run(adapter.generate(FakeTask().request(sample, with_images=False)))
    assert response.status == "ok"
    assert response.text
    return response.text


def answers(model: str, setting: Setting = SMALL, count: int = MANY) -> list[tuple[Sample, str]]:
    async def main() -> list[tuple[Sample, str]]:
        adapter = create(model)
        samples = [fake_sample(setting, index) for index in range(count)]
        requests = [Request(sample, "", ()) for sample in samples]
        return [(r.sample, (await adapter.generate(r)).text or "") for r in requests]

    return asyncio.run(main())


def truth(sample: Sample) -> str:
    return "; ".join("-1" if at is None else str(at) for at in sample.truth)


@pytest.mark.parametrize("setting", [SMALL, LARGE])
@pytest.mark.parametrize("index", [0, 1, 6, 7])
def test_the_plain_ones(setting: Setting, index: int) -> None:
    sample = fake_sample(setting, index)
    assert ask("baseline/oracle", sample) == truth(sample)
    assert ask("baseline/never", sample) == "; ".join(["-1"] * setting.needles)
    assert ask("baseline/first", sample) == "; ".join(["1, 1, 1"] * setting.needles)


def test_the_format_is_the_official_one() -> None:
    assert ask("baseline/oracle", fake_sample(SMALL, 2)) == "1, 1, 2"
    assert ask("baseline/oracle", fake_sample(LARGE, 2)) == "3, 1, 2; 1, 1, 3"


def cells(setting: Setting) -> set[str]:
    return {
        str(Location(i + 1, r + 1, c + 1))
        for i in range(setting.images)
        for r in range(setting.rows)
        for c in range(setting.cols)
    }


@pytest.mark.parametrize("setting", [SMALL, Setting(3, 2, 4, 1)])
def test_always_names_any_cell_alike(setting: Setting) -> None:
    counts = Counter(text for _, text in answers("baseline/always", setting))
    assert set(counts) == cells(setting)
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_random_says_absent_half_the_time_and_else_any_cell() -> None:
    counts = Counter(text for _, text in answers("baseline/random"))
    assert binomtest(counts.pop("-1"), MANY).pvalue > 1e-4
    assert set(counts) == cells(SMALL)
    assert chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.0, 0.25, 0.8, 1.0])
def test_noisy_is_right_with_probability_p_and_else_wrong_in_any_way(p: float) -> None:
    given = answers(f"baseline/noisy?p={p}")
    for positive in (True, False):
        split = [(sample, text) for sample, text in given if sample.positive == positive]
        right = sum(text == truth(sample) for sample, text in split)
        assert binomtest(right, len(split), p).pvalue > 1e-4
        wrong = Counter(text for sample, text in split if text != truth(sample))
        if p < 1:
            # A positive's wrong answers: "-1" as often as each of the three cells that are wrong
            # for that sample; a cell is wrong for three quarters of the samples.
            share = dict.fromkeys(cells(SMALL), 3 / 16 if positive else 1 / 4)
            share |= {"-1": 1 / 4} if positive else {}
            assert set(wrong) == set(share)
            expected = [share[text] * wrong.total() for text in wrong]
            assert chisquare(list(wrong.values()), expected).pvalue > 1e-4


def test_several_needles_are_answered_one_by_one() -> None:
    given = answers("baseline/noisy?p=0.5", LARGE)
    right = Counter(
        tuple(a == b for a, b in zip(text.split("; "), truth(sample).split("; "), strict=True))
        for sample, text in given
    )
    assert set(right) == {(a, b) for a in (True, False) for b in (True, False)}
    assert chisquare(list(right.values())).pvalue > 1e-4


@pytest.mark.parametrize("model", ["baseline/random", "baseline/always", "baseline/noisy?p=0.5"])
def test_answers_depend_on_the_sample_alone(model: str) -> None:
    samples = [fake_sample(SMALL, index) for index in range(20)]
    forwards = [ask(model, sample) for sample in samples]
    assert [ask(model, sample) for sample in reversed(samples)] == forwards[::-1]
    assert len(set(forwards)) > 1


def test_answers_never_change() -> None:
    """The same for good: published baselines must stay what they were."""
    sample = fake_sample(LARGE, 4)
    assert ask("baseline/random", sample) == "2, 2, 4; -1"
    assert ask("baseline/always", sample) == "2, 2, 4; 1, 1, 2"
    assert ask("baseline/noisy?p=0.3", sample) == "2, 1, 3; 3, 1, 2"


def test_models_say_what_they_are() -> None:
    noisy = create("baseline/noisy", p="0.25")
    assert noisy.model == "baseline/noisy?p=0.25"
    assert noisy.fingerprint() == create("baseline/noisy?p=0.250").fingerprint()
    assert noisy.fingerprint() != create("baseline/noisy").fingerprint()
    assert create("baseline/noisy").model == "baseline/noisy?p=0.8"
    assert create("baseline/oracle", base_url=None).model == "baseline/oracle"


def test_a_script_is_played_in_order(tmp_path: Path) -> None:
    sample = fake_sample(SMALL, 0)
    script = tmp_path / "answers.jsonl"
    lines = [
        {"sample": sample.id, "status": "rate_limited", "retry_after": 1.0},
        {"sample": "n1-g2x2-k1-000009", "text": "x"},
        {"sample": sample.id, "text": "1, 1, 1"},
    ]
    script.write_text("\n".join(map(json.dumps, lines)))

    async def main() -> list[Response]:
        adapter = create(f"baseline/scripted?file={script}")
        request = FakeTask().request(sample, with_images=False)
        given = [await adapter.generate(request) for _ in range(3)]
        with pytest.raises(UserError, match="no answer for sample n1-g2x2-k1-000001"):
            await adapter.generate(Request(fake_sample(SMALL, 1), "", ()))
        return given

    given = asyncio.run(main())
    assert given == [
        Response("rate_limited", retry_after=1.0),
        Response("ok", "1, 1, 1"),
        Response("ok", "1, 1, 1"),
    ]
    before = create(f"baseline/scripted?file={script}").fingerprint()
    script.write_text(script.read_text().replace("1, 1, 1", "1, 1, 2"))
    assert create(f"baseline/scripted?file={script}").fingerprint() != before


@pytest.mark.parametrize(
    "line",
    ["nonsense", "[]", '{"text": "x"}', '{"sample": "a", "status": "fine"}', '{"sample": 1}'],
)
def test_a_wrong_script_is_named(tmp_path: Path, line: str) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text(f'{{"sample": "n1-g2x2-k1-000000", "text": "x"}}\n{line}\n')
    with pytest.raises(UserError, match=r"answers.jsonl: line 2 is no scripted answer"):
        create("baseline/scripted", file=str(script))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            "gpt-4o",
            {},
            "no model 'gpt-4o' (did you mean openai/gpt-4o?); known are anth",
        ),
        ("baseline/", {}, "no model 'baseline/'"),
        ("nobody/x", {}, "no model 'nobody/x'; known are"),
        ("openia/x", {}, "no model 'openia/x' (did you mean openai/x?); known are"),
        ("gemini/x", {}, "(did you mean google/x?)"),
        ("openai", {}, "(did you mean openai/NAME?)"),
        ("baseline/noisy?p=1&p=0.5", {}, "baseline/noisy: p is given twice in the model's name"),
        ("baseline/\udcff", {}, "holds characters that are no text"),
        ("openai/x", {"base_url": "http://\ud800"}, "holds characters that are no text"),
        ("baseline/best", {}, "no baseline 'best'; known are oracle, never, first, always, random"),
        ("baseline/noisy?p=2", {}, "p is '2', not a number from 0 to 1"),
        ("baseline/noisy?p=nan", {}, "p is 'nan', not a number from 0 to 1"),
        ("baseline/noisy?p=", {}, "p is '', not a number"),
        ("baseline/noisy?q=1", {}, "has no option 'q'; it takes p"),
        ("baseline/noisy?p", {}, "options look like"),
        ("baseline/noisy?p=1", {"p": 1}, "p is given twice"),
        ("baseline/oracle", {"base_url": "http://x"}, "no option 'base_url'; it takes none"),
        ("baseline/scripted", {}, "needs its answers"),
        ("baseline/scripted?file=/nowhere", {}, "/nowhere: cannot be read"),
    ],
)
def test_what_is_wrong_is_said(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        create(model, **options)
    assert message in str(caught.value)
