"""For all tests: where recordings and weights are, the plugin that tests plugins, what browser tests need."""

import os
import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]
# A folder beside the checkout may hold recordings and weights, so that machines without a network test everything too.
# Set before anything imports librosa, which looks once, and inherited by the kernels that execute the chapters.
BESIDE_THE_CHECKOUT = {"LIBROSA_DATA_DIR": "recordings", "COURSE_WEIGHTS_DIR": "weights"}
for _variable, _name in BESIDE_THE_CHECKOUT.items():
    _folder = ROOT.parent / "shared" / _name
    if _folder.is_dir():
        os.environ.setdefault(_variable, str(_folder))


def chromium() -> str | None:
    """The Chromium for browser tests: $CHROMIUM, or one on the search path; None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def pytest_collection_modifyitems(items):
    """Skip the browser tests, and say so, where there is no browser."""
    if chromium() is None:
        reason = "no Chromium on this machine (apt-get install chromium, or set CHROMIUM to its path)"
        for item in items:
            if "browser" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
