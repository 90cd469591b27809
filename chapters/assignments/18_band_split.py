# %% [markdown]
# # Assignment 18 · Cut, turned, and put together again
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 18, but none is a copy of it: you turn borders in Hz into bands of which none is empty, put overlapping bands together where some are surer than others,
# turn keys to any position and back again, send songs of different lengths both ways through the grid, and make masks whose stems add up to the mixture.
# Read what is asked for, above all at the edges (a border just on a bin, a bin in no band, position a hundred million, a song that is all padding, masks that are all silent).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.band_split` don't count as your own work, nor does changing
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
RATE = variation.choice("rate", [6400, 8000, 9600])  # Hz
STRIDE = variation.integer("stride", 3, 6)
PLACE = variation.integer("place", 3, 40) * 1_000_000  # a position
SPEED = variation.choice("speed", [0.3, 0.7, 1.1])  # radians a position
FRAMES = variation.integer("frames", 3, 6)
GATE = variation.choice("gate", [-2.0, 0.5, 1.5])

# %% [markdown]
# ## Task 1: no band without a bin
#
# `musical_widths` of section 18.2 gives up where a band has no bin. Write a split that doesn't. Bin $k$ of an STFT lies at $k \cdot \text{rate} / n_\text{fft}$ Hz, for $k = 0, \dots, \lfloor n_\text{fft} / 2 \rfloor$. A **border** parts the bins below it from those on it and above it. Borders are whole Hz in any order; some may be equal, and some may part nothing, being 0, below 0, or beyond the last bin.
#
# No band may have fewer than `least` bins. So go from the bottom up: a band that has too few takes in the next one, and the next, until it has enough. What is left at the top and has too few goes to the band below it. Where all bins together are too few, they are one band.
#
# Then count what SCNet (18.10) leaves, for any number of subbands. `parts` says how the rows are shared: of $n$ rows the first $j$ subbands together hold $\lceil n\, (p_1 + \dots + p_j) / (p_1 + \dots + p_K) \rceil$. A subband of $w$ rows leaves $\lceil w / \text{stride} \rceil$ of its own stride; these rows together are what the next layer shares out.
#
# All numbers are whole, and may be so large that floats don't hold them, or that nobody can go through the bins.

