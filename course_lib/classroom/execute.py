"""Grading one submission: rebuild it, run it in a process of its own, and collect its points.

`grade_notebook` is what `course grade` and the tests of the graders call. A submission that ends its process, or that
cannot be interrupted, is run again without the cell that did it, so that the other tasks still count.
"""

import ast
import atexit
import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_lib.classroom.confinement import remove_scratch, scratch_folder
from course_lib.classroom.process import READY
from course_lib.classroom.rebuild import Rebuilt, bound_names, read_submission, rebuild
from course_lib.classroom.release import Release, records_folder
from course_lib.classroom.texts import all_storable, storable

GRACE_SECONDS = 3.0  # from the alarm inside the process to its end from outside
START_SECONDS = 120.0  # for loading torch and what a release imports
SINGLE_THREADED = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                                          "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")}
# librosa loads its modules when they are first used; these bring the rest
LIBROSA = ("util.utils", "filters", "core.spectrum", "core.audio", "core.pitch", "core.constantq", "feature.spectral",
           "feature.rhythm", "effects", "decompose", "onset", "beat", "sequence", "segment")
# What student code may learn of the environment; no tokens, keys or addresses of the teacher's.
KEPT_VARIABLES = {
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "HOME",
    "SYSTEMROOT",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "LIBROSA_DATA_DIR",
    "COURSE_DATA_DIR",
    "COURSE_PROFILE",
    "TMPDIR",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "MPLCONFIGDIR",
    "APPDATA",
    "LOCALAPPDATA",
    "PATHEXT",
    "COMSPEC",
    "XDG_CACHE_HOME",
}


@dataclass(frozen=True)
class Limits:
    """What a submission may take. seconds: wall clock, of a cell (or a task's checks) and of the whole submission.

    memory_mb: on top of what the grader itself uses. output_characters: printed text above this is reported.
    runs: how often a submission that ends its process is run again without the cell that did it.
    """

    cell_seconds: float = 20.0
    total_seconds: float = 120.0
    memory_mb: int = 2048
    output_characters: int = 1_000_000
    runs: int = 6


@dataclass
class TaskResult:
    """The outcome of one task: points of maximum; None where a person has to mark it."""

    task: int
    title: str
    maximum: int
    points: int | None = 0
    message: str = ""


@dataclass
class Result:
    """What grading a submission found."""

    tasks: list[TaskResult] = field(default_factory=list)
    tampering: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the student too: over a limit, unreadable file
    written: dict[int, str] = field(default_factory=dict)
    outputs: dict[int, list[dict]] = field(default_factory=dict)  # cells that a written answer refers to
    enforced: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """Points of the tasks that are graded automatically."""
        return sum(task.points or 0 for task in self.tasks)

    @property
    def maximum(self) -> int:
        """What could be had automatically."""
        return sum(task.maximum for task in self.tasks if task.points is not None)

    def as_json(self) -> dict:
        """The result as plain values; `Result.from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict) -> "Result":
        """The result that `as_json` wrote."""
        tasks = [TaskResult(**task) for task in values["tasks"]]
        by_task = {part: {int(task): value for task, value in values[part].items()} for part in ("written", "outputs")}
        return cls(**{**values, "tasks": tasks, **by_task})


class ProcessLost(Exception):
    """The serving process itself is gone, or cannot fork."""


class Executor:
    """Runs jobs, one at a time, in processes of their own. Close it, or use it in a `with`.

    fork: whether to keep a preloaded process that forks for each job; by default wherever the system can.
    """

    def __init__(self, fork: bool | None = None):
        self.fork = hasattr(os, "fork") if fork is None else fork
        self._server: subprocess.Popen | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def close(self) -> None:
        """End the serving process."""
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.stdin.close()
            self._end(self._server)
            self._server = None

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        process.stdout.close()

    def run(self, job: dict, limits: Limits) -> Iterator[dict]:
        """The messages of a job, as they come, ending with {"ended": why}: 0, an exit status, or "time"."""
        if self.fork:
            try:
                yield from self._follow(self._serving(), job, limits)
                return
            except ProcessLost:
                self.close()
                self.fork = False  # threads in the preloaded process, or no forking: from now on a fresh process each
        process = self._start("once")
        try:
            yield from self._follow(process, job, limits)
        finally:
            self._end(process)

    def _start(self, how: str) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if name.upper() in KEPT_VARIABLES}
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "course_lib.classroom.process", how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True, encoding="utf8", errors="replace", env={**environment, **SINGLE_THREADED})
        self._lines = lines = queue.Queue()

        def read() -> None:
            with contextlib.suppress(ValueError):  # closed while reading
                for line in process.stdout:
                    lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        return process

    def _serving(self) -> subprocess.Popen:
        """The serving process, started where there is none."""
        if self._server is None or self._server.poll() is not None:
            self._server = self._start("serve")
            if self._message(READY, START_SECONDS) is None:
                raise ProcessLost("the grading process did not start")
        return self._server

    def _message(self, token: str, seconds: float) -> dict | None:
        """The next message with this token within `seconds`; other lines are not ours. None at the end or in vain."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                return None
            if line is None:
                self._lines.put(None)
                return None
            if line.startswith(token):
                with contextlib.suppress(ValueError):
                    return all_storable(json.loads(line[len(token):]))
            elif line.strip() and token != READY:
                return {"tampering": "wrote into the grader's channel"}
        return None

    def _follow(self, process: subprocess.Popen, job: dict, limits: Limits) -> Iterator[dict]:
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        except OSError:
            raise ProcessLost("the grading process is gone") from None
        serving, child = process is self._server, None
        whole, allowed = time.monotonic() + START_SECONDS + limits.total_seconds, START_SECONDS
        finished = False
        while True:
            message = self._message(job["token"], min(allowed, whole - time.monotonic()))
            if message is None:
                if process.poll() is not None or self._ended():
                    yield {"ended": 0 if finished else process.wait()}
                else:
                    self._kill(process, child, serving, job["token"])
                    yield {"ended": "time"}
                return
            if "unforkable" in message:
                raise ProcessLost("a library started threads")
            if "start" in message:
                if allowed == START_SECONDS:
                    whole = time.monotonic() + limits.total_seconds
                allowed = limits.cell_seconds + GRACE_SECONDS
            if "pid" in message:
                child = message["pid"]
                continue
            finished = finished or "finished" in message
            yield message
            if "ended" in message or (finished and not serving):
                return

    def _ended(self) -> bool:
        """Whether the process has closed its end."""
        return not self._lines.empty() and self._lines.queue[0] is None

    def _kill(self, process: subprocess.Popen, child: int | None, serving: bool, token: str) -> None:
        """End what runs the job, and let the serving process say so."""
        if serving and child is not None:
            with contextlib.suppress(OSError):
                os.killpg(child, signal.SIGKILL)
            end = time.monotonic() + GRACE_SECONDS
            while (left := end - time.monotonic()) > 0:
                message = self._message(token, left)
                if message is None or "ended" in message:
                    return
        process.kill()


