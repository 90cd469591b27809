"""The course's training loop: from one CPU to many GPUs and machines, resumable to the same weights.

Devices and processes are Hugging Face `accelerate`'s. The same script runs as `python train.py`, on all GPUs with
`accelerate launch train.py`, and on two CPU processes with
`ACCELERATE_USE_CPU=1 torchrun --standalone --nproc-per-node 2 train.py` (`accelerate launch --cpu` starts only one).

What is here is what makes a run repeatable: batch k is a function of (seed, k), a checkpoint holds every state there
is, and it gets its name in one step that can't be interrupted halfway (`course_lib.training.checkpoints`). How a run
goes is said by `course_lib.training.settings`, what moves beside the model by `course_lib.training.parts`.
"""

import contextlib
import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast, recursively_apply, send_to_device
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, default_collate

from course_lib.data.loaders import batches
from course_lib.progress import progress as progress_bar
from course_lib.training.checkpoints import RunFolder
from course_lib.training.parts import (
    Part,
    Rates,
    Step,
    averaged_gradients,
    check_finite,
    check_number,
    check_parts,
    copy_state,
    describe,
    describe_optimizer,
    frozen,
    parameters_of,
    tensors_of,
)
from course_lib.training.processes import by_all_processes, by_main_process
from course_lib.training.settings import PRECISIONS, FitSettings


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


def process_batches(dataset: Dataset, batch_size: int, accelerator: Accelerator | None = None,
                    workers: int = 0, context: str | None = None) -> Callable[[int], Iterable]:
    """The `batches` argument of `fit` for a data set: start -> this process's batches from step `start` on.

    dataset: anything with a length whose item i is a pure function of its seed and i: a tensor or a structure of them
    (tuple, list, dict), which are collated, or with a method `batch(indices)` that gives the batch itself, like
    `RandomChunks`. batch_size: items a process and batch. With P processes batch k takes items k P B to
    (k + 1) P B - 1, process p the p-th B of them: two processes see in one step what one process sees with the doubled
    batch. workers, context: see `course_lib.data.loaders.batches`. Batches are page-locked where a CUDA GPU takes them.
    Raises ValueError where the data set runs out (N batches take N P B items).
    """
    pinned = torch.cuda.is_available() and (accelerator is None or accelerator.device.type == "cuda")
    threads = context == "thread" and workers > 0           # they can pin what they made; processes can't
    share = _Share(dataset, batch_size, accelerator.process_index if accelerator else 0,
                   accelerator.num_processes if accelerator else 1, pinned and threads)
    return lambda start: batches(share, batch_size, workers, start, context, pin_memory=pinned and not threads)


class _Share:
    """The items of one process: its part of every batch."""

    def __init__(self, dataset, batch_size: int, index: int, count: int, pinned: bool):
        self.dataset, self.batch_size, self.index, self.count, self.pinned = dataset, batch_size, index, count, pinned

    def __len__(self) -> int:
        return len(self.dataset) // (self.batch_size * self.count) * self.batch_size if self.count > 1 else len(
            self.dataset)

    def __getitem__(self, place: int) -> object:
        return self.dataset[self._item(place)]

    def batch(self, places) -> object:
        items = [self._item(place) for place in places]
        made = self.dataset.batch(items) if hasattr(self.dataset, "batch") else default_collate(
            [self.dataset[item] for item in items])
        return recursively_apply(lambda x: x.pin_memory(), made) if self.pinned else made

    def _item(self, place: int) -> int:
        number, within = divmod(place, self.batch_size)
        return (number * self.count + self.index) * self.batch_size + within


