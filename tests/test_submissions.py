"""Submissions: packed, checked, and altered in every way that somebody might try."""

import bz2
import hashlib
import io
import json
import socket
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import needs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import Truth, always_right, ok, text, write_run
from shell import Shell, build

from mmneedle.data.shapes import ShapesSource
from mmneedle.errors import UserError
from mmneedle.reports.leaderboard import leaderboard
from mmneedle.runlog import Run, request_digest
from mmneedle.stitching.dataset import DataSet
from mmneedle.stitching.dataset import build as build_dataset
from mmneedle.stitching.tiles import TileFormat
from mmneedle.submissions.archive import MANIFEST, MEMBERS, By
from mmneedle.submissions.check import Verified, check
from mmneedle.submissions.opened import Submission, open_submission
from mmneedle.submissions.pack import pack
from mmneedle.submissions.scrub import public
from mmneedle.submissions.unpacking import METHODS, DamagedError, pieces
from mmneedle.tasks import open_task
from mmneedle.types import Response, Setting

SHAPES = {Setting(1, 2, 2): 16, Setting(2, 2, 3): 16, Setting(1, 2, 2, 2): 8}
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("submissions") / "data"
    return build_dataset(folder, ShapesSource(60), SHAPES, tiles=TileFormat(64, 64), workers=1)


def errs(setting: Setting, index: int, truth: Truth) -> Response:
    return ok("1, 1, 1" if index % 3 == 0 else text(truth))


def with_hashes(run: Run, dataset: DataSet, task: str = "grid") -> Run:
    """The same run, as one whose model was sent every request: their hashes are in its log."""
    asked = open_task(task, dataset)
    header = msgspec.structs.replace(run.header, task=task)
    log = run.folder / "responses.jsonl"
    records = [json.loads(line) for line in log.read_bytes().splitlines()]
    for record in records:
        request = asked.request(dataset.sample(record["sample"]))
        record["request_sha256"] = request_digest(request)
    log.write_bytes(lines(records))
    return Run(header, run.folders)


@pytest.fixture(scope="module")
def packed(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("packed")
    run = write_run(base / "run", errs, SHAPES, model="vendor/m", dataset=dataset)
    run = with_hashes(run, dataset)
    by = By("Ann", "https://example.org/m", "first try")
    return pack(run, base / "m.zip", by=by).path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, content: Members, *, honest: bool) -> Path:
    """A submission of these members; `honest`: with a manifest that lists their hashes."""
    if honest:
        about = json.loads(content[MANIFEST])
        about["members"] = {
            name: {"sha256": hashlib.sha256(content[name]).hexdigest(), "bytes": len(content[name])}
            for name in MEMBERS
        }
        content = content | {MANIFEST: json.dumps(about).encode()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def verdicts(verified: Verified) -> dict[str, str]:
    return {one.name: one.verdict for one in verified.checks}


def failed(verified: Verified) -> set[str]:
    return {one.name for one in verified.checks if one.verdict == "fail"}


# --------------------------------------------------------------------------- honest ones


def test_a_real_run_packs_and_checks(mmneedle: Shell) -> None:
    build(mmneedle)
    pytest.importorskip("onnxruntime")
    mmneedle.ok("run", "set", "--model", "baseline/noisy?p=0.7", "--log", "runs/noisy")
    said = mmneedle.ok("submit", "pack", "runs/noisy", "--by", "Ann", "--link", "https://a.org")
    sha = hashlib.sha256(Path("noisy.submission.zip").read_bytes()).hexdigest()
    assert f"SHA-256 {sha}" in said
    assert "16 answers of baseline/noisy?p=0.7" in said
    told = mmneedle.ok("submit", "check", "noisy.submission.zip")
    assert "FAILED" not in told
    assert "not checked: requests" in told  # a baseline looks at no images
    found = json.loads(mmneedle.ok("submit", "check", "noisy.submission.zip", "--json"))
    assert found["sha256"] == sha
    assert {one["verdict"] for one in found["checks"]} == {"pass", "skipped"}
    # the data set's folder serves as well
    assert "the data set at set" in mmneedle.ok("submit", "check", sha and "noisy.submission.zip",
                                                "--data", "set")  # fmt: skip


def test_requests_are_made_again_and_their_hashes_compared(mmneedle: Shell) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "onnx/tiny", "--log", "tiny", "--limit", 4)
    mmneedle.ok("submit", "pack", "tiny")
    assert "all checks hold" in mmneedle.ok("submit", "check", "tiny.submission.zip")
    told = mmneedle.ok("submit", "check", "tiny.submission.zip", "--data", "set")
    assert "requests made again" in told
    lines = members(Path("tiny.submission.zip"))
    first, rest = lines["answers.jsonl"].split(b"\n", 1)
    answer = json.loads(first)
    answer["request_sha256"] = "0" * 64
    forged = lines | {"answers.jsonl": json.dumps(answer).encode() + b"\n" + rest}
    path = written(Path("forged.zip"), forged, honest=True)
    assert failed(check(path)) == {"requests"}
    assert failed(check(path, Path("set"))) == {"requests"}


