"""Files that are there whole or not at all, and folders that one process has to itself."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Self

from mmneedle.errors import UserError


class Closing:
    """A context manager that closes itself at its end."""

    def close(self) -> None:
        """Let go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: what is written to the path given takes its place.

    Where that fails (a full disk, Ctrl-C) nothing is left of it. Raises OSError.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, so that it outlasts a power cut. Raises OSError."""
    with whole(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Write several files into a folder, all or none: those written to the one given go there last.

    Files of the same names are replaced, others left alone. Where anything fails (a full disk,
    Ctrl-C) all is as it was, and a folder that was not there is not there.

    Raises:
        UserError: the folder cannot be written to; one that was raised within names `folder`.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    partial = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        yield partial
        files = sorted(partial.iterdir())
        if blocked := [folder / file.name for file in files if (folder / file.name).is_dir()]:
            raise UserError(f"{blocked[0]}: is a folder; a file of this name is to be written")
        for file in files:
            file.replace(folder / file.name)
    except UserError as error:
        raise UserError(str(error).replace(str(partial), str(folder))) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        if partial != folder:
            shutil.rmtree(partial, ignore_errors=True)
        for place in made:
            with suppress(OSError):  # holds what was written
                place.rmdir()


def refuse_strangers(folder: Path, ours: Callable[[str], bool]) -> None:
    """See that a folder, if there is one, holds nothing but what is ours to overwrite.

    Args:
        folder: about to be written to.
        ours: tells our files by name; what was left half written of one (.partial) is ours too.

    Raises:
        UserError: it is a file, or holds others' files.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder")
    if not folder.exists():
        return
    names = (item.name for item in islice(folder.iterdir(), 10_000))
    strangers = [name for name in names if not ours(name.removesuffix(".partial"))]
    if strangers:
        raise UserError(
            f"{folder}: holds other files ({min(strangers)}); name a new or an empty folder"
        )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, made if need be, against others that do the same; a killed one holds nothing.

    Args:
        folder: gets a file "lock", locked by flock(2).
        what: what is done here, for the message: "building".

    Raises:
        UserError: another process holds it, or the file system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
    except OSError as error:
        raise unwritable(folder / "lock", error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is {what} here; wait for it") from None
        except OSError as error:
            raise unwritable(folder / "lock", error) from None
        yield


def unwritable(path: Path, error: OSError) -> UserError:
    """What to say when a file cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror or error})")
