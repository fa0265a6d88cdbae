"""What can be verified of a submission: what `mmneedle submit check` does.

Each check says what it found. Together they show that the file is whole, that its scores are
those of its raw answers, and that its truth is that of the data set it names. That a model really
gave these answers no file can prove.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from mmneedle import __version__
from mmneedle.reports.words import many, percent, short, visible
from mmneedle.runlog import RunHeader
from mmneedle.scoring import SCORERS, Row, score_run
from mmneedle.stitching.dataset import Manifest
from mmneedle.submissions.archive import MEMBERS, digest_file
from mmneedle.submissions.opened import Submission, decode, hashed, plausible
from mmneedle.submissions.pack import public_scores
from mmneedle.submissions.truth import REQUESTS, TooLargeError, Truths, draw, find_truths
from mmneedle.types import ANSWERED, Setting, parse_sample_id

Verdict = Literal["pass", "fail", "skipped"]
_SHOWN = 3
"""Examples of what is wrong that a check names."""
_TOLERANCE = 1e-9
"""Two scores that differ by less are the same: the last digit may depend on the machine."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was verified, or could not be."""

    name: str
    verdict: Verdict
    text: str
    """One line: what was found."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What `submit check --json` prints."""

    file: str
    sha256: str
    """Of the whole file."""
    model: str
    dataset: str
    by: str
    link: str
    asked: int
    answered: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.verdict != "fail" for check in self.checks)

    def text(self) -> str:
        """A line for each check, and what they come to."""
        marks = {"pass": "ok     ", "fail": "FAILED ", "skipped": "skipped"}
        lines = [f"{self.file}: {visible(self.model)}, {self.answered:,} answers"]
        lines += [f"  {marks[one.verdict]}  {one.name:<9} {one.text}" for one in self.checks]
        failed = [check.name for check in self.checks if check.verdict == "fail"]
        skipped = [check.name for check in self.checks if check.verdict == "skipped"]
        if failed:
            lines.append(f"not what it says it is: {', '.join(failed)}")
        elif skipped:
            lines.append(f"all that was checked holds; not checked: {', '.join(skipped)}")
        else:
            lines.append("all checks hold")
        return "\n".join(lines)


class FailedError(Exception):
    """A check failed; the text says how."""


class SkippedError(Exception):
    """A check cannot be made; the text says why."""


def check(path: Path | str, data: Path | None = None, *, requests: int = REQUESTS) -> Verified:
    """Verify a submission.

    Args:
        path: the file.
        data: the data set's folder, or a folder of photos in COCO's layout to regenerate its
            samples from. Drawn scenes need neither.
        requests: how many of each setting are made again, at least one.

    Raises:
        UserError: the file is no submission at all; `data` is no data set and no photos.
    """
    with Submission(path) as submission:
        return _Checker(submission, data, requests).verified()


