"""What `fit` computes: averages, clipping, accumulation, precision, early stop, processes; and what it refuses."""

import copy
import os
import sys

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from course_lib.data import Remix, open_tracks
from course_lib.training import FitSettings, fit, process_batches
from course_lib.training.schedules import SCHEDULES, constant, cosine
from tests.training.training_runs import (
    batches_of,
    changing_step,
    drawing_scores,
    largest_difference,
    make,
    same_weights,
    separate_step,
    start,
    told,
    train,
)

DROPOUT_0 = {"dropout": 0.0}


def run(steps=10, batches=None, seed=0, options=None, **settings):
    model, optimizer = make(seed, **(options or {}))
    further = {name: settings.pop(name) for name in ("schedule", "validate", "folder", "parts") if name in settings}
    history = fit(model, settings.pop("step", separate_step), batches or batches_of(4), optimizer,
                  FitSettings(steps, **settings), progress=False, **further)
    return history, model


def test_equals_a_loop_by_hand():
    """Clip, schedule and moving average, written out; dropout draws the same numbers."""
    _, model = run(clip=0.5, ema_decay=0.8, schedule=cosine(10, 3, 0.1))
    by_hand, optimizer = make()
    by_hand.train()
    average, factor = None, cosine(10, 3, 0.1)
    for number, batch in zip(range(10), batches_of(4)(0)):
        optimizer.param_groups[0]["lr"] = 0.01 * factor(number)
        optimizer.zero_grad()
        separate_step(by_hand, batch)["loss"].backward()
        norm = torch.sqrt(sum(p.grad.square().sum() for p in by_hand.parameters()))
        assert norm > 0.5, "the clip must have something to do"
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        state = {name: value.clone() for name, value in by_hand.state_dict().items() if value.is_floating_point()}
        average = state if average is None else {n: 0.8 * average[n] + 0.2 * v for n, v in state.items()}
    assert largest_difference(average, model.state_dict()) < 1e-6
    assert largest_difference(average, by_hand.state_dict()) > 1e-3, "an average is not the last weights"


def test_clip_bounds_the_step_of_plain_gradient_descent():
    model = nn.Linear(3, 3)
    before = copy.deepcopy(model.state_dict())
    history = fit(model, lambda m, x: 1000 * m(x).square().mean(), lambda start: iter([torch.ones(2, 3)]),
                  torch.optim.SGD(model.parameters(), lr=1.0), FitSettings(1, clip=0.01), progress=False)
    moved = torch.sqrt(sum((model.state_dict()[n] - before[n]).square().sum() for n in before))
    assert history.steps[0]["gradient_norm"] > 1 and moved == pytest.approx(0.01, rel=1e-3)


def test_accumulating_two_batches_is_the_doubled_batch():
    def doubled(start):
        halves = batches_of(4)(2 * start)
        return (torch.cat([one, other]) for one, other in zip(halves, halves))

    options = {"dropout": 0.0, "frozen_norm": True}
    history_2, of_two = run(accumulate=2, options=options)
    history_1, of_one = run(batches=doubled, options=options)
    assert largest_difference(of_two.state_dict(), of_one.state_dict()) < 1e-5
    assert [row["loss"] for row in history_2.steps] == pytest.approx([row["loss"] for row in history_1.steps], rel=1e-5)
    _, live = run(accumulate=2, options=DROPOUT_0)
    _, live_doubled = run(batches=doubled, options=DROPOUT_0)
    assert largest_difference(live.state_dict(), live_doubled.state_dict()) > 1e-5, "batch norm sees each by itself"


def test_schedules():
    factor = cosine(110, warmup=10, last=0.2)
    assert [factor(0), factor(4), factor(9), factor(10)] == pytest.approx([0.1, 0.5, 1, 1])
    assert [factor(60), factor(110), factor(500)] == pytest.approx([0.6, 0.2, 0.2])
    assert [constant(10, 4)(step) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1] and constant(10)(0) == 1
    again = cosine(300, warmup=10, last=0.2, restarts=[110, 200])
    assert [again(step) for step in range(110)] == [factor(step) for step in range(110)]
    assert [again(step) for step in (110, 155, 200, 250, 300)] == pytest.approx([1, 0.6, 1, 0.6, 0.2])
    for arguments in ({"steps": 5, "warmup": 6}, {"steps": 5, "last": 1.5}, {"steps": 0},
                      {"steps": 9, "restarts": [9]}, {"steps": 9, "restarts": [5, 4]},
                      {"steps": 9, "warmup": 3, "restarts": [3]}):
        with pytest.raises(ValueError, match="expected"):
            SCHEDULES["cosine"](**arguments)
    history, _ = run(schedule=cosine(10, 5))
    rates = [row["learning_rate"] for row in history.steps]
    assert rates == pytest.approx([0.01 * cosine(10, 5)(k) for k in range(10)])


