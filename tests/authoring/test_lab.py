"""`course lab`: the first songs, then JupyterLab open on the chapter that was asked for."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from course_lib import cli
from course_lib.authoring import lab

NAMES = ("01_stft_and_masks", "08_ht_demucs", "08b_sparse_attention", "10_vq_vae")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder that looks like a checkout: four empty chapters."""
    root = tmp_path / "my course"
    (root / "chapters").mkdir(parents=True)
    for name in NAMES:
        (root / "chapters" / f"{name}.ipynb").write_text(
            json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return root


def test_a_missing_chapter_is_named_with_those_there(checkout, capsys):
    assert cli.main(["lab", "--dir", str(checkout), "--chapter", "44"]) == 2
    assert "'44' names 0 chapters; there: 01_stft_and_masks, 08_ht" in capsys.readouterr().err


def test_outside_a_checkout_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lab, "repository_root", lambda: None)
    assert cli.main(["lab"]) == 2
    assert "installed without its notebooks; clone the course's repository" in capsys.readouterr().err
    assert cli.main(["lab", "--dir", str(tmp_path)]) == 2
    assert f"{tmp_path} has no folder chapters/" in capsys.readouterr().err


def test_songs_are_rendered_before_jupyterlab_starts(checkout, monkeypatch, capsys):
    steps = []
    monkeypatch.setattr(lab.library, "band_songs", lambda *asked: steps.append(asked) or [checkout / "song"])
    monkeypatch.setattr(lab, "run", lambda command: steps.append(command) or 0)
    options = ["--chapter", "08b", "--port", "9999", "--songs", "50", "--no-browser"]
    assert cli.main(["lab", "--dir", str(checkout), *options]) == 0
    assert steps[0] == ("test", 20)
    assert steps[1][:3] == [sys.executable, "-m", "jupyterlab"]
    assert "--LabApp.default_url=/lab/tree/chapters/08b_sparse_attention.ipynb" in steps[1]
    assert {"--no-browser", "--port=9999"} < set(steps[1])
    assert "20 songs of the band are ready" in capsys.readouterr().out
    steps.clear()
    assert cli.main(["lab", "--dir", str(checkout), "--songs", "0"]) == 0
    assert len(steps) == 1 and "--no-browser" not in steps[0]
    assert cli.main(["lab", "--dir", str(checkout), "--songs", "-1"]) == 2


def page(address: str) -> str:
    """What a browser gets there; JupyterLab prints its address a moment before it answers."""
    for _ in range(50):
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError(f"no answer at {address}")


@pytest.mark.skipif(os.name != "posix", reason="sends Ctrl-C as POSIX systems do")
def test_jupyterlab_opens_on_the_chapter_and_ends_on_ctrl_c(checkout, tmp_path):
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    folders |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name) for name in ("SETTINGS", "WORKSPACES")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "course_lib.cli", "lab", "--dir", str(checkout), "--songs", "0", "--no-browser",
               "--port", port]
    with subprocess.Popen(command, env={**os.environ, **folders}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        try:
            lines, address = [], None
            while address is None and (line := process.stdout.readline()):
                lines.append(line)
                address = re.search(rf"http://127\.0\.0\.1:{port}/\S+", line)
            assert address, "".join(lines)
            assert "/lab/tree/chapters/01_stft_and_masks.ipynb?token=" in address[0]
            settings = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page(address[0]), re.S)
            assert json.loads(settings[1])["treePath"] == "chapters/01_stft_and_masks.ipynb"
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
            assert process.returncode == 0 and "Traceback" not in rest
        finally:
            process.kill()
