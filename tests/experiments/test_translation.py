"""Chapter 16's experiments in miniature: translations by methods that need no training, and tiny ablations."""

import pytest
import torch

from course_lib.experiments import translation, translation_code
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results

TINY = translation.Sizes(melodies=2, seconds=1.024)


@pytest.fixture(autouse=True)
def few_melodies(monkeypatch):
    """Two training melodies of two and a half seconds."""
    monkeypatch.setattr(translation, "TRAINING", (2, 2.6))
    monkeypatch.setattr(translation, "SECONDS", 1.024)
    caches = (translation.training_melodies, translation.grains, translation.domain_spectrum, translation.judge)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def test_methods_against_the_truth(tmp_path):
    names = [translation.TRUTH, translation.OTHER, translation.COPY, translation.FILTER, translation.CONCATENATION]
    pairs = [("piano", "cello"), ("trumpet", "flute")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "pairs_of", lambda name: pairs)
        outcome = run_experiment(translation.EXPERIMENT, names, settings=TINY, folder=tmp_path / "results",
                                 cache=tmp_path / "cache")
    assert not outcome.failed
    rows = Results(translation.TOPIC, tmp_path / "results").rows("translations")
    assert len(rows) == len(names) * 4 and all(0 <= float(row["pitch"]) <= 1 for row in rows)
    mean = lambda name, score: sum(float(row[score]) for row in rows if row["method"] == name) / 4
    assert mean(translation.TRUTH, "distance_db") == 0 and mean(translation.TRUTH, "chroma") > 0.99
    assert mean(translation.COPY, "distance_db") > 0.5 and mean(translation.OTHER, "pitch") < 0.5


def test_pairs():
    inside = translation.pairs_of(translation.HARMONICS)
    assert len(inside) == 16 and ("trumpet", "piano") in inside and ("piano", "piano") not in inside
    assert translation.pairs_of(translation.ADDED_LATER) == [(name, "guitar") for name in translation.DOMAINS]
    assert len(translation.pairs_of(translation.COPY)) == 20
    with pytest.raises(ValueError, match="expected one of copy"):
        translation.method("magic", torch.zeros(8000), "piano", "flute")


def test_ablations(tmp_path):
    tiny = translation_code.Sizes(steps=2, encoder_channels=4, residual_channels=4, probe_steps=3, melodies=2, fitted=2)
    outcome = run_experiment(translation_code.EXPERIMENT, [translation_code.NO_HINT], settings=tiny,
                             folder=tmp_path / "results", cache=tmp_path / "cache")
    assert not outcome.failed
    results = Results(translation.TOPIC, tmp_path / "results")
    rows = results.rows("models")
    assert [row["seed"] for row in rows] == ["0", "1"] and len(results.rows("probes")) == 2 * 4 * 2
    for row in rows:
        assert 0 <= float(row["probe_right"]) <= 1 and 6 < float(row["own_bits"]) < 10


def test_teacher_bits_tell_whose_code_it_is():
    """A model whose decoders copy nothing gives every code the same bits; the order is melody, decoder, domain."""
    torch.manual_seed(0)
    model = translation_code.MusicTranslator(("a", "b"), 3, 16, dict(encoder_channels=4, encoder_blocks=1,
                                                                     encoder_layers=2),
                                             dict(blocks=1, layers=2, residual_channels=4, skip_channels=4))
    x = 0.3 * torch.randn(3, 2, 64)
    bits = translation_code.teacher_bits(model, x)
    assert bits.shape == (3, 2, 3)
    for p in (*model.decoders[1].condition.parameters(), *(q for layer in model.decoders[1].layers
                                                           for q in layer.condition.parameters())):
        p.data.zero_()
    deaf = translation_code.teacher_bits(model, x)
    assert torch.equal(deaf[:, 0], bits[:, 0]) and float((deaf[:, 1] - deaf[:, 1, :1]).abs().max()) < 1e-5


def test_pieces_are_functions_of_seed_and_number():
    one, again = (translation.training_pieces(3, 5, 512, instruments=["piano"]) for _ in "12")
    for name, x in one[4].items():
        assert torch.equal(x, again[4][name])
    item = one[0]
    assert item["clean"].shape == (1, 512) and item["pitch"].shape == (1, 2) and item["clean"].dtype == torch.int64
    plain = translation.training_pieces(3, 5, 512, augment=False, instruments=["piano"])[0]
    assert torch.equal(plain["clean"], plain["heard"]) and torch.equal(plain["clean"], item["clean"])
    with pytest.raises(IndexError):
        one[5]
    with pytest.raises(ValueError, match="multiple of 256"):
        translation.training_pieces(0, 1, 300)
    audio = translation.audio_pieces(0, 2, ["x", "f0", "picture"])[1]
    assert audio["x"].shape == (4, 8000) and audio["f0"].shape == (4, 125) and audio["picture"].shape == (4, 96, 63)
