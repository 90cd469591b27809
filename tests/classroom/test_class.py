"""A class in which everything goes wrong that does, graded in one command; and what intake does to a notebook."""

import base64
import copy
import csv
import json
import os
import sys
from pathlib import Path

import pytest

from course_lib.classroom.execute import Limits, Result
from course_lib.classroom.feedback import feedback_text
from course_lib.classroom.grade import find_submissions, grade_class
from course_lib.classroom.rebuild import rebuild
from course_lib.classroom.release import load_release
from course_lib.cli import main
from tests.classroom import tiny_assignment as tiny

SEED = "a seed of the class"
HEAD = "# TASK 1 (3 points): the window\n"
ALL, FIRST, SECOND, NOTHING = (3, 2), (3, 0), (0, 2), (0, 0)
OUTSIDE = Path(__file__).resolve().parent / f"written_by_a_student_{os.getpid()}.txt"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def release(source):
    return load_release(source, SEED)


def cell(notebook, grade_id):
    """The notebook's cell with this grade_id."""
    return next(c for c in notebook["cells"] if c["metadata"]["nbgrader"]["grade_id"] == grade_id)


def saved_by_colab(notebook):
    """As Colab saves: other metadata, no ids, a format of 4.0, sources in lines, an output."""
    notebook = {**notebook, "nbformat_minor": 0, "metadata": {"colab": {"provenance": []}}}
    notebook["cells"] = [
        {
            "cell_type": c["cell_type"],
            "source": c["source"].splitlines(keepends=True),
            "metadata": {"id": f"x{number}AbC"},
            **({"outputs": [], "execution_count": 3} if c["cell_type"] == "code" else {}),
        }
        for number, c in enumerate(notebook["cells"])
    ]
    return notebook


def without(notebook, *grade_ids):
    notebook["cells"] = [c for c in notebook["cells"] if c["metadata"]["nbgrader"]["grade_id"] not in grade_ids]
    return notebook


def with_copy(notebook, grade_id, **changes):
    place = notebook["cells"].index(cell(notebook, grade_id))
    notebook["cells"].insert(place + 1, copy.deepcopy(cell(notebook, grade_id)) | changes)
    return notebook


def stripped(notebook):
    for c in notebook["cells"]:
        c["metadata"] = {}
        c.pop("id")
    return notebook


def reversed_cells(notebook):
    notebook["cells"].reverse()
    return notebook


def extra_cell(notebook, after, source):
    place = notebook["cells"].index(cell(notebook, after))
    notebook["cells"].insert(
        place + 1, {"cell_type": "code", "source": source, "metadata": {}, "id": "mine", "outputs": []}
    )
    return notebook


