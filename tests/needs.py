"""What some tests need beyond Python, and the one place that says what happens without it.

Where a thing is missing a test is skipped with its reason; with MMNEEDLE_REQUIRE=all (as .ci/run
sets it) a missing thing is a failure, so that no skip hides one.
"""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _missing(reason: str) -> None:
    if os.environ.get("MMNEEDLE_REQUIRE") == "all":
        pytest.fail(f"required here, but {reason}")
    pytest.skip(reason)


def coco_mini() -> Path:
    """The folder of 79 COCO photos beside the checkout (MMNEEDLE_COCO_MINI names another)."""
    folder = Path(os.environ.get("MMNEEDLE_COCO_MINI", ROOT.parent / "shared" / "coco-mini"))
    if not (folder / "annotations" / "captions_val2017.json").is_file():
        _missing("no COCO photos: set MMNEEDLE_COCO_MINI to a folder in the 2017 layout")
    return folder


def published_results() -> Path:
    """The 1,215 published figures beside the checkout (MMNEEDLE_PUBLISHED names another file)."""
    default = ROOT.parent / "shared" / "facts" / "mmneedle_published_results.csv"
    path = Path(os.environ.get("MMNEEDLE_PUBLISHED", default))
    if not path.is_file():
        _missing("no source of the published figures: set MMNEEDLE_PUBLISHED to its CSV file")
    return path


def jpeg_tools() -> None:
    """jpegtran and djpeg of libjpeg-turbo (Debian: libjpeg-turbo-progs)."""
    if not (shutil.which("jpegtran") and shutil.which("djpeg")):
        _missing("jpegtran and djpeg are not installed (Debian: libjpeg-turbo-progs)")


def chromium() -> str:
    """The path of a Chromium that Playwright can drive (Debian: chromium)."""
    path = os.environ.get("MMNEEDLE_CHROMIUM") or shutil.which("chromium")
    if not path:
        _missing("no Chromium: install Debian's chromium or set MMNEEDLE_CHROMIUM")
    assert path
    return path


def mount() -> None:
    """Root that may mount a tmpfs, for disks that are full or read-only."""
    if os.geteuid() or not shutil.which("mount"):
        _missing("only root can mount a small disk")
