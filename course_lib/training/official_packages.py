"""Official packages of Demucs: read without running their code, fetched by name, built as the course's own networks.

    bag = fetch_official("htdemucs_ft")               four packages, and what each counts for in each source
    models = bag.models()                             or build(package), one at a time

A package is a file SIGNATURE-DIGITS.th, the digits the first eight of its SHA-256. It holds the network's class, its
arguments and its weights in 16 bits, as a pickle: opened the usual way it imports and calls whatever it names. Here
nothing of it is imported or called (`read_package`). Releases of several networks are bags: RELEASES says which
packages they hold, `weight_licences` what they were trained on, how they scored and what they may be used for.
"""

import hashlib
import inspect
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from pathlib import Path
from pickle import UnpicklingError
from types import MappingProxyType

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from course_lib.data import STEMS
from course_lib.results import published
from course_lib.training.named import named
from course_lib.training.official import PUBLISHED_WEIGHTS, fetch_weights, load_strictly
from course_lib.training.trained import Facts
from course_lib.training.weight_files import AsksForCode, read_structure

# The classes that packages name, and the course's own. The last two stand for bare state dicts, which name none.
CLASSES: Mapping[str, str] = MappingProxyType({
    "demucs.htdemucs.HTDemucs": "course_lib.htdemucs:HTDemucs",
    "demucs.hdemucs.HDemucs": "course_lib.hdemucs:HDemucs",
    "demucs.wdemucs.WDemucs": "course_lib.hdemucs:HDemucs",
    "demucs.demucs.Demucs": "course_lib.demucs:Demucs",
    "demucs.model.Demucs": "course_lib.demucs:DemucsV2",
    "torchaudio.models.HDemucs": "course_lib.hdemucs:torchaudio_hdemucs",
})
RENAMED = {"torchaudio.models.HDemucs": "course_lib.hdemucs:from_torchaudio"}     # tensors under other names
TORCHAUDIO_SIZES = {512: "high", 256: "medium", 128: "low"}                       # by the bins after the first layer


@dataclass(frozen=True)
class Package:
    """What one file holds: klass, the network's class as "module.Class" (a key of CLASSES), its args and kwargs, the
    weights by name as they are stored, and what it was trained with. file: its name, for messages.
    """

    klass: str
    args: tuple
    kwargs: dict
    state: dict[str, Tensor]
    training_args: dict = field(default_factory=dict)
    file: str = "package"

    @property
    def sources(self) -> list[str]:
        """The names of the network's sources, in order. ValueError where the package does not say."""
        found = self.kwargs.get("sources", self.args[0] if self.args else None)
        if not isinstance(found, (list, tuple)) or not found or not all(isinstance(name, str) for name in found):
            raise ValueError(f"{self.file} has the sources {found!r}; expected a list of names")
        return list(found)


