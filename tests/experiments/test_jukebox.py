"""Chapter 11's runs in miniature, its data, its scores, and Opus; on noise."""

import math

import pytest
import torch

from course_lib.experiments import jukebox as experiment
from course_lib.experiments.runner import run_experiment
from course_lib.jukebox import VQVAE, HierarchicalVQVAE
from course_lib.results import Results

TINY = experiment.Sizes(emb_width=4, l_bins=8, width=4, depth=1, samples=2048, steps=2, warmup=1, train_songs=3,
                        test_songs=2, score_seconds=0.2)


def noise(split: str, count: int, *_) -> torch.Tensor:
    """Songs of half a second, (song, 2, time) in 16 bits."""
    generator = torch.Generator().manual_seed(len(split))
    return (3000 * torch.randn(count, 2, experiment.RATE // 2, generator=generator)).to(torch.int16)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise, without the committed codec; gives a function that runs it."""
    monkeypatch.setattr(experiment, "stereo_songs", noise)
    monkeypatch.setattr(experiment, "OURS", "not there")
    return lambda only=None, **more: run_experiment(experiment.EXPERIMENT, only, settings=TINY,
                                                    folder=tmp_path / "results", cache=tmp_path / "cache", **more)


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    outcome = small()
    results = Results(experiment.TOPIC, tmp_path / "results")
    runs = results.rows("runs")
    assert not outcome.failed and {row["variant"] for row in runs} == set(experiment.VARIANTS)
    assert {row["level"] for row in runs if row["variant"] == "base"} == {"hop 8", "hop 32", "hop 128"}
    assert {row["level"] for row in runs if row["variant"].startswith("one hier")} == {
        "all levels", "hop 128", "without hop 128"}
    for row in runs:
        same = [one for one in results.rows("songs")
                if all(one[name] == row[name] for name in ("variant", "seed", "level"))]
        assert len(same) == 2
        for name in ("convergence_db", "log_distance_db", "snr_db"):
            assert sum(float(one[name]) for one in same) / 2 == pytest.approx(float(row[name]), abs=2e-3)
    assert not small().done


def test_variants_change_what_they_say():
    make = lambda name: experiment.new_model(experiment.VARIANTS[name], TINY, 0)
    assert isinstance(make("one hierarchical autoencoder"), HierarchicalVQVAE)
    assert make("32 codes").l_bins == 32 and make("base").l_bins == 8
    assert make("without restarts").bottleneck.level_blocks[0].threshold == 0.0
    assert make("base").bottleneck.level_blocks[0].threshold == TINY.threshold
    same = zip(make("base").parameters(), make("without spectral loss").parameters())
    assert all(torch.equal(a, b) for a, b in same)
    assert make("base").hop_lengths == [8, 32, 128]


def test_chunks_depend_on_seed_and_number_alone():
    chunks = experiment.MusicChunks([noise("train", 2), noise("further", 1)], 1000, 10, seed=3)
    again = experiment.MusicChunks([noise("train", 2), noise("further", 1)], 1000, 10, seed=3)
    assert len(chunks) == 10 and chunks[7].shape == (1, 1000)
    assert torch.equal(chunks[7], again[7]) and not torch.equal(chunks[7], chunks[6])
    with pytest.raises(IndexError, match="chunk 10 asked"):
        chunks[10]


def test_scores_by_hand():
    x = 0.1 * torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0))
    rows = experiment.score_rows(x, 0.9 * x, method="softer")
    assert [row["song"] for row in rows] == [0, 1] and rows[0]["method"] == "softer"
    assert float(rows[0]["snr_db"]) == pytest.approx(20, abs=0.01)
    assert float(rows[0]["convergence_db"]) == pytest.approx(-20, abs=0.01)
    assert float(rows[0]["log_distance_db"]) == pytest.approx(-20 * math.log10(0.9), abs=0.02)


def test_a_codecs_scores_and_bits():
    torch.manual_seed(0)
    model = VQVAE(emb_width=4, l_bins=8, width=4, depth=1).eval()
    for block in model.bottleneck.level_blocks:
        block.k.normal_()
    scores = experiment.codec_scores(model, 0.1 * torch.randn(2, 1, 4096))
    assert scores["fidelity"] == pytest.approx(-sum(scores[f"convergence_{level}"] for level in range(3)) / 3)
    assert all(1 <= scores[f"codes_{level}"] <= 8 for level in range(3))
    assert experiment.bits_per_second(model, 1) == 22050 / 32 * 3


def test_opus_takes_fewer_bits_and_gives_more_errors():
    time = torch.arange(3 * experiment.RATE) / experiment.RATE
    x = (0.2 * torch.sin(2 * math.pi * 330 * time) + 0.05 * torch.randn(
        len(time), generator=torch.Generator().manual_seed(0)))[None]
    outputs, bits = zip(*[experiment.through_opus(x, setting) for setting in (0.5, 0.9, 1.0)])
    assert all(y.shape == x.shape for y in outputs) and bits[0] > 2 * bits[1] > 4 * bits[2] > 10_000
    errors = [float((x - y).square().mean()) for y in outputs]
    assert errors[0] < errors[1] < errors[2] < float(x.square().mean())
