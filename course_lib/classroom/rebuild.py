"""Intake: a submission's answers on the skeleton of its release, whatever became of the notebook on the way.

Students' editors lose metadata (Colab), cells are copied, deleted, moved and edited. So cells are found by the marker
in their first line, then by nbgrader's grade_id, then by the cell's id, then by what they define or say. Only task and
written cells are taken from the submission; all others come from the release. Cells that belong to none stay, in their
place. Every repair is listed for the teacher.
"""

import ast
import base64
import binascii
import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from course_lib.classroom.release import CHECK_MARKER, MARKER, VARIATION_MARKER, Cell, Release
from course_lib.classroom.texts import all_storable, name_of

LARGEST_NOTEBOOK = 200 * 2**20  # bytes; outputs included
# What of a student's outputs goes to whoever marks a written answer.
OUTPUT_CHARACTERS, OUTPUT_CELLS, PICTURES, PICTURE_BYTES = 6000, 40, 20, 3 * 2**20
PICTURE_KINDS = {"image/png": ("png", b"\x89PNG"), "image/jpeg": ("jpg", b"\xff\xd8\xff")}
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
SIMILAR = 0.8  # share of equal text from which two cells are one


@dataclass(frozen=True)
class RunCell:
    """A code cell as it will be executed: from the release (`cell`), or written by the student."""

    source: str
    cell: Cell | None  # None for a student's extra cell
    position: int  # its number in the submission, from 1; 0 where it was restored


@dataclass
class Rebuilt:
    """A submission on its skeleton: code cells in order, written answers by task, and the repairs made."""

    cells: list[RunCell] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    outputs: dict[int, list[dict]] = field(default_factory=dict)


