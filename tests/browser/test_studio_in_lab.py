"""The studio's app in a real JupyterLab in Chromium: pressed through from opening a song to the files on disk."""

import json

import nbformat
import pytest
import soundfile
import torch
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser
SECONDS, RATE = 2.0, 44_100
STEPS_SECONDS = 120_000                                          # ms for a step on a busy machine


@pytest.fixture
def studio(server, open_notebook, tmp_path):
    """A notebook whose one cell shows the app, run; the cell's locator, the page, and where exports go."""
    x = 0.1 * torch.randn(2, round(SECONDS * RATE), generator=torch.Generator().manual_seed(0))
    soundfile.write(tmp_path / "my song.wav", x.T.numpy(), RATE)
    code = f"""from course_lib.studio import StudioApp
app = StudioApp({str(tmp_path / "my song.wav")!r}, {str(tmp_path / "kept")!r})
app.show()"""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(new_notebook(cells=[new_code_cell(code)], metadata={"kernelspec": kernel}),
                   server.root / "studio_app.ipynb")
    notebook = open_notebook("studio_app.ipynb")
    notebook.run_all(180)
    assert [cell["errors"] for cell in notebook.code_cells()] == [[]] and notebook.broken_widgets() == []
    return notebook, notebook.page.locator(".course-studio"), tmp_path / "kept"


def press(app, name: str, words: str):
    """Press a button of the app, and wait until its status says `words`."""
    button = app.locator(f".course-studio-{name}")
    button.scroll_into_view_if_needed()
    assert button.is_enabled(), f"{name} is disabled"
    button.click()
    app.locator(".course-studio-status").get_by_text(words).wait_for(timeout=STEPS_SECONDS)


def enabled(app) -> set[str]:
    names = ("open", "separate", "tag", "steer", "translate", "remix", "undo", "redo", "export")
    return {name for name in names if app.locator(f".course-studio-{name}").is_enabled()}


def test_from_a_song_to_files(studio):
    notebook, app, kept = studio
    assert enabled(app) == {"open", "separate", "tag", "steer"}
    press(app, "separate", "separate: done")
    assert enabled(app) == {"open", "tag", "steer", "translate", "remix", "undo", "export"}
    press(app, "tag", "tag: done")
    assert "drums:" in app.locator(".course-studio-tags").inner_text()

    rows = app.locator("[data-stem]")
    rows.first.wait_for(timeout=30_000)
    assert rows.evaluate_all("rows => rows.map(row => row.dataset.stem)") == ["drums", "bass", "other", "vocals"]
    mixer = app.locator(".course-mixer")
    mixer.locator(".course-mixer-play").click()
    notebook.page.wait_for_function(
        "mixer => mixer.dataset.status === 'ready'", arg=mixer.element_handle(), timeout=30_000
    )
    mixer.get_by_label("mute vocals", exact=True).click()
    gain = mixer.get_by_label("gain of drums in dB", exact=True)
    gain.focus()
    for _ in range(6):
        notebook.page.keyboard.press("ArrowLeft")
    press(app, "remix", "remix: done")
    press(app, "export", "files in")
    session = json.loads((kept / "my song" / "session.json").read_text(encoding="utf8"))
    assert [step["name"] for step in session["steps"]] == ["separate", "tag", "remix"]
    assert session["steps"][-1]["settings"]["mutes"] == ["vocals"]
    assert session["steps"][-1]["settings"]["gains"] == {"drums": -6.0}
    stems = {path.stem: soundfile.read(path)[0] for path in (kept / "my song" / "stems").iterdir()}
    remix = soundfile.read(kept / "my song" / "remix.wav")[0]
    wanted = 10 ** (-6 / 20) * stems["drums"] + stems["bass"] + stems["other"]
    assert abs(remix - wanted).max() < 3e-4

    press(app, "undo", "took back: remix")
    assert "3. remix" not in app.locator(".course-studio-history").inner_text() and "redo" in enabled(app)
    press(app, "redo", "did again: remix")
    assert "3. remix" in app.locator(".course-studio-history").inner_text() and "redo" not in enabled(app)


def test_what_goes_wrong_is_shown_and_costs_nothing(studio):
    notebook, app, kept = studio
    box = app.locator("input[type=text]").first
    box.fill("nowhere.wav")
    box.press("Tab")
    press(app, "open", "no such audio file")
    assert enabled(app) == {"open", "separate", "tag", "steer"} and not kept.exists()