# %%
# TASK 1 (5 points): no band without a bin
def bands_of(borders, rate, n_fft, least):
    """(first bin, first bin after it) of every band, lowest first: a list of pairs of int.

    borders: list of int, Hz. rate, n_fft, least: 1 or more.
    """
    ### BEGIN SOLUTION
    bins = n_fft // 2 + 1
    places = sorted(-(-border * n_fft // rate) for border in borders)
    bands, begin = [], 0
    for place in places:
        if place < bins and place - begin >= least:
            bands.append((begin, place))
            begin = place
    if bands and bins - begin < least:
        begin = bands.pop()[0]
    return bands + [(begin, bins)]
    ### END SOLUTION


def rows_left(rows, parts, strides, layers):
    """The rows before the first layer and after each one: a list of layers + 1 int.

    rows: 1 or more. parts, strides: lists of int, 1 or more, one a subband. layers: 0 or more.
    """
    ### BEGIN SOLUTION
    found = [rows]
    for _ in range(layers):
        after, begin, held = 0, 0, 0
        for part, stride in zip(parts, strides):
            held += part
            end = -(-found[-1] * held // sum(parts))
            after += -(-(end - begin) // stride)
            begin = end
        found.append(after)
    return found
    ### END SOLUTION

# %%
# CHECK 1
# bins of 100 Hz: 0 to 32 of them, and the one at half the rate
bins = RATE // 200 + 1
found = bands_of([250, 1000], RATE, RATE // 100, 1)
assert list(map(tuple, found)) == [(0, 3), (3, 10), (10, bins)], (
    f"bins at 0, 100, ... Hz; 1000 Hz lies above its border: 0-3, 3-10, 10-{bins}; you say {found}")
found = bands_of([1000, 250, 1000, 0, -30, 10 ** 9], RATE, RATE // 100, 1)
assert list(map(tuple, found)) == [(0, 3), (3, 10), (10, bins)], (
    f"in any order, and with borders that part nothing, the same; you say {found}")
found = bands_of([100, 250, 300, 700, RATE // 2], RATE, RATE // 100, 3)
assert list(map(tuple, found)) == [(0, 3), (3, 7), (7, bins)], (
    f"at least 3 bins: the lowest band takes in the next one, the one bin at the top goes to the "
    f"band below: 0-3, 3-7, 7-{bins}; you say {found}")
found = bands_of([500], RATE, 4, 5)
assert list(map(tuple, found)) == [(0, 3)], f"3 bins are too few for 5: one band; you say {found}"
found = rows_left(100, [1, 2, 2], [1, 4, 16], 2)
assert list(found) == [100, 33, 12], (
    f"20 + 40 / 4 + 40 / 16, each rounded up, are 33; of these 7 + 13 / 4 + 13 / 16 are 12: "
    f"100, 33, 12; you say {found}")
found = rows_left(17, [1], [STRIDE], 1)
assert list(found) == [17, -(-17 // STRIDE)], f"17 rows by {STRIDE}, rounded up; you say {found}"
found = rows_left(9, [3, 5], [2, 7], 0)
assert list(found) == [9], f"no layers: the rows alone; you say {found}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _first(border, rate, n_fft):
    """The first bin that doesn't lie below the border, by halving."""
    if border <= 0:
        return 0
    low, high = 0, border * n_fft // rate + 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if middle * rate >= border * n_fft else (middle + 1, high)
    return low

def _bands(borders, rate, n_fft, least):
    given = list(borders)
    found = bands_of(given, rate, n_fft, least)
    message = f"borders {str(borders)[:120]}, rate {rate}, n_fft {n_fft}, least {least}"
    assert given == list(borders), "bands_of changes its argument"
    assert type(found) is list and all(type(pair) in (tuple, list) for pair in found), (
        f"a list of pairs: {message}")
    assert all(type(place) is int for pair in found for place in pair), (
        f"bins are whole numbers (int): {message}")
    bins = n_fft // 2 + 1
    places = sorted({_first(border, rate, n_fft) for border in borders} | {0, bins})
    widths = [b - a for a, b in zip(places, places[1:]) if b <= bins]
    joined = [0]
    for width in widths:
        if joined[-1] < least:
            joined[-1] += width
        else:
            joined.append(width)
    if len(joined) > 1 and joined[-1] < least:
        joined[-2:] = [sum(joined[-2:])]
    expected = [[sum(joined[:n]), sum(joined[:n + 1])] for n in range(len(joined))]
    assert [list(pair) for pair in found] == expected, f"wrong bands: {message}"

def _rows(rows, parts, strides, layers):
    given = list(parts), list(strides)
    found = rows_left(rows, *given, layers)
    message = f"{rows} rows, parts {parts}, strides {strides}, {layers} layers"
    assert given == (parts, strides), "rows_left changes its arguments"
    assert type(found) is list and all(type(one) is int for one in found), (
        f"a list of whole numbers (int): {message}")
    expected = [rows]
    for _ in range(layers):
        ends = [(expected[-1] * sum(parts[:n]) + sum(parts) - 1) // sum(parts)
                for n in range(len(parts) + 1)]
        expected.append(sum((b - a + stride - 1) // stride
                            for a, b, stride in zip(ends, ends[1:], strides)))
    assert found == expected, f"wrong rows: {message}"

for _case in range(8):
    _rate = hidden.integer(f"rate {_case}", 60, 900)
    _n_fft = hidden.integer(f"n_fft {_case}", 8, 90)
    _some = [hidden.integer(f"border {_case} {_n}", -20, _rate) for _n in range(2 + 2 * _case)]
    _bands(_some, _rate, _n_fft, 1 + _case % 4)
    _bands(sorted(_some), _rate, _n_fft, 1)
_exact = [_n * 125 for _n in range(1, 20)]
_bands(_exact, 4000, 64, 1)
_bands(_exact, 4000, 64, 4)
_bands(_exact, 4001, 64, 2)
_bands(_exact, 3999, 64, 2)
_bands([2000], 4000, 64, 1)
_bands([2000], 4000, 64, 2)
_bands([1999, 2001], 4000, 64, 1)
_bands([2000], 4000, 63, 1)
_bands([1, 2, 3], 44_100, 2048, 1)
_bands([100, 200, 300, 3000], 4000, 64, 1000)
_bands([20, 110, 250, 1600], 4000, 64, 5)
_bands([1000], 4000, 64, 16)
_bands([1000], 4000, 64, 17)
_bands([1000], 4000, 64, 18)
_bands([62, 125, 187], 4000, 64, 3)
edges.case("zeros inside")
_bands([0, 0, 300, 0], 4000, 64, 1)
_bands([0, -1, -4000, -10 ** 30], 4000, 64, 1)
edges.case("short")
_bands([], 4000, 64, 1)
_bands([500], 4000, 1, 1)
_bands([500], 4000, 2, 1)
_bands([500, 2500], 4000, 3, 2)
_rows(1, [1], [1], 1)
_rows(1, [2, 3, 5], [1, 4, 16], 3)
_rows(7, [2, 3], [2, 2], 0)
edges.case("tiny")
_bands([1], 1, 5, 1)
_bands([1], 10 ** 12, 64, 1)
_rows(2, [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], 4)
edges.case("huge")
_large = 10 ** 17
_bands([_large * 125 * _n + 1 for _n in range(5)], 4000 * _large, 2 ** 58, 2)
_bands([_large * 125 * _n - 1 for _n in range(5)], 4000 * _large + 1, 64 * (10 ** 20 + 3), 1)
_bands([7 ** 40, 7 ** 41 + 1], 7 ** 42, 7 ** 30, 10 ** 20)
_rows(10 ** 30 + 7, [175, 392, 433], [1, 4, 16], 5)
_rows(3 ** 50, [1, 10 ** 20, 3], [2, 3, 10 ** 9], 3)
edges.left_out("other type", "all numbers are whole")
for _case in range(6):
    _parts = [hidden.integer(f"part {_case} {_n}", 1, 9) for _n in range(1 + _case)]
    _strides = [hidden.integer(f"stride {_case} {_n}", 1, 7) for _n in range(1 + _case)]
    _rows(hidden.integer(f"rows {_case}", 5, 400), _parts, _strides, 1 + _case % 4)
_rows(2049, [175, 392, 433], [1, 4, 16], 3)
_rows(1000, [175, 392, 433], [1, 4, 16], 3)
_rows(10, [7, 2, 1], [1, 1, 1], 1)
_rows(40, [3, 7], [1, 1], 3)
_rows(65, [433, 392, 175], [16, 4, 1], 4)
_rows(20, [1, 1, 1], [9, 9, 9], 2)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: some bands are surer than others
#
# Where bands overlap, (18.6) takes the mean of their masks. But a band may know the bins in its middle better than those at its rim. Here each band has a **weight** for each bin, 0 where the bin isn't in the band; a bin belongs to all bands whose weight is above 0. What a bin gets is the mean of its bands' values by their weights at this bin,
#
# $$ M[f] = \frac{\sum_k w_k[f]\, \hat M_k[f]}{\sum_k w_k[f]} , $$
#
# and a bin that is in no band gets `rest`. Only the weights' *ratios* at a bin count, so weights may all be $10^{-40}$ there, or all $3 \cdot 10^{38}$. The bins of a band need not be neighbours, and a band may have none at all. Values may be real or complex.

# %%
# TASK 2 (5 points): some bands are surer than others
def cut(x, weights):
    """A list of each band's bins, lowest first: (batch, bin of the band, frame) each.

    x: (batch, bin, frame), real or complex. weights: floats (band, bin), 0 or more.
    """
    ### BEGIN SOLUTION
    return [x[:, row > 0] for row in weights]
    ### END SOLUTION


def join(parts, weights, rest):
    """The weighted mean at each bin: (batch, bin, frame). Differentiable in the parts.

    parts: list of (batch, bin of the band, frame), one a band. weights: as in `cut`, one band or
    more, of any precision. rest: a number. The result has the parts' precision.
    """
    ### BEGIN SOLUTION
    first = parts[0]
    shares = weights.double() / weights.double().amax(0).clamp_min(1e-320)
    found = first.new_zeros(len(first), weights.shape[1], first.shape[-1])
    for part, row, share in zip(parts, weights, shares / shares.sum(0)):
        where = row.nonzero()[:, 0]
        found = found.index_add(1, where, part * share[where, None].to(first.real.dtype))
    return found.masked_fill((weights == 0).all(0)[:, None], rest)
    ### END SOLUTION

# %%
# CHECK 2
weights = torch.tensor([[1.0, 3, 0, 0, 0], [0, 1, 2, 0, 1]])
x = torch.arange(10.0).view(1, 5, 2)
found = cut(x, weights)
assert len(found) == 2 and found[0].shape == (1, 2, 2) and found[1].shape == (1, 3, 2), (
    f"bins 0 1, and bins 1 2 4, of 2 frames: (1, 2, 2), (1, 3, 2); you: "
    f"{[tuple(part.shape) for part in found]}")
assert found[1].flatten().tolist() == [2, 3, 4, 5, 8, 9], (
    f"the second band: 2 3, 4 5, 8 9; you say {found[1].flatten().tolist()}")
parts = [torch.tensor([[[8.0], [4.0]]]), torch.tensor([[[0.0], [5.0], [6.0]]])]
found = join(parts, weights, 7.0)
assert found.shape == (1, 5, 1), f"one batch, 5 bins, one frame; you: {tuple(found.shape)}"
assert torch.allclose(found.flatten(), torch.tensor([8.0, 3, 5, 7, 6])), (
    f"bin 1: (3 * 4 + 1 * 0) / 4; bin 3 is in no band: 8 3 5 7 6; you say {found.flatten()}")
kept = torch.tensor([True, True, True, False, True])
assert torch.allclose(join(cut(x, weights), weights, 0.0), x * kept[:, None]), (
    "what is cut and joined again is what it was, but for the bin in no band")
X = torch.complex(x, -2 * x)
assert torch.allclose(join(cut(X, weights), weights, 0.0), X * kept[:, None]), "complex ones, too"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _joined(parts, weights, rest):
    """Bin after bin, with numbers of Python for the weights."""
    parts = [part.to(torch.complex128 if part.is_complex() else torch.float64) for part in parts]
    rows, columns, taken = weights.double().tolist(), [], [0] * len(parts)
    for f in range(len(rows[0])):
        sizes = {k: row[f] for k, row in enumerate(rows) if row[f] > 0}
        top = max(sizes.values(), default=1.0)
        whole = math.fsum(size / top for size in sizes.values())
        value = 0 * parts[0].sum(1) if sizes else torch.full_like(parts[0].sum(1), rest)
        for k, size in sizes.items():
            value = value + parts[k][:, taken[k]] * (size / top / whole)
            taken[k] += 1
        columns.append(value)
    return torch.stack(columns, 1)

def _right(x, weights, rest, message, level=1.0, rtol=1e-4):
    before = x.clone(), weights.clone()
    parts = cut(x, weights)
    message = f"{message}: x {tuple(x.shape)}, weights {tuple(weights.shape)}"
    assert truth.equal([x, weights], list(before)), "cut changes its arguments"
    inside = [[f for f, w in enumerate(row) if w > 0] for row in before[1].tolist()]
    assert type(parts) in (list, tuple) and len(parts) == len(inside), f"a list, {message}"
    for number, places in enumerate(inside):
        assert parts[number].dtype == x.dtype, f"wrong precision of a part, {message}"
        assert truth.equal(parts[number], before[0][:, places]), f"wrong bins, {message}"
    masks = [(part * (number + 1) - number * level).clone() for number, part in enumerate(parts)]
    kept = [mask.clone() for mask in masks]
    found = join(masks, weights, rest)
    assert truth.equal([*masks, weights], [*kept, before[1]]), "join changes its arguments"
    assert truth.has_shape(found, *x.shape), f"wrong shape, {message}"
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    expected = _joined(kept, before[1], rest)
    assert truth.close(found / level, expected / level, rtol=rtol, atol=1e-5 * rtol / 1e-4), (
        f"wrong means, {message}")

_generator = hidden.generator("bands")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

def _some(bands, bins, share=0.5):
    weights = torch.rand(bands, bins, generator=_generator) + 0.1
    return weights * (torch.rand(bands, bins, generator=_generator) < share)

for _case in range(6):
    _bins, _number = hidden.integer(f"bins {_case}", 3, 12), hidden.integer(f"bands {_case}", 1, 5)
    _x = _draw(1 + _case % 3, _bins, hidden.integer(f"frames {_case}", 1, 5))
    _x = torch.complex(_x, _x.flip(0) + 1) if _case % 2 else _x
    _right(_x, _some(_number, _bins), (0.0, 1.0, -2.5)[_case % 3], "bands of all kinds")
_x, _weights = _draw(2, 7, 6), _some(4, 7, 0.6)
_weights[:, 0], _weights[0, 1:3] = 0, 1.0
_X = torch.complex(_x, _draw(2, 7, 6))
_right(_x, torch.ones(1, 7), 3.0, "one band")
_right(_x[:, :1], torch.ones(3, 1), 3.0, "one bin")
_right(_x[:1, :1, :1], torch.zeros(2, 1), 3.0, "one bin in no band")
_right(_X, 0 * _weights, 0.5, "no bin in any band")
_right(_x, torch.eye(7), 0.0, "a bin a band")
_right(_x, torch.eye(7).flip(0), 0.0, "a bin a band, from above")
_right(_x[..., :0], _weights, 1.0, "no frames")
_right(_x.mT.contiguous().mT, _weights.T.contiguous().T, 1.0, "not contiguous")
_right(_X, _weights.double(), 1.0, "weights in double precision")
_right(_X.to(torch.complex128), _weights, 1.0, "values in double precision", rtol=1e-9)
for _size in (1e-40, 1e-30, 1e30, 3e38):
    _right(_X, (_weights > 0) * torch.tensor(_size), 1.0, f"weights of {_size:g}")
_right(_x, _weights * torch.logspace(-30, 30, 7), 1.0, "weights of all sizes")
_right(_x, torch.tensor([[1.0], [1e-30]]) * torch.ones(2, 7), 1.0, "one band counts for nothing")
_right(_x.double(), _weights.double() * 1e-310, 1.0, "double weights of 1e-310", rtol=1e-9)
_right(_x.double(), _weights.double() * 1e308, 1.0, "double weights of 1e308", rtol=1e-9)
_leaves = [_draw(2, int((_row > 0).sum()), 3).requires_grad_() for _row in _weights]
_twins = [_leaf.detach().clone().requires_grad_() for _leaf in _leaves]
_slope = _draw(2, 7, 3)
(join(_leaves, _weights, 1.0) * _slope).sum().backward()
(_joined(_twins, _weights, 1.0) * _slope).sum().backward()
assert truth.close([_leaf.grad for _leaf in _leaves], [_twin.grad for _twin in _twins],
                   rtol=1e-3, atol=1e-4), "the gradient by the parts is wrong"
_right(0 * _x, torch.ones(1, 7), 3.0, "silence")
_right(0 * _X, torch.eye(7), 3.0, "silence")
for _edge, _level, (_y,) in edges.mutated(_X):
    _right(_y, _weights, 2.0, _edge, _level)
for _edge, _level, (_y,) in edges.mutated(_x, tiny=1e-30, huge=1e30):
    _right(_y, _weights, 2.0, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: turned to anywhere, and back
#
# Write rotary positions (18.4) that don't count 0, 1, 2, ...: positions are given, as whole numbers or as floats (seconds, for example), may be negative, and as large as $10^8$, where an angle in single precision is a guess. As in many networks the pairs are *not* neighbours: with $P$ frequencies the pairs are entry $i$ and entry $P + i$, for $i < P$, and the entries from $2P$ on (if there are any) aren't turned at all.
#
# A player that goes on for hours keeps its keys *turned*, and now and then begins to count anew. Turn keys that were turned for the positions $m$ so that they are as if turned for $m - \text{by}$, without knowing $m$.

# %%
# TASK 3 (4 points): turned to anywhere, and back
def turned(x, positions, freqs):
    """x with each pair turned by position times frequency: (..., position, entry).

    positions: (position,), int64 or floats. freqs: floats (pair,), radians a position; there may
    be none. x: at least two axes.
    """
    ### BEGIN SOLUTION
    angles = torch.outer(positions.double(), freqs.double())        # (position, pair)
    a, b, rest = x.double().split([len(freqs), len(freqs), x.shape[-1] - 2 * len(freqs)], -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1).to(x.dtype)
    ### END SOLUTION


def counted_anew(keys, by, freqs):
    """Keys (..., position, entry), turned for any positions, as if turned for `by` less.

    by: a number of either sign.
    """
    ### BEGIN SOLUTION
    back = torch.full((keys.shape[-2],), -by, dtype=torch.float64)
    return turned(keys, back, freqs)
    ### END SOLUTION

# %%
# CHECK 3
freqs = torch.tensor([math.pi / 2, math.pi])
x = torch.tensor([[1.0, 2, 3, 4, 5]] * 3)
found = turned(x, torch.tensor([0, 1, -1]), freqs)
assert found.shape == (3, 5), f"as many as came in, (3, 5); you: {tuple(found.shape)}"
expected = torch.tensor([[1.0, 2, 3, 4, 5], [-3, -2, 1, -4, 5], [3, -2, -1, -4, 5]])
assert torch.allclose(found, expected, atol=1e-5), (
    f"entries 1 and 3 turned by a right angle a position, 2 and 4 by two, 5 not at all:\n"
    f"{expected}\nyou say\n{found}")
generator = torch.Generator().manual_seed(3)
q, k = torch.randn(2, 1, 4, generator=generator)
freqs = torch.tensor([SPEED, 0.01])
near = turned(q, torch.tensor([0]), freqs) @ turned(k, torch.tensor([3]), freqs).T
far = turned(q, torch.tensor([PLACE]), freqs) @ turned(k, torch.tensor([PLACE + 3]), freqs).T
assert torch.allclose(near, far, atol=1e-4), (
    f"3 positions apart is 3 positions apart, also at {PLACE:,}; {near} here and {far} there")
again = counted_anew(turned(k, torch.tensor([PLACE + 3]), freqs), PLACE, freqs)
assert torch.allclose(again, turned(k, torch.tensor([3]), freqs), atol=1e-4), (
    f"counted from {PLACE:,} on the key's place is 3")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _turned(x, positions, freqs):
    """Pair after pair, by numbers of Python."""
    y, pairs = x.double().clone(), len(freqs)
    for m, position in enumerate(positions.tolist()):
        for i, freq in enumerate(freqs.double().tolist()):
            angle = float(position) * freq
            a, b = x[..., m, i].double(), x[..., m, pairs + i].double()
            y[..., m, i] = a * math.cos(angle) - b * math.sin(angle)
            y[..., m, pairs + i] = a * math.sin(angle) + b * math.cos(angle)
    return y

def _right(x, positions, freqs, by, message, level=1.0):
    given = x, positions, freqs
    before = [one.clone() for one in given]
    found = turned(*given)
    message = f"{message}: x {tuple(x.shape)}, {len(freqs)} frequencies"
    assert truth.equal(list(given), before), "turned changes its arguments"
    assert truth.has_shape(found, *x.shape), f"wrong shape, {message}"
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    far = bool((positions.double().abs() > 1e4).any())
    rtol = 1e-4 if x.dtype == torch.float32 else 1e-6 if far else 1e-10
    assert truth.close(found / level, _turned(*before) / level, rtol=rtol, atol=rtol / 10), (
        f"wrong turn, {message}")
    keys = _turned(*before).to(x.dtype)
    kept = keys.clone()
    found = counted_anew(keys, by, freqs)
    assert truth.equal([keys, freqs], [kept, before[2]]), "counted_anew changes its arguments"
    assert truth.has_shape(found, *x.shape), f"wrong shape by {by:g}, {message}"
    assert found.dtype == x.dtype, f"wrong precision by {by:g}, {message}"
    expected = _turned(before[0], before[1].double() - by, before[2])
    assert truth.close(found / level, expected / level, rtol=10 * rtol, atol=rtol), (
        f"wrong keys, counted anew by {by:g}, {message}")

_generator = hidden.generator("keys")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

for _case in range(6):
    _pairs = hidden.integer(f"pairs {_case}", 1, 4)
    _length = hidden.integer(f"length {_case}", 1, 7)
    _x = _draw(*(2, 3)[:_case % 3], _length, 2 * _pairs + _case % 4)
    _places = torch.randint(-50, 50, (_length,), generator=_generator)
    _places = _places + 0.25 if _case % 2 else _places
    _right(_x, _places, torch.rand(_pairs, generator=_generator) * 2, hidden.integer(
        f"by {_case}", -9, 9), "keys of all kinds")
_x, _places = _draw(2, 5, 9), torch.tensor([3, -1, 100, 0, 3])
_freqs = torch.tensor([1.0, 0.3, 0.05])
_right(_x, _places, _freqs, 0, "entries that aren't turned")
_right(_x, _places, _freqs, 2.5, "by a float")
_right(_x, _places, _freqs[:0], 7, "no frequencies")
_right(_x[..., :6], _places, -_freqs, -3, "negative frequencies")
_right(_x[:, :1], _places[2:3], _freqs, 99, "one position")
_right(_x[:, :0], _places[:0], _freqs, 1, "no positions")
_right(_x.mT.contiguous().mT, _places.flip(0), _freqs, 5, "not contiguous")
_right(_x, _places.double() / 7, _freqs.double(), 1 / 7, "fractions")
_right(_x, _places.int(), _freqs, 1, "positions of 32 bits")
for _far in (99_999_999, -70_000_001):
    _right(_x, _places + _far, _freqs, _far, f"from {_far} on")
    _right(_x.double(), _places + _far, _freqs.double(), _far, f"doubles from {_far} on")
_right(_x, _places.double() + 12_345_678.5, _freqs, 12_345_678.5, "far fractions")
_right(_x, _places, 1e6 * _freqs, 31, "large frequencies")
_leaf, _twin = (_x.clone().requires_grad_() for _ in range(2))
(counted_anew(turned(_leaf, _places, _freqs), 2, _freqs) * _x.roll(1, 1)).sum().backward()
(_turned(_twin, _places - 2, _freqs) * _x.roll(1, 1)).sum().backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), (
    "the gradient by the keys is wrong")
for _edge, _level, (_y,) in edges.mutated(_x, axis=1, tiny=1e-30, huge=1e30):
    _right(_y, _places[:_y.shape[1]], _freqs, 4, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: songs of different lengths, both ways
#
# In a batch songs end at different frames, and what follows is padding. It must not reach anything: not along time, not along bands, not the gradient. Padding may hold any numbers, even NaN.
#
# Send tokens (batch, frame, band, dim) first along time, then along bands (18.4), and *add* what either way gives to what it heard:
# - `over_time(rows, real)` is called **once**, with a row for each band of each song, the first song's bands first: (batch · band, frame, dim). Padding is 0 there. `real`, bool (batch · band, frame), says which frames are no padding. It gives (batch · band, frame, dim); what it gives at padding, perhaps NaN, must not be used.
# - `over_bands(tokens)` is called **once**, with the $n$ real frames of all songs, song after song, and no padding: $(n, \text{band}, \text{dim})$. It gives as many.
# - In the result padding is 0.

# %%
# TASK 4 (5 points): songs of different lengths, both ways
def two_ways(x, lengths, over_time, over_bands):
    """Tokens after both ways: (batch, frame, band, dim).

    x: (batch, frame, band, dim). lengths: int64 (batch,), frames of each song that are real, from
    0 to all of them; of one song at least one is. Differentiable in x.
    """
    ### BEGIN SOLUTION
    batch, frames, bands, _ = x.shape
    real = torch.arange(frames) < lengths[:, None]                  # (batch, frame)
    padding = ~real[..., None, None]
    x = x.masked_fill(padding, 0)
    rows = x.transpose(1, 2).flatten(0, 1)                          # (batch * band, frame, dim)
    y = over_time(rows, real.repeat_interleave(bands, 0))
    y = y.unflatten(0, (batch, bands)).transpose(1, 2)              # (batch, frame, band, dim)
    x = x + y.masked_fill(padding, 0)
    tokens = x[real]                                                # (n, band, dim)
    return torch.zeros_like(x).index_put((real,), tokens + over_bands(tokens))
    ### END SOLUTION

# %%
# CHECK 4
x = torch.arange(1.0, 2 * FRAMES * 2 + 1).view(2, FRAMES, 2, 1)
lengths = torch.tensor([FRAMES, FRAMES - 1])
x[1, -1] = math.nan
heard = []
def sums(rows, real):
    """Each row's sum, at every frame; NaN at padding."""
    heard.append((rows, real))
    return rows.sum(1, keepdim=True).expand_as(rows).masked_fill(~real[..., None], math.nan)

def swapped(tokens):
    """The two bands, swapped."""
    heard.append(tokens)
    return tokens.flip(1)

found = two_ways(x, lengths, sums, swapped)
assert len(heard) == 2, f"one call each way; you made {len(heard)}"
rows, real = heard[0]
assert rows.shape == (4, FRAMES, 1), f"2 songs of 2 bands: 4 rows; you: {tuple(rows.shape)}"
assert rows[1, :, 0].tolist() == x[0, :, 1, 0].tolist(), "the second row is song 1's second band"
assert real.dtype == torch.bool and real.sum(1).tolist() == 2 * [FRAMES] + 2 * [FRAMES - 1], (
    f"frames that are real: {FRAMES} twice, then {FRAMES - 1} twice; you say {real}")
assert not rows.isnan().any() and not rows[2:, -1].any(), "padding should be 0, not NaN"
assert heard[1].shape == (2 * FRAMES - 1, 2, 1), (
    f"{2 * FRAMES - 1} real frames; you give over_bands {tuple(heard[1].shape)}")
one = x[0, :, :, 0] + x[0, :, :, 0].sum(0)
assert torch.allclose(found[0, :, :, 0], one + one.flip(1)), (
    f"x and its sum over time, then both bands added:\n{one + one.flip(1)}\nyou say\n"
    f"{found[0, :, :, 0]}")
assert not found[1, -1].any(), f"padding is 0 in the end; you say {found[1, -1]}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _paths(generator, dim, level=1.0, mess=math.nan):
    """Two ways with weights of their own, which say what they were given."""
    A, B, C, D = (torch.randn(dim, dim, generator=generator).double() for _ in range(4))
    given = {"time": [], "bands": []}
    def one(row):
        """A row of real frames: all of them heard, those before otherwise than those behind."""
        row = row.double() / level
        before = row.cumsum(0) / torch.arange(1, len(row) + 1)[:, None]
        return level * ((before @ A).tanh() + row.mean(0) @ B)
    def over_time(rows, real):
        given["time"].append((rows.detach().clone(), real.clone()))
        y = torch.full_like(rows, mess)
        for n in range(len(rows)):
            if real[n].any():
                y[n, real[n]] = one(rows[n, real[n]]).to(rows.dtype)
        return y
    def over_bands(tokens):
        given["bands"].append(tokens.detach().clone())
        whole = tokens.double() / level
        y = (whole.cumsum(1) @ C).tanh() + (whole @ D).sum(1, keepdim=True)
        return (level * y).to(tokens.dtype)
    return over_time, over_bands, one, given

def _expected(x, lengths, one, over_bands):
    """Song after song, and its rows and tokens."""
    y, rows, tokens = torch.zeros_like(x), [], []
    for b, length in enumerate(lengths.tolist()):
        song = x[b, :length]
        rows += [F.pad(song[:, k].T, (0, x.shape[1] - length)).T for k in range(x.shape[2])]
        if length:
            heard = [song[:, k] + one(song[:, k]).to(x.dtype) for k in range(x.shape[2])]
            tokens.append(torch.stack(heard, 1))
            y[b, :length] = tokens[-1] + over_bands(tokens[-1])
    return y, torch.stack(rows), torch.cat(tokens)

def _right(x, lengths, message, level=1.0, mess=math.nan, gradient=False):
    over_time, over_bands, one, given = _paths(_generator, x.shape[-1], level, mess)
    clean = x.clone()
    for b, length in enumerate(lengths.tolist()):
        clean[b, length:] = 0
    y, rows, tokens = _expected(clean, lengths, one, over_bands)
    given["bands"].clear()
    before = x.nan_to_num(77.0).clone(), lengths.clone()
    found = two_ways(x, lengths, over_time, over_bands)
    message = f"{message}: x {tuple(x.shape)}, lengths {lengths.tolist()}"
    assert truth.equal([x.nan_to_num(77.0), lengths], list(before)), (
        "two_ways changes its arguments")
    assert len(given["time"]) == 1, f"over_time is called once, {message}"
    assert len(given["bands"]) == 1, f"over_bands is called once, {message}"
    heard, real = given["time"][0]
    assert truth.equal(heard, rows), f"wrong rows for over_time, {message}"
    assert heard.dtype == x.dtype and real.dtype == torch.bool, f"wrong types, {message}"
    wanted = torch.tensor([[m < length for m in range(x.shape[1])] for length in lengths.tolist()
                           for _ in range(x.shape[2])])
    assert truth.equal(real, wanted), f"wrong frames are real, {message}"
    assert truth.close(given["bands"][0] / level, tokens / level), (
        f"wrong tokens for over_bands, {message}")
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    assert truth.close(found / level, y / level, rtol=1e-3, atol=1e-4), (
        f"wrong result, {message}")
    if gradient:
        leaf, twin = x.clone().requires_grad_(), clean.clone().requires_grad_()
        slope = torch.randn(x.shape, generator=_generator)
        (two_ways(leaf, lengths, over_time, over_bands) * slope).sum().backward()
        (_expected(twin, lengths, one, over_bands)[0] * slope).sum().backward()
        assert leaf.grad is not None and truth.close(leaf.grad, twin.grad, rtol=1e-3, atol=1e-4), (
            f"wrong gradient, {message}")

_generator = hidden.generator("songs")
def _songs(lengths, frames, bands, dim, fill=math.nan):
    x = torch.randn(len(lengths), frames, bands, dim, generator=_generator)
    for b, length in enumerate(lengths):
        x[b, length:] = fill
    return x, torch.tensor(lengths)

for _case in range(5):
    _frames = hidden.integer(f"frames {_case}", 2, 7)
    _bands = hidden.integer(f"bands {_case}", 1, 4)
    _lengths = [hidden.integer(f"length {_case} {_n}", 0, _frames) for _n in range(_case % 3)]
    _x, _lengths = _songs([*_lengths, _frames, 1], _frames, _bands, 1 + _case % 3)
    _right(_x, _lengths, "songs of all lengths", gradient=_case == 4)
for _lengths, _what in (([5, 5], "no padding"), ([0, 5], "the first song is all padding"),
                        ([5, 0, 0], "the others are all padding"), ([3], "one song"),
                        ([1, 2, 3, 4], "as many songs as frames are real")):
    _right(*_songs(_lengths, 5, 3, 2), _what, gradient=True)
_right(*_songs([2, 3], 5, 3, 2), "no song is whole")
_right(*_songs([4, 2], 4, 1, 2), "one band")
_right(*_songs([3, 1], 4, 2, 1), "one number a token")
_right(*_songs([3, 3, 3], 3, 3, 3), "three of everything")
_right(*_songs([1], 1, 1, 1), "one token")
_right(*_songs([2, 4], 4, 3, 2, fill=math.inf), "infinite padding", mess=math.inf)
_right(*_songs([2, 4], 4, 3, 2, fill=1e30), "large padding", mess=-1e30)
_right(*_songs([2, 4], 4, 3, 2, fill=5.0), "padding like music", mess=3.0)
_x, _lengths = _songs([2, 5, 4], 5, 3, 2)
_right(_x.transpose(1, 2).contiguous().transpose(1, 2), _lengths, "not contiguous")
_right(_x, _lengths.int(), "lengths of 32 bits")
_x, _lengths = _songs([2, 5, 4], 5, 3, 2, fill=2.0)
for _edge, _level, (_y,) in edges.mutated(_x, axis=1, tiny=1e-30, huge=1e25):
    _right(_y, _lengths.clamp_max(_y.shape[1]), _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: masks that add up
#
# A network gives the numbers of (18.3) band after band: of band $k$ with its $w_k$ bins first real and imaginary part of the first bin's $a$, then of the second's, ..., together $2 w_k$; then as many gates $g$ in the same order; then the next band. Make complex masks of them.
#
# The stems' estimates $\hat M_s X$ needn't add up to the mixture. What is missing, $R = X - \sum_s \hat M_s X$, is shared out, at each bin and frame by the masks' energies:
#
# $$ \hat S_s = \hat M_s X + \frac{|\hat M_s|^2}{\sum_r |\hat M_r|^2}\, R , $$
#
# and equally where all masks are 0. Only the masks' *ratios* decide: they may all be as small as $10^{-30}$ or as large as $10^{25}$, where squares of single precision end; those in double precision as small as $10^{-200}$. The gradient is finite everywhere, also where all masks are 0.

# %%
# TASK 5 (6 points): masks that add up
def masks_of(numbers, widths):
    """Complex masks: (batch, stem, bin, frame).

    numbers: floats (batch, stem, frame, 4 * bins). widths: list of the bands' bins, 1 or more.
    """
    ### BEGIN SOLUTION
    found = []
    for band in numbers.split([4 * width for width in widths], -1):
        a, gate = band.chunk(2, -1)
        found.append(a * torch.sigmoid(gate))
    pairs = torch.cat(found, -1).unflatten(-1, (-1, 2))             # (batch, stem, frame, bin, 2)
    return torch.complex(pairs[..., 0], pairs[..., 1]).mT
    ### END SOLUTION


def adding_up(masks, X):
    """Spectra of the stems, whose sum is X: (batch, stem, bin, frame). Differentiable.

    masks: complex (batch, stem, bin, frame). X: the mixture, complex (batch, bin, frame).
    """
    ### BEGIN SOLUTION
    M, mix = masks.to(torch.complex128), X.to(torch.complex128)[:, None]
    top = torch.maximum(M.real.abs(), M.imag.abs()).amax(1, keepdim=True)
    silent = top == 0
    top = top.masked_fill(silent, 1)
    energy = ((M.real / top) ** 2 + (M.imag / top) ** 2).masked_fill(silent, 1)
    S = M * mix
    S = S + energy / energy.sum(1, keepdim=True) * (mix - S.sum(1, keepdim=True))
    return S.to(masks.dtype)
    ### END SOLUTION

# %%
# CHECK 5
open_gate, shut = 40.0, -40.0
numbers = torch.tensor([1.0, 2, open_gate, open_gate,                   # a band of one bin
                        3, 4, 5, 6, open_gate, GATE, shut, open_gate])  # and one of two
found = masks_of(numbers.view(1, 1, 1, 12), [1, 2])
assert found.shape == (1, 1, 3, 1) and found.is_complex(), (
    f"one batch, one stem, 3 bins, one frame, complex; you: {tuple(found.shape)}, {found.dtype}")
part = 4 / (1 + math.exp(-GATE))
expected = torch.tensor([1 + 2j, 3 + part * 1j, 6j])
assert torch.allclose(found.flatten(), expected, atol=1e-5), (
    f"open gates but {GATE} and -40: {expected}; you say {found.flatten()}")
masks = torch.tensor([[0.5, 1, 0, 2j], [0.5, 1, 0, 0]])[None, :, :, None].to(torch.complex64)
X = torch.tensor([1.0, 2j, 6, 1])[None, :, None].to(torch.complex64)
found = adding_up(masks, X)
assert found.shape == (1, 2, 4, 1), f"(1, 2, 4, 1); you: {tuple(found.shape)}"
expected = torch.tensor([[0.5, 1j, 3, 1], [0.5, 1j, 3, 0]])
assert torch.allclose(found[0, :, :, 0], expected, atol=1e-5), (
    f"halves; 2i too much, shared out; nothing, shared out; all for the first stem: {expected}; "
    f"you say {found[0, :, :, 0]}")
assert torch.allclose(found.sum(1), X, atol=1e-5), "the stems add up to the mixture"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _masks(numbers, widths, message, level=1.0):
    before, sizes = numbers.clone(), list(widths)
    found = masks_of(numbers, sizes)
    message = f"{message}: numbers {tuple(numbers.shape)}, widths {widths}"
    assert truth.equal(numbers, before) and sizes == list(widths), (
        "masks_of changes its arguments")
    wanted, bins, begin = before.double(), [], 0
    for width in widths:
        for n in range(width):
            a = wanted[..., begin + 2 * n:begin + 2 * n + 2]
            g = wanted[..., begin + 2 * width + 2 * n:begin + 2 * width + 2 * n + 2]
            value = a * (1 + (g / 2).tanh()) / 2
            bins.append(torch.view_as_complex(value.contiguous()))
        begin += 4 * width
    expected = torch.stack(bins, 2)
    assert truth.has_shape(found, *expected.shape), f"wrong shape, {message}"
    kind = torch.complex64 if numbers.dtype == torch.float32 else torch.complex128
    assert found.dtype == kind, f"wrong precision, {message}"
    assert truth.close(found / level, expected / level), f"wrong masks, {message}"

def _shared(masks, X):
    """Stem after stem, all masks by the largest of them."""
    M, mix = masks.to(torch.complex128), X.to(torch.complex128)
    sizes = [torch.hypot(m.real, m.imag) for m in M.unbind(1)]
    top = torch.stack(sizes).amax(0)
    energies = [torch.where(top > 0, size / top, 1.0).square() for size in sizes]
    rest = mix - sum(m * mix for m in M.unbind(1))
    return torch.stack([m * mix + energy / sum(energies) * rest
                        for m, energy in zip(M.unbind(1), energies)], 1)

def _right(masks, X, message, level=1.0, rtol=1e-4):
    before = masks.clone(), X.clone()
    found = adding_up(masks, X)
    message = f"{message}: masks {tuple(masks.shape)}"
    assert truth.equal([masks, X], list(before)), "adding_up changes its arguments"
    assert truth.has_shape(found, *masks.shape), f"wrong shape, {message}"
    assert found.dtype == masks.dtype, f"wrong precision, {message}"
    expected = _shared(*before).to(torch.complex128)
    assert truth.close(found.to(torch.complex128) / level, expected / level, rtol=rtol,
                       atol=rtol / 10), f"wrong stems, {message}"

_generator = hidden.generator("masks")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)

def _complex(*shape):
    return torch.complex(_draw(*shape), _draw(*shape))

for _case in range(6):
    _widths = [hidden.integer(f"width {_case} {_n}", 1, 5) for _n in range(1 + _case % 4)]
    _stems, _frames = 1 + _case % 3, hidden.integer(f"frames {_case}", 1, 5)
    _masks(2 * _draw(1 + _case % 2, _stems, _frames, 4 * sum(_widths)), _widths, "bands")
    _right(_complex(1 + _case % 2, _stems, 6, _frames), _complex(1 + _case % 2, 6, _frames),
           "stems")
_numbers, _widths = 2 * _draw(2, 3, 4, 28), [2, 1, 4]
_masks(_numbers, [7], "one band")
_masks(_numbers, [1] * 7, "bands of one bin")
_masks(_numbers[..., :4], [1], "one bin")
_masks(_numbers[:, :, :0], _widths, "no frames")
_masks(100 * _numbers, _widths, "gates open or shut", 100.0)
_masks(_numbers.transpose(0, 3).contiguous().transpose(0, 3), _widths, "not contiguous")
_large = _numbers.clone()
_large[..., [0, 1, 8, 9, 12, 13]] *= 1e30
_masks(_large, _widths, "masks of 1e30", 1e30)
_M, _X = _complex(2, 3, 5, 6), _complex(2, 5, 6)
_right(_M[:, :1], _X, "one stem")
_right(_M[:1, :, :1, :1], _X[:1, :1, :1], "one bin of one frame")
_right(_M[..., :0], _X[..., :0], "no frames")
_right(0 * _M, _X, "all masks silent")
_right(0 * _M[:, :1], _X, "one silent stem")
_right(_M * torch.tensor([1.0, 0, 0])[:, None, None], _X, "all but one silent")
_right(_M, 0 * _X, "a silent mixture")
_right(_M / _M.sum(1, keepdim=True), _X, "masks that add up to 1")
_right(1j * _M.abs(), _X, "masks that only turn")
_right(torch.stack([_M[:, 0], -_M[:, 0], 0 * _M[:, 0]], 1), _X, "masks that cancel")
_right(_M.mT.contiguous().mT, _X.mT.contiguous().mT, "not contiguous")
_part = _M.clone()
_part[:, :, 1:3], _part[:, 0, 3] = 0, 0
_right(_part, _X, "some bins without masks")
for _size in (1e-30, 1e-20):
    _right(_size * _M, _X, f"masks of {_size:g}")
for _size in (1e12, 1e18, 1e25):
    _right(_size * _M, _X, f"masks of {_size:g}", _size)
_right(_M * torch.tensor([1.0, 1e-10, 1e-25])[:, None, None], _X, "masks of different sizes")
_right(_M * torch.logspace(-28, 0, 6), _X, "masks of all sizes")
_double = _M.to(torch.complex128), _X.to(torch.complex128)
_right(*_double, "double precision", rtol=1e-9)
_right(1e-200 * _double[0], _double[1], "double precision, masks of 1e-200", rtol=1e-9)
_right(_double[0] * torch.logspace(-200, 0, 6, dtype=torch.float64), _double[1],
       "double precision, masks of all sizes", rtol=1e-9)
_right(_M, 1e12 * _X, "a loud mixture", 1e12)
_right(_M, 1e-30 * _X, "a soft mixture", 1e-30)
_leaf, _twin = (_one.clone().requires_grad_() for _one in (_M, _M))
_mix, _other = (_one.clone().requires_grad_() for _one in (_X, _X))
_slope = _complex(2, 3, 5, 6)
(adding_up(_leaf, _mix) * _slope).real.sum().backward()
(_shared(_twin, _other) * _slope).real.sum().backward()
assert _leaf.grad is not None and _mix.grad is not None, "no gradient by the masks or the mixture"
assert truth.close([_leaf.grad, _mix.grad], [_twin.grad, _other.grad], rtol=1e-3, atol=1e-4), (
    "the gradient by the masks or by the mixture is wrong")
_leaf = _part.clone().requires_grad_()
(adding_up(_leaf, _X) * _slope).real.sum().backward()
_finite = bool(torch.view_as_real(_leaf.grad).isfinite().all())
assert _finite, "the gradient isn't finite where masks are silent"
_leaf = _numbers.clone().requires_grad_()
(masks_of(_leaf, _widths) * _complex(2, 3, 7, 4)).real.sum().backward()
assert _leaf.grad is not None and bool((_leaf.grad != 0).all()), "masks_of has no gradient"
for _edge, _level, (_N, _Y) in edges.mutated(_M, _X):
    if _edge == "other type":
        _masks(_numbers.double(), _widths, _edge)
    _right(_N, _Y, _edge, _level ** 2 if _level > 1 else _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: how many bands are enough?
#
# A token speaks for all bins of its band (18.2). What is the best that a band can do if it has only *one* number a frame, the same gain for all its bins? That is an oracle: the cell below finds the best gain for each band and frame from the stems themselves, by least squares, and scores what comes out. It has two splits: bands equally wide in Hz, and bands equally wide in mel, and gains that are real, or complex.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table of the SDR, mean over the four stems: 4, 8, 16, 32, 64 and 128 bands, equal and mel with real gains, and mel with complex gains,
# - in how many of your songs mel is ahead of equal with 16 bands, and how many equal bands do what 16 mel bands do; which stems gain most,
# - a reading: why is mel ahead, and why less so with 4 bands? What would both splits give if each bin were a band? What would *complex* gains give then, and what does that say of complex gains as a bound?
# - and one thing that this experiment can't tell about networks such as BS-RoFormer.

# %%
# EXPERIMENT: the best gain a band; add your own cells
RATE, N_FFT, HOP = 22_050, 1024, 512  # Hz, samples, samples


def excerpt(number):
    """Four seconds of a song of the band: its stems (stem, time) and their sum, mono."""
    from course_lib.data import STEMS, open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0)
    stems = resample(song.sources(STEMS).mean(1), song.rate, RATE)
    return stems, stems.sum(0)


def equal(bands):
    """Widths of bands that are equally wide in Hz."""
    places = [round((N_FFT // 2 + 1) * band / bands) for band in range(bands + 1)]
    return [end - begin for begin, end in zip(places, places[1:])]


def mel(bands):
    """Widths of bands that are equally wide in mel (HTK's), but at least one bin."""
    top, widths, begin = 2595 * math.log10(1 + RATE / 2 / 700), [], 0
    for band in range(1, bands + 1):
        hertz = 700 * (10 ** (top * band / bands / 2595) - 1)
        end = min(max(round(hertz * N_FFT / RATE), begin + 1), N_FFT // 2 + 1 - bands + band)
        widths.append(end - begin)
        begin = end
    widths[-1] += N_FFT // 2 + 1 - begin
    return widths


def scores(stems, mixture, widths, complex_gains=False):
    """SDR in dB of each stem by the best gain for each band and frame."""
    window = torch.hann_window(N_FFT)
    stft = dict(n_fft=N_FFT, hop_length=HOP, window=window)
    X, found = torch.stft(mixture, return_complex=True, **stft), []
    for stem in stems:
        S, parts = torch.stft(stem, return_complex=True, **stft), []
        for x, s in zip(X.split(widths), S.split(widths)):
            gain = (x.conj() * s).sum(0) / x.abs().square().sum(0).clamp_min(1e-12)
            parts.append(x * (gain if complex_gains else gain.real))
        y = torch.istft(torch.cat(parts), length=len(stem), **stft)
        found.append(float(10 * torch.log10(stem.square().sum() / (stem - y).square().sum())))
    return found

# For example:  stems, mixture = excerpt(0)
#               scores(stems, mixture, mel(16))      # drums, bass, other, vocals
#               scores(stems, mixture, mel(16), complex_gains=True)

# %% [markdown]
# <!-- TASK 6 (5 points): how many bands are enough? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, rate, 513 bins, gains of the best kind for each band and frame, only split, number of bands and real or complex vary; SDR of each stem, then the mean.
# - 1 point: the table with plausible numbers, on more than one song with the number of songs in which mel is ahead with 16 bands (all, by 2.5 dB on the mean), and that 64 equal bands do about what 16 mel bands do; or with a remark that one song is not evidence. All stems gain.
# - 2 points: a right reading with a reason. Expected: a gain can part two sounds only if they are in different bands; fundamentals and the lowest partials, and 85% of the energy, lie in the lowest 32 of 513 bins. These are *one* of 16 equal bands and four of 16 mel bands. With 4 bands mel's lowest one holds 33 bins, so nearly everything that has energy shares a band in either split.
#   If each bin were a band both splits would be the same, 10.3 dB with real gains, so the lead has to vanish in the end. A *complex* gain for each bin and frame gives each stem exactly, whatever the mixture (but where the mixture is 0): every number is some number times another one. So the oracle with complex gains isn't a bound that says anything; already with 128 mel bands its SDR of above 20 dB is owed to the lowest ones, 57 of which have a bin or two. An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: a limit, such as: the networks give *each bin* its own mask, a band only shares the token; so they aren't held by this oracle; an oracle knows the stems; a network has to find the gains, and what a split makes easier to learn isn't measured here; overlapping bands weren't tried; mixed songs of one band, four seconds of eight songs, mono, one window length; SDR isn't what is heard.
#
# For comparison, means over the first eight test songs, seconds 8 to 12, with the cell above (SDR in dB, mean over the four stems).
#
# | | equal | mel | mel, complex |
# |---|---|---|---|
# | 4 bands | 2.91 | 3.28 | 3.48 |
# | 8 bands | 3.02 | 4.53 | 4.94 |
# | 16 bands | 3.36 | 5.87 | 6.78 |
# | 32 bands | 4.52 | 7.34 | 9.39 |
# | 64 bands | 6.06 | 8.71 | 13.49 |
# | 128 bands | 7.39 | 10.01 | 22.54 |
# <!-- END RUBRIC -->