@dataclass(frozen=True)
class Bag:
    """Networks whose estimates are averaged: packages in order.

    weights: what each package counts for in each of its sources, before they are divided by their sum (None: all the
    same). segment: seconds that the networks are given at a time, in place of their own (None: their own).
    saw_test_songs: trained on MUSDB18's test songs, so that no score on them counts. Raises ValueError for packages
    that don't fit together.
    """

    name: str
    packages: tuple[Package, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None
    saw_test_songs: bool = False

    def __post_init__(self):
        first = self.packages[0]
        for other in self.packages[1:]:
            if other.sources != first.sources:
                raise ValueError(f"{self.name}: {first.file} has the sources {', '.join(first.sources)}, {other.file} "
                                 f"{', '.join(other.sources)}; expected the same in all networks of a bag")
        if self.weights is not None:
            _check_weights(self.name, self.weights, len(self.packages), first.sources)
        if self.segment is not None and not _is_number(self.segment, above=0):
            raise ValueError(f"segment of {self.name} is {self.segment!r}; expected seconds, a number above 0")

    def models(self) -> list[nn.Module]:
        """Its networks, built. `segment` replaces theirs; HTDemucs, which knows no longer one, keeps a shorter own."""
        models = [build(package) for package in self.packages]
        for package, model in zip(self.packages, models):
            if self.segment is not None and hasattr(model, "segment") and (
                    not package.klass.endswith(".HTDemucs") or self.segment <= model.segment):
                model.segment = self.segment
                model.facts = _facts(model)
        return models


@dataclass(frozen=True)
class Release:
    """A name under which packages are published: signatures of its packages, and the set in PUBLISHED_WEIGHTS they are
    in; weights, segment and saw_test_songs as in `Bag`.
    """

    packages: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None
    saw_test_songs: bool = False
    published: str = "demucs"


_ONE_EACH = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
_TRACK_A = ((1.0, 1.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 1.0, 1.0), (1.0, 0.0, 1.0, 1.0))
RELEASES: Mapping[str, Release] = MappingProxyType({
    "htdemucs": Release(("955717e8",)),
    "htdemucs_ft": Release(("f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"), _ONE_EACH),
    "htdemucs_6s": Release(("5c90dfd2",)),
    "hdemucs_mmi": Release(("75fc33f5",), segment=44),
    "repro_mdx_a": Release(("9a6b4851", "1ef250f1", "fa0cb7f9", "902315c2"), segment=44),
    "repro_mdx_a_time_only": Release(("9a6b4851", "9a6b4851", "1ef250f1", "1ef250f1"), segment=44),
    "repro_mdx_a_hybrid_only": Release(("fa0cb7f9", "902315c2", "fa0cb7f9", "902315c2"), segment=44),
    "mdx": Release(("0d19c1c6", "7ecf8ec1", "c511e2ab", "7d865c68"), _TRACK_A, 44),
    "mdx_extra": Release(("e51eebcc", "a1d90b5c", "5d2d6c55", "cfa93e08"), segment=44, saw_test_songs=True),
    "demucs": Release(("demucs",), published="demucs_v2"),
    "demucs48_hq": Release(("demucs48_hq",), published="demucs_v2"),
    "demucs_extra": Release(("demucs_extra",), published="demucs_v2"),
    "demucs_unittest": Release(("demucs_unittest",), published="demucs_v2"),
    "HDEMUCS_HIGH_MUSDB": Release(("HDEMUCS_HIGH_MUSDB",), published="torchaudio"),
    "HDEMUCS_HIGH_MUSDB_PLUS": Release(("HDEMUCS_HIGH_MUSDB_PLUS",), saw_test_songs=True, published="torchaudio"),
})


def weight_licences() -> list[dict[str, str]]:
    """All published weights that the course can load, a row each: weights, licence, trained_on, musdb_sdr_db, source.

    musdb_sdr_db: mean over the four stems as published, "" where it is not, or where the test songs were trained on.
    The numbers are data/paper/official_weights.csv's.
    """
    rows = []
    for row in published("official_weights"):
        release = RELEASES.get(row["weights"])
        known = PUBLISHED_WEIGHTS[release.published if release else row["weights"]]
        stems = [float(row[stem]) for stem in STEMS if row[stem]]
        sdr = row["all"] or (f"{sum(stems) / 4:.2f}" if stems else "")
        rows.append({"weights": row["weights"], "licence": known.licence, "trained_on": row["trained_on"],
                     "musdb_sdr_db": sdr, "source": known.source})
    return rows


# ------------------------------------------------------------------------------------------------------------- fetching

def fetch_official(name: str, folder: str | Path | None = None, *, base_url: str | None = None,
                   progress: bool = False) -> Bag:
    """A published model by its name, a key of RELEASES, or one package by its signature.

    folder: of packages on this machine, as `demucs --repo` takes it: SIGNATURE-DIGITS.th or SIGNATURE.th, perhaps
    NAME.yaml with {models: [signatures], weights, segment}; nothing is fetched then. Without it each file is fetched
    when it is first asked for and kept (`fetch_weights`, which says where, and what base_url and progress are).
    Raises ValueError for an unknown name, a file with another hash or one that is no package, FileNotFoundError where
    a file can't be had.
    """
    if folder is not None:
        return _bag_of_folder(name, Path(folder).expanduser())
    release = RELEASES.get(name)
    if release is None and name in PUBLISHED_WEIGHTS["demucs"].files:
        release = Release((name,))
    if release is None:
        hint = ": its weights are packed by diffq; take the same name without _q" if str(name).endswith("_q") else ""
        raise ValueError(f"name of an official model is {name!r}{hint}; expected one of {', '.join(RELEASES)}, or a "
                         "package's signature")
    paths = {part: fetch_weights(release.published, part, base_url=base_url, progress=progress)
             for part in dict.fromkeys(release.packages)}
    return _bag(name, release, paths)


def _bag(name: str, release: Release, paths: Mapping[str, Path]) -> Bag:
    read = {part: read_package(path) for part, path in paths.items()}
    return Bag(name, tuple(read[part] for part in release.packages), release.weights, release.segment,
               release.saw_test_songs)


def _bag_of_folder(name: str, folder: Path) -> Bag:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected packages there, SIGNATURE-DIGITS.th")
    packages: dict[str, Path] = {}
    for path in sorted(folder.glob("*.th")):
        signature = path.stem[:-9] if _digits(path) else path.stem
        if signature in packages:
            raise ValueError(f"{folder} holds {packages[signature].name} and {path.name}, both {signature}; remove one")
        packages[signature] = path
    described = folder / f"{name}.yaml"
    if described.is_file():
        release = _described(described)
    elif name in packages:
        release = Release((name,))
    elif name in RELEASES:
        release = RELEASES[name]
    else:
        names = sorted({*packages, *(path.stem for path in folder.glob("*.yaml"))})
        raise FileNotFoundError(f"{folder} has no {name}.yaml and no package {name}; it has "
                                f"{', '.join(names) or 'neither packages nor bags'}")
    if absent := [part for part in dict.fromkeys(release.packages) if part not in packages]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(absent)} of {name}; expected {absent[0]}-DIGITS.th there")
    return _bag(name, release, {part: packages[part] for part in release.packages})


