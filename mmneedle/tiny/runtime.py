"""The checkpoint run by onnxruntime: no torch, a hundred megabytes of packages.

The graphs hold no weights; they are read from model.safetensors (bfloat16) and computed with in
float32. What stands before the captions (images and instruction) is kept from one question to
the next, so further questions about a haystack cost little.
"""

import hashlib
import io
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import msgspec
import numpy as np
import onnxruntime as ort
import safetensors
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from mmneedle.errors import UserError
from mmneedle.tiny import CELL
from mmneedle.tiny import checkpoint as cp

Floats = NDArray[np.float32]

_KEPT = 2  # haystacks whose keys and values are kept: 9 MB each at the most
_ENDS = ("<|im_end|>", "<|endoftext|>")
_CAPTION = "\nCaption"  # what is before it is the same for all questions about a haystack


class Answer(NamedTuple):
    """What the model said."""

    text: str
    complete: bool
    """Whether it came to an end by itself."""
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    first_token: float
    """Seconds to the first token."""
    absent_logprob: float
    """Natural logarithm of the probability that the answer begins with "-"."""


class _Prefix(NamedTuple):
    """Keys and values of the tokens that a haystack's questions share."""

    ids: list[int]
    positions: list[tuple[int, int, int]]
    cache: Floats
    """[layers, 2, heads, tokens, 128]."""


class TooLongError(Exception):
    """The prompt does not fit into the context."""


