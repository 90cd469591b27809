"""The edges of a task's hidden tests: zeros inside, short, tiny, huge, another type.

Wrong answers that pass are nearly always wrong at one of these. So every task's hidden tests meet all five, by
`mutated` where the data are tensors, by `case` where they are numbers, or say by `left_out` why one makes no sense; a
test of each assignment sees to it.
"""

from collections.abc import Iterator
from typing import TypeVar

import torch

EDGES = ("zeros inside", "short", "tiny", "huge", "other type")
OTHER_TYPE = {torch.float32: torch.float64, torch.float64: torch.float32,
              torch.complex64: torch.complex128, torch.complex128: torch.complex64}
Value = TypeVar("Value")

_log: list[tuple[str, str]] = []  # (edge, reason why it is left out or nothing), in the order they come


def mutated(*tensors: torch.Tensor, axis: int = -1, short: int = 1, tiny: float = 1e-8, huge: float = 1e8,
            without: dict[str, str] | None = None) -> Iterator[tuple[str, float, tuple[torch.Tensor, ...]]]:
    """The tensors at each edge: (edge, level, tensors), all of them copies.

    zeros inside: from a third to the middle of `axis` they are 0; short: only the first `short` values along it are
    left;
    tiny, huge: all times that number, which is the `level`; other type: float64 for float32, complex128 for complex64,
    and the other way round.
    tensors: of a size 3 or more along `axis`. without: edge -> why the task can't have it.
    """
    for edge, reason in (without or {}).items():
        left_out(edge, reason)
    for edge in (edge for edge in EDGES if edge not in (without or {})):
        level = {"tiny": tiny, "huge": huge}.get(edge, 1.0)
        changed = [level * tensor for tensor in tensors]
        for number, tensor in enumerate(changed):
            size = tensor.shape[axis]
            if edge == "zeros inside":
                tensor.narrow(axis, size // 3, max(1, size // 2 - size // 3)).zero_()
            elif edge == "short":
                changed[number] = tensor.narrow(axis, 0, short).clone()
            elif edge == "other type":
                changed[number] = tensor.to(OTHER_TYPE[tensor.dtype])
        case(edge)
        yield edge, level, tuple(changed)


def case(edge: str, value: Value = None) -> Value:
    """Say that what follows tests this edge; returns the value, so that it can stand in a call."""
    if edge not in EDGES:
        raise ValueError(f"{edge!r} is no edge; expected one of {', '.join(EDGES)}")
    _log.append((edge, ""))
    return value


def left_out(edge: str, reason: str) -> None:
    """Say that the task has no such edge, and why."""
    if edge not in EDGES or not reason:
        raise ValueError(f"{edge!r} with the reason {reason!r}: expected one of {', '.join(EDGES)}, and a reason")
    _log.append((edge, reason))


def noted() -> list[tuple[str, str]]:
    """(edge, why it is left out, else nothing) of all that was said since `forget`, in order;
    others may add entries.
    """
    return _log


def forget() -> None:
    """Begin a new task."""
    _log.clear()
