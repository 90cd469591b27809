"""`course test NN`: the tests of one chapter: its notebook, its module, its experiment, its assignment, its order."""

import argparse
import subprocess
import sys
from pathlib import Path

from course_lib import catalogue


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course test`."""
    parser.add_argument("chapters", nargs="+", metavar="NN", help="chapters by number or name, such as 01 or 08b")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="options of pytest, after --")


def main(arguments: argparse.Namespace) -> int:
    """Run pytest on what belongs to the chapters; its exit status."""
    root = catalogue.checkout()
    names = [path.stem for path in catalogue.written(root)]
    split = next((place for place, word in enumerate(arguments.chapters) if word.startswith("-")), None)
    words = arguments.chapters[:split]
    options = [*(arguments.chapters[split:] if split is not None else []), *arguments.options]
    targets = [target for word in words for target in tests_of(root, catalogue.match(word, names))]
    return subprocess.call(
        [sys.executable, "-m", "pytest", "-q", *map(str, dict.fromkeys(targets)), *options], cwd=root
    )


def tests_of(root: Path, name: str) -> list[Path]:
    """The files and folders of tests that belong to a chapter 'NN_topic', those that are there.

    What every chapter shares (the order of stored notebooks, the exercises' answers, README) comes last.
    """
    module = catalogue.chapter_named(name).module
    candidates = [root / "chapters" / f"{name}.ipynb", root / "tests" / f"test_{module}.py",
                  *sorted((root / "tests").glob(f"*/test_{module}*.py")), root / "tests" / "classroom" / name,
                  root / "tests" / "notebooks", root / "tests" / "test_readme.py"]
    return [path.relative_to(root) for path in candidates if path.exists()]
