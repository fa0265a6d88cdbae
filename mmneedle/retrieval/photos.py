"""Photos by looks: a CLIP or SigLIP folder ranks cells by their photo and the caption.

Photos are seen as the data set's cells hold them. Source: A. Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", ICML 2021 (arXiv:2103.00020);
X. Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (arXiv:2303.15343).
"""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.retrieval.folders import checked, digest, quieten, read_json
from mmneedle.retrieval.ranking import Scores, cosines
from mmneedle.stitching.dataset import DataSet
from mmneedle.types import Sample

_KINDS = ("clip", "siglip", "siglip2")
Vector = NDArray[np.float32]


class Photos:
    """Ranks the cells of a data set's haystacks; each photo is looked at once."""

    def __init__(self, folder: Path, dataset: DataSet) -> None:
        """Load a model.

        Raises:
            UserError: no such folder, no CLIP or SigLIP model in it, a package that is missing.
        """
        checked(folder, "a CLIP or SigLIP model")
        kind = read_json(folder / "config.json").get("model_type")
        if kind not in _KINDS:
            raise UserError(f"{folder}: holds no CLIP or SigLIP model (its model_type is {kind})")
        try:
            import torch
            import transformers
        except ModuleNotFoundError as error:
            raise UserError(
                f'--retriever clip needs the package {error.name} (pip install "mmneedle[hf]")'
            ) from None
        quieten(transformers)
        self._torch = torch
        try:
            self._net = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
            self._words = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            # The one on Pillow: the other needs torchvision.
            self._look = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, backend="pil"
            )
        except Exception as error:  # whatever a wrong folder makes it raise
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{folder}: holds no CLIP or SigLIP model ({why})") from None
        self._net = self._net.eval().float()
        # SigLIP was trained on captions filled up to its whole length.
        self._fill = "max_length" if kind != "clip" else True
        self._longest = int(self._net.config.text_config.max_position_embeddings)
        self._dataset = dataset
        self.model: str | None = folder.resolve().name
        self.weights: str | None = digest(folder)
        self.engine = f"transformers {transformers.__version__}"
        self._mutex = threading.Lock()
        self._known: dict[int, Vector] = {}

    def scores(self, sample: Sample, caption: str) -> Scores:
        """The cosine of each cell's photo and the caption."""
        with self._mutex:
            for photo in sample.haystack:
                if photo not in self._known:
                    self._known[photo] = self._seen(photo)
            photos = np.stack([self._known[photo] for photo in sample.haystack])
            return cosines(self._said(caption), photos)

    def _seen(self, photo: int) -> Vector:
        """Each photo alone: beside others it would get other last digits, in another order."""
        from PIL import Image

        with Image.open(io.BytesIO(self._dataset.store.join((photo,), 1, 1))) as image:
            given = self._look(images=[image.convert("RGB")], return_tensors="pt")
        with self._torch.inference_mode():
            found = _unit(self._net.get_image_features(**given))
        first: Vector = found[0]
        return first

    def _said(self, caption: str) -> Vector:
        given = self._words(
            [caption],
            padding=self._fill,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        )
        with self._torch.inference_mode():
            found = _unit(self._net.get_text_features(**given))
        first: Vector = found[0]
        return first


def _unit(features: Any) -> NDArray[np.float32]:
    """Vectors of length 1 of what a model gives; shape (n, dimensions)."""
    found = getattr(features, "pooler_output", features)  # a tensor in older versions
    vectors: NDArray[np.float32] = found.numpy().astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
