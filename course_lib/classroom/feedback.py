"""What a class's results look like on paper: scores for a spreadsheet, feedback per student, a report for the teacher."""

import csv
import json
import re
from pathlib import Path

from course_lib.classroom.execute import Result
from course_lib.classroom.release import Release

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell


def write_scores(folder: Path, release: Release, results: dict[str, Result]) -> None:
    """scores.csv and scores.json: points a task, empty (null) where a person has to mark."""
    tasks = release.tasks
    by_hand = [cell for cell in tasks if cell.role == "written"]
    header = ["student", "points", "of", *[f"task {cell.task} (of {cell.points})" for cell in tasks], "by hand (of)",
              "look at"]
    with (folder / "scores.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for student, result in results.items():
            points = ["" if task.points is None else task.points for task in result.tasks]
            writer.writerow([plain_text(student), result.points, result.maximum, *points,
                             sum(cell.points for cell in by_hand), "yes" if result.tampering else ""])
    table = {student: {"points": result.points, "of": result.maximum, **result.as_json()}
             for student, result in results.items()}
    text = json.dumps({"assignment": release.name, "students": table}, ensure_ascii=False, indent=1)
    (folder / "scores.json").write_text(text + "\n", encoding="utf8")


def plain_text(value: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return "'" + value if value.startswith(FORMULA_STARTS) else value


def file_name(student: str) -> str:
    """A student's name as the name of a file."""
    return re.sub(r"[^\w.@+-]+", "_", student).strip(".") or "_"


def feedback_text(release: Release, student: str, result: Result) -> str:
    """Feedback for one student, in Markdown: every task with its points and the reason; no hidden test's code."""
    lines = [f"# {release.name}: {student}", "", f"**{result.points} of {result.maximum} points** from the checks", ""]
    for task in result.tasks:
        score = f"of {task.maximum}, marked by hand" if task.points is None else f"{task.points} of {task.maximum}"
        lines.append(f"- **Task {task.task}, {task.title}**: {score}"
                     + (f". {_line(task.message)}" if task.points is not None else ""))
    if result.notes:
        lines += ["", "Notes:", *[f"- {_line(note)}" for note in result.notes]]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """A message on one line, in which nothing is taken for Markdown's or HTML's own signs."""
    return re.sub(r"([\\`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def report_text(release: Release, results: dict[str, Result]) -> str:
    """What the teacher should look at: tampering first, then what was repaired, then what went wrong."""
    lines = [f"# {release.name}: report on {len(results)} submissions", ""]
    sections = [("What looked tampered with", "tampering", "Nothing."), ("Repairs of the notebooks", "repairs", "None."),
                ("Limits, crashes and unreadable files", "notes", "None.")]
    for title, part, nothing in sections:
        lines += [f"## {title}", ""]
        found = {student: getattr(result, part) for student, result in results.items() if getattr(result, part)}
        for student, sentences in found.items():
            lines += [f"- {_line(student)}", *[f"  - {_line(sentence)}" for sentence in sentences]]
        lines += ([] if found else [nothing]) + [""]
    layers = sorted({layer for result in results.values() for layer in result.enforced})
    lines += ["## Enforced by the system, on top of the audit hook", "", ", ".join(layers) or "Nothing.", ""]
    return "\n".join(lines)


def written_text(release: Release, results: dict[str, Result]) -> str:
    """All written answers, task by task with the rubric, to be marked by hand."""
    lines = [f"# {release.name}: written answers", ""]
    for cell in release.tasks:
        if cell.role == "written":
            lines += [f"## Task {cell.task}: {cell.title} ({cell.points} points)", "", cell.rubric, ""]
            for student, result in results.items():
                answer = result.written.get(cell.task, "").strip() or "(no answer)"
                lines += [f"### {_line(student)}", "", *[f"> {line}" for line in answer.splitlines()], ""]
    return "\n".join(lines)


def write_reports(folder: Path, release: Release, results: dict[str, Result]) -> None:
    """Scores, feedback/STUDENT.md, report.md and written_answers.md into `folder`."""
    write_scores(folder, release, results)
    (folder / "feedback").mkdir(exist_ok=True)
    for student, result in results.items():
        text = feedback_text(release, student, result)
        (folder / "feedback" / f"{file_name(student)}.md").write_text(text, encoding="utf8")
    (folder / "report.md").write_text(report_text(release, results), encoding="utf8")
    (folder / "written_answers.md").write_text(written_text(release, results), encoding="utf8")
