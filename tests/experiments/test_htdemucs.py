"""Chapter 8's runs in miniature: its variants, equal time, pieces of a song; on tiny songs of noise."""

from fractions import Fraction

import pytest
import torch

from course_lib.data import STEMS
from course_lib.demucs import Demucs
from course_lib.experiments import demucs as chapter_6
from course_lib.experiments import htdemucs as experiment
from course_lib.experiments.runner import run_experiment
from course_lib.hdemucs import HDemucs
from course_lib.htdemucs import CrossAttentionLayer, SelfAttentionLayer
from course_lib.results import Results
from tests.experiments.test_losses import noise_songs

TINY = experiment.Sizes(channels=8, nfft=128, depth=2, layers=2, hybrid_channels=4, time_channels=4, samples=2048,
                        steps=2, warmup=1, train_songs=4, valid_songs=1, test_songs=2, song_seconds=1.0,
                        score_seconds=0.4)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise, without the bounds; gives a function that runs it."""
    monkeypatch.setattr(chapter_6, "songs_of", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "TRAINED", {"none": "not there"})
    return lambda only=None, **more: run_experiment(experiment.EXPERIMENT, only, settings=TINY,
                                                    folder=tmp_path / "results", cache=tmp_path / "cache", **more)


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    names = ["base", "long context", "loud", "without cross attention", "Demucs, equal time"]
    assert not small(names).failed
    results = Results(experiment.TOPIC, tmp_path / "results")
    runs = {(row["variant"], row["seed"]): row for row in results.rows("runs")}
    assert set(runs) == {("base", "0"), ("base", "1"), *((name, "0") for name in names[1:])}
    assert {row["steps"] for (name, _), row in runs.items() if "equal" not in name} == {"2"}
    for (name, seed), row in runs.items():
        songs = [one for one in results.rows("songs") if (one["variant"], one["seed"]) == (name, seed)]
        mean = sum(float(one[stem]) for one in songs for stem in STEMS) / (len(songs) * len(STEMS))
        assert mean == pytest.approx(float(row["test_sdr"]), abs=2e-3)
        silent = [one["part"] for one in results.rows("silenced") if (one["variant"], one["seed"]) == (name, seed)]
        assert silent == ([] if name.startswith("Demucs") else 2 * ["layers"] + 2 * ["bottom"])
    assert not small(names).done


def test_variants_change_what_they_say():
    make = lambda name: experiment.new_model(experiment.VARIANTS[name], TINY, 0)
    base = make("base").crosstransformer
    assert [type(layer) for layer in base.layers] == [SelfAttentionLayer, CrossAttentionLayer]
    apart = make("without cross attention").crosstransformer
    assert all(isinstance(layer, SelfAttentionLayer) for layer in [*apart.layers, *apart.layers_t])
    assert make("no transformer").crosstransformer is None and len(make("5 layers").crosstransformer.layers) == 5
    assert make("without positions").crosstransformer.weight_pos_embed == 0
    assert make("twice as wide").bottom_channels == 128
    assert isinstance(make("Demucs, equal time"), Demucs) and isinstance(make("Hybrid Demucs, equal time"), HDemucs)


def test_what_is_silenced_adds_nothing_and_comes_back():
    model = experiment.new_model(experiment.VARIANTS["loud"], TINY, 0).eval()
    scales = experiment.transformer_scales(model)
    assert len(scales) == 2 * 2 * 2 and all(scale.min().item() == pytest.approx(0.1) for scale in scales)
    x, xt = torch.randn(1, 16, 4, 3), torch.randn(1, 16, 6)
    transformer = model.crosstransformer
    with torch.no_grad():
        whole = transformer(x, xt)
        with experiment.silenced(model, "layers"):
            quiet = transformer(x, xt)
        with experiment.silenced(model, "bottom"):
            assert not any(out.any() for out in transformer(x, xt))
        again = transformer(x, xt)
    assert all(torch.equal(one, other) for one, other in zip(whole, again))
    assert (quiet[0] - whole[0]).abs().max() > 1e-3, "the layers did add something"
    with torch.no_grad(), experiment.silenced(model, "layers"):
        assert torch.allclose(transformer(x, -xt)[0], quiet[0]), "silent cross attention hears nothing"


def test_without_cross_attention_a_branch_hears_nothing_of_the_other():
    heard = {}
    for name in ("base", "without cross attention"):
        transformer = experiment.new_model(experiment.VARIANTS[name], TINY, 0).crosstransformer.eval()
        for parameter_name, p in transformer.named_parameters():
            if "gamma" in parameter_name:
                torch.nn.init.ones_(p)
        x, xt = torch.randn(1, 16, 4, 3), torch.randn(1, 16, 6)
        with torch.no_grad():
            heard[name] = float((transformer(x, xt)[0] - transformer(x, -xt)[0]).abs().max())
    assert heard["base"] > 1e-3 and heard["without cross attention"] == 0


def test_a_song_in_pieces_is_as_long_as_before():
    model = experiment.new_model(experiment.VARIANTS["base"], TINY, 0).eval()
    song = 0.1 * torch.randn(1, 5000, generator=torch.Generator().manual_seed(0))
    model.segment = Fraction(2048, chapter_6.RATE)
    with torch.no_grad():
        found = experiment.in_segments(model, song, 2048)
        assert found.shape == (4, 1, 5000)
        assert torch.allclose(found[..., 2048:4096], model(song[None, :, 2048:4096])[0], atol=1e-6)


def test_timing_leaves_the_weights_alone():
    model = experiment.new_model(experiment.VARIANTS["base"], TINY, 0)
    before = [p.clone() for p in model.parameters()]
    assert experiment.seconds_a_step(model, 2048, 2, steps=1) > 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
