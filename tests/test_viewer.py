"""The viewer over HTTP: a real server process, real data sets, real run folders."""

import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from PIL import Image, ImageChops, ImageStat
from report_runs import ONE, TEN, Truth, always_right, cell_at, made_up, ok, text, write_run
from viewer_server import Viewer

from mmneedle.data.shapes import ShapesSource
from mmneedle.evaluate import evaluate
from mmneedle.prompts import prompt
from mmneedle.runlog import Record, now, request_digest
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.resize import Resizer
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.tasks import open_task
from mmneedle.types import Location, Response, Setting, Usage, sample_id

OBLONG = Setting(2, 2, 3)
BIG = Setting(1, 8, 8)
PAIRED = Setting(3, 2, 2, 2)
COUNTS = {ONE: 24, TEN: 24, OBLONG: 24, BIG: 120, PAIRED: 12}


def mixed(setting: Setting, index: int, truth: Truth) -> Response | None:
    """All kinds of ends, by the sample's number."""
    here = truth[0]
    if index % 12 == 11:
        return None
    if index % 12 == 9:
        return Response("timeout", error="no reply within 120 s")
    if index % 12 == 7:
        return Response("refused", "I cannot help with that.")
    if index % 12 == 6:
        return ok("It may be anywhere, who knows")
    if index % 12 == 4 and here is not None:
        cell = (here.row - 1) * setting.cols + here.column - 1
        other = cell_at(setting, (cell + 1) % (setting.rows * setting.cols))
        words = str(Location(here.image, other.row, other.column))
        return ok("; ".join([words] * setting.needles))
    if index % 12 == 3:
        return ok("; ".join(["1, 1, 2"] * setting.needles))
    if index % 12 == 2:
        return ok("; ".join(["-1"] * setting.needles))
    return Response(
        "ok",
        text(truth),
        latency=index / 10,
        usage=Usage(1000 + index, 7),
        stop_reason="stop",
        reasoning="I looked at every photo.",
        model="vendor-model-2026",
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def dataset(base: Path) -> DataSet:
    tiles = TileFormat(64, 48)
    return build(
        base / "data",
        ShapesSource(200),
        COUNTS,
        Rules(hard_negatives=0.5),
        tiles=tiles,
        workers=1,
    )


@pytest.fixture(scope="module")
def runs(base: Path, dataset: DataSet) -> Path:
    folder = base / "runs"
    write_run(folder / "a-mixed", mixed, COUNTS, model="vendor/mixed", dataset=dataset)
    write_run(folder / "b-right", always_right, COUNTS, model="baseline/oracle", dataset=dataset)
    return folder


@pytest.fixture(scope="module")
def viewer(dataset: DataSet, runs: Path):
    with Viewer(dataset.folder, runs) as viewer:
        yield viewer


def names(page: str) -> list[str]:
    """The samples of a list, in order."""
    return re.findall(r'<p class="asked"><a href="/sample/([^?"]+)\?', page)


def found(page: str) -> int:
    match = re.search(r'<h2 class="found" role="status">([\d,]+) sample', page)
    assert match, page[:3000]
    return int(match[1].replace(",", ""))


# --------------------------------------------------------------------------- start and lists


def test_the_start_page_names_all(viewer, dataset):
    page = viewer.page("/")
    assert "vendor/<wbr>mixed" in page
    assert "baseline/<wbr>oracle" in page
    assert dataset.fingerprint[:12] in page
    assert "(2,2x3)" in page
    assert "50 % of negatives" in page
    assert "204 samples" in page


@pytest.mark.parametrize("item", ["d1", "r1", "r2"])
def test_a_list_has_fifty_a_page_and_all_in_the_end(viewer, item):
    seen: list[str] = []
    for number in range(1, 6):
        page = viewer.page(f"/samples?in={item}&page={number}")
        assert len(names(page)) == (50 if number < 5 else 4)
        assert found(page) == 204
        seen += names(page)
    wanted = [sample_id(s, i) for s in (ONE, BIG, OBLONG, TEN, PAIRED) for i in range(COUNTS[s])]
    assert seen == wanted
    assert viewer.ask(f"/samples?in={item}&page=6").status == 400


FILTERS = {
    "setting=n10-g2x2-k1": lambda s, i, t: s == TEN,
    "split=positive": lambda s, i, t: i % 2 == 0,
    "split=negative&setting=n1-g2x2-k1": lambda s, i, t: s == ONE and i % 2,
    "outcome=missed": lambda s, i, t: i % 12 == 2,
    "outcome=hallucinated": lambda s, i, t: i % 12 == 3,
    "outcome=unparsed": lambda s, i, t: i % 12 == 6,
    "outcome=refused": lambda s, i, t: i % 12 == 7,
    "outcome=no_answer": lambda s, i, t: i % 12 in (9, 11),
    "outcome=right": lambda s, i, t: i % 12 in (0, 1, 5, 8, 10),
    "outcome=wrong": lambda s, i, t: i % 12 in (2, 3, 4, 6, 7),
    "status=timeout": lambda s, i, t: i % 12 == 9,
    "status=missing": lambda s, i, t: i % 12 == 11,
    "text=WHO+KNOWS": lambda s, i, t: i % 12 == 6,
    "text=cannot+help&setting=n1-g2x2-k1": lambda s, i, t: s == ONE and i % 12 == 7,
    "outcome=right&scorer=paper": lambda s, i, t: i % 12 in (0, 1, 5, 8, 10),
    "outcome=hallucinated&scorer=paper": lambda s, i, t: i % 12 == 3,
}


@pytest.mark.parametrize("query", FILTERS)
def test_filters_leave_what_they_say(viewer, dataset, query):
    wanted = {
        sample_id(setting, index)
        for setting, count in COUNTS.items()
        for index in range(count)
        if FILTERS[query](setting, index, None)
    }
    page = viewer.page(f"/samples?in=r1&{query}")
    assert found(page) == len(wanted)
    pages = -(-len(wanted) // 50)
    seen = [
        n for k in range(pages) for n in names(viewer.page(f"/samples?in=r1&{query}&page={k + 1}"))
    ]
    assert sorted(seen) == sorted(wanted)


def test_captions_hardness_and_ambiguity(viewer, dataset):
    samples = {s.id: s for setting in COUNTS for s in dataset.samples(setting)}
    word = samples[sample_id(TEN, 0)].needles[0].caption.upper()
    for item in ("d1", "r1"):
        wanted = {
            n for n, s in samples.items() if any(word.lower() in k.caption for k in s.needles)
        }
        path = f"/samples?in={item}&text={word.replace(' ', '+')}"
        assert set(names(viewer.page(path))) == wanted and wanted
        hard = [n for n, s in samples.items() if s.hard]
        assert found(viewer.page(f"/samples?in={item}&split=hard")) == len(hard) > 0
        inside = [n for n, s in samples.items() if 0.3 <= (s.ambiguity or 0) <= 0.5]
        assert found(viewer.page(f"/samples?in={item}&low=0.3&high=0.5")) == len(inside) > 0
    order = names(viewer.page("/samples?in=d1&sort=ambiguity"))
    values = [samples[name].ambiguity for name in order]
    assert values == sorted(values, reverse=True)


def test_sorting_a_run(viewer):
    order = names(viewer.page("/samples?in=r1&sort=latency&setting=n10-g2x2-k1"))
    times = [int(name[-6:]) for name in order if int(name[-6:]) % 12 in (0, 1, 5, 8, 10)]
    assert times == sorted(times, reverse=True)
    assert int(order[-1][-6:]) % 12 not in (0, 1, 5, 8, 10)  # what is not known comes last
    newest = names(viewer.page("/samples?in=r1&sort=newest&setting=n10-g2x2-k1"))
    assert newest[0] == sample_id(TEN, 22)


# --------------------------------------------------------------------------- a sample


def test_a_sample_has_all_that_belongs_to_it(viewer, dataset):
    name = sample_id(TEN, 0)
    page = unescape(viewer.page(f"/sample/{name}?in=r1"))
    sample = dataset.sample(name)
    assert prompt(sample.setting, [sample.needles[0].caption]) in page
    assert page.count(f"/small/r1/{name}/") + page.count(f'src="/image/r1/{name}/') == 10
    assert "I looked at every photo." in page
    assert "1,000" in page and "vendor-model-2026" in page and "stop" in page
    for caption in next(p for p in dataset.photos() if p.id == sample.needles[0].photo).captions:
        assert caption in page


def test_before_and_after_go_through_what_the_filters_leave(viewer):
    query = "in=r1&setting=n10-g2x2-k1&outcome=wrong"
    order = names(viewer.page(f"/samples?{query}"))
    seen, path = [], f"/sample/{order[0]}?{query}"
    while path:
        page = viewer.page(path)
        seen.append(path.split("/")[2].split("?")[0])
        after = re.search(r'<a rel="next" href="([^"]+)"', page)
        path = unescape(after[1]) if after else ""
    assert seen == order
    before = re.search(r'<a rel="prev" href="/sample/([^?]+)\?', page)
    assert before and before[1] == order[-2]


def test_the_wrong_photo_stands_beside_the_right_one(viewer, dataset):
    name = sample_id(BIG, 4)
    page = viewer.page(f"/sample/{name}?in=r1")
    assert "The photo asked for, and the one given" in page
    sources = re.findall(rf'src="(/cell/r1/{name}/[\d/]+)"', page)
    true = dataset.sample(name).needles[0]
    assert sources[0] == f"/cell/r1/{name}/" + "/".join(map(str, true.location))
    assert viewer.ask(sources[0]).body == dataset.store.tile(true.photo)
    assert len(sources) == 2


def test_a_negative_that_was_named_shows_what_was_pointed_at(viewer):
    page = viewer.page(f"/sample/{sample_id(TEN, 3)}?in=r1")
    assert "Given, though the photo asked for is not there" in page
    assert f"/cell/r1/{sample_id(TEN, 3)}/1/1/2" in page


def test_needles_are_told_apart(viewer):
    page = viewer.page(f"/sample/{sample_id(PAIRED, 4)}?in=r1")
    assert "true 1" in page and "true 2" in page and "given 1 = given 2" in page
    assert "Other captions of 2" in page


# --------------------------------------------------------------------------- pictures


def test_images_are_the_very_bytes_that_are_sent(viewer, dataset):
    for setting in COUNTS:
        sample = dataset.sample(sample_id(setting, 2))
        for item in ("d1", "r1"):
            for number, image in enumerate(dataset.images(sample), 1):
                reply = viewer.ask(f"/image/{item}/{sample.id}/{number}")
                assert reply.body == image
                assert reply.headers["content-type"] == "image/jpeg"
                digest = hashlib.sha256(image).hexdigest()
                assert reply.headers["etag"] == f'"{digest}"'
                assert reply.headers["cache-control"] == "private, no-cache"
                again = viewer.ask(
                    f"/image/{item}/{sample.id}/{number}", If_None_Match=f'"{digest}"'
                )
                assert (again.status, again.body) == (304, b"")
        assert viewer.ask(f"/image/d1/{sample.id}/{setting.images + 1}").status == 404


def test_small_pictures_are_small_and_of_the_right_place(viewer, dataset):
    name = sample_id(BIG, 0)
    sample = dataset.sample(name)
    small = Image.open(io.BytesIO(viewer.ask(f"/small/d1/{name}/1").body))
    assert max(small.size) <= 512
    place = sample.needles[0].location
    near = Image.open(io.BytesIO(viewer.ask("/near/d1/{}/{}/{}/{}".format(name, *place)).body))
    assert near.size == (192, 144)  # three cells of 64 x 48, wherever in the image
    whole = Image.open(io.BytesIO(dataset.images(sample)[0]))
    top, left = (max(1, min(at - 1, 6)) - 1 for at in (place.row, place.column))
    wanted = whole.crop((left * 64, top * 48, left * 64 + 192, top * 48 + 144))
    difference = ImageChops.difference(near, wanted)  # chroma at the edges knows its neighbours
    assert max(ImageStat.Stat(difference).mean) < 2
    elsewhere = ImageChops.difference(near, whole.crop((200, 150, 392, 294)))
    assert max(ImageStat.Stat(elsewhere).mean) > 20


def test_a_run_with_smaller_cells_shows_them(base, dataset, tmp_path):
    evaluate(dataset.folder, "baseline/oracle", tmp_path / "run", resize=(32, 24), quiet=True)
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["resize"] == [32, 24]
    # as a model would have it that looks, and whose provider shrinks further
    header |= {"cell": [32, 24], "effective_cell": {BIG.name: [16, 12]}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(header))
    sample = dataset.sample(sample_id(BIG, 0))
    with Viewer(tmp_path / "run") as viewer:
        sent = viewer.ask(f"/image/r1/{sample.id}/1").body
        assert sent == Resizer(dataset, (32, 24)).images(sample)[0]
        seen = Image.open(io.BytesIO(viewer.ask(f"/seen/r1/{sample.id}/1").body))
        assert seen.format == "PNG" and seen.size == (128, 96)
        page = viewer.page(f"/sample/{sample.id}?in=r1")
        assert "sent at 32 × 24 px and reach the model at 16 × 12 px" in page
        switched = viewer.page(f"/sample/{sample.id}?in=r1&pixels=model")
        assert f"/seen/r1/{sample.id}/1" in switched


# --------------------------------------------------------------------------- comparing


def test_two_runs_side_by_side(viewer):
    page = viewer.page("/samples?in=r1,r2&differ=1")
    right = sum(1 for s, n in COUNTS.items() for i in range(n) if i % 12 in (0, 1, 5, 8, 10))
    assert found(page) == 204 - right
    counts = dict(
        zip(
            re.findall(r"sides=(\w+,\w+)", page.split("</section>")[0]),
            map(int, re.findall(r'in=r1,r2&amp;sides=[^"]+">(\d+)<', page)),
            strict=True,
        )
    )
    assert counts["right,right"] == right
    assert sum(counts.values()) == 204
    only = viewer.page("/samples?in=r1,r2&sides=wrong,right")
    assert found(only) == counts["wrong,right"]
    first = names(only)[0]
    both = viewer.page(f"/sample/{first}?in=r1,r2&sides=wrong,right")
    assert "vendor/<wbr>mixed" in both and "baseline/<wbr>oracle" in both
    assert "true = B" in both


def test_runs_on_different_data_are_not_mixed(viewer, runs, tmp_path):
    write_run(tmp_path / "other", always_right, {ONE: 4}, fingerprint="b" * 64)
    with Viewer(runs, tmp_path / "other") as both:
        reply = both.ask("/samples?in=r1,r3")
        assert reply.status == 400
        assert "different data sets" in reply.text
        assert "<h1>These runs cannot be compared</h1>" in reply.text
    assert viewer.ask("/samples?in=d1,r1").status == 400


@pytest.mark.parametrize("chosen", ["", "in=r1&", "in=d1&", "in=r1,r2,r3,r4,r5,r6,r7&"])
def test_a_comparison_takes_two_to_six(viewer, chosen):
    reply = viewer.ask(f"/samples?{chosen}differ=1")
    assert reply.status == 400
    assert "choose two to six runs" in reply.text
    assert "<h1>These runs cannot be compared</h1>" in reply.text


# --------------------------------------------------------------------------- a run under way


def line(setting: Setting, index: int, response: Response) -> bytes:
    record = Record(
        sample=sample_id(setting, index),
        truth=made_up(setting, index),
        attempt=1,
        at=now(),
        request_sha256=None,
        response=response,
    )
    return msgspec.json.encode(record) + b"\n"


def test_a_run_is_followed_while_it_grows(tmp_path):
    run = write_run(tmp_path / "run", lambda *_: None, {TEN: 40})
    log = run.folder / "responses.jsonl"
    with Viewer(run.folder) as viewer:
        first = viewer.ask("/live?in=r1")
        assert "No answer yet" in first.text and "stands still" in first.text
        tag = first.headers["etag"]
        assert viewer.ask("/live?in=r1", If_None_Match=tag).status == 304
        assert len(names(viewer.page("/samples?in=r1"))) == 40
        for index in range(10):
            content = line(TEN, index, ok(text(made_up(TEN, index))))
            with log.open("ab") as file:
                file.write(content[:50])
                file.flush()
                assert f">{index}<small> of 40" in viewer.page("/live?in=r1")  # half a line is none
                file.write(content[50:])
            live = viewer.ask("/live?in=r1", If_None_Match=tag)
            assert live.status == 200
            assert f">{index + 1}<small> of 40" in live.text
            tag = live.headers["etag"]
        with log.open("ab") as file:
            file.write(line(TEN, 30, Response("server_error", error="503 <b>overloaded</b>")))
        assert "fixed beforehand" in viewer.page("/live?in=r1")
        assert "503 &lt;b&gt;overloaded" in viewer.page("/live?in=r1")
        assert found(viewer.page("/samples?in=r1&outcome=right")) == 10
        log.write_bytes(line(TEN, 5, ok("-1")))
        assert ">1<small> of 40" in viewer.page("/live?in=r1")
        (run.folder / "run.json").unlink()
        gone = viewer.ask("/live?in=r1")
        assert gone.status == 409 and "no run here" in gone.text
        assert "no run here" in viewer.page("/")


WRITER = """
import asyncio, sys, msgspec
from pathlib import Path
sys.path.insert(0, {tests!r})
from report_runs import TEN, made_up, ok, text
from mmneedle.runlog import Record, Run, RunLog, now
from mmneedle.types import sample_id

async def write(folder):
    with RunLog.open(folder, Run.open(folder).header) as log:
        for index in range(1000):
            await log.append(Record(sample=sample_id(TEN, index), truth=made_up(TEN, index),
                attempt=1, at=now(), request_sha256=None, response=ok(text(made_up(TEN, index)))))
            await asyncio.sleep(0.02)
            print(index, flush=True)

asyncio.run(write(Path({folder!r})))
"""


def test_a_writer_that_is_killed(tmp_path):
    run = write_run(tmp_path / "run", lambda *_: None, {TEN: 1000})
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(run.folder))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        with Viewer(run.folder) as viewer:
            while int(writer.stdout.readline()) < 20:
                pass
            live = viewer.page("/live?in=r1")
            assert "under way" in live and f"Being written by process {writer.pid}" in live
            assert " a min<" in live and " left" in live
            assert "under way" in viewer.page("/")
            writer.kill()
            writer.wait()
            live = viewer.page("/live?in=r1")
            assert "stands still, unfinished" in live
            assert "Nobody is writing it" in live
    finally:
        writer.kill()
        writer.wait()


def test_a_finished_run_says_so(viewer):
    assert "finished" in viewer.page("/run?in=r2")
    assert "nothing is left to ask" in viewer.page("/run?in=r2")
    unfinished = viewer.page("/run?in=r1")
    assert "stands still, unfinished" in unfinished
    assert "no reply within 120 s" in unfinished


def test_damaged_lines_are_named(dataset, tmp_path):
    run = write_run(tmp_path / "run", always_right, {TEN: 6}, dataset=dataset)
    log = run.folder / "responses.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"sample": <script>\n'
    log.write_bytes(b"".join(lines))
    with Viewer(run.folder) as viewer:
        assert "line 3 is damaged" in viewer.page("/run?in=r1")
        assert "1 damaged line" in viewer.page("/")
        page = viewer.page("/samples?in=r1")
        assert "line 3 is damaged" in page
        assert found(page) == 6
        assert "<script>\n" not in page


def test_shards_are_one_run(dataset, tmp_path):
    for part in (1, 2, 3):
        evaluate(
            dataset.folder,
            "baseline/oracle",
            tmp_path / "parts" / f"{part}",
            shard=(part, 3),
            quiet=True,
        )
    with Viewer(tmp_path / "parts") as viewer:
        assert "1 run" in viewer.page("/")
        assert found(viewer.page("/samples?in=r1&outcome=right")) == 204
        assert "sent no image: it answers" in viewer.page(f"/sample/{sample_id(TEN, 5)}?in=r1")


def test_haystacks_that_came_as_text(dataset, tmp_path):
    for task in ("grid", "twin-literal"):
        evaluate(dataset.folder, "baseline/first", tmp_path / "runs" / task, task=task, quiet=True)
    twin = open_task("twin-literal", dataset)
    sample = dataset.sample(sample_id(TEN, 4))
    with Viewer(tmp_path / "runs") as viewer:
        page = unescape(viewer.page(f"/sample/{sample.id}?in=r2"))
        assert twin.request(sample).prompt in page
        assert "the haystack came as text" in page
        both = unescape(viewer.page(f"/sample/{sample.id}?in=r1,r2"))
        for task in (twin, open_task("grid", dataset)):
            assert task.request(sample, with_images=False).prompt in both


def test_what_was_sent_is_proved(dataset, tmp_path):
    run = write_run(tmp_path / "run", always_right, {TEN: 4}, dataset=dataset)
    log = run.folder / "responses.jsonl"
    right = request_digest(open_task("grid", dataset).request(dataset.sample(sample_id(TEN, 0))))
    lines = [json.loads(one) for one in log.read_bytes().splitlines()]
    lines[0]["request_sha256"], lines[1]["request_sha256"] = right, "0" * 64
    log.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with Viewer(run.folder) as viewer:
        same = viewer.page(f"/sample/{sample_id(TEN, 0)}?in=r1")
        assert f"{right}: what is shown here is what was sent, byte for byte" in same
        other = viewer.page(f"/sample/{sample_id(TEN, 1)}?in=r1")
        assert "0" * 64 + " was sent, but the data set gives" in other


def test_questions_that_share_a_haystack(tmp_path):
    shared = build(
        tmp_path / "data",
        ShapesSource(60),
        {TEN: 16},
        Rules(questions=4),
        TileFormat(32, 32),
        workers=1,
    )
    evaluate(shared.folder, "baseline/first", tmp_path / "run", quiet=True)
    with Viewer(tmp_path / "run") as viewer:
        page = viewer.page(f"/sample/{sample_id(TEN, 6)}?in=r1")
        for other in (4, 5, 7):
            assert f"/sample/{sample_id(TEN, other)}?" in page
        assert "cluster bootstrap" in viewer.page("/run?in=r1")
        for index in range(16):
            sample = shared.sample(sample_id(TEN, index))
            assert viewer.ask(f"/image/r1/{sample.id}/7").body == shared.images(sample)[6]


# --------------------------------------------------------------------------- what is not there


def test_a_data_set_that_moved(dataset, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "old")
    old = DataSet.open(tmp_path / "old")
    run = write_run(tmp_path / "run", mixed, {TEN: 24}, dataset=old)
    (tmp_path / "old").rename(tmp_path / "new")
    with Viewer(run.folder) as viewer:
        page = viewer.page("/samples?in=r1")
        assert "There is no data set at old now" in page and "--data DIR" in page
        about = viewer.page("/run?in=r1")
        assert "Data set" in about and str(tmp_path / "old") not in page + about
        assert found(page) == 24
        sample = viewer.page(f"/sample/{sample_id(TEN, 4)}?in=r1")
        assert "There is no data set at old" in sample and "wrong cell" in sample
        assert "<img" not in sample
        assert viewer.ask(f"/image/r1/{sample_id(TEN, 4)}/1").status == 404
        assert found(viewer.page("/samples?in=r1&text=who+knows")) == 2
    with Viewer(run.folder, "--data", tmp_path / "new") as viewer:
        assert "There is no data set" not in viewer.page("/samples?in=r1")
        assert viewer.ask(f"/image/r1/{sample_id(TEN, 4)}/1").status == 200


def test_a_damaged_data_set_is_said_so(dataset, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "data")
    run = write_run(
        tmp_path / "run", always_right, {TEN: 4}, dataset=DataSet.open(tmp_path / "data")
    )
    (tmp_path / "data" / "tiles" / "tiles.bin").write_bytes(b"nothing")
    with Viewer(run.folder) as viewer:
        page = viewer.page(f"/sample/{sample_id(TEN, 0)}?in=r1")
        assert "not a whole tile store" in page
        assert viewer.ask(f"/image/r1/{sample_id(TEN, 0)}/1").status == 409
    (tmp_path / "data" / "samples" / f"{TEN.name}.parquet").write_bytes(b"nothing")
    with Viewer(tmp_path / "data", run.folder) as viewer:
        assert found(viewer.page("/samples?in=r1")) == 4
        reply = viewer.ask(f"/samples?in=d1&setting={TEN.name}&text=a")
        assert reply.status == 409 and "cannot be read" in reply.text


# --------------------------------------------------------------------------- strangers


ODD = (
    "/nothing",
    "/samples?in=r9",
    "/samples?in=../../etc/passwd",
    "/sample/../../../etc/passwd?in=r1",
    "/sample/..%2f..%2f..%2fetc%2fpasswd?in=r1",
    "/sample/n10-g2x2-k1-0?in=r1",
    "/sample/n10-g2x2-k1-000999?in=r1",
    "/sample/n10-g2x2-k1-%D9%A1%D9%A1?in=r1",
    "/sample/n99999999999999999999-g2x2-k1-000000?in=r1",
    "/image/r1/n10-g2x2-k1-000000/0",
    "/image/r1/n10-g2x2-k1-000000/11",
    "/image/r1/n10-g2x2-k1-000000/1e0",
    "/image/r1/n10-g2x2-k1-000000/%00",
    "/image/../r1/n10-g2x2-k1-000000/1",
    "/image/r9/n10-g2x2-k1-000000/1",
    "/near/r1/n10-g2x2-k1-000000/1/3/1",
    "/cell/r1/n10-g2x2-k1-000000/1/1/-1",
    "/assets/..%2f..%2ftheme.css",
    "/answer/d1/n10-g2x2-k1-000000",
    "/run?in=d1",
    "//etc/passwd",
)


@pytest.mark.parametrize("path", ODD)
def test_what_is_not_there_is_not_there(viewer, path):
    reply = viewer.ask(path)
    assert reply.status == 404, reply.text
    assert "root:" not in reply.text


MEANINGLESS = """

in=
in=r1&page=0
in=r1&page=-1
in=r1&page=x
in=r1&page=%F0%9F%98%80
in=r1&outcome=%3Cscript%3E
in=r1&status=..
in=r1&low=nan
in=r1&high=2
in=r1&setting=n1
in=r1&sort=;
in=r1&scorer=x
in=r1,r2&sides=up
in=r1,r2,r3,r4,r5,r6,r7
"""


@pytest.mark.parametrize("query", MEANINGLESS.splitlines()[1:])
def test_addresses_that_mean_nothing_are_refused(viewer, query):
    reply = viewer.ask(f"/samples?{query}")
    assert reply.status in (400, 404)
    assert "<script>" not in reply.text.lower().replace('<script src="/assets', "")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
def test_other_hosts_names_are_refused(viewer, host):
    reply = viewer.ask("/", Host=host.format(port=viewer.port))
    assert reply.status == 421
    assert "vendor" not in reply.text


def test_this_hosts_names_are_not(viewer):
    assert viewer.ask("/", Host=f"localhost:{viewer.port}").status == 200
    assert viewer.ask("/", Host=f"LOCALHOST:{viewer.port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_only_reading(viewer, method):
    reply = viewer.ask("/", method, Origin="http://evil.example")
    assert reply.status == 405
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "path", ["/", "/samples?in=r1", "/nothing", "/image/d1/n1-g2x2-k1-000000/1"]
)
def test_every_reply_keeps_to_the_policy(viewer, path):
    for reply in (viewer.ask(path), viewer.ask(path, "HEAD"), viewer.ask(path, Host="evil")):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in reply.headers
        assert "server" not in reply.headers
    head = viewer.ask(path, "HEAD")
    assert head.body == b""
    assert head.status == viewer.ask(path).status


def test_nobody_elsewhere_reaches_it(viewer):
    with socket.socket() as other:  # an address of this host that it does not listen on
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", viewer.port)) != 0


HOSTILE = (
    "<script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "</pre></main><h1>owned</h1>",
    "1, 1, 1 \u202e\u2066\u200b\x00\x1b[31m",
    "{{ 7 * 7 }} {% raw %}",
    "\ud800 half a character",
)


class Tags(HTMLParser):
    """Every tag of a page with its attributes, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_models_write_is_only_shown(dataset, tmp_path):
    for number, words in enumerate(HOSTILE):
        safe = words.encode("utf-8", "replace").decode()
        response = Response("ok", safe, reasoning=safe, stop_reason=safe, model=safe, error=safe)
        write_run(
            tmp_path / "runs" / f"evil-{number}",
            lambda *_, answer=response: answer,
            {TEN: 2},
            model=f"evil/{safe}",
            dataset=dataset,
        )
    with Viewer(tmp_path / "runs") as viewer:
        pages = [viewer.page("/")]
        for number in range(1, len(HOSTILE) + 1):
            for path in ("/run?", "/samples?", f"/sample/{sample_id(TEN, 1)}?", "/live?"):
                pages.append(viewer.page(f"{path}in=r{number}"))
        for page in pages:
            assert "\u202e" not in page and "\x1b" not in page and "\x00" not in page
            tags = Tags(page).found
            assert len(tags) > 20
            for tag, attributes in tags:
                assert not any(name.startswith("on") or name == "style" for name in attributes)
                if tag in ("script", "img", "link"):
                    assert (attributes.get("src") or attributes.get("href")).startswith("/")
        assert "{{ 7 * 7 }}" in unescape(pages[-8] + pages[-7] + pages[-6])


def test_endless_answers_are_cut(dataset, tmp_path):
    long = "W" * 10_000_000
    answer = Response("ok", long, reasoning=long)
    write_run(tmp_path / "run", lambda *_: answer, {ONE: 2}, dataset=dataset)
    with Viewer(tmp_path / "run") as viewer:
        for path in ("/samples?in=r1", f"/sample/{sample_id(ONE, 0)}?in=r1", "/run?in=r1"):
            assert len(viewer.page(path)) < 100_000
        assert "10,000,000 characters" in viewer.page(f"/sample/{sample_id(ONE, 0)}?in=r1")
        whole = viewer.ask(f"/answer/r1/{sample_id(ONE, 0)}")
        assert whole.text == long
        assert whole.headers["content-type"].startswith("text/plain")
        assert whole.headers["content-disposition"].startswith("attachment")


# --------------------------------------------------------------------------- the command


def test_it_ends_in_one_line(dataset):
    with Viewer(dataset.folder) as viewer:
        assert viewer.line.count("\n") == 1
        viewer.page("/")
        link = socket.create_connection(("127.0.0.1", viewer.port))  # somebody is still connected
        status, out, err = viewer.interrupt()
        link.close()
    assert (status, out, err) == (0, "mmneedle view: ended\n", "")


def test_what_cannot_be_shown_is_one_line(mmneedle, dataset, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["nowhere"], "no such folder"),
            (["empty"], "neither a data set"),
            (["file"], "is a file"),
            ([str(dataset.folder), "--port", port], f"port {port} cannot be used"),
            ([str(dataset.folder), "--data", "empty"], "no data set here"),
            ([str(runs), "--data", "empty"], "no data set here"),
        ):
            result = mmneedle("view", "--no-open", *arguments)
            assert result.status == 2, arguments
            assert words in result.err
            assert result.err.count("\n") == 1


def test_a_data_set_of_no_run_is_refused(mmneedle, dataset, tmp_path):
    write_run(tmp_path / "run", always_right, {ONE: 2}, fingerprint="c" * 64)
    result = mmneedle("view", "--no-open", tmp_path / "run", "--data", dataset.folder)
    assert result.status == 2
    assert "is not that of a run here" in result.err


def test_a_folder_of_others_names_does_no_harm(dataset, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "a & b <i>")
    with Viewer(tmp_path / "a & b <i>") as viewer:
        page = viewer.page("/")
        assert "<i>" not in page and "a &amp; b &lt;i&gt;" in page
