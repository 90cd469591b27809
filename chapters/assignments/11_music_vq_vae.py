# %% [markdown]
# # Assignment 11 · What the codes are worth
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 11, but none is a copy of it: you count what a symbol costs and how much it sees, write down a song in pieces as if it had been whole, build a spectral loss that silence and loudness can't disturb,
# compute a bandwidth over all random downmixes without drawing one, and spend residual codebooks only where they are needed. Read what is asked for,
# above all at the edges (a level without a stride, a song of one sample, a silent batch, channels that cancel each other, a vector of zeros).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.jukebox` don't count as your own work, nor does changing
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
DEPTH = variation.integer("depth", 2, 5)  # residual blocks of a stack
CODES = variation.choice("codes", [512, 1024, 4096])
HOP = variation.choice("hop", [4, 6, 8])  # samples
PIECE = variation.integer("piece", 70, 95)  # samples
LOUDEST = variation.choice("loudest", [1.25, 1.5, 2.0])  # gain
SHARE = variation.choice("share", [0.25, 0.125, 0.0625])  # of a vector's energy

# %% [markdown]
# ## Task 1: what a symbol costs, and what it sees
#
# An encoder of section 11.3, given by its sizes. Block $j$ strides `downs[j]` times, each time by `strides[j]`: a convolution of $2 s$ taps that strides by $s$, then a stack of `depth` residual blocks, the $d$-th with a convolution of three taps that lie `growth`$^d$ steps apart, $d = 0, 1, \ldots$ (the convolution of one tap sees nothing more). After its last stack the block has a convolution of three taps. The encoder of level $l$ is made of the blocks $0 \ldots l$, one on top of the other.
#
# For each level give its **hop**, its **bits a second** by (11.1), and **how many samples of audio one symbol depends on**, in the middle of a long song. `downs[j]` may be 0: then the block has only its three taps. Hops and samples are whole numbers, however large: floats can't hold them.

# %%
# TASK 1 (4 points): what a symbol costs, and what it sees
def levels_of(rate, downs, strides, depth, growth, codes):
    """A list of (hop, bits a second, samples seen), one a level.

    rate: Hz. downs: numbers from 0 on, one a level. strides: even numbers from 2 on, one a level.
    depth: 0 or more. growth: 1 or more. codes: of each level's codebook, 1 or more.
    """
    ### BEGIN SOLUTION
    found, hop, seen = [], 1, 1
    for times, stride in zip(downs, strides):
        for _ in range(times):
            seen += (2 * stride - 1) * hop
            hop *= stride
            seen += sum(2 * growth ** d for d in range(depth)) * hop
        seen += 2 * hop
        found.append((hop, rate / hop * math.log2(codes), seen))
    return found
    ### END SOLUTION

# %%
# CHECK 1
found = levels_of(44100, [1], [2], 0, 3, 2048)
assert len(found) == 1 and len(found[0]) == 3, f"one level: hop, bits, samples; you: {found}"
assert found[0][0] == 2 and abs(found[0][1] - 22050 * 11) < 1e-6, (
    f"hop 2, 22,050 symbols of 11 bits a second: 242,550; you: {found[0]}")
assert found[0][2] == 8, (
    f"three taps at hop 2 see three steps, each of which sees 4 samples, 2 apart: 8; {found[0][2]}")
found = levels_of(44100, [1], [2], 1, 3, 2048)[0][2]
assert found == 12, f"a block more, three taps at hop 2: 4 samples more, 12; you: {found}"
hops = [hop for hop, _, _ in levels_of(44100, [3, 2, 2], [2, 2, 2], 4, 3, 2048)]
assert hops == [8, 32, 128], f"Jukebox' levels have hops 8, 32 and 128; you: {hops}"
found = levels_of(22050, [1, 0, 2], [8, 4, 4], DEPTH, 3, CODES)
assert found[1][0] == found[0][0] == 8 and found[1][2] == found[0][2] + 16, (
    f"a level without a stride keeps the hop of 8 and sees 2 steps more: {found}")
inside = torch.ones(1, 1, 4096, requires_grad=True)
h = F.conv1d(inside, torch.ones(1, 1, 16), stride=8, padding=4)
for d in range(DEPTH):
    h = h + F.conv1d(h, torch.ones(1, 1, 3), padding=3 ** d, dilation=3 ** d)
h = F.conv1d(h, torch.ones(1, 1, 3), padding=1)
if 8 * 3 ** DEPTH < 2000:
    h[0, 0, 256].backward()
    touched = int((inside.grad != 0).sum())
    assert found[0][2] == touched, f"tried out, it is {touched} samples; you say {found[0][2]}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _seen(downs, strides, depth, growth):
    """From a symbol back to the audio: the first and the last step that it depends on."""
    first = last = 0
    for times, stride in zip(downs[::-1], strides[::-1]):
        first, last = first - 1, last + 1
        for _ in range(times):
            for d in range(depth):
                first, last = first - growth ** d, last + growth ** d
            first, last = first * stride - stride // 2, last * stride - stride // 2 + 2 * stride - 1
    return last - first + 1

def _right(rate, downs, strides, depth, growth, codes):
    given = list(downs), list(strides)
    found = levels_of(rate, downs, strides, depth, growth, codes)
    assert (list(downs), list(strides)) == given, "the function changes its arguments"
    sizes = f"downs {downs}, strides {strides}, depth {depth}, growth {growth}"
    assert type(found) is list and len(found) == len(downs), f"a list, an entry a level: {sizes}"
    hop = 1
    for level, entry in enumerate(found):
        hop *= strides[level] ** downs[level]
        assert type(entry) in (tuple, list) and len(entry) == 3, f"three numbers a level: {sizes}"
        assert type(entry[0]) is int and type(entry[2]) is int, f"hop and samples are int: {sizes}"
        assert entry[0] == hop, f"wrong hop of level {level}: {sizes}"
        bits = (math.log2(codes) if codes > 1 else 0.0) * rate / hop
        assert truth.close(entry[1], bits, rtol=1e-9, atol=0.0), f"wrong bits: {sizes}"
        seen = _seen(downs[:level + 1], strides[:level + 1], depth, growth)
        assert entry[2] == seen, f"wrong number of samples of level {level}: {sizes}"