class _Checker:
    """Runs the checks in order; a check that needs what an earlier one missed is skipped."""

    def __init__(self, submission: Submission, data: Path | None, requests: int) -> None:
        self.submission, self.data, self.requests = submission, data, max(1, requests)
        self.sha256 = digest_file(submission.path).sha256
        self._header: RunHeader | None = None
        self._manifest: Manifest | None = None
        self._whole = False
        """Whether the answers could be read to the end."""
        self._truths: Truths | None = None

    def verified(self) -> Verified:
        about = self.submission.about
        checks = (
            ("hashes", self._hashes),
            ("run", self._run),
            ("recipe", self._recipe),
            ("samples", self._samples),
            ("balance", self._balance),
            ("truth", self._truth),
            ("requests", self._requests),
            ("scores", self._scores),
            ("attempts", self._attempts),
        )
        return Verified(
            file=str(self.submission.path),
            sha256=self.sha256,
            model=about.model,
            dataset=about.dataset,
            by=about.by.name,
            link=about.by.link,
            asked=about.asked,
            answered=about.answered,
            checks=tuple(self._make(name, step) for name, step in checks),
        )

    def _make(self, name: str, step: Callable[[], str]) -> Check:
        try:
            return Check(name, "pass", step())
        except SkippedError as reason:
            return Check(name, "skipped", _line(reason))
        except (FailedError, ValueError, OverflowError) as reason:  # a ValueError: of what was read
            return Check(name, "fail", _line(reason))

    # ------------------------------------------------------------------ the checks, in order

    def _hashes(self) -> str:
        if altered := self.submission.altered():
            raise FailedError(f"{', '.join(altered)}: not what the manifest says (SHA-256 or size)")
        return f"{len(MEMBERS)} members are what the manifest says (SHA-256)"

    def _run(self) -> str:
        about = self.submission.about
        header = self.submission.header()
        for what, one, other in (
            ("model", header.model, about.model),
            ("data set", header.dataset_fingerprint, about.dataset),
        ):
            if one != other:
                raise FailedError(f"run.json has the {what} {one!r}, the manifest {other!r}")
        self._header = header
        settings = many(len(header.plan), "setting")
        return f"{header.model} on data set {short(header.dataset_fingerprint)}, {settings}"

    def _recipe(self) -> str:
        header = self._need_header()
        self._manifest = self.submission.manifest(header)
        return f"the data set's recipe has the fingerprint {short(self._manifest.fingerprint)}"

    def _samples(self) -> str:
        header, about = self._need_header(), self.submission.about
        tried = had = 0
        for record in self.submission.answers(header):
            tried += 1
            had += record.response.status in ANSWERED
            plausible(record, header)
        self._whole = True
        asked = sum(
            header.asked(name, positive) for name in header.plan for positive in (True, False)
        )
        if (asked, had) != (about.asked, about.answered):
            raise FailedError(
                f"{had:,} of {asked:,} samples have an answer; the manifest says "
                f"{about.answered:,} of {about.asked:,}"
            )
        if had < asked and not about.partial:
            raise FailedError(f"{asked - had:,} of {asked:,} samples have no answer")
        if had < asked:
            return (
                f"{had:,} of {asked:,} samples have an answer ({percent(had / asked)} %), as "
                f"stated; {asked - tried:,} were never asked"
            )
        return f"all {asked:,} are there, once each, with an answer"

    def _balance(self) -> str:
        header = self._need_answers()
        cells: dict[Setting, Counter[Any]] = {}
        for record in self.submission.answers(header):
            setting, _ = parse_sample_id(record.sample)
            places = (place for place in record.truth if place is not None)
            cells.setdefault(setting, Counter()).update(places)
        if header.shard[1] > 1 or self.submission.about.asked != self._tried():
            raise SkippedError("holds for whole settings only: this run has a part of the samples")
        for setting, found in cells.items():
            counts = [*found.values(), *([0] * (setting.cells - len(found)))]
            least, most = min(counts), max(counts)
            allowed = 1 if header.span(setting)[0] == 0 else 2
            if most - least > allowed:
                raise FailedError(f"{setting.name}: some cells hold {least} needles, others {most}")
        return "half the samples are positive; each cell holds as many needles, give or take one"

    def _tried(self) -> int:
        return sum(1 for _ in self.submission.answers(self._need_header()))

    def _truth(self) -> str:
        header = self._need_answers()
        if self._manifest is None:
            raise SkippedError("the recipe is not to be trusted")
        truths = find_truths(self._manifest, header, self.data)
        if isinstance(truths, str):
            raise SkippedError(truths)
        self._truths = truths
        wrong, count = [], 0
        for record, sample in truths.beside(header, self.submission.answers(header)):
            count += 1
            same = (record.truth, record.hard) == (sample.truth, sample.hard)
            if not (same and record.ambiguity in (sample.ambiguity, None)):
                wrong.append(f"{record.sample} ({_truth(record.truth)}, is {_truth(sample.truth)})")
        if wrong:
            raise FailedError(
                f"{many(len(wrong), 'sample')} differ from {truths.place}: {_few(wrong)}"
            )
        return f"that of {many(count, 'sample')} is as {truths.place} gives it"

    def _requests(self) -> str:
        header = self._need_answers()
        if not hashed(header):
            raise SkippedError("there are none: a baseline is sent nothing")
        drawn = draw(header, self.submission.answers(header), self.requests, self.sha256)
        if not drawn.records:
            raise SkippedError("no sample has the hash of one")
        if self._truths is None:
            raise SkippedError("they are made from the data set: name its folder with --data")
        try:
            made = self._truths.digests(header, drawn.records)
        except TooLargeError as error:
            raise SkippedError(str(error)) from None
        if not made:
            raise SkippedError("none could be made again")
        wrong = [record.sample for record, digest in made if record.request_sha256 != digest]
        if wrong and len(wrong) == len(made):
            raise FailedError(
                f"all {len(made)} requests that were made again have another hash: other images, "
                "or tiles that another version of Pillow encoded"
            )
        if wrong:
            raise FailedError(
                f"{len(wrong):,} of {many(len(made), 'request')} that were made again have another "
                f"hash: {_few(wrong)}"
            )
        which = "all" if len(made) == drawn.of else f"{self.requests:,} of each setting at random"
        return (
            f"{len(made):,} of {many(drawn.of, 'request')} made again ({which}): their hashes are "
            "equal"
        )

    def _scores(self) -> str:
        header = self._need_answers()
        stated = decode(self.submission.folder / "scores.json", list[Row])
        rows = score_run(self.submission.run(header), SCORERS)
        found = msgspec.convert(public_scores(rows, header.model), list[Row])
        wrong = list(_differences(stated, found))
        if wrong:
            version = self.submission.about.mmneedle
            other = "" if version == __version__ else f"; scored by mmneedle {version} then"
            raise FailedError(f"{many(len(wrong), 'figure')} differ: {_few(wrong)}{other}")
        return f"{many(len(found), 'row')} scored anew from the raw answers are as stated"

    def _attempts(self) -> str:
        header = self._need_answers()
        stated = decode(self.submission.folder / "attempts.json", dict[str, dict[str, int]])
        last: dict[str, Counter[str]] = {name: Counter() for name in header.plan}
        for record in self.submission.answers(header):
            last[parse_sample_id(record.sample)[0].name][record.response.status] += 1
        if set(stated) != set(last):
            raise FailedError("attempts.json has other settings than the run")
        for name, counts in last.items():
            for status, count in counts.items():
                if stated[name].get(status, 0) < count:
                    raise FailedError(
                        f"{name}: fewer attempts that ended {status} than such answers"
                    )
        total = sum(sum(counts.values()) for counts in stated.values())
        return f"{many(total, 'attempt')}, no fewer than answers"

    # ------------------------------------------------------------------ what checks stand on

    def _need_header(self) -> RunHeader:
        if self._header is None:
            raise SkippedError("run.json cannot be read")
        return self._header

    def _need_answers(self) -> RunHeader:
        header = self._need_header()
        if not self._whole:
            raise SkippedError("the answers cannot be read")
        return header


