"""Figures show what the outcomes say: checked by what is drawn, not by how it looks."""

import csv
import importlib
import math
import re
import resource
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image
from report_runs import TEN, always_first, always_right, ok, text, write_run
from rounds import examples

from mmneedle.errors import UserError
from mmneedle.outcomes import outcomes
from mmneedle.reports import figures
from mmneedle.reports.figures import layout, measures, style
from mmneedle.runlog import Run, Stop
from mmneedle.scoring import score_run
from mmneedle.statistics import wilson
from mmneedle.types import Location, Response, Setting, Usage

NINE = Setting(9, 2, 2)
ONE_IMAGE = Setting(1, 4, 4)
RECTANGLE = Setting(3, 2, 5)
TWO_NEEDLES = Setting(4, 3, 3, 2)
ODD_NAMES = ("$x_1$", "a_b^c", r"\frac{1}{2}", "100% & #1 {~}", "模型/七", "שלום", "a\u202eb", "$")


def loses_the_middle(setting, index, truth):
    """Right in the first and the last third of the images, says "-1" elsewhere."""
    place = truth[0]
    if place is None:
        return ok("-1")
    middle = setting.images / 3 < place.image <= 2 * setting.images / 3
    return ok("-1" if middle else text(truth))


def loses_a_column(setting, index, truth):
    """Never finds what lies in the last column."""
    place = truth[0]
    return ok("-1" if place is None or place.column == setting.cols else text(truth))


def line(ax: Axes, label: str):
    """The one line of a panel with that label."""
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return found


def panels(figure: Figure) -> dict[str, Axes]:
    """Panels by what stands above them."""
    return {ax.get_title(loc="left"): ax for ax in figure.axes}


def drawn(figure: Figure) -> Figure:
    """A figure with everything in its place."""
    FigureCanvasAgg(figure).draw()
    return figure


# --------------------------------------------------------------------------- data


def test_depth_shows_a_model_that_loses_the_middle(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 360})
    (panel,) = figures.depth_curve(run, by="image").axes
    x, y = line(panel, "baseline/test").get_xydata().T
    assert x.tolist() == list(range(1, 10))
    assert y.tolist() == [100] * 3 + [0] * 3 + [100] * 3
    # each image has 20 needles of the 180 positives
    low, high = wilson(20, 20)
    ends = [segment[:, 1].tolist() for segment in panel.collections[0].get_segments()]
    assert ends[0] == pytest.approx([100 * low, 100 * high])
    assert line(panel, "chance").get_ydata()[0] == pytest.approx(100 / 36)


def test_depth_by_cell_is_in_reading_order(tmp_path):
    def late(setting, index, truth):
        place = truth[0]
        if place is None:
            return ok("-1")
        cell = (place.row - 1) * setting.cols + place.column
        return ok(text(truth) if cell > 8 else "-1")

    run = write_run(tmp_path / "r", late, {ONE_IMAGE: 640})
    (panel,) = figures.depth_curve(run, by="cell").axes
    x, y = line(panel, "baseline/test").get_xydata().T
    assert x == pytest.approx([100 * i / 15 for i in range(16)])
    assert y.tolist() == [0] * 8 + [100] * 8


def test_position_map_shows_the_lost_column(tmp_path):
    run = write_run(tmp_path / "r", loses_a_column, {RECTANGLE: 300})
    figure = figures.position_map(run)
    (panel,) = [ax for ax in figure.axes if ax.get_label() == "(3,2x5)"]
    (mesh,) = [c for c in panel.collections if isinstance(c, QuadMesh)]
    assert mesh.get_array().reshape(2, 5).tolist() == [[100, 100, 100, 100, 0]] * 2
    assert panel.get_ylim() == (2, 0)  # the first row is on top
    assert "80.0" in [child.get_text() for child in panel.texts]


def test_cells_without_needles_are_blank_and_few_are_hatched(tmp_path):
    run = write_run(tmp_path / "r", always_right, {Setting(1, 3, 3): 10})  # cells 0 to 4 once each
    figure = figures.position_map(run, few=2)
    panel = figure.axes[0]
    (mesh,) = [c for c in panel.collections if isinstance(c, QuadMesh)]
    assert np.ma.getmaskarray(mesh.get_array()).ravel().tolist() == [False] * 5 + [True] * 4
    hatched = [p.get_xy() for p in panel.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert sorted(hatched) == sorted([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)])
    panel = figures.position_map(run, few=1).axes[0]
    assert not [p for p in panel.patches if p.get_hatch()]