def _described(path: Path) -> Release:
    """A bag from its YAML file. ValueError for one that says anything else than a bag does."""
    try:
        read = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, Mapping) or not set(read) <= {"models", "weights", "segment"}:
        found = ", ".join(map(str, read)) if isinstance(read, Mapping) else type(read).__name__
        raise ValueError(f"{path.name} holds {found}; expected models, and perhaps weights and segment")
    models, weights = read.get("models"), read.get("weights")
    if not isinstance(models, list) or not models or not all(isinstance(one, str) for one in models):
        raise ValueError(f"models in {path.name} is {models!r}; expected a list of signatures, in quotes where they "
                         "look like numbers")
    if weights is not None:
        if not isinstance(weights, list) or not all(isinstance(row, list) for row in weights):
            raise ValueError(f"weights in {path.name} is {weights!r}; expected a list for each model, with a number "
                             "for each source")
        weights = tuple(map(tuple, weights))
    return Release(tuple(models), weights, read.get("segment"))


def _check_weights(name: str, weights: Sequence[Sequence[float]], count: int, sources: Sequence[str]) -> None:
    if len(weights) != count or any(len(row) != len(sources) for row in weights):
        raise ValueError(f"weights of {name} are {len(weights)} lists of {', '.join(str(len(row)) for row in weights)}"
                         f"; expected {count}, one for each network, of {len(sources)} numbers: {', '.join(sources)}")
    if not all(_is_number(value) and value >= 0 for row in weights for value in row):
        raise ValueError(f"weights of {name} are {weights}; expected numbers from 0 on")
    for index, source in enumerate(sources):
        if not sum(row[index] for row in weights) > 0:
            raise ValueError(f"weights of {name} are all 0 for {source}; expected a network that gives it")


def _is_number(value: object, above: float = -math.inf) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and value > above


# -------------------------------------------------------------------------------------------------------------- reading

def read_package(path: str | Path) -> Package:
    """A package, or a bare state dict of Demucs v2 or of torchaudio's HDemucs, from its file. No code in it is run.

    What a package may ask for, beside tensors: the classes of CLASSES, whose names alone are taken, fractions and
    NumPy's scalars. A .th file whose name ends in -DIGITS must have that hash. Raises FileNotFoundError
    where there is no file, ValueError where it has another hash, is damaged, asks for anything else or holds something
    else: the message names the file, what was found and what to do.
    """
    path = Path(path)
    if (digits := _digits(path)) and path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(digits):
            raise ValueError(f"{path.name} has SHA-256 {found}; expected {digits}..., as its name says: it is damaged "
                             "or another file. Fetch it again, or remove it")
    try:
        content = read_structure(path, _ALLOWED, "a package of Demucs: klass, args, kwargs and state")
    except AsksForCode as error:
        if error.asked.startswith("demucs.") and error.asked not in CLASSES:
            raise ValueError(f"{path.name} is a package of {error.asked}; the course builds {_built()}") from None
        raise
    if isinstance(content, Mapping) and "klass" in content:
        return _package(content, path.name)
    if isinstance(content, Mapping) and content and all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        return _bare(dict(content), path.name)
    found = ", ".join(map(str, list(content)[:6])) if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"{path.name} holds {found or 'nothing'}; expected a package of Demucs (klass, args, kwargs, "
                     "state), or tensors by name")


