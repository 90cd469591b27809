# %% [markdown]
# # Assignment 14b · Taken apart, put together
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 14b, but none is a copy of it: you build the loss so that no silence and no loudness disturbs it, find the best owners of all outputs, share a residual out by weights,
# lay one song under another in time with its beats, and write the oracle that names the outputs. Read what is asked for,
# above all at the edges (a silent mixture, two ways that are equally good, weights of zero, a song without beats, fewer outputs than stems).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.mixit` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import itertools
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
CEILING = variation.choice("ceiling", [20.0, 25.0, 30.0])  # dB
OUTPUTS = variation.integer("outputs", 4, 6)
SHARE = variation.choice("share", [0.25, 0.5, 0.75])  # of the residual
BEAT = variation.choice("beat", [40, 50, 60])  # samples
LEVEL = variation.choice("level", [3.0, 6.0, 10.0])  # dB

# %% [markdown]
# ## Task 1: a loss with a ceiling
#
# The loss of section 14b.1, written as one fraction, so that nothing has to be added to the energies:
#
# $$ \mathcal L = 10 \log_{10} \Bigl( \frac{\lVert x - \hat x \rVert^2}{E} + \tau \Bigr), \qquad \tau = 10^{-\mathrm{SNR}_{\max} / 10}. $$
#
# $E$ is the energy $\lVert x \rVert^2$ of the reference. Where the reference is silent (*all* its samples are 0), it is the energy of the mixture that it is a part of; and where that is silent, too, the loss is 0, whatever the estimate is.
#
# Training goes through it: the gradient by the estimate must be finite always. It is 0 where the estimate is perfect, and where reference and mixture are silent. And loudness cancels: all may be $10^{25}$ times as small or as large, where single precision has no squares left.

# %%
# TASK 1 (4 points): a loss with a ceiling
def snr_loss(estimate, reference, mixture, max_snr):
    """The loss of the text in dB: (..., time) to (...).

    estimate, reference, mixture: of one shape, at least one sample, any axes in front, also none.
    max_snr: dB, any number. Differentiable.
    """
    ### BEGIN SOLUTION
    y, x, whole = estimate.double(), reference.double(), mixture.double()
    energy = x.square().sum(-1)
    energy = torch.where(energy > 0, energy, whole.square().sum(-1))
    heard = energy > 0
    error = (x - y).square().sum(-1) / torch.where(heard, energy, 1.0)
    loss = 10 * torch.log10(error + 10 ** (-max_snr / 10))
    return torch.where(heard, loss, 0.0).to(estimate.dtype)
    ### END SOLUTION

# %%
# CHECK 1
x = torch.randn(3, 400, generator=torch.Generator().manual_seed(1))
found = snr_loss(x, x, 2 * x, CEILING)
assert found.shape == (3,), f"one loss for each of three signals: (3,); you: {tuple(found.shape)}"
assert torch.allclose(found, torch.full((3,), -CEILING), atol=1e-3), (
    f"perfect estimates: {-CEILING}; you say {found}")
found = snr_loss(0 * x, x, 2 * x, CEILING)
wanted = 10 * math.log10(1 + 10 ** (-CEILING / 10))
assert torch.allclose(found, torch.full((3,), wanted), atol=1e-4), (
    f"silence instead: {wanted:.4f}, a little above 0; you say {found}")
found = float(snr_loss(0.9 * x[0], x[0], 2 * x[0], 20.0))
assert abs(found + 16.9897) < 1e-3, (
    f"an error of 1/100 of the energy, and as much for the ceiling: -16.9897; you say {found:.4f}")
found = float(snr_loss(0.1 * x[0], 0 * x[0], x[0], 20.0))
assert abs(found + 16.9897) < 1e-3, (
    f"a silent reference: the error is measured by the mixture, -16.9897; you say {found:.4f}")
assert float(snr_loss(x[0], 0 * x[0], 0 * x[0], CEILING)) == 0, "all silent but the estimate: 0"
found = snr_loss(1e-25 * 0.9 * x, 1e-25 * x, 1e-25 * x, 20.0)
assert torch.allclose(found, torch.full((3,), -16.9897), atol=1e-3), (
    f"1e-25 times as soft, the loss stays what it was; you say {found}")
for name, y, target in (("perfect", x, x), ("both silent", 0 * x, 0 * x), ("silent", 0 * x, x)):
    leaf = y.clone().requires_grad_()
    snr_loss(leaf, target, target, CEILING).sum().backward()
    assert leaf.grad is not None, f"{name}: no gradient reaches the estimate"
    assert leaf.grad.isfinite().all(), f"{name}: the gradient isn't finite"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _loss(y, x, whole, ceiling):
    """Signal by signal, with numbers of Python; also the gradient."""
    losses, slopes = [], []
    flat = (one.double().reshape(-1, one.shape[-1]).tolist() for one in (y, x, whole))
    for a, b, c in zip(*flat):
        energy = math.fsum(v * v for v in b) or math.fsum(v * v for v in c)
        error = math.fsum((v - w) ** 2 for v, w in zip(a, b))
        if energy == 0:
            losses.append(0.0)
            slopes.append([0.0] * len(a))
            continue
        inside = error / energy + 10 ** (-ceiling / 10)
        losses.append(10 * math.log10(inside))
        slopes.append([20 / math.log(10) * (v - w) / energy / inside for v, w in zip(a, b)])
    shape = y.shape[:-1]
    losses, slopes = (torch.tensor(one, dtype=torch.float64) for one in (losses, slopes))
    return losses.reshape(shape), slopes.reshape(y.shape)

def _right(y, x, whole, ceiling, message, level=1.0):
    given = y, x, whole
    before = [one.clone() for one in given]
    found = snr_loss(*given, ceiling)
    expected, slope = _loss(*before, ceiling)
    assert truth.equal(list(given), before), "the function changes its arguments"
    assert found.dtype == y.dtype, f"wrong precision: {message}"
    message = f"{message}, ceiling {ceiling:g} dB"
    assert truth.close(found, expected, rtol=1e-4, atol=1e-3), f"wrong loss: {message}"
    leaf = before[0].clone().requires_grad_()
    snr_loss(leaf, *before[1:], ceiling).sum().backward()
    assert leaf.grad is not None, f"no gradient: {message}"
    assert bool(leaf.grad.isfinite().all()), f"the gradient isn't finite: {message}"
    assert truth.close(leaf.grad.double() * level, slope * level, rtol=1e-2, atol=1e-4), (
        f"wrong gradient: {message}")

_generator = hidden.generator("signals")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

for _case in range(4):
    _shape = (*[(), (3,), (2, 3), (1, 2, 2)][_case], hidden.integer(f"time {_case}", 5, 60))
    _x, _noise, _other = _draw(*_shape), _draw(*_shape), _draw(*_shape)
    for _size in (1.0, 0.1, 1e-3):
        _right(_x + _size * _noise, _x, _x + _other, hidden.real(f"ceiling {_case}", 10.0, 40.0),
               f"signals {tuple(_shape)}")
