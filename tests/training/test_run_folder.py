"""A run's folder: for one run at a time, and what is damaged or can't be written is said, with the run left intact."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib.training import FitSettings, fit
from course_lib.training.checkpoints import RunFolder, sha256
from tests.training.training_runs import PROCESSES, batches_of, make, same_weights, separate_step

VALIDATED = {"validate": lambda weights: {"score": float(weights.layers[0].weight.sum())}}


def run(folder, steps, checkpoint_every=5, seed=0, **further):
    model, optimizer = make(seed)
    fit(model, separate_step, batches_of(4), optimizer, FitSettings(steps, checkpoint_every=checkpoint_every,
                                                                    validate_every=5),
        folder=folder, progress=False, **{**VALIDATED, **further})
    return model


def hold(folder, ready):
    """Hold a folder until somebody kills this process."""
    held = RunFolder(folder)                    # kept: a lock that nobody holds any more is let go
    held.lock()
    ready.set()
    signal.pause()


# ------------------------------------------------------------------------------------------------------- one at a time

@pytest.mark.skipif(os.name != "posix", reason="kills a process with SIGKILL, which needs POSIX")
def test_a_second_run_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    ready = PROCESSES.Event()
    other = PROCESSES.Process(target=hold, args=(tmp_path, ready))
    other.start()
    assert ready.wait(120)
    with pytest.raises(ValueError, match=f"is in use: another training .process {other.pid}, since .*Wait for it"):
        run(tmp_path, 2)
    with pytest.raises(ValueError, match="is in use"):
        RunFolder(tmp_path).lock()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.lock", "running.json"], "nothing of ours is left"
    other.kill()
    other.join()
    assert run(tmp_path, 2) and not (tmp_path / "running.json").exists()


def test_a_command_that_holds_the_folder_trains_in_it(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.locked():
        with pytest.raises(ValueError, match="is in use"):
            run(tmp_path, 2)                              # another object: another run, even in this process
        run(folder, 2)
        assert (tmp_path / "running.json").exists(), "fit must not let go of what it was lent"
        with pytest.raises(ValueError, match="is in use"):
            RunFolder(tmp_path).lock()
    run(tmp_path, 2)


def test_a_run_that_is_going_on_is_not_deleted(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with RunFolder(tmp_path).locked(), pytest.raises(ValueError, match="is in use"):
        RunFolder(tmp_path).delete()
    assert (tmp_path / "config.json").exists()
    RunFolder(tmp_path).delete()
    assert not tmp_path.exists()


# ------------------------------------------------------------------------------------------------------------- damage

def cut(path):
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


def without_row(path, number):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1:]))


DAMAGE = [
    ("half the settings", lambda run: cut(run / "settings.json"), "settings.json in .* can't be read"),
    ("empty settings", lambda run: (run / "settings.json").write_bytes(b""), "settings.json in .* can't be read"),
    ("settings that are a list", lambda run: (run / "settings.json").write_text("[]"), "settings.json in .* holds no"),
    ("binary settings", lambda run: (run / "settings.json").write_bytes(b"\xff\xfe"), "settings.json in .* can't be"),
    ("no settings", lambda run: (run / "settings.json").unlink(), "settings.json in .* is missing"),
    ("half the log", lambda run: cut(run / "log.csv"), "log.csv in .* has [0-9] whole rows up to step 10, not 10"),
    ("a row less", lambda run: without_row(run / "log.csv", 4), "log.csv in .* has 9 whole rows up to step 10, not 10"),
    ("no log", lambda run: (run / "log.csv").unlink(), "log.csv in .* is missing: it no longer fits the checkpoint"),
    ("words in the log", lambda run: (run / "log.csv").write_text(
        (run / "log.csv").read_text().replace("0.01", "high")),
     "log.csv in .* can't be read .could not convert string to float: 'high'"),
    ("binary log", lambda run: (run / "log.csv").write_bytes(b"\xff\xfe\x00" * 9), "log.csv in .* can't be read"),
    ("no validations", lambda run: (run / "validation.csv").unlink(), "validation.csv in .* is missing"),
    ("half the validations", lambda run: cut(run / "validation.csv"), "validation.csv in .* has [01] whole rows"),
    ("no best weights", lambda run: (run / "best.safetensors").unlink(), "best.safetensors is missing in"),
]


def contents(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != "run.lock"}


@pytest.mark.parametrize("damage, message", [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_a_damaged_folder_is_refused_and_stays_as_it_is(tmp_path, damage, message):
    run(tmp_path, 10)
    whole = contents(tmp_path)
    damage(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"{message}.*(copy|afresh)"):
        run(tmp_path, 15)
    assert contents(tmp_path) == before
    for path, content in whole.items():                   # put back, it goes on
        (tmp_path / path).write_bytes(content)
    assert same_weights(run(tmp_path, 15).state_dict(), run(None, 15).state_dict())


def test_a_run_from_before_validations_were_counted_goes_on(tmp_path):
    """Checkpoints and settings as they were written before there were parts and a lock."""
    run(tmp_path, 10)
    for state in tmp_path.glob("checkpoints/step_*/state.pt"):
        content = torch.load(state, weights_only=True)
        del content["parts"], content["run"]["validations"]
        torch.save(content, state)
        sums = json.loads((state.parent / "sha256.json").read_text())
        (state.parent / "sha256.json").write_text(json.dumps({
            name: sha256(state.parent / name) for name in sums}))
    settings = json.loads((tmp_path / "settings.json").read_text())
    for name in ("clip_value", "parts"):
        del settings[name]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert same_weights(run(tmp_path, 15).state_dict(), run(None, 15).state_dict())


# ---------------------------------------------------------------------------------------------------------- a full disk

LIMITED = """
import resource, sys, torch
from course_lib.training import FitSettings, Part, fit
from tests.training.test_run_folder import batches_of, make, separate_step
from torch import nn
if len(sys.argv) > 2:                                    # the largest file that may be written, in bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
torch.set_num_threads(1)
class Growing:
    '''A state that grows by 30 kB a step.'''
    def __init__(self): self.numbers = torch.zeros(1)
    def state_dict(self): return {"numbers": self.numbers}
    def load_state_dict(self, state): self.numbers = state["numbers"]
growing = Growing()
def step(model, batch):
    growing.numbers = torch.cat([growing.numbers, torch.ones(7500)])
    return separate_step(model, batch)["loss"]
model, optimizer = make()
try:
    fit(model, step, batches_of(4), optimizer, FitSettings(12, checkpoint_every=2), parts=[Part("growing", growing)],
        folder=sys.argv[1], progress=False)
    print("done", len(growing.numbers), float(sum(p.double().sum() for p in model.parameters())))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files, which needs POSIX")
def test_a_full_disk_is_said_and_the_run_goes_on_afterwards(tmp_path):
    root = Path(__file__).parents[2]

    def limited(folder, *limit):
        done = subprocess.run([sys.executable, "-c", LIMITED, str(folder), *map(str, limit)], cwd=root,
                              env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    said = limited(tmp_path / "run", 200_000)
    assert said.startswith("OSError a checkpoint in ") and "could not be written" in said and " MB free there" in said
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1].name
    assert f"the run is intact up to {newest}; make room and start it again" in said and newest.startswith("step_")
    assert not (tmp_path / "run" / "checkpoints" / "unfinished").exists(), "half a checkpoint takes up room"
    resumed = limited(tmp_path / "run")
    assert resumed.startswith("done 90001 ") and resumed == limited(tmp_path / "straight")
    said = limited(tmp_path / "small", 20)
    assert said.startswith("OSError settings.json in ") and "there is no checkpoint yet" in said


