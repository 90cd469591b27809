"""`course run`: what it executes, what it stores, and what it leaves alone."""

import argparse
import csv
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from course_lib.notebook import run

ROOT = Path(__file__).resolve().parents[1]
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
    monkeypatch.setenv("COURSE_DATA_DIR", str(root / "data"))
    monkeypatch.setattr(run, "repository_root", lambda: root)
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

    ids = [cell.id for cell in stored.cells]
    notebook_path.write_text(notebook_path.read_text(encoding="utf8").replace('"6"', '"7"'), encoding="utf8")
    altered = notebook_path.read_bytes()
    assert course_run("01", "--check") == 1
    assert "stored '7', new '6'" in capsys.readouterr().out and notebook_path.read_bytes() == altered

    write_text(checkout, "raise RuntimeError('too loud')")
    assert course_run("01_small") == 1
    said = capsys.readouterr().err
    assert "01_small: code cell 4" in said and "RuntimeError: too loud" in said
    after = nbformat.read(notebook_path, as_version=4)
    assert [cell.id for cell in after.cells] == ids and after.cells[3].outputs == stored.cells[3].outputs
    assert not list((checkout / "chapters").glob(".01_small*"))


@pytest.mark.parametrize("word", ["1", "01", "01_small", "chapters/01_small.ipynb"])
def test_chapters_by_number_and_name(checkout, word):
    assert run.find_chapters(checkout / "chapters", [word, word]) == [checkout / "chapters" / "01_small.py"]


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


def test_minutes_of_one_chapter_replace_only_its_own(tmp_path):
    table = tmp_path / "minutes.csv"
    for chapter, profile, seconds in (
        ("02_b", "cpu", 90),
        ("01_a", "cpu", 30),
        ("01_a", "gpu", 12),
        ("02_b", "cpu", 60),
    ):
        run.record_minutes(chapter, profile, run.Execution({}, seconds, seconds), table)
    rows = [(row["chapter"], row["profile"], row["minutes"]) for row in csv.DictReader(table.open(encoding="utf8"))]
    assert rows == [("01_a", "cpu", "0.5"), ("01_a", "gpu", "0.2"), ("02_b", "cpu", "1.0")]


def test_minutes_in_words(tmp_path):
    table = tmp_path / "minutes.csv"
    assert run.minutes_text("01_a", table) == "CPU not measured, GPU not measured"
    table.write_text("chapter,profile,seconds,threads\n01_a,cpu,61,1\n01_a,gpu,12,2\n02_b,cpu,60,2\n", encoding="utf8")
    assert run.minutes_text("01_a", table) == "1.5 minutes on 1 CPU core, 0.5 minutes on a GPU"
    assert run.minutes_text("02_b", table) == "1 minute on 2 CPU cores, GPU not measured"


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
