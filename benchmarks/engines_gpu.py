"""How fast `vllm/` asks a model of 7 billion parameters, against one `generate` at a time.

    python benchmarks/engines_gpu.py --out FOLDER          one GPU, about seven minutes
    python benchmarks/engines_gpu.py --out FOLDER --smoke  a small model on the CPU: does it run?

Haystacks of drawn scenes in cells of 256 pixels at (10, 2), (10, 4) and (10, 8); a Qwen2.5-VL-7B
with random weights, of which answers mean nothing and speeds do, so every answer has exactly 12
tokens. In one run:

1. transformers, as the official code asks open models: one sample after the other, its images
   decoded and preprocessed, then `generate` (bfloat16, sdpa). It has no use for shared haystacks.
2. `vllm/` through the run loop, adapter and log as `mmneedle run` uses them, 1 question a haystack.
3. The engine's own roof: the same requests again, in the same engine, all at once, with images
   already preprocessed and held by the engine core; its caches of results are emptied before.
4. `vllm/` through the run loop with 8 questions a haystack.

Every figure is written to FOLDER/engines.jsonl when it is there, so that a run that is cut off
loses nothing; FOLDER/engines.json and engines.md are made of it at the end. Needs torch,
transformers, vllm, and of mmneedle's own dependencies msgspec, numpy and pillow.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from mmneedle import prompts  # noqa: E402
from mmneedle.data.shapes import ShapesSource  # noqa: E402
from mmneedle.stitching.jpeg import TileFormat  # noqa: E402
from mmneedle.stitching.samples import Rules, SampleMaker  # noqa: E402
from mmneedle.stitching.tiles import build_store  # noqa: E402
from mmneedle.types import Needs, Request, Sample, Setting  # noqa: E402

TOKENS = 12
QUESTIONS = 8


class Amount(NamedTuple):
    """How many samples of a setting each part asks."""

    setting: Setting
    one: int
    """One at a time."""
    single: int
    """With a haystack each, and as many for the roof."""
    shared: int
    """Eight to a haystack."""


FULL = (
    Amount(Setting(10, 2, 2), 16, 200, 480),
    Amount(Setting(10, 4, 4), 8, 40, 160),
    Amount(Setting(10, 8, 8), 3, 10, 40),
)
SMOKE = (Amount(Setting(3, 2, 2), 3, 8, 16), Amount(Setting(2, 4, 4), 2, 4, 8))
GOALS = (  # (what, setting, against, setting, at least); the outcome stands in docs/results
    ("vllm, 1 question", "n10-g2x2-k1", "one at a time", "n10-g2x2-k1", 3.0),
    ("vllm, 1 question", "n10-g2x2-k1", "roof", "n10-g2x2-k1", 0.75),
    ("vllm, 1 question", "n10-g4x4-k1", "roof", "n10-g4x4-k1", 0.75),
    ("vllm, 1 question", "n10-g8x8-k1", "roof", "n10-g8x8-k1", 0.75),
    ("vllm, 8 questions", "n10-g2x2-k1", "one at a time", "n10-g2x2-k1", 15.0),
    ("vllm, 8 questions", "n10-g4x4-k1", "vllm, 1 question", "n10-g4x4-k1", 5.0),
)


class Haystacks:
    """Samples and a task in one, from a tile store alone (`DataSet` reads Parquet too)."""

    name = "grid"

    def __init__(self, folder: Path, smoke: bool, questions: int) -> None:
        self.source = ShapesSource(120 if smoke else 1000)
        self.cell = 64 if smoke else 256
        ids = [photo.id for photo in self.source.photos()]
        workers = min(8, len(os.sched_getaffinity(0)))
        fmt = TileFormat(self.cell, self.cell)
        self.store = build_store(folder / "tiles", self.source, ids, fmt, workers=workers)
        self.maker = SampleMaker(self.source.photos(), Rules(questions=questions))

    def samples(
        self, setting: Setting, start: int = 0, stop: int | None = None
    ) -> Iterator[Sample]:
        """As the run loop asks for them."""
        assert stop is not None
        return self.maker.samples(setting, start, stop)

    def request(self, sample: Sample, *, with_images: bool = True) -> Request:
        """The official prompt and the joined images."""
        rows, cols = sample.setting.rows, sample.setting.cols
        step = rows * cols
        images = tuple(
            self.store.join(sample.haystack[at : at + step], rows, cols)
            for at in range(0, len(sample.haystack), step)
        )
        text = prompts.prompt(sample.setting, [needle.caption for needle in sample.needles])
        return Request(sample, text, images if with_images else ())

    def needs(self, setting: Setting) -> Needs:
        """What the engine is started for."""
        requests = [self.request(sample) for sample in self.samples(setting, 0, 8)]
        prompt = max((request.prompt for request in requests), key=len) + " and a little more"
        size = max(sum(map(len, request.images)) for request in requests)
        side = self.cell
        return Needs(setting, side * setting.cols, side * setting.rows, prompt, size)


# --------------------------------------------------------------------------- measuring


class Busy:
    """Samples how busy the GPU is, by NVML, ten times a second: the share of time with a kernel."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Busy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with suppress(Exception):  # no NVIDIA GPU: nothing is seen
            from vllm.third_party import pynvml

            pynvml.nvmlInit()
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            number = int(visible) if visible.isdigit() else 0
            gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
            while not self._stop.wait(0.1):
                rate = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
                self.seen.append((time.monotonic(), int(rate)))

    def share(self, start: float, end: float) -> float | None:
        """Mean share of busy time between two moments, 0..1."""
        rates = [rate for moment, rate in self.seen if start <= moment <= end]
        return round(statistics.mean(rates) / 100, 3) if rates else None


