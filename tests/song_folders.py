"""Songs of noise on disk, for tests of what reads them."""

from pathlib import Path

import numpy as np
import soundfile
import torch

STEMS = ("drums", "bass", "other", "vocals")


def noise(rng: np.random.Generator, frames: int, channels: int = 2, peak: int = 4000) -> np.ndarray:
    """16-bit noise, (frames, channels)."""
    return rng.integers(-peak, peak + 1, (frames, channels)).astype(np.int16)


def as_audio(samples: np.ndarray) -> torch.Tensor:
    """16-bit samples (frames, channels) as the library gives them, float32 (channels, frames)."""
    return torch.from_numpy(samples.T.astype(np.float32) / 32768)


def write_song(folder: Path, seed: int = 0, frames: int = 8000, rate: int = 8000, channels: int = 2,
               six_stems: bool = False, suffix: str = ".wav") -> dict[str, np.ndarray]:
    """A song folder in MUSDB18-HQ's layout; returns what was written, int16 (frames, channels) by stem.

    With six_stems, `other` is guitar + piano + something else, as the band writes it.
    """
    rng = np.random.default_rng(seed)
    audio = {stem: noise(rng, frames, channels) for stem in STEMS}
    if six_stems:
        audio["guitar"], audio["piano"] = (noise(rng, frames, channels, 1000) for _ in range(2))
        audio["other"] = audio["guitar"] + audio["piano"] + noise(rng, frames, channels, 1000)
    audio["mixture"] = sum(audio[stem] for stem in STEMS)
    folder.mkdir(parents=True)
    for stem, samples in audio.items():
        soundfile.write(folder / (stem + suffix), samples, rate)
    return audio


def write_set(root: Path, names, **options) -> None:
    """A folder for each name, with different noise in each."""
    for seed, name in enumerate(names):
        write_song(root / name, seed=seed, **options)