for _case in range(8):
    _levels = hidden.integer(f"levels {_case}", 1, 4)
    _downs = [hidden.integer(f"down {_case} {_n}", 0, 3) for _n in range(_levels)]
    _strides = [hidden.choice(f"stride {_case} {_n}", [2, 4, 6, 8]) for _n in range(_levels)]
    _right(hidden.choice(f"rate {_case}", [16000, 22050, 44100]), _downs, _strides,
           hidden.integer(f"depth {_case}", 0, 8), hidden.integer(f"growth {_case}", 1, 4),
           hidden.integer(f"codes {_case}", 2, 5000))
_right(44100, (3, 2, 2), (2, 2, 2), 4, 3, 2048)
_right(44100, [1, 1], [4, 2], 6, 1, 2048)
edges.case("zeros inside")
_right(16000, [2, 0, 1], [2, 8, 4], 3, 3, 32)
_right(16000, [0, 0], [2, 2], 3, 3, 32)
_right(16000, [2, 1], [2, 4], 0, 3, 32)
edges.case("short")
_right(16000, [1], [2], 1, 2, 2)
edges.case("tiny")
_right(1, [1], [2], 1, 1, 1)
edges.case("huge")
_right(44100, [40, 30], [2, 4], 45, 3, 2 ** 70)
_right(192000, [3, 20], [8, 2], 30, 7, 2 ** 24 + 1)
edges.left_out("other type", "all are whole numbers")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a song in pieces
#
# A whole song doesn't fit into memory. Encode it in pieces, so that its symbols are **exactly** those of the whole. What prevents it? A symbol depends on samples outside of its hop; and at the ends of what it is given, the network fills up with zeros *in every layer*, which is something else than silence. So a symbol is right only if its surroundings are there, or if the song itself ends there.
#
# - The song is filled up with zeros behind its end to whole hops, and to no more than that.
# - `encode` gets whole hops, at most `piece` samples at once. A symbol depends on its hop, and on at most `reach` samples before and `reach` behind it.
# - Call it as seldom as possible. With $P$ the largest number of whole hops in a piece, $m$ the smallest number of whole hops not below `reach`, both in samples, and $T$ samples in whole hops, $1 + \lceil (T - P) / (P - 2 m) \rceil$ calls are enough for $T > P$.

# %%
# TASK 2 (5 points): a song in pieces
def symbols_in_pieces(encode, x, hop, reach, piece):
    """The symbols of the whole song: (batch, step), as many steps as there are (begun) hops.

    encode: a function of audio (batch, 1, time), time a multiple of hop, to symbols (batch, time /
    hop). x: (batch, 1, time), any length from one sample on. hop: 1 or more. reach: 0 or more.
    piece: samples, at least so many that P >= 2 m + hop.
    """
    ### BEGIN SOLUTION
    x = F.pad(x, (0, -x.shape[-1] % hop))
    time, most, margin = x.shape[-1], piece // hop * hop, -(-reach // hop) * hop
    if time <= most:
        return encode(x)
    fresh = most - 2 * margin
    count = 1 - (most - time) // fresh
    parts = []
    for number in range(count):
        start = number * fresh
        symbols = encode(x[..., start:start + most])
        first = margin // hop if number else 0
        last = (most - margin) // hop if number < count - 1 else None
        parts.append(symbols[:, first:last])
    return torch.cat(parts, -1)
    ### END SOLUTION

