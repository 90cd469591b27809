"""The graders of an assignment are graded: what the test file of each assignment checks in the same way.

tests/classroom/NN_topic/ holds what belongs to one assignment: `cases.py` its CASES (answers by imagined students, with
TAKEN), `test_assignment_NN.py` a class of `AssignmentChecks`, with tests of its own where it has any,
`test_rubric_NN.py` one of `RubricChecks` (two files of one name can't be collected from folders whose names begin with
a digit). Markers, points and the rubric's words come from the notebook. What was found is kept as
data/results/NN_topic/classroom.csv and rubric.csv; after a change of the assignment or the cases write both anew with
`COURSE_STORE_RESULTS=1 pytest tests/classroom/NN_topic`.

That grades every case, and classroom.json keeps a fingerprint of all that verdicts rest on. While it is the same, one
wrong answer in SHARE is graded again, besides the solution, the stub and the right answers, and one more seed is tried;
all of them where anything has changed, and with `COURSE_CASES=all`.
"""

import hashlib
import importlib
import json
import os
import re
import statistics
import sys
import time
from pathlib import Path

import pytest

from course_lib.classroom import edges
from course_lib.classroom.execute import Executor, Result, grade_notebook
from course_lib.classroom.failed_case import WITNESS, Witness, watched_asserts
from course_lib.classroom.overview import NUMBERS
from course_lib.classroom.release import Release, load_release
from course_lib.results import Results

ROOT = Path(__file__).resolve().parents[2]
STORE = bool(os.environ.get("COURSE_STORE_RESULTS"))
ALL_CASES = STORE or os.environ.get("COURSE_CASES") == "all"
SHARE = 8                       # no larger than the fewest wrong answers of a task, so that each task has one
HEADER = ["task", "kind", "name", "points", "of", "verdict"]
SEED = "classroom test"
OTHER_SEEDS = ["first", "second", "third"]
# How long a right answer may take, as a multiple of one that isn't filled in (about 0.3 s on one core, most of it for
# the process of its own): a ratio, as the machine may be busy otherwise.
TIMES_A_STUB = 8
SECONDS_ANYWAY = 3.0            # what is allowed on a machine that is busy otherwise, where a ratio says little
SLIPS = ("NameError", "SyntaxError", "IndentationError", "UnboundLocalError", "your cell:")
SECRETS = ("BEGIN SOLUTION", "HIDDEN", "RUBRIC", "Rubric", "hidden_variation", "Variation(", SEED)
SOLUTION, STUB = "the source notebook's solution", "not filled in"


def full_marks(kind: str) -> bool:
    """Whether an answer of this kind should get all points."""
    return kind in ("reference", "right")


def answers(release: Release, cases: dict) -> list[tuple[int, str, str, str | None]]:
    """(task, kind, name, source of the task cell) of every case; None: the cell as students get it."""
    found = []
    for cell in release.tasks:
        if cell.role == "task":
            found += [(cell.task, "reference", SOLUTION, cell.source), (cell.task, "stub", STUB, None)]
            found += [(cell.task, kind, name, source) for kind in ("right", "wrong")
                      for name, source in cases[cell.task][kind].items()]
    return found


def write_submission(path: Path, release: Release, sources: dict[int, str], further: str | None = None) -> Path:
    """A student's notebook in which the cells of some tasks are filled in,
    with a further code cell at the end if given.
    """
    notebook = release.student_notebook()
    for cell in notebook["cells"]:
        task = re.match(r"# TASK (\d+) ", cell["source"])
        if task and int(task[1]) in sources:
            cell["source"] = sources[int(task[1])]
    if further is not None:
        notebook["cells"].append({"cell_type": "code", "id": "mine", "metadata": {}, "source": further, "outputs": [],
                                  "execution_count": 1})
    path.write_text(json.dumps(notebook), encoding="utf8")
    return path


def points_of(result: Result, task: int) -> int:
    """What a submission got for one task."""
    return next(entry.points for entry in result.tasks if entry.task == task)


