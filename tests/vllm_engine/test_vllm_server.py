"""A vLLM server asked through openai/: the same model, the same answers, its own cache."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from engine_loop import ARGS, Engine, truth

from mmneedle.adapters import create
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Request, Response

START = 600  # seconds that a server may take to start on a busy machine


@contextmanager
def serving(model: Path, log: Path, *words: str) -> Iterator[str]:
    """The server's base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--{name.replace('_', '-')}" for name, value in ARGS.items() if value == "true"]
    for name, value in ARGS.items():
        if value != "true":
            options += [f"--{name.replace('_', '-')}", value]
    command = ["--model", str(model), "--served-model-name", "tiny", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *("--host", "127.0.0.1", *command, *options, *words),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VLLM_NO_USAGE_STATS": "1"},
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log"
    limit = json.dumps({"image": 10})
    words = ("--enable-prompt-tokens-details", "--limit-mm-per-prompt", limit)
    with serving(WEIGHTS, log, *words) as url:
        yield url


def ask(url: str, requests: list[Request], at_once: int = 8) -> list[Response]:
    async def main() -> list[Response]:
        adapter = create("openai/tiny", base_url=url, temperature=0, max_tokens=20)
        gate = asyncio.Semaphore(at_once)

        async def one(request: Request) -> Response:
            async with gate:
                return await adapter.generate(request)

        try:
            return await asyncio.gather(*map(one, requests))
        finally:
            await adapter.aclose()

    return asyncio.run(main())


def test_the_server_answers_as_the_engine_in_this_process(
    server: str, engine: Engine, requests: list[Request]
) -> None:
    for one, two in zip(ask(server, requests), engine.ask(requests), strict=True):
        assert one.usage and two.usage
        assert (one.status, one.text) == ("ok", two.text)
        assert one.usage.input_tokens == two.usage.input_tokens
        assert one.usage.output_tokens == two.usage.output_tokens


def test_the_server_counts_what_its_cache_gave(server: str, requests: list[Request]) -> None:
    tens = [r for r in requests if r.sample.setting.images == 10][:8]
    turned = [msgspec.structs.replace(r, images=(*r.images[1:], r.images[0])) for r in tens]
    cached = [response.usage.cached_tokens for response in ask(server, turned) if response.usage]
    assert len(cached) == 8
    assert sum(bool(count) for count in cached) == 7  # all but the first of the haystack


def test_the_order_of_images_moves_the_servers_answer(server: str, requests: list[Request]) -> None:
    asked = [r for r in requests if r.sample.setting.images == 3 and r.sample.positive]
    turned = [msgspec.structs.replace(r, images=r.images[::-1]) for r in asked]
    for before, after, request in zip(ask(server, asked), ask(server, turned), asked, strict=True):
        image, place = str(before.text).split(", ", 1)
        assert before.text == truth(request)
        assert after.text == f"{4 - int(image)}, {place}"


def test_the_servers_limits_are_statuses(server: str, requests: list[Request]) -> None:
    request = requests[-1]
    many = msgspec.structs.replace(request, images=(*request.images, request.images[0]))
    long = msgspec.structs.replace(request, prompt=request.prompt * 60)
    assert [r.status for r in ask(server, [many, long])] == ["image_rejected", "too_long"]
    cut = create("openai/tiny", base_url=server, temperature=0, max_tokens=2)
    answer = asyncio.run(cut.generate(next(r for r in requests if r.sample.positive)))
    assert answer.status == "truncated"


def test_a_text_only_server_rejects_images(requests: list[Request], tmp_path: Path) -> None:
    """The language half of the same model."""
    blind = tmp_path / "blind"
    blind.mkdir()
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(blind)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(WEIGHTS / name, blind)
    with serving(blind, tmp_path / "log") as url:
        (response,) = ask(url, requests[:1])
    assert response.status in ("image_rejected", "bad_request")
    assert "multimodal" in str(response.error)
