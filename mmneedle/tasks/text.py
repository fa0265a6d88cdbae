"""The text tasks by name; each is one module, loaded when it is asked for."""

from difflib import get_close_matches
from importlib import import_module
from typing import cast

from mmneedle.errors import UserError
from mmneedle.texts.making import Maker, Materials

MAKERS = {
    "keyvalue": "KeyValue",
    "latent": "Latent",
    "multidoc": "MultiDoc",
    "niah": "Niah",
    "passkey": "Passkey",
    "ruler": "Ruler",
}
"""Name of the task, and of its module here -> the class in it."""


def maker_class(task: str) -> type[Maker]:
    """The class that makes a task's samples. Raises UserError where there is no such task."""
    if task not in MAKERS:
        raise UserError(
            f"no text task {task!r}{_hint(task)}; there are {', '.join(sorted(MAKERS))}"
        )
    module = import_module(f"mmneedle.tasks.{task}")
    return cast(type[Maker], getattr(module, MAKERS[task]))


def _hint(task: str) -> str:
    """What somebody may have meant: another spelling, or a variant of ruler's."""
    from mmneedle.tasks.ruler import VARIANTS

    name = task.lower().replace("-", "_")
    if name in VARIANTS:
        return f" (a variant: ruler --variants {name})"
    near = get_close_matches(name.replace("_", ""), MAKERS, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def maker_of(task: str, materials: Materials) -> Maker:
    """What makes a task's samples of these materials."""
    return maker_class(task)(materials)
