"""A data set on disk: ids and captions, never stitched images.

DIR/dataset.json             recipe, fingerprint, samples per setting; written last
DIR/photos.parquet           every photo's id and captions
DIR/samples/SETTING.parquet  haystacks and needles of one setting
DIR/tiles/                   the tile store; images are joined from it when asked for
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.files import locked, refuse_strangers, unwritable, whole, write_whole
from mmneedle.stitching import haystacks
from mmneedle.stitching.samples import Rules, SampleMaker, cell_of, locate
from mmneedle.stitching.tiles import TileFormat, TileStore, build_store
from mmneedle.types import (
    MOST_SAMPLES,
    Needle,
    Photo,
    Sample,
    Setting,
    Source,
    parse_sample_id,
    sample_id,
)

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""

_SAMPLING = 1
"""Raised when the same recipe begins to give other samples."""
_GROUP = 256  # samples in a row group: what reading one sample costs
_OWN = {"dataset.json", "photos.parquet", "samples", "tiles", "lock"}


class Manifest(msgspec.Struct):
    """dataset.json."""

    fingerprint: str
    """SHA-256 over all that decides a sample's content; not over how many there are."""
    settings: dict[str, int]
    """Samples per setting."""
    rules: Rules
    tiles: TileFormat
    identity: dict[str, Any]
    """What the source is, without its paths."""
    source: dict[str, Any]
    """What opens the source again."""
    photos: int
    version: str
    """The mmneedle that built it."""

    def __post_init__(self) -> None:
        """Raise ValueError, which names the file where one is read, on what cannot be."""
        for name, count in self.settings.items():
            if Setting.parse(name).name != name or not 0 <= count <= MOST_SAMPLES:
                raise ValueError(f"{count} samples of {name!r}")
        if self.rules.questions < 1:
            raise ValueError(f"{self.rules.questions} questions a haystack")