class TinyRuntime:
    """A checkpoint ready to answer."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load it.

        Args:
            folder: the checkpoint with its graphs (`tiny/export.py` writes them).
            threads: threads of the computation; onnxruntime's choice by default.

        Raises:
            UserError: files that are missing, or not those whose checksums stand beside them.
        """
        self.checksum = _check(folder)
        self.words: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = msgspec.json.decode((folder / "tokenizer_config.json").read_bytes())
        self.template = jinja2.Template(settings["chat_template"])
        self.ends = {cp.special(self.words, word) for word in _ENDS}
        self.pad = cp.special(self.words, "<|image_pad|>")
        self.no = self.words.encode("-1").ids[0]
        weights = _weights(folder / "model.safetensors")
        patches = weights["visual.patch_embed.proj.weight"]
        weights["visual.patch_embed.proj.weight"] = patches.sum(2).reshape(len(patches), -1)
        self.vision = _session(folder / "vision.onnx", _names(weights, "visual."), threads)
        self.language = _session(
            folder / "language.onnx", _names(weights, "model.", "language_model."), threads
        )
        self.prefixes: OrderedDict[bytes, _Prefix] = OrderedDict()

    def answer(
        self, images: Sequence[bytes], prompt: str, cells: tuple[int, int], max_tokens: int
    ) -> Answer:
        """Look at images and answer greedily.

        Args:
            images: JPEG files.
            prompt: the text after them.
            cells: rows and columns of an image; each cell is made 56 x 56 pixels.
            max_tokens: how long the answer may get.

        Raises:
            TooLongError: prompt and answer do not fit into the context.
        """
        began = time.perf_counter()
        text = self._render(len(images), prompt)
        shared, caption, rest = text.partition(_CAPTION)
        prefix, cached = self._prefix(images, shared, cells, max_tokens)
        ids = self.words.encode(caption + rest).ids
        start = max(prefix.positions[-1]) + 1
        positions = [(start + i,) * 3 for i in range(len(ids))]
        prompt_tokens = len(prefix.ids) + len(ids)
        if prompt_tokens + max_tokens > cp.CONTEXT:
            raise TooLongError(
                f"{prompt_tokens} tokens and {max_tokens} more for the answer are longer than the "
                f"context of {cp.CONTEXT}"
            )
        said: list[int] = []
        cache = prefix.cache
        first = absent = 0.0
        while len(said) < max_tokens:
            logits, cache = self._step(ids, positions, cache)
            if not said:
                first = time.perf_counter() - began
                absent = _log_softmax(logits, self.no)
            token = int(logits.argmax())
            said.append(token)
            if token in self.ends:
                break
            start = positions[-1][0] + 1
            ids, positions = [token], [(start,) * 3]
        complete = said[-1] in self.ends
        answer = self.words.decode(said[:-1] if complete else said)
        return Answer(answer, complete, prompt_tokens, cached, len(said), first, absent)

    def _render(self, images: int, prompt: str) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] * images
        content = [*content, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        text: str = self.template.render(messages=messages, add_generation_prompt=True)
        return text

    def _prefix(
        self, images: Sequence[bytes], text: str, cells: tuple[int, int], max_tokens: int
    ) -> tuple[_Prefix, int]:
        """The shared part, computed or kept; and how many of its tokens were kept."""
        digest = hashlib.sha256(text.encode())
        for image in images:
            digest.update(hashlib.sha256(image).digest())
        key = digest.digest()
        kept = self.prefixes.get(key)
        if kept is not None:
            self.prefixes.move_to_end(key)
            return kept, len(kept.ids)
        prefix = self._look(images, text, cells, max_tokens)
        self.prefixes[key] = prefix
        while len(self.prefixes) > _KEPT:
            self.prefixes.popitem(last=False)
        return prefix, 0

    def _look(
        self, images: Sequence[bytes], text: str, cells: tuple[int, int], max_tokens: int
    ) -> _Prefix:
        rows, cols = cells
        parts = text.split("<|image_pad|>")
        pads = "<|image_pad|>" * (rows * cols)
        ids = self.words.encode(pads.join(parts)).ids
        if len(ids) + max_tokens > cp.CONTEXT:
            raise TooLongError(
                f"{len(images)} image(s) of {rows}x{cols} cells are {len(ids)} tokens: too many "
                f"for the context of {cp.CONTEXT}"
            )
        positions = cp.rotary_positions(ids, self.pad, [cells] * len(images))
        is_visual = np.array(ids) == self.pad
        visual = np.zeros((len(ids), cp.HIDDEN), np.float32)
        if images:
            visual[is_visual] = self._visual_tokens(images, rows, cols)
        empty = np.zeros((cp.LAYERS, 2, cp.HEADS, 0, cp.HIDDEN // cp.HEADS), np.float32)
        _, cache = self._step(ids, positions, empty, visual, is_visual)
        return _Prefix(ids, positions, cache)

    def _visual_tokens(self, images: Sequence[bytes], rows: int, cols: int) -> Floats:
        """[images * rows * cols, D]."""
        pixels = np.stack([_patches(image, rows, cols) for image in images])
        down, across = _places(rows, cols)
        (tokens,) = self.vision.run(None, {"pixels": pixels, "rows": down, "cols": across})
        return np.asarray(tokens, np.float32).reshape(-1, cp.HIDDEN)

    def _step(
        self,
        ids: Sequence[int],
        positions: Sequence[tuple[int, ...]],
        cache: Floats,
        visual: Floats | None = None,
        is_visual: NDArray[np.bool_] | None = None,
    ) -> tuple[Floats, Floats]:
        """The last token's logits [vocabulary], and the cache with these tokens in it."""
        feed = {
            "ids": np.array(ids, np.int64),
            "visual": np.zeros((len(ids), cp.HIDDEN), np.float32) if visual is None else visual,
            "is_visual": np.zeros(len(ids), bool) if is_visual is None else is_visual,
            "positions": np.ascontiguousarray(np.array(positions, np.int64).T),
            "past": cache,
        }
        logits, grown = self.language.run(None, feed)
        return np.asarray(logits), np.asarray(grown)


def _patches(image: bytes, rows: int, cols: int) -> Floats:
    """An image as [4 * rows * cols, 3 * 28 * 28] in -1..1, visual token by visual token."""
    picture = Image.open(io.BytesIO(image)).convert("RGB")
    size = (cols * CELL, rows * CELL)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(picture, np.float32) / 127.5 - 1
    split = pixels.reshape(rows, 2, cp.PATCH, cols, 2, cp.PATCH, 3)
    return split.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * cols * 4, -1)


def _places(rows: int, cols: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each patch, in the order of `_patches`."""
    grid = np.mgrid[: 2 * rows, : 2 * cols].reshape(2, rows, 2, cols, 2)
    places = grid.transpose(0, 1, 3, 2, 4).reshape(2, -1)
    return np.ascontiguousarray(places[0]), np.ascontiguousarray(places[1])


def _log_softmax(logits: Floats, token: int) -> float:
    """Natural logarithm of one token's probability."""
    wide = logits.astype(np.float64)
    most = wide.max()
    return float(wide[token] - most - math.log(np.exp(wide - most).sum()))


# --------------------------------------------------------------------------- loading


def _check(folder: Path) -> str:
    """Compare all files with their checksums. Returns the SHA-256 (hex) over the checksums."""
    try:
        sums = (folder / "SHA256SUMS").read_text()
        for line in sums.splitlines():
            wanted, name = line.split()
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != wanted:
                raise UserError(
                    f"{folder / name}: is not the file that SHA256SUMS names: install mmneedle "
                    "again, or export the checkpoint again (python -m mmneedle.tiny.export)"
                )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: no checkpoint for onnxruntime here ({error}); python -m "
            "mmneedle.tiny.export CHECKPOINT makes one of a trained checkpoint"
        ) from None
    return hashlib.sha256(sums.encode()).hexdigest()


def _weights(path: Path) -> dict[str, Floats]:
    """All tensors of a bfloat16 safetensors file, as float32."""
    tensors = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    return {name: _floats(entry) for name, entry in tensors}


def _floats(entry: dict[str, Any]) -> Floats:
    """bfloat16 is the upper half of float32."""
    halves = np.frombuffer(entry["data"], "<u2").astype(np.uint32)
    return (halves << 16).view(np.float32).reshape(entry["shape"])


def _names(weights: dict[str, Floats], prefix: str, instead: str = "") -> dict[str, Floats]:
    """The weights with this prefix, under the names that a graph has for them."""
    return {
        instead + name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _session(path: Path, weights: dict[str, Floats], threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    values = [ort.OrtValue.ortvalue_from_numpy(tensor) for tensor in weights.values()]
    options.add_external_initializers(list(weights), values)
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
