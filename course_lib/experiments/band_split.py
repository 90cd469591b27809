"""Chapter 18's networks in miniature: split, positions, masks, and two forerunners, in equal computing time.

Every run of `course experiment band_split` learns for the same number of seconds of one core (`Sizes.cpu_seconds`),
on the same songs, with the same loss; the learning rate follows the clock, not the steps. What differs is the network
(VARIANTS) and the seed. data/results/18_band_split holds what came of it: a row a run (runs), its test songs (songs),
its loss (logs), the networks of FAMILIES on songs played with another soundfont and on real recordings (elsewhere),
and the committed networks on the same songs (bounds).

`course train band_split_band` trains the network that comes with the course on the chunks of chapter 8's.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_lib import band_split, separating
from course_lib.band_split import BSRoformer, SCNet, StemNetwork
from course_lib.data import STEMS, Remix, Track, open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import find_fluid_soundfont
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.demucs import center_trim
from course_lib.experiments.demucs import RATE, Songs, middle, rows_by_song, thinned
from course_lib.experiments.htdemucs import digests, training_chunks
from course_lib.experiments.open_unmix import read_over_music
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, LOWEST, RULES, ModelSeparator, bounds, estimates_of
from course_lib.htdemucs import HTDemucs
from course_lib.open_unmix import JointOpenUnmix
from course_lib.paths import data_dir
from course_lib.progress import progress
from course_lib.results import Results, machine
from course_lib.spectral import istft, song_sdr, stft
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.checkpoints import write_tensors

TOPIC = "18_band_split"
OURS = "band_split_band"                                                                # the committed checkpoint
BAND_SPLIT, TRANSFORMER, UNMIX = "band split, longer", "HT Demucs, longer", "Open-Unmix, longer"
TRAINED = {TRANSFORMER: "htdemucs_band", UNMIX: "open_unmix_band", BAND_SPLIT: OURS}
OTHER, REAL = "other instruments", "real recordings"
EQUALISER = "fixed equaliser"         # the best gain of every bin and stem, the same in all songs and at all times
OTHER_SONGS = 8                       # that are played with another soundfont
EPS = 1e-8


# ---------------------------------------------------------------------------------------------------------- miniatures


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    cpu_seconds: float = 40.0         # of one core, to learn
    dim: int = 32
    depth: int = 2
    heads: int = 2
    dim_head: int = 16
    n_fft: int = 1024
    hop_length: int = 512
    samples: int = 36_864             # of a chunk: 1.7 s
    batch_size: int = 2
    rate: float = 2e-3                # Adam's, by a cosine of the time to a twentieth of it
    warmup: float = 0.05              # share of the time
    clip: float = 5.0                 # largest norm of the gradient
    floor: float = 1e-3               # of the loss: what lies 30 dB under the mixture counts as solved
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each test song


def musical(sizes: Sizes) -> tuple[int, ...]:
    """The heuristic split at the experiment's sizes."""
    return band_split.musical_widths(RATE, sizes.n_fft)


