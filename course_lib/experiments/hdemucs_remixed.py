"""What new songs from old ones are worth: chapter 7's committed network, fine-tuned on three kinds of songs.

`course experiment hdemucs_remixed` goes on from `hdemucs_band` with equal steps at a low rate: on the train songs as
they are, on stems put together by chance (chapter 6's remix, all of it), and on songs of `automix`, whose stems come
from several songs that were made to fit. data/results/07_hybrid_demucs holds a row a run (remixed), its test songs
(remixed_songs) and the same for the network before it (kind "not fine-tuned").
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from course_lib.data import STEMS, Remix, Track
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.mono import mono_tracks
from course_lib.demucs import WaveformStep
from course_lib.experiments.demucs import RATE, middle, rows_by_song, sdr_table, songs_of
from course_lib.experiments.hdemucs import TOPIC
from course_lib.experiments.runner import Experiment, Work
from course_lib.hdemucs import Listened, automix
from course_lib.paths import data_dir
from course_lib.progress import progress
from course_lib.results import machine, shipped_file
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

START = "hdemucs_band"
BEFORE, AS_THEY_ARE, BY_CHANCE, FITTED = "not fine-tuned", "as they are", "by chance", "fitted"
KINDS = (AS_THEY_ARE, BY_CHANCE, FITTED)


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    copies: int = 6                   # new songs for each old one, as published
    steps: int = 300
    rate: float = 3e-4                # Adam's, a third of that of the training before, by a cosine to a twentieth
    warmup: int = 20
    batch_size: int = 4
    seconds: float = 1.5              # of a chunk
    clip: float = 5.0                 # largest norm of the gradient
    seeds: int = 2
    train_songs: int = 60
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each test song


@dataclass(frozen=True)
class Run:
    """One fine-tuning: the songs it learns from (KINDS; BEFORE: none), the seed."""

    kind: str
    seed: int


@dataclass(frozen=True)
class Given:
    """The train songs, the new songs made from them, and the middles of the test songs."""

    train: Sequence[Track]
    fitted: Sequence[Track]
    test: Sequence[Track]


def fitted_songs(songs: Sequence[Track], copies: int) -> list[Track]:
    """New songs: each song's drums, `copies` times, with stems of songs that fit; only those where all were found."""
    heard = [Listened(track) for track in progress(songs, "listening")]
    found = []
    for base in progress(range(len(songs)), "new songs"):
        for copy in range(copies):
            new = automix(heard, base, torch.Generator().manual_seed(base * copies + copy))
            if set(new) == set(STEMS):
                stems = {stem: audio for stem, (_, audio) in new.items()}
                found.append(Track.from_tensors(f"{songs[base].name}, {copy}", RATE, stems))
    return found


def prepare(sizes: Sizes, cache: Path) -> Given:
    """The songs, kept beside those of chapter 6's experiment; the new ones for this experiment."""
    folder = data_dir() / "training" / "demucs"
    train = songs_of("train", sizes.train_songs, sizes.song_seconds, folder)
    fitted = mono_tracks(lambda: fitted_songs(train, sizes.copies), RATE, sizes.song_seconds,
                         cache / f"fitted_{sizes.train_songs}x{sizes.copies}_{sizes.song_seconds:g}s_{RATE}Hz.npy")
    test = songs_of("test", sizes.test_songs, sizes.song_seconds, folder)
    return Given(train, fitted, [middle(track, sizes.score_seconds) for track in test])


def fine_tuned(kind: str, given: Given, sizes: Sizes, seed: int) -> nn.Module:
    """The committed network after its steps on one kind of songs, in eval mode."""
    model = load_trained(START)
    songs, share = (given.fitted if kind == FITTED else given.train), float(kind == BY_CHANCE)
    chunks = Remix(songs, sizes.seconds, sizes.steps * sizes.batch_size, seed, augment=Augmentation(), share=share)
    fit(model.train(), WaveformStep("l1"), process_batches(chunks, sizes.batch_size),
        torch.optim.Adam(model.parameters(), sizes.rate), FitSettings(sizes.steps, clip=sizes.clip),
        schedule=cosine(sizes.steps, min(sizes.warmup, sizes.steps), 0.05), progress=False)
    return model.eval()


def all_runs(work: Work) -> list[Run]:
    """The network before, then every kind with every seed."""
    return [Run(BEFORE, 0), *(Run(kind, seed) for seed in range(work.settings.seeds) for kind in KINDS)]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Fine-tune and score: the rows of a run, by table."""
    sizes, given, used = work.settings, work.given, time.process_time()
    model = load_trained(START) if run.kind == BEFORE else fine_tuned(run.kind, given, sizes, run.seed)
    seconds, test = time.process_time() - used, sdr_table(model, given.test)
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    learned_from = {BEFORE: 0, FITTED: len(given.fitted)}.get(run.kind, len(given.train))
    print(f"  {run.kind}: test {stems.mean():.3f} dB, {seconds:.0f} s", flush=True)
    return {"remixed_songs": rows_by_song(test, given.test), "remixed": [{
        "steps": 0 if run.kind == BEFORE else sizes.steps, "songs_to_learn": learned_from,
        "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{float(value):.3f}" for stem, value in zip(STEMS, stems)},
        "cpu_seconds": f"{seconds:.0f}", "songs": len(test),
        "weights": file_sha256(shipped_file(f"checkpoints/{START}.safetensors")), "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> Mapping:
    given = work.given
    found = np.bincount([[track.name for track in given.train].index(track.name.rpartition(", ")[0])
                         for track in given.fitted], minlength=len(given.train))
    return {"start": START, "rate_hz": RATE, "new_songs": len(given.fitted),
            "songs_that_none_fits": int((found == 0).sum()),
            "score": "SDR in dB of the middle of each test song, mean over songs, then over stems, without shifts"}


EXPERIMENT = Experiment(name="hdemucs_remixed", what="the committed Hybrid Demucs, fine-tuned on songs as they are, "
                        "put together by chance, and made to fit", topic=TOPIC, stages=[all_runs], run=one_run,
                        settings=Sizes(), table="remixed", prepare=prepare, names=(BEFORE, *KINDS), facts=facts)

__all__ = ["AS_THEY_ARE", "BEFORE", "BY_CHANCE", "EXPERIMENT", "FITTED", "Given", "KINDS", "Run", "Sizes",
           "fine_tuned", "fitted_songs"]
