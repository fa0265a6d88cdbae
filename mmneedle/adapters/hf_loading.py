"""Loading a checkpoint through transformers 5: engine arguments, processor and model."""

import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
)

from mmneedle.adapters import options
from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.adapters.image_rules import PIXEL_OPTIONS, ImageRule
from mmneedle.errors import UserError

_DTYPES = ("float32", "bfloat16", "float16", "auto")
_LOADING = (  # handed to from_pretrained
    *("attn_implementation", "experts_implementation", "device_map", "max_memory"),
    *("offload_folder", "offload_buffers", "tp_plan", "use_kernels", "quantization_config"),
)
_SAMPLING = (  # handed to GenerationConfig
    *("top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram_size"),
    *("cache_implementation", "prefill_chunk_size"),
)
_ROPE = ("rope_scaling", "rope_parameters")
_GREEDY = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


class Arguments(msgspec.Struct, frozen=True):
    """Engine arguments, sorted by who takes them."""

    device: str
    dtype: str
    batch_size: int
    threads: int | None
    """That decode and prepare images; None: as many as there are cores, at most sixteen."""
    trust_remote_code: bool
    max_model_len: int | None
    """Tokens of prompt and answer together; None: as the checkpoint says."""
    pixels: dict[str, str]
    loading: dict[str, Any]
    sampling: dict[str, Any]
    config: dict[str, Any]
    """Fields of the language model's configuration."""

    @classmethod
    def read(cls, model: str, checkpoint: Checkpoint, given: Mapping[str, str]) -> "Arguments":
        """Sort arguments out. Raises UserError for one that nobody takes, or a wrong value."""
        device = given.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        _check_device(model, device)
        default = "float32" if device == "cpu" else "bfloat16"
        own = options.read(
            model,
            {key: given[key] for key in ("batch_size", "threads", "max_model_len") if key in given},
            dict.fromkeys(("batch_size", "threads", "max_model_len"), options.whole(1)),
        )
        switch = options.read(
            model,
            {"trust_remote_code": given.get("trust_remote_code", "false")},
            {"trust_remote_code": options.yes},
        )
        dtype = given.get("dtype", default)
        options.read(model, {"dtype": dtype}, {"dtype": options.one_of(_DTYPES)})
        known = {*own, *PIXEL_OPTIONS, "device", "dtype", "trust_remote_code"}
        rest = {key: _value(text) for key, text in given.items() if key not in known}
        config = {key: rest.pop(key) for key in list(rest) if key not in _LOADING + _SAMPLING}
        _check_config(model, checkpoint, config)
        return cls(
            device=device,
            dtype=dtype,
            batch_size=own.get("batch_size", 8),
            threads=own.get("threads"),
            trust_remote_code=switch["trust_remote_code"],
            max_model_len=own.get("max_model_len"),
            pixels={key: given[key] for key in PIXEL_OPTIONS if key in given},
            loading={key: rest[key] for key in _LOADING if key in rest},
            sampling={key: rest[key] for key in _SAMPLING if key in rest},
            config=config,
        )

    def context(self, checkpoint: Checkpoint) -> int | None:
        """Tokens that fit in."""
        if self.max_model_len is not None:
            return self.max_model_len
        length = self.config.get("max_position_embeddings") or checkpoint.context
        for name in _ROPE:
            factor = (self.config.get(name) or {}).get("factor", 1)
            length = length and int(length * max(1, factor))
        return int(length) if length else None


def _check_device(model: str, device: str) -> None:
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise UserError(f"{model}: device is {device!r}, not cpu, cuda or cuda:1") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{model}: there is no {device} here (CUDA devices that torch {torch.__version__} "
            f"sees: {torch.cuda.device_count()}); --engine-arg device=cpu works anywhere"
        )


def _check_config(model: str, checkpoint: Checkpoint, changes: Mapping[str, Any]) -> None:
    text = checkpoint.config.get("text_config")
    fields = {*checkpoint.config, *(text if isinstance(text, dict) else ()), *_ROPE}
    for name in changes:
        if name not in fields:
            known = ("batch_size", "device", "dtype", "max_model_len", *PIXEL_OPTIONS, "threads")
            raise UserError(
                f"{model}: no engine argument {name!r}; it takes {', '.join(known)}, "
                f"trust_remote_code, {', '.join(_LOADING + _SAMPLING)}, rope_scaling and the "
                "fields of the model's config.json"
            )
    for name in _ROPE:
        if name in changes and not isinstance(changes[name], dict):
            raise UserError(
                f'{model}: {name} takes JSON such as {{"rope_type": "yarn", "factor": 4.0}}'
            )


