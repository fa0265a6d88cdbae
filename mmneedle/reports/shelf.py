"""The data sets of runs, for pages that show captions and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmneedle.errors import UserError
from mmneedle.reports.words import short
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet


class Shelf:
    """The data sets of runs, opened once each; a word on those that are not to be had."""

    def __init__(
        self,
        folders: Sequence[Path | str],
        runs: Sequence[Run],
        written: Callable[[Path | str], str] = str,
    ) -> None:
        """Raises UserError for a folder whose data set is of none of the runs.

        `written` tells how lines on missing data sets name a folder.
        """
        self.written = written
        self.found: dict[str, DataSet] = {}
        self.folders = tuple(folders)
        wanted = sorted({run.header.dataset_fingerprint for run in runs})
        for folder in folders:
            dataset = DataSet.open(folder)
            if dataset.fingerprint not in wanted:
                raise UserError(
                    f"{folder}: its data set (fingerprint {short(dataset.fingerprint)}) is not "
                    f"that of a run here ({', '.join(map(short, wanted))})"
                )
            self.found[dataset.fingerprint] = dataset

    def missing(self, runs: Sequence[Run]) -> list[str]:
        """A line on each data set that is not to be had."""
        lines = [self.dataset(run)[1] for run in runs]
        return list(dict.fromkeys(line for line in lines if line))

    def dataset(self, run: Run) -> tuple[DataSet | None, str | None]:
        """The run's data set, or why it cannot be shown."""
        mark, path = run.header.dataset_fingerprint, str(run.header.dataset_path)
        if mark not in self.found:
            try:
                dataset = DataSet.open(path)
            except (UserError, OSError):
                return None, (
                    f"There is no data set at {self.written(path)} now, so captions and pictures "
                    "are missing."
                )
            if dataset.fingerprint != mark:
                return None, (
                    f"The data set at {self.written(path)} is another one now (its fingerprint is "
                    f"{short(dataset.fingerprint)}), so captions and pictures are missing."
                )
            self.found[mark] = dataset
        return self.found[mark], None
