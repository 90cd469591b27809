"""Official weights of published models: where they are, what they may be used for, and a download that checks them.

    from course_lib.training.official import fetch_weights, load_strictly, read_tensors

A chapter's `load_official` reads such a file into the course's own model. The files are other people's work:
PUBLISHED_WEIGHTS says under which licence, and the chapter that loads one says so too.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock
from torch import Tensor, nn

from course_lib.paths import data_dir, folder_from_environment
from course_lib.training.weight_files import read_tensors


@dataclass(frozen=True)
class PublishedWeights:
    """The files of one published model, or of several by the same people.

    url: where they are, without the file's name. files: part (a stem, or another name of a file) -> (file name,
    SHA-256 in hex or its first digits, at least 8; "" where the publisher names none). licence: of the weights.
    source: who published them, where.
    paths: part -> what follows the url, where that is not the file's name.
    """

    url: str
    files: Mapping[str, tuple[str, str]]
    licence: str
    source: str
    paths: Mapping[str, str] = field(default_factory=dict)

    def address(self, part: str) -> str:
        """Where the publisher has the file of a part."""
        return f"{self.url}/{self.paths.get(part, self.files[part][0])}"


def _named_by_hash(*names: str) -> Mapping[str, tuple[str, str]]:
    """Files called PART-DIGITS or PART_DIGITS: the first eight digits of the SHA-256 are in the name."""
    stems = {name: Path(name).stem for name in names}
    return MappingProxyType({stem[:-9]: (name, stem[-8:]) for name, stem in stems.items()})


_TAGGERS = {                                        # data set and network -> SHA-256
    "mtat_fcn": "e89d751202d38c3ae69855782bc27010f87051958dbec64f5aa762364dbac271",
    "mtat_crnn": "cd22fc70cafd06f8f2bfc7dd795abccb1f4b50d5b09094c39ad100baf87475a3",
    "mtat_musicnn": "690ace3bb5d49d90dd38fe3ec05a1185350b3bc3742bd7ee941f56b649b2c893",
    "jamendo_fcn": "7bce08a66dbc70d096b0a330f44b4cacd9aa25519b83489fbb98f2164a194e2b",
    "jamendo_crnn": "0a558989c0793f488cb677d188464c91f47c007f7c70473230e55537ca598215",
    "jamendo_musicnn": "66280f4859376377c47f64313c7ac889a3201fdb06a01bf6e94ac6e619081bb5",
    "mtat_hcnn": "",                                # published, but no hash is known: `load_tagger` asks for leave
    "jamendo_hcnn": "",
}

_SCIENTIFIC = "for scientific purposes only (facebookresearch/demucs issues 327, 508)"
_DEMUCS = {                                         # folder of the publisher -> packages, SIGNATURE-DIGITS.th
    "hybrid_transformer": ("955717e8-8726e21a.th", "f7e0c4bc-ba3fe64a.th", "d12395a8-e57c48e6.th",
                           "92cfc3b6-ef3bcb9c.th", "04573f0d-f3cf25b2.th", "5c90dfd2-34c22ccb.th",
                           "75fc33f5-1941ce65.th"),
    "mdx_final": ("9a6b4851-03af0aa6.th", "1ef250f1-592467ce.th", "fa0cb7f9-100d8bf4.th", "902315c2-b39ce9c9.th",
                  "0d19c1c6-0f06f20e.th", "7ecf8ec1-70f50cc9.th", "c511e2ab-fe698775.th", "7d865c68-3d5dd56b.th",
                  "e51eebcc-c1b80bdd.th", "a1d90b5c-ae9d2452.th", "5d2d6c55-db83574e.th", "cfa93e08-61801ae1.th"),
}

PUBLISHED_WEIGHTS: Mapping[str, PublishedWeights] = MappingProxyType({
    "umx": PublishedWeights("https://zenodo.org/records/3370486/files", _named_by_hash(
        "drums-5a48008b.pth", "bass-646024d3.pth", "other-f8e132cc.pth", "vocals-c8df74a5.pth"),
        "MIT", "Open-Unmix, trained on MUSDB18; doi 10.5281/zenodo.3370486"),
    "umxhq": PublishedWeights("https://zenodo.org/records/3370489/files", _named_by_hash(
        "drums-9619578f.pth", "bass-8d85a5bd.pth", "other-b52fbbf7.pth", "vocals-b62c91ce.pth"),
        "MIT", "Open-Unmix, trained on MUSDB18-HQ; doi 10.5281/zenodo.3370489"),
    "umxl": PublishedWeights("https://zenodo.org/records/5069601/files", _named_by_hash(
        "drums-69e0ebd4.pth", "bass-2ca1ce51.pth", "other-c8c5b3e6.pth", "vocals-bccbd9aa.pth"),
        "CC BY-NC-SA 4.0, not for commercial use",
        "Open-Unmix, trained on a private set of stems; doi 10.5281/zenodo.5069601"),
    "umxse": PublishedWeights("https://zenodo.org/records/3786908/files", _named_by_hash(
        "speech_f5e0d9f9.pth", "noise_04a6fc2d.pth"),
        "as stated at its source", "Open-Unmix for speech enhancement; doi 10.5281/zenodo.3786908"),
    "taggers": PublishedWeights(
        "https://raw.githubusercontent.com/minzwon/sota-music-tagging-models/master/models",
        MappingProxyType({part: (f"{part}.pth", digits) for part, digits in _TAGGERS.items()}),
        "MIT", "Won, Ferraro, Bogdanov and Serra 2020, trained on MagnaTagATune (mtat) and MTG-Jamendo: 50 tags each",
        MappingProxyType({part: f"{part.replace('_', '/')}/best_model.pth" for part in _TAGGERS})),
    "vggish": PublishedWeights(
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1",
        MappingProxyType({"audioset": ("vggish-10086976.pth", "10086976")}),
        "Apache 2.0", "VGGish, Hershey et al. 2017, as torchvggish converted it"),
    "demucs": PublishedWeights(
        "https://dl.fbaipublicfiles.com/demucs",
        _named_by_hash(*(name for names in _DEMUCS.values() for name in names)),
        _SCIENTIFIC, "Demucs v3 and v4, Défossez 2021; Rouard, Massa and Défossez 2023",
        MappingProxyType({name[:8]: f"{folder}/{name}" for folder, names in _DEMUCS.items() for name in names})),
    "demucs_v2": PublishedWeights(
        "https://dl.fbaipublicfiles.com/demucs/v3.0", _named_by_hash(
            "demucs-e07c671f.th", "demucs48_hq-28a1282c.th", "demucs_extra-3646af93.th", "demucs_unittest-09ebc15f.th"),
        _SCIENTIFIC, "Demucs v2, Défossez, Usunier, Bottou and Bach 2021"),
    "torchaudio": PublishedWeights(
        "https://download.pytorch.org/torchaudio/models", MappingProxyType({
            "HDEMUCS_HIGH_MUSDB": ("hdemucs_high_musdbhq_only.pt", ""),
            "HDEMUCS_HIGH_MUSDB_PLUS": ("hdemucs_high_trained.pt", "")}),
        "not stated by torchaudio; by the authors of Demucs, whose weights are " + _SCIENTIFIC,
        "torchaudio.pipelines, trained in the repository of Demucs"),
    "jukebox": PublishedWeights(
        "https://openaipublic.azureedge.net/jukebox/models", MappingProxyType({"vqvae": ("vqvae.pth.tar", "")}),
        "non-commercial use only, and so is what they decode or generate (Jukebox's own licence)",
        "Jukebox, Dhariwal, Jun, Payne, Kim, Radford and Sutskever 2020 (openai/jukebox)",
        MappingProxyType({"vqvae": "5b/vqvae.pth.tar"})),
})


def published_weights(name: str) -> PublishedWeights:
    """A published model by name; ValueError for one that is not in PUBLISHED_WEIGHTS."""
    if name not in PUBLISHED_WEIGHTS:
        raise ValueError(f"name of published weights is {name!r}; expected one of {', '.join(PUBLISHED_WEIGHTS)}")
    return PUBLISHED_WEIGHTS[name]


def fetch_weights(name: str, part: str, *, base_url: str | None = None, folder: str | Path | None = None,
                  progress: bool = False) -> Path:
    """The path of one file of a published model, downloaded when it is first asked for, its SHA-256 checked every time.

    name, part: a key of PUBLISHED_WEIGHTS and of its files. base_url: another address that holds NAME/FILE (default:
    the environment variable COURSE_WEIGHTS_URL, else the publisher's). folder: where NAME/FILE is kept (default:
    downloads/weights in the course's data folder). A folder named by COURSE_WEIGHTS_DIR that already holds NAME/FILE is
    used as it is. progress: show a bar.
    Raises ValueError for an unknown name and for a file with another hash, FileNotFoundError where it can't be had.
    Where no hash is published, only a transfer that breaks off is noticed here, and damage when the file is read.
    Eight digits guard against damage, not against forgery; therefore files are read with `read_tensors`, which runs no
    code.
    """
    known = published_weights(name)
    if part not in known.files:
        raise ValueError(f"part is {part!r}; {name!r} has {', '.join(known.files)}")
    file, digits = known.files[part]
    at_hand = folder_from_environment("COURSE_WEIGHTS_DIR")
    if at_hand and (path := at_hand / name / file).is_file():
        _check_hash(path, digits)
        return path
    path = (Path(folder) if folder else data_dir() / "downloads" / "weights") / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    base_url = base_url or os.environ.get("COURSE_WEIGHTS_URL")
    with FileLock(path.with_name(file + ".lock")):             # several processes may ask at once
        if not (path.is_file() and _sha256(path).startswith(digits)):
            address = f"{base_url.rstrip('/')}/{name}/{file}" if base_url else known.address(part)
            _download(address, path, digits, progress)
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


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor], what: str, leave_out: Iterable[str] = (),
                  only_own: bool = False) -> None:
    """Put tensors into a model: every one by its name and shape, none missing and none left over.

    what: the file's name, for messages. leave_out: names that the file may hold and the model does not. only_own: leave
    out all that the model does not have, where it is the first part of the file's. Raises ValueError that says which
    tensors don't fit; the model then stays as it was.
    """
    leave_out, expected = set(leave_out), model.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items()
               if name in expected or not (only_own or name in leave_out)}
    found = [f"{name} is missing" for name in expected if name not in tensors]
    found += [f"{name} is unknown" for name in tensors if name not in expected]
    found += [f"{name} has shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
              for name, tensor in tensors.items() if name in expected and tensor.shape != expected[name].shape]
    if found:
        more = f", and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(f"{what} does not fit {type(model).__name__}: {', '.join(found[:4])}{more}; "
                         "is it the file of another model?")
    model.load_state_dict(tensors)


__all__ = ["PUBLISHED_WEIGHTS", "PublishedWeights", "fetch_weights", "load_strictly", "published_weights",
           "read_tensors"]
