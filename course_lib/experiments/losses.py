"""One small separator, trained with every loss of chapter 5 in turn: same data, same steps, same seeds.

What differs between two runs is the loss, its learning rate and the seed, nothing else. A learning rate suits a loss or
doesn't, whatever the loss is worth. So every loss is first run with one seed at all of RATES, then with all seeds at
the rates that came near the best on the validation songs, and at the paper's; `best_rate` chooses by the mean over
seeds. `course experiment losses` runs it all, `--only LOSS` a part; data/results/05_losses holds what came of it: a row
a run (runs), its loss every ten steps (logs, parts), its test songs (songs), every loss as a metric of it (metrics),
and a few seconds to listen to (excerpts).
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib import losses
from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.loaders import RandomChunks
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.experiments.runner import Experiment, Work
from course_lib.open_unmix import input_statistics
from course_lib.results import Results, machine, measured_card, shipped_file
from course_lib.spectral import ideal_ratio_mask, istft, song_sdr, stft
from course_lib.training import FitSettings, Part, fit, process_batches

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
    further_steps: int = 200          # of a pretrained model, with the adversarial and the feature losses
    feature_seconds: float = 1.0      # of each chunk, for the feature losses: the network they look through is large
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each valid and test song, for SDR
    metric_seconds: float = 5.0       # likewise, for the losses as metrics
    metric_songs: int = 8             # the first of the test songs
    excerpt_song: int = 0             # of the test songs, whose vocals are kept to listen to
    excerpt_seconds: float = 3.0
    clip: float = 5.0                 # largest norm of the gradient


@dataclass(frozen=True)
class Kind:
    """A loss and what it compares (see `losses.compared`); the paper's learning rate."""

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
    "dissimilarity": Kind(losses.dissimilarity, "magnitudes"),
    "mrs": Kind(partial(losses.mrs, resolutions=RESOLUTIONS), "waveforms"),
}
RATES = (1e-3, 4e-3, 1.6e-2)
SEEDS = (0, 1, 2)
REACH = 0.2                           # dB under the best rate of the first seed at which a rate is run with all seeds
# What goes on from a model trained with l2_freq: L2 alone, with the adversarial terms, with the deep feature losses.
FURTHER = ("l2_freq_longer", "adversarial", "deep_feature")
FURTHER_RATE = 1e-3
DISCRIMINATOR_RATE = 2e-4             # DCGAN's, with its betas


@dataclass(frozen=True)
class Run:
    """One training: the name of a loss (of KINDS or FURTHER), Adam's rate, the seed."""

    loss: str
    rate: float
    seed: int


# ------------------------------------------------------------------------------------------------------------ the data

def mono_songs(
    split: str, count: int, cache: Path | None = None, seconds: float = 20.0, source: str = "band"
) -> list[Track]:
    """The first songs of a split as mono tracks at 22,050 Hz, their first `seconds`.

    cache: a folder that keeps them as .npy, from where they are mapped, not read, into memory; None: nothing is kept.
    """
    file = None if cache is None else cache / f"{source}_{split}_{count}_{seconds:g}s_{RATE}Hz.npy"
    return mono_tracks(lambda: open_tracks(source, split, count=count), RATE, seconds, file)


class Songs:
    """The songs of the three splits, and the input statistics of the training songs."""

    def __init__(self, sizes: Sizes, cache: Path):
        self.train, self.valid, self.test = (mono_songs(split, count, cache, sizes.song_seconds) for split, count in (
            ("train", sizes.train_songs), ("valid", sizes.valid_songs), ("test", sizes.test_songs)))
        self.statistics = input_statistics(self.train[:20], sizes.n_fft, sizes.hop_length)


# --------------------------------------------------------------------------------------------------- model and training

