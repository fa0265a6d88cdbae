"""Files that somebody edited, or half a disk: one clear line, never a traceback."""

import copy
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmneedle import cli

JUNK: list[Any] = [None, True, 0, -1, 1.5, 10**12, 10**30, "", "x", [], [0, 0], [5, 2], [-3, 9],
                   [0, 10**12], {}, {"x": 5}, {"x": [0, 4]}, {"n01-g2x2-k1": [0, 4]},
                   {"n1-g2x2-k1": -5}, {"n1-g2x2-k1": 10**8}, {"n1-g2x2-k1": 10**12}]  # fmt: skip
RAW = [b"", b"\xff\xfe", b"{", b"[" * 100_000, b'"\xff"', b"\xef\xbb\xbf{}", b"null"]
READING = {
    "run.json": (
        ("score", "run", "--json"),
        ("report", "run", "--out", "report.html"),
        ("run", "set", "--model", "baseline/oracle", "--log", "run", "--quiet"),
    ),
    "dataset.json": (
        ("show", "set"),
        ("show", "set", "n1-g2x2-k1-000001", "--json"),
        ("run", "set", "--model", "baseline/oracle", "--log", "other", "--quiet"),
    ),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from places(inner, (*path, key))


def damaged(content: bytes) -> Iterator[bytes]:
    yield from (*RAW, content[: len(content) // 2])
    whole = json.loads(content)
    for *above, last in filter(None, places(whole)):
        for junk in JUNK:
            changed = copy.deepcopy(whole)
            inner = changed
            for key in above:
                inner = inner[key]
            inner[last] = junk
            yield json.dumps(changed).encode()
        del inner[last]
        yield json.dumps(changed).encode()


def mmneedle(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["mmneedle", *words])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code


@pytest.mark.parametrize("name", READING)
def test_a_damaged_file_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = "--source shapes --scenes 60 --cell 32 --settings 1x2 --samples 4 --quiet"
    assert mmneedle(monkeypatch, "build", "set", *shapes.split()) == 0
    assert mmneedle(monkeypatch, *READING["run.json"][2]) == 0
    (path,) = tmp_path.glob(f"*/{name}")
    content = path.read_bytes()
    refused = 0
    for number, wrong in enumerate(damaged(content)):
        for words in READING[name] if number % 5 == 0 else READING[name][:1]:
            path.write_bytes(wrong)
            capsys.readouterr()
            status = mmneedle(monkeypatch, *words)
            err = capsys.readouterr().err
            assert status in (0, 1) or (status, err.count("\n")) == (2, 1), (wrong[:2000], err)
            refused += status == 2
    assert refused > 100
