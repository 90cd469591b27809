"""Small training runs, in this process or in one that can be killed, for the tests of `course_lib.training`."""

import csv
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from course_lib.data import Remix, open_tracks
from course_lib.training import FitSettings, end_processes, fit, process_batches
from course_lib.training.schedules import cosine

# A server imports torch once and forks every run from itself: real processes, started in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
if os.name == "posix":
    PROCESSES.set_forkserver_preload(["course_lib.training", "torch._dynamo"])      # dynamo: optimizers import it, 4 s

STEPS, BATCH = 40, 4
SETTINGS = {"steps": STEPS, "ema_decay": 0.9, "clip": 1.0, "validate_every": 6, "checkpoint_every": 5}


class Masks(nn.Module):
    """A model with everything that has a state: weights, batch norm, dropout."""

    def __init__(self, dropout: float = 0.2, frozen_norm: bool = False):
        super().__init__()
        self.frozen_norm = frozen_norm
        self.layers = nn.Sequential(nn.Conv1d(2, 8, 9, padding=4), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout),
                                    nn.Conv1d(8, 8, 9, padding=4))

    def train(self, mode: bool = True):
        super().train(mode)
        if self.frozen_norm:
            self.layers[1].eval()
        return self

    def forward(self, mixture):
        return self.layers(mixture).unflatten(1, (4, 2))           # (batch, source, channel, time)


def separate_step(model, sources):
    """Mean square error of the four estimates, and a second number for the log."""
    error = (model(sources.sum(1)) - sources).square()
    return {"loss": 100 * error.mean(), "vocals": error[:, 3].mean()}


def changing_step(changes_at: int):
    """A step that logs one number more from its so-manieth call on."""
    calls = iter(range(100))

    def step(model, batch):
        loss = model(batch.sum(1)).square().mean()
        return {"loss": loss} if next(calls) < changes_at else {"loss": loss, "l1": loss}
    return step


def broken_scores(weights):
    """A validation that fails with an error of its own."""
    return {"score": 1 / 0}


def drawing_scores(weights):
    """A validation that draws from all global generators: what it draws must not depend on interruptions."""
    x = torch.randn(2, 2, 400) + np.random.rand() + random.random()
    return {"score": -float(weights(x).square().mean())}


def make(seed: int = 0, **options):
    """A model and its optimizer."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    model = Masks(**options)
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


def train(songs: Path, folder: Path | None, accelerator=None, batch_size: int = BATCH, seed: int = 0, options=None,
          **changed):
    """Train on remixed songs of noise; (history, model)."""
    settings = {**SETTINGS, **changed}
    model, optimizer = make(seed, **(options or {}))
    chunks = settings["steps"] * settings.get("accumulate", 1) * batch_size * (
        accelerator.num_processes if accelerator else 1)
    data = Remix(open_tracks("folder", root=songs), 0.05, chunks, seed)
    further = {"schedule": cosine(settings["steps"], 3, 0.1), "validate": drawing_scores}
    further = {name: settings.pop(name, value) for name, value in further.items()}
    history = fit(model, settings.pop("step", separate_step), process_batches(data, batch_size, accelerator), optimizer,
                  FitSettings(**settings), folder=folder, accelerator=accelerator, progress=False, **further)
    return history, model


def train_and_tell(songs: Path | None, folder: Path, kill_at: int | None = None, environment=None, changed=None,
                   training: str | None = None) -> None:
    """`train` as a process of its own: FOLDER/result.pkl holds what came out, also when it is an error.

    training: one with parts, by its name in `beside_the_model`, instead. kill_at: kill this process (SIGKILL, as
    kill -9 does) before its so-manieth change to files of the folder.
    """
    os.environ.update(environment or {})
    signal.signal(signal.SIGINT, signal.default_int_handler)       # a test run in the background inherits "ignore"
    torch.set_num_threads(1)
    if kill_at is not None:
        _kill_self_at(kill_at, folder)
    try:
        if training is not None:
            from tests.training.beside_the_model import TRAININGS
            history, model, part = TRAININGS[training](folder, **(changed or {}))
        else:
            (history, model), part = train(songs, folder, **(changed or {})), torch.nn.Identity()
        told = {"history": history, "weights": model.state_dict(), "wrapped": hasattr(model.forward, "__wrapped__"),
                "part": part.state_dict()}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    (folder / "result.pkl").write_bytes(pickle.dumps(told))


def _kill_self_at(count: int, folder: Path) -> None:
    """Die before the so-manieth change to files of the folder: opened for writing, renamed, made or deleted."""
    left = count

    def hook(event, arguments):
        nonlocal left
        changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree") or (
            event == "open" and arguments[1] not in ("r", "rb", None))
        if changes and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)


def start(*arguments, **options):
    """`train_and_tell` in a process of its own."""
    process = PROCESSES.Process(target=train_and_tell, args=arguments, kwargs=options)
    process.start()
    return process


def told(folder: Path) -> dict:
    """What the last process that came to its end in this folder told."""
    return pickle.loads((folder / "result.pkl").read_bytes())


def logs(folder: Path) -> dict[str, list]:
    """The rows of both logs as they are written, without the seconds."""
    read = {}
    for name in ("log", "validation"):
        with (folder / f"{name}.csv").open(encoding="utf8", newline="") as file:
            read[name] = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return read


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def same_weights(one, other) -> bool:
    """Whether two state dicts are equal to the last bit."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def largest_difference(one, other) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def batches_of(size: int, count: int | None = None, scale: float = 1.0):
    """start -> batches of noise (batch, source, channel, time), batch k a function of k."""
    def give(start):
        number = start
        while count is None or number < count:
            yield scale * torch.randn(size, 4, 2, 200, generator=torch.Generator().manual_seed(number))
            number += 1
    return give


if __name__ == "__main__":                                 # `torchrun training_runs.py SONGS OUT`: one of two processes
    from accelerate import Accelerator

    from course_lib.training.checkpoints import RunFolder
    from course_lib.training.command import _check_folder
    from tests.training.beside_the_model import TRAININGS

    torch.set_num_threads(1)
    accelerator, out = Accelerator(), Path(sys.argv[2])
    functions = {"broken": broken_scores, "changing": changing_step(2)}
    for name, options, changed in json.loads(sys.argv[3]):
        said = "trained"
        try:
            if changed == "config":                        # only the part of `course train` that looks at the folder
                _check_folder({"seed": 2, "training": {"steps": 5}}, RunFolder(out / name), accelerator)
                continue
            for argument in {"validate", "step"} & set(changed):
                changed[argument] = functions[changed[argument]]
            if training := options.pop("training", None):
                history, model, part = TRAININGS[training](out / name, accelerator, **changed)
                torch.save(part.state_dict(), out / name / f"part_{accelerator.process_index}.pt")
            else:
                history, model = train(Path(sys.argv[1]), out / name, accelerator, options=options, **changed)
            if accelerator.is_main_process:
                (out / name / "result.pkl").write_bytes(pickle.dumps(
                    {"history": history, "weights": model.state_dict(), "processes": accelerator.num_processes}))
        except Exception as error:                         # a test reads what each process met
            said = f"{type(error).__name__}: {error}"
        (out / f"{name}_{accelerator.process_index}.json").write_text(json.dumps(said))
    end_processes(accelerator)