def test_accuracy_map_holds_the_scores_and_bolds_the_best(tmp_path):
    first = write_run(tmp_path / "a", always_first, {NINE: 360, ONE_IMAGE: 64}, model="m/first")
    right = write_run(tmp_path / "b", always_right, {ONE_IMAGE: 64}, model="m/right")
    figure = figures.accuracy_map([first, right])
    panel = figure.axes[0]
    (mesh,) = [c for c in panel.collections if isinstance(c, QuadMesh)]
    values = mesh.get_array().reshape(2, 2)
    assert values[:, 0].tolist() == pytest.approx([100 * 2 / 32, 100])
    assert values[0, 1] == pytest.approx(100 / 36)
    assert values.mask[1, 1]  # not asked
    assert [t.get_text() for t in panel.get_xticklabels()] == ["(1,4)", "(9,2)"]
    assert [t.get_text() for t in panel.get_yticklabels()] == ["m/first", "m/right"]
    cells = {t.get_text(): t.get_fontweight() for t in panel.texts}
    assert cells == {"6.3": "normal", "2.8": "normal", "100.0": "bold"}


def test_other_data_sets_have_no_best(tmp_path):
    runs = [
        write_run(tmp_path / name, always_right, {ONE_IMAGE: 8}, fingerprint=name * 64, model=name)
        for name in "ab"
    ]
    panel = figures.accuracy_map(runs).axes[0]
    assert {t.get_fontweight() for t in panel.texts} == {"normal"}


def test_context_curve_joins_equally_many_images(tmp_path):
    def counted(setting, index, truth):
        return Response("ok", text(truth), usage=Usage(input_tokens=100 * setting.cells + index))

    sizes = [Setting(n, s, s) for n in (1, 10) for s in (1, 2, 3)]
    run = write_run(tmp_path / "r", counted, dict.fromkeys(sizes, 10))
    (panel,) = figures.context_curve(run).axes
    lines = [one.get_xdata().tolist() for one in panel.lines if one.get_label() == "baseline/test"]
    assert lines == [[1, 4, 9], [10, 40, 90]]
    (panel,) = figures.context_curve(run, by="tokens").axes
    lines = [one.get_xdata().tolist() for one in panel.lines if one.get_label() == "baseline/test"]
    assert lines == [[104.5, 404.5, 904.5], [1004.5, 4004.5, 9004.5]]
    (panel,) = figures.context_curve(run, by="images").axes
    lines = [one.get_xdata() for one in panel.lines if one.get_label() == "baseline/test"]
    assert [x[1] / x[0] for x in lines] == pytest.approx([10] * 3)
    # grids stand beside each other, by more than a marker and by less than a third of a doubling
    inches = np.log2([x[0] for x in lines]) / np.log2(10 * 1.3**2) * (6.5 - layout.AXIS)
    assert (np.diff(inches) * 72 > 4.6).all()
    assert max(abs(np.log2(x[0])) for x in lines) < 0.34


