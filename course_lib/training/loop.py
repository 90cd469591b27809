"""The course's training loop: from one CPU to many GPUs and machines, resumable to the same weights.

Devices and processes are Hugging Face `accelerate`'s. The same script runs as `python train.py`, on all GPUs with
`accelerate launch train.py`, and on two CPU processes with
`ACCELERATE_USE_CPU=1 torchrun --standalone --nproc-per-node 2 train.py` (`accelerate launch --cpu` starts only one).

What is here is what makes a run repeatable: batch k is a function of (seed, k), a checkpoint holds every state there
is, and it gets its name in one step that can't be interrupted halfway (`course_lib.training.checkpoints`).
"""

import contextlib
import gc
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_lib.data.loaders import RandomChunks, batches
from course_lib.notebook.progress import progress as progress_bar
from course_lib.training.checkpoints import RunFolder
from course_lib.training.weights import some, write_tensors

Step = Callable[[nn.Module, Tensor], "Tensor | Mapping[str, Tensor]"]
PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class History:
    """What a training run logged: `steps` and `validations`, a dict of numbers a row; `stopped_early`; `best`.

    best: the best validation score and its step, (score, step); None without validation. With several processes the
    main one's is whole; the others know only what they did since the last start.
    """

    steps: list[dict] = field(default_factory=list)
    validations: list[dict] = field(default_factory=list)
    stopped_early: bool = False
    best: tuple[float, int] | None = None


def process_batches(dataset: RandomChunks, batch_size: int, accelerator: Accelerator | None = None,
                    workers: int = 0, context: str | None = None) -> Callable[[int], Iterable[Tensor]]:
    """The `batches` argument of `fit` for chunks: start -> this process's batches from step `start` on.

    batch_size: chunks a process and batch. With P processes batch k takes chunks k P B to (k + 1) P B - 1, process p
    the p-th B of them: two processes see in one step what one process sees with the doubled batch. workers, context:
    see `course_lib.data.loaders.batches`. Batches are (batch, source, channel, time), page-locked where a CUDA GPU
    takes them. Raises ValueError where the data set runs out (N batches take N P B chunks).
    """
    count = accelerator.num_processes if accelerator else 1
    index = accelerator.process_index if accelerator else 0
    share = dataset if count == 1 else _Share(dataset, batch_size, index, count)
    pinned = torch.cuda.is_available() and (accelerator is None or accelerator.device.type == "cuda")
    return lambda start: batches(share, batch_size, workers, start, context, pin_memory=pinned)


class _Share:
    """The chunks of one process: its part of every batch."""

    def __init__(self, dataset: RandomChunks, batch_size: int, index: int, count: int):
        self.dataset, self.batch_size, self.index, self.count = dataset, batch_size, index, count

    def __len__(self) -> int:
        return len(self.dataset) // (self.batch_size * self.count) * self.batch_size

    def __getitem__(self, place: int) -> Tensor:
        return self.batch([place])[0]

    def batch(self, places) -> Tensor:
        return self.dataset.batch([self._chunk(place) for place in places])

    def _chunk(self, place: int) -> int:
        number, within = divmod(place, self.batch_size)
        return (number * self.count + self.index) * self.batch_size + within


