"""Longer windows for local models, by the engine's own scaling of rotary position embeddings.

One spelling for both engines: `linear:4` (position interpolation, S. Chen et al.,
arXiv:2306.15595), `dynamic:4` (NTK-aware by length, as transformers has it) and `yarn:4` (B. Peng
et al., arXiv:2309.00071). No mathematics of our own: a spelling becomes engine arguments.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from mmneedle.adapters.checkpoints import Checkpoint
from mmneedle.errors import UserError

KINDS = ("linear", "dynamic", "yarn")
_INNER = ("text_config", "llm_config", "language_config")


class Rope(msgspec.Struct, frozen=True):
    """How a model's window is stretched; a factor of 1 leaves it as it is."""

    kind: str
    factor: float

    @property
    def name(self) -> str:
        """As people write it: yarn:4, none."""
        return "none" if self.factor == 1 else f"{self.kind}:{self.factor:g}"

    @property
    def folder(self) -> str:
        """The name in a path."""
        return self.name.replace(":", "-")

    def window(self, checkpoint: Checkpoint) -> int | None:
        """Tokens that fit in; None where the checkpoint does not say how many it was made for."""
        return None if checkpoint.context is None else int(checkpoint.context * self.factor)

    def arguments(self, provider: str, checkpoint: Checkpoint) -> dict[str, str]:
        """Engine arguments for `hf` or `vllm`.

        Raises:
            UserError: the checkpoint does not say its context length, or is scaled already.
        """
        if self.factor == 1:
            return {}
        where, config = _language_config(checkpoint.config)
        if checkpoint.context is None:
            raise UserError(
                f"{checkpoint.name}: its config.json names no max_position_embeddings, so its "
                "window cannot be stretched by a factor"
            )
        given = config.get("rope_parameters") or config.get("rope_scaling") or {}
        kind = given.get("rope_type") or given.get("type") or "default"
        if kind != "default":
            raise UserError(
                f"{checkpoint.name}: is scaled already ({kind}); --rope is for models with plain "
                "rotary embeddings"
            )
        scaling = {
            "rope_theta": given.get("rope_theta") or config.get("rope_theta") or 10_000.0,
            "rope_type": self.kind,
            "factor": self.factor,
        }
        if self.kind == "yarn":
            scaling["original_max_position_embeddings"] = checkpoint.context
        if provider == "hf":
            return {"rope_scaling": json.dumps(scaling)}
        changes: dict[str, Any] = {"rope_parameters": scaling}
        if self.kind == "yarn":  # vLLM takes the model's length for one that is stretched already
            changes["max_position_embeddings"] = self.window(checkpoint)
        return {"hf_overrides": json.dumps({where: changes} if where else changes)}


def _language_config(config: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """The part of a config.json that is the language model's, and its name there."""
    for name in _INNER:
        inner = config.get(name)
        if isinstance(inner, Mapping) and "max_position_embeddings" in inner:
            return name, inner
    return None, config


def read_rope(text: str) -> Rope:
    """Read "yarn:4" or "none". Raises UserError on anything else."""
    if text == "none":
        return Rope("linear", 1.0)
    match = re.fullmatch(r"([a-z]+):(\d{1,3}(?:\.\d{1,3})?)", text, re.ASCII)
    if not match or match[1] not in KINDS or not 1 < float(match[2]) <= 128:
        raise UserError(
            f"--rope takes none, linear:4, dynamic:4 or yarn:4 (a factor above 1), not {text!r}"
        )
    return Rope(match[1], float(match[2]))
