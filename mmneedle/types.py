"""The whole contract on one page: what rooms hand to each other.

Data flows one way: source -> tile store -> haystacks -> samples -> requests -> responses ->
answers -> scores -> reports. Positions are one-based wherever a person or a model reads them,
as in the official prompt; photo ids are the source's own (COCO's image ids).
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:  # keeps `import mmneedle` light
    from PIL import Image

# --------------------------------------------------------------------------- sources


class Photo(msgspec.Struct, frozen=True):
    """One photo of a source: its id and every caption, in the source's own order."""

    id: int
    captions: tuple[str, ...]


class Source(Protocol):
    """Where photos and captions come from. Instances are picklable: workers render tiles."""

    def photos(self) -> Sequence[Photo]:
        """All photos, ordered by id, each id once."""
        ...

    def recipe(self) -> dict[str, Any]:
        """What opens this source again, as JSON; its "source" key is the source's name."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the source is, without its paths, as JSON: its name and a hash over its content."""
        ...

    def tile(self, photo: int, width: int, height: int) -> "Image.Image":
        """The photo in mode RGB at exactly width x height pixels."""
        ...


# --------------------------------------------------------------------------- samples


class Location(NamedTuple):
    """A cell of a haystack, one-based: "1, 2, 3" is first image, second row, third column."""

    image: int
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.image}, {self.row}, {self.column}"


MOST_SAMPLES = 10**6
"""Of a setting: the number in a sample's id has six digits."""
MOST_NEEDLES = 10**4
"""Of a question."""

_SETTING = re.compile(r"n(\d+)-g(\d+)x(\d+)-k(\d+)", re.ASCII)


class Setting(msgspec.Struct, frozen=True, order=True):
    """A haystack's shape: N images, each a grid of rows x cols cells, and K needles.

    The paper (arXiv:2406.11230, section 3) names them M, N x N and K.
    """

    images: int
    rows: int
    cols: int
    needles: int = 1

    @property
    def cells(self) -> int:
        """Cells in the whole haystack."""
        return self.images * self.rows * self.cols

    @property
    def grid_cells(self) -> int:
        """Cells of one image."""
        return self.rows * self.cols

    @property
    def name(self) -> str:
        """The setting in sample ids and file names, such as n10-g8x8-k1."""
        return f"n{self.images}-g{self.rows}x{self.cols}-k{self.needles}"

    @property
    def grid(self) -> int | str:
        """The grid as tables show it: 8 for 8 x 8, "3x5" where rows and columns differ."""
        return self.rows if self.rows == self.cols else f"{self.rows}x{self.cols}"

    @classmethod
    def parse(cls, name: str) -> "Setting":
        """Read `name` back. Raises ValueError on anything else."""
        match = _SETTING.fullmatch(name)
        if not match:
            raise ValueError(f"not the name of a setting: {name!r}")
        return cls(*map(int, match.groups()))


_TEXT_SETTING = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)-l(\d+)-d(\d+|x)-k(\d+)", re.ASCII)


class TextSetting(msgspec.Struct, frozen=True, order=True):
    """A text needle task at one length and depth."""

    task: str
    """The task's name, with its variant after a point where it has any: ruler.vt."""
    length: int
    """Of the whole prompt in the model's tokens; for keyvalue the pairs, for multidoc the
    documents: what the task's own paper counts in."""
    depth: int = -1
    """How much of the haystack stands before the needle, in tenths of a per cent (0..1000);
    -1: the task has no single place."""
    needles: int = 1

    @property
    def name(self) -> str:
        """The setting in sample ids and file names, such as niah-l4096-d500-k1."""
        depth = "x" if self.depth < 0 else str(self.depth)
        return f"{self.task}-l{self.length}-d{depth}-k{self.needles}"

    @classmethod
    def parse(cls, name: str) -> "TextSetting":
        """Read `name` back. Raises ValueError on anything else."""
        match = _TEXT_SETTING.fullmatch(name)
        if not match:
            raise ValueError(f"not the name of a text setting: {name!r}")
        task, length, depth, needles = match.groups()
        return cls(task, int(length), -1 if depth == "x" else int(depth), int(needles))


