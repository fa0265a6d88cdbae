"""What a report may claim: findings, and one correction over all tests that they stand on."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from mmneedle.reports.hallucination.inference import LEVEL
from mmneedle.reports.words import percent
from mmneedle.statistics.comparison import holm
from mmneedle.statistics.shares import Share

Verdict = Literal["notable", "no evidence", "cannot tell: too few"]
Family = Literal[
    "existence",
    "pointing",
    "looking",
    "recall",
    "format",
    "ambiguity",
    "pixels",
    "calibration",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence with its figures."""

    key: str
    """What it is about, for programs: "pointing.corners"."""
    family: Family
    verdict: Verdict
    text: str
    """The sentence; every figure in it is computed."""
    weight: float = 0.0
    """Share of the run's answers that it concerns, 0..1: the order of findings."""
    p: float | None = None
    """Of its test by itself; None where it claims nothing that a test could tell."""
    adjusted: float | None = None
    """The same, corrected over all tests of the report (Holm)."""
    figures: dict[str, Any] = {}
    """The numbers of the sentence, for programs."""


class Levels(msgspec.Struct, frozen=True):
    """All tests of a report: key -> p, and key -> p corrected over all of them."""

    raw: dict[str, float]
    adjusted: dict[str, float]

    @classmethod
    def of(cls, tests: Iterable[Mapping[str, float | None]]) -> "Levels":
        """Gather tests; those that could not be made (None) do not count."""
        raw = {key: p for some in tests for key, p in some.items() if p is not None}
        return cls(raw, dict(zip(raw, holm(list(raw.values())), strict=True)))

    @property
    def count(self) -> int:
        """How many tests the report makes."""
        return len(self.raw)

    def significant(self, key: str) -> bool:
        """Whether the correction leaves the test below LEVEL."""
        return self.adjusted.get(key, 1.0) < LEVEL

    def values(self, key: str) -> dict[str, float | None]:
        """Both p values as a Finding has them."""
        return {"p": self.raw.get(key), "adjusted": self.adjusted.get(key)}


def p_text(p: float | None) -> str:
    """ "p < 0.001", "p = 0.012"."""
    if p is None:
        return "not tested"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {min(p, 1):.2f}"


_TOGETHER = re.compile(
    r"(?<=\d) (?=%|px)|(?<=p) (?=[<=] )|(?<=[<=]) (?=\d)"  # 5 %, 14 px, p < 0.001
    r"|(?<=[“ ]\d,) (?=\d[,”])"  # “1, 2, 3”
)


def typeset(text: str) -> str:
    """A sentence whose figures keep together when lines are broken."""
    return _TOGETHER.sub("\u00a0", text)


STOPPED = (
    "A rule stopped this run early; intervals and p values of findings take the number of samples "
    "as fixed beforehand."
)


def span(interval: tuple[float, float]) -> str:
    """ "3.1–9.8 %": an interval of shares."""
    return f"{percent(interval[0])}–{percent(interval[1])} %"


def told(part: Share) -> str:
    """ "12 of 60 (20.0 %, 11.8–31.8 %)"."""
    return f"{part.hits:,} of {part.n:,} ({percent(part.value)} %, {span(part.interval)})"