_x, _noise, _other = _draw(4, 30), _draw(4, 30), _draw(4, 30)
for _ceiling in (0.0, -3.0, 7.5, 80.0, 200.0):
    _right(_x + 1e-2 * _noise, _x, _x + 3 * _other, _ceiling, "ceilings of all kinds")
_right(_x, _x, _x + _other, 30.0, "perfect")
_right(-_x, _x, _other, 30.0, "the wrong sign")
_right(2 * _x, _x, _other, 30.0, "twice as loud")
_some = torch.tensor([1.0, 0, 0, 1e-4])[:, None]
_right(_noise, _some * _x, _other, 30.0, "two of four references silent")
_right(0.01 * _noise, _some * _x, _some.roll(1, 0) * _other, 30.0, "and one of their mixtures")
_right(0 * _x, _some * _x, _other, 25.0, "silent estimates")
_right(0 * _x, 0 * _x, _other, 25.0, "silent, and rightly so")
_right(_noise, 0 * _x, 0 * _x, 25.0, "all silent but the estimate")
_right(0 * _x, 0 * _x, 0 * _x, 25.0, "all silent")
_right(_x.mT.contiguous().mT, _noise[:1].expand(4, 30), _other.flip(0), 20.0, "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * (_x + 0.1 * _noise), _size * _x, _size * _other, 30.0, f"signals of {_size:g}",
           _size)
    _right(_size * 0.1 * _noise, 0 * _x, _size * _other, 30.0, f"mixtures of {_size:g}", _size)
for _edge, _level, (_y, _x, _whole) in edges.mutated(_x + 0.2 * _noise, _x, _other):
    _right(_y, _x, _whole, 30.0, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: who owns the outputs?
#
# Each output goes to one of the mixtures, so that the sum of the losses is least (section 14b.3). Let `owners[b, m]` be the number of the mixture that output $m$ of example $b$ goes to. With $E_n$ the energy of mixture $n$, or that of *the sum of all mixtures* where mixture $n$ is silent,
#
# $$ \mathcal L = \min_{\text{owners}} \sum_n 10 \log_{10} \Bigl( \frac{\lVert x_n - \sum_{m:\, \text{owner}(m) = n} \hat s_m \rVert^2}{E_n} + \tau \Bigr). $$
#
# - There may be any number of mixtures, not only two. A mixture may go without an output.
# - Where the sum of all mixtures is silent *and* mixture $n$ is, its term is 0.
# - What differs by less than $10^{-6}$ dB is equally good. Of equally good owners the first ones count, where `owners[b]` is read as a number, the owner of output 0 in front: (0, 0, 0), (0, 0, 1), (0, 1, 0) …
# - The gradient goes through the outputs, and is finite; and a level of $10^{-25}$ or $10^{25}$ changes nothing.

# %%
# TASK 2 (5 points): who owns the outputs
def best_owners(outputs, mixtures, max_snr):
    """The least loss of each example, (batch,), and the owners, int64 (batch, output).

    outputs: (batch, output, time), mixtures: (batch, mixture, time), at least one of each. max_snr:
    dB. Differentiable by the outputs.
    """
    ### BEGIN SOLUTION
    s, x = outputs.double(), mixtures.double()
    count = x.shape[1]
    ways = torch.tensor(list(itertools.product(range(count), repeat=s.shape[1])))
    own, whole = x.square().sum(-1), x.sum(1).square().sum(-1)
    energy = torch.where(own > 0, own, whole[:, None])              # (batch, mixture)
    heard = energy > 0
    energy = torch.where(heard, energy, 1.0)

    def losses(owners):
        """(batch, way, output) -> (batch, way)."""
        A = F.one_hot(owners, count).mT.double()                    # (batch, way, mixture, output)
        error = (x[:, None] - A @ s[:, None]).square().sum(-1)
        terms = 10 * torch.log10(error / energy[:, None] + 10 ** (-max_snr / 10))
        return torch.where(heard[:, None], terms, 0.0).sum(-1)

    with torch.no_grad():
        found = losses(ways.expand(len(s), -1, -1))
        good = found <= found.amin(1, keepdim=True) + 1e-6
        owners = ways[good.int().argmax(1)]
    return losses(owners[:, None])[:, 0].to(outputs.dtype), owners
    ### END SOLUTION

# %%
# CHECK 2
s = torch.randn(2, OUTPUTS, 300, generator=torch.Generator().manual_seed(2))
right = torch.tensor([[1, 0, 0, 1, 0, 1][:OUTPUTS], [0, 0, 1, 1, 1, 1][:OUTPUTS]])
x = F.one_hot(right, 2).mT.float() @ s
loss, owners = best_owners(s, x, 30.0)
assert loss.shape == (2,) and owners.shape == right.shape and owners.dtype == torch.int64, (
    f"two losses, owners {tuple(right.shape)} in int64; you: {tuple(loss.shape)}, "
    f"{tuple(owners.shape)}, {owners.dtype}")
assert owners.tolist() == right.tolist(), f"owners {right.tolist()}; you say {owners.tolist()}"
assert torch.allclose(loss, torch.full((2,), -60.0), atol=1e-2), (
    f"both mixtures perfect: twice -30; you say {loss}")
loss, owners = best_owners(s[:, :2], torch.stack([s[:, :2].sum(1), 0 * s[:, 0]], 1), 30.0)
assert owners.tolist() == [[0, 0], [0, 0]], f"one mixture is silent: all to the other; {owners}"
assert torch.allclose(loss, torch.full((2,), -60.0), atol=1e-2), (
    f"silence met exactly, measured by the sum of the mixtures: twice -30; you say {loss}")
three = torch.tensor([[[2.0, 0, 0], [0, 3, 0], [0, 0, 0], [0, 0, 4]]])
loss, owners = best_owners(three, three[:, [3, 1, 0]], 20.0)
assert owners.tolist() == [[2, 1, 0, 0]], (
    f"three mixtures: outputs 0, 1 and 3 are mixtures 2, 1 and 0; the silent one is as good "
    f"anywhere, so the lowest number counts: [2, 1, 0, 0]; you say {owners.tolist()}")
loss, owners = best_owners(three[:, :2], 0 * three[:, :2], 20.0)
assert loss.tolist() == [0] and owners.tolist() == [[0, 0]], (
    f"all mixtures silent: loss 0, owners 0; you say {loss} and {owners}")
leaf = s.clone().requires_grad_()
best_owners(leaf, x + 0.1, 30.0)[0].sum().backward()
assert leaf.grad is not None and leaf.grad.abs().sum() > 0, "no gradient reaches the outputs"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _best(outputs, mixtures, ceiling):
    """Example by example, with numbers of Python."""
    losses, owners = [], []
    for s, x in zip(outputs.double(), mixtures.double()):
        level = float(torch.cat([s, x]).abs().max()) or 1.0
        s, x = s / level, x / level
        whole = float(x.sum(0).square().sum())
        energy = [float(one.square().sum()) or whole for one in x]
        best = None
        for way in itertools.product(range(len(x)), repeat=len(s)):
            total = 0.0
            for n, one in enumerate(x):
                rest = one - sum((s[m] for m, owner in enumerate(way) if owner == n), 0 * one)
                if energy[n] > 0:
                    total += 10 * math.log10(float(rest.square().sum()) / energy[n]
                                             + 10 ** (-ceiling / 10))
            if best is None or total < best[0] - 1e-6:
                best = total, way
        losses.append(best[0])
        owners.append(best[1])
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(owners)

def _right(outputs, mixtures, ceiling, message):
    before = outputs.clone(), mixtures.clone()
    loss, owners = best_owners(outputs, mixtures, ceiling)
    expected, wanted = _best(*before, ceiling)
    message = (f"{message}: {outputs.shape[1]} outputs, {mixtures.shape[1]} mixtures, ceiling "
               f"{ceiling:g} dB")
    assert truth.equal([outputs, mixtures], list(before)), "the function changes its arguments"
    assert owners.dtype == torch.int64 and loss.dtype == outputs.dtype, f"wrong type: {message}"
    assert truth.equal(owners, wanted), f"wrong owners, {message}"
    assert truth.close(loss, expected, rtol=1e-4, atol=2e-3), f"wrong loss, {message}"

def _slope(outputs, mixtures, ceiling, message):
    leaf, twin = (outputs.double().requires_grad_() for _ in range(2))
    best_owners(leaf, mixtures.double(), ceiling)[0].sum().backward()
    A = F.one_hot(_best(outputs, mixtures, ceiling)[1], mixtures.shape[1]).mT.double()
    x = mixtures.double()
    own, whole = x.square().sum(-1), x.sum(1).square().sum(-1)[:, None]
    energy = own + (own == 0) * whole
    error = (x - A @ twin).square().sum(-1) / (energy + (energy == 0))
    ((energy > 0) * 10 * (error + 10 ** (-ceiling / 10)).log10()).sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all()), (
        f"no gradient, or not a finite one: {message}")
    assert truth.close(leaf.grad, twin.grad, rtol=1e-3, atol=1e-8), f"wrong gradient: {message}"

