# %% [markdown]
# # Assignment 14 · What may stay
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 14, but none is a copy of it: you build the mask without anything added below the line, use it at several frame sizes down to a song of one sample, judge tags so that no certainty stops the gradient,
# let a gradient through a frozen codebook, and steer a whole batch in which one bad song costs itself only.
# Read what is asked for, above all at the edges (a bin that is silent in both, a tagger that is wholly sure, two codes that are equally near, a loss that isn't a number).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.tagbox` don't count as your own work, nor does changing
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
GAIN = variation.choice("gain", [0.25, 0.5, 0.75])  # of the steered signal
FRAME = variation.choice("frame", [32, 48, 64])  # samples
TAGS = variation.integer("tags", 4, 9)
CODES = variation.integer("codes", 5, 9)
RATE = variation.choice("rate", [0.05, 0.1, 0.2])  # of the optimiser

# %% [markdown]
# ## Task 1: what stays, and what is left
#
# The mask (14.1) of the spectra $J$ and $X$, without an $\varepsilon$: $M = |J| / \max(|J|, |X|)$, and 0 where $J$ is 0, also where both are. It gives two outputs, what stays, $M X$, and the residual, $X - M X$.
#
# The gradient by $J$ must be finite always, and 0 where $J$ is 0. What counts is the ratio: both may be $10^{-25}$ or $10^{25}$.

# %%
# TASK 1 (4 points): what stays, and what is left
def stays_and_rest(J, X):
    """(M X, X - M X), complex, of one shape. J, X: complex spectra, any axes. Differentiable."""
    ### BEGIN SOLUTION
    j, x = J.abs(), X.abs()
    top = torch.maximum(j, x)
    M = torch.where(j > 0, j / torch.where(top > 0, top, 1.0), 0.0)
    return M * X, X - M * X
    ### END SOLUTION

# %%
# CHECK 1
J = torch.tensor([3.0, 8j, 0, 0, 2])
X = torch.tensor([3 + 4j, 4j, 1, 0, 0])
stays, rest = stays_and_rest(J, X)
assert torch.allclose(stays, torch.tensor([1.8 + 2.4j, 4j, 0, 0, 0])), (
    f"masks 0.6, 1, 0, 0 and 1 of 3 + 4j, 4j, 1, 0 and 0; you say {stays}")
assert torch.allclose(rest, X - stays), f"the rest is what doesn't stay; you say {rest}"
soft = stays_and_rest(GAIN * X[:3], X[:3])[0]
assert torch.allclose(soft, GAIN * X[:3]), f"X {GAIN} times as loud as J: that is left; {soft}"
assert torch.allclose(stays_and_rest(1e-25 * J, 1e-25 * X)[0] * 1e25, stays), "the ratio counts"
leaf = J.clone().requires_grad_()
stays_and_rest(leaf, X)[0].abs().square().sum().backward()
assert leaf.grad.isfinite().all(), "the gradient isn't finite"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _right(J, X, message, level=1.0):
    before = J.clone(), X.clone()
    found = stays_and_rest(J, X)
    assert truth.equal([J, X], list(before)), "the function changes its arguments"
    stays = []
    for j, x in zip(before[0].flatten().tolist(), before[1].flatten().tolist()):
        stays.append(x * (abs(j) / max(abs(j), abs(x))) if j else 0j)
    stays = torch.tensor(stays, dtype=torch.complex128).reshape(J.shape)
    assert type(found) in (tuple, list) and len(found) == 2, "two outputs are asked for"
    expected = stays, before[1].to(torch.complex128) - stays
    for name, one, right in zip(("what stays", "the rest"), found, expected):
        assert one.dtype == X.dtype, f"wrong precision: {message}"
        assert truth.close(one / level, right / level), f"{name} is wrong: {message}"
    leaf = before[0].clone().requires_grad_()
    (stays_and_rest(leaf, X)[0] / level).abs().sum().backward()
    assert bool(torch.view_as_real(leaf.grad).isfinite().all()), f"no finite gradient: {message}"
    j, x = before[0].to(torch.complex128), before[1].to(torch.complex128)
    slope = torch.where((j.abs() > 0) & (j.abs() < x.abs()), j / (j.abs() + (j == 0)), 0)
    clear = (j.abs() - x.abs()).abs() > 1e-3 * level
    assert truth.close((leaf.grad * level)[clear], slope[clear], rtol=1e-2, atol=1e-3), (
        f"wrong gradient: {message}")

