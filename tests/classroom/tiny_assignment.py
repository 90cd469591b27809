"""An assignment of two code tasks and a written one, small enough to be read with the tests that use it."""

import json
from pathlib import Path

from course_lib.classroom.release import notebook_of

CELLS = [
    ("markdown", "# Tiny assignment\n\nTwo functions and a sentence."),
    ("code", "import math\nimport numpy as np\nimport torch"),
    ("code", """# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
n_fft = variation.choice("n_fft", [8, 12, 16, 20])  # samples of a window
channels = variation.integer("channels", 2, 5)"""),
    ("markdown", "## Task 1\nThe periodic Hann window."),
    ("code", '''# TASK 1 (3 points): the window
def hann_window(n_fft):
    """The periodic Hann window: (n_fft,)."""
    ### BEGIN SOLUTION
    n = torch.arange(n_fft)
    return 0.5 - 0.5 * torch.cos(2 * math.pi * n / n_fft)
    ### END SOLUTION'''),
    ("code", """# CHECK 1
assert hann_window(n_fft).shape == (n_fft,), "the window must have n_fft values"
assert torch.allclose(hann_window(4), torch.tensor([0., 0.5, 1., 0.5]), atol=1e-6), "compare with (1.3) for N = 4"
### BEGIN HIDDEN TESTS
from course_lib.classroom import hidden_variation, truth
size = 2 * hidden_variation("task 1").integer("half", 9, 40)
assert truth.close(hann_window(size), truth.chapter("spectral").hann_window(size)), "another size than the shown one"
SECRET_OF_CHECK_1 = size
### END HIDDEN TESTS"""),
    ("code", '''# TASK 2 (2 points): the level
def rms(x):
    """Root mean square of each channel: (channels, time) -> (channels,)."""
    ### BEGIN SOLUTION
    return (x ** 2).mean(-1).sqrt()
    ### END SOLUTION'''),
    ("code", """# CHECK 2
assert rms(torch.ones(channels, 10)).shape == (channels,), "one value a channel"
### BEGIN HIDDEN TESTS
from course_lib.classroom import hidden_variation, truth
x = torch.randn(3, 50, generator=hidden_variation("task 2").generator("x"))
assert truth.close(rms(x), (x ** 2).mean(-1) ** 0.5)
assert truth.leaves_unchanged(rms, x), "the input must stay as it is"
### END HIDDEN TESTS"""),
    ("markdown", """<!-- TASK 3 (4 points): windows -->
Why is a frame faded in and out?

*Your answer here.*
<!-- BEGIN RUBRIC -->2 points for the jump at the seam, 2 for leakage.<!-- END RUBRIC -->"""),
]
WINDOW = CELLS[4][1].replace("    ### BEGIN SOLUTION\n", "").replace("\n    ### END SOLUTION", "")
LEVEL = CELLS[6][1].replace("    ### BEGIN SOLUTION\n", "").replace("\n    ### END SOLUTION", "")
ANSWER = (
    "<!-- TASK 3 (4 points): windows -->\nWhy is a frame faded in and out?\n\n"
    "Because a cut makes a jump, and a jump leaks."
)


def write_source(folder: Path, cells: list[tuple[str, str]] = CELLS) -> Path:
    """The source notebook 99_tiny.ipynb in `folder`/assignments, beside a chapter 99 that exports `spectral`."""
    (folder / "assignments").mkdir(parents=True, exist_ok=True)
    (folder / "99_tiny.py").write_text("# %%\n#| default_exp spectral\n", encoding="utf8")
    path = folder / "assignments" / "99_tiny.ipynb"
    notebook = notebook_of([{"cell_type": kind, "id": f"c{number}", "source": source, "metadata": {}}
                            for number, (kind, source) in enumerate(cells)])
    path.write_text(json.dumps(notebook), encoding="utf8")
    return path


def fill_in(notebook: dict, **answers: str) -> dict:
    """The student's notebook with the sources of cells replaced: task_1=..., check_2=..."""
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        cell["source"] = answers.get(name, cell["source"])
    return notebook


def answered(release) -> dict:
    """A submission with every answer right."""
    return fill_in(release.student_notebook(), task_1=WINDOW, task_2=LEVEL, task_3=ANSWER)
