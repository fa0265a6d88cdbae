"""The report page in a real browser: Chromium from the system, driven by Playwright."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_pages import Opened
from report_runs import Answer, Truth, always_first, always_right, ok, text, write_run

from mmneedle.data.shapes import ShapesSource
from mmneedle.reports.html import write_report
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Response, Setting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

SHAPES = (Setting(1, 2, 2), Setting(1, 8, 8), Setting(3, 2, 2), Setting(3, 2, 2, 2))
HOSTILE = (
    "<script>document.title = 'owned'; window.owned = 1</script>",
    '<img src=x onerror="window.owned = 1">',
    "</pre></details></section><h1>owned</h1><style>body { display: none }</style>",
    '<a href="javascript:window.owned = 1">1, 1, 1</a> javascript:window.owned=1',
    '"><svg onload="window.owned = 1">',
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><base href='http://127.0.0.1:9/'>",
    "1, 1, \u202e1\u202c \u2066\u200b\u200f",
    "W" * 10_000_000,
)


def parrot(words: str) -> Answer:
    """A model that answers nothing but these words, in every field that it can choose."""
    response = Response(status="ok", text=words, reasoning=words, error=words[:1000])
    return lambda setting, index, truth: response


def mixed(setting: Setting, index: int, truth: Truth) -> Response:
    if index % 5 == 0:
        return Response(status="timeout", error="no reply within 120 s")
    return ok("1, 1, 2" if index % 3 else text(truth))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("browser") / "data"
    tiles = TileFormat(64, 64)
    return build(folder, ShapesSource(100), dict.fromkeys(SHAPES, 24), tiles=tiles, workers=1)


@pytest.fixture(scope="module")
def report(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three models, and of one more for each hostile answer."""
    base = tmp_path_factory.mktemp("runs")
    counts = dict.fromkeys(SHAPES, 24)
    models = {
        "vendor/a-model-with-a-name-that-is-much-longer-than-any-column-2026-11-22": mixed,
        "baseline/oracle": always_right,
        "baseline/first": always_first,
    }
    runs = [
        write_run(base / f"run-{i}", answer, counts, model=model, dataset=dataset)
        for i, (model, answer) in enumerate(models.items())
    ]
    runs += [
        write_run(
            base / f"evil-{i}",
            parrot(words),
            {SHAPES[0]: 2},
            model=f"evil/{words[:100]}",
            dataset=dataset,
        )
        for i, words in enumerate(HOSTILE)
    ]
    return write_report(runs, base / "report.html")


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def opened(request: Any, browser: "Browser", report: Path) -> Iterator[Opened]:
    opened = Opened(browser, report.as_uri(), *request.param)
    yield opened
    opened.page.close()


def test_it_opens_in_silence_and_asks_for_nothing(opened: Opened, report: Path) -> None:
    opened.open_all()
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:image/jpeg")] == [
        report.as_uri()
    ]


def test_nothing_sticks_out_sideways(opened: Opened) -> None:
    opened.open_all()
    page = opened.page
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # only a table's own container scrolls: nothing else is wider than its box, and none is clipped
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *:not(.scroll):not(.scroll *)')]
            .filter(e => !e.closest('svg') && getComputedStyle(e).display !== 'none')
            .filter(e => !e.matches('.skip, .skip *, .brief, .brief *, pre, pre *'))
            .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert wide == []


def test_score_tables_fit_a_wide_window(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    cut = opened.page.evaluate(
        """() => [...document.querySelectorAll('.scroll:has(.scores)')]
            .filter(e => e.scrollWidth > e.clientWidth).length"""
    )
    assert cut == 0
    opened.page.close()


def test_names_break_between_their_parts_on_a_phone(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 390)
    lines = opened.page.evaluate(
        """() => {
            const head = [...document.querySelectorAll('.models th[scope=row]')]
                .find(e => e.textContent === 'baseline/oracle');
            const tops = [...head.childNodes].filter(n => n.nodeType === 3).map(n => {
                const range = document.createRange();
                range.selectNodeContents(n);
                return range.getClientRects().length;
            });
            return tops;
        }"""
    )
    assert lines == [1, 1]  # "baseline/" and "oracle", each in one piece
    opened.page.close()


def test_pictures_stand_close_together(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    opened.open_all()
    gaps = opened.page.evaluate(
        """() => [...document.querySelectorAll('.shots')].flatMap(shots => {
            const boxes = [...shots.querySelectorAll('figure')].map(e => e.getBoundingClientRect());
            return boxes.slice(1).map((box, i) => box.top - boxes[i].bottom);
        })"""
    )
    assert gaps
    assert max(gaps) < 40
    opened.page.close()


def test_hostile_words_do_nothing(opened: Opened) -> None:
    opened.open_all()
    page = opened.page
    assert page.evaluate("window.owned") is None
    assert page.title() == f"{3 + len(HOSTILE)} models compared – mmneedle report"
    assert page.locator("h1").count() == 1
    assert page.locator("script, iframe, img, link, base, form").count() == 0
    assert page.locator("a:not([href^='#'])").count() == 0
    assert page.get_by_text("U+202E").first.is_visible()
    assert page.get_by_text("has 10,000,000 characters").first.is_visible()
    answers = "".join(page.locator("pre").all_inner_texts())
    for words in HOSTILE[:6]:
        assert words in answers


def test_a_script_could_not_run_even_if_it_got_in(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    opened.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.owned = 1';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/leak.png';
            document.body.append(image);
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.owned") is None
    assert len([line for line in opened.said if "Content Security Policy" in line]) == 2
    opened.page.close()


def test_the_style_is_applied(opened: Opened) -> None:
    style = "getComputedStyle(document.querySelector('.card')).borderTopLeftRadius"
    assert opened.page.evaluate(style) in ("14px", "12px")


def test_the_gallery_opens_with_the_keyboard(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.sample:not([open]) > summary')"):
            break
    else:
        pytest.fail("no closed sample could be reached with the Tab key")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.evaluate(
        "document.activeElement.parentElement.querySelector('pre').getBoundingClientRect().height"
    )
    page.keyboard.press("Space")
    assert not page.evaluate("document.activeElement.parentElement.open")
    page.close()


def test_pictures_are_drawn_with_their_frames(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    page = opened.page
    shot = page.locator(".sample[open] .shot").first
    shot.scroll_into_view_if_needed()
    box = shot.bounding_box()
    assert box
    assert box["width"] > 150
    assert abs(box["width"] - box["height"]) < 2
    plain = len(shot.screenshot())
    page.evaluate("document.querySelectorAll('image').forEach(i => i.remove())")
    assert len(shot.screenshot()) < plain  # the haystack's image was there
    page.close()


def test_text_is_readable_on_its_ground(opened: Opened) -> None:
    """WCAG 2 AA: 4.5 to 1 for the page's text colours on the cards."""
    ratios = opened.page.evaluate(
        """() => {
            const light = c => {
                const [r, g, b] = c.match(/[0-9.]+/g).map(Number).map(v => v / 255)
                    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ratio = (a, b) => {
                const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
                return (x + 0.05) / (y + 0.05);
            };
            const ground = getComputedStyle(document.querySelector('.card')).backgroundColor;
            const of = s => ratio(getComputedStyle(document.querySelector(s)).color, ground);
            const badge = [...document.querySelectorAll('.badge')].map(e => {
                const style = getComputedStyle(e);
                return ratio(style.color, style.backgroundColor);
            });
            return [of('.card h3'), of('.card .sub'), of('.numbers summary'), ...badge];
        }"""
    )
    assert min(ratios) >= 4.5


def test_it_prints(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    assert opened.said == []
    opened.page.close()
