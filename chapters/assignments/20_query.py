# %% [markdown]
# # Assignment 20 · Asked and answered
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 20, but none is a copy of it: you answer questions such as "anything but the voice", fold a question into the weights of a layer,
# say what an example sounds like at any level, make a loss of questions that survives silence and missing questions, and draw examples so that every song has its turn.
# Read what is asked for, above all at the edges (a source of NaN that nobody asked for, a deviation of 0, an example of one sample, a silent mixture, u a hair below a third).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.query` don't count as your own work, nor does changing
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
GAIN = variation.integer("gain", 2, 5)
SHIFT = variation.integer("shift", 3, 9)
SIZE = variation.integer("size", 4, 7)  # samples
FLOOR = variation.choice("floor", [0.001, 0.01, 0.1])
SONGS = variation.integer("songs", 3, 6)

# %% [markdown]
# ## Task 1: anything but the voice
#
# In (20.2) a question is a set of sources. Here it is two lists of tags, `some` and `none`, in which a tag may stand several times. A source answers if it has **at least one** tag of `some` and **no** tag of `none`; where `some` is `None`, any source does that has no tag of `none`. The target is the sum of the sources that answer, silence if there are none. What doesn't answer must not reach the target, even if it is NaN or infinite.
#
# The condition is (20.3) with signs: the columns of the tags in `some` are added, those of `none` taken off, each tag **once**; `None` adds nothing. A tag that stands in both lists counts as one of `none`. A tag that isn't `known`, in either list, is a `ValueError`.

# %%
# TASK 1 (5 points): anything but the voice
def answer_to(some, none, sources, tags):
    """The target (time,), and the numbers of the sources that answer: a list of int, rising.

    some: list of tags, or None. none: list of tags. sources: floats (source, time). tags: a set of
    tags for each source.
    """
    ### BEGIN SOLUTION
    fit = [n for n, own in enumerate(tags)
           if (some is None or own & set(some)) and not own & set(none)]
    return sources[fit].sum(0), fit
    ### END SOLUTION


def condition_to(some, none, known, table):
    """The condition, (condition,). known: list of tags. table: floats (condition, tag)."""
    ### BEGIN SOLUTION
    plus, minus = set(some or ()), set(none)
    if not plus | minus <= set(known):
        raise ValueError(f"unknown tags {(plus | minus) - set(known)}; expected some of {known}")
    signs = [-1.0 if tag in minus else 1.0 if tag in plus else 0.0 for tag in known]
    return table @ torch.tensor(signs, dtype=table.dtype)
    ### END SOLUTION

# %%
# CHECK 1
sources = torch.tensor([[1.0, 2], [10, 20], [100, 200], [math.nan, 0]])
tags = [{"piano", "keys"}, {"voice"}, {"voice", "keys"}, {"drums"}]
for some, none, fit in ((["keys"], [], [0, 2]), (["keys", "voice", "keys"], ["piano"], [1, 2]),
                        (None, ["drums", "voice"], [0]), (["brass"], [], []), ([], [], [])):
    target, found = answer_to(some, none, sources, tags)
    assert list(found) == fit, f"some {some}, none {none}: sources {fit}; you say {found}"
    expected = sum((sources[n] for n in fit), torch.zeros(2))
    assert torch.equal(target, expected), (
        f"some {some}, none {none}: {expected}; you say {target}")
known = ["piano", "keys", "voice"]
table = torch.tensor([[1.0, 10, 100], [GAIN, 0, 0]])
found = condition_to(["piano", "keys", "keys", "voice"], ["voice"], known, table)
assert found.tolist() == [-89, GAIN], (
    f"1 + 10 - 100, and {GAIN}: voice counts as none; you say {found}")
assert not condition_to(None, [], known, table).any(), "nothing asked: zeros"
refused = False
try:
    condition_to(["piano"], ["tuba"], known, table)
except ValueError:
    refused = True
assert refused, "a tag that isn't known is a ValueError, in either list"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
_known = ["a", "b", "c", "d", "e", "f"]
def _answer(some, none, sources, tags, message, level=1.0):
    given = [None if some is None else list(some), list(none), [set(own) for own in tags]]
    before = sources.nan_to_num(7.0).clone()
    target, found = answer_to(given[0], given[1], sources, given[2])
    message = f"{message}: some {some}, none {none}, tags {[sorted(own) for own in tags]}"
    assert given == [some, none, tags] and truth.equal(sources.nan_to_num(7.0), before), (
        "answer_to changes its arguments")
    fit = []
    for n, own in enumerate(tags):
        if some is not None and not any(tag in own for tag in some):
            continue
        if not any(tag in own for tag in none):
            fit.append(n)
    assert type(found) is list and all(type(n) is int for n in found), f"a list of int, {message}"
    assert found == fit, f"wrong sources, {message}"
    assert target.dtype == sources.dtype, f"wrong precision, {message}"
    expected = torch.zeros(sources.shape[1], dtype=torch.float64)
    for n in fit:
        expected = expected + sources[n].double()
    assert truth.close(target.double() / level, expected / level), f"wrong target, {message}"

def _condition(some, none, known, table, message, level=1.0):
    given = [None if some is None else list(some), list(none), list(known)]
    before = table.clone()
    found = condition_to(given[0], given[1], given[2], table)
    message = f"{message}: some {some}, none {none}, known {known}"
    assert given == [some, none, known] and truth.equal(table, before), (
        "condition_to changes its arguments")
    assert truth.has_shape(found, len(table)), f"wrong shape, {message}"
    assert found.dtype == table.dtype, f"wrong precision, {message}"
    expected = torch.zeros(len(table), dtype=torch.float64)
    for k, tag in enumerate(known):
        sign = -1 if tag in none else 1 if some is not None and tag in some else 0
        expected = expected + sign * table[:, k].double()
    assert truth.close(found.double() / level, expected / level), f"wrong condition, {message}"

