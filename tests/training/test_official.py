"""Official weights: from a server of the test's own, checked by hash, read strictly and without running code."""

import hashlib
import http.server
import os
import re
import threading
from functools import partial
from pathlib import Path
from types import MappingProxyType

import openunmix
import openunmix.model
import pytest
import torch

from course_lib.data import STEMS
from course_lib.open_unmix import load_official, load_release, official_open_unmix
from course_lib.training import official
from course_lib.training.official import PUBLISHED_WEIGHTS, PublishedWeights, fetch_weights, load_strictly, read_tensors

AT_HAND = os.environ.get("COURSE_WEIGHTS_DIR")
AT_HAND = AT_HAND if AT_HAND and (Path(AT_HAND).expanduser() / "taggers" / "mtat_fcn.pth").is_file() else None
OLD_EXTRAS = {"sample_rate": torch.tensor(16000.0), "stft.window": torch.hann_window(1024),
              "transform.0.window": torch.hann_window(1024)}


class CountingHandler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder that is served on the loopback interface: (folder, address, what was asked)."""
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(CountingHandler, directory=folder))
    httpd.asked = []
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_address[1]}", httpd.asked
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_WEIGHTS_URL", raising=False)
    monkeypatch.delenv("COURSE_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))


def publish(monkeypatch, folder, release="umxse", parts=("speech", "noise"), extras=OLD_EXTRAS):
    """Files as the package's own networks write them, random weights, listed under their hashes; the networks."""
    (folder / release).mkdir(exist_ok=True)
    models, files = {}, {}
    for seed, part in enumerate(parts):
        torch.manual_seed(seed)
        models[part] = next(iter(getattr(openunmix, f"{release}_spec")(parts[:1], pretrained=False).values())).eval()
        path = folder / release / "file"
        torch.save({**models[part].state_dict(), **extras}, path)
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        files[part] = (f"{part}_{digits}.pth", digits)
        os.replace(path, path.with_name(files[part][0]))
    known = {**PUBLISHED_WEIGHTS,
             release: PublishedWeights("http://127.0.0.1:9", MappingProxyType(files), "MIT", "a test")}
    monkeypatch.setattr(official, "PUBLISHED_WEIGHTS", known)
    return models, {part: folder / release / name for part, (name, _) in files.items()}


def test_table_is_that_of_the_package(monkeypatch):
    """The addresses and file names that the openunmix package downloads, release by release."""
    asked = []
    monkeypatch.setattr(openunmix.model, "OpenUnmix", lambda **size: torch.nn.Identity())
    monkeypatch.setattr(openunmix.torch.hub, "load_state_dict_from_url",
                        lambda url, map_location=None: asked.append(url) or {})
    for release in ("umx", "umxhq", "umxl", "umxse"):
        asked.clear()
        getattr(openunmix, f"{release}_spec")()
        table = PUBLISHED_WEIGHTS[release]
        assert sorted(asked) == sorted(f"{table.url}/{name}" for name, _ in table.files.values())
        for part, (name, digits) in table.files.items():
            assert name.startswith(part) and re.fullmatch("[0-9a-f]{8}", digits) and digits in name


