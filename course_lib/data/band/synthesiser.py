"""A synthesiser whose patches are drawn at random: instruments that no soundfont holds.

A patch is a kind of tone (additive, frequency modulation, plucked string) with random numbers. Its tones are computed
at one pitch an octave, then played like a soundfont's recordings: looped, resampled, filtered, shaped by the sampler.
"""

from dataclasses import replace

import numpy as np
import scipy.fft
from scipy.signal import lfilter

from course_lib.data.band.sampler import Sample, SoundFont, Zone

ROOTS = (28, 40, 52, 64, 76, 88)            # MIDI pitches of the tones
LOOP_SECONDS = 1.0                          # length of a sustained tone
PLUCK_SECONDS = 3.0
HIGHEST_PARTIAL = 12000.0                   # Hz, of the tones: played up to half an octave higher
# General MIDI programs whose notes die away: keyboards, guitars, basses, plucked and struck instruments
DECAYING = frozenset([*range(16), *range(24, 40), 45, 46, 47, 87, *range(104, 109)])


class Synthesiser(SoundFont):
    """One random patch, playable as every program. seed: of the patch. decays: as a string or a bar, not as a pipe."""

    def __init__(self, seed: int | tuple[int, ...], rate: int = 44100, decays: bool = True):
        self.rate = int(rate)
        self._fade = np.linspace(1, 0, int(0.005 * self.rate), dtype=np.float32)
        rng = np.random.default_rng(seed)
        kinds = ("plucked", "plucked", "plucked", "additive", "modulated") if decays else \
            ("additive", "additive", "additive", "modulated")
        kind = kinds[rng.integers(len(kinds))]
        tone = {"plucked": plucked_string, "additive": additive_tone, "modulated": modulated_tone}[kind](rng, self.rate)
        self._tones = [Sample(points, 0, len(points), self.rate, root, 0)
                       for root, points in ((root, tone(440 * 2 ** ((root - 69) / 12))) for root in ROOTS)]
        self._patch = _patch(rng, decays, kind != "plucked")

    def zones(self, bank: int, program: int) -> list[Zone]:
        """One zone for each tone, whatever the program."""
        edges = [0, *(root + 6 for root in ROOTS[:-1]), 128]
        return [replace(self._patch, sample=i, keys=(edges[i], edges[i + 1] - 1)) for i in range(len(ROOTS))]

    def _sample(self, index: int) -> Sample:
        return self._tones[index]

    def _mistuning(self, zone: Zone, sample: Sample) -> float:
        return 0.0


def additive_tone(rng: np.random.Generator, rate: int):
    """A tone of harmonics: random tilt, share of even ones, humps, and voices that beat against one another."""
    tilt, even = rng.uniform(3, 14), rng.uniform(0, 1) ** 0.5
    humps = [(np.exp(rng.uniform(np.log(300), np.log(5000))), rng.uniform(-12, 15), rng.uniform(0.2, 0.8))
             for _ in range(rng.integers(0, 4))]
    voices, spread = int(rng.integers(1, 5)), float(rng.choice([0, 1, 2, 4]))
    ripple = rng.normal(0, 4, 400)

    def tone(pitch: float) -> np.ndarray:
        n = round(LOOP_SECONDS * rate)
        base = round(pitch * LOOP_SECONDS)
        harmonics = np.arange(1, max(2, int(HIGHEST_PARTIAL / pitch)))
        level = -tilt * np.log2(harmonics) + ripple[np.minimum(harmonics, 399)] * (harmonics > 1)
        for centre, gain, octaves in humps:
            level = level + gain * np.exp(-0.5 * (np.log2(harmonics * pitch / centre) / octaves) ** 2)
        amplitude = 10 ** (level / 20) * np.where(harmonics % 2 == 0, even, 1.0)
        spectrum = np.zeros(n // 2 + 1, np.complex128)
        for voice in range(voices):
            shift = round(spread * (voice - (voices - 1) / 2))            # in cycles of the loop, about Hz
            bins = np.clip(harmonics * base + np.rint(shift * np.sqrt(harmonics)).astype(int), 1, n // 2)
            np.add.at(spectrum, bins, amplitude * np.exp(2j * np.pi * rng.random(len(harmonics))))
        return _level(scipy.fft.irfft(spectrum, n))
    return tone


def modulated_tone(rng: np.random.Generator, rate: int):
    """Two operators, one the other's phase: ratio and depth are drawn."""
    ratio, depth = float(rng.choice([0.5, 1, 1, 2, 3, 4, 5, 7])), rng.uniform(0.3, 4)

    def tone(pitch: float) -> np.ndarray:
        n = round(LOOP_SECONDS * rate)
        base = 2 * np.pi * round(pitch * LOOP_SECONDS) / n * np.arange(n)
        index = depth * min(1.0, HIGHEST_PARTIAL / (pitch * (1 + ratio * (depth + 2))))
        factor = ratio if ratio >= 1 else 1.0
        carrier = base if ratio >= 1 else 2 * base
        return _level(np.sin(carrier + index * np.sin(factor * base)))
    return tone


def plucked_string(rng: np.random.Generator, rate: int):
    """A string that is plucked (Karplus and Strong 1983): noise in a loop that loses its high partials first."""
    brightness, decay = rng.uniform(0.3, 1.0), np.exp(rng.uniform(np.log(0.6), np.log(6)))
    place = rng.uniform(0.08, 0.5)

    def tone(pitch: float) -> np.ndarray:
        period = rate / pitch
        whole = int(period - 0.5)
        part = period - 0.5 - whole                       # the averaging below delays by half a sample
        n = round(PLUCK_SECONDS * rate)
        burst = rng.uniform(-1, 1, whole + 1)
        burst = lfilter([1 - (1 - brightness) * 0.9], [1, -(1 - brightness) * 0.9], burst)
        pick = max(1, round(place * whole))
        burst = burst - np.roll(burst, pick)
        loss = 10 ** (-3 / (decay * pitch))
        excitation = np.zeros(n)
        excitation[:len(burst)] = burst - burst.mean()
        # y[n] = x[n] + loss (average of two neighbours, read `part` late) one period ago
        feedback = loss * 0.5 * np.convolve([1, 1], [1 - part, part])
        return _level(lfilter([1.0], np.concatenate([[1], np.zeros(whole - 1), -feedback]), excitation))
    return tone


def _level(tone: np.ndarray) -> np.ndarray:
    return (0.3 * tone / (np.abs(tone).max() + 1e-9)).astype(np.float32)


def _patch(rng: np.random.Generator, decays: bool, looped: bool) -> Zone:
    """Envelope, filter and vibrato of a patch."""
    decay = float(np.exp(rng.uniform(np.log(0.5), np.log(8)))) if decays else 1.0
    return Zone(
        sample=0, keys=(0, 127), velocities=(0, 127), start=0, end=0, loop_start=0, loop_end=0, root=-1, scale=100.0,
        tune=0.0, gain=1.0, pan=0, delay=0.0, hold=0.0, key_to_hold=0, key_to_decay=0, looped=looped,
        attack=0.002 if decays else float(np.exp(rng.uniform(np.log(0.004), np.log(0.25)))),
        decay=decay if looped else 1.0, sustain=(60.0 if decays else rng.uniform(0, 8)) if looped else 0.0,
        release=float(np.exp(rng.uniform(np.log(0.05), np.log(0.6)))),
        cutoff=float(rng.uniform(8500, 13500)), resonance=float(rng.uniform(0, 8)),
        vibrato_depth=0.0 if decays else float(rng.uniform(0, 25)), vibrato_rate=float(rng.uniform(4, 7)),
        vibrato_delay=0.3)