def test_requests_of_text_twins_are_made_again_too(dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", errs, {Setting(2, 2, 3): 16}, model="v/m", dataset=dataset)
    run = with_hashes(run, dataset, "twin-literal")
    path = pack(run, tmp_path / "x.zip").path
    for data in (None, dataset.folder):
        assert verdicts(check(path, data))["requests"] == "pass"
    forged = with_junk(members(path), range(9))  # 8 of 16 are made again: one of these is
    path = written(tmp_path / "y.zip", forged, honest=True)
    assert failed(check(path)) == {"requests"}


def with_junk(content: Members, places: Iterable[int]) -> Members:
    """The hashes of these requests become those of something else."""
    records = answers(content)
    for place in places:
        records[place]["request_sha256"] = f"{place:064x}"
    return content | {"answers.jsonl": lines(records)}


def test_which_requests_are_made_again_depends_on_the_answers(
    packed: Path, dataset: DataSet, tmp_path: Path
) -> None:
    content = members(packed)
    (line,) = [one.text for one in check(packed).checks if one.name == "requests"]
    assert line == (
        "24 of 40 requests made again (8 of each setting at random): their hashes are equal"
    )
    # junk at one and the same place is found in some files and not in others, wherever it is
    for place in (0, 1, 7, 15):
        found = set()
        for attempt in range(24):
            tweaked = with_junk(content, [place])
            about = json.loads(tweaked[MANIFEST]) | {"by": {"notes": f"try {attempt}"}}
            tweaked |= {MANIFEST: json.dumps(about).encode()}
            path = written(tmp_path / "x.zip", tweaked, honest=True)
            found.add("requests" in failed(check(path, dataset.folder)))
        assert found == {True, False}
        # whoever doubts makes all of them again
        assert failed(check(path, dataset.folder, requests=16)) == {"requests"}
    whole = check(packed, dataset.folder, requests=16)
    (line,) = [one.text for one in whole.checks if one.name == "requests"]
    assert line == "40 of 40 requests made again (all): their hashes are equal"


def renamed(content: Members, model: str) -> Members:
    """A submission that says that another model gave its answers."""
    content = dict(content)
    for name in (MANIFEST, "run.json"):
        content[name] = json.dumps(json.loads(content[name]) | {"model": model}).encode()
    rows = [row | {"model": model} for row in json.loads(content["scores.json"])]
    return content | {"scores.json": json.dumps(rows).encode()}


def test_a_baseline_under_another_name_does_not_pass(mmneedle: Shell, tmp_path: Path) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "oracle")
    mmneedle.ok("submit", "pack", "oracle")
    content = members(Path("oracle.submission.zip"))
    forged = renamed(content, "openai/gpt-4o")
    for junk in ([], [1], [0, 3], range(16)):
        path = written(tmp_path / "x.zip", with_junk(forged, junk), honest=True)
        for data in ((), ("--data", "set")):
            done = mmneedle("submit", "check", path, *data)
            assert done.status == 1
            assert "all checks hold" not in done.out
            assert "ok       requests" not in done.out
        if len(junk) < 16:
            assert "no hash of its request" in mmneedle.refused("leaderboard", path)
    # nor does one that calls its adapter a baseline, or has hashes as a baseline
    path = written(tmp_path / "x.zip", with_junk(content, [1]), honest=True)
    assert failed(check(path)) == {"samples"}
    header = json.loads(forged["run.json"]) | {"model": "baseline/oracle", "adapter": {}}
    nameless = content | {"run.json": json.dumps(header).encode()}
    assert failed(check(written(tmp_path / "x.zip", nameless, honest=True))) == {"samples"}


def test_some_requests_without_a_hash_do_not_pass(packed: Path, tmp_path: Path) -> None:
    records = answers(members(packed))
    records[5]["request_sha256"] = None
    content = members(packed) | {"answers.jsonl": lines(records)}
    verified = check(written(tmp_path / "x.zip", content, honest=True))
    assert failed(verified) == {"samples"}


