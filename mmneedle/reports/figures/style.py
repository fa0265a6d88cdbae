"""The look of the figures, in one place: sizes, colours, type, names, and files.

Nothing here touches matplotlib's global state: styles hold within `styled()`, and files are
written by the figure's own canvas, whatever backend the user has.
"""

import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import style as mpl_style
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from mmneedle import __version__
from mmneedle.errors import UserError
from mmneedle.files import unwritable, write_whole
from mmneedle.reports.svg import luminance
from mmneedle.reports.words import hidden

COLUMNS = {1: 3.25, 2: 6.75}
"""Inches of one and of two columns, as conferences in computing have them."""
TALLEST = 8.5
"""Inches of a figure, at most: a page's text with its caption."""
WIDTHS = (2.0, 20.0)
"""Inches that `check_width` lets pass."""
FORMATS = ("pdf", "png", "svg")
DPI = 300
SIZE = 7.0
"""Points of the smallest text, at print size."""
_FINE = 1000  # dots an inch at which type is measured: no rounding to pixels
FEW = 5
"""A share of fewer trials is drawn pale or hatched."""
MOST_LINES = 6
"""Subjects in one panel: as many as colours and markers keep apart."""

# Okabe and Ito, "Color Universal Design" (2008); ordered so that neighbours differ in grey too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "h", "*")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (4, 1, 1, 1)), (0, (1, 1)), (0, (6, 1)), "-")
OTHERS = "#c4c4c4"
"""Subjects in the background."""
QUIET = "#595959"
"""Lines and words that explain: chance, notes."""
MAP = "cividis"
"""Nuñez, Anderton, Renslow, PLoS ONE 13 (2018): the same with and without red-green vision."""

_STYLE: Mapping[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs everywhere
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE + 0.5,
    "xtick.labelsize": SIZE,
    "ytick.labelsize": SIZE,
    "legend.fontsize": SIZE,
    "legend.title_fontsize": SIZE,
    "axes.titlepad": 3.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.6,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "savefig.bbox": "standard",  # the page is exactly as wide as asked
    "pdf.fonttype": 42,  # TrueType: editable, and what publishers take
    "pdf.compression": 6,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "mmneedle",
    "text.parse_math": False,  # a model's name may hold $ and _
    "text.usetex": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults and this module's style, whatever the user has set, for a while."""
    with mpl_style.context(["default", dict(_STYLE)]):
        yield


def check_width(width: float) -> float:
    """A figure's width in inches. Raises UserError on one that no page has."""
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise UserError(
            f"figures are between {WIDTHS[0]:g} and {WIDTHS[1]:g} inches wide, not {width:g}"
        )
    return width


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, laid out when it is drawn."""
    return Figure(figsize=(check_width(width), height), layout="constrained")


# --------------------------------------------------------------------------- names


def shown(name: str) -> str:
    """Somebody's name on one line, as it is; what has no glyph is spelled out: [U+4E00]."""
    name = " ".join(unicodedata.normalize("NFC", name).split())
    known = _glyphs()
    return "".join(c if ord(c) in known and not hidden(c) else f"[U+{ord(c):04X}]" for c in name)


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(_font().get_charmap())


@cache
def _font() -> FT2Font:
    font = FT2Font(findfont(FontProperties(family="DejaVu Sans")))
    font.set_size(SIZE, _FINE)
    return font


@lru_cache(maxsize=1 << 14)
def text_width(text: str, size: float = SIZE) -> float:
    """Inches that a line of text takes."""
    font = _font()
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / _FINE * size / SIZE


def fit(name: str, width: float, size: float = SIZE) -> str:
    """A name cut in the middle so that it is no wider than `width` inches."""
    if text_width(name, size) <= width:
        return name
    for keep in range(len(name) - 1, 1, -1):
        cut = f"{name[: (keep + 1) // 2]}…{name[len(name) - keep // 2 :]}"
        if text_width(cut, size) <= width:
            return cut
    return "…"


def fitted(names: Sequence[str], width: float, lines: int = 1) -> dict[str, str]:
    """Names made to fit into `width` inches and so many lines, all still different."""
    done: dict[str, str] = {}
    for name in names:
        text = wrapped(shown(name), width, lines)
        number = 1
        while text in done.values():
            number += 1
            mark = f" #{number}"
            text = wrapped(shown(name), width - text_width(mark), lines) + mark
        done[name] = text
    return done


def wrapped(name: str, width: float, lines: int) -> str:
    """A name over at most `lines` lines, broken after signs where it can be, cut if it must be."""
    rows: list[str] = []
    rest = name
    while rest and len(rows) < lines - 1 and text_width(rest) > width:
        fits = max((n for n in range(1, len(rest)) if text_width(rest[:n]) <= width), default=1)
        end = _break(rest, fits)
        rows.append(rest[:end].strip())
        rest = rest[end:].strip()
    return "\n".join([*rows, fit(rest, width)] if rest else rows)


def _break(text: str, fits: int) -> int:
    """Where a line of at most `fits` characters ends: after a sign, best not between a name and its
    value, and within a number only where nothing else is left."""
    signs = [n for n in range(1, fits + 1) if not text[n - 1].isalnum() and not _in_number(text, n)]
    for breaks in ([n for n in signs if text[n - 1] != "="], signs):
        if breaks and 2 * breaks[-1] >= fits:
            return breaks[-1]
    whole = [n for n in range(1, fits + 1) if not _in_number(text, n)]
    return whole[-1] if whole else fits


def _in_number(text: str, at: int) -> bool:
    """Whether a break before this character would cut a number, such as 0.8."""
    sign = ".,"
    before, after = text[at - 1 : at], text[at : at + 1]
    if before in sign:
        before = text[at - 2 : at - 1] if at > 1 else ""
    if after and after in sign:
        after = text[at + 1 : at + 2]
    return before.isdigit() and after.isdigit()


def plain(text: Text) -> Text:
    """Show a text as it is, even in a figure whose owner has TeX or mathtext on."""
    text.set_parse_math(False)
    text.set_usetex(False)
    return text


def ink(colour: tuple[float, ...]) -> str:
    """Black or white, whichever is read on a colour (red, green, blue in 0..1)."""
    code = "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])
    return "black" if luminance(code) > 0.2 else "white"


# --------------------------------------------------------------------------- files


def save(figure: Figure, path: Path | str, *, title: str = "") -> Path:
    """Write a figure as PDF, PNG or SVG, by the name's ending: same figure, same bytes.

    Fonts are embedded as TrueType (PDF), a PNG has 300 dots an inch. The page has the figure's
    size. Raises UserError on another ending, or where the file cannot be written.
    """
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UserError(f"{path}: figures are written as {', '.join(FORMATS)}")
    content = io.BytesIO()
    with styled():
        small: dict[str, Any] = {"pil_kwargs": {"optimize": True}} if form == "png" else {}
        figure.savefig(content, format=form, metadata=_metadata(form, title), **small)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.getvalue())
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _metadata(form: str, title: str) -> dict[str, Any]:
    """Title and maker; no date, so that the same input gives the same file."""
    maker = f"mmneedle {__version__}, matplotlib {mpl.__version__}"
    if form == "pdf":
        return {"Title": title, "Creator": maker, "CreationDate": None}
    if form == "png":
        return {"Title": title, "Software": maker}
    return {"Title": title, "Creator": maker, "Date": None}
