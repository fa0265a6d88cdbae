"""A data set of text samples on disk: a recipe and what it needs, never the samples.

DIR/text.json         the recipe and how many samples of each setting there are
DIR/corpus.txt        the haystack text, where the task takes one
DIR/corpus.npy        where its tokens end, in characters (int32), after a SHA-256 (eight int32)
DIR/tokenizer.json    what counts tokens, where lengths are in a model's own
DIR/questions-1.*     files in a published format, where the task takes them

Sample i of a setting is a function of the recipe, the setting and i alone, so a build of 5 is the
first 5 of a build of 500, and a setting that is added later changes no other.
"""

import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.files import locked, refuse_strangers, unwritable, write_whole
from mmneedle.tasks.text import MAKERS, maker_of
from mmneedle.texts.making import Maker, Materials
from mmneedle.texts.tokens import Tokens, open_tokens
from mmneedle.types import (
    MOST_SAMPLES,
    Needs,
    Reader,
    Request,
    TextSample,
    TextSetting,
    split_sample_id,
)

_FORMAT = 2
_MANIFEST, _CORPUS, _ENDS, _TOKENIZER = "text.json", "corpus.txt", "corpus.npy", "tokenizer.json"
_OURS = frozenset({_MANIFEST, _CORPUS, _ENDS, _TOKENIZER, "lock"})
_MEASURED = 8
"""Samples of a setting whose texts are looked at to know how long they get."""


