"""Chapter 6's Demucs in miniature: the paper's ablations with equal steps, the shift trick, bits, and the bounds.

What differs between two runs is one thing and the seed: a part of the network, the loss, the songs, or how weights are
stored (VARIANTS). Everything else is `Sizes`: mono songs at 22,050 Hz, a network of a few million weights, minutes of
training. `course experiment demucs` runs it all, `--only VARIANT` a part; data/results/06_demucs holds what came of it:
a row a run (runs), its test songs (songs), its loss (logs), what it gives for silence (silence), the shift trick
(shifts) and coarser weights (bits) of the first base run, and the bounds on the same songs (bounds).
`course train demucs_band` trains the network that comes with the course, on the chunks of `training_chunks`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.data import STEMS, Remix, Track, open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.demucs import (
    DemucsV2,
    DiffQ,
    DiffQStep,
    WaveformStep,
    center_trim,
    quantise,
    repitch,
    separate,
    with_linear_upsampling,
)
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, LOWEST, RULES, ModelSeparator, bounds, estimates_of
from course_lib.paths import data_dir
from course_lib.progress import progress
from course_lib.results import machine, shipped_file
from course_lib.spectral import song_sdr
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

RATE = 22_050
OURS, UNMIX = "demucs_band", "open_unmix_band"           # committed checkpoints


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    channels: int = 16
    depth: int = 5
    batch_size: int = 4
    seconds: float = 1.5              # of a chunk, before it is lengthened to a valid length
    steps: int = 400
    rate: float = 1e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0                 # largest norm of the gradient
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    repitched: int = 4                # of the repitch variant: one song in 1 + so many is another pitch and tempo
    bits_rate: float = 1e-2           # Adam's, for the bits of DiffQ
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each valid and test song
    silence_seconds: float = 1.0
    shifts: tuple[int, ...] = (1, 10)
    bits: tuple[int, ...] = (8, 6, 5, 4, 3, 2)


@dataclass(frozen=True)
class Variant:
    """What differs from the base: arguments of the network, the loss, the songs, the way up, and of DiffQ the penalty
    per 2^20 bytes and the learning rate of its bits (None: that of `Sizes`).
    """

    model: Mapping[str, object] = field(default_factory=dict)
    loss: str = "l1"
    repitch: bool = False
    linear: bool = False
    penalty: float | None = None
    bits_rate: float | None = None


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "without LSTM": Variant({"lstm_layers": 0}),
    "without rescaling": Variant({"rescale": 0}),
    "without GLU": Variant({"glu": False}),
    "with MSE": Variant(loss="l2"),
    "with repitch": Variant(repitch=True),
    "with resampling": Variant({"resample": True}),
    "decoder kernel 1": Variant({"context": 1}),
    "linear interpolation": Variant(linear=True),
    "8 channels": Variant({"channels": 8}),
    "DiffQ": Variant(penalty=3e-3),
    # Adam moves a number by at most about its rate in a step, however large the penalty: at 1e-2 not far in 400 steps.
    "DiffQ, penalty 0.1": Variant(penalty=0.1),
    "DiffQ, penalty 1": Variant(penalty=1.0, bits_rate=4e-2),
}
SEEDS = {"base": (0, 1)}              # of the others only the first


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


# ------------------------------------------------------------------------------------------------------------ the data


def songs_of(split: str, count: int, seconds: float, cache: Path | None) -> list[Track]:
    """The first songs of a split of the band, mono at RATE; cache: a folder that keeps them."""
    file = None if cache is None else cache / f"{split}_{count}_{seconds:g}s_{RATE}Hz.npy"
    return mono_tracks(lambda: open_tracks("band", split, count=count), RATE, seconds, file)


def repitched(tracks: Sequence[Track], seed: int = 0) -> list[Track]:
    """Every song once more, all its stems moved alike by -2 to 2 semitones and -12 to 12% of tempo."""
    generator, moved = torch.Generator().manual_seed(seed), []
    for track in progress(tracks, "repitch"):
        semitones = int(torch.randint(-2, 3, (), generator=generator))
        tempo = 1 + 0.24 * (float(torch.rand((), generator=generator)) - 0.5)
        stems = repitch(track.sources(STEMS), semitones, tempo)                              # (source, channel, time)
        moved.append(Track.from_tensors(f"{track.name}, {semitones:+d}", track.rate, dict(zip(STEMS, stems))))
    return moved


def middle(track: Track, seconds: float) -> Track:
    """The middle of a song, or all of a shorter one."""
    return track.excerpt(max(0.0, (track.seconds - seconds) / 2), min(seconds, track.seconds))


class Songs:
    """The songs of the three splits, of valid and test their middles;
    the repitched training songs when they are asked for.
    """

    def __init__(self, sizes: Sizes, cache: Path):
        self.train, self.valid, self.test = (songs_of(split, count, sizes.song_seconds, cache) for split, count in (
            ("train", sizes.train_songs), ("valid", sizes.valid_songs), ("test", sizes.test_songs)))
        self.valid, self.test = (
            [middle(track, sizes.score_seconds) for track in tracks] for tracks in (self.valid, self.test)
        )
        self._cache = cache

    def repitched(self) -> list[Track]:
        file = self._cache / f"repitched_{len(self.train)}_{RATE}Hz.npy"
        return mono_tracks(lambda: repitched(self.train), RATE, math.inf, file)


def training_chunks(seed: int, length: int, seconds: float = 1.5, further: int = 0, remix: float = 0.5,
                    channels: int = 16, depth: int = 5) -> Remix:
    """The training data of `course train demucs_band`: chunks of the band's train songs and of `further` others.

    seconds: lengthened to a valid length of the network of `depth` layers. Kept in data/training/demucs.
    """
    cache = data_dir() / "training" / "demucs"
    tracks = songs_of("train", 60, 20.0, cache)
    if further:
        tracks += mono_tracks(lambda: open_tracks("band", "further", seeds=range(1000, 1000 + further)), RATE, 20.0,
                              cache / f"further_{further}_20s_{RATE}Hz.npy")
    return Remix(tracks, _valid_seconds(DemucsV2(STEMS, 1, channels, depth, resample=False), seconds), length, seed,
                 augment=Augmentation(), share=remix)


def valid_songs(count: int = 12) -> list[Track]:
    """The validation songs of `course train demucs_band`."""
    return songs_of("valid", count, 20.0, data_dir() / "training" / "demucs")


def _valid_seconds(model: DemucsV2, seconds: float) -> float:
    return model.valid_length(round(seconds * RATE)) / RATE


# --------------------------------------------------------------------------------------------------- model and training


def new_model(variant: Variant, sizes: Sizes, seed: int) -> nn.Module:
    """The network of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    arguments = {"audio_channels": 1, "channels": sizes.channels, "depth": sizes.depth, "resample": False,
                 "normalize": True, "samplerate": RATE, **variant.model}
    model = DemucsV2(STEMS, **arguments)
    model = with_linear_upsampling(model) if variant.linear else model
    return model if variant.penalty is None else DiffQ(model)