def fit(model: nn.Module, step: Step, batches: Callable[[int], Iterable], optimizer: torch.optim.Optimizer,
        settings: FitSettings | int, *, parts: Sequence[Part] = (), folder: "str | Path | RunFolder | None" = None,
        schedule: Callable[[int], float] | None = None,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None, progress: bool = True,
        accelerator: Accelerator | None = None) -> History:
    """Train `model`; return what was logged. The model ends with the weights of the last step, or their average.

    model: trained in place, on accelerate's device. step: (model, batch) -> the loss, or a dict of scalars with
    "loss", all logged (means over the processes). batches: start -> the batches from number `start` on
    (`process_batches`, or any function of the number); a batch is a tensor or any structure of them. optimizer: of the
    model's parameters. settings: `FitSettings`, or a number of steps. parts: what is trained or kept beside the model,
    see `Part`. schedule: step (from 0) -> factor of the optimizer's learning rates.

    folder: where log.csv, validation.csv, checkpoints/ and best.safetensors go (all machines must see it). A run that
    finds checkpoints there goes on from the newest; one that had finished, or stopped early, only loads it. None:
    nothing is written and nothing resumed. validate: called on the weights (the averaged ones with `ema_decay`) in eval
    mode every `validate_every` steps and at the end, by the main process alone; gives scores by name. progress: show a
    bar. accelerator: yours, for example for its process group; by default one is made.

    Equal seeds give equal weights, with or without interruption, if steps and validate draw only from torch's, NumPy's
    and Python's global generators (checkpoints hold them) and `batches` depends on nothing but its argument. P
    processes give what one gives with P times the batch, up to rounding, except where layers look at the whole batch:
    batch norm takes its statistics within each process, and dropout draws in each from its own generator.

    A run whose `steps` grew has validated at its old end, too, where a straight one has not unless `validate_every`
    divides it: `best` may be that validation, `patience` counts it, and what it drew from the generators is drawn.
    Patience that runs out at the last step stops nothing: that run is complete, and goes on if its steps grow.

    Raises ValueError for settings and parts that don't fit, for a folder in which another run is going on, whose run
    had other settings (only `steps` may grow) or whose files are damaged, and where the batches run out; OSError where
    the disk is full; FloatingPointError where a loss or a gradient is NaN or infinite, before the weights it belongs to
    change. Where only the main process can fail (validation, files), the others raise as well, a ValueError or a
    RuntimeError. A script that several processes run ends with `end_processes(accelerator)`.
    """
    settings = FitSettings.of(settings)
    if validate is None and (settings.patience is not None or settings.monitor is not None):
        raise ValueError(f"patience is {settings.patience} and monitor {settings.monitor!r}, but there is no validate; "
                         "pass one")
    check_parts(model, optimizer, parts)
    accelerator = accelerator or Accelerator()
    folder = folder if isinstance(folder, RunFolder | None) else RunFolder(folder)
    with _locked(folder, accelerator):
        run = _Run(model, optimizer, accelerator, settings, parts, folder, schedule, validate)
        try:
            run.resume()
            run.go(step, batches, progress)
            return run.finish()
        finally:
            run.release()


@contextlib.contextmanager
def _locked(folder: RunFolder | None, accelerator: Accelerator) -> Iterator[None]:
    """The folder for this run alone; the main process holds it for all. Nothing where the caller holds it already."""
    if folder is None:
        yield
        return
    held = by_main_process(accelerator, folder.lock)
    try:
        yield
    finally:
        if held and accelerator.is_main_process:
            folder.unlock()


@dataclass
class _State:
    """The run's own numbers; checkpoints hold them."""

    step: int = 0
    bad: int = 0                                        # validations since the best one
    stopped: bool = False
    seconds: float = 0.0
    best: tuple[float, int] | None = None
    validations: int | None = 0                         # how many; None: a checkpoint from before they were counted


