"""Official packages of Demucs: files that the package demucs itself wrote, and forged ones that must run nothing."""

import http.server
import importlib.util
import os
import pickle
import re
import sys
import threading
import types
import zipfile
from collections import OrderedDict
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from inspect import signature
from pathlib import Path
from types import MappingProxyType

import demucs.demucs
import demucs.hdemucs
import demucs.htdemucs
import numpy as np
import pytest
import torch
import torchaudio
import yaml
from demucs.pretrained import REMOTE_ROOT, ROOT_URL, _parse_remote_files
from demucs.states import save_with_checksum, serialize_model

from course_lib.data import STEMS
from course_lib.demucs import DemucsV2
from course_lib.training import official
from course_lib.training.named import named
from course_lib.training.official import PUBLISHED_WEIGHTS, PublishedWeights
from course_lib.training.official_packages import (
    CLASSES,
    RELEASES,
    Bag,
    Package,
    build,
    fetch_official,
    read_package,
    weight_licences,
)

TINY = {"channels": 4, "depth": 5, "nfft": 256, "norm_starts": 2, "norm_groups": 2, "dconv_attn": 3, "dconv_lstm": 3}
PEERS = {
    "hybrid": (demucs.hdemucs.HDemucs, (list(STEMS),), {**TINY, "segment": Fraction(39, 5)}),
    "time": (demucs.demucs.Demucs, (), {"sources": list(STEMS), "channels": 4, "depth": 2, "lstm_layers": 0,
                                        "norm_groups": 2, "resample": False}),
}
if importlib.util.find_spec("course_lib.htdemucs"):
    PEERS["transformer"] = (demucs.htdemucs.HTDemucs, (), {
        "sources": list(STEMS), "channels": 8, "nfft": 2048, "t_layers": 2, "t_heads": 2, "bottom_channels": 16,
        "dconv_mode": 3, "segment": Fraction(1, 2)})


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in ("COURSE_WEIGHTS_URL", "COURSE_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    # the peer imports it only to turn its settings into plain dicts
    plain = types.SimpleNamespace(to_container=lambda settings, resolve: settings)
    monkeypatch.setitem(sys.modules, "omegaconf", types.SimpleNamespace(OmegaConf=plain))


def peer(kind: str, seed: int = 0, **changed) -> torch.nn.Module:
    """A network of the package demucs, its scales, norms and biases drawn anew."""
    klass, args, kwargs = PEERS[kind]
    torch.manual_seed(seed)
    model = klass(*args, **{**kwargs, **changed}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.2, 0.8)
    return model


def written(folder: Path, model: torch.nn.Module, name: str = "955717e8", half: bool = True, **more) -> Path:
    """The model as the package demucs publishes one: NAME-DIGITS.th."""
    folder.mkdir(exist_ok=True, parents=True)
    training = {"epochs": 360, "dset": {"samplerate": 44100, "segment": 7.8}, "optim": {"lr": 3e-4}, "seed": None}
    save_with_checksum({**serialize_model(model, training, half=half), **more}, folder / f"{name}.th")
    return max(folder.glob(f"{name}-????????.th"), key=os.path.getmtime)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture
def server(tmp_path):
    """A folder that is served on the loopback interface: (folder, address, what was asked)."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_address[1]}", asked
    httpd.shutdown()
    httpd.server_close()


def publish(monkeypatch, address: str, files: dict[str, Path], root: Path, which: str = "demucs") -> None:
    """Have the course look for these files where the server has them, in the publisher's own folders."""
    names = {part: (path.name, path.stem[-8:] if path.suffix == ".th" else "") for part, path in files.items()}
    where = {part: path.relative_to(root).as_posix() for part, path in files.items()}
    known = PublishedWeights(address, MappingProxyType(names), "a test", "a test", MappingProxyType(where))
    monkeypatch.setattr(official, "PUBLISHED_WEIGHTS", {**PUBLISHED_WEIGHTS, which: known})


# --- what is published -----------------------------------------------------------------------------------------------

def test_files_and_bags_are_those_of_the_package():
    """Addresses, signatures, hashes, weights and segments as demucs 4.1.0 has them; quantised ones left out."""
    theirs = _parse_remote_files(REMOTE_ROOT / "files.txt")
    ours = PUBLISHED_WEIGHTS["demucs"]
    assert ours.url + "/" == ROOT_URL and len(ours.files) == 19
    assert {part: ours.address(part) for part in ours.files} == {part: theirs[part] for part in ours.files}
    for path in REMOTE_ROOT.glob("*.yaml"):
        if path.stem.endswith("_q"):
            assert path.stem not in RELEASES
            continue
        bag, release = yaml.safe_load(path.read_text()), RELEASES[path.stem]
        assert list(release.packages) == bag["models"] and release.segment == bag.get("segment")
        assert (release.weights and [list(row) for row in release.weights]) == bag.get("weights")


def test_addresses_of_torchaudio_are_its_own():
    for name in ("HDEMUCS_HIGH_MUSDB", "HDEMUCS_HIGH_MUSDB_PLUS"):
        bundle = getattr(torchaudio.pipelines, name)
        address = PUBLISHED_WEIGHTS["torchaudio"].address(name)
        assert address == f"https://download.pytorch.org/torchaudio/{bundle._model_path}"
    assert RELEASES["HDEMUCS_HIGH_MUSDB_PLUS"].saw_test_songs and not RELEASES["HDEMUCS_HIGH_MUSDB"].saw_test_songs


def test_every_release_has_files_and_a_licence():
    rows = {row["weights"]: row for row in weight_licences()}
    assert set(RELEASES) - {"demucs_unittest", "repro_mdx_a_time_only", "repro_mdx_a_hybrid_only"} < set(rows)
    assert {name for name in PUBLISHED_WEIGHTS if name not in rows} == {"demucs_v2", "torchaudio"}
    for name, release in RELEASES.items():
        assert set(release.packages) <= set(PUBLISHED_WEIGHTS[release.published].files), name
        if release.saw_test_songs and name in rows:
            assert rows[name]["musdb_sdr_db"] == "" and "test songs" in rows[name]["trained_on"]
    assert rows["htdemucs_ft"]["musdb_sdr_db"] == "9.00" and "scientific" in rows["htdemucs_ft"]["licence"]
    assert rows["umxl"]["musdb_sdr_db"] == "6.32" and all(row["licence"] and row["trained_on"] for row in rows.values())


@pytest.mark.parametrize("klass", [name for name in CLASSES if name.startswith("demucs.") and "model" not in name])
def test_arguments_are_those_of_the_peer(klass):
    """What demucs drops as unknown we drop, and nothing else: both constructors know the same names."""
    module, _, name = klass.rpartition(".")
    if not importlib.util.find_spec(CLASSES[klass].partition(":")[0]):
        pytest.skip("the network's module is not there yet")
    theirs = getattr(importlib.import_module(module), name)
    assert list(signature(named({"use": CLASSES[klass]})).parameters) == list(signature(theirs).parameters)


# --- packages that demucs wrote --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", PEERS)
def test_a_package_gives_the_peers_output(tmp_path, kind):
    """Written by demucs in 16 bits: the same network, the same numbers, in 32 bits."""
    theirs = peer(kind)
    path = written(tmp_path, theirs, metrics={"nsdr": np.float64(8.5), "best": np.int64(12), "ok": np.bool_(True)})
    package = read_package(path)
    assert package.klass == f"{type(theirs).__module__}.{type(theirs).__name__}" and package.sources == list(STEMS)
    assert package.kwargs == PEERS[kind][2] and package.args == PEERS[kind][1]
    assert package.training_args["dset"] == {"samplerate": 44100, "segment": 7.8} and package.file == path.name
    assert {tensor.dtype for tensor in package.state.values()} == {torch.float16}
    before = torch.get_rng_state()
    ours = build(package)
    assert torch.equal(before, torch.get_rng_state()) and not ours.training
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    theirs.load_state_dict(package.state)
    length = ours.valid_length(20_000)
    x = torch.randn(1, 2, length, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        given, expected = ours(x), theirs(x)
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert ours.facts.rate == 44100 and ours.facts.stems == STEMS
    assert ours.facts.segment == pytest.approx(float(theirs.segment))


def test_weights_in_32_bits_come_as_they_are(tmp_path):
    theirs = peer("time")
    state = build(read_package(written(tmp_path, theirs, half=False))).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())


def test_a_package_before_zip(tmp_path):
    """PyTorch before 1.6 wrote a class together with its source; no published package is that old."""
    torch.save(serialize_model(peer("time"), {}), tmp_path / "old.th", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="old.th .* a file of PyTorch before 1.6 that holds a class with its source"):
        read_package(tmp_path / "old.th")


def test_plain_numbers_of_every_kind(tmp_path):
    """NumPy's scalars become Python's, fractions stay."""
    numbers = {"f4": np.float32(0.5), "f8": np.float64(-1.25), "i8": np.int64(7), "u1": np.uint8(3), "b": np.bool_(0),
               "f2": np.float16(2), "fraction": Fraction(-39, 5), "whole": Fraction(3), "big": 2 ** 70}
    content = serialize_model(peer("time"), OrderedDict(numbers))
    found = read_package(saved(tmp_path / "a.th", content)).training_args
    assert found == {name: value.item() if isinstance(value, np.generic) else value for name, value in numbers.items()}
    assert {type(found[name]) for name in ("f4", "f8", "f2")} == {float} and type(found["b"]) is bool


def test_arguments_that_the_network_does_not_know(tmp_path):
    """demucs leaves them out with a warning; so do we."""
    content = serialize_model(peer("time"), {})
    content["kwargs"] = {**content["kwargs"], "old_option": 3}
    package = read_package(saved(tmp_path / "a.th", content))
    with pytest.warns(UserWarning, match="a.th: Demucs does not know old_option; left out"):
        build(package)


def test_bare_states_of_version_2(tmp_path):
    """They say no class: channels are read from the first layer."""
    torch.manual_seed(0)
    ours = DemucsV2(STEMS, channels=4)
    package = read_package(saved(tmp_path / "demucs_unittest.th", ours.state_dict()))
    assert package.klass == "demucs.model.Demucs"
    assert package.kwargs == {"sources": list(STEMS), "audio_channels": 2, "channels": 4}
    model = build(package)
    assert isinstance(model, DemucsV2) and model.facts.rate == 44100
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_torchaudios_hybrid_demucs(tmp_path):
    """Its own names, and a norm that nothing uses."""
    torch.manual_seed(0)
    theirs = torchaudio.models.hdemucs_low(list(STEMS)).eval()
    package = read_package(saved(tmp_path / "hdemucs.pt", theirs.state_dict()))
    assert package.klass == "torchaudio.models.HDemucs" and package.kwargs["size"] == "low"
    x = torch.randn(1, 2, 8000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        given, expected = build(package)(x), theirs(x)
    assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()


# --- fetching --------------------------------------------------------------------------------------------------------

def bag_files(folder: Path, signatures, kind="time", **more) -> dict[str, Path]:
    return {one: written(folder, peer(kind, seed), one, **more) for seed, one in enumerate(signatures)}


def test_a_bag_is_fetched_from_the_publishers_folders(server, monkeypatch, tmp_path):
    folder, address, asked = server
    files = bag_files(folder / "hybrid_transformer", RELEASES["htdemucs_ft"].packages)
    publish(monkeypatch, address, files, folder)
    bag = fetch_official("htdemucs_ft")
    assert sorted(asked) == sorted(f"/hybrid_transformer/{path.name}" for path in files.values())
    assert [package.file for package in bag.packages] == [path.name for path in files.values()]
    assert bag.weights == RELEASES["htdemucs_ft"].weights and bag.segment is None and not bag.saw_test_songs
    for seed, model in enumerate(bag.models()):
        expected = peer("time", seed).state_dict()
        assert all(torch.equal(tensor, expected[name].half().float()) for name, tensor in model.state_dict().items())
    asked.clear()
    fetch_official("htdemucs_ft")
    assert asked == [] and not list((tmp_path / "data").rglob("*.unfinished"))
    assert fetch_official("d12395a8").packages[0].file == files["d12395a8"].name


def test_segments_of_a_bag(server, monkeypatch):
    folder, address, _ = server
    publish(monkeypatch, address, bag_files(folder / "mdx_final", RELEASES["repro_mdx_a"].packages, "hybrid"), folder)
    bag = fetch_official("repro_mdx_a")
    assert bag.weights is None and bag.segment == 44
    assert [(model.segment, model.facts.segment) for model in bag.models()] == [(44, 44.0)] * 4
    assert bag.packages[0].kwargs["segment"] == Fraction(39, 5), "a package stays as it is"


def test_a_package_twice_in_a_bag_is_read_once(server, monkeypatch):
    folder, address, asked = server
    publish(monkeypatch, address, bag_files(folder, ("fa0cb7f9", "902315c2")), folder)
    bag = fetch_official("repro_mdx_a_hybrid_only")
    assert len(asked) == 2 and bag.packages[0] is bag.packages[2] and len(bag.packages) == 4


def test_a_mirror_and_a_folder_at_hand(server, monkeypatch, tmp_path):
    """COURSE_WEIGHTS_URL and COURSE_WEIGHTS_DIR hold demucs/FILE."""
    folder, address, asked = server
    files = bag_files(folder / "demucs", ["955717e8"])
    publish(monkeypatch, "http://127.0.0.1:9", files, folder)
    assert fetch_official("htdemucs", base_url=address).packages[0].file == files["955717e8"].name
    assert asked == [f"/demucs/{files['955717e8'].name}"]
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", str(folder))
    assert fetch_official("htdemucs").packages[0].file == files["955717e8"].name and len(asked) == 1


def test_weights_without_a_published_hash(server, monkeypatch):
    folder, address, asked = server
    torch.manual_seed(0)
    path = saved(folder / "hdemucs_high_trained.pt", torchaudio.models.hdemucs_low(list(STEMS)).state_dict())
    publish(monkeypatch, address, {"HDEMUCS_HIGH_MUSDB_PLUS": path}, folder, "torchaudio")
    bag = fetch_official("HDEMUCS_HIGH_MUSDB_PLUS")
    assert bag.saw_test_songs and bag.packages[0].klass == "torchaudio.models.HDemucs"
    fetch_official("HDEMUCS_HIGH_MUSDB_PLUS")
    assert len(asked) == 1


def test_what_cannot_be_had_leaves_nothing(server, monkeypatch, tmp_path):
    folder, address, _ = server
    files = bag_files(folder, ["955717e8", "5c90dfd2"])
    publish(monkeypatch, address, files, folder)
    whole = files["955717e8"].read_bytes()

    def kept():
        return [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"]

    for damaged in (whole[:-100], whole[:1000] + b"x" + whole[1001:], b"<!DOCTYPE html><title>404</title>"):
        files["955717e8"].write_bytes(damaged)
        with pytest.raises(ValueError, match=r"955717e8-[0-9a-f]{8}\.th has SHA-256 [0-9a-f]{64}; expected"):
            fetch_official("htdemucs")
        assert kept() == []
    files["955717e8"].unlink()
    with pytest.raises(FileNotFoundError, match="could not be fetched from .*404"):
        fetch_official("htdemucs")
    with pytest.raises(FileNotFoundError, match="Connect to the internet, set COURSE_WEIGHTS_URL to a mirror"):
        fetch_official("htdemucs_6s", base_url="http://127.0.0.1:9")
    assert kept() == []
    assert fetch_official("htdemucs_6s").name == "htdemucs_6s"
    with pytest.raises(ValueError, match="is 'htdemucs2'; expected one of htdemucs, htdemucs_ft"):
        fetch_official("htdemucs2")
    with pytest.raises(ValueError, match="'mdx_extra_q': its weights are packed by diffq; take the same name without"):
        fetch_official("mdx_extra_q")


def test_a_transfer_that_breaks_off(monkeypatch, tmp_path):
    """The server promises more than it sends: nothing is kept, also of a file whose hash nobody published."""
    class Breaking(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"PK" + bytes(998))

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        for name in ("htdemucs", "HDEMUCS_HIGH_MUSDB"):
            with pytest.raises((FileNotFoundError, ValueError), match="could not be fetched|has SHA-256"):
                fetch_official(name, base_url=f"http://127.0.0.1:{httpd.server_address[1]}")
    finally:
        httpd.shutdown()
        httpd.server_close()
    assert [path.name for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"] == []


# --- a folder of one's own -------------------------------------------------------------------------------------------

def test_a_folder_of_packages(tmp_path):
    """As `demucs --repo` reads it: signatures, bags in YAML, and the published names."""
    files = bag_files(tmp_path, ("aaaa", "bbbb"))
    files["aaaa"].rename(tmp_path / "aaaa.th")
    assert fetch_official("aaaa", tmp_path).packages[0].file == "aaaa.th"
    (tmp_path / "mine.yaml").write_text("models: ['bbbb', 'aaaa']\nsegment: 20\n"
                                        "weights: [[1., 0., 1., 0.5], [0., 1., 1., 2]]\n")
    bag = fetch_official("mine", str(tmp_path))
    assert [package.file for package in bag.packages] == [files["bbbb"].name, "aaaa.th"]
    assert bag.weights == ((1, 0, 1, 0.5), (0, 1, 1, 2)) and bag.segment == 20
    named_by_release = written(tmp_path, peer("time"), "5c90dfd2")
    assert fetch_official("htdemucs_6s", tmp_path).packages[0].file == named_by_release.name


@pytest.mark.parametrize("text, message", [
    ("models: [", "bag.yaml is not YAML"),
    ("- aaaa", "bag.yaml holds list; expected models"),
    ("models: [aaaa]\ncode: 1", "bag.yaml holds models, code; expected models"),
    ("models: []", r"models in bag.yaml is \[\]"),
    ("models: [12345678]", "expected a list of signatures, in quotes"),
    ("models: [aaaa]\nweights: 3", "weights in bag.yaml is 3"),
    ("models: [aaaa]\nweights: [[1, 1, 1]]", "weights of bag are 1 lists of 3; expected 1, one for each network, of 4"),
    ("models: [aaaa]\nweights: [[1, 1, 1, -1]]", "expected numbers from 0 on"),
    ("models: [aaaa]\nweights: [[1, 1, 1, .nan]]", "expected numbers from 0 on"),
    ("models: [aaaa]\nweights: [[1, 0, 1, 1]]", "weights of bag are all 0 for bass"),
    ("models: [aaaa]\nsegment: -1", "segment of bag is -1"),
    ("models: [aaaa, six]", "aaaa.* has the sources drums, bass, other, vocals, six.* guitar, drums"),
    ("!!python/object/apply:os.mkdir [ran]", "bag.yaml is not YAML"),
])
def test_bags_that_are_wrong(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, peer("time"), "aaaa")
    written(tmp_path, peer("time", sources=["guitar", "drums", "bass", "vocals"]), "six")
    (tmp_path / "bag.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        fetch_official("bag", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        fetch_official("htdemucs", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="it has neither packages nor bags"):
        fetch_official("mine", tmp_path)
    written(tmp_path, peer("time"), "aaaa")
    with pytest.raises(FileNotFoundError, match="has no mine.yaml and no package mine; it has aaaa"):
        fetch_official("mine", tmp_path)
    with pytest.raises(FileNotFoundError, match="lacks 955717e8 of htdemucs; expected 955717e8-DIGITS.th there"):
        fetch_official("htdemucs", tmp_path)
    (tmp_path / "aaaa.th").write_bytes(b"")
    with pytest.raises(ValueError, match="both aaaa; remove one"):
        fetch_official("aaaa", tmp_path)


# --- damaged, wrong and forged files ---------------------------------------------------------------------------------

def test_damaged_files_are_named(tmp_path):
    path = written(tmp_path, peer("time"))
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:200], b"", whole[:3000] + b"x" + whole[3001:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"955717e8-[0-9a-f]{8}\.th has SHA-256 .* as its name says"):
            read_package(path)
        plain = tmp_path / "plain.th"
        plain.write_bytes(damaged)
        if len(damaged) < len(whole):
            with pytest.raises(ValueError, match="plain.th .*(cut off|is empty)"):
                read_package(plain)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        read_package(tmp_path / "nowhere-12345678.th")
    path.write_bytes(whole)
    wrong = path.rename(tmp_path / "955717e8-00000000.th")
    with pytest.raises(ValueError, match="expected 00000000..., as its name says"):
        read_package(wrong)


@cache
def whole_content() -> dict:
    return serialize_model(peer("time"), {"epochs": 3})


def content(**changed) -> dict:
    return {**whole_content(), **changed}


@pytest.mark.parametrize("changed, message", [
    ({"klass": demucs.demucs.DConv}, "a.th is a package of demucs.demucs.DConv; the course builds demucs.htdemucs.HTD"),
    ({"klass": "demucs.demucs.Demucs"}, "klass in a.th is 'demucs.demucs.Demucs'; expected one of demucs"),
    ({"klass": None}, "klass in a.th is None"),
    ({"klass": torch.nn.Linear}, "asks for torch.nn.modules.linear.Linear, and opening it would run code"),
    ({"args": 3}, "args in a.th are 3"),
    ({"args": (torch.zeros(2),)}, "args in a.th are"),
    ({"kwargs": [1]}, r"kwargs in a.th are \[1\]"),
    ({"kwargs": {3: 1}}, "kwargs in a.th are {3: 1}"),
    ({"kwargs": {"sources": demucs.demucs.Demucs}}, "kwargs in a.th are"),
    ({"state": {"__quantized": True}}, "holds weights packed by diffq"),
    ({"state": [torch.zeros(2)]}, "state in a.th is list; expected tensors by name"),
    ({"state": {"a": {"b": torch.zeros(2)}}}, "state in a.th is dict; expected tensors by name"),
])
def test_packages_of_the_wrong_kind(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_package(saved(tmp_path / "a.th", content(**changed)))


@pytest.mark.parametrize("other, message", [
    ({"model": {"a": 1}}, "a.th holds model; expected a package of Demucs"),
    ([1, 2], "a.th holds list; expected a package"),
    ({}, "a.th holds nothing; expected"),
    ({"fc.weight": torch.zeros(2, 2)}, r"a.th holds tensors that say no class \(fc.weight, ...\)"),
])
def test_files_that_are_no_packages(tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        read_package(saved(tmp_path / "a.th", other))


def test_lists_in_circles(tmp_path):
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match="kwargs in a.th are"):
        read_package(saved(tmp_path / "a.th", content(kwargs={"sources": circle})))


@pytest.mark.parametrize("changed, message", [
    ({"klass": "demucs.tasnet.ConvTasNet"}, "a.th is a package of demucs.tasnet.ConvTasNet; the course builds demucs"),
    ({"kwargs": {}}, "a.th does not fit Demucs: .*missing 1 required positional argument: 'sources'"),
    ({"kwargs": {"sources": ["drums"], "depth": "six"}}, "a.th does not fit Demucs: .* Its arguments are"),
    ({"args": (["drums"], 2, 4)}, "a.th does not fit Demucs"),
    ({"kwargs": {"sources": ["drums"], "channels": 4, "depth": 2, "lstm_layers": 0, "norm_groups": 2,
                 "resample": False}}, "a.th does not fit Demucs: decoder.1.* has shape"),
])
def test_packages_that_do_not_fit(tmp_path, changed, message):
    package = replace(read_package(saved(tmp_path / "a.th", content())), **changed)
    with pytest.raises(ValueError, match=message):
        build(package)


def test_tensors_that_do_not_fit(tmp_path):
    package = read_package(saved(tmp_path / "a.th", content()))
    first = next(iter(package.state))
    for state, message in (({name: x for name, x in package.state.items() if name != first}, f"{first} is missing"),
                           ({**package.state, "more": torch.zeros(2)}, "more is unknown"),
                           ({**package.state, first: package.state[first][:1]}, f"{first} has shape"),
                           ({**package.state, first: package.state[first] * float("nan")}, f"infinite .* {first}")):
        with pytest.raises(ValueError, match=message):
            build(replace(package, state=state))


def test_bags_need_packages_that_fit():
    package = Package("demucs.demucs.Demucs", (), {"sources": "drums"}, {})
    with pytest.raises(ValueError, match="package has the sources 'drums'; expected a list of names"):
        Bag("mine", (package, package))


class Calls:
    """What a forged pickle may hold: a call that runs when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


FORGED = {
    "in training_args": lambda do: content(training_args={"optim": do}),
    "in kwargs, nested": lambda do: content(kwargs={"sources": [["drums", {"a": do}]]}),
    "as klass": lambda do: content(klass=do),
    "in args": lambda do: content(args=(do,)),
    "in the state": lambda do: content(state={"a": do}),
    "beside": lambda do: content(metrics=do),
    "instead": lambda do: do,
    "among bare tensors": lambda do: {"encoder.0.0.weight": torch.zeros(4, 2, 8), "a": do},
}


@pytest.mark.parametrize("place", FORGED)
@pytest.mark.parametrize("old", [False, True])
def test_forged_packages_run_nothing(tmp_path, place, old):
    """Wherever the call stands and whatever it is: a ValueError that names the file and what it asks for."""
    trace = tmp_path / "code ran"
    calls = [(os.mkdir, str(trace)), (os.system, f"mkdir '{trace}'"), (eval, f"__import__('os').mkdir({str(trace)!r})"),
             (exec, f"import os; os.mkdir({str(trace)!r})"), (getattr, "x", "upper"), (torch.load, str(trace)),
             (torch.hub.load, str(trace), "x"), (pickle.loads, b"cos\nmkdir\n."), (Path, str(trace)),
             (importlib.import_module, "antigravity"), (torch.serialization.add_safe_globals, [])]
    for function, *arguments in calls:
        torch.save(FORGED[place](Calls(function, *arguments)), tmp_path / "forged.th",
                   _use_new_zipfile_serialization=not old)
        with pytest.raises(ValueError, match="forged.th can't be read as plain tensors: " + (
                "" if old else r"it asks for [\w.]+, and opening it would run")):
            read_package(tmp_path / "forged.th")
        assert not trace.exists(), function
    assert "antigravity" not in sys.modules
    torch.save(FORGED[place](Calls(os.mkdir, str(trace))), tmp_path / "forged.th")
    torch.load(tmp_path / "forged.th", weights_only=False)
    assert trace.exists(), "the same file does run code when it is let"


class AllowedNames:
    """Allowed names that are called as their package never does."""

    CASES = {
        "class": (demucs.demucs.Demucs, ["drums"]), "transformer": (demucs.htdemucs.HTDemucs, ["drums"]),
        "fraction": (Fraction, "1e999999999"), "fraction of text": (Fraction, "0.5"), "dtype": (np.dtype, "O"),
        "dtype of fields": (np.dtype, [("a", "f8")]), "long scalar": (np.dtype("f8").type(0).__reduce__()[0], 1, 2),
    }


@pytest.mark.parametrize("case", AllowedNames.CASES)
def test_allowed_names_called_otherwise(tmp_path, case):
    """The placeholders do nothing but refuse: also a class of demucs that the pickle calls."""
    built = []
    saved(tmp_path / "forged.th", content(metrics=Calls(*AllowedNames.CASES[case])))
    with pytest.MonkeyPatch.context() as patch:
        for klass in (demucs.demucs.Demucs, demucs.htdemucs.HTDemucs):
            patch.setattr(klass, "__init__", lambda self, *arguments: built.append(self))
        with pytest.raises(ValueError, match="forged.th can't be read as plain tensors"):
            read_package(tmp_path / "forged.th")
    assert built == []


def forged_zip(path: Path, pickled: bytes) -> Path:
    """A file as torch writes it, with another pickle in it."""
    saved(path.with_suffix(".whole"), {"a": torch.zeros(2)})
    with zipfile.ZipFile(path.with_suffix(".whole")) as whole, zipfile.ZipFile(path, "w") as forged:
        for name in whole.namelist():
            forged.writestr(name.replace(path.stem, "a"),
                            pickled if name.endswith("/data.pkl") else whole.read(name))
    return path


KLASS = b"cdemucs.demucs\nDemucs\n"


@pytest.mark.parametrize("pickled", [
    b"\x80\x02" + KLASS + b")\x81.",                                   # NEWOBJ: Demucs.__new__()
    b"\x80\x02" + KLASS + b"}X\x01\x00\x00\x00aK\x01sb.",              # BUILD: Demucs.__dict__.update(...)
    b"\x80\x02" + KLASS + b"(K\x01tR.",                                # REDUCE: Demucs(1)
    b"\x80\x02(K\x01i" + KLASS[1:] + b".",                             # INST
    b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x03ran\x85R.",           # STACK_GLOBAL and REDUCE
    b"\x80\x02cdemucs.demucs.os\nsystem\nX\x03\x00\x00\x00foo\x85R.",   # a module within demucs
    b"\x80\x02cnumpy\ndtype\n)\x81}X\x01\x00\x00\x00aK\x01sb.",        # an unmade dtype gets a state
    b"\x80\x02cfractions\nFraction.__init__\n)R.",
], ids=["newobj", "build", "reduce", "inst", "stack_global", "within demucs", "dtype", "attribute"])
def test_operations_of_the_pickle_itself(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="forged.th"):
        read_package(forged_zip(tmp_path / "forged.th", pickled))
    assert not (tmp_path / "ran").exists()


def test_nothing_stays_allowed(tmp_path):
    """After a package was read, torch's reader knows the classes of demucs as little as before."""
    path = saved(tmp_path / "a.th", content())
    before = set(torch.serialization.get_safe_globals())
    read_package(path)
    with pytest.raises(ValueError):
        read_package(saved(tmp_path / "b.th", content(klass=Path)))
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_threads_read_at_once(tmp_path):
    """What torch allows is kept for the whole process: two readers must not take it from each other."""
    path, failed = saved(tmp_path / "a.th", content()), []

    def read():
        try:
            for _ in range(10):
                read_package(path)
        except Exception as error:
            failed.append(error)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_demucs_is_not_imported():
    """The course reads its packages without the package demucs, which only the tests have."""
    sources = {path.name: path.read_text(encoding="utf8") for path in Path(official.__file__).parents[1].rglob("*.py")}
    assert len(sources) > 50
    imports = r"^\s*(import|from) (demucs|openunmix|diffq)\b"
    assert [name for name, text in sources.items() if re.search(imports, text, re.MULTILINE)] == []
