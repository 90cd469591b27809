"""Chapter 19's priors of the band: the songs they learn from."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.experiments import demucs
from course_lib.experiments.htdemucs import digests
from course_lib.experiments.mixit import by_oracle, separate_sources
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import ModelSeparator
from course_lib.experiments.tagbox import Sizes as TagBoxSizes
from course_lib.experiments.tagbox import tagbox
from course_lib.metrics import sdr, si_sdr
from course_lib.paths import data_dir
from course_lib.prior_separation import (
    Stepwise,
    SumTable,
    best_draw,
    denoising_loss,
    free_slope,
    karras_sigmas,
    masked_parts,
    put_in,
    sample_sources,
    separate_codes,
    separate_with_diffusion,
)
from course_lib.progress import progress
from course_lib.results import machine
from course_lib.separating import separate
from course_lib.training import load_trained

RATE, SONG_SECONDS, SEGMENT = 11_025, 20.0, 32_768     # of the diffusion model; samples of a piece: 3 s
TOPIC, OURS, CODE_PRIORS, CODEC = "19_prior_separation", "multi_source_band", "lass_band", "jukebox_band"
PARTS, LEVEL, WHOLE = ("drums", "bass"), 2, 128      # in codes: the parts, the codec's level, its slowest hop


# ------------------------------------------------------------------------------------------------------------ the data


def fine_songs(split: str, count: int) -> list[Track]:
    """Songs of a split of the band, mono at chapter 6's 22,050 Hz; kept in data/training/demucs.

    "further": the first of those that belong to none (seeds from 1000 on), of the 240 that chapter 8 keeps.
    """
    cache = data_dir() / "training" / "demucs"
    if split != "further":
        return demucs.songs_of(split, count, SONG_SECONDS, cache)
    opened = lambda: open_tracks("band", "further", seeds=range(1000, 1240))                  # noqa: E731
    return mono_tracks(opened, demucs.RATE, SONG_SECONDS, cache / f"further_240_20s_{demucs.RATE}Hz.npy")[:count]


def songs_of(split: str, count: int) -> list[Track]:
    """The same songs at RATE; kept in data/training/prior_separation."""
    file = data_dir() / "training" / "prior_separation" / f"{split}_{count}_20s_{RATE}Hz.npy"
    return mono_tracks(lambda: fine_songs(split, count), RATE, SONG_SECONDS, file)


def a_song(number: int) -> Track:
    """A test song, mono at 22,050 Hz, for the chapter: nothing is kept."""
    return mono_tracks(lambda: open_tracks("band", "test", count=number + 1), demucs.RATE, SONG_SECONDS)[number]


class SourceChunks(Dataset):
    """`length` pieces of songs with all their sources, (source, time); item i is a function of (seed, i).

    Sources of a piece belong together: they are one song's, at one time. Each gets a gain of -3 to 3 dB by chance, and
    all together a sign.
    """

    def __init__(self, tracks: Sequence[Track], length: int, seed: int, samples: int = SEGMENT):
        self.tracks, self.length, self.seed, self.samples = tracks, length, seed, samples
        if min(track.frames for track in tracks) < samples:
            raise ValueError(f"samples is {samples}, more than the shortest song has; expected fewer")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        generator = chunk_generator(self.seed, index)
        draw = lambda count: int(torch.randint(count, (), generator=generator))               # noqa: E731
        track = self.tracks[draw(len(self.tracks))]
        start = draw(track.frames - self.samples + 1)
        gains = 10 ** ((6 * torch.rand(len(STEMS), 1, generator=generator) - 3) / 20)
        sign = 2 * draw(2) - 1
        return sign * gains * torch.stack([track.read(stem, start, self.samples)[0] for stem in STEMS])


def training_chunks(seed: int, length: int, further: int = 150, samples: int = SEGMENT) -> SourceChunks:
    """The training data of `course train multi_source_band`: the train songs and `further` others."""
    return SourceChunks(songs_of("train", 60) + songs_of("further", further), length, seed, samples)


def valid_chunks(count: int = 24) -> Tensor:
    """Pieces of the valid songs, (count, source, time)."""
    data = SourceChunks(songs_of("valid", 12), count, 0)
    return torch.stack([data[index] for index in range(count)])


@torch.no_grad()
def denoising_scores(model: nn.Module, data: Tensor, levels: Sequence[float] = (0.3, 0.1, 0.03, 0.01)
                     ) -> dict[str, float]:
    """The loss (eq. 19.13) on data (piece, source, time): mean over noise levels (`loss`, first), and at each."""
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    losses = {}
    for sigma in levels:
        parts = [denoising_loss(model, x, torch.full((len(x),), sigma), n, model.sigma_data)
                 for x, n in zip(data.split(8), noise.split(8))]
        losses[f"at_{sigma:g}"] = float(torch.cat(parts).mean())
    return {"loss": float(np.mean(list(losses.values()))), **losses}


# ----------------------------------------------------------------------------------------------------------- the codes


@torch.no_grad()
def encoded(codec: nn.Module, audio: Tensor, level: int) -> Tensor:
    """Codes of one level of signals (signal, time), whole hops of the slowest level: (signal, code)."""
    block = codec.bottleneck.level_blocks[level]
    return torch.cat([block.encode(codec.latents(x[None, None], level)) for x in audio])


def parts_of(track: Track) -> Tensor:
    """Drums, bass and their sum, (3, time), in whole hops."""
    drums, bass = (track.sources(PARTS)[:, 0])[..., : track.frames // WHOLE * WHOLE]
    return torch.stack([drums, bass, drums + bass])


def coded_parts(split: str, count: int, level: int = LEVEL) -> Tensor:
    """Codes of drums, bass and their sum of songs, (song, 3, code); kept in data/training/prior_separation."""
    file = data_dir() / "training" / "prior_separation" / f"{split}_{count}_{'_'.join(PARTS)}_{level}.npy"
    if not file.is_file():
        codec = load_trained(CODEC)
        codes = [encoded(codec, parts_of(track), level).short().numpy()
                 for track in progress(fine_songs(split, count), f"encoding {split} songs")]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack(codes))
    return torch.from_numpy(np.load(file)).long()


def learnt_codes(further: int = 150, level: int = LEVEL) -> Tensor:
    """The codes that priors and counts of `course train lass_band` rest on: (song, 3, code)."""
    return torch.cat([coded_parts("train", 60, level), coded_parts("further", further, level)])


class CodeChunks(Dataset):
    """`length` pieces of the codes of the two parts, (2, n_ctx), from (song, part, code); item i is a function of
    (seed, i). The parts come from one place of a song, but the priors never hear each other."""

    def __init__(self, codes: Tensor, length: int, seed: int, n_ctx: int):
        if codes.shape[-1] < n_ctx:
            raise ValueError(f"n_ctx is {n_ctx}, songs have {codes.shape[-1]} codes; expected as many at most")
        self.codes, self.length, self.seed, self.n_ctx = codes, length, seed, n_ctx

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        generator = chunk_generator(self.seed, index)
        song, start = (int(torch.randint(count, (), generator=generator))
                       for count in (len(self.codes), self.codes.shape[-1] - self.n_ctx + 1))
        return self.codes[song, :2, start:start + self.n_ctx]


def training_codes(seed: int, length: int, n_ctx: int = 512, further: int = 150) -> CodeChunks:
    """The training data of `course train lass_band`."""
    return CodeChunks(learnt_codes(further), length, seed, n_ctx)


def valid_codes(n_ctx: int = 512, count: int = 24) -> Tensor:
    """Pieces of the valid songs, (piece, part, code)."""
    data = CodeChunks(coded_parts("valid", 12), count, 0, n_ctx)
    return torch.stack([data[index] for index in range(count)])


@torch.no_grad()
def code_scores(model: nn.Module, data: Tensor) -> dict[str, float]:
    """Bits per code: mean over parts (`bits`, first), and of each."""
    bits = torch.stack([model(part) for part in data.split(8)]).mean(0)
    return {"bits": float(bits.mean()), **dict(zip(model.parts, bits.tolist()))}


# ------------------------------------------------------------------------------------------------------ the comparison


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    songs: int = 20
    start: float = 8.0                # seconds into a song
    seconds: float = 2.9721541950113378
    steps: int = 50                   # of the diffusion, from sigma_max to sigma_min
    sigma_max: float = 1.0
    sigma_min: float = 1e-3
    churn: float = 20.0
    gamma: float = 1.5
    draws: int = 8                    # of codes, of which the best is chosen
    particles: int = 16               # draws that are resampled
    smoothing: float = 1.0
    drawn: int = 12                   # pieces made from nothing, and to go with given sources


PAIR, FOUR = "drums and bass", "four sources"
SILENCE, MIXTURE, IDEAL = "silence", "mixture", "ideal ratio mask"
MIXIT, TAGBOX, UNMIX, TRANSFORMER = "MixIT, oracle", "TagBox", "Open-Unmix", "HT Demucs"
DIRAC = {n: f"Dirac, rest to {stem}" for n, stem in enumerate(STEMS)}
GAUSSIAN, NO_CHURN = "Gaussian guidance", "Dirac, rest to other, no churn"
LASS, PARTICLES = "LASS", "particles"
ONE, BEST, MASKED = "LASS, one draw", "LASS, best draw", "LASS, as mask"
CODED, FLAT, NO_COUNTS = "codes of the true stems", "LASS without priors", "LASS without the mixture"
COMMON = (SILENCE, MIXTURE, IDEAL, UNMIX, TRANSFORMER, MIXIT, TAGBOX)
METHODS = {PAIR: (*COMMON, CODED, LASS, PARTICLES, FLAT, NO_COUNTS, DIRAC[2]),
           FOUR: (*COMMON, *DIRAC.values(), NO_CHURN, GAUSSIAN)}
DRAWN, BOUND, THROUGH = "drawn", "codec", "true signals"
SOURCES = {PAIR: PARTS, FOUR: STEMS}


@dataclass(frozen=True)
class Run:
    """A method on the pieces of all test songs, or what the diffusion model draws."""

    set: str
    method: str


class Given:
    """The pieces of the test songs, (song, source, time), at 22,050 Hz (`fine`) and at RATE (`pieces`)."""

    def __init__(self, sizes: Sizes, cache: Path):
        tracks = fine_songs("test", 20)[: sizes.songs]
        self.names = [track.name for track in tracks]
        first, count = round(sizes.start * demucs.RATE), round(sizes.seconds * demucs.RATE)
        self.fine = torch.stack([track.sources(STEMS)[:, 0, first:first + count] for track in tracks])
        self.pieces = resample(self.fine, demucs.RATE, RATE)

    def of(self, which: str, fine: bool = False) -> Tensor:
        """The sources of one of SOURCES."""
        return (self.fine if fine else self.pieces)[:, [STEMS.index(stem) for stem in SOURCES[which]]]


def levels(steps: Sizes) -> Tensor:
    """The noise levels of the diffusion."""
    return karras_sigmas(steps.steps, steps.sigma_min, steps.sigma_max)


def by_diffusion(method: str, mixtures: Tensor, sizes: Sizes, seed: int = 0) -> Tensor:
    """Four sources (song, source, time) of mixtures (song, time) at RATE."""
    model, generator = load_trained(OURS), torch.Generator().manual_seed(seed)
    options = {"guidance": "gaussian", "gamma": sizes.gamma, "churn": 0.0} if method == GAUSSIAN else {
        "source": 2 if method == NO_CHURN else {name: n for n, name in DIRAC.items()}[method],
        "churn": 0.0 if method == NO_CHURN else sizes.churn}
    return separate_with_diffusion(model, mixtures, len(STEMS), levels(sizes), generator=generator, **options)


@torch.no_grad()
def by_codes(method: str, pairs: Tensor, sizes: Sizes, seed: int = 0) -> dict[str, Tensor]:
    """Drums and bass (song, 2, time) of pairs (song, 2, time), whose sum alone is looked at; by name of the method."""
    codec, generator = load_trained(CODEC), torch.Generator().manual_seed(seed)
    if method == CODED:
        return {CODED: torch.stack([codec.decode(encoded(codec, pair, LEVEL), LEVEL)[:, 0] for pair in pairs])}
    model = load_trained(CODE_PRIORS)
    table = model.table
    priors: list = [Stepwise(prior) for prior in model.priors]
    if method == FLAT:
        priors = [lambda codes: torch.zeros(len(codes), table.bins)] * 2
    if method == NO_COUNTS:                                # as if no pair had ever been seen: the mixture says nothing
        table = SumTable(table.bins, torch.zeros(1), torch.ones(1))
    found: dict[str, list[Tensor]] = {}
    for mixture in progress(pairs.sum(1), method):
        mixed = encoded(codec, mixture[None], LEVEL)[0]
        draws = {LASS: sizes.draws, PARTICLES: sizes.particles}.get(method, 1)
        codes, weights = separate_codes(priors, table, mixed, draws, smoothing=sizes.smoothing,
                                        resampled=method == PARTICLES, generator=generator)
        parts = codec.decode(codes.flatten(0, 1), LEVEL)[:, 0].unflatten(0, codes.shape[:2])
        likeliest = parts[int(weights.argmax())]
        best = parts[best_draw(parts, mixture)[0]]
        given = {LASS: {ONE: parts[0], BEST: best, MASKED: masked_parts(best, mixture)},
                 PARTICLES: {PARTICLES: likeliest, f"{PARTICLES}, as mask": masked_parts(likeliest, mixture)}}.get(
                     method, {method: parts[0]})
        for name, signals in given.items():
            found.setdefault(name, []).append(signals)
    return {name: torch.stack(signals) for name, signals in found.items()}


@torch.no_grad()
def by_others(method: str, sources: Tensor, which: str) -> Tensor:
    """Sources (song, source, time) at 22,050 Hz by methods of other chapters; oracles look at the true ones."""
    mixtures = sources.sum(1)
    if method == SILENCE:
        return torch.zeros_like(sources)
    if method == MIXTURE:
        return mixtures[:, None].expand_as(sources)
    if method == IDEAL:
        return torch.stack([masked_parts(one, one.sum(0), 2048) for one in sources])
    if method == MIXIT:
        return torch.stack([by_oracle(separate_sources(x[None], demucs.RATE)[:, 0], one)
                            for x, one in zip(mixtures, sources)])
    if method == TAGBOX:
        sizes = TagBoxSizes()
        with torch.enable_grad():
            by_stem = [[song["masked"].detach() for song in tagbox(mixtures, stem, sizes)] for stem in SOURCES[which]]
        return torch.stack([torch.stack(songs) for songs in by_stem], 1)
    network = load_trained({UNMIX: "open_unmix_band", TRANSFORMER: "htdemucs_band"}[method])
    places = [STEMS.index(stem) for stem in SOURCES[which]]
    if method == UNMIX:
        found = [ModelSeparator(network)(resample(x.expand(2, -1), demucs.RATE, network.facts.rate),
                                         network.facts.rate).mean(1) for x in mixtures]
        found = [resample(one, network.facts.rate, demucs.RATE) for one in found]
    else:
        found = [separate(network, x[None])[:, 0] for x in mixtures]
    count = mixtures.shape[-1]
    return torch.stack([nn.functional.pad(one, (0, count))[places, :count] for one in found])


def song_rows(estimates: Tensor, references: Tensor, name: str) -> list[dict]:
    """SDRi and SI-SDRi of a song's sources, (source, time) each; NaN where undefined; and levels against the true."""
    mixture = references.sum(0).expand_as(references)
    level = 10 * torch.log10((estimates.square().mean(-1) + 1e-12) / (references.square().mean(-1) + 1e-12))
    values = {"SDRi": sdr(estimates, references) - sdr(mixture, references),
              "SI-SDRi": si_sdr(estimates, references) - si_sdr(mixture, references), "level": level}
    stems = STEMS if len(references) == len(STEMS) else PARTS
    return [{"song": name, "score": score, **{stem: f"{float(found[stems.index(stem)]):.3f}" if stem in stems else ""
                                              for stem in STEMS}} for score, found in values.items()]