class _Run:
    """One training run: what `fit` does at a step, at a validation, at a checkpoint."""

    def __init__(self, model, optimizer, accelerator, settings, parts, folder, schedule, validate):
        self.accelerator, self.settings, self.folder, self.validation = accelerator, settings, folder, validate
        self.plain, self.optimizer, self.parts = model, optimizer, list(parts)
        self.adversaries = [part for part in parts if part.step is not None]
        self.moved = [part for part in parts if part.optimizer is not None and part.step is None]
        self.inside = {module: name for name, module in model.named_modules() if name}
        self.main = accelerator.is_main_process
        self.precision = _precision(settings.precision, accelerator)
        self.scaler = self._new_scaler()
        self.scalers = {part.name: self._new_scaler() for part in self.adversaries}
        self.rates = Rates(optimizer, schedule)
        self.part_rates = {part.name: Rates(part.optimizer, part.schedule) for part in self.parts if part.optimizer}
        self.state, self.history = _State(), History()
        self.ema = None if settings.ema_decay is None else AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True).to(accelerator.device)
        self.model = self._prepared(model)
        self.modules = [part.module for part in self.parts if isinstance(part.module, nn.Module)]
        for module in self.modules:
            module.to(accelerator.device)
            self._as_main_process(tensors_of(module))
        self._train_mode()

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.accelerator.device.type, enabled=self.precision == "fp16")

    def _prepared(self, model: nn.Module) -> nn.Module:
        """The model as accelerate wraps it: on its device, its gradients averaged over the processes."""
        handler = self.accelerator.ddp_handler
        if self.settings.unused and handler is None:
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        try:
            return self.accelerator.prepare_model(model)
        finally:
            self.accelerator.ddp_handler = handler

    def _as_main_process(self, tensors: Iterable[Tensor]) -> None:
        """Copy tensors of the main process to the others."""
        if self.accelerator.num_processes > 1:
            with torch.no_grad():
                for tensor in tensors:
                    tensor.copy_(broadcast(tensor.detach().clone()))

    def _train_mode(self) -> None:
        for module in (*self.modules, self.model):
            module.train()

    def go(self, step: Step, batches: Callable[[int], Iterable], progress: bool) -> None:
        """All steps that are left, with their validations and checkpoints."""
        settings, start = self.settings, time.perf_counter() - self.state.seconds
        remaining = range(self.state.step, settings.steps) if not self.state.stopped else range(0)
        stream = iter(batches(self.state.step * settings.accumulate) if remaining else ())
        for number in progress_bar(remaining, "training") if progress and self.main else remaining:
            done = number + 1
            row = self.update(step, stream)
            row["seconds"] = round(time.perf_counter() - start, 2)
            self.log("log", self.history.steps, {"step": done, **row})
            if self.validation is not None and (done % settings.validate_every == 0 or done == settings.steps):
                self.validate(done, settings.patience if done < settings.steps else None)
            due = settings.checkpoint_every and done % settings.checkpoint_every == 0
            if self.state.stopped or done == settings.steps or due:
                self.save(row["seconds"])
            if self.state.stopped:
                break

    # ------------------------------------------------------------------------------------------------- updates

    def update(self, step: Step, stream: Iterator) -> dict:
        """One update of all weights from `accumulate` batches; what to log of it."""
        for rates in (self.rates, *self.part_rates.values()):
            rates.set(self.state.step)
        batches: Iterable = (self._next(stream) for _ in range(self.settings.accumulate))
        if self.adversaries:
            batches = list(batches)                     # several steps look at them
        rows = {part.name: self._adversary(part, batches) for part in self.adversaries if part.when == "before"}
        row = self._model(step, batches)
        rows |= {part.name: self._adversary(part, batches) for part in self.adversaries if part.when == "after"}
        for part in self.adversaries:                   # in the log as they were given
            row |= rows[part.name]
        self.state.step += 1
        self._average()
        return row

    def _next(self, stream: Iterator) -> object:
        return send_to_device(_next(stream, self.state.step), self.accelerator.device, non_blocking=True)

    def _model(self, step: Step, batches: Iterable) -> dict:
        """The model's own update, and that of the parts which its loss moves."""
        optimizers = [self.optimizer, *(part.optimizer for part in self.moved)]
        for owner in (self.plain, *optimizers):
            owner.zero_grad()
        with frozen(p for part in self.adversaries for p in part.module.parameters()):
            row = self._gradients(step, self.model, batches, self.scaler)
        check_number("loss", row["loss"], self.state.step + 1)
        row["learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        inside = {id(p) for p in self.plain.parameters()}
        for part in self.moved:
            averaged_gradients(self.accelerator, [p for p in parameters_of(part.optimizer) if id(p) not in inside])
        optimizers = [one for one in optimizers if any(p.grad is not None for p in parameters_of(one))]
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        row |= self._clip(self.plain, "gradient_norm", self.settings, self.scaler)
        for part in self.moved:
            row |= self._clip(part.module, f"{part.name}_gradient_norm", part, self.scaler)
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        if optimizers:
            self.scaler.update()
        return row

    def _adversary(self, part: Part, batches: Iterable) -> dict:
        """The update of a part with a step of its own; nothing else gets a gradient in it."""
        scaler, own = self.scalers[part.name], {id(p) for p in part.module.parameters()}
        part.module.zero_grad()
        others = (module.parameters() for module in (self.plain, *self.modules))
        with frozen(p for p in itertools.chain.from_iterable(others) if id(p) not in own):
            losses = self._gradients(part.step, self.plain, batches, scaler)
        row = {part.name: losses.pop("loss"), **{f"{part.name}_{name}": value for name, value in losses.items()}}
        check_number(part.name, row[part.name], self.state.step + 1)
        averaged_gradients(self.accelerator, parameters_of(part.optimizer))
        scaler.unscale_(part.optimizer)
        row |= self._clip(part.module, f"{part.name}_gradient_norm", part, scaler)
        scaler.step(part.optimizer)
        scaler.update()
        return row

    def _gradients(self, step: Step, model: nn.Module, batches: Iterable, scaler: torch.amp.GradScaler) -> dict:
        """Add up the gradients of `accumulate` batches; give the means of the losses."""
        sums: dict[str, float] = {}
        count = self.settings.accumulate
        for number, batch in enumerate(batches, 1):
            # processes exchange gradients with the last batch of an update only; parts exchange theirs afterwards
            wait = number < count and model is not self.plain
            with self.accelerator.no_sync(model) if wait else contextlib.nullcontext():
                with self._autocast():
                    losses = step(model, batch)
                losses = {"loss": losses} if isinstance(losses, Tensor) else dict(losses)
                if "loss" not in losses:
                    raise ValueError(f"a step gave {', '.join(losses) or 'nothing'}; expected the loss, or a dict that "
                                     'holds it under "loss"')
                scaler.scale(losses["loss"] / count).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach() if isinstance(value, Tensor) else value) / count
        if self.accelerator.num_processes > 1:
            means = torch.tensor(list(sums.values()), device=self.accelerator.device)
            sums = dict(zip(sums, self.accelerator.reduce(means, "mean").tolist()))
        return sums

    def _clip(self, module: nn.Module, name: str, limits: FitSettings | Part, scaler: torch.amp.GradScaler) -> dict:
        """Clip a module's gradient; its norm before that, where it was asked for. Looked at before anything moves."""
        row, step = {}, self.state.step + 1
        if limits.clip is not None:
            row[name] = float(nn.utils.clip_grad_norm_(module.parameters(), limits.clip))
        if not scaler.is_enabled():                     # fp16's scaler skips updates with infinite gradients itself
            if limits.clip is not None:
                check_number(name, row[name], step)
            else:
                check_finite(module.named_parameters(), step, f" of {limits.name}" if isinstance(limits, Part) else "")
        if limits.clip_value is not None:
            nn.utils.clip_grad_value_(module.parameters(), limits.clip_value)
        return row

    def _average(self) -> None:
        """After an update: the moving average of the model, and states that are the same in all processes."""
        for module in self.modules:
            self._as_main_process(module.buffers())
        if self.ema is None:
            return
        self.ema.update_parameters(self.plain)
        for part in self.parts:
            if part.optimizer is None and part.module in self.inside:      # a state is no weight: copied, not averaged
                copy_state(part.module, self.ema.module.get_submodule(self.inside[part.module]))

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
            weights = self._weights()
            for module in (*self.modules, weights):
                module.eval()
            with torch.no_grad():
                scores = {name: float(value) for name, value in self.validation(weights).items()}
            for module in (*self.modules, weights):
                module.train()
            self._judge(done, scores, patience, weights)
            self.log("validation", self.history.validations, {"step": done, **scores})
            if self.state.validations is not None:
                self.state.validations += 1
            return vars(self.state)
        vars(self.state).update(by_main_process(self.accelerator, decide))

    def _judge(self, done: int, scores: dict[str, float], patience: int | None, weights: nn.Module) -> None:
        name = self.settings.monitor or next(iter(scores), None)
        if name not in scores:
            raise ValueError(f"monitor is {name!r}; validate gives {', '.join(scores) or 'no scores'}")
        best = self.state.best
        better = best is None or (scores[name] > best[0] if self.settings.maximise else scores[name] < best[0])
        if better and math.isfinite(scores[name]):
            self.state.best, self.state.bad = (scores[name], done), 0
            if self.folder is not None:
                self.folder.write_best(weights.state_dict())
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
        name = f"random_{self.accelerator.process_index}.pt"
        by_all_processes(self.accelerator, lambda: self.folder.write_state(
            name, _random_states(self.accelerator.device)))
        by_main_process(self.accelerator, self._finish_checkpoint)      # it gets its name when all have written

    def _finish_checkpoint(self) -> None:
        parts = {part.name: {"module": part.module.state_dict(),
                             "optimizer": part.optimizer.state_dict() if part.optimizer else None,
                             "scaler": self.scalers[part.name].state_dict() if part.name in self.scalers else None}
                 for part in self.parts}
        self.folder.write_state("state.pt", {
            "run": vars(self.state), "model": self.plain.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "ema": self.ema.state_dict() if self.ema is not None else None,
            "parts": parts})
        self.folder.end_checkpoint(self.state.step)

    def resume(self) -> None:
        """Load the newest whole checkpoint and cut the logs back to its step."""
        if self.folder is None:
            return
        self.compared = self._compared()                # before the optimizer's rates are those of a later step
        found = by_main_process(self.accelerator, self._look)
        if found is not None:
            self._load(found)
        self.folder.columns = by_main_process(self.accelerator, self._cut_back)

    def _look(self) -> Path | None:
        """The checkpoint to go on from. Where there is none, no best weights of an earlier run may stay either."""
        self.folder.check_settings(self.compared, self.settings.steps)
        found = self.folder.newest()
        if found is None:
            self.folder.best.unlink(missing_ok=True)
        return found

    def _cut_back(self) -> dict[str, list[str]]:
        if self.state.best is not None:
            self.folder.check_best()
        counts = {"log": self.state.step, "validation": self.state.validations}
        kept = {name: self.folder.kept_rows(name, self.state.step, count) for name, count in counts.items()}
        self.folder.write_settings(self.compared, self.settings.steps)
        for name, rows in kept.items():                 # only when both are whole is anything rewritten
            self.folder.cut_back(name, rows)
        self.history.steps, self.history.validations = kept["log"], kept["validation"]
        return self.folder.columns

    def _load(self, checkpoint: Path) -> None:
        state = torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
        kept = state.get("parts", {})
        try:
            self.plain.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            for part in self.parts:
                part.module.load_state_dict(kept[part.name]["module"])
                if part.optimizer is not None:
                    part.optimizer.load_state_dict(kept[part.name]["optimizer"])
                if part.step is not None:
                    self.scalers[part.name].load_state_dict(kept[part.name]["scaler"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{checkpoint} is of another model, part or optimizer: {error}") from error
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        vars(self.state).update({"validations": None, **state["run"]})
        name = f"random_{self.accelerator.process_index}.pt"
        _set_random_states(torch.load(checkpoint / name, weights_only=True), self.accelerator.device)

    def _compared(self) -> dict[str, object]:
        """What must be the same when the run goes on: the settings, and what can be said of modules and functions."""
        settings = self.settings.compared()
        if self.validation is None:
            settings["validate_every"] = None
        parts = {part.name: {"module": describe(part.module), "when": part.when if part.step else None,
                             "clip": part.clip, "clip_value": part.clip_value,
                             "optimizer": describe_optimizer(part.optimizer) if part.optimizer else None,
                             "schedule_values": self._values(part.schedule) if part.schedule else None}
                 for part in self.parts}
        return {"model": describe(self.plain), "optimizer": describe_optimizer(self.optimizer),
                "schedule_values": self._values(self.rates.schedule), **settings, "precision": self.precision,
                "processes": self.accelerator.num_processes, "parts": parts or None}

    def _values(self, schedule: Callable[[int], float]) -> list[float]:
        steps = self.settings.steps
        return [float(schedule(number)) for number in (0, steps // 2, steps - 1)]

    def finish(self) -> History:
        """Leave the weights that count in the caller's model."""
        if self.ema is not None:
            self.plain.load_state_dict(self.ema.module.state_dict())
        self.history.stopped_early, self.history.best = self.state.stopped, self.state.best
        return self.history

    def release(self) -> None:
        """Give model and optimizers back as they were handed over: without accelerate's wrapper, at the full rates."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        for rates in (self.rates, *self.part_rates.values()):
            rates.restore()


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


def _next(stream: Iterator, step: int) -> object:
    try:
        return next(stream)
    except StopIteration:
        raise ValueError(f"the batches ran out before step {step + 1}; make the data set longer, or ask for fewer "
                         "steps") from None
