"""One JupyterLab and one Chromium for all browser tests; the chapters lie in the lab's folder as copies."""

import os
import shutil
from pathlib import Path

import pytest

from tests.browser.jupyterlab import CHROMIUM_FLAGS, LabServer, OpenNotebook

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running JupyterLab over copies of the chapters."""
    folder = tmp_path_factory.mktemp("lab")
    shown = folder / "chapters"
    shown.mkdir()
    for path in (ROOT / "chapters").glob("*.ipynb"):
        shutil.copy(path, shown)
    running = LabServer(shown, folder)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium with an empty profile."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")),
            executable_path=chromium,
            headless=True,
            args=CHROMIUM_FLAGS,
            viewport={"width": 1280, "height": 1500},
        )
        yield context
        context.close()


@pytest.fixture
def open_notebook(server, browser, tmp_path):
    """A function that opens a notebook of the lab's folder; a picture of it as it was left is kept in tmp_path."""
    pages, notebooks = [], []

    def opened(name: str) -> OpenNotebook:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        pages.append((name, page))
        notebook = OpenNotebook(page, server, name)
        notebooks.append(notebook)
        return notebook

    yield opened
    for number, (name, page) in enumerate(pages):
        page.screenshot(path=str(tmp_path / f"{number}_{Path(name).stem}.png"))
    for notebook in notebooks:
        notebook.end_kernels()
    for _, page in pages:
        page.close()
