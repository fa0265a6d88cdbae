"""Texts by meaning: sentence embeddings of a folder in the format of sentence-transformers.

The folder's own files say how: 1_Pooling/config.json which pooling (mean or first token),
sentence_bert_config.json how many tokens are read of a text; what is longer is cut off there.
A folder with an ONNX graph (onnx/model.onnx or model.onnx) is run by onnxruntime, any other by
transformers. Vectors are compared by their cosine.

Source: N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019 (arXiv:1908.10084).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.retrieval.folders import checked, digest, quieten, read_json
from mmneedle.retrieval.ranking import Scores, cosines

Vectors = NDArray[np.float32]
Forward = Callable[[NDArray[np.int64], NDArray[np.int64]], Vectors]
"""(ids, mask), both (texts, tokens) -> the last layer's states (texts, tokens, dimensions)."""

_KEPT = 50_000
"""Texts whose vectors are kept: a data set's captions come again and again."""
_LENGTH = 512
"""Tokens of a text where the folder says nothing."""


class Embeddings:
    """Ranks texts by the cosine of their vectors and the query's. Threads may share one."""

    def __init__(self, folder: Path) -> None:
        """Load a model.

        Raises:
            UserError: no such folder, no model in it, a pooling that is neither mean nor first
                token, a package that is missing.
        """
        checked(folder, "a sentence-embedding model")
        config = read_json(folder / "config.json")
        _refuse_writer(folder, config)
        self._first = _pooling(folder)
        said = read_json(folder / "sentence_bert_config.json", needed=False).get("max_seq_length")
        longest = int(said or config.get("max_position_embeddings") or _LENGTH)
        self._tokenizer = _tokenizer(folder, longest)
        graph = next(
            (p for p in (folder / "onnx/model.onnx", folder / "model.onnx") if p.is_file()), None
        )
        self.engine, self._forward = _onnx(graph) if graph else _torch(folder)
        self.model: str | None = folder.resolve().name
        self.weights: str | None = digest(folder)
        self._mutex = threading.Lock()
        self._known: dict[str, Vectors] = {}

    def scores(self, query: str, units: Sequence[str]) -> Scores:
        """The cosine of each text's vector and the query's."""
        with self._mutex:
            vectors = self._vectors([query, *units])
        return cosines(vectors[0], vectors[1:])

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        """Of length 1; shape (texts, dimensions)."""
        if len(self._known) + len(texts) > _KEPT:
            self._known.clear()
        for text in texts:
            if text not in self._known:
                self._known[text] = self._encode(text)
        return np.stack([self._known[text] for text in texts])

    def _encode(self, text: str) -> Vectors:
        """Each text alone: beside others it would get other last digits, in another order."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        states = self._forward(ids, np.ones_like(ids))[0]
        pooled = states[0] if self._first else states.mean(0)
        vector: Vectors = (pooled / max(float(np.linalg.norm(pooled)), 1e-12)).astype(np.float32)
        return vector


def _refuse_writer(folder: Path, config: Mapping[str, Any]) -> None:
    """See that a folder is no language model, whose states nobody trained to be compared."""
    kinds = config.get("architectures") or []
    writes = [kind for kind in kinds if str(kind).endswith(("ForCausalLM", "LMHeadModel"))]
    if writes and not (folder / "modules.json").is_file():
        raise UserError(
            f"{folder}: holds a model that goes on with texts ({writes[0]}), none of sentence "
            "embeddings, which has a modules.json"
        )


def _pooling(folder: Path) -> bool:
    """Whether a text's vector is its first token's, not the mean. Raises UserError on others."""
    said = read_json(folder / "1_Pooling" / "config.json", needed=False)
    modes = {name.removeprefix("pooling_mode_") for name, on in said.items() if on is True}
    modes &= {"cls_token", "mean_tokens", "max_tokens", "lasttoken", "weightedmean_tokens"}
    if modes <= {"mean_tokens"}:
        return False
    if modes == {"cls_token"}:
        return True
    raise UserError(
        f"{folder}: its pooling is {' and '.join(sorted(modes))}; only the mean and the first "
        "token are known here"
    )


def _tokenizer(folder: Path, longest: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise UserError(
            'sentence embeddings need the package tokenizers (pip install "mmneedle[hf]", or '
            '"mmneedle[onnx]" for a folder with an ONNX graph)'
        ) from None
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds no tokenizer.json")
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exceptions
        raise UserError(f"{path}: is no tokenizer ({' '.join(str(error).split())[:200]})") from None
    found.enable_truncation(longest)
    found.no_padding()
    return found


def _onnx(graph: Path) -> tuple[str, Forward]:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise UserError(
            f'{graph}: an ONNX graph needs the package onnxruntime (pip install "mmneedle[onnx]")'
        ) from None
    try:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes, by no common name
        raise UserError(f"{graph}: is no model ({' '.join(str(error).split())[:200]})") from None
    names = {one.name for one in session.get_inputs()}

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states: Vectors = session.run(None, {k: v for k, v in given.items() if k in names})[0]
        return states

    return f"onnxruntime {onnxruntime.__version__}", forward


def _torch(folder: Path) -> tuple[str, Forward]:
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise UserError(
            f'sentence embeddings need the package {error.name} (pip install "mmneedle[hf]")'
        ) from None
    quieten(transformers)
    try:
        model = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a wrong folder makes it raise
        raise UserError(
            f"{folder}: holds no model ({' '.join(str(error).split())[:200]})"
        ) from None
    model = model.eval().float()

    def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Vectors:
        with torch.inference_mode():
            out = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        states: Vectors = out.last_hidden_state.numpy()
        return states

    return f"transformers {transformers.__version__}", forward
