"""From a request's JPEG files to what vLLM's engine core takes, in threads, once a haystack.

vLLM prepares images one request at a time, and each image of a haystack is looked up anew for each
of its questions, which leaves a fast GPU waiting. Here several threads decode and preprocess;
questions about one haystack share the result; and what the engine core holds already is not sent
again. The GPU works in another process meanwhile.

vLLM's own parts do the work: its chat template rendering, its processor and the cache that its
front end and its engine core keep in step (both change it in the order of requests, so here it is
changed in the event loop, right before a request is sent).
"""

import asyncio
import copy
import hashlib
import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import ProcessorInputs, TimingContext
from vllm.renderers.params import ChatParams

from mmneedle.adapters.plain import begun
from mmneedle.types import Request

_BORROWED = 8  # attempts while another thread has the tokenizer
_REMEMBERED = 256  # haystacks whose tokens are kept, without their pixels


class Prepared(NamedTuple):
    """A haystack as the engine core takes it, with the first question asked about it."""

    source: list[int]
    """Tokens of the rendered chat, one placeholder an image."""
    tokens: list[int]
    """Tokens with every image's placeholder as long as the image."""
    hashes: Any
    places: Any
    items: dict[str, list[Any]]
    """The pixels, by modality; empty once the engine core has them."""

    @property
    def bytes(self) -> int:
        """Size of the pixels."""
        return sum(item_bytes(item) for items in self.items.values() for item in items)

    @property
    def images_end(self) -> int:
        """Where in `tokens` the last image ends."""
        return max(int(p.offset + p.length) for places in self.places.values() for p in places)

    def ask(self, source: list[int]) -> list[int] | None:
        """The tokens of another question about the same images; None if it cannot be told."""
        end = self.images_end
        tail = len(self.tokens) - end
        head = self.source[: len(self.source) - tail]
        if self.source[len(head) :] != self.tokens[end:] or source[: len(head)] != head:
            return None
        return self.tokens[:end] + source[len(head) :]


def item_bytes(item: Any) -> int:
    """Size of a processed image's tensors."""
    return sum(
        value.numel() * value.element_size()
        for value in item.get_data().values()
        if isinstance(value, torch.Tensor)
    )


class Preprocessor:
    """Renders, decodes and preprocesses; to be used by several threads at once.

    They share one processor: loading another one, tokenizer and all, takes seconds each.
    """

    def __init__(self, renderer: Any, template: Mapping[str, Any], *, chats: bool = True) -> None:
        self.renderer, self.chats = renderer, chats
        self.params = ChatParams(
            chat_template_kwargs={"add_generation_prompt": True, "tokenize": False, **template}
        )
        self._processor: Any = None
        if renderer.mm_processor is not None:
            # The renderer's own processor, but without the cache that it changes as it works.
            self._processor = MULTIMODAL_REGISTRY.create_processor(
                renderer.model_config, tokenizer=renderer.mm_processor.info.get_tokenizer()
            )
        self._tokenizer = copy.deepcopy(renderer.get_tokenizer())
        self._alone = threading.Lock()

    def render(self, request: Request) -> list[int]:
        """Tokens of the chat: the images in order, then the question; one placeholder an image.

        Of a model that does not chat: those of the text and of how its answer begins.
        """
        if not self.chats:
            with self._alone:
                return list(self._tokenizer.encode(begun(request)))
        blank = Image.new("RGB", (1, 1))
        content: list[Any] = [{"type": "image_pil", "image_pil": blank} for _ in request.images]
        content.append({"type": "text", "text": request.prompt})
        _, prompt = self.renderer.render_messages(
            [{"role": "user", "content": content}], self.params
        )
        if "prompt_token_ids" in prompt:
            return list(prompt["prompt_token_ids"])
        with self._alone:
            return list(self._tokenizer.encode(prompt["prompt"], add_special_tokens=False))

    def prepare(self, request: Request, key: str) -> Prepared:
        """Everything for a haystack's first question."""
        source = self.render(request)
        pictures = [decode(data) for data in request.images]
        made = self._apply(
            ProcessorInputs(
                source,
                self._processor.info.parse_mm_data({"image": pictures}),
                {"image": [f"{key}-{number}" for number in range(len(pictures))]},
            )
        )
        items = {modality: list(made["mm_kwargs"][modality]) for modality in made["mm_kwargs"]}
        tokens = list(made["prompt_token_ids"])
        return Prepared(source, tokens, made["mm_hashes"], made["mm_placeholders"], items)

    def _apply(self, inputs: ProcessorInputs) -> Any:
        """Some models' processors tokenize too, which two threads cannot always do at once."""
        for attempt in range(_BORROWED):
            try:
                return self._processor.apply(inputs, TimingContext(enabled=False))
            except Exception as error:
                if "Already borrowed" not in f"{error} {error.__cause__}":
                    raise
                time.sleep(0.001 * 2**attempt)
        return self._processor.apply(inputs, TimingContext(enabled=False))