def test_unanswered_are_left_out_and_named(tmp_path):
    def half(setting, index, truth):
        if index % 4 < 2:
            return None if index % 8 else Response("timeout", error="x")
        return always_right(setting, index, truth)

    run = write_run(tmp_path / "r", half, {TEN: 80})
    figures.write_figures(run, tmp_path / "out", formats=("svg",))
    captions = (tmp_path / "out/captions.md").read_text()
    assert "baseline/test left 40 of 80 samples unanswered" in captions
    with (tmp_path / "out/accuracy.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["n"], row["hits"], row["value"]) == ("20", "20", "1.0")
    with (tmp_path / "out/errors.csv").open() as file:
        none = [r for r in csv.DictReader(file) if r["kind"] == "no_answer"]
    assert [r["hits"] for r in none] == ["20", "20"]


def test_nothing_answered_is_blank_everywhere(tmp_path):
    run = write_run(tmp_path / "r", lambda *_: Response("timeout", error="x"), {TEN: 40})
    panel = figures.accuracy_map(run).axes[0]
    (mesh,) = [c for c in panel.collections if isinstance(c, QuadMesh)]
    assert mesh.get_array().mask.all() and not panel.texts
    (panel,) = figures.depth_curve(run).axes
    assert np.isnan(line(panel, "baseline/test").get_ydata()).all()
    with pytest.raises(UserError, match="positives and negatives"):
        figures.existence_plane(run)
    files = figures.write_figures(run, tmp_path / "out", formats=("svg",))
    # Only what shows the unanswered themselves is drawn; the others are named, and why.
    assert [file.name for file in files if file.suffix == ".svg"] == ["errors.svg"]
    captions = (tmp_path / "out/captions.md").read_text()
    for name in ("accuracy", "positions", "depth-image", "existence", "false-alarms"):
        assert f"- {name}: there is nothing to draw: no answer has come" in captions
    assert ". ." not in captions


def test_convergence_is_the_running_mean(tmp_path):
    rng = np.random.default_rng(5)
    right = rng.random(60) < 0.6

    def answer(setting, index, truth):
        return ok(text(truth) if right[index // 2] else "-1")

    run = write_run(tmp_path / "r", answer, {TEN: 120})
    (panel,) = figures.convergence_curve(run).axes
    x, y = line(panel, "baseline/test").get_xydata().T
    assert x.tolist() == list(range(2, 61))
    assert y == pytest.approx([100 * right[:n].mean() for n in range(2, 61)])
    rows = measures.convergence(figures.subjects(run), [TEN], "exact", "robust")
    errors = [row.at["stderr"] for row in rows]
    assert errors == pytest.approx([right[:n].std() / math.sqrt(n) for n in range(2, 61)])


def test_existence_plane_has_hits_and_false_alarms(tmp_path):
    def answer(setting, index, truth):
        return ok("1, 1, 1" if index % 10 in (0, 2, 4, 1) else "-1")

    run = write_run(tmp_path / "r", answer, {TEN: 100})
    (panel,) = figures.existence_plane(run).axes
    assert line(panel, "baseline/test").get_xydata() == pytest.approx(np.array([[20, 60]]))
    assert line(panel, "chance").get_xydata().tolist() == [[0, 0], [100, 100]]
    assert line(panel, "J = 0.25").get_xydata().tolist() == [[0, 25], [75, 100]]


def test_error_bars_add_up_to_all_that_was_asked(tmp_path):
    def answer(setting, index, truth):
        return (ok(text(truth)), ok("-1"), None, ok("a dog"), ok("9, 9, 9"))[index // 2 % 5]

    run = write_run(tmp_path / "r", answer, {TEN: 100, TWO_NEEDLES: 40})
    figure = figures.error_bars(run)
    for panel in figure.axes[:2]:
        for row in range(2):
            bars = [p for p in panel.patches if round(p.get_y() + 0.39) == row]
            assert sum(bar.get_width() for bar in bars) == pytest.approx(100)
            assert len({bar.get_label() for bar in bars}) == len(bars)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["(10,2)", "(4,3) K=2"]


def test_false_alarms_tell_hard_negatives_apart(tmp_path):
    run = write_run(tmp_path / "r", always_first, {TEN: 40, NINE: 40})
    path = tmp_path / "r/responses.jsonl"
    rows = [msgspec.json.decode(one) for one in path.read_bytes().splitlines()]
    for row in rows:
        if row["sample"].endswith("1"):
            row["hard"], row["response"]["text"] = True, "-1"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    (panel,) = figures.false_alarms(run).axes
    (shown,) = [t.get_texts() for t in [panel.figure.legends[0]]]
    assert "hard negatives" in [t.get_text() for t in shown]
    curves = [one.get_ydata().tolist() for one in panel.lines if one.get_label() == "baseline/test"]
    assert sorted(curves) == [[0], [0], [100], [100]]


def test_calibration_shows_how_often_the_needle_is_absent(tmp_path):
    def answer(setting, index, truth):
        return Response("ok", "-1", absent_logprob=math.log(0.25 if index % 4 == 0 else 0.75))

    run = write_run(tmp_path / "r", answer, {TEN: 160})
    (panel,) = figures.calibration(run).axes
    x, y = line(panel, "baseline/test").get_xydata().T
    assert x[0] == pytest.approx(25) and x[-1] == pytest.approx(75)
    assert y[0] == 0  # only positives were given a quarter
    plain = write_run(tmp_path / "p", always_first, {TEN: 8})
    with pytest.raises(UserError, match="--logprobs"):
        figures.calibration(plain)


def test_a_setting_that_a_rule_stopped_has_the_interval_of_scores(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 360})
    stop = Stop(end=360, halfwidth=0.1, level=0.95, rule="x", at="2026-11-22T12:00:01.000Z")
    plan = {NINE.name: (0, 400)}
    header = msgspec.structs.replace(run.header, plan=plan, stopped={NINE.name: stop})
    run = Run(header, [run.folder])
    (row,) = [one for one in score_run(run) if one.split == "positive" and one.scorer == "robust"]
    (datum,) = measures.scores(figures.subjects(run), [NINE], "exact", "robust")
    assert (datum.share.low, datum.share.high) == pytest.approx(row.interval["exact"])
    assert row.interval_method == "confidence_sequence"


@examples(20, HealthCheck.function_scoped_fixture)
@given(picks=st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_shares_are_those_of_scores(tmp_path_factory, picks):
    def answer(setting, index, truth):
        return (ok(text(truth)), ok("-1"), ok("1, 1, 1"), None)[picks[index % len(picks)]]

    run = write_run(tmp_path_factory.mktemp("r") / "r", answer, {TEN: 30, TWO_NEEDLES: 12})
    (subject,) = figures.subjects(run)
    for row in score_run(run):
        for metric in ("existence", "index", "exact"):
            found = measures.rate(
                subject, row.setting, metric, positive=row.split == "positive", scorer=row.scorer
            )
            wanted = getattr(row, metric)
            assert found.value == wanted
            if wanted is not None:
                assert (found.low, found.high) == pytest.approx(row.interval[metric])


def test_published_rows_stand_beside_and_are_marked(tmp_path):
    run = write_run(tmp_path / "r", always_right, {Setting(1, 2, 2): 20, Setting(10, 8, 8): 20})
    panel = figures.accuracy_map(run, published=True).axes[0]
    names = [t.get_text() for t in panel.get_yticklabels()]
    (mesh,) = [c for c in panel.collections if isinstance(c, QuadMesh)]
    values = mesh.get_array().reshape(len(names), 2)
    assert values[names.index("GPT-4o †")].tolist() == pytest.approx([94.6, 1.0])
    assert values.mask[names.index("CogVLM-17B †")].tolist() == [False, True]
    assert sum("†" in name for name in names) == len(names) - 1 == 13


def test_several_needles_count_each_at_its_own_depth(tmp_path):
    def second_only(setting, index, truth):
        if truth[0] is None:
            return ok("-1; -1")
        return ok(f"-1; {truth[1]}")

    run = write_run(tmp_path / "r", second_only, {TWO_NEEDLES: 144})
    table = outcomes(run)[TWO_NEEDLES]
    needles = measures.Needles.of(table, "robust")
    assert needles.right["exact"].mean() == 0.5
    (panel,) = figures.depth_curve(run).axes
    assert line(panel, "baseline/test").get_ydata().mean() == pytest.approx(50, abs=2)


@given(st.integers(1, 700), st.integers(0, 5_000))
def test_groups_of_depth_cover_every_place_once(places, needles):
    groups = measures._groups(places, needles)
    covered = [place for first, last in groups for place in range(first, last + 1)]
    assert covered == list(range(places))
    assert len(groups) <= measures.MOST_BINS
    sizes = {last - first + 1 for first, last in groups}
    assert max(sizes) - min(sizes) <= 1


# --------------------------------------------------------------------------- axes of one's own


def test_somebodys_axes_are_drawn_into(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 90, TEN: 40})
    mine = Figure(figsize=(4, 3))
    ax = mine.subplots()
    with pytest.raises(UserError, match="one ax holds one setting"):
        figures.depth_curve(run, ax=ax)
    assert figures.depth_curve(run, ax=ax, setting=NINE.name) is mine
    assert len(mine.axes) == 1 and line(ax, "baseline/test")
    assert ax.get_xlabel() == "Image of the needle"
    with pytest.raises(UserError, match="no run has the setting n2-g2x2-k1"):
        figures.depth_curve(run, setting="n2-g2x2-k1")
    for draw in (figures.context_curve, figures.false_alarms, figures.accuracy_map):
        assert draw(run, ax=mine.subplots()) is mine


def test_nothing_of_matplotlib_stays_changed(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 20})
    script = (
        "import sys, matplotlib; matplotlib.use('svg'); before = matplotlib.rcParams.copy()\n"
        "from mmneedle.reports.figures import write_figures\n"
        f"write_figures({str(run.folder)!r}, {str(tmp_path / 'out')!r}, formats=('pdf',))\n"
        "assert matplotlib.rcParams == before and matplotlib.get_backend() == 'svg'\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    # Nor is a backend chosen where the user has chosen none.
    script = (
        "import sys\n"
        "from mmneedle.reports.figures import depth_curve, save\n"
        f"save(depth_curve({str(run.folder)!r}), {str(tmp_path / 'depth.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# --------------------------------------------------------------------------- files


def test_files_have_the_width_fonts_and_bytes_that_were_asked_for(tmp_path):
    runs = [
        write_run(tmp_path / name, answer, {NINE: 36, ONE_IMAGE: 32}, model=f"m/{name}")
        for name, answer in (("a", always_first), ("b", loses_the_middle))
    ]
    files = figures.write_figures(runs, tmp_path / "one", columns=1)
    assert all(file.is_file() for file in files)
    for pdf in (tmp_path / "one").glob("*.pdf"):
        content = pdf.read_bytes()
        (box,) = re.findall(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", content)
        assert float(box[0]) == pytest.approx(3.25 * 72)
        assert float(box[1]) <= 8.5 * 72
        assert b"/FontFile2" in content and b"/Type3" not in content
        assert b"/CIDFontType2" in content  # TrueType
        assert b"CreationDate" not in content and b"/Title (" in content
        inside = b"".join(
            zlib.decompress(part)
            for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
            if part[:1] == b"x"
        )
        assert b"BI\n" not in inside and b"/Subtype /Image" not in content  # vectors only
    for png in (tmp_path / "one").glob("*.png"):
        with Image.open(png) as image:
            assert image.width == 975 and image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert image.info["Title"]
    assert {file.suffix for file in files} == {".pdf", ".png", ".csv", ".md", ".tex"}


def test_the_same_runs_give_the_same_bytes(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 36})
    for draw in (figures.accuracy_map, figures.error_bars, figures.depth_curve):
        for form in style.FORMATS:
            first, second = (
                figures.save(draw(run), tmp_path / f"{k}.{form}", title="$t") for k in "ab"
            )
            assert first.read_bytes() == second.read_bytes(), (draw, form)


def test_csv_holds_what_is_drawn(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 360})
    figures.write_figures(run, tmp_path / "out", formats=("svg",))
    with (tmp_path / "out/depth-image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["first_image"]) for row in rows] == list(range(1, 10))
    assert [float(row["value"]) for row in rows] == [1.0] * 3 + [0.0] * 3 + [1.0] * 3
    assert [int(row["n"]) for row in rows] == [20] * 9
    assert {row["setting"] for row in rows} == {"n9-g2x2-k1"}
    captions = (tmp_path / "out/captions.md").read_text()
    assert "lowest 0.0 %" in captions and "at image 4, highest 100.0 %" in captions
    assert "context-tokens: there is nothing to draw" in captions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ("pdf", "bmp")}, "no figure format 'bmp'"),
        ({"formats": ()}, "no figure format: choose"),
        ({"columns": 3}, "1 or 2 columns"),
        ({"width": 0.1}, "between 2 and 20 inches"),
        ({"width": math.nan}, "between 2 and 20 inches"),
    ],
)
def test_wrong_wishes_are_told_in_one_line(tmp_path, arguments, message):
    run = write_run(tmp_path / "r", always_right, {TEN: 4})
    with pytest.raises(UserError, match=message):
        figures.write_figures(run, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 4})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        figures.write_figures(run, tmp_path / "file/out", formats=("svg",))
    with pytest.raises(UserError, match="pdf, png, svg"):
        figures.save(figures.accuracy_map(run), tmp_path / "figure.doc")


