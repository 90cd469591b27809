"""Another sampling rate, for any pair of rates: torchaudio's windowed sinc, without its table where that gets large."""

import functools
import math
import numbers
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from scipy.signal import resample_poly
from torch import Tensor

# torchaudio.functional.resample's defaults.
LOWPASS_FILTER_WIDTH = 6                  # zero crossings of the sinc on either side
ROLLOFF = 0.99                            # the cutoff, as a share of the lower of the two Nyquist frequencies

_LARGEST_TABLE = 2 ** 20                  # weights; torchaudio keeps about from_rate * to_rate / gcd^2 of them
_LARGEST_STEP = 2 ** 20                   # samples after which the grids of two rates meet
_SHORTEST_BLOCK = 2 ** 14                 # samples that `resampled_blocks` resamples at a time, but for the last


def resample(audio: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Audio at another sampling rate: float (..., time) -> (..., ceil(time to_rate / from_rate)).

    from_rate, to_rate: Hz, whole numbers. Equals torchaudio.functional.resample, to the bit for ordinary rates. For
    rates with a small common divisor (44101 to 44100) torchaudio would make a table of gigabytes; the same filter then
    goes through scipy.signal.resample_poly, whose table grows with the larger rate alone. No gradient there. ValueError
    for rates that aren't whole and positive, or whose grids meet too rarely for either.
    """
    step_in, step_out = steps(from_rate, to_rate)
    if step_in == step_out:
        return audio
    frames = resampled_frames(audio.shape[-1], from_rate, to_rate)
    if step_in * step_out <= _LARGEST_TABLE:
        if frames >= 2 ** 24:              # torchaudio rounds the length to float32: here and there it would be short
            audio = F.pad(audio, (0, step_in * -(-1024 // step_out)))
        audio = audio.contiguous()         # torchaudio takes a view of its shape
        return torchaudio.functional.resample(audio, step_in, step_out, LOWPASS_FILTER_WIDTH, ROLLOFF)[..., :frames]
    samples = audio.detach().cpu().numpy()
    window = _windowed_sinc(step_in, step_out).astype(samples.dtype)
    resampled = resample_poly(samples, step_out, step_in, axis=-1, window=window)
    return torch.from_numpy(np.ascontiguousarray(resampled)).to(audio)


def resampled_frames(frames: int, from_rate: int, to_rate: int) -> int:
    """How many samples `frames` samples become at another rate (rounded up, as torchaudio does)."""
    return -(-frames * to_rate // from_rate)


def resampled_blocks(blocks: Iterable[Tensor], from_rate: int, to_rate: int) -> Iterator[Tensor]:
    """`resample` of audio that comes in blocks, and of which only two or three are held: (..., time) each.

    blocks: pieces of one signal in order, of any lengths, alike but for the last axis. What is given has other lengths;
    all of it together is as long as, and equals up to rounding, what `resample` makes of all blocks joined.
    """
    step_in, step_out = steps(from_rate, to_rate)
    if step_in == step_out:
        yield from blocks
        return
    reach = LOWPASS_FILTER_WIDTH * step_in / (min(step_in, step_out) * ROLLOFF)       # samples that a filter looks far
    margin = step_in * (math.ceil(reach / step_in) + 1)                               # on either side, whole steps
    held, before, taken, given = None, 0, 0, 0         # before: samples of `held` that were resampled already
    for block in blocks:
        held = block if held is None else torch.cat([held, block], -1)
        taken += block.shape[-1]
        ready = (held.shape[-1] - before - margin) // step_in * step_in
        if ready >= max(step_in, _SHORTEST_BLOCK):
            piece = resample(held[..., :before + ready + margin], from_rate, to_rate)
            first = before // step_in * step_out
            count = ready // step_in * step_out
            yield piece[..., first:first + count]
            given += count
            left = max(0, before + ready - margin)
            held, before = held[..., left:], before + ready - left
    if held is not None and (rest := resampled_frames(taken, from_rate, to_rate) - given):
        first = before // step_in * step_out
        yield resample(held, from_rate, to_rate)[..., first:first + rest]


def steps(from_rate: int, to_rate: int) -> tuple[int, int]:
    """The samples at either rate after which the two grids meet again: the rates without their common divisor."""
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        check_rate(rate, name)
    common = math.gcd(int(from_rate), int(to_rate))
    step_in, step_out = int(from_rate) // common, int(to_rate) // common
    if max(step_in, step_out) > _LARGEST_STEP:
        raise ValueError(f"from {from_rate} to {to_rate} Hz: their grids meet only after {max(step_in, step_out)} "
                         f"samples; expected at most {_LARGEST_STEP}. Is one of the rates a mistake?")
    return step_in, step_out


def check_rate(rate: int, name: str = "rate") -> None:
    """ValueError unless `rate` is a sampling rate: a positive whole number of Hz."""
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0 < rate < math.inf or rate != int(rate):
        raise ValueError(f"{name} is {rate!r}; expected a sampling rate in Hz, a positive whole number such as 16000")


@functools.lru_cache(maxsize=4)
def _windowed_sinc(step_in: int, step_out: int) -> np.ndarray:
    """torchaudio's filter on the grid that both rates share (its sum is 1), float64 and of odd length."""
    cutoff = min(step_in, step_out) * ROLLOFF
    reach = math.floor(LOWPASS_FILTER_WIDTH * step_in * step_out / cutoff)
    t = np.arange(-reach, reach + 1) * (cutoff / (step_in * step_out))          # in zero crossings
    return np.sinc(t) * np.cos(np.pi * t / LOWPASS_FILTER_WIDTH / 2) ** 2 * (cutoff / (step_in * step_out))
