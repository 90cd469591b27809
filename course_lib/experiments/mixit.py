"""Chapter 14b's MixIT in miniature: separating from mixtures of mixtures, on the band at 16 kHz.

Every run trains the same mask network for equally many steps; what differs is one thing and the seed (VARIANTS): which
two pieces are added to a mixture of mixtures (PAIRINGS: unrelated songs, songs of one tempo and key with and against
the beat, one song twice, pieces whose stems were never played together), the number of outputs, a penalty, or
supervision. Then few labelled songs, from scratch and from the MixIT network (`few` runs). `course experiment mixit`
runs it all, `--only VARIANT` a part; data/results/14b_mixit holds a row a run (runs), its test songs (songs), other
methods on the same songs (others), and other definitions of what a source is (definitions). `course train mixit_band`
trains the network that comes with the course.

`separate_sources` separates audio with it; `by_oracle` and `by_tagger` say which outputs make up which stem.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.audio import check_audio
from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.harmony import Key
from course_lib.data.band.library import FIRST_FREE_SEED, SPLITS
from course_lib.data.band.song import Song
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, LOWEST, RULES, bounds, estimates_of
from course_lib.experiments.taggers import SECONDS as TAGGER_SECONDS
from course_lib.experiments.taggers import TAGS
from course_lib.metrics import sdr, si_sdr
from course_lib.mixit import (
    MaskTCN,
    MixITStep,
    SupervisedStep,
    active_outputs,
    best_partition,
    mixit_loss,
    output_sparsity,
)
from course_lib.paths import data_dir
from course_lib.results import machine, shipped_file
from course_lib.separating import separate
from course_lib.spectral import istft, stft
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

RATE, SONG_SECONDS = 16_000, 20.0
TOPIC, OURS, TAGGER, BANDS = "14b_mixit", "mixit_band", "tagger_band", "bands of equal energy"
PAIRINGS = ("unrelated", "with the beat", "against the beat", "one song twice", "independent stems")
TEMPO_WITHIN, COMMON_PITCHES = 0.01, 6          # what counts as one tempo (share) and nearly one key (of seven pitches)
FOUR, SOUNDING = "four stems", 1e-6             # share of the mixture's energy above which a source is there at all
_REST = ("other", "guitar", "piano")
DEFINITIONS: dict[str, tuple[tuple[str, ...], ...]] = {    # what is to count as one source
    "rhythm and the rest": (("drums", "bass"), (*_REST, "vocals")),
    "two, crosswise": (("drums", *_REST), ("bass", "vocals")),
    FOUR: (("drums",), ("bass",), _REST, ("vocals",)),
    "four, crosswise": (("drums", "guitar"), ("bass", "piano"), ("other",), ("vocals",)),
    "six sources": (("drums",), ("bass",), ("guitar",), ("piano",), ("other",), ("vocals",)),
}


# ------------------------------------------------------------------------------------------------------------ the data


def grouped(six: Tensor, groups: Sequence[Sequence[str]]) -> Tensor:
    """Sums of sources in the order of SIX_STEMS, (6, time), by groups of their names: (group, time)."""
    return torch.stack([sum(six[SIX_STEMS.index(name)] for name in group) for group in groups])


@dataclass(frozen=True)
class Songs:
    """Songs of a split, mono at RATE: their six stems as tracks, and as they were composed, for tempo and key."""

    tracks: Sequence[Track]
    scores: Sequence[Song]

    def __add__(self, others: "Songs") -> "Songs":
        return Songs([*self.tracks, *others.tracks], [*self.scores, *others.scores])

    def __len__(self) -> int:
        return len(self.tracks)

    def six(self, song: int, start: int, frames: int) -> Tensor:
        """The sources of a piece in the order of SIX_STEMS, (6, time): "other" is what is left beside guitar and piano.
        """
        return torch.stack([self.tracks[song].read(stem, start, frames)[0] for stem in SIX_STEMS])

    def sources(self, song: int, start: int, frames: int) -> Tensor:
        """Drums, bass, other and vocals of a piece, (4, time); guitar and piano are part of other."""
        return grouped(self.six(song, start, frames), DEFINITIONS[FOUR])

    @cached_property
    def in_tempo(self) -> list[tuple[int, int]]:
        """Pairs of songs of one tempo, to TEMPO_WITHIN, whose scales share at least COMMON_PITCHES of seven pitches."""
        scales = [set(Key.parse(score.key).scale) for score in self.scores]
        return [
            (a, b)
            for a in range(len(self))
            for b in range(len(self))
            if a != b
            and abs(math.log(self.scores[a].bpm / self.scores[b].bpm)) < TEMPO_WITHIN
            and len(scales[a] & scales[b]) >= COMMON_PITCHES
        ]


def songs_of(split: str, count: int, cache: Path | None = None) -> Songs:
    """The first songs of a split of the band ("further": of those that belong to none).

    cache: a folder that keeps them, by default chapter 13's, data/training/taggers.
    """
    seeds = SPLITS[split] if split in SPLITS else range(FIRST_FREE_SEED, FIRST_FREE_SEED + count)
    seeds = list(seeds)[:count]
    chosen = {"seeds": range(seeds[0], seeds[-1] + 1)} if split not in SPLITS else {"count": len(seeds)}
    cache = cache or data_dir() / "training" / "taggers"
    file = cache / f"{split}_{len(seeds)}_{SONG_SECONDS:g}s_{RATE}Hz.npy"
    tracks = mono_tracks(lambda: open_tracks("band", split, **chosen), RATE, SONG_SECONDS, file, SIX_STEMS)
    return Songs(tracks, [compose(seed, SONG_SECONDS) for seed in seeds])


class MixturesOfMixtures(Dataset):
    """`length` pairs of mixtures, each (2, time), which a separator hears added: item i is a function of (seed, i).

    pairing: which two pieces, one of PAIRINGS. seconds: of a piece. Each mixture gets a level of -3 to 3 dB by chance.
    ValueError for another pairing, and where no two songs are of one tempo and key but have to be.
    """

    def __init__(self, songs: Songs, length: int, seed: int, pairing: str = "unrelated", seconds: float = 3.0):
        if pairing not in PAIRINGS:
            raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(PAIRINGS)}")
        self.songs, self.length, self.seed, self.pairing = songs, length, seed, pairing
        self.frames = round(seconds * RATE)
        self.last = min(track.frames for track in songs.tracks) - self.frames
        if self.last < 0 or len(songs) < 2:
            raise ValueError(f"seconds is {seconds} and songs are {len(songs)}; expected two songs, none shorter")
        if pairing in PAIRINGS[1:3] and not songs.in_tempo:
            raise ValueError(f"no two of {len(songs)} songs are of one tempo and key; pass more songs")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        generator = chunk_generator(self.seed, index)
        draw = lambda count: int(torch.randint(count, (), generator=generator))               # noqa: E731
        if self.pairing == "independent stems":
            pieces = [self._piece([self._anywhere(draw) for _ in STEMS]) for _ in range(2)]
        else:
            pieces = [self._piece([place] * len(STEMS)) for place in self.places(draw)]
        gains = 10 ** ((6 * torch.rand(2, 1, generator=generator) - 3) / 20)
        return torch.stack(pieces) * gains

    def places(self, draw) -> list[tuple[int, int]]:
        """(song, first sample) of the two pieces. draw: count -> a whole number below it, by chance."""
        if self.pairing == "unrelated":
            a = draw(len(self.songs))
            b = (a + 1 + draw(len(self.songs) - 1)) % len(self.songs)
            return [(song, draw(self.last + 1)) for song in (a, b)]
        if self.pairing == "one song twice":
            a = b = draw(len(self.songs))
        else:
            a, b = self.songs.in_tempo[draw(len(self.songs.in_tempo))]
        bars = [self._bars(song) for song in (a, b)]
        first = draw(len(bars[0]))
        second = draw(len(bars[1]))
        if a == b and second == first:
            second = (first + 1) % len(bars[1])
        starts = [bars[0][first], bars[1][second]]
        if self.pairing == "against the beat":
            half = 30 / self.songs.scores[b].bpm                      # half a beat, in seconds
            starts[1] += half if (starts[1] + half) * RATE <= self.last else -half
        return [(song, min(self.last, max(0, round(start * RATE)))) for song, start in zip((a, b), starts)]

    def _bars(self, song: int) -> list[float]:
        """Where bars begin that leave room for a piece, in seconds."""
        return [onset for onset in self.songs.scores[song].downbeats if onset * RATE <= self.last]

    def _anywhere(self, draw) -> tuple[int, int]:
        return draw(len(self.songs)), draw(self.last + 1)

    def _piece(self, places: Sequence[tuple[int, int]]) -> Tensor:
        """The sum of four stems, each from its place (song, first sample): (time,)."""
        if len(set(places)) == 1:
            return self.songs.sources(*places[0], self.frames).sum(0)
        return sum(self.songs.sources(*place, self.frames)[n] for n, place in enumerate(places))


class Labelled(Dataset):
    """`length` pieces with their four stems, (4, time), half of them with every stem from another place."""

    def __init__(self, songs: Songs, length: int, seed: int, seconds: float = 3.0):
        self.songs, self.length, self.seed = songs, length, seed
        self.frames = round(seconds * RATE)
        self.last = min(track.frames for track in songs.tracks) - self.frames

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        generator = chunk_generator(self.seed, index)
        draw = lambda count: int(torch.randint(count, (), generator=generator))               # noqa: E731
        places = [(draw(len(self.songs)), draw(self.last + 1)) for _ in STEMS]
        if draw(2):
            places = places[:1] * len(STEMS)
        if len(set(places)) == 1:
            return self.songs.sources(*places[0], self.frames)
        return torch.stack([self.songs.sources(*place, self.frames)[n] for n, place in enumerate(places)])


def training_mixtures(seed: int, length: int, further: int = 100, seconds: float = 3.0) -> MixturesOfMixtures:
    """The training data of `course train mixit_band`: unrelated pieces of the train songs and of `further` others."""
    songs = songs_of("train", 60)
    return MixturesOfMixtures(songs + songs_of("further", further) if further else songs, length, seed,
                              seconds=seconds)


def valid_mixtures(count: int = 48) -> Tensor:
    """Pairs of pieces of the valid songs, (count, 2, time)."""
    data = MixturesOfMixtures(songs_of("valid", 12), count, 0)
    return torch.stack([data[index] for index in range(count)])


@torch.no_grad()
def mixture_scores(model: nn.Module, data: Tensor, batch_size: int = 8) -> dict[str, float]:
    """How well mixtures of mixtures are told apart, without any source: SNR in dB, mean over mixtures, best assignment.

    data: (pair, 2, time). Beside it `outputs`: how many are within 20 dB of the loudest.
    """
    device, losses, active = next(model.parameters()).device, [], []
    for part in data.to(device).split(batch_size):
        outputs = model(part.sum(1))
        losses.append(mixit_loss(outputs, part)[0] / part.shape[1])
        active.append(active_outputs(outputs).float())
    return {"snr": -float(torch.cat(losses).mean()), "outputs": float(torch.cat(active).mean())}


# ------------------------------------------------------------------------------------------------------------- outputs


@lru_cache(maxsize=2)
def _loaded(name: str) -> nn.Module:
    return load_trained(name).eval()


@torch.no_grad()
def separate_sources(mixture: Tensor, rate: int, model: nn.Module | None = None) -> Tensor:
    """All outputs of the MixIT network for a mixture, in no particular order, as they are: (output, channel, time).

    mixture: (channel, time), at `rate` Hz; each channel is separated on its own, at 16 kHz, and brought back to `rate`,
    so that nothing is left above 8 kHz. model: by default the course's `mixit_band`. `by_oracle` and `by_tagger` make
    stems of them. ValueError for other shapes. Source: section 14b.9.
    """
    check_audio(mixture=mixture)
    if mixture.ndim != 2 or 0 in mixture.shape:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (channel, time), not empty")
    model = _loaded(OURS) if model is None else model
    heard = mixture if rate == RATE else resample(mixture.contiguous(), rate, RATE)
    outputs = model(heard.float()).transpose(0, 1)                                     # (output, channel, time)
    outputs = outputs if rate == RATE else resample(outputs.contiguous(), RATE, rate)
    missing = max(0, mixture.shape[-1] - outputs.shape[-1])
    return nn.functional.pad(outputs, (0, missing))[..., : mixture.shape[-1]].to(mixture.dtype)


def by_oracle(outputs: Tensor, references: Tensor) -> Tensor:
    """Stems of outputs (output, time), each given to the true source (source, time) that it helps most: (source, time).

    An upper bound for any way to choose, by squared error; it has seen the sources.
    """
    return best_partition(outputs, references) @ outputs


@torch.no_grad()
def by_tagger(outputs: Tensor, tagger: nn.Module | None = None) -> tuple[Tensor, list[int]]:
    """Stems of outputs (output, time) at 16 kHz by what chapter 13's tagger hears in each: (4, time), and the owners.

    Each output is brought to one level and heard in chunks of 5 s. Its stem is the one with the largest probability of
    drums, bass and vocals, or other, where another instrument's is larger than all three.
    """
    tagger = _loaded(TAGGER) if tagger is None else tagger
    size = round(TAGGER_SECONDS * RATE)
    x = nn.functional.pad(outputs, (0, -outputs.shape[-1] % size))
    x = 0.1 * x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6)
    chunks = x.unflatten(-1, (-1, size))                                               # (output, chunk, time)
    given = tagger(chunks.flatten(0, 1)).unflatten(0, chunks.shape[:2]).mean(1)        # (output, tag)
    named = [TAGS.index(stem) for stem in ("drums", "bass", "vocals")]
    rest = [place for place in range(len(TAGS)) if place not in named]
    drums, bass, vocals = given[:, named].unbind(1)
    owners = torch.stack([drums, bass, given[:, rest].amax(1), vocals], 1).argmax(1)   # in the order of STEMS
    stems = torch.stack([outputs[owners == n].sum(0) for n in range(len(STEMS))])
    return stems, owners.tolist()


def quartered(outputs: Tensor) -> Tensor:
    """Chance: outputs dealt to the four stems in turn, (4, time)."""
    return torch.stack([outputs[n :: len(STEMS)].sum(0) for n in range(len(STEMS))])


def equal_bands(mixture: Tensor, count: int) -> Tensor:
    """What anybody can do without learning: a mixture (time,) cut into bands of about equal energy, (band, time).

    From low to high; they add up to the mixture. A baseline for `by_oracle`. ValueError below 513 samples.
    """
    X = stft(mixture[None], 1024, 256)[0]                                              # (bin, frame)
    power = X.abs().square().sum(1)
    share = power.cumsum(0) / power.sum().clamp_min(torch.finfo(power.dtype).tiny)
    band = (share * count).long().clamp_max(count - 1)[:, None]
    return istft(torch.stack([X * (band == n) for n in range(count)]), 1024, 256, length=len(mixture))


# ------------------------------------------------------------------------------------------------------------ the runs


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    steps: int = 300
    few_steps: int = 150              # with few labelled songs
    batch_size: int = 4
    seconds: float = 3.0
    rate: float = 1e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0
    outputs: int = 8
    train_songs: int = 60
    further: int = 100
    test_songs: int = 20
    score_seconds: float = 10.0       # from the middle of each test song
    pairs: int = 40                   # of test mixtures, to be told apart


@dataclass(frozen=True)
class Variant:
    """What differs from the base: the pairing, arguments of the network, the penalty; or labelled songs, and where the
    network starts.
    """

    pairing: str = "unrelated"
    model: Mapping[str, object] = field(default_factory=dict)
    sparsity: float = 0.0
    labelled: int = 0                 # songs with stems; 0: none, MixIT
    start: str = ""                   # a committed checkpoint whose body is taken over


VARIANTS: dict[str, Variant] = {
    **{pairing: Variant(pairing) for pairing in PAIRINGS},
    "supervised": Variant(labelled=160),
    "4 outputs": Variant(model={"outputs": 4}),
    "sparse outputs": Variant(sparsity=3.0),
    "4 songs, from scratch": Variant(labelled=4),
    "4 songs, from MixIT": Variant(labelled=4, start=OURS),
    "16 songs, from scratch": Variant(labelled=16),
    "16 songs, from MixIT": Variant(labelled=16, start=OURS),
}
SEEDS = (0, 1)
MORE_SEEDS = (0, 1, 2, 3)             # two alone find differences that the next training turns round
COMPARED = (*PAIRINGS, "4 outputs")
FEW = tuple(name for name, variant in VARIANTS.items() if 0 < variant.labelled < 160)


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


class Given:
    """The songs that the runs share: to train on, and the middles of the test songs, of four stems and of six sources.
    """

    def __init__(self, sizes: Sizes, cache: Path):
        self.train = songs_of("train", sizes.train_songs)
        if sizes.further:
            self.train += songs_of("further", sizes.further)
        test = songs_of("test", sizes.test_songs)
        self.names = [track.name for track in test.tracks]
        frames = round(sizes.score_seconds * RATE)
        starts = [(track.frames - frames) // 2 for track in test.tracks]
        self.six = torch.stack([test.six(song, start, frames) for song, start in enumerate(starts)])
        self.test = torch.stack([grouped(six, DEFINITIONS[FOUR]) for six in self.six])
        pairs = MixturesOfMixtures(test, sizes.pairs, 0, seconds=sizes.seconds)
        self.pairs = torch.stack([pairs[index] for index in range(sizes.pairs)])

    def few(self, count: int) -> Songs:
        """The first songs of those to train on."""
        return Songs(self.train.tracks[:count], self.train.scores[:count])


def train(variant: Variant, given: Given, sizes: Sizes, seed: int) -> tuple[MaskTCN, list[dict]]:
    """Train a network; return it in eval mode, and its log."""
    torch.manual_seed(seed)
    arguments = {"outputs": len(STEMS) if variant.labelled else sizes.outputs, **variant.model}
    model = MaskTCN(**arguments)
    if variant.start:
        other = load_trained(variant.start)
        model.first, model.body = copy.deepcopy(other.first), copy.deepcopy(other.body)
    steps = sizes.few_steps if 0 < variant.labelled < len(given.train) else sizes.steps
    length = steps * sizes.batch_size
    if variant.labelled:
        data, step = Labelled(given.few(variant.labelled), length, seed, sizes.seconds), SupervisedStep()
    else:
        data = MixturesOfMixtures(given.train, length, seed, variant.pairing, sizes.seconds)
        step = MixITStep(sparsity=variant.sparsity)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), sizes.rate)
    history = fit(model, step, process_batches(data, sizes.batch_size), optimizer,
                  FitSettings(steps, clip=sizes.clip), schedule=cosine(steps, sizes.warmup, 0.05), progress=False)
    return model.eval(), history.steps


def improvements(estimates: Tensor, references: Tensor) -> Tensor:
    """SDR and SI-SDR in dB of estimates (source, time), less those of the mixture: (2, source)."""
    mixture = references.sum(0).expand_as(references)
    return torch.stack([score(estimates, references) - score(mixture, references) for score in (sdr, si_sdr)])


def song_rows(estimates: Tensor, references: Tensor, name: str, **more) -> list[dict]:
    """A row a score of one song: song, score ("SDRi", "SI-SDRi"), a column a stem."""
    return [{**more, "song": name, "score": score, **{stem: f"{value:.3f}" for stem, value in zip(STEMS, values)}}
            for score, values in zip(("SDRi", "SI-SDRi"), improvements(estimates, references).tolist())]


@torch.no_grad()
def rows_of(model: nn.Module, given: Given, labelled: bool, tagged: bool = False) -> tuple[list[dict], dict]:
    """A model's test songs (rows by song, score and who chose), and means: outputs, sparsity, SDRi, SI-SDRi."""
    rows, counts = [], []
    for name, references in zip(given.names, given.test):
        outputs = model(references.sum(0, keepdim=True))[0]
        counts.append([float(active_outputs(outputs)), float(output_sparsity(outputs))])
        ways = {"in order": outputs} if labelled else {"oracle": by_oracle(outputs, references)}
        if tagged:
            ways |= {"tagger": by_tagger(outputs)[0], "in turn": quartered(outputs)}
        for chooser, estimates in ways.items():
            rows += song_rows(estimates, references, name, chooser=chooser)
    means = dict(zip(("outputs", "sparsity"), np.mean(counts, 0)))
    first = "in order" if labelled else "oracle"
    for score in ("SDRi", "SI-SDRi"):
        chosen = [row for row in rows if (row["score"], row["chooser"]) == (score, first)]
        values = [float(row[stem]) for row in chosen for stem in STEMS]
        means[score] = np.nanmean(values)
    return rows, means


