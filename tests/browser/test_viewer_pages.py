"""The viewer in a real browser: a real server process, Chromium driven by Playwright."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from browser_pages import Opened
from report_runs import Truth, always_right, cell_at, made_up, ok, text, write_run
from viewer_server import Viewer

from mmneedle.data.shapes import ShapesSource
from mmneedle.runlog import Record, now
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Location, Response, Setting, Usage, sample_id

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

ONE, EIGHT, TEN = Setting(1, 2, 2), Setting(1, 8, 8), Setting(10, 2, 2)
OBLONG, PAIRED = Setting(2, 2, 3), Setting(3, 2, 2, 2)
COUNTS = {ONE: 60, EIGHT: 12, TEN: 12, OBLONG: 12, PAIRED: 12}
HOSTILE = (
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1"><svg onload="window.owned = 1">',
    "</pre></main><style>body { display: none }</style><h1>owned</h1>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'><base href='http://127.0.0.1:9/'>",
    "1, 1, \u202e1\u202c \u2066\u200b\u200f javascript:window.owned=1",
)


def mixed(setting: Setting, index: int, truth: Truth) -> Response | None:
    here = truth[0]
    if index % 10 == 9:
        return Response("timeout", error="no reply within 120 s")
    if index % 10 == 4 and here is not None:
        cell = (here.row - 1) * setting.cols + here.column - 1
        other = cell_at(setting, (cell + 1) % (setting.rows * setting.cols))
        words = str(Location(here.image, other.row, other.column))
        return ok("; ".join([words] * setting.needles))
    if index % 10 == 3:
        return ok("; ".join(["1, 1, 2"] * setting.needles))
    return Response(
        "ok", text(truth), latency=index / 8, usage=Usage(900, 5), reasoning="I looked."
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("viewer") / "data"
    rules, tiles = Rules(hard_negatives=0.5), TileFormat(64, 64)
    return build(folder, ShapesSource(100), COUNTS, rules, tiles, workers=1)


@pytest.fixture(scope="module")
def viewer(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    base = tmp_path_factory.mktemp("runs")
    name = "vendor/a-model-with-a-name-that-is-much-longer-than-any-column-2026-11-22"
    first = write_run(base / "a", mixed, COUNTS, model=name, dataset=dataset)
    # as if its provider had shrunk the images, which the run says
    header = msgspec.structs.replace(
        first.header, cell=(64, 64), effective_cell={TEN.name: (16, 16), ONE.name: None}
    )
    (first.folder / "run.json").write_bytes(msgspec.json.encode(header))
    write_run(base / "b", always_right, COUNTS, model="baseline/oracle", dataset=dataset)
    for number, words in enumerate(HOSTILE):
        evil = Response("ok", words, reasoning=words, error=words, stop_reason=words, model=words)
        write_run(
            base / f"evil-{number}",
            lambda *_, answer=evil: answer,
            {ONE: 2},
            model=f"evil/{words}",
            dataset=dataset,
        )
    with Viewer(base) as viewer:
        yield viewer


WRONG = sample_id(EIGHT, 4)
PATHS = {
    "start": "/",
    "run": "/run?in=r1",
    "list": "/samples?in=r1",
    "none": "/samples?in=r1&text=zzzz",
    "data": "/samples?in=d1",
    "compared": "/samples?in=r1,r2&differ=1",
    "wrong cell": f"/sample/{WRONG}?in=r1",
    "ten images": f"/sample/{sample_id(TEN, 4)}?in=r1",
    "as the model gets them": f"/sample/{sample_id(TEN, 4)}?in=r1&pixels=model",
    "two needles": f"/sample/{sample_id(PAIRED, 4)}?in=r1",
    "two runs": f"/sample/{WRONG}?in=r1,r2",
    "oblong": f"/sample/{sample_id(OBLONG, 3)}?in=r1",
    "failed": f"/sample/{sample_id(TEN, 9)}?in=r1",
    "nothing": "/sample/nothing?in=r1",
}


def quiet(opened: Opened, viewer: Viewer) -> None:
    """Nothing was said, and nothing asked for elsewhere."""
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(viewer.url)] == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_is_whole(
    browser: "Browser", viewer: Viewer, path: str, width: int, scheme: str
) -> None:
    opened = Opened(browser, viewer.url + PATHS[path][1:], width, scheme)
    page = opened.page
    opened.open_all()
    assert opened.faults() == []
    assert opened.sticks_out() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # every picture that is asked for comes
    page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    page.evaluate("Promise.allSettled([...document.images].map(i => i.decode()))")
    assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
    if path == "nothing":
        assert opened.said == [
            "Failed to load resource: the server responded with a status of 404 (Not Found)"
        ]
        opened.said.clear()
    quiet(opened, viewer)
    opened.close()


def start(browser: "Browser", viewer: Viewer, path: str, width: int = 1280) -> Opened:
    return Opened(browser, viewer.url + path, width)


def test_filters_and_sorting(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, "samples?in=r1")
    page = opened.page
    assert page.locator(".found").inner_text() == "108 samples"
    page.get_by_label("Setting").select_option("(10,2)")
    page.get_by_label("Outcome").select_option("hallucinated")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".found").inner_text() == "1 sample of 108"
    assert page.locator(".entry .badge").inner_text() == "hallucinated"
    assert page.get_by_label("Setting").input_value() == TEN.name  # as it was chosen
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("Sort").select_option("slowest")
    page.get_by_label("Text").fill("1, 1, 1")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    first, *_ = page.locator(".entry .meta code").all_inner_texts()
    assert int(first[-6:]) > 40
    page.get_by_label("Ambiguity from").fill("0.3")
    page.get_by_label("Ambiguity to").fill("0.4")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    values = page.locator(".meta span[title]").all_inner_texts()
    assert values and all(0.3 <= float(value.split()[1]) <= 0.4 for value in values)
    quiet(opened, viewer)
    opened.close()


def test_keys(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, "samples?in=r1")
    page = opened.page
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**page=2")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(lambda url: "page" not in url)
    page.get_by_label("Text").focus()
    page.keyboard.press("ArrowRight")  # belongs to the field
    page.wait_for_timeout(200)
    assert "page" not in page.url
    page.locator(".asked a").nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{sample_id(ONE, 2)}?*")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/{sample_id(ONE, 3)}?*")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**/{sample_id(ONE, 2)}?*")
    page.keyboard.press("Escape")
    page.wait_for_url("**/samples?in=r1")
    page.keyboard.press("Escape")
    page.wait_for_url("**/run?in=r1")
    page.keyboard.press("Escape")
    page.wait_for_url(viewer.url)
    quiet(opened, viewer)
    opened.close()


def test_zooming(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, f"sample/{WRONG}?in=r1")
    page = opened.page
    page.locator("a.shot").click()
    dialog = page.locator("dialog#zoom")
    assert dialog.is_visible()
    image = dialog.locator("img")
    image.evaluate("i => i.decode()")
    assert image.evaluate("i => [i.width, i.naturalWidth]") == [512, 512]  # its own pixels
    assert dialog.locator("svg.marks .frame").count() == 2
    box, frame = image.bounding_box(), dialog.locator("svg.marks").bounding_box()
    assert box and frame
    assert all(abs(box[side] - frame[side]) < 1.5 for side in ("x", "y", "width", "height"))
    assert opened.faults() == []
    page.keyboard.press("ArrowRight")  # belongs to the image
    page.wait_for_timeout(200)
    assert WRONG in page.url
    page.get_by_role("button", name="Fit to the window").click()
    assert (
        page.get_by_role("button", name="Fit to the window").get_attribute("aria-pressed") == "true"
    )
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert WRONG in page.url
    page.locator("a.shot").focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    quiet(opened, viewer)
    opened.close()


def test_what_the_model_gets(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, f"sample/{sample_id(TEN, 4)}?in=r1")
    page = opened.page
    page.get_by_role("link", name="Show what the model gets").click()
    assert "as the model gets them" in page.locator("#images").inner_text()
    image = page.locator(".large img").first
    image.evaluate("i => i.decode()")
    assert image.evaluate("i => i.naturalWidth") == 32
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/{sample_id(TEN, 5)}?*pixels=model*")
    page.get_by_role("link", name="Show them as sent").click()
    assert "as sent" in page.locator("#images").inner_text()
    quiet(opened, viewer)
    opened.close()


def test_comparing(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, "")
    page = opened.page
    page.locator("input[name=in]").nth(0).check()
    page.locator("input[name=in]").nth(1).check()
    page.get_by_role("button", name="Compare the chosen runs").click()
    rows = page.locator(".patterns tbody tr")
    counts = {
        tuple(rows.nth(k).locator(".side").all_inner_texts()): rows.nth(k).locator("a").inner_text()
        for k in range(rows.count())
    }
    assert sum(map(int, counts.values())) == 108
    assert (
        page.locator(".found")
        .inner_text()
        .startswith(f"{108 - int(counts['right', 'right'])} samples")
    )
    page.locator(".patterns a", has_text=counts["wrong", "right"]).first.click()
    assert page.locator(".found").inner_text() == f"{counts['wrong', 'right']} samples of 108"
    page.locator(".asked a").first.click()
    assert page.locator("article.full").count() == 2
    with page.expect_navigation():
        page.keyboard.press("ArrowRight")
    badges = page.locator("article.full .badge").all_inner_texts()
    assert badges[0] != "right" and badges[1] == "right"
    quiet(opened, viewer)
    opened.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_images_stand_in_their_order(browser: "Browser", viewer: Viewer, width: int) -> None:
    opened = start(browser, viewer, f"sample/{sample_id(TEN, 4)}?in=r1", width)
    boxes = [figure.bounding_box() for figure in opened.page.locator(".haystack figure").all()]
    assert opened.page.locator(".haystack figure.large").count() > 0
    corners = [(round(box["y"]), round(box["x"])) for box in boxes if box]
    assert len(corners) == 10 and corners == sorted(corners)
    bottoms: dict[int, float] = {}
    for box in boxes:
        assert box
        bottoms[round(box["y"])] = max(bottoms.get(round(box["y"]), 0), box["y"] + box["height"])
    rows = sorted(bottoms.items())  # none begins beside the one before
    assert all(below > bottom for (_, bottom), (below, _) in pairwise(rows))
    opened.close()


def test_counts_stand_beside_their_settings(browser: "Browser", viewer: Viewer) -> None:
    opened = start(browser, viewer, "", 390)
    lines = opened.page.locator("ul.settings li").all()
    assert len(lines) == len(COUNTS)
    for one in lines:
        name, count = one.locator("a").bounding_box(), one.locator(".number").bounding_box()
        assert name and count and abs(name["y"] - count["y"]) < 3
    assert opened.sticks_out() == []
    opened.close()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_wrong_number_of_runs_is_said(browser: "Browser", viewer: Viewer, count: int) -> None:
    opened = start(browser, viewer, "")
    page = opened.page
    for number in range(count):
        page.locator("input[name=in]").nth(number).check()
    page.get_by_role("button", name="Compare the chosen runs").click()
    page.get_by_text("Choose two to six runs.").wait_for()
    assert page.url == viewer.url
    assert opened.faults() == []
    quiet(opened, viewer)
    opened.close()


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_answers_are_inert(browser: "Browser", viewer: Viewer, number: int) -> None:
    key = f"r{number + 3}"
    for path in ("", f"run?in={key}", f"samples?in={key}", f"sample/{sample_id(ONE, 0)}?in={key}"):
        opened = start(browser, viewer, path)
        opened.open_all()
        opened.page.wait_for_timeout(400)
        assert opened.page.evaluate("window.owned") is None
        assert opened.page.locator("h1").count() == 1
        assert opened.page.locator("main").is_visible()
        assert opened.page.url == viewer.url + path
        quiet(opened, viewer)
        opened.close()


def test_a_run_under_way(browser: "Browser", tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda *_: None, {TEN: 30})

    def add(index: int, response: Response) -> None:
        record = Record(
            sample=sample_id(TEN, index),
            truth=made_up(TEN, index),
            attempt=1,
            at=now(),
            request_sha256=None,
            response=response,
        )
        with (run.folder / "responses.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")

    with Viewer(run.folder) as viewer:
        opened, first = start(browser, viewer, "run?in=r1"), start(browser, viewer, "")
        page = opened.page
        answered = page.locator(".cards dd").first
        assert answered.inner_text() == "0 of 30"
        page.locator(".scroll").first.focus()
        for index in range(5):
            add(index, ok(text(made_up(TEN, index))))
        add(6, Response("server_error", error="503 overloaded"))
        page.get_by_text("503 overloaded").wait_for(timeout=20_000)
        assert answered.inner_text() == "5 of 30"
        assert page.evaluate("document.activeElement.className") == "scroll"  # stays where it was
        first.page.get_by_text("5 of 30 answered").wait_for(timeout=20_000)
        for index in range(30):
            add(index, ok(text(made_up(TEN, index))))
        page.get_by_text("finished").wait_for(timeout=20_000)
        assert opened.faults() == []
        quiet(opened, viewer)
        quiet(first, viewer)
        viewer.process.kill()  # the page says so in its own way, and stands
        page.wait_for_selector("#live.gone", timeout=20_000)
        opened.close()
        first.close()
