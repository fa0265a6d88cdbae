"""Lets a CUDA build of torchvision be imported on a machine without CUDA. For tests only.

Its C++ operators do not load there, and its Python side declares what the operators return, which
fails where an operator is missing. Two are declared here, when torch is first imported; none of
them is ever called: resizing and normalising are plain torch.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float threshold) -> Tensor",
)
_kept = []  # a library's operators go when it does


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; it only sees that torchvision is about to be imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "torchvision" and not _kept:
            import torch

            library = torch.library.Library("torchvision", "DEF")
            for schema in _SCHEMAS:
                library.define(schema)
            _kept.append(library)
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
