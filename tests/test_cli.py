"""The commands as a user types them: what they print, where, and with which exit status."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from chat_server import ChatServer, completion, failure
from needs import coco_mini
from PIL import Image
from shell import Shell, build
from typer.main import get_command

from mmneedle.cli import app


def test_the_main_job(mmneedle: Shell, tmp_path: Path) -> None:
    assert "n2-g2x3-k1: 8 samples" in build(mmneedle)
    for name in ("oracle", "never"):
        out = mmneedle.ok("run", "set", "--model", f"baseline/{name}", "--log", f"runs/{name}")
        assert "16 of 16 samples answered, 16 requests" in out
    again = mmneedle.ok("run", "set", "--model", "baseline/never", "--log", "runs/never")
    assert "16 of 16 samples answered, 0 requests" in again
    rows = json.loads(mmneedle.ok("score", "runs/oracle", "runs/never", "--json"))
    assert len(rows) == 2 * 2 * 2 * 2  # models, settings, splits, scorers
    for row in rows:
        right = row["model"] == "baseline/oracle" or row["split"] == "negative"
        assert (row["n"], row["answered"], row["existence"]) == (4, 4, float(right))
        expected = None if row["split"] == "negative" else float(right)
        assert (row["index"], row["exact"]) == (expected, expected)
    table = mmneedle.ok("score", "runs/never", "--scorer", "paper")
    assert "robust" not in table
    assert "baseline/oracle" in mmneedle.ok("leaderboard", "runs/oracle", "runs/never")
    csv = mmneedle.ok("leaderboard", "runs/oracle", "--format", "csv", "--published")
    assert "GPT-4o" in csv
    mmneedle.ok("report", "runs/oracle", "runs/never", "--out", "pages/report.html")
    assert "baseline/never" in (tmp_path / "pages" / "report.html").read_text()


def test_a_data_set_that_moved(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/first", "--log", "a")
    (tmp_path / "set").rename(tmp_path / "moved")
    assert json.loads(mmneedle.ok("score", "a", "--json"))
    done = mmneedle("report", "a")
    assert (done.status, done.out) == (0, "report.html\n")
    assert "--data DIR" in done.err
    without = Path("report.html").stat().st_size
    done = mmneedle("report", "a", "--data", "moved")
    assert (done.status, done.err) == (0, "")
    assert Path("report.html").stat().st_size > without
    build(mmneedle, "other", "--seed", 1)
    assert "other" in mmneedle.refused("report", "a", "--data", "other")


def test_show(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    entries = json.loads(mmneedle.ok("show", "set", "--json"))
    assert len(entries) == 16
    assert {entry["setting"] for entry in entries} == {"n1-g2x2-k1", "n2-g2x3-k1"}
    name = "n2-g2x3-k1-000004"
    assert name in {entry["id"] for entry in entries}
    prompt = mmneedle.ok("show", "set", name)
    mmneedle.ok("show", "set", name, "--out", "sample")
    folder = tmp_path / "sample"
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["image_1.jpg", "image_2.jpg", "prompt.txt", "sample.json"]
    assert prompt.startswith((folder / "prompt.txt").read_text() + "\n")
    assert Image.open(folder / "image_2.jpg").size == (3 * 64, 2 * 64)
    sample = json.loads((folder / "sample.json").read_text())
    assert (sample["id"], sample["images"], sample["rows"], sample["cols"]) == (name, 2, 2, 3)
    (needle,) = sample["needles"]
    cell = ((needle["image"] - 1) * 2 + needle["row"] - 1) * 3 + needle["column"] - 1
    assert sample["haystack"][cell] == needle["photo"]
    assert needle["caption"] in (folder / "prompt.txt").read_text()
    assert sample == json.loads(mmneedle.ok("show", "set", name, "--json"))
    # Once more into the same folder is fine; a sample with other files is not.
    mmneedle.ok("show", "set", name, "--out", "sample")
    assert "holds other files" in mmneedle.refused(
        "show", "set", "n1-g2x2-k1-000001", "--out", "sample"
    )
    mmneedle.ok("show", "set", "n1-g2x2-k1-000001", "--out", "absent")
    (needle,) = json.loads((tmp_path / "absent" / "sample.json").read_text())["needles"]
    assert (needle["image"], needle["row"], needle["column"]) == (None, None, None)


def test_questions_that_share_a_haystack(mmneedle: Shell) -> None:
    built = build(mmneedle, "set", "--questions-per-haystack", 4)
    assert "4 questions a haystack" in built
    entries = [e["id"] for e in json.loads(mmneedle.ok("show", "set", "--json"))]
    shown = [json.loads(mmneedle.ok("show", "set", name, "--json")) for name in entries[:8]]
    assert [one["haystack_number"] for one in shown] == [0] * 4 + [1] * 4
    assert len({tuple(one["haystack"]) for one in shown}) == 2
    assert len({one["needles"][0]["caption"] for one in shown}) == 8
    same = ("build", "other", "--source", "shapes", "--scenes", 60, "--settings", "1x2")
    assert "must be 1 or an even number" in mmneedle.refused(*same, "--questions-per-haystack", 3)
    assert "at most 8 questions" in mmneedle.refused(*same, "--questions-per-haystack", 10)


def test_what_is_shown_is_what_is_logged_as_sent(mmneedle: Shell, tmp_path: Path) -> None:
    """The log's hash of a request is that of the files that `show` writes."""
    from mmneedle.runlog import request_digest
    from mmneedle.stitching.dataset import DataSet
    from mmneedle.tasks.grid import GridTask

    build(mmneedle)
    name = "n2-g2x3-k1-000004"
    mmneedle.ok("show", "set", name, "--out", "sample")
    dataset = DataSet.open("set")
    files = ("prompt.txt", "image_1.jpg", "image_2.jpg")
    content = b"".join((tmp_path / "sample" / file).read_bytes() for file in files)
    request = GridTask(dataset).request(dataset.sample(name))
    assert request_digest(request) == hashlib.sha256(content).hexdigest()


