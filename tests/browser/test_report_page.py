"""The report page in a real browser: Chromium from the system, driven by Playwright."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser_pages import Opened
from PIL import Image
from report_pages import packed
from report_runs import Answer, Truth, always_first, always_right, ok, text, write_run

from mmneedle.data.shapes import ShapesSource
from mmneedle.reports.html import write_report
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Response, Setting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
    "a bell \x07",
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
    runs[-2].header.model = "evil/half a pair \ud800"  # a log cannot hold one
    return write_report(runs, base / "report.html")


@pytest.fixture(scope="module")
def plain(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of one model."""
    base = tmp_path_factory.mktemp("plain")
    run = write_run(base / "run", mixed, dict.fromkeys(SHAPES, 24), dataset=dataset)
    return write_report([run], base / "report.html")


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def opened(request: Any, browser: "Browser", report: Path) -> Iterator[Opened]:
    opened = Opened(browser, report.as_uri(), *request.param)
    yield opened
    opened.page.close()


def bare(browser: "Browser", report: Path, width: int = 1280) -> "Page":
    """The page where no script runs."""
    page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=False)
    page.goto(report.as_uri())
    return page


def wait(opened: Opened) -> None:
    """Until an error is open and its photos are drawn."""
    opened.page.locator("#case h3").wait_for()
    opened.page.wait_for_function(
        "() => [...document.querySelectorAll('#case canvas')].every(c => c.dataset.drawn)"
    )


def caption(opened: Opened) -> str:
    return opened.page.locator("#case h3").inner_text()


def sample_open(opened: Opened) -> str:
    return opened.page.locator("#case .whence a").inner_text()


# --------------------------------------------------------------------------- the whole page


def test_it_opens_in_silence_and_asks_for_nothing(opened: Opened, report: Path) -> None:
    wait(opened)
    opened.open_all()
    for _ in range(12):
        opened.page.keyboard.press("Tab")
    opened.page.locator("#list").focus()
    for _ in range(20):
        opened.page.keyboard.press("j")
        wait(opened)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("data:image/webp", "blob:"))] == [
        report.as_uri()
    ]


def test_nothing_sticks_out_sideways(opened: Opened) -> None:
    wait(opened)
    opened.open_all()
    page = opened.page
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.sticks_out() == []


def test_no_serious_accessibility_fault(opened: Opened) -> None:
    wait(opened)
    assert opened.faults() == []


