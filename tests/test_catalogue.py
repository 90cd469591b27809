"""The list of chapters: numbers and names find their chapter, and the plan is one of DESIGN's kind."""

import re

import pytest

from course_lib import catalogue

NAMES = ("01_stft_and_masks", "08_ht_demucs", "08b_sparse_attention", "10_vq_vae")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("01", NAMES[0]),
        ("1", NAMES[0]),
        ("8", NAMES[1]),
        ("08b", NAMES[2]),
        ("8b", NAMES[2]),
        ("8B", NAMES[2]),
        ("10", NAMES[3]),
        ("10_vq_vae", NAMES[3]),
        ("chapters/10_vq_vae.ipynb", NAMES[3]),
        ("10_vq_vae.py", NAMES[3]),
        ("../01", NAMES[0]),
    ],
)
def test_chapters_are_found_by_number_and_name(word, name):
    assert catalogue.match(word, NAMES) == name


@pytest.mark.parametrize("word", ["44", "0", "stft", "", "1_", "08c", "-1"])
def test_a_missing_chapter_is_named_with_those_there(word):
    with pytest.raises(ValueError, match=f"'{word}' names 0 chapters; there: 01_stft_and_masks, 08_ht"):
        catalogue.match(word, NAMES)


def test_two_chapters_of_one_number():
    with pytest.raises(ValueError, match="names 2 assignments; there: 01_a, 01_b"):
        catalogue.match("1", ["01_b", "01_a", "02_c"], "assignments")


def test_the_plan():
    names, modules = zip(*[(chapter.name, chapter.module) for chapter in catalogue.CHAPTERS])
    assert list(names) == sorted(names) and len(set(names)) == len(set(modules)) == len(names)
    assert all(re.fullmatch(r"\d\d[a-z]?_[a-z_]+", name) for name in names)
    assert all(chapter.title and chapter.builds for chapter in catalogue.CHAPTERS)
    assert catalogue.chapter_named("08b_sparse_attention").number == "08b"
    with pytest.raises(ValueError, match="not a chapter of the course's plan"):
        catalogue.chapter_named("99_nothing")


def test_written_chapters_are_in_the_plan():
    root = catalogue.checkout()
    there = {path.stem for folder in ("chapters", "chapters/assignments") for path in catalogue.written(root, folder)}
    assert there <= {chapter.name for chapter in catalogue.CHAPTERS} and "01_stft_and_masks" in there


@pytest.mark.parametrize("line, numbers", [
    ("chapter 1", ["01"]), ("Python. No audio.", []), ("chapters 1 to 3: STFT. The rule.", ["01", "02", "03"]),
    ("chapter 6 (U-Net) and chapters 1 and 4 (STFT)", ["01", "04", "06"]), ("chapters 10, 11 and 8b; loops", [
        "08b", "10", "11"]), ("SDR (chapter 3), masks.\n# and a tagger (chapter 13).", ["03", "13"]),
    ("chapter 10. Chapter 11 builds on this one, chapter 12 writes.", ["10"])])
def test_needs_are_read_from_a_chapters_own_words(line, numbers):
    assert catalogue.needs_of(f"# text\n#\n# **You need** {line}\n#\n# **Time** chapter 99\n#\n") == numbers


def test_direct_needs():
    needs = {"01": [], "02": ["01"], "03": ["01", "02"], "08b": ["03"], "10": ["01", "08b", "02"]}
    assert catalogue.direct_needs(needs) == {"01": [], "02": ["01"], "03": ["02"], "08b": ["03"], "10": ["08b"]}
    with pytest.raises(ValueError, match="chapter 02 needs 03, which doesn't come before it"):
        catalogue.direct_needs({"01": [], "02": ["01", "03"], "03": []})


def test_every_chapter_says_what_it_needs():
    root = catalogue.checkout()
    for path in catalogue.written(root):
        text = path.with_suffix(".py").read_text(encoding="utf8")
        assert "**You need**" in text and (catalogue.needs_of(text) or path.stem.startswith("01")), path.name