_generator = hidden.generator("spectra")
def _draw(*shape):
    return torch.randn(*shape, dtype=torch.complex64, generator=_generator)
for _case in range(4):
    _shape = [(9,), (2, 5, 4), (1, 1), (3, 2, 2, 3)][_case]
    _right(_draw(*_shape), _draw(*_shape), f"spectra {_shape}")
_J, _X = _draw(3, 8), _draw(3, 8)
_right(_X.clone(), _X, "J is X")
_right(0 * _J, _X, "J silent")
_right(_J, 0 * _X, "X silent")
_right(0 * _J, 0 * _X, "both silent")
_right(1e-6 * _J, _X, "J soft")
_right(1e6 * _J, _X, "J loud")
_right(_J.mT.contiguous().mT, _X.flip(0), "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * _J, _size * _X, f"spectra of {_size:g}", _size)
for _edge, _level, (_J, _X) in edges.mutated(_J, _X):
    _right(_J, _X, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: at several frame sizes
#
# Short frames show when, long ones which pitch. TagBox masks at several sizes and lets the taggers hear each. Give the masked audio of each size $n$: frames of $n$ samples, $n/2$ apart, the **square root of the periodic Hann window** before the transform and after the way back, and the mask of task 1 in between. Beyond the song's ends are zeros, on both sides as many as are needed, so that each sample lies in two frames; then the two windows, multiplied, add up to 1, and with $J = X$ the song comes back whole, even one of a single sample.

# %%
# TASK 2 (5 points): at several frame sizes
def masked_at(x, J, sizes):
    """What the mask leaves of x: (size, batch, time).

    x, J: (batch, time), the song and the steered signal, at least one sample. sizes: even numbers,
    samples of a frame. Differentiable by J, gradients finite.
    """
    ### BEGIN SOLUTION
    batch, time = x.shape
    found = []
    for n in sizes:
        hop = n // 2
        window = torch.hann_window(n, dtype=x.dtype).sqrt()
        padding = hop, hop + -time % hop
        X, K = (torch.fft.rfft(F.pad(one, padding).unfold(-1, n, hop) * window)
                for one in (x, J))                                  # (batch, frame, bin)
        j, top = K.abs(), torch.maximum(K.abs(), X.abs())
        M = torch.where(j > 0, j / torch.where(top > 0, top, 1.0), 0.0)
        frames = torch.fft.irfft(M * X, n) * window                 # (batch, frame, n)
        first, second = frames[..., :hop], frames[..., hop:]
        y = first[:, 1:] + second[:, :-1]                           # where two frames meet
        found.append(y.flatten(1)[:, :time])
    return torch.stack(found)
    ### END SOLUTION

# %%
# CHECK 2
x, noise = torch.randn(2, 2, 300, generator=torch.Generator().manual_seed(2))
found = masked_at(x, x, [FRAME, 16])
assert found.shape == (2, 2, 300), f"two sizes, (2, 2, 300); you: {tuple(found.shape)}"
assert torch.allclose(found, x.expand(2, 2, 300), atol=1e-4), "J = X: the song comes back whole"
assert torch.allclose(masked_at(x, GAIN * x, [FRAME])[0], GAIN * x, atol=1e-4), (
    f"J {GAIN} times the song: so is what stays")
assert masked_at(x, 0 * x, [FRAME]).abs().max() == 0, "J silent: nothing stays"
assert torch.allclose(masked_at(x[:, :1], x[:, :1], [8])[0], x[:, :1], atol=1e-5), "one sample"
assert not torch.allclose(*masked_at(x, noise, [8, 64]), atol=1e-2), "sizes make a difference"
leaf = (0 * x).requires_grad_()
masked_at(x, leaf, [16]).square().sum().backward()
assert leaf.grad.isfinite().all(), "J silent: the gradient isn't finite"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _masked(x, J, n):
    """Frame by frame, by the matrix of the DFT."""
    x, J, hop = x.double(), J.double(), n // 2
    t = torch.arange(n, dtype=torch.float64)
    window = torch.sin(math.pi * t / n)
    angle = 2 * math.pi * torch.outer(t, torch.arange(n).double()) / n
    matrix = torch.complex(angle.cos(), -angle.sin())
    count = -(-x.shape[1] // hop) + 1
    long = F.pad(x, (hop, count * hop - x.shape[1])), F.pad(J, (hop, count * hop - x.shape[1]))
    y = torch.zeros_like(long[0])
    for frame in range(count):
        piece = slice(frame * hop, frame * hop + n)
        X, K = ((one[:, piece] * window).to(torch.complex128) @ matrix for one in long)
        top = torch.maximum(X.abs(), K.abs())
        M = torch.where(top > 0, K.abs() / torch.where(top > 0, top, 1.0), 0.0)
        y[:, piece] += ((M * X) @ matrix.conj() / n).real * window
    return y[:, hop:hop + x.shape[1]]

def _right(x, J, sizes, message, level=1.0):
    before = x.clone(), J.clone()
    found = masked_at(x, J, sizes)
    assert truth.equal([x, J], list(before)), "the function changes its arguments"
    assert found.dtype == x.dtype, f"wrong precision: {message}"
    expected = torch.stack([_masked(*before, n) for n in sizes])
    assert truth.close(found / level, expected / level, rtol=1e-3, atol=1e-4), (
        f"wrong: {message}, songs {tuple(x.shape)}, sizes {sizes}")

_generator = hidden.generator("songs")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)
for _case in range(4):
    _time = hidden.integer(f"time {_case}", 20, 120)
    _sizes = [2 * hidden.integer(f"size {_case} {_n}", 2, 20) for _n in range(1 + _case)]
    _right(_draw(1 + _case % 3, _time), _draw(1 + _case % 3, _time), _sizes, "noise by noise")
_x, _J = _draw(2, 50), _draw(2, 50)
for _time in (1, 2, 7, 8, 9, 15, 16, 17):
    _right(_x[:, :_time], _J[:, :_time], [16], "songs of all lengths")
_right(_x, 3 * _x, [16, 16], "J louder, the same size twice")
_right(_x, 0.01 * _J, [20], "J soft")
_right(_x, 0 * _J, [20], "J silent")
_right(0 * _x, _J, [20], "a silent song")
_right(_x, _J, [4, 200], "a frame longer than the song")
_right(_x.mT.contiguous().mT, _J.flip(0), [12], "not contiguous")
for _message, _song, _other in (("J", _x, 0 * _J), ("both", 0 * _x, 0 * _J), ("x", 0 * _x, _J)):
    _leaf = _other.clone().requires_grad_()
    masked_at(_song, _leaf, [8, 16]).square().sum().backward()
    assert bool(_leaf.grad.isfinite().all()), f"silent: {_message}: the gradient isn't finite"
_leaf, _twin = (_J.clone().requires_grad_() for _ in range(2))
(masked_at(_x, _leaf, [16])[0] * _x.flip(1)).sum().backward()
(_masked(_x, _twin, 16) * _x.flip(1)).sum().backward()
assert truth.close(_leaf.grad, _twin.grad, rtol=2e-2, atol=1e-3), "the gradient by J is wrong"
for _edge, _level, (_x, _J) in edges.mutated(_x, _J):
    _right(_x, _J, [16, 10], _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: no certainty stops the gradient
#
# A tagger hears a song in chunks; a tag's probability is the **mean over chunks** of $\sigma(a)$, with log-odds $a$. TagBox' loss (14.2) is the binary cross entropy with the target (1 for the wanted tags, 0 for the others), the mean over tags, over taggers and over frame sizes. Taggers have different numbers of tags; each tagger counts the same.
#
# In 32 bits $\sigma(a)$ is exactly 1 from about $a = 17$ on, and the loss stands still where it should pull hardest (section 14.4). Compute it from the log-odds, so that loss and gradient are right for $a$ of $\pm 10{,}000$: `F.logsigmoid` and `torch.logsumexp` help.

# %%
# TASK 3 (5 points): no certainty stops the gradient
def tagging_loss(log_odds, targets):
    """The loss of each song: (batch,).

    log_odds: a list, for each tagger (size, batch, chunk, tag), numbers of chunks and tags may
    differ. targets: a list, for each tagger (tag,) of ones and zeros. Differentiable.
    """
    ### BEGIN SOLUTION
    losses = []
    for a, y in zip(log_odds, targets):
        many = math.log(a.shape[2])
        yes = many - torch.logsumexp(F.logsigmoid(a), 2)            # (size, batch, tag)
        no = many - torch.logsumexp(F.logsigmoid(-a), 2)
        losses.append(torch.where(y > 0, yes, no).mean((0, 2)))
    return torch.stack(losses).mean(0)
    ### END SOLUTION

# %%
# CHECK 3
y = (torch.arange(TAGS) == 1).float()
a = torch.zeros(2, 3, 1, TAGS)
found = tagging_loss([a], [y])
assert found.shape == (3,) and torch.allclose(found, torch.full((3,), math.log(2))), (
    f"three songs, all probabilities 1/2: ln 2 each; you say {found}")
found = float(tagging_loss([torch.tensor([math.log(3), 0.0]).view(1, 1, 2, 1)], [torch.ones(1)]))
assert abs(found + math.log(0.625)) < 1e-5, (
    f"chunks of 0.75 and 0.5, mean 0.625: {-math.log(0.625):.4f}; you say {found:.4f}")
two = [torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 4), 1.0)]
found = float(tagging_loss(two, [torch.ones(1), torch.zeros(4)]))
right = (math.log(2) + math.log(1 + math.e)) / 2
assert abs(found - right) < 1e-5, f"each tagger counts the same: {right:.4f}; you say {found:.4f}"
leaf = torch.full((1, 1, 1, 1), 10_000.0, requires_grad=True)
loss = tagging_loss([leaf], [torch.zeros(1)])
loss.sum().backward()
assert abs(float(loss.detach()[0]) - 10_000) < 1 and abs(float(leaf.grad.sum()) - 1) < 1e-4, (
    f"wholly sure and unwanted: loss 10,000, gradient 1; you: {loss}, {leaf.grad}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _loss(log_odds, targets):
    """With numbers of Python: the loss of each song."""
    found = []
    for b in range(log_odds[0].shape[1]):
        by_tagger = []
        for a, y in zip(log_odds, targets):
            terms = []
            for size in a[:, b].double().tolist():
                for tag, wanted in enumerate(y.tolist()):
                    logs = []
                    for chunk in size:
                        v = chunk[tag] if wanted else -chunk[tag]
                        logs.append(min(v, 0.0) - math.log1p(math.exp(-abs(v))))
                    top = max(logs)
                    terms.append(-top - math.log(sum(math.exp(v - top) for v in logs) / len(logs)))
            by_tagger.append(sum(terms) / len(terms))
        found.append(sum(by_tagger) / len(by_tagger))
    return torch.tensor(found, dtype=torch.float64)

def _right(log_odds, targets, message):
    before = [one.clone() for one in (*log_odds, *targets)]
    leaves = [one.clone().requires_grad_() for one in log_odds]
    found, expected = tagging_loss(leaves, targets), _loss(log_odds, targets)
    found.sum().backward()
    assert found.dtype == log_odds[0].dtype, f"wrong precision: {message}"
    message = f"{message}, log-odds {[tuple(a.shape) for a in log_odds]}"
    assert truth.close(found, expected, rtol=1e-4, atol=1e-6), f"wrong loss: {message}"
    for leaf, a, y in zip(leaves, log_odds, targets):
        sign = 2 * y.double() - 1
        v = a.double() * sign
        share = torch.softmax(F.logsigmoid(v), 2) * torch.sigmoid(-v)
        slope = -sign * share / (a.shape[0] * a.shape[3] * len(log_odds))
        assert truth.close(leaf.grad, slope, rtol=1e-3, atol=1e-7), f"wrong gradient: {message}"
    plain = tagging_loss(log_odds, targets)
    assert truth.close(plain, expected, rtol=1e-4, atol=1e-6), f"wrong loss: {message}"
    assert truth.equal([*log_odds, *targets], before), "the function changes its arguments"

_generator = hidden.generator("odds")
def _draw(*shape):
    return 3 * torch.randn(*shape, generator=_generator)
for _case in range(5):
    _batch, _sizes = 1 + _case % 3, hidden.integer(f"sizes {_case}", 1, 3)
    _odds, _targets = [], []
    for _n in range(1 + _case % 3):
        _tags = hidden.integer(f"tags {_case} {_n}", 1, 6)
        _odds.append(_draw(_sizes, _batch, hidden.integer(f"chunks {_case} {_n}", 1, 4), _tags))
        _targets.append((torch.rand(_tags, generator=_generator) < 0.4).float())
    _right(_odds, _targets, "taggers")
_a, _y = _draw(2, 2, 3, 5), torch.tensor([0.0, 1, 0, 1, 0])
for _size in (1.0, 20.0, 1e3, 1e4):
    _right([_size * _a], [_y], "sure and surer")
_right([torch.cat([0 * _a + 1e3, 0 * _a - 1e3], 2)], [_y], "chunks that contradict each other")
_right([_a], [0 * _y], "no tag wanted")
_right([_a], [0 * _y + 1], "all tags wanted")
_right([_a.mT.contiguous().mT, _a.flip(0)], [_y, _y.flip(0)], "not contiguous")
for _edge, _level, (_a,) in edges.mutated(_a, short=1, huge=1e4):
    _right([_a], [_y[:_a.shape[-1]].to(_a.dtype)], _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: straight through a frozen codebook
#
# Each vector of the embedding is replaced by the nearest code, and the gradient passes as if nothing had happened (14.4). The codebook is frozen: no gradient reaches it, nothing in it moves. Of equally near codes the lowest number wins. What comes out is the code **exactly**, bit for bit, though $z + (e - z)$ is not always $e$ in floats. Embedding and codes may lie a thousand times farther from the origin than from each other, and be as small as $10^{-25}$ or as large as $10^{25}$.

# %%
# TASK 4 (5 points): straight through a frozen codebook
def through_codes(z, codebook):
    """The nearest codes, (batch, width, step), with the gradient of z itself; and their numbers.

    z: (batch, width, step). codebook: (code, width), at least one. Returns codes and numbers, int64
    (batch, step).
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        book = codebook.double()
        away = (z.double().mT[:, :, None] - book).square().sum(-1)  # (batch, step, code)
        numbers = away.argmin(-1)

    class Through(torch.autograd.Function):
        @staticmethod
        def forward(context, z):
            return codebook.detach()[numbers].mT.to(z.dtype).clone()

        @staticmethod
        def backward(context, gradient):
            return gradient

    return Through.apply(z), numbers
    ### END SOLUTION

# %%
# CHECK 4
codebook = torch.randn(CODES, 3, generator=torch.Generator().manual_seed(4))
z = codebook[[2, 0, 4, 4]].T[None] + 0.01
codes, numbers = through_codes(z, codebook)
assert numbers.dtype == torch.int64 and numbers.tolist() == [[2, 0, 4, 4]], (
    f"numbers 2 0 4 4; you say {numbers}")
assert codes.shape == z.shape and torch.equal(codes[0].T, codebook[[2, 0, 4, 4]]), (
    "the codes themselves, bit for bit")
leaf, book = z.clone().requires_grad_(), codebook.clone().requires_grad_()
(through_codes(leaf, book)[0] * torch.arange(4.0)).sum().backward()
assert leaf.grad is not None and torch.equal(leaf.grad, torch.arange(4.0).expand(1, 3, 4)), (
    f"the gradient passes as it is; you say {leaf.grad}")
assert book.grad is None or not book.grad.any(), "the codebook is frozen"
tie = through_codes(torch.zeros(1, 1, 1), torch.tensor([[2.0], [1.0], [-1.0]]))[1]
assert tie.tolist() == [[1]], f"1 and -1 are as near to 0: the lower number; you say {tie}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _right(z, codebook, message):
    before = z.clone(), codebook.clone()
    leaf, book = z.clone().requires_grad_(), codebook.clone().requires_grad_()
    codes, numbers = through_codes(leaf, book)
    expected = torch.empty(z.shape[0], z.shape[2], dtype=torch.int64)
    for b in range(z.shape[0]):
        for t in range(z.shape[2]):
            vector = z[b, :, t].double().tolist()
            away = [math.fsum((v - w) ** 2 for v, w in zip(vector, code))
                    for code in codebook.double().tolist()]
            expected[b, t] = away.index(min(away))
    message = f"{message}, z {tuple(z.shape)}, codebook {tuple(codebook.shape)}"
    assert numbers.dtype == torch.int64 and codes.dtype == z.dtype, f"wrong type: {message}"
    assert truth.equal(numbers, expected), f"wrong numbers: {message}"
    assert truth.equal(codes, before[1][expected].mT), f"not the codes themselves: {message}"
    weights = torch.arange(z.numel()).view(z.shape).to(z.dtype) + 1
    (codes * weights).sum().backward()
    assert leaf.grad is not None and truth.equal(leaf.grad, weights), f"wrong gradient: {message}"
    assert book.grad is None or not bool(book.grad.any()), f"the codebook isn't frozen: {message}"
    plain = through_codes(z, codebook)[0]
    assert truth.equal(plain, before[1][expected].mT), f"not the codes themselves: {message}"
    assert truth.equal([z, codebook], list(before)), "the function changes its arguments"

_generator = hidden.generator("codes")
def _draw(*shape):
    return torch.randn(*shape, generator=_generator)
for _case in range(5):
    _width = hidden.integer(f"width {_case}", 1, 5)
    _right(_draw(1 + _case % 3, _width, hidden.integer(f"step {_case}", 1, 9)),
           _draw(hidden.integer(f"code {_case}", 1, 9), _width), "embeddings")
_z, _book = _draw(2, 3, 6), _draw(5, 3)
_right(_z, _book[[0, 1, 1, 0, 2]], "codes that are there twice")
_right(torch.zeros(1, 2, 3), torch.tensor([[3.0, 0], [0, -1], [1, 0], [-1, 0]]), "ties")
_right(_z, 0 * _book[:1], "one code of zeros")
_right(_z + 3000, _book + 3000, "far from the origin")
_right(_z, _book + 100, "codes far from the embedding")
_right(_z[:, :, :1], _book, "one step")
_right(_z.mT.contiguous().mT, _book.T.contiguous().T, "not contiguous")
for _size in (1e-25, 1e25):
    _right(_size * _z, _size * _book, f"vectors of {_size:g}")
for _edge, _level, (_z,) in edges.mutated(_z):
    _right(_z, (_level * _book).to(_z.dtype), _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: the loop, and one bad song
#
# Steer a batch by Adam (`torch.optim.Adam` with its defaults but for `lr`) on the embedding. In each step `judge(z)` gives one loss a song, (batch,), each of which depends on its own song alone; take the gradient of their sum, and move.
# - **One bad song must not end the others.** Where a song's loss isn't finite, or any number of its gradient isn't, its whole gradient counts as 0 in this step.
# - Losses go up and down. Give back, for each song, the embedding with the **smallest finite loss** of all that were judged, the first of equals; the start itself where no loss was finite. What the last move led to is judged, too: `steps` moves, `steps + 1` judgements.

# %%
# TASK 5 (6 points): the loop, and one bad song
def steer(z, judge, steps, lr):
    """The best embeddings, of z's shape, without a gradient, and all losses: (steps + 1, batch).

    z: (batch, width, step). judge: z -> (batch,), differentiable. steps: 0 or more.
    """
    ### BEGIN SOLUTION
    z = z.detach().clone().requires_grad_()
    adam, losses = torch.optim.Adam([z], lr=lr), []
    best, least = z.detach().clone(), torch.full((len(z),), math.inf, dtype=z.dtype)
    for step in range(steps + 1):
        loss = judge(z)
        losses.append(loss.detach().clone())
        better = loss.detach().isfinite() & (loss.detach() < least)
        best[better], least[better] = z.detach()[better], losses[-1][better]
        if step < steps:
            slope, = torch.autograd.grad(loss.sum(), z)
            good = loss.detach().isfinite() & slope.isfinite().flatten(1).all(1)
            z.grad = torch.where(good[:, None, None], slope, 0.0)
            adam.step()
    return best, torch.stack(losses)
    ### END SOLUTION

# %%
# CHECK 5
start = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(5))
bowl = lambda z: (z - 1).square().sum((1, 2))
best, losses = steer(start, bowl, 30, RATE)
assert best.shape == start.shape and losses.shape == (31, 3), (
    f"embeddings {tuple(start.shape)}, losses (31, 3); you: {tuple(best.shape)}, {losses.shape}")
assert torch.allclose(losses[0], bowl(start)), "the first losses are those of the start"
assert torch.allclose(losses[1], bowl(start + RATE * (1 - start).sign()), atol=1e-3), (
    "Adam's first move is lr in every number, downhill")
assert torch.allclose(bowl(best), losses.amin(0)), "the best are those of the smallest loss"
assert not best.requires_grad, "without a gradient"
def with_a_bad_one(z):
    loss = bowl(z)
    return torch.where(torch.arange(len(z)) == 1, loss + math.nan, loss)
again, losses = steer(start, with_a_bad_one, 30, RATE)
assert torch.allclose(again[[0, 2]], best[[0, 2]]), "the bad song changes the good ones"
assert torch.equal(again[1], start[1]), "without a finite loss the start is given back"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _steered(z, judge, number, steps, lr):
    """Song `number` by Adam's formulas."""
    z = z.clone()
    m, v, best, least, losses = 0 * z[number], 0 * z[number], z[number].clone(), math.inf, []
    for step in range(steps + 1):
        leaf = z.clone().requires_grad_()
        loss = judge(leaf)[number]
        losses.append(float(loss.detach()))
        if math.isfinite(losses[-1]) and losses[-1] < least:
            best, least = z[number].clone(), losses[-1]
        slope, = torch.autograd.grad(loss, leaf)
        slope = slope[number]
        if not math.isfinite(losses[-1]) or not bool(slope.isfinite().all()):
            slope = 0 * z[number]
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope ** 2
        z[number] -= lr * (m / (1 - 0.9 ** (step + 1))) / (
            (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return best, losses

def _right(z, judge, steps, lr, message):
    before, calls = z.clone(), []
    def counted(z):
        calls.append(1)
        return judge(z)
    best, losses = steer(z, counted, steps, lr)
    count = len(calls)
    assert truth.equal(z, before), "the function changes its argument"
    message = f"{message}, z {tuple(z.shape)}, {steps} steps of {lr:g}"
    assert count == steps + 1, f"{steps + 1} judgements: {message}"
    assert best.dtype == z.dtype and not best.requires_grad, f"wrong type: {message}"
    assert truth.has_shape(losses, steps + 1, len(z)), f"all losses: {message}"
    for number in range(len(z)):
        right, expected = _steered(before.double(), judge, number, steps, lr)
        expected = torch.tensor(expected).double().nan_to_num(-7.0)
        assert truth.close(losses[:, number].double().nan_to_num(-7.0), expected, rtol=1e-2,
                           atol=1e-3), f"wrong losses of song {number}: {message}"
        assert truth.close(best[number], right, rtol=1e-2, atol=2e-3), (
            f"wrong embedding of song {number}: {message}")

_generator = hidden.generator("embeddings")
_z = torch.randn(4, 2, 3, generator=_generator)
_middle = torch.randn(4, 2, 3, generator=_generator)
def _bowl(z):
    return (z - _middle[:len(z), :, :z.shape[2]].to(z.dtype)).square().sum((1, 2))
for _steps in (0, 1, 2, 12):
    _right(_z, _bowl, _steps, hidden.real("lr", 0.05, 0.3), "a bowl")
_right(_z, _bowl, 12, 1.5, "large moves, up and down")
_right(_z, lambda z: -_bowl(z).neg().exp() * 5, 8, 0.1, "a narrow valley")
_right(_z, lambda z: (z.sum((1, 2)) * 0), 4, 0.1, "a flat loss")
_right(_z, lambda z: (z - z.detach()).sum((1, 2)), 4, 0.1, "equal losses")
_right(_z[:1], _bowl, 6, 0.1, "one song")
def _bad(value, when):
    def judge(z):
        loss = _bowl(z)
        bad = torch.tensor([False, True, False, False]) & when(z)
        return torch.where(bad, value + loss, loss)
    return judge
for _value in (math.nan, math.inf, -math.inf):
    _right(_z, _bad(_value, lambda z: torch.tensor(True)), 5, 0.1, f"a song of {_value}")
    _right(_z, _bad(_value, lambda z: _bowl(z.detach()) < 0.8 * _bowl(_z)), 9, 0.2,
           f"a song that becomes {_value}")
    _right(_z, _bad(_value, lambda z: ((_bowl(z.detach()) - 0.75 * _bowl(_z)).abs()
                                       < 0.15 * _bowl(_z))), 9, 0.2, f"a while of {_value}")
def _one_number(z):
    """A gradient of song 1 in which one number isn't finite."""
    number = z[1:2, 0, 0]
    return _bowl(z) + F.pad((number - number.detach()).abs().sqrt(), (1, 2))
_right(_z, _one_number, 4, 0.1, "a gradient of which one number isn't finite")
for _edge, _level, (_z,) in edges.mutated(
        _z, without={"huge": "Adam's steps do not depend on the gradient's size"}):
    _right(_z, _bowl, 6, 0.1, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: which score for which mistake?
#
# The order of methods in chapter 14 depends on the score. Why? Leave the tagger out, and suppose that the decoder were perfect but for one thing: $J$ is the true stem, at a wrong level. Or there is no decoder at all, and the estimate is the mixture, turned down. The cell below gives you stems, the mask, and SDRi and SI-SDRi.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table of SDRi and SI-SDRi, mean over stems: the mixture turned down by half; the mask with $J$ the stem itself, twice as loud, half as loud, and four times as soft (a quarter of its amplitude),
# - in how many of your songs the mixture turned down "gains" SDR,
# - a reading: which rows do the two scores judge differently, and why? What does a too loud $J$ do to the mask, what a too soft one? Which score would you trust for TagBox, whose decoder knows no level?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: a perfect decoder at a wrong level; add your own cells
SIZE = 1024  # samples of a frame


def stems_of(number):
    """Four seconds of a song of the band, mono at 22,050 Hz: its four stems, (4, time)."""
    from course_lib.data import STEMS, open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0)
    return resample(song.sources(STEMS).mean(1), song.rate, 22_050)


def masked(stems, gain):
    """What the mask leaves of the mixture for each stem as J, `gain` times as loud."""
    from course_lib.tagbox import masked_audio
    return torch.stack([masked_audio(stems.sum(0, keepdim=True), gain * one[None], SIZE)[0]
                        for one in stems])


def gains(estimates, stems):
    """SDRi and SI-SDRi in dB, means over the stems that have one."""
    from course_lib.metrics import sdr, si_sdr
    mixture = stems.sum(0).expand_as(stems)
    return [float((score(estimates, stems) - score(mixture, stems)).nanmean())
            for score in (sdr, si_sdr)]

# For example:  stems = stems_of(0)
#               gains(masked(stems, 2.0), stems)            # J twice as loud
#               gains(stems.sum(0).expand_as(stems) / 2, stems)

# %% [markdown]
# <!-- TASK 6 (5 points): which score for which mistake? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, frame size, that $J$ is the true stem and only its level varies, what the scores are gained over.
# - 1 point: the table with plausible numbers, on more than one song, and that the mixture turned down "gains" SDR in every song, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: the mixture at half its level gains 4.7 dB of SDR and nothing of SI-SDR: what isn't the stem got softer, and SDR prices the error, in which the others are the larger part; SI-SDR is the same at every level.
#   A too soft $J$ costs SDR only, 3.3 dB at half and 5.8 dB at a quarter, for the mask is then simply smaller nearly everywhere, and SI-SDR forgives that, it even rises by 0.2 dB. A too loud $J$ costs both, 2.7 and 2.3 dB: more of the mask is held at 1, where all of the mixture comes through, and no scale can repair it.
#   So of two methods one can be ahead by SDR for being at the right level, the other by SI-SDR for being right in shape; for TagBox, whose decoder is trained for levels that aren't those of a stem, SI-SDR is the fairer one, or both beside each other. An answer with the right numbers in which the reason is missing or wrong gets one point.
# - 1 point: a limit, such as: a real decoder's $J$ is wrong in more than level; the residual output isn't scored; six songs of four seconds of one band, one frame size; nobody has listened; the stems' own levels are not those of other songs.
#
# For comparison, means over the first six test songs, seconds 8 to 12, with the cell above (dB, mean over stems).
#
# | | SDRi | SI-SDRi |
# |---|---|---|
# | the mixture at half its level | 4.69 | 0.00 |
# | J the stem | 12.85 | 12.17 |
# | J twice as loud | 10.14 | 9.90 |
# | J half as loud | 9.51 | 12.39 |
# | J four times as soft | 7.04 | 12.36 |
# <!-- END RUBRIC -->
