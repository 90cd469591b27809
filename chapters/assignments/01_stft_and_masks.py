# %% [markdown]
# # Assignment 1 · Frames, windows, masks and scores
#
# Seven tasks, 30 points. Six ask for a short function, the last for an experiment and a written answer. They follow
# chapter 1, but none is a copy of it: read what is asked for, above all at the edges (the last samples, silence, a mixture
# that is zero).
#
# **How it works**
# - Replace `raise NotImplementedError(...)` by your code. Keep the first line of the cell and the function's name and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes, any number of leading dimensions (batch, channel), silence, gradients.
# - `torch` (with `torch.fft`, `torch.hann_window`, `torch.nn.functional`) and your own code are all you need. Functions of
#   `course_lib.spectral` don't count as your own work, nor does changing the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input: float32 in, float32 or complex64 out.

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
N_FFT = 2 * variation.integer("n_fft", 100, 600)                       # samples in a frame
HOP = variation.integer("hop", 30, 90)                                 # samples between frames
TIME = variation.integer("time", 3000, 9000)                           # samples of a signal
RATE = variation.choice("rate", [8000, 16000, 22050, 32000])           # samples a second
# periods of a tone in a frame, not a whole number
TONE_BIN = variation.real("tone bin", 20.1, 40.9)
TONE_LEVEL = variation.real("tone level", 0.1, 0.9)                    # its amplitude
WINDOW_LENGTH = 12 * variation.integer("window length", 5, 12)         # divisible by 2, 3 and 4
SMALL_FRAME = 4 * variation.integer("small frame", 2, 5)  # samples in a frame that one can look at
UPPER = variation.choice("upper", [1.25, 1.5, 2.0])                    # the largest value of a mask
# an error's amplitude, as a share of the source's
ERROR_SHARE = variation.choice("error share", [0.1, 0.2, 0.5])

# %% [markdown]
# ## Task 1: how many frames?
#
# A signal of `time` samples is cut into frames of `n_fft` samples that start `hop_length` samples apart. Only whole frames
# count. With `center=True` the signal is first made longer by `n_fft // 2` samples at both ends (`n_fft` is even).

