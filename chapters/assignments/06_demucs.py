# %% [markdown]
# # Assignment 6 · Strides, shifts and scales
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 6, but none is a copy of it: you count what the strides of a network leave over, take from a network the habit of minding where a song
# begins, and change weights without changing what they compute. Read what is asked for, above all at the edges
# (a song of one sample, a kernel that the stride doesn't divide, weights of any size).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.demucs` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input.

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
# samples of a song
LENGTH = variation.integer("length", 90, 140)
STRIDE = variation.choice("stride", [3, 4, 5])  # of an upsampling layer
# samples that the copies of a song are late by
SHIFTS = variation.choice("shifts", [[0, 3, 5], [1, 4, 6], [2, 3, 7]])
# how many times smaller a layer's weights are
SMALLER = variation.choice("smaller", [10.0, 20.0, 50.0])
BITS = variation.choice("bits", [3.0, 4.0, 5.0])  # a number, on the average

# %% [markdown]
# ## Task 1: what the strides leave over
#
# The layers of a U-Net differ in kernel and stride: `layers` is a list of (kernel, stride, context), outermost first; each stride is at most its kernel.
#
# - *Down*, layer by layer: a convolution of `kernel` steps and `stride`, without padding.
# - *Up*, layer by layer in the reverse order: a convolution of `context` steps and stride 1, without padding, then a transposed convolution of the layer's `kernel` and `stride`.
#
# A convolution gives nothing where fewer steps are left than its kernel has. Two questions about a song of `length` samples:
#
# 1. Nothing is put around it. How many of its last samples does no innermost step hear? They may be lost at any of the layers, and a step that an inner layer leaves over stands for many samples.
#    (All of them, where there is no innermost step at all.)
# 2. Now zeros are put around it, as few as possible, so that no convolution on the way *down* has a rest and the network's *output* has `length` samples or more. Every convolution
#    has to give at least one step. How many zeros stand before the song and how many after it (where their number is odd, one more after it), and how long is the output?

# %%
# TASK 1 (5 points): what the strides leave over
def unheard(length, layers):
    """How many of the last samples reach no innermost step, a whole number from 0 to length.

    length: samples, 1 or more; long songs take no longer than short ones. layers: (kernel, stride,
    context) from the outermost to the innermost; none of them: 0.
    """
    ### BEGIN SOLUTION
    steps, reach, jump = length, 1, 1
    for kernel, stride, _context in layers:
        steps = (steps - kernel) // stride + 1 if steps >= kernel else 0
        reach, jump = reach + (kernel - 1) * jump, jump * stride
    return length - (steps - 1) * jump - reach if steps else length
    ### END SOLUTION


