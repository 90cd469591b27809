"""Chapter 13's small taggers: which instruments of the band sound in five seconds, and how well it is told.

What sounds is known: the band's generator has the notes. A chunk is a song's six sources (drums, bass, guitar, piano,
the rest, vocals), of which some are left out by chance, so that every instrument is also heard without the others; in
training the sources may come from several songs, each through a random tilt and at a random level. A tag is on where
one of its parts plays for at least LEAST seconds of the chunk.

`course train tagger_band` trains the network that comes with the course, `course train harmonic_band` a harmonic one,
both on `training_chunks`. `course experiment taggers` scores them on test songs, on the same songs played with a
soundfont that no training heard, and beside them a linear model of each band's mean level and spread. data/results/
13_music_tagging holds a row a method and set (runs) and a row a tag (tags).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.data import Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import FIRST_FREE_SEED, SPLITS
from course_lib.data.band.song import Part, Song
from course_lib.data.band.soundfonts import file_sha256, find_fluid_soundfont
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments.runner import Experiment, Work
from course_lib.paths import data_dir
from course_lib.results import machine, shipped_file
from course_lib.taggers import MelFrontEnd, average_precision, roc_auc
from course_lib.training import load_trained
from course_lib.training.trained import shipped_models

RATE, SECONDS, SONG_SECONDS = 16_000, 5.0, 20.0
TOPIC = "13_music_tagging"
TAGS = ("drums", "bass", "vocals", "guitar", "piano", "strings", "brass", "winds", "synth")
NAMES = {                             # tag -> names of parts; drums, bass and vocals go by the stem
    "guitar": ("acoustic guitar", "electric guitar", "distorted guitar"),
    "piano": ("piano", "electric piano"),
    "strings": ("strings",),
    "brass": ("brass",),
    "winds": ("flute", "reeds", "harmonica"),
    "synth": ("synth lead", "synth pad"),
}
FRAME = 0.1                           # seconds of a cell of the table of what sounds when
LEAST = 0.3                           # seconds of a chunk in which a tagged part has to play
LINEAR, SMALL, HARMONIC = "linear on levels", "tagger_band", "harmonic_band"
SAME_FONT, OTHER_FONT = "test songs", "test songs, another soundfont"


# ------------------------------------------------------------------------------------------------------------ the data


def tags_of(part: Part) -> list[str]:
    """The tags of a part of a song, one or two (a bowed double bass: bass and strings), or none (an organ)."""
    return [tag for tag in TAGS if part.stem == tag or part.name in NAMES.get(tag, ())]


def activity(song: Song) -> Tensor:
    """What plays when: bool (source, tag, frame) of a song, the sources in the order of SIX_STEMS, FRAME s a frame."""
    playing = torch.zeros(len(SIX_STEMS), len(TAGS), round(song.seconds / FRAME), dtype=torch.bool)
    for part in song.parts:
        rows = playing[SIX_STEMS.index(part.six_stem)]
        for note in part.notes:
            first, last = int(note.onset / FRAME), int(np.ceil((note.onset + note.duration) / FRAME))
            for tag in tags_of(part):
                rows[TAGS.index(tag), first:max(last, first + 1)] = True
    return playing


@dataclass(frozen=True)
class TaggedSongs:
    """Songs with what plays in them: mono tracks of SIX_STEMS at RATE; `playing`, (song, source, tag, frame)."""

    tracks: Sequence[Track]
    playing: Tensor

    def __add__(self, others: "TaggedSongs") -> "TaggedSongs":
        return TaggedSongs([*self.tracks, *others.tracks], torch.cat([self.playing, others.playing]))


def tagged_songs(split: str, count: int | None = None, soundfont: Path | None = None,
                 cache: Path | None = None) -> TaggedSongs:
    """The first songs of a split of the band ("further": of those that belong to none), kept in `cache`."""
    seeds = SPLITS[split] if split in SPLITS else range(FIRST_FREE_SEED, FIRST_FREE_SEED + count)
    seeds = seeds[:count]
    chosen = {"seeds": seeds} if split not in SPLITS else {"count": len(seeds)}
    font = "" if soundfont is None else f"_{Path(soundfont).stem}"
    file = None if cache is None else cache / f"{split}_{len(seeds)}{font}_{SONG_SECONDS:g}s_{RATE}Hz.npy"
    tracks = mono_tracks(lambda: open_tracks("band", split, soundfont=soundfont, **chosen), RATE, SONG_SECONDS, file,
                         SIX_STEMS)
    return TaggedSongs(tracks, torch.stack([activity(compose(seed, SONG_SECONDS)) for seed in seeds]))


def sounding(playing: Tensor, kept: Tensor) -> Tensor:
    """Labels (tag,), 0 or 1, of a chunk: playing (source, tag, frame), kept (source,) bool."""
    long_enough = playing.sum(-1) * FRAME >= LEAST - 1e-6                                 # (source, tag)
    return (long_enough & kept[:, None]).any(0).float()


def tilted(x: Tensor, slope: float) -> Tensor:
    """Audio (time,) through y[n] = x[n] + slope x[n - 1], at the level it had: duller above 0, brighter below."""
    y = x.clone()
    y[1:] += slope * x[:-1]
    return y * (x.norm() / y.norm().clamp_min(1e-9))


class TaggedChunks(Dataset):
    """`length` chunks of SECONDS with their labels: item i, (time,) and (tag,), is a pure function of (seed, i).

    remix: share of chunks whose sources come each from another song. keep: chance of each source to be in the chunk;
    one stays at least. augment: tilt and level (-9 to 3 dB) of each source, by chance.
    """

    def __init__(self, songs: TaggedSongs, length: int, seed: int, remix: float = 0.5, keep: float = 0.6,
                 augment: bool = True):
        self.songs, self.length, self.seed = songs, length, seed
        self.remix, self.keep, self.augment = remix, keep, augment

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"chunk {index} asked; there are {self.length}, counted from 0")
        generator = chunk_generator(self.seed, index)
        draw = lambda *shape: torch.rand(shape, generator=generator)                          # noqa: E731
        sources = len(SIX_STEMS)
        songs = (draw(sources) * len(self.songs.tracks)).long()
        if float(draw()) >= self.remix:
            songs[:] = songs[0]
        frames = round(SECONDS / FRAME)
        starts = (draw(sources) * (self.songs.playing.shape[-1] - frames + 1)).long()
        starts = torch.where(songs == songs[0], starts[0], starts)            # sources of one song stay together
        kept = draw(sources) < self.keep
        kept[int(draw() * sources)] = True
        slopes, gains = draw(sources) * 1.4 - 0.6, 10 ** ((draw(sources) * 12 - 9) / 20)
        x, playing = torch.zeros(round(SECONDS * RATE)), []
        for place, (song, start) in enumerate(zip(songs.tolist(), starts.tolist())):
            playing.append(self.songs.playing[song, place, :, start:start + frames])
            if kept[place]:
                piece = _source(self.songs.tracks[song], place, start)
                x += tilted(piece, float(slopes[place])) * gains[place] if self.augment else piece
        return x, sounding(torch.stack(playing), kept)


def _source(track: Track, place: int, start: int) -> Tensor:
    """A source of a song from a frame of FRAME seconds on, (time,)."""
    return track.read(SIX_STEMS[place], round(start * FRAME * RATE), round(SECONDS * RATE))[0]


@dataclass(frozen=True)
class HeldOut:
    """Chunks to score on: x (chunk, time), labels (chunk, tag), and the song that each is from, (chunk,)."""

    x: Tensor
    labels: Tensor
    song: Tensor


def held_out(songs: TaggedSongs, seed: int = 0) -> HeldOut:
    """Every song's chunks, end to end, each as it was mixed and three times with some sources left out by chance."""
    frames, xs, labels, song = round(SECONDS / FRAME), [], [], []
    for number, track in enumerate(songs.tracks):
        for start in range(0, songs.playing.shape[-1] - frames + 1, frames):
            generator = chunk_generator(seed, number, start)
            sources = torch.stack([_source(track, place, start) for place in range(len(SIX_STEMS))])
            for take in range(4):
                kept = torch.ones(len(SIX_STEMS), dtype=torch.bool)
                if take:
                    kept = torch.rand(len(SIX_STEMS), generator=generator) < 0.5
                xs.append((sources * kept[:, None]).sum(0))
                labels.append(sounding(songs.playing[number, :, :, start:start + frames], kept))
                song.append(number)
    return HeldOut(torch.stack(xs), torch.stack(labels), torch.tensor(song))


