"""Chapter 7's Hybrid Demucs in miniature: both branches and either alone, parts left out, depth, and the bounds.

What differs between two runs of `course experiment hdemucs` is one thing (VARIANTS) and the seed; songs, chunks, steps
and scores are those of chapter 6's experiment (`course_lib.experiments.demucs`), whose networks stand in the same
tables. data/results/07_hybrid_demucs holds what came of it: a row a run (runs), its test songs (songs), its loss
(logs), what either branch of a hybrid gives alone (branches), and what is left in each stem's estimate where the stem
pauses (noise). `course train hdemucs_band` trains the network that comes with the course;
`course_lib.experiments.hdemucs_depth` are deeper networks.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.data import STEMS, Remix, Track
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import file_sha256
from course_lib.demucs import Demucs, WaveformStep, separate
from course_lib.experiments.demucs import RATE, Songs, bound_rows, rows_by_song, sdr_table, thinned
from course_lib.experiments.runner import Experiment, Work
from course_lib.hdemucs import HDemucs, PenalisedStep
from course_lib.paths import data_dir
from course_lib.results import Results, machine, shipped_file
from course_lib.spectral import fft_frequencies, song_sdr, stft
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

BANDS = (0, 500, 2000, 5000, 11025)                      # Hz
PAUSE = 1e-3                      # a frame of a stem pauses where its level is below this share of its loudest frame's
TOPIC = "07_hybrid_demucs"
TRAINED = {"Demucs, longer": "demucs_band", "Hybrid Demucs, longer": "hdemucs_band"}    # committed checkpoints


@dataclass(frozen=True)
class Sizes:
    """What all runs share; equal to chapter 6's but for the network."""

    channels: int = 12
    nfft: int = 1024
    depth: int = 5
    dconv_init: float = 1e-3
    time_channels: int = 16           # of the waveform network, chapter 6's Demucs v3
    batch_size: int = 4
    seconds: float = 1.5              # of a chunk
    steps: int = 400
    few_steps: int = 160              # that take a hybrid about as long as all steps take the waveform network
    rate: float = 1e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0                 # largest norm of the gradient
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    penalty: float = 1e-5             # weight of the squared singular values
    penalty_megabytes: float = 0.05   # of the smallest matrix that is penalised: the network is small
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each valid and test song


@dataclass(frozen=True)
class Variant:
    """What differs from the hybrid: arguments of the network, the waveform network instead, fewer steps, penalty."""

    model: Mapping[str, object] = field(default_factory=dict)
    waveform: bool = False
    few: bool = False
    penalty: bool = False


VARIANTS: dict[str, Variant] = {
    "hybrid": Variant(),
    "spectrogram only": Variant({"hybrid": False}),
    "waveform only": Variant(waveform=True),
    "hybrid, equal time": Variant(few=True),
    "magnitudes": Variant({"cac": False}),
    "without residual branches": Variant({"dconv_mode": 0}),
    "without frequency embedding": Variant({"freq_emb": 0}),
    "with penalty": Variant(penalty=True),
}
SEEDS: dict[str, tuple[int, ...]] = dict.fromkeys(VARIANTS, (0, 1))


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


def shared_songs(sizes: Sizes, cache: Path) -> Songs:
    """The songs of the three splits, those of chapter 6's experiment, kept in its place."""
    return Songs(sizes, data_dir() / "training" / "demucs")


# --------------------------------------------------------------------------------------------------- model and training


def new_model(variant: Variant, sizes: Sizes, seed: int) -> nn.Module:
    """The network of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    if variant.waveform:
        return Demucs(STEMS, 1, sizes.time_channels, depth=sizes.depth, resample=False, dconv_init=sizes.dconv_init,
                      samplerate=RATE)
    return HDemucs(STEMS, **{"audio_channels": 1, "channels": sizes.channels, "nfft": sizes.nfft, "depth": sizes.depth,
                             "dconv_init": sizes.dconv_init, "samplerate": RATE, **variant.model})


def train(variant: Variant, songs: Songs, sizes: Sizes, seed: int) -> tuple[nn.Module, list[dict]]:
    """Train a new network; return it in eval mode, and its log."""
    model, steps = new_model(variant, sizes, seed), sizes.few_steps if variant.few else sizes.steps
    seconds = model.valid_length(round(sizes.seconds * RATE)) / RATE
    chunks = Remix(songs.train, seconds, steps * sizes.batch_size, seed, augment=Augmentation(), share=sizes.remix)
    step = WaveformStep("l1")
    if variant.penalty:
        step = PenalisedStep(step, sizes.penalty, min_megabytes=sizes.penalty_megabytes)
    history = fit(model, step, process_batches(chunks, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), sizes.rate), FitSettings(steps, clip=sizes.clip),
                  schedule=cosine(steps, sizes.warmup, 0.05), progress=False)
    return model.eval(), history.steps


# -------------------------------------------------------------------------------------------------------------- scores


@torch.no_grad()
def branch_rows(model: HDemucs, tracks: Sequence[Track]) -> list[dict]:
    """SDR of either branch alone and of their sum, and each branch's share of the energy: rows song, part, stems."""
    rows: list[dict] = []
    for track in tracks:
        references = track.sources(STEMS)
        spectral, timed = (part[0] for part in model.branches(track.mixture[None]))
        for name, part in (("both", spectral + timed), ("spectrogram", spectral), ("waveform", timed)):
            rows += rows_by_song(song_sdr(part, references)[None], [track], part=name)
        power = [part.square().sum((1, 2)) for part in (spectral, timed)]
        rows += rows_by_song((power[1] / (power[0] + power[1]).clamp_min(1e-12))[None], [track],
                             part="waveform's share of the energy")
    return rows


