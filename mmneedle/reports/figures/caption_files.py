"""Captions as files: captions.md to read, captions.tex to put into a paper."""

from collections.abc import Sequence

import msgspec

from mmneedle.reports import tex
from mmneedle.reports.figures.sentences import Caption
from mmneedle.reports.words import escape


class Shown(msgspec.Struct, frozen=True):
    """A figure that was written, as the caption files list it."""

    file: str
    """Name without its ending."""
    form: str
    """The ending that LaTeX includes."""
    wide: bool
    """Whether it spans two columns."""
    caption: Caption


def markdown(shown: Sequence[Shown], missing: Sequence[tuple[str, str]]) -> str:
    """captions.md: each figure with its caption and its text alternative."""
    parts = ["# Captions\n"]
    for one in shown:
        parts.append(
            f"## {one.file}\n\n{escape(one.caption.text)}\n\n"
            f"Text alternative: {escape(one.caption.alt)}\n"
        )
    if missing:
        parts.append("## Not drawn\n")
        parts.append("\n".join(f"- {what}: {escape(why)}" for what, why in missing) + "\n")
    return "\n".join(parts)


def latex(shown: Sequence[Shown], missing: Sequence[tuple[str, str]]) -> str:
    """captions.tex: a float for each figure, ready to be put into a paper."""
    parts = ["% Needs \\usepackage{graphicx}. Take what you need; every number is computed.\n"]
    for one in shown:
        kind = "figure*" if one.wide else "figure"
        size = "\\textwidth" if one.wide else "\\columnwidth"
        parts.append(
            f"\\begin{{{kind}}}\n  \\centering\n"
            f"  \\includegraphics[width={size},alt={{{tex.escape(one.caption.alt)}}}]"
            f"{{{one.file}.{one.form}}}\n"
            f"  \\caption{{{tex.escape(one.caption.text)}}}\n  \\label{{fig:{one.file}}}\n"
            f"\\end{{{kind}}}\n"
        )
    parts += [f"% Not drawn: {what}: {tex.escape(why)}\n" for what, why in missing]
    return "\n".join(parts)
