"""One submission, run and checked in a process of its own. What it finds is sent as messages while it goes on.

The order of things is the protection: the checks are compiled and everything they rely on is remembered, the modules
that hold answers are taken away, the limits are set, and only then does the first line of student code run.
"""

import ast
import asyncio
import builtins
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable
from pathlib import Path

from course_lib.classroom import confinement
from course_lib.classroom.failed_case import WITNESS, Witness, watched_asserts

GRADING_PACKAGE = "course_lib.classroom"
MESSAGE_LENGTH = 600  # characters of an error that are kept
SECONDS_UNTIL_NEXT_ALARM = 1.0  # for code that swallows the first one
RUN_CELL_MAGICS = ("time", "timeit", "capture", "prun")
# Ways around the checks that running does not show: named for the teacher to look at.
SUSPECT = re.compile(
    r"_getframe|__globals__|__closure__|__subclasses__|gc\.get_|\bctypes\b|settrace|setprofile|addaudithook"
    r"|f_back|f_locals|course_lib\.classroom|__code__|sys\.modules|BEGIN HIDDEN|TorchFunctionMode"
    r"|_posixsubprocess|\bcffi\b"
)


class TimeLimit(BaseException):
    """A cell or a check ran longer than allowed. Not an Exception: `except Exception` does not catch it."""


class Channel:
    """Where messages go: lines of JSON that begin with a token only the grader and this process know."""

    def __init__(self, descriptor: int, token: str):
        self._descriptor, self._token, self._write, self._dumps = descriptor, token, os.write, json.dumps

    def send(self, **message) -> None:
        data = f"\n{self._token}{self._dumps(message)}\n".encode()
        while data:
            data = data[self._write(self._descriptor, data):]


class CappedOutput:
    """A text stream that keeps the first `limit` characters and counts the rest."""

    encoding, errors = "utf-8", "replace"

    def __init__(self, limit: int):
        self.limit, self.length = limit, 0

    def write(self, text: str) -> int:
        self.length += len(text)
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def over(self) -> bool:
        return self.length > self.limit


class NoKernel:
    """Stands where `get_ipython()` would: magics that time or capture run their code, all others do nothing."""

    def __init__(self, namespace: dict):
        self._namespace = namespace

    def run_line_magic(self, name: str, line: str, *_rest, **_options):
        if name in RUN_CELL_MAGICS:
            exec(compile(line, confinement.STUDENT_FILE + "magic", "exec"), self._namespace)

    def run_cell_magic(self, name: str, _line: str, cell: str):
        if name in RUN_CELL_MAGICS:
            exec(compile(cell, confinement.STUDENT_FILE + "magic", "exec"), self._namespace)

    def __getattr__(self, _name: str):
        return lambda *_arguments, **_options: None


def plain_python(source: str) -> str:
    """A cell's text without IPython's own syntax (magics, `!`, `?`)."""
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError):
        try:
            from IPython.core.inputtransformer2 import TransformerManager
        except ImportError:
            return source
        return TransformerManager().transform_cell(source)


def namespace_for_cells() -> dict:
    """A fresh namespace such as a kernel's."""
    namespace = {"__name__": "__main__", "__builtins__": builtins, "display": lambda *_things, **_options: None}
    namespace["get_ipython"] = lambda: NoKernel(namespace)
    return namespace