def _refuses(some, none, known, table):
    refused = False
    try:
        condition_to(some, none, known, table)
    except ValueError:
        refused = True
    assert refused, f"some {some}, none {none}, known {known}: expected a ValueError"

_generator = hidden.generator("songs")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
_pick = lambda name, most: [_known[hidden.integer(f"{name} {n}", 0, 5)]
                            for n in range(hidden.integer(name, 0, most))]
for _case in range(8):
    _count = hidden.integer(f"count {_case}", 1, 6)
    _tags = [set(_pick(f"tags {_case} {_n}", 3)) for _n in range(_count)]
    _sources = _draw(_count, hidden.integer(f"time {_case}", 1, 9))
    _some, _none = _pick(f"some {_case}", 4), _pick(f"none {_case}", 2)
    _some = None if _case % 4 == 3 else _some
    _answer(_some, _none, _sources, _tags, "songs")
    _condition(_some, _none, _known, _draw(hidden.integer(f"width {_case}", 1, 5), 6), "conditions")
_sources, _tags = _draw(4, 9), [{"a"}, {"a", "b"}, set(), {"c"}]
_answer(None, [], _sources, _tags, "everything")
_answer([], [], _sources, _tags, "nothing")
_answer([], ["a"], _sources, _tags, "nothing but")
_answer(None, ["a", "c"], _sources, _tags, "a source without tags")
_answer(["a", "b"], [], _sources, _tags, "one that fits twice")
_answer(["a", "a"], ["a"], _sources, _tags, "the same asked and not")
_answer(["x"], ["y"], _sources, _tags, "tags that no source has")
_answer(["a"], [], _sources[:0], [], "no sources")
_answer(["a"], [], _sources[:, :0], _tags, "no samples")
_answer(["aa"], [], _sources, [{"a"}, {"aa"}, {"aaa"}, {"b"}], "names within names")
for _bad in (math.nan, math.inf, -math.inf):
    _worse = _sources.clone()
    _worse[3] = _bad
    _answer(["a"], ["c"], _worse, _tags, f"{_bad} in what isn't asked for")
_answer(["a"], [], _sources.T.contiguous().T, _tags, "not contiguous")
_table = _draw(3, 6)
_condition(["a", "f"], ["a", "a", "b"], _known, _table, "in both, and twice")
_condition(["c"] * 5, [], _known, _table, "five times")
_condition(None, ["c"] * 3, _known, _table, "only none")
_condition([], [], _known, _table, "nothing")
_condition([], [], [], _table[:, :0], "nothing known")
_condition(["f", "a"], [], _known[::-1], _table.T.contiguous().T, "another order")
for _lists in ((["z"], []), ([], ["z"]), (["a", "z"], ["b"]), (["z"], ["z"]), (None, ["a", "z"]),
               (["A"], []), ([""], [])):
    _refuses(*_lists, _known, _table)
for _edge, _level, (_x, _w) in edges.mutated(_sources, _draw(9, 6).T, tiny=1e-30, huge=1e30):
    _answer(["a", "c"], [], _x, _tags, _edge, _level)
    _condition(["a", "c"], ["e"], _known, _w.T.contiguous(), _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: the question folded away
#
# FiLM (20.5) for several questions to each mixture: $x$ is heard once, every question has its own $\gamma$ and $\beta$, and the answers stand side by side. Channels are the *second* axis here, and any number of axes may follow, or none.
#
# In the network of section 20.5 FiLM stands behind a linear layer and a batch norm. If one question is asked of a whole song, why calculate three things a frame? At evaluation the norm is $y \mapsto w\, (y - \text{mean}) / \sqrt{\text{var} + \epsilon} + b$ for each channel. Find **one** linear layer that does all three.

# %%
# TASK 2 (5 points): the question folded away
def film(x, gamma, beta):
    """gamma x + beta for each question: (batch, question, channel, ...).

    x: (batch, channel, ...). gamma, beta: (batch, question, channel).
    """
    ### BEGIN SOLUTION
    more = (...,) + (None,) * (x.ndim - 2)
    return x[:, None] * gamma[more] + beta[more]
    ### END SOLUTION


def folded(weight, bias, norm, gamma, beta):
    """Weight (out, in) and bias (out,) of the layer that does linear layer, norm and FiLM.

    weight: (out, in). bias: (out,) or None. norm: dict of mean, var, weight and bias, (out,) each,
    and eps, a number above 0. gamma, beta: (out,), of one question.
    """
    ### BEGIN SOLUTION
    mean, var, w, b = (norm[name].double() for name in ("mean", "var", "weight", "bias"))
    factor = gamma.double() * w / (var + norm["eps"]).sqrt()
    offset = (0 if bias is None else bias.double()) - mean
    shift = gamma.double() * b + beta.double()
    return (factor[:, None] * weight.double()).to(weight.dtype), (
        factor * offset + shift).to(weight.dtype)
    ### END SOLUTION

# %%
# CHECK 2
x = torch.tensor([[[1.0, 2], [3, 4]]])  # one mixture, two channels, two frames
gamma = torch.tensor([[[1.0, 1], [0, GAIN], [-1, 0]]])
beta = torch.tensor([[[0.0, 0], [SHIFT, 0], [0, SHIFT]]])
found = film(x, gamma, beta)
assert found.shape == (1, 3, 2, 2), f"three questions: (1, 3, 2, 2); you: {tuple(found.shape)}"
expected = torch.tensor([[[1.0, 2], [3, 4]], [[SHIFT, SHIFT], [3 * GAIN, 4 * GAIN]],
                         [[-1, -2], [SHIFT, SHIFT]]])
assert torch.equal(found[0], expected), f"expected\n{expected}\nyou say\n{found[0]}"
assert film(x[..., 0], gamma, beta).shape == (1, 3, 2), "no axes behind the channels: (1, 3, 2)"
generator = torch.Generator().manual_seed(2)
weight, bias = torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)
norm = dict(mean=torch.tensor([0.0, 1, 2, 3]), var=torch.tensor([1.0, 4, 0.25, 9]),
            weight=torch.tensor([1.0, 2, -1, 0.5]), bias=torch.tensor([0.0, 1, 0, SHIFT]), eps=1e-5)
