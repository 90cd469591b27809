# %% [markdown]
# # Assignment 8 · Tokens that listen
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 8, but none is a copy of it: you put the tokens of both branches into one row, move positions without knowing where they are, compute
# attention piece by piece, let two branches listen to each other at the same time, and fold away what only training needs. Read what is asked for,
# above all at the edges (a branch of one token, a piece without keys, scores too large for $\exp$).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.htdemucs` don't count as your own work, nor does changing
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
BINS = variation.integer("bins", 2, 4)  # of the spectrogram branch
RATIO = variation.choice("ratio", [1.5, 2.5, 3.5])  # steps that a frame lasts
DIM = variation.choice("dim", [12, 16, 20])  # channels of a token
MOVE = variation.integer("move", 3, 9)  # frames
HEADS = variation.choice("heads", [2, 3])

# %% [markdown]
# ## Task 1: one row for both branches
#
# HT Demucs keeps the tokens of its branches apart. Put them into **one row**, in the order of time. The spectrogram branch has `bins` tokens a frame, the time branch one a step, and a frame lasts
# `ratio` steps, which needn't be a whole number: frame $t$ begins at $t \cdot$ `ratio`, step $m$ at $m$, counted in steps. Who begins earlier comes earlier. The bins of a frame stand side by side, the lowest first; where a frame and a
# step begin at the same time, the frame's bins come first. The branches may end at very different times.
#
# Write the way there and the way back. For two bins, three frames and five steps with a ratio of 1.5, the row is
#
# $$ (0,0)\;(1,0)\;0\;\;1\;\;(0,1)\;(1,1)\;\;2\;\;(0,2)\;(1,2)\;3\;\;4, $$
#
# where $(f, t)$ is bin $f$ of frame $t$, and a single number is a step.

# %%
# TASK 1 (4 points): one row for both branches
def one_row(x, xt, ratio):
    """The tokens of both branches in the order of time: (batch, token, channel).

    x: (batch, channel, bin, frame). xt: (batch, channel, step). At least one bin, frame and step.
    ratio: steps that a frame lasts, above 0, whole or not. Differentiable.
    """
    ### BEGIN SOLUTION
    bins, frames = x.shape[2:]
    times = torch.cat([torch.arange(frames, dtype=torch.float64).repeat_interleave(bins) * ratio,
                       torch.arange(xt.shape[-1], dtype=torch.float64)])
    tokens = torch.cat([x.transpose(2, 3).flatten(2), xt], 2).mT    # (batch, token, channel)
    return tokens[:, times.argsort(stable=True)]
    ### END SOLUTION


def two_branches(row, bins, frames, ratio):
    """The way back: x (batch, channel, bin, frame) and xt (batch, channel, step) of a row.

    row: (batch, token, channel), as above, of at least one step. Differentiable.
    """
    ### BEGIN SOLUTION
    tags, first = torch.arange(row.shape[1]), bins * frames
    tags = one_row(tags[:first].reshape(1, 1, bins, frames), tags[None, None, first:], ratio)
    tokens = row[:, tags[0, :, 0].argsort()].mT                     # (batch, channel, token)
    return tokens[..., :first].unflatten(2, (bins, frames)), tokens[..., first:]
    ### END SOLUTION

# %%
# CHECK 1
x = torch.tensor([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])[None, None]  # 10 times the bin, the frame
xt = torch.tensor([[[100.0, 101.0, 102.0, 103.0, 104.0]]])
found = one_row(x, xt, 1.5)
assert found.shape == (1, 11, 1), f"6 tokens and 5, one channel: (1, 11, 1); you: {found.shape}"
expected = [0, 10, 100, 101, 1, 11, 102, 2, 12, 103, 104]
assert found[0, :, 0].tolist() == expected, (
    f"the row of the text is {expected} (10 f + t, and 100 + the step); you: {found[0, :, 0]}")
found = one_row(x, xt[..., :1], 2)[0, :, 0].tolist()
assert found == [0, 10, 100, 1, 11, 2, 12], f"a single step, after the first frame; you: {found}"
generator = torch.Generator().manual_seed(1)
x = torch.randn(2, DIM, BINS, 4, generator=generator)
for steps in (2, 9, 20):
    xt = torch.randn(2, DIM, steps, generator=generator)
    row = one_row(x, xt, RATIO)
    assert row.shape == (2, 4 * BINS + steps, DIM), f"(2, {4 * BINS + steps}, {DIM}); {row.shape}"
    back = two_branches(row, BINS, 4, RATIO)
    assert back[0].shape == x.shape and back[1].shape == xt.shape, (
        f"x {tuple(x.shape)} and xt {tuple(xt.shape)} come back as {tuple(back[0].shape)} and "
        f"{tuple(back[1].shape)}")
    assert torch.equal(back[0], x) and torch.equal(back[1], xt), (
        f"4 frames, {steps} steps: there and back again, and something else arrives")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _ordered(x, xt, ratio):
    """Token by token, sorted by time, kind and bin."""
    events = [(t * ratio, 0, f, x[:, :, f, t]) for t in range(x.shape[3])
              for f in range(x.shape[2])]
    events += [(float(m), 1, 0, xt[:, :, m]) for m in range(xt.shape[2])]
    return torch.stack([event[3] for event in sorted(events, key=lambda event: event[:3])], 1)

def _right(x, xt, ratio, message):
    before = x.clone(), xt.clone()
    found = one_row(x, xt, ratio)
    expected = _ordered(*before, ratio)
    assert truth.equal(found, expected), f"wrong row: {message}"
    assert found.dtype == x.dtype, f"wrong precision: {message}"
    back = two_branches(expected, x.shape[2], x.shape[3], ratio)
    assert type(back) in (tuple, list) and len(back) == 2, "two_branches returns two tensors"
    assert truth.equal(list(back), list(before)), f"wrong branches: {message}"
    assert truth.equal(expected, _ordered(*before, ratio)), "two_branches changes the row"
    assert truth.equal([x, xt], list(before)), "one_row changes its arguments"

_generator = hidden.generator("tokens")
for _case, _ratio in enumerate((4, 0.5, 1, 3.5, 2.25, 0.25, 7.75)):
    _shape = [hidden.integer(f"{_axis} {_case}", 1, 4)
              for _axis in ("batch", "channels", "bins", "frames")]
    _steps = hidden.integer(f"steps {_case}", 1, 12)
    _right(torch.randn(_shape, generator=_generator),
           torch.randn(*_shape[:2], _steps, generator=_generator), _ratio,
           f"{_shape[2]} bins, {_shape[3]} frames, {_steps} steps, ratio {_ratio}")
