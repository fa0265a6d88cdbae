"""What an address asks for: which samples of which data set or runs, how sorted, which page.

Everything that comes from outside is read here, and strictly: a word that is none of those that we
know is refused, so that nothing of a request ever reaches the file system.
"""

import math
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from mmneedle.outcomes import KINDS
from mmneedle.reports.panels import KINDS as NAMES
from mmneedle.runlog import STATUSES
from mmneedle.scoring import SCORERS
from mmneedle.types import Setting

PAGE = 50
"""Samples of a page."""
MOST_ITEMS = 6
"""Runs side by side."""
SPLITS = {"positive": "positive", "negative": "negative", "hard": "hard negative"}
OUTCOMES = {"wrong": "any error"} | {name: NAMES[name] for name in ("right", *KINDS, "no_answer")}
SORTS = {
    "ambiguity": "most ambiguous",
    "latency": "slowest",
    "length": "longest answer",
    "newest": "newest answer",
}
SIDES = ("right", "wrong", "none")
"""How a run stands to a sample when several are compared."""
MISSING = "missing"
_LONGEST = 200


class BadQueryError(ValueError):
    """An address that asks for what cannot be; its text says what."""

    title = "This choice cannot be shown"


class ComparisonError(BadQueryError):
    """Runs that cannot stand side by side."""

    title = "These runs cannot be compared"


class Params(Protocol):
    """Query parameters, as Starlette has them."""

    def get(self, key: str, default: str = "") -> str:
        """The value of a parameter."""
        ...

    def getlist(self, key: str) -> list[str]:
        """All its values."""
        ...


class Query(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parameters of a list of samples. Each default means: whatever."""

    items: tuple[str, ...] = ()
    """Ids of one data set, or of one run or several."""
    setting: str = ""
    split: str = ""
    outcome: str = ""
    status: str = ""
    scorer: str = SCORERS[0]
    text: str = ""
    """In the caption or the answer."""
    low: float | None = None
    """Ambiguity, from."""
    high: float | None = None
    sides: tuple[str, ...] = ()
    """How each run shall stand; "" whatever."""
    differ: bool = False
    """Only where the runs do not stand alike."""
    sort: str = ""
    page: int = 1
    model: bool = False
    """Show images as the model gets them."""

    @classmethod
    def read(cls, params: Params) -> "Query":
        """Read an address's parameters. Raises BadQueryError."""
        items = tuple(dict.fromkeys(",".join(params.getlist("in")).split(",")))
        comparing = params.get("differ", "") == "1"
        if comparing and not 1 < len(items) <= MOST_ITEMS:
            raise ComparisonError("choose two to six runs on the same data set")
        if not items[0] or len(items) > MOST_ITEMS:
            raise BadQueryError(f"name one data set or run, or up to {MOST_ITEMS} runs")
        sides = tuple(",".join(params.getlist("sides")).split(","))
        for side in sides:
            _known(side, SIDES, "sides")
        return cls(
            items=items,
            setting=_setting(params.get("setting", "")),
            split=_known(params.get("split", ""), SPLITS, "split"),
            outcome=_known(params.get("outcome", ""), OUTCOMES, "outcome"),
            status=_known(params.get("status", ""), (*STATUSES, MISSING), "status"),
            scorer=_known(params.get("scorer", ""), SCORERS, "scorer") or SCORERS[0],
            text=params.get("text", "").strip()[:_LONGEST],
            low=_share(params.get("low", "")),
            high=_share(params.get("high", "")),
            sides=(*sides, *[""] * len(items))[: len(items)] if any(sides) else (),
            differ=comparing,
            sort=_known(params.get("sort", ""), SORTS, "sort"),
            page=_page(params.get("page", "")),
            model=params.get("pixels", "") == "model",
        )

    @property
    def one_setting(self) -> Setting | None:
        """The setting asked for; None: all."""
        return Setting.parse(self.setting) if self.setting else None

    @property
    def key(self) -> str:
        """Equal for queries that mean the same samples in the same order."""
        return self.string(page=1, model=False)

    @property
    def filtered(self) -> bool:
        """Whether samples are left out."""
        plain = Query(items=self.items, scorer=self.scorer, sort=self.sort)
        return self.key != plain.key

    def string(self, **changes: Any) -> str:
        """The query string of an address that asks for this, with changes."""
        new = msgspec.structs.replace(self, **changes)
        pairs: list[tuple[str, str]] = [("in", ",".join(new.items))]
        for name in ("setting", "split", "outcome", "status", "text", "sort"):
            if value := getattr(new, name):
                pairs.append((name, value))
        if new.scorer != SCORERS[0]:
            pairs.append(("scorer", new.scorer))
        for name in ("low", "high"):
            if (number := getattr(new, name)) is not None:
                pairs.append((name, f"{number:g}"))
        if any(new.sides):
            pairs.append(("sides", ",".join(new.sides)))
        if new.differ:
            pairs.append(("differ", "1"))
        if new.model:
            pairs.append(("pixels", "model"))
        if new.page > 1:
            pairs.append(("page", str(new.page)))
        return urlencode(pairs, safe=",")


def _known(value: str, allowed: Any, name: str) -> str:
    if value and value not in allowed:
        raise BadQueryError(f"{name} is one of {', '.join(allowed)}")
    return value


def _setting(value: str) -> str:
    if value:
        try:
            if len(value) > 60 or Setting.parse(value).name != value:
                raise ValueError
        except ValueError:
            raise BadQueryError("a setting's name looks like n10-g8x8-k1") from None
    return value


def _share(value: str) -> float | None:
    if not value.strip():
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise BadQueryError("ambiguity lies between 0 and 1")
    return number


def _page(value: str) -> int:
    if not value:
        return 1
    if not (value.isascii() and value.isdecimal() and len(value) < 9 and int(value) > 0):
        raise BadQueryError("a page's number is 1 or more")
    return int(value)
