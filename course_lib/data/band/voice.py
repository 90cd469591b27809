"""A singing voice by source and filter: a buzzing glottis and noise, shaped by a vocal tract that moves.

    notes -> gestures (one row every 6 ms: pitch, loudness, formants, nasality, breath, consonant noise)
    pitch -> glottal source: a band-limited buzz that falls by GLOTTAL_TILT dB an octave
    source, noise -> STFT -> x gain of the vocal tract in that frame -> inverse STFT -> voice

The vocal tract is a parallel formant synthesiser: five resonances whose frequencies and levels make the vowel. It is
applied in the STFT domain, so that a whole song is a few large array operations, and only where somebody sings.
Words are nonsense syllables: an optional consonant, then a vowel or a diphthong.
"""

import functools
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import scipy.fft

from course_lib.data.band.song import Note

FRAME_SECONDS = 0.0232          # length of an STFT frame, rounded to a power of two samples
OVERLAP = 4                     # frames that cover a sample; also fixes the rate of the gestures
FRAMES_AT_ONCE = 128            # frames filtered together: few enough to stay in the processor's cache
FORMANTS = 5
GLOTTAL_TILT = -9.0             # dB per octave of the source at low effort
EFFORT_TILT = 3.5               # dB per octave by which full loudness flattens it
HIGHEST_PARTIAL = 16000.0       # Hz at which the voiced sound ends ...
PARTIAL_FADE = 2500.0           # ... after fading out over this many Hz
NYQUIST_SHARE = 0.38            # ... and never above this share of the sample rate
LOWEST_PITCH = 40.0             # Hz: the lowest fundamental of the wavetables
TABLE_BITS = 11
TABLE_SIZE = 2 ** TABLE_BITS    # points of one period of the source
TABLES_PER_OCTAVE = 6           # a table serves pitches up to a sixth of an octave above its own, without aliasing
NASAL_FORMANT = 260.0           # Hz of the first formant with the mouth closed
SILENT = 1e-4                   # gestures below this level are not rendered
OUTPUT_GAIN = 0.2               # brings a loud note to a peak of about 0.5


class Vowel(NamedTuple):
    """Formant frequencies (Hz) and levels (dB) of an average adult voice (after Peterson & Barney 1952; Fant 1960)."""

    frequencies: tuple[float, ...]
    levels: tuple[float, ...]


class Consonant(NamedTuple):
    """How a consonant sounds: its kind, length (seconds) and the band of its noise (centre and width in Hz, level)."""

    kind: str                   # "fricative", "aspirate", "stop", "voiced stop", "nasal" or "none"
    seconds: float = 0.0
    centre: float = 4000.0
    width: float = 2000.0
    level: float = 0.0


VOWELS = {
    "a": Vowel((750, 1150, 2500, 3350, 4400), (0, -5, -18, -20, -30)),
    "e": Vowel((480, 1850, 2500, 3300, 4300), (0, -13, -15, -18, -30)),
    "i": Vowel((300, 2200, 2900, 3400, 4400), (0, -17, -17, -20, -32)),
    "o": Vowel((470, 850, 2500, 3250, 4200), (0, -8, -24, -24, -34)),
    "u": Vowel((330, 720, 2400, 3200, 4200), (0, -14, -30, -28, -38)),
    "ɛ": Vowel((600, 1700, 2450, 3300, 4300), (0, -9, -15, -18, -30)),
    "ɑ": Vowel((650, 1030, 2450, 3300, 4300), (0, -5, -20, -22, -32)),
}
BANDWIDTHS = (80.0, 95.0, 130.0, 170.0, 230.0)      # Hz at -3 dB, per formant
CONSONANTS = {
    "s": Consonant("fricative", 0.11, 7600, 2600, 0.55),
    "ʃ": Consonant("fricative", 0.11, 3800, 1700, 0.60),
    "f": Consonant("fricative", 0.09, 6500, 5000, 0.22),
    "h": Consonant("aspirate", 0.07, level=0.5),
    "t": Consonant("stop", 0.055, 5000, 3500, 0.70),
    "k": Consonant("stop", 0.065, 2300, 1300, 0.60),
    "p": Consonant("stop", 0.05, 1000, 1500, 0.50),
    "d": Consonant("voiced stop", 0.045, 4200, 3000, 0.35),
    "b": Consonant("voiced stop", 0.04, 900, 1200, 0.30),
    "m": Consonant("nasal", 0.08),
    "n": Consonant("nasal", 0.07),
    "l": Consonant("nasal", 0.06),
    "": Consonant("none"),
}