# %%
# TASK 1 (2 points): how many frames?
def frame_count(time, n_fft, hop_length, center):
    """The number of whole frames, an int; 0 where not even one fits."""
    ### BEGIN SOLUTION
    return max(0, 1 + ((time + n_fft if center else time) - n_fft) // hop_length)
    ### END SOLUTION

# %%
# CHECK 1
found = frame_count(10, 4, 2, center=False)
assert found == 4, (
    f"ten samples, frames of 4, hop 2: they start at 0, 2, 4 and 6, so there are 4; you say {found}"
)
found = frame_count(11, 4, 2, center=False)
assert found == 4, f"one sample more isn't enough for another whole frame: 4 again, not {found}"
found = frame_count(10, 4, 2, center=True)
assert found == 6, (
    f"centred, ten samples become 14, and frames start at 0, 2, ..., 10: 6 of them, not {found}"
)
found, expected = (
    frame_count(TIME, N_FFT, HOP, center=False),
    torch.zeros(TIME).unfold(0, N_FFT, HOP).shape[0],
)
assert found == expected, (
    f"frames of {N_FFT} in {TIME} samples with hop {HOP}: unfold makes {expected}, you say {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
for _case in range(12):
    _n_fft = 2 * hidden.integer(f"count n_fft {_case}", 1, 40)
    _hop = hidden.integer(f"count hop {_case}", 1, _n_fft + 5)
    _time = hidden.integer(f"count time {_case}", _n_fft, 400)
    _found = frame_count(_time, _n_fft, _hop, center=False)
    assert isinstance(_found, int), "the number of frames isn't an int"
    _starts = [start for start in range(_time) if start % _hop == 0 and start + _n_fft <= _time]
    assert _found == len(_starts), "wrong number of frames for other sizes, center=False"
    _X = torch.stft(
        torch.zeros(_time),
        _n_fft,
        _hop,
        window=torch.ones(_n_fft),
        center=True,
        return_complex=True,
    )
    assert frame_count(_time, _n_fft, _hop, center=True) == _X.shape[-1], (
        "wrong number of frames for other sizes, center=True")
    _found = frame_count(
        hidden.integer(f"count short {_case}", 0, _n_fft - 1), _n_fft, _hop, center=False
    )
    assert _found == 0, "a signal shorter than a frame has no whole frame"
assert frame_count(3, 40, 5, center=False) == 0, (
    "a signal much shorter than a frame has no whole frame"
)
for _n_fft, _hop in ((6, 2), (40, 7), (12, 50)):
    for _time in range(_n_fft + 1):  # short, and what the padding makes of it
        _found = frame_count(edges.case("short", _time), _n_fft, _hop, center=True)
        assert _found == len(range(0, _time + 1, _hop)), (
            "wrong number of frames for a short signal, center=True: it is made longer first")
assert frame_count(2, edges.case("tiny", 2), 1, center=False) == 1, (
    "a frame of two samples in two samples"
)
_found = frame_count(edges.case("huge", 2_000_000), 4096, 499, center=False)
assert _found == len(range(0, 2_000_000 - 4096 + 1, 499)), "wrong number of frames in a long signal"
edges.left_out("zeros inside", "the function sees no samples")
edges.left_out("other type", "sizes are whole numbers")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a tone in a frame
#
# The DFT asks a frame only for the frequencies that fit into it a whole number of times. Nothing forbids asking for any other
# frequency $f$ (in hertz; $r$ is the sample rate). With a periodic Hann window $w$ against leakage, the *complex amplitude* of a tone is
#
# $$ c = \frac{2 \sum_n w[n]\, x[n]\, e^{-2\pi i f n / r}}{\sum_n w[n]}, \qquad\text{so that}\qquad x[n] \approx \operatorname{Re}\big(c\, e^{2\pi i f n / r}\big). $$
#
# $|c|$ is the amplitude of the tone, and its angle the phase at the frame's first sample. (The 2 stands for the other half
# of a real tone, at $-f$.)

# %%
# TASK 2 (4 points): the complex amplitude of a tone
def tone_in_frame(x, frequency, rate):
    """The complex amplitude of the tone of `frequency` hertz in each frame of x.

    x: real (..., n_fft), frames of one or many signals. 0 < frequency < rate / 2.
    Returns complex (...): complex64 for float32 frames, complex128 for float64. Differentiable in
    x.
    """
    ### BEGIN SOLUTION
    n = torch.arange(x.shape[-1], dtype=torch.float64)
    window = torch.hann_window(x.shape[-1], dtype=torch.float64)
    probe = 2 * window / window.sum() * torch.exp(-2j * math.pi * frequency / rate * n)
    return (x * probe.to(x.dtype.to_complex())).sum(-1)
    ### END SOLUTION

# %%
# CHECK 2
tone_hz = TONE_BIN * RATE / N_FFT
t = torch.arange(N_FFT) / RATE
tone = TONE_LEVEL * torch.cos(2 * math.pi * tone_hz * t + 0.7)
c = tone_in_frame(tone, tone_hz, RATE)
assert c.is_complex() and c.shape == (), (
    f"one frame gives one complex number; you return {c.dtype} of shape {tuple(c.shape)}")
assert abs(abs(c) - TONE_LEVEL) < 1e-3, (
    f"the tone's amplitude is {TONE_LEVEL:.3f}, you measure {abs(c):.3f}"
)
assert abs(c.angle() - 0.7) < 1e-2, (
    f"the tone begins at an angle of 0.7, you measure {c.angle():.2f}: look at the exponent's sign")
c = tone_in_frame(torch.stack([tone, 0 * tone]), tone_hz, RATE)
assert c.shape == (2,), (
    f"two frames (2, n_fft) give two numbers; you return the shape {tuple(c.shape)}"
)
assert abs(c[1]) == 0, "in a silent frame the amplitude is 0"
loud = 100 * torch.cos(2 * math.pi * (TONE_BIN + 20) * RATE / N_FFT * t)
error = abs(tone_in_frame(tone + loud, tone_hz, RATE) - c[0]) / TONE_LEVEL
assert error < 0.1 / TONE_LEVEL, (
    f"a loud tone 20 bins away changes what you measure by {error:.0%}: does it leak?"
)
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
_n_fft, _rate = (
    2 * hidden.integer("tone n_fft", 16, 32),
    hidden.choice("tone rate", [6000, 12000, 24000]),
)
_frequency = hidden.real("tone frequency", 0.15, 0.35) * _rate
_x = torch.randn(3, 2, _n_fft, generator=hidden.generator("tone frames"))
_before, _w = _x.clone(), [math.sin(math.pi * n / _n_fft) ** 2 for n in range(_n_fft)]
_probe = torch.tensor(
    [
        [
            2 * _w[n] / sum(_w) * math.cos(2 * math.pi * _frequency * n / _rate)
            for n in range(_n_fft)
        ],
        [
            -2 * _w[n] / sum(_w) * math.sin(2 * math.pi * _frequency * n / _rate)
            for n in range(_n_fft)
        ],
    ],
    dtype=torch.float64,
)  # (real and imaginary, n_fft)
_expected = torch.view_as_complex((_x.double().unsqueeze(-2) * _probe).sum(-1).contiguous())
_c = tone_in_frame(_x, _frequency, _rate)
assert tuple(_c.shape) == (3, 2), (
    "frames of shape (batch, channel, n_fft) must give (batch, channel)"
)
assert truth.equal(_x, _before), "the function changes its input"
assert _c.dtype == torch.complex64, "float32 frames must give complex64"
assert truth.close(_c, _expected, rtol=1e-4, atol=1e-5), (
    "wrong values for other frames, sizes or rates"
)
_c = tone_in_frame(_x[:1, :1], _frequency, _rate)
assert truth.close(_c, _expected[:1, :1], rtol=1e-4, atol=1e-5), "wrong values for a batch of one"
_c = tone_in_frame(_x.double(), _frequency, _rate)
assert _c.dtype == torch.complex128, "float64 frames must give complex128"
assert truth.close(_c, _expected, rtol=1e-4, atol=1e-5), "wrong values for float64 frames"
_x.requires_grad_()
_c = tone_in_frame(_x, _frequency, _rate)
(_c.real + 2 * _c.imag).sum().backward()
_gradient = (_probe[0] + 2 * _probe[1]).float().expand(3, 2, _n_fft)
assert _x.grad is not None and truth.close(_x.grad, _gradient, rtol=1e-4, atol=1e-5), (
    "no gradient, or a wrong one, reaches x")
assert truth.close(
    tone_in_frame(torch.zeros(4, _n_fft), _frequency, _rate).abs(), torch.zeros(4)
), "silence must give 0"
for _edge, _level, (_x,) in edges.mutated(
    torch.randn(2, _n_fft, generator=hidden.generator("edges")), short=5
):
    _size = _x.shape[-1]
    _n = torch.arange(_size, dtype=torch.float64)
    _w = torch.sin(math.pi * _n / _size) ** 2
    _wave = (
        2 * _w / _w.sum() * torch.polar(torch.ones_like(_n), -2 * math.pi * _frequency / _rate * _n)
    )
    _found = tone_in_frame(_x, _frequency, _rate)
    assert _found.dtype == _x.dtype.to_complex(), f"wrong precision: {_edge}"
    assert truth.close(_found, (_x * _wave).sum(-1), rtol=1e-4, atol=1e-5 * _level), (
        f"wrong values: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: how far apart may the frames be?
#
# Frames that are windowed and added up give every sample a weight: the sum of all the windows that cover it. Where frames follow each
# other without an end, the weights repeat with every hop. With `power=1` each frame is windowed once; with `power=2` twice, on the
# way in and on the way out, so that the *squared* window adds up. Find the largest hop for which the weights are constant enough:
#
# $$ \max_n \big| W[n] - \bar W \big| \le \text{tolerance} \cdot \bar W, \qquad W[n] = \sum_m w^p[n - mH], $$
#
# with $\bar W$ the mean of $W$ over one hop.

# %%
# TASK 3 (4 points): the largest hop
def largest_hop(window, tolerance, power):
    """The largest hop in 1..n_fft, an int, with which the summed window ** power stays within
    `tolerance` of its mean.

    window: real (n_fft,), not negative, any length and any scale. tolerance: a share, such as 0.01.
    power: 1 or 2.
    """
    ### BEGIN SOLUTION
    weights, n_fft = window ** power, len(window)
    for hop in range(n_fft, 1, -1):
        summed = F.pad(weights, (0, -n_fft % hop)).view(-1, hop).sum(0)  # (shift, hop) -> (hop)
        if (summed - summed.mean()).abs().max() <= tolerance * summed.mean():
            return hop
    return 1
    ### END SOLUTION

# %%
# CHECK 3
hann = torch.hann_window(WINDOW_LENGTH)
found = largest_hop(hann, 0.001, power=1)
assert found == WINDOW_LENGTH // 2, (
    f"a Hann window of {WINDOW_LENGTH} adds up with hop {WINDOW_LENGTH // 2}, you say {found}")
found = largest_hop(hann, 0.001, power=2)
assert found == WINDOW_LENGTH // 3, (
    f"its square needs a third of the window, {WINDOW_LENGTH // 3}; you say {found}"
)
found = largest_hop(5 * hann, 0.001, power=1)
assert found == WINDOW_LENGTH // 2, (
    f"a window five times as high fits the same hops; you say {found}: compare with the mean")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _deviations(window, power):
    """The swing of the weights for each hop from 1 on,
    by direct sums over all the windows that reach a sample.
    """
    values, result = [float(w) ** power for w in window], []
    for hop in range(1, len(values) + 1):
        summed = [
            sum(values[n + m * hop] for m in range(len(values)) if n + m * hop < len(values))
            for n in range(hop)
        ]
        mean = sum(summed) / hop
        result.append(max(abs(s - mean) for s in summed) / mean)
    return result