def read_submission(path: Path) -> list[dict]:
    """The cells of a submitted notebook as {"cell_type", "source", "metadata", "id", "outputs"}; damaged ones as far as
    they go, and every text storable.

    ValueError, with the reason, where the file cannot be read as a notebook at all.
    """
    name = name_of(path.name)
    if path.stat().st_size > LARGEST_NOTEBOOK:
        raise ValueError(f"{name}: larger than {LARGEST_NOTEBOOK // 2**20} MB")
    try:
        notebook = all_storable(json.loads(path.read_bytes().decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not a readable notebook ({type(error).__name__}: {error})") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError(f"{name}: not a notebook of format 4 (it holds no list of cells)")
    return [_readable(cell) for cell in cells if isinstance(cell, dict)]


def _readable(cell: dict) -> dict:
    """A cell with every part of the expected type."""
    metadata, outputs = cell.get("metadata"), cell.get("outputs")
    return {"cell_type": str(cell.get("cell_type", "code")), "id": str(cell.get("id", "")),
            "source": _joined(cell.get("source", "")).replace("\r\n", "\n"),
            "metadata": metadata if isinstance(metadata, dict) else {},
            "outputs": [output for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []}


def _joined(text: object) -> str:
    """A text of a notebook, which may come in lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _shown_output(cell: dict) -> tuple[str, list[list[str]]]:
    """What stands below a code cell: its text, and its pictures as [ending, base64]; HTML and the rest left out."""
    texts, pictures = [], []
    for output in cell["outputs"]:
        data = output.get("data") if isinstance(output.get("data"), dict) else {}
        if output.get("output_type") == "stream":
            texts.append(_joined(output.get("text", "")))
        elif output.get("output_type") == "error":
            texts.append(f"{output.get('ename')}: {output.get('evalue')}")
        elif found := [kind for kind in PICTURE_KINDS if kind in data]:
            ending, beginning = PICTURE_KINDS[found[0]]
            text = "".join(_joined(data[found[0]]).split())
            try:
                decoded = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                decoded = b""
            if decoded.startswith(beginning) and len(decoded) <= PICTURE_BYTES:
                pictures.append([ending, text])
            else:
                texts.append("(a picture that can't be shown)")
        elif "text/plain" in data:
            texts.append(_joined(data["text/plain"]))
    text = TERMINAL_COLOURS.sub("", "\n".join(part.rstrip("\n") for part in texts))
    if len(text) > OUTPUT_CHARACTERS:
        text = (
            f"{text[: OUTPUT_CHARACTERS // 2]}\n... ({len(text) - OUTPUT_CHARACTERS:,} characters left out) ...\n"
            f"{text[-OUTPUT_CHARACTERS // 2 :]}"
        )
    return text, pictures


def rebuild(release: Release, submitted: list[dict]) -> Rebuilt:
    """Put the answers among the `submitted` cells on the release's skeleton."""
    return _Intake(release, submitted).result()


def _normal(text: str) -> str:
    """The text without regard to white space at line ends and around it."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _definitions(source: str) -> set[str]:
    return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.MULTILINE))


def _marker_key(cell: dict) -> str | None:
    """The key of the release's cell whose marker this cell begins with."""
    first = cell["source"].lstrip().split("\n", 1)[0].rstrip()
    if match := MARKER.match(first):
        return f"task-{match['task']}"
    if match := CHECK_MARKER.match(first):
        return f"check-{match['task']}"
    return "variation" if VARIATION_MARKER.match(first) else None


def _grade_id(cell: dict) -> str | None:
    nbgrader = cell["metadata"].get("nbgrader")
    return nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None


class _Intake:
    """The matching of one submission; `found` maps each of the release's keys to positions in the submission."""

    def __init__(self, release: Release, submitted: list[dict]):
        self.release, self.submitted, self.repairs = release, submitted, []
        self.found: dict[str, list[int]] = {cell.key: [] for cell in release.cells}
        self.extra: list[int] = []
        self.metadata_missing = not any(map(_grade_id, submitted))
        for position, cell in enumerate(submitted):
            self._by_name(position, cell)
        for cell in release.cells:
            if not self.found[cell.key]:
                self._by_content(cell)

    def _by_name(self, position: int, cell: dict) -> None:
        """File a cell under the marker in its text, its grade_id or its id; else among the extra ones."""
        kinds = {c.key: c.kind for c in self.release.cells}
        for key in (_marker_key(cell), _grade_id(cell), cell["id"]):
            if key in self.found and kinds[key] == cell["cell_type"]:
                self.found[key].append(position)
                return
        self.extra.append(position)

    def _by_content(self, cell: Cell) -> None:
        """Look for a cell of the release among those without a name: by what it defines, else by likeness."""
        candidates = [p for p in self.extra if self.submitted[p]["cell_type"] == cell.kind]
        names = _definitions(cell.source) if cell.role == "task" else set()
        hits = [p for p in candidates if names & _definitions(self.submitted[p]["source"])]
        if not hits and not names:
            hits = [p for p in candidates if self._alike(cell.released, self.submitted[p]["source"])]
        if hits:
            self.found[cell.key] = hits if cell.role == "task" else hits[-1:]
            self.extra = [p for p in self.extra if p not in self.found[cell.key]]
            if cell.role in ("task", "written"):
                self.repairs.append(f"{cell.key}: its first line (the marker) was gone; "
                                    f"found as cell {self.found[cell.key][-1] + 1}")

    @staticmethod
    def _alike(one: str, other: str) -> bool:
        one, other = _normal(one), _normal(other)
        if one == other:
            return True
        matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
        return max(len(one), len(other)) < 4000 and matcher.quick_ratio() > SIMILAR and matcher.ratio() > SIMILAR

    def result(self) -> Rebuilt:
        if self.metadata_missing:
            self.repairs.append("all cells: nbgrader's metadata was gone (Colab drops it)")
        chosen = {cell.key: self._choose(cell) for cell in self.release.cells}
        self._note_order(chosen)
        rebuilt, anchors = Rebuilt(repairs=self.repairs), self._extra_by_anchor(chosen)
        for position in anchors.pop(None, []):
            self._add_extra(rebuilt, position)
        for cell in self.release.cells:
            position = chosen[cell.key]
            for extra in anchors.pop(("before", cell.key), []):
                self._add_extra(rebuilt, extra)
            self._add(rebuilt, cell, position)
            for extra in anchors.pop(cell.key, []):
                self._add_extra(rebuilt, extra)
        rebuilt.outputs = self._outputs(chosen)
        return rebuilt

    def _outputs(self, chosen: dict[str, int | None]) -> dict[int, list[dict]]:
        """For each written task the code cells around it, up to the next tasks and checks, with their outputs."""
        roles = {cell.key: cell.role for cell in self.release.cells}
        borders = sorted(p for key, p in chosen.items() if p is not None and roles[key] in ("task", "check", "written"))
        found = {}
        for cell in self.release.tasks:
            if cell.role != "written":
                continue
            place = len(self.submitted) if (at := chosen[cell.key]) is None else at
            first = max((p for p in borders if p < place), default=-1)
            last = min((p for p in borders if p > place), default=len(self.submitted))
            cells, pictures_left = [], PICTURES
            for position in range(first + 1, last):
                one = self.submitted[position]
                if (
                    one["cell_type"] != "code"
                    or not (position in self.extra or one["outputs"])
                    or len(cells) == OUTPUT_CELLS
                ):
                    continue
                text, pictures = _shown_output(one)
                if not (one["source"].strip() or text):
                    continue
                cells.append({"position": position + 1, "source": one["source"][:OUTPUT_CHARACTERS], "text": text,
                              "pictures": pictures[:pictures_left]})
                pictures_left -= len(cells[-1]["pictures"])
            found[cell.task] = cells
        return found

    def _choose(self, cell: Cell) -> int | None:
        """The position of the cell to take, after noting what became of it."""
        positions = self.found[cell.key]
        changed = [p for p in positions if _normal(self.submitted[p]["source"]) != _normal(cell.released)]
        if len(positions) > 1:
            taken = "the last changed copy counts" if cell.role in ("task", "written") else "only the release's runs"
            self.repairs.append(f"{cell.key}: {len(positions)} copies (cells {[p + 1 for p in positions]}); {taken}")
        if not positions:
            if cell.role != "given" or cell.kind == "code":
                self.repairs.append(f"{cell.key}: deleted, restored from the release")
            return None
        if cell.role in ("task", "written"):
            return (changed or positions)[-1]
        if changed and (cell.role != "given" or cell.kind == "code"):
            self.repairs.append(f"{cell.key}: changed, restored from the release")
        return positions[0]

    def _note_order(self, chosen: dict[str, int | None]) -> None:
        positions = [p for p in chosen.values() if p is not None]
        if positions != sorted(positions):
            self.repairs.append("cells were moved; they run in the release's order")

    def _extra_by_anchor(self, chosen: dict[str, int | None]) -> dict:
        """The student's own cells by the cell of the release they come after; changed copies of an answer before it."""
        key_at, anchors, last = {p: key for key, p in chosen.items() if p is not None}, {}, None
        for cell in self.release.cells:
            if cell.role == "task":
                stale = [p for p in self.found[cell.key] if p != chosen[cell.key]
                         and _normal(self.submitted[p]["source"]) != _normal(cell.released)]
                anchors[("before", cell.key)] = stale
        for position in range(len(self.submitted)):
            last = key_at.get(position, last)
            if position in self.extra:
                anchors.setdefault(last, []).append(position)
        return anchors

    def _add(self, rebuilt: Rebuilt, cell: Cell, position: int | None) -> None:
        answer = None if position is None else self.submitted[position]["source"]
        if cell.role == "written":
            text = cell.released if answer is None else answer
            rebuilt.written[cell.task] = "" if _normal(text) == _normal(cell.released) else text
        elif cell.kind == "code":
            source = answer if cell.role == "task" and answer is not None else cell.released
            rebuilt.cells.append(RunCell(source, cell, 0 if position is None else position + 1))

    def _add_extra(self, rebuilt: Rebuilt, position: int) -> None:
        cell = self.submitted[position]
        if cell["cell_type"] != "code" or not cell["source"].strip():
            return
        wanted = {name: task.key for task in self.release.tasks for name in _definitions(task.source)}
        defined = sorted(_definitions(cell["source"]) & set(wanted))
        what = f" and defines {', '.join(f'{name} ({wanted[name]})' for name in defined)}" if defined else ""
        # an experiment of the student's own: it cannot change a score and may take minutes
        if self._all_checks_in(rebuilt):
            if defined:
                self.repairs.append(f"cell {position + 1}: not of the release, after the last check: not run{what}")
            return
        rebuilt.cells.append(RunCell(cell["source"], None, position + 1))
        self.repairs.append(f"cell {position + 1}: not of the release, runs in its place{what}")

    def _all_checks_in(self, rebuilt: Rebuilt) -> bool:
        """Whether the last check is already among the rebuilt cells."""
        checks = [cell.key for cell in self.release.cells if cell.role == "check"]
        return bool(checks) and any(run_cell.cell and run_cell.cell.key == checks[-1] for run_cell in rebuilt.cells)


def bound_names(source: str) -> set[str]:
    """The names that a cell's functions, classes and assignments bind at its top level (imports are left out)."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names
