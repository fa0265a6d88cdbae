"""Building a tile store: every photo is decoded, resized and encoded once, on all cores.

Work goes in chunks of photos. A finished chunk is a small store file of its own in FOLDER/partial,
so a build that was killed goes on from the finished chunks; at the end all are merged, in the order
of the ids, into FOLDER/tiles.bin, which is renamed into place. FOLDER/lock keeps a second builder
out. While a store is built the disk holds its tiles twice.
"""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from operator import itemgetter
from pathlib import Path

import msgspec
import numpy as np
import PIL
from PIL import features

from mmneedle.errors import UserError
from mmneedle.files import locked, unwritable
from mmneedle.stitching import store
from mmneedle.stitching.jpeg import TileFormat, encode_tile, split_tile, tile_header
from mmneedle.stitching.store import Ids, Key, StoreFile, Tile, TileStore
from mmneedle.types import Source

__all__ = ["TileFormat", "TileStore", "build_store", "encode_tile"]

_CHUNK = 32  # tiles: a sixth of a second's work, and what a kill can cost a worker
_FEW = 256  # tiles: fewer are made before workers have started

Report = Callable[[int, int], None]
"""Called with tiles done and tiles in all."""


def build_store(
    folder: Path,
    source: Source,
    photo_ids: Sequence[int],
    fmt: TileFormat,
    *,
    workers: int | None = None,
    progress: Report | None = None,
) -> TileStore:
    """Build the store of these photos' tiles in a folder, or go on with it, and open it.

    A whole store of the same source and format that holds all these photos is taken as it is; if
    some are missing only those are made, unless Pillow has changed: one store never mixes the tiles
    of two encoders. The same photos give the same file, byte for byte, with any number of workers
    and any number of interruptions. Memory does not grow with the photos.

    Args:
        folder: made if it does not exist.
        source: picklable; each worker process gets a copy.
        photo_ids: whose tiles to make; an id given twice counts once.
        fmt: size and JPEG parameters of the tiles.
        workers: processes; 1 makes the tiles in this one, None takes all cores. Workers import
            the main module, so a script needs `if __name__ == "__main__":`.
        progress: called with tiles done and tiles in all, from this thread.

    Raises:
        UserError: a photo that cannot be read, a format that is no format, a full disk, a worker
            that died, another builder in the same folder.
        ValueError: fewer than one worker.
    """
    fmt.check(1, 1)
    if workers is not None and workers < 1:
        raise ValueError(f"{workers} workers")
    wanted = np.unique(np.asarray(photo_ids, np.int64))
    if not len(wanted):
        raise UserError(f"{folder}: no photos to make tiles of")
    progress = progress or (lambda done, total: None)
    build = _Build(Path(folder), source, fmt, progress)
    if build.parts.exists() or not build.whole(wanted):
        with locked(build.folder, "making tiles"):
            if not build.whole(wanted):  # another builder may just have finished
                build.run(wanted, workers)
            shutil.rmtree(build.parts, ignore_errors=True)
    return TileStore.open(folder)


