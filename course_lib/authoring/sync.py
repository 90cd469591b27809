"""`course sync`: bring text and notebook of chapters and assignments into step and export the library; execute nothing.

Also what other commands need of the same: which notebooks a reader means, and which depend on which.
"""

import argparse
import ast
import re
from collections.abc import Iterable
from pathlib import Path

from course_lib import catalogue
from course_lib.authoring.readme import write_readme

PERCENT_SCRIPT = "py:percent"
ASSIGNMENTS = "assignments"
EXPORT_TARGET = re.compile(r"#\|\s*default_exp\s+(\w+)")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course sync`."""
    parser.add_argument(
        "chapters",
        nargs="*",
        metavar="NN",
        help="chapters by number or name, such as 01 or 08b; assignments as assignments/01 (default: all of both)",
    )
    parser.add_argument("--dependents", action="store_true",
                        help="also the chapters and assignments that import what these export, and name them")


def main(arguments: argparse.Namespace) -> int:
    """What `course sync` does; its exit status."""
    root = catalogue.checkout()
    if arguments.chapters:
        chosen = find_notebooks(root, arguments.chapters)
    else:
        chosen = [*find_notebooks(root), *catalogue.written(root, f"chapters/{ASSIGNMENTS}")]
    after = dependents(root, chosen) if arguments.dependents else []
    for path in [*chosen, *after]:
        synchronise(path)
    export_library(root)
    write_readme(root)
    print(f"{len(chosen) + len(after)} pairs are in step, course_lib is what the chapters export")
    print_dependents(root, chosen)
    return 0


def find_notebooks(root: Path, wanted: Iterable[str] | None = None) -> list[Path]:
    """The chapters and assignments that are `wanted`, in that order; None: every chapter.

    wanted: numbers ('01', '1', '08b'), names ('01_stft_and_masks') or files; of an assignment, any of these in a folder
    assignments/. Each as its .ipynb, or its .py where there is no other yet. ValueError for one that does not exist.
    """
    if wanted is None:
        return catalogue.written(root)
    found = []
    for word in wanted:
        assignment = ASSIGNMENTS in Path(word).parts[:-1]
        there = catalogue.written(root, f"chapters/{ASSIGNMENTS}" if assignment else "chapters")
        name = catalogue.match(word, [path.stem for path in there], ASSIGNMENTS if assignment else "chapters")
        found.append(next(path for path in there if path.stem == name))
    return list(dict.fromkeys(found))


def is_assignment(path: Path) -> bool:
    """Whether a notebook is an assignment's source, which stores no outputs and exports nothing."""
    return path.parent.name == ASSIGNMENTS


def module_file(root: Path, path: Path) -> Path | None:
    """The module that a chapter's notebook or text exports to (`#| default_exp`), None where it has none."""
    if is_assignment(path):
        return None
    file = next(filter(Path.exists, (path.with_suffix(suffix) for suffix in (".py", ".ipynb"))), None)
    named = EXPORT_TARGET.search(file.read_text(encoding="utf8")) if file else None
    return root / "course_lib" / f"{named[1]}.py" if named else None


def synchronise(path: Path) -> None:
    """Bring a pair into step: the newer of .ipynb and .py wins, a missing one is made (jupytext --sync)."""
    import jupytext.cli

    options = (["--from", PERCENT_SCRIPT] if path.suffix == ".py" else []) + ["--quiet", "--sync"]
    status = jupytext.cli.jupytext([*options, str(path)])
    if status or not all(path.with_suffix(suffix).exists() for suffix in (".ipynb", ".py")):
        raise ValueError(f"{path.name}: jupytext could not pair it; is jupytext.toml there, is it in chapters/?")


def export_library(root: Path) -> None:
    """Write the library's modules from all chapters of the checkout `root` (nbdev-export)."""
    from nbdev.doclinks import nbdev_export

    nbdev_export(path=str(root / "chapters"))


def dependents(root: Path, changed: Iterable[Path]) -> list[Path]:
    """The chapters and assignments that import what the `changed` chapters export, directly or through the library."""
    changed = list(changed)
    targets = {file.stem for path in changed if (file := module_file(root, path)) is not None}
    importers = _importers(root, {f"course_lib.{name}" for name in targets})
    others = [*catalogue.written(root), *catalogue.written(root, f"chapters/{ASSIGNMENTS}")]
    return [path for path in others if path not in changed and importers & _imports(path.with_suffix(".py"))]


def print_dependents(root: Path, changed: Iterable[Path]) -> None:
    """Say which further chapters may give other outputs now."""
    names = [f"{ASSIGNMENTS}/{path.stem}" if is_assignment(path) else path.stem for path in dependents(root, changed)]
    if names:
        print(f"they stand on what was exported, so run them if that changed: course run {' '.join(names)}")


def _importers(root: Path, modules: set[str]) -> set[str]:
    """The modules of course_lib that import one of `modules`, through however many others, and these themselves."""
    package = root / "course_lib"
    imports = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        imports[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = _imports(file)
    found, size = set(modules), -1
    while len(found) != size:
        size = len(found)
        found |= {name for name, imported in imports.items() if imported & found}
    return found


def _imports(file: Path) -> set[str]:
    """What a Python text imports, as full names: of `from a.b import c` both a.b and a.b.c."""
    if not file.exists():
        return set()
    try:
        tree = ast.parse(file.read_text(encoding="utf8"))
    except SyntaxError:                                         # a text with shell lines or an error in it
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