def test_requests_that_cannot_be_made_again_are_said_not_to_be_checked(mmneedle: Shell) -> None:
    photos = needs.coco_mini()
    pytest.importorskip("onnxruntime")
    mmneedle.ok("build", "set", "--source", "coco", "--photos", photos, "--settings", "1x2",
                "--samples", 6, "--cell", 64)  # fmt: skip
    mmneedle.ok("run", "set", "--model", "onnx/tiny", "--log", "runs/t")
    mmneedle.ok("submit", "pack", "runs/t")
    told = mmneedle.ok("submit", "check", "t.submission.zip")
    assert "skipped  requests  they are made from the data set" in told
    assert "not checked: truth, requests" in told
    told = mmneedle.ok("submit", "check", "t.submission.zip", "--data", photos)
    assert "6 of 6 requests made again (all)" in told
    assert "all checks hold" in told


def test_the_same_run_gives_the_same_bytes(packed: Path, dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(tmp_path / "elsewhere", errs, SHAPES, model="vendor/m", dataset=dataset)
    run = with_hashes(run, dataset)
    again = pack(run, tmp_path / "x.zip", by=By("Ann", "https://example.org/m", "first try"))
    assert again.path.read_bytes() == packed.read_bytes()
    assert pack(run, tmp_path / "y.zip").path.read_bytes() != packed.read_bytes()


def test_all_checks_hold_without_and_with_the_data_set(packed: Path, dataset: DataSet) -> None:
    for data in (None, dataset.folder):
        verified = check(packed, data)
        assert verified.ok
        assert verdicts(verified)["truth"] == "pass"
        assert (verified.asked, verified.answered, verified.by) == (40, 40, "Ann")


def test_photos_in_coco_layout_regenerate_the_truth(mmneedle: Shell) -> None:
    photos = needs.coco_mini()
    mmneedle.ok("build", "set", "--source", "coco", "--photos", photos, "--settings", "1x2",
                "--samples", 6, "--cell", 64)  # fmt: skip
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "runs/o")
    mmneedle.ok("submit", "pack", "runs/o")
    blob = Path("o.submission.zip").read_bytes()
    assert str(photos).encode() not in b"".join(members(Path("o.submission.zip")).values())
    assert blob
    alone = mmneedle.ok("submit", "check", "o.submission.zip")
    assert "not checked: truth, requests" in alone
    assert "as its recipe gives it" in mmneedle.ok(
        "submit", "check", "o.submission.zip", "--data", photos
    )


def test_a_run_on_several_shards_is_one_submission(mmneedle: Shell) -> None:
    build(mmneedle)
    for part in ("1/2", "2/2"):
        mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", f"r{part[0]}",
                    "--shard", part)  # fmt: skip
    assert "samples have an answer" in mmneedle.refused("submit", "pack", "r1")
    mmneedle.ok("submit", "pack", "r1", "r2", "--out", "whole.zip")
    mmneedle.ok("submit", "check", "whole.zip")
    mmneedle.ok("submit", "pack", "r1", "--partial", "--out", "half.zip")
    assert "8 of 16 samples" in mmneedle.ok("submit", "check", "half.zip")


def test_unfinished_runs_need_a_word(dataset: DataSet, tmp_path: Path) -> None:
    def tired(setting: Setting, index: int, truth: Truth) -> Response | None:
        if index == 2:
            return Response(status="timeout", error="no reply from gpu-7.internal:8000")
        return None if index == 3 else ok(text(truth))

    run = write_run(tmp_path / "run", tired, SHAPES, dataset=dataset)
    with pytest.raises(UserError, match=r"34 of 40 samples have an answer \(85.0 %\).*--partial"):
        pack(run, tmp_path / "x.zip")
    path = pack(run, tmp_path / "x.zip", partial=True).path
    verified = check(path)
    assert verified.ok
    (samples,) = [one.text for one in verified.checks if one.name == "samples"]
    assert samples == "34 of 40 samples have an answer (85.0 %), as stated; 3 were never asked"
    assert b"gpu-7" not in members(path)["answers.jsonl"]
    assert json.loads(members(path)["attempts.json"])["n1-g2x2-k1"] == {"ok": 14, "timeout": 1}


def test_a_run_without_answers_or_data_set_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", lambda s, i, t: None, SHAPES, dataset=dataset)
    with pytest.raises(UserError, match="no sample has an answer yet"):
        pack(empty, tmp_path / "x.zip", partial=True)
    lost = write_run(tmp_path / "lost", always_right, {Setting(1, 2, 2): 4})
    with pytest.raises(UserError, match="name its folder with --data"):
        pack(lost, tmp_path / "x.zip")
    with pytest.raises(UserError, match="is not the one that the run was asked"):
        pack(lost, tmp_path / "x.zip", data=dataset.folder)
    assert not (tmp_path / "x.zip").exists()


