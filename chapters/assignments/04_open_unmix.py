# %% [markdown]
# # Assignment 4 · Inside a learned separator
#
# Six tasks, 30 points. Five ask for a short function or two, the last for an experiment and a written answer. They follow
# chapter 4, but none is a copy of it: the statistics come in parts, the LSTM reads from the end, the places of the sources are
# known. Read what is asked for, above all at the edges.
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, silence, gradients.
# - `torch` (with `torch.nn` and `torch.linalg`) and your own code are all you need. Functions of `course_lib.open_unmix` don't
#   count as your own work, nor does changing the checks. You may add cells.
# - A function must not change its arguments, unless its task says so, and its result has the precision of its input.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import copy
import io
import math
import torch
from torch import nn

# %% [markdown]
# The numbers of your version of this assignment:

# %%
# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
FRAMES = variation.integer("frames", 3, 9)  # frames of one part of a library of songs
STEP_UP = variation.real("step up", 2.0, 6.0)                    # how much louder another part is
# how another program stacks an LSTM's gates
ORDER = variation.choice("order", ["iofg", "gofi", "fogi", "ogif"])
BINS = variation.integer("bins", 3, 5)                           # bins of a small spectrogram
# of a batch norm; PyTorch's default is 0.00001
EPSILON = variation.choice("epsilon", [0.01, 0.02, 0.05])
PLACE = variation.real("place", 0.2, 0.6)  # where a source is: an angle, in radians
NOISE = variation.choice("noise", [0.05, 0.1, 0.2])  # power of what belongs to no source, a channel
BREAK = variation.integer("break", 4, 9)  # the step after which a training run is interrupted

# %% [markdown]
# ## Task 1: a library measured in parts
#
# Open-Unmix scales every frequency bin of its input by the mean and the standard deviation of that bin. A large library is
# measured in parts, on several machines. Each hands you three things: how many frames it saw, and the mean and the standard deviation of
# each bin over its frames (the square root of the mean squared distance from the mean; divided by the number of frames, not by one less).
# Find the same three for the whole library. Every frame counts the same, in whatever part it lies.
#
# Think of two parts in which nothing moves at all, a loud one and a quiet one: both deviations are zero. Is that of the library zero?

# %%
# TASK 1 (4 points): statistics from parts
def merged_statistics(parts):
    """The number of frames, and each bin's mean and standard deviation, of all the parts together.

    parts: a list of (frames, mean, deviation), an int and two float32 tensors (bin,). At least one
    part has frames. A
    part without any has no statistics: its tensors hold NaN. A bin may be loud and nearly still: a
    mean of 300, say, and a deviation of 0.05. Returns the same three: an int and two float32
    (bin,).
    """
    ### BEGIN SOLUTION
    parts = [
        (frames, mean.double(), deviation.double()) for frames, mean, deviation in parts if frames
    ]
    total = sum(frames for frames, _, _ in parts)
    mean = sum(frames * m for frames, m, _ in parts) / total
    variance = sum(frames * (s ** 2 + (m - mean) ** 2) for frames, m, s in parts) / total
    return total, mean.float(), variance.sqrt().float()
    ### END SOLUTION

# %%
# CHECK 1
still = [
    (3, torch.tensor([1.0]), torch.tensor([0.0])),
    (1, torch.tensor([5.0]), torch.tensor([0.0])),
]
frames, mean, deviation = merged_statistics(still)
assert frames == 4, f"three frames and one more are 4, not {frames}"
assert abs(mean - 2) < 1e-5, f"frames of 1, 1, 1 and 5 have the mean 2, not {mean}"
assert abs(deviation - math.sqrt(3)) < 1e-5, (
    f"frames of 1, 1, 1 and 5: the mean squared distance from 2 is 3, the deviation 1.732; you "
    f"say {deviation}"
)
quiet = torch.rand(FRAMES, BINS, generator=torch.Generator().manual_seed(1))  # (frame, bin)
loud = STEP_UP * torch.rand(2 * FRAMES, BINS, generator=torch.Generator().manual_seed(2))
parts = [(len(x), x.mean(0), x.std(0, correction=0)) for x in (quiet, loud)]
frames, mean, deviation = merged_statistics(parts)
together = torch.cat([quiet, loud])
assert mean.dtype == deviation.dtype == torch.float32, (
    f"float32 is asked for; you return {mean.dtype}, {deviation.dtype}")
assert torch.allclose(mean, together.mean(0), rtol=1e-3), (
    f"the mean over all {3 * FRAMES} frames is {together.mean(0)}, you say {mean}")
assert torch.allclose(deviation, together.std(0, correction=0), rtol=1e-3), (
    f"the deviation over all {3 * FRAMES} frames is {together.std(0, correction=0)}, you say "
    f"{deviation}"
)
nothing = torch.full((BINS,), torch.nan)
frames, mean, deviation = merged_statistics([(0, nothing, nothing), *parts])
assert frames == 3 * FRAMES and mean.isfinite().all() and deviation.isfinite().all(), (
    "a part without frames changes nothing")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