_odd = hidden.choice("window of prime length", [31, 37, 41])
_n = torch.arange(_odd, dtype=torch.float64)
_windows = [
    (0.2 + torch.rand(_odd, generator=hidden.generator("window")))
    * hidden.real("height", 2.0, 9.0),
    (torch.sin(math.pi * (_n + 0.5) / _odd) * 0.3).float(),
    torch.hann_window(48),
    torch.hann_window(36, dtype=torch.float64),
]
for _window in _windows:
    for _power in (1, 2):
        _swings = _deviations(_window, _power)
        _order = sorted(_swings)
        # a tolerance well away from every swing
        for _first, _last in ((1, 12), (12, 22), (22, len(_order) - 2)):
            _gap = max(range(_first, _last), key=lambda i: _order[i + 1] - _order[i])
            _tolerance = (_order[_gap] + _order[_gap + 1]) / 2
            _expected = max(h + 1 for h, swing in enumerate(_swings) if swing <= _tolerance)
            _before = _window.clone()
            _found = largest_hop(_window, _tolerance, power=_power)
            assert truth.equal(_window, _before), "the function changes its input"
            assert _found == _expected, f"wrong hop for another window or tolerance, power={_power}"
assert isinstance(_found, int), "the hop isn't an int"
assert largest_hop(torch.full((_odd,), 0.5), 1e-3, power=1) == _odd, (
    "a rectangle needs no overlap: its largest hop is n_fft")
assert largest_hop(torch.rand(_odd, generator=hidden.generator("rough")), 1e-4, power=2) == 1, (
    "a hop of 1 always adds up")
