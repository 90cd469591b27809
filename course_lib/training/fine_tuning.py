"""Fine-tuning: a training that begins with the weights of a trained network, with any list of sources.

In a configuration of `course train`:

    start: {trained: demucs_band}                     a model of the course, or {official: htdemucs}, {file: PATH}
    start: {official: htdemucs, sources: [drums, bass, other, vocals, guitar, piano], from: {guitar: {other: 0.5}}}

Without a section `model` the network is the checkpoint's, with `sources` in place of its own. The last layer's outputs
are the one place where a network knows its sources: those of a source that the checkpoint has are copied by its name.
New sources were in `other` until now: they and `other`, where it is still a source, begin as equal shares of it, so
that the estimates still add up to what they did; or as `from` says. Everything else is strict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.training.named import use
from course_lib.training.official import load_strictly
from course_lib.training.official_packages import Package, build, fetch_official, model_part, read_package
from course_lib.training.trained import Facts, load_trained

KINDS = ("trained", "official", "file")
NAMES = {*KINDS, "sources", "from", "member"}               # of the section `start`


@dataclass(frozen=True)
class Checkpoint:
    """A trained network to begin with: name, for messages; part, what a configuration calls to build it; the network;
    facts, where it has some.
    """

    name: str
    part: Mapping[str, object]
    model: nn.Module
    facts: Facts | None

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The names of its sources, in order; None where they are no argument of the network."""
        return tuple(self.part["sources"]) if "sources" in self.part else None


def check_start(start: Mapping[str, object], where: str) -> None:
    """ValueError where the section `start` of a configuration does not say what to begin with. Nothing is opened."""
    if not isinstance(start, Mapping) or set(start) - NAMES or len(set(start) & set(KINDS)) != 1:
        found = ", ".join(map(str, start)) if isinstance(start, Mapping) else repr(start)
        raise ValueError(f"{where} has {found or 'nothing'}; expected one of {', '.join(KINDS)}, and perhaps "
                         "sources, from and member")
    kind = next(name for name in KINDS if name in start)
    if not isinstance(start[kind], str):
        raise ValueError(f"{kind} in {where} is {start[kind]!r}; expected a name or a path")
    sources = start.get("sources", ["drums"])
    if not isinstance(sources, list) or not sources or not all(isinstance(one, str) for one in sources):
        raise ValueError(f"sources in {where} is {sources!r}; expected a list of names")
    origins = start.get("from", {})
    if not isinstance(origins, Mapping) or not all(
            isinstance(name, str) and isinstance(share, Real) and not isinstance(share, bool) and math.isfinite(share)
            for origin in origins.values() for name, share in _shares(origin).items()):
        raise ValueError(f"from in {where} is {origins!r}; expected for a source the one it begins as, a list of "
                         "several that are added, {source: share, ..}, or null for first weights of its own")
    member = start.get("member", 0)
    if not isinstance(member, int) or isinstance(member, bool) or member < 0:
        raise ValueError(f"member in {where} is {member!r}; expected the number of a network of a bag, from 0 on")


def open_checkpoint(start: Mapping[str, object]) -> Checkpoint:
    """The network that a section `start` names: of the course, published, or in a file (.safetensors with its card, or
    a package of Demucs). Raises FileNotFoundError and ValueError as the functions that read them.
    """
    if "official" in start:
        return _of_package(start["official"], _member(start))
    name = start["trained"] if "trained" in start else start["file"]
    if "file" in start and Path(name).suffix != ".safetensors":
        return _of_package(Path(name).name, read_package(Path(name).expanduser()))
    model = load_trained(Path(name).expanduser() if "file" in start else name)
    return Checkpoint(Path(name).name, model.card["config"]["model"], model, model.facts)


def _of_package(name: str, package: Package) -> Checkpoint:
    model = build(package)
    return Checkpoint(name, model_part(package), model, model.facts)


def _member(start: Mapping[str, object]) -> Package:
    packages = fetch_official(start["official"], progress=True).packages
    if "member" not in start and len(packages) > 1:
        raise ValueError(f"{start['official']} is a bag of {len(packages)} networks; say which one begins, member: 0 "
                         f"to {len(packages) - 1}")
    if (member := start.get("member", 0)) >= len(packages):
        raise ValueError(f"member is {member}; {start['official']} has {len(packages)} networks, counted from 0")
    return packages[member]