_generator = hidden.generator("library")
for _case, _sizes in enumerate(((5,), (1, 1), (1, 7, 30), (12, 3, 1, 2, 9), (4, 4, 4), (2, 900))):
    _bins = hidden.integer(f"bins {_case}", 2, 6)
    _levels = [hidden.real(f"level {_case}, {_i}", 0.1, 4.0) for _i in range(len(_sizes))]
    _songs = [_level * (1 + torch.rand(_size, _bins, generator=_generator, dtype=torch.float64))
              for _size, _level in zip(_sizes, _levels)]
    for _song in _songs:
        _song[:, 0] = 300 + 0.05 * torch.randn(
            len(_song), generator=_generator, dtype=torch.float64
        )
    _parts = [
        (len(_song), _song.mean(0).float(), _song.std(0, correction=0).float()) for _song in _songs
    ]
    _nan = torch.full((_bins,), math.nan)
    _parts.insert(len(_parts) // 2, (0, _nan, _nan.clone()))
    _before = [(_n, _m.clone(), _s.clone()) for _n, _m, _s in _parts]
    _all = torch.cat(_songs)
    _found = merged_statistics(_parts)
    assert len(_found) == 3 and type(_found[0]) is int and _found[0] == len(_all), (
        "the number of frames is wrong or no int")
    assert len(_parts) == len(_before) and all(
        _n == _m
        and truth.equal(_a[~_a.isnan()], _c[~_c.isnan()])
        and truth.equal(_b[~_b.isnan()], _d[~_d.isnan()])
        for (_n, _a, _b), (_m, _c, _d) in zip(_parts, _before)
    ), "the function changes the parts"
    assert _found[1].dtype == _found[2].dtype == torch.float32, "mean and deviation must be float32"
    assert truth.close(_found[1], _all.mean(0), rtol=1e-4), "wrong mean for other parts"
    assert truth.close(_found[2][1:], _all.std(0, correction=0)[1:], rtol=1e-3), (
        "wrong deviation for other parts")
    assert truth.close(_found[2][0], _all.std(0, correction=0)[0], rtol=3e-2, atol=1e-3), (
        "wrong deviation in a bin that is loud and nearly still")
_silence = [(_n, torch.zeros(3), torch.zeros(3)) for _n in (4, 2)]
_found = merged_statistics(_silence)
assert truth.equal(_found[1], torch.zeros(3)) and truth.equal(_found[2], torch.zeros(3)), (
    "silent parts have the mean 0 and the deviation 0")
_library = 1 + torch.rand(12, 3, generator=_generator)
for _edge, _level, (_all,) in edges.mutated(
    _library, axis=0, without={"other type": "the parts are float32"}
):
    _songs = [song for song in (_all[:4], _all[4:5], _all[5:]) if len(song)]
    _parts = [
        (len(song), song.double().mean(0).float(), song.double().std(0, correction=0).float())
        for song in _songs
    ]
    _found = merged_statistics(_parts)
    assert truth.close(_found[1], _all.double().mean(0), rtol=1e-4, atol=1e-6 * _level), (
        f"wrong mean: {_edge}"
    )
    assert truth.close(
        _found[2], _all.double().std(0, correction=0), rtol=1e-3, atol=1e-6 * _level
    ), f"wrong deviation: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: an LSTM that reads from the end
#
# One half of a bidirectional LSTM starts at the last frame and walks to the first, so that its output $h_t$ knows the frames $t, t+1, \dots$ It
# starts with $h = c = 0$, and each step is
#
# $$ c_t = \sigma(f) \odot c_{t+1} + \sigma(i) \odot \tanh(g), \qquad h_t = \sigma(o) \odot \tanh(c_t), \qquad \text{with the rows of } W x_t + U h_{t+1} + b \text{ for } i, f, g, o. $$
#
# The rows of $W$, $U$ and $b$ come in four blocks of `hidden` rows, one a gate. PyTorch stacks them as input, forget, cell, output: `"ifgo"`. Other
# programs have other orders, and whoever loads a foreign checkpoint has to know which. Here the order is an argument.

# %%
# TASK 2 (5 points): an LSTM from the end
def lstm_from_the_end(x, W, U, b, order):
    """What an LSTM that walks from the last frame to the first gives at each frame.

    x: (frame, batch, feature). W: (4 hidden, feature). U: (4 hidden, hidden). b: (4 hidden,).
    order: how the blocks of rows are stacked, a text of the letters i, f, g and o, each once.
    Returns (frame, batch, hidden), in the order of the frames of x; output t has seen the frames
    from t to the end. Differentiable in x.
    """
    ### BEGIN SOLUTION
    hidden = len(b) // 4
    h = c = x.new_zeros(x.shape[1], hidden)
    outputs = []
    for frame in x.flip(0):
        gate = dict(zip(order, (frame @ W.T + h @ U.T + b).split(hidden, dim=-1)))
        c = gate["f"].sigmoid() * c + gate["i"].sigmoid() * gate["g"].tanh()
        h = gate["o"].sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs[::-1])
    ### END SOLUTION

# %% [markdown]
# The check sets an LSTM with one cell by hand. A gate whose bias is 50 is open ($\sigma(50) \approx 1$), one with $-50$ is closed.