def class_of_students(release) -> dict[str, tuple[object, tuple[int, int], str]]:
    """Student -> (notebook or the file's text, points of tasks 1 and 2, what the report must say: tampering,
    repair or note).
    """
    def right():
        return tiny.answered(release)

    def first(code):
        return tiny.fill_in(right(), task_1=HEAD + code)

    def beside(code):
        return tiny.fill_in(right(), task_1=tiny.WINDOW + "\n" + code)

    catch_all = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
    wrong = "def hann_window(n_fft):\n    return torch.hann_window(n_fft, periodic=False)"
    return {
        "good": (right(), ALL, ""),
        "colab": (saved_by_colab(right()), ALL, "metadata was gone"),
        "untouched": (release.student_notebook(), NOTHING, ""),
        "wrong": (first(wrong), SECOND, ""),
        "import error": (first("import a_package_that_does_not_exist"), SECOND, ""),
        "syntax error": (first("def hann_window(n_fft:"), SECOND, ""),
        "infinite loop": (first("while True:\n    pass"), SECOND, ""),
        "infinite loop that catches all": (first(catch_all), SECOND, "took longer than"),
        "infinite recursion": (first("def hann_window(n_fft):\n    return hann_window(n_fft)"), SECOND, ""),
        "memory bomb": (first("hoard = []\nwhile True:\n    hoard.append(bytearray(10**8))"), SECOND, ""),
        "30 MB of output": (beside("print('x' * 30_000_000)"), ALL, "printed 30,000,001 characters"),
        "os._exit": (first("import os\nos._exit(0)"), SECOND, "ended the process"),
        "os._exit in its check": (
            first("import os\ndef hann_window(n_fft):\n    os._exit(0)"),
            SECOND,
            "ended the process",
        ),
        "deleted check": (without(right(), "check-1", "check-2"), ALL, "check-1: deleted, restored"),
        "deleted check, wrong": (without(first(wrong), "check-1"), SECOND, "check-1: deleted, restored"),
        "changed check": (tiny.fill_in(first(wrong), check_1="# CHECK 1\npass"), SECOND, "check-1: changed, restored"),
        "duplicated check": (with_copy(right(), "check-1"), ALL, "check-1: 2 copies"),
        "duplicated answer": (with_copy(right(), "task-1", source=HEAD + wrong), SECOND, "task-1: 2 copies"),
        "deleted answer": (without(right(), "task-2"), FIRST, "task-2: deleted, restored"),
        "stripped metadata": (stripped(right()), ALL, "metadata was gone"),
        "moved cells": (reversed_cells(right()), ALL, "cells were moved"),
        "extra cells": (extra_cell(right(), "task-1", "print(hann_window(8))\n1 / 0"), ALL, "not of the release"),
        "lost first line": (
            stripped(tiny.fill_in(right(), task_1=tiny.WINDOW.split("\n", 1)[1])),
            ALL,
            "first line (the marker) was gone",
        ),
        "corrupt JSON": (json.dumps(right())[:-200], NOTHING, "not a readable notebook"),
        "empty file": ("", NOTHING, "not a readable notebook"),
        "no notebook": ("[1, 2]", NOTHING, "no list of cells"),
        "damaged cells": (
            {**right(), "cells": [None, {"cell_type": 3}, *right()["cells"], {"source": {"a": 1}}]},
            ALL,
            "",
        ),
        "patched allclose": (
            first("torch.allclose = lambda *a, **k: True\n" + wrong),
            SECOND,
            "replaced torch.allclose",
        ),
        "patched numpy": (beside("np.allclose = lambda *a, **k: True"), ALL, "replaced numpy.allclose"),
        "imports the answer": (
            first("from course_lib.spectral import hann_window"),
            SECOND,
            "imports course_lib.spectral",
        ),
        "reads the grader's files": (
            beside(
                "import course_lib, pathlib\nroot = pathlib.Path(course_lib.__file__).parents[1]\n"
                "print((root / 'chapters/assignments/01_stft_and_masks.ipynb').read_text())"
            ),
            ALL,
            "which belongs to the grading",
        ),
        "half an emoji in the answer": (tiny.fill_in(right(), task_3=tiny.ANSWER + " \ud83d"), ALL, ""),
        "half an emoji in a comment": (beside("# \ud83d\nx = '\ud83d'"), ALL, ""),
        "half an emoji in an exception": (first("raise ValueError(chr(0xD83D))"), SECOND, ""),
        "an exception named by half an emoji": (
            extra_cell(right(), "task-1", "raise type(chr(0xD83D), (Exception,), {})(chr(0xDC00))"),
            ALL,
            "not of the release",
        ),
        "awaits": (beside("import asyncio\nawait asyncio.sleep(0)"), ALL, ""),
        "writes outside": (beside(f"open({str(OUTSIDE)!r}, 'w').write('here')"), ALL, "outside its directory"),
    }


@pytest.fixture(scope="module")
def graded(release, source, tmp_path_factory):
    """The class, graded by the command: (students, folder of the grades)."""
    folder = tmp_path_factory.mktemp("class")
    students = class_of_students(release)
    (folder / "submissions").mkdir()
    for student, (notebook, _points, _report) in students.items():
        text = notebook if isinstance(notebook, str) else json.dumps(notebook)
        (folder / "submissions" / f"{student}.ipynb").write_text(text, encoding="utf8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_DATA_DIR", str(folder / "data"))
        patch.setattr("course_lib.classroom.grade.find_assignment", lambda _word: source)
        status = main(["grade", "99", str(folder / "submissions"), "-o", str(folder / "grades"), "--seed", SEED,
                       "--cell-seconds", "2", "--memory", "1024", "--jobs", "2"])
    assert status == 0
    return students, folder / "grades"


