# %% [markdown]
# # Assignment 5 · What a loss asks for
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 5, but none is a copy of it: you work out gradients, mend a loss, and test losses that others wrote. Read what is asked
# for, above all at the edges (silence, a perfect estimate).
#
# **How it works**
# - Replace each `raise NotImplementedError(...)` by your code. Keep the first line of the cell and the function's name and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, silence, gradients.
# - `torch` and your own code are all you need. Functions of `course_lib.losses` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import math
import torch

# %% [markdown]
# The numbers of your version of this assignment:

# %%
# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
SOFTER = variation.choice("softer", [5.0, 10.0, 20.0])  # how many times softer a second example is
# dB: a score above which nothing more is gained
LIMIT = variation.choice("limit", [20.0, 25.0, 30.0])
GAIN = variation.real("gain", 1.5, 4.0)  # what the estimates are amplified by
# dB below the loudest bin: what counts as quiet
QUIET = variation.choice("quiet", [30.0, 40.0, 50.0])
FRAMES = variation.integer("frames", 4, 8)                       # frames of a small spectrogram
# a discriminator's labels
REAL, FAKE = variation.choice("labels", [(0.9, 0.1), (0.8, 0.2), (0.9, 0.0)])
SOUNDS = variation.integer("sounds", 3, 6)  # kinds of sound that a discriminator tells apart

# %% [markdown]
# ## Task 1: the gradient of a logarithm
#
# LOGL1 and LOGL2 take the mean error of each example to the power $p$ (1 or 2), then the logarithm, then the mean over the $B$ examples:
#
# $$ L = \frac{1}{B} \sum_b 10 \log_{10} \Big( \frac{1}{N} \sum_n |e_{b,n}|^p \Big), \qquad e = \hat s - s. $$
#
# Work out $\partial L / \partial \hat s_{b,n}$ with pencil and paper, and write it as code: autograd is switched off in the grading. You will see why a soft example counts as
# much as a loud one. An example without any error can't be improved: its gradient is zero.

# %%
# TASK 1 (5 points): the gradient of a logarithm
def log_loss_gradient(estimates, references, p):
    """The derivative of L with respect to each value of the estimates, which it has the shape of.

    estimates, references: (example, source, time); N counts all values of an example. p: 1 or 2.
    Zero in an example without any error, and where p is 1 and a value has no error. Very soft
    examples are as good as loud ones.
    """
    ### BEGIN SOLUTION
    error = estimates - references
    total = error.abs().pow(p).sum((1, 2), keepdim=True)
    slope = p * error.sign() * error.abs() ** (p - 1)
    return 10 / math.log(10) * slope / torch.where(total == 0, 1, total) / len(error)
    ### END SOLUTION

# %%
# CHECK 1
references = torch.zeros(2, 1, 2)  # (example, source, time)
estimates = torch.tensor([[[3.0, -1.0]], [[3.0, -1.0]]]) / torch.tensor([1.0, SOFTER]).reshape(
    2, 1, 1
)
gradient = log_loss_gradient(estimates, references, 1)
assert gradient.shape == estimates.shape, (
    f"one derivative a value: (2, 1, 2); you return {tuple(gradient.shape)}")
assert abs(gradient[0, 0, 0] - 0.5429) < 1e-3, (
    f"p = 1, errors of 3 and -1: 10 / ln 10 * 1 / 4, halved by the mean over examples: 0.543; "
    f"you return {gradient[0, 0, 0]:.3f}")
assert abs(gradient[0, 0, 1] + 0.5429) < 1e-3, (
    f"the other error is negative: -0.543, you return {gradient[0, 0, 1]:.3f}")
assert torch.allclose(gradient[1], SOFTER * gradient[0], rtol=1e-3), (
    f"errors {SOFTER:g} times smaller: a gradient {SOFTER:g} times larger, "
    f"{SOFTER * gradient[0]}; you: {gradient[1]}"
)
assert torch.allclose(
    log_loss_gradient(estimates, references, 2)[0], torch.tensor([[1.3029, -0.4343]]), atol=1e-3
), (
    f"p = 2: 10 / ln 10 * 2 * (3, -1) / 10 / 2; you return "
    f"{log_loss_gradient(estimates, references, 2)[0]}"
)
gradient = log_loss_gradient(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), 1)
assert torch.equal(gradient, torch.zeros(1, 1, 4)), (
    f"without any error the gradient is zero, not {gradient}"
)
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _by_hand(estimates, references, p):
    """What the function gives where autograd is switched off; None where it can't do without."""
    try:
        with torch.inference_mode():
            return log_loss_gradient(estimates.clone(), references.clone(), p).clone()
    except RuntimeError:
        return None

