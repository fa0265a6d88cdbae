"""vllm/PATH on the real engine, with the model that comes along: answers mean something."""

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from asking import ask
from engine_loop import MODEL, Engine, truth

from mmneedle.adapters import create
from mmneedle.adapters.vllm_inputs import Preprocessor, haystack_key
from mmneedle.errors import UserError
from mmneedle.stitching.dataset import DataSet
from mmneedle.tasks.twins import TwinTask
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Needs, Request, Response, Setting

BLOCK = 128  # tokens that vLLM's prefix cache on a CPU keeps together


@pytest.fixture(scope="module")
def answers(engine: Engine, requests: list[Request]) -> list[Response]:
    engine.forget()
    return engine.ask(requests)


# --------------------------------------------------------------------------- answers


def test_answers_are_right(answers: list[Response], requests: list[Request]) -> None:
    right = sum(a.text == truth(r) for a, r in zip(answers, requests, strict=True))
    assert right >= len(requests) - 1
    assert {answer.status for answer in answers} == {"ok"}


def test_transformers_gives_the_same(
    answers: list[Response], requests: list[Request], needs: list[Needs]
) -> None:
    pytest.importorskip("mmneedle.adapters.hf")
    other = create(f"hf/{WEIGHTS}", logprobs=True, engine_args={"dtype": "float32"})
    other.prepare(needs)  # type: ignore[attr-defined]
    for one, two in zip(answers, ask(other, requests), strict=True):
        assert one.usage and two.usage
        assert (one.text, one.usage.input_tokens) == (two.text, two.usage.input_tokens)
        assert one.absent_logprob == pytest.approx(two.absent_logprob, abs=0.02)


def test_the_order_of_images_moves_the_answer(engine: Engine, requests: list[Request]) -> None:
    asked = [r for r in requests if r.sample.setting.images == 10 and r.sample.positive]
    turned = [msgspec.structs.replace(r, images=r.images[::-1]) for r in asked]
    for before, after in zip(engine.ask(asked), engine.ask(turned), strict=True):
        image, place = str(before.text).split(", ", 1)
        assert after.text == f"{11 - int(image)}, {place}"


def test_what_a_response_holds(answers: list[Response], requests: list[Request]) -> None:
    for answer, request in zip(answers, requests, strict=True):
        assert answer.usage and answer.usage.output_tokens
        assert answer.latency and answer.first_token and answer.first_token < answer.latency
        assert answer.stop_reason == "stop"
        assert answer.model == create(MODEL).checkpoint.version  # type: ignore[attr-defined]
        assert answer.absent_logprob is not None
        says_no = answer.absent_logprob > -0.7
        assert says_no == (answer.text == "-1"), request.sample.id


# --------------------------------------------------------------------------- shared haystacks


def test_questions_sent_at_once_share_what_their_haystack_costs(
    engine: Engine, requests: list[Request]
) -> None:
    eight = [r for r in requests if r.sample.setting.images == 10][:8]
    assert len({haystack_key(r) for r in eight}) == 1
    prompts = [engine.adapter.inputs.work.prepare(r, "x").tokens for r in eight]
    shared = next(at for at, column in enumerate(zip(*prompts, strict=False)) if len({*column}) > 1)
    engine.forget()
    cached = [answer.usage.cached_tokens for answer in engine.ask(eight) if answer.usage]
    whole = shared // BLOCK * BLOCK
    assert whole
    assert cached.count(0) == 1
    assert sorted(cached)[1:] == [whole] * 7


