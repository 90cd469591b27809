"""Chapter 9's measurements and small trainings in miniature, on tiny songs of noise."""

import pytest
import torch

from course_lib.data import SIX_STEMS, STEMS, Track
from course_lib.data.augmentation import Augmentation
from course_lib.demucs import DemucsV2
from course_lib.experiments import demucs as chapter_6
from course_lib.experiments import fine_tuning, small_masks
from course_lib.experiments import separating as experiment
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from course_lib.separating import separate_chunk
from course_lib.training import with_facts
from tests.experiments.test_losses import noise_songs

SIZES = experiment.Sizes(valid_songs=4, test_songs=2, ahead_songs=1, song_seconds=1.0, score_seconds=0.8)
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
    monkeypatch.setattr(experiment, "LIVE_SIZES", MASKS)
    monkeypatch.setattr(experiment, "HOPS", 10)


def test_every_measurement_gives_its_table(small, tmp_path):
    outcome = run_experiment(experiment.EXPERIMENT, settings=SIZES, folder=tmp_path / "results",
                             cache=tmp_path / "cache")
    results = Results(experiment.TOPIC, tmp_path / "results")
    assert not outcome.failed and {row["measure"] for row in results.rows("measures")} == set(experiment.MEASURES)
    assert len(results.rows("shifts")) == 2 * len(experiment.SHIFTS) * 2
    assert len(results.rows("bags")) == 11 * (4 + 2)
    assert {row["kind"] for row in results.rows("sum_to_mix")} == {"as they are", "shared"}
    assert len(results.rows("two_stems")) == 3 * 2 and len(results.rows("ahead")) == len(experiment.AHEAD)
    labels = results.rows("labels")
    live = {row["n_fft"]: row for row in results.rows("live")}
    assert set(live) == {"512", "2048"}
    assert all(float(row["median_ms"]) <= float(row["slowest_ms"]) for row in live.values())
    assert [row["hop_ms"] for row in live.values()] == ["5.80", "23.22"] and live["512"]["delay_ms"] == "23.2"
    assert len(labels) == 6 * 4 * (1 + len(experiment.BLEED)) and all(row["stem"] != row["stranger"] for row in labels)


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
    change = {name: small_masks.changes(small_masks.VARIANTS[name]) for name in small_masks.VARIANTS}
    assert change["without gain and sign"] is None is change["without augmentation"]
    assert (change["without gain"].gain, change["without gain"].flip) == ((1.0, 1.0), 0.5)
    assert (change["without sign"].gain, change["without sign"].flip) == ((0.25, 1.25), 0.0)
    assert change["base"] == change["one direction"] == Augmentation()
    make = lambda name: small_masks.new_model(small_masks.VARIANTS[name], MASKS, 0)
    assert not make("one direction").lstm.bidirectional and make("short frames").facts.n_fft == 512


# --- four stems to six


def six_songs(count):
    """Songs of noise with a guitar and a piano in `other`; the first has no piano, and nothing else in `other`."""
    made = []
    for k in range(count):
        four = torch.randn(4, 1, experiment.RATE, generator=torch.Generator().manual_seed(k)) / 10
        parts = torch.randn(2, 1, experiment.RATE, generator=torch.Generator().manual_seed(100 + k)) / 10
        parts[1] *= k > 0
        four[STEMS.index("other")] = parts.sum(0) + (four[STEMS.index("other")] if k else 0)
        made.append(Track.from_tensors(f"song {k}", experiment.RATE, dict(zip((*STEMS, "guitar", "piano"),
                                                                              (*four, *parts)))))
    return made


def test_fine_tuning_runs_through(monkeypatch, tmp_path):
    monkeypatch.setattr(fine_tuning, "six_stem_songs", lambda split, count, *_: six_songs(count))
    sizes = fine_tuning.Sizes(steps=1, batch_size=2, seconds=0.2, seeds=1, train_songs=6, test_songs=2,
                              song_seconds=1.0, score_seconds=0.5)
    outcome = run_experiment(fine_tuning.EXPERIMENT, settings=sizes, folder=tmp_path / "results",
                             cache=tmp_path / "cache")
    results = Results(fine_tuning.TOPIC, tmp_path / "results")
    rows = {row["kind"]: row for row in results.rows("fine_runs")}
    assert not outcome.failed and list(rows) == [fine_tuning.FOUR, fine_tuning.BEGUN, *fine_tuning.KINDS]
    four, begun = rows[fine_tuning.FOUR], rows[fine_tuning.BEGUN]
    for name in ("drums", "bass", "vocals", fine_tuning.WHOLE):     # nothing is lost at the beginning
        assert float(begun[f"test_{name}"]) == pytest.approx(float(four[f"test_{name}"]), abs=0.002)
    assert four["test_guitar"] == "nan" != begun["test_guitar"]
    songs = {(row["kind"], row["song"]): row for row in results.rows("fine_songs")}
    assert songs[fine_tuning.BEGUN, "song 0"]["piano"] == "nan" != songs[fine_tuning.BEGUN, "song 1"]["piano"]
    assert songs[fine_tuning.BEGUN, "song 0"]["other"] == "nan", "what is left of other is silent"
    assert rows[fine_tuning.SCRATCH]["weights"] == "" != rows[fine_tuning.FINE_TUNED]["weights"]


def test_six_stem_songs_are_the_same_songs(monkeypatch, tmp_path):
    songs = six_songs(2)
    monkeypatch.setattr(fine_tuning, "open_tracks", lambda *_, **__: songs)
    monkeypatch.setattr(fine_tuning, "songs_of", lambda *_: songs)
    for one, other in zip(fine_tuning.six_stem_songs("test", 2, 1.0, tmp_path), songs):
        assert one.name == other.name and torch.equal(one.sources(SIX_STEMS), other.sources(SIX_STEMS))
    monkeypatch.setattr(fine_tuning, "songs_of", lambda *_: songs[::-1])
    with pytest.raises(ValueError, match="the songs in .* are not those in demucs"):
        fine_tuning.six_stem_songs("test", 2, 1.0, tmp_path)