def train(variant: Variant, songs: Songs, sizes: Sizes, seed: int) -> tuple[nn.Module, list[dict]]:
    """Train a new network; return it in eval mode, and its log."""
    model = new_model(variant, sizes, seed)
    inner = model.inner if isinstance(model, DiffQ) else model
    tracks = songs.train * sizes.repitched + songs.repitched() if variant.repitch else songs.train
    chunks = Remix(tracks, _valid_seconds(inner, sizes.seconds), sizes.steps * sizes.batch_size, seed,
                   augment=Augmentation(), share=sizes.remix)
    step, groups = WaveformStep(variant.loss), [{"params": inner.parameters()}]
    if variant.penalty is not None:
        step = DiffQStep(step, variant.penalty)
        groups.append({"params": model.logits.parameters(), "lr": variant.bits_rate or sizes.bits_rate})
    history = fit(model, step, process_batches(chunks, sizes.batch_size), torch.optim.Adam(groups, sizes.rate),
                  FitSettings(sizes.steps, clip=sizes.clip), schedule=cosine(sizes.steps, sizes.warmup, 0.05),
                  progress=False)
    return model.eval(), history.steps


def plain(model: nn.Module) -> nn.Module:
    """The network itself; of a `DiffQ` its inner one, with the rounded weights put in."""
    if not isinstance(model, DiffQ):
        return model
    with torch.no_grad():
        tensors = dict(model.inner.named_parameters())
        for name, weights in model.eval().weights().items():
            tensors[name].copy_(weights)
    return model.inner


