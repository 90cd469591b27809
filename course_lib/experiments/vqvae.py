"""Chapter 10's small VQ-VAE with one part changed at a time, at several sizes of the codebook, and its bounds.

`course experiment vqvae` trains each variant on the band's songs, mono at 22,050 Hz, with two seeds, and rebuilds the
test songs. data/results/10_vq_vae holds what came of it: a row a run (runs), its test songs (songs), its loss and
perplexity on the way (logs), and what needs no training of that kind (bounds): k-means on stretches of the waveform,
and on the vectors of the autoencoder that has no quantiser. `course train vqvae_band_256` (or _16) and
`course train autoencoder_band` train what comes with the course, longer, on the chunks of `training_chunks`.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.data import RandomChunks, Track
from course_lib.experiments.demucs import RATE, middle, songs_of
from course_lib.experiments.runner import Experiment, Work
from course_lib.metrics import snr
from course_lib.paths import data_dir
from course_lib.results import machine
from course_lib.training import FitSettings, fit, process_batches
from course_lib.training.schedules import cosine
from course_lib.vqvae import (
    Quantised,
    SmallVQVAE,
    VQVAEStep,
    code_counts,
    dequantise,
    kmeans,
    nearest_codes,
    perplexity,
)

POWER = 0.0376  # mean square of the band's training mixtures at RATE, a fixed scale of the loss
SIZES = (16, 64, 256, 1024)


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    dim: int = 16
    channels: int = 32
    blocks: int = 2
    seconds: float = 0.375  # of a chunk
    batch_size: int = 8
    steps: int = 200
    rate: float = 2e-3  # Adam's, by a cosine to a fiftieth of it
    warmup: int = 30
    clip: float = 5.0
    train_songs: int = 60
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 4.0
    log_every: int = 10
    kmeans_vectors: int = 20_000
    kmeans_steps: int = 20
    seeds: int = 2


@dataclass(frozen=True)
class Variant:
    """What differs from the base: arguments of the network, weights of the losses, the gradient's way."""

    model: dict = field(default_factory=dict)
    step: dict = field(default_factory=dict)
    through: bool = True


BASE = "EMA, restarts"
VARIANTS: dict[str, Variant] = {
    BASE: Variant(),
    "unquantised": Variant(),  # only with size 0
    "EMA, no restarts": Variant({"restart_below": 0.0}),
    "gradient, restarts": Variant({"quantizer": "gradient", "restart_below": 1.0}),
    "gradient, no restarts": Variant({"quantizer": "gradient", "restart_below": 0.0}),
    "no codebook loss": Variant({"quantizer": "gradient", "restart_below": 0.0}, {"codebook": 0.0}),
    "no commitment loss": Variant({}, {"beta": 0.0}),
    "beta 2": Variant({}, {"beta": 2.0}),
    "no straight-through": Variant(through=False),
}


@dataclass(frozen=True)
class Run:
    """One training: the variant, the number of codes (0: none), the seed."""

    variant: str
    size: int
    seed: int


class Songs:
    """The songs that are trained on, and the middles of those that are scored."""

    def __init__(self, sizes: Sizes, cache: Path | None):
        self.train = songs_of("train", sizes.train_songs, sizes.song_seconds, cache)
        self.test = [middle(track, sizes.score_seconds)
                     for track in songs_of("test", sizes.test_songs, sizes.song_seconds, cache)]


def training_chunks(seed: int, length: int, seconds: float = 0.375) -> RandomChunks:
    """The training data of `course train vqvae_band_256` and its sisters: chunks of the band's training songs."""
    return RandomChunks(songs_of("train", 60, 20.0, data_dir() / "training" / "demucs"), seconds, length, seed)


def valid_songs(count: int = 12) -> list[Track]:
    """The middles of the validation songs."""
    return [middle(track, 6.0) for track in songs_of("valid", count, 20.0, data_dir() / "training" / "demucs")]


# ------------------------------------------------------------------------------------------------------------ training


def cut_gradient(quantizer: nn.Module, given: tuple, found: Quantised) -> Quantised:
    """A forward hook of a quantiser: without the straight-through gradient, none passes it."""
    return found._replace(values=found.values.detach())


def new_model(run: Run, sizes: Sizes) -> SmallVQVAE:
    """The network of a run, its first weights drawn by the seed."""
    torch.manual_seed(run.seed)
    variant = VARIANTS[run.variant]
    model = SmallVQVAE(run.size, sizes.dim, sizes.channels, blocks=sizes.blocks, **variant.model)
    if not variant.through:
        model.quantizer.register_forward_hook(cut_gradient)
    return model


def train(run: Run, songs: Songs, sizes: Sizes) -> tuple[SmallVQVAE, list[dict]]:
    """Train a new network; return it in eval mode, and its log."""
    model = new_model(run, sizes)
    chunks = RandomChunks(songs.train, sizes.seconds, sizes.steps * sizes.batch_size, run.seed)
    step = VQVAEStep(power=POWER, **VARIANTS[run.variant].step)
    history = fit(model, step, process_batches(chunks, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), sizes.rate),
                  FitSettings(sizes.steps, clip=sizes.clip, validate_every=10**9),
                  schedule=cosine(sizes.steps, sizes.warmup, 0.02), progress=False)
    return model.eval(), history.steps


