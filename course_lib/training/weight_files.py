"""Tensors from other people's files: .pth of every age, .safetensors. No file can run code, and each is called by name.

PyTorch has written three kinds of .pth: tar archives (2016), pickles with raw numbers behind (until 2020), zip archives
(since). torch's own restricted reader knows the last two; its error messages advise to read a file without
restrictions, which is what a forged file waits for. Here they say what the file is and what to do instead.
"""

import pickle
import re
import struct
import tarfile
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

STORAGES = {"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
            "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
            "CharStorage": torch.int8, "ByteStorage": torch.uint8}
STATE_DICT = "a file of model.state_dict()"
ASKED = re.compile(r"GLOBAL ([A-Za-z_]\w*(?:\.\w+)*)|(?:global:?|type) ([A-Za-z_]\w*(?:\.\w+)+)")
_ALLOWING = threading.Lock()                 # torch keeps what it allows in one place for the whole process


class AsksForCode(ValueError):
    """A file that would run code if it were let. asked: the function or class that it asks for, "module.name"."""

    def __init__(self, message: str, asked: str):
        super().__init__(message)
        self.asked = asked


def read_structure(path: str | Path, allowed: Mapping[str, object], expected: str) -> object:
    """What a file of torch.save holds, dicts and lists of plain values and tensors, without running code of the file.

    allowed: "module.name" -> what stands for it, where the file asks for that function or class; nothing is imported.
    What stands there must be harmless whatever it is called with, for a file may call it. expected: what the file
    should have been, for messages. Raises FileNotFoundError where there is no file, `AsksForCode` where it asks for
    anything else, ValueError where it is damaged.
    """
    return _content(_existing(path), allowed, expected)


def read_tensors(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt, .th or .safetensors file by name, on the CPU. No code in the file is run.

    key: where the file holds several dicts, the name of the one that is wanted, for example "state_dict". What counts
    is what the file holds, not how it is called. Raises FileNotFoundError where there is no file, ValueError where it
    is damaged or holds anything but tensors by name: the message names the file, what was found and what to do.
    """
    path = _existing(path)
    content = _content(path)
    if key is not None:
        if not isinstance(content, Mapping) or not isinstance(content.get(key), Mapping):
            raise ValueError(f"{path.name} has no dict {key!r}; it holds {_what(content)}")
        content = content[key]
    if not isinstance(content, Mapping) or not all(
            isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()):
        inner = [repr(name) for name, value in content.items() if isinstance(value, Mapping)] if isinstance(
            content, Mapping) else []
        advice = f"; say which dict is meant, key={' or '.join(inner)}" if inner else ""
        raise ValueError(f"{path.name} holds {_what(content)}; expected tensors by name{advice}")
    return dict(content)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file of weights. Name the file in it")
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; expected a .pth or .safetensors file there (see fetch_weights)")
    return path


def _content(path: Path, allowed: Mapping[str, object] | None = None, expected: str = STATE_DICT) -> object:
    """What a file holds, read by what its first bytes say it is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
    start = head.lstrip()[:200].lower()
    if size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes): a download that was interrupted. Delete it and fetch it "
                         "again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<")):
        raise ValueError(f"{path.name} holds a web page ({size} bytes), not weights: the address answered with an "
                         "error or a log-in. Open it in a browser, and fetch the file itself")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path.name} is a Git LFS pointer ({size} bytes), not the weights themselves; run git lfs "
                         "pull there, or download the file")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return _safetensors(path)
    if path.suffix == ".safetensors":
        raise ValueError(f"{path.name} is damaged or no safetensors file ({size} bytes); fetch it again")
    if head[257:262] == b"ustar" or (len(head) >= 512 and not head.startswith(b"PK") and tarfile.is_tarfile(path)):
        return _tar(path)
    if head.startswith(b"PK"):
        _check_zip(path)
    return _torch(path, size, allowed or {}, expected)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path.name} can't be read as safetensors ({_reason(error)}): it is damaged or cut off. "
                         "Fetch it again") from error


