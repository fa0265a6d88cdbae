"""A vision-language model of 9 million parameters that solves the task on drawn scenes.

It makes the offline demo real and gives tests of adapters answers that mean something. It knows
the scenes of `data/shapes.py`, their canonical captions and the official prompts, and nothing
else; weights/README.md is its model card.

weights/        the checkpoint, as transformers and vLLM read it, and its ONNX graphs
checkpoint.py   configuration, tokenizer and files of the checkpoint
network.py      Qwen2-VL (Wang et al., arXiv:2409.12191) in plain PyTorch, for training and export
scenes.py       the tiles it is trained on
questions.py    haystacks and questions, made on the GPU
train.py        the training loop
export.py       the same weights as ONNX graphs
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The checkpoint's folder."""
CELL = 56
"""Pixels a side of a cell as the model wants it: one visual token."""
