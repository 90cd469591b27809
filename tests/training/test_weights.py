"""Weight files with cards: a round trip, and everything that must be refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib.training import load_weights, read_card, save_weights, weights
from tests.training.training_runs import make, same_weights

CARD = {"what": "a test", "trained_on": "noise", "steps": 3, "seed": 0, "command": "none", "machine": "any",
        "score": {"sdr": 1.5}}


def test_round_trip(tmp_path):
    model, _ = make()
    path = save_weights(tmp_path / "deep" / "a.safetensors", model, CARD)
    other, _ = make(1)
    card = load_weights(path, other)
    assert same_weights(other.state_dict(), model.state_dict()) and card == read_card(path)
    assert {name: card[name] for name in CARD} == CARD
    assert card["stored_as"] == "float32" and card["parameters"] == sum(p.numel() for p in model.parameters())
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.json", "a.safetensors"], "nothing unfinished is left"


def test_start_from_a_shipped_checkpoint(tmp_path, monkeypatch):
    """What `prepare` in a configuration calls: the weights are those of the file, whatever they were."""
    model, _ = make()
    path = save_weights(tmp_path / "first.safetensors", model, CARD)
    monkeypatch.setattr(weights, "shipped_file", lambda relative: tmp_path / Path(relative).name)
    other, _ = make(1)
    weights.start_from(model=other, tracks=None, checkpoint=path.stem)
    assert same_weights(other.state_dict(), model.state_dict())
    with pytest.raises(FileNotFoundError, match="no weights at second.safetensors"):
        weights.start_from(model=other, tracks=None, checkpoint="second")


def test_a_blend_lies_between_two_models(tmp_path, monkeypatch):
    first, model = make()[0], make(1)[0]
    save_weights(tmp_path / "first.safetensors", first, CARD)
    monkeypatch.setattr(weights, "shipped_file", lambda relative: tmp_path / Path(relative).name)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights.blend(model, "first", 0.25)
    for name, tensor in model.state_dict().items():
        expected = 0.25 * own[name] + 0.75 * first.state_dict()[name] if tensor.is_floating_point() else own[name]
        torch.testing.assert_close(tensor, expected)
    with pytest.raises(ValueError, match="share is 1.5"):
        weights.blend(model, "first", 1.5)


def test_float16(tmp_path):
    """Half the size, float32 when loaded, counters whole, numbers rounded to 11 bits."""
    model, _ = make()
    full = save_weights(tmp_path / "full.safetensors", model, CARD)
    half = save_weights(tmp_path / "half.safetensors", model, CARD, torch.float16)
    loaded, _ = make(1)
    assert load_weights(half, loaded)["stored_as"] == "float16"
    for name, value in model.state_dict().items():
        read = loaded.state_dict()[name]
        assert read.dtype == value.dtype
        assert torch.equal(read, value) if not value.is_floating_point() else torch.allclose(read, value, rtol=2**-11)
    assert not same_weights(loaded.state_dict(), model.state_dict())
    assert half.stat().st_size < 0.75 * full.stat().st_size
    with torch.no_grad():
        model.layers[0].weight[0, 0, 0] = 1e5
    with pytest.raises(ValueError, match="layers.0.weight hold NaN or infinite numbers .as torch.float16"):
        save_weights(tmp_path / "large.safetensors", model, CARD, torch.float16)


def test_refused(tmp_path):
    model, _ = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = save_weights(tmp_path / "a.safetensors", make(1)[0], CARD)
    with pytest.raises(ValueError, match="a.safetensors does not fit Linear: it lacks weight, bias; it has besides"):
        load_weights(path, nn.Linear(2, 2))
    wider = make()[0]
    wider.layers[4] = nn.Conv1d(8, 9, 9)
    kept = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(ValueError, match=r"of another shape are .*layers.4.weight \(8, 8, 9\) for \(9, 8, 9\)"):
        load_weights(path, wider)
    assert same_weights(wider.state_dict(), kept), "a model that does not fit stays as it was"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.safetensors is not the file its card describes"):
        load_weights(path, model)
    path.write_bytes(b"no tensors")
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": hashlib.sha256(b"no tensors").hexdigest()}))
    with pytest.raises(ValueError, match="can't be read as safetensors"):
        load_weights(path, model)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match="a.json is not JSON"):
        load_weights(path, model)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="a.safetensors has no card; expected a.json"):
        load_weights(path, model)
    with pytest.raises(FileNotFoundError, match="no weights at b.safetensors"):
        load_weights(tmp_path / "b.safetensors", model)
    with pytest.raises(ValueError, match="lacks machine, score"):
        save_weights(path, model, {name: CARD[name] for name in CARD if name not in ("machine", "score")})
    with pytest.raises(ValueError, match="expected NAME.safetensors"):
        save_weights(tmp_path / "a.pt", model, CARD)
    assert same_weights(model.state_dict(), before)