def test_other_files_are_left_alone(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 4})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/paper.tex").write_text("mine")
    figures.write_figures(run, tmp_path / "out", formats=("svg",))
    assert (tmp_path / "out/paper.tex").read_text() == "mine"


@contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_the_disk_refuses_leaves_nothing_half_done(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 4})
    figures.write_figures(run, tmp_path / "out", formats=("png",))
    before = contents(tmp_path / "out")
    other = write_run(tmp_path / "other", always_right, {TEN: 600})
    files = figures.write_figures(other, tmp_path / "whole", formats=("png",))
    sizes = [file.stat().st_size for file in files]
    largest = max(sizes)
    assert sizes.index(largest) > 4  # not one of the first that are written
    for out in ("out", "new/folder"):
        with (
            no_file_larger(largest - 1),
            pytest.raises(UserError, match=rf"{out}/[a-z-]+\.png: cannot be written \(File too"),
        ):
            figures.write_figures(other, tmp_path / out, formats=("png",))
    assert contents(tmp_path / "out") == before
    assert not (tmp_path / "new").exists()
    (tmp_path / "taken/errors.png").mkdir(parents=True)
    with pytest.raises(UserError, match=r"taken/errors\.png: is a folder"):
        figures.write_figures(other, tmp_path / "taken", formats=("png",))
    assert [item.name for item in (tmp_path / "taken").iterdir()] == ["errors.png"]


