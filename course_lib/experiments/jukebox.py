"""Chapter 11's codec in miniature: the training data, the paper's comparisons with equal steps, Opus, and the scores.

`course train jukebox_band` trains the codec that comes with the course, mono at 22,050 Hz, on stereo songs of the band
mixed down at random. What differs between two runs of `course experiment jukebox` is one thing (VARIANTS) and the seed.
data/results/11_music_vq_vae holds what came of it: a row a run and level (runs), its test songs (songs), its loss
(logs); and what the committed codec and Opus give on the same songs at how many bits a second (codecs).
"""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock
import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib import vqvae
from course_lib.data import open_tracks
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.loaders import chunk_generator
from course_lib.data.resampling import resample
from course_lib.experiments.demucs import thinned
from course_lib.experiments.runner import Experiment, Work
from course_lib.jukebox import (
    VQVAE,
    CodecStep,
    HierarchicalVQVAE,
    bandwidth_of,
    codebook_part,
    in_decibels,
    log_spectral_distance,
    random_downmix,
    spectral_convergence,
    to_hops,
)
from course_lib.paths import data_dir
from course_lib.progress import progress
from course_lib.results import machine, shipped_file
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

RATE = 22_050
TOPIC = "11_music_vq_vae"
OURS = "jukebox_band"                                                            # the committed checkpoint
QUIETEST, LOUDEST = 0.3, 1.2                                                     # gains of training chunks
OPUS_RATE = 24_000                                                               # the nearest that Opus knows
OPUS = (1.0, 0.99, 0.92, 0.9, 0.8, 0.65, 0.5)                                    # soundfile's compression levels


# ------------------------------------------------------------------------------------------------------------ the data


def stereo_songs(split: str, count: int, first: int = 0, seconds: float = 20.0, cache: Path | None = None) -> Tensor:
    """Mixtures of the band's songs, (song, 2, time) at RATE in 16 bits; cache: a folder that keeps them.

    split: train, valid, test, or further, whose songs are those from seed `first` on.
    """
    name = f"{split}_{first}_{count}_{seconds:g}s_{RATE}Hz_stereo.npy"
    file = (cache or data_dir() / "training" / "jukebox") / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_suffix(".lock")):
        if not file.is_file():
            tracks = open_tracks("band", split, seeds=range(first, first + count)) if split == "further" else (
                open_tracks("band", split, count=count))
            songs = []
            for track in progress(tracks, f"{split} songs"):
                mixture = track.excerpt(0.0, min(seconds, track.seconds)).mixture
                songs.append((resample(mixture, track.rate, RATE).clamp(-1, 1) * 32767).round().to(torch.int16))
            shortest = min(song.shape[-1] for song in songs)
            unfinished = file.with_suffix(".part.npy")
            np.save(unfinished, torch.stack([song[:, :shortest] for song in songs]).numpy())
            unfinished.replace(file)
    return torch.from_numpy(np.load(file, mmap_mode="c"))


class MusicChunks(Dataset):
    """`length` chunks (1, samples) of songs, item i a function of (seed, i) alone: a random place of a random song,
    its channels mixed down at random, as loud as a random gain makes it.

    songs: a list of (song, 2, time) tensors in 16 bits.
    """

    rate = RATE

    def __init__(self, songs: Sequence[Tensor], samples: int, length: int, seed: int):
        self.songs = [song for some in songs for song in some]
        self.samples, self.length, self.seed = samples, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.length:
            raise IndexError(f"chunk {index} asked; there are {self.length}, counted from 0")
        generator = chunk_generator(self.seed, index)
        song = self.songs[int(torch.randint(len(self.songs), (), generator=generator))]
        start = int(torch.randint(song.shape[-1] - self.samples + 1, (), generator=generator))
        stereo = song[None, :, start:start + self.samples].float() / 32767
        gain = QUIETEST + (LOUDEST - QUIETEST) * float(torch.rand((), generator=generator))
        return gain * random_downmix(stereo, generator)[0]