def test_early_stop_and_best_weights(tmp_path):
    scores = iter([1.0, 3.0, float("nan"), 2.0, 9.0])
    kept = {}

    def validate(weights):
        assert not weights.training and not torch.is_grad_enabled()
        kept[len(kept)] = copy.deepcopy(weights.state_dict())
        return {"loss": -1.0, "sdr": next(scores)}

    history, model = run(20, validate=validate, validate_every=2, monitor="sdr", patience=2, folder=tmp_path)
    assert history.stopped_early and history.steps[-1]["step"] == 8, "two validations without a better one, NaN is none"
    assert history.best == (3.0, 4) and [row["step"] for row in history.validations] == [2, 4, 6, 8]
    best = load_file(tmp_path / "best.safetensors")
    assert same_weights({name: best[name] for name in kept[1]}, kept[1]) and len(best) == len(kept[1])
    again, loaded = run(20, validate=validate, validate_every=2, monitor="sdr", patience=2, folder=tmp_path, seed=5)
    assert again.steps == history.steps and again.stopped_early, "a run that stopped early stays so"
    assert same_weights(loaded.state_dict(), model.state_dict())
    errors = iter([5.0, 2.0])
    minimised, _ = run(4, validate=lambda weights: {"error": next(errors)}, validate_every=2, maximise=False)
    assert minimised.best == (2.0, 4)


def test_patience_that_ends_with_the_run_stops_nothing(tmp_path):
    """A run that used up its patience at its last step is complete, and goes on when its steps grow."""
    scores = iter([3.0, 2.0, 1.0, 0.5, 0.4])
    settings = {"validate": lambda weights: {"sdr": next(scores)}, "validate_every": 2, "patience": 2,
                "folder": tmp_path}
    history, _ = run(6, **settings)
    assert len(history.steps) == 6 and not history.stopped_early
    longer, _ = run(10, **settings)
    assert [row["step"] for row in longer.validations] == [2, 4, 6, 8] and longer.stopped_early
    assert longer.steps[:6] == history.steps and longer.best == (3.0, 2)


def test_best_weights_of_another_run_do_not_stay(tmp_path):
    """A folder without checkpoints: the run that left best.safetensors was killed before its first one."""
    (tmp_path / "best.safetensors").write_bytes(b"of another run")
    history, _ = run(2, folder=tmp_path)
    assert history.best is None and not (tmp_path / "best.safetensors").exists()


def test_errors(tmp_path):
    for settings, message in (({"steps": 0}, "steps is 0"), ({"accumulate": 0}, "accumulate is 0"),
                              ({"patience": 3}, "no validate"), ({"ema_decay": 1.5}, "ema_decay is 1.5"),
                              ({"clip": 0}, "clip is 0"), ({"precision": "half"}, "precision is 'half'; expected one"),
                              ({"validate": drawing_scores, "patience": 0}, "patience is 0"),
                              ({"validate": drawing_scores, "monitor": "sdr"}, "monitor is 'sdr'; validate gives")):
        with pytest.raises(ValueError, match=message):
            run(**settings)
    with pytest.raises(ValueError, match="batches ran out before step 6;"):
        run(batches=batches_of(4, count=5))
    with pytest.raises(ValueError, match="the columns step, loss, learning_rate.*came step, loss, l1, learning_rate"):
        run(folder=tmp_path / "columns", step=changing_step(3))


@pytest.mark.parametrize("broken, clip, message", [
    ("loss", 1.0, "the loss of step 8 is nan"), ("gradient", 1.0, "the gradient_norm of step 8 is"),
    ("gradient", None, "the gradient of step 8 is NaN or infinite in layers.0.weight;"),
])
def test_not_a_number_stops_before_the_weights_are_touched(tmp_path, broken, clip, message):
    def step(model, batch):
        loss = model(batch.sum(1)).square().mean()
        if next(calls) == 7:
            seen.update(copy.deepcopy(model.state_dict()))
            if broken == "loss":
                return loss * float("nan")
            return loss + torch.sqrt(0 * model.layers[0].weight.sum())       # 0, with an infinite or NaN slope
        return loss

    calls, seen = iter(range(99)), {}
    model, optimizer = make(dropout=0.0)
    with pytest.raises(FloatingPointError, match=message):
        fit(model, step, batches_of(4), optimizer, FitSettings(10, clip=clip, checkpoint_every=5), folder=tmp_path,
            progress=False)
    weights = {name: value for name, value in model.state_dict().items() if name.endswith(("weight", "bias"))}
    assert all(torch.equal(value, seen[name]) for name, value in weights.items())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000005"]
    calls = iter(range(50, 99))                                              # the batch was bad, not the weights
    assert len(run(10, step=step, clip=clip, folder=tmp_path, checkpoint_every=5)[0].steps) == 10


