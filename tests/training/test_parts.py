"""What moves beside the model: adversaries, codebooks, optimizers of their own; killed, resumed, in two processes."""

import copy
import signal

import pytest
import torch
from torch import nn

from course_lib.training import FitSettings, Part, fit
from tests.training import beside_the_model
from tests.training.beside_the_model import (
    BATCH,
    STEPS,
    TRAININGS,
    Codebook,
    Pairs,
    critic,
    game,
    generator,
    train_coder,
    train_game,
)
from tests.training.training_runs import (
    batches_of,
    largest_difference,
    make,
    same_weights,
    separate_step,
    start,
    told,
    without_seconds,
)


def pairs(start, size=BATCH):
    """Batches of `Pairs`, put together by hand."""
    data, number = Pairs(3, 10_000), start
    while True:
        noise, real = zip(*(data[index] for index in range(number * size, (number + 1) * size)))
        yield torch.stack(noise), {"real": torch.stack([one["real"] for one in real])}
        number += 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_game_equals_a_loop_by_hand(when):
    """Two optimizers, two clips, a schedule of the critic's own, both orders, written out."""
    history, model, opponent = train_game(None, when=when)
    torch.manual_seed(0)
    by_hand, against = generator(), critic()
    step, part = game(against, when)
    mover = torch.optim.Adam(by_hand.parameters(), 0.01)
    average, factor = None, beside_the_model.cosine(STEPS)

    def move_critic(batch):
        part.optimizer.param_groups[0]["lr"] = 0.01 * factor(number)
        part.optimizer.zero_grad()
        part.step(by_hand, batch)["loss"].backward()
        nn.utils.clip_grad_norm_(against.parameters(), 1.0)
        part.optimizer.step()

    for number, batch in zip(range(STEPS), pairs(0)):                       # noqa: B007 (`move_critic` reads it)
        if when == "before":
            move_critic(batch)
        mover.zero_grad()
        step(by_hand, batch)["loss"].backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        mover.step()
        if when == "after":
            move_critic(batch)
        state = {name: x.clone() for name, x in by_hand.state_dict().items() if x.is_floating_point()}
        average = state if average is None else {n: 0.9 * average[n] + 0.1 * x for n, x in state.items()}
    assert largest_difference(average, model.state_dict()) < 1e-6
    assert same_weights(against.state_dict(), opponent.state_dict()), "the average is the main model's alone"
    assert list(history.steps[0]) == ["step", "loss", "learning_rate", "gradient_norm", "critic", "critic_real",
                                      "critic_gradient_norm", "seconds"]


def test_neither_step_sends_a_gradient_to_the_other():
    """With the model's output left in its graph, and a critic that would learn from the model's step, too."""
    torch.manual_seed(0)
    model, opponent = generator(), critic()
    seen = []

    def step(model, batch):
        assert all(p.grad is None for p in model.parameters()), "the critic's step left a gradient in the model"
        assert not any(p.requires_grad for p in opponent.parameters())
        before.extend(None if p.grad is None else p.grad.clone() for p in opponent.parameters())
        return -opponent(model(batch[0])).mean()

    def against(model, batch):
        assert not any(p.requires_grad for p in model.parameters()) and model.training
        seen.append([p.grad for p in model.parameters()])
        return opponent(model(batch[0])).mean()                              # no detach

    before = []
    part = Part("critic", opponent, torch.optim.SGD(opponent.parameters(), 0.0), against)
    frozen = model[0].bias.requires_grad_(False)
    fit(model, step, pairs, torch.optim.SGD(model.parameters(), 0.0), 1, parts=[part], progress=False)
    after = [p.grad for p in opponent.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after)) and before[0].abs().sum() > 0
    assert all(p.requires_grad == (p is not frozen) for p in model.parameters())
    assert all(p.requires_grad for p in opponent.parameters())
    after_step = [p.grad for p in model.parameters() if p is not frozen]
    assert all(gradient is not None for gradient in after_step)


def test_accumulated_batches_are_one_batch_for_the_critic_too():
    _, two, critic_two = train_game(None, plain=True, accumulate=2)
    _, one, critic_one = train_game(None, plain=True, batch_size=2 * BATCH)
    assert largest_difference(two.state_dict(), one.state_dict()) < 1e-5
    assert largest_difference(critic_two.state_dict(), critic_one.state_dict()) < 1e-5


def test_validation_sees_parts_in_eval_mode():
    model, opponent = generator(), critic()
    step, part = game(opponent)
    modes = []

    def validate(weights):
        modes.append((weights.training, opponent.training))
        return {"score": 0.0}

    fit(model, step, pairs, torch.optim.Adam(model.parameters()), FitSettings(4, validate_every=2), parts=[part],
        validate=validate, progress=False)
    assert modes == [(False, False)] * 2 and opponent.training


def test_a_codebook_inside_is_copied_not_averaged():
    _, model, codebook = train_coder(None, inside=True, checkpoint_every=0)
    _, beside, other = train_coder(None, inside=False, checkpoint_every=0)
    assert int(codebook.updates) == STEPS and int(codebook.restarts) > 0, "the trial must restart some codes"
    assert same_weights(codebook.state_dict(), other.state_dict()), "inside or beside: the same numbers"
    own = {name: x for name, x in model.state_dict().items() if not name.startswith("codebook")}
    assert same_weights(own, {name: x for name, x in beside.state_dict().items()})


