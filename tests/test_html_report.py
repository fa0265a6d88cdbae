import base64
import errno
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_pages import packed
from report_runs import (
    ONE,
    TEN,
    Answer,
    Truth,
    always_first,
    always_right,
    cell_at,
    ok,
    only_image_one,
    text,
    write_run,
)

from mmneedle import scoring
from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.reports import run_sections, svg
from mmneedle.reports.findings import TEXT_LIMIT, findings
from mmneedle.reports.html import missing_datasets, render_report, write_report
from mmneedle.reports.page import breakable, policy, show
from mmneedle.reports.page import source as page_source
from mmneedle.runlog import Run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.tiles import TileFormat
from mmneedle.types import Location, Response, Setting

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Node:
    """An element with its attributes, its children and its own text."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Node | str] = []

    def all(self, tag: str, **wanted: str) -> "list[Node]":
        """Every element below with this tag and these attributes, in order (class: one of them)."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                fits = all(
                    value in child.attributes.get(name.rstrip("_"), "").split()
                    for name, value in wanted.items()
                )
                found += [child] if child.tag == tag and fits else []
                found += child.all(tag, **wanted)
        return found

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)


class Page(HTMLParser):
    """A page as a tree; fails on tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Node("page", {})
        self.open = [self.root]
        self.feed(source)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def page(runs: list[Run], **options: object) -> Node:
    return Page(render_report(runs, **options)).root  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("report") / "data"
    shapes = (Setting(1, 2, 2), Setting(1, 3, 5), Setting(3, 2, 2), Setting(3, 2, 2, 2))
    tiles = TileFormat(64, 64)
    return build(folder, ShapesSource(60), dict.fromkeys(shapes, 24), tiles=tiles, workers=1)


def all_sorts(setting: Setting, index: int, truth: Truth) -> Response:
    """Each kind of error in turn, and right answers."""
    place = truth[0]
    turn = index // 2 % 7
    if place is None:
        return ok("1, 1, 2") if turn in (0, 1) else ok("-1")
    wrong_cell = place._replace(row=place.row % setting.rows + 1)
    wrong_image = place._replace(image=place.image % setting.images + 1)
    far = Location(setting.images + 1, 1, 1)
    said = [text(truth), "-1", f"{wrong_cell}", f"{wrong_image}", f"{far}", "no idea at all"]
    return Response(status="refused", text="I cannot help.") if turn == 6 else ok(said[turn])


# --------------------------------------------------------------------------- numbers


def test_the_numbers_in_the_page_are_those_of_the_score_rows(tmp_path: Path) -> None:
    counts = {ONE: 40, TEN: 60, Setting(1, 2, 3, 2): 24}
    run = write_run(tmp_path / "run", only_image_one, counts)
    table, several = page([run]).all("table", class_="scores")
    seen = 0
    for scorer in ("robust", "paper"):
        by_setting = {row.attributes["data-setting"]: row for row in table.all("tr", class_=scorer)}
        for row in scoring.score_run(run, (scorer,)):
            name = Setting(row.images, row.rows, row.cols, row.needles).name
            cells = by_setting[name].all("data", class_="existence")
            shown = cells[0 if row.split == "positive" else 1]
            assert float(shown.attributes["value"]) == row.existence
            assert shown.text == f"{100 * row.existence:.1f}"
            if row.split == "positive":
                for metric in ("exact", "index"):
                    (cell,) = by_setting[name].all("data", class_=metric)
                    assert float(cell.attributes["value"]) == getattr(row, metric)
                seen += 1
                for metric in ("first_index", "first_exact", "all_index", "all_exact"):
                    if row.needles > 1:
                        (line,) = several.all("tr", class_=scorer)
                        (cell,) = line.all("data", class_=metric)
                        assert float(cell.attributes["value"]) == getattr(row, metric)
    assert seen == 6


def test_intervals_and_youdens_j_stand_beside_the_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_first, {ONE: 40})
    (row,) = page([run]).all("tr", class_="robust")
    (positive, _) = scoring.score_run(run, ("robust",))
    low, high = (100 * end for end in positive.interval["exact"])
    assert f"{low:.1f}–{high:.1f}" in row.text
    (youden,) = row.all("data", class_="youden")
    assert float(youden.attributes["value"]) == 0
    assert youden.text == "0.00"


def test_several_needles_have_no_chance_level_of_j(tmp_path: Path) -> None:
    counts = {ONE: 8, Setting(1, 2, 2, 5): 8}
    runs = [write_run(tmp_path / name, always_first, counts, model=f"m/{name}") for name in "ab"]
    root = page(runs)
    (comparison,) = root.all("section", id="comparison")
    one, five = comparison.all("tr", class_="chance")
    assert [cell.text for cell in one.all("td")] == ["25.0", "", "25.0", "0.00", "", ""]
    assert [cell.text for cell in five.all("td")] == ["–", "", "–", "–", "", ""]
    assert "with one needle, 0 is chance" in root.text
    assert "naming K different cells at random: all K right" in root.text
    assert "with one needle" not in page([write_run(tmp_path / "c", always_first, {ONE: 8})]).text


def test_accuracy_by_image_index_varies_when_the_model_does(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", only_image_one, {TEN: 160})
    (found,) = findings(run).values()
    assert [tally.exact_rate for tally in found.images] == [1.0] + [0.0] * 9
    (figure,) = page([run]).all("svg", class_="columns")
    (described,) = figure.all("desc")
    assert described.text.startswith("image 1: cell 100.0 %, image 100.0 % of 8")
    assert "image 2: cell 0.0 %, image 0.0 % of 8" in described.text
    heights = [float(bar.attributes["height"]) for bar in figure.all("rect", class_="s0")]
    assert heights[0] > 0
    assert heights[1:] == [0] * 9


def test_the_cell_map_holds_each_cell_s_own_accuracy(tmp_path: Path) -> None:
    def only_top_row(setting: Setting, index: int, truth: Truth) -> Response:
        place = truth[0]
        return ok(text(truth) if place is None or place.row == 1 else "-1")

    run = write_run(tmp_path / "run", only_top_row, {Setting(2, 2, 3): 48})
    (figure,) = page([run]).all("svg", class_="map")
    hints = [title.text for title in figure.all("title")][1:]
    assert hints[0] == "row 1, column 1: 4 of 4 found"
    assert hints[5] == "row 2, column 3: 0 of 4 found"
    assert [t.text for t in figure.all("text", class_="value")] == ["100"] * 3 + ["0"] * 3


def test_false_alarms_are_mapped_where_they_point(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_first, {TEN: 40})
    (found,) = findings(run).values()
    assert found.pointed == [[20, 0], [0, 0]]
    assert found.pointed_images == [20] + [0] * 9
    alarms = page([run]).all("svg", class_="map")[-1]
    assert "row 1, column 1: named 20 times" in alarms.text
    silent = write_run(tmp_path / "silent", always_right, {TEN: 40})
    assert len(page([silent]).all("svg", class_="map")) == 1


def test_outcomes_add_up(dataset: DataSet, tmp_path: Path) -> None:
    counts = dict.fromkeys(dataset.settings, 24)
    run = write_run(tmp_path / "run", all_sorts, counts, dataset=dataset)
    for table in page([run]).all("details", class_="numbers"):
        if "The numbers" not in table.text:
            continue
        for row in table.all("tr")[1:]:
            (head,) = row.all("th")
            needles = 2 if "K=2" in head.text else 1
            assert sum(int(cell.text) for cell in row.all("td")) == 12 * needles


def test_missing_answers_are_said(tmp_path: Path) -> None:
    def half(setting: Setting, index: int, truth: Truth) -> Response:
        return Response(status="timeout", error="no reply") if index < 20 else ok(text(truth))

    run = write_run(tmp_path / "run", half, {ONE: 40})
    words = page([run]).text
    assert "10 of 20 answered" in words
    assert "(1,2), positives: 10 of 20 answered" in words
    assert "Exact lies between 50.0 and 100.0 %." in words
    assert "20 timeout" in words
    assert "no answer" in words


def test_the_commonest_error_is_among_the_facts(tmp_path: Path) -> None:
    def failing(setting: Setting, index: int, truth: Truth) -> Response:
        if index < 2:
            return Response(status="server_error", error="rare")
        words = f"429:\n <b>slow down</b>\u202e {'x' * 300}"
        return Response(status="rate_limited", error=words) if index < 8 else ok(text(truth))

    run = write_run(tmp_path / "run", failing, {ONE: 40})
    root = page([run])
    (line,) = [dd.text for dd in root.all("dd") if "The commonest" in dd.text]
    before, _, shown = line.partition("The commonest error (6 attempts): ")
    assert "6 rate_limited" in before
    assert shown.startswith("429: <b>slow down</b>U+202E xxx")
    assert len(shown.replace("U+202E", "?")) == 200
    assert shown.endswith("x…")
    assert root.all("b") == []
    fine = write_run(tmp_path / "fine", always_right, {ONE: 4})
    assert "The commonest" not in render_report([fine])


def test_maps_of_few_needles_a_cell_are_faded(tmp_path: Path) -> None:
    few = write_run(tmp_path / "few", always_right, {ONE: 38})  # 19 needles in 4 cells
    (figure,) = page([few]).all("figure", class_="size2")
    assert "few" in figure.attributes["class"].split()
    assert "4–5 needles each. Few needles each: read with care" in figure.text
    enough = write_run(tmp_path / "enough", always_right, {ONE: 40})
    (figure,) = page([enough]).all("figure", class_="size2")
    assert "few" not in figure.attributes["class"].split()
    assert "read with care" not in figure.text


def test_several_runs_are_compared(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "first", always_first, {ONE: 40}, model="m/first"),
        write_run(tmp_path / "right", always_right, {ONE: 40}, model="m/right"),
    ]
    root = page(runs)
    (table,) = root.all("table", class_="models")
    assert [row.all("th")[0].text for row in table.all("tr")[1:]] == [
        "m/right",
        "m/first",
        "chance",
    ]
    assert len(root.all("section", class_="run")) == 2
    assert page(runs[:1]).all("table", class_="models") == []


def test_two_runs_of_one_model_are_told_apart_everywhere(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "low", always_first, {ONE: 40}, model="m/x"),
        write_run(tmp_path / "high", always_right, {ONE: 20}, model="m/x", fingerprint="b" * 64),
    ]
    root = page(runs)
    shown = ["m/x (low)", "m/x (high)"]
    assert [node.text for node in root.all("h1")] == ["2 runs of m/x"]
    assert [link.text for link in root.all("nav")[0].all("a")][1:3] == shown
    assert [run.all("h2")[0].text for run in root.all("section", class_="run")] == shown
    rows = [table.all("th", scope="row")[0].text for table in root.all("table", class_="models")]
    assert rows == shown
    assert "1 setting, 20–40 questions in each of 2 runs." in root.text


def test_the_title_tells_runs_from_models(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, always_right, {ONE: 4}, model=f"m/{name[0]}")
        for name in ("a", "a2", "b")
    ]
    assert page(runs).all("h1")[0].text == "3 runs of 2 models compared"
    assert page(runs[1:]).all("h1")[0].text == "2 models compared"


def test_rows_with_fewer_samples_are_marked_in_the_comparison(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", always_first, {ONE: 40}, model="m/a")]
    runs += [write_run(tmp_path / "b", always_right, {ONE: 20}, model="m/b")]
    root = page(runs)
    (table,) = root.all("table", class_="models")
    marked = [bool(row.all("abbr")) for row in table.all("tr")[1:]]
    assert marked == [True, False, False]  # m/b, m/a, chance
    assert "‡ Asked fewer samples" in root.text
    assert "‡" not in page(runs[:1] * 2).text


def test_questions_are_counted_by_model(tmp_path: Path) -> None:
    counts = {ONE: 1000, TEN: 200}
    runs = [write_run(tmp_path / name, always_right, counts, model=f"m/{name}") for name in "abc"]
    assert "2 settings, 1,200 questions to each of 3 models." in page(runs).text
    assert "2 settings, 1,200 questions. Each" in page(runs[:1]).text


def test_names_break_after_their_punctuation(tmp_path: Path) -> None:
    assert breakable("m/a-b?c=<d") == "m/<wbr>a-<wbr>b?<wbr>c=<wbr>&lt;d"


def test_each_number_of_needles_has_tiles_and_comparisons_of_its_own(tmp_path: Path) -> None:
    counts = {ONE: 8, TEN: 8, Setting(1, 2, 2, 2): 8}

    def one_only(setting: Setting, index: int, truth: Truth) -> Response:
        return ok(text(truth) if setting.needles == 1 else "no idea")

    runs = [write_run(tmp_path / name, one_only, counts, model=f"m/{name}") for name in "ab"]
    root = page(runs)
    run = root.all("section", class_="run")[0]
    assert [node.text for node in run.all("h3", class_="count")] == ["1 needle", "2 needles"]
    tiles = [[one.text for one in row.all("dd")] for row in run.all("dl", class_="cards")]
    assert [(row[0], row[7]) for row in tiles] == [
        ("100.0 %", "0 is chance, 1 is perfect"),
        ("0.0 %", "1 is perfect; chance may lie below 0"),
    ]
    (comparison,) = [one for one in root.all("section") if one.attributes.get("id") == "comparison"]
    assert [node.text for node in comparison.all("h3")] == [
        "Exact accuracy, % of positives: 1 needle",
        "Exact accuracy, % of positives: 2 needles",
    ]
    alone = page([write_run(tmp_path / "c", one_only, {ONE: 8})])
    assert alone.all("h3", class_="count") == []


def test_runs_on_different_data_sets_are_not_compared_silently(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", always_first, {ONE: 8}, model="m/a", fingerprint="a" * 64),
        write_run(tmp_path / "b", always_first, {ONE: 8}, model="m/b", fingerprint="b" * 64),
    ]
    root = page(runs)
    assert len(root.all("table", class_="models")) == 2
    assert "2 data sets" in root.all("p", class_="notice")[0].text


# --------------------------------------------------------------------------- gallery


def test_the_gallery_shows_every_kind_of_error_and_right_answers(
    dataset: DataSet, tmp_path: Path
) -> None:
    shape = Setting(3, 2, 2)
    run = write_run(tmp_path / "run", all_sorts, {shape: 24}, dataset=dataset)
    samples = page([run]).all("details", class_="sample")
    kinds = [sample.all("span", class_="badge")[0].text for sample in samples]
    assert set(kinds) == {
        "wrong cell",
        "wrong image",
        "no such cell",
        "missed",
        "hallucinated",
        "unreadable",
        "refused",
        "right",
    }
    assert kinds[-2:] == ["right", "right"]
    wrong = samples[kinds.index("wrong image")]
    assert len(wrong.all("svg", class_="shot")) == 2
    frames = [
        rect.attributes["class"]
        for rect in wrong.all("rect")
        if "frame" in rect.attributes["class"]
    ]
    assert frames == ["frame true", "frame given"]


def test_the_sample_that_is_open_at_first_has_pictures_and_a_wrong_cell(
    dataset: DataSet, tmp_path: Path
) -> None:
    counts = {Setting(1, 2, 2): 24, Setting(3, 2, 2): 24}

    def late(setting: Setting, index: int, truth: Truth) -> Response:
        if setting.images == 1:
            return ok(text(truth))
        return all_sorts(setting, index, truth)

    right = write_run(tmp_path / "right", always_right, counts, dataset=dataset)
    run = write_run(tmp_path / "run", late, counts, dataset=dataset)
    for runs in ([run], [right, run], [right]):
        opened = [
            (one.all("span", class_="badge")[0].text, bool(one.all("svg", class_="shot")))
            for one in page(runs).all("details", class_="sample")
            if "open" in one.attributes
        ]
        assert opened == [("wrong cell" if run in runs else "right", True)]


def test_images_beyond_the_fourth_are_named(tmp_path: Path) -> None:
    shape = Setting(8, 1, 1, 3)
    tiles = TileFormat(64, 64)
    made = build(tmp_path / "data", ShapesSource(40), {shape: 2}, tiles=tiles, workers=1)
    true = {place.image for place in made.sample(f"{shape.name}-000000").truth if place}
    given = sorted(set(range(1, 9)) - true)[:3]

    def others(setting: Setting, index: int, truth: Truth) -> Response:
        return ok("; ".join(f"{image}, 1, 1" for image in given))

    run = write_run(tmp_path / "run", others, {shape: 1}, dataset=made)
    (sample,) = page([run]).all("details", class_="sample")
    shots = sample.all("svg", class_="shot")
    assert len(shots) == 4
    # pictures of 64 pixels: drawn larger, so that labels fit beside them
    assert {shot.attributes["viewbox"] for shot in shots} == {"0 0 320.0 320.0"}
    assert f"2 more images are not shown: {given[1]}, {given[2]}." in sample.text


def test_the_marked_cell_is_the_true_cell(dataset: DataSet, tmp_path: Path) -> None:
    shape = Setting(1, 3, 5)
    run = write_run(tmp_path / "run", always_right, {shape: 24}, dataset=dataset)
    for sample in page([run]).all("details", class_="sample"):
        name = sample.all("dd")[0].text
        place = dataset.sample(name).truth[0]
        shots = sample.all("svg", class_="shot")
        assert len(shots) == (place is not None)
        if place is not None:
            (frame,) = sample.all("rect", class_="both")[:1]
            _, _, width, height = map(float, shots[0].attributes["viewbox"].split())
            x, y = float(frame.attributes["x"]), float(frame.attributes["y"])
            assert int(x // (width / 5)) + 1 == place.column
            assert int(y // (height / 3)) + 1 == place.row


def test_pictures_show_the_haystack_s_own_images(dataset: DataSet, tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    shape = Setting(1, 2, 2)
    run = write_run(tmp_path / "run", always_right, {shape: 2}, dataset=dataset)
    root = page([run])
    (use,) = root.all("use")
    (image,) = [i for i in root.all("image") if i.attributes["id"] == use.attributes["href"][1:]]
    file = base64.b64decode(image.attributes["href"].partition(",")[2])
    shown = Image.open(io.BytesIO(file))
    sent = Image.open(io.BytesIO(dataset.images(dataset.sample(f"{shape.name}-000000"))[0]))
    assert shown.size == sent.size  # 128 px: small enough as it is
    difference = [
        abs(a - b) for a, b in zip(shown.tobytes(), sent.convert("RGB").tobytes(), strict=True)
    ]
    assert sum(difference) / len(difference) < 4


def test_without_its_data_set_the_report_still_works(dataset: DataSet, tmp_path: Path) -> None:
    counts = {Setting(3, 2, 2): 24}
    run = write_run(tmp_path / "run", all_sorts, counts)
    root = page([run])
    assert "There is no data set at" in root.text
    assert root.all("svg", class_="shot") == []
    assert len(root.all("details", class_="sample")) > 5


def test_a_data_set_that_moved_can_be_named(dataset: DataSet, tmp_path: Path) -> None:
    counts = {Setting(3, 2, 2): 24}
    run = write_run(tmp_path / "run", all_sorts, counts, fingerprint=dataset.fingerprint)
    assert page([run]).all("svg", class_="shot") == []
    assert page([run], datasets=[dataset.folder]).all("svg", class_="shot")


def test_a_named_data_set_of_no_run_is_an_error(dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", all_sorts, {Setting(3, 2, 2): 4}, fingerprint="d" * 64)
    with pytest.raises(UserError) as caught:
        write_report([run], tmp_path / "report.html", datasets=[dataset.folder])
    for part in (str(dataset.folder), dataset.fingerprint[:12], "d" * 12):
        assert part in str(caught.value)
    assert dataset.fingerprint not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_missing_data_sets_are_told_to_the_caller(dataset: DataSet, tmp_path: Path) -> None:
    counts = {Setting(3, 2, 2): 4}
    here = write_run(tmp_path / "here", all_sorts, counts, dataset=dataset)
    gone = write_run(tmp_path / "gone", all_sorts, counts, fingerprint=dataset.fingerprint)
    assert missing_datasets([here]) == []
    (line,) = missing_datasets([gone, here, gone])
    assert line.startswith(f"There is no data set at {gone.header.dataset_path} now")
    assert line.replace(str(tmp_path / "gone" / "no-data"), "no-data") in page([gone]).text
    assert missing_datasets([gone], [dataset.folder]) == []


def test_another_data_set_in_its_place_is_not_shown(dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", all_sorts, {Setting(3, 2, 2): 24}, dataset=dataset)
    run.header.dataset_fingerprint = "c" * 64
    root = page([run])
    assert "is another one now" in root.text
    assert root.all("svg", class_="shot") == []


def test_the_file_stays_small_and_says_what_it_left_out(
    dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", all_sorts, {Setting(3, 2, 2): 24}, dataset=dataset)
    monkeypatch.setattr(run_sections, "PICTURE_BYTES", 10_000)
    root = page([run])
    shown = len(root.all("svg", class_="shot"))
    assert shown > 0
    assert "mmneedle show" in root.text
    monkeypatch.undo()
    assert len(page([run]).all("svg", class_="shot")) > shown


def test_the_first_samples_are_chosen_whatever_order_answers_came_in(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", always_first, {ONE: 60})
    lines = (tmp_path / "one" / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "one" / "responses.jsonl").write_bytes(b"".join(reversed(lines)))
    (found,) = findings(one).values()
    assert [example.index for example in found.examples["hallucinated"]] == [1, 3, 5, 7]


# --------------------------------------------------------------------------- the file


def test_the_page_is_one_file_that_names_nothing_outside_itself(
    dataset: DataSet, tmp_path: Path
) -> None:
    counts = dict.fromkeys(dataset.settings, 24)
    run = write_run(tmp_path / "run", all_sorts, counts, dataset=dataset)
    out = write_report([run], tmp_path / "deep" / "report.html")
    source = out.read_text(encoding="utf-8")
    root = Page(source).root
    assert list(out.parent.iterdir()) == [out]
    for tag in ("link", "iframe", "object", "embed", "form", "base"):
        assert root.all(tag) == []
    assert ours(root)
    for tag in ("img", "image", "use", "a"):
        for node in root.all(tag):
            target = node.attributes.get("href") or node.attributes.get("src") or ""
            assert target.startswith(("#", "data:image/webp;base64,")), target
    assert "style=" not in re.sub(r"<style>.*?</style>", "", source, flags=re.S)
    (policy,) = [
        node.attributes["content"] for node in root.all("meta") if "http-equiv" in node.attributes
    ]
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'sha256-")


def test_headings_landmarks_and_text_alternatives(dataset: DataSet, tmp_path: Path) -> None:
    counts = dict.fromkeys(dataset.settings, 24)
    run = write_run(tmp_path / "run", all_sorts, counts, dataset=dataset)
    root = page([run])
    assert len(root.all("main")) == len(root.all("header")) == len(root.all("footer")) == 1
    levels = [int(tag[1]) for tag in re.findall(r"<(h[1-6])[ >]", render_report([run]))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    for figure in root.all("svg"):
        if figure.attributes.get("role") == "img":
            assert figure.attributes["aria-label"]
            assert figure.all("title")[0].text
        else:
            assert figure.attributes["aria-hidden"] == "true"
    names = [
        node.attributes["id"]
        for tag in ("section", "h2", "h3")
        for node in root.all(tag)
        if "id" in node.attributes
    ]
    assert len(names) == len(set(names))
    for link in root.all("a"):
        assert link.attributes["href"][1:] in {*names, "main"}


def ours(root: Node) -> bool:
    """Whether the only script that could run is the page's own; data blocks do not run."""
    scripts = [node for node in root.all("script") if "type" not in node.attributes]
    types = {node.attributes.get("type", "") for node in root.all("script")}
    own = str(page_source("haystack.js", "explorer.js", "case.js"))
    return [node.text for node in scripts] == [own] and types == {"", "text/plain"}


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></details></main><h1>owned</h1>",
    "{{ 7 * 7 }} {% raw %}",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
]


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_answers_are_text(words: str, tmp_path: Path) -> None:
    def answer(setting: Setting, index: int, truth: Truth) -> Response:
        return Response(status="ok", text=words, reasoning=words, error=words)

    run = write_run(tmp_path / "run", answer, {ONE: 8}, model=f"m/{words}")
    root = page([run])
    assert ours(root)
    assert [node.text for node in root.all("h1")] == [f"m/{words}"]
    assert words in root.all("pre")[0].text
    for tag in ("svg", "img", "image"):
        for node in root.all(tag):
            assert not [name for name in node.attributes if name.startswith("on")]