# %%
# CHECK 2
def little_encoder(hop, calls):
    """An encoder whose symbols are exact, and which notes how long its pieces are."""
    def encode(x):
        calls.append(x.shape[-1])
        assert x.shape[-1] % hop == 0, f"encode gets whole hops of {hop}; you gave {x.shape[-1]}"
        x = F.conv1d(x.double(), torch.arange(1.0, 2 * hop + 1).double()[None, None], stride=hop,
                     padding=hop // 2)
        x = F.conv1d(x + 5, torch.tensor([[[3.0, 1.0, 2.0]]]).double(), padding=1)
        return (x[:, 0].round().long() % 1000)
    return encode

generator = torch.Generator().manual_seed(2)
x = torch.randint(-50, 50, (2, 1, 500), generator=generator).float()
calls = []
whole = little_encoder(HOP, [])(F.pad(x, (0, -500 % HOP)))
found = symbols_in_pieces(little_encoder(HOP, calls), x, HOP, HOP + HOP // 2, PIECE)
assert found.shape == whole.shape, f"{tuple(whole.shape)} symbols; you: {tuple(found.shape)}"
wrong = (found != whole).any(0).nonzero().flatten().tolist()
assert not wrong, f"of {whole.shape[1]} symbols these are others than those of the whole: {wrong}"
assert max(calls) <= PIECE, f"pieces have at most {PIECE} samples; you: {calls}"
P, m, T = PIECE // HOP * HOP, 2 * HOP, whole.shape[1] * HOP
enough = 1 + math.ceil((T - P) / (P - 2 * m))
assert len(calls) == enough, f"{enough} calls are enough; you called {len(calls)} times: {calls}"
calls.clear()
found = symbols_in_pieces(little_encoder(HOP, calls), x[..., :1], HOP, 2 * HOP, PIECE)
assert found.shape == (2, 1) and calls == [HOP], (
    f"one sample: one hop, one symbol, one call; you: {tuple(found.shape)}, calls {calls}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _encoder(hop, before, behind, reach, calls, dtype, level=1.0):
    """Symbols that depend on some steps before and behind, with zeros in a layer of its own; at
    the ends of a hop it leaves out what would be beyond its reach."""
    weights = torch.arange(1.0, hop + 1).double()
    weights[:max(0, before * hop - reach)] = 0
    weights[hop - max(0, behind * hop - reach):] = 0
    assert weights.any()
    def encode(x):
        assert x.ndim == 3 and x.shape[1] == 1 and x.shape[-1] > 0 and x.shape[-1] % hop == 0, (
            f"encode gets (batch, 1, time) in whole hops of {hop}, not {tuple(x.shape)}")
        assert x.dtype == dtype, f"encode gets audio of the song's precision, not {x.dtype}"
        calls.append(x.shape[-1])
        x = (x.double() / level).unflatten(-1, (-1, hop))[:, 0]     # (batch, step, hop)
        x = (x * weights).sum(-1) + 7
        steps = x.shape[-1]
        x = F.pad(x, (before, behind))                              # zeros, not 7
        x = sum((1 + 2 * n) * x[:, n:n + steps] for n in range(before + behind + 1))
        return x.round().long() % 1009
    return encode

def _right(x, hop, before, behind, reach, piece, message, level=1.0):
    copy = x.clone()
    calls = []
    kind = hop, before, behind, reach
    found = symbols_in_pieces(_encoder(*kind, calls, x.dtype, level), x, hop, reach, piece)
    message = f"{message}: {x.shape[-1]} samples, hop {hop}, reach {reach}, pieces of {piece}"
    assert truth.equal(x, copy), "the function changes the song"
    whole = _encoder(*kind, [], x.dtype, level)(F.pad(copy, (0, -x.shape[-1] % hop)))
    assert truth.equal(found, whole), f"wrong symbols, {message}"
    assert found.dtype == torch.int64, f"symbols are passed on as they are, {message}"
    assert max(calls) <= piece, f"a piece is too long, {message}"
    P, m, T = piece // hop * hop, -(-reach // hop) * hop, whole.shape[1] * hop
    enough = 1 if T <= P else 1 + -(-(T - P) // (P - 2 * m))
    assert len(calls) == enough, f"{enough} calls are enough, {message}"

_generator = hidden.generator("songs")
def _song(batch, time):
    return torch.randint(-9, 10, (batch, 1, time), generator=_generator).float()

for _case in range(10):
    _hop = hidden.integer(f"hop {_case}", 1, 9)
    _before, _behind = (hidden.integer(f"{_side} {_case}", 0, 3) for _side in ("before", "behind"))
    _reach = max(_before, _behind) * _hop
    _reach = max(0, _reach - hidden.integer(f"less {_case}", 0, (_hop - 1) // 2))
    _piece = 2 * -(-_reach // _hop) * _hop + _hop + hidden.integer(f"more {_case}", 0, 25)
    for _time in (hidden.integer(f"time {_case}", 100, 400), _piece // _hop * _hop + 1):
        _right(_song(1 + _case % 3, _time), _hop, _before, _behind, _reach, _piece, "a song")
for _time in (*range(38, 47), 63, 64, 65):
    _right(_song(2, _time), 4, 1, 1, 4, 20, "ends of all kinds")
_right(_song(2, 200), 8, 0, 0, 0, 8, "pieces of one hop")
_right(_song(2, 200), 8, 2, 2, 16, 40, "one new symbol a piece")
_right(_song(1, 200), 8, 2, 0, 16, 64, "symbols that only look back")
_right(_song(1, 200), 8, 0, 2, 16, 64, "symbols that only look ahead")
_right(_song(1, 200), 8, 1, 1, 5, 71, "a reach below a hop, a piece of no whole hops")
_right(_song(1, 200), 8, 1, 0, 3, 71, "a small reach back")
_right(_song(1, 200), 8, 0, 1, 2, 65, "a small reach ahead")
_right(_song(3, 150).mT.contiguous().mT.expand(3, 1, 150), 8, 1, 1, 8, 48, "not contiguous")
_right(_song(1, 30), 8, 1, 1, 8, 10 ** 9, "a piece longer than the song")
_song_of_edges = _song(2, 120)
for _edge, _level, (_x,) in edges.mutated(_song_of_edges, tiny=2.0 ** -40, huge=2.0 ** 40):
    _right(_x, 6, 2, 1, 12, 60, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: a spectral loss that nothing disturbs
#
# Build the loss of (11.7) divided by the bandwidth, so that it is of the order of 1 for loud and for soft music. For each resolution $r$ = (frame, hop, window),
#
# $$ \mathcal L(x, y) = \frac 1 R \sum_r \frac{\operatorname{mean}_b\, d_r(x_b, y_b)}{\operatorname{mean}_b\, \lVert |X_{b,r}| \rVert}, $$
#
# with $d_r$ of (11.6) and means over the examples $b$ of the batch, of **targets** $x$ below the line. Where all targets are silent, 1 stands below the line. The STFT is `torch.stft` with a Hann window (`torch.hann_window`), frames whose middles lie at $0$, hop, $2\,$hop …, and **zeros beyond the ends** (`pad_mode="constant"`), so that a signal of one sample is long enough.
#
# Training goes through it: the gradient by $y$ must be finite always. Where $y = x$ it is 0. And loudness cancels: both may be $10^{25}$ times as small or as large, where single precision has no squares left.

# %%
# TASK 3 (5 points): a spectral loss that nothing disturbs
def relative_spectral_loss(x, y, resolutions):
    """The loss of the text, a tensor of no axes.

    x, y: (batch, 1, time), target and output, at least one sample. resolutions: list of (n_fft,
    hop_length, window_size), at least one, none of a window longer than its frame. Differentiable.
    """
    ### BEGIN SOLUTION
    def magnitudes(signal, n_fft, hop_length, window_size):
        window = torch.hann_window(window_size, dtype=torch.float64)
        return torch.stft(signal[:, 0].double(), n_fft, hop_length, window_size, window,
                          pad_mode="constant", return_complex=True).abs().flatten(1)

    terms = []
    for one in resolutions:
        X, Y = magnitudes(x, *one), magnitudes(y, *one)             # (batch, bin * frame)
        size = torch.linalg.vector_norm(X, dim=1).mean()
        terms.append(torch.linalg.vector_norm(X - Y, dim=1).mean() / (size if size > 0 else 1))
    return torch.stack(terms).mean().to(y.dtype)
    ### END SOLUTION

# %%
# CHECK 3
three = [(64, 16, 40), (32, 8, 32), (16, 4, 12)]
x, y = torch.randn(2, 2, 1, 300, generator=torch.Generator().manual_seed(3))
found = relative_spectral_loss(x, 0 * x, three)
assert found.shape == () and abs(float(found) - 1) < 1e-4, (
    f"silence instead of x: 1, by what stands below the line; you say {found}")
found = float(relative_spectral_loss(x, 0.75 * x, three))
assert abs(found - 0.25) < 1e-4, f"x a quarter too soft: 0.25; you say {found:.4f}"
assert float(relative_spectral_loss(x, -x, three)) < 1e-4, "a spectral loss is deaf to the sign"
pair = torch.cat([x[:1], 0 * x[:1]])
found = float(relative_spectral_loss(pair, 0 * pair, three))
assert abs(found - 1) < 1e-4, (
    f"one example silent: its 0 counts in both means, and the loss is 1; you say {found:.4f}")
found = float(relative_spectral_loss(1e4 * x, 1e4 * y, three))
assert abs(found - float(relative_spectral_loss(x, y, three))) < 1e-3, "loudness should cancel"
for name, target, output in (("y = x", x, x), ("y silent", x, 0 * x),
                             ("both silent", 0 * x, 0 * x)):
    leaf = output.clone().requires_grad_()
    relative_spectral_loss(target, leaf, three).backward()
    assert leaf.grad is not None, f"{name}: no gradient reaches y"
    assert leaf.grad.isfinite().all(), f"{name}: the gradient isn't finite"
assert relative_spectral_loss(x[..., :1], y[..., :1], three).isfinite(), "one sample is enough"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _magnitudes(x, n_fft, hop_length, window_size):
    """Frame by frame, by the matrix of the DFT, in double precision: (batch, frame, bin)."""
    x, half = x[:, 0].double(), n_fft // 2
    before = (n_fft - window_size) // 2
    n = torch.arange(window_size, dtype=torch.float64)
    window = torch.zeros(n_fft, dtype=torch.float64)
    window[before:before + window_size] = 0.5 - 0.5 * torch.cos(2 * math.pi * n / window_size)
    long = torch.cat([x.new_zeros(len(x), half), x, x.new_zeros(len(x), half)], 1)
    n = torch.outer(torch.arange(n_fft), torch.arange(half + 1)).double()
    angle = 2 * math.pi * n / n_fft
    frames = [long[:, start:start + n_fft] * window
              for start in range(0, x.shape[1] + 1, hop_length) if start + n_fft <= long.shape[1]]
    frames = torch.stack(frames, 1)
    return ((frames @ angle.cos()) ** 2 + (frames @ angle.sin()) ** 2 + 1e-300).sqrt()

def _loss(x, y, resolutions):
    terms = []
    for one in resolutions:
        X, Y = _magnitudes(x, *one), _magnitudes(y, *one)
        sizes = [float((example ** 2).sum() ** 0.5) for example in X]
        bottom = sum(sizes) / len(sizes) if sum(sizes) > 1e-100 else 1.0
        terms.append(sum((a ** 2).sum() ** 0.5 for a in X - Y) / len(x) / bottom)
    return sum(terms) / len(terms)

def _right(x, y, resolutions, message):
    before = x.clone(), y.clone()
    found, expected = relative_spectral_loss(x, y, resolutions), _loss(*before, resolutions)
    assert truth.equal([x, y], list(before)), "the function changes its arguments"
    assert found.dtype == x.dtype, f"wrong precision: {message}"
    assert truth.close(found, expected, rtol=1e-3, atol=1e-5), f"wrong loss: {message}"

_generator = hidden.generator("signals")
_three = [(32, 8, 20), (24, 5, 24), (16, 3, 9)]
for _case in range(5):
    _batch, _time = hidden.integer(f"batch {_case}", 1, 4), hidden.integer(f"time {_case}", 20, 200)
    _x, _y = torch.randn(2, _batch, 1, _time, generator=_generator)
    _sizes = [(2 * hidden.integer(f"frame {_case} {_n}", 6, 20),
               hidden.integer(f"hop {_case} {_n}", 1, 9),
               hidden.integer(f"window {_case} {_n}", 3, 12))
              for _n in range(_case + 1)]
    _right(_x, _y, _sizes, f"{_batch} examples of {_time}, {_sizes}")
    _right(_x, _x + 0.1 * _y, _three, "an output near the target")
_loud = torch.tensor([1.0, 1e-3, 30.0])[:, None, None]
_x, _y = torch.randn(2, 3, 1, 90, generator=_generator)
_right(_loud * _x, _y, _three, "examples of different loudness")
_right(_x * (_loud > 1), _y, _three, "two of three targets silent")
_right(0 * _x, _y, _three, "all targets silent")
_right(0 * _x, 0 * _y, _three, "both silent")
for _size in (1e-25, 1e25):
    _right(_size * _x, _size * _y, _three, f"signals of {_size:g}")
_right(_x.expand(3, 1, 90).flip(0), _x.mT.contiguous().mT, _three, "not contiguous")
_leaf, _twin = (_y.clone().requires_grad_() for _ in range(2))
relative_spectral_loss(_loud * _x, _leaf, _three).backward()
_loss(_loud * _x, _twin, _three).backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-2, atol=1e-5), (
    "the gradient is wrong")
for _message, _target, _output in (
        ("y = x", _x, _x), ("y silent", _x, 0 * _x), ("all silent", 0 * _x, 0 * _x),
        ("a silent target", 0 * _x, _y), ("one pair equal", _x, torch.cat([_x[:1], _y[1:]])),
        ("equal signals of 1e-25", 1e-25 * _x, 1e-25 * _x)):
    _leaf = _output.clone().requires_grad_()
    relative_spectral_loss(_target, _leaf, _three).backward()
    assert bool(_leaf.grad.isfinite().all()), f"the gradient isn't finite: {_message}"
    _same = torch.tensor([bool((a == b).all()) for a, b in zip(_target, _output)])
    assert truth.equal(_leaf.grad[_same], 0 * _output[_same]), f"where y = x it is 0: {_message}"
for _edge, _level, (_x, _y) in edges.mutated(_x, _y):
    _right(_x, _y, _three, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: the bandwidth of all downmixes
#
# Jukebox mixes the channels of each chunk down at random, $a\, l + (1 - a)\, r$ with $a$ uniform in $[0, 1]$; our codec also draws a gain $g$, uniform between `quietest` and `loudest`. The bandwidth $b_2$ of (11.10) is the **variance** of what comes out. One can draw a thousand chunks, and each time it is a bit different. Or compute it: over all $a$ and $g$, all chunks and all samples,
#
# $$ b_2 = \operatorname{E}\big[s^2\big] - \operatorname{E}[s]^2, \qquad s = g\,(a\, l + (1 - a)\, r), $$
#
# exactly. ($\operatorname{E}[a^2]$ is an integral that you know, and the two channels are not independent of each other.) Chunks of one channel stay as they are, but for the gain.
#
# Write the downmix for given numbers, too, and mind that $b_2$ may be the small difference of large numbers: three digits must be right with an offset of 1000 times the signal.

# %%
# TASK 4 (5 points): the bandwidth of all downmixes
def mixed_down(chunks, shares, gains):
    """Each chunk's downmix with its share a of the left channel, times its gain: (chunk, 1, time).

    chunks: (chunk, 2, time) or (chunk, 1, time). shares, gains: (chunk,).
    """
    ### BEGIN SOLUTION
    a, g = shares[:, None, None], gains[:, None, None]
    if chunks.shape[1] == 1:
        return g * chunks
    return g * (a * chunks[:, :1] + (1 - a) * chunks[:, 1:])
    ### END SOLUTION


def expected_variance(chunks, quietest=1.0, loudest=1.0):
    """b_2 over all downmixes of the chunks: a number (float).

    chunks: (chunk, 2, time) or (chunk, 1, time), at least one sample. quietest, loudest: from 0 on,
    the first not above the second.
    """
    ### BEGIN SOLUTION
    left, right = chunks[:, 0].double(), chunks[:, -1].double()
    square = (left.square() + right.square() + left * right).mean() / 3
    mean = (left + right).mean() / 2
    # E[g^2] E[u^2] - E[g]^2 E[u]^2, the middle of the gains apart from how far they spread
    middle, spread = (quietest + loudest) / 2, (loudest - quietest) ** 2 / 12
    u = chunks.double() - mean                                      # around the mean
    left, right = u[:, 0], u[:, -1]
    around = (left.square() + right.square() + left * right).mean() / 3
    return float(middle ** 2 * around + spread * square)
    ### END SOLUTION

# %%
# CHECK 4
chunks = torch.tensor([[[2.0, 4.0], [0.0, 8.0]]])  # (chunk, channel, time)
found = mixed_down(chunks, torch.tensor([0.25]), torch.tensor([3.0]))
assert found.shape == (1, 1, 2) and found.flatten().tolist() == [1.5, 21.0], (
    f"3 (2/4 + 0) and 3 (4/4 + 24/4): 1.5 and 21; you say {found}")
assert abs(expected_variance(torch.tensor([[[1.0, 3.0]]])) - 1) < 1e-6, (
    "one channel, 1 and 3, no gain: the variance is 1")
found = expected_variance(torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]))
assert abs(found - 1 / 3) < 1e-6, (
    f"channels that cancel: s = 2 a - 1, and minus that, whose square is 1/3 on average; {found}")
found = expected_variance(torch.full((1, 1, 4), 2.0), 0.0, 1.0)
assert abs(found - 4 / 12) < 1e-6, (
    f"a constant 2 with gains from 0 to 1: 4/12, the gains alone make it vary; you say {found}")
generator = torch.Generator().manual_seed(4)
chunks = torch.randn(3, 2, 60, generator=generator) + 0.5
chunks[:, 1] += chunks[:, 0]
uniform = lambda low, high: low + (high - low) * torch.rand(9000, generator=generator)
drawn = float(mixed_down(chunks.repeat(3000, 1, 1), uniform(0, 1), uniform(0.5, LOUDEST)).var())
found = expected_variance(chunks, 0.5, LOUDEST)
assert abs(found / drawn - 1) < 0.06, f"drawn 3000 times it is {drawn:.3f}; you say {found:.3f}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _variance(chunks, quietest, loudest):
    """Simpson's rule is exact for squares: shares 0, 1/2, 1, and the same for gains."""
    x, all_s, weights = chunks.double(), [], []
    for a, of_a in ((0.0, 1), (0.5, 4), (1.0, 1)):
        for g, of_g in ((quietest, 1), ((quietest + loudest) / 2, 4), (loudest, 1)):
            all_s.append(g * (a * x[:, 0] + (1 - a) * x[:, -1]))
            weights.append(of_a * of_g / 36)
    mean = sum(w * s.mean() for w, s in zip(weights, all_s))
    return float(sum(w * (s - mean).square().mean() for w, s in zip(weights, all_s)))

def _right(chunks, quietest, loudest, message, level=1.0):
    before = chunks.clone()
    found, expected = expected_variance(chunks, quietest, loudest), _variance(
        before, quietest, loudest)
    assert truth.equal(chunks, before), "expected_variance changes its argument"
    assert type(found) is float, f"a number (float) is asked for: {message}"
    scale = max(expected, 1e-12 * level ** 2)
    assert truth.close(found / scale, expected / scale, rtol=1e-3, atol=1e-6), (
        f"wrong variance: {message}, gains from {quietest:g} to {loudest:g}")

def _down(chunks, shares, gains, message, level=1.0):
    given = chunks, shares, gains
    before = [one.clone() for one in given]
    found = mixed_down(*given)
    assert truth.equal(list(given), before), "mixed_down changes its arguments"
    assert found.dtype == chunks.dtype, f"wrong precision: {message}"
    parts = [g * (a * one[:1].double() + (1 - a) * one[-1:].double())
             for one, a, g in zip(before[0], before[1].tolist(), before[2].tolist())]
    assert truth.close(found.double() / level, torch.stack(parts) / level, rtol=1e-3), (
        f"wrong downmix: {message}")

_generator = hidden.generator("chunks")
for _case in range(6):
    _count, _time = hidden.integer(f"count {_case}", 1, 5), hidden.integer(f"time {_case}", 1, 50)
    _x = torch.randn(_count, 2, _time, generator=_generator)
    _x = _x * torch.rand(_count, 2, 1, generator=_generator) + 0.3
    _low, _wide = hidden.real(f"low {_case}", 0.0, 1.0), hidden.real(f"wide {_case}", 0.1, 2.0)
    _shares, _gains = torch.rand(2, _count, generator=_generator)
    for _chunks in (_x, _x[:, :1], _x.flip(1), torch.stack([_x[:, 0], -_x[:, 0]], 1),
                    torch.stack([_x[:, 1], _x[:, 1]], 1)):
        _right(_chunks, _low, _low + _wide, f"chunks {tuple(_chunks.shape)}")
        _down(_chunks, _shares, _gains, f"chunks {tuple(_chunks.shape)}")
    _right(_x, 0.5, 0.5, "one gain")
    _right(_x, 0.0, 0.0, "a gain of 0")
_x = torch.randn(4, 2, 40, generator=_generator)
assert truth.close(expected_variance(_x), _variance(_x, 1.0, 1.0)), "gains of 1 by default"
_down(_x, torch.tensor([0.0, 1, 0.5, 0.25]), torch.tensor([0.0, 1, -2, 1e3]), "shares of 0 and 1")
_right(_x[:, :1] + 1000, 1.0, 1.0, "a signal with an offset of 1000")
_right(_x - hidden.real("offset", 900.0, 1100.0) - 0 * _x, 0.7, 0.7, "an offset, two channels")
_right(1e4 * (_x > 0), 0.2, 1.2, "samples of 0 and 10000")
_right(_x.mT.contiguous().mT, 0.3, 1.2, "not contiguous")
_right(_x[:1, :, :1], 0.3, 1.2, "one sample")
for _size in (1e-25, 1e25):
    _right(_size * _x, 0.5, 1.5, f"chunks of {_size:g}", _size)
for _edge, _level, (_x,) in edges.mutated(_x):
    _right(_x, 0.3, 1.2, _edge, _level)
    _down(_x, torch.rand(4, dtype=_x.dtype, generator=_generator), torch.ones(4, dtype=_x.dtype),
          _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: only as many stages as needed
#
# Residual quantisation (11.11) spends the same bits on every step, on silence as on a drum. Let it spend **as few stages as will do**: going through the codebooks in their order as always, each vector stops after the smallest number $n$ of stages (which may be 0) with
#
# $$ \lVert x - \hat x_n \rVert^2 \le \varepsilon\, \lVert x \rVert^2, \qquad \hat x_n = \sum_{i \le n} e^{(i)}_{s_i}, \quad \hat x_0 = 0 . $$
#
# A stage may make things *worse* (which codebook can't?). Where no number of stages will do, a vector takes the number with the smallest error, of equal ones the fewest. The symbol of a stage that isn't used is $-1$; of equally near codes the lowest number wins. Vectors and codes may again be as small as $10^{-25}$ or as large as $10^{25}$.

# %%
# TASK 5 (5 points): only as many stages as needed
def frugal_symbols(x, codebooks, tolerance):
    """The symbols of each vector, -1 for stages that aren't used: int64 (vector, stage).

    x: (vector, width), also none. codebooks: list of (codes, width), of any sizes, at least one.
    tolerance: epsilon, 0 or more.
    """
    ### BEGIN SOLUTION
    rest, symbols = x.double(), []
    errors = [rest.square().sum(-1)]
    for codebook in codebooks:
        away = (rest[:, None] - codebook.double()).square().sum(-1)     # (vector, code)
        symbols.append(away.argmin(1))
        rest = rest - codebook.double()[symbols[-1]]
        errors.append(rest.square().sum(-1))
    errors = torch.stack(errors, 1)                                 # (vector, 1 + stage)
    enough = errors <= tolerance * errors[:, :1]
    count = torch.where(enough.any(1), enough.int().argmax(1), errors.argmin(1))
    unused = torch.arange(len(codebooks)) >= count[:, None]
    return torch.stack(symbols, 1).masked_fill(unused, -1)
    ### END SOLUTION


def from_symbols(symbols, codebooks):
    """The vectors that such symbols stand for: (vector, width), of the codebooks' precision."""
    ### BEGIN SOLUTION
    found = codebooks[0].new_zeros(len(symbols), codebooks[0].shape[1])
    for stage, codebook in enumerate(codebooks):
        used = symbols[:, stage:stage + 1] >= 0
        found = found + codebook[symbols[:, stage].clamp_min(0)] * used
    return found
    ### END SOLUTION

# %%
# CHECK 5
books = [torch.tensor(pair)[:, None] for pair in ([0.0, 10.0], [-2.0, 2.0], [-1.0, 1.0])]
x = torch.tensor([[7.0], [10.0], [8.0], [0.0], [1.0]])
found = frugal_symbols(x, books, 0.0)
assert found.shape == (5, 3) and found.dtype == torch.int64, (
    f"five vectors, three stages, int64; you: {tuple(found.shape)}, {found.dtype}")
assert found.tolist()[0] == [1, 0, 0], f"7 = 10 - 2 - 1 takes all stages; you say {found[0]}"
assert found.tolist()[1:3] == [[1, -1, -1], [1, 0, -1]], (
    f"10 takes one stage, 8 = 10 - 2 two; you say {found[1:3]}")
assert found.tolist()[3] == [-1, -1, -1], f"0 takes none; you say {found[3]}"
assert found.tolist()[4] == [0, 1, 0], f"1 = 0 + 2 - 1: the second stage is no better; {found[4]}"
assert from_symbols(found, books).tolist() == x.tolist(), "all symbols of these stand for x itself"
coarse = frugal_symbols(torch.tensor([[7.0]]), books, 9 / 49 + 1e-9)
assert coarse.tolist() == [[1, -1, -1]], f"an error of 9 of 49 is allowed: one stage; {coarse}"
lone = frugal_symbols(torch.tensor([[3.0], [-4.0]]), [torch.tensor([[4.0]]), torch.tensor([[5.0]])],
                      0.01)
assert lone.tolist() == [[0, -1], [-1, -1]], (
    f"nothing is near enough: 3 is best as 4; -4 gets worse by any stage and takes none; {lone}")
draw = torch.Generator().manual_seed(5)
x, books = torch.randn(50, 3, generator=draw), [
    torch.randn(16, 3, generator=draw) / 2 ** n for n in range(4)]
found = from_symbols(frugal_symbols(x, books, SHARE), books)
left = (x - found).square().sum(1) / x.square().sum(1)
assert (left <= SHARE).float().mean() > 0.8, f"few vectors are within {SHARE} of their energy"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _symbols(x, codebooks, tolerance):
    """Vector by vector, with numbers of Python."""
    found = []
    for vector in x.double().tolist():
        square = lambda v: math.fsum(number * number for number in v)
        rest, symbols, errors = vector, [], [square(vector)]
        for codebook in codebooks:
            codes = codebook.double().tolist()
            away = [square([a - b for a, b in zip(rest, code)]) for code in codes]
            symbols.append(away.index(min(away)))
            rest = [a - b for a, b in zip(rest, codes[symbols[-1]])]
            errors.append(square(rest))
        within = [n for n, error in enumerate(errors) if error <= tolerance * errors[0]]
        count = within[0] if within else errors.index(min(errors))
        found.append(symbols[:count] + [-1] * (len(symbols) - count))
    return torch.tensor(found, dtype=torch.int64).reshape(len(x), len(codebooks))

def _right(x, codebooks, tolerance, message, level=1.0):
    before, books = x.clone(), [one.clone() for one in codebooks]
    found, expected = frugal_symbols(x, codebooks, tolerance), _symbols(before, books, tolerance)
    message = f"{message}, tolerance {tolerance:g}"
    assert found.dtype == torch.int64, f"symbols are int64: {message}"
    assert truth.equal(found, expected), f"wrong symbols: {message}"
    copy = expected.clone()
    back = from_symbols(expected, codebooks)
    wanted = torch.stack([sum((book[k].double() for book, k in zip(books, row) if k >= 0),
                              torch.zeros(x.shape[1], dtype=torch.float64))
                          for row in expected.tolist()]) if len(x) else x.double()
    assert back.dtype == books[0].dtype, f"wrong precision: {message}"
    assert truth.close(back.double() / level, wanted / level, rtol=1e-4), f"wrong vector: {message}"
    assert truth.equal(expected, copy), "from_symbols changes the symbols"
    assert truth.equal(x, before) and len(books) == len(codebooks) and all(
        truth.equal(a, b) for a, b in zip(codebooks, books)), "arguments are changed"

_generator = hidden.generator("vectors")
for _case in range(6):
    _width, _stages = (hidden.integer(f"{_name} {_case}", 1, 5) for _name in ("width", "stages"))
    _books = [torch.randn(hidden.integer(f"codes {_case} {_n}", 1, 12), _width,
                          generator=_generator) / 1.7 ** _n for _n in range(_stages)]
    _x = torch.randn(30, _width, generator=_generator)
    for _tolerance in (hidden.real(f"tolerance {_case}", 0.01, 0.5), 0.1):
        _right(_x, _books, _tolerance, f"{_stages} stages, {_width} numbers")
_books = [torch.randn(8, 3, generator=_generator) / 2 ** _n for _n in range(4)]
_x = torch.randn(40, 3, generator=_generator)
for _tolerance in (0.0, 1e-6, 0.999, 1.0, 3.0):
    _right(_x, _books, _tolerance, "tolerances of all kinds")
_right(_x, [4 + _books[0]] + _books[1:], 0.2, "a first codebook that makes everything worse")
_right(_x, _books[:1] * 3, 0.05, "the same codebook three times")
_right(_x, [_one[:1] for _one in _books], 0.2, "codebooks of one code")
_right(_books[0], _books, 0.0, "vectors that are codes")
_right(0 * _x, _books, 0.0, "vectors of zeros")
_right(_x[:0], _books, 0.1, "no vectors")
_grid = torch.randint(-3, 4, (50, 2), generator=_generator).float()
_corners = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])
_right(_grid, [2 * _corners, _corners, _corners / 2, _corners / 4], 0.125, "ties, exact errors")
_right(torch.tensor([[3.0], [5.0], [-1.0]]), [torch.tensor([[4.0]]), torch.tensor([[0.0]])], 0.01,
       "a stage that changes nothing")
_right(torch.tensor([[4.0, 0], [8, 0], [2, 0]]), [torch.tensor([[2.0, 0], [4, 0]])] * 2, 0.25,
       "an error of just the tolerance")
_right(torch.cat([_x, _x], 1)[:, ::2][:, :3], [_one.T.contiguous().T for _one in _books], 0.1,
       "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * _x, [_size * _one for _one in _books], 0.1, f"vectors of {_size:g}", _size)
for _edge, _level, _all in edges.mutated(_x, *_books):
    _right(_all[0], list(_all[1:]), 0.15, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: one large book, or several small ones?
#
# Eight bits for each vector of eight samples. They can be one codebook of 256 codes; or two of 16, **one after the other** (11.11); or two of 16 **side by side**, one for the first four samples and one for the last four; or four of 4, or eight of 2, one after the other. The bits are the same. Which is best, for the song whose books they are and for another one? The cell below gives you a song as vectors, books of both kinds by k-means, and the SNR.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: for the five ways the SNR of a song with its own books, and with those of the *next* song; and how many numbers must be stored for the books,
# - in how many of your songs one large book is ahead of two after each other, with its own books and with the next song's; and two after each other of two side by side,
# - a reading: what does the large book know that two small ones can't? What do books one after the other know that books side by side can't? May a song do *better* with another one's books than with its own?
# - for eight books of 2: the SNR after 2, 4 and 6 stages. What could a radio do with this that it can't with one large book? And one thing that this experiment can't tell.

# %%
# EXPERIMENT: a song as vectors, books one after the other or side by side; add your own cells
RATE, DIM = 22_050, 8  # Hz, samples of a vector


def vectors(number):
    """Four seconds of a song of the band, mono, in double precision: (vector, DIM)."""
    from course_lib.data import open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0)
    x = resample(song.mixture.mean(0, keepdim=True), song.rate, RATE)[0].double()
    return x[:len(x) // DIM * DIM].unflatten(0, (-1, DIM))


def one_after_the_other(z, books, codes):
    """Books (codes, DIM) for what the ones before left over, by k-means, and the way through."""
    from course_lib.jukebox import ResidualQuantiser
    quantiser = ResidualQuantiser.fit(z, books, codes)
    return lambda z, stages=None: quantiser.decode(quantiser.encode(z), stages)


def side_by_side(z, books, codes):
    """Books (codes, DIM / books), each for its own samples of the vector, and the way through."""
    parts = [one_after_the_other(part, 1, codes) for part in z.chunk(books, 1)]
    return lambda z: torch.cat([one(part) for one, part in zip(parts, z.chunk(books, 1))], 1)


def snr(z, found):
    """SNR in dB."""
    return float(10 * torch.log10(z.square().sum() / (z - found).square().sum()))

# For example:  z = vectors(0)
#               coded = one_after_the_other(z, 2, 16)
#               snr(z, coded(z)), snr(z, coded(z, 1))       # both stages, the first one alone
#               snr(z, one_after_the_other(vectors(1), 2, 16)(z))

# %% [markdown]
# <!-- TASK 6 (6 points): one large book, or several small ones? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, samples of a vector, how books are found, what is scored; eight bits a vector in all five ways, and only the way of spending them varies.
# - 2 points: the table with plausible numbers and the numbers stored (2048, 256, 128, 128 and 128), on more than one song with the number of songs in which each way is ahead, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: one large book is ahead of two after each other in *every* song, by 1.2 dB with own books and by 0.7 dB with the next song's, and stores eight times as many numbers. Its 256 codes may lie anywhere; those of two books of 16 are all sums, so that what the second one adds looks the same around each code of the first.
#   Two books after each other are ahead of two side by side in every song, too, by 1.9 dB: the first book sees all eight samples and says at once what goes through both halves, a slow bend above all; side by side each half is written as if the other weren't there, and what they have in common is paid for twice.
#   A song *may* do better with another one's books: with eight books of 2 half of the songs do, with one large book none. Each of several books is made for the error after its own stage, and not for what later stages can make of it, and k-means finds a local optimum; so own books need not be the best. An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: with eight books of 2 the first 2, 4 and 6 stages give 6.2, 9.1 and 11.1 dB of 12.5: whoever receives a part of the bits hears a coarser version, and a sender may cut each step where the line is bad; half of a symbol of the large book says nothing. And a limit, such as: these are vectors of samples, while a codec's are made by an encoder that learns together with its books, and may learn to suit them; SNR isn't what is heard; no entropy coder;
#   4 seconds of eight songs of one band; a large book of ten or twenty bits, where the small ones are needed, can't be tried.
#
# For comparison, means over the first eight test songs, seconds 8 to 12, with the cell above (SNR in dB).
#
# | | own books | the next song's books |
# |---|---|---|
# | 1 book of 256 | 15.87 | 14.66 |
# | 2 books of 16, one after the other | 14.66 | 13.93 |
# | 2 books of 16, side by side | 12.80 | 12.35 |
# | 4 books of 4, one after the other | 13.53 | 12.82 |
# | 8 books of 2, one after the other | 12.47 | 11.87 |
# | 8 books of 2, only the first 6 | 11.14 | 10.67 |
# | 8 books of 2, only the first 4 | 9.07 | 8.72 |
# | 8 books of 2, only the first 2 | 6.21 | 6.01 |
# <!-- END RUBRIC -->
