# %% [markdown]
# # Assignment 15 · One sample after the other
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 15, but none is a copy of it: you build a mu-law that gives the nearest value and treats both signs alike, a causal convolution that takes a song in pieces,
# find out which samples a stack hears (and which it skips), tell a gated layer a code that doesn't begin with the piece, and draw sound with queues, in as few calls as there can be.
# Read what is asked for, above all at the edges (silence between two symbols, a piece of no samples, a temperature of 0 or of infinity, a symbol that can't come).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.wavenet` don't count as your own work, nor does changing
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
MU = variation.choice("mu", [63, 127, 255])
SYMBOLS = variation.integer("symbols", 8, 12)
DILATION = variation.integer("dilation", 2, 5)  # samples
HOP = variation.choice("hop", [4, 6, 8])  # samples a frame
SILENCE = variation.integer("silence", 1, 3)  # a symbol

# %% [markdown]
# ## Task 1: a mu-law without a slant
#
# The pair of section 15.2 cuts off where it could round, and multiplies by another number than it divides by, so that sound comes back lower than it went in. Build one that doesn't. With $S$ symbols, symbol $k$ stands for
#
# $$ x_k = \operatorname{sign}(y_k)\, \frac{(1 + \mu)^{|y_k|} - 1}{\mu}, \qquad y_k = \frac{2 k - (S - 1)}{S - 1} , $$
#
# and a sample gets the symbol whose **value $x_k$ is nearest to it**: nearest in the sample, not in $y$, so the border between two symbols is half way between their values. Of two that are equally near (up to $10^{-9}$) the lower one counts. What lies beyond $\pm 1$, even at infinity, gets the outermost symbol.
#
# For $\mu = 0$ take the limit, $x_k = y_k$; and near it, for $\mu = 10^{-12}$, the formula has to keep its digits.

# %%
# TASK 1 (5 points): a mu-law without a slant
def values_of(symbols, mu):
    """x_k of all symbols, lowest first: float64 (symbols,). symbols: 2 or more. mu: 0 or more."""
    ### BEGIN SOLUTION
    y = (2 * torch.arange(symbols).double() - (symbols - 1)) / (symbols - 1)
    if mu == 0:
        return y
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu
    ### END SOLUTION


def nearest_symbols(x, symbols, mu):
    """The symbol of each sample, int64: x floats of any shape, also none, without NaN."""
    ### BEGIN SOLUTION
    values = values_of(symbols, mu)
    away = (x.double().clamp(-1, 1)[..., None] - values).abs()      # (..., symbol)
    return (away <= away.amin(-1, keepdim=True) + 1e-9).int().argmax(-1)
    ### END SOLUTION

# %%
# CHECK 1
found = values_of(5, 3)
assert found.shape == (5,) and found.dtype == torch.float64, (
    f"five values in float64; you: {tuple(found.shape)}, {found.dtype}")
assert torch.allclose(found, torch.tensor([-1, -1 / 3, 0, 1 / 3, 1]).double()), (
    f"mu 3, y = 1/2: (2 - 1) / 3; so -1, -1/3, 0, 1/3, 1; you say {found}")
x = torch.tensor([-2.0, -0.7, -0.6, 0.0, 0.16, 0.17, 0.66, 0.67, math.inf])
found = nearest_symbols(x, 5, 3)
assert found.dtype == torch.int64 and found.tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 4], (
    f"borders at 1/6 and 2/3 of both signs: 0 0 1 2 2 3 3 4 4; you say {found}")
assert nearest_symbols(torch.zeros(2, 3), 256, MU).eq(127).all(), (
    "silence is as near to symbol 127 as to 128 of 256: the lower one")
values = values_of(256, MU)
assert torch.equal(nearest_symbols(values, 256, MU), torch.arange(256)), (
    "each value's own symbol should come back")
assert torch.allclose(values, -values.flip(0), atol=1e-12), "both signs alike"
ramp = torch.linspace(-1, 1, 4001)
error = values[nearest_symbols(ramp, 256, MU)] - ramp
assert abs(float(error.mean())) < 1e-4, f"on average nothing is lost; you lose {error.mean():.5f}"
assert torch.allclose(values_of(5, 0), torch.linspace(-1, 1, 5).double()), "mu 0: equal steps"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _value(k, symbols, mu):
    y = (2 * k - (symbols - 1)) / (symbols - 1)
    size = math.expm1(abs(y) * math.log1p(mu)) / mu if mu else abs(y)
    return math.copysign(size, y) if y else 0.0

def _right(x, symbols, mu, message):
    before = x.clone()
    found = nearest_symbols(x, symbols, mu)
    assert truth.equal(x, before), "nearest_symbols changes its argument"
    message = f"{message}, {symbols} symbols, mu {mu:g}"
    assert found.dtype == torch.int64, f"symbols are int64: {message}"
    values = [_value(k, symbols, mu) for k in range(symbols)]
    expected = []
    for sample in before.double().flatten().tolist():
        away = [abs(min(1.0, max(-1.0, sample)) - value) for value in values]
        expected.append(next(k for k, one in enumerate(away) if one <= min(away) + 1e-9))
    expected = torch.tensor(expected, dtype=torch.int64).reshape(before.shape)
    assert truth.equal(found, expected), f"wrong symbols: {message}"

def _values(symbols, mu):
    found = values_of(symbols, mu)
    message = f"{symbols} symbols, mu {mu:g}"
    expected = torch.tensor([_value(k, symbols, mu) for k in range(symbols)], dtype=torch.float64)
    assert found.dtype == torch.float64, f"values are float64: {message}"
    assert truth.close(found, expected, rtol=1e-8, atol=1e-14), f"wrong values: {message}"

