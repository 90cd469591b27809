"""Augmentation of separated sources: changes that give another plausible song, whose stems are known all the same.

Every function takes sources (..., sources, channels, time) and a torch.Generator, draws for each source on its own and
returns a new tensor. The mixture is formed afterwards, as the sum of what came out. Values: Uhlich et al. 2017, and
Demucs (gain 0.25 to 1.25, channels swapped and polarity flipped in half of the cases, remix in groups of 4).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def random_gain(sources: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """Every source times a factor drawn uniformly from [low, high]; values may leave [-1, 1]."""
    return sources * _gains(sources, low, high, generator)


def flip_polarity(sources: Tensor, probability: float, generator: Generator) -> Tensor:
    """Every source times -1 with this probability."""
    return sources * _signs(sources, probability, generator)


def swap_channels(sources: Tensor, probability: float, generator: Generator) -> Tensor:
    """Left and right of every source swapped with this probability; mono sources stay as they are."""
    return _swapped(sources.clone(), probability, generator)


def remix(sources: Tensor, group: int, generator: Generator) -> Tensor:
    """Songs that were never played together: every source shuffled over the songs of its group.

    sources: (batch, sources, channels, time). group: how many neighbours of the batch swap sources; it must divide the
    batch, else ValueError.
    """
    batch, count = sources.shape[:2]
    if group < 1 or batch % group:
        raise ValueError(f"group is {group}; expected a divisor of the batch, which holds {batch} songs")
    order = torch.rand(batch // group, group, count, generator=generator).argsort(1)          # (groups, group, sources)
    order += torch.arange(0, batch, group)[:, None, None]                                      # places in the batch
    return sources[order.view(batch, count), torch.arange(count)]


@dataclass(frozen=True)
class Augmentation:
    """Gain, polarity and channel swap in one go, for the loaders. Called with (sources, generator); see above.

    gain: lowest and highest factor. flip, swap: probabilities for each source. Equals the three functions in the order
    gain, flip, swap, but changes `sources` in place, which saves more than half of the time.
    """

    gain: tuple[float, float] = (0.25, 1.25)
    flip: float = 0.5
    swap: float = 0.5

    def __post_init__(self):
        low, high = self.gain
        if not 0 <= low <= high:
            raise ValueError(f"gain is {self.gain}; expected a lowest and a highest factor, 0 <= lowest <= highest")
        for name, probability in (("flip", self.flip), ("swap", self.swap)):
            if not 0 <= probability <= 1:
                raise ValueError(f"{name} is {probability}; expected a probability between 0 and 1")

    def __call__(self, sources: Tensor, generator: Generator) -> Tensor:
        factors = _gains(sources, *self.gain, generator)
        factors *= _signs(sources, self.flip, generator)
        return _swapped(sources.mul_(factors), self.swap, generator)


@dataclass(frozen=True)
class Repitch:
    """Another pitch and tempo for a share of the pieces that chunks are made of; the loaders ask it before they read.

    All sources of a piece move alike. move: (audio (..., time), semitones, tempo) to audio (..., about time / tempo),
    chapter 6's `repitch` for example. share: of the pieces. semitones: at most so many up or down, all whole numbers
    equally likely. tempo: standard deviation of the change of tempo, normal around none. limit: its largest value.
    ValueError for values out of order. Source: the defaults are those of Rouard, Massa and Défossez 2023.
    """

    move: Callable[[Tensor, int, float], Tensor]
    share: float = 0.2
    semitones: int = 2
    tempo: float = 0.05
    limit: float = 0.12

    def __post_init__(self):
        if not callable(self.move):
            raise ValueError(f"move is {self.move!r}; expected a function of (audio, semitones, tempo)")
        if not (0 <= self.share <= 1 and self.tempo >= 0 and 0 <= self.limit < 1):
            raise ValueError(f"share is {self.share}, tempo {self.tempo} and limit {self.limit}; expected a share from "
                             "0 to 1, a deviation from 0 on and a largest change from 0 to below 1")
        if isinstance(self.semitones, bool) or not isinstance(self.semitones, int) or self.semitones < 0:
            raise ValueError(f"semitones is {self.semitones!r}; expected a whole number from 0 on")

    def draw(self, generator: Generator) -> tuple[int, float]:
        """Semitones and tempo (1.1: a tenth faster) of the next piece; (0, 1.0) for one that stays as recorded."""
        if float(torch.rand((), generator=generator)) >= self.share:
            return 0, 1.0
        semitones = int(torch.randint(-self.semitones, self.semitones + 1, (), generator=generator))
        change = self.tempo * float(torch.randn((), generator=generator))
        return semitones, 1 + max(-self.limit, min(self.limit, change))


QUIET = 1e-7                    # a level below this is silence: nothing is measured in it
CORNERS = (50.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)      # Hz of the random equaliser
ENVELOPE_HOP = 512              # samples per step of the compressor's level
LONGEST_ROOM = 0.8              # seconds


@dataclass(frozen=True)
class StudioAugmentation:
    """What a recording studio could have done otherwise, drawn for each source: for the loaders.

    Called with (sources, generator), sources (sources, channels, time); returns a new tensor of that shape, finite for
    silent, short and loud sources. In this order, each with its own draw:

    equaliser: standard deviation in dB of a random curve over nine corners, straight between them over log frequency.
    room: probability of a short synthetic room. saturation: probability of soft clipping. compression: probability of
    a compressor. width: highest factor of the difference of the sides (drawn from 0; None: as recorded). gain: lowest
    and highest in dB. flip, swap: as for `Augmentation`. absent: probability that a source is silent (never all).
    bus: probability that one compressor's gain is laid over all sources. loudness: lowest and highest gain in dB of the
    whole chunk. rate: Hz, of the corners and times.
    """

    equaliser: float = 4.0
    room: float = 0.25
    saturation: float = 0.25
    compression: float = 0.3
    width: float | None = 1.4
    gain: tuple[float, float] = (-9.0, 3.0)
    flip: float = 0.5
    swap: float = 0.5
    absent: float = 0.05
    bus: float = 0.3
    loudness: tuple[float, float] = (-8.0, 3.0)
    rate: int = 44100

    def __post_init__(self):
        for name in ("room", "saturation", "compression", "flip", "swap", "absent", "bus"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a probability between 0 and 1")
        for name in ("gain", "loudness"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; expected the lowest and the highest dB")
        if self.equaliser < 0 or (self.width is not None and self.width < 0) or self.rate < 1:
            raise ValueError(f"equaliser is {self.equaliser}, width {self.width} and rate {self.rate}; expected "
                             "numbers from 0 on, and a sampling rate in Hz")

    def __call__(self, sources: Tensor, generator: Generator) -> Tensor:
        y = self._filtered(sources, generator)
        y = self._saturated(y, generator)
        y = self._compressed(y, generator)
        y = self._placed(y, generator)
        if float(torch.rand((), generator=generator)) < self.bus:
            y *= _compressor(y.sum(0), generator)
        return y

    def _filtered(self, y: Tensor, generator: Generator) -> Tensor:
        """Equaliser and room in the frequency domain, at equal energy. Sound wraps around the ends of the chunk."""
        count, channels, time = y.shape
        knots = self.equaliser * torch.randn(count, len(CORNERS), generator=generator)
        in_room = torch.rand(count, generator=generator) < self.room
        spectrum = torch.fft.rfft(y)
        spectrum *= equaliser_curve(knots, time, self.rate)[:, None]
        for source in in_room.nonzero().flatten().tolist():
            spectrum[source] *= torch.fft.rfft(_room(channels, time, self.rate, generator), time)
        return _at_level_of(torch.fft.irfft(spectrum, time), y)

    def _saturated(self, y: Tensor, generator: Generator) -> Tensor:
        chosen = torch.rand(len(y), generator=generator) < self.saturation
        drives = torch.exp(torch.empty(len(y)).uniform_(math.log(0.2), math.log(2.5), generator=generator))
        for source in chosen.nonzero().flatten().tolist():
            before = y[source:source + 1]
            clipped = torch.tanh(before * (drives[source] / _levels(before).clamp_min(QUIET)))
            y[source] = _at_level_of(clipped, before)[0]
        return y

    def _compressed(self, y: Tensor, generator: Generator) -> Tensor:
        chosen = torch.rand(len(y), generator=generator) < self.compression
        for source in chosen.nonzero().flatten().tolist():
            before = y[source:source + 1]
            y[source] = _at_level_of(before * _compressor(before[0], generator), before)[0]
        return y

    def _placed(self, y: Tensor, generator: Generator) -> Tensor:
        """Width, gain, polarity, channels, silence and loudness: one matrix between the channels for each source."""
        count, channels, _ = y.shape
        widths = torch.ones(count) if self.width is None else self.width * torch.rand(count, generator=generator)
        gains = _decibels(self.gain, (count,), generator) * _decibels(self.loudness, (), generator)
        gains *= _signs(y, self.flip, generator).view(count)
        swapped = torch.rand(count, generator=generator) < self.swap
        heard = torch.rand(count, generator=generator) >= self.absent
        gains *= heard if heard.any() else 1
        if channels != 2:
            return y * gains.view(-1, 1, 1)
        same, across = (1 + widths) / 2 * gains, (1 - widths) / 2 * gains
        same, across = torch.where(swapped, across, same), torch.where(swapped, same, across)
        return torch.stack([same, across, across, same], dim=1).view(count, 2, 2) @ y


def equaliser_curve(knots: Tensor, time: int, rate: int) -> Tensor:
    """Gains at the bins of an rfft of `time` samples: (sources, corners) in dB to (sources, time // 2 + 1)."""
    corners = torch.tensor(CORNERS).log2()
    bins = time // 2 + 1
    points = min(bins, 1025)
    octaves = (torch.linspace(0, rate / 2, points)).clamp(CORNERS[0], CORNERS[-1]).log2()
    above = torch.searchsorted(corners, octaves).clamp(1, len(CORNERS) - 1)
    share = (octaves - corners[above - 1]) / (corners[above] - corners[above - 1])
    decibels = knots[:, above - 1] * (1 - share) + knots[:, above] * share
    gains = 10 ** (decibels / 20)
    return gains if points == bins else F.interpolate(gains[None], bins, mode="linear", align_corners=True)[0]


def _room(channels: int, time: int, rate: int, generator: Generator) -> Tensor:
    """An impulse response: the sound itself, then decaying noise with falling highs; (channels, up to 0.8 s)."""
    seconds, amount, dark = torch.rand(3, generator=generator).tolist()
    length = max(1, min(time, int(LONGEST_ROOM * rate)))
    decay = torch.exp(torch.arange(length) * (-6.9 / (rate * (0.1 + seconds * (LONGEST_ROOM - 0.1)))))
    noise = torch.randn(channels, length, generator=generator) * decay
    noise = noise + dark * torch.roll(noise, 1, -1)
    noise = noise / noise.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt() * (0.1 + 0.7 * amount)
    noise[:, 0] = 1
    return noise


def _compressor(y: Tensor, generator: Generator) -> Tensor:
    """The gain of a compressor that listens to y (channels, time): (time,), at most 1.

    Threshold and ratio are drawn relative to the level of the chunk; the level follows in steps of ENVELOPE_HOP.
    """
    threshold, ratio = torch.rand(2, generator=generator).tolist()
    time = y.shape[-1]
    steps = time // ENVELOPE_HOP
    if steps < 8:
        return torch.ones(time)
    power = y[:, :steps * ENVELOPE_HOP].square().view(len(y), steps, ENVELOPE_HOP).mean((0, 2))
    mean = power.mean()
    if float(mean) < QUIET ** 2:
        return torch.ones(time)
    level = F.avg_pool1d(power[None], 5, 1, 2, count_include_pad=False)
    excess = (10 * torch.log10(level.clamp_min(QUIET ** 2) / mean) + 10 * threshold).clamp_min(0)
    gain = 10 ** (-excess * (1 - 1 / (1.5 + 6 * ratio)) / 20)
    return F.interpolate(gain[None], time, mode="linear", align_corners=False)[0, 0]


def _levels(y: Tensor) -> Tensor:
    """Root mean square of each source: (sources, channels, time) to (sources, 1, 1)."""
    return torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True) / math.sqrt(y[0].numel())


