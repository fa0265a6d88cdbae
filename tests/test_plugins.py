"""Providers of other packages: the documented example, installed by pip; and broken ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from needs import ROOT
from shell import Shell

from mmneedle.data.shapes import ShapesSource
from mmneedle.stitching.dataset import build
from mmneedle.types import Setting

DOCUMENT = ROOT / "docs" / "adapters.md"


def command(*words: object, path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with the packages in `path` beside the others."""
    return subprocess.run(
        [sys.executable, "-m", "mmneedle", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    build(folder, ShapesSource(20), {Setting(2, 1, 2): 4})
    return folder


def test_the_documented_example(data: Path, tmp_path: Path) -> None:
    """Its files are taken from the document, built and installed, and a run is made with it."""
    blocks = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", DOCUMENT.read_text(), re.S))
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "mmneedle_echo.py"):
        (source / name).write_text(blocks[name])
    install = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *install]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)

    def run(model: str) -> subprocess.CompletedProcess[str]:
        return command("run", data, "--model", model, "--log", "run", path=site, folder=tmp_path)

    done = run("echo/loud?answer=1, 1, 1")
    assert done.returncode == 0, done.stderr
    assert "4 of 4 samples answered" in done.stdout
    lines = (tmp_path / "run" / "responses.jsonl").read_text()
    assert lines.count('"text":"1, 1, 1","stop_reason":"2 images"') == 4
    refused = run("echo/loud?pitch=3")
    assert refused.returncode == 2
    assert refused.stderr == "mmneedle: echo/loud has no option 'pitch'; it takes answer\n"
    unknown = run("eco/loud")
    assert "echo/NAME" in unknown.stderr
    assert unknown.stderr.count("\n") == 1


def package(site: Path, name: str, code: str | None, entry: str) -> None:
    """An installed package, as pip leaves one behind."""
    module = name.replace("-", "_")
    if code is not None:
        (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mmneedle.adapters]\n{entry}\n")


GOOD = """
class A:
    model, wants_images = "p/m", False
    async def generate(self, request): {body}
    def fingerprint(self): return {{}}
    async def aclose(self): pass
def create(name, options): return A()
"""

BROKEN = {
    "it is not there": (None, "cannot be loaded (ModuleNotFoundError: No module named 'other')"),
    "it needs another package": ("import nothing_such", "cannot be loaded (ModuleNotFoundError: "
                                 "No module named 'nothing_such')"),
    "it is no Python": ("def (", "cannot be loaded (SyntaxError: "),
    "it fails": ("raise RuntimeError('two\\nlines')", "cannot be loaded (RuntimeError: two lines)"),
    "it has no such function": ("", "cannot be loaded (AttributeError: "),
    "its function fails": ("def create(name, options): 1 / 0",
                           "cannot be made (ZeroDivisionError: division by zero)"),
    "its function takes something else": ("def create(): pass", "cannot be made (TypeError: "),
    "its adapter is none": ("def create(name, options): return 3",
                            "cannot be made (TypeError: int has no model, wants_images, generate,"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_package_is_named_in_one_line(
    code: str | None,
    message: str,
    data: Path,
    mmneedle: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package(tmp_path, "other", code, "p = other:create")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        refused = mmneedle.refused("run", data, "--model", "p/m")
    finally:
        sys.modules.pop("other", None)
    assert refused.startswith(
        f"mmneedle: p/m: the package other adds this provider, but it {message}"
    )
    assert not (tmp_path / "runs").exists()
    mmneedle.ok("run", data, "--model", "baseline/oracle")  # it is in nobody else's way


def test_an_adapter_that_raises_is_named_and_finished_answers_are_kept(
    data: Path, tmp_path: Path
) -> None:
    body = """
        if request.sample.id.endswith("1"): raise KeyError("x")
        from mmneedle.types import Response
        return Response("ok", "-1")
"""
    package(tmp_path, "other", GOOD.format(body=body), "p = other:create")
    words = ("run", data, "--model", "p/m", "--log", "run", "--max-connections", "1")
    done = command(*words, path=tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert "the adapter of p/m failed at sample n2-g1x2-k1-000001 with KeyError" in done.stderr
    assert (tmp_path / "run" / "responses.jsonl").read_text().count("\n") == 1


def test_two_packages_with_one_name(data: Path, tmp_path: Path) -> None:
    package(tmp_path, "one", "", "p = one:create")
    package(tmp_path, "other", "", "p = other:create")
    done = command("run", data, "--model", "p/m", path=tmp_path, folder=tmp_path)
    assert done.stderr == "mmneedle: p/m: the packages one and other both add this provider\n"


def test_no_package_takes_the_place_of_our_own_providers(data: Path, tmp_path: Path) -> None:
    package(tmp_path, "other", "raise RuntimeError", "baseline = other:create")
    done = command("run", data, "--model", "baseline/oracle", path=tmp_path, folder=tmp_path)
    assert done.returncode == 0