class TextManifest(msgspec.Struct, kw_only=True):
    """text.json."""

    version: int = _FORMAT
    task: str
    seed: int
    options: dict[str, str] = {}
    tokens: dict[str, Any]
    """What counts tokens (`Tokens.identity`)."""
    corpus: dict[str, Any] | None = None
    """What the haystack text is (`corpus.identity`)."""
    questions: list[dict[str, Any]] | None = None
    """The files of questions: their names here and their SHA-256."""
    settings: dict[str, int]
    """Setting name -> samples."""

    def __post_init__(self) -> None:
        """Raise ValueError on what cannot be."""
        for name, count in self.settings.items():
            if TextSetting.parse(name).name != name or not 0 <= count <= MOST_SAMPLES:
                raise ValueError(f"{count} samples of {name!r}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that decides a sample, which the list of settings does not."""
        recipe = msgspec.structs.asdict(self)
        del recipe["settings"]
        text = msgspec.json.encode(recipe, order="deterministic")
        return hashlib.sha256(b"mmneedle text " + text).hexdigest()


class TextDataSet:
    """A data set of text samples, and the task that asks them."""

    has_images = False
    reader: Reader | None = None
    questions = 1

    def __init__(self, folder: Path, manifest: TextManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.fingerprint = manifest.fingerprint
        self.name = manifest.task
        self.settings = tuple(sorted(map(TextSetting.parse, manifest.settings)))

    @classmethod
    def open(cls, folder: Path | str) -> "TextDataSet":
        """Open a folder. Raises UserError where there is no text data set, or a damaged one."""
        folder = Path(folder)
        manifest = _read(folder)
        if manifest is None:
            raise UserError(f"{folder}: no text data set here (no {_MANIFEST})")
        if manifest.task not in MAKERS:
            raise UserError(f"{folder / _MANIFEST}: no task {manifest.task!r}")
        return cls(folder, manifest)

    @staticmethod
    def here(folder: Path | str) -> bool:
        """Whether a folder holds a text data set."""
        return (Path(folder) / _MANIFEST).is_file()

    @cached_property
    def maker(self) -> Maker:
        """What makes the samples."""
        return maker_of(self.manifest.task, self._materials())

    def _materials(self) -> Materials:
        manifest = self.manifest
        tokenizer = self.folder / _TOKENIZER
        tokens = open_tokens(tokenizer if manifest.tokens.get("tokenizer") else None)
        if tokens.identity() != manifest.tokens:
            raise UserError(f"{tokenizer}: is not the one that the data set was built with")
        text = None
        if manifest.corpus is not None:
            text = _checked(self.folder / _CORPUS, manifest.corpus["sha256"]).decode()
        files = []
        for one in manifest.questions or ():
            files.append(self.folder / one["name"])
            _checked(files[-1], one["sha256"])
        materials = Materials(manifest.seed, tokens, text, tuple(files), manifest.options)
        ends = None if text is None else _read_ends(self.folder / _ENDS, manifest)
        if ends is not None:
            materials.corpus.__dict__["token_ends"] = ends
        return materials

    def count(self, setting: TextSetting) -> int:
        """How many samples of a setting there are; 0 where it has none."""
        return self.manifest.settings.get(setting.name, 0)

    def samples(
        self, setting: TextSetting, start: int = 0, stop: int | None = None
    ) -> Iterator[TextSample]:
        """Samples start … stop-1 of a setting, made one by one."""
        end = self.count(setting) if stop is None else min(stop, self.count(setting))
        for index in range(start, end):
            yield self.maker.sample(setting, index)

    def sample(self, name: str) -> TextSample:
        """One sample by its id. Raises UserError where there is none."""
        try:
            setting, index = split_sample_id(name)
        except ValueError:
            setting, index = None, -1
        if not isinstance(setting, TextSetting) or not 0 <= index < self.count(setting):
            known = ", ".join(f"{one.name}-000000" for one in self.settings[:2])
            raise UserError(f"{self.folder}: no sample {name!r}; there are such as {known}")
        return self.maker.sample(setting, index)

    # ------------------------------------------------------------------ as a task

    def request(self, sample: TextSample, *, with_images: bool = True) -> Request:
        """The request for a sample: its prompt, no images."""
        return Request(sample, sample.prompt, ())

    def needs(self, setting: TextSetting, start: int, stop: int) -> Needs:
        """What requests ask of a model, by the longest of the first few samples."""
        few = self.samples(setting, start, min(stop, start + _MEASURED))
        return Needs(setting, 0, 0, max((one.prompt for one in few), key=len), 0)

    def characters(self, setting: TextSetting, start: int, stop: int) -> float:
        """The mean length of the first few samples' texts."""
        few = self.samples(setting, start, min(stop, start + _MEASURED))
        return fmean(len(sample.prompt) for sample in few)


# --------------------------------------------------------------------------- building


class Ingredients(msgspec.Struct, frozen=True, kw_only=True):
    """What a user gives for a text data set."""

    task: str
    seed: int = 0
    tokenizer: Path | None = None
    corpus: tuple[dict[str, Any], str] | None = None
    """What it is, and the text."""
    questions: tuple[Path, ...] = ()
    options: dict[str, str] = {}


def build_texts(
    folder: Path | str, given: Ingredients, settings: Mapping[TextSetting, int]
) -> TextDataSet:
    """Build a text data set, or extend one: more samples, more settings.

    Raises:
        UserError: the folder holds another recipe or other files; a setting that cannot be made;
            a file that cannot be read.
    """
    folder = Path(folder)
    refuse_strangers(folder, lambda name: name in _OURS or name.startswith("questions-"))
    with locked(folder, "building"):
        old = _read(folder)
        new = _plan(given, settings)
        if old is not None:
            if old.fingerprint != new.fingerprint:
                raise UserError(
                    f"{folder}: holds another text data set (its {_difference(old, new)}); name a "
                    "new folder"
                )
            counts = dict(old.settings)
            for name, count in new.settings.items():
                counts[name] = max(count, counts.get(name, 0))
            new.settings = counts
        try:
            return _write(folder, given, new, fresh=old is None)
        except OSError as error:
            raise unwritable(Path(error.filename or folder), error) from None


def _plan(given: Ingredients, settings: Mapping[TextSetting, int]) -> TextManifest:
    if max(settings.values(), default=0) > MOST_SAMPLES:
        raise UserError(f"a setting has at most {MOST_SAMPLES:,} samples")
    tokens = open_tokens(given.tokenizer)
    text = given.corpus[1] if given.corpus else None
    materials = Materials(given.seed, tokens, text, given.questions, given.options)
    maker = maker_of(given.task, materials)
    for setting in settings:
        maker.check(setting)
    questions = []
    for number, file in enumerate(given.questions, 1):
        name = f"questions-{number}{'.gz' if file.suffix == '.gz' else ''}"
        questions.append({"name": name, "sha256": hashlib.sha256(_content(file)).hexdigest()})
    return TextManifest(
        task=given.task,
        seed=given.seed,
        options=given.options,
        tokens=tokens.identity(),
        corpus=given.corpus[0] if given.corpus else None,
        questions=questions or None,
        settings={setting.name: count for setting, count in settings.items()},
    )


def _write(folder: Path, given: Ingredients, manifest: TextManifest, *, fresh: bool) -> TextDataSet:
    """Everything a reader needs, the manifest last."""
    if fresh:
        if manifest.tokens.get("tokenizer") and given.tokenizer is not None:
            source = given.tokenizer
            source = source / _TOKENIZER if source.is_dir() else source
            write_whole(folder / _TOKENIZER, source.read_bytes())
        if given.corpus is not None:
            write_whole(folder / _CORPUS, given.corpus[1].encode())
            ends = Materials(0, open_tokens(given.tokenizer), given.corpus[1]).corpus.token_ends
            write_whole(folder / _ENDS, _ends_file(manifest, ends))
        for one, file in zip(manifest.questions or (), given.questions, strict=True):
            shutil.copyfile(file, folder / one["name"])
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_whole(folder / _MANIFEST, content + b"\n")
    return TextDataSet.open(folder)


def _ends_file(manifest: TextManifest, ends: NDArray[np.int64]) -> bytes:
    """What corpus.npy holds: a SHA-256 in eight numbers, then the ends."""
    words = ends.astype("<i4")
    digest = hashlib.sha256(repr((manifest.corpus, manifest.tokens)).encode() + words.tobytes())
    file = io.BytesIO()
    np.save(file, np.concatenate([np.frombuffer(digest.digest(), "<i4"), words]))
    return file.getvalue()


def _read_ends(path: Path, manifest: TextManifest) -> NDArray[np.int64] | None:
    """The ends of corpus.npy; None where it is missing, damaged or another text's: count anew."""
    try:
        ends = np.load(path).astype(np.int64)[8:]
        return ends if path.read_bytes() == _ends_file(manifest, ends) else None
    except (OSError, ValueError, EOFError, TypeError, IndexError):
        return None


def _difference(old: TextManifest, new: TextManifest) -> str:
    for name in ("version", "task", "seed", "options", "tokens", "corpus", "questions"):
        one, other = getattr(old, name), getattr(new, name)
        if one != other:
            if name in ("tokens", "corpus", "questions"):
                what = {"tokens": "tokenizer", "corpus": "text", "questions": "questions"}[name]
                return f"{what} is another one"
            return f"{name} is {one!r}, now {other!r}"
    return "recipe differs"


def _read(folder: Path) -> TextManifest | None:
    path = folder / _MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=TextManifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: is not a text data set's recipe ({error})") from None
    if manifest.version != _FORMAT:
        raise UserError(
            f"{path}: has format {manifest.version}, this mmneedle reads {_FORMAT}; its samples "
            "would be others: build it anew"
        )
    return manifest


def _checked(path: Path, digest: str) -> bytes:
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: has changed since the data set was built; build it anew")
    return content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def tokens_of(dataset: TextDataSet) -> Tokens:
    """What counts a data set's tokens."""
    return dataset.maker.materials.tokens
