"""A vLLM engine of the tests' own, in an event loop of its own: starting one takes a minute."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from mmneedle.adapters import create
from mmneedle.tiny import WEIGHTS
from mmneedle.types import Needs, Request, Response

MODEL = f"vllm/{WEIGHTS}"
ARGS = {
    "dtype": "float32",
    "enforce_eager": "true",
    "kv_cache_memory_bytes": str(256 << 20),
}


class Engine:
    def __init__(self, needs: Sequence[Needs], **options: Any) -> None:
        self.adapter: Any = create(MODEL, **options)
        self.adapter.prepare(needs)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def ask(self, requests: Sequence[Request]) -> list[Response]:
        """All at once."""

        async def all_of_them() -> list[Response]:
            return await asyncio.gather(*map(self.adapter.generate, requests))

        return self.wait(all_of_them())

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def forget(self) -> None:
        """Keys and values of earlier requests, so that counts begin at nothing."""
        self.wait(self.adapter.engine.reset_prefix_cache())

    def close(self) -> None:
        self.wait(self.adapter.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)


def truth(request: Request) -> str:
    return "; ".join(str(place or "-1") for place in request.sample.truth)
