"""The text tasks by name; each is one module, loaded when it is asked for."""

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
        raise UserError(f"no text task {task!r}; there are {', '.join(sorted(MAKERS))}")
    module = import_module(f"mmneedle.tasks.{task}")
    return cast(type[Maker], getattr(module, MAKERS[task]))


def maker_of(task: str, materials: Materials) -> Maker:
    """What makes a task's samples of these materials."""
    return maker_class(task)(materials)