@dataclass(frozen=True)
class Singer:
    """Who sings. tract: formants relative to an average voice (< 1: a longer throat, a deeper voice)."""

    tract: float = 1.0
    brightness: float = 0.0         # dB per octave added to the glottal source
    vibrato_rate: float = 5.6       # Hz
    vibrato_depth: float = 0.35     # semitones to either side
    breath: float = 0.04            # noise in the voice relative to its loudness


@dataclass
class Gestures:
    """What the singer does, one row per STFT frame."""

    pitch: np.ndarray               # (frames,) MIDI number, NaN where no note sounds
    loudness: np.ndarray            # (frames,) 0 silent, 1 full voice
    vibrato: np.ndarray             # (frames,) 0..1
    formants: np.ndarray            # (frames, 5) Hz
    formant_levels: np.ndarray      # (frames, 5) dB
    nasality: np.ndarray            # (frames,) 0 open, 1 closed mouth
    aspiration: np.ndarray          # (frames,) noise through the vocal tract
    noise_centre: np.ndarray        # (frames,) Hz of the consonant's noise
    noise_width: np.ndarray         # (frames,) Hz
    noise_level: np.ndarray         # (frames,)

    @classmethod
    def at_rest(cls, frames: int) -> "Gestures":
        """A silent singer."""
        rest = {field.name: np.zeros(frames) for field in fields(cls)}
        rest |= {"pitch": np.full(frames, np.nan), "noise_centre": np.full(frames, 4000.0),
                 "noise_width": np.full(frames, 2000.0), "formants": np.zeros((frames, FORMANTS)),
                 "formant_levels": np.zeros((frames, FORMANTS))}
        return cls(**rest)


class Syllable(NamedTuple):
    """A syllable that is sung."""

    onset: float                # seconds from the start of the song, where its note begins
    seconds: float              # length of that note, and of those that carry its vowel on
    text: str                   # a consonant or none, and a vowel: "sa", "o"


