"""Chapter 18's runs in miniature: the clock, the variants, masks against mapping; on tiny songs of noise."""

import itertools

import pytest
import torch

from course_lib.data import STEMS
from course_lib.experiments import band_split as experiment
from course_lib.experiments import demucs as chapter_6
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from tests.experiments.test_losses import noise_songs

TINY = experiment.Sizes(cpu_seconds=1.0, dim=8, depth=1, heads=2, dim_head=4, n_fft=512, hop_length=256, samples=5120,
                        train_songs=4, valid_songs=1, test_songs=2, song_seconds=1.0, score_seconds=0.5)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise, with a clock that counts how often it is asked; gives a function that runs it."""
    clock = experiment.Clock
    monkeypatch.setattr(experiment, "Clock", lambda seconds: clock(20.0, itertools.count().__next__))
    monkeypatch.setattr(chapter_6, "songs_of", lambda split, count, *_: noise_songs(count, seed=len(split)))
    return lambda only, **more: run_experiment(experiment.EXPERIMENT, only, settings=TINY,
                                               folder=tmp_path / "results", cache=tmp_path / "cache", **more)


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    names = ["mapping"]
    assert not small(names).failed
    results = Results(experiment.TOPIC, tmp_path / "results")
    runs = {(row["variant"], row["seed"]): row for row in results.rows("runs")}
    assert set(runs) == {(name, seed) for name in names for seed in "01"}
    for (name, seed), row in runs.items():
        songs = [one for one in results.rows("songs") if (one["variant"], one["seed"]) == (name, seed)]
        mean = sum(float(one[stem]) for one in songs for stem in STEMS) / (len(songs) * len(STEMS))
        assert mean == pytest.approx(float(row["test_sdr"]), abs=2e-3) and int(row["steps"]) >= 1
    assert not small(names).done


def test_the_clock_decides():
    times = iter([0.0, 0.0, 1.0, 5.0, 10.0, 20.0])
    clock = experiment.Clock(10.0, lambda: next(times))
    factors = [clock.factor(0, warmup=0.1) for _ in range(5)]
    assert factors == pytest.approx([0.02, 1.0, 0.6075, 0.05, 0.05], abs=1e-3)
    step = experiment.TimedStep(experiment.Clock(1.0, iter([0.0, 0.0, 2.0]).__next__), 1e-3)
    model = lambda mixture: mixture.unsqueeze(1).expand(-1, 4, -1, -1) / 4
    assert step(model, torch.randn(1, 4, 1, 100)) > -30
    with pytest.raises(experiment.TimeIsUp):
        step(model, torch.randn(1, 4, 1, 100))
    assert [row["step"] for row in step.log] == [1]


def test_the_loss_is_the_errors_level():
    sources = torch.randn(2, 4, 1, 500, generator=torch.Generator().manual_seed(0))
    assert float(experiment.level_loss(sources, sources)) == pytest.approx(-30, abs=1e-4)
    error = 10 * torch.log10(sources.square().sum((2, 3)) / sources.sum(1).square().sum((1, 2))[:, None] + 1e-3).mean()
    assert float(experiment.level_loss(0 * sources, sources)) == pytest.approx(float(error), abs=1e-4)


def test_every_variant_separates_and_is_small():
    sizes = experiment.Sizes()
    x = 0.1 * torch.randn(1, 1, sizes.samples, generator=torch.Generator().manual_seed(0))
    for name in experiment.VARIANTS:
        model = experiment.new_model(name, sizes, 0).eval()
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) <= 1_000_000, name
        with torch.no_grad():
            assert model(x).shape == (1, 4, 1, sizes.samples), name


def test_variants_change_what_they_say():
    make = lambda name: experiment.new_model(name, TINY, 0)
    assert make("equal bands").network.band_split.dim_inputs != make("BS-RoFormer").network.band_split.dim_inputs
    base, without = make("BS-RoFormer").network, make("without positions").network
    rotated = [module.rotary_embed for module in without.modules() if hasattr(module, "rotary_embed")]
    assert rotated and not any(rotated)
    assert {name for name, _ in base.named_parameters()} - {name for name, _ in without.named_parameters()}
    X = torch.randn(1, 257, 3, dtype=torch.complex64)
    M = torch.ones(1, 4, 257, 3, dtype=torch.complex64)
    assert torch.allclose(base.applied(M, X), X.unsqueeze(1).expand(-1, 4, -1, -1))
    mapped = make("mapping").network.applied(M, X)
    assert not mapped.imag.any()
    assert torch.allclose(mapped[:, 0].real.square().sum(1), X.abs().square().sum(1), rtol=1e-4)