# %%
# CHECK 2
x = torch.tensor([0.4, -0.1, 0.3]).reshape(3, 1, 1)  # (frame, batch, feature)
adder = dict(i=50.0, f=50.0, g=0.0, o=50.0)  # all gates open: the cell adds up what it reads
W = torch.tensor([[1.0 if gate == "g" else 0.0] for gate in ORDER])
b, U = torch.tensor([adder[gate] for gate in ORDER]), torch.zeros(4, 1)
h = lstm_from_the_end(x, W, U, b, ORDER)
assert h.shape == (3, 1, 1), (
    f"three frames, one song, one cell: (3, 1, 1); you return {tuple(h.shape)}"
)
added = x.tanh().flip(0).cumsum(0).flip(0).tanh()
assert torch.allclose(h[-1], added[-1], atol=1e-4), (
    f"the last frame is read first: tanh(tanh(0.3)) = {added[-1].item():.3f}, you return "
    f"{h[-1].item():.3f}"
)
assert torch.allclose(h, added, atol=1e-4), (
    f"with open gates h is the tanh of what has been added up: {added.flatten()}; you return "
    f"{h.flatten()}"
)
b = torch.tensor([{**adder, "f": -50.0}[gate] for gate in ORDER])
h = lstm_from_the_end(x, W, U, b, ORDER)
assert torch.allclose(h, x.tanh().tanh(), atol=1e-4), (
    f"a closed forget gate leaves nothing of the frames before: {x.tanh().tanh().flatten()}; you: "
    f"{h.flatten()}"
)
b = torch.tensor([{**adder, "o": -50.0}[gate] for gate in ORDER])
h = lstm_from_the_end(x, W, U, b, ORDER)
assert h.abs().max() < 1e-4, f"a closed output gate lets nothing out; you return {h.flatten()}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
_generator = hidden.generator("weights")
_orders = ["ifgo", "iofg", "gofi", "fogi", "ogif", "gifo", "ofig"]
for _case, _order in enumerate(_orders):
    _hidden, _features = (
        hidden.integer(f"hidden {_case}", 2, 5),
        hidden.integer(f"features {_case}", 2, 4),
    )
    _frames, _batch = (1 if _case == 0 else hidden.integer(f"frames {_case}", 3, 8)), 1 + _case % 3
    _lstm = nn.LSTM(_features, _hidden, bidirectional=True)
    _rows = [torch.randn(4 * _hidden, _n, generator=_generator) for _n in (_features, _hidden, 1)]
    _stacked = [
        {_gate: _r[_k * _hidden : (_k + 1) * _hidden] for _k, _gate in enumerate(_order)}
        for _r in _rows
    ]
    # as PyTorch stacks them
    _W, _U, _b = (torch.cat([_blocks[_gate] for _gate in "ifgo"]) for _blocks in _stacked)
    _lstm.load_state_dict(
        {
            **_lstm.state_dict(),
            "weight_ih_l0_reverse": _W,
            "weight_hh_l0_reverse": _U,
            "bias_ih_l0_reverse": _b[:, 0],
            "bias_hh_l0_reverse": torch.zeros(4 * _hidden),
        }
    )
    _x = torch.randn(_frames, _batch, _features, generator=_generator)
    _theirs, _mine = _x.clone().requires_grad_(), _x.clone().requires_grad_()
    _expected = _lstm(_theirs)[0][..., _hidden:]
    _given = (_rows[0], _rows[1], _rows[2][:, 0])
    _copies = [_tensor.clone() for _tensor in _given]
    _found = lstm_from_the_end(_mine, *_given, _order)
    assert tuple(_found.shape) == (_frames, _batch, _hidden), "wrong shape for other sizes"
    assert all(truth.equal(_a, _c) for _a, _c in zip(_given, _copies)), (
        "the function changes its arguments"
    )
    assert truth.close(_found, _expected, rtol=1e-4, atol=1e-5), (
        f"wrong values for other weights, order {_order!r}")
    assert _found.requires_grad, "no gradient reaches x"
    (_found * torch.arange(1.0, _hidden + 1)).sum().backward()
    (_expected * torch.arange(1.0, _hidden + 1)).sum().backward()
    assert _mine.grad is not None and truth.close(_mine.grad, _theirs.grad, rtol=1e-3, atol=1e-4), (
        "no gradient, or a wrong one, reaches x")
_found = lstm_from_the_end(_x.double(), *(_tensor.double() for _tensor in _given), _order)
assert _found.dtype == torch.float64, "float64 inputs must give float64"
assert truth.close(_found, _expected, rtol=1e-4, atol=1e-5), "wrong values in float64"
_lstm = nn.LSTM(_features, _hidden, bidirectional=True)
for _edge, _level, (_x,) in edges.mutated(
    torch.randn(9, 2, _features, generator=_generator), axis=0
):
    _lstm.to(_x.dtype).load_state_dict(
        {
            **_lstm.state_dict(),
            "weight_ih_l0_reverse": _W,
            "weight_hh_l0_reverse": _U,
            "bias_ih_l0_reverse": _b[:, 0],
            "bias_hh_l0_reverse": torch.zeros(4 * _hidden),
        }
    )
    _expected = _lstm(_x)[0][..., _hidden:]
    _found = lstm_from_the_end(_x, *(_tensor.to(_x.dtype) for _tensor in _given), _order)
    assert _found.dtype == _x.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _expected, rtol=1e-3, atol=1e-5), f"wrong values: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: three layers in one
