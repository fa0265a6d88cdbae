"""Model folders made by hand: as much of a checkpoint as can be read without an engine."""

import json
import struct
from pathlib import Path
from typing import Any

QWEN = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "patch_size": 14,
    "merge_size": 2,
    "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
}


def write_safetensors(path: Path, values: int = 4) -> None:
    """One float32 tensor, in the published format."""
    header = {"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * values))


def write_checkpoint(folder: Path, **changes: Any) -> Path:
    """A folder that passes every check; a change names a file by its stem, None leaves it out."""
    files: dict[str, Any] = {
        "config": {
            "model_type": "qwen2_vl",
            "vision_config": {"depth": 2},
            "text_config": {"max_position_embeddings": 4096},
        },
        "preprocessor_config": QWEN,
        "tokenizer": {"version": "1.0"},
        "tokenizer_config": {"chat_template": "{{ messages }}"},
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / f"{name}.json").write_text(text)
    write_safetensors(folder / "model.safetensors")
    return folder
