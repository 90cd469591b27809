"""The house: which folder may import which, without circles, and how the code is written (import-linter and ruff)."""

import json
import subprocess
import sys
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]


def test_arrows_between_folders_point_one_way(capsys):
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, capsys.readouterr().out


def test_ruff_finds_nothing():
    found = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
                           cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_ruff_looks_at_chapters_at_their_own_width(tmp_path):
    """A line of 101 columns is refused in a notebook, one of 121 elsewhere;
    the chapters' texts are left to their prose.
    """
    for name in ("chapters/ruff.toml", "pyproject.toml"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / name).read_text(encoding="utf8"), encoding="utf8")
    for name, width in (("here.py", 120), ("there.py", 121), ("chapters/01_a.py", 130)):
        (tmp_path / name).write_text("text = \"" + "x" * (width - 9) + "\"\n", encoding="utf8")
    cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": [],
            "source": ["text = \"" + "x" * 92 + "\"\n"]}
    (tmp_path / "chapters" / "01_a.ipynb").write_text(json.dumps(
        {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf8")
    found = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
                           cwd=tmp_path, capture_output=True, text=True).stdout
    assert sorted(line.partition(":")[0] for line in found.splitlines() if "E501" in line) == [
        "chapters/01_a.ipynb",
        "there.py",
    ]
