"""Chapter 15's notes: single notes of six instruments at 16 kHz, and what the autoencoder makes of them.

A note is a piece of NOTE samples, 32 frames of the code: its onset after one frame, held for HELD seconds, played from
the band's soundfont, mono. Every instrument plays every pitch of two octaves three times, at three velocities. Of the
pitches of each instrument a sixth is for tests and a sixth for validation, others for each instrument: what is scored
is a pitch that the autoencoder never heard from that instrument, but from others.

`course train wavenet_band` trains what comes with the course on `training_notes`. `course experiment wavenet` measures
it: data/results/15_wavenet_autoencoder holds what a classifier hears in generated notes (runs), how far each is from
the original (notes), and what can be read off the code (probes).
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from course_lib.data.band.sampler import SoundFont
from course_lib.data.band.song import Note
from course_lib.data.band.soundfonts import default_soundfont, file_sha256
from course_lib.data.loaders import chunk_generator
from course_lib.experiments.runner import Experiment, Work
from course_lib.jukebox import log_spectral_distance
from course_lib.results import machine, shipped_file
from course_lib.spectral import mel_filterbank
from course_lib.training import load_trained
from course_lib.wavenet import (
    LinearProbe,
    WaveNetAutoencoder,
    WaveNetStep,
    between,
    mu_law_decode,
    mu_law_encode,
)

TOPIC, WEIGHTS = "15_wavenet_autoencoder", "wavenet_band"
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


# ---------------------------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    seeds: int = 2                    # of what is drawn
    velocity: int = 85                # of the test notes that are drawn anew
    cool: float = 0.7                 # the lower temperature
    bins: int = 512                   # of the spectrum that the classifier sees, up to 4 kHz
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    pairs: int = 12                   # of notes that are interpolated


@dataclass(frozen=True)
class Run:
    """What is made of the test notes, and the seed of what is drawn (0 where nothing is)."""

    method: str
    seed: int


ORIGINAL, MU_LAW, SILENCE, GENERATED, COOL, OTHER, BETWEEN = (
    "original", "mu-law", "silence", "generated", "generated, cool", "another note's code", "between")
METHODS = (ORIGINAL, MU_LAW, SILENCE, GENERATED, COOL, OTHER, BETWEEN)


def spectrum(x: Tensor, bins: int = 512) -> Tensor:
    """Mean over time of the level in dB of the lowest `bins` of 1025 bins, (note, bins), its mean taken off."""
    frames = torch.stft(x, 2048, 512, window=torch.hann_window(2048), return_complex=True).abs()
    level = 20 * (frames[:, 1:bins + 1] + 1e-2).log10().mean(-1)
    return level - level.mean(1, keepdim=True)


def timbre(x: Tensor) -> Tensor:
    """How notes sound apart from their pitch, (note, 32): the coarse shape of the mean spectrum (12 cepstral numbers of
    32 mel bands) and of its spread over time (12), and the level's course (8)."""
    frames = torch.stft(x, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs().square()
    bands = mel_filterbank(32, 1024, RATE, 60.0, 7600.0, "htk", norm=False).to(x)
    level = (bands @ frames + 1e-2).log10()                                                  # (note, band, frame)
    turns = torch.outer(torch.arange(32) + 0.5, torch.arange(1, 13)) * torch.pi / 32
    course = level.mean(1)[:, :64].unflatten(1, (8, 8)).mean(-1)
    return torch.cat([level.mean(-1) @ turns.cos(), level.std(-1) @ turns.cos(),
                      course - course.mean(1, keepdim=True)], 1)


def code_of(model: WaveNetAutoencoder, x: Tensor, batch_size: int = 12) -> Tensor:
    """The codes z (note, latent_d, frame) of audio (note, time)."""
    with torch.no_grad():
        return torch.cat([model.encode(part) for part in x.split(batch_size)])


class Judge:
    """Two linear classifiers fitted on the train notes as they are: which pitch (on `spectrum`), which instrument (on
    `timbre`)."""

    def __init__(self, bins: int):
        data = notes("train")
        self.bins = bins
        self.pitch = LinearProbe(spectrum(data.x, bins), data.pitch - PITCHES[0])
        self.instrument = LinearProbe(timbre(data.x), data.instrument)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pitch (MIDI) and instrument heard in x (note, time), (note,) each."""
        return self.pitch(spectrum(x, self.bins)) + PITCHES[0], self.instrument(timbre(x))


def prepare(sizes: Sizes, _folder: Path) -> tuple[WaveNetAutoencoder, Judge]:
    """The trained autoencoder and the classifier."""
    return load_trained(WEIGHTS), Judge(sizes.bins)


def all_runs(work: Work) -> list[Run]:
    """Every method; those that draw for a note's own code with several seeds."""
    drawn = (GENERATED, COOL)
    return [Run(method, seed) for method in METHODS for seed in range(work.settings.seeds if method in drawn else 1)]


def partners(data: Notes, seed: int) -> Tensor:
    """For every note the place of another one, of another pitch and instrument."""
    generator, chosen = torch.Generator().manual_seed(seed), []
    for n in range(len(data)):
        fit = ((data.pitch != data.pitch[n]) & (data.instrument != data.instrument[n])).nonzero()[:, 0]
        chosen.append(int(fit[torch.randint(len(fit), (1,), generator=generator)]))
    return torch.tensor(chosen)


def scored_notes(sizes: Sizes) -> Notes:
    """The test notes of one velocity: 24, four of each instrument."""
    data = notes("test")
    return data.where(data.velocity == sizes.velocity)


def rebuilt(method: str, seed: int, work: Work) -> Tensor:
    """What a method makes of the test notes: (note, time)."""
    data, (model, _) = scored_notes(work.settings), work.given
    if method == ORIGINAL:
        return data.x
    if method == SILENCE:
        return torch.zeros_like(data.x)
    if method == MU_LAW:
        return mu_law_decode(mu_law_encode(data.x))
    z = code_of(model, data.x)
    if method == OTHER:
        z = z[partners(data, seed)]
    return model.decode(z, torch.Generator().manual_seed(seed), work.settings.cool if method == COOL else 1.0)


def bits_of(model: WaveNetAutoencoder, data: Notes, z: Tensor) -> Tensor:
    """Cross entropy in bits a sample of every note, (note,), the decoder given the codes z."""
    with torch.no_grad():
        return torch.stack([WaveNetStep.bits(model.decoder(codes[None], one[None]), codes[None])
                            for codes, one in zip(mu_law_encode(data.x), z)])


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a method, by table."""
    data, (model, judge) = scored_notes(work.settings), work.given
    began = time.process_time()
    rows = {} if run.method != BETWEEN else {"interpolation": interpolation(run.seed, work)}
    if run.method == ORIGINAL:
        rows["probes"] = probes(work)
    bits = [math.nan] * len(data)
    if run.method in (GENERATED, OTHER) and run.seed == 0:
        z = code_of(model, data.x)
        bits = bits_of(model, data, z if run.method == GENERATED else z[partners(data, 0)]).tolist()
    summary = {"notes": 0, "distance_db": "", "pitch_right": "", "instrument_right": "", "bits": ""}
    if run.method != BETWEEN:
        x = rebuilt(run.method, run.seed, work)
        distances = torch.cat([log_spectral_distance(a[:, None], b[:, None])
                               for a, b in zip(data.x.split(12), x.split(12))])
        pitch, instrument = judge(x)
        right = (pitch == data.pitch).int(), (instrument == data.instrument).int()
        rows["notes"] = [{"instrument": list(INSTRUMENTS)[int(data.instrument[n])], "pitch": int(data.pitch[n]),
                          "velocity": int(data.velocity[n]), "distance_db": f"{distances[n]:.3f}",
                          "pitch_right": int(right[0][n]), "instrument_right": int(right[1][n]),
                          "bits": "" if math.isnan(bits[n]) else f"{bits[n]:.4f}"} for n in range(len(data))]
        summary = {"notes": len(data), "distance_db": f"{distances.mean():.3f}",
                   "pitch_right": f"{right[0].float().mean():.4f}",
                   "instrument_right": f"{right[1].float().mean():.4f}",
                   "bits": "" if math.isnan(bits[0]) else f"{sum(bits) / len(bits):.4f}"}
    weights = file_sha256(shipped_file(f"checkpoints/{WEIGHTS}.safetensors"))
    return {**rows, "runs": [{**summary, "cpu_seconds": round(time.process_time() - began), "weights": weights[:12],
                              "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def probes(work: Work) -> list[dict]:
    """What linear classifiers read off the code of test notes, off its mean, its level alone, and off the spectrum."""
    train, test, (model, _) = notes("train"), notes("test"), work.given
    z, z_test = code_of(model, train.x), code_of(model, test.x)
    level = lambda x: x.unflatten(1, (-1, HOP)).square().mean(-1).add(1e-6).log10()          # noqa: E731
    features = {"code": (z.flatten(1), z_test.flatten(1)), "mean of the code": (z.mean(-1), z_test.mean(-1)),
                "level of every frame": (level(train.x), level(test.x)),
                "mean spectrum": (spectrum(train.x), spectrum(test.x)), "timbre": (timbre(train.x), timbre(test.x))}
    targets = {"pitch": (train.pitch - PITCHES[0], test.pitch - PITCHES[0]),
               "instrument": (train.instrument, test.instrument)}
    rows = []
    for name, (x, x_test) in features.items():
        for target, (y, y_test) in targets.items():
            right = (LinearProbe(x, y)(x_test) == y_test).int()
            rows += [{"features": name, "target": target, "note": n, "right": int(right[n])} for n in range(len(test))]
    return rows


def interpolation(seed: int, work: Work) -> list[dict]:
    """Where, in the space of spectra, what is drawn between two codes lies: 0 at the first note, 1 at the second.

    Pairs of two instruments at one pitch: the first is a test note. `position` is that of the projection on the line
    between the spectra of what is drawn for the two codes themselves, `mixed` that of the two sounds mixed.
    """
    sizes, (model, _) = work.settings, work.given
    every = all_notes()
    places = [n for n in range(len(every)) if int(every.velocity[n]) == VELOCITIES[1]
              and split_of(int(every.instrument[n]), int(every.pitch[n])) == "test"]
    rows, step = [], len(places) // sizes.pairs
    for pair, first in enumerate(places[::step][:sizes.pairs]):
        other = (int(every.instrument[first]) + 1 + pair % 5) % len(INSTRUMENTS)
        second = int(((every.pitch == every.pitch[first]) & (every.velocity == every.velocity[first])
                      & (every.instrument == other)).nonzero()[0, 0])
        z = code_of(model, every.x[[first, second]])
        codes = torch.stack([between(z[0], z[1], weight) for weight in sizes.weights])
        generator = torch.Generator().manual_seed(1000 * seed + pair)
        x = model.decode(codes, generator)
        mixed = torch.stack([(1 - weight) * x[0] + weight * x[-1] for weight in sizes.weights])
        names = list(INSTRUMENTS)
        for weight, place, mix in zip(sizes.weights, positions(x), positions(mixed)):
            rows.append({"pair": pair, "first": names[int(every.instrument[first])], "second": names[other],
                         "pitch": int(every.pitch[first]), "weight": weight, "position": f"{place:.4f}",
                         "mixed": f"{mix:.4f}"})
    return rows


def positions(x: Tensor) -> Tensor:
    """Of sounds (sound, time): where each one's spectrum lies between those of the first, 0, and the last, 1."""
    level = spectrum(x)
    line = level[-1] - level[0]
    return (level - level[0]) @ line / line.square().sum()


def facts(work: Work) -> Mapping:
    return {"trained_on": "288 notes of six instruments",
            "notes": "24 test notes of one velocity (probes: 72 of all): pitches that were not heard from their "
            "instrument in training; distance_db: log-spectral distance to the original (chapter 11); pitch_right, "
            "instrument_right: by linear classifiers on mean spectra and timbre of the train notes"}


EXPERIMENT = Experiment(name="wavenet", what="chapter 15's autoencoder on test notes: what is heard, read and drawn",
                        topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(), prepare=prepare,
                        names=METHODS, facts=facts)

__all__ = ["EXPERIMENT", "HOP", "INSTRUMENTS", "NOTE", "NotePieces", "Notes", "PITCHES", "RATE", "Run", "Sizes",
           "VELOCITIES", "WEIGHTS", "all_notes", "code_of", "interpolation", "notes", "phrase", "positions", "spectrum",
           "split_of", "training_notes", "valid_codes"]
