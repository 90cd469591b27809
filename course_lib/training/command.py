"""`course train CONFIG`: train a model that a YAML file describes, and keep its weights with a card.

What a file may say is in `course_lib.training.configuration`.
"""

import argparse
import inspect
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator

from course_lib.paths import data_dir, repository_root
from course_lib.results import Results, machine
from course_lib.training.add_curve import curve_of
from course_lib.training.checkpoints import RunFolder
from course_lib.training.configuration import (
    chunks_of,
    dtype_of,
    is_shipped,
    is_trial,
    optimizer_of,
    read_config,
    schedule_of,
    settings_of,
    shipped_configs,
    tracks_of,
)
from course_lib.training.fine_tuning import Checkpoint, begin, described, open_checkpoint, with_start
from course_lib.training.loop import History, fit, process_batches
from course_lib.training.named import named, use
from course_lib.training.parts import Part
from course_lib.training.processes import by_main_process, end_processes
from course_lib.training.settings import NOT_COMPARED
from course_lib.training.trained import Facts
from course_lib.training.weights import blend, save_weights


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
    folder = RunFolder(arguments.folder or data_dir() / "training" / (config["name"] + ("_trial" if trial else "")))
    accelerator = Accelerator()
    if arguments.afresh:
        by_main_process(accelerator, folder.delete)
    keep = not (arguments.no_keep or trial)
    try:
        history = run_config(config, folder, command=command, keep=keep, accelerator=accelerator)
    except FloatingPointError as error:
        raise ValueError(f"{error}. The last checkpoint is in {folder.path}") from error
    if accelerator.is_main_process:
        early = " (stopped early)" if history.stopped_early else ""
        best = f", best score {history.best[0]:.3f} at step {history.best[1]}" if history.best else ""
        last = history.steps[-1]
        print(f"{config['name']}: {last['step']} steps{early}, loss {last['loss']:.3f}{best}; logs and checkpoints in "
              f"{folder.path}")
        if trial and not arguments.no_keep and "keep" in config:
            print(f"a trial, not kept: this is not the {config['name']} that comes with the course. To keep its "
                  "weights, write it to a file with another name in it")
    end_processes(accelerator)
    return 0


def run_config(config: Mapping[str, object], folder: Path | RunFolder, *, command: str, keep: bool = True,
               progress: bool = True, accelerator: Accelerator | None = None) -> History:
    """Train what a configuration describes in `folder`; keep weights, card and log where it says `keep`.

    Raises ValueError where the folder holds a run of another configuration (training.steps may grow), or one that is
    going on.
    """
    accelerator = accelerator or Accelerator()
    folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    checkpoint = None
    if "start" in config:
        checkpoint = open_checkpoint(config["start"])
        config = with_start(config, checkpoint)
    held = by_main_process(accelerator, folder.lock)
    try:
        compared = _check_folder(config, folder, accelerator)
        model, history = _train(config, folder, accelerator, progress, checkpoint)
        by_main_process(accelerator, lambda: folder.write_settings(*compared))
        if keep and "keep" in config and accelerator.is_main_process:
            keep_weights(config, model, history, folder.path, command)
        return history
    finally:
        if held and accelerator.is_main_process:
            folder.unlock()


def _train(config: Mapping[str, object], folder: RunFolder, accelerator: Accelerator, progress: bool,
           checkpoint: Checkpoint | None) -> tuple[torch.nn.Module, History]:
    """Build what a configuration names, in an order that no seed may depend on, and train it."""
    settings, batch_size = settings_of(config["training"]), config["training"]["batch_size"]
    length = settings.steps * settings.accumulate * batch_size * accelerator.num_processes
    material, dataset = _material(config, length)
    torch.manual_seed(config["seed"])                       # initial weights, then dropout
    model = use(config["model"])
    if checkpoint is not None:
        begun = begin(model, config["model"], checkpoint, config["start"].get("from"))
        if progress and accelerator.is_main_process:
            print(f"begins with {checkpoint.name}: {described(begun)}")
    _check_data(model, dataset)
    facts = _facts(config, dataset)
    if facts is not None:
        model.facts = facts
    parts = [use(part, model=model) for part in config.get("parts", [])]
    if wrong := [type(part).__name__ for part in parts if not isinstance(part, Part)]:
        raise ValueError(f"parts gave {', '.join(wrong)}; expected functions that give a Part")
    if "prepare" in config:
        use(config["prepare"], model=model, **material)
    torch.manual_seed(config["seed"] + accelerator.process_index)
    optimizer = optimizer_of(config["optimizer"], model)
    schedule = None if "schedule" not in config else schedule_of(config["schedule"], settings.steps)
    validate = None if "validation" not in config else _validation(config["validation"], dataset)
    step = use(config["step"], **({"parts": {part.name: part.module for part in parts}} if parts else {}))
    batches = process_batches(dataset, batch_size, accelerator, config["training"].get("workers", 0), "thread")
    history = fit(model, step, batches, optimizer, settings, parts=parts, folder=folder, schedule=schedule,
                  validate=validate, progress=progress, accelerator=accelerator)
    return model, history


