"""Chapter 6's runs in miniature: one thing changed at a time, repeatable, resumable; on tiny songs of noise."""

import json
import math

import pytest
import torch

from course_lib.data import STEMS
from course_lib.demucs import DemucsV2, DiffQ
from course_lib.experiments import demucs as experiment
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from tests.experiments.test_losses import noise_songs

TINY = experiment.Sizes(channels=16, depth=2, batch_size=2, seconds=0.1, steps=2, train_songs=4, valid_songs=1, test_songs=2,
                        song_seconds=1.0, score_seconds=0.8, warmup=1, silence_seconds=0.2, shifts=(1,), bits=(8, 3))
TRIED = ("base", "without LSTM", "with repitch", "linear interpolation", "DiffQ")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise, with some of its variants; gives a function that runs it."""
    monkeypatch.setattr(experiment, "songs_of", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "VARIANTS", {name: experiment.VARIANTS[name] for name in TRIED})
    monkeypatch.setattr(experiment, "bound_rows", lambda songs, sizes: [{"method": "quarter", "song": "a"}])
    monkeypatch.setattr(experiment, "shipped_file", lambda name: __file__)
    return lambda only=None, **more: run_experiment(experiment.EXPERIMENT, only, settings=TINY, folder=tmp_path / "results",
                                                    cache=tmp_path / "cache", **more)


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    outcome = small()
    results = Results("06_demucs", tmp_path / "results")
    runs = results.rows("runs")
    assert not outcome.failed and len(runs) == len(TRIED) + 1
    assert {(row["variant"], row["seed"]) for row in runs} == {("base", "1"), *((name, "0") for name in TRIED)}
    for row in runs:
        songs = [one for one in results.rows("songs") if (one["variant"], one["seed"]) == (row["variant"], row["seed"])]
        mean = sum(float(one[stem]) for one in songs for stem in STEMS) / (len(songs) * len(STEMS))
        assert len(songs) == TINY.test_songs and mean == pytest.approx(float(row["test_sdr"]), abs=2e-3)
        assert all(math.isfinite(float(row[name])) for name in ("valid_sdr", "megabytes", "last_loss", "seconds"))
    size = {row["variant"]: float(row["megabytes"]) for row in runs}
    assert size["DiffQ"] < size["base"] and size["without LSTM"] < size["base"]
    assert {row["bits"] for row in results.rows("bits")} == {"8", "3"}
    assert {row["shifts"] for row in results.rows("shifts")} == {"1"} and len(results.rows("shifts")) == TINY.test_songs
    card = json.loads((tmp_path / "results" / "runs.json").read_text())
    assert card["settings"]["steps"] == TINY.steps and "course experiment demucs" in card["command"]
    assert results.rows("bounds") and results.card("bounds")["weights"]

    before = {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")}
    assert not small().done
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")} == before


def test_a_missing_run_comes_back_the_same(small, tmp_path):
    small(only=["without LSTM"])
    results = Results("06_demucs", tmp_path / "results")
    row = results.rows("runs")[0]
    assert len(small(only=["without LSTM"], afresh=True).done) == 1
    again = results.rows("runs")[0]
    assert len(results.rows("runs")) == 1 and [again[k] for k in ("valid_sdr", "test_sdr", "last_loss")] == [
        row[k] for k in ("valid_sdr", "test_sdr", "last_loss")]


def test_variants_change_what_they_say():
    base = experiment.new_model(experiment.VARIANTS["base"], TINY, 0)
    same = experiment.new_model(experiment.VARIANTS["with MSE"], TINY, 0)
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), same.parameters()))
    assert experiment.new_model(experiment.VARIANTS["without LSTM"], TINY, 0).lstm is None
    assert isinstance(experiment.new_model(experiment.VARIANTS["DiffQ"], TINY, 0), DiffQ)
    unscaled = experiment.new_model(experiment.VARIANTS["without rescaling"], TINY, 0)
    first = [model.encoder[0][0].weight.detach().std().item() for model in (unscaled, base)]
    assert first[0] != pytest.approx(first[1], rel=1e-3)


@torch.no_grad()
def test_rounded_weights_have_so_many_values_and_a_diffq_network_is_written_out():
    model = experiment.new_model(experiment.VARIANTS["base"], experiment.Sizes(channels=16, depth=3), 0)
    coarse, megabytes = experiment.rounded(model, 3)
    assert len(coarse.lstm.lstm.weight_ih_l0.unique()) <= 8 < len(model.lstm.lstm.weight_ih_l0.unique())
    assert 3 / 32 < megabytes / experiment._float_megabytes(model) < 0.2
    noisy = DiffQ(model).eval()
    x = torch.randn(1, 1, model.valid_length(900))
    y = noisy(x)
    assert torch.allclose(experiment.plain(noisy)(x), y, atol=1e-6)


def test_silence_is_measured_in_lines():
    class Hum(DemucsV2):
        def forward(self, mix):
            time = torch.arange(mix.shape[-1]) / experiment.RATE
            return 0.01 * torch.sin(2 * math.pi * 1000 * time).expand(1, 4, 1, -1)

    rows = experiment.silence_spectrum(Hum(STEMS, 1, channels=4, depth=2, samplerate=experiment.RATE), 1.0)
    loudest = max(rows, key=lambda row: float(row["level_db"]))
    assert float(loudest["hertz"]) == pytest.approx(1000, abs=5) and float(loudest["level_db"]) == pytest.approx(-40, abs=1)


def test_repitched_songs_are_other_songs_with_all_stems_alike():
    songs = noise_songs(3)
    moved = experiment.repitched(songs)
    assert len(moved) == 3 and all(abs(track.frames / song.frames - 1) < 0.15 for track, song in zip(moved, songs))
    again = experiment.repitched(songs)
    assert all(torch.equal(a.sources(STEMS), b.sources(STEMS)) for a, b in zip(moved, again))


def test_the_committed_networks_data(monkeypatch):
    monkeypatch.setattr(experiment, "songs_of", lambda *_: noise_songs(5, seconds=2.0))
    chunks = experiment.training_chunks(seed=0, length=4, seconds=0.5, depth=3, channels=4)
    assert chunks.rate == experiment.RATE and torch.equal(chunks[2], chunks[2])
    frames = chunks[0].shape[-1]
    assert frames == DemucsV2(STEMS, 1, 4, 3, resample=False).valid_length(round(0.5 * experiment.RATE))
