"""Families that batch images differently: what comes out of a batch must not depend on it."""

from pathlib import Path

import pytest
import torch
from asking import ask
from hf_runs import encoded, engine_of, ready
from random_models import FAMILIES, write_model

from mmneedle.types import Needs, Request


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / request.param
    return str(write_model(folder, request.param))


def test_batched_answers_are_those_of_one_at_a_time(
    model: str, needs: list[Needs], requests: list[Request]
) -> None:
    asked = requests[:24]
    options = {"max_tokens": 12, "logprobs": True}
    batched = ask(ready(needs, model, engine_args={"batch_size": "6"}, **options), asked)
    single = ask(ready(needs, model, engine_args={"batch_size": "1"}, **options), asked)
    assert [answer.text for answer in batched] == [answer.text for answer in single]
    for one, other in zip(batched, single, strict=True):
        assert one.absent_logprob == pytest.approx(other.absent_logprob, abs=1e-3)
    assert len({answer.text for answer in batched}) > 4  # they do depend on what was asked


def test_the_model_sees_the_images_in_order(
    model: str, needs: list[Needs], requests: list[Request]
) -> None:
    adapter = ready(needs, model, max_tokens=1)
    request = next(r for r in requests if r.sample.setting.images == 3)
    inputs = encoded(adapter, request).inputs
    parts = [encoded(adapter, _with_images(request, (image,))).inputs for image in request.images]
    name = "pixel_values"
    axis = inputs[name].dim() == 5  # [1, images, ...] in Idefics3
    assert torch.equal(inputs[name], torch.cat([part[name] for part in parts], int(axis)))
    assert engine_of(adapter).tokenizer.padding_side  # the collator pads, whatever this says
    ask(adapter, [])


def _with_images(request: Request, images: tuple[bytes, ...]) -> Request:
    return Request(request.sample, request.prompt, images)


def test_small_pictures_of_a_fixed_size_processor_are_told(
    tmp_path: Path, needs: list[Needs]
) -> None:
    adapter = ready(needs, str(write_model(tmp_path / "llava", "llava")))
    assert adapter.see(needs[0]) == (32, 32, None)
    ask(adapter, [])