def _differences(stated: list[Row], found: list[Row]) -> Iterator[str]:
    """Figures that are not those of the answers. What failed attempts cost is not among them."""
    there = {(row.setting, row.split, row.scorer): row for row in stated}
    for row in found:
        key = (row.setting, row.split, row.scorer)
        where = f"{row.setting.name} {row.split} {row.scorer}"
        if key not in there:
            yield f"{where} is missing"
            continue
        one, other = (msgspec.to_builtins(each) for each in (there.pop(key), row))
        for field in one:
            if field == "spent" or _same(one[field], other[field]):
                continue
            for name, said, is_ in _parts(field, one[field], other[field]):
                yield f"{where} {name} {_short(said)}, by the answers {_short(is_)}"
    for row in there.values():
        yield f"{row.setting.name} {row.split} {row.scorer} is of nothing"


def _parts(field: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs in a field: its name with both values; of a dict, each key that differs."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield field, one, other
        return
    for key in dict.fromkeys((*one, *other)):
        if not _same(one.get(key), other.get(key)):
            yield f"{field} of {key}", one.get(key), other.get(key)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return "–".join(map(_short, value))[:80] or "none"
    return f"{value:.4f}" if isinstance(value, float) else str(value)[:80]


def _truth(places: tuple[Any, ...]) -> str:
    return "; ".join("-1" if place is None else str(place) for place in places)


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _line(reason: Exception) -> str:
    return visible(" ".join(str(reason).split()))[:400]
