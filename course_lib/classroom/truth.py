"""What checks may trust: comparisons bound before any student code ran, and the chapter's own functions.

Everything here keeps its own references to the operations it uses, takes plain values only (a tensor subclass or an
object with an `__eq__` of its own equals nothing) and answers with a plain bool.
"""

import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch

# Bound here, once: a later `torch.allclose = ...` or `torch.Tensor.__sub__ = ...` changes none of these.
_allclose, _equal, _as_tensor, _is_tensor = torch.allclose, torch.equal, torch.as_tensor, torch.is_tensor
_detach, _to, _clone = torch.Tensor.detach, torch.Tensor.to, torch.Tensor.clone
_type, _isinstance, _bool, _tuple, _zip, _all, _len = type, isinstance, bool, tuple, zip, all, len
_from_numpy, _array = torch.from_numpy, np.ndarray
_PLAIN_NUMBERS = (bool, int, float, complex)
_TENSORS = (torch.Tensor, torch.nn.Parameter)

_modules: dict[str, ModuleType] = {}
_watcher: list[Callable] = []


def watch(watcher: Callable) -> None:
    """Have watcher(actual, expected) called for each comparison that comes out False."""
    _watcher[:] = [watcher]


def _said(same: bool, actual, expected) -> bool:
    if not same:
        for watcher in _watcher:
            watcher(actual, expected)
    return same


def chapter(name: str) -> ModuleType:
    """The chapter's module `course_lib.NAME`, for reference values: the one loaded before student code ran.

    name: such as "spectral". ImportError where there is no such module.
    """
    if name not in _modules:
        _modules[name] = importlib.import_module(f"course_lib.{name}")
    return _modules[name]


def _plain(value) -> torch.Tensor | None:
    """The value as a detached plain tensor, or None where it is not a tensor, an array or a number."""
    kind = _type(value)
    if kind in _TENSORS:
        return _detach(value)
    if kind is _array and value.dtype.kind in "biufc":
        return _from_numpy(value.copy())
    if kind in _PLAIN_NUMBERS or _isinstance(value, np.generic):
        return _as_tensor(value)
    return None


def close(actual, expected, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Whether `actual` equals `expected` up to |difference| <= atol + rtol |expected|, value for value.

    Tensors, NumPy arrays and numbers, or lists and tuples of them. Shapes must be equal (nothing is broadcast), and
    both must be complex or both real; the precision (float32, float64) may differ. NaN equals nothing.
    """
    if _type(expected) in (list, tuple):
        if _type(actual) not in (list, tuple) or _len(actual) != _len(expected):
            return _said(False, actual, expected)
        return _all([close(a, e, rtol, atol) for a, e in _zip(actual, expected)])
    given, wanted = _plain(actual), _plain(expected)
    if given is None or wanted is None or given.shape != wanted.shape or given.is_complex() != wanted.is_complex():
        return _said(False, actual, expected)
    kind = torch.complex128 if given.is_complex() else torch.float64
    return _said(
        _bool(_allclose(_to(given, "cpu", kind), _to(wanted, "cpu", kind), rtol=rtol, atol=atol)), actual, expected
    )


def equal(actual, expected) -> bool:
    """Whether both hold exactly the same values in the same shape."""
    return close(actual, expected, rtol=0.0, atol=0.0)


def has_shape(value, *shape: int) -> bool:
    """Whether `value` is a tensor or array of exactly this shape."""
    plain = _plain(value)
    return _said(
        plain is not None and _tuple(plain.shape) == shape, None if plain is None else _tuple(plain.shape), shape
    )


def leaves_unchanged(function: Callable, *inputs, **options) -> bool:
    """Call function(*inputs, **options) and say whether every tensor among the inputs still holds what it held."""
    tensors = [value for value in inputs if _is_tensor(value)]
    before = [_clone(_detach(value)) for value in tensors]
    function(*inputs, **options)
    return _all([_said(_equal(_detach(value), old), value, old) for value, old in _zip(tensors, before)])
