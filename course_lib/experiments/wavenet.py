"""Chapter 15's notes: single notes of six instruments at 16 kHz, and what the autoencoder makes of them.

A note is a piece of NOTE samples, 32 frames of the code: its onset after one frame, held for HELD seconds, played from
the band's soundfont, mono. Every instrument plays every pitch of two octaves three times, at three velocities. Of the
pitches of each instrument a sixth is for tests and a sixth for validation, another sixth for each: what is scored is a
pitch that the autoencoder never heard from that instrument, but from others.

`course train wavenet_band` trains what comes with the course on `training_notes`. `course experiment wavenet` measures
it: data/results/15_wavenet_autoencoder holds what a classifier hears in generated notes (runs), how far each is from
the original (notes), and what can be read off the code (probes).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from course_lib.data.band.sampler import SoundFont
from course_lib.data.band.song import Note
from course_lib.data.band.soundfonts import default_soundfont
from course_lib.data.loaders import chunk_generator
from course_lib.wavenet import mu_law_encode

RATE, HOP, NOTE, HELD = 16_000, 512, 16_384, 0.8
INSTRUMENTS = {"piano": 0, "organ": 19, "guitar": 24, "cello": 42, "trumpet": 56, "clarinet": 71}  # General MIDI
PITCHES, VELOCITIES = range(48, 72), (60, 85, 110)
GAIN = 2.2                            # the loudest notes reach 0.9
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Notes:
    """Notes: x (note, time); instrument (place in INSTRUMENTS), pitch (MIDI) and velocity, (note,) each."""

    x: Tensor
    instrument: Tensor
    pitch: Tensor
    velocity: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def where(self, chosen: Tensor) -> "Notes":
        """The notes that a mask (note,), or places, choose."""
        return Notes(self.x[chosen], self.instrument[chosen], self.pitch[chosen], self.velocity[chosen])


def split_of(instrument: int, pitch: int) -> str:
    """Where an instrument's pitch belongs."""
    return {0: "test", 3: "valid"}.get((pitch - instrument) % 6, "train")


@cache
def _font() -> SoundFont:
    return SoundFont(default_soundfont(), RATE)


def phrase(notes: Sequence[Note], program: int, seconds: float) -> Tensor:
    """Notes on one instrument at RATE, (time,), mono, at the level of the data."""
    return GAIN * torch.from_numpy(_font().render(notes, program, seconds).mean(0))


def all_notes() -> Notes:
    """Every instrument, pitch and velocity, in this order; rendered in a second."""
    rows = [(place, pitch, velocity) for place in range(len(INSTRUMENTS)) for pitch in PITCHES
            for velocity in VELOCITIES]
    programs = list(INSTRUMENTS.values())
    x = [phrase([Note(HOP / RATE, HELD, pitch, velocity)], programs[place], NOTE / RATE)
         for place, pitch, velocity in rows]
    instrument, pitch, velocity = torch.tensor(rows).T
    return Notes(torch.stack(x).clamp(-1, 1), instrument, pitch, velocity)


@cache
def notes(split: str) -> Notes:
    """The notes of a split: 288 train, 72 valid, 72 test. ValueError for another name."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    every = all_notes()
    return every.where(torch.tensor([split_of(int(instrument), int(pitch)) == split
                                     for instrument, pitch in zip(every.instrument, every.pitch)]))


class NotePieces(Dataset):
    """`length` pieces of notes as mu-law codes: item i, (samples,), is a pure function of (seed, i).

    A note of the data, a place in it and a level, 9 to 0 dB lower, all drawn alike.
    """

    def __init__(self, data: Notes, samples: int, length: int, seed: int):
        if not 0 < samples <= NOTE or samples % HOP:
            raise ValueError(f"samples is {samples}; expected a multiple of {HOP} up to {NOTE}")
        self.data, self.samples, self.length, self.seed = data, samples, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < self.length:
            raise IndexError(f"piece {index} asked; there are {self.length}, counted from 0")
        note, place, level = torch.rand(3, generator=chunk_generator(self.seed, index)).tolist()
        start = int(place * (NOTE - self.samples + 1))
        x = self.data.x[int(note * len(self.data)), start:start + self.samples]
        return mu_law_encode(x * 10 ** (-9 * level / 20))


def training_notes(seed: int, length: int, samples: int = 4096) -> NotePieces:
    """The training data of `course train wavenet_band`."""
    return NotePieces(notes("train"), samples, length, seed)


def valid_codes(count: int = 24) -> list[Tensor]:
    """Codes of validation notes, spread over instruments and pitches, four to a batch: (4, time) each."""
    data = notes("valid")
    chosen = torch.from_numpy(np.linspace(0, len(data) - 1, count).round()).long()
    return list(mu_law_encode(data.x[chosen]).split(4))
