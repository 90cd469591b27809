"""What the graders rely on, remembered before student code runs and put back before anything is judged.

A submission shares its process with the checks, so it can replace `torch.allclose`, a method of `torch.Tensor`, the
code of a function or a whole module. `Originals` notices each and undoes it.
"""

import builtins
import random
import sys
import warnings
from types import FunctionType, ModuleType

import numpy as np
import torch
import torch.overrides
import torch.utils._device

WATCHED_PACKAGES = ("course_lib",)
WATCHED_MODULES = (
    "builtins", "math", "cmath", "random", "time", "signal", "threading", "sys", "io", "os", "json", "ast", "operator",
    "functools", "itertools", "collections", "contextlib", "copy", "inspect", "traceback", "importlib",
    "numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.testing", "numpy.ma",
    "torch", "torch.functional", "torch.nn", "torch.nn.functional", "torch.fft", "torch.linalg", "torch.testing",
    "torch.autograd", "torch.overrides", "torch._C", "torch._C._nn", "torch._C._fft", "torch._C._linalg",
    "scipy", "scipy.signal", "scipy.linalg", "scipy.fft", "torch._tensor",
)
WATCHED_CLASSES = (torch.Tensor, torch.nn.Module, torch.nn.Parameter, torch.Generator, torch.autograd.Function,
                   np.random.Generator, random.Random)
# Names that libraries rebind themselves in ordinary use.
REBOUND_IN_USE = {("sys", "displayhook"), ("sys", "excepthook"), ("sys", "last_exc"), ("sys", "unraisablehook"),
                  ("torch", "Storage")}         # torch.set_default_dtype does
ABSENT = object()

# Bound before student code: what restoring itself needs.
_setattr, _delattr, _vars, _len = setattr, delattr, vars, len
_settrace, _setprofile, _modules = sys.settrace, sys.setprofile, sys.modules
_recursion_limit, _set_recursion_limit = sys.getrecursionlimit, sys.setrecursionlimit
_seed_torch, _set_grad, _set_dtype = torch.manual_seed, torch._C._set_grad_enabled, torch._C._set_default_dtype
_get_dtype = torch.get_default_dtype
_modes, _pop_mode = torch._C._len_torch_function_stack, torch._C._pop_torch_function_stack
_seed_numpy, _seed_random = np.random.seed, random.seed
_device_context, _device_mode = torch._GLOBAL_DEVICE_CONTEXT, torch.utils._device.DeviceContext
_device_function, _type, _get_errors, _set_errors = _device_mode.__torch_function__, type, np.geterr, np.seterr
_builtins = dict(vars(builtins))
# What torch.set_... switches on, and what switches it off.
_switches = ((torch.is_anomaly_enabled, torch.set_anomaly_enabled),
             (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms))
_flush, _reset_warnings, _devices = torch.set_flush_denormal, warnings.resetwarnings, torch.utils._device


def _inside(function: FunctionType) -> tuple:
    """What can be exchanged within a Python function."""
    return function.__code__, function.__defaults__, function.__kwdefaults__


class Originals:
    """The watched functions, classes and modules as they were when this was made.

    hidden_modules: modules that student code must not find, so that they are watched without being in sys.modules.
    """

    def __init__(self, hidden_modules: dict[str, ModuleType]):
        # (owner, name of the owner, {attribute: value}, all its names, names that new ones would shadow)
        self.tables = []
        self.insides = {}  # id of a function -> (function, name, its code and defaults)
        self.modules = {name: module for name, module in sys.modules.items() if self._watches(name)}
        for name, module in (self.modules | hidden_modules).items():
            self._remember(module, name)
        for kind in WATCHED_CLASSES:
            self._remember(kind, f"{kind.__module__}.{kind.__qualname__}")
        self.dtype, self.recursion_limit = _get_dtype(), _recursion_limit()
        self.number_errors, self.warnings = np.geterr(), list(warnings.filters)

    @staticmethod
    def _watches(name: str) -> bool:
        return name in WATCHED_MODULES or name.split(".")[0] in WATCHED_PACKAGES

    def _remember(self, owner: ModuleType | type, owner_name: str) -> None:
        special = ("__init__", "__call__", "__setattr__", "__getattr__", "__torch_function__")
        table = {}
        for name, value in vars(owner).items():
            is_dunder = name.startswith("__") and name.endswith("__")
            if is_dunder and isinstance(owner, ModuleType) and owner is not builtins:
                continue
            if (owner_name, name) in REBOUND_IN_USE or (is_dunder and name in ("__dict__", "__weakref__", "__doc__")):
                continue
            if (
                callable(value)
                or isinstance(value, (ModuleType, staticmethod, classmethod, property))
                or name in special
            ):
                table[name] = value
                inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                if type(inner) is FunctionType:
                    self.insides[id(inner)] = (inner, f"{owner_name}.{name}", _inside(inner))
        bases = [builtins] if isinstance(owner, ModuleType) else owner.__mro__[1:]
        inherited = {name for base in bases for name in vars(base)}
        self.tables.append((owner, owner_name, table, set(vars(owner)), inherited))

    def restore(self) -> list[str]:
        """Undo every replacement; returns the names of what had been replaced."""
        _settrace(None)
        _setprofile(None)
        replaced = []
        while _modes():
            mode = _pop_mode()
            if _type(mode) is not _device_mode or _device_mode.__torch_function__ is not _device_function:
                replaced.append("all of torch (a function mode)")
        # of torch.set_default_device: an ordinary line, not a replacement
        _device_context.device_context = _devices.CURRENT_DEVICE = None
        for name, module in self.modules.items():
            if _modules.get(name) is not module:
                if name in _modules:
                    replaced.append(f"the module {name}")
                _modules[name] = module
        for owner, owner_name, table, names, inherited in self.tables:
            now = _vars(owner)
            for name in inherited.intersection(now) - names:  # new here, and found before what it hides
                if now[name] is _builtins.get(name, ABSENT):
                    continue  # np.float = float, as older code needs it
                _delattr(owner, name)
                replaced.append(f"{owner_name}.{name}")
            for name, value in table.items():
                if now.get(name, ABSENT) is not value:
                    _setattr(owner, name, value)
                    replaced.append(f"{owner_name}.{name}")
        for function, name, (code, defaults, keyword_defaults) in self.insides.values():
            if (function.__code__ is not code or function.__defaults__ is not defaults
                    or function.__kwdefaults__ is not keyword_defaults):
                function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keyword_defaults
                replaced.append(f"the inside of {name}")
        return replaced

    def settle(self) -> None:
        """Bring the settings that arithmetic depends on to their defaults: type, gradients, warnings, tiny numbers."""
        _set_dtype(self.dtype)
        _set_grad(True)
        for is_on, switch in _switches:
            if is_on():
                switch(False)
        _flush(False)
        if _get_errors() != self.number_errors:
            _set_errors(**self.number_errors)
        if warnings.filters != self.warnings:
            _reset_warnings()
            warnings.filters.extend(self.warnings)

    def steady(self) -> None:
        """As `settle`, and seeds and the depth of recursion too."""
        self.settle()
        _set_recursion_limit(self.recursion_limit)
        _seed_random(0)
        _seed_numpy(0)
        _seed_torch(0)
