"""Download COCO from its official server; an interrupted download goes on where it stopped.

    fetch("coco-2017-val", Path("coco"))      coco/val2017/, coco/annotations/captions_val2017.json

`find_coco(Path("coco"), None)` then opens it. What comes from the network is not trusted: sizes
must be the known ones, every zip member must stay inside the folder, and every checksum must hold
before anything appears under its final name.
"""

import contextlib
import errno
import http.client
import re
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import msgspec

from mmneedle import __version__
from mmneedle.data import stays_inside
from mmneedle.errors import UserError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done, and the bytes in all."""

OFFICIAL = "http://images.cocodataset.org"
"""As https://cocodataset.org/#download has it. Plain http: base_url may name an https mirror."""

TERMS = """\
COCO comes from its official server and has its own terms (https://cocodataset.org/#termsofuse):
- captions and other annotations: Creative Commons Attribution 4.0 (CC BY 4.0), COCO Consortium
- photos: not the Consortium's; their use must abide by the Flickr Terms of Use. Each photo has its
  own licence, several of them non-commercial; the annotation files name it photo by photo
"""


class Archive(msgspec.Struct, frozen=True):
    """A zip file on the server."""

    path: str
    """Below the server's base URL."""
    size: int
    """Bytes of the zip file, exactly."""
    unpacked: int
    """Bytes that its wanted members may take unpacked, at most."""
    makes: tuple[str, ...]
    """The files and folders that are taken out of it; all there: nothing left to do."""

    @property
    def name(self) -> str:
        """The file's own name, such as val2017.zip."""
        return self.path.rpartition("/")[2]


_PARTS = ("train", "val")


def _photos(split: str, size: int, unpacked: int) -> Archive:
    return Archive(f"zips/{split}.zip", size, unpacked, (split,))


def _annotations(year: int, size: int) -> Archive:
    kinds = (f"{kind}_{part}{year}" for kind in ("captions", "instances") for part in _PARTS)
    makes = tuple(f"annotations/{kind}.json" for kind in kinds)
    return Archive(f"annotations/annotations_trainval{year}.zip", size, 700_000_000, makes)


# Sizes: the official server's Content-Length as wget and Keras printed it in several published
# notebooks of 2022 and 2023; a HEAD request published in October 2026 gives the same for
# annotations_trainval2014.zip. Unpacked, the wanted annotations are 592,442,074 bytes for 2014
# (from the zip's directory) and about as much for 2017; photos hardly shrink in a zip.
ARCHIVES: Mapping[str, tuple[Archive, ...]] = {
    "coco-2014-val": (
        _annotations(2014, 252_872_794),
        _photos("val2014", 6_645_013_297, 7_200_000_000),
    ),
    "coco-2017-val": (
        _annotations(2017, 252_907_541),
        _photos("val2017", 815_585_330, 1_000_000_000),
    ),
}


class Patience(NamedTuple):
    """How long to go on with a server that fails."""

    tries: int = 6
    """Failures in a row, without a megabyte between them, until the download is given up."""
    pause: float = 1.0
    """Seconds before the second try; doubled each time, at most 30."""
    timeout: float = 60.0
    """Seconds without a byte that count as a failure."""


def print_terms(terms: str) -> bool:
    """The default `accept`: show the terms on stderr and go on."""
    print(terms, file=sys.stderr, end="", flush=True)
    return True


def fetch(
    name: str,
    to: Path,
    *,
    base_url: str | None = None,
    accept: Callable[[str], bool] = print_terms,
    progress: Progress | None = None,
    archives: Mapping[str, tuple[Archive, ...]] = ARCHIVES,
    patience: Patience = Patience(),  # noqa: B008 (immutable)
) -> Path:
    """Download and unpack the archives of `name` under `to`; return `to`.

    `accept` is given the licence terms before the first byte is asked for; when it returns False
    nothing is downloaded. A zip file is kept as NAME.zip.part until it is unpacked, then removed.
    What is there already is not downloaded again. Raises UserError, also when `accept` declines.
    """
    if name not in archives:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(sorted(archives))}")
    base = (OFFICIAL if base_url is None else base_url).rstrip("/")
    if not re.match(r"https?://[^/\s]", base):
        raise UserError(f"base URL {base!r} must begin with http:// or https:// and a host")
    report = progress or (lambda what, done, total: None)
    with _writing(to):
        todo = [archive for archive in archives[name] if not _is_done(archive, to)]
        if not todo:
            return to
        to.mkdir(parents=True, exist_ok=True)
        _check_space(todo, to)
        if not accept(TERMS):
            raise UserError("the terms were not accepted: nothing was downloaded")
        for archive in todo:
            part = _part(archive, to)
            _download(f"{base}/{archive.path}", archive, part, patience, report)
            _unpack(archive, part, to, report)
    return to