def test_paper_settings_in_one_word(mmneedle: Shell) -> None:
    shapes = ("--source", "shapes", "--scenes", 700, "--cell", 16)
    out = mmneedle.ok("build", "paper", *shapes, "--paper", "--samples", 4, "--quiet")
    assert out.count(": 4 samples") == 20
    assert "n10-g8x8-k5: 4 samples" in out
    assert "n1-g2x2-k5" not in out
    from mmneedle.stitching.dataset import DataSet

    manifest = DataSet.open("paper").manifest
    assert (manifest.rules.captions, manifest.tiles.quality) == ("last", 75)


def test_drawn_photos_are_a_coco_folder(mmneedle: Shell) -> None:
    mmneedle.ok("draw", "photos", "--scenes", 12, "--cell", 64)
    out = mmneedle.ok(
        "build", "set", "--source", "coco", "--photos", "photos", "--settings", "1x2",
        "--samples", 4, "--cell", 32,
    )  # fmt: skip
    assert "n1-g2x2-k1: 4 samples" in out


def test_drawn_photos_go_into_no_folder_with_others(mmneedle: Shell, tmp_path: Path) -> None:
    (tmp_path / "photos" / "annotations").mkdir(parents=True)
    (tmp_path / "photos" / "annotations" / "captions_val2017.json").write_text("{}")
    assert "captions_val2017.json" in mmneedle.refused("draw", "photos", "--scenes", 2)
    assert not (tmp_path / "photos" / "shapes").exists()