AnySetting = Setting | TextSetting
"""What samples are grouped by: the run loop does not care which."""


def read_setting(name: str) -> AnySetting:
    """Read any setting's `name` back. Raises ValueError on anything else."""
    return TextSetting.parse(name) if "-l" in name else Setting.parse(name)


def sample_id(setting: AnySetting, index: int) -> str:
    """The id of sample `index` (zero-based) of a setting: n10-g8x8-k1-000017."""
    return f"{setting.name}-{index:06d}"


def split_sample_id(text: str) -> tuple[AnySetting, int]:
    """Setting and zero-based index of any sample's id. Raises ValueError on anything else."""
    name, _, index = text.rpartition("-")
    if not (index.isascii() and index.isdigit()):
        raise ValueError(f"not the id of a sample: {text!r}")
    return read_setting(name), int(index)


def parse_sample_id(text: str) -> tuple[Setting, int]:
    """The same of an image task's sample. Raises ValueError on anything else."""
    setting, index = split_sample_id(text)
    if not isinstance(setting, Setting):
        raise ValueError(f"not the id of a sample with images: {text!r}")
    return setting, index


class Needle(msgspec.Struct, frozen=True):
    """What a question asks for: a caption, the photo it belongs to, and where that photo is."""

    caption: str
    photo: int
    location: Location | None
    """The cell that holds the photo; None when the haystack does not hold it (a negative)."""


class Sample(msgspec.Struct, frozen=True):
    """One question: a haystack of photo ids and one or more needles.

    A sample is positive (every needle is in the haystack) or negative (none is). Sample i of a
    setting is positive when i is even, so that every prefix of a data set is balanced.
    """

    id: str
    setting: Setting
    haystack: tuple[int, ...]
    """Photo ids, image by image, row by row; length setting.cells."""
    needles: tuple[Needle, ...]
    ambiguity: float | None = None
    """How close the nearest other photo's captions come to a needle's caption, 0..1."""
    hard: bool = False
    """A negative whose caption was chosen to resemble a photo that is in the haystack."""
    haystack_number: int | None = None
    """Which haystack of its setting: samples with the same number share it. None: its own."""

    @property
    def positive(self) -> bool:
        """Whether the needles are in the haystack."""
        return self.needles[0].location is not None

    @property
    def truth(self) -> tuple[Location | None, ...]:
        """The right location of each needle, None for one that is not there."""
        return tuple(needle.location for needle in self.needles)


# --------------------------------------------------------------------------- requests


class TextSample(msgspec.Struct, frozen=True):
    """One question about a long text, with all that is needed to send and to score it."""

    id: str
    setting: TextSetting
    prompt: str
    """The whole text that is sent."""
    expected: tuple[tuple[str, ...], ...]
    """What an answer must hold: one entry a needle, each the wordings that are as good."""
    tokens: int
    """Of the prompt, as the data set counts them."""
    begin: str = ""
    """How the answer begins, for models that only go on with a text; part of no chat."""
    haystack_number: int | None = None
    """As a `Sample` has it."""
    details: dict[str, Any] = {}
    """Where the needles stand and what else the task knows, for `show` and for readers:

    haystack: [start, stop) of it in the prompt, in characters
    units: what it is made of (`retrieval.chunks.JOINTS`); without it, of running text
    needles: the words that state each answer, where the haystack has any
    counts: where the answer is what stands most often, so that no single place holds it
    """

    # What a log's line says of every sample, and texts do not have.
    truth: tuple[Location | None, ...] = ()
    ambiguity: float | None = None
    hard: bool = False


AnySample = Sample | TextSample