for _symbols, _mu in ((2, 255), (3, 255), (256, 255), (256, 0), (17, 0), (16, 1e-12), (5, 1e-6),
                      (255, 65535), (256, 1e6), (hidden.integer("symbols", 4, 99), 0.5),
                      (4096, 255)):
    _values(_symbols, _mu)
_generator = hidden.generator("samples")
_x = 2 * torch.rand(120, generator=_generator) - 1
for _symbols, _mu in ((2, 255), (3, 15), (256, 255), (64, 0), (16, 1e-12), (32, 4095), (7, 0.5),
                      (hidden.integer("some", 5, 50), hidden.integer("mu", 1, 300))):
    _right(_x, _symbols, _mu, "samples of all sizes")
    _right(_x ** 5, _symbols, _mu, "soft samples")
    _mid = values_of(_symbols, _mu)
    _mid = (_mid[1:] + _mid[:-1]) / 2
    _right(torch.cat([_mid - 1e-6, _mid + 1e-6]), _symbols, _mu, "beside the borders")
_right(torch.tensor([0.0, -0.0]), 256, 255, "silence")
_right(torch.tensor([0.0]), 2, 255, "silence, two symbols")
_right(torch.tensor([0.5, -0.5]), 3, 0, "on a border")
_right(torch.tensor([1.0, -1.0, 1.0001, -1e30, math.inf, -math.inf]), 255, 255, "ends and beyond")
_right(_x[:0], 256, 255, "no samples")
_right(_x[0], 256, 255, "one sample, no axes")
_right(_x.view(2, 3, 20).mT, 100, 255, "three axes, not contiguous")
for _edge, _level, (_x,) in edges.mutated(_x, tiny=1e-5):
    _right(_x, 256, 255, _edge)
    _right(_x, 65, 1000, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a convolution that goes on
#
# A causal convolution (15.4) of a whole song takes memory for a whole song, and a generator has the song sample by sample. Write one that takes a song **piece by piece**, and gives with each piece what it will need for the next: its last inputs. However the song is cut, the outputs, put one after the other, are those of the whole.
#
# - `past` holds the last $(k - 1)\, d$ inputs, oldest first; those before the song's beginning are 0. `None` is the past of a song that begins.
# - A piece may be shorter than the past, one sample long, or empty.
# - The order of taps is that of (15.4): the last one is the present.

# %%
# TASK 2 (5 points): a convolution that goes on
def go_on(x, weight, bias, dilation, past=None):
    """The outputs of this piece, (batch, out, time), and the past for the next one.

    x: (batch, in, time), time from 0 on. weight: (out, in, tap), one tap or more. bias: (out,) or
    None. dilation: 1 or more. past: None or (batch, in, (taps - 1) * dilation), which is also the
    shape of what is returned. Differentiable.
    """
    ### BEGIN SOLUTION
    back = (weight.shape[-1] - 1) * dilation
    if past is None:
        past = x.new_zeros(*x.shape[:2], back)
    x = torch.cat([past, x], -1)                                    # (batch, in, back + time)
    time = x.shape[-1] - back
    y = x.new_zeros(len(x), len(weight), time)
    for j in range(weight.shape[-1]):
        then = x[..., j * dilation:j * dilation + time]
        y = y + torch.einsum("oi,bit->bot", weight[..., j], then)
    if bias is not None:
        y = y + bias[:, None]
    return y, x[..., time:].clone()
    ### END SOLUTION

# %%
# CHECK 2
x = torch.arange(1.0, 9)[None, None]  # (batch, channel, time)
weight = torch.tensor([[[10.0, 1.0]]])
y, past = go_on(x, weight, None, 2)
assert y.shape == (1, 1, 8), f"as many outputs as inputs, (1, 1, 8); you: {tuple(y.shape)}"
assert y.flatten().tolist() == [1, 2, 13, 24, 35, 46, 57, 68], (
    f"10 x[t - 2] + x[t]: 1 2 13 24 35 46 57 68; you say {y.flatten().tolist()}")
assert past.shape == (1, 1, 2) and past.flatten().tolist() == [7, 8], (
    f"two taps, 2 apart, need the last two inputs, 7 and 8; you keep {past}")
generator = torch.Generator().manual_seed(2)
x, weight = torch.randn(2, 3, 40, generator=generator), torch.randn(4, 3, 3, generator=generator)
bias = torch.randn(4, generator=generator)
whole, end = go_on(x, weight, bias, DILATION)
expected = F.conv1d(F.pad(x, (2 * DILATION, 0)), weight, bias, dilation=DILATION)
assert torch.allclose(whole, expected, atol=1e-4), "PyTorch's convolution, padded, says otherwise"
parts, past = [], None
for piece in x.split([1, 0, 2, 30, 7], -1):
    y, past = go_on(piece, weight, bias, DILATION, past)
    parts.append(y)
assert torch.allclose(torch.cat(parts, -1), whole, atol=1e-4), (
    "in pieces of 1, 0, 2, 30 and 7 samples the outputs should be those of the whole")
assert torch.equal(past, end), "and the last past, too"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _whole(x, weight, bias, dilation):
    """(15.4), tap by tap."""
    x, weight = x.double(), weight.double()
    y = torch.zeros(len(x), len(weight), x.shape[-1], dtype=torch.float64)
    for j in range(weight.shape[-1]):
        back = (weight.shape[-1] - 1 - j) * dilation
        for t in range(back, x.shape[-1]):
            y[..., t] += x[..., t - back] @ weight[..., j].T
    return y if bias is None else y + bias.double()[:, None]

def _right(x, weight, bias, dilation, sizes, message, level=1.0):
    expected, past = _whole(x, weight, bias, dilation), None
    back = (weight.shape[-1] - 1) * dilation
    message = (f"{message}: x {tuple(x.shape)}, weight {tuple(weight.shape)}, dilation {dilation}, "
               f"pieces {sizes}")
    at = 0
    for size in sizes:
        given = [one for one in (x[..., at:at + size], weight, bias, past) if one is not None]
        before = [one.clone() for one in given]
        y, after = go_on(x[..., at:at + size], weight, bias, dilation, past)
        assert truth.equal(given, before), "the function changes its arguments"
        assert truth.has_shape(y, len(x), len(weight), size), f"wrong shape of y, {message}"
        assert y.dtype == x.dtype and after.dtype == x.dtype, f"wrong precision, {message}"
        assert truth.close(y.double() / level, expected[..., at:at + size] / level, rtol=1e-3,
                           atol=1e-4), f"wrong outputs, {message}"
        at += size
        kept = F.pad(x, (back, 0))[..., at:at + back]
        assert truth.equal(after, kept), f"wrong past, {message}"
        past = after

_generator = hidden.generator("songs")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

for _case in range(6):
    _in, _out = hidden.integer(f"in {_case}", 1, 3), hidden.integer(f"out {_case}", 1, 4)
    _taps, _dilation = 1 + _case % 4, hidden.integer(f"dilation {_case}", 1, 6)
    _x, _weight = _draw(1 + _case % 3, _in, 30), _draw(_out, _in, _taps)
    _bias = None if _case % 2 else _draw(_out)
    for _sizes in ([30], [10, 20], [1, 2, 3, 0, 5, 19], [0, 30]):
        _right(_x, _weight, _bias, _dilation, _sizes, "a song in pieces")
_x, _weight, _bias = _draw(2, 3, 12), _draw(2, 3, 2), _draw(2)
_right(_x, _weight, _bias, 3, [1] * 12, "sample by sample")
_right(_x, _weight, _bias, 20, [5, 7], "a past longer than the song")
_right(_x, _draw(2, 3, 1), _bias, 4, [5, 0, 7], "one tap")
_right(_x[..., :1], _weight, _bias, 1, [1], "one sample")
_right(_x[..., :0], _weight, _bias, 2, [0, 0], "no samples")
_right(_x.mT.contiguous().mT, _weight.flip(0), _bias, 2, [5, 7], "not contiguous")
_leaf, _twin = (_x.clone().requires_grad_() for _ in range(2))
_y, _past = go_on(_leaf[..., :5], _weight, _bias, 2)
_y = torch.cat([_y, go_on(_leaf[..., 5:], _weight, _bias, 2, _past)[0]], -1)
_y.square().sum().backward()
F.conv1d(F.pad(_twin, (2, 0)), _weight, _bias, dilation=2).square().sum().backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), (
    "the gradient by the song, through the past, is wrong")