def _at_level_of(y: Tensor, reference: Tensor) -> Tensor:
    """y (sources, channels, time), changed in place to each source's level in `reference`; silence stays silence."""
    wanted, found = _levels(reference), _levels(y)
    return y.mul_(torch.where(found > 1e-6 * wanted, wanted / found.clamp_min(1e-30), 0))


def _decibels(bounds: tuple[float, float], shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Amplitude factors of gains drawn uniformly in dB."""
    low, high = bounds
    return 10 ** ((low + (high - low) * torch.rand(shape, generator=generator)) / 20)


def _gains(sources: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """(..., sources, 1, 1), uniform in [low, high]."""
    return low + (high - low) * torch.rand(*sources.shape[:-2], 1, 1, generator=generator)


def _signs(sources: Tensor, probability: float, generator: Generator) -> Tensor:
    """(..., sources, 1, 1), -1 with this probability, else 1."""
    return 1 - 2 * (torch.rand(*sources.shape[:-2], 1, 1, generator=generator) < probability).to(sources.dtype)


def _swapped(sources: Tensor, probability: float, generator: Generator) -> Tensor:
    """`sources` itself, the channels of the drawn sources in reverse order."""
    drawn = torch.rand(sources.shape[:-2], generator=generator) < probability                  # (..., sources)
    for place in drawn.nonzero().tolist():
        source = sources[tuple(place)]                                                         # (channels, time)
        source.copy_(source.flip(0))
    return sources
