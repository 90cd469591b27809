"""The studio's effects in numpy and scipy: equalisers, saturation, dynamics, panning, echo and reverb.

A signal is float32 of shape (channels, time) with one or two channels, at a nominal level of REFERENCE_LEVEL; an
effect returns a new array and leaves its input alone. Frequencies are in Hz, times in seconds, gains in dB. Filters are
second-order sections, so that a chain of them runs over the signal once: `equalise(y, peaking(...), high_shelf(...))`.
A corner frequency that does not fit below half the sample rate is moved to HIGHEST_CORNER of it.
"""

import numpy as np
import scipy.fft
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import sosfilt

REFERENCE_LEVEL = 0.1       # RMS of a part while it plays: what thresholds and drives below are relative to
HIGHEST_CORNER = 0.45       # of the sample rate
LEVEL_FRAME = 2048          # samples over which the level is measured
ACTIVE_RANGE = 1e-4         # frames within 40 dB (power) of the loudest count as playing
AIR = 7000.0                # Hz above which a sound is airy rather than bright
HIGHEST_OVERTONE = 15000.0  # Hz: where the added overtones roll off, as records do
DETECTOR_HOP = 256          # samples per step of a compressor's level detector
SWEEP_HOP = 128             # samples per step of a chorus's delay
DOUBLE_DRIFT = 0.005        # seconds by which the second take of a doubled part comes early or late
LOOK_AHEAD = 0.006          # seconds by which the limiter sees a peak coming
EPSILON = 1e-9


def active_level(y: np.ndarray) -> float:
    """RMS of a signal (channels, time) while it sounds: over the frames within 40 dB of the loudest; 0 for silence."""
    frames = y.shape[-1] // LEVEL_FRAME
    if frames == 0:
        return float(np.sqrt(np.mean(np.square(y)))) if y.size else 0.0
    cut = y[:, :frames * LEVEL_FRAME].reshape(len(y), frames, LEVEL_FRAME)
    power = np.einsum("cft,cft->f", cut, cut) / (len(y) * LEVEL_FRAME)
    loudest = power.max()
    return float(np.sqrt(power[power >= ACTIVE_RANGE * loudest].mean())) if loudest > 0 else 0.0


def at_level(y: np.ndarray, level: float = REFERENCE_LEVEL) -> np.ndarray:
    """Scale a signal to an active level; silence stays silence."""
    return y * np.float32(level / max(active_level(y), EPSILON))


def decibels(gain_db: float) -> np.float32:
    """The amplitude factor of a gain in dB."""
    return np.float32(10 ** (gain_db / 20))


# ---- filters: each returns second-order sections (sections, 6) ------------------------------------------------------

def _corner(frequency: float, rate: int) -> float:
    return min(frequency, HIGHEST_CORNER * rate)


def peaking(frequency: float, gain_db: float, rate: int, q: float = 0.8) -> np.ndarray:
    """A bell of `gain_db` around `frequency` (Bristow-Johnson's audio EQ cookbook)."""
    amplitude, omega = 10 ** (gain_db / 40), 2 * np.pi * _corner(frequency, rate) / rate
    alpha, cosine = np.sin(omega) / (2 * q), np.cos(omega)
    section = [1 + alpha * amplitude, -2 * cosine, 1 - alpha * amplitude,
               1 + alpha / amplitude, -2 * cosine, 1 - alpha / amplitude]
    return np.array([section]) / section[3]


def high_shelf(frequency: float, gain_db: float, rate: int) -> np.ndarray:
    """`gain_db` for everything well above `frequency`, nothing below; first order, half the dB at the frequency."""
    amplitude, tangent = 10 ** (gain_db / 40), np.tan(np.pi * _corner(frequency, rate) / rate)
    # the analogue filter A (A s + 1) / (s + A), made digital by the bilinear transform
    section = [amplitude * (amplitude + tangent), amplitude * (tangent - amplitude), 0,
               1 + amplitude * tangent, amplitude * tangent - 1, 0]
    return np.array([section]) / section[3]


def high_pass(frequency: float, rate: int) -> np.ndarray:
    """Second-order Butterworth high-pass."""
    cosine, alpha = _butterworth(frequency, rate)
    up = 1 + cosine
    return np.array([[up / 2, -up, up / 2, 1 + alpha, -2 * cosine, 1 - alpha]]) / (1 + alpha)


def low_pass(frequency: float, rate: int) -> np.ndarray:
    """Second-order Butterworth low-pass."""
    cosine, alpha = _butterworth(frequency, rate)
    down = 1 - cosine
    return np.array([[down / 2, down, down / 2, 1 + alpha, -2 * cosine, 1 - alpha]]) / (1 + alpha)


def _butterworth(frequency: float, rate: int) -> tuple[float, float]:
    """The cookbook's cosine and alpha for a corner without resonance."""
    omega = 2 * np.pi * _corner(frequency, rate) / rate
    return np.cos(omega), np.sin(omega) / np.sqrt(2)