class AssignmentChecks:
    """The checks of one assignment: a subclass in its folder, named Test..., inherits them and reads all it needs.

    source: the assignment's name, that of the folder. cases: CASES of the cases.py there, each below its cell's first
    line.
    taken: (task, source of a task cell) that would be right, but takes its work from the chapter's module. The open
    task is the last one. Everything is graded once a class: keep a file's own tests in the class, so that they run in
    the process that has graded.
    """

    source: str
    cases: dict[int, dict[str, dict[str, str]]]
    taken: tuple[int, str]

    def __init_subclass__(cls):
        folder = Path(sys.modules[cls.__module__].__file__).parent
        cls.source = folder.name
        module = importlib.import_module(f"tests.classroom.{folder.name}.cases")
        first = {cell.task: cell.source.split("\n", 1)[0] for cell in cls.release().tasks if cell.role == "task"}
        assert list(first) == list(module.CASES), (
            f"{cls.source} has the code tasks {list(first)}, cases.py {list(module.CASES)}"
        )
        cls.cases = {task: {kind: {name: f"{first[task]}\n{source}" for name, source in answers.items()}
                            for kind, answers in kinds.items()} for task, kinds in module.CASES.items()}
        cls.taken = module.TAKEN[0], f"{first[module.TAKEN[0]]}\n{module.TAKEN[1].strip()}\n"

    @classmethod
    def release(cls, seed: str = SEED) -> Release:
        """The assignment with the constants of a seed."""
        return load_release(ROOT / "chapters" / "assignments" / f"{cls.source}.ipynb", seed)

    @classmethod
    def given_cell(cls, beginning: str) -> str:
        """What students get of the cell that begins so, such as "# EXPERIMENT"."""
        return next(cell.released for cell in cls.release().cells if cell.source.startswith(beginning))

    @classmethod
    def fingerprint(cls) -> str:
        """Of all that verdicts rest on: the assignment, the cases, the chapter's module, the grader and its checks."""
        release = cls.release()
        files = [*sorted((ROOT / "course_lib" / "classroom").glob("*.py")), Path(__file__),
                 ROOT / "course_lib" / f"{release.chapter_module}.py"]
        texts = [path.read_text(encoding="utf8") for path in files]
        texts += [repr(release), json.dumps([cls.cases, cls.taken])]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()

    @classmethod
    def changed(cls) -> bool:
        """Whether everything is to be graded: what verdicts rest on has changed since, or all cases are asked for."""
        return ALL_CASES or (Results(cls.source).card("classroom") or {}).get("fingerprint") != cls.fingerprint()

    @classmethod
    def chosen(cls) -> list[tuple[int, str, str, str | None]]:
        """The cases that are graded: all, or a share of the wrong answers where nothing has changed since all were."""
        every = answers(cls.release(), cls.cases)
        if cls.changed():
            return every
        wrong = [case for case in every if case[1] == "wrong"]
        kept = {case[:3] for case in wrong[int(cls.fingerprint(), 16) % SHARE::SHARE]}
        return [case for case in every if case[1] != "wrong" or case[:3] in kept]

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with Executor() as executor:
            yield executor

    @pytest.fixture(scope="class")
    @classmethod
    def graded(cls, tmp_path_factory, executor):
        """The chosen cases in turn: the rows of the table, and by case the graders' messages and the seconds."""
        folder, release = tmp_path_factory.mktemp("submissions"), cls.release()
        grade_notebook(release, write_submission(folder / "first.ipynb", release, {}), executor=executor)  # starts it
        rows, messages, seconds = [], {}, {}
        for number, (task, kind, name, source) in enumerate(cls.chosen()):
            path = write_submission(folder / f"{number}.ipynb", release, {} if source is None else {task: source})
            start = time.perf_counter()
            result = grade_notebook(release, path, executor=executor, only={task})
            seconds[task, kind, name] = time.perf_counter() - start
            outcome = next(entry for entry in result.tasks if entry.task == task)
            verdict = "accepted" if outcome.points == outcome.maximum else "caught"
            rows.append([str(task), kind, name, str(outcome.points), str(outcome.maximum), verdict])
            messages[task, kind, name] = outcome.message, result.tampering
        return rows, messages, seconds

    @classmethod
    def pytest_generate_tests(cls, metafunc):
        """One test for every case and every task."""
        if "case" in metafunc.fixturenames:
            names = [case[:3] for case in cls.chosen() if case[1] in ("right", "wrong")]
            metafunc.parametrize("case", names, ids=lambda case: f"{case[0]}, {case[1]}: {case[2]}")
        if "task" in metafunc.fixturenames:
            metafunc.parametrize("task", list(cls.cases))
        if "seed" in metafunc.fixturenames:
            one = int(cls.fingerprint(), 16) % len(OTHER_SEEDS)
            metafunc.parametrize("seed", OTHER_SEEDS if cls.changed() else OTHER_SEEDS[one:one + 1])

    def test_right_answers_get_full_marks_and_wrong_ones_less(self, case, graded):
        rows, messages, _seconds = graded
        points, of = next((int(row[3]), int(row[4])) for row in rows if (int(row[0]), row[1], row[2]) == case)
        assert (points == of) == full_marks(case[1]), messages[case]

    def test_the_solution_gets_full_marks_and_the_stub_none(self, task, graded):
        rows, messages, _seconds = graded
        points = {row[1]: (int(row[3]), int(row[4])) for row in rows if int(row[0]) == task}
        solved, of = points["reference"]
        assert solved == of > 0, messages[task, "reference", SOLUTION]
        assert points["stub"][0] == 0
        assert messages[task, "stub", STUB][0] == "not attempted"

    def test_nobody_is_accused(self, graded):
        """Honest answers, right or wrong, leave nothing in the list of tampering."""
        assert {case: tampering for case, (_message, tampering) in graded[1].items() if tampering} == {}

    def test_wrong_answers_fail_in_their_own_way(self, graded):
        """No wrong answer is caught because of a slip in the case itself: a name or a syntax that isn't there."""
        assert {case: message for case, (message, _tampering) in graded[1].items()
                if case[1] == "wrong" and any(slip in message for slip in SLIPS)} == {}

    def test_there_are_enough_cases(self, task):
        right, wrong = self.cases[task]["right"], self.cases[task]["wrong"]
        assert len(right) >= 2
        assert len(wrong) >= 8
        sources = [*right.values(), *wrong.values()]
        assert len(set(sources)) == len(sources), "two cases are the same"

    def test_stored_table_is_what_grading_gives(self, graded):
        rows, _messages, seconds = graded
        for row in rows:
            print(", ".join(row))
        print(f"{len(rows)} cases, {sum(seconds.values()) / len(rows):.2f} s each")
        rows = [dict(zip(HEADER, row)) for row in rows]
        if STORE:
            Results(self.source).write("classroom", rows)
            Results(self.source).write_card("classroom", self.card(len(rows)))
        graded_now = {(row["task"], row["kind"], row["name"]) for row in rows}
        stored = Results(self.source).rows("classroom")
        assert [row for row in stored if (row["task"], row["kind"], row["name"]) in graded_now] == rows, (
            f"{self.source}/classroom.csv is out of date; see the first lines of assignment_checks.py")
        assert len(stored) == len(answers(self.release(), self.cases))

    @classmethod
    def card(cls, cases: int) -> dict:
        """What the table of verdicts rests on."""
        return {"what": f"What the grader says of {cases} answers to the assignment of {cls.source}",
                "command": f"COURSE_STORE_RESULTS=1 uv run pytest tests/classroom/{cls.source}",
                "fingerprint": cls.fingerprint(), "tables": ["classroom"]}

    def test_grading_a_task_takes_little_time(self, task, graded):
        stubs = [seconds for (_task, kind, _name), seconds in graded[2].items() if kind == "stub"]
        right = [seconds for case, seconds in graded[2].items() if case[0] == task and full_marks(case[1])]
        assert statistics.median(right) < max(TIMES_A_STUB * statistics.median(stubs), SECONDS_ANYWAY)

    def test_other_releases(self, seed, tmp_path, executor):
        """With other constants and hidden data all the solutions together get all points,
        and so do other right answers.
        """
        release = self.release(seed)
        solutions = {cell.task: cell.source for cell in release.tasks if cell.role == "task"}
        automatic = sum(cell.points for cell in release.tasks if cell.role == "task")
        alternatives = {task: next(iter(cases["right"].values())) for task, cases in self.cases.items()}
        for name, sources in (("solutions", solutions), ("alternatives", alternatives)):
            path = write_submission(tmp_path / f"{name}.ipynb", release, sources)
            result = grade_notebook(release, path, executor=executor)
            assert result.points == result.maximum == automatic, [(task.task, task.message) for task in result.tasks]
            assert not result.tampering and not result.notes
        result = grade_notebook(release, write_submission(tmp_path / "untouched.ipynb", release, {}), executor=executor)
        assert result.points == 0
        constants = next(cell.released for cell in release.cells if cell.role == "variation")
        assert constants != next(cell.released for cell in self.release().cells if cell.role == "variation")

    def test_assignment_is_complete(self):
        """Every task but the last is the machine's, the introduction counts right,
        and nothing secret is in the student's version.
        """
        release = self.release()
        assert [cell.task for cell in release.tasks] == [*self.cases, len(self.cases) + 1]
        assert [cell.role for cell in release.tasks] == ["task"] * len(self.cases) + ["written"]
        points = sum(cell.points for cell in release.tasks)
        first = (
            f"{NUMBERS[len(release.tasks)].capitalize()} tasks, {points} points. "
            f"{NUMBERS[len(self.cases)].capitalize()} ask for a short"
        )
        assert first in release.cells[0].source.replace("\n", " ")
        text = json.dumps(release.student_notebook(), ensure_ascii=False)
        rubric = [line.strip() for line in release.tasks[-1].rubric.splitlines() if len(line.strip()) > 25]
        assert rubric
        for secret in (*SECRETS, *(json.dumps(line, ensure_ascii=False)[1:-1] for line in rubric)):
            assert secret not in text, secret
        solutions = sum(cell.source.count("### BEGIN SOLUTION") for cell in release.tasks)
        instructions = release.cells[0].source.count("raise NotImplementedError(")
        assert text.count("raise NotImplementedError(") == solutions + instructions

    def test_hidden_tests_meet_every_edge(self, task):
        """Zeros inside, short, tiny, huge, another type: each is tested by a call of the student's function,
        or left out with a reason.
        """
        release, names = self.release(), {WITNESS: Witness()}
        for cell in release.cells:
            if cell.role in ("given", "variation", "task") and cell.kind == "code":
                exec(compile(cell.source, cell.key, "exec"), names)
            if (cell.role, cell.task) == ("task", task):
                # name: parameters
                asked_for = dict(re.findall(r"^def (\w+)\((.*?)\)", cell.source, re.MULTILINE | re.DOTALL))
            if (cell.role, cell.task) == ("check", task):
                break

        def noting(function):
            def noted(*arguments, **options):
                edges.noted().append(("call", ""))
                return function(*arguments, **options)
            return noted

        names.update({name: noting(names[name]) for name in asked_for})
        exec(compile(cell.visible_code, cell.key, "exec"), names)
        edges.forget()
        exec(compile(watched_asserts(cell.hidden_code), cell.key, "exec"), names)
        said = edges.noted()
        tested = {edge for (edge, reason), after in zip(said, said[1:]) if not reason and after[0] == "call"} - {"call"}
        left_out = {edge for edge, reason in said if reason}
        assert tested | left_out == set(edges.EDGES), f"not met: {set(edges.EDGES) - tested - left_out}"
        assert not tested & left_out
        assert len(tested) >= 3 or not any(asked_for.values()), (
            "most edges are left out of a function that is given data"
        )

    def test_the_chapters_own_functions_do_not_count(self, tmp_path, executor):
        """An answer that would be right, but takes its work from the chapter's module, gets no points and is named."""
        release, (task, source) = self.release(), self.taken
        result = grade_notebook(
            release, write_submission(tmp_path / "taken.ipynb", release, {task: source}), executor=executor
        )
        assert points_of(result, task) == 0
        assert any(f"course_lib.{release.chapter_module}" in sentence for sentence in result.tampering)

    def test_experiments_after_the_last_check_are_not_run(self, tmp_path, executor):
        """A student's cells for the open task may take minutes and read songs: grading leaves them alone,
        and accuses nobody.
        """
        release = self.release()
        path = write_submission(
            tmp_path / "experiment.ipynb",
            release,
            {1: next(iter(self.cases[1]["right"].values()))},
            further="open('scores.csv', 'w').write('no grading here')\nwhile True: pass",
        )
        result = grade_notebook(release, path, executor=executor)
        assert result.points == release.tasks[0].points
        assert (result.tampering, result.notes, result.repairs) == ([], [], [])