def steady(ends: Sequence[float], began: float) -> tuple[float, float]:
    """From the first sixth of answers to the last: without filling and draining."""
    ordered = sorted(ends)
    edge = len(ordered) // 6
    return (ordered[edge - 1] if edge else began), ordered[len(ordered) - 1 - edge]


def figures(
    what: str,
    setting: Setting,
    began: float,
    ends: Sequence[float],
    tokens: int,
    cached: int,
    busy: Busy,
    **more: Any,
) -> dict[str, Any]:
    """One line of the results. `tokens` and `cached` are all prompt tokens of all samples."""
    seconds = max(ends) - began
    start, end = steady(ends, began)
    during = sum(start < moment <= end for moment in ends)
    return {
        "what": what,
        "setting": setting.name,
        "samples": len(ends),
        "seconds": round(seconds, 2),
        "samples_per_second": round(len(ends) / seconds, 4),
        "steady_samples_per_second": round(during / (end - start), 4) if end > start else None,
        "prompt_tokens_per_sample": round(tokens / len(ends)),
        "prompt_tokens_per_second": round(tokens / seconds),
        "cached_share": round(cached / tokens, 4),
        "gpu_busy": busy.share(start, end),
        **more,
    }


def keep(out: Path, line: dict[str, Any]) -> None:
    """Write a result at once."""
    with (out / "engines.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(json.dumps(line), flush=True)


# --------------------------------------------------------------------------- transformers


def one_at_a_time(folder: Path, out: Path, smoke: bool, scale: float) -> None:
    """Part 1."""
    import torch
    from PIL import Image
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.monotonic()
    config = AutoConfig.from_pretrained(folder / "model")
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(
            config,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            attn_implementation="sdpa",
        ).eval()
    processor = AutoProcessor.from_pretrained(folder / "model")
    keep(out, {"what": "start of transformers", "seconds": round(time.monotonic() - began, 1)})
    haystacks = Haystacks(folder, smoke, 1)

    chosen: list[bool] = []

    def choose_attention(request: Request) -> None:
        """With or without cuDNN's attention, which plans anew for each length: what is faster."""
        if chosen or device == "cpu":
            ask(request)
            return
        seconds = {}
        for allowed in (True, False):
            torch.backends.cuda.enable_cudnn_sdp(allowed)
            ask(request)
            began = time.monotonic()
            ask(request)
            seconds[allowed] = time.monotonic() - began
        chosen.append(min(seconds, key=lambda allowed: seconds[allowed]))
        torch.backends.cuda.enable_cudnn_sdp(chosen[0])
        keep(out, {"what": f"cuDNN attention: {chosen[0]}", "seconds": seconds[chosen[0]]})

    def ask(request: Request) -> int:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in request.images]
        content: list[dict[str, str]] = [{"type": "image"} for _ in images]
        content.append({"type": "text", "text": request.prompt})
        chat = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=images, return_tensors="pt").to(device)
        with torch.inference_mode():
            made = model.generate(
                **inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
            )
        length = int(inputs["input_ids"].shape[1])
        assert made.shape[1] == length + TOKENS
        return length

    for setting, count, _, _ in SMOKE if smoke else FULL:
        requests = [haystacks.request(s) for s in haystacks.samples(setting, 0, count + 1)]
        choose_attention(requests.pop())  # which warms up, too
        with Busy() as busy:
            began, ends, tokens = time.monotonic(), [], 0
            for request in requests[: max(2, round(count * scale))]:
                tokens += ask(request)
                ends.append(time.monotonic())
            time.sleep(0.2)
        keep(out, figures("one at a time", setting, began, ends, tokens, 0, busy))