# --------------------------------------------------------------------------- nothing private


def test_no_path_and_no_host_gets_in(dataset: DataSet, tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", errs, SHAPES, model=f"hf/{tmp_path}/Qwen2.5-VL", dataset=dataset
    )
    run = with_hashes(run, dataset)
    adapter = {
        "base_url": "http://user:secret@10.0.0.7:8000/v1",
        "server": "https://api.example.org:8443/v1",
        "engine_args": {"config": f"--path={tmp_path}/config.json", "host": socket.gethostname()},
    }
    header = msgspec.structs.replace(run.header, adapter=adapter)
    path = pack(Run(header, run.folders), tmp_path / "x.zip").path
    content = members(path)
    everything = b"".join(content.values()).decode()
    for private in (str(tmp_path), "10.0.0.7", "secret", "8443", str(dataset.folder), "no-data"):
        assert private not in everything
    about, found = json.loads(content[MANIFEST]), json.loads(content["run.json"])
    assert about["model"] == found["model"] == "hf/Qwen2.5-VL"
    assert found["adapter"]["base_url"] == "[private]"
    assert found["adapter"]["server"] == "https://api.example.org"
    assert found["adapter"]["engine_args"]["config"] == "--path=config.json"
    assert check(path).ok


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com"),
        ("https://me:pw@openrouter.ai/api/v1?key=1", "https://openrouter.ai"),
        ("http://localhost:8000/v1", "[private]"),
        ("http://gpu7/v1", "[private]"),
        ("http://gpu7.cluster.internal/v1", "[private]"),
        ("http://[::1]:80/", "[private]"),
        ("http://8.8.8.8/", "[private]"),
        ("/srv/models/Qwen", "Qwen"),
        ("/srv/models/Qwen/", "[folder]"),
        ("~/models/Qwen", "Qwen"),
        ("~ann/models/Qwen", "Qwen"),
        (r"C:\Users\ann\Qwen", "Qwen"),
        (r"\\server\share\Qwen", "Qwen"),
        ("file=/srv/a/answers.jsonl&x=1", "file=answers.jsonl&x=1"),
        ("org/name", "org/name"),
        ("models/Qwen2.5-VL", "models/Qwen2.5-VL"),
        ("gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("1 / 2", "1 / 2"),
        ("image/jpeg", "image/jpeg"),
    ],
)
def test_what_is_public(text: str, shown: str) -> None:
    assert public(text) == shown
    assert public({"a": [text]}) == {"a": [shown]}


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=12).filter(
    lambda name: name.strip(".")
)


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(["", "x=", "at ", "--dir="]))
def test_no_absolute_path_stays(parts: list[str], before: str) -> None:
    assert public(before + "/" + "/".join(parts)) == before + parts[-1]


# --------------------------------------------------------------------------- altered ones


def answers(content: Members) -> list[Any]:
    return [json.loads(line) for line in content["answers.jsonl"].splitlines()]


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def better_answers(content: Members) -> Members:
    """Every answer right, scores as they were."""
    records = answers(content)
    for record in records:
        places = [", ".join(map(str, at)) if at else "-1" for at in record["truth"]]
        record["response"]["text"] = "; ".join(places)
    return content | {"answers.jsonl": lines(records)}


def better_scores(content: Members) -> Members:
    rows = json.loads(content["scores.json"])
    for row in rows:
        if row["exact"] is not None:
            row["exact"] = 1.0
    return content | {"scores.json": json.dumps(rows).encode()}


def other_truth(content: Members) -> Members:
    """The truth becomes what was answered: every answer is right."""
    records = answers(content)
    for record in records:
        said = record["response"]["text"]
        if len(record["truth"]) == 1 and record["truth"][0] and said == "1, 1, 1":
            record["truth"] = [[1, 1, 1]]
    return content | {"answers.jsonl": lines(records)}


def left_out(content: Members) -> Members:
    return content | {"answers.jsonl": lines(answers(content)[1:])}


def twice(content: Members) -> Members:
    records = answers(content)
    return content | {"answers.jsonl": lines([records[0], *records])}


def stranger(content: Members) -> Members:
    records = answers(content)
    records[-1]["sample"] = "n1-g2x2-k2-000999"
    return content | {"answers.jsonl": lines(records)}


def another_recipe(content: Members) -> Members:
    recipe = json.loads(content["dataset.json"])
    recipe["rules"]["seed"] = 7
    return content | {"dataset.json": json.dumps(recipe).encode()}


