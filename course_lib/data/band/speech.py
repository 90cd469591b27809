"""Voices that speak or sing words: a speech synthesiser says them, and its vocal tract moves are sung on the melody.

    syllables -> espeak-ng or flite -> speech -> envelope and voicing, frame by frame
    notes -> pitch and loudness (as the formant singer's) -> glottal source + noise -> x envelope -> voice

This is a channel vocoder: what the throat does comes from the speech, the pitch from the notes. A phrase takes as much
speech as it lasts, slowed down by a factor, so words are stretched as singers stretch them. Spoken parts are the speech
itself, laid where the phrases are.
"""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft
import soundfile
from scipy.signal import resample_poly

from course_lib.data.band import voice
from course_lib.data.band.song import Note
from course_lib.data.band.voice import Singer

HINTS = {"espeak-ng": "espeak-ng", "flite": "flite"}        # engine -> Debian package
LIFTER_SECONDS = 0.0021         # quefrencies that make the envelope: below the period of any speaking voice
PHRASE_GAP = 0.3                # seconds of rest that end a phrase
SPEECH_PITCH_FLOOR = 1e-4
WORDS = ("love time heart never always running down the road tonight again over under water fire light shadow morning "
         "hold me closer dreaming falling stay away home alone stone river summer sister brother window open broken "
         "golden silver mountain city street people waiting for you and I know what this could be is it true say my "
         "name children singing higher take your hand through all these years before long gone another day").split()
ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "pr", "tr", "sh", "")
NUCLEI = ("a", "e", "i", "o", "u", "ai", "au", "o", "a", "e")


class Speaker(NamedTuple):
    """Who speaks. engine: "espeak-ng" or "flite". voice: its name there. rate: words a minute. pitch: 0..99."""

    engine: str
    voice: str
    rate: int = 150
    pitch: int = 50


def check_engine(engine: str) -> None:
    """FileNotFoundError where a speech synthesiser is not installed."""
    if shutil.which(engine) is None:
        raise FileNotFoundError(f"the program {engine} was not found; songs of this world have voices that it speaks. "
                                f"Install it (Debian, Ubuntu: `apt install {HINTS[engine]}`)")


