"""The tiny model as it ships: its files, its answers through onnxruntime, and bad input."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from mmneedle.adapters import create
from mmneedle.data.coco import find_coco
from mmneedle.data.shapes import ShapesSource, all_scenes, held_out, write_coco
from mmneedle.errors import UserError
from mmneedle.evaluate import evaluate
from mmneedle.prompts import prompt
from mmneedle.runlog import Run
from mmneedle.scoring import score_run
from mmneedle.stitching.dataset import DataSet, build
from mmneedle.stitching.samples import Rules
from mmneedle.stitching.tiles import TileFormat
from mmneedle.tasks.grid import GridTask
from mmneedle.tiny import WEIGHTS
from mmneedle.tiny import checkpoint as cp
from mmneedle.types import Response, Setting

SETTINGS = (Setting(1, 4, 4), Setting(3, 2, 2, 2), Setting(2, 8, 8), Setting(1, 2, 3))
CELLS = TileFormat(56, 56, 75, "4:4:4")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    folder = tmp_path_factory.mktemp("tiny") / "data"
    counts = dict.fromkeys(SETTINGS, 16)
    source = ShapesSource(600, 5, "held-out")
    return build(folder, source, counts, Rules(hard_negatives=0.5), CELLS, workers=1)


def ask(adapter, request) -> Response:
    return asyncio.run(adapter.generate(request))


# ---------------------------------------------------------------- what it knows


@pytest.mark.parametrize(
    ("split", "said"),
    [("held-out", None), ("all", "--split held-out"), ("train", "--split held-out"),
     (None, "onnx/tiny knows drawn scenes alone")],
)  # fmt: skip
def test_what_it_does_not_know_is_said(tmp_path, capsys, split, said) -> None:
    source = ShapesSource(40, 5, split or "all")
    if split is None:  # a folder of photos, for all that anybody can tell
        write_coco(tmp_path / "photos", source, 56, 56)
        source = find_coco(tmp_path / "photos", None)
    build(tmp_path / "data", source, {Setting(1, 1, 2): 2}, Rules(), CELLS, workers=1)
    evaluate(tmp_path / "data", "onnx/tiny", tmp_path / "run")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "scenes" in line]
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]
    evaluate(tmp_path / "data", "baseline/never", tmp_path / "never")
    assert "scenes" not in capsys.readouterr().err


# ---------------------------------------------------------------- files


def test_the_files_are_small_and_have_their_checksums() -> None:
    lines = dict(
        reversed(line.split()) for line in (WEIGHTS / "SHA256SUMS").read_text().split("\n") if line
    )
    assert {"model.safetensors", "vision.onnx", "language.onnx", "tokenizer.json"} <= set(lines)
    for name, checksum in lines.items():
        assert hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest() == checksum
    assert (WEIGHTS / "model.safetensors").stat().st_size < 20e6


def test_the_files_are_those_that_the_code_writes(tmp_path: Path) -> None:
    cp.write(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (WEIGHTS / path.name).read_bytes(), path.name


def test_every_word_of_a_prompt_is_one_token() -> None:
    words = cp.tokenizer()
    text = prompt(Setting(10, 8, 8, 2), [all_scenes()[0].caption, all_scenes()[-1].caption])
    for word in re.findall(r" [A-Za-z]+", text):
        assert len(words.encode(word).ids) == 1, word
    assert words.decode(words.encode(text).ids) == text
    assert words.decode(words.encode("größer 象 \t!").ids) == "größer 象 \t!"


def test_the_template_numbers_the_pictures() -> None:
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Hello"}]
    messages = [{"role": "user", "content": content}]
    text = jinja2.Template(cp.TEMPLATE).render(messages=messages, add_generation_prompt=True)
    seen = "<|vision_start|><|image_pad|><|vision_end|>"
    assert text == (
        f"<|im_start|>user\nPicture 1: {seen}Picture 2: {seen}Hello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_tenth_of_the_scenes_is_held_out_and_the_splits_share_none() -> None:
    share = sum(map(held_out, all_scenes())) / len(all_scenes())
    assert 0.09 < share < 0.11
    held = {photo.captions for photo in ShapesSource(1700, 0, "held-out").photos()}
    train = {photo.captions for photo in ShapesSource(16000, 0, "train").photos()}
    assert not held & train
    with pytest.raises(UserError, match="of the split held-out must be between 1 and"):
        ShapesSource(2000, 0, "held-out")
    with pytest.raises(UserError, match="all, train or held-out"):
        ShapesSource(10, 0, "test")  # type: ignore[arg-type]


# ---------------------------------------------------------------- answers


def test_it_solves_the_task_on_scenes_that_it_has_never_seen(dataset, tmp_path: Path) -> None:
    summary = evaluate(dataset.folder, "onnx/tiny", tmp_path / "run", quiet=True)
    assert summary.missing == 0
    rows = score_run(Run.open(tmp_path / "run"), ("paper",))
    assert len(rows) == 2 * len(SETTINGS)
    # 64 questions with each split 32 times: one wrong answer is 97 %.
    for split in ("positive", "negative"):
        metric = "exact" if split == "positive" else "existence"
        values = [getattr(row, metric) for row in rows if row.split == split]
        assert sum(values) / len(values) >= 0.96, (split, values)


def test_swapping_images_moves_the_answer(dataset) -> None:
    adapter = create("onnx/tiny")
    sample = next(
        s for s in dataset.samples(Setting(2, 8, 8)) if s.positive and s.truth[0].image == 1
    )
    request = GridTask(dataset).request(sample)
    there = ask(adapter, request).text
    swapped = ask(adapter, type(request)(sample, request.prompt, request.images[::-1])).text
    place = sample.truth[0]
    assert there == str(place)
    assert swapped == str(place._replace(image=2))


def test_larger_cells_are_shrunk_to_what_it_knows(dataset, tmp_path: Path) -> None:
    large = build(
        tmp_path / "large",
        ShapesSource(600, 5, "held-out"),
        {Setting(1, 4, 4): 8},
        tiles=TileFormat(256, 256),
        workers=1,
    )
    adapter = create("onnx/tiny")
    right = 0
    for sample in large.samples(Setting(1, 4, 4)):
        wanted = str(sample.truth[0]) if sample.positive else "-1"
        right += ask(adapter, GridTask(large).request(sample)).text == wanted
    assert right >= 7


def test_a_second_question_about_a_haystack_reuses_it_and_changes_nothing(dataset) -> None:
    sample = next(iter(dataset.samples(Setting(2, 8, 8))))
    request = GridTask(dataset).request(sample)
    adapter = create("onnx/tiny", logprobs=True)
    first, second = ask(adapter, request), ask(adapter, request)
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens > 128  # the visual tokens alone
    assert second.usage.input_tokens == first.usage.input_tokens > second.usage.cached_tokens
    assert (first.text, first.absent_logprob) == (second.text, second.absent_logprob)
    assert first.first_token <= first.latency


def test_the_log_probability_tells_positives_from_negatives(dataset) -> None:
    adapter = create("onnx/tiny", logprobs=True)
    for sample in dataset.samples(Setting(1, 4, 4), 0, 6):
        response = ask(adapter, GridTask(dataset).request(sample))
        assert (response.absent_logprob > -0.7) == response.text.startswith("-1")
    without = ask(create("onnx/tiny"), GridTask(dataset).request(sample))
    assert without.absent_logprob is None


def test_a_short_limit_is_a_truncated_answer(dataset) -> None:
    request = GridTask(dataset).request(next(iter(dataset.samples(Setting(1, 4, 4)))))
    response = ask(create("onnx/tiny?max_tokens=3"), request)
    assert (response.status, response.stop_reason) == ("truncated", "length")
    assert response.usage.output_tokens == 3


def test_a_prompt_beyond_the_context_is_too_long(dataset) -> None:
    request = GridTask(dataset).request(next(iter(dataset.samples(Setting(1, 4, 4)))))
    long = type(request)(request.sample, request.prompt + " a red circle" * 2000, request.images)
    assert ask(create("onnx/tiny"), long).status == "too_long"
    many = type(request)(request.sample, request.prompt, request.images * 300)
    assert ask(create("onnx/tiny"), many).status == "too_long"


# ---------------------------------------------------------------- bad input


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(WEIGHTS, folder)
    assert create(f"onnx/{folder}").model == f"onnx/{folder}"
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: is not the file that SHA256SUMS"):
        create(f"onnx/{folder}")
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="no checkpoint for onnxruntime here"):
        create(f"onnx/{folder}")


def test_wrong_names_and_options_are_one_line() -> None:
    with pytest.raises(UserError, match=r"onnx/nothing: no such folder; .* onnx/tiny"):
        create("onnx/nothing")
    with pytest.raises(UserError, match="onnx/tiny has no option 'temperature'"):
        create("onnx/tiny?temperature=1")


def test_without_its_packages_the_extra_is_named(dataset) -> None:
    script = "import sys; sys.modules['onnxruntime'] = None\nfrom mmneedle.cli import main; main()"
    arguments = [sys.executable, "-c", script, "run", dataset.folder, "--model", "onnx/tiny"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert 'pip install "mmneedle[onnx]"' in done.stderr


def test_held_out_scenes_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmneedle", "build", str(tmp_path / "d"), "--source"]
    rest = ["--settings", "1x2", "--samples", "4", "--cell", "64", "--workers", "1", "--quiet"]
    subprocess.run(
        [*command, "shapes", "--split", "held-out", *rest], check=True, capture_output=True
    )
    recipe = json.loads((tmp_path / "d" / "dataset.json").read_bytes())["source"]
    assert recipe["split"] == "held-out"
    done = subprocess.run(
        [*command, "coco", "--split", "train", *rest], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--split belongs to --source shapes" in done.stderr


def test_it_says_how_many_pixels_of_a_cell_it_sees(dataset, tmp_path: Path, capsys) -> None:
    large = build(
        tmp_path / "large",
        ShapesSource(600, 5, "held-out"),
        {Setting(1, 4, 4): 2, Setting(1, 2, 3): 2},
        tiles=TileFormat(112, 112),
        workers=1,
    )
    evaluate(large.folder, "onnx/tiny", tmp_path / "shrunk", quiet=False)
    said = capsys.readouterr().err
    assert "of cells of 112 px there are left 56 at (1,2x3), 56 at (1,4)\n" in said
    header = Run.open(tmp_path / "shrunk").header
    assert set(header.effective_cell.values()) == {(56, 56)}
    evaluate(large.folder, "onnx/tiny", tmp_path / "small", resize=(14, 14), quiet=True)
    assert set(Run.open(tmp_path / "small").header.effective_cell.values()) == {(14, 14)}


def test_records_call_a_folder_by_its_name_and_a_moved_one_goes_on(tmp_path, mmneedle):
    (tmp_path / "here").mkdir()
    shutil.copytree(WEIGHTS, tmp_path / "here" / "eye")
    words = ("--settings", "1x2", "--samples", 2, "--scenes", 40, "--cell", 48)
    mmneedle.ok("build", "set", "--source", "shapes", *words)
    run = ("run", "set", "--log", "log", "--quiet", "--model")
    mmneedle.ok(*run, f"onnx/{tmp_path}/here/eye", "--limit", 1)
    assert json.loads(Path("log/run.json").read_text())["model"] == "onnx/eye"
    (tmp_path / "here").rename(tmp_path / "there")
    mmneedle.ok(*run, f"onnx/{tmp_path}/there/eye")
    mmneedle.ok("score", "log", "--json")
    page = mmneedle.ok("report", "log", "--out", "page.html") and Path("page.html").read_text()
    assert "onnx/eye" in page and str(tmp_path) not in page