@torch.no_grad()
def rounded(model: DemucsV2, bits: int, group: int = 8) -> tuple[DemucsV2, float]:
    """A copy whose large weights are rounded to so many bits, without training; and its size in 2^20 bytes."""
    copy = DiffQ(_copy(model), group, init_bits=8.0)
    tensors, total = dict(copy.inner.named_parameters()), 0.0
    for name, p in tensors.items():
        total += p.numel() * (bits if name in copy.names else 32)
    for name in copy.names:
        p = tensors[name].view(-1, group)
        p.copy_(quantise(p, torch.full((len(p), 1), float(bits)), p.min(), p.max()))
    return copy.inner, total / (8 * 2 ** 20)


def _copy(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model)


# -------------------------------------------------------------------------------------------------------------- scores


@torch.no_grad()
def sdr_table(model: nn.Module, tracks: Sequence[Track], shifts: int = 0) -> Tensor:
    """SDR of every song and source: (song, source)."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([song_sdr(separate(model, track.mixture, shifts, generator=generator), track.sources(STEMS))
                        for track in tracks])


@torch.no_grad()
def silence_spectrum(model: DemucsV2, seconds: float) -> list[dict]:
    """What a network gives where its input is silent: rows source, hertz, level_db of its Fourier series.

    The network works on normalised mixtures, whose level is 1, so that decibels count from the mixture's level. Only
    lines above -80 dB are kept.
    """
    normalize, model.normalize = model.normalize, False
    y = separate(model, torch.zeros(1, round(seconds * RATE)))[:, 0]                             # (source, time)
    model.normalize = normalize
    y = y[:, y.shape[-1] // 4:-(y.shape[-1] // 4)]
    window = torch.hann_window(y.shape[-1])
    spectrum = torch.fft.rfft((y - y.mean(-1, keepdim=True)) * window).abs() * 2 / window.sum()
    levels = 20 * torch.log10(spectrum.clamp_min(1e-8))                                          # (source, bin)
    hertz = torch.fft.rfftfreq(y.shape[-1], 1 / RATE)
    return [{"source": stem, "hertz": f"{hertz[k]:.1f}", "level_db": f"{levels[j, k]:.1f}"}
            for j, stem in enumerate(STEMS) for k in (levels[j] > -80).nonzero().flatten().tolist()]


def rows_by_song(table: Tensor, tracks: Sequence[Track], **more) -> list[dict]:
    """A row a song, with a column a stem."""
    return [{**more, "song": track.name, **{stem: f"{value:.3f}" for stem, value in zip(STEMS, song)}}
            for track, song in zip(tracks, table)]


def bound_rows(songs: Songs, sizes: Sizes) -> list[dict]:
    """The bounds, chapter 4's Open-Unmix and chapter 6's longer training, on the same songs: rows method, song, stems.

    Open-Unmix hears the stereo songs at 44.1 kHz; what it gives is brought to mono and RATE as the references were.
    """
    known = bounds()
    ours, unmix = load_trained(OURS), ModelSeparator(load_trained(UNMIX))
    stereo = open_tracks("band", "test", count=sizes.test_songs)
    rows: list[dict] = []
    for track, full in zip(progress(songs.test, "bounds"), stereo):
        references = track.sources(STEMS)
        heard = unmix(middle(full, track.seconds).mixture, full.rate)
        estimates = {name: estimates_of(known[name], references, RATE) for name in (LOWEST, RULES, HIGHEST)}
        estimates["Open-Unmix"] = resample(heard.mean(1, keepdim=True), full.rate, RATE)
        estimates["Open-Unmix"] = center_trim(estimates["Open-Unmix"], track.frames)
        with torch.no_grad():
            estimates["Demucs, longer"] = separate(ours, track.mixture)
            estimates["Demucs, longer, 10 shifts"] = separate(ours, track.mixture, 10,
                                                              generator=torch.Generator().manual_seed(0))
        for method, estimate in estimates.items():
            rows += rows_by_song(song_sdr(estimate, references)[None], [track], method=method)
    return rows


# ------------------------------------------------------------------------------------------------------------ the runs


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds, the base first."""
    return [Run(variant, seed) for variant in VARIANTS for seed in SEEDS.get(variant, (0,))]


