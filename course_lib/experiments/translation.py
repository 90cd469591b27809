"""Chapter 16's melodies: the same notes on several instruments of the band at 8 kHz, and what translations are worth.

A melody is one voice between G3 and C5, played from the band's soundfont, mono. The domains are four instruments, each
with melodies of its own in training: no melody is ever heard from two of them. Test melodies are played by all, so that
what a translation should sound like is known.

`course train` makes translation_band (encoder and four decoders), translation_band_guitar (a decoder more, the encoder
frozen), translation_synth and translation_cycle (two rivals). `course experiment translation` measures all of them:
data/results/16_music_translation holds a row a translation. `course experiment translation_code` trains small models
without this or that and asks what their codes know (course_lib.experiments.translation_code).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import librosa
import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor
from torch.utils.data import Dataset

from course_lib.data.band.sampler import SoundFont
from course_lib.data.band.song import Note
from course_lib.data.band.soundfonts import default_soundfont, file_sha256
from course_lib.data.loaders import chunk_generator
from course_lib.experiments.runner import Experiment, Work
from course_lib.jukebox import log_spectral_distance
from course_lib.results import machine, shipped_file
from course_lib.spectral import mel_filterbank, mel_spectrogram, stft
from course_lib.training import load_trained
from course_lib.translation import (
    concatenate_nearest,
    filter_envelope,
    griffin_lim,
    mean_spectrum,
    shift_locally,
)
from course_lib.wavenet import LinearProbe, mu_law_encode

TOPIC, WEIGHTS = "16_music_translation", "translation_band"
RATE, HOP = 8_000, 256
DOMAINS = {"piano": 0, "flute": 73, "cello": 42, "clarinet": 71}                                 # General MIDI
ADDED, UNSEEN = {"guitar": 24}, {"trumpet": 56}
PROGRAMS = DOMAINS | ADDED | UNSEEN
PITCHES = range(55, 73)
HEARD = range(52, 77)                 # the pitches that a frame may have; a further class for none
LEVELS = {"piano": 3.4, "flute": 2.2, "cello": 1.6, "clarinet": 2.6, "guitar": 2.4, "trumpet": 2.6}
FIRST_SEED = {"train": 0, "valid": 9_000, "test": 9_500}
TRAINING = (40, 6.0)                  # melodies of a domain, and their seconds
STEP = 64                             # samples between places where a training piece may begin


@cache
def _font() -> SoundFont:
    return SoundFont(default_soundfont(), 2 * RATE)


def melody(seed: int, seconds: float) -> list[Note]:
    """One voice: a walk in a major or minor scale, notes of a quarter to half a second, rests now and then."""
    drawn = np.random.default_rng(seed)
    root, steps = int(drawn.integers(12)), ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))[int(drawn.integers(2))]
    scale = [pitch for pitch in PITCHES if (pitch - root) % 12 in steps]
    place, onset, notes = int(drawn.integers(len(scale))), 0.05, []
    while onset < seconds - 0.3:
        length = float(drawn.choice([0.25, 0.375, 0.5]))
        if drawn.random() > 0.08:
            notes.append(Note(onset, 0.92 * length, scale[place], int(drawn.integers(70, 111))))
        onset += length
        place = int(np.clip(place + drawn.integers(-3, 4), 0, len(scale) - 1))
    return notes


def play(notes: Sequence[Note], instrument: str, seconds: float) -> Tensor:
    """Notes on one instrument of PROGRAMS at RATE, (time,), mono, at the level of the data."""
    x = resample_poly(_font().render(notes, PROGRAMS[instrument], seconds).mean(0), 1, 2)
    return (LEVELS[instrument] * torch.from_numpy(np.ascontiguousarray(x, np.float32))).clamp(-1, 1)


def pitch_track(x: Tensor, hop: int = HOP) -> tuple[Tensor, Tensor]:
    """Fundamental frequency in Hz and root mean square of every frame of x (time,), frames centred hop apart."""
    f0 = librosa.yin(x.numpy().astype(np.float64), fmin=150, fmax=740, sr=RATE, frame_length=512, hop_length=hop)
    rms = librosa.feature.rms(y=x.numpy(), frame_length=512, hop_length=hop)[0]
    return torch.from_numpy(f0).float(), torch.from_numpy(rms).float()


def pitch_classes(x: Tensor, hop: int = HOP) -> Tensor:
    """The nearest pitch of every frame, counted from HEARD's first; len(HEARD) where it is silent or out of range."""
    return nearest_pitch(*pitch_track(x, hop))