class Reader(msgspec.Struct, frozen=True):
    """How a haystack comes before the model, where not all of it does: part of a run's identity.

    A retriever ranks the haystack's units (cells, chunks, pairs, documents) by the question, and
    the model reads the best ones in the order in which they stand.
    """

    k: int
    """How many units are read; all where there are fewer."""
    retriever: str = "bm25"
    """bm25, embed (sentence embeddings) or clip (of photos)."""
    captions: str | None = None
    """Of a haystack of cells, which caption of each the retriever reads: literal, paraphrase."""
    chunk: tuple[int, int] | None = None
    """Of running text: tokens of a chunk, and how many it shares with the next."""
    model: str | None = None
    """The name of the retriever's model, where it has one."""
    weights: str | None = None
    """Its SHA-256."""
    engine: str = ""
    """The library that ranks, with its version."""

    @property
    def label(self) -> str:
        """As rows of tables have it: "retrieve:8 bm25"."""
        named = f"{self.retriever}:{self.model}" if self.model else self.retriever
        parts = [f"retrieve:{self.k} {named}"]
        if self.captions:
            parts.append(f"{self.captions} captions")
        if self.chunk and self.chunk != (600, 100):
            parts.append("chunks {}:{}".format(*self.chunk))
        return ", ".join(parts)


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a haystack a request holds; with it an answer can be scored without the data set."""

    units: tuple[int, ...]
    """Those that are read, from 0, ascending."""
    of: int
    """Units that the haystack has."""
    share: float
    """Of the haystack that is read, 0..1: characters of text, cells of images."""
    holds: tuple[tuple[int, ...], ...] = ()
    """Of each needle: the units that hold it; none for one that is nowhere."""
    found: tuple[bool, ...] = ()
    """Of each needle: whether what is read holds it."""
    grid: tuple[int, int] | None = None
    """Rows and columns of the one image that the cells were stitched into: answers name its
    cells. None: places are those of the whole haystack."""

    def setting(self, whole: Setting) -> Setting:
        """What answers are about: the small haystack where there is one."""
        return whole if self.grid is None else Setting(1, *self.grid, whole.needles)

    def place(self, whole: Setting, said: Location) -> Location:
        """The cell of the whole haystack that an answer names; (0, 0, 0) where it has none."""
        if self.grid is None:
            return said
        rows, cols = self.grid
        if not (said.image == 1 and 1 <= said.row <= rows and 1 <= said.column <= cols):
            return Location(0, 0, 0)
        image, cell = divmod(self.units[(said.row - 1) * cols + said.column - 1], whole.grid_cells)
        row, column = divmod(cell, whole.cols)
        return Location(image + 1, row + 1, column + 1)


class Request(msgspec.Struct, frozen=True):
    """What a model is sent: the images in order, then one text."""

    sample: AnySample
    """The question with its truth, of what is sent alone: baselines may look; real adapters must
    not."""
    prompt: str
    images: tuple[bytes, ...]
    """JPEG files in order; empty for adapters that set `wants_images` to False."""
    reading: Reading | None = None
    """What of the haystack this is; None: all of it."""


class Task(Protocol):
    """Turns samples into requests. A task is one module.

    A task may also have `slow: bool`: where it is true, requests are made in a thread.
    """

    name: str

    def request(self, sample: Any, *, with_images: bool = True) -> Request:
        """The request for a sample of the task's own kind, the same bytes every time."""
        ...


class DataTask(Task, Protocol):
    """A task of a data set on disk, which can say what its requests are like."""

    has_images: bool
    reader: Reader | None
    """How much of a haystack its requests hold; None: all of it."""

    def needs(self, setting: Any, start: int, stop: int) -> "Needs":
        """What requests for samples start … stop-1 of a setting ask of a model."""
        ...

    def characters(self, setting: Any, start: int, stop: int) -> float:
        """The mean length of their texts."""
        ...


Status = Literal[
    "ok",  # a complete answer
    "refused",  # the model or its provider declined
    "truncated",  # the answer was cut off at the token limit
    "empty",  # the provider replied without any text
    "rate_limited",  # infrastructure: 429
    "timeout",  # infrastructure: no reply within the deadline
    "server_error",  # infrastructure: 5xx, a dropped connection, a reply that is no reply
    "too_long",  # the prompt exceeds the model's context or the request size
    "image_rejected",  # an image or the number of images was refused
    "auth",  # wrong key, no permission, no quota: every further request would fail too
    "bad_request",  # any other rejected request
]

