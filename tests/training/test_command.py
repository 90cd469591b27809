"""`course train CONFIG`, from a file to weights with a card, and what it says of files that are wrong."""

import csv
import importlib.util
import json

import pytest
import torch
import training_runs
import yaml
from safetensors.torch import load_file

from course_lib.cli import main
from course_lib.training import History, command, load_weights
from course_lib.training.checkpoints import RunFolder
from course_lib.training.weights import write_tensors


def config(root, **changed):
    """Two songs of three seconds, six steps."""
    songs = {"source": "band", "split": "train", "count": 2, "seconds": 3.0, "render_rate": 22050, "root": str(root)}
    whole = {
        "name": "tiny", "what": "a test of course train", "seed": 3,
        "model": {"use": "training_runs:Masks", "dropout": 0.1},
        "step": {"use": "test_command:make_step", "scale": 10.0},
        "prepare": {"use": "test_command:prepare", "gain": 0.5},
        "data": {"tracks": songs, "seconds": 0.1, "augment": {"gain": [0.5, 1.0], "flip": 0.5}},
        "validation": {"use": "test_command:score", "tracks": songs},
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
    assert card["config"]["training"]["ema_decay"] == 0.5 and card["command"].startswith("uv run course train")
    with (tmp_path / "course" / "data" / "results" / "tiny_log.csv").open() as log:
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
    monkeypatch.setattr(command, "CONFIGS", tmp_path / "configs")
    (tmp_path / "configs").mkdir()
    short = {"steps": 2, "batch_size": 2}
    file = write(tmp_path / "configs" / "tiny.yaml", config(band, training=short, validation=None, schedule=None))
    copy = write(tmp_path / "copy.yaml", config(band, training=short, validation=None, schedule=None, model={
        "use": "training_runs:Masks", "dropout": 0.3}))
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
    ({"optimiser": {}}, "wrong.yaml has optimiser, which is not known; expected data, keep"),
    ({"training": {"steps": 2, "batch_size": 2, "clipping": 1}}, "training in wrong.yaml has clipping, which is not known"),
    ({"training": {"steps": 2}}, "training in wrong.yaml lacks batch_size"),
    ({"training": {"steps": 0, "batch_size": 2}}, "steps in training in wrong.yaml is 0; expected a whole number from 1"),
    ({"training": {"steps": 2, "batch_size": 2, "precision": "half"}}, "precision is 'half'; expected one of no, fp16"),
    ({"seed": -1}, "seed in wrong.yaml is -1"),
    ({"model": {"dropout": 0.1}}, "model in wrong.yaml lacks use"),
    ({"model": "Masks"}, "model in wrong.yaml is str 'Masks'"),
    ({"model": {"use": "training_runs:Mask"}}, "use is 'training_runs:Mask'"),
    ({"model": {"use": "no_such_module:Mask"}}, "use is 'no_such_module:Mask': No module named"),
    ({"model": {"use": "training_runs:Masks", "dropuot": 0.1}}, "got an unexpected keyword argument 'dropuot'"),
    ({"schedule": {"kind": "cosinus"}}, "kind of schedule is 'cosinus'; expected one of constant, cosine"),
    ({"schedule": {"kind": "cosine", "warm": 2}}, "schedule cosine with {'warm': 2}: "),
    ({"schedule": {"kind": "cosine", "warmup": 99}}, "steps is 6 and warmup 99"),
    ({"data": {"tracks": {"source": "bands"}, "seconds": 1}}, "source is 'bands'; expected one of band"),
    ({"data": {"tracks": {"source": "band", "colour": 1}, "seconds": 1}}, "unexpected keyword argument 'colour'"),
    ({"data": {"tracks": {"split": "train"}, "seconds": 1}}, "tracks lacks source"),
    ({"data": {"tracks": [], "seconds": 1, "remx": True}}, "data in wrong.yaml has remx"),
    ({"keep": {"dtype": "float8"}}, "dtype in keep is 'float8'; expected float16"),
]


@pytest.mark.parametrize("change, message", WRONG)
def test_what_is_wrong_is_said_in_one_line(band, tmp_path, capsys, change, message):
    content = change if isinstance(change, str) else config(band, **change)
    status = main(["train", write(tmp_path / "wrong.yaml", content), "--folder", str(tmp_path / "run"), "--no-keep"])
    said = capsys.readouterr()
    assert status == 2 and said.out == ""
    assert said.err.startswith("course train: ") and said.err.count("\n") == 1 and message in said.err, said.err


def test_unknown_file(capsys):
    assert main(["train", "no_such_config"]) == 2
    assert "no configuration 'no_such_config'; expected a YAML file, or one of " in capsys.readouterr().err


def test_loss_that_is_not_a_number(band, tmp_path, capsys):
    broken = config(band, step={"use": "test_command:make_step", "scale": float("nan")})
    assert main(["train", write(tmp_path / "nan.yaml", broken), "--folder", str(tmp_path / "run"), "--no-keep"]) == 2
    assert "the loss of step 1 is nan" in capsys.readouterr().err


@pytest.mark.parametrize("name", command.shipped_configs())
def test_shipped_configurations(name):
    """Each is whole, and what it names exists as soon as the module of its chapter does."""
    content = yaml.safe_load((command.CONFIGS / f"{name}.yaml").read_text(encoding="utf8"))
    uses = [part["use"].partition(":")[0] for part in content.values() if isinstance(part, dict) and "use" in part]
    if all(importlib.util.find_spec(module) for module in uses):
        assert command.read_config(name) == content
    assert content["name"] == name and command.NEEDED <= set(content)
