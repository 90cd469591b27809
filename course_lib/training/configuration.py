"""What a file for `course train` may say: read, checked, and every name in it found before anything is rendered.

A part that names something to call looks like {use: "module:name", argument: value, ...}. What a file may hold:

    name, what, seed          its name in file names; what it is, for the card; where all randomness starts
    start                     the weights to begin with, for fine-tuning: {trained: NAME of the course's}, {official:
                              NAME of a release of Demucs} or {file: PATH}; perhaps sources, from and member: see
                              course_lib.training.fine_tuning
    model                     called with its arguments alone; with start it may be left out, and is the checkpoint's
    facts                     what audio the model is made for, as `Facts` names it: rate, stems, n_fft, hop_length,
                              segment, labels. They go with the model (`model.facts`), into its card, and back by
                              `load_trained`
    prepare                   called with model= and tracks= (or data=) before training, e.g. for an input scaling
    parts                     a list of parts to call with model=; each gives a `Part`: an adversary, a codebook, ...
    step                      gives the training step, (model, batch) -> loss; where there are parts, it is called with
                              parts= their modules by name
    data                      songs: tracks (one {source: .., split: .., ..}, the arguments of open_tracks, or a list of
                              them; seeds: [from, to]; middle: only so many seconds of each song), seconds; perhaps
                              remix (true or a share), augment (the arguments of Augmentation, or {use: ..}), repitch
                              (use: what moves sound, and the arguments of Repitch), stems. Or anything else,
                              {use: ...}: called with seed= and length= (items of the whole run), it gives a data set
                              whose item i is a pure function of (seed, i)
    validation                called with model= (the weights) and tracks= where it names tracks (data= where it takes
                              no tracks=), else with data=: of {use: ...} in it, or the data set that is trained on.
                              Gives scores by name
    optimizer                 called with params=; groups: a list of {names: "crosstransformer.*", weight_decay: 0.05,
                              ..}, other settings for the parameters whose names match; the first that matches counts
    schedule                  kind (a name in course_lib.training.schedules) and its arguments
    training                  steps, batch_size (a process); perhaps workers and the fields of `FitSettings`
    keep                      write weights and logs to data/: dtype, for example float16; best: true for the best ones;
                              topic: the folder of data/results for the logs, for example 04_open_unmix;
                              blend: {checkpoint: NAME, share: ..}, the arguments of `weights.blend`

Numbers are read as everywhere else (1e-3 is one), true and false alone are truth values, and a number in quotes is
refused where it stands.
"""

import fnmatch
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import torch
import yaml
from torch import nn

from course_lib.data import Track, open_tracks
from course_lib.data.augmentation import Augmentation, Repitch
from course_lib.data.loaders import RandomChunks, Remix
from course_lib.training.fine_tuning import check_start
from course_lib.training.named import named, use
from course_lib.training.parts import some
from course_lib.training.schedules import SCHEDULES
from course_lib.training.settings import FitSettings
from course_lib.training.trained import Facts

CONFIGS = Path(__file__).parent / "configs"
NEEDED = {"name", "what", "seed", "model", "step", "data", "optimizer", "training"}
SECTIONS = NEEDED | {"start", "facts", "prepare", "parts", "validation", "schedule", "keep"}
SONGS = ({"tracks", "seconds"}, {"remix", "augment", "repitch", "stems"})
REPITCH = {"use"} | {field.name for field in fields(Repitch)} - {"move"}
# the sections that are mappings: what they must hold, and what they may (None: the arguments of what they name)
PARTS = {
    "model": ({"use"}, None), "step": ({"use"}, None), "optimizer": ({"use"}, None), "prepare": ({"use"}, None),
    "validation": ({"use"}, None), "schedule": ({"kind"}, None),
    "training": ({"steps", "batch_size"}, {"workers"} | {field.name for field in fields(FitSettings)}),
    "keep": (set(), {"dtype", "best", "topic", "blend"}),
}
NUMBER = re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
TEXTS = {"name", "what", "use"}                         # where a number may be a name


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and truth values: PyYAML's 1.1 takes 1e-3 for text, 1:30 for 90 and `no` for false."""

    yaml_implicit_resolvers = {first: [(tag, pattern) for tag, pattern in known if tag not in (
        "tag:yaml.org,2002:float", "tag:yaml.org,2002:int", "tag:yaml.org,2002:bool")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()}


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"),
                              list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(
    r"[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."))


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
    """A configuration, from a file or by the name of a shipped one. ValueError for unknown, missing or wrong parts."""
    path = CONFIGS / f"{config}.yaml" if is_shipped(config) else Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration {config!r}; expected a YAML file, or one of "
                                f"{', '.join(shipped_configs())}")
    read = parse(path.read_bytes(), path.name)
    begins = isinstance(read, Mapping) and "start" in read
    check_names(path.name, read, NEEDED - {"model"} if begins else NEEDED, SECTIONS)
    if begins:
        check_start(read["start"], f"start in {path.name}")
    for section, (needed, optional) in PARTS.items():
        if section in read:
            known = None if optional is None else needed | optional
            check_names(f"{section} in {path.name}", read[section], needed, known)
    _check_data(path.name, read)
    for section, name in (("training", "steps"), ("training", "batch_size")):
        _check_number(path, f"{name} in {section}", read[section][name], 1)
    _check_number(path, "seed", read["seed"], 0)
    if "workers" in read["training"]:
        _check_number(path, "workers in training", read["training"]["workers"], 0)
    settings_of(read["training"], f"training in {path.name}")
    _check_groups(read["optimizer"], f"optimizer in {path.name}")
    Facts.of(read.get("facts", {}), f"facts in {path.name}")
    for part in _calls(read):
        named(part)
    if "schedule" in read:
        schedule_of(read["schedule"], read["training"]["steps"])
    if "keep" in read:
        dtype_of(read["keep"])
    return read


