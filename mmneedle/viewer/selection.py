"""Which samples a query means, in their order: masks over columns, no sample is read for it."""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmneedle.errors import UserError
from mmneedle.outcomes import KINDS, UNDEFINED, Marks, Outcomes
from mmneedle.reports.panels import in_order
from mmneedle.runlog import STATUSES
from mmneedle.scoring import Scorer
from mmneedle.types import Setting, sample_id
from mmneedle.viewer.library import Book, Facts, Item, Library, Volume
from mmneedle.viewer.query import MISSING, SIDES, BadQueryError, Query

_KEPT = 8
Mask = NDArray[np.bool_]
RIGHT = 0
"""The code of a right answer among verdicts."""
_STATUS_NAMES: list[str] = list(STATUSES)
_KIND_NAMES: list[str] = list(KINDS)
_COLUMNS = {"latency": "latency", "length": "length", "newest": "place"}
"""What the orders of query.SORTS look at."""
_UNREADABLE = KINDS.index("unparsed") + 1


class Selection(msgspec.Struct, frozen=True):
    """Samples in order."""

    settings: tuple[Setting, ...]
    which: NDArray[np.int64]
    """Each sample's setting, by its place in `settings`."""
    number: NDArray[np.int64]
    total: int
    """Samples before any was left out."""
    patterns: dict[tuple[str, ...], int] = {}
    """How often the runs stood so (one of SIDES each), before `sides` and `differ` chose."""

    def __len__(self) -> int:
        return len(self.number)

    def at(self, place: int) -> tuple[Setting, int]:
        """The setting and number of the sample at a place from 0."""
        return self.settings[int(self.which[place])], int(self.number[place])

    def place(self, setting: Setting, number: int) -> int | None:
        """Where a sample stands; None: it is not among them."""
        if setting not in self.settings:
            return None
        found = np.flatnonzero(
            (self.which == self.settings.index(setting)) & (self.number == number)
        )
        return int(found[0]) if len(found) else None

    def name(self, place: int) -> str:
        """The id of the sample at a place."""
        return sample_id(*self.at(place))


def verdicts(table: Outcomes, scorer: Scorer) -> NDArray[np.int8]:
    """Each sample's outcome: RIGHT, the first wrong needle's kind (k: KINDS[k-1]), or UNDEFINED."""
    marks = table.marks[scorer]
    wrong = marks.kind > 0
    rows = np.arange(len(table))
    first = np.where(wrong.any(axis=1), marks.kind[rows, wrong.argmax(axis=1)], RIGHT)
    # A text that the paper's reading counts wrong only as a whole: too many needles, say.
    first = np.where((first == RIGHT) & ~_right(table, marks), _UNREADABLE, first)
    return np.where(marks.answered, first, UNDEFINED).astype(np.int8)


def _right(table: Outcomes, marks: Marks) -> Mask:
    """Exact for positives, existence for negatives."""
    found: Mask = np.where(table.positive, marks.exact == 1, marks.existence == 1)
    return found


def sides(table: Outcomes, scorer: Scorer) -> NDArray[np.int8]:
    """How a run stands to each sample, by place in SIDES."""
    found = verdicts(table, scorer)
    return np.where(found == UNDEFINED, 2, np.where(found == RIGHT, 0, 1)).astype(np.int8)