def new_model(sizes: Sizes, seed: int, statistics: tuple[Tensor, Tensor] | None) -> losses.MaskedUnmix:
    torch.manual_seed(seed)
    model = losses.MaskedUnmix(sizes.n_fft // 2 + 1, 1, sizes.hidden_size, sizes.nb_layers)
    if statistics is not None:
        model.set_input_statistics(*statistics)
    return model


def train(
    kind: Kind,
    tracks: Sequence[Track],
    sizes: Sizes,
    rate: float,
    seed: int,
    statistics: tuple[Tensor, Tensor] | None = None,
    progress: bool = False,
) -> tuple[losses.MaskedUnmix, list[dict]]:
    """Train a new model with one loss; return it and its log, a row a step.

    rate: Adam's. The seed sets the initial weights, the chunks and the dropout: alike for all losses.
    """
    model = new_model(sizes, seed, statistics)
    chunks = RandomChunks(tracks, sizes.seconds, sizes.steps * sizes.batch_size, seed)
    torch.manual_seed(seed)
    history = fit(model, losses.LossStep(kind.function, kind.compares, sizes.n_fft, sizes.hop_length),
                  process_batches(chunks, sizes.batch_size), torch.optim.Adam(model.parameters(), rate),
                  FitSettings(sizes.steps, clip=sizes.clip), progress=progress)
    return model, history.steps


def train_further(name: str, model: losses.MaskedUnmix, tracks: Sequence[Track], sizes: Sizes, seed: int,
                  network: nn.Module | None = None, progress: bool = False) -> list[dict]:
    """Go on from a pretrained model with one of FURTHER; returns the log.

    network: that `deep_feature` looks through. All three see the same paired chunks.
    """
    count, parts = sizes.further_steps * sizes.batch_size, []
    paired, mixtures, others = (RandomChunks(tracks, sizes.seconds, count, seed + more) for more in (100, 200, 300))
    data, step = paired, losses.LossStep(losses.l2_freq, "magnitudes", sizes.n_fft, sizes.hop_length)
    torch.manual_seed(seed)
    if name == "adversarial":
        discriminators = losses.Discriminators()
        turns = losses.AdversarialSteps(discriminators, sizes.n_fft, sizes.hop_length)
        data, step = losses.PairedAndUnpaired(paired, mixtures, others), turns.separator
        optimizer = torch.optim.Adam(discriminators.parameters(), DISCRIMINATOR_RATE, betas=(0.5, 0.999))
        parts = [Part("discriminator", discriminators, optimizer, turns.discriminator)]
    elif name == "deep_feature":
        step = losses.DeepFeatureStep(network, RATE, sizes.feature_seconds, sizes.n_fft, sizes.hop_length)
    torch.manual_seed(seed)
    history = fit(model, step, process_batches(data, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), FURTHER_RATE), FitSettings(sizes.further_steps, clip=sizes.clip),
                  parts=parts, progress=progress)
    return history.steps


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
    S = stft(references, sizes.n_fft, sizes.hop_length)
    X = S.sum(1)
    return model(X.abs()), S, X, references


def waves(masks: Tensor, X: Tensor, sizes: Sizes, frames: int) -> Tensor:
    """Masks on a mixture's spectrum as sound: (song, source, channel, time)."""
    return istft(masks * X.unsqueeze(1), sizes.n_fft, sizes.hop_length, frames)


@torch.no_grad()
def sdr_tables(model: nn.Module, tracks: Sequence[Track], sizes: Sizes) -> tuple[Tensor, Tensor]:
    """SDR of every song and source, (song, source): with the masks made shares, and with the masks as they are."""
    tables = []
    for at in range(0, len(tracks), 5):
        masks, _, X, references = outputs(model, tracks[at:at + 5], sizes, sizes.score_seconds)
        tables.append(
            [song_sdr(waves(of, X, sizes, references.shape[-1]), references) for of in (shares(masks), masks)]
        )
    return tuple(torch.cat(part) for part in zip(*tables))


