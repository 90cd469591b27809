"""`course run`: execute chapters without a browser, store their outputs, or compare with what is stored.

For each chapter: bring the pair (.ipynb and .py) into step, export the library from all chapters, execute the notebook
from a fresh kernel in the folder chapters/, store the outputs. A chapter that fails is left as it was: its notebook and
its module are put back, what was edited in the text stays. An assignment is executed with its solutions; it stores no
outputs.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from course_lib import catalogue
from course_lib.authoring.comparison import differences, merge_streams
from course_lib.authoring.minutes import record_minutes, write_minutes
from course_lib.authoring.sync import (
    dependents,
    export_library,
    find_notebooks,
    is_assignment,
    module_file,
    print_dependents,
    synchronise,
)

CELL_SECONDS = 180  # time limit of one cell
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What a stored cell keeps of its metadata: its tags, and what jupytext needs to give the text back unchanged.
KEPT_CELL_METADATA = ("tags", "lines_to_next_cell", "lines_to_end_of_cell_marker")
# The same in every chapter, whichever Python executed it; the filters tell jupytext to write no header into the text.
NOTEBOOK_METADATA = {
    "jupytext": {"cell_metadata_filter": "tags,-all", "main_language": "python", "notebook_metadata_filter": "-all"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


class ChapterFailed(Exception):
    """A cell of a chapter raised an error, ran too long, or took its kernel down."""


@dataclass(frozen=True)
class Execution:
    """What came out of executing a chapter: the notebook with outputs, and what it took."""

    notebook: dict  # nbformat's NotebookNode
    seconds: float  # wall time, kernel start included
    cpu_seconds: float  # processor time of the kernel, all threads


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course run`."""
    parser.add_argument("chapters", nargs="*", metavar="NN",
                        help="chapters by number or name, such as 01 or 08b; assignments as assignments/01")
    parser.add_argument("--all", action="store_true", help="every chapter")
    parser.add_argument("--dependents", action="store_true",
                        help="after each chapter those that import what it exports, too")
    parser.add_argument("--check", action="store_true", help="compare with the stored outputs, write nothing")
    parser.add_argument(
        "--variants",
        action="store_true",
        help="--check with 1 and 2 threads, each with plain and with this machine's best vector code",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=CELL_SECONDS,
        metavar="S",
        help="time limit of a cell in seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--profile",
        choices=("cpu", "gpu"),
        default="cpu",
        help="sizes and steps; the stored outputs are those of cpu, so gpu only measures the minutes",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run `course run`; 0 where every chapter ran (and, with --check or --variants, gave its stored outputs)."""
    root = catalogue.checkout()
    if not arguments.all and not arguments.chapters:
        raise ValueError(
            "name the chapters to execute, such as `course run 01`, or take them all with `course run --all`"
        )
    chosen = find_notebooks(root, None if arguments.all else arguments.chapters)
    if arguments.dependents:
        chosen = list(dict.fromkeys([*chosen, *dependents(root, chosen)]))
    if arguments.check or arguments.variants:
        configurations = variants() if arguments.variants else {"this configuration": {}}
        return check_chapters(chosen, configurations, arguments.timeout)
    failed = 0
    for path in chosen:
        failed += not run_or_restore(root, path, arguments.profile, arguments.timeout)
    if not arguments.dependents:
        print_dependents(root, chosen)
    return 1 if failed else 0


def run_or_restore(root: Path, path: Path, profile: str, timeout: float) -> bool:
    """Sync, export, execute and store one notebook. If that fails, notebook and module are as they were: False.

    The text is the author's, and is never put back. It stays newer than the notebook, so that the next run takes it.
    """
    notebook, text = path.with_suffix(".ipynb"), path.with_suffix(".py")
    files = [notebook, *filter(None, [module_file(root, path)])]
    before = {file: file.read_bytes() if file.exists() else None for file in files}
    done = False
    try:
        synchronise(path)
        if is_assignment(notebook):
            done = run_assignment(notebook, timeout)
        else:
            export_library(root)
            done = run_chapter(notebook, profile, timeout)
        return done
    finally:
        if not done:
            for file, contents in before.items():
                if contents is None:
                    file.unlink(missing_ok=True)
                elif file.read_bytes() != contents:
                    file.write_bytes(contents)
            if text.exists():
                os.utime(text)


def execute(
    path: Path, *, profile: str = "cpu", timeout: float = CELL_SECONDS, environment: dict[str, str] | None = None
) -> Execution:
    """Execute the notebook at `path` from a fresh kernel of this Python, in its own folder.

    environment: variables set for the kernel on top of this process's. ChapterFailed names the cell that went wrong.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_manager_class=_kernel_manager_class(),
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
    )
    running = {"index": 0}
    client.on_cell_start = lambda cell, cell_index: running.update(index=cell_index)
    start, cpu_start = time.monotonic(), _children_cpu_seconds()
    try:
        client.execute(env=kernel_environment(profile, environment))
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise ChapterFailed(_failure(path, notebook, running["index"], error)) from error
    seconds = time.monotonic() - start
    return Execution(tidy(notebook), seconds, _children_cpu_seconds() - cpu_start)


