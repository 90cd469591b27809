# %% [markdown]
# # Assignment 16 · The same tune, somebody else's instrument
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 16, but none is a copy of it: you put a piece of a melody out of tune without a jump, ask a discriminator that hears codes of all lengths and counts every domain alike,
# play a round of the game in which nobody moves what isn't his, find out whether a translation is wrong or only in another key, and lay grains that go on.
# Read what is asked for, above all at the edges (a piece that sticks out, padding that is no number, a player who can't move, a frame that says nothing, a jump that is forbidden).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.translation` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments (but for what task 3 is there to move), and its result has the precision of its input where nothing else is said.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import math
import torch
import torch.nn.functional as F

# %% [markdown]
# The numbers of your version of this assignment:

# %%
# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
LENGTH = variation.integer("length", 8, 14)  # samples of a piece
DOMAINS = variation.integer("domains", 3, 5)
WEIGHT = variation.choice("weight", [0.01, 0.1, 0.5])  # lambda
KEY = variation.integer("key", 1, 5)  # semitones
JUMP = variation.choice("jump", [1.5, 2.5, 3.5])

# %% [markdown]
# ## Task 1: out of tune, without a jump
#
# A piece that is read faster or slower (16.6) doesn't fit at its ends: there the sound jumps. Read it at places that leave the right ones and come back:
#
# $$ \tilde x[i] = x\big(i + d_i\big), \qquad d_i = \frac{N}{\pi} \left(2^{s / 12} - 1\right) \sin^2 \frac{\pi\, (i - a)}{N}, \qquad a \le i < a + N . $$
#
# A quarter into the piece the sound is $s$ semitones sharp (for a negative $s$: flat), three quarters in about as much to the other side, and at both ends it is where it was.
#
# - Between two samples read on the **straight line** between them. Behind the last sample of the sound the last one counts.
# - The piece may stick out at the end of the sound, or begin behind it: then there is less of it, or nothing, and $d_i$ is the same as if there were all of it.
# - Outside of the piece the sound stays as it is, bit for bit, be it infinite.
# - A song may be long: three million samples in, the places still need their fractions.

# %%
# TASK 1 (5 points): out of tune, without a jump
def detuned(x, start, length, semitones):
    """x with a piece of it out of tune: (..., time), time from 1 on, to the same shape.

    start: a, 0 or more. length: N, 0 or more samples. semitones: s, from -6 to 6. Differentiable.
    """
    ### BEGIN SOLUTION
    time = x.shape[-1]
    stop = min(start + length, time)
    if stop <= start:
        return x.clone()
    i = torch.arange(start, stop, dtype=torch.float64)
    most = length / math.pi * (2 ** (semitones / 12) - 1)
    place = (i + most * torch.sin(math.pi * (i - start) / length) ** 2).clamp_max(time - 1)
    below = place.floor().long()
    share = place - below
    a, b = x[..., below].double(), x[..., (below + 1).clamp_max(time - 1)].double()
    piece = a * (1 - share) + b * share                             # (..., stop - start)
    return torch.cat([x[..., :start], piece.to(x.dtype), x[..., stop:]], -1)
    ### END SOLUTION

# %%
# CHECK 1
ramp = torch.arange(40.0)
found = detuned(ramp, 5, 8, 12 * math.log2(1.25))
assert found.shape == (40,) and found.dtype == torch.float32, (
    f"as many samples as there were, in their precision; you: {tuple(found.shape)}, {found.dtype}")
assert torch.equal(found[:5], ramp[:5]) and torch.equal(found[13:], ramp[13:]), (
    "outside of the samples 5 to 12 nothing changes")
top = 8 / math.pi / 4
expected = [5, 6 + top * math.sin(math.pi / 8) ** 2, 7 + top / 2, 9 + top]
assert torch.allclose(found[[5, 6, 7, 9]], torch.tensor(expected), atol=1e-5), (
    f"a ramp is read at 5, 6.0933, 7.3183, 9.6366; you say {found[[5, 6, 7, 9]]}")