def another_source(content: Members) -> Members:
    recipe = json.loads(content["dataset.json"])
    recipe["source"]["seed"] = 7
    return content | {"dataset.json": json.dumps(recipe).encode()}


def another_model(content: Members) -> Members:
    header = json.loads(content["run.json"])
    header["model"] = "vendor/better"
    return content | {"run.json": json.dumps(header).encode()}


def no_rows(content: Members) -> Members:
    return content | {"scores.json": b"[]"}


def no_attempts(content: Members) -> Members:
    return content | {"attempts.json": b'{"n1-g2x2-k1": {}, "n1-g2x2-k2": {}, "n2-g2x3-k1": {}}'}


def outside(content: Members) -> Members:
    records = answers(content)
    records[0]["truth"] = [[1, 9, 9]]
    return content | {"answers.jsonl": lines(records)}


def hidden_positive(content: Members) -> Members:
    records = answers(content)
    records[0]["truth"] = [None]
    return content | {"answers.jsonl": lines(records)}


ALTERED: list[tuple[Callable[[Members], Members], set[str]]] = [
    (better_answers, {"scores"}),
    (better_scores, {"scores"}),
    (other_truth, {"balance", "truth", "scores"}),
    (left_out, {"samples", "scores"}),
    (twice, {"samples"}),
    (stranger, {"samples"}),
    (another_recipe, {"recipe"}),
    (another_source, {"truth"}),
    (another_model, {"run"}),
    (no_rows, {"scores"}),
    (no_attempts, {"attempts"}),
    (outside, {"samples"}),
    (hidden_positive, {"samples"}),
]