def test_without_matplotlib_one_line_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mmneedle.reports.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'mmneedle\[figures\]'"):
        importlib.import_module("mmneedle.reports.figures")


# --------------------------------------------------------------------------- text


def overlaps(texts: list[Text], figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other by more than a hair."""
    renderer = figure.canvas.get_renderer()
    boxes = []
    for one in texts:
        if one.get_visible() and one.get_text():
            box = one.get_window_extent(renderer)
            if one.get_text().startswith("\n"):  # its first line is empty
                box = box.from_extents(box.x0, box.y0, box.x1, (box.y0 + box.y1) / 2)
            boxes.append((one.get_text(), box))
    found = []
    for i, (a, one) in enumerate(boxes):
        for b, two in boxes[i + 1 :]:
            wide = min(one.x1, two.x1) - max(one.x0, two.x0)
            high = min(one.y1, two.y1) - max(one.y0, two.y0)
            slanted = a.startswith("J = ") and b.startswith("J = ")  # on parallels, only boxes meet
            if wide > 1 and high > 1 and not slanted:
                found.append((a, b))
    return found


def labels(figure: Figure) -> list[Text]:
    """Every tick label, title, axis label, legend entry and note."""
    texts = list(figure.texts)
    for legend in figure.legends:
        texts += legend.get_texts()
    for ax in figure.axes:
        texts += [*ax.texts, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    texts += [tick.label1, tick.label2]
    return texts


SHAPES = [Setting(n, s, s) for n, s in ((1, 2), (1, 4), (1, 8), (10, 1), (10, 2), (10, 4), (10, 8))]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Twenty subjects with long names, read once."""
    folder = tmp_path_factory.mktemp("crowd")

    def answer(setting, index, truth):
        reply = (always_right, always_first, loses_the_middle)[index // 2 % 3](
            setting, index, truth
        )
        return Response(
            "ok", reply.text, usage=Usage(input_tokens=50 * setting.cells), absent_logprob=-0.3
        )

    return figures.subjects(
        [
            write_run(
                folder / str(k),
                answer,
                dict.fromkeys(SHAPES, 24),
                model=f"vllm/organisation-{k}/some-rather-long-model-name-{k}B-Instruct-v{k}",
            )
            for k in range(20)
        ]
    )


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (1, 2), (3, 1), (20, 1), (20, 2)])
def test_nothing_written_covers_anything_else(crowd, count, columns):
    from mmneedle.reports.figures.write import Options, _parts, plans

    options = Options(style.COLUMNS[columns], "robust", 5)
    seen = 0
    for plan in plans():
        for name, part in list(_parts(plan, crowd[:count], options))[:1]:
            figure = drawn(plan.draw(part, options))
            seen += 1
            texts = labels(figure)
            assert not overlaps(texts, figure), name
            assert figure.get_figwidth() == options.width
            assert figure.get_figheight() <= style.TALLEST + 0.5, name
            renderer = figure.canvas.get_renderer()
            for one in texts:
                if one.get_text() and one.get_visible():
                    assert one.get_fontsize() >= 7, name
                    box = one.get_window_extent(renderer)
                    inside = figure.bbox.x0 - 1 <= box.x0 and box.x1 <= figure.bbox.x1 + 1
                    assert inside and figure.bbox.y0 - 1 <= box.y0, (name, one.get_text())
                    assert box.y1 <= figure.bbox.y1 + 1, (name, one.get_text())
    assert seen >= 11


