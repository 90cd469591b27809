"""A trained model comes back whole: from the course's checkpoints, from a path, and where the package lies alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import course_lib
from course_lib.data import STEMS
from course_lib.open_unmix import JointOpenUnmix
from course_lib.training import Facts, add_curve, add_facts, load_trained, save_weights, trained, with_facts
from tests.training.training_runs import same_weights

CARD = {"what": "a test", "trained_on": "nothing", "steps": 0, "seed": 0, "command": "none", "machine": "none",
        "score": None}
ARGUMENTS = {"nb_bins": 33, "nb_channels": 1, "hidden_size": 8, "nb_layers": 1, "max_bin": 20,
             "sources": ["bass", "vocals"]}
FACTS = {"rate": 8000, "n_fft": 64, "hop_length": 32, "stems": ["bass", "vocals"], "segment": 1.5}


def saved(folder: Path, use: str = "course_lib.open_unmix:JointOpenUnmix", name: str = "tiny", **arguments) -> tuple:
    """(path, model) of a small network with its card."""
    model = with_facts(JointOpenUnmix(**ARGUMENTS), **FACTS)
    config = {"model": {"use": use, **(arguments or ARGUMENTS)}}
    return save_weights(folder / f"{name}.safetensors", model, {**CARD, "config": config}), model


@pytest.mark.parametrize("name", trained.shipped_models())
def test_models_of_the_course(name):
    model = load_trained(name)
    assert not model.training and model.card["command"].startswith("uv run course train")
    assert model.facts.rate and model.facts.segment > 0
    if hasattr(model, "sources"):                                   # it separates
        assert model.facts.stems == tuple(model.sources)
    else:                                                           # it names tags, writes codes, or draws sources
        assert model.facts.labels or model.facts.hop_length or model.facts.stems
    if hasattr(model, "nb_output_bins"):                            # it looks at an STFT
        assert model.facts.n_fft == 2 * (model.nb_output_bins - 1) and model.facts.hop_length


def test_from_a_path(tmp_path, monkeypatch):
    path, written = saved(tmp_path)
    state = torch.random.get_rng_state()
    model = load_trained(path)
    assert torch.equal(torch.random.get_rng_state(), state), "building it must draw nothing from the global generator"
    assert type(model) is JointOpenUnmix and not model.training
    assert same_weights(model.state_dict(), written.state_dict())
    assert model.facts == Facts(8000, ("bass", "vocals"), 64, 32, 1.5) and model.card["steps"] == 0
    assert same_weights(load_trained(str(path)).state_dict(), written.state_dict())
    monkeypatch.chdir(tmp_path)
    assert load_trained("tiny.safetensors").facts == model.facts


def test_without_facts(tmp_path):
    path = save_weights(tmp_path / "plain.safetensors", nn.Linear(2, 3), {
        **CARD, "config": {"model": {"use": "torch.nn:Linear", "in_features": 2, "out_features": 3}}})
    assert load_trained(path).facts == Facts()
    before = path.read_bytes()
    assert add_facts.main([str(path.with_suffix(".json")), "rate=16000", "labels=rock,jazz", "segment=3.69"]) == 0
    model = load_trained(path)
    assert model.facts == Facts(rate=16000, labels=("rock", "jazz"), segment=3.69) and path.read_bytes() == before


def test_a_curve_for_a_card(tmp_path):
    """From a validation log with a step twice, as a run that went on writes it; another training's is refused."""
    content = {"config": {"model": {"use": "torch.nn:Linear", "in_features": 2, "out_features": 3}}, "steps": 20}
    path = save_weights(tmp_path / "plain.safetensors", nn.Linear(2, 3), {**CARD, **content})
    log = tmp_path / "plain_validation.csv"
    log.write_text("step,sdr,drums\n10,1.5,2\n20,2.25,3\n20,2.5,3\n")
    assert add_curve.main([str(path.with_suffix(".json")), str(log)]) == 0
    assert load_trained(path).card["curve"] == {"score": "sdr", "points": [[10, 1.5], [20, 2.5]]}
    for text, found in (("step,sdr\n30,1\n", "goes to step 30"), ("step,sdr\n", "has no rows")):
        log.write_text(text)
        with pytest.raises(ValueError, match=f"plain_validation.csv {found}.*up to step 20"):
            add_curve.add_curve(path, log)


def test_installed_without_a_checkout(tmp_path):
    """Where the package lies alone, the weights come from inside it."""
    package = tmp_path / "course_lib"
    shutil.copytree(Path(course_lib.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    saved(package / "shipped" / "checkpoints", name="open_unmix_band")
    code = ("from course_lib.training import load_trained; model = load_trained('open_unmix_band'); "
            "print(model.facts.rate, model.training)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.stdout.split() == ["8000", "False"], done.stderr


def complaint(path) -> str:
    with pytest.raises(ValueError) as caught:
        load_trained(path)
    return str(caught.value)


def test_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trained model 'open_unmix_bands' .*one of .*open_unmix_band"):
        load_trained("open_unmix_bands")
    with pytest.raises(FileNotFoundError, match="no card; expected away.json|no weights at away.safetensors"):
        load_trained(tmp_path / "away.safetensors")
    path, _ = saved(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())

    def changed(**parts):
        path.with_suffix(".json").write_text(json.dumps({**card, **parts}))
        return complaint(path)

    assert "does not say how its model is built" in changed(config={}) and "does not say" in changed(config=None)
    forged = {"use": "os:mkdir", "path": str(tmp_path / "x")}
    assert "names os:mkdir, which is no torch module" in changed(config={"model": forged})
    assert not (tmp_path / "x").exists()
    assert "use is 'course_lib.open_unmix:Gone'" in changed(config={"model": {"use": "course_lib.open_unmix:Gone"}})
    unknown = {"use": card["config"]["model"]["use"], "nb_bin": 3}
    assert "can't be called with nb_bin" in changed(config={"model": unknown})
    assert "does not fit JointOpenUnmix" in changed(config={"model": {**card["config"]["model"], "hidden_size": 16}})
    assert "rate is '44100'; expected a whole number" in changed(facts={"rate": "44100"})
    assert "colour is not known; expected names among rate, stems" in changed(facts={"colour": 1})
    path.with_suffix(".json").write_text("[1]")
    assert "tiny.json holds list; expected a card" in complaint(path)
    path.with_suffix(".json").write_text(json.dumps(card))
    path.write_bytes(path.read_bytes()[:-4])
    assert "tiny.safetensors is not the file its card describes" in complaint(path)


@pytest.mark.parametrize("facts, message", [
    ({"rate": 0}, "rate is 0"), ({"n_fft": 4096.0}, "n_fft is 4096.0"), ({"stems": "drums"}, "stems is 'drums'"),
    ({"segment": True}, "segment is True")])
def test_facts_that_make_no_sense(facts, message):
    with pytest.raises(ValueError, match=message):
        Facts(**facts)
    assert Facts(stems=list(STEMS)).stems == STEMS