#
# Open-Unmix begins with three steps that have no bend in them: each bin is shifted and scaled, a matrix $V$ mixes all bins of all channels, and
# a batch norm follows. Once training is over (`eval` mode), the batch norm uses the statistics that it has gathered, and no longer those of the batch:
#
# $$ z = V\big((x + \text{shift}) \odot \text{scale}\big), \qquad y = \gamma \odot \frac{z - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta. $$
#
# Three straight steps make one: find $W$ and $b$ with $y = W x + b$. That is how networks are made faster before they go into a product. Shift and
# scale are the same for all channels; $x$ is flattened channel by channel (all bins of the first channel, then all of the second).

# %%
# TASK 3 (4 points): three layers in one
def folded(shift, scale, V, norm):
    """Weight and bias of the one linear layer that does what scaling, V and norm do one after the
    other.

    shift, scale: (bin,). V: (hidden, channel * bin), channel by channel. norm: an
    nn.BatchNorm1d(hidden), to be taken as it works in eval mode, in whatever mode it is; it stays
    as it is. Returns W, of V's shape, and b, (hidden,).
    """
    ### BEGIN SOLUTION
    channels = V.shape[1] // len(shift)
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    W = gain[:, None] * V * scale.repeat(channels)
    b = norm.bias + gain * (V @ (shift * scale).repeat(channels) - norm.running_mean)
    return W, b
    ### END SOLUTION

# %%
# CHECK 3
norm = nn.BatchNorm1d(1, eps=EPSILON)
with torch.no_grad():
    (
        norm.running_mean.fill_(3.0),
        norm.running_var.fill_(4 - EPSILON),
        norm.weight.fill_(6.0),
        norm.bias.fill_(0.5),
    )
V = torch.tensor([[1.0, 10.0]])  # one bin, two channels
W, b = folded(torch.tensor([-1.0]), torch.tensor([2.0]), V, norm)
assert W.shape == (1, 2) and b.shape == (1,), (
    f"W is (1, 2) and b (1,); you return {tuple(W.shape)}, {tuple(b.shape)}")
assert torch.allclose(W, torch.tensor([[6.0, 60.0]])), (
    f"scale 2, then 1 and 10, then 6 / sqrt(4): 6 and 60; you return {W.tolist()}")
assert torch.allclose(b, torch.tensor([-74.5])), (
    f"silence becomes -2 in both channels, then -22, -25, -12.5 * 6, + 0.5: -74.5 in the end; you "
    f"return {b.tolist()}"
)
shift, scale = torch.linspace(-1, -2, BINS), torch.linspace(1, 3, BINS)
V = torch.randn(2, 3 * BINS, generator=torch.Generator().manual_seed(3))  # (hidden, channel * bin)
norm = nn.BatchNorm1d(2, eps=EPSILON)
W, b = folded(shift, scale, V, norm)
x = torch.rand(4, 3, BINS, generator=torch.Generator().manual_seed(4))  # (frame, channel, bin)
y = copy.deepcopy(norm).eval()(((x + shift) * scale).flatten(1) @ V.T)  # (frame, hidden)
assert torch.allclose(x.flatten(1) @ W.T + b, y, atol=1e-4), (
    f"three channels of {BINS} bins: y is {y[0].tolist()} in the first frame, W x + b gives "
    f"{(x.flatten(1) @ W.T + b)[0].tolist()}")
assert norm.training, "you have changed the norm's mode"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
_generator = hidden.generator("layers")
for _case, _channels in enumerate((1, 2, 2, 3)):
    _bins, _hidden = hidden.integer(f"bins {_case}", 2, 7), hidden.integer(f"hidden {_case}", 2, 6)
    _norm = nn.BatchNorm1d(_hidden, eps=hidden.choice(f"epsilon {_case}", [1e-5, 1e-3, 0.1]))
    with torch.no_grad():
        _norm.weight.copy_(torch.randn(_hidden, generator=_generator))
        _norm.bias.copy_(torch.randn(_hidden, generator=_generator))
        _norm.running_mean.copy_(torch.randn(_hidden, generator=_generator))
        _norm.running_var.copy_(0.05 + torch.rand(_hidden, generator=_generator))
    _norm.train(_case % 2 == 0)
    _shift, _scale = (torch.randn(_bins, generator=_generator) for _ in range(2))
    _V = torch.randn(_hidden, _channels * _bins, generator=_generator)
    _inputs = (_shift, _scale, _V)
    _copies, _state = (
        [_t.clone() for _t in _inputs],
        {_k: _v.clone() for _k, _v in _norm.state_dict().items()},
    )
    _mode = _norm.training
    _W, _b = folded(_shift, _scale, _V, _norm)
    assert tuple(_W.shape) == tuple(_V.shape) and tuple(_b.shape) == (_hidden,), (
        "wrong shapes for other sizes"
    )
    assert all(truth.equal(_t, _c) for _t, _c in zip(_inputs, _copies)), (
        "the function changes its arguments"
    )
    assert _norm.training == _mode and all(
        truth.equal(_v, _state[_k]) for _k, _v in _norm.state_dict().items()
    ), "the function changes the norm"
    _x = torch.randn(5, _channels, _bins, generator=_generator)
    _z = torch.stack([sum(_V[:, _c * _bins + _k] * ((_frame[_c, _k] + _shift[_k]) * _scale[_k])
                          # (frame, hidden)
                          for _c in range(_channels) for _k in range(_bins)) for _frame in _x])
    _y = (_z - _norm.running_mean) * (
        _norm.running_var + _norm.eps
    ) ** -0.5 * _norm.weight + _norm.bias
    assert truth.close((_x.flatten(1) @ _W.T + _b).detach(), _y.detach(), rtol=1e-3, atol=1e-3), (
        "W x + b isn't y for other layers, sizes or channels")