def with_start(config: Mapping[str, object], checkpoint: Checkpoint) -> dict[str, object]:
    """A configuration with what its checkpoint adds where it says nothing itself: model, facts, the stems of the data.

    ValueError for sources that the network can't take, or that are said in two places.
    """
    config, start = dict(config), config["start"]
    if "model" in config and "sources" in start:
        raise ValueError("sources are in start, and there is a model: say in model which sources it has")
    if "model" not in config:
        config["model"] = dict(checkpoint.part)
        if "sources" in start:
            if checkpoint.sources is None:
                raise ValueError(f"sources in start: the network of {checkpoint.name}, {checkpoint.part['use']}, takes "
                                 "no sources; leave them out")
            config["model"]["sources"] = list(start["sources"])
    sources = config["model"].get("sources")
    if "facts" not in config and checkpoint.facts is not None:
        stems = checkpoint.facts.stems and tuple(sources or checkpoint.facts.stems)
        config["facts"] = replace(checkpoint.facts, stems=stems).as_dict()
    if sources is not None and "tracks" in config["data"]:
        config["data"] = {"stems": list(sources), **config["data"]}
    return config


def begin(model: nn.Module, part: Mapping[str, object], checkpoint: Checkpoint,
          origins: Mapping[str, object] | None = None) -> dict[str, dict[str, float]]:
    """Give a network the weights of a checkpoint; for each source return {source of the checkpoint: share of it}.

    part: what built the model. origins: source -> source of the checkpoint, list of them (whose estimates are added),
    {source: share} or None (it keeps the first weights that it has); default: the same name, and for those that the
    checkpoint lacks and `other` itself equal shares of `other`; where it has no `other`, none. Raises
    ValueError for unknown sources, and for a network that differs from the checkpoint's in anything but its sources;
    the model then stays as it was.
    """
    origins, theirs = dict(origins or {}), checkpoint.model.state_dict()
    own_sources = tuple(part["sources"]) if "sources" in part else None
    if own_sources is None or checkpoint.sources is None:
        if origins:
            raise ValueError(f"from in start names {', '.join(origins)}, but {part['use']} takes no sources")
        load_strictly(model, theirs, checkpoint.name)
        return {}
    begun = _origins(own_sources, checkpoint, origins)
    own, axes = model.state_dict(), _source_axes(checkpoint)
    mixed = {}
    for name, tensor in theirs.items():
        mixed[name] = tensor
        if name in axes and name in own and own[name].ndim == tensor.ndim:
            mixed[name] = _by_source(own[name], tensor, axes[name], own_sources, checkpoint.sources, begun)
    load_strictly(model, mixed, checkpoint.name)
    return begun


def _origins(sources: Sequence[str], checkpoint: Checkpoint, asked: Mapping[str, object]) -> dict[str, dict]:
    """source -> {source of the checkpoint: share} that it begins as."""
    if unknown := [name for name in asked if name not in sources]:
        raise ValueError(f"from in start names {', '.join(unknown)}, which the model does not have; it has "
                         f"{', '.join(sources)}")
    if twice := sorted({name for name in sources if list(sources).count(name) > 1}):
        raise ValueError(f"sources of the model hold {', '.join(twice)} twice; name each once")
    known = checkpoint.sources
    sharing = [name for name in sources if name not in asked and (name == "other" or name not in known)]
    begun = {}
    for source in sources:
        if source in asked:
            begun[source] = _shares(asked[source])
        elif source in sharing:
            begun[source] = {"other": 1 / len(sharing)} if "other" in known else {}
        else:
            begun[source] = {source: 1.0}
        if unknown := [name for name in begun[source] if name not in known]:
            raise ValueError(f"from in start: {source} begins as {', '.join(unknown)}; {checkpoint.name} has "
                             f"{', '.join(known)}")
    return begun


def _shares(origin: object) -> dict:
    """What a source begins as, however it is written, as {source of the checkpoint: share}."""
    if isinstance(origin, Mapping):
        return dict(origin)
    return dict.fromkeys([] if origin is None else origin if isinstance(origin, list) else [origin], 1.0)