def test_precisions_in_one_process():
    """bf16, then full, then bf16 again: accelerate by itself allows one precision a process."""
    kinds = set()

    def step(model, batch):
        estimates = model(batch.sum(1))
        kinds.add(estimates.dtype)
        return (estimates.float() - batch).square().mean()

    _, full = run(options=DROPOUT_0, step=step)
    kinds.clear()
    _, half = run(options=DROPOUT_0, precision="bf16", step=step)
    assert kinds == {torch.bfloat16} and all(p.dtype == torch.float32 for p in half.parameters())
    _, full_again = run(options=DROPOUT_0, precision="no", step=step)
    _, half_again = run(options=DROPOUT_0, precision="bf16", step=step)
    assert same_weights(full.state_dict(), full_again.state_dict())
    assert same_weights(half.state_dict(), half_again.state_dict())
    assert 1e-4 < largest_difference(half.state_dict(), full.state_dict()) < 0.1


@pytest.mark.skipif(os.name != "posix", reason="needs a process that forks with another environment")
def test_accelerate_set_up_with_a_precision(songs, tmp_path):
    """What `accelerate launch --mixed_precision bf16` says holds; another precision is refused."""
    told_by = {}
    for name, changed in (("as configured", {}), ("same", {"precision": "bf16"}), ("other", {"precision": "no"})):
        (tmp_path / name).mkdir()
        start(songs, tmp_path / name, environment={"ACCELERATE_MIXED_PRECISION": "bf16"},
              changed={"steps": 5, **changed}).join()
        told_by[name] = told(tmp_path / name)
    assert "precision is 'no', but accelerate was set up with 'bf16'" in told_by["other"]["error"]
    assert same_weights(told_by["as configured"]["weights"], told_by["same"]["weights"])
    assert not told_by["same"]["wrapped"], "accelerate's wrapper around forward is taken off at the end"
    _, full = train(songs, None, steps=5)
    assert not same_weights(told_by["same"]["weights"], full.state_dict())


def test_one_accelerator_for_two_runs(songs, tmp_path):
    """The second run's checkpoints hold the second model only."""
    accelerator = Accelerator()
    _, first = train(songs, tmp_path / "first", accelerator, steps=10)
    _, second = train(songs, tmp_path / "second", accelerator, steps=10, seed=1)
    assert not same_weights(first.state_dict(), second.state_dict())
    _, alone = train(songs, tmp_path / "second", steps=10, seed=2)
    assert same_weights(alone.state_dict(), second.state_dict())


def test_optimizer_comes_back_at_its_own_rate():
    model, optimizer = make()
    fit(model, separate_step, batches_of(4), optimizer, 5, schedule=cosine(5), progress=False)
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("executing", ["1", "0"])
def test_progress_bar(monkeypatch, capsys, executing):
    """A bar where somebody looks, none where notebooks are executed to be stored."""
    monkeypatch.setenv("COURSE_EXECUTING", executing)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    model, optimizer = make()
    fit(model, separate_step, batches_of(4), optimizer, 3)
    shown = capsys.readouterr()
    assert ("training" in shown.err) == (executing == "0") and shown.out == ""


def test_shares_of_processes(songs):
    """What two processes see in a step is what one sees with the doubled batch, from any step on."""
    class Process:
        num_processes, device = 2, torch.device("cpu")

        def __init__(self, index):
            self.process_index = index

    data = Remix(open_tracks("folder", root=songs), 0.05, 26, 0)
    one = list(process_batches(data, 8)(1))
    shares = [list(process_batches(data, 4, Process(index))(1)) for index in (0, 1)]
    assert len(one) == 2 and [len(share) for share in shares] == [2, 2]
    for number, whole in enumerate(one):
        assert torch.equal(torch.cat([share[number] for share in shares]), whole)


def test_a_cosine_that_is_cut_off_goes_straight_down():
    whole, cut = cosine(100, 5, 0.1), SCHEDULES["cut_cosine"](60, of=100, down=20, warmup=5, last=0.1)
    assert [cut(step) for step in range(41)] == [whole(step) for step in range(41)]
    assert cut(50) == pytest.approx((whole(40) + 0.1) / 2) and cut(60) == pytest.approx(0.1) and cut(99) == cut(60)
    for of, down in ((60, 20), (100, 0), (100, 56)):
        with pytest.raises(ValueError, match="expected more than the 60 steps"):
            SCHEDULES["cut_cosine"](60, of=of, down=down, warmup=5)
