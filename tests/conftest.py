"""For all tests: the plugin that tests plugins, and what browser tests need."""

import os
import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CLASSROOM = Path(__file__).parent / "classroom"


def chromium() -> str | None:
    """The Chromium for browser tests: $CHROMIUM, or one on the search path; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def pytest_collection_modifyitems(items):
    """Mark what tests the classroom by its folder; skip the browser tests, and say so, where there is no browser."""
    for item in items:
        if CLASSROOM in item.path.parents:
            item.add_marker("classroom")
    if chromium() is None:
        reason = "no Chromium on this machine (apt-get install chromium, or set CHROMIUM to its path)"
        for item in items:
            if "browser" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