class StudentRun:
    """The run of one job in this process; see `job` in execute.py for what it holds."""

    def __init__(self, job: dict, descriptor: int):
        self.job = job
        self.channel = Channel(descriptor, job["token"])
        self.report = lambda sentence: self.channel.send(tampering=sentence)
        self.output = CappedOutput(job["limits"]["output_characters"])
        self.student = namespace_for_cells()
        self._frames, self._thread_id = sys._current_frames, threading.get_ident
        self.provided: set[str] = set()  # names that the tasks so far ask for
        self.chapter_names: set[str] = {f"course_lib.{job['chapter_module']}"} if job["chapter_module"] else set()

    def run(self) -> None:
        scratch = Path(self.job["scratch"])
        self._redirect(scratch)
        limits = self.job["limits"]
        enforced = confinement.limit_resources(limits["memory_mb"] * 2**20, int(limits["total_seconds"]) + 5)
        self.trusted = self._trusted_namespace()
        self._bind_checks()
        self._prepare_waiting()
        forbidden = [Path(path) for path in self.job["forbidden"]] + self._hide_modules()
        confine = confinement.watch(scratch, forbidden, self.report)
        if confinement.leave_network():
            enforced.append("network name space")
        if confinement.landlock(scratch):
            enforced.append("Landlock")
        if confinement.refuse_processes():
            enforced.append("seccomp")
        confinement.watch_process_starter(self.report)
        self.channel.send(enforced=enforced)
        confine(True)
        self._scan()
        for number, cell in enumerate(self.job["cells"]):
            if f"cell {number}" not in self.job["skip"]:
                self._cell(number, cell)
        if self._student_threads():
            self.report("left threads of its own running")
        if self.output.over:
            self.channel.send(output=self.output.length)
        self.channel.send(finished=True)

    def _redirect(self, scratch: Path) -> None:
        """Work in the scratch directory, with no input and output that goes nowhere."""
        os.chdir(scratch)
        for variable in ("HOME", "TMPDIR", "TMP", "TEMP"):
            os.environ[variable] = str(scratch)
        tempfile.tempdir = str(scratch)
        sys.dont_write_bytecode = True
        sys.stdin = open(os.devnull, encoding="utf8")
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = self.output
        sys.path[:] = [path for path in sys.path if path]

    def _trusted_namespace(self) -> dict:
        """What the release's own cells define, from running them where no student code has been."""
        namespace = namespace_for_cells()
        for cell in self.job["cells"]:
            if cell["role"] in ("given", "variation"):
                try:
                    exec(compile(plain_python(cell["source"]), cell["key"], "exec"), namespace)
                except NameError:
                    pass  # needs what a task defines: only in the student's namespace
                except Exception as error:
                    self.channel.send(release_problem=f"{cell['key']}: {type(error).__name__}: {error}")
        return namespace

    def _bind_checks(self) -> None:
        """Compile the checks, and give them builtins and imports that student code cannot reach by name."""
        importlib.import_module(GRADING_PACKAGE).variation.set_hidden_seed("unset")
        for name in self.chapter_names:
            sys.modules[f"{GRADING_PACKAGE}.truth"].chapter(name.removeprefix("course_lib."))
        self._set_hidden_seed = sys.modules[f"{GRADING_PACKAGE}.variation"].set_hidden_seed
        self.witness = Witness()
        sys.modules[f"{GRADING_PACKAGE}.truth"].watch(self.witness.compared)
        bound, real_import = {}, builtins.__import__

        def import_bound(name, globals=None, locals=None, fromlist=(), level=0):
            if name in bound and not level:
                return bound[name] if fromlist else bound[name.split(".")[0]]
            return real_import(name, globals, locals, fromlist, level)

        self.bound_modules = bound
        self.safe_builtins = {**vars(builtins), "__import__": import_bound}
        self.checks = {}
        for number, cell in enumerate(self.job["cells"]):
            if cell["role"] == "check":
                name = f"check {cell['task']}"
                self.checks[number] = [(False, _compiled(cell["source"], name)),
                                       (True, compile(watched_asserts(cell["hidden"]), name, "exec"))]

    def _hide_modules(self) -> list[Path]:
        """Take the modules with answers and the grader out of reach; returns the answers' files."""
        from course_lib.classroom.originals import Originals

        package, files, hidden = sys.modules["course_lib"], [], {}
        for name in list(sys.modules):
            if name in self.chapter_names or name == GRADING_PACKAGE or name.startswith(GRADING_PACKAGE + "."):
                hidden[name] = sys.modules.pop(name)
                if name.count(".") == 1:
                    vars(package).pop(name.split(".")[1], None)
                if name in self.chapter_names:
                    files += [
                        Path(hidden[name].__file__),
                        Path(importlib.util.cache_from_source(hidden[name].__file__)),
                    ]
        self.bound_modules.update(hidden, course_lib=package)
        sys.meta_path.insert(0, _Refuse({*self.chapter_names, GRADING_PACKAGE}, self.report))
        self.originals = Originals(hidden)
        return files

    def _scan(self) -> None:
        """Name what the text of the student's cells shows and running might not."""
        for cell in self.job["cells"]:
            if cell["student"]:
                found = sorted({match[0] for match in SUSPECT.finditer(cell["source"])})
                if found:
                    self.report(f"{cell['label']} uses {', '.join(found)}: look at it")

    def _cell(self, number: int, cell: dict) -> None:
        if cell["student"]:
            self._student_cell(number, cell)
        elif cell["role"] == "check":
            if not self.job["only"] or cell["task"] in self.job["only"]:
                self._put_back()
                self._check(number, cell)
        else:
            self._put_back()
            self.student["__builtins__"] = self.safe_builtins  # the release's own cells may import what they like
            self._execute(cell["source"], cell["key"])
            self.student["__builtins__"] = builtins
        if cell["role"] == "task":
            self.provided |= set(cell["provides"])

    def _student_cell(self, number: int, cell: dict) -> None:
        self.channel.send(start=f"cell {number}")
        if failure := self._execute(cell["source"], confinement.STUDENT_FILE + str(cell["position"])):
            self.channel.send(cell=number, failure=failure)

    def _prepare_waiting(self) -> None:
        """An event loop for cells that wait at their top level, made before sockets are refused."""
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self._loop_is = asyncio._set_running_loop

    def _execute(self, source: str, name: str) -> dict | None:
        """Run a cell in the student's namespace; what went wrong, or None.

        As in Jupyter `await` may stand at a cell's top level, and every cell finds an event loop: tasks that it makes
        go on when a later cell waits.
        """
        try:
            with Alarm(self.job["limits"]["cell_seconds"]):
                code = compile(plain_python(source), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                if code.co_flags & inspect.CO_COROUTINE:
                    self.loop.run_until_complete(eval(code, self.student))
                else:
                    self._loop_is(self.loop)
                    try:
                        exec(code, self.student)
                    finally:
                        self._loop_is(None)
        except BaseException as error:
            return failure_of(error)
        return None

    def _student_threads(self) -> bool:
        """Whether a thread runs code of a cell; those that libraries keep for themselves (tqdm, pools) do not."""
        own = self._thread_id()
        for thread, frame in self._frames().items():
            while thread != own and frame:
                if frame.f_code.co_filename.startswith(confinement.STUDENT_FILE):
                    return True
                frame = frame.f_back
        return False

    def _put_back(self) -> None:
        """Undo what student code replaced, and tell the teacher."""
        if replaced := self.originals.restore():
            self.report(f"replaced {', '.join(dict.fromkeys(replaced[:8]))} (put back before checking)")
        self.originals.steady()

    def _check(self, number: int, cell: dict) -> None:
        """Run a task's checks, the visible ones first, and send the outcome."""
        self.channel.send(start=f"cell {number}")
        self._set_hidden_seed(self.job["hidden_seed"])
        self.replaced_in_check: list[str] = []
        namespace, failure, hidden = self._check_namespace(), None, False
        for hidden, code in self.checks[number]:
            try:
                self.witness.forget()
                with Alarm(self.job["limits"]["cell_seconds"]):
                    exec(code, namespace)
            except BaseException as error:
                failure = failure_of(error) | {"hidden": hidden}
                if hidden and failure["kind"] in ("assert", "error"):
                    failure["case"] = self.witness.case(returned=failure["kind"] == "assert")
                break
        self._set_hidden_seed("unset")
        self.replaced_in_check += self.originals.restore()
        if self.replaced_in_check:
            names = ", ".join(dict.fromkeys(self.replaced_in_check[:8]))
            self.report(f"replaced {names} while task {cell['task']} was being checked: no points for it")
            failure = {"kind": "tampering", "message": f"the answer changes {names} when it is called", "hidden": False}
        self.channel.send(check=cell["task"], cell=number, failure=failure)

    def _check_namespace(self) -> dict:
        """The release's own names, and of the student's only those that tasks ask for, each call guarded."""
        namespace = {name: value for name, value in self.trusted.items() if name != "get_ipython"}
        for cell in self.job["cells"]:
            if cell["role"] in ("given", "variation"):
                for name in cell["provides"]:
                    if name not in namespace and name in self.student:
                        namespace[name] = self.student[name]
        for name in self.provided:
            namespace.pop(name, None)
            if name in self.student:
                namespace[name] = self._guarded(self.student[name])
        namespace["__builtins__"] = self.safe_builtins
        namespace[WITNESS] = self.witness
        return namespace

    def _guarded(self, value: object) -> object:
        """A function that puts back what its call replaced, and whose last call is remembered;
        else the value itself.
        """
        if not isinstance(value, types.FunctionType):
            return value
        name, witness = value.__name__, self.witness

        @functools.wraps(value)
        def guarded(*arguments, **options):
            witness.called(name, arguments, options)
            try:
                return witness.returned(value(*arguments, **options))
            finally:
                if replaced := self.originals.restore():
                    self.replaced_in_check += replaced
                self.originals.settle()

        return guarded


class _Refuse:
    """An import finder that refuses modules, and says so in the report."""

    def __init__(self, names: set[str], report: Callable[[str], None]):
        self._names, self._report = names, report

    def find_spec(self, name: str, _path=None, _target=None):
        if any(name == refused or name.startswith(refused + ".") for refused in self._names):
            self._report(f"imports {name}, where the answers or the checks are")
            raise ImportError(f"{name} is not there while grading: write the answer yourself")
        return None


class Alarm:
    """A time limit on a block of code, where the system has timers (not on Windows); the parent process has one too."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def __enter__(self):
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self._seconds, SECONDS_UNTIL_NEXT_ALARM)

    def _ring(self, _signal, _frame):
        raise TimeLimit(f"took longer than {self._seconds:g} s")

    def __exit__(self, *_error):
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _compiled(source: str, name: str):
    return compile(plain_python(source), name, "exec")


def failure_of(error: BaseException) -> dict:
    """What went wrong, in words: kind ("stub", "assert", "time" or "error"), message,
    and the student's line if known.
    """
    kind = ("stub" if isinstance(error, NotImplementedError) and str(error).startswith("task ")
            else "assert" if type(error) is AssertionError else "time" if type(error) is TimeLimit else "error")
    try:
        text = str(error)[:MESSAGE_LENGTH]
    except BaseException:  # a student's own exception may do anything when printed
        text = ""
    failure = {"kind": kind, "message": text if kind in ("assert", "time") else f"{type(error).__name__}: {text}"}
    trace, place = error.__traceback__, None
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(confinement.STUDENT_FILE):
            place = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    if place:
        failure["place"] = place
    return failure


def run_job(job: dict, descriptor: int) -> None:
    """Run one job in this process, which ends with it."""
    StudentRun(job, descriptor).run()

