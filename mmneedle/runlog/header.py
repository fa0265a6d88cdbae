"""run.json: what a run asks of whom."""

import datetime
import platform
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from mmneedle import __version__
from mmneedle.costs import Prices
from mmneedle.errors import UserError
from mmneedle.files import write_whole
from mmneedle.types import MOST_NEEDLES, MOST_SAMPLES, AnySetting, Reader, TextSetting, read_setting

Plan = dict[str, tuple[int, int]]
"""Setting name -> [start, stop) of sample indices."""
FORMAT = 1
"""Of run folders."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that a rule stopped before its plan's end (`run --until-halfwidth`)."""

    end: int
    """Samples with this index and beyond it are not asked; they are not missing answers."""
    halfwidth: float
    """What the half-widths of the confidence sequences had to reach."""
    level: float
    """Of confidence."""
    rule: str
    """Which confidence sequence (`statistics.sequential.RULE`)."""
    at: str
    """ISO 8601, UTC."""


class RunHeader(msgspec.Struct, kw_only=True):
    """run.json: what is asked of whom."""

    version: int = FORMAT
    """Of this folder's format."""
    model: str
    task: str
    dataset_path: str
    """Where the data set was; its fingerprint is what counts."""
    dataset_fingerprint: str
    adapter: dict[str, Any]
    """The adapter's fingerprint: all that shapes the answers, no secrets."""
    plan: Plan
    """Which samples the run asks, over all its shards."""
    stopped: dict[str, Stop] = {}
    """Setting name -> where a rule stopped it. Not part of the run's identity."""
    shard: tuple[int, int] = (1, 1)
    """Part k of n: the haystacks with number % n == k - 1, so that every part is balanced. Where
    samples have haystacks of their own, two neighbours, a positive and a negative, count as one."""
    questions: int = 1
    """Questions a haystack: samples gQ … gQ+Q-1 of a setting share haystack g."""
    resize: tuple[int, int] | None = None
    """Width and height in pixels that cells are shrunk to before sending; None: sent as built."""
    reader: Reader | None = None
    """How much of a haystack the model reads; None: all of it."""
    cell: tuple[int, int] | None = None
    """Width and height of a cell as it is sent; None: the model looks at no images."""
    effective_cell: dict[str, tuple[int, int] | None] = {}
    """Setting name -> width and height of a cell as the model gets it, after its provider's
    shrinking; None: not documented. Not part of the run's identity."""
    prices: Prices | None = None
    """The model's, where they are known. Not part of the run's identity."""
    created: str = ""
    """ISO 8601, UTC."""
    environment: dict[str, str] = {}
    """Versions, for people; not part of the run's identity."""

    def __post_init__(self) -> None:
        """Raise ValueError, which names the file where one is read, on what cannot be."""
        for name in (*self.plan, *self.effective_cell):
            setting = read_setting(name)
            if setting.name != name:
                raise ValueError(f"not the name of a setting: {name!r}")
            if not 1 <= setting.needles <= MOST_NEEDLES:
                raise ValueError(f"{setting.needles} needles of {name}")
        for name, (start, stop) in self.plan.items():
            if not 0 <= start <= stop <= MOST_SAMPLES:
                raise ValueError(
                    f"samples {start} to {stop} of {name}; a setting has at most {MOST_SAMPLES:,}"
                )
        for name, found in self.stopped.items():
            if name not in self.plan or not 0 <= found.end <= MOST_SAMPLES:
                raise ValueError(f"{name} stopped at sample {found.end}")
            if not (0 < found.halfwidth < 0.5 and 0 < found.level < 1):
                raise ValueError(f"{name} stopped at a half-width of {found.halfwidth}")
        self.stopped = {
            name: found for name, found in self.stopped.items() if found.end < self.plan[name][1]
        }  # where all was asked, nothing was stopped
        if not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]} of {self.shard[1]}")
        if not 1 <= self.questions <= MOST_SAMPLES:
            raise ValueError(f"{self.questions} questions a haystack")

    @property
    def called(self) -> str:
        """The model, and how it reads where that is not everything: what tables call the run."""
        return self.model if self.reader is None else f"{self.model}, {self.reader.label}"

    @property
    def textual(self) -> bool:
        """Whether the samples are of a text task, without a place in a grid to be named."""
        return any(isinstance(read_setting(name), TextSetting) for name in self.plan)

    def includes(self, setting: AnySetting | str, index: int) -> bool:
        """Whether the run asks this sample."""
        start, stop = self.span(setting)
        part, parts = self.shard
        return start <= index < stop and index // max(2, self.questions) % parts == part - 1

    def span(self, setting: AnySetting | str) -> tuple[int, int]:
        """[start, stop) of the sample indices that the run asks, up to where a rule stopped it."""
        name = name_of(setting)
        start, stop = self.plan.get(name, (0, 0))
        found = self.stopped.get(name)
        return start, stop if found is None else max(start, min(stop, found.end))

    def haystack(self, index: int) -> int | None:
        """The number of the haystack that sample `index` of a setting shares; None: its own."""
        return index // self.questions if self.questions > 1 else None

    def cell_text(self, setting: AnySetting | str) -> str | None:
        """A cell's pixels as the model gets it: "96", "160x96", "unknown"; None: not recorded."""
        name = name_of(setting)
        return pixels(self.effective_cell[name]) if name in self.effective_cell else None

    def asked(self, setting: AnySetting | str, positive: bool) -> int:
        """How many samples of a setting's positives or negatives the run asks."""
        return sum(
            len(range(part.start + (part.start % 2 == positive), part.stop, 2))  # even: positives
            for part in self._parts(setting)
        )

    def indices(self, setting: AnySetting | str) -> Iterator[int]:
        """The sample indices of a setting that `includes` holds for, ascending."""
        return chain.from_iterable(self._parts(setting))

    def _parts(self, setting: AnySetting | str) -> Iterator[range]:
        """The same as ranges: one, or where this is a shard, each haystack's."""
        start, stop = self.span(setting)
        part, parts = self.shard
        if parts == 1:
            yield range(start, stop)
            return
        each = max(2, self.questions)
        first = start // each
        first += (part - 1 - first) % parts
        for number in range(first, -(-stop // each), parts):
            yield range(max(start, number * each), min(stop, (number + 1) * each))


def pixels(cell: tuple[int, int] | None) -> str:
    """A cell's size as tables show it: "96" for 96 x 96, "160x96", "unknown"."""
    if cell is None:
        return "unknown"
    return str(cell[0]) if cell[0] == cell[1] else f"{cell[0]}x{cell[1]}"


def now() -> str:
    """The time as run folders write it: ISO 8601, UTC, milliseconds."""
    utc = datetime.datetime.now(datetime.UTC)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def environment() -> dict[str, str]:
    """What a run ran on, for its header."""
    return {
        "mmneedle": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def read_header(path: Path) -> RunHeader | None:
    """Read run.json; None where there is none. Raises UserError where it is none of ours."""
    try:
        header = msgspec.json.decode(path.read_bytes(), type=RunHeader)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a run's header ({error})") from None
    if header.version != FORMAT:
        raise UserError(f"{path}: has format {header.version}, this mmneedle reads format {FORMAT}")
    return header


def write_header(folder: Path, header: RunHeader) -> None:
    """Write run.json. Raises OSError."""
    content = msgspec.json.format(msgspec.json.encode(header), indent=2) + b"\n"
    write_whole(folder / "run.json", content)


def union(folder: Path, old: Plan, new: Plan) -> Plan:
    """Both plans in one. Raises UserError where samples would lie unasked between them."""
    union = dict(old)
    for name, (start, stop) in new.items():
        first, last = union.get(name, (start, stop))
        if start > last or stop < first:
            raise UserError(
                f"{folder}: this run asks --limit {first}-{last} of {name}; with {start}-{stop} "
                f"the samples between {min(last, stop)} and {max(first, start)} would stay "
                f"unasked: take --limit {min(start, first)}-{max(stop, last)}, or another --log"
            )
        union[name] = min(start, first), max(stop, last)
    return union


def name_of(setting: AnySetting | str) -> str:
    """A setting's name, whichever of both is given."""
    return setting if isinstance(setting, str) else setting.name
