"""`course train CONFIG`, from a file to weights with a card, and what it says of files that are wrong."""

import csv
import datetime
import importlib.util
import json
import os

import pytest
import torch
import yaml
from safetensors.torch import load_file

from course_lib.cli import main
from course_lib.data import RandomChunks, Remix
from course_lib.data.augmentation import Augmentation, StudioAugmentation
from course_lib.data.loaders import chunk_generator
from course_lib.training import History, Part, command, configuration, load_trained, load_weights
from course_lib.training.checkpoints import RunFolder, write_tensors
from tests.training import training_runs


def config(root, **changed):
    """Two songs of three seconds, six steps."""
    songs = {"source": "band", "split": "train", "count": 2, "seconds": 3.0, "render_rate": 22050, "root": str(root)}
    whole = {
        "name": "tiny", "what": "a test of course train", "seed": 3,
        "model": {"use": "tests.training.training_runs:Masks", "dropout": 0.1},
        "step": {"use": "tests.training.test_command:make_step", "scale": 10.0},
        "prepare": {"use": "tests.training.test_command:prepare", "gain": 0.5},
        "data": {"tracks": songs, "seconds": 0.1, "augment": {"gain": [0.5, 1.0], "flip": 0.5}},
        "validation": {"use": "tests.training.test_command:score", "tracks": songs},
        "optimizer": {"use": "torch.optim:Adam", "lr": 0.01},
        "schedule": {"kind": "cosine", "warmup": 2},
        "training": {"steps": 6, "batch_size": 2, "validate_every": 4, "checkpoint_every": 3, "ema_decay": 0.5},
        "keep": {"dtype": "float16"},
    }
    return {name: part for name, part in {**whole, **changed}.items() if part is not None}


def make_step(scale):
    return lambda model, sources: scale * training_runs.separate_step(model, sources)["loss"]


def prepare(model, tracks, gain):
    assert len(tracks) == 2
    with torch.no_grad():
        model.layers[0].weight.mul_(gain)


def score(model, tracks):
    with torch.no_grad():
        return {"error": float(model(tracks[0].read("mixture", 0, 4000)[None]).square().mean())}


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf8")
    return str(path)


@pytest.fixture(scope="module")
def band(tmp_path_factory):
    return tmp_path_factory.mktemp("band")