def fit(model: nn.Module, step: Step, batches: Callable[[int], Iterable[Tensor]], optimizer: torch.optim.Optimizer,
        steps: int, *, folder: str | Path | None = None, schedule: Callable[[int], float] | None = None,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None, validate_every: int = 500,
        monitor: str | None = None, maximise: bool = True, patience: int | None = None,
        ema_decay: float | None = None, clip: float | None = None, precision: str | None = None, accumulate: int = 1,
        checkpoint_every: int = 200, progress: bool = True, accelerator: Accelerator | None = None) -> History:
    """Train `model` for `steps` updates; return what was logged. The model ends with the weights of the last step.

    model: trained in place, on accelerate's device. step: (model, batch) -> the loss, or a dict of scalars with
    "loss", all logged (means over the processes). batches: start -> the batches from number `start` on
    (`process_batches`, or any function of the number). optimizer: of the model's parameters. schedule: step (from 0)
    -> factor of the optimizer's learning rates.

    folder: where log.csv, validation.csv, checkpoints/ and best.safetensors go (all machines must see it). A run that
    finds checkpoints there goes on from the newest; one that had finished, or stopped early, only loads it. None:
    nothing is written and nothing resumed. checkpoint_every: steps between checkpoints; 0: only at the end.
    validate: called on the weights (the averaged ones with `ema_decay`) in eval mode every `validate_every` steps and
    at the end, by the main process alone; gives scores by name. monitor: which score decides (default: the first);
    maximise: higher is better. patience: stop after so many validations without a better one.

    ema_decay: keep an exponential moving average of all weights and buffers, e.g. 0.999. At the end the model holds it.
    clip: largest norm of the gradient. precision: "no", "fp16" or "bf16" (None: as accelerate is configured).
    accumulate: batches per update. accelerator: yours, for example for its process group; by default one is made.

    Equal seeds give equal weights, with or without interruption, if step and validate draw only from torch's, NumPy's
    and Python's global generators (checkpoints hold them) and `batches` depends on nothing but its argument. P
    processes give what one gives with P times the batch, up to rounding, except where layers look at the whole batch:
    batch norm takes its statistics within each process, and dropout draws in each from its own generator.

    A run whose `steps` grew has validated at its old end, too, where a straight one has not unless `validate_every`
    divides it: `best` may be that validation, `patience` counts it, and what it drew from the generators is drawn.
    Patience that runs out at the last step stops nothing: that run is complete, and goes on if its steps grow.

    Raises ValueError for settings that don't fit, for a folder whose run had others (only `steps` may grow), and where
    the batches run out; FloatingPointError where the loss or a gradient is NaN or infinite, before the weights change.
    Where only the main process can fail (validation, files), the others raise as well, a ValueError or a RuntimeError.
    A script that several processes run ends with `end_processes(accelerator)`.
    Source: moving average: Polyak and Juditsky 1992; mixed precision: Micikevicius et al. 2018; chapter 4.
    """
    _check(steps, validate, validate_every, monitor, patience, ema_decay, clip, precision, accumulate, checkpoint_every)
    accelerator = accelerator or Accelerator()
    run = _Run(model, optimizer, accelerator, schedule, ema_decay, clip, precision, accumulate,
               None if folder is None else Path(folder), validate, monitor, maximise)
    try:
        run.resume(steps, validate_every, patience)
        start = time.perf_counter() - run.state.seconds
        remaining = range(run.state.step, steps) if not run.state.stopped else range(0)
        stream = iter(batches(run.state.step * accumulate) if remaining else ())
        for number in progress_bar(remaining, "training") if progress and accelerator.is_main_process else remaining:
            done = number + 1
            row = run.update(step, stream)
            row["seconds"] = round(time.perf_counter() - start, 2)
            run.log("log", run.history.steps, {"step": done, **row})
            if validate is not None and (done % validate_every == 0 or done == steps):
                run.validate(done, patience if done < steps else None)
            if run.state.stopped or done == steps or (checkpoint_every and done % checkpoint_every == 0):
                run.save(row["seconds"])
            if run.state.stopped:
                break
        return run.finish()
    finally:
        run.release()


def _check(steps, validate, validate_every, monitor, patience, ema_decay, clip, precision, accumulate,
           checkpoint_every) -> None:
    """The arguments of `fit` that can be wrong by themselves."""
    if steps < 1 or accumulate < 1 or checkpoint_every < 0 or validate_every < 1:
        raise ValueError(f"steps is {steps}, accumulate {accumulate}, checkpoint_every {checkpoint_every}, "
                         f"validate_every {validate_every}; expected positive numbers (checkpoint_every: or 0)")
    if validate is None and (patience is not None or monitor is not None):
        raise ValueError(f"patience is {patience} and monitor {monitor!r}, but there is no validate; pass one")
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}; expected at least one validation to wait, or None")
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay is {ema_decay}; expected a number from 0 to below 1, for example 0.999")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; expected the largest norm of the gradient, above 0, or None")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}, or None")


