"""`vllm/PATH`: an open model in a vLLM engine of this run's own.

The engine core works in a process of its own and batches continuously; this process decodes and
preprocesses images in threads (`vllm_inputs.py`) so that the GPU never waits for them.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import vllm
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from mmneedle.adapters import options, thinking
from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.plain import END
from mmneedle.adapters.reasoning import reasoning, room
from mmneedle.adapters.sight import Sight
from mmneedle.adapters.vllm_engine import (
    REFUSALS,
    RESOURCES,
    EngineLog,
    Plan,
    one_line,
    out_of_memory,
    start,
)
from mmneedle.adapters.vllm_inputs import Inputs, room_for_pixels
from mmneedle.adapters.warden import Warden
from mmneedle.errors import UserError
from mmneedle.types import Needs, Request, Response, Status, Usage

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "max_tokens": options.whole(1),
    "temperature": options.number(0),
    "seed": options.whole(0),
    "reasoning": reasoning(tokens=False),
    "logprobs": options.yes,
    "engine_args": dict,
}
_ATTEMPTS = 3  # of one request whose pixels the engine core let go of meanwhile
_MOST_THREADS = 8
_TAIL = 8  # tokens at the end of a prompt that may open the model's thinking


def create(name: str, given: Mapping[str, Any]) -> "VLLMAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a bad model."""
    return VLLMAdapter(name, **options.read(f"vllm/{name}", given, _OPTIONS))


