"""responses.jsonl: a `Record` a line, and what a line must hold to be counted."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from mmneedle.errors import UserError
from mmneedle.runlog.header import RunHeader
from mmneedle.types import (
    RETRYABLE,
    Location,
    Reading,
    Request,
    Response,
    Setting,
    Status,
    split_sample_id,
)

STATUSES: tuple[Status, ...] = get_args(Status)
FINAL: frozenset[str] = frozenset(STATUSES) - RETRYABLE - {"auth"}
"""A sample with such a response is finished."""

_MOST_TOKENS = 1 << 40
_ROUNDING = 1e-3  # log-probabilities of a sure token, as half-precision engines sum them up


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One line of responses.jsonl: a finished attempt."""

    sample: str
    truth: tuple[Location | None, ...]
    """The right location of each needle, so that a run can be scored without its data set."""
    expected: tuple[tuple[str, ...], ...] | msgspec.UnsetType = msgspec.UNSET
    """The same of a text task: see `TextSample`; no other task's line has it."""
    ambiguity: float | None = None
    """The sample's; so that scores can be read with and without doubtful samples."""
    hard: bool = False
    """Whether the sample is a hard negative."""
    reading: Reading | msgspec.UnsetType = msgspec.UNSET
    """What of the haystack was sent, where it was not all of it."""
    attempt: int
    """From 1; a later command that goes on with the run begins anew."""
    at: str
    """When it ended: ISO 8601, UTC."""
    request_sha256: str | None
    """SHA-256 of the prompt's UTF-8 and the image files in order; None without images."""
    response: Response


RECORDS = msgspec.json.Decoder(Record)


def request_digest(request: Request) -> str:
    """SHA-256 (hex) of the prompt's UTF-8 followed by the image files in order."""
    digest = hashlib.sha256(request.prompt.encode())
    for image in request.images:
        digest.update(image)
    return digest.hexdigest()


def lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, offset, line) of every whole line; a half line at the end is no line."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        offset = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield number, offset, line
            offset += len(line)


def record_of(path: Path, number: int, line: bytes, header: RunHeader) -> Record:
    """Read a line. Raises UserError naming a damaged one."""
    try:
        return read_line(line, header)
    except ValueError as error:  # of the JSON, its types, its UTF-8 or the sample's id
        raise UserError(
            f"{path}: line {number} is damaged ({error}); mend it, or remove it and its sample is "
            "asked again"
        ) from None


def read_line(line: bytes, header: RunHeader) -> Record:
    """A line of responses.jsonl. Raises ValueError saying why it is none of this run."""
    try:
        record = RECORDS.decode(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    setting, index = split_sample_id(record.sample)
    if not header.includes(setting, index):
        raise ValueError(f"sample {record.sample} is not in the plan of run.json")
    if isinstance(setting, Setting):
        _check_truth(setting, index, record.truth)
    elif record.truth or not record.expected:
        raise ValueError("what its answer should hold is not there")
    _check_response(record.response)
    return record


def _check_truth(setting: Setting, index: int, truth: Sequence[Location | None]) -> None:
    """See that a truth can be one: scores would be counted from it. Raises ValueError."""
    if len(truth) != setting.needles:
        raise ValueError(f"{len(truth)} places of {setting.needles} needles")
    size = (setting.images, setting.rows, setting.cols)
    for place in truth:
        if (place is not None) != (index % 2 == 0):
            raise ValueError("even samples have their needles in the haystack, odd ones have not")
        if place is not None and not all(
            1 <= at <= most for at, most in zip(place, size, strict=True)
        ):
            raise ValueError(f"the haystack has no cell {place}")


def _check_response(response: Response) -> None:
    """See that numbers are such as engines and providers give. Raises ValueError."""
    usage = response.usage
    for name in () if usage is None else usage.__struct_fields__:
        count = getattr(usage, name)
        if count is not None and not 0 <= count <= _MOST_TOKENS:
            raise ValueError(f"{count:.3g} {name}" if abs(count) < 1e300 else f"{name} without end")
    if response.absent_logprob is not None and response.absent_logprob > _ROUNDING:
        raise ValueError(f"a log-probability of {response.absent_logprob:g}, above 0")


def replaces(code: int, status: Status) -> bool:
    """Whether a later attempt's status takes the place of the code noted for its sample."""
    return status in FINAL or not code or STATUSES[code - 1] not in FINAL


def code_of(status: Status) -> int:
    """A status in a byte; 0 stands for none."""
    return STATUSES.index(status) + 1