_generator = hidden.generator("signals")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

def _parts(batch, outputs, mixtures, time, blur):
    s = _draw(batch, outputs, time) * (0.2 + torch.rand(batch, outputs, 1, generator=_generator))
    owners = torch.randint(mixtures, (batch, outputs), generator=_generator)
    x = F.one_hot(owners, mixtures).mT.float() @ s
    return s + blur * _draw(batch, outputs, time), x

for _case, (_count, _mixtures) in enumerate(((1, 2), (3, 2), (5, 2), (2, 3), (4, 3), (6, 2))):
    _time = hidden.integer(f"time {_case}", 20, 60)
    for _blur in (0.05, 1.5):
        _s, _x = _parts(1 + _case % 3, _count, _mixtures, _time, _blur)
        _right(_s, _x, hidden.real(f"ceiling {_case}", 10.0, 40.0), "parts of mixtures")
    _slope(_s, _x, 20.0, "parts of mixtures")
_s, _x = _parts(3, 4, 2, 40, 0.0)
_right(_s, _x, 80.0, "perfect outputs")
_right(2.5 * _s, _x, 30.0, "outputs too loud")
_right(_s, _x * torch.tensor([1.0, 1e-3])[:, None], 30.0, "a loud and a soft mixture")
_right(_s[:, :2], torch.stack([_s.sum(1), _s[:, 3]], 1), 30.0, "an output that is missing")
_right(_s, _x[:, :1], 30.0, "one mixture")
_right(_s[:, :, :4], _draw(3, 2, 4), 5.0, "outputs of something else")
_mask = torch.tensor([[[1.0], [0]], [[0], [1]], [[0], [0]]])
_right(_s, _x * _mask, 30.0, "silent mixtures")
_slope(_s, _x * _mask, 30.0, "silent mixtures")
_opposite = torch.stack([_x[:, 0], -_x[:, 0], 0 * _x[:, 0]], 1)
_right(_s[:, :3], _opposite, 30.0, "mixtures that cancel, and silence")
_right(0 * _s, _x, 30.0, "silent outputs")
_slope(0 * _s, 0 * _x, 30.0, "all silent")
_whole = torch.randint(-5, 6, (2, 5, 12), generator=_generator).float()
_whole[:, 2] = 0
_right(_whole, torch.stack([_whole[:, [0, 3]].sum(1), _whole[:, [1, 4]].sum(1)], 1), 25.0,
       "a silent output among others")