def noise_of(estimate: Tensor, reference: Tensor, mixture: Tensor) -> list[dict]:
    """What one stem's estimate holds where the stem pauses, by band: rows band, level_db, flatness, error_db.

    All (1, time) at RATE. level_db: of the estimate in those frames, against the mixture in all frames. flatness: of
    its power over the bins of the band, in those frames: 1 is white noise, 0 a tone. error_db: of the estimate in all
    frames, against the reference, in that band. NaN where the stem never pauses.
    """
    Y, S, X = (stft(x, 1024, 256)[0].abs().square() for x in (estimate, reference, mixture))       # (bin, frame)
    E = stft(estimate - reference, 1024, 256)[0].abs().square()
    level = S.sum(0).sqrt()
    pause = level < PAUSE * level.max()
    hertz, rows = fft_frequencies(1024, RATE), []
    decibels = lambda ratio: f"{10 * math.log10(max(float(ratio), 1e-12)):.3f}"
    for low, high in zip(BANDS, BANDS[1:]):
        band = (hertz >= low) & (hertz < high)
        heard = Y[band][:, pause] + 1e-12
        flat = (heard.log().mean(0).exp() / heard.mean(0)).mean() if pause.any() else math.nan
        rows.append({"band": f"{low} to {high} Hz", "pauses": int(pause.sum()),
                     "level_db": decibels(heard.mean() / X[band].mean()) if pause.any() else "nan",
                     "flatness": f"{float(flat):.4f}", "error_db": decibels(E[band].sum() / S[band].sum())})
    return rows


@torch.no_grad()
def noise_rows(model: nn.Module, tracks: Sequence[Track]) -> list[dict]:
    """`noise_of` of all songs and stems: rows song, stem, ..."""
    rows = []
    for track in tracks:
        estimates, references = separate(model, track.mixture), track.sources(STEMS)
        for place, stem in enumerate(STEMS):
            if references[place].any():
                rows += [{"song": track.name, "stem": stem, **row}
                         for row in noise_of(estimates[place], references[place], track.mixture)]
    return rows


# ------------------------------------------------------------------------------------------------------------ the runs


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds."""
    return [Run(variant, seed) for variant in VARIANTS for seed in SEEDS.get(variant, (0,))]


def references(work: Work) -> list[Run]:
    """No runs: the bounds, and what the committed networks give, anew where their weights are others."""
    try:
        digest = {name: file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) for name in TRAINED.values()}
    except FileNotFoundError:                                                  # before the first `course train`
        return []
    if (work.results.card("bounds") or {}).get("weights") == digest:
        return []
    songs, noise, branches = work.given, [], []
    bounds = _known_bounds() or bound_rows(songs, work.settings)
    for method, name in TRAINED.items():
        model = load_trained(name)
        noise += [{"method": method, **row} for row in noise_rows(model, songs.test)]
        if isinstance(model, HDemucs):
            branches += branch_rows(model, songs.test)
            bounds += rows_by_song(sdr_table(model, songs.test), songs.test, method=method)
    for table, rows in (("bounds", bounds), ("trained_noise", noise), ("trained_branches", branches)):
        work.results.write(table, rows)
    work.results.write_card("bounds", {
        "what": f"The middle {work.settings.score_seconds:g} s of the band's test songs, mono at 22,050 Hz: SDR by "
                "methods that no run of runs.csv trained, and what the committed networks leave in pauses and give by "
                "branch",
        "command": EXPERIMENT.command, "weights": digest, "songs": work.settings.test_songs,
        "tables": ["bounds", "trained_branches", "trained_noise"]})
    return []


def _known_bounds() -> list[dict]:
    """The rows of chapter 6's table of bounds, on the same songs, where they rest on the weights that come with it."""
    results = Results("06_demucs")
    known = (results.card("bounds") or {}).get("weights", {})
    same = all(file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) == digest for name, digest in known.items())
    return results.rows("bounds") if known and same else []


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs, variant = work.settings, work.given, VARIANTS[run.variant]
    began, used = time.perf_counter(), time.process_time()
    model, log = train(variant, songs, sizes, run.seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    valid, test = (sdr_table(model, tracks) for tracks in (songs.valid, songs.test))
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    rows = {"logs": thinned(log), "songs": rows_by_song(test, songs.test), "noise": noise_rows(model, songs.test)}
    if isinstance(model, HDemucs) and model.hybrid:
        rows["branches"] = branch_rows(model, songs.test)
    rows["runs"] = [{
        "steps": len(log), "valid_sdr": f"{valid.nanmean(0).mean():.3f}", "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "last_loss": f"{np.mean([row.get('error', row['loss']) for row in log[-20:]]):.6g}",
        "seconds": f"{seconds:.1f}", "cpu_seconds": f"{cpu_seconds:.1f}", "songs": len(test), "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]
    print(f"  valid {valid.nanmean(0).mean():.3f}, test {stems.mean():.3f} dB, {cpu_seconds:.0f} s", flush=True)
    return rows


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on the middle "
                          f"{sizes.score_seconds:g} s of {sizes.test_songs} test songs", "rate_hz": RATE,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "score": "SDR in dB of these pieces, mean over songs, then over stems, without shifts"}


EXPERIMENT = Experiment(name="hdemucs", what="a small Hybrid Demucs, its branches and parts, with equal steps",
                        topic=TOPIC, stages=[all_runs, references], run=one_run, settings=Sizes(),
                        prepare=shared_songs, names=tuple(VARIANTS), facts=facts)

__all__ = ["BANDS", "EXPERIMENT", "Run", "SEEDS", "Sizes", "TOPIC", "TRAINED", "VARIANTS", "Variant", "branch_rows",
           "new_model", "noise_of", "noise_rows", "train"]