def parse(content: bytes, name: str) -> object:
    """What a YAML text says. ValueError where it is none, and for a number in quotes, wherever it stands."""
    try:
        read = yaml.load(content.decode("utf8"), _Loader)                  # noqa: S506 (it is a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    for where, value in _texts(read):
        if NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{where} in {name} is the text {value!r}; expected a number, written without quotes")
    return read


def _texts(value: object, where: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a structure that are no names, with where they stand."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in TEXTS:
                yield from _texts(inner, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{where}[{number}]")
    elif isinstance(value, str):
        yield where, value


def _calls(read: Mapping[str, object]) -> list[Mapping[str, object]]:
    """All parts of a configuration that name something to call."""
    parts = [read[section] for section in ("model", "step", "optimizer", "prepare", "validation") if section in read]
    parts += read.get("parts", [])
    data = read["data"]
    parts += [data] if "use" in data else [data["repitch"]] if "repitch" in data else []
    inner = read.get("validation", {}).get("data")
    return parts + ([inner] if inner is not None else [])


def _check_data(file: str, read: Mapping[str, object]) -> None:
    """The sections whose form depends on where the data come from."""
    data, where = read["data"], f"data in {file}"
    if isinstance(data, Mapping) and "use" in data:
        check_names(where, data, {"use"}, None)
    else:
        check_names(where, data, SONGS[0], SONGS[0] | SONGS[1])
        _check_share(where, data, "remix")
        if "repitch" in data:
            check_names(f"repitch of {where}", data["repitch"], {"use"}, REPITCH)
    if "keep" in read:
        _check_truth(f"keep in {file}", read["keep"], "best")
    parts = read.get("parts", [])
    if not isinstance(parts, list):
        raise ValueError(f"parts in {file} is {type(parts).__name__}; expected a list of {{use: ...}}")
    for number, part in enumerate(parts):
        check_names(f"parts[{number}] in {file}", part, {"use"}, None)
    validation = read.get("validation", {})
    if "data" in validation:
        check_names(f"validation.data in {file}", validation["data"], {"use"}, None)
        if "tracks" in validation:
            raise ValueError(f"validation in {file} has tracks and data; name one of them")
    elif validation and "tracks" not in validation and "use" not in data:
        raise ValueError(f"validation in {file} lacks tracks; name the songs that are not trained on")


def check_names(where: str, part: object, needed: set[str], known: set[str] | None) -> None:
    """ValueError where a part of a configuration lacks a name, or has one that nothing reads."""
    if not isinstance(part, Mapping):
        raise ValueError(f"{where} is {type(part).__name__} {str(part)[:40]!r}; expected names with values, among them "
                         f"{', '.join(sorted(needed or known or ()))}")
    if absent := needed - set(part):
        raise ValueError(f"{where} lacks {', '.join(sorted(absent))}")
    if known is not None and (unknown := sorted(map(str, set(part) - known))):
        raise ValueError(f"{where} has {', '.join(unknown)}, which is not known; expected {', '.join(sorted(known))}")


def _check_number(path: Path, name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} in {path.name} is {value!r}; expected a whole number from {least} on")


def _check_truth(where: str, part: Mapping[str, object], name: str) -> None:
    if not isinstance(part.get(name, False), bool):
        raise ValueError(f"{name} in {where} is {part[name]!r}; expected true or false")


def _check_share(where: str, part: Mapping[str, object], name: str) -> None:
    value = part.get(name, False)
    if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} in {where} is {value!r}; expected true, false or a share from 0 to 1")


def _check_groups(part: Mapping[str, object], where: str) -> None:
    """ValueError where the groups of an optimizer have no names, or settings that it does not know."""
    groups = part.get("groups", [])
    if not isinstance(groups, list):
        raise ValueError(f"groups of {where} is {groups!r}; expected a list of {{names: PATTERN, setting: value}}")
    known = set(inspect.signature(named(part)).parameters) - {"params"}
    for number, group in enumerate(groups):
        check_names(f"groups[{number}] of {where}", group, {"names"}, {"names"} | known)
        if not isinstance(group["names"], str):
            raise ValueError(f"names in groups[{number}] of {where} is {group['names']!r}; expected a pattern such as "
                             "crosstransformer.*")


def optimizer_of(part: Mapping[str, object], model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of {"use": ..., argument: value, ..., "groups": [{"names": pattern, argument: value, ...}]}.

    A parameter belongs to the first group whose pattern (* and ? as in file names) its name matches, else to none.
    ValueError for a pattern that nothing is left for.
    """
    part = dict(part)
    groups, left = part.pop("groups", []), dict(model.named_parameters())
    if not groups:
        return use(part, params=left.values())
    params = []
    for group in groups:
        mine = {name: left.pop(name) for name in list(left) if fnmatch.fnmatchcase(name, group["names"])}
        if not mine:
            raise ValueError(f"names {group['names']!r} in groups of optimizer match no parameter that is left; the "
                             f"model has {some([name for name, _ in model.named_parameters()])}")
        params.append({"params": list(mine.values()), **{key: value for key, value in group.items() if key != "names"}})
    return use(part, params=[*([{"params": list(left.values())}] if left else []), *params])


def settings_of(training: Mapping[str, object], where: str = "training") -> FitSettings:
    """The settings of `fit` in the section `training`. ValueError for wrong ones, by name."""
    return FitSettings.from_mapping({name: value for name, value in training.items()
                                     if name not in ("batch_size", "workers")}, where)


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

    A part's further names are arguments of `open_tracks`; seeds: [from, to], without the last; middle: seconds, only
    the middle of each song. ValueError for others.
    """
    tracks = []
    for part in [parts] if isinstance(parts, Mapping) else parts:
        check_names("tracks", part, {"source"}, None)
        arguments = dict(part)
        if isinstance(part.get("seeds"), list):
            arguments["seeds"] = range(*part["seeds"])
        middle = arguments.pop("middle", None)
        try:
            opened = open_tracks(arguments.pop("source"), arguments.pop("split", "train"), **arguments)
            tracks += opened if middle is None else [_middle(track, middle) for track in opened]
        except TypeError as error:
            raise ValueError(f"tracks {dict(part)} can't be opened: {error}") from error
    return tracks


def _middle(track: Track, seconds: float) -> Track:
    """The middle of a song, or all of a shorter one."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"middle of tracks is {seconds!r}; expected seconds, a number above 0")
    return track.excerpt(max(0.0, (track.seconds - seconds) / 2), min(seconds, track.seconds))


def chunks_of(data: Mapping[str, object], tracks: list, length: int, seed: int) -> RandomChunks:
    """The training chunks: {"seconds": ..., "remix": share of remixed groups, "augment": {...}, "stems": [...]}.

    augment: the arguments of `Augmentation` ({gain: [.., ..], ...}), or {use: "module:name", argument: ...}. repitch:
    {use: "module:name", share: ...}, what moves sound and the further arguments of `Repitch`.
    """
    further = {"stems": data["stems"]} if "stems" in data else {}
    if "repitch" in data:
        check_names("repitch", data["repitch"], {"use"}, REPITCH)
        values = {name: value for name, value in data["repitch"].items() if name != "use"}
        further["repitch"] = Repitch(named(data["repitch"]), **values)
    augment, share = data.get("augment"), data.get("remix", 0)
    if augment is not None:
        if not isinstance(augment, Mapping):
            raise ValueError(f"augment is {augment!r}; expected names with values: the arguments of Augmentation, "
                             f"{inspect.signature(Augmentation)}, or use: \"module:name\" with its arguments")
        part = {"use": "course_lib.data.augmentation:Augmentation", **augment}
        augment = use({name: tuple(value) if isinstance(value, list) else value for name, value in part.items()})
    _check_share("data", data, "remix")
    if share:
        group = max(4, len(data.get("stems", ())))
        return Remix(tracks, data["seconds"], length, seed, group=group, augment=augment, share=float(share), **further)
    return RandomChunks(tracks, data["seconds"], length, seed, augment=augment, **further)


def dtype_of(keep: Mapping[str, object]) -> torch.dtype | None:
    """The type that weights are stored in; None for their own. ValueError for an unknown one."""
    name = keep.get("dtype")
    if name is not None and name not in ("float16", "bfloat16", "float32"):
        raise ValueError(f"dtype in keep is {name!r}; expected float16, bfloat16 or float32")
    return None if name is None else getattr(torch, name)