def _digits(path: Path) -> str | None:
    """The digits of the hash in a file's name."""
    found = re.search(r"-([0-9a-f]{8})$", path.stem)
    return found[1] if found and path.suffix == ".th" else None


def _built() -> str:
    return ", ".join(name for name in CLASSES if name.startswith("demucs."))


def _package(content: Mapping, file: str) -> Package:
    """A package from what its file holds. ValueError where something is of another kind than it should be."""
    klass, state = content["klass"], content.get("state")
    if not isinstance(klass, _ClassName):
        raise ValueError(f"klass in {file} is {_shown(klass)}; expected one of {_built()}")
    args, kwargs = content.get("args", ()), content.get("kwargs", {})
    if not isinstance(args, (list, tuple)) or not _is_plain(args):
        raise ValueError(f"args in {file} are {_shown(args)}; expected a tuple of numbers, text, and lists of them")
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs) or not _is_plain(kwargs):
        raise ValueError(f"kwargs in {file} are {_shown(kwargs)}; expected numbers, text and lists of them by name")
    if isinstance(state, Mapping) and "__quantized" in state:
        raise ValueError(f"{file} holds weights packed by diffq, which the course does not read; take the package that "
                         "is not quantised")
    if not isinstance(state, Mapping) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise ValueError(f"state in {file} is {type(state).__name__}; expected tensors by name")
    training = content.get("training_args")
    return Package(klass.name, tuple(args), dict(kwargs), dict(state),
                   dict(training) if isinstance(training, Mapping) else {}, file)


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 400 else text[:400] + "..."


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether a structure holds nothing but numbers, text, truth values and lists and dicts of them."""
    if depth > 8:
        return False
    if isinstance(value, Mapping):
        return all(_is_plain(inner, depth + 1) for pair in value.items() for inner in pair)
    if isinstance(value, (list, tuple)):
        return all(_is_plain(inner, depth + 1) for inner in value)
    return value is None or isinstance(value, (bool, int, float, str, Fraction))


def _bare(state: dict[str, Tensor], file: str) -> Package:
    """A state dict without a class: what it belongs to is told from its names and shapes."""
    first = state.get("encoder.0.0.weight")
    if first is not None and first.ndim == 3 and "freq_emb.embedding.weight" not in state:
        size = {"audio_channels": first.shape[1], "channels": first.shape[0]}
        return Package("demucs.model.Demucs", (), {"sources": list(STEMS), **size}, state, {}, file)
    bins = state.get("freq_emb.embedding.weight")
    if bins is not None and "freq_encoder.0.conv.weight" in state and len(bins) in TORCHAUDIO_SIZES:
        kwargs = {"size": TORCHAUDIO_SIZES[len(bins)], "sources": list(STEMS)}
        return Package("torchaudio.models.HDemucs", (), kwargs, state, {}, file)
    raise ValueError(f"{file} holds tensors that say no class ({', '.join(list(state)[:3])}, ...); expected a package, "
                     "or the tensors of Demucs v2 or of torchaudio's HDemucs")


@dataclass(frozen=True, eq=False)
class _ClassName:
    """Stands for a class of demucs in a package: its name and nothing else."""

    name: str

    def __call__(self, *arguments: object) -> None:
        raise UnpicklingError(f"it calls GLOBAL {self.name}")


def _fraction(*parts: object) -> Fraction:
    """What stands for fractions.Fraction: two whole numbers, or text such as "39/5"."""
    if len(parts) == 1 and isinstance(parts[0], str) and re.fullmatch(r"-?\d{1,18}(/\d{1,18})?", parts[0]):
        return Fraction(parts[0])
    if len(parts) == 2 and all(type(part) is int for part in parts):
        return Fraction(*parts)
    raise UnpicklingError("it calls GLOBAL fractions.Fraction in its own way")


class _NumberType:
    """Stands for numpy.dtype: the types of single numbers."""

    def __init__(self, name: object, *flags: object):
        if not isinstance(name, str) or not re.fullmatch("b1|[iu][1248]|f[248]", name):
            raise UnpicklingError("it calls GLOBAL numpy.dtype in its own way")
        self.name, self.order = name, "<"

    def __setstate__(self, state: object) -> None:
        self.order = ">" if isinstance(state, tuple) and len(state) > 1 and state[1] == ">" else "<"


def _number(kind: object, content: object) -> bool | int | float:
    """What stands for NumPy's scalars: a number of Python's."""
    if not isinstance(kind, _NumberType) or not isinstance(content, bytes) or len(content) > 8:
        raise UnpicklingError("it calls GLOBAL numpy.core.multiarray.scalar in its own way")
    return np.frombuffer(content, np.dtype(kind.order + kind.name), 1)[0].item()


_ALLOWED: Mapping[str, object] = MappingProxyType({
    **{name: _ClassName(name) for name in CLASSES if name.startswith("demucs.")},
    "fractions.Fraction": _fraction, "numpy.dtype": _NumberType, "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
})


# ------------------------------------------------------------------------------------------------------------- building

def build(package: Package) -> nn.Module:
    """The course's own network of a package, its weights in 32 bits, in eval mode, with `model.facts`.

    Arguments that the network does not know are left out with a warning, as the package demucs leaves them out. Draws
    nothing from the global generators. Raises ValueError for a class that the course does not have, for arguments that
    don't fit it, and for tensors that are missing, left over, of another shape or not finite.
    """
    if package.klass not in CLASSES:
        raise ValueError(f"{package.file} is a package of {package.klass}; the course builds {_built()}")
    network = named({"use": CLASSES[package.klass]})
    known = inspect.signature(network).parameters
    kwargs = {name: value for name, value in package.kwargs.items() if name in known}
    if unknown := sorted(set(package.kwargs) - set(kwargs)):
        warnings.warn(f"{package.file}: {network.__name__} does not know {', '.join(unknown)}; left out", stacklevel=2)
    try:
        with torch.random.fork_rng(devices=[]):               # first weights are drawn, and then overwritten
            model = network(*package.args, **kwargs)
    except Exception as error:                                 # wrong values may fail anywhere in a constructor
        raise ValueError(f"{package.file} does not fit {network.__name__}: {error}. Its arguments are "
                         f"{_shown(package.args)}, {_shown(package.kwargs)}; is it a package of another "
                         "version?") from error
    state = package.state
    if package.klass in RENAMED:
        state = named({"use": RENAMED[package.klass]})(state)
    if wrong := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{package.file} holds NaN or infinite numbers in {', '.join(wrong[:3])}; it is damaged. "
                         "Fetch it again")
    load_strictly(model, state, package.file)
    model.facts = _facts(model)
    return model.eval()


def model_part(package: Package) -> dict[str, object]:
    """What builds the network of a package in a configuration of `course train`: use, and its arguments by name.

    Fractions become numbers, as JSON and YAML hold them. ValueError as `build`, whose arguments these are.
    """
    if package.klass not in CLASSES:
        raise ValueError(f"{package.file} is a package of {package.klass}; the course builds {_built()}")
    part = {"use": CLASSES[package.klass]}
    known = inspect.signature(named(part))
    given = dict(known.bind_partial(*package.args).arguments)
    given |= {name: value for name, value in package.kwargs.items() if name in known.parameters}
    if package.klass in RENAMED:                             # a function in front of a class: a card needs the class
        part = {"use": CLASSES["demucs.hdemucs.HDemucs"]}
        given |= named({"use": "course_lib.hdemucs:TORCHAUDIO_SIZES"})[given.pop("size")]
    return {**part, **{name: _as_json(value) for name, value in given.items()}}


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _as_json(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return float(value) if isinstance(value, Fraction) else value


def _facts(model: nn.Module) -> Facts:
    segment = getattr(model, "segment", None)
    return Facts(rate=model.samplerate, stems=tuple(model.sources), n_fft=getattr(model, "nfft", None),
                 hop_length=getattr(model, "hop_length", None), segment=None if segment is None else float(segment))


__all__ = ["Bag", "CLASSES", "Package", "RELEASES", "Release", "build", "fetch_official", "model_part",
           "read_package", "weight_licences"]
