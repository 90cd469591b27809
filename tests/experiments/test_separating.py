"""Chapter 9's measurements and small trainings in miniature, on tiny songs of noise."""

import pytest
import torch

from course_lib.data import STEMS
from course_lib.demucs import DemucsV2
from course_lib.experiments import demucs as chapter_6
from course_lib.experiments import separating as experiment
from course_lib.experiments import small_masks
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from course_lib.separating import separate_chunk
from course_lib.training import with_facts
from tests.experiments.test_losses import noise_songs

SIZES = experiment.Sizes(valid_songs=1, test_songs=2, ahead_songs=1, song_seconds=1.0, score_seconds=0.8)
MASKS = small_masks.Sizes(hidden=8, batch_size=2, seconds=0.2, steps=3, warmup=1, train_songs=4, valid_songs=1,
                          test_songs=2, song_seconds=1.0, score_seconds=0.8)


def tiny(_name=None):
    torch.manual_seed(0)
    model = DemucsV2(STEMS, 1, 4, 2, resample=False, samplerate=experiment.RATE)
    return with_facts(model, rate=experiment.RATE, stems=STEMS, segment=0.3).eval()


@pytest.fixture
def small(monkeypatch):
    for module in (experiment, chapter_6):
        monkeypatch.setattr(module, "songs_of", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "load_trained", tiny)


def test_every_measurement_gives_its_table(small, tmp_path):
    outcome = run_experiment(experiment.EXPERIMENT, settings=SIZES, folder=tmp_path / "results",
                             cache=tmp_path / "cache")
    results = Results(experiment.TOPIC, tmp_path / "results")
    assert not outcome.failed and {row["measure"] for row in results.rows("measures")} == set(experiment.MEASURES)
    assert len(results.rows("shifts")) == 2 * len(experiment.SHIFTS) * 2
    assert len(results.rows("bags")) == 11 * (1 + 2)
    assert {row["kind"] for row in results.rows("sum_to_mix")} == {"as they are", "shared"}
    assert len(results.rows("two_stems")) == 3 * 2 and len(results.rows("ahead")) == len(experiment.AHEAD)
    labels = results.rows("labels")
    assert len(labels) == 3 * 4 * (1 + len(experiment.BLEED)) and all(row["stem"] != row["stranger"] for row in labels)


def test_what_is_heard_ahead():
    """With all of the song heard, a piece is what the whole gives; the future beyond what is heard changes nothing."""
    model, x = tiny(), torch.randn(1, 3 * experiment.RATE, generator=torch.Generator().manual_seed(0))
    piece = round(experiment.PIECE * experiment.RATE)
    changed = torch.cat([x[:, :2 * piece], -x[:, 2 * piece:]], -1)
    with torch.no_grad():
        none, other = (experiment.heard_ahead(model, y, 0.0) for y in (x, changed))
        assert torch.equal(none[..., :2 * piece], other[..., :2 * piece])
        ahead, other = (experiment.heard_ahead(model, y, 0.25) for y in (x, changed))
        assert not torch.equal(ahead[..., :2 * piece], other[..., :2 * piece])
        whole = separate_chunk(model, x[None], 0, x.shape[-1])[0]
    assert ahead.shape == whole.shape


def test_bleeding_has_its_level():
    stem, stranger = torch.randn(1, 9000), 5 * torch.randn(1, 9000)
    added = experiment.bled(stem, stranger, -10.0) - stem
    assert 10 * float((added.square().sum() / stem.square().sum()).log10()) == pytest.approx(-10, abs=1e-3)


def test_small_masks_run_through(small, tmp_path):
    outcome = run_experiment(small_masks.EXPERIMENT, settings=MASKS, folder=tmp_path / "results",
                             cache=tmp_path / "cache")
    results = Results(small_masks.TOPIC, tmp_path / "results")
    rows = results.rows("mask_runs")
    assert not outcome.failed and {row["variant"] for row in rows} == set(small_masks.VARIANTS)
    assert len(rows) == len(small_masks.VARIANTS) * len(small_masks.SEEDS)
    averages = results.rows("averages")
    assert {float(row["decay"]) for row in averages} == {0.0, *small_masks.DECAYS}
    assert {row["variant"] for row in averages} == {"constant rate"}
    make = lambda name: small_masks.new_model(small_masks.VARIANTS[name], MASKS, 0)
    assert not make("one direction").lstm.bidirectional and make("short frames").facts.n_fft == 512
