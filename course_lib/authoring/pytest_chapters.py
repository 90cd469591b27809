"""A pytest plugin that executes every notebook it meets, cell by cell, and compares the outputs with the stored ones.

It is nbval with three things changed: the comparison is the course's own (`course_lib.authoring.comparison`: numbers
within a small tolerance, sounds and pictures by their presence), a kernel that dies is noticed at once and not at the
time limit, and kernels run this very Python, as `course run` runs them. pyproject.toml loads it for every `pytest`;
assignments are left to their own tests.
"""

import os
import time
from pathlib import Path
from queue import Empty

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile

from course_lib.authoring.comparison import differences
from course_lib.authoring.numba_cache import fill_numba_cache
from course_lib.authoring.run import kernel_environment
from course_lib.paths import repository_root

SKIPPED_FOLDERS = {"assignments", ".ipynb_checkpoints"}
CAPTURED_MESSAGES = {"stream", "display_data", "execute_result", "update_display_data", "clear_output"}
# A folder beside the checkout may hold recordings and weights, so that machines without a network test everything too.
BESIDE_THE_CHECKOUT = {"LIBROSA_DATA_DIR": "recordings", "COURSE_WEIGHTS_DIR": "weights"}
SECONDS_BETWEEN_LOOKS = 2.0  # how soon a dead kernel is noticed


class WatchedKernel(RunningKernel):
    """A kernel of this Python that says so when it dies."""

    def __init__(self, folder: Path, startup_timeout: float):
        self.km, self.kc = start_new_kernel(
            startup_timeout=startup_timeout,
            kernel_name=CURRENT_ENV_KERNEL_NAME,
            cwd=str(folder),
            env=kernel_environment(),
            stderr=open(os.devnull, "w"),  # what a library says beside the notebook
        )
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input, allow_stdin=None):
        """Send a cell. Into the history, as a notebook does: without it IPython does not see a closing semicolon."""
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)

    def await_reply(self, msg_id, timeout=None):
        """Wait for the reply to `msg_id`: queue.Empty after `timeout` seconds, RuntimeError where the kernel died."""
        end = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while True:
            slice_end = min(end, time.monotonic() + SECONDS_BETWEEN_LOOKS)
            try:
                return super().await_reply(msg_id, timeout=max(0.0, slice_end - time.monotonic()))
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it executed this cell (out of memory?)") from None
                if time.monotonic() >= end:
                    raise


class ChapterFile(IPyNbFile):
    """A chapter; its code cells are the tests."""

    def setup(self):
        self.captured_by_widget = {}  # comm id of an Output widget -> id of the request whose outputs it takes
        self.kernel = WatchedKernel(self.path.parent, self.config.option.nbval_kernel_startup_timeout)

    def get_kernel_message(self, timeout=None, stream="iopub"):
        """The kernel's next message, but for what an Output widget (`interact`, for one) shows in its own area.

        A notebook file holds none of that: it belongs to the widget's state, not to the cell's outputs.
        """
        while True:
            message = super().get_kernel_message(timeout=timeout, stream=stream)
            self._note_captures(message)
            captured = message["parent_header"].get("msg_id") in self.captured_by_widget.values()
            if not (captured and message["msg_type"] in CAPTURED_MESSAGES):
                return message

    def _note_captures(self, message):
        """Follow which requests' outputs the Output widgets claim: they say so in their state's `msg_id`."""
        if message["msg_type"] in ("comm_open", "comm_msg"):
            state = message["content"]["data"].get("state", {})
            if "msg_id" in state:
                self.captured_by_widget[message["content"]["comm_id"]] = state["msg_id"] or None

    def collect(self):
        for cell in super().collect():
            chapter_cell = ChapterCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )
            chapter_cell.add_marker("notebook")
            yield chapter_cell


class ChapterCell(IPyNbCell):
    """A code cell: passes if it runs and its outputs say what the stored ones say."""

    def compare_outputs(self, test, ref, skip_compare=None):
        self.comparison_traceback = differences(stored=ref, new=test)
        return not self.comparison_traceback

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, RuntimeError):
            return f"{self.path.name}, {self.name}: {excinfo.value}"
        return super().repr_failure(excinfo)


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Take every notebook over from nbval, also where somebody asks for it with --nbval."""
    config.option.nbval = config.option.nbval_lax = False
    use_folders_beside_the_checkout()
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        fill_numba_cache()  # once, before the workers start


def use_folders_beside_the_checkout():
    """Point to recordings and weights there, before anything imports librosa, which looks once; kernels inherit it."""
    root = repository_root()
    for variable, name in BESIDE_THE_CHECKOUT.items():
        if root is not None and (folder := root.parent / "shared" / name).is_dir():
            os.environ.setdefault(variable, str(folder))


def pytest_collect_file(file_path, parent):
    """Collect a notebook, unless it is an assignment: those are executed by their own tests."""
    if file_path.suffix == ".ipynb" and not SKIPPED_FOLDERS & set(file_path.parts):
        return ChapterFile.from_parent(parent, path=file_path)


def pytest_terminal_summary(terminalreporter):
    """Say at the end how long each chapter took."""
    seconds = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            chapter, _, cell = getattr(report, "nodeid", "").partition("::")
            if cell and chapter.endswith(".ipynb"):
                seconds[chapter] = seconds.get(chapter, 0.0) + getattr(report, "duration", 0.0)
    if seconds:
        terminalreporter.section("seconds of each chapter")
        for chapter in sorted(seconds):
            terminalreporter.write_line(f"{seconds[chapter]:8.1f} s  {chapter}")