def test_error_bars_have_names_of_two_lines(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 8}, model="baseline/noisy?p=0.8")
    other = write_run(tmp_path / "o", always_right, {TEN: 8})
    figure = drawn(figures.error_bars([run, other], width=style.COLUMNS[1]))
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert "baseline/noisy?\np=0.8" in names
    assert not overlaps(labels(figure), figure)


def test_every_length_has_its_number(tmp_path):
    run = write_run(tmp_path / "r", always_right, dict.fromkeys(SHAPES, 4))
    others = [f"m/{k}" for k in range(7)]  # one panel each
    runs = [
        write_run(tmp_path / m[2:], always_right, dict.fromkeys(SHAPES, 4), model=m) for m in others
    ]
    for chosen in (run, runs):
        figure = drawn(figures.context_curve(chosen, width=style.COLUMNS[1]))
        for panel in figure.axes:
            ticks = [t.get_text().strip() for t in panel.get_xticklabels()]
            assert ticks == ["4", "10", "16", "40", "64", "160", "640"]
        assert not overlaps(labels(figure), figure)


@pytest.mark.parametrize("columns", [1, 2])
def test_names_of_axes_and_scales_are_there_and_no_longer_than_they(crowd, columns):
    width = style.COLUMNS[columns]
    figure = drawn(figures.convergence_curve(crowd[:1], setting=SHAPES[0], width=width))
    three = [msgspec.structs.replace(s, tables=dict(list(s.tables.items())[:3])) for s in crowd[:2]]
    figure = drawn(figures.convergence_curve(three, width=width))
    renderer = figure.canvas.get_renderer()
    boxes = [ax.get_window_extent(renderer) for ax in figure.axes]
    words = figure._supylabel.get_window_extent(renderer)
    assert words.height <= max(b.y1 for b in boxes) - min(b.y0 for b in boxes) + 1
    for count in (1, 3, 8):
        figure = drawn(figures.accuracy_map(crowd[:count], width=width))
        label = figure.axes[-1].yaxis.label
        assert label.get_text().startswith("Exact") and label.get_text().endswith("(%)")
        assert label.get_window_extent(renderer).height <= figure.bbox.height
        assert not overlaps(labels(figure), figure)