def test_images_of_a_haystack_are_prepared_once(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    original = Preprocessor.prepare

    def counting(self: Preprocessor, request: Request, key: str) -> object:
        prepared.append(request.sample.id)
        return original(self, request, key)

    monkeypatch.setattr(Preprocessor, "prepare", counting)
    engine.ask([r for r in requests if r.sample.setting.images == 10])
    assert len(prepared) <= 2  # of two haystacks; what the engine core has still is not sent again


def test_the_tokens_of_a_further_question_are_those_of_vllm_itself(
    engine: Engine, requests: list[Request]
) -> None:
    first, second = [r for r in requests if r.sample.setting.images == 3][:2]
    work = engine.adapter.inputs.work
    derived = work.prepare(first, "x").ask(work.render(second))
    assert derived == work.prepare(second, "y").tokens


def test_pixels_that_were_let_go_are_sent_again(engine: Engine, requests: list[Request]) -> None:
    """More haystacks at once, twice, than the engine core's cache of pixels holds."""
    many = [
        msgspec.structs.replace(r, images=(*r.images[k:], *r.images[:k]))
        for r in requests
        if r.sample.setting.images == 10
        for k in (0, 3, 6)
    ]
    first = engine.ask(many)
    again = engine.ask(many)
    assert [a.text for a in first] == [a.text for a in again]
    assert {a.status for a in first + again} == {"ok"}


def test_pixels_that_only_the_front_end_believes_in_are_sent_again(
    engine: Engine, requests: list[Request]
) -> None:
    asked = [r for r in requests if r.sample.setting.images == 3]
    before = engine.ask(asked)
    engine.wait(engine.adapter.engine.engine_core.reset_mm_cache_async())
    after = engine.ask(asked)
    assert {a.status for a in after} == {"ok"}
    assert [a.text for a in after] == [a.text for a in before]


def test_the_first_requests_do_not_overtake_each_other(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine asks its core something before its first request; here the first asks longest."""
    llm = engine.adapter.engine
    known, waits = llm._supported_tasks, itertools.chain([1.0], itertools.repeat(0.0))

    async def slow() -> object:
        await asyncio.sleep(next(waits))
        return known

    engine.wait(llm.reset_mm_cache())
    del llm._supported_tasks
    monkeypatch.setattr(engine.adapter, "_opened", None)
    monkeypatch.setattr(llm.engine_core, "get_supported_tasks_async", slow)
    eight = [r for r in requests if r.sample.setting.images == 10][:8]
    sent: list[bool] = []
    original = llm.engine_core.add_request_async

    async def noting(request: Any) -> None:
        sent.append(any(feature.data is not None for feature in request.mm_features))
        await original(request)

    monkeypatch.setattr(llm.engine_core, "add_request_async", noting)
    assert {a.status for a in engine.ask(eight)} == {"ok"}
    assert sent == [True] + [False] * 7  # the pixels first, and once


def test_a_tokenizer_that_another_thread_has_is_waited_for(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = engine.adapter.inputs.work
    original, failures = work._processor.apply, [RuntimeError("Already borrowed")] * 3

    def apply(*given: object) -> object:
        if failures:
            raise ValueError("Failed to apply the processor") from failures.pop()
        return original(*given)

    monkeypatch.setattr(work._processor, "apply", apply)
    assert work.prepare(requests[0], "x").items
    assert not failures


def test_text_alone_is_asked_too(engine: Engine, scenes: DataSet) -> None:
    task = TwinTask(scenes, "literal")
    asked = [task.request(s) for s in scenes.samples(Setting(3, 2, 2), 0, 8)]
    engine.forget()
    first, again = engine.ask(asked), engine.ask(asked)
    assert {a.status for a in first} <= {"ok", "truncated"}  # this model never learned to read
    assert [a.text for a in first] == [a.text for a in again]
    for answer, request in zip(first, asked, strict=True):
        assert answer.usage and answer.usage.input_tokens
        words = engine.adapter.tokenizer.encode(request.prompt, add_special_tokens=False)
        assert 0 < answer.usage.input_tokens - len(words) < 64  # the chat template's own


# --------------------------------------------------------------------------- limits


def test_limits_are_statuses_and_later_requests_are_well(
    engine: Engine, answers: list[Response], requests: list[Request]
) -> None:
    request = requests[-1]
    many = msgspec.structs.replace(request, images=(*request.images, request.images[0]))
    long = msgspec.structs.replace(request, prompt=request.prompt * 40)
    torn = msgspec.structs.replace(request, images=(b"no image", *request.images[1:]))
    rejected = engine.ask([many, long, torn])
    assert [r.status for r in rejected] == ["image_rejected", "too_long", "image_rejected"]
    assert "At most 10 image" in str(rejected[0].error)
    assert "max_model_len" in str(rejected[1].error)
    assert "cannot be decoded" in str(rejected[2].error)
    assert all("\n" not in str(r.error) for r in rejected)
    (after,) = engine.ask([request])
    assert after.text == answers[-1].text


def test_an_answer_cut_off_is_truncated(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = engine.adapter.params.clone()
    params.max_tokens = 2
    monkeypatch.setattr(engine.adapter, "params", params)
    positive = next(r for r in requests if r.sample.positive)
    (answer,) = engine.ask([positive])
    assert (answer.status, answer.stop_reason) == ("truncated", "length")
    assert answer.text and truth(positive).startswith(answer.text)


def test_the_engine_is_sized_for_what_is_asked(engine: Engine, needs: list[Needs]) -> None:
    config = engine.adapter.engine.model_config
    assert config.multimodal_config.get_limit_per_prompt("image") == 10
    assert config.max_model_len % 256 == 0
    assert config.max_model_len < 2048  # the model could do more
    assert config.mm_processor_kwargs in (None, {})  # its own limits do
    for need in needs:
        sight = engine.adapter.see(need)
        assert (sight.width, sight.height) == (need.width, need.height)


def test_a_request_before_prepare_is_refused(requests: list[Request]) -> None:
    adapter = create(MODEL)
    with pytest.raises(UserError, match="prepare"):
        asyncio.run(adapter.generate(requests[0]))
