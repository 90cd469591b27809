"""What is trained or kept beside a model: adversaries, codebooks that move themselves, optimizers of their own.

    Part("codebook", codebook)                                        the step changes its state; saved and resumed
    Part("decoder", model.decoder, optimizer)                         moved by the model's loss, in its own way
    Part("discriminator", network, optimizer, step)                   has a loss and an update of its own

`fit` checkpoints all of them with the model, and keeps the gradients of an adversary's step and of the model's apart.
"""

import contextlib
import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

Step = Callable[[nn.Module, object], "Tensor | Mapping[str, Tensor]"]


class Stateful(Protocol):
    """Anything whose state can be asked and set, as a plain structure of tensors, numbers and text."""

    def state_dict(self) -> Mapping[str, object]: ...

    def load_state_dict(self, state: Mapping[str, object]) -> object: ...


@dataclass(frozen=True)
class Part:
    """One thing that a training holds beside the model.

    name: in logs and checkpoints. module: a torch module, or for a state alone anything with `state_dict` and
    `load_state_dict`. Three kinds:

    without optimizer: a state that the model's step changes itself, for example a codebook with running means and
    restarts. It may lie inside the model; the moving average of the model's weights then copies it.

    with an optimizer: parameters that the model's own loss moves, by another optimizer than the rest. They lie inside
    the model or beside it.

    with an optimizer and a step: an adversary. step: (model, batch) -> its loss, or a dict of scalars with "loss". It
    is called on the batch of the model's step, before the model's update or after it (`when`); the model's weights get
    no gradient in it, nor the part's in the model's step. With `accumulate` it is called once for each batch, then
    moves once. The module lies beside the model: it shares no parameter with it. Both are in train mode in both steps.
    To spare the second forward pass, let the model's step keep its detached output, and play `when="after"`.

    clip, clip_value: as in `FitSettings`, for the part's parameters. schedule: step (from 0) -> factor of the part's
    learning rates (None: constant).

    Its numbers are logged as NAME (the loss), NAME_x (a further x of the dict), NAME_gradient_norm (with clip). What
    the trained model needs later, like the codes it decodes from, belongs into the model: a part's state is kept in
    checkpoints only. Raises ValueError for what does not fit together.
    """

    name: str
    module: "nn.Module | Stateful"
    optimizer: torch.optim.Optimizer | None = None
    step: Step | None = None
    when: str = "before"
    clip: float | None = None
    clip_value: float | None = None
    schedule: Callable[[int], float] | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name in ("loss", "step", "seconds"):
            raise ValueError(f"name of a part is {self.name!r}; expected a word for the log, for example "
                             "'discriminator'")
        if not isinstance(self.module, nn.Module) and not all(
                callable(getattr(self.module, method, None)) for method in ("state_dict", "load_state_dict")):
            raise ValueError(f"module of part {self.name} is {type(self.module).__name__}; expected a torch module, or "
                             "something with state_dict and load_state_dict")
        if self.optimizer is not None and not isinstance(self.module, nn.Module):
            raise ValueError(f"part {self.name} has an optimizer, but its module is {type(self.module).__name__}; "
                             "expected a torch module")
        if self.step is not None and self.optimizer is None:
            raise ValueError(f"part {self.name} has a step but no optimizer to follow it; pass optimizer=")
        if self.when not in ("before", "after"):
            raise ValueError(f"when of part {self.name} is {self.when!r}; expected 'before' or 'after' the model's "
                             "update")
        for name, value in (("clip", self.clip), ("clip_value", self.clip_value)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} of part {self.name} is {value!r}; expected a number above 0, or None")
        if self.optimizer is None and (self.clip or self.clip_value or self.schedule):
            raise ValueError(f"part {self.name} has no optimizer: clip, clip_value and schedule would do nothing")


