"""The library's modules are what `nbdev-export` writes from the chapters, and the check of that sees every drift."""

from pathlib import Path

from nbformat.v4 import new_code_cell

from tests.notebooks.chapter_checks import export_drift, read
from tests.notebooks.flawless_chapter import write_pair

ROOT = Path(__file__).resolve().parents[2]


def test_library_is_what_the_chapters_export(tmp_path):
    findings = export_drift(ROOT, tmp_path)
    assert not findings, "\n".join(findings)


def test_exported_module_works(small_course, tmp_path):
    assert export_drift(small_course, tmp_path / "scratch") == []
    names = {}
    exec((small_course / "course_lib" / "spectral.py").read_text(encoding="utf8"), names)
    assert names["__all__"] == ["hop_seconds"] and names["hop_seconds"](441, 44100) == 0.01


def test_edited_module_is_found(small_course, tmp_path):
    module = small_course / "course_lib" / "spectral.py"
    module.write_text(
        module.read_text(encoding="utf8").replace("hop_length / rate", "hop_length * rate"), encoding="utf8"
    )
    assert any("spectral.py: differs" in line for line in export_drift(small_course, tmp_path / "scratch"))


def test_edited_chapter_is_found(chapter, small_course, tmp_path):
    notebook = read(chapter)
    notebook.cells.append(new_code_cell("#| export\nSECONDS = 1"))
    write_pair(notebook, chapter)
    assert any("spectral.py: differs" in line for line in export_drift(small_course, tmp_path / "scratch"))


def test_missing_module_is_found(small_course, tmp_path):
    (small_course / "course_lib" / "spectral.py").unlink()
    assert any("spectral.py: a chapter exports it" in line for line in export_drift(small_course, tmp_path / "scratch"))


def test_module_without_chapter_is_found(small_course, tmp_path):
    orphan = small_course / "course_lib" / "losses.py"
    orphan.write_text((small_course / "course_lib" / "spectral.py").read_text(encoding="utf8"), encoding="utf8")
    assert any("losses.py: says it is exported" in line for line in export_drift(small_course, tmp_path / "scratch"))


def test_assignments_are_not_exported(chapter, small_course, tmp_path):
    folder = chapter.parent / "assignments"
    folder.mkdir()
    notebook = read(chapter)
    notebook.cells.append(new_code_cell("#| export\nANSWER = 42"))
    write_pair(notebook, folder / chapter.name)
    assert export_drift(small_course, tmp_path / "scratch") == []


def test_export_leaves_hand_written_modules_alone(small_course, tmp_path):
    by_hand = small_course / "course_lib" / "data"
    by_hand.mkdir()
    (by_hand / "__init__.py").write_text('"""Tracks.\n\nMore.\n\nAnd more.\n"""\n', encoding="utf8")
    (small_course / "course_lib" / "paths.py").write_text('"""Paths.\n\nMore.\n\nAnd more.\n"""\n', encoding="utf8")
    before = (small_course / "pyproject.toml").read_bytes()
    assert export_drift(small_course, tmp_path / "scratch") == []
    assert (tmp_path / "scratch" / "pyproject.toml").read_bytes() == before