def training_chunks(seed: int, length: int, samples: int = 16_384, further: int = 60) -> MusicChunks:
    """The training data of `course train jukebox_band`. Kept in data/training/jukebox."""
    songs = [stereo_songs("train", 60)]
    if further:
        songs.append(stereo_songs("further", further, 1000))
    return MusicChunks(songs, samples, length, seed)


def middles(split: str, count: int, seconds: float) -> Tensor:
    """The middle of songs, both channels alike, in whole hops: (song, 1, time)."""
    songs = stereo_songs(split, count)
    start = (songs.shape[-1] - round(seconds * RATE)) // 2
    mono = songs[:, :, start:start + round(seconds * RATE)].float().mean(1, keepdim=True) / 32767
    return to_hops(mono)


def valid_songs(count: int = 6, seconds: float = 5.0) -> Tensor:
    """The validation songs of `course train jukebox_band`."""
    return middles("valid", count, seconds)


# -------------------------------------------------------------------------------------------------------------- scores


@torch.no_grad()
def codec_scores(model: VQVAE, data: Tensor) -> dict[str, float]:
    """Spectral convergence in dB of every level, mean over songs (song, 1, time); first `fidelity`, minus their mean,
    which is better the higher it is; last how many codes of each level the songs use."""
    data = data.to(next(model.parameters()).device)
    sums, used = torch.zeros(model.levels), [set() for _ in range(model.levels)]
    for song in data:
        for level, codes in enumerate(model.encode(song[None])):
            used[level] |= set(codes.flatten().tolist())
            sums[level] += float(in_decibels(spectral_convergence(song[None], model.decode(codes, level))))
    means = (sums / len(data)).tolist()
    return {"fidelity": -sum(means) / len(means), **{f"convergence_{level}": mean for level, mean in enumerate(means)},
            **{f"codes_{level}": len(found) for level, found in enumerate(used)}}


def score_rows(reference: Tensor, output: Tensor, **columns) -> list[dict]:
    """Rows of scores, one a song: reference and output (song, 1, time)."""
    error = (reference - output).square().sum((1, 2))
    snr = 10 * (reference.square().sum((1, 2)) / error.clamp_min(1e-12)).log10()
    scores = zip(in_decibels(spectral_convergence(reference, output)).tolist(),
                 log_spectral_distance(reference, output).tolist(), snr.tolist())
    return [{**columns, "song": number, "convergence_db": f"{one:.3f}", "log_distance_db": f"{two:.3f}",
             "snr_db": f"{three:.3f}"} for number, (one, two, three) in enumerate(scores)]


def bits_per_second(model: VQVAE, level: int, rate: float = RATE) -> float:
    """What the codes of a level need: log2(l_bins) bits a code."""
    return vqvae.bits_per_second(rate, model.hop_lengths[level], model.l_bins)


def through_opus(x: Tensor, compression_level: float, rate: int = RATE) -> tuple[Tensor, float]:
    """Audio (1, time) through Opus and back, and the bits a second of the file, its container included.

    compression_level: soundfile's, from 0 (most bits) to 1 (fewest). Opus knows 24,000 Hz and not 22,050: the audio is
    resampled there and back.
    """
    file = io.BytesIO()
    there = resample(x, rate, OPUS_RATE)[0].clamp(-1, 1).numpy()
    soundfile.write(file, there, OPUS_RATE, format="OGG", subtype="OPUS", compression_level=compression_level)
    bits = 8 * len(file.getvalue()) * rate / x.shape[-1]
    file.seek(0)
    back = torch.from_numpy(soundfile.read(file, dtype="float32", always_2d=True)[0].T.copy())
    out = resample(back, OPUS_RATE, rate)[..., :x.shape[-1]]
    return nn.functional.pad(out, (0, x.shape[-1] - out.shape[-1])), bits


