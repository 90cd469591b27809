"""`course grade NN SUBMISSIONS -o OUT`: grade a class.

SUBMISSIONS is a folder with a notebook a student (NAME.ipynb), or a folder a student with the notebook somewhere in it.
Each result is stored as soon as it is there: the same command again goes on where it was interrupted, and grades anew
only what has changed. One bad submission stops nobody else's.
"""

import argparse
import hashlib
import json
import os
import queue
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from course_lib.classroom.execute import Executor, Limits, Result, TaskResult, grade_notebook
from course_lib.classroom.feedback import file_name, write_reports
from course_lib.classroom.release import Release, find_assignment, load_release, recorded_releases
from course_lib.notebook.progress import progress

NOT_GRADED = "not graded"  # by a fault of the grader's: tried again next time
RESULT_FORMAT = 1  # of the stored results: another number grades everything anew


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course grade`."""
    default = Limits()
    parser.add_argument("assignment", metavar="NN", help="the assignment by number or name, such as 01")
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="folder with the students' notebooks")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", required=True, help="folder for scores and feedback")
    parser.add_argument("--seed", metavar="S", help="of the release (default: the last one made on this machine)")
    parser.add_argument("--jobs", type=int, metavar="N", default=os.cpu_count() or 1,
                        help="submissions graded at the same time (default: %(default)s)")
    parser.add_argument("--cell-seconds", type=float, metavar="S", default=default.cell_seconds,
                        help="time limit of a cell (default: %(default)s)")
    parser.add_argument("--memory", type=int, metavar="MB", default=default.memory_mb,
                        help="memory limit of a submission (default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run `course grade`."""
    source = find_assignment(arguments.assignment)
    release = load_release(source, chosen_seed(source.stem, arguments.seed))
    if warning := changed_since_release(release):
        print(warning, file=sys.stderr)
    limits = Limits(cell_seconds=arguments.cell_seconds, memory_mb=arguments.memory,
                    total_seconds=max(Limits.total_seconds, 4 * arguments.cell_seconds))
    results = grade_class(release, arguments.submissions, arguments.output, limits, arguments.jobs)
    suspicious = sum(bool(result.tampering) for result in results.values())
    print(f"{len(results)} submissions graded: {arguments.output / 'scores.csv'}; "
          f"{suspicious} to look at: {arguments.output / 'report.md'}")
    return 0


def chosen_seed(name: str, seed: str | None) -> str:
    """The seed given, or that of the last release made on this machine. ValueError where there is neither."""
    if seed is not None:
        return seed
    releases = recorded_releases(name)
    if not releases:
        raise ValueError(f"{name} was not released on this machine; name the release's seed with --seed")
    return releases[-1]["seed"]


def changed_since_release(release: Release) -> str:
    """A sentence where the assignment is no longer what was released, else nothing."""
    known = {entry["seed"]: entry["fingerprint"] for entry in recorded_releases(release.name)}
    if known.get(release.seed, release.fingerprint) == release.fingerprint:
        return ""
    return f"{release.name} was changed after it was released: cells of the released version count as changed by students"


def find_submissions(folder: Path) -> dict[str, Path]:
    """Student -> notebook. FileNotFoundError where there is none.

    NAME.ipynb belongs to NAME; a notebook in a folder belongs to the student the first folder is named after, or,
    where one folder holds several notebooks, to the notebook's own path.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of submissions")
    paths = [path for path in sorted(folder.rglob("*.ipynb"))
             if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        raise FileNotFoundError(f"{folder}: no notebook (.ipynb) in it")
    parts = {path: path.relative_to(folder).parts for path in paths}
    owners = [name[0] for name in parts.values()]
    students = {}
    for path, names in parts.items():
        alone = len(names) == 1 or owners.count(names[0]) == 1
        student = (path.stem if len(names) == 1 else names[0]) if alone else "/".join(names)[: -len(".ipynb")]
        if student in students:  # ada.ipynb beside ada/work.ipynb
            student = "/".join(names)
        students[student] = path
    return dict(sorted(students.items()))


def grade_class(release: Release, submissions: Path, output: Path, limits: Limits = Limits(), jobs: int = 1,
                fork: bool | None = None) -> dict[str, Result]:
    """Grade every submission and write the reports into `output`; returns the results by student, in order.

    jobs: how many at a time. fork: as in `Executor`. Results that are stored already, of the same notebook, release and
    limits, are taken over.
    """
    students = find_submissions(submissions)
    stored = output / "results"
    stored.mkdir(parents=True, exist_ok=True)
    keys = {student: _key(release, path, limits) for student, path in students.items()}
    results = {student: result for student in students if (result := _load(stored, student, keys[student]))}
    waiting = {student: path for student, path in students.items() if student not in results}
    forbidden = [submissions.resolve(), output.resolve()]
    for student, result in progress(_grade_all(release, waiting, limits, jobs, fork, forbidden), "grading", len(waiting)):
        results[student] = result
        if all(task.message != NOT_GRADED for task in result.tasks):
            _store(stored, student, keys[student], result)
    results = {student: results[student] for student in students}
    write_reports(output, release, results)
    return results


def _grade_all(release: Release, waiting: dict[str, Path], limits: Limits, jobs: int, fork: bool | None,
               forbidden: list[Path]) -> Iterator[tuple[str, Result]]:
    """Grade with `jobs` executors side by side; results as they come."""
    free: queue.Queue[Executor] = queue.Queue()
    executors = [Executor(fork) for _ in range(max(1, min(jobs, len(waiting))))]
    for executor in executors:
        free.put(executor)

    def grade(path: Path) -> Result:
        executor = free.get()
        try:
            return grade_notebook(release, path, limits, executor=executor, forbidden=forbidden)
        except Exception as error:  # a fault of the grader's: said, and the class goes on
            return _not_graded(release, error)
        finally:
            free.put(executor)

    pool = ThreadPoolExecutor(len(executors))
    try:
        futures = {pool.submit(grade, path): student for student, path in waiting.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for executor in executors:
            executor.close()


def _not_graded(release: Release, error: Exception) -> Result:
    tasks = [TaskResult(cell.task, cell.title, cell.points, None, NOT_GRADED) for cell in release.tasks]
    return Result(tasks, notes=[f"could not be graded ({type(error).__name__}: {error}); mark it by hand"])


def _key(release: Release, path: Path, limits: Limits) -> str:
    """Changes with everything a result depends on."""
    parts = [str(RESULT_FORMAT), release.fingerprint, json.dumps(asdict(limits)),
             hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stored_file(folder: Path, student: str) -> Path:
    """Names that differ only in signs that files cannot have stay apart by their hash."""
    return folder / f"{file_name(student)}-{hashlib.sha256(student.encode()).hexdigest()[:8]}.json"


def _load(folder: Path, student: str, key: str) -> Result | None:
    """The stored result, where there is one with this key."""
    try:
        stored = json.loads(_stored_file(folder, student).read_text(encoding="utf8"))
        return Result.from_json(stored["result"]) if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(folder: Path, student: str, key: str, result: Result) -> None:
    """Write a result in one step, so that an interruption never leaves half a file."""
    path = _stored_file(folder, student)
    temporary = path.with_suffix(".part")
    text = json.dumps({"student": student, "key": key, "result": result.as_json()}, ensure_ascii=False)
    temporary.write_text(text, encoding="utf8")
    os.replace(temporary, path)