def test_lines_of_j_are_named_where_no_point_lies(crowd, tmp_path):
    def covered(figure: Figure) -> list[str]:
        renderer = figure.canvas.get_renderer()
        found = []
        for panel in figure.axes:
            points = [
                panel.transData.transform(one.get_xydata()[0])
                for one in panel.lines
                if one.get_marker() not in ("None", None)
            ]
            for text_ in panel.texts:
                box = text_.get_window_extent(renderer)
                # the words run along the diagonal of their box
                for x, y in points:
                    along = abs((x - box.x0) - (y - box.y0)) / 2**0.5
                    if box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1 and along < 18:
                        found.append(text_.get_text())
        return found

    def near(setting, index, truth):  # sensitivity 60, false alarms 15: where "J = .5" would begin
        said = index % 40 < 24 if index % 2 == 0 else index % 40 < 6
        return ok("1, 1, 1" if said else "-1")

    run = write_run(tmp_path / "r", near, {TEN: 80})
    figure = drawn(figures.existence_plane(run, width=2.0))
    assert {"J = .25", "J = .5"} >= {t.get_text() for t in figure.axes[0].texts}
    assert covered(figure) == []
    named_ones = 0
    for chosen in (figures.subjects(crowd[:2], published=True), figures.subjects(crowd[:1])):
        figure = drawn(figures.existence_plane(chosen, width=style.COLUMNS[1]))
        named_ones += sum(len(panel.texts) for panel in figure.axes)
        assert covered(figure) == []
    assert named_ones > 10


def test_published_models_are_on_every_page_of_existence(crowd):
    from mmneedle.reports.figures.write import Options, _parts, plans

    (plan,) = [one for one in plans() if one.name == "existence"]
    chosen = figures.subjects(crowd[:8], published=True)
    options = Options(style.COLUMNS[1], "robust", 5)
    pages = [part for _, part in _parts(plan, chosen, options)]
    assert [sum(not s.published for s in part) for part in pages] == [4, 4]
    assert [sum(s.published for s in part) for part in pages] == [13, 13]
    figure = drawn(plan.draw(pages[0], options))
    assert not overlaps(labels(figure), figure)
    assert figure.get_figheight() <= style.TALLEST + 0.5


def test_colours_and_markers_are_told_apart_in_grey():
    from mmneedle.reports.svg import luminance

    assert len(set(style.COLOURS)) == style.MOST_LINES
    many = [figures.Subject(label=str(k), model="m") for k in range(72)]
    assert len({(pen.colour, pen.marker) for pen in layout.pens(many).values()}) == 72
    assert len({pen.marker for pen in layout.pens(many[:12]).values()}) == 12
    neighbours = zip(style.COLOURS, style.COLOURS[1:], strict=False)
    for a, b in neighbours:
        assert abs(luminance(a) - luminance(b)) > 0.05 or a == b
    steps = [luminance(mpl.colors.to_hex(mpl.colormaps[style.MAP](i / 20))) for i in range(21)]
    assert steps == sorted(steps)


def test_odd_names_show_as_they_are(tmp_path):
    runs = [
        write_run(tmp_path / str(k), always_right, {TEN: 8}, model=name)
        for k, name in enumerate(ODD_NAMES)
    ]
    with mpl.rc_context({"text.parse_math": True, "axes.titlesize": 20}):
        figure = drawn(figures.depth_curve(runs))
        entries = figure.legends[0].get_texts()[: len(ODD_NAMES)]
        assert [entry.get_text() for entry in entries] == list(map(style.shown, ODD_NAMES))
        assert not any(entry.get_parse_math() for entry in entries)
        panel = drawn(figures.accuracy_map(runs)).axes[0]
        assert not any(t.get_parse_math() for t in panel.get_yticklabels())
        files = figures.write_figures(runs, tmp_path / "out", formats=("pdf",))
    assert all(file.stat().st_size for file in files)
    for name in ODD_NAMES:
        if name.isascii():
            assert style.shown(name) == name
        else:
            assert not set("\u202e模") & set(style.shown(name))