for _edge, _level, (_window,) in edges.mutated(_windows[0], short=3, tiny=1e-6, huge=1e6):
    _swings = _deviations(_window, 2)
    _order = sorted(_swings)
    _gap = max(range(len(_order) - 1), key=lambda i: _order[i + 1] - _order[i])
    _tolerance = (_order[_gap] + _order[_gap + 1]) / 2  # well away from every swing
    _expected = max(h + 1 for h, swing in enumerate(_swings) if swing <= _tolerance)
    assert largest_hop(_window, _tolerance, power=2) == _expected, (
        f"wrong hop: a window that is {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: putting frames together
#
# The frames have been windowed, transformed, masked, and transformed back. Now they are windowed a second time, added up, and divided
# by the weights that have gathered:
#
# $$ \hat x[n] = \frac{\sum_m w[n - mH]\, y_m[n - mH]}{\sum_m w^2[n - mH]}. $$
#
# Near the ends the denominator may be zero or nearly so, and dividing by it would make a click. Where it is **less than one hundredth of its largest
# value**, we know too little of the sample: return 0 there. (`course_lib` refuses such a signal instead.)

# %%
# TASK 4 (5 points): weighted overlap-add
def put_together(frames, window, hop_length):
    """The signal that the frames make, by windowing them again, adding up and dividing by the
    summed squared window.

    frames: real (..., frames, n_fft). window: (n_fft,). hop_length: 1..n_fft, not always a divisor
    of n_fft. Returns (..., (frames - 1) * hop_length + n_fft), in the type of frames; 0 where the
    summed squared window is below 1% of its maximum. Differentiable in frames, with finite
    gradients everywhere.
    """
    ### BEGIN SOLUTION
    count, n_fft = frames.shape[-2:]
    window = window.to(frames.dtype)
    signal = frames.new_zeros(*frames.shape[:-2], (count - 1) * hop_length + n_fft)
    weights = frames.new_zeros(signal.shape[-1])
    for m in range(count):
        covered = slice(m * hop_length, m * hop_length + n_fft)
        signal[..., covered] += window * frames[..., m, :]
        weights[covered] += window ** 2
    known = weights >= 0.01 * weights.max()
    return signal * known / torch.where(known, weights, 1)
    ### END SOLUTION

# %%
# CHECK 4
window = torch.hann_window(SMALL_FRAME)
hop = SMALL_FRAME // 4
x = torch.arange(1.0, 6 * SMALL_FRAME + 1)
windowed = x.unfold(0, SMALL_FRAME, hop) * window                           # (frame, n_fft)
y = put_together(windowed, window, hop)
assert y.shape == x.shape, (
    f"{len(windowed)} frames of {SMALL_FRAME}, hop {hop}, make {len(x)} samples; you return "
    f"{tuple(y.shape)}"
)
middle = slice(SMALL_FRAME, -SMALL_FRAME)
assert torch.allclose(y[middle], x[middle], rtol=1e-4), (
    f"unchanged frames must give the signal back, {x[middle][:3]}...; yours: {y[middle][:3]}...")
assert y[0] == 0, (
    f"the first sample stands under a zero of the window: nothing is known of it, return 0 and "
    f"not {y[0]}"
)
changed = windowed + 1  # as if a mask had changed the frames
y = put_together(changed, window, hop)
assert y[0] == 0 and y[-1].isfinite(), (
    "where the weights are below 1% of the largest, return 0, whatever the frames hold")
y = put_together(windowed.expand(3, 2, *windowed.shape), window, hop)
assert y.shape == (3, 2, len(x)), (
    f"frames (3, 2, frames, n_fft) make a signal (3, 2, time); you return {tuple(y.shape)}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _by_sums(frames, window, hop):
    """Signal, weights and the gradient of the signal's sum, sample by sample in float64."""
    count, n_fft = frames.shape[-2:]
    signal = torch.zeros(*frames.shape[:-2], (count - 1) * hop + n_fft, dtype=torch.float64)
    weights = torch.zeros(signal.shape[-1], dtype=torch.float64)
    gradient = torch.zeros(count, n_fft, dtype=torch.float64)
    for n in range(len(weights)):
        for m in range(count):
            if 0 <= n - m * hop < n_fft:
                signal[..., n] += float(window[n - m * hop]) * frames[..., m, n - m * hop].double()
                weights[n] += float(window[n - m * hop]) ** 2
    known = (weights >= 0.01 * weights.max()).double()
    for m in range(count):
        for n in range(n_fft):
            gradient[m, n] = (
                float(window[n]) * known[n + m * hop] / max(float(weights[n + m * hop]), 1e-30)
            )
    return signal * known / weights.clamp_min(1e-30), weights / weights.max(), gradient

_generator = hidden.generator("frames")
for _case, (_n_fft, _hop, _count) in enumerate(
    ((12, 5, 7), (16, 4, 5), (10, 10, 4), (14, 9, 1), (9, 2, 6))
):
    _window = torch.hann_window(_n_fft) if _case < 2 else torch.hamming_window(_n_fft)
    _window = _window * hidden.real(f"gain {_case}", 0.05, 0.15)
    for _leading in ((3, 2), (1,), ()):
        _frames = torch.randn(*_leading, _count, _n_fft, generator=_generator)
        _before, _window_before = _frames.clone(), _window.clone()
        _expected, _ratio, _gradient = _by_sums(_frames, _window, _hop)
        _clear = (_ratio - 0.01).abs() > 1e-4  # the border itself is a matter of rounding
        _found = put_together(_frames, _window, _hop)
        assert _found.shape == _expected.shape, "wrong length or shape for other sizes"
        assert truth.equal(_frames, _before), "the function changes its frames"
        assert truth.equal(_window, _window_before), "the function changes its window"
        assert _found.dtype == torch.float32, "float32 frames must give a float32 signal"
        assert truth.close(_found[..., _clear], _expected[..., _clear], rtol=1e-4, atol=1e-3), (
            "wrong values for other frames, windows or hops")
        _probe = _frames.clone().requires_grad_()
        put_together(_probe, _window, _hop).sum().backward()
        assert _probe.grad is not None and _probe.grad.isfinite().all(), (
            "the gradient is missing or not finite"
        )
        assert truth.close(_probe.grad, _gradient.expand_as(_frames), rtol=1e-3, atol=1e-3), (
            "the gradient is wrong"
        )
    _found = put_together(_frames.double(), _window.double(), _hop)
    assert _found.dtype == torch.float64, "float64 frames must give a float64 signal"
    assert truth.close(_found[..., _clear], _expected[..., _clear], rtol=1e-4, atol=1e-3), (
        "wrong values for float64 frames")
_window, _sound = torch.hann_window(64), torch.randn(2, 640, generator=_generator)
_X = torch.stft(_sound, 64, 16, window=_window, return_complex=True)
_X = _X * torch.rand(_X.shape, generator=_generator)
_found = put_together(torch.fft.irfft(_X.mT, n=64), _window, 16)[..., 32:32 + 640]
assert truth.close(
    _found, torch.istft(_X, 64, 16, window=_window, length=640), rtol=1e-3, atol=1e-4
), "a masked STFT comes back wrong"
assert truth.close(put_together(torch.zeros(2, 5, 64), _window, 16), torch.zeros(2, 128)), (
    "silent frames must give silence")
# much overlap: 1% of the sum, not of one window
for _n_fft, _hop, _count in ((16, 1, 14), (20, 2, 12)):
    _window, _frames = (
        torch.hann_window(_n_fft),
        torch.randn(2, _count, _n_fft, generator=_generator),
    )
    _expected, _ratio, _gradient = _by_sums(_frames, _window, _hop)
    _clear = (_ratio - 0.01).abs() > 1e-4
    _found = put_together(_frames, _window, _hop)
    assert truth.close(_found[..., _clear], _expected[..., _clear], rtol=1e-4, atol=1e-3), (
        "wrong values where many frames overlap: which weights are below 1% of the largest?")
_window = torch.hamming_window(9)
for _edge, _level, (_frames,) in edges.mutated(torch.randn(2, 7, 9, generator=_generator), axis=-2):
    _expected, _ratio, _gradient = _by_sums(_frames, _window, 4)
    _found = put_together(_frames, _window.to(_frames.dtype), 4)
    assert _found.dtype == _frames.dtype and truth.close(
        _found, _expected, rtol=1e-4, atol=1e-5 * _level
    ), f"wrong values or type: frames that are {_edge}"
for _edge, _level, (_window,) in edges.mutated(
    torch.hamming_window(9), short=9, tiny=1e-4, huge=1e4
):
    _frames = torch.randn(2, 7, 9, generator=_generator, dtype=_window.dtype)
    _expected, _ratio, _gradient = _by_sums(_frames, _window, 4)
    assert truth.close(
        put_together(_frames, _window, 4), _expected, rtol=1e-3, atol=1e-4 / _level
    ), f"wrong values: a window that is {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: the phase-sensitive mask at work
#
# The real number that brings $M X$ closest to the source $S_j$ is $\operatorname{Re}(S_j X^*) / |X|^2$. Compute it for every source, hold it
# between 0 and `upper`, and apply it to the mixture. The mixture is given: it may hold noise that belongs to no source, so it isn't always
# the sum of the sources. Where the mixture is zero, no mask can help: the estimates are zero there.

# %%
# TASK 5 (5 points): estimates by the phase-sensitive mask
def phase_sensitive_estimates(S, X, upper):
    """The mixture times the phase-sensitive mask of each source, the mask limited to 0..upper.

    S: complex (..., source, channel, bin, frame). X: complex (..., channel, bin, frame). Returns
    complex, of S's shape. Zero, with finite gradients, where X is zero. Quiet spectra are as good
    as loud ones. Differentiable in S and X.
    """
    ### BEGIN SOLUTION
    X = X.unsqueeze(-4)  # (..., 1, channel, bin, frame)
    power = X.real ** 2 + X.imag ** 2
    mask = (S * X.conj()).real / torch.where(power == 0, 1, power)
    return mask.clamp(0, upper) * X
    ### END SOLUTION

# %%
# CHECK 5
# (source, channel, bin, frame)
S = torch.tensor([[3 + 0j, 1j, 2j], [1 + 0j, 2j, -1j]]).reshape(2, 1, 1, 3)
X = S.sum(0)                                                                         # 4, 3i, i
Y = phase_sensitive_estimates(S, X, UPPER)
assert Y.shape == S.shape, f"one estimate a source, {tuple(S.shape)}; you return {tuple(Y.shape)}"
assert Y.is_complex(), "the estimates are the mask times the mixture: complex numbers"
expected = torch.tensor([[3 + 0j, 1j, UPPER * 1j], [1 + 0j, 2j, 0j]])
for m, why in enumerate(("both in one direction: 3/4 and 1/4 of the mixture",
                         "the same, turned by a right angle: is one factor conjugated?",
                         f"masks of 2 and -1, limited to 0..{UPPER}")):
    assert torch.allclose(Y[:, 0, 0, m], expected[:, m], atol=1e-5), (
        f"frame {m}: {why}; expected {expected[:, m]}, you return {Y[:, 0, 0, m]}")
Y = phase_sensitive_estimates(S, X + 4, UPPER)
assert torch.allclose(Y[:, 0, 0, 0], torch.tensor([3 + 0j, 1]), atol=1e-5), (
    "the mixture may hold more than the sources: use X, not the sum of S")
assert phase_sensitive_estimates(S, 0 * X, UPPER).abs().max() == 0, (
    "where the mixture is zero the estimates are zero"
)
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _projected(S, X, upper):
    """The same in real numbers, source by source; X without zeros."""
    a, b = S.real, S.imag  # (..., source, channel, bin, frame)
    c, d = X.real, X.imag  # (..., channel, bin, frame)
    masks = [((a[..., j, :, :, :] * c + b[..., j, :, :, :] * d) / (c * c + d * d)).clamp(0, upper)
             for j in range(S.shape[-4])]
    return torch.stack([torch.complex(mask * c, mask * d) for mask in masks], -4)

_generator = hidden.generator("spectra")
for _case, _shape in enumerate(
    ((2, 3, 2, 5, 4), (2, 2, 3, 4), (3, 3, 3, 3), (1, 4, 1, 6, 2), (2, 2, 2, 2, 2, 2))
):
    _upper = hidden.choice(f"upper {_case}", [0.8, 1.0, 1.7, 2.5])
    _S = torch.randn(_shape, dtype=torch.complex64, generator=_generator)
    _X = _S.sum(-4) + 0.5 * torch.randn(
        _shape[:-4] + _shape[-3:], dtype=torch.complex64, generator=_generator
    )
    _copies, _expected = (_S.clone(), _X.clone()), _projected(_S, _X, _upper)
    _found = phase_sensitive_estimates(_S, _X, _upper)
    assert _found.dtype == torch.complex64, "complex64 spectra must give complex64"
    assert _found.shape == _S.shape, "wrong shape for other numbers of sources, channels or batches"
    assert truth.equal(_S, _copies[0]) and truth.equal(_X, _copies[1]), (
        "the function changes its input"
    )
    assert truth.close(_found, _expected, rtol=1e-3, atol=1e-4), (
        "wrong values for other spectra, sizes or limits"
    )
    _found = phase_sensitive_estimates(1e-5 * _S, 1e-5 * _X, _upper)
    assert truth.close(1e5 * _found, _expected, rtol=1e-3, atol=1e-3), (
        "wrong values for quiet spectra"
    )
    _found = phase_sensitive_estimates(_S.to(torch.complex128), _X.to(torch.complex128), _upper)
    assert _found.dtype == torch.complex128, "complex128 spectra must give complex128"
    assert truth.close(_found, _expected, rtol=1e-3, atol=1e-4), (
        "wrong values for complex128 spectra"
    )
    _leaves, _twins = (
        [z.clone().requires_grad_() for z in (_S, _X)],
        [z.clone().requires_grad_() for z in (_S, _X)],
    )
    (phase_sensitive_estimates(*_leaves, _upper) - 1).abs().pow(2).sum().backward()
    (_projected(*_twins, _upper) - 1).abs().pow(2).sum().backward()
    for _leaf, _twin in zip(_leaves, _twins):
        assert _leaf.grad is not None and truth.close(
            _leaf.grad, _twin.grad, rtol=1e-2, atol=1e-2
        ), "no gradient, or a wrong one, reaches S or X"
    _X[..., 0] = 0  # the first frame of the mixture is silent
    _found = phase_sensitive_estimates(_S, _X, _upper)
    assert truth.close(_found[..., 0].abs(), torch.zeros(_S.shape[:-1])), (
        "the estimates must be zero where the mixture is")
    assert truth.close(_found[..., 1:], _expected[..., 1:], rtol=1e-3, atol=1e-4), (
        "a silent frame changes the others"
    )
    _leaves = [z.clone().requires_grad_() for z in (_S, _X)]
    phase_sensitive_estimates(*_leaves, _upper).real.sum().backward()
    assert all(z.grad.isfinite().all() for z in _leaves), (
        "the gradient isn't finite where the mixture is zero"
    )
assert truth.close(phase_sensitive_estimates(0 * _S, 0 * _X, 1.0).abs(), torch.zeros(_S.shape)), (
    "silence must give silence")
_S = torch.randn(2, 1, 4, 9, dtype=torch.complex64, generator=_generator)
_X = _S.sum(-4) + 0.5 * torch.randn(1, 4, 9, dtype=torch.complex64, generator=_generator)
for _edge, _level, (_S, _X) in edges.mutated(_S, _X, tiny=1e-6, huge=1e6):
    _found = phase_sensitive_estimates(_S, _X, 1.2)
    _expected = _projected(_S, _X, 1.2).masked_fill((_X == 0).unsqueeze(-4), 0)
    assert _found.dtype == _S.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _expected, rtol=1e-3, atol=1e-4 * _level), f"wrong values: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: a score that moves through the song
#
# The signal-to-distortion ratio of each source in frames of `seconds`, one every `hop_seconds`:
#
# $$ \text{SDR} = 10 \log_{10} \frac{\sum_n s[n]^2}{\sum_n (s[n] - \hat s[n])^2}, $$
#
# where the sums run over the samples of the frame **and over the channels**. Only whole frames count. A frame in which **any** source's reference or estimate is
# silent, all zeros, has no score: NaN, for **all** sources, so that every source is judged on the same frames. A frame without any error has the score infinity.

# %%
# TASK 6 (4 points): SDR over time
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    """SDR in dB of each source in each whole frame, NaN where any source's reference or estimate is
    silent.

    estimates, references: (..., source, channel, time). A frame has round(rate * seconds) samples;
    frames start round(rate * hop_seconds) samples apart. Returns (..., source, frame).
    Differentiable where there is no silence.
    """
    ### BEGIN SOLUTION
    length, hop = round(rate * seconds), round(rate * hop_seconds)
    signal, guess, error = ((z.unfold(-1, length, hop) ** 2).sum((-3, -1))  # (..., source, frame)
                            for z in (references, estimates, references - estimates))
    silent = ((signal == 0) | (guess == 0)).any(-2, keepdim=True)
    return torch.where(silent, torch.nan, 10 * torch.log10(signal / error))
    ### END SOLUTION

# %%
# CHECK 6
# (source, channel, time)
references = torch.randn(3, 2, 1000, generator=torch.Generator().manual_seed(1))
scores = sdr_over_time((1 - ERROR_SHARE) * references, references, 100, 2.0, 1.0)
assert scores.shape == (3, 9), (
    f"3 sources, ten seconds, frames of two, one a second: (3, 9); you return {tuple(scores.shape)}"
)
expected = -20 * math.log10(ERROR_SHARE)
assert torch.allclose(scores, torch.tensor(expected), atol=1e-2), (
    f"an error of {ERROR_SHARE} of the amplitude is {expected:.2f} dB, not {scores[0, 0]:.2f}")
one_sided = references * torch.tensor([[1.0], [0.0]])  # the right channel is missing
gap = references.clone()
gap[1, :, 500:700] = 0  # source 1 pauses for two seconds
scores = sdr_over_time(one_sided, references, 100, 2.0, 1.0)
assert (scores > 2).all() and (scores < 4.5).all(), (
    f"a missing channel of two is an error of about half the energy, 3 dB in all; you: "
    f"{scores[0, 0]:.1f} dB"
)
scores = sdr_over_time(0.5 * gap, gap, 100, 2.0, 1.0)
assert scores[:, 5].isnan().all(), (
    f"source 1 is silent all through frame 5, so it is NaN for all sources; you return "
    f"{scores[:, 5]}"
)
assert scores[:, [0, 4, 6, 8]].isfinite().all(), "frames in which every source plays have a score"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 6")
def _by_frames(estimates, references, length, hop):
    """The same by loops in float64."""
    guess, true = estimates.double(), references.double()
    columns = []
    for start in range(0, true.shape[-1] - length + 1, hop):
        s, e = true[..., start:start + length], guess[..., start:start + length]
        signal, error = (s * s).sum(-1).sum(-1), ((s - e) * (s - e)).sum(-1).sum(-1)
        lost = ((s == 0).flatten(-2).all(-1) | (e == 0).flatten(-2).all(-1)).any(-1, keepdim=True)
        columns.append(torch.where(lost, torch.nan, 10 * torch.log10(signal / error)))
    return torch.stack(columns, -1)

_generator = hidden.generator("songs")
for _case, _leading in enumerate(((2, 3, 2), (2, 2), (1, 4, 1), (3, 1))):  # (..., source, channel)
    _length, _hop = (
        hidden.integer(f"length {_case}", 40, 60),
        hidden.integer(f"hop {_case}", 15, 30),
    )
    _rate = 1000.0
    _seconds, _hop_seconds = (_length + 0.3) / _rate, (_hop - 0.3) / _rate  # to be rounded
    _references = torch.randn(*_leading, 5 * _length + 7, generator=_generator)
    _estimates = 0.8 * _references + 0.3 * torch.randn(_references.shape, generator=_generator)
    _copies = (_estimates.clone(), _references.clone())
    _expected = _by_frames(*_copies, _length, _hop)
    _found = sdr_over_time(_estimates, _references, _rate, _seconds, _hop_seconds)
    assert _found.dtype == torch.float32, "float32 signals must give float32 scores"
    assert _found.shape == _expected.shape, (
        "wrong shape for other sizes, sources, channels or batches"
    )
    assert truth.equal(_estimates, _copies[0]) and truth.equal(_references, _copies[1]), (
        "the function changes its input")
    assert truth.close(_found, _expected, rtol=1e-4, atol=1e-3), (
        "wrong values for other signals, lengths or hops"
    )
    _found = sdr_over_time(1e-4 * _estimates, 1e-4 * _references, _rate, _seconds, _hop_seconds)
    assert truth.close(_found, _expected, rtol=1e-4, atol=1e-3), "wrong values for quiet signals"
    _found = sdr_over_time(_estimates.double(), _references.double(), _rate, _seconds, _hop_seconds)
    assert _found.dtype == torch.float64, "float64 signals must give float64 scores"
    assert truth.close(_found, _expected, rtol=1e-4, atol=1e-3), "wrong values for float64 signals"
    _leaf, _twin = _estimates.clone().requires_grad_(), _estimates.clone().requires_grad_()
    sdr_over_time(_leaf, _references, _rate, _seconds, _hop_seconds).sum().backward()
    _by_frames(_twin, _references, _length, _hop).sum().backward()
    assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-2, atol=1e-3), (
        "no gradient, or a wrong one, reaches the estimates")
    _references[..., 0, :, :_length] = 0  # a silent reference, frame 0
    _estimates[..., -1, :, -2 * _length:] = 0  # a silent estimate, at the end
    if len(_leading) == 3:
        # another song is not concerned
        _references[0], _estimates[0] = _copies[1][0], _copies[0][0]
    _expected = _by_frames(_estimates, _references, _length, _hop)
    _found = sdr_over_time(_estimates, _references, _rate, _seconds, _hop_seconds)
    assert truth.equal(_found.isnan(), _expected.isnan()), (
        "NaN in the wrong frames where a reference or an estimate is silent")
    assert truth.close(_found.nan_to_num(0.0), _expected.nan_to_num(0.0), rtol=1e-4, atol=1e-3), (
        "wrong scores beside silent frames")
