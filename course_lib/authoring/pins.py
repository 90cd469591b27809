"""`course pins`: write the version of every package, direct or below, into pyproject.toml and requirements.txt.

The groups of pyproject.toml pin what the course names itself. Everything below them is fixed too, as constraints that
uv obeys whatever the index offers today (`tool.uv.constraint-dependencies`), and as requirements.txt for pip and conda.
Both come from one resolution, so `uv run`, pip and conda install the same versions, this year and next.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_lib.paths import repository_root

EXPORT = ("uv", "export", "--quiet", "--no-hashes", "--no-emit-project", "--no-annotate", "--no-header", "--all-groups")
HEADER = "# Written by `course pins`; never edited by hand. What each group names itself is in pyproject.toml.\n"
# the list between these two lines of pyproject.toml belongs to the command
BLOCK = re.compile(r"(?<=\nconstraint-dependencies = \[\n)(?:    \".*\",\n)*(?=\])")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course pins`."""
    parser.add_argument("--upgrade", action="append", default=[], metavar="PACKAGE",
                        help="let go of this package's version and take the newest that fits (may be given several "
                             "times; `all` lets go of everything below the groups' own pins)")


def main(arguments: argparse.Namespace) -> int:
    """What `course pins` does; its exit status."""
    root = repository_root()
    if root is None:
        raise FileNotFoundError(
            "course pins needs a checkout with pyproject.toml; the package was installed without one"
        )
    released = {canonicalize_name(name) for name in arguments.upgrade}
    text = (root / "pyproject.toml").read_text(encoding="utf8")
    kept = (
        [] if "all" in released else [pin for pin in constraints(text) if canonicalize_name(pin.name) not in released]
    )
    found = resolve(root, with_constraints(text, kept))
    (root / "requirements.txt").write_text(HEADER + "".join(f"{pin}\n" for pin in found), encoding="utf8")
    (root / "pyproject.toml").write_text(with_constraints(text, found), encoding="utf8")
    before = {str(pin) for pin in constraints(text)}
    changed = [f"{pin.name} {pin.specifier}" for pin in shortened(found) if str(pin) not in before]
    print(f"{len(found)} packages pinned" + (f"; new: {', '.join(changed)}" if changed else ", none of them new"))
    return 0


def constraints(pyproject: str) -> list[Requirement]:
    """The pins below the groups that the text of a pyproject.toml holds, in its order."""
    return [Requirement(line) for line in tomllib.loads(pyproject)["tool"]["uv"]["constraint-dependencies"]]


def with_constraints(pyproject: str, pins: list[Requirement]) -> str:
    """The text of a pyproject.toml with these pins in place of the ones it holds. ValueError where it has no place."""
    lines = "".join('    "{}",\n'.format(str(pin).replace('"', "'")) for pin in shortened(pins))
    written, times = BLOCK.subn(lambda _: lines, pyproject)
    if times != 1:
        raise ValueError("pyproject.toml has no list `constraint-dependencies = [` with a package a line; add an empty "
                         "one under [tool.uv]")
    return written


def shortened(pins: list[Requirement]) -> list[Requirement]:
    """Pins without the platforms they are for, except where one package has several versions.

    A constraint asks for nothing to be installed, so it may hold everywhere; uv knows the platforms from elsewhere.
    """
    versions = Counter(canonicalize_name(pin.name) for pin in pins)
    return [
        pin if versions[canonicalize_name(pin.name)] > 1 else Requirement(f"{pin.name}{pin.specifier}") for pin in pins
    ]


def resolve(root: Path, pyproject: str) -> list[Requirement]:
    """What uv would install for a pyproject.toml, of all groups and platforms, without looking at a uv.lock.

    Raises ValueError with uv's words where nothing fits.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(pyproject, encoding="utf8")
        for name in ("README.md", "LICENSE"):
            shutil.copy(root / name, folder)
        done = subprocess.run(EXPORT, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"uv can't resolve the pins: {done.stderr.strip()}")
    return read_requirements(done.stdout)


def read_requirements(text: str) -> list[Requirement]:
    """The packages of a requirements file, without its comments."""
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