def nearest_pitch(f0: Tensor, rms: Tensor, least: float = 0.01) -> Tensor:
    """`pitch_classes` of frequencies and levels of any shape."""
    place = (69 + 12 * (f0 / 440).log2()).round().long() - HEARD[0]
    return torch.where((rms < least) | (place < 0) | (place >= len(HEARD)), len(HEARD), place)


@cache
def training_melodies(instrument: str) -> tuple[Tensor, Tensor, Tensor]:
    """An instrument's own melodies (melody, time), and f0 and level of their frames, STEP samples apart."""
    count, seconds = TRAINING
    first = FIRST_SEED["train"] + 100 * list(PROGRAMS).index(instrument)
    x = torch.stack([play(melody(first + k, seconds), instrument, seconds) for k in range(count)])
    f0, level = zip(*(pitch_track(one, STEP) for one in x))
    return x, torch.stack(f0), torch.stack(level)


def same_melodies(split: str, count: int, seconds: float, instruments: Sequence[str] = tuple(DOMAINS)) -> Tensor:
    """Melodies of a split, each played by all instruments: (melody, instrument, time)."""
    if split not in ("valid", "test"):
        raise ValueError(f"split is {split!r}; expected valid or test")
    tunes = [melody(FIRST_SEED[split] + k, seconds) for k in range(count)]
    return torch.stack([torch.stack([play(tune, name, seconds) for name in instruments]) for tune in tunes])


