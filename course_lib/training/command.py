"""`course train CONFIG`: train a model that a YAML file describes, and keep its weights with a card.

A part that names something to call looks like {use: "module:name", argument: value, ...}. What a file may hold:

    name, what, seed          its name in file names; what it is, for the card; where all randomness starts
    model                     called with its arguments alone
    prepare                   called with model= and tracks= before training, for example for an input scaling
    step                      gives the training step, (model, batch) -> loss
    data                      tracks (one {source: .., split: .., ..}, the arguments of open_tracks, or a list of them;
                              seeds: [from, to]), seconds; perhaps remix, augment (the arguments of Augmentation), stems
    validation                called with model= (the weights) and tracks=; gives scores by name
    optimizer                 called with params=
    schedule                  kind (a name in course_lib.training.schedules) and its arguments
    training                  steps, batch_size (a process); perhaps workers and the arguments of fit
    keep                      write weights and logs to data/: dtype, for example float16; best: true for the best ones
"""

import argparse
import importlib
import inspect
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator

from course_lib.data import open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.loaders import RandomChunks, Remix
from course_lib.paths import data_dir, repository_root
from course_lib.training.checkpoints import RunFolder
from course_lib.training.loop import History, by_main_process, end_processes, fit, process_batches
from course_lib.training.schedules import SCHEDULES
from course_lib.training.weights import read_card, save_weights

CONFIGS = Path(__file__).parent / "configs"
NEEDED = {"name", "what", "seed", "model", "step", "data", "optimizer", "training"}
SECTIONS = NEEDED | {"prepare", "validation", "schedule", "keep"}
FIT_OPTIONS = {name for name, parameter in inspect.signature(fit).parameters.items()
               if parameter.kind is parameter.KEYWORD_ONLY}
