"""Starting vLLM's engine for what a run needs, and saying in one line why it does not start."""

import argparse
import atexit
import contextlib
import difflib
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import vllm.exceptions

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.image_rules import PIXEL_OPTIONS
from mmneedle.errors import UserError
from mmneedle.types import Needs

# Read when the engine starts; what the user has set stays.
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
RESOURCES = frozenset(
    {
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "enforce_eager", "max_model_len"),
        *("max_num_seqs", "max_num_batched_tokens", "renderer_num_workers"),
        *("mm_processor_cache_gb", "mm_processor_cache_type", "swap_space", "cpu_offload_gb"),
    }
)
"""Engine arguments that say how much a run may use, not what it asks: it may go on with others."""
_ROUND = 256  # tokens; a chat template's own words are not counted exactly either
_TEMPLATE, _PER_IMAGE = 192, 16  # tokens that a chat template may add
_SHORT = 400  # characters of an error

for _variable, _default in _ENVIRONMENT.items():
    os.environ.setdefault(_variable, _default)


class EngineLog:
    """A file that takes what vLLM and its processes say, so that the terminal stays readable."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="mmneedle-vllm-", suffix=".log")
        self.path = Path(name)
        self._handle = handle
        atexit.register(self.close)  # a run may end before it begins

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Send stdout and stderr there, also those of processes that are started meanwhile."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(self._handle, number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)

    def take_loggers(self) -> None:
        """From now on, send what vLLM logs in this process there too."""
        handler = logging.FileHandler(self.path)
        for name in ("vllm", "transformers"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [handler], False

    def cause(self) -> str:
        """The last error that it tells of, in one line; empty if none."""
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        errors = re.findall(r"^(?:.*\] )?((?:[\w.]+\.)?\w*(?:Error|Exception): \S.*)$", text, re.M)
        telling = [line for line in errors if not _POINTER.search(line)] or errors
        wanted = [line for line in telling if _MEMORY.search(line)] or telling[-1:]
        return " ".join(wanted[-1].split())[:_SHORT] if wanted else ""

    def keep(self) -> Path:
        """Leave the file where it is, since an error names it."""
        atexit.unregister(self.close)
        return self.path

    def close(self) -> None:
        """Remove the file."""
        atexit.unregister(self.close)
        with contextlib.suppress(OSError):
            os.close(self._handle)
        self.path.unlink(missing_ok=True)


_POINTER = re.compile(r"root cause|initialization failed|engine core proc|EngineDeadError", re.I)
_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|No available memory for the cache"
    r"|larger than the (available KV cache|maximum number of tokens that can be stored)"
    r"|less than desired GPU memory|Cannot allocate memory|MemoryError",
    re.I,
)
_FREE = re.compile(r"Free memory on device[^(]*\(([\d.]+)/([\d.]+) GiB\)")


def out_of_memory(text: str) -> bool:
    """Whether an error is one of memory."""
    return bool(_MEMORY.search(text))


# Newer versions have a class of their own for what a request is to blame for.
REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    getattr(vllm.exceptions, "VLLMClientError", ValueError),
)
"""What vLLM raises where it does not take a request."""


# --------------------------------------------------------------------------- arguments


def read_engine_args(model: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs as vLLM's own command line would.

    Raises:
        UserError: an argument that this vLLM does not have (with the nearest names), or a value
            that it does not take.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(add_help=False))
    actions = {action.dest: action for action in parser._actions}
    result = {}
    for raw, value in given.items():
        name = raw.replace("-", "_")
        if name in PIXEL_OPTIONS:
            continue
        if name == "model" or name not in actions:
            near = difflib.get_close_matches(name, [*actions, *PIXEL_OPTIONS], 3, 0.5)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise UserError(f"{model}: vLLM has no engine argument {raw!r}{hint}")
        result[name] = _value(model, parser, actions[name], value)
    return result


def _value(model: str, parser: Any, action: argparse.Action, text: str) -> Any:
    option = next(name for name in action.option_strings if name.startswith("--"))
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in words:
            raise UserError(f"{model}: {action.dest} is {text!r}, not true or false")
        return words[text.lower()]

    def complain(message: str) -> None:
        raise UserError(f"{model}: engine argument {action.dest}={text}: {message}")

    parser.error = complain
    words_given = text.split() if action.nargs in ("+", "*") else [text]
    argv = [option, *words_given] if len(words_given) > 1 else [f"{option}={text}"]
    try:
        value = getattr(parser.parse_args(argv), action.dest)
    except SystemExit:
        complain("not understood")
    if isinstance(value, str) and text[:1] in ("{", "["):  # vLLM takes it for a word
        complain("not JSON")
    return value


# --------------------------------------------------------------------------- sizes


class Plan:
    """Engine arguments for a checkpoint and what is asked of it."""

    def __init__(
        self, model: str, checkpoint: Checkpoint, given: Mapping[str, str], max_tokens: int
    ) -> None:
        self.model, self.checkpoint, self.max_tokens = model, checkpoint, max_tokens
        self.images = checkpoint.images
        """What becomes of an image's size."""
        self.given = read_engine_args(model, given)
        # Ours, not the renderer's, which takes no more than one where it has a cache.
        self.threads: int | None = self.given.pop("renderer_num_workers", None)
        self.pixels = {
            name.replace("-", "_"): value
            for name, value in given.items()
            if name.replace("-", "_") in PIXEL_OPTIONS
        }

    def arguments(self, needs: Sequence[Needs]) -> dict[str, Any]:
        """All arguments for the engine.

        Raises:
            UserError: the model's context is too short, or it takes fewer images.
        """
        images = max((need.images for need in needs), default=1)
        if images:
            self.checkpoint.check_sight()
        width = max((need.width or 1 for need in needs), default=1)
        height = max((need.height or 1 for need in needs), default=1)
        result: dict[str, Any] = {
            "model": self.checkpoint.name,
            "enable_prefix_caching": True,
            "disable_log_stats": False,  # the time to the first token comes with them
        }
        if self.checkpoint.sees:
            result["limit_mm_per_prompt"] = {"image": images or 1, "video": 0, "audio": 0}
            self.images = self.checkpoint.images.fitted(width, height, self.pixels)
        if self.images != self.checkpoint.images:
            result["mm_processor_kwargs"] = self.images.kwargs()
        result |= self.given
        if "max_model_len" not in self.given and needs:
            result["max_model_len"] = self._context(needs, result)
        return result

    def _context(self, needs: Sequence[Needs], arguments: Mapping[str, Any]) -> int:
        """Tokens that the longest prompt and answer take, within what the model has."""
        from vllm.engine.arg_utils import AsyncEngineArgs

        config = AsyncEngineArgs(**arguments).create_model_config()
        if not config.is_multimodal_model and any(need.images for need in needs):
            raise UserError(f"{self.model}: vLLM runs this model on text alone")
        counts = [self._count(config, need) for need in needs]
        room = max(counts) + self.max_tokens
        need = needs[counts.index(max(counts))]
        wanted = -(-(room + _TEMPLATE + _PER_IMAGE * need.images) // _ROUND) * _ROUND
        has = int(config.max_model_len)
        if room > has and need.images:  # texts that are too long are told one by one: too_long
            raise UserError(
                f"{self.model}: {need.images} images of {need.width}x{need.height} pixels, the "
                f"question and {self.max_tokens} tokens of answer take {room} tokens, the "
                f"model has {has}: leave out settings with --settings, build with fewer images or "
                "a smaller --cell, give --engine-arg max_pixels=N to shrink the images, or stretch "
                "the context with --engine-arg hf_overrides={…rope_scaling…} and max_model_len=N"
            )
        return min(wanted, has)

    def _count(self, config: Any, need: Needs) -> int:
        """Tokens of a setting's longest prompt without the chat template's own."""
        from PIL import Image
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.multimodal.processing import ProcessorInputs, TimingContext
        from vllm.tokenizers import get_tokenizer

        images = need.images
        if not images:
            tokenizer = get_tokenizer(config.tokenizer, revision=config.tokenizer_revision)
            return len(tokenizer.encode(need.prompt, add_special_tokens=False))
        processor = MULTIMODAL_REGISTRY.create_processor(config)
        encode: Callable[..., list[int]] = processor.info.get_tokenizer().encode
        blank = [Image.new("RGB", (need.width, need.height)) for _ in range(images)]
        text = processor.dummy_inputs.get_dummy_text({"image": images})
        try:
            pictures = processor.info.parse_mm_data({"image": blank})
        except REFUSALS as error:
            raise UserError(
                f"{self.model}: does not take {images} images ({one_line(error)}): leave out "
                "settings with --settings, or build with fewer images"
            ) from None
        made = processor.apply(
            ProcessorInputs(
                encode(text, add_special_tokens=False),
                pictures,
                {"image": [f"blank-{number}" for number in range(images)]},
            ),
            TimingContext(enabled=False),
        )
        words = encode(need.prompt, add_special_tokens=False)
        tokens: list[int] = made["prompt_token_ids"]
        return len(tokens) + len(words)


def smaller(arguments: Mapping[str, Any], given: Mapping[str, Any], cause: str) -> dict[str, Any]:
    """Arguments for a second attempt after memory was short; what the user gave stays."""
    result = dict(arguments)
    free = _FREE.search(cause)
    if free:
        less = {"gpu_memory_utilization": round(0.95 * float(free[1]) / float(free[2]), 2)}
    else:
        less = {
            "max_num_seqs": 16,
            "max_num_batched_tokens": max(2048, min(8192, result.get("max_model_len") or 8192)),
            "enforce_eager": True,
        }
    return result | {name: value for name, value in less.items() if name not in given}


# --------------------------------------------------------------------------- starting


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started meanwhile never get SIGINT: a Ctrl-C is for the run, which ends them.

    vLLM's engine core would end at once, with the answers that the run still waits for. What a
    thread blocks, its children block for good. Another thread takes the signal for this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # where it is started later, it unblocks the signal
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()


def start(model: str, plan: Plan, needs: Sequence[Needs], log: EngineLog) -> Any:
    """An AsyncLLM, its engine core in a process of its own.

    Raises:
        UserError: it cannot serve these needs, or does not start, and why.
    """
    log.take_loggers()
    with log.taking(), deaf_children():
        try:
            arguments = plan.arguments(needs)
            return _start(arguments)
        except UserError:
            raise
        except Exception as error:
            cause = log.cause() or one_line(error)
            if not out_of_memory(cause):
                raise UserError(_failed(model, error, cause, log)) from None
        try:
            return _start(smaller(arguments, plan.given, cause))
        except Exception as error:
            cause = log.cause() or one_line(error)
            raise UserError(_failed(model, error, cause, log)) from None


def _start(arguments: Mapping[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    # The batch sizes of offline use: larger steps, more tokens a second.
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS
    )


def _failed(model: str, error: Exception, cause: str, log: EngineLog) -> str:
    if out_of_memory(cause):
        return (
            f"{model}: not enough memory for the model and its cache, also with smaller batches: "
            "give --engine-arg gpu_memory_utilization=0.95 (or less, if others use the GPU), "
            "max_model_len=N, or tensor_parallel_size=N over more GPUs, or leave out large "
            f"settings with --settings ({cause}; log: {log.keep()})"
        )
    text = one_line(error)
    told = cause if _POINTER.search(text) or not text else text
    return f"{model}: vLLM does not start: {told[:_SHORT]} (log: {log.keep()})"


def one_line(error: BaseException) -> str:
    """An error's words; pydantic writes several lines of which the second tells."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 2 and "validation error" in lines[0]:
        return re.sub(r"\s*\[type=.*", "", lines[1]) or lines[2]
    return " ".join(lines) or type(error).__name__
