"""Many runs in one place: tables for a reader, long rows for a script."""

from collections.abc import Sequence

import msgspec

from mmneedle.errors import UserError
from mmneedle.reports import published as paper
from mmneedle.reports.blocks import FEWER, any_fewer
from mmneedle.reports.choice import Choice
from mmneedle.reports.comparability import find_recipes, reasons
from mmneedle.reports.copies import once
from mmneedle.reports.entries import Entry, published_entries, run_entries, run_names
from mmneedle.reports.markdown import markdown_table
from mmneedle.reports.ranked import with_ranks
from mmneedle.reports.rows_csv import csv_text
from mmneedle.reports.standings import Sort, Table, arrange, chance_note, labels
from mmneedle.reports.words import escape, many, short
from mmneedle.runlog import Run

FORMATS = ("md", "csv", "json", "latex", "html")


class Leaderboard(msgspec.Struct, frozen=True):
    """All rows, long; `tables` arranges them for a reader."""

    entries: tuple[Entry, ...]
    scorer: str
    sort: Sort = "exact"
    apart: tuple[str, ...] = ()
    """Why rows of different tables, and some of one, cannot be compared: a sentence each."""
    rank_note: str | None = None
    """What ranks mean; None where there are none."""
    copies: tuple[str, ...] = ()
    """Which submissions are not shown, as their run is: a sentence each."""
    single_rank_note: str | None = None
    """What ranks on single settings mean."""

    def render(self, form: str) -> str:
        """The leaderboard as "md", "csv", "json", "latex" or "html"."""
        if form == "latex":
            from mmneedle.reports.latex import latex

            return latex(self)
        if form == "html":
            from mmneedle.reports.board import page

            return page(self)
        if form == "md":
            return self.markdown()
        if form == "csv":
            return self.csv()
        if form == "json":
            return self.json()
        raise UserError(f"no leaderboard format {form!r}: choose one of {', '.join(FORMATS)}")

    def json(self) -> str:
        """A list of flat objects, the same keys in each."""
        text = msgspec.json.encode([entry.flat() for entry in self.entries])
        return msgspec.json.format(text, indent=1).decode() + "\n"

    def csv(self) -> str:
        """The same rows as CSV."""
        return csv_text([entry.flat() for entry in self.entries])

    def tables(self) -> list[Table]:
        """Rows that can be compared, table by table, best first.

        Beside runs, published rows are shown only for as many needles as the runs have.
        """
        needles = {entry.setting.needles for entry in self.entries if entry.origin != "published"}
        shown = [entry for entry in self.entries if not needles or entry.setting.needles in needles]
        return arrange(shown, self.scorer, self.sort)

    def notes(self) -> list[str]:
        """What holds for the leaderboard as a whole, as plain text."""
        notes = []
        datasets = {entry.dataset for entry in self.entries if entry.dataset}
        if len(datasets) > 1:
            names = ", ".join(map(short, sorted(datasets)))
            notes.append(
                f"The runs were made on {len(datasets)} data sets ({names}), so they were asked "
                "different questions: compare rows within a table, not between tables."
            )
        notes += self.apart
        if any(entry.origin == "published" for entry in self.entries):
            notes.append(
                "† Published figures, as printed in arXiv:2406.11230v2: other samples than any "
                "run here, scored by the official script with null responses dropped. Read them "
                "as a landmark, not as a test."
            )
        submitted = {entry.run: entry.by for entry in self.entries if entry.origin == "submitted"}
        if submitted:
            notes.append(
                "§ From a submission: scored here from its raw answers; its truth is as the file "
                "states it until mmneedle submit check has made it again."
            )
        notes += [f"§ {run} is submitted by {by}." for run, by in submitted.items() if by]
        notes += self.copies
        if self.rank_note:
            notes.append(self.rank_note)
        return notes

    def told(self) -> tuple[list[Table], list[str]]:
        """The tables to show, and a sentence on each that would show the same figures again."""
        shown: list[Table] = []
        same = []
        tables = self.tables()
        for table in tables:
            if table.scorer != self.scorer and any(
                one.scorer == self.scorer and table.agrees(one) for one in tables
            ):
                same.append(
                    f"Data set {short(table.dataset or '')} by the {table.scorer} scorer, "
                    f"{many(table.needles, 'needle')}: every figure is the same."
                )
            else:
                shown.append(table)
        return shown, same

    def markdown(self) -> str:
        """Tables for a reader, in GitHub's markdown."""
        parts: list[str] = []
        above: tuple[str, int] | None = None
        tables, same = self.told()
        for table in tables:
            if above != (above := (table.task, table.needles)):
                parts.append(f"## {escape(table.task)}, {many(table.needles, 'needle')}")
            parts.append(markdown_table(table, by_youden=self.sort == "youden"))
        notes = [*same, *self.notes()]
        if any_fewer(tables):
            notes.append(FEWER)
        if tables:
            notes.append(chance_note(several=any(table.needles > 1 for table in tables)))
        return "\n\n".join([*parts, *map(escape, notes)]) + "\n"


def leaderboard(
    runs: Sequence[Run],
    scorer: str = "robust",
    published: bool = False,
    *,
    choice: Choice | None = None,
    ranked: bool = False,
) -> Leaderboard:
    """Score runs by `scorer`, and beside it by the paper's.

    Args:
        runs: run folders and submissions.
        scorer: whose tables come first.
        published: add the paper's own rows.
        choice: which rows, in what order.
        ranked: rank rows that can be compared; reads each log once more.

    Raises:
        UserError: `choice` leaves no row.
    """
    choice = choice or Choice()
    runs, copies = msgspec.structs.astuple(once(runs))
    scorers = tuple(dict.fromkeys((scorer, paper.SCORER)))
    names = run_names(runs)
    entries = [
        entry
        for run, name in zip(runs, names, strict=True)
        for entry in run_entries(run, name, scorers)
    ]
    if published:
        entries += published_entries()
    entries = choice.keep(entries)
    note = single = None
    if ranked:
        entries, note, single = msgspec.structs.astuple(with_ranks(entries, runs, names, choice))
    return Leaderboard(
        tuple(entries),
        scorer,
        choice.sort,
        tuple(_apart(runs, names, entries)),
        note,
        tuple(copies),
        single,
    )


def _apart(runs: Sequence[Run], names: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """Why the runs that have a row cannot all be compared."""
    shown = {entry.run for entry in entries}
    pairs = [(run, name) for run, name in zip(runs, names, strict=True) if name in shown]
    if len(pairs) < 2:
        return []
    kept = [run for run, _ in pairs]
    called = labels((run.header.called, name) for run, name in pairs)
    named = [called[run.header.called, name] for run, name in pairs]
    settings = {entry.setting for entry in entries if entry.run is not None}
    return reasons(kept, named, settings, find_recipes(kept))
