"""The leaderboard page in a real browser: sorting, filtering, keyboard, and nothing let in."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_pages import Opened
from report_runs import ONE, TEN, Truth, always_first, always_right, ok, text, write_run
from test_published_shown import Figure, in_tables

from mmneedle.reports.leaderboard import leaderboard
from mmneedle.types import Response, Setting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

TWO = Setting(1, 2, 2, 2)
HOSTILE = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\u202e"
LONG = "vendor/a-model-with-a-name-that-is-much-longer-than-any-column-2026-11-22"


def half(setting: Setting, index: int, truth: Truth) -> Response:
    right = index % 4 < 2 if setting == ONE else index % 8 < 2
    return ok(text(truth) if right else "1, 1, 1")


def lazy(setting: Setting, index: int, truth: Truth) -> Response | None:
    return None if index % 5 == 0 else ok(text(truth))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("board")
    counts = {ONE: 40, TEN: 40, TWO: 8}
    answers: dict[str, Callable[..., Response | None]] = {
        "m/oracle": always_right,
        "m/first": always_first,
        "m/half": half,
        LONG: lazy,
        f"evil/{HOSTILE}": always_first,
    }
    runs = [
        write_run(base / f"run-{i}", answer, counts, model=model)
        for i, (model, answer) in enumerate(answers.items())
    ]
    runs.append(write_run(base / "few", always_right, {ONE: 20}, model="m/few"))
    runs.append(write_run(base / "other", half, {ONE: 40}, model="o/other", fingerprint="b" * 64))
    html = leaderboard(runs, published=True, ranked=True).render("html")
    target = base / "board.html"
    target.write_text(html, encoding="utf-8", errors="replace")
    return target


VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(params=VIEWS, ids=str)
def everywhere(request: Any, browser: "Browser", path: Path) -> Iterator[Opened]:
    opened = Opened(browser, path.as_uri(), *request.param)
    yield opened
    opened.close()


@pytest.fixture
def opened(browser: "Browser", path: Path) -> Iterator[Opened]:
    opened = Opened(browser, path.as_uri(), 1280)
    yield opened
    assert opened.said == []
    opened.close()


def column(opened: Opened, group: str, head: str, table: str = "exact") -> list[str]:
    """The visible cells of a column, from top to bottom."""
    found: list[str] = opened.page.evaluate(
        """([group, head, table]) => {
            const of = document.querySelector(`#${group} table.${table}`);
            const at = [...of.querySelectorAll('thead th')]
                .findIndex(th => th.textContent.trim() === head);
            return [...of.querySelectorAll('tbody tr')].filter(tr => !tr.hidden)
                .map(tr => tr.cells[at]).filter(td => !td.hidden)
                .map(td => (td.querySelector('data, .youden') ?? td).textContent.trim());
        }""",
        [group, head, table],
    )
    return found


def shown_groups(opened: Opened) -> list[str]:
    heads = opened.page.locator(".group:visible > h2").all_inner_texts()
    return [head.strip() for head in heads]


# --------------------------------------------------------------------------- the page itself


def test_it_opens_in_silence_and_asks_for_nothing(everywhere: Opened, path: Path) -> None:
    everywhere.open_all()
    assert everywhere.said == []
    assert everywhere.asked == [path.as_uri()]


def test_axe_finds_nothing_serious(everywhere: Opened) -> None:
    everywhere.open_all()
    assert everywhere.faults() == []


def test_nothing_sticks_out_sideways(everywhere: Opened) -> None:
    everywhere.open_all()
    page = everywhere.page
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert everywhere.sticks_out() == []


def test_hostile_names_do_nothing(opened: Opened) -> None:
    opened.open_all()
    page = opened.page
    assert page.evaluate("window.owned") is None
    assert page.locator("img, iframe, link, base, object").count() == 0
    assert page.locator("script").count() == 1
    assert page.get_by_text("onerror='window.owned = 1'").first.is_visible()
    assert page.get_by_text("U+202E").first.is_visible()


def test_a_strangers_script_could_not_run(browser: "Browser", path: Path) -> None:
    opened = Opened(browser, path.as_uri(), 1280)
    opened.page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.owned = 1';
            document.body.append(script);
        }"""
    )
    opened.page.wait_for_timeout(100)
    assert opened.page.evaluate("window.owned") is None
    assert len([line for line in opened.said if "Content Security Policy" in line]) == 1
    opened.close()


