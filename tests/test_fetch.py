"""Downloads against a real server on this machine that misbehaves in every way it can."""

import io
import random
import shutil
import stat
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmneedle.data import fetch as fetch_module
from mmneedle.data.coco import find_coco
from mmneedle.data.fetch import ARCHIVES, TERMS, Archive, Patience, fetch
from mmneedle.data.shapes import ShapesSource, write_coco
from mmneedle.errors import UserError

QUICK = Patience(tries=3, pause=0, timeout=5)


class Site:
    """A server's files, its misdeeds (one a request, first come first served) and its log."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: list[dict[str, Any]] = []
        self.always: dict[str, Any] = {}
        self.log: list[dict[str, str]] = []
        self.etag = '"one"'
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        site.log.append({"path": self.path, **dict(self.headers.items())})
        do = {**site.always, **(site.plan.pop(0) if site.plan else {})}
        if "status" in do:
            self.send_response(do["status"])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in site.files:
            self.send_error(404)
            return
        body, start, whole = do.get("body", site.files[self.path]), 0, True
        asked = self.headers.get("Range")
        if (
            asked
            and not do.get("no_range")
            and self.headers.get("If-Range", site.etag) == site.etag
        ):
            start, whole = int(asked.removeprefix("bytes=").removesuffix("-")), False
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(200 if whole else 206)
        if not whole:
            said = do.get("range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Range", said)
        if not do.get("no_length"):
            self.send_header("Content-Length", str(len(body) - start))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.end_headers()
        self.wfile.write(body[start:][: do.get("cut")])
        if "stall" in do:
            do["stall"].wait(10)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    server.server_close()


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as bundle:
        for name, data in members.items():
            bundle.writestr(zipfile.ZipInfo(name), data, compression)
    return buffer.getvalue()


NOISE = random.Random(1).randbytes(200_000)
PHOTOS = {"val2099/": b"", "val2099/a.jpg": NOISE, "val2099/b.jpg": b"b"}
NOTES = {
    "annotations/captions_val2099.json": b"{}",
    "annotations/instances_val2099.json": b"{}",
    "annotations/person_keypoints_val2099.json": b"keypoints",
}
MAKES = ("annotations/captions_val2099.json", "annotations/instances_val2099.json")


def serve(site: Site, photos: bytes | None = None) -> dict[str, tuple[Archive, ...]]:
    """Put small archives on the site; the table that goes with them."""
    photos = zip_of(PHOTOS) if photos is None else photos
    notes = zip_of(NOTES)
    site.files = {"/zips/val2099.zip": photos, "/annotations/annotations.zip": notes}
    return {
        "mini": (
            Archive("annotations/annotations.zip", len(notes), 1000, MAKES),
            Archive("zips/val2099.zip", len(photos), 300_000, ("val2099",)),
        )
    }


def get(site: Site, to: Path, archives: dict[str, tuple[Archive, ...]], **more: Any) -> Path:
    options: dict[str, Any] = {"accept": lambda terms: True, "patience": QUICK, **more}
    return fetch("mini", to, base_url=site.url, archives=archives, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


WHOLE = {
    **{name: NOTES[name] for name in MAKES},
    **{name: data for name, data in PHOTOS.items() if not name.endswith("/")},
}


def ranges(site: Site) -> list[str | None]:
    return [line.get("Range") for line in site.log if line["path"].startswith("/zips")]


# --------------------------------------------------------------------------- the usual way


def test_fetches_and_unpacks_only_what_is_wanted(site: Site, tmp_path: Path) -> None:
    assert get(site, tmp_path / "new" / "coco", serve(site)) == tmp_path / "new" / "coco"
    assert contents(tmp_path / "new" / "coco") == WHOLE


def test_a_second_run_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    get(site, tmp_path, archives)
    asked = len(site.log)
    leftover = tmp_path / "val2099.zip.part"
    leftover.write_bytes(b"killed just before it was removed")

    def never(terms: str) -> bool:
        raise AssertionError("terms shown though there is nothing to download")

    get(site, tmp_path, archives, accept=never)
    assert len(site.log) == asked
    assert not leftover.exists()


def test_an_empty_folder_does_not_count_as_done(site: Site, tmp_path: Path) -> None:
    (tmp_path / "val2099").mkdir()
    get(site, tmp_path, serve(site))
    assert contents(tmp_path) == WHOLE


def test_terms_come_before_the_first_request(site: Site, tmp_path: Path) -> None:
    shown = []

    def decline(terms: str) -> bool:
        shown.append(terms)
        return False

    with pytest.raises(UserError, match="not accepted"):
        get(site, tmp_path, serve(site), accept=decline)
    assert shown == [TERMS]
    assert "CC BY 4.0" in TERMS and "Flickr" in TERMS
    assert not site.log and not contents(tmp_path)


def test_terms_go_to_stderr_by_default(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("mini", tmp_path, base_url=site.url, archives=serve(site))
    assert capsys.readouterr() == ("", TERMS)


def test_progress_ends_at_the_total(site: Site, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    archives = serve(site)
    get(
        site,
        tmp_path,
        archives,
        progress=lambda what, done, total: seen.setdefault(what, []).append((done, total)),
    )
    assert list(seen) == [
        "annotations.zip",
        "unpacking annotations.zip",
        "val2099.zip",
        "unpacking val2099.zip",
    ]
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_what_was_fetched_opens(site: Site, tmp_path: Path) -> None:
    """From the server to pixels: a drawn data set, zipped, fetched, found."""
    made = tmp_path / "made"
    write_coco(made, ShapesSource(3), 32, 32)
    photos, notes = (
        zip_of({p: d for p, d in contents(made).items() if p.startswith(part)})
        for part in ("shapes", "annotations")
    )
    site.files = {"/p.zip": photos, "/a.zip": notes}
    archives = {
        "mini": (
            Archive("a.zip", len(notes), 10**6, ("annotations/captions_shapes.json",)),
            Archive("p.zip", len(photos), 10**6, ("shapes",)),
        )
    }
    source = find_coco(get(site, tmp_path / "coco", archives), None)
    assert source.photos() == ShapesSource(3).photos()
    assert source.tile(2, 32, 32).tobytes() == ShapesSource(3).tile(2, 32, 32).tobytes()


# --------------------------------------------------------------------------- broken connections


def test_goes_on_after_a_break(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.plan = [{}, {"cut": 70_000}, {"cut": 50_000}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == [None, "bytes=70000-", "bytes=120000-"]
    assert [line.get("If-Range") for line in site.log[1:]] == [None, '"one"', '"one"']


def test_goes_on_in_a_later_call(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.plan = [{}, {"cut": 1000}, {"cut": 1000}, {"cut": 1000}]
    with pytest.raises(UserError, match=r"3 failures in a row.* 3000 bytes so far are kept"):
        get(site, tmp_path, archives)
    assert (tmp_path / "val2099.zip.part").stat().st_size == 3000
    get(site, tmp_path, archives)
    assert ranges(site)[-1] == "bytes=3000-"
    assert contents(tmp_path) == WHOLE


def test_going_on_for_long_is_no_failure(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten breaks, but each after new bytes enough: more than the tries, and still fine."""
    monkeypatch.setattr(fetch_module, "_CHUNK", 10_000)
    archives = serve(site)
    site.always = {"cut": 20_000}
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert len(ranges(site)) > 2 * QUICK.tries