def _part(archive: Archive, to: Path) -> Path:
    """Where the zip file is kept until it is unpacked."""
    return to / f"{archive.name}.part"


def _is_done(archive: Archive, to: Path) -> bool:
    """Whether all that the archive makes is there; members appear under these names when whole."""
    made = [to / name for name in archive.makes]
    done = all(path.is_file() or (path.is_dir() and any(path.iterdir())) for path in made)
    if done:
        _forget(_part(archive, to))  # where a run was killed just before it would have
    return done


def _check_space(todo: list[Archive], to: Path) -> None:
    """UserError unless the disk can hold each zip beside what it unpacks to."""
    needed, peak = 0, 0  # zips are removed one by one
    for archive in todo:
        have = min(_size(_part(archive, to)), archive.size)
        peak = max(peak, needed + archive.size - have + archive.unpacked)
        needed += archive.unpacked - have
    free = shutil.disk_usage(to).free
    if free < peak:
        raise UserError(f"{to}: {_gb(peak)} of disk space needed, {_gb(free)} free")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


@contextlib.contextmanager
def _writing(to: Path) -> Iterator[None]:
    """Turn errors of the file system into UserErrors; those of the network end elsewhere."""
    try:
        yield
    except OSError as error:
        hint = "; free some space and run the same command again"
        full = hint if error.errno == errno.ENOSPC else ""
        raise UserError(f"cannot write to {to}: {error.strerror or error}{full}") from error


# --------------------------------------------------------------------------- download

_CHUNK = 1 << 20