def _source_axes(checkpoint: Checkpoint) -> dict[str, int]:
    """Tensors in which the checkpoint's network keeps its sources apart, and along which axis.

    Found by building it with one source more: what grows by a share of the sources belongs to them.
    """
    count = len(checkpoint.sources)
    with torch.random.fork_rng(devices=[]):
        larger = use({**checkpoint.part, "sources": [*checkpoint.sources, "one more"]}).state_dict()
    axes = {}
    for name, tensor in checkpoint.model.state_dict().items():
        grown = [axis for axis, (size, more) in enumerate(zip(tensor.shape, larger[name].shape)) if size != more]
        if grown and (len(grown) > 1 or larger[name].shape[grown[0]] * count != tensor.shape[grown[0]] * (count + 1)):
            raise ValueError(f"{checkpoint.name} keeps its sources in {name} in a way that can't be taken apart; train "
                             "with its own sources")
        if grown:
            axes[name] = grown[0]
    return axes


def _by_source(own: Tensor, theirs: Tensor, axis: int, sources: Sequence[str], their_sources: Sequence[str],
               begun: Mapping[str, Mapping[str, float]]) -> Tensor:
    """A tensor of the model, its blocks along `axis`, one a source, taken from the checkpoint's."""
    blocks = dict(zip(their_sources, theirs.to(own.dtype).chunk(len(their_sources), axis)))
    first = own.chunk(len(sources), axis)
    if len(first) != len(sources) or first[0].shape != blocks[their_sources[0]].shape:
        return theirs                                       # another network: load_strictly says how it differs
    return torch.cat([sum(share * blocks[name] for name, share in begun[source].items()) if begun[source] else block
                      for source, block in zip(sources, first)], axis)


def described(begun: Mapping[str, Mapping[str, float]]) -> str:
    """What the sources of a model begin as, in words."""
    same = [source for source, shares in begun.items() if shares == {source: 1}]
    words = {source: " + ".join(name if share == 1 else f"{share:.2g} {name}" for name, share in shares.items())
             for source, shares in begun.items() if source not in same}
    others = [f"{source} as {origin or 'new'}" for source, origin in words.items()]
    return ", ".join([*(["as they are: " + " ".join(same)] if same else []), *others]) or "all weights as they are"


class SourceStep:
    """A training step whose loss counts sources unequally: one network a source, or the hard ones more.

    weights: source -> what it counts for; those not named count 0. {vocals: 1} is how each network of htdemucs_ft was
    tuned. loss: "l1" or "l2". Called with (model, sources): sources (batch, source, channel, time) in the order of the
    model's; it is given their sum, and its estimates are compared with as much of their middle as it gives. Gives the
    weighted mean as "loss", and each counted source's own error by its name. Raises ValueError for weights that are
    negative, all 0 or of sources that the model does not have. Source: the training code of Demucs; Rouard et al.
    2023, section 4.
    """

    LOSSES = {"l1": Tensor.abs, "l2": Tensor.square}

    def __init__(self, weights: Mapping[str, float], loss: str = "l1"):
        if loss not in self.LOSSES:
            raise ValueError(f"loss is {loss!r}; expected one of {', '.join(self.LOSSES)}")
        if not isinstance(weights, Mapping) or not all(
                isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < float("inf")
                for value in weights.values()) or not sum(weights.values()) > 0:
            raise ValueError(f"weights are {weights!r}; expected for each source that counts a number from 0 on, one "
                             "at least above 0")
        self.weights, self.error = dict(weights), self.LOSSES[loss]

    def __call__(self, model: nn.Module, sources: Tensor) -> dict[str, Tensor]:
        names = list(getattr(model, "module", model).sources)          # several processes wrap the model
        if unknown := [name for name in self.weights if name not in names]:
            raise ValueError(f"weights name {', '.join(unknown)}; the model has the sources {', '.join(names)}")
        estimates = model(sources.sum(1))
        if estimates.shape[:3] != sources.shape[:3]:
            raise ValueError(f"the model gives {tuple(estimates.shape)}, the targets have {tuple(sources.shape)}; "
                             "expected the same (batch, source, channel)")
        length = min(estimates.shape[-1], sources.shape[-1])
        errors = self.error(_middle(estimates, length) - _middle(sources, length)).mean((0, 2, 3))        # (source,)
        counted = {name: errors[names.index(name)] for name, weight in self.weights.items() if weight > 0}
        total = sum(self.weights[name] for name in counted)
        return {"loss": sum(self.weights[name] * error for name, error in counted.items()) / total, **counted}


def _middle(x: Tensor, length: int) -> Tensor:
    first = (x.shape[-1] - length) // 2
    return x[..., first:first + length]


__all__ = ["Checkpoint", "SourceStep", "begin", "check_start", "described", "open_checkpoint", "with_start"]
