"""`course run`: what it executes, what it stores, and what it leaves alone."""

import argparse
import csv
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from course_lib import catalogue
from course_lib.authoring import run, sync

ROOT = Path(__file__).resolve().parents[2]
TEXT = '''\
# %% [markdown]
# # 1. Small
#
# **Time** <!-- minutes 01_small -->not measured<!-- /minutes -->.

# %%
#| default_exp spectral

# %%
#| export
def double(x: float) -> float:
    """Twice x."""
    return 2 * x

# %% tags=["remember"]
import os, sys
print(double(1.25), os.environ["COURSE_EXECUTING"], os.environ["COURSE_PROFILE"])
print("one"); sys.stdout.flush(); print("two")

# %%
{last}
'''


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one chapter as text alone, in place of the course's own."""
    root = tmp_path / "course"
    for folder in ("chapters", "course_lib"):
        (root / folder).mkdir(parents=True)
    for name in ("jupytext.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    (root / "course_lib" / "__init__.py").write_text("", encoding="utf8")
    (root / "README.md").write_text("| 01 | <!-- minutes 01_small -->?<!-- /minutes --> |", encoding="utf8")
    write_text(root, "double(3)")
    monkeypatch.setattr(catalogue, "repository_root", lambda: root)
    monkeypatch.setenv("COURSE_THREADS", "2")
    return root


def write_text(root, last):
    (root / "chapters" / "01_small.py").write_text(TEXT.format(last=last), encoding="utf8")


def course_run(*words):
    parser = argparse.ArgumentParser()
    run.configure(parser)
    return run.main(parser.parse_args(words))


def test_chapter_from_text_to_stored_outputs(checkout, capsys):
    """One walk through everything, as starting kernels is what takes the time: run, check, fail."""
    notebook_path = checkout / "chapters" / "01_small.ipynb"
    assert course_run("1", "--timeout", "60") == 0
    stored = nbformat.read(notebook_path, as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4]
    assert code[2].outputs[0].text == "2.5 1 cpu\none\ntwo\n" and len(code[2].outputs) == 1
    assert code[3].outputs[0].data["text/plain"] == "6"
    assert code[2].metadata == {"tags": ["remember"]} and set(stored.metadata) == set(run.NOTEBOOK_METADATA)
    assert "def double" in (checkout / "course_lib" / "spectral.py").read_text(encoding="utf8")
    rows = list(csv.DictReader((checkout / "data" / "results" / "minutes.csv").open(encoding="utf8")))
    assert [row["chapter"] for row in rows] == ["01_small"] and float(rows[0]["seconds"]) < 60

    time_line = "<!-- minutes 01_small -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->"
    for path in (notebook_path, notebook_path.with_suffix(".py"), checkout / "README.md"):
        assert time_line in path.read_text(encoding="utf8")

    ids = [cell.id for cell in code]
    notebook_path.write_text(notebook_path.read_text(encoding="utf8").replace('"6"', '"7"'), encoding="utf8")
    altered = notebook_path.read_bytes()
    assert course_run("01", "--check") == 1
    assert "stored '7', new '6'" in capsys.readouterr().out and notebook_path.read_bytes() == altered

    module = checkout / "course_lib" / "spectral.py"
    kept = {file: file.read_bytes() for file in (notebook_path, module)}
    failing = TEXT.replace("2 * x", "3 * x").format(last="raise RuntimeError('too loud')")
    notebook_path.with_suffix(".py").write_text(failing, encoding="utf8")
    assert course_run("01_small") == 1
    said = capsys.readouterr().err
    assert "01_small: code cell 4" in said and "RuntimeError: too loud" in said
    assert {file: file.read_bytes() for file in kept} == kept, "a run that failed changed what is stored"
    assert notebook_path.with_suffix(".py").read_text(encoding="utf8") == failing, "the author's text is lost"
    assert not list((checkout / "chapters").glob(".01_small*"))

    write_text(checkout, "double(4)")                       # the next run takes the text, not the notebook put back
    assert course_run("1") == 0
    after = [cell for cell in nbformat.read(notebook_path, as_version=4).cells if cell.cell_type == "code"]
    assert after[3].outputs[0].data["text/plain"] == "8" and [cell.id for cell in after] == ids


ASSIGNMENT = '''\
# %% [markdown]
# # Assignment 1

# %%
from course_lib.spectral import double
print(double({number}))
'''


def test_an_assignment_is_executed_and_stores_nothing(checkout, capsys, monkeypatch):
    folder = checkout / "chapters" / "assignments"
    folder.mkdir()
    (checkout / "course_lib" / "spectral.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf8")
    (folder / "01_small.py").write_text(ASSIGNMENT.format(number=2), encoding="utf8")
    executed = []
    monkeypatch.setattr(run, "execute", lambda path, **more: executed.append(path) or run.Execution({}, 1.0, 1.0))
    assert course_run("chapters/assignments/01_small.py") == 0
    assert "assignment 01_small: 1.0 s" in capsys.readouterr().out
    assert executed == [folder / "01_small.ipynb"] and not (checkout / "data").exists()
    assert [cell.get("outputs", []) for cell in nbformat.read(executed[0], as_version=4).cells] == [[], []]
    with pytest.raises(ValueError, match="stores no outputs to compare with"):
        course_run("assignments/1", "--check")


@pytest.mark.parametrize("word", ["1", "01", "01_small", "chapters/01_small.ipynb"])
def test_chapters_by_number_and_name(checkout, word):
    assert sync.find_notebooks(checkout, [word, word]) == [checkout / "chapters" / "01_small.py"]


@pytest.mark.parametrize("word", ["2", "10", "small", ""])
def test_unknown_chapter(checkout, word):
    with pytest.raises(ValueError, match="01_small"):
        course_run(word)


def test_no_chapter_named(checkout):
    with pytest.raises(ValueError, match="--all"):
        course_run()


def test_error_shown_on_purpose_is_stored_without_paths():
    cell = nbformat.v4.new_code_cell(
        "1 / 0",
        metadata={"execution": {"iopub.status.idle": "2026-01-01"}, "tags": ["raises-exception"]},
        outputs=[
            nbformat.v4.new_output(
                "error", ename="ZeroDivisionError", evalue="division by zero", traceback=["File /home/ada/x.py"]
            )
        ],
    )
    notebook = run.tidy(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}))
    assert notebook.cells[0].outputs[0].traceback == ["ZeroDivisionError: division by zero"]
    assert notebook.cells[0].metadata == {"tags": ["raises-exception"]} and "widgets" not in notebook.metadata