def band_pass(low: float, high: float, rate: int) -> np.ndarray:
    """High-pass at `low` and low-pass at `high`, second order each."""
    return np.concatenate([high_pass(low, rate), low_pass(high, rate)])


def equalise(y: np.ndarray, *sections: np.ndarray) -> np.ndarray:
    """Run a signal through filters, one after the other: (channels, time) float32.

    Computed in float32, which is off by -75 dB for a corner of 25 Hz at 44.1 kHz and by less above.
    """
    return sosfilt(np.concatenate(sections).astype(np.float32), y)


# ---- colour ---------------------------------------------------------------------------------------------------------

def saturate(y: np.ndarray, drive: float) -> np.ndarray:
    """Soft clipping, as of tape or valves, to within REFERENCE_LEVEL.

    drive: gain before the clipping, where 1 brings the reference level to it: 0.1 is hardly heard, 2 is a fuzz.
    """
    out = y * np.float32(drive / REFERENCE_LEVEL)
    np.tanh(out, out=out)
    out *= np.float32(REFERENCE_LEVEL)
    return out


def excite(y: np.ndarray, frequency: float, amount: float, rate: int, air_db: float = 0.0) -> np.ndarray:
    """Add overtones of what lies above `frequency`: sampled instruments stop at 5 to 10 kHz, records do not.

    The rectified band gives even overtones, the clipped one odd overtones; they are made from the middle of a stereo
    signal and added to both sides. amount: their level re the band, about. air_db: dB for those above AIR.
    """
    middle = y if len(y) == 1 else y.mean(0, keepdims=True)
    band = equalise(middle, high_pass(frequency, rate))
    scale = np.float32(np.sqrt(np.square(band).mean()) + 1e-6)       # not np.dot: its rounding depends on the threads
    band *= 2 / scale
    overtones = np.tanh(band)
    np.abs(overtones, out=overtones)
    band *= 2
    np.tanh(band, out=band)
    band *= np.float32(0.5)
    overtones += band
    overtones = equalise(overtones, high_pass(1.2 * frequency, rate), high_shelf(AIR, air_db, rate),
                         low_pass(HIGHEST_OVERTONE, rate))
    overtones *= np.float32(amount) * scale
    return y + overtones


# ---- dynamics -------------------------------------------------------------------------------------------------------

def compressor_gain(y: np.ndarray, rate: int, threshold_db: float, ratio: float, attack: float,
                    release: float) -> np.ndarray:
    """Gain of a feed-forward compressor that listens to the loudest channel: (time,) float32, at most 1.

    threshold_db: dB re 1 above which the level's excess is divided by `ratio`. attack, release: seconds to follow it.
    """
    level = np.abs(y).max(0)
    level = np.pad(level, (0, -len(level) % DETECTOR_HOP)).reshape(-1, DETECTOR_HOP).max(1)
    excess = np.maximum(20 * np.log10(level + 1e-6) - threshold_db, 0) * (1 - 1 / ratio)
    rising, falling = (float(np.exp(-DETECTOR_HOP / rate / seconds)) for seconds in (attack, release))
    reduction, state = [], 0.0
    for wanted in excess.tolist():                  # each state depends on the one before: no array operation does this
        keep = rising if wanted > state else falling
        state = keep * state + (1 - keep) * wanted
        reduction.append(state)
    return between_steps(10 ** (-np.array(reduction) / 20), DETECTOR_HOP, y.shape[1])


def limiter_gain(y: np.ndarray, rate: int, ceiling: float) -> np.ndarray:
    """Gain of a look-ahead limiter: (time,) float32 that moves smoothly and keeps |y * gain| <= ceiling."""
    width = int(LOOK_AHEAD * rate) | 1
    needed = np.minimum(1, ceiling / (np.abs(y).max(0) + np.float32(EPSILON)))
    return uniform_filter1d(minimum_filter1d(needed, width), width)


def between_steps(values: np.ndarray, hop: int, length: int) -> np.ndarray:
    """Straight lines between values `hop` samples apart: (steps,) -> (length,) float32; the last value is held."""
    values = np.append(values, values[-1]).astype(np.float32)
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    lines = values[:-1, None] + np.diff(values)[:, None] * ramp          # (steps, hop)
    return lines.ravel()[:length]


# ---- place ----------------------------------------------------------------------------------------------------------

def pan(y: np.ndarray, position: float) -> np.ndarray:
    """Place a signal at -1 (left) .. 1 (right) with constant power: (2, time). Stereo signals are balanced."""
    angle = (min(max(position, -1), 1) + 1) * np.pi / 4
    return y * (np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])).astype(np.float32)


def width(y: np.ndarray, amount: float) -> np.ndarray:
    """Scale the difference of the sides of a stereo signal: 0 is mono, 1 leaves it. A mono signal stays as it is."""
    if len(y) == 1:
        return y
    middle, side = (y[0] + y[1]) / 2, (y[0] - y[1]) * np.float32(amount / 2)
    return np.stack([middle + side, middle - side])