_generator = hidden.generator("signals")
for _case, (_examples, _sources, _time) in enumerate(((3, 2, 7), (1, 1, 5), (4, 3, 4), (2, 4, 1))):
    for _p in (1, 2):
        _estimates, _references = (
            torch.randn(_examples, _sources, _time, generator=_generator) for _ in range(2)
        )
        _level = hidden.real(f"level {_case} {_p}", 0.2, 5.0) * 3.0 ** torch.arange(
            _examples
        ).reshape(-1, 1, 1)
        _estimates, _references = _level * _estimates, _level * _references
        _leaf = _estimates.double().requires_grad_()
        (10 * (_leaf - _references.double()).abs().pow(_p).mean((1, 2)).log10()).mean().backward()
        _copies = (_estimates.clone(), _references.clone())
        _found = log_loss_gradient(_estimates, _references, _p)
        assert truth.equal(_estimates, _copies[0]) and truth.equal(_references, _copies[1]), (
            "the function changes its arguments")
        assert _by_hand(_estimates, _references, _p) is not None, (
            "without autograd the function fails: use your formula"
        )
        assert _found.dtype == torch.float32, "float32 signals must give a float32 gradient"
        assert truth.close(_found, _leaf.grad, rtol=1e-3, atol=1e-6), (
            f"wrong values for other signals, p = {_p}")
        _found = log_loss_gradient(1e-7 * _estimates, 1e-7 * _references, _p)
        assert truth.close(1e-7 * _found, _leaf.grad, rtol=1e-2, atol=1e-4), (
            f"wrong values for very soft signals, p = {_p}")
        _found = log_loss_gradient(_estimates.double(), _references.double(), _p)
        assert _found.dtype == torch.float64 and truth.close(_found, _leaf.grad, rtol=1e-4), (
            "wrong values or type in float64")
        _estimates[0] = _references[0]
        _found = log_loss_gradient(_estimates, _references, _p)
        assert truth.equal(_found[0], torch.zeros(_sources, _time)), (
            "an example without any error must have the gradient 0")
        assert truth.close(_found[1:], _leaf.grad[1:], rtol=1e-3, atol=1e-6), (
            "an example without any error changes the others' gradient")
_found = log_loss_gradient(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 0.0]]]), 1)
assert truth.close(_found, torch.tensor([[[0.0, 5 / math.log(10)]]]), rtol=1e-3), (
    "a value without error, in an example with errors, is wrong")
_estimates, _references = (torch.randn(2, 2, 9, generator=_generator) for _ in range(2))
for _edge, _level, (_estimates, _references) in edges.mutated(_estimates, _references):
    for _p in (1, 2):
        _leaf = _estimates.double().clone().requires_grad_()
        (10 * (_leaf - _references.double()).abs().pow(_p).mean((1, 2)).log10()).mean().backward()
        _found = log_loss_gradient(_estimates, _references, _p)
        assert _found.dtype == _estimates.dtype, f"wrong precision: {_edge}"
        assert truth.close(_level * _found, _level * _leaf.grad, rtol=1e-2, atol=1e-4), (
            f"wrong values: {_edge}, p = {_p}")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a loss that silence can't break
#
# The signal-to-distortion ratio as a loss, with a limit: nothing more is gained beyond `limit` decibels, so that the examples that are already good don't
# take over the training. For each example and source
#
# $$ \ell = 10 \log_{10} \frac{\sum_n (s_n - \hat s_n)^2 + \tau \sum_n s_n^2}{\sum_n s_n^2}, \qquad \tau = 10^{-\text{limit}/10}. $$
#
# The loss is the mean of $\ell$ over those examples and sources whose reference is *not* silent, or 0 where all of them are. Written down as it stands, it makes NaN as soon as one reference
# is silent, and hiding the NaN afterwards (`torch.where`, `nan_to_num`) leaves them in the gradient. An added constant changes what soft recordings get. Neither is allowed.

# %%
# TASK 2 (5 points): a loss that silence can't break
def limited_sdr_loss(estimates, references, limit):
    """The mean of the limited, negative SDR in dB over examples and sources that play: a scalar,
    differentiable.

    estimates, references: (batch, source, time). limit: dB. The loss and its gradient are finite
    for all signals; the estimate of a silent reference has the gradient zero. Soft signals are as
    good as loud ones.
    """
    ### BEGIN SOLUTION
    signal = (references ** 2).sum(-1)                                           # (batch, source)
    error = ((references - estimates) ** 2).sum(-1)
    plays = signal > 0
    ratio = (error + 10 ** (-limit / 10) * signal) / torch.where(plays, signal, 1)
    return 10 * torch.where(plays, ratio, 1).log10().sum() / plays.sum().clamp(min=1)
    ### END SOLUTION

# %%
# CHECK 2
# (batch, source, time)
references = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(1))
loss = limited_sdr_loss(references, references, LIMIT)
assert loss.shape == () and abs(loss + LIMIT) < 1e-2, (
    f"a perfect estimate reaches the limit, -{LIMIT:g} dB; you: {loss}")
tau = 10 ** (-LIMIT / 10)
loss = limited_sdr_loss(0 * references, references, LIMIT)
assert abs(loss - 10 * math.log10(1 + tau)) < 1e-3, (
    f"a silent estimate has as much error as signal, 0 dB; you: {loss}")
loss = limited_sdr_loss(1.1 * references, references, LIMIT)
expected = 10 * math.log10(0.01 + tau)
assert abs(loss - expected) < 1e-2, (
    f"an error of a tenth of the amplitude: {expected:.2f} dB, you say {loss:.2f}")
