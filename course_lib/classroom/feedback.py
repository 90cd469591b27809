"""What a class's results look like on paper: scores for a spreadsheet, feedback per student,
a report for the teacher.
"""

import base64
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from course_lib.classroom.execute import Result
from course_lib.classroom.release import Release
from course_lib.classroom.texts import all_storable, file_names

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell


def scores_text(release: Release, results: dict[str, Result]) -> str:
    """scores.csv: points a task, empty where a person has to mark."""
    tasks = release.tasks
    by_hand = [cell for cell in tasks if cell.role == "written"]
    header = ["student", "points", "of", *[f"task {cell.task} (of {cell.points})" for cell in tasks], "by hand (of)",
              "look at"]
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(header)
    for student, result in results.items():
        points = ["" if task.points is None else task.points for task in result.tasks]
        writer.writerow([plain_text(student), result.points, result.maximum, *points,
                         sum(cell.points for cell in by_hand), "yes" if result.tampering else ""])
    return text.getvalue()


def scores_json(release: Release, results: dict[str, Result]) -> str:
    """scores.json: all that is known of each student, null where a person has to mark; without pictures."""
    table = {student: {"points": result.points, "of": result.maximum, **result.as_json(), "outputs": {}}
             for student, result in results.items()}
    return (
        json.dumps(all_storable({"assignment": release.name, "students": table}), ensure_ascii=False, indent=1) + "\n"
    )


def plain_text(value: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return "'" + value if value.startswith(FORMULA_STARTS) else value


def feedback_text(release: Release, student: str, result: Result) -> str:
    """Feedback for one student, in Markdown: every task with its points and the reason; no hidden test's code."""
    lines = [
        f"# {release.name}: {_line(student)}",
        "",
        f"**{result.points} of {result.maximum} points** from the checks",
        "",
    ]
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


def report_text(release: Release, results: dict[str, Result], left_out: Iterable[str] = ()) -> str:
    """What the teacher should look at: what was not graded, tampering, then what was repaired, then what went wrong."""
    lines = [f"# {release.name}: report on {len(results)} submissions", "", "## Handed in, but not graded", "",
             *([f"- {_line(sentence)}" for sentence in left_out] or ["Nothing."]), ""]
    sections = [
        ("What looked tampered with", "tampering", "Nothing."),
        ("Repairs of the notebooks", "repairs", "None."),
        ("Limits, crashes and unreadable files", "notes", "None."),
    ]
    for title, part, nothing in sections:
        lines += [f"## {title}", ""]
        found = {student: getattr(result, part) for student, result in results.items() if getattr(result, part)}
        for student, sentences in found.items():
            lines += [f"- {_line(student)}", *[f"  - {_line(sentence)}" for sentence in sentences]]
        lines += ([] if found else [nothing]) + [""]
    layers = sorted({layer for result in results.values() for layer in result.enforced})
    lines += ["## Enforced by the system, on top of the audit hook", "", ", ".join(layers) or "Nothing.", ""]
    return "\n".join(lines)


def written_text(release: Release, results: dict[str, Result], pictures: dict[tuple[str, int], list[list[str]]]) -> str:
    """All written answers, task by task with the rubric, to be marked by hand, each with the outputs it refers to.

    pictures: (student, task) -> for each output the files of its pictures.
    """
    lines = [f"# {release.name}: written answers", ""]
    for cell in release.tasks:
        if cell.role == "written":
            lines += [f"## Task {cell.task}: {cell.title} ({cell.points} points)", "", cell.rubric, ""]
            for student, result in results.items():
                answer = result.written.get(cell.task, "").strip() or "(no answer)"
                lines += [f"### {_line(student)}", "", *[f"> {line}" for line in answer.splitlines()], ""]
                lines += _outputs_lines(result.outputs.get(cell.task, []), pictures.get((student, cell.task), []))
    return "\n".join(lines)


def _outputs_lines(outputs: list[dict], pictures: list[list[str]]) -> list[str]:
    """The cells that belong to a written answer, and what stood below them when the notebook was saved."""
    lines = (
        ["Its cells, with their outputs as the notebook holds them (they were not run again):", ""] if outputs else []
    )
    for number, output in enumerate(outputs):
        lines += [f"Cell {output['position']}", "", *_fenced(output["source"], "python"), ""]
        lines += [*_fenced(output["text"], "text"), ""] if output["text"].strip() else []
        for file in pictures[number] if number < len(pictures) else []:
            lines += [f"![cell {output['position']}]({file})", ""]
    return lines


def _fenced(text: str, language: str) -> list[str]:
    """A block of code whose fence is longer than any in the text, so that nothing in it is taken for Markdown."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{language}", *text.rstrip().splitlines(), fence]


def write_reports(folder: Path, release: Release, results: dict[str, Result], left_out: Iterable[str] = ()) -> None:
    """Scores, feedback/STUDENT.md, report.md and written_answers.md with its pictures into `folder`.

    left_out: sentences on what was handed in and not graded. What fails for one student is noted in that student's
    result. OSError, after everything else is written, where one of the reports on the whole class could not be.
    """
    names, pictures = file_names(results), {}
    for part in ("feedback", "written"):
        (folder / part).mkdir(exist_ok=True)
    for student, result in results.items():
        try:
            pictures |= _write_pictures(folder / "written", names[student], student, result)
        except Exception as error:
            result.notes.append(f"the pictures of the written answer could not be written ({type(error).__name__})")
        try:
            _write(folder / "feedback" / f"{names[student]}.md", feedback_text(release, student, result))
        except Exception as error:
            result.notes.append(f"feedback could not be written ({type(error).__name__}: {error})")
    reports: dict[str, Callable[[], str]] = {
        "scores.csv": lambda: scores_text(release, results), "scores.json": lambda: scores_json(release, results),
        "report.md": lambda: report_text(release, results, left_out),
        "written_answers.md": lambda: written_text(release, results, pictures)}
    failed = []
    for name, text in reports.items():
        try:
            _write(folder / name, text())
        except OSError as error:
            failed.append(f"{name} ({error.strerror or error})")
    if failed:
        raise OSError(f"all is graded, but not written: {', '.join(failed)}. Close the file if another program has it "
                      "open, and give the same command again: nothing is graded twice")


def _write(path: Path, text: str) -> None:
    """Write a text in one step: a crash or a full disk leaves the file that was there."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(all_storable(text), encoding="utf8")
    os.replace(temporary, path)


def _write_pictures(folder: Path, name: str, student: str, result: Result) -> dict[tuple[str, int], list[list[str]]]:
    """Write the pictures of a student's outputs; their files, relative to the reports, by (student,
    task) and output.
    """
    files, count = {}, 0
    for task, outputs in result.outputs.items():
        for output in outputs:
            files.setdefault((student, task), []).append([])
            for kind, data in output["pictures"]:
                count += 1
                path = folder / f"{name}-{count}.{kind}"
                path.write_bytes(base64.b64decode(data))
                files[student, task][-1].append(
                    f"{folder.name}/{re.sub(r'[ ()]', lambda sign: f'%{ord(sign[0]):02x}', path.name)}"
                )
    return files