def test_score_tables_fit_a_wide_window(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    cut = opened.page.evaluate(
        """() => [...document.querySelectorAll('.scroll:has(.scores, .heat)')]
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


def test_the_first_screen_says_how_good_and_when_it_makes_things_up(
    browser: "Browser", plain: Path
) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    tables = opened.page.locator(".glances").first.locator("table")
    assert tables.count() == 2
    for table in tables.all():
        box = table.bounding_box()
        assert box
        assert box["y"] + box["height"] < 900
    opened.close()


def test_the_style_is_applied(opened: Opened) -> None:
    style = "getComputedStyle(document.querySelector('.card')).borderTopLeftRadius"
    assert opened.page.evaluate(style) in ("14px", "12px")


def test_text_is_readable_on_its_ground(opened: Opened) -> None:
    """WCAG 2 AA: 4.5 to 1 for the page's text colours on the cards."""
    wait(opened)
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
            const filled = [...document.querySelectorAll('.badge, .heat td[class]')].map(e => {
                const style = getComputedStyle(e);
                const clear = style.backgroundColor === 'rgba(0, 0, 0, 0)';
                return ratio(style.color, clear ? ground : style.backgroundColor);
            });
            return [of('.card h3'), of('.card .sub'), of('.numbers summary'), ...filled];
        }"""
    )
    assert min(ratios) >= 4.5


def test_a_script_could_not_run_even_if_it_got_in(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    wait(opened)
    opened.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.owned = 1';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/leak.png';
            document.body.append(image);
            const link = document.createElement('a');
            link.href = 'javascript:window.owned = 1';
            document.body.append(link);
            link.click();
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.owned") is None
    assert len([line for line in opened.said if "Content Security Policy" in line]) == 3
    opened.page.close()


def test_it_prints_figures_and_a_selection(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    wait(opened)
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    opened.page.emulate_media(media="print")
    page = opened.page
    assert not page.locator("#browse").is_visible()
    shown = page.locator(".sample:visible")
    assert 4 < shown.count() < 60
    assert page.locator(".sample.chosen pre").first.is_visible()
    assert page.locator("svg.figure").first.is_visible()
    assert opened.said == []
    opened.page.close()


# --------------------------------------------------------------------------- without scripts


def test_without_scripts_all_figures_and_a_selection_are_there(
    browser: "Browser", report: Path
) -> None:
    page = bare(browser, report)
    assert page.locator("svg.figure").first.is_visible()
    assert not page.locator("#browse").is_visible()
    kinds = set(page.locator(".sample .badge").all_inner_texts())
    assert {"right", "wrong cell", "hallucinated", "no answer"} <= kinds
    shot = page.locator(".sample[open] .shot").first
    shot.scroll_into_view_if_needed()
    box = shot.bounding_box()
    assert box
    assert box["width"] > 150
    page.close()


def test_the_selection_opens_with_the_keyboard(browser: "Browser", report: Path) -> None:
    page = bare(browser, report)
    summary = page.locator(".sample:not([open]) > summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".sample[open]").count() == 2
    page.close()


# --------------------------------------------------------------------------- hostile words


def test_hostile_words_do_nothing(opened: Opened) -> None:
    wait(opened)
    page = opened.page
    answers, labels = "", ""
    for i in range(3, 3 + len(HOSTILE)):
        page.select_option("#by-run", str(i))
        wait(opened)
        answers += page.locator("#case pre").first.inner_text()
        labels += page.locator("#case").inner_text()
        assert opened.sticks_out() == []
    assert page.evaluate("window.owned") is None
    assert page.title() == f"{3 + len(HOSTILE)} models compared – mmneedle report"
    assert page.locator("h1").count() == 1
    assert page.locator("iframe, img, link, base, form, object, embed").count() == 0
    assert page.locator("script:not([type])").count() == 1
    assert page.locator("a:not([href^='#'])").count() == 0
    for words in HOSTILE[:6]:
        assert words in answers
        assert words[:60] in labels
    assert "a bell U+0007" in answers
    assert "U+202E" in answers
    assert "U+200B" in answers
    for char in "\u202e\u2066\u200b\u200f":
        assert char not in answers
    assert "U+D800" in labels
    assert "the answer has 10,000,000 characters, the first 2,000 are shown" in labels
    assert opened.said == []


def test_hostile_text_in_the_filter_finds_itself_and_no_more(opened: Opened) -> None:
    wait(opened)
    opened.page.fill("#by-text", HOSTILE[1])
    opened.page.wait_for_timeout(300)
    runs = set(opened.page.locator(".entry .tail").all_inner_texts())
    assert runs
    assert all("<img src=x" in run for run in runs)


# --------------------------------------------------------------------------- every error


def test_every_error_can_be_opened_with_the_keyboard(browser: "Browser", plain: Path) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    wait(opened)
    page = opened.page
    total = int(page.locator("#found").inner_text().split()[0].replace(",", ""))
    value = packed(plain.read_text(encoding="utf-8"))
    expected = {
        f"{group['setting']}-{group['numbers'][at]:06d}"
        for group in value["groups"]
        for table in group["replies"]
        for at, category in zip(table["case"], table["category"], strict=True)
        if category
    }
    assert total == len(expected) > 50
    page.locator("#list").focus()
    page.keyboard.press("Home")
    seen = [sample_open(opened)]
    for i in range(total - 1):
        page.keyboard.press("ArrowDown" if i % 2 else "j")
        seen.append(sample_open(opened))
    assert set(seen) == expected
    page.keyboard.press("j")  # the last one stays
    assert sample_open(opened) == seen[-1]
    page.keyboard.press("k")
    assert sample_open(opened) == seen[-2]
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert sample_open(opened) in seen[4:40]
    page.keyboard.press("End")
    assert sample_open(opened) == seen[-1]
    assert page.locator("#list [aria-selected=true]").count() == 1
    active = page.locator("#list").get_attribute("aria-activedescendant")
    assert page.locator(f"[id='{active}']").get_attribute("aria-posinset") == str(total)
    assert opened.said == []
    opened.close()


def test_letters_are_left_alone_while_somebody_types(browser: "Browser", plain: Path) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    wait(opened)
    before = sample_open(opened)
    opened.page.locator("#by-text").focus()
    opened.page.keyboard.type("j")
    assert opened.page.input_value("#by-text") == "j"
    opened.page.fill("#by-text", "no caption has this")
    opened.page.get_by_text("Nothing matches these filters.").wait_for()
    opened.page.fill("#by-text", "")
    wait(opened)  # what was open before is open again
    opened.page.locator("h1").click()  # not within the list of errors: the key is not ours
    opened.page.keyboard.press("j")
    assert sample_open(opened) == before
    opened.close()


def test_a_link_opens_its_error(browser: "Browser", plain: Path) -> None:
    value = packed(plain.read_text(encoding="utf-8"))
    name = value["runs"][0]["name"]
    group = value["groups"][-1]
    table = group["replies"][0]
    at = next(a for a, c in zip(table["case"], table["category"], strict=True) if c)
    sample = f"{group['setting']}-{group['numbers'][at]:06d}"
    opened = Opened(browser, f"{plain.as_uri()}#{name}/{sample}", 1280)
    wait(opened)
    assert sample_open(opened) == sample
    box = opened.page.locator("#case h3").bounding_box()
    assert box
    assert 0 <= box["y"] < 900
    opened.page.keyboard.press("j")  # the list has the focus
    assert sample_open(opened) != sample
    assert opened.page.evaluate("location.hash") == f"#{name}/{sample_open(opened)}"
    opened.page.evaluate("location.hash = '#none/n1-g2x2-k1-000001'")
    opened.page.get_by_text("has no error n1-g2x2-k1-000001 of a run none").wait_for()
    assert opened.said == []
    opened.close()


def test_a_link_opens_an_error_that_filters_hide(browser: "Browser", plain: Path) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    wait(opened)
    link = opened.page.locator("#case .whence a").get_attribute("href")
    wanted = sample_open(opened)
    opened.page.fill("#by-text", "nothing has these words")
    opened.page.get_by_text("Nothing matches these filters.").wait_for()
    opened.page.evaluate("href => { location.hash = '#x'; location.hash = href; }", link)
    wait(opened)
    assert sample_open(opened) == wanted
    assert opened.page.input_value("#by-text") == ""
    opened.close()


def test_filters_choose_by_model_setting_kind_and_text(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    wait(opened)
    page = opened.page

    def shown() -> int:
        page.wait_for_timeout(200)
        text = page.locator("#found").inner_text()
        return 0 if text.startswith("None") else int(text.split()[0].replace(",", ""))

    everything = shown()
    page.select_option("#by-run", "2")  # always names the first cell
    first = shown()
    assert 0 < first < everything
    page.select_option("#by-setting", "n3-g2x2-k1")
    by_setting = shown()
    assert 0 < by_setting < first
    kinds = page.locator("button.kind:visible").all_inner_texts()
    assert [kind.split("\n")[0].split(" ")[0] for kind in kinds if "hallucinated" in kind]
    page.locator("button.kind", has_text="hallucinated").click()
    assert shown() == 12  # all negatives
    badges = set(page.locator(".entry .badge").all_inner_texts())
    assert badges == {"hallucinated"}
    words = caption(opened).strip("“”")
    page.fill("#by-text", words.upper())
    assert shown() >= 1
    for brief in page.locator(".entry .brief").all_inner_texts():
        assert brief.lower() == words.lower()
    page.fill("#by-text", "no caption has this")
    assert shown() == 0
    opened.close()


def test_errors_are_sorted_by_ambiguity(browser: "Browser", plain: Path) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    wait(opened)

    def values() -> list[float]:
        opened.page.locator("#list").focus()
        opened.page.keyboard.press("Home")
        found = []
        for _ in range(12):
            facts = opened.page.locator("#case .facts").inner_text()
            found.append(float(facts.partition("Ambiguity")[2].split(":")[0]))
            opened.page.keyboard.press("j")
        return found

    opened.page.select_option("#by-order", "doubtful")
    doubtful = values()
    assert doubtful == sorted(doubtful, reverse=True)
    opened.page.select_option("#by-order", "clear")
    clear = values()
    assert clear == sorted(clear)
    assert clear[0] < doubtful[0]
    opened.close()


def test_other_models_answers_stand_beside_an_error(browser: "Browser", report: Path) -> None:
    opened = Opened(browser, report.as_uri(), 1280)
    wait(opened)
    page = opened.page
    page.select_option("#by-run", "2")
    page.select_option("#by-setting", "n1-g8x8-k1")
    wait(opened)
    sample = sample_open(opened)
    rows = page.locator("table.others tbody tr")
    assert rows.count() == 2  # evil ones were asked another setting
    oracle = rows.filter(has_text="baseline/oracle")
    assert oracle.locator(".badge").inner_text() == "right"
    oracle.locator("a").click()
    page.wait_for_timeout(200)
    assert sample_open(opened) == sample
    assert page.locator("#case .whence .badge").inner_text() == "right"
    opened.close()


# --------------------------------------------------------------------------- pictures


def test_drawn_haystacks_show_the_right_photos(
    browser: "Browser", plain: Path, dataset: DataSet
) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    page = opened.page
    checked = 0
    for shape in SHAPES:
        page.select_option("#by-setting", shape.name)
        page.locator("#list").focus()
        for _ in range(3):
            page.keyboard.press("j")
            wait(opened)
            sample = dataset.sample(sample_open(opened))
            for label, cells in drawn_cells(opened, shape):
                image = int(label.split()[1])
                grid = shape.rows * shape.cols
                photos = sample.haystack[(image - 1) * grid : image * grid]
                for cell, photo in zip(cells, photos, strict=True):
                    assert np.abs(np.array(cell) - mean_colour(dataset, photo)).max() < 20
                    checked += 1
    assert checked > 250
    assert [line for line in opened.said if "willReadFrequently" not in line] == []  # our reading
    opened.close()


def drawn_cells(opened: Opened, shape: Setting) -> list[tuple[str, list[list[float]]]]:
    """The mean colour of each cell of each drawn image, with the image's description."""
    found: list[tuple[str, list[list[float]]]] = opened.page.evaluate(
        """([rows, cols]) => [...document.querySelectorAll('#case .shot canvas')].map(canvas => {
            const paint = canvas.getContext('2d');
            const [w, h] = [canvas.width / cols, canvas.height / rows];
            const cells = [];
            for (let r = 0; r < rows; r += 1) for (let c = 0; c < cols; c += 1) {
                const data = paint.getImageData(c * w, r * h, w, h).data;
                const sum = [0, 0, 0];
                for (let i = 0; i < data.length; i += 1) if (i % 4 < 3) sum[i % 4] += data[i];
                cells.push(sum.map(v => 4 * v / data.length));
            }
            return [canvas.getAttribute('aria-label'), cells];
        })""",
        [shape.rows, shape.cols],
    )
    return found


def mean_colour(dataset: DataSet, photo: int) -> np.ndarray:
    image = Image.open(io.BytesIO(dataset.store.join([photo], 1, 1))).convert("RGB")
    return np.asarray(image, float).mean(axis=(0, 1))


def test_the_true_and_the_given_cell_are_framed_where_they_are(
    browser: "Browser", plain: Path, dataset: DataSet
) -> None:
    opened = Opened(browser, plain.as_uri(), 1280)
    page = opened.page
    shape = SHAPES[1]
    page.select_option("#by-setting", shape.name)
    page.locator("button.kind", has_text="wrong cell").click()
    wait(opened)
    (true,) = dataset.sample(sample_open(opened)).truth
    assert true
    canvas = page.locator("#case .shots canvas").bounding_box()
    frame = page.locator("#case .shots .frame.true").bounding_box()
    assert canvas
    assert frame
    column = (frame["x"] + frame["width"] / 2 - canvas["x"]) / canvas["width"] * shape.cols
    row = (frame["y"] + frame["height"] / 2 - canvas["y"]) / canvas["height"] * shape.rows
    assert (int(row) + 1, int(column) + 1) == (true.row, true.column)
    assert page.locator("#case .shots .frame.given").count() == 1
    label = page.locator("#case .shots canvas").first.get_attribute("aria-label")
    assert f"true: row {true.row}, column {true.column}; given: row 1, column 2" in (label or "")
    # two photos side by side, the true one first
    photos = page.locator("#case .pair canvas")
    assert photos.count() == 2
    left, right = (photos.nth(i).bounding_box() for i in range(2))
    assert left
    assert right
    assert left["x"] < right["x"]
    assert abs(left["y"] - right["y"]) < 2
    assert min(left["width"], right["width"]) > 100
    opened.close()


def test_ten_thousand_errors_keep_a_short_page(browser: "Browser", tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_wrong, {Setting(1, 2, 2): 10_000})
    opened = Opened(browser, write_report([run], tmp_path / "report.html").as_uri(), 1280)
    page = opened.page
    page.locator("#case h3").wait_for()
    assert page.locator("#found").inner_text() == "10,000 to open"
    assert page.locator(".entry").count() < 60
    page.locator("#list").focus()
    page.keyboard.press("End")
    assert page.locator(".nth").inner_text() == "10,000 of 10,000"
    assert page.locator(".entry").count() < 60
    assert page.locator("[aria-posinset='10000']").is_visible()
    assert opened.said == []
    opened.close()


def always_wrong(setting: Setting, index: int, truth: Truth) -> Response:
    return ok("9, 9, 9")


def test_on_a_phone_the_case_of_an_address_is_in_sight(
    browser: "Browser", dataset: DataSet, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", mixed, {SHAPES[1]: 24}, dataset=dataset)
    out = write_report([run], tmp_path / "report.html")
    opened = Opened(browser, f"{out.as_uri()}#run/{SHAPES[1].name}-000002", 390)
    wait(opened)
    top = "document.querySelector('#case').getBoundingClientRect().top"
    assert abs(opened.page.evaluate(top)) < 4
    assert opened.page.locator("#case .caption").bounding_box()["y"] < 300
    opened.page.evaluate("scrollTo(0, 0)")
    opened.page.locator("#list").focus()
    opened.page.keyboard.press("j")
    assert abs(opened.page.evaluate(top)) < 4
    opened.close()


def test_models_that_differ_at_the_end_look_different_in_the_list(
    browser: "Browser", dataset: DataSet, tmp_path: Path
) -> None:
    names = ("baseline/noisy?p=0.75", "baseline/noisy?p=0.8")
    runs = [
        write_run(tmp_path / name[-3:], mixed, {SHAPES[1]: 4}, model=name, dataset=dataset)
        for name in names
    ]
    opened = Opened(browser, write_report(runs, tmp_path / "report.html").as_uri(), 1280)
    wait(opened)
    whole = opened.page.evaluate(
        """() => [...document.querySelectorAll('.entry .who')].map(who => {
            const line = who.closest('.line').getBoundingClientRect();
            return [who.textContent, who.lastChild.getBoundingClientRect().right <= line.right];
        })"""
    )
    assert {name for name, _ in whole} == {"p=0.75", "p=0.8"}
    assert all(inside for _, inside in whole)
    opened.close()
