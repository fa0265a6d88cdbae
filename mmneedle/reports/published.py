"""The figures that the paper printed, each with the table it stands in.

published.csv holds the 1,215 figures of arXiv:2406.11230v2 (Wang et al., "Multimodal Needle in a
Haystack", NAACL 2025), one a line, digits as printed. Nothing in it is ours.

The paper prints a few figures more than once, and not always alike. A leaderboard shows one of
them by this rule and names the others; nothing is averaged:

1. The main tables come first (2-5 and 8-16: disjoint, at most one figure for each model, setting,
   split and metric).
2. Table 7 repeats GPT-4V's exact accuracy twice on 100 samples each; those are repeats, never
   the row.
3. Appendix B gives 20.2 % for IDEFICS2-8B's existence on (1,4) negatives, Table 5 says
   55.7 %. The paper does not say which is right; the table is shown, the other is named beside it.

Every figure was scored by the official script, so it belongs to the scorer `paper`.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import groupby

import msgspec

from mmneedle.types import Setting

SCORER = "paper"
"""The scorer that made every published figure."""
METRICS = {
    "existence": "existence",
    "index": "index",
    "exact": "exact",
    "individual_index": "all_index",
    "individual_exact": "all_exact",
}
"""The paper's names for a figure -> ours (scoring.Row)."""


class Figure(msgspec.Struct, frozen=True):
    """One printed figure."""

    model: str
    setting: Setting
    split: str
    """positive or negative"""
    metric: str
    """Our name for it: existence, index, exact, all_index or all_exact."""
    printed: str
    """Per cent, digits as printed, such as "97.00"."""
    value: float
    """The same, 0..1."""
    stderr: float | None
    """Standard error, 0..1; only Table 7 prints one."""
    samples: int
    """Samples asked, by the paper; null responses were dropped and not counted."""
    source: str
    """Such as "arXiv:2406.11230v2 Table 2"."""

    @property
    def place(self) -> str:
        """The source without the paper: "Table 2"."""
        return self.source.partition(" ")[2]

    @property
    def preferred(self) -> bool:
        """Whether it stands in one of the main tables (see the module's text)."""
        return self.place not in ("Table 7", "Appendix B")


class Published(msgspec.Struct, frozen=True):
    """All preferred figures of one model, setting and split, and those that repeat them."""

    model: str
    setting: Setting
    split: str
    samples: int
    figures: dict[str, Figure]
    """By our metric's name."""
    repeats: tuple[Figure, ...] = ()
    """Other printed figures for the same thing, in the paper's order."""


@cache
def figures() -> tuple[Figure, ...]:
    """All 1,215 figures in the file's order."""
    text = resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(_figure(line) for line in csv.DictReader(text.splitlines()))


def published() -> Iterator[Published]:
    """One record for each model, setting and split that the paper reports."""
    for (model, setting, _), group in groupby(sorted(figures(), key=_key), key=_key):
        printed = list(group)
        chosen = {figure.metric: figure for figure in printed if figure.preferred}
        yield Published(
            model=model,
            setting=setting,
            split=printed[0].split,
            samples=max(figure.samples for figure in chosen.values()),
            figures=chosen,
            repeats=tuple(figure for figure in printed if not figure.preferred),
        )


def describe(sources: Iterable[str]) -> str:
    """Several sources of one paper in one breath: "arXiv:2406.11230v2 Tables 2, 5"."""
    papers: dict[str, list[str]] = {}
    for source in sorted(set(sources), key=_table):
        paper, _, place = source.partition(" ")
        papers.setdefault(paper, []).append(place)
    return "; ".join(f"{paper} {_places(places)}" for paper, places in papers.items())


def _places(places: Sequence[str]) -> str:
    tables = [place.removeprefix("Table ") for place in places if place.startswith("Table ")]
    others = [place for place in places if not place.startswith("Table ")]
    named = [f"Table{'s' if len(tables) > 1 else ''} {', '.join(tables)}"] if tables else []
    return ", ".join(named + others)


def _key(figure: Figure) -> tuple[str, Setting, bool]:
    return figure.model, figure.setting, figure.split == "negative"


def _table(source: str) -> tuple[int, str]:
    number = re.search(r"Table (\d+)$", source)
    return (int(number[1]) if number else 99), source


def _figure(line: dict[str, str]) -> Figure:
    grid = int(line["grid"])
    return Figure(
        model=line["model"],
        setting=Setting(int(line["images"]), grid, grid, int(line["needles"])),
        split=line["split"],
        metric=METRICS[line["metric"]],
        printed=line["value_percent"],
        value=round(float(line["value_percent"]) / 100, 6),
        stderr=float(line["stderr_percent"]) / 100 if line["stderr_percent"] else None,
        samples=int(line["nominal_samples"]),
        source=line["source"],
    )