def test_storing_is_all_or_nothing(checkout, monkeypatch):
    path = checkout / "chapters" / "01_small.ipynb"
    path.write_text("as it was", encoding="utf8")
    monkeypatch.setattr(nbformat, "write", lambda notebook, file: (file.write("half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        run.store({}, path)
    assert path.read_text(encoding="utf8") == "as it was" and len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("best, count", [("AVX512", 4), ("DEFAULT", 2)])
def test_variants_are_threads_times_vector_code(monkeypatch, best, count):
    capability = SimpleNamespace(get_cpu_capability=lambda: best)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(backends=SimpleNamespace(cpu=capability)))
    found = {(one["OMP_NUM_THREADS"], one["ATEN_CPU_CAPABILITY"]) for one in run.variants().values()}
    assert len(found) == count
    assert found == {(threads, code) for threads in ("1", "2") for code in ("default", best.lower())}


def test_kernel_environment(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("LIBROSA_DATA_DIR", "recordings")
    environment = run.kernel_environment("gpu", {"COURSE_THREADS": "1"})
    assert "MPLBACKEND" not in environment and environment["LIBROSA_DATA_DIR"] == "recordings"
    assert (environment["COURSE_PROFILE"], environment["COURSE_EXECUTING"], environment["COURSE_THREADS"]) == (
        "gpu",
        "1",
        "1",
    )
