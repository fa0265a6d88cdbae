"""A model folder of a real size without weights: what an engine needs to time it with dummy ones.

Speeds are those of the real model, answers mean nothing. The configuration is that of
Qwen2.5-VL-7B-Instruct; the tokenizer is byte-level, with merges learned from the benchmark's own
prompts (so that prompts are about as long as in the real one) and padded to its vocabulary.
"""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

_WORDS = 151643  # ids below are words, from here on special tokens, as in Qwen
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen25_vl_7b() -> dict[str, Any]:
    """config.json of Qwen2.5-VL-7B-Instruct."""
    return _qwen25_vl(
        *(3584, 28, 28, 4, 18944, [16, 24, 24]),
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
        [7, 15, 23, 31],
    )


def qwen25_vl_small() -> dict[str, Any]:
    """The same family, small enough for a CPU."""
    return _qwen25_vl(
        *(64, 2, 2, 1, 128, [4, 6, 6]),
        {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2},
        [1],
    )


def _qwen25_vl(
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    inner: int,
    sections: list[int],
    vision: dict[str, int],
    full: list[int],
) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "hidden_act": "silu",
        "vocab_size": 152064,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": sections},
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "bos_token_id": _WORDS,
        "eos_token_id": _id("<|im_end|>"),
        "vision_start_token_id": _id("<|vision_start|>"),
        "vision_end_token_id": _id("<|vision_end|>"),
        "vision_token_id": _id("<|vision_pad|>"),
        "image_token_id": _id("<|image_pad|>"),
        "video_token_id": _id("<|video_pad|>"),
        "torch_dtype": "bfloat16",
        "vision_config": {
            **vision,
            "hidden_act": "silu",
            "in_chans": 3,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": full,
            "tokens_per_second": 2,
        },
    }


def _id(token: str) -> int:
    return _WORDS + _SPECIAL.index(token)


def write_model(folder: Path, config: dict[str, Any], texts: Iterable[str]) -> Path:
    """Write a model's folder without its weights; `texts` are like the prompts it will read."""
    folder.mkdir(parents=True, exist_ok=True)
    _json(folder / "config.json", config)
    _json(
        folder / "generation_config.json",
        {"do_sample": False, "eos_token_id": _id("<|im_end|>"), "pad_token_id": _WORDS},
    )
    _json(
        folder / "preprocessor_config.json",
        {
            "processor_class": "Qwen2_5_VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessor",
            "min_pixels": 3136,
            "max_pixels": 12845056,
            "patch_size": 14,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )
    _tokenizer(texts).save(str(folder / "tokenizer.json"))
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 131072,
            "clean_up_tokenization_spaces": False,
            "chat_template": _TEMPLATE,
        },
    )
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    header = json.dumps({"none": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    return folder


def _tokenizer(texts: Iterable[str]) -> Tokenizer:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=4096, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(learner.to_str())["model"]
    vocabulary = learned["vocab"]
    vocabulary |= {f"<unused{n}>": n for n in range(len(vocabulary), _WORDS)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in learned["merges"]]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    return tokenizer


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))
