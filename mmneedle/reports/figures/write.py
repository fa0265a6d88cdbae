"""All figures of some runs into a folder, each with its data, its caption and its alternative."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.figure import Figure

from mmneedle.errors import UserError
from mmneedle.files import together, unwritable, write_whole
from mmneedle.reports.figures import caption_files, captions, measures, style
from mmneedle.reports.figures.caption_files import Shown
from mmneedle.reports.figures.curves import (
    LENGTHS,
    SMALL,
    SMALL_ASPECT,
    SMALL_TITLE,
    Length,
    context_curve,
    convergence_curve,
    depth_curve,
    false_alarms,
)
from mmneedle.reports.figures.existence import (
    bars_height,
    calibration,
    error_bars,
    existence_plane,
    high_names,
)
from mmneedle.reports.figures.layout import nothing, panel_width
from mmneedle.reports.figures.maps import accuracy_map, columns_that_fit, map_height, position_map
from mmneedle.reports.figures.measures import Datum
from mmneedle.reports.figures.sentences import About, Caption
from mmneedle.reports.figures.subjects import Source, Subject, settings_of, subjects
from mmneedle.reports.rows_csv import csv_text
from mmneedle.scoring import Scorer
from mmneedle.types import Setting

_PANELS = 4
"""Rows of panels on a page, at most."""


class Options(msgspec.Struct, frozen=True):
    """How figures are drawn."""

    width: float
    scorer: Scorer
    few: int


Chosen = Sequence[Subject]


class Plan(msgspec.Struct, frozen=True):
    """A kind of figure: what it is called and how it is made."""

    name: str
    title: str
    draw: Callable[[Chosen, Options], Figure]
    data: Callable[[Chosen, Sequence[Setting], Options], list[Datum]]
    caption: Callable[[About], Caption]
    most: Callable[[Chosen, Options], tuple[int, int]]
    """How many subjects, and how many settings, one figure holds."""
    beside: bool = False
    """Whether the paper's rows are on every page, beside so many runs."""
    by_needles: bool = False
    """Whether numbers of needles have figures of their own."""


def plans() -> list[Plan]:
    """All figures, in the order of the captions."""
    return [
        Plan(
            "accuracy",
            "Exact accuracy by model and setting",
            lambda c, o: accuracy_map(c, scorer=o.scorer, width=o.width, few=o.few),
            lambda c, s, o: measures.scores(c, s, "exact", o.scorer),
            captions.accuracy,
            lambda c, o: (_fitting(map_height), 21),
        ),
        Plan(
            "positions",
            "Needles found by row and column",
            lambda c, o: position_map(c, scorer=o.scorer, width=o.width, few=o.few),
            lambda c, s, o: measures.positions(_runs(c), s, "exact", o.scorer),
            captions.positions,
            lambda c, o: (columns_that_fit(o.width), 7),
        ),
        *map(_context, LENGTHS),
        *map(_depth, ("image", "cell")),
        Plan(
            "convergence",
            "Mean and standard error by number of samples",
            lambda c, o: convergence_curve(c, scorer=o.scorer, width=o.width),
            lambda c, s, o: measures.convergence(_runs(c), s, "exact", o.scorer),
            captions.convergence,
            _panels,
        ),
        Plan(
            "existence",
            "Sensitivity against false alarms",
            lambda c, o: existence_plane(c, scorer=o.scorer, width=o.width, few=o.few),
            lambda c, s, o: measures.existence(c, s, o.scorer),
            captions.plane,
            _panels,
            beside=True,
        ),
        Plan(
            "errors",
            "How questions end",
            lambda c, o: error_bars(c, scorer=o.scorer, width=o.width),
            lambda c, s, o: measures.endings(_runs(c), s, o.scorer),
            captions.errors,
            _bars,
        ),
        Plan(
            "false-alarms",
            "False alarms by haystack size",
            lambda c, o: false_alarms(c, scorer=o.scorer, width=o.width, few=o.few),
            lambda c, s, o: measures.alarms(c, s, o.scorer),
            lambda about: captions.lengths(about, "cells"),
            _multiples,
            by_needles=True,
        ),
        Plan(
            "calibration",
            "Reliability of existence",
            lambda c, o: calibration(c, scorer=o.scorer, width=o.width, few=o.few),
            lambda c, s, o: measures.reliability(_runs(c), s, o.scorer),
            captions.reliability,
            _panels,
        ),
    ]