FIT_OPTIONS -= {"folder", "schedule", "validate", "progress", "accelerator"}       # what the command itself passes
# the sections that are mappings: what they must hold, and what they may (None: the arguments of what they name)
PARTS = {
    "model": ({"use"}, None), "step": ({"use"}, None), "optimizer": ({"use"}, None), "prepare": ({"use"}, None),
    "validation": ({"use", "tracks"}, None), "schedule": ({"kind"}, None),
    "data": ({"tracks", "seconds"}, {"remix", "augment", "stems"}),
    "training": ({"steps", "batch_size"}, {"workers"} | FIT_OPTIONS),
    "keep": (set(), {"dtype", "best"}),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course train`."""
    parser.add_argument("config", help=f"a YAML file, or one of the course's own: {', '.join(shipped_configs())}")
    parser.add_argument("--folder", type=Path, metavar="DIR",
                        help="where checkpoints and logs go, and where a run goes on (default: data/training/NAME; of "
                             "a trial NAME_trial)")
    parser.add_argument("--steps", type=int, metavar="N",
                        help="another number of updates than the file's; of one of the course's own this is a trial, "
                             "which leaves data/checkpoints and data/results as they are")
    parser.add_argument("--seed", type=int, metavar="N", help="another seed than the file's; likewise a trial")
    parser.add_argument("--afresh", action="store_true", help="delete what an earlier run left in the folder")
    parser.add_argument("--no-keep", action="store_true", help="leave data/checkpoints and data/results as they are")


def main(arguments: argparse.Namespace) -> int:
    """What `course train` does; its exit status."""
    config = read_config(arguments.config)
    command = f"uv run course train {Path(arguments.config).stem if is_shipped(arguments.config) else arguments.config}"
    if arguments.seed is not None:
        config["seed"] = arguments.seed
        command += f" --seed {arguments.seed}"
    if arguments.steps is not None:
        config["training"]["steps"] = arguments.steps
        command += f" --steps {arguments.steps}"
    trial = is_trial(config)
    folder = arguments.folder or data_dir() / "training" / (config["name"] + ("_trial" if trial else ""))
    accelerator = Accelerator()
    if arguments.afresh:
        by_main_process(accelerator, RunFolder(folder).delete)
    keep = not (arguments.no_keep or trial)
    try:
        history = run_config(config, folder, command=command, keep=keep, accelerator=accelerator)
    except FloatingPointError as error:
        raise ValueError(f"{error}. The last checkpoint is in {folder}") from error
    if accelerator.is_main_process:
        early = " (stopped early)" if history.stopped_early else ""
        best = f", best score {history.best[0]:.3f} at step {history.best[1]}" if history.best else ""
        last = history.steps[-1]
        print(f"{config['name']}: {last['step']} steps{early}, loss {last['loss']:.3f}{best}; logs and checkpoints in "
              f"{folder}")
        if trial and not arguments.no_keep and "keep" in config:
            print(f"a trial, not kept: this is not the {config['name']} that comes with the course. To keep its weights, "
                  "write it to a file with another name in it")
    end_processes(accelerator)
    return 0


def shipped_configs() -> list[str]:
    """The names of the configurations that come with the course."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def is_shipped(config: str) -> bool:
    """Whether this is the name of a configuration that comes with the course."""
    return config in shipped_configs()


def is_trial(config: Mapping[str, object]) -> bool:
    """Whether this has the name of a configuration of the course, whose weights are committed, and differs from it."""
    return is_shipped(config["name"]) and config != read_config(config["name"])


def read_config(config: str) -> dict:
    """A configuration, from a file or by the name of a shipped one. ValueError for unknown or missing parts."""
    path = CONFIGS / f"{config}.yaml" if is_shipped(config) else Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration {config!r}; expected a YAML file, or one of "
                                f"{', '.join(shipped_configs())}")
    try:
        read = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    _check_names(path.name, read, NEEDED, SECTIONS)
    for section, (needed, optional) in PARTS.items():
        if section in read:
            known = None if optional is None else needed | optional
            _check_names(f"{section} in {path.name}", read[section], needed, known)
    for section, name in (("training", "steps"), ("training", "batch_size")):
        _check_number(path, f"{name} in {section}", read[section][name], 1)
    _check_number(path, "seed", read["seed"], 0)
    for section in ("model", "step", "optimizer", "prepare", "validation"):
        if section in read:
            named(read[section])
    if "schedule" in read:
        schedule_of(read["schedule"], read["training"]["steps"])
    if "keep" in read:
        _dtype(read["keep"])
    return read


def _check_names(where: str, part: object, needed: set[str], known: set[str] | None) -> None:
    """ValueError where a part of a configuration lacks a name, or has one that nothing reads."""
    if not isinstance(part, Mapping):
        raise ValueError(f"{where} is {type(part).__name__} {str(part)[:40]!r}; expected names with values, among them "
                         f"{', '.join(sorted(needed))}")
    if absent := needed - set(part):
        raise ValueError(f"{where} lacks {', '.join(sorted(absent))}")
    if known is not None and (unknown := sorted(map(str, set(part) - known))):
        raise ValueError(f"{where} has {', '.join(unknown)}, which is not known; expected {', '.join(sorted(known))}")


def _check_number(path: Path, name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} in {path.name} is {value!r}; expected a whole number from {least} on")


def use(part: Mapping[str, object], **further) -> object:
    """Call what a part of a configuration names, {"use": "module:name", argument: value, ...}.

    Raises ValueError where it does not take these arguments.
    """
    arguments = {name: value for name, value in part.items() if name != "use"}
    function = named(part)
    try:
        inspect.signature(function).bind(**further, **arguments)
    except TypeError as error:
        raise ValueError(f"{part['use']} can't be called with {', '.join([*further, *arguments]) or 'nothing'}: "
                         f"{error}; it takes {inspect.signature(function)}") from error
    return function(**further, **arguments)


def named(part: Mapping[str, object]) -> Callable:
    """The function or class that a part names by "use": "module:name". ValueError where there is none."""
    module, _, name = str(part.get("use", "")).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"use is {part.get('use')!r}: {error}; expected MODULE:NAME, for example "
                         "torch.optim:Adam") from error


def schedule_of(part: Mapping[str, object], steps: int) -> Callable[[int], float]:
    """The learning-rate schedule of {"kind": name in SCHEDULES, argument: value, ...}. ValueError for unknown ones."""
    if part["kind"] not in SCHEDULES:
        raise ValueError(f"kind of schedule is {part['kind']!r}; expected one of {', '.join(sorted(SCHEDULES))}")
    arguments = {name: value for name, value in part.items() if name != "kind"}
    try:
        return SCHEDULES[part["kind"]](steps=steps, **arguments)
    except TypeError as error:
        raise ValueError(f"schedule {part['kind']} with {arguments}: {error}") from error


def tracks_of(parts) -> list:
    """The songs of one part, {"source": ..., "split": ..., ...}, or of several after each other.

    A part's further names are arguments of `open_tracks`; seeds: [from, to], without the last. ValueError for others.
    """
    tracks = []
    for part in [parts] if isinstance(parts, Mapping) else parts:
        _check_names("tracks", part, {"source"}, None)
        arguments = dict(part)
        if isinstance(part.get("seeds"), list):
            arguments["seeds"] = range(*part["seeds"])
        try:
            tracks += open_tracks(arguments.pop("source"), arguments.pop("split", "train"), **arguments)
        except TypeError as error:
            raise ValueError(f"tracks {dict(part)} can't be opened: {error}") from error
    return tracks


def chunks_of(data: Mapping[str, object], tracks: list, length: int, seed: int) -> RandomChunks:
    """The training chunks: {"seconds": ..., "remix": false, "augment": {gain: [.., ..], ...}, "stems": [...]}."""
    further = {"stems": data["stems"]} if "stems" in data else {}
    augment = data.get("augment")
    if augment is not None:
        try:
            augment = Augmentation(**{**augment, "gain": tuple(augment.get("gain", (0.25, 1.25)))})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"augment is {augment}: {error}; expected the arguments of Augmentation, "
                             f"{inspect.signature(Augmentation)}") from error
    kind = Remix if data.get("remix") else RandomChunks
    return kind(tracks, data["seconds"], length, seed, augment=augment, **further)


def run_config(config: Mapping[str, object], folder: Path, *, command: str, keep: bool = True,
               progress: bool = True, accelerator: Accelerator | None = None) -> History:
    """Train what a configuration describes in `folder`; keep weights, card and log where it says `keep`.

    Raises ValueError where the folder holds a run of another configuration (training.steps may grow).
    """
    accelerator = accelerator or Accelerator()
    settings = dict(config["training"])
    steps, batch_size, workers = settings.pop("steps"), settings.pop("batch_size"), settings.pop("workers", 0)
    _check_folder(config, folder, accelerator)
    tracks = tracks_of(config["data"]["tracks"])
    torch.manual_seed(config["seed"])                       # initial weights, then dropout
    model = use(config["model"])
    if "prepare" in config:
        use(config["prepare"], model=model, tracks=tracks)
    torch.manual_seed(config["seed"] + accelerator.process_index)
    optimizer = use(config["optimizer"], params=model.parameters())
    schedule = None if "schedule" not in config else schedule_of(config["schedule"], steps)
    length = steps * settings.get("accumulate", 1) * batch_size * accelerator.num_processes
    dataset = chunks_of(config["data"], tracks, length, config["seed"])
    validate = None
    if "validation" in config:
        part = dict(config["validation"])
        songs = tracks_of(part.pop("tracks"))
        validate = lambda weights: use(part, model=weights, tracks=songs)      # noqa: E731
    history = fit(model, use(config["step"]), process_batches(dataset, batch_size, accelerator, workers, "thread"),
                  optimizer, steps, folder=folder, schedule=schedule, validate=validate, progress=progress,
                  accelerator=accelerator, **settings)
    if keep and "keep" in config and accelerator.is_main_process:
        keep_weights(config, model, history, folder, command)
    return history


def _check_folder(config: Mapping[str, object], folder: Path, accelerator: Accelerator) -> None:
    """`fit` compares what it was given; here the rest of the configuration is, before songs are opened."""
    decides = {name: part for name, part in config.items() if name not in ("name", "what", "keep", "training")}
    training = {name: value for name, value in config["training"].items()
                if name not in ("steps", "workers", "checkpoint_every")}           # the last two change no weight
    by_main_process(accelerator, lambda: RunFolder(folder).check_settings(
        {**decides, "training": training}, config["training"]["steps"], "config.json"))


def keep_weights(config: Mapping[str, object], model: torch.nn.Module, history: History, folder: Path,
                 command: str) -> Path:
    """Write the weights with their card to data/checkpoints, the logs to data/results; return the weights' path."""
    from safetensors.torch import load_file

    part, root = config["keep"], repository_root() or Path.cwd()
    if part.get("best") and history.best:
        model.load_state_dict(load_file(folder / "best.safetensors"))
    card = {"what": config["what"], "trained_on": config["data"]["tracks"], "steps": history.steps[-1]["step"],
            "seed": config["seed"], "command": command, "machine": machine(),
            "minutes": round(history.steps[-1]["seconds"] / 60, 1), "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "score": _score(history, part.get("best", False)), "best": history.best, "config": dict(config)}
    path = save_weights(root / "data" / "checkpoints" / f"{config['name']}.safetensors", model, card, _dtype(part))
    results = root / "data" / "results"
    results.mkdir(parents=True, exist_ok=True)
    for log in ("log", "validation"):
        if (folder / f"{log}.csv").is_file():
            shutil.copyfile(folder / f"{log}.csv", results / f"{config['name']}_{log}.csv")
    print(f"kept {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return path


def _score(history: History, best: bool) -> dict | None:
    """The validation scores of the weights that are kept: of the best ones, or of the last."""
    rows = [row for row in history.validations if not best or (history.best and row["step"] == history.best[1])]
    return rows[-1] if rows else None


def _dtype(keep: Mapping[str, object]) -> torch.dtype | None:
    name = keep.get("dtype")
    if name is not None and name not in ("float16", "bfloat16", "float32"):
        raise ValueError(f"dtype in keep is {name!r}; expected float16, bfloat16 or float32")
    return None if name is None else getattr(torch, name)


def machine() -> str:
    """What the run ran on, in words that name no host."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    version = torch.__version__.split("+")[0]
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {version}"


__all__ = ["chunks_of", "configure", "keep_weights", "main", "read_card", "read_config", "run_config",
           "shipped_configs", "tracks_of"]
