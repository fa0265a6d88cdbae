"""A loaded model at work: requests -> tensors -> batches -> answers. Knows no event loop."""

import copy
import io
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import LogitsProcessor, StoppingCriteria

from mmneedle.adapters import thinking
from mmneedle.adapters.plain import END, begun
from mmneedle.errors import UserError
from mmneedle.types import Request, Response, Status, Usage


class Encoded(NamedTuple):
    """A request as the model takes it."""

    inputs: dict[str, Any]
    """Tensors; those over tokens have shape [1, tokens], others one row an image or patch."""
    tokens: int
    prompt: str
    """The rendered chat, one placeholder an image."""

    @property
    def kind(self) -> object:
        """What must be equal within a batch: which tensors, and their shapes but for rows."""
        return frozenset(
            (name, value.dtype, tuple(value.shape[1:]) if not _over_tokens(self, name) else None)
            for name, value in self.inputs.items()
        )


def _over_tokens(encoded: Encoded, name: str) -> bool:
    return bool(encoded.inputs[name].shape == encoded.inputs["input_ids"].shape)


class Batch(NamedTuple):
    """Requests put together, padded on the left."""

    requests: list[Encoded]
    inputs: dict[str, Any]


class Settings(NamedTuple):
    """How to ask."""

    max_tokens: int
    context: int | None
    template: dict[str, Any]
    """Variables of the chat template, such as enable_thinking."""
    logprobs: bool
    name: str
    """The model's exact version, for responses."""
    chats: bool = True
    """Whether there is a chat template; else the model goes on with a text, up to a line's end."""


