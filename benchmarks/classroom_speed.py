"""How long grading a class takes: submissions of an assignment, from notebooks in a folder to scores and feedback.

    python benchmarks/classroom_speed.py [--assignment 01] [--students 50] [--loops 2] [--jobs 2]

Every student has all the reference solutions, but for `--loops` of them whose first answer never ends and is stopped by
the time limit. Wall clock and processor time (of the grader and all its processes), starting them included.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from course_lib.classroom.execute import Limits
from course_lib.classroom.grade import grade_class
from course_lib.classroom.release import Release, find_assignment, load_release


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system      # Windows: children count as 0


def write_class(folder: Path, release: Release, students: int, loops: int) -> None:
    """The notebooks of a class: reference solutions, and an endless first answer in the first `loops` of them."""
    sources = {cell.key: cell.source for cell in release.tasks if cell.role == "task"}
    endless = {**sources, "task-1": sources["task-1"].split("\n", 1)[0] + "\nwhile True:\n    pass\n"}
    for number in range(students):
        notebook = release.student_notebook()
        for cell in notebook["cells"]:
            cell["source"] = (endless if number < loops else sources).get(cell["id"], cell["source"])
        (folder / f"student_{number:03d}.ipynb").write_text(json.dumps(notebook), encoding="utf8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assignment", default="01")
    parser.add_argument("--students", type=int, default=50)
    parser.add_argument("--loops", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--fresh", action="store_true", help="a fresh process for each, as where forking is not to be had"
    )
    arguments = parser.parse_args()
    release = load_release(find_assignment(arguments.assignment), "speed")
    with tempfile.TemporaryDirectory() as root:
        submissions = Path(root) / "submissions"
        submissions.mkdir()
        write_class(submissions, release, arguments.students, arguments.loops)
        started, used = time.perf_counter(), processor_seconds()
        results = grade_class(release, submissions, Path(root) / "grades", Limits(), arguments.jobs,
                              fork=False if arguments.fresh else None)
        wall, used = time.perf_counter() - started, processor_seconds() - used
    full = sum(result.points == result.maximum for result in results.values())
    print(f"assignment {release.name}, {arguments.students} submissions, {arguments.jobs} at a time, "
          f"{arguments.loops} of them endless; {full} got full marks\n"
          f"clock          {wall:8.1f} s\n"
          f"processor time {used:8.1f} s, {used / arguments.students:.2f} s a submission")


if __name__ == "__main__":
    main()
