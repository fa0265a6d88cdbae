from pathlib import Path

import disks
import pytest
from disks import disk

from mmneedle.errors import UserError
from mmneedle.files import refuse_strangers, whole, write_whole


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail() -> None:
        with whole(path) as partial:
            partial.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert (path.read_bytes(), [*tmp_path.iterdir()]) == (b"new", [path])


def test_nothing_is_left_on_a_full_disk(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", disks.SMALL) as small:
        with pytest.raises(OSError, match="No space left"):
            write_whole(small / "file", bytes(1 << 20))
        assert [*small.iterdir()] == []


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    ours = {"one", "two"}.__contains__
    refuse_strangers(tmp_path / "not there", ours)
    refuse_strangers(tmp_path, ours)
    for name in ("one", "two.partial"):
        (tmp_path / name).touch()
    refuse_strangers(tmp_path, ours)
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds other files \(a.txt\)"):
        refuse_strangers(tmp_path, ours)
    with pytest.raises(UserError, match="is a file; name a folder"):
        refuse_strangers(tmp_path / "one", ours)
