"""The checkpoint's files: configuration, tokenizer, chat template, processor.

They are those of a Qwen2-VL checkpoint, so transformers (`AutoModelForImageTextToText`) and vLLM
read the folder as it is. The weights' names are transformers'.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from mmneedle.data.shapes import BACKGROUNDS, COLORS, SHAPES, Scene, Thing
from mmneedle.prompts import prompt
from mmneedle.types import Setting

HIDDEN, LAYERS, HEADS, MLP = 256, 6, 2, 768
VISION_WIDTH, VISION_DEPTH, VISION_HEADS = 256, 2, 4
PATCH, MERGE = 28, 2  # a visual token is 2 x 2 patches: 56 px
ROPE_THETA, VISION_ROPE_THETA = 1000.0, 10000.0
MROPE = (16, 24, 24)  # rotary pairs for time, height, width
EPSILON = 1e-6
CONTEXT = 4096
VOCABULARY = 512
MOST_IMAGES = 10
MOST_CELLS = 8  # a side

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

TEMPLATE = (
    "{% set count = namespace(value=0) %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "{% set count.value = count.value + 1 %}"
    "Picture {{ count.value }}: <|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template: "Picture k: " before each image, no system message."""

_PIECES = r"\p{N}| ?\p{L}+|\n| ?[^\s\p{L}\p{N}]|\s"
"""Words with the space before them, single digits, single signs: no token crosses these, so a
text's tokens are its pieces' tokens one after the other."""


def tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer in which every word of prompts and captions is one token.

    What it has never seen becomes bytes. The result depends on prompts and scenes alone.
    """
    result = Tokenizer(models.BPE())
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    result.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    result.train_from_iterator(_corpus(), trainer)
    result.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in SPECIAL]
    )
    return result


def _corpus() -> Iterator[str]:
    """All words that matter; the order and the counts are fixed."""
    for images, grid, needles in product((1, MOST_IMAGES), (1, MOST_CELLS), (1, 2, 5)):
        captions = [""] * needles
        yield prompt(Setting(images, grid, grid, needles), captions)
    for color, shape, background in product(COLORS, SHAPES, BACKGROUNDS):
        thing, other = Thing(color, shape), Thing("red", "circle")
        for relation in ("above", "left of"):
            yield from (" " + text for text in Scene(thing, relation, other, background).captions)
            yield from (" " + text for text in Scene(other, relation, thing, background).captions)
    yield from ["Picture 1: user\nassistant\n"] * 50


def special(words: Tokenizer, word: str) -> int:
    """The id of one of `SPECIAL`. Raises ValueError where the tokenizer has none."""
    number: int | None = words.token_to_id(word)
    if number is None:
        raise ValueError(f"the tokenizer has no {word}")
    return number


def rotary_positions(
    ids: Sequence[int], pad: int, grids: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """Time, row and column of each token for the rotary embedding (arXiv:2409.12191, 2.1).

    Args:
        ids: a prompt's tokens from its beginning.
        pad: the token that stands for visual tokens.
        grids: rows and columns of each image, in visual tokens, in order.
    """
    result: list[tuple[int, int, int]] = []
    following, image, place = 0, 0, 0
    for token in ids:
        if token != pad:
            result.append((following, following, following))
            following += 1
            continue
        rows, cols = grids[image]
        row, column = divmod(place, cols)
        result.append((following, following + row, following + column))
        place += 1
        if place == rows * cols:
            following, image, place = following + max(rows, cols), image + 1, 0
    return result


def config(words: Tokenizer) -> dict[str, Any]:
    """config.json."""
    ids = {word: special(words, word) for word in SPECIAL}
    text = {
        "model_type": "qwen2_vl_text",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_THETA,
        "rope_scaling": {"type": "mrope", "mrope_section": list(MROPE)},
        "use_sliding_window": False,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
    }
    vision = {
        "model_type": "qwen2_vl",
        "depth": VISION_DEPTH,
        "embed_dim": VISION_WIDTH,
        "hidden_size": HIDDEN,
        "num_heads": VISION_HEADS,
        "mlp_ratio": 4,
        "hidden_act": "quick_gelu",
        "in_channels": 3,
        "in_chans": 3,
        "patch_size": PATCH,
        "spatial_patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
    }
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],  # else vLLM takes it for an encoder
        **text,
        "model_type": "qwen2_vl",
        "torch_dtype": "bfloat16",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": vision,
    }


def write(folder: Path) -> None:
    """Write all files of the checkpoint but the weights (model.safetensors)."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    words.save(str(folder / "tokenizer.json"))
    pixels = {"shortest_edge": 56 * 56, "longest_edge": (MOST_CELLS * 56) ** 2}
    end, pad = "<|im_end|>", "<|endoftext|>"
    ids = {word: special(words, word) for word in SPECIAL}
    files: dict[str, Any] = {
        "config.json": config(words),
        "generation_config.json": {
            "do_sample": False,
            "eos_token_id": [ids[end], ids[pad]],
            "pad_token_id": ids[pad],
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": end,
            "pad_token": pad,
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": TEMPLATE,
        },
        "chat_template.json": {"chat_template": TEMPLATE},
        "preprocessor_config.json": {
            "processor_class": "Qwen2VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessor",
            "size": pixels,
            "min_pixels": pixels["shortest_edge"],
            "max_pixels": pixels["longest_edge"],
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": 2,
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": 3,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
