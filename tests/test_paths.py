"""The folders that the environment names: one place, whatever the working folder."""

from pathlib import Path

import pytest

from course_lib import paths
from course_lib.paths import data_dir, folder_from_environment, repository_root, shown


def test_a_relative_folder_is_one_folder_for_the_command_and_the_chapters(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    for working in (root, root / "chapters"):
        working.mkdir()
    monkeypatch.setenv("COURSE_DATA_DIR", "songs")
    for checkout, expected in ((root, root / "songs"), (None, tmp_path / "songs")):
        monkeypatch.setattr(paths, "repository_root", lambda checkout=checkout: checkout)
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        for working in (root, root / "chapters"):
            monkeypatch.chdir(working)
            assert data_dir() == expected and expected.is_dir()


def test_whole_paths_and_the_home_folder_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for chosen, expected in ((str(tmp_path / "a"), tmp_path / "a"), ("~/b", tmp_path / "b"), ("", None), ("  ", None)):
        monkeypatch.setenv("COURSE_WEIGHTS_DIR", chosen)
        assert folder_from_environment("COURSE_WEIGHTS_DIR") == expected
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", "~nobody-of-that-name/x")
    with pytest.raises(ValueError, match="COURSE_WEIGHTS_DIR is '~nobody-of-that-name/x'.*give the path in full"):
        folder_from_environment("COURSE_WEIGHTS_DIR")


def test_without_a_word_the_folder_is_the_checkouts(monkeypatch):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    assert data_dir() == repository_root() / "data"


def test_a_file_where_the_folder_should_be_is_named(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    for place in (tmp_path / "taken", tmp_path / "taken" / "below"):
        monkeypatch.setenv("COURSE_DATA_DIR", str(place))
        with pytest.raises(ValueError, match="COURSE_DATA_DIR is .*taken.*, which can't be made a folder"):
            data_dir()


def test_a_path_can_always_be_printed():
    assert shown(Path("songs") / "Gr\u00fc\u00dfe \u266b.wav").endswith("Gr\u00fc\u00dfe \u266b.wav")
    assert shown("a\nb\x1b[31m\udce9\ud83d") == r"a\nb\x1b[31m\udce9\ud83d"
