"""The stored chapters are in order, and each check of that complains about a chapter that is not."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.notebooks.chapter_checks import CHECKS, notebooks, read, tracked_files
from tests.notebooks.flawless_chapter import write_pair

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_chapters():
    assert notebooks(ROOT), "chapters/ holds no notebook"


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_stored_chapters(check):
    findings = check(ROOT)
    assert not findings, "\n".join(findings)


def test_tracked_files():
    findings = tracked_files(ROOT)
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_flawless_chapter_passes(check, small_course):
    assert check(small_course) == []


def code_cell(notebook, number):
    """The `number`-th code cell, from 1."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"][number - 1]


def drift(notebook):
    code_cell(notebook, 4).source += "\nprint('not in the text')"


def foreign_module(notebook):
    code_cell(notebook, 1).source = "#| default_exp losses"


def two_modules(notebook):
    notebook.cells += [new_markdown_cell("More."), new_code_cell("#| default_exp metrics", execution_count=7)]


def error(notebook):
    code_cell(notebook, 4).outputs = [new_output("error", ename="ValueError", evalue="rate is 0", traceback=[])]


def gap(notebook):
    code_cell(notebook, 4).execution_count = 9


def not_run(notebook):
    code_cell(notebook, 6).execution_count = None


def no_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def no_player(notebook):
    code_cell(notebook, 6).outputs = []


def output_says(text, name="stdout"):
    def say(notebook):
        code_cell(notebook, 4).outputs = [new_output("stream", name=name, text=text)]

    return say


def undescribed_figure(notebook):
    code_cell(notebook, 5).outputs[0].metadata = {}


def timestamps(notebook):
    code_cell(notebook, 4).metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}


def widget_state(notebook):
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}


def code_says(line):
    def say(notebook):
        code_cell(notebook, 4).source = line

    return say


def too_large(notebook):
    code_cell(notebook, 4).outputs = [new_output("stream", name="stdout", text="x" * 1_600_000)]


def long_cell(notebook):
    code_cell(notebook, 4).source = "x = 1\n" * 61


def many_longish_cells(notebook):
    for number in range(2, 7):
        code_cell(notebook, number).source = "x = 1\n" * 12


def little_prose(notebook):
    notebook.cells = [cell for cell in notebook.cells if cell.id not in ("text-4", "text-5")]


def ignored_by_tag(notebook):
    code_cell(notebook, 4).metadata["tags"] = ["nbval-ignore-output"]


def ignored_by_comment(notebook):
    code_cell(notebook, 4).source = "# NBVAL_IGNORE_OUTPUT\nprint(1)"


def other_address(notebook):
    code_cell(notebook, 2).source = code_cell(notebook, 2).source.replace("OWNER/NAME", "ada/course")


def badge_of_another_chapter(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace(
        "01_stft_and_masks.ipynb", "02_classic_separation.ipynb"
    )


def no_badge(notebook):
    notebook.cells[0].source = "# 1. Frames"


def other_minutes(notebook):
    notebook.cells[0].source = notebook.cells[0].source.replace("1.5 minutes", "1 minute")


BROKEN = [
    ("export_targets", foreign_module, "losses"),
    ("export_targets", two_modules, "metrics"),
    ("stored_errors", error, "rate is 0"),
    ("execution_counts", gap, "execution count 9"),
    ("execution_counts", not_run, "execution count None"),
    ("outputs_present", no_outputs, "no output"),
    ("outputs_present", no_player, "no player"),
    ("clean_outputs", output_says("saved /home/ada/course/x.wav"), "/home/ada"),
    ("clean_outputs", output_says(r"saved C:\Users\ada\x.wav"), "path of this machine"),
    ("clean_outputs", output_says("rendering:  50%|#####     | 5/10 [00:01<00:01,  5.00it/s]"), "progress bar"),
    ("clean_outputs", output_says("UserWarning: too quiet", name="stderr"), "stderr"),
    ("clean_outputs", undescribed_figure, "alternative text"),
    ("volatile_metadata", timestamps, "execution"),
    ("volatile_metadata", widget_state, "widgets"),
    ("source_paths", code_says("load('/home/ada/song.wav')"), "/home/ada"),
    ("source_paths", code_says("%pip install --index-url https://example.org x"), "--index-url"),
    ("source_paths", code_says("%pip install https://pypi-mirror.example.org/x.whl"), "pypi-mirror"),
    ("sizes", too_large, "1.6 MB"),
    ("cell_lengths", long_cell, "61 lines"),
    ("cell_lengths", many_longish_cells, "median"),
    ("prose_before_code", little_prose, "67%"),
    ("ignored_outputs", ignored_by_tag, "1 of 6"),
    ("ignored_outputs", ignored_by_comment, "1 of 6"),
    ("addresses", other_address, "ada/course"),
    ("addresses", badge_of_another_chapter, "no badge opens this chapter"),
    ("addresses", no_badge, "no badge"),
    ("minutes", other_minutes, "1.5 minutes"),
]


@pytest.mark.parametrize("check, damage, complaint", BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_broken_chapter_is_found(check, damage, complaint, chapter):
    notebook = read(chapter)
    damage(notebook)
    write_pair(notebook, chapter)
    findings = CHECKS[check](chapter.parent.parent)
    assert any(complaint in finding for finding in findings), findings


def test_announced_error_passes(chapter):
    notebook = read(chapter)
    error(notebook)
    code_cell(notebook, 4).metadata["tags"] = ["raises-exception"]
    write_pair(notebook, chapter)
    assert CHECKS["stored_errors"](chapter.parent.parent) == []


def test_pair_drift_is_found(chapter):
    notebook = read(chapter)
    drift(notebook)
    nbformat.write(notebook, chapter)
    assert any("not in the text" in finding for finding in CHECKS["pair_drift"](chapter.parent.parent))


@pytest.mark.parametrize("suffix", [".ipynb", ".py"])
def test_missing_half_of_a_pair_is_found(chapter, suffix):
    chapter.with_suffix(suffix).unlink()
    assert any("missing" in finding for finding in CHECKS["pair_drift"](chapter.parent.parent))


def test_drift_of_an_assignment_is_found(chapter):
    folder = chapter.parent / "assignments"
    folder.mkdir()
    write_pair(read(chapter), folder / chapter.name)
    assert CHECKS["pair_drift"](chapter.parent.parent) == []
    text = folder / chapter.with_suffix(".py").name
    text.write_text(text.read_text(encoding="utf8").replace("441, 44100", "480, 48000"), encoding="utf8")
    assert any("480" in finding for finding in CHECKS["pair_drift"](chapter.parent.parent))


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("uv.lock", "", "lock file"),
        ("requirements.txt", "--index-url https://example.org/simple\n", "--index-url"),
        ("card.json", '{"command": "/home/ada/train.sh"}', "/home/ada"),
        ("large.bin", "x" * 10_100_000, "10.1 MB"),
    ],
    ids=["lock file", "package index", "machine path", "large file"],
)
def test_file_that_should_not_be_tracked_is_found(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text, encoding="utf8")
    for command in (["init", "-q"], ["add", name]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert any(complaint in finding for finding in tracked_files(tmp_path))
