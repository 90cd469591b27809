"""Does chapter 1 run on Google Colab? Make an environment with Colab's versions, install the course from git, run it.

    python tests/colab/run.py [--python 3.13] [--keep]

In a throw-away folder: a virtual environment with the versions of constraints.txt; then, as on Colab, nothing but
`pip install "git+..."` of this checkout's HEAD; then the chapter, outside the checkout, from a fresh kernel. Fails
where a version of constraints.txt changed, where anything large was added, or where a cell fails. Takes a few minutes
and several gigabytes of downloads, so it is no part of `pytest`. Needs uv and git, and Python 3.13, which uv downloads.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
# Colab has its own build of this version for Python 3.13; the package index has none, and the course needs none.
COLABS_OWN_BUILDS = ("pandas",)
# Executes a notebook with the tools Colab has itself; 'google.colab' is not there, so the install cell does nothing.
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
errors = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
print(f"{sum(c.cell_type == 'code' for c in notebook.cells)} code cells, {len(errors)} errors")
"""


def run(*command, **options) -> subprocess.CompletedProcess:
    """Run a command to its end; CalledProcessError where it fails."""
    print("+", " ".join(str(part).strip().partition("\n")[0] for part in command)[:160], flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def installed(python: Path) -> dict[str, str]:
    """Package -> version in the environment of `python`, names in lower case with hyphens."""
    listing = run("uv", "pip", "freeze", "--python", python, capture_output=True, text=True).stdout
    pairs = (re.split(r"==| @ ", line, maxsplit=1) for line in listing.splitlines() if "==" in line or " @ " in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def make_environment(folder: Path, python_version: str) -> Path:
    """A virtual environment with Colab's versions; returns its Python."""
    run("uv", "venv", "--quiet", "--no-project", "--python", python_version, folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = [
        line
        for line in CONSTRAINTS.read_text(encoding="utf8").splitlines()
        if line and not line.startswith(("#", *COLABS_OWN_BUILDS))
    ]
    # without --no-build a missing wheel would be compiled for half an hour
    run(
        "uv", "pip", "install", "--quiet", "--no-config", "--no-build", "--python", python, *packages, "nbclient", "pip"
    )
    return python


def install_course(python: Path) -> None:
    """What a chapter's install cell does on Colab, from this checkout's HEAD: pip install git+..."""
    commit = run("git", "-C", ROOT, "rev-parse", "HEAD", capture_output=True, text=True).stdout.strip()
    run(python, "-m", "pip", "install", "--quiet", f"git+file://{ROOT}@{commit}")


def check_versions(before: dict[str, str], after: dict[str, str]) -> None:
    """Fail where an installed version changed; say what was added."""
    changed = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    added = sorted(set(after) - set(before))
    print("added:", ", ".join(f"{name} {after[name][:20]}" for name in added))
    if changed:
        sys.exit(f"installing the course changed {changed}")
    if present := {"museval", "musdb", "stempeg"} & set(after):
        sys.exit(f"installing the course brought {sorted(present)}, which it must do without")


def run_chapter(python: Path, folder: Path, chapter: str) -> None:
    """Execute a chapter in an empty folder, away from the checkout."""
    folder.mkdir()
    notebook = folder / f"{chapter}.ipynb"
    shutil.copy(ROOT / "chapters" / notebook.name, notebook)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MPL"))
    }
    environment |= {
        "COURSE_DATA_DIR": str(folder / "data"),
        "COURSE_EXECUTING": "1",
        "PATH": f"{python.parent}{os.pathsep}{environment['PATH']}",
    }
    start = time.monotonic()
    run(python, "-c", EXECUTE, notebook, folder, cwd=folder, env=environment)
    print(f"{chapter} ran in {time.monotonic() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.13", help="version or path of the Python to use (default: %(default)s)")
    parser.add_argument("--chapter", default="01_stft_and_masks", help="default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="leave the folder there, to look into")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="course-colab-"))
    try:
        python = make_environment(folder / "environment", arguments.python)
        before = installed(python)
        install_course(python)
        check_versions(before, installed(python))
        run_chapter(python, folder / "content", arguments.chapter)
    finally:
        if arguments.keep:
            print(f"kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
