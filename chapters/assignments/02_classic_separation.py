# %% [markdown]
# # Assignment 2 · Lines, repetitions and building blocks
#
# Six tasks, 26 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 2, but none is a copy of it: each changes a rule of the chapter, and you have to think through what follows
# from it.
#
# **How it works**
# - Replace `raise NotImplementedError(...)` by your code. Keep the first line of the cell and the function's name and
#   arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and
#   stricter checks: other sizes, any number of leading dimensions (batch, channel), silence.
# - `torch`, the functions of chapter 1 (`course_lib.spectral`) and your own code are all you need. Functions of
#   `course_lib.classic` don't count as your own work, nor does changing the checks. You may add cells.
# - A function must not change its arguments, and a tensor that it returns has the precision of its input.

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
HIT = variation.integer("hit", 20, 90)                               # the level of a stroke
LEVELS = [variation.integer(f"level {i}", 1, 15) for i in range(4)]  # of a short row of frames
RATE = variation.choice("rate", [16000, 22050, 32000, 44100])        # samples a second
N_FFT = variation.choice("n_fft", [1024, 2048, 4096])                # samples in a frame
HOP = variation.choice("hop", [200, 250, 320, 441])                  # samples between frames
NOTE_FRAMES = variation.integer("note frames", 5, 25)                # that the shortest note fills
STROKE_BINS = variation.integer("stroke bins", 6, 30)                # that a stroke fills
PERIOD = variation.integer("period", 9, 14)                          # of a riff, in frames
BARS = [variation.integer(f"bar {i}", 4, 7) for i in range(5)]       # the lengths of bars in frames
SUNG = variation.integer("sung", 5, 40)                              # the level of a sung note
GAP = variation.integer("gap", 3, 8)                                 # first frame of a hole

# %% [markdown]
# ## Task 1: a median that invents nothing
#
# At the ends of a row the window of a median filter sticks out. Chapter 2 mirrors the row there, so it invents values.
# Here is another rule: **at the ends the window holds only the values that exist.** With a window of 5 the first frame
# sees frames 0, 1, 2, the second 0 to 3, the third 0 to 4. An even number of values has two in the middle; the median
# is then their mean.

# %%
# TASK 1 (4 points): a median that invents nothing
def running_median(v, size):
    """The median of the up to `size` values around each one, of those that exist.

    v: real (..., time). size: odd, may be larger than the row. Returns v's shape.
    """
    ### BEGIN SOLUTION
    half = size // 2
    padded = F.pad(v, (half, half), value=math.nan)
    return padded.unfold(-1, size, 1).nanquantile(0.5, dim=-1)
    ### END SOLUTION

# %%
# CHECK 1
row = torch.tensor([2., 2., float(HIT), 2., 2., 2., 2.])
found = running_median(row, 3)
assert found.shape == row.shape, (
    f"seven values in, seven out; you return the shape {tuple(found.shape)}")
assert found[2] == 2, (
    f"a single stroke of {HIT} must be gone in the middle of the row; you keep {found[2]}")
a, b, c, d = [float(level) for level in LEVELS]
found = running_median(torch.tensor([a, b, c, d]), 3)
assert found[0] == (a + b) / 2, (
    f"the first of {[a, b, c, d]} has one neighbour: the median of {a} and {b} is {(a + b) / 2}, "
    f"you say {found[0]}")
assert found[1] == sorted([a, b, c])[1], (
    f"the second sees {a}, {b}, {c}: the median isn't {found[1]}")