class VLLMAdapter:
    """A checkpoint in vLLM's engine. `prepare` starts it."""

    wants_images = True
    max_connections = 256
    timeout = None
    shares_prefixes = (
        True  # the engine computes what requests share once, also when all come at once
    )

    def __init__(
        self,
        name: str,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        reasoning: str | int | None = None,
        logprobs: bool = False,
        engine_args: Mapping[str, str] | None = None,
        ignore_eos: bool = False,
    ) -> None:
        """Read the checkpoint's small files and the engine's arguments.

        Args:
            name: a folder, or a hub id.
            max_tokens: tokens an answer may have, thinking included; 300 as in the paper, and
                more where the model is asked to think.
            temperature: 0 is greedy.
            seed: for temperatures above 0.
            reasoning: "off", or a level: given to the chat template as enable_thinking.
            logprobs: keep the log-probability of "-1".
            engine_args: NAME -> VALUE, any argument of vLLM's engine, and min_pixels, max_pixels.
            ignore_eos: always use all tokens; for measuring speed.

        Raises:
            UserError: not a whole vision-language checkpoint; an unknown argument.
        """
        self.model = f"vllm/{name}"
        self.checkpoint = Checkpoint.open(name)
        tokens = room(name, reasoning, max_tokens)
        self.plan = Plan(self.model, self.checkpoint, engine_args or {}, tokens)
        self.reasoning = reasoning
        self._settings = {
            "max_tokens": tokens,
            "temperature": temperature,
            "seed": seed,
            "reasoning": reasoning,
            "engine_args": {
                name: value
                for name, value in (engine_args or {}).items()
                if name.replace("-", "_") not in RESOURCES
            },
        }
        self.params = SamplingParams(
            max_tokens=tokens,
            temperature=temperature,
            seed=seed,
            ignore_eos=ignore_eos,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._logprobs = logprobs
        self._minus: int | None = None
        self._numbers = itertools.count()
        self._log: EngineLog | None = None
        self._warden: Warden | None = None
        self._dead = False
        self._opened: asyncio.Future[Any] | None = None
        self.engine: Any = None
        self.inputs: Inputs | None = None
        self.tokenizer: Any = None

    def prepare(self, needs: Sequence[Needs]) -> None:
        """Start the engine for these needs. Raises UserError where it cannot serve them."""
        self._log = EngineLog()
        self._warden = Warden()
        try:
            self.engine = start(self.model, self.plan, needs, self._log)
        except UserError:
            self._warden.close()
            raise
        self._log.take_loggers()  # again: the engine's start has set them up anew
        self.tokenizer = self.engine.renderer.get_tokenizer()
        template: dict[str, Any] = {}
        if self.reasoning is not None:
            template["enable_thinking"] = self.reasoning != "off"
        threads = self.plan.threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        chats = self.checkpoint.chats
        self.inputs = Inputs(self.engine, template, threads, room_for_pixels(), chats=chats)
        if not chats:
            self.params.stop = [END]
        special = set(self.tokenizer.all_special_tokens)
        self.params.skip_special_tokens = special.isdisjoint(itertools.chain(*thinking.TAGS))
        if self._logprobs:
            self._minus = self.tokenizer.encode("-1", add_special_tokens=False)[0]
            self.params.logprobs = 1
            self.params.logprob_token_ids = [self._minus]

    def see(self, needs: Needs) -> Sight:
        """A setting's images as the model gets them."""
        return self.plan.images.sight(needs.width, needs.height)

    async def generate(self, request: Request) -> Response:
        """One attempt. Raises UserError where the engine is dead."""
        if self.inputs is None:
            raise UserError(f"{self.model}: call prepare() before the first request")
        began = time.perf_counter()
        try:
            output, sent = await self._ask(request)
        except EngineDeadError:
            raise UserError(self._death()) from None
        except REFUSALS as error:
            text = one_line(error)
            return Response(_rejected(text), error=text[:400])
        except Exception as error:
            if self.engine.errored:
                raise UserError(self._death()) from None
            cause = error.__cause__ or error
            return Response("server_error", error=one_line(cause)[:400])
        latency = time.perf_counter() - began
        return self._read(output, latency, sent - began)

    async def _ask(self, request: Request) -> tuple[Any, float]:
        """The engine's answer, and when it was asked."""
        assert self.inputs is not None
        await self._open()
        if not request.images:
            tokens = await self.inputs.words_of(request)
            self._check_length(tokens)
            return await self._send({"type": "token", "prompt_token_ids": tokens}, request)
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            try:
                async with self.inputs.of(request) as ready:
                    self._check_length(ready.tokens)
                    output, sent = await self._send(ready.engine_input(), request)
                    # "error": the engine core missed pixels that were thought to be there.
                    if last or output.outputs[0].finish_reason != "error":
                        return output, sent
            except LookupError:
                if last:
                    raise
        raise RuntimeError("the engine gave no answer")

    async def _send(self, prompt: dict[str, Any], request: Request) -> tuple[Any, float]:
        """The finished output for an engine input, and when it was asked; nothing comes between."""
        sent = time.perf_counter()
        name = f"{request.sample.id}-{next(self._numbers)}"
        async for output in self.engine.generate(prompt, self.params, name):
            if output.finished:
                return output, sent
        raise RuntimeError("the engine gave no answer")

    async def _open(self) -> None:
        """Let the engine answer what it asks itself before its first request.

        While it waits for that, later requests would overtake earlier ones, and the caches of its
        front end and its core, which change in the order of requests, would differ.
        """
        if self._opened is None:
            self._opened = asyncio.ensure_future(self.engine.get_supported_tasks())
        await asyncio.shield(self._opened)

    def _check_length(self, tokens: Sequence[int]) -> None:
        """Here, since a request that the engine's front end refuses would upset its cache."""
        most = self.engine.model_config.max_model_len
        if len(tokens) + 1 > most:
            raise ValueError(
                f"the prompt has {len(tokens)} tokens, longer than the engine's context length of "
                f"{most} (--engine-arg max_model_len=N)"
            )

    def _read(self, output: Any, latency: float, waited: float) -> Response:
        """What the engine says."""
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):  # "abort", "error": the engine's fault
            error = f"the engine ended the request ({answer.finish_reason})"
            return Response("server_error", error=error, latency=latency)
        # Some chat templates open the model's thoughts themselves, at the end of the prompt.
        thought = thinking.split(answer.text, self._decode(output.prompt_token_ids[-_TAIL:]))
        status: Status = "ok" if thought.answer.strip() else "empty"
        if answer.finish_reason == "length":
            status = "truncated"
        first = output.metrics.first_token_latency if output.metrics else None
        return Response(
            status,
            text=thought.answer,
            reasoning=thought.reasoning,
            stop_reason=answer.finish_reason,
            model=self.checkpoint.version,
            usage=Usage(
                input_tokens=len(output.prompt_token_ids),
                output_tokens=len(answer.token_ids),
                cached_tokens=output.num_cached_tokens,
            ),
            latency=latency,
            first_token=waited + first if first and thought.reasoning is None else None,
            absent_logprob=self._absent(answer, thought),
        )

    def _absent(self, answer: Any, thought: thinking.Thinking) -> float | None:
        """The log-probability that the answer begins with "-1"; None where it never came."""
        if self._minus is None or not answer.logprobs or not thought.complete:
            return None
        place = 0
        if thought.start:
            longer = range(1, len(answer.token_ids) + 1)
            lengths = (len(self._decode(answer.token_ids[:number])) for number in longer)
            place = next((at for at, length in enumerate(lengths) if length > thought.start), -1)
        if not 0 <= place < len(answer.logprobs):
            return None
        found = answer.logprobs[place].get(self._minus)
        return None if found is None else float(found.logprob)

    def _decode(self, tokens: Sequence[int]) -> str:
        kept = not self.params.skip_special_tokens
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=not kept))

    def _death(self) -> str:
        assert self._log is not None
        self._dead = True
        cause = self._log.cause()
        advice = (
            "give --engine-arg gpu_memory_utilization=0.8, max_num_seqs=16 or "
            "max_num_batched_tokens=4096"
            if out_of_memory(cause)
            else "its log tells more"
        )
        path = self._log.keep()
        return (
            f"{self.model}: the engine died ({cause or 'without a word'}); {advice}; finished "
            f"answers are safe, the same command goes on from here (log: {path})"
        )

    def fingerprint(self) -> dict[str, Any]:
        """The checkpoint's digest, every parameter and vLLM's version."""
        return {
            "adapter": "vllm",
            "vllm": vllm.__version__,
            **self.checkpoint.fingerprint(),
            **self._settings,
        }

    async def aclose(self) -> None:
        """End the engine and its processes."""
        if self.inputs is not None:
            self.inputs.close()
        if self.engine is not None:
            engine, self.engine = self.engine, None
            await asyncio.to_thread(engine.shutdown)
        if self._warden is not None:
            self._warden.close()
        if self._log is not None and not self._dead:
            self._log.close()


def _rejected(text: str) -> Status:
    """The status of a request that the engine did not take."""
    if re.search(r"max(imum)?[ _]model[ _]len|context length|longer than", text, re.I):
        return "too_long"
    if re.search(r"image|At most", text, re.I):
        return "image_rejected"
    return "bad_request"