def test_parameters_in_no_gradient_stay(capsys):
    """Two decoders that take turns: the one whose domain is not in the batch does not move, whatever its momentum."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    states = []

    def step(model, batch):
        states.append(copy.deepcopy(model.state_dict()))
        name, x = batch
        return (model[name](model["encoder"](x)) - x).square().mean()

    parts = [Part(name, model[name], torch.optim.Adam(model[name].parameters(), 0.1)) for name in "ab"]
    batches = lambda start: ((("a", "b")[k % 2], torch.randn(4, 3)) for k in range(start, 99))      # noqa: E731
    fit(model, step, batches, torch.optim.Adam(model["encoder"].parameters()), 5, parts=parts, progress=False)
    for number in range(4):
        before, after = states[number], states[number + 1]
        moved = {name for name in "ab" if not torch.equal(before[f"{name}.weight"], after[f"{name}.weight"])}
        assert moved == {("a", "b")[number % 2]}


class Counter:
    """A state that is no module."""

    def __init__(self):
        self.count = 0

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_any_state_is_kept(tmp_path):
    """The loss depends on a counter: resumed, it must go on counting."""
    def run(steps, folder):
        model, optimizer = make()
        counter = Counter()

        def step(model, batch):
            counter.count += 1
            return separate_step(model, batch)["loss"] * counter.count

        fit(model, step, batches_of(4), optimizer, steps, parts=[Part("counter", counter)], folder=folder,
            progress=False)
        return model, counter
    run(4, tmp_path)
    model, counter = run(8, tmp_path)
    straight, _ = run(8, None)
    assert counter.count == 8 and same_weights(model.state_dict(), straight.state_dict())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills processes with SIGKILL, which needs POSIX")
@pytest.mark.parametrize("name, changed", [("game", {}), ("coder", {}), ("coder", {"inside": True})])
def test_killed_and_resumed_to_equal_bits(tmp_path, name, changed):
    """Run n dies before its n-th change to the folder, every third n; what follows goes on from what that left."""
    _, model, part = TRAININGS[name](None, **changed)
    killed = 0
    for number in range(3, 60, 6):
        process = start(None, tmp_path, kill_at=number, changed=changed, training=name)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    start(None, tmp_path, changed=changed, training=name).join()
    got = told(tmp_path)
    assert killed >= 4 and "error" not in got, (killed, got.get("error"))
    assert same_weights(got["weights"], model.state_dict()) and same_weights(got["part"], part.state_dict())
    assert len(got["history"].steps) == STEPS
    straight, *_ = TRAININGS[name](tmp_path / "straight", **changed)
    assert without_seconds(got["history"].steps) == without_seconds(straight.steps)


class Odd(Counter):
    """A state that could be written, but not read without running code."""

    def state_dict(self):
        return {"x": Codebook}


REFUSED = [
    (lambda m, c: [Part("critic", c), Part("critic", c)], "two parts are called critic"),
    (lambda m, c: [Part("critic", m, torch.optim.SGD(m.parameters(), 1), separate_step)], "shares parameters with"),
    (lambda m, c: [Part("own", m, torch.optim.SGD(m.parameters(), 1))], "that the model's optimizer moves, too"),
    (lambda m, c: [Part("critic", c, step=separate_step)], "has a step but no optimizer"),
    (lambda m, c: [Part("critic", c, torch.optim.SGD(c.parameters(), 1), when="during")], "critic is 'during'"),
    (lambda m, c: [Part("critic", c, clip=1.0)], "has no optimizer: clip, clip_value and schedule would do nothing"),
    (lambda m, c: [Part("critic", c, torch.optim.SGD(c.parameters(), 1), clip=0)], "clip of part critic is 0"),
    (lambda m, c: [Part("loss", c)], "name of a part is 'loss'"),
    (lambda m, c: [Part("critic", "c")], "module of part critic is str"),
    (lambda m, c: [Part("odd", Odd())], "can't be kept in a checkpoint .*; expected tensors, numbers, text"),
]


@pytest.mark.parametrize("parts, message", REFUSED, ids=[message for _, message in REFUSED])
def test_parts_that_do_not_fit(parts, message):
    model, optimizer = make()
    with pytest.raises(ValueError, match=message):
        fit(model, separate_step, batches_of(2), optimizer, 1, parts=parts(model, critic()), progress=False)


def test_another_part_does_not_go_on(tmp_path):
    train_game(tmp_path, steps=2)
    model = generator()
    with pytest.raises(ValueError, match="holds a run with other settings: parts was"):
        fit(model, lambda m, batch: m(batch[0]).mean(), pairs, torch.optim.Adam(model.parameters(), 0.01),
            FitSettings(2, ema_decay=0.9, clip=1.0), folder=tmp_path, progress=False)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_critic_that_is_not_a_number_stops_before_it_moves(broken):
    model, opponent = generator(), critic()

    def against(model, batch):
        loss = opponent(batch[1]["real"]).mean()
        return loss * float("nan") if broken == "loss" else loss + torch.sqrt(0 * opponent[0].weight.sum())

    part = Part("critic", opponent, torch.optim.SGD(opponent.parameters(), 0.1), against)
    before = copy.deepcopy(opponent.state_dict())
    with pytest.raises(FloatingPointError, match="the critic of step 1 is nan" if broken == "loss" else
                       "the gradient of step 1 of critic is NaN or infinite in 0.weight"):
        fit(model, lambda m, batch: m(batch[0]).square().mean(), pairs, torch.optim.SGD(model.parameters(), 0.1), 2,
            parts=[part], progress=False)
    assert same_weights(opponent.state_dict(), before)


def test_precision_with_an_adversary():
    _, full, _ = train_game(None)
    _, half, _ = train_game(None, precision="bf16")
    assert 1e-5 < largest_difference(half.state_dict(), full.state_dict()) < 0.3