def decode(data: bytes) -> Image.Image:
    """An image file's pixels. Raises ValueError where it is damaged."""
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"an image cannot be decoded: {error}") from None


class _Haystack:
    """A haystack that is being asked about."""

    def __init__(self) -> None:
        self.users = 0
        self.bytes = 0
        self.first: str | None = None
        """The prompt that came with it."""
        self.ready: asyncio.Task[Prepared] | None = None


class Inputs:
    """Requests -> engine inputs."""

    def __init__(
        self,
        engine: Any,
        template: Mapping[str, Any],
        threads: int,
        room: int,
        *,
        chats: bool = True,
    ) -> None:
        """Prepare to prepare.

        Args:
            engine: the AsyncLLM.
            template: arguments for the chat template.
            threads: how many decode and preprocess at once.
            room: bytes of pixels that may be in flight, here and in the engine core.
            chats: whether the model has a chat template.
        """
        self.renderer = engine.renderer
        self.work = Preprocessor(engine.renderer, template, chats=chats)
        # One thread of torch's own each: the parallelism is ours.
        self.pool = ThreadPoolExecutor(threads, "images", torch.set_num_threads, (1,))
        # Further questions must not queue behind other haystacks' images.
        self.words = ThreadPoolExecutor(1, "words")
        self.room = _Room(room)
        self._asked: dict[str, _Haystack] = {}
        self._known: OrderedDict[str, Prepared] = OrderedDict()
        self._typical = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator["Ready"]:
        """A request, ready to be sent; the haystack's pixels are let go after the last question.

        Raises ValueError where the model cannot take the request.
        """
        key = haystack_key(request)
        haystack = self._asked.setdefault(key, _Haystack())
        haystack.users += 1
        try:
            if haystack.ready is None:
                haystack.ready = asyncio.create_task(self._prepare(haystack, request, key))
            prepared = await asyncio.shield(haystack.ready)
            yield Ready(self, prepared, await self._tokens(haystack, prepared, request))
        except LookupError:  # what was held is so no more: the next attempt brings it again
            self._known.pop(key, None)
            haystack.ready = None
            raise
        finally:
            haystack.users -= 1
            if not haystack.users:
                self._forget(key, haystack)

    async def words_of(self, request: Request) -> list[int]:
        """The tokens of a request without images."""
        return await asyncio.get_running_loop().run_in_executor(
            self.words, self.work.render, request
        )

    async def _prepare(self, haystack: _Haystack, request: Request, key: str) -> Prepared:
        """The haystack's tokens and, unless the engine core has them, its pixels."""
        known = self._known.get(key)
        if known is not None and self.held(known):
            return known
        guess = self._typical  # haystacks of a setting are of one size
        await self.room.enter(guess)
        haystack.bytes += guess
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(self.pool, self.work.prepare, request, key)
        self.room.correct(prepared.bytes - guess)
        haystack.bytes += prepared.bytes - guess
        self._typical = prepared.bytes
        haystack.first = request.prompt
        return prepared

    async def _tokens(self, haystack: _Haystack, prepared: Prepared, request: Request) -> list[int]:
        if request.prompt == haystack.first:
            return prepared.tokens
        loop = asyncio.get_running_loop()
        source = await loop.run_in_executor(self.words, self.work.render, request)
        tokens = prepared.ask(source)
        if tokens is None:
            raise ValueError("the chat template does not put the images before the question")
        return tokens

    def _forget(self, key: str, haystack: _Haystack) -> None:
        del self._asked[key]
        self.room.leave(haystack.bytes)
        task = haystack.ready
        if task is None:
            return
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            self._known[key] = task.result()._replace(items={})
            self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def held(self, prepared: Prepared) -> bool:
        """Whether the engine core has all pixels of a haystack, if it has a cache for them."""
        cache = self.renderer.mm_processor_cache
        return cache is not None and all(
            all(cache.is_cached(hashes)) for hashes in prepared.hashes.values()
        )

    def close(self) -> None:
        """End the threads."""
        for pool in (self.pool, self.words):
            pool.shutdown(wait=False, cancel_futures=True)