@torch.no_grad()
def loss_metrics(model: nn.Module, tracks: Sequence[Track], sizes: Sizes, network: nn.Module) -> list[dict]:
    """Every loss as a metric: its value on a piece of each test song, of each source; rows song, stem, metric,
    value.
    """
    masks, S, X, references = outputs(model, tracks, sizes, sizes.metric_seconds)
    masks = shares(masks)
    estimates = waves(masks, X, sizes, references.shape[-1])
    sdr = song_sdr(estimates, references)
    ours_16k, theirs_16k = (resample(x, RATE, network.rate) for x in (estimates, references))
    rows = []
    for song in range(len(tracks)):
        of = lambda x: x[song:song + 1]                                                     # noqa: B023,E731
        for place, stem in enumerate(STEMS):
            values = {"sdr": float(sdr[song, place])}
            for name, kind in KINDS.items():
                ours, theirs = losses.compared(kind.compares, of(masks), of(S), of(references), sizes.hop_length)
                if name == "dissimilarity":
                    order = [place, *(other for other in range(len(STEMS)) if other != place)]
                    values[name] = float(_dissimilarity_of_first(ours[:, order], theirs[:, order]))
                else:
                    more = (of(X),) if kind.compares == "spectra" else ()  # the phase, where a mask is 0
                    values[name] = float(kind.function(ours[:, place:place + 1], theirs[:, place:place + 1], *more))
            pair = of(ours_16k)[:, place:place + 1], of(theirs_16k)[:, place:place + 1]
            values["deep_feature"], values["gram_style"] = (
                float(value) for value in losses.feature_and_style(*pair, network)
            )
            rows += [
                {"song": song, "stem": stem, "metric": name, "value": f"{value:.6g}"} for name, value in values.items()
            ]
    return rows


def _dissimilarity_of_first(estimates: Tensor, references: Tensor, beta: float = 1 / 30) -> Tensor:
    """The dissimilarity loss of the first source alone."""
    distances = (estimates[:, :1] - references).square().mean((0, 2, 3, 4))                 # (source,)
    return distances[0] - beta * distances[1:].sum()