loss = limited_sdr_loss(1.1e-5 * references, 1e-5 * references, LIMIT)
assert abs(loss - expected) < 1e-2, (
    f"the same 100 dB softer: still {expected:.2f} dB, you say {loss:.2f}"
)
references[0, 1] = 0
loss = limited_sdr_loss(references + (references == 0), references, LIMIT)
assert abs(loss + LIMIT) < 1e-2, (
    f"a silent reference doesn't count, the others are perfect: -{LIMIT:g} dB; you: {loss}")
estimates = torch.zeros(2, 3, 50, requires_grad=True)
limited_sdr_loss(estimates, references, LIMIT).backward()
assert estimates.grad.isfinite().all(), "the gradient isn't finite where a reference is silent"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _one_by_one(estimates, references, limit):
    """The same by loops in float64, over the references that play."""
    found = [
        -10
        * torch.log10(
            (s * s).sum() / (((s - e) * (s - e)).sum() + 10 ** (-limit / 10) * (s * s).sum())
        )
        for e, s in zip(estimates.double().flatten(0, 1), references.double().flatten(0, 1))
        if (s != 0).any()
    ]
    return torch.stack(found).mean() if found else 0 * estimates.double().sum()

_generator = hidden.generator("signals")
for _case, _shape in enumerate(((2, 3, 20), (1, 1, 30), (3, 4, 15), (4, 2, 9))):
    _limit = hidden.choice(f"limit {_case}", [10.0, 22.0, 35.0, 60.0])
    _references = torch.randn(_shape, generator=_generator)
    _estimates = _references + hidden.real(f"error {_case}", 0.01, 0.6) * torch.randn(
        _shape, generator=_generator
    )
    if _shape[0] > 1:
        _references[0, 0] = 0  # the reference is silent, its estimate is not
        _references[1, 1] = _estimates[1, 1] = 0             # both are silent
        _estimates[1, 0] = 0                                 # the estimate is silent
        _estimates[0, 1] = _references[0, 1]                 # a perfect estimate
    for _level in (1.0, 1e-6, 1e3):
        _mine, _theirs = ((_level * _estimates).requires_grad_() for _ in range(2))
        _given = _level * _references
        _copies = (_mine.detach().clone(), _given.clone())
        _found, _expected = (
            limited_sdr_loss(_mine, _given, _limit),
            _one_by_one(_theirs, _given, _limit),
        )
        assert truth.equal(_mine, _copies[0]) and truth.equal(_given, _copies[1]), (
            "the function changes its arguments")
        assert tuple(_found.shape) == () and _found.dtype == torch.float32, (
            "the loss must be a scalar of the input's type")
        assert truth.close(_found, _expected, rtol=1e-4, atol=1e-3), (
            "wrong values for other signals, levels or limits")
        assert _found.requires_grad, "no gradient reaches the estimates"
        _found.backward(), _expected.backward()
        assert _mine.grad is not None and _mine.grad.isfinite().all(), (
            "the gradient is missing or not finite"
        )
        assert truth.close(_level * _mine.grad, _level * _theirs.grad, rtol=1e-3, atol=1e-4), (
            "the gradient is wrong")
for _estimates in (torch.zeros(2, 2, 9), torch.ones(2, 2, 9)):
    _estimates.requires_grad_()
    _found = limited_sdr_loss(_estimates, torch.zeros(2, 2, 9), 30.0)
    assert truth.close(_found, 0.0), "where all references are silent the loss must be 0"
    if _found.requires_grad:
        _found.backward()
    assert _estimates.grad is None or truth.equal(_estimates.grad, torch.zeros(2, 2, 9)), (
        "where all references are silent the gradient must be 0")
_references = torch.randn(2, 2, 12, generator=_generator)
_estimates = _references + 0.2 * torch.randn(2, 2, 12, generator=_generator)
for _edge, _level, (_estimates, _references) in edges.mutated(_estimates, _references):
    _mine, _theirs = (_estimates.clone().requires_grad_() for _ in range(2))
    _found, _expected = (
        limited_sdr_loss(_mine, _references, 20.0),
        _one_by_one(_theirs, _references, 20.0),
    )
    assert _found.dtype == _estimates.dtype, f"wrong precision: {_edge}"
    assert truth.close(_found, _expected, rtol=1e-4, atol=1e-3), f"wrong values: {_edge}"
    _found.backward(), _expected.backward()
    assert truth.close(_level * _mine.grad, _level * _theirs.grad, rtol=1e-3, atol=1e-4), (
        f"wrong gradient: {_edge}"
    )
# its sum is 0
_references = torch.tensor([1.0, -1.0]).repeat(5).expand(2, 2, 10) * torch.tensor([[1.0], [0.5]])
_estimates = 0.8 * _references + 0.1
_found, _expected = (
    limited_sdr_loss(_estimates, _references, 20.0),
    _one_by_one(_estimates, _references, 20.0),
)
assert truth.close(_found, _expected, atol=1e-3), (
    "a reference that goes up as far as down, so that its sum is 0, is not silent")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: test a stranger's loss
