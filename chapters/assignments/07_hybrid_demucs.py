# %% [markdown]
# # Assignment 7 · Two views in step
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 7, but none is a copy of it: you lay frames on hops whatever the window, find out what a layer for real numbers does to complex ones,
# give rows an address by a rule of your own, measure how much a convolution really stretches, and bring several songs to one tempo. Read what is asked for, above all at
# the edges (a sound of one sample, a circle shorter than the kernel, a single song).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.hdemucs` don't count as your own work, nor does changing
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
HOPS = variation.integer("hops", 4, 7)  # of a sound
# a window and the hop between two of them, samples
KERNEL, STRIDE = variation.choice("kernel and stride", [(10, 4), (12, 6), (14, 4), (11, 5)])
# correlation of two rows an octave apart
PER_OCTAVE = variation.choice("per octave", [0.5, 0.6, 0.8])
CIRCLE = variation.integer("circle", 6, 9)  # steps
TEMPO = variation.choice("tempo", [84.0, 96.0, 110.0])  # beats a minute

# %% [markdown]
# ## Task 1: frames that lie on hops
#
# Both branches of a hybrid network need one step a hop: step $m$ is about the samples $mS \dots (m+1)S - 1$ of the sound. A frame of $K \ge S$ samples, `kernel`, reaches beyond its hop of $S$ samples,
# `stride`: by equally many samples on either side, and where $K - S$ is odd by one more at its *end*.
#
# Cut a sound into such frames, as many as it has hops (the last one may be only partly there). Where a frame reaches beyond the sound, it sees the sound mirrored at its first and at its last sample, which aren't
# doubled: 1 2 3 4 is followed by 3 2 1. Chapter 7 puts zeros behind a sound too short for that. Here **the mirror image is mirrored again**, as often as it takes:
#
# $$ \dots\; 3\; 2\; [\,1\; 2\; 3\,]\; 2\; 1\; 2\; 3\; 2\; 1\; \dots $$
#
# A single sample is repeated.