_twins = _whole[:, [0, 0, 1, 1]]
_right(_twins, torch.stack([_twins[:, [0, 2]].sum(1)] * 2, 1), 25.0, "twins")
_right(_s.mT.contiguous().mT, _x.flip(1), 30.0, "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * _s, _size * _x, 30.0, f"signals of {_size:g}")
_s, _x = _parts(2, 4, 2, 30, 0.3)
for _edge, _level, (_s, _x) in edges.mutated(_s, _x):
    _right(_s, _x, 30.0, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: pieces that add up, and how many they are
#
# In section 14b.6 each output gets an equal share of what is missing. With weights $w_m \ge 0$ the nearest outputs that add up, if a change of output $m$ counts as $1 / w_m$ (and an output of weight 0 must not change at all), are
#
# $$ \hat s_m \leftarrow \hat s_m + \frac{w_m}{\sum_{m'} w_{m'}} \Bigl( \bar x - \sum_{m'} \hat s_{m'} \Bigr). $$
#
# The weights may differ from sample to sample. At a sample where *all* are 0 the shares are equal. What counts is their ratio: they may be as small as $10^{-25}$ or as large as $10^{25}$.
#
# Then write the evenness (14b.8), the sum of the outputs' levels over the root of the sum of their squares (a level is a root mean square over time), again with nothing added to the energies. It is 1 where all outputs are silent. Its gradient is finite always, and 0 for outputs that are silent.

# %%
# TASK 3 (5 points): pieces that add up, and how many they are
def adding_up(outputs, mixture, weights):
    """The nearest outputs that sum to the mixture: (..., output, time).

    outputs: (..., output, time). mixture: (..., time). weights: 0 or more, of any shape that can be
    broadcast to that of the outputs, such as (output, 1). Differentiable.
    """
    ### BEGIN SOLUTION
    weights = weights.double().expand(outputs.shape)
    total = weights.sum(-2, keepdim=True)
    share = torch.where(total > 0, weights / torch.where(total > 0, total, 1.0),
                        1 / outputs.shape[-2])
    missing = (mixture - outputs.sum(-2)).unsqueeze(-2)
    return outputs + share.to(outputs.dtype) * missing
    ### END SOLUTION


def evenness(outputs):
    """1 for one output, sqrt(M) for M alike: (..., output, time) to (...). Differentiable."""
    ### BEGIN SOLUTION
    energy = outputs.double().square().mean(-1)                     # (..., output)
    heard = energy > 0
    levels = torch.where(heard, torch.where(heard, energy, 1.0).sqrt(), 0.0)
    total = energy.sum(-1)
    any_heard = total > 0
    ratio = levels.sum(-1) / torch.where(any_heard, total, 1.0).sqrt()
    return torch.where(any_heard, ratio, 1.0).to(outputs.dtype)
    ### END SOLUTION

# %%
# CHECK 3
s = torch.tensor([[1.0, 2.0, 0.0], [3.0, -1.0, 0.0]])  # (output, time)
x = torch.tensor([8.0, 1.0, 6.0])
found = adding_up(s, x, torch.ones(2, 1))
assert found.shape == (2, 3) and torch.allclose(found, torch.tensor([[3.0, 2, 3], [5, -1, 3]])), (
    f"missing are 4, 0 and 6, half of it for each: [[3, 2, 3], [5, -1, 3]]; you say {found}")
found = adding_up(s, x, torch.tensor([[SHARE], [1 - SHARE]]))
assert torch.allclose(found[:, 0], torch.tensor([1 + 4 * SHARE, 3 + 4 * (1 - SHARE)])), (
    f"{SHARE} of the missing 4 for the first, {1 - SHARE} for the second; you say {found[:, 0]}")
found = adding_up(s, x, torch.tensor([[0.0, 1, 0], [1e-25, 0, 0]]))
assert torch.allclose(found, torch.tensor([[1.0, 2, 3], [7, -1, 3]])), (
    f"weights 0 and 1e-25: the second takes all; 0 and 0: half each; you say {found}")
assert float(evenness(torch.tensor([[0.0, 0], [3, 4]]))) == 1, "one output: 1"
found = float(evenness(torch.ones(OUTPUTS, 5)))
assert abs(found - OUTPUTS ** 0.5) < 1e-5, f"{OUTPUTS} alike: {OUTPUTS ** 0.5:.3f}; {found:.3f}"
found = float(evenness(torch.tensor([[3.0, 0, 0, 0], [-1, 1, 1, -1]])))
assert abs(found - 2.5 / 3.25 ** 0.5) < 1e-5, (
    f"levels 1.5 and 1: 2.5 / sqrt(3.25) = {2.5 / 3.25 ** 0.5:.4f}; you say {found:.4f}")
found = evenness(torch.zeros(2, 3, 5))
assert found.tolist() == [1, 1], f"silence: 1; you say {found}"
leaf = torch.tensor([[0.0, 0, 0], [1, 2, 3]], requires_grad=True)
evenness(leaf).backward()
assert leaf.grad.isfinite().all(), "a silent output: the gradient isn't finite"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _added(outputs, mixture, weights):
    outputs, mixture = outputs.double(), mixture.double()
    weights = weights.double() + torch.zeros(outputs.shape, dtype=torch.float64)
    total = weights.sum(-2, keepdim=True)
    share = torch.where(total == 0, torch.ones_like(weights), weights)
    share = share / share.sum(-2, keepdim=True)
    return outputs + share * (mixture - outputs.sum(-2)).unsqueeze(-2)

def _add(outputs, mixture, weights, message, level=1.0):
    given = outputs, mixture, weights
    before = [one.clone() for one in given]
    found = adding_up(*given)
    assert truth.equal(list(given), before), "adding_up changes its arguments"
    assert found.dtype == outputs.dtype, f"wrong precision: {message}"
    message = f"{message}, outputs {tuple(outputs.shape)}, weights {tuple(weights.shape)}"
    assert truth.close(found.double() / level, _added(*before) / level, rtol=1e-4, atol=2e-5), (
        f"wrong outputs: {message}")
    still = (before[2].expand(outputs.shape) == 0) & (before[2].expand(outputs.shape).sum(
        -2, keepdim=True) > 0)
    assert truth.equal(found[still], before[0][still]), f"an output of weight 0 moved: {message}"

def _even(outputs, message):
    before = outputs.clone()
    found = evenness(outputs)
    assert truth.equal(outputs, before), "evenness changes its argument"
    assert found.dtype == outputs.dtype, f"wrong precision: {message}"
    expected, slopes = [], []
    for one in before.double().reshape(-1, *outputs.shape[-2:]):
        levels = [math.sqrt(math.fsum(v * v for v in row) / len(row)) for row in one.tolist()]
        size = math.sqrt(math.fsum(v * v for v in levels))
        expected.append(sum(levels) / size if size else 1.0)
        by_level = [(1 / v - sum(levels) / size ** 2) / size / one.shape[-1] if v else 0.0
                    for v in levels]
        slopes.append(torch.tensor(by_level, dtype=torch.float64)[:, None] * one)
    expected = torch.tensor(expected, dtype=torch.float64).reshape(outputs.shape[:-2])
    message = f"{message}, outputs {tuple(outputs.shape)}"
    assert truth.close(found, expected, rtol=1e-4, atol=1e-5), f"wrong evenness: {message}"
    leaf = before.clone().requires_grad_()
    evenness(leaf).sum().backward()
    slope, level = torch.stack(slopes).reshape(outputs.shape), float(before.abs().max()) or 1.0
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all()), (
        f"no gradient, or not a finite one: {message}")
    assert truth.close(leaf.grad.double() * level, slope * level, rtol=1e-2, atol=1e-4), (
        f"wrong gradient: {message}")

_generator = hidden.generator("outputs")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

for _case in range(4):
    _front = [(), (3,), (2, 3), (1,)][_case]
    _count = hidden.integer(f"count {_case}", 2, 6)
    _time = hidden.integer(f"time {_case}", 3, 20)
    _s, _x = _draw(*_front, _count, _time), _draw(*_front, _time)
    for _shape in ((_count, 1), (*_front, _count, _time), (*_front, _count, 1), (1, 1)):
        _w = torch.rand(_shape, generator=_generator)
        _add(_s, _x, _w, "weights of all shapes")
    _add(_s, _x, (_w > 0.5) * torch.rand(_s.shape, generator=_generator).round(), "0 and 1")
    _even(_s * torch.rand(_count, 1, generator=_generator) ** 3, "outputs of all levels")
_s, _x = _draw(2, 4, 15), _draw(2, 15)
_add(_s, _x, _s.abs(), "weights of the outputs' size")
_add(_s, _x, 0 * _s, "no weights at all")
_add(_s, _x, torch.tensor([0.0, 0, 1, 0])[:, None], "one takes all")
_add(_s[:, :1], _x, torch.rand(1, 1, generator=_generator), "one output")
_add(_s[:, :1], _x, torch.zeros(1, 1), "one output of weight 0")
_add(_s - _s.sum(1, keepdim=True) / 4 + _x[:, None] / 4, _x, _s.abs(), "they add up already")
for _size in (1e-25, 1e25):
    _add(_s, _x, _size * torch.rand(4, 1, generator=_generator), f"weights of {_size:g}")
    _even(_size * _s, f"outputs of {_size:g}")
_add(_s, _x, torch.tensor([1e-25, 1.0, 0, 1e-20])[:, None], "weights large and small")
_add(_s.mT.contiguous().mT, _x.flip(0), torch.rand(4, 1, generator=_generator), "not contiguous")
_leaf, _twin = (_s.clone().requires_grad_() for _ in range(2))
(adding_up(_leaf, _x, _s.abs()) * _s.flip(1)).sum().backward()
(_added(_twin, _x, _s.abs()) * _s.flip(1)).sum().backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), (
    "adding_up: the gradient by the outputs is wrong")
