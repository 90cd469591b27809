"""Chapters in a real JupyterLab in Chromium: what a reader sees and hears before and after running them."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course_lib.authoring.publish import BADGE_IMAGE

pytestmark = pytest.mark.browser
CHAPTERS = sorted(path.name for path in (Path(__file__).resolve().parents[2] / "chapters").glob("*.ipynb"))
RUN_ALL_SECONDS = 300  # the first chapter takes a minute; a busy machine much longer


def shown(**data):
    """An output of these media types, written text_html for text/html."""
    return new_output("display_data", {kind.replace("_", "/"): value for kind, value in data.items()})


def test_what_is_broken_is_seen(server, open_notebook):
    """A picture and a sound that are cut off, and a widget without its kernel: the questions below are able to fail."""
    outputs = [
        shown(image_png="iVBORw0KGgo=", text_plain="cut off"),
        shown(text_plain="Loading widget..."),
        shown(text_html='<audio controls src="data:audio/mpeg;base64,SUQzBAA="></audio>', text_plain="cut off"),
    ]
    cell = new_code_cell("1 / 0", outputs=outputs, execution_count=1)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": kernel}), server.root / "broken.ipynb")
    notebook = open_notebook("broken.ipynb")
    assert notebook.image_widths() == [0]
    assert [player["duration"] for player in notebook.players()] == [0]
    assert len(notebook.broken_widgets()) == 1
    notebook.run_all(60)
    assert [cell["errors"] for cell in notebook.code_cells()] == [["ZeroDivisionError: division by zero"]]


@pytest.mark.parametrize("name", CHAPTERS)
def test_opened_and_not_run(open_notebook, name):
    """What is stored shows and sounds in a notebook that nobody trusts and no kernel has run."""
    notebook = open_notebook(name)
    cells = notebook.code_cells()
    assert cells and not all(cell["trusted"] for cell in cells), (
        "JupyterLab trusts the notebook: the test shows nothing"
    )

    widths = notebook.image_widths()
    assert widths and min(widths) > 0
    players = notebook.players()
    assert players and [player for player in players if player["error"] or player["duration"] <= 0] == []
    assert notebook.play(0) >= 0.3 and notebook.play(len(players) - 1) >= 0.3
    assert notebook.broken_widgets() == []
    assert notebook.foreign_requests <= {BADGE_IMAGE}


def test_first_chapter_run_to_the_end(open_notebook):
    """Run All, then everything a reader can move: a slider changes its output, the stem mixer plays and solos."""
    notebook = open_notebook(CHAPTERS[0])
    try:
        notebook.run_all(RUN_ALL_SECONDS)
    except TimeoutError:  # JupyterLab can lose a message of its kernel; a second time is no chance
        notebook.end_kernels()
        notebook = open_notebook(CHAPTERS[0])
        notebook.run_all(RUN_ALL_SECONDS)
    cells = notebook.code_cells()
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [error for cell in cells for error in cell["errors"]] == []
    assert notebook.broken_widgets() == []
    widths = notebook.image_widths()
    assert widths and min(widths) > 0
    assert all(player["duration"] > 0 for player in notebook.players())

    move_a_slider(notebook)
    play_and_solo(notebook)


def move_a_slider(notebook):
    """The first slider, moved by keyboard, changes what its cell shows."""
    cell = notebook.page.locator(".jp-CodeCell").filter(has=notebook.page.locator(".noUi-handle")).first
    handle, readout = cell.locator(".noUi-handle").first, cell.locator(".widget-readout").first
    before, value = notebook.output_signature(cell), readout.inner_text()
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(5):
        notebook.page.keyboard.press("ArrowRight")
    after = notebook.changed_output(cell, before)
    assert readout.inner_text() != value, "the slider did not move"
    assert after != before, "the slider moved, its output did not change"


def play_and_solo(notebook):
    """The first stem mixer: its position advances after Play, and a solo silences all other stems."""
    mixer = notebook.page.locator(".course-mixer").first
    mixer.scroll_into_view_if_needed()
    position = mixer.locator(".course-mixer-seek")
    mixer.locator(".course-mixer-play").click()
    notebook.page.wait_for_function(
        "mixer => mixer.dataset.status === 'ready'", arg=mixer.element_handle(), timeout=20_000
    )
    started = float(position.input_value())
    notebook.page.wait_for_function(
        "([seek, start]) => Number(seek.value) > start + 0.3", arg=[position.element_handle(), started], timeout=10_000
    )

    stems = mixer.locator("[data-stem]")
    names = stems.evaluate_all("rows => rows.map(row => row.dataset.stem)")
    assert len(names) >= 2 and all(level > 0 for level in levels(stems))
    chosen = names[-1]
    mixer.get_by_label(f"solo {chosen}", exact=True).click()
    notebook.page.wait_for_function(
        "row => Number(row.dataset.level) === 0", arg=stems.first.element_handle(), timeout=5_000
    )
    assert [name for name, level in zip(names, levels(stems)) if level > 0] == [chosen]

    mixer.locator(".course-mixer-play").click()
    notebook.page.wait_for_function(
        "mixer => mixer.dataset.playing === 'false'", arg=mixer.element_handle(), timeout=5_000
    )


def levels(stems):
    """The gain each stem is heard with."""
    return [float(level) for level in stems.evaluate_all("rows => rows.map(row => row.dataset.level)")]
