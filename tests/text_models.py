"""Text-only checkpoints with random weights: small, quick, and of no sense."""

import json
from pathlib import Path

import torch
from text_sets import write_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|model|>{% endif %}"
)


def write_text_model(folder: Path, *, chats: bool, context: int = 2048) -> Path:
    """A Llama of two layers over the tests' own byte-level BPE."""
    write_tokenizer(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    if chats:
        settings["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=1000,
        pad_token_id=1000,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