ANSWERED: frozenset[str] = frozenset({"ok", "refused", "truncated", "empty"})
"""The model had its say; the sample counts."""
RETRYABLE: frozenset[str] = frozenset({"rate_limited", "timeout", "server_error"})
"""Infrastructure failed; asking again may help. Never counted as a wrong answer."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None = None
    """All of them: those read from a cache and those written to one included."""
    output_tokens: int | None = None
    """All of them, thinking included."""
    cached_tokens: int | None = None
    """Input tokens that were read from a cache."""
    cache_write_tokens: int | None = None
    """Input tokens that were written to one, where the provider charges for it."""
    reasoning_tokens: int | None = None
    """Output tokens that were spent on thinking."""


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt's outcome, whatever it was. Adapters return it; they do not raise."""

    status: Status
    text: str | None = None
    """The model's words, untouched."""
    reasoning: str | None = None
    """What the model thought before it answered, where it tells; never read as an answer."""
    stop_reason: str | None = None
    model: str | None = None
    """The exact model version that the provider says answered."""
    usage: Usage | None = None
    latency: float | None = None
    """Seconds from sending to the last byte."""
    first_token: float | None = None
    """Seconds from sending to the first token of the answer, where known."""
    absent_logprob: float | None = None
    """Natural logarithm of the probability that the answer begins with "-1" rather than with
    anything else, where the engine tells: for calibration."""
    error: str | None = None
    """One line on what went wrong; never holds a key."""
    retry_after: float | None = None
    """Seconds the provider asked us to wait."""
    uncharged: bool = False
    """A failure that cost nothing: the provider never began with the request."""
    batch: str | None = None
    """The provider's id of the batch that brought it, at the batch price; None: asked directly."""


class Needs(msgspec.Struct, frozen=True):
    """What one setting's requests ask of a model; the largest, where they differ."""

    setting: AnySetting
    width: int
    """Of an image, in pixels; 0: requests are text alone."""
    height: int
    prompt: str
    """The longest text."""
    image_bytes: int
    """Of all images of a request together."""
    small: Setting | None = None
    """The shape that is sent, where only some cells of the haystack are."""

    @property
    def sent(self) -> AnySetting:
        """The shape that is sent."""
        return self.small or self.setting

    @property
    def images(self) -> int:
        """Images a request."""
        return self.sent.images if isinstance(self.sent, Setting) and self.width else 0


class Adapter(Protocol):
    """A model behind an interface: one module a provider.

    An adapter may also have these, which the run loop looks for:

        max_connections: int                requests at once, where the user says nothing (16)
        timeout: float | None               seconds for one attempt, likewise (120; None: no limit)
        shares_prefixes: bool               requests with the same images find each other's work
                                            even when they are sent at once (False: the first
                                            question about a haystack goes ahead of the others)
        prepare(needs: Sequence[Needs])     called once before the first request: load the model
                                            and size its limits; UserError where it cannot serve
        batches() -> BatchAPI               the provider's batch API (adapters/batches.py)
        see(needs: Needs) -> Sight          what the model makes of an image (adapters/sight.py),
                                            where the adapter knows better than limits.toml
    """

    model: str
    """The full model string, such as openai/gpt-4o."""
    wants_images: bool

    async def generate(self, request: Request) -> Response:
        """One attempt, no retries. Never raises for what a provider does."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """All that shapes the answers (model, parameters, versions), as JSON, no secrets."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


# --------------------------------------------------------------------------- answers


class Answer(msgspec.Struct, frozen=True):
    """What a response says about one needle, as a scorer read it."""

    kind: Literal["found", "absent", "unparsed"]
    location: Location | None = None
    """The cell named, only when kind is "found"; it may lie outside the haystack."""


ErrorKind = Literal[
    "missed",  # it is there, the model said it is not
    "hallucinated",  # it is not there, the model named a cell
    "wrong_image",
    "wrong_cell",  # right image, wrong cell
    "out_of_range",  # a cell that the haystack does not have
    "unparsed",  # no answer could be read
    "refused",
]
