"""Build wheel and sdist, see that each holds every module once, install the wheel into an empty
environment and do the main job with it. Run by `make wheel`."""

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules(names: list[str]) -> list[str]:
    """The package's own files among an archive's names, without a leading project folder."""
    parts = [Path(name).parts for name in names]
    ours = [path for path in parts if "mmneedle" in path[:2]]
    return sorted("/".join(path[path.index("mmneedle") :]) for path in ours)


def check_contents(names: list[str], expected: list[str]) -> None:
    """Every file of the package once, and no second copy under the short names of its rooms."""
    found = [name for name in modules(names) if not name.endswith("/")]
    assert found == expected, set(found) ^ set(expected)
    rooms = {"stitching", "adapters", "data", "reports"}
    strays = [name for name in names if rooms & set(Path(name).parts[:2])]
    assert not [s for s in strays if Path(s).parts[0] != "mmneedle"], strays


def main() -> None:
    """Raise AssertionError or CalledProcessError on the first thing that is wrong."""
    expected = sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mmneedle").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", work / "dist", ROOT)
        (wheel,) = (work / "dist").glob("*.whl")
        (sdist,) = (work / "dist").glob("*.tar.gz")
        check_contents(zipfile.ZipFile(wheel).namelist(), expected)
        with tarfile.open(sdist) as archive:
            check_contents(archive.getnames(), expected)
        venv.create(work / "env", with_pip=True)
        python = work / "env" / "bin" / "python"
        lock = ROOT / "requirements" / "base.txt"
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock)
        run(python, "-m", "pip", "install", "--quiet", "--no-index", wheel)
        run(python, "-m", "pip", "check")
        use(work / "env" / "bin" / "mmneedle", work)
    print("wheel and sdist: complete; the wheel works in an empty environment")


def use(mmneedle: Path, work: Path) -> None:
    """The main job with the installed command, from an unrelated folder."""
    shapes = ("--source", "shapes", "--scenes", "60", "--cell", "64")
    run(mmneedle, "build", "set", *shapes, "--settings", "1x2,2x2", "--samples", "8", cwd=work)
    run(mmneedle, "run", "set", "--model", "baseline/oracle", "--log", "runs/oracle", cwd=work)
    run(mmneedle, "report", "runs/oracle", "--out", "report.html", cwd=work)
    table = run(mmneedle, "leaderboard", "runs/oracle", "--format", "csv", cwd=work)
    assert "baseline/oracle" in table
    assert (work / "report.html").stat().st_size > 10_000


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command, show it, and return what it printed."""
    words = [part.name if isinstance(part, Path) else part for part in command]
    print("+", *words, flush=True)
    done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