class MelodyPieces(Dataset):
    """`length` items: from each domain a piece of one of its melodies. Item i is a pure function of (seed, i).

    An item has "clean" and "heard", mu-law codes (domain, samples), heard with a piece out of tune where `augment`;
    and "pitch", (domain, frame), what `pitch_classes` hears in the clean one. Levels are 9 to 0 dB lower.
    """

    rate = RATE

    def __init__(self, instruments: Sequence[str], samples: int, length: int, seed: int, augment: bool = True):
        if samples % HOP or not HOP <= samples <= RATE:
            raise ValueError(f"samples is {samples}; expected a multiple of {HOP} up to {RATE}")
        self.data = [(x, nearest_pitch(f0, level)) for x, f0, level in map(training_melodies, instruments)]
        self.samples, self.length, self.seed, self.augment = samples, length, seed, augment

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"piece {index} asked; there are {self.length}, counted from 0")
        generator = chunk_generator(self.seed, index)
        pieces = [self._piece(x, pitch, generator) for x, pitch in self.data]
        return {name: torch.stack([piece[name] for piece in pieces]) for name in pieces[0]}

    def _piece(self, x: Tensor, pitch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        melody_, place, level, within = torch.rand(4, generator=generator).tolist()
        around = RATE                                              # a second, in which a piece goes out of tune
        number = int(melody_ * len(x))
        start = int(place * ((x.shape[1] - around) // STEP + 1)) * STEP
        inner = int(within * ((around - self.samples) // STEP + 1)) * STEP
        wide = x[number, start:start + around] * 10 ** (-9 * level / 20)
        heard = shift_locally(wide, RATE, generator) if self.augment else wide
        piece = slice(inner, inner + self.samples)
        frames = (start + inner + HOP // 2) // STEP + torch.arange(self.samples // HOP) * (HOP // STEP)
        return {"clean": mu_law_encode(wide[piece]), "heard": mu_law_encode(heard[piece]),
                "pitch": pitch[number, frames]}


def training_pieces(seed: int, length: int, samples: int = 2048, augment: bool = True,
                    instruments: Sequence[str] = tuple(DOMAINS)) -> MelodyPieces:
    """The training data of `course train translation_band`."""
    return MelodyPieces(instruments, samples, length, seed, augment)


def valid_codes(instruments: Sequence[str] = tuple(DOMAINS)) -> list[Tensor]:
    """Codes of four validation melodies played by all instruments, a melody a batch: (1, instrument, time)."""
    return [mu_law_encode(x)[None, :, :16_128] for x in same_melodies("valid", 4, 2.1, instruments)]


# ---------------------------------------------------------------------------------------------------- what rivals take

SYNTH, CYCLE, GUITAR = "translation_synth", "translation_cycle", "translation_band_guitar"
PICTURE = dict(rate=RATE, n_mels=96, n_fft=1024, hop_length=128, f_min=60.0, f_max=4000.0)
SECONDS = 2.112                       # of a test melody: 66 frames of the code


def picture(x: Tensor) -> Tensor:
    """Logarithmic mel spectrogram (..., band, frame) of audio (..., time)."""
    return (mel_spectrogram(x, **PICTURE) + 1e-2).log10()


def picture_to_audio(new: Tensor, x: Tensor) -> Tensor:
    """The sound (time,) of a translated picture (band, frame), begun with the phases of the sound it was made from."""
    bank = mel_filterbank(PICTURE["n_mels"], PICTURE["n_fft"], RATE, PICTURE["f_min"], PICTURE["f_max"])
    power = torch.linalg.pinv(bank) @ (10 ** new - 1e-2).clamp_min(0)
    return griffin_lim(power.clamp_min(0).sqrt(), stft(x, 1024, 128).angle(), len(x))


class AudioPieces(Dataset):
    """`length` items for the rivals: from each domain a second of a training melody as audio "x" (domain, time), with
    "f0" and "level" (domain, frame), STEP samples a frame, and its "picture". Item i is a function of (seed, i)."""

    rate = RATE

    def __init__(self, instruments: Sequence[str], length: int, seed: int, what: Sequence[str]):
        self.data = [training_melodies(name) for name in instruments]
        self.length, self.seed, self.what = length, seed, what

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = chunk_generator(self.seed, index)
        items: dict[str, list[Tensor]] = {"x": [], "f0": [], "level": []}
        for x, f0, level in self.data:
            place, number = torch.rand(2, generator=generator).tolist()
            frame = int(place * ((x.shape[1] - RATE) // STEP))
            number = int(number * len(x))
            items["x"].append(x[number, frame * STEP:frame * STEP + RATE])
            items["f0"].append(f0[number, frame:frame + RATE // STEP])
            items["level"].append(level[number, frame:frame + RATE // STEP])
        item = {name: torch.stack(parts) for name, parts in items.items()}
        if "picture" in self.what:
            item["picture"] = picture(item["x"])
        return {name: item[name] for name in self.what}


def audio_pieces(seed: int, length: int, what: Sequence[str] = ("x", "f0", "level")) -> AudioPieces:
    """The training data of `course train translation_synth` and translation_cycle."""
    return AudioPieces(tuple(DOMAINS), length, seed, what)


@cache
def grains(instrument: str) -> tuple[Tensor, Tensor]:
    """An instrument's training melodies in pieces of 512 samples, 256 apart: their features, and the pieces."""
    x, f0, level = training_melodies(instrument)
    pieces = x[:20].unfold(1, 2 * HOP, HOP).flatten(0, 1)
    centres = torch.arange(1, x.shape[1] // HOP) * HOP // STEP
    return pitch_and_level(f0[:20, centres].flatten(), level[:20, centres].flatten()), pieces


def pitch_and_level(f0: Tensor, level: Tensor) -> Tensor:
    """What the concatenation compares, (frame, 2): semitones, and decibels, of which 6 count as a semitone."""
    return torch.stack([12 * (f0 / 440).log2(), 20 * (level + 1e-3).log10() / 6], 1)


@cache
def domain_spectrum(instrument: str) -> Tensor:
    """The mean spectrum of an instrument's training melodies."""
    return mean_spectrum(training_melodies(instrument)[0])


# ---------------------------------------------------------------------------------------------------------- the scores


def timbre(x: Tensor) -> Tensor:
    """How melodies (melody, time) sound apart from their notes, (melody, 36): the coarse shape of the mean spectrum (12
    cepstral numbers of 32 mel bands), of its spread over time (12) and of its changes (12)."""
    level = (mel_spectrogram(x, RATE, 32, 512, 128, f_min=60.0, f_max=4000.0) + 1e-3).log10()  # (melody, band, ...)
    turns = torch.outer(torch.arange(32) + 0.5, torch.arange(1, 13)) * torch.pi / 32
    return torch.cat([level.mean(-1) @ turns.cos(), level.std(-1) @ turns.cos(),
                      level.diff(dim=-1).abs().mean(-1) @ turns.cos()], 1)


@cache
def judge() -> LinearProbe:
    """Which domain, guitar included, is heard? Fitted on the training melodies, trained apart from all methods."""
    names = [*DOMAINS, *ADDED]
    length = round(SECONDS * RATE)
    features = [timbre(training_melodies(name)[0][:, :2 * length].unflatten(1, (2, length)).flatten(0, 1))
                for name in names]
    labels = torch.arange(len(names)).repeat_interleave(len(features[0]))
    return LinearProbe(torch.cat(features), labels)


def chroma_agreement(y: Tensor, truth: Tensor) -> float:
    """Mean correlation of the chroma of two sounds (time,), over the frames in which the second sounds."""
    a, b = (librosa.feature.chroma_stft(y=x.numpy(), sr=RATE, n_fft=2048, hop_length=512, tuning=0.0)
            for x in (y, truth))
    sounds = librosa.feature.rms(y=truth.numpy(), frame_length=2048, hop_length=512)[0] > 0.01
    a, b = (x[:, sounds] - x[:, sounds].mean(0) for x in (a, b))
    return float(((a * b).sum(0) / np.maximum(np.sqrt((a ** 2).sum(0) * (b ** 2).sum(0)), 1e-9)).mean())


def onset_agreement(y: Tensor, truth: Tensor) -> float:
    """Correlation of the onset strengths of two sounds (time,), smoothed over about 50 ms; 0 where one has none."""
    a, b = (np.convolve(librosa.onset.onset_strength(y=x.numpy(), sr=RATE, hop_length=128, n_fft=512, n_mels=64),
                        np.hanning(7), "same") for x in (y, truth))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a ** 2).sum() * (b ** 2).sum()), 1e-9))


def pitch_agreement(y: Tensor, truth: Tensor) -> float:
    """Share of the frames with a pitch in the truth in which a sound has the same one (nearest semitone)."""
    a, b = pitch_classes(y), pitch_classes(truth)
    voiced = b < len(HEARD)
    return float((a == b)[voiced].float().mean())


def scores(y: Tensor, truth: Tensor, target: str) -> dict[str, float]:
    """All scores of a translation (time,) against what the target instrument really plays."""
    heard = int(judge()(timbre(y[None]))[0])
    return {"distance_db": float(log_spectral_distance(truth[None, None], y[None, None])[0]),
            "chroma": chroma_agreement(y, truth), "onsets": onset_agreement(y, truth),
            "pitch": pitch_agreement(y, truth), "target_heard": float(heard == [*DOMAINS, *ADDED].index(target))}


# ---------------------------------------------------------------------------------------------------------- the methods

TRUTH, OTHER, COPY, CONCATENATION, FILTER, HARMONICS, CYCLED, TRANSLATED, COOL, ADDED_LATER = (
    "truth", "another melody", "copy", "concatenation", "envelope filter", "harmonics and noise", "picture, cycle",
    "translation", "translation, cool", "translation, added later")
METHODS = (TRUTH, OTHER, COPY, CONCATENATION, FILTER, HARMONICS, CYCLED, TRANSLATED, COOL, ADDED_LATER)


def method(name: str, x: Tensor, source: str, target: str, seed: int = 0, cool: float = 0.3) -> Tensor:
    """What a method makes of a sound (time,): the same length. ValueError for an unknown one."""
    if name == COPY:
        return x
    if name == FILTER:
        return filter_envelope(x, domain_spectrum(target))
    if name == CONCATENATION:
        f0, level = pitch_track(x)
        frames = len(x) // HOP
        centres = slice(0, frames)
        y = concatenate_nearest(pitch_and_level(f0[centres], level[centres]), *grains(target), HOP)
        return torch.nn.functional.pad(y, (0, len(x) - len(y)))
    if name == HARMONICS:
        f0, level = pitch_track(x, STEP)
        frames = len(x) // STEP
        with torch.no_grad():
            y = trained(SYNTH)(f0[None, :frames], level[None, :frames], torch.tensor([list(DOMAINS).index(target)]))[0]
        return torch.nn.functional.pad(y, (0, len(x) - len(y)))
    if name == CYCLED:
        with torch.no_grad():
            new = trained(CYCLE)(picture(x)[None, None], torch.tensor([list(DOMAINS).index(target)]))[0, 0]
        return picture_to_audio(new, x)
    if name in (TRANSLATED, COOL, ADDED_LATER):
        model, temperature = trained(WEIGHTS if target in DOMAINS else GUITAR), 1.0 if name == TRANSLATED else cool
        return model.translate(x[None], target, torch.Generator().manual_seed(seed), temperature)[0]
    raise ValueError(f"method is {name!r}; expected one of {', '.join(METHODS[2:])}")


@cache
def trained(name: str):
    """A trained network of the chapter."""
    return load_trained(name)


# -------------------------------------------------------------------------------------------------------- the measuring


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    melodies: int = 6                 # test melodies, each from five instruments to the four domains
    seconds: float = SECONDS
    seeds: int = 2                    # of what is drawn
    cool: float = 0.3                 # the lower temperature


@dataclass(frozen=True)
class Run:
    """A method, and the seed of what it draws (0 where it draws nothing)."""

    method: str
    seed: int


DRAWN = (TRANSLATED,)


def prepare(sizes: Sizes, _folder: Path) -> tuple[list[list[Note]], dict[str, Tensor]]:
    """The test melodies' notes, and what every instrument makes of them, (melody, time)."""
    tunes = [melody(FIRST_SEED["test"] + k, sizes.seconds) for k in range(sizes.melodies)]
    return tunes, {name: torch.stack([play(tune, name, sizes.seconds) for tune in tunes]) for name in PROGRAMS}


def all_runs(work: Work) -> list[Run]:
    """Every method; those that draw with several seeds."""
    return [Run(name, seed) for name in METHODS for seed in range(work.settings.seeds if name in DRAWN else 1)]


def pairs_of(name: str) -> list[tuple[str, str]]:
    """From which instrument to which: all domains and the unseen one to all domains; and, where a method can, from the
    domains to the added one."""
    inside = [(a, b) for a in [*DOMAINS, *UNSEEN] for b in DOMAINS if a != b]
    later = [(a, b) for a in DOMAINS for b in ADDED]
    if name == ADDED_LATER:
        return later
    return inside + (later if name in (TRUTH, OTHER, COPY, CONCATENATION, FILTER) else [])


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a method, by table."""
    (tunes, played), rows, began = work.given, [], time.process_time()
    for source, target in pairs_of(run.method):
        for number in range(len(tunes)):
            truth = played[target][number]
            if run.method == TRUTH:
                y = truth
            elif run.method == OTHER:
                y = played[target][(number + 1) % len(tunes)]
            else:
                seed = 1000 * run.seed + number
                y = method(run.method, played[source][number], source, target, seed, work.settings.cool)
            rows.append({"source": source, "target": target, "melody": number,
                         **{name: f"{value:.4f}" for name, value in scores(y, truth, target).items()}})
    used = {HARMONICS: SYNTH, CYCLED: CYCLE, TRANSLATED: WEIGHTS, COOL: WEIGHTS, ADDED_LATER: GUITAR}.get(run.method)
    mean = lambda name: f"{np.mean([float(row[name]) for row in rows]):.4f}"
    summary = {name: mean(name) for name in ("distance_db", "chroma", "onsets", "pitch", "target_heard")}
    return {"translations": rows, "runs": [{
        "translations": len(rows), **summary, "cpu_seconds": round(time.process_time() - began),
        "weights": file_sha256(shipped_file(f"checkpoints/{used}.safetensors"))[:12] if used else "",
        "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> Mapping:
    return {"trained_on": "40 melodies of 6 s for each of four instruments, none of them shared",
            "translations": "test melodies played by four domains and the trumpet, which nothing was trained on, to "
            "the four domains, and from these to the guitar, whose decoder was added",
            "truth": "the same notes, played by the target", "distance_db": "log-spectral distance (chapter 11)",
            "chroma": "mean correlation of frames", "onsets": "correlation of onset strengths",
            "pitch": "share of frames with the nearest semitone right", "target_heard": "by a linear classifier on "
            "timbre, fitted on the training melodies"}


EXPERIMENT = Experiment(name="translation", what="chapter 16's translations beside their rivals, against the truth",
                        topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(), prepare=prepare,
                        names=METHODS, facts=facts)
