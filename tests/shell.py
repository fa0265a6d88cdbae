"""The command line as a user types it, run in this process."""

import sys
from typing import NamedTuple

import pytest

from mmneedle import cli


class Done(NamedTuple):
    status: int
    out: str
    err: str


class Shell:
    """Runs the command line in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *words: object) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["mmneedle", *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        out, err = self.capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        if "stopped by hand" in out:  # a run in this process has taken pytest's own signal
            raise KeyboardInterrupt
        return Done(leaving.value.code, out, err)

    def ok(self, *words: object) -> str:
        done = self(*words)
        assert done.status == 0, done.out + done.err
        return done.out

    def refused(self, *words: object) -> str:
        """The one line on stderr of a command that ends with status 2."""
        done = self(*words)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("mmneedle: ")
        assert done.err.count("\n") == 1
        return done.err


def build(mmneedle: Shell, folder: str = "set", *more: object) -> str:
    shapes = ("--source", "shapes", "--scenes", 60, "--cell", 64)
    return mmneedle.ok("build", folder, *shapes, "--settings", "1x2,2x2x3", "--samples", 8, *more)