class Engine:
    """A model and its processor. `encode` may run in several threads at once, the rest in one."""

    def __init__(self, model: Any, processor: Any, generation: Any, settings: Settings) -> None:
        self.model, self.settings, self.generation = model, settings, generation
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.closing = threading.Event()
        self.limit: int | None = None
        """Requests that are run at once at most, since memory ran out with more."""
        self._own = threading.local()
        self._copying = threading.Lock()
        self._ends = frozenset(generation.eos_token_id or ())
        self._absent = self.tokenizer.encode("-1", add_special_tokens=False)[0]
        special = set(self.tokenizer.all_special_tokens)
        self._keep_special = any(tag in special for tags in thinking.TAGS for tag in tags)

    # ---------------------------------------------------------------- a request

    def encode(self, request: Request) -> Encoded | Response:
        """Decode the images and prepare them and the text. A Response where that is refused."""
        try:
            images = [_decode(data) for data in request.images]
        except (OSError, SyntaxError, ValueError) as error:
            return Response("image_rejected", error=f"an image cannot be decoded: {error}")
        processor = self._processor()
        prompt = self._rendered(processor, request, len(images))
        found = placeholders(processor, prompt)
        if found is not None and found != len(images):
            return Response(
                "bad_request",
                error=f"the prompt holds {found} image placeholders for {len(images)} images: the "
                "question's own text must not hold one",
            )
        inputs = dict(processor(images=images or None, text=[prompt], return_tensors="pt"))
        encoded = Encoded(self._cast(inputs), inputs["input_ids"].shape[1], prompt)
        context = self.settings.context
        if context is not None and encoded.tokens >= context:
            return Response(
                "too_long",
                error=f"the prompt has {encoded.tokens} tokens and the model's context {context}",
                usage=Usage(input_tokens=encoded.tokens),
            )
        return encoded

    def _rendered(self, processor: Any, request: Request, images: int) -> str:
        """The chat as text; for a model that does not chat, the text and how its answer begins."""
        if not self.settings.chats:
            return begun(request)
        return render(processor, request.prompt, images, self.settings.template)

    def _processor(self) -> Any:
        """Each thread's own: a tokenizer is not made for several at once."""
        if not hasattr(self._own, "processor"):
            with self._copying:
                self._own.processor = copy.deepcopy(self.processor)
        return self._own.processor

    def _cast(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Pixels in the model's own type: half as many bytes to keep and to move."""
        kind = self.model.dtype
        return {
            name: value.to(kind) if value.is_floating_point() else value
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }

    # ---------------------------------------------------------------- a batch

    def collate(self, requests: Sequence[Encoded]) -> Batch:
        """Put requests together; pinned, where they go to a GPU, so that copying can overlap."""
        longest = max(request.tokens for request in requests)
        inputs = {}
        for name in requests[0].inputs:
            values = [request.inputs[name] for request in requests]
            if _over_tokens(requests[0], name):
                fill = self.generation.pad_token_id if name == "input_ids" else 0
                values = [
                    torch.nn.functional.pad(value, (longest - value.shape[1], 0), value=fill)
                    for value in values
                ]
            inputs[name] = self._joined(values)
        return Batch(list(requests), inputs)

    def _joined(self, values: list[Any]) -> Any:
        """One tensor of several; on its way to a GPU in pinned memory, without a further copy."""
        if self.model.device.type != "cuda":
            return torch.cat(values) if len(values) > 1 else values[0]
        shape = (sum(len(value) for value in values), *values[0].shape[1:])
        out = torch.empty(shape, dtype=values[0].dtype, pin_memory=True)
        return torch.cat(values, out=out)

    def run(self, batch: Batch) -> list[Response]:
        """Answer a batch; where memory runs out, its halves, then one by one.

        Raises:
            UserError: memory does not even do for one request.
        """
        sizes = [len(batch.requests), (len(batch.requests) + 1) // 2, 1]
        if self.limit is not None:
            sizes = [size for size in sizes if size <= self.limit]
        for size in dict.fromkeys(sizes):
            answers = self._run_parts(batch, size)
            if answers is not None:
                return answers
            self.limit = max(1, size // 2)
            if size > 1:
                print(
                    f"{self.settings.name}: out of memory on {self.model.device} with {size} "
                    "requests at once; going on with fewer (--engine-arg batch_size=N)",
                    file=sys.stderr,
                )
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
        tokens = max(request.tokens for request in batch.requests)
        raise UserError(
            f"{self.settings.name}: out of memory on {self.model.device} with one request of "
            f"{tokens} tokens; finished answers are safe: go on with a smaller dtype, fewer pixels "
            "(--engine-arg max_pixels=N) or smaller settings (--settings)"
        )

    def _run_parts(self, batch: Batch, size: int) -> list[Response] | None:
        """Answers, at most so many at once; None where memory ran out."""
        answers: list[Response] = []
        for start in range(0, len(batch.requests), size):
            part = batch.requests[start : start + size]
            try:
                whole = len(part) == len(batch.requests)
                answers += self._answer(batch if whole else self.collate(part))
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                error.__traceback__ = None  # its frames hold the tensors
                return None
        return answers

    @torch.inference_mode()
    def _answer(self, batch: Batch) -> list[Response]:
        began = time.perf_counter()
        inputs = {
            name: value.to(self.model.device, non_blocking=True)
            for name, value in batch.inputs.items()
        }
        longest = inputs["input_ids"].shape[1]
        watch = _Watch(self.closing, self.model.device)
        odds = _Odds(self._absent)
        room = self.settings.max_tokens
        if self.settings.context is not None:
            room = max(1, min(room, self.settings.context - longest))
        output = self.model.generate(
            **inputs,
            generation_config=self.generation,
            max_new_tokens=room,
            stopping_criteria=[watch],
            logits_processor=[odds] if self.settings.logprobs else [],
            **({} if self.settings.chats else {"stop_strings": [END], "tokenizer": self.tokenizer}),
        )
        tokens = output[:, longest:].tolist()
        known = odds.steps and torch.stack(odds.steps, dim=1).tolist()
        latency = time.perf_counter() - began
        first = watch.first - began if watch.first is not None else None
        return [
            self._read(request, tokens[row], latency, first, known[row] if known else [])
            for row, request in enumerate(batch.requests)
        ]

    # ---------------------------------------------------------------- an answer

    def _read(
        self,
        request: Encoded,
        tokens: list[int],
        latency: float,
        first: float | None,
        odds: list[float],
    ) -> Response:
        """Read one row of what was generated, which ends with a stop token or was cut off."""
        stop = next((at for at, token in enumerate(tokens) if token in self._ends), None)
        if stop is None and self.closing.is_set():
            return Response("server_error", error="stopped before the answer was whole")
        words = tokens if stop is None else tokens[:stop]
        text = self._decode(words)
        ended = stop is not None
        if not self.settings.chats and END in text:
            text, ended = text[: text.index(END)], True
        thought = thinking.split(text, request.prompt)
        status: Status = "ok" if thought.answer.strip() else "empty"
        if not ended:
            status = "truncated"
        place = self._answer_place(words, thought)
        return Response(
            status,
            text=thought.answer,
            reasoning=thought.reasoning,
            stop_reason="stop" if ended else "length",
            model=self.settings.name,
            usage=Usage(
                input_tokens=request.tokens,
                output_tokens=len(words) + (stop is not None),
            ),
            latency=latency,
            first_token=first if thought.reasoning is None else None,
            absent_logprob=odds[place] if place is not None and place < len(odds) else None,
        )

    def _decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=not self._keep_special))

    def _answer_place(self, tokens: list[int], thought: thinking.Thinking) -> int | None:
        """The number of the answer's first token; None where the answer never came."""
        if not thought.complete:
            return None
        if not thought.start:
            return 0
        longer = range(1, len(tokens) + 1)
        place = bisect_right(longer, thought.start, key=lambda n: len(self._decode(tokens[:n])))
        return place if place < len(tokens) else None


class _Watch(StoppingCriteria):
    """Notes when the first token came, and ends a batch early when the run is over."""

    def __init__(self, closing: threading.Event, device: Any) -> None:
        self.closing, self.device = closing, device
        self.first: float | None = None

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        if self.first is None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.first = time.perf_counter()
        ended = self.closing.is_set()
        return torch.full((len(input_ids),), ended, device=input_ids.device, dtype=torch.bool)


class _Odds(LogitsProcessor):
    """Notes the log-probability of one token at every step; changes nothing."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.steps: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.steps.append(scores[:, self.token] - scores.float().logsumexp(-1))
        return scores


# --------------------------------------------------------------------------- parts


def render(processor: Any, prompt: str, images: int, template: dict[str, Any]) -> str:
    """The chat as text: the images in order, then the question, then the model's turn."""
    content: list[dict[str, str]] = [{"type": "image"} for _ in range(images)]
    content.append({"type": "text", "text": prompt})
    return str(
        processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            **template,
        )
    )


def placeholders(processor: Any, text: str) -> int | None:
    """How many images a rendered chat has room for; None where the processor does not tell.

    Gemma's processors mark an image by the token that begins one.
    """
    marks = (getattr(processor, name, None) for name in ("boi_token", "image_token"))
    counts = [text.count(mark) for mark in marks if isinstance(mark, str) and mark]
    return max(counts) if counts else None


def _decode(data: bytes) -> Any:
    return Image.open(io.BytesIO(data)).convert("RGB")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("out of memory", "can't allocate memory"))
    )
