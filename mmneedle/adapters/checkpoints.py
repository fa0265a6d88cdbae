"""A model's folder on disk, read without torch: is it whole, does it see, how much fits in it.

Everything that can be wrong with a checkpoint is found here, before minutes go into loading it.
The layout is that of `save_pretrained` in transformers; safetensors files begin with eight bytes
that give the length of a JSON header, which names every tensor's place.
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from mmneedle.adapters.image_rules import ImageRule
from mmneedle.errors import UserError
from mmneedle.tiny import WEIGHTS

_SEES = (  # keys of config.json that only models with eyes have
    *("vision_config", "visual", "vision_tower", "mm_vision_tower", "vit_config"),
    *("image_token_id", "image_token_index", "vision_start_token_id", "image_token"),
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_DESCRIPTION = ("*.json", "*.jinja", "*.txt", "*.model", "*.py")
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_WHOLE = 64 << 20  # bytes of a weight file that are hashed whole
_PIECE, _PIECES = 1 << 16, 64  # of a larger one


class Checkpoint(msgspec.Struct, frozen=True):
    """A model that can be loaded, with eyes or without."""

    name: str
    """What is handed to the engine: the folder, or a hub id."""
    revision: str | None
    """The commit of a hub id; None for a folder."""
    folder: Path
    """Where its JSON files are; for a hub id without the weights."""
    config: dict[str, Any]
    """config.json."""
    images: ImageRule
    """What its processor does to an image's size, as the checkpoint has it."""
    digest: str
    """SHA-256 over everything that shapes its answers; see `_digest`."""
    sees: bool = True
    """Whether it takes images."""
    chats: bool = True
    """Whether it has a chat template; one without goes on with a text."""

    @property
    def model_type(self) -> str:
        """The family, such as qwen2_vl."""
        return str(self.config.get("model_type", ""))

    @property
    def context(self) -> int | None:
        """Tokens that fit in, prompt and answer together; None where the file does not say."""
        inner = (self.config.get(key) for key in ("text_config", "llm_config", "language_config"))
        for config in (*inner, self.config):
            length = config.get("max_position_embeddings") if isinstance(config, Mapping) else None
            if isinstance(length, int) and length > 0:
                return length
        return None

    @property
    def version(self) -> str:
        """The exact version, for responses: the folder's name or hub id, and a commit or digest."""
        folder = "tiny" if self.folder == WEIGHTS else self.folder.resolve().name
        name = folder if self.revision is None else self.name
        return f"{name}@{(self.revision or self.digest)[:12]}"

    def fingerprint(self) -> dict[str, Any]:
        """What a run's header keeps of it, as JSON."""
        known = {"checkpoint": self.digest, "revision": self.revision}
        return {key: value for key, value in known.items() if value}

    def check_sight(self) -> None:
        """See that it can be asked about images. Raises UserError for a text-only model."""
        if not self.sees:
            raise UserError(
                f"{self.name}: is a text-only model ({self.model_type}); a haystack of images "
                "needs a vision-language model"
            )

    @classmethod
    def open(cls, name: str) -> Self:
        """Read a folder, a hub id such as org/name, or "tiny", the model that comes along.

        Of a hub id only the small files are fetched (HF_TOKEN, HF_HOME and HF_HUB_OFFLINE count);
        the engine fetches the weights.

        Raises:
            UserError: no such folder or model; no checkpoint; a damaged or missing file. One line
                that names the file.
        """
        folder = Path(name).expanduser()
        if name == "tiny" and not folder.exists():
            folder = WEIGHTS
            name = str(folder)
        if folder.is_dir():
            return cls._read(str(folder), None, folder)
        if folder.exists():
            raise UserError(f"{name}: is a file; give the folder that holds config.json")
        if not is_hub_id(name):
            raise UserError(f"{name}: no such folder (a model on the hub looks like org/name)")
        folder = _fetch_description(name)
        return cls._read(name, folder.name, folder)

    @classmethod
    def _read(cls, name: str, revision: str | None, folder: Path) -> Self:
        if not (folder / "config.json").is_file():
            raise UserError(f"{name}: no config.json there, so it is no model's folder")
        config = _json(folder / "config.json")
        if "model_type" not in config:
            raise UserError(f"{folder / 'config.json'}: names no model_type, so no model")
        sees = any(config.get(key) not in (None, {}) for key in _SEES)
        processor = _image_processor(name, folder) if sees else {}
        chats = _check_words(name, folder, must_chat=sees)
        if revision is None:
            check_weights(folder)
        rule = ImageRule.read(processor, config)
        digest = _digest(folder, weights=revision is None)
        return cls(name, revision, folder, config, rule, digest, sees, chats)


def is_hub_id(name: str) -> bool:
    """Whether a name that is no folder can be a model on the hub."""
    return bool(_HUB_ID.fullmatch(name)) and ".." not in name


# --------------------------------------------------------------------------- small files


def _json(path: Path) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged ({error}); copy or download it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: is damaged (no JSON object); copy or download it again")
    return value


def _optional(path: Path) -> dict[str, Any]:
    return _json(path) if path.is_file() else {}