def test_without_a_script_all_rows_are_there(browser: "Browser", path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("table.exact tbody tr").count() > 40
    assert (
        page.locator("table.exact tbody tr:visible").count()
        == page.locator("table.exact tbody tr").count()
    )
    assert page.locator("#filters").is_hidden()
    assert page.locator("thead button").count() == 0
    context.close()


def test_it_prints(opened: Opened) -> None:
    assert opened.page.pdf(format="A4", landscape=True).startswith(b"%PDF")
    opened.page.emulate_media(media="print")
    assert opened.page.locator("#filters").is_hidden()


# --------------------------------------------------------------------------- published figures

FIGURES = """() => [...document.querySelectorAll('tr[data-origin=published]')].flatMap(tr => {
    const model = [...tr.querySelector('th').childNodes].filter(n => !n.matches?.('.mark-of'))
        .map(n => n.textContent).join('').trim();
    return [...tr.querySelectorAll('td:not([hidden]) data')].filter(() => !tr.hidden
        && !tr.closest('.group').hidden).map(data => [
        model, data.closest('td').dataset.setting, data.classList[1], data.classList[0],
        data.textContent]);
})"""


def figures(opened: Opened) -> Counter[Figure]:
    return Counter(Figure(*row) for row in opened.page.evaluate(FIGURES))


def test_every_published_figure_is_at_its_place_whatever_is_filtered(
    opened: Opened, browser: "Browser", tmp_path: Path
) -> None:
    whole = tmp_path / "all.html"
    whole.write_text(leaderboard([], published=True).render("html"), encoding="utf-8")
    alone = Opened(browser, whole.as_uri(), 1280)
    assert figures(alone) == in_tables()
    everything = in_tables()

    alone.page.locator("#filter-model").fill("gpt-4")
    assert figures(alone) == Counter(
        {one: n for one, n in everything.items() if "gpt-4" in one.model.lower()}
    )
    alone.page.locator("#filter-needles").select_option("2")
    assert figures(alone) == Counter(
        {
            one: n
            for one, n in everything.items()
            if "gpt-4" in one.model.lower() and one.setting.endswith("k2")
        }
    )
    alone.page.locator("#show-all").click()
    for chip in alone.page.locator(".chip").all():
        if chip.inner_text() not in ("(10,8)", "(1,2)"):
            chip.click()
    assert figures(alone) == Counter(
        {one: n for one, n in everything.items() if one.setting.startswith(("n10-g8x8", "n1-g2x2"))}
    )
    alone.page.locator("#show-all").click()
    assert figures(alone) == everything
    assert alone.said == []
    alone.close()
    # beside runs, for as many needles as they have; and switched off
    few = {one: n for one, n in everything.items() if one.setting.endswith(("k1", "k2"))}
    assert figures(opened) == Counter(few)
    opened.page.locator("#filter-published").uncheck()
    assert figures(opened) == Counter()


def test_each_published_row_leads_to_its_source(opened: Opened) -> None:
    rows = opened.page.locator("tr[data-origin=published]")
    links = opened.page.locator("tr[data-origin=published] th a")
    assert links.count() == rows.count()
    wrong = opened.page.evaluate(
        """() => [...document.querySelectorAll('tr[data-origin=published]')].filter(tr => {
            const note = document.querySelector(tr.querySelector('th a').getAttribute('href'));
            const model = tr.querySelector('th').firstChild.textContent.split('-')[0].trim();
            const text = note?.textContent ?? "";
            return !text.includes(model) || !text.includes("Table");
        }).length"""
    )
    assert wrong == 0
    links.first.click()
    assert opened.page.locator("li:target").is_visible()


# --------------------------------------------------------------------------- sorting


def test_columns_sort_with_the_mouse(opened: Opened) -> None:
    head = opened.page.locator("#table-1 table.exact thead th", has_text="(10,2)")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    down = [float(one) for one in column(opened, "table-1", "(10,2)") if one != "–"]
    assert down == sorted(down, reverse=True)
    assert column(opened, "table-1", "(10,2)")[-1] == "–"  # what has no figure comes last
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = column(opened, "table-1", "(10,2)")
    assert up[-1] == "–"
    assert [float(one) for one in up[:-1]] == sorted(down)
    assert opened.page.locator("#table-1 table.exact [aria-sort]").count() == 1


def test_columns_sort_with_the_keyboard(opened: Opened) -> None:
    button = opened.page.locator("#table-1 table.exact thead th").first.get_by_role("button")
    button.focus()
    outline = opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    opened.page.keyboard.press("Enter")
    names = [name.lower() for name in column(opened, "table-1", "Model")]
    assert names == sorted(names)
    opened.page.keyboard.press("Space")
    again = [name.lower() for name in column(opened, "table-1", "Model")]
    assert again == sorted(names, reverse=True)


def test_ranks_and_youden_sort_too(opened: Opened) -> None:
    opened.open_all()
    opened.page.locator("#table-1 table.exact th.rank button").click()
    ranks = [one for one in column(opened, "table-1", "Rank") if one != "–"]
    assert ranks == sorted(ranks, key=lambda one: [int(part) for part in one.split("–")])
    head = opened.page.locator("#table-1 table.existence thead th", has_text="(1,2)")
    head.get_by_role("button").click()
    values = column(opened, "table-1", "(1,2)", "existence")
    numbers = [float(one.replace("−", "-")) for one in values if one != "–"]
    assert numbers == sorted(numbers, reverse=True)


# --------------------------------------------------------------------------- filtering


def test_models_are_found_by_a_part_of_their_name(opened: Opened) -> None:
    found = opened.page.locator("#found")
    assert found.inner_text().startswith("All ")
    opened.page.locator("#filter-model").fill("HALF")
    assert column(opened, "table-1", "Model") == ["m/half"]
    assert " of " in found.inner_text()
    opened.page.locator("#filter-model").fill("no such model")
    assert found.inner_text() == "No row fits."
    assert shown_groups(opened) == []
    opened.page.keyboard.press("Tab")
    opened.page.locator("#show-all").click()
    assert found.inner_text().startswith("All ")
    assert opened.page.locator("#filter-model").input_value() == ""


def test_needles_scorer_and_published_rows_are_chosen(opened: Opened) -> None:
    opened.page.locator("#filter-needles").select_option("2")
    assert all("2 needles" in head for head in shown_groups(opened))
    opened.page.locator("#filter-needles").select_option("")
    opened.page.locator("#filter-scorer").select_option("paper")
    heads = shown_groups(opened)
    assert any("Published" in head for head in heads)
    assert not any("robust" in head for head in heads)
    opened.page.locator("#filter-published").uncheck()
    assert not any("Published" in head for head in shown_groups(opened))


def test_a_setting_leaves_its_column_mean_and_rank(opened: Opened) -> None:
    before = column(opened, "table-1", "Mean")
    at_ten = column(opened, "table-1", "(10,2)")
    chips = {chip.inner_text(): chip for chip in opened.page.locator(".chip").all()}
    for name, chip in chips.items():
        if name != "(10,2)":
            chip.click()
    assert column(opened, "table-1", "(1,2)") == []
    kept = [one for one in at_ten if one != "–"]  # rows without a figure there are not shown
    assert column(opened, "table-1", "(10,2)") == kept
    assert column(opened, "table-1", "Mean") == kept
    assert "1" in {rank.split("–")[0] for rank in column(opened, "table-1", "Rank")}
    chips["(1,2)"].click()
    chips["(1,4)"].click()
    assert column(opened, "table-1", "Mean") == before
    opened.page.locator("#show-all").click()
    assert column(opened, "table-1", "Mean") == before


def only(opened: Opened, *settings: str) -> None:
    for chip in opened.page.locator(".chip").all():
        if chip.inner_text() not in settings:
            chip.click()


def test_rows_are_sorted_by_what_is_shown_and_notes_are_true_for_it(opened: Opened) -> None:
    page = opened.page
    built = column(opened, "table-1", "Model")
    marked = [cell for cell in column(opened, "table-1", "Mean") if "¶" in cell]
    assert len(marked) == 1  # m/few was asked one setting
    note = page.locator("li[data-when]:visible")
    assert "Ranks are by Exact, over a table's settings" in note.inner_text()
    assert "Best mean Exact first. Rows that lack" in page.locator("#table-1 .order").inner_text()
    only(opened, "(1,2)")
    shown = [float(cell) for cell in column(opened, "table-1", "(1,2)")]
    assert shown == sorted(shown, reverse=True)
    assert column(opened, "table-1", "Model") != built
    assert not any("¶" in cell for cell in column(opened, "table-1", "Mean"))
    assert "Ranks are by Exact, at the setting that is shown" in note.inner_text()
    order = page.locator("#table-1 .order").inner_text()
    assert order == "Best mean Exact over the settings shown first."
    page.locator("#show-all").click()
    assert column(opened, "table-1", "Model") == built
    assert [cell for cell in column(opened, "table-1", "Mean") if "¶" in cell] == marked


def test_what_a_reader_has_sorted_stays_sorted(opened: Opened) -> None:
    opened.page.locator("#table-1 table.exact th.model button").click()
    only(opened, "(1,2)")
    names = column(opened, "table-1", "Model")
    assert names == sorted(names)


def test_sources_are_those_of_the_rows_that_are_shown(opened: Opened) -> None:
    page = opened.page
    told = page.locator(".sources li:visible")
    assert told.count() > 1
    above, head = page.locator("#sources").evaluate(
        "e => [e.previousElementSibling.getBoundingClientRect().bottom,"
        " e.getBoundingClientRect().top]"
    )
    assert head - above >= 12
    page.locator("#filter-model").fill("GPT-4o")
    assert told.count() and all("GPT-4o" in text for text in told.all_inner_texts())
    page.locator("#filter-model").fill("no such model")
    assert told.count() == 0
    assert not page.locator("#sources").is_visible()


def test_a_run_without_an_answer_is_seen(browser: "Browser", tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "empty", lambda *_: None, {ONE: 8, TEN: 8}, model="m/empty"),
        write_run(tmp_path / "first", always_first, {ONE: 8, TEN: 8}, model="m/first"),
        write_run(tmp_path / "right", always_right, {ONE: 8, TEN: 8}, model="m/right"),
    ]
    target = tmp_path / "board.html"
    target.write_text(leaderboard(runs, ranked=True).render("html"), encoding="utf-8")
    opened = Opened(browser, target.as_uri(), 1280)
    assert column(opened, "table-1", "Model") == ["m/right", "m/first", "m/empty"]
    assert column(opened, "table-1", "Rank")[-1] == "–"
    assert opened.page.locator("#found").inner_text().startswith("All ")
    opened.close()


def test_filters_work_with_the_keyboard(opened: Opened) -> None:
    page = opened.page
    page.locator("#filter-model").focus()
    reached = set()
    for _ in range(30):
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value"))
        page.keyboard.press("Tab")
    assert {"filter-model", "filter-needles", "filter-published", "1x2", "show-all"} <= reached
    page.locator(".filter-shape").first.focus()
    page.keyboard.press("Space")
    assert column(opened, "table-1", "(1,2)") == []
    ring = page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle")
    assert ring == "solid"


# --------------------------------------------------------------------------- what is said


def test_it_says_why_rows_cannot_be_compared_and_marks_what_is_less(opened: Opened) -> None:
    notice = opened.page.locator(".apart").inner_text()
    assert "What cannot be compared, and why" in notice
    assert "Data sets aaaaaaaaaaaa and bbbbbbbbbbbb have different fingerprints" in notice
    assert "m/few: numbers 0 to 19" in notice
    row = opened.page.locator("#table-1 table.exact tbody tr", has_text="m/few")
    assert "‡" in row.inner_text()
    assert (
        "*" in opened.page.locator("#table-1 table.exact tr", has_text="vendor/").first.inner_text()
    )
    assert opened.page.locator("#table-1 .interval").first.is_visible()