_found = sdr_over_time(_copies[1], _copies[1], _rate, _seconds, _hop_seconds)
assert _found.isposinf().all(), "an estimate without any error has the score infinity"
assert sdr_over_time(0 * _copies[0], 0 * _copies[1], _rate, _seconds, _hop_seconds).isnan().all(), (
    "silence has no score: NaN")
_references = torch.randn(2, 2, 12 * 20, generator=_generator)
_estimates = 0.9 * _references + 0.2 * torch.randn(_references.shape, generator=_generator)
for _edge, _level, (_estimates, _references) in edges.mutated(_estimates, _references, short=20):
    _expected = _by_frames(_estimates, _references, 20, 10)
    _found = sdr_over_time(_estimates, _references, 10.0, 2.0, 1.0)
    assert truth.equal(_found.isnan(), _expected.isnan()), f"NaN in the wrong frames: {_edge}"
    assert truth.close(_found.nan_to_num(0.0), _expected.nan_to_num(0.0), rtol=1e-4, atol=1e-3), (
        f"wrong scores: {_edge}")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 7: which frame for which stem?
#
# The rule of thumb says 2048 samples for drums and singing and 4096 where bass notes must come apart. Find out how far it holds for an *ideal ratio mask*.
# The cell below gives you a measure and one song of the band (or a song of your own); the rest of the experiment is yours, in cells of your own
# below it. It needs none of your other answers.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: SDR by stem (rows) and frame length (columns), at least five lengths from 256 to 32,768 samples,
# - which length each stem likes best, how much a wrong choice costs, and the reason, in terms of resolution in time and in frequency,
# - one thing that your experiment can't tell: would a *network* that has to guess the mask like the same length?

