"""`hf/PATH`: an open model through transformers, on a GPU or the CPU.

Requests that are open at the same time are answered in batches. While the model generates, the
next batch's images are decoded and prepared in other threads.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
import transformers

from mmneedle.adapters import options
from mmneedle.adapters.batcher import Batcher
from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.hf_engine import (
    Batch,
    Encoded,
    Engine,
    Settings,
    out_of_memory,
    placeholders,
    render,
)
from mmneedle.adapters.hf_loading import (
    Arguments,
    generation_config,
    load_model,
    load_processor,
    quieten,
)
from mmneedle.adapters.reasoning import Reasoning, reasoning, room
from mmneedle.adapters.sight import Sight
from mmneedle.errors import UserError
from mmneedle.types import Needs, Request, Response

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "max_tokens": options.whole(1),
    "temperature": options.number(0),
    "seed": options.whole(0),
    "reasoning": reasoning(tokens=False),
    "logprobs": options.yes,
    "engine_args": dict,
}
_MOST_THREADS = 16


def create(name: str, given: Mapping[str, Any]) -> "HFAdapter":
    """Make an adapter from options as text. Raises UserError for a wrong one or a bad model."""
    return HFAdapter(name, **options.read(f"hf/{name}", given, _OPTIONS))


class HFAdapter:
    """A checkpoint in transformers. `prepare` loads it."""

    wants_images = True
    timeout = None
    shares_prefixes = True  # nothing is kept from one batch to the next, so nobody need wait

    def __init__(
        self,
        name: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        reasoning: Reasoning | None = None,
        logprobs: bool = False,
        engine_args: Mapping[str, str] | None = None,
    ) -> None:
        """Read the checkpoint's small files and the engine's arguments.

        Args:
            name: a folder, or a hub id.
            max_tokens: tokens an answer may have, thinking included; 300 as in the paper, and
                more where the model is asked to think.
            temperature: of sampling; greedy by default.
            seed: of sampling.
            reasoning: "off", or a level: given to the chat template as enable_thinking.
            logprobs: keep the log-probability of "-1".
            engine_args: NAME -> VALUE; see docs/local-models.md.

        Raises:
            UserError: not a whole vision-language checkpoint; an unknown argument.
        """
        self.model = f"hf/{name}"
        self.checkpoint = Checkpoint.open(name)
        self.arguments = Arguments.read(self.model, self.checkpoint, engine_args or {})
        # One batch is answered, one is ready, one is being prepared.
        self.max_connections = 3 * self.arguments.batch_size
        self.max_tokens = room(name, reasoning, max_tokens)
        self.temperature, self.seed, self.logprobs = temperature, seed, logprobs
        self.reasoning = reasoning
        self._given = dict(engine_args or {})
        self.images = self.checkpoint.images
        """What becomes of an image's size."""
        self.engine: Engine | None = None
        self._batcher: Batcher[Encoded, Batch] | None = None

    def prepare(self, needs: Sequence[Needs]) -> None:
        """Load the model. Raises UserError where it cannot be loaded or cannot serve."""
        quieten()
        if not needs or any(need.images for need in needs):
            self.checkpoint.check_sight()
        if any(need.images for need in needs):
            width, height = (max(getattr(n, side) for n in needs) for side in ("width", "height"))
            self.images = self.checkpoint.images.fitted(width, height, self.arguments.pixels)
        try:
            processor = load_processor(
                self.checkpoint, self.images, self.arguments.trust_remote_code
            )
            if self.checkpoint.sees:
                self._check_template(processor, max((n.images for n in needs), default=2))
            model = load_model(self.model, self.checkpoint, self.arguments)
        except UserError:
            raise
        except Exception as error:
            raise UserError(self._refusal(error)) from None
        if self.seed is not None:
            torch.manual_seed(self.seed)
        self.engine = self._engine(model, processor)
        self._batcher = Batcher(
            self.engine.encode,
            self.engine.collate,
            self.engine.run,
            size=self.arguments.batch_size,
            threads=self.arguments.threads or min(_MOST_THREADS, len(os.sched_getaffinity(0))),
        )

    def _engine(self, model: Any, processor: Any) -> Engine:
        generation = generation_config(
            model, processor.tokenizer, self.temperature, self.arguments.sampling
        )
        model.generation_config = generation
        settings = Settings(
            self.max_tokens,
            self.arguments.context(self.checkpoint),
            self._template(),
            self.logprobs,
            self.checkpoint.version,
            self.checkpoint.chats,
        )
        return Engine(model, processor, generation, settings)

    def _template(self) -> dict[str, Any]:
        if self.reasoning is None:
            return {}
        return {"enable_thinking": self.reasoning != "off"}

    def _check_template(self, processor: Any, images: int) -> None:
        """See that a chat has room for every image, before anything is asked."""
        if getattr(processor, "image_processor", None) is None:
            raise UserError(
                f"{self.model}: its processor ({type(processor).__name__}) takes no images"
            )
        try:
            text = render(processor, "?", images, self._template())
        except Exception as error:
            raise UserError(
                f"{self.model}: its chat template cannot be used ({_first_line(error)})"
            ) from None
        found = placeholders(processor, text)
        if found is not None and found != images:
            raise UserError(
                f"{self.model}: its chat template makes {found} image placeholders of {images} "
                "images; the model needs a template for several images"
            )

    def _refusal(self, error: Exception) -> str:
        if out_of_memory(error):
            return (
                f"{self.model}: does not fit into the memory of {self.arguments.device}; try "
                "--engine-arg dtype=bfloat16, or device_map=auto (needs the package accelerate)"
            )
        return (
            f"{self.model}: transformers {transformers.__version__} cannot load it "
            f"({_first_line(error)})"
        )

    def see(self, needs: Needs) -> Sight:
        """A setting's images as the model gets them."""
        return self.images.sight(needs.width, needs.height)

    async def generate(self, request: Request) -> Response:
        """One answer. Raises UserError where memory does not do for one request."""
        if self._batcher is None:
            raise UserError(f"{self.model}: call prepare() before the first request")
        return await self._batcher.submit(request)

    def fingerprint(self) -> dict[str, Any]:
        """The checkpoint's digest, every parameter and the engine's versions.

        How many requests are answered at once is left out: after memory ran out, the same run
        goes on with fewer.
        """
        silent = ("batch_size", "threads", "device")
        vision = importlib.util.find_spec("torchvision") is not None
        return {
            "adapter": "hf",
            "transformers": transformers.__version__,
            "torch": str(torch.__version__),
            "torchvision": version("torchvision") if vision else None,
            "device": torch.device(self.arguments.device).type,
            "dtype": self.arguments.dtype,
            **self.checkpoint.fingerprint(),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "reasoning": self.reasoning,
            "logprobs": self.logprobs,
            "engine_args": {k: v for k, v in self._given.items() if k not in silent},
        }

    async def aclose(self) -> None:
        """End the threads and free the model."""
        if self.engine is not None:
            self.engine.closing.set()
        if self._batcher is not None:
            await self._batcher.aclose()
        self._batcher = self.engine = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