_norm = nn.BatchNorm1d(3, eps=0.01)
with torch.no_grad():
    for _part in (_norm.weight, _norm.bias, _norm.running_mean):
        _part.copy_(torch.randn(3, generator=_generator))
_V = torch.randn(3, 2, 7, generator=_generator)  # (hidden, channel, bin)
_both = torch.randn(2, 7, generator=_generator)  # shift and scale
for _edge, _level, (_shift, _scale) in edges.mutated(
        *_both, tiny=1e-2, huge=1e3, without={"other type": "the layers of nn are float32 here"}):
    _cut = _V[..., :len(_shift)]
    _W, _b = folded(_shift, _scale, _cut.flatten(1), _norm)
    _gain = (_norm.weight / (_norm.running_var + _norm.eps) ** 0.5).detach()[:, None, None]
    _right = (_gain * _cut * _scale).flatten(1)
    _offset = (_norm.bias - _gain[:, 0, 0] * _norm.running_mean).detach()
    _offset = _offset + (_gain * _cut * (_shift * _scale)).sum((1, 2))
    assert truth.close(_W.detach(), _right, rtol=1e-3, atol=1e-6 * max(1.0, _level**2)), (
        f"wrong weights: {_edge}"
    )
    assert truth.close(_b.detach(), _offset, rtol=1e-3, atol=1e-4 * max(1.0, _level**2)), (
        f"wrong bias: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: when the places are known
#
# The Wiener filter of chapter 4 finds out by itself, round by round, how loud each source is and how it is spread over the two channels. Sometimes the
# second is known: the engineer says where each source sits. A source at the angle $\theta_j$ reaches the channels as $a_j = (\cos\theta_j, \sin\theta_j)$: 0 is left,
# $\pi/2$ is right. With $R_j = a_j a_j^{\mathsf T}$, the power $v_j$ of source $j$ in a bin of a frame, and noise of the power $\epsilon$ in each channel, the best linear estimate is
#
# $$ y_j = v_j R_j \Big( \sum_i v_i R_i + \epsilon I \Big)^{-1} x, $$
#
# where $x$ holds the two channels of the mixture in that bin and frame. Two sources that overlap in every bin come apart as long as they sit in different places.

# %%
# TASK 4 (5 points): sources by their places
def separate_by_place(v, angles, X, noise):
    """The complex spectra of the sources in both channels, from their powers and places.

    v: power, (source, bin, frame), >= 0. angles: (source,), in radians, any; 0 is left, pi/2 right.
    X: the mixture, complex (channel, bin, frame) with two channels. noise: power in each channel, >
    0. Any number of sources. Returns complex (source, channel, bin, frame).
    """
    ### BEGIN SOLUTION
    a = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (source, channel)
    R = a[:, :, None] * a[:, None, :]  # (source, channel, channel)
    # (bin, frame, 2, 2)
    total = torch.einsum("jft,jcd->ftcd", v, R) + noise * torch.eye(2, dtype=v.dtype)
    # (bin, frame, channel)
    whitened = torch.linalg.solve(total.to(X.dtype), X.movedim(0, -1)[..., None])[..., 0]
    return torch.einsum("jft,jcd,ftd->jcft", v.to(X.dtype), R.to(X.dtype), whitened)
    ### END SOLUTION

# %%
# CHECK 4
X = torch.tensor([2 + 2j, 1 - 1j]).reshape(2, 1, 1)  # (channel, bin, frame)
v = torch.ones(1, 1, 1)  # (source, bin, frame)
Y = separate_by_place(v, torch.tensor([0.0]), X, NOISE)
assert Y.shape == (1, 2, 1, 1), (
    f"one source in two channels: (1, 2, 1, 1); you return {tuple(Y.shape)}"
)
assert torch.allclose(Y[0, 0], X[0] / (1 + NOISE), atol=1e-4), (
    f"a source on the left, power 1 against noise {NOISE}: {(X[0] / (1 + NOISE)).item():.3f}; "
    f"you return {Y[0, 0].item():.3f}")
assert Y[0, 1].abs() < 1e-5, (
    f"nothing of a source on the left belongs to the right; you return {Y[0, 1].item():.3f}")
Y = separate_by_place(
    torch.tensor([3.0, 1.0]).reshape(2, 1, 1), torch.tensor([PLACE, PLACE]), X, NOISE
)
assert torch.allclose(Y[0], 3 * Y[1], atol=1e-4), (
    f"two sources at one place share by power, 3 to 1; you return {Y[0].flatten()} and "
    f"{Y[1].flatten()}"
)
here, across = torch.tensor(PLACE), torch.tensor(PLACE + math.pi / 2)
# only the first source plays
X = ((1 + 1j) * torch.stack([here.cos(), here.sin()])).reshape(2, 1, 1)
Y = separate_by_place(torch.ones(2, 1, 1), torch.stack([here, across]), X, NOISE)
assert Y[1].abs().max() < 1e-4, (
    f"nothing comes from the second source's place, but you give it {Y[1].flatten()}")
assert torch.allclose(Y[0], X / (1 + NOISE), atol=1e-4), (
    f"all of the mixture comes from the first source's place: {(X / (1 + NOISE)).flatten()}; you: "
    f"{Y[0].flatten()}"
)
assert separate_by_place(0 * v, torch.tensor([0.0]), X, NOISE).abs().max() == 0, (
    "no power, no sound"
)
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _by_hand(v, angles, X, noise):
    """The same bin by bin in float64, the 2 x 2 matrix inverted by its determinant."""
    v, X = v.double(), X.to(torch.complex128)
    Y = torch.zeros(len(angles), *X.shape, dtype=torch.complex128)
    cosine, sine = [math.cos(float(_t)) for _t in angles], [math.sin(float(_t)) for _t in angles]
    left = noise + sum(v[j] * cosine[j] ** 2 for j in range(len(cosine)))
    right = noise + sum(v[j] * sine[j] ** 2 for j in range(len(cosine)))
    both = sum(v[j] * cosine[j] * sine[j] for j in range(len(cosine)))
    first, second = right * X[0] - both * X[1], left * X[1] - both * X[0]
    for j in range(len(cosine)):
        strength = v[j] * (cosine[j] * first + sine[j] * second) / (left * right - both ** 2)
        Y[j, 0], Y[j, 1] = cosine[j] * strength, sine[j] * strength
    return Y

_generator = hidden.generator("spectra")
for _case, (_sources, _bins, _frames) in enumerate(
    ((1, 3, 2), (2, 4, 5), (3, 2, 3), (4, 3, 2), (2, 1, 1), (2, 2, 2))
):
    _noise = hidden.choice(f"noise {_case}", [0.03, 0.07, 0.3])
    _angles = torch.rand(_sources, generator=_generator) * math.pi / 2
    _v = 4 * torch.rand(_sources, _bins, _frames, generator=_generator)
    _v[0, 0, 0] = 0
    _X = torch.randn(2, _bins, _frames, dtype=torch.complex64, generator=_generator)
    _inputs, _copies = (_v, _angles, _X), (_v.clone(), _angles.clone(), _X.clone())
    _found, _expected = (
        separate_by_place(_v, _angles, _X, _noise),
        _by_hand(_v, _angles, _X, _noise),
    )
    assert tuple(_found.shape) == (_sources, 2, _bins, _frames), (
        "wrong shape for other sizes or sources"
    )
    assert _found.dtype == torch.complex64, "complex64 spectra must give complex64"
    assert all(truth.equal(_a, _b) for _a, _b in zip(_inputs, _copies)), (
        "the function changes its arguments"
    )
    assert truth.close(_found, _expected, rtol=1e-2, atol=2e-3), (
        "wrong values for other powers, places or noise")
_found = separate_by_place(_v.double(), _angles.double(), _X.to(torch.complex128), _noise)
assert _found.dtype == torch.complex128 and truth.close(
    _found, _by_hand(_v, _angles, _X, _noise), rtol=1e-4
), "wrong values or type for complex128 spectra"
assert truth.equal(
    separate_by_place(0 * _v, _angles, _X, _noise).abs(), torch.zeros(_sources, 2, _bins, _frames)
), "sources without power must be silent"
_v, _angles = 4 * torch.rand(2, 3, 9, generator=_generator), torch.tensor([0.3, 1.2])
for _edge, _level, (_X,) in edges.mutated(
    torch.randn(2, 3, 9, dtype=torch.complex64, generator=_generator)
):
    _type, _power = _X.real.dtype, _v[..., :_X.shape[-1]]
    _found = separate_by_place(_power.to(_type), _angles.to(_type), _X, 0.1)
    assert _found.dtype == _X.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _by_hand(_power, _angles, _X, 0.1), rtol=1e-2, atol=1e-3 * _level), (
        f"wrong values: {_edge}")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: as if nothing had happened
