"""What counts as the same output: shown on texts, and on a real notebook under pytest."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course_lib.authoring.comparison import differences, same_text, tolerance


@pytest.mark.parametrize(
    "stored, new",
    [
        ("SDR 5.6140 dB", "SDR 5.6141 dB"),  # a step of the last digit
        ("5.61", "5.62"),
        ("-0.000", "0.000"),
        ("0.123456789", "0.123456912"),  # a millionth
        ("1.234567e-03", "1.234569e-03"),
        ("[0.5  12]", "[0.5 12]"),  # NumPy aligns its columns
        ("<A object at 0x7f00aa11>", "<A object at 0x7f99bb22>"),
        ('<audio src="data:audio/mpeg;base64,AAAA">', '<audio src="data:audio/mpeg;base64,BBBB">'),
        ("CPU times: user 3 s", "CPU times: user 9 s"),
        (
            "1.2 ms ± 3 µs per loop (mean ± std. dev. of 7 runs, 10 loops each)",
            "2.4 ms ± 5 µs per loop (mean ± std. dev. of 7 runs, 10 loops each)",
        ),
    ],
)
def test_same(stored, new):
    assert same_text(stored, new) and same_text(new, stored)


@pytest.mark.parametrize(
    "stored, new",
    [
        ("12.5", "12.625"),  # one in a hundred
        ("5.61", "5.66"),
        ("0.12", "0.13"),  # a step of the last digit, but a large one
        ("2048 samples", "2049 samples"),
        ("44100", "44100.0"),
        ("5.61", "-5.61"),
        ("1.0e-07", "1.1e-07"),
        ("nan", "0.0"),
        ("torch 2.11.0", "torch 2.12.0"),
        ("1795218743.25", "1795218744.25"),  # a clock
        ("12 s", "13 s"),  # a duration that is a fact, not a timing
        ("[1.5, 2.5]", "[1.5]"),
        ("the vocals", "the drums"),
        ('<audio src="data:audio/mpeg;base64,AAAA">', '<img src="data:image/png;base64,AAAA">'),
    ],
)
def test_different(stored, new):
    assert not same_text(stored, new) and not same_text(new, stored)


@pytest.mark.parametrize(
    "number, allowed",
    [
        ("5.61", 0.01),
        ("0.12", 0.12e-5),
        ("100.0", 0.1),
        ("1e3", 1e-2),
        ("2.000e-03", 1e-6),
        ("1795218743.25", 0.1),
        ("0.0", 0.0),
    ],
)
def test_tolerance(number, allowed):
    assert tolerance(number) == pytest.approx(allowed, rel=1e-4)


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shown(**data):
    return new_output("display_data", {kind.replace("_", "/"): value for kind, value in data.items()})


def test_pieces_of_a_stream_are_one_text():
    assert differences([stream("one\n"), stream("two\n")], [stream("one\ntwo\n")]) == []


def test_pictures_count_by_their_presence():
    assert differences([shown(image_png="AAAA")], [shown(image_png="BBBB")]) == []
    assert differences([shown(image_png="AAAA")], [shown(text_plain="no picture")])
    assert differences([shown(image_png="AAAA")], []) == ["output 1: stored only: image/png"]


def test_order_and_kind_count():
    player, table = shown(text_html="<audio>"), shown(text_plain="a table")
    assert differences([player, table], [table, player])
    assert differences([stream("x")], [stream("x", name="stderr")])
    assert differences([stream("x")], [shown(text_plain="x")])


def test_errors_are_compared_without_their_traceback():
    first = new_output("error", ename="ValueError", evalue="rate is 0", traceback=["line 1"])
    again = new_output("error", ename="ValueError", evalue="rate is 0", traceback=["line 2"])
    other = new_output("error", ename="ValueError", evalue="rate is 1", traceback=["line 1"])
    assert differences([first], [again]) == []
    assert "rate is 1" in differences([first], [other])[0]


def test_finding_names_the_line():
    found = differences([stream("a 1\nb 2\nc 3\n")], [stream("a 1\nb 9\nc 3\n")])
    assert found == ["output 1: stdout: stored 'b 2', new 'b 9'"]


CELLS = [  # source, stored output, whether the cell must pass
    ("print(0.123456789)", "0.123456789", True),
    ("print(0.123456789)", "0.123456912", True),  # a millionth away
    ("print(0.123456789)", "0.124691357", False),  # one in a hundred
    ("print(1024)", "1024", True),
    ("print(1024)", "1025", False),
    ("import time; print(time.time())", None, False),  # stored a moment before
    ("import os; print(os.environ['COURSE_EXECUTING'], os.environ['COURSE_PROFILE'])", "1 cpu", True),
]


def test_notebooks_under_pytest(pytester):
    """Numbers changed by 1% fail and by a millionth pass; a whole number, a clock and a dead kernel fail.

    One test for all, as most of its time is the start of the pytest inside.
    """
    import time

    stored = [text if text is not None else str(time.time()) for _, text, _ in CELLS]
    cells = [
        new_code_cell(source, execution_count=number, outputs=[stream(text + "\n")])
        for number, ((source, _, _), text) in enumerate(zip(CELLS, stored), 1)
    ]
    # a closing semicolon hides the value; what a widget shows in its own area is no output of the cell
    quiet = ["[1, 2, 3];", "from ipywidgets import Output\nwith Output():\n    print('inside')"]
    cells += [new_code_cell(source, execution_count=number) for number, source in enumerate(quiet, len(cells) + 1)]
    dying = [
        new_code_cell("import os\nos.kill(os.getpid(), 9)", execution_count=1),
        new_code_cell("1", execution_count=2),
    ]
    for name, contents in {"numbers": cells, "dies": dying}.items():
        nbformat.write(new_notebook(cells=contents), pytester.path / f"{name}.ipynb")

    outcomes = run_notebooks(pytester, "numbers.ipynb", "dies.ipynb")
    assert outcomes["numbers.ipynb"] == ["passed" if passes else "failed" for _, _, passes in CELLS] + ["passed"] * len(
        quiet
    )
    assert outcomes["dies.ipynb"] == ["failed", "failed"]


def run_notebooks(pytester, *names):
    """The outcomes of the cells of each notebook, executed by a pytest of its own."""
    report = pytester.path / "report.jsonl"
    pytester.makeconftest(f"""
        import json
        def pytest_runtest_logreport(report):
            if report.when == "call":
                with open({str(report)!r}, "a") as file:
                    file.write(json.dumps([report.nodeid.split("::")[0], report.outcome]) + "\\n")
    """)
    # well below the time limit of a cell: a dead kernel must not be waited for
    pytester.runpytest_subprocess(
        "-p",
        "course_lib.authoring.pytest_chapters",
        "-p",
        "no:cacheprovider",
        "--nbval-cell-timeout=500",
        *names,
        timeout=100,
    )
    outcomes = {}
    for line in report.read_text(encoding="utf8").splitlines():
        name, outcome = json.loads(line)
        outcomes.setdefault(name, []).append(outcome)
    return outcomes
