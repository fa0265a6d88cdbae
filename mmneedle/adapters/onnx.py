"""onnx/tiny: the model that comes with mmneedle, run by onnxruntime on the CPU.

It solves the task on drawn scenes (`--source shapes`) and knows nothing else: for the demo, for
tests and for trying out the suite. `onnx/FOLDER` runs a checkpoint that was trained and exported
by `mmneedle.tiny`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime

from mmneedle.adapters import options
from mmneedle.adapters.sight import Sight
from mmneedle.errors import UserError
from mmneedle.tiny import CELL, WEIGHTS
from mmneedle.tiny.runtime import TinyRuntime, TooLongError
from mmneedle.types import Needs, Request, Response, Setting, Usage

_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "max_tokens": options.whole(1),
    "threads": options.whole(1, 1024),
    "logprobs": options.one_of(("True", "true", "1")),
}


def create(name: str, given: Mapping[str, Any]) -> "OnnxAdapter":
    """Make an adapter. Raises UserError for a wrong option or a folder that is no checkpoint."""
    given = {key: str(value) if key == "logprobs" else value for key, value in given.items()}
    return OnnxAdapter(name, **options.read(f"onnx/{name}", given, _OPTIONS))


class OnnxAdapter:
    """A checkpoint of `mmneedle.tiny`; answers come one after the other."""

    wants_images = True
    max_connections = 2  # the next request's images are joined while one is answered
    timeout = None

    def __init__(
        self,
        name: str,
        *,
        max_tokens: int = 300,
        threads: int | None = None,
        logprobs: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            name: "tiny", or a folder.
            max_tokens: tokens an answer may have.
            threads: of the computation; all cores by default.
            logprobs: keep the log-probability that the answer begins with "-1".

        Raises:
            UserError: no such checkpoint, or a damaged one.
        """
        self.model = f"onnx/{name}"
        folder = WEIGHTS if name == "tiny" else Path(name)
        if not folder.is_dir():
            raise UserError(
                f"{self.model}: no such folder; the model that comes along is onnx/tiny"
            )
        self.runtime = TinyRuntime(folder, threads)
        self.max_tokens, self.logprobs = max_tokens, logprobs is not None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx")

    def prepare(self, needs: Sequence[Needs]) -> None:
        """See that there is something to look at. Raises UserError for text alone."""
        if not all(one.images for one in needs):
            raise UserError(f"{self.model}: only looks at pictures; these requests have no images")

    async def generate(self, request: Request) -> Response:
        """Answer greedily."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._generate, request
        )

    def _generate(self, request: Request) -> Response:
        began = time.perf_counter()
        setting = request.sample.setting
        if not isinstance(setting, Setting):
            return Response("bad_request", error="only looks at pictures; there are none")
        try:
            answer = self.runtime.answer(
                request.images, request.prompt, (setting.rows, setting.cols), self.max_tokens
            )
        except TooLongError as error:
            return Response("too_long", error=str(error))
        return Response(
            "ok" if answer.complete else "truncated",
            answer.text,
            stop_reason="stop" if answer.complete else "length",
            model=self.runtime.checksum[:16],
            usage=Usage(answer.prompt_tokens, answer.answer_tokens, answer.cached_tokens),
            latency=time.perf_counter() - began,
            first_token=answer.first_token,
            absent_logprob=answer.absent_logprob if self.logprobs else None,
        )

    def see(self, needs: Needs) -> Sight:
        """Every cell is made 56 x 56 pixels, which is one token; a smaller one gains nothing."""
        setting = needs.sent
        if not isinstance(setting, Setting):
            return Sight(None, None, 0)
        width, height = CELL * setting.cols, CELL * setting.rows
        tokens = setting.rows * setting.cols
        return Sight(min(width, needs.width), min(height, needs.height), tokens)

    def fingerprint(self) -> dict[str, Any]:
        """The checkpoint's checksum and what computes it."""
        return {
            "adapter": "onnx",
            "checkpoint": self.runtime.checksum,
            "engine": f"onnxruntime {onnxruntime.__version__}",
            "max_tokens": self.max_tokens,
        }

    async def aclose(self) -> None:
        """End the thread."""
        self._thread.shutdown()