def training_chunks(seed: int, length: int, further: int = 0) -> TaggedChunks:
    """The training data of the two taggers: the band's train songs and `further` others, kept in data/training/taggers.
    """
    songs = tagged_songs("train", cache=data_dir() / "training" / "taggers")
    if further:
        songs += tagged_songs("further", further, cache=data_dir() / "training" / "taggers")
    return TaggedChunks(songs, length, seed)


def valid_chunks() -> HeldOut:
    """The chunks of the band's valid songs."""
    return held_out(tagged_songs("valid", cache=data_dir() / "training" / "taggers"))


# ---------------------------------------------------------------------------------------------------------- the scores


@torch.no_grad()
def probabilities(model: nn.Module, x: Tensor, batch_size: int = 16) -> Tensor:
    """What a tagger gives for chunks (chunk, time): (chunk, tag)."""
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)).cpu() for part in x.split(batch_size)])


def tagging_scores(model: nn.Module, data: HeldOut) -> dict[str, float]:
    """Mean over tags of ROC-AUC (`roc_auc`, first) and of PR-AUC."""
    given = probabilities(model, data.x)
    return {"roc_auc": float(roc_auc(data.labels, given).nanmean()),
            "pr_auc": float(average_precision(data.labels, given).nanmean())}


class LinearTagger:
    """The simple rival: mean and spread over time of each mel band's level, and a ridge regression on them."""

    def __init__(self, chunks: TaggedChunks, ridge: float = 10.0, batch_size: int = 16):
        pairs = [chunks[index] for index in range(len(chunks))]
        x = self.features(torch.stack([pair[0] for pair in pairs]), batch_size)
        y = torch.stack([pair[1] for pair in pairs])
        self.mean, self.std = x.mean(0), x.std(0).clamp_min(1e-3)
        x = self.standard(x)
        self.weight = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]), x.T @ y)

    def standard(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std if hasattr(self, "std") else x
        return torch.cat([x, torch.ones(len(x), 1)], 1)

    @staticmethod
    @torch.no_grad()
    def features(x: Tensor, batch_size: int = 16) -> Tensor:
        """(chunk, time) to (chunk, 192)."""
        front = MelFrontEnd()
        levels = torch.cat([front(part) for part in x.split(batch_size)])                  # (chunk, band, frame)
        return torch.cat([levels.mean(-1), levels.std(-1)], 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.standard(self.features(x)) @ self.weight


# ------------------------------------------------------------------------------------------------------------ the runs


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    test_songs: int = 20
    linear_chunks: int = 1200         # that the linear model learns from
    further: int = 100                # songs, beside the 60 train songs, that it and the networks learn from
    resamples: int = 200              # of the songs, for the interval


@dataclass(frozen=True)
class Run:
    """What is scored, and on what."""

    method: str
    songs: str


def all_runs(work: Work) -> list[Run]:
    """The linear model, and those of the networks whose weights are there, on both sets."""
    methods = [LINEAR, *(name for name in (SMALL, HARMONIC) if name in shipped_models())]
    return [Run(method, songs) for songs in (SAME_FONT, OTHER_FONT) for method in methods]


def interval(data: HeldOut, given: Tensor, resamples: int, seed: int = 0) -> tuple[float, float]:
    """95% of the mean ROC-AUC when songs are drawn anew, with replacement."""
    random, songs = np.random.default_rng(seed), data.song.unique().tolist()
    rows = {song: (data.song == song).nonzero()[:, 0] for song in songs}
    scores = []
    for _ in range(resamples):
        chosen = torch.cat([rows[song] for song in random.choice(songs, len(songs))])
        scores.append(float(roc_auc(data.labels[chosen], given[chosen]).nanmean()))
    return tuple(np.quantile(scores, (0.025, 0.975)).tolist())


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The scores of one method on one set: the rows of a run, by table."""
    sizes, cache = work.settings, data_dir() / "training" / "taggers"
    font = find_fluid_soundfont() if run.songs == OTHER_FONT else None
    data = held_out(tagged_songs("test", sizes.test_songs, font, cache))
    if run.method == LINEAR:
        chunks = training_chunks(0, sizes.linear_chunks, sizes.further)
        given, weights = LinearTagger(chunks)(data.x), ""
    else:
        given = probabilities(load_trained(run.method), data.x)
        weights = file_sha256(shipped_file(f"checkpoints/{run.method}.safetensors"))
    roc, precision = roc_auc(data.labels, given), average_precision(data.labels, given)
    low, high = interval(data, given, sizes.resamples)
    tags = [{"tag": tag, "roc_auc": f"{roc[n]:.4f}", "pr_auc": f"{precision[n]:.4f}",
             "on": int(data.labels[:, n].sum()), "chunks": len(data.x)} for n, tag in enumerate(TAGS)]
    print(f"  {run.method}, {run.songs}: ROC-AUC {roc.nanmean():.4f} [{low:.4f}, {high:.4f}]", flush=True)
    return {"tags": tags, "runs": [{
        "roc_auc": f"{roc.nanmean():.4f}", "low": f"{low:.4f}", "high": f"{high:.4f}",
        "pr_auc": f"{precision.nanmean():.4f}", "chance_pr_auc": f"{data.labels.mean():.4f}", "chunks": len(data.x),
        "test_songs": len(data.song.unique()), "weights": weights, "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> Mapping:
    return {"trained_on": f"60 train songs of the band and {work.settings.further} others, chunks of {SECONDS:g} s",
            "tags": list(TAGS), "score": "ROC-AUC and PR-AUC (average precision) a tag, and their mean over tags; the "
            "interval is that of songs drawn anew"}


EXPERIMENT = Experiment(name="taggers", what="which instruments of the band sound: small taggers and a linear model",
                        topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(),
                        names=(LINEAR, SMALL, HARMONIC), facts=facts)

__all__ = ["EXPERIMENT", "HeldOut", "LinearTagger", "RATE", "Run", "SECONDS", "Sizes", "TAGS", "TaggedChunks",
           "TaggedSongs", "activity", "held_out", "probabilities", "sounding", "tagged_songs", "tagging_scores",
           "tags_of", "training_chunks", "valid_chunks"]
