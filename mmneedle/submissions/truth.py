"""The truth of a submission's samples, made again: from its data set, or from the recipe alone."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from heapq import heappush, heappushpop
from pathlib import Path
from typing import NamedTuple

from mmneedle.data import open_source
from mmneedle.errors import UserError
from mmneedle.reports.words import short
from mmneedle.retrieval.opening import again, open_again
from mmneedle.runlog import Record, RunHeader, request_digest
from mmneedle.stitching.dataset import DataSet, Manifest, write_photos
from mmneedle.stitching.samples import SampleMaker
from mmneedle.stitching.tiles import build_store
from mmneedle.tasks import open_task
from mmneedle.tasks.grid import GridTask
from mmneedle.types import Sample, Setting, Source, parse_sample_id

_STEP = 256
"""Samples made at once."""
_MOST_PIXELS = 2_000_000_000
"""Of cells that are made for them: a paper's worth of 256 px needs a third of it."""
REQUESTS = 8
"""Requests of each setting whose hash is computed anew, unless more are asked for."""


class TooLargeError(Exception):
    """Requests would take more memory or time to be made than a check may."""


class Truths(NamedTuple):
    """Where samples come from: a data set, or a maker of the same ones."""

    place: str
    """In words: "the data set at DIR" or "its recipe"."""
    dataset: DataSet | None
    maker: SampleMaker | None = None
    """Without a data set, as are the next two."""
    source: Source | None = None
    manifest: Manifest | None = None

    def samples(self, setting: Setting, start: int, stop: int) -> Iterator[Sample]:
        """Samples start … stop-1 of a setting."""
        if self.dataset is not None:
            return self.dataset.samples(setting, start, stop)
        assert self.maker is not None
        return self.maker.samples(setting, start, stop)

    def beside(
        self, header: RunHeader, records: Iterable[Record]
    ) -> Iterator[tuple[Record, Sample]]:
        """Every record with its sample. Records come by setting and index."""
        name = ""
        samples: Iterator[tuple[int, Sample]] = iter(())
        for record in records:
            setting, index = parse_sample_id(record.sample)
            if setting.name != name:
                name = setting.name
                _, stop = header.span(setting)
                samples = enumerate(self.samples(setting, index, stop), index)
            for number, sample in samples:
                if number == index:
                    yield record, sample
                    break
            else:
                raise ValueError(f"{self.place} has no sample {record.sample}")

    def digests(self, header: RunHeader, records: Iterable[Record]) -> list[tuple[Record, str]]:
        """Records, by setting and index, with the hash of the request that each should have had.

        Raises ValueError where cells cannot be shrunk as the run says, TooLargeError where there
        is too much to be made.
        """
        chosen = list(self.beside(header, records))
        with tempfile.TemporaryDirectory(prefix="mmneedle-") as folder:
            try:
                dataset = self.dataset or self._built(Path(folder), header.task, chosen)
                if header.reader is not None:
                    return list(_reread(header, dataset, chosen))
                task = open_task(header.task, dataset, header.resize)
            except UserError as error:
                raise ValueError(str(error)) from None
            return [(record, request_digest(task.request(sample))) for record, sample in chosen]

    def _built(self, folder: Path, task: str, chosen: Iterable[tuple[Record, Sample]]) -> DataSet:
        """A data set that has captions and what these samples show, and no sample."""
        assert self.source is not None and self.manifest is not None
        write_photos(folder / "photos.parquet", self.source.photos())
        if task == GridTask.name:
            used = sorted({photo for _, sample in chosen for photo in sample.haystack})
            tiles = self.manifest.tiles
            if len(used) * tiles.width * tiles.height > _MOST_PIXELS:
                size = f"{tiles.width}x{tiles.height}"
                raise TooLargeError(
                    f"{len(used):,} cells of {size} px are too many to be made: name the data set"
                )
            build_store(folder / "tiles", self.source, used, tiles, workers=1)
        return DataSet(folder, self.manifest)


