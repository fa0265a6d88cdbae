"""Settings of all tests."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from shell import Shell

# Machines are shared and noisy: no test fails for being slow.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same examples every time: what fails, fails for everybody and because of a change.
settings.register_profile("mmneedle", derandomize=True, database=None, max_examples=100, **_PATIENT)
# Fresh examples every time, and five times as many (make test-random).
settings.register_profile(
    "random", derandomize=False, database=None, max_examples=500, print_blob=True, **_PATIENT
)
settings.load_profile("mmneedle")


@pytest.fixture
def mmneedle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)
