"""The table of minutes, and what headers say of it."""

import csv

from course_lib.authoring import minutes


def test_minutes_of_one_chapter_replace_only_its_own(tmp_path):
    table = tmp_path / "minutes.csv"
    for chapter, profile, seconds in (
        ("02_b", "cpu", 90),
        ("01_a", "cpu", 30),
        ("01_a", "gpu", 12),
        ("02_b", "cpu", 60),
    ):
        minutes.record_minutes(chapter, profile, seconds, seconds, table)
    rows = [(row["chapter"], row["profile"], row["minutes"]) for row in csv.DictReader(table.open(encoding="utf8"))]
    assert rows == [("01_a", "cpu", "0.5"), ("01_a", "gpu", "0.2"), ("02_b", "cpu", "1.0")]


def test_minutes_in_words(tmp_path):
    table = tmp_path / "minutes.csv"
    assert minutes.minutes_text("01_a", table) == "CPU not measured, GPU not measured"
    table.write_text("chapter,profile,seconds,threads\n01_a,cpu,61,1\n01_a,gpu,12,2\n02_b,cpu,60,2\n", encoding="utf8")
    assert minutes.minutes_text("01_a", table) == "1.5 minutes on 1 CPU core, 0.5 minutes on a GPU"
    assert minutes.minutes_text("02_b", table) == "1 minute on 2 CPU cores, GPU not measured"
