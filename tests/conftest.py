"""Settings of all tests."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import pytest
import typer.main
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

# The command line is put together once, not for each command of a test: ten times as fast.
typer.main.get_command = cache(typer.main.get_command)


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One authority for TLS: SDKs read their hundred anew for each client, half of its time.

    No test asks a server of this kind.
    """
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    path = tmp_path_factory.mktemp("authority") / "first.pem"
    path.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture
def mmneedle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, monkeypatch)