class Selector:
    """Answers queries; remembers the last answers as long as nothing has changed.

    Use it while the query's runs are held (`library.held`).
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._found: OrderedDict[tuple[str, ...], Selection] = OrderedDict()
        self._texts: OrderedDict[tuple[str, ...], Mask] = OrderedDict()

    def items(self, query: Query) -> list[Item]:
        """What the query is about. Raises NotFoundError, BadQueryError."""
        items = [self._library.item(key) for key in query.items]
        if len(items) > 1 and not all(isinstance(item, Volume) for item in items):
            raise BadQueryError("only runs can stand side by side")
        return items

    def select(self, query: Query) -> Selection:
        """The samples that a query means. Raises UserError for a damaged data set."""
        items = self.items(query)
        marks = [item.following.mark for item in items if isinstance(item, Volume)]
        key = (query.key, *marks)
        if (found := self._found.pop(key, None)) is None:
            found = self._select(query, items)
        self._found[key] = found
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return found

    def _select(self, query: Query, items: Sequence[Item]) -> Selection:
        settings = tuple(sorted(_settings(items), key=in_order))
        numbers, which, keys = [], [], []
        patterns: Counter[tuple[str, ...]] = Counter()
        total = 0
        for place, setting in enumerate(settings):
            part = _Part(setting, items)
            total += len(part.numbers)
            if query.one_setting not in (None, setting):
                continue
            mask = self._mask(query, part)
            if len(items) > 1:
                stand = np.stack([part.side(item, query) for item in items], axis=1)
                patterns.update(_patterns(stand[mask]))
                mask &= _chosen(stand, query)
            numbers.append(part.numbers[mask])
            which.append(np.full(int(mask.sum()), place, np.int64))
            keys.append(part.key(query.sort)[mask])
        order = np.argsort(_joined(keys, np.float64), kind="stable")
        return Selection(
            settings=settings,
            which=_joined(which, np.int64)[order],
            number=_joined(numbers, np.int64)[order],
            total=total,
            patterns=dict(patterns),
        )

    def _mask(self, query: Query, part: "_Part") -> Mask:
        mask = np.ones(len(part.numbers), np.bool_)
        if query.split == "hard":
            mask &= part.hard
        elif query.split:
            mask &= (part.numbers % 2 == 0) == (query.split == "positive")
        if query.low is not None:
            mask &= part.ambiguity >= query.low
        if query.high is not None:
            mask &= part.ambiguity <= query.high
        runs = [item for item in part.items if isinstance(item, Volume)]
        if query.outcome and runs:
            mask &= np.any([part.outcome(run, query) for run in runs], axis=0)
        if query.status and runs:
            code = 0 if query.status == MISSING else _STATUS_NAMES.index(query.status) + 1
            mask &= np.any([part.of(run).status[part.rows(run)] == code for run in runs], axis=0)
        if query.text:
            mask &= self._says(query.text, part, mask)
        return mask

    def _says(self, text: str, part: "_Part", among: Mask) -> Mask:
        """Which samples have a text in their caption or in an answer, whatever its case."""
        found = np.zeros(len(part.numbers), np.bool_)
        if part.facts is not None:
            found |= _captions_say(part.facts, text)[part.numbers]
        for item in part.items:
            if isinstance(item, Volume):
                found[among] |= self._answers_say(text, item, part)[among]
        return found

    def _answers_say(self, text: str, item: Volume, part: "_Part") -> Mask:
        key = (item.key, item.following.mark, part.setting.name, text)
        if key not in self._texts:
            table, wanted = part.of(item), text.casefold()
            said = np.zeros(len(table), np.bool_)
            for row in np.flatnonzero((table.status > 0) & (table.length > 0)):
                record = table.record(item.run, int(row))
                said[row] = record is not None and wanted in (record.response.text or "").casefold()
            self._texts[key] = said
            while len(self._texts) > 4 * _KEPT:
                self._texts.popitem(last=False)
        return self._texts[key][part.rows(item)]


class _Part:
    """The samples of one setting that all items have, with what is known of them."""

    def __init__(self, setting: Setting, items: Sequence[Item]) -> None:
        self.setting, self.items = setting, items
        self._tables = {
            item.key: item.following.tables[setting] for item in items if isinstance(item, Volume)
        }
        numbers = [table.number for table in self._tables.values()]
        if numbers:
            self.numbers = numbers[0]
            for other in numbers[1:]:
                self.numbers = np.intersect1d(self.numbers, other, assume_unique=True)
        else:
            book = items[0]
            assert isinstance(book, Book)
            self.numbers = np.arange(book.dataset.count(setting))
        self._facts: Facts | None = None
        self._looked = False

    @property
    def facts(self) -> Facts | None:
        """What the data set says; None where there is none that holds these samples."""
        if not self._looked:
            self._looked = True
            book = book_of(self.items[0])
            if book is not None and not self._tables:
                self._facts = book.facts(self.setting)
            elif book is not None:
                count = book.dataset.count(self.setting)
                if not len(self.numbers) or self.numbers[-1] < count:
                    self._facts = _tried(book, self.setting)
        return self._facts

    def of(self, item: Volume) -> Outcomes:
        """The run's columns."""
        return self._tables[item.key]

    def rows(self, item: Volume) -> NDArray[np.int64]:
        """Where the samples stand in a run's columns."""
        found: NDArray[np.int64] = np.searchsorted(self.of(item).number, self.numbers)
        return found

    @property
    def hard(self) -> Mask:
        if self.facts is not None:
            return self.facts.hard[self.numbers]
        return self._first.hard[self._first_rows]

    @property
    def ambiguity(self) -> NDArray[np.floating[Any]]:
        """NaN, which no range holds, where it is not known."""
        if self.facts is not None:
            return self.facts.ambiguity[self.numbers]
        return self._first.ambiguity[self._first_rows]

    @property
    def _first(self) -> Outcomes:
        return next(iter(self._tables.values()))

    @property
    def _first_rows(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.searchsorted(self._first.number, self.numbers)
        return found

    def side(self, item: Item, query: Query) -> NDArray[np.int8]:
        """How a run stands to each sample."""
        assert isinstance(item, Volume)
        return sides(self.of(item), scorer_of(query))[self.rows(item)]

    def outcome(self, item: Volume, query: Query) -> Mask:
        """Which samples have the outcome asked for."""
        found = verdicts(self.of(item), scorer_of(query))[self.rows(item)]
        if query.outcome == "wrong":
            return np.greater(found, RIGHT)
        code = {"right": RIGHT, "no_answer": UNDEFINED}.get(query.outcome)
        return np.equal(found, _KIND_NAMES.index(query.outcome) + 1 if code is None else code)

    def key(self, sort: str) -> NDArray[np.float64]:
        """What to sort by, the smallest first; what is not known comes last."""
        if sort == "ambiguity":
            values = -self.ambiguity.astype(np.float64)
        elif sort and self._tables:
            table, rows = self._first, self._first_rows
            column: NDArray[Any] = getattr(table, _COLUMNS[sort])
            values = -column[rows].astype(np.float64)
            if sort == "newest":
                values[values == 1] = np.nan
        else:
            values = np.zeros(len(self.numbers))
        return np.where(np.isnan(values), np.inf, values)


def scorer_of(query: Query) -> Scorer:
    """The scorer asked for."""
    return "paper" if query.scorer == "paper" else "robust"


def book_of(item: Item) -> Book | None:
    """An item's data set."""
    return item.book if isinstance(item, Volume) else item


def _settings(items: Sequence[Item]) -> set[Setting]:
    """Those that all items have."""
    found = [
        set(item.following.tables) if isinstance(item, Volume) else set(item.dataset.settings)
        for item in items
    ]
    return set.intersection(*found)


def _tried(book: Book, setting: Setting) -> Facts | None:
    """A setting's facts; None where its file is damaged: a run shows what it has itself."""
    try:
        return book.facts(setting)
    except UserError:
        return None


def _captions_say(facts: Facts, text: str) -> Mask:
    import pyarrow.compute as pc  # takes its time to load, and is for this alone

    lists = facts.captions.combine_chunks()
    hits = pc.match_substring(lists.flatten(), text, ignore_case=True)
    parents = pc.list_parent_indices(lists).to_numpy()
    found = np.zeros(len(lists), np.bool_)
    found[parents[np.asarray(pa.array(hits).to_numpy(zero_copy_only=False), np.bool_)]] = True
    return found


def _patterns(stand: NDArray[np.int8]) -> dict[tuple[str, ...], int]:
    rows, counts = np.unique(stand, axis=0, return_counts=True)
    return {
        tuple(SIDES[side] for side in row): int(count)
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True)
    }


def _chosen(stand: NDArray[np.int8], query: Query) -> Mask:
    mask = np.ones(len(stand), np.bool_)
    for column, side in enumerate(query.sides):
        if side:
            mask &= stand[:, column] == SIDES.index(side)
    if query.differ:
        mask &= (stand != stand[:, :1]).any(axis=1)
    return mask


def _joined(parts: Sequence[NDArray[Any]], kind: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