#
# The cell below trains a small network. It has most of what a real run has: dropout, a batch norm, an optimizer with momentum (each weight has a velocity), a
# learning rate that falls, weights that are averaged (at first over few steps, then over more), and batches drawn from a generator of the run's own.
#
# A run is interrupted. A checkpoint with the network's `state_dict()` and the velocities looks like enough, and the loss goes on falling after the resume. Yet the weights
# come out differently from those of a run that was never interrupted: several things are still missing. Find all of them: **two runs, one of them
# interrupted, must end with the same numbers.** Read the class and ask of each line what it remembers from one step to the next. (Where does dropout take its random numbers from?)

# %%
class Run:
    """A training run. All that its next step depends on is in here, or in PyTorch itself."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)
        )
        self.velocity = {
            name: torch.zeros_like(weight) for name, weight in self.model.named_parameters()
        }
        self.average = {
            name: weight.detach().clone() for name, weight in self.model.named_parameters()
        }
        self.batches = torch.Generator().manual_seed(seed)
        self.rate, self.step = 0.02, 0

    def train(self, steps):
        for _ in range(steps):
            x = torch.randn(16, 6, generator=self.batches)
            loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
            gradients = torch.autograd.grad(loss, list(self.model.parameters()))
            self.step += 1
            with torch.no_grad():
                for (name, weight), gradient in zip(self.model.named_parameters(), gradients):
                    self.velocity[name].mul_(0.9).add_(gradient)
                    weight.sub_(self.rate * self.velocity[name])
                    self.average[name].lerp_(weight, max(0.05, 1 / (self.step + 1)))
            self.rate = 0.02 * 0.95 ** self.step

# %%
# TASK 5 (6 points): save and resume
def save_run(run):
    """All that `load_run` needs, as a dict of tensors, numbers, texts, lists and dicts.

    The run is not changed, and what it does afterwards doesn't change what was saved.
    """
    ### BEGIN SOLUTION
    return copy.deepcopy(
        {
            "model": run.model.state_dict(),
            "velocity": run.velocity,
            "average": run.average,
            "rate": run.rate,
            "step": run.step,
            "batches": run.batches.get_state(),
            "dropout": torch.get_rng_state(),
        }
    )
    ### END SOLUTION


def load_run(run, saved):
    """Bring a run, whatever it was doing, to where the saved one was.

    saved: what `save_run` gave, perhaps written to a file and read again. It stays as it is,
    whatever the run does later.
    """
    ### BEGIN SOLUTION
    saved = copy.deepcopy(saved)
    run.model.load_state_dict(saved["model"])
    run.velocity, run.average = saved["velocity"], saved["average"]
    run.rate, run.step = saved["rate"], saved["step"]
    run.batches.set_state(saved["batches"])
    torch.set_rng_state(saved["dropout"])
    ### END SOLUTION

# %%
# CHECK 5
def numbers_of(run):
    """The weights, the batch norm's statistics and the averaged weights of a run, in one tensor."""
    values = [
        *run.model.state_dict().values(),
        *(run.average[name] for name in sorted(run.average)),
    ]
    return torch.cat([value.detach().double().flatten() for value in values])

