"""Scores of chapter 4's Open-Unmix on the band's test songs, beside its bounds.

`course experiment open_unmix` fills data/results/04_open_unmix/scores.csv, a scoreboard
(`course_lib.experiments.scoreboard`), on four sets:

- "band": the test songs of 20 s as the band plays them,
- "other instruments": the same notes on a soundfont that no training saw, by the same singer,
- "unheard": the same notes in a world whose instruments, drums, voices and effects no training saw,
- "real recordings": readers of audiobooks over recorded music, 10 s each; their stems are vocals and other.

A set whose sounds this machine does not have is left out, and named. Rows of a network carry the first digits of its
weights' SHA-256 and are measured again when the weights are others.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from course_lib.data import STEMS, Track, open_tracks, recording
from course_lib.data.band.soundfonts import file_sha256, find_fluid_soundfont
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import ModelSeparator, Oracle, Separator, bounds, score_rows, summary
from course_lib.results import shipped_file
from course_lib.training.trained import load_trained

BAND, OTHER, UNHEARD, REAL = "band", "other instruments", "unheard", "real recordings"
# name -> (checkpoint, rounds of EM); the wide one went on from the first with many soundfonts, kits, voices and effects
OURS = {"Open-Unmix": ("open_unmix_band", 0), "Open-Unmix, EM": ("open_unmix_band", 1),
        "Open-Unmix, wide": ("open_unmix_wide", 0)}
NAMES = ("mixture / 4", "chapter 2's best", *OURS, "ideal ratio mask")
READERS, MUSIC = ("libri1", "libri2", "libri3"), ("brahms", "nutcracker", "trumpet")     # of `recording`
MIXTURE_LEVEL = 0.1                 # root mean square


@dataclass(frozen=True)
class Settings:
    """How many songs of the test split, and how long the recordings are."""

    songs: int = 20
    recording_seconds: float = 10.0


@dataclass(frozen=True)
class Scored:
    """One method on one song of a set; weights: the first digits of the network's SHA-256, "" for the bounds."""

    set: str
    song: str
    method: str
    weights: str


class Given:
    """The songs of each set by name, and the methods; the network is loaded when it is first asked for."""

    def __init__(self, settings: Settings):
        songs = {"split": "test", "count": settings.songs}
        sets: dict[str, Callable[[], list[Track]]] = {
            BAND: lambda: open_tracks("band", **songs),
            OTHER: lambda: open_tracks("band", soundfont=find_fluid_soundfont(), **songs),
            UNHEARD: lambda: open_tracks("band", world="unheard", **songs),
            REAL: lambda: read_over_music(settings.recording_seconds)}
        self.tracks: dict[str, dict[str, Track]] = {}
        for name, opened in sets.items():
            try:
                self.tracks[name] = _by_name(opened())
            except OSError as error:                            # not installed, or not to be downloaded
                print(f"{name}: left out, {error}")

    @cached_property
    def methods(self) -> dict[str, Separator | Oracle]:
        models = {checkpoint: load_trained(checkpoint) for checkpoint, _ in OURS.values()}
        ours = {name: ModelSeparator(models[checkpoint], niter) for name, (checkpoint, niter) in OURS.items()}
        known = {**bounds(), **ours}
        return {name: known[name] for name in NAMES}


def weights_of(checkpoint: str) -> Path:
    """The file of a committed checkpoint."""
    return shipped_file(f"checkpoints/{checkpoint}.safetensors")


def read_over_music(seconds: float) -> list[Track]:
    """Every reader over every piece, equally loud, in stereo at 44.1 kHz: real sounds whose stems are known.

    seconds: how much of each, where it lasts as long. Drums and bass are silent. OSError where one can't be had.
    """
    tracks = []
    for reader, piece in itertools.product(READERS, MUSIC):
        music, rate = recording(piece, rate=44_100)
        voice, _ = recording(reader, rate=44_100)
        frames = min(round(seconds * rate), music.shape[-1], voice.shape[-1])
        music, voice = (sound[:, :frames].expand(2, -1) / sound[:, :frames].square().mean().sqrt()
                        for sound in (music, voice))
        scale = MIXTURE_LEVEL / (music + voice).square().mean().sqrt()
        stems = {"drums": torch.zeros_like(music), "bass": torch.zeros_like(music), "other": music * scale,
                 "vocals": voice * scale}
        tracks.append(Track.from_tensors(f"{reader} over {piece}", rate, stems))
    return tracks


def _by_name(tracks: list[Track]) -> dict[str, Track]:
    return {track.name: track for track in tracks}


def all_methods(work: Work) -> list[Scored]:
    """Every method on every song of all sets."""
    digits = {method: file_sha256(weights_of(checkpoint))[:8] for method, (checkpoint, _) in OURS.items()}
    return [Scored(songs, song, method, digits.get(method, ""))
            for songs, tracks in work.given.tracks.items() for song in tracks for method in NAMES]


def score(variation: Scored, work: Work) -> dict[str, list[dict]]:
    """A song's rows."""
    track = work.given.tracks[variation.set][variation.song]
    return {"scores": score_rows(work.given.methods[variation.method], track)}


def facts(work: Work) -> Mapping:
    """Which sets, how many songs and of which length, and what a number is."""
    tracks = work.given.tracks
    return {"sets": {name: len(songs) for name, songs in tracks.items()},
            "weights": {checkpoint: file_sha256(weights_of(checkpoint)) for checkpoint, _ in OURS.values()},
            "seconds": {name: round(sum(track.seconds for track in songs.values()) / len(songs), 1)
                        for name, songs in tracks.items()},
            "unit": f"SDR in dB of {', '.join(STEMS)}"}


EXPERIMENT = Experiment(
    name="open_unmix",
    what="chapter 4's Open-Unmix, trained on one timbre and on many, and its bounds",
    topic="04_open_unmix",
    table="scores",
    stages=[all_methods],
    run=score,
    settings=Settings(),
    prepare=lambda settings, cache: Given(settings),
    names=(*NAMES, BAND, OTHER, UNHEARD, REAL),
    facts=facts,
    keep_others=False,
    summary=lambda work: summary(work.rows()),
)
