"""How fast training chunks come: the course's loaders beside the plain loop of a musdb or Open-Unmix training script.

    python benchmarks/loader_speed.py [--songs 8] [--song-seconds 60] [--batches 20]

Batches of 8 chunks of 6 s, four stereo stems at 44.1 kHz, from 16-bit WAV files of noise in a temporary folder (noise,
since raw samples take the same time whatever they hold). "x realtime" is the audio of the mixtures, all stems counted
once, over time: by wall clock, and per second of processor time (all processes together), which does not suffer from
what else runs on the machine. The plain loop draws a song, a start and a gain for each stem and reads it with
soundfile, as Open-Unmix's data set does for MUSDB18; it stacks the same batches.
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from course_lib.data import STEMS, RandomChunks, Remix, batches, open_tracks

RATE, SECONDS, BATCH = 44100, 6.0, 8


class PlainRandomChunks(Dataset):
    """What training scripts commonly do: each stem from a random song, soundfile from a random start, a random gain."""

    def __init__(self, folders: list[Path], length: int):
        self.folders, self.length = folders, length
        self.frames = [soundfile.info(folder / "mixture.wav").frames for folder in folders]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, _index: int) -> torch.Tensor:
        sources = []
        for stem in STEMS:
            song = random.randrange(len(self.folders))
            start = random.randint(0, self.frames[song] - int(SECONDS * RATE))
            audio, _ = soundfile.read(self.folders[song] / f"{stem}.wav", start=start, frames=int(SECONDS * RATE),
                                      dtype="float32", always_2d=True)
            sources.append(torch.from_numpy(audio.T) * random.uniform(0.25, 1.25))
        return torch.stack(sources)


def write_songs(root: Path, count: int, seconds: float) -> list[Path]:
    """Song folders of 16-bit noise in MUSDB18-HQ's layout."""
    rng = np.random.default_rng(0)
    folders = [root / f"song {number}" for number in range(count)]
    for folder in folders:
        folder.mkdir()
        for stem in (*STEMS, "mixture"):
            samples = rng.integers(-8000, 8000, (int(seconds * RATE), 2)).astype(np.int16)
            soundfile.write(folder / f"{stem}.wav", samples, RATE)
    return folders


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system      # Windows: children count as 0


def measure(name: str, workers: str, make: Callable[[], Iterable[torch.Tensor]], count: int) -> None:
    """Take `count` batches and print how much faster than realtime they came."""
    started, used, mixture_seconds = time.perf_counter(), processor_seconds(), 0.0
    for batch in make():
        mixture_seconds += batch.shape[0] * batch.shape[-1] / RATE
    del batch
    wall, used = time.perf_counter() - started, processor_seconds() - used
    print(f"{name:34} {workers:>10} {1000 * wall / count:10.0f} {mixture_seconds / wall:11.0f} "
          f"{mixture_seconds / used:16.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--song-seconds", type=float, default=60.0)
    parser.add_argument("--batches", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)                              # what a core gives; workers have one thread anyway
    length = arguments.batches * BATCH
    with tempfile.TemporaryDirectory() as root:
        folders = write_songs(Path(root), arguments.songs, arguments.song_seconds)
        tracks = open_tracks("folder", root=root)
        print(f"{'':34} {'workers':>10} {'ms a batch':>10} {'x realtime':>11} {'x realtime/core':>16}")
        for data_set in (RandomChunks(tracks, SECONDS, length, seed=0), Remix(tracks, SECONDS, length, seed=0)):
            data_set[0]
            for workers, context in ((0, None), (1, None), (2, None), (1, "thread"), (2, "thread")):
                measure(type(data_set).__name__, f"{workers} {context or 'process' if workers else ''}",
                        lambda: batches(data_set, BATCH, workers, context=context), arguments.batches)
        plain = PlainRandomChunks(folders, length)
        for workers in (0, 1, 2):
            measure("plain loop (soundfile, gain)", f"{workers} {'process' if workers else ''}",
                    lambda: DataLoader(plain, BATCH, num_workers=workers), arguments.batches)


if __name__ == "__main__":
    main()