_own_executor: list[Executor] = []


def own_executor() -> Executor:
    """The executor that `grade_notebook` uses unless given one; made on first use, closed at exit."""
    if not _own_executor:
        _own_executor.append(Executor())
        atexit.register(_own_executor[0].close)
    return _own_executor[0]


def grade_notebook(release: Release, submission: Path, limits: Limits = Limits(), *, executor: Executor | None = None,
                   only: set[int] | None = None, forbidden: list[Path] | None = None) -> Result:
    """Grade the notebook `submission` against `release`.

    only: the tasks to check, default all. forbidden: further files and folders that student code may not read.
    Never raises for anything in the submission: a file that cannot be read gets no points and a note.
    """
    start = time.monotonic()
    result = Result(
        tasks=[
            TaskResult(
                cell.task,
                cell.title,
                cell.points,
                None if cell.role == "written" else 0,
                "marked by hand" if cell.role == "written" else "not run",
            )
            for cell in release.tasks
        ]
    )
    try:
        rebuilt = rebuild(release, read_submission(submission))
    except (ValueError, OSError) as error:
        result.notes.append(storable(str(error)))
        for task in result.tasks:
            task.message = "the notebook could not be read" if task.points is not None else task.message
        return result
    result.repairs, result.written, result.outputs = rebuilt.repairs, rebuilt.written, rebuilt.outputs
    job = _job(release, rebuilt, limits, only, [submission, *(forbidden or [])])
    _Grading(result, job, limits).run(executor or own_executor())
    result.seconds = round(time.monotonic() - start, 3)
    return result


def _job(release: Release, rebuilt: Rebuilt, limits: Limits, only: set[int] | None, forbidden: list[Path]) -> dict:
    """What a process needs to know to run and check a submission, as plain values."""
    assignments = Path(__file__).resolve().parents[2] / "chapters" / "assignments"
    cells = []
    for run_cell in rebuilt.cells:
        cell = run_cell.cell
        role = cell.role if cell else "extra"
        source = cell.visible_code if role == "check" else run_cell.source
        provides = bound_names(cell.source) if role in ("task", "given", "variation") else set()
        cells.append({"role": role, "student": role in ("task", "extra"), "source": source,
                      "key": cell.key if cell else "extra", "task": cell.task if cell else 0,
                      "hidden": cell.hidden_code if role == "check" else "", "provides": sorted(provides),
                      "position": run_cell.position, "label": cell.key if cell else f"cell {run_cell.position}"})
    return {
        "cells": cells,
        "limits": asdict(limits),
        "chapter_module": release.chapter_module,
        "hidden_seed": release.hidden_seed,
        "only": sorted(only) if only else [],
        "skip": [],
        "preload": _imports(release) + _compiling(rebuilt),
        "forbidden": [str(p) for p in [assignments, records_folder(), *forbidden]],
    }


def _imports(release: Release) -> list[str]:
    """The modules that the release's own cells import, and the chapter's."""
    modules = [f"course_lib.{release.chapter_module}"] if release.chapter_module else []
    for cell in release.cells:
        if cell.role in ("given", "variation", "check") and cell.kind == "code":
            with contextlib.suppress(SyntaxError):
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.Import):
                        modules += [alias.name for alias in node.names]
                    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                        modules.append(node.module)
    return list(dict.fromkeys(modules))