def _context(by: Length) -> Plan:
    def data(chosen: Chosen, settings: Sequence[Setting], options: Options) -> list[Datum]:
        rows = measures.scores(chosen, settings, "exact", options.scorer)
        return [row for row in rows if row.at[by] is not None]

    return Plan(
        f"context-{by}",
        f"Exact accuracy by haystack length in {by}",
        lambda c, o: context_curve(c, by=by, scorer=o.scorer, width=o.width, few=o.few),
        data,
        lambda about: captions.lengths(about, by),
        _multiples,
        by_needles=True,
    )


def _depth(by: str) -> Plan:
    def draw(chosen: Chosen, options: Options) -> Figure:
        return depth_curve(
            chosen,
            by="image" if by == "image" else "cell",
            scorer=options.scorer,
            width=options.width,
            few=options.few,
        )

    def data(chosen: Chosen, settings: Sequence[Setting], options: Options) -> list[Datum]:
        wanted = [one for one in settings if (one.images if by == "image" else one.cells) > 1]
        return measures.depths(_runs(chosen), wanted, by, "exact", options.scorer)

    return Plan(
        f"depth-{by}",
        f"Needles found by {by}",
        draw,
        data,
        lambda about: captions.depth(about, by),
        _panels,
    )


def _runs(chosen: Chosen) -> list[Subject]:
    return [subject for subject in chosen if not subject.published]


