import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise_source import FMT, Deaf, Faulty, Noise
from PIL import Image
from rounds import examples

from mmneedle.errors import UserError
from mmneedle.stitching import store, tiles
from mmneedle.stitching.tiles import TileFormat, TileStore, build_store, encode_tile

HERE = Path(__file__).resolve().parent
PYTHONPATH = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}


def whole(folder: Path) -> bytes:
    return (folder / "tiles.bin").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def asked(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store of photos 0, 3, 6 … 297, and the folder it is in."""
    folder = tmp_path_factory.mktemp("built")
    return folder, build_store(folder, Noise(), range(0, 300, 3), FMT, workers=1)


# --------------------------------------------------------------------------- reading


def test_a_store_holds_what_was_asked_for(built):
    _, opened = built
    assert opened.ids.dtype == np.int64
    assert opened.ids.tolist() == list(range(0, 300, 3))
    assert opened.format == FMT
    assert len(opened) == 100
    assert 3 in opened
    assert np.int64(3) in opened
    assert 4 not in opened
    with pytest.raises(ValueError):
        opened.ids[0] = 1  # read-only


def test_a_tile_is_its_jpeg_file(built):
    _, opened = built
    for photo in (0, 3, 297):
        assert opened.tile(photo) == encode_tile(Noise().tile(photo, 32, 48), FMT)


@examples(60)
@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_size_is_the_size(built, data, rows, cols):
    _, opened = built
    ids = data.draw(st.lists(st.sampled_from(range(0, 300, 3)), min_size=rows * cols, max_size=36))
    ids = ids[: rows * cols]
    file = opened.join(ids, rows, cols)
    assert opened.size(ids, rows, cols) == len(file)
    assert Image.open(io.BytesIO(file)).size == (32 * cols, 48 * rows)


def test_a_joined_file_is_made_of_its_tiles(built):
    _, opened = built
    ids = (9, 0, 3, 297, 9, 60)
    image = Image.open(io.BytesIO(opened.join(ids, 2, 3)))
    for k, photo in enumerate(ids):
        row, col = divmod(k, 3)
        box = (col * 32 + 2, row * 48 + 2, col * 32 + 30, row * 48 + 46)  # not the seams: 4:2:0
        alone = Image.open(io.BytesIO(opened.tile(photo))).crop((2, 2, 30, 46))
        assert image.crop(box).tobytes() == alone.tobytes()


def test_ids_may_be_numpy_s(built):
    _, opened = built
    assert opened.join(np.array([3, 6]), 1, 2) == opened.join([3, 6], 1, 2)
    assert opened.size(np.array([3, 6]), 1, 2) == opened.size((3, 6), 1, 2)


@pytest.mark.parametrize("call", ["join", "size"])
def test_wrong_calls(built, call):
    _, opened = built
    function = getattr(opened, call)
    for ids in ((), (0,), (0, 3, 6)):
        with pytest.raises(ValueError):
            function(ids, 1, 2)
    for absent in (1, -1, 10**12):
        with pytest.raises(UserError, match=rf"photo {absent}\b"):
            function((0, absent), 1, 2)
    with pytest.raises(UserError):
        function((), 0, 2)


@pytest.mark.parametrize("call", ["join", "size"])
def test_tiles_that_cannot_be_joined_are_refused(tmp_path, call):
    with build_store(tmp_path, Noise(), range(4), TileFormat(20, 20), workers=1) as opened:
        assert opened.tile(1)
        with pytest.raises(UserError, match="16 or 32 px"):
            getattr(opened, call)(range(4), 2, 2)


def test_threads_may_join_at_once(built):
    _, opened = built
    jobs = []
    for seed in range(200):
        rng = random.Random(seed)
        rows, cols = rng.randint(1, 5), rng.randint(1, 5)
        jobs.append(([3 * rng.randrange(100) for _ in range(rows * cols)], rows, cols))
    alone = [opened.join(*job) for job in jobs]
    fresh = TileStore.open(built[0])  # its plans are made in the threads
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                assert list(pool.map(lambda job: fresh.join(*job), jobs)) == alone
    finally:
        sys.setswitchinterval(switch)


def test_a_closed_store_is_closed(built):
    with TileStore.open(built[0]) as opened:
        opened.join([0, 3], 1, 2)
    with pytest.raises(ValueError, match="closed"):
        opened.join([0, 3], 1, 2)


def test_an_open_store_takes_little_memory(tmp_path):
    tiny = TileFormat(8, 8, 75, "4:4:4")
    build_store(tmp_path, Noise(), range(4000), tiny, workers=1).close()
    TileStore.open(tmp_path)
    tracemalloc.start()
    opened = TileStore.open(tmp_path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(opened) == 4000
    assert held < 300 * 4000


# --------------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "file", "empty", "other"])
def test_no_store(tmp_path, kind):
    folder = tmp_path / "tiles"
    if kind == "file":
        folder.write_text("x")
    elif kind != "nothing":
        folder.mkdir()
        if kind in ("empty", "other"):
            (folder / "tiles.bin").write_bytes(b"" if kind == "empty" else b"x" * 1000)
    with pytest.raises(UserError, match="build it again"):
        TileStore.open(folder)


def test_a_truncated_store_is_refused(built, tmp_path):
    content = whole(built[0])
    path = tmp_path / "tiles.bin"
    for length in {0, 1, 15, 16, *range(len(content) - 3000, len(content), 37), len(content) - 1}:
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="build it again"):
            TileStore.open(tmp_path)
    path.write_bytes(content + b"x")
    with pytest.raises(UserError, match="build it again"):
        TileStore.open(tmp_path)


def test_a_damaged_table_or_description_is_refused(built, tmp_path):
    content = bytearray(whole(built[0]))
    path = tmp_path / "tiles.bin"
    begin = content.index(b'{"layout"') - 20 * 100
    for at in [*range(begin, len(content), 61), len(content) - 1, len(content) - 9]:
        content[at] ^= 0x40
        path.write_bytes(content)
        with pytest.raises(UserError, match="build it again"):
            TileStore.open(tmp_path)
        content[at] ^= 0x40
    path.write_bytes(content)
    TileStore.open(tmp_path)


def test_a_store_of_another_layout_is_refused(built, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_LAYOUT", 2)
    with pytest.raises(UserError, match=r"layout 1.*build it again"):
        TileStore.open(built[0])


def test_damaged_tiles_are_found_by_the_next_build(built, tmp_path):
    content = bytearray(whole(built[0]))
    path = tmp_path / "tiles.bin"
    content[0] ^= 0xFF  # the first tile is no list any more
    content[len(content) // 3] ^= 0x01
    path.write_bytes(content)
    opened = TileStore.open(tmp_path)
    with pytest.raises(UserError, match="build it again"):
        opened.tile(0)
    build_store(tmp_path, Noise(), range(0, 300, 3), FMT, workers=1)
    assert whole(tmp_path) == whole(built[0])


def test_any_flipped_bit_is_found_by_a_check(built, tmp_path):
    content = bytearray(whole(built[0]))
    path = tmp_path / "tiles.bin"
    path.write_bytes(content)
    with TileStore.open(tmp_path) as opened:
        opened.check()
    end = content.index(b'{"layout"') - 20 * 100
    for at in random.Random(5).sample(range(end), 40):
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        with (
            TileStore.open(tmp_path) as opened,
            pytest.raises(UserError, match="do not have their checksum"),
        ):
            opened.check()
        content[at] ^= 1 << at % 8


# --------------------------------------------------------------------------- building


@pytest.mark.parametrize("workers", [2, 3, None])
def test_any_number_of_workers_gives_the_same_file(built, tmp_path, workers):
    log = tmp_path / "log"
    ids = list(range(0, 300, 3)) * 2
    random.Random(1).shuffle(ids)
    build_store(tmp_path / "tiles", Noise(log=log), ids, FMT, workers=workers)
    assert whole(tmp_path / "tiles") == whole(built[0])
    assert sorted(asked(log)) == list(range(0, 300, 3))
    assert names(tmp_path / "tiles") == ["lock", "tiles.bin"]
    processes = {line.split()[1] for line in log.read_text().splitlines()}
    assert (processes == {str(os.getpid())}) == (workers is None)  # few photos need no workers


def test_a_whole_store_is_taken_as_it_is(tmp_path):
    log = tmp_path / "log"
    folder = tmp_path / "tiles"
    build_store(folder, Noise(), range(20), FMT, workers=1)
    before = (folder / "tiles.bin").stat()
    calls = []
    build_store(folder, Noise(log=log), range(5, 10), FMT, progress=lambda *c: calls.append(c))
    assert asked(log) == []
    assert (folder / "tiles.bin").stat().st_ino == before.st_ino


def test_only_missing_tiles_are_made(built, tmp_path):
    log = tmp_path / "log"
    folder = tmp_path / "tiles"
    build_store(folder, Noise(log=log), range(0, 300, 6), FMT, workers=1)
    old = TileStore.open(folder)
    opened = build_store(folder, Noise(log=log), range(3, 300, 6), FMT, workers=1)
    assert sorted(asked(log)) == list(range(0, 300, 3))
    assert len(opened) == 100
    assert whole(folder) == whole(built[0])  # whatever way it came about
    assert len(old) == 50
    assert old.join([0, 6], 1, 2) == opened.join([0, 6], 1, 2)  # the old one still works


@pytest.mark.parametrize("what", ["source", "format"])
def test_a_store_of_something_else_is_replaced(tmp_path, what):
    build_store(tmp_path, Noise(), range(20), FMT, workers=1)
    source, fmt = Noise("another" if what == "source" else "noise"), FMT
    if what == "format":
        fmt = TileFormat(32, 48, 90)
    opened = build_store(tmp_path, source, range(5), fmt, workers=1)
    assert opened.ids.tolist() == list(range(5))
    assert opened.format == fmt
    assert opened.tile(3) == encode_tile(source.tile(3, 32, 48), fmt)


def test_another_encoder_makes_all_tiles_again_or_none(tmp_path, monkeypatch):
    log = tmp_path / "log"
    folder = tmp_path / "tiles"
    build_store(folder, Noise(log=log), range(10), FMT, workers=1)
    monkeypatch.setattr(PIL, "__version__", "999")
    build_store(folder, Noise(log=log), range(10), FMT, workers=1)
    assert len(asked(log)) == 10
    opened = build_store(folder, Noise(log=log), range(8, 12), FMT, workers=1)
    assert len(asked(log)) == 10 + 12
    assert opened.ids.tolist() == list(range(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_tiles(tmp_path, workers):
    calls = []
    source, progress = Noise(), lambda *call: calls.append(call)
    build_store(tmp_path, source, range(100), FMT, workers=workers, progress=progress)
    assert calls[0] == (0, 100)
    assert calls[-1] == (100, 100)
    assert calls == sorted(calls)
    assert len(calls) > 4
    calls.clear()
    build_store(tmp_path, source, range(90, 120), FMT, workers=workers, progress=progress)
    assert calls[0] == (100, 120)
    assert calls[-1] == (120, 120)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_progress_that_fails_ends_the_build(tmp_path, workers):
    log = tmp_path / "log"

    def progress(done: int, total: int) -> None:
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        source = Noise(log=log, delay=0.002)
        build_store(tmp_path, source, range(600), FMT, workers=workers, progress=progress)
    assert len(asked(log)) < 500
    assert_gone(log)


def test_memory_does_not_grow_with_the_photos(tmp_path):
    fmt = TileFormat(64, 64, 95, "4:4:4")
    peaks = []
    for count in (400, 1600):
        tracemalloc.start()
        folder = tmp_path / str(count)
        build_store(folder, Noise(), range(count), fmt, workers=1).close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    grown = len(whole(tmp_path / "1600")) - len(whole(tmp_path / "400"))
    assert peaks[1] - peaks[0] < grown / 20


def test_wrong_arguments(tmp_path):
    with pytest.raises(UserError, match="no photos"):
        build_store(tmp_path, Noise(), [], FMT)
    with pytest.raises(UserError, match="quality"):
        build_store(tmp_path, Noise(), [1], TileFormat(8, 8, 0))
    with pytest.raises(ValueError, match="workers"):
        build_store(tmp_path, Noise(), [1], FMT, workers=0)


# --------------------------------------------------------------------------- failing


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("user", UserError, "^photo 40: not there; look elsewhere$"),
        ("unreadable", UserError, "photo 40.*truncated"),
        ("mode", ValueError, "RGB"),
        ("bug", ZeroDivisionError, "a bug"),
    ],
)
def test_a_photo_that_fails(tmp_path, workers, how, error, words):
    with pytest.raises(error, match=words):
        build_store(tmp_path, Faulty(40, how), range(100), FMT, workers=workers)
    with pytest.raises(UserError, match="build it again"):
        TileStore.open(tmp_path)
    log = tmp_path / "log"
    opened = build_store(tmp_path, Noise(log=log), range(100), FMT, workers=workers)
    assert len(opened) == 100
    assert 40 in asked(log)
    assert len(asked(log)) < 100  # finished chunks were kept


def test_a_worker_that_dies(tmp_path):
    with pytest.raises(UserError, match="worker process died") as caught:
        build_store(tmp_path, Faulty(40, "dies"), range(100), FMT, workers=2)
    assert "\n" not in str(caught.value)
    assert len(build_store(tmp_path, Noise(), range(100), FMT, workers=2)) == 100


def test_the_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "tiles"):
        with pytest.raises(UserError, match="cannot be written"):
            build_store(folder, Noise(), range(5), FMT, workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(tmp_path, workers):
    """A limit on the size of files stands in for one: the error is as real."""
    script = f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, BYTES))
        build_store(folder, Noise(), range(200), FMT, workers={workers})
    """
    for limit in (1000, 100_000):  # too small for a chunk, too small for all tiles
        done = run(script.replace("BYTES", str(limit)), tmp_path)
        assert done.wait(60) == 2
        text = done.stderr.read().decode()
        assert text.startswith("UserError: ")
        assert "cannot be written (File too large)" in text
        assert text.count("\n") == 1
        assert not list(tmp_path.rglob("*.partial"))
    build_store(tmp_path, Noise(), range(200), FMT, workers=1)


def test_two_builders_in_one_folder(tmp_path):
    folder, log = tmp_path / "tiles", tmp_path / "log"
    begun, go_on = threading.Event(), threading.Event()

    def progress(done: int, total: int) -> None:
        begun.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(
            build_store, folder, Noise(log=log), range(60), FMT, workers=1, progress=progress
        )
        try:
            assert begun.wait(60)
            with pytest.raises(UserError, match="another process is making tiles here"):
                build_store(folder, Noise(log=log), range(60), FMT, workers=1)
        finally:
            go_on.set()
        assert len(first.result()) == 60
    assert len(asked(log)) == 60


def test_workers_are_deaf_to_ctrl_c(tmp_path):
    assert len(build_store(tmp_path, Deaf(), range(90), FMT, workers=2)) == 90


# --------------------------------------------------------------------------- being killed


def run(script: str, folder: Path, **options) -> subprocess.Popen:
    """A script in a process and a session of its own; a UserError is status 2 and one line."""
    script = f"""
import sys
from pathlib import Path
import os, signal
from mmneedle.errors import UserError
from mmneedle.stitching.tiles import build_store
from noise_source import FMT, Noise
folder = Path({str(folder)!r})
try:
{textwrap.indent(textwrap.dedent(script), "    ")}
except UserError as error:
    print("UserError:", error, file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
"""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | PYTHONPATH,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def assert_gone(log: Path) -> None:
    """No process that made a tile lives on, but this one."""
    pids = {int(line.split()[1]) for line in log.read_text().splitlines()} - {os.getpid()}
    deadline = time.monotonic() + 60
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if alive(pid)}
        time.sleep(0.02)
    assert not pids


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(process: subprocess.Popen, log: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(asked(log)) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment(tmp_path, workers):
    """kill -9 again and again: the last build goes on from what there is, to the same bytes."""
    folder, log = tmp_path / "tiles", tmp_path / "log"
    script = f"""
        source = Noise(log=Path({str(log)!r}), delay=0.001)
        build_store(folder, source, range(400), FMT, workers={workers})
    """
    build_store(tmp_path / "at once", Noise(), range(400), FMT, workers=1)
    made = 0
    for more in (1, 30, 70, 0, 110):
        process = run(script, folder)
        wait_for(process, log, made + more)
        time.sleep(random.random() * 0.01)
        process.kill()
        process.wait()
        process.stderr.close()
        assert_gone(log)
        made = len(asked(log))
        if (folder / "tiles.bin").exists():  # it was faster than we are
            assert whole(folder) == whole(tmp_path / "at once")
        else:
            with pytest.raises(UserError, match="build it again"):
                TileStore.open(folder)
    log.rename(tmp_path / "first log")
    build_store(folder, Noise(log=log), range(400), FMT, workers=workers)
    assert len(asked(log)) <= 350  # at least one chunk was finished
    assert whole(folder) == whole(tmp_path / "at once")
    assert names(folder) == ["lock", "tiles.bin"]


def test_killed_while_it_is_put_together(tmp_path):
    """The old store is there until the new one is."""
    build_store(tmp_path / "both", Noise(), range(60), FMT, workers=1)
    folder = tmp_path / "tiles"
    build_store(folder, Noise(), range(30), FMT, workers=1)
    first = whole(folder)
    for moment in ("_write", "fsync", "replace", "rmtree"):
        script = f"""
            import shutil
            from mmneedle.stitching import store, tiles

            def die(*args, **options):
                if {moment!r} == "_write":  # half of it is written
                    args[0].write(b"x" * 5000)
                    args[0].flush()
                os.kill(os.getpid(), signal.SIGKILL)

            real = tiles._merged
            def merged(*args):  # only from here on: the chunks are made
                where = {{"_write": store, "fsync": os, "replace": Path, "rmtree": shutil}}
                setattr(where[{moment!r}], {moment!r}, die)
                return real(*args)
            tiles._merged = merged
            build_store(folder, Noise(), range(60), FMT, workers=1)
        """
        process = run(script, folder)
        assert process.wait(60) == -signal.SIGKILL, process.stderr.read()
        process.stderr.close()
        assert (folder / "partial").exists()
        with TileStore.open(folder) as opened:
            assert len(opened) == (60 if moment == "rmtree" else 30)
        assert whole(folder) == (whole(tmp_path / "both") if moment == "rmtree" else first)
    log = tmp_path / "log"
    build_store(folder, Noise(log=log), range(60), FMT, workers=1)
    assert asked(log) == []
    assert whole(folder) == whole(tmp_path / "both")
    assert names(folder) == ["lock", "tiles.bin"]


def test_a_torn_chunk_is_made_again(tmp_path, monkeypatch):
    def stop(*args):
        raise InterruptedError

    monkeypatch.setattr(tiles, "_merged", stop)
    with pytest.raises(InterruptedError):
        build_store(tmp_path / "tiles", Noise(), range(60), FMT, workers=1)
    monkeypatch.undo()
    first, second, third, *_ = sorted((tmp_path / "tiles" / "partial").glob("*.chunk"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"\0" * second.stat().st_size)
    third.write_bytes(b"\0" + third.read_bytes()[1:])
    log = tmp_path / "log"
    build_store(tmp_path / "tiles", Noise(log=log), range(60), FMT, workers=1)
    assert 0 < len(asked(log)) < 60
    build_store(tmp_path / "at once", Noise(), range(60), FMT, workers=1)
    assert whole(tmp_path / "tiles") == whole(tmp_path / "at once")


@pytest.mark.parametrize("group", [True, False], ids=["terminal", "parent only"])
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_all_processes(tmp_path, workers, group):
    folder, log = tmp_path / "tiles", tmp_path / "log"
    script = f"""
        source = Noise(log=Path({str(log)!r}), delay=0.02)
        build_store(folder, source, range(4000), FMT, workers={workers})
    """
    process = run(script, folder)
    wait_for(process, log, 40)
    begun = time.monotonic()
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - begun < 20  # the build would take 40 and more
    assert process.stderr.read() == b""
    process.stderr.close()
    assert_gone(log)
    assert not list(folder.rglob("*.partial"))


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from mmneedle.stitching.tiles import build_store\n"
        "from noise_source import FMT, Noise\n"
        f"build_store(Path({str(tmp_path / 'tiles')!r}), Noise(), range(90), FMT, workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | PYTHONPATH,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode
    assert b'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
