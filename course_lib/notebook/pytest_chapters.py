"""A pytest plugin that executes every notebook it meets, cell by cell, and compares the outputs with the stored ones.

It is nbval with three things changed: the comparison is the course's own (`course_lib.notebook.comparison`: numbers
within a small tolerance, sounds and pictures by their presence), a kernel that dies is noticed at once instead of at the
time limit, and kernels run this very Python with the variables of `course run`. pyproject.toml loads it for every
`pytest`; assignments are left to their own tests.
"""

import os
import time
from pathlib import Path
from queue import Empty

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel, start_new_kernel
from nbval.plugin import IPyNbCell, IPyNbFile

from course_lib.notebook.comparison import differences
from course_lib.notebook.run import kernel_environment

SKIPPED_FOLDERS = {"assignments", ".ipynb_checkpoints"}
SECONDS_BETWEEN_LOOKS = 2.0       # how soon a dead kernel is noticed


class WatchedKernel(RunningKernel):
    """A kernel of this Python that says so when it dies."""

    def __init__(self, folder: Path, startup_timeout: float):
        self.km, self.kc = start_new_kernel(
            startup_timeout=startup_timeout, kernel_name=CURRENT_ENV_KERNEL_NAME, cwd=str(folder),
            env=kernel_environment(), stderr=open(os.devnull, "w"),       # what a library says beside the notebook
        )
        self._ensure_iopub_up()

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
        self.kernel = WatchedKernel(self.path.parent, self.config.option.nbval_kernel_startup_timeout)

    def collect(self):
        for cell in super().collect():
            yield ChapterCell.from_parent(
                self, name=cell.name, cell_num=cell.cell_num, cell=cell.cell, options=cell.options)


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


def pytest_collect_file(file_path, parent):
    """Collect a notebook, unless it is an assignment: those are executed by their own tests."""
    if file_path.suffix == ".ipynb" and not SKIPPED_FOLDERS & set(file_path.parts):
        return ChapterFile.from_parent(parent, path=file_path)
