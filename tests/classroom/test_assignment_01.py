"""The graders of assignment 1 are graded: every right answer gets full marks, every wrong one less.

The answers are in cases_01.py; they are graded by what `course grade` uses. The table of what was found is kept as
data/results/classroom_01.csv; after a change of the assignment or the cases write it anew with
`COURSE_STORE_RESULTS=1 pytest tests/classroom/test_assignment_01.py`.
"""

import csv
import json
import math
import os
import re
import time
from pathlib import Path

import pytest
import torch
from cases_01 import CASES

from course_lib.classroom.execute import Executor, grade_notebook
from course_lib.classroom.release import load_release

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "chapters" / "assignments" / "01_stft_and_masks.ipynb"
TABLE = ROOT / "data" / "results" / "classroom_01.csv"
HEADER = ["task", "kind", "name", "points", "of", "verdict"]
SEED = "classroom test"
OTHER_SEEDS = ["first", "second", "third"]
SECONDS_A_CASE = 1.5  # of wall clock; 0.3 alone on one core, with room for a machine that is busy otherwise


def full_marks(kind: str) -> bool:
    """Whether an answer of this kind should get all points."""
    return kind in ("reference", "right")


def answers(release) -> list[tuple[int, str, str, str | None]]:
    """(task, kind, name, source of the task cell) of every case; None: the cell as students get it."""
    found = []
    for cell in release.tasks:
        if cell.role == "task":
            found += [(cell.task, "reference", "the source notebook's solution", cell.source),
                      (cell.task, "stub", "not filled in", None)]
            found += [(cell.task, kind, name, source) for kind in ("right", "wrong")
                      for name, source in CASES[cell.task][kind].items()]
    return found


def write_submission(path: Path, release, sources: dict[int, str]) -> Path:
    """A student's notebook in which the cells of some tasks are filled in."""
    notebook = release.student_notebook()
    for cell in notebook["cells"]:
        task = re.match(r"# TASK (\d+) ", cell["source"])
        if task and int(task[1]) in sources:
            cell["source"] = sources[int(task[1])]
    path.write_text(json.dumps(notebook), encoding="utf8")
    return path


@pytest.fixture(scope="module")
def executor():
    with Executor() as executor:
        yield executor


@pytest.fixture(scope="module")
def graded(tmp_path_factory, executor):
    """All cases after each other: the rows of the table, the graders' messages by case, and seconds a case."""
    folder, release = tmp_path_factory.mktemp("submissions"), load_release(SOURCE, SEED)
    grade_notebook(release, write_submission(folder / "first.ipynb", release, {}), executor=executor)     # starts it
    rows, messages, start = [], {}, time.perf_counter()
    for number, (task, kind, name, source) in enumerate(answers(release)):
        path = write_submission(folder / f"{number}.ipynb", release, {} if source is None else {task: source})
        result = grade_notebook(release, path, executor=executor, only={task})
        outcome = next(entry for entry in result.tasks if entry.task == task)
        verdict = "accepted" if outcome.points == outcome.maximum else "caught"
        rows.append([str(task), kind, name, str(outcome.points), str(outcome.maximum), verdict])
        messages[task, kind, name] = outcome.message, result.tampering
    return rows, messages, (time.perf_counter() - start) / len(rows)


CASE_NAMES = [(task, kind, name) for task in CASES for kind in ("right", "wrong") for name in CASES[task][kind]]


@pytest.mark.parametrize("case", CASE_NAMES, ids=lambda case: f"{case[0]}, {case[1]}: {case[2]}")
def test_right_answers_get_full_marks_and_wrong_ones_less(case, graded):
    rows, messages, _seconds = graded
    points, of = next((int(row[3]), int(row[4])) for row in rows if (int(row[0]), row[1], row[2]) == case)
    assert (points == of) == full_marks(case[1]), messages[case]


@pytest.mark.parametrize("task", CASES)
def test_the_solution_gets_full_marks_and_the_stub_none(task, graded):
    rows, messages, _seconds = graded
    points = {row[1]: (int(row[3]), int(row[4])) for row in rows if int(row[0]) == task}
    solved, of = points["reference"]
    assert solved == of > 0, messages[task, "reference", "the source notebook's solution"]
    assert points["stub"][0] == 0
    assert messages[task, "stub", "not filled in"][0] == "not attempted"


def test_nobody_is_accused(graded):
    """Honest answers, right or wrong, leave nothing in the list of tampering."""
    assert {case: tampering for case, (_message, tampering) in graded[1].items() if tampering} == {}


def test_wrong_answers_fail_in_their_own_way(graded):
    """No wrong answer is caught because of a slip in the case itself: a name or a syntax that isn't there."""
    slips = ("NameError", "SyntaxError", "IndentationError", "UnboundLocalError", "your cell:")
    assert {case: message for case, (message, _tampering) in graded[1].items()
            if case[1] == "wrong" and any(slip in message for slip in slips)} == {}


def test_there_are_enough_cases():
    for task, cases in CASES.items():
        assert len(cases["right"]) >= 2, f"task {task}"
        assert 8 <= len(cases["wrong"]) <= 15, f"task {task}"
        sources = [*cases["right"].values(), *cases["wrong"].values()]
        assert len(set(sources)) == len(sources), f"task {task}: two cases are the same"


