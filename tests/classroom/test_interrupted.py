"""`course grade`, killed while it grades, goes on where it was."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from course_lib.classroom.release import find_assignment, load_release

STUDENTS = 6
ENDLESS = "\nimport time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass\n"
COMMAND = [sys.executable, "-m", "course_lib.cli", "grade", "01"]


@pytest.mark.skipif(os.name != "posix", reason="kills a whole process group, which needs POSIX")
def test_killed_halfway_it_goes_on(tmp_path):
    release = load_release(find_assignment("01"), "interrupted")
    solutions = {cell.key: cell.source for cell in release.tasks if cell.role == "task"}
    notebook = release.student_notebook()
    for cell in notebook["cells"]:
        cell["source"] = solutions.get(cell["id"], cell["source"])
    submissions, grades = tmp_path / "submissions", tmp_path / "grades"
    submissions.mkdir()
    for number in range(STUDENTS):
        (submissions / f"student_{number:02d}.ipynb").write_text(json.dumps(notebook), encoding="utf8")
    command = [*COMMAND, str(submissions), "-o", str(grades), "--seed", "interrupted", "--jobs", "1"]

    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((grades / "results").glob("*.json"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "grading ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stored = {path: path.stat().st_mtime_ns for path in (grades / "results").glob("*.json")}
    assert 2 <= len(stored) < STUDENTS and not (grades / "scores.csv").exists()

    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert {path: path.stat().st_mtime_ns for path in stored} == stored, "what was graded is not graded again"
    with (grades / "scores.csv").open(encoding="utf8", newline="") as file:
        rows = list(csv.DictReader(file))
    points = sum(cell.points for cell in release.tasks if cell.role == "task" and cell.key in solutions)
    assert (
        len(rows) == STUDENTS
        and len({json.dumps({k: v for k, v in row.items() if k != "student"}) for row in rows}) == 1
    )
    assert points > 0 and str(points) in rows[0].values()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_graders_take_their_submissions_with_them(tmp_path):
    """The command alone is killed, at once and without warning: what it was grading ends too."""
    release = load_release(find_assignment("01"), "interrupted")
    notebook = release.student_notebook()
    for cell in notebook["cells"]:
        if cell["id"] == "task-1":
            cell["source"] = cell["source"].split("\n", 1)[0] + ENDLESS
    (tmp_path / "endless.ipynb").write_text(json.dumps(notebook), encoding="utf8")
    command = [
        *COMMAND,
        str(tmp_path),
        "-o",
        str(tmp_path / "grades"),
        "--seed",
        "interrupted",
        "--cell-seconds",
        "300",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # by it the processes of this test are known
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def of_this_test() -> set[int]:
        found = set()
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if f"TMPDIR={tmp_path}".encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.add(int(place.name))
            except OSError:
                pass
        return found

    deadline = time.monotonic() + 120
    while len(of_this_test()) < 3 and time.monotonic() < deadline:            # the command, its server, the submission
        time.sleep(0.05)
    assert len(of_this_test()) >= 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while of_this_test() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_this_test() == set()
