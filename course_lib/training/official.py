"""Official weights of published models: where they are, what they may be used for, and a download that checks them.

    from course_lib.training.official import fetch_weights, load_strictly, read_tensors

A chapter's `load_official` reads such a file into the course's own model. The files are other people's work: RELEASES
says under which licence, and the chapter that loads one says so too.
"""

import hashlib
import os
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from filelock import FileLock
from torch import Tensor, nn

from course_lib.paths import data_dir


@dataclass(frozen=True)
class Release:
    """The files of one published model.

    url: where they are, without the file's name. files: part (a stem, or another name of a file) -> (file name,
    SHA-256 in hex or its first digits, at least 8). licence: of the weights. source: who published them, where.
    """

    url: str
    files: Mapping[str, tuple[str, str]]
    licence: str
    source: str


def _named_by_hash(*names: str) -> Mapping[str, tuple[str, str]]:
    """Files called PART-DIGITS.pth or PART_DIGITS.pth: the first eight digits of the SHA-256 are in the name."""
    files = {}
    for name in names:
        part, digits = name.removesuffix(".pth").replace("_", "-").rsplit("-", 1)
        files[part] = (name, digits)
    return MappingProxyType(files)


RELEASES: Mapping[str, Release] = MappingProxyType({
    "umx": Release("https://zenodo.org/records/3370486/files", _named_by_hash(
        "drums-5a48008b.pth", "bass-646024d3.pth", "other-f8e132cc.pth", "vocals-c8df74a5.pth"),
        "MIT", "Open-Unmix, trained on MUSDB18; doi 10.5281/zenodo.3370486"),
    "umxhq": Release("https://zenodo.org/records/3370489/files", _named_by_hash(
        "drums-9619578f.pth", "bass-8d85a5bd.pth", "other-b52fbbf7.pth", "vocals-b62c91ce.pth"),
        "MIT", "Open-Unmix, trained on MUSDB18-HQ; doi 10.5281/zenodo.3370489"),
    "umxl": Release("https://zenodo.org/records/5069601/files", _named_by_hash(
        "drums-69e0ebd4.pth", "bass-2ca1ce51.pth", "other-c8c5b3e6.pth", "vocals-bccbd9aa.pth"),
        "CC BY-NC-SA 4.0, not for commercial use",
        "Open-Unmix, trained on a private set of stems; doi 10.5281/zenodo.5069601"),
    "umxse": Release("https://zenodo.org/records/3786908/files", _named_by_hash("speech_f5e0d9f9.pth", "noise_04a6fc2d.pth"),
                     "as stated at its source", "Open-Unmix for speech enhancement; doi 10.5281/zenodo.3786908"),
})


def release_of(name: str) -> Release:
    """A published model by name; ValueError for one that is not in RELEASES."""
    if name not in RELEASES:
        raise ValueError(f"release is {name!r}; expected one of {', '.join(RELEASES)}")
    return RELEASES[name]


def fetch_weights(release: str, part: str, *, base_url: str | None = None, folder: str | Path | None = None,
                  progress: bool = False) -> Path:
    """The path of one file of a release, downloaded when it is first asked for, its SHA-256 checked every time.

    release, part: a key of RELEASES and of its files. base_url: another address that holds RELEASE/FILE (default: the
    environment variable COURSE_WEIGHTS_URL, else the publisher's). folder: where RELEASE/FILE is kept (default:
    downloads/weights in the course's data folder). A folder named by COURSE_WEIGHTS_DIR that already holds
    RELEASE/FILE is used as it is. progress: show a bar.
    Raises ValueError for an unknown name and for a file with another hash, FileNotFoundError where it can't be had. Eight
    digits guard against damage, not against forgery; therefore files are read with `read_tensors`, which runs no code.
    """
    known = release_of(release)
    if part not in known.files:
        raise ValueError(f"part is {part!r}; release {release!r} has {', '.join(known.files)}")
    name, digits = known.files[part]
    at_hand = os.environ.get("COURSE_WEIGHTS_DIR")
    if at_hand and (path := Path(at_hand).expanduser() / release / name).is_file():
        _check_hash(path, digits)
        return path
    path = Path(folder) / release / name if folder else data_dir() / "downloads" / "weights" / release / name
    path.parent.mkdir(parents=True, exist_ok=True)
    base_url = base_url or os.environ.get("COURSE_WEIGHTS_URL")
    with FileLock(path.with_name(name + ".lock")):             # several processes may ask at once
        if not (path.is_file() and _sha256(path).startswith(digits)):
            _download(f"{base_url.rstrip('/')}/{release}/{name}" if base_url else f"{known.url}/{name}", path, digits, progress)
    return path


def _download(url: str, path: Path, digits: str, progress: bool) -> None:
    """Fetch a file beside its place, check it, then give it its name."""
    import pooch

    unfinished = path.with_name(path.name + ".unfinished")     # ours alone: the caller holds the file's lock
    try:
        pooch.HTTPDownloader(progressbar=progress, timeout=60)(url, str(unfinished), None)
        _check_hash(unfinished, digits, url)
        os.replace(unfinished, path)
    except OSError as error:                                   # all errors of `requests` are OSErrors
        raise FileNotFoundError(
            f"{path.name} is not in {path.parent} and could not be fetched from {url} ({type(error).__name__}: "
            f"{error}). Connect to the internet, set COURSE_WEIGHTS_URL to a mirror, or put the file there") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _check_hash(path: Path, digits: str, where: str | None = None) -> None:
    if not (found := _sha256(path)).startswith(digits):
        raise ValueError(f"{where or path} has SHA-256 {found}; expected {digits}...: it is damaged or another file. "
                         "Fetch it again, or remove it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .pt file by name, on the CPU, through torch's restricted unpickler: no code is run.

    Raises FileNotFoundError where there is no file, ValueError where it is damaged or holds anything but tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; expected a .pth file there (see fetch_weights)")
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path.name} can't be read as plain tensors: {first}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path.name} holds {type(tensors).__name__}; expected a dict of tensors by name")
    return dict(tensors)


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], what: str, leave_out: Iterable[str] = ()) -> None:
    """Put tensors into a model: every one by its name and shape, none missing and none left over.

    what: the file's name, for messages. leave_out: names that the file may hold and the model does not. Raises
    ValueError that says which tensors don't fit.
    """
    leave_out, expected = set(leave_out), model.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if name in expected or name not in leave_out}
    found = [f"{name} is missing" for name in expected if name not in tensors]
    found += [f"{name} is unknown" for name in tensors if name not in expected]
    found += [f"{name} has shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
              for name, tensor in tensors.items() if name in expected and tensor.shape != expected[name].shape]
    if found:
        more = f", and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(f"{what} does not fit {type(model).__name__}: {', '.join(found[:4])}{more}; "
                         "is it the file of another model?")
    model.load_state_dict(tensors)