def _reread(
    header: RunHeader, dataset: DataSet, chosen: Iterable[tuple[Record, Sample]]
) -> Iterator[tuple[Record, str]]:
    """Hashes of requests that hold what the records say was read."""
    assert header.reader is not None
    task = open_again(header.reader, header.task, dataset, header.resize)
    for record, sample in chosen:
        if not record.reading:
            raise UserError(f"{record.sample}: does not say what of its haystack was read")
        yield record, request_digest(again(task, sample, record.reading))


class Drawn(NamedTuple):
    """Requests to be made again, of those that can be."""

    records: list[Record]
    """By setting, as the plan has them, and index."""
    of: int
    """Records with a hash."""


def draw(header: RunHeader, records: Iterable[Record], most: int, seed: str) -> Drawn:
    """Draw requests of each setting at random, all subsets of one size alike.

    Args:
        header: the run's.
        records: of a submission.
        most: how many of each setting; all, where it has fewer.
        seed: what the choice depends on: the SHA-256 of the file, so that nobody knows, before
            every answer is written down, which requests are looked at.
    """
    order = {name: place for place, name in enumerate(header.plan)}
    heaps: dict[str, list[tuple[bytes, int, Record]]] = {}
    count = 0
    for record in records:
        if record.request_sha256 is None:
            continue
        count += 1
        setting, index = parse_sample_id(record.sample)
        lot = hashlib.sha256(f"{seed} {record.sample}".encode()).digest()
        heap = heaps.setdefault(setting.name, [])
        (heappush if len(heap) < most else heappushpop)(heap, (lot, index, record))
    drawn = [
        (order[name], index, record) for name, heap in heaps.items() for _, index, record in heap
    ]
    return Drawn([record for _, _, record in sorted(drawn, key=lambda one: one[:2])], count)


def find_truths(manifest: Manifest, header: RunHeader, data: Path | None) -> Truths | str:
    """Where the samples can be had; in words why they cannot.

    Args:
        manifest: the recipe; its fingerprint is known to be that of its parts.
        header: the run's.
        data: a data set's folder, or photos in COCO's layout.

    Raises:
        UserError: `data` is neither, or another one.
        ValueError: the recipe cannot be followed.
    """
    if data is not None and (data / "dataset.json").is_file():
        dataset = DataSet.open(data)
        if dataset.fingerprint != manifest.fingerprint:
            raise UserError(
                f"{data}: its data set has the fingerprint {short(dataset.fingerprint)}, the "
                f"submission is about {short(manifest.fingerprint)}; name another with --data"
            )
        return Truths(f"the data set at {data}", dataset)
    if data is not None and (data / "run.json").is_file():
        raise UserError(
            f"{data}: is a run's folder; --data takes that of its data set, or of COCO's photos"
        )
    source = _source(manifest, data)
    if isinstance(source, str):
        return source
    if source.identity() != manifest.identity:
        if data is not None:
            raise UserError(f"{data}: these are not the photos that the submission is about")
        raise ValueError("the recipe's source is not what its fingerprint was taken over")
    try:
        maker = SampleMaker(source.photos(), manifest.rules)
        for name in header.plan:  # a setting that the source cannot fill is told here
            next(maker.samples(Setting.parse(name), 0, 1), None)
    except UserError as error:
        raise ValueError(str(error)) from None
    return Truths("its recipe", None, maker, source, manifest)


def _source(manifest: Manifest, data: Path | None) -> Source | str:
    """The recipe's source; in words why it is not to be had."""
    if manifest.source.get("source") == "coco":
        if data is None:
            return "its photos are elsewhere: name the data set, or the photos, with --data"
        from mmneedle.data.coco import find_coco

        return find_coco(data, None)
    if data is not None:
        raise UserError(f"{data}: no data set here (no dataset.json)")
    try:
        return open_source(manifest.source)
    except UserError as error:
        raise ValueError(str(error)) from None