class Ready(NamedTuple):
    """A request that only needs to be sent."""

    inputs: Inputs
    prepared: Prepared
    tokens: list[int]

    def engine_input(self) -> dict[str, Any]:
        """What AsyncLLM takes; to be sent at once, before another request's is made.

        Raises LookupError where the engine core has let go of pixels that we have not kept.
        """
        cache = self.inputs.renderer.mm_processor_cache
        kwargs: dict[str, list[Any]] = {}
        for modality, hashes in self.prepared.hashes.items():
            own = self.prepared.items.get(modality) or [None] * len(hashes)
            kwargs[modality] = [
                self._sent(cache, item, name) for item, name in zip(own, hashes, strict=True)
            ]
        return {
            "type": "multimodal",
            "prompt_token_ids": self.tokens,
            "mm_kwargs": kwargs,
            "mm_hashes": self.prepared.hashes,
            "mm_placeholders": self.prepared.places,
        }

    def _sent(self, cache: Any, item: Any, name: str) -> Any:
        """The pixels, or None where the engine core has them."""
        if cache is None:
            return item
        if item is None and not cache.is_cached_item(name):
            raise LookupError(name)
        return cache.get_and_update_item(None if item is None else (item, []), name)[0]


class _Room:
    """Bytes that may be in flight; who asks first enters first, and one always may."""

    def __init__(self, size: int) -> None:
        self.size, self.used = size, 0
        self._waiting: OrderedDict[asyncio.Future[None], int] = OrderedDict()

    async def enter(self, size: int) -> None:
        if not self._waiting and self._fits(size):
            self.used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = size
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None) is None:  # it had been let in
                self.leave(size)
            raise

    def correct(self, more: int) -> None:
        self.used += more
        self._admit()

    def leave(self, size: int) -> None:
        self.used -= size
        self._admit()

    def _fits(self, size: int) -> bool:
        return self.used + size <= self.size or not self.used

    def _admit(self) -> None:
        while self._waiting:
            turn, size = next(iter(self._waiting.items()))
            if not self._fits(size):
                return
            del self._waiting[turn]
            if not turn.done():
                self.used += size
                turn.set_result(None)


def haystack_key(request: Request) -> str:
    """What tells images apart: SHA-256 over the files in order, which also names them."""
    total = hashlib.sha256()
    for image in request.images:
        total.update(len(image).to_bytes(8, "little"))
        total.update(image)
    return total.hexdigest()


def room_for_pixels() -> int:
    """Bytes of pixels that may be in flight: an eighth of the memory, at most 16 GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(file).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(memory // 8, 16 << 30)
