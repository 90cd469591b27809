"""The tables of README.md that are made from elsewhere: the chapters from the catalogue, other people's weights from
what the course knows of them.

A table stands between two marks, `<!-- NAME -->` and `<!-- /NAME -->`. `course sync` and `course run` write them; a
test compares.
"""

import re
from pathlib import Path

from course_lib import catalogue
from course_lib.authoring.minutes import minutes_text
from course_lib.authoring.publish import current_address


def chapters_table(root: Path) -> str:
    """The chapters that are there: what one builds, minutes, badge."""
    table, address = root / "data" / "results" / "minutes.csv", current_address(root)
    lines = ["| chapter | what you build | minutes on two CPU cores | Colab |", "|---|---|---|---|"]
    for path in catalogue.written(root):
        chapter = catalogue.chapter_named(path.stem)
        file = f"chapters/{chapter.name}.ipynb"
        minutes = f"<!-- minutes {chapter.name} -->{minutes_text(chapter.name, table)}<!-- /minutes -->"
        lines.append(
            f"| [{chapter.number} {chapter.title}]({file}) | {chapter.builds} | {minutes} | {address.badge(file)} |"
        )
    return "\n".join(lines)


def weights_table(root: Path) -> str:
    """Other people's weights that the course loads: what they may be used for, what they learned from, how good."""
    from course_lib.training.official_packages import weight_licences  # imports torch, which takes seconds

    lines = ["| weights | licence | trained on | SDR on MUSDB18, dB |", "|---|---|---|---|"]
    for row in weight_licences():
        lines.append(f"| {row['weights']} | {row['licence']} | {row['trained_on']} | {row['musdb_sdr_db'] or '–'} |")
    return "\n".join(lines)


TABLES = {"chapters": chapters_table, "weights": weights_table}


def with_tables(text: str, root: Path) -> str:
    """README.md's text with every table as it should be. ValueError where the marks of one are not there once."""
    for name, table in TABLES.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if len(marked.findall(text)) != 1:
            raise ValueError(f"README.md needs one pair of marks <!-- {name} --> and <!-- /{name} -->, a line each")
        made = table(root)
        text = marked.sub(lambda match: f"{match[1]}{made}{match[2]}", text)      # noqa: B023
    return text


def write_readme(root: Path) -> None:
    """Bring the tables of the checkout's README.md up to date, where it has them."""
    path = root / "README.md"
    if not path.exists() or not all(f"<!-- {name} -->" in path.read_text(encoding="utf8") for name in TABLES):
        return
    old = path.read_text(encoding="utf8")
    if (new := with_tables(old, root)) != old:
        path.write_text(new, encoding="utf8", newline="\n")