@torch.no_grad()
def excerpt(model: nn.Module, track: Track, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of a song to listen to: the estimated vocals, the true ones and the mixture, each (1, time)."""
    masks, _, X, references = outputs(model, [track], sizes, sizes.score_seconds)
    frames, place = round(sizes.excerpt_seconds * RATE), STEMS.index("vocals")
    start = (references.shape[-1] - frames) // 2
    estimates = waves(shares(masks), X, sizes, references.shape[-1])
    return tuple(
        x[..., start : start + frames] for x in (estimates[0, place], references[0, place], references[0].sum(0))
    )


# ------------------------------------------------------------------------------------------------------- all the runs

def rates_of(rows: Sequence[Mapping[str, str]], loss: str) -> dict[float, list[float]]:
    """The validation SDRs of a loss by rate, one a seed; failed runs (NaN) count as the worst there can be."""
    found: dict[float, list[float]] = {}
    for row in rows:
        if row["loss"] == loss:
            valid = float(row["valid_sdr"])
            found.setdefault(float(row["rate"]), []).append(-np.inf if np.isnan(valid) else valid)
    return found


def best_rate(rows: Sequence[Mapping[str, str]], loss: str) -> float:
    """Of the rates that were run with the most seeds, the one with the best mean SDR on the validation songs.

    ValueError where the loss has no run.
    """
    of = rates_of(rows, loss)
    if not of:
        raise ValueError(f"loss {loss!r} has no run; run some before choosing a rate")
    most = max(map(len, of.values()))
    return max((rate for rate, valid in of.items() if len(valid) == most), key=lambda rate: float(np.mean(of[rate])))


def first_seed(work: Work) -> list[Run]:
    """Every loss at every rate, and what follows from l2_freq, with the first seed."""
    return [Run(loss, rate, SEEDS[0]) for loss in KINDS for rate in RATES]


def first_further(work: Work) -> list[Run]:
    """The adversarial and the feature losses with the first seed."""
    return [Run(loss, FURTHER_RATE, SEEDS[0]) for loss in FURTHER]


def within_reach(work: Work) -> list[Run]:
    """The other seeds at every rate that was within REACH of the best with the first seed."""
    runs, first = [], [row for row in work.rows() if int(row["seed"]) == SEEDS[0]]
    for loss in KINDS:
        of = {rate: valid[0] for rate, valid in rates_of(first, loss).items()}
        runs += [
            Run(loss, rate, seed)
            for rate, valid in of.items()
            if valid >= max(of.values()) - REACH
            for seed in SEEDS[1:]
        ]
    return runs


def paper_rates(work: Work) -> list[Run]:
    """Every loss at the paper's rate, with every seed."""
    return [Run(loss, kind.paper_rate, seed) for loss, kind in KINDS.items() for seed in SEEDS]


def further(work: Work) -> list[Run]:
    """The other seeds of the adversarial and the feature losses."""
    return [Run(loss, FURTHER_RATE, seed) for loss in FURTHER for seed in SEEDS[1:]]


def listening(work: Work) -> list[Run]:
    """No runs: keeps the excerpts of the best runs whose weights are on this machine, and the bounds."""
    if not work.results.rows("bounds"):
        work.results.write("bounds", bound_rows(work.given.test, work.settings))
    rows, track = work.rows(), work.given.test[work.settings.excerpt_song]
    for loss in [name for name in (*KINDS, *FURTHER) if rates_of(rows, name)]:
        run = Run(loss, best_rate(rows, loss), SEEDS[0])
        if weight_file(work, run).is_file():
            estimate, truth, mixture = excerpt(_load(work, run), track, work.settings)
            for name, sound in ((loss, estimate), ("truth", truth), ("mixture", mixture)):
                write_excerpt(work.results, name, sound)
    if (work.results.folder / "excerpts").is_dir():
        work.results.write_card(
            "excerpts",
            {
                "what": f"vocals of the band's test song {track.name}, middle {work.settings.excerpt_seconds:g} s, by "
                f"the model of each "
                f"loss at its best rate (seed {SEEDS[0]}); truth and mixture",
                "command": EXPERIMENT.command,
                "rate_hz": RATE,
                "format": "Ogg Vorbis, mono",
            },
        )
    return []


def weight_file(work: Work, run: Run) -> Path:
    return work.cache / "weights" / f"{run.loss}_{run.rate:g}_{run.seed}.pt"


def _load(work: Work, run: Run) -> losses.MaskedUnmix:
    """The model of a run from this machine's cache; FileNotFoundError where the run was made elsewhere."""
    path = weight_file(work, run)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights of {run.loss} at {run.rate:g}, seed {run.seed}, in {path.parent.name}; they are not "
            f"shipped: {EXPERIMENT.command} --only {run.loss} --afresh makes them"
        )
    model = new_model(work.settings, run.seed, work.given.statistics)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs = work.settings, work.given
    steps = sizes.steps + sizes.further_steps * (run.loss in FURTHER)
    began = time.perf_counter()
    if run.loss in FURTHER:
        model = _pretrained(work, run.seed)
        network = losses.load_tagger() if run.loss == "deep_feature" else None
        log = train_further(run.loss, model, songs.train, sizes, run.seed, network)
    else:
        model, log = train(KINDS[run.loss], songs.train, sizes, run.rate, run.seed, songs.statistics)
    seconds = time.perf_counter() - began
    weight_file(work, run).parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), weight_file(work, run))
    valid, _ = sdr_tables(model, songs.valid, sizes)
    test, unshared = sdr_tables(model, songs.test, sizes)
    stems = test.nanmean(0)                                                             # (song, source) -> (source)
    rows = {
        "logs": thinned(log, ["loss"]),
        "songs": [
            {"song": track.name, **{stem: f"{value:.3f}" for stem, value in zip(STEMS, song)}}
            for track, song in zip(songs.test, test)
        ],
    }
    if run.loss in FURTHER:
        rows["parts"] = thinned(log, [name for name in log[0] if name not in ("step", "seconds", "loss")])
    if run.seed == SEEDS[0]:
        rows["metrics"] = loss_metrics(model, songs.test[:sizes.metric_songs], sizes, losses.load_tagger())
    rows["runs"] = [
        {
            "steps": steps,
            "valid_sdr": f"{valid.nanmean(0).mean():.3f}",
            "test_sdr": f"{stems.mean():.3f}",
            **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
            "test_sdr_masks": f"{unshared.nanmean(0).mean():.3f}",
            "last_loss": f"{np.mean([row['loss'] for row in log[-20:]]):.6g}",
            "seconds": f"{seconds:.1f}",
            "songs": len(test),
            "machine": machine(),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
        }
    ]
    print(f"  valid {rows['runs'][0]['valid_sdr']}, test {rows['runs'][0]['test_sdr']} dB, {seconds:.0f} s", flush=True)
    return rows


