"""Learning-rate schedules: step, counted from 0, to a factor of the optimizer's learning rate."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence


def constant(steps: int, warmup: int = 0) -> Callable[[int], float]:
    """A straight rise over `warmup` steps (1/warmup at step 0), then 1.

    steps: of the whole run, which a constant rate does not need. ValueError where the warm-up does not fit into them.
    """
    _check(steps, warmup)
    return lambda step: _rise(step, warmup)


def cosine(steps: int, warmup: int = 0, last: float = 0.0, restarts: Sequence[int] = ()) -> Callable[[int], float]:
    """A straight rise over `warmup` steps, then half a cosine from 1 down to `last` at step `steps`.

    restarts: steps at which it jumps back to 1 and comes down once more: a run that was to end there goes on, and what
    it did until then stays what it was. ValueError where the warm-up does not fit into the steps (or in front of the
    first restart), `last` lies outside [0, 1] or the restarts do not rise between warm-up and end. Source: Loshchilov
    and Hutter 2017, eq. 5, whose lengths between restarts are free here.
    """
    _check(steps, warmup)
    if not 0 <= last <= 1:
        raise ValueError(f"last is {last}; expected the last factor of the learning rate, between 0 and 1")
    bounds = [warmup, *restarts, steps]
    if restarts and any(before >= after for before, after in zip(bounds, bounds[1:])):
        raise ValueError(f"restarts is {list(restarts)}; expected rising steps after the warm-up of {warmup} and "
                         f"before the end, step {steps}")

    def factor(step: int) -> float:
        cycle = bisect_right(restarts, step)
        begin, end = bounds[cycle], bounds[cycle + 1]
        share = min(1.0, max(0, step - begin) / max(1, end - begin))
        return _rise(step, warmup) * (last + (1 - last) * (1 + math.cos(math.pi * share)) / 2)
    return factor


def cut_cosine(steps: int, of: int, down: int, warmup: int = 0, last: float = 0.0) -> Callable[[int], float]:
    """The cosine of a run of `of` steps that is ended earlier: from step `steps - down` on a straight line to `last`.

    What it did until then stays what it was. ValueError where the warm-up or `down` does not fit into the steps, or
    `of` is no more than `steps`.
    """
    _check(steps, warmup)
    if not 0 < down <= steps - warmup or of <= steps:
        raise ValueError(f"of is {of} and down {down}; expected more than the {steps} steps, and 1 to {steps - warmup}")
    whole, turn = cosine(of, warmup, last), steps - down
    return lambda step: whole(step) if step < turn else whole(turn) + (last - whole(turn)) * min(1.0,
                                                                                                 (step - turn) / down)


def _check(steps: int, warmup: int) -> None:
    if steps < 1 or not 0 <= warmup <= steps:
        raise ValueError(f"steps is {steps} and warmup {warmup}; expected at least one step, and a warm-up that fits "
                         "into the steps")


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


SCHEDULES = {"constant": constant, "cosine": cosine, "cut_cosine": cut_cosine}
