"""`course release NN [--seed S] [-o OUT]`: a student version of an assignment.

The source notebook says everything in its cells' text: `# TASK 1 (3 points): title`, `# CHECK 1`, `# VARIATION`,
`<!-- TASK 6 (4 points): title -->`, and the regions of solutions, hidden tests and rubrics. A release takes the
regions out, writes the constants that belong to its seed, and adds nbgrader's metadata. The markers stay in the
students' cells, so that grading finds them again whatever a notebook editor does to metadata.
"""

import argparse
import ast
import hashlib
import io
import json
import re
import secrets
import time
import tokenize
from dataclasses import dataclass, replace
from pathlib import Path

from course_lib.paths import data_dir, repository_root

MARKER = re.compile(r"^(?:#|<!--) TASK (?P<task>\d+) \((?P<points>\d+) points?\): (?P<title>.+?)\s*(?:-->)?$")
CHECK_MARKER = re.compile(r"^# CHECK (?P<task>\d+)\s*$")
VARIATION_MARKER = re.compile(r"^# VARIATION\b")
EXPORTED_MODULE = re.compile(r"^#\| default_exp (\w+)", re.MULTILINE)
SOLUTION = re.compile(r"^(?P<indent>[ \t]*)### BEGIN SOLUTION.*?### END SOLUTION[^\n]*", re.DOTALL | re.MULTILINE)
HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS[^\n]*\n(?P<code>.*?)^[ \t]*### END HIDDEN TESTS[^\n]*\n?",
                    re.DOTALL | re.MULTILINE)
RUBRIC = re.compile(r"\s*<!-- BEGIN RUBRIC -->(?P<text>.*?)<!-- END RUBRIC -->[ \t]*", re.DOTALL)
REGION_MARKS = re.compile(r"(?:###|<!--) (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS|RUBRIC)")
PLAIN_CONSTANTS = (int, float, str, bool, tuple, list, dict, type(None))
NBGRADER_SCHEMA = 3


@dataclass(frozen=True)
class Cell:
    """One cell of an assignment.

    role: "task" (code the student writes), "check", "written" (Markdown the student writes), "variation" or "given".
    source: what the teacher wrote; released: what the student gets. task, points: 0 where the role has none.
    """

    key: str
    kind: str
    role: str
    source: str
    released: str
    task: int = 0
    points: int = 0
    title: str = ""

    @property
    def visible_code(self) -> str:
        """The checks that students see."""
        return HIDDEN.sub("", self.source)

    @property
    def hidden_code(self) -> str:
        """The hidden tests, in their order."""
        return "\n".join(match["code"] for match in HIDDEN.finditer(self.source))

    @property
    def rubric(self) -> str:
        """What a written answer is marked by."""
        return "\n".join(match["text"].strip() for match in RUBRIC.finditer(self.source))


@dataclass(frozen=True)
class Release:
    """An assignment with the constants of one seed: all that grading needs."""

    name: str
    seed: str
    cells: tuple[Cell, ...]
    chapter_module: str | None  # the chapter's own module, such as "spectral": holds the answers

    @property
    def tasks(self) -> tuple[Cell, ...]:
        """The cells that students fill in, in order."""
        return tuple(cell for cell in self.cells if cell.role in ("task", "written"))

    @property
    def hidden_seed(self) -> str:
        """The seed of the hidden tests' data."""
        return hashlib.sha256(f"hidden tests of {self.name}, {self.seed}".encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Changes with the seed and with every change of the source."""
        text = json.dumps([self.name, self.seed, [(cell.key, cell.source, cell.released) for cell in self.cells]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def student_notebook(self) -> dict:
        """The student version as a notebook's JSON (format 4.5), with nbgrader's metadata."""
        return notebook_of([{"cell_type": cell.kind, "id": cell.key, "source": cell.released,
                             "metadata": {"nbgrader": nbgrader_metadata(cell)}} for cell in self.cells])


def notebook_of(cells: list[dict]) -> dict:
    """A notebook with these cells, no outputs, for the course's kernel."""
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}}


def nbgrader_metadata(cell: Cell) -> dict:
    """A cell's metadata in nbgrader's schema 3: a code task is graded by its check, a written one by hand."""
    graded, solution = cell.role in ("check", "written"), cell.role in ("task", "written")
    metadata = {"schema_version": NBGRADER_SCHEMA, "grade_id": cell.key, "grade": graded, "solution": solution,
                "locked": not solution, "task": False}
    return {**metadata, "points": cell.points} if graded else metadata


