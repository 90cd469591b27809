"""How `fit` trains, as one value: checked where it is made, written beside the run, compared when the run goes on."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real

import torch

PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}
WHOLE = {"steps": 1, "accumulate": 1, "validate_every": 1, "checkpoint_every": 0}      # and the least that makes sense
NOT_COMPARED = ("steps", "checkpoint_every", "unused")     # steps has its own rule; the others change no weight


@dataclass(frozen=True)
class FitSettings:
    """What decides how a run goes, beside the functions and modules that `fit` is given.

    steps: updates of the weights. clip: largest norm of the model's gradient; clip_value: largest value of each of its
    numbers (None: unlimited; both: the norm first). ema_decay: keep an exponential moving average of the model's
    weights and buffers, e.g. 0.999; at the end the model holds it. precision: "no", "fp16" or "bf16" (None: as
    accelerate is configured). accumulate: batches per update.

    validate_every: steps between validations; there is one at the end, too. monitor: the score that decides (None: the
    first); maximise: higher is better. patience: stop after so many validations without a better one.
    checkpoint_every: steps between checkpoints; 0: only at the end. unused: some weights get no gradient in some steps,
    for example those of a decoder whose domain is not in the batch; with several processes this has to be known.

    Raises ValueError for a value that makes no sense, by name. Source: moving average: Polyak and Juditsky 1992; mixed
    precision: Micikevicius et al. 2018; chapter 4.
    """

    steps: int
    clip: float | None = None
    clip_value: float | None = None
    ema_decay: float | None = None
    precision: str | None = None
    accumulate: int = 1
    validate_every: int = 500
    monitor: str | None = None
    maximise: bool = True
    patience: int | None = None
    checkpoint_every: int = 200
    unused: bool = False

    def __post_init__(self):
        for name, least in WHOLE.items():
            self._whole(name, least)
        if self.patience is not None:
            self._whole("patience", 1)
        for name in ("clip", "clip_value"):
            if getattr(self, name) is not None:
                self._number(name, lambda value: value > 0, "a number above 0, or None")
        if self.ema_decay is not None:
            self._number("ema_decay", lambda value: 0 <= value < 1, "a number from 0 to below 1, for example 0.999")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}, or None")
        for name, kind in (("monitor", str | None), ("maximise", bool), ("unused", bool)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected "
                                 + ("True or False" if kind is bool else "the name of a score, or None"))

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} on")
        object.__setattr__(self, name, int(value))          # NumPy's numbers can't be written as JSON

    def _number(self, name: str, allowed, expected: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or not allowed(value):
            raise ValueError(f"{name} is {value!r}; expected {expected}")
        object.__setattr__(self, name, float(value))

    @classmethod
    def of(cls, settings: "FitSettings | int") -> "FitSettings":
        """Settings as they are, or those of a number of steps. ValueError for anything else."""
        if isinstance(settings, cls):
            return settings
        if isinstance(settings, Integral) and not isinstance(settings, bool):
            return cls(int(settings))
        raise ValueError(f"settings is {settings!r}; expected FitSettings(steps, ...), or a number of steps")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], where: str) -> "FitSettings":
        """Settings from names and values, e.g. of a YAML file. where: what to call them in a ValueError."""
        known = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in values if name not in known]:
            raise ValueError(f"{where} has {', '.join(unknown)}, which is not known; expected {', '.join(known)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def compared(self) -> dict[str, object]:
        """What must be the same when a run goes on, by name: all fields that decide the weights, but steps."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_COMPARED}