def separated(run: Run, work: Work) -> dict[str, Tensor]:
    """Estimates (song, source, time) at RATE, by the name of the method."""
    given, sizes = work.given, work.settings
    if run.method in (*DIRAC.values(), NO_CHURN, GAUSSIAN):
        found = by_diffusion(run.method, given.of(run.set).sum(1), sizes)
        return {run.method: found[:, [STEMS.index(stem) for stem in SOURCES[run.set]]]}
    fine = given.of(run.set, fine=True)
    found = by_codes(run.method, fine, sizes) if run.method in (CODED, LASS, FLAT, NO_COUNTS) else {
        run.method: by_others(run.method, fine, run.set)}
    return {name: resample(signals, demucs.RATE, RATE) for name, signals in found.items()}


@torch.no_grad()
def codec_rows(work: Work, began: float) -> dict[str, list[dict]]:
    """SDR of true signals through each level of the codec."""
    codec, rows = load_trained(CODEC), []
    for name, (drums, bass) in zip(work.given.names, work.given.of(PAIR, fine=True)):
        signals = torch.stack([drums, bass, drums + bass])
        for level, hop in enumerate(codec.hop_lengths):
            given = sdr(codec.decode(encoded(codec, signals, level), level)[:, 0], signals)
            rows.append({"song": name, "hop": hop, **{part: f"{float(value):.3f}"
                                                      for part, value in zip((*PARTS, "sum"), given)}})
    seconds = time.process_time() - began
    return {"codec": rows, "runs": [row_of(len(work.given.names), seconds, work)]}