def _image_processor(name: str, folder: Path) -> dict[str, Any]:
    """The image processor's settings: a file of their own, or a part of processor_config.json."""
    own = _optional(folder / "preprocessor_config.json")
    inside = _optional(folder / "processor_config.json").get("image_processor")
    # transformers prefers the part to the file.
    config = inside if isinstance(inside, dict) else own
    if not config:
        raise UserError(
            f"{name}: has no image processor (preprocessor_config.json); copy it from the model "
            "that this one was made from"
        )
    return config


def _check_words(name: str, folder: Path, *, must_chat: bool) -> bool:
    """See that there is a tokenizer; whether there is a chat template."""
    settings = _optional(folder / "tokenizer_config.json")
    if not any((folder / file).is_file() for file in _TOKENIZERS) and "auto_map" not in settings:
        raise UserError(f"{name}: has no tokenizer (tokenizer.json)")
    if (folder / "tokenizer.json").is_file():
        _json(folder / "tokenizer.json")
    inside = (settings, _optional(folder / "processor_config.json"))
    templates = ("chat_template.jinja", "chat_template.json", "chat_templates/default.jinja")
    chats = any(config.get("chat_template") for config in inside) or any(
        (folder / file).is_file() for file in templates
    )
    if must_chat and not chats:
        raise UserError(
            f"{name}: has no chat template (chat_template.jinja), so it is no chat model, or its "
            "copy is not whole"
        )
    return chats


# --------------------------------------------------------------------------- weights


def check_weights(folder: Path) -> None:
    """See that the weight files are all there and whole, by their headers and sizes.

    Raises:
        UserError: no weights, a missing part, a file that is cut off or damaged.
    """
    files = weight_files(folder)
    if not files:
        raise UserError(f"{folder}: has no weights (model.safetensors)")
    for path in files:
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        elif path.stat().st_size < 1000:
            raise UserError(f"{path}: is cut off; copy or download it again")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, by name. Raises UserError where an index names others."""
    for ending in ("safetensors", "bin"):
        stem = "model" if ending == "safetensors" else "pytorch_model"
        index = folder / f"{stem}.{ending}.index.json"
        if index.is_file():
            return _indexed(index)
        if (folder / f"{stem}.{ending}").is_file():
            return [folder / f"{stem}.{ending}"]
    return sorted(folder.glob("*.safetensors"))


def _indexed(index: Path) -> list[Path]:
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: is damaged (no weight_map); copy or download it again")
    names = sorted(set(map(str, places.values())))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{index.parent}: {len(missing)} of {len(names)} weight files are missing, such as "
            f"{missing[0]}; copy or download them again"
        )
    return [index.parent / name for name in names]


def _check_safetensors(path: Path) -> None:
    """Source: github.com/huggingface/safetensors, section "Format" of its README."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if 8 + length > size or length > _LONGEST_HEADER:
                raise UserError(
                    f"{path}: is cut off or no safetensors file ({size} bytes); copy or download "
                    "it again (a Git LFS pointer needs git lfs pull)"
                )
            tensors = msgspec.json.decode(file.read(length), type=dict[str, dict[str, Any]])
        ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError):
        raise UserError(f"{path}: its header is damaged; copy or download it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if size != wanted:
        raise UserError(
            f"{path}: has {size} bytes where its header says {wanted}: it is cut off or damaged; "
            "copy or download it again"
        )


def _digest(folder: Path, *, weights: bool) -> str:
    """SHA-256 over the names and bytes of the JSON, template and tokenizer files and the weights.

    Of a weight file beyond 64 MiB its size, its header and 64 pieces spread over it count, so
    that hundreds of gigabytes take a moment and a further trained copy is still told apart. Of a
    hub model the weights are left out: they may not be here yet, and its commit tells them.
    """
    total = hashlib.sha256()
    names = {path for pattern in _DESCRIPTION for path in folder.glob(pattern)}
    for path in sorted(names | set(_all_weight_files(folder) if weights else ())):
        if not path.is_file():
            continue
        total.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for piece in _pieces(path):
            total.update(piece)
    return total.hexdigest()


def _all_weight_files(folder: Path) -> Iterator[Path]:
    """Weight files that lie in the folder, whether or not an index names them."""
    for ending in ("safetensors", "bin"):
        yield from folder.glob(f"*.{ending}")


def _pieces(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            yield file.read()
            return
        yield file.read(_PIECE)
        for number in range(_PIECES):
            file.seek(number * (size - _PIECE) // (_PIECES - 1))
            yield file.read(_PIECE)


# --------------------------------------------------------------------------- the hub


def _fetch_description(name: str) -> Path:
    """The folder with a hub model's small files. Raises UserError where it cannot be had."""
    try:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} is no folder here, and to look on the hub needs the package {error.name}: "
            'pip install "mmneedle[hf]"'
        ) from None
    disable_progress_bars()  # for kilobytes
    try:
        return Path(snapshot_download(name, allow_patterns=list(_DESCRIPTION)))
    except errors.GatedRepoError:
        raise UserError(
            f"{name}: its owner lets in only those who asked: accept the terms on its page and set "
            "HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{name}: no such folder here and no such model on the hub (a private one needs "
            "HF_TOKEN)"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise UserError(
            f"{name}: no such folder here, not downloaded before, and the hub cannot be reached; "
            "name a folder, or connect"
        ) from None
    except Exception as error:  # of several HTTP libraries
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: the hub did not give it ({reason})") from None
    finally:
        enable_progress_bars()