def test_every_score_of_the_class_is_right(graded):
    students, grades = graded
    table = json.loads((grades / "scores.json").read_text(encoding="utf8"))["students"]
    assert list(table) == sorted(students)
    found = {student: tuple(task["points"] for task in row["tasks"]) for student, row in table.items()}
    assert found == {student: (*points, None) for student, (_notebook, points, _report) in students.items()}
    with (grades / "scores.csv").open(encoding="utf8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert {student: (int(row["task 1 (of 3)"]), int(row["task 2 (of 2)"])) for student, row in rows.items()} == {
        student: points for student, (_notebook, points, _report) in students.items()}
    assert all(
        int(row["points"]) == sum(students[student][1]) and row["task 3 (of 4)"] == "" for student, row in rows.items()
    )
    assert not OUTSIDE.exists()


def test_every_finding_is_in_the_report(graded):
    students, grades = graded
    table = json.loads((grades / "scores.json").read_text(encoding="utf8"))["students"]
    for student, (_notebook, _points, expected) in students.items():
        sentences = table[student]["tampering"] + table[student]["repairs"] + table[student]["notes"]
        assert expected in "\n".join(sentences), student
    cheats = {"patched allclose", "patched numpy", "imports the answer", "reads the grader's files", "writes outside"}
    assert {student for student, row in table.items() if row["tampering"]} == cheats
    report = (grades / "report.md").read_text(encoding="utf8")
    assert all(student in report for student in cheats) and "\n- good\n" not in report


def test_feedback_shows_no_hidden_test(graded):
    students, grades = graded
    texts = {path.stem: path.read_text(encoding="utf8") for path in (grades / "feedback").glob("*.md")}
    assert len(texts) == len(students)
    for text in texts.values():
        assert not any(secret in text for secret in ("truth", "hidden_variation", "SECRET_OF_CHECK_1", "HIDDEN", SEED))
    assert "**5 of 5 points**" in texts["good"] and "compare with" not in texts["good"]
    assert "0 of 3. a visible check failed: compare with (1.3) for N = 4" in texts["wrong"]


def test_written_answers_stand_beside_their_rubric(graded):
    text = (graded[1] / "written_answers.md").read_text(encoding="utf8")
    assert "2 points for the jump at the seam" in text and text.count("a jump leaks") >= 20
    assert "### untouched\n\n> (no answer)" in text


def test_the_same_command_grades_only_what_changed(release, tmp_path):
    submissions, grades = tmp_path / "submissions", tmp_path / "grades"
    submissions.mkdir()
    for student in ("ada", "bob"):
        (submissions / f"{student}.ipynb").write_text(json.dumps(tiny.answered(release)), encoding="utf8")
    limits = Limits(cell_seconds=5)
    first = grade_class(release, submissions, grades, limits)
    stored = {path.name: path.stat().st_mtime_ns for path in (grades / "results").iterdir()}
    (submissions / "bob.ipynb").write_text(json.dumps(release.student_notebook()), encoding="utf8")
    second = grade_class(release, submissions, grades, limits)
    changed = {name for name, time in stored.items() if (grades / "results" / name).stat().st_mtime_ns != time}
    assert len(changed) == 1 and changed.pop() == "bob.json"
    assert second["ada"] == first["ada"] and (first["bob"].points, second["bob"].points) == (5, 0)
    for path in (grades / "results").glob("ada*"):
        path.write_text("{half a fi", encoding="utf8")  # as an interruption might leave it
    assert grade_class(release, submissions, grades, limits)["ada"].points == 5


def test_students_in_folders_and_in_files_are_told_apart(tmp_path):
    for name in ("ada.ipynb", "bob/01/work.ipynb", "eve/one.ipynb", "eve/two.ipynb", ".ipynb_checkpoints/x.ipynb",
                 "bob/.ipynb_checkpoints/work.ipynb", "ada/other.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf8")
    found = find_submissions(tmp_path).notebooks
    assert sorted(found.values()) == sorted(tmp_path / name for name in (
        "ada.ipynb", "bob/01/work.ipynb", "eve/one.ipynb", "eve/two.ipynb", "ada/other.ipynb"))
    assert {"ada", "bob", "eve/one", "eve/two"} <= set(found) and len(found) == 5