x = torch.tensor([[0.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
found = detuned(x, 0, 4, 12 * math.log2(0.75))
expected = torch.tensor([[0, 4 - 2 / math.pi, 4 / math.pi, 0], [1, 1, 1, 1]])
assert torch.allclose(found, expected, atol=1e-5), (
    f"flat: read at 0, 0.841, 1.682 and 2.841: 0, 3.363, 1.273, 0; you say {found[0]}")
found = detuned(ramp, 40 - LENGTH // 2, LENGTH, 6)
assert found.max() <= 39 and found[-1] == 39, "behind the last sample the last one counts"
assert torch.equal(detuned(ramp, 50, LENGTH, 3), ramp), "a piece behind the end: nothing changes"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _read(row, start, length, semitones):
    """One row of numbers, with numbers of Python."""
    found = list(row)
    for i in range(start, min(start + length, len(row))):
        d = length / math.pi * (2 ** (semitones / 12) - 1) * math.sin(
            math.pi * (i - start) / length) ** 2
        place = min(max(i + d, 0.0), len(row) - 1.0)
        k = min(math.floor(place), len(row) - 1)
        after = row[min(k + 1, len(row) - 1)]
        found[i] = row[k] + (place - k) * (after - row[k])
    return found

def _right(x, start, length, semitones, message, level=1.0):
    before = x.clone()
    found = detuned(x, start, length, semitones)
    message = (f"{message}: x {tuple(x.shape)}, start {start}, length {length}, "
               f"{semitones:g} semitones")
    assert truth.equal(x, before), "detuned changes its argument"
    assert truth.has_shape(found, *before.shape), f"wrong shape, {message}"
    assert found.dtype == before.dtype, f"wrong precision, {message}"
    expected = torch.tensor([_read(row, start, length, semitones) for row in
                             before.double().reshape(-1, before.shape[-1]).tolist()],
                            dtype=torch.float64).reshape(before.shape)
    assert truth.close(found.double() / level, expected / level, rtol=1e-4, atol=1e-5), (
        f"wrong sound, {message}")
    assert truth.equal(found[..., :start], before[..., :start]) and truth.equal(
        found[..., start + length:], before[..., start + length:]), (
        f"outside of the piece nothing changes, {message}")

_generator = hidden.generator("sounds")
_x = torch.randn(60, generator=_generator)
for _case in range(8):
    _start, _length = hidden.integer(f"start {_case}", 0, 30), hidden.integer(f"n {_case}", 1, 30)
    _right(_x, _start, _length, hidden.real(f"s {_case}", -6, 6), "a piece")
_right(_x, 10, 20, 0, "no semitones")
_right(_x, 0, 60, 5.5, "all of it, sharp")
_right(_x, 0, 60, -6, "all of it, flat")
_right(_x, 45, 40, 6, "a piece that sticks out")
_right(_x, 59, 400, 4, "a piece that begins with the last sample")
_right(_x[:30], 5, 3000, 6, "a piece longer than the sound")
_right(_x[:30], 5, 3000, -6, "a piece longer than the sound")
_right(_x, 60, 5, 3, "a piece behind the end")
_right(_x, 99, 5, 3, "a piece behind the end")
_right(_x, 20, 0, 3, "an empty piece")
_right(_x, 0, 0, 3, "an empty piece")
_right(_x, 20, 1, 6, "one sample")
_right(_x, 58, 2, 6, "the last two samples")
_right(_x[:1], 0, 1, 6, "a sound of one sample")
_right(_x[:1], 0, 9, -6, "a sound of one sample")
_right(_x.view(2, 3, 10), 2, 7, 6, "three axes")
_right(_x.view(12, 5).T, 3, 8, -4, "not contiguous")
_right(3e38 * _x.sign(), 10, 30, 5, "as large as can be", 1e38)
_odd = _x.clone()
_odd[[3, 55]] = torch.tensor([math.inf, math.nan])
_y = detuned(_odd, 15, 20, 6)
_expected = torch.tensor(_read(_x.double().tolist(), 15, 20, 6))
assert truth.close(_y[4:55], _expected[4:55]), (
    "infinity and NaN far outside of the piece disturb it")
assert float(_y[3]) == math.inf and bool(_y[55].isnan()), "outside of the piece nothing changes"
_n, _at = 3_000_000, 2_900_000
_long = torch.sin(torch.arange(_n, dtype=torch.float64) * (2 * math.pi / 40)).float()
_y = detuned(_long, _at, 400, 3)[_at:_at + 400]
_expected = torch.tensor(_read(_long[_at:_at + 500].tolist(), 0, 400, 3)[:400])
assert truth.close(_y, _expected, rtol=0, atol=1e-3), (
    "three million samples in, the places have lost their fractions")
_leaf = _x.clone().requires_grad_()
(detuned(_leaf, 10, 30, 5) * torch.arange(60)).sum().backward()
_expected = torch.stack([(torch.tensor(_read(row, 10, 30, 5)) * torch.arange(60)).sum()
                         for row in torch.eye(60).tolist()])
assert _leaf.grad is not None and truth.close(_leaf.grad, _expected, rtol=1e-3, atol=1e-4), (
    "the gradient by the sound is wrong")
for _edge, _level, (_v,) in edges.mutated(_x, short=12, tiny=1e-30, huge=1e30):
    _right(_v, 5, 20, 6, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: every domain counts alike
#
# The batches of (16.3) hold one sound of each domain, all equally long. Yours come as they come: three of the piano, one of the flute, none of the cello, and sounds of different lengths, **padded** behind to the longest one's frames. What is in the padding is nobody's business: perhaps zeros, perhaps NaN.
#
# From the logits $c(z_f)$ of every frame, find
# - the **surprise** in nats: of each sound the logits' mean over *its own* frames, then (16.3)'s cross entropy; of each domain that occurs the mean over its sounds; then the mean over these domains. A domain that doesn't occur costs nothing;
# - how often the discriminator is **right**, from 0 to 1, with the same two means. Where several domains have the same largest mean logit, each is one guess of as many: a discriminator that says nothing is right in $1/K$ of the cases.
#
# Logits may be as large as $10^{30}$, and the surprise is for learning: its gradient is finite, and 0 in the padding.

# %%
# TASK 2 (5 points): every domain counts alike
def surprise(logits, frames, domains):
    """(surprise, right): a tensor without axes in the precision of the logits, and a float.

    logits: (batch, domain, frame), one sound or more. frames: int64 (batch,), how many frames each
    sound has, from 1 on. domains: int64 (batch,), which domain each comes from. Differentiable.
    """
    ### BEGIN SOLUTION
    own = torch.arange(logits.shape[-1]) < frames[:, None]          # (batch, frame)
    means = logits.double().where(own[:, None], 0).sum(-1) / frames[:, None]
    nats = F.cross_entropy(means, domains, reduction="none")
    best = means == means.amax(1, keepdim=True)                     # (batch, domain)
    right = best.gather(1, domains[:, None])[:, 0] / best.sum(1).double()
    here = domains.unique()
    of_domains = lambda values: torch.stack([values[domains == k].mean() for k in here]).mean()
    return of_domains(nats).to(logits.dtype), float(of_domains(right))
    ### END SOLUTION

# %%
# CHECK 2
logits = torch.zeros(1, 2, 3)
logits[0, 0] = torch.tensor([1.0, 3.0, math.nan])
loss, right = surprise(logits, torch.tensor([2]), torch.tensor([0]))
assert loss.shape == () and loss.dtype == torch.float32, f"a number in a tensor; you: {loss!r}"
assert abs(float(loss) - math.log(1 + math.exp(-2))) < 1e-5, (
    f"mean logits 2 and 0 over two frames: log(1 + exp(-2)), 0.1269; you say {float(loss):.4f}")
assert right == 1, f"2 is more than 0: right; you say {right}"
logits = torch.zeros(4, DOMAINS, 1)
logits[:3, 0] = 5.0
loss, right = surprise(logits, torch.ones(4).long(), torch.tensor([0, 0, 0, 1]))
expected = (math.log(1 + (DOMAINS - 1) * math.exp(-5)) + math.log(DOMAINS)) / 2
assert abs(float(loss) - expected) < 1e-5, (
    f"three sounds of domain 0, one of domain 1: both domains count the same, {expected:.4f}; "
    f"you say {float(loss):.4f}")
assert abs(right - (1 + 1 / DOMAINS) / 2) < 1e-6, (
    f"domain 0 is always right, domain 1 a guess of {DOMAINS}; you say {right}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _told(logits, frames, domains):
    """Surprise and share with numbers of Python."""
    costs, rights = {}, {}
    for rows, count, domain in zip(logits.double().tolist(), frames.tolist(), domains.tolist()):
        means = [math.fsum(row[:count]) / count for row in rows]
        top = max(means)
        more = math.log(math.fsum(math.exp(v - top) for v in means))
        costs.setdefault(domain, []).append(top - means[domain] + more)
        rights.setdefault(domain, []).append((means[domain] == top) / means.count(top))
    mean = lambda values: math.fsum(values) / len(values)
    return mean([mean(v) for v in costs.values()]), mean([mean(v) for v in rights.values()])

def _right(logits, frames, domains, message):
    before = [one.clone() for one in (logits, frames, domains)]
    found = surprise(logits, frames, domains)
    message = (f"{message}: logits {tuple(logits.shape)}, frames {frames.tolist()[:9]}, "
               f"domains {domains.tolist()[:9]}")
    assert torch.equal(logits.nan_to_num(7.0), before[0].nan_to_num(7.0)) and truth.equal(
        [frames, domains], before[1:]), "surprise changes its arguments"
    assert type(found) in (tuple, list) and len(found) == 2, f"two results: {message}"
    loss, right = found
    expected, share = _told(*before)
    assert truth.has_shape(loss, ) and loss.dtype == logits.dtype, (
        f"the surprise is a tensor without axes in the logits' precision: {message}")
    assert type(right) is float, f"the share is a float: {message}"
    assert truth.close(float(loss) / (1 + expected), expected / (1 + expected), rtol=1e-4,
                       atol=2e-6), f"wrong surprise, {message}"
    assert truth.close(right, share, rtol=0, atol=1e-6), f"wrong share of right ones, {message}"

_generator = hidden.generator("logits")
def _batch(count, domains, longest, most=None):
    logits = 2 * torch.randn(count, domains, longest, generator=_generator)
    frames = torch.randint(1, longest + 1, (count,), generator=_generator)
    return logits, frames, torch.randint(0, most or domains, (count,), generator=_generator)

for _case in range(6):
    _right(*_batch(3 + 2 * _case, hidden.integer(f"domains {_case}", 2, 6), 1 + 3 * _case),
           "sounds of all lengths")
_logits, _frames, _domains = _batch(9, 5, 8, 3)
_right(_logits, _frames, _domains, "two domains that never occur")
_right(_logits, _frames, 0 * _domains + 4, "only the last domain")
_right(_logits[:, :1], _frames, 0 * _domains, "one domain")
_right(_logits[..., :1], 0 * _frames + 1, _domains, "one frame")
_padding = torch.arange(8) >= _frames[:, None]
for _what in (math.nan, math.inf, -math.inf, 1e30, 0.0):
    _v = _logits.masked_fill(_padding[:, None], _what)
    _right(_v, _frames, _domains, f"{_what:g} in the padding")
    _leaf, _twin = _v.clone().requires_grad_(), _logits.double().requires_grad_()
    surprise(_leaf, _frames, _domains)[0].backward()
    _terms = []
    for _k in _domains.unique():
        _of = [F.cross_entropy(_twin[_n, :, :int(_frames[_n])].mean(-1)[None], _domains[_n, None])
               for _n in range(9) if _domains[_n] == _k]
        _terms.append(sum(_of) / len(_of))
    (sum(_terms) / len(_terms)).backward()
    assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-6), (
        f"the gradient by the logits is wrong, with {_what:g} in the padding")
_right(torch.zeros(5, 4, 3), torch.tensor([3, 1, 2, 3, 1]), torch.tensor([0, 1, 2, 3, 1]),
       "logits all alike")
_ties = torch.tensor([[2.0, 2, 1], [2, 2, 2], [1, 2, 2], [0, 3, 1]])[..., None].repeat(1, 1, 4)
_right(_ties, torch.tensor([1, 4, 2, 4]), torch.tensor([0, 2, 0, 1]), "two that are equally large")
_right(1e30 * _logits, _frames, _domains, "logits of 1e30")
_leaf = (1e30 * _logits).requires_grad_()
surprise(_leaf, _frames, _domains)[0].backward()
assert bool(_leaf.grad.isfinite().all()), "the gradient for logits of 1e30 isn't finite"
_right(_logits - 1e4, _frames, _domains, "all far below 0")
_right(_logits.mT.contiguous().mT, _frames, _domains, "not contiguous")
_right(torch.full((2, 3, 4000), 3e38), torch.tensor([4000, 9]), torch.tensor([0, 2]),
       "sums beyond single precision")
for _edge, _level, (_v,) in edges.mutated(_logits):
    _right(_v, _frames.clamp_max(_v.shape[-1]), _domains, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: nobody moves what isn't his
#
# A round of the game of (16.4) and (16.5), without the reconstruction. With $L$ = `loss_of(critic(encoder(x)))`:
# 1. the **critic** lowers $\lambda L$, by a step of `optimizers["critic"]`,
# 2. then the **encoder** lowers $-\lambda L$, against the critic *as it is now*, by a step of `optimizers["encoder"]`.
#
# - Each player moves his own parameters only, and of these only those whose `requires_grad` is set. A frozen one stays where it is, whatever its optimizer does to those that have a gradient (weight decay, momentum). A player whose parameters are all frozen doesn't move.
# - Each gradient is cut off to $[-1, 1]$, value by value (16.5). What stood in `.grad` before, by some other loss, counts for nothing; after the round the `.grad` of every parameter of both is `None`.
# - If $L$, or any value of his gradient, isn't finite, a player doesn't move at all, nor does anything in his optimizer. The other one plays nevertheless.
# - `requires_grad` of all parameters, and whether a module is training, are afterwards what they were.
#
# Returned are both $L$, without $\lambda$ and sign: the one that the critic moved by, and the one that the encoder moved by.

# %%
# TASK 3 (6 points): nobody moves what isn't his
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    """(L of the critic's move, L of the encoder's), floats.

    encoder, critic: modules, which share no parameter. optimizers: dict of "encoder" and "critic",
    each of all parameters of its player. x: what the encoder takes. loss_of: what the critic says
    to a tensor without axes. weight: lambda, above 0.
    """
    ### BEGIN SOLUTION
    players, losses = {"critic": critic, "encoder": encoder}, []
    every = [*critic.parameters(), *encoder.parameters()]
    for name, sign in (("critic", 1), ("encoder", -1)):
        own = [p for p in players[name].parameters() if p.requires_grad]
        loss = loss_of(critic(encoder(x)))
        losses.append(float(loss.detach()))
        gradients = []
        if own:
            gradients = torch.autograd.grad(sign * weight * loss, own, allow_unused=True)
        known = [(p, g) for p, g in zip(own, gradients) if g is not None]
        for p in every:
            p.grad = None
        if known and loss.isfinite() and all(bool(g.isfinite().all()) for _, g in known):
            for p, g in known:
                p.grad = g.clamp(-1, 1)
            optimizers[name].step()
            for p in every:
                p.grad = None
    return tuple(losses)
    ### END SOLUTION

# %%
# CHECK 3
class Descent:
    """An optimizer as torch.optim's are, with momentum and weight decay."""

    def __init__(self, parameters, rate, momentum=0.0, decay=0.0):
        self.parameters = list(parameters)
        self.rate, self.momentum, self.decay, self.memory = rate, momentum, decay, {}

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for number, p in enumerate(self.parameters):
            if p.grad is not None:
                past = self.memory.get(number, torch.zeros_like(p))
                self.memory[number] = self.momentum * past + p.grad + self.decay * p
                p -= self.rate * self.memory[number]

def players(start=(2.0, 3.0), rate=0.1, **options):
    """Two that multiply by one number each."""
    both = [torch.nn.Linear(1, 1, bias=False) for _ in start]
    for module, value in zip(both, start):
        torch.nn.init.constant_(module.weight, value)
    return (*both, {name: Descent(module.parameters(), rate, **options)
                    for name, module in zip(("encoder", "critic"), both)})

one = torch.ones(1, 1)
encoder, critic, optimizers = players()
losses = play_round(encoder, critic, optimizers, one, lambda y: y.mean(), 0.25)
assert len(losses) == 2 and abs(losses[0] - 6) < 1e-5, f"L = 3 x 2 = 6 at first; you say {losses}"
assert abs(critic.weight.item() - 2.95) < 1e-5, (
    f"the critic's gradient is 0.25 x 2: from 3 to 2.95; yours is at {critic.weight.item():.4f}")
assert abs(losses[1] - 5.9) < 1e-5, f"then L = 2.95 x 2 = 5.9; you say {losses[1]}"
assert abs(encoder.weight.item() - 2.07375) < 1e-5, (
    f"the encoder's is -0.25 x 2.95: from 2 to 2.07375; yours is at {encoder.weight.item():.5f}")
assert critic.weight.grad is None and encoder.weight.grad is None, "no gradient is left over"
encoder, critic, optimizers = players((20.0, 30.0))
play_round(encoder, critic, optimizers, one, lambda y: y.mean(), WEIGHT)
expected = 30 - 0.1 * min(1, 20 * WEIGHT)
assert abs(critic.weight.item() - expected) < 1e-5, (
    f"gradients are cut off at 1: the critic at {expected:.4f}; yours {critic.weight.item():.4f}")
encoder, critic, optimizers = players(decay=0.5)
critic.weight.requires_grad_(False)
play_round(encoder, critic, optimizers, one, lambda y: y.mean(), 0.25)
assert critic.weight.item() == 3 and not critic.weight.requires_grad, "who is frozen doesn't move"
encoder, critic, optimizers = players()
play_round(encoder, critic, optimizers, one, lambda y: y.mean() / 0, 0.25)
assert critic.weight.item() == 3 and encoder.weight.item() == 2, (
    "where L isn't finite nobody moves")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
import copy
hidden = hidden_variation("task 3")
def _move(own, twin, other, optimizer, x, loss_of, weight, name):
    """One move on the twins, the long way round: all is a copy, and all but `own` frozen."""
    flags = [p.requires_grad for p in twin.parameters()]
    L = loss_of(other["critic"](other["encoder"](x)))
    live = [p for p in own.parameters() if p.requires_grad]
    value = float(L.detach())
    if not live:
        return value
    gradients = torch.autograd.grad((weight if name == "critic" else -weight) * L, live,
                                    allow_unused=True)
    fine = math.isfinite(value) and all(g is None or bool(torch.isfinite(g).all())
                                        for g in gradients)
    for p in own.parameters():
        p.grad = None
    for p, g in zip(live, gradients):
        p.grad = None if g is None else g.clamp(min=-1.0, max=1.0)
    if fine:
        optimizer.step()
    for p in own.parameters():
        p.grad = None
    assert flags == [p.requires_grad for p in twin.parameters()]
    return value

def _right(encoder, critic, make, x, loss_of, weight, message, rounds=3, level=1.0, left=None):
    mine = {"encoder": encoder, "critic": critic}
    twins = copy.deepcopy(mine)
    optimizers, others = ({name: make(both[name]) for name in both} for both in (mine, twins))
    modes = [m.training for one in mine.values() for m in one.modules()]
    flags = [p.requires_grad for one in mine.values() for p in one.parameters()]
    before = x.clone()
    for number in range(rounds):
        if left is not None:
            for one in mine.values():
                for p in one.parameters():
                    p.grad = torch.full_like(p, left)
        losses = play_round(encoder, critic, dict(optimizers), x, loss_of, weight)
        expected = [_move(twins[name], twins[name], twins, others[name], before, loss_of, weight,
                          name) for name in ("critic", "encoder")]
        at = f"{message}, round {number + 1}"
        assert truth.equal(x, before), f"x is changed: {at}"
        assert type(losses) in (tuple, list) and len(losses) == 2 and all(
            type(one) is float for one in losses), f"two floats: {at}"
        for who, found, right in zip(("critic", "encoder"), losses, expected):
            both = not math.isfinite(right) and not math.isfinite(found)
            assert both or truth.close(found / level, right / level, rtol=1e-3, atol=1e-5), (
                f"wrong L of the {who}'s move: {at}")
        for name in mine:
            ours = [p.detach() for p in mine[name].parameters()]
            right = [p.detach() for p in twins[name].parameters()]
            assert truth.close(ours, right, rtol=1e-3, atol=1e-5), f"the {name} is wrong: {at}"
            memory, expected = optimizers[name].memory, others[name].memory
            assert sorted(memory) == sorted(expected) and truth.close(
                list(memory.values()), [expected[n] for n in memory], rtol=1e-3, atol=1e-5), (
                f"what the {name}'s optimizer remembers is wrong: {at}")
        assert all(p.grad is None for one in mine.values() for p in one.parameters()), (
            f"gradients are left over: {at}")
        assert flags == [p.requires_grad for one in mine.values() for p in one.parameters()], (
            f"requires_grad is not what it was: {at}")
        assert modes == [m.training for one in mine.values() for m in one.modules()], (
            f"a module is in another mode than before: {at}")

_generator = hidden.generator("players")
def _pair(inside=4, code=3, domains=3, scale=1.0, dtype=torch.float32, hidden_=5):
    """An encoder and a critic with weights of their own."""
    encoder = torch.nn.Sequential(torch.nn.Linear(inside, hidden_), torch.nn.Tanh(),
                                  torch.nn.Linear(hidden_, code))
    critic = torch.nn.Sequential(torch.nn.Linear(code, hidden_), torch.nn.ELU(),
                                 torch.nn.Linear(hidden_, domains))
    for p in (*encoder.parameters(), *critic.parameters()):
        p.data = scale * torch.randn(p.shape, generator=_generator)
    return encoder.to(dtype), critic.to(dtype)

_x = torch.randn(6, 4, generator=_generator)
_labels = torch.tensor([0, 1, 2, 0, 1, 2])
_ce = lambda y: F.cross_entropy(y, _labels[:len(y)])
_plain = lambda module: Descent(module.parameters(), 0.3)
_heavy = lambda module: Descent(module.parameters(), 0.2, 0.9, 0.3)
for _name, _make in (("plain steps", _plain), ("momentum and weight decay", _heavy)):
    for _weight in (0.01, hidden.real("weight", 0.3, 1.0), 40.0):
        _right(*_pair(), _make, _x, _ce, _weight, f"{_name}, weight {_weight:.3g}")
    _right(*_pair(), _make, _x, _ce, 0.5, f"{_name}, gradients of another loss left", left=3.0)
    _encoder, _critic = _pair()
    _encoder[0].weight.requires_grad_(False)
    _critic[2].bias.requires_grad_(False)
    _right(_encoder, _critic, _make, _x, _ce, 0.5, f"{_name}, some are frozen")
    _right(_encoder, _critic, _make, _x, _ce, 0.5, f"{_name}, some are frozen, with old gradients",
           left=3.0)
    for _who in (0, 1):
        _both = _pair()
        _both[_who].requires_grad_(False)
        _right(*_both, _make, _x, _ce, 0.5,
               f"{_name}, the {('encoder', 'critic')[_who]} is frozen", left=3.0)
_both = _pair()
for _module in _both:
    _module.requires_grad_(False)
_right(*_both, _heavy, _x, lambda y: y.sum(), 0.5, "both are frozen")
_right(*_both, _heavy, _x, lambda y: y.sum(), 0.5, "both are frozen, with old gradients", left=3.0)
_right(*_pair(), _heavy, _x, lambda y: _ce(y) * math.inf, 0.5, "L is infinite")
_right(*_pair(), _heavy, _x, lambda y: _ce(y) * math.nan, 0.5, "L is NaN", left=3.0)
_right(*_pair(), _heavy, _x, lambda y: _ce(y) + math.inf, 0.5,
       "L is infinite, its gradients are finite")
class _Hole(torch.autograd.Function):
    """Passes values, but its gradient isn't finite in one place."""
    @staticmethod
    def forward(_context, y):
        return y.clone()
    @staticmethod
    def backward(_context, gradient):
        gradient = gradient.clone()
        gradient.flatten()[0] = math.nan
        return gradient
_right(*_pair(), _heavy, _x, lambda y: _Hole.apply(_ce(y).expand(1)).sum(), 0.5,
       "a gradient that isn't finite, of an L that is")
for _who, _at in (("critic", 0), ("encoder", 1)):
    class _Sick(torch.nn.Module):
        """A player whose own gradient isn't finite, while what he passes on is."""
        def __init__(self):
            super().__init__()
            self.own = torch.nn.Parameter(torch.zeros(1))
        def forward(self, y):
            return y + (self.own.sqrt() if self.own.requires_grad else 0.0)
    _encoder, _critic = _pair()
    _sick = [_encoder, _critic][1 - _at]
    _sick.append(_Sick())
    _right(_encoder, _critic, _heavy, _x, _ce, 0.5, f"only the {_who}'s gradient isn't finite")
class _Unused(torch.nn.Module):
    """A player with a parameter that L doesn't depend on."""
    def __init__(self, inner):
        super().__init__()
        self.inner, self.spare = inner, torch.nn.Parameter(torch.ones(2))
    def forward(self, x):
        return self.inner(x)
_a, _b = _pair()
_right(_Unused(_a), _Unused(_b), _heavy, _x, _ce, 0.5, "parameters that L doesn't depend on")
_right(_Unused(_a), _Unused(_b), _heavy, _x, _ce, 0.5, "the same, with old gradients", left=3.0)
_a, _b = _pair()
_a.eval()
_b[1].eval()
_right(_a, _b, _plain, _x, _ce, 0.5, "partly in eval mode")
for _edge, _level, (_v,) in edges.mutated(_x, axis=0, tiny=1e-8, huge=1e8):
    _a, _b = _pair(dtype=_v.dtype)
    _right(_a, _b, _plain, _v, _ce, 0.5, _edge)
_right(*_pair(), _heavy, 1e30 * _x, lambda y: _ce(1e30 * y), 0.5, "L of 1e30", level=1e30)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: wrong, or only in another key?
#
# Chroma agreement (16.9) is the mean correlation of two chroma, frame by frame, over the frames in which the truth sounds. A translation that is right but for being three semitones too high gets a bad mark. Find out.
#
# `agreements` gives twelve numbers: number $s$ is the agreement if the translation is taken for $s$ semitones too high, so what it calls class $(c + s) \bmod 12$ is compared with the truth's class $c$. The correlation of a frame is Pearson's over the twelve classes, $\sum_c \bar a_c \bar b_c \, / \sqrt{\sum_c \bar a_c^2 \sum_c \bar b_c^2}$ with $\bar a = a - \text{mean}$.
# - A frame in which the truth is **silent**, all twelve 0, is left out.
# - A frame in which either is **flat**, its largest less its smallest at most $10^{-9}$ times its largest (a silent translation is flat), says nothing: it counts, with 0.
# - A truth that is silent throughout gives twelve NaN.
#
# `key_of` says from these in which key the translation is: the number of semitones from -5 to 6 (so 9 too high is 3 too low, -3) with the highest agreement. Of several, up to $10^{-9}$, the one nearest to 0; of two equally near the positive one. With NaN it is 0.

# %%
# TASK 4 (4 points): wrong, or only in another key?
def agreements(chroma, truth):
    """float64 (12,): the agreement for each s. chroma, truth: (12, frame), 0 or more."""
    ### BEGIN SOLUTION
    def unit(x):                                                    # columns of length 1, or 0
        top = x.amax(0)
        flat = top - x.amin(0) <= 1e-9 * top
        x = x / top.where(top > 0, 1.0)
        x = x - x.mean(0)
        return (x / x.norm(dim=0).clamp_min(1e-300)).masked_fill(flat, 0.0)

    sounds = (truth != 0).any(0)
    a, b = unit(chroma[:, sounds].double()), unit(truth[:, sounds].double())
    return torch.stack([(a.roll(-s, 0) * b).sum(0).mean() for s in range(12)])
    ### END SOLUTION


def key_of(found):
    """An int from -5 to 6. found: what `agreements` gives."""
    ### BEGIN SOLUTION
    found = found.tolist()
    if any(map(math.isnan, found)):
        return 0
    best = [s for s in range(12) if found[s] >= max(found) - 1e-9]
    return min((s if s <= 6 else s - 12 for s in best), key=lambda s: (abs(s), -s))
    ### END SOLUTION

# %%
# CHECK 4
scale = torch.tensor([0, 2, 4, 5, 7])
tune = F.one_hot(scale, 12).T.float()                               # (12, 5)
found = agreements(tune, tune)
assert found.shape == (12,) and found.dtype == torch.float64, (
    f"twelve numbers in float64; you: {tuple(found.shape)}, {found.dtype}")
assert torch.allclose(found[:2], torch.tensor([1, -1 / 11]).double()), (
    f"a tune beside itself: 1; for a semitone too high -1/11; you say {found[:2]}")
assert key_of(found) == 0, f"it is in its own key; you say {key_of(found)}"
high, low = tune.roll(KEY, 0), tune.roll(-KEY, 0)
assert key_of(agreements(high, tune)) == KEY, (
    f"{KEY} semitones too high; you say {key_of(agreements(high, tune))}")
assert key_of(agreements(low, tune)) == -KEY, (
    f"{KEY} semitones too low; you say {key_of(agreements(low, tune))}")
half = tune.clone()
half[:, 1] = 0
assert abs(float(agreements(half, tune)[0]) - 0.8) < 1e-6, (
    "the translation is silent in one frame of five: 0.8")
assert abs(float(agreements(tune, half)[0]) - 1) < 1e-6, (
    "the truth is silent in one frame: it is left out")
assert agreements(tune, 0 * tune).isnan().all() and key_of(agreements(tune, 0 * tune)) == 0
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth as _truth
hidden = hidden_variation("task 4")
def _pearson(a, b):
    for one in (a, b):
        if max(one) - min(one) <= 1e-9 * max(one):
            return 0.0
    a, b = ([v / max(one) for v in one] for one in (a, b))
    a, b = ([v - math.fsum(one) / 12 for v in one] for one in (a, b))
    return math.fsum(v * w for v, w in zip(a, b)) / math.sqrt(
        math.fsum(v * v for v in a) * math.fsum(w * w for w in b))

def _right(chroma, true, message):
    before = chroma.clone(), true.clone()
    found = agreements(chroma, true)
    assert _truth.equal((chroma, true), before), "agreements changes its arguments"
    message = f"{message}: {chroma.shape[1]} frames"
    assert _truth.has_shape(found, 12) and found.dtype == torch.float64, (
        f"twelve numbers in float64, {message}")
    frames = [(a, b) for a, b in zip(before[0].double().T.tolist(), before[1].double().T.tolist())
              if any(b)]
    if not frames:
        assert bool(found.isnan().all()), f"a silent truth: twelve NaN, {message}"
        assert key_of(found) == 0, f"a silent truth: key 0, {message}"
        return
    expected = torch.tensor([math.fsum(_pearson(a[s:] + a[:s], b) for a, b in frames) / len(frames)
                             for s in range(12)], dtype=torch.float64)
    assert _truth.close(found, expected, rtol=0, atol=1e-6), f"wrong agreements, {message}"

def _key(found, expected, message):
    before = found.clone()
    key = key_of(found)
    assert torch.equal(found.nan_to_num(9.0), before.nan_to_num(9.0)), "key_of changes its argument"
    assert type(key) is int, f"a whole number (int): {message}"
    assert _truth.equal(key, expected), f"wrong key: {message}, {found.tolist()}"

_generator = hidden.generator("chroma")
_a, _b = (torch.rand(12, 15, generator=_generator) for _ in range(2))
_right(_a, _b, "chroma of all kinds")
_right(_a ** 4, _b ** 4, "peaks")
_noisy = _a.roll(hidden.integer("key", 1, 11), 0) + 0.2 * _b
_right(_noisy, _a, "another key")
_level = 10.0 ** torch.randint(-12, 12, (15,), generator=_generator).float()
_right(_a * _level, _b * _level.flip(0), "frames of all levels")
_right(_a[:, :1], _b[:, :1], "one frame")
_right(_a[:, :0], _b[:, :0], "no frame")
_silent = _a.clone()
_silent[:, [0, 3, 14]] = 0
_right(_silent, _b, "a translation with silence")
_right(_b, _silent, "a truth with silence")
_right(_silent, _silent, "both with silence")
_right(0 * _a, _b, "a silent translation")
_right(_a, 0 * _b, "a silent truth")
_flat = _a.clone()
_flat[:, [1, 2, 9]] = torch.tensor([0.1, 0.7, 1e-5])
_right(_flat, _b, "a translation with flat frames")
_right(_b, _flat, "a truth with flat frames")
_right(_flat.double() + 0.1, _b.double(), "flat frames in double precision")
_wave = 0.3 + 1e-13 * _a.double()
_right(_wave, _b.double(), "nearly flat")
_right(_b.double(), _wave, "nearly flat, the truth")
_right(0.3 + 1e-4 * _a.double(), _b.double(), "a little off flat")
_right(_a.T.contiguous().T, _b.flip(1), "not contiguous")
_right(F.one_hot(torch.arange(12), 12).T.float(), F.one_hot(torch.arange(12), 12).T.float(),
       "one class a frame")
_right(_a.double() * 1e-200, _b.double() * 1e200, "as soft and as loud as can be")
for _s in range(12):
    _found = torch.full((12,), 0.2).double()
    _found[_s] = 0.7
    _key(_found, _s if _s <= 6 else _s - 12, f"the best is {_s}")
    for _t in range(_s):
        _two = _found.clone()
        _two[_t] = 0.7 - 1e-12 * (_t % 3 - 1)
        _key(_two, min(((v if v <= 6 else v - 12) for v in (_s, _t)), key=lambda v: (abs(v), -v)),
             f"{_s} and {_t} alike")
        _two[_t] = 0.7 + 1e-6
        _key(_two, _t if _t <= 6 else _t - 12, f"{_t} a little better than {_s}")
_key(torch.zeros(12).double(), 0, "all alike")
_key(torch.linspace(-0.9, -0.1, 12).double(), -1, "all below 0")
_key(torch.full((12,), math.nan).double(), 0, "NaN")
for _edge, _level, (_v, _w) in edges.mutated(_a, _b, tiny=1e-30, huge=1e30):
    _right(_v, _w, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: grains that go on
#
# The nearest neighbours of (16.9) take each grain for itself, and "nothing cares how one grain goes on to the next". Let something care. The corpus is cut into grains in their order, so grain $j + 1$ goes on where $j$ ends, unless it **begins** a new recording. A choice $j_1, \dots, j_M$ of a grain for each frame costs
#
# $$ \sum_{m=1}^{M} c[m, j_m] \; + \; \text{jump} \cdot \#\big\{m > 1: \; j_m \neq j_{m-1} + 1 \text{ or } j_m \text{ begins}\big\} . $$
#
# Find a choice that costs least. All choices of $M$ frames out of $G$ grains are $G^M$, but the best way to have come to grain $j$ at frame $m$ is either from $j - 1$, or by a jump from whatever was best at $m - 1$.
#
# - Costs are 0 or more; an infinite one forbids a grain at a frame, and an infinite `jump` all jumps. Staying on the same grain is a jump, too.
# - Of several best choices any will do. Where all are infinite there is none: the choice is `None`, and costs infinity. No frames: no grains, cost 0.
# - Small differences of large costs decide, too: add up in float64.

# %%
# TASK 5 (5 points): grains that go on
def choose_grains(costs, jump, begins):
    """(choice, cost): int64 (frame,) or None, and a float.

    costs: (frame, grain), one grain or more. jump: 0 or more. begins: bool (grain,); the first
    grain has none before it, whatever `begins` says of it.
    """
    ### BEGIN SOLUTION
    if not len(costs):
        return torch.zeros(0, dtype=torch.int64), 0.0
    best, from_ = costs[0].double(), []
    for row in costs[1:].double():
        on = torch.cat([best.new_full((1,), math.inf), best[:-1]]).masked_fill(begins, math.inf)
        least, where = best.min(0)
        goes_on = on <= least + jump
        numbers = torch.arange(len(row)) - 1
        from_.append(torch.where(goes_on & on.isfinite(), numbers, where))
        best = row + torch.where(goes_on, on, least + jump)
    cost, j = best.min(0)
    if not cost.isfinite():
        return None, math.inf
    choice = [j]
    for before in reversed(from_):
        choice.append(before[choice[-1]])
    return torch.stack(choice[::-1]), float(cost)
    ### END SOLUTION

# %%
# CHECK 5
inf = math.inf
costs = torch.tensor([[0.0, 2, 5], [3, 1, 0], [3, 3, 1]])
none = torch.zeros(3, dtype=torch.bool)
choice, cost = choose_grains(costs, 0.0, none)
assert choice.dtype == torch.int64 and choice.tolist() == [0, 2, 2] and cost == 1, (
    f"jumps for nothing: the nearest of each frame, 0 2 2, cost 1; you say {choice}, {cost}")
choice, cost = choose_grains(costs, JUMP, none)
assert choice.tolist() == [0, 1, 2] and abs(cost - 2) < 1e-6, (
    f"0 1 2 goes on throughout and costs 0 + 1 + 1; you say {choice}, {cost}")
begins = torch.tensor([True, False, True])
choice, cost = choose_grains(costs, 10.0, begins)
assert abs(cost - 12) < 1e-6, f"grain 2 begins: 0 1 and a jump to 2, 12; you say {choice}, {cost}"
assert choose_grains(costs, inf, begins)[0] is None, "three frames, two grains in a row: none"
assert choose_grains(costs, inf, begins)[1] == inf, "and that costs infinity"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _least(costs, jump, begins):
    """The least cost, from the last frame backwards, with numbers of Python."""
    rest = [0.0] * len(begins)
    for m in reversed(range(len(costs))):
        here = [c + r for c, r in zip(costs[m], rest)]
        if m:
            away = jump + min(here)
            rest = [min(away, here[j + 1]) if j + 1 < len(here) and not begins[j + 1] else away
                    for j in range(len(here))]
        else:
            return min(here)
    return 0.0

def _paid(costs, jump, begins, choice):
    """What a choice costs."""
    total = [costs[m][j] for m, j in enumerate(choice)]
    total += [jump for i, j in zip(choice, choice[1:]) if j != i + 1 or begins[j]]
    return math.fsum(total)

def _right(costs, jump, begins, message, level=1.0, atol=1e-6):
    before = costs.clone(), begins.clone()
    found = choose_grains(costs, jump, begins)
    message = f"{message}: costs {tuple(costs.shape)}, jump {jump:g}"
    assert truth.equal([begins], [before[1]]) and torch.equal(costs, before[0]), (
        "choose_grains changes its arguments")
    assert type(found) in (tuple, list) and len(found) == 2, f"two results, {message}"
    choice, cost = found
    assert type(cost) is float, f"the cost is a float, {message}"
    rows, starts = before[0].double().tolist(), before[1].tolist()
    least = _least(rows, float(jump), starts)
    if math.isinf(least):
        assert choice is None and cost == math.inf, f"there is no choice, {message}"
        return
    assert truth.close(cost / level, least / level, rtol=0, atol=atol), (
        f"wrong cost, {message}")
    assert choice is not None and choice.dtype == torch.int64 and truth.has_shape(
        choice, len(costs)), f"a choice is int64 (frame,), {message}"
    chosen = choice.tolist()
    assert all(0 <= j < len(starts) for j in chosen), f"grains that aren't there, {message}"
    paid = _paid(rows, float(jump), starts, chosen)
    assert truth.close(paid / level, least / level, rtol=0, atol=atol), (
        f"a choice that costs more than the least, {message}")

_generator = hidden.generator("costs")
_rand = lambda *shape: torch.rand(*shape, generator=_generator)
_never = lambda grains: torch.zeros(grains, dtype=torch.bool)
for _case in range(10):
    _grains = hidden.integer(f"grains {_case}", 2, 9)
    _costs, _begins = _rand(hidden.integer(f"frames {_case}", 2, 9), _grains), _rand(_grains) < 0.3
    for _jump in (0, 0.05, 0.3, 1.0, 50.0, math.inf):
        _right(_costs, _jump, _begins, "some grains")
_costs = _rand(12, 7)
for _jump in (0.0, 0.2, 4.0, math.inf):
    _right(_costs, _jump, _never(7), "nothing begins")
    _right(_costs, _jump, ~_never(7), "every grain begins")
    _right(_costs[:1], _jump, _never(7), "one frame")
    _right(_costs[:, :1], _jump, _never(1), "one grain")
    _right(_costs[:0], _jump, _never(7), "no frames")
    _right(_costs[:5], _jump, _never(7), "fewer frames than grains")
    _holes = _costs.masked_fill(_rand(12, 7) < 0.5, math.inf)
    _right(_holes, _jump, _never(7), "some grains are forbidden")
    _closed = _costs.clone()
    _closed[6] = math.inf
    _right(_closed, _jump, _never(7), "a frame for which all are forbidden")
    _right(_costs.round(), _jump, _never(7), "many are alike")
    _right(0 * _costs, _jump, _rand(7) < 0.5, "all cost nothing")
    _right(_costs.T.contiguous().T, _jump, _never(7), "not contiguous")
_only = torch.full((4, 6), math.inf)
for _m in range(4):
    _only[_m, _m + 2] = 1.0
_right(_only, math.inf, _never(6), "only one way")
_right(_only, 3.0, torch.tensor([False, False, True, True, False, True]), "only one way, jumps")
_right(_rand(90, 200), 0.3, _rand(200) < 0.05, "a large corpus")
_fine = 1e8 + _rand(10, 6).double()
_right(_fine, 0.25, _never(6), "small differences of large costs", atol=1e-5)
_right((1e7 + (8 * _rand(30, 6)).round()), 1.5, _never(6), "small differences, single precision",
       atol=1e-5)
for _edge, _level, (_v,) in edges.mutated(_costs, axis=0):
    _right(_v, 0.3 * _level, _rand(7) < 0.3, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: how much must it have heard?
#
# Chapter 16's networks learn from forty melodies an instrument, and the concatenation has twenty to copy from. Would two do? And what is it that a larger corpus buys: notes, timbre, or time? The cell below builds a corpus of any number of melodies, translates by (16.9) and marks against the truth.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many melodies, which directions and how many seconds your numbers rest,
# - a table: for corpora of 1, 2, 5, 10 and 20 melodies the four marks, beside those of the *copy* (the source itself) and of *another melody* (the next test melody, played by the target),
# - in how many of your melodies each larger corpus is ahead of the one before, and 20 melodies of the copy,
# - a reading: what does a corpus of one melody lack? Why is there hardly a gain from five on? Which mark doesn't gain at all, and why not? What do the copy's and the other melody's marks say about each of the four measures?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: a corpus of few melodies, and of many; add your own cells
from course_lib.experiments import translation as band
from course_lib.translation import concatenate_nearest


def played(number, instrument):
    """A test melody of about two seconds on an instrument of the band: (time,), 8 kHz."""
    return band.play(band.melody(band.FIRST_SEED["test"] + number, band.SECONDS), instrument,
                     band.SECONDS)


def corpus(instrument, melodies, seconds=6.0):
    """Grains of its first training melodies: features (grain, 2) and audio (grain, 512)."""
    first, features, grains = 100 * list(band.PROGRAMS).index(instrument), [], []
    for number in range(melodies):
        x = band.play(band.melody(first + number, seconds), instrument, seconds)
        pieces = x.unfold(0, 2 * band.HOP, band.HOP)                # the first around sample 256
        f0, level = band.pitch_track(x)
        inside = slice(1, len(pieces) + 1)
        features.append(band.pitch_and_level(f0[inside], level[inside]))
        grains.append(pieces)
    return torch.cat(features), torch.cat(grains)


def concatenated(x, features, grains):
    """x (time,) out of grains of another instrument, by (16.9)."""
    f0, level = band.pitch_track(x)
    frames = len(x) // band.HOP
    wanted = band.pitch_and_level(f0[:frames], level[:frames])
    y = concatenate_nearest(wanted, features, grains, band.HOP)
    return F.pad(y, (0, len(x) - len(y)))


def marks(y, truth):
    """Log-spectral distance in dB, agreement of chroma and onsets, share of right pitches."""
    distance = band.log_spectral_distance(truth[None, None], y[None, None])
    return (float(distance[0]), band.chroma_agreement(y, truth), band.onset_agreement(y, truth),
            band.pitch_agreement(y, truth))

# For example:  x, truth = played(0, "piano"), played(0, "cello")
#               marks(concatenated(x, *corpus("cello", 5)), truth)
#               marks(x, truth)                                          # the copy

# %% [markdown]
# <!-- TASK 6 (5 points): how much must it have heard? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: which test melodies, directions and seconds, 8 kHz, grains of 512 samples 256 apart, the first so many training melodies of the target, and only their number varies; what each mark compares.
# - 1 point: the table with plausible numbers, on several melodies with the number of them in which a larger corpus is ahead (from 1 to 2 and from 2 to 5 the distance falls and chroma rises in all eight; from 5 to 20 the distance falls in five), or with a remark that one melody is not evidence.
# - 2 points: a right reading with a reason. Expected: one melody has few of the 18 pitches, and where a pitch isn't there the nearest one is taken, which is a wrong note: pitch and chroma, and with them the distance, suffer. Five melodies have nearly all pitches at some level; what comes after is another recording of the same note, so there is hardly a gain (0.03 in chroma and pitch, none in distance).
#   Onsets gain nothing from two melodies on: grains are chosen frame by frame, come from the midst or the beginning of notes, and are 64 ms long. The copy has all notes and their times, so it is ahead in onsets in all eight, and near in pitch and distance, although no other instrument is heard: pitch and onsets don't hear timbre. *Another melody* has the right instrument and the worst marks throughout: none of the four asks for the instrument alone; its onsets are far from 0, for a melody in the same tempo has onsets at similar times.
#   That the copy is behind in chroma is due to one direction (a clarinet's strong third harmonic counts as another pitch class); seen or not, one direction must not be taken for all. An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: a limit, such as: marks aren't ears, and the grains' rough joints are hardly in them; one voice, 18 pitches, synthesised instruments that repeat a note exactly; two of twelve directions; two seconds a melody; only pitch and level are compared; the first melodies, not drawn ones; nothing about networks, which have to learn more than notes.
#
# For comparison, means over the first eight test melodies, from piano to cello and from clarinet to flute, with the cell above.
#
# | | distance, dB | chroma | onsets | pitch |
# |---|---|---|---|---|
# | 1 melody | 8.33 | 0.47 | 0.62 | 0.36 |
# | 2 melodies | 6.81 | 0.72 | 0.81 | 0.66 |
# | 5 melodies | 5.72 | 0.90 | 0.80 | 0.92 |
# | 10 melodies | 5.87 | 0.91 | 0.78 | 0.92 |
# | 20 melodies | 5.72 | 0.93 | 0.77 | 0.95 |
# | copy | 5.38 | 0.79 | 0.89 | 0.94 |
# | another melody | 9.47 | -0.02 | 0.46 | 0.06 |
# <!-- END RUBRIC -->