def _material(config: Mapping[str, object], length: int) -> tuple[dict, object]:
    """What `prepare` is given, and the data set that is trained on."""
    if "use" in config["data"]:
        dataset = use(config["data"], seed=config["seed"], length=length)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or len(dataset) < length:
            found = f"{len(dataset)} items" if hasattr(dataset, "__len__") else type(dataset).__name__
            raise ValueError(f"{config['data']['use']} gave {found}; expected a data set of {length} items, item i a "
                             "function of its seed and i")
        return {"data": dataset}, dataset
    tracks = tracks_of(config["data"]["tracks"])
    return {"tracks": tracks}, chunks_of(config["data"], tracks, length, config["seed"])


def _check_data(model: torch.nn.Module, dataset: object) -> None:
    """ValueError where the model's sources are not the data's stems (each output would learn another one's sound), or
    their channels differ.
    """
    sources, stems = getattr(model, "sources", None), getattr(dataset, "stems", None)
    if sources is not None and stems is not None and list(sources) != list(stems):
        raise ValueError(f"the model has the sources {', '.join(sources)}, the data the stems {', '.join(stems)}; "
                         f"write stems: [{', '.join(sources)}] in data")
    takes, has = getattr(model, "audio_channels", None), getattr(dataset, "channels", None)
    if takes is not None and has is not None and takes != has:
        advice = "write mono: true in tracks" if takes == 1 else f"export the songs with {takes} channels"
        raise ValueError(f"the model takes {takes} channel{'s' if takes > 1 else ''}, the data have {has}; {advice}")


def _facts(config: Mapping[str, object], dataset: object) -> Facts | None:
    """The facts of a configuration. ValueError where the data have another rate or other stems."""
    if "facts" not in config:
        return None
    facts = Facts.of(config["facts"], "facts")
    rate, stems = getattr(dataset, "rate", None), getattr(dataset, "stems", None)
    if facts.rate is not None and rate is not None and facts.rate != rate:
        raise ValueError(f"facts say a rate of {facts.rate} Hz, the data have {rate} Hz; correct one of them")
    if facts.stems is not None and stems is not None and not set(facts.stems) <= set(stems):
        raise ValueError(f"facts name the stems {', '.join(facts.stems)}, the data have {', '.join(stems)}; correct "
                         "one of them")
    return facts


def _validation(part: Mapping[str, object], dataset: object):
    """The `validate` of `fit`: what the section names, on its own songs or data, or on the data that are trained on."""
    part = dict(part)
    if "tracks" in part:
        takes_tracks = "tracks" in inspect.signature(named(part)).parameters
        material = {"tracks" if takes_tracks else "data": tracks_of(part.pop("tracks"))}
    else:
        material = {"data": use(part.pop("data")) if "data" in part else dataset}
    return lambda weights: use(part, model=weights, **material)


def _check_folder(config: Mapping[str, object], folder: RunFolder, accelerator: Accelerator) -> tuple:
    """`fit` compares what it was given; here the rest of the configuration is, before songs are opened.

    A new run keeps it at once; one that goes on when it has come to its end, for `fit` may refuse the folder. Returns
    the arguments of `RunFolder.write_settings`.
    """
    decides = {name: part for name, part in config.items() if name not in ("name", "what", "keep", "training")}
    training = {name: value for name, value in config["training"].items()
                if name not in (*NOT_COMPARED, "workers")}                         # these change no weight
    compared = {**decides, "training": training}, config["training"]["steps"], "config.json"

    def check() -> None:
        folder.check_settings(*compared, may_be_new=("facts",))
        if not folder.has_checkpoints():
            folder.write_settings(*compared)
    by_main_process(accelerator, check)
    return compared


def keep_weights(config: Mapping[str, object], model: torch.nn.Module, history: History, folder: Path,
                 command: str) -> Path:
    """Write the weights with their card to data/checkpoints, the logs to data/results; return the weights' path."""
    from safetensors.torch import load_file

    part, root = config["keep"], repository_root() or Path.cwd()
    if part.get("best") and history.best:
        model.load_state_dict(load_file(folder / "best.safetensors"))
    if "blend" in part:
        blend(model, **part["blend"])
    card = {"what": config["what"], "trained_on": config["data"].get("tracks", config["data"]),
            "steps": history.steps[-1]["step"], "seed": config["seed"], "command": command, "machine": machine(),
            "minutes": round(history.steps[-1]["seconds"] / 60, 1), "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "score": _score(history, part.get("best", False)), "best": history.best,
            "curve": curve_of(history.validations, config["training"].get("monitor")), "config": dict(config)}
    if "blend" in part:
        card["score_of"] = "the weights before they were blended"
    path = save_weights(root / "data" / "checkpoints" / f"{config['name']}.safetensors", model, card, dtype_of(part))
    topic = str(part.get("topic", "training"))
    results = Results(topic, root / "data" / "results" / topic)
    for log in ("log", "validation"):
        if (folder / f"{log}.csv").is_file():
            results.write_text(f"{config['name']}_{log}.csv", (folder / f"{log}.csv").read_text(encoding="utf8"))
    print(f"kept {path.name} ({path.stat().st_size / 1e6:.1f} MB)")
    return path


def _score(history: History, best: bool) -> dict | None:
    """The validation scores of the weights that are kept: of the best ones, or of the last."""
    rows = [row for row in history.validations if not best or (history.best and row["step"] == history.best[1])]
    return rows[-1] if rows else None


__all__ = ["configure", "keep_weights", "main", "run_config"]