def test_a_server_that_ignores_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.always = {"no_range": True}
    site.plan = [{}, {"cut": 70_000}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == [None, "bytes=70000-"]


def test_a_server_that_ignores_ranges_and_always_breaks_ends(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.plan = [{}]
    site.always = {"no_range": True}
    site.plan += [{"cut": cut} for cut in (70_000, 30_000, 70_000, 30_000, 70_000)]
    with pytest.raises(UserError, match="broke off"):
        get(site, tmp_path, archives)
    assert len(ranges(site)) == QUICK.tries


def test_a_changed_file_starts_over(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.plan = [{}, {"cut": 70_000, "body": b"an older version" * 20_000}]
    old = Archive("zips/val2099.zip", 320_000, 300_000, ("val2099",))
    with pytest.raises(UserError):
        get(
            site,
            tmp_path,
            {"mini": (archives["mini"][0], old)},
            patience=Patience(1, 0, 5),
        )
    site.etag = '"two"'
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert site.log[-1]["If-Range"] == '"one"'


def test_resumes_without_an_etag(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.etag = ""
    site.plan = [{}, {"cut": 70_000}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert "If-Range" not in site.log[-1]


@pytest.mark.parametrize("tag", ['W/"weak"', "no quotes", '"caf\xe9"'])
def test_a_weak_etag_is_not_used(site: Site, tmp_path: Path, tag: str) -> None:
    archives = serve(site)
    site.etag = tag
    site.plan = [{}, {"cut": 70_000}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert "If-Range" not in site.log[-1]


def test_another_range_than_asked_for_starts_over(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    size = archives["mini"][1].size
    for wrong in (f"bytes 5-{size - 1}/{size}", "bytes */*", ""):
        shutil.rmtree(tmp_path / "coco", ignore_errors=True)
        site.log.clear()
        site.plan = [{}, {"cut": 70_000}, {"range": wrong}]
        get(site, tmp_path / "coco", archives)
        assert contents(tmp_path / "coco") == WHOLE
        assert ranges(site) == [None, "bytes=70000-", None]


def test_416_starts_over(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.plan = [{}, {"cut": 70_000}, {"status": 416}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == [None, "bytes=70000-", None]


def test_a_part_that_is_too_long_starts_over(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    (tmp_path / "val2099.zip.part").write_bytes(bytes(archives["mini"][1].size + 1))
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == [None]


def test_a_whole_part_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    (tmp_path / "val2099.zip.part").write_bytes(site.files["/zips/val2099.zip"])
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == []


def test_a_silent_server_is_left_and_asked_again(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    over = threading.Event()
    site.plan = [{}, {"cut": 70_000, "stall": over}]
    begun = time.monotonic()
    get(site, tmp_path, archives, patience=Patience(3, 0, 0.2))
    assert time.monotonic() - begun < 5
    over.set()
    assert contents(tmp_path) == WHOLE
    assert ranges(site) == [None, "bytes=70000-"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_passing_faults_are_tried_again(site: Site, tmp_path: Path, status: int) -> None:
    archives = serve(site)
    site.plan = [{"status": status}, {"status": status}]
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE


def test_tries_are_bounded_and_pauses_grow(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(fetch_module.time, "sleep", pauses.append)
    archives = serve(site)
    site.always = {"status": 503}
    with pytest.raises(UserError, match="HTTP 503"):
        get(site, tmp_path, archives, patience=Patience(8, 1.0, 5))
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert len(site.log) == 8


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_plain_no_is_final(site: Site, tmp_path: Path, status: int) -> None:
    archives = serve(site)
    site.always = {"status": status}
    with pytest.raises(UserError, match=rf"annotations\.zip: HTTP {status}"):
        get(site, tmp_path, archives)
    assert len(site.log) == 1


def test_no_server_at_all(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refused"):
        fetch(
            "mini",
            tmp_path,
            base_url="http://127.0.0.1:1",
            archives=serve(site),
            patience=QUICK,
            accept=lambda terms: True,
        )


# --------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize("grown", [1, -1])
def test_a_wrong_size_is_refused_before_downloading(site: Site, tmp_path: Path, grown: int) -> None:
    archives = serve(site)
    notes, photos = archives["mini"]
    wrong = Archive(photos.path, photos.size + grown, photos.unpacked, photos.makes)
    with pytest.raises(UserError, match=f"offers {photos.size} bytes where {wrong.size}"):
        get(site, tmp_path, {"mini": (notes, wrong)})
    assert not (tmp_path / "val2099").exists()
    assert ranges(site) == [None]


def test_a_wrong_size_without_a_length(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    site.always = {"no_length": True}
    get(site, tmp_path / "right", archives)
    assert contents(tmp_path / "right") == WHOLE
    site.plan = [{}, *[{"body": NOISE[:500]}] * 9]
    with pytest.raises(UserError):
        get(site, tmp_path / "wrong", archives)
    assert set(contents(tmp_path / "wrong")) == set(MAKES) | set(leftovers(tmp_path / "wrong"))


def leftovers(folder: Path) -> list[str]:
    """What a failed download may leave for the next one."""
    return [name for name in contents(folder) if name.endswith((".part", ".part.etag"))]


def damaged(data: bytes) -> bytes:
    """A zip of the same length with one stored byte changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def lying(data: bytes) -> bytes:
    """A zip whose directory says that its first member is shorter than it is."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 24] + struct.pack("<I", 10) + data[at + 28 :]


def linked(name: str, mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = mode << 16
        bundle.writestr(info, "/etc")
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(zip_of({"val2099/a.jpg": b"a"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def twice() -> bytes:
    data = zip_of({"val2099/a.jpg": b"a", "val2099/b.jpg": b"b"})
    return data.replace(b"b.jpg", b"a.jpg")


def huge() -> bytes:
    return zip_of({"val2099/bomb": bytes(50_000_000)})


def evil(name: str) -> bytes:
    """A zip with a good member and one of any name at all, NUL and backslash included."""
    stand_in = "x" * len(name.encode())
    data = zip_of({"val2099/a.jpg": b"a", stand_in: b"evil"})
    return data.replace(stand_in.encode(), name.encode())


BAD = {
    "not a zip": (NOISE, "not a zip"),
    "one byte changed": (damaged(zip_of(PHOTOS, zipfile.ZIP_STORED)), "CRC"),
    "deflate stream changed": (damaged(zip_of({"val2099/a": b"abc" * 9000})), "damaged"),
    "lying about a size": (lying(zip_of({"val2099/a": NOISE})), "CRC"),
    "cut short": (zip_of(PHOTOS)[:-30], "not a zip"),
    "parent": (evil("../evil"), "may lead outside"),
    "parent inside": (evil("val2099/../../evil"), "may lead outside"),
    "absolute": (evil("/tmp/evil-mmneedle"), "may lead outside"),
    "drive": (evil("C:/evil"), "may lead outside"),
    "drive relative": (evil("C:evil"), "may lead outside"),
    "backslash": (evil("val2099\\..\\..\\evil"), "may lead outside"),
    "share": (evil("//host/share/evil"), "may lead outside"),
    "nul": (evil("val2099/evil\0.jpg"), "may lead outside"),
    "dot": (evil("val2099/./evil"), "may lead outside"),
    "link": (linked("val2099/link", stat.S_IFLNK | 0o777), "link or a device"),
    "device": (linked("val2099/null", stat.S_IFCHR | 0o666), "link or a device"),
    "encrypted": (encrypted(), "encrypted"),
    "bzip2": (zip_of(PHOTOS, zipfile.ZIP_BZIP2), "unknown compression"),
    "twice": (twice(), "twice"),
    "bomb": (huge(), "more than the 300000"),
    "something else": (zip_of({"other/a.jpg": b"a"}), "does not hold val2099"),
    "empty": (zip_of({}), "does not hold val2099"),
    "file for a folder": (zip_of({"val2099/a": b"a", "val2099/a/b": b"b"}), "as a folder"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_zip_leaves_nothing_behind(site: Site, tmp_path: Path, kind: str) -> None:
    data, says = BAD[kind]
    archives = serve(site, data)
    to = tmp_path / "deep" / "coco"
    with pytest.raises(UserError, match=says) as caught:
        get(site, to, archives)
    assert "\n" not in str(caught.value)
    assert "val2099" in str(caught.value)
    assert set(contents(tmp_path)) == {f"deep/coco/{name}" for name in MAKES}
    assert not (to / "val2099").exists()
    assert not Path("/tmp/evil-mmneedle").exists()
    good = serve(site)  # the server is put right: the same command now works
    get(site, to, good)
    assert contents(to) == WHOLE


def test_a_killed_unpacking_is_done_again(site: Site, tmp_path: Path) -> None:
    archives = serve(site)
    half = tmp_path / ".val2099.zip.partial" / "val2099"
    half.mkdir(parents=True)
    (half / "stale.jpg").write_bytes(b"from a run that was killed")
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE
    assert not half.parent.exists()


# --------------------------------------------------------------------------- this machine


def test_too_small_a_disk(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=7_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"14\.5 GB of disk space needed, 7\.0 GB free"):
        fetch("coco-2014-val", tmp_path, base_url=site.url, accept=lambda terms: True)
    assert not site.log


def test_what_is_there_already_needs_no_space(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = serve(site)
    size = archives["mini"][1].size
    (tmp_path / "val2099.zip.part").write_bytes(site.files["/zips/val2099.zip"][: size - 10])
    usage = shutil.disk_usage(tmp_path)._replace(free=301_010)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    get(site, tmp_path, archives)
    assert contents(tmp_path) == WHOLE


def test_a_disk_that_fills_up_is_no_network_fault(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = serve(site)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        if mode == "ab":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *args, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        get(site, tmp_path, archives)
    assert len(site.log) == 1


def test_a_target_that_is_a_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        get(site, tmp_path / "file", serve(site))


@pytest.mark.parametrize(
    ("name", "base", "says"),
    [
        ("coco-2015-val", None, "choose one of coco-2014-val, coco-2017-val"),
        ("coco-2017-val", "file:///etc", "must begin with http"),
        ("coco-2017-val", "images.cocodataset.org", "must begin with http"),
        ("coco-2017-val", "http://", "must begin with http"),
        ("coco-2017-val", "http://127.0.0.1:port", "is no URL"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, base: str | None, says: str
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=says):
        fetch(name, tmp_path, base_url=base, accept=lambda terms: True)


def test_the_official_table() -> None:
    for name, archives in ARCHIVES.items():
        year = name.split("-")[1]
        makes = {made for archive in archives for made in archive.makes}
        assert {f"val{year}", f"annotations/captions_val{year}.json"} <= makes
        assert all(archive.size > 2 * 10**8 for archive in archives)
    assert [archives[1].name for archives in ARCHIVES.values()] == ["val2014.zip", "val2017.zip"]