def test_real_photos(mmneedle: Shell) -> None:
    folder = coco_mini()
    mmneedle.ok("build", "set", "--source", "coco", "--photos", folder, "--settings", "1x8,10x2",
                "--samples", 6)  # fmt: skip
    mmneedle.ok("show", "set", "n1-g8x8-k1-000000", "--out", "sample")
    assert Image.open(Path("sample") / "image_1.jpg").size == (2048, 2048)
    assert "needs 641 photos" in mmneedle.refused(
        "build", "more", "--source", "coco", "--photos", folder, "--settings", "10x8"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bild"], "No such command 'bild'"),
        (["build"], "Missing argument"),
        (["build", "x"], "Missing option '--source'"),
        (["build", "x", "--source", "imagenet"], "imagenet"),
        (["build", "x", "--source", "coco"], "--photos"),
        (["build", "x", "--source", "coco", "--photos", "nowhere"], "nowhere"),
        (["build", "x", "--source", "shapes", "--photos", "p"], "belong to --source coco"),
        (["build", "x", "--source", "shapes", "--scenes", "0"], "scenes"),
        (["build", "x", "--source", "shapes", "--scenes", "999999"], "18048"),
        (["build", "x", "--source", "shapes", "--grid", "0"], "--grid takes"),
        (["build", "x", "--source", "shapes", "--images", "one"], "--images takes"),
        (["build", "x", "--source", "shapes", "--samples", "0"], "--samples"),
        (["build", "x", "--source", "shapes", "--cell", "250"], "4:4:4"),
        (["build", "x", "--source", "shapes", "--quality", "0"], "quality"),
        (["build", "x", "--source", "shapes", "--seed", "-1"], "seed"),
        (["build", "x", "--source", "shapes", "--hard-negatives", "2"], "share from 0 to 1"),
        (["build", "x", "--source", "shapes", "--paper", "--images", "1"], "--paper names the"),
        (["build", "x", "--source", "shapes", "--paper", "--settings", "1x2"], "--paper names the"),
        (["build", "x", "--source", "shapes", "--settings", "1x2", "--grid", "4"], "leave out"),
        (["build", "x", "--source", "coco", "--scenes", "9"], "belongs to --source shapes"),
        (["build", "x", "--sauce", "shapes"], "(see mmneedle build --help)"),
        (["show", "nowhere"], "no data set here"),
        (["run", "nowhere", "--model", "baseline/oracle"], "no data set here"),
        (["score"], "name at least one run folder"),
        (["score", "nowhere"], "no run here"),
        (["score", "--official", "nowhere"], "nowhere"),
        (["leaderboard"], "name at least one run folder"),
        (["leaderboard", "nowhere", "--format", "pdf"], "pdf"),
        (["report", "nowhere"], "no run here"),
        (["fetch", "imagenet", "--to", "x"], "coco-2014-val"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    mmneedle: Shell, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in mmneedle.refused(*words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gpt-4o"], "no model 'gpt-4o' (did you mean openai/gpt-4o?); known are"),
        (["--model", "baseline/best"], "best"),
        (["--model", "baseline/noisy?p=2"], "p"),
        (["--model", "baseline/oracle", "--limit", "20-10"], "--limit takes"),
        (["--model", "baseline/oracle", "--limit", "100-200"], "no sample number 100"),
        (["--model", "baseline/oracle", "--shard", "3/2"], "--shard takes"),
        (["--model", "baseline/oracle", "--settings", "5x5"], "no setting of 5 image(s)"),
        (["--model", "baseline/oracle", "--max-connections", "0"], "--max-connections"),
        (["--model", "openai/gpt-4o"], "OPENAI_API_KEY"),
    ],
)
def test_a_run_that_cannot_be(
    mmneedle: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    build(mmneedle)
    assert message in mmneedle.refused("run", "set", "--log", "runs/x", *words)
    assert not (tmp_path / "runs").exists()


def test_limits_and_shards_add_up(mmneedle: Shell) -> None:
    build(mmneedle)
    model = ("run", "set", "--model", "baseline/oracle")
    assert "4 of 4 samples" in mmneedle.ok(*model, "--log", "a", "--limit", "2")
    assert "16 of 16 samples answered, 12 requests" in mmneedle.ok(*model, "--log", "a")
    assert "4 of 4 samples" in mmneedle.ok(
        *model, "--log", "b", "--settings", "1x2", "--limit", "4-8"
    )
    for part in (1, 2, 3):
        mmneedle.ok(*model, "--log", f"part{part}", "--shard", f"{part}/3")
    rows = json.loads(mmneedle.ok("score", "part1", "part2", "part3", "--json"))
    assert {(row["n"], row["answered"]) for row in rows} == {(4, 4)}
    rows = json.loads(mmneedle.ok("score", "part1", "part2", "--json"))
    assert any(row["answered"] < row["n"] for row in rows)


def test_missing_answers_are_told_with_their_reason(
    mmneedle: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    build(mmneedle)
    rejecting = ChatServer(lambda ask: failure(400, "At most 1 image(s) may be provided"))
    cut = ChatServer(lambda ask: completion("Let me think", "length"))
    for log, server, said in (
        ("a", rejecting, ["0 of 16 samples", "16 image_rejected", "At most 1 image", "--retry"]),
        ("b", cut, ["16 of 16 samples", "16 truncated", "raise --max-tokens"]),
    ):
        with server:
            done = mmneedle("run", "set", "--model", "openai/m", "--log", log, "--base-url",
                            server.url)  # fmt: skip
        assert done.status == (1 if log == "a" else 0)
        assert all(words in done.out for words in said)
    assert mmneedle("score", "a").out.count(" 0 ") >= 8  # asked and unanswered, not left out
    mmneedle.ok("report", "a", "b")


def test_damaged_tiles_are_found_before_anything_is_asked(mmneedle: Shell) -> None:
    build(mmneedle)
    assert mmneedle.ok("show", "set", "--check").startswith("set: whole: 56 tiles, 16 samples")
    path = Path("set/tiles/tiles.bin")
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    line = mmneedle.refused("show", "set", "--check")
    assert "its tiles do not have their checksum" in line and "build it again" in line
    assert line == mmneedle.refused("run", "set", "--model", "onnx/tiny", "--log", "r")
    assert not Path("r").exists()
    build(mmneedle)  # makes them anew
    mmneedle.ok("show", "set", "--check")
    samples = Path("set/samples/n1-g2x2-k1.parquet")
    samples.write_bytes(Path("set/samples/n2-g2x3-k1.parquet").read_bytes())
    assert "build the data set again" in mmneedle.refused("show", "set", "--check")
    assert "alone" in mmneedle.refused("show", "set", "n1-g2x2-k1-000000", "--check")


def test_half_of_the_samples_are_negatives(mmneedle: Shell) -> None:
    shapes = ("build", "odd", "--source", "shapes", "--scenes", 60, "--cell", 64)
    line = mmneedle.refused(*shapes, "--settings", "1x2", "--samples", 7)
    assert "half of the samples have no match, so their number is even: take 8" in line
    assert not Path("odd").exists()


def test_bytes_that_are_no_text_are_one_line(mmneedle: Shell) -> None:
    for word in ("openai/\udcff", "\udc80"):
        line = mmneedle.refused("run", "set", "--model", word)
        assert "holds bytes that are no UTF-8 text" in line


def test_another_model_in_the_same_run_is_refused(mmneedle: Shell) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "a")
    before = Path("a/responses.jsonl").read_bytes()
    assert "holds another run" in mmneedle.refused(
        "run", "set", "--model", "baseline/never", "--log", "a"
    )
    assert Path("a/responses.jsonl").read_bytes() == before


def test_default_log_is_named_after_data_and_model(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/noisy?p=0.8")
    assert (tmp_path / "runs" / "set-baseline-noisy-p-0.8" / "run.json").exists()


def test_help_and_version(mmneedle: Shell) -> None:
    for verb in (
        "build",
        "show",
        "run",
        "score",
        "leaderboard",
        "findings",
        "report",
        "fetch",
        "draw",
        "demo",
    ):
        assert verb in mmneedle.ok("--help")
        assert "Usage" in mmneedle.ok(verb, "--help")
    assert mmneedle.ok("--version").startswith("mmneedle ")


def test_every_verb_stands_once_in_the_help(mmneedle: Shell) -> None:
    lines = mmneedle.ok("--help").splitlines()
    listed = [word for line in lines if re.match(r"  [a-z]", line) for word in line.split()[:1]]
    assert sorted(listed) == sorted(get_command(app).commands)


def test_a_verb_left_out_shows_the_help_as_it_is(mmneedle: Shell) -> None:
    for words in ([], ["submit"]):
        done = mmneedle(*words)
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("Usage: mmneedle")
        assert done.err == mmneedle.ok(*words, "--help")


@pytest.mark.parametrize("samples", [8, 2000])  # less and more than a pipe holds
def test_a_reader_that_leaves_early_is_no_error(
    mmneedle: Shell, tmp_path: Path, samples: int
) -> None:
    shapes = ("--source", "shapes", "--scenes", 60, "--cell", 64, "--settings", "1x2")
    mmneedle.ok("build", "set", *shapes, "--samples", samples)
    command = f"({sys.executable} -m mmneedle show set --json; echo $? >&2) | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("[\n", "0\n")


def test_a_folder_with_a_colon_in_its_name(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle, "a:b")
    assert "n2-g2x3-k1" in mmneedle.ok("show", "a:b")
    mmneedle.ok("show", "a:b", "n1-g2x2-k1-000001", "--out", "c:d")
    mmneedle.ok("run", "a:b", "--model", "baseline/oracle", "--log", "r:1")
    mmneedle.ok("report", "r:1", "--out", "x:y.html")
    assert (tmp_path / "x:y.html").exists()


def test_importing_is_light() -> None:
    """`import mmneedle` and `--help` load none of the heavy packages."""
    code = "import sys, mmneedle.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    heavy = {"numpy", "pyarrow", "PIL", "pycocotools", "openai", "httpx2", "jinja2", "torch"}
    assert not loaded & heavy


def test_progress_off_a_terminal_is_plain_lines(mmneedle: Shell) -> None:
    shapes = ("--source", "shapes", "--scenes", 60, "--cell", 32, "--settings", "1x2")
    done = mmneedle("build", "set", *shapes, "--samples", 8)
    assert "tiles: " in done.err
    assert "\x1b" not in done.err
    done = mmneedle("build", "quiet", *shapes, "--samples", 8, "--quiet")
    assert done.err == ""


def test_broken_photo_is_named(mmneedle: Shell, tmp_path: Path) -> None:
    mmneedle.ok("draw", "photos", "--scenes", 12, "--cell", 64)
    victim = next(
        path
        for path in sorted(tmp_path.rglob("photos/**/*"))
        if path.suffix == ".jpg" or path.suffix == ".png"
    )
    victim.write_bytes(victim.read_bytes()[:200])
    message = mmneedle.refused("build", "set", "--source", "coco", "--photos", "photos",
                               "--settings", "1x2", "--samples", 40, "--quiet")  # fmt: skip
    assert victim.name in message
    Image.new("RGB", (64, 64)).save(buffer := io.BytesIO(), "PNG")
    victim.write_bytes(buffer.getvalue())
    mmneedle.ok("build", "set", "--source", "coco", "--photos", "photos", "--settings", "1x2",
                "--samples", 40, "--quiet")  # fmt: skip