_some = torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 0]])[..., None]
_even(_s * _some, "silent outputs, and a silent example")
_even(_s * torch.tensor([1.0, 1e-6, 0, 1])[:, None], "an output that can hardly be heard")
_even(_s[:, :1], "one output")
_even(0 * _s, "silence")
_w = torch.rand(2, 4, 15, generator=_generator)
for _edge, _level, (_s, _x, _w) in edges.mutated(_s, _x, _w):
    _add(_s, _x, _w, _edge, _level)
    _even(_s, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: in time with the beat
#
# A mixture of mixtures in which two songs play *together* (section 14b.11). The piece of song $a$ is given: `length` samples from `start` on. Where should the piece of song $b$ start? With beats $p$ of $a$ that lie in the piece (`start` itself is in it, `start + length` isn't), *all* beats $q$ of $b$, and $j$ the start in $b$, count how far each beat of $a$ is from the nearest one of $b$,
#
# $$ \sum_p \min_q \bigl| (p - \text{start}) - (q - j) - \text{late} \bigr| , $$
#
# and take the smallest $j$ from $0 \ldots$ `last` that makes the sum least. `late` shifts $a$ against the beat: so many samples its beats come after those of $b$. Where there is nothing to compare, $j$ is 0. Samples are whole numbers, and `last` may be so large that nobody can try every $j$: think about where a sum of such distances can be least.
#
# Then cut out both pieces. What lies beyond a song's end is silence. The piece of $b$ is made `decibels` softer than that of $a$, by its energy; where one of them is silent, both stay as they are.

# %%
# TASK 4 (5 points): in time with the beat
def start_in_time(beats_a, beats_b, start, length, last, late):
    """The sample of song b, a whole number (int) from 0 to last, where its piece starts.

    beats_a, beats_b: int64 (beat,), ascending, maybe none. start, length, last: 0 or more (length
    at least 1). late: any whole number.
    """
    ### BEGIN SOLUTION
    p = beats_a[(beats_a >= start) & (beats_a < start + length)] - start - late
    if not len(p) or not len(beats_b):
        return 0
    # between two starts at which some beats coincide the sum only bends down
    starts = (beats_b[None] - p[:, None]).flatten()
    starts = starts[(starts >= 0) & (starts <= last)].tolist()
    starts = torch.tensor(sorted({0, last, *starts}))
    away = (p[None, :, None] + starts[:, None, None] - beats_b).abs().amin(-1).sum(-1)
    return int(starts[(away == away.min()).int().argmax()])
    ### END SOLUTION


def pair_of_pieces(a, b, start, other, length, decibels):
    """Both pieces, (2, length): a from `start` on, b from `other` on, softer than a's.

    a, b: (time,), floats, any lengths. start, other: 0 or more, maybe behind the end. decibels: by
    which b's piece is softer; below 0: louder.
    """
    ### BEGIN SOLUTION
    first, second = (F.pad(song[at:at + length], (0, length - len(song[at:at + length])))
                     for song, at in ((a, start), (b, other)))
    energies = first.double().square().sum(), second.double().square().sum()
    if min(energies) > 0:
        gain = (energies[0] / energies[1]).sqrt() * 10 ** (-decibels / 20)
        second = (gain * second.double()).to(b.dtype)
    return torch.stack([first, second])
    ### END SOLUTION

# %%
# CHECK 4
a = torch.arange(10) * BEAT + 7  # beats
b = torch.arange(20) * BEAT + 30
found = start_in_time(a, b, 100, 300, 500, 0)
assert type(found) is int, f"a whole number (int); you give {type(found)}"
assert 0 <= found < BEAT, f"equal beats: within the first beat of b; you say {found}"
away = [min(abs((p - 100) - (q - found)) for q in b.tolist()) for p in a.tolist() if 100 <= p < 400]
assert sum(away) == 0, f"all beats can coincide; yours are {away} samples apart"
half = start_in_time(a, b, 100, 300, 500, BEAT // 2)
assert (half - found) % BEAT == BEAT // 2, (
    f"half a beat late: {BEAT // 2} samples further in b; you say {half} after {found}")
found = start_in_time(torch.tensor([10, 50]), torch.tensor([20, 90]), 0, 50, 200, 0)
assert found == 10, f"50 isn't in a piece of 50 samples: 10 meets 20 at start 10; you say {found}"
found = start_in_time(torch.tensor([10]), torch.tensor([900]), 0, 50, 200, 0)
assert found == 200, f"900 is far: as near as the last start allows, 200; you say {found}"
assert start_in_time(a, b[:0], 100, 300, 500, 0) == 0, "b has no beats: 0"
x, y = torch.randn(2, 400, generator=torch.Generator().manual_seed(4))
pair = pair_of_pieces(x, y, 50, 20, 100, LEVEL)
assert pair.shape == (2, 100) and torch.equal(pair[0], x[50:150]), "a's piece stays as it is"
found = float(10 * torch.log10(pair[0].square().sum() / pair[1].square().sum()))
assert abs(found - LEVEL) < 1e-3, f"b should be {LEVEL} dB softer; it is {found:.2f} dB"
ratio = pair[1] / y[20:120]
assert torch.allclose(ratio, ratio[:1].expand(100), rtol=1e-3), "b's piece starts at its sample 20"
pair = pair_of_pieces(x, y, 350, 0, 100, 0.0)
assert pair.shape == (2, 100) and (pair[0, 50:] == 0).all(), "beyond the end of a: silence"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _away(p, q, j):
    """The sum for one start, with numbers of Python."""
    return sum(min(abs(one - (other - j)) for other in q) for one in p)

def _start(a, b, start, length, last, late, message, every=True):
    before = a.clone(), b.clone()
    found = start_in_time(a, b, start, length, last, late)
    assert truth.equal([a, b], list(before)), "start_in_time changes its arguments"
    p = [one - start - late for one in before[0].tolist() if start <= one < start + length]
    q = before[1].tolist()
    if every:
        tried = range(last + 1)
    else:
        tried = sorted({0, last, *(k for one in p for other in q for k in range(
            other - one - 1, other - one + 2) if 0 <= k <= last)})
    expected = min(tried, key=lambda j: (_away(p, q, j), j)) if p and q else 0
    message = f"{message}, start {start}, length {length}, last {last}, late {late}"
    assert type(found) is int, f"a whole number (int) is asked for: {message}"
    assert found == expected, f"wrong start: {message}"

def _pair(a, b, start, other, length, decibels, message, level=1.0):
    before = a.clone(), b.clone()
    found = pair_of_pieces(a, b, start, other, length, decibels)
    assert truth.equal([a, b], list(before)), "pair_of_pieces changes its arguments"
    assert found.dtype == a.dtype, f"wrong precision: {message}"
    pieces = []
    for song, at in zip(before, (start, other)):
        song = song.double().tolist()[at:at + length]
        pieces.append(song + [0.0] * (length - len(song)))
    energies = [math.fsum(v * v for v in piece) for piece in pieces]
    if min(energies) > 0:
        gain = math.sqrt(energies[0] / energies[1]) * 10 ** (-decibels / 20)
        pieces[1] = [gain * v for v in pieces[1]]
    expected = torch.tensor(pieces, dtype=torch.float64)
    message = f"{message}, starts {start} and {other}, length {length}, {decibels:g} dB"
    assert truth.close(found.double() / level, expected / level, rtol=1e-4, atol=1e-5), (
        f"wrong pieces: {message}")
    found.zero_()
    assert truth.equal([a, b], list(before)), "the pieces share memory with the songs"

_generator = hidden.generator("songs")
def _beats(count, apart, first=0, jitter=2):
    beats = first + apart * torch.arange(count) + torch.randint(0, jitter + 1, (count,),
                                                                generator=_generator)
    return beats.unique()

for _case in range(6):
    _apart = hidden.integer(f"beat {_case}", 8, 20)
    _a = _beats(9, _apart, hidden.integer(f"a {_case}", 0, 30))
    _b = _beats(hidden.integer(f"count {_case}", 1, 12),
                _apart + hidden.integer(f"b {_case}", -3, 4),
                hidden.integer(f"first {_case}", 0, 60))
    for _late in (0, _apart // 2, -hidden.integer(f"late {_case}", 1, 9)):
        _start(_a, _b, hidden.integer(f"start {_case}", 0, 40),
               hidden.integer(f"length {_case}", 30, 90),
               hidden.integer(f"last {_case}", 30, 150), _late, "two songs")
_a, _b = torch.tensor([3, 10, 30, 41]), torch.tensor([5, 14, 33, 70])
for _first, _length in ((3, 7), (3, 8), (4, 6), (0, 3), (10, 1), (42, 9)):
    _start(_a, _b, _first, _length, 60, 0, "beats at the piece's ends")
_start(_a, torch.tensor([200]), 0, 50, 60, 0, "all beats of b far away")
_start(_a + 300, _b, 300, 50, 60, 90, "all beats of b too early")
_start(_a, _b, 0, 50, 0, 0, "one start only")
_start(torch.tensor([20]), torch.tensor([60, 80, 100]), 0, 50, 90, 0, "three starts as good")
_start(torch.tensor([10, 14]), torch.tensor([40]), 0, 50, 90, 0, "a range of starts as good")
_start(torch.tensor([10, 15, 30]), torch.tensor([10, 31]), 0, 50, 70, 0, "one far, two near")
_start(torch.tensor([0, 12]), torch.tensor([1, 11, 30]), 0, 50, 40, 0, "two distances or one")
_start(_a[:0], _b, 0, 50, 60, 0, "a without beats")
_start(_a, _b[:0], 0, 50, 60, 5, "b without beats")
_x, _y = torch.randn(2, 60, generator=_generator)
for _first, _other, _length in ((0, 0, 60), (10, 20, 30), (50, 5, 20), (5, 50, 20), (0, 100, 8),
                                (100, 0, 8), (100, 100, 8), (59, 0, 1)):
    _pair(_x, _y, _first, _other, _length, hidden.real(f"level {_first}", -9.0, 12.0), "two songs")
_pair(_x, 0.1 * _y[:20] + 2, 0, 3, 40, 6.0, "songs of different lengths")
_pair(_x, torch.cat([100 * _y[:20], _y]), 0, 20, 30, 3.0, "b is louder elsewhere")
_pair(torch.stack([_x, _y], 1)[:, 0], _y.flip(0), 3, 4, 30, 3.0, "not contiguous")
for _size in (1e-25, 1e25):
    _pair(_size * _x, _y, 0, 0, 40, 3.0, f"a of {_size:g}", _size)
    _pair(_x, _size * _y, 0, 0, 40, 3.0, f"b of {_size:g}")
_pair(1e-25 * _x, 1e20 * _y, 0, 0, 40, 3.0, "a soft, b loud", 1e-25)
_pair(0 * _x, _y, 0, 0, 40, 3.0, "a silent")
_pair(_x, 0 * _y, 0, 0, 40, 3.0, "b silent")
for _edge, _level, (_x, _y) in edges.mutated(_x, _y):
    _pair(_x, _y, 1 if len(_x) > 2 else 0, 0, 40, 4.0, _edge, _level)
edges.case("huge")
_far = torch.tensor([2 ** 40 + 17, 2 ** 40 + 70000, 2 ** 40 + 100001])
_start(_far, _beats(12, 30000, 2 ** 41 + 5), 2 ** 40, 2 ** 20, 2 ** 42, 0, "samples of days", False)
_start(_beats(200, 22050, 0, 900), _beats(150, 20000, 0, 900), 0, 2 ** 17, 2 ** 21, 300,
       "songs of minutes", False)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: the oracle
#
# Outputs have no names. The oracle knows the stems, and gives each output to one of them, so that the squared error, summed over stems and samples, is least. Each stem gets at least one output, if there are as many outputs as stems; with fewer outputs there is no such rule. Of equally good ways the first one counts, where `owners` is read as a number, as in task 2 (what differs by less than $10^{-9}$ of the stems' and outputs' energies is equally good).
#
# Then score each stem's estimate, the sum of its outputs, by SI-SDR less the SI-SDR of the mixture (the sum of all stems). For SI-SDR take chapter 3's,
#
# $$ 10 \log_{10} \frac{\lVert \alpha s \rVert^2}{\lVert \alpha s - \hat s \rVert^2}, \qquad \alpha = \frac{\langle \hat s, s \rangle}{\lVert s \rVert^2}, $$
#
# without taking means off, and hold **each of the two** between −60 and 60 dB before you subtract. Where the stem, its estimate or the mixture is silent, the score is NaN. Again loudness doesn't matter.

# %%
# TASK 5 (6 points): the oracle
def name_outputs(outputs, stems):
    """The owner of each output, int64 (output,), and each stem's SI-SDRi in dB, (stem,).

    outputs: (output, time), stems: (stem, time), at least one of each; up to a few thousand ways.
    """
    ### BEGIN SOLUTION
    y, s = outputs.double(), stems.double()
    count, M = len(s), len(y)
    ways = torch.tensor(list(itertools.product(range(count), repeat=M)))
    A = F.one_hot(ways, count).mT.double()                          # (way, stem, output)
    if M >= count:
        filled = (A.sum(-1) > 0).all(-1)
        ways, A = ways[filled], A[filled]
    # a stem's error for each set of outputs, by products of signals
    G, C = y @ y.T, s @ y.T
    errors = (torch.einsum("wsm,mn,wsn->w", A, G, A) - 2 * (A * C).sum((1, 2))
              + s.square().sum())
    near = 1e-9 * (s.square().sum() + y.square().sum())
    owners = ways[(errors <= errors.min() + near).int().argmax()]
    estimates = F.one_hot(owners, count).mT.double() @ y

    def si_sdr(estimate):
        energy = s.square().sum(-1)
        target = ((estimate * s).sum(-1) / energy)[:, None] * s
        ratio = target.square().sum(-1) / (target - estimate).square().sum(-1)
        return (10 * torch.log10(ratio)).clamp(-60, 60)

    mixture = s.sum(0).expand_as(s)
    gains = si_sdr(estimates) - si_sdr(mixture)
    silent = torch.stack([(one == 0).all(-1) for one in (s, estimates, mixture)]).any(0)
    return owners, gains.masked_fill(silent, math.nan).to(outputs.dtype)
    ### END SOLUTION

# %%
# CHECK 5
s = torch.randn(3, 500, generator=torch.Generator().manual_seed(5))
half = torch.rand(500, generator=torch.Generator().manual_seed(6))
y = torch.stack([s[1] * half, s[2], s[0], s[1] * (1 - half)])
owners, gains = name_outputs(y, s)
assert owners.dtype == torch.int64 and owners.tolist() == [1, 2, 0, 1], (
    f"outputs are half of stem 1, stem 2, stem 0, the rest of 1; you say {owners}")
assert gains.shape == (3,) and (gains > 60).all(), (
    f"perfect: 60 dB less what the mixture has, which is below 0; you say {gains}")
owners, gains = name_outputs(s[:2] + 0.1 * s[[2, 2]], s)
assert owners.tolist() == [0, 1], f"two outputs for three stems: 0 and 1; you say {owners}"
assert gains[:2].isfinite().all() and gains[2].isnan(), f"stem 2 has no estimate: NaN; {gains}"
owners, _ = name_outputs(torch.stack([s[0], 0 * s[0], s[1], s[2]]), s)
assert owners.tolist() == [0, 0, 1, 2], f"a silent output: to the first stem; you say {owners}"
owners, _ = name_outputs(torch.stack([s[0], s[0], s[0]]), s)
assert sorted(owners.tolist()) == [0, 1, 2], f"no stem goes without; you say {owners}"
a, b = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
_, gains = name_outputs(torch.stack([5 * a + b, b]), torch.stack([a, b]))
assert torch.allclose(gains, torch.tensor([10 * math.log10(25), 60.0]), atol=1e-3), (
    f"25 to 1, where the mixture has 1 to 1; and a perfect one: 13.98 and 60 dB; you say {gains}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _score(estimate, s):
    """SI-SDR of two lists of numbers, held between -60 and 60; None where one is silent."""
    dot = lambda a, b: math.fsum(v * w for v, w in zip(a, b))
    if not any(estimate) or not any(s):
        return None
    alpha = dot(estimate, s) / dot(s, s)
    above = alpha ** 2 * dot(s, s)
    below = math.fsum((alpha * w - v) ** 2 for v, w in zip(estimate, s))
    if above <= 1e-30 * dot(estimate, estimate):
        return -60.0
    return min(60.0, max(-60.0, 10 * math.log10(above / below))) if below else 60.0

def _named(outputs, stems):
    level = float(torch.cat([outputs, stems]).double().abs().max()) or 1.0
    y, s = outputs.double() / level, stems.double() / level
    near = 1e-9 * float(y.square().sum() + s.square().sum())
    sums = {}
    for used in itertools.product((0, 1), repeat=len(y)):
        total = (torch.tensor(used, dtype=torch.float64)[:, None] * y).sum(0)
        sums[used] = (s - total).square().sum(-1).tolist()
    ways = list(itertools.product(range(len(s)), repeat=len(y)))
    if len(y) >= len(s):
        ways = [way for way in ways if len(set(way)) == len(s)]
    errors = [sum(sums[tuple(int(owner == n) for owner in way)][n] for n in range(len(s)))
              for way in ways]
    owners = next(way for way, error in zip(ways, errors) if error <= min(errors) + near)
    gains, mixture = [], s.sum(0).tolist()
    for n, stem in enumerate(s.tolist()):
        estimate = sum((y[m] for m, owner in enumerate(owners) if owner == n), 0 * y[0]).tolist()
        ours, theirs = _score(estimate, stem), _score(mixture, stem)
        gains.append(math.nan if ours is None or theirs is None else ours - theirs)
    return torch.tensor(owners), torch.tensor(gains, dtype=torch.float64)

def _right(outputs, stems, message):
    before = outputs.clone(), stems.clone()
    owners, gains = name_outputs(outputs, stems)
    wanted, expected = _named(*before)
    message = f"{message}: {len(outputs)} outputs, {len(stems)} stems"
    assert truth.equal([outputs, stems], list(before)), "the function changes its arguments"
    assert owners.dtype == torch.int64 and gains.dtype == outputs.dtype, f"wrong type, {message}"
    assert truth.equal(owners, wanted), f"wrong owners, {message}"
    assert truth.has_shape(gains, len(stems)), f"one score a stem, {message}"
    assert truth.equal(gains.isnan(), expected.isnan()), f"NaN in other places, {message}"
    assert truth.close(gains.nan_to_num(), expected.nan_to_num(), rtol=1e-3, atol=2e-2), (
        f"wrong scores, {message}")

_generator = hidden.generator("stems")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

for _case, (_count, _stems) in enumerate(((1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (5, 4), (2, 4),
                                          (1, 3), (6, 2))):
    _time = hidden.integer(f"time {_case}", 20, 60)
    _s = _draw(_stems, _time) * (0.2 + torch.rand(_stems, 1, generator=_generator))
    _own = torch.randint(_stems, (_count,), generator=_generator)
    _y = _s[_own] * torch.rand(_count, _time, generator=_generator)
    _right(_y + 0.1 * _draw(_count, _time), _s, "parts of stems")
    if _case % 3 == 1:
        _right(_draw(_count, _time), _s, "outputs of something else")
_s = _draw(3, 40)
_y = torch.stack([_s[0] + 0.5 * _s[1], 0.5 * _s[1], _s[2] + 0.3, 0.1 * _s[0]])
_right(3 * _y + 1, _s + 0.5, "an offset, and too loud")
_right(_y, _s * torch.tensor([1.0, 10, 0.01])[:, None], "stems of different loudness")
_right(0.001 * _y, _s, "outputs too soft")
_right(-_y, _s, "the wrong sign")
_right(_s.roll(1, 0), _s, "perfect")
_right(_y, _s * torch.tensor([1.0, 0, 1])[:, None], "a silent stem")
_right(_y[:2], _s * torch.tensor([1.0, 0, 1])[:, None], "a silent stem, too few outputs")
_right(_y, 0 * _s, "all stems silent")
_right(0 * _y, _s, "all outputs silent")
_right(_y, torch.stack([_s[0], -_s[0], 0 * _s[0]]), "stems that cancel")
_whole = torch.randint(-5, 6, (4, 16), generator=_generator).float()
_right(torch.stack([_whole[0], _whole[0], 0 * _whole[0], _whole[1]]), _whole[:2], "twins")
_right(torch.stack([0 * _whole[0]] * 2 + [_whole[1]]), _whole[:2], "two silent outputs")
_right(torch.stack([_whole[0] + _whole[1], 0 * _whole[0]]), torch.stack([_whole[0]] * 2),
       "equal stems")
_right(torch.stack([0.5 * _s[0], 0.5 * _s[0]]), _s, "two outputs of one stem, too few outputs")
_right(torch.stack([0.6 * _s[0], 0.4 * _s[0], _s[2]]), _s * torch.tensor([1.0, 0, 1])[:, None],
       "an output that a silent stem gets")
_right(_s[2:], _s, "the last stem alone")
_at = torch.eye(4)
_right(torch.stack([_at[2], _at[0] + _at[1]]), _at[:2], "an estimate orthogonal to its stem")
_right(_y.mT.contiguous().mT, _s.flip(0), "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * _y, _size * _s, f"signals of {_size:g}")
for _edge, _level, (_y, _s) in edges.mutated(_y, _s + 0.2 * _draw(3, 40), short=2):
    _right(_y, _s, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: what is an oracle's praise worth?
#
# Chapter 14b scores MixIT's outputs by an oracle. But who says that the praise is for the outputs, and not for the oracle? Give it pieces that *nobody learned*: bands of frequency, cut so that each has an equal share of the mixture's energy; or bins and frames dealt out by chance. Beside them the chapter's trained network. The cell below makes the pieces, finds the owners, and scores.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table of SI-SDRi, mean over stems: 4, 6, 8 and 10 bands, 8 pieces by chance, the network's 8 outputs; each with owners found on the very seconds that are scored, and with owners found on the *other* half of the excerpt,
# - in how many of your songs 8 bands are ahead of the network, and what the second column takes from either,
# - a reading: what do bands of equal energy know about music, without having learned anything? What follows for a claim such as "our network separates, as the oracle's score shows"? Which three baselines should such a table have?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: pieces that nobody learned, and an oracle; add your own cells
RATE = 16_000  # Hz


def excerpt(number):
    """Six seconds of a song of the band, mono: its four stems, (4, time)."""
    from course_lib.data import STEMS, open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 6.0)
    return resample(song.sources(STEMS).mean(1), song.rate, RATE)


def sorted_into(mixture, count, group):
    """Pieces that add up to the mixture: (count, time). group: X (bin, frame) -> piece numbers."""
    from course_lib.spectral import istft, stft
    X = stft(mixture[None], 1024, 256)[0]
    numbers = group(X).expand(X.shape)
    return torch.stack([istft((X * (numbers == m))[None], 1024, 256, len(mixture))[0]
                        for m in range(count)])


def bands(mixture, count):
    """Bands of frequency of about equal energy."""
    def group(X):
        share = X.abs().square().sum(1).cumsum(0) / X.abs().square().sum()
        return (share * count).long().clamp_max(count - 1)[:, None]
    return sorted_into(mixture, count, group)


def by_chance(mixture, count, seed=0):
    """Bins and frames dealt out by chance."""
    draw = torch.Generator().manual_seed(seed)
    return sorted_into(mixture, count, lambda X: torch.randint(count, X.shape, generator=draw))


def learned(mixture):
    """The eight outputs of chapter 14b's network."""
    from course_lib.experiments.mixit import separate_sources
    return separate_sources(mixture[None], RATE)[:, 0]


def praise(pieces, stems, found_on, scored_on):
    """SI-SDRi in dB, mean over the stems that have one; found_on, scored_on: slices of time."""
    from course_lib.metrics import si_sdr
    from course_lib.mixit import best_partition
    A = best_partition(pieces[:, found_on], stems[:, found_on])     # (stem, piece)
    s, y = stems[:, scored_on], pieces[:, scored_on]
    return float((si_sdr(A @ y, s) - si_sdr(s.sum(0).expand_as(s), s)).nanmean())

# For example:  stems = excerpt(0)
#               halves = slice(0, 3 * RATE), slice(3 * RATE, None)
#               pieces = bands(stems.sum(0), 8)
#               praise(pieces, stems, halves[1], halves[1]), praise(pieces, stems, *halves)

# %% [markdown]
# <!-- TASK 6 (5 points): what is an oracle's praise worth? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, how pieces are made and how many, what the oracle minimises, what is scored; and the two columns differ in nothing but the seconds on which owners are found.
# - 1 point: the table with plausible numbers, on more than one song with the number of songs in which 8 bands are ahead of the network, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: 8 bands that nobody learned are ahead of the network in 7 of 8 songs, by 1.6 dB; so the oracle's score says what the pieces *allow* somebody who knows the stems, not that a network has learned to separate. Bands of equal energy know one thing about music, that instruments have registers: the bass lies in the lowest bands, cymbals in the highest, and cuts by energy put many of the bands where much is going on.
#   Pieces by chance allow nothing, 2 dB *below* the mixture. And the oracle fits what it sees: with owners from the other half, 8 bands lose 2.2 dB, 10 bands 3.1 dB, the network 3.4 dB, and falls below the mixture. A table should have as many unlearned pieces as the network has outputs, pieces by chance, and owners found elsewhere (by other seconds, or by a tagger); the mixture, silence or an ideal mask beside them count, too. An answer with the right order in which the reason or the consequence is missing gets one point.
# - 1 point: a limit, such as: 3 seconds and eight songs of one band, whose instruments keep to their registers; the oracle's least squared error isn't the best SI-SDR (with 4 or 6 bands a song comes out 8 dB below the mixture, as a stem gets a band that it is hardly in); stems that are silent in a half have no score; another network, trained longer, could be ahead; nobody has listened.
#
# For comparison, means over the first eight test songs, with the cell above: owners found on the second half, 11 to 14 s, or on the first, 8 to 11 s; scored on the second (SI-SDRi in dB, mean over stems).
#
# | | the same seconds | the other half |
# |---|---|---|
# | 4 bands | 0.84 | 1.48 |
# | 6 bands | 0.65 | -0.99 |
# | 8 bands | 3.70 | 1.52 |
# | 10 bands | 3.83 | 0.76 |
# | 8 pieces by chance | -2.09 | -3.37 |
# | the network's 8 outputs | 2.10 | -1.29 |
# <!-- END RUBRIC -->