def test_stored_table_is_what_grading_gives(graded):
    rows, _messages, seconds = graded
    for row in rows:
        print(", ".join(row))
    print(f"{len(rows)} cases, {seconds:.2f} s each")
    if os.environ.get("COURSE_STORE_RESULTS"):
        with TABLE.open("w", newline="", encoding="utf8") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    with TABLE.open(newline="", encoding="utf8") as file:
        assert list(csv.reader(file)) == [HEADER, *rows], f"{TABLE.name} is out of date; see this file's first lines"


def test_a_case_takes_little_time(graded):
    assert graded[2] < SECONDS_A_CASE


@pytest.mark.parametrize("seed", OTHER_SEEDS)
def test_other_releases(seed, tmp_path, executor):
    """With other constants and hidden data all the solutions together get all points, and so do other right answers."""
    release = load_release(SOURCE, seed)
    solutions = {cell.task: cell.source for cell in release.tasks if cell.role == "task"}
    alternatives = {task: next(iter(cases["right"].values())) for task, cases in CASES.items()}
    for name, sources in (("solutions", solutions), ("alternatives", alternatives)):
        path = write_submission(tmp_path / f"{name}.ipynb", release, sources)
        result = grade_notebook(release, path, executor=executor)
        assert result.points == result.maximum == 24, [(task.task, task.message) for task in result.tasks]
        assert not result.tampering and not result.notes
    result = grade_notebook(release, write_submission(tmp_path / "untouched.ipynb", release, {}), executor=executor)
    assert result.points == 0
    constants = next(cell.released for cell in release.cells if cell.role == "variation")
    assert constants != next(cell.released for cell in load_release(SOURCE, SEED).cells if cell.role == "variation")


def experiment() -> dict:
    """What the given cell of task 7 defines."""
    cell = next(cell for cell in load_release(SOURCE, SEED).cells if cell.source.startswith("# EXPERIMENT"))
    namespace = {"torch": torch, "math": math}
    exec(cell.released, namespace)
    return namespace


def test_experiment_shows_that_strokes_and_tones_want_different_frames():
    """Task 7 can be answered with its cell: short strokes and close tones score best with different frame lengths."""
    rate, oracle_sdr = 8000, experiment()["oracle_sdr"]
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(4 * rate) / rate
    strokes = torch.randn(len(t), generator=generator) * torch.exp(-((t % 0.125) / 0.004))
    other_strokes = torch.randn(len(t), generator=generator) * torch.exp(-(((t + 0.0625) % 0.125) / 0.004))
    tones = [sum(torch.sin(2 * math.pi * f * t) for f in range(first, 3000, 40)) for first in (200, 220)]
    clicks = {n: float(oracle_sdr(torch.stack([strokes, other_strokes])[:, None], n).mean()) for n in (256, 4096)}
    notes = {n: float(oracle_sdr(torch.stack(tones)[:, None], n).mean()) for n in (256, 4096)}
    assert clicks[256] > clicks[4096] + 3
    assert notes[4096] > notes[256] + 3


def test_assignment_is_complete():
    """Six tasks for the machine, one to be marked by hand, and nothing secret in the student's version."""
    release = load_release(SOURCE, SEED)
    assert [cell.task for cell in release.tasks] == list(range(1, 8))
    assert [cell.role for cell in release.tasks] == ["task"] * 6 + ["written"]
    assert sum(cell.points for cell in release.tasks) == 30
    assert "drums peak earliest" in release.tasks[-1].rubric
    text = json.dumps(release.student_notebook())
    for secret in ("BEGIN SOLUTION", "HIDDEN", "RUBRIC", "Rubric", "hidden_variation", "Variation(", SEED):
        assert secret not in text, secret
    assert text.count("raise NotImplementedError(") == 6 + 1          # once more in the instructions


def test_the_chapters_own_functions_do_not_count(tmp_path, executor):
    """An answer that would be right, but takes its work from the chapter's module, gets no points and is named."""
    release = load_release(SOURCE, SEED)
    taken = """# TASK 4 (5 points): weighted overlap-add
from course_lib.spectral import overlap_add

def put_together(frames, window, hop_length):
    total = overlap_add(frames * window, hop_length)
    weights = overlap_add((window ** 2).expand(frames.shape[-2], len(window)), hop_length)
    known = weights >= 0.01 * weights.max()
    return total * known / torch.where(known, weights, 1)
"""
    result = grade_notebook(release, write_submission(tmp_path / "taken.ipynb", release, {4: taken}), executor=executor)
    assert next(task.points for task in result.tasks if task.task == 4) == 0
    assert any("spectral" in sentence for sentence in result.tampering)


def test_experiments_after_the_last_check_are_not_run(tmp_path, executor):
    """A student's cells for task 7 may take minutes and read songs: grading leaves them alone, and accuses nobody."""
    release = load_release(SOURCE, SEED)
    path = write_submission(tmp_path / "experiment.ipynb", release, {1: next(iter(CASES[1]["right"].values()))})
    notebook = json.loads(path.read_text(encoding="utf8"))
    source = "scores = [oracle_sdr(band_sources(0), 2 ** k) for k in range(8, 16)]\nwhile True: pass"
    notebook["cells"].append({"cell_type": "code", "id": "mine", "metadata": {}, "source": source, "outputs": [],
                              "execution_count": 1})
    path.write_text(json.dumps(notebook), encoding="utf8")
    result = grade_notebook(release, path, executor=executor)
    assert result.points == 2
    assert (result.tampering, result.notes, result.repairs) == ([], [], [])
