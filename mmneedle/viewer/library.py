"""What the viewer was given: data sets and runs under short ids, read when they are asked for."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.following import Following
from mmneedle.reports.words import folder_name, short
from mmneedle.retrieval.opening import open_again
from mmneedle.retrieval.passages import ReadText
from mmneedle.runlog import Run, open_runs
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.samples import locate
from mmneedle.tasks import open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import TwinTask
from mmneedle.texts.dataset import TextDataSet
from mmneedle.types import Location, Photo, Reader, Sample, Setting, parse_sample_id, sample_id

_GROUP = 256  # samples that are read together, as they lie in the file
_GROUPS = 6  # of those that are kept: some 6 MB each at (10, 8)


class NotFoundError(UserError):
    """There is nothing of this id."""


class Facts(msgspec.Struct, frozen=True):
    """What a data set says of a setting's n samples, without their haystacks."""

    setting: Setting
    captions: pa.ChunkedArray
    """Of lists, one caption a needle; n of them."""
    cells: pa.ChunkedArray
    """Of lists: where the needles are, image by image, row by row from 0; empty: nowhere."""
    hard: NDArray[np.bool_]
    ambiguity: NDArray[np.float64]
    """NaN where it was not measured."""

    def truth(self, number: int) -> tuple[Location | None, ...]:
        """The right location of each needle of a sample."""
        cells = self.cells[number].as_py()
        if not cells:
            return (None,) * self.setting.needles
        return tuple(locate(self.setting, cell) for cell in cells)


class Book:
    """A data set. Threads may share one."""

    def __init__(self, key: str, dataset: DataSet) -> None:
        self.key, self.dataset = key, dataset
        self.name = dataset.folder.resolve().name
        self._mutex = threading.Lock()
        self._facts: dict[Setting, Facts] = {}
        self._groups: OrderedDict[tuple[Setting, int], list[Sample]] = OrderedDict()
        self._photos: dict[int, Photo] | None = None
        self._tasks: dict[tuple[str, Reader | None], GridTask | TwinTask] = {}

    def has(self, setting: Setting, number: int) -> bool:
        """Whether there is such a sample."""
        return 0 <= number < self.dataset.count(setting)

    def facts(self, setting: Setting) -> Facts:
        """Captions, places and measures of a setting's samples; read once."""
        with self._mutex:
            if setting not in self._facts:
                names = ("captions", "cells", "ambiguity", "hard")
                table = self.dataset.columns(setting, names)
                self._facts[setting] = Facts(
                    setting,
                    table["captions"],
                    table["cells"],
                    table["hard"].to_numpy(),
                    table["ambiguity"].cast(pa.float64()).to_numpy(),
                )
            return self._facts[setting]

    def sample(self, setting: Setting, number: int) -> Sample:
        """A sample with its haystack. Raises NotFoundError where there is none."""
        if not self.has(setting, number):
            raise NotFoundError(f"there is no sample {sample_id(setting, number)}")
        first = number - number % _GROUP
        with self._mutex:
            group = self._groups.pop((setting, first), None)
            if group is None:
                group = list(self.dataset.samples(setting, first, first + _GROUP))
            self._groups[setting, first] = group
            while len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
        return group[number - first]

    def task(self, name: str, reader: Reader | None = None) -> GridTask | TwinTask:
        """What makes requests by a task's name and a run's reader.

        Raises UserError where there is no such task.
        """
        with self._mutex:
            key = name, reader
            if key not in self._tasks:
                if reader is None:
                    self._tasks[key] = open_task(name, self.dataset)
                else:
                    task = open_again(reader, name, self.dataset)
                    assert not isinstance(task, ReadText)
                    self._tasks[key] = task
            return self._tasks[key]

    def photo(self, photo: int) -> Photo | None:
        """A photo's captions."""
        with self._mutex:
            if self._photos is None:
                self._photos = {one.id: one for one in self.dataset.photos()}
            return self._photos.get(photo)


class Volume:
    """A run, with its data set where that is to be had."""

    def __init__(self, key: str, run: Run, books: "_Books") -> None:
        self.key = key
        self.following = Following(run)
        self._books = books
        self.name = run.folder.resolve().name

    @property
    def run(self) -> Run:
        """The run as its header says now."""
        return self.following.run

    @property
    def book(self) -> Book | None:
        """Its data set; None: `missing` says why."""
        return self._books.of(self.run)[0]

    @property
    def missing(self) -> str | None:
        """Why its data set cannot be shown."""
        return self._books.of(self.run)[1]

    def asks(self, setting: Setting, number: int) -> bool:
        """Whether the run asks this sample."""
        return self.run.header.includes(setting, number)


Item = Book | Volume


