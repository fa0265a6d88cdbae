"""File systems that are small or read-only, for tests of what happens then."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import needs

SMALL = "size=64k"
READ_ONLY = "ro"


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory, mounted at a new folder for as long as the block lasts."""
    needs.mount()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