def test_from_a_file_to_weights(band, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    file, folder = write(tmp_path / "tiny.yaml", config(band)), tmp_path / "run"
    train = ["train", file, "--folder", str(folder)]
    assert main([*train, "--steps", "4", "--no-keep"]) == 0
    assert not (tmp_path / "course").exists()
    assert main(train) == 0, "a run whose steps grew goes on"
    said = capsys.readouterr().out
    assert "tiny: 4 steps, loss" in said and "tiny: 6 steps, loss" in said and "kept tiny.safetensors" in said
    model = training_runs.Masks()
    card = load_weights(tmp_path / "course" / "data" / "checkpoints" / "tiny.safetensors", model)
    assert card["steps"] == 6 and card["seed"] == 3 and card["stored_as"] == "float16" and "error" in card["score"]
    assert card["curve"]["points"][-1] == [6, round(card["score"]["error"], 4)] and card["curve"]["score"] == "error"
    assert card["config"]["training"]["ema_decay"] == 0.5 and card["command"].startswith("uv run course train")
    with (tmp_path / "course" / "data" / "results" / "training" / "tiny_log.csv").open() as log:
        assert [row["step"] for row in csv.DictReader(log)] == list("123456")
    # once more from the start, in one go: the same weights as when it is trained by `run_config` a second time
    weights = json.loads((tmp_path / "course/data/checkpoints/tiny.json").read_text())["sha256"]
    assert main(train) == 0, "a finished run is loaded and kept again"
    assert json.loads((tmp_path / "course/data/checkpoints/tiny.json").read_text())["sha256"] == weights
    # another seed does not go on from there, unless told to begin afresh
    assert main([*train, "--seed", "4"]) == 2
    assert "seed was 3, now 4" in capsys.readouterr().err
    assert main([*train, "--seed", "4", "--afresh"]) == 0
    card = json.loads((tmp_path / "course/data/checkpoints/tiny.json").read_text())
    assert card["seed"] == 4 and card["command"].endswith("--seed 4") and card["sha256"] != weights


def test_trials_of_a_shipped_configuration_are_not_kept(band, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    monkeypatch.setattr(command, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(configuration, "CONFIGS", tmp_path / "configs")
    (tmp_path / "configs").mkdir()
    short = {"steps": 2, "batch_size": 2}
    file = write(tmp_path / "configs" / "tiny.yaml", config(band, training=short, validation=None, schedule=None))
    copy = write(tmp_path / "copy.yaml", config(band, training=short, validation=None, schedule=None, model={
        "use": "tests.training.training_runs:Masks", "dropout": 0.3}))
    weights = tmp_path / "course" / "data" / "checkpoints" / "tiny.safetensors"
    for trial in (["tiny", "--steps", "1"], ["tiny", "--seed", "4"], [file, "--steps", "1"], [copy]):
        assert main(["train", *trial, "--afresh"]) == 0
        said = capsys.readouterr().out
        assert not (tmp_path / "course").exists() and "a trial, not kept" in said and "kept tiny" not in said, trial
    assert main(["train", "tiny"]) == 0, "a trial lies in a folder of its own: the run does not go on from it"
    said = capsys.readouterr().out
    assert "kept tiny.safetensors" in said and "a trial" not in said
    before = weights.stat().st_mtime_ns
    assert main(["train", "tiny", "--steps", "2", "--seed", "3"]) == 0, "its own values, given explicitly"
    assert "kept tiny.safetensors" in capsys.readouterr().out and weights.stat().st_mtime_ns > before
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == ["tiny", "tiny_trial"]


def test_afresh_deletes_a_run_and_nothing_else(band, tmp_path, capsys):
    file = write(tmp_path / "tiny.yaml", config(band, training={"steps": 2, "batch_size": 2, "validate_every": 1}))
    precious = tmp_path / "work"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    train = ["train", file, "--no-keep", "--folder", str(precious)]
    assert main([*train, "--afresh"]) == 2
    assert "holds no run of course train" in capsys.readouterr().err
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    assert main(train) == 0 and main([*train, "--seed", "5"]) == 2
    assert main([*train, "--seed", "5", "--afresh"]) == 0, "a run may lie beside other files"
    assert (precious / "thesis.txt").read_text() == "years"
    RunFolder(precious).delete()
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    assert main(["train", file, "--no-keep", "--folder", str(tmp_path / "new"), "--afresh"]) == 0
    RunFolder(tmp_path / "new").delete()
    assert not (tmp_path / "new").exists()


def test_only_the_best_weights_of_this_run_are_kept(band, tmp_path, monkeypatch):
    """A run without a best score keeps its last weights, whatever lies in the folder."""
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    content = config(band, validation=None, keep={"best": True}, training={"steps": 2, "batch_size": 2})
    model, other = training_runs.make(0)[0], training_runs.make(1)[0]
    history = History(steps=[{"step": 2, "seconds": 1.0}])
    write_tensors(tmp_path / "best.safetensors", other.state_dict())
    kept = load_file(command.keep_weights(content, model, history, tmp_path, "course train"))
    own = training_runs.make(0)[0].state_dict()
    assert training_runs.same_weights({name: kept[name] for name in own}, own)


WRONG = [
    ("a: [", "wrong.yaml is not YAML"),
    ("just words", "wrong.yaml is str 'just words'"),
    ({"optimizer": None}, "wrong.yaml lacks optimizer"),
    ({"optimiser": {}}, "wrong.yaml has optimiser, which is not known; expected data, facts"),
    ({"training": {"steps": 2, "batch_size": 2, "clipping": 1}}, "training in wrong.yaml has clipping, which is not"),
    ({"training": {"steps": 2}}, "training in wrong.yaml lacks batch_size"),
    ({"training": {"steps": 0, "batch_size": 2}}, "steps in training in wrong.yaml is 0; expected a whole number"),
    ({"training": {"steps": 2, "batch_size": 2, "precision": "half"}}, "precision is 'half'; expected one of no, fp16"),
    ({"seed": -1}, "seed in wrong.yaml is -1"),
    ({"model": {"dropout": 0.1}}, "model in wrong.yaml lacks use"),
    ({"model": "Masks"}, "model in wrong.yaml is str 'Masks'"),
    ({"model": {"use": "tests.training.training_runs:Mask"}}, "use is 'tests.training.training_runs:Mask'"),
    ({"model": {"use": "no_such_module:Mask"}}, "use is 'no_such_module:Mask': No module named"),
    ({"model": {"use": "tests.training.training_runs:Masks", "dropuot": 0.1}}, "unexpected keyword argument 'dropuot'"),
    ({"schedule": {"kind": "cosinus"}}, "kind of schedule is 'cosinus'; expected one of constant, cosine"),
    ({"schedule": {"kind": "cosine", "warm": 2}}, "schedule cosine with {'warm': 2}: "),
    ({"schedule": {"kind": "cosine", "warmup": 99}}, "steps is 6 and warmup 99"),
    ({"data": {"tracks": {"source": "bands"}, "seconds": 1}}, "source is 'bands'; expected one of band"),
    ({"data": {"tracks": {"source": "band", "colour": 1}, "seconds": 1}}, "unexpected keyword argument 'colour'"),
    ({"data": {"tracks": {"split": "train"}, "seconds": 1}}, "tracks lacks source"),
    ({"data": {"tracks": [], "seconds": 1, "remx": True}}, "data in wrong.yaml has remx"),
    ({"keep": {"dtype": "float8"}}, "dtype in keep is 'float8'; expected float16"),
    ({"keep": {"best": "yes"}}, "best in keep in wrong.yaml is 'yes'; expected true or false"),
    ({"optimizer": {"use": "torch.optim:Adam", "lr": "0.1"}}, "optimizer.lr in wrong.yaml is the text '0.1'; exp"),
    ({"data": {"tracks": [{"source": "band", "count": "2"}], "seconds": 1}}, "data.tracks[0].count in wrong.yaml is"),
    ({"training": {"steps": 2, "batch_size": 2, "clip": "5.0"}}, "training.clip in wrong.yaml is the text '5.0'"),
    ({"training": {"steps": 2, "batch_size": 2, "ema_decay": 1.5}}, "training in wrong.yaml: ema_decay is 1.5; exp"),
    ({"training": {"steps": 2, "batch_size": 2, "accumulate": 2.5}}, "training in wrong.yaml: accumulate is 2.5; e"),
    ({"facts": {"rate": 44100, "hop": 3}}, "facts in wrong.yaml: hop is not known; expected names among rate, stems"),
    ({"facts": {"rate": 44100}}, "facts say a rate of 44100 Hz, the data have 22050 Hz; correct one of them"),
    ({"parts": {"use": "a:b"}}, "parts in wrong.yaml is dict; expected a list of {use: ...}"),
    ({"parts": [{"use": "torch.nn:Linear"}]}, "torch.nn:Linear can't be called with model"),
    ({"parts": [{"use": "tests.training.test_command:no_part"}]}, "parts gave int; expected functions that"),
    ({"data": {"use": "tests.training.test_command:few"}, "validation": None, "prepare": None},
     "tests.training.test_command:few gave 3 items; expected a data set of 12 items"),
    ({"validation": {"use": "tests.training.test_command:score"}}, "validation in wrong.yaml lacks tracks"),
]


def no_part(model):
    return 3


def few(seed, length):
    return [seed] * 3


@pytest.mark.parametrize("change, message", WRONG)
def test_what_is_wrong_is_said_in_one_line(band, tmp_path, capsys, change, message):
    content = change if isinstance(change, str) else config(band, **change)
    status = main(["train", write(tmp_path / "wrong.yaml", content), "--folder", str(tmp_path / "run"), "--no-keep"])
    said = capsys.readouterr()
    assert status == 2 and said.out == ""
    assert said.err.startswith("course train: ") and said.err.count("\n") == 1 and message in said.err, said.err


@pytest.mark.parametrize("text, value", [
    ("1e-3", 1e-3), ("1E5", 1e5), ("-2e-1", -0.2), (".5e1", 5.0), ("2.", 2.0), ("+1.5", 1.5), ("0.001", 1e-3),
    (".inf", float("inf")), ("10", 10), ("-3", -3), ("true", True), ("False", False), ("no", "no"), ("yes", "yes"),
    ("off", "off"), ("1:30", "1:30"), ("1.2.3", "1.2.3"),
    ("e5", "e5"), ("2026-11-01", datetime.date(2026, 11, 1)), ("null", None),
])
@pytest.mark.parametrize("place", ["a: {}", "a: {{b: [1, {}]}}", "- {{c: {}}}"])
def test_numbers_in_yaml(text, value, place):
    """As YAML 1.2 and everybody else read them, wherever they stand."""
    read = configuration.parse(place.format(text).encode(), "test")
    while isinstance(read, (dict, list)):
        read = list(read.values())[-1] if isinstance(read, dict) else read[-1]
    assert read == value and type(read) is type(value)


def test_text_that_looks_like_a_number_may_be_a_name():
    read = configuration.parse(b"name: '1e3'\nwhat: '7'\nother: 3e", "test")
    assert read == {"name": "1e3", "what": "7", "other": "3e"}


def parts_of(model):
    """Two parts: one that counts, and an adversary that is asked about the model's output."""
    critic = torch.nn.Conv1d(2, 1, 1)
    return Part("critic", critic, torch.optim.SGD(critic.parameters(), 0.01),
                lambda model, batch: critic(model(batch["x"])[:, 0].detach()).square().mean())


def step_with_parts(parts, scale):
    return lambda model, batch: scale * (model(batch["x"]).sum(1) - batch["y"]).square().mean() + parts["critic"](
        batch["x"]).mean()


class Noise:
    """A data set that is no songs: item i is a function of the seed and i."""

    rate = 8000

    def __init__(self, seed, length, frames):
        self.seed, self.length, self.frames = seed, length, frames

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        x = torch.randn(2, self.frames, generator=chunk_generator(self.seed, index))
        return {"x": x, "y": x / 2}


def noise_score(model, data):
    with torch.no_grad():
        return {"error": float((model(data[0]["x"][None]).sum(1) - data[0]["y"]).square().mean())}


def valid_noise(frames):
    return Noise(99, 1, frames)


def any_data(**changed):
    """Not songs but pairs of noise, with an adversary beside the model."""
    here = "tests.training.test_command"
    return config("", prepare=None, schedule=None, step={"use": f"{here}:step_with_parts", "scale": 10.0},
                  parts=[{"use": f"{here}:parts_of"}], facts={"rate": 8000, "segment": 0.05},
                  data={"use": f"{here}:Noise", "frames": 400},
                  validation={"use": f"{here}:noise_score", "data": {"use": f"{here}:valid_noise", "frames": 300}},
                  **changed)


def test_any_data_with_parts_from_a_file_and_back_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    content = any_data()
    file = tmp_path / "tiny.yaml"
    write(file, content)
    file.write_text(file.read_text().replace("lr: 0.01", "lr: 1e-2"))
    assert main(["train", str(file), "--folder", str(tmp_path / "run"), "--steps", "4", "--no-keep"]) == 0
    assert main(["train", str(file), "--folder", str(tmp_path / "run")]) == 0, "it goes on, its parts with it"
    with (tmp_path / "run" / "log.csv").open() as log:
        rows = list(csv.DictReader(log))
    assert len(rows) == 6 and float(rows[-1]["critic"]) >= 0
    model = load_trained(tmp_path / "course" / "data" / "checkpoints" / "tiny.safetensors")
    assert isinstance(model, training_runs.Masks) and model.facts.rate == 8000 and model.facts.segment == 0.05
    assert model.card["trained_on"]["frames"] == 400 and model.card["facts"] == {"rate": 8000, "segment": 0.05}
    straight = tmp_path / "straight"
    assert main(["train", str(file), "--folder", str(straight), "--no-keep"]) == 0
    states = [torch.load(next((folder / "checkpoints").glob("step_00000006")) / "state.pt", weights_only=True)
              for folder in (tmp_path / "run", straight)]
    assert training_runs.same_weights(states[0]["model"], states[1]["model"])
    assert training_runs.same_weights(states[0]["parts"]["critic"]["module"], states[1]["parts"]["critic"]["module"])


def test_facts_may_be_added_to_a_run_that_had_none(tmp_path, capsys):
    older = write(tmp_path / "older.yaml", {**any_data(keep=None), "facts": {}})
    content = yaml.safe_load((tmp_path / "older.yaml").read_text())
    del content["facts"]
    write(tmp_path / "older.yaml", content)
    train = lambda file, *more: main(["train", str(file), "--folder", str(tmp_path / "run"), *more])     # noqa: E731
    assert train(older, "--steps", "4") == 0
    newer = write(tmp_path / "newer.yaml", {**content, "facts": {"rate": 8000}})
    assert train(newer) == 0
    assert train(write(tmp_path / "other.yaml", {**content, "facts": {"rate": 8000, "hop_length": 5}})) == 2
    assert "facts was" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="one command must be killed with SIGKILL")
def test_two_commands_in_one_folder(tmp_path, capsys):
    """The second is refused while the first lives, in time and by name; and goes on where the first was killed."""
    file = write(tmp_path / "tiny.yaml", any_data(keep=None))
    with RunFolder(tmp_path / "run").locked():
        assert main(["train", file, "--folder", str(tmp_path / "run")]) == 2
        assert main(["train", file, "--folder", str(tmp_path / "run"), "--afresh"]) == 2
    said = capsys.readouterr().err
    assert said.count(f"is in use: another training (process {os.getpid()}, since ") == 2
    assert main(["train", file, "--folder", str(tmp_path / "run")]) == 0
    with RunFolder(tmp_path / "run").locked():
        assert main(["train", file, "--folder", str(tmp_path / "run"), "--afresh"]) == 2
    assert "is in use" in capsys.readouterr().err and (tmp_path / "run" / "log.csv").exists()


def test_chunks_of_a_configuration(band):
    """remix is a share of the groups, true for all; augment the arguments of Augmentation, or anything by its name."""
    songs = configuration.tracks_of({"source": "band", "split": "train", "count": 4, "seconds": 2.0,
                                     "render_rate": 16000, "root": str(band)})
    studio = {"use": "course_lib.data.augmentation:StudioAugmentation", "gain": [-3.0, 3.0], "rate": 16000}
    chunks = configuration.chunks_of({"seconds": 0.1, "remix": 0.25, "augment": studio}, songs, 8, 0)
    assert isinstance(chunks, Remix) and chunks.share == 0.25
    assert chunks.augment == StudioAugmentation(gain=(-3.0, 3.0), rate=16000)
    assert configuration.chunks_of({"seconds": 0.1, "remix": True}, songs, 8, 0).share == 1
    plain = configuration.chunks_of({"seconds": 0.1, "augment": {"flip": 0.25}}, songs, 8, 0)
    assert type(plain) is RandomChunks and plain.augment == Augmentation(flip=0.25)
    for data, message in (({"remix": "half"}, "remix in data is 'half'; expected true, false or a share"),
                          ({"augment": [0.5, 1]}, r"augment is \[0.5, 1\]"),
                          ({"augment": {"gian": 1}}, "unexpected keyword argument 'gian'"),
                          ({"repitch": {"share": 0.5}}, "repitch lacks use"),
                          ({"repitch": {"use": "course_lib.demucs:repitch", "shares": 1}}, "has shares, which is not"),
                          ({"repitch": {"use": "course_lib.demucs:repitsch"}}, "use is 'course_lib.demucs:repitsch'"),
                          ({"repitch": {"use": "course_lib.demucs:repitch", "share": 2}}, "share is 2")):
        with pytest.raises(ValueError, match=message):
            configuration.chunks_of({"seconds": 0.1, **data}, songs, 8, 0)


def test_unknown_file(capsys):
    assert main(["train", "no_such_config"]) == 2
    assert "no configuration 'no_such_config'; expected a YAML file, or one of " in capsys.readouterr().err


def test_loss_that_is_not_a_number(band, tmp_path, capsys):
    broken = config(band, step={"use": "tests.training.test_command:make_step", "scale": float("nan")})
    assert main(["train", write(tmp_path / "nan.yaml", broken), "--folder", str(tmp_path / "run"), "--no-keep"]) == 2
    assert "the loss of step 1 is nan" in capsys.readouterr().err


@pytest.mark.parametrize("name", configuration.shipped_configs())
def test_shipped_configurations(name):
    """Each is whole, and what it names exists as soon as the module of its chapter does."""
    content = yaml.safe_load((configuration.CONFIGS / f"{name}.yaml").read_text(encoding="utf8"))
    uses = [part["use"].partition(":")[0] for part in content.values() if isinstance(part, dict) and "use" in part]
    if all(importlib.util.find_spec(module) for module in uses):
        assert configuration.read_config(name) == content
    assert content["name"] == name and configuration.NEEDED <= set(content)
