"""The file of a submission: written the same way every time, read as if it meant harm.

Members are compressed by bzip2, whose output does not depend on the build of the library, as that
of zlib does; so the same run gives the same bytes on another machine too. A reader takes no name
from the file: it asks for the members it knows, reads of each what the manifest says and not a
byte more, and refuses whatever else is there.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from mmneedle.errors import UserError
from mmneedle.files import unwritable, whole
from mmneedle.reports.words import visible
from mmneedle.submissions.unpacking import METHODS, DamagedError, check_layout, pieces

FORMAT = "mmneedle-submission"
VERSION = 1
MANIFEST = "submission.json"
MEBI = 1 << 20
MEMBERS: dict[str, int] = {
    "run.json": 4 * MEBI,
    "dataset.json": 4 * MEBI,
    "attempts.json": 4 * MEBI,
    "scores.json": 64 * MEBI,
    "answers.jsonl": 1024 * MEBI,
}
"""Every member beside the manifest, and how many bytes of it are read at most."""
_MANIFEST_BYTES = MEBI
_BOMB = 64 * MEBI, 1000
"""A member this large is refused where it was packed more than so many times smaller: answers
are packed some five to twenty times smaller."""
_CHUNK = MEBI
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time of a zip file."""
_LONGEST = {"name": 200, "link": 500, "notes": 2000}


class Member(msgspec.Struct, frozen=True):
    """A file of the archive, as the manifest has it."""

    sha256: str
    bytes: int


