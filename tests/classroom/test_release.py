"""What a release is: no solutions, no hidden tests, no seed, other constants with another seed, nbgrader's metadata."""

import json
import re

import pytest

from course_lib.classroom import Variation, hidden_variation, truth
from course_lib.classroom.release import constants_cell, find_assignment, find_assignments, load_release
from course_lib.classroom.variation import set_hidden_seed
from course_lib.cli import main
from tests.classroom import tiny_assignment as tiny

SEEDS = [f"seed {number}" for number in range(8)]
# nbgrader 0.9.6, nbgraderformat/v3.json: the keys a cell's metadata may have, and their types.
SCHEMA_3 = {"schema_version": int, "grade": bool, "locked": bool, "solution": bool, "task": bool, "grade_id": str,
            "points": int, "checksum": str, "cell_type": str}


@pytest.fixture
def source(tmp_path):
    return tiny.write_source(tmp_path)


def sources(release):
    return "\n".join(cell["source"] for cell in release.student_notebook()["cells"])


def test_students_get_no_solutions_no_hidden_tests_no_seed(source):
    text = sources(load_release(source, "a secret seed"))
    for secret in (
        "SOLUTION",
        "HIDDEN",
        "RUBRIC",
        "SECRET_OF_CHECK_1",
        "torch.cos",
        "sqrt",
        "2 points for",
        "seed",
        "Variation",
    ):
        assert secret not in text, secret
    assert 'raise NotImplementedError("task 1")' in text and '    raise NotImplementedError("task 2")' in text
    for marker in (
        "# TASK 1 (3 points): the window",
        "# CHECK 2",
        "# VARIATION",
        "<!-- TASK 3 (4 points): windows -->",
    ):
        assert marker in text


def test_constants_follow_the_seed(source):
    texts = {seed: sources(load_release(source, seed)) for seed in SEEDS}
    assert len(set(texts.values())) > 1 and texts[SEEDS[0]] == sources(load_release(source, SEEDS[0]))
    assert all(
        re.search(r"^n_fft = \d+  # samples of a window\nchannels = [2-5]$", text, re.MULTILINE)
        for text in texts.values()
    )


