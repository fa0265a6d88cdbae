"""The network as two ONNX graphs without weights: those are read from model.safetensors.

    python -m mmneedle.tiny.export CHECKPOINT

writes vision.onnx and language.onnx into the checkpoint's folder and SHA256SUMS over its files.
One file of weights thus serves transformers, vLLM and onnxruntime; `adapters/onnx.py` puts
weights and graphs together. Needs the packages torch, onnx and onnxscript.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from mmneedle.tiny import checkpoint as cp
from mmneedle.tiny.network import TextModel, TinyModel, VisionModel, patch_places

_CHECKED = (
    "config.json",
    "language.onnx",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vision.onnx",
)


class Language(nn.Module):
    """One step of the language part: any number of tokens after any number of earlier ones."""

    def __init__(self, model: TinyModel) -> None:
        super().__init__()
        self.language_model: TextModel = model.language_model

    def forward(
        self,
        ids: Tensor,
        visual: Tensor,
        is_visual: Tensor,
        positions: Tensor,
        past: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The last token's logits and the grown cache.

        Args:
            ids: token ids, [T].
            visual: the visual tokens at their places, [T, D]; elsewhere it does not matter.
            is_visual: where they are, [T].
            positions: time, row, column, [3, T].
            past: earlier keys and values, [layers, 2, H, past, 128].

        Returns:
            logits [vocabulary] and the cache [layers, 2, H, past + T, 128].
        """
        words = self.language_model.embed_tokens
        x = torch.where(is_visual[:, None], visual, words(ids))[None]
        earlier, now = past.shape[3], ids.shape[0]
        place = torch.arange(earlier + now)
        mask = place[earlier:, None] >= place
        caches = [(past[i : i + 1, 0], past[i : i + 1, 1]) for i in range(cp.LAYERS)]
        hidden, grown = self.language_model(x, positions[:, None], mask, caches)
        logits = hidden[0, -1] @ words.weight.T
        return logits, torch.cat([torch.stack(cache, 1) for cache in grown])


def export(folder: Path) -> None:
    """Write both graphs and the checksums into a checkpoint's folder."""
    model = TinyModel().eval()
    images, patches, tokens, past = (torch.export.Dim(n, min=1) for n in ("n", "p", "t", "s"))
    rows, cols = patch_places(2, 3)
    pixels = torch.zeros(2, len(rows), 3 * cp.PATCH**2)
    _write(
        folder / "vision.onnx",
        model.visual,
        (pixels, rows, cols),
        {"pixels": {0: images, 1: patches}, "rows": {0: patches}, "cols": {0: patches}},
        ["visual"],
    )
    t, s = 5, 7
    inputs = (
        torch.zeros(t, dtype=torch.int64),
        torch.zeros(t, cp.HIDDEN),
        torch.zeros(t, dtype=torch.bool),
        torch.zeros(3, t, dtype=torch.int64),
        torch.zeros(cp.LAYERS, 2, cp.HEADS, s, cp.HIDDEN // cp.HEADS),
    )
    _write(
        folder / "language.onnx",
        Language(model),
        inputs,
        {
            "ids": {0: tokens},
            "visual": {0: tokens},
            "is_visual": {0: tokens},
            "positions": {1: tokens},
            "past": {3: past},
        },
        ["logits", "present"],
    )
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in _CHECKED
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _write(
    path: Path,
    module: VisionModel | Language,
    inputs: tuple[Tensor, ...],
    shapes: dict[str, dict[int, object]],
    outputs: list[str],
) -> None:
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        input_names=list(shapes),
        output_names=outputs,
        dynamic_shapes=shapes,
        optimize=False,
        verbose=False,
    )
    graph = program.model_proto
    onnx.checker.check_model(graph)
    wanted = dict(module.named_parameters())
    for tensor in graph.graph.initializer:
        if tensor.name in wanted:
            _take_out(tensor)
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _take_out(tensor: onnx.TensorProto) -> None:
    """Leave an initializer's name and shape; its values come from the checkpoint."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "model.safetensors"


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m mmneedle.tiny.export")
    parser.add_argument("checkpoint", type=Path)
    export(parser.parse_args(arguments).checkpoint)
    return 0


if __name__ == "__main__":
    sys.exit(main())
