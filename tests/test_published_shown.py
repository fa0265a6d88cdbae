"""Every one of the paper's 1,215 figures, as each format of the leaderboard shows it."""

import csv
import html.parser
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import needs
import pytest

from mmneedle.reports import published as paper
from mmneedle.reports.blocks import blocks
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.reports.standings import Table
from mmneedle.reports.words import label

PACKAGED = Path(paper.__file__).with_name("published.csv")


class Figure(NamedTuple):
    model: str
    setting: str
    split: str
    metric: str
    percent: str
    """With two digits."""


def lines() -> list[dict[str, str]]:
    return list(csv.DictReader(PACKAGED.read_text(encoding="utf-8").splitlines()))


def is_main(line: dict[str, str]) -> bool:
    """Whether it stands in a main table; the others repeat one that does."""
    return line["source"].split(" ", 1)[1] not in ("Table 7", "Appendix B")


def figure(line: dict[str, str]) -> Figure:
    return Figure(
        line["model"],
        f"n{line['images']}-g{line['grid']}x{line['grid']}-k{line['needles']}",
        line["split"],
        paper.METRICS[line["metric"]],
        f"{float(line['value_percent']):.2f}",
    )


def in_tables() -> Counter[Figure]:
    return Counter(figure(line) for line in lines() if is_main(line))


def test_the_packaged_copy_is_the_source() -> None:
    source = needs.published_results()
    ours, theirs = (
        Counter(
            tuple(line.values()) for line in map(_two_digits, csv.DictReader(io.StringIO(text)))
        )
        for text in (PACKAGED.read_text(encoding="utf-8"), source.read_text(encoding="utf-8"))
    )
    assert sum(ours.values()) == 1215
    assert ours == theirs


def _two_digits(line: dict[str, str]) -> dict[str, str]:
    """The same digits as printed, and as a spreadsheet writes them: 51.10 and 51.1."""
    return line | {"value_percent": f"{float(line['value_percent']):.2f}"}


def test_the_figures_in_tables_and_their_repeats_are_all() -> None:
    assert sum(in_tables().values()) == 1200
    assert max(in_tables().values()) == 1
    assert sum(not is_main(line) for line in lines()) == 15


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_for_scripts(form: str) -> None:
    text = leaderboard([], published=True).render(form)
    rows = json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))
    shown = Counter(
        Figure(
            row["model"], row["setting"], row["split"], metric, f"{100 * float(row[metric]):.2f}"
        )
        for row in rows
        for metric in set(paper.METRICS.values())
        if row[metric] not in (None, "")
    )
    assert shown == Counter(figure(line) for line in lines())


# --------------------------------------------------------------------------- tables for readers

Block = tuple[str, list[list[str]]]
"""A heading, and rows of cells; the first is the head, the last is chance."""


def read_block(table: Table, key: str, rows: list[list[str]], sides: str) -> Iterator[Figure]:
    """The figures of one table as text; `sides` finds sensitivity and specificity in a cell."""
    names = {label(at): at.name for at in table.settings}
    head = rows[0]
    for row in rows[1:-1]:
        for name, cell in zip(head[1 : 1 + len(names)], row[1:], strict=False):
            if key == "existence":
                found = re.search(sides, cell)
                pair = found.groups() if found else ()
                for split, text in zip(("positive", "negative"), pair, strict=False):
                    if text != "–":
                        yield Figure(row[0], names[name], split, key, text)
            elif found := re.match(r"\d+\.\d+", cell):
                yield Figure(row[0], names[name], "positive", key, found[0])


def keyed(tables: list[Table]) -> Iterator[tuple[Table, str]]:
    for table in tables:
        for block in blocks(table):
            yield table, block.key


def repeated() -> Counter[tuple[str, str]]:
    """Model and figure of those that are named in notes."""
    return Counter((one.model, one.percent) for one in map(figure, filter(_repeats, lines())))


def _repeats(line: dict[str, str]) -> bool:
    return not is_main(line)


def told(notes: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    again = (
        r"(GPT-4V|IDEFICS2-8B): \w+ on \w+ is printed again in .*? samples\): ([^<\n]*?)\.(?!\d)"
    )
    for model, text in re.findall(again, notes):
        found.update((model, one) for one in re.findall(r"\d+\.\d\d", text))
    return found


def test_markdown() -> None:
    board = leaderboard([], published=True)
    text = board.render("md")
    parts = [
        [
            [cell.strip().removesuffix(" †") for cell in line.strip("|").split(" | ")]
            for line in part.splitlines()
            if not line.startswith("| :--")
        ]
        for part in text.split("\n\n")
        if part.startswith("|")
    ]
    order = list(keyed(board.tables()))
    shown = Counter(
        one
        for (table, key), rows in zip(order, parts, strict=True)
        for one in read_block(table, key, rows, r"\(([\d.–]+) / ([\d.–]+)\)")
    )
    assert shown == in_tables()
    assert told(text) == repeated()


def plain(tex: str) -> str:
    """LaTeX of ours as text."""
    tex = re.sub(r"\\(?:textbf|emph)\{([^{}]*)\}", r"\1", tex)
    tex = re.sub(r"\{\\tiny ([^{}]*)\}", r"\1", tex)
    tex = tex.replace(r"\,$\dagger$", "").replace("--", "–").replace("$-$", "−")
    return re.sub(r"\\([%_&#])", r"\1", tex).strip()


def test_latex() -> None:
    board = leaderboard([], published=True)
    text = board.render("latex")
    floats = re.findall(
        r"\\toprule\n(.*?) \\\\\n\\midrule\n(.*?)\\midrule\n(.*?) \\\\\n\\bottomrule", text, re.S
    )
    order = list(keyed(board.tables()))
    shown: Counter[Figure] = Counter()
    for (table, key), (head, body, last) in zip(order, floats, strict=True):
        rows = [list(map(plain, head.split(" & ")))]
        for model in body.split("\\addlinespace\n"):
            texts = [line.removesuffix(r" \\").split(" & ") for line in model.strip().splitlines()]
            if key == "existence":  # the second row has what the first is made of
                first = [f"{a} ({plain(b)})" for a, b in zip(*texts[:2], strict=True)]
                rows.append([plain(texts[0][0]), *first[1:]])
            else:
                rows.append(list(map(plain, texts[0])))
        rows.append([last])
        shown.update(read_block(table, key, rows, r"\(([\d.–]+) / ([\d.–]+)\)"))
    assert shown == in_tables()
    assert told(plain(text)) == repeated()


class Reader(html.parser.HTMLParser):
    """Reads the figures of published rows, each at its place."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Counter[Figure] = Counter()
        self.row: dict[str, str | None] = {}
        self.setting = ""
        self.what: list[str] = []
        self.model = ""
        self.inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "tr":
            self.row, self.model = given, ""
        elif tag == "th" and given.get("class") == "model":
            self.inside = "model"
        elif tag == "a":
            self.inside = None
        elif tag == "td":
            self.setting = given.get("data-setting") or ""
        elif tag == "data":
            self.what, self.inside = (given["class"] or "").split(), "data"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "data"):
            self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside == "model":
            self.model += data
        elif self.inside == "data" and self.row.get("data-origin") == "published":
            metric, split = self.what
            self.shown[Figure(self.model.strip(), self.setting, split, metric, data)] += 1


def test_html() -> None:
    text = leaderboard([], published=True).render("html")
    reader = Reader()
    reader.feed(text)
    assert reader.shown == in_tables()
    assert told(text) == repeated()