def test_hostile_names_in_notes_are_text(tmp_path: Path) -> None:
    name = "m/<b>a_b|`c`\u202e"
    none = write_run(tmp_path / "a", lambda s, i, t: ok("-1") if i else None, {ONE: 8}, model=name)
    other = write_run(tmp_path / "b", always_right, {ONE: 8})
    (notes,) = page([none, other]).all("ul", class_="notes")
    assert "* m/<b>a_b|`c`U+202E lacks answers" in notes.text


def test_characters_that_turn_or_hide_text_are_spelled_out(tmp_path: Path) -> None:
    sly = "1, 1, \u202e2\u202c\u200b\x00\x1b[31m\ufeff"
    assert show("a\u202eb") == 'a<span class="ctl">U+202E</span>b'
    run = write_run(tmp_path / "run", lambda s, i, t: ok(sly), {ONE: 8}, model="m\u2066x")
    source = render_report([run])
    for char in "\u202e\u202c\u200b\x00\x1b\ufeff\u2066":
        assert char not in source
    assert "U+202E" in source


def test_a_huge_answer_is_cut_with_a_note(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda s, i, t: ok("x" * 10_000_000), {ONE: 4})
    source = render_report([run])
    assert len(source) < 200_000
    assert "has 10,000,000 characters" in source
    assert "x" * TEXT_LIMIT in source
    assert "x" * (TEXT_LIMIT + 1) not in source