for _bins, _frames, _steps in ((1, 6, 1), (5, 1, 9), (2, 9, 2), (3, 2, 30), (1, 1, 1)):
    _right(torch.randn(1, 2, _bins, _frames, generator=_generator),
           torch.randn(1, 2, _steps, generator=_generator), 3.0,
           f"{_bins} bins, {_frames} frames, {_steps} steps, ratio 3")
_right(torch.randn(1, 2, 2, 40, generator=_generator),
       torch.randn(1, 2, 150, generator=_generator), 3.75, "40 frames, 150 steps, ratio 3.75")
_leaf, _leaf_t = (torch.randn(shape, generator=_generator).requires_grad_()
                  for shape in ((1, 2, 2, 3), (1, 2, 7)))
_weights = torch.randn(1, 13, 2, generator=_generator)
(one_row(_leaf, _leaf_t, 2.5) * _weights).sum().backward()
_places = two_branches(_weights, 2, 3, 2.5)
assert truth.close([_leaf.grad, _leaf_t.grad], list(_places)), "the gradient is wrong"
_x, _xt = (torch.randn(shape, generator=_generator) for shape in ((2, 3, 2, 6), (2, 3, 11)))
for _edge, _level, (_x, _xt) in edges.mutated(_x, _xt):
    _right(_x, _xt, 1.5, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: places one can calculate with
#
# What the clocks of the positions are for: whoever has a place can compute the place some frames *later*, without knowing where it is. Turn every hand by the angle that it goes in this time. That is one linear map, the same for all
# places, and a network can learn it: "listen to what was a bar ago".
#
# 1. Write the two-dimensional positions (8.4) as rows of tokens, frame by frame as in chapter 8, on any **grid**: frame $t$ is at $t \cdot$ `frame_step`, bin $f$ at $f \cdot$ `bin_step`. With steps of 1 they are the chapter's. (Who runs a
#    network on another window than it has learned on can so tell it the old places.) A place may be a million away and must be right to three digits, for which an angle in single precision is too coarse.
# 2. Move positions by some frames and bins, of any sign, whole or not. The rows may be *sums* of places times numbers, too, as after a layer; what is asked for is the linear map.

# %%
# TASK 2 (5 points): places one can calculate with
def grid_places(dim, bins, frames, bin_step=1.0, frame_step=1.0, max_period=10000.0):
    """The places of all tokens, frame by frame: (frame * bin, dim), float32.

    dim: a multiple of 4. bins, frames: at least 1. bin_step, frame_step: any numbers. max_period:
    P of (8.4), above 1.
    """
    ### BEGIN SOLUTION
    half = dim // 2
    rates = max_period ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)

    def waves(count, step):
        phase = step * torch.arange(count, dtype=torch.float64)[:, None] * rates
        return torch.stack([phase.sin(), phase.cos()], -1).flatten(1)           # (place, half)

    in_time = waves(frames, frame_step)[:, None].expand(-1, bins, -1)
    in_frequency = waves(bins, bin_step).expand(frames, -1, -1)
    return torch.cat([in_time, in_frequency], -1).flatten(0, 1).float()
    ### END SOLUTION


def moved(places, frames, bins, max_period=10000.0):
    """The same places, so many frames later and so many bins higher: (..., dim).

    places: (..., dim), any number of axes in front (or none). frames, bins: numbers, in units of
    the chapter's grid, of any sign and size. Differentiable in the places.
    """
    ### BEGIN SOLUTION
    half = places.shape[-1] // 2
    rates = max_period ** (-torch.arange(0, half, 2, dtype=torch.float64) / half)
    angle = torch.cat([frames * rates, bins * rates])                           # (pair,)
    turn, lift = angle.cos().to(places.dtype), angle.sin().to(places.dtype)
    sine, cosine = places.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([sine * turn + cosine * lift, cosine * turn - sine * lift], -1).flatten(-2)
    ### END SOLUTION

