"""The parts of a small repository with one flawless chapter."""

from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.authoring.publish import PLACEHOLDER
from course_lib.authoring.run import NOTEBOOK_METADATA

CHAPTER = "01_stft_and_masks"
SETUP = f"""\
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    %pip install -q "{PLACEHOLDER.install_source}\""""
HEADER = f"""\
# 1. Frames

{PLACEHOLDER.badge(f"chapters/{CHAPTER}.ipynb")}

**Time** <!-- minutes {CHAPTER} -->1.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->"""
MINUTES = (
    f"chapter,profile,minutes,seconds,cpu_seconds,threads,cpu,date\n{CHAPTER},cpu,1.1,66,90,2,AMD EPYC,2026-11-20\n"
)
FUNCTION = '''\
#| export
def hop_seconds(hop_length: int, rate: int) -> float:
    """The time between two frames in seconds."""
    return hop_length / rate'''
PYPROJECT = f"""\
[project]
name = "small-course"
version = "0.1.0"
description = "One chapter"

[project.urls]
Repository = "{PLACEHOLDER.repository}"
Chapters = "{PLACEHOLDER.chapters}"

[tool.nbdev]
nbs_path = "chapters"
lib_path = "course_lib"
recursive = false
put_version_in_init = false
update_pyproject = false
"""
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def flawless_notebook():
    """A chapter that passes every check, executed and stored as `course run` would store it."""
    figure = new_output(
        "display_data", {"image/png": PNG, "text/plain": "figure: a dot"}, metadata={"image/png": {"alt": "a dot"}}
    )
    player = new_output(
        "display_data",
        {"text/html": '<audio controls src="data:audio/mpeg;base64,AAAA"></audio>', "text/plain": "player: a tone"},
    )
    code = [
        ("#| default_exp spectral", []),
        (SETUP, []),
        (FUNCTION, []),
        ("print(hop_seconds(441, 44100))", [new_output("stream", name="stdout", text="0.01\n")]),
        ("show_dot()", [figure]),
        ("listen_to_tone()", [player]),
    ]
    cells = []
    for count, (source, outputs) in enumerate(code, start=1):
        text = HEADER if count == 1 else f"Step {count}."
        cells += [
            new_markdown_cell(text, id=f"text-{count}"),
            new_code_cell(source, outputs=outputs, execution_count=count, id=f"code-{count}"),
        ]
    notebook = new_notebook(cells=cells)
    notebook.metadata.update(NOTEBOOK_METADATA)
    return notebook


def write_pair(notebook, path: Path) -> None:
    """Write a notebook and its text."""
    nbformat.write(notebook, path)
    path.with_suffix(".py").write_text(jupytext.writes(notebook, "py:percent"), encoding="utf8")
