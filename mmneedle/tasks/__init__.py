"""Tasks: one module each, turning samples into requests."""

from typing import TYPE_CHECKING

from mmneedle.errors import UserError
from mmneedle.tasks.grid import GridTask
from mmneedle.tasks.twins import GRADES, TwinTask

if TYPE_CHECKING:
    from mmneedle.stitching.dataset import DataSet

TASKS = (GridTask.name, *(f"twin-{grade}" for grade in GRADES))
"""What a data set of images can be asked by."""


def open_task(
    name: str, dataset: "DataSet", resize: tuple[int, int] | None = None
) -> GridTask | TwinTask:
    """A task of a data set by its name.

    Args:
        name: one of TASKS.
        dataset: whose samples are asked.
        resize: width and height in pixels that cells are shrunk to; images only.

    Raises:
        UserError: no such task; it cannot be asked of this data set.
    """
    if name == GridTask.name:
        return GridTask(dataset, resize)
    for grade in GRADES:
        if name == f"twin-{grade}":
            if resize is not None:
                raise UserError(f"--resize is about images, and {name} has none")
            return TwinTask(dataset, grade)
    raise UserError(f"no task {name!r}; there are {', '.join(TASKS)}")
