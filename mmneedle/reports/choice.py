"""Which rows of a leaderboard are shown, and in what order."""

import fnmatch
import re
from collections.abc import Iterable, Sequence

import msgspec

from mmneedle import arguments
from mmneedle.errors import UserError
from mmneedle.reports.entries import Entry
from mmneedle.reports.words import many, typed
from mmneedle.types import Setting

Shape = tuple[int, int, int]
"""Images, rows and columns."""


class Choice(msgspec.Struct, frozen=True):
    """What a reader asks for."""

    shapes: tuple[Shape, ...] | None = None
    """Only these settings; None: all."""
    needles: tuple[int, ...] | None = None
    scorer: str | None = None
    """Only this scorer of runs; the paper's figures are its own scorer's."""
    models: str | None = None
    """Only models, or runs, whose name holds this text; with * or ? it is a pattern for all of
    the name. Upper and lower case are the same."""
    sort: str | Shape = "exact"
    """By mean "exact" accuracy, by mean Youden's J ("youden"), or by exact accuracy at a
    setting."""

    @classmethod
    def read(
        cls,
        settings: str | None = None,
        needles: str | None = None,
        scorer: str | None = None,
        models: str | None = None,
        sort: str | None = None,
    ) -> "Choice":
        """Read what people type. Raises UserError, which says what was expected."""
        return cls(
            shapes=arguments.shapes(settings) if settings else None,
            needles=arguments.whole_numbers(needles, "--needles") if needles else None,
            scorer=scorer,
            models=models or None,
            sort=_sort(sort or "exact"),
        )

    def keeps_setting(self, setting: Setting) -> bool:
        """Whether a setting is asked for."""
        shape = (setting.images, setting.rows, setting.cols)
        return (self.shapes is None or shape in self.shapes) and (
            self.needles is None or setting.needles in self.needles
        )

    def keeps_model(self, *names: str | None) -> bool:
        """Whether a model, or its run, is asked for by one of these names."""
        if self.models is None:
            return True
        wanted = self.models.lower()
        if not re.search(r"[*?\[]", wanted):
            wanted = f"*{wanted}*"
        return any(fnmatch.fnmatchcase(name.lower(), wanted) for name in names if name)

    def keep(self, entries: Iterable[Entry]) -> list[Entry]:
        """The rows asked for, in their order. Raises UserError where none is."""
        entries = list(entries)
        kept = [
            entry
            for entry in entries
            if self.keeps_setting(entry.setting)
            and self.keeps_model(entry.model, entry.run)
            and (self.scorer in (None, entry.scorer) or entry.origin == "published")
        ]
        if entries and not kept:
            raise UserError(f"no row is left: {self._why(entries)}")
        self._check_sort(kept)
        return kept

    def _check_sort(self, kept: Sequence[Entry]) -> None:
        """See that rows can be sorted by the setting that is named."""
        beside_runs = {entry.setting.needles for entry in kept if entry.run is not None}
        shown = [entry for entry in kept if not beside_runs or entry.setting.needles in beside_runs]
        have = {at: typed(at) for at in sorted({entry.setting for entry in shown})}
        shapes = {(at.images, at.rows, at.cols) for at in have}
        if kept and isinstance(self.sort, tuple) and self.sort not in shapes:
            raise UserError(
                f"--sort {typed(Setting(*self.sort))}: no table has this setting; there are "
                f"{', '.join(dict.fromkeys(have.values()))}"
            )

    def _why(self, entries: Sequence[Entry]) -> str:
        if not any(self.keeps_model(entry.model, entry.run) for entry in entries):
            names = sorted({entry.model for entry in entries})
            return f"no model is named {self.models!r}; there are {', '.join(names[:12])}"
        settings = sorted({entry.setting for entry in entries})
        have = ", ".join(
            f"{typed(setting)} with {many(setting.needles, 'needle')}" for setting in settings[:12]
        )
        return f"the settings are {have}"


def _sort(text: str) -> str | Shape:
    if text in ("exact", "youden"):
        return text
    try:
        (shape,) = arguments.shapes(text)
    except (UserError, ValueError):
        raise UserError(
            f"--sort takes exact, youden or a setting such as 10x8, not {text!r}"
        ) from None
    return shape
