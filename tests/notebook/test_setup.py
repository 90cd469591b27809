"""The setup call and the progress bar: the right sizes, the same draws, one line, and nothing left behind."""

import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch

import course_lib.notebook
from course_lib.notebook.setup import KNOWN_WARNINGS, check_version, choose_profile, setup
from course_lib.progress import notebook_bar, progress, remaining

SIZES = {"cpu": {"songs": 4, "steps": 200}, "gpu": {"songs": 20, "steps": 5000}}


@pytest.fixture(autouse=True)
def untouched_session(monkeypatch):
    """No settings from outside, and torch's threads and matplotlib's settings as they were."""
    import matplotlib

    for name in ("COURSE_PROFILE", "COURSE_THREADS", "COURSE_EXECUTING"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    with matplotlib.rc_context(), warnings.catch_warnings():
        yield
    torch.set_num_threads(threads)


def test_the_package_gives_the_functions_not_the_modules_of_the_same_name():
    assert course_lib.notebook.setup is setup and course_lib.notebook.progress is progress
    names = "setup, progress, listen, show_table, plot_masks"
    code = f"import course_lib.notebook.plots; from course_lib.notebook import {names}; " \
           f"assert all(callable(name) for name in ({names}))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, course_lib.notebook; assert not {'torch', 'matplotlib', 'IPython'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_setup_gives_the_sizes_of_the_profile_and_prints_one_line(capsys, monkeypatch):
    cfg = setup("01_stft_and_masks", **SIZES)
    assert (cfg.profile, cfg.songs, cfg.steps, cfg.device) == ("cpu", 4, 200, torch.device("cpu"))
    assert capsys.readouterr().out == "chapter 01_stft_and_masks, profile cpu\n"
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    cfg = setup("01_stft_and_masks", **SIZES)
    assert (cfg.profile, cfg.songs, cfg.steps) == ("gpu", 20, 5000)
    assert cfg.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_colab_with_a_gpu_takes_the_large_sizes(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_profile() == "gpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_profile() == "cpu"
    monkeypatch.delitem(sys.modules, "google.colab")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_profile() == "cpu", "a laptop with a GPU shows the stored outputs unless asked otherwise"


def draws(cfg) -> list[float]:
    import random

    own = torch.rand((), generator=cfg.generator)
    return [random.random(), float(np.random.rand()), float(torch.rand(())), float(own)]


def test_the_same_seed_gives_the_same_draws():
    first, second = (draws(setup("a", cpu={}, seed=3)) for _ in range(2))
    assert first == second
    assert not set(first) & set(draws(setup("a", cpu={}, seed=4)))


def test_threads_come_from_the_argument_unless_the_environment_says_otherwise(monkeypatch):
    setup("a", cpu={}, threads=1)
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("COURSE_THREADS", "2")
    setup("a", cpu={}, threads=1)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("environment, arguments, message", [
    ({"COURSE_PROFILE": "tpu"}, {"cpu": {}}, "COURSE_PROFILE is 'tpu'; expected one of cpu, gpu"),
    ({"COURSE_THREADS": "many"}, {"cpu": {}}, "COURSE_THREADS is 'many'"),
    ({"COURSE_THREADS": "0"}, {"cpu": {}}, "COURSE_THREADS is '0'"),
    ({}, {"cpu": {"a": 1}, "gpu": {"b": 1}}, r"\['a', 'b'\]"),
    ({}, {"cpu": {"seed": 1}}, r"\['seed'\]"),
])
def test_settings_that_do_not_fit_are_refused_in_words(monkeypatch, environment, arguments, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        setup("a", **arguments)


def test_a_chapter_newer_than_the_library_says_how_to_update():
    check_version("0.0.9")
    with pytest.raises(ImportError, match="needs course_lib 99.1, installed is"):
        setup("a", cpu={}, needs="99.1")


def test_known_warnings_are_quiet_and_others_are_not():
    setup("a", cpu={})
    with warnings.catch_warnings(record=True) as heard:
        torch.nn.utils.weight_norm(torch.nn.Linear(2, 2))
        warnings.warn("something the reader should know", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["something the reader should know"]
    assert all(message != ".*" for message, _ in KNOWN_WARNINGS)


def test_the_house_style_holds_for_the_session():
    import matplotlib

    setup("a", cpu={})
    assert matplotlib.rcParams["axes.spines.top"] is False and matplotlib.rcParams["figure.dpi"] == 96


# Progress bars --------------------------------------------------------------------------------------------------------

def test_progress_passes_every_item_on(capfd):
    assert list(progress(range(5), "counting")) == list(range(5))
    assert list(progress((i for i in "abc"), "letters")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", ""), "nothing is written where the output is no terminal"


def test_how_far_it_is_in_words():
    assert remaining(12, 60, seconds=6.0) == "12 of 60, 0:24 left"
    assert remaining(0, 60, seconds=0.0) == "0 of 60" and remaining(7, None, seconds=9.0) == "7"
    bar = notebook_bar("a <b>", 3, 4, 2.0)
    assert 'value="3" max="4"' in bar["text/html"] and "a &lt;b&gt;: 3 of 4" in bar["text/html"]


LOOPS = """
import os, time
from course_lib.notebook import progress
os.environ["COURSE_EXECUTING"] = "{executing}"
def loop(stop):
    for i in progress(range(6), "training"):
        time.sleep(0.1)
        if i == stop:
            break
loop(None)
loop(3)
print("done")
"""


def test_nothing_is_left_of_a_bar_in_a_stored_notebook(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = [nbformat.v4.new_code_cell(LOOPS.format(executing=executing)) for executing in ("1", "")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    unwatched, watched = (cell.outputs for cell in cells)
    assert [output.text for output in unwatched] == ["done\n"]
    bars = [output.data for output in watched if output.output_type == "display_data"]
    assert bars == [{"text/html": "", "text/plain": ""}] * 2, "with a reader watching, emptied when the loop has ended"
    assert [output.text for output in watched if output.output_type == "stream"] == ["done\n"]
