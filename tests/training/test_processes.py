"""Two processes that train one model on CPU, started once by torchrun for all tests of this module."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib.training.checkpoints import RunFolder
from tests.training import training_runs
from tests.training.beside_the_model import STEPS, TRAININGS
from tests.training.training_runs import BATCH, largest_difference, train

pytestmark = pytest.mark.skipif(os.name != "posix", reason="torch has no gloo launcher on Windows without libuv")
FROZEN, COMMON = {"dropout": 0.0, "frozen_norm": True}, {"steps": 10, "validate_every": 5}
EQUAL = {"frozen": (FROZEN, COMMON), "accumulated": (FROZEN, {**COMMON, "accumulate": 2}),
         "live": ({"dropout": 0.0}, COMMON), "half": (FROZEN, {**COMMON, "steps": 5, "schedule": None}),
         "resumed": (FROZEN, {**COMMON, "schedule": None})}
FAILING = {"monitor": {"steps": 3, "monitor": "sdr"}, "validate": {"steps": 3, "validate": "broken"},
           "columns": {"steps": 4, "step": "changing"}, "other": "config", "disk": {"steps": 3}, "in use": {"steps": 3},
           "fine": {"steps": 3}}
PARTS = {"game": ("game", {"plain": True}), "coder": ("coder", {}), "inside": ("coder", {"inside": True}),
         "domains": ("domains", {"unused": True})}


def in_two_processes(songs, out, orders, timeout=800):
    """`training_runs.py SONGS OUT ORDERS` by torchrun; it must come to its end."""
    script = Path(training_runs.__file__)
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1",
                   "PYTHONPATH": str(script.parents[2])}
    with subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                           str(script), str(songs), str(out), json.dumps(orders)],
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            _, said = launcher.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            launcher.terminate()                            # it ends its processes; killed, it would leave them
            raise
    assert launcher.returncode == 0, said


@pytest.fixture(scope="module")
def out(songs, tmp_path_factory):
    """A folder with the runs of EQUAL, FAILING and PARTS in it, as two processes left them."""
    out = tmp_path_factory.mktemp("two")
    for name in (*EQUAL, *PARTS):
        (out / name).mkdir()
    (out / "resumed").rmdir()
    (out / "resumed").symlink_to(out / "half")               # ten steps that go on from five
    RunFolder(out / "other").write_settings({"seed": 1}, 5, "config.json")
    (out / "other" / "checkpoints" / "step_00000005").mkdir(parents=True)
    (out / "disk").write_text("a file where a folder should be")
    orders = [[name, {}, changed] for name, changed in FAILING.items()]
    orders += [[name, *what] for name, what in EQUAL.items()]
    orders += [[name, {"training": training}, {"batch_size": 4, **changed}]
               for name, (training, changed) in PARTS.items()]
    with RunFolder(out / "in use").locked():
        in_two_processes(songs, out, orders)
    return out


def test_what_only_the_main_process_meets_is_raised_in_all(out):
    """Nobody waits for a process that has left, and the two can go on to train together afterwards."""
    said = {name: [json.loads((out / f"{name}_{index}.json").read_text()) for index in (0, 1)] for name in FAILING}
    for name, main, other in (
        ("monitor", "ValueError: monitor is 'sdr'; validate gives score", "ValueError: monitor is 'sdr'"),
        ("validate", "ZeroDivisionError: division by zero", "RuntimeError: in the main process: ZeroDivisionError"),
        ("columns", "ValueError: log.csv has the columns step, loss", "ValueError: log.csv has the columns step, loss"),
        ("other", "ValueError: .*holds a run with other settings: seed was 1", "ValueError: .*seed was 1, now 2"),
        ("disk", "FileExistsError: .*disk", "RuntimeError: in the main process: FileExistsError"),
        ("in use", "ValueError: .*in use is in use: another training .process", "ValueError: .*in use: another"),
    ):
        assert re.match(main, said[name][0]) and re.match(other, said[name][1]), (name, said[name])
    assert said["fine"] == ["trained", "trained"]


def test_two_processes_equal_one_with_the_doubled_batch(songs, out):
    """Two processes on gloo, 10 steps; then what batch norm's own statistics in each process change."""
    two = {name: pickle.loads((out / name / "result.pkl").read_bytes()) for name in EQUAL}
    assert two["frozen"]["processes"] == 2
    one = {name: train(songs, None, batch_size=2 * BATCH, options=options, **changed)
           for name, (options, changed) in EQUAL.items() if name != "half"}
    difference = {name: largest_difference(two[name]["weights"], model.state_dict())
                  for name, (_, model) in one.items()}
    print("largest difference of a weight between two processes and one:",
          ", ".join(f"{name} {value:.1e}" for name, value in difference.items()))
    assert max(difference[name] for name in ("frozen", "accumulated", "resumed")) < 1e-5, difference
    assert difference["live"] > 1e-4, "local statistics of batch norm change the weights"
    losses = [[row["loss"] for row in history.steps] for history in (two["frozen"]["history"], one["frozen"][0])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "the log holds the mean over the processes"
    assert two["frozen"]["history"].best[0] == pytest.approx(one["frozen"][0].best[0], rel=1e-4)


@pytest.mark.parametrize("name", PARTS)
def test_parts_in_two_processes_equal_one_with_the_doubled_batch(out, name):
    """A critic's gradients are averaged; a codebook is made from both halves, its restarts draw from both; a decoder
    whose domain only one process has, or none, moves in both alike."""
    training, changed = PARTS[name]
    assert json.loads((out / f"{name}_1.json").read_text()) == "trained"
    two = pickle.loads((out / name / "result.pkl").read_bytes())
    _, model, part = TRAININGS[training](None, **{**changed, "batch_size": 8})
    assert largest_difference(two["weights"], model.state_dict()) < 1e-5
    for process in (0, 1):
        own = torch.load(out / name / f"part_{process}.pt", weights_only=True)
        assert not own or largest_difference(own, part.state_dict()) < 1e-5, process
    assert (out / name / "log.csv").read_text().count("\n") == STEPS + 1
