"""One small separator, trained with every loss of chapter 5 in turn: same data, same steps, same seeds.

What differs between two runs is the loss, its learning rate and the seed, nothing else. A learning rate suits a loss or
doesn't, whatever the loss is worth, so every loss is run at the paper's rate and at the best of RATES, chosen with seed
0 on the validation songs. `course experiment losses` runs it all; each run becomes a row of
data/results/losses_runs.csv as soon as it is done, and a run that has a row is not repeated.
"""

import csv
import fcntl
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn

from course_lib import losses
from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.loaders import RandomChunks
from course_lib.open_unmix import JointOpenUnmix, input_statistics
from course_lib.paths import data_dir, repository_root
from course_lib.published import shipped_file
from course_lib.spectral import ideal_ratio_mask, istft, stft
from course_lib.training.loop import fit, process_batches

RATE = 22_050
# Of the multi-resolution loss: hops of half a window; the literature's, of a tenth, would take many times as long.
RESOLUTIONS = ((1024, 512, 1024), (2048, 1024, 2048), (512, 256, 512))


@dataclass(frozen=True)
class Sizes:
    """What all runs share. Lengths in seconds, bins and hops in samples at 22,050 Hz."""

    n_fft: int = 2048                 # 93 ms
    hop_length: int = 512
    hidden_size: int = 128
    nb_layers: int = 2
    batch_size: int = 4
    seconds: float = 4.0
    steps: int = 400
    further_steps: int = 60           # of a pretrained model, with the adversarial and the feature losses
    feature_seconds: float = 1.0      # of each chunk, for the feature losses: the network they look through is large
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each valid and test song, for SDR
    metric_seconds: float = 5.0       # likewise, for the losses as metrics
    metric_songs: int = 8             # the first of the test songs
    clip: float = 5.0                 # largest norm of the gradient


@dataclass(frozen=True)
class Kind:
    """A loss and what it compares: waveforms, magnitudes, complex spectra or masks; the paper's learning rate."""

    function: Callable[[Tensor, Tensor], Tensor]
    compares: str
    paper_rate: float = 1e-3


# The paper's rates: 1e-3, but 1e-4 for L2 on masks and 1e-5 for L1 and L2 in time (Guso et al. 2022, section 4).
KINDS = {
    "l2_freq": Kind(losses.l2_freq, "magnitudes"), "l1_freq": Kind(losses.l1_freq, "magnitudes"),
    "sisdr_freq": Kind(losses.sisdr_freq, "magnitudes"), "logl1_freq": Kind(losses.logl1_freq, "magnitudes"),
    "logl2_freq": Kind(losses.logl2_freq, "magnitudes"), "psa": Kind(losses.psa, "spectra"),
    "l1_mask": Kind(losses.l1_mask, "masks"), "l2_mask": Kind(losses.l2_mask, "masks", 1e-4),
    "l1_time": Kind(losses.l1_time, "waveforms", 1e-5), "l2_time": Kind(losses.l2_time, "waveforms", 1e-5),
    "sisdr_time": Kind(losses.sisdr_time, "waveforms"), "sdsdr_time": Kind(losses.sdsdr_time, "waveforms"),
    "logl1_time": Kind(losses.logl1_time, "waveforms"), "logl2_time": Kind(losses.logl2_time, "waveforms"),
    "dissimilarity": Kind(losses.dissimilarity, "magnitudes"), "mrs": Kind(partial(losses.mrs, resolutions=RESOLUTIONS), "waveforms"),
}
RATES = (1e-3, 4e-3, 1.6e-2)
SEEDS = (0, 1, 2)
# What goes on from a model trained with l2_freq, beside L2: nothing, an adversarial term, a feature loss.
FURTHER = ("l2_freq_longer", "adversarial_paired", "adversarial_unpaired", "deep_feature", "gram_style")
FURTHER_RATE = 1e-3


# ------------------------------------------------------------------------------------------------------------ the data

def mono_songs(split: str, count: int, cache: Path | None = None, seconds: float = 20.0, source: str = "band") -> list[Track]:
    """The first songs of a split as mono tracks at 22,050 Hz, their first `seconds`.

    cache: a folder that keeps them as .npy, from where they are mapped, not read, into memory; None: nothing is kept.
    """
    tracks = open_tracks(source, split, count=count)
    if cache is None:
        return _mono_tracks(tracks, _mono_audio(tracks, seconds))
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{source}_{split}_{count}_{seconds:g}s_{RATE}Hz.npy"
    if not file.is_file():
        unfinished = file.with_suffix(".part.npy")
        np.save(unfinished, _mono_audio(tracks, seconds).numpy())
        unfinished.replace(file)
    return _mono_tracks(tracks, torch.from_numpy(np.load(file, mmap_mode="c")))