def test_lone_surrogates_do_not_break_the_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", always_right, {ONE: 4})
    run.header.model = "m/\ud800"
    out = write_report([run], tmp_path / "report.html")
    assert "U+D800" in out.read_text(encoding="utf-8")


def test_several_needles_are_marked_by_number(dataset: DataSet, tmp_path: Path) -> None:
    shape = Setting(3, 2, 2, 2)

    def swapped(setting: Setting, index: int, truth: Truth) -> Response:
        return ok(text(truth[::-1]))

    run = write_run(tmp_path / "run", swapped, {shape: 12}, dataset=dataset)
    (sample, *_) = page([run]).all("details", class_="sample")
    labels = {node.text for node in sample.all("text", class_="plate")}
    assert labels <= {"true 1", "true 2", "given 1", "given 2"}
    assert {"true 1", "true 2"} <= labels
    assert "Caption 2" in sample.text


def test_a_run_without_a_single_answer(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda s, i, t: None, {ONE: 10})
    root = page([run])
    assert "Answered0 of 10" in root.text.replace("\n", "")
    notice = root.all("section", id="run-1")[0].all("p", class_="notice")[0].text
    assert notice.strip() == "None of the 10 questions was answered, so there are no scores."
    assert "between" not in notice


@pytest.mark.parametrize("name", ["folder", "file/report.html"])
def test_a_report_that_cannot_be_written_is_one_clear_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    run = write_run(tmp_path / "run", always_right, {ONE: 4})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"cannot be written \(.+\)$") as caught:
        write_report([run], tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_leaves_the_old_report_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, words: str, **options: object) -> int:
        path.write_bytes(words.encode()[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    run = write_run(tmp_path / "run", always_right, {ONE: 4})
    out = write_report([run], tmp_path / "report.html")
    before = out.read_bytes()
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_report([run], out)
    assert out.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report.html", "run"]


def test_no_runs_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_cells_are_numbered_as_haystacks_are() -> None:
    assert cell_at(Setting(2, 2, 3), 7) == Location(2, 1, 2)


def test_text_on_any_colour_of_a_scale_is_readable() -> None:
    for colour in (
        *svg.CIVIDIS,
        *svg.PURPLES,
        *(f"#{grey:02x}{grey:02x}{grey:02x}" for grey in range(256)),
    ):
        ground, text = svg.luminance(colour), {"dark": 0.0, "light": 1.0}[svg.ink(colour)]
        low, high = sorted((ground, text))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_first_screen_counts_places_named_for_what_is_not_there(tmp_path: Path) -> None:
    def odd(setting: Setting, index: int, truth: Truth) -> Response:
        if truth[0] is None:
            return ok({0: "1, 1, 1", 1: "no idea"}.get(index // 2 % 4, "-1"))
        return ok(text(truth) if index // 2 % 4 else "-1")

    root = page([write_run(tmp_path / "run", odd, {ONE: 40, TEN: 40})])
    good, made_up = root.all("section", id="glance")[0].all("table")
    assert [cell.text for cell in good.all("td")] == ["75", "75", "75", "25", "3", "14"]
    assert [cell.text for cell in made_up.all("td")] == ["25", "25", "25"]
    words = root.all("section", id="glance")[0].text.replace("\u00a0", " ")
    assert "Finds 75.0 % of what is there, on average over 2 settings." in words
    assert "Names a place for 25.0 % of what is not there, on average over 2 settings." in words
    assert "Naming cells at random finds 13.8 %." in words


def test_the_policy_names_what_may_run() -> None:
    assert "script-src 'none'" in policy("a{}")
    digest = base64.b64encode(hashlib.sha256(b"go()").digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy("a{}", "go()")


def share(tenths: int) -> Answer:
    """Right about so many tenths of what is there; as seldom right about what is not."""

    def answer(setting: Setting, index: int, truth: Truth) -> Response:
        known = index // 2 % 10 < tenths
        if truth[0] is None:
            return ok("-1" if known else "1, 1, 1")
        return ok(text(truth) if known else "-1")

    return answer


def said(runs: list[Run]) -> list[str]:
    """The first screen's sentences."""
    found = page(runs).all("section", id="glance")[0].all("p", class_="finding")
    return [one.text.replace("\u00a0", " ") for one in found]


def test_equal_models_are_named_together(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / n, share(8), {ONE: 80}, model=n) for n in ("m-a", "m-b")]
    good, made_up = said(runs)
    assert good.startswith("m-a and m-b find 80.0 % of what is there, both alike.")
    assert made_up == "m-a and m-b name a place for 20.0 % of what is not there, both alike."


def test_the_first_screen_claims_what_the_ranks_tell(tmp_path: Path) -> None:
    tenths = {"m-a": 8, "m-b": 7, "m-c": 2}
    runs = [write_run(tmp_path / n, share(k), {ONE: 80}, model=n) for n, k in tenths.items()]
    good, made_up = said(runs)
    assert good.startswith(
        "m-a and m-b find most, 80.0 and 70.0 % of what is there (the data cannot tell them "
        "apart); m-c least, 20.0 %."
    )
    assert made_up.startswith("m-a and m-b make least up, 20.0 and 30.0 %")
    assert said(runs[:2])[0].startswith("The data cannot tell m-a and m-b apart: they find")
    rows = page(runs).all("table", class_="models")[0].all("tr")[1:4]
    assert [row.all("td", class_="rank")[0].text for row in rows] == ["1–2", "1–2", "3"]
    bold = [bool(row.all("td", class_="mean")[0].all("strong")) for row in rows]
    assert bold == [True, True, False]


def test_nothing_is_best_across_data_sets(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / n, share(k), {ONE: 80}, model=n, fingerprint=n[-1] * 64)
        for n, k in (("m-a", 10), ("m-b", 2))
    ]
    sentences = said(runs)
    assert len(sentences) == 4
    assert not any("most" in one or "least" in one for one in sentences)


def test_a_run_without_an_answer_says_so(tmp_path: Path) -> None:
    none = write_run(tmp_path / "none", lambda *_: None, {ONE: 20}, model="m-silent")
    root = page([none])
    run = root.all("section", id="run-1")[0]
    assert "None of the 20 questions was answered" in run.text
    assert "– %" not in root.text
    assert not run.all("svg")
    assert not root.all("section", id="glance")[0].all("table")
    beside = said([none, write_run(tmp_path / "some", share(8), {ONE: 20}, model="m-a")])
    assert beside[0].startswith("Only m-a has answers: it finds")


def test_the_page_does_not_tell_where_the_data_set_lay(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", share(8), {ONE: 20})
    written = render_report([run])
    assert str(tmp_path) not in written
    assert str(tmp_path) not in json.dumps(packed(written))
    assert packed(written)["runs"][0]["show"] == "mmneedle show no-data"
    assert str(tmp_path) in missing_datasets([run])[0]  # the terminal's word names the place