class DataSet:
    """A built data set, open for reading."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.fingerprint = manifest.fingerprint
        self.settings = tuple(sorted(map(Setting.parse, manifest.settings)))
        self.questions = manifest.rules.questions
        """Questions a haystack: samples gQ … gQ+Q-1 of a setting share haystack g."""
        self._last: tuple[tuple[Setting, int] | None, tuple[bytes, ...]] = None, ()
        """A haystack and its images."""

    @classmethod
    def open(cls, folder: Path | str) -> "DataSet":
        """Open a data set's folder. Raises UserError where there is no whole one."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        if manifest is None:
            raise UserError(
                f"{folder}: no data set here (no dataset.json); build one with mmneedle build, "
                "of texts with mmneedle build-text"
            )
        return cls(folder, manifest)

    @cached_property
    def store(self) -> TileStore:
        """The tile store that images are joined from."""
        return TileStore.open(self.folder / "tiles")

    def count(self, setting: Setting) -> int:
        """Samples of a setting; 0 for one that is not in the data set."""
        return self.manifest.settings.get(setting.name, 0)

    def __len__(self) -> int:
        return sum(self.manifest.settings.values())

    def samples(
        self, setting: Setting, start: int = 0, stop: int | None = None
    ) -> Iterator[Sample]:
        """Samples start … stop-1 of a setting, streamed: memory does not grow with their number."""
        stop = self.count(setting) if stop is None else min(stop, self.count(setting))
        return stream_samples(self._path(setting), setting, start, stop, self.questions)

    def captions(self, setting: Setting, start: int, stop: int) -> Iterator[list[str]]:
        """The captions that samples start … stop-1 ask for: far faster than whole samples."""
        path = self._path(setting)
        try:
            with _file(path) as opened, pq.ParquetFile(opened) as file:
                for first in range(start - start % _GROUP, stop, _GROUP):
                    group = file.read_row_group(first // _GROUP, ["captions"], use_threads=False)
                    rows = group["captions"].to_pylist()
                    yield from rows[max(start - first, 0) : stop - first]
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from None

    def columns(self, setting: Setting, names: Sequence[str]) -> pa.Table:
        """Some columns of all of a setting's samples, in order; what is not named is not read.

        captions list<string>, cells list<int32> (image by image, row by row from 0; empty for a
        negative), ambiguity float64, hard bool. Raises UserError if the file is damaged.
        """
        path = self._path(setting)
        try:
            with _file(path) as opened, pq.ParquetFile(opened) as file:
                return file.read(list(names), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from None

    def sample(self, name: str) -> Sample:
        """The sample with this id. Raises UserError if there is none."""
        try:
            setting, index = parse_sample_id(name)
        except ValueError:
            raise UserError(
                f"no sample {name!r}: ids look like n10-g8x8-k1-000017 (mmneedle show "
                f"{self.folder} tells which there are)"
            ) from None
        count = self.count(setting)
        if not count:
            have = ", ".join(one.name for one in self.settings)
            raise UserError(f"{self.folder}: no sample {name}; its settings are {have}")
        if sample_id(setting, index) != name or index >= count:
            raise UserError(
                f"{self.folder}: no sample {name}; {setting.name} has 000000 to {count - 1:06d}"
            )
        return next(self.samples(setting, index, index + 1))

    def images(self, sample: Sample) -> tuple[bytes, ...]:
        """The sample's images as JPEG files, in order; the same bytes every time.

        Those of the last haystack that samples share are kept: its other questions come next.
        """
        if sample.haystack_number is None:
            return self._joined(sample)
        which = sample.setting, sample.haystack_number
        last, images = self._last
        if which != last:
            images = self._joined(sample)
            self._last = which, images
        return images

    def _joined(self, sample: Sample) -> tuple[bytes, ...]:
        setting = sample.setting
        grid = setting.rows * setting.cols
        return tuple(
            self.store.join(sample.haystack[at : at + grid], setting.rows, setting.cols)
            for at in range(0, setting.cells, grid)
        )

    def photos(self) -> list[Photo]:
        """Every photo of the source with its captions, ordered by id."""
        path = self.folder / "photos.parquet"
        try:
            with _file(path) as file:
                table = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from None
        ids, captions = table["id"].to_pylist(), table["captions"].to_pylist()
        return [Photo(i, tuple(c)) for i, c in zip(ids, captions, strict=True)]

    def _path(self, setting: Setting) -> Path:
        return self.folder / "samples" / f"{setting.name}.parquet"


def build(
    folder: Path | str,
    source: Source,
    settings: Mapping[Setting, int],
    rules: Rules | None = None,
    tiles: TileFormat | None = None,
    *,
    workers: int | None = None,
    progress: Progress = lambda what, done, total: None,
) -> DataSet:
    """Build a data set, or extend one of the same recipe by settings and samples.

    Args:
        folder: new, empty, or holding a data set (or the beginning of one) of the same recipe.
        source: where photos and captions come from.
        settings: how many samples of each setting.
        rules: seed, caption rule, hard negatives.
        tiles: size and JPEG format of a cell.
        workers: processes that make tiles; all cores by default.
        progress: called with (what, done, total) now and then.

    Raises:
        UserError: a setting that the source or the format cannot fill, another data set in the
            folder, a photo that cannot be read.
    """
    folder = Path(folder)
    rules, tiles = rules or Rules(), tiles or TileFormat(256, 256)
    rules.check()
    photos = source.photos()
    for setting, count in settings.items():
        if count > MOST_SAMPLES:
            raise UserError(f"{setting.name}: at most {MOST_SAMPLES:,} samples, not {count:,}")
        haystacks.check(setting, len(photos), rules.questions)
        tiles.check(setting.rows, setting.cols)
    refuse_strangers(folder, _OWN.__contains__)
    with locked(folder, "building"):
        manifest = _plan(folder, source, settings, rules, tiles, len(photos))
        _build(folder, source, manifest, workers, progress)
    return DataSet(folder, manifest)


def _build(
    folder: Path, source: Source, manifest: Manifest, workers: int | None, progress: Progress
) -> None:
    """Write all files of a data set, the manifest last."""
    photos = source.photos()
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    write_photos(folder / "photos.parquet", photos)
    maker = SampleMaker(photos, manifest.rules)
    used: set[int] = set()
    for name, count in manifest.settings.items():
        path = folder / "samples" / f"{name}.parquet"
        used |= write_samples(path, maker, Setting.parse(name), count, progress)
    build_store(
        folder / "tiles",
        source,
        sorted(used),
        manifest.tiles,
        workers=workers,
        progress=lambda done, total: progress("tiles", done, total),
    )
    write_whole(
        folder / "dataset.json", msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    )


def fingerprint(identity: Mapping[str, Any], rules: Rules, tiles: TileFormat) -> str:
    """SHA-256 (hex) over all that decides what sample i of a setting is and looks like."""
    decisive = msgspec.to_builtins(rules)
    if rules.questions == 1:  # data sets are older than this rule
        del decisive["questions"]
    in_order = msgspec.Raw(msgspec.json.encode(decisive))  # of the fields, as it always was
    recipe = {"sampling": _SAMPLING, "source": identity, "rules": in_order, "tiles": tiles}
    return hashlib.sha256(msgspec.json.encode(recipe, order="deterministic")).hexdigest()


def _plan(
    folder: Path,
    source: Source,
    settings: Mapping[Setting, int],
    rules: Rules,
    tiles: TileFormat,
    photos: int,
) -> Manifest:
    """The manifest of what will be there: nothing that is there already becomes less."""
    mark = fingerprint(source.identity(), rules, tiles)
    counts = {setting.name: count for setting, count in settings.items()}
    old = _read_manifest(folder)
    if old is not None:
        if old.fingerprint != mark:
            new = {"source": source.identity(), "rules": rules, "tiles": tiles}
            raise UserError(
                f"{folder}: holds a data set of another recipe: {_difference(old, new)}; choose "
                "another folder or remove it"
            )
        for name, count in old.settings.items():
            counts[name] = max(count, counts.get(name, 0))
    return Manifest(
        fingerprint=mark,
        settings=counts,
        rules=rules,
        tiles=tiles,
        identity=source.identity(),
        source=source.recipe(),
        photos=photos,
        version=__version__,
    )


_SAID = {
    "source": "--source {}",
    "seed": "--seed {}",
    "photos": "a source of {} photos",
    "sha256": "photos and captions with the checksum {:.12}",
    "drawing": "version {} of the drawing",
    "captions": "--caption {}",
    "hard_negatives": "--hard-negatives {}",
    "questions": "--questions-per-haystack {}",
    "width": "cells {} px wide",
    "height": "cells {} px high",
    "quality": "--quality {}",
    "subsampling": "--subsampling {}",
}
"""The parts of a recipe as a user says them, the most telling first."""


def _difference(old: Manifest, new: dict[str, Any]) -> str:
    """What sets two recipes apart, in words."""
    there = {"source": old.identity, "rules": old.rules, "tiles": old.tiles}
    for part, one in there.items():
        had, has = msgspec.to_builtins(one), msgspec.to_builtins(new[part])
        for key in [*_SAID, *sorted({*had, *has} - {*_SAID})]:
            if had.get(key) != has.get(key):
                said = _SAID.get(key, f"{key} {{}}")
                return f"{said.format(str(had.get(key)))}, now {said.format(str(has.get(key)))}"
    return "it was sampled by another version of mmneedle"


def _read_manifest(folder: Path) -> Manifest | None:
    path = folder / "dataset.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise UserError(f"{path}: is not a data set's manifest ({error})") from None


def write_photos(path: Path, photos: Sequence[Photo]) -> None:
    """Write photos.parquet: ids and captions."""
    table = pa.table(
        {
            "id": pa.array([photo.id for photo in photos], pa.int64()),
            "captions": pa.array([photo.captions for photo in photos], pa.list_(pa.string())),
        }
    )
    with _writing(path) as file:
        pq.write_table(table, file, compression="zstd")


@contextmanager
def _writing(path: Path) -> Iterator[pa.NativeFile]:
    """Write a file whole or not at all, and name it where it cannot be: Arrow's errors do not."""
    try:
        with whole(path) as partial, _file(partial, "wb") as file:
            yield file
    except OSError as error:
        raise unwritable(path, error) from None


def _file(path: Path, mode: str = "rb") -> pa.NativeFile:
    """A file for Arrow, which would take a path such as "a:b" for an address."""
    return pa.OSFile(str(path), mode)


def _schema(setting: Setting, questions: int) -> pa.Schema:
    # A haystack that samples share stands at the first of them in a row group, the others' are
    # empty lists: a row group can be read by itself.
    length = setting.cells if questions == 1 else -1
    return pa.schema(
        [
            ("haystack", pa.list_(pa.int64(), length)),
            ("photos", pa.list_(pa.int64(), setting.needles)),
            ("captions", pa.list_(pa.string())),
            ("cells", pa.list_(pa.int32())),  # empty for a negative
            ("ambiguity", pa.float64()),
            ("hard", pa.bool_()),
        ]
    )


def write_samples(
    path: Path, maker: SampleMaker, setting: Setting, count: int, progress: Progress
) -> set[int]:
    """Write one setting's samples; return the ids of all photos in their haystacks."""
    questions = maker.rules.questions
    schema = _schema(setting, questions)
    used: set[int] = set()
    what = f"samples {setting.name}"
    with _writing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, count, _GROUP):
            batch = list(maker.samples(setting, start, min(start + _GROUP, count)))
            used.update(*(sample.haystack for sample in batch))
            writer.write_table(_to_table(schema, batch, questions), row_group_size=_GROUP)
            progress(what, start + len(batch), count)
    return used


def stream_samples(
    path: Path, setting: Setting, start: int, stop: int, questions: int = 1
) -> Iterator[Sample]:
    """Samples start … stop-1 of a file, a row group at a time. UserError if it is damaged."""
    try:
        with _file(path) as opened, pq.ParquetFile(opened) as file:
            if not file.schema_arrow.equals(_schema(setting, questions)):
                raise pa.ArrowInvalid(f"its columns are not those of {setting.name}")
            for first in range(start - start % _GROUP, stop, _GROUP):
                table = file.read_row_group(first // _GROUP, use_threads=False)
                if questions > 1:
                    table = _filled(setting, table)
                low, high = max(start, first), min(stop, first + _GROUP)
                table = table.slice(low - first, high - low)
                yield from _from_table(setting, low, table, questions)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read ({error}); build the data set again")


def _to_table(schema: pa.Schema, samples: Sequence[Sample], questions: int) -> pa.Table:
    columns = [
        _haystacks(schema, samples, questions),
        pa.array([[n.photo for n in s.needles] for s in samples], schema.field("photos").type),
        pa.array([[n.caption for n in s.needles] for s in samples], schema.field("captions").type),
        pa.array(
            [[cell_of(s.setting, at) for at in s.truth if at is not None] for s in samples],
            schema.field("cells").type,
        ),
        pa.array([s.ambiguity for s in samples], pa.float64()),
        pa.array([s.hard for s in samples], pa.bool_()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _haystacks(schema: pa.Schema, samples: Sequence[Sample], questions: int) -> pa.Array:
    kind = schema.field("haystack").type
    if questions == 1:
        flat = np.array([sample.haystack for sample in samples], np.int64).ravel()
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)
    first = {sample.haystack_number: at for at, sample in reversed([*enumerate(samples)])}
    written = [
        sample.haystack if first[sample.haystack_number] == at else ()
        for at, sample in enumerate(samples)
    ]
    return pa.array(written, kind)


def _filled(setting: Setting, table: pa.Table) -> pa.Table:
    """A row group with every sample's haystack in its place."""
    stored = table["haystack"].combine_chunks()
    whole = stored.value_lengths().to_numpy() > 0
    rows = stored.flatten().to_numpy().reshape(-1, setting.cells)
    flat = pa.array(rows[np.cumsum(whole) - 1].ravel())
    filled = pa.FixedSizeListArray.from_arrays(flat, setting.cells)
    return table.set_column(table.schema.get_field_index("haystack"), "haystack", filled)


def _from_table(setting: Setting, start: int, table: pa.Table, questions: int) -> Iterator[Sample]:
    haystack = table["haystack"].combine_chunks().flatten().to_numpy().reshape(-1, setting.cells)
    rest = table.drop_columns(["haystack"]).to_pylist()
    number: int | None = None
    whole: tuple[int, ...] = ()
    for index, (row, other) in enumerate(zip(haystack, rest, strict=True), start):
        if questions == 1 or index // questions != number:
            number = index // questions if questions > 1 else None
            whole = tuple(row.tolist())
        cells = other["cells"] or [None] * setting.needles
        yield Sample(
            id=sample_id(setting, index),
            setting=setting,
            haystack=whole,
            needles=tuple(
                Needle(caption, photo, None if cell is None else locate(setting, cell))
                for caption, photo, cell in zip(
                    other["captions"], other["photos"], cells, strict=True
                )
            ),
            ambiguity=other["ambiguity"],
            hard=other["hard"],
            haystack_number=number,
        )
