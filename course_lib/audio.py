"""The one rule for what is computed with: audio is a torch tensor of floats, time along its last axis.

NumPy arrays are refused, not converted: soundfile, musdb and museval keep audio as (time, channels), the course as
(channels, time), and a silent conversion would take one for the other. What is only shown or played (players, mixer,
plots) takes arrays as well.
"""

import torch


def check_tensors(**arguments) -> None:
    """Raise a ValueError that names the argument unless each is a torch tensor, of any type and shape."""
    for name, x in arguments.items():
        if not isinstance(x, torch.Tensor):
            raise ValueError(f"{name} is {_described(x)}; expected a torch tensor with time as its last axis: pass "
                             f"torch.from_numpy({name}), and turn axes of (time, channels), as soundfile and museval "
                             "have them, with .T or .swapaxes(-1, -2) first")


def check_audio(**arguments) -> None:
    """Raise a ValueError that names the argument unless each is a torch tensor of real floats, of any shape.

    Integers are refused because their full scale isn't known, and their squares overflow.
    """
    check_tensors(**arguments)
    for name, x in arguments.items():
        if not x.is_floating_point():
            raise ValueError(f"{name} is {x.dtype}; expected real floats in [-1, 1]"
                             + (f" (16-bit integers: {name} / 32768)" if x.dtype == torch.int16 else ""))


def _described(x) -> str:
    """What was given instead, in words."""
    kind = f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}".removeprefix("builtins.")
    shape = getattr(x, "shape", None)
    return f"a {kind}" + (f" of {getattr(x, 'dtype', 'unknown type')} {tuple(shape)}" if shape is not None else "")