def _check_zip(path: Path) -> None:
    """ValueError for zip archives that can't be torch's, or are not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path.name} is damaged or cut off ({path.stat().st_size} bytes): its archive has no whole "
                         "list of contents. Delete it and fetch it again") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(f"{path.name} holds a TorchScript program, not plain tensors; expected a file of "
                         "model.state_dict(). Ask its author for one")
    if not any(name.endswith("/data.pkl") for name in names):
        raise ValueError(f"{path.name} is a zip archive without weights (it holds "
                         f"{', '.join(names[:3]) or 'nothing'}); unpack it, and name the .pth file in it")


def _torch(path: Path, size: int, allowed: Mapping[str, object], expected: str) -> object:
    """What torch's restricted reader gives; what it says in words of ours."""
    names = [(stands_for, name) for name, stands_for in allowed.items()]
    try:
        with _ALLOWING, warnings.catch_warnings(), torch.serialization.safe_globals(names):
            warnings.simplefilter("ignore")                    # about protocols of pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:         # a damaged pickle can raise anything; from None: torch's advice is not shown
        asked = ASKED.search(str(error))
        if isinstance(error, pickle.UnpicklingError) and asked:
            asked = asked[1] or asked[2]
            raise AsksForCode(f"{path.name} can't be read as plain tensors: it asks for {asked}, and opening it would "
                              f"run code. Expected {expected}. Ask its author for one, or convert it on a machine "
                              "where that code is trusted", asked) from None
        if isinstance(error, pickle.UnpicklingError) and "Only persistent_load of storage" in str(error):
            raise ValueError(f"{path.name} can't be read as plain tensors: a file of PyTorch before 1.6 that holds a "
                             f"class with its source. Expected {expected}. Ask its author for a newer one") from None
        if isinstance(error, pickle.UnpicklingError):
            raise ValueError(f"{path.name} can't be read as plain tensors: {size} bytes that are no file of torch's, "
                             "or a damaged one. Look at where it comes from, and fetch it again") from None
        raise ValueError(f"{path.name} can't be read as plain tensors: it is damaged or cut off ({size} bytes). Delete "
                         "it and fetch it again") from None


# ------------------------------------------------------------------------------------------------- tar archives of 2016

class _PlainUnpickler(pickle.Unpickler):
    """A pickle that may ask for the names of storages and tensors, and for ordered dicts, and for nothing else."""

    def __init__(self, file: BinaryIO, tensors: Mapping[int, Tensor]):
        super().__init__(file, encoding="utf-8")
        self.tensors = tensors

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return _StorageName(name)
        if module in ("torch", "torch.cuda") and name.removesuffix("Tensor") + "Storage" in STORAGES:
            return _StorageName(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and opening it would run code")

    def persistent_load(self, saved: object) -> Tensor:
        if isinstance(saved, tuple):
            raise pickle.UnpicklingError("it holds a whole module, and opening it would run code")
        return self.tensors[int(saved)]


class _StorageName(str):
    """Stands for a class of torch's whose name is all that is asked for."""


def _tar(path: Path) -> object:
    """A file of 2016: storages, tensors that are views of them, and a pickle that names the tensors."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = {name: archive.extractfile(name) for name in ("storages", "tensors", "pickle")}
            tensors = _views(members["tensors"], _storages(members["storages"]))
            return _PlainUnpickler(members["pickle"], tensors).load()
    except KeyError as error:
        raise ValueError(f"{path.name} is a tar archive without weights ({_reason(error)}); unpack it, and name the "
                         ".pth file in it") from error
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} can't be read as plain tensors: {_reason(error)}. Expected a file of "
                         "model.state_dict()") from error
    except Exception as error:                                 # a damaged pickle can raise anything
        raise ValueError(f"{path.name} can't be read as plain tensors: it is damaged or cut off "
                         f"({path.stat().st_size} bytes). Delete it and fetch it again") from error


def _storages(file: BinaryIO) -> dict[int, Tensor]:
    """Blocks of numbers by key, and views of them under further keys."""
    blocks = {}
    for _ in range(_plain(file)):
        key, _location, kind = _plain(file)
        dtype = STORAGES[kind]
        (count,) = struct.unpack("<q", file.read(8))
        content = file.read(count * dtype.itemsize)
        if count < 0 or len(content) != count * dtype.itemsize:
            raise EOFError("a block of numbers ends early")
        blocks[int(key)] = torch.frombuffer(bytearray(content), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    for key, root, offset, count in _plain(file):
        blocks[int(key)] = blocks[int(root)][offset:offset + count]
    return blocks


def _views(file: BinaryIO, storages: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Tensors by key: sizes, strides and an offset into a storage each."""
    tensors = {}
    for _ in range(_plain(file)):
        key, storage, _kind = _plain(file)
        (dimensions,) = struct.unpack("<i4x", file.read(8))
        sizes, strides = (struct.unpack(f"<{dimensions}q", file.read(8 * dimensions)) for _ in "12")
        (offset,) = struct.unpack("<q", file.read(8))
        tensors[int(key)] = storages[int(storage)].as_strided(sizes, strides, offset).clone()
    return tensors


def _plain(file: BinaryIO) -> object:
    return _PlainUnpickler(file, {}).load()


def _what(content: object) -> str:
    """What was found in a file, in words."""
    if not isinstance(content, Mapping):
        return type(content).__name__
    names = [str(name) for name in content]
    kinds = sorted({type(value).__name__ for value in content.values() if not isinstance(value, Tensor)})
    if not kinds:
        return f"tensors by names that are no text ({', '.join(names[:4])})"
    return f"a dict of {', '.join(names[:4])}{' and more' if len(names) > 4 else ''} ({', '.join(kinds)} among them)"


def _reason(error: BaseException) -> str:
    return str(error).strip().strip("'\"").partition("\n")[0] or type(error).__name__