def sing(notes: list[Note], seconds: float, singer: Singer, rng: np.random.Generator, rate: int = 44100) -> np.ndarray:
    """Sing a monophonic line on nonsense syllables.

    notes: onset and duration in seconds, pitch as MIDI number (fractions allowed), velocity 1..127; a note should end
    before the next begins. rng: chooses syllables and makes pitch and loudness waver; the same state gives the same
    performance. rate: Hz. Returns (round(seconds * rate),) float32, a full-voiced note at a peak of about 0.5; silence
    when there are no notes.
    """
    length = round(seconds * rate)
    n_fft = 2 ** round(np.log2(FRAME_SECONDS * rate))
    hop = n_fft // OVERLAP
    frames_per_second = rate / hop
    gestures = perform(notes, length // hop + 2, frames_per_second, rng)
    if np.isnan(gestures.pitch).all():
        return np.zeros(length, np.float32)
    fundamental = humanise(gestures, singer, frames_per_second, rng)
    source = glottal_source(fundamental, hop, length, rate, float(rng.random()))
    noise = rng.random(length, dtype=np.float32) * np.float32(2) - np.float32(1)
    return _vocal_tract(source, noise, gestures, fundamental, singer, n_fft, rate)


def syllables(notes: list[Note], seconds: float, rng: np.random.Generator, rate: int = 44100) -> list[Syllable]:
    """The syllables that `sing` sings with the same arguments, in order."""
    hop = 2 ** round(np.log2(FRAME_SECONDS * rate)) // OVERLAP
    sung: list[Syllable] = []
    perform(notes, round(seconds * rate) // hop + 2, rate / hop, rng, sung)
    return sung


# ---- gestures -------------------------------------------------------------------------------------------------------

def perform(notes: list[Note], frames: int, frames_per_second: float, rng: np.random.Generator,
            sung: list[Syllable] | None = None) -> Gestures:
    """Write every note's syllable into the gestures; nothing is smooth yet. sung: gets the syllables, in order."""
    gestures = Gestures.at_rest(frames)
    time = np.arange(frames) / frames_per_second
    previous_end, vowel = -np.inf, "a"
    for note in sorted(notes):
        if note.onset >= time[-1]:
            break
        pause = note.onset - previous_end
        new_syllable = pause > 0.03 or rng.random() < 0.8          # else the vowel is carried over: a melisma
        consonant = CONSONANTS[list(CONSONANTS)[rng.integers(len(CONSONANTS))]] if new_syllable else CONSONANTS[""]
        vowel = list(VOWELS)[rng.integers(len(VOWELS))] if new_syllable else vowel
        if sung is not None:
            _note_down(sung, note, next(name for name, one in CONSONANTS.items() if one is consonant) + vowel,
                       new_syllable)
        glide, scooped = new_syllable and rng.random() < 0.2, pause > 0.08
        _hold_vowel(gestures, time, note, vowel, glide, scooped, rng)
        start = _articulate(gestures, time, note, consonant, rng)
        if pause > 0.35 and note.onset > 0.3:
            _breathe_in(gestures, time, note.onset, start)
        previous_end = note.onset + note.duration
    _hold_through_pauses(gestures)
    return gestures


def _note_down(sung: list[Syllable], note: Note, text: str, new: bool) -> None:
    """A new syllable, or the last one carried over to another note."""
    if new or not sung:
        sung.append(Syllable(note.onset, note.duration, text))
    else:
        last = sung[-1]
        sung[-1] = last._replace(seconds=note.onset + note.duration - last.onset)


def _span(time: np.ndarray, start: float, stop: float) -> slice:
    """The frames that lie in start..stop seconds, at least one."""
    first = int(np.searchsorted(time, start))
    return slice(min(first, len(time) - 1), max(int(np.searchsorted(time, stop)), first + 1))


def _hold_vowel(gestures: Gestures, time, note: Note, vowel: str, glide: bool, scooped: bool, rng) -> None:
    """Pitch, loudness, vibrato and formants of the note's vowel; `glide` turns it into a diphthong."""
    span = _span(time, note.onset, note.onset + note.duration)
    elapsed = np.maximum(time[span] - note.onset, 0)
    to_end = note.duration - elapsed
    scoop = rng.uniform(0, 1.2) if scooped else 0.0                # semitones below, at the start of a phrase
    gestures.pitch[span] = note.pitch - scoop * np.exp(-elapsed / 0.05)
    decline = 1 - 0.25 * np.clip(elapsed / max(note.duration, 0.1), 0, 1)
    gestures.loudness[span] = (note.velocity / 100) ** 1.4 * decline * np.clip(to_end / 0.06, 0, 1)
    gestures.vibrato[span] = np.clip((elapsed - 0.18) / 0.3, 0, 1) if note.duration > 0.35 else 0.0
    weight = np.zeros((len(elapsed), 1))
    target = "iu"[rng.integers(2)] if glide else vowel
    if glide:
        weight[:, 0] = np.clip(elapsed / max(note.duration, 0.1) * 2 - 1, 0, 1)
    for track, kind in ((gestures.formants, 0), (gestures.formant_levels, 1)):
        track[span] = (1 - weight) * VOWELS[vowel][kind] + weight * VOWELS[target][kind]


def _articulate(gestures: Gestures, time, note: Note, consonant: Consonant, rng) -> float:
    """Put the consonant around the note's onset and return when it starts (seconds)."""
    start, stop = note.onset - 0.4 * consonant.seconds, note.onset + 0.6 * consonant.seconds
    if consonant.kind == "none":
        return start
    span = _span(time, start, stop)
    level = consonant.level * (note.velocity / 100) ** 1.2
    if consonant.kind == "fricative":
        gestures.loudness[span] = 0
        _make_noise(gestures, span, consonant, level, rng.uniform(0.9, 1.1))
    elif consonant.kind == "aspirate":
        gestures.loudness[span] *= 0.2
        gestures.aspiration[span] = level
    elif consonant.kind in ("stop", "voiced stop"):               # closed, then a burst
        gestures.loudness[span] *= 0.0 if consonant.kind == "stop" else 0.15
        _make_noise(gestures, _span(time, stop - 0.02, stop + 0.004), consonant, level, rng.uniform(0.85, 1.15))
    elif consonant.kind == "nasal":
        gestures.nasality[span] = 1
        gestures.loudness[span] = 0.5 * max(gestures.loudness[min(span.stop, len(time) - 1)], 0.2)
    return start


def _make_noise(gestures: Gestures, span: slice, consonant: Consonant, level: float, detune: float) -> None:
    gestures.noise_centre[span] = consonant.centre * detune
    gestures.noise_width[span] = consonant.width
    gestures.noise_level[span] = level


def _breathe_in(gestures: Gestures, time, onset: float, stop: float) -> None:
    """A breath of 0.3 s before a phrase, ended by the consonant."""
    span = _span(time, onset - 0.3, stop)
    swell = 0.25 * np.hanning(max(len(time[span]), 1))
    gestures.aspiration[span] = np.maximum(gestures.aspiration[span], swell)


def _hold_through_pauses(gestures: Gestures) -> None:
    """Keep the last vowel's formants through pauses, so that the tract is never undefined."""
    sounding = ~np.isnan(gestures.pitch)
    if not sounding.any():
        return
    latest = np.maximum.accumulate(np.where(sounding, np.arange(len(sounding)), 0))
    latest = np.maximum(latest, np.argmax(sounding))
    gestures.formants, gestures.formant_levels = gestures.formants[latest], gestures.formant_levels[latest]


def _smooth(track: np.ndarray, seconds: float, frames_per_second: float) -> np.ndarray:
    """A Hann-weighted moving average over about `seconds`, along the first axis; the shape stays."""
    half = max(1, int(seconds * frames_per_second / 2 + 0.5))
    window = np.hanning(2 * half + 3)[1:-1]
    window /= window.sum()
    padding = [(half, half)] + [(0, 0)] * (track.ndim - 1)
    padded = np.pad(track, padding, mode="edge")
    return sum(weight * padded[k:k + len(track)] for k, weight in enumerate(window))


def _waver(amount: float, seconds: float, frames: int, frames_per_second: float, rng) -> np.ndarray:
    """Slow random movement around 0 with standard deviation `amount`: (frames,)."""
    track = _smooth(rng.standard_normal(frames), seconds, frames_per_second)
    return track * (amount / (track.std() + 1e-9))


def humanise(gestures: Gestures, singer: Singer, frames_per_second: float, rng) -> np.ndarray:
    """Make the gestures smooth and slightly unsteady, in place; returns the fundamental, (frames,) Hz."""
    frames = len(gestures.pitch)

    def smooth(track, seconds):
        return _smooth(track, seconds, frames_per_second)

    def waver(amount, seconds):
        return _waver(amount, seconds, frames, frames_per_second, rng)

    sounding = np.flatnonzero(~np.isnan(gestures.pitch))
    pitch = smooth(np.interp(np.arange(frames), sounding, gestures.pitch[sounding]), 0.05)
    rate = singer.vibrato_rate * (1 + waver(0.08, 0.5))
    swing = smooth(gestures.vibrato, 0.1)
    phase = 2 * np.pi * np.cumsum(rate) / frames_per_second
    pitch += waver(0.06, 0.4) + waver(0.02, 0.02) + singer.vibrato_depth * swing * np.sin(phase)
    tremor = (1 + 0.12 * swing * np.sin(phase + 0.7)) * (1 + waver(0.08, 0.05))
    gestures.loudness = np.maximum(smooth(gestures.loudness, 0.025) * tremor, 0)
    individual = singer.tract * (1 + 0.02 * rng.standard_normal(FORMANTS))
    gestures.formants = smooth(gestures.formants, 0.06) * individual
    gestures.formant_levels = smooth(gestures.formant_levels, 0.06)
    gestures.nasality = smooth(gestures.nasality, 0.02)
    gestures.aspiration = smooth(gestures.aspiration, 0.03)
    gestures.noise_level = smooth(gestures.noise_level, 0.012)
    fundamental = 440 * 2 ** ((pitch - 69) / 12)
    _close_the_mouth(gestures)
    # singers raise the first formant to stay above a high note
    gestures.formants[:, 0] = np.maximum(gestures.formants[:, 0], 1.02 * fundamental)
    return fundamental


def _close_the_mouth(gestures: Gestures) -> None:
    """Nasality: the first formant falls to NASAL_FORMANT, the others lose most of their level."""
    closed = gestures.nasality
    gestures.formants[:, 0] += closed * (NASAL_FORMANT - gestures.formants[:, 0])
    gestures.formant_levels[:, 1:] += 20 * np.log10(1 - 0.85 * closed)[:, None]


# ---- sound ----------------------------------------------------------------------------------------------------------

def glottal_source(fundamental: np.ndarray, hop: int, length: int, rate: int, start: float) -> np.ndarray:
    """A buzz with partials that fall by GLOTTAL_TILT dB an octave: (length,) float32.

    fundamental: (frames,) Hz, one value every `hop` samples. start: phase in periods. A wavetable oscillator: the
    tables hold as many partials as fit below half the rate, and every sample reads the one made for its pitch.
    """
    tables = _wavetables(rate)
    # phase as a 32-bit fraction of a period: it wraps by itself, and no rounding error builds up
    steps = _at_every_sample(fundamental * (2.0 ** 32 / rate), hop, length).astype(np.uint32)
    phase = np.cumsum(steps, dtype=np.uint32)
    phase += np.uint32(start * 2 ** 32)
    index = (phase >> (32 - TABLE_BITS)).astype(np.int64)
    phase &= np.uint32(2 ** (32 - TABLE_BITS) - 1)
    fraction = phase.astype(np.float32)
    fraction *= np.float32(2.0 ** (TABLE_BITS - 32))
    number = np.ceil(TABLES_PER_OCTAVE * np.log2(np.maximum(fundamental / LOWEST_PITCH, 1))).astype(np.int64)
    number = np.minimum(np.maximum(number[:-1], number[1:]), len(tables) - 1)
    index += np.repeat(number * tables.shape[1], hop)[:length]
    source = tables.take(index)
    index += 1
    step = tables.take(index)
    step -= source
    step *= fraction
    source += step
    return source


@functools.lru_cache(maxsize=4)
def _wavetables(rate: int) -> np.ndarray:
    """One period of the source for pitches rising from LOWEST_PITCH: (tables, TABLE_SIZE + 1) float32."""
    octaves = np.log2(0.25 * rate / LOWEST_PITCH)
    pitches = LOWEST_PITCH * 2 ** (np.arange(int(TABLES_PER_OCTAVE * octaves)) / TABLES_PER_OCTAVE)
    partials = np.arange(1, TABLE_SIZE // 2)
    spectrum = np.zeros((len(pitches), TABLE_SIZE // 2 + 1), np.complex128)
    below_nyquist = partials * pitches[:, None] < 0.5 * rate
    spectrum[:, 1:-1] = -0.5j * TABLE_SIZE * below_nyquist * partials ** (GLOTTAL_TILT / 20 / np.log10(2))
    period = scipy.fft.irfft(spectrum, TABLE_SIZE)
    return np.concatenate([period, period[:, :1]], axis=1).astype(np.float32)


def _at_every_sample(track: np.ndarray, hop: int, length: int) -> np.ndarray:
    """Straight lines between values `hop` samples apart: (frames,) -> (length,) float32."""
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    values = track.astype(np.float32)
    lines = values[:-1, None] + (values[1:] - values[:-1])[:, None] * ramp          # (frames - 1, hop)
    return lines.ravel()[:length]


def _vocal_tract(source: np.ndarray, noise: np.ndarray, gestures: Gestures, fundamental: np.ndarray, singer: Singer,
                 n_fft: int, rate: int) -> np.ndarray:
    """Filter source and noise frame by frame in the STFT domain: (length,) float32. Silent frames are skipped."""
    hop, length = n_fft // OVERLAP, len(source)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    frames = len(fundamental)
    padding = (n_fft // 2, frames * hop + n_fft - length)
    cut_source, cut_noise = (np.lib.stride_tricks.sliding_window_view(np.pad(signal, padding), n_fft)[::hop][:frames]
                             for signal in (source, noise))                           # views, (frames, n_fft)
    out = np.zeros((frames + OVERLAP, hop), np.float32)
    active = np.flatnonzero(gestures.loudness + gestures.aspiration + gestures.noise_level > SILENT)
    frequencies = np.fft.rfftfreq(n_fft, 1 / rate).astype(np.float32)
    for first in range(0, len(active), FRAMES_AT_ONCE):
        rows = active[first:first + FRAMES_AT_ONCE]
        resonance = _resonances(frequencies, gestures.formants[rows], gestures.formant_levels[rows], singer.tract)
        spectrum = scipy.fft.rfft(cut_source[rows] * window)
        spectrum *= _glottal_gain(frequencies, gestures.loudness[rows], fundamental[rows], singer.brightness, rate)
        whisper = scipy.fft.rfft(cut_noise[rows] * window)
        spectrum += whisper * _breath_gain(frequencies, gestures, rows, singer.breath)
        spectrum *= resonance
        whisper *= _consonant_gain(frequencies, gestures, rows)
        spectrum += whisper
        pieces = (scipy.fft.irfft(spectrum, n_fft) * window).reshape(len(rows), OVERLAP, hop)
        for k in range(OVERLAP):
            out[rows + k] += pieces[:, k]
    scale = np.float32(OUTPUT_GAIN * 2 / OVERLAP)                   # the squared windows add up to OVERLAP / 2
    return out.ravel()[n_fft // 2:n_fft // 2 + length] * scale


def _resonances(frequencies: np.ndarray, formants: np.ndarray, levels: np.ndarray, tract: float) -> np.ndarray:
    """Gain of the vocal tract: (frames, bins) complex64, from formants (frames, 5) in Hz and their levels in dB.

    A sum of resonances 1 / (1 + 2j (f - f_k) / b_k). Neighbours have opposite signs: between two formants their phases
    differ by half a turn, so that equal signs would cancel there, which no throat does.
    """
    gain = np.full((len(formants), len(frequencies)), 0.002, np.complex64)
    amplitudes = 10 ** (levels / 20)
    widths = np.array(BANDWIDTHS) * (0.8 + 0.4 * tract)
    for k in range(FORMANTS):
        offset = (frequencies - formants[:, k, None].astype(np.float32)) * np.float32(2 / widths[k])
        real = np.float32((-1) ** k) * amplitudes[:, k, None].astype(np.float32) / (1 + offset * offset)
        gain.real += real
        real *= offset
        gain.imag -= real
    return gain


def _glottal_gain(frequencies: np.ndarray, loudness: np.ndarray, fundamental: np.ndarray, brightness: float,
                  rate: int) -> np.ndarray:
    """Level of the voiced source over frequency: (frames, bins) float32; louder singing is brighter."""
    highest = min(HIGHEST_PARTIAL, NYQUIST_SHARE * rate)
    tilt = (brightness + EFFORT_TILT * np.clip(loudness, 0, 1.2)) * np.log2(10) / 20      # decibels as powers of two
    gain = np.log2(np.maximum(frequencies, 20)) - np.log2(fundamental[:, None]).astype(np.float32)      # octaves
    np.maximum(gain, 0, out=gain)
    gain *= tilt[:, None].astype(np.float32)
    np.exp2(gain, out=gain)
    gain *= np.clip((highest - frequencies) / min(PARTIAL_FADE, highest / 4), 0, 1)
    gain *= loudness[:, None].astype(np.float32)
    return gain


def _breath_gain(frequencies: np.ndarray, gestures: Gestures, rows: np.ndarray, breath: float) -> np.ndarray:
    """Level of the noise that goes through the vocal tract: (frames, bins) float32."""
    level = 5 * (breath * gestures.loudness[rows] + 0.12 * gestures.aspiration[rows])
    return level[:, None].astype(np.float32) * (frequencies / 2000) ** np.float32(0.3)


def _consonant_gain(frequencies: np.ndarray, gestures: Gestures, rows: np.ndarray) -> np.ndarray:
    """Level of the noise made at teeth and lips, a bell over frequency: (frames, bins) float32."""
    distance = frequencies - gestures.noise_centre[rows, None].astype(np.float32)
    distance /= gestures.noise_width[rows, None].astype(np.float32)
    bell = np.exp(np.float32(-0.5) * distance * distance)
    bell *= gestures.noise_level[rows, None].astype(np.float32)
    return bell