def padding(length, layers):
    """The fewest zeros before and after the song, and the length of the output.

    length, layers: as above. Returns three whole numbers.
    """
    ### BEGIN SOLUTION
    steps = length
    for kernel, stride, context in layers:                      # the output first, then further in
        steps = max(0, -((kernel - steps) // stride)) + 1 + context - 1
    padded = output = steps
    for kernel, stride, context in reversed(layers):
        padded = (padded - 1) * stride + kernel
        output = (output - context) * stride + kernel
    return (padded - length) // 2, (padded - length + 1) // 2, output
    ### END SOLUTION

# %%
# CHECK 1
found = unheard(20, [(8, 4, 1)])
assert found == 0, f"kernel 8, stride 4: steps at 0, 4, 8, 12 hear all 20 samples; you say {found}"
found = unheard(22, [(8, 4, 1)])
assert found == 2, f"two samples more make no fifth step: 2, you say {found}"
found = unheard(24, [(8, 4, 1), (2, 2, 1)])
assert found == 4, (
    f"5 steps, of which the second layer leaves one over, that alone hears 4 samples: 4; you say "
    f"{found}")
found = unheard(7, [(8, 4, 1)])
assert found == 7, f"7 samples are too few for a kernel of 8, no step hears any: 7; you: {found}"
found = padding(22, [(8, 4, 1)])
assert tuple(found) == (1, 1, 24), (
    f"kernel 8, stride 4, and 22 samples: 24 are needed, one zero on either side; you say {found}")
found = padding(LENGTH, [(8, 4, 3)])
assert sum(found[:2]) - (-LENGTH % 4) == 8, (
    f"a context of 3 costs 2 of the steps, 8 samples of the output; you add {sum(found[:2])} zeros "
    f"to {LENGTH} samples")
assert found[2] == LENGTH + (-LENGTH % 4), f"the output is as short as it can be; you: {found[2]}"
found = padding(1, [(8, 4, 3), (4, 2, 1)])
assert tuple(found) == (9, 10, 12), (
    f"a single sample: the transposed convolution needs a step, so that of context 3 reads 3, they "
    f"come from 4, made of 1 step; 1 step hears 8 + 3 * 4 = 20 samples; you say {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _down(length, layers):
    """Steps in the middle and the rests, or None where a convolution gives nothing."""
    rests = []
    for kernel, stride, _context in layers:
        if length < kernel:
            return None
        rests.append((length - kernel) % stride)
        length = (length - kernel) // stride + 1
    return length, rests

def _up(steps, layers):
    """Samples that come out, or None where a convolution gives nothing."""
    for kernel, stride, context in layers[::-1]:
        if steps < context:
            return None
        steps = (steps - context) * stride + kernel
    return steps

def _unheard(length, layers):
    """Counted: the last samples without which there would be as many innermost steps."""
    there = _down(length, layers)
    if there is None:
        return length
    lost = 0
    while length > lost + 1 and (_less := _down(length - lost - 1, layers)) and (
            _less[0] == there[0]):
        lost += 1
    return lost

def _padding(length, layers):
    """Tried: one sample more until all is well."""
    padded = length
    while True:
        there = _down(padded, layers)
        if there is not None and not any(there[1]):
            output = _up(there[0], layers)
            if output is not None and output >= length:
                return (padded - length) // 2, padded - length - (padded - length) // 2, output
        padded += 1

def _right(length, layers, message):
    before = [tuple(layer) for layer in layers]
    lost = unheard(length, layers)
    assert truth.equal(lost, _unheard(length, before)), f"wrong number of samples: {message}"
    around = padding(length, layers)
    assert type(around) in (tuple, list) and len(around) == 3, "padding returns three numbers"
    assert truth.equal(list(around), list(_padding(length, before))), f"wrong zeros: {message}"
    assert [tuple(layer) for layer in layers] == before, "the function changes the list of layers"
    return lost, *around

for _case in range(6):
    _layers = []
    for _layer in range(hidden.integer(f"depth {_case}", 1, 4)):
        _stride = hidden.choice(f"stride {_case} {_layer}", [1, 2, 3, 4])
        _layers.append((_stride + hidden.integer(f"more {_case} {_layer}", 0, 5), _stride,
                        hidden.choice(f"context {_case} {_layer}", [1, 1, 2, 3, 5])))
    for _length in {hidden.integer(f"length {_case} {_n}", 2, 3 ** _n) for _n in (1, 4, 6)}:
        _right(_length, _layers, f"{_length} samples through {_layers}")
_layers = [(8, 4, 3), (6, 3, 1), (4, 2, 3), (3, 3, 1)]
_sees, _jump = 8 + 5 * 4 + 3 * 12 + 2 * 24, 72
for _length in (_sees - 1, _sees, _sees + 1, _sees + _jump - 1, _sees + _jump):
    _found = _right(_length, _layers, f"{_length} samples through {_layers}")
assert all(type(_number) is int for _number in _found), "whole numbers (int) are asked for"
for _length in range(1, 9):
    edges.case("short")
    _right(_length, [(8, 4, 3), (8, 4, 3)], f"{_length} samples through two layers of context 3")
edges.case("tiny")
_right(1, [], "one sample, no layers")
_right(1, [(1, 1, 1)], "one sample through a kernel of one")
_far, _layers = 10 ** 12, [(8, 4, 1), (8, 4, 3), (5, 3, 1)]
_more = hidden.integer("more", 0, 10 ** 6)
edges.case("huge")
_right(_far + _more, _layers, f"{_far + _more} samples through {_layers}")
edges.case("other type")
_right(hidden.integer("listed", 50, 90), [[8, 4, 3], [5, 2, 2]], "layers as lists, not tuples")
edges.left_out("zeros inside", "lengths and kernels hold no zeros")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: the song begins a little later
#
# A network of total stride 64 doesn't give the same sound, a sample later, if the song comes a sample later. The shift trick takes the mean over several beginnings. Write it for any
# network and given shifts:
#
# - for each of the `shifts`, put that number of zeros before the song, and behind it so many that all copies have the same length, the song's and the largest shift,
# - separate every copy, and cut out of the estimates what belongs to the song,
# - take the mean.

# %%
# TASK 2 (5 points): the mean over shifts
def mean_over_shifts(model, mixture, shifts):
    """The mean of the estimates of the song that comes later by each of the shifts.

    model: a function of (batch, channel, time) that returns (batch, source, channel, time), for any
    number of examples, each on its own, and of samples; what it gives may depend on where a sample
    stands. mixture: (batch, channel, time). shifts: list of whole numbers, at least one, none below
    0, in any order; one that stands there twice counts twice. Returns (batch, source, channel,
    time), differentiable in the mixture.
    """
    ### BEGIN SOLUTION
    most, time, total = max(shifts), mixture.shape[-1], 0
    for shift in shifts:
        total = total + model(F.pad(mixture, (shift, most - shift)))[..., shift:shift + time]
    return total / len(shifts)
    ### END SOLUTION

# %%
# CHECK 2
song = torch.randn(2, 1, 24, generator=torch.Generator().manual_seed(1))  # (batch, channel, time)

def halves(x):  # a model that doesn't mind where a song begins
    return torch.stack([x, -0.5 * x], 1)  # (batch, source, channel, time)

def steps(x):  # one that does: each sample becomes the first of its group
    return x[..., ::STRIDE].repeat_interleave(STRIDE, -1)[..., :x.shape[-1]].unsqueeze(1)

found = mean_over_shifts(halves, song, SHIFTS)
assert found.shape == (2, 2, 1, 24), f"as long as the song: (2, 2, 1, 24); you: {found.shape}"
assert torch.allclose(found, halves(song), atol=1e-6), (
    "shifts change nothing for a model that treats every sample alike: is each estimate brought "
    "back to its place, and are all samples there, the last ones too?")
found = mean_over_shifts(steps, song, [0])
assert torch.allclose(found, steps(song), atol=1e-6), "the shift 0 is the model itself"
late = torch.cat([torch.zeros(2, 1, 1), song], -1)  # a sample later
first, second = (mean_over_shifts(steps, x, list(range(STRIDE))) for x in (song, late))
assert torch.allclose(second[..., STRIDE + 1:], first[..., STRIDE:], atol=1e-6), (
    f"with all of the shifts 0 to {STRIDE - 1} a model of stride {STRIDE} gives the same, a sample "
    "later, for the song a sample later")
lengths = []
mean_over_shifts(lambda x: (lengths.append(x.shape[-1]), halves(x))[1], song, SHIFTS)
assert set(lengths) == {24 + max(SHIFTS)}, (
    f"all copies have the song's 24 samples and {max(SHIFTS)} more; yours: {lengths}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _by_place(x):
    """Each sample times a number that depends on its place."""
    places = torch.arange(x.shape[-1], dtype=x.dtype)
    return torch.stack([x * (1 + 0.3 * torch.cos(0.7 * places)), x * places / 10], 1)

def _by_length(x):
    """Depends on the length, and on what stands where nothing plays."""
    return torch.stack([x - x.mean(-1, keepdim=True), x.cumsum(-1), x.flip(1)], 1)

def _strided(x):
    """A strided and a transposed convolution: stride 4, a stride's rest is lost."""
    weight = torch.linspace(-1, 1, 6, dtype=x.dtype).reshape(1, 1, 6)
    y = F.pad(x.reshape(-1, 1, x.shape[-1]), (1, 8))
    y = F.conv_transpose1d(F.conv1d(y, weight, torch.full_like(weight[0, 0, :1], 0.2), 4).relu(),
                           weight.flip(-1), stride=4)[..., 1:x.shape[-1] + 1]
    return torch.stack([y.reshape(x.shape), x - y.reshape(x.shape)], 1)

def _expected(model, mixture, shifts):
    """The same in float64, the copies written into zeros."""
    found, mixture = 0, mixture.double()
    for shift in shifts:
        late = torch.zeros(*mixture.shape[:-1], mixture.shape[-1] + max(shifts),
                           dtype=torch.float64)
        late[..., shift:shift + mixture.shape[-1]] = mixture
        found = found + model(late)[..., shift:shift + mixture.shape[-1]] / len(shifts)
    return found

_generator, _models = hidden.generator("signals"), (_by_place, _by_length, _strided)
for _case, _shape in enumerate(((2, 1, 30), (1, 2, 17), (3, 2, 40))):
    _mixture = torch.randn(_shape, generator=_generator)
    _shifts = [hidden.integer(f"shift {_case} {_n}", 0, 12) for _n in range(_case + 2)]
    for _model in _models:
        for _list in (_shifts, [*_shifts, 0, 9, 0]):
            _before, _given = _mixture.clone(), list(_list)
            _found = mean_over_shifts(_model, _mixture, _given)
            assert truth.equal(_mixture, _before), "the function changes the mixture"
            assert _given == _list, "the function changes the list of shifts"
            assert truth.close(_found, _expected(_model, _mixture, _list), rtol=1e-3, atol=1e-4), (
                f"wrong estimates for another model or other shifts: {_list}")
_mixture = torch.randn(2, 2, 12, generator=_generator)
for _shifts in ([hidden.integer("late", 3, 20)], [4, 4, 4, 1], [40, 2]):
    for _model in _models:
        assert truth.close(mean_over_shifts(_model, _mixture, _shifts),
                           _expected(_model, _mixture, _shifts), rtol=1e-3, atol=1e-4), (
            f"wrong estimates for the shifts {_shifts} of a song of 12 samples")
_weights = torch.randn(2, 2, 2, 12, generator=_generator)
_leaf = _mixture.clone().requires_grad_()
_found = mean_over_shifts(_by_place, _leaf, [3, 0, 7])
assert _found.requires_grad, "no gradient reaches the mixture"
(_found * _weights).sum().backward()
_twin = _mixture.clone().requires_grad_()
(_expected(_by_place, _twin, [3, 0, 7]) * _weights).sum().backward()
assert truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), "the gradient is wrong"
_mixture = torch.randn(2, 1, 21, generator=_generator)
_silence = torch.zeros(1, 2, 15)
assert truth.close(mean_over_shifts(_strided, _silence, [3, 1, 6]),
                   _expected(_strided, _silence, [3, 1, 6]), rtol=1e-3, atol=1e-5), (
    "wrong estimates for silence, of which a model may make something")
for _edge, _level, (_mixture,) in edges.mutated(_mixture):
    for _model in (_by_place, _by_length):
        _found = mean_over_shifts(_model, _mixture, [5, 0, 2, 2])
        assert _found.dtype == _mixture.dtype, f"wrong precision: {_edge}"
        assert truth.close(_found / _level, _expected(_model, _mixture, [5, 0, 2, 2]) / _level,
                           rtol=1e-3, atol=1e-4), f"wrong estimates: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: equally large weights, the same network
#
# Chapter 6 divides the weights of each layer at the beginning, to bring them nearer to a common deviation, and the network then computes something else. For a trained
# network that won't do. But a chain of convolutions with a ReLU after each of them but the last has some freedom: for a number $c > 0$, $\mathrm{relu}(c\,x) = c\,\mathrm{relu}(x)$, so that what one layer
# is multiplied by can be taken back by another.
#
# Multiply the weights of every layer by one positive number each, so that afterwards **all layers' weights have the same deviation and the network gives the same as before**. Which deviation can that be? There
# is only one. And mind the biases: what has come before has been multiplied as well.

# %%
# TASK 3 (5 points): equally large weights
def balanced(weights, biases):
    """New weights and biases, two lists: equal deviations (`Tensor.std`), the same network.

    weights: list of tensors of any shapes, one for each layer, the first layer first; the weights
    of no layer are all equal. biases: list of tensors, or None for a layer without bias. There may
    be many layers, and their weights may be very small or very large.
    """
    ### BEGIN SOLUTION
    logs = [weight.std().log() for weight in weights]
    common = torch.stack(logs).mean()
    factors = [(common - log) for log in logs]
    so_far = torch.stack(factors).cumsum(0)
    return ([weight * factor.exp() for weight, factor in zip(weights, factors)],
            [bias if bias is None else bias * total.exp() for bias, total in zip(biases, so_far)])
    ### END SOLUTION

# %%
# CHECK 3
def chain(x, weights, biases):
    """Convolutions with a ReLU after each but the last."""
    for number, (weight, bias) in enumerate(zip(weights, biases)):
        x = F.conv1d(x if number == 0 else x.relu(), weight, bias)
    return x

generator = torch.Generator().manual_seed(2)
weights = [torch.randn(*shape, generator=generator) for shape in ((4, 1, 3), (4, 4, 2), (2, 4, 1))]
biases = [torch.randn(4, generator=generator), None, torch.randn(2, generator=generator)]
weights[1] = weights[1] / SMALLER
new_weights, new_biases = balanced(weights, biases)
deviations = [float(weight.std()) for weight in new_weights]
assert max(deviations) < 1.001 * min(deviations), f"the deviations are {deviations}, not equal"
assert new_biases[1] is None, "a layer without bias stays without"
ratios = new_weights[1] / weights[1]
assert ratios.min() > 0 and ratios.max() < 1.001 * ratios.min(), (
    "the weights of a layer are multiplied by one number, and a positive one")
x = torch.randn(1, 1, 20, generator=generator)
expected, found = chain(x, weights, biases), chain(x, new_weights, new_biases)
assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), (
    f"the network has changed: {found[0, 0, 0]:.4f}, and was {expected[0, 0, 0]:.4f}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _expected(weights, biases):
    """By numbers: each layer's factor, and the product of those so far."""
    deviations = [float(weight.double().std()) for weight in weights]
    common = math.exp(sum(math.log(value) for value in deviations) / len(deviations))
    factors = [common / value for value in deviations]
    log_products = [sum(math.log(value) for value in factors[:n + 1]) for n in range(len(factors))]
    return ([weight.double() * factor for weight, factor in zip(weights, factors)],
            [None if bias is None else bias.double() * math.exp(value)
             for bias, value in zip(biases, log_products)])

def _close(found, expected, level=1.0):
    if type(found) not in (tuple, list) or len(found) != len(expected):
        return False
    return all(value is None if wanted is None else
               truth.close(value / level, wanted / level, rtol=1e-3, atol=1e-6)
               for value, wanted in zip(found, expected))

def _right(weights, biases, message, level=1.0):
    copies = [None if value is None else value.clone() for value in (*weights, *biases)]
    lists = list(weights), list(biases)
    found = balanced(weights, biases)
    assert type(found) in (tuple, list) and len(found) == 2, "two lists are asked for"
    now = [*weights, *biases]
    assert all(one is other for one, other in zip(now, [*lists[0], *lists[1]])) and all(
        copy is None or truth.equal(value, copy) for value, copy in zip(now, copies)), (
        "the function changes its arguments")
    kinds = {value.dtype for value in (*found[0], *found[1]) if isinstance(value, torch.Tensor)}
    assert kinds == {weights[0].dtype}, f"wrong precision: {message}"
    assert _close(found[0], _expected(weights, biases)[0], level), f"wrong weights: {message}"
    assert _close(found[1], _expected(weights, biases)[1], level), f"wrong biases: {message}"

_generator = hidden.generator("weights")
for _case, _depth in enumerate((2, 3, 5, 4)):
    _sizes = [hidden.integer(f"size {_case} {_n}", 1, 4) for _n in range(_depth + 1)]
    _weights, _biases = [], []
    for _n in range(_depth):
        _level = 10 ** hidden.real(f"level {_case} {_n}", -2.0, 1.0)
        _shape = (_sizes[_n + 1], _sizes[_n], 3) if _case < 3 else (_sizes[_n + 1], 2, 1, 2)
        _weights.append(_level * (torch.randn(_shape, generator=_generator) + 0.4))
        _bias = torch.randn(_sizes[_n + 1], generator=_generator)
        _biases.append(None if (_n + _case) % 3 == 1 else _bias)
    _right(_weights, _biases, f"{_depth} layers")
_weights = [torch.randn(3, 3, 4, generator=_generator) for _ in range(6)]
_weights = [_weight * (_n + 1) for _n, _weight in enumerate(_weights)]
_biases = [torch.randn(3, generator=_generator) for _ in range(6)]
_right(_weights[:1], _biases[:1], "a single layer, which can't change")
_right(_weights[:2], [None, None], "no biases at all")
_right(_weights[:3], [torch.zeros(3), _biases[1], 1e-3 * _biases[2]], "a bias of zeros")
_right([1e-4 * _weights[0], _weights[1], 1e4 * _weights[2]], _biases[:3], "very unequal layers")
for _edge, _level, _tensors in edges.mutated(*_weights, *(_b.repeat(4, 1).T for _b in _biases)):
    _right(list(_tensors[:6]), [_bias[:, 0].clone() for _bias in _tensors[6:]], _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: a stride that can't be heard
#
# A transposed convolution of stride $s$ puts a copy of its kernel at every $s$-th sample. A steady input, all ones, should come out steady. But sample $t$ of the output gets only those taps $w_k$ of the kernel for which
# $t - k$ is a multiple of $s$: the output repeats every $s$ samples, and in its spectrum stand tones at the multiples of $1/s$ of the sample rate that nobody played. They are missing
# exactly where the sums over every $s$-th tap are equal:
#
# $$ \sum_j w_{i + j s} = T \quad \text{for all } i = 0, \dots, s - 1. $$
#
# Mend a kernel: change it so that a steady input comes out steady, and **as little as possible** (the smallest sum of the squares of the changes), while the sum of all its taps stays what it
# was. The stride needn't divide the kernel: some of the sums then have one tap more than the others.

# %%
# TASK 4 (5 points): mend a kernel
def without_tones(weight, stride):
    """The kernels nearest to `weight`, of the same sum, that keep a steady input steady.

    weight: (input, output, kernel), each pair of an input and an output a kernel of its own.
    stride: a whole number from 1 to the size of the kernel.
    """
    ### BEGIN SOLUTION
    mended = weight.clone()
    steady = weight.sum(-1, keepdim=True) / stride
    for phase in range(stride):
        taps = weight[..., phase::stride]
        change = (steady - taps.sum(-1, keepdim=True)) / taps.shape[-1]
        mended[..., phase::stride] = taps + change
    return mended
    ### END SOLUTION

# %%
# CHECK 4
weight = torch.randn(2, 3, 2 * STRIDE + 1, generator=torch.Generator().manual_seed(3))
mended = without_tones(weight, STRIDE)
assert mended.shape == weight.shape, f"as many taps as before; you return {tuple(mended.shape)}"
steady = F.conv_transpose1d(torch.ones(1, 2, 12), mended, stride=STRIDE)  # (1, output, time)
inside = steady[..., 3 * STRIDE:-3 * STRIDE]
assert (inside.amax(-1) - inside.amin(-1)).max() < 1e-4, (
    f"a steady input doesn't come out steady: {inside[0, 0, :STRIDE]} repeats")
assert torch.allclose(mended.sum(-1), weight.sum(-1), atol=1e-4), (
    "the sum of a kernel's taps has changed")
found = without_tones(torch.tensor([[[3.0, 0.0, 0.0, 1.0]]]), 2)
assert torch.allclose(found, torch.tensor([[[2.5, 0.5, -0.5, 1.5]]]), atol=1e-5), (
    f"3, 0, 0, 1 with stride 2: the sums 3 + 0 and 0 + 1 become 2, each tap helps as much as the "
    f"others of its sum: 2.5, 0.5, -0.5, 1.5; you return {found}")
assert torch.allclose(without_tones(mended, STRIDE), mended, atol=1e-4), (
    "a kernel without tones needn't change")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _nearest(weight, stride):
    """By the pseudo-inverse: the smallest change that mends the sums."""
    kernel = weight.shape[-1]
    sums = (torch.arange(kernel) % stride == torch.arange(stride)[:, None]).double()
    missing = weight.double().sum(-1, keepdim=True) / stride - weight.double() @ sums.T
    return weight.double() + missing @ torch.linalg.pinv(sums).T

_generator = hidden.generator("kernels")
for _case in range(8):
    _stride, _more = hidden.integer(f"stride {_case}", 2, 6), hidden.real(f"more {_case}", 0, 3)
    _stride, _more = ((7, 3.2), (6, 2.6))[_case] if _case < 2 else (_stride, _more)
    _kernel = _stride + int(_more * _stride)
    _weight = torch.randn(
        hidden.integer(f"inputs {_case}", 1, 3), hidden.integer(f"outputs {_case}", 1, 3), _kernel,
        generator=_generator) + 0.5 * (_case % 2)
    _before = _weight.clone()
    _found = without_tones(_weight, _stride)
    assert truth.equal(_weight, _before), "the function changes its argument"
    assert truth.close(_found, _nearest(_weight, _stride), rtol=1e-3, atol=1e-4), (
        f"not the nearest kernel: {_kernel} taps, stride {_stride}")
_weight = torch.randn(2, 2, 5, generator=_generator)
assert truth.close(without_tones(_weight, 1), _weight), "with stride 1 there is nothing to mend"
assert truth.close(without_tones(_weight, 5), _nearest(_weight, 5), rtol=1e-3, atol=1e-4), (
    "wrong for a kernel as long as the stride")
_weight = torch.randn(1, 2, 7, generator=_generator)
_weight -= _weight.mean(-1, keepdim=True)
assert truth.close(without_tones(_weight, 3), _nearest(_weight, 3), rtol=1e-3, atol=1e-4), (
    "wrong for a kernel whose taps add up to 0")
_weight = torch.randn(2, 3, 10, generator=_generator)
for _edge, _level, (_weight,) in edges.mutated(_weight, short=4):
    for _stride in (3, 4):
        _found = without_tones(_weight, _stride)
        assert _found.dtype == _weight.dtype, f"wrong precision: {_edge}"
        assert truth.close(_found / _level, _nearest(_weight, _stride) / _level, rtol=1e-3,
                           atol=1e-4), f"wrong values: {_edge}, stride {_stride}"
_weight = torch.zeros(2, 2, 6)
assert truth.equal(without_tones(_weight, 4), _weight), "a kernel of zeros stays as it is"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: where bits are worth most
#
# A network's numbers are stored in groups of equal size. Group $g$ spans the range $r_g$ (largest minus smallest value) and gets $b_g$ bits a number; its values are then wrong by about
# $r_g / 2^{b_g}$. DiffQ finds the bits by training. If all that counts is the error of the weights,
#
# $$ E = \sum_g \Big( \frac{r_g}{2^{b_g}} \Big)^2, $$
#
# they can be worked out. Divide a given number of bits so that $E$ is smallest: $b_g \ge 0$, real numbers, and their mean is `mean_bits`.
#
# Think of a little bit more for one group and a little less for another: $\partial E / \partial b_g = -2 \ln 2 \, (r_g / 2^{b_g})^2$. When does such an exchange no longer pay? And what of groups
# with so small a range that their error is smaller than that even without any bits?

# %%
# TASK 5 (4 points): where bits are worth most
def share_bits(ranges, mean_bits):
    """The bits of each group, real and none below 0, of this mean, with the smallest error E.

    ranges: (group,), none below 0, at least one above; what counts is how they compare with each
    other, not how large they are. mean_bits: above 0. Returns (group,).
    """
    ### BEGIN SOLUTION
    logs = ranges.log2()                                                        # -inf for 0
    widest = logs.sort(descending=True).values
    count = torch.arange(1, len(logs) + 1, dtype=logs.dtype)
    levels = (widest.cumsum(0) - mean_bits * len(logs)) / count                # if so many share
    level = levels[(widest > levels).sum() - 1]
    return (logs - level).clamp(min=0)
    ### END SOLUTION

# %%
# CHECK 5
bits = share_bits(torch.full((5,), 0.3), BITS)
assert bits.shape == (5,) and torch.allclose(bits, torch.full((5,), BITS), atol=1e-3), (
    f"equal ranges, equal bits: {BITS:g} each; you say {bits}")
bits = share_bits(torch.tensor([4.0, 1.0]), BITS)
assert torch.allclose(bits, torch.tensor([BITS + 1, BITS - 1]), atol=1e-3), (
    f"four times the range: two bits more than the other, {BITS + 1:g} and {BITS - 1:g}; you say "
    f"{bits}")
bits = share_bits(torch.tensor([1.0, 0.0, 1.0, 0.0]), BITS)
assert torch.allclose(bits, torch.tensor([2 * BITS, 0.0, 2 * BITS, 0.0]), atol=1e-3), (
    f"a group of equal values needs no bits, the others get them; you say {bits}")
bits = share_bits(torch.tensor([1.0, 0.5, 2.0 ** -40]), 1.0)
assert torch.allclose(bits, torch.tensor([2.0, 1.0, 0.0]), atol=1e-3), (
    f"ranges 1, 1/2 and nearly nothing, 3 bits in all: 2, 1 and none; you say {bits}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _by_halving(ranges, mean_bits):
    """The level at which the bits have the mean that is asked for, by halving, in float64."""
    logs = ranges.double().log2()
    low, high = logs.max() - len(logs) * mean_bits - 1, logs.max()
    for _ in range(100):
        middle = (low + high) / 2
        if (logs - middle).clamp(min=0).mean() > mean_bits:
            low = middle
        else:
            high = middle
    return (logs - low).clamp(min=0)

_generator = hidden.generator("ranges")
for _case, _groups in enumerate((2, 3, 5, 8, 20, 40)):
    _spread = hidden.real(f"spread {_case}", 1.0, 6.0)
    _ranges = 2.0 ** (_spread * torch.randn(_groups, generator=_generator))
    if _case % 2:
        _ranges[hidden.integer(f"constant {_case}", 0, _groups - 1)] = 0.0
    for _bits in (hidden.real(f"few {_case}", 0.1, 0.8), hidden.real(f"many {_case}", 2.0, 9.0)):
        _before = _ranges.clone()
        _found = share_bits(_ranges, _bits)
        assert truth.equal(_ranges, _before), "the function changes its argument"
        assert truth.close(_found, _by_halving(_ranges, _bits), rtol=1e-3, atol=3e-3), (
            f"not the best bits for {_groups} groups, {_bits:.2f} on the average")
        assert float(_found.min()) >= 0, "no group may have less than 0 bits"
_found = share_bits(torch.tensor([0.0, 0.7, 0.0]), 8.0)
assert truth.close(_found, torch.tensor([0.0, 24.0, 0.0]), atol=3e-3), (
    "where only one group has a range it gets all bits")
_ranges = torch.rand(9, generator=_generator) ** 2 + 0.01
for _edge, _level, (_ranges,) in edges.mutated(_ranges):
    for _bits in (0.5, 6.0):
        _found = share_bits(_ranges, _bits)
        assert _found.dtype == _ranges.dtype, f"wrong precision: {_edge}"
        assert truth.close(_found, _by_halving(_ranges, _bits), rtol=1e-3, atol=3e-3), (
            f"not the best bits: {_edge}")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: does it matter where a song begins?
#
# Delay a song by one sample, and a strided network's answer isn't the old one, a sample later. How large is the difference, for which delays, before and after training, and how much of it can the mean
# over shifts put to use? The cell below gives you songs, a small Demucs that is trained on four seconds for some seconds, and its estimates for a song that begins
# `delay` samples later, brought back to their place. The rest of the experiment is yours. (It trains and is heard on the same four seconds: that is all right for this question.)
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table, before and after training: how much the estimates change (dB beside the estimates themselves) with a delay of 1, 4, 16 and 64 samples; and the SDR of one estimate, of the mean over four neighbouring
#   delays (0, 1, 2, 3), of the mean over four that are far apart (0, 16, 32, 48), and of all of the delays 0 to 63,
# - for which delays nothing changes, and why; which of the network's layers cause the rest, before training and after it,
# - which shifts you would recommend if four are all that you can afford, and one thing that this experiment can't tell about a large network.

# %%
# EXPERIMENT: songs, a small Demucs, its estimates; write your own cells below
def band_sources(number):
    """Four seconds of a song of the band in mono: (source, 1, time)."""
    from course_lib.data import STEMS, open_tracks
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0)
    return song.sources(STEMS).mean(1, keepdim=True).double()


def small_demucs(sources, steps=240):
    """Three layers of kernel 8 and stride 4, eight channels, trained on the song; 0 steps: not."""
    from course_lib.data import STEMS
    from course_lib.demucs import DemucsV2
    model = DemucsV2(STEMS, audio_channels=1, channels=8, depth=3, resample=False, lstm_layers=0,
                     context=1).double()
    draw, segment = torch.Generator().manual_seed(0), model.valid_length(8192)
    with torch.no_grad():  # weights of deviation 0.1, the same on every machine
        for _name, weights in sorted(model.named_parameters()):
            shares = torch.rand(weights.shape, generator=draw, dtype=torch.float64)
            weights.copy_(0.1 * 12 ** 0.5 * (shares - 0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        starts = torch.randint(sources.shape[-1] - segment, (8,), generator=draw)
        batch = torch.stack([sources[..., start:start + segment] for start in starts])
        optimizer.zero_grad()
        (model(batch.sum(1)) - batch).abs().mean().backward()
        optimizer.step()
    return model


EDGE = 2048  # samples at both ends that are left out, as fewer are heard by a step there


@torch.no_grad()
def estimates(model, sources, delay=0):
    """Of the song without its ends, which begins `delay` samples later: (source, 1, time)."""
    length = model.valid_length(sources.shape[-1] - 1000)
    mixture = torch.nn.functional.pad(sources.sum(0)[None], (delay, 0))[..., :length]
    return model(mixture)[0][..., EDGE + delay:length - EDGE - 256 + delay]


def sdr(found, sources):
    """SDR in dB of the estimates, mean over the sources."""
    target = sources[..., EDGE:EDGE + found.shape[-1]]
    signal, error = (x.square().sum((1, 2)) for x in (target, target - found))
    return float(10 * torch.log10(signal / error).mean())

# For example:  sources = band_sources(0)
#               model = small_demucs(sources)
#               sdr(estimates(model, sources, delay=1), sources)

# %% [markdown]
# <!-- TASK 6 (6 points): does it matter where a song begins? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, network, steps and rate of the training, how the change is measured; only training, delays and sets of delays vary.
# - 2 points: the table, before and after training, with plausible numbers and more than one song, or a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: nothing changes (not a digit) at multiples of 64, the product of the three strides, as every layer then takes the same steps, only later. A delay of
#   4 is a whole step of the outer layer, so that only the inner two hear another grid; a delay of 16 leaves the innermost alone. Before training nearly all of the change comes from the outer layer (4 samples: more than 20 dB below
#   1 sample): what the inner layers have to say reaches the output very softly, the skip of the outer layer goes past them. Training makes them speak, and then all three layers mind where their steps begin:
#   a delay of 16 changes as much as one of 1, or more. The mean over delays is better than one estimate since the part that changes with the delay is error (partly); it gains about a tenth of a decibel. An answer that
#   names the 64 and its reason, but doesn't tell the layers apart, gets one point.
# - 1 point: four delays should meet the grids of *all* layers: 0, 1, 2, 3 change the outer one only, 0, 16, 32, 48 the innermost only; 0, 17, 34, 51 (or four at random) change all, and nearly reach the mean over all 64. And
#   a limit: heard on what it was trained on, three layers, mono, a few hundred steps; a large network is trained on many songs at random places and may have learned to mind less (or has six layers, total stride 4096, a BLSTM, and more to mind).
#
# For comparison, means over the first three test songs, seconds 8 to 12, with the cell above (dB). After training the numbers hold to one or two decibels (change) and some tenths (SDR), as the last digit of a weight
# decides where 240 steps lead; the order of the means over delays was the same in every training tried.
#
# | | before training | after training |
# |---|---|---|
# | change, 1 sample | -12.31 | -19.17 |
# | change, 4 samples | -36.69 | -17.71 |
# | change, 16 samples | -55.34 | -12.90 |
# | SDR, one estimate | -2.71 | 2.63 |
# | SDR, delays 0 1 2 3 | -2.64 | 2.66 |
# | SDR, delays 0 16 32 48 | -2.71 | 2.73 |
# | SDR, delays 0 17 34 51 | -2.64 | 2.74 |
# | SDR, delays 0 to 63 | -2.64 | 2.75 |
# <!-- END RUBRIC -->
