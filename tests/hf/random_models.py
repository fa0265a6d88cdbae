"""Checkpoints of several families with random weights: small, quick, and of no sense."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoTokenizer

from mmneedle.tiny import WEIGHTS

_MARKS = {  # the text that stands for an image, in the family's own way
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "llava": "<image>",
    "idefics3": "<image>",
}
FAMILIES = tuple(_MARKS)
_TEXT = {
    "vocab_size": 520,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 497,
    "eos_token_id": 499,
    "pad_token_id": 497,
}


def write_model(folder: Path, family: str, **changes: Any) -> Path:
    """A checkpoint as `save_pretrained` makes it."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    extra = {"idefics3": ["<image>", "<fake_token_around_image>", "<global-img>"]}
    tokenizer.add_special_tokens(
        {"additional_special_tokens": extra.get(family, ["<image>"])},
        replace_extra_special_tokens=False,
    )
    tokenizer.chat_template = (
        "{% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}"
        + _MARKS[family]
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n<|im_start|>assistant\n"
    )
    tokenizer.save_pretrained(folder)
    config, processor = _configs(family, tokenizer)
    if family == "idefics3":  # the processor's own tokens for rows and columns stay words here
        processor["do_image_splitting"] = False
    config = config | changes
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    parts = {
        "llava": {"patch_size": 8, "vision_feature_select_strategy": "default"}
        | {"num_additional_image_tokens": 1, "image_token": "<image>"},
        "idefics3": {"image_seq_len": 4},
    }
    if family in parts:
        words = parts[family] | {"processor_class": processor["processor_class"]}
        (folder / "processor_config.json").write_text(json.dumps(words))
    torch.manual_seed(5)
    made = AutoModelForImageTextToText.from_config(
        transformers.AutoConfig.for_model(family, **config)
    )
    for weight in made.parameters():  # large enough that images and places change what is said
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(folder)
    return folder


def _configs(family: str, tokenizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    image = tokenizer.convert_tokens_to_ids("<image>")
    if family.startswith("qwen"):
        qwen3 = family == "qwen3_vl"
        vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2}
        vision |= {"out_hidden_size": 64, "patch_size": 14, "num_position_embeddings": 64}
        if not qwen3:
            vision |= {"window_size": 112, "fullatt_block_indexes": [1]}
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
        text = _TEXT | {"rope_parameters": rope, "head_dim": 32}
        marks = {"image_token_id": 502, "video_token_id": 503}
        marks |= {"vision_start_token_id": 500, "vision_end_token_id": 501}
        config = {"text_config": text, "vision_config": vision, **marks}
        if qwen3:
            vision["deepstack_visual_indexes"] = [0, 1]
        return config, {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen3VLProcessor" if qwen3 else "Qwen2_5_VLProcessor",
            "patch_size": 14,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "size": {"shortest_edge": 784, "longest_edge": 12544},
        }
    vision = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}
    vision |= {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8}
    text = _TEXT | {"model_type": "llama"}
    if family == "llava":
        vision |= {"model_type": "clip_vision_model", "projection_dim": 64}
        config = {"text_config": text, "vision_config": vision, "image_token_index": image}
        config |= {"vision_feature_select_strategy": "default", "vision_feature_layer": -1}
        return config, {
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
        }
    config = {"text_config": text, "vision_config": vision, "image_token_id": image}
    return config | {"scale_factor": 2}, {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "size": {"longest_edge": 32},
        "max_image_size": {"longest_edge": 32},
    }
