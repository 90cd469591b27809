"""Files of weights, of every age and in every state: read without running code, or refused by name and with advice."""

import gzip
import pickle
import struct
import tarfile
import traceback
import zipfile
from collections import OrderedDict
from io import BytesIO

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from course_lib.training.weight_files import read_tensors


def tensors() -> OrderedDict:
    torch.manual_seed(0)
    return OrderedDict(weight=torch.randn(3, 4), half=torch.randn(5).half(), count=torch.arange(3), none=torch.empty(0),
                       turned=torch.randn(2, 3).T)


class _Pickler(pickle.Pickler):
    """Writes tensors as torch did in 2016: by a number that stands for them."""

    def persistent_id(self, thing):
        return str(id(thing)) if isinstance(thing, torch.Tensor) else None


def tar_of_2016(path, content: dict, pickled: bytes | None = None) -> None:
    """What torch.save wrote before version 0.1.10: torch.load reads it, torch.save can't write it any more."""
    storages, views, whole = BytesIO(), BytesIO(), BytesIO()
    pickle.dump(len(content), storages, 2)
    pickle.dump(len(content), views, 2)
    for number, tensor in enumerate(content.values()):
        kind = {torch.float32: torch.FloatStorage, torch.float16: torch.HalfStorage, torch.int64: torch.LongStorage}
        block = tensor.untyped_storage()
        numbers = bytes(block) if len(block) else b""
        pickle.dump((number, "cpu", kind[tensor.dtype]), storages, 2)
        storages.write(struct.pack("<q", len(numbers) // tensor.element_size()) + numbers)
        pickle.dump((id(tensor), number, torch.FloatTensor), views, 2)
        shape, strides = tensor.shape, tensor.stride()
        views.write(struct.pack("<q", len(shape)) + struct.pack(f"<{2 * len(shape)}q", *shape, *strides)
                    + struct.pack("<q", tensor.storage_offset()))
    pickle.dump([], storages, 2)
    _Pickler(whole, 2).dump(content)
    with tarfile.open(path, "w") as archive:
        for name, data in (("storages", storages.getvalue()), ("tensors", views.getvalue()),
                           ("pickle", pickled or whole.getvalue())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, BytesIO(data))


WRITERS = {
    "zip": lambda content, path: torch.save(content, path),
    "pickle": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "tar": lambda content, path: tar_of_2016(path, content),
    "safetensors": lambda content, path: save_file({name: x.contiguous() for name, x in content.items()}, path),
}


@pytest.mark.parametrize("age", WRITERS)
def test_every_age_is_read(tmp_path, age):
    expected, path = tensors(), tmp_path / "weights.pth"
    WRITERS[age](expected, path)
    if age == "tar":
        theirs = torch.load(path, weights_only=False)       # torch's own reader, which runs code, agrees on the format
        assert all(torch.equal(theirs[name], x) for name, x in expected.items())
    read = read_tensors(path)
    assert set(read) == set(expected)
    assert all(torch.equal(read[name], x) and read[name].dtype == x.dtype for name, x in expected.items())


@pytest.mark.parametrize("age", WRITERS)
def test_cut_or_changed_anywhere(tmp_path, age):
    """Every tenth of the file: cut there, or one byte changed. Read as it was, or refused by name; nothing else."""
    whole, path = tmp_path / "whole", tmp_path / "model.pth"
    WRITERS[age]({name: x for name, x in tensors().items() if name != "none"}, whole)
    content = whole.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 10)):
        for damaged in (content[:place], content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1:]):
            path.write_bytes(damaged)
            try:
                read_tensors(path)                          # a changed number in the middle is still a number
            except ValueError as error:
                shown = "".join(traceback.format_exception(error))
                assert "model.pth" in str(error) and "weights_only" not in shown, (place, shown)


class Dangerous:
    """What a forged pickle may hold: a call that runs when it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        import os
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("age", ["zip", "pickle", "tar"])
def test_no_code_is_run(tmp_path, age):
    trace, path = tmp_path / "code ran", tmp_path / "forged.pth"
    forged = {"x": torch.zeros(1), "y": Dangerous(trace)}
    if age == "tar":
        tar_of_2016(path, {"x": torch.zeros(1)}, pickle.dumps(forged["y"], 2))
    else:
        WRITERS[age](forged, path)
    with pytest.raises(ValueError, match=r"forged.pth can't be read as plain tensors: it asks for \w+.mkdir, and"):
        read_tensors(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)                    # the same file does run code when it is let
    assert trace.exists()


def module_file(path, **options):
    torch.save(nn.Sequential(nn.Linear(2, 2)), path, **options)


def script_file(path):
    torch.jit.script(nn.Linear(2, 2)).save(path)


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "unpack me")


REFUSED = [
    ("empty", lambda path: path.write_bytes(b""), "is empty .0 bytes.: a download that was interrupted"),
    ("web page", lambda path: path.write_bytes(b"\n<!DOCTYPE html><title>404"), "holds a web page .26 bytes., not"),
    ("short page", lambda path: path.write_text("<html>404</html>"), "holds a web page"),
    ("pointer", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"), "Git LFS pointer"),
    ("text", lambda path: path.write_text("not a pickle"), "12 bytes that are no file of torch's"),
    ("list", lambda path: path.write_bytes(pickle.dumps([1, 2])), "no file of torch's"),
    ("gzip", lambda path: path.write_bytes(gzip.compress(b"weights")), "no file of torch's"),
    ("module", module_file, "it asks for torch.nn.modules.container.Sequential, and opening it would run code"),
    ("old module", lambda path: module_file(path, _use_new_zipfile_serialization=False), "asks for torch.nn.modules"),
    ("script", script_file, "holds a TorchScript program"),
    ("archive", archive, "zip archive without weights .it holds readme.txt.; unpack it"),
    ("other tar", lambda path: tarfile.open(path, "w").close(), "tar archive without weights"),
    ("numpy", lambda path: torch.save({"a": np.ones(2)}, path), "asks for numpy"),
    ("number", lambda path: torch.save(3.0, path), "holds float; expected tensors by name"),
    ("training", lambda path: torch.save({"model": {"a": torch.ones(1)}, "epoch": 3}, path),
     r"holds a dict of model, epoch \(dict, int among them\); .* say which dict is meant, key='model'"),
    ("no names", lambda path: torch.save({0: torch.ones(1)}, path), "tensors by names that are no text"),
    ("folder", lambda path: path.mkdir(), "is a folder; expected a file of weights"),
]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("write, message", [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused_by_name_with_advice(tmp_path, write, message):
    path = tmp_path / "model.pth"
    write(path)
    with pytest.raises(ValueError, match=message) as caught:
        read_tensors(path)
    assert "model.pth" in str(caught.value) and "weights_only" not in str(caught.value)


def test_a_dict_in_a_dict(tmp_path):
    path = tmp_path / "checkpoint.th"
    torch.save({"encoder_state": tensors(), "epoch": 3}, path)
    assert torch.equal(read_tensors(path, key="encoder_state")["weight"], tensors()["weight"])
    with pytest.raises(ValueError, match="has no dict 'decoder_state'; it holds a dict of encoder_state, epoch"):
        read_tensors(path, key="decoder_state")
    with pytest.raises(FileNotFoundError, match="no weights at .*away.pth"):
        read_tensors(tmp_path / "away.pth")
    (tmp_path / "a.safetensors").write_bytes(b"nothing like it")
    with pytest.raises(ValueError, match="a.safetensors is damaged or no safetensors file"):
        read_tensors(tmp_path / "a.safetensors")