# %%
# TASK 1 (5 points): frames that lie on hops
def frames_on_hops(x, kernel, stride):
    """The frames of a sound, each with its hop in the middle: (..., frame, kernel).

    x: (..., time), any number of axes in front (or none), at least one sample. kernel, stride:
    whole numbers, 1 <= stride <= kernel. There are ceil(time / stride) frames. Differentiable.
    """
    ### BEGIN SOLUTION
    time = x.shape[-1]
    starts = stride * torch.arange(-(-time // stride)) - (kernel - stride) // 2
    places = (starts[:, None] + torch.arange(kernel)) % max(1, 2 * time - 2)   # there and back
    return x[..., torch.where(places < time, places, 2 * time - 2 - places)]
    ### END SOLUTION

# %%
# CHECK 1
found = frames_on_hops(torch.arange(1.0, 9.0), 8, 4)
assert found.shape == (2, 8), f"8 samples are 2 hops of 4, so 2 frames of 8; you: {found.shape}"
assert found.tolist() == [[3, 2, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 7, 8, 7, 6]], (
    f"1 to 8, frames of 8 on hops of 4: 2 samples beyond the hop on either side; you: {found}")
found = frames_on_hops(torch.tensor([1.0, 2.0, 3.0]), 10, 3)
assert found.tolist() == [[2, 3, 2, 1, 2, 3, 2, 1, 2, 3]], (
    f"1 2 3, a frame of 10 on a hop of 3: 3 samples more before it, 4 behind it, mirrored again "
    f"and again; you: {found}")
found = frames_on_hops(torch.ones(2, 1), 4, 2)
assert found.tolist() == [[[1, 1, 1, 1]]] * 2, f"a single sample is repeated; you: {found}"
for m in range(HOPS):
    click = torch.zeros(1, 1, HOPS * STRIDE)
    click[..., m * STRIDE] = 1.0  # the first sample of hop m
    found = frames_on_hops(click, KERNEL, STRIDE)
    assert found.shape == (1, 1, HOPS, KERNEL), f"{HOPS} hops, so {HOPS} frames; {found.shape}"
    assert found[0, 0, m, (KERNEL - STRIDE) // 2] == 1, (
        f"hop {m} isn't in the middle of frame {m}: the click stands at {found[0, 0, m].argmax()}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _walked(x, kernel, stride):
    """Sample by sample: from a place outside, walk back into the sound, turning at its ends."""
    time, frames = x.shape[-1], []
    for hop in range(math.ceil(x.shape[-1] / stride)):
        frame, start = [], hop * stride - (kernel - stride) // 2
        for place in range(start, start + kernel):
            while not 0 <= place < time:
                place = -place if place < 0 else 2 * (time - 1) - place
                place = 0 if time == 1 else place
            frame.append(x[..., place])
        frames.append(torch.stack(frame, -1))
    return torch.stack(frames, -2)

def _right(x, kernel, stride, message, level=1.0):
    before = x.clone()
    found = frames_on_hops(x, kernel, stride)
    assert truth.equal(x, before), "the function changes the sound"
    assert isinstance(found, torch.Tensor) and found.dtype == x.dtype, f"wrong type: {message}"
    assert truth.close(found / level, _walked(before, kernel, stride) / level), (
        f"wrong frames: {message}")

_generator = hidden.generator("sounds")
for _case, _front in enumerate(((), (2,), (2, 1), (1, 2), (2, 3, 2))):
    _stride = hidden.integer(f"stride {_case}", 2, 6)
    for _more in (2 * hidden.integer(f"more {_case}", 1, 4), 2 * _case + 3):
        _time = 5 * _stride + hidden.integer(f"time {_case} {_more}", 1, _stride - 1)
        _right(torch.randn(*_front, _time, generator=_generator), _stride + _more, _stride,
               f"{(*_front, _time)}, kernel {_stride + _more}, stride {_stride}")
_right(torch.randn(2, 12, generator=_generator), 4, 4, "a kernel as long as the stride")
_right(torch.randn(2, 7, generator=_generator), 5, 1, "a stride of 1")
_right(torch.randn(2, 9, generator=_generator), 3, 2, "one sample more, at the end")
for _time in (1, 2, 3, 5, hidden.integer("short", 6, 9)):
    _right(torch.randn(2, 2, _time, generator=_generator), 16, 4, f"{_time} samples, kernel 16")
    _right(torch.randn(_time, generator=_generator), 23, 7, f"{_time} samples, kernel 23")
_x = torch.randn(2, 11, generator=_generator)
_weights = torch.randn(2, 3, 15, generator=_generator)
_leaf, _twin = (_x.clone().requires_grad_() for _ in range(2))
_found = frames_on_hops(_leaf, 15, 4)
assert _found.requires_grad, "no gradient reaches the sound"
(_found * _weights).sum().backward()
(_walked(_twin, 15, 4) * _weights).sum().backward()
assert truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), "the gradient is wrong"
_x = torch.randn(2, 1, 13, generator=_generator)
for _edge, _level, (_x,) in edges.mutated(_x):
    _right(_x, 9, 4, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a real layer for complex numbers
#
# With *complex as channels* a layer gets the real part of the first channel, its imaginary part, then those of the second channel, and so on, and gives its outputs in the same order. It knows nothing of complex numbers: its weight is real,
# and re and im are two channels like any others. Still, whatever such a (linear) layer does to complex numbers $z$ can be written, and in only one way, with two complex matrices:
#
# $$ z' = A\, z + B\, \bar z . $$
#
# The part with $A$ scales and turns. Turn the phase of the input, and its output turns with it. The part with $B$ turns the *other* way round: it minds what the phase is.
#
# 1. Find $A$ and $B$. Ask for the smallest case: one channel in and out, a weight of two rows and two columns. What becomes of $z = 1$, and what of $z = i$?
# 2. Which real weight is *nearest* to the given one (smallest sum of the squares of the changes) among those with $B = 0$, whose output turns with the input?

# %%
# TASK 2 (5 points): a real layer for complex numbers
def as_complex(weight):
    """The complex weights A and B of a real one, a pair: (out, in, ...) each.

    weight: real (2 out, 2 in, ...), re and im of each channel next to each other. The axes behind,
    any number of them, are those of a kernel: each of its places is a matrix of its own.
    """
    ### BEGIN SOLUTION
    (a, b), (c, d) = (weight[row::2].unflatten(1, (-1, 2)).unbind(2) for row in range(2))
    return torch.complex(a + d, c - b) / 2, torch.complex(a - d, b + c) / 2
    ### END SOLUTION


def turning_with(weight):
    """The real weight nearest to `weight`, of the same shape, whose output turns with its input.

    weight: as above.
    """
    ### BEGIN SOLUTION
    A, _B = as_complex(weight)
    rows = [torch.stack([A.real, -A.imag], 2), torch.stack([A.imag, A.real], 2)]
    return torch.stack(rows, 1).flatten(2, 3).flatten(0, 1)
    ### END SOLUTION

# %%
# CHECK 2
A, B = as_complex(torch.tensor([[2.0, -3.0], [3.0, 2.0]]))
assert A.shape == (1, 1) and A.is_complex() and A.item() == 2 + 3j and B.abs().item() == 0, (
    f"rows 2 -3 and 3 2 multiply by 2 + 3i: A is that, B 0; you say {A}, {B}")
A, B = as_complex(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
assert A.abs().item() == 0 and B.item() == 1, (
    f"rows 1 0 and 0 -1 change the sign of the imaginary part, so A is 0 and B 1; you: {A}, {B}")
generator = torch.Generator().manual_seed(2)
weight, z = torch.randn(6, 4, generator=generator), torch.randn(4, generator=generator)
A, B = as_complex(weight)
assert A.shape == B.shape == (3, 2), f"3 channels from 2: (3, 2); you: {A.shape}, {B.shape}"
expected = torch.view_as_complex((weight @ z).reshape(3, 2))
z = torch.view_as_complex(z.reshape(2, 2))
assert torch.allclose(A @ z + B @ z.conj(), expected, atol=1e-5), (
    f"A z + B conj(z) isn't what the layer gives: {A @ z + B @ z.conj()}, expected {expected}")
found = turning_with(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
assert torch.allclose(found, torch.tensor([[2.0, 0.0], [0.0, 2.0]])), (
    f"nearest to re times 1 and im times 3 is both times 2; you say {found}")
found = turning_with(weight)
assert found.shape == weight.shape, f"as many rows and columns as before; you: {found.shape}"
assert as_complex(found)[1].abs().max() < 1e-6, "B of the nearest weight isn't 0"
assert torch.allclose(turning_with(found), found, atol=1e-6), (
    "a weight whose output turns with its input needn't change")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _asked(weight):
    """A and B from what becomes of 1 and of i in each channel: A + B, and i (A - B)."""
    weight = weight.double()
    out, channels = weight.shape[0] // 2, weight.shape[1] // 2
    of_one, of_i = (torch.stack([torch.stack([
        torch.complex(weight[2 * o, 2 * n + part], weight[2 * o + 1, 2 * n + part])
        for n in range(channels)]) for o in range(out)]) for part in range(2))
    return (of_one - 1j * of_i) / 2, (of_one + 1j * of_i) / 2

def _nearest(weight):
    """The mean of the weight and of what it is after a quarter turn back and forth."""
    weight, turned = weight.double(), torch.zeros_like(weight.double())
    for o in range(weight.shape[0] // 2):
        for n in range(weight.shape[1] // 2):
            (a, b), (c, d) = weight[2 * o, 2 * n:2 * n + 2], weight[2 * o + 1, 2 * n:2 * n + 2]
            turned[2 * o, 2 * n], turned[2 * o, 2 * n + 1] = d, -c
            turned[2 * o + 1, 2 * n], turned[2 * o + 1, 2 * n + 1] = -b, a
    return (weight + turned) / 2

def _right(weight, message, level=1.0):
    before = weight.clone()
    pair = as_complex(weight)
    assert type(pair) in (tuple, list) and len(pair) == 2, "as_complex returns two tensors"
    wanted = {torch.float32: torch.complex64, torch.float64: torch.complex128}[weight.dtype]
    for name, found, expected in zip("AB", pair, _asked(before)):
        assert isinstance(found, torch.Tensor) and found.dtype == wanted, (
            f"wrong type of {name}: {message}")
        assert truth.close(found / level, expected / level), f"wrong {name}: {message}"
    nearest = turning_with(weight)
    assert truth.equal(weight, before), "a function changes the weight"
    assert isinstance(nearest, torch.Tensor) and nearest.dtype == weight.dtype, (
        f"wrong type of the nearest weight: {message}")
    assert truth.close(nearest / level, _nearest(before) / level), (
        f"not the nearest weight: {message}")

_generator = hidden.generator("weights")
for _case, _kernel in enumerate(((), (3,), (8, 1), (2, 3), ())):
    _shape = (2 * hidden.integer(f"out {_case}", 2, 5), 2 * hidden.integer(f"in {_case}", 1, 4),
              *_kernel)
    _right(torch.randn(_shape, generator=_generator), f"a weight of {_shape}")
_right(torch.randn(2, 2, generator=_generator), "a single channel")
_right(torch.randn(2, 8, generator=_generator), "one channel from four")
_right(torch.randn(4, 4, 4, generator=_generator), "two channels, a kernel of 4")
_right(torch.zeros(4, 2), "a weight of zeros")
_one = torch.randn(6, 1, 4, 1, generator=_generator).expand(6, 2, 4, 2).reshape(12, 8)
_right(_one, "equal rows")
_weight = torch.randn(4, 6, 3, generator=_generator)
for _edge, _level, (_weight,) in edges.mutated(_weight):
    _right(_weight, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: an address as smooth as you like
#
# The smooth start (7.4) of the addresses adds up what was drawn: two rows $n < m$ of it have the correlation $\sqrt{n/m}$. So an octave apart, $m = 2n$, it is always $\sqrt{1/2}$, down in the bass and up
# in the treble: the address is as smooth in *octaves* everywhere. But why just $\sqrt{1/2}$?
#
# Write a start for which you choose the correlation $c$ of two rows an octave apart. From independent numbers $g_1, g_2, \dots$ of variance 1 make $e_1, e_2, \dots$, so that
#
# - every $e_n$ has variance 1,
# - rows $n$ and $m$ have the correlation $c^{|\log_2 (m/n)|}$: over two octaves $c^2$, over half of one $\sqrt c$,
# - $e_n$ is a sum of $g_1, \dots, g_n$ with weights, that of $g_n$ not negative.
#
# There is only one such start. A hint: walk along the rows. How much of $e_n$ goes on in $e_{n+1}$, and how much new is needed to have variance 1 again? With $c = 1$ all rows are alike, with $c = 0$ they are the $g_n$ themselves.

# %%
# TASK 3 (5 points): an address as smooth as you like
def smooth_address(g, per_octave):
    """Addresses of which two rows an octave apart have the given correlation.

    g: (row, channel), all drawn independently; the first row is row 1. per_octave: from 0 to 1,
    both included. Returns (row, channel).
    """
    ### BEGIN SOLUTION
    rows = [g[0]]
    for n in range(1, len(g)):
        alike = per_octave ** math.log2((n + 1) / n)
        rows.append(alike * rows[-1] + math.sqrt(1 - alike ** 2) * g[n])
    return torch.stack(rows)
    ### END SOLUTION

# %%
# CHECK 3
g = torch.randn(9, 3, generator=torch.Generator().manual_seed(3))  # (row, channel)
found = smooth_address(g, PER_OCTAVE)
assert found.shape == (9, 3), f"as many rows and channels as before: (9, 3); you: {found.shape}"
chapter = g.cumsum(0) / torch.arange(1, 10)[:, None].sqrt()
assert torch.allclose(smooth_address(g, 0.5 ** 0.5), chapter, atol=1e-4), (
    "with the square root of 1/2 it should be the chapter's smooth start")
weights = smooth_address(torch.eye(9), PER_OCTAVE)  # (row, how much of each g is in it)
assert torch.allclose(weights.square().sum(1), torch.ones(9), atol=1e-4), (
    f"the variances are {weights.square().sum(1)}, not 1")
assert weights.triu(1).abs().max() == 0, "row n may be made of g_1 to g_n only"
correlation = weights @ weights.T
for n, m, expected in ((1, 2, PER_OCTAVE), (3, 6, PER_OCTAVE), (2, 8, PER_OCTAVE ** 2)):
    assert abs(float(correlation[n - 1, m - 1]) - expected) < 1e-3, (
        f"rows {n} and {m}: correlation {float(correlation[n - 1, m - 1]):.3f}, not {expected:.3f}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _weighed(g, per_octave):
    """In float64, by the weights of all g in a row, worked out."""
    place = torch.arange(1, len(g) + 1, dtype=torch.float64)
    if per_octave == 0:
        return g.double()
    steepness = -math.log2(per_octave)
    weights = (place[None, :] / place[:, None]) ** steepness
    new = (1 - ((place - 1) / place) ** (2 * steepness)).sqrt()
    new[0] = 1
    return (weights * new).tril() @ g.double()

def _right(g, per_octave, message, level=1.0):
    before = g.clone()
    found = smooth_address(g, per_octave)
    assert truth.equal(g, before), "the function changes its argument"
    assert isinstance(found, torch.Tensor) and found.dtype == g.dtype, f"wrong type: {message}"
    assert truth.close(found / level, _weighed(before, per_octave) / level, rtol=1e-3, atol=1e-4), (
        f"wrong addresses: {message}")

_generator = hidden.generator("addresses")
for _case, _rows in enumerate((2, 5, 12, 33, 70)):
    _g = torch.randn(_rows, hidden.integer(f"channels {_case}", 1, 6), generator=_generator)
    for _octave in (hidden.real(f"low {_case}", 0.05, 0.4),
                    hidden.real(f"high {_case}", 0.6, 0.99)):
        _right(_g, _octave, f"{_rows} rows, {_octave:.2f} an octave")
_g = torch.randn(40, 3, generator=_generator)
_right(_g, 0.0, "nothing in common: the rows as they are")
_right(_g, 0, "a whole number, 0")
_right(_g, 1.0, "all rows are the first")
_right(_g, 0.999, "nearly all in common")
_right(_g, 1e-6, "nearly nothing in common")
_right(torch.randn(512, 2, generator=_generator), hidden.real("long", 0.6, 0.9), "512 rows")
_right(torch.eye(20), hidden.real("weights", 0.2, 0.8), "the weights of 20 rows")
_right(_g + 3, 0.7, "numbers that aren't about 0: each row by the same weights")
for _edge, _level, (_g,) in edges.mutated(_g, axis=0):
    for _octave in (0.3, 0.9):
        _right(_g, _octave, f"{_edge}, {_octave} an octave", _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: how much a convolution stretches
#
# The penalty of chapter 7 takes a convolution's weight as one matrix, of outputs by all that an output reads, and holds its largest singular value. But that matrix stretches *one* step of the output. The layer uses the kernel at
# every step, and the steps share their inputs: so the layer as a whole may stretch by more.
#
# Find how much. That nothing is lost at the ends, the sound lies on a circle of $n$ steps, whose last is followed by its first:
#
# $$ y[o, t] = \sum_i \sum_k w[o, i, k]\; x[i, (t + k) \bmod n], \qquad \text{largest stretch} = \max_{x \ne 0} \frac{\|y\|}{\|x\|}. $$
#
# Both norms are over channels and steps together. Written down as one matrix this has $n$ times as many rows and columns as there are channels. But remember what becomes of a convolution when both sides are taken to frequencies,
# and that the Fourier transform changes no norm (but for a factor, the same on both sides). The kernel may be longer than the circle: then it goes around it more than once.

# %%
# TASK 4 (5 points): how much a convolution stretches
def stretch(weight, steps):
    """The largest stretch of the convolution on a circle, one number (a tensor without axes).

    weight: (out, in, kernel), any sizes. steps: n, 1 or more. Differentiable in the weight (where
    that isn't 0).
    """
    ### BEGIN SOLUTION
    rounds = -(-weight.shape[-1] // steps)
    around = F.pad(weight, (0, rounds * steps - weight.shape[-1])).unflatten(-1, (rounds, steps))
    by_frequency = torch.fft.rfft(around.sum(-2)).movedim(-1, 0)               # (bin, out, in)
    return torch.linalg.matrix_norm(by_frequency, 2).max()
    ### END SOLUTION

# %%
# CHECK 4
found = stretch(torch.tensor([[[0.5, 0.5]]]), CIRCLE)
assert isinstance(found, torch.Tensor) and found.shape == (), f"one number; you return {found}"
assert abs(float(found) - 1) < 1e-4, (
    f"the mean of two neighbours stretches a steady sound by 1, and nothing more; you say {found}")
found = float(stretch(torch.tensor([[[1.0, -1.0]]]), 6))
assert abs(found - 2) < 1e-4, (
    f"the difference of two neighbours, 6 steps: +1 -1 +1 -1 +1 -1 is doubled; you say {found}")
found = float(stretch(torch.tensor([[[1.0, -1.0]]]), 3))
assert abs(found - 3 ** 0.5) < 1e-4, (
    f"on 3 steps the signs can't alternate: the square root of 3; you say {found}")
found = float(stretch(torch.tensor([[[1.0, -2.0, 4.0]]]), 2))
assert abs(found - 7) < 1e-4, (
    f"1 -2 4 on 2 steps: 1 and 4 read the same step, 5 -2, and +1 -1 becomes +7 -7; you: {found}")
weight = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(4))
matrix = torch.zeros(3, CIRCLE, 2, CIRCLE)  # (out, step, in, step)
for t in range(CIRCLE):
    for k in range(4):
        matrix[:, t, :, (t + k) % CIRCLE] += weight[:, :, k]
matrix = matrix.reshape(3 * CIRCLE, 2 * CIRCLE)
found, expected = float(stretch(weight, CIRCLE)), float(torch.linalg.matrix_norm(matrix, 2))
assert abs(found - expected) < 1e-3, (
    f"3 channels from 2, kernel 4, {CIRCLE} steps: as one large matrix it stretches by "
    f"{expected:.4f}; you say {found:.4f}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _whole(weight, steps):
    """The whole convolution as one matrix, in float64, taken apart."""
    out, channels, kernel = weight.shape
    shifts = torch.zeros(kernel, steps, steps, dtype=torch.float64)
    for k in range(kernel):
        for t in range(steps):
            shifts[k, t, (t + k) % steps] = 1
    matrix = torch.einsum("oik,kts->otis", weight.double(), shifts)
    return torch.linalg.svdvals(matrix.reshape(out * steps, channels * steps))[0]

def _right(weight, steps, message, level=1.0):
    before = weight.detach().clone()
    found = stretch(weight, steps)
    assert truth.equal(weight, before), "the function changes the weight"
    assert truth.has_shape(found, ), f"one number is asked for: {message}"
    assert isinstance(found, torch.Tensor) and found.dtype == weight.dtype, (
        f"wrong type: {message}")
    assert truth.close(found / level, _whole(before, steps) / level, rtol=1e-3, atol=1e-4), (
        f"wrong stretch: {message}")
    return found

_generator = hidden.generator("weights")
for _case, (_low, _high) in enumerate(((5, 8), (9, 12), (13, 16), (5, 12))):
    _shape = [hidden.integer(f"{_axis} {_case}", 1, 4) for _axis in ("out", "in", "kernel")]
    _weight = torch.randn(_shape, generator=_generator)
    for _steps in (_low, _low + 1, hidden.integer(f"steps {_case}", _low, _high)):
        _right(_weight, _steps, f"{tuple(_shape)}, {_steps} steps")
_weight = torch.randn(2, 3, 8, generator=_generator)
for _steps in (1, 2, 3, 5, 7, 8):
    _right(_weight, _steps, f"a kernel of 8, {_steps} steps")
_right(torch.randn(2, 3, 1, generator=_generator), 7, "a kernel of 1")
_right(torch.tensor([[[1.0, -1.0]]]), 8, "the difference of neighbours: the highest frequency")
_right(torch.tensor([[[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], [[0.0, -2.0, 0.0], [1.0, 0.0, 1.0]]]),
       12, "two channels")
_right(torch.tensor([[[1.0, 0.0, -1.0]]]), 12, "a stretch in the middle of the frequencies")
_right(torch.zeros(2, 2, 3), 5, "a weight of zeros")
for _steps in (9, 4):
    _leaf = torch.randn(3, 2, 6, generator=_generator).requires_grad_()
    _twin = _leaf.detach().double().requires_grad_()
    _found = _right(_leaf, _steps, "a weight with a gradient")
    assert _found.requires_grad, "no gradient reaches the weight"
    _found.backward()
    _whole(_twin, _steps).backward()
    assert truth.close(_leaf.grad, _twin.grad, rtol=1e-2, atol=1e-3), "the gradient is wrong"
_weight = torch.randn(3, 2, 5, generator=_generator)
for _edge, _level, (_weight,) in edges.mutated(_weight):
    for _steps in (6, 3):
        _right(_weight, _steps, f"{_edge}, {_steps} steps", _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: one tempo for all
#
# To put stems of *several* songs together, all of them must come to one tempo. Of each the tempo that a tracker heard is known; it may have heard halves or doubles, quarters, and so on. So a song of tempo $a$ falls into step with
# a common tempo $T$ if it is played $f = 2^k T / a$ times as fast, for any whole $k$ (below 0 as well).
#
# Find the factors of all songs with which the song that is changed **most** is changed as little as possible, counted in ratios: the largest $|\log f|$ is as small as can be. ($T$ is yours to choose, and each song's $k$.)
#
# Only the place of a tempo *within its octave* counts, and there the end of the octave is its beginning. Draw the songs on a circle.

# %%
# TASK 5 (4 points): one tempo for all
def common_factors(tempos):
    """How many times as fast each song is played, (song,): all in step, the most changed least.

    tempos: (song,), all above 0, at least one. They may be many octaves apart. Where several
    answers are equally good, any of them.
    """
    ### BEGIN SOLUTION
    logs = tempos.log2()
    places = (logs % 1).sort().values                                # within the octave
    gaps = torch.cat([places[1:], places[:1] + 1]) - places          # to the next on the circle
    widest = int(gaps.argmax())
    middle = places[widest] + (1 + gaps[widest]) / 2                 # opposite the widest gap
    return 2 ** ((middle - logs + 0.5) % 1 - 0.5)
    ### END SOLUTION

# %%
# CHECK 5
found = common_factors(torch.tensor([TEMPO, 2 * TEMPO, TEMPO / 4]))
assert found.shape == (3,) and torch.allclose(found, torch.ones(3), atol=1e-4), (
    f"{TEMPO:g}, its double and its quarter are in step already; you say {found}")
found = common_factors(torch.tensor([TEMPO, 1.21 * TEMPO]))
assert torch.allclose(found, torch.tensor([1.1, 1 / 1.1]), atol=1e-4), (
    f"tempos in the ratio 1.21: meet in the middle, 1.1 and 1 / 1.1; you say {found}")
found = common_factors(torch.tensor([60.0, 110.0]))
assert torch.allclose(found, torch.tensor([(55 / 60) ** 0.5, (60 / 55) ** 0.5]), atol=1e-4), (
    f"60 and 110: 110 may be 55, so the first slows down by half of the way, the second is played "
    f"faster; you say {found}")
found = common_factors(torch.tensor([100.0, 110.0, 121.0, 105.0]))
assert torch.allclose(found, torch.tensor([1.1, 1.0, 1 / 1.1, 110 / 105]), atol=1e-4), (
    f"100, 110, 121, 105: the lowest and the highest meet half way, at 110; you say {found}")
found = common_factors(torch.tensor([TEMPO]))
assert torch.allclose(found, torch.ones(1), atol=1e-4), f"a single song stays; you say {found}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _tried(tempos):
    """The best of all common tempos half way between two songs, in numbers."""
    logs, best = [math.log2(tempo) for tempo in tempos.double().tolist()], None
    for one in logs:
        for other in logs:
            apart = (other - one + 0.5) % 1 - 0.5
            for common in (one + apart / 2, one + apart / 2 + 0.5):
                changes = [(common - log + 0.5) % 1 - 0.5 for log in logs]
                most = max(abs(change) for change in changes)
                if best is None or most < best[0] - 1e-12:
                    best = most, changes
    return torch.tensor([2 ** change for change in best[1]], dtype=torch.float64)

def _right(tempos, message):
    before = tempos.clone()
    found = common_factors(tempos)
    assert truth.equal(tempos, before), "the function changes its argument"
    assert isinstance(found, torch.Tensor) and found.dtype == tempos.dtype, f"wrong type: {message}"
    assert truth.close(found, _tried(before), rtol=1e-3, atol=1e-4), f"wrong factors: {message}"

def _songs(count, arc, first, octaves):
    """Songs in random order on an arc of an octave that begins at `first`."""
    inside = torch.rand(count, generator=_generator) * arc
    inside[:2] = torch.tensor([0.0, arc])
    moved = torch.randint(-octaves, octaves + 1, (count,), generator=_generator)
    logs = (first + inside + moved)[torch.randperm(count, generator=_generator)]
    return 80 * 2 ** logs

_generator = hidden.generator("tempos")
for _case, _count in enumerate((2, 3, 4, 6, 9)):
    for _octaves in (0, 1, 6):
        _tempos = _songs(_count, hidden.real(f"arc {_case} {_octaves}", 0.1, 0.45),
                         hidden.real(f"first {_case} {_octaves}", 0.0, 1.0), _octaves)
        _right(_tempos, f"{_count} songs, up to {_octaves} octaves away")
for _case, _count in enumerate((3, 5, 8)):
    _places = torch.arange(_count) * 0.8 / _count + 0.02 * torch.rand(_count, generator=_generator)
    _tempos = 2 ** (6 + hidden.real(f"turn {_case}", 0.0, 1.0) + _places)
    _right(_tempos, f"{_count} songs nearly all around the octave")
    _right(_tempos.flip(0), f"{_count} songs nearly all around the octave")
_right(torch.tensor([64.0, 127.9, 32.1]), "just below and above a power of two")
_right(torch.tensor([90.0, 90.0, 180.0, 99.0]), "several songs of one tempo")
for _edge, _level, (_tempos,) in edges.mutated(
        _songs(5, 0.4, hidden.real("mutated", 0.0, 1.0), 1),
        without={"zeros inside": "a tempo of 0 is none"}):
    _right(_tempos, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: must the branches be in step?
#
# A hybrid's estimate is the sum of what its two branches write. The first models that won a competition added their spectrogram branch 3/2 hops late, and had learned to live with it. What if a network that has learned
# *in step* gets out of it? The cell below gives you six seconds of a song, what the branches of the course's small Hybrid Demucs (`nfft` 1024) write for it, and the SDR of each stem. Move one of the branches, by a few samples or by
# 3/2 hops, and measure. Leave one of them out, too: is a branch that comes late worse than none?
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: the SDR of each stem with both branches in step, with either alone, and with the spectrogram branch 1, 4, 16 and 384 samples late,
# - a control: both branches 16 samples late, in step with each other. What does it say about the loss when one of them is late, and can the SDR tell *out of step* from *late*?
# - which stems mind and which don't, and why: how much of a stem does the branch that you moved write, and which frequencies does it write there? From which frequency on is a delay of $d$ samples half a period?
# - one thing that this experiment can't tell about how hybrid networks should be built.

# %%
# EXPERIMENT: a song, what either branch writes, the SDR; write your own cells below
RATE = 22_050  # Hz, of the network


def six_seconds(number):
    """Six seconds of a song of the band in mono, at the network's rate: (source, 1, time)."""
    from course_lib.data import STEMS, open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 6.0)
    return resample(song.sources(STEMS).mean(1, keepdim=True), song.rate, RATE).double()


def branches(sources):
    """What the spectrogram branch and the time branch write: two of (source, 1, time)."""
    from course_lib.training import load_trained
    model = load_trained("hdemucs_band").double()
    with torch.no_grad():
        spectral, timed = model.branches(sources.sum(0)[None])
    return spectral[0], timed[0]


def later(x, samples):
    """The same sound, so many samples later, and as long as before."""
    return F.pad(x, (samples, 0))[..., :x.shape[-1]]


def sdr(found, sources, edge=1024):
    """SDR in dB of each source, drums, bass, other, vocals, without the ends: four numbers."""
    found, sources = found[..., edge:-edge], sources[..., edge:-edge]
    error = (sources - found).square().sum((1, 2))
    return (10 * torch.log10(sources.square().sum((1, 2)) / error)).tolist()

# For example:  sources = six_seconds(0)
#               spectral, timed = branches(sources)
#               sdr(later(spectral, 16) + timed, sources)

# %% [markdown]
# <!-- TASK 6 (6 points): must the branches be in step? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, which network, which branch is moved by how much, what is scored; only the delay (or which branch is left in) varies.
# - 2 points: the table with plausible numbers and the control, on more than one song, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: vocals mind most, then other; drums little, bass hardly. The spectrogram branch writes about half of the energy of the vocals, about a fifth of other, little of drums and next to nothing of
#   bass, whose scores therefore hang on the waveform branch alone. Both branches write one wave, so what counts is phase: a delay of d samples is half a period at RATE / (2 d), for 1, 4 and 16 samples at 11025, 2756 and 689 Hz, and from a sixth of a
#   period on (RATE / (6 d), for 16 samples 230 Hz) a moved tone is further from the truth than silence. The vocals of the spectrogram branch lie largely at some hundred hertz: a sample costs them a little, 16 samples more than all that both have over either. **16 samples late, vocals
#   are worse than with the branch left out**, in every song: late is worse than none. More delay (384) costs about the same in the mean, as then all of the branch is wrong, whatever the frequency (at one delay a single song may be lucky). The control, both branches 16 late, loses more still, as the *whole* estimate is late:
#   SDR forgives no delay, and in a sum there is no difference between late beside the other branch and late beside the truth. An answer that names the order of the stems, but no reason, gets one point.
# - 1 point: a limit, such as: this network was trained in step and never met a delay. One that is trained with a branch late learns to write earlier (the first models did), so nothing here says that alignment matters for training. Or: one small network,
#   trained for a short time, in mono, whose spectrogram branch does little yet for three of the stems; SDR minds phase more than ears do.
#
# For comparison, means over the first six test songs, seconds 8 to 14, with the cell above (SDR in dB).
#
# | | drums | bass | other | vocals |
# |---|---|---|---|---|
# | both in step | 5.55 | 2.77 | 1.85 | 2.28 |
# | spectrogram alone | 0.40 | -0.04 | 0.92 | 1.07 |
# | waveform alone | 5.28 | 2.70 | 1.64 | 0.89 |
# | spectrogram 1 late | 5.42 | 2.77 | 1.79 | 2.14 |
# | spectrogram 4 late | 5.26 | 2.77 | 1.48 | 1.81 |
# | spectrogram 16 late | 5.17 | 2.67 | 1.30 | 0.33 |
# | spectrogram 384 late | 5.13 | 2.65 | 1.22 | 0.53 |
# | both 16 late | 3.83 | 1.34 | -1.87 | -1.36 |
# <!-- END RUBRIC -->
