"""Files that are there whole or not at all, and folders that one process has to itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmneedle.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all, so that it outlasts a power cut. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


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