class _Books:
    """Data sets by what they are: each opened once."""

    def __init__(self) -> None:
        self.all: dict[Path, Book] = {}

    def add(self, folder: Path) -> Book:
        """The data set in a folder. Raises UserError where there is none."""
        place = folder.resolve()
        if place not in self.all:
            self.all[place] = Book(f"d{len(self.all) + 1}", DataSet.open(folder))
        return self.all[place]

    def of(self, run: Run) -> tuple[Book | None, str | None]:
        """A run's data set, or why there is none."""
        mark, path = run.header.dataset_fingerprint, Path(str(run.header.dataset_path))
        for book in list(self.all.values()):  # threads may add one meanwhile
            if book.dataset.fingerprint == mark:
                return book, None
        where = folder_name(path)
        try:
            dataset = DataSet.open(path)
        except (UserError, OSError, ValueError):
            return None, (
                f"There is no data set at {where} now, so captions and pictures are missing "
                "(mmneedle view … --data DIR names another place)."
            )
        if dataset.fingerprint != mark:
            return None, (
                f"The data set at {where} is another one now (its fingerprint is "
                f"{short(dataset.fingerprint)}, the run's {short(mark)}), so captions and pictures "
                "are missing (mmneedle view … --data DIR names another place)."
            )
        return self.add(path), None


class Library:
    """All that the viewer shows. Opening one reads manifests and headers, nothing else."""

    def __init__(self, paths: Sequence[Path], data: Iterable[Path] = ()) -> None:
        """Open what these folders hold.

        Args:
            paths: folders of data sets and runs, or folders that hold such; shards of one run
                become one.
            data: folders of data sets that are not where their runs saw them.

        Raises:
            UserError: neither a data set nor a run in a folder; a folder in `data` that holds no
                data set, or that of none of the runs.
        """
        self._books = _Books()
        runs: list[Path] = []
        for path in paths:
            for folder in _unpacked(path):
                if (folder / "dataset.json").is_file():
                    self._books.add(folder)
                else:
                    runs.append(folder)
        opened = open_runs(list(dict.fromkeys(folder.resolve() for folder in runs)))
        wanted = {run.header.dataset_fingerprint for run in opened}
        for folder in data:
            book = self._books.add(folder)
            if book.dataset.fingerprint not in wanted:
                raise UserError(
                    f"{folder}: its data set (fingerprint {short(book.dataset.fingerprint)}) is "
                    "not that of a run here; leave out --data, or name it without --data"
                )
        self.volumes = {
            f"r{number}": Volume(f"r{number}", run, self._books)
            for number, run in enumerate(opened, 1)
        }
        for volume in self.volumes.values():
            self._books.of(volume.run)

    @property
    def books(self) -> dict[str, Book]:
        """The data sets: those given, and those of the runs."""
        return {book.key: book for book in list(self._books.all.values())}

    def item(self, key: str) -> Item:
        """What goes by an id. Raises NotFoundError where nothing does."""
        found = self.volumes.get(key) or self.books.get(key)
        if found is None:
            raise NotFoundError("there is no such data set or run here")
        return found

    def volume(self, key: str) -> Volume:
        """The run of this id. Raises NotFoundError where there is none."""
        found = self.volumes.get(key)
        if found is None:
            raise NotFoundError("there is no such run here")
        return found


@contextmanager
def held(items: Iterable[Item]) -> Iterator[None]:
    """Take in what is new in runs and hold them still for a block; always in the same order."""
    with ExitStack() as stack:
        for item in sorted(items, key=lambda one: one.key):
            if isinstance(item, Volume):
                stack.enter_context(item.following.read())
        yield


def _unpacked(path: Path) -> list[Path]:
    """A data set's or a run's folder itself, else those directly in it. UserError for none."""
    names = ("dataset.json", "run.json")
    try:
        if any((path / name).is_file() for name in names):
            return [path]
        if not path.exists():
            raise UserError(f"{path}: no such folder; name a data set or a run")
        if not path.is_dir():
            Run.open(path)  # which says what it is
        inner = sorted(
            one for one in path.iterdir() if any((one / name).is_file() for name in names)
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not inner:
        if TextDataSet.here(path):
            raise UserError(f"{path}: is a data set of texts; see mmneedle show {path}")
        raise UserError(f"{path}: neither a data set (dataset.json) nor a run (run.json) is here")
    return inner


def parse_sample(text: str) -> tuple[Setting, int]:
    """Setting and number of a sample's id as `sample_id` writes it, and no other way.

    Raises NotFoundError.
    """
    try:
        if len(text) > 80:
            raise ValueError
        setting, number = parse_sample_id(text)
        if sample_id(setting, number) != text:
            raise ValueError
    except ValueError:
        raise NotFoundError("there is no such sample") from None
    return setting, number