def references(work: Work) -> list[Run]:
    """No runs: keeps the table of bounds, anew where the committed weights are others."""
    digest = {name: file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) for name in (OURS, UNMIX)}
    card = work.results.card("bounds") or {}
    if card.get("weights") != digest or not work.results.rows("bounds"):
        work.results.write("bounds", bound_rows(work.given, work.settings))
        work.results.write_card(
            "bounds",
            {
                "what": f"SDR of the middle {work.settings.score_seconds:g} s of the band's test songs, mono at "
                f"22,050 Hz, by "
                "methods that no run of runs.csv trained",
                "command": EXPERIMENT.command,
                "weights": digest,
                "songs": work.settings.test_songs,
                "tables": ["bounds"],
            },
        )
    return []


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs, variant = work.settings, work.given, VARIANTS[run.variant]
    began = time.perf_counter()
    model, log = train(variant, songs, sizes, run.seed)
    seconds = time.perf_counter() - began
    with torch.no_grad():
        megabytes = float(model.megabytes()) if isinstance(model, DiffQ) else _float_megabytes(model)
    model = plain(model)
    valid, test = (sdr_table(model, tracks) for tracks in (songs.valid, songs.test))
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    rows = {"logs": thinned(log), "songs": rows_by_song(test, songs.test),
            "silence": silence_spectrum(model, sizes.silence_seconds) or [{"source": "", "hertz": "", "level_db": ""}]}
    if run == Run("base", 0):
        rows |= extras(model, songs, sizes)
    rows["runs"] = [{
        "steps": sizes.steps, "valid_sdr": f"{valid.nanmean(0).mean():.3f}", "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
        "parameters": sum(p.numel() for p in model.parameters()), "megabytes": f"{megabytes:.3f}",
        "last_loss": f"{np.mean([row['loss'] for row in log[-20:]]):.6g}", "seconds": f"{seconds:.1f}",
        "songs": len(test), "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]
    print(f"  valid {rows['runs'][0]['valid_sdr']}, test {rows['runs'][0]['test_sdr']} dB, {seconds:.0f} s", flush=True)
    return rows


def extras(model: DemucsV2, songs: Songs, sizes: Sizes) -> dict[str, list[dict]]:
    """Of the first base run: the shift trick, and weights of fewer bits; a row a song."""
    shifts = [row for count in sizes.shifts for row in rows_by_song(sdr_table(model, songs.test, count), songs.test,
                                                                    shifts=count)]
    bits = []
    for count in sizes.bits:
        coarse, megabytes = rounded(model, count)
        bits += rows_by_song(sdr_table(coarse, songs.test), songs.test, bits=count, megabytes=f"{megabytes:.3f}")
    return {"shifts": shifts, "bits": bits}


def _float_megabytes(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) * 4 / 2 ** 20


def thinned(log: Sequence[Mapping], every: int = 10) -> list[dict]:
    """Means of each `every` steps of a log: rows step, loss, megabytes (only of DiffQ)."""
    blocks = [log[at:at + every] for at in range(0, len(log), every)]
    mean: Callable[[list, str], str] = lambda block, name: f"{np.mean([row[name] for row in block]):.6g}"
    return [{"step": block[-1]["step"], "loss": mean(block, "error" if "error" in block[0] else "loss"),
             "megabytes": mean(block, "megabytes") if "megabytes" in block[0] else ""} for block in blocks]


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {
        "trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on {sizes.test_songs} test songs, "
        f"all "
        f"of {sizes.song_seconds:g} s",
        "rate_hz": RATE,
        "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
        "score": "SDR in dB of these pieces, mean over songs, then over stems, without shifts",
    }


EXPERIMENT = Experiment(
    name="demucs",
    what="a small Demucs, one thing changed at a time, with equal steps",
    topic="06_demucs",
    stages=[all_runs, references],
    run=one_run,
    settings=Sizes(),
    prepare=Songs,
    names=tuple(VARIANTS),
    facts=facts,
)

__all__ = [
    "EXPERIMENT",
    "RATE",
    "Run",
    "SEEDS",
    "Sizes",
    "Songs",
    "VARIANTS",
    "Variant",
    "new_model",
    "plain",
    "repitched",
    "rounded",
    "sdr_table",
    "silence_spectrum",
    "songs_of",
    "train",
    "training_chunks",
    "valid_songs",
]