def row_of(songs: int, seconds: float, work: Work) -> dict:
    """What a row of `runs` says."""
    return {"songs": songs, "seconds_per_second": f"{seconds / (songs * work.settings.seconds):.2f}",
            "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a method, by table."""
    began = time.process_time()
    if run.set == DRAWN:
        return drawn_rows(run, work, began)
    if run.set == BOUND:
        return codec_rows(work, began)
    given, rows = work.given, []
    found = separated(run, work)
    seconds = time.process_time() - began
    for name, estimates in found.items():
        for song, one, true in zip(given.names, estimates, given.of(run.set)):
            rows += [{"variant": name, **row} for row in song_rows(one, true, song)]
    return {"songs": rows, "runs": [row_of(len(given.names), seconds, work)]}


@torch.no_grad()
def drawn_sources(kind: str, given: Tensor, sizes: Sizes, seed: int = 0) -> Tensor:
    """Pieces (piece, source, time) that the diffusion model makes: "from nothing", or "with drums and bass given"."""
    model, generator = load_trained(OURS), torch.Generator().manual_seed(seed)
    before = None
    if kind == GIVEN:
        before = put_in(given, torch.tensor([True, True, False, False]), generator)
    return sample_sources(free_slope(model), given.shape, levels(sizes), sizes.churn, before=before,
                          generator=generator)


def drawn_rows(run: Run, work: Work, began: float) -> dict[str, list[dict]]:
    """Levels of what is made, a third of a piece at a time, beside the true songs': rms in dB below full scale."""
    sizes = work.settings
    true = work.given.pieces[: sizes.drawn]
    made = true if run.method == PLAYED else drawn_sources(run.method, true, sizes)
    seconds = time.process_time() - began
    thirds = made[..., : made.shape[-1] // 3 * 3].unflatten(-1, (3, -1)).square().mean(-1)   # (piece, source, third)
    level = 10 * torch.log10(thirds + 1e-10)
    rows = [{"piece": piece, "third": third, **{stem: f"{float(level[piece, n, third]):.2f}"
                                                for n, stem in enumerate(STEMS)}}
            for piece in range(len(level)) for third in range(3)]
    return {"drawn": rows, "runs": [row_of(len(made), seconds, work)]}


PLAYED, NOTHING, GIVEN = "the band", "from nothing", "with drums and bass given"


def all_runs(work: Work) -> list[Run]:
    """Every method on its sets, and what is drawn."""
    return [Run(which, method) for which, methods in METHODS.items() for method in methods] + [
        Run(DRAWN, kind) for kind in (PLAYED, NOTHING, GIVEN)] + [Run(BOUND, THROUGH)]


def facts(work: Work) -> Mapping:
    return {"rate_hz": RATE, "weights": {name: found[name] for name in (OURS, CODE_PRIORS, CODEC)
                                         if (found := digests([name]))},
            "score": f"SDR and SI-SDR in dB at {RATE} Hz, less those of the mixture; level: energy of the estimate "
                     f"over the true source's, in dB; one piece of {work.settings.seconds:.2f} s of each test song. "
                     "seconds_per_second: of one core, a second of the song",
            "oracles": "MixIT's outputs are given to sources by their truth; the ideal mask and the codes of the true "
                       "stems are bounds"}


EXPERIMENT = Experiment(
    name="prior_separation", what="chapter 19's priors that separate, beside other methods on the same pieces",
    topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(), prepare=Given,
    names=(PAIR, FOUR, DRAWN, BOUND, THROUGH, *dict.fromkeys([*METHODS[PAIR], *METHODS[FOUR]]), PLAYED, NOTHING, GIVEN),
    facts=facts)

__all__ = ["EXPERIMENT", "OURS", "RATE", "Run", "Sizes", "SourceChunks", "TOPIC", "a_song", "by_codes", "by_diffusion",
           "code_scores", "coded_parts", "denoising_scores", "drawn_sources", "encoded", "fine_songs", "levels",
           "song_rows", "songs_of", "training_chunks", "training_codes", "valid_chunks", "valid_codes"]
