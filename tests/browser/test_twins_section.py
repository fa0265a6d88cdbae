"""The section on images and text twins in a real browser."""

from typing import TYPE_CHECKING

import pytest
from browser_pages import Opened
from twin_runs import write_forms

from mmneedle.reports.html import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("section")
    runs = write_forms(folder, [(40, "lp"), (5, "l"), (10, ""), (145, "ilp")], [(20, "lp")])
    return write_report(runs, folder / "report.html").as_uri()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_it_is_readable_everywhere(browser: "Browser", address: str, width: int, scheme: str):
    opened = Opened(browser, address, width, scheme)
    opened.open_all()
    section = opened.page.locator("#twins-1")
    assert "Most of the loss in images is sight: 40 of 55" in section.inner_text()
    assert section.locator("figure svg.figure").count() == 3
    assert section.locator("svg.lines .spot").count() == 3
    stroke = section.locator("svg.lines .bar").first.evaluate("e => getComputedStyle(e).stroke")
    assert stroke not in ("none", "")
    assert opened.sticks_out() == []
    assert opened.faults() == []
    assert opened.said == []
    opened.close()
