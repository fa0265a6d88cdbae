"""What stands between a data set and a model, told before anything is asked.

A documented hard limit is an error with the way out; shrinking that nobody announces is a warning
with the pixels a cell that are left. The figures go into the run's header, for reports.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mmneedle.adapters.limits import Book, Limits, effective_cell, key_of, violations
from mmneedle.adapters.sight import Sight
from mmneedle.errors import UserError
from mmneedle.reports.words import label
from mmneedle.runlog import pixels
from mmneedle.types import AnySetting, Needs, Setting

See = Callable[[Needs], Sight]
"""What requests are like -> an image as the model gets it."""


class View(msgspec.Struct, frozen=True):
    """One setting as a model sees it."""

    needs: Needs
    sight: Sight
    """An image as the model gets it."""
    cell: tuple[int, int] | None
    """Width and height in pixels of a cell as the model gets it; None: not documented."""
    fault: str
    """What the provider would refuse; empty where nothing is known to fail."""

    @property
    def setting(self) -> AnySetting:
        """Whose view it is."""
        return self.needs.setting

    @property
    def sent(self) -> tuple[int, int]:
        """Width and height in pixels of a cell as it is sent."""
        shape = self.needs.sent
        if not isinstance(shape, Setting):
            return 0, 0
        return self.needs.width // shape.cols, self.needs.height // shape.rows

    @property
    def shrunk(self) -> bool:
        """Whether a cell loses more than the rounding to a processor's units takes."""
        if self.cell is None:
            return False
        return any(now < 0.97 * sent for now, sent in zip(self.cell, self.sent, strict=True))


class Preflight(msgspec.Struct, frozen=True):
    """A data set's settings as a model sees them."""

    model: str
    key: str
    """What the model is looked up as."""
    limits: Limits
    sources: list[str]
    """Where its limits stand."""
    rule_source: str | None
    """Where its rule for images stands."""
    detail: str | None
    """The level of detail asked for."""
    views: list[View]

    @property
    def effective_cells(self) -> dict[str, tuple[int, int] | None]:
        """AnySetting name -> pixels a cell, for a run's header; none for text."""
        return {view.setting.name: view.cell for view in self.views if view.needs.images}

    @property
    def image_tokens(self) -> dict[AnySetting, int | None]:
        """Tokens an image by the provider's rule."""
        return {view.setting: view.sight.tokens for view in self.views}

    def check(self) -> None:
        """See that nothing is documented to be refused. Raises UserError with the way out."""
        faults = [f"{view.setting.name} has {view.fault}" for view in self.views if view.fault]
        if not faults:
            return
        more = f" (and {len(faults) - 1} more settings)" if len(faults) > 1 else ""
        raise UserError(
            f"{self.model}: {faults[0]}{more} ({'; '.join(self.sources)}); leave those settings "
            "out with --settings, take fewer images or smaller cells, send smaller ones with "
            "--resize, or go on all the same with --force"
        )

    def advice(self) -> str | None:
        """One line on a level of detail that had better be asked for; None where it is clear."""
        levels = self.limits.undecided(self.detail)
        if not levels or all(view.cell for view in self.views if view.needs.images):
            return None
        return (
            f"{self.model}: which detail it takes by itself is not documented, so effective "
            f"pixels are unknown: ask for --detail {' or '.join(levels)}"
        )

    def warning(self) -> str | None:
        """One line on images that are shrunk unsaid; None where none is."""
        shrunk = [view for view in self.views if view.shrunk]
        if not shrunk:
            return None
        left = dict.fromkeys(f"{pixels(view.cell)} at {_named(view.setting)}" for view in shrunk)
        facts = "; ".join(filter(None, (self.rule_source, self.limits.note)))
        return (
            f"{self.model}: images are shrunk before the model sees them: of cells of "
            f"{pixels(shrunk[0].sent)} px there are left {', '.join(left)} "
            f"({facts})".removesuffix(" ()")
        )


def preflight(
    model: str,
    needs: Sequence[Needs],
    fingerprint: Mapping[str, Any],
    book: Book,
    see: See | None = None,
) -> Preflight:
    """Compare what requests need with what is documented of a model.

    Args:
        model: the model string.
        needs: of every setting that is to be asked.
        fingerprint: the adapter's: its `base_url`, `detail` and `max_tokens` count.
        book: limits of all models.
        see: what the model makes of an image, where the adapter itself knows.
    """
    key = key_of(model, fingerprint)
    limits, detail = book.of(key), fingerprint.get("detail")
    if see is None:
        see = _checkpoint_sight(key, needs, fingerprint)
    views = []
    for one in needs:
        sight = _sight(one, limits, detail, see)
        fault = violations(limits, one, sight, int(fingerprint.get("max_tokens") or 0), detail)
        shape = one.sent
        cell = None
        if isinstance(shape, Setting) and one.images:
            cell = effective_cell(shape, sight)
        views.append(View(one, sight, cell, fault))
    return Preflight(model, key, limits, book.sources(key), book.rule_source(key), detail, views)


def _named(setting: AnySetting) -> str:
    return label(setting) if isinstance(setting, Setting) else setting.name


def _sight(needs: Needs, limits: Limits, detail: str | None, see: See | None) -> Sight:
    if not needs.images:
        return Sight(None, None, 0)
    return see(needs) if see else limits.see(needs.width, needs.height, detail)


def _checkpoint_sight(
    key: str, needs: Sequence[Needs], fingerprint: Mapping[str, Any]
) -> See | None:
    """By a local checkpoint's own processor, its limits lifted as the adapters lift them.

    None where the model is no local folder. Raises UserError for a damaged one.
    """
    provider, _, name = key.partition("/")
    if provider not in ("hf", "vllm") or not needs:
        return None
    if name != "tiny" and not Path(name).expanduser().is_dir():
        return None
    from mmneedle.adapters.checkpoints import Checkpoint

    if not any(one.images for one in needs):
        return None
    largest = max(needs, key=lambda one: one.width * one.height)
    given = fingerprint.get("engine_args") or {}
    rule = Checkpoint.open(name).images.fitted(largest.width, largest.height, given)
    return lambda one: rule.sight(one.width, one.height)