def equal(sizes: Sizes) -> tuple[int, ...]:
    """As many bands as in the heuristic split, all equally wide."""
    return band_split.equal_widths(sizes.n_fft // 2 + 1, len(musical(sizes)))


class Mapped(BSRoformer):
    """BS-RoFormer whose numbers are the stems' spectra themselves, in units of the level of each band and frame, which
    the norm in front of the bands took away; a mask multiplies the mixture's bins instead."""

    def applied(self, masks: Tensor, X: Tensor) -> Tensor:
        widths = [count // 2 for count in self.band_split.dim_inputs]                     # complex numbers of a band
        levels = [band.abs().square().mean(1, keepdim=True).sqrt().expand_as(band) for band in X.split(widths, dim=1)]
        return masks * torch.cat(levels, dim=1).unsqueeze(1)


class Masked(SCNet):
    """SCNet whose numbers are complex masks instead of the stems' spectra."""

    def spectra(self, y: Tensor, X: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        y = y.unflatten(1, (len(self.sources), self.audio_channels, 2))
        return torch.view_as_complex(y.movedim(3, -1).contiguous()) * X.unsqueeze(1)


class UnmixWaveform(nn.Module):
    """Chapter 4's Open-Unmix from waveform to waveforms, with the mixture's phase, so that it learns by the same loss
    as the others. forward: (batch, channel, time) to (batch, source, channel, time)."""

    def __init__(self, sizes: Sizes, hidden_size: int = 128):
        super().__init__()
        self.size, self.audio_channels = (sizes.n_fft, sizes.hop_length), 1
        self.model = JointOpenUnmix(sizes.n_fft // 2 + 1, 1, hidden_size, nb_layers=2, dropout=0.0)

    def forward(self, mix: Tensor) -> Tensor:
        X = stft(mix, *self.size)                                                 # (batch, channel, bin, frame)
        return istft(self.model.masks(X.abs()) * X.unsqueeze(1), *self.size, length=mix.shape[-1])


def roformer(sizes: Sizes, kind: type[BSRoformer] = BSRoformer,
             widths: Callable[[Sizes], tuple[int, ...]] = musical, rotary: bool = True) -> StemNetwork:
    """A small BS-RoFormer; rotary: False takes its positions away."""
    network = kind(freqs_per_bands=widths(sizes), **roformer_sizes(sizes))
    if not rotary:
        for module in network.modules():
            if isinstance(module, band_split.Attention):
                module.rotary_embed = None
    return StemNetwork(network, STEMS, RATE, sizes.samples / RATE)


def roformer_sizes(sizes: Sizes) -> dict:
    """What the two kinds of RoFormer share."""
    return {"dim": sizes.dim, "depth": sizes.depth, "heads": sizes.heads, "dim_head": sizes.dim_head,
            "num_stems": len(STEMS), "time_transformer_depth": 1, "freq_transformer_depth": 1,
            "num_residual_streams": 1, "mask_estimator_depth": 1, "stft_n_fft": sizes.n_fft,
            "stft_hop_length": sizes.hop_length, "stft_win_length": sizes.n_fft}


def mel_roformer(sizes: Sizes) -> StemNetwork:
    """As many mel bands as the heuristic split has; no linear attention and one linear layer a mask, as there."""
    network = band_split.MelBandRoformer(**{
        **roformer_sizes(sizes), "num_bands": len(musical(sizes)), "sample_rate": RATE, "linear_transformer_depth": 0,
        "attn_dropout": 0.0, "ff_dropout": 0.0, "mask_estimator_depth": 0})
    return StemNetwork(network, STEMS, RATE, sizes.samples / RATE)


def scnet(sizes: Sizes, kind: type[SCNet] = SCNet) -> StemNetwork:
    """A small SCNet: three layers, two of the dual path."""
    network = kind(STEMS, audio_channels=1, dims=(2, 8, 16, 32), nfft=2 * sizes.n_fft, hop_size=sizes.hop_length,
                   win_size=2 * sizes.n_fft, num_dplayer=2)
    return StemNetwork(network, STEMS, RATE, sizes.samples / RATE)


def ht_demucs(sizes: Sizes) -> nn.Module:
    """Chapter 8's small HT Demucs."""
    return HTDemucs(STEMS, audio_channels=1, channels=8, nfft=2048, depth=4, t_layers=3, t_heads=4, samplerate=RATE,
                    segment=sizes.samples / RATE)


@dataclass(frozen=True)
class Variant:
    """One kind of network: what it is in words, and the function that makes it of the sizes."""

    what: str
    make: Callable[[Sizes], nn.Module] = field(compare=False)


VARIANTS: dict[str, Variant] = {
    "BS-RoFormer": Variant("heuristic bands, rotary positions, masks", roformer),
    "Mel-RoFormer": Variant("overlapping mel bands", mel_roformer),
    "SCNet": Variant("three subbands, spectra", scnet),
    "HT Demucs": Variant("chapter 8", ht_demucs),
    "Open-Unmix": Variant("chapter 4", UnmixWaveform),
    "equal bands": Variant("BS-RoFormer, equally wide bands", partial(roformer, widths=equal)),
    "without positions": Variant("BS-RoFormer, nothing turned", partial(roformer, rotary=False)),
    "mapping": Variant("BS-RoFormer, spectra instead of masks", partial(roformer, kind=Mapped)),
    "SCNet, masks": Variant("SCNet, masks instead of spectra", partial(scnet, kind=Masked)),
}
FAMILIES = ("BS-RoFormer", "Mel-RoFormer", "SCNet", "HT Demucs", "Open-Unmix")          # scored elsewhere, too
SEEDS = (0, 1)


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


def new_model(name: str, sizes: Sizes, seed: int) -> nn.Module:
    """The network of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    return VARIANTS[name].make(sizes)


# ----------------------------------------------------------------------------------------------- learning by the clock


class TimeIsUp(Exception):
    """The seconds of a run are used."""


class Clock:
    """Seconds of one core that this process has worked since the clock was made, as a share of a budget."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.process_time):
        self.seconds, self.now = seconds, now
        self.began = now()

    def share(self) -> float:
        return (self.now() - self.began) / self.seconds

    def factor(self, step: int, warmup: float = 0.05, last: float = 0.05) -> float:
        """Of the learning rate: a rise over the share `warmup`, then a cosine to `last`; whatever the step."""
        share = min(1.0, self.share())
        if share < warmup:
            return max(share / warmup, 0.02)
        return last + (1 - last) * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2


class TimedStep:
    """A training step on waveforms that ends the training when the clock says so; `log` keeps the losses.

    Called with (model, sources (batch, source, channel, time)): mean over chunks and sources of the error's level
    against the mixture in dB, with a floor (`level_loss`). Raises TimeIsUp.
    """

    def __init__(self, clock: Clock, floor: float):
        self.clock, self.floor, self.log = clock, floor, []

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        if self.clock.share() >= 1:
            raise TimeIsUp
        loss = level_loss(model(sources.sum(1)), sources, self.floor)
        self.log.append({"step": len(self.log) + 1, "loss": float(loss.detach())})
        return loss


def level_loss(estimates: Tensor, sources: Tensor, floor: float = 1e-3) -> Tensor:
    """The error's level against the mixture in dB, a number: chapter 4's loss (4.9), of waveforms.

    estimates, sources: (batch, source, channel, time). floor: what lies that far under the mixture counts as solved.
    """
    error = (estimates - sources).square().sum((2, 3))                                            # (batch, source)
    mixture = sources.sum(1).square().sum((1, 2)).clamp_min(EPS)
    return (10 * torch.log10(error / mixture.unsqueeze(1) + floor)).mean()


class LevelStep:
    """`level_loss` as a training step of `course train`, on (batch, source, channel, time)."""

    def __init__(self, floor: float = 1e-3):
        self.floor = floor

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        return level_loss(model(sources.sum(1)), sources, self.floor)


def train(name: str, songs: Songs, sizes: Sizes, seed: int) -> tuple[nn.Module, list[dict]]:
    """Train a new network for its seconds; return it in eval mode, and its log."""
    model, most = new_model(name, sizes, seed), 100_000
    chunks = Remix(songs.train, sizes.samples / RATE, most * sizes.batch_size, seed, augment=Augmentation(),
                   share=sizes.remix)
    clock = Clock(sizes.cpu_seconds)
    step = TimedStep(clock, sizes.floor)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        fit(model, step, process_batches(chunks, sizes.batch_size), torch.optim.Adam(trained, sizes.rate),
            FitSettings(most, clip=sizes.clip), schedule=partial(clock.factor, warmup=sizes.warmup), progress=False)
    except TimeIsUp:
        pass
    return model.eval(), step.log


# -------------------------------------------------------------------------------------------------------------- scores


@torch.no_grad()
def estimated(model: nn.Module, mixture: Tensor, samples: int) -> Tensor:
    """Sources of a mixture (channel, time), in pieces of `samples` that overlap by a quarter (chapter 9)."""
    if isinstance(model, HTDemucs | StemNetwork):
        return separating.separate(model, mixture, segment=samples / RATE)
    return model(mixture[None])[0]


def sdr_table(model: nn.Module, tracks: Sequence[Track], samples: int) -> Tensor:
    """SDR of every song and source: (song, source)."""
    return torch.stack([song_sdr(estimated(model, track.mixture, samples), track.sources(STEMS)) for track in tracks])


def separation_scores(model: nn.Module, data: Sequence[Track]) -> dict[str, float]:
    """Mean SDR in dB over songs of each source, and their mean (`sdr`, first), in pieces as long as its segment."""
    means = sdr_table(model, data, round(float(model.segment) * RATE)).nanmean(0)
    return {"sdr": float(means.mean()), **dict(zip(STEMS, means.tolist()))}


def valid_middles(count: int = 12, seconds: float = 10.0) -> list[Track]:
    """The middles of the validation songs of `course train band_split_band`."""
    from course_lib.experiments.demucs import valid_songs

    return [middle(track, seconds) for track in valid_songs(count)]


def weights_file(run: Run, work: Work) -> Path:
    """Where a run's weights are kept on this machine, for the other sets of songs."""
    return work.cache / f"{run.variant.replace(' ', '_').replace(',', '')}_{run.seed}.safetensors"


def shared_songs(sizes: Sizes, cache: Path) -> Songs:
    """The songs of the three splits, those of chapter 6's experiment, kept in its place."""
    return Songs(sizes, data_dir() / "training" / "demucs")


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds, the kinds of network first."""
    others = [variant for variant in VARIANTS if variant not in FAMILIES]
    return [Run(variant, seed) for names in (FAMILIES, others) for seed in SEEDS for variant in names]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs = work.settings, work.given
    began, used = time.perf_counter(), time.process_time()
    model, log = train(run.variant, songs, sizes, run.seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    work.cache.mkdir(parents=True, exist_ok=True)
    write_tensors(weights_file(run, work), model.state_dict())
    test = sdr_table(model, songs.test, sizes.samples)
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    print(f"  test {stems.mean():.3f} dB, {len(log)} steps, {cpu_seconds:.0f} s of one core", flush=True)
    logs = [{name: row[name] for name in ("step", "loss")} for row in thinned(log)]
    return {"logs": logs, "songs": rows_by_song(test, songs.test), "runs": [{
        "steps": len(log), "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "last_loss": f"{np.mean([row['loss'] for row in log[-20:]]):.6g}", "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{cpu_seconds:.1f}", "songs": len(test), "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


# ----------------------------------------------------------------------------------------------- elsewhere, and bounds


def other_sets(sizes: Sizes) -> dict[str, list[tuple[Track, Track]]]:
    """Songs that no training heard the like of: set -> (stereo at its own rate, mono at RATE) pairs."""
    sets: dict[str, Callable[[], list[Track]]] = {
        REAL: lambda: read_over_music(sizes.score_seconds),
        OTHER: lambda: open_tracks("band", split="test", count=OTHER_SONGS, soundfont=find_fluid_soundfont())}
    pairs: dict[str, list[tuple[Track, Track]]] = {}
    for name, opened in sets.items():
        try:
            full = [middle(track, sizes.score_seconds) for track in opened()]
        except OSError as error:                                # not installed, or not to be downloaded
            print(f"{name}: left out, {error}")
            continue
        pairs[name] = [(track, mono_tracks(partial(list, [track]), RATE, sizes.score_seconds)[0])
                       for track in progress(full, name)]
    return pairs


def heard_by(method: str, model: nn.Module, full: Track, track: Track, samples: int) -> Tensor:
    """What a network makes of a song: (source, channel, time); chapter 4's hears it in stereo at 44.1 kHz."""
    if method != UNMIX:
        return estimated(model, track.mixture, round(float(getattr(model, "segment", samples / RATE)) * RATE))
    heard = ModelSeparator(model)(full.mixture, full.rate).mean(1, keepdim=True)
    return center_trim(resample(heard, full.rate, RATE), track.frames)


def elsewhere(work: Work) -> list[Run]:
    """No runs: what the bounds, the committed networks and the first run of each of FAMILIES give on the band, with
    other instruments and on real recordings; only what has no rows yet, or whose weights are others now."""
    names = {method: name for method, name in TRAINED.items() if digests([name])}
    runs = [run for run in (Run(variant, SEEDS[0]) for variant in FAMILIES)
            if work.done(run) and weights_file(run, work).is_file()]
    weights = {method: (digests([name]) or {})[name] for method, name in names.items()}
    state = {"weights": weights, "runs": [run.variant for run in runs]}
    card = work.results.card("bounds") or {}
    if work.only or not runs or {key: card.get(key) for key in state} == state:
        return []
    before = {**(card.get("weights") or {}), **dict.fromkeys(card.get("runs") or (), "")}
    now = {**weights, **dict.fromkeys(state["runs"], "")}
    known = [row for row in work.results.rows("elsewhere")
             if row["method"] in (LOWEST, HIGHEST) or now.get(row["method"]) == before.get(row["method"])]
    networks: dict[str, nn.Module] = {method: load_trained(name) for method, name in names.items()}
    networks |= {run.variant: loaded(run, work) for run in runs}
    work.results.write("bounds", known_rows(work, networks))
    work.results.write("elsewhere", [*known, *elsewhere_rows(work.settings, networks, known)])
    work.results.write_card("bounds", {
        "what": f"The middle {work.settings.score_seconds:g} s of the band's test songs, mono at 22,050 Hz: SDR by "
                f"committed networks and bounds; elsewhere: {OTHER_SONGS} of the songs played with another soundfont, "
                "and readers over recorded music, by these and by the first run of each kind",
        "command": EXPERIMENT.command, **state, "songs": work.settings.test_songs, "tables": ["bounds", "elsewhere"]})
    return []


def elsewhere_rows(sizes: Sizes, networks: Mapping[str, nn.Module], known: Sequence[Mapping]) -> list[dict]:
    """Rows set, method, song, stems of all that has none among those that are known."""
    have, found = {(row["set"], row["method"]) for row in known}, []
    limits = {name: bounds()[name] for name in (LOWEST, HIGHEST)}
    for name, pairs in other_sets(sizes).items():
        for full, track in progress(pairs, name):
            references = track.sources(STEMS)
            estimates = {method: estimates_of(limit, references, RATE) for method, limit in limits.items()
                         if (name, method) not in have}
            estimates |= {method: heard_by(method, model, full, track, sizes.samples)
                          for method, model in networks.items() if (name, method) not in have}
            for method, estimate in estimates.items():
                found += [{"set": name, **row} for row in
                          rows_by_song(song_sdr(estimate, references)[None], [track], method=method)]
    return found


def known_rows(work: Work, networks: Mapping[str, nn.Module]) -> list[dict]:
    """SDR of the test songs: chapter 8's table of bounds, and the committed network of this chapter."""
    rows = chapter_8_rows("bounds")
    gains = equaliser(work.given.train, work.settings)
    table = torch.stack([song_sdr(equalised(gains, track.mixture, work.settings), track.sources(STEMS))
                         for track in work.given.test])
    rows += rows_by_song(table, work.given.test, method=EQUALISER)
    if BAND_SPLIT in networks:
        model = networks[BAND_SPLIT]
        table = sdr_table(model, work.given.test, round(float(model.segment) * RATE))
        rows += rows_by_song(table, work.given.test, method=BAND_SPLIT)
    return rows


def chapter_8_rows(table: str) -> list[dict]:
    """What chapter 8 measured on the same songs, by the bounds and the committed networks that stand here, too."""
    named = {name: name for name in (LOWEST, RULES, HIGHEST, TRANSFORMER)} | {"Open-Unmix": UNMIX}
    return [{**row, "method": named[row["method"]]} for row in Results("08_ht_demucs").rows(table)
            if row["method"] in named]


def equaliser(tracks: Sequence[Track], sizes: Sizes) -> Tensor:
    """Gains (source, bin) that give the least squared error over all tracks: what a mask that never changes can do."""
    size = (sizes.n_fft, sizes.hop_length)
    products, power = torch.zeros(len(STEMS), sizes.n_fft // 2 + 1), torch.zeros(sizes.n_fft // 2 + 1)
    for track in tracks:
        S, X = stft(track.sources(STEMS), *size), stft(track.mixture, *size)              # (..., channel, bin, frame)
        products += (S * X.conj()).real.sum((1, 3))
        power += X.abs().square().sum((0, 2))
    return products / power.clamp_min(EPS)


def equalised(gains: Tensor, mixture: Tensor, sizes: Sizes) -> Tensor:
    """Sources (source, channel, time) of a mixture (channel, time) by fixed gains (source, bin)."""
    size = (sizes.n_fft, sizes.hop_length)
    return istft(gains[:, None, :, None] * stft(mixture, *size), *size, length=mixture.shape[-1])


def loaded(run: Run, work: Work) -> nn.Module:
    """The network of a run with the weights that it ended with."""
    model = new_model(run.variant, work.settings, run.seed)
    model.load_state_dict(load_file(weights_file(run, work)))
    return model.eval()


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on the middle "
                          f"{sizes.score_seconds:g} s of {sizes.test_songs} test songs", "rate_hz": RATE,
            "variants": {name: variant.what for name, variant in VARIANTS.items()},
            "bands": {"heuristic": musical(sizes), "equal": equal(sizes)},
            "score": "SDR in dB of these pieces, mean over songs, then over stems, in pieces as long as the training "
                     "chunks"}


EXPERIMENT = Experiment(name="band_split", what="band-split networks, their split, positions and masks, and two "
                        "forerunners, in equal computing time", topic=TOPIC, stages=[all_runs, elsewhere], run=one_run,
                        settings=Sizes(), prepare=shared_songs, names=tuple(VARIANTS), facts=facts)

__all__ = ["BAND_SPLIT", "Clock", "EXPERIMENT", "FAMILIES", "LevelStep", "OTHER", "REAL", "Run", "SEEDS", "Sizes",
           "TOPIC", "TRAINED", "TimeIsUp", "TimedStep", "VARIANTS", "Variant", "estimated", "level_loss", "new_model",
           "separation_scores", "train", "training_chunks", "valid_middles"]