# %%
# EXPERIMENT: a measure and a song to begin with; write your own cells below
def oracle_sdr(sources, n_fft):
    """SDR in dB of each source by the ideal ratio mask, hop n_fft // 4. sources: (source, channel,
    time).
    """
    size = dict(n_fft=n_fft, hop_length=n_fft // 4, window=torch.hann_window(n_fft))
    S = torch.stft(sources.flatten(0, 1), **size, return_complex=True).unflatten(
        0, sources.shape[:2]
    )
    power = S.abs() ** 2 + 1e-16
    estimates = torch.istft(
        (power / power.sum(0) * S.sum(0)).flatten(0, 1), **size, length=sources.shape[-1]
    )
    error = sources - estimates.unflatten(0, sources.shape[:2])
    return 10 * torch.log10((sources ** 2).sum((1, 2)) / (error ** 2).sum((1, 2)))


def band_sources(number):
    """Eight seconds of the four stems of a song of the band, (source, channel, time)."""
    from course_lib.data import STEMS, open_tracks
    return open_tracks("band", "test", count=number + 1)[number].excerpt(4.0, 8.0).sources(STEMS)

# For example (drums, bass, other, vocals):  oracle_sdr(band_sources(0), 2048)

# %% [markdown]
# <!-- TASK 7 (6 points): which frame for which stem? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, hop as a share of the frame (or kept in samples, and said so), the mask, the score; only the frame length varies.
# - 2 points: a table of at least five lengths for all four stems, with plausible numbers and more than one song, or a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: drums peak earliest and lose most at the longest frames (a stroke is smeared over the frame, and leaves a pre-echo);
#   bass, other and vocals gain up to much longer frames, as steady partials come apart. Near the best length the curve is flat (some tenths of a decibel over
#   a factor of two); far away a wrong choice costs one to three decibels and more. An answer that only repeats the rule of thumb against its own table gets no point here.
# - 1 point: the limit. The oracle's best frames are longer than the rule of thumb, as it knows every mask value, however little one follows from its
#   neighbours; a network must guess them from context, has fewer frames to learn from, and pays for latency. Or: the band is not real music (steady pitch, no rooms).
#
# For comparison, means over the first four test songs, seconds 4 to 12, with the cell above (dB):
#
# | samples | 256 | 512 | 1024 | 2048 | 4096 | 8192 | 16384 | 32768 |
# |---|---|---|---|---|---|---|---|---|
# | drums | 7.8 | 8.5 | 9.0 | 9.6 | 10.2 | 10.3 | 10.0 | 9.1 |
# | bass | 6.0 | 6.0 | 6.4 | 7.1 | 7.7 | 8.0 | 8.1 | 7.7 |
# | other | 5.6 | 6.1 | 6.9 | 7.6 | 8.0 | 8.4 | 8.5 | 8.4 |
# | vocals | 6.7 | 7.5 | 8.7 | 9.8 | 10.3 | 10.6 | 10.7 | 10.5 |
# <!-- END RUBRIC -->
