"""Figures for papers: drawn with matplotlib, as vector files of an exact width, with their data.

Every function takes runs (folders, or opened ones) and returns a matplotlib Figure; most draw
into an `ax` of yours instead. `write_figures` makes all of them with captions and CSV.

    from mmneedle.reports.figures import depth_curve, save
    figure = depth_curve(["runs/a", "runs/b"], by="image", width=3.25)
    save(figure, "depth.pdf")
"""

from mmneedle.errors import UserError

try:
    import matplotlib as _matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "matplotlib":
        raise
    raise UserError(
        "figures are drawn with matplotlib, which is not installed; it comes with the extra "
        "figures: pip install 'mmneedle[figures]'"
    ) from None

from mmneedle.reports.figures.curves import (
    context_curve,
    convergence_curve,
    depth_curve,
    false_alarms,
)
from mmneedle.reports.figures.existence import calibration, error_bars, existence_plane
from mmneedle.reports.figures.maps import accuracy_map, position_map
from mmneedle.reports.figures.style import COLUMNS, FORMATS, save
from mmneedle.reports.figures.subjects import Subject, subjects
from mmneedle.reports.figures.write import write_figures

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Subject",
    "accuracy_map",
    "calibration",
    "context_curve",
    "convergence_curve",
    "depth_curve",
    "error_bars",
    "existence_plane",
    "false_alarms",
    "position_map",
    "save",
    "subjects",
    "write_figures",
]
