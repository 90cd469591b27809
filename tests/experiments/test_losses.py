"""The comparison of losses: alike but for the loss, repeatable, resumable, scored as it says;
on tiny songs of noise.
"""

import json
import math

import pytest
import torch

from course_lib import losses
from course_lib.data import STEMS, Track
from course_lib.experiments import losses as experiment
from course_lib.experiments.runner import Work, run_experiment
from course_lib.results import Results
from course_lib.spectral import stft

TINY = experiment.Sizes(
    n_fft=256,
    hop_length=64,
    hidden_size=8,
    nb_layers=1,
    batch_size=2,
    seconds=0.4,
    steps=3,
    further_steps=2,
    feature_seconds=0.3,
    train_songs=3,
    valid_songs=2,
    test_songs=2,
    song_seconds=1.0,
    score_seconds=0.5,
    metric_seconds=0.4,
    metric_songs=2,
    excerpt_seconds=0.2,
)


def noise_songs(count, seconds=1.0, seed=0):
    """Songs whose stems are noises, each in a band of its own, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    songs = []
    for number in range(count):
        stems = {}
        for place, stem in enumerate(STEMS):
            spectrum = torch.fft.rfft(torch.randn(1, round(seconds * experiment.RATE), generator=generator))
            bands = torch.arange(spectrum.shape[-1]) * 4 // spectrum.shape[-1]
            stems[stem] = 0.1 * torch.fft.irfft(spectrum * (bands == place), n=round(seconds * experiment.RATE))
        songs.append(Track.from_tensors(f"noise {number}", experiment.RATE, stems))
    return songs


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on two losses, two seeds and noise, its feature network untrained;
    gives a function that runs it.
    """
    torch.manual_seed(0)
    network = losses.TaggerFeatures()
    network.mel.fill_(1 / 96)
    monkeypatch.setattr(experiment, "mono_songs", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "KINDS", {name: experiment.KINDS[name] for name in ("l2_freq", "l2_mask")})
    monkeypatch.setattr(experiment, "SEEDS", (0, 1))
    monkeypatch.setattr(experiment.losses, "load_tagger", lambda: network.requires_grad_(False).eval())
    threads = torch.get_num_threads()
    yield lambda only=None, **more: run_experiment(
        experiment.EXPERIMENT, only, settings=TINY, folder=tmp_path / "results", cache=tmp_path / "cache", **more
    )
    torch.set_num_threads(threads)


def test_every_loss_of_the_chapter_takes_part():
    named = {name for name in losses.__all__ if name.endswith(("_time", "_freq", "_mask"))} | {
        "psa",
        "dissimilarity",
        "mrs",
    }
    assert set(experiment.KINDS) == named
    slow = {name: kind.paper_rate for name, kind in experiment.KINDS.items() if kind.paper_rate != 1e-3}
    assert slow == {"l2_mask": 1e-4, "l1_time": 1e-5, "l2_time": 1e-5}


@pytest.mark.parametrize("name", list(experiment.KINDS))
def test_every_loss_trains_and_two_runs_are_equal(name):
    tracks = noise_songs(2)
    weights = []
    for _ in range(2):
        model, log = experiment.train(experiment.KINDS[name], tracks, TINY, 1e-3, seed=1)
        weights.append(model.state_dict())
        assert len(log) == TINY.steps and all(math.isfinite(row["loss"]) for row in log)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    other, _ = experiment.train(experiment.KINDS[name], tracks, TINY, 1e-3, seed=2)
    assert not torch.equal(weights[0]["fc1.weight"], other.state_dict()["fc1.weight"])


def test_all_losses_start_from_equal_weights_and_see_equal_chunks(monkeypatch):
    seen = {}
    for name in ("l1_time", "sisdr_time"):
        kind, chunks = experiment.KINDS[name], []
        def spy(estimates, references, function=kind.function, chunks=chunks):
            chunks.append(references)
            return 0.0 * function(estimates, references)                    # no push: the weights stay as they began
        model, _ = experiment.train(experiment.Kind(spy, "waveforms"), noise_songs(2), TINY, 1e-3, seed=0)
        seen[name] = model.state_dict()["fc1.weight"], chunks
    (a, first), (b, second) = seen.values()
    assert torch.equal(a, b) and len(first) == TINY.steps
    assert all(torch.equal(x, y) for x, y in zip(first, second))


