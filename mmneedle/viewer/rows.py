"""What the viewer shows of samples in a list, and what is known of any sample, in words."""

from collections.abc import Sequence
from typing import Any

from mmneedle.errors import UserError
from mmneedle.outcomes import KINDS, UNDEFINED, Outcomes, places
from mmneedle.reports.panels import named
from mmneedle.runlog import STATUSES
from mmneedle.scoring import SCORERS, Scorer
from mmneedle.types import Location, Setting, sample_id
from mmneedle.viewer import marks as marking
from mmneedle.viewer.library import Item, NotFoundError, Volume
from mmneedle.viewer.pictures import Window, inside
from mmneedle.viewer.query import Query
from mmneedle.viewer.selection import book_of, scorer_of, verdicts

BRIEF = 160
"""Characters of an answer in a list."""


# --------------------------------------------------------------------------- what is known


def place_text(location: Location | None) -> str:
    """A cell in words."""
    if location is None:
        return "not there (−1)"
    return f"image {location.image}, row {location.row}, column {location.column}"


def verdict_name(code: int, tried: bool) -> str:
    """The name of an outcome, as panels.KINDS has it, or "untried"."""
    if code == UNDEFINED:
        return "no_answer" if tried else "untried"
    return KINDS[code - 1] if code else "right"


def readings(said: Sequence[Location | None], kinds: Sequence[int]) -> list[str]:
    """What each needle's answer was read as."""
    unreadable = {KINDS.index("unparsed") + 1, KINDS.index("refused") + 1}
    return [
        place_text(location)
        if location is not None
        else "could not be read"
        if kind in unreadable
        else "says it is not there"
        for location, kind in zip(said, kinds, strict=True)
    ]


def split_name(number: int) -> str:
    """Positive or negative, by a sample's number (see types.Sample)."""
    return "negative" if number % 2 else "positive"


def sample_facts(item: Item, setting: Setting, number: int) -> dict[str, Any]:
    """Captions and measures of a sample, from its data set or else from the run."""
    book = book_of(item)
    if book is not None and book.has(setting, number):
        try:
            facts = book.facts(setting)
        except UserError:
            if not isinstance(item, Volume):
                raise
        else:
            value = float(facts.ambiguity[number])
            return {
                "captions": facts.captions[number].as_py(),
                "hard": bool(facts.hard[number]),
                "ambiguity": None if value != value else value,
            }
    if not isinstance(item, Volume):
        raise NotFoundError(f"there is no sample {sample_id(setting, number)}")
    table = item.following.tables[setting]
    row = table.row(number)
    assert row is not None
    value = float(table.ambiguity[row])
    return {
        "captions": [],
        "hard": bool(table.hard[row]),
        "ambiguity": None if value != value else value,
    }


def known_truth(
    items: Sequence[Item], setting: Setting, number: int
) -> tuple[Location | None, ...] | None:
    """A sample's truth from its data set, else from a run that tried it; None: not known."""
    for item in items:
        if isinstance(item, Volume):
            table = item.following.tables[setting]
            row = table.row(number)
            if row is not None and table.status[row]:
                return tuple(places(table.truth[row]))
    if number % 2:
        return (None,) * setting.needles
    book = book_of(items[0])
    if book is None or not book.has(setting, number):
        return None
    try:
        return book.facts(setting).truth(number)
    except UserError:
        return None


# --------------------------------------------------------------------------- rows


class Lister:
    """Makes rows of the samples that a query chose."""

    def __init__(self, query: Query, items: Sequence[Item]) -> None:
        self.query, self.items = query, items
        self.scorer = scorer_of(query)
        self._verdicts: dict[tuple[str, Setting, Scorer], Any] = {}

    def row(self, setting: Setting, number: int) -> dict[str, Any]:
        """One sample for the template."""
        facts = sample_facts(self.items[0], setting, number)
        answers = [
            self._answer(item, setting, number) for item in self.items if isinstance(item, Volume)
        ]
        truth = known_truth(self.items, setting, number)
        name = sample_id(setting, number)
        return {
            "id": name,
            "href": f"/sample/{name}?{self.query.string()}",
            "label": named(setting),
            "captions": facts["captions"],
            "split": "hard negative" if facts["hard"] else split_name(number),
            "ambiguity": facts["ambiguity"],
            "truth": None if truth is None else [place_text(location) for location in truth],
            "answers": answers,
            "pictures": self._pictures(setting, name, truth, answers),
        }

    def _verdict(self, item: Volume, table: Outcomes, scorer: Scorer, row: int) -> int:
        key = item.key, table.setting, scorer
        if key not in self._verdicts:
            self._verdicts[key] = verdicts(table, scorer)
        return int(self._verdicts[key][row])

    def _answer(self, item: Volume, setting: Setting, number: int) -> dict[str, Any]:
        table = item.following.tables[setting]
        row = table.row(number)
        assert row is not None
        tried = bool(table.status[row])
        names = {
            scorer: verdict_name(self._verdict(item, table, scorer, row), tried)
            for scorer in SCORERS
        }
        other = next(scorer for scorer in SCORERS if scorer != self.scorer)
        record = table.record(item.run, row)
        text = record.response.text if record else None
        said = list(places(table.marks[self.scorer].said[row]))
        kinds = table.marks[self.scorer].kind[row].tolist()
        counts = UNDEFINED not in kinds
        return {
            "kind": names[self.scorer],
            "other": names[other] if names[other] != names[self.scorer] else None,
            "other_scorer": other,
            "status": STATUSES[table.status[row] - 1] if tried else None,
            "text": text and text[:BRIEF],
            "cut": bool(text) and len(text or "") > BRIEF,
            "error": record.response.error[:BRIEF] if record and record.response.error else None,
            "reading": readings(said, kinds) if counts else [],
            "said": said if counts else [],
            "kinds": kinds,
            "latency": record.response.latency if record else None,
        }

    def _pictures(
        self,
        setting: Setting,
        name: str,
        truth: Sequence[Location | None] | None,
        answers: Sequence[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """The true cell's place and, of one run, the given one's: of the first needle that is
        wrong, else of the first."""
        book = book_of(self.items[0])
        if book is None or truth is None:
            return []
        said = answers[0]["said"] if len(answers) == 1 else []
        wrong = [k for k, kind in enumerate(answers[0]["kinds"]) if kind > 0] if said else []
        needle = wrong[0] if wrong else 0
        true, given = truth[needle], said[needle] if said else None
        wanted = [(true, "true"), (given, "given")] if true != given else [(true, "both")]
        tiles = book.dataset.manifest.tiles
        cell = tiles.width, tiles.height
        found = []
        for location, kind in wanted:
            if location is None or not inside(setting, location):
                continue
            window = Window.around(setting, location)
            path = "/".join(map(str, location))
            mark = marking.Mark(location, kind, "")
            found.append(
                {
                    "src": f"/near/{self.items[0].key}/{name}/{path}",
                    "width": 64 * window.cols,
                    "height": round(64 * window.rows * cell[1] / cell[0]),
                    "marks": marking.near(window, cell, mark),
                    "alt": {
                        "true": "True place",
                        "given": "Place given",
                        "both": "True place, given",
                    }[kind]
                    + f": {place_text(location)}, with its neighbours",
                }
            )
        return found