@pytest.mark.parametrize(
    ("alter", "found"), ALTERED, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_was_altered_is_found(
    alter: Callable[[Members], Members], found: set[str], packed: Path, tmp_path: Path
) -> None:
    content = alter(members(packed))
    # with the old manifest the hashes tell, with a forged one what was altered does
    clumsy = check(written(tmp_path / "clumsy.zip", content, honest=False))
    assert "hashes" in failed(clumsy)
    sly = check(written(tmp_path / "sly.zip", content, honest=True))
    assert failed(sly) == found
    assert "hashes" in verdicts(sly)
    for verified in (clumsy, sly):
        assert verified.text().count("\n") == len(verified.checks) + 1


def test_answers_and_scores_altered_together_are_what_no_file_can_tell(
    packed: Path, dataset: DataSet, tmp_path: Path
) -> None:
    """The limit of a check, told in the docs: an invented run is consistent."""
    run = write_run(tmp_path / "run", always_right, SHAPES, model="vendor/m", dataset=dataset)
    run = with_hashes(run, dataset)
    assert check(pack(run, tmp_path / "x.zip").path).ok


def test_a_failed_check_is_exit_status_1(mmneedle: Shell, packed: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "x.zip", better_scores(members(packed)), honest=True)
    done = mmneedle("submit", "check", path)
    assert (done.status, done.err) == (1, "")
    assert "FAILED   scores" in done.out
    assert "exact 1.0000, by the answers 0." in done.out
    assert "not what it says it is: scores" in done.out


# --------------------------------------------------------------------------- no submissions


def plain(content: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return out.getvalue()


def with_entry(name: str, data: bytes = b"x") -> Callable[[Members], bytes]:
    def make(content: Members) -> bytes:
        out = io.BytesIO(plain(content))
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    return make


def with_manifest(**changes: Any) -> Callable[[Members], bytes]:
    def make(content: Members) -> bytes:
        about = json.loads(content[MANIFEST]) | changes
        return plain(content | {MANIFEST: json.dumps(about).encode()})

    return make


def bomb(content: Members) -> bytes:
    return plain(content | {"answers.jsonl": b"\0" * (80 << 20)})


def nested(content: Members) -> bytes:
    return plain(content | {MANIFEST: b"[" * 100_000})


def before(content: Members) -> bytes:
    return b"#!/bin/sh\n" + plain(content)


def before_and_told(content: Members) -> bytes:
    """Bytes before the archive, whose offsets count them: as a self-extracting file has them."""
    out = io.BytesIO(b"#!/bin/sh\n")
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert out.getvalue().startswith(b"#!")
    return out.getvalue()


def with_comment(content: Members) -> bytes:
    out = io.BytesIO(plain(content))
    with zipfile.ZipFile(out, "a") as archive:
        archive.comment = b"anything"
    return out.getvalue()


def with_extra(content: Members, **fields: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, data)
    return out.getvalue()


def between(content: Members) -> bytes:
    """Bytes between the last member and the directory, which is found by its size alone."""
    whole = plain(content)
    directory = int.from_bytes(whole[-6:-2], "little")
    moved = whole[:directory] + b"anything" + whole[directory:]
    return moved[:-6] + (directory + 8).to_bytes(4, "little") + moved[-2:]


def other_local_header(content: Members) -> bytes:
    whole = bytearray(plain(content))
    whole[10] ^= 1  # the time at the member's place; its directory has another
    return bytes(whole)


def behind_a_stream(content: Members, method: int) -> bytes:
    """A file of one member, and bytes behind the end of what is packed, within its size."""
    bzip2 = method == zipfile.ZIP_BZIP2
    packer: Any = bz2.BZ2Compressor() if bzip2 else zlib.compressobj(wbits=-15)
    data = content["run.json"]
    blob = packer.compress(data) + packer.flush() + b"anything"
    raw = plain({"run.json": data}, method)
    start = 30 + len("run.json")
    size = len(blob).to_bytes(4, "little")
    directory = raw.rindex(b"PK\x01\x02")
    head = raw[:18] + size + raw[22:start]
    tail = raw[directory : directory + 20] + size + raw[directory + 24 : -6]
    return head + blob + tail + (start + len(blob)).to_bytes(4, "little") + raw[-2:]


HOSTILE: list[tuple[str, Callable[[Members], bytes], str]] = [
    ("empty", lambda content: b"", "not a whole zip file"),
    ("text", lambda content: b"hello", "not a whole zip file"),
    ("cut", lambda content: plain(content)[:-40], "not a whole zip file"),
    ("traversal", with_entry("../../etc/evil"), "has no place in one"),
    ("absolute", with_entry("/etc/evil"), "has no place in one"),
    ("backslash", with_entry("..\\evil"), "has no place in one"),
    ("nul", with_entry("run.json\0.exe"), "holds run.json twice"),
    ("folder", with_entry("sub/"), "has no place in one"),
    ("twice", with_entry("run.json"), "holds run.json twice"),
    ("lzma", lambda c: plain(c, zipfile.ZIP_LZMA), "by a method that has no place in one"),
    ("bomb", bomb, "unpacks to 83,886,080 bytes"),
    ("huge", lambda c: plain(c | {"run.json": b" " * (5 << 20)}), "4,194,304 are read at most"),
    ("bad manifest", lambda c: plain(c | {MANIFEST: b"{"}), "submission.json cannot be read"),
    ("nested", nested, "submission.json cannot be read"),
    ("not text", lambda c: plain(c | {MANIFEST: b"\xff\xfe"}), "submission.json cannot be read"),
    ("no members", with_manifest(members={}), "does not list the members"),
    ("sizes", with_manifest(members={n: {"sha256": "", "bytes": -1} for n in MEMBERS}), "-1 bytes"),
    ("other format", with_manifest(format="x\u202e\nx"), "its format is"),
    ("newer", with_manifest(version=99), "submission of format 99"),
    ("script", with_manifest(by={"link": "javascript:alert(1)"}), "give an address"),
    ("long", with_manifest(by={"name": "n" * 1000}), "at most 200"),
    ("before", before, "lie before"),
    ("before and told", before_and_told, "lie before"),
    ("after", lambda content: plain(content) + b"anything", "lie at its end"),
    ("comment", with_comment, "lie at its end, or a comment"),
    ("between", between, "lie at its end"),
    ("extra", lambda c: with_extra(c, extra=b"\x34\x12\x04\0abcd"), "extra data"),
    ("notes", lambda c: with_extra(c, comment=b"abcd"), "extra data or a comment"),
    ("two headers", other_local_header, "has other headers at its place"),
    ("missing", lambda c: plain({n: d for n, d in c.items() if n != "run.json"}), "no run.json"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "make", "reason"), HOSTILE, ids=[one[0] for one in HOSTILE])
def test_what_is_no_submission_is_one_clear_line(
    name: str,
    make: Callable[[Members], bytes],
    reason: str,
    packed: Path,
    mmneedle: Shell,
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(make(members(packed)))
    line = mmneedle.refused("submit", "check", path)
    assert reason in line
    assert len(line) < 700
    assert line.isprintable() or line.rstrip("\n").isprintable()
    assert reason in mmneedle.refused("leaderboard", path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["x.zip"]


def test_a_missing_file_is_one_clear_line(mmneedle: Shell, tmp_path: Path) -> None:
    assert "no such file" in mmneedle.refused("submit", "check", tmp_path / "none.zip")
    assert "is a folder, not a submission" in mmneedle.refused("submit", "check", tmp_path)


def test_runs_and_submissions_in_each_others_place(mmneedle: Shell) -> None:
    build(mmneedle)
    mmneedle.ok("run", "set", "--model", "baseline/oracle", "--log", "runs/oracle")
    mmneedle.ok("submit", "pack", "runs/oracle")
    told = "oracle.submission.zip: is a submission; leaderboard, figures and submit check read it"
    for verb in ("score", "compare", "report", "findings", "view"):
        assert told in mmneedle.refused(verb, "oracle.submission.zip")
    assert "mmneedle submit pack runs/oracle makes" in mmneedle.refused(
        "submit", "check", "runs/oracle"
    )
    assert "is a run's folder; --data takes" in mmneedle.refused(
        "submit", "check", "oracle.submission.zip", "--data", "runs/oracle"
    )
    Path("x").write_text("x")
    assert "x: is a file; name a run's folder" in mmneedle.refused("score", "x")


@given(st.binary(max_size=300), st.integers(1, 9000), st.sampled_from(sorted(METHODS)), st.data())
def test_pieces_are_what_zipfile_reads(seed: bytes, times: int, method: int, data: Any) -> None:
    content = seed * times
    with zipfile.ZipFile(io.BytesIO(), "w", method) as archive:
        archive.writestr("a", content)
        archive.writestr("b", b"x")
        most = data.draw(st.integers(0, len(content) + 2))
        found = list(pieces(archive, "a", most))
        assert b"".join(found) == archive.read("a")[:most] == content[:most]
        assert all(len(piece) <= 1 << 20 for piece in found)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_bytes_behind_a_packed_member_are_damage(packed: Path, method: int) -> None:
    file = io.BytesIO(behind_a_stream(members(packed), method))
    with zipfile.ZipFile(file) as archive:
        assert archive.read("run.json") == members(packed)["run.json"]  # others pass over them
        with pytest.raises(DamagedError, match="bytes follow its end"):
            list(pieces(archive, "run.json", 1 << 20))


def lying(path: Path, member: str, size: int) -> None:
    """Let a zip file claim that a member has another size, in its directory and at its place."""
    content = path.read_bytes()
    name = member.encode()
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(name))
    place = content.index(b"PK\x03\x04", 0)
    for at, offset in ((directory, 24), (place, 22)):
        content = content[: at + offset] + size.to_bytes(4, "little") + content[at + offset + 4 :]
    path.write_bytes(content)


def test_a_bomb_that_claims_to_be_small_fills_no_memory(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(MANIFEST, bytes(300 << 20))
        for name in MEMBERS:
            archive.writestr(name, b"{}")
    assert path.stat().st_size < 100_000
    lying(path, MANIFEST, 1000)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"submission\.json cannot be read"):
        check(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_another_data_set_is_the_users_mistake(mmneedle: Shell, packed: Path) -> None:
    build(mmneedle, "set", "--seed", 5)
    said = mmneedle.refused("submit", "check", packed, "--data", "set")
    assert "its data set has the fingerprint" in said
    assert "no data set here" in mmneedle.refused("submit", "check", packed, "--data", ".")


BAD_MEMBERS: list[tuple[str, bytes]] = [
    ("run.json", b"{"),
    ("run.json", b'{"version": 1}'),
    ("run.json", b"[" * 1_000_000),
    ("dataset.json", b"null"),
    ("answers.jsonl", b'{"sample": 1}\n'),
    ("answers.jsonl", b"{}"),
    ("answers.jsonl", b"\xff\xff\n"),
    ("answers.jsonl", b"[" * 100_000 + b"\n"),
    ("scores.json", b"{}"),
    ("scores.json", b"[" * 100_000),
    ("attempts.json", b"[1]"),
]


@pytest.mark.parametrize(("name", "data"), BAD_MEMBERS)
def test_members_that_are_no_json_fail_their_check(
    name: str, data: bytes, packed: Path, tmp_path: Path
) -> None:
    verified = check(written(tmp_path / "x.zip", members(packed) | {name: data}, honest=True))
    assert failed(verified)
    assert all("\n" not in one.text and len(one.text) <= 400 for one in verified.checks)


PLANS: list[dict[str, list[int]]] = [
    {"n1-g2x2-k1": [0, 10**8]},
    {"n9999999-g99999x99999-k1": [0, 4]},
    {"n9-g999x999-k999999": [0, 4]},
    {"n0-g0x0-k0": [0, 4]},
    {"n1-g2x2-k1": [4, 0]},
    {},
]


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_that_would_take_for_ever_fails_at_once(
    plan: dict[str, list[int]], packed: Path, tmp_path: Path
) -> None:
    content = members(packed)
    header = json.loads(content["run.json"]) | {"plan": plan}
    forged = content | {"run.json": json.dumps(header).encode()}
    path = written(tmp_path / "x.zip", forged, honest=True)
    assert "run" in failed(check(path))
    with pytest.raises(UserError, match="cannot be trusted"):
        open_submission(path)


@given(st.data())
def test_flipped_bytes_never_pass_and_never_crash(packed: Path, data: Any) -> None:
    """A file with some bytes changed is no submission, or a check fails, or nothing of it moved."""
    content = bytearray(packed.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    path = packed.with_name("flipped.zip")
    path.write_bytes(content)
    try:
        verified = check(path)
    except UserError as error:
        assert "\n" not in str(error)
        return
    if verified.ok:  # a byte that means nothing: a time, a flag of the system that packed it
        before = members(packed)
        with Submission(path) as submission:
            for name in MEMBERS:
                assert (submission.folder / name).read_bytes() == before[name]


def test_a_false_score_is_told_as_figures(packed: Path, tmp_path: Path) -> None:
    content = members(packed)
    rows = json.loads(content["scores.json"])
    rows[0]["bounds"] = {"existence": [0.5, 0.75]}
    path = written(tmp_path / "x.zip", content | {"scores.json": json.dumps(rows).encode()},
                   honest=True)  # fmt: skip
    (text,) = (one.text for one in check(path).checks if one.name == "scores")
    assert "bounds of existence 0.5000–0.7500, by the answers 1.0000–1.0000" in text
    assert "{" not in text


# --------------------------------------------------------------------------- on a leaderboard


def test_a_run_and_its_own_submission_are_one_row(
    packed: Path, dataset: DataSet, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "m", errs, SHAPES, model="vendor/m", dataset=dataset)
    other = write_run(tmp_path / "o", always_right, SHAPES, model="vendor/m", dataset=dataset)
    board = leaderboard([open_submission(packed), other, run], ranked=True)
    assert {entry.run for entry in board.entries} == {"m", "o"}
    told = "m.zip holds the answers of m: they are the same run, which is shown once."
    for form in ("md", "html", "latex"):
        assert told in board.render(form)
    assert {entry.run for entry in leaderboard([open_submission(packed), other]).entries} == {
        "m.zip",
        "o",
    }


def test_a_submission_stands_on_a_leaderboard_marked(
    packed: Path, dataset: DataSet, tmp_path: Path
) -> None:
    mine = write_run(tmp_path / "mine", always_right, SHAPES, model="my/m", dataset=dataset)
    board = leaderboard([open_submission(packed), mine])
    origins = {entry.model: entry.origin for entry in board.entries}
    assert origins == {"vendor/m": "submitted", "my/m": "run"}
    flat = [entry.flat() for entry in board.entries]
    assert {row["run"] for row in flat} == {"m.zip", "mine"}
    assert str(packed.parent) not in json.dumps(flat)


def saying(content: Members, place: int, **said: Any) -> Members:
    records = answers(content)
    records[place]["response"] |= said
    return content | {"answers.jsonl": lines(records)}


@pytest.mark.parametrize(
    ("said", "fails"),
    [
        ({"usage": {"input_tokens": 10**400}}, "samples"),
        ({"usage": {"output_tokens": -1}}, "samples"),
        ({"text": "-99999, 1, 1"}, "scores"),
        ({"text": "1, 1, " + "9" * 400}, "scores"),
    ],
)
def test_numbers_beyond_every_range_crash_nothing(
    said: dict[str, Any], fails: str, packed: Path, mmneedle: Shell, tmp_path: Path
) -> None:
    """Tokens that no model has are refused; an answer far outside is a wrong answer."""
    path = written(tmp_path / "x.zip", saying(members(packed), 0, **said), honest=True)
    done = mmneedle("submit", "check", path)
    assert done.status == 1
    assert fails in failed(check(path))
    if fails == "samples":
        assert "cannot be trusted" in mmneedle.refused("leaderboard", path)
    else:
        assert "vendor/m" in mmneedle.ok("leaderboard", path)


def test_an_altered_submission_is_on_no_leaderboard(packed: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "x.zip", better_answers(members(packed)), honest=False)
    with pytest.raises(UserError, match=r"answers.jsonl was altered \(mmneedle submit check"):
        open_submission(path)


def test_temporary_files_go_away(packed: Path) -> None:
    run = open_submission(packed)
    folder = run.folder
    assert folder.exists()
    run.submission.close()
    assert not folder.exists()
