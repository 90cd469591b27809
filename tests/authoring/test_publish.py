"""`course publish`: what it accepts, what it rewrites, what it leaves alone."""

import argparse
import json
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.authoring import publish
from course_lib.authoring.publish import PLACEHOLDER, Address, current_address, parse_address

ROOT = Path(__file__).resolve().parents[2]
NEW = Address("ada-l", "songs.apart", "v1.0")
TEXT = f"""\
# %% [markdown]
# # 1. Frames
#
# {PLACEHOLDER.badge("chapters/01_frames.ipynb")}

# %%
# %pip install -q "{PLACEHOLDER.install_source}"
"""
README = f"""\
# The course

<!-- unpublished -->
The badges hold the placeholder OWNER/NAME until `course publish`.
<!-- /unpublished -->

Clone {PLACEHOLDER.repository}.git or read {PLACEHOLDER.repository}/issues.
{PLACEHOLDER.badge("chapters/01_frames.ipynb")}
Not ours: https://github.com/OWNER/NAME-of-another, https://github.com/jupyter/notebook.
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what names the address, with one small chapter and one assignment."""
    for folder in ("chapters", "chapters/assignments"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "01_frames.py").write_text(TEXT, encoding="utf8")
        output = new_output("stream", name="stdout", text=f"installed from {PLACEHOLDER.install_source}\n")
        cells = [
            new_markdown_cell(f"# 1. Frames\n\n{PLACEHOLDER.badge('chapters/01_frames.ipynb')}", id="a"),
            new_code_cell(
                f'%pip install -q "{PLACEHOLDER.install_source}"', outputs=[output], execution_count=1, id="b"
            ),
        ]
        nbformat.write(new_notebook(cells=cells), tmp_path / folder / "01_frames.ipynb")
    (tmp_path / "README.md").write_text(README, encoding="utf8")
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    publish.publish(tmp_path, PLACEHOLDER)  # wherever the course itself is published by now
    return tmp_path


def texts(root):
    return {path.relative_to(root): path.read_text(encoding="utf8") for path in root.rglob("*") if path.is_file()}


def test_every_place_leads_to_the_new_address(checkout):
    changed = publish.publish(checkout, NEW)
    assert current_address(checkout) == NEW
    assert {path.relative_to(checkout).as_posix() for path in changed} == {
        "README.md",
        "CITATION.cff",
        "pyproject.toml",
        "chapters/01_frames.ipynb",
        "chapters/01_frames.py",
        "chapters/assignments/01_frames.ipynb",
        "chapters/assignments/01_frames.py",
    }
    for path in (checkout / "chapters").rglob("01_frames.*"):
        text = path.read_text(encoding="utf8")
        assert NEW.install_source in text and NEW.colab_link("chapters/01_frames.ipynb") in text
    readme = (checkout / "README.md").read_text(encoding="utf8")
    assert f"{NEW.repository}.git" in readme and f"{NEW.repository}/issues" in readme and "unpublished" not in readme
    assert "https://github.com/OWNER/NAME-of-another" in readme and "https://github.com/jupyter/notebook" in readme
    assert f'repository-code: "{NEW.repository}"' in (checkout / "CITATION.cff").read_text(encoding="utf8")


def test_only_the_links_of_a_notebook_change(checkout):
    path = checkout / "chapters" / "01_frames.ipynb"
    before = json.loads(path.read_text(encoding="utf8"))
    publish.publish(checkout, NEW)
    after = json.loads(path.read_text(encoding="utf8"))
    assert after["cells"][1]["outputs"] == before["cells"][1]["outputs"]
    old_lines, new_lines = (json.dumps(notebook["cells"], indent=1).splitlines() for notebook in (before, after))
    assert len(old_lines) == len(new_lines)
    assert sum(a != b for a, b in zip(old_lines, new_lines)) == 2


def test_only_the_links_of_pyproject_change(checkout):
    before = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf8"))
    publish.publish(checkout, NEW)
    after = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf8"))
    assert after["project"].pop("urls") == {"Repository": NEW.repository, "Chapters": NEW.chapters}
    before["project"].pop("urls")
    assert after == before


def test_again_changes_nothing(checkout):
    publish.publish(checkout, NEW)
    once = texts(checkout)
    assert publish.publish(checkout, NEW) == [] and texts(checkout) == once


def test_there_and_back(checkout):
    (checkout / "README.md").write_text("Clone https://github.com/OWNER/NAME.\n", encoding="utf8")
    before = texts(checkout)
    publish.publish(checkout, NEW)
    publish.publish(checkout, Address("someone", "else"))
    publish.publish(checkout, PLACEHOLDER)
    assert texts(checkout) == before


def test_dry_run_says_and_writes_nothing(checkout, monkeypatch, capsys):
    before = texts(checkout)
    monkeypatch.setattr(publish, "repository_root", lambda: checkout)
    parser = argparse.ArgumentParser()
    publish.configure(parser)
    assert publish.main(parser.parse_args([str(NEW), "--dry-run"])) == 0
    assert "would change chapters/01_frames.ipynb" in capsys.readouterr().out and texts(checkout) == before


@pytest.mark.parametrize(
    "text, address",
    [
        ("ada/course", Address("ada", "course", "main")),
        ("ada/course@v1.0", Address("ada", "course", "v1.0")),
        ("A-1/x_y.z@2026-11", Address("A-1", "x_y.z", "2026-11")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "ada/",
        "/course",
        "ada/course@",
        "ada/course/extra",
        "-ada/course",
        "ada-/course",
        "ada/course.git",
        "ada/..",
        "ada/my course",
        "ada/course@feature/x",
        "https://github.com/ada/course",
        "a" * 40 + "/course",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="expected OWNER/NAME"):
        parse_address(text)


def test_pyproject_without_an_address(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf8")
    with pytest.raises(ValueError, match="project.urls"):
        current_address(tmp_path)