straight = Run(seed=1)
straight.train(BREAK + 10)
run = Run(seed=1)
run.train(BREAK)
saved = save_run(run)
run.train(10)
assert torch.equal(numbers_of(run), numbers_of(straight)), (
    "saving has changed the run that was saved"
)
file = io.BytesIO()
torch.save(saved, file)
file.seek(0)
saved = torch.load(file, weights_only=True)  # reads tensors, numbers, texts, lists and dicts only
for attempt in (
    "",
    " The second time that it is loaded: has the first run changed what was saved?",
):
    other = Run(seed=2)
    other.train(3)
    load_run(other, saved)
    other.train(10)
    difference = (numbers_of(other) - numbers_of(straight)).abs().max()
    assert difference == 0, (
        f"the resumed run's numbers differ from the straight one's by up to "
        f"{difference:.2g}.{attempt}"
    )
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _all_of(run):
    """What a run holds, as one list of tensors."""
    return (
        [_v.clone() for _v in run.model.state_dict().values()]
        + [
            _part[_k].detach().clone()
            for _part in (run.velocity, run.average)
            for _k in sorted(_part)
        ]
        + [
            torch.tensor(run.rate, dtype=torch.float64),
            torch.tensor(run.step),
            run.batches.get_state(),
            torch.get_rng_state(),
        ]
    )

def _same(first, second):
    return len(first) == len(second) and all(truth.equal(_a, _b) for _a, _b in zip(first, second))

for _case in range(2):
    _seed, _until, _further = (
        hidden.integer(f"{_name} {_case}", _low, _high)
        for _name, _low, _high in (("seed", 10, 99), ("until", 1, 14), ("further", 12, 25))
    )
    _straight = Run(_seed)
    _straight.train(_until)
    _at_the_break = _all_of(_straight)
    _straight.train(_further)
    _expected = _all_of(_straight)
    _run = Run(_seed)
    _run.train(_until)
    _saved = save_run(_run)
    assert _same(_all_of(_run), _at_the_break), (
        "saving changes the run, or the state of PyTorch's generator"
    )
    _run.train(_further)  # goes on, as the saved one must not
    assert _same(_all_of(_run), _expected), "a run that was saved goes on differently"
    _other = Run(_seed + 1)
    _other.train(hidden.integer(f"before {_case}", 0, 3))
    load_run(_other, _saved)
    assert _other.step == _until, "the number of steps isn't loaded"
    _other.train(_further)
    assert _same(_all_of(_other), _expected), (
        "a run that was saved and loaded ends with other numbers"
    )
    _third = Run(_seed + 2)
    load_run(_third, _saved)
    _third.train(_further)
    assert _same(_all_of(_third), _expected), (
        "loading a second time, after the first one went on, gives other numbers")
    load_run(_third, _saved)                                        # back again
    _third.train(_further)
    assert _same(_all_of(_third), _expected), (
        "a run that is loaded again when it has gone on ends with other numbers")