def load_release(path: Path, seed: int | str = 0, chapters: Path | None = None) -> Release:
    """The release of the source notebook at `path` (.ipynb) with `seed`.

    chapters: where the chapter of the same number is, whose module holds the answers; default the folder above.
    ValueError names the cell that does not follow the rules; FileNotFoundError where there is no notebook.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such assignment")
    cells = [_parse(number, cell, path.name) for number, cell in enumerate(read_cells(path), start=1)]
    points = {cell.task: cell.points for cell in cells if cell.role == "task"}
    cells = [replace(cell, points=points.get(cell.task, 0)) if cell.role == "check" else cell for cell in cells]
    cells = [_released(cell, seed, path.name) for cell in cells]
    _check_order(cells, path.name)
    return Release(path.stem, str(seed), tuple(cells), _chapter_module(path, chapters or path.parent.parent))


def read_cells(path: Path) -> list[dict]:
    """A notebook's cells; each source as one text. ValueError where the file is no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name}: not a readable notebook ({type(error).__name__}: {error})") from None


def _parse(number: int, cell: dict, name: str) -> Cell:
    """The role of a source cell, from its first line."""
    source, kind = cell["source"], cell["cell_type"]
    first = source.lstrip().split("\n", 1)[0]
    if match := MARKER.match(first):
        task, points = int(match["task"]), int(match["points"])
        role = "written" if kind == "markdown" else "task"
        return Cell(f"task-{task}", kind, role, source, source, task, points, match["title"])
    if (match := CHECK_MARKER.match(first)) and kind == "code":
        return Cell(f"check-{match['task']}", kind, "check", source, source, int(match["task"]))
    if VARIATION_MARKER.match(first) and kind == "code":
        return Cell("variation", kind, "variation", source, source)
    if re.match(r"(#|<!--) *(TASK|CHECK)\b", first):
        raise ValueError(f"{name}, cell {number}: {first!r} is no marker; expected '# TASK 1 (3 points): title', "
                         "'# CHECK 1' or '<!-- TASK 6 (4 points): title -->'")
    return Cell(f"given-{number}", kind, "given", source, source)


def _released(cell: Cell, seed: int | str, name: str) -> Cell:
    """The cell with the text that students get."""
    text = cell.source
    if cell.role == "task":
        text, count = SOLUTION.subn(lambda m: f'{m["indent"]}raise NotImplementedError("task {cell.task}")', text)
        if not count:
            raise ValueError(f"{name}, task {cell.task}: no region from ### BEGIN SOLUTION to ### END SOLUTION")
    elif cell.role == "written":
        text = RUBRIC.sub("", text).rstrip()
    elif cell.role == "check":
        if not cell.hidden_code.strip():
            raise ValueError(
                f"{name}, check {cell.task}: no region from ### BEGIN HIDDEN TESTS to ### END HIDDEN TESTS"
            )
        text = cell.visible_code.rstrip()
    elif cell.role == "variation":
        text = constants_cell(text, seed, name)
    if found := REGION_MARKS.search(text):
        raise ValueError(f"{name}, {cell.key}: {found[0]!r} stands alone or in a cell of another kind")
    return replace(cell, released=text)


def _check_order(cells: list[Cell], name: str) -> None:
    """ValueError unless tasks are numbered from 1, each code task has its check after it,
    and there is one variation.
    """
    tasks = [cell for cell in cells if cell.role in ("task", "written")]
    if [cell.task for cell in tasks] != list(range(1, len(tasks) + 1)) or not tasks:
        raise ValueError(f"{name}: the tasks are numbered {[cell.task for cell in tasks]}; expected 1, 2, 3, ...")
    graded = [(cell.role, cell.task) for cell in cells if cell.role in ("task", "check")]
    expected = [(role, cell.task) for cell in tasks if cell.role == "task" for role in ("task", "check")]
    if graded != expected:
        raise ValueError(f"{name}: tasks and checks come as {graded}; expected each check after its task")
    if sum(cell.role == "variation" for cell in cells) > 1:
        raise ValueError(f"{name}: more than one cell begins with # VARIATION")


def _chapter_module(path: Path, chapters: Path) -> str | None:
    """The module that the chapter of the assignment's number exports, or None where there is no such chapter."""
    number = path.stem.split("_")[0]
    for text in sorted(chapters.glob(f"{number}_*.py")):
        if match := EXPORTED_MODULE.search(text.read_text(encoding="utf8")):
            return match[1]
    return None