class By(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who submits, in their own words."""

    name: str = ""
    link: str = ""
    """http or https."""
    notes: str = ""

    def text(self) -> str:
        """All of it on one line."""
        return ", ".join(filter(None, (self.name, self.link, " ".join(self.notes.split()))))

    def check(self) -> None:
        """Raise UserError on words that are too long or a link that is none."""
        for field, most in _LONGEST.items():
            if len(getattr(self, field)) > most:
                raise UserError(f"{field}: at most {most} characters")
        if self.link and not self.link.startswith(("https://", "http://")):
            raise UserError(f"link: give an address such as https://example.org, not {self.link!r}")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """submission.json: what the file is about, and a hash of every member."""

    format: str = FORMAT
    version: int = VERSION
    mmneedle: str
    """The version that packed it."""
    model: str
    dataset: str
    """The data set's fingerprint."""
    asked: int
    """Samples of the run's plan."""
    answered: int
    """Those with an answer to score."""
    partial: bool
    """Whether some of them have none, and whoever packed it knew."""
    by: By = By()
    members: dict[str, Member]


def write_archive(path: Path, about: About, contents: Mapping[str, Path]) -> None:
    """Write a submission, whole or not at all.

    Args:
        path: the file.
        about: the manifest; its `members` are those of `contents`.
        contents: a file for each of MEMBERS.

    Raises:
        UserError: it cannot be written.
    """
    manifest = msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            with archive.open(_info(MANIFEST), "w") as member:
                member.write(manifest)
            for name in MEMBERS:
                with contents[name].open("rb") as source, archive.open(_info(name), "w") as member:
                    while chunk := source.read(_CHUNK):
                        member.write(chunk)
    except OSError as error:
        raise unwritable(path, error) from None


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_BZIP2
    info.create_system = 3  # Unix, wherever it was made
    info.external_attr = 0o644 << 16
    return info


def digest_file(path: Path) -> Member:
    """A file's SHA-256 and size."""
    with path.open("rb") as file:
        return Member(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


class Archive:
    """A submission, open for reading; a context manager. Nothing in it is trusted."""

    def __init__(self, path: Path, zipped: zipfile.ZipFile, about: About) -> None:
        self.path, self.about = path, about
        self._zip = zipped

    @classmethod
    def open(cls, path: Path | str) -> "Archive":
        """Open a file. Raises UserError, one line, where it is no submission."""
        path = Path(path)
        try:
            zipped = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; mmneedle submit pack RUN makes one") from None
        except IsADirectoryError:
            what, how = "a folder", "name a submission's file"
            if (path / "run.json").is_file():
                what, how = "a run's folder", f"mmneedle submit pack {path} makes a submission"
            raise UserError(f"{path}: is {what}, not a submission; {how}") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise _stranger(path, f"not a whole zip file: {error}") from None
        try:
            _check_names(path, zipped.infolist())
            _check_layout(path, zipped)
            about = _read_manifest(path, zipped)
        except BaseException:
            zipped.close()
            raise
        return cls(path, zipped, about)

    def unpack(self, folder: Path) -> dict[str, Member]:
        """Write every member into `folder`, each read no further than the manifest says.

        Returns:
            What was found, by name; a member that is damaged or longer than the manifest says is
            told by another size or hash.
        """
        return {name: self._unpack(name, folder / name) for name in MEMBERS}

    def _unpack(self, name: str, target: Path) -> Member:
        most = self.about.members[name].bytes + 1  # one more shows that there is more
        sha, size = hashlib.sha256(), 0
        try:
            with target.open("wb") as file:
                for piece in pieces(self._zip, name, most):
                    sha.update(piece)
                    size += len(piece)
                    file.write(piece)
        except DamagedError as error:
            return Member(f"damaged: {error}", size)
        return Member(sha.hexdigest(), size)

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _stranger(path: Path, why: str) -> UserError:
    return UserError(f"{path}: is not a submission of mmneedle ({visible(why)[:300]})")


def _check_names(path: Path, infos: Iterable[zipfile.ZipInfo]) -> None:
    """See that the file holds the known members, each once, and none that could do harm."""
    known = {MANIFEST: _MANIFEST_BYTES} | MEMBERS
    seen: set[str] = set()
    for info in infos:
        name = info.orig_filename
        if name not in known:
            raise _stranger(path, f"it holds {name!r}, which has no place in one")
        if name in seen:
            raise _stranger(path, f"it holds {name} twice")
        if info.flag_bits & 1:
            raise _stranger(path, f"{name} is encrypted")
        if info.compress_type not in METHODS:
            raise _stranger(path, f"{name} is packed by a method that has no place in one")
        if info.file_size > known[name]:
            raise _stranger(
                path, f"{name} has {info.file_size:,} bytes; {known[name]:,} are read at most"
            )
        large, times = _BOMB
        if info.file_size > large and info.file_size > times * info.compress_size:
            raise _stranger(
                path, f"{name} unpacks to {info.file_size:,} bytes from {info.compress_size:,}"
            )
        seen.add(name)
    if missing := sorted(set(known) - seen):
        raise _stranger(path, f"it has no {missing[0]}")


def _check_layout(path: Path, zipped: zipfile.ZipFile) -> None:
    try:
        check_layout(zipped)
    except DamagedError as error:
        raise _stranger(path, f"{error}; take the file as submit pack wrote it") from None


def _read_manifest(path: Path, zipped: zipfile.ZipFile) -> About:
    try:
        content = b"".join(pieces(zipped, MANIFEST, _MANIFEST_BYTES))
        about = msgspec.json.decode(content, type=About)
    except (DamagedError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise _stranger(path, f"{MANIFEST} cannot be read: {error}") from None
    if about.format != FORMAT:
        raise _stranger(path, f"its format is {about.format!r}")
    if about.version != VERSION:
        raise UserError(
            f"{path}: is a submission of format {about.version}; this mmneedle reads {VERSION}"
        )
    if set(about.members) != set(MEMBERS):
        raise _stranger(path, f"{MANIFEST} does not list the members {', '.join(MEMBERS)}")
    for name, member in about.members.items():
        if not 0 <= member.bytes <= MEMBERS[name]:
            raise _stranger(path, f"{MANIFEST} gives {name} {member.bytes:,} bytes")
    try:
        about.by.check()
    except UserError as error:
        raise _stranger(path, f"{MANIFEST}: {error}") from None
    return about
