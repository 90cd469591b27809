"""The comparison of losses: alike but for the loss, repeatable, resumable, scored as it says; on tiny songs of noise."""

import argparse
import json
import math
from dataclasses import asdict

import pytest
import torch

from course_lib import losses
from course_lib.data import STEMS, Track
from course_lib.training.experiments import command
from course_lib.training.experiments import losses as experiment

TINY = experiment.Sizes(n_fft=256, hop_length=64, hidden_size=8, nb_layers=1, batch_size=2, seconds=0.4, steps=3,
                        further_steps=2, feature_seconds=0.3, train_songs=3, valid_songs=2, test_songs=2, song_seconds=1.0,
                        score_seconds=0.5, metric_seconds=0.4, metric_songs=2)


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
    """The experiment on two losses, two seeds and noise, its feature network untrained; gives a function that runs it."""
    torch.manual_seed(0)
    network = losses.TaggerFeatures()
    network.mel.fill_(1 / 96)
    monkeypatch.setattr(experiment, "mono_songs", lambda split, count, *_: noise_songs(count, seed=len(split)))
    monkeypatch.setattr(experiment, "KINDS", {name: experiment.KINDS[name] for name in ("l2_freq", "l2_mask")})
    monkeypatch.setattr(experiment, "SEEDS", (0, 1))
    monkeypatch.setattr(experiment.losses, "load_tagger", lambda: network.requires_grad_(False).eval())
    threads = torch.get_num_threads()
    yield lambda sizes=TINY, **further: experiment.run(sizes=sizes, folder=tmp_path / "results", source_cache=tmp_path / "cache",
                                                       **further)
    torch.set_num_threads(threads)


def test_every_loss_of_the_chapter_takes_part():
    named = {name for name in losses.__all__ if name.endswith(("_time", "_freq", "_mask"))} | {"psa", "dissimilarity", "mrs"}
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


def test_what_a_loss_compares():
    sources = torch.stack([track.sources(STEMS) for track in noise_songs(2)])
    S, X = experiment.spectra(sources, TINY)
    exact = S / X.unsqueeze(1)
    for kind, tolerance in (("spectra", 1e-3), ("waveforms", 1e-3)):
        ours, theirs = experiment.compared(experiment.Kind(None, kind), exact, S, X, sources, TINY)
        assert ours.shape == theirs.shape and (ours - theirs).abs().max() < tolerance * theirs.abs().max()
    ours, theirs = experiment.compared(experiment.Kind(None, "magnitudes"), exact.abs(), S, X, sources, TINY)
    assert torch.allclose(ours, theirs, atol=1e-4)
    ours, theirs = experiment.compared(experiment.Kind(None, "masks"), exact.abs(), S, X, sources, TINY)
    assert torch.allclose(theirs.sum(1), torch.ones_like(theirs[:, 0]), atol=1e-5) and torch.equal(ours, exact.abs())


def test_scores_are_song_sdr_and_shares_sum_to_one():
    references = torch.randn(2, 4, 1, 1000, generator=torch.Generator().manual_seed(0))
    references[0, 3] = 0
    sdr = experiment.song_sdr(references * 0.9, references)
    assert torch.allclose(sdr[1], torch.full((4,), 20.0), atol=1e-3) and sdr[0, 3].isnan() and not sdr[0, :3].isnan().any()
    masks = torch.rand(2, 4, 1, 5, 6)
    masks[0, :, 0, 0, 0] = 0
    assert torch.allclose(experiment.shares(masks).sum(1), torch.ones(2, 1, 5, 6))
    assert torch.allclose(experiment.shares(masks)[0, :, 0, 0, 0], torch.full((4,), 0.25))


def test_bounds_lie_in_their_order():
    bounds = experiment.bounds(noise_songs(2), TINY)
    quarter, magnitudes, energies = (float(table.mean()) for table in bounds.values())
    assert 0 < quarter < 10 < magnitudes and 10 < energies


def test_the_experiment_runs_through_and_repeats_nothing(small, tmp_path, capsys):
    results = small()
    runs = results.rows("runs")
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
    assert len({(row["loss"], row["song"], row["stem"], row["metric"]) for row in metrics}) == len(metrics)
    card = json.loads((tmp_path / "results" / "losses_card.json").read_text())
    assert card["sizes"]["steps"] == TINY.steps and "course experiment losses" in card["command"]

    before = {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")}
    capsys.readouterr()
    small()
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").glob("*.csv")} == before
    assert "valid" not in capsys.readouterr().out


def test_a_run_that_is_missing_is_made_again_with_the_same_scores(small, tmp_path):
    results = small(only=["l2_freq"])
    file = tmp_path / "results" / "losses_runs.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], *lines[2:]]))
    small(only=["l2_freq"])
    again = results.rows("runs")[-1]
    assert [again[name] for name in ("loss", "rate", "seed", "valid_sdr", "test_sdr")] == [
        dict(zip(lines[0].strip().split(","), lines[1].strip().split(",")))[name]
        for name in ("loss", "rate", "seed", "valid_sdr", "test_sdr")]


def test_runs_of_other_lengths_are_not_mixed(small, tmp_path):
    """Refused before anything is written, the card included."""
    small(only=["l2_freq"])
    before = {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()}
    longer = experiment.Sizes(**{**asdict(TINY), "steps": 4})
    with pytest.raises(ValueError, match="has l2_freq after 3 steps, not 4; move the old"):
        small(only=["l2_mask"], sizes=longer)
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()} == before


def test_psa_as_a_metric_sees_masks_of_zero():
    """A source that is masked away still has a phase to be compared in: the mixture's."""
    class Silent(torch.nn.Module):
        def forward(self, x, masks):
            found = torch.ones(len(x), 4, *x.shape[1:])
            found[:, 0] = 0
            return found

    songs = noise_songs(1)
    network = losses.TaggerFeatures()
    rows = experiment.loss_metrics(Silent(), songs, TINY, network)
    found = next(float(row["value"]) for row in rows if row["stem"] == STEMS[0] and row["metric"] == "psa")
    frames = round(TINY.metric_seconds * experiment.RATE)
    S, X = experiment.spectra(songs[0].sources(STEMS, (songs[0].frames - frames) // 2, frames)[None], TINY)
    target = (S[:, 0] * X.conj()).real / X.abs().clamp_min(1e-8)
    assert float(target.square().mean()) > 0 and math.isclose(found, float(target.square().mean()), rel_tol=1e-3)


def test_only_names_that_exist(small):
    with pytest.raises(ValueError, match="l3_freq"):
        small(only=["l3_freq"])


def test_the_best_rate_is_chosen_on_validation_songs_and_failures_never_win():
    low, middle, high = experiment.RATES
    rows = [{"loss": "x", "rate": str(rate), "seed": "0", "valid_sdr": valid, "test_sdr": test}
            for rate, valid, test in ((low, "1.0", "9"), (middle, "2.0", "1"), (high, "nan", "5"))]
    rows.append({"loss": "x", "rate": str(low), "seed": "1", "valid_sdr": "7", "test_sdr": "7"})
    assert experiment.best_rate(rows, "x") == middle
    with pytest.raises(ValueError, match="no run"):
        experiment.best_rate(rows[:2], "x")


def test_the_command_passes_its_options_on(monkeypatch):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    calls = []
    monkeypatch.setattr(experiment, "run", lambda **arguments: calls.append(arguments))
    assert command.main(parser.parse_args(["losses", "--only", "psa", "--only", "mrs"])) == 0
    assert calls == [{"only": ["psa", "mrs"], "threads": 1}]