def _pretrained(work: Work, seed: int) -> losses.MaskedUnmix:
    """The l2_freq model of a seed at the best rate; trained again where its weights are not on this machine."""
    run = Run("l2_freq", best_rate(work.rows(), "l2_freq"), seed)
    if weight_file(work, run).is_file():
        return _load(work, run)
    model, _ = train(KINDS["l2_freq"], work.given.train, work.settings, run.rate, seed, work.given.statistics)
    weight_file(work, run).parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), weight_file(work, run))
    return model


def thinned(log: Sequence[Mapping], names: Sequence[str], every: int = 10) -> list[dict]:
    """Means of each `every` steps of a log: rows step, value; with the part's name where it isn't the loss alone."""
    blocks = [log[at:at + every] for at in range(0, len(log), every)]
    return [{"step": block[-1]["step"], **({} if name == "loss" else {"part": name}),
             "value": f"{np.mean([row[name] for row in block]):.6g}"} for name in names for block in blocks]


# ------------------------------------------------------------------------------------------------ bounds and excerpts

@torch.no_grad()
def bounds(tracks: Sequence[Track], sizes: Sizes) -> dict[str, Tensor]:
    """SDR (song, source) of estimates that no loss made: a quarter of the mixture, and ideal masks, by name."""
    *_, S, X, references = outputs(_Quarter(), tracks, sizes, sizes.score_seconds)
    masks = {
        "a quarter of the mixture": torch.full_like(S.real, 0.25),
        "ideal ratio mask of magnitudes": ideal_ratio_mask(S, 1),
        "ideal ratio mask of energies": ideal_ratio_mask(S, 2),
    }
    return {name: song_sdr(waves(mask, X, sizes, references.shape[-1]), references) for name, mask in masks.items()}


class _Quarter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, len(STEMS), -1, -1, -1) * 0 + 0.25


def bound_rows(tracks: Sequence[Track], sizes: Sizes) -> list[dict]:
    """The rows of the table of bounds."""
    return [{"method": name, "test_sdr": f"{table.nanmean(0).mean():.3f}",
             **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, table.nanmean(0))}, "songs": len(table)}
            for name, table in bounds(tracks, sizes).items()]


def write_excerpt(results: Results, name: str, sound: Tensor) -> None:
    """Keep a sound (channel, time) as excerpts/NAME.ogg, a few kilobytes."""
    import soundfile

    path, stream = results.folder / "excerpts" / f"{name}.ogg", io.BytesIO()
    soundfile.write(stream, sound.clamp(-1, 1).T.numpy(), RATE, format="OGG", subtype="VORBIS", compression_level=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


def read_excerpt(name: str) -> Tensor | None:
    """The excerpt of a loss, or "truth" or "mixture": (channel, time) at RATE; None where none was kept."""
    import soundfile

    try:
        path = shipped_file(f"results/05_losses/excerpts/{name}.ogg")
    except FileNotFoundError:
        return None
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T.copy())


def read_card() -> dict:
    """What the results that come with the course rest on: settings, rates, seeds, machine, date."""
    return measured_card("05_losses/runs")


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {
        "trained_on": f"{sizes.train_songs} train songs of the band; rates chosen on {sizes.valid_songs} valid songs, "
        f"scores on {sizes.test_songs} test songs, all of {sizes.song_seconds:g} s",
        "rate_hz": RATE,
        "rates": RATES,
        "seeds": SEEDS,
        "reach_db": REACH,
        "parameters": sum(p.numel() for p in new_model(sizes, 0, None).parameters()),
        "score": f"SDR in dB of the middle {sizes.score_seconds:g} s of each song, mean over songs, then over stems",
    }


EXPERIMENT = Experiment(
    name="losses",
    what="one joint Open-Unmix (mono), trained with every loss of chapter 5",
    topic="05_losses",
    stages=[first_seed, first_further, within_reach, paper_rates, further, listening],
    run=one_run,
    settings=Sizes(),
    prepare=Songs,
    names=(*KINDS, *FURTHER),
    facts=facts,
)

__all__ = [
    "EXPERIMENT",
    "FURTHER",
    "FURTHER_RATE",
    "KINDS",
    "RATE",
    "RATES",
    "SEEDS",
    "Kind",
    "Run",
    "Sizes",
    "best_rate",
    "bounds",
    "mono_songs",
    "rates_of",
    "read_card",
    "read_excerpt",
    "train",
    "train_further",
]