def lyrics(count: int, english: bool, rng: np.random.Generator) -> str:
    """About `count` syllables: English words, or syllables of no language."""
    if english:
        return " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=max(1, count * 2 // 3)))
    return " ".join("".join(ONSETS[rng.integers(len(ONSETS))] + NUCLEI[rng.integers(len(NUCLEI))]
                            for _ in range(rng.integers(1, 4))) for _ in range(max(1, count // 2)))


def speak(text: str, speaker: Speaker, rate: int = 44100) -> np.ndarray:
    """A text as speech: (time,) float32 at `rate` Hz. FileNotFoundError without the engine, ValueError if it fails."""
    check_engine(speaker.engine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if speaker.engine == "espeak-ng":
            command = ["espeak-ng", "-v", speaker.voice, "-s", str(speaker.rate), "-p", str(speaker.pitch),
                       "-w", str(path), text]
        else:
            stretch = 150 / speaker.rate
            command = ["flite", "-voice", speaker.voice, "--setf", f"duration_stretch={stretch:.3f}", "-t", text,
                       "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not path.is_file():
            raise ValueError(f"{speaker.engine} failed for voice {speaker.voice!r}: {done.stderr.strip()[:200]}")
        speech, found = soundfile.read(path, dtype="float32")
    speech = speech if speech.ndim == 1 else speech.mean(1)
    divisor = int(np.gcd(found, rate))
    return resample_poly(speech, rate // divisor, found // divisor).astype(np.float32)


class Articulation(NamedTuple):
    """What a mouth does, frame by frame, and up to which frequency the speech tells."""

    envelope: np.ndarray        # (frames, bins) amplitude, mean square 1 over the loud frames
    voicing: np.ndarray         # (frames,) 0 noise .. 1 voice


def articulate(speech: np.ndarray, n_fft: int, rate: int) -> Articulation:
    """Spectral envelopes by cepstral smoothing, and how voiced each frame is."""
    hop = n_fft // voice.OVERLAP
    frames = max(1, len(speech) // hop)
    padded = np.pad(speech, (n_fft // 2, n_fft))
    cut = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop][:frames]
    spectrum = np.abs(scipy.fft.rfft(cut * np.hanning(n_fft).astype(np.float32)))
    log = np.log(spectrum + 1e-4 * spectrum.max() + 1e-9)
    cepstrum = scipy.fft.irfft(log, n_fft)
    keep = int(LIFTER_SECONDS * rate)
    lifter = np.zeros(n_fft, np.float32)
    lifter[:keep] = lifter[-keep + 1:] = 1
    envelope = np.exp(scipy.fft.rfft(cepstrum * lifter).real).astype(np.float32)
    frequencies = np.fft.rfftfreq(n_fft, 1 / rate)
    power = np.square(spectrum)
    total = power.sum(1)
    top = frequencies[np.searchsorted(np.cumsum(power.sum(0)), 0.9995 * power.sum())]      # where the speech ends
    limit = int(np.searchsorted(frequencies, max(3000.0, 0.9 * top)))
    slope = (frequencies[limit:] / frequencies[limit]) ** -2.0
    envelope[:, limit:] = envelope[:, limit - 8:limit].mean(1, keepdims=True) * slope
    low = power[:, frequencies < 1000].sum(1) / (total + 1e-12)
    voicing = 1 / (1 + np.exp(-12 * (low - 0.35)))
    loud = total > 0.01 * total.max()
    scale = np.sqrt(np.square(envelope[loud]).mean()) if loud.any() else 1.0
    return Articulation(envelope / np.float32(scale + 1e-12), voicing.astype(np.float32))


def sing_words(notes: list[Note], seconds: float, singer: Singer, speaker: Speaker, rng: np.random.Generator,
               rate: int = 44100, slowness: float = 1.6) -> np.ndarray:
    """Sing a monophonic line on words: (round(seconds * rate),) float32; arguments as `voice.sing`.

    speaker: whose words. slowness: how much longer the sung words are than the spoken ones. singer.tract moves the
    formants, brightness tilts the sound, as for the formant singer.
    """
    length = round(seconds * rate)
    n_fft = 2 ** round(np.log2(voice.FRAME_SECONDS * rate))
    hop = n_fft // voice.OVERLAP
    frames_per_second = rate / hop
    gestures = voice.perform(notes, length // hop + 2, frames_per_second, rng)
    if np.isnan(gestures.pitch).all():
        return np.zeros(length, np.float32)
    fundamental = voice.humanise(gestures, singer, frames_per_second, rng)
    speech = _speech_for(notes, speaker, slowness, rng, rate)
    mouth = articulate(speech, n_fft, rate)
    rows = _rows_of_speech(notes, len(fundamental), frames_per_second, len(mouth.voicing), slowness)
    source = voice.glottal_source(fundamental, hop, length, rate, float(rng.random()))
    noise = rng.random(length, dtype=np.float32) * np.float32(2) - np.float32(1)
    return _vocode(source, noise, mouth, rows, gestures.loudness, fundamental, singer, n_fft, rate)


def speak_words(notes: list[Note], seconds: float, speaker: Speaker, rng: np.random.Generator, rate: int = 44100,
                ) -> np.ndarray:
    """Speak where the line has its phrases: (round(seconds * rate),) float32."""
    length = round(seconds * rate)
    out = np.zeros(length, np.float32)
    speech = _speech_for(notes, speaker, 1.0, rng, rate)
    speech = speech / (np.abs(speech).max() + 1e-9)
    place = 0
    for start, stop in phrases(notes):
        first, count = round(start * rate), round((stop - start) * rate)
        count = min(count, length - first)
        if count < 64:
            continue
        take = np.take(speech, np.arange(place, place + count), mode="wrap")
        fade = min(count // 2, int(0.01 * rate))
        take[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        take[count - fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        out[first:first + count] += take
        place += count
    return 0.5 * out


def phrases(notes: list[Note]) -> list[tuple[float, float]]:
    """(start, end) in seconds of the phrases of a line: notes with less than PHRASE_GAP between them."""
    found: list[list[float]] = []
    for note in sorted(notes):
        if found and note.onset - found[-1][1] < PHRASE_GAP:
            found[-1][1] = max(found[-1][1], note.onset + note.duration)
        else:
            found.append([note.onset, note.onset + note.duration])
    return [(start, stop) for start, stop in found]


def _speech_for(notes: list[Note], speaker: Speaker, slowness: float, rng: np.random.Generator, rate: int,
                ) -> np.ndarray:
    """Speech that is long enough for all phrases, without the silence around it."""
    needed = sum(stop - start for start, stop in phrases(notes)) / slowness
    english = speaker.engine == "flite" or speaker.voice.startswith("en")
    text = lyrics(int(4 + 5 * needed), english, rng)
    speech = _spoken(text, speaker, rate)
    heard = np.flatnonzero(np.abs(speech) > 0.01 * (np.abs(speech).max() + 1e-9))
    return speech[heard[0]:heard[-1] + 1] if len(heard) else speech


@functools.lru_cache(maxsize=8)
def _spoken(text: str, speaker: Speaker, rate: int) -> np.ndarray:
    return speak(text, speaker, rate)


def _rows_of_speech(notes: list[Note], frames: int, frames_per_second: float, spoken: int, slowness: float,
                    ) -> np.ndarray:
    """For every frame of the song the frame of the speech, as a fraction: (frames,), -1 where nobody sings."""
    rows, place = np.full(frames, -1.0), 0.0
    for start, stop in phrases(notes):
        first, last = int(start * frames_per_second), min(frames, int(stop * frames_per_second) + 1)
        steps = place + np.arange(max(0, last - first)) / slowness
        rows[first:last] = np.mod(steps, max(1, spoken - 1))
        place = steps[-1] + 1 if len(steps) else place
    return rows


def _vocode(source: np.ndarray, noise: np.ndarray, mouth: Articulation, rows: np.ndarray, loudness: np.ndarray,
            fundamental: np.ndarray, singer: Singer, n_fft: int, rate: int) -> np.ndarray:
    """The source and noise through the speech's envelopes, overlapped and added: (length,) float32."""
    hop, length = n_fft // voice.OVERLAP, len(source)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    frames = len(fundamental)
    padding = (n_fft // 2, frames * hop + n_fft - length)
    cut_source, cut_noise = (np.lib.stride_tricks.sliding_window_view(np.pad(signal, padding), n_fft)[::hop][:frames]
                             for signal in (source, noise))
    out = np.zeros((frames + voice.OVERLAP, hop), np.float32)
    frequencies = np.fft.rfftfreq(n_fft, 1 / rate)
    # formants moved by the tract, and the source's fall with frequency taken back: the speech has its own
    warped = np.clip(frequencies / singer.tract / (rate / n_fft), 0, n_fft // 2 - 1)
    lower, share = warped.astype(int), (warped % 1).astype(np.float32)
    active = np.flatnonzero((rows >= 0) & (loudness > voice.SILENT))
    breathy = np.clip((frequencies - 4000) / 6000, 0, 0.8).astype(np.float32) + np.float32(singer.breath)
    for first in range(0, len(active), voice.FRAMES_AT_ONCE):
        chosen = active[first:first + voice.FRAMES_AT_ONCE]
        whole = rows[chosen].astype(int)
        part = (rows[chosen] - whole).astype(np.float32)[:, None]
        after = np.minimum(whole + 1, len(mouth.voicing) - 1)
        envelope = (1 - part) * mouth.envelope[whole] + part * mouth.envelope[after]
        envelope = (1 - share) * envelope[:, lower] + share * envelope[:, lower + 1]
        voiced = (1 - part) * mouth.voicing[whole][:, None] + part * mouth.voicing[after][:, None]
        octaves = np.log2(np.maximum(frequencies, 60) / fundamental[chosen][:, None])
        flat = 10 ** ((-voice.GLOTTAL_TILT + singer.brightness) * np.clip(octaves, 0, None) / 20)
        partials = np.sqrt(np.maximum(frequencies.max() / fundamental[chosen][:, None], 1)) / 12
        spectrum = scipy.fft.rfft(cut_source[chosen] * window) * (flat / partials)
        whisper = scipy.fft.rfft(cut_noise[chosen] * window)
        strength = np.clip(loudness[chosen], 0, 1.5)[:, None]
        spectrum = envelope * strength * (voiced * (1 - np.minimum(breathy, 1)) * spectrum
                                          + (0.8 * (1 - voiced) + 0.12 * breathy * voiced) * whisper)
        pieces = scipy.fft.irfft(spectrum.astype(np.complex64), n_fft) * window
        pieces = pieces.reshape(len(chosen), voice.OVERLAP, hop)
        for k in range(voice.OVERLAP):
            out[chosen + k] += pieces[:, k]
    return out.ravel()[n_fft // 2:n_fft // 2 + length] * np.float32(0.2)
