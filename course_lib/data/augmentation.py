"""Augmentation of separated sources: changes that give another plausible song, whose stems are known all the same.

Every function takes sources (..., sources, channels, time) and a torch.Generator, draws for each source on its own and
returns a new tensor. The mixture is formed afterwards, as the sum of what came out. Values: Uhlich et al. 2017, and
Demucs (gain 0.25 to 1.25, channels swapped and polarity flipped in half of the cases, remix in groups of 4).
"""

from dataclasses import dataclass

import torch
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