def _mono_audio(tracks: Sequence[Track], seconds: float) -> Tensor:
    """(song, source, time) of songs at RATE, all as long as the shortest."""
    songs = []
    for track in tracks:
        audio = track.excerpt(0.0, min(seconds, track.seconds)).sources(STEMS).mean(1)         # (source, time)
        songs.append(torchaudio.functional.resample(audio, track.rate, RATE))
    shortest = min(song.shape[-1] for song in songs)
    return torch.stack([song[:, :shortest] for song in songs])


def _mono_tracks(tracks: Sequence[Track], audio: Tensor) -> list[Track]:
    return [Track.from_tensors(track.name, RATE, dict(zip(STEMS, song.unsqueeze(1)))) for track, song in zip(tracks, audio)]


# --------------------------------------------------------------------------------------------------- model and training

def spectra(sources: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Waveforms (batch, source, channel, time) to their spectra and the mixture's, (batch, channel, bin, frame)."""
    S = stft(sources, sizes.n_fft, sizes.hop_length)
    return S, S.sum(1)


def compared(kind: Kind, masks: Tensor, S: Tensor, X: Tensor, sources: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """What a loss is given: (estimates, references), from the masks that the network found."""
    if kind.compares == "masks":
        return masks, ideal_ratio_mask(S, 1)
    if kind.compares == "magnitudes":
        return masks * X.abs().unsqueeze(1), S.abs()
    if kind.compares == "spectra":
        return masks * X.unsqueeze(1), S
    return istft(masks * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, sources.shape[-1]), sources


class LossStep:
    """A training step with one loss, as `course_lib.training.fit` calls it."""

    def __init__(self, kind: Kind, sizes: Sizes):
        self.kind, self.sizes = kind, sizes

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        S, X = spectra(sources, self.sizes)
        return self.kind.function(*compared(self.kind, model(X.abs(), masks=True), S, X, sources, self.sizes))


class MaskedUnmix(JointOpenUnmix):
    """JointOpenUnmix whose call gives the masks where asked, so that they pass through whatever wraps the model."""

    def forward(self, x: Tensor, masks: bool = False) -> Tensor:
        return self.masks(x) if masks else super().forward(x)


def new_model(sizes: Sizes, seed: int, statistics: tuple[Tensor, Tensor] | None) -> MaskedUnmix:
    torch.manual_seed(seed)
    model = MaskedUnmix(sizes.n_fft // 2 + 1, 1, sizes.hidden_size, sizes.nb_layers)
    if statistics is not None:
        model.set_input_statistics(*statistics)
    return model


def train(kind: Kind, tracks: Sequence[Track], sizes: Sizes, rate: float, seed: int,
          statistics: tuple[Tensor, Tensor] | None = None, progress: bool = False) -> tuple[MaskedUnmix, list[dict]]:
    """Train a new model with one loss; return it and its log, a row a step.

    rate: Adam's. The seed sets the initial weights, the chunks and the dropout: alike for all losses.
    """
    model = new_model(sizes, seed, statistics)
    chunks = RandomChunks(tracks, sizes.seconds, sizes.steps * sizes.batch_size, seed)
    torch.manual_seed(seed)
    history = fit(model, LossStep(kind, sizes), process_batches(chunks, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), rate), sizes.steps, clip=sizes.clip, progress=progress)
    return model, history.steps


# --------------------------------------------------------------------------------------------------------- scores

def shares(masks: Tensor) -> Tensor:
    """Masks made to add up to one over the sources, as the paper's evaluation does (Open-Unmix' softmask)."""
    return (masks + 1e-8) / (masks + 1e-8).sum(1, keepdim=True)


@torch.no_grad()
def outputs(model: nn.Module, tracks: Sequence[Track], sizes: Sizes, seconds: float) -> tuple[Tensor, ...]:
    """Masks, S, X and references of the middle `seconds` of songs, (song, source, channel, ...)."""
    model.eval()
    frames = round(seconds * RATE)
    references = torch.stack([track.sources(STEMS, (track.frames - frames) // 2, frames) for track in tracks])
    S, X = spectra(references, sizes)
    return model(X.abs(), masks=True), S, X, references


def song_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """SDR in dB of whole pieces, (song, source): energy of the reference over the error's; NaN for a silent stem."""
    signal, error = references.square().sum((-2, -1)), (estimates - references).square().sum((-2, -1))
    return 10 * torch.log10(torch.where(signal > 0, signal / error.clamp_min(1e-12), torch.nan))


@torch.no_grad()
def sdr_tables(model: nn.Module, tracks: Sequence[Track], sizes: Sizes) -> tuple[Tensor, Tensor]:
    """SDR of every song and source, (song, source): with the masks made shares, and with the masks as they are."""
    tables = []
    for at in range(0, len(tracks), 5):
        masks, _, X, references = outputs(model, tracks[at:at + 5], sizes, sizes.score_seconds)
        tables.append([song_sdr(istft(of * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, references.shape[-1]), references)
                       for of in (shares(masks), masks)])
    return tuple(torch.cat(part) for part in zip(*tables))


@torch.no_grad()
def loss_metrics(model: nn.Module, tracks: Sequence[Track], sizes: Sizes, network: nn.Module) -> list[dict]:
    """Every loss as a metric: its value on a piece of each test song, of each source; rows song, stem, metric, value."""
    masks, S, X, references = outputs(model, tracks, sizes, sizes.metric_seconds)
    masks = shares(masks)
    estimates = istft(masks * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, references.shape[-1])
    sdr = song_sdr(estimates, references)
    to_16k = lambda x: torchaudio.functional.resample(x, RATE, network.rate)                # noqa: E731
    ours_16k, theirs_16k = to_16k(estimates), to_16k(references)
    rows = []
    for song in range(len(tracks)):
        of = lambda x: x[song:song + 1]                                                     # noqa: B023,E731
        for place, stem in enumerate(STEMS):
            values = {"sdr": float(sdr[song, place])}
            for name, kind in KINDS.items():
                ours, theirs = compared(kind, of(masks), of(S), of(X), of(references), sizes)
                if name == "dissimilarity":
                    order = [place, *(other for other in range(len(STEMS)) if other != place)]
                    values[name] = float(_dissimilarity_of_first(ours[:, order], theirs[:, order]))
                else:
                    more = (of(X),) if kind.compares == "spectra" else ()                  # the phase, where a mask is 0
                    values[name] = float(kind.function(ours[:, place:place + 1], theirs[:, place:place + 1], *more))
            pair = of(ours_16k)[:, place:place + 1], of(theirs_16k)[:, place:place + 1]
            values["deep_feature"] = float(losses.deep_feature(*pair, network))
            values["gram_style"] = float(losses.gram_style(*pair, network))
            rows += [{"song": song, "stem": stem, "metric": name, "value": f"{value:.6g}"} for name, value in values.items()]
    return rows


def _dissimilarity_of_first(estimates: Tensor, references: Tensor, weight: float = 0.1) -> Tensor:
    """The dissimilarity loss of the first source alone."""
    distances = (estimates[:, :1] - references).square().mean((0, 2, 3, 4))                 # (source,)
    return distances[0] - weight * distances[1:].mean()


# ------------------------------------------------------------------------------------------ adversarial, feature losses

def train_further(name: str, model: MaskedUnmix, tracks: Sequence[Track], sizes: Sizes, seed: int,
                  network: nn.Module | None = None) -> list[dict]:
    """Go on from a pretrained model with L2 plus gamma times another term, or with L2 alone; returns the log.

    gamma is such that in the first step both terms are equal.
    """
    chunks = RandomChunks(tracks, sizes.seconds, sizes.further_steps * sizes.batch_size, seed + 100)
    others = RandomChunks(tracks, sizes.seconds, sizes.further_steps * sizes.batch_size, seed + 200)
    torch.manual_seed(seed)
    optimizer, rows, judges = torch.optim.Adam(model.parameters(), FURTHER_RATE), [], None
    if name.startswith("adversarial"):
        judges = losses.Discriminators(paired=name.endswith("_paired"))
        judge_optimizer = torch.optim.Adam(judges.parameters(), 2e-4, betas=(0.5, 0.999))
    model.train()
    batches = process_batches(chunks, sizes.batch_size)(0), process_batches(others, sizes.batch_size)(0)
    for number, (sources, other) in enumerate(zip(*batches), 1):
        S, X = spectra(sources, sizes)
        masks = model(X.abs(), masks=True)
        ours, theirs = masks * X.abs().unsqueeze(1), S.abs()
        loss, row = losses.l2_freq(ours, theirs), {}
        if judges is not None:
            real, beside = theirs, X
            if name == "adversarial_unpaired":                     # real sources of other songs, judged by themselves
                real, beside = (part.abs() for part in spectra(other, sizes))
            row["discriminator"] = _update(judge_optimizer, judges.loss(ours, real, X.abs(), beside.abs()))
            extra = judges.separation_loss(ours, X.abs())
        elif network is not None:
            estimates = istft(masks * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, sources.shape[-1])
            seen = slice(0, round(sizes.feature_seconds * RATE))
            pair = (torchaudio.functional.resample(x[..., seen], RATE, network.rate) for x in (estimates, sources))
            extra = getattr(losses, name)(*pair, network)
        else:
            extra = torch.zeros(())
        if number == 1:
            gamma = float(loss.detach() / extra.detach()) if extra > 0 else 0.0
        row = {"step": number, "l2": float(loss.detach()), "extra": float(extra.detach()), **row}
        row["loss"] = _update(optimizer, loss + gamma * extra, model, sizes.clip)
        rows.append(row)
    return rows


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, model: nn.Module | None = None, clip: float = 5.0) -> float:
    optimizer.zero_grad()
    loss.backward()
    if model is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


# ------------------------------------------------------------------------------------------------------- all the runs

RUN_FIELDS = ("loss", "rate", "seed", "steps", "valid_sdr", "test_sdr", *(f"test_{stem}" for stem in STEMS),
              "test_sdr_masks", "last_loss", "seconds", "songs", "machine", "date")
LOG_FIELDS = ("loss", "rate", "seed", "step", "value")
METRIC_FIELDS = ("loss", "rate", "seed", "song", "stem", "metric", "value")


class Results:
    """The files of an experiment: rows are appended whole, under a lock, so that two processes may share the work."""

    def __init__(self, folder: Path, weights: Path):
        self.folder, self.weights = folder, weights
        folder.mkdir(parents=True, exist_ok=True)
        weights.mkdir(parents=True, exist_ok=True)

    def append(self, name: str, fields: Sequence[str], rows: Sequence[Mapping]) -> None:
        with (self.folder / f"losses_{name}.csv").open("a", encoding="utf8", newline="") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            writer = csv.DictWriter(file, fields)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)

    def rows(self, name: str) -> list[dict[str, str]]:
        path = self.folder / f"losses_{name}.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf8", newline="") as file:
            return list(csv.DictReader(file))

    def done(self, loss: str, rate: float, seed: int, name: str = "runs") -> dict[str, str] | None:
        """The row of a run, if there is one."""
        return next((row for row in self.rows(name) if row["loss"] == loss and float(row["rate"]) == rate
                     and int(row["seed"]) == seed), None)

    def check(self, sizes: Sizes) -> None:
        """ValueError where the runs that are there had another number of steps: they can't be compared with new ones."""
        for row in self.rows("runs"):
            steps = sizes.steps + sizes.further_steps * (row["loss"] in FURTHER)
            if int(row["steps"]) != steps:
                raise ValueError(f"losses_runs.csv has {row['loss']} after {row['steps']} steps, not {steps}; move the "
                                 "old losses_*.csv away first")

    def weight_file(self, loss: str, rate: float, seed: int) -> Path:
        return self.weights / f"{loss}_{rate:g}_{seed}.pt"


def best_rate(rows: Sequence[Mapping[str, str]], loss: str, rates: Sequence[float] = RATES) -> float:
    """The rate whose run with seed 0 has the best validation SDR; a run that failed (NaN) never wins."""
    of = {float(row["rate"]): float(row["valid_sdr"]) for row in rows if row["loss"] == loss and int(row["seed"]) == 0}
    missing = [rate for rate in rates if rate not in of]
    if missing:
        raise ValueError(f"loss {loss!r} has no run with seed 0 at {missing}; run them before choosing")
    return max(rates, key=lambda rate: -np.inf if np.isnan(of[rate]) else of[rate])


class Experiment:
    """The songs, the sizes and the results of one run of the experiment."""

    def __init__(self, sizes: Sizes, results: Results, cache: Path):
        self.sizes, self.results = sizes, results
        self.train_tracks, self.valid_tracks, self.test_tracks = (
            mono_songs(split, count, cache, sizes.song_seconds) for split, count in
            (("train", sizes.train_songs), ("valid", sizes.valid_songs), ("test", sizes.test_songs)))
        self.statistics = input_statistics(self.train_tracks[:20], sizes.n_fft, sizes.hop_length)

    def run(self, loss: str, rate: float, seed: int) -> dict:
        """One run: train, score, write its rows, unless they are there."""
        if row := self.results.done(loss, rate, seed):
            return row
        began = time.perf_counter()
        model, log = train(KINDS[loss], self.train_tracks, self.sizes, rate, seed, self.statistics)
        torch.save(model.state_dict(), self.results.weight_file(loss, rate, seed))
        return self._finish(model, log, loss, rate, seed, self.sizes.steps, began)

    def _finish(self, model, log, loss, rate, seed, steps, began) -> dict:
        trained = time.perf_counter() - began
        valid, _ = sdr_tables(model, self.valid_tracks, self.sizes)
        test, unshared = sdr_tables(model, self.test_tracks, self.sizes)
        stems = test.nanmean(0)                                                             # (song, source) -> (source)
        row = {"loss": loss, "rate": rate, "seed": seed, "steps": steps, "valid_sdr": f"{valid.nanmean(0).mean():.3f}",
               "test_sdr": f"{stems.mean():.3f}", **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
               "test_sdr_masks": f"{unshared.nanmean(0).mean():.3f}", "last_loss": f"{np.mean([step['loss'] for step in log[-20:]]):.6g}", "seconds": f"{trained:.1f}",
               "songs": len(test), "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
        thinned = [{"loss": loss, "rate": rate, "seed": seed, "step": block[-1]["step"],
                    "value": f"{np.mean([step['loss'] for step in block]):.6g}"}
                   for block in (log[at:at + 10] for at in range(0, len(log), 10))]
        self.results.append("logs", LOG_FIELDS, thinned)
        self.results.append("runs", RUN_FIELDS, [row])
        print(f"{loss:>21} rate {rate:<6g} seed {seed}: valid {row['valid_sdr']}, test {row['test_sdr']} dB, {row['seconds']} s",
              flush=True)
        return row

    def run_further(self, name: str, seed: int) -> dict:
        """Go on from the l2_freq model of this seed with another term beside L2."""
        if row := self.results.done(name, FURTHER_RATE, seed):
            return row
        rate = best_rate(self.results.rows("runs"), "l2_freq")
        model = new_model(self.sizes, seed, self.statistics)
        model.load_state_dict(torch.load(self.results.weight_file("l2_freq", rate, seed), weights_only=True))
        network = losses.load_tagger() if name in ("deep_feature", "gram_style") else None
        began = time.perf_counter()
        log = train_further(name, model, self.train_tracks, self.sizes, seed, network)
        torch.save(model.state_dict(), self.results.weight_file(name, FURTHER_RATE, seed))
        return self._finish(model, log, name, FURTHER_RATE, seed, self.sizes.steps + self.sizes.further_steps, began)

    def measure(self, loss: str, rate: float, seed: int, network: nn.Module) -> None:
        """Every loss as a metric of one run's separations."""
        file = self.results.weight_file(loss, rate, seed)
        if not file.is_file() or self.results.done(loss, rate, seed, "metrics"):
            return
        model = new_model(self.sizes, seed, self.statistics)
        model.load_state_dict(torch.load(file, weights_only=True))
        rows = loss_metrics(model, self.test_tracks[:self.sizes.metric_songs], self.sizes, network)
        self.results.append("metrics", METRIC_FIELDS, [{"loss": loss, "rate": rate, "seed": seed, **row} for row in rows])


def machine() -> str:
    from course_lib.training.command import machine
    return machine()


def run(only: Sequence[str] | None = None, threads: int = 1, sizes: Sizes | None = None, folder: Path | None = None,
        source_cache: Path | None = None) -> Results:
    """Run what isn't done yet: best rates first, then the other seeds, then the paper's rates, then the rest."""
    unknown = set(only or ()) - set(KINDS) - set(FURTHER) - {"metrics"}
    if unknown:
        raise ValueError(f"only is {sorted(unknown)}; expected names among {', '.join([*KINDS, *FURTHER, 'metrics'])}")
    torch.set_num_threads(threads)
    sizes = sizes or Sizes()
    cache = source_cache or data_dir() / "training" / "losses"
    results = Results(folder or (repository_root() or Path.cwd()) / "data" / "results", cache / "weights")
    results.check(sizes)
    experiment = Experiment(sizes, results, cache)
    wanted = [loss for loss in KINDS if not only or loss in only]
    _write_card(results, sizes, experiment)
    write_bounds(results, experiment.test_tracks, sizes)
    for loss in wanted:
        for rate in RATES:
            experiment.run(loss, rate, SEEDS[0])
    for loss in wanted:
        for seed in SEEDS[1:]:
            experiment.run(loss, best_rate(results.rows("runs"), loss), seed)
    for loss in wanted:
        experiment.run(loss, KINDS[loss].paper_rate, SEEDS[0])
    for name in (name for name in FURTHER if not only or name in only):
        for seed in SEEDS:
            experiment.run_further(name, seed)
    if not only or "metrics" in only:
        network = losses.load_tagger()
        for loss in KINDS:
            if all(results.done(loss, rate, SEEDS[0]) for rate in RATES):
                experiment.measure(loss, best_rate(results.rows("runs"), loss), SEEDS[0], network)
        for name in FURTHER:
            experiment.measure(name, FURTHER_RATE, SEEDS[0], network)
    for loss in wanted:
        for seed in SEEDS[1:]:
            experiment.run(loss, KINDS[loss].paper_rate, seed)
    return results


@torch.no_grad()
def bounds(tracks: Sequence[Track], sizes: Sizes) -> dict[str, Tensor]:
    """SDR (song, source) of estimates that no loss made: a quarter of the mixture, and ideal masks, by name."""
    *_, S, X, references = outputs(_Quarter(), tracks, sizes, sizes.score_seconds)
    masks = {"a quarter of the mixture": torch.full_like(S.real, 0.25), "ideal ratio mask of magnitudes": ideal_ratio_mask(S, 1),
             "ideal ratio mask of energies": ideal_ratio_mask(S, 2)}
    return {name: song_sdr(istft(mask * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, references.shape[-1]), references)
            for name, mask in masks.items()}


class _Quarter(nn.Module):
    def forward(self, x: Tensor, masks: bool = True) -> Tensor:
        return x.unsqueeze(1).expand(-1, len(STEMS), -1, -1, -1) * 0 + 0.25


def write_bounds(results: Results, tracks: Sequence[Track], sizes: Sizes) -> None:
    """data/results/losses_bounds.csv, unless it is there."""
    if not results.rows("bounds"):
        rows = [{"method": name, "test_sdr": f"{table.nanmean(0).mean():.3f}",
                 **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, table.nanmean(0))}, "songs": len(table)}
                for name, table in bounds(tracks, sizes).items()]
        results.append("bounds", list(rows[0]), rows)


def read_card() -> dict:
    """What the results that come with the course rest on: sizes, rates, seeds, machine, date."""
    return json.loads(shipped_file("results/losses_card.json").read_text(encoding="utf8"))


def _write_card(results: Results, sizes: Sizes, experiment: Experiment) -> None:
    card = {"what": "one joint Open-Unmix (mono), trained with every loss of chapter 5", "command": "uv run course experiment losses",
            "trained_on": f"{sizes.train_songs} train songs of the band; rates chosen on {sizes.valid_songs} valid songs, "
                          f"scores on {sizes.test_songs} test songs, all of {sizes.song_seconds:g} s",
            "rate_hz": RATE, "sizes": asdict(sizes), "rates": RATES, "seeds": SEEDS, "machine": machine(),
            "parameters": sum(p.numel() for p in new_model(sizes, 0, None).parameters()),
            "score": f"SDR in dB of the middle {sizes.score_seconds:g} s of each song, mean over songs, then over stems",
            "date": time.strftime("%Y-%m-%d", time.gmtime())}
    path = results.folder / "losses_card.json"
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


__all__ = ["FURTHER", "KINDS", "RATES", "SEEDS", "Kind", "Sizes", "best_rate", "bounds", "mono_songs", "read_card", "run", "train"]