@pytest.mark.parametrize("folder, complaint", [("missing", "no such folder"), ("", "no notebook")])
def test_missing_submissions_are_named(release, tmp_path, folder, complaint):
    with pytest.raises(FileNotFoundError, match=complaint):
        grade_class(release, tmp_path / folder, tmp_path / "out")


def test_an_assignment_that_was_never_released_needs_a_seed(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("course_lib.classroom.grade.find_assignment", lambda _word: source)
    assert main(["grade", "99", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "--seed" in capsys.readouterr().err


def test_an_untouched_notebook_needs_no_repair(release):
    notebook = release.student_notebook()
    rebuilt = rebuild(release, notebook["cells"])
    assert rebuilt.repairs == [] and [c.source for c in rebuilt.cells] == [
        c["source"] for c in notebook["cells"] if c["cell_type"] == "code"
    ]


def test_an_extra_cell_that_answers_a_task_is_named(release):
    notebook = extra_cell(tiny.answered(release), "check-2", "def rms(x):\n    return 0")
    assert any("defines rms (task-2)" in repair for repair in rebuild(release, notebook["cells"]).repairs)


def test_feedback_takes_no_formatting_from_students(release):
    result = Result(notes=["<script>alert(1)</script> [link](http://x) `code`"])
    text = feedback_text(release, "ada", result)
    assert "<script>" not in text.replace("\\<", "") and "\\[link\\]" in text


def test_scores_are_no_formulas(release, tmp_path):
    from course_lib.classroom.feedback import write_reports

    write_reports(tmp_path, release, {"=1+1": Result(), "../up": Result()})
    assert "\n'=1+1," in (tmp_path / "scores.csv").read_text(encoding="utf8")
    assert len(list((tmp_path / "feedback").iterdir())) == 2


def right_notebook(release) -> bytes:
    return json.dumps(tiny.answered(release)).encode()


def hand_in(folder: Path, files: dict[bytes, bytes]) -> Path:
    for name, data in files.items():
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    return folder


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names of any bytes are Linux's")
def test_names_of_any_bytes_and_length(release, tmp_path):
    """A class of names that no file system, encoding or Markdown expects: each has its row and its own feedback."""
    names = [
        b"caf\xe9",
        b"caf\\xe9",
        b"x" * 245,
        "é".encode() * 122,
        b"ada lovelace",
        b"ada_lovelace",
        b"Ada Lovelace",
        b"CON",
        b"a\nb",
        b"=1+1",
        b"*",
        b"?",
        b"-",
        "👩‍🎓".encode(),
    ]
    folder = hand_in(tmp_path / "submissions", {name + b".ipynb": right_notebook(release) for name in names})
    results = grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    assert len(results) == len(names) and {result.points for result in results.values()} == {5}
    assert {"caf\\xe9", "caf\\xe9.ipynb"} <= set(results)
    files = [path.name for path in (tmp_path / "out" / "feedback").iterdir()]
    assert (
        len(files) == len({name.casefold() for name in files}) == len(names)
        and max(map(len, map(os.fsencode, files))) < 200
    )
    with (tmp_path / "out" / "scores.csv").open(encoding="utf8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(names)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    assert again == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}, (
        "nothing is graded twice"
    )


def test_feedback_never_reaches_another_student(release, tmp_path):
    untouched = json.dumps(release.student_notebook()).encode()
    folder = hand_in(
        tmp_path / "in",
        {
            b"ada/lovelace/x.ipynb": right_notebook(release),
            b"ada/lovelace/y.ipynb": untouched,
            b"ada_lovelace_x.ipynb": untouched,
            b"ADA_lovelace_x.ipynb": right_notebook(release),
        },
    )
    results = grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    texts = [path.read_text(encoding="utf8") for path in (tmp_path / "out" / "feedback").iterdir()]
    assert len(texts) == len(results) == 4 and sorted("**5 of 5" in text for text in texts) == [
        False,
        False,
        True,
        True,
    ]


def test_whatever_is_handed_in_is_heard_of(release, tmp_path):
    """What is no notebook is named, an .IPYNB is graded, and what computers leave by themselves is passed over."""
    folder = hand_in(
        tmp_path / "in",
        {
            b"ada.ipynb": right_notebook(release),
            b"bob.zip": b"PK",
            b"eve.IPYNB": right_notebook(release),
            b"dan.ipynb.txt": b"{}",
            b"fay/work.pdf": b"%PDF",
            b"__MACOSX/._ada.ipynb": b"x",
            b"gil/.ipynb_checkpoints/work.ipynb": b"{}",
            b".DS_Store": b"x",
            b"._ada.ipynb": b"x",
        },
    )
    (folder / "ida").mkdir()
    (folder / "jim.ipynb").symlink_to(tmp_path / "nowhere")
    results = grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    assert {student: result.points for student, result in results.items()} == {"ada": 5, "eve": 5}
    first, second = (tmp_path / "out" / "report.md").read_text(encoding="utf8").split("## What looked tampered with")
    assert [name in first for name in ("bob.zip", "dan.ipynb.txt", "fay/work.pdf", "gil", "ida", "jim")] == [True] * 6
    assert "DS" not in first and "MACOSX" not in first and "eve.IPYNB" in second


def test_what_cannot_be_read_or_stored_stays_with_its_student(release, tmp_path, monkeypatch):
    folder = hand_in(
        tmp_path / "in", {f"{name}.ipynb".encode(): right_notebook(release) for name in ("ada", "bob", "eve", "dan")}
    )
    read, replace = Path.read_bytes, os.replace

    def read_bytes(path):
        if path.name == "bob.ipynb":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    def replaced(source, target):
        if Path(target).name in ("eve.json", "dan.md"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(os, "replace", replaced)
    results = grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    assert {student: result.points for student, result in results.items()} == {"ada": 5, "bob": 0, "dan": 5, "eve": 5}
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf8")
    for sentence in (
        "could not be graded (PermissionError",
        "the result could not be stored",
        "feedback could not be written",
    ):
        assert sentence in report
    with (tmp_path / "out" / "scores.csv").open(encoding="utf8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["bob"]["task 1 (of 3)"] == "" and rows["eve"]["points"] == "5"


def test_a_report_that_is_open_elsewhere_costs_no_other(release, tmp_path, monkeypatch):
    folder, replace = hand_in(tmp_path / "in", {b"ada.ipynb": right_notebook(release)}), os.replace

    def replaced(source, target):
        if Path(target).name == "scores.csv":
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(OSError, match="all is graded, but not written: scores.csv"):
        grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
    assert {"scores.json", "report.md", "written_answers.md"} <= {path.name for path in (tmp_path / "out").iterdir()}


PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()


def test_written_answers_carry_the_outputs_they_refer_to(release, tmp_path):
    """Text, tables as text, and pictures of the cells around the answer;
    nothing of cells that belong to other tasks.
    """
    notebook = extra_cell(tiny.answered(release), "check-2", "print(measure())  # ```")
    mine = next(c for c in notebook["cells"] if c["id"] == "mine")
    mine["outputs"] = [
        {"output_type": "stream", "text": ["SDR 7.25\n", "\x1b[31mand more\x1b[0m"]},
        {"output_type": "display_data", "data": {"image/png": PICTURE, "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": "<b>no</b>", "text/plain": ["a  b\n", "1  2"]}},
        {"output_type": "display_data", "data": {"image/png": "!!", "image/svg+xml": "<svg/>"}},
        "damaged",
        {"data": 3},
    ]
    cell(notebook, "check-1")["outputs"] = [{"output_type": "stream", "text": "of another task"}]
    folder = hand_in(
        tmp_path / "in", {b"ada b.ipynb": json.dumps(notebook).encode(), b"bob.ipynb": right_notebook(release)}
    )
    for _again in range(2):                                                    # graded, then from the stored result
        grade_class(release, folder, tmp_path / "out", Limits(cell_seconds=5))
        text = (tmp_path / "out" / "written_answers.md").read_text(encoding="utf8")
        for part in (
            "SDR 7.25\nand more",
            "a  b\n1  2",
            "````python\nprint(measure())  # ```\n````",
            "![cell 9](written/ada%20b-1.png)",
        ):
            assert part in text, part
        assert "of another task" not in text and "<b>" not in text and "<svg" not in text and text.count("Cell ") == 1
        assert (tmp_path / "out" / "written" / "ada b-1.png").read_bytes().startswith(b"\x89PNG")