def test_shares_sum_to_one():
    masks = torch.rand(2, 4, 1, 5, 6)
    masks[0, :, 0, 0, 0] = 0
    assert torch.allclose(experiment.shares(masks).sum(1), torch.ones(2, 1, 5, 6))
    assert torch.allclose(experiment.shares(masks)[0, :, 0, 0, 0], torch.full((4,), 0.25))


@pytest.mark.parametrize("name", experiment.FURTHER)
def test_further_trainings_log_their_parts_and_two_are_equal(name):
    network = losses.TaggerFeatures().requires_grad_(False).eval()
    network.mel.fill_(1 / 96)
    weights = []
    for _ in range(2):
        model = experiment.new_model(TINY, 0, None)
        log = experiment.train_further(name, model, noise_songs(2), TINY, 0, network)
        weights.append(model.state_dict())
        parts = {"adversarial": {"discriminator", "l2", "adversarial"}, "deep_feature": {"l2", "feature", "style"}}
        assert len(log) == TINY.further_steps and parts.get(name, set()) <= set(log[0])
        assert all(math.isfinite(row[part]) for row in log for part in (*parts.get(name, ()), "loss"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_bounds_lie_in_their_order():
    bounds = experiment.bounds(noise_songs(2), TINY)
    quarter, magnitudes, energies = (float(table.mean()) for table in bounds.values())
    assert 0 < quarter < 10 < magnitudes and 10 < energies


def test_the_experiment_runs_through_and_repeats_nothing(small, tmp_path):
    outcome = small()
    results = Results("05_losses", tmp_path / "results")
    runs = results.rows("runs")
    assert not outcome.failed and len(outcome.done) == len(runs)
    assert len(runs) == len({(row["loss"], row["rate"], row["seed"]) for row in runs})
    for loss in ("l2_freq", "l2_mask"):
        rates = {float(row["rate"]) for row in runs if row["loss"] == loss and row["seed"] == "0"}
        assert rates == {*experiment.RATES, experiment.KINDS[loss].paper_rate}
        best = experiment.best_rate(runs, loss)
        assert {row["seed"] for row in runs if row["loss"] == loss and float(row["rate"]) == best} == {"0", "1"}
    assert {row["loss"] for row in runs} == {"l2_freq", "l2_mask", *experiment.FURTHER}
    assert all(math.isfinite(float(row[name])) for row in runs for name in ("valid_sdr", "test_sdr", "seconds"))
    metrics = results.rows("metrics")
    assert {row["metric"] for row in metrics} == {"sdr", "l2_freq", "l2_mask", "deep_feature", "gram_style"}
    assert {row["seed"] for row in metrics} == {"0"}
    songs = [row for row in results.rows("songs") if row["loss"] == "l2_mask"]
    for row in (row for row in runs if row["loss"] == "l2_mask"):
        mine = [
            float(song[stem])
            for song in songs
            if (song["rate"], song["seed"]) == (row["rate"], row["seed"])
            for stem in STEMS
        ]
        assert len(mine) == 4 * TINY.test_songs and sum(mine) / len(mine) == pytest.approx(
            float(row["test_sdr"]), abs=2e-3
        )
    assert {row["part"] for row in results.rows("parts") if row["loss"] == "adversarial"} >= {
        "discriminator",
        "l2",
        "adversarial",
    }
    kept = {file.stem for file in (tmp_path / "results" / "excerpts").glob("*.ogg")}
    assert kept == {"truth", "mixture", "l2_freq", "l2_mask", *experiment.FURTHER}
    card = json.loads((tmp_path / "results" / "runs.json").read_text())
    assert card["settings"]["steps"] == TINY.steps and "course experiment losses" in card["command"]

    before = {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")}
    lost = tmp_path / "results" / "excerpts" / "l2_mask.ogg"
    sound = lost.read_bytes()
    lost.unlink()
    for file in (tmp_path / "cache" / "weights").glob("l2_mask*"):
        file.unlink()
    assert not small(only=["l2_freq"]).done and not lost.exists()
    assert not small().done and len(lost.read_bytes()) == len(sound)        # trained again, as its weights are lost
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")} == before


def test_a_run_that_is_missing_is_made_again_with_the_same_scores(small, tmp_path):
    small(only=["l2_mask"])
    results = Results("05_losses", tmp_path / "results")
    rows = results.rows("runs")
    results.write("runs", rows[1:])
    assert len(small(only=["l2_mask"]).done) == 1
    again = results.rows("runs")[-1]
    assert [again[name] for name in ("loss", "rate", "seed", "valid_sdr", "test_sdr")] == [
        rows[0][name] for name in ("loss", "rate", "seed", "valid_sdr", "test_sdr")]


def test_an_excerpt_comes_back_as_it_was(tmp_path, monkeypatch):
    sound = 0.3 * torch.sin(torch.arange(6615) / 10).reshape(1, -1)
    experiment.write_excerpt(Results("05_losses", tmp_path), "truth", sound)
    monkeypatch.setattr(
        experiment, "shipped_file", lambda relative: tmp_path / relative.removeprefix("results/05_losses/")
    )
    back = experiment.read_excerpt("truth")
    assert back.shape == sound.shape and (back - sound).norm() < 0.1 * sound.norm()


def test_where_nothing_was_kept_there_is_no_excerpt():
    assert experiment.read_excerpt("no_such_loss") is None


def test_psa_as_a_metric_sees_masks_of_zero():
    """A source that is masked away still has a phase to be compared in: the mixture's."""
    class Silent(torch.nn.Module):
        def forward(self, x):
            found = torch.ones(len(x), 4, *x.shape[1:])
            found[:, 0] = 0
            return found

    songs = noise_songs(1)
    network = losses.TaggerFeatures()
    rows = experiment.loss_metrics(Silent(), songs, TINY, network)
    found = next(float(row["value"]) for row in rows if row["stem"] == STEMS[0] and row["metric"] == "psa")
    frames = round(TINY.metric_seconds * experiment.RATE)
    S = stft(songs[0].sources(STEMS, (songs[0].frames - frames) // 2, frames)[None], TINY.n_fft, TINY.hop_length)
    X = S.sum(1)
    target = (S[:, 0] * X.conj()).real / X.abs().clamp_min(1e-8)
    assert float(target.square().mean()) > 0 and math.isclose(found, float(target.square().mean()), rel_tol=1e-3)


def test_the_best_rate_is_that_of_the_mean_over_seeds_on_validation_songs_and_failures_never_win(tmp_path):
    low, middle, high = experiment.RATES
    def row(rate, seed, valid):
        return {"loss": "l2_freq", "rate": str(rate), "seed": str(seed), "valid_sdr": str(valid), "test_sdr": "9"}
    first = [row(low, 0, 1.0), row(middle, 0, 1.1), row(high, 0, "nan")]
    assert experiment.best_rate(first, "l2_freq") == middle
    both = [*first, row(low, 1, 1.5), row(middle, 1, 1.2)]
    assert experiment.best_rate(both, "l2_freq") == low                        # 1.25 against 1.15
    assert experiment.best_rate([*both, row(high, 1, 7.0)], "l2_freq") == low  # one of its runs failed
    assert experiment.best_rate([*first, row(low, 1, 0.5)], "l2_freq") == low  # most seeds come first
    with pytest.raises(ValueError, match="no run"):
        experiment.best_rate(first, "psa")


def test_all_seeds_run_at_the_rates_within_reach_of_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "KINDS", {"l2_freq": experiment.KINDS["l2_freq"]})
    low, middle, high = experiment.RATES
    results = Results("05_losses", tmp_path)
    results.write("runs", [{"loss": "l2_freq", "rate": rate, "seed": 0, "valid_sdr": valid}
                           for rate, valid in ((low, 3.0), (middle, 3.15), (high, 2.5))])
    work = Work(experiment.EXPERIMENT, TINY, results, tmp_path)
    assert experiment.within_reach(work) == [
        experiment.Run("l2_freq", rate, seed) for rate in (low, middle) for seed in (1, 2)
    ]