# --------------------------------------------------------------------------- vllm


class Loop:
    """The run loop over a stretch of samples, with the adapter that is being timed."""

    def __init__(self, adapter: Any, haystacks: Haystacks, folder: Path) -> None:
        self.adapter, self.haystacks, self.folder = adapter, haystacks, folder
        self.load: list[tuple[float, int, int]] = []
        self._watch_engine()

    def _watch_engine(self) -> None:
        """Note how many requests the engine core has whenever it speaks."""
        core = self.adapter.engine.engine_core
        original = core.get_output_async

        async def noting() -> Any:
            outputs = await original()
            stats = outputs.scheduler_stats
            if stats is not None:
                line = (time.monotonic(), stats.num_running_reqs, stats.num_waiting_reqs)
                self.load.append(line)
            return outputs

        core.get_output_async = noting

    async def run(self, what: str, setting: Setting, start: int, count: int) -> dict[str, Any]:
        """Ask samples start … start+count-1 through the run loop."""
        from mmneedle.runlog import RunHeader, RunLog
        from mmneedle.runner import evaluate

        adapter = self.adapter
        await self.empty()
        header = RunHeader(
            model=adapter.model,
            task="grid",
            dataset_path="",
            dataset_fingerprint="0" * 64,
            adapter=adapter.fingerprint(),
            plan={setting.name: (start, start + count)},
        )
        folder = self.folder / f"run-{what}-{setting.name}-{start}".replace(" ", "-")
        ends: list[float] = []
        with Busy() as busy, RunLog.open(folder, header) as log:
            began = time.monotonic()
            summary = await evaluate(
                self.haystacks,
                self.haystacks,
                adapter,
                log,
                max_connections=adapter.max_connections,
                timeout=None,
                progress=lambda _: ends.append(time.monotonic()),
            )
            await asyncio.sleep(0.2)
        if summary.answered != count or len(ends) != count:
            raise RuntimeError(f"{what}: {summary}")
        tokens, cached = self._usage(folder)
        return figures(
            what, setting, began, ends, tokens, cached, busy, **self.engine_load(ends, began)
        )

    async def roof(self, setting: Setting, start: int, count: int) -> dict[str, Any]:
        """The same requests, all at once, images preprocessed and held by the engine core."""
        adapter = self.adapter
        samples = self.haystacks.samples(setting, start, start + count)
        requests = [self.haystacks.request(sample) for sample in samples]
        prepared = []
        for request in requests:
            async with adapter.inputs.of(request) as ready:
                held = ready.prepared
                if not adapter.inputs.held(held):
                    raise RuntimeError("the engine core lets go of images: raise --cache-gb")
                prepared.append(ready)
        await self.empty()
        ends: list[float] = []

        async def ask(number: int, ready: Any) -> int:
            inputs, name = ready.engine_input(), f"roof-{setting.name}-{number}"
            async for output in adapter.engine.generate(inputs, adapter.params, name):
                if output.finished:
                    ends.append(time.monotonic())
                    tokens: int = len(output.prompt_token_ids)
            return tokens

        with Busy() as busy:
            began = time.monotonic()
            tokens = await asyncio.gather(*(ask(*pair) for pair in enumerate(prepared)))
            await asyncio.sleep(0.2)
        return figures(
            "roof", setting, began, ends, sum(tokens), 0, busy, **self.engine_load(ends, began)
        )

    async def empty(self) -> None:
        """Forget keys, values and encoded images, not the preprocessed ones."""
        await self.adapter.engine.reset_prefix_cache()
        await self.adapter.engine.reset_encoder_cache()

    def engine_load(self, ends: Sequence[float], began: float) -> dict[str, Any]:
        """How full the engine core was kept, in steady state."""
        start, end = steady(ends, began)
        seen = [(run, wait) for moment, run, wait in self.load if start <= moment <= end]
        if len(seen) < 2:
            return {}
        return {
            "engine_steps": len(seen),
            "running": statistics.median(run for run, _ in seen),
            "waiting": statistics.median(wait for _, wait in seen),
            "steps_with_nothing_waiting": round(sum(not wait for _, wait in seen) / len(seen), 3),
        }

    def _usage(self, folder: Path) -> tuple[int, int]:
        tokens = cached = 0
        for line in (folder / "responses.jsonl").read_text().splitlines():
            usage = json.loads(line)["response"]["usage"]
            if usage["output_tokens"] != TOKENS:
                raise RuntimeError(f"an answer has {usage['output_tokens']} tokens, not {TOKENS}")
            tokens += usage["input_tokens"]
            cached += usage.get("cached_tokens", 0)
        return tokens, cached


