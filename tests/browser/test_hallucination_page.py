"""The hallucination section in a real browser."""

from typing import TYPE_CHECKING

import pytest
from browser_pages import Opened
from hallucination_models import EIGHT, FOUR, swapper
from report_runs import write_run

from mmneedle.reports.html import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("section")
    run = write_run(folder / "run", swapper, {FOUR: 200, EIGHT: 200})
    return write_report([run], folder / "report.html").as_uri()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_it_is_readable_everywhere(browser: "Browser", address: str, width: int, scheme: str):
    opened = Opened(browser, address, width, scheme)
    opened.open_all()
    assert opened.page.locator(".findings .leads li").count() == 3
    assert opened.page.locator(".findings figure svg").count() == 7
    assert opened.sticks_out() == []
    assert [fault for fault in opened.faults() if "finding" in fault] == []
    assert opened.said == []
    opened.close()


def test_figures_carry_their_marks(browser: "Browser", address: str):
    """What the style sheet draws is there: chance, intervals, the paper's models."""
    opened = Opened(browser, address, 1280)
    for mark in ("chance", "whisker", "dot", "published", "trace"):
        shown = opened.page.locator(f".findings svg .{mark}").first
        stroke = shown.evaluate("e => getComputedStyle(e).stroke")
        assert stroke not in ("none", ""), mark
    opened.close()