for _edge, _level, (_x, _other) in edges.mutated(_x, _draw(2, 12), short=2):
    _right(_x, _weight.to(_x.dtype), None, 2, [1, _x.shape[-1] - 1], _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: what a stack hears, and what it skips
#
# Formula (15.5) says how *far* a stack hears. Does it hear everything up to there? With dilations that grow faster than the taps it doesn't. A stack is a list of causal layers, given as (taps, dilation), one on top of the other. For the present output find
# - how many samples the view is wide: from the present one to the farthest one that it depends on, both counted,
# - on how many samples it depends *in fact* (no weight is 0),
# - and the nearest sample that it skips: how many samples back, or `None` where there is no gap.
#
# Then the other way round: WaveNet's sizes are chosen so that it hears far enough. How many blocks are needed at least, at least one, so that (15.5) gives no less than `samples`? Numbers are whole and may be large.

# %%
# TASK 3 (4 points): what a stack hears, and what it skips
def what_it_hears(layers):
    """(width, samples heard, nearest skipped or None). layers: list of (taps, dilation)."""
    ### BEGIN SOLUTION
    heard = 1                                                       # bit n: the sample n back
    for taps, dilation in layers:
        heard = sum_of_shifts(heard, taps, dilation)
    width = heard.bit_length()
    gaps = ~heard & ((1 << width) - 1)
    nearest = (gaps & -gaps).bit_length() - 1 if gaps else None
    return width, heard.bit_count(), nearest


def sum_of_shifts(heard, taps, dilation):
    found = 0
    for tap in range(taps):
        found |= heard << tap * dilation
    return found
    ### END SOLUTION


def blocks_needed(samples, layers, taps):
    """The number of blocks: samples, layers of a block from 1 on; taps from 2 on."""
    ### BEGIN SOLUTION
    one = (taps - 1) * (2 ** layers - 1)                            # what a block adds
    return max(1, -(-(samples - taps) // one))
    ### END SOLUTION

# %%
# CHECK 3
found = what_it_hears([(2, 1), (2, 2), (2, 4)])
assert tuple(found) == (8, 8, None), f"dilations 1 2 4: 8 wide, all 8 heard; you say {found}"
found = what_it_hears([(2, 1), (2, 4)])
assert tuple(found) == (6, 4, 2), f"0 1 4 5 back: 6 wide, 4 heard, 2 is skipped; you say {found}"
found = what_it_hears([(3, DILATION)])
assert tuple(found) == (2 * DILATION + 1, 3, 1), f"three taps, {DILATION} apart; you say {found}"
found = what_it_hears([])
assert tuple(found) == (1, 1, None), f"no layers: the present sample; you say {found}"
assert blocks_needed(4094, 10, 2) == 4, f"4 blocks of 10 hear 4094; {blocks_needed(4094, 10, 2)}"
assert blocks_needed(4095, 10, 2) == 5, f"4095: one more; you say {blocks_needed(4095, 10, 2)}"
assert blocks_needed(1, 3, 3) == 1, "at least one block"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _hears(layers):
    before = list(layers)
    found = what_it_hears(layers)
    assert list(layers) == before, "the function changes its argument"
    heard = {0}
    for taps, dilation in layers:
        heard = {n + tap * dilation for n in heard for tap in range(taps)}
    nearest = next((n for n in range(len(heard) + 1) if n not in heard), None)
    expected = max(heard) + 1, len(heard), None if len(heard) > max(heard) else nearest
    message = f"layers (taps, dilation) {str(layers)[:200]}"
    assert type(found) in (tuple, list) and len(found) == 3, f"three numbers: {message}"
    assert all(type(one) in (int, type(None)) for one in found), f"whole numbers (int): {message}"
    assert list(found) == list(expected), f"wrong: {message}"

def _blocks(samples, layers, taps):
    found = blocks_needed(samples, layers, taps)
    message = f"{samples} samples, {layers} layers, {taps} taps"
    assert type(found) is int, f"a whole number (int): {message}"
    def reach(blocks):
        return 1 + (taps - 1) * (1 + blocks * (2 ** layers - 1))
    low, high = 1, 1
    while reach(high) < samples:
        low, high = high, 2 * high
    while low < high:
        low, high = (low, (low + high) // 2) if reach((low + high) // 2) >= samples else (
            (low + high) // 2 + 1, high)
    assert found == low, f"wrong number of blocks: {message}"

for _case in range(8):
    _hears([(hidden.integer(f"taps {_case} {_n}", 1, 4), hidden.integer(f"dilation {_case} {_n}",
                                                                       1, 12))
            for _n in range(hidden.integer(f"count {_case}", 1, 5))])
_hears([(2, 2 ** n) for n in range(10)] * 2)
_hears([(2, 1)] + [(2, 2 ** n) for n in range(6)] * 3)
_hears([(3, 3 ** n) for n in range(6)])
_hears([(2, 3 ** n) for n in range(6)])
_hears([(3, 2), (2, 1)])
_hears([(2, 2), (2, 1)])
_hears([(2, 5), (2, 5), (2, 5)])
_hears(((2, 1), (2, 3)))
_blocks(hidden.integer("samples", 1000, 9000), hidden.integer("layers", 3, 8), 2)
for _samples in (1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65):
    _blocks(_samples, 5, 2)
    _blocks(_samples, 2, 3)
edges.left_out("zeros inside", "taps and dilations are 1 or more")
edges.case("short")
_hears([(1, 7)])
_blocks(16, 1, 2)
edges.case("tiny")
_hears([(1, 1), (2, 1)])
_blocks(1, 1, 2)
edges.case("huge")
_hears([(2, 2 ** 20), (3, 1), (2, 2 ** 18 + 1)])
_hears([(2, 2 ** n) for n in range(14)] * 4)
_blocks(10 ** 30 + 7, 14, 2)
_blocks(2 ** 60 + 1, 50, 3)
_blocks(5, 300, 2)
_blocks(2 + 3 * (2 ** 60 - 1), 60, 2)
_blocks(3 + 3 * (2 ** 60 - 1), 60, 2)
edges.left_out("other type", "all are whole numbers")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: told by a code
#
# A frame of the code is the mean over `hop` samples; the last frame of a sound that isn't whole hops long is the mean over those that are there. So the code has $\lceil T / \text{hop} \rceil$ frames.
#
# Then the layer of (15.6) and (15.7), for a *piece* of a sound that begins at its sample `first`, in the midst of a frame perhaps: sample $t$ of the piece is told frame $\lfloor (\text{first} + t) / \text{hop} \rfloor$, and behind the code's end its last frame. The dilated convolution has two taps, the first of which lies `dilation` back (zeros before the piece); the first half of its channels is the gate. The layer's input may be as large as $10^{25}$.

# %%
# TASK 4 (5 points): told by a code
def code_of(h, hop):
    """Means over hops: (batch, channel, time), at least one sample, to (batch, channel, frame)."""
    ### BEGIN SOLUTION
    return torch.stack([part.double().mean(-1) for part in h.split(hop, -1)], -1).to(h.dtype)
    ### END SOLUTION


def gated_layer(x, z, weights, dilation, hop, first):
    """What is added to x, (batch, channels, time), and to the skips, (batch, skips, time).

    x: (batch, channels, time). z: (batch, code, frame). weights: dict of causal (2 channels,
    channels, 2), condition (2 channels, code), residual (channels, channels), skip (skips,
    channels), without biases. dilation, hop: 1 or more. first: 0 or more.
    """
    ### BEGIN SOLUTION
    time = x.shape[-1]
    frames = ((first + torch.arange(time)) // hop).clamp_max(z.shape[-1] - 1)
    a = F.conv1d(F.pad(x, (dilation, 0)), weights["causal"], dilation=dilation)
    a = a + (weights["condition"] @ z)[..., frames]                 # (batch, 2 channels, time)
    gate, content = a.chunk(2, 1)
    h = torch.sigmoid(gate) * torch.tanh(content)
    return weights["residual"] @ h, weights["skip"] @ h
    ### END SOLUTION

# %%
# CHECK 4
h = torch.arange(1.0, 8)[None, None]
found = code_of(h, 3)
assert found.shape == (1, 1, 3) and found.flatten().tolist() == [2, 5, 7], (
    f"means of 1 2 3, of 4 5 6, and of 7 alone: 2 5 7; you say {found}")
x = torch.zeros(1, 1, 5)
z = torch.tensor([[[1.0, 2.0]]])
weights = dict(causal=torch.zeros(2, 1, 2), condition=torch.tensor([[0.0], [1.0]]),
               residual=torch.tensor([[2.0]]), skip=torch.tensor([[1.0], [-1.0]]))
added, skips = gated_layer(x, z, weights, 1, HOP, HOP - 2)
assert added.shape == (1, 1, 5) and skips.shape == (1, 2, 5), (
    f"(1, 1, 5) and (1, 2, 5); you: {tuple(added.shape)} and {tuple(skips.shape)}")
expected = torch.tensor([1.0, 1, 2, 2, 2]).tanh()
assert torch.allclose(added[0, 0], expected, atol=1e-5), (
    f"a gate of sigmoid(0) = 1/2 times tanh of frames 1 1 2 2 2, times 2: {expected}; you: {added}")
assert torch.allclose(skips[0], torch.stack([expected, -expected]) / 2, atol=1e-5), (
    f"the skips are half of that with both signs; you say {skips}")
weights["condition"] = torch.tensor([[1e4], [0.0]])
weights["causal"] = torch.tensor([[[0.0, 0.0]], [[1.0, 0.5]]])
added, _ = gated_layer(torch.tensor([[[1.0, 0, 0, 0, 0]]]), z, weights, 2, HOP, 0)
expected = 2 * torch.tensor([0.5, 0, 1, 0, 0]).tanh()
assert torch.allclose(added[0, 0], expected, atol=1e-5), (
    f"an open gate, half of x now and all of x 2 samples ago: {expected}; you say {added[0, 0]}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _code(h, hop, message, level=1.0):
    before = h.clone()
    found = code_of(h, hop)
    assert truth.equal(h, before), "code_of changes its argument"
    assert found.dtype == h.dtype, f"wrong precision: {message}"
    expected = torch.stack([before.double()[..., at:at + hop].sum(-1) / len(range(
        at, min(at + hop, h.shape[-1]))) for at in range(0, h.shape[-1], hop)], -1)
    message = f"{message}, h {tuple(h.shape)}, hop {hop}"
    assert truth.close(found.double() / level, expected / level), f"wrong code: {message}"

def _layer(x, z, weights, dilation, hop, first):
    x, z, weights = x.double(), z.double(), {name: w.double() for name, w in weights.items()}
    columns = []
    for t in range(x.shape[-1]):
        a = x[..., t] @ weights["causal"][..., 1].T
        if t >= dilation:
            a = a + x[..., t - dilation] @ weights["causal"][..., 0].T
        a = a + z[..., min((first + t) // hop, z.shape[-1] - 1)] @ weights["condition"].T
        half = a.shape[1] // 2
        columns.append((1 + (a[:, :half] / 2).tanh()) / 2 * a[:, half:].tanh())
    h = torch.stack(columns, -1)
    return [torch.einsum("oc,bct->bot", weights[name], h) for name in ("residual", "skip")]

def _right(x, z, weights, dilation, hop, first, message):
    given = [x, z, *weights.values()]
    before = [one.clone() for one in given]
    added, skips = gated_layer(x, z, weights, dilation, hop, first)
    assert truth.equal(given, before), "gated_layer changes its arguments"
    assert added.dtype == skips.dtype == x.dtype, f"wrong precision: {message}"
    message = (f"{message}: x {tuple(x.shape)}, z {tuple(z.shape)}, dilation {dilation}, "
               f"hop {hop}, first {first}")
    expected = _layer(*before[:2], dict(zip(weights, before[2:])), dilation, hop, first)
    assert truth.close(added, expected[0], rtol=1e-3, atol=1e-4), f"wrong residual, {message}"
    assert truth.close(skips, expected[1], rtol=1e-3, atol=1e-4), f"wrong skips, {message}"

_generator = hidden.generator("layers")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

def _weights(channels, code, skips):
    return dict(causal=_draw(2 * channels, channels, 2), condition=_draw(2 * channels, code),
                residual=_draw(channels, channels), skip=_draw(skips, channels))

for _case in range(8):
    _channels, _width, _skips = (hidden.integer(f"{_name} {_case}", 1, 4)
                                 for _name in ("channels", "code", "skips"))
    _time, _hop = hidden.integer(f"time {_case}", 5, 25), hidden.integer(f"hop {_case}", 1, 7)
    _w = _weights(_channels, _width, _skips)
    _x, _z = _draw(1 + _case % 3, _channels, _time), _draw(1 + _case % 3, _width, 5)
    _first = (0, 2 * _hop, hidden.integer(f"first {_case}", 1, 12))[_case % 3]
    _right(_x, _z, _w, hidden.integer(f"dilation {_case}", 1, 6), _hop, _first, "a piece")
    _code(_x, _hop, "a sound")
_w, _x, _z = _weights(3, 2, 5), _draw(2, 3, 16), _draw(2, 2, 4)
_right(_x, _z, _w, 30, 4, 0, "a dilation longer than the piece")
_right(_x, _z[..., :1], _w, 2, 4, 3, "one frame")
_right(_x, _z, _w, 2, 4, 100, "all behind the code's end")
_right(_x, _z, _w, 1, 1000, 998, "long frames")
_right(_x.mT.contiguous().mT, _z.flip(0), _w, 2, 3, 1, "not contiguous")
for _size in (1e25, -1e25):
    _right(_x, _size * _z, _w, 2, 4, 1, f"a code of {_size:g}")
_code(_x, 16, "one hop exactly")
_code(_x, 17, "less than a hop")
_code(_x, 15, "one sample more than a hop")
_code(_x, 1, "hops of one sample")
_code(_x + 1000, 5, "an offset")
_code(_x.mT.contiguous().mT, 5, "not contiguous")
_code(torch.full((1, 2, 21), 3e38), 8, "sounds whose sums are too large", 3e38)
for _size in (1e-25, 1e25):
    _code(_size * _x, 8, f"sounds of {_size:g}", _size)
for _edge, _level, (_x, _other) in edges.mutated(_x, _draw(2, 16), huge=1e25):
    _right(_x, _z.to(_x.dtype), {_name: _one.to(_x.dtype) for _name, _one in _w.items()}, 2, 4, 3,
           _edge)
    _code(_x, 5, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: drawn with queues
#
# A network is given by its parts, each for *one* moment: `embed(symbols)` makes (batch, channels) of the symbols before, (batch,); each layer is a pair (dilation, `f`), where `f(now, old)` makes (batch, channels) of its input now and of its input `dilation` samples ago; `logits(h)` makes (batch, symbol) of the last layer's output. Before the first sample all layers' inputs were 0, and the symbol before the first one is `silence`.
#
# Draw one symbol after the other by (15.10): the first symbol at which the running sum of the probabilities is larger than $u_t$. **Each part is called once a sample**, no more: keep what you will need again.
# - `temperature` divides the logits. At 0 the likeliest symbol is taken, of equals the lowest; at `math.inf` all symbols that *can* come (logits above $-\infty$) are equally likely.
# - A symbol with a logit of $-\infty$ never comes, not even for $u$ next to 1 (each row has one symbol at least that can come). Logits may be as large as $10^{25}$.
#
# Give also what the drawn symbols cost: the mean of $-\log_2 p$, by the probabilities *at temperature 1*.

# %%
# TASK 5 (6 points): drawn with queues
def draw_sound(embed, layers, logits, uniforms, silence, temperature=1.0):
    """Symbols, int64 (batch, time), and bits a sample, float64 (batch,).

    uniforms: (batch, time), floats from [0, 1), at least one sample. silence: a symbol.
    temperature: 0 to math.inf.
    """
    ### BEGIN SOLUTION
    batch, time = uniforms.shape
    symbols = torch.full((batch,), silence, dtype=torch.int64)
    inputs = [[] for _ in layers]                                   # the newest last
    drawn, bits = [], torch.zeros(batch, dtype=torch.float64)
    for t in range(time):
        h = embed(symbols)
        for queue, (dilation, f) in zip(inputs, layers):
            old = queue.pop(0) if len(queue) == dilation else torch.zeros_like(h)
            queue.append(h)
            h = f(h, old)
        row = logits(h).double()                                    # (batch, symbol)
        possible = row > -math.inf
        below = (row - row.amax(1, keepdim=True)).masked_fill(~possible, -math.inf)
        if temperature == 0:
            symbols = (below == 0).int().argmax(1)
        else:
            weights = (below / temperature).exp() if temperature < math.inf else possible.double()
            sums = weights.cumsum(1)
            beyond = (sums > uniforms[:, t:t + 1].double() * sums[:, -1:]) & (weights > 0)
            # rounding may leave none: then the last one that can come
            last = weights.shape[1] - 1 - (weights > 0).flip(1).int().argmax(1)
            symbols = torch.where(beyond.any(1), beyond.int().argmax(1), last)
        cost = torch.logsumexp(below, 1) - below.gather(1, symbols[:, None])[:, 0]
        bits = bits + cost / math.log(2) / time
        drawn.append(symbols)
    return torch.stack(drawn, 1), bits
    ### END SOLUTION

# %%
# CHECK 5
calls = []
def counted(name, f):
    """f, and a note for each call."""
    def noted(*arguments):
        calls.append(name)
        return f(*arguments)
    return noted

three = torch.tensor([0.2, 0.5, 0.3]).log()
fixed = lambda h: three.expand(len(h), 3)
u = torch.tensor([[0.1, 0.19, 0.21, 0.69, 0.71, 0.99]])
found, bits = draw_sound(lambda s: s[:, None].float(), [], fixed, u, 1)
assert found.dtype == torch.int64 and found.tolist() == [[0, 0, 1, 1, 2, 2]], (
    f"sums 0.2, 0.7, 1: symbols 0 0 1 1 2 2; you say {found}")
expected = -(2 / 6) * math.log2(0.2 * 0.5 * 0.3)
assert bits.dtype == torch.float64 and abs(float(bits[0]) - expected) < 1e-5, (
    f"two of each cost {expected:.4f} bits a sample; you say {bits}")
cold, bits = draw_sound(lambda s: s[:, None].float(), [], fixed, u, 1, 0)
assert cold.eq(1).all() and abs(float(bits[0]) - 1) < 1e-5, (
    f"temperature 0: always symbol 1, whose p is 1/2: one bit; you say {cold}, {bits}")
hot, _ = draw_sound(lambda s: s[:, None].float(), [], fixed, u, 1, math.inf)
assert hot.tolist() == [[0, 0, 0, 2, 2, 2]], f"temperature infinity: thirds; you say {hot}"
calls.clear()
layers = [(2, counted("first", lambda now, old: now + 10 * old)),
          (DILATION, counted("second", lambda now, old: now + 100 * old))]
want = counted("logits", lambda h: F.one_hot((h[:, 0].long() % SYMBOLS), SYMBOLS) * 50.0)
found, _ = draw_sound(counted("embed", lambda s: s[:, None].float() + 1), layers, want,
                      torch.full((1, 12), 0.5), SILENCE)
before, first, second = [SILENCE], [], []
for t in range(12):
    first.append(before[t] + 1)
    second.append(first[t] + 10 * (first[t - 2] if t >= 2 else 0))
    before.append((second[t] + 100 * (second[t - DILATION] if t >= DILATION else 0)) % SYMBOLS)
assert found.tolist() == [before[1:]], f"symbols {before[1:]}; you say {found.tolist()}"
assert len(calls) == 48, f"four parts, 12 samples: 48 calls; you made {len(calls)}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _parts(generator, channels, symbols, dilations, calls, dtype=torch.float32, level=1.0):
    """Parts with weights of their own, in double precision inside."""
    table = torch.randn(symbols, channels, generator=generator).double()
    mixes = [torch.randn(2, channels, channels, generator=generator).double() for _ in dilations]
    out = torch.randn(channels, symbols, generator=generator).double() * 2
    def embed(s):
        assert s.dtype == torch.int64 and s.ndim == 1, "embed gets symbols, int64 (batch,)"
        calls[0] += 1
        return table[s].to(dtype)
    def layer(number, mix):
        def f(now, old):
            assert now.shape == old.shape and now.ndim == 2, "layers get (batch, channels) twice"
            assert now.dtype == old.dtype == dtype, "layers get what the parts before gave"
            calls[1 + number] += 1
            return (now.double() + (now.double() @ mix[0] + old.double() @ mix[1]).tanh()).to(dtype)
        return f
    def logits(h):
        calls[-1] += 1
        return (level * (h.double() @ out)).to(dtype)
    return embed, [(d, layer(n, mix)) for n, (d, mix) in enumerate(zip(dilations, mixes))], logits

def _drawn(rows, uniform, temperature):
    """One symbol of each row and its bits, with numbers of Python."""
    symbols, bits = [], []
    for row, u in zip(rows.double().tolist(), uniform.double().tolist()):
        top = max(row)
        below = [v - top if v > -math.inf else -math.inf for v in row]
        if temperature == 0:
            symbol = below.index(0.0)
        else:
            weights = [0.0 if v == -math.inf else 1.0 if temperature == math.inf else math.exp(
                v / temperature) for v in below]
            sums = [math.fsum(weights[:k + 1]) for k in range(len(weights))]
            symbol = next((k for k, one in enumerate(sums) if weights[k] and one > u * sums[-1]),
                          max(k for k, weight in enumerate(weights) if weight))
        symbols.append(symbol)
        whole = math.log(math.fsum(math.exp(v) for v in below if v > -math.inf))
        bits.append((whole - below[symbol]) / math.log(2))
    return symbols, bits

def _right(parts, calls, uniforms, silence, temperature, message):
    embed, layers, logits = parts
    given = list(layers)
    before = uniforms.clone()
    calls[:] = [0] * len(calls)
    found, bits = draw_sound(embed, layers, logits, uniforms, silence, temperature)
    counts = list(calls)
    batch, time = uniforms.shape
    message = (f"{message}: uniforms {tuple(uniforms.shape)}, dilations {[d for d, _ in given]}, "
               f"temperature {temperature:g}")
    assert truth.equal(uniforms, before) and layers == given, "the function changes its arguments"
    assert found.dtype == torch.int64 and truth.has_shape(found, batch, time), (
        f"symbols are int64 (batch, time), {message}")
    assert bits.dtype == torch.float64, f"bits are float64, {message}"
    symbols, inputs = torch.full((batch,), silence), [[] for _ in given]
    expected, costs = [], []
    for t in range(time):
        h = embed(symbols)
        for kept, (dilation, f) in zip(inputs, given):
            kept.append(h)
            h = f(h, kept[t - dilation] if t >= dilation else torch.zeros_like(h))
        row, cost = _drawn(logits(h), before[:, t], temperature)
        symbols = torch.tensor(row)
        expected.append(symbols)
        costs.append(cost)
    assert truth.equal(found, torch.stack(expected, 1)), f"wrong symbols, {message}"
    costs = torch.tensor(costs, dtype=torch.float64).mean(0)
    assert truth.close(bits / (1 + costs), costs / (1 + costs), rtol=1e-4, atol=1e-5), (
        f"wrong bits, {message}")
    assert counts == [time] * len(counts), f"each part is called once a sample, {message}"

_generator = hidden.generator("networks")
_uniform = lambda batch, time: torch.rand(batch, time, generator=_generator)
for _case in range(5):
    _dilations = [hidden.integer(f"dilation {_case} {_n}", 1, 9) for _n in range(_case)]
    _symbols = hidden.integer(f"symbols {_case}", 3, 9)
    _calls = [0] * (_case + 2)
    _channels = hidden.integer(f"channels {_case}", 1, 4)
    _net = _parts(_generator, _channels, _symbols, _dilations, _calls)
    for _temperature in (1.0, hidden.real(f"temperature {_case}", 0.3, 2.0)):
        _right(_net, _calls, _uniform(1 + _case % 3, 20), _case % _symbols, _temperature, "a net")
_calls = [0] * 4
_net = _parts(_generator, 3, 6, [1, 4], _calls)
for _temperature in (0, 0.0, 1e-3, 0.05, 1e6, math.inf):
    _right(_net, _calls, _uniform(2, 15), 0, _temperature, "temperatures of all kinds")
_right(_net, _calls, 0 * _uniform(2, 8), 5, 1.0, "u = 0")
_right(_net, _calls, 0 * _uniform(2, 8) + (1 - 2 ** -24), 5, 1.0, "u next to 1")
_right(_net, _calls, _uniform(3, 1), 2, 0.7, "one sample")
_calls = [0] * 3
_net = _parts(_generator, 2, 4, [50], _calls)
_right(_net, _calls, _uniform(2, 12), 1, 1.0, "a dilation longer than the sound")
_right(_net, _calls, _uniform(2, 120), 1, 1.0, "a long sound")
_rows = torch.tensor([[-math.inf, 0.0, -math.inf, 1.0, -math.inf], [2.0, 2.0, -math.inf, 2.0, 1.0],
                      [-math.inf, -math.inf, 5.0, -math.inf, -math.inf],
                      [-500.0, -math.inf, -500.5, -499.0, -math.inf]])
_calls = [0] * 2
def _given(rows):
    def embed(s):
        _calls[0] += 1
        return torch.zeros(len(s), 1)
    def logits(h):
        _calls[1] += 1
        return rows[:len(h)].clone()
    return embed, [], logits
for _temperature in (0, 0.5, 1.0, math.inf):
    for _u in (0.0, 0.3, 0.6, 1 - 2 ** -24):
        _right(_given(_rows), _calls, torch.full((4, 2), _u), 0, _temperature, f"u = {_u:g}")
_right(_given(torch.zeros(2, 5)), _calls, torch.tensor([[0.2, 0.4, 0.6, 0.8]] * 2).double(), 0,
       0, "all alike")
_right(_given(torch.zeros(2, 4)), _calls, torch.tensor([[0.0, 0.25, 0.5, 0.75]] * 2), 0, 1.0,
       "u is just a sum")
_large = torch.tensor([[1e25, -1e25, 1e25, 0]])
_right(_given(_large), _calls, _uniform(1, 9), 0, 1.0, "large logits")
_right(_given(-_large[:, :2] - 2e25), _calls, _uniform(1, 3), 0, 1.0, "all far below")
_wide = torch.full((1, 300), -20.0)
_wide[0, [3, 299]] = 0.0
_right(_given(_wide), _calls, torch.tensor([[0.4, 0.6, 1 - 2 ** -24]]), 0, 1.0, "300 symbols")
_u = _uniform(2, 12)
edges.left_out("tiny", "u is from [0, 1): a tiny one is next to 0")
_calls = [0] * 4
edges.case("zeros inside")
_net = _parts(_generator, 3, 6, [2, 3], _calls)
_v = _u.clone()
_v[:, 4:6] = 0
_right(_net, _calls, _v, 3, 1.0, "zeros inside")
edges.case("short")
_right(_net, _calls, _u[:, :1], 3, 1.0, "short")
edges.case("huge")
_right(_parts(_generator, 3, 6, [2, 3], _calls, level=1e8), _calls, _u, 3, 1.0, "large logits")
edges.case("other type")
_right(_parts(_generator, 3, 6, [2, 3], _calls, torch.float64), _calls, _u.double(), 3, 1.0,
       "double precision")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: how much mu?
#
# Everybody takes $\mu = 255$. What would be wrong with 15, or with 65,535? The cell below gives you a song, a mu-law of any $\mu$ by (15.1) with 256 values, put back to the *middle* of what a symbol stands for, and the SNR. It also counts symbols: what the song costs if one knows how often each symbol occurs.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: for $\mu$ = 0 (equal steps), 15, 255, 4095 and 65,535 the SNR of a song as it is, 20 dB softer, and 40 dB softer; and the bits a sample at the song's own level,
# - in how many of your songs 255 is ahead of 15 at each level, and how far the best and the worst level of each $\mu$ are apart,
# - a reading: what does a larger $\mu$ buy, and what does it cost? Why does the SNR for 65,535 hardly depend on the level? Why do the bits depend on $\mu$, though there are 256 symbols always, where are they highest, and what does that mean for a network that predicts the symbols?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: 256 values by mu-laws of all kinds; add your own cells
RATE = 16_000  # Hz


def excerpt(number):
    """Four seconds of a song of the band, mono, its loudest sample 1: (time,), float64."""
    from course_lib.data import open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0)
    x = resample(song.mixture.mean(0, keepdim=True), song.rate, RATE)[0].double()
    return x / x.abs().max()


def compressed(x, mu):
    """f of (15.1), for mu 0 its limit."""
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu) if mu else x


def symbols_by(x, mu):
    """256 symbols of equal steps in f."""
    return ((compressed(x, mu) + 1) * 128).floor().clamp(0, 255).long()


def back_by(symbols, mu):
    """The middle of each symbol's step."""
    y = (symbols.double() + 0.5) / 128 - 1
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu if mu else y


def snr(x, y):
    """SNR in dB."""
    return float(10 * torch.log10(x.square().sum() / (x - y).square().sum()))


def bits(symbols):
    """Entropy of how often symbols occur, in bits a sample."""
    p = torch.bincount(symbols, minlength=256).double() / len(symbols)
    return float(-(p[p > 0] * p[p > 0].log2()).sum())

# For example:  x = excerpt(0)
#               snr(x / 10, back_by(symbols_by(x / 10, 255), 255))       # 20 dB softer
#               bits(symbols_by(x, 255))

# %% [markdown]
# <!-- TASK 6 (5 points): how much mu? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, rate, the loudest sample 1, 256 symbols always and only $\mu$ and the level vary; what the SNR compares.
# - 1 point: the table with plausible numbers, on more than one song with the number of songs in which 255 is ahead of 15 (none as it is, by -4.3 dB; all at 20 and at 40 dB softer, by 4.1 and 15.2 dB), or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: a larger $\mu$ buys *evenness*: from the loudest to the softest level the SNR changes by 41 dB with equal steps, by 27, 7.9, 0.7 and 0.1 dB with 15, 255, 4095 and 65,535. It costs SNR where the song is loud, for the symbols near silence are taken from the loud samples.
#   For a large $\mu$ the curve is a logarithm nearly everywhere, so that a step is a fixed *share* of the sample, and so is its error; a softer song uses other symbols, equally fine ones. The bits are highest where all symbols occur about equally often, here at 15 with 7.7 of 8 bits: equal steps leave the outer symbols unused, and 65,535 spends many on samples so soft that they hardly occur.
#   So a network's bits a sample say nothing across codes: the same song is "easier" at 65,535 because less of it is left. An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: a limit, such as: SNR isn't what is heard, loud sounds mask the noise beside them; mixed songs of one band at full scale, while single notes die away to silence; four seconds of eight songs; no dither; other numbers of symbols; nothing was predicted, and a network sees the past, not only how often a symbol occurs.
#
# For comparison, means over the first eight test songs, seconds 8 to 12, with the cell above (SNR in dB, bits a sample).
#
# | | as it is | 20 dB softer | 40 dB softer | bits |
# |---|---|---|---|---|
# | mu 0 | 40.42 | 20.42 | -0.56 | 6.95 |
# | mu 15 | 42.25 | 32.82 | 14.84 | 7.71 |
# | mu 255 | 37.93 | 36.95 | 30.04 | 7.44 |
# | mu 4095 | 34.54 | 34.46 | 33.84 | 6.94 |
# | mu 65535 | 32.03 | 32.03 | 31.98 | 6.54 |
# <!-- END RUBRIC -->