def engine(folder: Path, out: Path, smoke: bool, scale: float, extra: Sequence[str]) -> None:
    """Parts 2 to 4."""
    from mmneedle.adapters.vllm import VLLMAdapter

    args = {"load_format": "dummy", "mm_processor_cache_gb": "1" if smoke else "32"}
    if smoke:
        args |= {"dtype": "float32", "kv_cache_memory_bytes": str(256 << 20)}
        args |= {"enforce_eager": "true", "distributed_executor_backend": "uni"}
    args |= dict(text.split("=", 1) for text in extra)
    adapter = VLLMAdapter(
        str(folder / "model"), max_tokens=TOKENS, engine_args=args, ignore_eos=True
    )
    haystacks = {questions: Haystacks(folder, smoke, questions) for questions in (1, QUESTIONS)}
    amounts = SMOKE if smoke else FULL
    began = time.monotonic()
    adapter.prepare([haystacks[1].needs(amount.setting) for amount in amounts])
    keep(out, {"what": "start of vllm", "seconds": round(time.monotonic() - began, 1)})

    async def measure() -> None:
        single = Loop(adapter, haystacks[1], folder)
        shared = Loop(adapter, haystacks[QUESTIONS], folder)
        shared.load = single.load
        try:
            for setting, _, one, many in amounts:
                one, many = (max(4, round(one * scale)), max(16, round(many * scale) // 8 * 8))
                await single.run("warm", setting, 0, 8 if one > 20 else 2)
                keep(out, await single.run("vllm, 1 question", setting, 8, one))
                keep(out, await single.roof(setting, 8, one))
                keep(out, await shared.run("vllm, 8 questions", setting, 8, many))
        finally:
            await adapter.aclose()

    asyncio.run(measure())


# --------------------------------------------------------------------------- the whole


def prepare(folder: Path, smoke: bool) -> None:
    """Draw the scenes, write the model's folder."""
    from shapes_gpu import qwen25_vl_7b, qwen25_vl_small, write_model

    haystacks = Haystacks(folder, smoke, 1)
    texts = [
        haystacks.request(sample, with_images=False).prompt
        for amount in (SMOKE if smoke else FULL)
        for sample in haystacks.samples(amount.setting, 0, 100)
    ]
    write_model(folder / "model", qwen25_vl_small() if smoke else qwen25_vl_7b(), texts)


def summary(out: Path) -> None:
    """engines.json and engines.md from what is there."""
    lines = [json.loads(line) for line in (out / "engines.jsonl").read_text().splitlines()]
    (out / "engines.json").write_text(json.dumps(lines, indent=1))
    rates = {
        (line["what"], line["setting"]): line["samples_per_second"]
        for line in lines
        if "setting" in line
    }
    text = [
        "| setting | what | samples | samples/s | prompt tokens a sample | prompt tokens/s | cached"
        " | GPU busy | × one at a time | share of roof |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if "setting" in line:
            base, roof = (rates.get((name, line["setting"])) for name in ("one at a time", "roof"))
            rate = line["samples_per_second"]
            busy = line["gpu_busy"]
            images, grid = (Setting.parse(line["setting"]).images, Setting.parse(line["setting"]))
            text.append(
                f"| ({images}, {grid.grid}) | {line['what']} | {line['samples']} | {rate:.3g} "
                f"| {line['prompt_tokens_per_sample']} | {line['prompt_tokens_per_second']:,} "
                f"| {line['cached_share']:.1%} | {'' if busy is None else f'{busy:.0%}'} "
                f"| {f'{rate / base:.2f}' if base else ''} "
                f"| {f'{rate / roof:.1%}' if roof and line['what'] != 'roof' else ''} |"
            )
    text += ["", "| goal | at least | measured |", "|---|---|---|"]
    for what, setting, against, other, least in GOALS:
        have, base = rates.get((what, setting)), rates.get((against, other))
        measured = f"{have / base:.2f}" if have and base else "not measured"
        text.append(f"| {what} against {against} at {setting} | {least} | {measured} |")
    starts = [line for line in lines if "setting" not in line]
    text += ["", *(f"{line['what']}: {line['seconds']} s" for line in starts)]
    (out / "engines.md").write_text("\n".join(text) + "\n")
    print((out / "engines.md").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--smoke", action="store_true", help="a small model on the CPU")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of samples")
    parser.add_argument("--parts", default="one,engine", help="one, engine or both")
    parser.add_argument("--graphs", action="store_true", help="compile and capture: slower start")
    parser.add_argument("--engine-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--work", type=Path, help="folder for tiles, model and runs")
    parser.add_argument("--child", choices=("one", "engine"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.child == "one":
        return one_at_a_time(given.work, given.out, given.smoke, given.scale)
    if given.child == "engine":
        extra = given.engine_arg + ([] if given.graphs else ["enforce_eager=true"])
        return engine(given.work, given.out, given.smoke, given.scale, extra)
    with tempfile.TemporaryDirectory(prefix="engines-") as temporary:
        work = given.work or Path(temporary)
        began = time.monotonic()
        prepare(work, given.smoke)
        seconds = round(time.monotonic() - began, 1)
        keep(given.out, {"what": "scenes and model folder", "seconds": seconds})
        failed = []
        for part in given.parts.split(","):  # each in a process of its own: the GPU is free again
            command = [sys.executable, __file__, *sys.argv[1:], "--child", part]
            code = subprocess.run([*command, "--work", str(work)], check=False).returncode
            if code:
                failed.append(f"{part} ended with {code}")
        summary(given.out)
    if failed:
        sys.exit("; ".join(failed))
    return None


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