@examples(60, HealthCheck.function_scoped_fixture)
@given(st.lists(st.text(min_size=0, max_size=80), min_size=1, max_size=6), st.floats(0.7, 4))
def test_names_are_cut_to_fit_and_stay_different(names, width):
    names = list(dict.fromkeys(names))
    for lines in (1, 2):
        done = style.fitted(names, width, lines)
        assert len(set(done.values())) == len(names)
        for text_ in done.values():
            assert text_.count("\n") < lines
            assert all(style.text_width(part) <= width + 1e-6 for part in text_.split("\n"))


def test_names_break_at_signs_and_never_within_a_number():
    name = "baseline/noisy?p=0.8"
    assert style.wrapped(name, style.text_width("baseline/noisy?p=0."), 2) == (
        "baseline/noisy?\np=0.8"
    )
    assert style.wrapped("somemodel12.75b", style.text_width("somemodel12.7"), 2) == (
        "somemodel\n12.75b"
    )
    for width in np.linspace(0.75, 1.3, 40):
        assert not re.search(r"[\d.]\n[\d.]", style.wrapped(name, float(width), 2))


def test_text_is_as_wide_as_it_is_measured():
    figure = Figure(figsize=(6, 1), dpi=300)
    with style.styled():
        shown = figure.text(0, 0.5, "vllm/some-model_name-7B (10,8)", fontsize=7)
    drawn(figure)
    wide = shown.get_window_extent(figure.canvas.get_renderer()).width / 300
    assert style.text_width(shown.get_text()) == pytest.approx(wide, rel=0.03)


# --------------------------------------------------------------------------- command line


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmneedle", *arguments], capture_output=True, text=True, check=False
    )


def test_commands_write_figures(tmp_path):
    run = write_run(tmp_path / "r", loses_the_middle, {NINE: 36, ONE_IMAGE: 32})
    done = command("figures", str(run.folder), "--out", str(tmp_path / "a"), "--formats", "png")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/a/depth-image.png" in done.stdout.splitlines()
    page = tmp_path / "report.html"
    done = command(
        *("report", str(run.folder), "--out", str(page), "--figures", str(tmp_path / "b")),
        *("--columns", "1", "--formats", "pdf"),
    )
    assert done.returncode == 0 and page.is_file() and (tmp_path / "b/captions.tex").is_file()
    assert not list((tmp_path / "b").glob("*.png"))
    done = command("figures", str(run.folder), "--out", str(tmp_path / "c"), "--formats", "gif")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "'gif'" in done.stderr


def test_marks_of_subjects_stand_beside_each_other(tmp_path):
    """A shift keeps intervals apart; it stays within a sixth of the way to the next image."""
    runs = [
        write_run(tmp_path / str(k), always_right, {NINE: 36}, model=f"m/{k}") for k in range(5)
    ]
    (panel,) = figures.depth_curve(runs).axes
    first = [line(panel, f"m/{k}").get_xdata()[0] for k in range(5)]
    assert first == sorted(first) and len(set(first)) == 5
    assert max(abs(x - 1) for x in first) <= 1 / 6


def test_a_location_is_what_the_truth_says():
    truth = np.array([[2, 1, 2]], np.int16)
    assert Location(2, 1, 2) == tuple(truth[0].tolist())
    assert measures._place(truth, Setting(3, 2, 2), "cell").tolist() == [5]
    assert measures._place(truth, Setting(3, 2, 2), "image").tolist() == [1]


def test_paths_are_runs_too(tmp_path):
    write_run(tmp_path / "r", always_right, {TEN: 8})
    (one,) = figures.subjects(tmp_path / "r")
    (two,) = figures.subjects([str(tmp_path / "r")])
    assert one.label == two.label == "baseline/test"
    with pytest.raises(UserError):
        figures.depth_curve(Path(tmp_path / "none"))
    with pytest.raises(UserError, match="at least one run"):
        figures.depth_curve([])


def test_runs_of_text_tasks_are_refused_in_one_line(tmp_path):
    run = write_run(tmp_path / "r", always_right, {TEN: 8})
    header = msgspec.structs.replace(run.header, task="niah", plan={"niah-l4096-d500-k1": (0, 8)})
    with pytest.raises(UserError, match="task niah, whose answers name no cells"):
        figures.subjects(Run(header, [run.folder]))