def _panels(chosen: Chosen, options: Options) -> tuple[int, int]:
    return style.MOST_LINES, _PANELS * max(
        1, int((options.width - 0.2) // panel_width(options.width, len(chosen)))
    )


def _bars(chosen: Chosen, options: Options) -> tuple[int, int]:
    high = high_names(_runs(chosen), options.width)
    lines = _fitting(lambda count: bars_height(count, high=high))
    return lines - 3, max(1, lines // (len(_runs(chosen)) + 1))


def _multiples(chosen: Chosen, options: Options) -> tuple[int, int]:
    """Small panels that a page holds, one for each subject."""
    across = max(1, int((options.width - 0.2) // SMALL))
    high = (options.width - 0.25) / across * SMALL_ASPECT + SMALL_TITLE + 0.05
    return across * max(1, int((style.TALLEST - 0.8) // high)), 10**6


def _fitting(height: Callable[[int], float]) -> int:
    """Lines of a figure that is no higher than a page."""
    return max(lines for lines in range(1, 200) if height(lines) + 0.4 <= style.TALLEST)


# --------------------------------------------------------------------------- writing


def write_figures(
    runs: Source | Sequence[Source],
    out: Path | str,
    *,
    columns: int = 2,
    width: float | None = None,
    formats: Sequence[str] = ("pdf", "png"),
    published: bool = False,
    scorer: Scorer = "robust",
    few: int = style.FEW,
) -> list[Path]:
    """Write every figure that the runs have the data for, with CSV files and captions.

    What has more subjects or settings than a page
    holds goes on in further figures (NAME-2). What cannot be drawn is named in the captions.
    Other files of the folder are left alone. All are written, or none.

    Args:
        runs: folders, opened runs or subjects.
        out: the folder, made if need be.
        columns: 1 or 2: the width of the figures (3.25 or 6.75 in).
        width: in inches, instead.
        formats: of FORMATS.
        published: add the paper's rows.
        scorer: of runs.
        few: shares of fewer trials are pale or hatched.

    Returns:
        The files in the order they were written; captions last.

    Raises:
        UserError: a format, width or run that is none; nothing to draw at all; the folder cannot
            be written to.
    """
    options = Options(check(columns, width, formats), scorer, few)
    chosen = subjects(runs, published=published)
    out = Path(out)
    files: list[Path] = []
    shown: list[Shown] = []
    missing: list[tuple[str, str]] = []
    with together(out) as folder:
        for plan in plans():
            for name, part in _parts(plan, chosen, options):
                rows = plan.data(part, settings_of(part), options)
                try:
                    if rows and not any(row.share.n for row in rows):
                        raise nothing("no answer has come that counts here")
                    figure = plan.draw(part, options)
                except UserError as error:
                    missing.append((name, str(error)))
                    continue
                files += [
                    style.save(figure, folder / f"{name}.{form}", title=plan.title)
                    for form in formats
                ]
                flat = [row.flat() for row in rows]
                files.append(write_text(folder / f"{name}.csv", csv_text(flat)))
                told = {row.label for row in rows}
                about = About(
                    [s for s in part if s.label in told], rows, scorer, few, f"{name}.csv"
                )
                form = formats[0] if "pdf" not in formats else "pdf"
                wide = options.width > (style.COLUMNS[1] + style.COLUMNS[2]) / 2
                shown.append(Shown(name, form, wide, plan.caption(about)))
        if not shown:
            raise UserError("there is nothing to draw: the runs have no samples")
        files.append(write_text(folder / "captions.md", caption_files.markdown(shown, missing)))
        files.append(write_text(folder / "captions.tex", caption_files.latex(shown, missing)))
    return [out / file.name for file in files]


def check(columns: int, width: float | None, formats: Sequence[str]) -> float:
    """The width in inches. Raises UserError on what is none, and on formats that are none."""
    unknown = [form for form in formats if form not in style.FORMATS]
    if unknown or not formats:
        what = f"no figure format {unknown[0]!r}" if unknown else "no figure format"
        raise UserError(f"{what}: choose of {', '.join(style.FORMATS)}")
    if width is None and columns not in style.COLUMNS:
        raise UserError(f"figures span 1 or 2 columns, not {columns}")
    return style.check_width(style.COLUMNS[columns] if width is None else width)


def _parts(plan: Plan, chosen: Chosen, options: Options) -> Iterator[tuple[str, list[Subject]]]:
    """(file name, subjects with the settings of that figure) for each figure of a plan."""
    rows = plan.data(chosen, settings_of(chosen), options)
    if not rows:
        yield plan.name, list(chosen)  # drawing it will say why it cannot be
        return
    told = {row.setting for row in rows}
    known = [one for one in settings_of(chosen) if one in told]
    people = {row.label for row in rows}
    chosen = [subject for subject in chosen if subject.label in people]
    needles = sorted({one.needles for one in known})
    for count in needles if plan.by_needles else [0]:
        settings = [one for one in known if count in (0, one.needles)]
        name = plan.name if needles == [1] or not count else f"{plan.name}-k{count}"
        of_count = _narrow(chosen, settings)
        most, places = plan.most(of_count, options)
        pages = [
            _narrow(group, page)
            for page in _chunks(settings, places)
            for group in _groups(plan, of_count, most)
        ]
        for number, page in enumerate([page for page in pages if page], 1):
            yield (name if number == 1 else f"{name}-{number}"), page


def _groups(plan: Plan, chosen: Chosen, most: int) -> list[Sequence[Subject]]:
    """Subjects that share a page; see `Plan.beside`."""
    if not plan.beside or not (runs := _runs(chosen)):
        return _chunks(chosen, most)
    others = [subject for subject in chosen if subject.published]
    return [[*group, *others] for group in _chunks(runs, most)]


def _chunks(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Groups of like size, none larger than `most`."""
    count = -(-len(items) // max(1, most))
    ends = [len(items) * i // count for i in range(count + 1)] if count else []
    return [items[a:b] for a, b in pairwise(ends)]


def _narrow(chosen: Chosen, settings: Sequence[Setting]) -> list[Subject]:
    """Subjects with only these settings; those that have none of them are left out."""
    kept = []
    for subject in chosen:
        tables = {one: subject.tables[one] for one in settings if one in subject.tables}
        printed = {one: subject.printed[one] for one in settings if one in subject.printed}
        if tables or printed:
            kept.append(msgspec.structs.replace(subject, tables=tables, printed=printed))
    return kept


def write_text(path: Path, text: str) -> Path:
    """Write a text whole or not at all; its folder is made. Raises UserError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise unwritable(path, error) from None
    return path