def delayed(y: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """The signal, later; its end is cut off."""
    shift = min(round(seconds * rate), y.shape[1])
    out = np.zeros_like(y)
    out[:, shift:] = y[:, :y.shape[1] - shift]
    return out


def double_track(y: np.ndarray, seconds: float, speed: float, rate: int, spread: float = 0.8) -> np.ndarray:
    """Two takes of one part, left and right: (2, time).

    The second comes `seconds` later, give or take DOUBLE_DRIFT, which it drifts through `speed` times a second: with a
    fixed delay the takes would be coherent, as two performances never are.
    """
    drift = _sweep(y.shape[1], speed, rate)
    drift *= np.float32(DOUBLE_DRIFT * rate)
    drift += np.float32(seconds * rate)
    second = np.stack([_read_late(side, drift) for side in y[::-1]])
    return pan(y, -spread) + pan(second, spread)


def chorus(y: np.ndarray, speed: float, rate: int, delay: float = 0.012, depth: float = 0.004) -> np.ndarray:
    """Add a copy whose delay swings by `depth` seconds, `speed` times a second, in opposite ways left and right."""
    swing = _sweep(y.shape[1], speed, rate)
    out = np.repeat(y * np.float32(0.75), 2 // len(y), axis=0)
    for side, sign in ((0, 1), (1, -1)):
        out[side] += np.float32(0.6) * _read_late(y[-side], (delay + sign * depth * swing) * np.float32(rate))
    return out


def _sweep(length: int, speed: float, rate: int) -> np.ndarray:
    """A sine of `speed` Hz: (length,) float32."""
    steps = np.arange(0, length + SWEEP_HOP, SWEEP_HOP)
    return between_steps(np.sin(steps * (2 * np.pi * speed / rate)), SWEEP_HOP, length)


def _read_late(y: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """y (time,) read `samples` (time,) late, fractions by straight lines; before its start it is silent."""
    whole = samples.astype(np.int64)
    fraction = samples - whole.astype(np.float32)
    index = np.arange(len(y)) - whole
    late, later = y.take(index, mode="clip"), y.take(index - 1, mode="clip")
    late += fraction * (later - late)
    late[index < 0] = 0
    return late


def echo(y: np.ndarray, seconds: float, rate: int, level: float = 0.125, feedback: float = 0.5,
         repeats: int = 3) -> np.ndarray:
    """Add repeats of a stereo signal, each softer by `feedback`, swapping sides."""
    out = y.copy()
    for k in range(1, repeats + 1):
        out += delayed(y[::(-1) ** k], k * seconds, rate) * np.float32(level * feedback ** (k - 1))
    return out


def impulse_response(rng: np.random.Generator, rate: int, reverberation_time: float, size: float,
                     predelay: float, damping: float = 4500.0) -> np.ndarray:
    """A synthetic room: a few early reflections, then noise whose high frequencies die first: (2, time) float32.

    reverberation_time: seconds for 60 dB at low frequencies (0.45 of it at high ones). size: stretches the early
    reflections, 1 spans 50 ms. predelay: seconds before anything returns. damping: Hz. Each side has unit energy.
    """
    n = int(reverberation_time * rate)
    time = np.arange(n, dtype=np.float32) / np.float32(rate)
    decay = np.exp(time * np.float32(-np.log(1000) / reverberation_time))
    bright = rng.standard_normal((2, n), dtype=np.float32) * decay ** np.float32(1 / 0.45)
    muffle = high_shelf(damping / 3, -24, rate)
    dark = equalise(rng.standard_normal((2, n), dtype=np.float32), muffle) * decay
    tail = (np.float32(0.5) * bright + 3 * dark) * np.clip(time / np.float32(0.02 * size), 0, 1)
    for _ in range(8):
        arrival = int(rate * size * rng.uniform(0.004, 0.05))
        tail[rng.integers(2), min(arrival, n - 1)] += 2.5 * rng.standard_normal()
    # rooms on records are cut below, or the bass turns to mud
    tail = equalise(np.pad(tail, ((0, 0), (int(predelay * rate), 0))), high_pass(150, rate))
    return (tail / np.sqrt(np.square(tail).sum(1, keepdims=True))).astype(np.float32)


class Reverb:
    """Convolution with a room. response: impulse response, (2, time). length: samples of the signals it will get."""

    def __init__(self, response: np.ndarray, length: int):
        self.length = length
        self.n_fft = scipy.fft.next_fast_len(length + response.shape[1] - 1, real=True)     # no wrap-around
        self._gain = scipy.fft.rfft(response, self.n_fft)

    def __call__(self, send: np.ndarray) -> np.ndarray:
        """What comes back on both sides when `send` (length,) plays in the room: (2, length) float32."""
        spectrum = scipy.fft.rfft(send, self.n_fft)
        sides = [scipy.fft.irfft(spectrum * gain, self.n_fft)[:self.length] for gain in self._gain]
        return np.stack(sides)