class _Build:
    """One call of `build_store`."""

    def __init__(self, folder: Path, source: Source, fmt: TileFormat, progress: Report) -> None:
        self.folder, self.parts = folder, folder / "partial"
        identity = msgspec.json.decode(msgspec.json.encode(source.identity()))
        encoder = {
            "pillow": PIL.__version__,
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg") or "",
        }
        self.key = Key(identity, fmt, encoder)
        self._render = _Renderer(source, self.key, self.parts)
        self._progress = progress

    def whole(self, wanted: Ids) -> bool:
        """Whether the folder's store holds all these photos, undamaged."""
        file = self._read(self.folder / store.NAME)
        return file is not None and bool(np.isin(wanted, file.ids).all()) and file.intact()

    def run(self, wanted: Ids, workers: int | None) -> None:
        """Make what is missing, then the whole store. Needs the lock."""
        old = self._read(self.folder / store.NAME)
        target = wanted if old is None else np.union1d(wanted, old.ids)
        self._tidy()
        have = [file.ids for file in self._finished()]
        missing = np.setdiff1d(target, np.concatenate([*have, target[:0]]))
        done, total = len(target) - len(missing), len(target)

        def made(count: int) -> None:
            nonlocal done
            done += count
            self._progress(done, total)

        made(0)
        self._make(missing.tolist(), workers, made)
        tiles = _merged(self._finished(), target)
        path = self.folder / store.NAME
        store.write(path, self.key, tile_header(self.key.format), tiles, sync=True)

    def _read(self, path: Path) -> StoreFile | None:
        """A store's file if it is whole and of the same source and format."""
        try:
            with path.open("rb") as opened:
                file = StoreFile.read(opened, path)
        except (OSError, UserError):
            return None
        key = file.meta.key
        same = key.source == self.key.source and key.format == self.key.format
        return file if same else None

    def _finished(self) -> list[StoreFile]:
        """All files to take tiles from: of the same encoder too, and undamaged."""
        paths = [self.folder / store.NAME, *sorted(self.parts.glob("*.chunk"))]
        files = (self._read(path) for path in paths)
        return [file for file in files if file and file.meta.key == self.key and file.intact()]

    def _tidy(self) -> None:
        """Remove what a killed process was just writing."""
        try:
            self.parts.mkdir(exist_ok=True)
            for folder in (self.folder, self.parts):
                for path in folder.glob("*.partial"):
                    path.unlink()
        except OSError as error:
            raise unwritable(self.parts, error) from None

    def _make(self, photos: list[int], workers: int | None, made: Callable[[int], None]) -> None:
        """Make these tiles; says how many each finished chunk has."""
        if workers is None:
            workers = 1 if len(photos) < _FEW else _cores()
        size = max(1, min(_CHUNK, len(photos) // (4 * workers)))
        chunks = [photos[at : at + size] for at in range(0, len(photos), size)]
        if workers == 1 or len(chunks) < 2:
            for chunk in chunks:
                made(self._render(chunk))
        else:
            _in_processes(self._render, chunks, min(workers, len(chunks)), made)


class _Renderer:
    """Makes one chunk: photos in, a small store file out. Pickled once for each worker."""

    def __init__(self, source: Source, key: Key, folder: Path) -> None:
        self.source, self.key, self.folder = source, key, folder

    def __call__(self, photos: list[int], stopped: Callable[[], bool] = lambda: False) -> int:
        """Make the tiles of these photos, sorted by id; returns how many were made."""
        tiles = []
        for photo in photos:
            if stopped():
                return 0
            tiles.append(self._tile(photo))
        header = tile_header(self.key.format)
        store.write(self.folder / f"{photos[0]}.chunk", self.key, header, tiles, sync=False)
        return len(tiles)

    def _tile(self, photo: int) -> Tile:
        fmt = self.key.format
        try:
            image = self.source.tile(photo, fmt.width, fmt.height)
        except OSError as error:
            raise UserError(f"photo {photo}: cannot be read ({error})") from error
        return store.pack(photo, split_tile(encode_tile(image, fmt), fmt))


# --------------------------------------------------------------------------- worker processes

_work: Callable[[list[int]], int]
"""In a worker: makes a chunk."""


def _in_processes(
    render: _Renderer, chunks: list[list[int]], workers: int, made: Callable[[int], None]
) -> None:
    """Render chunks in any order, a bounded number of them on their way at a time."""
    context = get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (render, told))
    pending: set[Future[int]] = set()
    try:
        waiting = iter(chunks)
        while True:
            with _deaf_to_ctrl_c():  # the first one starts the workers
                for chunk in islice(waiting, 2 * workers - len(pending)):
                    pending.add(pool.submit(_run_chunk, chunk))
            if not pending:
                break
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                made(future.result())
    except BrokenProcessPool:
        raise UserError(
            f"{render.folder.parent}: a worker process died while making tiles (killed, out of "
            'memory, or started by a script without `if __name__ == "__main__":`); the same '
            "build again goes on from there, with fewer workers it needs less memory"
        ) from None
    finally:
        tell.send("stop")  # no worker takes it out, so all see it, before their next tile
        pool.shutdown(cancel_futures=True)
        told.close()
        tell.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started here stay deaf: a terminal's Ctrl-C reaches all, the parent decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(render: _Renderer, told: Connection) -> None:
    global _work
    stopped = threading.Event()
    threading.Thread(target=_watch_parent, args=(told, stopped), daemon=True).start()
    _work = partial(render, stopped=stopped.is_set)


def _run_chunk(photos: list[int]) -> int:
    return _work(photos)


def _watch_parent(told: Connection, stopped: threading.Event) -> None:
    """Hear the parent's word, and its death: the pool's pipes stay open in the workers."""
    parent = parent_process()
    assert parent is not None
    wait_for([told, parent.sentinel])
    stopped.set()
    wait_for([parent.sentinel])
    os._exit(1)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --------------------------------------------------------------------------- the folder


def _merged(files: list[StoreFile], target: Ids) -> Iterator[Tile]:
    """The tiles of these photos in order, each from the first file that holds it."""
    ids = np.concatenate([target[:0], *(file.ids for file in files)])
    if not np.isin(target, ids).all():
        raise UserError("finished tiles vanished while others were made: run the same build again")
    owner = np.repeat(np.arange(len(files)), [len(file.ids) for file in files])
    place = np.concatenate([np.arange(len(file.ids)) for file in files])
    known, first = np.unique(ids, return_index=True)
    chosen = first[np.searchsorted(known, target)]
    pairs = zip(owner[chosen].tolist(), place[chosen].tolist(), strict=True)
    for which, run in groupby(pairs, key=itemgetter(0)):
        yield from files[which].tiles(at for _, at in run)
