"""The page on texts in a real browser."""

from typing import TYPE_CHECKING

import pytest
from browser_pages import Opened
from text_runs import grid, says, write_text_run
from twin_runs import write_forms

from mmneedle.reports.textual.write import write_text_report
from mmneedle.types import Response, TextSetting

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
DEPTHS = tuple(range(0, 1001, 100))


def _answer(setting: TextSetting, index: int) -> Response:
    if setting.length > 65536:
        return Response(status="too_long", error="too long")
    lost = 250 <= setting.depth <= 750 and setting.length > 1024 and index % 3
    words = '</bdi><script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror=alert(2)>'
    return says(not lost, setting, words)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("text-page")
    runs = write_forms(folder, [(40, "lp"), (5, "l"), (10, ""), (145, "ilp")], [(20, "lp")])
    for model in ("test/model", "test/another-model-with-quite-a-long-name-2026-11"):
        name = model.rpartition("/")[2]
        settings = grid("niah", LENGTHS, DEPTHS, 3)
        runs.append(write_text_run(folder / name, _answer, settings, model=model))
    settings = grid("niah.keys8", LENGTHS[:3], DEPTHS[::5], 3, 4)
    runs.append(write_text_run(folder / "keys", _answer, settings, fingerprint="d" * 64))
    return write_text_report(runs, folder / "text.html").as_uri()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_it_is_readable_everywhere(browser: "Browser", address: str, width: int, scheme: str):
    opened = Opened(browser, address, width, scheme)
    opened.open_all()
    page = opened.page
    assert page.locator("table.heat").count() == 3
    assert page.locator("td.skipped").count() == 2 * len(DEPTHS)
    assert page.locator("#axis svg.lines").count() == 2
    assert "lost in the middle" in page.locator("#middle").inner_text()
    assert page.locator(".sample").count() > 4
    assert page.locator("#twins-1").count() == 1
    assert opened.sticks_out() == []
    assert opened.faults() == []
    assert (opened.said, opened.asked) == ([], [address])
    opened.close()


def test_what_the_style_sheet_draws_is_there(browser: "Browser", address: str):
    opened = Opened(browser, address, 1280)
    for mark in ("line", "bar", "chance"):
        stroke = opened.page.locator(f"svg.lines .{mark}").first
        assert stroke.evaluate("e => getComputedStyle(e).stroke") not in ("none", ""), mark
    fills = opened.page.locator("#axis svg.lines .spot").evaluate_all(
        "spots => [...new Set(spots.map(e => getComputedStyle(e).fill))]"
    )
    assert len(fills) == 5, "five tasks, five colours"
    shade = opened.page.locator("td.f10").first
    assert shade.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(253, 234, 69)"
    opened.close()


def test_it_prints_without_cutting(browser: "Browser", address: str):
    """At the width of a page of A4 nothing that is printed goes beyond it."""
    opened = Opened(browser, address, 760)
    opened.page.emulate_media(media="print")
    assert opened.page.locator("nav").is_hidden()
    rights = opened.page.evaluate(
        """() => [...document.querySelectorAll('main svg, main p, main table')]
            .filter(e => !e.closest('details'))
            .map(e => [e.outerHTML.slice(0, 160), e.getBoundingClientRect().right])
            .filter(one => one[1] > document.documentElement.clientWidth + 1)"""
    )
    assert rights == []
    opened.close()
