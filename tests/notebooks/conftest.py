"""A small repository with one flawless chapter, to be broken by the tests of the checks."""

import shutil
from pathlib import Path

import pytest

from tests.notebooks.flawless_chapter import CHAPTER, MINUTES, PYPROJECT, flawless_notebook, write_pair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_course(tmp_path):
    """The root of a repository with one flawless chapter and the module it exports."""
    from nbdev.doclinks import nbdev_export

    root = tmp_path / "course"
    for folder in ("chapters", "course_lib", "data/results"):
        (root / folder).mkdir(parents=True)
    (root / "data" / "results" / "minutes.csv").write_text(MINUTES, encoding="utf8")
    (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf8")
    shutil.copy(ROOT / "jupytext.toml", root)
    (root / "course_lib" / "__init__.py").write_text('"""A small library, written by hand."""\n', encoding="utf8")
    write_pair(flawless_notebook(), root / "chapters" / f"{CHAPTER}.ipynb")
    nbdev_export(path=str(root / "chapters"))
    return root


@pytest.fixture
def chapter(small_course):
    """The notebook's path in `small_course`."""
    return small_course / "chapters" / f"{CHAPTER}.ipynb"