class _TransientError(Exception):
    """A failure that asking again may cure."""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _validator(part: Path) -> Path:
    """Beside a partial file: the ETag or date that says of which version it is a part."""
    return part.with_name(f"{part.name}.etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _download(url: str, archive: Archive, part: Path, patience: Patience, report: Progress) -> None:
    """Bring `part` to archive.size bytes. Raises UserError when the server will not have it."""
    best, failures = _size(part), 0
    while _size(part) != archive.size:
        problem = "the connection broke off"
        try:
            _attempt(url, archive, part, patience.timeout, report)
        except _TransientError as error:
            problem = str(error)
        if (size := _size(part)) == archive.size:
            return
        # only going further than ever before counts as progress, so this loop must end
        failures = 0 if size >= best + _CHUNK else failures + 1
        best = max(best, size)
        if failures >= patience.tries:
            raise UserError(
                f"{url}: {problem} ({failures} failures in a row); the {size} bytes so far are "
                f"kept in {part}, so the same command goes on from there"
            )
        time.sleep(min(30.0, patience.pause * 2 ** max(0, failures - 1)))


def _attempt(url: str, archive: Archive, part: Path, timeout: float, report: Progress) -> None:
    """One request for what is missing of `part`; returns when the connection ends."""
    if _size(part) > archive.size:
        _forget(part)
    have = _size(part)
    request = urllib.request.Request(
        url,
        headers={"User-Agent": f"mmneedle/{__version__}", "Accept-Encoding": "identity"},
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
        if _validator(part).exists():
            request.add_header("If-Range", _validator(part).read_text("ascii"))
    with _open(request, part, timeout) as response:
        if not _goes_on(response, archive, part, url):
            have = 0
            _forget(part)
            if validator := _strong_validator(response):
                _validator(part).write_text(validator, "ascii")
        with part.open("ab") as file:
            while have < archive.size and (chunk := _read(response, archive.size - have)):
                file.write(chunk)
                have += len(chunk)
                report(archive.name, have, archive.size)


def _open(request: urllib.request.Request, part: Path, timeout: float) -> http.client.HTTPResponse:
    """Send the request. Raises UserError or _TransientError by the status (RFC 9110)."""
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"HTTP {error.code} {error.reason}".strip()
        if error.code == 416:  # our part is none of what the server has: begin again
            _forget(part)
        elif error.code not in (408, 425, 429) and error.code < 500:
            raise UserError(f"{request.full_url}: {said}") from error
        raise _TransientError(said) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise UserError(f"{request.full_url} is no URL: {error}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _TransientError(_reason(error)) from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    """What has arrived, a megabyte at most; empty at the end."""
    try:
        return response.read1(min(_CHUNK, most))
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(_reason(error)) from error


def _goes_on(response: http.client.HTTPResponse, archive: Archive, part: Path, url: str) -> bool:
    """Whether the response continues `part`; False when it holds the file from its beginning.

    Raises UserError when the server's file has another size than it should.
    """
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != _size(part):
            _forget(part)
            raise _TransientError("the server sent another range than it was asked for")
        offered = found[2] if found[2] != "*" else None
    elif response.status == 200:  # no ranges here, or the file has changed
        offered = response.headers.get("Content-Length")
    else:
        raise UserError(f"{url}: unexpected HTTP status {response.status}")
    if offered is not None and offered != str(archive.size):
        raise UserError(
            f"{url}: the server offers {offered} bytes where {archive.size} are expected: not "
            "the archive, or another version of it"
        )
    return response.status == 206


def _strong_validator(response: http.client.HTTPResponse) -> str | None:
    """What If-Range may hold (RFC 9110, 13.1.5): a strong ETag, else a date."""
    tag = response.headers.get("ETag", "")
    value = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    return value if value and value.isascii() and value.isprintable() else None


# --------------------------------------------------------------------------- unpack


class _UnsoundError(Exception):
    """The zip file is damaged, or not what it should be; nothing of it is used."""


def _unpack(archive: Archive, part: Path, to: Path, report: Progress) -> None:
    """Put what the archive makes under `to`, whole or not at all, and remove the zip file.

    Raises UserError, and removes the zip file, when it is damaged or holds what it should not.
    """
    temporary = to / f".{archive.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _reading():
            bundle = zipfile.ZipFile(part)
        with bundle:
            _extract(bundle, _wanted(bundle, archive), temporary, archive.name, report)
        for name in archive.makes:
            if not (temporary / name).exists():
                raise _UnsoundError(f"it does not hold {name}")
        for name in archive.makes:
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # empty, else there would be nothing to do
                target.rmdir()
            (temporary / name).replace(target)
    except _UnsoundError as error:
        _forget(part)
        raise UserError(
            f"{archive.name} is damaged or not what it should be ({error}); nothing was unpacked "
            "and the download was removed: run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _forget(part)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever zipfile raises on damaged bytes becomes _UnsoundError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise _UnsoundError(str(error) or type(error).__name__) from error


def _wanted(bundle: zipfile.ZipFile, archive: Archive) -> list[zipfile.ZipInfo]:
    """The members to take out. Raises _UnsoundError if any member at all is unsafe."""
    wanted: dict[str, zipfile.ZipInfo] = {}
    for info in bundle.infolist():
        _check_member(info)
        if info.is_dir() or not any(
            info.filename == name or info.filename.startswith(f"{name}/") for name in archive.makes
        ):
            continue
        if info.filename in wanted:
            raise _UnsoundError(f"it holds {info.filename!r} twice")
        wanted[info.filename] = info
    folders = {str(folder) for name in wanted for folder in PurePosixPath(name).parents}
    if clash := folders & set(wanted):
        raise _UnsoundError(f"it holds {min(clash)!r} as a file and as a folder")
    total = sum(info.file_size for info in wanted.values())
    if total > archive.unpacked:
        raise _UnsoundError(
            f"it would unpack to {total} bytes, more than the {archive.unpacked} it may"
        )
    return list(wanted.values())


def _check_member(info: zipfile.ZipInfo) -> None:
    """_UnsoundError for a name that leads outside, and for links, devices and encryption."""
    name = info.orig_filename  # as stored; `filename` is cut at a NUL
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not stays_inside(name.removesuffix("/")):
        raise _UnsoundError(f"it holds {name!r}, which may lead outside its folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _UnsoundError(f"it holds {name!r}, which is a link or a device")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _UnsoundError(f"it holds {name!r}, encrypted or in an unknown compression")


def _extract(
    bundle: zipfile.ZipFile,
    members: list[zipfile.ZipInfo],
    temporary: Path,
    name: str,
    report: Progress,
) -> None:
    """Write the members below `temporary`; zipfile checks each one's size and CRC-32."""
    done, total = 0, sum(info.file_size for info in members)
    for info in members:
        target = temporary / info.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with _reading():
            source = bundle.open(info)
        with source, target.open("xb") as file:
            while chunk := _chunk(source):
                file.write(chunk)
                done += len(chunk)
                report(f"unpacking {name}", done, total)


def _chunk(source: IO[bytes]) -> bytes:
    with _reading():
        return source.read(_CHUNK)