# %%
# CHECK 2
found = grid_places(DIM, BINS, 5)
assert found.shape == (5 * BINS, DIM), f"{5 * BINS} tokens of {DIM}; you: {found.shape}"
assert torch.allclose(found[0, ::2], torch.zeros(DIM // 2)) and torch.allclose(
    found[0, 1::2], torch.ones(DIM // 2)), "at frame 0, bin 0 all sines are 0, all cosines 1"
assert abs(float(found[BINS, 0]) - math.sin(1)) < 1e-5, (
    f"channel 0 of frame 1 is sin 1, for any bin; you say {float(found[BINS, 0]):.4f}")
assert abs(float(found[1, DIM // 2]) - math.sin(1)) < 1e-5, (
    f"channel {DIM // 2} of bin 1 is sin 1; you say {float(found[1, DIM // 2]):.4f}")
slow = 10000.0 ** (-2 / (DIM // 2))
assert abs(float(found[3 * BINS, 2]) - math.sin(3 * slow)) < 1e-5, (
    f"channel 2 of frame 3 is sin(3 P^(-4 / {DIM})); you say {float(found[3 * BINS, 2]):.4f}")
wide = grid_places(DIM, BINS, 5, frame_step=2.0)
assert torch.allclose(wide[2 * BINS], found[4 * BINS], atol=1e-5), (
    "frame 2 of a grid twice as wide is frame 4 of the old one")
later = moved(grid_places(DIM, BINS, 20), MOVE, 0)
expected = grid_places(DIM, BINS, 20 + MOVE)[MOVE * BINS:]
assert later.shape == expected.shape and torch.allclose(later, expected, atol=1e-4), (
    f"the places of frames 0 to 19, {MOVE} frames later, are those of frames {MOVE} to {19 + MOVE}")
assert torch.allclose(moved(found[0], 0, 1), found[1], atol=1e-5), "one bin higher is bin 1"
assert torch.allclose(moved(found[0] + 2 * found[3], 1, 0),
                      moved(found[0], 1, 0) + 2 * moved(found[3], 1, 0), atol=1e-5), (
    "the map is linear: a sum of places moves as its parts do")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _places(dim, bins, frames, bin_step, frame_step, period):
    """Number by number, in double precision."""
    rows = []
    for t in range(frames):
        for f in range(bins):
            row = []
            for place in (t * frame_step, f * bin_step):
                for i in range(dim // 4):
                    angle = place / period ** (4 * i / dim)
                    row += [math.sin(angle), math.cos(angle)]
            rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)

def _moved(places, frames, bins, period):
    """By one matrix, in double precision."""
    dim = places.shape[-1]
    turn = torch.zeros(dim, dim, dtype=torch.float64)
    for pair in range(dim // 2):
        by, i = (frames, pair) if pair < dim // 4 else (bins, pair - dim // 4)
        angle = by / period ** (4 * i / dim)
        sine, cosine = 2 * pair, 2 * pair + 1
        turn[sine, sine] = turn[cosine, cosine] = math.cos(angle)
        turn[sine, cosine], turn[cosine, sine] = math.sin(angle), -math.sin(angle)
    return places.double() @ turn.T

def _right(places, frames, bins, period, message, level=1.0):
    before = places.clone()
    found = moved(places, frames, bins, period)
    assert truth.equal(places, before), "the function changes its argument"
    assert found.dtype == places.dtype, f"wrong precision: {message}"
    assert truth.close(found / level, _moved(before, frames, bins, period) / level, rtol=1e-3,
                       atol=1e-4), f"wrong places: {message}"

_generator = hidden.generator("places")
for _case, _dim in enumerate((4, 8, 12, 24, 40)):
    _bins, _frames = (hidden.integer(f"{_axis} {_case}", 1, 6) for _axis in ("bins", "frames"))
    _steps = [hidden.real(f"step {_case} {_n}", 0.2, 3.0) for _n in range(2)]
    _period = [10000.0, 100.0, 2000.0][_case % 3]
    _found = grid_places(_dim, _bins, _frames, *_steps, _period)
    assert _found.dtype == torch.float32, "grid_places gives float32"
    assert truth.close(_found, _places(_dim, _bins, _frames, *_steps, _period), atol=1e-4), (
        f"wrong places: dim {_dim}, {_bins} bins, {_frames} frames, steps {_steps}")
    _sums = torch.randn(3, 2, _dim, generator=_generator)
    _right(_sums, _steps[0] * 10, -_steps[1], _period, f"dim {_dim}, moved by {_steps}")
    _right(_sums[0, 0], -3, 2, _period, f"a single place of {_dim} channels, 3 frames back")
assert truth.close(grid_places(8, 3, 4), _places(8, 3, 4, 1, 1, 10000.0), atol=1e-4), (
    "wrong places with the steps and the period that are there by default")
for _steps in ((0, 1), (1, 0), (-1, 2), (1e-7, 1e-7)):
    assert truth.close(grid_places(12, 3, 4, *_steps), _places(12, 3, 4, *_steps, 10000.0),
                       atol=1e-6), f"wrong places for steps of {_steps}"
_far = 10.0 ** 5 + hidden.integer("far", 1, 1000)
assert truth.close(grid_places(16, 3, 11, _far, _far), _places(16, 3, 11, _far, _far, 10000.0),
                   rtol=1e-3, atol=1e-3), "wrong places a million away"
_sums = torch.randn(6, 16, generator=_generator)
_right(_sums, 10.0 * _far, -_far, 10000.0, "moved by a million frames")
_right(_sums, 0, 0, 10000.0, "not moved at all")
_leaf = _sums.clone().requires_grad_()
(moved(_leaf, 3, 1) * _sums.flip(0)).sum().backward()
assert truth.close(_leaf.grad, _moved(_sums.flip(0), -3, -1, 10000.0), rtol=1e-3, atol=1e-4), (
    "the gradient is wrong: it goes the same way back")
for _edge, _level, (_sums,) in edges.mutated(_sums, axis=0):
    _right(_sums, 5, -2, 10000.0, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: attention piece by piece
#
# A fused routine never has all weights at once. It goes through the keys in **pieces** and puts the answers together. What has to be kept of a piece? For a query $q$ and the keys of a piece: its answer
# $a = \sum_n w_n v_n$, where the weights add up to 1 *within the piece*, and one number that says how much the piece had to say, the logarithm of the sum that the softmax divided by,
#
# $$ \ell = \log \sum_{n} \exp(q \cdot k_n / \sqrt d) . $$
#
# With these the answer over all keys can be found, exactly. Find out how, and mind two things: a product may be in the thousands, and $\exp$ of it is no number any more; and a piece may have **no keys at all**: its answer is 0, and
# its $\ell$ is $-\infty$. (It is the same thing that lets a step listen to both branches at once, however many tokens each has.)

# %%
# TASK 3 (5 points): attention piece by piece
def piece_of_attention(q, k, v):
    """The answers over the keys of one piece and their logarithms, a pair.

    q: (..., query, d). k: (..., key, d), v: (..., key, c), the same number of keys, 0 or more.
    Returns (..., query, c) and (..., query). Differentiable.
    """
    ### BEGIN SOLUTION
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v, scores.logsumexp(-1)
    ### END SOLUTION


def joined(pieces):
    """The answers over the keys of all pieces and their logarithms, again a pair.

    pieces: list of at least one such pair, in any order, all of the same shapes. Where none has a
    key, the answer is 0 and the logarithm minus infinity. Differentiable where there are keys.
    """
    ### BEGIN SOLUTION
    answers, logs = (torch.stack(parts) for parts in zip(*pieces))  # (piece, ..., query, c)
    shares = logs.softmax(0).nan_to_num(0.0)                        # 0 / 0 where there are no keys
    return (shares[..., None] * answers).sum(0), logs.logsumexp(0)
    ### END SOLUTION

# %%
# CHECK 3
q, k, v = (torch.randn(2, n, 4, generator=torch.Generator().manual_seed(n)) for n in (3, 7, 7))
answer, log = piece_of_attention(q, k, v)
assert answer.shape == (2, 3, 4) and log.shape == (2, 3), (
    f"3 queries, 4 channels: (2, 3, 4) and (2, 3); you: {tuple(answer.shape)}, {tuple(log.shape)}")
assert torch.allclose(answer, F.scaled_dot_product_attention(q, k, v), atol=1e-5), (
    "a piece with all keys is attention (8.1)")
assert torch.allclose(log, (q @ k.mT / 2).exp().sum(-1).log(), atol=1e-5), (
    "the logarithm of the sum of the exponentials is another")
for sizes in ([7], [3, 4], [1, 5, 1], [0, 7], [2, 0, 5, 0]):
    pieces = [piece_of_attention(q, a, b) for a, b in zip(k.split(sizes, 1), v.split(sizes, 1))]
    whole, whole_log = joined(pieces)
    assert torch.allclose(whole, answer, atol=1e-5), (
        f"pieces of {sizes} keys give another answer than all keys at once")
    assert torch.allclose(whole_log, log, atol=1e-5), f"pieces of {sizes} keys: another logarithm"
answer, log = piece_of_attention(q, k[:, :0], v[:, :0])
assert not answer.any() and (log == -math.inf).all(), (
    f"a piece without keys: 0 and minus infinity; you say {answer}, {log}")
answer, _ = joined([piece_of_attention(100 * q, 100 * k[:, n:n + 1], v[:, n:n + 1])
                    for n in range(7)])
assert torch.allclose(answer, F.scaled_dot_product_attention(100 * q, 100 * k, v), atol=1e-4), (
    "products in the thousands: exp of them is infinite, their differences are all that counts")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _whole(q, k, v):
    """All keys at once, in double precision, the largest product taken off first."""
    scores = torch.einsum("...qd,...kd->...qk", q.double(), k.double()) / math.sqrt(q.shape[-1])
    largest = scores.amax(-1, keepdim=True)
    weights = (scores - largest).exp()
    return (torch.einsum("...qk,...kc->...qc", weights / weights.sum(-1, keepdim=True), v.double()),
            weights.sum(-1).log() + largest[..., 0])

def _same(found, expected, message, level=1.0):
    assert type(found) in (tuple, list) and len(found) == 2, f"a pair is asked for: {message}"
    for value, wanted, size, name in zip(found, expected, (level, max(1.0, level ** 2)),
                                         ("answer", "logarithm")):
        assert truth.close(value / size, wanted / size, rtol=1e-3, atol=1e-4), (
            f"wrong {name}: {message}")

def _right(q, k, v, sizes, message, level=1.0):
    before = [part.clone() for part in (q, k, v)]
    keys, values = k.split(sizes, -2), v.split(sizes, -2)
    pieces = [piece_of_attention(q, *part) for part in zip(keys, values)]
    for found, a, b in zip(pieces, keys, values):
        assert found[0].dtype == found[1].dtype == q.dtype, f"wrong precision: {message}"
        if a.shape[-2]:
            _same(found, _whole(q, a, b), f"a piece of {a.shape[-2]} keys, {message}", level)
    pieces = [_whole(q, a, b) if a.shape[-2] else (
        torch.zeros(*q.shape[:-1], v.shape[-1], dtype=torch.float64),
        torch.full(q.shape[:-1], -math.inf, dtype=torch.float64)) for a, b in zip(keys, values)]
    pieces = [(a.to(q.dtype), b.to(q.dtype)) for a, b in pieces]
    copies = [(a.clone(), b.clone()) for a, b in pieces]
    whole = joined(pieces)
    _same(whole, _whole(q, k, v), f"pieces of {sizes} keys, {message}", level)
    assert whole[0].dtype == whole[1].dtype == q.dtype, f"wrong precision: {message}"
    assert truth.equal([q, k, v], before), "a function changes its arguments"
    assert len(pieces) == len(copies) and all(
        truth.equal(list(a), list(b)) for a, b in zip(pieces, copies)), "joined changes the pieces"

_generator = hidden.generator("tokens")
for _case, _front in enumerate(((), (2,), (2, 3), (1, 4))):
    _sizes = [hidden.integer(f"size {_case} {_n}", 0, 4) for _n in range(4)] + [2]
    _d, _c, _queries = (hidden.integer(f"{_axis} {_case}", 1, 9) for _axis in ("d", "c", "queries"))
    _q, _k, _v = (torch.randn(*_front, _n, _m, generator=_generator) for _n, _m in (
        (_queries, _d), (sum(_sizes), _d), (sum(_sizes), _c)))
    _right(_q, _k, _v, _sizes, f"{_queries} queries of {_d}")
    _right(_q, _k, _v, [sum(_sizes)], "a single piece")
    _right(6 * _q, 6 * _k, _v, _sizes[::-1], "sharp weights")
_q, _k, _v = (torch.randn(2, _n, 8, generator=_generator) for _n in (3, 6, 6))
_far = hidden.real("far", 300.0, 900.0)
for _sign in (1, -1):  # all products very large, or very negative, and near each other
    _q[..., 0], _k[..., 0] = _far, _sign * 8 ** 0.5
    _right(_q, _k, _v, [2, 1, 3], f"all products near {_sign * _far:.0f}")
_q, _k, _v = (torch.randn(2, _n, 4, generator=_generator) for _n in (3, 6, 6))
_k[:, 3:] *= 0
_right(_q, _k, _v, [3, 3], "a piece whose keys are all zero")
_empty = piece_of_attention(_q, _k[:, :0], _v[:, :0])
assert truth.equal(_empty[0], torch.zeros(2, 3, 4)), "the answer of a piece without keys is 0"
_nothing = joined([(torch.zeros(2, 3, 4), torch.full((2, 3), -math.inf))] * 3)
assert truth.equal(_nothing[0], torch.zeros(2, 3, 4)), "no keys in any piece: the answer is 0"
assert bool((_nothing[1] == -math.inf).all()), "no keys in any piece: minus infinity"
_log = torch.tensor([[-math.inf, 0.0]])  # a query that has keys beside one that hasn't
_answers = torch.tensor([[[0.0], [5.0]]])
_mixed = joined([(_answers, _log), (torch.zeros(1, 2, 1), torch.full((1, 2), -math.inf))])
assert truth.close(_mixed[0], _answers), "one query has keys, the other none"
_twice = joined([joined([piece_of_attention(_q, _k[:, a:b], _v[:, a:b]) for a, b in _ends])
                 for _ends in (((0, 1), (1, 3)), ((3, 6), (6, 6)))])
_same(_twice, _whole(_q, _k, _v), "what has been joined is joined again")
_leaves = [part.clone().requires_grad_() for part in (_q, _k, _v)]
_answer, _log = joined([piece_of_attention(_leaves[0], _leaves[1][:, a:b], _leaves[2][:, a:b])
                        for a, b in ((0, 2), (2, 6))])
(_answer.square().sum() + _log.sum()).backward()
_twins = [part.clone().requires_grad_() for part in (_q, _k, _v)]
_answer, _log = _whole(*_twins)
(_answer.square().sum() + _log.sum()).backward()
for _leaf, _twin in zip(_leaves, _twins):
    assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), (
        "the gradient is wrong")
_q, _k, _v = (torch.randn(2, 6, 5, generator=_generator) for _ in range(3))
for _edge, _level, (_q, _k, _v) in edges.mutated(_q, _k, _v, axis=-2):
    _keys = _k.shape[-2]
    _right(_q, _k, _v, [_keys // 2, 0, _keys - _keys // 2], _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: both listen at once
#
# Tasks 4 and 5 are about the weights of one layer of cross attention (8.6), a dictionary with the names that the chapter's `CrossAttentionLayer` has. The cell makes such a layer, with numbers unlike those of a new one, whose layer scales would hide any mistake.

# %%
def random_layer(channels, wide, generator):
    """Weights of a layer of cross attention: name -> tensor. wide: channels of the hidden layer."""
    shapes = {"cross_attn.in_proj": (3 * channels, channels),
              "cross_attn.out_proj": (channels, channels),
              "linear1": (wide, channels), "linear2": (channels, wide)}
    draw = lambda *shape: torch.randn(shape, generator=generator)
    layer = {}
    for name, (out, inputs) in shapes.items():
        between = "_" if name.endswith("in_proj") else "."          # in_proj_weight, linear1.weight
        layer[f"{name}{between}weight"] = draw(out, inputs) / inputs ** 0.5
        layer[f"{name}{between}bias"] = 0.5 * draw(out)
    for name in ("norm1", "norm2", "norm3", "norm_out"):
        layer[f"{name}.weight"], layer[f"{name}.bias"] = 1 + 0.3 * draw(channels), draw(channels)
    return layer | {f"gamma_{n}.scale": draw(channels) for n in (1, 2)}

# %% [markdown]
# Compute what two such layers make of the tokens of the two branches, `x` and `xt`, in which **each listens to what the other was before**: eq. (8.6) twice, with
#
# - $\text{LN}$: each token to mean 0 and variance 1 over its channels (the variance without correction, plus $10^{-5}$ under the root), times weight, plus bias: `norm1`, `norm2`, `norm3`,
# - $\text{MHA}$: `in_proj_weight` holds the rows of $W_q$, then $W_k$, then $W_v$; head $h$ gets the $h$-th part of the channels; the scores are divided by the root of the channels *of a head*; `out_proj` comes last,
# - $\gamma_1$, $\gamma_2$: `gamma_1.scale`, `gamma_2.scale`; $W_1$, $W_2$: `linear1`, `linear2`, with GELU (not its approximation) between them,
# - $\text{GN}$: `norm_out`, mean and variance over all tokens and channels of an item, weight and bias by channel.
#
# The branches may have any numbers of tokens.

# %%
# TASK 4 (5 points): both listen at once
def exchange(x, xt, layer, layer_t, heads):
    """What two layers of cross attention make of both branches: a pair with the shapes of x, xt.

    x: (batch, token, channel). xt: (batch, token of the other, channel). layer, layer_t: weights of
    the layers whose queries come from x and from xt. heads: a divisor of the channels.
    """
    ### BEGIN SOLUTION
    def listen(x, other, layer):
        weights = lambda name: (layer[f"{name}.weight"], layer[f"{name}.bias"])
        norm = lambda y, name: F.layer_norm(y, y.shape[-1:], *weights(name))
        W, b = (layer[f"cross_attn.in_proj_{kind}"].chunk(3) for kind in ("weight", "bias"))
        y, o = norm(x, "norm1"), norm(other, "norm2")
        q, k, v = (F.linear(z, W[n], b[n]).unflatten(-1, (heads, -1)).transpose(1, 2)
                   for n, z in enumerate((y, o, o)))                # (batch, head, token, c)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        heard = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + layer["gamma_1.scale"] * F.linear(heard, *weights("cross_attn.out_proj"))
        hidden = F.gelu(F.linear(norm(x, "norm3"), *weights("linear1")))
        x = x + layer["gamma_2.scale"] * F.linear(hidden, *weights("linear2"))
        scale, bias = weights("norm_out")
        return F.layer_norm(x, x.shape[1:]) * scale + bias

    return listen(x, xt, layer), listen(xt, x, layer_t)
    ### END SOLUTION

# %%
# CHECK 4
generator = torch.Generator().manual_seed(4)
layer, layer_t = (random_layer(6, 10, generator) for _ in range(2))
x, xt = (torch.randn(2, n, 6, generator=generator) for n in (5, 3))
found, found_t = exchange(x, xt, layer, layer_t, HEADS)
assert found.shape == x.shape and found_t.shape == xt.shape, (
    f"5 tokens and 3 come back: {tuple(x.shape)}, {tuple(xt.shape)}; you: {tuple(found.shape)}, "
    f"{tuple(found_t.shape)}")
plain = (found - layer["norm_out.bias"]) / layer["norm_out.weight"]
assert torch.allclose(plain.mean((1, 2)), torch.zeros(2), atol=1e-4) and torch.allclose(
    plain.var((1, 2), correction=0), torch.ones(2), atol=1e-3), (
    "without weight and bias of norm_out each item has mean 0 and variance 1")
swapped_t, swapped = exchange(xt, x, layer_t, layer, HEADS)
assert all(torch.allclose(a, b, atol=1e-5) for a, b in ((found, swapped), (found_t, swapped_t))), (
    "none goes first: with the branches' places swapped each must get the same")
_, doubled = exchange(torch.cat([x, x], 1), xt, layer, layer_t, HEADS)
assert torch.allclose(doubled, found_t, atol=1e-4), (
    "whoever listens hears the same if all that the other holds is there twice")
closed = layer | {"gamma_1.scale": torch.zeros(6), "gamma_2.scale": torch.zeros(6)}
found, _ = exchange(x, xt, closed, layer_t, HEADS)
expected = (x - x.mean((1, 2), True)) / (x.var((1, 2), correction=0, keepdim=True) + 1e-5).sqrt()
assert torch.allclose(found, expected * layer["norm_out.weight"] + layer["norm_out.bias"],
                      atol=1e-4), "with scales of 0 only the last norm is left"
def normal(y, n):
    return F.layer_norm(y, (6,), layer[f"norm{n}.weight"], layer[f"norm{n}.bias"])

attention = torch.nn.MultiheadAttention(6, HEADS, batch_first=True)
attention.load_state_dict({name[11:]: value for name, value in layer.items() if "attn" in name})
free = {"norm_out.weight": torch.ones(6), "norm_out.bias": torch.zeros(6)}
with torch.no_grad():
    part = attention(normal(x, 1), normal(xt, 2), normal(xt, 2), need_weights=False)[0]
expected = x + layer["gamma_1.scale"] * part
found, _ = exchange(x, xt, layer | free | {"gamma_2.scale": torch.zeros(6)}, layer_t, HEADS)
assert torch.allclose(found, F.layer_norm(expected, (5, 6)), atol=1e-4), (
    f"with gamma_2 = 0, x + gamma_1 MHA(LN(x), LN(other)) and the last norm are left; yours is "
    f"{(found - F.layer_norm(expected, (5, 6))).abs().max():.4f} away from it")
part = F.linear(normal(x, 3), layer["linear1.weight"], layer["linear1.bias"])
part = F.linear(F.gelu(part), layer["linear2.weight"], layer["linear2.bias"])
expected = x + layer["gamma_2.scale"] * part
found, _ = exchange(x, xt, layer | free | {"gamma_1.scale": torch.zeros(6)}, layer_t, HEADS)
assert torch.allclose(found, F.layer_norm(expected, (5, 6)), atol=1e-4), (
    f"with gamma_1 = 0, x plus the feed-forward part and the last norm are left; yours is "
    f"{(found - F.layer_norm(expected, (5, 6))).abs().max():.4f} away from it")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _normal(x, axes, scale, bias):
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt() * scale + bias

def _listen(x, other, layer, heads):
    """Item by item and head by head, in double precision."""
    w = {name: value.double() for name, value in layer.items()}
    found = []
    for one, heard in zip(x.double(), other.double()):
        asks = _normal(one, -1, w["norm1.weight"], w["norm1.bias"])
        told = _normal(heard, -1, w["norm2.weight"], w["norm2.bias"])
        W, b, channels = w["cross_attn.in_proj_weight"], w["cross_attn.in_proj_bias"], x.shape[-1]
        q, k, v = (y @ W[n * channels:(n + 1) * channels].T + b[n * channels:(n + 1) * channels]
                   for n, y in enumerate((asks, told, told)))
        size, answers = channels // heads, []
        for head in range(heads):
            mine = slice(head * size, (head + 1) * size)
            scores = q[:, mine] @ k[:, mine].T / math.sqrt(size)
            weights = (scores - scores.amax(-1, keepdim=True)).exp()
            answers.append(weights / weights.sum(-1, keepdim=True) @ v[:, mine])
        answer = torch.cat(answers, -1) @ w["cross_attn.out_proj.weight"].T
        one = one + w["gamma_1.scale"] * (answer + w["cross_attn.out_proj.bias"])
        inside = _normal(one, -1, w["norm3.weight"], w["norm3.bias"])
        inside = inside @ w["linear1.weight"].T + w["linear1.bias"]
        inside = 0.5 * inside * (1 + torch.erf(inside / math.sqrt(2)))
        one = one + w["gamma_2.scale"] * (inside @ w["linear2.weight"].T + w["linear2.bias"])
        found.append(_normal(one, (0, 1), w["norm_out.weight"], w["norm_out.bias"]))
    return torch.stack(found)

def _right(x, xt, layers, heads, message):
    before = x.clone(), xt.clone()
    copies = [{name: value.clone() for name, value in layer.items()} for layer in layers]
    found = exchange(x, xt, *layers, heads)
    assert type(found) in (tuple, list) and len(found) == 2, "exchange returns a pair"
    assert truth.equal([x, xt], list(before)), "the function changes the tokens"
    for layer, copy in zip(layers, copies):
        assert list(layer) == list(copy), "the function changes a layer"
        assert truth.equal(list(layer.values()), list(copy.values())), "a layer is changed"
    for value, expected, name in ((found[0], _listen(*before, layers[0], heads), "first"),
                                  (found[1], _listen(*before[::-1], layers[1], heads), "second")):
        assert value.dtype == x.dtype, f"wrong precision: {message}"
        assert truth.close(value, expected, rtol=1e-3, atol=1e-3), (
            f"wrong tokens of the {name} branch: {message}")

_generator = hidden.generator("layers")
for _case, (_heads, _size, _wide) in enumerate(((1, 5, 7), (2, 3, 20), (4, 2, 4), (3, 4, 1),
                                                (6, 1, 9))):
    _layers = [random_layer(_heads * _size, _wide, _generator) for _ in range(2)]
    _batch, _tokens, _others = (hidden.integer(f"{_axis} {_case}", 1, 7)
                                for _axis in ("batch", "tokens", "others"))
    _x, _xt = (torch.randn(_batch, _n, _heads * _size, generator=_generator)
               for _n in (_tokens, _others))
    _message = f"{_tokens} and {_others} tokens of {_heads} heads of {_size}"
    _right(_x, _xt, _layers, _heads, _message)
    _right(_xt[:1], _x[:1], _layers, _heads, f"{_message}, a batch of one")
_layers = [random_layer(8, 12, _generator) for _ in range(2)]
for _tokens, _others in ((1, 9), (9, 1), (6, 6)):
    _x, _xt = (torch.randn(2, _n, 8, generator=_generator) for _n in (_tokens, _others))
    _right(_x, _xt, _layers, 2, f"{_tokens} and {_others} tokens")
_right(torch.zeros(1, 3, 8), torch.zeros(1, 2, 8), _layers, 4, "tokens of zeros")
_loud = torch.randn(2, 4, 8, generator=_generator)
_loud[:, 1] *= 50
_loud[:, 2] += 30
_right(_loud, _loud[:, 1:3] + 5, _layers, 4, "one token louder than the others")
_sharp = [layer | {"cross_attn.in_proj_weight": 40 * layer["cross_attn.in_proj_weight"]}
          for layer in _layers]
_right(torch.randn(1, 3, 8, generator=_generator), _xt[:1], _sharp, 2, "scores in the hundreds")
_x, _xt = (torch.randn(2, _n, 8, generator=_generator) for _n in (5, 7))
for _edge, _level, (_x, _xt) in edges.mutated(_x, _xt, axis=1):
    _typed = [{name: value.to(_x.dtype) for name, value in layer.items()} for layer in _layers]
    _right(_x, _xt, _typed, 4, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: fold away what only training needs
#
# A trained layer carries things that helped it to learn and that no longer do anything a matrix next to them couldn't do. A diagonal before or behind a matrix can be multiplied into it; a bias before it can be carried through it. Give another layer,
# with the same names and shapes, that **computes the same for all tokens** and in which
#
# - `gamma_1.scale` and `gamma_2.scale` are all ones,
# - weights of `norm1`, `norm2` and `norm3` are ones, their biases zeros (`norm_out` stays as it is),
# - in `in_proj_bias` the parts of *keys and values* are zeros. The first does nothing: what does a number that is the same for all keys do to a softmax? The second isn't lost: what becomes of a number that is the same for all values?
#
# There is only one such layer if you change none of the other tensors but those that have to take these in. It works whatever the number of heads.

# %%
# TASK 5 (5 points): fold away what only training needs
def folded(layer):
    """A layer that computes the same, without scales, norms' weights and two of three biases.

    layer: name -> tensor, as above. Returns a new dictionary of the same names in any order, all
    tensors of the same shapes and precision.
    """
    ### BEGIN SOLUTION
    new = {name: value.clone() for name, value in layer.items()}
    for norm in ("norm1", "norm2", "norm3"):
        new[f"{norm}.weight"] = torch.ones_like(layer[f"{norm}.weight"])
        new[f"{norm}.bias"] = torch.zeros_like(layer[f"{norm}.bias"])
    for gamma in ("gamma_1.scale", "gamma_2.scale"):
        new[gamma] = torch.ones_like(layer[gamma])
    # what comes before a matrix
    Wq, Wk, Wv = layer["cross_attn.in_proj_weight"].chunk(3)
    bq, bk, bv = layer["cross_attn.in_proj_bias"].chunk(3)
    a1, b1, a2, b2 = (layer[f"norm{n}.{kind}"] for n in (1, 2) for kind in ("weight", "bias"))
    new["cross_attn.in_proj_weight"] = torch.cat([Wq * a1, Wk * a2, Wv * a2])
    new["cross_attn.in_proj_bias"] = torch.cat([bq + Wq @ b1, 0 * bk, 0 * bv])
    new["linear1.weight"] = layer["linear1.weight"] * layer["norm3.weight"]
    new["linear1.bias"] = layer["linear1.bias"] + layer["linear1.weight"] @ layer["norm3.bias"]
    # what comes behind one
    first, second = layer["gamma_1.scale"], layer["gamma_2.scale"]
    W, b = layer["cross_attn.out_proj.weight"], layer["cross_attn.out_proj.bias"]
    new["cross_attn.out_proj.weight"] = first[:, None] * W
    new["cross_attn.out_proj.bias"] = first * (b + W @ (bv + Wv @ b2))
    new["linear2.weight"] = second[:, None] * layer["linear2.weight"]
    new["linear2.bias"] = second * layer["linear2.bias"]
    return new
    ### END SOLUTION

# %%
# CHECK 5
def parts(layer, x, other):
    """What attention adds to x, and what the feed-forward part adds."""
    normal = lambda y, n: F.layer_norm(y, (6,), layer[f"norm{n}.weight"], layer[f"norm{n}.bias"])
    attention = torch.nn.MultiheadAttention(6, HEADS, batch_first=True)
    attention.load_state_dict({name[11:]: value for name, value in layer.items()
                               if "attn" in name})
    with torch.no_grad():
        heard = attention(normal(x, 1), normal(other, 2), normal(other, 2), need_weights=False)[0]
    inside = F.gelu(F.linear(normal(x, 3), layer["linear1.weight"], layer["linear1.bias"]))
    thought = F.linear(inside, layer["linear2.weight"], layer["linear2.bias"])
    return layer["gamma_1.scale"] * heard, layer["gamma_2.scale"] * thought

generator = torch.Generator().manual_seed(5)
layer = random_layer(6, 10, generator)
new = folded(layer)
assert set(new) == set(layer), f"the names are others: {sorted(set(new) ^ set(layer))}"
for name, value in layer.items():
    assert new[name].shape == value.shape, f"{name}: {tuple(value.shape)}; you {new[name].shape}"
for name in ("gamma_1.scale", "gamma_2.scale", "norm1.weight", "norm2.weight", "norm3.weight"):
    assert (new[name] == 1).all(), f"{name} should be all ones; you say {new[name]}"
for name in ("norm1.bias", "norm2.bias", "norm3.bias"):
    assert not new[name].any(), f"{name} should be all zeros; you say {new[name]}"
assert not new["cross_attn.in_proj_bias"][6:].any(), "keys and values should have no bias"
for name in ("norm_out.weight", "norm_out.bias"):
    assert torch.equal(new[name], layer[name]), f"{name} stays as it is"
x, other = (torch.randn(2, n, 6, generator=generator) for n in (5, 3))
for found, expected, name in zip(parts(new, x, other), parts(layer, x, other),
                                 ("attention", "the feed-forward part")):
    assert torch.allclose(found, expected, atol=1e-4), (
        f"{name} adds something else than before: {(found - expected).abs().max():.4f} apart")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _expected(layer):
    """Number by number, in double precision."""
    w = {name: value.double() for name, value in layer.items()}
    new, channels = {name: value.clone() for name, value in w.items()}, len(w["norm1.bias"])
    W, b = w["cross_attn.in_proj_weight"], w["cross_attn.in_proj_bias"]
    for row in range(3 * channels):
        norm = "norm1" if row < channels else "norm2"
        for column in range(channels):
            new["cross_attn.in_proj_weight"][row, column] = (
                W[row, column] * w[f"{norm}.weight"][column])
        new["cross_attn.in_proj_bias"][row] = b[row] + (W[row] * w[f"{norm}.bias"]).sum()
    lost = new["cross_attn.in_proj_bias"][2 * channels:].clone()
    new["cross_attn.in_proj_bias"][channels:] = 0
    for row in range(channels):
        out, scale = w["cross_attn.out_proj.weight"][row], w["gamma_1.scale"][row]
        new["cross_attn.out_proj.weight"][row] = scale * out
        new["cross_attn.out_proj.bias"][row] = (
            scale * (w["cross_attn.out_proj.bias"][row] + (out * lost).sum()))
        new["linear2.weight"][row] = w["gamma_2.scale"][row] * w["linear2.weight"][row]
        new["linear2.bias"][row] = w["gamma_2.scale"][row] * w["linear2.bias"][row]
    for row in range(len(w["linear1.bias"])):
        new["linear1.weight"][row] = w["linear1.weight"][row] * w["norm3.weight"]
        new["linear1.bias"][row] = (
            w["linear1.bias"][row] + (w["linear1.weight"][row] * w["norm3.bias"]).sum())
    for name in new:
        if name[:5] in ("norm1", "norm2", "norm3", "gamma"):
            new[name] = torch.full_like(new[name], 0.0 if name.endswith("bias") else 1.0)
    return new

def _right(layer, message):
    before = {name: value.clone() for name, value in layer.items()}
    found, expected = folded(layer), _expected(before)
    assert list(layer) == list(before) and truth.equal(
        list(layer.values()), list(before.values())), "the function changes the layer"
    assert isinstance(found, dict) and set(found) == set(before), f"other names: {message}"
    for name, value in expected.items():
        assert found[name].dtype == before[name].dtype, f"wrong precision of {name}: {message}"
        level = max(float(value.abs().max()), 1e-30)
        assert truth.close(found[name] / level, value / level, rtol=1e-3, atol=1e-4), (
            f"wrong {name}: {message}")
    return found

_generator = hidden.generator("layers")
for _case, (_channels, _wide) in enumerate(((4, 4), (6, 24), (9, 2), (16, 5), (7, 7))):
    _right(random_layer(_channels, _wide, _generator), f"{_channels} channels, {_wide} inside")
_layer = random_layer(6, 8, _generator)
_mine = {name: value.clone() for name, value in _layer.items()}
_new = folded(_mine)
for _value in _new.values():
    _value.mul_(3)
assert truth.equal(list(_mine.values()), list(_layer.values())), (
    "whoever changes the new layer in place changes the old one, too: share no tensors")
_again = _right({name: _expected(_layer)[name].float() for name in _layer}, "folded already")
def _with(**changes):
    return _layer | {name.replace("__", "."): value for name, value in changes.items()}

_gap = torch.tensor([1.0, 0.0, -2.0, 0.0, 0.5, 1.0])
edges.case("zeros inside")
_right(_with(gamma_1__scale=_gap, norm3__weight=_gap.flip(0), norm2__bias=_gap), "zeros inside")
_right(_with(norm2__weight=0 * _gap, norm1__weight=0 * _gap), "norms' weights of zeros")
_right(_with(gamma_1__scale=0 * _gap, gamma_2__scale=0 * _gap), "scales of zeros")
edges.case("short")
_right(random_layer(1, 1, _generator), "a single channel")
edges.case("tiny")
_right(_with(gamma_1__scale=1e-8 * _gap, gamma_2__scale=1e-9 * (1 + _gap)), "tiny scales")
_right(_with(linear1__weight=1e-8 * _layer["linear1.weight"]), "tiny weights")
edges.case("huge")
_right(_with(gamma_1__scale=1e8 * _gap, norm3__bias=1e9 * _gap), "huge scales and biases")
edges.case("other type")
_right({name: value.double() for name, value in _layer.items()}, "float64")
_right(dict(reversed(_layer.items())), "the names in another order")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: who listens to whom?
#
# The small HT Demucs that comes with the course has a transformer of three layers: self attention, cross attention, self attention. What of it does the trained network use? Take parts away and see what is lost. The cell below gives you a chunk of a song, the
# network without some of its parts, and the SDR of each stem. The parts are *silenced* by a layer scale of 0: what the part would add is not added, all else stays.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: the SDR of each stem of the whole network; without cross attention; without self attention; without either; without feed-forward parts; without positions; and without the transformer's layers as a whole. How many of your songs lose each time, in the mean over their stems?
# - a control: `reversed`, in which each branch gets the other's tokens in reverse order. What do you expect, and why? What would it have to reverse to find out whether the network minds *when* something was played?
# - what you would say about the sentence "HT Demucs is better because its branches listen to each other", for this network,
# - one thing that taking parts away from a trained network can't tell.

# %%
# EXPERIMENT: a chunk of a song, the network without parts, the SDR; write your own cells below
RATE = 22_050  # Hz, of the network


def chunk(number):
    """A song of the band, as long as the training's chunks, mono: (source, 1, time)."""
    from course_lib.data import STEMS, open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 10 / 3)
    return resample(song.sources(STEMS).mean(1, keepdim=True), song.rate, RATE)


def network(*without):
    """The trained network without some of: "self", "cross", "feed-forward", "positions";
    "reversed" turns the tokens round that cross attention listens to."""
    from course_lib.training import load_trained
    model = load_trained("htdemucs_band").eval()
    transformer = model.crosstransformer
    with torch.no_grad():
        for index in range(3):
            kind = "cross" if index == 1 else "self"
            for layer in (transformer.layers[index], transformer.layers_t[index]):
                layer.gamma_1.scale.mul_(kind not in without)
                layer.gamma_2.scale.mul_("feed-forward" not in without)
                if kind == "cross" and "reversed" in without:
                    layer.register_forward_pre_hook(lambda _, given: (given[0], given[1].flip(1)))
    transformer.weight_pos_embed *= "positions" not in without
    return model


@torch.no_grad()
def sdr(model, sources):
    """SDR in dB of each source, drums, bass, other, vocals: four numbers."""
    error = sources - model(sources.sum(0)[None])[0]
    return (10 * torch.log10(sources.square().sum((1, 2)) / error.square().sum((1, 2)))).tolist()

# For example:  sources = chunk(0)
#               sdr(network(), sources), sdr(network("cross"), sources)

# %% [markdown]
# <!-- TASK 6 (6 points): who listens to whom? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, which network, how a part is silenced, what is scored; only the parts vary.
# - 2 points: the table with plausible numbers and the control, on more than one song with the number of songs that lose, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: the layers as a whole are worth more than half a decibel here, in all songs. Self attention is worth about a third of a decibel, the feed-forward parts a quarter, positions a tenth. **Cross attention is worth hardly anything**: its mean is
#   two hundredths of a decibel, and while five of eight songs lose without it, three do not. `reversed` changes no digit that counts, and that is no sign of anything: attention is a sum over the other's tokens, their order in the row doesn't matter (their positions were added before and travel with them). To find out whether the
#   network minds *when* something was played, reverse the other's tokens in time *before* the positions are added, or give a branch the positions of another time. An answer that takes the control for a finding about music gets one point of these two at most.
#   So for this network the sentence is not supported: what its transformer is worth comes from listening within a branch and from the feed-forward parts. It says nothing about the published networks.
# - 1 point: a limit, such as: a part taken away isn't a network trained without it, whose other parts would have learned to do its work (chapter 8's runs compare such). Or: the layer scales are still a few hundredths at most, in the cross layers two at most, the network is small and has not learned for long; a song of the band
#   repeats itself exactly, so that there may be nothing that only the other branch knows; eight chunks of three seconds.
#
# For comparison, means over the first eight test songs, 3.3 seconds from second 8, with the cell above (SDR in dB).
#
# | | drums | bass | other | vocals |
# |---|---|---|---|---|
# | whole | 7.71 | 5.36 | 3.48 | 5.17 |
# | without cross | 7.62 | 5.35 | 3.48 | 5.17 |
# | without self | 7.40 | 4.55 | 3.24 | 5.17 |
# | without cross self | 7.36 | 4.53 | 3.23 | 5.17 |
# | without feed-forward | 7.31 | 4.79 | 3.36 | 5.19 |
# | without positions | 7.52 | 5.14 | 3.47 | 5.18 |
# | without cross self feed-forward | 6.86 | 4.28 | 3.10 | 5.04 |
# | with reversed | 7.71 | 5.36 | 3.48 | 5.17 |
# <!-- END RUBRIC -->
