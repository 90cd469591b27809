"""`course assignments`: the table of assignments in chapters/assignments/README.md, written from the notebooks."""

import argparse
import re
from pathlib import Path

from course_lib.classroom.release import find_assignments, load_release

NUMBERS = ("no one two three four five six seven eight nine ten eleven twelve").split()
TABLE = re.compile(r"(?P<begin><!-- BEGIN TABLE: .*? -->\n).*?(?P<end><!-- END TABLE -->)", re.DOTALL)


def table_text(folder: Path) -> str:
    """The table in Markdown: a row an assignment, with its number of tasks, its points and the tasks' titles."""
    lines = ["| assignment | tasks | points | asks for |", "|---|---|---|---|"]
    for path in find_assignments(folder):
        tasks = load_release(path).tasks
        titles = "; ".join(task.title.rstrip("?.") for task in tasks)
        lines.append(
            f"| [{path.stem.split('_')[0]}]({path.name}) | {len(tasks)} | {sum(task.points for task in tasks)} | "
            f"{titles} |"
        )
    return "\n".join(lines) + "\n"


def with_table(readme: str, folder: Path) -> str:
    """The text with the table between its marks written anew. ValueError where the marks are not there once."""
    text, count = TABLE.subn(lambda match: match["begin"] + table_text(folder) + match["end"], readme)
    if count != 1:
        raise ValueError(
            f"README.md of {folder.name}/: the marks BEGIN TABLE and END TABLE are there {count} times; expected once"
        )
    return text


def configure(parser: argparse.ArgumentParser) -> None:
    """`course assignments` has no options."""


def main(_arguments: argparse.Namespace) -> int:
    """Run `course assignments`."""
    folder = find_assignments()[0].parent
    readme = folder / "README.md"
    before = readme.read_text(encoding="utf8")
    after = with_table(before, folder)
    readme.write_text(after, encoding="utf8")
    print(
        f"{readme.name} of {folder.name}/: {'as it was' if after == before else 'written'}\n\n{table_text(folder)}",
        end="",
    )
    return 0