def _value(text: str) -> Any:
    """JSON where it is some, else the words themselves."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


# --------------------------------------------------------------------------- processor


def load_processor(checkpoint: Checkpoint, rule: ImageRule, trust_remote_code: bool) -> Any:
    """The processor, which keeps images within the rule's limits.

    Where torchvision is missing, processors that also take videos cannot be built; then the parts
    for text and images are put together without the one for videos. Pixels are the same.
    """
    where: dict[str, Any] = {"revision": checkpoint.revision} if checkpoint.revision else {}
    where["trust_remote_code"] = trust_remote_code
    if not checkpoint.sees:
        return Words(transformers.AutoTokenizer.from_pretrained(checkpoint.name, **where))
    if importlib.util.find_spec("torchvision") is not None:
        processor = transformers.AutoProcessor.from_pretrained(checkpoint.name, **where)
    else:
        try:
            processor = transformers.AutoProcessor.from_pretrained(checkpoint.name, **where)
        except ImportError as error:
            if "torchvision" not in str(error).lower():
                raise
            processor = _without_videos(checkpoint, where)
    if not getattr(processor, "chat_template", None):  # in many folders the tokenizer has it
        processor.chat_template = getattr(processor.tokenizer, "chat_template", None)
    if rule.kind == "pixels":
        images = processor.image_processor
        limits = {"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels}
        images.size = type(images.size)(**limits)
    return processor


class Words:
    """The tokenizer of a text-only model, in the place of a processor."""

    image_processor = None

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **how: Any) -> str:
        """The chat as text; such templates take a text, not a list of parts."""
        plain = [
            {"role": one["role"], "content": "".join(part["text"] for part in one["content"])}
            for one in messages
        ]
        return str(self.tokenizer.apply_chat_template(plain, **how))

    def __call__(self, images: None, text: list[str], return_tensors: str) -> Any:
        """Tokens of a text; a chat template has put in what a chat begins with."""
        return self.tokenizer(
            text,
            return_tensors=return_tensors,
            add_special_tokens=not self.tokenizer.chat_template,
        )


def _without_videos(checkpoint: Checkpoint, where: Mapping[str, Any]) -> Any:
    base = _processor_class(checkpoint, where)

    class Processor(base):  # type: ignore[valid-type, misc]
        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            if part is not None:
                return super().check_argument_for_proper_class(name, part)
            return None

    Processor.__name__ = base.__name__  # its messages name it
    makers: dict[str, Any] = {
        "tokenizer": transformers.AutoTokenizer,
        "image_processor": transformers.AutoImageProcessor,
    }
    parts = [
        makers[name].from_pretrained(checkpoint.name, **where) if name in makers else None
        for name in base.get_attributes()
    ]
    settings, rest = base.get_processor_dict(checkpoint.name, **where)
    return Processor.from_args_and_dict(parts, settings, **rest)


def _processor_class(checkpoint: Checkpoint, where: Mapping[str, Any]) -> Any:
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING,
        processor_class_from_name,
    )

    for file in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        path = checkpoint.folder / file
        if path.is_file():
            name = json.loads(path.read_bytes()).get("processor_class")
            found = processor_class_from_name(name) if name else None
            if found is not None:
                return found
    return PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(checkpoint.name, **where))]


# --------------------------------------------------------------------------- model


def load_model(model: str, checkpoint: Checkpoint, arguments: Arguments) -> Any:
    """The model in evaluation mode on its device.

    Raises:
        UserError: weights that do not fit the configuration, or that are not all there.
    """
    where: dict[str, Any] = {"revision": checkpoint.revision} if checkpoint.revision else {}
    where["trust_remote_code"] = arguments.trust_remote_code
    config = AutoConfig.from_pretrained(checkpoint.name, **where)
    _change(config.get_text_config(), arguments.config)
    kind = AutoModelForImageTextToText if checkpoint.sees else AutoModelForCausalLM
    loaded, report = kind.from_pretrained(
        checkpoint.name,
        config=config,
        dtype=arguments.dtype if arguments.dtype == "auto" else getattr(torch, arguments.dtype),
        output_loading_info=True,
        **where,
        **arguments.loading,
    )
    missing = sorted(report.get("missing_keys") or ())
    if missing:  # transformers would go on with random numbers
        raise UserError(
            f"{model}: {len(missing)} weights are missing from the checkpoint, such as "
            f"{missing[0]}; copy or download it again"
        )
    if "device_map" not in arguments.loading and "tp_plan" not in arguments.loading:
        loaded = loaded.to(arguments.device)
    return loaded.eval()


def _change(config: Any, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if name in _ROPE:
            kind = {"rope_type": value["type"]} if "type" in value else {}
            value = {**(getattr(config, "rope_parameters", None) or {}), **value, **kind}
            name = "rope_parameters"
        setattr(config, name, value)


def generation_config(
    model: Any, tokenizer: Any, temperature: float | None, sampling: Mapping[str, Any]
) -> Any:
    """How to generate: greedily unless there is a temperature; the checkpoint's own habits in
    sampling (temperature, penalties) are left aside, as every model is asked alike.
    """
    before = model.generation_config
    ends = before.eos_token_id if before.eos_token_id is not None else tokenizer.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    pad = next(
        token
        for token in (tokenizer.pad_token_id, before.pad_token_id, *(ends or ()), 0)
        if token is not None
    )
    draw = {"do_sample": True, "temperature": temperature} if temperature else {}
    return GenerationConfig(
        bos_token_id=before.bos_token_id,
        eos_token_id=ends,
        pad_token_id=pad,
        **{**_GREEDY, "repetition_penalty": 1.0, **draw, **sampling},
    )


def quieten() -> None:
    """transformers' progress bars and advice would run through ours."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