#
# Someone hands you a loss without its code: a function of estimates and references, both (batch, source, time), that gives a scalar to be minimised.
# Find out by experiments what it cares about:
#
# | key | True where |
# |---|---|
# | `"gain"` | it stays the same when the estimates are made louder or softer (times any positive number) |
# | `"polarity"` | it stays the same when the sign of the estimates is flipped |
# | `"loudness"` | it stays the same when estimates *and* references are made louder or softer together |
# | `"silence"` | its gradient in the estimates is finite for silent references, for silent estimates, and for both at once |
#
# Losses may be large or tiny numbers (some teams multiply theirs by 0.000001), and their last digits are rounding.

# %%
# TASK 3 (5 points): test a stranger's loss
def properties(loss):
    """What the loss cares about, as a dict of four bools: "gain", "polarity", "loudness",
    "silence".

    loss: a function of (estimates, references), real (batch, source, time), that returns a scalar
    tensor; the same for the same signals, differentiable in the estimates.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(2, 3, 64, generator=generator)
    e = s + 0.5 * torch.randn(s.shape, generator=generator)

    def same(estimates, references):
        return bool(torch.isclose(loss(estimates, references), loss(e, s), rtol=1e-3, atol=0))

    def smooth(estimates, references):
        leaf = estimates.clone().requires_grad_()
        return bool(torch.autograd.grad(loss(leaf, references), leaf)[0].isfinite().all())

    return {"gain": same(3 * e, s) and same(0.3 * e, s), "polarity": same(-e, s),
            "loudness": same(3 * e, 3 * s) and same(0.3 * e, 0.3 * s),
            "silence": smooth(e, 0 * s) and smooth(0 * e, s) and smooth(0 * e, 0 * s)}
    ### END SOLUTION

# %%
# CHECK 3
def mean_squared_error(estimates, references):
    return 1e-6 * (estimates - references).square().mean()

def level_difference(estimates, references):
    return (GAIN * estimates.square().mean().sqrt() - references.square().mean().sqrt()).abs()

def relative_error(estimates, references):
    return ((estimates - references).square().sum(-1) / references.square().sum(-1)).mean()

found = properties(mean_squared_error)
assert found == dict(gain=False, polarity=False, loudness=False, silence=True), (
    f"the mean squared error (times 0.000001) changes with everything, and bears silence; you say "
    f"{found}"
)
found = properties(level_difference)
assert found["polarity"] and not found["gain"], (
    f"a difference of levels doesn't see the sign, but the gain; you: {found}")
assert not found["silence"], (
    "the square root has an infinite slope at a silent estimate: 0 * inf is NaN in the gradient")
found = properties(relative_error)
assert found["loudness"] and not found["silence"], (
    f"an error relative to the reference sees no common gain, and breaks for a silent reference; "
    f"you say {found}"
)
assert not found["gain"] and not found["polarity"], (
    f"the estimate alone made louder, or flipped, is an error; you: {found}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
_small, _large = 10 ** hidden.real("small", -7.0, -5.0), 10 ** hidden.real("large", 3.0, 5.0)
def _projection(e, s):
    return (e * s).sum(-1, keepdim=True) / s.square().sum(-1, keepdim=True) * s

def _cosine(e, s):
    norms = torch.linalg.vector_norm(e, dim=-1) * torch.linalg.vector_norm(s, dim=-1)
    return (e * s).sum(-1) / norms.clamp_min(1e-12)

def _half_guarded_cosine(e, s):
    norms = torch.linalg.vector_norm(e, dim=-1) * torch.linalg.vector_norm(s, dim=-1)
    both = (e == 0).all(-1) & (s == 0).all(-1)
    return (e * s).sum(-1) / torch.where(both, 1, norms)

def _spectrum(x):
    return torch.fft.rfft(x).abs()

def _shape_of(x):
    return _spectrum(x) / _spectrum(x).sum(-1, keepdim=True).clamp_min(1e-9)

def _safe_sdr(e, s):
    signal, error = s.square().sum(-1), (s - e).square().sum(-1)
    ratio = (error + 1e-3 * signal) / torch.where(signal > 0, signal, 1)
    return (10 * torch.where(signal > 0, ratio, 1).log10()).mean()

_losses = {  # gain, polarity, loudness, silence
    "L1": (lambda e, s: _small * (e - s).abs().mean(), (0, 0, 0, 1)),
    "L2": (lambda e, s: _large * (e - s).square().mean(), (0, 0, 0, 1)),
    "SDR": (
        lambda e, s: -10 * (s.square().sum(-1) / (s - e).square().sum(-1)).log10().mean(),
        (0, 0, 1, 0),
    ),
    "limited SDR": (_safe_sdr, (0, 0, 1, 1)),
    "SI-SDR": (
        lambda e, s: (
            -10
            * (_projection(e, s).square().sum(-1) / (e - _projection(e, s)).square().sum(-1))
            .log10()
            .mean()
        ),
        (1, 1, 1, 0),
    ),
    "cosine": (lambda e, s: -_small * _cosine(e, s).mean(), (1, 0, 1, 1)),
    "cosine, half guarded": (lambda e, s: 1 - _half_guarded_cosine(e, s).mean(), (1, 0, 1, 0)),
    "squared cosine": (lambda e, s: -_large * _cosine(e, s).square().mean(), (1, 1, 1, 1)),
    "LOGL1": (lambda e, s: 10 * (e - s).abs().mean((1, 2)).log10().mean(), (0, 0, 0, 0)),
    "LOGL1 with a floor": (
        lambda e, s: 10 * ((e - s).abs().mean((1, 2)) + 1e-8).log10().mean(),
        (0, 0, 0, 1),
    ),
    "magnitudes": (
        lambda e, s: _large * (_spectrum(e) - _spectrum(s)).square().mean(),
        (0, 1, 0, 1),
    ),
    "spectral convergence": (
        lambda e, s: (
            torch.linalg.vector_norm(_spectrum(e) - _spectrum(s))
            / torch.linalg.vector_norm(_spectrum(s))
        ),
        (0, 1, 1, 0),
    ),
    "energies": (
        lambda e, s: _small * (e.square().sum(-1) - s.square().sum(-1)).square().mean(),
        (0, 1, 0, 1),
    ),
    "logarithms of energies": (
        lambda e, s: (e.square().sum(-1).log() - (s.square().sum(-1) + 1e-30).log()).abs().mean(),
        (0, 1, 1, 0),
    ),
    "level, two decibels forgiven": (
        lambda e, s: (10 * (e.square().sum() / s.square().sum()).log10().abs() - 2).clamp_min(0),
        (0, 1, 1, 0),
    ),
    "root of the error": (lambda e, s: (e - s).square().sum().sqrt(), (0, 0, 0, 0)),
    "shape of the magnitudes": (
        lambda e, s: (_shape_of(e) - _shape_of(s)).abs().mean(),
        (1, 1, 1, 1),
    ),
}
for _name, (_loss, _values) in _losses.items():
    _found = properties(_loss)
    assert type(_found) is dict and sorted(_found) == ["gain", "loudness", "polarity", "silence"], (
        "other keys are asked for")
    for _key, _value in zip(("gain", "polarity", "loudness", "silence"), _values):
        assert type(_found[_key]) is bool, "the values must be True or False"
        assert _found[_key] == bool(_value), f"{_name}: {_key} should be {bool(_value)}"
for _edge, _factor in (("tiny", 1e-10), ("huge", 1e10)):
    _found = properties(edges.case(_edge, lambda e, s: _factor * (1 - _cosine(e, s).mean())))
    assert _found == dict(gain=True, polarity=False, loudness=True, silence=True), (
        f"wrong for a loss that is {_edge}"
    )
edges.left_out("zeros inside", "the function makes its own signals")
edges.left_out("short", "the function makes its own signals")
_found = properties(
    edges.case("other type", lambda e, s: (1 - _cosine(e.double(), s.double())).mean())
)
assert _found == dict(gain=True, polarity=False, loudness=True, silence=True), (
    "wrong for a loss that gives a float64")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: who speaks in a gradient?
#
# A loss on masks treats every bin of a spectrogram the same, also those in which nothing plays and the mask may be anything. A loss on the spectrograms, mask times
# mixture, weighs each bin by what is in it. Make that a number: the share of the quiet bins in the gradient,
#
# $$ \frac{\sum_{\text{quiet}} |\partial L / \partial M|}{\sum_{\text{all}} |\partial L / \partial M|}. $$
#
# A bin is quiet where the mixture lies `decibels` **or more** below the loudest bin of the same example (its magnitude is at most $10^{-\text{decibels}/20}$ of that one's), over all its channels, bins and frames. All
# sources share the mixture's quiet bins. Use autograd.

# %%
# TASK 4 (4 points): the share of the quiet bins
def quiet_share(loss, masks, mixture, decibels):
    """The share of the loss's gradient in the masks that falls on quiet bins, a float from 0 to 1.

    loss: a function of the masks that returns a scalar. masks: (batch, source, channel, bin,
    frame). mixture: magnitudes (batch, channel, bin, frame). 0.0 where the gradient is zero
    everywhere. Leaves masks as it is, without a gradient of its own.
    """
    ### BEGIN SOLUTION
    leaf = masks.detach().clone().requires_grad_()
    weight = torch.autograd.grad(loss(leaf), leaf)[0].abs()
    quiet = mixture <= 10 ** (-decibels / 20) * mixture.amax((1, 2, 3), keepdim=True)
    total = float(weight.sum())
    return float((weight * quiet.unsqueeze(1)).sum()) / total if total else 0.0
    ### END SOLUTION

# %%
# CHECK 4
mixture = torch.ones(2, 1, 4, FRAMES)  # (batch, channel, bin, frame)
mixture[1] *= 1e-4  # a soft song, but no quiet bin in it
mixture[0, :, :, 1:] *= 0.5 * 10 ** (-QUIET / 20)  # only the first frame is loud
masks = torch.full((2, 3, 1, 4, FRAMES), 0.5)  # (batch, source, channel, bin, frame)
share = quiet_share(lambda M: (M - 1).abs().mean(), masks, mixture, QUIET)
expected = (FRAMES - 1) / (2 * FRAMES)
assert isinstance(share, float) and abs(share - expected) < 1e-4, (
    f"L1 on masks pulls at all bins alike, and {FRAMES - 1} of {2 * FRAMES} frames are quiet: "
    f"{expected:.3f}; "
    f"you return {share}"
)
assert masks.grad is None and not masks.requires_grad, "the masks were changed: work on a copy"
# one song
share = quiet_share(
    lambda M: ((M - 1) * mixture[:1, None]).abs().mean(), masks[:1], mixture[:1], QUIET
)
expected = 1 / (1 + 2 * 10 ** (QUIET / 20) / (FRAMES - 1))
assert abs(share - expected) < 1e-5, (
    f"L1 on spectrograms hardly hears the quiet bins: {expected:.5f}, you say {share:.5f}")
assert quiet_share(lambda M: (M - 0.5).square().sum(), masks, mixture, QUIET) == 0.0, (
    "no gradient at all: the share is 0")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
_generator = hidden.generator("spectrograms")
_sizes = ((2, 3, 2, 4, 5), (1, 2, 1, 3, 3), (3, 1, 2, 2, 6), (4, 4, 4, 4, 4))
for _case, (_batch, _sources, _channels, _bins, _frames) in enumerate(_sizes):
    _decibels = hidden.choice(f"decibels {_case}", [12.0, 20.0, 26.0])
    _mixture = 10 ** (-2.5 * torch.rand(_batch, _channels, _bins, _frames, generator=_generator))
    _mixture = _mixture * 10 ** torch.linspace(0, -3, _batch).reshape(-1, 1, 1, 1)
    _mixture[0, 0, 0, 0] = 0
    if _batch > 2:
        _mixture[-1] = 0  # a silent song is quiet all through
    _masks, _target = (
        torch.rand(_batch, _sources, _channels, _bins, _frames, generator=_generator)
        for _ in range(2)
    )
    _heaviness = torch.rand(_masks.shape, generator=_generator)
    _gradients = {
        "L2 on masks": (lambda M: (M - _target).square().mean(), 2 * (_masks - _target)),
        "weighted L1 on masks": (
            lambda M: -3 * (_heaviness * (M - _target).abs()).sum(),
            _heaviness,
        ),
        "L2 on spectrograms": (
            lambda M: ((M - _target) * _mixture.unsqueeze(1)).square().sum(),
            (_masks - _target) * _mixture.unsqueeze(1) ** 2,
        ),
    }
    for _name, (_loss, _gradient) in _gradients.items():
        _inside = total = 0.0
        for _b in range(_batch):
            _quiet = _mixture[_b] <= _mixture[_b].max() * 10 ** (-_decibels / 20)
            for _j in range(_sources):
                _inside += float(_gradient[_b, _j].abs()[_quiet].sum())
                total += float(_gradient[_b, _j].abs().sum())
        _masks.requires_grad_(_case == 2)
        _copies = (_masks.detach().clone(), _mixture.clone())
        _found = quiet_share(_loss, _masks, _mixture, _decibels)
        assert type(_found) is float, "the share must be a float"
        assert truth.close(_found, _inside / total, rtol=1e-3, atol=1e-6), (
            f"wrong share for other spectrograms: {_name}")
        assert truth.equal(_masks, _copies[0]) and truth.equal(_mixture, _copies[1]), (
            "the function changes its arguments")
        assert _masks.grad is None and _masks.requires_grad == (_case == 2), (
            "the masks' own gradient is touched")
_found = quiet_share(lambda M: (0 * M).sum(), _masks.detach(), _mixture, 20.0)
assert type(_found) is float and _found == 0.0, (
    "a loss that doesn't depend on the masks has the share 0.0"
)
_masks = torch.rand(2, 2, 1, 3, 9, generator=_generator)
_target, _heaviness = torch.rand(2, *_masks.shape, generator=_generator)
_mixture = 10 ** (-2.5 * torch.rand(2, 1, 3, 9, generator=_generator))
for _edge, _level, (_masks, _mixture) in edges.mutated(_masks, _mixture):
    _frames, _masks = _mixture.shape[-1], _masks / _level  # masks stay masks
    _pull, _weight = (_t[..., :_frames].to(_masks.dtype) for _t in (_target, _heaviness))
    _found = quiet_share(lambda M: (_weight * (M - _pull).abs()).sum(), _masks, _mixture, 20.0)
    _quiet = (_mixture <= 0.1 * _mixture.amax((1, 2, 3), keepdim=True)).unsqueeze(1).double()
    assert truth.close(
        _found, float((_weight * _quiet).sum() / _weight.double().sum()), rtol=1e-3, atol=1e-6
    ), f"wrong share: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: the best that a discriminator can do
#
# A discriminator sees real recordings of a stem and a separator's estimates of it, and gives each a number $D$. With least squares and the labels $a$ for real and $b$ for estimated, it minimises
#
# $$ L = \tfrac12 \operatorname{mean}_{\text{real}} (D - a)^2 + \tfrac12 \operatorname{mean}_{\text{estimated}} (D - b)^2. $$
#
# Suppose it can tell only a few *kinds* of sound apart, and you have counted how often each kind occurs among the real examples and among the estimated ones. (There need not be as many real as
# estimated ones: each mean is taken over its own examples.) Which number should it give to each kind, and what is the loss then? Set a derivative to zero.

# %%
# TASK 5 (5 points): the best discriminator
def best_discriminator(real, estimated, a, b):
    """What the discriminator with the smallest loss gives to each kind of sound, and that loss.

    real, estimated: how many examples of each kind there are, float (..., kind); at least one of
    each sort along the
    last axis. a, b: the labels. Returns D (..., kind) and the loss (...). For a kind that never
    occurs, D is halfway between the labels.
    """
    ### BEGIN SOLUTION
    p, q = (counts / counts.sum(-1, keepdim=True) for counts in (real, estimated))
    never = p + q == 0
    D = torch.where(never, (a + b) / 2, (a * p + b * q) / torch.where(never, 1, p + q))
    return D, (p * (D - a) ** 2 + q * (D - b) ** 2).sum(-1) / 2
    ### END SOLUTION

# %%
# CHECK 5
even = torch.ones(SOUNDS)                                                       # (kind,)
D, loss = best_discriminator(even, 5 * even, REAL, FAKE)
assert D.shape == (SOUNDS,) and loss.shape == (), (
    f"a number for each kind, and one loss; you: {D.shape}, {loss.shape}")
assert torch.allclose(D, torch.tensor((REAL + FAKE) / 2)), (
    f"as common among real as among estimated sounds: no telling, {(REAL + FAKE) / 2:g}; you say "
    f"{D}"
)
assert abs(loss - (REAL - FAKE) ** 2 / 4) < 1e-5, (
    f"then the loss is (a - b)^2 / 4, {(REAL - FAKE) ** 2 / 4:.4f}; you: {loss}")
D, loss = best_discriminator(
    torch.tensor([3.0, 1.0, 0.0]), torch.tensor([0.0, 6.0, 2.0]), REAL, FAKE
)
assert abs(D[0] - REAL) < 1e-5 and abs(D[2] - FAKE) < 1e-5, (
    f"what only one sort has is sure: {REAL}, {FAKE}; you say {D}")
assert abs(D[1] - (REAL + 3 * FAKE) / 4) < 1e-5, (
    f"a quarter of the real ones, three of the estimated ones: {(REAL + 3 * FAKE) / 4:.3f}; you "
    f"say {D[1]:.3f}"
)
assert loss < (REAL - FAKE) ** 2 / 4, "who can tell something has a smaller loss than who can't"
D, loss = best_discriminator(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), REAL, FAKE)
assert abs(D[1] - (REAL + FAKE) / 2) < 1e-5 and loss.isfinite(), (
    f"a kind that never occurs is halfway; you say {D}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
_generator = hidden.generator("counts")
for _case, _shape in enumerate(((4,), (3, 5), (2, 2, 7), (6, 1), (2, 6))):
    _a, _b = hidden.real(f"a {_case}", 0.7, 1.1), hidden.real(f"b {_case}", -0.2, 0.3)
    _real = torch.randint(0, 9, _shape, generator=_generator).float()
    _estimated = torch.randint(0, 30, _shape, generator=_generator).float()
    _real[..., 0] += 2
    _estimated[..., -1] += 1
    if _shape[-1] > 2:
        _real[..., 1] = _estimated[..., 1] = 0
    _copies = (_real.clone(), _estimated.clone())
    _D, _loss = best_discriminator(_real, _estimated, _a, _b)
    assert truth.equal(_real, _copies[0]) and truth.equal(_estimated, _copies[1]), (
        "the function changes its arguments")
    assert _D.dtype == _loss.dtype == torch.float32, "float32 counts must give float32"
    assert tuple(_D.shape) == _shape and tuple(_loss.shape) == _shape[:-1], (
        "wrong shapes for other counts"
    )
    _rows = zip(_real.reshape(-1, _shape[-1]).tolist(), _estimated.reshape(-1, _shape[-1]).tolist())
    _numbers, _losses = [], []
    for _r, _e in _rows:
        _p, _q = [_x / sum(_r) for _x in _r], [_x / sum(_e) for _x in _e]
        _best = [
            (_a * _u + _b * _v) / (_u + _v) if _u + _v else (_a + _b) / 2 for _u, _v in zip(_p, _q)
        ]
        _numbers.append(_best)
        _losses.append(
            0.5
            * sum(_u * (_d - _a) ** 2 + _v * (_d - _b) ** 2 for _u, _v, _d in zip(_p, _q, _best))
        )
    assert truth.close(_D, torch.tensor(_numbers).reshape(_shape), rtol=1e-3, atol=1e-4), (
        "wrong numbers for other counts or labels")
    assert truth.close(_loss, torch.tensor(_losses).reshape(_shape[:-1]), rtol=1e-3, atol=1e-5), (
        "wrong loss for other counts or labels")
_D, _loss = best_discriminator(_real.double(), _estimated.double(), _a, _b)
assert _D.dtype == torch.float64 and _loss.dtype == torch.float64, (
    "float64 counts must give float64"
)
_real, _estimated = torch.randint(1, 9, (2, 3, 9), generator=_generator).float()
for _edge, _level, (_real, _estimated) in edges.mutated(_real, 2 * _estimated, huge=1e6, without={
        "tiny": "there is at least one example of each sort"}):
    _p, _q = (
        _counts.double() / _counts.double().sum(-1, keepdim=True) for _counts in (_real, _estimated)
    )
    _never = _p + _q == 0
    _best = torch.where(
        _never, (_a + _b) / 2, (_a * _p + _b * _q) / torch.where(_never, 1, _p + _q)
    )
    _D, _loss = best_discriminator(_real, _estimated, _a, _b)
    assert _D.dtype == _real.dtype, f"wrong precision: {_edge}"
    assert truth.close(_D, _best, rtol=1e-3, atol=1e-4), f"wrong numbers: {_edge}"
    _least = ((_a - _b) ** 2 / 2 * (_p * _q / torch.where(_never, 1, _p + _q))).sum(-1)
    assert truth.close(_loss, _least, rtol=1e-3, atol=1e-5), f"wrong loss: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: a loud song and a soft one
#
# A batch holds songs of very different loudness. Which loss lets the soft one have its say? Train the smallest separator that there is: one equaliser a stem, a mask that differs
# from bin to bin but never changes in time, and that two songs have to share. The cell below gives you the songs' spectrograms, the training and the score. The rest of the experiment is yours.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: the SDR of the first and of the second song (mean over the stems) with the losses `l1_freq`, `l2_freq`, `logl1_freq` and `logl2_freq` of `course_lib.losses`, where both songs are as they
#   are, and where the second one is 20 dB softer; several pairs of songs,
# - what the plain losses do to the soft song, what the logarithms change, and the reason, in terms of the gradient of Task 1,
# - one case in which you would *want* the loud song to count more, and one thing that this experiment can't tell about a network.

# %%
# EXPERIMENT: songs, a separator, its training; write your own cells below
def band_spectra(number):
    """Four seconds of a song of the band in mono, every fourth frame: complex (source, channel,
    bin, frame).
    """
    from course_lib.data import STEMS, open_tracks
    from course_lib.spectral import stft
    sources = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 4.0).sources(STEMS)
    return stft(sources.mean(1, keepdim=True), 512, 512)[..., ::4]


def sdr_of_shared_equalisers(songs, loss, steps=60):
    """SDR in dB, (song, source), where the songs share one equaliser a source,
    trained with the loss.
    """
    S = torch.stack(songs)  # (song, source, channel, bin, frame)
    X = S.sum(1, keepdim=True)
    logits = torch.zeros(1, S.shape[1], 1, S.shape[3], 1, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logits.sigmoid() * X.abs(), S.abs()).backward()
        optimizer.step()
    error = S - logits.detach().sigmoid() * X
    return 10 * torch.log10(S.abs().square().sum((2, 3, 4)) / error.abs().square().sum((2, 3, 4)))

# For example:  from course_lib.losses import l1_freq
#               sdr_of_shared_equalisers([band_spectra(0), 0.1 * band_spectra(1)], l1_freq)

# %% [markdown]
# <!-- TASK 6 (6 points): a loud song and a soft one -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, levels, steps and rate of the training, the score; only loss and level vary.
# - 2 points: a table of four losses at two levels for both songs, with plausible numbers and more than one pair, or a remark that one pair is not evidence.
# - 2 points: a right reading with a reason. Expected: at equal levels the plain losses serve both songs alike. Once the second is 20 dB softer they forget it: the equaliser becomes the loud
#   song's own, which gains a little, and the soft one loses about three times as much. With the logarithms nothing changes but rounding: a gain on a song only adds a constant to its loss.
#   The gradient is divided by the example's own total error, which cancels the size of its errors (L1: each bin's sign times the mixture, over the sum; L2: the error times the mixture, over the energy).
#   An answer that says "log compresses the values", without the gradient, gets one point.
# - 1 point: a case and a limit. Loud passages matter more where the soft ones are rests or noise floors (a song's fade-out, bleed in a stem that is nearly silent): a logarithm
#   spends its effort there. Or: an equaliser has too few weights to serve both songs; a large network may fit both, and then the loss matters less (or only for speed).
#
# For comparison, means over stems and the pairs (0, 1), (1, 2) and (2, 0) of the first three test songs, seconds 8 to 12, with the cell above (dB):
#
# | | first, equal levels | second, equal levels | first, second softer | second, 20 dB softer |
# |---|---|---|---|---|
# | l1_freq | 1.9 | 1.9 | 2.1 | 1.1 |
# | l2_freq | 2.0 | 2.0 | 2.3 | 1.2 |
# | logl1_freq | 1.8 | 1.9 | 1.8 | 1.9 |
# | logl2_freq | 2.0 | 2.0 | 2.0 | 2.0 |
# <!-- END RUBRIC -->
