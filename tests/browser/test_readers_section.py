"""The section on retrieving and reading in a real browser."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from browser_pages import Opened
from reader_runs import read_two_ways

from mmneedle.reports.textual.write import write_text_report

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("readers")
    with ThreadPoolExecutor(1) as pool:  # the browser's event loop is this thread's
        runs = pool.submit(read_two_ways, folder).result()
    return write_text_report(runs, folder / "text.html").as_uri()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_it_is_readable_everywhere(browser: "Browser", address: str, width: int, scheme: str):
    opened = Opened(browser, address, width, scheme)
    opened.open_all()
    section = opened.page.locator("#readers")
    shown = section.inner_text()
    for told in ("Retrieving wins: niah at 4,096.", "The data cannot tell: niah at 2,048."):
        assert told in shown
    assert section.locator("svg.lines").count() == section.locator("svg.stacks").count() == 2
    assert section.locator("#reader-1 svg.lines .spot.l2").count() == 2, "recall at two lengths"
    for mark, what in (("svg.lines .line", "stroke"), ("svg.stacks .kind", "fill")):
        colours = section.locator(mark).evaluate_all(
            f"marks => marks.map(e => getComputedStyle(e).{what})"
        )
        assert colours and not {"none", "", "rgb(0, 0, 0)"} & set(colours), mark
    for figure in section.locator("svg.figure").all():
        assert len(figure.get_attribute("aria-label") or "") > 60
    assert section.locator("tr.retrieve td.better").first.inner_text() == "retrieving"
    assert opened.sticks_out() == []
    assert opened.faults() == []
    assert (opened.said, opened.asked) == ([], [address])
    opened.close()


def test_it_is_reached_by_its_link_and_prints_without_cutting(browser: "Browser", address: str):
    opened = Opened(browser, address, 760)
    opened.page.locator("nav a[href='#readers']").click()
    assert opened.page.url.endswith("#readers")
    opened.page.emulate_media(media="print")
    rights = opened.page.locator("#readers svg, #readers p, #readers table").evaluate_all(
        """all => all.filter(e => !e.closest('details'))
            .map(e => [e.outerHTML.slice(0, 160), e.getBoundingClientRect().right])
            .filter(one => one[1] > document.documentElement.clientWidth + 1)"""
    )
    assert rights == []
    opened.close()