def all_runs(work: Work) -> list[Run]:
    """Every variant with all seeds, but those that need the committed network."""
    return [Run(variant, seed) for seed in MORE_SEEDS for variant in VARIANTS
            if variant not in FEW and seed in (MORE_SEEDS if variant in COMPARED else SEEDS)]


def few_runs(work: Work) -> list[Run]:
    """Few labelled songs, from scratch and from the committed network."""
    return [Run(variant, seed) for seed in SEEDS for variant in FEW]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, given, variant = work.settings, work.given, VARIANTS[run.variant]
    used = time.process_time()
    model, log = train(variant, given, sizes, run.seed)
    seconds = time.process_time() - used
    songs, means = rows_of(model, given, bool(variant.labelled))
    scores = {} if variant.labelled else mixture_scores(model, given.pairs)
    print(f"  {run.variant}: SDRi {means['SDRi']:.2f}, SI-SDRi {means['SI-SDRi']:.2f} dB, {seconds:.0f} s", flush=True)
    return {"songs": songs, "runs": [{
        "steps": len(log), "sdri": f"{means['SDRi']:.3f}", "si_sdri": f"{means['SI-SDRi']:.3f}",
        "pairs_snr": f"{scores['snr']:.3f}" if scores else "", "outputs": f"{means['outputs']:.2f}",
        "sparsity": f"{means['sparsity']:.3f}", "last_loss": f"{np.mean([row['loss'] for row in log[-30:]]):.4g}",
        "parameters": sum(p.numel() for p in model.parameters()), "cpu_seconds": f"{seconds:.0f}",
        "songs": len(given.names), "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def other_methods(work: Work) -> list[Run]:
    """No runs: keeps the tables of the committed network and of other methods, anew where weights are others."""
    names = (OURS, TAGGER, "demucs_band", "htdemucs_band")
    digest = {name: file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) for name in names}
    card = work.results.card("others") or {}
    known = {row["method"] for row in work.results.rows("others")}
    if card.get("weights") != digest or BANDS not in known:
        work.results.write("others", other_rows(work.given, work.settings.outputs))
        work.results.write_card("others", {
            "what": "SDRi and SI-SDRi of the middles of the band's test songs, mono at 16 kHz: the committed MixIT "
                    "network with three ways to choose, bands of equal energy, chapter 2's rules, supervised "
                    "networks, bounds",
            "command": EXPERIMENT.command, "weights": digest, "songs": work.settings.test_songs, "tables": ["others"]})
    return []


@torch.no_grad()
def other_rows(given: Given, count: int) -> list[dict]:
    """Rows method, chooser, song, score, stems; count: of bands of equal energy, as many as the network's outputs."""
    rows = [{"method": OURS, **row} for row in rows_of(load_trained(OURS).eval(), given, False, tagged=True)[0]]
    known = bounds()
    networks = {"Demucs": load_trained("demucs_band"), "HT Demucs": load_trained("htdemucs_band")}
    for name, references in zip(given.names, given.test):
        stereo = references[:, None]                                                   # (source, 1, time)
        ways = {method: estimates_of(known[method], stereo, RATE)[:, 0] for method in (LOWEST, RULES, HIGHEST)}
        for method, network in networks.items():
            heard = resample(stereo.sum(0), RATE, network.facts.rate)
            found = resample(separate(network, heard)[:, 0], network.facts.rate, RATE)
            ways[method] = nn.functional.pad(found, (0, 8))[:, : references.shape[-1]]
        ways["silence"] = torch.zeros_like(references)
        for method, estimates in ways.items():
            rows += song_rows(estimates, references, name, method=method, chooser="")
        pieces = equal_bands(references.sum(0), count)
        rows += song_rows(by_oracle(pieces, references), references, name, method=BANDS, chooser="oracle")
    return [{"method": row["method"], "chooser": row["chooser"], **row} for row in rows]


def definitions(work: Work) -> list[Run]:
    """No runs: keeps the table of what sources are taken to be, anew where the committed network is another."""
    digest = file_sha256(shipped_file(f"checkpoints/{OURS}.safetensors"))
    card = work.results.card("definitions") or {}
    if card.get("weights") != digest:
        given, sizes, chosen = work.given, work.settings, VARIANTS[PAIRINGS[0]]
        networks = {(OURS, ""): load_trained(OURS).eval()}
        networks |= {(PAIRINGS[0], seed): train(chosen, given, sizes, seed)[0] for seed in SEEDS}
        work.results.write("definitions", definition_rows(networks, given, sizes.outputs))
        work.results.write_card("definitions", {
            "what": "SDRi and SI-SDRi of the middles of the band's test songs by the oracle, mean over the sources "
                    "that sound, for coarser, finer and meaningless sources: the committed MixIT network, two short "
                    "trainings as in runs, bands of equal energy", "command": EXPERIMENT.command, "weights": digest,
            "sources": {name: ["+".join(group) for group in groups] for name, groups in DEFINITIONS.items()},
            "songs": sizes.test_songs, "tables": ["definitions"]})
    return []


@torch.no_grad()
def definition_rows(networks: Mapping[tuple, nn.Module], given: Given, count: int) -> list[dict]:
    """Rows method, seed, definition, song, sources, SDRi, SI-SDRi: the oracle's, mean over the sources that sound.

    networks: by method and seed. count: of bands of equal energy. SI-SDRi is NaN where a source got nothing but an
    empty band.
    """
    rows = []
    for name, six in zip(given.names, given.six):
        mixture = six.sum(0)
        pieces = {key: network(mixture[None])[0] for key, network in networks.items()}
        pieces[BANDS, ""] = equal_bands(mixture, count)
        for definition, groups in DEFINITIONS.items():
            references = grouped(six, groups)
            references = references[references.square().sum(-1) > SOUNDING * mixture.square().sum()]
            for (method, seed), cut in pieces.items():
                sdri, si_sdri = improvements(by_oracle(cut, references), references).mean(1).tolist()
                rows.append({"method": method, "seed": seed, "definition": definition, "song": name,
                             "sources": len(references), "SDRi": f"{sdri:.3f}", "SI-SDRi": f"{si_sdri:.3f}"})
    return rows


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band and {sizes.further} others, mono, pieces of "
                          f"{sizes.seconds:g} s", "rate_hz": RATE,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "pairs in tempo": len(work.given.train.in_tempo),
            "score": f"SDR and SI-SDR in dB of the middle {sizes.score_seconds:g} s of {sizes.test_songs} test songs, "
                     "less those of the mixture; outputs of MixIT given to sources by an oracle; pairs_snr: SNR of "
                     f"{sizes.pairs} pairs of test pieces told apart, best assignment"}


EXPERIMENT = Experiment(name="mixit", what="mixture invariant training with one thing changed at a time",
                        topic=TOPIC, stages=[all_runs, few_runs, other_methods, definitions], run=one_run,
                        settings=Sizes(), prepare=Given, names=tuple(VARIANTS), facts=facts)

__all__ = ["BANDS", "DEFINITIONS", "EXPERIMENT", "FEW", "FOUR", "Labelled", "MixturesOfMixtures", "OURS", "PAIRINGS",
           "RATE", "Run", "SEEDS", "Sizes", "Songs", "TOPIC", "VARIANTS", "Variant", "by_oracle", "by_tagger",
           "equal_bands", "grouped", "improvements", "mixture_scores", "quartered", "separate_sources", "songs_of",
           "train", "training_mixtures", "valid_mixtures"]
