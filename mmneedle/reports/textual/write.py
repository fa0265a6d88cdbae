"""The page on texts as one file: no network, nothing outside the file, no script at all."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.reports import page
from mmneedle.reports.glance import shades
from mmneedle.reports.textual.content import content
from mmneedle.reports.textual.examples import Shelf
from mmneedle.reports.textual.series import read
from mmneedle.runlog import Run


def write_text_report(
    runs: Sequence[Run],
    out: Path,
    *,
    threshold: float | None = None,
    datasets: Sequence[Path | str] = (),
) -> Path:
    """Write the page of text tasks, and of images and twins beside them, as one HTML file.

    Args:
        runs: opened; of text tasks, of images, of text twins, of one model or several.
        out: the file to write, whole or not at all.
        threshold: of effective lengths, 0..1; None: as published.
        datasets: folders of text data sets that are not where their runs saw them.

    Raises:
        UserError: no runs, or runs that ask one model the same samples twice; a folder in
            `datasets` that holds no text data set; `out` cannot be written.
    """
    out = Path(out)
    text = render(runs, threshold=threshold, datasets=datasets)
    return page.write(out, text)


def render(
    runs: Sequence[Run],
    *,
    threshold: float | None = None,
    datasets: Sequence[Path | str] = (),
) -> str:
    """The page as text. Made of the runs and their data sets: the same give the same page."""
    if not runs:
        raise UserError("a page needs at least one run")
    looks = ("theme.css", "report.css", "twins.css", "readers.css", "text.css")
    style = page.source(*looks) + Markup(shades())
    return (
        page.environment()
        .get_template("text.html.j2")
        .render(
            **content(read(runs, threshold), Shelf(datasets)),
            policy=page.policy(style),
            style=style,
            version=__version__,
        )
    )