_file = io.BytesIO()
torch.save(_saved, _file)
_file.seek(0)
load_run(_third, torch.load(_file, weights_only=True))
_third.train(_further)
assert _same(_all_of(_third), _expected), (
    "a run that was written to a file and read again ends with other numbers")
# before the first step, after many, with tiny weights
for _edge, _until, _level in (("short", 0, 1.0), ("huge", 40, 1.0), ("tiny", 3, 1e-8)):
    _straight = Run(5)
    _straight.train(_until)
    with torch.no_grad():
        for _weight in _straight.model.parameters():
            _weight.mul_(_level)
    _saved = edges.case(_edge, save_run(_straight))
    _straight.train(4)
    _other = Run(6)
    _other.train(2)
    load_run(_other, _saved)
    _other.train(4)
    assert _same(_all_of(_other), _all_of(_straight)), (
        f"other numbers after a break at step {_until}"
    )
for _edge in ("zeros inside", "other type"):
    edges.left_out(_edge, "a run makes its own data")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: what does the Wiener filter add?
#
# Chapter 4 refines a network's magnitudes by rounds of expectation-maximisation (EM). Each round does two things at once: it lets the sources *share* the mixture out, so that they add up
# to it, and it uses the *place* of each source in the stereo picture. Find out which of the two helps, and when. The cell below gives you a stand-in
# for a network: the true magnitudes, each bin raised or lowered at random by some decibels. Instead of the band's songs you may take your own.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table of the SDR (mean over the stems) for magnitudes off by 0, 6 and 12 dB: the magnitudes with the mixture's phase (0 rounds); the mixture
#   shared out in proportion to them (`softmask=True`, 0 rounds); 1 and 3 rounds of EM,
# - the same in mono, where there is no place: what is left of EM's gain?
# - how many rounds you would recommend, and one thing that this stand-in can't tell about a real network.

# %%
# EXPERIMENT: songs, a stand-in for a network, a score; write your own cells below
def band_sources(number):
    """Four seconds of the four stems of a song of the band, (source, channel, time)."""
    from course_lib.data import STEMS, open_tracks
    return open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0).sources(STEMS)


def sdr_of_stand_in(sources, decibels, rounds, softmask=False):
    """SDR in dB, mean over the sources that play,
    if magnitudes are off by some decibels (standard deviation).
    """
    from course_lib.open_unmix import wiener
    from course_lib.spectral import istft, stft
    S = stft(sources, 2048, 1024)  # (source, channel, bin, frame)
    off = decibels * torch.randn(S.shape, generator=torch.Generator().manual_seed(0))
    Y = wiener(S.abs() * 10 ** (off / 20), S.sum(0), rounds, softmask=softmask)
    error = sources - istft(Y, 2048, 1024, length=sources.shape[-1])
    signal, error = sources.square().sum((1, 2)), error.square().sum((1, 2))  # (source,)
    return float(10 * torch.log10(signal / error)[signal > 0].mean())

# For example:  sdr_of_stand_in(band_sources(0), decibels=6, rounds=1)
# In mono:      sdr_of_stand_in(band_sources(0).mean(1, keepdim=True), decibels=6, rounds=1)

# %% [markdown]
# <!-- TASK 6 (6 points): what does the Wiener filter add? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, sizes of the STFT, how the magnitudes were disturbed; only errors, rounds and channels vary.
# - 2 points: the table, in stereo and in mono, with plausible numbers and more than one song, or a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: at 6 and 12 dB nearly all of the gain comes from sharing; at 0 dB, where there is nothing to mend,
#   it comes from EM's squaring of the shares. Estimates that need not add up to the mixture keep every error, and the largest errors
#   dominate; sharing limits each mask to 1. Mono shows what place adds: there a round of EM is nothing but sharing by power instead of magnitude. That helps
#   where the magnitudes are right (the louder source gets more, as in a Wiener filter) and hurts a little where they are wrong (a wrong winner takes more). In stereo, EM
#   is ahead of plain sharing at every error; the extra over mono is some tenths of a decibel. One round is best; each further round sharpens its own guess and loses.
# - 1 point: the limit. The stand-in's errors are independent from bin to bin, and so are far easier to average away over the frames (R is a mean over them) than a network's, which
#   miss whole notes or give a source's bins to another for a second. Or: the band's places don't move and are few; songs with reverberation spread each source.
#
# For comparison, means over the first three test songs, seconds 8 to 12, with the cell above (dB):
#
# | magnitudes off by | 0 dB | 6 dB | 12 dB |
# |---|---|---|---|
# | stereo, mixture's phase | 6.8 | 0.4 | -13.9 |
# | stereo, shared out | 6.9 | 6.1 | 4.8 |
# | stereo, 1 round | 7.8 | 6.8 | 5.1 |
# | stereo, 3 rounds | 7.2 | 6.5 | 4.8 |
# | mono, mixture's phase | 6.7 | 0.4 | -13.4 |
# | mono, shared out | 6.8 | 6.1 | 4.8 |
# | mono, 1 round | 7.6 | 6.5 | 4.7 |
# | mono, 3 rounds | 7.4 | 6.1 | 4.3 |
# <!-- END RUBRIC -->
