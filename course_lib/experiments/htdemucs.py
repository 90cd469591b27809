"""Chapter 8's HT Demucs in miniature: its training data and scores.

`course train htdemucs_band` trains the network that comes with the course: mono at 22,050 Hz, as those of chapters 6
and 7, on chunks of SECONDS, of which six make up a song of 20 s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib.data import Remix, Track, open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.mono import mono_tracks
from course_lib.experiments.demucs import RATE, songs_of, valid_songs
from course_lib.paths import data_dir
from course_lib.spectral import song_sdr

SEGMENT = 73_500                              # samples of a chunk: 3 1/3 s, a sixth of a song


def training_chunks(seed: int, length: int, samples: int = SEGMENT, further: int = 0, remix: float = 0.5) -> Remix:
    """The training data of `course train htdemucs_band`: chunks of the band's train songs and of `further` others.

    samples: of a chunk. remix: share of groups whose stems come from several songs. Kept in data/training/demucs.
    """
    cache = data_dir() / "training" / "demucs"
    tracks = songs_of("train", 60, 20.0, cache)
    if further:
        tracks += mono_tracks(lambda: open_tracks("band", "further", seeds=range(1000, 1000 + further)), RATE, 20.0,
                              cache / f"further_{further}_20s_{RATE}Hz.npy")
    return Remix(tracks, samples / RATE, length, seed, augment=Augmentation(), share=remix)


def in_segments(model: nn.Module, mixture: Tensor, samples: int = SEGMENT) -> Tensor:
    """Sources of a song that is cut into equal pieces, one beside the other: (channel, time) to (source, channel,
    time). The last piece is filled up with zeros. Chapter 9 lets the pieces overlap."""
    time = mixture.shape[-1]
    pieces = nn.functional.pad(mixture, (0, -time % samples)).unfold(-1, samples, samples).transpose(0, 1)
    sources = torch.cat([model(piece[None]) for piece in pieces])                # (piece, source, channel, sample)
    return sources.movedim(0, -2).flatten(-2)[..., :time]


def separation_scores(model: nn.Module, data: Sequence[Track]) -> dict[str, float]:
    """Mean SDR in dB over songs of each source, and their mean (`sdr`, first), in pieces of SEGMENT samples."""
    device, rows = next(model.parameters()).device, []
    with torch.no_grad():
        for track in data:
            estimates = in_segments(model, track.mixture.to(device))
            rows.append(song_sdr(estimates, track.sources(model.sources).to(device)))
    means = torch.stack(rows).nanmean(0)                                         # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(model.sources, means.tolist()))}


__all__ = ["SEGMENT", "in_segments", "separation_scores", "training_chunks", "valid_songs"]
