"""Chapter 19's priors of the band: the songs they learn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.experiments import demucs
from course_lib.paths import data_dir
from course_lib.prior_separation import denoising_loss

RATE, SONG_SECONDS, SEGMENT = 11_025, 20.0, 32_768     # of the diffusion model; samples of a piece: 3 s
TOPIC, OURS = "19_prior_separation", "multi_source_band"


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