def test_notebook_is_valid_and_its_metadata_is_nbgraders(source):
    import nbformat

    notebook = load_release(source).student_notebook()
    nbformat.validate(nbformat.from_dict(notebook))
    identifiers = [cell["metadata"]["nbgrader"]["grade_id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    roles = {}
    for cell in notebook["cells"]:
        metadata = cell["metadata"]["nbgrader"]
        assert all(type(value) is SCHEMA_3[key] for key, value in metadata.items())
        assert {"schema_version", "grade", "locked", "solution"} <= metadata.keys() and metadata["schema_version"] == 3
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", metadata["grade_id"])
        assert ("points" in metadata) == metadata["grade"]
        assert cell["cell_type"] == "code" or metadata["grade"] == metadata["solution"]
        roles[metadata["grade_id"]] = (
            metadata["grade"],
            metadata["solution"],
            metadata["locked"],
            metadata.get("points"),
        )
    assert roles["task-1"] == (False, True, False, None) and roles["check-1"] == (True, False, True, 3)
    assert roles["task-3"] == (True, True, False, 4) and roles["variation"] == (False, False, True, None)


def test_nbgrader_itself_accepts_the_metadata(source, tmp_path):
    schema_3 = pytest.importorskip(
        "nbgrader.nbgraderformat.v3", reason="nbgrader is not installed: it would change the pinned JupyterLab"
    )
    import nbformat

    schema_3.MetadataValidatorV3().validate_nb(nbformat.from_dict(load_release(source).student_notebook()))


BROKEN = {
    "no solution": (4, "### BEGIN SOLUTION", "", "no region from ### BEGIN SOLUTION"),
    "no hidden tests": (5, "### BEGIN HIDDEN TESTS", "", "no region from ### BEGIN HIDDEN TESTS"),
    "bad marker": (4, "(3 points)", "3 points", "no marker"),
    "bad number": (6, "# TASK 2", "# TASK 7", r"numbered \[1, 7, 3\]"),
    "check of another task": (7, "# CHECK 2", "# CHECK 1", "each check after its task"),
    "no seed": (2, "seed = 0", "seed = int(0)", "expected one line `seed = 0`"),
    "not a constant": (
        2,
        'channels = variation.integer("channels", 2, 5)',
        "g = variation.generator('g')",
        "g is a Generator",
    ),
    "unclosed rubric": (8, "<!-- END RUBRIC -->", "", "BEGIN RUBRIC"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_source_that_breaks_the_rules_is_refused_by_name(tmp_path, name):
    number, old, new, complaint = BROKEN[name]
    cells = list(tiny.CELLS)
    cells[number] = (cells[number][0], cells[number][1].replace(old, new))
    assert cells != tiny.CELLS
    with pytest.raises(ValueError, match=complaint):
        load_release(tiny.write_source(tmp_path, cells))


def test_command_writes_the_student_version_and_remembers_the_seed(tmp_path, monkeypatch, capsys, source):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(
        "course_lib.classroom.release.find_assignment", lambda word: find_assignment(word, source.parent)
    )
    assert main(["release", "99", "-o", str(tmp_path / "out")]) == 0
    notebook = json.loads((tmp_path / "out" / "99_tiny.ipynb").read_text(encoding="utf8"))
    [entry] = json.loads((tmp_path / "data" / "releases" / "99_tiny.json").read_text(encoding="utf8"))
    assert (
        entry["seed"] in capsys.readouterr().out
        and len(entry["seed"]) == 16
        and entry["seed"] not in json.dumps(notebook)
    )
    assert notebook == load_release(source, entry["seed"]).student_notebook()
    assert main(["release", "98"]) == 2 and "names 0 assignments" in capsys.readouterr().err


def test_variation_is_a_function_of_seed_and_name():
    one, other = Variation(5), Variation(6)
    assert one.integer("a", 0, 10**9) == Variation("5").integer("a", 0, 10**9) != other.integer("a", 0, 10**9)
    assert one.integer("a", 0, 10**9) != one.integer("b", 0, 10**9)
    assert {Variation(seed).integer("a", 2, 4) for seed in range(60)} == {2, 3, 4}
    assert {Variation(seed).choice("a", "xyz") for seed in range(60)} == set("xyz")
    reals = [Variation(seed).real("a", -1.0, 1.0) for seed in range(200)]
    assert min(reals) >= -1 and max(reals) < 1 and abs(sum(reals) / 200) < 0.15
    assert (
        one.generator("g").initial_seed()
        == Variation(5).generator("g").initial_seed()
        != one.generator("h").initial_seed()
    )
    assert one.integer("a", 0, 10**9) == 537_413_859, "the values must be the same on every machine, for ever"


@pytest.mark.parametrize(
    "call",
    [
        lambda v: v.integer("a", 3, 2),
        lambda v: v.choice("a", []),
        lambda v: v.real("a", 1.0, 1.0),
        lambda v: v.real("a", 0.0, float("inf")),
        lambda v: Variation(1.5),
    ],
)
def test_impossible_variations_are_refused(call):
    with pytest.raises(ValueError):
        call(Variation(0))


def test_hidden_variation_depends_on_the_release():
    set_hidden_seed("one")
    first = hidden_variation("task 1").integer("a", 0, 10**9)
    set_hidden_seed("two")
    assert hidden_variation("task 1").integer("a", 0, 10**9) != first
    set_hidden_seed("one")
    assert (
        hidden_variation("task 1").integer("a", 0, 10**9) == first != hidden_variation("task 2").integer("a", 0, 10**9)
    )
    set_hidden_seed("source")


def test_truth_compares_plain_values_only():
    import numpy as np
    import torch

    class Agreeable(float):
        __eq__ = __ne__ = lambda self, other: True

    x = torch.tensor([1.0, 2.0])
    assert (
        truth.close(x, x.double() + 1e-7)
        and truth.close(x.numpy(), x)
        and truth.close(1, 1.0)
        and truth.close((1, x), [1, x])
    )
    assert truth.close(torch.nn.Parameter(x), x) and truth.close(np.float32(2), 2) and truth.equal(x, x.clone())
    for wrong in (x + 0.1, x[:1], x[None], x.to(torch.complex64), None, "12", Agreeable(1), [1, 2], x * float("nan")):
        assert not truth.close(wrong, x)
    assert not truth.close(torch.tensor(1.0), x) and not truth.equal(x + 1e-6, x) and not truth.close(Agreeable(1), 1.0)
    assert truth.has_shape(x, 2) and not truth.has_shape(x, 2, 1) and not truth.has_shape([1, 2], 2)
    assert truth.leaves_unchanged(lambda v: v + 1, x) and not truth.leaves_unchanged(lambda v: v.add_(1), x.clone())


def test_constants_keep_texts_tuples_and_their_comments():
    cell = (
        "# VARIATION\nfrom course_lib.classroom import Variation\nseed = 0\nv = Variation(seed)\n"
        "sizes = (1, 'a')  # two\nrate: int = 5"
    )
    assert (
        constants_cell(cell, 3, "x")
        == "# VARIATION: the constants of this assignment\nsizes = (1, 'a')  # two\nrate = 5"
    )


def test_the_table_of_assignments_is_written_from_the_notebooks(tmp_path):
    """What stands in the README is what the command writes; a new notebook gets a row, and lost marks are named."""
    from course_lib.classroom.overview import table_text, with_table

    folder = find_assignments()[0].parent
    readme = (folder / "README.md").read_text(encoding="utf8")
    assert with_table(readme, folder) == readme, "out of date: run `uv run course assignments`"
    assert table_text(folder).count("\n| [") == len(list(folder.glob("*.ipynb")))
    tiny.write_source(tmp_path)
    row = "| [99](99_tiny.ipynb) | 3 | 9 | the window; the level; windows |\n"
    assert row in table_text(tmp_path / "assignments") and row in with_table(readme, tmp_path / "assignments")
    with pytest.raises(ValueError, match="there 0 times"):
        with_table("no marks", folder)


def test_edges_change_what_they_say():
    import torch

    from course_lib.classroom import edges

    x, X = torch.ones(2, 9), torch.ones(9, dtype=torch.complex64)
    edges.forget()
    found = {edge: (level, tensors) for edge, level, tensors in edges.mutated(x, X, short=2, tiny=1e-3, huge=1e3,
                                                                             without={"huge": "it would overflow"})}
    assert list(found) == ["zeros inside", "short", "tiny", "other type"] and edges.noted()[0] == (
        "huge",
        "it would overflow",
    )
    assert found["zeros inside"][1][0].tolist() == [[1, 1, 1, 0, 1, 1, 1, 1, 1]] * 2
    assert [tensor.shape[-1] for tensor in found["short"][1]] == [2, 2] and found["tiny"][0] == 1e-3
    assert [tensor.dtype for tensor in found["other type"][1]] == [torch.float64, torch.complex128]
    assert float(found["tiny"][1][0].max()) == pytest.approx(1e-3) and x.min() == 1 and X.abs().min() == 1
    assert edges.case("tiny", 5) == 5
    for wrong in (lambda: edges.case("heavy"), lambda: edges.left_out("tiny", "")):
        with pytest.raises(ValueError, match="expected one of zeros inside"):
            wrong()
    edges.forget()