@pytest.mark.parametrize("release,parts", [("umxse", ("speech", "noise")), ("umxhq", ("vocals",))])
def test_downloaded_networks_equal_the_published_ones(server, monkeypatch, release, parts):
    folder, address, _ = server
    published, _ = publish(monkeypatch, folder, release, parts)
    loaded = load_release(release, parts, base_url=address)
    assert list(loaded) == list(parts)
    for part, model in loaded.items():
        x = torch.rand(1, model.nb_channels, model.nb_output_bins, 6, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours, theirs = model(x), published[part](x)
        assert not model.training and (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_sources_come_in_the_order_of_the_course(monkeypatch):
    monkeypatch.setattr("course_lib.open_unmix.fetch_weights", lambda release, part, **where: part)
    monkeypatch.setattr("course_lib.open_unmix.load_official", lambda path, release: path)
    assert load_release("umxhq") == {stem: stem for stem in STEMS} and list(load_release("umxhq")) == list(STEMS)
    assert list(load_release("umxse")) == ["speech", "noise"]


def test_a_file_is_fetched_once(server, monkeypatch, tmp_path):
    folder, address, asked = server
    _, files = publish(monkeypatch, folder)
    first = fetch_weights("umxse", "speech", base_url=address)
    assert first == tmp_path / "data" / "downloads" / "weights" / "umxse" / files["speech"].name
    assert fetch_weights("umxse", "speech", base_url=address) == first and len(asked) == 1
    assert first.read_bytes() == files["speech"].read_bytes()
    first.write_bytes(b"damaged later")
    fetch_weights("umxse", "speech", base_url=address)
    assert len(asked) == 2 and first.read_bytes() == files["speech"].read_bytes()
    assert not list(first.parent.glob("*.unfinished"))


def test_address_and_folder_can_be_set(server, monkeypatch, tmp_path):
    folder, address, asked = server
    _, files = publish(monkeypatch, folder)
    monkeypatch.setenv("COURSE_WEIGHTS_URL", address + "/")
    path = fetch_weights("umxse", "noise", folder=tmp_path / "mine")
    assert path == tmp_path / "mine" / "umxse" / files["noise"].name and asked == [f"/umxse/{files['noise'].name}"]
    monkeypatch.setenv("COURSE_WEIGHTS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", str(folder))                    # at hand: used as it is, nothing is asked
    assert fetch_weights("umxse", "speech") == files["speech"] and len(asked) == 1
    files["speech"].write_bytes(b"another file")
    with pytest.raises(ValueError, match="SHA-256"):
        fetch_weights("umxse", "speech")


def test_wrong_hash_is_refused_and_nothing_kept(server, monkeypatch, tmp_path):
    folder, address, _ = server
    _, files = publish(monkeypatch, folder)
    files["speech"].write_bytes(files["speech"].read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"speech_[0-9a-f]{8}\.pth has SHA-256 [0-9a-f]{64}; expected"):
        fetch_weights("umxse", "speech", base_url=address)
    kept = [path.name for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert kept == []


def test_what_cannot_be_had(server, monkeypatch):
    folder, address, _ = server
    _, files = publish(monkeypatch, folder)
    files["noise"].unlink()
    with pytest.raises(FileNotFoundError, match="could not be fetched.*404"):
        fetch_weights("umxse", "noise", base_url=address)
    with pytest.raises(FileNotFoundError, match="Connect to the internet"):
        fetch_weights("umxse", "speech")                                     # nobody listens there
    with pytest.raises(ValueError, match="name of published weights is 'umxxl'; expected one of umx"):
        fetch_weights("umxxl", "vocals")
    with pytest.raises(ValueError, match="part is 'vocals'; 'umxse' has speech, noise"):
        fetch_weights("umxse", "vocals")
    with pytest.raises(ValueError, match="release is 'umxxl'"):
        load_release("umxxl")


# --- reading ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def tensors():
    return official_open_unmix("umxse").state_dict()


def saved(tmp_path, content, name="speech.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("extra", OLD_EXTRAS)
def test_known_extras_of_old_files_are_left_out(tmp_path, tensors, extra):
    model = load_official(saved(tmp_path, {**tensors, extra: OLD_EXTRAS[extra]}), "umxse")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())


def test_files_that_do_not_fit_are_refused(tmp_path, tensors):
    def complaint(content):
        with pytest.raises(ValueError) as caught:
            load_official(saved(tmp_path, content), "umxse")
        return str(caught.value)

    without = {name: tensor for name, tensor in tensors.items() if name != "lstm.weight_hh_l1_reverse"}
    assert "speech.pth does not fit OpenUnmix: lstm.weight_hh_l1_reverse is missing" in complaint(without)
    assert "stft.windows is unknown" in complaint({**tensors, "stft.windows": torch.zeros(4)})
    small = {**tensors, "fc1.weight": torch.zeros(3, 2)}
    assert "fc1.weight has shape (3, 2) instead of (256, 513)" in complaint(small)
    assert "and" in complaint({}) and "more" in complaint({})
    with pytest.raises(ValueError, match=r"speech.pth does not fit OpenUnmix: .*instead of"):
        load_official(saved(tmp_path, tensors), "umxhq")                     # the file of another release


class Dangerous:
    """What a forged pickle may hold: a call that runs when it is opened."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_no_code_is_run(tmp_path, tensors):
    trace = tmp_path / "code ran"
    path = saved(tmp_path, {**tensors, "fc1.bias": Dangerous(trace)})
    with pytest.raises(ValueError, match="speech.pth can't be read as plain tensors"):
        load_official(path, "umxse")
    assert not trace.exists()
    torch.load(path, weights_only=False)                    # the same file does run code when it is let
    assert trace.exists()


def test_refused_tensors_leave_the_model_as_it_was(tensors):
    model = official_open_unmix("umxse")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="fc1.weight is missing"):
        load_strictly(model, {name: tensor + 1 for name, tensor in tensors.items() if name != "fc1.weight"}, "a file")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_first_part_of_a_files_network(tensors):
    """only_own: a model that is the beginning of the file's takes what it has, and still needs all of that."""
    front = torch.nn.ModuleDict({"fc1": torch.nn.Linear(513, 256, bias=False)})
    load_strictly(front, tensors, "a file", only_own=True)
    assert torch.equal(front["fc1"].weight, tensors["fc1.weight"])
    with pytest.raises(ValueError, match="a file does not fit ModuleDict: fc1.weight is missing"):
        load_strictly(front, {}, "a file", only_own=True)


@pytest.mark.parametrize("part", [part for part in PUBLISHED_WEIGHTS["taggers"].files if "hcnn" not in part])
def test_taggers_and_their_addresses(monkeypatch, tmp_path, part):
    """Where the publisher has them; a folder of one's own is asked first, and its file must be the published one."""
    data_set, network = part.split("_")
    assert PUBLISHED_WEIGHTS["taggers"].address(part).endswith(f"/models/{data_set}/{network}/best_model.pth")
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "taggers").mkdir()
    (tmp_path / "taggers" / f"{part}.pth").write_bytes(b"another file")
    with pytest.raises(ValueError, match=f"{part}.pth has SHA-256 .* expected [0-9a-f]{{64}}"):
        fetch_weights("taggers", part)


@pytest.mark.skipif(not AT_HAND, reason="no taggers in the folder that COURSE_WEIGHTS_DIR names")
@pytest.mark.parametrize("part, parameters", [("mtat_fcn", 447_732), ("mtat_musicnn", 784_300)])
def test_real_taggers(monkeypatch, part, parameters):
    """Files of 2019 in the format before zip: as many numbers as their authors' networks have parameters."""
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", AT_HAND)
    tensors = read_tensors(fetch_weights("taggers", part))
    trained = {name: x for name, x in tensors.items() if x.is_floating_point()
               and not name.endswith(("running_mean", "running_var", ".fb", ".window"))}
    assert sum(x.numel() for x in trained.values()) == parameters