gamma, beta = torch.randn(2, 4, generator=generator)
h = torch.randn(5, 3, generator=generator)
wanted = gamma * F.batch_norm(h @ weight.T + bias, norm["mean"], norm["var"], norm["weight"],
                              norm["bias"], eps=norm["eps"]) + beta
one, two = folded(weight, bias, norm, gamma, beta)
assert one.shape == (4, 3) and two.shape == (4,), (
    f"a layer of (4, 3) and (4,); you: {tuple(one.shape)}, {tuple(two.shape)}")
assert torch.allclose(h @ one.T + two, wanted, atol=1e-4), "one layer should do what three do"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _film(x, gamma, beta, message, level=1.0):
    given = x, gamma, beta
    before = [one.clone() for one in given]
    found = film(*given)
    message = f"{message}: x {tuple(x.shape)}, gamma {tuple(gamma.shape)}"
    assert truth.equal(list(given), before), "film changes its arguments"
    assert truth.has_shape(found, *gamma.shape, *x.shape[2:]), f"wrong shape, {message}"
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    expected = torch.stack([torch.stack([torch.stack([
        before[0][n, k] * before[1][n, q, k] + before[2][n, q, k] for k in range(x.shape[1])])
        for q in range(gamma.shape[1])]) for n in range(len(x))])
    assert truth.close(found / level, expected / level), f"wrong answers, {message}"

def _folded(weight, bias, norm, gamma, beta, message, level=1.0, rtol=1e-4):
    names = ("mean", "var", "weight", "bias")
    given = [weight, gamma, beta, *(norm[name] for name in names)]
    given += [] if bias is None else [bias]
    before, keys = [one.clone() for one in given], dict(norm)
    found = folded(weight, bias, norm, gamma, beta)
    message = f"{message}: weight {tuple(weight.shape)}"
    assert truth.equal(given, before) and list(norm) == list(keys), "folded changes its arguments"
    assert type(found) in (tuple, list) and len(found) == 2, f"a weight and a bias, {message}"
    assert truth.has_shape(found[0], *weight.shape), f"wrong shape of the weight, {message}"
    assert truth.has_shape(found[1], len(weight)), f"wrong shape of the bias, {message}"
    assert found[0].dtype == found[1].dtype == weight.dtype, f"wrong precision, {message}"
    rows, offsets = [], []
    for k in range(len(weight)):
        slope = float(gamma[k]) * float(norm["weight"][k]) / math.sqrt(
            float(norm["var"][k]) + norm["eps"])
        rows.append([slope * float(value) for value in weight[k]])
        own = 0.0 if bias is None else float(bias[k])
        offsets.append(slope * (own - float(norm["mean"][k])) + float(gamma[k]) * float(
            norm["bias"][k]) + float(beta[k]))
    wanted = torch.tensor(rows, dtype=torch.float64).reshape(weight.shape)
    assert truth.close(found[0].double() / level, wanted / level, rtol=rtol, atol=rtol / 10), (
        f"wrong weight, {message}")
    wanted = torch.tensor(offsets, dtype=torch.float64)
    assert truth.close(found[1].double() / level, wanted / level, rtol=rtol, atol=rtol), (
        f"wrong bias, {message}")

_generator = hidden.generator("layers")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
def _norm(out, eps=1e-5):
    return dict(mean=_draw(out), var=torch.rand(out, generator=_generator) + 0.1,
                weight=_draw(out), bias=_draw(out), eps=eps)

for _case in range(6):
    _batch, _questions = 1 + _case % 3, hidden.integer(f"questions {_case}", 1, 4)
    _channels = hidden.integer(f"channels {_case}", 1, 5)
    _x = _draw(_batch, _channels, *(2, 3, 4)[:_case % 4])
    _film(_x, _draw(_batch, _questions, _channels), _draw(_batch, _questions, _channels), "a net")
    _out, _in = hidden.integer(f"out {_case}", 1, 5), hidden.integer(f"in {_case}", 1, 5)
    _folded(_draw(_out, _in), None if _case % 2 else _draw(_out),
            _norm(_out, (1e-5, 0.5)[_case % 2]), _draw(_out), _draw(_out), "a layer")
_x, _g, _b = _draw(3, 3, 3, 3), _draw(3, 3, 3), _draw(3, 3, 3)
_film(_x, _g, _b, "three of everything")
_film(_x[..., 0], _g, _b, "three of everything, one axis less")
_film(_x, 0 * _g, _b, "gamma 0")
_film(_x[..., :0], _g, _b, "no frames")
_film(_x.transpose(1, 2).contiguous().transpose(1, 2), _g.mT.contiguous().mT, _b, "not contiguous")
_w, _v = _draw(4, 3), _draw(4)
_n, _g4, _b4 = _norm(4), _draw(4), _draw(4)
_flat = dict(_n, var=torch.zeros(4))
_folded(_w, _v, _flat, _g4, _b4, "a deviation of 0", 100.0)
_folded(_w, _v, dict(_flat, eps=1e-12), _g4, _b4, "a deviation of 0, a small eps", 1e6)
_folded(_w, _v, dict(_n, eps=3.0), _g4, _b4, "a large eps")
_folded(_w, _v, _n, 0 * _g4, _b4, "gamma 0")
_folded(_w, _v, dict(_n, weight=0 * _v), _g4, _b4, "norm's weight 0")
_folded(_w[:, :0], _v, _n, _g4, _b4, "no inputs")
_folded(_draw(4, 4), _v, _n, _g4, _b4, "as many inputs as outputs")
_folded(_w.T.contiguous().T, None, _n, -_g4, _b4, "not contiguous")
_wide = dict(_n, var=_n["var"] * torch.tensor([1e-6, 1.0, 1e6, 1e12]))
_folded(_w, _v, _wide, _g4, _b4, "deviations of all sizes", 100.0)
_leaf, _twin = (_g4.clone().requires_grad_() for _ in range(2))
sum(one.sum() for one in folded(_w, _v, _n, _leaf, _b4)).backward()
_slope = _n["weight"] / (_n["var"] + _n["eps"]).sqrt()
(_twin * (_slope * (_w.sum(1) + _v - _n["mean"]) + _n["bias"])).sum().backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-4), (
    "the gradient by gamma is wrong")