def _compiling(rebuilt: Rebuilt) -> list[str]:
    """Modules of librosa, where the notebook names it: numba compiles them into files that a student can't write."""
    named = any("librosa" in run_cell.source for run_cell in rebuilt.cells)
    return [f"librosa.{module}" for module in LIBROSA] if named else []


class _Grading:
    """The runs of one submission, until every task has its outcome."""

    def __init__(self, result: Result, job: dict, limits: Limits):
        self.result, self.job, self.limits = result, job, limits
        self.by_task = {task.task: task for task in result.tasks}
        self.cell_failures: dict[int, str] = {}  # task -> what its own cell said
        self.outcomes: dict[int, dict | None] = {}  # task -> failure of its check, None where it passed

    def run(self, executor: Executor) -> None:
        for _attempt in range(self.limits.runs):
            ended, running = self._once(executor)
            if running is None:
                break
            self._blame(running, ended)
            self.job["skip"].append(running)
        else:
            self.result.notes.append(
                f"ended its process {self.limits.runs} times; what had not run by then was not checked"
            )
        for task in self.result.tasks:
            if task.points is not None:
                self._score(task)

    def _once(self, executor: Executor) -> tuple[object, str | None]:
        """One run; returns how it ended and the cell it ended in, None where it came to its end."""
        scratch = scratch_folder()
        job = {**self.job, "token": secrets.token_hex(16), "scratch": str(scratch)}
        running, finished, ended = "start", False, None
        try:
            for message in executor.run(job, self.limits):
                running = message.get("start", running)
                finished = finished or "finished" in message
                ended = message.get("ended", ended)
                self._take(message)
        finally:
            remove_scratch(str(scratch))
        if finished:
            return ended, None
        if running == "start":
            self.result.notes.append(f"could not be run (the process ended with {ended})")
            return ended, None
        return ended, running

    def _take(self, message: dict) -> None:
        """Enter one message into the result."""
        if "tampering" in message:
            _add(self.result.tampering, message["tampering"])
        elif "release_problem" in message:
            _add(self.result.notes, f"the assignment itself: {message['release_problem']}")
        elif "output" in message:
            _add(self.result.notes, f"printed {message['output']:,} characters; more than "
                                    f"{self.limits.output_characters:,} is too much")
        elif "enforced" in message:
            self.result.enforced = message["enforced"]
        elif "check" in message:
            self.outcomes[message["check"]] = message["failure"]
        elif "cell" in message:
            cell = self.job["cells"][message["cell"]]
            if cell["role"] == "task":
                self.cell_failures[cell["task"]] = message["failure"]
            elif cell["role"] == "extra":
                _add(self.result.notes, f"{cell['label']}: {_words(message['failure'])}")

    def _blame(self, running: str, ended: object) -> None:
        """Note the cell in which the process ended."""
        cell = self.job["cells"][int(running.split()[1])]
        failure = (
            {"kind": "time", "message": f"took longer than {self.limits.cell_seconds:g} s"}
            if ended == "time"
            else {"kind": "error", "message": f"ended the process ({_exit_words(ended)})"}
        )
        if cell["role"] == "check":
            self.outcomes[cell["task"]] = failure | {"hidden": False}
        elif cell["role"] == "task":
            self.cell_failures[cell["task"]] = failure
        _add(self.result.notes, f"{cell['label']}: {failure['message']}; run again without it")

    def _score(self, task: TaskResult) -> None:
        """Points and message of one task."""
        if self.job["only"] and task.task not in self.job["only"]:
            task.message = "not checked"
            return
        cell_failure = self.cell_failures.get(task.task)
        if task.task not in self.outcomes:
            task.message = f"your cell: {_words(cell_failure)}" if cell_failure else "not run"
            return
        failure = self.outcomes[task.task]
        if failure is None:
            task.points, task.message = task.maximum, "all checks passed"
            if cell_failure:  # what it defined before that is right
                task.message += f"; but your cell: {_words(cell_failure)}"
            return
        where = "a hidden check" if failure.get("hidden") else "a visible check"
        if failure["kind"] == "stub" or (cell_failure and cell_failure["kind"] == "stub"):
            task.message = "not attempted"
        elif cell_failure:
            task.message = f"your cell: {_words(cell_failure)}"
        elif failure["kind"] == "assert":
            task.message = f"{where} failed" + (f": {failure['message']}" if failure["message"] else "")
        else:
            task.message = f"during {where}: {_words(failure)}"
        if failure.get("case") and "check" in task.message[:30]:
            task.message += f". The case: {failure['case']}"


def _words(failure: dict) -> str:
    place = f" ({failure['place']})" if failure.get("place") else ""
    return f"{failure['message']}{place}"


def _exit_words(ended: object) -> str:
    if isinstance(ended, int) and ended < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-ended).name}"
    return f"exit status {ended}"


def _add(sentences: list[str], sentence: str) -> None:
    """Append a sentence that is not there yet."""
    if sentence not in sentences and len(sentences) < 100:
        sentences.append(sentence)
