"""`course run`: execute chapters without a browser, store their outputs, or compare with what is stored.

For each chapter: bring the pair (.ipynb and .py) into step, export the library from all chapters, execute the notebook
from a fresh kernel in the folder chapters/, store the outputs. A chapter that fails is left exactly as it was stored.
"""

import argparse
import contextlib
import csv
import datetime
import math
import os
import platform
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from course_lib.notebook.comparison import differences, merge_streams
from course_lib.paths import data_dir, repository_root

CELL_SECONDS = 180  # time limit of one cell
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PERCENT_SCRIPT = "py:percent"
# What a stored cell keeps of its metadata: its tags, and what jupytext needs to give the text back unchanged.
KEPT_CELL_METADATA = ("tags", "lines_to_next_cell", "lines_to_end_of_cell_marker")
# The same in every chapter, whichever Python executed it; the filters tell jupytext to write no header into the text.
NOTEBOOK_METADATA = {
    "jupytext": {"cell_metadata_filter": "tags,-all", "main_language": "python", "notebook_metadata_filter": "-all"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
MINUTES_COLUMNS = ("chapter", "profile", "minutes", "seconds", "cpu_seconds", "threads", "cpu", "date")


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
    parser.add_argument("chapters", nargs="*", metavar="NN", help="chapters by number or name, such as 01 or 08b")
    parser.add_argument("--all", action="store_true", help="every chapter")
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
    folder = chapters_folder()
    if not arguments.all and not arguments.chapters:
        raise ValueError(
            "name the chapters to execute, such as `course run 01`, or take them all with `course run --all`"
        )
    chapters = find_chapters(folder, None if arguments.all else arguments.chapters)
    if arguments.check or arguments.variants:
        configurations = variants() if arguments.variants else {"this configuration": {}}
        return check_chapters(chapters, configurations, arguments.timeout)
    for chapter in chapters:
        synchronise(chapter)
    export_library(folder.parent)
    failed = 0
    for chapter in chapters:
        failed += not run_chapter(chapter.with_suffix(".ipynb"), arguments.profile, arguments.timeout)
    return 1 if failed else 0


def chapters_folder() -> Path:
    """The checkout's chapters/; FileNotFoundError where the package was installed without a checkout."""
    root = repository_root()
    if root is None:
        raise FileNotFoundError(
            "no chapters beside the installed package; run `course run` in a clone of the repository"
        )
    return root / "chapters"


def find_chapters(folder: Path, wanted: list[str] | None = None) -> list[Path]:
    """The chapters of `folder`, or those `wanted`, in their order: the .ipynb, or the .py where there is no other yet.

    wanted: numbers ('01', '1', '08b'), names ('01_stft_and_masks') or files. ValueError for one that does not exist.
    """
    stems = {path.stem for pattern in ("[0-9]*.ipynb", "[0-9]*.py") for path in folder.glob(pattern)}
    chosen = sorted(stems)
    if wanted is not None:
        chosen = [_match(word, sorted(stems), folder) for word in wanted]
    notebooks = [folder / f"{stem}.ipynb" for stem in dict.fromkeys(chosen)]
    return [path if path.exists() else path.with_suffix(".py") for path in notebooks]


def _match(word: str, stems: list[str], folder: Path) -> str:
    name = Path(word).stem
    matches = [stem for stem in stems if stem == name or stem.split("_")[0].lstrip("0") == name.lstrip("0").lower()]
    if len(matches) != 1:
        found = ", ".join(matches or stems) or "no chapters"
        raise ValueError(f"{word!r} names {len(matches)} chapters of {folder.name}/; there: {found}")
    return matches[0]


def synchronise(chapter: Path) -> None:
    """Bring a chapter's pair into step: the newer of .ipynb and .py wins, a missing one is made (jupytext --sync)."""
    import jupytext.cli

    options = (["--from", PERCENT_SCRIPT] if chapter.suffix == ".py" else []) + ["--quiet", "--sync"]
    status = jupytext.cli.jupytext([*options, str(chapter)])
    if status or not all(chapter.with_suffix(suffix).exists() for suffix in (".ipynb", ".py")):
        raise ValueError(f"{chapter.name}: jupytext could not pair it; is jupytext.toml there, is it in chapters/?")


def export_library(root: Path) -> None:
    """Write the library's modules from all chapters of the checkout `root` (nbdev-export)."""
    from nbdev.doclinks import nbdev_export

    nbdev_export(path=str(root / "chapters"))


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
    table = data_dir() / "results" / "minutes.csv"
    record_minutes(path.stem, profile, execution, table)
    write_minutes(path, table)
    print(f"{path.stem}: {execution.seconds:.1f} s ({execution.cpu_seconds:.1f} s of processor time)", flush=True)
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


def record_minutes(chapter: str, profile: str, execution: Execution, path: Path) -> None:
    """Put a chapter's time into the table at `path`, in place of what it held for this chapter and profile."""
    rows = []
    if path.exists():
        with path.open(encoding="utf8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row["chapter"], row["profile"]) != (chapter, profile)]
    rows.append(
        {
            "chapter": chapter,
            "profile": profile,
            "minutes": f"{execution.seconds / 60:.1f}",
            "seconds": f"{execution.seconds:.0f}",
            "cpu_seconds": f"{execution.cpu_seconds:.0f}",
            "threads": thread_count(),
            "cpu": processor_name(),
            "date": datetime.date.today().isoformat(),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, MINUTES_COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["chapter"], row["profile"])))


def minutes_text(chapter: str, table: Path) -> str:
    """How long a chapter runs in words, from the table of minutes: '1.5 minutes on 2 CPU cores, GPU not measured'.

    Rounded up to half minutes, so that it stays the same from one execution to the next.
    """
    measured = {}
    if table.exists():
        with table.open(encoding="utf8", newline="") as file:
            measured = {row["profile"]: row for row in csv.DictReader(file) if row["chapter"] == chapter}
    parts = []
    for profile, device in (("cpu", "CPU"), ("gpu", "GPU")):
        if row := measured.get(profile):
            minutes = max(0.5, math.ceil(float(row["seconds"]) / 30) / 2)
            where = f"on {row['threads']} CPU core{'s' * (row['threads'] != '1')}" if profile == "cpu" else "on a GPU"
            parts.append(f"{minutes:g} minute{'s' * (minutes != 1)} {where}")
        else:
            parts.append(f"{device} not measured")
    return ", ".join(parts)


def write_minutes(chapter: Path, table: Path) -> None:
    """Write a chapter's minutes between its marks, `<!-- minutes NN_topic -->...<!-- /minutes -->`.

    The marks stand in the chapter's header, in text and notebook alike, and in the README's list of chapters.
    """
    marked = re.compile(rf"(<!-- minutes {re.escape(chapter.stem)} -->).*?(<!-- /minutes -->)")
    words = minutes_text(chapter.stem, table)  # plain words, the same in a notebook's JSON
    readme = chapter.parent.parent / "README.md"
    for path in (chapter.with_suffix(".ipynb"), chapter.with_suffix(".py"), readme):  # the text stays the newer one
        if not path.exists():
            continue
        text = path.read_text(encoding="utf8")
        new = marked.sub(rf"\g<1>{words}\g<2>", text)
        if new != text:
            path.write_text(new, encoding="utf8", newline="\n")
    with contextlib.suppress(FileNotFoundError):
        os.utime(chapter.with_suffix(".py"))


def thread_count() -> int:
    """How many threads a chapter computes with: COURSE_THREADS or OMP_NUM_THREADS where set, else the usable cores."""
    for name in ("COURSE_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    usable = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(usable(0)) if usable else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name, such as 'AMD EPYC', as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