assert found[3] == (c + d) / 2, f"the last sees {c} and {d}: {(c + d) / 2}, you say {found[3]}"
found = running_median(torch.tensor([a, b, c, d]), 9)
assert (found == sum(sorted([a, b, c, d])[1:3]) / 2).all(), (
    f"a window longer than the row sees all of it everywhere; you return {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _by_sorting(v, size):
    """Value by value, in Python's own numbers."""
    rows = []
    for row in v.double().reshape(-1, v.shape[-1]).tolist():
        rows.append([])
        for m in range(len(row)):
            some = sorted(row[max(0, m - size // 2):m + size // 2 + 1])
            rows[-1].append((some[(len(some) - 1) // 2] + some[len(some) // 2]) / 2)
    return torch.tensor(rows, dtype=torch.float64).reshape(v.shape)

_generator = hidden.generator("rows")
for _case, _shape in enumerate(((2, 3, 17), (1, 8), (40,), (3, 1, 2, 11), (2, 1), (2,))):
    _v = torch.randn(_shape, generator=_generator)
    for _size in (1, 2 * hidden.integer(f"size {_case}", 1, 4) + 1, 2 * _shape[-1] + 7):
        _before = _v.clone()
        _found = running_median(_v, _size)
        assert truth.equal(_v, _before), "the function changes its input"
        assert _found.shape == _v.shape, "wrong shape for other sizes or leading dimensions"
        assert _found.dtype == torch.float32, "float32 values must give float32"
        assert truth.close(_found, _by_sorting(_v, _size)), "wrong values for other rows or windows"
_found = running_median(_v.double(), 3)
assert _found.dtype == torch.float64, "float64 values must give float64"
assert truth.close(running_median(torch.zeros(2, 9), 5), torch.zeros(2, 9)), (
    "silence must stay silence")
for _edge, _level, (_v,) in edges.mutated(torch.randn(2, 12, generator=_generator)):
    _found = running_median(_v, 5)
    assert _found.dtype == _v.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _by_sorting(_v, 5), rtol=1e-4, atol=1e-5 * _level), (
        f"wrong values: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: which window for which sound?
#
# Harmonic and percussive sounds are told apart by two median filters, one along time and one along frequency. A median
# keeps what fills **more than half** of its window. Suppose every note of the music lasts at least `shortest_note`
# seconds and should be kept by the one filter, and every stroke is at least `narrowest_stroke` hertz wide and should be
# kept by the other. A note of $d$ seconds fills the whole number of frames that fit into it, one frame each
# `hop_length` samples; a stroke fills the whole number of bins that fit into its width. Apart from that the windows
# should be as long as possible, as longer ones remove more of the other kind.

# %%
# TASK 2 (3 points): which window for which sound?
def kernel_sizes(shortest_note, narrowest_stroke, rate, n_fft, hop_length):
    """The largest windows that keep notes and strokes: (frames along time, bins along frequency).

    shortest_note: seconds. narrowest_stroke: hertz. Two odd ints, at least 1.
    """
    ### BEGIN SOLUTION
    frames = math.floor(shortest_note * rate / hop_length)
    bins = math.floor(narrowest_stroke * n_fft / rate)
    return max(1, 2 * frames - 1), max(1, 2 * bins - 1)
    ### END SOLUTION

# %%
# CHECK 2
note = (NOTE_FRAMES + 0.5) * HOP / RATE                             # seconds
stroke = (STROKE_BINS + 0.5) * RATE / N_FFT                         # hertz
sizes = kernel_sizes(note, stroke, RATE, N_FFT, HOP)
assert len(sizes) == 2 and all(isinstance(size, int) for size in sizes), f"two ints, not {sizes}"
assert all(size % 2 == 1 and size > 0 for size in sizes), (
    f"a window needs a middle: odd and positive, not {sizes}")
for what, size, filled in (("note", sizes[0], NOTE_FRAMES), ("stroke", sizes[1], STROKE_BINS)):
    assert filled > size / 2, (
        f"a {what} fills {filled} places: not more than half of a window of {size}")
    assert filled <= (size + 2) / 2, (
        f"a {what} fills {filled} places, so a window longer than {size} would keep it too")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _largest_that_keeps(filled):
    """By trying: the largest odd window whose median amid that many ones among zeros is 1."""
    row, best = [0.0] * 200 + [1.0] * filled + [0.0] * 200, 1
    for size in range(1, 120, 2):
        middle = 200 + filled // 2
        if sorted(row[middle - size // 2:middle + size // 2 + 1])[size // 2] == 1.0:
            best = size
    return best

for _case in range(12):
    _rate = hidden.choice(f"rate {_case}", [8000, 16000, 22050, 44100, 48000])
    _n_fft = 2 * hidden.integer(f"n_fft {_case}", 200, 2000)
    _hop = hidden.integer(f"hop {_case}", 100, 1000)
    _frames = hidden.integer(f"frames {_case}", 1, 40)
    _bins = hidden.integer(f"bins {_case}", 1, 40)
    _note = (_frames + hidden.real(f"note {_case}", 0.1, 0.9)) * _hop / _rate
    _stroke = (_bins + hidden.real(f"stroke {_case}", 0.1, 0.9)) * _rate / _n_fft
    _found = kernel_sizes(_note, _stroke, _rate, _n_fft, _hop)
    assert truth.equal(list(_found), [_largest_that_keeps(_frames), _largest_that_keeps(_bins)]), (
        "wrong sizes for other rates, frames or sounds")
_found = kernel_sizes(0.4 * _hop / _rate, 0.4 * _rate / _n_fft, _rate, _n_fft, _hop)
assert truth.equal(list(_found), [1, 1]), (
    "what fills no whole place needs a window of 1, which changes nothing")
assert all(type(size) is int for size in _found), "the sizes aren't ints"
_found = kernel_sizes(edges.case("short", 0.0), 0.0, 44100, 2048, 512)
assert truth.equal(list(_found), [1, 1]), "notes and strokes without any width need a window of 1"
_found = kernel_sizes(edges.case("tiny", 1e-6), 1e-6, 8000, 256, 64)
assert truth.equal(list(_found), [1, 1]), "a microsecond fills no frame"
_found = kernel_sizes(
    edges.case("huge", 3000.5 * 441 / 44100), 700.5 * 44100 / 2048, 44100, 2048, 441
)
assert truth.equal(list(_found), [5999, 1399]), "wrong sizes for a long note and a wide stroke"
edges.left_out("zeros inside", "the function sees no spectrogram")
edges.left_out("other type", "the sizes that it gives are ints, whatever it gets")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: the shortest period
#
# How well does a spectrogram match itself after a shift of $l$ frames? With the cosine between the two parts that
# overlap,
#
# $$ c[l] = \frac{\sum_{k,m} V[k, m]\, V[k, m + l]}{\sqrt{\sum_{k,m} V^2[k, m]}\, \sqrt{\sum_{k,m} V^2[k, m + l]}}, \qquad m = 0, \dots, T - l - 1, $$
#
# a perfect repetition gives 1, however few frames overlap, and also when the song fades in. But if $l$ is a period, so
# are $2l$ and $3l$, and by a little noise one of them may match best. So take the **shortest** shift whose match is at
# least `share` times the best one.

# %%
# TASK 3 (4 points): the shortest period
def shortest_period(V, shortest, longest, share):
    """The shortest shift in shortest..longest (both included) with c >= share * its maximum there.

    V: magnitudes (..., bin, frame); leading axes such as channels count as more bins. Returns an
    int. 1 <= shortest <= longest < frames.
    Where a part is silent, its match is 0. Quiet songs are as good as loud ones.
    """
    ### BEGIN SOLUTION
    rows, matches = V.double().reshape(-1, V.shape[-1]), []
    for l in range(shortest, longest + 1):
        early, late = rows[:, :-l], rows[:, l:]
        energy = float(early.norm() * late.norm())
        matches.append(float((early * late).sum()) / energy if energy > 0 else 0.0)
    return next(shortest + i for i, match in enumerate(matches) if match >= share * max(matches))
    ### END SOLUTION

# %%
# CHECK 3
riff = torch.rand(6, PERIOD, generator=torch.Generator().manual_seed(PERIOD)) ** 3  # (bin, frame)
V = riff.repeat(1, 5)
found = shortest_period(V, 2, 4 * PERIOD, 0.98)
assert found == PERIOD, f"the riff returns after {PERIOD} frames, you say {found}"
assert isinstance(found, int), f"a number of frames is an int; yours is {type(found).__name__}"
fade_in = V * torch.linspace(0.01, 1, V.shape[1])
found = shortest_period(fade_in, 2, 4 * PERIOD, 0.98)
assert found == PERIOD, (
    f"the same riff, fading in: still {PERIOD}, you say {found}. Are both parts' energies in the "
    "formula?")
found = shortest_period(V, PERIOD + 1, 2 * PERIOD, 0.98)
assert found == 2 * PERIOD, (
    f"from {PERIOD + 1} to {2 * PERIOD} only the last shift is a period; you say {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _matches(V, shortest, longest):
    """The cosines, in NumPy-free float64, one dot product at a time."""
    rows, values = V.double().reshape(-1, V.shape[-1]), []
    for l in range(shortest, longest + 1):
        a, b = rows[:, :rows.shape[1] - l].flatten(), rows[:, l:].flatten()
        energy = math.sqrt(float(a.dot(a)) * float(b.dot(b)))
        values.append(float(a.dot(b)) / energy if energy > 0 else 0.0)
    return values

_generator = hidden.generator("riffs")
for _case in range(9):
    _p = hidden.integer(f"period {_case}", 5, 12)
    _leading = ((), (2,), (2, 1))[_case % 3]
    _V = torch.rand(*_leading, 3, _p, generator=_generator).pow(3)
    _V = torch.cat([_V] * 5, -1)
    _V = (_V + 0.3 * torch.rand(_V.shape, generator=_generator))[..., :5 * _p - 2]
    _V = _V * torch.exp(torch.arange(_V.shape[-1]) * hidden.real(f"fade {_case}", -0.15, 0.15))
    if _case % 4 == 2:
        _V[..., :1, :] = 0                                            # a silent bin
        _V = 1e-7 * _V
    _shortest = hidden.integer(f"shortest {_case}", 1, 3)
    _longest = hidden.integer(f"longest {_case}", 3 * _p, 4 * _p)
    _values = _matches(_V, _shortest, _longest)
    for _share in (1.0, 0.95, 0.85):
        _limit = _share * max(_values)
        _border = min(abs(value - _limit) for value in _values if value < max(_values))
        if _border < 1e-4:                                            # a matter of rounding
            continue
        _expected = _shortest + min(i for i, value in enumerate(_values) if value >= _limit - 1e-9)
        _before = _V.clone()
        _found = shortest_period(_V, _shortest, _longest, _share)
        assert truth.equal(_V, _before), "the function changes its input"
        assert truth.equal(_found, _expected), "wrong period for other songs, ranges or shares"
_V = torch.tensor([1.3, 0.7]).repeat(3, 12)  # c[1] is 0.83, as nothing is negative
assert shortest_period(_V, 1, 10, 0.8) == 1 and shortest_period(_V, 1, 10, 0.9) == 2, (
    "wrong period where loud and soft frames alternate")
_V = torch.zeros(4, 30)
assert shortest_period(_V, 3, 20, 0.9) == 3, (
    "in silence all matches are 0, so that the first shift is the answer")
_V[:, 20:] = torch.rand(4, 10, generator=_generator) + 0.1
assert shortest_period(_V, 1, 25, 0.5) == 1, "where one part is silent its match is 0, not NaN"
_riff = torch.rand(3, 7, generator=_generator).pow(3).repeat(1, 5) + 0.3 * torch.rand(
    3, 35, generator=_generator
)
for _edge, _level, (_V,) in edges.mutated(_riff, short=12, tiny=1e-12, huge=1e12):
    _longest = min(21, _V.shape[-1] - 1)
    _values = _matches(_V, 1, _longest)
    _order = sorted(_values)
    _gap = max(range(len(_order) // 2, len(_order) - 1), key=lambda i: _order[i + 1] - _order[i])
    _share = (_order[_gap] + _order[_gap + 1]) / 2 / _order[-1]  # well away from every match
    _expected = 1 + min(i for i, value in enumerate(_values) if value >= _share * _order[-1])
    assert truth.equal(shortest_period(_V, 1, _longest, _share), _expected), (
        f"wrong period: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: REPET along the bar lines
#
# A band that breathes does not repeat with a fixed period. Suppose somebody has tapped along, so that we know in which
# frame each bar begins. The bars may be of different lengths. The model $S$ of the background in frame $j$ of a bar is
# the median over frame $j$ of **all bars that are long enough to have one**, this bar among them (of an even number of
# values the mean of the two middle ones). As in chapter 2 the mask is $M = \min(S, V) / V$.

# %%
# TASK 4 (4 points): REPET along the bar lines
def background_mask(V, starts):
    """The mask of what returns at the same place of the bars, in [0, 1]; 0 where V is 0.

    V: magnitudes (..., bin, frame). starts: the first frame of each bar, rising, a list of ints
    that begins with 0; the last bar reaches to the end. Returns V's shape.
    """
    ### BEGIN SOLUTION
    ends = [*starts[1:], V.shape[-1]]
    longest = max(b - a for a, b in zip(starts, ends))
    bars = [F.pad(V[..., a:b], (0, longest - b + a), value=math.nan) for a, b in zip(starts, ends)]
    model = torch.stack(bars).nanquantile(0.5, dim=0)                 # (..., bin, frame of a bar)
    S = torch.cat([model[..., :b - a] for a, b in zip(starts, ends)], -1)
    return torch.minimum(S, V) / torch.where(V == 0, 1, V)
    ### END SOLUTION

# %%
# CHECK 4
starts = [sum(BARS[:i]) for i in range(len(BARS))]
pattern = torch.tensor([[9., 1., 4., 1., 4., 1., 4.], [0., 3., 0., 3., 0., 3., 0.]])  # (bin, frame)
band = torch.cat([pattern[:, :length] for length in BARS], 1)  # (bin, frame)
M = background_mask(band, starts)
assert M.shape == band.shape, f"the mask has V's shape {tuple(band.shape)}, not {tuple(M.shape)}"
assert torch.equal(M, (band > 0).float()), (
    f"the pattern returns in every bar: the mask is 1 where V isn't 0; yours:\n{M}")
sung = band.clone()
sung[:, starts[2] + 1] += SUNG
M = background_mask(sung, starts)
expected = band[:, starts[2] + 1] / sung[:, starts[2] + 1]
assert torch.allclose(M[:, starts[2] + 1], expected), (
    f"the band's share in frame {starts[2] + 1}, where somebody sings {SUNG}, is {expected}; you "
    f"say {M[:, starts[2] + 1]}")
two_bars = torch.tensor([[2., 4., 6., 4., 8.]])
found = background_mask(two_bars, [0, 2])
assert torch.allclose(found, torch.tensor([[1., 1., 4 / 6, 1., 1.]])), (
    "bars of 2, 4 and of 6, 4, 8: the model is 4, 4, 8, for no other bar has a third frame, and "
    "the mask is 1, 1 and 2/3, 1, 1; "
    f"you say {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _frame_by_frame(V, starts):
    """The mask from lists of the values at each place of a bar."""
    rows, ends = V.double().reshape(-1, V.shape[-1]), [*starts[1:], V.shape[-1]]
    mask = torch.zeros_like(rows)
    for k in range(len(rows)):
        for start, end in zip(starts, ends):
            for j in range(end - start):
                some = sorted(float(rows[k, s + j]) for s, e in zip(starts, ends) if s + j < e)
                model = (some[(len(some) - 1) // 2] + some[len(some) // 2]) / 2
                value = float(rows[k, start + j])
                mask[k, start + j] = min(model, value) / value if value else 0.0
    return mask.reshape(V.shape)

_generator = hidden.generator("songs")
for _case, _leading in enumerate(((), (2,), (2, 1, 2), (1,))):
    _lengths = [hidden.integer(f"bar {_case} {i}", 2, 6) for i in range(3 + _case)]
    _lengths[1] = 7                                                   # the longest isn't the last
    _starts = [sum(_lengths[:i]) for i in range(len(_lengths))]
    _V = torch.rand(*_leading, 3, sum(_lengths), generator=_generator)
    _V = _V * 10 ** hidden.real(f"level {_case}", -6, 1)
    _V[..., 0, :3] = 0
    _before, _starts_before = _V.clone(), list(_starts)
    _found = background_mask(_V, _starts)
    assert truth.equal(_V, _before) and _starts == _starts_before, "the function changes its input"
    assert _found.shape == _V.shape, "wrong shape for other bars or leading dimensions"
    assert _found.dtype == torch.float32, "float32 magnitudes must give a float32 mask"
    assert truth.close(_found, _frame_by_frame(_V, _starts), rtol=1e-4, atol=1e-5), (
        "wrong values for other songs or bars")
assert truth.close(background_mask(_V, [0]), (_V > 0).float()), (
    "a single bar is its own background: 1 where V isn't 0")
assert truth.equal(background_mask(torch.zeros(2, 9), [0, 4]), torch.zeros(2, 9)), (
    "in silence the mask is 0")
for _edge, _level, (_V,) in edges.mutated(
    torch.rand(2, 3, 17, generator=_generator), tiny=1e-12, huge=1e12
):
    _starts = [start for start in (0, 5, 9) if start < _V.shape[-1]]
    _found = background_mask(_V, _starts)
    assert _found.dtype == _V.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _frame_by_frame(_V, _starts), rtol=1e-4, atol=1e-5), (
        f"wrong mask: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: building blocks for a recording with holes
#
# In an old recording some points of the spectrogram are lost. Give each point a weight $G \ge 0$, 0 where it is lost,
# and minimise
#
# $$ D(H) = \sum_{k,m} G[k, m]\, d_{KL}\big(V[k, m] \,\big|\, Y[k, m]\big), \qquad Y = W H, $$
#
# over the activations $H$; the spectra $W$ are known. Split the gradient $\partial D / \partial H$ into what is added
# and what is subtracted, as in chapter 2, and write down the multiplicative update. Where an activation has no say in
# any point that counts (both sums are zero), it stays as it is.

# %%
# TASK 5 (5 points): building blocks for a recording with holes
def activations_step(V, W, H, G):
    """H after one multiplicative update for the weighted Kullback-Leibler divergence.

    V, G: (bin, frame), V finite. W: (bin, component). H: (component, frame). All >= 0; W @ H > 0.
    """
    ### BEGIN SOLUTION
    down, up = W.T @ (G * V / (W @ H)), W.T @ G  # what the gradient subtracts, and what it adds
    return H * torch.where(up > 0, down / torch.where(up > 0, up, 1), 1)
    ### END SOLUTION

# %%
# CHECK 5
W = torch.tensor([[4., 1.], [2., 1.], [1., 3.], [1., 6.]])  # (bin, component)
H_true = torch.rand(2, 12, generator=torch.Generator().manual_seed(GAP)) + 0.1  # (component, frame)
V, G = W @ H_true, torch.ones(4, 12)
found = activations_step(V, W, H_true, G)
assert found.shape == H_true.shape, f"H is a {tuple(H_true.shape)}; you return {tuple(found.shape)}"
assert torch.allclose(found, H_true, rtol=1e-4), "where W H is V, an update must change nothing"
G[1:3, GAP:GAP + 2] = 0  # two bins are lost
damaged = V * G
assert torch.allclose(activations_step(damaged, W, H_true, G), H_true, rtol=1e-4), (
    "an update must not be misled by lost points: without them W H fits, so nothing may change")
def weighted_divergence(V, Y, G):
    return (G * (torch.xlogy(V, V / Y) - V + Y)).sum()
H = torch.ones(2, 12)
for step in range(30):
    before, H = weighted_divergence(damaged, W @ H, G), activations_step(damaged, W, H, G)
    after = weighted_divergence(damaged, W @ H, G)
    assert after <= 1.0001 * before + 1e-4, f"update {step}: up from {before:.4f} to {after:.4f}"
error = ((W @ H - V).abs() / V)[:, GAP:GAP + 2].max()
assert error < 0.02, (
    f"30 updates should fill the holes from the other bins; you are {error:.0%} off")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _ratio(V, W, H, G):
    """The update with sums written out, in Python's own numbers."""
    (bins, components), frames = W.shape, V.shape[1]
    V, W, H, G = (tensor.double().tolist() for tensor in (V, W, H, G))
    updated = [list(row) for row in H]
    for m in range(frames):
        Y = [sum(W[k][r] * H[r][m] for r in range(components)) for k in range(bins)]
        for r in range(components):
            down = sum(G[k][m] * W[k][r] * V[k][m] / Y[k] for k in range(bins))
            up = sum(G[k][m] * W[k][r] for k in range(bins))
            updated[r][m] = H[r][m] * down / up if up > 0 else H[r][m]
    return torch.tensor(updated, dtype=torch.float64)

_generator = hidden.generator("matrices")
for _case, _count in enumerate((1, 2, 4)):
    _bins, _frames = hidden.integer(f"bins {_case}", 5, 9), hidden.integer(f"frames {_case}", 6, 9)
    _W = torch.rand(_bins, _count, generator=_generator) + hidden.real(f"level {_case}", 0.02, 0.1)
    _H = torch.rand(_count, _frames, generator=_generator) + 0.05
    _V = torch.rand(_bins, _frames, generator=_generator)
    _G = torch.rand(_bins, _frames, generator=_generator) if _case else (_V > 0.3).float()
    _V[0], _G[:, 2] = 0, 0  # a silent bin, and a frame that is lost entirely
    if _count > 1:
        _H[1, 1], _W[:2, 1], _G[2:, 0] = 0, 0, 0  # frame 0 keeps bins that component 1 hasn't
    _before = [tensor.clone() for tensor in (_V, _W, _H, _G)]
    _found, _expected = activations_step(_V, _W, _H, _G), _ratio(*_before)
    assert all(map(truth.equal, (_V, _W, _H, _G), _before)), "the function changes its input"
    assert _found.dtype == torch.float32, "float32 input must give float32"
    assert bool(_found.isfinite().all()), "NaN or infinity where a frame is lost entirely"
    assert truth.close(_found, _expected, rtol=1e-3, atol=1e-6), (
        "wrong for other matrices or weights")
    _V[_G == 0] = 1000.0
    assert truth.close(activations_step(_V, _W, _H, _G), _expected, rtol=1e-3, atol=1e-6), (
        "what stands at the lost points must not matter")
_quiet = activations_step(1e-6 * _before[0], _W, 1e-6 * _H, _G)
assert truth.close(1e6 * _quiet, _expected, rtol=1e-3, atol=1e-5), "quiet is as good as loud"
_W = torch.rand(6, 2, generator=_generator) + 0.05
_H, _G = torch.rand(2, 9, generator=_generator) + 0.05, torch.rand(6, 9, generator=_generator)
for _edge, _level, (_V,) in edges.mutated(torch.rand(6, 9, generator=_generator)):
    _given = [
        tensor.to(_V.dtype) for tensor in (_W, _level * _H[:, : _V.shape[1]], _G[:, : _V.shape[1]])
    ]
    _found = activations_step(_V, *_given)
    assert _found.dtype == _V.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _ratio(_V, *_given), rtol=1e-3, atol=1e-6 * _level), (
        f"wrong activations: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: which period should REPET get?
#
# A song repeats with the beat, with the bar, with two bars. All of these are periods. Which one should REPET be given,
# if the vocals are what we want? Find out with songs whose tempo is known. The cell below gives you a measure and the
# songs of the band; the rest of the experiment is yours, in cells of your own below it. It needs none of your other
# answers.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: the vocals' SDR for periods from 1/2 to 32 beats, and for a period that is a little wrong (say 3.8 beats);
#   beside them the two simplest estimates there are, the mixture itself and silence,
# - which periods are good, and why both much shorter and much longer ones are worse: what does the median see in each
#   case?
# - one thing that your experiment can't tell: would you expect the same on records?

# %%
# EXPERIMENT: a measure and songs to begin with; write your own cells below
def band_song(number):
    """A song of the band: sources in mono (source, time), and a beat's length in samples."""
    from course_lib.data import STEMS, open_tracks
    track = open_tracks("band", "test", count=number + 1)[number]
    return track.sources(STEMS).mean(1), 60 * track.rate / track.info["bpm"]


def sdr(estimate, reference):
    """SDR in dB of a signal (time,)."""
    return float(10 * torch.log10((reference ** 2).sum() / ((reference - estimate) ** 2).sum()))


def repet_vocals(mixture, period):
    """What is left of a mixture (time,) without what repeats every `period` samples: (time,)."""
    size = dict(n_fft=2048, hop_length=512, window=torch.hann_window(2048))
    X = torch.stft(mixture, **size, return_complex=True)              # (bin, frame)
    V, frames = X.abs(), round(period / 512)
    padded = F.pad(V, (0, -V.shape[1] % frames), value=math.nan)
    bars = padded.unflatten(1, (-1, frames))                          # (bin, bar, frame of the bar)
    model = bars.nanquantile(0.5, dim=1).repeat(1, bars.shape[1])[:, :V.shape[1]]
    mask = 1 - torch.minimum(model, V) / V.clamp_min(1e-12)
    return torch.istft(X * mask, **size, length=len(mixture))

# For example a period of four beats (sources: drums, bass, other, vocals):
# song, beat = band_song(0);  sdr(repet_vocals(song.sum(0), 4 * beat), song[3])

# %% [markdown]
# <!-- TASK 6 (6 points): which period should REPET get? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, frame and hop, the score, and that it is of the vocals
#   alone; only the period varies.
# - 2 points: a table of at least six periods, one of them no multiple of the beat, beside mixture and silence, with
#   plausible numbers and more than one song, or a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: a broad optimum at two to four bars (8 to 16 beats). Half a beat
#   is too short: it mixes chords and strokes that differ, and the median of those is a model of none. With 24 or 32
#   beats hardly anything has a second time in 20 s; what comes once is its own median, so that nothing is left and the
#   estimate goes towards silence, 0 dB. That also flatters 16 beats where the vocals are quiet. A period that is 5%
#   wrong is as bad as half a beat, as strokes no longer meet themselves: a wrong bar costs far more than a right beat.
#   A very good answer sees that silence beats the mixture by several decibels, so that an "improvement over the
#   mixture" proves little.
# - 1 point: the limit. The band plays in exact time and repeats its samples; records drift, are played by hand, and
#   change between verse and chorus, so that long periods lose more there. Or: songs of 20 s; in longer ones long
#   periods have more repetitions. Or: SDR of the vocals alone says nothing of how the background sounds.
#
# For comparison, means over the first four test songs, 20 s each, in mono, with the cell above (SDR in dB):
#
# | beats | mixture | silence | 0.5 | 1 | 2 | 4 | 8 | 16 | 24 | 32 | 3.8 |
# |---|---|---|---|---|---|---|---|---|---|---|---|
# | vocals | -5.5 | 0.0 | -1.0 | 0.2 | 0.7 | 1.1 | 1.6 | 1.9 | 0.5 | 0.1 | -1.1 |
# <!-- END RUBRIC -->
