"""`course sync`: pairs in step, the library exported, nothing executed; and which chapters stand on which."""

import argparse
import shutil
from pathlib import Path

import nbformat
import pytest

from course_lib import catalogue
from course_lib.authoring import sync

ROOT = Path(__file__).resolve().parents[2]
FIRST = """\
# %% [markdown]
# # 1. First

# %%
#| default_exp spectral

# %%
#| export
def double(x):
    return 2 * x

# %%
raise RuntimeError("nobody executes this")
"""
SECOND = "# %%\n#| default_exp classic\n\n# %%\nfrom course_lib.experiments import grid\n"
THIRD = "# %%\n#| default_exp metrics\n\n# %%\nimport course_lib.paths\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Three chapters as text alone, an assignment, and a package of the library between two of them."""
    root = tmp_path / "course"
    for folder in ("chapters/assignments", "course_lib/experiments"):
        (root / folder).mkdir(parents=True)
    for name in ("jupytext.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    for name, text in (("course_lib/__init__", ""), ("course_lib/experiments/__init__", ""),
                       ("course_lib/experiments/grid", "from course_lib.spectral import double\n"),
                       ("chapters/01_first", FIRST), ("chapters/02_second", SECOND), ("chapters/03_third", THIRD),
                       ("chapters/assignments/01_first", "# %%\nfrom course_lib import spectral\n")):
        (root / f"{name}.py").write_text(text, encoding="utf8")
    monkeypatch.setattr(catalogue, "repository_root", lambda: root)
    return root


def course_sync(*words):
    parser = argparse.ArgumentParser()
    sync.configure(parser)
    return sync.main(parser.parse_args(words))


def test_pairs_are_made_and_the_library_exported(checkout, capsys):
    assert course_sync() == 0
    assert "4 pairs are in step" in capsys.readouterr().out
    assert "def double" in (checkout / "course_lib" / "spectral.py").read_text(encoding="utf8")
    for name in ("chapters/01_first", "chapters/assignments/01_first"):
        notebook = nbformat.read(checkout / f"{name}.ipynb", as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_outputs_and_ids_stay_where_the_code_stays(checkout):
    course_sync("1")
    path = checkout / "chapters" / "01_first.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="kept")]
    nbformat.write(notebook, path)
    path.with_suffix(".py").write_text(FIRST.replace("1. First", "1. The first"), encoding="utf8")
    course_sync("01")
    after = nbformat.read(path, as_version=4)
    assert after.cells[0].source == "# 1. The first" and after.cells[2].outputs[0].text == "kept"
    assert [cell.id for cell in after.cells] == [cell.id for cell in notebook.cells]


def test_dependents_are_found_through_the_library(checkout, capsys):
    first = checkout / "chapters" / "01_first.py"
    names = [str(path.relative_to(checkout / "chapters")) for path in sync.dependents(checkout, [first])]
    assert names == ["02_second.py", str(Path("assignments/01_first.py"))]
    assert sync.dependents(checkout, [checkout / "chapters" / "03_third.py"]) == []
    course_sync("1", "--dependents")
    assert (checkout / "chapters" / "02_second.ipynb").exists() and not (
        checkout / "chapters" / "03_third.ipynb"
    ).exists()
    assert "course run 02_second assignments/01_first" in capsys.readouterr().out


@pytest.mark.parametrize("word, message", [("assignments/2", "names 0 assignments; there: 01_first"),
                                           ("4", "names 0 chapters; there: 01_first, 02_second, 03_third")])
def test_what_is_not_there_is_said(checkout, word, message):
    with pytest.raises(ValueError, match=message):
        course_sync(word)


def test_an_assignment_exports_nothing(checkout):
    assert (
        sync.module_file(checkout, checkout / "chapters" / "01_first.ipynb") == checkout / "course_lib" / "spectral.py"
    )
    assert sync.module_file(checkout, checkout / "chapters" / "assignments" / "01_first.py") is None
    assert sync.module_file(checkout, checkout / "chapters" / "09_nothing.py") is None