def constants_cell(source: str, seed: int | str, name: str) -> str:
    """The variation cell for students: each constant with its value for `seed`, and no sign of the seed.

    The source assigns `seed = 0` and takes its values from `Variation(seed)`. Comments behind an assignment are kept.
    ValueError where the cell assigns no seed or a value that is not a plain constant.
    """
    tree = ast.parse(source)
    seeds = [node for node in tree.body if _assigned(node) == ["seed"] and isinstance(node.value, ast.Constant)]
    if len(seeds) != 1:
        raise ValueError(f"{name}, variation: expected one line `seed = 0` and `Variation(seed)`")
    seeds[0].value = ast.copy_location(ast.Constant(seed), seeds[0].value)
    namespace = {"__name__": "variation"}
    exec(compile(tree, f"{name}, variation", "exec"), namespace)
    comments, lines = _comments(source), ["# VARIATION: the constants of this assignment"]
    for node in tree.body:
        for constant in _assigned(node):
            value = namespace[constant]
            if constant == "seed" or type(value).__name__ == "Variation":
                continue
            if not _is_plain(value):
                raise ValueError(f"{name}, variation: {constant} is a {type(value).__name__}; expected numbers, texts "
                                 "and tuples, lists or dictionaries of them")
            comment = comments.get(node.end_lineno, "")
            lines.append(f"{constant} = {value!r}" + (f"  {comment}" if comment else ""))
    return "\n".join(lines)


def _assigned(node: ast.stmt) -> list[str]:
    """The names that an assignment binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _is_plain(value: object) -> bool:
    try:
        return isinstance(value, PLAIN_CONSTANTS) and ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False


def _comments(source: str) -> dict[int, str]:
    """The comment at the end of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def find_assignments(folder: Path | None = None) -> list[Path]:
    """The source notebooks of all assignments, in order. FileNotFoundError where the package has no checkout."""
    if folder is None:
        root = repository_root()
        if root is None:
            raise FileNotFoundError(
                "no assignments beside the installed package; run this in a clone of the repository"
            )
        folder = root / "chapters" / "assignments"
    return sorted(folder.glob("[0-9]*.ipynb"))


def find_assignment(word: str, folder: Path | None = None) -> Path:
    """The source notebook of an assignment, by number ("01", "1") or name.
    ValueError where there is not exactly one.
    """
    notebooks = find_assignments(folder)
    stem = Path(word).stem
    matches = [path for path in notebooks
               if path.stem == stem or path.stem.split("_")[0].lstrip("0") == stem.lower().lstrip("0")]
    if len(matches) != 1:
        there = ", ".join(path.stem for path in matches or notebooks) or "none"
        raise ValueError(f"{word!r} names {len(matches)} assignments; there: {there}")
    return matches[0]


def records_folder() -> Path:
    """Where the seeds of this teacher's releases are kept; never committed."""
    folder = data_dir() / "releases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record_release(release: Release) -> None:
    """Remember the release, so that `course grade` finds its seed."""
    path = records_folder() / f"{release.name}.json"
    releases = [entry for entry in recorded_releases(release.name) if entry["seed"] != release.seed]
    releases.append({"seed": release.seed, "fingerprint": release.fingerprint, "date": time.strftime("%Y-%m-%d %H:%M")})
    path.write_text(json.dumps(releases, indent=1) + "\n", encoding="utf8")


def recorded_releases(name: str) -> list[dict]:
    """The releases of an assignment made on this machine, the latest one last."""
    path = records_folder() / f"{name}.json"
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else []


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course release`."""
    parser.add_argument("assignment", metavar="NN", help="the assignment by number or name, such as 01")
    parser.add_argument("--seed", metavar="S", help="chooses constants and hidden data (default: a new secret one)")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", default=Path("release"),
                        help="folder for the student version (default: %(default)s)")


def main(arguments: argparse.Namespace) -> int:
    """Run `course release`."""
    source = find_assignment(arguments.assignment)
    release = load_release(source, arguments.seed if arguments.seed is not None else secrets.token_hex(8))
    target = arguments.output / f"{release.name}.ipynb"
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the source itself; choose another folder with -o")
    arguments.output.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(release.student_notebook(), ensure_ascii=False, indent=1) + "\n", encoding="utf8")
    record_release(release)
    points = sum(cell.points for cell in release.tasks)
    print(f"{target}: {len(release.tasks)} tasks, {points} points\n"
          f"Hand out this file. `course grade` on this machine knows its seed; elsewhere add --seed {release.seed}")
    return 0
