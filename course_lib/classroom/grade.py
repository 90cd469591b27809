"""`course grade NN SUBMISSIONS -o OUT`: grade a class.

SUBMISSIONS is a folder with a notebook a student (NAME.ipynb), or a folder a student with the notebook somewhere in it.
Each result is stored as soon as it is there: the same command again goes on where it was interrupted, and grades anew
only what has changed. One bad submission stops nobody else's: what cannot be read, run, stored or reported costs its
own student's result only, and is named.
"""

import argparse
import hashlib
import json
import os
import queue
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_lib.classroom.execute import Executor, Limits, Result, TaskResult, grade_notebook
from course_lib.classroom.feedback import write_reports
from course_lib.classroom.release import Release, find_assignment, load_release, recorded_releases
from course_lib.classroom.texts import all_storable, file_names, name_of, storable
from course_lib.progress import progress

NOT_GRADED = "not graded"  # by a fault of the grader's: tried again next time
RESULT_FORMAT = 2  # of the stored results: another number grades everything anew
# What computers leave beside files by themselves: nobody's work.
CLUTTER = {".ipynb_checkpoints", "__MACOSX", ".DS_Store", "@eaDir", "Thumbs.db", "desktop.ini", "__pycache__", ".git"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course grade`."""
    default = Limits()
    parser.add_argument("assignment", metavar="NN", help="the assignment by number or name, such as 01")
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="folder with the students' notebooks")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", required=True, help="folder for scores and feedback"
    )
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
    left_out = len(find_submissions(arguments.submissions).left_out)
    print(f"{len(results)} submissions graded: {name_of(arguments.output / 'scores.csv')}; "
          f"{suspicious} to look at{f', {left_out} things that were handed in and not graded' if left_out else ''}: "
          f"{name_of(arguments.output / 'report.md')}")
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
    return (
        f"{release.name} was changed after it was released: cells of the released version count as changed by students"
    )


@dataclass(frozen=True)
class Submissions:
    """What lies in a folder of submissions.

    notebooks: student -> notebook. renamed: student -> a sentence where the file's name isn't as it should be.
    left_out: a sentence for everything that was handed in and can't be graded.
    """

    notebooks: dict[str, Path]
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def find_submissions(folder: Path) -> Submissions:
    """The submissions in a folder. FileNotFoundError where there is none.

    NAME.ipynb belongs to NAME; a notebook in a folder belongs to the student the first folder is named after, or,
    where one folder holds several notebooks, to the notebook's own path. Students' names are storable texts; where two
    become the same text the second carries its path, and a third a number.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{name_of(folder)}: no such folder of submissions")
    notebooks, left_out = _handed_in(folder)
    if not notebooks:
        there = f"; there: {'; '.join(left_out[:10])}" if left_out else ""
        raise FileNotFoundError(f"{name_of(folder)}: no notebook (.ipynb) in it{there}")
    parts = {path: path.relative_to(folder).parts for path in notebooks}
    owners = [names[0] for names in parts.values()]
    students, renamed = {}, {}
    for path, names in parts.items():
        alone = len(names) == 1 or owners.count(names[0]) == 1
        student = (path.stem if len(names) == 1 else names[0]) if alone else str(Path(*names).with_suffix(""))
        student = name_of(student).replace(os.sep, "/")
        if student in students:  # ada.ipynb beside ada/work.ipynb
            student = name_of(Path(*names)).replace(os.sep, "/")
        number, first = 2, student
        while student in students:
            student, number = f"{first} ({number})", number + 1
        students[student] = path
        if path.suffix != ".ipynb":
            renamed[student] = f"the file was called {name_of(path.name)}; taken as a notebook"
    return Submissions(dict(sorted(students.items())), renamed, left_out)


def _handed_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The notebooks below a folder, and a sentence for everything else that somebody may have handed in."""
    notebooks, left_out = [], {}

    def leave_out(path: Path, why: str) -> None:
        left_out[path.relative_to(folder)] = f"{name_of(path.relative_to(folder))}: {why}"

    def refused(error: OSError) -> None:
        leave_out(Path(error.filename), f"the folder can't be read ({type(error).__name__})")

    for place, folders, files in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if name not in CLUTTER)
        for path in (Path(place, name) for name in [*folders, *sorted(files)]):
            if path.is_symlink() and (path.is_dir() or not path.exists()):
                leave_out(path, "a link that isn't followed")
            elif path.name in CLUTTER or path.name.startswith("._") or path.is_dir():
                continue
            elif path.suffix.lower() != ".ipynb" or path.name.startswith("."):
                leave_out(path, "no notebook: its name doesn't end in .ipynb, or begins with a dot")
            elif not path.is_file():
                leave_out(path, "not a file")
            else:
                notebooks.append(path)
    heard_of = (
        {path.parts[0] for path in left_out} | {path.relative_to(folder).parts[0] for path in notebooks} | CLUTTER
    )
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in heard_of:
            leave_out(entry, "a folder without a file")
    return sorted(notebooks), sorted(left_out.values())


def grade_class(release: Release, submissions: Path, output: Path, limits: Limits = Limits(), jobs: int = 1,
                fork: bool | None = None) -> dict[str, Result]:
    """Grade every submission and write the reports into `output`; returns the results by student, in order.

    jobs: how many at a time. fork: as in `Executor`. Results that are stored already, of the same notebook, release and
    limits, are taken over.
    """
    found = find_submissions(submissions)
    students, stored = found.notebooks, output / "results"
    stored.mkdir(parents=True, exist_ok=True)
    files = {student: stored / f"{name}.json" for student, name in file_names(students).items()}
    results, keys = {}, {}
    for student, path in students.items():
        try:
            keys[student] = _key(release, path, limits)
        except OSError as error:
            results[student] = _not_graded(release, error)
        else:
            if result := _load(files[student], student, keys[student]):
                results[student] = result
    waiting = {student: path for student, path in students.items() if student not in results}
    forbidden = [submissions.resolve(), output.resolve()]
    for student, result in progress(
        _grade_all(release, waiting, limits, jobs, fork, forbidden), "grading", len(waiting)
    ):
        results[student] = result
        if all(task.message != NOT_GRADED for task in result.tasks):
            try:
                _store(files[student], student, keys[student], result)
            except (OSError, ValueError) as error:
                result.notes.append(
                    f"the result could not be stored, it is graded anew next time ({storable(str(error))})"
                )
    results = {student: results[student] for student in students}
    for student, sentence in found.renamed.items():
        results[student].repairs = [sentence, *(s for s in results[student].repairs if s != sentence)]
    write_reports(output, release, results, found.left_out)
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
    return Result(tasks, notes=[storable(f"could not be graded ({type(error).__name__}: {error}); mark it by hand")])


def _key(release: Release, path: Path, limits: Limits) -> str:
    """Changes with everything a result depends on."""
    parts = [str(RESULT_FORMAT), release.fingerprint, json.dumps(asdict(limits)),
             hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load(path: Path, student: str, key: str) -> Result | None:
    """The stored result, where there is one of this student with this key."""
    try:
        stored = json.loads(path.read_text(encoding="utf8"))
        return Result.from_json(stored["result"]) if (stored["student"], stored["key"]) == (student, key) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _store(path: Path, student: str, key: str, result: Result) -> None:
    """Write a result in one step, so that an interruption never leaves half a file."""
    temporary = path.with_name(path.name + ".part")
    text = json.dumps({"student": student, "key": key, "result": all_storable(result.as_json())}, ensure_ascii=False)
    temporary.write_text(text, encoding="utf8")
    os.replace(temporary, path)
