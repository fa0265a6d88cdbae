"""Folders of retrievers' models, as their libraries write them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mmneedle.errors import UserError

_WEIGHTS = ("*.safetensors", "*.bin", "*.onnx", "onnx/*.onnx")
_CODE = ("*.json", "*/config.json", "*.txt")


def read_json(path: Path, *, needed: bool = True) -> dict[str, Any]:
    """A folder's JSON file; {} where it is not there and need not be. Raises UserError."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if not needed:
            return {}
        raise UserError(f"{path.parent}: holds no model (no {path.name})") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON object")
    return found


def digest(folder: Path) -> str:
    """SHA-256 (hex) over names and contents of all that shapes a model's vectors.

    Raises UserError where a file cannot be read.
    """
    total = hashlib.sha256()
    files = {path for pattern in (*_WEIGHTS, *_CODE) for path in folder.glob(pattern)}
    try:
        for path in sorted(files):
            total.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None
    return total.hexdigest()


def checked(folder: Path, what: str) -> Path:
    """A folder that is there. Raises UserError."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name that of {what}")
    return folder


def quieten(transformers: Any) -> None:
    """Its progress bars and advice would run through ours."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
