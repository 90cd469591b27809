"""What differs between two releases of one assignment: constants, shapes and data as functions of a seed."""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")
DIGEST_BITS = 64

_hidden = {"seed": "source"}  # of the hidden tests; the grader sets the release's own while a check runs


class Variation:
    """Values drawn by name: each is a pure function of (seed, name), so that adding one changes no other.

    seed: any integer or text. Two variations with one seed give the same values on every machine and Python.
    """

    def __init__(self, seed: int | str):
        if not isinstance(seed, (int, str)):
            raise ValueError(f"seed is {seed!r}; expected an integer or a text")
        self.seed = seed

    def __repr__(self) -> str:
        return "Variation(...)"  # a printed variation gives nobody its seed

    def _bits(self, name: str) -> int:
        """64 uniform bits for this name."""
        text = f"{self.seed}\N{UNIT SEPARATOR}{name}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[: DIGEST_BITS // 8], "big")

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer from low to high, both included. ValueError where low > high."""
        if low > high:
            raise ValueError(f"{name}: low is {low}, high {high}; expected low <= high")
        return low + self._bits(name) % (high - low + 1)

    def choice(self, name: str, options: Sequence[Option]) -> Option:
        """One of the options. ValueError where there is none."""
        if not len(options):
            raise ValueError(f"{name}: there is no option to choose from")
        return options[self._bits(name) % len(options)]

    def real(self, name: str, low: float, high: float) -> float:
        """A number in [low, high). ValueError unless low < high and both are finite."""
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{name}: low is {low}, high {high}; expected finite low < high")
        share = (self._bits(name) >> (DIGEST_BITS - 53)) / 2**53  # as many bits as a float holds: never 1
        return min(low + (high - low) * share, math.nextafter(high, low))

    def generator(self, name: str):
        """A torch.Generator on the CPU, seeded for this name."""
        import torch

        return torch.Generator().manual_seed(self._bits(name) % 2**63)


def hidden_variation(name: str = "") -> Variation:
    """The variation that hidden tests draw their data from; `name` (such as "task 1") gives each test its own.

    While a submission is graded it depends on the release's seed; in the source notebook on no seed.
    """
    return Variation(f"hidden/{_hidden['seed']}/{name}")


def set_hidden_seed(seed: int | str) -> None:
    """Choose the release whose hidden data `hidden_variation` gives, in this process."""
    _hidden["seed"] = str(seed)