for _edge, _level, (_y,) in edges.mutated(_draw(3, 3, 6), tiny=1e-30, huge=1e30):
    _film(_y, _g.to(_y.dtype), (_level * _b).to(_y.dtype), _edge, _level)
    _kind = lambda one: one.to(_y.dtype)
    _double = {name: _kind(one) if name != "eps" else one for name, one in _n.items()}
    _folded(_kind(_w), _kind(_v), _double, _kind(_level * _g4), _kind(_level * _b4), _edge, _level,
            1e-10 if _edge == "other type" else 1e-4)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: what, not how loud
#
# An example (section 20.2) is cut into pieces of `size` samples, one after the other. If the last one would be too short, take the last `size` samples instead: they overlap with the piece before. An example shorter than `size` is repeated from its beginning until it is long enough.
#
# Pieces whose RMS is less than a twentieth of the loudest one's don't count. The others are brought to the RMS `level`, and described by `f`: **one** call, (piece, sample) to (piece, feature). The answer is the mean of these descriptions, brought to norm 1; where the mean is 0 it stays 0. If nothing sounds at all, the answer is `None`, and `f` isn't called.
#
# An example may be as soft as $10^{-30}$ or as loud as $10^{25}$.

# %%
# TASK 3 (5 points): what, not how loud
def described(f, x, size, level):
    """The description of an example, (feature,), or None. x: floats (time,), one sample or more.

    f: a function. size: 1 or more. level: above 0.
    """
    ### BEGIN SOLUTION
    top = x.abs().max()
    if top == 0:
        return None
    y = (x / top).double()
    time = len(y)
    if time < size:
        y = y.repeat(-(-size // time))[:size]
    begins = list(range(0, len(y) - size + 1, size))
    if begins[-1] + size < len(y):
        begins.append(len(y) - size)
    pieces = torch.stack([y[begin:begin + size] for begin in begins])
    rms = pieces.square().mean(1).sqrt()
    heard = rms >= rms.max() / 20
    pieces = pieces[heard] * (level / rms[heard])[:, None]
    return F.normalize(f(pieces.to(x.dtype)).mean(0), dim=0, eps=1e-30)
    ### END SOLUTION

# %%
# CHECK 3
calls = []
def ends(pieces):
    """First and last sample of every piece, and a note of the call."""
    calls.append(pieces)
    return pieces[:, [0, -1]]

x = torch.tensor([3.0] * SIZE + [0.0] * SIZE + [-3.0] * (SIZE + 1))
found = described(ends, x, SIZE, 2.0)
assert len(calls) == 1, f"one call of f; you made {len(calls)}"
assert calls[0].shape == (3, SIZE), (
    f"4 pieces, of which one is silent: ({3}, {SIZE}); you: {tuple(calls[0].shape)}")
assert torch.allclose(calls[0].abs(), torch.full((3, SIZE), 2.0)), "pieces are brought to RMS 2"
assert torch.allclose(found, torch.tensor([-1.0, -1.0]) / 2 ** 0.5, atol=1e-5), (
    f"the mean of (2, 2), (-2, -2), (-2, -2), at norm 1; you say {found}")
calls.clear()
described(ends, torch.tensor([1.0, -1.0, 1.0]), SIZE, 1.0)
expected = torch.tensor([[1.0, -1, 1, 1, -1, 1, 1][:SIZE]])
assert torch.allclose(calls[0], expected), f"repeated: {expected}; you give {calls[0]}"
calls.clear()
assert described(ends, torch.zeros(9), SIZE, 1.0) is None and not calls, "silence: None, no call"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _right(x, size, level, message, flat=False):
    before, heard = x.clone(), []
    table = torch.randn(size, 3, generator=hidden.generator("table")).double()
    def f(pieces):
        heard.append(pieces.clone())
        y = pieces.double() @ table
        return (y * (0 if flat else 1) + (0 if flat else 0.2) * y.square()).to(pieces.dtype)
    found = described(f, x, size, level)
    message = f"{message}: {len(x)} samples, size {size}, level {level:g}"
    assert truth.equal(x, before), "described changes its argument"
    samples = x.double().tolist()
    if not any(samples):
        assert found is None, f"silence is None, {message}"
        assert not heard, f"f isn't called, {message}"
        return
    top = max(map(abs, samples))
    samples = [value / top for value in samples]
    if len(samples) < size:
        samples = (samples * size)[:size]
    pieces = [samples[n:n + size] for n in range(0, len(samples), size)]
    pieces[-1] = samples[-size:]
    sizes = [math.sqrt(math.fsum(v * v for v in piece) / size) for piece in pieces]
    kept = [[v * level / own for v in piece] for piece, own in zip(pieces, sizes)
            if own >= max(sizes) / 20]
    assert len(heard) == 1, f"f is called once, {message}"
    assert heard[0].dtype == x.dtype, f"f gets the example's precision, {message}"
    wanted = torch.tensor(kept, dtype=torch.float64)
    assert truth.close(heard[0].double() / level, wanted / level, rtol=1e-3, atol=1e-4), (
        f"f gets wrong pieces, {message}")
    mean = f(wanted.to(x.dtype)).double().mean(0)
    norm = float(mean.norm())
    expected = mean / norm if norm else mean
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    assert truth.close(found, expected, rtol=1e-3, atol=1e-4), f"wrong description, {message}"

_generator = hidden.generator("examples")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
for _case in range(6):
    _size = hidden.integer(f"size {_case}", 2, 9)
    _right(_draw(hidden.integer(f"time {_case}", 1, 40)), _size, (1.0, 0.1, 30.0)[_case % 3],
           "examples")
    _right(_draw(_size * (1 + _case)), _size, 0.1, "whole pieces")
_x = _draw(20)
_right(_x, 20, 0.1, "one piece")
_right(_x, 19, 0.1, "one sample more than a piece")
_right(_x, 21, 0.1, "one sample less than a piece")
_right(_x, 1, 0.1, "pieces of one sample")
_right(_x[:1], 7, 0.1, "one sample, repeated")
_right(_x[:3], 50, 0.1, "many times repeated")
_right(_x[:1], 1, 2.0, "one sample")
_right(torch.zeros(13), 4, 0.1, "silence")
_right(-_x.abs(), 6, 0.1, "all below 0")
_right(torch.tensor([1.0, -1.0] * 6), 4, 0.1, "samples that cancel")
_right(_x + 100, 6, 0.1, "an offset")
_right(_x, 6, 0.1, "a mean of 0", flat=True)
_steps = torch.tensor([1.0, 0.0495, 0.0505, 0.0, -1.0]).repeat_interleave(4)
_right(_steps, 4, 0.1, "beside a twentieth")
_pulse = torch.tensor([1.0, 0, 0, 0, 0.04, 0.04, -0.04, 0.04, 0.03, 0.01, 0, 0])
_right(_pulse, 4, 0.1, "a pulse")
_right(torch.cat([_x[:8], 0.01 * _x[:5]]), 4, 0.1, "a soft end")
_right(torch.cat([0.01 * _x[:5], _x[:8]]), 4, 0.1, "a soft beginning")
_right(_x[::2], 3, 0.1, "not contiguous")
for _size in (1e-30, 1e-20, 1e20, 1e25):
    _right(_size * _x, 6, 0.1, f"examples of {_size:g}")
    _right(_size * _steps, 4, 0.1, f"steps of {_size:g}")
_right(_x, 6, 1e-6, "a soft level")
_right(_x, 6, 1e6, "a loud level")
for _edge, _level, (_y,) in edges.mutated(_x):
    _right(_y, 4, 0.1, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: every question counts, if it was asked
#
# The loss (20.8) for several questions to each mixture, each by itself,
#
# $$ L = 10 \log_{10}\left( \frac{\lVert \hat y - y \rVert^2}{\lVert x \rVert^2} + \tau \right) , $$
#
# with two additions. Only *ratios* count, at any level from $10^{-30}$ to $10^{25}$, whose squares single precision doesn't hold. And where the mixture is silent the quotient is 0 if the answer is just right, otherwise 1. The gradient is finite everywhere, and 0 where an answer is just right.
#
# Then the mean. Mixtures have different numbers of questions, and the places that are left in a batch hold anything, even NaN or infinity. Take the mean over each mixture's own questions first, then over the mixtures that have any. If nothing was asked at all, it is 0. What wasn't asked gets the gradient 0.

# %%
# TASK 4 (6 points): every question counts, if it was asked
def losses_of(estimates, targets, mixture, floor):
    """L of every question: (batch, question), in dB.

    estimates, targets: (batch, question, time), one sample or more. mixture: (batch, time). floor:
    above 0.
    """
    ### BEGIN SOLUTION
    error, x = (estimates - targets).double(), mixture.double()[:, None]
    top = x.abs().amax(-1, keepdim=True)
    silent = top == 0
    top = top.masked_fill(silent, 1)
    level = (x / top).square().sum(-1).masked_fill(silent[..., 0], 1)
    quotient = (error / top).square().sum(-1) / level
    quotient = torch.where(silent[..., 0], (error != 0).any(-1).double(), quotient)
    return (10 * torch.log10(quotient + floor)).to(estimates.dtype)
    ### END SOLUTION


def mean_loss(losses, asked):
    """The mean, a number: losses (batch, question), asked bool (batch, question)."""
    ### BEGIN SOLUTION
    counts = asked.sum(1)
    sums = losses.masked_fill(~asked, 0).sum(1)
    means = sums / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum().clamp_min(1)
    ### END SOLUTION

# %%
# CHECK 4
x = torch.tensor([[3.0, 4.0]])
targets = torch.tensor([[[3.0, 0], [0, 0], [3, 4]]])
estimates = torch.tensor([[[3.0, 0], [3, 4], [3, 4.5]]])
found = losses_of(estimates, targets, x, FLOOR)
assert found.shape == (1, 3), f"a loss a question, (1, 3); you: {tuple(found.shape)}"
expected = [10 * math.log10(quotient + FLOOR) for quotient in (0, 1, 0.01)]
assert torch.allclose(found[0], torch.tensor(expected), atol=1e-3), (
    f"quotients 0, 25 / 25, 0.25 / 25: {expected}; you say {found[0].tolist()}")
found = losses_of(estimates, targets, 0 * x, FLOOR)
assert torch.allclose(found[0], torch.tensor([expected[0], expected[1], expected[1]]), atol=1e-3), (
    f"a silent mixture: quotients 0, 1, 1; you say {found[0].tolist()}")
losses = torch.tensor([[1.0, 3, 5], [10, math.nan, math.inf], [math.nan] * 3])
asked = torch.tensor([[True, True, True], [True, False, False], [False] * 3])
assert abs(float(mean_loss(losses, asked)) - 6.5) < 1e-5, (
    f"means 3 and 10, and nothing: 6.5; you say {mean_loss(losses, asked)}")
assert float(mean_loss(losses, ~asked & False)) == 0, "nothing asked: 0"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _losses(estimates, targets, mixture, floor, message):
    given = estimates, targets, mixture
    before = [one.clone() for one in given]
    found = losses_of(*given, floor)
    message = f"{message}: estimates {tuple(estimates.shape)}, floor {floor:g}"
    assert truth.equal(list(given), before), "losses_of changes its arguments"
    assert truth.has_shape(found, *estimates.shape[:2]), f"wrong shape, {message}"
    assert found.dtype == estimates.dtype, f"wrong precision, {message}"
    rows = []
    for b in range(len(mixture)):
        x = mixture[b].double().tolist()
        top = max(map(abs, x))
        for q in range(estimates.shape[1]):
            error = (before[0][b, q] - before[1][b, q]).double().tolist()
            quotient = float(any(error)) if not top else math.fsum(
                (v / top) ** 2 for v in error) / math.fsum((v / top) ** 2 for v in x)
            rows.append(10 * math.log10(quotient + floor))
    expected = torch.tensor(rows, dtype=torch.float64).reshape(estimates.shape[:2])
    assert truth.close(found, expected, rtol=1e-4, atol=2e-3), f"wrong losses, {message}"

def _mean(losses, asked, message):
    before = losses.nan_to_num(3.0).clone(), asked.clone()
    leaf = losses.clone().requires_grad_()
    found = mean_loss(leaf, asked)
    message = f"{message}: asked {asked.int().tolist()}"
    assert truth.equal([leaf.detach().nan_to_num(3.0), asked], list(before)), (
        "mean_loss changes its arguments")
    assert truth.has_shape(found) and found.dtype == losses.dtype, f"a number, {message}"
    means = [math.fsum(v for v, yes in zip(row, on) if yes) / sum(on)
             for row, on in zip(losses.double().tolist(), asked.tolist()) if any(on)]
    level = max([1.0, *map(abs, means)])
    expected = math.fsum(means) / max(1, len(means))
    assert truth.close(found.double() / level, expected / level), f"wrong mean, {message}"
    if found.requires_grad:
        found.backward()
    weights = [[yes / sum(on) / len(means) if yes else 0.0 for yes in on] for on in asked.tolist()]
    grad = torch.zeros_like(losses) if leaf.grad is None else leaf.grad
    assert truth.close(grad, torch.tensor(weights, dtype=torch.float64).reshape(losses.shape)), (
        f"wrong gradient, {message}")
    assert leaf.grad is not None or not asked.any(), f"no gradient, {message}"

_generator = hidden.generator("answers")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
for _case in range(6):
    _b, _q, _t = 1 + _case % 3, hidden.integer(f"questions {_case}", 1, 4), hidden.integer(
        f"time {_case}", 1, 12)
    _losses(_draw(_b, _q, _t), _draw(_b, _q, _t), _draw(_b, _t), (1e-3, 0.1, 2.0)[_case % 3],
            "answers")
    _mean(10 * _draw(_b, _q), torch.rand(_b, _q, generator=_generator) > 0.4, "means")
_e, _y, _x = _draw(3, 3, 3), _draw(3, 3, 3), _draw(3, 3)
_losses(_e, _y, _x, 1e-3, "three of everything")
_losses(_y, _y, _x, 1e-3, "just right")
_losses(_e, 0 * _y, _x, 1e-3, "silent targets")
_losses(_e, _y, 0 * _x, 1e-3, "silent mixtures")
_losses(_y, _y, 0 * _x, 1e-3, "silent mixtures, just right")
_losses(_e, _y, torch.tensor([[1.0], [0], [2]]) * _x, 1e-3, "one silent mixture")
_losses(_y + 1e-6 * _e, _y, 0 * _x, 1e-3, "silent mixtures, nearly right")
_losses(_y + torch.eye(3), _y, 0 * _x, 1e-3, "silent mixtures, one sample wrong")
_losses(torch.tensor([[[1.0, -1, 0]]]), 0 * _y[:1, :1], 0 * _x[:1], 1e-3, "errors that cancel")
_losses(_y + 1e-3 * _e, _y, _x, 1e-9, "a low floor")
_losses(_e, _y, _x, 1e6, "a high floor")
_losses(_e, _y, torch.tensor([[1.0], [1e-6], [1e4]]) * _x, 1e-12, "mixtures of different levels")
_losses(_e.mT.contiguous().mT, _y.mT, _x.T, 1e-3, "not contiguous")
for _size in (1e-30, 1e-20, 1e20, 1e25):
    _losses(_size * _e, _size * _y, _size * _x, 1e-3, f"answers of {_size:g}")
    _losses(_size * _e, _size * _y, 0 * _x, 1e-3, f"answers of {_size:g}, silent mixtures")
_mix = torch.tensor([[1.0], [0], [1]]) * _x
_near = _e.clone()
_near[0, 0] = _y[0, 0]
_near[1, 1] = _y[1, 1]
_leaf, _twin = (_near.clone().requires_grad_() for _ in range(2))
losses_of(_leaf, _y, _mix, 1e-3).sum().backward()
_share = (_twin - _y)[[0, 2]].square().sum(-1) / _mix[[0, 2], None].square().sum(-1)
(10 * torch.log10(_share + 1e-3)).sum().backward()
assert _leaf.grad is not None and truth.close(_leaf.grad[[0, 2]], _twin.grad[[0, 2]], rtol=1e-3,
                                              atol=1e-4), "the gradient is wrong"
_finite = bool(_leaf.grad.isfinite().all())
assert _finite, "the gradient isn't finite where the mixture is silent"
assert not bool(_leaf.grad[0, 0].any()), "the gradient isn't 0 where an answer is just right"
_some = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
_bad = 10 * _draw(3, 3)
for _worst in (math.nan, math.inf, -math.inf, 1e30):
    _mean(torch.where(_some, _bad, _worst), _some, f"{_worst} where nothing was asked")
_mean(_bad * math.nan, _some & False, "nothing asked")
_mean(_bad, _some | True, "all asked")
_mean(_bad[:1], _some[:1], "one mixture")
_mean(_bad[:, :1], _some[:, :1], "one question")
_mean(0 * _bad, _some, "losses of 0")
_mean(_bad.T, _some.T, "not contiguous")
for _edge, _level, (_p, _t, _m) in edges.mutated(_draw(2, 3, 6), _draw(2, 3, 6), _draw(2, 6)):
    _losses(_p, _t, _m, 1e-3, _edge)
    _mean(_level * _bad.to(_p.dtype), _some, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: every song has its turn
#
# `draw_example` (20.9) takes all examples of a tag as equally likely, so a song with forty of them is heard forty times as often as a song with one. Draw the **song** first, then one of its examples:
#
# - Examples that fit have the tag, and are of none of the songs in `heard`. If there are none, the answer is `None`.
# - The $n$ songs that have any stand in the order in which their first fitting example stands in the list. Song number $\lfloor u\, n \rfloor$ is drawn.
# - What is left of $u$ decides further: $v = u\, n - \lfloor u\, n \rfloor$. Of the song's $m$ fitting examples, in the list's order, number $\lfloor v\, m \rfloor$ is drawn.
#
# Count **exactly** with the number that $u$ is: `1 / 3` in Python is a hair *below* a third, so of three songs it draws the first.

# %%
# TASK 5 (4 points): every song has its turn
def drawn(examples, tag, heard, u):
    """The place of an example in the list, int, or None.

    examples: list of (song, set of tags). tag: that is asked for. heard: set of songs. u: a float
    from 0 to below 1.
    """
    ### BEGIN SOLUTION
    from fractions import Fraction
    songs = {}
    for place, (song, tags) in enumerate(examples):
        if tag in tags and song not in heard:
            songs.setdefault(song, []).append(place)
    if not songs:
        return None
    which = Fraction(u) * len(songs)
    places = list(songs.values())[int(which)]
    return places[int((which - int(which)) * len(places))]
    ### END SOLUTION

# %%
# CHECK 5
examples = [("x", {"piano"}), ("y", {"piano", "voice"}), ("x", {"piano"}), ("z", {"voice"}),
            ("y", {"piano"}), ("x", {"piano"})]
for u, place in ((0.0, 0), (0.2, 2), (0.45, 5), (0.5, 1), (0.7, 1), (0.75, 4), (0.999, 4)):
    found = drawn(examples, "piano", {"z"}, u)
    assert type(found) is int and found == place, (
        f"u {u}: song {'x' if u < 0.5 else 'y'}, example {place}; you say {found}")
assert drawn(examples, "piano", {"x"}, 0.3) == 1, "song x is heard: only y is left"
assert drawn(examples, "brass", set(), 0.3) is None, "no brass: None"
assert drawn(examples, "voice", {"y", "z"}, 0.3) is None, "voices only in songs that are heard"
many = [(n, {"drums"}) for n in range(SONGS)]
assert drawn(many, "drums", set(), 1 / 2) == SONGS // 2, f"{SONGS} songs, u = 1/2"
assert drawn(many[:3], "drums", set(), 1 / 3) == 0, "1 / 3 is a hair below a third"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _right(examples, tag, heard, u, message):
    given, known = [(song, set(tags)) for song, tags in examples], set(heard)
    found = drawn(given, tag, known, u)
    message = f"{message}: {len(examples)} examples, tag {tag!r}, heard {heard}, u = {u!r}"
    assert given == examples and known == heard, "the function changes its arguments"
    order, places = [], {}
    for n, (song, tags) in enumerate(examples):
        if tag in tags and song not in heard:
            if song not in places:
                order.append(song)
                places[song] = []
            places[song].append(n)
    if not order:
        assert found is None, f"expected None, {message}"
        return
    up, down = u.as_integer_ratio()
    number, left = divmod(up * len(order), down)
    own = places[order[number]]
    assert type(found) is int, f"a place is an int, {message}"
    assert found == own[left * len(own) // down], f"wrong example, {message}"

_tags = ("a", "b", "c")
def _some(name, count, songs):
    return [(f"song {hidden.integer(f'{name} song {n}', 1, songs)}",
             {tag for tag in _tags if hidden.integer(f"{name} {tag} {n}", 0, 1)})
            for n in range(count)]

for _case in range(6):
    _list = _some(f"case {_case}", 12, 2 + _case)
    for _n in range(4):
        _right(_list, _tags[_n % 3], {f"song {_case % 4 + 1}"} if _n % 2 else set(),
               hidden.real(f"u {_case} {_n}", 0.0, 0.999), "songs")
_list = [("b", {"a"}), ("a", {"a"}), ("b", {"a"}), ("c", {"b"}), ("a", {"a"}), ("a", {"a"})]
for _u in (0.0, 0.2, 0.25, 0.49999999, 0.5, 0.66, 0.67, 0.84, 1 - 2 ** -53, 5e-324):
    _right(_list, "a", set(), _u, "few songs")
    _right(_list, "a", {"b"}, _u, "one is heard")
    _right(_list, "a", {"c", "d"}, _u, "others are heard")
_right([("s", {"aa"}), ("t", {"a"})], "a", set(), 0.1, "names within names")
_right([(1, {"a"}), ("1", {"a"}), (1, {"a"})], "a", set(), 0.4, "songs with numbers")
_right([(("album", 2), {"a"}), (None, {"a"}), (0, {"a"})], "a", {None}, 0.6, "songs of all kinds")
_right(_list, "a", {"a", "b"}, 0.5, "all are heard")
_right(_list, "z", set(), 0.5, "nobody has it")
for _n in range(3, 30, 4):
    _many = [(song, {"a"}) for song in range(_n)]
    for _k in range(1, _n, 1 + _n // 4):
        _right(_many, "a", set(), _k / _n, "beside an edge")
for _k in (1, 2, 4, 5, 7):
    _right([("one", {"a"})] * 11, "a", set(), _k / 11, "one song, beside an edge")
    _right([(n % 3, {"a"}) for n in range(21)], "a", set(), _k / 21, "edges within songs")
edges.case("zeros inside")
_right(_list, "a", set(), 0.0, "u = 0")
_right([(0, {"a"}), (0, set()), (1, {"a"})], "a", {0}, 0.0, "song 0")
edges.case("short")
_right([], "a", set(), 0.5, "no examples")
_right([("x", {"a"})], "a", set(), 0.99, "one example")
edges.case("tiny")
_right(_list, "a", set(), 1e-300, "a tiny u")
edges.case("huge")
_right([(n // 40, {"a"}) for n in range(10_000)], "a", set(), 0.123456789, "10,000 examples")
_right([("big", {"a"})] * 5000 + [("small", {"a"})], "a", set(), 0.75, "a big song and a small one")
edges.left_out("other type", "u is a float of Python")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: does the example give it away?
#
# Section 20.6 forbids examples from the same song. How much would they give away? And how long must an example be, and does its level matter? No network is needed to see it: the cell below describes a sound by 40 mel levels, and asks which stem of a song is nearest to an example's description. The example is the same stem of another song, or of the *same* song at another time.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs, pairs of songs and seconds your numbers rest,
# - a table of the share of stems that are found, in percent: for examples of 0.25, 0.5, 1, 2 and 4 seconds from another song, from the same song, from another song with the level kept (`levelled=False`), and the last with examples 20 dB softer,
# - in how many of your songs the same song's examples are ahead with 0.25 s and with 4 s,
# - a reading: what does a separator learn if its examples come from the same song, and how would it do afterwards with yours? What does a longer example buy? Why is a kept level worse even where nothing was made softer, and what happens at 20 dB less?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: which stem is nearest to an example; add your own cells
RATE, SECONDS = 16_000, 16  # Hz; of each song
KEPT = {}


def stems_of(number):
    """Sixteen seconds of a test song's six stems, mono: (stem, time)."""
    from course_lib.data import SIX_STEMS, open_tracks
    from course_lib.data.resampling import resample
    if number not in KEPT:
        song = open_tracks("band", "test", count=number + 1)[number].excerpt(4.0, SECONDS)
        KEPT[number] = resample(song.sources(SIX_STEMS).mean(1), song.rate, RATE)
    return KEPT[number]


def described(x, levelled=True):
    """What sounds, by 40 mel levels in dB: (time,) to (40,); levelled: less their mean."""
    import librosa
    window = torch.hann_window(1024)
    X = torch.stft(x, 1024, 512, window=window, return_complex=True).abs().square().mean(1)
    bands = torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=40)) @ X
    if not levelled:
        return 10 * torch.log10(bands + 1e-10)
    e = 10 * torch.log10(bands / bands.max() + 1e-5)
    return e - e.mean()


def found(song, other, seconds, gain=1.0, levelled=True):
    """How many stems of a song (from second 4 to 8) are nearest to the example of their own.

    Examples: the first `seconds` from second 10 on of the stems of the song `other`, times gain.
    Returns (right, asked); stems that are silent in either aren't asked for, nor answer.
    """
    there, examples = stems_of(song)[:, 4 * RATE:8 * RATE], stems_of(other)[:, 10 * RATE:]
    examples = gain * examples[:, :round(seconds * RATE)]
    sounds = there.square().mean(1) > 1e-8
    wanted = sounds & (examples.square().mean(1) > 1e-8 * gain ** 2)
    table = torch.stack([described(x, levelled) for x in there])
    right = 0
    for n in wanted.nonzero().flatten().tolist():
        away = (table - described(examples[n], levelled)).norm(dim=1)
        right += int(away.masked_fill(~sounds, math.inf).argmin()) == n
    return right, int(wanted.sum())

# For example:  found(0, 1, 2.0)                                  # (right, asked)
#               found(0, 0, 2.0)                                  # the same song
#               found(0, 1, 2.0, gain=0.1, levelled=False)

# %% [markdown]
# <!-- TASK 6 (5 points): does the example give it away? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and pairs of songs, seconds of the target and of the example, 40 mel levels, the nearest description counts; only length, origin and level of the example vary.
# - 1 point: the table with plausible numbers, on more than one song with the number of songs in which the same song's examples are ahead (all with 0.25 s, 7 of 8 with 4 s), or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: the same song's examples are of the same instrument with the same sound, room and notes, by about 20 points easier. A separator trained so learns to look for *that* sound, gets a better score in training and validation than it deserves, and finds less with an example from elsewhere, which is the only kind there is in use.
#   A longer example shows more of the instrument's notes, but gains little, from 64 to 71%: other songs' instruments stay other instruments. With the level kept a stem that is louder in another song looks like another stem; it matters less for long examples, whose levels are more alike. 20 dB softer it answers hardly better than chance, for every example is nearest to the softest stem. (Chance is about one in six, more where stems are silent.) An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: a limit, such as: nothing was separated; the description is of whole stems, while a separator hears mixtures; 40 levels averaged over time aren't a tagger's embedding; one band of synthesised instruments, in which two songs may share a sound; eight songs; a stem's name isn't what it sounds like ("other").
#
# For comparison, means over the first eight test songs, each with examples of the other seven, with the cell above (percent).
#
# | | another song | the same song | level kept | level kept, softer |
# |---|---|---|---|---|
# | 0.25 s | 64.0 | 84.6 | 57.3 | 23.2 |
# | 0.5 s | 68.6 | 86.7 | 59.6 | 24.2 |
# | 1 s | 66.4 | 87.3 | 61.7 | 26.1 |
# | 2 s | 69.5 | 89.2 | 64.7 | 27.5 |
# | 4 s | 70.7 | 93.3 | 70.4 | 26.9 |
# <!-- END RUBRIC -->