def check_parts(model: nn.Module, optimizer: torch.optim.Optimizer, parts: Sequence[Part]) -> None:
    """ValueError where two parts have one name, two optimizers one parameter, or an adversary lies in the model."""
    names = [part.name for part in parts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two parts are called {', '.join(sorted(twice))}; give each a name of its own")
    owners = {id(p): "the model's optimizer" for p in parameters_of(optimizer)}
    inside = {id(p) for p in model.parameters()}
    for part in parts:
        if part.step is not None and any(id(p) in inside for p in part.module.parameters()):
            raise ValueError(f"part {part.name} has a step of its own and shares parameters with the model; keep what "
                             "it trains beside the model, or leave its step out")
        for parameter in parameters_of(part.optimizer) if part.optimizer else ():
            if id(parameter) in owners:
                raise ValueError(f"the optimizer of part {part.name} moves a parameter of {tuple(parameter.shape)} "
                                 f"that {owners[id(parameter)]} moves, too; give each parameter to one of them")
            owners[id(parameter)] = f"the optimizer of part {part.name}"
    for part in parts:
        if not isinstance(part.module, nn.Module):
            _check_state(part)


def _check_state(part: Part) -> None:
    """ValueError where a state could be written, but not read again by torch's restricted reader."""
    buffer = io.BytesIO()
    try:
        torch.save(part.module.state_dict(), buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:
        raise ValueError(f"the state of part {part.name} can't be kept in a checkpoint "
                         f"({str(error).partition('.')[0].strip()}); expected tensors, numbers, text, and lists and "
                         "dicts of them") from error


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters that an optimizer moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class Rates:
    """The learning rates of an optimizer, as they were handed over, and what a schedule makes of them."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: Callable[[int], float] | None):
        self.optimizer, self.schedule = optimizer, schedule or (lambda _step: 1.0)
        self.full = [group["lr"] for group in optimizer.param_groups]

    def set(self, step: int) -> None:
        """The rates of update number `step`, counted from 0."""
        self._set(self.schedule(step))

    def restore(self) -> None:
        """The rates as they were handed over."""
        self._set(1.0)

    def _set(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.full):
            group["lr"] = rate * factor


@contextlib.contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """No gradient for these parameters while it lasts."""
    moved = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in moved:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moved:
            parameter.requires_grad_(True)


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def averaged_gradients(accelerator: Accelerator, parameters: Sequence[Tensor]) -> None:
    """Give parameters that accelerate has not wrapped the mean of their gradients over the processes.

    A parameter that got a gradient in some processes only counts as 0 in the others; in none, it keeps none.
    """
    if accelerator.num_processes == 1 or not parameters:
        return
    device = accelerator.device
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    moved = [p for p, count in zip(parameters, accelerator.reduce(present, "sum").tolist()) if count > 0]
    if not moved:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in moved])
    for p, mean in zip(moved, accelerator.reduce(flat, "mean").split([p.numel() for p in moved])):
        p.grad = mean.view_as(p).to(p.dtype)


def check_finite(named: Iterable[tuple[str, Tensor]], step: int, whose: str = "") -> None:
    """FloatingPointError where a gradient is not finite: after such a step, saved, no run could go on."""
    gradients = {name: weight.grad for name, weight in named if weight.grad is not None}
    finite = [gradient.isfinite().all() for gradient in gradients.values()]
    if finite and not torch.stack(finite).all():                            # on a GPU: one look for all of them
        bad = [name for name, value in zip(gradients, finite) if not value]
        raise FloatingPointError(f"the gradient of step {step}{whose} is NaN or infinite in {some(bad)}; a smaller "
                                 "learning rate, a gradient clip or a look at that batch may help")


def check_number(name: str, value: float, step: int) -> None:
    """FloatingPointError where a loss or the norm of a gradient is not finite."""
    if not math.isfinite(value):
        raise FloatingPointError(f"the {name} of step {step} is {value}; a smaller learning rate, a gradient clip or a "
                                 "look at that batch may help")


def describe(module: object) -> str:
    """A module in words that change with its class and size."""
    if not isinstance(module, nn.Module):
        return type(module).__name__
    tensors = [value for value in module.state_dict().values() if isinstance(value, Tensor)]
    return f"{type(module).__name__}, {sum(tensor.numel() for tensor in tensors)} numbers in {len(tensors)} tensors"


def describe_optimizer(optimizer: torch.optim.Optimizer) -> list:
    """An optimizer's class and the settings of its groups, as text."""
    groups = [{name: repr(value) for name, value in group.items() if name not in ("params", "initial_lr")}
              for group in optimizer.param_groups]
    return [type(optimizer).__name__, *groups]


def copy_state(module: nn.Module, to: nn.Module) -> None:
    """Copy parameters and buffers of a module to another one of its kind."""
    with torch.no_grad():
        for one, other in zip(itertools.chain(module.parameters(), module.buffers()),
                              itertools.chain(to.parameters(), to.buffers())):
            other.copy_(one)


def some(names: Sequence[str]) -> str:
    """The first names of a list in words, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