@torch.no_grad()
def codec_rows(model: VQVAE, songs: Tensor) -> list[dict]:
    """Every level of a codec and every rate of Opus on songs (song, 1, time): rows method, bits_per_second, scores."""
    rows = []
    for level, codes in enumerate(model.encode(songs)):
        rows += score_rows(songs, model.decode(codes, level), method=f"codes, hop {model.hop_lengths[level]}",
                           bits_per_second=round(bits_per_second(model, level)))
    for setting in OPUS:
        outputs, bits = zip(*[through_opus(song, setting) for song in songs])
        rows += score_rows(songs, torch.stack(outputs), method=f"Opus, setting {setting:g}",
                           bits_per_second=round(float(np.mean(bits))))
    there_and_back = resample(resample(songs, RATE, OPUS_RATE), OPUS_RATE, RATE)[..., :songs.shape[-1]]
    return rows + score_rows(songs, there_and_back, method="resampled only", bits_per_second="")


# ------------------------------------------------------------------------------------------------------ the miniatures


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    emb_width: int = 16
    l_bins: int = 256
    width: int = 32
    depth: int = 2
    strides_t: tuple[int, ...] = (8, 4, 4)
    downs_t: tuple[int, ...] = (1, 1, 1)
    mu: float = 0.98
    threshold: float = 0.1            # running count below which a code is restarted
    samples: int = 8192               # of a chunk
    batch_size: int = 2
    steps: int = 150
    rate: float = 2e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0
    train_songs: int = 60
    test_songs: int = 8
    score_seconds: float = 4.0        # from the middle of each test song


@dataclass(frozen=True)
class Variant:
    """What differs from the base: weight of the spectral loss, restarts, one autoencoder for all, arguments."""

    spectral: float = 1.0
    restarts: bool = True
    hierarchical: bool = False
    arguments: Mapping[str, object] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "without spectral loss": Variant(spectral=0.0),
    "without restarts": Variant(restarts=False),
    "one hierarchical autoencoder": Variant(hierarchical=True),
    "32 codes": Variant(arguments={"l_bins": 32}),
}
SEEDS = (0, 1)


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


@dataclass
class Songs:
    """Training songs (song, 2, time), and the middles of test songs (song, 1, time)."""

    train: Tensor
    test: Tensor


def shared_songs(sizes: Sizes, cache: Path) -> Songs:
    """The songs of the experiment, kept in data/training/jukebox."""
    return Songs(stereo_songs("train", sizes.train_songs), middles("test", sizes.test_songs, sizes.score_seconds))


def new_model(variant: Variant, sizes: Sizes, seed: int) -> nn.Module:
    """The codec of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    arguments = {"emb_width": sizes.emb_width, "l_bins": sizes.l_bins, "width": sizes.width, "depth": sizes.depth,
                 "downs_t": sizes.downs_t, "strides_t": sizes.strides_t, "mu": sizes.mu,
                 "revival_threshold": sizes.threshold if variant.restarts else 0.0,
                 **variant.arguments}
    return HierarchicalVQVAE(**arguments) if variant.hierarchical else VQVAE(multipliers=None, **arguments)


def train(variant: Variant, songs: Tensor, sizes: Sizes, seed: int) -> tuple[nn.Module, list[dict]]:
    """Train a new codec; return it in eval mode, and its log."""
    model = new_model(variant, sizes, seed)
    chunks = MusicChunks([songs], sizes.samples, sizes.steps * sizes.batch_size, seed)
    model.bandwidth = bandwidth_of(torch.stack([chunks[number] for number in range(min(64, len(chunks)))]))
    history = fit(model, CodecStep(spectral=variant.spectral), process_batches(chunks, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), sizes.rate), FitSettings(sizes.steps, clip=sizes.clip),
                  parts=[codebook_part(model)], schedule=cosine(sizes.steps, sizes.warmup, 0.05), progress=False)
    return model.eval(), history.steps


@torch.no_grad()
def outputs_of(model: nn.Module, songs: Tensor) -> dict[str, Tensor]:
    """What a codec makes of songs (song, 1, time), by the level's name.

    Of one hierarchical autoencoder: of all levels, of the top alone, and of all but the top.
    """
    if isinstance(model, HierarchicalVQVAE):
        cases = {"all levels": (), "hop 128": (0, 1), "without hop 128": (2,)}
        return {name: model(songs, without).outputs[0] for name, without in cases.items()}
    return {f"hop {hop}": model.decode(codes, level)
            for level, (hop, codes) in enumerate(zip(model.hop_lengths, model.encode(songs)))}


# ------------------------------------------------------------------------------------------------------------ the runs


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds."""
    return [Run(variant, seed) for variant in VARIANTS for seed in SEEDS]