def kernel_environment(profile: str = "cpu", extra: dict | None = None) -> dict[str, str]:
    """The variables a chapter is executed under: this process's, the profile, COURSE_EXECUTING=1 (no progress bars).

    MPLBACKEND is left out, so that the kernel draws inline whatever this process was told.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return {**inherited, "COURSE_EXECUTING": "1", "COURSE_PROFILE": profile, **(extra or {})}


def _kernel_manager_class():
    """A kernel manager whose kernels run this very Python, whatever kernels a user has installed under its name."""
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisPython(AsyncKernelManager):
        @property
        def kernel_spec(self):
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    return ThisPython


def _children_cpu_seconds() -> float:
    used = os.times()  # of the kernels that have ended; Windows does not count and gives 0
    return used.children_user + used.children_system


def _failure(path: Path, notebook, index: int, error: Exception) -> str:
    """Which cell failed, its source and what it said."""
    cell = notebook.cells[index]
    code_cells = [c for c in notebook.cells[: index + 1] if c.cell_type == "code"]
    said = [line for output in cell.get("outputs", []) if output.output_type == "error" for line in output.traceback]
    reason = ANSI_COLOUR.sub("", "\n".join(said)) or str(error)
    return (
        f"{path.stem}: code cell {len(code_cells)} (id {cell.get('id')}) failed; "
        f"the stored notebook is as it was.\n{_indented(cell.source)}\n\n{reason}"
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def tidy(notebook):
    """The executed `notebook` without what changes from execution to execution; returned, and changed in place."""
    notebook.metadata.clear()
    notebook.metadata.update(NOTEBOOK_METADATA)
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        cell.metadata.clear()
        cell.metadata.update(kept)
        if cell.cell_type == "code":
            cell.outputs = [_tidy_output(output) for output in merge_streams(cell.outputs)]
    return notebook


def _tidy_output(output):
    from nbformat import from_dict

    if output["output_type"] == "error":  # an error shown on purpose: without the machine's paths
        output = {**output, "traceback": [f"{output['ename']}: {output['evalue']}"]}
    return from_dict(output)


def run_chapter(path: Path, profile: str, timeout: float) -> bool:
    """Execute a chapter, store its outputs (profile cpu) and minutes; False, with the reason printed, if it failed."""
    print(f"{path.stem}: executing ...", flush=True)
    try:
        execution = execute(path, profile=profile, timeout=timeout)
    except ChapterFailed as error:
        print(error, file=sys.stderr)
        return False
    if profile == "cpu":
        store(execution.notebook, path)
    table = path.parent.parent / "data" / "results" / "minutes.csv"
    record_minutes(path.stem, profile, execution.seconds, execution.cpu_seconds, table)
    write_minutes(path, table)
    print(f"{path.stem}: {execution.seconds:.1f} s ({execution.cpu_seconds:.1f} s of processor time)", flush=True)
    return True


def run_assignment(path: Path, timeout: float) -> bool:
    """Execute an assignment with its solutions; nothing is stored. False, with the reason printed, if it failed."""
    print(f"assignment {path.stem}: executing ...", flush=True)
    try:
        execution = execute(path, timeout=timeout)
    except ChapterFailed as error:
        print(error, file=sys.stderr)
        return False
    print(f"assignment {path.stem}: {execution.seconds:.1f} s; every check passes with the solutions", flush=True)
    return True


def store(notebook, path: Path) -> None:
    """Write `notebook` to `path` in one step, so that a reader or an interruption never meets half a file."""
    import nbformat

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf8", newline="\n") as file:
            nbformat.write(notebook, file)
        mode = path.stat().st_mode if path.exists() else 0o644
        temporary.chmod(mode & 0o777)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if (text := path.with_suffix(".py")).exists():
        os.utime(text)  # the text stays the newer one: JupyterLab takes the cells from it


def variants() -> dict[str, dict[str, str]]:
    """The configurations in which stored outputs must hold: 1 and 2 threads, plain and best vector code."""
    import torch

    best = torch.backends.cpu.get_cpu_capability()  # 'AVX2', 'AVX512', 'NEON', ..., 'DEFAULT'
    if best == "DEFAULT":
        print("this machine has no vector code beyond the plain one: two configurations instead of four")
    found = {}
    for threads in ("1", "2"):
        counts = {name: threads for name in ("COURSE_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        for capability in dict.fromkeys(("DEFAULT", best)):
            found[f"{threads} thread{'s' if threads != '1' else ''}, {capability}"] = {
                **counts,
                "ATEN_CPU_CAPABILITY": capability.lower(),
            }
    return found


def check_chapters(chapters: list[Path], configurations: dict[str, dict[str, str]], timeout: float) -> int:
    """Execute chapters in each configuration and print where the outputs differ from the stored ones; 0 if nowhere."""
    failed = 0
    for chapter in chapters:
        if chapter.suffix != ".ipynb":
            raise FileNotFoundError(f"{chapter.name} has no notebook yet; make it with `course run {chapter.stem}`")
        if is_assignment(chapter):
            raise ValueError(
                f"assignments/{chapter.name} stores no outputs to compare with; leave out --check and --variants"
            )
        for name, environment in configurations.items():
            try:
                findings, seconds = compare_with_stored(chapter, timeout, environment)
            except ChapterFailed as error:
                findings, seconds = [str(error)], float("nan")
            print(
                f"{chapter.stem}, {name}: {'outputs differ' if findings else 'as stored'}, {seconds:.1f} s", flush=True
            )
            print("".join(f"  {line}\n" for line in findings), end="", flush=True)
            failed += bool(findings)
    return 1 if failed else 0


def compare_with_stored(path: Path, timeout: float, environment: dict[str, str]) -> tuple[list[str], float]:
    """Execute a chapter and compare: what differs, one line a finding with its cell, and the seconds it took.

    Cells tagged nbval-ignore-output are executed and not compared, as in the tests.
    """
    import nbformat

    stored = nbformat.read(path, as_version=4)
    execution = execute(path, timeout=timeout, environment=environment)
    findings, number = [], 0
    for old, new in zip(stored.cells, execution.notebook.cells, strict=True):
        if old.cell_type != "code":
            continue
        number += 1
        if "nbval-ignore-output" in old.metadata.get("tags", []):
            continue
        findings += [f"code cell {number} (id {old.id}), {line}" for line in differences(old.outputs, new.outputs)]
    return findings, execution.seconds