@dataclass
class _State:
    """The run's own numbers; checkpoints hold them."""

    step: int = 0
    bad: int = 0                                        # validations since the best one
    stopped: bool = False
    seconds: float = 0.0
    best: tuple[float, int] | None = None


class _Run:
    """One training run: what `fit` does at a step, at a validation, at a checkpoint."""

    def __init__(self, model, optimizer, accelerator, schedule, ema_decay, clip, precision, accumulate, folder,
                 validation, monitor, maximise):
        self.accelerator, self.optimizer, self.validation = accelerator, optimizer, validation
        self.main = accelerator.is_main_process
        self.schedule, self.clip, self.accumulate = schedule or (lambda _step: 1.0), clip, accumulate
        self.ema_decay, self.monitor, self.maximise = ema_decay, monitor, maximise
        self.folder = None if folder is None else RunFolder(folder)
        self.precision = _precision(precision, accelerator)
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=self.precision == "fp16")
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.state, self.history = _State(), History()
        self.plain = model
        self.ema = None if ema_decay is None else AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True).to(accelerator.device)
        self.model = accelerator.prepare_model(model)
        self.model.train()

    # ------------------------------------------------------------------------------------------------- updates

    def update(self, step: Step, stream: Iterator[Tensor]) -> dict:
        """One update of the weights from `accumulate` batches; what to log of it."""
        factor = self.schedule(self.state.step)
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor
        row = self._gradients(step, stream)
        row["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            row["gradient_norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.clip))
        for name in ("loss", "gradient_norm"):          # fp16's scaler skips updates with infinite gradients itself
            if not math.isfinite(row.get(name, 0.0)) and (name == "loss" or not self.scaler.is_enabled()):
                raise FloatingPointError(f"the {name} of step {self.state.step + 1} is {row[name]}; a smaller learning "
                                         "rate, a gradient clip or a look at that batch may help")
        if self.clip is None and not self.scaler.is_enabled():
            self._check_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.state.step += 1
        if self.ema is not None:
            self.ema.update_parameters(self.plain)
        return row

    def _gradients(self, step: Step, stream: Iterator[Tensor]) -> dict[str, float]:
        """Add up the gradients of `accumulate` batches; give the means of the losses."""
        sums: dict[str, float] = {}
        self.optimizer.zero_grad()
        for part in range(self.accumulate):
            batch = send_to_device(_next(stream, self.state.step), self.accelerator.device, non_blocking=True)
            # processes exchange gradients with the last batch of an update only
            last = part == self.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self._autocast():
                    losses = step(self.model, batch)
                losses = {"loss": losses} if isinstance(losses, Tensor) else losses
                self.scaler.scale(losses["loss"] / self.accumulate).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / self.accumulate
        if self.accelerator.num_processes > 1:
            means = torch.tensor(list(sums.values()), device=self.accelerator.device)
            sums = dict(zip(sums, self.accelerator.reduce(means, "mean").tolist()))
        return sums

    def _check_gradients(self) -> None:
        """FloatingPointError where a gradient is not finite: after such a step, saved, no run could go on."""
        gradients = {name: weight.grad for name, weight in self.plain.named_parameters() if weight.grad is not None}
        finite = [gradient.isfinite().all() for gradient in gradients.values()]
        if finite and not torch.stack(finite).all():                        # on a GPU: one look for all of them
            bad = [name for name, value in zip(gradients, finite) if not value]
            raise FloatingPointError(f"the gradient of step {self.state.step + 1} is NaN or infinite in {some(bad)}; a "
                                     "smaller learning rate, a gradient clip or a look at that batch may help")

    def _autocast(self):
        kind = PRECISIONS[self.precision]
        return torch.autocast(self.accelerator.device.type, kind) if kind else contextlib.nullcontext()

    # --------------------------------------------------------------------------------------------- logs, scores

    def log(self, name: str, rows: list[dict], row: dict) -> None:
        rows.append(row)
        if self.folder is not None and self.main:
            self.folder.append(name, row)
        elif self.folder is not None:
            self.folder.check_columns(name, row)            # all processes refuse a row, or none does

    def validate(self, done: int, patience: int | None) -> None:
        """Score the weights, keep the best, and decide whether to stop: the same decision in all processes."""
        def decide() -> dict:
            weights = self._weights().eval()
            with torch.no_grad():
                scores = {name: float(value) for name, value in self.validation(weights).items()}
            weights.train()
            self._judge(done, scores, patience, weights)
            self.log("validation", self.history.validations, {"step": done, **scores})
            return vars(self.state)
        vars(self.state).update(by_main_process(self.accelerator, decide))

    def _judge(self, done: int, scores: dict[str, float], patience: int | None, weights: nn.Module) -> None:
        name = self.monitor or next(iter(scores), None)
        if name not in scores:
            raise ValueError(f"monitor is {name!r}; validate gives {', '.join(scores) or 'no scores'}")
        best = self.state.best
        better = best is None or (scores[name] > best[0] if self.maximise else scores[name] < best[0])
        if better and math.isfinite(scores[name]):
            self.state.best, self.state.bad = (scores[name], done), 0
            if self.folder is not None:
                write_tensors(self.folder.path / "best.safetensors", weights.state_dict())
        else:
            self.state.bad += 1
        self.state.stopped = patience is not None and self.state.bad >= patience

    def _weights(self) -> nn.Module:
        """The module whose weights count: the averaged one, or the trained one."""
        return self.ema.module if self.ema is not None else self.plain

    # ---------------------------------------------------------------------------------------------- checkpoints

    def save(self, seconds: float) -> None:
        """Write all states: the main process what all share, every process its generators."""
        if self.folder is None:
            return
        self.state.seconds = seconds
        by_main_process(self.accelerator, self.folder.begin_checkpoint)
        torch.save(_random_states(self.accelerator.device),
                   self.folder.unfinished / f"random_{self.accelerator.process_index}.pt")
        self.accelerator.wait_for_everyone()            # a checkpoint gets its name when all have written their part
        by_main_process(self.accelerator, self._finish_checkpoint)

    def _finish_checkpoint(self) -> None:
        torch.save({"run": vars(self.state), "model": self.plain.state_dict(),
                    "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
                    "ema": self.ema.state_dict() if self.ema is not None else None},
                   self.folder.unfinished / "state.pt")
        self.folder.end_checkpoint(self.state.step)

    def resume(self, steps: int, validate_every: int, patience: int | None) -> None:
        """Load the newest whole checkpoint and cut the logs back to its step."""
        if self.folder is None:
            return
        found = by_main_process(self.accelerator, lambda: self._look(steps, validate_every, patience))
        if found is not None:
            self._load(found)
        self.folder.columns = by_main_process(self.accelerator, self._cut_back)

    def _look(self, steps: int, validate_every: int, patience: int | None) -> Path | None:
        """The checkpoint to go on from. Where there is none, no best weights of an earlier run may stay either."""
        self.folder.check_settings(self._settings(steps, validate_every, patience), steps)
        found = self.folder.newest()
        if found is None:
            (self.folder.path / "best.safetensors").unlink(missing_ok=True)
        return found

    def _cut_back(self) -> dict[str, list[str]]:
        self.history.steps = self.folder.cut_back("log", self.state.step)
        self.history.validations = self.folder.cut_back("validation", self.state.step)
        return self.folder.columns

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        try:
            self.plain.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{checkpoint} is of another model or optimizer: {error}") from error
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        vars(self.state).update(state["run"])
        name = f"random_{self.accelerator.process_index}.pt"
        _set_random_states(torch.load(checkpoint / name, weights_only=True), self.accelerator.device)

    def _settings(self, steps: int, validate_every: int, patience: int | None) -> dict[str, object]:
        """What decides the weights, as far as it can be compared: of functions only the schedule, by its values."""
        groups = [{name: repr(value) for name, value in group.items() if name not in ("params", "initial_lr")}
                  for group in self.optimizer.param_groups]
        tensors = list(self.plain.state_dict().values())
        size = f"{sum(tensor.numel() for tensor in tensors)} numbers in {len(tensors)} tensors"
        return {"model": f"{type(self.plain).__name__}, {size}",
                "optimizer": [type(self.optimizer).__name__, *groups],
                "schedule_values": [float(self.schedule(n)) for n in (0, steps // 2, steps - 1)],
                "ema_decay": self.ema_decay, "clip": self.clip, "precision": self.precision,
                "accumulate": self.accumulate, "processes": self.accelerator.num_processes,
                "validate_every": validate_every if self.validation else None, "monitor": self.monitor,
                "maximise": self.maximise, "patience": patience}

    def finish(self) -> History:
        """Leave the weights that count in the caller's model."""
        if self.ema is not None:
            self.plain.load_state_dict(self.ema.module.state_dict())
        self.history.stopped_early, self.history.best = self.state.stopped, self.state.best
        return self.history

    def release(self) -> None:
        """Give model and optimizer back as they were handed over: without accelerate's wrapper, at the full rates."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate


def by_main_process(accelerator: Accelerator, action: Callable[[], object]) -> object:
    """What `action` gives, called by the main process alone, in all processes; where it raises, all raise.

    Otherwise the others would wait for ever for a process that has left. The main one raises its own error; the others
    a ValueError with its words where it is one, else a RuntimeError that names it.
    """
    answer: list = [None, None, None]
    caught = None
    if accelerator.is_main_process:
        try:
            answer[0] = action()
        except Exception as error:
            caught = error
            answer[1:] = [isinstance(error, ValueError), f"{type(error).__name__}: {error}"]
    result, is_value_error, said = broadcast_object_list(answer)
    if caught is not None:
        raise caught
    if said is not None:
        raise ValueError(said.partition(": ")[2]) if is_value_error else RuntimeError(f"in the main process: {said}")
    return result


def end_processes(accelerator: Accelerator) -> None:
    """Leave the process group, as the last thing a script of several processes does; alone, it changes nothing.

    Python must not shut down while a thread of the group still lets go of a tensor: such a process is aborted now and
    then (SIGABRT, "terminate called without an active exception"), though its work is done. So all wait for a last
    exchange that holds no tensor, and collecting the garbage gives the threads the time to drop what came before it.
    Source: https://github.com/pytorch/pytorch/issues/190489.
    """
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()                 # the store is the main process's: nobody may need it any more
        gc.collect()
        accelerator.end_training()


def _precision(asked: str | None, accelerator: Accelerator) -> str:
    """The precision of a run.

    It is set here with torch.autocast, for accelerate knows only one precision a Python process: a notebook could not
    try two. What accelerate was told at its start holds where nothing is asked, and can't be undone.
    """
    configured = accelerator.mixed_precision
    if configured not in PRECISIONS or (asked is not None and configured not in ("no", asked)):
        raise ValueError(f"precision is {asked!r}, but accelerate was set up with {configured!r} in this process; "
                         "start it without a precision, or leave out the argument")
    return asked or configured


def _random_states(device: torch.device) -> dict[str, object]:
    """The global generators of this process: Python's, NumPy's, torch's, and the device's where it has its own."""
    name, keys, *rest = np.random.get_state()
    return {"python": random.getstate(), "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
            "torch": torch.get_rng_state(),
            "device": torch.get_device_module(device).get_rng_state() if device.type != "cpu" else None}


def _set_random_states(states: dict[str, object], device: torch.device) -> None:
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type != "cpu" and states["device"] is not None:
        torch.get_device_module(device).set_rng_state(states["device"])


def _next(stream: Iterator[Tensor], step: int) -> Tensor:
    try:
        return next(stream)
    except StopIteration:
        raise ValueError(f"the batches ran out before step {step + 1}; make the data set longer, or ask for fewer "
                         "steps") from None