def references(work: Work) -> list[Run]:
    """No runs: the committed codec and Opus, anew where its weights are others."""
    try:
        digest = file_sha256(shipped_file(f"checkpoints/{OURS}.safetensors"))
    except FileNotFoundError:                                                    # before the first `course train`
        return []
    if (work.results.card("codecs") or {}).get("weights") == digest:
        return []
    sizes = work.settings
    work.results.write("codecs", codec_rows(load_trained(OURS), work.given.test))
    work.results.write_card("codecs", {
        "what": f"The middle {sizes.score_seconds:g} s of the band's test songs, mono at 22,050 Hz, through the "
                "committed codec and through Opus (24,000 Hz, files of one song, their container included): spectral "
                "convergence, log-spectral distance and SNR, and bits a second",
        "command": EXPERIMENT.command, "weights": digest, "songs": sizes.test_songs, "tables": ["codecs"]})
    return []


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs, variant = work.settings, work.given, VARIANTS[run.variant]
    began, used = time.perf_counter(), time.process_time()
    model, log = train(variant, songs.train, sizes, run.seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    outputs, rows, runs = outputs_of(model, songs.test), [], []
    for level, output in outputs.items():
        scores = score_rows(songs.test, output, level=level)
        rows += scores
        means = {name: f"{np.mean([float(row[name]) for row in scores]):.3f}"
                 for name in ("convergence_db", "log_distance_db", "snr_db")}
        runs.append({"level": level, **means})
    last = log[-20:]
    for row in runs:
        row |= {f"usage_{level}": f"{np.mean([one[f'usage_{level}'] for one in last]):.0f}" for level in range(3)}
        row |= {"steps": len(log), "parameters": sum(p.numel() for p in model.parameters()),
                "seconds": f"{seconds:.1f}", "cpu_seconds": f"{cpu_seconds:.1f}", "songs": len(songs.test),
                "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
    print(f"  {', '.join(row['level'] + ' ' + row['convergence_db'] for row in runs)} dB, {cpu_seconds:.0f} s of one "
          "core", flush=True)
    return {"logs": thinned(log), "songs": rows, "runs": runs}


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band, stereo mixed down at random; scores on the "
                          f"middle {sizes.score_seconds:g} s of {sizes.test_songs} test songs", "rate_hz": RATE,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "score": "spectral convergence, log-spectral distance and SNR in dB, means over songs, by level"}


EXPERIMENT = Experiment(name="jukebox", what="a small codec of three levels, one thing changed at a time, with equal "
                        "steps", topic=TOPIC, stages=[all_runs, references], run=one_run, settings=Sizes(),
                        prepare=shared_songs, names=tuple(VARIANTS), facts=facts)

__all__ = ["EXPERIMENT", "MusicChunks", "OPUS", "OURS", "RATE", "Run", "SEEDS", "Sizes", "TOPIC", "VARIANTS", "Variant",
           "bits_per_second", "codec_rows", "codec_scores", "middles", "new_model", "outputs_of", "score_rows",
           "stereo_songs", "through_opus", "train", "training_chunks", "valid_songs"]