@torch.no_grad()
def scored(model: SmallVQVAE, songs: Sequence[Track]) -> tuple[list[float], dict[str, float]]:
    """SNR of every song in dB, and of all together: perplexity, used codes, sizes of z and of the codes."""
    scores, counts, squares = [], torch.zeros(max(1, model.size)), []
    for track in songs:
        x = track.mixture[None]  # (batch, channel, time)
        z = model.latents(x)
        found = None if model.quantizer is None else model.quantizer(z)
        y = model.decoder(z if found is None else found.values)[..., : x.shape[-1]]
        scores.append(float(snr(y[0, 0], x[0, 0])))
        squares.append(float(z.square().mean()))
        if found is not None:
            counts += code_counts(found.codes, model.size)
    facts = {"perplexity": math.nan, "used": 0, "codes_rms": math.nan}
    if model.quantizer is not None:
        used = counts > 0
        facts = {"perplexity": float(perplexity(counts)), "used": int(used.sum()),
                 "codes_rms": float(model.quantizer.codebook[used].square().mean().sqrt())}
    return scores, {**facts, "z_rms": math.sqrt(sum(squares) / len(squares))}


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score one network."""
    sizes, began = work.settings, time.process_time()
    model, log = train(run, work.given, sizes)
    scores, facts = scored(model, work.given.test)
    row = {"snr": f"{sum(scores) / len(scores):.4f}", "perplexity": f"{facts['perplexity']:.2f}",
           "used": facts["used"], "z_rms": f"{facts['z_rms']:.4g}", "codes_rms": f"{facts['codes_rms']:.4g}",
           "cpu_seconds": round(time.process_time() - began), "machine": machine(),
           "date": time.strftime("%Y-%m-%d", time.gmtime())}
    rows = {"runs": [row],
            "songs": [{"song": track.name, "song_snr": f"{score:.4f}"}
                      for track, score in zip(work.given.test, scores)],
            "logs": [{"step": line["step"], **{name: f"{line[name]:.4g}" if name in line else ""
                                               for name in ("reconstruction", "commitment", "perplexity")}}
                     for line in log if line["step"] % sizes.log_every == 0 or line["step"] == 1]}
    if run.variant == "unquantised":
        rows["bounds"] = bounds(run, model, work)
    return rows


# -------------------------------------------------------------------------------------------------------------- bounds


def stretches(x: Tensor, length: int) -> Tensor:
    """(1, time) as vectors of `length` samples, what is left over at the end left out: (vector, length)."""
    return x[0, : x.shape[-1] // length * length].unflatten(0, (-1, length))


@torch.no_grad()
def bounds(run: Run, model: SmallVQVAE, work: Work) -> list[dict]:
    """K-means on the waveform, and on the vectors of an autoencoder, each song's SNR at every size."""
    sizes, songs, rows = work.settings, work.given, []
    generator = torch.Generator().manual_seed(run.seed)
    hop = model.hop_length
    waves = torch.cat([stretches(track.mixture, hop) for track in songs.train])
    latents = torch.cat([model.latents(track.mixture[None, :, : 3 * RATE])[0].T for track in songs.train])

    def some(vectors: Tensor) -> Tensor:
        return vectors[torch.randperm(len(vectors), generator=generator)[: sizes.kmeans_vectors]]

    waves, latents = some(waves), some(latents)
    for size in SIZES:
        for method, vectors in (("k-means on samples", waves), ("k-means on latents", latents)):
            codebook = kmeans(vectors, size, sizes.kmeans_steps, generator)
            for track in songs.test:
                x = track.mixture
                if method == "k-means on samples":
                    whole = stretches(x, hop)
                    y = dequantise(nearest_codes(whole, codebook), codebook).flatten()
                else:
                    z = model.latents(x[None])[0].T
                    y = model.decoder(dequantise(nearest_codes(z, codebook), codebook).T[None])[0, 0]
                length = min(len(y), x.shape[-1])
                score = float(snr(y[:length], x[0, :length]))
                rows.append({"method": method, "codes": size, "song": track.name, "song_snr": f"{score:.4f}"})
    return rows


def all_runs(work: Work) -> list[Run]:
    """Every size with the base, no codes at all, and 256 codes with one thing changed."""
    seeds = range(work.settings.seeds)
    runs = [Run(BASE, size, seed) for size in SIZES for seed in seeds]
    runs += [Run("unquantised", 0, seed) for seed in seeds]
    return runs + [Run(name, 256, seed) for name in VARIANTS if name not in (BASE, "unquantised") for seed in seeds]


def prepare(sizes: Sizes, cache: Path) -> Songs:
    """The songs, kept where chapter 6 keeps them."""
    return Songs(sizes, cache.parent / "demucs")


EXPERIMENT = Experiment(name="vqvae", what="a small VQ-VAE with one part changed at a time, and its bounds",
                        topic="10_vq_vae", stages=[all_runs], run=one_run, settings=Sizes(), table="runs",
                        prepare=prepare, names=tuple(VARIANTS))

__all__ = ["EXPERIMENT", "RATE", "SIZES", "VARIANTS", "Run", "Sizes", "Songs", "middle", "new_model", "scored",
           "songs_of", "stretches", "train", "training_chunks", "valid_songs"]
