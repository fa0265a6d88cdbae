"""Settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings
from shell import Shell

# Machines are shared and noisy: no test fails for being slow.
settings.register_profile("mmneedle", deadline=None)
settings.load_profile("mmneedle")


@pytest.fixture
def mmneedle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)
