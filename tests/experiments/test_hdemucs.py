"""Chapter 7's runs in miniature: its variants, branches and noise, and the deeper networks; on tiny songs of noise."""

import math

import pytest
import torch

from course_lib.data import STEMS, Track
from course_lib.demucs import Demucs
from course_lib.experiments import demucs as chapter_6
from course_lib.experiments import hdemucs as experiment
from course_lib.experiments import hdemucs_depth as deep
from course_lib.experiments import hdemucs_remixed as remixed
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from tests.experiments.test_losses import noise_songs

TINY = experiment.Sizes(channels=4, nfft=64, depth=3, time_channels=4, batch_size=2, seconds=0.1, steps=2, few_steps=1,
                        warmup=1, penalty_megabytes=0.001, train_songs=4, valid_songs=1, test_songs=2, song_seconds=1.0,
                        score_seconds=0.8)
DEEP = deep.Sizes(nfft=64, seconds=0.1, batch_size=2, steps=2, train_songs=4, song_seconds=1.0, seeds=1,
                  penalty_megabytes=0.001)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise, without the bounds; gives a function that runs it."""
    monkeypatch.setattr(chapter_6, "songs_of", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "TRAINED", {"none": "not there"})
    return lambda only=None, **more: run_experiment(experiment.EXPERIMENT, only, settings=TINY,
                                                    folder=tmp_path / "results", cache=tmp_path / "cache", **more)


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    outcome = small()
    results = Results(experiment.TOPIC, tmp_path / "results")
    runs = {(row["variant"], row["seed"]): row for row in results.rows("runs")}
    assert not outcome.failed and set(runs) == {(name, str(seed)) for name, seeds in experiment.SEEDS.items()
                                                for seed in seeds}
    assert int(runs["hybrid, equal time", "0"]["steps"]) == 1 and int(runs["hybrid", "1"]["steps"]) == 2
    assert runs["hybrid", "0"]["test_sdr"] != runs["hybrid", "1"]["test_sdr"]
    for (name, seed), row in runs.items():
        of_run = lambda table: [one for one in results.rows(table)                             # noqa: E731
                                if (one["variant"], one["seed"]) == (name, seed)]              # noqa: B023
        songs = of_run("songs")
        mean = sum(float(one[stem]) for one in songs for stem in STEMS) / (len(songs) * len(STEMS))
        assert mean == pytest.approx(float(row["test_sdr"]), abs=2e-3)
        assert len(of_run("noise")) == 2 * 4 * 4
    assert {row["variant"] for row in results.rows("branches")} == set(experiment.VARIANTS) - {"waveform only",
                                                                                                "spectrogram only"}
    assert not small().done


def test_branches_add_up_in_energy_and_score():
    model = experiment.new_model(experiment.VARIANTS["hybrid"], TINY, 0).eval()
    rows = experiment.branch_rows(model, noise_songs(1))
    assert [row["part"] for row in rows] == ["both", "spectrogram", "waveform", "waveform's share of the energy"]
    assert all(0 <= float(rows[3][stem]) <= 1 for stem in STEMS)


def test_variants_change_what_they_say():
    make = lambda name: experiment.new_model(experiment.VARIANTS[name], TINY, 0)
    base, same = make("hybrid"), make("with penalty")
    assert all(torch.equal(a, b) for a, b in zip(base.parameters(), same.parameters()))
    assert isinstance(make("waveform only"), Demucs) and not make("spectrogram only").hybrid
    assert not make("magnitudes").cac and make("without frequency embedding").freq_emb is None
    assert make("without residual branches").encoder[0].dconv is None


def test_noise_in_pauses():
    rate = chapter_6.RATE
    hum = 0.1 * torch.randn(1, rate, generator=torch.Generator().manual_seed(0))
    stem = torch.cat([hum, torch.zeros(1, rate)], 1)
    mixture = stem + 0.1 * torch.randn(1, 2 * rate, generator=torch.Generator().manual_seed(1))
    silent, noisy = (experiment.noise_of(stem + level * mixture, stem, mixture) for level in (0.0, 0.1))
    assert all(int(row["pauses"]) > 60 for row in noisy)
    assert all(float(row["level_db"]) < -80 for row in silent)
    assert all(-25 < float(row["level_db"]) < -20 for row in noisy)
    assert all(0.4 < float(row["flatness"]) < 0.7 for row in noisy)
    assert math.isnan(float(experiment.noise_of(mixture, mixture, mixture)[0]["level_db"]))


def test_depth_runs_through(monkeypatch, tmp_path):
    monkeypatch.setattr(deep, "songs_of", lambda split, count, *_: noise_songs(count))
    outcome = run_experiment(deep.EXPERIMENT, settings=DEEP, folder=tmp_path / "results", cache=tmp_path / "cache")
    results = Results(experiment.TOPIC, tmp_path / "results")
    rows = results.rows("depth")
    assert not outcome.failed and len(rows) == 5 and len(results.rows("depth_logs")) == 10
    assert all(float(row["seconds_a_step"]) > 0 and float(row["largest_singular_value"]) > 0 for row in rows)
    methods = results.rows("singular_values")
    assert float(methods[-1]["share"]) == pytest.approx(1, abs=1e-3)


def beating_song(name: str, tempo: float, hertz: float, seconds: float = 8.0) -> Track:
    """Clicks at a tempo, a bass of one note, and two other stems of noise."""
    time = torch.arange(round(seconds * remixed.RATE)) / remixed.RATE
    noise = 0.1 * torch.randn(3, len(time), generator=torch.Generator().manual_seed(round(tempo)))
    drums = noise[0] * torch.exp(-40 * (time % (60 / tempo)))
    bass = 0.3 * torch.sin(2 * torch.pi * hertz * time)
    return Track.from_tensors(name, remixed.RATE, dict(zip(STEMS, (drums[None], bass[None], noise[1:2], noise[2:]))))


BEATING = [("a", 120, 110.0), ("b", 123, 110.0), ("c", 126, 123.5), ("d", 121, 116.5), ("alone", 160, 110.0)]


def test_fitted_songs_are_those_that_fit():
    songs = [beating_song(*one) for one in BEATING]
    new = remixed.fitted_songs(songs, copies=2)
    assert [track.name for track in new] == [f"{name}, {copy}" for name in "abcd" for copy in (0, 1)]
    for track in new:
        home = songs["abcd".index(track.name[0])]
        assert set(track.stems) == set(STEMS) and track.frames == home.frames
        assert torch.equal(track.read("drums"), home.read("drums")), "the drums stay"
        assert all(not torch.equal(track.read("other"), song.read("other")) for song in songs), "the rest is moved"
    again = remixed.fitted_songs(songs, copies=2)
    assert all(torch.equal(one.read("vocals"), other.read("vocals")) for one, other in zip(new, again))


def test_remixed_runs_through(monkeypatch, tmp_path):
    songs = [beating_song(*one) for one in BEATING]
    monkeypatch.setattr(remixed, "songs_of", lambda split, *_: songs if split == "train" else songs[:1])
    monkeypatch.setattr(remixed, "data_dir", lambda: tmp_path)
    sizes = remixed.Sizes(copies=1, steps=2, batch_size=1, seconds=0.2, seeds=1, train_songs=5, test_songs=1,
                          song_seconds=8.0, score_seconds=2.0)
    given = remixed.prepare(sizes, tmp_path)
    taken = {kind: [] for kind in remixed.KINDS}
    real = remixed.Remix
    for kind in remixed.KINDS:
        monkeypatch.setattr(remixed, "Remix", lambda songs, *a, **more: (taken[kind].append((songs, more["share"])),
                                                                         real(songs, *a, **more))[1])
        remixed.fine_tuned(kind, given, sizes, 0)
    assert [one[0][1] for one in taken.values()] == [0.0, 1.0, 0.0]
    assert [one[0][0] is given.fitted for one in taken.values()] == [False, False, True]
    outcome = run_experiment(remixed.EXPERIMENT, settings=sizes, folder=tmp_path / "results", cache=tmp_path / "cache")
    results = Results(experiment.TOPIC, tmp_path / "results")
    rows = {row["kind"]: row for row in results.rows("remixed")}
    assert not outcome.failed and list(rows) == [remixed.BEFORE, *remixed.KINDS]
    assert [int(row["songs_to_learn"]) for row in rows.values()] == [0, 5, 5, 4]
    assert len({row["test_sdr"] for row in rows.values()}) > 1 and len(results.rows("remixed_songs")) == 4
    assert results.card("remixed")["songs_that_none_fits"] == 1
