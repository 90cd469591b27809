"""What the tests of the assignments' rubrics read: the experiment cell of the open task, and the rubric's table."""

import re
from pathlib import Path

ASSIGNMENTS = Path(__file__).resolve().parents[2] / "chapters" / "assignments"


def experiment(assignment: str, **given) -> dict:
    """The functions of an assignment's experiment cell, which is executed with the names that it is given."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", _source(assignment), re.MULTILINE | re.DOTALL)[0]
    exec(compile(cell, "the experiment cell", "exec"), given)
    return given


def table_in_rubric(assignment: str) -> tuple[list[str], dict[str, list[float]]]:
    """The columns' names and, by the first cell of each row, the numbers of the table in the rubric."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", _source(assignment), re.DOTALL)[0]
    lines = re.findall(r"^# \|(.*)\|$", rubric, re.MULTILINE)
    header, _rule, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return header[1:], {name: [float(cell) for cell in cells] for name, *cells in rows}


def _source(assignment: str) -> str:
    return (ASSIGNMENTS / f"{assignment}.py").read_text(encoding="utf8")
