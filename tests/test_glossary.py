"""chapters/glossary.md: in order, no doubles, with a Korean word, and each term in the chapter that it points to."""

import re
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"
ROWS = [[cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (CHAPTERS / "glossary.md").read_text(encoding="utf8").splitlines() if line.startswith("| ")][1:]


def test_rows_are_whole_in_order_and_without_doubles():
    assert len(ROWS) >= 100 and all(len(row) == 4 and all(row) for row in ROWS)
    terms = [row[0].lower() for row in ROWS]
    assert terms == sorted(terms) and len(set(terms)) == len(terms)
    assert [row[0] for row in ROWS if not re.search("[가-힣]", row[1])] == []


def test_each_term_is_in_the_chapter_it_points_to():
    for term, _, _, link in ROWS:
        number, name = re.fullmatch(r"\[(\d\d[a-z]?)\]\((.+)\.ipynb\)", link).groups()
        assert name.startswith(f"{number}_")
        text = re.sub(r"\s*\n# *", " ", (CHAPTERS / f"{name}.py").read_text(encoding="utf8")).lower()
        assert term.partition(" (")[0].lower() in text, f"{term}: not in {name}"


def test_every_part_of_the_course_has_terms():
    numbers = {re.match(r"\[(\d\d[a-z]?)", row[3])[1] for row in ROWS}
    there = {path.stem.partition("_")[0] for path in CHAPTERS.glob("[0-9]*.ipynb")}
    assert there <= numbers, f"no term of chapter {sorted(there - numbers)}"
